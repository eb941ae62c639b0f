//! Variances and covariances of single unknowns, from the inverse of N among their
//! neighbours: exact but for what lies further away.

use super::solve::unknown;
use super::{NONE, REACH, SEG, System, TAPS};
use crate::kernels::Real;
use crate::simd::widest;

/// Spectra of the block on either side.
pub const HALF_SPECTRA: usize = 2;
/// Columns of the block on either side.
pub const HALF_COLUMNS: usize = 3;
const SPECTRA: usize = 2 * HALF_SPECTRA + 1;
const COLUMNS: usize = 2 * HALF_COLUMNS + 1;
/// Unknowns of a block.
const BLOCK: usize = SPECTRA * COLUMNS;
/// Columns of pixels that touch any of the block's unknowns, on either side, and all.
const HALF: usize = HALF_COLUMNS + REACH;
const WIDTH: usize = 2 * HALF + 1;
/// The same, filled up with zeros to whole vectors.
const ROW: usize = WIDTH.next_multiple_of(8);

/// An unknown's row of N⁻¹.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// Its variance.
    pub variance: f64,
    /// Covariances with (spectrum, column) of the block, the centre among them.
    pub covariance: [[f64; COLUMNS]; SPECTRA],
}

/// The row of N⁻¹ for the unknown at column `x` of entry `e`; `None` where it is not
/// determined. `weight` may hold negative values for rejected pixels.
pub fn local<T: Real>(s: &System, weight: &[T], diagonal: &[T], e: usize, x: usize) -> Option<Local> {
    let centre = unknown(s, e, x + REACH).filter(|i| diagonal[*i] > T::ZERO)?;
    let seg = s.entries[e].segment as usize;
    let entries = s.of_segment(seg);
    let top = e.saturating_sub(HALF_SPECTRA).max(entries.start);
    let bottom = (e + HALF_SPECTRA).min(entries.end - 1);
    let strips: Vec<Strip> = (top..=bottom).map(|entry| Strip::of(s, entry, x)).collect();
    let y0 = strips.iter().map(|s| s.first).min()?;
    let height = strips.iter().map(|s| s.first - y0 + s.rows as i64).max()? as usize;
    if height > 8 * s.ky {
        return None;
    }
    let roots = roots(s, weight, seg, x, y0..y0 + height as i64);
    let taps = shifted(&s.taps);
    let rows = strips.iter().map(|s| s.rows).max()?;
    let mut stamps = Stamps { values: vec![0.0; BLOCK * rows * ROW], rows, spans: [(0, 0); SPECTRA] };
    let mut live = [false; BLOCK];
    let mut profiles = vec![[0f32; ROW]; rows * s.rank()];
    for (strip, n) in strips.iter().zip(top + HALF_SPECTRA - e..) {
        let live = &mut live[n * COLUMNS..][..COLUMNS];
        for (c, live) in live.iter_mut().enumerate() {
            let own = unknown(s, strip.entry, x + REACH + c - HALF_COLUMNS);
            *live = own.is_some_and(|i| diagonal[i] > T::ZERO);
        }
        strip.profiles(s, x, &mut profiles);
        let from = (strip.first - y0) as usize;
        stamps.spans[n] = (from, from + strip.rows);
        let own = &mut stamps.values[n * COLUMNS * rows * ROW..][..COLUMNS * rows * ROW];
        for (c, own) in own.chunks_exact_mut(rows * ROW).enumerate().filter(|(c, _)| live[*c]) {
            stamp(&profiles, &taps[c], &roots[from..from + strip.rows], own);
        }
    }
    let scale = diagonal[centre].to_f64();
    let mut row = [0.0; BLOCK];
    if !inverse_row(&stamps, &live, scale, &mut row) {
        return None;
    }
    let mut covariance = [[0.0; COLUMNS]; SPECTRA];
    for (i, value) in row.iter().enumerate() {
        covariance[i / COLUMNS][i % COLUMNS] = if live[i] { value / scale } else { 0.0 };
    }
    Some(Local { variance: row[BLOCK / 2] / scale, covariance })
}

/// The pixels of a spectrum around a column.
struct Strip {
    /// Its entry there.
    entry: usize,
    /// First detector row; may lie off the detector.
    first: i64,
    rows: usize,
}

/// The columns from `x` − [`HALF`] on that lie in the segment before, its own, and the one
/// after, counted from there.
fn pieces(x: usize) -> [(i64, std::ops::Range<usize>); 3] {
    let own = HALF.saturating_sub(x)..WIDTH.min(SEG + HALF - x);
    [(-1, 0..own.start), (0, own.clone()), (1, own.end..WIDTH)]
}

