//! The knobs of a detector, and the maps that follow from them: what each pixel
//! is, the same every time for the same seed and detector.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::philox::{Purpose, Source};
use super::random::{normal, unit};
use crate::config::Amplifiers;
use crate::datamodel::dq;
use crate::error::{Error, Result};

/// A detector's physics. Spreads are relative 1 σ unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Physics {
    /// Mean gain, e-/DN (2).
    pub gain: f64,
    /// Spread of the gain from amplifier to amplifier (0.01).
    pub gain_spread: f64,
    /// Mean noise of a single read, e- (9).
    pub read_noise: f64,
    /// Spread of the read noise from pixel to pixel (0.1).
    pub read_noise_spread: f64,
    /// Reference pixels' read noise over that of the others (1).
    pub reference_noise: f64,
    /// Mean dark rate, e-/s (0.025).
    pub dark: f64,
    /// Spread of the dark rate, log-normal (0.3).
    pub dark_spread: f64,
    /// Fraction of warm pixels (0.002), flagged WARM and usable.
    pub warm: f64,
    /// Warm pixels' dark rates, e-/s, uniform between (0.5, 3).
    pub warm_rate: [f64; 2],
    /// Fraction of hot pixels (0.002), flagged HOT and DO_NOT_USE.
    pub hot: f64,
    /// Hot pixels' dark rates, e-/s, uniform between (50, 500).
    pub hot_rate: [f64; 2],
    /// Fraction of dead pixels (0.001), flagged DEAD and DO_NOT_USE; they see no light.
    pub dead: f64,
    /// Fraction of pixels of low quantum efficiency (0), flagged LOW_QE.
    pub low_qe: f64,
    /// Their response over that of the others, uniform between (0.1, 0.4).
    pub low_qe_response: [f64; 2],
    /// Fraction of telegraph pixels (0), flagged TELEGRAPH: an offset comes and goes.
    pub telegraph: f64,
    /// That offset, e-, uniform between (100, 400).
    pub telegraph_charge: [f64; 2],
    /// Probability that it comes or goes from one read to the next (0.15).
    pub telegraph_flip: f64,
    /// Fraction of noisy pixels (0), flagged UNRELIABLE_SLOPE.
    pub noisy: f64,
    /// Their read noise over that of the others (5).
    pub noisy_factor: f64,
    /// Inter-pixel capacitance: part of a pixel's signal that shows in each of its
    /// four neighbours (0). Reference pixels take no part.
    pub ipc: f64,
    /// Fraction of bad reference pixels (0.002): noisy, flagged BAD_REF_PIXEL and DO_NOT_USE.
    pub bad_reference: f64,
    /// Pixel-to-pixel spread of the flat (0.02).
    pub flat_pixel: f64,
    /// Amplitude of the flat's large-scale pattern (0.05).
    pub flat_large: f64,
    /// Mean bias, DN (2000).
    pub bias: f64,
    /// Spread of the bias between amplifiers, DN (100).
    pub bias_amplifier: f64,
    /// Spread of the bias between pixels, DN (40).
    pub bias_pixel: f64,
    /// Rise of the bias over the frame's height, DN (150).
    pub bias_gradient: f64,
    /// Mean raw signal at which the correction polynomial ends, DN, bias included (60000).
    /// Pixels themselves stop 3 % above.
    pub saturation: f64,
    /// Spread of that (0.01).
    pub saturation_spread: f64,
    /// The correction polynomial's quadratic and cubic parts at `saturation`, relative
    /// to the signal (0.04, 0.02): y = x (1 + a x/s + b (x/s)²).
    pub nonlinearity: [f64; 2],
    /// Spread of both from pixel to pixel (0.05).
    pub nonlinearity_spread: f64,
    /// kTC noise of a reset, e- (30); reference pixels have none.
    pub reset_noise: f64,
    /// Offset of a whole ramp, DN, 1 σ (50).
    pub ramp_pedestal: f64,
    /// Offset common to all pixels of a read, DN, 1 σ (20).
    pub common_drift: f64,
    /// Offset of an amplifier in a read, DN, 1 σ (3).
    pub amplifier_drift: f64,
    /// Difference of odd and even columns of an amplifier in a read, DN, 1 σ (1).
    pub odd_even_drift: f64,
    /// Drift from row to row in a read, DN rms over the frame (0.5): three waves of
    /// 1 to 4 periods over the frame's height.
    pub row_drift: f64,
    /// Cosmic rays.
    pub cosmic: Cosmic,
}

