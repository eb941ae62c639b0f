//! Lenslet jobs: the calibration from scans and arcs, and cubes.

use std::path::Path;

use super::exposure::Level1;
use super::extract::Spectra;
use super::job::Job;
use super::lenspx::{self, Arc, LensCal, Mode, Scan};
use super::wavelength::{Dispersion, Wavemap, ZeroPoint, oh};
use super::{cube, extract};
use crate::config::{CubeBuild, Extract, Step};
use crate::datamodel::lines::{LAMPS, Line, of_lamps};
use crate::datamodel::{Cube, Meta, Rate, dq};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};

/// A zero point further off than this (channels, and than 3 σ) is warned about.
const MOST_OFF: f64 = 0.1;
/// A line of a lamp within so many columns of another is not used, unless that has less
/// than this part of its light.
const ALONE: (f64, f64) = (4.0, 0.03);

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
        _ => {
            // A spectrum has a thousand columns or so: close enough to tell lines apart by. Of
            // lines in no known places few candidates can be told apart, those of the band.
            let band = header.number("WAVEMIN").zip(header.number("WAVEMAX"));
            let own = band.map(|(low, high)| alone(&lamp_lines(header, low, high), (high - low) / 1000.0));
            own.filter(|lines| !lines.is_empty()).map(Light::Lines).ok_or_else(|| {
                let what = format!(
                    "says neither which lenslet column is lit (SPXTYPE = WHITE, LENSCOL) nor which lines it shows \
                     (SPXWAVE, or SPXWAV1 …, vacuum um; or LAMP of {}, with WAVEMIN and WAVEMAX; IMTYPE is {})",
                    LAMPS.join(", "),
                    meta.imtype
                );
                Error::input(path, what)
            })
        }
    }
}

/// The lines of a frame's lamps between two wavelengths (µm).
fn lamp_lines(header: &Header, low: f64, high: f64) -> Vec<Line> {
    let mut lines = of_lamps(&header.text("LAMP").unwrap_or_default());
    lines.retain(|l| (low..=high).contains(&l.wavelength));
    lines
}

/// The wavelengths of the lines that others do not disturb; `column` is µm.
fn alone(lines: &[Line], column: f64) -> Vec<f64> {
    let (distance, part) = ALONE;
    let disturbs = |l: &Line, o: &Line| {
        o != l
            && (o.wavelength - l.wavelength).abs() < distance * column
            && o.brightness > part * l.brightness
    };
    let free = lines.iter().filter(|l| !lines.iter().any(|o| disturbs(l, o)));
    free.map(|l| l.wavelength).collect()
}

