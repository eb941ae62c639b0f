//! The kernels that take spectra on their line-spread function to the detector
//! ([`crate::kernels::factored`]), solved when the calibration is loaded.
//!
//! A pixel at distance η from a trace sees the light of column u as P(x − u, η), and
//! Σ_j k_j(η) G(x + j − u) stands for it: the k are the least-squares solution over all
//! u, sampled as finely as the PSFlets. The matrix depends on G's width alone, so the
//! k of every eigen-PSFlet are solved on a grid of widths, and a spectrum's are sums of
//! them. The images Σ_j k_j G of all are nearly in one space of few dimensions; its
//! vectors are those of the taps h_r. (Counted by the k themselves more would be needed:
//! what alternates from column to column is large in k and nothing in an image.)

use rayon::prelude::*;

use super::psf::{FINE, HALF, NODES, PsfModel, eigen, weights};
use crate::kernels::factored::{MAX_RANK, REACH, TAPS};
use crate::simd::widest;

/// Widths of the grid are this far apart at most, columns.
const WIDTH_STEP: f64 = 0.02;
/// What the taps leave out of the kernels' images, relative.
const TRUNCATED: f64 = 5e-4;
/// Regularisation of the kernels, relative to the diagonal.
const DAMPING: f64 = 1e-6;
/// Terms of a profile's node, in lanes; unused ones are 0.
pub(super) const LANES: usize = MAX_RANK;
/// Nodes before the first: those in which profiles end, and what interpolation reaches of
/// the zeros beyond.
const BEFORE: usize = 5;
const PADDED: usize = NODES + 2 * BEFORE;
/// Rows from the trace to where profiles are 0.
pub(super) const END: f64 = HALF as f64 + 2.0 / FINE as f64;
/// A profile's nodes along rows.
pub(super) type Profile = Vec<[f32; LANES]>;

/// Kernels of one eigen-PSFlet and one width, projected on the taps.
pub(super) struct Tables {
    pub(super) taps: Vec<[f64; TAPS]>,
    widths: Vec<f64>,
    /// (eigen-PSFlets, widths, NODES).
    values: Vec<[f32; LANES]>,
}

/// The line-spread function of width `sigma` at column j from a line at sample s.
fn bell(sigma: f64, j: usize, s: i64) -> f64 {
    let d = (j as f64 - REACH as f64 - s as f64 / FINE as f64) / sigma;
    (-0.5 * d * d).exp() / (sigma * std::f64::consts::TAU.sqrt())
}

/// Products of a line's values at the columns, over all its places: (TAPS, TAPS). Two
/// kernels' difference measured with it is their images' difference.
fn products(sigma: f64) -> Vec<f64> {
    let reach = REACH as f64 + 5.0 * sigma;
    let half = (reach * FINE as f64).ceil() as i64;
    let g = |j: usize, s: i64| bell(sigma, j, s);
    let mut normal = vec![0.0; TAPS * TAPS];
    for s in -half..=half {
        for i in 0..TAPS {
            for j in 0..TAPS {
                normal[i * TAPS + j] += g(i, s) * g(j, s);
            }
        }
    }
    (0..TAPS).for_each(|i| normal[i * TAPS + i] *= 1.0 + DAMPING);
    normal
}

/// The kernels k_j(η) of a PSFlet for a line-spread function of width `sigma`: (NODES, TAPS).
fn kernels(sigma: f64) -> impl Fn(&[f64]) -> Vec<f64> {
    let normal = products(sigma);
    let (values, vectors) = eigen(&normal, TAPS);
    // M = N⁻¹ Gᵀ on the PSFlets' own samples, s = −dx.
    let mut m = vec![0.0; TAPS * NODES];
    for i in 0..TAPS {
        for j in 0..TAPS {
            let inverse: f64 =
                (0..TAPS).map(|k| vectors[i * TAPS + k] * vectors[j * TAPS + k] / values[k]).sum();
            for x in 0..NODES {
                m[i * NODES + x] += inverse * bell(sigma, j, (NODES / 2) as i64 - x as i64);
            }
        }
    }
    move |psflet: &[f64]| {
        let mut out = vec![0.0; NODES * TAPS];
        for (row, out) in psflet.chunks_exact(NODES).zip(out.chunks_exact_mut(TAPS)) {
            for (o, m) in out.iter_mut().zip(m.chunks_exact(NODES)) {
                *o = m.iter().zip(row).map(|(m, p)| m * p).sum();
            }
        }
        out
    }
}

/// √N and its inverse.
fn roots(normal: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (values, vectors) = eigen(normal, TAPS);
    let with = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let of = |n: usize| -> f64 {
            let (i, j) = (n / TAPS, n % TAPS);
            (0..TAPS).map(|k| vectors[i * TAPS + k] * f(values[k]) * vectors[j * TAPS + k]).sum()
        };
        (0..TAPS * TAPS).map(of).collect()
    };
    (with(&f64::sqrt), with(&|v| 1.0 / v.sqrt()))
}

fn times(matrix: &[f64], v: &[f64]) -> [f64; TAPS] {
    std::array::from_fn(|i| matrix[i * TAPS..][..TAPS].iter().zip(v).map(|(m, v)| m * v).sum())
}