/// Cosmic rays: charge in one pixel or along a straight track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosmic {
    /// Events a second and 10⁶ pixels (4; sea-level muons on an H4RG: 0.017).
    pub rate: f64,
    /// Median charge in a pixel, e- (1000).
    pub charge: f64,
    /// Spread of ln(charge) (1).
    pub charge_spread: f64,
    /// Fraction of events that are tracks (0.3).
    pub tracks: f64,
    /// Longest track, pixels (12).
    pub track_length: f64,
}

impl Default for Cosmic {
    fn default() -> Self {
        Cosmic { rate: 4.0, charge: 1000.0, charge_spread: 1.0, tracks: 0.3, track_length: 12.0 }
    }
}

impl Default for Physics {
    fn default() -> Self {
        Physics {
            gain: 2.0,
            gain_spread: 0.01,
            read_noise: 9.0,
            read_noise_spread: 0.1,
            reference_noise: 1.0,
            dark: 0.025,
            dark_spread: 0.3,
            warm: 0.002,
            warm_rate: [0.5, 3.0],
            hot: 0.002,
            hot_rate: [50.0, 500.0],
            dead: 0.001,
            low_qe: 0.0,
            low_qe_response: [0.1, 0.4],
            telegraph: 0.0,
            telegraph_charge: [100.0, 400.0],
            telegraph_flip: 0.15,
            noisy: 0.0,
            noisy_factor: 5.0,
            ipc: 0.0,
            bad_reference: 0.002,
            flat_pixel: 0.02,
            flat_large: 0.05,
            bias: 2000.0,
            bias_amplifier: 100.0,
            bias_pixel: 40.0,
            bias_gradient: 150.0,
            saturation: 60_000.0,
            saturation_spread: 0.01,
            nonlinearity: [0.04, 0.02],
            nonlinearity_spread: 0.05,
            reset_noise: 30.0,
            ramp_pedestal: 50.0,
            common_drift: 20.0,
            amplifier_drift: 3.0,
            odd_even_drift: 1.0,
            row_drift: 0.5,
            cosmic: Cosmic::default(),
        }
    }
}

impl Physics {
    /// A sentence about the first number that cannot be.
    pub(super) fn check(&self) -> Result<()> {
        let positive =
            [("gain", self.gain), ("read_noise", self.read_noise), ("saturation", self.saturation)];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::Config(format!("physics: {name} = {value} must be positive")));
            }
        }
        let c = &self.cosmic;
        let not_negative = [
            ("dark", self.dark),
            ("dark_spread", self.dark_spread),
            ("gain_spread", self.gain_spread),
            ("read_noise_spread", self.read_noise_spread),
            ("reference_noise", self.reference_noise),
            ("warm", self.warm),
            ("hot", self.hot),
            ("dead", self.dead),
            ("bad_reference", self.bad_reference),
            ("low_qe", self.low_qe),
            ("low_qe_response", self.low_qe_response[0]),
            ("telegraph", self.telegraph),
            ("telegraph_flip", self.telegraph_flip),
            ("noisy", self.noisy),
            ("noisy_factor", self.noisy_factor),
            ("ipc", self.ipc),
            ("flat_pixel", self.flat_pixel),
            ("flat_large", self.flat_large),
            ("bias", self.bias),
            ("reset_noise", self.reset_noise),
            ("nonlinearity_spread", self.nonlinearity_spread),
            ("cosmic.rate", c.rate),
            ("cosmic.charge", c.charge),
            ("cosmic.tracks", c.tracks),
            ("cosmic.track_length", c.track_length),
            ("nonlinearity", self.nonlinearity[0]),
            ("nonlinearity", self.nonlinearity[1]),
        ];
        for (name, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::Config(format!("physics: {name} = {value} must not be negative")));
            }
        }
        if self.ipc > 0.1 {
            let ipc = self.ipc;
            return Err(Error::Config(format!("physics: ipc = {ipc} must be at most 0.1 to each neighbour")));
        }
        if self.saturation > 65_000.0 {
            return Err(Error::Config("physics: saturation must be at most 65000 (16-bit reads)".into()));
        }
        Ok(())
    }
}

