//! Jumps and rates by likelihood, ramp by ramp, as stcal's LIKELY decides: stored
//! ramps to rates. `shaders/likely.wgsl` is its twin.
//!
//! Buffers 0–3 as `stored.rs` says; 4 average dark current, DN/s
//! `[pixel]` (one word where there is none); 5 first frames, DN `[ramp][pixel]` (one
//! word where there are none); 6 out ([`Out`](super::ramp::Out) planes
//! `[plane][item]`). With first frames the tables are those of ramps that have one
//! read more.
//!
//! The likelihood is that of [`ramp`](super::ramp) (Brandt 2024, PASP 136, 045004
//! and 045005); the decisions are those of stcal 1.20.0 (`likely_fit.py`):
//!
//! * with first frames, the average y₀ of N frames that a ramp begins with becomes two
//!   reads: its first frame z, with the flags of y₀, and (N y₀ − z)/(N − 1);
//! * every flag of a read takes both differences that touch it;
//! * the covariance while looking for jumps is that of the median of all
//!   differences, flagged ones too, at least 0;
//! * the best omission above its threshold goes, round by round, until none does or
//!   three differences or fewer are left after one (of two alone, where stcal takes
//!   either by its rounding, the larger goes);
//! * the fit has the covariance of the last rate, at least 0, plus the average dark
//!   current;
//! * ramps are averaged twice over with weights 1/(var_p·rate/rateᵢ + var_r), from
//!   their median; χ² add.

use super::layout::params;
use super::ols_c::median;
use super::ramp::likelihood::Block;
use super::ramp::{Plane, Tables, flag};
use super::real::Real;
use super::stored::{Rate, Stored, fill, written};
use super::{Access, Args, Kernel};

/// The kernel.
pub static LIKELY: Kernel = Kernel {
    stem: "likely",
    wgsl: &[
        include_str!("../../shaders/lib/stored.wgsl"),
        include_str!("../../shaders/lib/likelihood.wgsl"),
        include_str!("../../shaders/likely.wgsl"),
    ],
    constants: &[("NREADS", 16), ("NRAMPS", 4)],
    params: Params::LAYOUT,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    cpu: run,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Items to do.
        pub items: u32,
        /// Pixels of the grid.
        pub pixels: u32,
        /// Pixel of the first item.
        pub skip: u32,
        /// Ramps.
        pub ramps: u32,
        /// Reads a ramp, with its first frame.
        pub reads: u32,
        /// 1 for rates in DN/s.
        pub counts: u32,
        /// 1 where buffer 4 holds a plane.
        pub dark: u32,
        /// Gain in χ² from which a single difference is dropped.
        pub threshold_one: f32,
        /// Gain in χ² from which two neighbours are dropped.
        pub threshold_two: f32,
        /// 1 where buffer 5 holds first frames.
        pub zero: u32,
        /// Frames averaged in a ramp's first read.
        pub frames: f32,
    }
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let Some(out) = args.buffers.last_mut() else { return };
    let out = written(out);
    let source = Source::<f64>::new(p, args);
    fill(p.items as usize, out, || source.work(), |work, item| source.fit(item, work));
}

/// Every item in precision `T`: the reference of both engines in f64.
pub fn reference<T: Real>(args: &Args<'_>) -> Vec<Rate> {
    let p: Params = args.params_as();
    let source = Source::<T>::new(p, args);
    let mut work = source.work();
    (0..p.items as usize).map(|item| source.fit(item, &mut work)).collect()
}

/// The fit of one ramp, e-/s.
#[derive(Debug, Clone, Copy)]
struct Fit<T> {
    rate: T,
    variance: T,
    photon: T,
    read: T,
    chi2: T,
    dof: T,
}

/// Reads of a pixel in DN, their flags, room to sort, the recursions, the ramps' fits.
struct Work<T> {
    y: Vec<T>,
    flags: Vec<u32>,
    sorted: Vec<T>,
    block: Block<T, 1>,
    fits: Vec<Fit<T>>,
}

struct Source<'a, T> {
    p: Params,
    stored: Stored<'a>,
    tables: Vec<Tables<T>>,
    dark: &'a [f32],
    zero: &'a [f32],
}

