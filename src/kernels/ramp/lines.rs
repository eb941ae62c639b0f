//! Straight-line estimates with fixed weights: ordinary least squares, and
//! (multiple) correlated double sampling, over the unbroken segments that
//! saturation, jumps and resets leave.
//!
//! Every one is a sum of c_k·y_k with Σ c = 0 over a segment, written on the
//! differences so that a pedestal costs no precision: with C_i = Σ_{k>i} c_k,
//! rate = Σ C_i·Δ_i·d_i, photon variance a·(Σ C_i²Δ_i + Σ c_k²(τ_k − t̄_k)) and
//! read variance Σ c_k² r_k (independent Poisson increments between reads).

use super::super::real::Real;
use super::tables::Tables;

/// Which weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Ordinary least squares with a common slope and an intercept a segment.
    Ols,
    /// Mean of the last `coadd` reads minus mean of the first of each segment.
    Mcds {
        /// Reads averaged at each end; at most half of the segment's.
        coadd: usize,
    },
}

/// A whole ramp's estimate as counts: what the rate says of the time that it spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Seconds between the first read and the last, or between the means of the first
    /// and the last that MCDS averages.
    pub span: f64,
    /// Weight of y_{i+1} − y_i in the counts, for each i.
    pub weights: Vec<f64>,
}

impl Counts {
    /// Of a ramp all of whose reads, at `times` s (two at least, increasing), are usable.
    pub fn new(line: Line, times: &[f64]) -> Counts {
        let n = times.len();
        if n < 2 {
            return Counts { span: 0.0, weights: Vec::new() };
        }
        let t = Tables::new(times, &vec![1; n], 0.0, n);
        let segment = Segment::new(line, &t, 0, n - 1);
        let span = match line {
            Line::Ols => times[n - 1] - times[0],
            Line::Mcds { .. } => segment.span,
        };
        let mut weights = vec![0.0; n - 1];
        let mut cumulative = 0.0;
        for i in (0..n - 1).rev() {
            cumulative += segment.at(&t, i + 1);
            weights[i] = cumulative * span / segment.norm;
        }
        Counts { span, weights }
    }
}

/// A rate with the factors of its variances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate<T> {
    pub(super) rate: T,
    /// Photon variance for a rate of 1.
    pub(super) photon: T,
    /// Read variance.
    pub(super) read: T,
}

/// The estimate from differences `d(i)` where `used(i)`, of reads of variance `r(k)`;
/// `None` where nothing is.
pub(super) fn estimate<T: Real>(
    line: Line,
    t: &Tables<T>,
    d: impl Fn(usize) -> T,
    used: impl Fn(usize) -> bool,
    r: impl Fn(usize) -> T,
) -> Option<Estimate<T>> {
    let n = t.inv_dt.len();
    let mut e = Estimate { rate: T::ZERO, photon: T::ZERO, read: T::ZERO };
    let mut total = T::ZERO;
    let mut k = 0;
    while k + 1 < n {
        if !used(k) {
            k += 1;
            continue;
        }
        let first = k;
        while k + 1 < n && used(k) {
            k += 1;
        }
        let weights = Segment::new(line, t, first, k);
        total += weights.norm;
        let mut cumulative = T::ZERO;
        for read in (first..=k).rev() {
            let c = weights.at(t, read);
            e.read += c * c * r(read);
            e.photon += c * c * t.lag[read];
            cumulative += c;
            if read > first {
                let dt = t.time[read] - t.time[read - 1];
                e.rate += cumulative * dt * d(read - 1);
                e.photon += cumulative * cumulative * dt;
            }
        }
    }
    if !(total > T::ZERO) {
        return None;
    }
    let inv = T::ONE / total;
    Some(Estimate { rate: e.rate * inv, photon: e.photon * inv * inv, read: e.read * inv * inv })
}

/// The weights of reads `first..=last`, to be divided by the sum of all norms.
struct Segment<T> {
    line: Line,
    first: usize,
    last: usize,
    centre: T,
    span: T,
    norm: T,
    coadd: usize,
}

