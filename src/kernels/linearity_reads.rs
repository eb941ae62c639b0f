//! Non-linearity of averaged reads, frame by frame. `shaders/linearity_reads.wgsl` is
//! its twin.
//!
//! Buffers: 0 ramp f32 `[read][pixel]`, DN, changed in place; 1 flags `[read][pixel]`;
//! 2 calibration planes `[plane][pixel]` ([`Plane`], the polynomial's coefficients,
//! those of its inverse); 3 tables ([`Tables`]).
//!
//! The polynomial P of a mean is not the mean of P. As stcal 1.20 does it for Roman:
//! the rate between the first and a late good read, through P, foretells the true signal
//! of every frame; the inverse polynomial makes of it what the converter would have
//! shown; these are shifted to have the mean that was read, and each goes through P:
//!
//! ```text
//! u_j = I(ℓ_0 + a (t_j − t̄_0)),   y ← ⟨P(u_j + y − ⟨u⟩)⟩
//! ```
//!
//! The late read is the last but one of those not saturated: the last may be saturated in
//! part. A ramp with fewer than two usable reads, and a read that is one frame, go
//! through P as they are. SATURATED reads stay.

use rayon::prelude::*;

use super::layout::params;
use super::ramp::{Plane, TABLE_ARRAYS, Tables, flag, zero};
use super::real::Real;
use super::stored::written;
use super::{Access, Args, Kernel};

/// The kernel.
pub static LINEARITY_READS: Kernel = Kernel {
    stem: "linearity_reads",
    wgsl: &[include_str!("../../shaders/linearity_reads.wgsl")],
    constants: &[],
    params: Params::LAYOUT,
    access: &[Access::Write, Access::Read, Access::Read, Access::Read],
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
        /// Coefficients of the polynomial.
        pub ncoef: u32,
        /// Plane of the first coefficient of the inverse.
        pub inverse: u32,
        /// Coefficients of the inverse.
        pub ninverse: u32,
        /// [`zero`]: what the polynomials' argument is measured from.
        pub zero_point: u32,
        /// 1 where the bias was subtracted.
        pub bias: u32,
        /// Seconds between the frames of a read.
        pub frame_time: f32,
    }
}

/// Frames go no higher than this many times the saturation level.
const CAP: f32 = 1.2;

/// The kernel's inputs but the ramp.
struct Source<'a, T> {
    p: Params,
    flags: &'a [u32],
    cal: &'a [f32],
    tables: Tables<T>,
}

/// A pixel's polynomials and limits.
struct Pixel<T> {
    forward: Vec<T>,
    inverse: Vec<T>,
    bias: T,
    cap: Option<T>,
}

fn run(args: &mut Args<'_>) {
    /// Pixels that a thread takes at a time.
    const BAND: usize = 4096;
    let p: Params = args.params_as();
    let ramp = written(&mut args.buffers[0]);
    let ramp: &mut [f32] = bytemuck::cast_slice_mut(ramp);
    let source = Source::<f32>::new(p, args);
    let (pixels, reads) = (p.items as usize, (p.ramps * p.reads) as usize);
    let came: &[f32] = ramp;
    let bands: Vec<Vec<f32>> = (0..pixels.div_ceil(BAND))
        .into_par_iter()
        .map(|band| {
            let mut y = vec![0.0; reads];
            let last = ((band + 1) * BAND).min(pixels);
            let done = (band * BAND..last).flat_map(|pixel| {
                (0..reads).for_each(|k| y[k] = came[k * pixels + pixel]);
                source.correct(pixel, &mut y);
                y.clone()
            });
            done.collect()
        })
        .collect();
    ramp.par_chunks_mut(pixels.max(1)).enumerate().for_each(|(k, read)| {
        let values = bands.iter().flat_map(|b| b.iter().skip(k).step_by(reads));
        read.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
    });
}

/// The values after the correction in precision `T`, `[pixel][read]`.
#[cfg(test)]
pub(super) fn reference<T: Real>(args: &Args<'_>) -> Vec<T> {
    let p: Params = args.params_as();
    let source = Source::<T>::new(p, args);
    let ramp = args.buffers[0].floats();
    let (pixels, reads) = (p.items as usize, (p.ramps * p.reads) as usize);
    (0..pixels)
        .flat_map(|pixel| {
            let mut y: Vec<T> = (0..reads).map(|k| T::of(ramp[k * pixels + pixel])).collect();
            source.correct(pixel, &mut y);
            y
        })
        .collect()
}

