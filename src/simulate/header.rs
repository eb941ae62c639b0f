//! Headers of raw frames, and dates.

use super::config::{NightConfig, Purpose, Spx};
use super::plan::{Exposure, Lamp};
use super::wcs::Wcs;
use crate::config::Instrument;
use crate::fits::Header;

/// Julian date to (year, month, day, hour, minute, second), proleptic Gregorian
/// (Fliegel & Van Flandern 1968).
fn calendar(jd: f64) -> [i64; 6] {
    let whole = ((jd + 0.5) * 86_400.0).round() as i64;
    let (day, second) = (whole.div_euclid(86_400), whole.rem_euclid(86_400));
    let mut l = day + 68_569;
    let n = 4 * l / 146_097;
    l -= (146_097 * n + 3) / 4;
    let i = 4000 * (l + 1) / 1_461_001;
    l = l - 1461 * i / 4 + 31;
    let j = 80 * l / 2447;
    let date = l - 2447 * j / 80;
    let l = j / 11;
    [100 * (n - 49) + i + l, j + 2 - 12 * l, date, second / 3600, second / 60 % 60, second % 60]
}

/// `YYYYMMDDHHMMSS`.
pub(super) fn compact_date(jd: f64) -> String {
    let [y, m, d, h, min, s] = calendar(jd);
    format!("{y:04}{m:02}{d:02}{h:02}{min:02}{s:02}")
}

/// `YYYY-MM-DDTHH:MM:SS`.
pub(super) fn iso_date(jd: f64) -> String {
    let [y, m, d, h, min, s] = calendar(jd);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}")
}

/// The plate of an exposure: the detector's (or the lenslet array's) pointing.
pub(super) fn wcs(night: &NightConfig, instrument: &Instrument, e: &Exposure, pointing: [f64; 3]) -> Wcs {
    if e.is_lenslet() {
        let c = &night.lenslet;
        return Wcs::detector(pointing, c.scale, instrument.lenslet.parity, c.grid, [0.0; 2]);
    }
    let i = &instrument.imager;
    let offset = i.offsets.get(&e.block.detector).copied().unwrap_or([0.0; 2]);
    Wcs::detector(pointing, i.plate_scale, i.parity, night.frame, offset)
}

/// The primary header of a raw frame.
pub(super) fn raw(night: &NightConfig, instrument: &Instrument, e: &Exposure) -> Header {
    let b = &e.block;
    let mut h = Header::new();
    h.set("FILENAME", e.file_name(night), "");
    h.set("FILETYPE", "FITS", "");
    h.set("DATAMODL", "RampModel", "");
    h.set("DATALVL", 0, "raw ramp");
    h.set("TELESCOP", instrument.telescope.as_str(), "");
    h.set("INSTRUME", instrument.instrument.as_str(), "");
    h.set("DETECTOR", b.detector.as_str(), "");
    h.set("INSTMODE", if e.is_lenslet() { "LENSLET" } else { "IMG" }, "");
    h.set("OBSTYPE", b.kind.kind().obstype(), "");
    // Arcs have none of their own.
    if b.kind != Purpose::Arc {
        h.set("OBSNAME", e.obsname(), "");
    }
    h.set("IMTYPE", e.imtype(), "");
    let l = &night.lenslet;
    if e.is_lenslet() {
        h.set("FILTER", l.filter.as_str(), "");
        h.set("PUPIL", "CLEAR", "");
        h.set("GRATING", l.grating.as_str(), "");
        h.set("SCALE", l.scale, "arcsec a spaxel");
        h.set("WAVEMIN", l.wave[0], "um");
        h.set("WAVEMAX", l.wave[1], "um");
        h.set("WAVECEN", (l.wave[0] + l.wave[1]) / 2.0, "um");
        h.set("LENSNX", l.grid[0], "lenslets along ix");
        h.set("LENSNY", l.grid[1], "lenslets along iy");
    } else {
        h.set("FILTER", night.imager_filter.as_str(), "");
        h.set("PUPIL", "CLEAR", "");
        h.set("GRATING", "NONE", "");
        h.set("SCALE", instrument.imager.plate_scale, "arcsec a pixel");
    }
    lamp(&mut h, e);
    let (exptime, ramps) = (e.exptime(), b.ramps);
    h.set("READMODE", b.readmode.as_str(), "");
    h.set("EXPTIME", exptime, "s a ramp, reset to last read");
    h.set("NREADS", b.reads, "reads a ramp");
    h.set("NGROUPS", ramps, "ramps");
    h.set("NFRAMES", 1, "frames averaged in a read");
    h.set("READTIME", b.read_time, "s from read to read");
    h.set("EXPNUM", e.number + 1, "");
    let end = e.jd + ramps as f64 * exptime / 86_400.0;
    for (suffix, jd) in [("ST", e.jd), ("MID", (e.jd + end) / 2.0), ("END", end)] {
        h.set(&format!("EXPJD{suffix}"), jd, "JD");
    }
    for (suffix, jd) in [("ST", e.jd), ("MID", (e.jd + end) / 2.0), ("END", end)] {
        h.set(&format!("EXPDT{suffix}"), compact_date(jd), "UT");
    }
    h.set("OBJECT", object(night, e), "");
    h.set("RA", e.pointing[0], "pointing, degrees, ICRS");
    h.set("DEC", e.pointing[1], "pointing, degrees, ICRS");
    h.set("PA", e.pointing[2], "degrees east of north of +y");
    h.set("EQUINOX", 2000.0, "");
    h.set("SEMID", night.semid.as_str(), "");
    h.set("PROGNUM", night.prognum.as_str(), "");
    h.set("OBSNUM", night.obsnum.as_str(), "");
    h.set("SUBARRAY", "FULL", "");
    h.set("SUBARRID", 0, "");
    let [nx, ny] = night.frame;
    h.set("SUBSTRT1", 1, "");
    h.set("SUBSTRT2", 1, "");
    h.set("SUBSIZE1", nx, "");
    h.set("SUBSIZE2", ny, "");
    h.set("DETXSIZE", nx, "");
    h.set("DETYSIZE", ny, "");
    h.set("FASTAXIS", 0, "");
    h.set("SLOWAXIS", 1, "");
    h.set("SIMSEED", night.seed.to_string(), "simulated by irisgpu with this seed");
    h
}

