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

pub use instrument::{Amplifiers, Detector, Imager, Instrument, Lenslet, LensletFormat};
pub use range::Range;
pub use recipe::{Overrides, Recipe, Takes};
pub use steps::*;

/// What is wrong with a YAML text, on one line; `origin` is named.
pub(crate) fn not_understood(origin: &str, e: &serde_yaml::Error) -> Error {
    let text = e.to_string();
    let line = text.lines().next().unwrap_or_default();
    Error::Config(format!("{origin}: {}", line.trim_start_matches("error: ")))
}

/// The text of a configuration file that the user named.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    // What people write is shorter by far; what fills the memory is no text of theirs.
    const LONGEST: u64 = 64 << 20;
    let cannot = |why: String| Error::Config(format!("cannot read {}: {why}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|e| cannot(e.to_string()))?.len();
    if bytes > LONGEST {
        return Err(cannot(format!("it has {bytes} bytes, which is too long for a text of this kind")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
    // Some editors mark text as UTF-8.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
