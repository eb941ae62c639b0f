//! Reference planes matched to a frame.
//!
//! Every loader returns planes of the frame's size, (ny, nx) row-major, free of NaN:
//! a pixel whose reference value cannot be used gets a harmless value and a DQ flag.
//!
//! | reference | unusable value | becomes | DQ |
//! |---|---|---|---|
//! | bias | NaN, ±∞ | 0 | UNRELIABLE_BIAS |
//! | saturation | NaN, ≤ 0, or NO_SAT_CHECK | never saturates (`f32::MAX`) | NO_SAT_CHECK |
//! | gain | NaN, ±∞, ≤ 0 | 1 | NO_GAIN_VALUE, DO_NOT_USE |
//! | readnoise | NaN, ±∞, ≤ 0 | the plane's median | UNRELIABLE_ERROR |
//! | nonlin | NaN coefficient, c1 = 0, or NO_LIN_CORR | identity | NO_LIN_CORR |
//! | dark | NaN, ±∞ | 0 | UNRELIABLE_DARK, DO_NOT_USE |
//! | flat | NaN, ±∞, ≤ 0, or DO_NOT_USE | 1 | NO_FLAT_FIELD, DO_NOT_USE |
//! | sky | NaN, ±∞ | 0 | DO_NOT_USE |
//!
//! A subarray frame takes its pixels out of a full-frame reference, or out of a
//! larger subarray (SUBSTRT1, SUBSTRT2 of both, 1-based). Any other difference of
//! size is an error that names both.

use std::path::Path;

use crate::datamodel::{Image, Meta, Unit, dq};
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, Header};

/// The detector region that planes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Rows.
    pub ny: usize,
    /// Columns.
    pub nx: usize,
    /// 1-based detector column and row of the first pixel.
    pub substart: (i64, i64),
    /// Whether it is part of a detector, so that references may be larger.
    pub subarray: bool,
}

impl Frame {
    /// The frame of an exposure of `ny` rows and `nx` columns.
    pub fn new(meta: &Meta, ny: usize, nx: usize) -> Frame {
        let named = !matches!(meta.subarray.as_str(), "" | "FULL" | "N/A");
        Frame { ny, nx, substart: meta.substart, subarray: named || meta.substart != (1, 1) }
    }
}

/// An open reference file.
pub(super) struct Reference {
    pub(super) fits: Fits,
    reftype: &'static str,
    /// SUBSTRT1, SUBSTRT2, where it says.
    substart: Option<(i64, i64)>,
}

impl Reference {
    pub(super) fn open(path: &Path, reftype: &'static str) -> Result<Reference> {
        let fits = Fits::open(path)?;
        if let Some(said) = fits.primary().text("REFTYPE").filter(|t| !t.is_empty())
            && super::canonical_reftype(&said).is_some_and(|t| t != reftype)
        {
            let message = format!("{}: REFTYPE = '{said}': give a {reftype} reference", path.display());
            return Err(Error::reference(reftype, message));
        }
        let start = |key: &str| fits.primary().integer(key);
        let substart = start("SUBSTRT1").zip(start("SUBSTRT2"));
        Ok(Reference { fits, reftype, substart })
    }

