//! Variances and covariances of all unknowns, each from the inverse of N among its
//! neighbours: exact but for what lies further away.
//!
//! For 16 columns at a time, each in a lane of its own:
//! 1. N's elements between a spectrum and the next ones, row by row of pixels:
//!    N(u, u + m) = Σ_y Σ_j w B(j) B'(j + m) at pixel u − j, B(j) what it sees of the
//!    unknown j columns on;
//! 2. Cholesky's factor L of the block of [`BLOCK`] neighbours, the unknown last and
//!    those of [`LAGS`] before it: its variance is 1/L², and a few steps back give its
//!    covariances with them.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::{NONE, REACH, SEG, System, TAPS};
use crate::simd::widest;

/// Spectra of the block on either side.
pub(super) const HALF_SPECTRA: usize = 2;
/// Columns of the block on either side.
const HALF_COLUMNS: usize = 3;
const SPECTRA: usize = 2 * HALF_SPECTRA + 1;
const COLUMNS: usize = 2 * HALF_COLUMNS + 1;
/// Unknowns of a block.
const BLOCK: usize = SPECTRA * COLUMNS;
/// Spectra further apart than this have no pixels in common that count.
const APART: usize = 2;
/// Distances along columns between unknowns of a block.
const SHIFTS: usize = 2 * COLUMNS - 1;
/// Columns of a vector.
const LANES: usize = 16;
/// Columns of unknowns, from −HALF_COLUMNS on, filled up to whole vectors.
const UNKNOWNS: usize = (SEG + 2 * HALF_COLUMNS).next_multiple_of(LANES);
/// Columns of pixels, from −HALF_COLUMNS − REACH on.
const PIXELS: usize = UNKNOWNS + 2 * REACH;
/// Columns of unknowns that others are looked for in: so many more on either side.
const MARGIN: usize = COLUMNS - 1;
/// All of them, in whole vectors.
const WIDTH: usize = (UNKNOWNS + 2 * MARGIN).next_multiple_of(LANES);
/// A pivot below this part of its diagonal: the unknown is not determined.
const SINGULAR: f32 = 1e-5;

/// The covariances that are told: (spectra after it in its segment, columns on).
pub const LAGS: [(usize, i32); 11] =
    [(0, 1), (0, 2), (0, 3), (1, -3), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)];

/// What the inverse says of one entry's unknowns.
#[derive(Debug, Clone)]
pub struct Local {
    /// Variances; NaN where an unknown is not determined.
    pub variance: [f32; SEG],
    /// Covariances with the unknowns at [`LAGS`]; 0 with what is not determined.
    pub covariance: [[f32; SEG]; LAGS.len()],
}

/// The spectra's values for a vector of columns.
type Lane = [f32; LANES];
/// By an unknown's column, from −HALF_COLUMNS − MARGIN on.
type Row = [f32; WIDTH];
/// N between an entry and another, by distance in columns and column.
type Gram = [[f32; UNKNOWNS]; SHIFTS];

/// The unknowns of all entries of a segment, in their order. `weight` may hold negative
/// values for rejected pixels; `diagonal` is 0 where an unknown is not solved for.
pub fn local(s: &System, weight: &[f32], diagonal: &[f32], segment: usize) -> Vec<Local> {
    let entries = s.of_segment(segment);
    let weight = weights(s, weight, segment);
    let order = order();
    let n = entries.len();
    // Some at a time: what they share with their neighbours stays at hand.
    const STRETCH: usize = 32;
    let stretches = (0..n.div_ceil(STRETCH)).into_par_iter().flat_map_iter(|k| {
        let own = k * STRETCH..((k + 1) * STRETCH).min(n);
        let from = own.start.saturating_sub(HALF_SPECTRA);
        let to = (own.end + HALF_SPECTRA).min(n);
        let mut strips: VecDeque<Strip> = VecDeque::new();
        let mut spare = None;
        let mut grams = Vec::new();
        for i in from..to {
            while strips.len() <= APART && i + strips.len() < to {
                let mut strip: Strip = spare.take().unwrap_or_default();
                strip.set(s, entries.start + i + strips.len(), diagonal);
                strips.push_back(strip);
            }
            grams.push(beside(&strips, &weight));
            spare = strips.pop_front();
        }
        let mut n: Box<Matrix> = Box::new([[0.0; LANES]; BLOCK * (BLOCK + 1) / 2]);
        own.map(|i| {
            let mut local = of_entry(&grams, i - from, &order, &mut n);
            let diagonal = &diagonal[(entries.start + i) * SEG..];
            let unknown = local.variance.iter_mut().zip(diagonal).filter(|(_, d)| **d <= 0.0);
            unknown.for_each(|(v, _)| *v = f32::NAN);
            local
        })
        .collect::<Vec<_>>()
    });
    stretches.collect()
}

