//! Products on disk: an empty PRIMARY with every keyword, then the planes.
//!
//! DATA, ERR and DQ carry the world coordinates; PRIMARY does not (two copies would
//! disagree one day, and viewers do not look there). Extensions of rates:
//! VAR_POISSON, VAR_RNOISE, CHI2, NREADS and, where asked for, PEDESTAL, VAR_PEDESTAL
//! and COV_PEDESTAL with a plane a ramp; of all whose noise is partly shared:
//! VAR_COMMON. Spectra and cubes: WAVELENGTH (f64, vacuum µm). No tables: one beside a 2-D image
//! keeps viewers from loading the image by themselves.
//!
//! With `--compat`, images are another package's files, too: [`super::Compat`]. Keywords
//! of the input stay (see `inherit`); times stand under all their names ([`Span`]), where
//! they are known.

use std::path::{Path, PathBuf};

use super::blend::{iso_date, now};
use super::compat;
use super::extract::{Spectra, factored};
use super::inherit::inherited;
use super::lenspx::LensCal;
use super::provenance::Provenance;
use super::{jump_list, ramp_rates, read_list};
use crate::datamodel::{Cube, Image, Meta, Rate, Span, dq};
use crate::error::{Error, Result};
use crate::fits::{FitsWriter, Header, Pixels, Value};
use crate::kernels::factored::LAGS;

/// Unit of rates and images; astropy's `CCDData` takes no other spelling.
pub const ELECTRONS: &str = "electron s-1";
/// The same in DN.
pub const COUNTS: &str = "adu s-1";
/// Unit of counts over a ramp.
pub const OVER_RAMP: &str = "adu";
/// Unit of count-rate cubes; Cubeviz takes no other spelling.
pub const CUBE: &str = "e-/s";

/// What is written around the planes.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Keywords of the input (or of [`super::blend()`]).
    pub input: &'a Header,
    /// DATAMODL.
    pub model: &'a str,
    /// DATALVL.
    pub level: i64,
    /// BUNIT of DATA and ERR; empty where they have none.
    pub unit: &'a str,
    /// Cards of the world coordinates.
    pub wcs: Option<&'a Header>,
    /// How it was made.
    pub provenance: &'a Provenance,
    /// Further keywords, laid over the rest.
    pub extra: Option<&'a Header>,
}

impl<'a> About<'a> {
    /// Around a reference that is no image: without unit and coordinates; `model` and
    /// `extra` from [`master_keywords`].
    pub fn reference(
        input: &'a Header,
        model: &'a str,
        provenance: &'a Provenance,
        extra: &'a Header,
    ) -> About<'a> {
        About { input, model, level: 2, unit: "", wcs: None, provenance, extra: Some(extra) }
    }
}

/// Whether `path` is a list of jumps or of reads, or the rates of single ramps, which stand
/// beside a product.
pub fn is_companion(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    ["_jumps", "_ramps", "_reads"].iter().any(|end| stem.ends_with(end))
}

/// Where what stands beside a rate lies, whether or not it was written.
pub fn companions(rate: &Path) -> Vec<PathBuf> {
    vec![jump_list::path_for(rate), read_list::path_for(rate), ramp_rates::path_beside(rate)]
}

/// DATAMODL of a detector image.
pub fn image_model(meta: &Meta) -> &'static str {
    if meta.detector == "IFU" { "IFUImageModel" } else { "ImagerModel" }
}

/// Writes a rate (level 1). `common` is the variance that it shares with others once
/// a dark was subtracted; empty before.
pub fn write_rate(path: &Path, about: &About<'_>, rate: &Rate, common: &[f32]) -> Result<PathBuf> {
    let mut w = begin(path, about, &[rate.ny, rate.nx])?;
    rate_planes(&mut w, about, rate, common)?;
    end(w, about)
}

/// Writes a rate in DN/s as counts over `span` seconds, as a readout gives them: DATA,
/// ERR and the variances in DN, and beside them RATE and RATE_ERR.
pub fn write_counts(path: &Path, about: &About<'_>, rate: &Rate, span: f64) -> Result<PathBuf> {
    let times = |values: &[f32], by: f64| values.iter().map(|v| (f64::from(*v) * by) as f32).collect();
    let counts = Rate {
        data: times(&rate.data, span),
        err: times(&rate.err, span),
        var_poisson: times(&rate.var_poisson, span * span),
        var_rnoise: times(&rate.var_rnoise, span * span),
        pedestal: Vec::new(),
        ..rate.clone()
    };
    let mut w = begin(path, about, &[rate.ny, rate.nx])?;
    rate_planes(&mut w, &About { unit: OVER_RAMP, ..*about }, &counts, &[])?;
    let mut h = Header::new();
    h.set("BUNIT", about.unit, "");
    let shape = [rate.ny, rate.nx];
    w.image("RATE", &h, &shape, Pixels::F32(&rate.data))?;
    w.image("RATE_ERR", &h, &shape, Pixels::F32(&rate.err))?;
    end(w, about)
}

