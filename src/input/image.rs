//! Raw science frames: level-1 images as the readout leaves them.

use std::path::PathBuf;

use super::headers::{complete, count, merged};
use super::noise::{NoiseModel, Timing};
use super::{OpenOptions, by, label, times};
use crate::config::Instrument;
use crate::datamodel::{Meta, Rate, Unit, dq};
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, Header};

/// Keyword of the seconds that a readout's counts span, all ramps together.
pub const RAMPSPAN: &str = "RAMPSPAN";

/// A raw science frame: counts over the ramp (slope × (t_last − t_first), summed
/// over NUMRAMPS ramps, as iris_readout leaves it) or, by BUNIT, a rate. Planes are
/// kept as the file has them; [`RawImage::to_rate`] makes the rate.
#[derive(Debug, Clone)]
pub struct RawImage {
    /// The file.
    pub path: PathBuf,
    /// What products inherit (BUNIT left out).
    pub header: Header,
    /// The header's facts.
    pub meta: Meta,
    /// Rows.
    pub ny: usize,
    /// Columns.
    pub nx: usize,
    /// What was assumed, as sentences.
    pub warnings: Vec<String>,
    data: Vec<f32>,
    err: Option<Vec<f32>>,
    variances: Option<(Vec<f32>, Vec<f32>)>,
    dq: Vec<u32>,
    electrons: bool,
    /// Seconds that the pixels are to be divided by.
    divisor: f64,
    /// `None` where the file has ERR and says nothing of times.
    timing: Option<Timing>,
    ramps: f64,
    /// e-/DN, from GAIN or the instrument file.
    gain: f64,
    /// Single-read noise, e-, from READNOIS or the instrument file.
    read_noise: f64,
}

impl RawImage {
    pub(super) fn from_fits(
        fits: &Fits,
        hdu: &Hdu,
        instrument: &Instrument,
        options: &OpenOptions<'_>,
    ) -> Result<RawImage> {
        let mut warnings = Vec::new();
        let [.., ny, nx] = *hdu.shape.as_slice() else {
            return Err(fits.error(&label(hdu), format!("is {}: a frame has 2 axes", by(&hdu.shape))));
        };
        let mut header = merged(fits, hdu, false);
        complete(&mut header, &mut warnings);
        let bunit = hdu.header.text("BUNIT").or_else(|| header.text("BUNIT")).unwrap_or_default();
        let unit = if bunit.is_empty() {
            warnings.push("BUNIT is missing: pixels are taken as DN over the ramp".into());
            Unit { electrons: false, per_second: false }
        } else {
            Unit::parse(&bunit).ok_or_else(|| {
                let mend = "write DN, electron, DN/s or electron/s";
                fits.error(&label(hdu), format!("BUNIT = '{bunit}' is no unit of a raw frame: {mend}"))
            })?
        };
        header.remove("BUNIT");
        let data = fits.f32(hdu)?;
        let err = plane(fits, "ERR", hdu)?.map(|h| fits.f32(h)).transpose()?;
        let err = err.filter(|e| {
            let useful = e.iter().any(|v| *v > 0.0);
            if !useful {
                warnings.push("ERR holds no positive value: errors are built from the noise model".into());
            }
            useful
        });
        let dq =
            plane(fits, "DQ", hdu)?.map(|h| fits.u32(h)).transpose()?.unwrap_or_else(|| vec![0; data.len()]);
        let variances = match (plane(fits, "VAR_POISSON", hdu)?, plane(fits, "VAR_RNOISE", hdu)?) {
            (Some(p), Some(r)) => Some((fits.f32(p)?, fits.f32(r)?)),
            _ => None,
        };
        let meta = Meta::from_header(&header);
        // Not every frame needs one.
        let read_time = times::read_time(&fits.path, &header, options, &mut warnings).unwrap_or_else(|e| {
            warnings.push(format!("{e} (taken as not known)"));
            options.read_time.filter(|t| t.is_finite() && *t > 0.0)
        });
        let timing = Timing::of(&header, read_time, &mut warnings);
        let ramps = count(&header, &["NUMRAMPS", "NGROUPS"]).unwrap_or(1) as f64;
        if ramps > 1.0 && !unit.per_second && !header.has(RAMPSPAN) {
            warnings.push(format!("pixels are taken as the sum of {ramps} ramps (NUMRAMPS or NGROUPS)"));
        }
        let span = header.number(RAMPSPAN).filter(|t| *t > 0.0);
        header.remove(RAMPSPAN);
        let divisor = match (&timing, span) {
            _ if unit.per_second => 1.0,
            (_, Some(span)) => span,
            (Some(t), None) => t.span() * ramps,
            (None, None) => return Err(no_time(fits)),
        };
        if err.is_none() && timing.is_none() {
            return Err(no_time(fits));
        }
        let positive = |key: &str| header.number(key).filter(|v| *v > 0.0);
        let (gain, read_noise) = match (positive("GAIN"), positive("READNOIS")) {
            (Some(g), Some(r)) => (g, r),
            (g, r) => {
                let detector = instrument.detector_of(&meta.detector, &fits.path)?;
                let mut default = |key: &str, value: f64| {
                    warnings.push(format!("{key} is missing: the instrument file's {value} is used"));
                    value
                };
                let gain = g.unwrap_or_else(|| default("GAIN", detector.gain));
                (gain, r.unwrap_or_else(|| default("READNOIS", detector.read_noise)))
            }
        };
        let path = fits.path.clone();
        Ok(RawImage {
            path,
            header,
            meta,
            ny,
            nx,
            warnings,
            data,
            err,
            variances,
            dq,
            electrons: unit.electrons,
            divisor,
            timing,
            ramps,
            gain,
            read_noise,
        })
    }

