//! When each read was taken.

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

/// Seconds of the first of `keys` that holds a duration. READTIME and FRM_TIME are
/// seconds in exposure headers and integer microseconds in the detector's per-read
/// headers, where READTIME is an absolute time (microseconds in MJD) and no
/// duration at all: below 1e4 it is seconds, below 1e11 microseconds, else it is
/// passed over.
pub(super) fn duration(header: &Header, keys: &[&str]) -> Option<f64> {
    keys.iter().find_map(|key| match header.number(key)? {
        v if v > 0.0 && v < 1e4 => Some(v),
        v if (1e4..1e11).contains(&v) => Some(v * 1e-6),
        _ => None,
    })
}

/// Seconds a read of an evenly sampled ramp, from header or `--read-time`.
pub(super) fn read_time(header: &Header, options: &OpenOptions) -> Option<f64> {
    duration(header, &["FRM_TIME", "READTIME", "TFRAME", "TGROUP"])
        .or(options.read_time.filter(|t| t.is_finite() && *t > 0.0))
}

/// The times of all reads that `layout` promises.
pub(super) fn of_ramp(
    fits: &Fits,
    header: &Header,
    layout: &Layout,
    options: &OpenOptions,
    warnings: &mut Vec<String>,
) -> Result<Times> {
    let n = layout.ramps * layout.reads;
    let times = match (plane(fits, "TIMES", layout, warnings)?, layout.family) {
        (Some(times), _) => {
            let nsample = nsample(fits, header, layout, warnings)?;
            let frame_time = frame_time(&times, &nsample, layout.reads, header, warnings);
            Times { times, nsample, frame_time }
        }
        (None, Family::Jwst) if jwst(header, layout, warnings).is_some() => {
            jwst(header, layout, &mut Vec::new()).unwrap_or_else(|| even(layout, 1.0))
        }
        (None, _) => {
            let cut = fits.hdus.iter().any(|h| fits.available(h) < h.data_len);
            let even_share = || {
                // A file cut off before its TIMES still says how long it was exposed.
                let (time, reads) = (header.number("EXPTIME")?, header.number("NREADS")?);
                (cut && layout.family == Family::Native && time > 0.0 && reads > 0.0).then(|| {
                    warnings
                        .push("cut off before its TIMES: reads taken every EXPTIME/NREADS seconds".into());
                    time / reads
                })
            };
            let step = read_time(header, options).or_else(even_share).ok_or_else(|| {
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
    let Some(hdu) = fits.hdu(name).filter(|h| h.is_image()) else { return Ok(None) };
    let fits_shape = match *hdu.shape.as_slice() {
        [r, n] => (r, n) == (layout.ramps, layout.reads),
        [n] => n == layout.reads,
        _ => false,
    };
    if !fits_shape {
        if layout.family == Family::Jwst {
            warnings.push(format!("{name} is {}, not one number a read: ignored", by(&hdu.shape)));
            return Ok(None);
        }
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
            Family::Jwst => header.integer("NFRAMES").unwrap_or(1).clamp(1, 65535) as u16,
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
) -> f64 {
    if nsample.iter().all(|&n| n <= 1) {
        return 0.0;
    }
    let longest = times
        .chunks(reads.max(1))
        .zip(nsample.chunks(reads.max(1)))
        .flat_map(|(t, n)| t.windows(2).zip(n.windows(2)))
        .map(|(t, n)| (t[1] - t[0]) / (f64::from(n[0]) + f64::from(n[1])) * 2.0)
        .fold(f64::INFINITY, f64::min);
    match duration(header, &["TFRAME", "FRM_TIME", "READTIME"]) {
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
    }
}

/// JWST's: resultant g averages NFRAMES frames TFRAME apart and begins TGROUP =
/// TFRAME (NFRAMES + GROUPGAP) after the one before; its mean time is
/// TGROUP g + TFRAME ((NFRAMES + 1) / 2 + DRPFRMS1).
fn jwst(header: &Header, layout: &Layout, warnings: &mut Vec<String>) -> Option<Times> {
    let whole = |key: &str, least: i64| header.integer(key).unwrap_or(least).clamp(least, 65535) as f64;
    let (frames, gap, dropped) = (whole("NFRAMES", 1), whole("GROUPGAP", 0), whole("DRPFRMS1", 0));
    let frame = duration(header, &["TFRAME"]);
    let group = duration(header, &["TGROUP"]).or(frame.map(|f| f * (frames + gap)))?;
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
    Some(Times { times, nsample: vec![frames as u16; n], frame_time })
}
