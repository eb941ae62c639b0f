//! Kernels that undo inter-pixel capacitance.

use std::ops::Range;
use std::path::Path;

use super::open::{Frame, Place, Reference};
use crate::error::Result;
use crate::fits::Hdu;

/// Taps across a kernel at most: more are a wrong axis order.
const WIDEST: usize = 15;
/// What the sum of a kernel may differ from 1 by: an inverse cut off at its border lacks
/// a few thousandths, anything else would change every flux.
const TOLERANCE: f64 = 0.01;
/// Rows looked at together.
const ROWS: usize = 64;

/// An ipc reference, open and matched to a frame.
#[derive(Debug)]
pub struct IpcFile {
    reference: Reference,
    hdu: Hdu,
    width: usize,
    /// Where the frame lies in the planes of a kernel that varies over the detector.
    place: Option<Place>,
    /// Σ K² of the kernel, or of each pixel's: what white noise of variance 1 becomes.
    noise: Vec<f32>,
}

impl IpcFile {
    /// Opens SCI or DATA: (k, k), or (k, k, ny, nx) for a kernel that varies over the
    /// detector, k odd. The sum of a kernel must be 1 within 0.01.
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
        let mut file = IpcFile { reference: r, hdu, width, place, noise: Vec::new() };
        let (ny, nx) = (file.reference.frame.ny, file.reference.frame.nx);
        let bands = if place.is_some() { ny.div_ceil(ROWS) } else { 1 };
        for band in 0..bands {
            let first = band * ROWS;
            let taps = file.read(first..(first + ROWS).min(ny))?;
            let n = taps.len() / (width * width);
            for pixel in 0..n {
                let of_pixel = || taps[pixel..].iter().step_by(n).map(|k| f64::from(*k));
                let sum: f64 = of_pixel().sum();
                // A uniform kernel with a tap that is no number fails here too.
                if !((sum - 1.0).abs() <= TOLERANCE) {
                    let at = match place {
                        Some(_) => format!(" at column {}, row {}", pixel % nx, first + pixel / nx),
                        None => String::new(),
                    };
                    let name = &file.hdu.name;
                    return Err(file.reference.error(format!(
                        "{name}: the kernel's taps{at} add up to {sum:.6}: a kernel that undoes the coupling keeps \
                         the flux, so it must be 1 within {TOLERANCE}"
                    )));
                }
                file.noise.push(of_pixel().map(|k| k * k).sum::<f64>() as f32);
            }
        }
        Ok(file)
    }

    /// Σ K² of each pixel of rows `rows`, or one number for all: by how much the
    /// variance of white noise grows.
    pub fn noise(&self, rows: &Range<usize>) -> &[f32] {
        let nx = self.reference.frame.nx;
        if self.varies() { &self.noise[rows.start * nx..rows.end * nx] } else { &self.noise }
    }

    /// The median of Σ K².
    pub fn typical_noise(&self) -> f64 {
        let mut all = self.noise.clone();
        let middle = all.len() / 2;
        if all.is_empty() { 1.0 } else { f64::from(*all.select_nth_unstable_by(middle, f32::total_cmp).1) }
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
