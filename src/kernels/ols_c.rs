//! Weighted least squares on the segments between jumps, as stcal's OLS_C does it:
//! stored ramps to rates. `shaders/ols_c.wgsl` is its twin.
//!
//! Buffers 0–3 as `stored.rs` says; 4 average dark current, DN/s
//! `[pixel]` (one word where there is none); 5 first frames, DN `[ramp][pixel]` (one
//! word where there are none), 0 where unusable; 6 out ([`Out`](super::ramp::Out)
//! planes `[plane][item]`; there is no χ²).
//!
//! Formulas and decisions are those of stcal 1.20.0 (`slope_fitter.c`, after Fixsen
//! et al. 2000, PASP 112, 1350 and Regan 2007, JWST-STScI-001212), in DN and
//! seconds, with G the gain, R = s/√N the noise of an averaged read in electrons,
//! t the time from read to read and t₁ the mean time of the first read:
//!
//! * a segment is a run of unflagged reads (PERSISTENCE does not count), begun one
//!   read early where that read is flagged JUMP_DET and nothing else;
//! * segments of one read count only where no ramp segment is longer, and then
//!   only the first;
//! * one read: y/t; two: (y₁ − y₀)/t; n: a line with weights |(i − m)/m|^P,
//!   m = (n − 1)/2, P from the signal to noise between the segment's ends;
//! * var_r = 12 (R/t)²/((n³ − n) G²), with n = 2 for a single read, and
//!   var_p = rate/(t G (n − 1)), where rate is the mean over ramps of the median
//!   difference (at least 0) plus the average dark current;
//! * a ramp without a good read has its first frame in place of its first read, where
//!   there is one and ramps of one read count: y/t_frame;
//! * segments of all ramps are averaged with weights 1/var_r; both variances are
//!   those of the sum of their inverses; the error is √(var_p + var_r);
//! * of a ramp alone (stcal's rateints) likewise, its photon variance still from the
//!   rate of all ramps; the error is √(1/Σ 1/(var_p + var_r)) over its segments.

use super::layout::params;
use super::ramp::{Plane, flag};
use super::real::Real;
pub use super::stored::Rate;
use super::stored::{Stored, fill, written};
use super::{Access, Args, Kernel};

/// The kernel.
pub static OLS_C: Kernel = Kernel {
    stem: "ols_c",
    wgsl: &[include_str!("../../shaders/lib/stored.wgsl"), include_str!("../../shaders/ols_c.wgsl")],
    constants: &[("NREADS", 16)],
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
        /// Reads a ramp.
        pub reads: u32,
        /// First read of each ramp that counts.
        pub first: u32,
        /// Read after the last that counts.
        pub last: u32,
        /// 1 where ramps with one good read are given up.
        pub suppress_one_group: u32,
        /// 1 for rates in DN/s.
        pub counts: u32,
        /// 1 where buffer 4 holds a plane.
        pub dark: u32,
        /// Seconds from read to read.
        pub group_time: f32,
        /// Mean time of the first read since the reset, s.
        pub first_time: f32,
        /// Frames averaged in a read.
        pub frames: f32,
        /// 1 where buffer 5 holds first frames.
        pub zero: u32,
        /// Time of the first frame since the reset, s.
        pub frame_time: f32,
        /// Ramp (from 1) that is fitted alone; 0: all.
        pub alone: u32,
    }
}

/// Variances from this on count as none, (DN/s)².
const LARGE: f32 = 1e6;

/// What is known of a pixel beside its reads.
struct Pixel<T> {
    gain: T,
    /// Variance of an averaged read, e-².
    noise: T,
    /// DN/s.
    dark: T,
    bits: u32,
}

/// Sums over segments: of 1/var_r, 1/var_p, 1/(var_r + var_p) and slope/var_r.
struct Sums<T> {
    read: T,
    photon: T,
    both: T,
    slope: T,
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let Some(out) = args.buffers.last_mut() else { return };
    let out = written(out);
    let source = Source::new(p, args);
    fill(p.items as usize, out, || source.work::<f64>(), |work, item| source.fit(item, work));
}

/// Every item in precision `T`: the reference of both engines in f64.
pub fn reference<T: Real>(args: &Args<'_>) -> Vec<Rate> {
    let p: Params = args.params_as();
    let source = Source::new(p, args);
    let mut work = source.work::<T>();
    (0..p.items as usize).map(|item| source.fit(item, &mut work)).collect()
}

