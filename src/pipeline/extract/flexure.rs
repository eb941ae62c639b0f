//! How a frame's traces and PSF differ from the calibration's: shift across dispersion
//! (and its change over the detector), width, skewness.
//!
//! Gauss–Newton with variable projection: the model's derivative by each of them is an
//! image D, of which the spectra take up what they can (a solution of the same equations
//! as theirs); what is left, D⊥, is what the residual r is made of: δ = (D⊥ᵀWD⊥)⁻¹D⊥ᵀWr.
//! A few pairs of segments across the detector are enough.

use super::factored::{Planes, planes};
use super::solver::OnEngine;
use crate::config::Extract;
use crate::datamodel::Rate;
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::factored::{Machine, Options, REACH, SEG, System, fit, image, solve};
use crate::pipeline::lenspx::legendre::Normal;
use crate::pipeline::lenspx::noise::Noise;
use crate::pipeline::lenspx::{LensCal, psf::PsfModel, system};

/// Pairs of segments that are fitted.
const PAIRS: usize = 3;
/// Steps.
const STEPS: usize = 3;
/// Parameters.
pub const PARAMETERS: usize = 6;
/// Steps of the numerical derivatives.
const SMALL: [f64; PARAMETERS] = [0.02, 0.02, 0.02, 0.005, 0.02, 0.02];

/// What was found: shift of the traces, rows (mean, towards the last column, towards the
/// last row), relative width, skewness along columns and rows (pixels³).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flexure {
    /// The values.
    pub value: [f64; PARAMETERS],
    /// Their errors.
    pub error: [f64; PARAMETERS],
}

impl Flexure {
    /// The system of a calibration so changed, of some `segments`.
    pub fn system(
        values: &[f64; PARAMETERS],
        cal: &LensCal,
        psf: &PsfModel,
        segments: &[usize],
    ) -> Result<System> {
        let [mean, by_x, by_y, width, along, across] = *values;
        let psf = psf.changed(1.0 + width, [along, across]);
        let (nx, ny) = (cal.mode.nx as f64, cal.mode.ny as f64);
        let middle: Vec<f64> = cal
            .lenslets
            .iter()
            .map(|l| 2.0 * l.y(f64::midpoint(l.xmin as f64, l.xmax as f64)) / ny - 1.0)
            .collect();
        let moved = |l: usize, x: f64| mean + by_x * (2.0 * x / nx - 1.0) + by_y * middle[l];
        system::system(cal, &psf, &moved, segments)
    }
}

/// Fits it.
pub fn measure(
    engine: &mut dyn Engine,
    rate: &Rate,
    cal: &LensCal,
    psf: &PsfModel,
    params: &Extract,
) -> Result<Flexure> {
    let noise = Noise::of(rate)?;
    let segments = chosen(rate.nx.div_ceil(SEG));
    let of = |values: &[f64; PARAMETERS]| Flexure::system(values, cal, psf, &segments);
    let mut system = of(&[0.0; PARAMETERS])?;
    let mut images = planes(&system, rate, &noise);
    fence(&system, &mut images);
    let mut out = Flexure::default();
    let mut free: Vec<Vec<f32>> = Vec::new();
    for step in 0..STEPS {
        if step > 0 {
            system = of(&out.value)?;
        }
        let options = Options {
            factor: noise.factor,
            threshold: params.rejection_threshold,
            // To first order the parameters do not depend on the spectra.
            tolerance: 0.2,
            // A model that is off must not be taken for cosmic rays.
            model_error: 0.1,
            ..Options::default()
        };
        let mut solver = OnEngine::new(engine, &system)?;
        let own = fit(&mut solver, &system, &images.data, &images.variance, &options)?;
        // The derivatives of the first step serve the others: they hardly change.
        for k in free.len()..PARAMETERS {
            let mut values = out.value;
            values[k] += SMALL[k];
            let moved = of(&values)?;
            let mut d = vec![0.0; moved.pixels()];
            image(&moved, &carried(&system, &own.flux, &moved), &mut d);
            d.iter_mut().zip(&own.model).for_each(|(d, m)| *d = (*d - m) / SMALL[k] as f32);
            solver.set_data(&d)?;
            solver.set_flux(&vec![0.0; system.unknowns()])?;
            let loose = Options { tolerance: 0.5, iterations: 9, ..options };
            solve(&mut solver, &loose, 1)?;
            let model = solver.model()?;
            d.iter_mut().zip(&model).for_each(|(d, m)| *d -= m);
            free.push(d);
        }
        drop(solver);
        let mut normal = Normal::new(PARAMETERS);
        let mut row = [0.0; PARAMETERS];
        for (i, weight) in own.weight.iter().enumerate() {
            if *weight > 0.0 {
                free.iter().zip(&mut row).for_each(|(f, r)| *r = f64::from(f[i]));
                let r = f64::from(images.data[i]) - f64::from(own.model[i]);
                normal.add(&row, r, f64::from(*weight));
            }
        }
        let Some((step, variance)) = normal.solve() else { break };
        let mut far = 0f64;
        for k in 0..PARAMETERS {
            let most = [0.3, 0.3, 0.3, 0.05, 0.5, 0.5][k];
            let step = step[k].clamp(-most, most);
            out.value[k] += step;
            out.error[k] = variance[k].sqrt();
            far = far.max(step.abs() / (0.2 * out.error[k] + 5e-4));
        }
        if far < 1.0 {
            break;
        }
    }
    Ok(out)
}

/// Unknowns in the order of another system's entries: anchors may pass one another.
fn carried(from: &System, f: &[f32], to: &System) -> Vec<f32> {
    let place = |e: &crate::kernels::factored::Entry| (e.spectrum, e.segment);
    let index: std::collections::HashMap<_, _> =
        from.entries.iter().enumerate().map(|(i, e)| (place(e), i)).collect();
    let mut out = vec![0.0; to.unknowns()];
    for (e, own) in to.entries.iter().zip(out.chunks_exact_mut(SEG)) {
        if let Some(i) = index.get(&place(e)) {
            own.copy_from_slice(&f[i * SEG..][..SEG]);
        }
    }
    out
}

/// Pairs of neighbouring segments, evenly over the detector's.
pub(crate) fn chosen(segments: usize) -> Vec<usize> {
    if segments <= 2 * PAIRS + 2 {
        return (0..segments).collect();
    }
    let pair = |k: usize| (segments - 2) * (2 * k + 1) / (2 * PAIRS);
    (0..PAIRS).flat_map(|k| [pair(k), pair(k) + 1]).collect()
}

/// Leaves out the columns at the edges of what is fitted: light comes from beyond.
pub(crate) fn fence(system: &System, images: &mut Planes) {
    for s in 0..system.segments() {
        let at = system.columns[s] as usize;
        let left = at > 0 && system.beside(s, -1).is_none();
        let right = at + SEG < system.nx && system.beside(s, 1).is_none();
        for row in images.variance[s * system.ny * SEG..][..system.ny * SEG].chunks_exact_mut(SEG) {
            if left {
                row[..REACH].fill(0.0);
            }
            if right {
                row[SEG - REACH..].fill(0.0);
            }
        }
    }
}
