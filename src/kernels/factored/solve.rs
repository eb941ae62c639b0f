//! Weighted least squares by conjugate gradients, and the rounds of weights around it.

use rayon::prelude::*;

use super::machine::{Left, Machine, Plain};
use super::operators::{Lanes, leverages};
use super::{REACH, SEG, System};
use crate::error::Result;
use crate::kernels::Real;

/// An unknown of whose light the used pixels see less than this part is not solved for.
const LEAST: f64 = 1e-4;
/// Below this part an unknown has a prior: 0, with a weight of up to its pixels' own. A
/// spectrum of which wings alone are seen (it runs off the detector, or along bad pixels) is
/// seen there through a far broader function than its own; no column is known by itself, and
/// iterations for it would not end.
const HARDLY: f32 = 0.3;
/// The same of an unknown [`REACH`] columns beyond what is wanted of its spectrum, a part of
/// its pixels' weight: there is hardly light, and where another spectrum begins in the row in
/// which this one ends, the two cannot be told apart.
const BEYOND: f32 = 0.3;
/// Least freedom (1 − leverage) of a pixel.
const LEAST_FREE: f64 = 0.05;
/// Rounds of weights: two with the model's variances, more while pixels are rejected.
const ROUNDS: usize = 6;
/// Rounds of the last solution's conjugate gradients with the true residual computed anew.
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
    /// Iterations stop where no residual of an unknown that is seen, in its σ, exceeds this.
    pub tolerance: f64,
    /// Most iterations of one solution.
    pub iterations: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { factor: 0.0, threshold: 6.0, model_error: 0.02, tolerance: 2e-3, iterations: 100 }
    }
}

/// A fit.
#[derive(Debug, Clone, Default)]
pub struct Fit<T> {
    /// The unknowns, (entries, SEG).
    pub flux: Vec<T>,
    /// Diagonal of BᵀWB; 0 where an unknown is not determined.
    pub diagonal: Vec<T>,
    /// What the prior adds to it.
    pub prior: Vec<T>,
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
    /// Applications of N.
    pub iterations: usize,
    /// Largest residual of an unknown in its σ.
    pub residual: f64,
}

/// Solves N f = BᵀW d from the machine's f on; iterations and the largest residual, in
/// σ, that is left. The true residual is computed anew up to `restarts` times.
pub fn solve<T>(m: &mut dyn Machine<T>, options: &Options, restarts: usize) -> Result<(usize, f64)> {
    let mut count = 0;
    let mut left = Left::default();
    for _ in 0..restarts {
        left = m.residual()?;
        count += 1;
        if left.worst <= options.tolerance || count > options.iterations {
            break;
        }
        (count, left) = descend(m, left, options, count)?;
    }
    Ok((count, left.worst))
}

/// Conjugate gradients from the machine's residual, preconditioned:
/// iterations counted from `count`, and what is left.
fn descend<T>(
    m: &mut dyn Machine<T>,
    mut left: Left,
    options: &Options,
    mut count: usize,
) -> Result<(usize, Left)> {
    while count <= options.iterations {
        let curvature = m.apply()?;
        count += 1;
        if !(curvature > 0.0) {
            break;
        }
        let next = m.descend(left.square / curvature)?;
        let beta = next.square / left.square;
        left = next;
        if left.worst <= 0.5 * options.tolerance {
            break;
        }
        m.turn(beta)?;
    }
    Ok((count, left))
}

