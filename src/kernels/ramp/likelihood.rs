//! The exact likelihood of a ramp's differences: generalised least squares with
//! their tridiagonal covariance (Brandt 2024, PASP 136, 045004 and 045005), as a
//! forward LDLᵀ recursion of three running sums and a backward pass that gives
//! every weight and every omission at once.
//!
//! Differences are d_i = g·(y_{i+1} − y_i)/Δ_i in e-/s; cov(d) has the diagonal
//! a·ap_i + s²·ar_i and the neighbour terms a·bp_i + s²·br_i, with a the photon
//! rate and s² the variance of a single read. An omitted difference is a row and
//! column struck out, which cuts the recursion in two there.

use super::super::real::Real;
use super::tables::Tables;

/// What the recursions keep for every difference of a block of `L` pixels.
#[derive(Debug, Clone)]
pub(super) struct Block<T, const L: usize> {
    /// Differences, e-/s; 0 where unusable.
    pub(super) d: Vec<[T; L]>,
    /// 1 where usable, else 0.
    pub(super) used: Vec<[T; L]>,
    z: Vec<[T; L]>,
    w: Vec<[T; L]>,
    inv: Vec<[T; L]>,
    link: Vec<[T; L]>,
}

/// The sums of a forward pass: 1'C⁻¹1, 1'C⁻¹(d − a0), (d − a0)'C⁻¹(d − a0).
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<T, const L: usize> {
    pub(super) s0: [T; L],
    pub(super) s1: [T; L],
    pub(super) s2: [T; L],
}

/// The best omission of each pixel: gain in χ² and the first difference dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Omission<T, const L: usize> {
    pub(super) gain: [T; L],
    pub(super) at: [i32; L],
}

impl<T: Real, const L: usize> Block<T, L> {
    pub(super) fn new(differences: usize) -> Self {
        let zeros = || vec![[T::ZERO; L]; differences];
        Block { d: zeros(), used: zeros(), z: zeros(), w: zeros(), inv: zeros(), link: zeros() }
    }

    /// Usable differences of each pixel.
    #[inline(always)]
    pub(super) fn count(&self) -> [T; L] {
        let mut n = [T::ZERO; L];
        for u in &self.used {
            for l in 0..L {
                n[l] += u[l];
            }
        }
        n
    }

    /// Mean of the usable differences without the largest and the smallest (of
    /// fewer than three, the mean of all): a start that one jump cannot pull.
    #[inline(always)]
    pub(super) fn trimmed_mean(&self) -> [T; L] {
        let (mut sum, mut n) = ([T::ZERO; L], [T::ZERO; L]);
        let (mut low, mut high) = ([T::HUGE; L], [-T::HUGE; L]);
        for (d, u) in self.d.iter().zip(&self.used) {
            for l in 0..L {
                let on = u[l] > T::ZERO;
                sum[l] += d[l] * u[l];
                n[l] += u[l];
                low[l] = if on { low[l].smaller(d[l]) } else { low[l] };
                high[l] = if on { high[l].larger(d[l]) } else { high[l] };
            }
        }
        let mut mean = [T::ZERO; L];
        for l in 0..L {
            let trim = n[l] > T::of(2.5);
            let total = if trim { sum[l] - low[l] - high[l] } else { sum[l] };
            let count = if trim { n[l] - T::of(2.0) } else { n[l].larger(T::ONE) };
            mean[l] = total / count;
        }
        mean
    }

    /// Forward pass with photon rate `g` and read variance `s2`, about `a0`.
    #[inline(always)]
    pub(super) fn forward(&mut self, t: &Tables<T>, g: &[T; L], s2: &[T; L], a0: &[T; L]) -> Sums<T, L> {
        let mut s = Sums { s0: [T::ZERO; L], s1: [T::ZERO; L], s2: [T::ZERO; L] };
        let (mut z, mut w, mut inv, mut before) = ([T::ZERO; L], [T::ZERO; L], [T::ZERO; L], [T::ZERO; L]);
        for i in 0..self.d.len() {
            let (ap, ar, bp, br) = (t.ap[i], t.ar[i], t.bp[i], t.br[i]);
            let (d, u) = (&self.d[i], &self.used[i]);
            for l in 0..L {
                let be = (g[l] * bp + s2[l] * br) * (u[l] * before[l]);
                let link = be * inv[l];
                inv[l] = T::ONE / (g[l] * ap + s2[l] * ar - be * link);
                z[l] = (d[l] - a0[l] - link * z[l]) * u[l];
                w[l] = (T::ONE - link * w[l]) * u[l];
                let wi = w[l] * inv[l];
                s.s0[l] += wi * w[l];
                s.s1[l] += wi * z[l];
                s.s2[l] += z[l] * inv[l] * z[l];
                before[l] = u[l];
                self.link[i][l] = link;
            }
            self.z[i] = z;
            self.w[i] = w;
            self.inv[i] = inv;
        }
        s
    }

