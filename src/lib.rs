//! irisgpu: raw up-the-ramp frames of IRIS (the near-infrared imager and
//! integral-field spectrograph of the Thirty Meter Telescope) to calibrated
//! images and cubes, on a GPU through WGSL or on the CPU with the same kernels.
//!
//! Dependencies run one way, `cli → night → pipeline → engine → kernels`, with
//! [`datamodel`], [`fits`] and [`config`] as leaves; `docs/architecture.md` is
//! the map.

pub mod config;
pub mod datamodel;
mod error;
pub mod fits;

pub use error::{Error, Result};
