//! What all pixels of an exposure share: times and covariance factors.

use super::super::real::Real;

/// Per-read and per-difference tables of an exposure whose ramps are one sequence
/// of reads; difference i lies between reads i and i + 1, and those that span a
/// reset have `inv_dt` = 0 and are never used.
///
/// With N_k reads averaged at mean time t̄_k and τ_k = Σ_j (2N_k+1−2j) t_kj / N_k²
/// (Brandt 2024, eq. 9–14) the photon rate a and the variances r_k of the reads give
/// the diagonal a·ap + (r_i + r_{i+1})·ar and, between differences i−1 and i, the term
/// a·bp + r_i·br: ap = (τ_i + τ_{i+1} − 2 t̄_i)/Δ², ar = 1/Δ², bp = (t̄_i − τ_i)/(Δ_{i−1}Δ_i),
/// br = −1/(Δ_{i−1}Δ_i).
#[derive(Debug, Clone, PartialEq)]
pub struct Tables<T> {
    /// 1/Δ, s⁻¹.
    pub(in crate::kernels) inv_dt: Vec<T>,
    /// Photon part of the diagonal.
    pub(super) ap: Vec<T>,
    /// Read part of the diagonal.
    pub(super) ar: Vec<T>,
    /// Photon part of the link to the difference before.
    pub(super) bp: Vec<T>,
    /// Read part of the link to the difference before.
    pub(super) br: Vec<T>,
    /// 1 where differences i and i + 1 may be dropped together: the read they
    /// share is an average, which a hit can split.
    pub(super) pair: Vec<T>,
    /// Mean time of read k, s.
    pub(in crate::kernels) time: Vec<T>,
    /// 1/N of read k.
    pub(in crate::kernels) inv_n: Vec<T>,
    /// τ − t̄ of read k, s.
    pub(super) lag: Vec<T>,
}

/// Number of arrays in [`Tables`], each one entry a read, when laid end to end.
pub(super) const ARRAYS: usize = 9;

impl Tables<f64> {
    /// Tables from mean times (`ramps` × `reads`, s since each ramp's reset), the
    /// number of frames averaged in each read, and the time between those frames.
    pub fn new(times: &[f64], nsample: &[u16], frame_time: f64, reads: usize) -> Tables<f64> {
        let n = times.len();
        let lag = |k: usize| {
            // τ − t̄ = −(N² − 1)/(6N)·δ for N frames δ apart.
            let count = f64::from(nsample[k].max(1));
            -(count * count - 1.0) / (6.0 * count) * frame_time
        };
        let mut t = Tables {
            inv_dt: vec![0.0; n],
            ap: vec![1.0; n],
            ar: vec![1.0; n],
            bp: vec![0.0; n],
            br: vec![0.0; n],
            pair: vec![0.0; n],
            time: times.to_vec(),
            inv_n: nsample.iter().map(|&c| 1.0 / f64::from(c.max(1))).collect(),
            lag: (0..n).map(lag).collect(),
        };
        for i in 0..n.saturating_sub(1) {
            if (i + 1) % reads == 0 {
                continue;
            }
            let inv = 1.0 / (times[i + 1] - times[i]);
            t.inv_dt[i] = inv;
            t.ap[i] = (t.lag[i] + t.lag[i + 1] + times[i + 1] - times[i]) * inv * inv;
            t.ar[i] = inv * inv;
            if i % reads != 0 {
                let both = inv * t.inv_dt[i - 1];
                t.bp[i] = -t.lag[i] * both;
                t.br[i] = -both;
                t.pair[i - 1] = if nsample[i] > 1 { 1.0 } else { 0.0 };
            }
        }
        t
    }

    /// The arrays end to end, as the kernel's buffer holds them.
    pub fn to_words(&self) -> Vec<u32> {
        [&self.inv_dt, &self.ap, &self.ar, &self.bp, &self.br, &self.pair, &self.time, &self.inv_n, &self.lag]
            .into_iter()
            .flatten()
            .map(|v| (*v as f32).to_bits())
            .collect()
    }
}

impl<T: Real> Tables<T> {
    /// Back from a buffer of `n` entries an array.
    pub(in crate::kernels) fn from_floats(words: &[f32], n: usize) -> Tables<T> {
        let array = |i: usize| words[i * n..(i + 1) * n].iter().map(|v| T::of(*v)).collect();
        Tables {
            inv_dt: array(0),
            ap: array(1),
            ar: array(2),
            bp: array(3),
            br: array(4),
            pair: array(5),
            time: array(6),
            inv_n: array(7),
            lag: array(8),
        }
    }

    /// The tables of one ramp of `reads`.
    pub(in crate::kernels) fn of_ramp(&self, ramp: usize, reads: usize) -> Tables<T> {
        let part = |all: &Vec<T>| all[ramp * reads..(ramp + 1) * reads].to_vec();
        Tables {
            inv_dt: part(&self.inv_dt),
            ap: part(&self.ap),
            ar: part(&self.ar),
            bp: part(&self.bp),
            br: part(&self.br),
            pair: part(&self.pair),
            time: part(&self.time),
            inv_n: part(&self.inv_n),
            lag: part(&self.lag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaged_reads_have_the_published_covariance() {
        // Two resultants of N frames each, by direct summation of the definition.
        let (n, dt) = (4usize, 1.5);
        let frames = |k: usize| (0..n).map(move |j| (k * (n + 1) + j + 1) as f64 * dt).collect::<Vec<_>>();
        let mean = |f: &[f64]| f.iter().sum::<f64>() / n as f64;
        let tau = |f: &[f64]| {
            f.iter().enumerate().map(|(j, t)| (2.0 * (n - j) as f64 - 1.0) * t).sum::<f64>() / (n * n) as f64
        };
        let (f0, f1) = (frames(0), frames(1));
        let times = [mean(&f0), mean(&f1)];
        let t = Tables::new(&times, &[n as u16; 2], dt, 2);
        let delta = times[1] - times[0];
        let expected = (tau(&f0) + tau(&f1) - 2.0 * times[0]) / (delta * delta);
        assert!((t.ap[0] - expected).abs() < 1e-12 * expected);
        assert!((t.lag[0] - (tau(&f0) - times[0])).abs() < 1e-12);
    }

    #[test]
    fn resets_cut_the_sequence() {
        let times = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0];
        let t = Tables::new(&times, &[1; 6], 0.0, 3);
        assert_eq!(t.inv_dt, vec![1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(t.br, vec![0.0, -1.0, 0.0, 0.0, -1.0, 0.0]);
    }
}
