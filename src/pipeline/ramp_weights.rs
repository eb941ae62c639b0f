//! Ramps weighted by the scatter of their own reads, as liger_iris_pipeline combines
//! them (`fit_ramp_numba.py`): the rate is Σ w s/Σ w over the ramps' slopes s, with
//!
//! ```text
//! 1/w = Σ_k (y_k − b − s t_k)² / ((n − 2) (Σ t² − (Σ t)²/n))
//! ```
//!
//! b the intercept with `ols`, 0 with `mcds` and `cds`. The scatter of n reads about a
//! line is a poor measure of a slope's error: see docs/steps/ramp_fit.md. Variances are
//! those of the slopes, with w taken as fixed.

use rayon::prelude::*;

use super::stage1::Stream;
use crate::config::{Algorithm, RampFit, RateUnits};
use crate::datamodel::{Rate, dq};
use crate::engine::Engine;
use crate::error::Result;
use crate::input::Ramp;
use crate::kernels::ramp::flag;

/// Whether `step` asks for it, of a `ramp` where that means something.
pub(super) fn wanted(step: &RampFit, ramp: &Ramp) -> bool {
    let fixed = matches!(step.algorithm, Algorithm::Ols | Algorithm::Mcds | Algorithm::Cds);
    ramp.ramps > 1 && step.weight_ramps_by_scatter && fixed
}

/// The rate of the exposure that `stream` holds from those of its ramps.
pub(super) fn combined(
    ramp: &Ramp,
    stream: &Stream<'_>,
    rates: &[Rate],
    step: &RampFit,
    engine: &mut dyn Engine,
) -> Result<Rate> {
    let gain = stream.calibration().gain()?;
    let (nx, reads) = (ramp.nx, ramp.reads);
    let mut out = Rate::zeros(ramp.ny, nx);
    stream.ramps(engine, &mut |rows, values, flags| {
        let (first, n) = (rows.start * nx, rows.len() * nx);
        let pixels: Vec<Pixel> = (0..n)
            .into_par_iter()
            .map(|i| {
                let p = first + i;
                let unit = if step.units == RateUnits::Electrons { f64::from(gain[p]) } else { 1.0 };
                let weights: Vec<f64> = (0..rates.len())
                    .map(|r| {
                        let at = |k: usize| (r * reads + k) * n + i;
                        let usable = |k: &usize| flags[at(*k)] & (flag::SATURATED | flag::DO_NOT_USE) == 0;
                        let y: Vec<(f64, f64)> = (0..reads)
                            .filter(usable)
                            .map(|k| (ramp.times[r * reads + k], f64::from(values[at(k)])))
                            .collect();
                        weight(&y, f64::from(rates[r].data[p]) / unit, step.algorithm == Algorithm::Ols)
                    })
                    .collect();
                pixel(rates, p, &weights)
            })
            .collect();
        for (p, pixel) in (first..).zip(pixels) {
            out.data[p] = pixel.rate as f32;
            out.err[p] = (pixel.photon + pixel.read).sqrt() as f32;
            out.var_poisson[p] = pixel.photon as f32;
            out.var_rnoise[p] = pixel.read as f32;
            out.chi2[p] = pixel.chi2 as f32;
            out.dq[p] = pixel.dq;
            out.nreads[p] = rates.iter().map(|r| r.nreads[p]).sum();
        }
        Ok(())
    })?;
    Ok(out)
}

/// The weight of a slope, DN/s, by the scatter of its reads (seconds, DN) about it; 0
/// where they say nothing.
fn weight(reads: &[(f64, f64)], slope: f64, intercept: bool) -> f64 {
    let n = reads.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| reads.iter().map(of).sum::<f64>() / n;
    let (t, y) = (mean(|r| r.0), mean(|r| r.1));
    let start = if intercept { y - slope * t } else { 0.0 };
    let residuals: f64 = reads.iter().map(|r| (r.1 - start - slope * r.0).powi(2)).sum();
    let lever: f64 = reads.iter().map(|r| (r.0 - t).powi(2)).sum();
    let weight = (n - 2.0) * lever / residuals;
    if weight.is_finite() && weight > 0.0 { weight } else { 0.0 }
}

