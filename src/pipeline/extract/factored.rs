//! Extraction on the two-dimensional model ([`crate::kernels::factored`]).

use rayon::prelude::*;

use super::Spectra;
use super::flexure::{self, Flexure};
use super::solver::OnEngine;
use crate::config::Extract;
use crate::datamodel::{Rate, dq};
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::factored::{
    Fit, HALF_COLUMNS, HALF_SPECTRA, NONE, Options, REACH, SEG, System, fit, local,
};
use crate::pipeline::lenspx::noise::{Noise, Pixel};
use crate::pipeline::lenspx::{LensCal, psf::PsfModel, system};

/// Columns from one exact variance to the next.
pub const DECIMATED: usize = 32;
/// The covariances that are kept: (spectra above, columns on).
pub const LAGS: [(usize, i32); 11] =
    [(0, 1), (0, 2), (0, 3), (1, -3), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)];

/// A frame's segments: rates, variances without the spectra's photons, and the part of
/// them that frames share.
pub struct Planes {
    /// Rates.
    pub data: Vec<f32>,
    /// Variances; 0 for unusable pixels.
    pub variance: Vec<f32>,
    /// Shared part.
    pub common: Vec<f32>,
}

/// A frame in the layout of `system`.
pub fn planes(system: &System, rate: &Rate, noise: &Noise) -> Planes {
    let mut pixels = vec![Pixel { rate: 0.0, variance: 0.0, common: 0.0 }; system.pixels()];
    system.each_pixel(&mut pixels, |p, i| *p = noise.pixel(rate, i));
    let of = |part: fn(&Pixel) -> f32| pixels.par_iter().map(part).collect();
    Planes { data: of(|p| p.rate), variance: of(|p| p.variance), common: of(|p| p.common) }
}

/// The spectra of a frame, with correlations ((lenslets, nx / [`DECIMATED`] + 1) for each
/// of [`LAGS`]).
pub fn extract(
    engine: &mut dyn Engine,
    rate: &Rate,
    cal: &LensCal,
    psf: &PsfModel,
    params: &Extract,
) -> Result<Spectra> {
    if !params.flexure {
        return extract_with(
            engine,
            &system::system(cal, psf, &|_, _| 0.0, &system::all(cal))?,
            rate,
            cal,
            params,
        );
    }
    let flexure = flexure::measure(engine, rate, cal, psf, params)?;
    let system = Flexure::system(&flexure.value, cal, psf, &system::all(cal))?;
    let mut out = extract_with(engine, &system, rate, cal, params)?;
    out.flexure = Some(flexure);
    Ok(out)
}

/// [`extract`] with a system that there is already.
pub fn extract_with(
    engine: &mut dyn Engine,
    system: &System,
    rate: &Rate,
    cal: &LensCal,
    params: &Extract,
) -> Result<Spectra> {
    let noise = Noise::of(rate)?;
    let planes = planes(system, rate, &noise);
    let options =
        Options { factor: noise.factor, threshold: params.rejection_threshold, ..Options::default() };
    extract_planes(engine, system, &planes, (rate, cal), &options)
}

/// [`extract_with`] of planes that there are already: those of `rate`, perhaps without
/// some of its pixels.
pub fn extract_planes(
    engine: &mut dyn Engine,
    system: &System,
    planes: &Planes,
    (rate, cal): (&Rate, &LensCal),
    options: &Options,
) -> Result<Spectra> {
    let mut solver = OnEngine::new(engine, system)?;
    let fit = fit(&mut solver, system, &planes.data, &planes.variance, options)?;
    drop(solver);
    Ok(spectra(system, rate, cal, planes, &fit))
}

