//! Files as planes and cubes, ready to be looked at: pixels that must not be used
//! (DO_NOT_USE in DQ) are without a value.

use std::ops::RangeInclusive;
use std::path::Path;

use rayon::prelude::*;

use crate::config::Instrument;
use crate::datamodel::{Cube, Meta, dq};
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, Header, read_column};
use crate::input::{self, OpenOptions, Ramp, Raw};

/// An image: (ny, nx), rows from below, NaN where there is no value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plane {
    /// Columns.
    pub nx: usize,
    /// Rows.
    pub ny: usize,
    /// Values.
    pub values: Vec<f32>,
}

/// What a file shows.
#[derive(Debug)]
pub enum Content {
    /// One image.
    Image(Plane),
    /// A cube.
    Cube(Cube),
}

/// What values mean.
#[derive(Debug)]
pub enum Meaning {
    /// Light: stars may stand in it.
    Light,
    /// Another number a pixel: an error, a χ², a reference, spectra on a detector.
    Number,
    /// Flags (these); shown as 1 where a pixel has any, 0 where it has none.
    Flags(Vec<u32>),
}

/// A file that is looked at.
#[derive(Debug)]
pub struct Shown {
    /// Its keywords, the science HDU's among them.
    pub header: Header,
    /// What is in it.
    pub content: Content,
    /// BUNIT in the usual short form.
    pub unit: String,
    /// What was made of it, in words; empty where it is shown as it is.
    pub made: &'static str,
    /// What its values mean.
    pub meaning: Meaning,
}

/// How channels become one plane, or spaxels one spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Collapse {
    /// Their mean.
    #[default]
    Mean,
    /// Their median.
    Median,
    /// Their sum.
    Sum,
}

impl Collapse {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Collapse::Mean => "mean",
            Collapse::Median => "median",
            Collapse::Sum => "sum",
        }
    }

    /// Of the finite values; NaN of none.
    pub fn of(self, values: impl Iterator<Item = f32>) -> f32 {
        let mut good: Vec<f32> = values.filter(|v| v.is_finite()).collect();
        let n = good.len();
        let sum = |good: &[f32]| good.iter().map(|v| f64::from(*v)).sum::<f64>();
        match self {
            _ if n == 0 => f32::NAN,
            Collapse::Sum => sum(&good) as f32,
            Collapse::Mean => (sum(&good) / n as f64) as f32,
            Collapse::Median => *good.select_nth_unstable_by(n / 2, f32::total_cmp).1,
        }
    }
}

impl Shown {
    /// Opens a product, a raw ramp (shown as its last read less its first, of the last
    /// ramp), or the image HDU `extension` of any FITS file.
    pub fn open(path: &Path, extension: Option<&str>, instrument: &Instrument) -> Result<Shown> {
        let fits = Fits::open(path)?;
        if let Some(name) = extension
            && !is_cube_of(&fits, name)
        {
            return of_hdu(&fits, name);
        }
        let unit = |header: &Header| short_unit(&header.text("BUNIT").unwrap_or_default());
        let named = ["DATA", "SCI"].iter().find_map(|n| fits.hdu(n).filter(|h| h.is_image()));
        if named.is_none()
            && let Some(map) = of_lattice(&fits)
        {
            return map;
        }
        let main = named.or_else(|| fits.hdus.iter().find(|h| h.is_image()));
        let axes = main.map_or(0, |h| h.shape.iter().filter(|n| **n > 1).count());
        let spectral = fits.hdu("WAVELENGTH").is_some()
            || main.is_some_and(|h| h.header.text("CTYPE3").is_some_and(|c| c.starts_with("WAVE")));
        if let Some(flags) = main.filter(|h| is_of_flags(h)) {
            return of_hdu(&fits, &flags.index.to_string());
        }
        if axes == 2 && main.is_some_and(|h| h.shape.len() < 4) {
            let (header, image) = input::read_image(path)?;
            let values = masked(image.data, &image.dq);
            let (unit, meaning) = (unit(&header), Meaning::of_detector(&header));
            let content = Content::Image(Plane { nx: image.nx, ny: image.ny, values });
            return Ok(Shown { header, content, unit, made: "", meaning });
        }
        if axes == 3 && spectral {
            let (header, mut cube) = input::read_cube(path)?;
            let (mut unit, mut made, mut meaning) = (unit(&header), "", Meaning::of(&header));
            let other = extension.and_then(|n| hdu_called(&fits, n));
            cube.data = match other.filter(|h| main.is_none_or(|main| h.index != main.index)) {
                Some(hdu) => {
                    let values;
                    (values, made, meaning) = of_pixels(&fits, hdu, 0, hdu.len(), meaning)?;
                    unit = short_unit(&hdu.header.text("BUNIT").unwrap_or_default());
                    values
                }
                None => masked(std::mem::take(&mut cube.data), &cube.dq),
            };
            return Ok(Shown { header, content: Content::Cube(cube), unit, made, meaning });
        }
        match input::open(path, instrument, &OpenOptions { read_time: Some(1.0), relabels: None })? {
            Raw::Ramp(ramp) => {
                let detector = instrument.detectors.get(&ramp.meta.detector);
                of_ramp(&ramp, detector.map_or(f32::INFINITY, |d| d.saturation as f32))
            }
            _ => Err(Error::input(
                path,
                "is neither an image, a cube nor a ramp; name an image with --extension",
            )),
        }
    }