impl<T: Real> Segment<T> {
    fn new(line: Line, t: &Tables<T>, first: usize, last: usize) -> Self {
        let mean = |a: usize, b: usize| {
            let (mut sum, mut n) = (T::ZERO, T::ZERO);
            for k in a..=b {
                sum += t.time[k];
                n += T::ONE;
            }
            sum / n
        };
        let mut s =
            Segment { line, first, last, centre: mean(first, last), span: T::ZERO, norm: T::ZERO, coadd: 1 };
        match line {
            Line::Ols => {
                for k in first..=last {
                    let x = t.time[k] - s.centre;
                    s.norm += x * x;
                }
            }
            Line::Mcds { coadd } => {
                s.coadd = coadd.clamp(1, (last - first).div_ceil(2));
                s.span = mean(last + 1 - s.coadd, last) - mean(first, first + s.coadd - 1);
                s.norm = s.span * s.span;
            }
        }
        s
    }

    fn at(&self, t: &Tables<T>, k: usize) -> T {
        match self.line {
            Line::Ols => t.time[k] - self.centre,
            Line::Mcds { .. } => {
                let each = self.span / T::of(self.coadd as f32);
                if k > self.last - self.coadd {
                    each
                } else if k < self.first + self.coadd {
                    -each
                } else {
                    T::ZERO
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ols_has_the_textbook_slope_and_variances() {
        let n = 12usize;
        let times: Vec<f64> = (1..=n).map(|k| k as f64 * 2.0).collect();
        let y: Vec<f64> = times.iter().map(|t| 5e4 + 3.0 * t + (t * 1.7).sin()).collect();
        let t = Tables::new(&times, &vec![1; n], 0.0, n);
        let e = estimate(Line::Ols, &t, |i| (y[i + 1] - y[i]) * t.inv_dt[i], |i| t.inv_dt[i] > 0.0, |_| 1.0)
            .expect("fit");
        let (tm, ym) = (times.iter().sum::<f64>() / n as f64, y.iter().sum::<f64>() / n as f64);
        let sxy: f64 = times.iter().zip(&y).map(|(t, y)| (t - tm) * (y - ym)).sum();
        let sxx: f64 = times.iter().map(|t| (t - tm).powi(2)).sum();
        assert!((e.rate - sxy / sxx).abs() < 1e-10);
        let (m, dt) = (n as f64, 2.0);
        assert!((e.read - 12.0 / (dt * dt * (m.powi(3) - m))).abs() < 1e-12);
        assert!((e.photon - 1.2 / (m * dt) * (m * m + 1.0) / (m * m - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn counts_are_the_rate_times_its_span() {
        let times = [1.0, 2.0, 4.0, 7.0, 8.5];
        let y = [900.0, 1040.0, 1190.0, 1700.0, 1822.0];
        let t = Tables::new(&times, &[1; 5], 0.0, 5);
        for (line, span) in
            [(Line::Ols, 7.5), (Line::Mcds { coadd: 1 }, 7.5), (Line::Mcds { coadd: 2 }, 7.75 - 1.5)]
        {
            let e = estimate(line, &t, |i| (y[i + 1] - y[i]) * t.inv_dt[i], |i| i < 4, |_| 1.0).expect("fit");
            let c = Counts::new(line, &times);
            let counts: f64 = c.weights.iter().enumerate().map(|(i, w)| w * (y[i + 1] - y[i])).sum();
            assert_eq!(c.span, span);
            assert!((counts - e.rate * span).abs() < 1e-9, "{line:?}");
        }
    }

    #[test]
    fn cds_spans_the_ramp() {
        let times = [1.0, 2.0, 4.0, 7.0];
        let t = Tables::new(&times, &[1; 4], 0.0, 4);
        let d = [3.0, 1.0, 2.0];
        let e = estimate(Line::Mcds { coadd: 1 }, &t, |i| d[i], |i| i < 3, |_| 1.0).expect("fit");
        assert!((e.rate - (3.0 + 2.0 + 6.0) / 6.0).abs() < 1e-12);
        assert!((e.read - 2.0 / 36.0).abs() < 1e-12 && (e.photon - 1.0 / 6.0).abs() < 1e-12);
        assert!(estimate(Line::Ols, &t, |i| d[i], |_| false, |_| 1.0).is_none());
    }
}
