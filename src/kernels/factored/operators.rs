//! B, its transpose and the diagonal of BᵀWB: the formulas of the kernels `factored_light`,
//! `factored_take`, `factored_diagonal` and `factored_fold`, generic over f32 and f64.

use rayon::prelude::*;

use super::{Entry, NONE, REACH, SEG, System, TAPS, WIDE};
use crate::kernels::Real;
use crate::simd::widest;

/// Columns that are summed at a time.
const CHUNK: usize = 16;
/// Most terms of B.
pub const MAX_RANK: usize = 16;

/// The parts of a [`System`] that a range of its segments needs.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Detector rows.
    pub ny: usize,
    /// Rows of a profile.
    pub ky: usize,
    /// Weights along dispersion.
    pub taps: &'a [[f32; TAPS]],
    /// All entries.
    pub entries: &'a [Entry],
    /// First entry of each segment.
    pub starts: &'a [u32],
    /// Coefficients from entry `first_entry` on.
    pub coefs: &'a [i16],
    /// See `coefs`.
    pub first_entry: usize,
}

impl<'a> View<'a> {
    /// Of a whole system.
    pub fn of(s: &'a System) -> View<'a> {
        View {
            ny: s.ny,
            ky: s.ky,
            taps: &s.taps,
            entries: &s.entries,
            starts: &s.starts,
            coefs: &s.coefs,
            first_entry: 0,
        }
    }

    /// Rows of the detector that entry `e` covers, and their coefficients.
    fn rows_of(&self, e: usize) -> (usize, usize, &'a [i16]) {
        let (anchor, ky, ny) = (i64::from(self.entries[e].anchor), self.ky as i64, self.ny as i64);
        let from = anchor.clamp(0, ny);
        let to = (anchor + ky).clamp(from, ny);
        let row = self.taps.len() * SEG;
        let own = &self.coefs[(e - self.first_entry) * self.ky * row..][..self.ky * row];
        (from as usize, to as usize, &own[(from - anchor).min(ky) as usize * row..])
    }
}

/// Numbers with loops compiled for the widest vectors.
pub trait Lanes: Real {
    /// Adds an entry's light to the image rows; see `add`.
    fn light(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[Self; WIDE], rows: &mut [Self]);
    /// An entry's transpose; see `take`.
    fn take(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[Self], wide: &mut [Self]);
    /// An entry's squares; see `squares`.
    fn squares(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[Self], wide: &mut [Self]);
    /// An entry's part of leverages; see `leverage`.
    fn leverage(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[Self; WIDE], rows: &mut [Self]);
}

#[inline(always)]
fn number<T: Real>(a: i16) -> T {
    T::of(f32::from(a))
}

/// rows[dy][x] += Σ_r a[dy][r][x] Σ_j h_r[j] f[x + j] for the rows that there are.
#[inline(always)]
fn add<T: Real>(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[T; WIDE], rows: &mut [T]) {
    let rank = taps.len();
    let mut g = [[T::ZERO; SEG]; MAX_RANK];
    for (h, g) in taps.iter().zip(&mut g) {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for (j, h) in h.iter().enumerate() {
                let (h, f) = (T::of(*h), &wide[c + j..][..CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += h * f[k];
                }
            }
            g[c..c + CHUNK].copy_from_slice(&sum);
        }
    }
    for (row, a) in rows.chunks_exact_mut(SEG).zip(coefs.chunks_exact(rank * SEG)) {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            sum.copy_from_slice(&row[c..c + CHUNK]);
            for (a, g) in a.chunks_exact(SEG).zip(&g) {
                let (a, g) = (&a[c..c + CHUNK], &g[c..c + CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += number::<T>(a[k]) * g[k];
                }
            }
            row[c..c + CHUNK].copy_from_slice(&sum);
        }
    }
}

/// wide[x + j] = Σ_r h_r[j] Σ_dy a[dy][r][x] rows[dy][x].
#[inline(always)]
fn take<T: Real>(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[T], wide: &mut [T]) {
    let rank = taps.len();
    // With zeros on either side.
    let mut q = [[T::ZERO; SEG + 2 * (TAPS - 1)]; MAX_RANK];
    for (r, q) in q[..rank].iter_mut().enumerate() {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for (row, a) in rows.chunks_exact(SEG).zip(coefs.chunks_exact(rank * SEG)) {
                let (row, a) = (&row[c..c + CHUNK], &a[r * SEG + c..][..CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += number::<T>(a[k]) * row[k];
                }
            }
            q[TAPS - 1 + c..][..CHUNK].copy_from_slice(&sum);
        }
    }
    for c in (0..WIDE).step_by(CHUNK) {
        let mut sum = [T::ZERO; CHUNK];
        for (h, q) in taps.iter().zip(&q) {
            for (j, h) in h.iter().enumerate() {
                let (h, q) = (T::of(*h), &q[c + TAPS - 1 - j..][..CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += h * q[k];
                }
            }
        }
        wide[c..c + CHUNK].copy_from_slice(&sum);
    }
}

/// B between columns of a row and the unknowns `j` − REACH columns on.
#[inline(always)]
fn between<T: Real>(a: &[i16], taps: &[[f32; TAPS]], c: usize, j: usize) -> [T; CHUNK] {
    let mut b = [T::ZERO; CHUNK];
    for (a, h) in a.chunks_exact(SEG).zip(taps) {
        let (h, a) = (T::of(h[j]), &a[c..c + CHUNK]);
        for k in 0..CHUNK {
            b[k] += h * number::<T>(a[k]);
        }
    }
    b
}

/// wide[x + j] = Σ_dy rows[dy][x] (Σ_r h_r[j] a[dy][r][x])².
#[inline(always)]
fn squares<T: Real>(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[T], wide: &mut [T]) {
    let rank = taps.len();
    wide.fill(T::ZERO);
    for j in 0..TAPS {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for (row, a) in rows.chunks_exact(SEG).zip(coefs.chunks_exact(rank * SEG)) {
                let (b, w) = (between::<T>(a, taps, c, j), &row[c..c + CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += w[k] * (b[k] * b[k]);
                }
            }
            wide[c + j..][..CHUNK].iter_mut().zip(&sum).for_each(|(o, s)| *o += *s);
        }
    }
}

/// rows[dy][x] += Σ_j v[x + j] (Σ_r h_r[j] a[dy][r][x])².
#[inline(always)]
fn leverage<T: Real>(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[T; WIDE], rows: &mut [T]) {
    let rank = taps.len();
    for (row, a) in rows.chunks_exact_mut(SEG).zip(coefs.chunks_exact(rank * SEG)) {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for j in 0..TAPS {
                let (b, v) = (between::<T>(a, taps, c, j), &wide[c + j..][..CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += v[k] * (b[k] * b[k]);
                }
            }
            row[c..c + CHUNK].iter_mut().zip(&sum).for_each(|(o, s)| *o += *s);
        }
    }
}

widest! {
    fn add_f32(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) = add
}
widest! {
    fn take_f32(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) = take
}
widest! {
    fn squares_f32(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) = squares
}
widest! {
    fn leverage_f32(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) = leverage
}

impl Lanes for f32 {
    fn light(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) {
        add_f32(coefs, taps, wide, rows);
    }
    fn take(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) {
        take_f32(coefs, taps, rows, wide);
    }
    fn squares(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) {
        squares_f32(coefs, taps, rows, wide);
    }
    fn leverage(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) {
        leverage_f32(coefs, taps, wide, rows);
    }
}

impl Lanes for f64 {
    fn light(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f64; WIDE], rows: &mut [f64]) {
        add(coefs, taps, wide, rows);
    }
    fn take(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f64], wide: &mut [f64]) {
        take(coefs, taps, rows, wide);
    }
    fn squares(coefs: &[i16], taps: &[[f32; TAPS]], rows: &[f64], wide: &mut [f64]) {
        squares(coefs, taps, rows, wide);
    }
    fn leverage(coefs: &[i16], taps: &[[f32; TAPS]], wide: &[f64; WIDE], rows: &mut [f64]) {
        leverage(coefs, taps, wide, rows);
    }
}