    /// The image, or the cube's channels `channels` (all without) collapsed.
    pub fn plane(&self, how: Collapse, channels: Option<RangeInclusive<usize>>) -> Plane {
        match &self.content {
            Content::Image(plane) => plane.clone(),
            Content::Cube(cube) => collapsed(cube, how, channels.unwrap_or(0..=cube.nw.saturating_sub(1))),
        }
    }

    /// The cube, where it is one.
    pub fn cube(&self) -> Option<&Cube> {
        match &self.content {
            Content::Cube(cube) => Some(cube),
            Content::Image(_) => None,
        }
    }
}

/// Channels of a cube made one plane.
pub fn collapsed(cube: &Cube, how: Collapse, channels: RangeInclusive<usize>) -> Plane {
    let spaxels = cube.nx * cube.ny;
    let (first, last) = (*channels.start(), (*channels.end()).min(cube.nw.saturating_sub(1)));
    let value = |s: usize| how.of((first..=last).map(|w| cube.data[w * spaxels + s]));
    Plane { nx: cube.nx, ny: cube.ny, values: (0..spaxels).into_par_iter().map(value).collect() }
}

/// The spectrum of the spaxels within `radius` of (x, y), counted from 0.
pub fn spectrum(cube: &Cube, how: Collapse, x: f64, y: f64, radius: f64) -> Vec<f32> {
    let near = |s: &usize| ((s % cube.nx) as f64 - x).hypot((s / cube.nx) as f64 - y) <= radius.max(0.5);
    let spaxels: Vec<usize> = (0..cube.nx * cube.ny).filter(near).collect();
    let plane = |w: usize| &cube.data[w * cube.nx * cube.ny..][..cube.nx * cube.ny];
    (0..cube.nw).map(|w| how.of(spaxels.iter().map(|s| plane(w)[*s]))).collect()
}

/// The channel whose wavelength (µm) is nearest; `None` beyond the ends of the axis.
pub fn channel(cube: &Cube, wavelength: f64) -> Option<usize> {
    let (first, last) = (cube.wavelength.first()?, cube.wavelength.last()?);
    let step = (last - first).abs() / cube.nw.max(2) as f64;
    let (low, high) = (first.min(*last) - step, first.max(*last) + step);
    let distance = |k: &usize| (cube.wavelength[*k] - wavelength).abs();
    (low..=high)
        .contains(&wavelength)
        .then(|| (0..cube.nw).min_by(|a, b| distance(a).total_cmp(&distance(b))))?
}

fn masked(mut data: Vec<f32>, flags: &[u32]) -> Vec<f32> {
    data.iter_mut().zip(flags).filter(|(_, f)| *f & dq::DO_NOT_USE != 0).for_each(|(v, _)| *v = f32::NAN);
    data
}

/// What stands beside an image of light and is none.
const BESIDE: [&str; 9] =
    ["ERR", "CHI2", "NREADS", "NSAMPLE", "WAVELENGTH", "COVAR", "CORREL", "PEDESTAL", "COV_PEDESTAL"];

fn is_of_flags(hdu: &Hdu) -> bool {
    ["DQ", "DQ_HIGH", "PIXELDQ", "GROUPDQ"].iter().any(|n| hdu.name.eq_ignore_ascii_case(n))
}

