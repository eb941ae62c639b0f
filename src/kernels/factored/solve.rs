//! Weighted least squares by conjugate gradients, and the rounds of weights around it.

use rayon::prelude::*;

use super::sweep::{Lanes, adjoint, fold, image, normal};
use super::{NONE, REACH, SEG, System, TAPS, WIDE};
use crate::kernels::Real;

/// An unknown with less than this part of the median diagonal is not determined.
const LEAST: f64 = 1e-4;
/// Least freedom (1 − leverage) of a pixel.
const LEAST_FREE: f64 = 0.05;
/// Rounds of weights: two with the model's variances, more while pixels are rejected.
const ROUNDS: usize = 6;
/// Rounds of the conjugate gradients with the true residual computed anew.
const RESTARTS: usize = 3;

/// How to fit.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Variance per unit rate.
    pub factor: f64,
    /// Rejection, σ; 0 for none.
    pub threshold: f64,
    /// Relative error of the model that rejection allows for.
    pub model_error: f64,
    /// Iterations stop where no unknown's residual, in its σ, exceeds this.
    pub tolerance: f64,
    /// Most iterations of one solution.
    pub iterations: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { factor: 0.0, threshold: 6.0, model_error: 0.02, tolerance: 1e-3, iterations: 100 }
    }
}

/// A fit.
#[derive(Debug, Clone, Default)]
pub struct Fit<T> {
    /// The unknowns, (entries, SEG).
    pub flux: Vec<T>,
    /// Diagonal of N; 0 where an unknown is not determined.
    pub diagonal: Vec<T>,
    /// Weights, an image; 0 for unused pixels, −1 for rejected ones.
    pub weight: Vec<T>,
    /// The model, an image.
    pub model: Vec<T>,
    /// Σ residual²·weight.
    pub chi2: f64,
    /// Pixels used.
    pub used: u64,
    /// Unknowns solved for.
    pub solved: u64,
    /// Pixels rejected.
    pub rejected: u64,
    /// Applications of BᵀWB.
    pub iterations: usize,
    /// Largest residual of an unknown in its σ.
    pub residual: f64,
}

/// Diagonal of BᵀWB.
pub(super) fn diagonal<T: Lanes>(s: &System<T>, weight: &[T]) -> Vec<T> {
    let rank = s.rank();
    let mut wide = vec![T::ZERO; s.entries.len() * WIDE];
    wide.par_chunks_exact_mut(WIDE).zip(&s.entries).enumerate().for_each(|(e, (wide, entry))| {
        let (coefs, seg) = (s.coefs_of(e), entry.segment as usize);
        for r in 0..rank {
            for q in 0..=r {
                let mut c = [T::ZERO; SEG];
                for dy in 0..s.ky {
                    let y = i64::from(entry.anchor) + dy as i64;
                    if !(0..s.ny as i64).contains(&y) {
                        continue;
                    }
                    let w = &weight[(seg * s.ny + y as usize) * SEG..][..SEG];
                    let a = &coefs[(dy * rank + r) * SEG..][..SEG];
                    let b = &coefs[(dy * rank + q) * SEG..][..SEG];
                    for x in 0..SEG {
                        c[x] += a[x] * b[x] * w[x].larger(T::ZERO);
                    }
                }
                let times = if r == q { T::ONE } else { T::ONE + T::ONE };
                for j in 0..TAPS {
                    let h = times * s.taps[r][j] * s.taps[q][j];
                    for (to, c) in wide[j..j + SEG].iter_mut().zip(&c) {
                        *to += h * *c;
                    }
                }
            }
        }
    });
    let mut out = vec![T::ZERO; s.unknowns()];
    fold(s, &wide, &mut out);
    for (own, entry) in out.chunks_exact_mut(SEG).zip(&s.entries) {
        own[..usize::from(entry.live[0])].fill(T::ZERO);
        own[usize::from(entry.live[1])..].fill(T::ZERO);
    }
    // What no pixel tells is left out, and stays 0.
    let mut known: Vec<f64> = out.iter().map(|d| d.to_f64()).filter(|d| *d > 0.0).collect();
    if !known.is_empty() {
        let middle = known.len() / 2;
        let (_, median, _) = known.select_nth_unstable_by(middle, f64::total_cmp);
        let least = LEAST * *median;
        out.par_iter_mut().for_each(|d| {
            if !(d.to_f64() > least) {
                *d = T::ZERO;
            }
        });
    }
    out
}

