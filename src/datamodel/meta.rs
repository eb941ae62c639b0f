//! What is known about an exposure: its header's facts, aliases resolved.

use std::fmt;

use super::registry::{mode_of, names, subarray_of};
use super::times::{MJD0, Span, compact_date, mjd_of};
use crate::fits::Header;

/// What an exposure is for, the second half of OBSNAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Dark (DRK).
    Dark,
    /// Flat (NFF).
    Flat,
    /// Lenslet spectral extraction calibration (SPX).
    Spx,
    /// Telluric or photometric standard (TEL).
    Telluric,
    /// Instrumental dispersion (IDP).
    Dispersion,
    /// Sky.
    Sky,
    /// Science.
    Science,
    /// Arc lamp (IMTYPE ARC; this and the following have no OBSNAME of their own).
    Arc,
    /// Pinhole grid.
    Pinhole,
    /// Fibre or artificial point source.
    Fiber,
    /// Point-spread function star.
    Psf,
    /// Exposures through a focal-plane mask.
    Mask,
}

/// Channel and kind: `IMG1-DRK`, `LEN-SCI` …
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObsName {
    /// `IMG1` … `IMG4`, `SLI`, `LEN`.
    pub channel: String,
    /// What it is for.
    pub kind: Kind,
}

impl fmt::Display for ObsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.channel, self.kind.code())
    }
}

impl Kind {
    /// The three letters of OBSNAME; the IMTYPE of those that have none.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Dark => "DRK",
            Kind::Flat => "NFF",
            Kind::Spx => "SPX",
            Kind::Telluric => "TEL",
            Kind::Dispersion => "IDP",
            Kind::Sky => "SKY",
            Kind::Science => "SCI",
            Kind::Arc => "ARC",
            Kind::Pinhole => "PINHOLE",
            Kind::Fiber => "FIBER",
            Kind::Psf => "PSF",
            Kind::Mask => "MASK",
        }
    }

    /// The OBSTYPE that goes with it.
    pub fn obstype(self) -> &'static str {
        match self {
            Kind::Dark | Kind::Flat | Kind::Spx | Kind::Telluric | Kind::Arc | Kind::Psf => "CAL",
            Kind::Dispersion | Kind::Pinhole | Kind::Fiber | Kind::Mask => "ENG",
            Kind::Sky | Kind::Science => "SCI",
        }
    }
}

/// The facts of an exposure that reduction turns on. Text is empty and numbers
/// are `None` where the header says nothing; aliases of the observatory's names
/// (SAMPMODE, NUMREADS, IFSMODE, DET_ID …) are resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// Semester (default from the date, as liger_iris_pipeline does).
    pub semid: String,
    /// Programme (default `P001`).
    pub prognum: String,
    /// Observation (default `001`).
    pub obsnum: String,
    /// Exposure number (default 1).
    pub expnum: i64,
    /// `IMG1` … `IMG4`, `IFU`.
    pub detector: String,
    /// `IMG`, `SLICER`, `LENSLET`.
    pub instmode: String,
    /// OBSTYPE as written.
    pub obstype: String,
    /// OBSNAME as written.
    pub obsname: String,
    /// IMTYPE (`SCI`, `DARK`, `FLAT`, `SKY`, `ARC` …).
    pub imtype: String,
    /// Filter.
    pub filter: String,
    /// Pupil mask.
    pub pupil: String,
    /// Grating.
    pub grating: String,
    /// Spaxel or pixel scale, arcsec.
    pub scale: Option<f64>,
    /// Read mode (`UTR`, `CDS`, `MCDS` …).
    pub readmode: String,
    /// Exposure time of a ramp, s.
    pub exptime: Option<f64>,
    /// Object.
    pub object: String,
    /// Julian date of the start.
    pub jd: Option<f64>,
    /// Julian date of the end.
    pub jd_end: Option<f64>,
    /// EXPDTST, `YYYYMMDDHHMMSS`.
    pub expdtst: String,
    /// DATALVL.
    pub level: Option<i64>,
    /// Subarray name; empty means FULL.
    pub subarray: String,
    /// 1-based first column and row of a subarray.
    pub substart: (i64, i64),
    /// SUBARRID: 0 a full frame, k the subarray k that was read beside one.
    pub subarrid: i64,
    /// Whether it is a full frame without values where subarrays were read (NSUBARR).
    pub holes: bool,
}