impl Meaning {
    /// Of the image of a file with this header: references are none of the sky, but for a
    /// sky.
    fn of(header: &Header) -> Meaning {
        let reftype = header.text("REFTYPE").unwrap_or_default().to_ascii_uppercase();
        if ["", "NONE", "N/A", "SKY"].contains(&reftype.as_str()) { Meaning::Light } else { Meaning::Number }
    }

    /// Of an image on a detector: that of the spectrograph holds spectra.
    fn of_detector(header: &Header) -> Meaning {
        if Meta::from_header(header).detector == "IFU" { Meaning::Number } else { Meaning::of(header) }
    }
}

/// The HDU of a name or number.
fn hdu_called<'a>(fits: &'a Fits, name: &str) -> Option<&'a Hdu> {
    name.parse::<usize>().map_or_else(|_| fits.hdu(name), |n| fits.hdus.get(n))
}

/// Whether an HDU has a value for every voxel of the file's cube.
fn is_cube_of(fits: &Fits, name: &str) -> bool {
    let data = ["DATA", "SCI"].iter().find_map(|n| fits.hdu(n));
    let shape = data.map_or(&[][..], |h| &h.shape);
    let same = hdu_called(fits, name).is_some_and(|h| h.is_image() && h.shape == shape);
    shape.len() == 3 && fits.hdu("WAVELENGTH").is_some() && same
}

fn of_hdu(fits: &Fits, name: &str) -> Result<Shown> {
    let hdu = match name.parse::<usize>() {
        Ok(n) => fits.hdus.get(n).ok_or_else(|| fits.error("", format!("has no HDU number {n}")))?,
        Err(_) => fits.require(&[name])?,
    };
    let [ref ones @ .., ny, nx] = *hdu.shape.as_slice() else {
        return Err(fits.error(&hdu.name, "has fewer than two axes: it is no image"));
    };
    if !hdu.is_image() {
        return Err(fits.error(&hdu.name, "is a table, not an image"));
    }
    // Of a stack, the last plane.
    let last = ones.iter().product::<usize>() - 1;
    let meaning = Meaning::of(fits.primary());
    let (values, flagged, meaning) = of_pixels(fits, hdu, last * ny * nx, ny * nx, meaning)?;
    let mut header = fits.primary().clone();
    hdu.header
        .cards()
        .iter()
        .filter(|c| c.value.is_some() && !header.has(&c.keyword))
        .cloned()
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|card| header.push(card));
    let unit = short_unit(&hdu.header.text("BUNIT").unwrap_or_default());
    let made = if last > 0 { "last plane" } else { flagged };
    Ok(Shown { header, content: Content::Image(Plane { nx, ny, values }), unit, made, meaning })
}

/// Pixels of an image, how they are shown, and what they mean: of flags, whether there are
/// any. `main` is what the file's own image means.
fn of_pixels(
    fits: &Fits,
    hdu: &Hdu,
    first: usize,
    n: usize,
    main: Meaning,
) -> Result<(Vec<f32>, &'static str, Meaning)> {
    if !is_of_flags(hdu) {
        let name = hdu.name.to_ascii_uppercase();
        let beside = BESIDE.contains(&name.as_str()) || name.starts_with("VAR_");
        let meaning = if beside { Meaning::Number } else { main };
        return Ok((fits.pixels_f32(hdu, first, n)?, "", meaning));
    }
    let mut flags = fits.pixels_u32(hdu, first, n)?;
    if hdu.name.eq_ignore_ascii_case("DQ_HIGH") {
        flags.iter_mut().for_each(|f| *f <<= 16);
    }
    let values = flags.iter().map(|f| f32::from(u8::from(*f != 0))).collect();
    Ok((values, "1 where there is a flag, else 0", Meaning::Flags(flags)))
}

/// A calibration that has numbers a lenslet and no image: one of them at each lenslet's
/// place in the field. `None` of any other file.
fn of_lattice(fits: &Fits) -> Option<Result<Shown>> {
    const MAPS: [(&str, &str, &str, &str); 2] = [
        ("LENSLETS", "THRU", "", "throughput of each lenslet (THRU) at IX, IY"),
        ("SPAXELS", "WAVERMS", "um", "rms of each spaxel's lines (WAVERMS) at IX, IY"),
    ];
    let (table, column, unit, made) =
        MAPS.into_iter().find(|m| fits.hdu(m.0).is_some_and(|h| !h.is_image()))?;
    Some(lattice(fits, table, column).map(|plane| Shown {
        header: fits.primary().clone(),
        content: Content::Image(plane),
        unit: unit.into(),
        made,
        meaning: Meaning::Number,
    }))
}