/// What a fit says, in the planes of [`Spectra`].
pub fn spectra(system: &System, rate: &Rate, cal: &LensCal, planes: &Planes, fit: &Fit<f32>) -> Spectra {
    let (nx, nl) = (rate.nx, cal.lenslets.len());
    let n = nl * nx;
    let mut out = Spectra {
        nx,
        flux: vec![f32::NAN; n],
        variance: vec![f32::NAN; n],
        covariance: vec![0.0; n],
        common: vec![f32::NAN; n],
        chi2: vec![f32::NAN; n],
        dq: vec![dq::DO_NOT_USE | dq::NON_SCIENCE; n],
        reduced_chi2: fit.chi2 / (fit.used as f64 - fit.solved as f64).max(1.0),
        rejected: fit.rejected,
        iterations: fit.iterations,
        ..Spectra::default()
    };
    let of_pixel = |((d, m), w): ((&f32, &f32), &f32)| if *w == 0.0 { f32::NAN } else { d - m };
    let blocks: Vec<f32> = planes.data.par_iter().zip(&fit.model).zip(&fit.weight).map(of_pixel).collect();
    out.residual = system.to_rows(&blocks, f32::NAN);
    drop(blocks);
    let exact = exact(system, fit);
    let flags = system.to_segments(&rate.dq, dq::DO_NOT_USE);
    let rows: Vec<(usize, usize, [Sample; SEG])> = system
        .entries
        .par_iter()
        .enumerate()
        .map(|(e, entry)| {
            let around = around(system, planes, fit, &flags, e);
            let mut samples = [Sample::default(); SEG];
            for (x, s) in samples.iter_mut().enumerate() {
                *s = around.sample(system, fit, &exact, e, x);
            }
            (entry.spectrum as usize, system.columns[entry.segment as usize] as usize, samples)
        })
        .collect();
    let coarse = nx.div_ceil(DECIMATED) + 1;
    out.correlation = vec![vec![0.0; nl * coarse]; LAGS.len()];
    for (l, x0, samples) in rows {
        let lens = &cal.lenslets[l];
        for (x, s) in (x0..).zip(samples) {
            if x >= nx || !(lens.xmin..=lens.xmax).contains(&x) {
                continue;
            }
            let i = l * nx + x;
            out.dq[i] = s.dq;
            if s.dq & dq::DO_NOT_USE == 0 {
                out.flux[i] = s.flux;
                out.variance[i] = s.variance;
                out.covariance[i] = s.covariance;
                out.common[i] = s.common;
                out.chi2[i] = s.chi2;
            }
        }
    }
    for (e, entry) in system.entries.iter().enumerate() {
        for k in 0..SEG / DECIMATED {
            let x0 = system.columns[entry.segment as usize] as usize;
            let at = entry.spectrum as usize * coarse + x0 / DECIMATED + k;
            if let Some(known) = exact.grid[e * PER + k] {
                for (plane, c) in out.correlation.iter_mut().zip(known.lags) {
                    if let Some(v) = plane.get_mut(at) {
                        *v = c;
                    }
                }
            }
        }
    }
    out
}

/// Exact values an entry.
const PER: usize = SEG / DECIMATED;

/// What the local inverse says at a column.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Variance times diagonal of N.
    ratio: f32,
    /// Correlations at [`LAGS`].
    lags: [f32; LAGS.len()],
}

/// Local inverses on the decimated grid, and where the diagonal breaks.
struct Exact {
    grid: Vec<Option<Known>>,
}

/// The local inverse at the first column of every [`DECIMATED`] that is determined.
fn exact(system: &System, fit: &Fit<f32>) -> Exact {
    let grid = (0..system.entries.len() * PER)
        .into_par_iter()
        .map(|i| {
            let (e, from) = (i / PER, i % PER * DECIMATED);
            // The middle of the stretch stands for it.
            let near = |k: usize| from + DECIMATED / 2 + k;
            [near(0), near(3), from + DECIMATED / 8, near(5)]
                .into_iter()
                .find_map(|x| known(system, fit, e, x))
        })
        .collect();
    Exact { grid }
}

fn known(system: &System, fit: &Fit<f32>, e: usize, x: usize) -> Option<Known> {
    let own = local(system, &fit.weight, &fit.diagonal, e, x)?;
    let d = f64::from(fit.diagonal[e * SEG + x]);
    let seg = system.entries[e].segment as usize;
    let mut lags = [0.0; LAGS.len()];
    for (to, (up, on)) in lags.iter_mut().zip(LAGS) {
        let covariance = own.covariance[HALF_SPECTRA + up][(HALF_COLUMNS as i32 + on) as usize];
        // The neighbour's own variance is taken to be of the same ratio.
        let other = e + up;
        let column = (x as i32 + on).clamp(0, SEG as i32 - 1) as usize;
        if other < system.of_segment(seg).end {
            let theirs = f64::from(fit.diagonal[other * SEG + column]);
            if theirs > 0.0 {
                *to = (covariance * (d * theirs).sqrt() / (own.variance * d)) as f32;
            }
        }
    }
    Some(Known { ratio: (own.variance * d) as f32, lags })
}

impl Exact {
    /// Variance times diagonal at column `x` of entry `e`, between the grid's columns.
    fn ratio(&self, system: &System, e: usize, x: usize) -> Option<f32> {
        let at = |e: usize, k: i64| -> Option<f32> {
            let (e, k) = match k {
                k if k < 0 => (system.entries[e].left, PER as i64 - 1),
                k if k >= PER as i64 => (system.entries[e].right, 0),
                k => (e as u32, k),
            };
            if e == NONE { None } else { self.grid[e as usize * PER + k as usize].map(|g| g.ratio) }
        };
        let place = (x as f32 - DECIMATED as f32 / 2.0) / DECIMATED as f32;
        let k = place.floor();
        let t = place - k;
        match (at(e, k as i64), at(e, k as i64 + 1)) {
            (Some(a), Some(b)) => Some(a + t * (b - a)),
            (a, b) => a.or(b),
        }
    }
}

