//! `extract`: the spectra of every detector column by weighted least squares.
//!
//! Model: pixel (x, y) = Σ_l S_l(x) · P_l(y; x), the spectra l being those whose
//! profile crosses column x. Each column is solved on its own for all its spectra
//! together: N = PᵀWP, banded because a profile overlaps only its neighbours;
//! variances are the diagonal of N⁻¹, exactly.
//!
//! The first solution takes weights from the noise that does not depend on the
//! signal; those after it W = 1/(variance + `factor` · model⁺), the model being the
//! one before, so that no pixel's own noise is in its weight (weights from the data
//! bias faint fluxes by −3 %). Of the pixels further than `threshold` σ from the
//! model (σ² including 3 % of the model, squared) the one without which χ² falls
//! most (residual² · weight / (1 − leverage)) within ± 2 rows is dropped; that is repeated while there are such pixels, up to
//! five times, and a spectrum in which one is left then is flagged OUTLIER, NaN.
//!
//! One item a column. Buffers:
//!
//! | # | | words |
//! |---|---|---|
//! | 0 | pixels | (ny, ncols, 4): rate, variance without the spectra's photon noise, the part of it shared with other frames, data quality |
//! | 1 | starts | ncols + 1: first entry of each column |
//! | 2 | table | (entries, ky + 1): first row (i32), then the profile's ky pixel weights; a column's entries in ascending order of the first row |
//! | 3 | scratch | [`scratch_words`]; the GPU's memory for a column (the CPU form keeps its own) |
//! | 4 | samples | (entries, 6): flux, variance, covariance with the next entry, shared variance, profile-weighted mean of residual²/variance, data quality |
//! | 5 | columns | (ncols, 4): χ², pixels used, pixels rejected, spectra solved |
//!
//! A pixel counts where DO_NOT_USE is not set, its planes are finite and its
//! variance is positive. A sample is NaN with DO_NOT_USE where no more than
//! `min_fraction` of the profile lies on pixels that count ((1 + `min_fraction`)/2 where
//! one of them was rejected), or where it cannot be
//! told from a neighbour. Other flags are those of its used pixels that hold at
//! least 0.1 of the profile, and OUTLIER where such a pixel was rejected. The
//! shared variance is exact where profiles do not overlap, else an approximation
//! (the estimator's weights are taken as P·W).

mod column;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use column::{Problem, Summary, Work, solve};

use super::layout::params;
use super::{Access, Args, Kernel};

/// Words a pixel.
pub const PIXEL: usize = 4;
/// Words a sample.
pub const SAMPLE: usize = 6;
/// Words a column.
pub const COLUMN: usize = 4;
/// Most rows of a profile.
pub const MAX_ROWS: usize = 16;
/// Largest half-bandwidth.
pub const MAX_BAND: usize = 16;
/// Bits of the data quality that this kernel knows.
const DO_NOT_USE: u32 = 1;
const OUTLIER: u32 = 1 << 4;

/// The kernel.
pub static EXTRACT: Kernel = Kernel {
    stem: "extract",
    wgsl: &[include_str!("../../../shaders/extract.wgsl")],
    constants: &[],
    params: Params::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    cpu,
};

params! {
    /// The parameter block.
    pub struct Params {
        /// Columns.
        pub ncols: u32,
        /// Rows.
        pub ny: u32,
        /// Rows of a profile, at most [`MAX_ROWS`].
        pub ky: u32,
        /// Half-bandwidth, at most [`MAX_BAND`]; 0 fits each spectrum alone.
        pub hb: u32,
        /// Most entries in a column.
        pub nmax: u32,
        /// Photon variance per unit rate.
        pub factor: f32,
        /// Rejection, σ; 0 for none.
        pub threshold: f32,
        /// Least fraction of a profile on good pixels.
        pub min_fraction: f32,
    }
}

/// Words of the scratch buffer.
pub fn scratch_words(p: &Params) -> usize {
    p.ncols as usize * (3 * p.ny as usize + p.nmax as usize * (p.hb as usize + 3))
}

fn cpu(args: &mut Args<'_>) {
    let [pixels, starts, table, _scratch, samples, columns] = args.buffers.as_mut_slice() else { return };
    let Some(p) = args.params.get(..8).and_then(|w| bytemuck::try_from_bytes(bytemuck::cast_slice(w)).ok())
    else {
        return;
    };
    let p: &Params = p;
    let (pixels, starts, table) = (pixels.words(), starts.words(), table.words());
    let entry = p.ky as usize + 1;
    // Each column writes its own stretch of the samples.
    let mut rest = samples.words_mut();
    let mut jobs = Vec::with_capacity(args.items);
    for (x, summary) in columns.words_mut().chunks_exact_mut(COLUMN).take(args.items).enumerate() {
        let (from, to) = (starts[x] as usize, starts[x + 1] as usize);
        let (own, after) = rest.split_at_mut((to - from) * SAMPLE);
        rest = after;
        jobs.push((x, &table[from * entry..to * entry], own, summary));
    }
    jobs.into_par_iter().for_each_init(Work::<f32>::default, |work, (x, table, out, summary)| {
        let problem = Problem {
            pixels,
            ncols: p.ncols as usize,
            x,
            ny: p.ny as usize,
            ky: p.ky as usize,
            hb: p.hb as usize,
            factor: p.factor,
            threshold: p.threshold,
            min_fraction: p.min_fraction,
            table,
        };
        let s = solve(&problem, work, out);
        summary.copy_from_slice(&[s.chi2.to_bits(), s.used, s.rejected, s.solved]);
    });
}
