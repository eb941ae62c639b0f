//! B, its transpose and the diagonal of BᵀWB: the formulas of the kernels `factored_light`,
//! `factored_take`, `factored_diagonal` and `factored_fold`, generic over f32 and f64.

use rayon::prelude::*;

use super::{Entry, NONE, REACH, SEG, System, TAPS, WIDE};
use crate::kernels::Real;
use crate::simd::widest;

/// Columns that are summed at a time.
const CHUNK: usize = 16;
/// Rows that are summed at a time: a product is loaded once for all of them.
const BLOCK: usize = 7;
/// Products of a tap and a node that are held at a time.
const GROUP: usize = 32;
/// Most terms of B.
pub const MAX_RANK: usize = 16;

/// What is the same for all spectra.
#[derive(Debug, Clone, Copy)]
pub struct Shapes<'a> {
    /// Weights along dispersion, one row a term.
    pub taps: &'a [[f32; TAPS]],
    /// Weights of a profile's nodes in a segment's columns, one row a node.
    pub basis: &'a [[f32; SEG]],
}

impl Shapes<'_> {
    /// Coefficients a row.
    fn terms(&self) -> usize {
        self.taps.len() * self.basis.len()
    }
}

/// The parts of a [`System`] that a range of its segments needs.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Detector rows.
    pub ny: usize,
    /// Rows of a profile.
    pub ky: usize,
    /// Taps and nodes.
    pub shapes: Shapes<'a>,
    /// All entries.
    pub entries: &'a [Entry],
    /// First entry of each segment.
    pub starts: &'a [u32],
    /// Coefficients from entry `first_entry` on.
    pub coefs: &'a [f32],
    /// See `coefs`.
    pub first_entry: usize,
}

