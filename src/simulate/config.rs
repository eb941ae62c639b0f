//! A night as data: what to expose, with which detectors, at what.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::imager::ImagerScene;
use super::lenslet::LensletConfig;
use super::physics::Physics;
use crate::config::{not_understood, read_text};
use crate::datamodel::Kind;
use crate::datamodel::lines::{LAMPS, of_lamps};
use crate::error::{Error, Result};

const DEMO: &str = include_str!("../../configs/simulate/demo.yaml");

/// A whole night. Every field has a default; unknown ones are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NightConfig {
    /// Seeds everything random (1).
    pub seed: u64,
    /// Columns and rows of every frame ([512, 512]).
    pub frame: [usize; 2],
    /// Julian date of the first exposure (2461114.625: 2026-03-15T03:00:00).
    pub start_jd: f64,
    /// SEMID ("2026A").
    pub semid: String,
    /// PROGNUM ("P001").
    pub prognum: String,
    /// OBSNUM ("001").
    pub obsnum: String,
    /// OBJECT of science exposures ("Demo field").
    pub object: String,
    /// Pointing: RA, DEC (degrees, ICRS), PA (degrees east of north of +y)
    /// ([266.4168, -29.0078, 25.0]).
    pub pointing: [f64; 3],
    /// Physics of every detector.
    pub physics: Physics,
    /// Physics of single detectors by DETECTOR, whole, in place of `physics` (none).
    pub detectors: BTreeMap<String, Physics>,
    /// References given in `refs/` beyond mask, bias, saturation, nonlin, gain and
    /// readnoise, by DETECTOR: `dark`, `flat` (none).
    pub given: BTreeMap<String, Vec<Given>>,
    /// FILTER of imager exposures ("KS").
    pub imager_filter: String,
    /// What the imager sees.
    pub imager: ImagerScene,
    /// The lenslet spectrograph and what it sees.
    pub lenslet: LensletConfig,
    /// The exposures, in order.
    pub exposures: Vec<Block>,
}

impl Default for NightConfig {
    fn default() -> Self {
        NightConfig {
            seed: 1,
            frame: [512, 512],
            start_jd: 2_461_114.625,
            semid: "2026A".into(),
            prognum: "P001".into(),
            obsnum: "001".into(),
            object: "Demo field".into(),
            pointing: [266.4168, -29.0078, 25.0],
            physics: Physics::default(),
            detectors: BTreeMap::new(),
            given: BTreeMap::new(),
            imager_filter: "KS".into(),
            imager: ImagerScene::default(),
            lenslet: LensletConfig::default(),
            exposures: Vec::new(),
        }
    }
}

/// Calibrations that may be given as references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Given {
    /// Dark rate.
    Dark,
    /// Flat.
    Flat,
}

/// What an exposure is for, as OBSNAME spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Purpose {
    /// Dark.
    Drk,
    /// Imager flat.
    Nff,
    /// Sky.
    Sky,
    /// Science.
    Sci,
    /// Lenslet scan or lamp: see [`Spx`].
    Spx,
    /// Arc lamp through all lenslets, by IMTYPE (no OBSNAME): `lamps`, or `lines`.
    Arc,
    /// White point source among the lenslets (LEN-IDP).
    Idp,
}

impl Purpose {
    /// The data model's kind.
    pub fn kind(self) -> Kind {
        match self {
            Purpose::Drk => Kind::Dark,
            Purpose::Nff => Kind::Flat,
            Purpose::Sky => Kind::Sky,
            Purpose::Sci => Kind::Science,
            Purpose::Spx => Kind::Spx,
            Purpose::Arc => Kind::Arc,
            Purpose::Idp => Kind::Dispersion,
        }
    }
}

/// The light of a LEN-SPX exposure (SPXTYPE).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spx {
    /// A white lamp through one column of lenslets after the other (LENSCOL).
    #[default]
    White,
    /// An arc lamp through all lenslets: `lines` at once.
    Arc,
    /// A monochromator through all lenslets: one exposure a line of `lines`.
    Mono,
}

/// A block of like exposures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Block {
    /// `IMG1` … `IMG4`, or `IFU` for the lenslet spectrograph ("IMG1").
    pub detector: String,
    /// What for: DRK, NFF, SKY, SCI, SPX, ARC, IDP (SCI).
    pub kind: Purpose,
    /// Exposures (1). For `white` and `mono` SPX: exposures a column or a line.
    pub count: usize,
    /// Ramps an exposure (1).
    pub ramps: usize,
    /// Reads a ramp (10).
    pub reads: usize,
    /// Seconds from read to read, and from reset to the first (3).
    pub read_time: f64,
    /// READMODE (UTR).
    pub readmode: String,
    /// Light of a SPX block (white).
    pub spx: Spx,
    /// Wavelengths (µm) and fluxes (e-/s a lenslet) of `arc`, `mono` and ARC (none).
    pub lines: Vec<[f64; 2]>,
    /// Lamps of ARC, as LAMP names them: `Ar`, `Kr+Xe` … (none). The brightest line in
    /// the band has `lenslet.field.arc` e-/s a lenslet.
    pub lamps: String,
    /// Seconds between the exposure before and the first (0).
    pub wait: f64,
    /// Offsets of the pointing, arcsec (east, north), taken in turn (none). Of IDP: of the
    /// point source, spaxels along ix and iy from the field's centre.
    pub dithers: Vec<[f64; 2]>,
    /// Position angle in place of the night's (none).
    pub pa: Option<f64>,
    /// Factor on the sky's brightness (1).
    pub sky: f64,
    /// Factor on the flat lamp's brightness (1).
    pub lamp: f64,
}

