//! Wavelengths: of spaxels from arcs, of a frame from the sky's own lines, of the
//! observer's motion; and where light of each wavelength falls in the field.
//!
//! [`oh`], [`dispersion`] and [`observer`] know cubes and headers, not lenslets.

pub mod dispersion;
pub mod observer;
pub mod oh;
mod recipes;
pub mod solve;
mod source;
mod wavefile;
pub mod wavemap;

pub use dispersion::Dispersion;
pub use oh::ZeroPoint;
pub use wavemap::Wavemap;