/// Column `i` of N⁻¹, to a residual of 1e-9: the exact variances and covariances of one
/// unknown, for comparison.
pub fn column(s: &System, weight: &[f64], diagonal: &[f64], i: usize) -> Result<Vec<f64>> {
    let mut m = Plain::new(s);
    m.set_weight(weight)?;
    let scale: Vec<f64> = diagonal.iter().map(|d| if *d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
    m.set_scale(&scale, &vec![0.0; diagonal.len()])?;
    m.r[i] = 1.0;
    m.turn(0.0)?;
    let start = m.left();
    let options = Options { tolerance: 1e-9 * scale[i], iterations: 400, ..Options::default() };
    descend(&mut m, start, &options, 0)?;
    m.flux()
}

/// The parts of the unknowns' light that the used pixels see, squares of B counting,
/// relative to the median.
fn seen<T: Lanes>(m: &mut dyn Machine<T>, s: &System, usable: &[T]) -> Result<Vec<f32>> {
    let mut out: Vec<f32> = m.set_weight(usable)?.iter().map(|v| v.to_f32()).collect();
    for (own, entry) in out.chunks_exact_mut(SEG).zip(&s.entries) {
        own[..usize::from(entry.live[0])].fill(0.0);
        own[usize::from(entry.live[1])..].fill(0.0);
    }
    let mut known: Vec<f32> = out.iter().copied().filter(|d| *d > 0.0).collect();
    if !known.is_empty() {
        let middle = known.len() / 2;
        let median = *known.select_nth_unstable_by(middle, f32::total_cmp).1;
        out.par_iter_mut().for_each(|v| *v /= median);
    }
    Ok(out)
}

/// The priors' weights over those of the unknowns' pixels.
fn priors(s: &System, seen: &[f32]) -> Vec<f32> {
    let mut out: Vec<f32> = seen.iter().map(|seen| (1.0 - seen / HARDLY).max(0.0)).collect();
    for (own, entry) in out.chunks_exact_mut(SEG).zip(&s.entries) {
        let [from, to] = entry.wanted.map(i32::from);
        for (x, prior) in (0..).zip(own) {
            let far = (from - x).max(x - to + 1).max(0) as f32 / REACH as f32;
            *prior = prior.max(BEYOND * (far * far).min(1.0));
        }
    }
    out
}

/// Fits `data` whose pixels have `variance` without the spectra's photon noise (0:
/// unusable); images of segments.
pub fn fit<T: Lanes>(
    m: &mut dyn Machine<T>,
    s: &System,
    data: &[T],
    variance: &[T],
    options: &Options,
) -> Result<Fit<T>> {
    let covered = covered(s);
    let usable: Vec<T> = variance
        .iter()
        .zip(&covered)
        .map(|(v, c)| if *c && *v > T::ZERO { T::ONE } else { T::ZERO })
        .collect();
    drop(covered);
    let seen = seen(m, s, &usable)?;
    let weak = priors(s, &seen);
    let mut out = Fit { model: vec![T::ZERO; s.pixels()], weight: usable, ..Fit::default() };
    m.set_data(data)?;
    m.set_flux(&vec![T::ZERO; s.unknowns()])?;
    let mut last = false;
    for round in 0..ROUNDS {
        // The first weights know nothing of the signal.
        let factor = T::of(if round == 0 { 0.0 } else { options.factor as f32 });
        out.weight.par_iter_mut().zip(&out.model).zip(variance).for_each(|((w, m), v)| {
            if *w > T::ZERO {
                *w = T::ONE / (*v + factor * m.larger(T::ZERO));
            }
        });
        let used: Vec<T> = out.weight.par_iter().map(|w| w.larger(T::ZERO)).collect();
        out.diagonal = m.set_weight(&used)?;
        drop(used);
        out.diagonal.par_iter_mut().zip(&seen).for_each(|(d, seen)| {
            if f64::from(*seen) < LEAST {
                *d = T::ZERO;
            }
        });
        out.prior = out.diagonal.par_iter().zip(&weak).map(|(d, w)| *d * T::of(*w)).collect();
        let of = |(d, p): (&T, &T)| if *d > T::ZERO { T::ONE / (*d + *p).sqrt() } else { T::ZERO };
        let scale: Vec<T> = out.diagonal.par_iter().zip(&out.prior).map(of).collect();
        m.set_scale(&scale, &out.prior)?;
        let tolerance = match (round, last) {
            (0, _) => 1.0,
            (_, false) => 0.25,
            _ => options.tolerance,
        };
        let step = Options { tolerance: f64::max(tolerance, options.tolerance), ..*options };
        let (n, left) = solve(m, &step, if last { RESTARTS } else { 1 })?;
        out.iterations += n;
        out.residual = left;
        out.model = m.model()?;
        if last {
            break;
        }
        let mut changed = 0;
        if options.threshold > 0.0 {
            // Once: what comes back and is far off again stays away.
            let back = if round == 1 { agreeing(data, variance, options, &out) } else { Vec::new() };
            changed = back.len() as u64 + reject(s, data, options, &mut out);
            // The next round gives them their weight.
            back.into_iter().for_each(|i| out.weight[i] = T::ONE);
        }
        last = round + 2 == ROUNDS || (round > 0 && changed == 0);
    }
    out.flux = m.flux()?;
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
    Ok(out)
}

/// Whether a spectrum reaches a pixel.
fn covered(s: &System) -> Vec<bool> {
    let mut out = vec![false; s.pixels()];
    out.par_chunks_exact_mut(s.ny * SEG).enumerate().for_each(|(seg, block)| {
        for e in s.of_segment(seg) {
            let (anchor, columns) = (i64::from(s.entries[e].anchor), s.lit(e));
            let rows = anchor.clamp(0, s.ny as i64)..(anchor + s.ky as i64).clamp(0, s.ny as i64);
            rows.for_each(|y| block[y as usize * SEG..][columns.clone()].fill(true));
        }
    });
    out
}

/// Rejected pixels that agree with a fit without them: a strong hit bends the first fits
/// around it.
fn agreeing<T: Real>(data: &[T], variance: &[T], options: &Options, fit: &Fit<T>) -> Vec<usize> {
    let (factor, error) = (options.factor, options.model_error);
    let rejected = (0..data.len()).into_par_iter().filter(|i| fit.weight[*i] < T::ZERO);
    let agrees = |i: &usize| {
        let (d, m) = (data[*i].to_f64(), fit.model[*i].to_f64());
        let expected = variance[*i].to_f64() + factor * m.max(0.0) + (error * m).powi(2);
        (d - m).powi(2) < options.threshold.powi(2) * expected
    };
    rejected.filter(agrees).collect()
}

/// Rejects pixels further than the threshold from the model; of several within two
/// pixels of one another the one without which χ² falls most. How many.
fn reject<T: Lanes>(s: &System, data: &[T], options: &Options, fit: &mut Fit<T>) -> u64 {
    let size = s.ny * SEG;
    let inverse: Vec<T> =
        fit.diagonal.par_iter().map(|d| if *d > T::ZERO { T::ONE / *d } else { T::ZERO }).collect();
    let mut leverage = vec![T::ZERO; s.pixels()];
    leverages(s, &inverse, &mut leverage);
    let limit = options.threshold.powi(2);
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
                let square = (d - m).powi(2);
                let free = (1.0 - w * leverage[at].to_f64()).max(LEAST_FREE);
                if square > limit * free * (1.0 / w + (options.model_error * m).powi(2)) {
                    // What χ² falls by without the pixel. The model's error has no part in
                    // it: the hit has bent the model, and most of all where it is.
                    found.push((i, square * w / free));
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