/// Σ a·b, by entries, then in their order.
fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    let parts: Vec<f64> = a
        .par_chunks(SEG)
        .zip(b.par_chunks(SEG))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum())
        .collect();
    parts.iter().sum()
}

/// Solves BᵀWB f = BᵀW d from `f` on; iterations and the largest residual, in σ, that is
/// left. `weight` has no negative values.
pub fn solve<T: Lanes>(
    s: &System<T>,
    data: &[T],
    weight: &[T],
    diagonal: &[T],
    f: &mut [T],
    options: &Options,
) -> (usize, f64) {
    let n = s.unknowns();
    let inverse: Vec<T> =
        diagonal.par_iter().map(|d| if *d > T::ZERO { T::ONE / *d } else { T::ZERO }).collect();
    let root: Vec<T> = inverse.par_iter().map(|d| d.sqrt()).collect();
    let mut wide = vec![T::ZERO; s.entries.len() * WIDE];
    let mut r = vec![T::ZERO; n];
    let mut count = 0;
    let mut left = f64::INFINITY;
    for _ in 0..RESTARTS {
        // The true residual.
        let mut model = vec![T::ZERO; s.pixels()];
        image(s, f, &mut model);
        model.par_iter_mut().zip(data).zip(weight).for_each(|((m, d), w)| *m = *w * (*d - *m));
        adjoint(s, &model, &mut wide, &mut r);
        drop(model);
        r.par_iter_mut().zip(&inverse).for_each(|(r, i)| {
            if *i == T::ZERO {
                *r = T::ZERO;
            }
        });
        count += 1;
        left = worst(&r, &root);
        if left <= options.tolerance || count > options.iterations {
            break;
        }
        let (more, now) = descend(s, weight, (&inverse, &root), &mut r, f, options, count);
        (count, left) = (more, now);
    }
    (count, left)
}

/// The largest residual, in σ.
fn worst<T: Real>(r: &[T], root: &[T]) -> f64 {
    r.par_iter()
        .zip(root)
        .map(|(r, root)| (*r * *root).abs().to_f64())
        .fold(|| 0.0, f64::max)
        .reduce(|| 0.0, f64::max)
}

/// Conjugate gradients from the residual `r`, preconditioned by the diagonal: iterations
/// counted from `count`, and the largest residual that is left.
fn descend<T: Lanes>(
    s: &System<T>,
    weight: &[T],
    (inverse, root): (&[T], &[T]),
    r: &mut [T],
    f: &mut [T],
    options: &Options,
    mut count: usize,
) -> (usize, f64) {
    let of = |v: f64| T::of(v as f32);
    let mut wide = vec![T::ZERO; s.entries.len() * WIDE];
    let mut z = vec![T::ZERO; r.len()];
    let mut ap = vec![T::ZERO; r.len()];
    z.par_iter_mut().zip(&*r).zip(inverse).for_each(|((z, r), i)| *z = *r * *i);
    let mut p = z.clone();
    let mut rz = dot(r, &z);
    let mut left = f64::INFINITY;
    while count <= options.iterations {
        normal(s, weight, &p, &mut wide, &mut ap);
        count += 1;
        let pap = dot(&p, &ap);
        if !(pap > 0.0) {
            break;
        }
        let alpha = of(rz / pap);
        f.par_iter_mut().zip(&p).for_each(|(f, p)| *f += alpha * *p);
        r.par_iter_mut().zip(&ap).zip(inverse).for_each(|((r, a), i)| {
            *r = if *i == T::ZERO { T::ZERO } else { *r - alpha * *a };
        });
        left = worst(r, root);
        if left <= 0.5 * options.tolerance {
            break;
        }
        z.par_iter_mut().zip(&*r).zip(inverse).for_each(|((z, r), i)| *z = *r * *i);
        let next = dot(r, &z);
        let beta = of(next / rz);
        rz = next;
        p.par_iter_mut().zip(&z).for_each(|(p, z)| *p = *z + beta * *p);
    }
    (count, left)
}

