//! `nonlin_fit`: the polynomial that makes counts linear, from ramps of steady lamps.
//!
//! With x the counts above the bias and u = x/S, the corrected counts
//! y/S = u + Σ_{j ≥ 2} p_j uʲ grow evenly with time. So a difference of two reads,
//! D = x₂ − x₁, over the seconds Δt between them is
//!
//! ```text
//! D = a Δt/(1 + Σ p_j h_j),   h_j = (u₂ʲ − u₁ʲ)/(u₂ − u₁)
//! ```
//!
//! with the lamp's rate a in each ramp. Differences are used because their photon
//! noise is independent, and D stands on one side only, so that its noise biases
//! nothing. Gauss and Newton's method, weights 1/(D/gain + 2σ²), rates eliminated.
//!
//! A tile's pixels share the polynomial's shape; each pixel has its own amplitude s
//! (p = s p_tile), drawn towards the tile's 1 by as much as its own error asks for:
//! with τ² the spread of s beyond its errors, s = (ŝ/σ_s² + 1/τ²)/(1/σ_s² + 1/τ²).

use rayon::prelude::*;

use super::Tiles;
use super::groups::{Member, members};
use super::ramps::{Band, Corrected};
use crate::config::NonlinFit;
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::pipeline::robust::{clipped_median, median};

/// Counts that u = 1 stands for: no power of u is far from 1.
const SCALE: f64 = 32_768.0;
/// Most coefficients beyond the first two.
const MOST: usize = 6;
/// Differences below which a pixel has no polynomial.
const FEWEST: usize = 5;

/// Coefficients and flags.
pub(super) struct Polynomials {
    /// (degree + 1, ny, nx), ascending powers of DN.
    pub(super) coefficients: Vec<f32>,
    /// (ny, nx).
    pub(super) dq: Vec<u32>,
    /// Median over tiles of the amplitude's spread τ between pixels.
    pub(super) spread: f64,
    /// As sentences.
    pub(super) warnings: Vec<String>,
}

/// One pixel's differences in one ramp.
struct Series {
    /// Seconds between reads.
    step: f64,
    reads: Vec<f64>,
}

/// A least-squares fit: coefficients p and the matrix of their normal equations.
#[derive(Clone)]
struct Fit {
    p: Vec<f64>,
    normal: Vec<Vec<f64>>,
}

/// Noise of a read (DN) and gain (e-/DN), for the weights.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub(super) gain: f64,
    pub(super) noise: f64,
}

/// Fits every pixel of the set.
pub(super) fn fit(
    set: &Corrected,
    weights: Weights,
    step: &NonlinFit,
    progress: &dyn Fn(f64),
) -> Result<Polynomials> {
    let (ny, nx) = set.size();
    let good = set.good();
    let terms = step.degree.clamp(2, MOST as u32 + 1) as usize - 1;
    let lit: Vec<Member> = members(set, &good)?.into_iter().filter(|m| m.lit).collect();
    if lit.is_empty() {
        return Err(Error::Unsolvable(format!(
            "no ramp shows light in 3 reads below saturation: give ramps of a steady lamp that come near saturation{}",
            set.why_dark()
        )));
    }
    let side = (step.tile as usize).max(1);
    let tiles = Tiles::new((ny, nx), ny.div_ceil(side), nx.div_ceil(side));
    let mut out = Polynomials {
        coefficients: vec![f32::NAN; (terms + 2) * ny * nx],
        dq: vec![dq::NO_LIN_CORR; ny * nx],
        spread: 0.0,
        warnings: Vec::new(),
    };
    let mut spreads: Vec<f32> = Vec::new();
    let mut failed = 0;
    for j in 0..tiles.down {
        let rows = tiles.rows(j);
        let bands = lit.iter().map(|m| set.band(m.file, rows.clone())).collect::<Result<Vec<_>>>()?;
        for i in 0..tiles.across {
            let pixels: Vec<usize> = (0..rows.len() * nx)
                .filter(|p| tiles.columns(i).contains(&(p % nx)) && good[rows.start * nx + p])
                .collect();
            let Some((found, spread)) = tile(&pixels, &lit, &bands, terms, weights) else {
                failed += 1;
                continue;
            };
            spreads.push(spread as f32);
            for (p, (coefficients, odd)) in found {
                let at = rows.start * nx + p;
                let mut unit = 1.0;
                out.coefficients[at] = 0.0;
                out.coefficients[ny * nx + at] = 1.0;
                for (k, c) in coefficients.iter().enumerate() {
                    unit /= SCALE;
                    out.coefficients[(k + 2) * ny * nx + at] = (c * unit) as f32;
                }
                out.dq[at] = if odd { dq::NONLINEAR } else { 0 };
            }
        }
        progress((j + 1) as f64 / tiles.down as f64);
    }
    if failed > 0 {
        let all = tiles.count();
        out.warnings.push(format!("{failed} of {all} tiles have no polynomial: too few reads with light"));
    }
    out.spread = median(&mut spreads).ok_or_else(|| {
        Error::Unsolvable("no tile could be fitted: give more ramps, or ramps nearer to saturation".into())
    })?;
    Ok(out)
}

