//! World coordinates from what a header holds.
//!
//! 1. A **full WCS** (CTYPE1/2 celestial, CRPIX, CRVAL, and CD or CDELT) in the
//!    image's own header, else in the primary one, is used as it is.
//! 2. Otherwise a tangent-plane (TAN) one is built from the **pointing**:
//!
//! | keyword | meaning |
//! |---|---|
//! | RA, DEC | pointing, degrees, or text `hh:mm:ss`, `±dd:mm:ss`; ICRS |
//! | PA (else ROLL_REF, else 0 with a warning) | angle of the detector's +y axis, degrees east of north |
//! | SCALE (else the instrument file) | arcsec a pixel or spaxel |
//! | RAOFF, DECOFF | arcsec on the sky (east, north) by which the telescope stood off (RA, DEC) |
//!
//! and from the instrument file the parity and where the detector's centre lies in
//! the focal plane. With u, v the distances in arcsec along x and y from the
//! pointing, p the parity (+1: east to the right when north is up) and θ the PA:
//!
//! ```text
//! ξ =  p cosθ u + sinθ v      (east)
//! η = −p sinθ u + cosθ v      (north)
//! ```
//!
//! CRVAL is the pointing; CRPIX, 1-based, is where it falls, perhaps off the
//! detector. A subarray moves CRPIX by its start. Projection after Calabretta &
//! Greisen 2002 (A&A 395, 1077, §5.1.3).

use crate::config::Instrument;
use crate::datamodel::{Meta, is_wcs_keyword};
use crate::error::{Error, Result};
use crate::fits::{Header, Value};

/// A gnomonic projection: what the tests and the cards are made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tan {
    /// Reference pixel, 1-based (x, y).
    pub crpix: [f64; 2],
    /// Sky at the reference pixel, degrees (RA, Dec).
    pub crval: [f64; 2],
    /// Degrees a pixel along x (sign: parity) and y.
    pub cdelt: [f64; 2],
    /// PC matrix.
    pub pc: [[f64; 2]; 2],
}

/// World coordinates found for a product.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Cards for the DATA, ERR and DQ headers.
    pub cards: Header,
    /// The projection, where it was built here.
    pub tan: Option<Tan>,
    /// Where it came from: `header` or `pointing`.
    pub origin: &'static str,
    /// What the user should know, as sentences.
    pub warnings: Vec<String>,
}

/// What the coordinates are for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grid {
    /// A detector image of (ny, nx).
    Detector(usize, usize),
    /// A spaxel grid of (ny, nx); channel 1 has the wavelength `first` (µm), the
    /// channels are `step` apart.
    Cube {
        /// Rows.
        ny: usize,
        /// Columns.
        nx: usize,
        /// Wavelength of the first channel's centre, vacuum µm.
        first: f64,
        /// Channel width, µm.
        step: f64,
    },
}

/// Finds the coordinates. `data` is the header of the HDU that held the pixels.
/// `None` where the headers do not say where the telescope looked.
pub fn assign(
    primary: &Header,
    data: Option<&Header>,
    instrument: &Instrument,
    grid: Grid,
) -> Result<Option<Solution>> {
    let cube = matches!(grid, Grid::Cube { .. });
    for header in data.into_iter().chain([primary]) {
        // A detector's WCS says nothing about a cube's spaxels.
        if is_full(header) && header.has("CTYPE3") == cube {
            let cards = copied(header);
            return Ok(Some(Solution { cards, tan: None, origin: "header", warnings: vec![] }));
        }
    }
    let mut warnings = Vec::new();
    let Some(pointing) = pointing(primary)? else { return Ok(None) };
    let (angle, warning) = position_angle(primary);
    warnings.extend(warning);
    let meta = Meta::from_header(primary);
    let tan = match grid {
        Grid::Detector(ny, nx) => {
            let scale = meta.scale.unwrap_or(instrument.imager.plate_scale);
            let centre = detector_centre(primary, &meta, instrument, ny, nx);
            let offset = instrument.imager.offsets.get(&meta.detector).copied().unwrap_or([0.0, 0.0]);
            Tan::build(pointing, angle, scale, instrument.imager.parity, centre, offset)?
        }
        Grid::Cube { ny, nx, .. } => {
            let scale = meta.scale.unwrap_or(instrument.lenslet.spaxel_scale);
            let centre = [(nx as f64 + 1.0) / 2.0, (ny as f64 + 1.0) / 2.0];
            Tan::build(pointing, angle, scale, instrument.lenslet.parity, centre, [0.0, 0.0])?
        }
    };
    let cards = match grid {
        Grid::Detector(..) => tan.cards(),
        Grid::Cube { first, step, .. } => tan.cube_cards(first, step),
    };
    Ok(Some(Solution { cards, tan: Some(tan), origin: "pointing", warnings }))
}

