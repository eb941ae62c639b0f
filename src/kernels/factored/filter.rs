//! The preconditioner of the conjugate gradients: what neighbouring columns of a spectrum
//! have in common, undone by one filter for all.
//!
//! In units of its σ an unknown's row of N along its own spectrum is nearly the same
//! everywhere: 1, ρ_1, ρ_2 … of the columns beside it. The filter h is the inverse of that
//! sequence, cut off gently (Fejér's weights, with which a cut-off Fourier series of a
//! positive function stays positive): D h∗ D is positive definite whatever is masked.

use super::{REACH, SEG, System, TAPS};
use crate::kernels::Real;
use crate::simd::widest;

/// Columns that the filter reaches on either side.
const HALF: usize = 8;
/// h_0, and those of either side.
pub type Filter<T> = [T; HALF + 1];
/// Entries from which the correlations are told.
const TELLING: usize = 64;
/// Steps of the frequencies.
const STEPS: usize = 64;
/// No frequency counts for less than this part of the mean.
const LEAST: f64 = 0.05;

impl System {
    /// h.
    pub fn filter(&self) -> Filter<f32> {
        let mut sums = [0f64; TAPS];
        let whole = |e: &usize| self.entries[*e].live == [0, SEG as u16];
        let entries: Vec<usize> = (0..self.entries.len()).filter(whole).collect();
        for e in entries.iter().step_by(entries.len().div_ceil(TELLING).max(1)) {
            // Pixel columns around the unknown in the segment's middle; all weigh the same.
            const U: usize = SEG / 2;
            for p in U - REACH..=U + REACH {
                for dy in 0..self.ky {
                    let own = self.value(*e, p, dy, U + REACH - p);
                    for (m, sum) in sums.iter_mut().enumerate().take(TAPS - (U + REACH - p)) {
                        *sum += own * self.value(*e, p, dy, U + m + REACH - p);
                    }
                }
            }
        }
        let mut out = [0f32; HALF + 1];
        if !(sums[0] > 0.0) {
            out[0] = 1.0;
            return out;
        }
        let angle = |k: usize, m: usize| std::f64::consts::TAU * (k * m) as f64 / STEPS as f64;
        let power = |k: usize| {
            let others: f64 = (1..TAPS).map(|m| 2.0 * sums[m] / sums[0] * angle(k, m).cos()).sum();
            (1.0 + others).max(LEAST)
        };
        let inverse: Vec<f64> = (0..STEPS).map(|k| 1.0 / power(k)).collect();
        for (m, out) in out.iter_mut().enumerate() {
            let term: f64 = inverse.iter().enumerate().map(|(k, v)| v * angle(k, m).cos()).sum();
            *out = (term / STEPS as f64 * (1.0 - m as f64 / (HALF + 1) as f64)) as f32;
        }
        out
    }
}

/// z = D h∗(D r) of one entry; D is 0 where nothing is solved for.
#[inline(always)]
pub(super) fn preconditioned<T: Real>(r: &[T; SEG], scale: &[T; SEG], filter: &Filter<T>, z: &mut [T; SEG]) {
    let mut own = [T::ZERO; SEG + 2 * HALF];
    for x in 0..SEG {
        own[HALF + x] = r[x] * scale[x];
    }
    for x in 0..SEG {
        z[x] = filter[0] * own[HALF + x];
    }
    for m in 1..=HALF {
        for x in 0..SEG {
            z[x] += filter[m] * (own[HALF + x - m] + own[HALF + x + m]);
        }
    }
    for x in 0..SEG {
        z[x] *= scale[x];
    }
}

widest! {
    /// See `preconditioned`.
    pub(super) fn precondition(r: &[f32; SEG], scale: &[f32; SEG], filter: &Filter<f32>, z: &mut [f32; SEG])
        = preconditioned
}
