//! The formulas of one detector column, generic over f32 (the CPU engine) and
//! f64 (the oracle).
//!
//! Normal equations N = PᵀWP of the spectra that cross the column, LDLᵀ with a
//! half-bandwidth of `hb`, and the entries of N⁻¹ inside the band by Takahashi's
//! recurrence (Takahashi, Fagan & Chen 1973), which needs nothing outside it.

use super::{DO_NOT_USE, MAX_BAND, MAX_ROWS, OUTLIER, PIXEL, SAMPLE};
use crate::kernels::Real;

/// Below this fraction of its diagonal a pivot means that a spectrum cannot be
/// told from its neighbours (for Gaussian profiles: closer than 0.05 σ).
const PIVOT: f32 = 1e-3;
/// A pixel's flags reach a spectrum that has at least this much of its profile there.
const TOUCHED: f32 = 0.1;
/// Relative error of the model that residual rejection allows for, so that
/// imperfect profiles of bright lines are not taken for cosmic rays.
const MODEL_ERROR: f32 = 0.03;

/// Least freedom (1 − leverage) of a pixel.
const LEAST_FREE: f32 = 0.02;
/// Fits with model variances: two, and as long as pixels are rejected up to this many.
const ROUNDS: usize = 5;

/// One column and how to fit it.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// The frame's pixels, [`PIXEL`] words each, row-major.
    pub pixels: &'a [u32],
    /// Columns in `pixels`.
    pub ncols: usize,
    /// Which of them.
    pub x: usize,
    /// Rows.
    pub ny: usize,
    /// Rows of a profile.
    pub ky: usize,
    /// Half-bandwidth; 0 fits each spectrum alone.
    pub hb: usize,
    /// Variance per unit rate.
    pub factor: f32,
    /// Rejection, σ; 0 for none.
    pub threshold: f32,
    /// Least fraction of a profile on good pixels.
    pub min_fraction: f32,
    /// This column's entries of the profile table, `ky + 1` words each.
    pub table: &'a [u32],
}

/// Memory for a column, kept between columns.
#[derive(Debug, Default)]
pub struct Work<T> {
    rate: Vec<T>,
    variance: Vec<T>,
    common: Vec<T>,
    dq: Vec<u32>,
    /// 1/variance; 0 for pixels that are not used, −1 for rejected ones.
    weight: Vec<T>,
    model: Vec<T>,
    /// Variance of the model over that of the pixel, before the pixel's weight.
    leverage: Vec<T>,
    first: Vec<i64>,
    profile: Vec<T>,
    band: Vec<T>,
    /// Diagonal of N; 0 for spectra without a pixel, −1 for inseparable ones.
    diagonal: Vec<T>,
    flux: Vec<T>,
}

/// What a column's fit says of the whole column.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Σ residual²/variance.
    pub chi2: f32,
    /// Pixels used.
    pub used: u32,
    /// Pixels rejected as outliers.
    pub rejected: u32,
    /// Spectra solved for.
    pub solved: u32,
}

fn finite(bits: u32) -> bool {
    bits & 0x7f80_0000 != 0x7f80_0000
}

/// Fits the column; `out` takes [`SAMPLE`] words a spectrum.
pub fn solve<T: Real>(p: &Problem<'_>, work: &mut Work<T>, out: &mut [u32]) -> Summary {
    let n = p.table.len() / (p.ky + 1);
    work.load(p, n);
    work.fit(p, n);
    let mut rejected = 0;
    for round in 0..ROUNDS {
        work.project(p, n);
        let more = work.reweight(p, n);
        work.fit(p, n);
        rejected += more;
        if round > 0 && more == 0 {
            break;
        }
    }
    work.invert(p, n);
    work.project(p, n);
    let mut summary = Summary { rejected, ..Summary::default() };
    let mut chi2 = T::ZERO;
    for y in 0..p.ny {
        if work.weight[y] > T::ZERO {
            let r = work.rate[y] - work.model[y];
            chi2 += r * r * work.weight[y];
            summary.used += 1;
        }
    }
    summary.chi2 = chi2.to_f32();
    for (j, sample) in out.chunks_exact_mut(SAMPLE).take(n).enumerate() {
        summary.solved += u32::from(work.report(p, n, j, sample));
    }
    summary
}