/// Detector centre in the pixels of the frame, 1-based.
fn detector_centre(h: &Header, meta: &Meta, instrument: &Instrument, ny: usize, nx: usize) -> [f64; 2] {
    let whole = matches!(meta.subarray.as_str(), "" | "FULL" | "N/A");
    if whole {
        return [(nx as f64 + 1.0) / 2.0, (ny as f64 + 1.0) / 2.0];
    }
    let full = instrument.detectors.get(&meta.detector).map_or([nx, ny], |d| d.size);
    let size = |key: &str, known: usize| h.number(key).filter(|v| *v > 0.0).unwrap_or(known as f64);
    let (width, height) = (size("DETXSIZE", full[0]), size("DETYSIZE", full[1]));
    let start = [meta.substart.0 as f64 - 1.0, meta.substart.1 as f64 - 1.0];
    [(width + 1.0) / 2.0 - start[0], (height + 1.0) / 2.0 - start[1]]
}

/// Where the telescope looked, degrees; `None` where the header does not say.
pub(super) fn pointing(h: &Header) -> Result<Option<[f64; 2]>> {
    let angle = |keyword: &str, hours: f64| -> Result<Option<f64>> {
        if !h.has(keyword) {
            return Ok(None);
        }
        let text = h.text(keyword).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        h.number(keyword).or_else(|| sexagesimal(&text).map(|v| v * hours)).map(Some).ok_or_else(|| {
            Error::Usage(format!(
                "{keyword} = '{text}' is no angle: degrees, or sexagesimal text like '05:34:32.0', are understood"
            ))
        })
    };
    let (Some(ra), Some(dec)) = (angle("RA", 15.0)?, angle("DEC", 1.0)?) else { return Ok(None) };
    if dec.abs() > 90.0 {
        return Err(Error::Usage(format!("DEC = {dec} degrees is beyond the pole")));
    }
    let offset = ["RAOFF", "DECOFF"].map(|k| h.number(k).unwrap_or(0.0) / 3600.0);
    Ok(Some(if offset == [0.0, 0.0] { [ra.rem_euclid(360.0), dec] } else { deproject([ra, dec], offset) }))
}

fn position_angle(h: &Header) -> (f64, Option<String>) {
    match ["PA", "ROLL_REF"].iter().find_map(|k| h.number(k)) {
        Some(angle) => (angle, None),
        None => {
            (0.0, Some("neither PA nor ROLL_REF is in the header: the WCS assumes north along +y".into()))
        }
    }
}

/// `hh:mm:ss.s` or `±dd mm ss.s` as a number of its first unit.
pub fn sexagesimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = rest.split([':', ' ']).filter(|p| !p.is_empty()).collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let mut value = 0.0;
    for (part, unit) in parts.iter().zip([1.0, 60.0, 3600.0]) {
        if !part.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let number: f64 = part.parse().ok()?;
        if unit > 1.0 && number >= 60.0 {
            return None;
        }
        value += number / unit;
    }
    Some(sign * value)
}

