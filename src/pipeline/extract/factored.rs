//! Extraction on the two-dimensional model ([`crate::kernels::factored`]).

use rayon::prelude::*;

use super::Spectra;
use super::flexure::{self, Flexure};
use super::solver::OnEngine;
use crate::config::Extract;
use crate::datamodel::{Rate, dq};
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::factored::{Fit, LAGS, Local, Options, SEG, System, fit, local};
use crate::pipeline::lenspx::noise::{Noise, Pixel};
use crate::pipeline::lenspx::{LensCal, psf::PsfModel, system};

/// Columns from one exact variance to the next.
pub const DECIMATED: usize = 32;

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
    let flags = system.to_segments(&rate.dq, dq::DO_NOT_USE);
    let coarse = nx.div_ceil(DECIMATED) + 1;
    out.correlation = vec![vec![0.0; nl * coarse]; LAGS.len()];
    let segments: Vec<Vec<Own>> = (0..system.segments())
        .into_par_iter()
        .map(|segment| of_segment(system, planes, fit, &flags, segment))
        .collect();
    for (entry, own) in system.entries.iter().zip(segments.iter().flatten()) {
        let l = entry.spectrum as usize;
        let lens = &cal.lenslets[l];
        let x0 = system.columns[entry.segment as usize] as usize;
        for (x, s) in (x0..nx).zip(&own.samples).filter(|(x, _)| (lens.xmin..=lens.xmax).contains(x)) {
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
        for (at, lags) in (l * coarse + x0 / DECIMATED..).zip(&own.correlations) {
            for (plane, c) in out.correlation.iter_mut().zip(lags) {
                if let Some(v) = plane.get_mut(at) {
                    *v = *c;
                }
            }
        }
    }
    out
}

/// What is told of one entry.
struct Own {
    samples: [Sample; SEG],
    /// At [`LAGS`], of each [`DECIMATED`] columns.
    correlations: [[f32; LAGS.len()]; SEG / DECIMATED],
}

fn of_segment(system: &System, planes: &Planes, fit: &Fit<f32>, flags: &[u32], segment: usize) -> Vec<Own> {
    let near = local(system, &fit.weight, &fit.diagonal, segment);
    let of = |(k, e): (usize, usize)| {
        let around = around(system, planes, fit, flags, e);
        Own {
            samples: std::array::from_fn(|x| around.sample(fit.flux[e * SEG + x], &near[k], x)),
            correlations: std::array::from_fn(|stretch| {
                // The column nearest to the middle without bad pixels stands for the others.
                let middle = stretch * DECIMATED + DECIMATED / 2;
                let known = |x: &usize| near[k].variance[*x] > 0.0;
                let columns = (stretch * DECIMATED..(stretch + 1) * DECIMATED).filter(known);
                let x = columns.min_by_key(|x| (around.broken(*x), x.abs_diff(middle)));
                x.map_or([0.0; LAGS.len()], |x| correlations(&near, k, x))
            }),
        }
    };
    system.of_segment(segment).enumerate().map(of).collect()
}

/// Of the unknown at column `x` of a segment's entry `k` with those at [`LAGS`].
fn correlations(near: &[Local], k: usize, x: usize) -> [f32; LAGS.len()] {
    let own = near[k].variance[x];
    std::array::from_fn(|lag| {
        let (up, on) = LAGS[lag];
        let column = (x as i32 + on).clamp(0, SEG as i32 - 1) as usize;
        let theirs = near.get(k + up).map_or(0.0, |n| n.variance[column]);
        if theirs > 0.0 { near[k].covariance[lag][x] / (own * theirs).sqrt() } else { 0.0 }
    })
}

/// Of a spectrum's light in a column the least part on used pixels with which its
/// correlations are as its neighbours'.
const WHOLE: f32 = 0.97;

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
    /// Whether bad pixels break the profile at column `x` or nearby.
    fn broken(&self, x: usize) -> bool {
        (x.saturating_sub(2)..(x + 3).min(SEG)).any(|k| self.good[k] < WHOLE)
    }

    fn sample(&self, flux: f32, near: &Local, x: usize) -> Sample {
        let variance = near.variance[x];
        let least = if self.dq[x] & dq::OUTLIER != 0 { 0.6 } else { 0.5 };
        if !(variance > 0.0) || self.good[x] <= least {
            return Sample { dq: self.dq[x] | dq::DO_NOT_USE, ..Sample::default() };
        }
        Sample {
            flux,
            variance,
            covariance: near.covariance[ABOVE][x],
            common: self.common[x].min(variance),
            chi2: self.chi2[x],
            dq: self.dq[x],
        }
    }
}

/// The lag to the same column of the next spectrum.
const ABOVE: usize = 6;
const _: () = assert!(LAGS[ABOVE].0 == 1 && LAGS[ABOVE].1 == 0);
