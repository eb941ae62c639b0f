//! When each read was taken.

use std::path::Path;

use super::layout::{Family, Layout};
use super::{OpenOptions, by, label};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};

/// Times of a ramp exposure, (ramps, reads) each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Times {
    /// Mean time of each read since its ramp's reset, s.
    pub(super) times: Vec<f64>,
    /// Frames averaged in each.
    pub(super) nsample: Vec<u16>,
    /// Seconds between the averaged frames; 0 where nothing is averaged.
    pub(super) frame_time: f64,
}

/// From this many seconds on, nothing is the duration of a read.
const LONGEST: f64 = 1e4;
/// From here on a number is no duration in microseconds either, but a date.
const DATE: f64 = 1e11;

/// Seconds of the first of `keys` that holds a duration. READTIME and FRM_TIME are
/// seconds in exposure headers and integer microseconds in the detector's per-read
/// headers: from 1e4 on they are taken as microseconds, with a warning. There READTIME
/// may also be a date (microseconds in MJD, 1e11 and more), and is passed over.
/// A number that can be neither is an error, as a sentence.
pub(super) fn duration(
    header: &Header,
    keys: &[&str],
    warnings: &mut Vec<String>,
) -> Result<Option<f64>, String> {
    for key in keys {
        let micro = matches!(*key, "READTIME" | "FRM_TIME");
        match header.number(key) {
            None => {}
            Some(v) if v > 0.0 && v < LONGEST => return Ok(Some(v)),
            Some(v) if micro && (LONGEST..DATE).contains(&v) => {
                let warning = format!("{key} = {v} is taken as microseconds: {} s", v * 1e-6);
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                return Ok(Some(v * 1e-6));
            }
            Some(v) if *key == "READTIME" && v >= DATE => {}
            Some(v) => {
                return Err(format!(
                    "{key} = {v} is no duration: seconds above 0 and below {LONGEST} are expected; mend the header, \
                     or remove the keyword and give --read-time=SECONDS"
                ));
            }
        }
    }
    Ok(None)
}