/// The sky at (ξ, η) degrees east and north of `centre` on the tangent plane.
fn deproject(centre: [f64; 2], plane: [f64; 2]) -> [f64; 2] {
    let [xi, eta] = plane.map(f64::to_radians);
    let (sin0, cos0) = centre[1].to_radians().sin_cos();
    let across = cos0 - eta * sin0;
    let ra = centre[0] + xi.atan2(across).to_degrees();
    let dec = (sin0 + eta * cos0).atan2(xi.hypot(across)).to_degrees();
    [ra.rem_euclid(360.0), dec]
}

impl Tan {
    /// From the pointing (degrees), PA `angle` (degrees), arcsec a pixel, parity,
    /// the detector centre's pixel and its offset from the pointing (arcsec east and
    /// north at PA 0).
    pub fn build(
        pointing: [f64; 2],
        angle: f64,
        scale: f64,
        parity: f64,
        centre: [f64; 2],
        offset: [f64; 2],
    ) -> Result<Tan> {
        if !(scale > 0.0 && scale.is_finite() && angle.is_finite()) {
            return Err(Error::Usage(format!("SCALE = {scale} arcsec and PA = {angle} degrees give no WCS")));
        }
        let p = parity.signum();
        // `cos` of a right angle is 6e-17: the header should say 0.
        let tidy = |v: f64| if v.abs() < 1e-15 { 0.0 } else { v };
        let (sin, cos) = angle.rem_euclid(360.0).to_radians().sin_cos();
        let (sin, cos) = (tidy(sin), tidy(cos));
        Ok(Tan {
            crpix: [centre[0] - p * offset[0] / scale, centre[1] - offset[1] / scale],
            crval: pointing,
            cdelt: [p * scale / 3600.0, scale / 3600.0],
            pc: [[cos, p * sin], [tidy(-p * sin), cos]],
        })
    }

    /// The gnomonic projection that a header holds, without distortion; `None` of
    /// another one.
    pub fn of(h: &Header) -> Option<Tan> {
        let gnomonic = |axis: &str, ctype: &str| h.text(axis).is_some_and(|t| t.starts_with(ctype));
        if !(gnomonic("CTYPE1", "RA---TAN") && gnomonic("CTYPE2", "DEC--TAN")) {
            return None;
        }
        let pair = |a: &str, b: &str| Some([h.number(a)?, h.number(b)?]);
        let matrix = |name: &str, diagonal: f64| {
            let element = |i: usize, j: usize| {
                let default = if i == j { diagonal } else { 0.0 };
                h.number(&format!("{name}{i}_{j}")).unwrap_or(default)
            };
            [[element(1, 1), element(1, 2)], [element(2, 1), element(2, 2)]]
        };
        let cd = h.has("CD1_1") || h.has("CD1_2");
        let cdelt = if cd { [1.0; 2] } else { pair("CDELT1", "CDELT2")? };
        let pc = if cd { matrix("CD", 0.0) } else { matrix("PC", 1.0) };
        Some(Tan { crpix: pair("CRPIX1", "CRPIX2")?, crval: pair("CRVAL1", "CRVAL2")?, cdelt, pc })
    }

    /// Sky (degrees) of a 1-based pixel.
    pub fn sky(&self, pixel: [f64; 2]) -> [f64; 2] {
        let d = [pixel[0] - self.crpix[0], pixel[1] - self.crpix[1]];
        let plane = [0, 1].map(|i| self.cdelt[i] * (self.pc[i][0] * d[0] + self.pc[i][1] * d[1]));
        deproject(self.crval, plane)
    }

    /// 1-based pixel of a sky position (degrees); `None` on the far side of the sky.
    pub fn pixel(&self, sky: [f64; 2]) -> Option<[f64; 2]> {
        let (sin0, cos0) = self.crval[1].to_radians().sin_cos();
        let (sin, cos) = sky[1].to_radians().sin_cos();
        let (sin_ra, cos_ra) = (sky[0] - self.crval[0]).to_radians().sin_cos();
        let depth = sin * sin0 + cos * cos0 * cos_ra;
        if depth <= 0.0 {
            return None;
        }
        let xi = (cos * sin_ra / depth).to_degrees() / self.cdelt[0];
        let eta = ((sin * cos0 - cos * sin0 * cos_ra) / depth).to_degrees() / self.cdelt[1];
        let [[a, b], [c, d]] = self.pc;
        let determinant = a * d - b * c;
        Some([
            self.crpix[0] + (d * xi - b * eta) / determinant,
            self.crpix[1] + (a * eta - c * xi) / determinant,
        ])
    }