/// Column `i` of N⁻¹, to a residual of 1e-9: the exact variances and covariances of one
/// unknown, for comparison.
pub fn column(s: &System<f64>, weight: &[f64], diagonal: &[f64], i: usize) -> Vec<f64> {
    let inverse: Vec<f64> = diagonal.iter().map(|d| if *d > 0.0 { 1.0 / d } else { 0.0 }).collect();
    let root: Vec<f64> = inverse.iter().map(|d| d.sqrt()).collect();
    let (mut r, mut x) = (vec![0.0; s.unknowns()], vec![0.0; s.unknowns()]);
    r[i] = 1.0;
    let options = Options { tolerance: 1e-9 * root[i], iterations: 400, ..Options::default() };
    descend(s, weight, (&inverse, &root), &mut r, &mut x, &options, 0);
    x
}

/// Fits `data` whose pixels have `variance` without the spectra's photon noise (0:
/// unusable); images of segments.
pub fn fit<T: Lanes>(s: &System<T>, data: &[T], variance: &[T], options: &Options) -> Fit<T> {
    let mut out = Fit {
        flux: vec![T::ZERO; s.unknowns()],
        model: vec![T::ZERO; s.pixels()],
        weight: vec![T::ZERO; s.pixels()],
        ..Fit::default()
    };
    let covered = covered(s);
    // The first weights know nothing of the signal.
    let mut last = false;
    for round in 0..ROUNDS {
        let factor = T::of(if round == 0 { 0.0 } else { options.factor as f32 });
        out.weight.par_iter_mut().zip(&out.model).zip(variance).zip(&covered).for_each(
            |(((w, m), v), covered)| {
                if *w >= T::ZERO {
                    let usable = *covered && *v > T::ZERO;
                    *w = if usable { T::ONE / (*v + factor * m.larger(T::ZERO)) } else { T::ZERO };
                }
            },
        );
        let used: Vec<T> = out.weight.par_iter().map(|w| w.larger(T::ZERO)).collect();
        out.diagonal = diagonal(s, &used);
        let tolerance = match (round, last) {
            (0, _) => 0.3,
            (_, false) => 0.05,
            _ => options.tolerance,
        };
        let step = Options { tolerance: f64::max(tolerance, options.tolerance), ..*options };
        let (n, left) = solve(s, data, &used, &out.diagonal, &mut out.flux, &step);
        out.iterations += n;
        out.residual = left;
        image(s, &out.flux, &mut out.model);
        if last {
            break;
        }
        let changed = if options.threshold > 0.0 {
            readmit(data, variance, options, &mut out) + reject(s, data, options, &mut out)
        } else {
            0
        };
        last = round + 2 == ROUNDS || (round > 0 && changed == 0);
    }
    out.rejected = out.weight.par_iter().filter(|w| **w < T::ZERO).count() as u64;
    let sums: Vec<(f64, u64)> = out
        .weight
        .par_chunks(SEG * s.ny)
        .zip(out.model.par_chunks(SEG * s.ny))
        .zip(data.par_chunks(SEG * s.ny))
        .map(|((w, m), d)| {
            let mut sum = (0.0, 0);
            for ((w, m), d) in w.iter().zip(m).zip(d) {
                if *w > T::ZERO {
                    sum.0 += ((*d - *m) * (*d - *m) * *w).to_f64();
                    sum.1 += 1;
                }
            }
            sum
        })
        .collect();
    out.chi2 = sums.iter().map(|s| s.0).sum();
    out.used = sums.iter().map(|s| s.1).sum();
    out.solved = out.diagonal.iter().filter(|d| **d > T::ZERO).count() as u64;
    out
}

/// Whether a spectrum reaches a pixel.
fn covered<T: Real>(s: &System<T>) -> Vec<bool> {
    let mut out = vec![false; s.pixels()];
    out.par_chunks_exact_mut(s.ny * SEG).enumerate().for_each(|(seg, block)| {
        for e in s.starts[seg]..s.starts[seg + 1] {
            let anchor = i64::from(s.entries[e].anchor);
            let coefs = s.coefs_of(e);
            for dy in 0..s.ky {
                let y = anchor + dy as i64;
                if !(0..s.ny as i64).contains(&y) {
                    continue;
                }
                let row = &mut block[y as usize * SEG..][..SEG];
                for (x, c) in row.iter_mut().enumerate() {
                    *c |= coefs[dy * s.rank() * SEG + x] != T::ZERO;
                }
            }
        }
    });
    out
}

