//! Which layout a ramp file has, from the shapes of its arrays.

use super::headers::count;
use super::{by, label};
use crate::datamodel::registry::names;
use crate::error::Result;
use crate::fits::{Fits, Hdu, HduKind};

/// Where a ramp file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// (ramps, reads, ny, nx) with TIMES.
    Native,
    /// (ny, nx, ramps, reads) with TIMES.
    Liger,
    /// (ramps, reads, ny, nx), times from JWST's keywords.
    Jwst,
    /// (reads, ny, nx).
    Cube,
}

/// The meaning of a ramp array's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) family: Family,
    pub(super) ramps: usize,
    pub(super) reads: usize,
    pub(super) ny: usize,
    pub(super) nx: usize,
}

/// The HDU with the science pixels: DATA, SCI, or the first image that is not
/// known to be something else.
pub(super) fn science_hdu(fits: &Fits) -> Result<&Hdu> {
    const OTHERS: [&str; 16] = [
        "DQ",
        "DQ_HIGH",
        "ERR",
        "TIMES",
        "NSAMPLE",
        "PIXELDQ",
        "GROUPDQ",
        "ZEROFRAME",
        "VAR_POISSON",
        "VAR_RNOISE",
        "CHI2",
        "NREADS",
        "SUBARR_MAP",
        "WAVELENGTH",
        "REFOUT",
        "AVERAGE_DARK_CURRENT",
    ];
    let image = |h: &&Hdu| matches!(h.kind, HduKind::Image | HduKind::CompressedImage);
    let named = ["DATA", "SCI"].iter().find_map(|n| fits.hdu(n).filter(image));
    let found =
        named.or_else(|| fits.hdus.iter().find(|h| h.is_image() && !OTHERS.contains(&h.name.as_str())));
    let found = match found {
        Some(h) => h,
        // A cube or image whose only array has an axis of length 0.
        None => fits.hdus.iter().filter(image).find(|h| !h.shape.is_empty()).ok_or_else(|| {
            let names: Vec<_> = fits.hdus.iter().map(label).collect();
            let names = names.join(", ");
            fits.error("", format!("has no image: neither DATA nor SCI nor any other (HDUs: {names})"))
        })?,
    };
    if found.is_empty() {
        let zero = (1..).zip(found.shape.iter().rev()).find(|(_, n)| **n == 0);
        let which = zero.map_or("NAXIS = 0".to_owned(), |(n, _)| format!("NAXIS{n} = 0"));
        let message =
            format!("has no pixels ({which}): there is nothing to reduce; write the exposure again");
        return Err(fits.error(&label(found), message));
    }
    Ok(found)
}

/// The shape without leading axes of length 1 beyond the fourth.
pub(super) fn squeezed(hdu: &Hdu) -> &[usize] {
    let extra = hdu.shape.len().saturating_sub(4);
    let ones = hdu.shape.iter().take(extra).take_while(|&&n| n == 1).count();
    &hdu.shape[ones..]
}

/// Reads the meaning of a 3- or 4-D array's axes.
pub(super) fn recognise(fits: &Fits, hdu: &Hdu) -> Result<Layout> {
    match *squeezed(hdu) {
        [reads, ny, nx] => Ok(Layout { family: Family::Cube, ramps: 1, reads, ny, nx }),
        [a, b, c, d] => {
            let family = four_axes(fits, hdu, [a, b, c, d])?;
            let (ramps, reads, ny, nx) = if family == Family::Liger { (c, d, a, b) } else { (a, b, c, d) };
            Ok(Layout { family, ramps, reads, ny, nx })
        }
        ref other => Err(fits.error(
            &label(hdu),
            format!(
                "has {} axes ({}): a ramp has 4 (ramps, reads, ny, nx) or 3 (reads, ny, nx), a frame 2",
                other.len(),
                by(other)
            ),
        )),
    }
}

fn four_axes(fits: &Fits, hdu: &Hdu, [a, b, c, d]: [usize; 4]) -> Result<Family> {
    let header = fits.primary();
    if hdu.name == "SCI" {
        return Ok(Family::Jwst);
    }
    let Some(times) = fits.hdu("TIMES") else {
        if header.has("TGROUP") || hdu.header.has("TGROUP") {
            return Ok(Family::Jwst);
        }
        let keywords = (count(header, names("NGROUPS")), count(header, names("NREADS")));
        let liger = keywords == (Some(c), Some(d)) && keywords != (Some(a), Some(b));
        return Ok(if liger { Family::Liger } else { Family::Native });
    };
    let matches = |ramps: usize, reads: usize| match *times.shape.as_slice() {
        [r, n] => (r, n) == (ramps, reads),
        [n] => n == reads,
        _ => false,
    };
    let dq_of_every_read = fits.hdu("DQ").is_some_and(|dq| dq.shape == hdu.shape);
    match (matches(a, b), matches(c, d)) {
        (true, true) if dq_of_every_read => Ok(Family::Liger),
        (true, _) => Ok(Family::Native),
        (false, true) => Ok(Family::Liger),
        (false, false) => Err(fits.error(
            "TIMES",
            format!(
                "is {} but {} is {}: TIMES must have its two slow axes (native: ramps, reads, ny, nx) \
                 or its two fast ones (liger: ny, nx, ngroups, nreads); write TIMES as (ramps, reads)",
                by(&times.shape),
                label(hdu),
                by(&hdu.shape)
            ),
        )),
    }
}