/// A tile's polynomials by pixel (and whether one is far from the others), and τ.
fn tile(
    pixels: &[usize],
    lit: &[Member],
    bands: &[Band],
    terms: usize,
    weights: Weights,
) -> Option<(Vec<(usize, (Vec<f64>, bool))>, f64)> {
    let fits: Vec<(usize, Fit)> = pixels
        .par_iter()
        .filter_map(|p| Some((*p, solve(&series(*p, lit, bands), terms, weights)?)))
        .collect();
    // The shape: the median of what little groups of pixels together say, so that
    // no wild pixel counts for more than its group.
    let shape = pooled(&fits, terms)?;
    let amplitudes: Vec<(f64, f64)> = fits
        .iter()
        .map(|(_, f)| {
            let toward: f64 = product(&f.normal, &shape, &f.p);
            let information: f64 = product(&f.normal, &shape, &shape);
            (toward / information, 1.0 / information)
        })
        .collect();
    let centre = clipped_median(&amplitudes.iter().map(|a| a.0 as f32).collect::<Vec<_>>())?;
    let mut errors: Vec<f32> = amplitudes.iter().map(|a| a.1 as f32).collect();
    let spread = (centre.sigma.powi(2) - median(&mut errors)?).max(0.0);
    let out = fits.iter().zip(&amplitudes).map(|((p, _), (s, variance))| {
        let odd = (s - centre.median).abs() > 6.0 * (variance + spread).sqrt();
        let part = if odd { 1.0 } else { spread / (spread + variance) };
        let amplitude = centre.median + part * (s - centre.median);
        (*p, (shape.iter().map(|c| amplitude * c).collect(), odd))
    });
    Some((out.collect(), spread.sqrt()))
}

/// The polynomial of all pixels together, robustly: pixels are dealt into 16 groups,
/// whose solutions' medians are taken.
fn pooled(fits: &[(usize, Fit)], terms: usize) -> Option<Vec<f64>> {
    let groups = (fits.len() / 8).clamp(1, 16);
    let solutions: Vec<Vec<f64>> = (0..groups)
        .filter_map(|g| {
            let (mut normal, mut right) = (vec![vec![0.0; terms]; terms], vec![0.0; terms]);
            for (_, f) in fits.iter().skip(g).step_by(groups) {
                for a in 0..terms {
                    for b in 0..terms {
                        normal[a][b] += f.normal[a][b];
                        right[a] += f.normal[a][b] * f.p[b];
                    }
                }
            }
            solve_linear(normal, right)
        })
        .collect();
    (0..terms).map(|k| median(&mut solutions.iter().map(|s| s[k] as f32).collect::<Vec<_>>())).collect()
}

/// aᵀ N b.
fn product(normal: &[Vec<f64>], a: &[f64], b: &[f64]) -> f64 {
    normal.iter().zip(a).map(|(row, a)| a * row.iter().zip(b).map(|(n, b)| n * b).sum::<f64>()).sum()
}

fn series(p: usize, lit: &[Member], bands: &[Band]) -> Vec<Series> {
    let all = lit.iter().zip(bands).map(|(m, band)| {
        let n = band.usable(p, m.first, m.all);
        let reads = (0..n).map(|k| f64::from(band.read(m.first + k)[p])).collect();
        Series { step: m.step, reads }
    });
    all.filter(|s| s.reads.len() >= 3).collect()
}

/// The fit of one pixel; `None` of too little data.
fn solve(series: &[Series], terms: usize, weights: Weights) -> Option<Fit> {
    let differences: usize = series.iter().map(|s| s.reads.len() - 1).sum();
    if differences < (terms + series.len()).max(FEWEST) {
        return None;
    }
    let mut p = vec![0.0; terms];
    let mut normal = vec![vec![0.0; terms]; terms];
    for _ in 0..6 {
        let mut right = vec![0.0; terms];
        normal.iter_mut().for_each(|row| row.fill(0.0));
        for s in series {
            accumulate(s, &p, weights, &mut normal, &mut right);
        }
        let by = solve_linear(normal.clone(), right)?;
        p.iter_mut().zip(&by).for_each(|(p, d)| *p += d);
        if !p.iter().all(|p| p.abs() < 1.0) {
            return None;
        }
    }
    Some(Fit { p, normal })
}

