//! `factored`: the spectra of all lenslets from the whole detector at once, on a model
//! that is two-dimensional and yet as well conditioned as one column's.
//!
//! A pixel sees d(x, y) = Σ_l ∫ s_l(u) P_l(x − u, y − Y_l(x)) du. The unknown is not s
//! but f_l(i) = ∫ s_l(u) G(i − u) du, the spectrum as a line-spread function G shows it
//! at the columns' centres; a kernel B with A = B·G (solved where the calibration is
//! loaded) takes it to the detector: d = B f. So crosstalk is two-dimensional, while
//! N = BᵀWB is nearly a band of small correlations and needs no regularisation.
//!
//! B is a sum of `rank` products of a profile along rows, which changes from column to
//! column, and [`TAPS`] weights along dispersion, which are the same everywhere:
//!
//! ```text
//! d(x, y) = Σ_l Σ_r a_lr(y; x) Σ_j h_r(j) f_l(x + j).
//! ```
//!
//! Nothing is ever scattered to shared memory and all sums have a fixed order: the same
//! bits with any number of threads.
//!
//! The conjugate gradients ([`solve`]) are a loop over what a [`Machine`] does with vectors
//! that stay where it has them: on an engine by the kernels `factored_*`
//! ([`kernels`](LIGHT)), in plain memory by [`Plain`], in f64 the reference of both.
//!
//! # Layout
//! The detector is cut into segments of [`SEG`] columns. An [`Entry`] is one spectrum in
//! one segment, its rows counted from a fixed anchor; a segment's entries ascend by it.
//! Unknowns are (entries, SEG), coefficients (entries, ky, rank, SEG), images (segments,
//! ny, SEG): columns are always the fastest axis.

mod kernels;
mod local;
mod machine;
mod operators;
mod solve;
#[cfg(test)]
pub(crate) mod tests;

pub use kernels::{
    DIAGONAL, EntriesParams, FOLD, FoldParams, LIGHT, LightMode, LightParams, PART, STEP, StepParams, TAKE,
    TILE, TURN,
};
pub use local::{HALF_COLUMNS, HALF_SPECTRA, Local, local};
pub use machine::{Left, Machine, Plain, gather};
pub use operators::{Lanes, MAX_RANK, View, image};
pub use solve::{Fit, Options, column, fit, solve};

/// Columns a segment.
pub const SEG: usize = 64;
/// Reach of B along dispersion, columns.
pub const REACH: usize = 8;
/// Weights along dispersion.
pub const TAPS: usize = 2 * REACH + 1;
/// A segment's columns with the reach on either side.
pub const WIDE: usize = SEG + 2 * REACH;
/// No entry.
pub const NONE: u32 = u32::MAX;

/// One spectrum in one segment; on devices [`ENTRY`] words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Entry {
    /// Number of the spectrum.
    pub spectrum: u32,
    /// Segment.
    pub segment: u32,
    /// Detector row of the first coefficient; may lie off the detector.
    pub anchor: i32,
    /// The same spectrum's entry in the segment before, or [`NONE`].
    pub left: u32,
    /// And in the one after.
    pub right: u32,
    /// First column that is an unknown, and the one after the last. Pixels are modelled
    /// [`REACH`] columns further: an unknown of which half is seen is hardly known.
    pub live: [u16; 2],
}

/// Words of an [`Entry`].
pub const ENTRY: usize = size_of::<Entry>() / 4;

/// B, in the layout above.
#[derive(Debug, Clone)]
pub struct System {
    /// Detector columns.
    pub nx: usize,
    /// Detector rows.
    pub ny: usize,
    /// Rows of a profile.
    pub ky: usize,
    /// Weights along dispersion, one row a term; j = −REACH … REACH.
    pub taps: Vec<[f32; TAPS]>,
    /// Entries by segment, then anchor.
    pub entries: Vec<Entry>,
    /// First entry of each segment, and their number.
    pub starts: Vec<u32>,
    /// (entries, ky, rank, SEG), in steps that the taps' scale makes up for: of each term's
    /// largest the 32767th part, which is a tenth of what the taps leave out.
    pub coefs: Vec<i16>,
}

impl System {
    /// Terms of B.
    pub fn rank(&self) -> usize {
        self.taps.len()
    }

    /// Segments.
    pub fn segments(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Words of a vector of unknowns.
    pub fn unknowns(&self) -> usize {
        self.entries.len() * SEG
    }

    /// Words of an image.
    pub fn pixels(&self) -> usize {
        self.segments() * self.ny * SEG
    }

    /// Entries of a segment.
    pub fn of_segment(&self, segment: usize) -> std::ops::Range<usize> {
        self.starts[segment] as usize..self.starts[segment + 1] as usize
    }

    /// Coefficients of entry `e`, (ky, rank, SEG).
    pub fn coefs_of(&self, e: usize) -> &[i16] {
        let n = self.ky * self.rank() * SEG;
        &self.coefs[e * n..(e + 1) * n]
    }

    /// The value of B between row `dy` of column `x` of entry `e` and the unknown `j` −
    /// REACH columns on.
    pub fn value(&self, e: usize, x: usize, dy: usize, j: usize) -> f64 {
        let terms = &self.coefs_of(e)[dy * self.rank() * SEG..];
        let of = |(r, h): (usize, &[f32; TAPS])| f64::from(h[j]) * f64::from(terms[r * SEG + x]);
        self.taps.iter().enumerate().map(of).sum()
    }

    /// An image (ny, nx) in the layout of segments; `pad` beyond the detector.
    pub fn to_segments<V: Copy + Send + Sync>(&self, image: &[V], pad: V) -> Vec<V> {
        use rayon::prelude::*;
        let mut out = vec![pad; self.pixels()];
        out.par_chunks_exact_mut(self.ny * SEG).enumerate().for_each(|(s, block)| {
            let (x0, x1) = (s * SEG, ((s + 1) * SEG).min(self.nx));
            for (y, row) in block.chunks_exact_mut(SEG).enumerate() {
                row[..x1 - x0].copy_from_slice(&image[y * self.nx + x0..y * self.nx + x1]);
            }
        });
        out
    }

    /// Back to (ny, nx).
    pub fn to_rows<V: Copy + Send + Sync>(&self, blocks: &[V], zero: V) -> Vec<V> {
        use rayon::prelude::*;
        let mut out = vec![zero; self.nx * self.ny];
        out.par_chunks_exact_mut(self.nx).enumerate().for_each(|(y, row)| {
            for (s, to) in row.chunks_mut(SEG).enumerate() {
                let n = to.len();
                to.copy_from_slice(&blocks[(s * self.ny + y) * SEG..][..n]);
            }
        });
        out
    }
}
