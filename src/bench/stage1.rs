//! Stage 1 as `irisgpu run stage1` does it, on files of simulated ramps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ramps::{COLUMNS, Ramps};
use crate::config::{Detector, Instrument, Overrides, Recipe};
use crate::datamodel::Rate;
use crate::engine::{DeviceInfo, Engine};
use crate::error::{Error, Result};
use crate::input::{self, Encoding, OpenOptions, Ramp, Raw};
use crate::pipeline::calibration::Calibration;
use crate::pipeline::stage1::{Plan, Stream};

/// Rows of a file at most: what a frame of ramps takes in memory.
const ROWS: usize = 400;

/// A frame of ramps after stage 1.
pub(super) struct Fitted {
    pub(super) rate: Rate,
    /// The first rows again in double precision: rate, error, photon and read variance,
    /// reduced χ².
    pub(super) exact: Vec<[f64; 5]>,
}

/// An engine, and a folder for the files on their way to it.
pub(super) struct Bench {
    engine: Box<dyn Engine>,
    instrument: Instrument,
    recipe: Recipe,
    folder: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing can be done where it fails, and nothing is wrong but lost space.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Bench {
    /// The recipe stage1 without reference pixels, on `engine`.
    pub(super) fn new(engine: Box<dyn Engine>) -> Result<Bench> {
        let off = BTreeMap::from([("skip".to_owned(), "true".to_owned())]);
        let recipe = Recipe::built_in("stage1")?.with(&Overrides::from([("refpix".to_owned(), off)]))?;
        // One process may hold several.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("irisgpu-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Bench { engine, instrument: Instrument::iris()?, recipe, folder })
    }

    pub(super) fn device(&self) -> &DeviceInfo {
        self.engine.device()
    }

    /// Simulates at least `ramps` ramps (whole rows) and fits them, a file at a time;
    /// `look` gets each file's, with `exact` rows of the first in double precision.
    pub(super) fn run(
        &mut self,
        ramps: &Ramps,
        (count, exact): (usize, usize),
        seed: u64,
        look: &mut dyn FnMut(Fitted),
    ) -> Result<()> {
        let mut left = count.div_ceil(COLUMNS).max(1);
        let mut file = 0;
        while left > 0 {
            let rows = left.min(ROWS);
            // 2¹⁶ seeds a point: no two files share one.
            look(self.fit(ramps, rows, if file == 0 { exact } else { 0 }, seed << 16 | file)?);
            left -= rows;
            file += 1;
        }
        Ok(())
    }

    fn fit(&mut self, ramps: &Ramps, rows: usize, exact: usize, seed: u64) -> Result<Fitted> {
        let path = self.folder.join("ramps.fits");
        ramps.write(&path, rows, seed)?;
        let Raw::Ramp(ramp) = input::open(&path, &self.instrument, &OpenOptions::default())? else {
            return Err(Error::input(&path, "is not the ramp that was written"));
        };
        let detector = self.instrument.detector_of(&ramp.meta.detector, &path)?.clone();
        let engine = self.engine.as_mut();
        let stream = |recipe: &Recipe, engine: &dyn Engine| prepare(&ramp, recipe, &detector, engine);
        let fitted = stream(&self.recipe, engine)?;
        let rate = fitted.rates(engine, &|_| {})?;
        Ok(Fitted { rate, exact: fitted.exact(0..exact.min(rows))? })
    }
}

fn prepare<'a>(
    ramp: &'a Ramp,
    recipe: &Recipe,
    detector: &Detector,
    engine: &dyn Engine,
) -> Result<Stream<'a>> {
    let integer = ramp.encoding != Encoding::F32;
    let cal = Calibration::open(&BTreeMap::new(), ramp, detector, integer)?;
    let mut plan = Plan::new(recipe, &cal);
    Stream::prepare(ramp, cal, &mut plan, detector, engine)
}
