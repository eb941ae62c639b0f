//! The sky's OH lines, scaled by vibrational family and shifted in wavelength to the
//! science cube (Davies 2007, MNRAS 375, 1099).
//!
//! Of both cubes the mean spectrum of the same empty spaxels is taken, A(λ) and B(λ).
//! Lines are the channels where B stands above its running continuum, and their
//! neighbours; L_A, L_B are what is above the continuum of the other channels. In each
//! family's range L_A(λ) = p_f · L_B(λ − δ), δ in channels and common to all families,
//! by weighted least squares: p_f and δ in turn until neither moves. L_B between
//! channels is the polynomial of degree nine through the nearest ten.

use super::lenspx::legendre::median;
use crate::datamodel::{Cube, dq};

/// Where one family's lines end and the next one's begin, vacuum µm, with its upper
/// and lower vibrational level: the ranges of Davies (2007) as the OSIRIS pipeline
/// (`scaledskysub`) has them. The lines of neighbouring families overlap a little.
pub const FAMILIES: [(f64, f64, &str); 15] = [
    (0.998, 1.067, "4-1"),
    (1.067, 1.125, "5-2"),
    (1.125, 1.196, "6-3"),
    (1.196, 1.252, "7-4"),
    (1.252, 1.289, "O2"),
    (1.289, 1.400, "8-5"),
    (1.400, 1.472, "2-0"),
    (1.472, 1.5543, "3-1"),
    (1.5543, 1.6356, "4-2"),
    (1.6356, 1.7253, "5-3"),
    (1.7253, 1.840, "6-4"),
    (1.840, 1.957, "7-5"),
    (1.957, 2.095, "8-6"),
    (2.095, 2.300, "9-7"),
    (2.300, 2.400, "beyond 9-7"),
];

/// The emptiest part of the spaxels that the lines are fitted in.
const EMPTY: f64 = 0.25;
/// Channels on either side that make the continuum.
const HALF: usize = 20;
/// Channels that belong to a line on either side of those that stand out.
const WING: usize = 4;
/// A line stands this many σ above the continuum.
const STANDS_OUT: f64 = 5.0;
/// Samples further from the fit than this (robust σ) are not the sky's.
const REJECT: f64 = 5.0;
/// A factor with a larger error is not used.
const WORST: f64 = 0.2;
/// A shift beyond this (channels) is not a small one: the sky is of another night.
const FARTHEST: f64 = 1.0;

/// Channels that a value between channels is made of.
const TAPS: usize = 10;

/// The factor of one family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// Of [`FAMILIES`].
    pub family: usize,
    /// Lines of the cube over lines of the sky.
    pub value: f64,
    /// 1 σ.
    pub error: f64,
}

/// What the science cube's sky is to the sky cube's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SkyLines {
    /// Measured families.
    pub factors: Vec<Factor>,
    /// Families in range with lines too faint to measure.
    pub faint: Vec<usize>,
    /// Cube's wavelengths of the lines less the sky's, channels.
    pub shift: f64,
    /// 1 σ.
    pub shift_error: f64,
    /// Whether a channel is a line's (nw).
    pub line: Vec<bool>,
    /// Factor at each channel: `scale` away from lines (nw).
    pub gain: Vec<f64>,
    /// Error of the sky common to all spaxels, e-/s a channel, 1 σ (nw).
    pub error: Vec<f64>,
}

/// Fits the lines of `sky` to those of `cube`: cubes of one size and wavelengths.
/// `scale` is the factor of what is not a line. `None` where no line is measured or
/// the shift is not a small one.
pub fn fit(cube: &Cube, sky: &Cube, scale: f64) -> Option<SkyLines> {
    let (a, b, variance) = empty_spectra(cube, sky, scale)?;
    let line = lines(&b, &variance);
    let family = |w: f64| FAMILIES.iter().position(|(low, high, _)| (*low..*high).contains(&w));
    let families: Vec<Option<usize>> = cube.wavelength.iter().map(|w| family(*w)).collect();
    let (la, lb) = (above(&a, &line), above(&b, &line));
    let mut use_it: Vec<bool> = (0..cube.nw)
        .map(|k| line[k] && families[k].is_some() && la[k].is_finite() && known(&lb, k))
        .collect();
    let mut found = solve(&la, &lb, &variance, &families, &use_it, scale);
    for _ in 0..3 {
        let off = found.off(&la, &lb, &variance);
        let inside: Vec<f64> = (0..cube.nw).filter(|k| use_it[*k]).map(|k| off[k].abs()).collect();
        let limit = REJECT * (1.4826 * median(inside)).max(1.0);
        (0..cube.nw).for_each(|k| use_it[k] &= off[k].abs() <= limit);
        found = solve(&la, &lb, &variance, &families, &use_it, scale);
    }
    // Residuals beyond the noise (line shapes) make the errors larger.
    let n = use_it.iter().filter(|u| **u).count();
    let off = found.off(&la, &lb, &variance);
    let squares = (0..cube.nw).filter(|k| use_it[*k]).map(|k| off[k] * off[k]);
    let larger =
        (squares.sum::<f64>() / n.saturating_sub(found.factors.len() + 1).max(1) as f64).max(1.0).sqrt();
    found.shift_error *= larger;
    found.factors.iter_mut().for_each(|f| f.error *= larger);
    let slope = derivative(&lb);
    found.error = (0..cube.nw)
        .map(|k| {
            let Some(f) = found.factors.iter().find(|f| line[k] && families[k] == Some(f.family)) else {
                return 0.0;
            };
            (f.error * lb[k]).hypot(found.shift_error * f.value * slope[k])
        })
        .map(|v| if v.is_finite() { v } else { 0.0 })
        .collect();
    found.line = line;
    (!found.factors.is_empty() && found.shift.abs() < FARTHEST).then_some(found)
}

