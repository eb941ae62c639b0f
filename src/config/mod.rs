//! Configuration: steps and their parameters, recipes (lists of steps), and the
//! instrument's own numbers. All are data (YAML under `configs/`, compiled in as
//! defaults, replaced by `--config`), so that users select, skip and set
//! parameters without compiling.

mod instrument;
mod range;
mod recipe;
mod steps;

use std::path::Path;

use crate::error::{Error, Result};

pub use instrument::{Amplifiers, Detector, Imager, Instrument, Lenslet};
pub use range::Range;
pub use recipe::{Overrides, Recipe, Takes};
pub use steps::*;

/// The text of a configuration file that the user named.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::Config(format!("cannot read {}: {e}", path.display())))
}
