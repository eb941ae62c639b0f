//! How well a jump's charge is known.

use super::tables::Tables;

/// Errors of jumps' amplitudes in an exposure, all of whose reads are usable.
#[derive(Debug, Clone)]
pub struct Amplitudes {
    tables: Tables<f64>,
    /// w, 1/D and the link of each difference.
    kept: Vec<[f64; 3]>,
}

impl Amplitudes {
    /// For an exposure with these times (see [`Tables::new`]).
    pub fn new(times: &[f64], nsample: &[u16], frame_time: f64, reads: usize) -> Amplitudes {
        Amplitudes { tables: Tables::new(times, nsample, frame_time, reads), kept: Vec::new() }
    }

    /// Seconds from read `k - 1` to read `k`; `None` over a reset.
    pub fn seconds(&self, k: usize) -> Option<f64> {
        let inv = *self.tables.inv_dt.get(k.checked_sub(1)?)?;
        (inv > 0.0).then(|| 1.0 / inv)
    }

    /// 1 σ of the charge, e-, between reads `k - 1` and `k`, by itself: at `rate` e-/s
    /// with the variance `s2` of a read, e-².
    pub fn of_difference(&self, rate: f64, s2: f64, k: usize) -> f64 {
        let Some(seconds) = self.seconds(k) else { return f64::INFINITY };
        self.covariance(rate.max(0.0), s2, k - 1).0.sqrt() * seconds
    }

    /// Variance of difference `i`, and its covariance with the one before.
    fn covariance(&self, g: f64, s2: f64, i: usize) -> (f64, f64) {
        let t = &self.tables;
        let read = s2 * (t.inv_n[i] + t.inv_n[i + 1]) * t.ar[i];
        (g * t.ap[i] + read, g * t.bp[i] + s2 * t.inv_n[i] * t.br[i])
    }

    /// 1 σ of a step of charge, e-, between reads `k - 1` and `k` as the whole ramp
    /// tells it, its rate unknown: 1/√P of the omission of that difference (see
    /// `likelihood.rs`). A step of one such σ shifts the rate by as much as leaving
    /// the difference out adds to its error.
    pub fn of_step(&mut self, rate: f64, s2: f64, k: usize) -> f64 {
        let Some(seconds) = self.seconds(k) else { return f64::INFINITY };
        let g = rate.max(0.0);
        let n = self.tables.inv_dt.len() - 1;
        self.kept.clear();
        let (mut s0, mut w, mut inv, mut before) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n {
            let used = if self.tables.inv_dt[i] > 0.0 { 1.0 } else { 0.0 };
            let (own, beside) = self.covariance(g, s2, i);
            let beside = beside * used * before;
            let link = beside * inv;
            inv = 1.0 / (own - beside * link);
            w = (1.0 - link * w) * used;
            s0 += w * w * inv;
            before = used;
            self.kept.push([w, inv, link]);
        }
        let (mut h, mut q, mut link) = (0.0, 0.0, 0.0);
        for [w, inv, own] in self.kept[k - 1..].iter().rev() {
            h = w * inv - link * h;
            q = inv + link * link * q;
            link = *own;
        }
        let p: f64 = q - h * h / s0;
        if p > 0.0 { seconds / p.sqrt() } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_noise_alone_gives_the_difference_of_two_lines() {
        // A step in pure read noise: a straight line and a step fitted to n reads.
        let (n, k, s2) = (12usize, 5usize, 81.0);
        let times: Vec<f64> = (1..=n).map(|i| i as f64 * 2.0).collect();
        let mut a = Amplitudes::new(&times, &vec![1; n], 0.0, n);
        // Normal matrix of (level, slope, step), inverted by hand for the step.
        let (mut m, x): ([[f64; 3]; 3], _) =
            ([[0.0; 3]; 3], |i: usize| [1.0, times[i], f64::from(u8::from(i >= k))]);
        for i in 0..n {
            for (r, row) in m.iter_mut().enumerate() {
                (0..3).for_each(|c| row[c] += x(i)[r] * x(i)[c]);
            }
        }
        let det2 = m[0][0] * m[1][1] - m[0][1] * m[1][0];
        let det3 = (0..3).map(|c| {
            let (d, e) = ((c + 1) % 3, (c + 2) % 3);
            m[0][c] * (m[1][d] * m[2][e] - m[1][e] * m[2][d])
        });
        let expected = (s2 * det2 / det3.sum::<f64>()).sqrt();
        assert!((a.of_step(0.0, s2, k) / expected - 1.0).abs() < 1e-10);
        assert!((a.of_difference(0.0, s2, k) - (2.0 * s2).sqrt()).abs() < 1e-12);
        assert!(a.of_step(0.0, s2, k) < a.of_difference(0.0, s2, k));
    }

    #[test]
    fn photons_alone_give_the_difference_and_its_expectation() {
        let times: Vec<f64> = (1..=9).map(f64::from).collect();
        let mut a = Amplitudes::new(&times, &[1; 9], 0.0, 9);
        // One of eight independent differences against the mean of the other seven.
        let expected = (50.0f64 * (1.0 + 1.0 / 7.0)).sqrt();
        assert!((a.of_step(50.0, 1e-12, 4) / expected - 1.0).abs() < 1e-9);
        assert_eq!(a.of_step(50.0, 1.0, 0), f64::INFINITY);
    }
}
