//! `--save_ramps`: the rate of each ramp of an exposure, in a file beside the
//! exposure's own: the same HDUs, with a slow axis of ramps.
//!
//! Each ramp is reduced as an exposure of its own, so its jumps, its reduced χ² and
//! its pedestals owe nothing to the others; with `ols_c` as stcal's rateints have it:
//! jumps and the photons' part of the variance are the whole exposure's. All planes are held until they are
//! written, HDU by HDU: 28 bytes a pixel and ramp.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::calibration::Calibration;
use super::product::{About, primary, variance_header};
use super::stage1::{Plan, Stream, theirs};
use crate::config::{Detector, Recipe};
use crate::datamodel::{Rate, dq};
use crate::engine::Engine;
use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels};
use crate::input::{Encoding, Ramp};

/// The rates of the ramps of `ramp`, in order; none where there is only one, whose
/// rate is the exposure's. `whole` streams the exposure.
pub(super) fn each(
    ramp: &Ramp,
    recipe: &Recipe,
    references: &BTreeMap<String, PathBuf>,
    detector: &Detector,
    whole: &Stream<'_>,
    engine: &mut dyn Engine,
    progress: &dyn Fn(f64),
) -> Result<Vec<Rate>> {
    let ramps = if ramp.ramps > 1 { ramp.ramps } else { 0 };
    if ramps > 0 && whole.ramps_together() {
        return whole.rates_of_ramps(engine, progress);
    }
    (0..ramps)
        .map(|k| {
            let one = ramp.alone(k)?;
            let mut cal = Calibration::open(
                references,
                &one,
                detector,
                one.encoding != Encoding::F32 && !theirs(recipe),
            )?;
            cal.without(recipe);
            cal.mark_as(whole.calibration());
            let mut plan = Plan::new(recipe, &cal);
            let mut stream = Stream::prepare(&one, cal, &mut plan, detector, engine)?;
            stream.take_zeroframe(references, recipe, detector, engine)?;
            stream.rates(engine, &|f| progress((k as f64 + f) / ramps as f64))
        })
        .collect()
}

/// The name of the file beside the rate at `rate`.
pub(super) fn path_beside(rate: &Path) -> PathBuf {
    let stem = rate.file_stem().unwrap_or_default().to_string_lossy();
    rate.with_file_name(format!("{stem}_ramps.fits"))
}

/// Writes the rates of ramps.
pub(super) fn write(path: &Path, about: &About<'_>, rates: &[Rate]) -> Result<PathBuf> {
    let (ny, nx) = rates.first().map_or((0, 0), |r| (r.ny, r.nx));
    let shape = [rates.len(), ny, nx];
    let mut w = FitsWriter::create(path)?;
    let mut header = primary(path, about);
    header.set("NRAMPS", rates.len(), "planes of every HDU: one a ramp");
    w.empty("PRIMARY", &header)?;
    let mut plane = |name: &str, header: &Header, of: fn(&Rate) -> Pixels<'_>| {
        let Some(first) = rates.first() else { return Ok(()) };
        w.image_in_parts(name, header, &shape, of(first), |parts| {
            rates.iter().enumerate().try_for_each(|(k, rate)| parts.put(k * ny * nx, of(rate)))
        })
    };
    let mut bits = about.wcs.cloned().unwrap_or_default();
    let mut unit = bits.clone();
    unit.set("BUNIT", about.unit, "");
    dq::describe(&mut bits);
    let (variance, plain) = (variance_header(about), Header::new());
    plane("DATA", &unit, |r| Pixels::F32(&r.data))?;
    plane("ERR", &unit, |r| Pixels::F32(&r.err))?;
    plane("DQ", &bits, |r| Pixels::U32(&r.dq))?;
    plane("VAR_POISSON", &variance, |r| Pixels::F32(&r.var_poisson))?;
    plane("VAR_RNOISE", &variance, |r| Pixels::F32(&r.var_rnoise))?;
    plane("CHI2", &plain, |r| Pixels::F32(&r.chi2))?;
    plane("NREADS", &plain, |r| Pixels::U16(&r.nreads))?;
    w.finish()
}
