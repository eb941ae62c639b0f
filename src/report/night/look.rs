//! A product looked at: its keywords, its numbers, a thumbnail.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cube::{self, CubeView};
use crate::config::Instrument;
use crate::datamodel::dq;
use crate::error::Result;
use crate::fits::{Fits, Header, read_column};
use crate::pipeline::robust::clipped_median;
use crate::quicklook::show::{self, Content};
use crate::quicklook::stars::{self, Optics};
use crate::quicklook::{Measured, Plane, Shown};
use crate::report::picture::{self, Panel};

/// Longest side of a thumbnail, pixels: 17 kB at most.
const THUMBNAIL: usize = 128;

/// A product of the night.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name within the products' folder.
    pub file: String,
    /// DATALVL.
    pub level: i64,
    /// OBSNAME.
    pub obsname: String,
    /// REFTYPE of a master, else empty.
    pub reftype: String,
    /// OBJECT.
    pub object: String,
    /// DETECTOR.
    pub detector: String,
    /// FILTER.
    pub filter: String,
    /// GRATING.
    pub grating: String,
    /// Seconds a ramp.
    pub exptime: Option<f64>,
    /// MJD of the beginning.
    pub begin: Option<f64>,
    /// MJD of the end.
    pub end: Option<f64>,
    /// When it was written, UTC.
    pub made: String,
    /// DEVICE (or ENGINE).
    pub device: String,
    /// IGPLAN.
    pub plan: String,
    /// References by keyword's name (R_…): file names.
    pub references: BTreeMap<String, String>,
    /// What was measured.
    pub numbers: Numbers,
    /// Warnings of the run that made it.
    pub warnings: Vec<String>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
    /// Seconds from whole files to the first product, of a night that was watched.
    #[serde(default)]
    pub latency: Option<f64>,
    /// Whether a better calibration may still come, or it was made in quick mode (IGPRELIM).
    #[serde(default)]
    pub preliminary: bool,
    /// Why it could not be made again since; empty where it could.
    pub failed_since: String,
    /// `data:` address of a picture; empty without.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub thumbnail: String,
    /// What the page shows of a cube.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cube: Option<CubeView>,
}

/// Numbers of a product; none where it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Unit of background, noise and depth.
    pub unit: String,
    /// Clipped median.
    pub background: Option<f64>,
    /// σ of a pixel, from differences of neighbours; of a cube's voxel between the sky's lines.
    pub noise: Option<f64>,
    /// `noise` over what ERR says.
    pub noise_ratio: Option<f64>,
    /// Hits a second and 10⁶ pixels.
    pub hit_rate: Option<f64>,
    /// Pixels that saturated.
    pub saturated: Option<u64>,
    /// Share of pixels without a value.
    pub bad: Option<f64>,
    /// Median reduced χ² of the ramps, or that of the extraction.
    pub chi2: Option<f64>,
    /// FWHM of stars, pixels.
    pub fwhm: Option<f64>,
    /// The same, mas.
    pub fwhm_mas: Option<f64>,
    /// Strehl ratio; none above 1.
    pub strehl: Option<f64>,
    /// What it would be, where that is above 1: it is none.
    pub strehl_above_1: Option<f64>,
    /// Flux of a star at 5 σ; of a cube in one channel.
    pub depth: Option<f64>,
    /// Median rms of the wavelength solution, nm.
    pub wavelength_rms: Option<f64>,
    /// Shift of the traces, pixels.
    pub flexure: Option<f64>,
    /// Part of a spectrum's light that extraction gives to a dark neighbour: the largest.
    pub leak: Option<f64>,
    /// The same, the median.
    pub leak_median: Option<f64>,
}

impl Row {
    /// This row, with the numbers of `lower` where it has none.
    #[must_use]
    pub(super) fn over(&self, lower: &Row) -> Row {
        let mut row = self.clone();
        let (to, from) = (&mut row.numbers, &lower.numbers);
        to.chi2 = to.chi2.or(from.chi2);
        to.saturated = to.saturated.or(from.saturated);
        to.hit_rate = to.hit_rate.or(from.hit_rate);
        row
    }
}