impl SkyLines {
    /// (data − model) / σ of each channel.
    fn off(&self, la: &[f64], lb: &[f64], variance: &[f64]) -> Vec<f64> {
        let model = shifted(lb, self.shift);
        (0..la.len()).map(|k| (la[k] - self.gain[k] * model[k]) / variance[k].sqrt()).collect()
    }

    /// The sky's spectrum in one spaxel as the science cube sees it, in place: its
    /// lines shifted and times their factors, the rest times `scale`.
    pub fn apply(&self, spectrum: &mut [f64], scale: f64) {
        let lines = above(spectrum, &self.line);
        let moved = shifted(&lines, self.shift);
        for (k, v) in spectrum.iter_mut().enumerate() {
            let extra = if self.line[k] && lines[k].is_finite() {
                // Beside a hole it stays where it is.
                let there = if moved[k].is_finite() { moved[k] } else { lines[k] };
                self.gain[k] * there - scale * lines[k]
            } else {
                0.0
            };
            *v = scale * *v + extra;
        }
    }
}

/// Mean spectra of both cubes in the spaxels where the cube is emptiest, and the
/// variance of cube − sky. A voxel that stands out among them is left out of both.
fn empty_spectra(cube: &Cube, sky: &Cube, scale: f64) -> Option<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let plane = cube.nx * cube.ny;
    let good = |i: usize| {
        (cube.dq[i] | sky.dq[i]) & dq::DO_NOT_USE == 0 && cube.data[i].is_finite() && sky.data[i].is_finite()
    };
    let mut levels: Vec<(f64, usize)> = (0..plane)
        .filter_map(|s| {
            let each = (0..cube.nw).map(|k| k * plane + s).filter(|i| good(*i));
            let rest: Vec<f64> =
                each.map(|i| f64::from(cube.data[i]) - scale * f64::from(sky.data[i])).collect();
            (rest.len() * 2 > cube.nw).then(|| (median(rest), s))
        })
        .collect();
    levels.sort_by(|a, b| a.0.total_cmp(&b.0));
    levels.truncate(((levels.len() as f64 * EMPTY).ceil() as usize).max(3));
    if levels.len() < 3 {
        return None;
    }
    let (mut a, mut b, mut variance) =
        (vec![f64::NAN; cube.nw], vec![f64::NAN; cube.nw], vec![f64::NAN; cube.nw]);
    for k in 0..cube.nw {
        let all: Vec<usize> = levels.iter().map(|(_, s)| k * plane + s).filter(|i| good(*i)).collect();
        let centre = median(all.iter().map(|i| f64::from(cube.data[*i])).collect());
        let spread = 1.4826 * median(all.iter().map(|i| (f64::from(cube.data[*i]) - centre).abs()).collect());
        let kept: Vec<usize> =
            all.into_iter().filter(|i| (f64::from(cube.data[*i]) - centre).abs() <= 4.0 * spread).collect();
        if kept.is_empty() {
            continue;
        }
        let n = kept.len() as f64;
        let mean = |v: &[f32]| kept.iter().map(|i| f64::from(v[*i])).sum::<f64>() / n;
        let noise = |v: &[f32]| kept.iter().map(|i| f64::from(v[*i]).powi(2)).sum::<f64>() / (n * n);
        let both = noise(&cube.err) + scale * scale * noise(&sky.err);
        if both > 0.0 && both.is_finite() {
            (a[k], b[k], variance[k]) = (mean(&cube.data), mean(&sky.data), both);
        }
    }
    Some((a, b, variance))
}

/// Channels of lines: those above the running median, and their neighbours.
fn lines(spectrum: &[f64], variance: &[f64]) -> Vec<bool> {
    let n = spectrum.len();
    let around = |k: usize| k.saturating_sub(HALF)..(k + HALF + 1).min(n);
    let stands = |k: usize| {
        // Lines crowd: the lower third, not the middle, is the continuum.
        let mut near: Vec<f64> = spectrum[around(k)].iter().copied().filter(|v| v.is_finite()).collect();
        near.sort_by(f64::total_cmp);
        near.get(near.len() / 3).is_some_and(|base| spectrum[k] - base > STANDS_OUT * variance[k].sqrt())
    };
    let high: Vec<bool> = (0..n).map(stands).collect();
    (0..n).map(|k| high[k.saturating_sub(WING)..(k + WING + 1).min(n)].contains(&true)).collect()
}

