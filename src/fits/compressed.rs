//! Tile-compressed images, decoded by cfitsio.
//!
//! cfitsio is called directly for what `fitsio` does not offer: opening a file by
//! its plain name (brackets in it mean nothing), and NaN for pixels without a
//! value. Its decoder trusts the header, so [`check`] proves the tiling first.

use std::ffi::{CString, c_int, c_long, c_void};
use std::ops::Range;
use std::ptr;

use fitsio::sys;

use super::{Fits, Hdu};
use crate::error::Result;

/// Types that cfitsio converts pixels to.
pub(super) trait Pixel: Copy {
    /// cfitsio's code of the type.
    const CODE: c_int;
    /// Stands for no value.
    const NONE: Self;
}

impl Pixel for f32 {
    const CODE: c_int = sys::TFLOAT as c_int;
    const NONE: f32 = f32::NAN;
}

impl Pixel for f64 {
    const CODE: c_int = sys::TDOUBLE as c_int;
    const NONE: f64 = f64::NAN;
}

/// An HDU open in cfitsio, closed when dropped.
struct Handle(*mut sys::fitsfile);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: the pointer came from ffdkopn and is closed once.
        unsafe { sys::ffclos(self.0, &mut status) };
    }
}

impl Handle {
    /// Opens HDU `index` (from 0) of the file `name`; cfitsio's status on failure.
    fn open(name: &str, index: usize) -> Result<Handle, c_int> {
        const READ_ONLY: c_int = 0;
        const FILE_NOT_OPENED: c_int = 104;
        let name = CString::new(name).map_err(|_| FILE_NOT_OPENED)?;
        let (mut file, mut status) = (ptr::null_mut(), 0);
        // SAFETY: all pointers are to live locals; cfitsio sets `file` on success.
        unsafe { sys::ffdkopn(&mut file, name.as_ptr(), READ_ONLY, &mut status) };
        if status != 0 || file.is_null() {
            return Err(status.max(1));
        }
        let handle = Handle(file);
        // SAFETY: the file is open; a null type pointer is allowed.
        unsafe { sys::ffmahd(handle.0, index as c_int + 1, ptr::null_mut(), &mut status) };
        if status == 0 { Ok(handle) } else { Err(status) }
    }

    /// Fills `out` with the pixels of `region` (slowest axis first), which has as
    /// many.
    fn read<T: Pixel>(&self, region: &[Range<usize>], out: &mut [T]) -> Result<(), c_int> {
        // cfitsio counts axes from the fastest and pixels from 1.
        let mut first: Vec<c_long> = region.iter().rev().map(|r| r.start as c_long + 1).collect();
        let mut last: Vec<c_long> = region.iter().rev().map(|r| r.end as c_long).collect();
        let mut step: Vec<c_long> = vec![1; region.len()];
        let (mut none, mut any, mut status) = (T::NONE, 0, 0);
        debug_assert_eq!(region.iter().map(Range::len).product::<usize>(), out.len());
        // SAFETY: the three vectors have one entry an axis of the image, `out` one an
        // item of the region, and `none` is of the type that CODE names.
        unsafe {
            sys::ffgsv(
                self.0,
                T::CODE,
                first.as_mut_ptr(),
                last.as_mut_ptr(),
                step.as_mut_ptr(),
                (&raw mut none).cast::<c_void>(),
                out.as_mut_ptr().cast::<c_void>(),
                &mut any,
                &mut status,
            )
        };
        if status == 0 { Ok(()) } else { Err(status) }
    }
}

/// Pixels `[first, first + n)` of a tile-compressed image, scaled by cfitsio; NaN
/// where there is no value.
pub(super) fn pixels<T: Pixel>(fits: &Fits, hdu: &Hdu, first: usize, n: usize) -> Result<Vec<T>> {
    check(hdu).map_err(|m| fits.error(&hdu.name, m))?;
    let fail = |status: c_int| {
        fits.error(
            &hdu.name,
            format!("cannot be decompressed (cfitsio's error {status}); copy the file again"),
        )
    };
    let name = fits.path.to_str().ok_or_else(|| fits.error("", "the file's name is not UTF-8: rename it"))?;
    let handle = Handle::open(name, hdu.index).map_err(fail)?;
    let mut out = vec![T::NONE; n];
    let mut at = 0;
    for region in boxes(&hdu.shape, first, n) {
        let size = region.iter().map(Range::len).product::<usize>();
        handle.read(&region, &mut out[at..at + size]).map_err(fail)?;
        at += size;
    }
    Ok(out)
}

/// Whether ZNAXISn and ZTILEn are a tiling that has a row of the table a tile.
fn check(hdu: &Hdu) -> Result<(), String> {
    const MOST_AXES: usize = 6;
    const LARGEST: usize = i32::MAX as usize;
    if !(1..=MOST_AXES).contains(&hdu.shape.len()) {
        return Err(format!("ZNAXIS = {}: cfitsio reads up to {MOST_AXES} axes", hdu.shape.len()));
    }
    let (mut tiles, mut tile) = (1usize, 1usize);
    for (n, &length) in (1..).zip(hdu.shape.iter().rev()) {
        let key = format!("ZTILE{n}");
        let default = if n == 1 { length } else { 1 };
        let size = hdu.header.get(&key).map_or(Some(default as i64), |_| hdu.header.integer(&key));
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|&s| s >= 1);
        let size = size.ok_or_else(|| format!("{key} is no tile size of an axis of {length} pixels"))?;
        tile = tile.checked_mul(size).filter(|&t| t <= LARGEST).ok_or("ZTILEn make impossible tiles")?;
        tiles =
            tiles.checked_mul(length.div_ceil(size)).ok_or("ZNAXISn make an impossible number of tiles")?;
    }
    let rows = hdu.header.integer("NAXIS2").unwrap_or(0);
    if usize::try_from(rows) != Ok(tiles) {
        return Err(format!("has {rows} tiles (NAXIS2) where ZNAXISn and ZTILEn make {tiles}"));
    }
    Ok(())
}

/// The boxes of an array of `shape` that pixels `[first, first + n)` make, in order.
/// (cfitsio reads runs of compressed pixels in up to three dimensions only, boxes in
/// six.)
fn boxes(shape: &[usize], first: usize, n: usize) -> Vec<Vec<Range<usize>>> {
    let Some((_, rest)) = shape.split_first().filter(|_| n > 0) else { return Vec::new() };
    if rest.is_empty() {
        return vec![vec![first..first + n]];
    }
    let inner: usize = rest.iter().product();
    let mut out = Vec::new();
    let (mut at, end) = (first, first + n);
    while at < end {
        let (i, offset) = (at / inner, at % inner);
        let whole = (end - at) / inner;
        if offset == 0 && whole > 0 {
            let all = rest.iter().map(|&n| 0..n);
            out.push(std::iter::once(i..i + whole).chain(all).collect());
            at += whole * inner;
        } else {
            let part = (inner - offset).min(end - at);
            for tail in boxes(rest, offset, part) {
                out.push(std::iter::once(i..i + 1).chain(tail).collect());
            }
            at += part;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_cover_a_run_in_order() {
        let shape = [3, 4, 5];
        for first in 0..60 {
            for n in 0..=60 - first {
                let mut at = first;
                for b in boxes(&shape, first, n) {
                    for i in b[0].clone() {
                        for j in b[1].clone() {
                            for k in b[2].clone() {
                                assert_eq!((i * 4 + j) * 5 + k, at);
                                at += 1;
                            }
                        }
                    }
                }
                assert_eq!(at, first + n);
            }
        }
    }
}
