//! The exact likelihood of a ramp's differences: generalised least squares with
//! their tridiagonal covariance (Brandt 2024, PASP 136, 045004 and 045005), as a
//! forward LDLᵀ recursion of three running sums and a backward pass that gives
//! every weight and every omission at once.
//!
//! Differences are d_i = g·(y_{i+1} − y_i)/Δ_i in e-/s; cov(d) has the diagonal
//! a·ap_i + (r_i + r_{i+1})·ar_i and the neighbour terms a·bp_i + r_i·br_i, with a
//! the photon rate and r_k the variance of read k. An omitted difference is a row
//! and column struck out, which cuts the recursion in two there.

use std::ops::Range;

use super::super::real::Real;
use super::tables::Tables;

/// What the recursions keep for every difference of a block of `L` pixels.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct Block<T, const L: usize> {
    /// Differences, e-/s; 0 where unusable.
    pub(in crate::kernels) d: Vec<[T; L]>,
    /// 1 where usable, else 0.
    pub(in crate::kernels) used: Vec<[T; L]>,
    /// Variance of each read, e-².
    pub(in crate::kernels) r: Vec<[T; L]>,
    z: Vec<[T; L]>,
    w: Vec<[T; L]>,
    inv: Vec<[T; L]>,
    link: Vec<[T; L]>,
}

/// The sums of a forward pass: 1'C⁻¹1, 1'C⁻¹(d − a0), (d − a0)'C⁻¹(d − a0).
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Sums<T, const L: usize> {
    pub(in crate::kernels) s0: [T; L],
    pub(in crate::kernels) s1: [T; L],
    pub(in crate::kernels) s2: [T; L],
}

/// The best omission of each pixel: gain in χ² and the first difference dropped.
///
/// The gain of two is that of the better one alone and what the other adds to it,
/// kept apart: a large jump's gain is so large that its last digits are worth more
/// than a threshold, but the same single's gain cancels exactly in comparisons.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Omission<T, const L: usize> {
    pub(in crate::kernels) gain: [T; L],
    pub(in crate::kernels) extra: [T; L],
    pub(in crate::kernels) at: [i32; L],
}

impl<T: Real, const L: usize> Omission<T, L> {
    #[inline(always)]
    fn raise(&mut self, gain: &[T; L], extra: &[T; L], at: usize) {
        for l in 0..L {
            let better = (gain[l] - self.gain[l]) + (extra[l] - self.extra[l]) > T::ZERO;
            self.gain[l] = if better { gain[l] } else { self.gain[l] };
            self.extra[l] = if better { extra[l] } else { self.extra[l] };
            self.at[l] = if better { at as i32 } else { self.at[l] };
        }
    }

    /// Whether the gain of pixel `l` exceeds `least`.
    #[inline(always)]
    pub(in crate::kernels) fn exceeds(&self, l: usize, least: T) -> bool {
        self.gain[l] + self.extra[l] > least
    }

    /// Whether this gain exceeds `other`'s by more than `margin`.
    #[inline(always)]
    pub(in crate::kernels) fn leads(&self, other: &Self, l: usize, margin: T) -> bool {
        (self.gain[l] - other.gain[l]) + (self.extra[l] - other.extra[l]) > margin
    }
}

impl<T: Real, const L: usize> Block<T, L> {
    pub(in crate::kernels) fn new(differences: usize) -> Self {
        let zeros = || vec![[T::ZERO; L]; differences];
        let r = vec![[T::ZERO; L]; differences + 1];
        Block { d: zeros(), used: zeros(), r, z: zeros(), w: zeros(), inv: zeros(), link: zeros() }
    }

    /// Gives read k, an average of N_k, the variance `s2`/N_k.
    #[inline(always)]
    pub(in crate::kernels) fn read_variance(&mut self, t: &Tables<T>, s2: &[T; L]) {
        for (row, inv_n) in self.r.iter_mut().zip(&t.inv_n) {
            let (inv_n, mut r) = (*inv_n, [T::ZERO; L]);
            for l in 0..L {
                r[l] = s2[l] * inv_n;
            }
            *row = r;
        }
    }

    /// Usable differences of each pixel.
    #[inline(always)]
    pub(in crate::kernels) fn count(&self) -> [T; L] {
        let mut n = [T::ZERO; L];
        for u in &self.used {
            for l in 0..L {
                n[l] += u[l];
            }
        }
        n
    }

