//! Lenslet jobs: the calibration from scans and arcs, and cubes.

use std::path::Path;

use super::exposure::Level1;
use super::extract::Spectra;
use super::job::Job;
use super::lenspx::{self, Arc, LensCal, Mode, Scan};
use super::{cube, extract};
use crate::config::{CubeBuild, Extract, Step};
use crate::datamodel::{Cube, Meta, Rate, dq};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};

/// What a calibration frame shows.
enum Light {
    /// White light through the lenslet column of this number.
    White(i32),
    /// Lines of these wavelengths, vacuum µm.
    Lines(Vec<f64>),
}

fn light(header: &Header, meta: &Meta, path: &Path) -> Result<Light> {
    let kind = header.text("SPXTYPE").unwrap_or_default().to_ascii_uppercase();
    let lines: Vec<f64> = match header.number("SPXWAVE") {
        Some(w) => vec![w],
        None => (1..).map_while(|n| header.number(&format!("SPXWAV{n}"))).collect(),
    };
    let column = header.integer("LENSCOL").and_then(|c| i32::try_from(c).ok());
    match (kind.as_str(), column) {
        ("WHITE", Some(column)) => Ok(Light::White(column)),
        ("WHITE", None) => {
            Err(Error::input(path, "LENSCOL (the lit lenslet column) is missing from a white-light scan"))
        }
        ("", Some(column)) if lines.is_empty() => Ok(Light::White(column)),
        _ if !lines.is_empty() => Ok(Light::Lines(lines)),
        _ => Err(Error::input(
            path,
            format!(
                "says neither which lenslet column is lit (SPXTYPE = WHITE, LENSCOL) nor which lines it shows \
                 (SPXWAVE, or SPXWAV1 …, vacuum um; IMTYPE is {})",
                meta.imtype
            ),
        )),
    }
}

/// Builds the calibration from dark-subtracted frames.
pub(super) fn calibrate(job: &Job, frames: Vec<Level1>, engine: &mut dyn Engine) -> Result<LensCal> {
    let (mut scans, mut arcs) = (Vec::new(), Vec::new());
    let mut mode: Option<Mode> = None;
    for (frame, path) in frames.into_iter().zip(&job.inputs) {
        let its = mode_of(job, &frame.meta, &frame.rate);
        match &mode {
            None => mode = Some(its),
            Some(m) if *m == its => {}
            Some(m) => {
                return Err(Error::input(
                    path,
                    format!("is of another mode ({its:?}) than the frames before it ({m:?})"),
                ));
            }
        }
        match light(&frame.header, &frame.meta, path)? {
            Light::White(lenscol) => scans.push(Scan { lenscol, rate: frame.rate }),
            Light::Lines(wavelengths) => arcs.push(Arc { wavelengths, rate: frame.rate }),
        }
    }
    let mode = mode.ok_or_else(|| Error::Unsolvable("no frames to make a LEN-SPX calibration of".into()))?;
    let mut params = lenspx::Params::default();
    if let Some(step) = job.recipe.active(|s| if let Step::Wavecal(w) = s { Some(w) } else { None }) {
        params.wave_degree = step.degree as usize;
    }
    lenspx::build(engine, &scans, &arcs, &mode, &params)
}

fn mode_of(job: &Job, meta: &Meta, rate: &Rate) -> Mode {
    Mode::of(meta, rate.nx, rate.ny, job.instrument.lenslet.spaxel_scale)
}

/// The job's calibration.
pub(super) fn calibration(job: &Job) -> Result<LensCal> {
    let path = job.references.get("lenspx").ok_or_else(|| {
        Error::reference("lenspx", "extraction needs a LEN-SPX calibration: give --override_lenspx=FILE")
    })?;
    LensCal::load(path)
}