impl<'a, T: Real> Source<'a, T> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        let stored = Stored::new(args, p.pixels, p.ramps * p.reads);
        let all = stored.tables();
        let tables = (0..p.ramps as usize).map(|r| all.of_ramp(r, p.reads as usize)).collect();
        Source { p, tables, dark: args.buffers[4].floats(), zero: args.buffers[5].floats(), stored }
    }

    fn work(&self) -> Work<T> {
        let n = self.stored.reads;
        Work {
            y: vec![T::ZERO; n],
            flags: vec![0; n],
            sorted: Vec::with_capacity(n),
            block: Block::new(self.p.reads.saturating_sub(1) as usize),
            fits: Vec::with_capacity(self.p.ramps as usize),
        }
    }

    /// The reads of `pixel`, DN, and their flags; how many can be used.
    fn load(&self, pixel: usize, y: &mut [T], flags: &mut [u32]) -> u32 {
        const LOST: u32 = flag::SATURATED | flag::DO_NOT_USE;
        let (reads, lead) = (self.p.reads as usize, self.p.zero as usize);
        let given = reads - lead;
        let mut usable = 0;
        for r in 0..self.p.ramps as usize {
            let (y, flags) = (&mut y[r * reads..][..reads], &mut flags[r * reads..][..reads]);
            for k in 0..given {
                y[k + lead] = self.stored.read(r * given + k, pixel);
                flags[k + lead] = self.stored.flag(r * given + k, pixel);
                usable += u32::from(flags[k + lead] & LOST == 0);
            }
            if lead == 1 {
                let frames = T::of(self.p.frames);
                y[0] = T::of(self.zero[r * self.p.pixels as usize + pixel]);
                y[1] = (y[1] * frames - y[0]) / (frames - T::ONE);
                flags[0] = flags[1];
            }
        }
        usable
    }

    fn fit(&self, item: usize, w: &mut Work<T>) -> Rate {
        let (p, reads) = (&self.p, self.p.reads as usize);
        let pixel = item + p.skip as usize;
        let usable = self.load(pixel, &mut w.y, &mut w.flags);
        let gain: T = self.stored.value(Plane::Gain, pixel);
        let s2: T = self.stored.value(Plane::ReadVariance, pixel);
        let dark = if p.dark != 0 { T::of(self.dark[pixel]) * gain } else { T::ZERO };
        w.fits.clear();
        for ramp in 0..p.ramps as usize {
            let range = ramp * reads..(ramp + 1) * reads;
            let g0 = self.differences(ramp, gain, w);
            w.block.read_variance(&self.tables[ramp], &[s2]);
            let rate = self.jumps(ramp, g0, w);
            if let Some(rate) = rate {
                let g = rate.larger(T::ZERO) + dark;
                let fit = self.last_fit(ramp, g, rate, &mut w.block);
                w.fits.push(fit);
            }
            debug_assert!(range.end <= w.flags.len());
        }
        let mut dq = self.stored.bits(pixel);
        dq |= w.flags.iter().fold(0, |all, f| all | f) & (flag::JUMP_DET | flag::SATURATED);
        let Some(all) = combine(&w.fits, p.ramps == 1, &mut w.sorted).filter(|_| dq & flag::DO_NOT_USE == 0)
        else {
            return Rate { values: [f64::NAN; 5], dq: dq | flag::DO_NOT_USE, reads: usable };
        };
        let unit = if p.counts != 0 { T::ONE / gain } else { T::ONE };
        let squared = unit * unit;
        let chi2 = if all.dof > T::ZERO { all.chi2 / all.dof } else { T::NAN };
        let values =
            [all.rate * unit, all.variance.sqrt() * unit, all.photon * squared, all.read * squared, chi2];
        Rate { values: values.map(Real::to_f64), dq, reads: usable }
    }

    /// Differences of a ramp, e-/s, and which are usable; the median of them all.
    fn differences(&self, ramp: usize, gain: T, w: &mut Work<T>) -> T {
        let first = ramp * self.p.reads as usize;
        w.sorted.clear();
        for i in 0..w.block.d.len() {
            let k = first + i;
            let d = gain * ((w.y[k + 1] - w.y[k]) * self.tables[ramp].inv_dt[i]);
            w.sorted.push(d);
            let on = w.flags[k] | w.flags[k + 1] == 0;
            w.block.d[i][0] = if on { d } else { T::ZERO };
            w.block.used[i][0] = if on { T::ONE } else { T::ZERO };
        }
        if w.sorted.is_empty() { T::ZERO } else { median(&mut w.sorted).larger(T::ZERO) }
    }

    /// Drops the differences that hits spoil and flags the reads after them. The
    /// rate of what is left; `None` where nothing is.
    fn jumps(&self, ramp: usize, g0: T, w: &mut Work<T>) -> Option<T> {
        let t = &self.tables[ramp];
        let (one_min, two_min) = (T::of(self.p.threshold_one), T::of(self.p.threshold_two));
        let mut again = true;
        loop {
            let left = w.block.count()[0];
            if left == T::ZERO {
                return None;
            }
            let a0 = w.block.trimmed_mean();
            let sums = w.block.forward(t, &[g0], &a0);
            let rate = a0[0] + sums.s1[0] / sums.s0[0];
            if !again {
                return Some(rate);
            }
            let (one, two) = w.block.omissions(t, &sums);
            let single = left >= T::of(2.0) && one.exceeds(0, one_min);
            let pair = left >= T::of(3.0) && two.exceeds(0, two_min);
            let (at, width) = match (single, pair) {
                (false, false) => return Some(rate),
                (true, true) if one.leads(&two, 0, one_min - two_min) => (one.at[0], 1),
                (true, false) => (one.at[0], 1),
                _ => (two.at[0], 2),
            };
            let at = if left == T::of(2.0) { w.block.largest(0) } else { at as usize };
            for i in at..at + width {
                w.block.used[i][0] = T::ZERO;
                w.block.d[i][0] = T::ZERO;
                w.flags[ramp * self.p.reads as usize + i + 1] |= flag::JUMP_DET;
            }
            // Of fewer than four there is no telling which is right.
            again = w.block.count()[0] > T::of(3.0);
        }
    }

    /// The fit with photon rate `g`, about `a0`.
    fn last_fit(&self, ramp: usize, g: T, a0: T, block: &mut Block<T, 1>) -> Fit<T> {
        let t = &self.tables[ramp];
        let sums = block.forward(t, &[g], &[a0]);
        let (photon, read) = block.parts(t);
        let inv = T::ONE / sums.s0[0];
        Fit {
            rate: a0 + sums.s1[0] * inv,
            variance: inv,
            photon: g * photon[0] * inv * inv,
            read: read[0] * inv * inv,
            chi2: (sums.s2[0] - sums.s1[0] * sums.s1[0] * inv).larger(T::ZERO),
            dof: block.count()[0] - T::ONE,
        }
    }
}

