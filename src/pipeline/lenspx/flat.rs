//! Lenslet flat: relative throughput of the lenslets from the white-light scans.
//!
//! s_l(λ) = S_l(x)/|dλ/dx|; the lamp's spectrum is the median of s_l over the
//! lenslets at each wavelength; LFLAT_l(λ) = s_l/lamp as a Legendre series on
//! [FLATMIN, FLATMAX] (the lenslets' common range), fitted with the scans' errors.

use super::legendre::{self, median, unit};
use super::{LensCal, Shape};
use crate::datamodel::dq;
use crate::error::{Error, Result};

/// Columns at either end of a spectrum that the band's edge may cut.
const EDGE: usize = 2;
/// Below this throughput a lenslet is flagged.
const LOW: f64 = 0.2;

/// Fits every lenslet's LFLAT; `shapes` are the traces in the order of the lenslets.
pub fn solve(cal: &mut LensCal, shapes: &[Shape], terms: usize) -> Result<()> {
    let spectra: Vec<Vec<(f64, f64, f64)>> =
        cal.lenslets.iter().zip(shapes).map(|(l, s)| density(l, s)).collect();
    let good = |i: &usize| cal.lenslets[*i].dq & dq::DO_NOT_USE == 0 && spectra[*i].len() > 4 * terms;
    let usable: Vec<usize> = (0..spectra.len()).filter(good).collect();
    let ends = |pick: &dyn Fn(&[(f64, f64, f64)]) -> f64| {
        median(usable.iter().map(|&i| pick(&spectra[i])).collect())
    };
    let low = ends(&|s| s.iter().map(|p| p.0).fold(f64::MAX, f64::min));
    let high = ends(&|s| s.iter().map(|p| p.0).fold(f64::MIN, f64::max));
    if !(high > low) {
        return Err(Error::Unsolvable("no lenslet has a white-light spectrum to make the flat from".into()));
    }
    let n = usable.iter().map(|&i| spectra[i].len()).max().unwrap_or(0).max(16);
    let lamp: Vec<f64> = (0..n)
        .map(|k| low + (high - low) * k as f64 / (n - 1) as f64)
        .map(|w| median(usable.iter().map(|&i| interpolate(&spectra[i], w)).collect()))
        .collect();
    let lamp_at = |w: f64| {
        let u = (w - low) / (high - low) * (n - 1) as f64;
        let k = u.floor().clamp(0.0, (n - 2) as f64) as usize;
        if (0.0..=(n - 1) as f64).contains(&u) {
            lamp[k] + (u - k as f64) * (lamp[k + 1] - lamp[k])
        } else {
            f64::NAN
        }
    };
    cal.flat_range = (low, high);
    let mut errors = Vec::new();
    for (l, s) in cal.lenslets.iter_mut().zip(&spectra) {
        let typical = median(s.iter().map(|p| p.2).collect());
        let points: Vec<(f64, f64, f64)> = s
            .iter()
            .map(|(w, v, variance)| (*w, *v, *variance, lamp_at(*w)))
            .filter(|p| p.3.is_finite() && p.3 > 0.0)
            // One variance for all: a sample's own would follow its noise.
            .map(|(w, v, _, lamp)| (unit(w, low, high), v / lamp, lamp * lamp / typical))
            .collect();
        let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len().max(1) as f64;
        let fit =
            if points.len() > 4 * terms { legendre::robust_fit(&points, terms - 1, 5.0, 5.0) } else { None };
        match fit {
            Some(c) if mean > 0.0 => {
                l.lflat = c;
                l.throughput = mean;
                let weight: f64 = points.iter().map(|p| p.2).sum();
                errors.push((terms as f64 / weight).sqrt() / mean);
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

/// (λ, flux per µm, variance) of a lenslet's white light, λ ascending.
fn density(l: &super::Lenslet, shape: &Shape) -> Vec<(f64, f64, f64)> {
    let mut out: Vec<(f64, f64, f64)> = (shape.range.0 + EDGE..shape.range.1.saturating_sub(EDGE))
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

fn interpolate(s: &[(f64, f64, f64)], w: f64) -> f64 {
    let i = s.partition_point(|p| p.0 < w);
    if i == 0 || i >= s.len() {
        return f64::NAN;
    }
    let (a, b) = (s[i - 1], s[i]);
    a.1 + (b.1 - a.1) * (w - a.0) / (b.0 - a.0)
}
