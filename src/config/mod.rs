//! Configuration: steps and their parameters, recipes (lists of steps), and the
//! instrument's own numbers. All are data (YAML under `configs/`, compiled in as
//! defaults, replaced by `--config`), so that users select, skip and set
//! parameters without compiling.

mod instrument;
mod recipe;
mod steps;

pub use instrument::{Amplifiers, Detector, Imager, Instrument, Lenslet};
pub use recipe::{Overrides, Recipe, Takes};
pub use steps::*;
