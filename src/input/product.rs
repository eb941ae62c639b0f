//! Reading products back: rates, images, cubes.

use std::path::{Path, PathBuf};

use super::headers::merged;
use super::layout::science_hdu;
use super::{by, label};
use crate::datamodel::{Cube, Image, Meta, Rate};
use crate::error::Result;
use crate::fits::{Fits, Hdu, Header};

/// A level-1 product: the rate that stage 1 left.
#[derive(Debug, Clone)]
pub struct RateFile {
    /// The file.
    pub path: PathBuf,
    /// What products inherit.
    pub header: Header,
    /// The header's facts.
    pub meta: Meta,
    /// The planes. Of a file without VAR_POISSON and VAR_RNOISE (another
    /// pipeline's) the whole variance stands in `var_poisson`; without CHI2 that
    /// plane is NaN; without NREADS it is 0.
    pub rate: Rate,
    /// Variance shared with frames of the same dark (VAR_COMMON); empty for none.
    pub common: Vec<f32>,
    /// What was assumed, as sentences.
    pub warnings: Vec<String>,
}

impl RateFile {
    pub(super) fn from_fits(fits: &Fits, hdu: &Hdu) -> Result<RateFile> {
        let (header, image) = image(fits, hdu)?;
        let mut warnings = Vec::new();
        let n = image.data.len();
        let mut float = |name: &str| -> Result<Option<Vec<f32>>> {
            let found = plane(fits, name, hdu)?.map(|h| fits.f32(h)).transpose()?;
            if found.is_none() {
                warnings.push(format!("no HDU {name}"));
            }
            Ok(found)
        };
        let (poisson, rnoise) = (float("VAR_POISSON")?, float("VAR_RNOISE")?);
        let chi2 = float("CHI2")?.unwrap_or_else(|| vec![f32::NAN; n]);
        let (var_poisson, var_rnoise) = match (poisson, rnoise) {
            (Some(p), Some(r)) => (p, r),
            _ => (image.err.iter().map(|e| e * e).collect(), vec![0.0; n]),
        };
        let nreads = match plane(fits, "NREADS", hdu)? {
            Some(h) => fits.u32(h)?.into_iter().map(|v| v.min(65535) as u16).collect(),
            None => vec![0; n],
        };
        let Image { nx, ny, data, err, dq, var_common: common } = image;
        Ok(RateFile {
            path: fits.path.clone(),
            meta: Meta::from_header(&header),
            header,
            rate: Rate { nx, ny, data, err, dq, var_poisson, var_rnoise, chi2, nreads, ..Rate::default() },
            common,
            warnings,
        })
    }

    /// Reads a rate product.
    pub fn open(path: &Path) -> Result<RateFile> {
        let fits = Fits::open(path)?;
        let hdu = science_hdu(&fits)?;
        RateFile::from_fits(&fits, hdu)
    }
}

/// Reads an image product or reference (DATA or SCI, or the only image; ERR, DQ,
/// VAR_COMMON): its merged header (BUNIT and WCS included) and planes. ERR and DQ
/// are 0 where the file has none.
pub fn read_image(path: &Path) -> Result<(Header, Image)> {
    let fits = Fits::open(path)?;
    let hdu = science_hdu(&fits)?;
    image(&fits, hdu)
}

fn image(fits: &Fits, hdu: &Hdu) -> Result<(Header, Image)> {
    let (ny, nx) = match *hdu.shape.as_slice() {
        [ref ones @ .., ny, nx] if ones.iter().all(|&n| n == 1) => (ny, nx),
        ref other => {
            return Err(fits.error(&label(hdu), format!("is {}: an image has 2 axes (ny, nx)", by(other))));
        }
    };
    let data = fits.f32(hdu)?;
    let float = |name: &str| plane(fits, name, hdu)?.map(|h| fits.f32(h)).transpose();
    let err = float("ERR")?.unwrap_or_else(|| vec![0.0; data.len()]);
    let mut dq =
        plane(fits, "DQ", hdu)?.map(|h| fits.u32(h)).transpose()?.unwrap_or_else(|| vec![0; data.len()]);
    // Of a DQ of 16 bits: `--compat liger`.
    if let Some(high) = plane(fits, "DQ_HIGH", hdu)? {
        dq.iter_mut().zip(fits.u32(high)?).for_each(|(to, f)| *to |= f << 16);
    }
    let var_common = float("VAR_COMMON")?.unwrap_or_default();
    Ok((merged(fits, hdu, false), Image { nx, ny, data, err, dq, var_common }))
}

