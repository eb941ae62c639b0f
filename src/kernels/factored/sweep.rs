//! B, its transpose and BᵀWB, a segment at a time.
//!
//! A segment is swept down its rows: spectra are added to the image, a row is finished
//! when no further spectrum reaches it, and a spectrum's transpose is taken as soon as
//! its rows are finished, so that coefficients are read from memory once.

use rayon::prelude::*;

use super::{NONE, REACH, SEG, System, TAPS, WIDE};
use crate::kernels::Real;
use crate::simd::widest;

/// Numbers with loops compiled for the widest vectors.
pub trait Lanes: Real {
    /// Adds an entry's light to the image rows; see `add`.
    fn light(coefs: &[Self], taps: &[[Self; TAPS]], wide: &[Self; WIDE], rows: &mut [Self]);
    /// An entry's transpose; see `take`.
    fn take(coefs: &[Self], taps: &[[Self; TAPS]], rows: &[Self], wide: &mut [Self]);
}

/// rows[dy][x] += Σ_r a[dy][r][x] Σ_j h_r[j] f[x + j] for the rows that there are.
#[inline(always)]
fn add<T: Real>(coefs: &[T], taps: &[[T; TAPS]], wide: &[T; WIDE], rows: &mut [T]) {
    let rank = taps.len();
    for (r, h) in taps.iter().enumerate() {
        let mut g = [T::ZERO; SEG];
        for (j, h) in h.iter().enumerate() {
            let f = &wide[j..j + SEG];
            for x in 0..SEG {
                g[x] += *h * f[x];
            }
        }
        for (row, a) in rows.chunks_exact_mut(SEG).zip(coefs[r * SEG..].chunks(rank * SEG)) {
            let a = &a[..SEG];
            for x in 0..SEG {
                row[x] += a[x] * g[x];
            }
        }
    }
}

/// wide[x + j] = Σ_r h_r[j] Σ_dy a[dy][r][x] rows[dy][x].
#[inline(always)]
fn take<T: Real>(coefs: &[T], taps: &[[T; TAPS]], rows: &[T], wide: &mut [T]) {
    let rank = taps.len();
    wide.fill(T::ZERO);
    for (r, h) in taps.iter().enumerate() {
        let mut q = [T::ZERO; SEG];
        for (row, a) in rows.chunks_exact(SEG).zip(coefs[r * SEG..].chunks(rank * SEG)) {
            let a = &a[..SEG];
            for x in 0..SEG {
                q[x] += a[x] * row[x];
            }
        }
        for (j, h) in h.iter().enumerate() {
            let to = &mut wide[j..j + SEG];
            for x in 0..SEG {
                to[x] += *h * q[x];
            }
        }
    }
}

widest! {
    fn add_f32(coefs: &[f32], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) = add
}
widest! {
    fn take_f32(coefs: &[f32], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) = take
}

impl Lanes for f32 {
    fn light(coefs: &[f32], taps: &[[f32; TAPS]], wide: &[f32; WIDE], rows: &mut [f32]) {
        add_f32(coefs, taps, wide, rows);
    }
    fn take(coefs: &[f32], taps: &[[f32; TAPS]], rows: &[f32], wide: &mut [f32]) {
        take_f32(coefs, taps, rows, wide);
    }
}

impl Lanes for f64 {
    fn light(coefs: &[f64], taps: &[[f64; TAPS]], wide: &[f64; WIDE], rows: &mut [f64]) {
        add(coefs, taps, wide, rows);
    }
    fn take(coefs: &[f64], taps: &[[f64; TAPS]], rows: &[f64], wide: &mut [f64]) {
        take(coefs, taps, rows, wide);
    }
}

/// An entry's unknowns with [`REACH`] columns of its neighbours on either side.
fn reach<T: Real>(s: &System<T>, f: &[T], e: usize) -> [T; WIDE] {
    let mut wide = [T::ZERO; WIDE];
    wide[REACH..REACH + SEG].copy_from_slice(&f[e * SEG..][..SEG]);
    let entry = &s.entries[e];
    if entry.left != NONE {
        wide[..REACH].copy_from_slice(&f[entry.left as usize * SEG + SEG - REACH..][..REACH]);
    }
    if entry.right != NONE {
        wide[REACH + SEG..].copy_from_slice(&f[entry.right as usize * SEG..][..REACH]);
    }
    wide
}

/// Rows of the detector that entry `e` covers, and the first of its profile that does.
fn rows_of<T: Real>(s: &System<T>, e: usize) -> (usize, usize, usize) {
    let (anchor, ky, ny) = (i64::from(s.entries[e].anchor), s.ky as i64, s.ny as i64);
    let from = anchor.clamp(0, ny);
    let to = (anchor + ky).clamp(from, ny);
    (from as usize, to as usize, (from - anchor).min(ky) as usize)
}

