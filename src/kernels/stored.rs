//! Ramps after [`ramp`](super::ramp)'s STORE stage, as the kernels that work on
//! them see them: a grid of pixels, of which a run is done.
//!
//! Their buffers begin alike: 0 ramp f32 `[read][pixel]` in DN, 1 flags
//! `[read][pixel]`, 2 calibration planes `[plane][pixel]`
//! ([`Plane`](super::ramp::Plane)), 3 tables ([`Tables`]).

use super::ramp::{OUT_PLANES, Plane, TABLE_ARRAYS, Tables};
use super::real::Real;
use super::{Args, Bound};

/// The common buffers.
pub(super) struct Stored<'a> {
    ramp: &'a [f32],
    flags: &'a [u32],
    cal: &'a [u32],
    tables: &'a [f32],
    /// Pixels of the grid.
    pixels: usize,
    /// Reads of the exposure (ramps × reads a ramp).
    pub(super) reads: usize,
}

impl<'a> Stored<'a> {
    pub(super) fn new(args: &'a Args<'_>, pixels: u32, reads: u32) -> Self {
        let reads = reads as usize;
        Stored {
            ramp: args.buffers[0].floats(),
            flags: args.buffers[1].words(),
            cal: args.buffers[2].words(),
            tables: &args.buffers[3].floats()[..reads * TABLE_ARRAYS],
            pixels: pixels as usize,
            reads,
        }
    }

    pub(super) fn tables<T: Real>(&self) -> Tables<T> {
        Tables::from_floats(self.tables, self.reads)
    }

    /// The reads of `pixel`, DN, and their flags.
    pub(super) fn load<T: Real>(&self, pixel: usize, y: &mut [T], flags: &mut [u32]) {
        for k in 0..self.reads {
            y[k] = T::of(self.ramp[k * self.pixels + pixel]);
            flags[k] = self.flags[k * self.pixels + pixel];
        }
    }

    pub(super) fn read<T: Real>(&self, read: usize, pixel: usize) -> T {
        T::of(self.ramp[read * self.pixels + pixel])
    }

    pub(super) fn flag(&self, read: usize, pixel: usize) -> u32 {
        self.flags[read * self.pixels + pixel]
    }

    pub(super) fn bits(&self, pixel: usize) -> u32 {
        self.cal[Plane::Dq as usize * self.pixels + pixel]
    }

    pub(super) fn value<T: Real>(&self, plane: Plane, pixel: usize) -> T {
        T::of(f32::from_bits(self.cal[plane as usize * self.pixels + pixel]))
    }
}

/// A writable binding taken out of the arguments, so that the rest can be read.
pub(super) fn written<'a>(bound: &mut Bound<'a>) -> &'a mut [u32] {
    match std::mem::replace(bound, Bound::Read(&[])) {
        Bound::Write(words) => words,
        Bound::Read(_) => &mut [],
    }
}

/// What a fit says of a pixel: the planes before `Out::Dq` in their order, NaN for
/// what has no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Rate, error, photon variance, read variance, reduced χ².
    pub values: [f64; 5],
    /// Data quality.
    pub dq: u32,
    /// Usable reads.
    pub reads: u32,
}

impl Rate {
    /// The words of the output planes.
    pub(super) fn words(&self) -> [u32; OUT_PLANES] {
        let mut out = [0; OUT_PLANES];
        for (o, v) in out.iter_mut().zip(self.values) {
            *o = if v.is_nan() { super::ramp::NAN } else { (v as f32).to_bits() };
        }
        out[5] = self.dq;
        out[6] = self.reads;
        out
    }
}

/// Runs `fit` for every item and writes the output planes `[plane][item]`.
/// Arithmetic is the caller's: these kernels are exact copies of other programs'
/// double precision, and their CPU form has it too.
pub(super) fn fill<S>(
    items: usize,
    out: &mut [u32],
    state: impl Fn() -> S + Sync + Send,
    fit: impl Fn(&mut S, usize) -> Rate + Sync + Send,
) {
    use rayon::prelude::*;
    /// Items that a thread takes at a time.
    const BAND: usize = 1024;
    let bands: Vec<Vec<[u32; OUT_PLANES]>> = (0..items.div_ceil(BAND))
        .into_par_iter()
        .map_init(state, |state, band| {
            let last = ((band + 1) * BAND).min(items);
            (band * BAND..last).map(|item| fit(state, item).words()).collect()
        })
        .collect();
    for (item, words) in bands.iter().flatten().enumerate() {
        for (plane, word) in words.iter().enumerate() {
            out[plane * items + item] = *word;
        }
    }
}
