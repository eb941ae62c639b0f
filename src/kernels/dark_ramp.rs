//! A dark ramp subtracted read by read. `shaders/dark_ramp.wgsl` is its twin.
//!
//! Buffers: 0 ramp f32 `[read][pixel]`, DN, changed in place; 1 dark f32 `[read][pixel]`,
//! DN: the reads of one ramp, taken from every ramp, or of all ramps.

use rayon::prelude::*;

use super::layout::params;
use super::real::Real;
use super::stored::written;
use super::{Access, Args, Kernel};

/// The kernel.
pub static DARK_RAMP: Kernel = Kernel {
    stem: "dark_ramp",
    wgsl: &[include_str!("../../shaders/dark_ramp.wgsl")],
    constants: &[],
    params: Params::LAYOUT,
    access: &[Access::Write, Access::Read],
    cpu: run,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Pixels.
        pub items: u32,
        /// Reads of all ramps.
        pub reads: u32,
        /// Reads of the dark, by which those of the ramp are counted anew.
        pub dark_reads: u32,
    }
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let ramp = written(&mut args.buffers[0]);
    let ramp: &mut [f32] = bytemuck::cast_slice_mut(ramp);
    let dark = args.buffers[1].floats();
    let pixels = (p.items as usize).max(1);
    ramp.par_chunks_mut(pixels).take(p.reads as usize).enumerate().for_each(|(k, read)| {
        let dark = &dark[k % p.dark_reads as usize * pixels..][..pixels];
        read.iter_mut().zip(dark).for_each(|(y, d)| *y = less(*y, *d));
    });
}

/// The values less their dark in precision `T`, `[read][pixel]`.
#[cfg(test)]
pub(super) fn reference<T: Real>(args: &Args<'_>) -> Vec<T> {
    let p: Params = args.params_as();
    let (ramp, dark) = (args.buffers[0].floats(), args.buffers[1].floats());
    let n = (p.dark_reads * p.items) as usize;
    (0..(p.reads * p.items) as usize).map(|i| less(T::of(ramp[i]), T::of(dark[i % n]))).collect()
}

#[inline(always)]
fn less<T: Real>(y: T, dark: T) -> T {
    y - dark
}

#[cfg(test)]
#[path = "dark_ramp_tests.rs"]
mod tests;
