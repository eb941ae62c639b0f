//! Inter-pixel capacitance: each read of the science area convolved with a kernel
//! that undoes it. `shaders/ipc.wgsl` is its twin.
//!
//! Buffers: 0 ramp f32 `[read][pixel]`, DN; 1 flags `[read][pixel]`; 2 taps f32 `[tap]`,
//! or `[tap][pixel]` where they vary over the detector (tap j·width + i); 3 out f32
//! `[read][pixel]`.
//!
//! ```text
//! out(y, x) = Σ_j Σ_i K_ji in(y + h − j, x + h − i)     h = (width − 1)/2
//! ```
//!
//! as jwst 3.0.0 has it: the sum runs over the science area alone, pixels outside it
//! are copied. A read without a value (0 DN and DO_NOT_USE, but not at the floor of
//! the converter) says nothing of what its neighbours got from it: there the pixel's
//! own value stands in for it.

use rayon::prelude::*;

use super::layout::params;
use super::ramp::flag;
use super::real::Real;
use super::stored::written;
use super::{Access, Args, Kernel};

/// The kernel.
pub static IPC: Kernel = Kernel {
    stem: "ipc",
    wgsl: &[include_str!("../../shaders/ipc.wgsl")],
    constants: &[],
    params: Params::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: run,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Pixels.
        pub items: u32,
        /// Columns.
        pub nx: u32,
        /// Rows.
        pub rows: u32,
        /// Reads of all ramps.
        pub reads: u32,
        /// Taps across the convolution kernel, odd.
        pub width: u32,
        /// 1 where taps are planes.
        pub varies: u32,
        /// First column of the science area.
        pub x0: u32,
        /// The column after its last.
        pub x1: u32,
        /// First row of the science area, in the chunk.
        pub y0: u32,
        /// The row after its last.
        pub y1: u32,
    }
}

/// The kernel's inputs.
struct Source<'a> {
    p: Params,
    ramp: &'a [f32],
    flags: &'a [u32],
    taps: &'a [f32],
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let Some(out) = args.buffers.last_mut() else { return };
    let out: &mut [f32] = bytemuck::cast_slice_mut(written(out));
    let source = Source::new(p, args);
    let rows = out.par_chunks_mut((p.nx as usize).max(1));
    rows.enumerate().for_each_init(Vec::new, |sum, (at, out)| {
        source.row(at / p.rows as usize, at % p.rows as usize, sum);
        out.copy_from_slice(sum);
    });
}

/// The values after the convolution in precision `T`, `[read][pixel]`.
#[cfg(test)]
pub(super) fn reference<T: Real>(args: &Args<'_>) -> Vec<T> {
    let p: Params = args.params_as();
    let source = Source::new(p, args);
    let mut sum = Vec::new();
    (0..p.reads as usize * p.rows as usize)
        .flat_map(|at| {
            source.row(at / p.rows as usize, at % p.rows as usize, &mut sum);
            sum.clone()
        })
        .collect()
}

impl<'a> Source<'a> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        Source {
            p,
            ramp: args.buffers[0].floats(),
            flags: args.buffers[1].words(),
            taps: args.buffers[2].floats(),
        }
    }

    /// Row `y` of read `k`, into `sum`.
    fn row<T: Real>(&self, k: usize, y: usize, sum: &mut Vec<T>) {
        let p = &self.p;
        let (nx, width) = (p.nx as usize, p.width as usize);
        let line = |y: usize| (k * p.rows as usize + y) * nx..(k * p.rows as usize + y + 1) * nx;
        let own = &self.ramp[line(y)];
        sum.clear();
        sum.extend(own.iter().map(|v| T::of(*v)));
        if !(p.y0 as usize..p.y1 as usize).contains(&y) {
            return;
        }
        let science = p.x0 as usize..p.x1 as usize;
        let (half, middle) = (width / 2, (width * width) / 2);
        sum[science.clone()].fill(T::ZERO);
        // The middle last: it is the largest by far.
        for tap in (0..width * width).filter(|t| *t != middle).chain([middle]) {
            let (j, i) = (tap / width, tap % width);
            let from = (y + half).wrapping_sub(j);
            if !(p.y0 as usize..p.y1 as usize).contains(&from) || from >= p.rows as usize {
                continue;
            }
            let (values, flags) = (&self.ramp[line(from)], &self.flags[line(from)]);
            // x such that x + half − i lies in the area.
            let first = science.start + i.saturating_sub(half);
            let last = science.end.saturating_sub(half.saturating_sub(i));
            for x in first..last.max(first) {
                let at = x + half - i;
                let value = if unknown(values[at], flags[at]) { own[x] } else { values[at] };
                sum[x] += T::of(self.tap(tap, y * nx + x)) * T::of(value);
            }
        }
    }

    #[inline(always)]
    fn tap(&self, tap: usize, pixel: usize) -> f32 {
        if self.p.varies != 0 { self.taps[tap * self.p.items as usize + pixel] } else { self.taps[tap] }
    }
}

/// Whether a read has no value: what is not finite is stored as 0 and DO_NOT_USE.
#[inline(always)]
fn unknown(value: f32, flags: u32) -> bool {
    (value == 0.0) & (flags & (flag::DO_NOT_USE | flag::AD_FLOOR) == flag::DO_NOT_USE)
}

#[cfg(test)]
#[path = "ipc_tests.rs"]
mod tests;