/// Adds a ramp to the normal equations, its rate eliminated.
fn accumulate(s: &Series, p: &[f64], weights: Weights, normal: &mut [Vec<f64>], right: &mut [f64]) {
    let terms = p.len();
    let n = s.reads.len() - 1;
    let mean = ((s.reads[n] - s.reads[0]) / n as f64).max(0.0);
    // One weight a ramp: those of single differences would follow their noise.
    let w = 1.0 / (mean / weights.gain + 2.0 * weights.noise * weights.noise);
    let rows: Vec<(f64, f64, [f64; MOST])> = s
        .reads
        .windows(2)
        .map(|r| {
            let (a, b) = (r[0] / SCALE, r[1] / SCALE);
            let mut h = [0.0; MOST];
            // h_j = Σ_{i < j} a^i b^(j − 1 − i), by h_{j+1} = b h_j + a^j.
            let (mut sum, mut power) = (1.0, 1.0);
            for h in h.iter_mut().take(terms) {
                power *= a;
                sum = sum * b + power;
                *h = sum;
            }
            let divisor = 1.0 + p.iter().zip(&h).map(|(p, h)| p * h).sum::<f64>();
            let f = s.step / divisor;
            h.iter_mut().for_each(|h| *h /= divisor);
            (r[1] - r[0], f, h)
        })
        .collect();
    let ff: f64 = rows.iter().map(|r| r.1 * r.1).sum();
    let rate = rows.iter().map(|r| r.0 * r.1).sum::<f64>() / ff;
    let derivative = |r: &(f64, f64, [f64; MOST]), k: usize| -rate * r.1 * r.2[k];
    for a in 0..terms {
        let fa: f64 = rows.iter().map(|r| r.1 * derivative(r, a)).sum();
        right[a] += w * rows.iter().map(|r| derivative(r, a) * (r.0 - rate * r.1)).sum::<f64>();
        for b in 0..terms {
            let fb: f64 = rows.iter().map(|r| r.1 * derivative(r, b)).sum();
            let ab: f64 = rows.iter().map(|r| derivative(r, a) * derivative(r, b)).sum();
            normal[a][b] += w * (ab - fa * fb / ff);
        }
    }
}

/// Gaussian elimination with pivots; `None` of a matrix that says too little.
fn solve_linear(mut m: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    let largest = m.iter().enumerate().map(|(k, row)| row[k].abs()).fold(0.0, f64::max);
    for k in 0..n {
        let pivot = (k..n).max_by(|a, b| m[*a][k].abs().total_cmp(&m[*b][k].abs()))?;
        if !(m[pivot][k].abs() > 1e-12 * largest) {
            return None;
        }
        m.swap(k, pivot);
        right.swap(k, pivot);
        for row in k + 1..n {
            let factor = m[row][k] / m[k][k];
            for column in k..n {
                m[row][column] -= factor * m[k][column];
            }
            right[row] -= factor * right[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|c| m[k][c] * right[c]).sum();
        right[k] = (right[k] - known) / m[k][k];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noiseless_curve_is_recovered() {
        // x of y = S (u + 0.02 u² + 0.01 u³), by bisection.
        let measured = |y: f64| {
            let (mut low, mut high) = (0.0, 3.0);
            for _ in 0..80 {
                let u: f64 = 0.5 * (low + high);
                if u + 0.02 * u * u + 0.01 * u * u * u > y / SCALE { high = u } else { low = u }
            }
            low * SCALE
        };
        let ramp = |rate: f64| Series {
            step: 2.0,
            reads: (1..12).map(|k| measured(30.0 + rate * 2.0 * f64::from(k))).collect(),
        };
        let weights = Weights { gain: 2.0, noise: 5.0 };
        let fit = solve(&[ramp(2000.0), ramp(900.0)], 2, weights).expect("a fit");
        assert!((fit.p[0] - 0.02).abs() < 1e-7 && (fit.p[1] - 0.01).abs() < 1e-7, "{:?}", fit.p);
        let short = Series { step: 2.0, reads: vec![0.0, 4000.0, 7900.0] };
        assert!(solve(&[short], 2, weights).is_none());
    }

    #[test]
    fn linear_equations_are_solved_or_refused() {
        let x = solve_linear(vec![vec![0.0, 2.0], vec![1.0, 1.0]], vec![4.0, 5.0]).expect("solved");
        assert_eq!(x, [3.0, 2.0]);
        assert_eq!(solve_linear(vec![vec![1.0, 2.0], vec![2.0, 4.0]], vec![1.0, 2.0]), None);
    }
}