    /// Cards of the two celestial axes.
    pub fn cards(&self) -> Header {
        self.header(2)
    }

    /// Cards of a cube: the celestial axes, and the wavelength of channel 1 and the
    /// channels' width (vacuum µm) on axis 3.
    pub fn cube_cards(&self, first: f64, step: f64) -> Header {
        let mut h = self.header(3);
        h.set("CTYPE3", "WAVE", "vacuum wavelength");
        h.set("CUNIT3", "um", "");
        h.set("CRPIX3", 1.0, "");
        h.set("CRVAL3", first, "");
        h.set("CDELT3", step, "");
        h.set("PC3_3", 1.0, "");
        h.set("SPECSYS", "TOPOCENT", "no velocity correction");
        h.set("SSYSOBS", "TOPOCENT", "what does not change during the exposure");
        h
    }

    fn header(&self, axes: usize) -> Header {
        let mut h = Header::new();
        h.set("WCSAXES", axes, "number of world axes");
        for i in [0, 1] {
            let n = i + 1;
            h.set(&format!("CTYPE{n}"), ["RA---TAN", "DEC--TAN"][i], "gnomonic projection");
            h.set(&format!("CUNIT{n}"), "deg", "");
            h.set(&format!("CRPIX{n}"), self.crpix[i], "reference pixel (1-based)");
            h.set(&format!("CRVAL{n}"), self.crval[i], "sky at the reference pixel");
            h.set(&format!("CDELT{n}"), self.cdelt[i], "degrees a pixel");
            for j in [0, 1] {
                h.set(&format!("PC{n}_{}", j + 1), self.pc[i][j], "");
            }
        }
        h.set("RADESYS", "ICRS", "");
        h
    }
}

/// Whether a header holds a full celestial WCS on axes 1 and 2.
fn is_full(h: &Header) -> bool {
    let celestial = |axis: u32, prefixes: [&str; 2]| {
        let ctype = h.text(&format!("CTYPE{axis}")).unwrap_or_default();
        prefixes.iter().any(|p| ctype.starts_with(p) && ctype.len() == 8)
    };
    let number = |names: [&str; 2]| names.iter().all(|k| h.number(k).is_some());
    let matrix =
        |a: &str, b: &str| h.number(a).is_some_and(|v| v != 0.0) || h.number(b).is_some_and(|v| v != 0.0);
    celestial(1, ["RA--", "DEC-"])
        && celestial(2, ["DEC-", "RA--"])
        && number(["CRPIX1", "CRPIX2"])
        && number(["CRVAL1", "CRVAL2"])
        && ((matrix("CD1_1", "CD1_2") && matrix("CD2_1", "CD2_2"))
            || (matrix("CDELT1", "CDELT1") && matrix("CDELT2", "CDELT2")))
}

/// The WCS cards of a header, RADECSYS under its present name.
fn copied(header: &Header) -> Header {
    let mut out = Header::new();
    for card in header.cards().iter().filter(|c| is_wcs_keyword(&c.keyword)) {
        let keyword = if card.keyword == "RADECSYS" { "RADESYS" } else { card.keyword.as_str() };
        // A WCS with both matrices is against the standard; CD says it all.
        let redundant = header.has("CD1_1") && (keyword.starts_with("PC") || keyword.starts_with("CDELT"));
        match &card.value {
            Some(value) if !redundant && !matches!(value, Value::Undefined | Value::Other(_)) => {
                out.set_default(keyword, value.clone(), &card.comment);
            }
            _ => {}
        }
    }
    out.set_default("RADESYS", "ICRS", "");
    out
}

#[cfg(test)]
#[path = "wcs_tests.rs"]
mod tests;
