//! Raw files in: ramps in any of the layouts, and level-1 images.
//!
//! [`open`] tells a file's layout by its own headers, never by a flag:
//!
//! | layout | told by |
//! |---|---|
//! | native | 4-D DATA (ramps, reads, ny, nx), TIMES matching its two slow axes |
//! | liger_iris_pipeline | 4-D DATA (ny, nx, ngroups, nreads), TIMES matching its two fast axes |
//! | JWST, iris_pipeline | 4-D SCI (nints, ngroups, ny, nx) |
//! | bare cube | a 3-D image (reads, ny, nx) |
//! | one file a read | a 2-D image with READ_NO ([`open_reads`] takes the set) |
//! | raw science frame | a 2-D image, DATALVL 1 or (without READ_NO) none, without DRSVER or in counts |
//! | rate product | a 2-D image with DRSVER, DATALVL 1 |
//!
//! The array's shape beats the keywords; where axis sizes coincide, native wins
//! unless an HDU `DQ` has DATA's shape. What can be mended (a truncated file, a
//! keyword that contradicts the array) is reduced and reported in `warnings`;
//! what cannot is an error that names file, HDU, keyword and the mend. No file,
//! however damaged, makes this module panic or take more memory than the file
//! could fill.

mod each_read;
mod headers;
mod image;
mod layout;
mod noise;
mod pixels;
mod product;
mod ramp;
mod reads;
mod relabel;
mod select;
mod subarrays;
mod times;

use std::path::Path;

use crate::config::Instrument;
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu};

pub use each_read::{EachRead, faults_of_reads, header_of_reads};
pub use headers::describes_bytes;
pub use image::{RAMPSPAN, RawImage};
pub use noise::{NoiseModel, Sampling};
pub use pixels::Encoding;
pub use product::{RateFile, read_cube, read_image};
pub use ramp::{Ramp, Strides};
pub use reads::{ReadKey, open_reads, read_group_key};
pub use relabel::Relabels;
pub use subarrays::{MOST_SUBARRAYS, SubarrayMap, Window, subarray_map};

/// What [`open`] found.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one is made a file
pub enum Raw {
    /// A ramp exposure (level 0), or a ramp that a step left.
    Ramp(Ramp),
    /// A raw science frame (level 1 as the readout leaves it).
    Level1(RawImage),
    /// A level-1 product of ours or of another pipeline.
    Rate(RateFile),
}

/// What a file may need to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OpenOptions<'a> {
    /// Seconds a read (`--read-time`), for files whose headers do not say.
    pub read_time: Option<f64>,
    /// Keywords that stand in place of those of the file.
    pub relabels: Option<&'a Relabels>,
}

impl OpenOptions<'_> {
    /// Opens a file, its keywords as they are meant.
    fn headers(&self, path: &Path) -> Result<Fits> {
        let mut fits = Fits::open(path)?;
        if let (Some(relabels), Some(primary)) = (self.relabels, fits.hdus.first_mut()) {
            relabels.apply(path, &mut primary.header);
        }
        Ok(fits)
    }
}

/// Opens a raw exposure or a rate, whichever `path` is.
pub fn open(path: &Path, instrument: &Instrument, options: &OpenOptions<'_>) -> Result<Raw> {
    let fits = options.headers(path)?;
    let hdu = layout::science_hdu(&fits)?.clone();
    let primary = fits.primary();
    let level = primary.integer("DATALVL");
    let product = primary.has("DRSVER");
    let shape = layout::squeezed(&hdu);
    let image = shape.len() == 2 || (shape.len() == 3 && shape[0] == 1 && level == Some(1));
    if level.is_some_and(|l| l >= 2) && shape.len() < 4 {
        let by = primary.text("DRSVER").map(|v| format!(" (DRSVER {v})")).unwrap_or_default();
        let level = level.unwrap_or_default();
        let message =
            format!("DATALVL = {level}: a finished product{by}, not a raw frame; give the raw file instead");
        return Err(Error::input(path, message));
    }
    if !image {
        if product && shape.len() == 3 {
            let message = "holds one rate a ramp, not raw reads; give the exposure's rate or raw file";
            return Err(Error::input(path, message));
        }
        return ramp::open(fits, hdu, options).map(Raw::Ramp);
    }
    let over_ramp = || crate::datamodel::Unit::parse(&hdu.header.text("BUNIT").unwrap_or_default());
    if product && over_ramp().is_none_or(|u| u.per_second) {
        return RateFile::from_fits(&fits, &hdu).map(Raw::Rate);
    }
    if level != Some(1) && (primary.has("READ_NO") || hdu.header.has("READ_NO")) {
        return open_reads(&[path.to_path_buf()], options).map(Raw::Ramp);
    }
    if level == Some(0) {
        let message = format!(
            "DATALVL = 0 says that it is a ramp, but {} is one image of {}: set DATALVL = 1 if its pixels are counts \
             over a ramp or a rate, or READ_NO if it is one read of several",
            label(&hdu),
            by(shape)
        );
        return Err(Error::input(path, message));
    }
    RawImage::from_fits(&fits, &hdu, instrument, options).map(Raw::Level1)
}

/// How messages name an HDU: its EXTNAME, or its number.
fn label(hdu: &Hdu) -> String {
    if hdu.name.is_empty() { format!("HDU {}", hdu.index) } else { hdu.name.clone() }
}

/// `2 x 10 x 64 x 64`.
fn by(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

#[cfg(test)]
mod tests;
