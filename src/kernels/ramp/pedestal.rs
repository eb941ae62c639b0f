//! What the reset left: the pedestal of each ramp with its covariance with the rate,
//! after the likelihood fit.
//!
//! The first usable read y of a ramp, at mean time t, is p + a·t and noise, of which
//! the differences d know a part: with c = cov(y, d₁), d₁ the difference after it,
//!
//! y − c·(C⁻¹(d − a·1))₁ = p + a·b + ε,  b = t − c·(C⁻¹1)₁,  var ε = var y − c²·(C⁻¹)₁₁
//!
//! where ε has nothing to do with d. So the pedestal follows from the rate, and a
//! pedestal that is known before (± σ) is one more datum for the rate. This is the
//! fit of Brandt (2024, PASP 136, 045004, section 6) in another order.

use super::super::real::Real;
use super::likelihood::Sums;
use super::reads::{Source, Work};
use super::{Plane, flag};

/// Of a ramp's pedestal: its value, variance and covariance with the rate; while
/// fitting, y − c·(C⁻¹(d − a·1))₁ − a·t, b and var ε. A variance of 0: there is none.
pub(super) type Pedestal<T, const L: usize> = [[T; L]; 3];

impl<T: Real> Source<'_, T> {
    /// Pedestals into `w`, about the rate `a`, photon rate `g`. Where they are known
    /// before, the sums `s` and the read part of their first gain that knowledge.
    pub(super) fn pedestals<const L: usize>(
        &self,
        w: &mut Work<T, L>,
        s: &mut Sums<T, L>,
        read: &mut [T; L],
        a: &[T; L],
        g: &[T; L],
    ) {
        let gain = self.lanes(Plane::Gain as usize, w);
        let known = self.p.prior_variance > 0.0;
        w.known = [T::ZERO; L];
        for l in 0..L {
            let prior = T::of(self.p.prior) * gain[l];
            let spread = T::of(self.p.prior_variance) * gain[l] * gain[l];
            for ramp in 0..w.pedestals.len() {
                let Some([z, b, variance]) = self.zero_read(w, ramp, l, gain[l], a[l], g[l]) else {
                    w.pedestals[ramp].iter_mut().for_each(|p| p[l] = T::ZERO);
                    continue;
                };
                w.pedestals[ramp][0][l] = z;
                w.pedestals[ramp][1][l] = b;
                w.pedestals[ramp][2][l] = variance;
                if known {
                    let weight = T::ONE / (variance + spread);
                    s.s0[l] += b * b * weight;
                    s.s1[l] += b * (z - prior) * weight;
                    s.s2[l] += (z - prior) * (z - prior) * weight;
                    read[l] += b * b * weight;
                    w.known[l] += T::ONE;
                }
            }
            let inv = T::ONE / s.s0[l].larger(T::ONE / T::HUGE);
            let off = s.s1[l] * inv;
            for pedestal in w.pedestals.iter_mut().filter(|p| p[2][l] > T::ZERO) {
                let datum = [pedestal[0][l], pedestal[1][l], pedestal[2][l]];
                let value = solve(datum, off, inv, known.then_some([prior, spread]));
                pedestal.iter_mut().zip(value).for_each(|(p, v)| p[l] = v);
            }
        }
    }

    /// What the first usable read of a ramp says beyond the differences; `None` where
    /// there is none before a jump.
    fn zero_read<const L: usize>(
        &self,
        w: &Work<T, L>,
        ramp: usize,
        l: usize,
        gain: T,
        a: T,
        g: T,
    ) -> Option<[T; 3]> {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let reads = self.p.reads as usize;
        let all = ramp * reads..(ramp + 1) * reads;
        let k = all.clone().find(|k| w.flags[*k][l] & LOST == 0)?;
        if (all.start..=k).any(|j| w.flags[j][l] & flag::JUMP_DET != 0) {
            return None;
        }
        let t = &self.tables;
        let linked = k + 1 < all.end && w.block.used[k][l] > T::ZERO;
        let after = if linked { w.block.solved(k..all.end - 1, l) } else { (T::ZERO, T::ZERO, T::ZERO) };
        let inv_dt = if linked { t.inv_dt[k] } else { T::ZERO };
        Some(datum(gain * w.y[k][l], w.block.r[k][l], t.time[k], t.lag[k], inv_dt, (a, g), after))
    }
}