/// What the pixels around a segment see of a spectrum's unknowns.
struct Strip {
    /// First detector row; may lie off the detector.
    first: i64,
    /// B(j) of each row, at the unknown's column.
    rows: Vec<[Row; TAPS]>,
    /// 1 where an unknown is solved for, 0 elsewhere.
    live: Row,
    /// (rows, rank), to make it of.
    profiles: Vec<[f32; PIXELS]>,
}

impl Default for Strip {
    fn default() -> Strip {
        Strip { first: 0, rows: Vec::new(), live: [0.0; WIDTH], profiles: Vec::new() }
    }
}

/// The columns from −`half` to SEG + `half` of the segment before, the one itself and the
/// one after, counted from −`half`; with the first one's column in its segment.
fn pieces(half: usize) -> [(std::ops::Range<usize>, usize); 3] {
    [(0..half, SEG - half), (half..half + SEG, 0), (half + SEG..2 * half + SEG, 0)]
}

impl Strip {
    /// Becomes that of entry `e`.
    fn set(&mut self, s: &System, e: usize, diagonal: &[f32]) {
        let own = s.entries[e];
        let owners = [own.left, e as u32, own.right];
        let anchors =
            || owners.iter().filter(|o| **o != NONE).map(|o| i64::from(s.entries[*o as usize].anchor));
        let (first, last) = anchors().fold((i64::MAX, i64::MIN), |(a, b), y| (a.min(y), b.max(y)));
        let nodes = s.basis.len();
        let high = (last - first) as usize + s.ky;
        self.profiles.clear();
        self.profiles.resize(high * s.rank(), [0.0; PIXELS]);
        for (owner, (columns, start)) in owners.iter().zip(pieces(HALF_COLUMNS + REACH)) {
            if *owner == NONE {
                continue;
            }
            let owner = *owner as usize;
            // The neighbour's rows count from another anchor.
            let down = (i64::from(s.entries[owner].anchor) - first) as usize * s.rank();
            let coefs = s.coefs_of(owner).chunks_exact(nodes);
            for (out, coefs) in self.profiles[down..].iter_mut().zip(coefs) {
                for (a, phi) in coefs.iter().zip(&s.basis) {
                    let out = out[columns.clone()].iter_mut();
                    out.zip(&phi[start..]).for_each(|(out, phi)| *out += a * phi);
                }
            }
        }
        // What lies beside the unknowns stays 0.
        self.rows.resize(high, [[0.0; WIDTH]; TAPS]);
        for (row, profiles) in self.rows.iter_mut().zip(self.profiles.chunks_exact(s.rank())) {
            stamp(profiles, &s.taps, row);
        }
        self.live = [0.0; WIDTH];
        for (owner, (columns, start)) in owners.iter().zip(pieces(HALF_COLUMNS)) {
            if *owner != NONE {
                let own = &diagonal[*owner as usize * SEG + start..];
                let live = self.live[MARGIN..][columns].iter_mut();
                live.zip(own).for_each(|(live, d)| *live = f32::from(u8::from(*d > 0.0)));
            }
        }
        self.first = first;
    }
}

/// The weights around a segment, (ny, PIXELS); none are negative.
fn weights(s: &System, weight: &[f32], segment: usize) -> Vec<[f32; PIXELS]> {
    let mut out = vec![[0.0; PIXELS]; s.ny];
    for (by, (columns, start)) in (-1..).zip(pieces(HALF_COLUMNS + REACH)) {
        let Some(other) = s.beside(segment, by) else { continue };
        for (out, own) in out.iter_mut().zip(weight[other * s.ny * SEG..].chunks_exact(SEG)) {
            let out = out[columns.clone()].iter_mut();
            out.zip(&own[start..]).for_each(|(out, w)| *out = w.max(0.0));
        }
    }
    out
}