/// Looks at a product; `None` where it is none. `lesser`: only for the fit's numbers.
pub(super) fn look(path: &Path, name: &str, lesser: bool, instrument: &Instrument) -> Result<Option<Row>> {
    let fits = Fits::open(path)?;
    let h = fits.primary();
    if !h.has("DRSVER") {
        return Ok(None);
    }
    let mut row = of_header(h, name);
    let n = &mut row.numbers;
    n.hit_rate = h.number("HITRATE");
    n.flexure = h.number("FLEXDY");
    n.leak = h.number("LEAK");
    n.leak_median = h.number("LEAKMED");
    n.chi2 = h.number("EXTCHI2");
    if let Some(hdu) = fits.hdu("CHI2").filter(|h| h.is_image()) {
        let mut values = fits.f32(hdu)?;
        values.retain(|v| v.is_finite() && *v > 0.0);
        n.chi2 = median(&mut values);
    }
    if let Some(hdu) = fits.hdu("DQ").filter(|h| h.is_image() && h.shape.len() == 2) {
        let flags = fits.u32(hdu)?;
        n.saturated = Some(flags.iter().filter(|f| **f & dq::SATURATED != 0).count() as u64);
    }
    if lesser {
        return Ok(Some(row));
    }
    if row.reftype == "LENSPX" {
        let rms = fits.hdus.iter().find_map(|hdu| read_column(&fits, hdu, "WAVERMS").ok());
        let mut values: Vec<f32> =
            rms.into_iter().flat_map(|(v, _)| v).filter(|v| *v > 0.0).map(|v| (1000.0 * v) as f32).collect();
        n.wavelength_rms = median(&mut values);
        row.thumbnail = picture(path, instrument, THUMBNAIL);
        return Ok(Some(row));
    }
    if !fits.hdu("DATA").is_some_and(|h| h.is_image()) {
        return Ok(Some(row));
    }
    let shown = Shown::open(path, None, instrument)?;
    n.unit.clone_from(&shown.unit);
    let science = row.obsname.ends_with("-SCI") || row.obsname.ends_with("-TEL");
    match &shown.content {
        Content::Image(plane) => {
            let optics = optics(&shown.header, instrument);
            image(n, &fits, plane, optics.as_ref().filter(|_| science), science)?;
            // Until a flat is divided out, the scatter of light is that of the pixels'
            // response as well: a sky of 30 e-/s in pixels that differ by 2 % has 0.6 e-/s of it.
            let dark = row.obsname.ends_with("-DRK") || row.reftype == "DARK";
            if !(dark || is_complete(&shown.header, "S_FLAT")) {
                n.noise_ratio = None;
            }
            row.thumbnail = thumbnail(plane);
        }
        Content::Cube(cube) => {
            let white = show::collapsed(cube, show::Collapse::Mean, 0..=cube.nw.saturating_sub(1));
            n.background = clipped_median(&white.values).map(|c| c.median);
            n.bad = Some(share_bad(&cube.data));
            let alone = !shown.header.number("DISPCORX").is_some_and(|c| c > 0.0);
            // The sky's own lines differ from channel to channel by more than noise.
            if science && alone && is_complete(&shown.header, "S_SKYSUB") {
                (n.noise, n.noise_ratio) = cube::noise(cube).unzip();
            }
            // Lenslets are too coarse for a Strehl ratio.
            if science && let Some(fwhm) = Measured::of(&white, None).and_then(|m| m.fwhm) {
                n.fwhm = Some(fwhm);
                n.fwhm_mas = show::pixel_scale(&shown.header).map(|scale| 1000.0 * scale * fwhm);
                n.depth = n.noise.map(|noise| stars::depth(noise, fwhm, 5.0));
            }
            row.thumbnail = thumbnail(&white);
            row.cube = science.then(|| cube::view(cube, &shown.unit));
        }
    }
    Ok(Some(row))
}

