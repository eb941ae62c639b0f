//! Linearity coefficients.

use std::ops::Range;
use std::path::Path;

use super::open::{Flags, Frame, Place, Reference};
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

/// A nonlin reference, open and matched to a frame: a polynomial a pixel,
/// y = Σ c_k x^k in DN.
#[derive(Debug)]
pub struct NonlinFile {
    reference: Reference,
    hdu: Hdu,
    axes: Axes,
    flags: Flags,
    /// The coefficients are iris_readout's c of y = x (1 + c0 + c1 x + …).
    irisrop: bool,
    /// What x is measured from.
    pub zero_point: ZeroPoint,
    /// What was assumed because the file does not say, as a sentence.
    pub assumed: Option<String>,
}

/// How COEFFS lies in its file.
#[derive(Debug, Clone, Copy)]
struct Axes {
    /// Coefficients in the file.
    stored: usize,
    place: Place,
    /// liger's (ny, nx, ncoef) rather than (ncoef, ny, nx).
    fast: bool,
}

/// More coefficients than this are a wrong axis order.
const MOST: usize = 64;

impl NonlinFile {
    /// Opens the inverse polynomial, from true to shown DN: INVCOEFFS of the nonlin
    /// reference at `nonlin`, or else COEFFS of the invlin reference. `None` without.
    pub fn inverse(nonlin: &Path, invlin: Option<&Path>, frame: &Frame) -> Result<Option<NonlinFile>> {
        let (r, hdu) = match invlin {
            Some(path) => {
                let r = Reference::open(path, "invlin", frame)?;
                let hdu = r.main(&["COEFFS", "COEFF", "DATA", "SCI"])?.clone();
                (r, hdu)
            }
            None => {
                let r = Reference::open(nonlin, "nonlin", frame)?;
                let Some(hdu) = r.image("INVCOEFFS").cloned() else { return Ok(None) };
                (r, hdu)
            }
        };
        let axes = axes(&r, &hdu, false)?;
        if axes.stored < 2 {
            let message =
                format!("{} holds one coefficient a pixel: at least c0 and c1 are needed", hdu.name);
            return Err(r.error(message));
        }
        r.fits.check(&hdu, 0, hdu.len())?;
        let flags = Flags::of(&r, r.image("DQ"))?;
        Ok(Some(NonlinFile {
            reference: r,
            hdu,
            axes,
            flags,
            irisrop: false,
            zero_point: ZeroPoint::Bias,
            assumed: None,
        }))
    }

    /// Opens COEFFS, (ncoef, ny, nx) or liger's (ny, nx, ncoef), in ascending powers;
    /// with COEFFORM = 'IRISROP' they are iris_readout's c of y = x (1 + c0 + c1 x + …).
    /// COEFFZP = BIAS (default), RAW (default of liger_iris_pipeline's own
    /// NonlinearCorrectionModel files, which it applies to raw DN) or FIRST. A stack in
    /// PRIMARY without both keywords is iris_pipeline's: IRISROP and RAW.
    pub fn open(path: &Path, frame: &Frame) -> Result<NonlinFile> {
        let r = Reference::open(path, "nonlin", frame)?;
        let hdu = r.main(&["COEFFS", "COEFF", "DATA", "SCI"])?.clone();
        let upper = |key: &str| r.text(&hdu, key).map(|t| t.to_ascii_uppercase());
        let liger = upper("DATAMODL").as_deref() == Some("NONLINEARCORRECTIONMODEL");
        let stack = hdu.index == 0 && !liger && upper("COEFFZP").is_none() && upper("COEFFORM").is_none();
        let zero_point = match upper("COEFFZP").as_deref() {
            None if stack => ZeroPoint::Raw,
            None if liger => ZeroPoint::Raw,
            None | Some("BIAS") => ZeroPoint::Bias,
            Some("RAW") => ZeroPoint::Raw,
            Some("FIRST") => ZeroPoint::First,
            Some(other) => {
                return Err(r.error(format!("COEFFZP = '{other}' is not known: write BIAS, RAW or FIRST")));
            }
        };
        let irisrop = match upper("COEFFORM").as_deref() {
            None if stack => true,
            None | Some("POLY" | "POLYNOMIAL") => false,
            Some("IRISROP") => true,
            Some(other) => {
                return Err(
                    r.error(format!("COEFFORM = '{other}' is not known: leave it out or write IRISROP"))
                );
            }
        };
        let axes = axes(&r, &hdu, liger)?;
        if axes.stored + usize::from(irisrop) < 2 {
            return Err(r.error(format!(
                "{} holds one coefficient a pixel: at least c0 and c1 are needed",
                hdu.name
            )));
        }
        r.fits.check(&hdu, 0, hdu.len())?;
        let flags = Flags::of(&r, r.image("DQ"))?;
        let assumed = stack.then(|| {
            format!(
                "{}: coefficients in PRIMARY without COEFFORM and COEFFZP: taken as iris_pipeline's, y = x (1 + c0 + \
                 c1 x + …) of raw DN; set COEFFORM and COEFFZP",
                path.display()
            )
        });
        Ok(NonlinFile { reference: r, hdu, axes, flags, irisrop, zero_point, assumed })
    }