/// What each pixel of a detector is. All maps are (ny, nx), row-major.
#[derive(Debug, Clone)]
pub struct Maps {
    /// Columns.
    pub nx: usize,
    /// Rows.
    pub ny: usize,
    /// Readout channels.
    pub amplifiers: Amplifiers,
    /// Gain, e-/DN.
    pub gain: Vec<f32>,
    /// Gaussian noise of a single read, DN (digitisation comes on top).
    pub noise: Vec<f32>,
    /// Dark rate, e-/s.
    pub dark: Vec<f32>,
    /// Response to light, median 1 over good pixels; 0 for dead and reference pixels.
    pub flat: Vec<f32>,
    /// Bias, DN.
    pub bias: Vec<f32>,
    /// Raw DN from which a read counts as saturated.
    pub saturation: Vec<f32>,
    /// Quadratic and cubic coefficients of y = x + c₂x² + c₃x³ (DN over bias).
    pub nonlinearity: [Vec<f32>; 2],
    /// Offset that comes and goes in telegraph pixels, DN; empty where there are none.
    pub telegraph: Vec<f32>,
    /// Data quality: DEAD, HOT (both DO_NOT_USE), WARM, LOW_QE, TELEGRAPH,
    /// UNRELIABLE_SLOPE (noisy), REFERENCE_PIXEL, BAD_REF_PIXEL.
    pub mask: Vec<u32>,
}

/// (ny, nx) values of a function of (x, y), rows in parallel.
pub(super) fn plane<T: Send + Clone + Default>(
    nx: usize,
    ny: usize,
    f: impl Fn(usize, usize) -> T + Sync,
) -> Vec<T> {
    let mut out = vec![T::default(); nx * ny];
    out.par_chunks_mut(nx.max(1)).enumerate().for_each(|(y, row)| {
        row.iter_mut().enumerate().for_each(|(x, v)| *v = f(x, y));
    });
    out
}

impl Maps {
    /// The maps of detector number `which` of a night with `seed`.
    pub fn new(
        p: &Physics,
        amplifiers: Amplifiers,
        border: usize,
        size: [usize; 2],
        seed: u64,
        which: usize,
    ) -> Maps {
        let [nx, ny] = size;
        let source = Source::new(seed, Purpose::Map, which);
        let word = |x: usize, y: usize, z: u32, i: usize| source.block(x as u32, y as u32, z)[i];
        let gauss = |x, y, z, i| normal(word(x, y, z, i));
        let amplifier = |x: usize, y: usize| amplifier(amplifiers, nx, ny, x, y);
        // One number an amplifier: rows beyond any detector's, so that no pixel shares it.
        let of_amplifier = |x, y, i| normal(source.block(amplifier(x, y) as u32, u32::MAX, 0)[i]);
        let reference = |x: usize, y: usize| x < border || y < border || x + border >= nx || y + border >= ny;
        let mask = plane(nx, ny, |x, y| {
            let u = unit(word(x, y, 0, 0));
            let rest = u - p.dead - p.hot - p.warm;
            if reference(x, y) {
                let bad = if u < p.bad_reference { dq::BAD_REF_PIXEL | dq::DO_NOT_USE } else { 0 };
                dq::REFERENCE_PIXEL | bad
            } else if u < p.dead {
                dq::DEAD | dq::DO_NOT_USE
            } else if u < p.dead + p.hot {
                dq::HOT | dq::DO_NOT_USE
            } else if u < p.dead + p.hot + p.warm {
                dq::WARM
            } else if rest < p.low_qe {
                dq::LOW_QE
            } else if rest < p.low_qe + p.telegraph {
                dq::TELEGRAPH
            } else if rest < p.low_qe + p.telegraph + p.noisy {
                dq::UNRELIABLE_SLOPE
            } else {
                0
            }
        });
        let at = |x: usize, y: usize| mask[y * nx + x];
        let gain =
            plane(nx, ny, |x, y| (p.gain * (1.0 + p.gain_spread * of_amplifier(x, y, 0)).max(0.1)) as f32);
        let noise = plane(nx, ny, |x, y| {
            let factor = match at(x, y) {
                m if m & dq::BAD_REF_PIXEL != 0 => 20.0,
                m if m & dq::REFERENCE_PIXEL != 0 => p.reference_noise,
                m if m & dq::UNRELIABLE_SLOPE != 0 => p.noisy_factor,
                _ => 1.0,
            };
            (factor * p.read_noise / p.gain * (p.read_noise_spread * gauss(x, y, 1, 0)).exp()) as f32
        });
        let between = |r: [f64; 2], x, y| r[0] + (r[1] - r[0]) * unit(word(x, y, 1, 1));
        let dark = plane(nx, ny, |x, y| {
            (match at(x, y) {
                m if m & dq::REFERENCE_PIXEL != 0 => 0.0,
                m if m & dq::HOT != 0 => between(p.hot_rate, x, y),
                m if m & dq::WARM != 0 => between(p.warm_rate, x, y),
                _ => p.dark * (p.dark_spread * gauss(x, y, 1, 2)).exp(),
            })
            .max(0.0) as f32
        });
        let mut flat = plane(nx, ny, |x, y| {
            if at(x, y) & (dq::REFERENCE_PIXEL | dq::DEAD) != 0 {
                return 0.0;
            }
            let (u, v) = (x as f64 / nx as f64 - 0.5, y as f64 / ny as f64 - 0.5);
            let large = (5.0 * u + 2.0).sin() * (4.0 * v + 0.5).cos() - 1.5 * (u * u + v * v);
            let low = at(x, y) & dq::LOW_QE != 0;
            let response = if low { between(p.low_qe_response, x, y) } else { 1.0 };
            let even = (1.0 + p.flat_large * large) * (1.0 + p.flat_pixel * gauss(x, y, 1, 3));
            (response * even.max(0.05)) as f32
        });
        normalise(&mut flat, &mask);
        let bias = plane(nx, ny, |x, y| {
            let b = p.bias
                + p.bias_amplifier * of_amplifier(x, y, 1)
                + p.bias_pixel * gauss(x, y, 2, 0)
                + p.bias_gradient * (y as f64 / ny as f64 - 0.5);
            b.clamp(0.0, 20_000.0) as f32
        });
        let saturation = plane(nx, ny, |x, y| {
            (p.saturation * (1.0 + p.saturation_spread * gauss(x, y, 2, 1))).clamp(1000.0, 63_000.0) as f32
        });
        let power = |order: usize| {
            let c = p.nonlinearity[order] / p.saturation.powi(order as i32 + 1);
            plane(nx, ny, |x, y| {
                if at(x, y) & dq::REFERENCE_PIXEL != 0 {
                    return 0.0;
                }
                (c * (1.0 + p.nonlinearity_spread * gauss(x, y, 2, 2 + order)).max(0.0)) as f32
            })
        };
        let nonlinearity = [power(0), power(1)];
        let telegraph = match p.telegraph > 0.0 {
            true => plane(nx, ny, |x, y| match at(x, y) & dq::TELEGRAPH != 0 {
                true => (between(p.telegraph_charge, x, y) / p.gain) as f32,
                false => 0.0,
            }),
            false => Vec::new(),
        };
        Maps { nx, ny, amplifiers, gain, noise, dark, flat, bias, saturation, nonlinearity, telegraph, mask }
    }
}