impl Tables {
    pub(super) fn new(psf: &PsfModel) -> Tables {
        let (low, high) = psf
            .lsf
            .iter()
            .fold((f64::MAX, f64::MIN), |r, s| (r.0.min(f64::from(*s)), r.1.max(f64::from(*s))));
        let n = ((high - low) / WIDTH_STEP).ceil() as usize + 1;
        let widths: Vec<f64> = (0..n)
            .map(|i| if n > 1 { low + (high - low) * i as f64 / (n - 1) as f64 } else { low })
            .collect();
        let nb = psf.basis.len();
        let whole: Vec<Vec<Vec<f64>>> = widths
            .par_iter()
            .map(|w| {
                let of = kernels(*w);
                psf.basis.iter().map(|e| of(e)).collect()
            })
            .collect();
        // Mean square of each coefficient.
        let mut size = vec![0.0; nb];
        for c in psf.coefs.chunks_exact(nb) {
            size.iter_mut().zip(c).for_each(|(s, c)| *s += f64::from(*c).powi(2));
        }
        // Kernels as their images see them: √N k.
        let (to_image, from_image) = roots(&products(f64::midpoint(low, high)));
        let mut spread = vec![0.0; TAPS * TAPS];
        for of_width in &whole {
            for (k, size) in of_width.iter().zip(&size) {
                for row in k.chunks_exact(TAPS) {
                    let row = times(&to_image, row);
                    for i in 0..TAPS {
                        for j in 0..TAPS {
                            spread[i * TAPS + j] += size * row[i] * row[j];
                        }
                    }
                }
            }
        }
        let (values, vectors) = eigen(&spread, TAPS);
        let total: f64 = values.iter().map(|v| v.max(0.0)).sum();
        let mut rest = total;
        let (mut taps, mut shares) = (Vec::new(), Vec::new());
        for k in 0..MAX_RANK {
            if rest <= TRUNCATED * TRUNCATED * total {
                break;
            }
            rest -= values[k];
            let mut v = [0.0; TAPS];
            (0..TAPS).for_each(|j| v[j] = vectors[j * TAPS + k]);
            taps.push(times(&from_image, &v));
            shares.push(times(&to_image, &v));
        }
        let mut out = Vec::with_capacity(nb * n * NODES);
        for k in 0..nb {
            for of_width in &whole {
                for row in of_width[k].chunks_exact(TAPS) {
                    let mut node = [0.0; LANES];
                    for (v, h) in node.iter_mut().zip(&shares) {
                        *v = h.iter().zip(row).map(|(h, v)| h * v).sum::<f64>() as f32;
                    }
                    out.push(node);
                }
            }
        }
        Tables { taps, widths, values: out }
    }

    /// Profiles of lenslet number `l` at knot `k`.
    pub(super) fn profiles(&self, psf: &PsfModel, l: usize, k: usize) -> Profile {
        let (nb, nw) = (psf.basis.len(), self.widths.len());
        let width = f64::from(psf.lsf[l * psf.knots + k]);
        let (g, t) = if nw > 1 {
            let at = (width - self.widths[0]) / (self.widths[nw - 1] - self.widths[0]) * (nw - 1) as f64;
            let g = (at.max(0.0) as usize).min(nw - 2);
            (g, at - g as f64)
        } else {
            (0, 0.0)
        };
        let mut out = vec![[0.0; LANES]; PADDED];
        for b in 0..nb {
            let c = psf.coefs[(l * psf.knots + k) * nb + b];
            for (g, share) in [(g, 1.0 - t), (g + 1, t)] {
                if share != 0.0 && g < nw {
                    let table = &self.values[(b * nw + g) * NODES..][..NODES];
                    add_times(&mut out[BEFORE..], table, c * share as f32);
                }
            }
        }
        // At one node more half of the last: smooth at its ends, so that a few columns tell
        // those between.
        for (end, beyond) in [(BEFORE, BEFORE - 1), (BEFORE + NODES - 1, BEFORE + NODES)] {
            out[beyond] = out[end].map(|v| 0.5 * v);
        }
        out
    }
}

/// out += factor·table.
#[inline(always)]
fn added(out: &mut [[f32; LANES]], table: &[[f32; LANES]], factor: f32) {
    for (o, v) in out.iter_mut().zip(table) {
        for k in 0..LANES {
            o[k] += factor * v[k];
        }
    }
}

/// The values at `out.len()` rows, a pixel from one to the next, of the profile a + t(b − a):
/// Σ_n w_n of six nodes, the first row's from `first` on.
#[inline(always)]
fn between_knots(
    a: &[[f32; LANES]],
    b: &[[f32; LANES]],
    t: f32,
    first: usize,
    w: &[f32; 6],
    out: &mut [[f32; LANES]],
) {
    for (dy, o) in out.iter_mut().enumerate() {
        let from = first + dy * FINE;
        let (mut below, mut above) = ([0f32; LANES], [0f32; LANES]);
        for ((a, b), w) in a[from..from + 6].iter().zip(&b[from..from + 6]).zip(w) {
            for k in 0..LANES {
                below[k] += w * a[k];
                above[k] += w * b[k];
            }
        }
        for k in 0..LANES {
            o[k] = below[k] + t * (above[k] - below[k]);
        }
    }
}

widest! {
    fn add_times(out: &mut [[f32; LANES]], table: &[[f32; LANES]], factor: f32) = added
}
widest! {
    fn interpolate(
        a: &[[f32; LANES]],
        b: &[[f32; LANES]],
        t: f32,
        first: usize,
        w: &[f32; 6],
        out: &mut [[f32; LANES]],
    ) = between_knots
}

/// The values of the profile a + t(b − a) at the rows from `eta` (counted from the trace) on;
/// 0 beyond its reach.
pub(super) fn rows(a: &[[f32; LANES]], b: &[[f32; LANES]], t: f64, eta: f64, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    let first = (-END - eta).ceil().max(0.0) as usize;
    let end = ((END - eta).floor() + 1.0).clamp(first as f64, out.len().max(first) as f64) as usize;
    if first >= out.len() {
        return;
    }
    let (node, w) = weights((eta + first as f64 + HALF as f64) * FINE as f64);
    let node = (node + BEFORE as i64) as usize;
    interpolate(a, b, t as f32, node, &w.map(|w| w as f32), &mut out[first..end]);
}