    /// The rate in e-/s with its errors: ERR of the file where it is positive and
    /// finite, else the model of input/noise.rs (photon noise of max(rate, 0) and
    /// read noise), so that a pixel's error never falls below its read noise.
    ///
    /// A pixel that is not finite, flagged DO_NOT_USE, or without a gain becomes NaN
    /// and DO_NOT_USE. CHI2 is NaN: nothing was fitted here. NREADS is the header's.
    pub fn to_rate(&self, noise: &NoiseModel<'_>) -> Result<Rate> {
        for (name, plane) in [("gain", noise.gain), ("readnoise", noise.read_noise)] {
            if let Some(p) = plane.filter(|p| p.len() != self.data.len()) {
                let message =
                    format!("has {} pixels, {} has {}", p.len(), self.path.display(), self.data.len());
                return Err(Error::reference(name, message));
            }
        }
        let mut rate = Rate::zeros(self.ny, self.nx);
        let (photons, reads) = self.timing.map_or((0.0, 0.0), |t| t.variances());
        let used = self.timing.map_or(0, |t| t.reads.min(65535) as u16);
        rate.chi2.fill(f32::NAN);
        for (i, &value) in self.data.iter().enumerate() {
            let gain = noise.gain.map_or(self.gain, |g| f64::from(g[i]));
            let sigma = noise.read_noise.map_or(self.read_noise, |r| f64::from(r[i]));
            let mut flags = self.dq[i];
            let usable_gain = gain.is_finite() && gain > 0.0;
            if !(self.electrons || usable_gain) {
                flags |= dq::NO_GAIN_VALUE | dq::DO_NOT_USE;
            }
            let scale = if self.electrons { 1.0 } else { gain } / self.divisor;
            let a = f64::from(value) * scale;
            if !a.is_finite() || flags & dq::DO_NOT_USE != 0 {
                rate.dq[i] = flags | dq::DO_NOT_USE;
                rate.data[i] = f32::NAN;
                rate.err[i] = f32::NAN;
                rate.var_poisson[i] = f32::NAN;
                rate.var_rnoise[i] = f32::NAN;
                continue;
            }
            let sigma = if sigma.is_finite() && sigma >= 0.0 { sigma } else { self.read_noise };
            let model = (photons * a.max(0.0) / self.ramps, reads * sigma * sigma / self.ramps);
            let (poisson, rnoise) = self.given(i, scale).map_or(model, |given| match self.parts(i, scale) {
                Some(parts) => parts,
                None => ((given - model.1).max(0.0), model.1.min(given)),
            });
            let variance = self.given(i, scale).unwrap_or(poisson + rnoise);
            rate.data[i] = a as f32;
            rate.err[i] = variance.sqrt() as f32;
            rate.var_poisson[i] = poisson as f32;
            rate.var_rnoise[i] = rnoise as f32;
            rate.dq[i] = flags;
            rate.nreads[i] = used;
        }
        Ok(rate)
    }

    /// The variance that the file gives pixel `i`, (e-/s)².
    fn given(&self, i: usize, scale: f64) -> Option<f64> {
        let err = f64::from(*self.err.as_ref()?.get(i)?) * scale;
        (err.is_finite() && err > 0.0).then_some(err * err)
    }

    /// Its photon and read-noise parts, where the file has both.
    fn parts(&self, i: usize, scale: f64) -> Option<(f64, f64)> {
        let (p, r) = self.variances.as_ref()?;
        let part = |v: &[f32]| {
            v.get(i).map(|v| f64::from(*v) * scale * scale).filter(|v| v.is_finite() && *v >= 0.0)
        };
        Some((part(p)?, part(r)?))
    }
}

fn no_time(fits: &Fits) -> Error {
    Error::input(
        &fits.path,
        "says nothing about its exposure time: add EXPTIME (seconds a ramp), or NREADS with FRM_TIME or READTIME \
         (seconds a read), to PRIMARY, or give --read-time=SECONDS",
    )
}

/// The HDU `name`, which must have the science plane's number of pixels.
fn plane<'a>(fits: &'a Fits, name: &str, science: &Hdu) -> Result<Option<&'a Hdu>> {
    let Some(hdu) = fits.hdu(name).filter(|h| h.is_image() && h.index != science.index) else {
        return Ok(None);
    };
    if hdu.shape.iter().rev().take(2).eq(science.shape.iter().rev().take(2)) && hdu.len() == science.len() {
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