/// The column in its segment of column `k` of a piece.
fn within(x: usize, piece: i64, k: usize) -> usize {
    ((x + k) as i64 - HALF as i64 - piece * SEG as i64) as usize
}

impl Strip {
    fn of(s: &System, entry: usize, x: usize) -> Strip {
        let anchors = Strip::owners(s, entry, x).map(|(_, _, owner)| i64::from(s.entries[owner].anchor));
        let (first, last) = anchors.fold((i64::MAX, i64::MIN), |(a, b), y| (a.min(y), b.max(y)));
        Strip { entry, first, rows: (last - first) as usize + s.ky }
    }

    /// The pieces with the entries that they belong to.
    fn owners(
        s: &System,
        entry: usize,
        x: usize,
    ) -> impl Iterator<Item = (i64, std::ops::Range<usize>, usize)> {
        let own = s.entries[entry];
        pieces(x).into_iter().filter(|(_, columns)| !columns.is_empty()).filter_map(
            move |(piece, columns)| {
                let owner = [own.left, entry as u32, own.right][(piece + 1) as usize];
                (owner != NONE).then_some((piece, columns, owner as usize))
            },
        )
    }

    /// The terms' profiles in the columns around, (rows, rank); 0 where there are none.
    fn profiles(&self, s: &System, x: usize, out: &mut [[f32; ROW]]) {
        let (rank, nodes) = (s.rank(), s.basis.len());
        out.fill([0.0; ROW]);
        for (piece, columns, owner) in Strip::owners(s, self.entry, x) {
            let mut basis = [[0f32; ROW]; SEG];
            for (out, phi) in basis.iter_mut().zip(&s.basis) {
                let own = &phi[within(x, piece, columns.start)..];
                out[columns.clone()].copy_from_slice(&own[..columns.len()]);
            }
            // The neighbour's rows count from another anchor.
            let down = (i64::from(s.entries[owner].anchor) - self.first) as usize;
            expand(s.coefs_of(owner), &basis[..nodes], &mut out[down * rank..][..s.ky * rank]);
        }
    }
}

/// √w of the pixels around column `x` of segment `seg`.
fn roots<T: Real>(
    s: &System,
    weight: &[T],
    seg: usize,
    x: usize,
    rows: std::ops::Range<i64>,
) -> Vec<[f32; ROW]> {
    let mut out = vec![[0f32; ROW]; (rows.end - rows.start) as usize];
    for (piece, columns) in pieces(x).into_iter().filter(|(_, columns)| !columns.is_empty()) {
        let Some(segment) = s.beside(seg, piece) else { continue };
        for (y, out) in rows.clone().zip(&mut out).filter(|(y, _)| (0..s.ny as i64).contains(y)) {
            let own = &weight[(segment * s.ny + y as usize) * SEG + within(x, piece, columns.start)..];
            out[columns.clone()].iter_mut().zip(own).for_each(|(o, w)| *o = w.larger(T::ZERO).to_f32());
        }
    }
    out.as_flattened_mut().iter_mut().for_each(|w| *w = w.sqrt());
    out
}

/// The taps' weights in the pixel columns, for each column of unknowns: pixel column k sees
/// column c with tap c − k + 2 REACH.
fn shifted(taps: &[[f32; TAPS]]) -> [Vec<[f32; ROW]>; COLUMNS] {
    std::array::from_fn(|c| {
        let of = |h: &[f32; TAPS]| {
            let mut out = [0.0; ROW];
            out[c..c + TAPS].iter_mut().zip(h.iter().rev()).for_each(|(o, h)| *o = *h);
            out
        };
        taps.iter().map(of).collect()
    })
}

/// √w·B of the unknowns in the pixels around, (BLOCK, rows, ROW).
struct Stamps {
    values: Vec<f32>,
    rows: usize,
    /// The rows of each spectrum that they cover, all counted from the same.
    spans: [(usize, usize); SPECTRA],
}

impl Stamps {
    /// Unknown `a`'s in rows that its spectrum covers.
    fn of(&self, a: usize, from: usize, to: usize) -> &[f32] {
        let first = self.spans[a / COLUMNS].0;
        &self.values[(a * self.rows + from - first) * ROW..(a * self.rows + to - first) * ROW]
    }
}

widest! {
    /// See `expanded`.
    fn expand(coefs: &[f32], basis: &[[f32; ROW]], out: &mut [[f32; ROW]]) = expanded
}
widest! {
    /// See `stamped`.
    fn stamp(profiles: &[[f32; ROW]], taps: &[[f32; ROW]], roots: &[[f32; ROW]], out: &mut [f32]) = stamped
}
widest! {
    /// See `row_of`.
    fn inverse_row(stamps: &Stamps, live: &[bool; BLOCK], scale: f64, row: &mut [f64; BLOCK]) -> bool
        = row_of
}

