//! The ramp kernel: raw reads of some pixels to their rates, or through any part
//! of that way. `shaders/ramp.wgsl` is its twin.
//!
//! Buffers: 0 ramp (raw bytes in words, or f32), 1 flags in (a word a read and
//! pixel, `[read][pixel]`; one word when there are none), 2 calibration planes
//! `[plane][pixel]` (see [`Plane`]), 3 tables ([`Tables`], then reference-pixel
//! offsets `[read][column]`, then `[read][block][line]`), 4 list of pixels,
//! 5 out (rates: [`Out`] planes `[plane][item]`; ramps: `[read][item]` f32),
//! 6 flags out (`[read][item]`, when a ramp is stored).
//!
//! A chunk is a grid of `rows` × `nx` pixels whose first row is detector row
//! `row0`; items are all its pixels in order, or those in the list.

mod amplitude;
mod cpu;
mod decode;
pub(super) mod likelihood;
mod lines;
mod pedestal;
mod rates;
mod reads;
mod tables;

use super::layout::params;
use super::{Access, Kernel, array_length};
pub use amplitude::Amplitudes;
pub use cpu::reference;
pub use decode::Encoding;
pub use lines::{Counts, Line};
pub use tables::Tables;

/// The kernel.
pub static RAMP: Kernel = Kernel {
    stem: "ramp",
    wgsl: &[
        include_str!("../../../shaders/lib/decode.wgsl"),
        include_str!("../../../shaders/lib/likelihood.wgsl"),
        include_str!("../../../shaders/lib/lines.wgsl"),
        include_str!("../../../shaders/ramp.wgsl"),
    ],
    constants: &[("NREADS", 16), ("FITS", 1)],
    params: Params::LAYOUT,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    cpu: cpu::run,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Items to do.
        pub items: u32,
        /// Columns of the chunk.
        pub nx: u32,
        /// Rows of the chunk.
        pub rows: u32,
        /// Detector row of the chunk's first row.
        pub row0: u32,
        /// Ramps.
        pub ramps: u32,
        /// Reads a ramp.
        pub reads: u32,
        /// Elements from ramp to ramp.
        pub stride_ramp: u32,
        /// Elements from read to read.
        pub stride_read: u32,
        /// Elements from row to row.
        pub stride_y: u32,
        /// Elements from column to column.
        pub stride_x: u32,
        /// [`Encoding`].
        pub encoding: u32,
        /// 1 where items are the list's pixels.
        pub listed: u32,
        /// Bits of [`stage`].
        pub stages: u32,
        /// Pixels around a saturated one that saturate with it.
        pub grow: u32,
        /// Coefficients of the linearity polynomial.
        pub ncoef: u32,
        /// [`zero`]: what the polynomial's argument is measured from.
        pub zero_point: u32,
        /// [`algorithm`].
        pub algorithm: u32,
        /// Reads averaged by MCDS.
        pub num_coadd: u32,
        /// Entries of a read in the first offset table.
        pub across: u32,
        /// 1 where that table runs along y (channels are blocks of rows).
        pub along_y: u32,
        /// Lines of a block in the second offset table.
        pub lines: u32,
        /// Entries of the first table that share a block of the second (≥ 1).
        pub block_width: u32,
        /// Most omissions a pixel.
        pub max_jumps: u32,
        /// Gain in χ² from which a single difference is dropped.
        pub threshold_one: f32,
        /// Gain in χ² from which two neighbours are dropped.
        pub threshold_two: f32,
        /// 1 for rates in DN/s.
        pub counts: u32,
        /// 1 for pedestals too (`LIKELIHOOD`).
        pub pedestal: u32,
        /// What the pedestals are known to be, DN.
        pub prior: f32,
        /// Variance of that, DN²; 0 where nothing is known.
        pub prior_variance: f32,
        /// Variance beside that of [`Plane::ReadVariance`], which an exposure adds to it, DN².
        pub added_variance: f32,
    }
}

impl Params {
    /// Planes that the fit writes: [`Out`]'s, then each ramp's pedestal, its variance
    /// and its covariance with the rate.
    pub fn out_planes(&self) -> usize {
        OUT_PLANES + if self.pedestal != 0 { 3 * self.ramps as usize } else { 0 }
    }

