//! Kernels of simple improved reference subtraction (SIRS).

use std::path::Path;

use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu};

/// One kernel a readout channel for either side's reference columns, along the
/// lines, an odd number of taps.
#[derive(Debug, Clone, PartialEq)]
pub struct SirsKernels {
    /// `[channel][tap]` for the side of the first channel.
    pub left: Vec<Vec<f64>>,
    /// `[channel][tap]` for the other.
    pub right: Vec<Vec<f64>>,
}

impl SirsKernels {
    /// Opens LEFT and RIGHT, (channels, taps) each: the offset of line y is the sum
    /// over j of tap j times the side's mean in line y + (taps − 1)/2 − j.
    pub fn open(path: &Path) -> Result<SirsKernels> {
        let fits = Fits::open(path)?;
        let error = |message: String| Error::reference("refpix", format!("{}: {message}", path.display()));
        let hdu = |name: &str| -> Result<&Hdu> {
            let found = fits.hdu(name).filter(|h| h.is_image());
            found.ok_or_else(|| error(format!("has no image {name}: SIRS needs LEFT and RIGHT")))
        };
        let (left, right) = (hdu("LEFT")?, hdu("RIGHT")?);
        let &[channels, taps] = left.shape.as_slice() else {
            return Err(error(format!("LEFT has {} axes: it must be (channels, taps)", left.shape.len())));
        };
        if right.shape != left.shape {
            return Err(error(
                "LEFT and RIGHT have different shapes: one kernel a channel for either".into(),
            ));
        }
        if taps % 2 == 0 || channels == 0 {
            return Err(error(format!(
                "a kernel has {taps} taps: it needs an odd number, its middle the line itself"
            )));
        }
        let read = |hdu: &Hdu| -> Result<Vec<Vec<f64>>> {
            let values = fits.f64(hdu)?;
            match values.iter().all(|v| v.is_finite()) {
                true => Ok(values.chunks(taps).map(<[f64]>::to_vec).collect()),
                false => Err(error(format!("{} holds NaN or infinite values", hdu.name))),
            }
        };
        Ok(SirsKernels { left: read(left)?, right: read(right)? })
    }
}