/// The planes of a rate.
fn rate_planes(w: &mut FitsWriter, about: &About<'_>, rate: &Rate, common: &[f32]) -> Result<()> {
    let shape = [rate.ny, rate.nx];
    planes(w, about, &shape, &rate.data, &rate.err, &rate.dq)?;
    let variance = variance_header(about);
    w.image("VAR_POISSON", &variance, &shape, Pixels::F32(&rate.var_poisson))?;
    w.image("VAR_RNOISE", &variance, &shape, Pixels::F32(&rate.var_rnoise))?;
    if !common.is_empty() {
        w.image("VAR_COMMON", &variance, &shape, Pixels::F32(common))?;
    }
    let plain = Header::new();
    w.image("CHI2", &plain, &shape, Pixels::F32(&rate.chi2))?;
    if rate.nreads.iter().all(|n| *n <= 255) {
        let small: Vec<u8> = rate.nreads.iter().map(|n| *n as u8).collect();
        w.image("NREADS", &plain, &shape, Pixels::U8(&small))?;
    } else {
        w.image("NREADS", &plain, &shape, Pixels::U16(&rate.nreads))?;
    }
    if !rate.pedestal.is_empty() {
        let ramps = rate.pedestal.len() / (rate.ny * rate.nx);
        let shape = [ramps, rate.ny, rate.nx];
        // The rate's unit without, and with half of, its seconds.
        let unit = about.unit.trim_end_matches(" s-1");
        for (name, unit, values) in [
            ("PEDESTAL", unit.to_owned(), &rate.pedestal),
            ("VAR_PEDESTAL", format!("{unit}2"), &rate.var_pedestal),
            ("COV_PEDESTAL", format!("{unit}2 s-1"), &rate.cov_pedestal),
        ] {
            let mut h = Header::new();
            h.set("BUNIT", unit, "");
            w.image(name, &h, &shape, Pixels::F32(values))?;
        }
    }
    Ok(())
}

/// Writes an image (level 2 or 3, or a master).
pub fn write_image(path: &Path, about: &About<'_>, image: &Image) -> Result<PathBuf> {
    let shape = [image.ny, image.nx];
    let mut w = begin(path, about, &shape)?;
    planes(&mut w, about, &shape, &image.data, &image.err, &image.dq)?;
    if !image.var_common.is_empty() {
        w.image("VAR_COMMON", &variance_header(about), &shape, Pixels::F32(&image.var_common))?;
    }
    end(w, about)
}

/// Writes a cube (level 2 or 3).
pub fn write_cube(path: &Path, about: &About<'_>, cube: &Cube) -> Result<PathBuf> {
    let shape = [cube.nw, cube.ny, cube.nx];
    let mut w = begin(path, about, &shape)?;
    planes(&mut w, about, &shape, &cube.data, &cube.err, &cube.dq)?;
    if !cube.var_common.is_empty() {
        w.image("VAR_COMMON", &variance_header(about), &shape, Pixels::F32(&cube.var_common))?;
    }
    let mut h = Header::new();
    h.set("BUNIT", "um", "vacuum");
    w.image("WAVELENGTH", &h, &[cube.nw], Pixels::F64(&cube.wavelength))?;
    if !cube.sky_err.is_empty() {
        // Of the scaled sky lines, the same in all spaxels; not in ERR.
        let mut h = Header::new();
        h.set("BUNIT", about.unit, "1 sigma, common to all spaxels, not in ERR");
        w.image("SKY_ERR", &h, &[cube.nw], Pixels::F32(&cube.sky_err))?;
    }
    w.finish()
}