/// The lines that an arc shows in the band of `cal`: those of its header, or of its lamps.
pub(super) fn lines_of(header: &Header, meta: &Meta, path: &Path, cal: &LensCal) -> Result<Vec<f64>> {
    let usable = || cal.lenslets.iter().filter(|l| l.dq & dq::DO_NOT_USE == 0);
    let low = usable().map(|l| l.wavmin).fold(f64::INFINITY, f64::min);
    let high = usable().map(|l| l.wavmax).fold(f64::NEG_INFINITY, f64::max);
    let all = lamp_lines(header, low, high);
    let named = header.text("LAMP").filter(|l| !of_lamps(l).is_empty());
    let lines = match named {
        Some(_) => {
            let column = |l: &lenspx::Lenslet| (l.wavmax - l.wavmin) / (l.xmax + 1 - l.xmin) as f64;
            alone(&all, lenspx::legendre::median(usable().map(column).collect()))
        }
        None => match light(header, meta, path)? {
            Light::Lines(lines) => lines,
            Light::White(_) => {
                return Err(Error::input(
                    path,
                    "is a white-light scan: wavecal takes arcs and frames of one wavelength",
                ));
            }
        },
    };
    match (lines.is_empty(), named) {
        (true, Some(lamp)) => Err(Error::input(
            path,
            format!("LAMP = '{lamp}' has no line that stands alone between {low:.4} and {high:.4} um"),
        )),
        _ => Ok(lines),
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

/// The job's calibration, with the wavelengths of a wavemap where it has one.
pub(super) fn calibration(job: &Job) -> Result<LensCal> {
    let mut cal = own_calibration(job)?;
    if let Some(path) = job.references.get("wavemap") {
        Wavemap::load(path)?.apply(&mut cal)?;
    }
    Ok(cal)
}

/// The job's calibration as LEN-SPX left it.
pub(super) fn own_calibration(job: &Job) -> Result<LensCal> {
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
    h.set("EXTMETH", cal.method(step.method).word(), "method of the extraction");
    h.set("EXTCHI2", (spectra.reduced_chi2 * 1e5).round() / 1e5, "reduced chi-squared of the extraction");
    h.set("EXTREJ", spectra.rejected as i64, "detector pixels rejected as outliers");
    if let Some(leak) = cal.leak_of(step.method) {
        h.set("LEAK", leak.largest, "most of its light in a dark neighbour, by LEN-SPX");
        h.set("LEAKMED", leak.median, "the same, median of pairs");
    }
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

/// Builds the cube of spectra: with `oh_check` its zero point is measured where it shows the
/// sky, with `wavelength_shift` taken out, with `dispersion` and a reference its channels are
/// put on one another. Notes in the header what was done; what is doubtful is said.
pub(super) fn build(
    job: &Job,
    spectra: &Spectra,
    cal: &LensCal,
    step: &CubeBuild,
    header: &mut Header,
    warnings: &mut Vec<String>,
) -> Result<Cube> {
    let rounded = |v: f64| (v * 1e4).round() / 1e4;
    let correlation = cube::channel_correlation(cal, step)?;
    header.set("CHANCORR", rounded(correlation), "correlation of neighbouring channels");
    let mut out = cube::build(spectra, cal, step)?;
    let meta = Meta::from_header(header);
    let sky = matches!(meta.imtype.as_str(), "SCI" | "SKY" | "TEL");
    if (step.oh_check || step.wavelength_shift)
        && sky
        && let Some(zero) = oh::measure(&out)
    {
        let channel = out.wavelength[1] - out.wavelength[0];
        note_zero(&zero, channel, step.wavelength_shift, header, warnings);
        if step.wavelength_shift {
            let mut moved = cal.clone();
            moved
                .lenslets
                .iter_mut()
                .filter_map(|l| l.wave.first_mut())
                .for_each(|w| *w -= zero.shift * channel);
            out = cube::build(spectra, &moved, step)?;
        }
    }
    if let Some(path) = job.references.get("dispersion").filter(|_| step.dispersion) {
        let dispersion = Dispersion::load(path)?;
        dispersion.check(&cal.mode)?;
        let [x, y] = dispersion.apply(&mut out);
        header.set(
            "DISPREF",
            f64::midpoint(dispersion.range.0, dispersion.range.1),
            "[um] not moved; others to it",
        );
        header.set("DISPCORX", rounded(x), "correlation of neighbours along x from that");
        header.set("DISPCORY", rounded(y), "correlation of neighbours along y from that");
    }
    Ok(out)
}

/// What the OH lines say, in the header, and a sentence where they are off.
fn note_zero(zero: &ZeroPoint, channel: f64, applied: bool, header: &mut Header, warnings: &mut Vec<String>) {
    let rounded = |v: f64| (v * 1e5).round() / 1e5;
    header.set("OHSHIFT", rounded(zero.shift), "[channel] OH lines less their wavelengths");
    header.set("OHSHERR", rounded(zero.error), "[channel] 1 sigma");
    header.set("OHLINES", zero.lines as i64, "OH lines that tell");
    if applied {
        header.set("WAVSHIFT", -zero.shift * channel, "[um] added to the calibration's wavelengths");
    } else if zero.shift.abs() > MOST_OFF.max(3.0 * zero.error) {
        warnings.push(format!(
            "cube_build: the wavelengths are {:.3} ± {:.3} channels too {} by {} OH lines: take arcs nearer in time, or \
             shift them with --steps.cube_build.wavelength_shift=true",
            zero.shift.abs(),
            zero.error,
            if zero.shift > 0.0 { "long" } else { "short" },
            zero.lines
        ));
    }
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
