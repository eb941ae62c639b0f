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
//! column, and [`TAPS`] weights along dispersion, which are the same everywhere; and as
//! traces and profiles change slowly, a profile's columns are those of a few `nodes`, with
//! weights φ that are the same for all spectra:
//!
//! ```text
//! d(x, y) = Σ_l Σ_r a_lr(y; x) Σ_j h_r(j) f_l(x + j),   a_lr(y; x) = Σ_k φ_k(x) a_lrk(y).
//! ```
//!
//! (A coefficient a column instead would be 2.3 GB at the IRIS size, read twice an
//! iteration: the memory would bind, not the arithmetic.)
//!
//! Nothing is ever scattered to shared memory and all sums have a fixed order: the same
//! bits with any number of threads.
//!
//! The conjugate gradients ([`solve`]) are a loop over what a [`Machine`] does with vectors
//! that stay where it has them: on an engine by the kernels `factored_*`
//! ([`kernels`](LIGHT)), in plain memory by [`Plain`], in f64 the reference of both.
//!
//! # Layout
//! The detector, or what of it is wanted, is cut into segments of [`SEG`] columns. An [`Entry`] is one spectrum in
//! one segment, its rows counted from a fixed anchor; a segment's entries ascend by it.
//! Unknowns are (entries, SEG), images (segments, ny, SEG): columns are the fastest axis.
//! Coefficients are (entries, ky, rank, nodes).

mod filter;
mod kernels;
mod local;
mod machine;
mod operators;
mod solve;
#[cfg(test)]
pub(crate) mod tests;

pub use filter::Filter;
pub use kernels::{
    DIAGONAL, EntriesParams, FOLD, FoldParams, LIGHT, LightMode, LightParams, PART, STEP, StepParams, TAKE,
    TILE, TURN,
};
pub use local::{LAGS, Local, local};
pub use machine::{Left, Machine, Plain, gather};
pub use operators::{Lanes, MAX_RANK, Shapes, View, image};
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
    /// First column of the spectrum that is wanted, and the one after the last, counted from
    /// the segment's first: what lies further out is modelled for its light's sake.
    pub wanted: [i16; 2],
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
    /// Weights φ of a profile's nodes in a segment's columns, one row a node.
    pub basis: Vec<[f32; SEG]>,
    /// First detector column of each segment, ascending: of all, or of some of them.
    pub columns: Vec<u32>,
    /// Entries by segment, then anchor.
    pub entries: Vec<Entry>,
    /// First entry of each segment, and their number.
    pub starts: Vec<u32>,
    /// (entries, ky, rank, nodes).
    pub coefs: Vec<f32>,
}

impl System {
    /// Terms of B.
    pub fn rank(&self) -> usize {
        self.taps.len()
    }

    /// Segments.
    pub fn segments(&self) -> usize {
        self.columns.len()
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

    /// Products of a tap and a node: coefficients a row.
    pub fn terms(&self) -> usize {
        self.taps.len() * self.basis.len()
    }

    /// Coefficients of entry `e`, (ky, rank, nodes).
    pub fn coefs_of(&self, e: usize) -> &[f32] {
        let n = self.ky * self.terms();
        &self.coefs[e * n..(e + 1) * n]
    }

    /// Taps and nodes.
    pub fn shapes(&self) -> Shapes<'_> {
        Shapes { taps: &self.taps, basis: &self.basis }
    }

    /// The columns of entry `e` that light of its spectrum reaches: [`REACH`] beyond its
    /// unknowns, those of its neighbours among them.
    pub fn lit(&self, e: usize) -> std::ops::Range<usize> {
        let entry = &self.entries[e];
        let (mut from, mut to) = (SEG as i64, 0);
        for (e, shift) in [(entry.left, -(SEG as i64)), (e as u32, 0), (entry.right, SEG as i64)] {
            let Some(own) = self.entries.get(e as usize) else { continue };
            let [first, end] = own.live.map(|x| i64::from(x) + shift);
            if first < end {
                from = from.min(first - REACH as i64);
                to = to.max(end + REACH as i64);
            }
        }
        let (from, to) = (from.clamp(0, SEG as i64) as usize, to.clamp(0, SEG as i64) as usize);
        from.min(to)..to
    }

    /// The profiles of entry `e` in its column `x`, (ky, rank).
    pub fn profiles(&self, e: usize, x: usize) -> impl Iterator<Item = f32> + '_ {
        let at = move |c: &[f32]| c.iter().zip(&self.basis).map(|(c, b)| c * b[x]).sum();
        self.coefs_of(e).chunks_exact(self.basis.len()).map(at)
    }

    /// The value of B between row `dy` of column `x` of entry `e` and the unknown `j` −
    /// REACH columns on.
    pub fn value(&self, e: usize, x: usize, dy: usize, j: usize) -> f64 {
        let profiles = self.coefs_of(e)[dy * self.terms()..].chunks_exact(self.basis.len());
        let at = |c: &[f32]| -> f64 {
            c.iter().zip(&self.basis).map(|(c, b)| f64::from(*c) * f64::from(b[x])).sum()
        };
        self.taps.iter().zip(profiles).map(|(h, c)| f64::from(h[j]) * at(c)).sum()
    }

    /// The segment `by` segments on from `segment`, if it is one of them.
    pub fn beside(&self, segment: usize, by: i64) -> Option<usize> {
        let other = usize::try_from(segment as i64 + by).ok()?;
        let apart = i64::from(*self.columns.get(other)?) - i64::from(self.columns[segment]);
        (apart == by * SEG as i64).then_some(other)
    }

    /// Calls `each` with the place in `out` and the detector's pixel (of (ny, nx)) that belongs
    /// there, for all pixels; `out` is (segments, ny, SEG).
    pub fn each_pixel<V: Send>(&self, out: &mut [V], each: impl Fn(&mut V, usize) + Sync) {
        use rayon::prelude::*;
        out.par_chunks_exact_mut(self.ny * SEG).zip(&self.columns).for_each(|(block, x0)| {
            let x0 = *x0 as usize;
            for (y, row) in block.chunks_exact_mut(SEG).enumerate() {
                row.iter_mut().zip(x0..self.nx).for_each(|(v, x)| each(v, y * self.nx + x));
            }
        });
    }

    /// An image (ny, nx) in the layout of segments; `pad` beyond the detector.
    pub fn to_segments<V: Copy + Send + Sync>(&self, image: &[V], pad: V) -> Vec<V> {
        let mut out = vec![pad; self.pixels()];
        self.each_pixel(&mut out, |v, i| *v = image[i]);
        out
    }

    /// Back to (ny, nx).
    pub fn to_rows<V: Copy + Send + Sync>(&self, blocks: &[V], zero: V) -> Vec<V> {
        use rayon::prelude::*;
        let mut out = vec![zero; self.nx * self.ny];
        out.par_chunks_exact_mut(self.nx).enumerate().for_each(|(y, row)| {
            for (s, x0) in self.columns.iter().enumerate() {
                let to = row[*x0 as usize..].iter_mut().take(SEG);
                to.zip(&blocks[(s * self.ny + y) * SEG..]).for_each(|(t, f)| *t = *f);
            }
        });
        out
    }
}
