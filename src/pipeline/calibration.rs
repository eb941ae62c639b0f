//! A detector's stage-1 references as the planes that the ramp kernel takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Detector, Recipe};
use crate::error::Result;
use crate::input::Ramp;
use crate::kernels::ramp::{Plane, zero};
use crate::refs::{self, Frame, ZeroPoint};

/// Planes of a whole frame, (ny, nx) each, in the order of [`Plane`].
#[derive(Debug, Clone)]
pub struct Calibration {
    /// The planes' words.
    pub planes: Vec<Vec<u32>>,
    /// Number of linearity coefficients.
    pub ncoef: usize,
    /// [`zero`].
    pub zero_point: u32,
    /// Whether there is a bias reference.
    pub has_bias: bool,
    /// Whether there is a saturation reference or default.
    pub has_nonlin: bool,
    /// What was missing and what stands in for it, as sentences.
    pub warnings: Vec<String>,
    /// Defaults that stand in for references: name and value, for the header.
    pub defaults: Vec<(&'static str, f64)>,
}

fn words(values: Vec<f32>) -> Vec<u32> {
    bytemuck::cast_vec(values)
}

/// The number for a missing reference, and where it is from.
fn stand_in(ramp: &Ramp, key: &str, default: f64) -> (f64, String) {
    match ramp.header.number(key).filter(|v| *v > 0.0) {
        Some(v) => (v, format!("the header's {key}")),
        None => (default, "the instrument file".to_owned()),
    }
}

impl Calibration {
    /// Loads what `references` names; what is missing gets the instrument's numbers
    /// and a warning. `integer` says that the ramp holds whole numbers, whose
    /// rounding adds 1/12 DN² to the variance of a read.
    pub fn load(
        references: &BTreeMap<String, PathBuf>,
        ramp: &Ramp,
        detector: &Detector,
        integer: bool,
    ) -> Result<Calibration> {
        let frame = Frame::new(&ramp.meta, ramp.ny, ramp.nx);
        let n = ramp.ny * ramp.nx;
        let path = |reftype: &str| references.get(reftype).map(PathBuf::as_path);
        // Reading and checking the planes costs more than the disk: two halves at once.
        let ((mask, gain, noise), (saturation, (bias, nonlin))) = rayon::join(
            || {
                let mask = path("mask").map(|p| refs::load_mask(p, &frame)).transpose();
                let gain = path("gain").map(|p| refs::load_gain(p, &frame)).transpose();
                let noise = path("readnoise").map(|p| {
                    let default;
                    let gain = match &gain {
                        Ok(Some((g, _))) => g.as_slice(),
                        _ => {
                            default = vec![stand_in(ramp, "GAIN", detector.gain).0 as f32; n];
                            &default
                        }
                    };
                    refs::load_readnoise(p, &frame, gain)
                });
                (mask, gain, noise.transpose())
            },
            || {
                let saturation = path("saturation").map(|p| refs::load_saturation(p, &frame)).transpose();
                let rest = rayon::join(
                    || path("bias").map(|p| refs::load_bias(p, &frame)).transpose(),
                    || path("nonlin").map(|p| refs::load_nonlin(p, &frame)).transpose(),
                );
                (saturation, rest)
            },
        );
        let (gain, noise, saturation, bias, nonlin) = (gain?, noise?, saturation?, bias?, nonlin?);
        let mut warnings = Vec::new();
        let mut defaults = Vec::new();
        let mut bits = mask?.unwrap_or_else(|| {
            warnings.push("no mask reference: no pixel is known to be bad".to_owned());
            vec![0; n]
        });
        let mut merge = |extra: &[u32]| bits.iter_mut().zip(extra).for_each(|(b, e)| *b |= e);
        if let Some(own) = &ramp.pixeldq {
            merge(own);
        }
        // A plane and its flags, or the number that stands in for it.
        let mut plane =
            |loaded: Option<(Vec<f32>, Vec<u32>)>, name: &'static str, key: &str, value: f64, unit: &str| {
                if let Some((plane, flags)) = loaded {
                    merge(&flags);
                    return plane;
                }
                let (value, whence) = stand_in(ramp, key, value);
                warnings.push(format!("no {name} reference: {value} {unit} from {whence}"));
                defaults.push((name, value));
                vec![value as f32; n]
            };
        let gain = plane(gain, "gain", "GAIN", detector.gain, "e-/DN");
        let noise = plane(noise, "readnoise", "READNOIS", detector.read_noise, "e- a read");
        let saturation = plane(saturation, "saturation", "SATURATE", detector.saturation, "DN");
        let bias = bias.map(|(bias, flags)| {
            merge(&flags);
            bias
        });
        match &nonlin {
            Some(nonlin) => merge(&nonlin.dq),
            None => warnings.push("no nonlin reference: counts are taken to be linear".to_owned()),
        }
        if let Some(nonlin) = &nonlin
            && nonlin.zero_point == ZeroPoint::Bias
            && bias.is_none()
        {
            let path = path("nonlin").unwrap_or(Path::new("nonlin"));
            return Err(crate::Error::input(
                path,
                "COEFFZP = BIAS needs counts above the bias, and there is no bias reference: give one \
                 (--override_bias=FILE), set COEFFZP to RAW or FIRST, or skip linearity",
            ));
        }
        let rounding = if integer { 1.0 / 12.0 } else { 0.0 };
        let variance: Vec<f32> = noise.iter().zip(&gain).map(|(r, g)| r * r + g * g * rounding).collect();
        let (ncoef, zero_point) = match &nonlin {
            None => (0, zero::BIAS),
            Some(c) => (
                c.ncoef,
                match c.zero_point {
                    ZeroPoint::Bias => zero::BIAS,
                    ZeroPoint::Raw => zero::RAW,
                    ZeroPoint::First => zero::FIRST,
                },
            ),
        };
        let has_bias = bias.is_some();
        let mut planes = vec![
            bits,
            words(saturation),
            words(bias.unwrap_or_else(|| vec![0.0; n])),
            words(gain),
            words(variance),
        ];
        debug_assert_eq!(planes.len(), Plane::Coefficients as usize);
        let has_nonlin = nonlin.is_some();
        if let Some(c) = nonlin {
            use rayon::prelude::*;
            planes.par_extend(c.coeffs.par_chunks(n).map(|plane| words(plane.to_vec())));
        }
        Ok(Calibration { planes, ncoef, zero_point, has_bias, has_nonlin, warnings, defaults })
    }