fn lattice(fits: &Fits, table: &str, column: &str) -> Result<Plane> {
    /// More lenslets along an axis than any instrument has.
    const MOST: f64 = 4096.0;
    let hdu = fits.require(&[table])?;
    let read = |name: &str| read_column(fits, hdu, name).map(|(values, _)| values);
    let (x, y, values, flags) = (read("IX")?, read("IY")?, read(column)?, read("DQ")?);
    let size = |places: &[f64]| places.iter().copied().fold(-1.0, f64::max) + 1.0;
    let (nx, ny) = (size(&x), size(&y));
    let inside = |places: &[f64]| !places.is_empty() && places.iter().all(|p| (0.0..MOST).contains(p));
    if !(inside(&x) && inside(&y)) {
        return Err(fits.error(table, format!("IX and IY must lie from 0 to {}", MOST - 1.0)));
    }
    let (nx, ny) = (nx as usize, ny as usize);
    let mut plane = Plane { nx, ny, values: vec![f32::NAN; nx * ny] };
    for (((x, y), value), flags) in x.iter().zip(&y).zip(&values).zip(&flags) {
        if *flags as i64 & i64::from(dq::DO_NOT_USE) == 0 {
            plane.values[*y as usize * nx + *x as usize] = *value as f32;
        }
    }
    Ok(plane)
}

/// The last read less the first of the last ramp, DN; a read alone as it is.
/// Pixels whose last read is at `saturation` (DN) have no value: what they lack is not known.
fn of_ramp(ramp: &Ramp, saturation: f32) -> Result<Shown> {
    let planes = ramp.ramps * ramp.reads;
    let (first, last) = (planes - ramp.reads, planes - 1);
    let kept: Vec<bool> = (0..planes).map(|i| i == first || i == last).collect();
    let two = ramp.reads > 1;
    let ramp = ramp.select(&kept, false)?;
    let (nx, ny) = (ramp.nx, ramp.ny);
    let mut bytes = vec![0; ramp.chunk_bytes(ny)];
    ramp.read_rows(0..ny, &mut bytes)?;
    let all = ramp.encoding.decode(&bytes);
    let strides = ramp.strides(ny);
    let value = |i: usize| {
        let at = i / nx * strides.y + i % nx * strides.x;
        let last = if two { all[at + strides.read] } else { all[at] };
        match last {
            last if last >= saturation => f32::NAN,
            last if two => last - all[at],
            last => last,
        }
    };
    let values: Vec<f32> = (0..nx * ny).map(value).collect();
    let values = ramp.pixeldq.as_ref().map_or(values.clone(), |flags| masked(values, flags));
    let made = if two { "last read less first, saturated pixels left out" } else { "the only read" };
    let header = ramp.header.clone();
    let (content, meaning) = (Content::Image(Plane { nx, ny, values }), Meaning::of_detector(&header));
    Ok(Shown { header, content, unit: "DN".into(), made, meaning })
}

/// `e-/s` for FITS's ways to say it.
fn short_unit(unit: &str) -> String {
    match unit {
        "electron s-1" | "electron/s" => "e-/s".into(),
        "adu s-1" => "DN/s".into(),
        "adu" => "DN".into(),
        other => other.to_owned(),
    }
}

/// Where north and east are in a picture: degrees counter-clockwise from right (+x), from
/// the header's CD or PC matrix; `None` without celestial coordinates.
pub fn north_and_east(header: &Header) -> Option<[f64; 2]> {
    let n = |key: &str| header.number(key);
    let celestial = |axis: &str, what: &str| header.text(axis).is_some_and(|t| t.starts_with(what));
    if !(celestial("CTYPE1", "RA") && celestial("CTYPE2", "DEC")) {
        return None;
    }
    let cd = matrix(header)?;
    let det = cd[0] * cd[3] - cd[1] * cd[2];
    if det == 0.0 || n("CRVAL1").is_none() {
        return None;
    }
    // Pixels of a step north (0, 1) and east (1, 0) on the sky.
    let north = (cd[0] / det).atan2(-cd[1] / det);
    let east = (-cd[2] / det).atan2(cd[3] / det);
    Some([north.to_degrees(), east.to_degrees()])
}

