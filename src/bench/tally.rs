//! Sums over the rates of many ramps, and the figures that follow from them.

use super::figure::Figure;
use crate::datamodel::{Rate, dq};
use crate::simulate::random::erf;

/// No limit.
pub(super) const FREE: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];

/// Sums over ramps of one rate. Ramps that came out without a value count in `ramps`
/// and `lost` alone.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    ramps: f64,
    lost: f64,
    flagged: f64,
    /// Σ d, Σ d², Σ d⁴ of d = (value − truth)/σ.
    deviation: [f64; 3],
    /// Σ ERR²/σ².
    quoted: f64,
    /// Σ χ², Σ (χ²)² of the reduced χ².
    chi2: [f64; 2],
    /// With χ² beyond its 99th percentile.
    beyond: f64,
}

impl Tally {
    /// Adds the ramps of a frame whose true rate is `truth` and whose best error `sigma`,
    /// fitted with `freedom` degrees of freedom.
    pub(super) fn add(&mut self, rate: &Rate, truth: f64, sigma: f64, freedom: usize) {
        let limit = percentile_99(freedom) / freedom.max(1) as f64;
        for i in 0..rate.data.len() {
            self.ramps += 1.0;
            self.flagged += f64::from(u8::from(rate.dq[i] & dq::JUMP_DET != 0));
            let (value, err) = (f64::from(rate.data[i]), f64::from(rate.err[i]));
            if !(value.is_finite() && err > 0.0) {
                self.lost += 1.0;
                continue;
            }
            let d = (value - truth) / sigma;
            self.deviation[0] += d;
            self.deviation[1] += d * d;
            self.deviation[2] += d * d * d * d;
            self.quoted += (err / sigma).powi(2);
            let chi2 = f64::from(rate.chi2[i]);
            self.chi2[0] += chi2;
            self.chi2[1] += chi2 * chi2;
            self.beyond += f64::from(u8::from(chi2 > limit));
        }
    }

    fn n(&self) -> f64 {
        self.ramps - self.lost
    }

    /// rms(value − truth)/σ with its error.
    fn rms(&self) -> (f64, f64) {
        let square = self.deviation[1] / self.n();
        let spread = (self.deviation[2] / self.n() - square * square).max(0.0);
        (square.sqrt(), (spread / self.n()).sqrt() / (2.0 * square.sqrt()))
    }

    /// Scatter over the bound.
    pub(super) fn scatter(&self, target: [f64; 2]) -> Figure {
        let (rms, error) = self.rms();
        // A ramp without a value is no way to a small scatter.
        Figure::new(if self.lost > 0.0 { f64::NAN } else { rms }, error, target)
    }

    /// Mean of value − truth, in σ.
    pub(super) fn bias(&self, target: [f64; 2]) -> Figure {
        Figure::new(self.deviation[0] / self.n(), self.rms().0 / self.n().sqrt(), target)
    }

    /// √mean(ERR²) over the rms.
    pub(super) fn quoted(&self, target: [f64; 2]) -> Figure {
        let (rms, error) = self.rms();
        let ratio = (self.quoted / self.n()).sqrt() / rms;
        Figure::new(ratio, ratio * error / rms, target)
    }

    /// Mean reduced χ².
    pub(super) fn chi2(&self, target: [f64; 2]) -> Figure {
        let mean = self.chi2[0] / self.n();
        let variance = (self.chi2[1] / self.n() - mean * mean).max(0.0);
        Figure::new(mean, (variance / self.n()).sqrt(), target)
    }

    /// Part of the ramps with χ² beyond its 99th percentile.
    pub(super) fn tail(&self, target: [f64; 2]) -> Figure {
        part(self.beyond, self.n(), target)
    }

    /// Part of the ramps with a jump.
    pub(super) fn flagged(&self, target: [f64; 2]) -> Figure {
        part(self.flagged, self.ramps, target)
    }

    /// Ramps with a jump.
    pub(super) fn count(&self) -> f64 {
        self.flagged
    }

    /// All ramps.
    pub(super) fn ramps(&self) -> f64 {
        self.ramps
    }
}

/// `k` of `n` with its binomial error; that of one where there is none.
fn part(k: f64, n: f64, target: [f64; 2]) -> Figure {
    let p = k / n;
    Figure::new(p, (p * (1.0 - p) / n).sqrt().max(1.0 / n), target)
}

/// Probability of χ² above `x` with `k` degrees of freedom: the finite sums for whole
/// numbers (Abramowitz & Stegun 26.4.4 and 26.4.5).
fn above(x: f64, k: usize) -> f64 {
    let (mut sum, mut term, first) = match k % 2 {
        0 => (0.0, (-x / 2.0).exp(), 2),
        _ => (1.0 - erf((x / 2.0).sqrt()), (2.0 * x / std::f64::consts::PI).sqrt() * (-x / 2.0).exp(), 3),
    };
    for j in (first..=k).step_by(2) {
        sum += term;
        term *= x / j as f64;
    }
    sum
}

/// The 99th percentile of χ² with `k` degrees of freedom; infinite for none.
fn percentile_99(k: usize) -> f64 {
    if k == 0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 2.0 * k as f64 + 40.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if above(middle, k) > 0.01 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_tables() {
        for (k, x) in [(1, 6.634_897), (2, 9.210_340), (3, 11.344_867), (18, 34.805_306), (98, 133.475_667)] {
            assert!((percentile_99(k) - x).abs() < 1e-5, "{k}: {}", percentile_99(k));
        }
        assert!((above(3.0, 4) - 0.557_825_4).abs() < 1e-7);
    }

    #[test]
    fn figures_of_a_known_sample() {
        let mut rate = Rate::zeros(1, 4);
        rate.data = vec![12.0, 8.0, 12.0, 8.0];
        rate.err = vec![2.2; 4];
        rate.chi2 = vec![1.0, 1.0, 1.0, 5.0];
        rate.dq[2] = dq::JUMP_DET;
        let mut t = Tally::default();
        t.add(&rate, 10.0, 2.0, 18);
        assert_eq!((t.scatter(FREE).value, t.bias(FREE).value), (1.0, 0.0));
        assert!((t.quoted(FREE).value - 1.1).abs() < 1e-6 && t.bias(FREE).error == 0.5);
        assert_eq!((t.chi2(FREE).value, t.tail(FREE).value, t.flagged(FREE).value), (2.0, 0.25, 0.25));
        rate.data[0] = f32::NAN;
        t.add(&rate, 10.0, 2.0, 18);
        assert!(t.scatter(FREE).value.is_nan());
    }
}