/// Reads of a pixel in DN, their flags, and room to sort.
struct Work<T> {
    y: Vec<T>,
    flags: Vec<u32>,
    sorted: Vec<T>,
    /// Ramps that have their first frame in place of their first read.
    zeros: Vec<bool>,
}

impl Params {
    /// Whether the rate is one of ramp `r`.
    fn counts(&self, r: usize) -> bool {
        self.alone == 0 || self.alone as usize == r + 1
    }
}

struct Source<'a> {
    p: Params,
    stored: Stored<'a>,
    dark: &'a [f32],
    zero: &'a [f32],
}

impl<'a> Source<'a> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        let stored = Stored::new(args, p.pixels, p.ramps * p.reads);
        Source { p, stored, dark: args.buffers[4].floats(), zero: args.buffers[5].floats() }
    }

    fn work<T: Real>(&self) -> Work<T> {
        let n = self.stored.reads;
        let zeros = vec![false; self.p.ramps as usize];
        Work { y: vec![T::ZERO; n], flags: vec![0; n], sorted: Vec::with_capacity(n), zeros }
    }

    fn fit<T: Real>(&self, item: usize, w: &mut Work<T>) -> Rate {
        let p = &self.p;
        let pixel = item + p.skip as usize;
        self.stored.load(pixel, &mut w.y, &mut w.flags);
        let noise: T = self.stored.value(Plane::ReadVariance, pixel);
        let px = Pixel {
            gain: self.stored.value(Plane::Gain, pixel),
            noise: noise / T::of(p.frames),
            dark: if p.dark != 0 { T::of(self.dark[pixel]) } else { T::ZERO },
            bits: self.stored.bits(pixel),
        };
        let (reads, range) = (p.reads as usize, p.first as usize..p.last as usize);
        let lost = |f: &u32| f & (flag::SATURATED | flag::DO_NOT_USE) != 0;
        let counted = w.flags.chunks(reads).enumerate().filter(|(r, _)| p.counts(*r));
        let count: usize = counted.map(|(_, flags)| flags.iter().filter(|f| !lost(f)).count()).sum();
        let mut dq = px.bits;
        let mut rate = T::ZERO;
        let mut loss = 0;
        for (r, (y, flags)) in w.y.chunks_mut(reads).zip(w.flags.chunks_mut(reads)).enumerate() {
            let (y, flags) = (&mut y[range.clone()], &mut flags[range.clone()]);
            let any = |flags: &[u32]| if p.counts(r) { flags.iter().fold(0, |all, f| all | f) } else { 0 };
            loss |= any(flags) & flag::CHARGELOSS;
            self.settle(flags);
            dq |= any(flags) & (flag::JUMP_DET | flag::PERSISTENCE | flag::SATURATED);
            w.zeros[r] = self.first_frame(r, pixel, y, flags);
            rate += self.median_rate(y, flags, w.zeros[r], &mut w.sorted);
        }
        rate = (rate / T::of(p.ramps as f32)).larger(T::ZERO) + px.dark;
        let mut sums = Sums { read: T::ZERO, photon: T::ZERO, both: T::ZERO, slope: T::ZERO };
        let mut alive = false;
        let ramps = w.y.chunks(reads).zip(w.flags.chunks(reads)).enumerate();
        for (r, (y, flags)) in ramps.filter(|(r, _)| p.counts(*r)) {
            let (y, flags) = (&y[range.clone()], &flags[range.clone()]);
            alive |= flags[0] & flag::SATURATED == 0 && !flags.iter().all(lost);
            if flags[0] & flag::SATURATED == 0 {
                let single = self.single_time(flags, w.zeros[r]);
                self.segments(y, flags, single, rate, &px, &mut sums);
            }
        }
        if !alive {
            dq |= flag::DO_NOT_USE;
        }
        let var_p = inverse(sums.photon);
        let var_r = inverse(sums.read);
        let err = if p.alone == 0 { var_p + var_r } else { inverse(sums.both) }.sqrt();
        let slope = sums.slope * var_r;
        let var_r = if loss != 0 { self.read_variance(pixel, &px, w) } else { var_r };
        let unit = if p.counts != 0 { T::ONE } else { px.gain };
        let values = if dq & flag::DO_NOT_USE != 0 {
            [f64::NAN; 5]
        } else {
            let squared = unit * unit;
            let all = [slope * unit, err * unit, var_p * squared, var_r * squared, T::NAN];
            all.map(Real::to_f64)
        };
        Rate { values, dq, reads: count as u32 }
    }

    /// Brings a ramp's flags to what the fit goes by: a jump into the first read
    /// that counts is none; a ramp of one good read is given up where asked for.
    fn settle(&self, flags: &mut [u32]) {
        if self.p.first > 0 {
            flags[0] &= !flag::JUMP_DET;
        }
        let good = flags.iter().filter(|f| **f & !flag::PERSISTENCE == 0).count();
        if self.p.suppress_one_group != 0 && flags.len() > 1 && good == 1 {
            flags.iter_mut().for_each(|f| *f |= flag::DO_NOT_USE);
        }
    }

    /// Puts the first frame of a ramp without a good read in place of its first read.
    fn first_frame<T: Real>(&self, ramp: usize, pixel: usize, y: &mut [T], flags: &mut [u32]) -> bool {
        if self.p.zero == 0 || self.p.suppress_one_group != 0 || flags.contains(&0) {
            return false;
        }
        let value = self.zero[ramp * self.p.pixels as usize + pixel];
        if value != 0.0 {
            (y[0], flags[0]) = (T::of(value), 0);
        }
        value != 0.0
    }

    /// Whether the first read alone is good.
    fn only_first(&self, flags: &[u32]) -> bool {
        self.p.suppress_one_group == 0 && flags[0] == 0 && flags.iter().filter(|f| **f == 0).count() == 1
    }

    /// Seconds that a segment of one read stands for.
    fn single_time<T: Real>(&self, flags: &[u32], zero: bool) -> T {
        T::of(match zero {
            true => self.p.frame_time,
            false if self.only_first(flags) => self.p.first_time,
            false => self.p.group_time,
        })
    }

    /// Median of the usable differences of a ramp over time, DN/s.
    fn median_rate<T: Real>(&self, y: &[T], flags: &[u32], zero: bool, sorted: &mut Vec<T>) -> T {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let t = T::of(self.p.group_time);
        if zero {
            return y[0] / T::of(self.p.frame_time);
        }
        if y.len() == 1 || self.only_first(flags) {
            return y[0] / T::of(self.p.first_time);
        }
        sorted.clear();
        for k in 1..y.len() {
            if flags[k - 1] & LOST == 0 && flags[k] & (LOST | flag::JUMP_DET) == 0 {
                sorted.push((y[k] - y[k - 1]) / t);
            }
        }
        if sorted.is_empty() {
            return if flags[0] & LOST == 0 { y[0] / t } else { T::ZERO };
        }
        median(sorted)
    }

    /// Adds the segments of a ramp.
    fn segments<T: Real>(
        &self,
        y: &[T],
        flags: &[u32],
        single: T,
        rate: T,
        px: &Pixel<T>,
        sums: &mut Sums<T>,
    ) {
        let mut from = 0;
        let longest = longest(flags);
        while let Some((first, last)) = segment(flags, from) {
            from = last;
            if longest > 1 && last - first == 1 {
                continue;
            }
            let (slope, time) = self.slope(&y[first..last], single, px);
            let var_p = rate / (time * px.gain);
            let var_r = self.read_noise(last - first, single, px);
            let inv = T::ONE / var_r;
            sums.read += inv;
            sums.both += T::ONE / (var_r + var_p);
            sums.slope += slope * inv;
            if var_p > T::ZERO {
                sums.photon += T::ONE / var_p;
            }
            if longest == 1 {
                break;
            }
        }
    }

    /// Slope of a segment, DN/s, and the time that it spans, s.
    fn slope<T: Real>(&self, y: &[T], single: T, px: &Pixel<T>) -> (T, T) {
        let (n, t) = (y.len(), T::of(self.p.group_time));
        match n {
            1 => (y[0] / single, single),
            2 => ((y[1] - y[0]) / t, t),
            _ => {
                let power = T::of(power(y[n - 1] - y[0], px));
                let middle = T::of((n - 1) as f32 / 2.0);
                // The weights are even about the middle, so the intercept drops out.
                let (mut sxy, mut sxx) = (T::ZERO, T::ZERO);
                for (i, value) in y.iter().enumerate() {
                    let x = T::of(i as f32) - middle;
                    let weight = (x / middle).abs().powf(power);
                    sxy += weight * x * (*value - y[0]);
                    sxx += weight * x * x;
                }
                (sxy / sxx / t, t * T::of((n - 1) as f32))
            }
        }
    }

    /// Read variance of a segment of `n` reads, (DN/s)².
    fn read_noise<T: Real>(&self, n: usize, single: T, px: &Pixel<T>) -> T {
        let t = if n == 1 { single } else { T::of(self.p.group_time) };
        let n = T::of(n.max(2) as f32);
        T::of(12.0) * px.noise / (t * t * (n * n * n - n) * px.gain * px.gain)
    }

    /// Read variance of the segments that there would be without CHARGELOSS.
    fn read_variance<T: Real>(&self, pixel: usize, px: &Pixel<T>, w: &mut Work<T>) -> T {
        let (reads, range) = (self.p.reads as usize, self.p.first as usize..self.p.last as usize);
        let mut total = T::ZERO;
        for ramp in (0..self.p.ramps as usize).filter(|r| self.p.counts(*r)) {
            let flags = &mut w.flags[ramp * reads..][range.clone()];
            let single = self.single_time(flags, w.zeros[ramp]);
            let saturated = flags[0] & flag::SATURATED != 0;
            let charged = flags.iter().any(|f| f & flag::CHARGELOSS != 0);
            if charged {
                for (k, f) in flags.iter_mut().enumerate() {
                    *f = self.stored.flag(ramp * reads + range.start + k, pixel);
                    if *f & flag::CHARGELOSS != 0 {
                        *f ^= flag::CHARGELOSS | flag::DO_NOT_USE;
                    }
                }
            } else if saturated {
                continue;
            }
            let (mut from, longest) = (0, longest(flags));
            while let Some((first, last)) = segment(flags, from) {
                from = last;
                if longest > 1 && last - first == 1 {
                    continue;
                }
                total += T::ONE / self.read_noise(last - first, single, px);
                if longest == 1 {
                    break;
                }
            }
        }
        inverse(total)
    }
}