/// Takes back pixels that agree with a fit without them: a strong hit bends the first
/// fits around it. How many.
fn readmit<T: Real>(data: &[T], variance: &[T], options: &Options, fit: &mut Fit<T>) -> u64 {
    let (factor, error) = (options.factor, options.model_error);
    fit.weight
        .par_iter_mut()
        .zip(&fit.model)
        .zip(data)
        .zip(variance)
        .map(|(((w, m), d), v)| {
            if *w >= T::ZERO {
                return 0;
            }
            let (d, m) = (d.to_f64(), m.to_f64());
            let expected = v.to_f64() + factor * m.max(0.0) + (error * m).powi(2);
            let back = (d - m).powi(2) < options.threshold.powi(2) * expected;
            if back {
                // The next round gives it a weight.
                *w = T::ZERO;
            }
            u64::from(back)
        })
        .sum()
}

/// Rejects pixels further than the threshold from the model; of several within two
/// pixels of one another the one without which χ² falls most. How many.
fn reject<T: Real>(s: &System<T>, data: &[T], options: &Options, fit: &mut Fit<T>) -> u64 {
    let size = s.ny * SEG;
    let far: Vec<Vec<(usize, f64)>> = (0..s.segments())
        .into_par_iter()
        .map(|seg| {
            let mut found = Vec::new();
            for i in 0..size {
                let at = seg * size + i;
                let w = fit.weight[at].to_f64();
                if !(w > 0.0) {
                    continue;
                }
                let (d, m) = (data[at].to_f64(), fit.model[at].to_f64());
                let variance = 1.0 / w + (options.model_error * m).powi(2);
                // Leverage only makes it farther: most pixels are done with here.
                let z2 = (d - m).powi(2) / variance;
                if z2 < LEAST_FREE * options.threshold.powi(2) {
                    continue;
                }
                let free = (1.0 - leverage(s, fit, seg, i / SEG, i % SEG, w)).max(LEAST_FREE);
                if z2 / free > options.threshold.powi(2) {
                    // What χ² falls by without the pixel. The model's error has no part in
                    // it: the hit has bent the model, and most of all where it is.
                    found.push((i, (d - m).powi(2) * w / free));
                }
            }
            found
        })
        .collect();
    let mut count = 0;
    for (seg, found) in far.iter().enumerate() {
        for (i, fall) in found {
            let (y, x) = (i / SEG, i % SEG);
            // In order of rows: those within two of this one stand together.
            let from = found.partition_point(|(k, _)| k / SEG + 2 < y);
            let near = found[from..].iter().take_while(|(k, _)| k / SEG <= y + 2);
            let worse =
                near.filter(|(k, _)| (k % SEG).abs_diff(x) <= 2).any(|(k, other)| (*other, *k) > (*fall, *i));
            if !worse {
                fit.weight[seg * size + i] = -T::ONE;
                count += 1;
            }
        }
    }
    count
}

/// The part of a pixel's variance that its own data make up in the model, without the
/// correlations of unknowns.
fn leverage<T: Real>(s: &System<T>, fit: &Fit<T>, seg: usize, y: usize, x: usize, w: f64) -> f64 {
    let mut sum = 0.0;
    for e in s.starts[seg]..s.starts[seg + 1] {
        let dy = y as i64 - i64::from(s.entries[e].anchor);
        if dy < 0 {
            break;
        }
        if dy >= s.ky as i64 {
            continue;
        }
        for j in 0..TAPS {
            let Some(d) = unknown(s, e, x + j).map(|i| fit.diagonal[i].to_f64()) else { continue };
            if d > 0.0 {
                sum += w * s.value(e, x, dy as usize, j).to_f64().powi(2) / d;
            }
        }
    }
    sum
}

/// Index of the unknown at place `at` of an entry's [`WIDE`] columns.
pub(super) fn unknown<T>(s: &System<T>, e: usize, at: usize) -> Option<usize> {
    let entry = &s.entries[e];
    let (from, x) = if at < REACH {
        (entry.left, at + SEG - REACH)
    } else if at < REACH + SEG {
        (e as u32, at - REACH)
    } else {
        (entry.right, at - REACH - SEG)
    };
    (from != NONE).then(|| from as usize * SEG + x)
}
