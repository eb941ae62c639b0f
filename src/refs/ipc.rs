//! Kernels that undo inter-pixel capacitance.

use std::ops::Range;
use std::path::Path;

use super::open::{Frame, Place, Reference};
use crate::error::Result;
use crate::fits::Hdu;

/// Taps across a kernel at most: more are a wrong axis order.
const WIDEST: usize = 15;

/// An ipc reference, open and matched to a frame.
#[derive(Debug)]
pub struct IpcFile {
    reference: Reference,
    hdu: Hdu,
    width: usize,
    /// Where the frame lies in the planes of a kernel that varies over the detector.
    place: Option<Place>,
}

impl IpcFile {
    /// Opens SCI or DATA: (k, k), or (k, k, ny, nx) for a kernel that varies over the
    /// detector, k odd.
    pub fn open(path: &Path, frame: &Frame) -> Result<IpcFile> {
        let r = Reference::open(path, "ipc", frame)?;
        let hdu = r.main(&["SCI", "DATA"])?.clone();
        let by = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        let odd = |k: usize| k % 2 == 1 && k <= WIDEST;
        let (width, place) = match *hdu.shape.as_slice() {
            [a, b] if a == b && odd(a) => (a, None),
            [a, b, ny, nx] if a == b && odd(a) => (a, Some(r.place(&hdu.name, (ny, nx))?)),
            _ => {
                return Err(r.error(format!(
                    "{} is {}: a kernel is (k, k) or (k, k, ny, nx) with k odd, at most {WIDEST}",
                    hdu.name,
                    by(&hdu.shape)
                )));
            }
        };
        r.fits.check(&hdu, 0, hdu.len())?;
        let file = IpcFile { reference: r, hdu, width, place };
        if place.is_none() {
            let mut taps = vec![0.0; width * width];
            file.reference.fits.read_f32(&file.hdu, 0, &mut taps)?;
            if let Some(bad) = taps.iter().find(|v| !v.is_finite()) {
                return Err(file.reference.error(format!("{} holds {bad}", file.hdu.name)));
            }
        }
        Ok(file)
    }

    /// Taps across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it varies over the detector.
    pub fn varies(&self) -> bool {
        self.place.is_some()
    }

    /// The taps of rows `rows` of the frame: (k, k), or (k, k, rows, columns) where it
    /// varies. A pixel with a tap that is no number has the kernel that changes nothing.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let fits = &self.reference.fits;
        let taps = self.width * self.width;
        let Some(place) = &self.place else {
            let mut out = vec![0.0; taps];
            fits.read_f32(&self.hdu, 0, &mut out)?;
            return Ok(out);
        };
        let (n, plane) = (rows.len() * self.reference.frame.nx, self.hdu.len() / taps);
        let mut out = vec![0.0; taps * n];
        for (tap, to) in out.chunks_exact_mut(n).enumerate() {
            place.read(tap * plane, &rows, to, |first, to| fits.read_f32(&self.hdu, first, to))?;
        }
        for pixel in 0..n {
            if (0..taps).any(|tap| !out[tap * n + pixel].is_finite()) {
                (0..taps).for_each(|tap| out[tap * n + pixel] = if tap == taps / 2 { 1.0 } else { 0.0 });
            }
        }
        Ok(out)
    }
}