    /// An error about this file.
    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::reference(self.reftype, format!("{}: {message}", self.fits.path.display()))
    }

    /// The main image: the first of `names`, else the first image.
    pub(super) fn main(&self, names: &[&str]) -> Result<&Hdu> {
        let named = names.iter().find_map(|n| self.fits.hdu(n).filter(|h| h.is_image()));
        named
            .or_else(|| self.fits.hdus.iter().find(|h| h.is_image() && h.name != "ERR" && h.name != "DQ"))
            .ok_or_else(|| self.error(format!("has no image {} (nor any other image)", names.join(" or "))))
    }

    /// The value of `key` in `hdu` or else PRIMARY.
    pub(super) fn text(&self, hdu: &Hdu, key: &str) -> Option<String> {
        let read = |h: &Header| h.text(key).filter(|t| !t.is_empty());
        read(&hdu.header).or_else(|| read(self.fits.primary()))
    }

    /// First column and row (from 0) of the frame within a plane of this file, or
    /// why it does not fit.
    pub(super) fn corner(
        &self,
        name: &str,
        (ny, nx): (usize, usize),
        frame: &Frame,
    ) -> Result<(usize, usize)> {
        let own = self.substart;
        if (ny, nx) == (frame.ny, frame.nx) && own.is_none_or(|s| s == frame.substart) {
            return Ok((0, 0));
        }
        let own = own.unwrap_or((1, 1));
        let place = |of: i64, at: i64, size: usize, want: usize| {
            let first = usize::try_from(at.checked_sub(of)?).ok()?;
            (frame.subarray && first.checked_add(want)? <= size).then_some(first)
        };
        let x = place(own.0, frame.substart.0, nx, frame.nx);
        let y = place(own.1, frame.substart.1, ny, frame.ny);
        x.zip(y).ok_or_else(|| {
            let from = |s: (i64, i64)| format!("from pixel {}, {}", s.0, s.1);
            let (own, want) = (from(own), from(frame.substart));
            let Frame { ny: fy, nx: fx, .. } = frame;
            self.error(format!(
                "{name} is {ny} x {nx} (rows x columns, {own}) but the frame is {fy} x {fx} ({want}): give a \
                 reference of that detector region (SUBSTRT1/2, SUBSIZE1/2)"
            ))
        })
    }

    /// A 2-D image HDU as `T`, cut to the frame.
    fn plane<T: Copy>(
        &self,
        hdu: &Hdu,
        frame: &Frame,
        read: fn(&Fits, &Hdu) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let (ny, nx) = match *hdu.shape.as_slice() {
            [ref ones @ .., ny, nx] if ones.iter().all(|&n| n == 1) => (ny, nx),
            ref other => {
                return Err(self.error(format!(
                    "{} has {} axes: it must be (ny, nx)",
                    hdu.name,
                    other.len()
                )));
            }
        };
        let corner = self.corner(&hdu.name, (ny, nx), frame)?;
        let values = read(&self.fits, hdu)?;
        Ok(if (ny, nx) == (frame.ny, frame.nx) { values } else { cut(&values, nx, corner, frame) })
    }

    fn f32(&self, hdu: &Hdu, frame: &Frame) -> Result<Vec<f32>> {
        self.plane(hdu, frame, Fits::f32)
    }

    /// The DQ plane; zeros without one.
    pub(super) fn dq(&self, frame: &Frame) -> Result<Vec<u32>> {
        match self.fits.hdu("DQ").filter(|h| h.is_image()) {
            Some(hdu) => self.plane(hdu, frame, Fits::u32),
            None => Ok(vec![0; frame.ny * frame.nx]),
        }
    }
}

/// The frame's pixels of a plane `nx` wide.
pub(super) fn cut<T: Copy>(values: &[T], nx: usize, (x, y): (usize, usize), frame: &Frame) -> Vec<T> {
    let rows = values.chunks_exact(nx.max(1)).skip(y).take(frame.ny);
    rows.flat_map(|row| row[x..x + frame.nx].iter().copied()).collect()
}

/// Replaces values that are not `good` by `value`, with `flags`.
fn mend(data: &mut [f32], dq: &mut [u32], value: f32, flags: u32, good: impl Fn(f32, u32) -> bool) {
    for (d, q) in data.iter_mut().zip(dq) {
        if !good(*d, *q) {
            *d = value;
            *q |= flags;
        }
    }
}

fn data_and_dq(path: &Path, reftype: &'static str, frame: &Frame) -> Result<(Vec<f32>, Vec<u32>)> {
    let r = Reference::open(path, reftype)?;
    let data = r.f32(r.main(&["DATA", "SCI"])?, frame)?;
    Ok((data, r.dq(frame)?))
}

/// The mask: DQ flags of pixels.
pub fn load_mask(path: &Path, frame: &Frame) -> Result<Vec<u32>> {
    let r = Reference::open(path, "mask")?;
    let hdu = match r.fits.hdu("DQ").filter(|h| h.is_image()) {
        Some(hdu) => hdu,
        None => r.main(&["MASK", "DATA", "SCI"])?,
    };
    r.plane(hdu, frame, Fits::u32)
}

/// The bias, raw DN, and its DQ.
pub fn load_bias(path: &Path, frame: &Frame) -> Result<(Vec<f32>, Vec<u32>)> {
    let (mut data, mut dq) = data_and_dq(path, "bias", frame)?;
    mend(&mut data, &mut dq, 0.0, dq::UNRELIABLE_BIAS, |v, _| v.is_finite());
    Ok((data, dq))
}

/// Saturation levels, raw DN with the bias included, and their DQ.
pub fn load_saturation(path: &Path, frame: &Frame) -> Result<(Vec<f32>, Vec<u32>)> {
    let (mut data, mut dq) = data_and_dq(path, "saturation", frame)?;
    let good = |v: f32, q: u32| v > 0.0 && v.is_finite() && q & dq::NO_SAT_CHECK == 0;
    mend(&mut data, &mut dq, f32::MAX, dq::NO_SAT_CHECK, good);
    Ok((data, dq))
}

