//! Variances and covariances of single unknowns, from the inverse of N among their
//! neighbours: exact but for what lies further away.

use super::solve::unknown;
use super::{REACH, SEG, System, TAPS};
use crate::kernels::Real;

/// Spectra of the block on either side.
pub const HALF_SPECTRA: usize = 2;
/// Columns of the block on either side.
pub const HALF_COLUMNS: usize = 3;
const SPECTRA: usize = 2 * HALF_SPECTRA + 1;
const COLUMNS: usize = 2 * HALF_COLUMNS + 1;
/// Unknowns of a block.
const BLOCK: usize = SPECTRA * COLUMNS;

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
pub fn local<T: Real>(s: &System<T>, weight: &[T], diagonal: &[T], e: usize, x: usize) -> Option<Local> {
    let centre = unknown(s, e, x + REACH).filter(|i| diagonal[*i] > T::ZERO)?;
    let seg = s.entries[e].segment as usize;
    let (first, last) = (s.starts[seg], s.starts[seg + 1]);
    // Columns of pixels that touch any of the block's unknowns.
    let half = HALF_COLUMNS + REACH;
    let width = 2 * half + 1;
    let top = e.saturating_sub(HALF_SPECTRA).max(first);
    let bottom = (e + HALF_SPECTRA).min(last - 1);
    let y0 = i64::from(s.entries[top].anchor);
    let height = (i64::from(s.entries[bottom].anchor) - y0) as usize + s.ky;
    if height > 8 * s.ky {
        return None;
    }
    // Stamps: √w · B of each unknown on (width, height).
    let mut stamps = vec![0f32; BLOCK * width * height];
    let mut live = [false; BLOCK];
    for entry in top..=bottom {
        let row = entry + HALF_SPECTRA - e;
        let down = (i64::from(s.entries[entry].anchor) - y0) as usize;
        for c in 0..COLUMNS {
            let b = row * COLUMNS + c;
            // The unknown's column in the segment, and whether it is one.
            let i = x as i64 + c as i64 - HALF_COLUMNS as i64;
            let Some(u) = at(s, entry, i) else { continue };
            let d = diagonal[u.0 * SEG + u.1];
            if !(d > T::ZERO) {
                continue;
            }
            live[b] = true;
            for j in 0..TAPS {
                // Pixel column px sees the unknown with tap j: i = px + j − REACH.
                let px = i - j as i64 + REACH as i64;
                let Some((owner, within)) = at(s, entry, px) else { continue };
                // The neighbour's rows count from another anchor.
                let moved = i64::from(s.entries[owner].anchor) - i64::from(s.entries[entry].anchor);
                let segment = s.entries[owner].segment as usize;
                let column = (px - x as i64 + half as i64) as usize;
                for dy in 0..s.ky {
                    let y = i64::from(s.entries[owner].anchor) + dy as i64;
                    let to = down as i64 + moved + dy as i64;
                    if !(0..s.ny as i64).contains(&y) || !(0..height as i64).contains(&to) {
                        continue;
                    }
                    let w = weight[(segment * s.ny + y as usize) * SEG + within].larger(T::ZERO);
                    let v = s.value(owner, within, dy, j) * w.sqrt();
                    stamps[(b * width + column) * height + to as usize] = v.to_f32();
                }
            }
        }
    }
    let scale = diagonal[centre].to_f64();
    let mut n = [[0f64; BLOCK]; BLOCK];
    for a in 0..BLOCK {
        for b in 0..=a {
            n[a][b] = if live[a] && live[b] {
                // Columns that both touch.
                let (ca, cb) = (a % COLUMNS, b % COLUMNS);
                let from = ca.max(cb);
                let to = ca.min(cb) + 2 * REACH + 1;
                let pa = &stamps[(a * width + from) * height..(a * width + to) * height];
                let pb = &stamps[(b * width + from) * height..(b * width + to) * height];
                inner(pa, pb) / scale
            } else if a == b {
                1.0
            } else {
                0.0
            };
        }
    }
    // Cholesky, and the column of the inverse that belongs to the centre.
    for i in 0..BLOCK {
        for j in 0..=i {
            let mut sum = n[i][j];
            for k in 0..j {
                sum -= n[i][k] * n[j][k];
            }
            if i == j {
                if !(sum > 1e-6) {
                    return None;
                }
                n[i][i] = sum.sqrt();
            } else {
                n[i][j] = sum / n[j][j];
            }
        }
    }
    let mut v = [0f64; BLOCK];
    v[BLOCK / 2] = 1.0;
    for i in BLOCK / 2..BLOCK {
        for k in BLOCK / 2..i {
            v[i] -= n[i][k] * v[k];
        }
        v[i] /= n[i][i];
    }
    for i in (0..BLOCK).rev() {
        for k in i + 1..BLOCK {
            v[i] -= n[k][i] * v[k];
        }
        v[i] /= n[i][i];
    }
    let mut covariance = [[0.0; COLUMNS]; SPECTRA];
    for (i, value) in v.iter().enumerate() {
        covariance[i / COLUMNS][i % COLUMNS] = if live[i] { value / scale } else { 0.0 };
    }
    Some(Local { variance: v[BLOCK / 2] / scale, covariance })
}

/// The entry and column of a spectrum's column counted from those of entry `e`.
fn at<T>(s: &System<T>, e: usize, column: i64) -> Option<(usize, usize)> {
    let entry = &s.entries[e];
    let (owner, column) = match column {
        c if c < 0 => (entry.left, c + SEG as i64),
        c if c >= SEG as i64 => (entry.right, c - SEG as i64),
        c => (e as u32, c),
    };
    (owner != super::NONE).then_some((owner as usize, column as usize))
}

/// Σ a·b in eight lanes.
fn inner(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for k in 0..8 {
            lanes[k] += a[k] * b[k];
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}