impl Meta {
    /// Reads the facts out of a primary header.
    pub fn from_header(h: &Header) -> Meta {
        let text = |names: &[&str]| {
            names.iter().find_map(|n| h.text(n).filter(|t| !t.is_empty())).unwrap_or_default()
        };
        let number = |names: &[&str]| names.iter().find_map(|n| h.number(n));
        let upper = |names: &[&str]| text(names).to_ascii_uppercase();
        // JWST's EXPTIME is of all integrations, EFFINTTM of one.
        let exptime = number(&["EXPTIME", "EFFINTTM"]);
        let mut detector = upper(names("DETECTOR"));
        // iris_pipeline's and the first CRDS's names.
        if matches!(detector.as_str(), "IRIS1" | "IRIS2" | "IRIS3" | "IRIS4") {
            detector = detector.replace("IRIS", "IMG");
        }
        let mode_of_detector = mode_of(&detector).unwrap_or_default();
        if matches!(mode_of_detector, "SLICER" | "LENSLET") {
            detector = "IFU".into();
        }
        let mut instmode = upper(names("INSTMODE"));
        if instmode.is_empty() {
            instmode = mode_of_detector.to_owned();
        }
        // When it was taken, as the product will have it.
        let span = Span::of(h);
        let half = exptime.unwrap_or(0.0) / 172_800.0;
        let begin = span.begin.or(span.middle.map(|m| m - half)).or(span.end.map(|e| e - 2.0 * half));
        let whole = |key: &&str| {
            let digits: String = h.text(key)?.chars().filter(char::is_ascii_digit).take(14).collect();
            (digits.len() == 14 && mjd_of(&digits).is_some()).then_some(digits)
        };
        let expdtst = ["EXPDTST", "DATE-BEG", "DATE-OBS"].iter().find_map(whole);
        let expdtst = expdtst.or_else(|| begin.map(compact_date)).unwrap_or_default();
        // The keywords of the subarray are then those of a window in a full frame.
        let windows = guide_window_mode(h);
        let start = |key: &str| names(key).iter().find_map(|k| h.integer(k)).unwrap_or(1);
        let or = |value: String, default: &str| if value.is_empty() { default.to_owned() } else { value };
        Meta {
            semid: or(text(&["SEMID"]), &semester(&expdtst)),
            prognum: or(text(&["PROGNUM"]), "P001"),
            obsnum: or(text(&["OBSNUM"]), "001"),
            expnum: names("EXPNUM").iter().find_map(|key| h.integer(key).filter(|n| *n >= 0)).unwrap_or(1),
            detector,
            instmode,
            obstype: upper(&["OBSTYPE"]),
            obsname: upper(&["OBSNAME"]),
            imtype: upper(&["IMTYPE"]),
            filter: text(&["FILTER"]),
            pupil: text(&["PUPIL"]),
            grating: text(names("GRATING")),
            scale: number(&["SCALE"]).or_else(|| number(&["IFSSCALE"]).map(|mas| mas / 1000.0)),
            readmode: upper(names("READMODE")),
            exptime,
            object: text(&["OBJECT"]),
            jd: begin.map(|mjd| mjd + MJD0),
            jd_end: span.end.map(|mjd| mjd + MJD0),
            expdtst,
            level: h.integer("DATALVL"),
            subarray: if windows { String::new() } else { subarray_of(&upper(names("SUBARRAY"))).to_owned() },
            subarrid: h.integer("SUBARRID").filter(|n| *n > 0 && !windows).unwrap_or(0),
            holes: !windows && h.integer("NSUBARR").is_some_and(|n| n > 0),
            substart: match windows {
                true => (1, 1),
                false => (start("SUBSTRT1"), start("SUBSTRT2")),
            },
        }
    }
}

/// Whether parts of the detector were on-detector guide windows: SARRMODE (or
/// SUBARRAY, which stands for it) is ODGW.
pub fn guide_window_mode(h: &Header) -> bool {
    ["SARRMODE", "SUBARRAY"].iter().any(|key| h.text(key).is_some_and(|t| t.eq_ignore_ascii_case("ODGW")))
}

/// `2024B` from a date string; `0000A` without one (liger_iris_pipeline's rule:
/// the year and `A` before August).
fn semester(date: &str) -> String {
    match (date.get(..4), date.get(4..6).and_then(|m| m.parse::<u32>().ok())) {
        (Some(year), Some(month)) => format!("{year}{}", if month < 8 { 'A' } else { 'B' }),
        _ => "0000A".into(),
    }
}
