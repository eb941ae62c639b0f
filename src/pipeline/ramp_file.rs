//! Ramps that a step leaves: native layout, f4, with PIXELDQ and GROUPDQ.

use std::path::{Path, PathBuf};

use super::calibration::Calibration;
use super::product::{About, primary};
use super::stage1::Stream;
use crate::datamodel::dq;
use crate::engine::Engine;
use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels};
use crate::input::Ramp;

/// Writes the ramp as `stream` leaves it: TIMES, DATA (ramps, reads, ny, nx) f4,
/// GROUPDQ u1, PIXELDQ u4, NSAMPLE where reads are averages, and AVERAGE_DARK_CURRENT
/// where a dark ramp was subtracted.
pub(super) fn write(
    path: &Path,
    about: &About<'_>,
    ramp: &Ramp,
    cal: &Calibration<'_>,
    stream: &Stream<'_>,
    engine: &mut dyn Engine,
) -> Result<PathBuf> {
    let mut w = FitsWriter::create(path)?;
    let mut header = primary(path, about);
    if ramp.frame_time > 0.0 {
        header.set("TFRAME", ramp.frame_time, "s between averaged frames");
    }
    w.empty("PRIMARY", &header)?;
    let plain = Header::new();
    // TIMES stands first: a file cut short still knows when its reads were taken.
    w.image("TIMES", &plain, &[ramp.ramps, ramp.reads], Pixels::F64(&ramp.times))?;
    if ramp.nsample.iter().any(|n| *n > 1) {
        let counts: Vec<i16> = ramp.nsample.iter().map(|n| *n as i16).collect();
        w.image("NSAMPLE", &plain, &[ramp.ramps, ramp.reads], Pixels::I16(&counts))?;
    }
    let shape = [ramp.ramps, ramp.reads, ramp.ny, ramp.nx];
    let frame = ramp.ny * ramp.nx;
    let mut unit = Header::new();
    unit.set("BUNIT", "adu", "");
    // Two passes over the ramp, so that neither cube is ever held whole.
    w.image_in_parts("DATA", &unit, &shape, Pixels::F32(&[]), |parts| {
        stream.ramps(engine, &mut |rows, values, _| {
            let n = rows.len() * ramp.nx;
            values
                .chunks(n)
                .enumerate()
                .try_for_each(|(k, read)| parts.put(k * frame + rows.start * ramp.nx, Pixels::F32(read)))
        })
    })?;
    w.image_in_parts("GROUPDQ", &plain, &shape, Pixels::U8(&[]), |parts| {
        stream.ramps(engine, &mut |rows, _, flags| {
            let n = rows.len() * ramp.nx;
            flags.chunks(n).enumerate().try_for_each(|(k, read)| {
                let bytes: Vec<u8> = read.iter().map(|f| *f as u8).collect();
                parts.put(k * frame + rows.start * ramp.nx, Pixels::U8(&bytes))
            })
        })
    })?;
    if stream.has_zeroframe() {
        w.image_in_parts("ZEROFRAME", &unit, &[ramp.ramps, ramp.ny, ramp.nx], Pixels::F32(&[]), |parts| {
            stream.zeroframes(engine, &mut |rows, values| {
                values.chunks(rows.len() * ramp.nx).enumerate().try_for_each(|(r, frame_of)| {
                    parts.put(r * frame + rows.start * ramp.nx, Pixels::F32(frame_of))
                })
            })
        })?;
    }
    let mut bits = Header::new();
    dq::describe(&mut bits);
    if let Some(dark) = cal.average_dark() {
        let mut unit = Header::new();
        unit.set("BUNIT", "adu s-1", "");
        w.image("AVERAGE_DARK_CURRENT", &unit, &[ramp.ny, ramp.nx], Pixels::F32(dark))?;
    }
    w.image("PIXELDQ", &bits, &[ramp.ny, ramp.nx], Pixels::U32(&cal.bits()?))?;
    w.finish()
}
