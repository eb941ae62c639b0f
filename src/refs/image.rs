//! References that are images with errors: darks, flats, skies.

use std::path::Path;

use super::open::{Frame, Reference};
use crate::datamodel::{Image, Unit, dq};
use crate::error::{Error, Result};

/// Replaces values that are not `good` by `value`, with `flags`.
fn mend(data: &mut [f32], dq: &mut [u32], value: f32, flags: u32, good: impl Fn(f32, u32) -> bool) {
    for (d, q) in data.iter_mut().zip(dq) {
        if !good(*d, *q) {
            *d = value;
            *q |= flags;
        }
    }
}

/// DATA, ERR (0 without one) and DQ, VAR_COMMON where there is one.
fn image(r: &Reference) -> Result<Image> {
    let float = |name: &str| r.image(name).map(|h| r.f32(h)).transpose();
    let data = r.f32(r.main(&["DATA", "SCI"])?)?;
    let mut err = float("ERR")?.unwrap_or_else(|| vec![0.0; data.len()]);
    let mut var_common = float("VAR_COMMON")?.unwrap_or_default();
    for v in err.iter_mut().chain(&mut var_common).filter(|v| !(v.is_finite() && **v >= 0.0)) {
        *v = 0.0;
    }
    Ok(Image { nx: r.frame.nx, ny: r.frame.ny, data, err, dq: r.dq()?, var_common })
}

/// What is doubtful about an image that was read from a rate reference: no BUNIT, no pixel
/// with a value; as sentences.
pub fn doubts_of_rate(path: &Path, reftype: &'static str, image: &Image) -> Result<Vec<String>> {
    let frame = Frame { ny: image.ny, nx: image.nx, substart: (1, 1), subarray: false };
    let r = Reference::open(path, reftype, &frame)?;
    let mut doubts = Vec::new();
    if r.text(r.main(&["DATA", "SCI"])?, "BUNIT").is_none() {
        doubts.push(format!("{reftype}: {}: BUNIT is missing: it is taken as electron/s", path.display()));
    }
    if image.dq.iter().all(|q| q & dq::DO_NOT_USE != 0) {
        doubts.push(format!("{reftype}: {} has no pixel with a usable value", path.display()));
    }
    Ok(doubts)
}

/// An image in e-/s: BUNIT decides, e-/s without one; DN/s needs `gain` (e-/DN).
fn rate_image(path: &Path, reftype: &'static str, frame: &Frame, gain: Option<&[f32]>) -> Result<Image> {
    let r = Reference::open(path, reftype, frame)?;
    let hdu = r.main(&["DATA", "SCI"])?;
    let bunit = r.text(hdu, "BUNIT").unwrap_or_else(|| "e-/s".into());
    let unit = Unit::parse(&bunit).filter(|u| u.per_second).ok_or_else(|| {
        r.error(format!("BUNIT = '{bunit}' is not a count rate: write 'electron/s' or 'DN/s'"))
    })?;
    let mut image = image(&r)?;
    if !unit.electrons {
        let gain = gain.filter(|g| g.len() == image.data.len()).ok_or_else(|| {
            r.error(format!("BUNIT = '{bunit}' needs a gain reference of {} x {} pixels", frame.ny, frame.nx))
        })?;
        let Image { data, err, var_common, .. } = &mut image;
        data.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
        err.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
        var_common.iter_mut().zip(gain).for_each(|(v, g)| *v *= g * g);
    }
    Ok(image)
}

/// The dark rate, e-/s.
pub fn load_dark(path: &Path, frame: &Frame, gain: Option<&[f32]>) -> Result<Image> {
    if super::is_ramp(path)? {
        let text = "is a ramp of reads, which dark_ramp subtracts (--steps.dark_ramp.skip=false): dark_sub takes \
                    a dark rate";
        return Err(Error::reference("dark", format!("{}: {text}", path.display())));
    }
    let mut image = rate_image(path, "dark", frame, gain)?;
    mend(&mut image.data, &mut image.dq, 0.0, dq::UNRELIABLE_DARK | dq::DO_NOT_USE, |v, _| v.is_finite());
    Ok(image)
}

/// A sky image, e-/s.
pub fn load_sky(path: &Path, frame: &Frame, gain: Option<&[f32]>) -> Result<Image> {
    let mut image = rate_image(path, "sky", frame, gain)?;
    mend(&mut image.data, &mut image.dq, 0.0, dq::DO_NOT_USE, |v, _| v.is_finite());
    Ok(image)
}

/// The flat (median 1).
pub fn load_flat(path: &Path, frame: &Frame) -> Result<Image> {
    let r = Reference::open(path, "flat", frame)?;
    let mut image = image(&r)?;
    let good = |v: f32, q: u32| v > 0.0 && v.is_finite() && q & dq::DO_NOT_USE == 0;
    mend(&mut image.data, &mut image.dq, 1.0, dq::NO_FLAT_FIELD | dq::DO_NOT_USE, good);
    Ok(image)
}