/// z, b and var ε of a read `y` (e-) of variance `r` at `time` (s), its τ − t̄ being
/// `lag`, about rate `a` with photon rate `g`; the difference after it has
/// (C⁻¹(d − a·1), C⁻¹1, C⁻¹) = `after`, or `inv_dt` is 0.
fn datum<T: Real>(y: T, r: T, time: T, lag: T, inv_dt: T, (a, g): (T, T), after: (T, T, T)) -> [T; 3] {
    let c = -(g * lag + r) * inv_dt;
    let (v, h, q) = after;
    let variance = g * (time + lag) + r - c * c * q;
    [y - c * v - a * time, time - c * h, variance.larger(T::ONE / T::HUGE)]
}

/// The pedestal, its variance and its covariance with the rate, which was `off` from
/// where `datum` was taken and has the variance `inv`; `prior` is its value and
/// variance, where known.
fn solve<T: Real>([z, b, variance]: [T; 3], off: T, inv: T, prior: Option<[T; 2]>) -> [T; 3] {
    let (before, part) = match prior {
        Some([value, spread]) => (value, spread / (spread + variance)),
        None => (T::ZERO, T::ONE),
    };
    [before + part * (z - off * b - before), part * variance + part * part * b * b * inv, -(part * b * inv)]
}

#[cfg(test)]
mod tests {
    use super::super::Tables;
    use super::super::likelihood::Block;
    use super::*;
    use crate::kernels::stored_tests::cases;

    const FITRAMP: &str = include_str!("../../../testdata/oracle/fitramp_pedestal.json");

    /// Brandt's own program, to its digits.
    #[test]
    fn fitramps_pedestals_are_met() {
        for case in cases(FITRAMP) {
            let d = case.array("in_diffs");
            let (sigma, guess) = (case.array("in_sig"), case.array("in_guess"));
            let pattern = case.meta["read_times"].as_array().expect("times");
            let times: Vec<f64> = pattern.iter().map(|r| r[0].as_f64().expect("one time")).collect();
            let (n, pixels) = (times.len(), sigma.len());
            let t = Tables::new(&times, &vec![1; n], 0.0, n);
            for i in 0..pixels {
                let mut block = Block::<f64, 1>::new(n - 1);
                for k in 0..n - 1 {
                    block.d[k] = [d[(k + 1) * pixels + i]];
                    block.used[k] = [1.0];
                }
                block.read_variance(&t, &[sigma[i] * sigma[i]]);
                let sums = block.forward(&t, &[guess[i]], &[guess[i]]);
                let y = d[i] * times[0];
                let z = datum(
                    y,
                    sigma[i] * sigma[i],
                    times[0],
                    0.0,
                    t.inv_dt[0],
                    (guess[i], guess[i]),
                    block.solved(0..n - 1, 0),
                );
                let near = |got: f64, name: &str| {
                    let expected = case.array(name)[i];
                    let off = (got - expected).abs() / expected.abs();
                    assert!(off < 1e-8, "{} pixel {i}: {name} {got} against {expected}", case.id);
                };
                let (s0, s1) = (sums.s0[0], sums.s1[0]);
                let [pedestal, variance, covariance] = solve(z, s1 / s0, 1.0 / s0, None);
                near(guess[i] + s1 / s0, "out_countrate");
                near(pedestal, "out_pedestal");
                near(variance.sqrt(), "out_uncert_pedestal");
                near(covariance, "out_covar");
                // Known to be 900 ± 50; but fitramp divides the covariance by its scale
                // and not the prior, which makes that wider.
                let read = sigma[i] * sigma[i];
                let first = ((guess[i] * times[0] + read) / times[0].powi(2)).ln();
                let diagonal = |k: usize| (guess[i] * t.ap[k] + 2.0 * read * t.ar[k]).ln();
                let scale = (((0..n - 1).map(diagonal).sum::<f64>() + first) / n as f64).exp();
                let spread = 2500.0 * scale;
                let weight = 1.0 / (z[2] + spread);
                let s0 = s0 + z[1] * z[1] * weight;
                let s1 = s1 + z[1] * (z[0] - 900.0) * weight;
                let [pedestal, ..] = solve(z, s1 / s0, 1.0 / s0, Some([900.0, spread]));
                near(guess[i] + s1 / s0, "out_prior_countrate");
                near((1.0 / s0).sqrt(), "out_prior_uncert");
                near(pedestal, "out_prior_pedestal");
            }
        }
    }
}