/// An entry's unknowns with [`REACH`] columns of its neighbours on either side.
fn reach<T: Real>(entries: &[Entry], f: &[T], e: usize) -> [T; WIDE] {
    let mut wide = [T::ZERO; WIDE];
    wide[REACH..REACH + SEG].copy_from_slice(&f[e * SEG..][..SEG]);
    let entry = &entries[e];
    if entry.left != NONE {
        wide[..REACH].copy_from_slice(&f[entry.left as usize * SEG + SEG - REACH..][..REACH]);
    }
    if entry.right != NONE {
        wide[REACH + SEG..].copy_from_slice(&f[entry.right as usize * SEG..][..REACH]);
    }
    wide
}

/// B f in the rows (ny, SEG) of segment `seg`.
pub(super) fn light<T: Lanes>(v: &View<'_>, f: &[T], seg: usize, out: &mut [T]) {
    out.fill(T::ZERO);
    for e in v.starts[seg] as usize..v.starts[seg + 1] as usize {
        let (from, to, coefs) = v.rows_of(e);
        let own = reach(v.entries, f, e);
        T::light(coefs, v.taps, &own, &mut out[from * SEG..to * SEG]);
    }
}

/// Bᵀ z of entry `e` alone, with the columns that it has for its neighbours, from an image.
pub(super) fn transpose<T: Lanes>(v: &View<'_>, z: &[T], e: usize, wide: &mut [T]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &z[v.entries[e].segment as usize * v.ny * SEG..];
    T::take(coefs, v.taps, &rows[from * SEG..to * SEG], wide);
}