/// Writes the spectra of a frame (level 2), one row a lenslet of `cal`, one column a
/// detector column, with the wavelength of each sample (NaN beside the spectrum) and
/// each row's spaxel (IX, IY).
pub fn write_spectra(path: &Path, about: &About<'_>, spectra: &Spectra, cal: &LensCal) -> Result<PathBuf> {
    let (n, nx) = (cal.lenslets.len(), spectra.nx);
    let shape = [n, nx];
    let mut axes = Header::new();
    axes.set("DISPAXIS", 1, "wavelength runs along axis 1");
    let about = &About { wcs: Some(&axes), ..*about };
    let mut w = begin(path, about, &shape)?;
    let err: Vec<f32> = spectra.variance.iter().map(|v| v.sqrt()).collect();
    planes(&mut w, about, &shape, &spectra.flux, &err, &spectra.dq)?;
    let variance = variance_header(about);
    w.image("VAR_COMMON", &variance, &shape, Pixels::F32(&spectra.common))?;
    // With the spectrum next above in the same detector column.
    w.image("COVAR", &variance, &shape, Pixels::F32(&spectra.covariance))?;
    w.image("CHI2", &Header::new(), &shape, Pixels::F32(&spectra.chi2))?;
    if !spectra.correlation.is_empty() {
        let mut h = Header::new();
        h.set("CORSTEP", factored::DECIMATED, "columns from value to value");
        for (k, (up, on)) in LAGS.iter().enumerate() {
            h.set(&format!("CORUP{}", k + 1), *up, "with the spectrum so many above");
            h.set(&format!("CORON{}", k + 1), *on, "and so many columns on");
        }
        let all: Vec<f32> = spectra.correlation.concat();
        let shape = [LAGS.len(), n, all.len() / (n * LAGS.len()).max(1)];
        w.image("CORREL", &h, &shape, Pixels::F32(&all))?;
    }
    if !spectra.residual.is_empty() {
        let mut h = Header::new();
        h.set("BUNIT", about.unit, "rate less the model of all spectra");
        w.image("RESIDUAL", &h, &[spectra.residual.len() / nx, nx], Pixels::F32(&spectra.residual))?;
    }
    let mut wavelength = vec![f64::NAN; n * nx];
    for (l, row) in cal.lenslets.iter().zip(wavelength.chunks_exact_mut(nx)) {
        (l.xmin..=l.xmax).for_each(|x| row[x] = l.wavelength(x as f64));
    }
    let mut h = Header::new();
    h.set("BUNIT", "um", "vacuum");
    w.image("WAVELENGTH", &h, &shape, Pixels::F64(&wavelength))?;
    let spaxels: Vec<i16> = cal.lenslets.iter().flat_map(|l| [l.ix as i16, l.iy as i16]).collect();
    w.image("SPAXEL", &Header::new(), &[n, 2], Pixels::I16(&spaxels))?;
    w.finish()
}

/// What a master is, beside its planes.
#[derive(Debug, Clone, Copy)]
pub struct MasterInfo<'a> {
    /// Canonical type: `dark`, `flat`, `sky`.
    pub reftype: &'a str,
    /// REFVER.
    pub version: &'a str,
    /// DESCRIP: one sentence.
    pub description: &'a str,
}

/// DATAMODL and the keywords that make a product a reference: REFTYPE, REFVER,
/// USEAFTER, PEDIGREE, AUTHOR, DESCRIP.
pub fn master_keywords(info: &MasterInfo<'_>, input: &Header) -> (String, Header) {
    let mut h = Header::new();
    let date = iso_date(&Meta::from_header(input).expdtst);
    let date = date.unwrap_or_else(|| "1970-01-01T00:00:00".into());
    h.set("REFTYPE", info.reftype, "reference type");
    h.set("REFVER", info.version, "reference version");
    h.set("USEAFTER", date.as_str(), "");
    h.set("PEDIGREE", format!("INFLIGHT {0} {0}", date.get(..10).unwrap_or_default()), "");
    h.set("AUTHOR", "irisgpu", "");
    h.set("DESCRIP", info.description, "");
    let mut letters = info.reftype.chars();
    let capital: String = letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect();
    (format!("{capital}Model"), h)
}

/// Writes a master: [`write_image`] with [`master_keywords`]; `about.model` is
/// replaced by the reference's.
pub fn write_master(path: &Path, about: &About<'_>, info: &MasterInfo<'_>, image: &Image) -> Result<PathBuf> {
    let (model, mut extra) = master_keywords(info, about.input);
    if let Some(given) = about.extra {
        given.cards().iter().for_each(|c| extra.push(c.clone()));
    }
    write_image(path, &About { model: &model, extra: Some(&extra), ..*about }, image)
}