    /// A plane as f32.
    pub fn plane(&self, plane: Plane) -> &[f32] {
        bytemuck::cast_slice(&self.planes[plane as usize])
    }

    /// The data-quality bits of the frame.
    pub fn bits(&self) -> &[u32] {
        &self.planes[Plane::Dq as usize]
    }

    /// Drops the warnings about references that no step of `recipe` would use.
    pub fn without(&mut self, recipe: &Recipe) {
        let runs = |name: &str| recipe.steps.iter().any(|s| s.name() == name && !s.skip());
        let fits = runs("jump") || runs("ramp_fit");
        for (reftype, used) in [
            ("mask", runs("dq_init")),
            ("saturation", runs("saturation")),
            ("nonlin", runs("linearity")),
            ("gain", fits),
            ("readnoise", fits),
        ] {
            if !used {
                self.warnings.retain(|w| !w.starts_with(&format!("no {reftype} ")));
                self.defaults.retain(|(name, _)| *name != reftype);
            }
        }
    }

    /// Adds bits to the frame's.
    pub fn flag(&mut self, pixels: impl Iterator<Item = bool>, flags: u32) {
        let bits = &mut self.planes[Plane::Dq as usize];
        bits.iter_mut().zip(pixels).filter(|(_, p)| *p).for_each(|(b, _)| *b |= flags);
    }
}