/// `spectrum` less its continuum: the mean of the nearest channels without a line,
/// equally many on either side where there are. NaN where there are none.
fn above(spectrum: &[f64], line: &[bool]) -> Vec<f64> {
    let n = spectrum.len();
    // Sums of value, channel and number before each channel.
    let mut sums = vec![(0.0, 0.0); n + 1];
    for k in 0..n {
        let free = !line[k] && spectrum[k].is_finite();
        let (v, m) = if free { (spectrum[k], 1.0) } else { (0.0, 0.0) };
        sums[k + 1] = (sums[k].0 + v, sums[k].1 + m);
    }
    let mean = |from: usize, to: usize| {
        let m = sums[to].1 - sums[from].1;
        (m > 0.0).then(|| (sums[to].0 - sums[from].0) / m)
    };
    (0..n)
        .map(|k| {
            let side = |half: usize| (mean(k.saturating_sub(half), k), mean(k, (k + half + 1).min(n)));
            let level = match side(HALF) {
                (Some(l), Some(r)) => Some(f64::midpoint(l, r)),
                (l, r) => match side(4 * HALF) {
                    (Some(l), Some(r)) => Some(f64::midpoint(l, r)),
                    (far_l, far_r) => l.or(r).or(far_l).or(far_r),
                },
            };
            level.map_or(f64::NAN, |c| spectrum[k] - c)
        })
        .collect()
}

/// Derivative by channel, five points: exact for polynomials of degree four.
fn derivative(v: &[f64]) -> Vec<f64> {
    let at = |k: usize, d: isize| k.checked_add_signed(d).and_then(|i| v.get(i)).copied().unwrap_or(f64::NAN);
    (0..v.len()).map(|k| (8.0 * (at(k, 1) - at(k, -1)) - at(k, 2) + at(k, -2)) / 12.0).collect()
}

/// `v` moved by `shift` channels: the polynomial of degree nine through the ten
/// channels about each place. NaN where one of them is not there.
fn shifted(v: &[f64], shift: f64) -> Vec<f64> {
    if shift == 0.0 {
        return v.to_vec();
    }
    // The same weights for every channel: its place is k + whole + part.
    let (whole, part) = ((-shift).floor(), -shift - (-shift).floor());
    let weights: [f64; TAPS] = std::array::from_fn(|i| {
        let others = (0..TAPS).filter(|j| *j != i);
        others.map(|j| (part + (TAPS / 2 - 1) as f64 - j as f64) / (i as f64 - j as f64)).product()
    });
    let place = |k: usize, i: usize| {
        v.get(k.checked_add_signed(whole as isize + i as isize - (TAPS / 2 - 1) as isize)?).copied()
    };
    (0..v.len())
        .map(|k| weights.iter().enumerate().map(|(i, w)| place(k, i).map_or(f64::NAN, |x| w * x)).sum())
        .collect()
}

/// Whether a shift within [`FARTHEST`] is known at channel `k`.
fn known(v: &[f64], k: usize) -> bool {
    let reach = TAPS / 2;
    k >= reach && k + reach < v.len() && v[k - reach..=k + reach].iter().all(|x| x.is_finite())
}

fn solve(
    la: &[f64],
    lb: &[f64],
    variance: &[f64],
    families: &[Option<usize>],
    use_it: &[bool],
    scale: f64,
) -> SkyLines {
    let n = la.len();
    let mut out = SkyLines { gain: vec![scale; n], shift_error: f64::INFINITY, ..SkyLines::default() };
    let used: Vec<usize> = (0..n).filter(|k| use_it[*k]).collect();
    for _ in 0..50 {
        let before = out.shift;
        let model = shifted(lb, before);
        let slope = derivative(&model);
        (out.factors, out.faint) = (Vec::new(), Vec::new());
        for f in 0..FAMILIES.len() {
            let (mut cross, mut square) = (0.0, 0.0);
            for &k in used.iter().filter(|k| families[**k] == Some(f)) {
                cross += la[k] * model[k] / variance[k];
                square += model[k] * model[k] / variance[k];
            }
            let error = square.sqrt().recip();
            if error <= WORST {
                out.factors.push(Factor { family: f, value: cross / square, error });
            } else if families.contains(&Some(f)) {
                out.faint.push(f);
            }
        }
        for k in 0..n {
            let of = out.factors.iter().find(|f| families[k] == Some(f.family));
            out.gain[k] = of.map_or(scale, |f| f.value);
        }
        let (mut cross, mut square) = (0.0, 0.0);
        for &k in used.iter().filter(|k| out.factors.iter().any(|f| families[**k] == Some(f.family))) {
            let change = -out.gain[k] * slope[k];
            if change.is_finite() {
                cross += (la[k] - out.gain[k] * model[k]) * change / variance[k];
                square += change * change / variance[k];
            }
        }
        if square > 0.0 {
            out.shift = (before + cross / square).clamp(-FARTHEST, FARTHEST);
            out.shift_error = square.sqrt().recip();
        }
        if (out.shift - before).abs() < 1e-6 {
            break;
        }
    }
    out
}

#[cfg(test)]
#[path = "sky_lines_tests.rs"]
mod tests;