impl<T: Real> Work<T> {
    fn load(&mut self, p: &Problem<'_>, n: usize) {
        let (ny, ky) = (p.ny, p.ky);
        self.rate.clear();
        self.variance.clear();
        self.common.clear();
        self.dq.clear();
        for y in 0..ny {
            let at = (y * p.ncols + p.x) * PIXEL;
            let [rate, variance, common, dq] =
                [p.pixels[at], p.pixels[at + 1], p.pixels[at + 2], p.pixels[at + 3]];
            let good = dq & DO_NOT_USE == 0
                && finite(rate)
                && finite(variance)
                && finite(common)
                && f32::from_bits(variance) > 0.0;
            let value = |bits: u32| if good { T::of(f32::from_bits(bits)) } else { T::ZERO };
            self.rate.push(value(rate));
            self.variance.push(value(variance));
            self.common.push(value(common));
            self.dq.push(dq);
        }
        for list in [&mut self.weight, &mut self.model, &mut self.leverage] {
            list.clear();
            list.resize(ny, T::ZERO);
        }
        self.first.clear();
        self.profile.clear();
        for entry in p.table.chunks_exact(ky + 1) {
            self.first.push(i64::from(entry[0] as i32));
            self.profile.extend(entry[1..].iter().map(|b| T::of(f32::from_bits(*b))));
        }
        self.band.clear();
        self.band.resize(n * (p.hb + 1), T::ZERO);
        for list in [&mut self.diagonal, &mut self.flux] {
            list.clear();
            list.resize(n, T::ZERO);
        }
        // The first weights know nothing of the signal, so that they cannot be
        // correlated with its noise.
        for j in 0..n {
            let (k0, k1, y0) = self.rows(p, j);
            for y in y0..y0 + (k1 - k0) {
                if self.variance[y] > T::ZERO {
                    self.weight[y] = T::ONE / self.variance[y];
                }
            }
        }
    }

    /// Profile rows `[k0, k1)` of spectrum `j` that lie on the detector, and the
    /// detector row of `k0`.
    fn rows(&self, p: &Problem<'_>, j: usize) -> (usize, usize, usize) {
        let (first, ky, ny) = (self.first[j], p.ky as i64, p.ny as i64);
        let k0 = (-first).clamp(0, ky);
        let k1 = (ny - first).clamp(k0, ky);
        (k0 as usize, k1 as usize, (first + k0).max(0) as usize)
    }