/// N between the first of `strips` and each of those up to [`APART`] after it; zeros
/// where there is none.
fn beside(strips: &VecDeque<Strip>, weight: &[[f32; PIXELS]]) -> [Box<Gram>; APART + 1] {
    let mut out: [Box<Gram>; APART + 1] = std::array::from_fn(|_| Box::new([[0.0; UNKNOWNS]; SHIFTS]));
    let Some(own) = strips.front() else { return out };
    let mut weighted = [[0f32; UNKNOWNS]; TAPS];
    for (y, row) in (own.first..).zip(&own.rows) {
        let Some(weight) = usize::try_from(y).ok().and_then(|y| weight.get(y)) else { continue };
        weigh(row, weight, &mut weighted);
        for (k, (other, out)) in strips.iter().zip(&mut out).enumerate() {
            let theirs = usize::try_from(y - other.first).ok().and_then(|y| other.rows.get(y));
            // Of itself the other half is the same.
            let from = if k == 0 { MARGIN } else { 0 };
            theirs.into_iter().for_each(|theirs| add_products(&weighted, theirs, from, out));
        }
    }
    for (k, (other, out)) in strips.iter().zip(&mut out).enumerate() {
        for (m, out) in out.iter_mut().enumerate() {
            for (u, v) in out.iter_mut().enumerate() {
                let live = own.live[MARGIN + u] * other.live[u + m];
                *v = if k == 0 && m == MARGIN && live == 0.0 { 1.0 } else { *v * live };
            }
        }
    }
    out
}

widest! {
    /// B(j) = Σ_r h_r(j) a_r, at the unknown's column.
    fn stamp(profiles: &[[f32; PIXELS]], taps: &[[f32; TAPS]], out: &mut [Row; TAPS]) = stamped
}
widest! {
    /// w B(j), at the unknown's column.
    fn weigh(row: &[Row; TAPS], weight: &[f32; PIXELS], out: &mut [[f32; UNKNOWNS]; TAPS]) = weighed
}
widest! {
    /// N(u, u + m) += Σ_j w B(j) B'(j + m), from m = `from` − MARGIN on.
    fn add_products(own: &[[f32; UNKNOWNS]; TAPS], other: &[Row; TAPS], from: usize, out: &mut Gram)
        = products_added
}
widest! {
    /// See `solved`.
    fn solve(n: &mut Matrix, out: &mut [Lane; NEEDED]) = solved
}

#[inline(always)]
fn stamped(profiles: &[[f32; PIXELS]], taps: &[[f32; TAPS]], out: &mut [Row; TAPS]) {
    for (j, out) in out.iter_mut().enumerate() {
        let mut sum = [0f32; UNKNOWNS];
        for (a, h) in profiles.iter().zip(taps) {
            let (a, h) = (&a[TAPS - 1 - j..][..UNKNOWNS], h[j]);
            for u in 0..UNKNOWNS {
                sum[u] += h * a[u];
            }
        }
        out[MARGIN..MARGIN + UNKNOWNS].copy_from_slice(&sum);
    }
}

#[inline(always)]
fn weighed(row: &[Row; TAPS], weight: &[f32; PIXELS], out: &mut [[f32; UNKNOWNS]; TAPS]) {
    for (j, (out, row)) in out.iter_mut().zip(row).enumerate() {
        let (w, b) = (&weight[TAPS - 1 - j..][..UNKNOWNS], &row[MARGIN..][..UNKNOWNS]);
        for u in 0..UNKNOWNS {
            out[u] = w[u] * b[u];
        }
    }
}

#[inline(always)]
fn products_added(own: &[[f32; UNKNOWNS]; TAPS], other: &[Row; TAPS], from: usize, out: &mut Gram) {
    for (m, out) in out.iter_mut().enumerate().skip(from) {
        // Tap j of the one and j + m − MARGIN of the other.
        let (skip, down) = (m.saturating_sub(MARGIN), MARGIN.saturating_sub(m));
        let mut sum = *out;
        for (a, b) in own[down..].iter().zip(&other[skip..]) {
            let b = &b[m..][..UNKNOWNS];
            for u in 0..UNKNOWNS {
                sum[u] += a[u] * b[u];
            }
        }
        *out = sum;
    }
}

/// Lower triangle of a block's N, row by row; then L.
type Matrix = [Lane; BLOCK * (BLOCK + 1) / 2];
/// The unknown and those of [`LAGS`].
const NEEDED: usize = LAGS.len() + 1;