/// The average of the ramps; `None` of none. The exposure's `single` ramp stands
/// for itself.
fn combine<T: Real>(fits: &[Fit<T>], single: bool, sorted: &mut Vec<T>) -> Option<Fit<T>> {
    let first = fits.first()?;
    if single {
        return Some(*first);
    }
    sorted.clear();
    sorted.extend(fits.iter().map(|f| f.rate));
    let mut rate = median(sorted);
    let mut out = *first;
    // A ramp whose rate has the other sign has no photon noise in its weight.
    let photon = |f: &Fit<T>, rate: T| {
        let scale = rate / f.rate;
        if scale.is_finite() && scale > T::ZERO { f.photon * scale } else { T::ZERO }
    };
    for _ in 0..2 {
        let weight = |f: &Fit<T>| T::ONE / (photon(f, rate) + f.read);
        let (mut total, mut sum) = (T::ZERO, T::ZERO);
        (out.photon, out.read) = (T::ZERO, T::ZERO);
        for f in fits {
            let w = weight(f);
            total += w;
            sum += w * f.rate;
            out.photon += w * w * photon(f, rate);
            out.read += w * w * f.read;
        }
        let inv = T::ONE / total;
        out.photon = out.photon * inv * inv;
        out.read = out.read * inv * inv;
        rate = sum * inv;
    }
    out.rate = rate;
    out.variance = out.photon + out.read;
    (out.chi2, out.dof) = (T::ZERO, T::ZERO);
    for f in fits {
        out.chi2 += f.chi2;
        out.dof += f.dof;
    }
    Some(out)
}

#[cfg(test)]
#[path = "likely_tests.rs"]
mod tests;
