//! The zero point of a cube's wavelengths, from the OH lines of its own sky.
//!
//! The mean spectrum of the emptier half of the spaxels is compared with the calculated
//! lines of Rousselot et al. (2000), which lie in vacuum ([`crate::datamodel::lines`]). A
//! first shift is the one at which their pattern correlates best with the spectrum; then
//! every bright line that others disturb little is fitted with what lies about it in the
//! list: A Σ_j b_j G(x − x_j − δ; σ) on a straight line, G a Gaussian integrated over
//! channels, the ratios b_j those of the list, σ the median of the brightest lines' own. The
//! zero point is the weighted mean of the δ that agree.

use crate::datamodel::lines::{Line, oh};
use crate::datamodel::{Cube, dq};
use crate::pipeline::lenspx::gaussian;
use crate::pipeline::lenspx::legendre::{Normal, median};

/// The part of the spaxels that the sky is taken from.
const EMPTY: f64 = 0.5;
/// Channels on either side that the continuum is told from.
const HALF: usize = 20;
/// How far off the wavelengths may be, channels.
const REACH: f64 = 30.0;
/// Significance of the pattern.
const SIGNIFICANT: f64 = 10.0;
/// Significance of a single line.
const LINE: f64 = 6.0;
/// Part of a window's light that must be the line's own.
const OWN: f64 = 0.8;
/// Error that every line has beside its noise, channels.
const FLOOR: f64 = 0.01;
/// Lines that there must be.
const LEAST: usize = 3;
/// σ of a line before it is known, channels.
const USUAL: f64 = 1.0;

/// Where a spectrum has the sky's lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZeroPoint {
    /// Lines in the spectrum less their true wavelengths, channels: positive where its
    /// wavelengths are too long.
    pub shift: f64,
    /// 1 σ.
    pub error: f64,
    /// Lines that it is the mean of.
    pub lines: usize,
    /// σ of a line, channels.
    pub sigma: f64,
}

/// The zero point of a cube; `None` where its sky shows fewer than three lines.
pub fn measure(cube: &Cube) -> Option<ZeroPoint> {
    let (spectrum, variance) = sky(cube)?;
    zero_point(&cube.wavelength, &spectrum, &variance)
}

/// The mean spectrum of the emptier spaxels and its variance; NaN where unknown.
fn sky(cube: &Cube) -> Option<(Vec<f64>, Vec<f64>)> {
    let plane = cube.nx * cube.ny;
    let good = |i: usize| cube.dq[i] & dq::DO_NOT_USE == 0 && cube.data[i].is_finite();
    let mut levels: Vec<(f64, usize)> = (0..plane)
        .filter_map(|s| {
            let own = (0..cube.nw).map(|k| k * plane + s).filter(|i| good(*i));
            let values: Vec<f64> = own.map(|i| f64::from(cube.data[i])).collect();
            (values.len() * 2 > cube.nw).then(|| (median(values), s))
        })
        .collect();
    levels.sort_by(|a, b| a.0.total_cmp(&b.0));
    levels.truncate((levels.len() as f64 * EMPTY).ceil() as usize);
    if levels.is_empty() {
        return None;
    }
    let each = (0..cube.nw).map(|k| {
        let all: Vec<usize> = levels.iter().map(|(_, s)| k * plane + s).filter(|i| good(*i)).collect();
        let value = |i: &usize| f64::from(cube.data[*i]);
        let centre = median(all.iter().map(value).collect());
        let spread = 1.4826 * median(all.iter().map(|i| (value(i) - centre).abs()).collect());
        let kept: Vec<usize> =
            all.into_iter().filter(|i| (value(i) - centre).abs() <= 4.0 * spread).collect();
        let n = kept.len() as f64;
        let noise: f64 = kept.iter().map(|i| f64::from(cube.err[*i]).powi(2)).sum();
        (kept.iter().map(value).sum::<f64>() / n, noise / (n * n))
    });
    Some(each.unzip())
}