impl<'a, T: Real> Source<'a, T> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        let reads = (p.ramps * p.reads) as usize;
        Source {
            p,
            flags: args.buffers[1].words(),
            cal: args.buffers[2].floats(),
            tables: Tables::from_floats(&args.buffers[3].floats()[..reads * TABLE_ARRAYS], reads),
        }
    }

    fn plane(&self, plane: usize, pixel: usize) -> f32 {
        self.cal[plane * self.p.items as usize + pixel]
    }

    fn pixel(&self, pixel: usize) -> Pixel<T> {
        let planes = |first: usize, n: u32| {
            (first..first + n as usize).map(|plane| T::of(self.plane(plane, pixel))).collect()
        };
        let level = self.plane(Plane::Saturation as usize, pixel);
        Pixel {
            forward: planes(Plane::Coefficients as usize, self.p.ncoef),
            inverse: planes(self.p.inverse as usize, self.p.ninverse),
            bias: T::of(self.plane(Plane::Bias as usize, pixel)),
            // A pixel that never saturates has a level beyond all numbers.
            cap: (level < 1e30).then(|| T::of(CAP) * T::of(level)),
        }
    }

    /// Corrects the reads of a pixel.
    fn correct(&self, pixel: usize, y: &mut [T]) {
        let p = &self.p;
        let reads = p.reads as usize;
        let about = self.pixel(pixel);
        for (ramp, y) in y.chunks_mut(reads).enumerate() {
            let at = |k: usize| ramp * reads + k;
            let shift = match p.zero_point {
                zero::RAW if p.bias != 0 => -about.bias,
                zero::FIRST => y[0],
                _ => T::ZERO,
            };
            let flag = |k: usize| self.flags[at(k) * p.items as usize + pixel];
            let ends = ends(reads, flag);
            let line = ends.map(|(first, last)| {
                let low = polynomial(&about.forward, y[first] - shift);
                let high = polynomial(&about.forward, y[last] - shift);
                let start = self.tables.time[at(first)];
                (low, (high - low) / (self.tables.time[at(last)] - start), start)
            });
            for (k, value) in y.iter_mut().enumerate() {
                if flag(k) & flag::SATURATED != 0 {
                    continue;
                }
                let x = *value - shift;
                let frames = T::ONE / self.tables.inv_n[at(k)];
                *value = match line {
                    Some(line) if self.tables.inv_n[at(k)] < T::ONE => {
                        self.frames(&about, line, x, self.tables.time[at(k)], frames)
                    }
                    _ => polynomial(&about.forward, x),
                };
            }
        }
    }

    /// A read of mean `x` at `time` s, the average of so many `frames`. `line`: signal,
    /// rate and time at which it starts.
    fn frames(&self, about: &Pixel<T>, line: (T, T, T), x: T, time: T, frames: T) -> T {
        let (low, rate, start) = line;
        let step = T::of(self.p.frame_time);
        // Whole, but for the rounding of 1/N.
        let n = (frames.to_f64() + 0.5) as u32;
        let begin = time - start - T::of(0.5) * T::of((n - 1) as f32) * step;
        let shown = |j: u32| polynomial(&about.inverse, low + rate * (begin + T::of(j as f32) * step));
        let count = T::of(n as f32);
        let mut mean = T::ZERO;
        for j in 0..n {
            mean += shown(j) - x;
        }
        let offset = mean / count;
        let mut sum = T::ZERO;
        for j in 0..n {
            let frame = shown(j) - offset;
            let frame = about.cap.map_or(frame, |cap| frame.smaller(cap));
            sum += polynomial(&about.forward, frame);
        }
        sum / count
    }
}

/// The reads that the rate is taken from: the first that is usable, and the last but one
/// of those that are, or the second. `None` where there are not two.
fn ends(reads: usize, flag: impl Fn(usize) -> u32) -> Option<(usize, usize)> {
    let usable = |k: &usize| flag(*k) & (flag::SATURATED | flag::DO_NOT_USE) == 0;
    let count = (0..reads).filter(usable).count();
    let first = (0..reads).find(usable)?;
    let last = (0..reads).filter(usable).nth(count.saturating_sub(2).max(1))?;
    Some((first, last))
}

/// Σ c_k x^k, Horner's way.
pub(crate) fn polynomial<T: Real>(coefficients: &[T], x: T) -> T {
    coefficients.iter().rev().fold(T::ZERO, |sum, c| sum * x + *c)
}

#[cfg(test)]
#[path = "linearity_reads_tests.rs"]
mod tests;