    /// Number of coefficients, ≥ 2.
    pub fn ncoef(&self) -> usize {
        self.axes.stored + usize::from(self.irisrop)
    }

    /// Fills `coeffs`, one plane (rows × columns) a coefficient in ascending powers,
    /// with rows `rows` of the frame, and adds their flags to `dq`. A pixel without a
    /// usable polynomial has the identity (c_1 = 1, else 0) and NO_LIN_CORR.
    pub fn read(&self, rows: Range<usize>, coeffs: &mut [&mut [f32]], dq: &mut [u32]) -> Result<()> {
        let lead = usize::from(self.irisrop);
        let Axes { stored, place, fast } = self.axes;
        let fits = &self.reference.fits;
        if fast {
            let wide = Place {
                nx: place.nx * stored,
                corner: (place.corner.0 * stored, place.corner.1),
                width: place.width * stored,
            };
            let mut all = vec![0.0; dq.len() * stored];
            wide.read(0, &rows, &mut all, |first, to| fits.read_f32(&self.hdu, first, to))?;
            for (k, plane) in coeffs[lead..].iter_mut().enumerate() {
                plane.iter_mut().zip(all.iter().skip(k).step_by(stored)).for_each(|(to, c)| *to = *c);
            }
        } else {
            let pixels = self.hdu.len() / stored;
            for (k, plane) in coeffs[lead..].iter_mut().enumerate() {
                place.read(k * pixels, &rows, plane, |first, to| fits.read_f32(&self.hdu, first, to))?;
            }
        }
        if self.irisrop {
            coeffs[0].fill(0.0);
            coeffs[1].iter_mut().for_each(|c| *c += 1.0);
        }
        let mut own = vec![0; dq.len()];
        self.flags.read(&self.reference, &rows, &mut own)?;
        // Plane by plane: pixel by pixel would stride through them all.
        for (k, plane) in coeffs.iter().enumerate() {
            own.iter_mut().zip(&**plane).for_each(|(q, c)| {
                *q |= if !c.is_finite() || k == 1 && *c <= 0.0 { dq::NO_LIN_CORR } else { 0 };
            });
        }
        for (k, plane) in coeffs.iter_mut().enumerate() {
            let identity = if k == 1 { 1.0 } else { 0.0 };
            plane.iter_mut().zip(&own).for_each(|(c, q)| {
                *c = if *q & dq::NO_LIN_CORR != 0 { identity } else { *c };
            });
        }
        dq.iter_mut().zip(own).for_each(|(q, own)| *q |= own);
        Ok(())
    }
}

/// Of the two axis orders, that one is taken whose image axes suit the frame; where
/// both do, the one with fewer coefficients; and native at last.
fn axes(r: &Reference, hdu: &Hdu, liger: bool) -> Result<Axes> {
    let [a, b, c] = *hdu.shape.as_slice() else {
        let n = hdu.shape.len();
        return Err(r.error(format!("{} has {n} axes: it must be (ncoef, ny, nx)", hdu.name)));
    };
    let native = r.place(&hdu.name, (b, c)).map(|place| Axes { stored: a, place, fast: false });
    let fast = r.place(&hdu.name, (a, b)).map(|place| Axes { stored: c, place, fast: true });
    let found = match (native, fast) {
        (Ok(n), Ok(f)) if f.stored < n.stored || (f.stored == n.stored && liger) => f,
        (Ok(n), _) => n,
        (Err(_), Ok(f)) => f,
        // The more plausible order names the sizes.
        (Err(n), Err(f)) => return Err(if c < a { f } else { n }),
    };
    if found.stored > MOST {
        return Err(r.error(format!(
            "{} has {} coefficients a pixel: it must be (ncoef, ny, nx)",
            hdu.name, found.stored
        )));
    }
    Ok(found)
}