/// out += Σ_k coefs[k] basis[k].
#[inline(always)]
fn expanded(coefs: &[f32], basis: &[[f32; ROW]], out: &mut [[f32; ROW]]) {
    for (out, coefs) in out.iter_mut().zip(coefs.chunks_exact(basis.len())) {
        let mut sum = *out;
        for (a, phi) in coefs.iter().zip(basis) {
            for k in 0..ROW {
                sum[k] += a * phi[k];
            }
        }
        *out = sum;
    }
}

/// √w Σ_r h_r a_r in rows of pixels.
#[inline(always)]
fn stamped(profiles: &[[f32; ROW]], taps: &[[f32; ROW]], roots: &[[f32; ROW]], out: &mut [f32]) {
    let rows = out.chunks_exact_mut(ROW).zip(roots).zip(profiles.chunks_exact(taps.len()));
    for ((out, root), profiles) in rows {
        let mut sum = [0f32; ROW];
        for (a, h) in profiles.iter().zip(taps) {
            for k in 0..ROW {
                sum[k] += h[k] * a[k];
            }
        }
        for k in 0..ROW {
            out[k] = root[k] * sum[k];
        }
    }
}

/// The middle row of the inverse of the stamps' products over `scale`; false where there
/// is none.
#[inline(always)]
fn row_of(stamps: &Stamps, live: &[bool; BLOCK], scale: f64, row: &mut [f64; BLOCK]) -> bool {
    let mut n = [[0f64; BLOCK]; BLOCK];
    let factor = 1.0 / scale;
    for a in 0..BLOCK {
        n[a][a] = 1.0;
        let own = stamps.spans[a / COLUMNS];
        for b in (0..=a).filter(|b| live[a] && live[*b]) {
            // Rows that both touch.
            let other = stamps.spans[b / COLUMNS];
            let (from, to) = (own.0.max(other.0), own.1.min(other.1));
            n[a][b] = if from < to {
                factor * f64::from(inner(stamps.of(a, from, to), stamps.of(b, from, to)))
            } else {
                0.0
            };
        }
    }
    // Cholesky, column by column, and the row of the inverse that belongs to the centre.
    for k in 0..BLOCK {
        if !(n[k][k] > 1e-6) {
            return false;
        }
        let root = n[k][k].sqrt();
        n[k][k] = root;
        let mut column = [0.0; BLOCK];
        for i in k + 1..BLOCK {
            n[i][k] /= root;
            column[i] = n[i][k];
        }
        for i in k + 1..BLOCK {
            let own = column[i];
            for (v, c) in n[i][k + 1..=i].iter_mut().zip(&column[k + 1..]) {
                *v -= own * c;
            }
        }
    }
    row.fill(0.0);
    row[BLOCK / 2] = 1.0;
    for i in BLOCK / 2..BLOCK {
        for k in BLOCK / 2..i {
            row[i] -= n[i][k] * row[k];
        }
        row[i] /= n[i][i];
    }
    for i in (0..BLOCK).rev() {
        for k in i + 1..BLOCK {
            row[i] -= n[k][i] * row[k];
        }
        row[i] /= n[i][i];
    }
    true
}

/// Σ a·b of whole rows: in lanes, which then are added to one another by halves.
#[inline(always)]
fn inner(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 2 * ROW];
    let (mut a, mut b) = (a, b);
    while a.len() >= 8 * ROW {
        products::<4>(a, b, &mut lanes);
        (a, b) = (&a[8 * ROW..], &b[8 * ROW..]);
    }
    while a.len() >= 2 * ROW {
        products::<1>(a, b, &mut lanes);
        (a, b) = (&a[2 * ROW..], &b[2 * ROW..]);
    }
    for ((sum, a), b) in lanes.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
    for k in 0..16 {
        lanes[k] += lanes[k + 16] + lanes[k + 32];
    }
    for k in 0..8 {
        lanes[k] += lanes[k + 8];
    }
    for k in 0..4 {
        lanes[k] += lanes[k + 4];
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// Adds the products of `N` pairs of rows.
#[inline(always)]
fn products<const N: usize>(a: &[f32], b: &[f32], lanes: &mut [f32; 2 * ROW]) {
    let (a, b) = (&a[..2 * ROW * N], &b[..2 * ROW * N]);
    for k in 0..2 * ROW {
        let mut sum = lanes[k];
        for n in 0..N {
            sum += a[2 * ROW * n + k] * b[2 * ROW * n + k];
        }
        lanes[k] = sum;
    }
}
