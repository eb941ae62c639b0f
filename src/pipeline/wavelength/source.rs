//! A point source in a cube, wavelength by wavelength.

use crate::datamodel::{Cube, dq};
use crate::pipeline::lenspx::legendre::{Normal, median};

/// Bins of channels over the band.
const BINS: usize = 32;
/// Significance of the source in a bin.
const SIGNIFICANT: f64 = 20.0;
/// A source in an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Spaxels along x and y.
    pub(super) at: [f64; 2],
    /// Their errors.
    pub(super) error: [f64; 2],
    sigma: f64,
}

/// The source's place in each bin of channels where it stands out, from the middle of the
/// band outwards.
pub(super) fn places(cube: &Cube) -> Vec<(f64, Place)> {
    let width = cube.nw.div_ceil(BINS).max(1);
    let bins: Vec<(f64, Vec<(f64, f64)>)> =
        (0..cube.nw).step_by(width).map(|from| mean(cube, from..(from + width).min(cube.nw))).collect();
    let (_, white) = mean(cube, 0..cube.nw);
    let Some(start) = brightest(cube, &white).and_then(|at| locate(cube, &white, at, 1.2)) else {
        return Vec::new();
    };
    let middle = bins.len() / 2;
    let mut out = Vec::new();
    for part in [(middle..bins.len()).collect::<Vec<_>>(), (0..middle).rev().collect()] {
        let mut last = start;
        for b in part {
            if let Some(found) = locate(cube, &bins[b].1, last.at, last.sigma) {
                last = found;
                out.push((bins[b].0, found));
            }
        }
    }
    out
}

/// Mean wavelength, and value and variance of each spaxel's mean, of some channels; NaN
/// where more than half of them are unknown.
fn mean(cube: &Cube, channels: std::ops::Range<usize>) -> (f64, Vec<(f64, f64)>) {
    let plane = cube.nx * cube.ny;
    let n = channels.len() as f64;
    let wavelength = channels.clone().map(|k| cube.wavelength[k]).sum::<f64>() / n;
    let spaxel = |s: usize| {
        let known = channels
            .clone()
            .map(|k| k * plane + s)
            .filter(|i| cube.dq[*i] & dq::DO_NOT_USE == 0 && cube.data[*i].is_finite());
        let (m, sum, variance) = known.fold((0.0, 0.0, 0.0), |(m, sum, variance), i| {
            (m + 1.0, sum + f64::from(cube.data[i]), variance + f64::from(cube.err[i]).powi(2))
        });
        // Neighbouring channels share columns: their errors add up to somewhat more.
        if 2.0 * m > n { (sum / m, 1.6 * variance / (m * m)) } else { (f64::NAN, f64::NAN) }
    };
    (wavelength, (0..plane).map(spaxel).collect())
}

fn brightest(cube: &Cube, image: &[(f64, f64)]) -> Option<[f64; 2]> {
    let (at, _) =
        image.iter().enumerate().filter(|(_, v)| v.0.is_finite()).max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    Some([(at % cube.nx) as f64, (at / cube.nx) as f64])
}

/// A round Gaussian on a constant, from a place on; `None` where it does not stand out or is
/// not a spaxel and more inside the field.
fn locate(cube: &Cube, image: &[(f64, f64)], from: [f64; 2], sigma: f64) -> Option<Place> {
    let (mut at, mut sigma) = (from, sigma.clamp(0.5, 4.0));
    let (mut flux, mut level) = (0.0, 0.0);
    let size = [cube.nx as f64, cube.ny as f64];
    for iteration in 0..40 {
        let half = (3.5 * sigma).max(3.0);
        let window = |k: usize| {
            let low = (at[k] - half).ceil().max(0.0);
            low as usize..((at[k] + half).floor() + 1.0).clamp(low, size[k]) as usize
        };
        let spaxels: Vec<(f64, f64, f64, f64)> = window(1)
            .flat_map(|y| window(0).map(move |x| (x, y)))
            .map(|(x, y)| (x as f64, y as f64, image[y * cube.nx + x]))
            .filter(|(_, _, v)| v.0.is_finite())
            .map(|(x, y, v)| (x, y, v.0, v.1))
            .collect();
        if iteration == 0 {
            level = median(spaxels.iter().map(|s| s.2).collect());
            flux = spaxels.iter().map(|s| s.2).fold(f64::MIN, f64::max) - level;
        }
        let row = |x: f64, y: f64| {
            let (u, v) = ((x - at[0]) / sigma, (y - at[1]) / sigma);
            let g = (-0.5 * (u * u + v * v)).exp();
            [g, flux * g * u / sigma, flux * g * v / sigma, flux * g * (u * u + v * v) / sigma, 1.0]
        };
        let mut normal = Normal::new(5);
        for (x, y, value, _) in &spaxels {
            let r = row(*x, *y);
            normal.add(&r, value - flux * r[0] - level, 1.0);
        }
        if spaxels.len() < 9 {
            return None;
        }
        let (step, inverse) = normal.solve()?;
        let done = iteration > 2 && step[1].abs().max(step[2].abs()) < 1e-6;
        if done {
            // The unknowns' errors where values have those of ERR and the fit does not ask:
            // of their mean variance, weighted by what each value tells of the unknown.
            let error = |k: usize| {
                let (mut sum, mut all) = (0.0, 0.0);
                for (x, y, _, variance) in &spaxels {
                    let r = row(*x, *y)[k];
                    sum += r * r * variance;
                    all += r * r;
                }
                (inverse[k] * sum / all).sqrt()
            };
            let inside = [0, 1].into_iter().all(|k| at[k] >= 1.0 && at[k] <= size[k] - 2.0);
            let plausible = inside && (0.4..5.0).contains(&sigma) && flux > SIGNIFICANT * error(0);
            return plausible.then(|| Place { at, error: [error(1), error(2)], sigma });
        }
        flux += step[0];
        at = [at[0] + step[1].clamp(-0.5, 0.5), at[1] + step[2].clamp(-0.5, 0.5)];
        sigma = (sigma + step[3].clamp(-0.3, 0.3)).clamp(0.4, 5.0);
        level += step[4];
        if !at.iter().zip(size).all(|(a, n)| *a > -0.5 && *a < n - 0.5) {
            return None;
        }
    }
    None
}
