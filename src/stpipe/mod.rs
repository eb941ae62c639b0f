//! What people type who know stpipe and the pipelines built on it: names of pipelines,
//! steps and parameters ([`names`]), `.cfg` files ([`Cfg`]), associations
//! ([`Association`]). Each is understood and turned into this program's own words;
//! nothing here knows a file's pixels.
//!
//! The names are those of stpipe 0.8, jwst 1.18, iris_pipeline and
//! liger_iris_pipeline (2025-08), read in their sources.

mod association;
mod cfg;
pub mod names;

#[cfg(any(test, fuzzing))]
pub(crate) use association::parse as parse_association;
pub use association::{Association, Member, Product, Role};
pub use cfg::Cfg;
#[cfg(any(test, fuzzing))]
pub(crate) use cfg::parse as parse_cfg;
