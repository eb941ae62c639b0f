//! Looking at a file and measuring in it: cuts, stretches and colours, statistics,
//! star widths, depth and Strehl ratio, pictures with labels.
//!
//! [`show`] makes planes and spectra of files; all else knows arrays.

pub mod ds9;
mod flags;
pub mod measure;
pub mod picture;
pub mod show;
pub mod smooth;
pub mod stars;
pub mod stats;
pub mod stretch;

pub use flags::Flagged;
pub use measure::Measured;
pub use show::{Collapse, Meaning, Plane, Shown};
pub use stats::Stats;
pub use stretch::{Cuts, Stretch};