    /// The best single and double omission, from the last forward pass.
    #[inline(always)]
    pub(super) fn omissions(&self, t: &Tables<T>, s: &Sums<T, L>) -> (Omission<T, L>, Omission<T, L>) {
        let none = Omission { gain: [T::ZERO; L], at: [-1; L] };
        let (mut one, mut two) = (none, none);
        let (mut gg, mut h, mut q) = ([T::ZERO; L], [T::ZERO; L], [T::ZERO; L]);
        let (mut v_next, mut p_next, mut used_next) = ([T::ZERO; L], [T::ONE; L], [T::ZERO; L]);
        let mut link = [T::ZERO; L];
        let (mut da, mut inv_s0) = ([T::ZERO; L], [T::ZERO; L]);
        for l in 0..L {
            inv_s0[l] = T::ONE / s.s0[l].larger(T::ONE / T::HUGE);
            da[l] = s.s1[l] * inv_s0[l];
        }
        for i in (0..self.d.len()).rev() {
            let u = &self.used[i];
            let pairs = t.pair[i] > T::ZERO;
            for l in 0..L {
                let off = -(link[l] * q[l]);
                let h_next = h[l];
                gg[l] = self.z[i][l] * self.inv[i][l] - link[l] * gg[l];
                h[l] = self.w[i][l] * self.inv[i][l] - link[l] * h[l];
                q[l] = self.inv[i][l] + link[l] * link[l] * q[l];
                let v = gg[l] - da[l] * h[l];
                let p = (q[l] - h[l] * h[l] * inv_s0[l]).larger(T::ONE / T::HUGE);
                let gain = v * v / p * u[l];
                let better = gain > one.gain[l];
                one.gain[l] = if better { gain } else { one.gain[l] };
                one.at[l] = if better { i as i32 } else { one.at[l] };
                if pairs {
                    let p12 = off - h[l] * h_next * inv_s0[l];
                    let det = (p * p_next[l] - p12 * p12).larger(T::ONE / T::HUGE);
                    let (a, b) = (v, v_next[l]);
                    let gain = (a * a * p_next[l] - T::of(2.0) * a * b * p12 + b * b * p) / det;
                    let gain = gain * u[l] * used_next[l];
                    let better = gain > two.gain[l];
                    two.gain[l] = if better { gain } else { two.gain[l] };
                    two.at[l] = if better { i as i32 } else { two.at[l] };
                }
                v_next[l] = v;
                p_next[l] = p;
                used_next[l] = u[l];
                link[l] = self.link[i][l];
            }
        }
        (one, two)
    }

    /// Sums of squares of the weights h: h'Cₚh and h'Cᵣh (photon and read parts of
    /// the covariance), from the last forward pass.
    #[inline(always)]
    pub(super) fn parts(&self, t: &Tables<T>) -> ([T; L], [T; L]) {
        let (mut photon, mut read) = ([T::ZERO; L], [T::ZERO; L]);
        let (mut h, mut link, mut bp, mut br) = ([T::ZERO; L], [T::ZERO; L], T::ZERO, T::ZERO);
        for i in (0..self.d.len()).rev() {
            for l in 0..L {
                let next = h[l];
                h[l] = self.w[i][l] * self.inv[i][l] - link[l] * h[l];
                let cross = T::of(2.0) * h[l] * next;
                photon[l] += t.ap[i] * h[l] * h[l] + bp * cross;
                read[l] += t.ar[i] * h[l] * h[l] + br * cross;
                link[l] = self.link[i][l];
            }
            (bp, br) = (t.bp[i], t.br[i]);
        }
        (photon, read)
    }
}