fn object(night: &NightConfig, e: &Exposure) -> String {
    match e.lamp {
        Lamp::Dark => "DARK".into(),
        Lamp::Flat => "FLAT LAMP".into(),
        Lamp::Sky => "SKY".into(),
        Lamp::Science => night.object.clone(),
        Lamp::White(_) => "WHITE LAMP".into(),
        Lamp::Lines(..) => "LINE LAMP".into(),
        Lamp::Point(_) => "WHITE POINT SOURCE".into(),
    }
}

/// SPXTYPE and what goes with it: LENSCOL (from 1) of a white scan; SPXWAVE of a
/// monochromatic frame; SPXNWAV and SPXWAV1 … of an arc.
fn lamp(h: &mut Header, e: &Exposure) {
    match &e.lamp {
        Lamp::White(column) => {
            h.set("SPXTYPE", "WHITE", "lamp of a LEN-SPX frame");
            h.set("LENSCOL", column + 1, "lit column of lenslets, from 1");
        }
        Lamp::Lines(lines, Spx::Mono) => {
            h.set("SPXTYPE", "MONO", "lamp of a LEN-SPX frame");
            h.set("SPXWAVE", lines.first().map_or(0.0, |l| l[0]), "vacuum um");
        }
        Lamp::Lines(..) if !e.block.lamps.is_empty() => {
            h.set("LAMP", e.block.lamps.as_str(), "arc lamps that are lit");
        }
        Lamp::Lines(lines, _) => {
            h.set("SPXTYPE", "ARC", "lamp of a LEN-SPX frame");
            h.set("SPXNWAV", lines.len(), "lines of the lamp");
            for (i, [wave, _]) in lines.iter().enumerate().take(99) {
                h.set(&format!("SPXWAV{}", i + 1), *wave, "vacuum um");
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datamodel::Meta;

    #[test]
    fn dates_are_right() {
        assert_eq!(iso_date(2_451_545.0), "2000-01-01T12:00:00");
        assert_eq!(compact_date(2_461_114.625), "20260315030000");
    }

    #[test]
    fn headers_say_what_reduction_needs() {
        let night = NightConfig::demo().expect("demo");
        let iris = Instrument::iris().expect("iris");
        for e in super::super::plan::exposures(&night) {
            let h = raw(&night, &iris, &e);
            let m = Meta::from_header(&h);
            assert_eq!(m.detector, e.block.detector);
            let named = e.block.kind != Purpose::Arc;
            assert!(if named { m.obsname == e.obsname() } else { m.obsname.is_empty() && m.imtype == "ARC" });
            assert!(m.scale.is_some() && m.exptime.is_some() && m.jd == Some(e.jd) && m.expdtst.len() == 14);
            for k in ["RA", "DEC", "PA", "NREADS", "NGROUPS", "READMODE", "FILTER", "GRATING", "DATALVL"] {
                assert!(h.has(k), "{k}");
            }
            if m.obsname == "LEN-SPX" {
                assert!(h.has("SPXTYPE") && (h.has("LENSCOL") || h.has("SPXWAVE") || h.has("SPXWAV1")));
            }
        }
    }
}
