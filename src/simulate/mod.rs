//! The instrument forwards, with its truth: raw nights for tests, benchmarks and the
//! demo. Product code, seeded, that shares only data model, configuration and FITS
//! with the rest and no line of the reduction.
//!
//! [`night`] writes, for a [`NightConfig`]:
//!
//! * `DIR/night/*_LVL0_NNNN.fits`: raw ramps, native layout (uint16 `DATA` (ramps,
//!   reads, ny, nx), float64 `TIMES` (ramps, reads), seconds since reset);
//! * `DIR/night/refs/*.fits`: mask, bias, saturation, nonlin, gain, readnoise of each
//!   detector used, and the dark and flat of those in `given` (`references`);
//! * `DIR/truth/`: the truth, described below.
//!
//! The same seed gives the same bytes on any number of threads: every random number
//! is a function of the seed, the exposure, the ramp, the read and the pixel.
//! Memory: nine maps of a frame and one read, however long the ramp.
//!
//! # LEN-SPX keywords
//! `SPXTYPE` = 'WHITE' (white lamp through one column of lenslets, `LENSCOL`, from 1),
//! 'ARC' (all lenslets; `SPXNWAV` lines at `SPXWAV1`, `SPXWAV2` … vacuum µm) or 'MONO'
//! (all lenslets; one line at `SPXWAVE`). Arcs (IMTYPE ARC) have no OBSNAME; their lamps
//! are in `LAMP`, or their lines in `SPXWAV1` …
//!
//! # Truth of an exposure, `<raw stem>_truth.fits`
//! PRIMARY repeats the raw header. Pixels and lenslets are counted from 0.
//!
//! | HDU | shape | content |
//! |---|---|---|
//! | RATE | f4 (ny, nx) | e-/s entering each pixel, dark included: the level-1 rate |
//! | MASK | u4 (ny, nx) | the detector's flags (those of the mask reference), JUMP_DET where a cosmic ray falls between two reads, SATURATED where a ramp saturates |
//! | NUSABLE | u2 (ramps, ny, nx) | reads before the first at or above saturation |
//! | SCENE | f4 (ny, nx) | imager: sources alone where the flat is 1, e-/s: the level-2 image after dark, flat and sky; its header has the full WCS and SKYLEVEL |
//! | SKY | f4 (ny, nx) | imager: sky (or the flat lamp) where the flat is 1, e-/s. RATE = (SCENE + SKY) × flat + dark |
//! | STARS | table | imager: RA, DEC (deg), X, Y (px), FLUX (e-/s) |
//! | SPECTRA | f4 (lenslets, nx) | lenslet: T_l S_l(x), all light, e-/s on each detector column; lenslet = iy × LENSNX + ix. What an extraction should find |
//! | CUBE | f4 (nw, iy, ix) | lenslet science and sky: targets alone, e-/s/µm, as the line-spread function shows them (a Gaussian of LSFFWHM px along x, pixels not included), throughput taken out, band edges left in. A channel's truth is its integral |
//! | SKYCUBE | f4 (nw, iy, ix) | the same for the sky |
//! | WAVELENGTH | f8 (nw) | of both cubes, vacuum µm, five samples a detector column |
//! | HITS | table | cosmic rays: X, Y, RAMP, READ (the first read that holds the charge), CHARGE (e-) |
//!
//! An extraction sees pixels too: averaged over the column's width, CUBE is
//! SPECTRA / T_l / (dλ/dx). SPECTRA rebinned as the reduction rebins is the exact
//! expectation; the integral of CUBE is the instrument's.
//!
//! # Truth of the night
//! `dark_{DETECTOR}_truth.fits` (e-/s) and `flat_{DETECTOR}_truth.fits` (median 1):
//! DATA, DQ. `lenslets_truth.fits`: LENSLETS (IX, IY, XCOEF, YCOEF, XREF, FWHM, THRU,
//! XMIN, XMAX: [`Lenslet`]), TRACE (lenslets, nx) row of the trace and WAVE (lenslets,
//! nx) wavelength at each column's centre, NaN where the spectrum is not, at the start of
//! the night (`lenslet.drift`); DISPERSION: WAVELENGTH (µm), DX, DY (spaxels) by which
//! targets and point sources stand off.

mod config;
mod cosmic;
mod header;
mod imager;
mod lenslet;
pub(crate) mod philox;
mod physics;
mod plan;
pub mod psf;
mod ramp;
pub(crate) mod random;
mod references;
mod spectra;
#[cfg(test)]
mod tests;
mod truth;
mod wcs;
mod write;

pub use config::{Block, Given, NightConfig, Purpose, Spx};
pub use cosmic::Hit;
pub use imager::{Galaxy, ImagerScene, Star};
pub use lenslet::{Lenslet, LensletConfig};
pub use philox::philox;
pub use physics::{Cosmic, Maps, Physics};
pub use plan::{Exposure, Lamp, exposures};
pub use psf::{Change, Psf};
pub use ramp::{Readout, Timing};
pub use spectra::{Field, Light, frame};
pub use wcs::Wcs;
pub use write::{night, ramp_file};
