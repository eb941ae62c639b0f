//! Masters made of a night's own frames: dark, flat, sky.

use rayon::prelude::*;

use super::frames::{self, Calibration, Frame, same_size};
use super::robust::{Clipped, clipped_median};
use crate::config::{Combine, CombineFrames, Normalize};
use crate::datamodel::{Image, Rate, dq};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// A master and what is worth saying about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Master {
    /// The planes. `err` is the whole error; `var_common` is what the frames shared
    /// (the noise of the dark subtracted from them), empty for a dark.
    pub image: Image,
    /// Level of each frame (clipped median), in the frames' unit.
    pub levels: Vec<f64>,
    /// What the user should know, as sentences.
    pub warnings: Vec<String>,
}

/// Above which dark rate (e-/s) a pixel is called warm or hot. It must also stand
/// out of the distribution of all pixels by 5 σ. Neither means DO_NOT_USE: the
/// pixel's dark is subtracted, and its noise is in its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DarkLimits {
    /// WARM above this.
    pub warm: f64,
    /// HOT above this.
    pub hot: f64,
}

impl DarkLimits {
    /// 10 and 100 times the detector's typical dark rate, e-/s.
    pub fn of(typical: f64) -> DarkLimits {
        DarkLimits { warm: 10.0 * typical, hot: 100.0 * typical }
    }
}

/// Master dark: the combination of dark rates. WARM and HOT as [`DarkLimits`] says;
/// UNRELIABLE_DARK where fewer than half of the frames were usable and agreed.
pub fn master_dark(
    engine: &mut dyn Engine,
    rates: &[Rate],
    step: &CombineFrames,
    limits: DarkLimits,
) -> Result<Master> {
    let (ny, nx) = common_size(rates)?;
    let how = Calibration::dark(None, 1.0);
    let inputs: Vec<_> = rates.iter().map(|r| (Frame::from(r), how)).collect();
    let mut planes = frames::calibrate_and_combine(engine, &inputs, step, false)?;
    let used = std::mem::take(&mut planes.used);
    let mut image = planes.image(ny, nx);
    let levels = rates.iter().map(|r| level(Frame::from(r), None).map_or(f64::NAN, |c| c.median)).collect();
    let mut warnings = Vec::new();
    let Some(typical) = level(Frame::from(&image), None) else {
        return Err(Error::Unsolvable("the darks have no usable pixel".into()));
    };
    let outlying = typical.median + 5.0 * typical.sigma;
    let (mut hot, mut warm) = (0usize, 0usize);
    for ((value, dq), used) in image.data.iter().zip(&mut image.dq).zip(used) {
        let value = f64::from(*value);
        if 2 * used < rates.len() as u32 {
            *dq |= dq::UNRELIABLE_DARK;
        }
        if value > outlying && value > limits.hot {
            *dq |= dq::HOT;
            hot += 1;
        } else if value > outlying && value > limits.warm {
            *dq |= dq::WARM;
            warm += 1;
        }
    }
    if hot + warm > image.data.len() / 10 {
        warnings.push(format!(
            "{} of {} dark pixels are warm or hot: was the shutter closed?",
            hot + warm,
            image.data.len()
        ));
    }
    Ok(Master { image, levels, warnings })
}

/// Master flat: each frame less the dark, divided by its own clipped median,
/// combined, and brought to median 1. The dark's noise is one and the same in all
/// frames, so it does not average down. Pixels outside `low` … `high` times the
/// median, and those without a value, are NO_FLAT_FIELD and DO_NOT_USE; a value
/// that there is stays.
pub fn master_flat(
    engine: &mut dyn Engine,
    rates: &[Rate],
    dark: Option<&Image>,
    step: &CombineFrames,
    normalize: Option<&Normalize>,
) -> Result<Master> {
    let (ny, nx) = common_size(rates)?;
    let dark = checked_dark(dark, (ny, nx))?;
    let levels = levels(rates, dark);
    let mut inputs = Vec::new();
    for (i, (rate, level)) in rates.iter().zip(&levels).enumerate() {
        if !is_lit(level) {
            let found =
                level.map_or("no usable pixel".to_owned(), |c| format!("a median of {:.3} e-/s", c.median));
            return Err(Error::Unsolvable(format!(
                "flat frame {} of {} has {found} after the dark: was the lamp on?",
                i + 1,
                rates.len()
            )));
        }
        let factor = level.map_or(1.0, |c| 1.0 / c.median);
        inputs.push((Frame::from(rate), Calibration::dark(dark, factor)));
    }
    let planes = frames::calibrate_and_combine(engine, &inputs, step, true)?;
    let mut image = planes.image(ny, nx);
    if let Some(normalize) = normalize {
        normalise(&mut image, normalize)?;
    }
    let levels = levels.iter().map(|l| l.map_or(f64::NAN, |c| c.median)).collect();
    Ok(Master { image, levels, warnings: Vec::new() })
}

