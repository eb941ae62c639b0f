//! Lenslet flat: relative throughput of the lenslets from the white-light scans.
//!
//! s_l(λ) = S_l(x)/|dλ/dx|; LFLAT_l(λ) = s_l/lamp as a Legendre series on [FLATMIN,
//! FLATMAX] (the lenslets' common range); lamp(λ) is the median over the lenslets of
//! s_l/LFLAT_l, solved in three rounds, and scaled so that the median LFLAT is 1 at
//! every wavelength (as a series of the same degree).

use super::legendre::{self, median, unit};
use super::{LensCal, Shape};
use crate::datamodel::dq;
use crate::error::{Error, Result};

/// (λ in µm, flux per µm, variance).
type Sample = (f64, f64, f64);

/// Columns at either end of a spectrum that the band's edge may cut.
const EDGE: usize = 2;
/// Below this throughput a lenslet is flagged.
const LOW: f64 = 0.2;

/// Fits every lenslet's LFLAT; `shapes` are the traces in the order of the lenslets.
pub fn solve(cal: &mut LensCal, shapes: &[Shape], terms: usize) -> Result<()> {
    let spectra: Vec<Vec<Sample>> = cal.lenslets.iter().zip(shapes).map(|(l, s)| density(l, s)).collect();
    let good = |i: &usize| cal.lenslets[*i].dq & dq::DO_NOT_USE == 0 && spectra[*i].len() > 4 * terms;
    let usable: Vec<usize> = (0..spectra.len()).filter(good).collect();
    let ends = |pick: &dyn Fn(&[Sample]) -> f64| median(usable.iter().map(|&i| pick(&spectra[i])).collect());
    let low = ends(&|s| s.iter().map(|p| p.0).fold(f64::MAX, f64::min));
    let high = ends(&|s| s.iter().map(|p| p.0).fold(f64::MIN, f64::max));
    if usable.is_empty() || high <= low {
        return Err(Error::Unsolvable("no lenslet has a white-light spectrum to make the flat from".into()));
    }
    cal.flat_range = (low, high);
    let n = usable.iter().map(|&i| spectra[i].len()).max().unwrap_or(0).max(16);
    let mut lamp = Lamp { low, high, values: vec![f64::NAN; n] };
    // The median of raw spectra first; then of spectra less their own throughputs,
    // which scatter by noise alone.
    let mut flats: Vec<Option<Vec<f64>>> = vec![None; spectra.len()];
    for _ in 0..3 {
        let own = |i: usize, t: f64| flats[i].as_ref().map_or(1.0, |c| legendre::value(c, t));
        let raw: Vec<f64> = (0..n)
            .map(|k| (lamp.wavelength(k), lamp.unit(lamp.wavelength(k))))
            .map(|(w, t)| median(usable.iter().map(|&i| interpolate(&spectra[i], w) / own(i, t)).collect()))
            .collect();
        // The median lenslet has throughput 1: a smooth function, as the lenslets' are.
        let points: Vec<(f64, f64, f64)> = (0..n)
            .map(|k| lamp.unit(lamp.wavelength(k)))
            .map(|t| (t, median(usable.iter().map(|&i| own(i, t)).collect()), 1.0))
            .collect();
        let level = legendre::fit(&points, terms - 1).unwrap_or_else(|| vec![1.0]);
        lamp.values =
            (0..n).map(|k| raw[k] * legendre::value(&level, lamp.unit(lamp.wavelength(k)))).collect();
        flats = spectra.iter().map(|s| relative(s, &lamp, terms)).collect();
    }
    let mut errors = Vec::new();
    for ((l, s), flat) in cal.lenslets.iter_mut().zip(&spectra).zip(flats) {
        let mean = flat.as_ref().map_or(0.0, |c| c[0]);
        match flat {
            Some(c) if mean > 0.0 => {
                let noise = median(s.iter().map(|p| p.2.sqrt() / p.1).collect());
                errors.push(noise * (terms as f64 / s.len() as f64).sqrt());
                l.lflat = c;
                l.throughput = mean;
                if mean < LOW {
                    l.dq |= dq::LOW_INST_TRANS;
                }
            }
            _ => {
                l.lflat = vec![0.0; terms];
                l.throughput = f64::NAN;
                l.dq |= dq::DO_NOT_USE | dq::NO_FLAT_FIELD;
            }
        }
    }
    cal.flat_error = median(errors);
    Ok(())
}

/// The lamp's spectrum on a grid from `low` to `high`, µm.
struct Lamp {
    low: f64,
    high: f64,
    values: Vec<f64>,
}

impl Lamp {
    fn wavelength(&self, k: usize) -> f64 {
        self.low + (self.high - self.low) * k as f64 / (self.values.len() - 1) as f64
    }

    fn unit(&self, w: f64) -> f64 {
        unit(w, self.low, self.high)
    }

    /// NaN outside the grid.
    fn at(&self, w: f64) -> f64 {
        let last = self.values.len() - 1;
        let u = (w - self.low) / (self.high - self.low) * last as f64;
        if !(0.0..=last as f64).contains(&u) {
            return f64::NAN;
        }
        let k = (u as usize).min(last - 1);
        self.values[k] + (u - k as f64) * (self.values[k + 1] - self.values[k])
    }
}

/// The series of a spectrum's ratio to the lamp.
fn relative(s: &[Sample], lamp: &Lamp, terms: usize) -> Option<Vec<f64>> {
    // One variance for all: a sample's own would follow its noise.
    let typical = median(s.iter().map(|p| p.2).collect());
    let points: Vec<(f64, f64, f64)> = s
        .iter()
        .map(|(w, v, _)| (*w, *v, lamp.at(*w)))
        .filter(|p| p.2.is_finite() && p.2 > 0.0)
        .map(|(w, v, l)| (lamp.unit(w), v / l, l * l / typical))
        .collect();
    if points.len() > 4 * terms { legendre::robust_fit(&points, terms - 1, 5.0, 5.0) } else { None }
}

/// (λ, flux per µm, variance) of a lenslet's white light, λ ascending.
fn density(l: &super::Lenslet, shape: &Shape) -> Vec<Sample> {
    let mut out: Vec<Sample> = (shape.range.0 + EDGE..shape.range.1.saturating_sub(EDGE))
        .filter_map(|x| {
            let (flux, variance) = *shape.flux.get(x - shape.range.0)?;
            let (a, b) = (l.wavelength(x as f64 - 0.5), l.wavelength(x as f64 + 0.5));
            let width = (b - a).abs();
            let good = flux.is_finite() && variance > 0.0 && width > 0.0;
            good.then(|| ((a + b) / 2.0, flux / width, variance / (width * width)))
        })
        .collect();
    out.sort_by(|a, b| a.0.total_cmp(&b.0));
    out
}

fn interpolate(s: &[Sample], w: f64) -> f64 {
    let i = s.partition_point(|p| p.0 < w);
    if i == 0 || i >= s.len() {
        return f64::NAN;
    }
    let (a, b) = (s[i - 1], s[i]);
    a.1 + (b.1 - a.1) * (w - a.0) / (b.0 - a.0)
}
