//! Reference files of a detector, as formats.md §2 says: the simulator's own maps.
//!
//! mask, bias, saturation, nonlin, gain and readnoise are exact (readnoise is in DN,
//! RNFORM 'SINGLE', without digitisation). A dark or flat that is given carries
//! noise, and says how much in ERR.

use std::path::Path;

use super::config::{Given, NightConfig};
use super::header::{compact_date, iso_date};
use super::philox::{Purpose, Source};
use super::physics::{Maps, plane};
use super::random::normal;
use crate::config::Instrument;
use crate::datamodel::{Meta, dq, master_name};
use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels};

/// Noise of a given dark (e-/s) and flat (relative).
const GIVEN_NOISE: [f64; 2] = [0.005, 0.001];

/// Writes references and knows what they have in common.
struct Writer<'a> {
    night: &'a NightConfig,
    instrument: &'a Instrument,
    detector: &'a str,
    maps: &'a Maps,
    dir: &'a Path,
}

/// Writes the references of `detector` (number `which`) to `dir`.
pub(super) fn write(
    night: &NightConfig,
    instrument: &Instrument,
    detector: &str,
    which: usize,
    maps: &Maps,
    dir: &Path,
) -> Result<()> {
    let w = Writer { night, instrument, detector, maps, dir };
    let n = maps.nx * maps.ny;
    let zeros = vec![0f32; n];
    let none = vec![0u32; n];
    w.reference("mask", "", |f, _| f.dq(&maps.mask))?;
    w.reference("bias", "DN", |f, h| {
        f.image("DATA", h, &maps.bias)?;
        f.image("ERR", h, &zeros)?;
        f.dq(&none)
    })?;
    w.reference("saturation", "DN", |f, h| {
        f.image("DATA", h, &maps.saturation)?;
        f.dq(&none)
    })?;
    w.reference("nonlin", "", |f, _| {
        let mut coefficients = vec![0f32; 4 * n];
        coefficients[n..2 * n].fill(1.0);
        coefficients[2 * n..3 * n].copy_from_slice(&maps.nonlinearity[0]);
        coefficients[3 * n..].copy_from_slice(&maps.nonlinearity[1]);
        let mut h = Header::new();
        h.set("COEFFZP", "BIAS", "x is measured from the bias");
        f.writer.image("COEFFS", &h, &[4, maps.ny, maps.nx], Pixels::F32(&coefficients))?;
        f.dq(&none)
    })?;
    w.reference("gain", "electron/DN", |f, h| f.image("DATA", h, &maps.gain))?;
    w.reference("readnoise", "DN", |f, h| f.image("DATA", h, &maps.noise))?;
    let source = Source::new(night.seed, Purpose::Map, which);
    for given in night.given.get(detector).into_iter().flatten() {
        let (name, unit, sigma, truth) = match given {
            Given::Dark => ("dark", "electron s-1", GIVEN_NOISE[0], &maps.dark),
            Given::Flat => ("flat", "", GIVEN_NOISE[1], &maps.flat),
        };
        let draw = 1000 + u32::from(*given == Given::Flat);
        let data = plane(maps.nx, maps.ny, |x, y| {
            let i = y * maps.nx + x;
            let noise = (sigma * normal(source.block(x as u32, y as u32, draw)[0])) as f32;
            if *given == Given::Flat && maps.mask[i] & (dq::DEAD | dq::REFERENCE_PIXEL) != 0 {
                1.0
            } else {
                truth[i] + noise
            }
        });
        w.reference(name, unit, |f, h| {
            f.image("DATA", h, &data)?;
            f.image("ERR", h, &vec![sigma as f32; n])?;
            f.dq(&flat_flags(*given, &maps.mask))
        })?;
    }
    Ok(())
}

/// Dead pixels have no flat.
fn flat_flags(given: Given, mask: &[u32]) -> Vec<u32> {
    mask.iter()
        .map(|m| match given {
            Given::Flat if m & dq::DEAD != 0 => m | dq::NO_FLAT_FIELD,
            _ => *m,
        })
        .collect()
}

/// A reference file being written.
struct File<'a> {
    writer: &'a mut FitsWriter,
    shape: [usize; 2],
}

impl File<'_> {
    fn image(&mut self, name: &str, header: &Header, data: &[f32]) -> Result<()> {
        self.writer.image(name, header, &self.shape, Pixels::F32(data))
    }

    fn dq(&mut self, data: &[u32]) -> Result<()> {
        let mut h = Header::new();
        dq::describe(&mut h);
        self.writer.image("DQ", &h, &self.shape, Pixels::U32(data))
    }
}

impl Writer<'_> {
    /// One file: primary header, then what `fill` puts in. `unit` becomes BUNIT.
    fn reference(
        &self,
        reftype: &str,
        unit: &str,
        fill: impl FnOnce(&mut File<'_>, &Header) -> Result<()>,
    ) -> Result<()> {
        let meta = Meta {
            detector: self.detector.into(),
            expdtst: compact_date(self.night.start_jd),
            ..Meta::default()
        };
        let name = master_name(&meta, reftype, "", "0.0.1");
        let mut primary = self.primary(reftype);
        primary.set("FILENAME", name.as_str(), "");
        let mut data = Header::new();
        if !unit.is_empty() {
            primary.set("BUNIT", unit, "");
            data.set("BUNIT", unit, "");
        }
        if reftype == "readnoise" {
            primary.set("RNFORM", "SINGLE", "noise of a single read");
            data.set("RNFORM", "SINGLE", "noise of a single read");
        }
        let mut writer = FitsWriter::create(&self.dir.join(name))?;
        writer.empty("PRIMARY", &primary)?;
        fill(&mut File { writer: &mut writer, shape: [self.maps.ny, self.maps.nx] }, &data)?;
        writer.finish()?;
        Ok(())
    }

    fn primary(&self, reftype: &str) -> Header {
        let mut h = Header::new();
        let lenslet = self.detector == "IFU";
        h.set("REFTYPE", reftype, "");
        h.set("REFVER", "0.0.1", "");
        h.set("TELESCOP", self.instrument.telescope.as_str(), "");
        h.set("INSTRUME", self.instrument.instrument.as_str(), "");
        h.set("DETECTOR", self.detector, "");
        h.set("INSTMODE", if lenslet { "LENSLET" } else { "IMG" }, "");
        if matches!(reftype, "flat") {
            h.set("FILTER", self.night.imager_filter.as_str(), "");
            h.set("PUPIL", "CLEAR", "");
        }
        if matches!(reftype, "dark") {
            h.set("READMODE", "UTR", "");
        }
        h.set("SUBARRAY", "FULL", "");
        h.set("EXPJDST", self.night.start_jd, "JD");
        h.set("EXPDTST", compact_date(self.night.start_jd), "UT");
        h.set("USEAFTER", iso_date(self.night.start_jd - 30.0), "");
        h.set("PEDIGREE", "SIMULATION", "");
        h.set("AUTHOR", "irisgpu simulate", "");
        h.set("DESCRIP", format!("simulated {reftype} of {}", self.detector), "");
        h.history("the simulator's own map of this detector");
        h
    }
}