    /// The constants of a dispatch with these parameters: without jumps and fit the
    /// shader has no use for most of its arrays.
    pub fn constants(&self) -> Vec<(&'static str, u32)> {
        let fits = self.stages & (stage::JUMP | stage::FIT) != 0;
        vec![("NREADS", array_length((self.ramps * self.reads) as usize)), ("FITS", u32::from(fits))]
    }
}

/// Bits of [`Params::stages`].
pub mod stage {
    /// Flag saturated reads.
    pub const SATURATION: u32 = 1;
    /// Subtract the bias plane.
    pub const BIAS: u32 = 2;
    /// Subtract the reference-pixel offsets.
    pub const REFPIX: u32 = 4;
    /// Apply the polynomial.
    pub const LINEARITY: u32 = 8;
    /// Look for jumps.
    pub const JUMP: u32 = 16;
    /// Fit, and write rates.
    pub const FIT: u32 = 32;
    /// Write the ramp and its flags.
    pub const STORE: u32 = 64;
    /// Buffer 1 holds flags.
    pub const FLAGS_IN: u32 = 128;
    /// A plane after the coefficients holds a dark rate, e-/s, that was subtracted from
    /// the reads: its photon noise is in them still.
    pub const DARK: u32 = 256;
    /// The polynomial was applied before: only its slope is wanted.
    pub const LINEARISED: u32 = 512;
}

/// Values of [`Params::zero_point`].
pub mod zero {
    /// From the bias (bias already subtracted).
    pub const BIAS: u32 = 0;
    /// From raw zero (the bias is added back).
    pub const RAW: u32 = 1;
    /// From the ramp's first read.
    pub const FIRST: u32 = 2;
}

/// Values of [`Params::algorithm`].
pub mod algorithm {
    /// Generalised least squares.
    pub const LIKELIHOOD: u32 = 0;
    /// Ordinary least squares.
    pub const OLS: u32 = 1;
    /// Correlated double sampling, `num_coadd` reads at each end.
    pub const MCDS: u32 = 2;
}

/// Flags of a read (JWST's group flags).
pub mod flag {
    /// Not usable.
    pub const DO_NOT_USE: u32 = 1;
    /// At or after saturation.
    pub const SATURATED: u32 = 2;
    /// A jump lies between the read before and this one.
    pub const JUMP_DET: u32 = 4;
    /// Persistence of an earlier exposure.
    pub const PERSISTENCE: u32 = 32;
    /// At the floor of the converter: 0 DN or less.
    pub const AD_FLOOR: u32 = 64;
    /// Charge has migrated to the neighbours.
    pub const CHARGELOSS: u32 = 128;
}

/// Calibration planes, in order; polynomial coefficients follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Plane {
    /// Data-quality bits (u32).
    Dq = 0,
    /// Saturation, raw DN.
    Saturation = 1,
    /// Bias, DN.
    Bias = 2,
    /// Gain, e-/DN.
    Gain = 3,
    /// Variance of a single read, e-².
    ReadVariance = 4,
    /// First coefficient.
    Coefficients = 5,
}

/// Output planes, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Out {
    /// Rate.
    Rate = 0,
    /// 1 σ.
    Err = 1,
    /// Photon variance.
    VarPoisson = 2,
    /// Read variance.
    VarRnoise = 3,
    /// Reduced χ².
    Chi2 = 4,
    /// Data quality (u32).
    Dq = 5,
    /// Usable reads (u32).
    Reads = 6,
}

/// Number of [`Out`] planes, without pedestals.
pub const OUT_PLANES: usize = 7;
/// NaN as it is stored.
pub(super) const NAN: u32 = 0x7fc0_0000;
/// Pixels that the CPU form treats together: two registers of AVX-512, so that one computes
/// while the other waits for its division.
const LANES: usize = 32;

/// Arrays in [`Tables`] laid end to end.
pub const TABLE_ARRAYS: usize = tables::ARRAYS;

#[cfg(test)]
mod tests;
