//! The rate of a block of pixels: differences, jumps, fit.

use super::super::real::Real;
use super::lines::{self, Line};
use super::pedestal::Pedestal;
use super::reads::{Source, Work};
use super::{NAN, OUT_PLANES, Out, Plane, algorithm, flag, stage};

impl<T: Real> Source<'_, T> {
    /// Differences in e-/s, and which are usable.
    #[inline(always)]
    pub(super) fn differences<const L: usize>(&self, w: &mut Work<T, L>) {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let gain = self.lanes(Plane::Gain as usize, w);
        let n = w.block.d.len();
        let (ys, flags, inv_dt) = (&w.y[..=n], &w.flags[..=n], &self.tables.inv_dt[..n]);
        let (ds, useds) = (&mut w.block.d[..n], &mut w.block.used[..n]);
        for i in 0..n {
            let inv = inv_dt[i];
            let gap = u32::from(inv == T::ZERO);
            let (y0, y1, f0, f1) = (ys[i], ys[i + 1], flags[i], flags[i + 1]);
            let (mut d, mut used) = ([T::ZERO; L], [T::ZERO; L]);
            for l in 0..L {
                let lost = (f0[l] | f1[l]) & LOST | f1[l] & flag::JUMP_DET | gap;
                let value = gain[l] * ((y1[l] - y0[l]) * inv);
                d[l] = if lost == 0 { value } else { T::ZERO };
                used[l] = if lost == 0 { T::ONE } else { T::ZERO };
            }
            ds[i] = d;
            useds[i] = used;
        }
    }

    /// Drops the differences that a hit spoils, best first, and flags the reads
    /// after them. Returns the rate of the last fit.
    #[inline(always)]
    pub(super) fn jumps<const L: usize>(&self, w: &mut Work<T, L>, dark: &[T; L]) -> [T; L] {
        let (one_min, two_min) = (T::of(self.p.threshold_one), T::of(self.p.threshold_two));
        let least = one_min.smaller(two_min) * T::of(0.99);
        let mut active = [1u32; L];
        let mut rate = [T::ZERO; L];
        for round in 0..=self.p.max_jumps {
            let a0 = w.block.trimmed_mean();
            let s = w.block.forward(&self.tables, &photon_rate(&a0, dark), &a0);
            for l in 0..L {
                rate[l] = a0[l] + s.s1[l] / s.s0[l].larger(T::ONE / T::HUGE);
            }
            // No omission gains more than all of χ².
            let mut hopeful = 0;
            for l in 0..L {
                let chi2 = s.s2[l] - s.s1[l] * (rate[l] - a0[l]);
                hopeful |= active[l] & u32::from(chi2 > least);
            }
            if round == self.p.max_jumps || hopeful == 0 {
                break;
            }
            let (one, two) = w.block.omissions(&self.tables, &s);
            let left = w.block.count();
            let (mut pair, mut any) = ([0u32; L], 0);
            for l in 0..L {
                let single = one.exceeds(l, one_min) & (left[l] > T::of(1.5));
                let double = two.exceeds(l, two_min) & (left[l] > T::of(3.5));
                let prefer = double & !one.leads(&two, l, one_min - two_min);
                pair[l] = u32::from(prefer);
                active[l] &= u32::from(single | prefer);
                any |= active[l];
            }
            if any == 0 {
                break;
            }
            for l in (0..L).filter(|&l| active[l] != 0) {
                let first = match (left[l] < T::of(2.5), pair[l] != 0) {
                    (true, _) => w.block.largest(l),
                    (_, true) => two.at[l] as usize,
                    _ => one.at[l] as usize,
                };
                for i in first..=first + pair[l] as usize {
                    w.block.used[i][l] = T::ZERO;
                    w.block.d[i][l] = T::ZERO;
                    w.flags[i + 1][l] |= flag::JUMP_DET;
                }
            }
        }
        rate
    }

    /// The rate with its variances and χ²; `start` is a rate to begin from.
    #[inline(always)]
    pub(super) fn fit<const L: usize>(
        &self,
        w: &mut Work<T, L>,
        dark: &[T; L],
        start: [T; L],
    ) -> [[T; L]; 4] {
        let t = &self.tables;
        let tiny = T::ONE / T::HUGE;
        if self.p.algorithm != algorithm::LIKELIHOOD {
            return self.line(w, dark);
        }
        let mut a = start;
        let first = w.block.sums(t, &photon_rate(&a, dark), &a);
        for l in 0..L {
            a[l] += first.s1[l] / first.s0[l].larger(tiny);
        }
        let g = photon_rate(&a, dark);
        let mut s = w.block.forward(t, &g, &a);
        let (photon, mut read) = w.block.parts(t);
        if self.p.pedestal != 0 {
            self.pedestals(w, &mut s, &mut read, &a, &g);
        }
        let mut out = [[T::ZERO; L]; 4];
        for l in 0..L {
            let inv = T::ONE / s.s0[l].larger(tiny);
            out[0][l] = a[l] + s.s1[l] * inv;
            out[1][l] = g[l] * photon[l] * inv * inv;
            out[2][l] = read[l] * inv * inv;
            out[3][l] = s.s2[l] - s.s1[l] * s.s1[l] * inv;
        }
        out
    }

    /// Fixed-weight estimates, pixel by pixel.
    pub(super) fn line<const L: usize>(&self, w: &mut Work<T, L>, dark: &[T; L]) -> [[T; L]; 4] {
        let line = match self.p.algorithm {
            algorithm::OLS => Line::Ols,
            _ => Line::Mcds { coadd: self.p.num_coadd as usize },
        };
        let mut out = [[T::ZERO; L]; 4];
        for l in 0..L {
            let used = |i: usize| i < w.block.used.len() && w.block.used[i][l] > T::ZERO;
            let (d, r) = (|i: usize| w.block.d[i][l], |k: usize| w.block.r[k][l]);
            if let Some(e) = lines::estimate(line, &self.tables, d, used, r) {
                out[0][l] = e.rate;
                out[1][l] = e.photon * (e.rate.larger(T::ZERO) + dark[l]);
                out[2][l] = e.read;
            }
        }
        out[3] = w.block.forward(&self.tables, &photon_rate(&out[0], dark), &out[0]).s2;
        out
    }

    /// Everything that the stages ask for, for `L` pixels from `item` on; `None`
    /// where no rate is asked for.
    #[inline(always)]
    pub(super) fn run<const L: usize>(&self, item: usize, w: &mut Work<T, L>) -> Option<Rates<T, L>> {
        self.correct(item, w);
        if self.on(stage::LINEARISED) && !self.on(stage::LINEARITY) {
            self.stretch(w);
        }
        if !self.on(stage::JUMP | stage::FIT) {
            return None;
        }
        self.differences(w);
        let mut dark = [T::ZERO; L];
        if self.on(stage::DARK) {
            dark = self.lanes(Plane::Coefficients as usize + self.p.ncoef as usize, w);
        }
        let start = if self.on(stage::JUMP) {
            self.jumps(w, &dark)
        } else {
            let a0 = w.block.trimmed_mean();
            let s = w.block.forward(&self.tables, &photon_rate(&a0, &dark), &a0);
            std::array::from_fn(|l| a0[l] + s.s1[l] / s.s0[l].larger(T::ONE / T::HUGE))
        };
        if !self.on(stage::FIT) {
            return None;
        }
        let [rate, photon, read, chi2] = self.fit(w, &dark, start);
        let used = w.block.count();
        let gain = self.lanes(Plane::Gain as usize, w);
        let mut out =
            Rates { values: [[T::ZERO; L]; 5], dq: [0; L], reads: [0; L], nan: [0; L], unit: [T::ONE; L] };
        for f in &w.flags {
            let f = *f;
            for l in 0..L {
                out.dq[l] |= f[l] & (flag::SATURATED | flag::JUMP_DET);
                out.reads[l] += u32::from(f[l] & (flag::SATURATED | flag::DO_NOT_USE) == 0);
            }
        }
        let own = self.bits(Plane::Dq as usize, w);
        if self.p.counts != 0 {
            out.unit = gain.map(|g| T::ONE / g);
        }
        let unit = out.unit;
        for l in 0..L {
            out.dq[l] |= own[l] | if used[l] == T::ZERO { flag::DO_NOT_USE } else { 0 };
            let no_chi2 = u32::from(used[l] + w.known[l] < T::of(2.0)) << Out::Chi2 as u32;
            out.nan[l] = if out.dq[l] & flag::DO_NOT_USE != 0 { 0b11111 } else { no_chi2 };
        }
        for l in 0..L {
            out.values[0][l] = rate[l] * unit[l];
            out.values[1][l] = (photon[l] + read[l]).sqrt() * unit[l];
            out.values[2][l] = photon[l] * unit[l] * unit[l];
            out.values[3][l] = read[l] * unit[l] * unit[l];
            out.values[4][l] = chi2[l] / (used[l] + w.known[l] - T::ONE).larger(T::ONE);
        }
        Some(out)
    }
}