impl<'a> View<'a> {
    /// Of a whole system.
    pub fn of(s: &'a System) -> View<'a> {
        View {
            ny: s.ny,
            ky: s.ky,
            shapes: s.shapes(),
            entries: &s.entries,
            starts: &s.starts,
            coefs: &s.coefs,
            first_entry: 0,
        }
    }

    /// Rows of the detector that entry `e` covers, and their coefficients.
    fn rows_of(&self, e: usize) -> (usize, usize, &'a [f32]) {
        let (anchor, ky, ny) = (i64::from(self.entries[e].anchor), self.ky as i64, self.ny as i64);
        let from = anchor.clamp(0, ny);
        let to = (anchor + ky).clamp(from, ny);
        let row = self.shapes.terms();
        let own = &self.coefs[(e - self.first_entry) * self.ky * row..][..self.ky * row];
        (from as usize, to as usize, &own[(from - anchor).min(ky) as usize * row..])
    }
}

/// Numbers with loops compiled for the widest vectors.
pub trait Lanes: Real {
    /// Adds an entry's light to the image rows; see `add`.
    fn light(coefs: &[f32], shapes: Shapes<'_>, wide: &[Self; WIDE], rows: &mut [Self]);
    /// An entry's transpose; see `take`.
    fn take(coefs: &[f32], shapes: Shapes<'_>, rows: &[Self], wide: &mut [Self]);
    /// An entry's squares; see `squares`.
    fn squares(coefs: &[f32], shapes: Shapes<'_>, rows: &[Self], wide: &mut [Self]);
    /// An entry's part of leverages; see `leverage`.
    fn leverage(coefs: &[f32], shapes: Shapes<'_>, wide: &[Self; WIDE], rows: &mut [Self]);
}

/// rows[dy][x] += Σ_r Σ_k a[dy][r][k] φ_k[x] Σ_j h_r[j] f[x + j] for the rows that there are.
#[inline(always)]
fn add<T: Real>(coefs: &[f32], shapes: Shapes<'_>, wide: &[T; WIDE], rows: &mut [T]) {
    let Shapes { taps, basis } = shapes;
    let mut seen = [[T::ZERO; SEG]; MAX_RANK];
    for (h, g) in taps.iter().zip(&mut seen) {
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
    let terms = shapes.terms();
    let mut products = [[T::ZERO; SEG]; GROUP];
    for first in (0..terms).step_by(GROUP) {
        let last = (first + GROUP).min(terms);
        for (t, product) in (first..last).zip(&mut products) {
            let (g, phi) = (&seen[t / basis.len()], &basis[t % basis.len()]);
            product.iter_mut().zip(g).zip(phi).for_each(|((p, g), phi)| *p = T::of(*phi) * *g);
        }
        let products = &products[..last - first];
        let mut at = 0;
        let count = rows.len() / SEG;
        while at + BLOCK <= count {
            add_rows::<T, BLOCK>(&coefs[at * terms + first..], terms, products, &mut rows[at * SEG..]);
            at += BLOCK;
        }
        while at + 3 <= count {
            add_rows::<T, 3>(&coefs[at * terms + first..], terms, products, &mut rows[at * SEG..]);
            at += 3;
        }
        while at < count {
            add_rows::<T, 1>(&coefs[at * terms + first..], terms, products, &mut rows[at * SEG..]);
            at += 1;
        }
    }
}

/// Adds the products, with their coefficients of each row, to `N` rows.
#[inline(always)]
fn add_rows<T: Real, const N: usize>(coefs: &[f32], terms: usize, products: &[[T; SEG]], rows: &mut [T]) {
    for c in (0..SEG).step_by(CHUNK) {
        let mut sum = [[T::ZERO; CHUNK]; N];
        for n in 0..N {
            sum[n].copy_from_slice(&rows[n * SEG + c..][..CHUNK]);
        }
        let own: [&[f32]; N] = std::array::from_fn(|n| &coefs[n * terms..][..products.len()]);
        for (t, product) in products.iter().enumerate() {
            let product = &product[c..c + CHUNK];
            for n in 0..N {
                let a = T::of(own[n][t]);
                for k in 0..CHUNK {
                    sum[n][k] += a * product[k];
                }
            }
        }
        for n in 0..N {
            rows[n * SEG + c..][..CHUNK].copy_from_slice(&sum[n]);
        }
    }
}

/// wide[x + j] = Σ_r h_r[j] Σ_k φ_k[x] Σ_dy a[dy][r][k] rows[dy][x].
#[inline(always)]
fn take<T: Real>(coefs: &[f32], shapes: Shapes<'_>, rows: &[T], wide: &mut [T]) {
    let (terms, nodes) = (shapes.terms(), shapes.basis.len());
    // With zeros on either side.
    let mut q = [[T::ZERO; SEG + 2 * (TAPS - 1)]; MAX_RANK];
    for t in 0..terms {
        let mut sum = [T::ZERO; SEG];
        for (row, a) in rows.chunks_exact(SEG).zip(coefs.chunks_exact(terms)) {
            let a = T::of(a[t]);
            for k in 0..SEG {
                sum[k] += a * row[k];
            }
        }
        let (q, phi) = (&mut q[t / nodes][TAPS - 1..][..SEG], &shapes.basis[t % nodes]);
        for k in 0..SEG {
            q[k] += T::of(phi[k]) * sum[k];
        }
    }
    for c in (0..WIDE).step_by(CHUNK) {
        let mut sum = [T::ZERO; CHUNK];
        for (h, q) in shapes.taps.iter().zip(&q) {
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

/// A row's profiles column by column: Σ_k a[r][k] φ_k[x].
#[inline(always)]
fn expand<T: Real>(coefs: &[f32], basis: &[[f32; SEG]], out: &mut [[T; SEG]; MAX_RANK]) {
    for (a, out) in coefs.chunks_exact(basis.len()).zip(out) {
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for (a, phi) in a.iter().zip(basis) {
                let (a, phi) = (T::of(*a), &phi[c..c + CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += a * T::of(phi[k]);
                }
            }
            out[c..c + CHUNK].copy_from_slice(&sum);
        }
    }
}

/// B between columns of a row, whose profiles are given, and the unknowns `j` − REACH
/// columns on.
#[inline(always)]
fn between<T: Real>(profiles: &[[T; SEG]; MAX_RANK], taps: &[[f32; TAPS]], c: usize, j: usize) -> [T; CHUNK] {
    let mut b = [T::ZERO; CHUNK];
    for (a, h) in profiles.iter().zip(taps) {
        let (h, a) = (T::of(h[j]), &a[c..c + CHUNK]);
        for k in 0..CHUNK {
            b[k] += h * a[k];
        }
    }
    b
}

/// wide[x + j] = Σ_dy rows[dy][x] (Σ_r h_r[j] Σ_k a[dy][r][k] φ_k[x])².
#[inline(always)]
fn squares<T: Real>(coefs: &[f32], shapes: Shapes<'_>, rows: &[T], wide: &mut [T]) {
    let mut profiles = [[T::ZERO; SEG]; MAX_RANK];
    let mut sums = [[T::ZERO; SEG]; TAPS];
    for (row, a) in rows.chunks_exact(SEG).zip(coefs.chunks_exact(shapes.terms())) {
        expand(a, shapes.basis, &mut profiles);
        for (j, sum) in sums.iter_mut().enumerate() {
            for c in (0..SEG).step_by(CHUNK) {
                let b = between(&profiles, shapes.taps, c, j);
                let (w, sum) = (&row[c..c + CHUNK], &mut sum[c..c + CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += w[k] * (b[k] * b[k]);
                }
            }
        }
    }
    wide.fill(T::ZERO);
    for (j, sum) in sums.iter().enumerate() {
        wide[j..j + SEG].iter_mut().zip(sum).for_each(|(o, s)| *o += *s);
    }
}

/// rows[dy][x] += Σ_j v[x + j] (Σ_r h_r[j] Σ_k a[dy][r][k] φ_k[x])².
#[inline(always)]
fn leverage<T: Real>(coefs: &[f32], shapes: Shapes<'_>, wide: &[T; WIDE], rows: &mut [T]) {
    let mut profiles = [[T::ZERO; SEG]; MAX_RANK];
    for (row, a) in rows.chunks_exact_mut(SEG).zip(coefs.chunks_exact(shapes.terms())) {
        expand(a, shapes.basis, &mut profiles);
        for c in (0..SEG).step_by(CHUNK) {
            let mut sum = [T::ZERO; CHUNK];
            for j in 0..TAPS {
                let (b, v) = (between(&profiles, shapes.taps, c, j), &wide[c + j..][..CHUNK]);
                for k in 0..CHUNK {
                    sum[k] += v[k] * (b[k] * b[k]);
                }
            }
            row[c..c + CHUNK].iter_mut().zip(&sum).for_each(|(o, s)| *o += *s);
        }
    }
}

widest! {
    fn add_f32(coefs: &[f32], shapes: Shapes<'_>, wide: &[f32; WIDE], rows: &mut [f32]) = add
}
widest! {
    fn take_f32(coefs: &[f32], shapes: Shapes<'_>, rows: &[f32], wide: &mut [f32]) = take
}
widest! {
    fn squares_f32(coefs: &[f32], shapes: Shapes<'_>, rows: &[f32], wide: &mut [f32]) = squares
}
widest! {
    fn leverage_f32(coefs: &[f32], shapes: Shapes<'_>, wide: &[f32; WIDE], rows: &mut [f32]) = leverage
}

macro_rules! lanes {
    ($t:ty, $add:ident, $take:ident, $squares:ident, $leverage:ident) => {
        impl Lanes for $t {
            fn light(coefs: &[f32], shapes: Shapes<'_>, wide: &[$t; WIDE], rows: &mut [$t]) {
                $add(coefs, shapes, wide, rows);
            }
            fn take(coefs: &[f32], shapes: Shapes<'_>, rows: &[$t], wide: &mut [$t]) {
                $take(coefs, shapes, rows, wide);
            }
            fn squares(coefs: &[f32], shapes: Shapes<'_>, rows: &[$t], wide: &mut [$t]) {
                $squares(coefs, shapes, rows, wide);
            }
            fn leverage(coefs: &[f32], shapes: Shapes<'_>, wide: &[$t; WIDE], rows: &mut [$t]) {
                $leverage(coefs, shapes, wide, rows);
            }
        }
    };
}

lanes!(f32, add_f32, take_f32, squares_f32, leverage_f32);
lanes!(f64, add, take, squares, leverage);

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
        T::light(coefs, v.shapes, &own, &mut out[from * SEG..to * SEG]);
    }
}

/// Bᵀ z of entry `e` alone, with the columns that it has for its neighbours, from an image.
pub(super) fn transpose<T: Lanes>(v: &View<'_>, z: &[T], e: usize, wide: &mut [T]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &z[v.entries[e].segment as usize * v.ny * SEG..];
    T::take(coefs, v.shapes, &rows[from * SEG..to * SEG], wide);
}

/// The same of the diagonal of BᵀWB, from W.
pub(super) fn diagonal<T: Lanes>(v: &View<'_>, weight: &[T], e: usize, wide: &mut [T]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &weight[v.entries[e].segment as usize * v.ny * SEG..];
    T::squares(coefs, v.shapes, &rows[from * SEG..to * SEG], wide);
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

/// Adds `sign`·prior·x where there is an inverse, and leaves 0 elsewhere; nothing with a
/// `sign` of 0.
#[inline(always)]
pub(super) fn damped<T: Real>(out: &mut [T], x: &[T], inverse: &[T], prior: &[T], sign: f32) {
    if sign != 0.0 {
        for (((o, x), i), prior) in out.iter_mut().zip(x).zip(inverse).zip(prior) {
            *o = if *i == T::ZERO { T::ZERO } else { *o + T::of(sign) * (*prior * *x) };
        }
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
            T::leverage(coefs, v.shapes, &own, &mut block[from * SEG..to * SEG]);
        }
    });
}
