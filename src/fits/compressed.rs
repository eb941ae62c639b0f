//! Tile-compressed images, decoded by cfitsio.

use fitsio::FitsFile;
use fitsio::images::ReadImage;

use super::{Fits, Hdu};
use crate::error::Result;

/// Pixels `[first, first + n)` of a tile-compressed image, scaled by cfitsio.
pub(super) fn pixels<T>(fits: &Fits, hdu: &Hdu, first: usize, n: usize) -> Result<Vec<T>>
where
    Vec<T>: ReadImage,
{
    let fail = |e: fitsio::errors::Error| fits.error(&hdu.name, format!("cannot be decompressed: {e}"));
    let mut file = FitsFile::open(&fits.path).map_err(fail)?;
    let image = file.hdu(hdu.index).map_err(fail)?;
    image.read_section(&mut file, first, first + n).map_err(fail)
}