/// The photon rate of the covariance: of what is measured, at least 0, and of the dark
/// current that was taken out before.
#[inline(always)]
fn photon_rate<T: Real, const L: usize>(rate: &[T; L], dark: &[T; L]) -> [T; L] {
    let mut g = [T::ZERO; L];
    for l in 0..L {
        g[l] = rate[l].larger(T::ZERO) + dark[l];
    }
    g
}

/// The rates of `L` pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates<T, const L: usize> {
    /// The planes before [`Out::Dq`].
    pub(super) values: [[T; L]; 5],
    pub(super) dq: [u32; L],
    pub(super) reads: [u32; L],
    /// Bit p: plane p has no value.
    pub(super) nan: [u32; L],
    /// The rates' unit, in electrons.
    pub(super) unit: [T; L],
}

impl<T: Real, const L: usize> Rates<T, L> {
    /// Words of the planes before the pedestals.
    #[inline(always)]
    pub(super) fn words(&self) -> [[u32; L]; OUT_PLANES] {
        let mut out = [[0; L]; OUT_PLANES];
        for plane in 0..5 {
            for l in 0..L {
                let nan = self.nan[l] >> plane & 1 != 0;
                out[plane][l] = if nan { NAN } else { self.values[plane][l].to_f32().to_bits() };
            }
        }
        out[Out::Dq as usize] = self.dq;
        out[Out::Reads as usize] = self.reads;
        out
    }

    /// A ramp's pedestal, its variance and its covariance with the rate, in the rates'
    /// unit; `None` where there is none.
    #[inline(always)]
    fn pedestal_of(&self, p: &Pedestal<T, L>, l: usize) -> Option<[T; 3]> {
        let unit = self.unit[l];
        let squared = unit * unit;
        (p[1][l] > T::ZERO && self.nan[l] & 1 == 0)
            .then(|| [p[0][l] * unit, p[1][l] * squared, p[2][l] * squared])
    }

    /// The first lane's in f64, NaN where there is none.
    pub(super) fn pedestal_value(&self, p: &Pedestal<T, L>) -> [f64; 3] {
        self.pedestal_of(p, 0).map_or([f64::NAN; 3], |p| p.map(Real::to_f64))
    }

    /// Their words.
    pub(super) fn pedestal(&self, p: &Pedestal<T, L>) -> [[u32; L]; 3] {
        let mut out = [[NAN; L]; 3];
        for l in 0..L {
            let Some(values) = self.pedestal_of(p, l) else { continue };
            out.iter_mut().zip(values).for_each(|(o, v)| o[l] = v.to_f32().to_bits());
        }
        out
    }
}
