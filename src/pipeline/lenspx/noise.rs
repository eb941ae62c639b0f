//! A rate frame's noise as the extraction needs it: without the photon noise of
//! the spectra themselves, which comes from the model.

use super::legendre::median;
use crate::datamodel::{Rate, dq};
use crate::error::{Error, Result};

/// Pixels looked at for the constants.
const SAMPLE: usize = 200_000;

/// Variance = (pixel's own part) + `factor` · (rate of the spectra).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Photon variance per unit rate: 1/(gain-corrected effective exposure), 1/s.
    pub factor: f64,
    /// Rate (dark, mostly) whose photon noise is in VAR_POISSON though it has been
    /// subtracted from the data, e-/s.
    pub dark: f64,
}

/// A pixel as the extraction kernel takes it: rate, variance without the spectra's
/// photon noise, and the part of that which other frames share (references).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixel {
    /// Rate, e-/s.
    pub rate: f32,
    /// Variance without photon noise of the spectra; 0 for an unusable pixel.
    pub variance: f32,
    /// Shared part.
    pub common: f32,
}

impl Noise {
    /// The constants of a frame. VAR_POISSON = `factor` · (rate + `dark`) is solved
    /// from the medians of two groups of pixels: the middle half by rate and those
    /// between 90 and 99 %. The frame's own noise cancels where VAR_POISSON is
    /// proportional to the measured rate. A frame without VAR_POISSON has factor 0.
    pub fn of(rate: &Rate) -> Result<Noise> {
        let n = rate.nx * rate.ny;
        if [&rate.data, &rate.err, &rate.var_poisson, &rate.var_rnoise].iter().any(|p| p.len() != n)
            || rate.dq.len() != n
        {
            return Err(Error::Unsolvable(
                "a rate frame for extraction needs DATA, ERR, DQ, VAR_POISSON and VAR_RNOISE of one size"
                    .into(),
            ));
        }
        let mut sample: Vec<(f64, f64)> = (0..n)
            .step_by(n.div_ceil(SAMPLE).max(1))
            .filter(|&i| rate.dq[i] & dq::DO_NOT_USE == 0)
            .map(|i| (f64::from(rate.data[i]), f64::from(rate.var_poisson[i])))
            .filter(|(r, v)| r.is_finite() && v.is_finite())
            .collect();
        if sample.len() < 20 {
            return Err(Error::Unsolvable(
                "fewer than 20 usable pixels in a rate frame: nothing can be extracted from it".into(),
            ));
        }
        sample.sort_by(|a, b| a.0.total_cmp(&b.0));
        let group = |from: usize, to: usize| {
            let part = &sample[sample.len() * from / 100..sample.len() * to / 100];
            (median(part.iter().map(|s| s.0).collect()), median(part.iter().map(|s| s.1).collect()))
        };
        let ((r1, v1), (r2, v2)) = (group(25, 75), group(90, 99));
        let factor = (v2 - v1) / (r2 - r1);
        if !(factor.is_finite() && factor > 0.0) {
            return Ok(Noise { factor: 0.0, dark: 0.0 });
        }
        Ok(Noise { factor, dark: (v1 / factor - r1).max(0.0) })
    }

    /// Pixel `i` of the frame. Its own photon noise is not used, unless it exceeds
    /// what rate and dark explain by more than half of the other noise (a hot pixel,
    /// a ramp cut short).
    pub fn pixel(&self, rate: &Rate, i: usize) -> Pixel {
        let (value, err) = (rate.data[i], f64::from(rate.err[i]));
        let (poisson, read) = (f64::from(rate.var_poisson[i]), f64::from(rate.var_rnoise[i]));
        let unusable =
            rate.dq[i] & dq::DO_NOT_USE != 0 || !(value.is_finite() && err.is_finite() && err > 0.0);
        if unusable {
            return Pixel { rate: 0.0, variance: 0.0, common: 0.0 };
        }
        // What rounding to f32 leaves of the difference is not noise of a reference.
        let common = err * err - poisson - read;
        let common = if common > 1e-5 * err * err { common } else { 0.0 };
        let base = read + common + self.factor * self.dark;
        let excess = poisson - self.factor * (f64::from(value).max(0.0) + self.dark);
        let variance = if excess > 0.5 * base { base + excess } else { base };
        // Frames whose error has no parts (VAR_* zero) use the whole of it.
        let variance = if variance > 0.0 { variance } else { err * err };
        Pixel { rate: value, variance: variance as f32, common: common as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_come_back() {
        let mut rate = Rate::zeros(50, 60);
        for i in 0..3000 {
            let signal = if i % 7 == 0 { 20.0 } else { 0.1 } + 0.01 * (i % 13) as f32;
            rate.data[i] = signal;
            rate.var_poisson[i] = 0.02 * (signal + 0.5);
            rate.var_rnoise[i] = 0.3;
            rate.err[i] = (rate.var_poisson[i] + 0.3 + 0.1).sqrt();
        }
        rate.data[0] = f32::NAN;
        let noise = Noise::of(&rate).expect("noise");
        assert!((noise.factor - 0.02).abs() < 1e-6 && (noise.dark - 0.5).abs() < 1e-3, "{noise:?}");
        let p = noise.pixel(&rate, 7);
        assert!((p.variance - 0.41).abs() < 1e-4 && (p.common - 0.1).abs() < 1e-5, "{p:?}");
        assert_eq!(noise.pixel(&rate, 0).variance, 0.0);
        rate.dq.fill(1);
        assert!(Noise::of(&rate).is_err());
    }
}