/// Sweeps segment `seg`: `image` (ny, SEG; zero before) gets B f, each row is handed to
/// `finish(y, row)`, and of what that leaves the transpose goes to `wide`
/// (entries of the segment, WIDE), where asked for.
fn sweep<T: Lanes>(
    s: &System<T>,
    f: Option<&[T]>,
    seg: usize,
    image: &mut [T],
    mut finish: impl FnMut(usize, &mut [T]),
    mut wide: Option<&mut [T]>,
) {
    let (first, last) = (s.starts[seg], s.starts[seg + 1]);
    let stride = s.rank() * SEG;
    let (mut finished, mut taken) = (0, first);
    for e in first..=last {
        // Rows above this entry's first get nothing more.
        let complete = if e < last { rows_of(s, e).0.max(finished) } else { s.ny };
        for y in finished..complete {
            finish(y, &mut image[y * SEG..][..SEG]);
        }
        finished = complete;
        if let Some(wide) = wide.as_deref_mut() {
            while taken < e && rows_of(s, taken).1 <= finished {
                let (from, to, skip) = rows_of(s, taken);
                let out = &mut wide[(taken - first) * WIDE..][..WIDE];
                T::take(&s.coefs_of(taken)[skip * stride..], &s.taps, &image[from * SEG..to * SEG], out);
                taken += 1;
            }
        }
        if let (true, Some(f)) = (e < last, f) {
            let (from, to, skip) = rows_of(s, e);
            let own = reach(s, f, e);
            T::light(&s.coefs_of(e)[skip * stride..], &s.taps, &own, &mut image[from * SEG..to * SEG]);
        }
    }
}

/// Splits `wide` (entries, WIDE) by segments.
fn by_segment<'a, T>(starts: &[usize], mut all: &'a mut [T], words: usize) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(starts.len());
    for pair in starts.windows(2) {
        let (own, rest) = all.split_at_mut((pair[1] - pair[0]) * words);
        parts.push(own);
        all = rest;
    }
    parts
}

/// B f as an image.
pub fn image<T: Lanes>(s: &System<T>, f: &[T], out: &mut [T]) {
    out.par_chunks_exact_mut(s.ny * SEG).enumerate().for_each(|(seg, block)| {
        block.fill(T::ZERO);
        sweep(s, Some(f), seg, block, |_, _| {}, None);
    });
}

/// Bᵀ z.
pub fn adjoint<T: Lanes>(s: &System<T>, z: &[T], wide: &mut [T], out: &mut [T]) {
    let parts = by_segment(&s.starts, wide, WIDE);
    parts.into_par_iter().enumerate().for_each_init(Vec::new, |block, (seg, wide)| {
        block.clear();
        block.extend_from_slice(&z[seg * s.ny * SEG..][..s.ny * SEG]);
        sweep(s, None, seg, block, |_, _| {}, Some(wide));
    });
    fold(s, wide, out);
}

/// BᵀW B f.
pub fn normal<T: Lanes>(s: &System<T>, weight: &[T], f: &[T], wide: &mut [T], out: &mut [T]) {
    let parts = by_segment(&s.starts, wide, WIDE);
    parts.into_par_iter().enumerate().for_each_init(
        || vec![T::ZERO; s.ny * SEG],
        |block, (seg, wide)| {
            block.fill(T::ZERO);
            let weight = &weight[seg * s.ny * SEG..][..s.ny * SEG];
            let finish = |y: usize, row: &mut [T]| {
                row.iter_mut().zip(&weight[y * SEG..]).for_each(|(v, w)| *v *= *w);
            };
            sweep(s, Some(f), seg, block, finish, Some(wide));
        },
    );
    fold(s, wide, out);
}

/// What entries have for one another's columns, together: first own, then from the left,
/// then from the right.
pub fn fold<T: Real>(s: &System<T>, wide: &[T], out: &mut [T]) {
    out.par_chunks_exact_mut(SEG).zip(&s.entries).enumerate().for_each(|(e, (out, entry))| {
        let own = &wide[e * WIDE..][..WIDE];
        out.copy_from_slice(&own[REACH..REACH + SEG]);
        if entry.left != NONE {
            let from = &wide[entry.left as usize * WIDE + REACH + SEG..][..REACH];
            out[..REACH].iter_mut().zip(from).for_each(|(o, v)| *o += *v);
        }
        if entry.right != NONE {
            let from = &wide[entry.right as usize * WIDE..][..REACH];
            out[SEG - REACH..].iter_mut().zip(from).for_each(|(o, v)| *o += *v);
        }
    });
}
