//! Jumps by the two-point difference method, as stcal finds them: stored ramps to
//! flags. `shaders/two_point.wgsl` is its twin; [`jump_spread`](super::jump_spread)
//! comes after it.
//!
//! Buffers 0–3 as `stored.rs` says; 4 flags out `[read][pixel]`: those
//! that came, JUMP_DET on reads after a jump, and [`MARK`] on reads whose jump is
//! one that neighbours share; 5 median difference of each pixel, e-/s, NaN where
//! there is none.
//!
//! The method is Anderson & Gordon (2011, PASP 123, 1237), the decisions those of
//! stcal 1.20.0 (`twopoint_difference.py`). With d the differences of all ramps in
//! e-/s that no DO_NOT_USE or SATURATED read touches, m their median and
//! σ_k = √(|m| Δ_k + 4 s²/(N_k + N_k+1))/Δ_k:
//!
//! * single pass: a jump where |d_k − m| > threshold · σ_k;
//! * iterative: on |d|, with m the median without the largest (of four or more), of
//!   three, or the smaller of two; the largest | |d_k| − m |/σ_k above the threshold
//!   for that number of differences is a jump, is left out, and so on;
//! * sigma clipping, over the ramps at each difference (or over all differences):
//!   about the median, at most five times.

use rayon::prelude::*;

use super::layout::params;
use super::ols_c::median;
use super::ramp::{NAN, Plane, Tables, flag};
use super::real::Real;
use super::stored::{Stored, written};
use super::{Access, Args, Kernel};

/// Bit of a read's flags: a jump that the four neighbours share.
pub const MARK: u32 = 1 << 8;

/// The kernel.
pub static TWO_POINT: Kernel = Kernel {
    stem: "two_point",
    wgsl: &[include_str!("../../shaders/lib/stored.wgsl"), include_str!("../../shaders/two_point.wgsl")],
    constants: &[("NREADS", 16)],
    params: Params::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    cpu: run,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Pixels.
        pub items: u32,
        /// Ramps.
        pub ramps: u32,
        /// Reads a ramp.
        pub reads: u32,
        /// [`mode`].
        pub mode: u32,
        /// Threshold in σ, of four differences or more.
        pub normal: f32,
        /// The same for three differences.
        pub three: f32,
        /// The same for two.
        pub two: f32,
        /// Jumps of more σ than this are shared by neighbours …
        pub neighbours_min: f32,
        /// … and of less than this.
        pub neighbours_max: f32,
    }
}

/// Values of [`Params::mode`].
pub mod mode {
    /// Iterative.
    pub const ITERATIVE: u32 = 0;
    /// Single pass.
    pub const SINGLE: u32 = 1;
    /// Sigma clipping over ramps.
    pub const CLIP_RAMPS: u32 = 2;
    /// Sigma clipping over all differences.
    pub const CLIP_ALL: u32 = 3;
}

/// Rounds of clipping at most.
const CLIPS: usize = 5;

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let [.., flags, medians] = args.buffers.as_mut_slice() else { return };
    let (flags, medians) = (written(flags), written(medians));
    let source = Source::<f64>::new(p, args);
    let items = p.items as usize;
    let found: Vec<(Vec<u32>, Option<f64>)> = (0..items)
        .into_par_iter()
        .map_init(
            || source.work(),
            |w, pixel| {
                let median = source.find(pixel, w);
                (w.flags.clone(), median)
            },
        )
        .collect();
    for (pixel, (found, median)) in found.iter().enumerate() {
        for (k, f) in found.iter().enumerate() {
            flags[k * items + pixel] = *f;
        }
        medians[pixel] = median.map_or(NAN, |m| (m as f32).to_bits());
    }
}

/// Flags of every pixel in precision `T`, `[pixel][read]`.
pub fn reference<T: Real>(args: &Args<'_>) -> Vec<Vec<u32>> {
    let p: Params = args.params_as();
    let source = Source::<T>::new(p, args);
    let mut work = source.work();
    (0..p.items as usize)
        .map(|pixel| {
            source.find(pixel, &mut work);
            work.flags.clone()
        })
        .collect()
}

/// Reads of a pixel in DN, their flags, differences in e-/s, room to sort.
struct Work<T> {
    y: Vec<T>,
    flags: Vec<u32>,
    /// Difference i lies between reads i and i + 1.
    d: Vec<Option<T>>,
    /// σ² Δ² apart from photon noise: 4 s²/(N + N'), e-².
    floor: Vec<T>,
    sorted: Vec<T>,
}

struct Source<'a, T> {
    p: Params,
    stored: Stored<'a>,
    tables: Tables<T>,
}

