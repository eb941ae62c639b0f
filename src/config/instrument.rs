//! The instrument's own numbers, from `configs/instrument/*.yaml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Everything about the instrument that the code must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// INSTRUME.
    pub instrument: String,
    /// TELESCOP.
    pub telescope: String,
    /// Where the telescope stands.
    #[serde(default)]
    pub site: Option<Site>,
    /// What the telescope's sharpest picture depends on.
    #[serde(default)]
    pub pupil: Option<Pupil>,
    /// Detectors by DETECTOR.
    pub detectors: BTreeMap<String, Detector>,
    /// The imager.
    pub imager: Imager,
    /// The lenslet spectrograph.
    pub lenslet: Lenslet,
}

/// A place on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// m above the ellipsoid.
    pub height: f64,
}

impl Site {
    /// Geocentric x (to Greenwich), y (to 90° east), z (north), m, on the WGS 84 ellipsoid.
    pub fn geocentric(&self) -> [f64; 3] {
        // NIMA TR8350.2: semi-major axis and flattening.
        let (a, f) = (6_378_137.0, 1.0 / 298.257_223_563);
        let e2 = f * (2.0 - f);
        let ((sin, cos), (east, greenwich)) =
            (self.latitude.to_radians().sin_cos(), self.longitude.to_radians().sin_cos());
        let n = a / (1.0 - e2 * sin * sin).sqrt();
        let across = (n + self.height) * cos;
        [across * greenwich, across * east, (n * (1.0 - e2) + self.height) * sin]
    }
}

/// The telescope's pupil: a ring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pupil {
    /// Outer diameter, m.
    pub diameter: f64,
    /// Diameter of the central obstruction, m.
    pub obstruction: f64,
}

/// One detector. The numbers stand in, with a warning, where no reference file does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// Columns and rows of the full frame.
    pub size: [usize; 2],
    /// Width of the border of reference pixels on each side.
    pub reference_border: usize,
    /// Readout channels.
    pub amplifiers: Amplifiers,
    /// e-/DN.
    pub gain: f64,
    /// Noise of a single read, e-.
    pub read_noise: f64,
    /// Dark rate, e-/s.
    pub dark: f64,
    /// Saturation, raw DN.
    pub saturation: f64,
}

/// Readout channels: equal stripes side by side along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amplifiers {
    /// Number of stripes.
    pub count: usize,
    /// The axis along which the stripes lie side by side: `x` (each is a block of
    /// columns) or `y`.
    pub along: char,
}

/// The imager's focal plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imager {
    /// Arcsec a pixel.
    pub plate_scale: f64,
    /// +1 where east is to the right when north is up, −1 where it is to the left.
    pub parity: f64,
    /// Pointing centre to detector centre, arcsec (east, north at PA 0), by DETECTOR.
    pub offsets: BTreeMap<String, [f64; 2]>,
}

/// The lenslet spectrograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lenslet {
    /// Arcsec a spaxel where the header has no SCALE.
    pub spaxel_scale: f64,
    /// +1 where east is to the right when north is up, −1 where it is to the left.
    pub parity: f64,
    /// Layouts of the spectra by name.
    #[serde(default)]
    pub formats: BTreeMap<String, LensletFormat>,
}

/// A layout of the lenslets' spectra on the detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LensletFormat {
    /// Lenslets along x and y.
    pub grid: [usize; 2],
    /// Blocks that the columns of lenslets are shared out among, one behind the other
    /// along dispersion.
    pub blocks: usize,
    /// Pixels from block to block.
    pub block_step: f64,
    /// Pixels from lenslet to lenslet.
    pub pitch: [f64; 2],
    /// Turn of the lattice, degrees.
    pub angle: f64,
    /// Shift along dispersion from row to row of lenslets, pixels.
    pub skew: f64,
    /// Length of a spectrum, pixels.
    pub span: f64,
}

const IRIS: &str = include_str!("../../configs/instrument/iris.yaml");

impl Instrument {
    /// IRIS, as compiled in.
    pub fn iris() -> Result<Instrument> {
        Self::from_yaml(IRIS, "instrument/iris.yaml")
    }

    /// Another instrument file.
    pub fn from_file(path: &Path) -> Result<Instrument> {
        Self::from_yaml(&super::read_text(path)?, &path.display().to_string())
    }

    /// The text of an instrument file; `origin` is named in errors.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Instrument> {
        serde_yaml::from_str(text).map_err(|e| super::not_understood(origin, &e))
    }

    /// The detector called `name`.
    pub fn detector(&self, name: &str) -> Option<&Detector> {
        self.detectors.get(name)
    }

    /// The detector called `name` that `file` speaks of, or a sentence that lists what
    /// there is.
    pub fn detector_of(&self, name: &str, file: &Path) -> Result<&Detector> {
        self.detector(name).ok_or_else(|| Error::input(file, self.no_detector(name)))
    }

    /// A sentence about a DETECTOR that there is not.
    pub fn no_detector(&self, name: &str) -> String {
        let names: Vec<_> = self.detectors.keys().map(String::as_str).collect();
        let what = if name.is_empty() { "is missing".into() } else { format!("= '{name}' is not known") };
        format!(
            "DETECTOR {what}: set it to one of {}, or give an instrument file that has it (--instrument FILE)",
            names.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_in_metres_from_the_centre() {
        // astropy: EarthLocation.from_geodetic(-155.481, 19.833, 4050)
        let site = Instrument::iris().expect("iris.yaml").site.expect("site");
        let expected = [-5_464_350.131_5, -2_492_436.539_9, 2_151_689.167_3];
        for (got, want) in site.geocentric().into_iter().zip(expected) {
            assert!((got - want).abs() < 1e-3, "{got} {want}");
        }
    }

    #[test]
    fn the_built_in_instrument_parses() {
        let iris = Instrument::iris().expect("iris.yaml");
        assert_eq!(iris.detector("IMG1").expect("IMG1").size, [4096, 4096]);
        assert!(iris.detector("IMG9").is_none() && iris.no_detector("IMG9").contains("IMG4, or"));
    }
}