/// The zero point of a spectrum at evenly spaced `wavelength` (vacuum µm).
pub fn zero_point(wavelength: &[f64], spectrum: &[f64], variance: &[f64]) -> Option<ZeroPoint> {
    let (first, last) = (*wavelength.first()?, *wavelength.last()?);
    let step = (last - first) / (wavelength.len() as f64 - 1.0);
    if step.is_nan() || step <= 0.0 {
        return None;
    }
    let margin = (REACH + 20.0) * step;
    let list: Vec<Line> = oh(first - margin, last + margin).to_vec();
    let places: Vec<f64> = list.iter().map(|l| (l.wavelength - first) / step).collect();
    let s = Sky { spectrum, variance, list, places };
    let about = s.pattern()?;
    let free: Vec<Fit> =
        s.features(USUAL).into_iter().take(12).filter_map(|j| s.fit(j, about, USUAL, true)).collect();
    let sigma = median(free.iter().map(|f| f.sigma).collect());
    if free.len() < LEAST {
        return None;
    }
    let about = median(free.iter().map(|f| f.shift).collect());
    let mut kept: Vec<Fit> =
        s.features(sigma).into_iter().filter_map(|j| s.fit(j, about, sigma, false)).collect();
    let mut mean = about;
    for _ in 0..5 {
        if kept.len() < LEAST {
            return None;
        }
        let weight = |f: &Fit| 1.0 / (f.error * f.error + FLOOR * FLOOR);
        let all: f64 = kept.iter().map(weight).sum();
        mean = kept.iter().map(|f| f.shift * weight(f)).sum::<f64>() / all;
        let spread = 1.4826 * median(kept.iter().map(|f| (f.shift - mean).abs()).collect());
        let before = kept.len();
        kept.retain(|f| (f.shift - mean).abs() <= 4.0 * spread.max(f.error).max(FLOOR));
        if kept.len() == before {
            break;
        }
    }
    let n = kept.len() as f64;
    let weights: Vec<f64> = kept.iter().map(|f| 1.0 / (f.error * f.error + FLOOR * FLOOR)).collect();
    let all: f64 = weights.iter().sum();
    let chi2: f64 = kept.iter().zip(&weights).map(|(f, w)| w * (f.shift - mean).powi(2)).sum();
    let larger = (chi2 / (n - 1.0).max(1.0)).max(1.0);
    Some(ZeroPoint { shift: mean, error: (larger / all).sqrt(), lines: kept.len(), sigma })
}

/// A spectrum beside the list.
struct Sky<'a> {
    spectrum: &'a [f64],
    variance: &'a [f64],
    list: Vec<Line>,
    /// Channel of each line.
    places: Vec<f64>,
}

/// A line as it was fitted.
#[derive(Debug, Clone, Copy)]
struct Fit {
    shift: f64,
    error: f64,
    sigma: f64,
}

/// Channels from a line that are fitted with it.
fn reach(sigma: f64) -> f64 {
    (3.0 * sigma).ceil().max(4.0)
}

