//! irisgpu: raw up-the-ramp frames of IRIS (the near-infrared imager and
//! integral-field spectrograph of the Thirty Meter Telescope) to calibrated
//! images and cubes, on a GPU through WGSL or on the CPU with the same kernels.
//!
//! Dependencies run one way, `cli → night → pipeline → engine → kernels`, with
//! [`datamodel`], [`fits`] and [`config`] as leaves; `docs/architecture.md` is
//! the map.

pub mod bench;
pub mod capi;
pub mod cli;
pub mod config;
pub mod datamodel;
pub mod emit;
pub mod engine;
mod error;
pub mod fits;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod input;
pub mod kernels;
pub mod night;
mod paths;
pub mod pipeline;
pub mod profile;
pub mod quicklook;
pub mod refs;
pub mod report;
mod simd;
pub mod simulate;
pub mod stpipe;
mod words;

pub use error::{Error, Result};