/// Which stripe the pixel (x, y) is read by.
pub(super) fn amplifier(a: Amplifiers, nx: usize, ny: usize, x: usize, y: usize) -> usize {
    let (at, length) = if a.along == 'y' { (y, ny) } else { (x, nx) };
    at * a.count.max(1) / length.max(1)
}

/// Scales to median 1 over pixels without flags.
fn normalise(flat: &mut [f32], mask: &[u32]) {
    let mut good: Vec<f32> = flat.iter().zip(mask).filter(|(_, m)| **m == 0).map(|(f, _)| *f).collect();
    if good.is_empty() {
        return;
    }
    let middle = good.len() / 2;
    let median = *good.select_nth_unstable_by(middle, f32::total_cmp).1;
    flat.iter_mut().for_each(|f| *f /= median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_follow_the_knobs() {
        let p = Physics { dead: 0.01, ..Physics::default() };
        let amplifiers = Amplifiers { count: 8, along: 'x' };
        let m = Maps::new(&p, amplifiers, 4, [256, 128], 3, 0);
        let count = |bit: u32| m.mask.iter().filter(|v| **v & bit != 0).count();
        assert_eq!(count(dq::REFERENCE_PIXEL), 256 * 128 - 248 * 120);
        assert!((200..400).contains(&count(dq::DEAD)), "{}", count(dq::DEAD));
        assert!(m.gain[..32].iter().all(|g| *g == m.gain[0]) && m.gain[32] != m.gain[0]);
        let other = Maps::new(&p, amplifiers, 4, [256, 128], 3, 1);
        assert_ne!(m.dark, other.dark);
        assert!(p.check().is_ok());
        assert!(Physics { gain: 0.0, ..p }.check().is_err());
    }
}
