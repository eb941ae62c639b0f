//! What a jump takes with it: neighbours, and reads after a large one. After
//! [`two_point`](super::two_point). `shaders/jump_spread.wgsl` is its twin.
//!
//! Buffers 0–3 as `stored.rs` says, the flags being those that
//! `two_point` left; 4 median difference of each pixel, e-/s (NaN: none); 5 flags
//! out `[read][pixel]`, without [`MARK`].
//!
//! As stcal 1.20.0 does it: a marked read flags the same read of its four
//! neighbours; then a jump of `after_electrons` or more above the median difference
//! flags so many reads more. SATURATED and DO_NOT_USE reads take no flag, and lose
//! JUMP_DET where they came with it.

use rayon::prelude::*;

use super::layout::params;
use super::ramp::{NAN, Plane, Tables, flag};
use super::stored::{Stored, written};
use super::two_point::MARK;
use super::{Access, Args, Kernel};

/// The kernel.
pub static JUMP_SPREAD: Kernel = Kernel {
    stem: "jump_spread",
    wgsl: &[include_str!("../../shaders/lib/stored.wgsl"), include_str!("../../shaders/jump_spread.wgsl")],
    constants: &[("NREADS", 16)],
    params: Params::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
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
        /// 1 where neighbours share marked jumps.
        pub neighbours: u32,
        /// Electrons from which a jump flags reads after it.
        pub after_electrons_1: f32,
        /// How many.
        pub after_reads_1: u32,
        /// A second level.
        pub after_electrons_2: f32,
        /// How many.
        pub after_reads_2: u32,
    }
}

fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let Some(out) = args.buffers.last_mut() else { return };
    let out = written(out);
    let items = p.items as usize;
    let stored = Stored::new(args, p.items, p.ramps * p.reads);
    let source = Source { p, tables: stored.tables(), stored, medians: args.buffers[4].words() };
    let found: Vec<Vec<u32>> =
        (0..items).into_par_iter().map_init(|| source.work(), |w, pixel| source.spread(pixel, w)).collect();
    for (pixel, flags) in found.iter().enumerate() {
        for (k, f) in flags.iter().enumerate() {
            out[k * items + pixel] = *f;
        }
    }
}

struct Source<'a> {
    p: Params,
    stored: Stored<'a>,
    tables: Tables<f64>,
    medians: &'a [u32],
}

impl Source<'_> {
    fn work(&self) -> (Vec<f64>, Vec<u32>) {
        (vec![0.0; self.stored.reads], vec![0; self.stored.reads])
    }

    /// The flags of a pixel.
    fn spread(&self, pixel: usize, (y, flags): &mut (Vec<f64>, Vec<u32>)) -> Vec<u32> {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let p = &self.p;
        self.stored.load(pixel, y, flags);
        if p.neighbours != 0 {
            for (k, f) in flags.iter_mut().enumerate() {
                if *f & LOST == 0 && self.marked(k, pixel) {
                    *f |= flag::JUMP_DET;
                }
            }
        }
        let mut out = flags.clone();
        let reads = p.reads as usize;
        for (level, after) in [(p.after_electrons_1, p.after_reads_1), (p.after_electrons_2, p.after_reads_2)]
        {
            if after == 0 || self.medians[pixel] == NAN {
                continue;
            }
            let after = (after as usize).min(reads.saturating_sub(2));
            for k in (0..flags.len()).filter(|k| k % reads > 0 && flags[*k] & flag::JUMP_DET != 0) {
                if (flags[k - 1] | flags[k]) & LOST != 0 || self.rise(k, pixel, y) < f64::from(level) {
                    continue;
                }
                let end = (k + after).min(k - k % reads + reads - 1);
                out[k..=end].iter_mut().for_each(|f| *f |= flag::JUMP_DET);
            }
        }
        for (f, came) in out.iter_mut().zip(flags) {
            *f &= !MARK;
            if *came & LOST != 0 {
                *f &= !flag::JUMP_DET;
            }
        }
        out
    }

    /// Electrons by which read `k` rises above its expected difference.
    fn rise(&self, k: usize, pixel: usize, y: &[f64]) -> f64 {
        let gain: f64 = self.stored.value(Plane::Gain, pixel);
        let inv = self.tables.inv_dt[k - 1];
        gain * (y[k] - y[k - 1]) - f64::from(f32::from_bits(self.medians[pixel])) / inv
    }

    /// Whether one of the four neighbours is marked at read `k`.
    fn marked(&self, k: usize, pixel: usize) -> bool {
        let (nx, rows) = (self.p.nx as usize, self.p.rows as usize);
        let (x, y) = (pixel % nx, pixel / nx);
        let at = |ok: bool, q: usize| ok && self.stored.flag(k, q) & MARK != 0;
        at(x > 0, pixel.wrapping_sub(1))
            || at(x + 1 < nx, pixel + 1)
            || at(y > 0, pixel.wrapping_sub(nx))
            || at(y + 1 < rows, pixel + nx)
    }
}

#[cfg(test)]
#[path = "jump_spread_tests.rs"]
mod tests;