    /// Normal equations, factored and solved.
    fn fit(&mut self, p: &Problem<'_>, n: usize) {
        let (ky, hb, stride) = (p.ky, p.hb, p.hb + 1);
        for j in 0..n {
            let (k0, k1, y0) = self.rows(p, j);
            let mut weighted = [T::ZERO; MAX_ROWS];
            let mut right = T::ZERO;
            let own = &self.profile[j * ky + k0..j * ky + k1];
            for (i, (to, profile)) in weighted[k0..k1].iter_mut().zip(own).enumerate() {
                let y = y0 + i;
                if self.weight[y] > T::ZERO {
                    *to = *profile * self.weight[y];
                    right += *to * self.rate[y];
                }
            }
            self.flux[j] = right;
            for i in 0..=hb {
                let mut sum = T::ZERO;
                if j + i < n {
                    let shift = (self.first[j + i] - self.first[j]) as usize;
                    if shift < ky {
                        let other = &self.profile[(j + i) * ky..][..ky - shift];
                        for (a, b) in weighted[shift..ky].iter().zip(other) {
                            sum += *a * *b;
                        }
                    }
                }
                self.band[j * stride + i] = sum;
            }
            self.diagonal[j] = self.band[j * stride];
        }
        for j in 0..n {
            let pivot = self.band[j * stride];
            let last = hb.min(n - 1 - j);
            if !(self.diagonal[j] > T::ZERO && pivot > T::of(PIVOT) * self.diagonal[j]) {
                self.diagonal[j] = if self.diagonal[j] > T::ZERO { -T::ONE } else { T::ZERO };
                self.band[j * stride..][..stride].fill(T::ZERO);
                self.flux[j] = T::ZERO;
                continue;
            }
            let inverse = T::ONE / pivot;
            let (head, tail) = self.band.split_at_mut((j + 1) * stride);
            let row = &mut head[j * stride..];
            for k in 1..=last {
                let l = row[k] * inverse;
                let below = &mut tail[(k - 1) * stride..][..=last - k];
                for (b, r) in below.iter_mut().zip(&row[k..=last]) {
                    *b -= l * *r;
                }
                let z = self.flux[j];
                self.flux[j + k] -= l * z;
                row[k] = l;
            }
            row[0] = inverse;
            self.flux[j] *= inverse;
        }
        for j in (0..n).rev() {
            let mut sum = self.flux[j];
            for k in 1..=hb.min(n - 1 - j) {
                sum -= self.band[j * stride + k] * self.flux[j + k];
            }
            self.flux[j] = sum;
        }
    }

    /// The model of the pixels.
    fn project(&mut self, p: &Problem<'_>, n: usize) {
        self.model.fill(T::ZERO);
        for j in 0..n {
            let (k0, k1, y0) = self.rows(p, j);
            for k in k0..k1 {
                self.model[y0 + k - k0] += self.profile[j * p.ky + k] * self.flux[j];
            }
        }
    }

    /// Whether a used pixel is too far from the model.
    fn is_far(&self, p: &Problem<'_>, y: usize) -> bool {
        if self.weight[y] <= T::ZERO || p.threshold <= 0.0 {
            return false;
        }
        let m = if self.model[y] > T::ZERO { self.model[y] } else { T::ZERO };
        let (r, error) = (self.rate[y] - self.model[y], T::of(MODEL_ERROR) * m);
        r * r > T::of(p.threshold * p.threshold) * (self.variance[y] + T::of(p.factor) * m + error * error)
    }

    /// Weights from the model's variance. Of the pixels too far from the model, the
    /// one without which this fit's χ² falls most among its neighbours is rejected.
    /// Uses up the model and the factors.
    fn reweight(&mut self, p: &Problem<'_>, n: usize) -> u32 {
        let search = (0..p.ny).any(|y| self.is_far(p, y));
        if search {
            self.invert(p, n);
            self.find_leverage(p, n);
        }
        for y in 0..p.ny {
            let mut cost = T::ZERO;
            if self.weight[y] > T::ZERO {
                let m = if self.model[y] > T::ZERO { self.model[y] } else { T::ZERO };
                if search && self.is_far(p, y) {
                    let r = self.rate[y] - self.model[y];
                    let free = T::ONE - self.weight[y] * self.leverage[y];
                    let least = T::of(LEAST_FREE);
                    cost = r * r * self.weight[y] / if free > least { free } else { least };
                }
                self.weight[y] = T::ONE / (self.variance[y] + T::of(p.factor) * m);
            }
            self.model[y] = cost;
        }
        let mut rejected = 0;
        for y in 0..if search { p.ny } else { 0 } {
            let z = self.model[y];
            let above = |d: usize| if y + d < p.ny { self.model[y + d] } else { T::ZERO };
            let below = |d: usize| if y >= d { self.model[y - d] } else { T::ZERO };
            if z > below(1) && z > below(2) && z >= above(1) && z >= above(2) {
                self.weight[y] = -T::ONE;
                rejected += 1;
            }
        }
        rejected
    }

