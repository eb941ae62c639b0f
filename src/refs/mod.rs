//! Reference files: which applies, and their planes.
//!
//! Every plane comes in the frame's size, (ny, nx) row-major, free of NaN: a pixel
//! whose reference value cannot be used gets a harmless value and a DQ flag.
//!
//! | reference | unusable value | becomes | DQ |
//! |---|---|---|---|
//! | bias | NaN, ±∞ | 0 | UNRELIABLE_BIAS |
//! | saturation | NaN, ≤ 0, or NO_SAT_CHECK | never saturates (`f32::MAX`) | NO_SAT_CHECK |
//! | gain | NaN, ±∞, ≤ 0 | 1 | NO_GAIN_VALUE, DO_NOT_USE |
//! | readnoise | NaN, ±∞, ≤ 0 | the median of 64 rows | UNRELIABLE_ERROR |
//! | nonlin | NaN coefficient, c1 = 0, or NO_LIN_CORR | identity | NO_LIN_CORR |
//! | invlin | NaN coefficient, or c1 = 0 | identity | NO_LIN_CORR |
//! | ipc that varies | NaN tap | the pixel is left as it is | |
//! | dark ramp | NaN read | 0 | |
//! | dark | NaN, ±∞ | 0 | UNRELIABLE_DARK, DO_NOT_USE |
//! | flat | NaN, ±∞, ≤ 0, or DO_NOT_USE | 1 | NO_FLAT_FIELD, DO_NOT_USE |
//! | sky | NaN, ±∞ | 0 | DO_NOT_USE |
//!
//! A subarray frame takes its pixels out of a full-frame reference, or out of a
//! larger subarray (SUBSTRT1, SUBSTRT2 of both, 1-based). Any other difference of
//! size is an error that names both.

mod checksum;
mod choose;
pub mod crds;
mod dark_ramp;
mod find;
mod image;
mod ipc;
mod nonlin;
mod open;
mod plane;
mod reftype;
mod rules;
mod sirs;
mod why;

use std::path::PathBuf;

use crate::datamodel::Meta;

pub use checksum::{checksum, fingerprint, keep, recall};
pub use choose::{Choice, REFTYPES, candidate_from_header, choose, julian_date, middle, why_none};
pub use dark_ramp::{DarkRampFile, Sampling, is_ramp};
pub use find::{Found, find};
pub use image::{doubts_of_rate, load_dark, load_flat, load_sky};
pub use ipc::IpcFile;
pub use nonlin::{NonlinFile, ZeroPoint};
pub use open::Frame;
pub use plane::{MaskFile, PlaneFile};
pub use reftype::canonical_reftype;
pub use sirs::SirsKernels;
pub use why::{Verdict, explain};

/// The types of which nights make masters of raw frames, each before those that need it.
pub const MASTERS: [&str; 6] = ["dark", "flat", "lenspx", "wavemap", "dispersion", "sky"];

/// A file that may serve as a reference, known by its header alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where it is (or, for a master still to be made, will be).
    pub path: PathBuf,
    /// Canonical reference type (`dark`, `flat`, `sky`, `bias`, `nonlin`,
    /// `invlin`, `ipc`, `refpix`, `gain`, `readnoise`, `saturation`, `mask`, `lenspx`, `wavemap`, `dispersion`).
    pub reftype: String,
    /// The facts it is selected by.
    pub meta: Meta,
    /// Where it came from.
    pub origin: Origin,
    /// Julian date before which it says that it does not apply (USEAFTER).
    pub useafter: Option<f64>,
    /// The numbers of its version; of two that are alike, the greater is taken.
    pub version: Vec<u64>,
}

/// Where a reference came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Named on the command line.
    ByHand,
    /// Put with the exposure by a file, which is named.
    Paired(String),
    /// A master made, or to be made, from the night itself.
    ThisNight,
    /// A master of another night (`--masters`).
    OtherNight,
    /// A folder of references.
    Folder,
}

impl Origin {
    /// Whether a person chose it: it needs no matching keyword then (but one that
    /// states another DETECTOR is not for this exposure).
    pub fn by_hand(&self) -> bool {
        matches!(self, Origin::ByHand | Origin::Paired(_))
    }

    /// Smaller comes first.
    fn rank(&self) -> u8 {
        match self {
            Origin::ByHand | Origin::Paired(_) => 0,
            Origin::ThisNight => 1,
            Origin::OtherNight | Origin::Folder => 2,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::ByHand => f.write_str("given by hand"),
            Origin::Paired(by) => write!(f, "put with it by {by}"),
            Origin::ThisNight => f.write_str("this night"),
            Origin::OtherNight => f.write_str("another night"),
            Origin::Folder => f.write_str("refs"),
        }
    }
}

#[cfg(test)]
mod tests;
