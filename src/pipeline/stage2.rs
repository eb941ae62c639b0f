//! Stage 2 on one rate: dark, sky, flat, with errors that know what frames share.
//!
//! ```text
//! value  = (S − D − s K) / F
//! own    = var_S / F²
//! common = (c² var_D + s² var_K + value² var_F) / F²
//! ```
//!
//! K is a sky frame from which a dark was already subtracted: where that was the
//! same dark, D enters S − D − s (K_raw − D) with c = −(1 − s), so that at s = 1 its
//! noise cancels, and var_K leaves the dark's part out; with another dark c = −1 and
//! var_K is the whole. The result's `err` is √(own + common), its `var_common` is
//! `common`: what does not average down among frames with the same references.
//! Neglected: the dark's noise inside the flat correlates with D (a factor of
//! value/flat counts below the terms kept).

use rayon::prelude::*;

use super::frames::{self, Calibration, Frame, same_size};
use super::robust::{background, clipped_median, darkest_level};
use crate::config::{Background, CombineFrames, SkyScaling};
use crate::datamodel::{Image, Rate};
use crate::engine::Engine;
use crate::error::Result;

/// The references of a frame; a step without one is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct References<'a> {
    /// Dark rate.
    pub dark: Option<&'a Image>,
    /// Flat, median 1.
    pub flat: Option<&'a Image>,
    /// Sky.
    pub sky: Option<Sky<'a>>,
    /// The part of the frame's variance that comes from a dark subtracted before, by
    /// itself; empty for none. It counts like the variance of [`References::dark`].
    pub before: &'a [f32],
}

/// A sky frame.
#[derive(Debug, Clone, Copy)]
pub struct Sky<'a> {
    /// The frame; its `var_common` is the noise of the dark subtracted from it.
    pub image: &'a Image,
    /// Whether that dark is the frame's, too.
    pub same_dark: bool,
}

/// A calibrated frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduced {
    /// The image, e-/s.
    pub image: Image,
    /// The sky's scale s, where a sky was subtracted.
    pub sky_scale: Option<f64>,
    /// What the user should know, as sentences.
    pub warnings: Vec<String>,
}

/// Calibrates one rate with what `references` has.
pub fn reduce(
    engine: &mut dyn Engine,
    rate: &Rate,
    references: &References<'_>,
    step: &Background,
) -> Result<Reduced> {
    let size = (rate.ny, rate.nx);
    let sky_image = references.sky.map(|s| s.image);
    for (what, image) in [("dark", references.dark), ("flat", references.flat), ("sky", sky_image)] {
        if let Some(image) = image {
            same_size(what, (image.ny, image.nx), size)?;
        }
    }
    let mut warnings = Vec::new();
    let science = Frame { common: references.before, ..rate.into() };
    let earlier = subtracted(references, size);
    let dark = earlier.as_ref().or(references.dark).map(Frame::from);
    let flat = references.flat.map(Frame::from);
    let scale = references.sky.map(|sky| {
        let (scale, warning) = sky_scale(science, (dark, flat), sky.image.into(), size, step);
        warnings.extend(warning);
        if dark.is_none() && scale != 1.0 {
            warnings.push(format!(
                "no dark is subtracted and the sky is scaled by {scale:.4}: a dark contained in both cancels \
                 only at scale 1"
            ));
        }
        scale
    });
    let same_dark = dark.is_some() && references.sky.is_some_and(|s| s.same_dark);
    let how = Calibration {
        dark,
        sky: references.sky.map(|s| if same_dark { Frame::own(s.image) } else { s.image.into() }),
        flat,
        sky_scale: scale.unwrap_or(0.0),
        dark_coefficient: if same_dark { 1.0 - scale.unwrap_or(0.0) } else { 1.0 },
        factor: 1.0,
    };
    let planes = frames::calibrate(engine, science, &how)?;
    Ok(Reduced { image: planes.image(rate.ny, rate.nx), sky_scale: scale, warnings })
}