/// Seconds a read of an evenly sampled ramp, from header or `--read-time`.
pub(super) fn read_time(
    path: &Path,
    header: &Header,
    options: &OpenOptions<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<f64>> {
    let found = duration(header, &["FRM_TIME", "READTIME", "TFRAME", "TGROUP"], warnings)
        .map_err(|m| Error::input(path, m))?;
    Ok(found.or(options.read_time.filter(|t| t.is_finite() && *t > 0.0)))
}

/// The times of all reads that `layout` promises.
pub(super) fn of_ramp(
    fits: &Fits,
    header: &Header,
    layout: &Layout,
    options: &OpenOptions<'_>,
    warnings: &mut Vec<String>,
) -> Result<Times> {
    let n = layout.ramps * layout.reads;
    let times = match (plane(fits, "TIMES", layout, warnings)?, layout.family) {
        (Some(times), _) => {
            let nsample = nsample(fits, header, layout, warnings)?;
            let frame_time = frame_time(&times, &nsample, layout.reads, header, warnings)
                .map_err(|m| Error::input(&fits.path, m))?;
            Times { times, nsample, frame_time }
        }
        (None, family) => {
            if family == Family::Jwst
                && let Some(times) =
                    jwst(header, layout, warnings).map_err(|m| Error::input(&fits.path, m))?
            {
                return Ok(times);
            }
            let cut = fits.hdus.iter().any(|h| fits.available(h) < h.data_len);
            let given = read_time(&fits.path, header, options, warnings)?;
            let mut even_share = || {
                // A file cut off before its TIMES still says how long it was exposed.
                let (time, reads) = (header.number("EXPTIME")?, header.number("NREADS")?);
                (cut && layout.family == Family::Native && time > 0.0 && reads > 0.0).then(|| {
                    warnings
                        .push("cut off before its TIMES: reads taken every EXPTIME/NREADS seconds".into());
                    time / reads
                })
            };
            let step = given.or_else(&mut even_share).ok_or_else(|| {
                let cut = if cut { "is cut short, perhaps before its TIMES, and " } else { "" };
                let message = format!(
                    "{cut}says nothing about when its reads were taken: add an HDU TIMES (ramps, reads) or one of \
                     FRM_TIME, READTIME, TFRAME (seconds a read) to PRIMARY, or give --read-time=SECONDS"
                );
                Error::input(&fits.path, message)
            })?;
            if layout.family != Family::Cube {
                warnings.push(format!("no TIMES: reads taken as evenly spaced by {step} s"));
            }
            even(layout, step)
        }
    };
    debug_assert_eq!(times.times.len(), n);
    check(&times.times, layout.reads).map_err(|m| fits.error("TIMES", m))?;
    Ok(times)
}

/// Evenly spaced reads, the first one `step` after the reset.
fn even(layout: &Layout, step: f64) -> Times {
    let n = layout.ramps * layout.reads;
    let times = (0..n).map(|i| (i % layout.reads + 1) as f64 * step).collect();
    Times { times, nsample: vec![1; n], frame_time: 0.0 }
}

/// Times must be finite and increase within each ramp of `reads`.
pub(super) fn check(times: &[f64], reads: usize) -> Result<(), String> {
    for (ramp, times) in times.chunks(reads.max(1)).enumerate() {
        if let Some(k) = times.iter().position(|t| !t.is_finite()) {
            return Err(format!("TIMES[{ramp}, {k}] is {}: times must be finite seconds", times[k]));
        }
        if let Some(t) = times.first().filter(|t| **t < 0.0) {
            return Err(format!(
                "TIMES[{ramp}, 0] = {t} s: times are seconds since the ramp's reset, not before it"
            ));
        }
        if let Some(k) = times.windows(2).position(|w| w[0] >= w[1]) {
            return Err(format!(
                "TIMES[{ramp}, {}] = {} s does not come after {} s: times must increase strictly within a ramp \
                 (seconds since the ramp's reset)",
                k + 1,
                times[k + 1],
                times[k]
            ));
        }
    }
    Ok(())
}

/// An HDU of one number a read; a 1-D one holds for every ramp. `None` where it is
/// absent or lost with the end of the file.
fn plane(fits: &Fits, name: &str, layout: &Layout, warnings: &mut Vec<String>) -> Result<Option<Vec<f64>>> {
    let Some(hdu) = fits.hdu(name) else { return Ok(None) };
    if !hdu.is_image() {
        return Err(fits.error(&label(hdu), "is a table: an image of one number a read is expected"));
    }
    let fits_shape = match *hdu.shape.as_slice() {
        [r, n] => (r, n) == (layout.ramps, layout.reads),
        [n] => n == layout.reads,
        _ => false,
    };
    if !fits_shape {
        let (ramps, reads) = (layout.ramps, layout.reads);
        let message = format!("is {}, but there are {ramps} x {reads} (ramps x reads)", by(&hdu.shape));
        return Err(fits.error(&label(hdu), message));
    }
    if fits.available(hdu) < hdu.data_len {
        warnings.push(format!("{name} is cut off by the end of the file: ignored"));
        return Ok(None);
    }
    let values = fits.f64(hdu)?;
    let ramps = if hdu.shape.len() == 1 { layout.ramps } else { 1 };
    Ok(Some(values.repeat(ramps)))
}

/// The NSAMPLE plane; all ones without it.
fn nsample(fits: &Fits, header: &Header, layout: &Layout, warnings: &mut Vec<String>) -> Result<Vec<u16>> {
    let n = layout.ramps * layout.reads;
    let Some(values) = plane(fits, "NSAMPLE", layout, warnings)? else {
        if layout.family != Family::Jwst && header.integer("NFRAMES").is_some_and(|f| f > 1) {
            let frames = header.integer("NFRAMES").unwrap_or_default();
            warnings.push(format!(
                "NFRAMES = {frames} without an HDU NSAMPLE: each read is taken as one frame (add NSAMPLE if averaged)"
            ));
        }
        let frames = match layout.family {
            Family::Jwst => whole(header, "NFRAMES", 1).map_err(|m| Error::input(&fits.path, m))?,
            _ => 1,
        };
        return Ok(vec![frames; n]);
    };
    if let Some(bad) = values.iter().find(|v| !(1.0..=65535.0).contains(*v)) {
        return Err(fits.error("NSAMPLE", format!("holds {bad}: each read averages 1 to 65535 frames")));
    }
    Ok(values.into_iter().map(|v| v as u16).collect())
}

/// Seconds between averaged frames: the header's, else as if they filled the
/// smallest gap between resultants.
fn frame_time(
    times: &[f64],
    nsample: &[u16],
    reads: usize,
    header: &Header,
    warnings: &mut Vec<String>,
) -> Result<f64, String> {
    if nsample.iter().all(|&n| n <= 1) {
        return Ok(0.0);
    }
    let longest = times
        .chunks(reads.max(1))
        .zip(nsample.chunks(reads.max(1)))
        .flat_map(|(t, n)| t.windows(2).zip(n.windows(2)))
        .map(|(t, n)| (t[1] - t[0]) / (f64::from(n[0]) + f64::from(n[1])) * 2.0)
        .fold(f64::INFINITY, f64::min);
    Ok(match duration(header, &["TFRAME", "FRM_TIME", "READTIME"], warnings)? {
        Some(t) => {
            if t > longest * (1.0 + 1e-6) {
                warnings.push(format!(
                    "TFRAME = {t} s makes averaged reads overlap (NSAMPLE and TIMES allow {longest} s)"
                ));
            }
            t
        }
        None if longest.is_finite() => {
            warnings.push(format!("averaged reads (NSAMPLE) without TFRAME: frames taken {longest} s apart"));
            longest
        }
        None => 0.0,
    })
}

/// A whole number of the header, `least` or more and `least` where there is none.
fn whole(header: &Header, key: &str, least: i64) -> Result<u16, String> {
    let Some(value) = header.number(key) else { return Ok(least as u16) };
    let fits = value.fract() == 0.0 && (least as f64..=65535.0).contains(&value);
    fits.then_some(value as u16)
        .ok_or_else(|| format!("{key} = {value}: it must be a whole number from {least} to 65535"))
}

/// JWST's: resultant g averages NFRAMES frames TFRAME apart and begins TGROUP =
/// TFRAME (NFRAMES + GROUPGAP) after the one before; its mean time is
/// TGROUP g + TFRAME ((NFRAMES + 1) / 2 + DRPFRMS1). `None` without either time.
fn jwst(header: &Header, layout: &Layout, warnings: &mut Vec<String>) -> Result<Option<Times>, String> {
    let whole = |key: &str, least: i64| whole(header, key, least).map(f64::from);
    let (frames, gap, dropped) = (whole("NFRAMES", 1)?, whole("GROUPGAP", 0)?, whole("DRPFRMS1", 0)?);
    let frame = duration(header, &["TFRAME"], warnings)?;
    let group = duration(header, &["TGROUP"], warnings)?.or(frame.map(|f| f * (frames + gap)));
    let Some(group) = group else { return Ok(None) };
    let frame = frame.unwrap_or(group / (frames + gap));
    if (frame * (frames + gap) / group - 1.0).abs() > 1e-3 {
        warnings.push(format!(
            "TGROUP = {group} s is not TFRAME x (NFRAMES + GROUPGAP) = {} s: TGROUP is used",
            frame * (frames + gap)
        ));
    }
    let first = frame * ((frames + 1.0) / 2.0 + dropped);
    let n = layout.ramps * layout.reads;
    let times = (0..n).map(|i| first + group * (i % layout.reads) as f64).collect();
    let frame_time = if frames > 1.0 { frame } else { 0.0 };
    Ok(Some(Times { times, nsample: vec![frames as u16; n], frame_time }))
}