fn of_header(h: &Header, name: &str) -> Row {
    let text = |key: &str| h.text(key).filter(|t| t != "NONE").unwrap_or_default();
    let reference = |c: &crate::fits::Card| {
        let kind = c.keyword.strip_prefix("R_")?;
        Some((kind.to_owned(), h.text(&c.keyword).filter(|t| t.contains('.'))?))
    };
    Row {
        file: name.to_owned(),
        level: h.integer("DATALVL").unwrap_or(0),
        obsname: text("OBSNAME"),
        reftype: text("REFTYPE").to_ascii_uppercase(),
        object: text("OBJECT"),
        detector: text("DETECTOR"),
        filter: text("FILTER"),
        grating: text("GRATING"),
        exptime: h.number("EXPTIME"),
        begin: h.number("MJD-BEG"),
        end: h.number("MJD-END"),
        made: text("DATECRT"),
        device: h.text("DEVICE").or_else(|| h.text("ENGINE")).unwrap_or_default(),
        plan: text("IGPLAN"),
        preliminary: h.logical("IGPRELIM") == Some(true),
        references: h.cards().iter().filter_map(reference).collect(),
        ..Row::default()
    }
}

fn image(n: &mut Numbers, fits: &Fits, plane: &Plane, optics: Option<&Optics>, science: bool) -> Result<()> {
    let sample: Vec<f32> = plane.values.iter().copied().step_by((plane.values.len() >> 19) | 1).collect();
    n.background = clipped_median(&sample).map(|c| c.median);
    n.bad = Some(share_bad(&plane.values));
    // What varies slowly does not count.
    n.noise = stars::noise(&plane.values);
    let stride = (plane.values.len() >> 20) | 1;
    if let Some(hdu) = fits.hdu("ERR").filter(|h| h.is_image() && h.len() == plane.values.len()) {
        let err = fits.f32(hdu)?;
        let good = err.iter().zip(&plane.values).step_by(stride).filter(|(e, v)| v.is_finite() && **e > 0.0);
        let mut good: Vec<f32> = good.map(|(e, _)| *e).collect();
        n.noise_ratio = n.noise.zip(median(&mut good)).map(|(noise, expected)| noise / expected);
    }
    if science && let Some(m) = Measured::of(plane, optics) {
        (n.fwhm, n.depth) = (m.fwhm, m.depth);
        (n.strehl, n.strehl_above_1) = (m.strehl, m.strehl_above_1);
        n.fwhm_mas = optics.zip(m.fwhm).map(|(o, f)| 1000.0 * o.scale * f);
    }
    Ok(())
}

fn optics(header: &Header, instrument: &Instrument) -> Option<Optics> {
    let (pupil, scale) = (instrument.pupil?, show::pixel_scale(header)?);
    let wavelength = show::band_centre(header)?;
    Some(Optics { diameter: pupil.diameter, obstruction: pupil.obstruction, wavelength, scale })
}

fn is_complete(header: &Header, step: &str) -> bool {
    header.text(step).is_some_and(|s| s == "COMPLETE")
}

fn share_bad(values: &[f32]) -> f64 {
    values.iter().filter(|v| !v.is_finite()).count() as f64 / values.len().max(1) as f64
}

fn median(values: &mut [f32]) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| f64::from(*values.select_nth_unstable_by(n / 2, f32::total_cmp).1))
}

/// A product's picture, a cube's white light, `side` pixels long at most, as a `data:`
/// address; empty where it cannot be drawn.
pub(super) fn picture(path: &Path, instrument: &Instrument, side: usize) -> String {
    let Ok(shown) = Shown::open(path, None, instrument) else { return String::new() };
    match &shown.content {
        Content::Image(plane) => drawn(plane, side),
        Content::Cube(cube) => {
            drawn(&show::collapsed(cube, show::Collapse::Mean, 0..=cube.nw.saturating_sub(1)), side)
        }
    }
}

/// A small picture as a `data:` address; empty where it cannot be drawn.
pub(super) fn thumbnail(plane: &Plane) -> String {
    drawn(plane, THUMBNAIL)
}

fn drawn(plane: &Plane, side: usize) -> String {
    let panel = Panel::new(plane.nx, plane.values.clone()).fitted(side);
    picture::png(&[panel]).map_or_else(|_| String::new(), |b| format!("data:image/png;base64,{}", base64(&b)))
}

/// RFC 4648.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - part.len()));
        for k in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * k) & 63) as usize] as char;
            out.push(if k <= part.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_rfc_has_it() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_thumbnail_is_small_whatever_the_noise() {
        let values = (0..512u32 * 512).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32).collect();
        let text = thumbnail(&Plane { nx: 512, ny: 512, values });
        assert!(text.starts_with("data:image/png;base64,iVBOR") && text.len() < 25_000, "{}", text.len());
    }
}