    /// The largest difference in use of lane `l`: of two, either omission leaves no
    /// χ², and a hit adds charge.
    pub(in crate::kernels) fn largest(&self, l: usize) -> usize {
        let (mut at, mut most) = (0, -T::HUGE);
        for (i, (d, used)) in self.d.iter().zip(&self.used).enumerate() {
            if used[l] > T::ZERO && d[l] > most {
                (at, most) = (i, d[l]);
            }
        }
        at
    }

    /// Mean of the usable differences without the largest and the smallest (of
    /// fewer than three, the mean of all): a start that one jump cannot pull.
    #[inline(always)]
    pub(in crate::kernels) fn trimmed_mean(&self) -> [T; L] {
        let (mut sum, mut n) = ([T::ZERO; L], [T::ZERO; L]);
        let (mut low, mut high) = ([T::HUGE; L], [-T::HUGE; L]);
        for (d, u) in self.d.iter().zip(&self.used) {
            let (d, u) = (*d, *u);
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

    /// Forward pass with photon rate `g`, about `a0`.
    #[inline(always)]
    pub(in crate::kernels) fn forward(&mut self, t: &Tables<T>, g: &[T; L], a0: &[T; L]) -> Sums<T, L> {
        self.pass::<true>(t, g, a0)
    }

    /// The same where no backward pass follows: nothing is kept, and s2 is left out.
    #[inline(always)]
    pub(in crate::kernels) fn sums(&mut self, t: &Tables<T>, g: &[T; L], a0: &[T; L]) -> Sums<T, L> {
        self.pass::<false>(t, g, a0)
    }

    #[inline(always)]
    fn pass<const KEEP: bool>(&mut self, t: &Tables<T>, g: &[T; L], a0: &[T; L]) -> Sums<T, L> {
        let mut s = Sums { s0: [T::ZERO; L], s1: [T::ZERO; L], s2: [T::ZERO; L] };
        let (mut z, mut w, mut inv, mut before) = ([T::ZERO; L], [T::ZERO; L], [T::ZERO; L], [T::ZERO; L]);
        // Every row is copied out and back: the compiler vectorises loops over local
        // arrays, and cannot tell that rows of a `Vec` do not overlap.
        let n = self.d.len();
        let (ds, useds, rs) = (&self.d[..n], &self.used[..n], &self.r[..=n]);
        let (zs, ws, invs, links) =
            (&mut self.z[..n], &mut self.w[..n], &mut self.inv[..n], &mut self.link[..n]);
        let (aps, ars, bps, brs) = (&t.ap[..n], &t.ar[..n], &t.bp[..n], &t.br[..n]);
        for i in 0..n {
            let (ap, ar, bp, br) = (aps[i], ars[i], bps[i], brs[i]);
            let (d, u, r0, r1) = (ds[i], useds[i], rs[i], rs[i + 1]);
            let mut link = [T::ZERO; L];
            for l in 0..L {
                let be = (g[l] * bp + r0[l] * br) * (u[l] * before[l]);
                link[l] = be * inv[l];
                inv[l] = T::ONE / (g[l] * ap + (r0[l] + r1[l]) * ar - be * link[l]);
            }
            for l in 0..L {
                z[l] = (d[l] - a0[l] - link[l] * z[l]) * u[l];
                w[l] = (T::ONE - link[l] * w[l]) * u[l];
            }
            for l in 0..L {
                let wi = w[l] * inv[l];
                s.s0[l] += wi * w[l];
                s.s1[l] += wi * z[l];
                if KEEP {
                    s.s2[l] += z[l] * inv[l] * z[l];
                }
            }
            before = u;
            if KEEP {
                links[i] = link;
                zs[i] = z;
                ws[i] = w;
                invs[i] = inv;
            }
        }
        s
    }

    /// The best single and double omission, from the last forward pass. With v and
    /// P of two neighbours, dropping the first gains v₁²/P₁, and the second besides it
    /// (v₂ − v₁P₁₂/P₁)² / (P₂ − P₁₂²/P₁).
    #[inline(always)]
    pub(in crate::kernels) fn omissions(
        &self,
        t: &Tables<T>,
        s: &Sums<T, L>,
    ) -> (Omission<T, L>, Omission<T, L>) {
        let none = Omission { gain: [T::ZERO; L], extra: [T::ZERO; L], at: [-1; L] };
        let zero = [T::ZERO; L];
        let (mut one, mut two) = (none, none);
        let (mut gg, mut h, mut q) = ([T::ZERO; L], [T::ZERO; L], [T::ZERO; L]);
        let (mut v_next, mut p_next, mut used_next) = ([T::ZERO; L], [T::ONE; L], [T::ZERO; L]);
        let mut gain_next = [T::ZERO; L];
        let mut link = [T::ZERO; L];
        let (mut da, mut inv_s0) = ([T::ZERO; L], [T::ZERO; L]);
        for l in 0..L {
            inv_s0[l] = T::ONE / s.s0[l].larger(T::ONE / T::HUGE);
            da[l] = s.s1[l] * inv_s0[l];
        }
        let n = self.d.len();
        let (useds, zs, ws) = (&self.used[..n], &self.z[..n], &self.w[..n]);
        let (invs, links, pairs) = (&self.inv[..n], &self.link[..n], &t.pair[..n]);
        for i in (0..n).rev() {
            let (u, z, w, inv) = (useds[i], zs[i], ws[i], invs[i]);
            let (h_next, q_next) = (h, q);
            let (mut v, mut p, mut gain) = ([T::ZERO; L], [T::ZERO; L], [T::ZERO; L]);
            for l in 0..L {
                gg[l] = z[l] * inv[l] - link[l] * gg[l];
                h[l] = w[l] * inv[l] - link[l] * h[l];
                q[l] = inv[l] + link[l] * link[l] * q[l];
            }
            for l in 0..L {
                v[l] = gg[l] - da[l] * h[l];
                p[l] = (q[l] - h[l] * h[l] * inv_s0[l]).larger(T::ONE / T::HUGE);
                gain[l] = v[l] * v[l] / p[l] * u[l];
            }
            one.raise(&gain, &zero, i);
            if pairs[i] > T::ZERO {
                let (mut better, mut extra) = ([T::ZERO; L], [T::ZERO; L]);
                for l in 0..L {
                    let p12 = -(link[l] * q_next[l]) - h[l] * h_next[l] * inv_s0[l];
                    let first = gain[l] > gain_next[l];
                    let (v1, p1) = if first { (v[l], p[l]) } else { (v_next[l], p_next[l]) };
                    let (v2, p2) = if first { (v_next[l], p_next[l]) } else { (v[l], p[l]) };
                    let share = p12 / p1;
                    let rest = v2 - v1 * share;
                    let both = u[l] * used_next[l];
                    better[l] = gain[l].larger(gain_next[l]) * both;
                    extra[l] = rest * rest / (p2 - p12 * share).larger(T::ONE / T::HUGE) * both;
                }
                two.raise(&better, &extra, i);
            }
            (v_next, p_next, used_next, gain_next) = (v, p, u, gain);
            link = links[i];
        }
        (one, two)
    }

    /// C⁻¹(d − a0), C⁻¹1 and the diagonal of C⁻¹ at the first of a ramp's differences
    /// `of`, in lane `l`, from the last forward pass.
    pub(in crate::kernels) fn solved(&self, of: Range<usize>, l: usize) -> (T, T, T) {
        let (mut v, mut h, mut q, mut link) = (T::ZERO, T::ZERO, T::ZERO, T::ZERO);
        for i in of.rev() {
            v = self.z[i][l] * self.inv[i][l] - link * v;
            h = self.w[i][l] * self.inv[i][l] - link * h;
            q = self.inv[i][l] + link * link * q;
            link = self.link[i][l];
        }
        (v, h, q)
    }

    /// Sums of squares of the weights h: h'Cₚh for a photon rate of 1 and h'Cᵣh
    /// (photon and read parts of the covariance), from the last forward pass.
    #[inline(always)]
    pub(in crate::kernels) fn parts(&self, t: &Tables<T>) -> ([T; L], [T; L]) {
        let (mut photon, mut read) = ([T::ZERO; L], [T::ZERO; L]);
        let (mut h, mut link, mut bp, mut br) = ([T::ZERO; L], [T::ZERO; L], T::ZERO, T::ZERO);
        let n = self.d.len();
        let (ws, invs, links, rs) = (&self.w[..n], &self.inv[..n], &self.link[..n], &self.r[..=n]);
        let (aps, ars, bps, brs) = (&t.ap[..n], &t.ar[..n], &t.bp[..n], &t.br[..n]);
        for i in (0..n).rev() {
            let (w, inv, next) = (ws[i], invs[i], h);
            let (ap, ar, r0, r1) = (aps[i], ars[i], rs[i], rs[i + 1]);
            for l in 0..L {
                h[l] = w[l] * inv[l] - link[l] * h[l];
            }
            for l in 0..L {
                let cross = T::of(2.0) * h[l] * next[l];
                photon[l] += ap * h[l] * h[l] + bp * cross;
                read[l] += (r0[l] + r1[l]) * ar * h[l] * h[l] + r1[l] * br * cross;
            }
            link = links[i];
            (bp, br) = (bps[i], brs[i]);
        }
        (photon, read)
    }
}
