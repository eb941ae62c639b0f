//! Reads in which charge has migrated to the neighbours. `shaders/charge_migration.wgsl`
//! is its twin.
//!
//! Buffers: 0 ramp f32 `[read][pixel]`, DN; 1 flags `[read][pixel]`; 2 flags out
//! `[read][pixel]`.
//!
//! As jwst 3.0.0 has it: from the first read of a ramp above the threshold on (a read that is
//! DO_NOT_USE and nothing else does not count), a pixel and its four neighbours are
//! CHARGELOSS and DO_NOT_USE.

use rayon::prelude::*;

use super::layout::params;
use super::ramp::flag;
use super::stored::written;
use super::{Access, Args, Kernel};

/// The kernel.
pub static CHARGE_MIGRATION: Kernel = Kernel {
    stem: "charge_migration",
    wgsl: &[include_str!("../../shaders/charge_migration.wgsl")],
    constants: &[],
    params: Params::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Write],
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
        /// Ramps.
        pub ramps: u32,
        /// Reads a ramp.
        pub reads: u32,
        /// DN above which charge migrates.
        pub threshold: f32,
    }
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let Some(out) = args.buffers.last_mut() else { return };
    let out = written(out);
    let (ramp, flags) = (args.buffers[0].floats(), args.buffers[1].words());
    let (pixels, reads) = (p.items as usize, p.reads as usize);
    let ramps = out.par_chunks_mut((reads * pixels).max(1)).zip(ramp.par_chunks(reads * pixels));
    ramps.zip(flags.par_chunks(reads * pixels)).for_each(|((out, ramp), flags)| {
        let above: Vec<usize> = (0..pixels)
            .into_par_iter()
            .map(|pixel| (0..reads).find(|k| above(&p, ramp, flags, k * pixels + pixel)).unwrap_or(reads))
            .collect();
        out.par_chunks_mut(pixels).zip(flags.par_chunks(pixels)).enumerate().for_each(|(k, (out, flags))| {
            for (pixel, (to, came)) in out.iter_mut().zip(flags).enumerate() {
                let lost = around(&p, pixel).any(|q| above[q] <= k);
                *to = came | if lost { flag::CHARGELOSS | flag::DO_NOT_USE } else { 0 };
            }
        });
    });
}

fn above(p: &Params, ramp: &[f32], flags: &[u32], at: usize) -> bool {
    ramp[at] > p.threshold && flags[at] != flag::DO_NOT_USE
}

/// The pixel and its four neighbours.
fn around(p: &Params, pixel: usize) -> impl Iterator<Item = usize> {
    let (nx, rows) = (p.nx as usize, p.rows as usize);
    let (x, y) = (pixel % nx, pixel / nx);
    let at = |ok: bool, q: usize| ok.then_some(q);
    [
        Some(pixel),
        at(x > 0, pixel.wrapping_sub(1)),
        at(x + 1 < nx, pixel + 1),
        at(y > 0, pixel.wrapping_sub(nx)),
        at(y + 1 < rows, pixel + nx),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
#[path = "charge_migration_tests.rs"]
mod tests;
