//! B, its transpose and the diagonal of BᵀWB: the formulas of the kernels `factored_light`,
//! `factored_take`, `factored_diagonal` and `factored_fold`, generic over f32 and f64.

use rayon::prelude::*;

use super::{Entry, NONE, REACH, SEG, System, TAPS, WIDE};
use crate::kernels::Real;
use crate::simd::widest;

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
    fn light(coefs: &[f32], shapes: Shapes<'_>, wide: &[Self; WIDE], rows: &mut [[Self; SEG]]);
    /// An entry's transpose; see `take`.
    fn take(coefs: &[f32], shapes: Shapes<'_>, rows: &[[Self; SEG]], wide: &mut [Self; WIDE]);
    /// An entry's squares; see `squares`.
    fn squares(coefs: &[f32], shapes: Shapes<'_>, rows: &[[Self; SEG]], wide: &mut [Self; WIDE]);
    /// An entry's part of leverages; see `leverage`.
    fn leverage(coefs: &[f32], shapes: Shapes<'_>, wide: &[Self; WIDE], rows: &mut [[Self; SEG]]);
}

/// out[k] += Σ_n factor(n)·row(n)[k] for n < `count`, ascending: the loop in which all time
/// goes. Several products a pass, so that a sum is not stored and loaded for each of them.
#[inline(always)]
fn combine<'a, T: Real, const L: usize>(
    out: &mut [T; L],
    count: usize,
    factor: impl Fn(usize) -> T,
    row: impl Fn(usize) -> &'a [T],
) {
    let mut at = 0;
    while at + 8 <= count {
        pass::<T, L, 8>(out, at, &factor, &row);
        at += 8;
    }
    if at + 4 <= count {
        pass::<T, L, 4>(out, at, &factor, &row);
        at += 4;
    }
    if at + 2 <= count {
        pass::<T, L, 2>(out, at, &factor, &row);
        at += 2;
    }
    if at < count {
        pass::<T, L, 1>(out, at, &factor, &row);
    }
}

/// The same for `N` products from number `at` on.
#[inline(always)]
fn pass<'a, T: Real, const L: usize, const N: usize>(
    out: &mut [T; L],
    at: usize,
    factor: &impl Fn(usize) -> T,
    row: &impl Fn(usize) -> &'a [T],
) {
    let factors: [T; N] = std::array::from_fn(|n| factor(at + n));
    // Of a length that the compiler knows: no checks in the loop, which else is none of vectors.
    let rows: [&[T; L]; N] = std::array::from_fn(|n| &row(at + n).as_chunks().0[0]);
    for k in 0..L {
        let mut sum = out[k];
        for n in 0..N {
            sum += factors[n] * rows[n][k];
        }
        out[k] = sum;
    }
}

/// rows[dy][x] += Σ_r Σ_k a[dy][r][k] φ_k[x] Σ_j h_r[j] f[x + j] for the rows that there are.
#[inline(always)]
fn add<T: Real>(coefs: &[f32], shapes: Shapes<'_>, wide: &[T; WIDE], rows: &mut [[T; SEG]]) {
    let Shapes { taps, basis } = shapes;
    let mut seen = [[T::ZERO; SEG]; MAX_RANK];
    for (h, g) in taps.iter().zip(&mut seen) {
        combine(g, TAPS, |j| T::of(h[j]), |j| &wide[j..]);
    }
    let terms = shapes.terms();
    let mut products = [[T::ZERO; SEG]; GROUP];
    for first in (0..terms).step_by(GROUP) {
        let last = (first + GROUP).min(terms);
        for (t, product) in (first..last).zip(&mut products) {
            let (g, phi) = (&seen[t / basis.len()], &basis[t % basis.len()]);
            product.iter_mut().zip(g).zip(phi).for_each(|((p, g), phi)| *p = T::of(*phi) * *g);
        }
        for (row, a) in rows.iter_mut().zip(coefs.chunks_exact(terms)) {
            let a = &a[first..last];
            combine(row, a.len(), |t| T::of(a[t]), |t| &products[t]);
        }
    }
}

/// wide[x + j] = Σ_r h_r[j] Σ_k φ_k[x] Σ_dy a[dy][r][k] rows[dy][x].
#[inline(always)]
fn take<T: Real>(coefs: &[f32], shapes: Shapes<'_>, rows: &[[T; SEG]], wide: &mut [T; WIDE]) {
    let (terms, nodes) = (shapes.terms(), shapes.basis.len());
    // With zeros on either side.
    let mut q = [[T::ZERO; SEG + 2 * (TAPS - 1)]; MAX_RANK];
    for t in 0..terms {
        let mut sum = [T::ZERO; SEG];
        combine(&mut sum, rows.len(), |dy| T::of(coefs[dy * terms + t]), |dy| &rows[dy]);
        let (q, phi) = (&mut q[t / nodes][TAPS - 1..][..SEG], &shapes.basis[t % nodes]);
        for k in 0..SEG {
            q[k] += T::of(phi[k]) * sum[k];
        }
    }
    wide.fill(T::ZERO);
    for (h, q) in shapes.taps.iter().zip(&q) {
        combine(wide, TAPS, |j| T::of(h[j]), |j| &q[TAPS - 1 - j..]);
    }
}

/// A row's profiles column by column: Σ_k a[r][k] φ_k[x].
#[inline(always)]
fn expand<T: Real>(coefs: &[f32], basis: &[[T; SEG]], out: &mut [[T; SEG]; MAX_RANK]) {
    for (a, out) in coefs.chunks_exact(basis.len()).zip(out) {
        *out = [T::ZERO; SEG];
        combine(out, basis.len(), |k| T::of(a[k]), |k| &basis[k]);
    }
}

/// B between the columns of a row, whose profiles are given, and the unknowns `j` − REACH
/// columns on.
#[inline(always)]
fn between<T: Real>(profiles: &[[T; SEG]; MAX_RANK], taps: &[[f32; TAPS]], j: usize) -> [T; SEG] {
    let mut b = [T::ZERO; SEG];
    combine(&mut b, taps.len(), |r| T::of(taps[r][j]), |r| &profiles[r]);
    b
}

/// wide[x + j] = Σ_dy rows[dy][x] (Σ_r h_r[j] Σ_k a[dy][r][k] φ_k[x])².
#[inline(always)]
fn squares<T: Real>(coefs: &[f32], shapes: Shapes<'_>, rows: &[[T; SEG]], wide: &mut [T; WIDE]) {
    let basis = floats(shapes.basis);
    let mut profiles = [[T::ZERO; SEG]; MAX_RANK];
    let mut sums = [[T::ZERO; SEG]; TAPS];
    for (row, a) in rows.iter().zip(coefs.chunks_exact(shapes.terms())) {
        expand(a, &basis[..shapes.basis.len()], &mut profiles);
        for (j, sum) in sums.iter_mut().enumerate() {
            let b = between(&profiles, shapes.taps, j);
            for k in 0..SEG {
                sum[k] += row[k] * (b[k] * b[k]);
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
fn leverage<T: Real>(coefs: &[f32], shapes: Shapes<'_>, wide: &[T; WIDE], rows: &mut [[T; SEG]]) {
    let basis = floats(shapes.basis);
    let mut profiles = [[T::ZERO; SEG]; MAX_RANK];
    for (row, a) in rows.iter_mut().zip(coefs.chunks_exact(shapes.terms())) {
        expand(a, &basis[..shapes.basis.len()], &mut profiles);
        let mut sum = [T::ZERO; SEG];
        for j in 0..TAPS {
            let (b, v) = (between(&profiles, shapes.taps, j), &wide[j..j + SEG]);
            for k in 0..SEG {
                sum[k] += v[k] * (b[k] * b[k]);
            }
        }
        row.iter_mut().zip(&sum).for_each(|(o, s)| *o += *s);
    }
}

/// The basis in a precision.
#[inline(always)]
fn floats<T: Real>(basis: &[[f32; SEG]]) -> [[T; SEG]; SEG] {
    let mut out = [[T::ZERO; SEG]; SEG];
    for (out, phi) in out.iter_mut().zip(basis) {
        out.iter_mut().zip(phi).for_each(|(o, phi)| *o = T::of(*phi));
    }
    out
}

widest! {
    fn add_f32(coefs: &[f32], shapes: Shapes<'_>, wide: &[f32; WIDE], rows: &mut [[f32; SEG]]) = add
}
widest! {
    fn take_f32(coefs: &[f32], shapes: Shapes<'_>, rows: &[[f32; SEG]], wide: &mut [f32; WIDE]) = take
}
widest! {
    fn squares_f32(coefs: &[f32], shapes: Shapes<'_>, rows: &[[f32; SEG]], wide: &mut [f32; WIDE]) = squares
}
widest! {
    fn leverage_f32(coefs: &[f32], shapes: Shapes<'_>, wide: &[f32; WIDE], rows: &mut [[f32; SEG]]) = leverage
}

macro_rules! lanes {
    ($t:ty, $add:ident, $take:ident, $squares:ident, $leverage:ident) => {
        impl Lanes for $t {
            fn light(coefs: &[f32], shapes: Shapes<'_>, wide: &[$t; WIDE], rows: &mut [[$t; SEG]]) {
                $add(coefs, shapes, wide, rows);
            }
            fn take(coefs: &[f32], shapes: Shapes<'_>, rows: &[[$t; SEG]], wide: &mut [$t; WIDE]) {
                $take(coefs, shapes, rows, wide);
            }
            fn squares(coefs: &[f32], shapes: Shapes<'_>, rows: &[[$t; SEG]], wide: &mut [$t; WIDE]) {
                $squares(coefs, shapes, rows, wide);
            }
            fn leverage(coefs: &[f32], shapes: Shapes<'_>, wide: &[$t; WIDE], rows: &mut [[$t; SEG]]) {
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
        T::light(coefs, v.shapes, &own, out[from * SEG..to * SEG].as_chunks_mut().0);
    }
}

/// Bᵀ z of entry `e` alone, with the columns that it has for its neighbours, from an image.
pub(super) fn transpose<T: Lanes>(v: &View<'_>, z: &[T], e: usize, wide: &mut [T; WIDE]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &z[v.entries[e].segment as usize * v.ny * SEG..];
    T::take(coefs, v.shapes, rows[from * SEG..to * SEG].as_chunks().0, wide);
}

/// The same of the diagonal of BᵀWB, from W.
pub(super) fn diagonal<T: Lanes>(v: &View<'_>, weight: &[T], e: usize, wide: &mut [T; WIDE]) {
    let (from, to, coefs) = v.rows_of(e);
    let rows = &weight[v.entries[e].segment as usize * v.ny * SEG..];
    T::squares(coefs, v.shapes, rows[from * SEG..to * SEG].as_chunks().0, wide);
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
            T::leverage(coefs, v.shapes, &own, block[from * SEG..to * SEG].as_chunks_mut().0);
        }
    });
}