/// What was subtracted before, and the dark if there is one too, as one dark.
fn subtracted(references: &References<'_>, (ny, nx): (usize, usize)) -> Option<Image> {
    if references.before.is_empty() {
        return None;
    }
    let zero = || Image { nx, ny, data: vec![0.0; nx * ny], err: vec![0.0; nx * ny], ..Image::default() };
    let mut dark = references.dark.cloned().unwrap_or_else(zero);
    dark.dq.resize(nx * ny, 0);
    for (err, before) in dark.err.iter_mut().zip(references.before) {
        // Where the frame has no value it shares none, and stays without.
        let before = if before.is_finite() { *before } else { 0.0 };
        *err = (*err * *err + before).sqrt();
    }
    Some(dark)
}

/// Pixels of which a level is known well enough to begin with.
const MANY: usize = 1 << 16;

/// s, and a warning where it could not be measured. The ratio of the levels is a
/// start; then what is left of the sky in S − D − s K, where no source is seen, is
/// brought to zero.
fn sky_scale(
    science: Frame<'_>,
    (dark, flat): (Option<Frame<'_>>, Option<Frame<'_>>),
    sky: Frame<'_>,
    size: (usize, usize),
    step: &Background,
) -> (f64, Option<String>) {
    if step.scaling == SkyScaling::Fixed {
        return (step.scale, None);
    }
    // Pixels that the flat will lose do not count, so that the order of steps does not.
    let usable = |i: &usize| {
        science.usable(*i)
            && sky.usable(*i)
            && dark.is_none_or(|d| d.usable(*i))
            && flat.is_none_or(|f| f.usable(*i) && f.data[*i] > 0.0)
    };
    let object = |i: usize| science.data[i] - dark.map_or(0.0, |d| d.data[i]);
    // Levels are a start, and a unit: what is left over is measured on all pixels.
    let some: Vec<usize> = (0..science.len()).step_by(science.len() / MANY | 1).filter(usable).collect();
    let level = |of: &dyn Fn(usize) -> f32| clipped_median(&some.iter().map(|i| of(*i)).collect::<Vec<_>>());
    let unknown = || {
        let text = "the sky frame's level is not significantly above zero, so its scale cannot be measured: the \
                    fixed scale is used";
        (step.scale, Some(text.to_owned()))
    };
    let (Some(bright), Some(blank)) = (level(&object), level(&|i| sky.data[i])) else { return unknown() };
    if blank.median <= 5.0 * blank.median_error() || bright.median <= 0.0 {
        return unknown();
    }
    let mut scale = bright.median / blank.median;
    for _ in 0..4 {
        let left = |i: usize| object(i) - scale as f32 * sky.data[i];
        let Some(rest) = level(&left) else { return unknown() };
        let (centre, unit) = (rest.median, 1.0 / rest.sigma.max(1e-30));
        let normal: Vec<f32> = (0..science.len())
            .into_par_iter()
            .map(|i| if usable(&i) { ((f64::from(left(i)) - centre) * unit) as f32 } else { f32::NAN })
            .collect();
        let keep = background(&normal, size.0, size.1);
        let Some(level) = darkest_level(&normal, &keep, size.1) else { return unknown() };
        let change = (rest.median + level * rest.sigma) / blank.median;
        scale += change;
        if change.abs() < 1e-7 * scale {
            break;
        }
    }
    (step.scale * scale, None)
}

/// Combines images pixel by pixel. `shared`: all were calibrated with the same
/// references, so the common part of their errors is averaged, not divided by the
/// root of their number: var = Σ own/n² + (Σ √common/n)². Otherwise all of it
/// averages down.
/// The result's `var_common` is that common part (empty where nothing is shared).
pub fn combine_images(
    engine: &mut dyn Engine,
    images: &[&Image],
    step: &CombineFrames,
    shared: bool,
) -> Result<Image> {
    let size = images.first().map_or((0, 0), |i| (i.ny, i.nx));
    for image in images {
        same_size("frame to combine", (image.ny, image.nx), size)?;
    }
    Ok(frames::combine(engine, images, step, shared)?.image(size.0, size.1))
}

#[cfg(test)]
#[path = "stage2_tests.rs"]
mod tests;