/// A sample of a spectrum.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    flux: f32,
    variance: f32,
    covariance: f32,
    common: f32,
    chi2: f32,
    dq: u32,
}

/// Means over an entry's pixels, weighted by its profile: of each column.
struct Around {
    chi2: [f32; SEG],
    common: [f32; SEG],
    /// Part of the profile on used pixels.
    good: [f32; SEG],
    dq: [u32; SEG],
}

fn around(system: &System, planes: &Planes, fit: &Fit<f32>, flags: &[u32], e: usize) -> Around {
    let entry = &system.entries[e];
    let seg = entry.segment as usize;
    let (coefs, nodes) = (system.coefs_of(e), system.basis.len());
    let mut a = Around { chi2: [0.0; SEG], common: [0.0; SEG], good: [0.0; SEG], dq: [0; SEG] };
    let mut sums = [[0f32; 3]; SEG];
    // Σ_j h_r[j]: what a constant spectrum leaves in a pixel.
    let whole: Vec<f32> = system.taps.iter().map(|h| h.iter().sum()).collect();
    for dy in 0..system.ky {
        let y = i64::from(entry.anchor) + dy as i64;
        if !(0..system.ny as i64).contains(&y) {
            continue;
        }
        let mut profile = [0f32; SEG];
        // The nodes' values, and between them.
        for (k, phi) in system.basis.iter().enumerate() {
            let row = coefs[dy * system.terms() + k..].iter().step_by(nodes);
            let a: f32 = row.zip(&whole).map(|(a, whole)| a * whole).sum();
            profile.iter_mut().zip(phi).for_each(|(p, phi)| *p += phi * a);
        }
        for x in 0..SEG {
            let p = profile[x];
            let at = (seg * system.ny + y as usize) * SEG + x;
            let w = fit.weight[at];
            let share = p.abs();
            sums[x][0] += share;
            if w > 0.0 {
                let r = planes.data[at] - fit.model[at];
                sums[x][1] += share;
                a.chi2[x] += share * r * r * w;
                a.common[x] += share * share * planes.common[at];
                sums[x][2] += share * share;
                if share > 0.1 {
                    a.dq[x] |= flags[at];
                }
            } else if w < 0.0 && share > 0.1 {
                a.dq[x] |= dq::OUTLIER;
            }
        }
    }
    for x in 0..SEG {
        a.good[x] = sums[x][1] / sums[x][0].max(1e-6);
        a.chi2[x] /= sums[x][1].max(1e-6);
        // As for one profile with weights of its own: Σ p² c / (Σ p²)².
        a.common[x] = if sums[x][2] > 0.0 { a.common[x] / (sums[x][2] * sums[x][2]) } else { 0.0 };
    }
    a
}

impl Around {
    fn sample(&self, system: &System, fit: &Fit<f32>, exact: &Exact, e: usize, x: usize) -> Sample {
        let i = e * SEG + x;
        let d = fit.diagonal[i];
        let unknown = Sample { dq: self.dq[x] | dq::DO_NOT_USE, ..Sample::default() };
        let least = if self.dq[x] & dq::OUTLIER != 0 { 0.6 } else { 0.5 };
        if !(d > 0.0) || self.good[x] <= least {
            return unknown;
        }
        // Where the profile is broken by bad pixels the smooth ratio does not hold.
        let broken = (x.saturating_sub(2)..(x + 3).min(SEG)).any(|k| self.good[k] < 0.97);
        let ratio = if broken { known(system, fit, e, x).map(|k| k.ratio) } else { None };
        let Some(ratio) = ratio.or_else(|| exact.ratio(system, e, x)) else { return unknown };
        let variance = ratio / d;
        let coarse = exact.grid[e * PER + x / DECIMATED];
        let above = LAGS.iter().position(|l| *l == (1, 0)).unwrap_or(0);
        let covariance = coarse.map_or(0.0, |k| k.lags[above]) * variance;
        Sample {
            flux: fit.flux[i],
            variance,
            covariance,
            common: self.common[x].min(variance),
            chi2: self.chi2[x],
            dq: self.dq[x],
        }
    }
}

/// Columns of a spectrum that a sample's light comes from.
pub const SUPPORT: usize = REACH;
