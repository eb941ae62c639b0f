//! Linearity coefficients.

use std::path::Path;

use rayon::prelude::*;

use super::load::{Frame, Reference, cut};
use crate::datamodel::dq;
use crate::error::Result;
use crate::fits::Hdu;

/// What the polynomial's x is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroPoint {
    /// Bias-subtracted DN.
    Bias,
    /// Raw DN.
    Raw,
    /// The pixel's first read of the ramp.
    First,
}

/// A polynomial a pixel, y = Σ c_k x^k in DN. A pixel without a usable one has the
/// identity (c_1 = 1, else 0) and NO_LIN_CORR in `dq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Nonlin {
    /// Number of coefficients, ≥ 2.
    pub ncoef: usize,
    /// (ncoef, ny, nx), ascending powers.
    pub coeffs: Vec<f32>,
    /// (ny, nx).
    pub dq: Vec<u32>,
    /// What x is measured from.
    pub zero_point: ZeroPoint,
}

/// More coefficients than this are a wrong axis order.
const MOST: usize = 64;

/// Loads COEFFS, (ncoef, ny, nx) or liger's (ny, nx, ncoef), in ascending powers;
/// with COEFFORM = 'IRISROP' they are iris_readout's c of y = x (1 + c0 + c1 x + …).
/// COEFFZP = BIAS (default), RAW (default of liger_iris_pipeline's own
/// NonlinearCorrectionModel files, which it applies to raw DN) or FIRST.
pub fn load_nonlin(path: &Path, frame: &Frame) -> Result<Nonlin> {
    let r = Reference::open(path, "nonlin")?;
    let hdu = r.main(&["COEFFS", "COEFF", "DATA", "SCI"])?;
    let upper = |key: &str| r.text(hdu, key).map(|t| t.to_ascii_uppercase());
    let liger = upper("DATAMODL").as_deref() == Some("NONLINEARCORRECTIONMODEL");
    let zero_point = match upper("COEFFZP").as_deref() {
        None if liger => ZeroPoint::Raw,
        None | Some("BIAS") => ZeroPoint::Bias,
        Some("RAW") => ZeroPoint::Raw,
        Some("FIRST") => ZeroPoint::First,
        Some(other) => {
            return Err(r.error(format!("COEFFZP = '{other}' is not known: write BIAS, RAW or FIRST")));
        }
    };
    let irisrop = match upper("COEFFORM").as_deref() {
        None | Some("POLY" | "POLYNOMIAL") => false,
        Some("IRISROP") => true,
        Some(other) => {
            return Err(r.error(format!("COEFFORM = '{other}' is not known: leave it out or write IRISROP")));
        }
    };
    let mut coeffs = planes(&r, hdu, frame, liger)?;
    let n = frame.ny * frame.nx;
    if irisrop {
        coeffs.iter_mut().take(n).for_each(|c| *c += 1.0);
        coeffs.splice(0..0, std::iter::repeat_n(0.0, n));
    }
    let ncoef = coeffs.len() / n.max(1);
    if ncoef < 2 {
        return Err(
            r.error(format!("{} holds one coefficient a pixel: at least c0 and c1 are needed", hdu.name))
        );
    }
    let mut dq = r.dq(frame)?;
    // Plane by plane: pixel by pixel would stride through them all.
    for (k, plane) in coeffs.chunks(n).enumerate() {
        dq.par_iter_mut().zip(plane).for_each(|(q, c)| {
            *q |= if !c.is_finite() || k == 1 && *c == 0.0 { dq::NO_LIN_CORR } else { 0 };
        });
    }
    for (k, plane) in coeffs.chunks_mut(n).enumerate() {
        let identity = if k == 1 { 1.0 } else { 0.0 };
        plane
            .par_iter_mut()
            .zip(&dq)
            .filter(|(_, q)| **q & dq::NO_LIN_CORR != 0)
            .for_each(|(c, _)| *c = identity);
    }
    Ok(Nonlin { ncoef, coeffs, dq, zero_point })
}

/// (ncoef, ny, nx), cut to the frame. Of the two axis orders, that one is
/// taken whose image axes suit the frame; where both do, the one with fewer
/// coefficients; and native at last.
fn planes(r: &Reference, hdu: &Hdu, frame: &Frame, liger: bool) -> Result<Vec<f32>> {
    let [a, b, c] = *hdu.shape.as_slice() else {
        let n = hdu.shape.len();
        return Err(r.error(format!("{} has {n} axes: it must be (ncoef, ny, nx)", hdu.name)));
    };
    let native = r.corner(&hdu.name, (b, c), frame).map(|corner| (a, c, corner, false));
    let fast = r.corner(&hdu.name, (a, b), frame).map(|corner| (c, b, corner, true));
    let (ncoef, nx, corner, transposed) = match (native, fast) {
        (Ok(n), Ok(f)) => {
            if f.0 < n.0 || (f.0 == n.0 && liger) {
                f
            } else {
                n
            }
        }
        (Ok(n), Err(_)) => n,
        (Err(_), Ok(f)) => f,
        // The more plausible order names the sizes.
        (Err(n), Err(f)) => return Err(if c < a { f } else { n }),
    };
    if ncoef > MOST {
        return Err(
            r.error(format!("{} has {ncoef} coefficients a pixel: it must be (ncoef, ny, nx)", hdu.name))
        );
    }
    let pixels = hdu.len() / ncoef;
    let whole = pixels == frame.ny * frame.nx;
    if whole && !transposed {
        return r.fits.f32(hdu);
    }
    let mut out = Vec::with_capacity(ncoef * frame.ny * frame.nx);
    let all = if transposed { r.fits.f32(hdu)? } else { Vec::new() };
    for k in 0..ncoef {
        let plane: Vec<f32> = if transposed {
            all.iter().skip(k).step_by(ncoef).copied().collect()
        } else {
            r.fits.pixels_f32(hdu, k * pixels, pixels)?
        };
        out.extend(if whole { plane } else { cut(&plane, nx, corner, frame) });
    }
    Ok(out)
}