/// 1/`sum`; 0 for none and for what is too large to mean anything.
fn inverse<T: Real>(sum: T) -> T {
    let value = if sum > T::ZERO { T::ONE / sum } else { T::ZERO };
    if value >= T::of(LARGE) { T::ZERO } else { value }
}

/// Median; `values` is not empty.
pub(super) fn median<T: Real>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let n = values.len();
    if n % 2 == 1 { values[n / 2] } else { (values[n / 2 - 1] + values[n / 2]) / T::of(2.0) }
}

/// The first segment that ends after read `from`: its first read, and the read
/// after its last.
fn segment(flags: &[u32], from: usize) -> Option<(usize, usize)> {
    let good = |f: u32| f & !flag::PERSISTENCE == 0;
    let start = (from..flags.len()).find(|&k| good(flags[k]))?;
    let end = (start..flags.len()).find(|&k| !good(flags[k])).unwrap_or(flags.len());
    let early = start > 0 && flags[start - 1] & !flag::PERSISTENCE == flag::JUMP_DET;
    Some((start - usize::from(early), end))
}

fn longest(flags: &[u32]) -> usize {
    let (mut from, mut longest) = (0, 0);
    while let Some((first, last)) = segment(flags, from) {
        longest = longest.max(last - first);
        from = last;
    }
    longest
}

/// Exponent of the weights for a rise of `signal` DN over a segment.
fn power<T: Real>(signal: T, px: &Pixel<T>) -> f32 {
    let electrons = signal * px.gain;
    let variance = px.noise + electrons;
    if !(variance > T::ZERO) {
        return 0.0;
    }
    let snr = electrons / variance.sqrt();
    let steps = [(5.0, 0.0), (10.0, 0.4), (20.0, 1.0), (50.0, 3.0), (100.0, 6.0)];
    steps.iter().find(|(below, _)| snr < T::of(*below)).map_or(10.0, |s| s.1)
}

#[cfg(test)]
#[path = "ols_c_tests.rs"]
mod tests;