/// CD1_1, CD1_2, CD2_1, CD2_2, degrees.
fn matrix(header: &Header) -> Option<[f64; 4]> {
    let n = |key: &str| header.number(key);
    if n("CD1_1").is_some() || n("CD2_2").is_some() {
        return Some(["CD1_1", "CD1_2", "CD2_1", "CD2_2"].map(|k| n(k).unwrap_or(0.0)));
    }
    let (dx, dy) = (n("CDELT1")?, n("CDELT2")?);
    let pc = |key: &str, one: f64| n(key).unwrap_or(one);
    Some([dx * pc("PC1_1", 1.0), dx * pc("PC1_2", 0.0), dy * pc("PC2_1", 0.0), dy * pc("PC2_2", 1.0)])
}

/// Arcsec a pixel, from the matrix, else SCALE.
pub fn pixel_scale(header: &Header) -> Option<f64> {
    let of_matrix = matrix(header).map(|[a, b, c, d]| (a * d - b * c).abs().sqrt() * 3600.0);
    of_matrix.or_else(|| header.number("SCALE")).filter(|s| *s > 0.0 && s.is_finite())
}

/// µm in the middle of the band: WAVECEN (or FILTWAVE), else that of the letter with which
/// FILTER begins (Z, Y, J, H, K: the atmosphere's windows).
pub fn band_centre(header: &Header) -> Option<f64> {
    let said = ["WAVECEN", "FILTWAVE"].iter().find_map(|k| header.number(k)).filter(|w| *w > 0.0);
    let said = said.map(|w| if w > 100.0 { w * 1e-3 } else { w });
    said.or_else(|| match header.text("FILTER")?.to_ascii_uppercase().chars().next()? {
        'Z' => Some(0.93),
        'Y' => Some(1.03),
        'J' => Some(1.25),
        'H' => Some(1.64),
        'K' => Some(2.2),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_are_collapsed_without_what_is_bad() {
        let data = vec![1.0, f32::NAN, 3.0, 4.0, 5.0, f32::NAN];
        let cube = Cube { nx: 2, ny: 1, nw: 3, data, wavelength: vec![2.0, 2.1, 2.2], ..Cube::default() };
        assert_eq!(collapsed(&cube, Collapse::Mean, 0..=2).values, [3.0, 4.0]);
        assert_eq!(collapsed(&cube, Collapse::Sum, 1..=9).values, [8.0, 4.0]);
        assert_eq!(collapsed(&cube, Collapse::Median, 0..=2).values[0], 3.0);
        assert!(collapsed(&cube, Collapse::Mean, 0..=0).values[1].is_nan());
        assert_eq!(spectrum(&cube, Collapse::Mean, 0.0, 0.0, 0.0), [1.0, 3.0, 5.0]);
        assert_eq!(spectrum(&cube, Collapse::Sum, 0.0, 0.0, 5.0), [1.0, 7.0, 5.0]);
        assert_eq!((channel(&cube, 2.11), channel(&cube, 3.0)), (Some(1), None));
    }

    #[test]
    fn north_is_where_the_matrix_says() {
        let mut h = Header::new();
        h.set("CTYPE1", "RA---TAN", "");
        h.set("CTYPE2", "DEC--TAN", "");
        h.set("CRVAL1", 10.0, "");
        h.set("CDELT1", -1e-6, "");
        h.set("CDELT2", 1e-6, "");
        let [north, east] = north_and_east(&h).expect("celestial");
        assert!((north - 90.0).abs() < 1e-9 && (east.abs() - 180.0).abs() < 1e-9);
        // Turned by 25°: north leans to the left.
        let (s, c) = 25f64.to_radians().sin_cos();
        for (key, v) in [("PC1_1", c), ("PC1_2", -s), ("PC2_1", s), ("PC2_2", c)] {
            h.set(key, v, "");
        }
        let [north, _] = north_and_east(&h).expect("celestial");
        assert!(((north - 90.0).abs() - 25.0).abs() < 1e-9, "{north}");
        assert!((pixel_scale(&h).expect("scale") - 0.0036).abs() < 1e-9);
    }
}
