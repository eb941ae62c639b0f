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
//! # Layout
//! The detector is cut into segments of [`SEG`] columns. An [`Entry`] is one spectrum in
//! one segment, its rows counted from a fixed anchor; a segment's entries ascend by it.
//! Unknowns are (entries, SEG), coefficients (entries, ky, rank, SEG), images (segments,
//! ny, SEG): columns are always the fastest axis.

mod local;
mod solve;
mod sweep;
#[cfg(test)]
mod tests;

pub use local::{HALF_COLUMNS, HALF_SPECTRA, Local, local};
pub use solve::{Fit, Options, column, fit, solve};
pub use sweep::{Lanes, adjoint, fold, image, normal};

use super::Real;

/// Columns a segment.
pub const SEG: usize = 64;
/// Reach of B along dispersion, columns.
pub const REACH: usize = 6;
/// Weights along dispersion.
pub const TAPS: usize = 2 * REACH + 1;
/// A segment's columns with the reach on either side.
pub const WIDE: usize = SEG + 2 * REACH;
/// No entry.
pub const NONE: u32 = u32::MAX;

/// One spectrum in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub live: [u8; 2],
}

/// B, in the layout above.
#[derive(Debug, Clone)]
pub struct System<T> {
    /// Detector columns.
    pub nx: usize,
    /// Detector rows.
    pub ny: usize,
    /// Rows of a profile.
    pub ky: usize,
    /// Weights along dispersion, one row a term; j = −REACH … REACH.
    pub taps: Vec<[T; TAPS]>,
    /// Entries by segment, then anchor.
    pub entries: Vec<Entry>,
    /// First entry of each segment, and their number.
    pub starts: Vec<usize>,
    /// (entries, ky, rank, SEG).
    pub coefs: Vec<T>,
}

impl<T: Real> System<T> {
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

    /// Coefficients of entry `e`, (ky, rank, SEG).
    pub fn coefs_of(&self, e: usize) -> &[T] {
        let n = self.ky * self.rank() * SEG;
        &self.coefs[e * n..(e + 1) * n]
    }

    /// The value of B between unknown column `i` (segment columns of entry `e`, may lie
    /// beyond it) and row `dy` of its column `x`.
    pub fn value(&self, e: usize, x: usize, dy: usize, j: usize) -> T {
        let c = self.coefs_of(e);
        let mut sum = T::ZERO;
        for (r, h) in self.taps.iter().enumerate() {
            sum += c[(dy * self.rank() + r) * SEG + x] * h[j];
        }
        sum
    }

    /// The same system in another precision.
    pub fn map<U: Real>(&self, f: impl Fn(T) -> U + Sync) -> System<U> {
        System {
            nx: self.nx,
            ny: self.ny,
            ky: self.ky,
            taps: self.taps.iter().map(|h| h.map(&f)).collect(),
            entries: self.entries.clone(),
            starts: self.starts.clone(),
            coefs: self.coefs.iter().map(|c| f(*c)).collect(),
        }
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