impl<'a, T: Real> Source<'a, T> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        let stored = Stored::new(args, p.items, p.ramps * p.reads);
        Source { p, tables: stored.tables(), stored }
    }

    fn work(&self) -> Work<T> {
        let n = self.stored.reads;
        Work {
            y: vec![T::ZERO; n],
            flags: vec![0; n],
            d: vec![None; n],
            floor: vec![T::ZERO; n],
            sorted: Vec::with_capacity(n),
        }
    }

    /// Flags the jumps of a pixel, and says its median difference.
    fn find(&self, pixel: usize, w: &mut Work<T>) -> Option<T> {
        self.stored.load(pixel, &mut w.y, &mut w.flags);
        self.differences(pixel, w);
        w.sorted.clear();
        w.sorted.extend(w.d.iter().flatten());
        let middle = (!w.sorted.is_empty()).then(|| median(&mut w.sorted))?;
        match self.p.mode {
            mode::ITERATIVE => self.iterate(w),
            mode::SINGLE => {
                for i in 0..w.d.len() {
                    if self.excess(w, i, middle).is_some_and(|e| e > T::of(self.p.normal)) {
                        w.flags[i + 1] |= flag::JUMP_DET;
                    }
                }
            }
            mode::CLIP_RAMPS => {
                let (reads, n) = (self.p.reads as usize, self.stored.reads);
                for k in 0..reads {
                    self.clip(w, (k..n).step_by(reads));
                }
            }
            mode::CLIP_ALL => self.clip(w, 0..self.stored.reads),
            _ => {}
        }
        let (low, high) = (T::of(self.p.neighbours_min), T::of(self.p.neighbours_max));
        for i in 0..w.d.len() {
            let shared = self.excess(w, i, middle).is_some_and(|e| e > low && e < high);
            if shared && w.flags[i + 1] & flag::JUMP_DET != 0 {
                w.flags[i + 1] |= MARK;
            }
        }
        Some(middle)
    }

    fn differences(&self, pixel: usize, w: &mut Work<T>) {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let gain: T = self.stored.value(Plane::Gain, pixel);
        let s2: T = self.stored.value(Plane::ReadVariance, pixel);
        w.d.fill(None);
        for i in 0..self.stored.reads.saturating_sub(1) {
            let inv = self.tables.inv_dt[i];
            if inv > T::ZERO && (w.flags[i] | w.flags[i + 1]) & LOST == 0 {
                w.d[i] = Some(gain * ((w.y[i + 1] - w.y[i]) * inv));
            }
            let frames = T::ONE / self.tables.inv_n[i] + T::ONE / self.tables.inv_n[i + 1];
            w.floor[i] = T::of(4.0) * s2 / frames;
        }
    }

    /// How many σ a usable difference lies from `middle`.
    fn excess(&self, w: &Work<T>, i: usize, middle: T) -> Option<T> {
        w.d[i].and_then(|d| self.ratio(w, i, d, middle))
    }

    /// |d − middle|/σ; `None` where σ is 0.
    fn ratio(&self, w: &Work<T>, i: usize, d: T, middle: T) -> Option<T> {
        let inv = self.tables.inv_dt[i];
        let sigma = (middle.abs() / inv + w.floor[i]).sqrt() * inv;
        (sigma > T::ZERO).then(|| (d - middle).abs() / sigma)
    }

    /// The largest jump, again and again.
    fn iterate(&self, w: &mut Work<T>) {
        let kept = w.d.clone();
        w.d.iter_mut().flatten().for_each(|d| *d = d.abs());
        loop {
            w.sorted.clear();
            w.sorted.extend(w.d.iter().flatten());
            let threshold = match w.sorted.len() {
                0 | 1 => break,
                2 => self.p.two,
                3 => self.p.three,
                _ => self.p.normal,
            };
            let middle = self.typical(w);
            let mut most = T::ZERO;
            for i in 0..w.d.len() {
                most = most.larger(self.excess(w, i, middle).unwrap_or(T::ZERO));
            }
            if !(most > T::of(threshold)) {
                break;
            }
            for i in 0..w.d.len() {
                if self.excess(w, i, middle) == Some(most) {
                    w.flags[i + 1] |= flag::JUMP_DET;
                    w.d[i] = None;
                }
            }
        }
        // What neighbours share is judged by the differences as they were.
        w.d = kept;
    }

    /// The middle of `w.sorted` (two values or more) that the iterative search goes by.
    fn typical(&self, w: &mut Work<T>) -> T {
        let n = w.sorted.len();
        let all = median(&mut w.sorted);
        match n {
            2 => w.sorted[0],
            3 => all,
            _ => {
                let largest = w.sorted[n - 1];
                let below = w.sorted.partition_point(|v| *v < largest);
                // All equal: nothing stands out.
                if below == 0 { largest } else { median(&mut w.sorted[..below]) }
            }
        }
    }

    /// Clips the differences `which` about their median.
    fn clip(&self, w: &mut Work<T>, which: impl Iterator<Item = usize> + Clone) {
        let threshold = T::of(self.p.normal);
        let (mut low, mut high) = (-T::HUGE, T::HUGE);
        let mut count = usize::MAX;
        for _ in 0..CLIPS {
            let inside = |d: &T| *d >= low && *d <= high;
            w.sorted.clear();
            w.sorted.extend(which.clone().filter_map(|i| w.d[i]).filter(inside));
            if w.sorted.is_empty() || w.sorted.len() == count {
                break;
            }
            count = w.sorted.len();
            let n = T::of(count as f32);
            let (mut mean, mut variance) = (T::ZERO, T::ZERO);
            w.sorted.iter().for_each(|d| mean += *d / n);
            w.sorted.iter().for_each(|d| variance += (*d - mean) * (*d - mean) / n);
            let reach = threshold * variance.sqrt();
            let middle = median(&mut w.sorted);
            (low, high) = (low.larger(middle - reach), high.smaller(middle + reach));
        }
        for i in which {
            if w.d[i].is_some_and(|d| d < low || d > high) {
                w.flags[i + 1] |= flag::JUMP_DET;
            }
        }
    }
}

#[cfg(test)]
#[path = "two_point_tests.rs"]
mod tests;