/// Brings an image to median (or mean, sigma-clipped both) 1 and flags what is outside `low` … `high`, or has no
/// value, NO_FLAT_FIELD and DO_NOT_USE.
pub fn normalise(image: &mut Image, step: &Normalize) -> Result<()> {
    let level = level(Frame::from(&*image), None);
    let (what, middle) = match step.method {
        Combine::Median => ("median", level.map_or(f64::NAN, |c| c.median)),
        Combine::Mean => ("mean", level.map_or(f64::NAN, |c| c.mean)),
    };
    if middle.is_nan() || middle <= 0.0 {
        return Err(Error::Unsolvable(format!("a flat with a {what} of {middle} cannot be normalised")));
    }
    let factor = (1.0 / middle) as f32;
    image.data.iter_mut().for_each(|v| *v *= factor);
    image.err.iter_mut().for_each(|v| *v *= factor);
    image.var_common.iter_mut().for_each(|v| *v *= factor * factor);
    let range = step.low as f32..=step.high as f32;
    for (value, dq) in image.data.iter().zip(&mut image.dq) {
        if !range.contains(value) {
            *dq |= dq::NO_FLAT_FIELD | dq::DO_NOT_USE;
        }
    }
    Ok(())
}

/// Master sky: each frame less the dark, combined. Where every frame's level is
/// well above zero (10 σ of its median), frames are first scaled to a common level,
/// whose factors average to 1, so that the airglow's changes do not look like
/// outliers and the dark is contained exactly once. The dark's noise is in
/// `var_common`.
pub fn master_sky(
    engine: &mut dyn Engine,
    rates: &[Rate],
    dark: Option<&Image>,
    step: &CombineFrames,
) -> Result<Master> {
    let (ny, nx) = common_size(rates)?;
    let dark = checked_dark(dark, (ny, nx))?;
    let levels = levels(rates, dark);
    let lit = levels.iter().all(is_lit);
    let inverse: f64 = levels.iter().flatten().map(|c| 1.0 / c.median).sum::<f64>() / rates.len() as f64;
    let factor = |level: &Option<Clipped>| match level {
        Some(c) if lit => 1.0 / c.median / inverse,
        _ => 1.0,
    };
    let inputs: Vec<_> = rates
        .iter()
        .zip(&levels)
        .map(|(rate, level)| (Frame::from(rate), Calibration::dark(dark, factor(level))))
        .collect();
    let image = frames::calibrate_and_combine(engine, &inputs, step, true)?.image(ny, nx);
    let mut warnings = Vec::new();
    if !lit && rates.len() > 1 {
        warnings
            .push("the sky frames' levels are too faint to be matched: they are combined unscaled".into());
    }
    let levels = levels.iter().map(|l| l.map_or(f64::NAN, |c| c.median)).collect();
    Ok(Master { image, levels, warnings })
}

/// Whether a level stands out of its own error by 10 σ.
fn is_lit(level: &Option<Clipped>) -> bool {
    level.is_some_and(|c| c.median > 10.0 * c.median_error() && c.median > 0.0)
}

fn levels(rates: &[Rate], dark: Option<Frame<'_>>) -> Vec<Option<Clipped>> {
    rates.iter().map(|r| level(Frame::from(r), dark)).collect()
}

/// Clipped median of the usable pixels of `frame` less `dark`.
fn level(frame: Frame<'_>, dark: Option<Frame<'_>>) -> Option<Clipped> {
    let usable = |i: &usize| frame.usable(*i) && dark.is_none_or(|d| d.usable(*i));
    let value = |i: usize| frame.data[i] - dark.map_or(0.0, |d| d.data[i]);
    clipped_median(&(0..frame.len()).into_par_iter().filter(usable).map(value).collect::<Vec<_>>())
}

fn checked_dark(dark: Option<&Image>, size: (usize, usize)) -> Result<Option<Frame<'_>>> {
    if let Some(d) = dark {
        same_size("dark", (d.ny, d.nx), size)?;
    }
    Ok(dark.map(Frame::from))
}

fn common_size(rates: &[Rate]) -> Result<(usize, usize)> {
    let Some(first) = rates.first() else {
        return Err(Error::Unsolvable("no frames to make a master of".into()));
    };
    for rate in rates {
        same_size("frame to combine", (rate.ny, rate.nx), (first.ny, first.nx))?;
    }
    Ok((first.ny, first.nx))
}

#[cfg(test)]
#[path = "masters_tests.rs"]
mod tests;