#[derive(Clone, Copy)]
struct Pixel {
    rate: f64,
    photon: f64,
    read: f64,
    chi2: f64,
    dq: u32,
}

/// Pixel `p` of the combination. Where a ramp's scatter says nothing, all count alike.
fn pixel(rates: &[Rate], p: usize, weights: &[f64]) -> Pixel {
    let good: Vec<usize> = (0..rates.len()).filter(|r| rates[*r].data[p].is_finite()).collect();
    // A ramp without a rate takes none from the others.
    let lost = if good.is_empty() { dq::DO_NOT_USE } else { 0 };
    let bits = rates.iter().fold(0, |all, r| all | r.dq[p]) & !dq::DO_NOT_USE | lost;
    if good.is_empty() {
        let nan = f64::NAN;
        return Pixel { rate: nan, photon: nan, read: nan, chi2: nan, dq: bits };
    }
    let even = good.iter().any(|r| weights[*r] == 0.0);
    let w = |r: usize| if even { 1.0 } else { weights[r] };
    let total: f64 = good.iter().map(|r| w(*r)).sum();
    let sum = |of: &dyn Fn(usize) -> f64| good.iter().map(|r| of(*r)).sum::<f64>();
    // Of each ramp's reduced χ² with its degrees of freedom.
    let freedom = |r: usize| (f64::from(rates[r].nreads[p]) - 2.0).max(0.0);
    let chi2 = |r: usize| if freedom(r) > 0.0 { freedom(r) * f64::from(rates[r].chi2[p]) } else { 0.0 };
    Pixel {
        rate: sum(&|r| w(r) * f64::from(rates[r].data[p])) / total,
        photon: sum(&|r| w(r).powi(2) * f64::from(rates[r].var_poisson[p])) / total.powi(2),
        read: sum(&|r| w(r).powi(2) * f64::from(rates[r].var_rnoise[p])) / total.powi(2),
        chi2: sum(&chi2) / sum(&freedom),
        dq: bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_inverse_of_a_slopes_squared_error() {
        // Residuals ±1 about y = 3 + 2 t at t = 0, 1, 2, 3.
        let reads = [(0.0, 4.0), (1.0, 4.0), (2.0, 6.0), (3.0, 10.0)];
        assert_eq!(weight(&reads, 2.0, true), 2.0 * 5.0 / 4.0);
        let about_zero: f64 = reads.iter().map(|(t, y)| (y - 2.0 * t).powi(2)).sum();
        assert_eq!(weight(&reads, 2.0, false), 10.0 / about_zero);
        // Two reads, or none, or reads without scatter, say nothing.
        assert_eq!(weight(&reads[..2], 0.0, true), 0.0);
        assert_eq!(weight(&[], f64::NAN, true), 0.0);
        assert_eq!(weight(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)], 1.0, true), 0.0);
    }

    #[test]
    fn a_lost_ramp_leaves_the_others() {
        let rate = |value: f32, bits: u32| {
            let mut r = Rate::zeros(1, 1);
            (r.data[0], r.var_poisson[0], r.var_rnoise[0], r.chi2[0]) = (value, 1.0, 3.0, 1.5);
            (r.nreads[0], r.dq[0]) = (5, bits);
            r
        };
        let rates = [rate(4.0, dq::JUMP_DET), rate(8.0, 0), rate(f32::NAN, dq::DO_NOT_USE)];
        let p = pixel(&rates, 0, &[3.0, 1.0, 0.0]);
        assert_eq!((p.rate, p.photon, p.read, p.chi2), (5.0, 10.0 / 16.0, 30.0 / 16.0, 1.5));
        assert_eq!(p.dq, dq::JUMP_DET);
        assert_eq!(pixel(&rates, 0, &[0.0, 1.0, 0.0]).rate, 6.0);
        let none = pixel(&rates[2..], 0, &[0.0]);
        assert!(none.rate.is_nan() && none.dq == dq::DO_NOT_USE);
    }
}