/// The same of the diagonal of BᵀWB, from W.
pub(super) fn diagonal<T: Lanes>(v: &View<'_>, weight: &[T], e: usize, wide: &mut [T]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &weight[v.entries[e].segment as usize * v.ny * SEG..];
    T::squares(coefs, v.taps, &rows[from * SEG..to * SEG], wide);
}

/// What entries have for the columns of entry `e`, together: first its own, then from the
/// left, then from the right.
pub(super) fn fold<T: Real>(entries: &[Entry], wide: &[T], e: usize, out: &mut [T]) {
    let entry = &entries[e];
    out.copy_from_slice(&wide[e * WIDE + REACH..][..SEG]);
    if entry.left != NONE {
        let from = &wide[entry.left as usize * WIDE + REACH + SEG..][..REACH];
        out[..REACH].iter_mut().zip(from).for_each(|(o, v)| *o += *v);
    }
    if entry.right != NONE {
        let from = &wide[entry.right as usize * WIDE..][..REACH];
        out[SEG - REACH..].iter_mut().zip(from).for_each(|(o, v)| *o += *v);
    }
}

/// B f as an image.
pub fn image<T: Lanes>(s: &System, f: &[T], out: &mut [T]) {
    let v = View::of(s);
    out.par_chunks_exact_mut(s.ny * SEG).enumerate().for_each(|(seg, block)| light(&v, f, seg, block));
}

/// Σ_i B_i² / N_ii for every pixel: times its weight, the part of its variance that its
/// own data make up in the model, without the correlations of unknowns.
pub(super) fn leverages<T: Lanes>(s: &System, inverse: &[T], out: &mut [T]) {
    let v = View::of(s);
    out.par_chunks_exact_mut(s.ny * SEG).enumerate().for_each(|(seg, block)| {
        block.fill(T::ZERO);
        for e in v.starts[seg] as usize..v.starts[seg + 1] as usize {
            let (from, to, coefs) = v.rows_of(e);
            let own = reach(v.entries, inverse, e);
            T::leverage(coefs, v.taps, &own, &mut block[from * SEG..to * SEG]);
        }
    });
}