/// (Spectrum, column) of a block's unknowns: those that are not asked for, then those of
/// [`LAGS`], the last lag first, then the unknown itself.
fn order() -> [(usize, usize); BLOCK] {
    let mut out = [(HALF_SPECTRA, HALF_COLUMNS); BLOCK];
    for (to, (up, on)) in out[BLOCK - NEEDED..].iter_mut().zip(LAGS.iter().rev()) {
        *to = (HALF_SPECTRA + up, (HALF_COLUMNS as i32 + on) as usize);
    }
    let needed = out[BLOCK - NEEDED..].to_vec();
    let all = (0..SPECTRA).flat_map(|a| (0..COLUMNS).map(move |i| (a, i)));
    out.iter_mut().zip(all.filter(|p| !needed.contains(p))).for_each(|(to, p)| *to = p);
    out
}

/// One entry's unknowns, `at` in the grams.
fn of_entry(
    grams: &[[Box<Gram>; APART + 1]],
    at: usize,
    order: &[(usize, usize); BLOCK],
    n: &mut Matrix,
) -> Local {
    let mut out = Local { variance: [f32::NAN; SEG], covariance: [[0.0; SEG]; LAGS.len()] };
    let mut row = [[0f32; LANES]; NEEDED];
    for x in (0..SEG).step_by(LANES) {
        fill(grams, at, order, x, n);
        solve(n, &mut row);
        for k in 0..LANES {
            out.variance[x + k] = row[NEEDED - 1][k];
            for (c, row) in out.covariance.iter_mut().zip(row.iter().rev().skip(1)) {
                c[x + k] = row[k];
            }
        }
    }
    out
}

/// N of the blocks around columns `x` … of an entry; 1 on the diagonal of what there is not.
fn fill(
    grams: &[[Box<Gram>; APART + 1]],
    at: usize,
    order: &[(usize, usize); BLOCK],
    x: usize,
    n: &mut Matrix,
) {
    let mut out = n.iter_mut();
    for (i, one) in order.iter().enumerate() {
        for other in &order[..=i] {
            let Some(out) = out.next() else { return };
            let ((a, from), (b, to)) = if one <= other { (*one, *other) } else { (*other, *one) };
            let entry = (at + a).checked_sub(HALF_SPECTRA).and_then(|e| grams.get(e));
            let own = entry.and_then(|g| g.get(b - a));
            let values = own.and_then(|g| g[to + COLUMNS - 1 - from][x + from..].first_chunk());
            *out = match values {
                Some(values) => *values,
                None => [if one == other { 1.0 } else { 0.0 }; LANES],
            };
        }
    }
}

/// Cholesky's factor of N, and the last elements of the last row of N⁻¹; NaN where the
/// block is not determined.
#[inline(always)]
fn solved(n: &mut Matrix, out: &mut [Lane; NEEDED]) {
    let row = |i: usize| i * (i + 1) / 2;
    let mut inverse = [[0f32; LANES]; BLOCK];
    let mut singular = [false; LANES];
    for i in 0..BLOCK {
        let (above, own) = n.split_at_mut(row(i));
        for k in 0..=i {
            let other = if k < i { &above[row(k)..row(k) + k] } else { &[] };
            let mut sum = own[k];
            for t in 0..k {
                let (a, b) = (own[t], if k < i { other[t] } else { own[t] });
                for l in 0..LANES {
                    sum[l] -= a[l] * b[l];
                }
            }
            if k < i {
                for l in 0..LANES {
                    own[k][l] = sum[l] * inverse[k][l];
                }
            } else {
                for l in 0..LANES {
                    let bad = !(sum[l] > SINGULAR * own[k][l]);
                    singular[l] |= bad;
                    inverse[k][l] = if bad { 0.0 } else { 1.0 / sum[l].sqrt() };
                }
            }
        }
    }
    let first = BLOCK - NEEDED;
    for i in (0..NEEDED).rev() {
        let mut sum = if i + 1 == NEEDED { inverse[BLOCK - 1] } else { [0.0; LANES] };
        for t in i + 1..NEEDED {
            for l in 0..LANES {
                sum[l] -= n[row(first + t) + first + i][l] * out[t][l];
            }
        }
        for l in 0..LANES {
            out[i][l] = sum[l] * inverse[first + i][l];
        }
    }
    for l in 0..LANES {
        if singular[l] {
            out.iter_mut().for_each(|o| o[l] = f32::NAN);
        }
    }
}