/// The file with its primary HDU; `shape` is that of its planes.
fn begin(path: &Path, about: &About<'_>, shape: &[usize]) -> Result<FitsWriter> {
    let mut w = FitsWriter::create(path)?;
    let mut h = primary(path, about);
    if let (Some(class), [ny, nx]) = (compat::class(about), shape) {
        class.primary(&mut h, about.wcs, [*ny, *nx]);
    }
    w.empty("PRIMARY", &h)?;
    Ok(w)
}

/// Ends a file that [`begin`] began.
fn end(mut w: FitsWriter, about: &About<'_>) -> Result<PathBuf> {
    if let Some(class) = compat::class(about) {
        class.tail(&mut w)?;
    }
    w.finish()
}

/// The primary header of a product at `path`.
pub fn primary(path: &Path, about: &About<'_>) -> Header {
    let mut h = inherited(about.input);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    h.set("FILENAME", name, "");
    h.set("FILETYPE", "FITS", "");
    h.set("DATAMODL", about.model, "data model");
    h.set("DATALVL", about.level, "0 raw, 1 rate, 2 calibrated, 3 combined");
    h.set("DATECRT", now(), "written (UTC)");
    h.set_default("TELESCOP", "TMT", "");
    h.set_default("INSTRUME", "IRIS", "");
    Span::of(about.input).write(&mut h);
    about.provenance.write(&mut h);
    if let Some(extra) = about.extra {
        for card in extra.cards() {
            match &card.value {
                Some(value) => h.set(&card.keyword, value.clone(), &card.comment),
                None => h.push(card.clone()),
            }
        }
    }
    // Readers older than FITS 4.0 look for this before they join continued strings.
    let quoted = |text: &str| text.len() + text.matches('\'').count();
    let long = |v: &Option<Value>| matches!(v, Some(Value::Text(t)) if quoted(t) > 67);
    if h.cards().iter().any(|c| long(&c.value)) {
        h.set("LONGSTRN", "OGIP 1.0", "long strings are continued");
    }
    h
}

fn planes(
    w: &mut FitsWriter,
    about: &About<'_>,
    shape: &[usize],
    data: &[f32],
    err: &[f32],
    quality: &[u32],
) -> Result<()> {
    let pixels: usize = shape.iter().product();
    if [data.len(), err.len(), quality.len()] != [pixels; 3] {
        return Err(Error::Unsolvable(format!(
            "a product of {shape:?} pixels has planes of {}, {} and {}",
            data.len(),
            err.len(),
            quality.len()
        )));
    }
    let (with_unit, mut h) = plane_headers(about, shape);
    w.image("DATA", &with_unit, shape, Pixels::F32(data))?;
    w.image("ERR", &with_unit, shape, Pixels::F32(err))?;
    match compat::class(about) {
        Some(class) => class.flags(w, h, shape, quality)?,
        None => {
            dq::describe(&mut h);
            w.image("DQ", &h, shape, Pixels::U32(quality))?;
        }
    }
    match &about.provenance.subarrays {
        Some(map) if shape == [map.ny, map.nx] => {
            w.image("SUBARR_MAP", &map.header(), shape, Pixels::U16(&map.image()))
        }
        _ => Ok(()),
    }
}

/// Headers of DATA and ERR, and of DQ but for the names of its bits.
pub(super) fn plane_headers(about: &About<'_>, shape: &[usize]) -> (Header, Header) {
    let mut h = about.wcs.cloned().unwrap_or_default();
    if shape.len() == 3 {
        h.set("DISPAXIS", 3, "wavelength runs along axis 3");
    }
    let mut with_unit = h.clone();
    // Empty, too: astropy's CCDData wants to be told that there is none.
    with_unit.set("BUNIT", about.unit, if about.unit.is_empty() { "no unit" } else { "" });
    (with_unit, h)
}

/// Header of a variance: the square of the unit.
pub(super) fn variance_header(about: &About<'_>) -> Header {
    let mut h = Header::new();
    match about.unit {
        ELECTRONS => h.set("BUNIT", "electron2 s-2", ""),
        COUNTS => h.set("BUNIT", "adu2 s-2", ""),
        OVER_RAMP => h.set("BUNIT", "adu2", ""),
        _ => {}
    }
    h
}

#[cfg(test)]
#[path = "product_tests.rs"]
mod tests;
