//! `persistence`: pixels that saturated in earlier exposures of the same detector may
//! glow in this one. Which exposures these are, the caller says ([`Job::earlier`]).
//!
//! An earlier exposure is judged by the last raw read of each of its ramps against
//! the saturation level: nothing of its own reduction is needed, so exposures can be
//! reduced in any order. Each is looked at once by a pipeline, whatever number of later
//! exposures ask for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::calibration::Calibration;
use super::job::{Earlier, Job};
use crate::config::{Persistence, Step};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::input::{self, Ramp, Raw};
use crate::words::counted;

/// Why the step is left out where the caller knows of no earlier exposures.
pub(super) const UNKNOWN: &str = "it is not known what came before (give --earlier FILE)";

/// Detector columns and rows (from 1) of pixels that saturated.
type Pixels = Vec<(u32, u32)>;

/// The saturated pixels of exposures, remembered by first file and reference.
pub(super) type Saturated = BTreeMap<(PathBuf, Option<PathBuf>), Arc<Pixels>>;

/// What the step did.
pub(super) struct Found {
    /// Pixels flagged.
    pub(super) pixels: usize,
    /// What was found in which exposure, as sentences.
    pub(super) history: Vec<String>,
    /// Exposures that could not be looked at, as sentences.
    pub(super) warnings: Vec<String>,
}

/// Flags in `cal` the pixels of `ramp` that saturated in the exposures before it;
/// `None` where nobody knows which ones these are. Fails where a disk does.
pub(super) fn flag(
    job: &Job,
    ramp: &Ramp,
    step: &Persistence,
    cal: &mut Calibration<'_>,
    seen: &mut Saturated,
) -> Result<Option<Found>> {
    let Some(earlier) = job.earlier.get(&ramp.path) else { return Ok(None) };
    let within = |e: &&Earlier| e.seconds.is_none_or(|s| s <= step.persistence_time);
    let mut found = Found { pixels: 0, history: Vec::new(), warnings: Vec::new() };
    let mut all: Vec<u32> = Vec::new();
    for exposure in earlier.iter().filter(within) {
        let pixels = match saturated(job, exposure, ramp, seen) {
            Ok(pixels) => pixels,
            // Asked again it may be readable: a product without its flags would stay.
            Err(e) if e.is_of_the_disk() => return Err(e),
            Err(e) => {
                found.warnings.push(format!("persistence: an earlier exposure is left out: {e}"));
                continue;
            }
        };
        let inside = |(x, y): &(u32, u32)| {
            let of = |at: u32, start: i64, n: usize| {
                usize::try_from(i64::from(at) - start).ok().filter(|i| *i < n)
            };
            let (x, y) = (of(*x, ramp.meta.substart.0, ramp.nx)?, of(*y, ramp.meta.substart.1, ramp.ny)?);
            Some((y * ramp.nx + x) as u32)
        };
        let here: Vec<u32> = pixels.iter().filter_map(inside).collect();
        let ago = exposure.seconds.map_or(String::new(), |s| format!(", which ended {s:.0} s before"));
        let name = exposure.files.first().and_then(|f| f.file_name()).unwrap_or_default().to_string_lossy();
        found.history.push(format!("persistence: {} saturated in {name}{ago}", counted(here.len(), "pixel")));
        all.extend(here);
    }
    all.sort_unstable();
    all.dedup();
    found.pixels = all.len();
    let unusable = if step.persistence_dnu { dq::DO_NOT_USE } else { 0 };
    cal.mark(all, dq::PERSISTENCE | unusable);
    Ok(Some(found))
}

/// The pixels that saturated in an earlier exposure of `ramp`'s detector.
fn saturated(job: &Job, earlier: &Earlier, ramp: &Ramp, seen: &mut Saturated) -> Result<Arc<Pixels>> {
    let reference = job.references.get("saturation").cloned();
    let first = earlier.files.first().cloned().unwrap_or_default();
    let key = (first.clone(), reference.clone());
    if let Some(pixels) = seen.get(&key) {
        return Ok(pixels.clone());
    }
    let options = job.open_options();
    let raw = match &*earlier.files {
        [one] => input::open(one, &job.instrument, &options)?,
        several => Raw::Ramp(input::open_reads(several, &options)?),
    };
    let Raw::Ramp(raw) = raw else {
        return Err(Error::input(&first, "holds no reads, so nobody knows where it saturated"));
    };
    if raw.meta.detector != ramp.meta.detector {
        let message = format!("is of detector {}, not {}", raw.meta.detector, ramp.meta.detector);
        return Err(Error::input(&first, message));
    }
    if raw.header.has("DRSVER") {
        let kept = |s: &str| raw.header.text(s).as_deref() == Some("COMPLETE");
        if let Some(step) = ["bias", "linearity", "refpix"]
            .into_iter()
            .find(|name| Step::with_defaults(name).is_some_and(|s| kept(s.keyword())))
        {
            return Err(Error::input(&first, format!("went through {step}: give its raw file")));
        }
    }
    let pixels = Arc::new(beyond(job, &raw, reference)?);
    seen.insert(key, pixels.clone());
    Ok(pixels)
}

/// The pixels whose last read, of any ramp, is at the saturation level or above.
fn beyond(job: &Job, raw: &Ramp, reference: Option<PathBuf>) -> Result<Pixels> {
    /// Rows that a thread looks at together.
    const ROWS: usize = 64;
    let last = raw.last_reads()?;
    let detector = job.instrument.detector_of(&raw.meta.detector, &raw.path)?;
    let references = reference.into_iter().map(|path| ("saturation".to_owned(), path)).collect();
    let cal = Calibration::open(&references, &last, detector, false)?;
    let bands: Vec<usize> = (0..last.ny).step_by(ROWS).collect();
    let found: Vec<Pixels> = bands
        .into_par_iter()
        .map(|first| {
            let rows = first..(first + ROWS).min(last.ny);
            let mut bytes = vec![0; last.chunk_bytes(rows.len())];
            last.read_rows(rows.clone(), &mut bytes)?;
            let values = last.encoding.decode(&bytes);
            let (level, strides) = (cal.saturation(rows.clone())?, last.strides(rows.len()));
            let full = |i: &usize| {
                let at = i / last.nx * strides.y + i % last.nx * strides.x;
                (0..last.ramps).any(|r| values[r * strides.ramp + at] >= level[*i])
            };
            let detector_pixel = |i: usize| {
                let at = |i: usize, start: i64| u32::try_from(i as i64 + start).ok();
                at(i % last.nx, raw.meta.substart.0).zip(at(first + i / last.nx, raw.meta.substart.1))
            };
            Ok((0..level.len()).filter(full).filter_map(detector_pixel).collect())
        })
        .collect::<Result<_>>()?;
    Ok(found.concat())
}