    /// The variance of the model at each pixel, PZPᵀ with Z the band of N⁻¹.
    fn find_leverage(&mut self, p: &Problem<'_>, n: usize) {
        self.leverage.fill(T::ZERO);
        for j in 0..n {
            let (k0, k1, y0) = self.rows(p, j);
            for i in 0..=p.hb.min(n - 1 - j) {
                let shift = (self.first[j + i] - self.first[j]) as usize;
                let z = self.band[j * (p.hb + 1) + i];
                let z = if i == 0 { z } else { z + z };
                for k in k0.max(shift)..k1 {
                    self.leverage[y0 + k - k0] +=
                        z * self.profile[j * p.ky + k] * self.profile[(j + i) * p.ky + k - shift];
                }
            }
        }
    }

    /// The band of N⁻¹ in place of the factors.
    fn invert(&mut self, p: &Problem<'_>, n: usize) {
        let (hb, stride) = (p.hb, p.hb + 1);
        for i in (0..n).rev() {
            let last = hb.min(n - 1 - i);
            let mut l = [T::ZERO; MAX_BAND + 1];
            l[..stride].copy_from_slice(&self.band[i * stride..][..stride]);
            let mut diagonal = l[0];
            for k in 1..=last {
                let mut sum = T::ZERO;
                for (m, lm) in l.iter().enumerate().take(last + 1).skip(1) {
                    sum += *lm * self.band[(i + m.min(k)) * stride + m.abs_diff(k)];
                }
                self.band[i * stride + k] = -sum;
            }
            for (k, lk) in l.iter().enumerate().take(last + 1).skip(1) {
                diagonal -= *lk * self.band[i * stride + k];
            }
            self.band[i * stride] = diagonal;
        }
    }

    /// Writes spectrum `j`; says whether it has a value.
    fn report(&self, p: &Problem<'_>, n: usize, j: usize, out: &mut [u32]) -> bool {
        let (k0, k1, y0) = self.rows(p, j);
        let [mut fraction, mut chi2, mut information, mut shared] = [T::ZERO; 4];
        let (mut dq, mut spoilt) = (0, false);
        for k in k0..k1 {
            let (y, profile) = (y0 + k - k0, self.profile[j * p.ky + k]);
            let w = self.weight[y];
            let touched = profile >= T::of(TOUCHED);
            if w > T::ZERO {
                let r = self.rate[y] - self.model[y];
                fraction += profile;
                chi2 += profile * r * r * w;
                information += profile * profile * w;
                shared += profile * profile * w * w * self.common[y];
                if touched {
                    dq |= self.dq[y];
                    let m = self.model[y] * T::of(MODEL_ERROR);
                    let limit = T::of(p.threshold * p.threshold) * (T::ONE / w + m * m);
                    spoilt |= p.threshold > 0.0 && r * r > limit;
                }
            } else if w < T::ZERO && touched {
                dq |= OUTLIER;
            }
        }
        // A spectrum that cannot be told from another spoils both.
        let from = j.saturating_sub(p.hb);
        let inseparable = self.diagonal[from..(j + p.hb + 1).min(n)].iter().any(|d| *d < T::ZERO);
        let stride = p.hb + 1;
        let variance = self.band[j * stride];
        if spoilt {
            dq |= OUTLIER;
        }
        // Which of few pixels is the outlier is a guess: ask for more of them then.
        let doubt = if dq & OUTLIER != 0 { 0.5 * (1.0 + p.min_fraction) } else { p.min_fraction };
        let good = !inseparable
            && !spoilt
            && fraction > T::of(doubt)
            && information > T::ZERO
            && self.diagonal[j] > T::ZERO;
        let covariance = if p.hb > 0 && j + 1 < n { self.band[j * stride + 1] } else { T::ZERO };
        let values = if good {
            let common = variance * shared / information;
            [self.flux[j], variance, covariance, common, chi2 / fraction].map(|v| v.to_f32().to_bits())
        } else {
            dq |= DO_NOT_USE;
            [NAN, NAN, 0, NAN, NAN]
        };
        out[..5].copy_from_slice(&values);
        out[5] = dq;
        good
    }
}

const NAN: u32 = 0x7fc0_0000;