/// Extracts a frame, refused where the calibration is of another mode; notes χ² in its
/// header.
pub(super) fn spectra(
    job: &Job,
    level1: &mut Level1,
    cal: &LensCal,
    step: &Extract,
    engine: &mut dyn Engine,
) -> Result<Spectra> {
    cal.check(&mode_of(job, &level1.meta, &level1.rate))?;
    let spectra = extract::extract(engine, &level1.rate, cal, step)?;
    let h = &mut level1.header;
    h.set("EXTCHI2", (spectra.reduced_chi2 * 1e5).round() / 1e5, "reduced chi-squared of the extraction");
    h.set("EXTREJ", spectra.rejected as i64, "detector pixels rejected as outliers");
    if let Some(flexure) = &spectra.flexure {
        let [dy, by_x, by_y, width, along, across] = flexure.value;
        let rounded = |v: f64| (v * 1e6).round() / 1e6;
        h.set("FLEXDY", rounded(dy), "shift of the traces from the calibration, rows");
        h.set("FLEXDYX", rounded(by_x), "its change from the middle to the last column");
        h.set("FLEXDYY", rounded(by_y), "its change from the middle to the last row");
        h.set("FLEXWID", rounded(1.0 + width), "width of the PSF over the calibration's");
        h.set("FLEXSKX", rounded(along), "skewness beyond the calibration's, columns^3");
        h.set("FLEXSKY", rounded(across), "skewness beyond the calibration's, rows^3");
    }
    Ok(spectra)
}

/// Reads the spectra that `extract` left in a file.
pub(super) fn read_spectra(path: &Path) -> Result<(Header, Spectra)> {
    let fits = Fits::open(path)?;
    let shape = |name: &str| fits.hdu(name).map(|h| h.shape.clone());
    if shape("WAVELENGTH").is_none_or(|s| s.len() != 2 || Some(s) != shape("DATA")) {
        return Err(Error::input(
            path,
            "holds no spectra: cube_build takes what extract leaves (run extract on the rate first, or the recipe \
             lenslet, which does both)",
        ));
    }
    let (header, image) = crate::input::read_image(path)?;
    let n = image.data.len();
    let mut common = image.var_common;
    common.resize(n, 0.0);
    let spectra = Spectra {
        nx: image.nx,
        variance: image.err.iter().map(|e| e * e).collect(),
        flux: image.data,
        dq: image.dq,
        common,
        ..Spectra::default()
    };
    Ok((header, spectra))
}

/// Builds the cube of spectra; notes the correlation of channels in the header.
pub(super) fn build(spectra: &Spectra, cal: &LensCal, step: &CubeBuild, header: &mut Header) -> Result<Cube> {
    let correlation = cube::channel_correlation(cal, step)?;
    header.set("CHANCORR", (correlation * 1e4).round() / 1e4, "correlation of neighbouring channels");
    cube::build(spectra, cal, step)
}

/// Mean of cubes of the same grid: own variances average down, the references'
/// part does not. A voxel missing from some is the mean of the others.
pub(super) fn mean(cubes: &[Cube]) -> Result<Cube> {
    let Some(first) = cubes.first() else {
        return Err(Error::Unsolvable("no cubes to combine".into()));
    };
    let mut out = first.clone();
    out.var_common.resize(first.data.len(), 0.0);
    for i in 0..first.data.len() {
        let (mut n, mut sum, mut own, mut common, mut bits, mut all) =
            (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0u32, u32::MAX);
        for c in cubes {
            if (c.nx, c.ny, c.nw) != (first.nx, first.ny, first.nw) {
                return Err(Error::Unsolvable("cubes of different sizes cannot be combined".into()));
            }
            bits |= c.dq[i];
            if !c.data[i].is_finite() {
                continue;
            }
            let shared = c.var_common.get(i).copied().filter(|v| *v > 0.0).unwrap_or(0.0);
            n += 1.0;
            sum += c.data[i];
            own += (c.err[i] * c.err[i] - shared).max(0.0);
            common += shared.sqrt();
            all &= c.dq[i];
        }
        if n > 0.0 {
            let shared = (common / n) * (common / n);
            out.data[i] = sum / n;
            out.err[i] = (own / (n * n) + shared).sqrt();
            out.var_common[i] = shared;
            out.dq[i] = all;
        } else {
            out.dq[i] = bits | dq::DO_NOT_USE;
        }
    }
    Ok(out)
}