/// Reads a cube product: (nw, ny, nx) planes and the WAVELENGTH of each channel
/// (vacuum µm), from that HDU or else from the linear axis 3 of the header.
pub fn read_cube(path: &Path) -> Result<(Header, Cube)> {
    let fits = Fits::open(path)?;
    let hdu = science_hdu(&fits)?;
    let [nw, ny, nx] = *hdu.shape.as_slice() else {
        return Err(fits.error(&label(hdu), format!("is {}: a cube has 3 axes (nw, ny, nx)", by(&hdu.shape))));
    };
    let data = fits.f32(hdu)?;
    let err =
        plane(&fits, "ERR", hdu)?.map(|h| fits.f32(h)).transpose()?.unwrap_or_else(|| vec![0.0; data.len()]);
    let dq =
        plane(&fits, "DQ", hdu)?.map(|h| fits.u32(h)).transpose()?.unwrap_or_else(|| vec![0; data.len()]);
    let var_common = plane(&fits, "VAR_COMMON", hdu)?.map(|h| fits.f32(h)).transpose()?.unwrap_or_default();
    let header = merged(&fits, hdu, false);
    let wavelength = match fits.hdu("WAVELENGTH").filter(|h| h.is_image()) {
        Some(h) if h.len() == nw => fits.f64(h)?,
        Some(h) => return Err(fits.error("WAVELENGTH", format!("has {} values for {nw} channels", h.len()))),
        None => linear_axis(hdu, &header, nw).ok_or_else(|| {
            fits.error(
                &label(hdu),
                "has no wavelengths: neither an HDU WAVELENGTH nor CRVAL3, CRPIX3, CDELT3",
            )
        })?,
    };
    let sky_err = match fits.hdu("SKY_ERR").filter(|h| h.is_image() && h.len() == nw) {
        Some(h) => fits.f32(h)?,
        None => Vec::new(),
    };
    Ok((header, Cube { nx, ny, nw, data, err, dq, var_common, wavelength, sky_err }))
}

/// µm of each channel from the linear WCS of axis 3.
fn linear_axis(hdu: &Hdu, header: &Header, nw: usize) -> Option<Vec<f64>> {
    let number = |key: &str| hdu.header.number(key).or_else(|| header.number(key));
    let (value, pixel) = (number("CRVAL3")?, number("CRPIX3")?);
    let step = number("CD3_3").or_else(|| Some(number("CDELT3")? * number("PC3_3").unwrap_or(1.0)))?;
    let unit = hdu.header.text("CUNIT3").or_else(|| header.text("CUNIT3")).unwrap_or_default();
    let microns = match unit.to_ascii_lowercase().as_str() {
        "m" => 1e6,
        "nm" => 1e-3,
        "angstrom" => 1e-4,
        _ => 1.0,
    };
    Some((0..nw).map(|i| (value + (i as f64 + 1.0 - pixel) * step) * microns).collect())
}

/// The image HDU `name`, which must have the science HDU's shape.
fn plane<'a>(fits: &'a Fits, name: &str, science: &Hdu) -> Result<Option<&'a Hdu>> {
    let Some(hdu) = fits.hdu(name).filter(|h| h.is_image() && h.index != science.index) else {
        return Ok(None);
    };
    if hdu.shape == science.shape {
        return Ok(Some(hdu));
    }
    let message = format!(
        "is {} but {} is {}: correct or remove it",
        by(&hdu.shape),
        label(science),
        by(&science.shape)
    );
    Err(fits.error(name, message))
}