/// The gain, e-/DN, and its DQ.
pub fn load_gain(path: &Path, frame: &Frame) -> Result<(Vec<f32>, Vec<u32>)> {
    let (mut data, mut dq) = data_and_dq(path, "gain", frame)?;
    let good = |v: f32, _| v > 0.0 && v.is_finite();
    mend(&mut data, &mut dq, 1.0, dq::NO_GAIN_VALUE | dq::DO_NOT_USE, good);
    Ok((data, dq))
}

/// The noise of a single read in electrons, and its DQ. The file must say what it
/// holds: RNFORM 'SINGLE' or 'CDS' (√2 × single) and BUNIT 'DN' (for which `gain`,
/// e-/DN, is used) or 'electron'.
pub fn load_readnoise(path: &Path, frame: &Frame, gain: &[f32]) -> Result<(Vec<f32>, Vec<u32>)> {
    let r = Reference::open(path, "readnoise")?;
    let hdu = r.main(&["DATA", "SCI"])?;
    let form = r.text(hdu, "RNFORM").map(|t| t.to_ascii_uppercase());
    let scale = match form.as_deref() {
        Some("SINGLE") => 1.0,
        Some("CDS") => std::f32::consts::FRAC_1_SQRT_2,
        other => {
            let found =
                other.map_or("RNFORM is missing".to_owned(), |t| format!("RNFORM = '{t}' is not known"));
            return Err(r.error(format!(
                "{found}: write RNFORM = 'SINGLE' (noise of one read) or 'CDS' (of the difference of two)"
            )));
        }
    };
    let bunit = r.text(hdu, "BUNIT");
    let unit = bunit.as_deref().and_then(Unit::parse).filter(|u| !u.per_second).ok_or_else(|| {
        let found = bunit.map_or("BUNIT is missing".to_owned(), |t| format!("BUNIT = '{t}' is not known"));
        r.error(format!("{found}: write BUNIT = 'DN' or 'electron'"))
    })?;
    let mut data = r.f32(hdu, frame)?;
    if !unit.electrons && gain.len() != data.len() {
        return Err(r.error(format!(
            "BUNIT = 'DN' needs a gain plane of {} pixels, not {}",
            data.len(),
            gain.len()
        )));
    }
    data.iter_mut().for_each(|v| *v *= scale);
    if !unit.electrons {
        data.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
    }
    let mut dq = r.dq(frame)?;
    let good = |v: f32, _| v > 0.0 && v.is_finite();
    let mut usable: Vec<f32> = data.iter().copied().filter(|v| good(*v, 0)).collect();
    if usable.is_empty() {
        return Err(r.error("holds no positive read noise"));
    }
    let middle = usable.len() / 2;
    let median = *usable.select_nth_unstable_by(middle, f32::total_cmp).1;
    mend(&mut data, &mut dq, median, dq::UNRELIABLE_ERROR, good);
    Ok((data, dq))
}

/// DATA, ERR (0 without one) and DQ, VAR_COMMON where there is one.
fn image(r: &Reference, frame: &Frame) -> Result<Image> {
    let float = |name: &str| r.fits.hdu(name).filter(|h| h.is_image()).map(|h| r.f32(h, frame)).transpose();
    let data = r.f32(r.main(&["DATA", "SCI"])?, frame)?;
    let mut err = float("ERR")?.unwrap_or_else(|| vec![0.0; data.len()]);
    let mut var_common = float("VAR_COMMON")?.unwrap_or_default();
    for v in err.iter_mut().chain(&mut var_common).filter(|v| !(v.is_finite() && **v >= 0.0)) {
        *v = 0.0;
    }
    Ok(Image { nx: frame.nx, ny: frame.ny, data, err, dq: r.dq(frame)?, var_common })
}

/// An image in e-/s: BUNIT decides, e-/s without one; DN/s needs `gain` (e-/DN).
fn rate_image(path: &Path, reftype: &'static str, frame: &Frame, gain: Option<&[f32]>) -> Result<Image> {
    let r = Reference::open(path, reftype)?;
    let hdu = r.main(&["DATA", "SCI"])?;
    let bunit = r.text(hdu, "BUNIT").unwrap_or_else(|| "e-/s".into());
    let unit = Unit::parse(&bunit).filter(|u| u.per_second).ok_or_else(|| {
        r.error(format!("BUNIT = '{bunit}' is not a count rate: write 'electron/s' or 'DN/s'"))
    })?;
    let mut image = image(&r, frame)?;
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
    let r = Reference::open(path, "flat")?;
    let mut image = image(&r, frame)?;
    let good = |v: f32, q: u32| v > 0.0 && v.is_finite() && q & dq::DO_NOT_USE == 0;
    mend(&mut image.data, &mut image.dq, 1.0, dq::NO_FLAT_FIELD | dq::DO_NOT_USE, good);
    Ok(image)
}