impl Default for Block {
    fn default() -> Self {
        Block {
            detector: "IMG1".into(),
            kind: Purpose::Sci,
            count: 1,
            ramps: 1,
            reads: 10,
            read_time: 3.0,
            readmode: "UTR".into(),
            spx: Spx::White,
            lines: Vec::new(),
            lamps: String::new(),
            wait: 0.0,
            dithers: Vec::new(),
            pa: None,
            sky: 1.0,
            lamp: 1.0,
        }
    }
}

impl NightConfig {
    /// The demonstration's small, complete night (`configs/simulate/demo.yaml`).
    pub fn demo() -> Result<NightConfig> {
        NightConfig::from_yaml(DEMO, "simulate/demo.yaml")
    }

    /// Reads a night from a YAML file.
    pub fn from_file(path: &Path) -> Result<NightConfig> {
        NightConfig::from_yaml(&read_text(path)?, &path.display().to_string())
    }

    /// Reads a night from YAML; `origin` is named in errors.
    pub fn from_yaml(text: &str, origin: &str) -> Result<NightConfig> {
        let night: NightConfig = serde_yaml::from_str(text).map_err(|e| not_understood(origin, &e))?;
        night.check().map_err(|e| match e {
            Error::Config(m) => Error::Config(format!("{origin}: {m}")),
            other => other,
        })?;
        Ok(night)
    }

    /// The physics of `detector`.
    pub fn physics_of(&self, detector: &str) -> &Physics {
        self.detectors.get(detector).unwrap_or(&self.physics)
    }

    /// A sentence about the first thing that cannot be.
    pub fn check(&self) -> Result<()> {
        let fail = |m: String| Err(Error::Config(m));
        let [nx, ny] = self.frame;
        if !(16..=16_384).contains(&nx) || !(16..=16_384).contains(&ny) {
            return fail(format!("frame = [{nx}, {ny}]: each side must be 16 to 16384"));
        }
        if !(self.start_jd > 1_721_426.0 && self.start_jd < 5_000_000.0) {
            return fail(format!("start_jd = {} is not a Julian date", self.start_jd));
        }
        if !self.pointing.iter().all(|v| v.is_finite()) || self.pointing[1].abs() > 90.0 {
            return fail("pointing must be [RA, DEC, PA] in degrees".into());
        }
        self.physics.check()?;
        self.detectors.values().try_for_each(Physics::check)?;
        self.imager.check()?;
        self.lenslet.check()?;
        for (i, b) in self.exposures.iter().enumerate() {
            let fail = |m: String| Err(Error::Config(format!("exposures[{i}]: {m}")));
            if !(1..=64).contains(&b.ramps) || !(1..=10_000).contains(&b.reads) || b.count > 10_000 {
                return fail("count must be at most 10000, ramps 1 to 64, reads 1 to 10000".into());
            }
            let light = |v: f64| v.is_finite() && v >= 0.0;
            let lights = [b.sky, b.lamp, b.wait];
            if !(b.read_time.is_finite() && b.read_time > 0.0 && lights.into_iter().all(light)) {
                return fail("read_time must be positive, sky, lamp and wait not negative".into());
            }
            if matches!(b.kind, Purpose::Spx | Purpose::Arc | Purpose::Idp) && b.detector != "IFU" {
                return fail("kinds SPX, ARC and IDP need detector IFU".into());
            }
            if b.kind == Purpose::Arc && b.lines.is_empty() && of_lamps(&b.lamps).is_empty() {
                return fail(format!("kind ARC needs lines, or lamps of {}", LAMPS.join(", ")));
            }
            if b.kind == Purpose::Nff && b.detector == "IFU" {
                return fail("the lenslet spectrograph has no flats (kind NFF)".into());
            }
            if b.kind == Purpose::Spx && b.spx != Spx::White && b.lines.is_empty() {
                return fail("arc and mono need lines".into());
            }
            if b.lines.iter().flatten().any(|v| !v.is_finite() || *v < 0.0) {
                return fail("lines are pairs of wavelength (um) and flux, neither negative".into());
            }
            if b.dithers.iter().flatten().any(|v| !v.is_finite()) || b.pa.is_some_and(|v| !v.is_finite()) {
                return fail("dithers and pa must be numbers".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_parses_and_mistakes_are_sentences() {
        let demo = NightConfig::demo().expect("demo.yaml");
        assert!(demo.exposures.len() > 5);
        let e = NightConfig::from_yaml("sed: 1", "x.yaml").expect_err("unknown field");
        assert!(e.to_string().contains("sed"), "{e}");
        for bad in [
            "frame: [0, 5]",
            "exposures: [{reads: 0}]",
            "exposures: [{kind: SPX}]",
            "physics: {gain: -1}",
            "start_jd: 5",
            "lenslet: {grid: [0, 3]}",
        ] {
            let e = NightConfig::from_yaml(bad, "x.yaml").expect_err(bad);
            assert!(e.to_string().contains("x.yaml"), "{e}");
        }
    }
}