impl Sky<'_> {
    /// The list's lines near channel `x`, `reach` away at most.
    fn near(&self, x: f64, reach: f64) -> std::ops::Range<usize> {
        self.places.partition_point(|p| *p < x - reach)..self.places.partition_point(|p| *p <= x + reach)
    }

    /// The shift at which the list's pattern is most like the spectrum; `None` where it
    /// does not stand out anywhere.
    fn pattern(&self) -> Option<f64> {
        let n = self.spectrum.len();
        let above: Vec<f64> = (0..n)
            .map(|k| {
                let around = k.saturating_sub(HALF)..(k + HALF + 1).min(n);
                let mut near: Vec<f64> =
                    self.spectrum[around].iter().copied().filter(|v| v.is_finite()).collect();
                near.sort_by(f64::total_cmp);
                near.get(near.len() / 3).map_or(f64::NAN, |base| self.spectrum[k] - base)
            })
            .collect();
        let steps = (2.0 * REACH) as i32;
        let each = (-steps..=steps).map(|i| {
            let shift = f64::from(i) / 2.0;
            let (mut cross, mut square, mut noise) = (0.0, 0.0, 0.0);
            for k in (0..n).filter(|k| above[*k].is_finite() && self.variance[*k] > 0.0) {
                let x = k as f64 - shift;
                let here = self
                    .near(x, 4.0 * USUAL)
                    .map(|j| self.list[j].brightness * gaussian::density((x - self.places[j]) / USUAL));
                let t: f64 = here.sum();
                cross += above[k] * t;
                square += t * t;
                noise += self.variance[k] * t * t;
            }
            // Of spectra alike the one with the most of the pattern within.
            (shift, if square > 0.0 { cross / square.sqrt() } else { 0.0 }, cross / noise.sqrt())
        });
        let best = each.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (best.2 > SIGNIFICANT).then_some(best.0)
    }

    /// The lines worth fitting, brightest first: no brighter one is near, and little of
    /// the light about them is others'.
    fn features(&self, sigma: f64) -> Vec<usize> {
        let sum = |range: std::ops::Range<usize>| range.map(|j| self.list[j].brightness).sum::<f64>();
        let worth = |j: &usize| {
            let (x, own) = (self.places[*j], self.list[*j].brightness);
            let core = self.near(x, 1.2 * sigma);
            let brightest = core.clone().all(|i| self.list[i].brightness <= own);
            brightest && sum(core) >= OWN * sum(self.near(x, reach(sigma) + sigma))
        };
        let mut all: Vec<usize> = (0..self.list.len()).filter(worth).collect();
        all.sort_by(|a, b| self.list[*b].brightness.total_cmp(&self.list[*a].brightness));
        all
    }

    /// Fits line `j`, from the shift `about` on; σ, too, where it is `free`.
    fn fit(&self, j: usize, about: f64, sigma: f64, free: bool) -> Option<Fit> {
        let centre = self.places[j];
        let half = reach(sigma);
        let (low, high) = ((centre + about - half).ceil(), (centre + about + half).floor());
        if low < 0.0 || high > self.spectrum.len() as f64 - 1.0 {
            return None;
        }
        let channels = low as usize..=high as usize;
        let known = |k: &usize| self.spectrum[*k].is_finite() && self.variance[*k] > 0.0;
        if !channels.clone().all(|k| known(&k)) {
            return None;
        }
        let others = self.near(centre, half + 5.0 * sigma);
        let own = self.list[j].brightness;
        let peak = channels.clone().map(|k| self.spectrum[k]).fold(f64::MIN, f64::max);
        let base = channels.clone().map(|k| self.spectrum[k]).fold(f64::MAX, f64::min);
        let (mut flux, mut shift, mut sigma) = ((peak - base) * 2.5 * sigma, about, sigma);
        let (mut level, mut slope) = (base, 0.0);
        let n = if free { 5 } else { 4 };
        let mut errors = Vec::new();
        for iteration in 0..30 {
            let mut normal = Normal::new(n);
            for k in channels.clone() {
                let (mut p, mut by_place, mut by_sigma) = (0.0, 0.0, 0.0);
                for i in others.clone() {
                    let b = self.list[i].brightness / own;
                    let (value, d, s) = gaussian::with_slopes(self.places[i] + shift, sigma, k as i64);
                    p += b * value;
                    by_place += b * d;
                    by_sigma += b * s;
                }
                let x = k as f64 - centre;
                let row = [p, flux * by_place, 1.0, x, flux * by_sigma];
                let model = flux * p + level + slope * x;
                normal.add(&row[..n], self.spectrum[k] - model, 1.0 / self.variance[k]);
            }
            let (step, variance) = normal.solve()?;
            flux += step[0];
            shift += step[1].clamp(-0.5, 0.5);
            level += step[2];
            slope += step[3];
            if free {
                sigma = (sigma + step[4].clamp(-0.3, 0.3)).clamp(0.3, 6.0);
            }
            errors = variance;
            if iteration > 2 && step[1].abs() < 1e-5 {
                break;
            }
        }
        let good = flux > LINE * errors[0].sqrt() && (shift - about).abs() < 1.5;
        good.then(|| Fit { shift, error: errors[1].sqrt(), sigma })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::normal::Normal as Noise;

    /// A sky of the list's lines, families of which are brighter or fainter than there,
    /// `shift` channels off, on a continuum.
    fn spectrum(
        low: f64,
        high: f64,
        step: f64,
        sigma: f64,
        shift: f64,
        noise: f64,
        seed: u64,
    ) -> [Vec<f64>; 3] {
        let n = ((high - low) / step) as usize;
        let wavelength: Vec<f64> = (0..n).map(|k| low + k as f64 * step).collect();
        let mut random = Noise(seed);
        let values = (0..n).map(|k| {
            let lines = oh(low - 0.01, high + 0.01).iter().map(|l| {
                let family = if l.wavelength < (low + high) / 2.0 { 2.0 } else { 0.6 };
                let x = (l.wavelength - low) / step + shift;
                family * l.brightness * gaussian::with_slopes(x, sigma, k as i64).0
            });
            lines.sum::<f64>() + 20.0 + 0.01 * k as f64 + noise * random.next()
        });
        let values = values.collect();
        [wavelength, values, vec![noise * noise; n]]
    }

    #[test]
    fn zero_points_are_found_in_every_band() {
        for (low, high, step) in [
            (1.00, 1.10, 1.25e-4),
            (1.17, 1.33, 1.5e-4),
            (1.48, 1.80, 2e-4),
            (1.98, 2.36, 2.6e-4),
            (2.10, 2.20, 2.6e-4),
            (1.60, 1.68, 1e-4),
        ] {
            for (sigma, shift) in [(0.9, 0.0), (1.0, 0.137), (1.3, -0.46), (1.0, 3.3), (1.0, -17.2)] {
                let [w, s, v] = spectrum(low, high, step, sigma, shift, 3.0, 1);
                let z = zero_point(&w, &s, &v).expect("lines");
                assert!(
                    (z.shift - shift).abs() < (5.0 * z.error).clamp(2e-3, 0.02),
                    "{low} {sigma} {shift}: {z:?}"
                );
                assert!((z.sigma / sigma - 1.0).abs() < 0.1, "{low} {sigma}: {z:?}");
            }
        }
    }

    #[test]
    fn errors_are_what_they_say() {
        let pulls: Vec<f64> = (1..60)
            .map(|seed| {
                let [w, s, v] = spectrum(2.10, 2.20, 2.6e-4, 1.0, 0.2, 40.0, seed);
                let z = zero_point(&w, &s, &v).expect("lines");
                (z.shift - 0.2) / z.error
            })
            .collect();
        let rms = (pulls.iter().map(|p| p * p).sum::<f64>() / pulls.len() as f64).sqrt();
        assert!((0.6..1.3).contains(&rms), "{rms}");
    }

    #[test]
    fn without_lines_it_is_silent() {
        let mut random = Noise(3);
        let none: Vec<f64> = (0..400).map(|_| 100.0 + random.next()).collect();
        let ones = vec![1.0; 400];
        let at = |low: f64| (0..400).map(|k| low + 2.6e-4 * f64::from(k)).collect::<Vec<f64>>();
        assert_eq!(zero_point(&at(2.10), &none, &ones), None);
        // A band without OH lines, with lines of something else.
        let mut lamp = none.clone();
        (20..380).step_by(60).for_each(|k| lamp[k] += 500.0);
        assert_eq!(zero_point(&at(2.45), &lamp, &ones), None);
        assert_eq!(zero_point(&[], &[], &[]), None);
        assert_eq!(zero_point(&at(2.10), &vec![f64::NAN; 400], &ones), None);
    }
}
