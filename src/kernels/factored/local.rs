//! Variances and covariances of single unknowns, from the inverse of N among their
//! neighbours: exact but for what lies further away.

use super::solve::unknown;
use super::{REACH, SEG, System, TAPS};
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
/// Values that are summed at a time.
const LANES: usize = 16;

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
    let y0 = i64::from(s.entries[top].anchor);
    let height = (i64::from(s.entries[bottom].anchor) - y0) as usize + s.ky;
    if height > 8 * s.ky {
        return None;
    }
    // √w of the pixels around.
    let mut roots = vec![0f32; WIDTH * height];
    for (k, roots) in roots.chunks_exact_mut(height).enumerate() {
        let column = (x + k) as i64 - HALF as i64;
        let within = column.rem_euclid(SEG as i64) as usize;
        let Some(segment) = s.beside(seg, column.div_euclid(SEG as i64)) else { continue };
        for (y, root) in (y0..).zip(roots) {
            if (0..s.ny as i64).contains(&y) {
                *root = weight[(segment * s.ny + y as usize) * SEG + within].larger(T::ZERO).to_f32().sqrt();
            }
        }
    }
    // Stamps: √w · B of each unknown on (WIDTH, height).
    let mut stamps = vec![0f32; BLOCK * WIDTH * height];
    let mut live = [false; BLOCK];
    let rank = s.rank();
    // Rows of a profile, filled up to whole lanes.
    let padded = s.ky.next_multiple_of(LANES);
    let mut profile = vec![0f32; rank * padded];
    let mut values = vec![0f32; padded];
    for entry in top..=bottom {
        let first = (entry + HALF_SPECTRA - e) * COLUMNS;
        for c in 0..COLUMNS {
            let own = at(s, entry, (x + c) as i64 - HALF_COLUMNS as i64);
            live[first + c] = own.is_some_and(|(u, column)| diagonal[u * SEG + column] > T::ZERO);
        }
        for k in 0..WIDTH {
            let Some((owner, within)) = at(s, entry, (x + k) as i64 - HALF as i64) else { continue };
            // The neighbour's rows count from another anchor.
            let down = i64::from(s.entries[owner].anchor) - y0;
            let (from, to) = (down.clamp(0, height as i64), (down + s.ky as i64).clamp(0, height as i64));
            for (i, a) in s.profiles(owner, within).enumerate() {
                profile[i % rank * padded + i / rank] = a;
            }
            // Pixel column k sees the block's column c with tap c − k + 2 REACH.
            for c in k.saturating_sub(2 * REACH)..COLUMNS.min(k + 1) {
                if !live[first + c] {
                    continue;
                }
                let j = c + TAPS - 1 - k;
                combine(&profile, &s.taps, j, &mut values);
                let stamp = &mut stamps[((first + c) * WIDTH + k) * height..][..height];
                let rows = from as usize..to as usize;
                let own = values[(from - down) as usize..].iter().zip(&roots[k * height..][rows.clone()]);
                stamp[rows].iter_mut().zip(own).for_each(|(o, (v, root))| *o = v * root);
            }
        }
    }
    let scale = diagonal[centre].to_f64();
    let mut row = [0.0; BLOCK];
    if !inverse_row(&stamps, height, &live, scale, &mut row) {
        return None;
    }
    let mut covariance = [[0.0; COLUMNS]; SPECTRA];
    for (i, value) in row.iter().enumerate() {
        covariance[i / COLUMNS][i % COLUMNS] = if live[i] { value / scale } else { 0.0 };
    }
    Some(Local { variance: row[BLOCK / 2] / scale, covariance })
}

/// The entry and column of a spectrum's column counted from those of entry `e`.
fn at(s: &System, e: usize, column: i64) -> Option<(usize, usize)> {
    let entry = &s.entries[e];
    let (owner, column) = match column {
        c if c < 0 => (entry.left, c + SEG as i64),
        c if c >= SEG as i64 => (entry.right, c - SEG as i64),
        c => (e as u32, c),
    };
    (owner != super::NONE).then_some((owner as usize, column as usize))
}

widest! {
    /// See `combined`.
    fn combine(profile: &[f32], taps: &[[f32; TAPS]], j: usize, values: &mut [f32]) = combined
}
widest! {
    /// See `row_of`.
    fn inverse_row(stamps: &[f32], height: usize, live: &[bool; BLOCK], scale: f64, row: &mut [f64; BLOCK]) -> bool
        = row_of
}

/// Σ_r h_r[j] a_r of the terms' profiles (rank, rows).
#[inline(always)]
fn combined(profile: &[f32], taps: &[[f32; TAPS]], j: usize, values: &mut [f32]) {
    let rows = values.len();
    for (c, values) in values.chunks_exact_mut(LANES).enumerate() {
        let mut sum = [0f32; LANES];
        for (h, own) in taps.iter().zip(profile.chunks_exact(rows)) {
            let own = &own[c * LANES..][..LANES];
            for k in 0..LANES {
                sum[k] += h[j] * own[k];
            }
        }
        values.copy_from_slice(&sum);
    }
}

/// The middle row of the inverse of the stamps' products over `scale`; false where there
/// is none.
#[inline(always)]
fn row_of(stamps: &[f32], height: usize, live: &[bool; BLOCK], scale: f64, row: &mut [f64; BLOCK]) -> bool {
    let mut n = [[0f64; BLOCK]; BLOCK];
    for a in 0..BLOCK {
        n[a][a] = 1.0;
        for b in (0..=a).filter(|b| live[a] && live[*b]) {
            // Columns that both touch.
            let (ca, cb) = (a % COLUMNS, b % COLUMNS);
            let from = ca.max(cb);
            let to = ca.min(cb) + 2 * REACH + 1;
            let pa = &stamps[(a * WIDTH + from) * height..(a * WIDTH + to) * height];
            let pb = &stamps[(b * WIDTH + from) * height..(b * WIDTH + to) * height];
            n[a][b] = inner(pa, pb) / scale;
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

/// Σ a·b in lanes.
#[inline(always)]
fn inner(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f32; LANES];
    let (wide_a, wide_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = wide_a.remainder().iter().zip(wide_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in wide_a.zip(wide_b) {
        for k in 0..LANES {
            lanes[k] += a[k] * b[k];
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}
