//! Reference files: which applies, and their planes.

mod checksum;
mod choose;
mod load;
mod nonlin;
mod reftype;

use std::path::PathBuf;

use crate::datamodel::Meta;

pub use checksum::{checksum, keep, recall};
pub use choose::{
    BY_HAND, Choice, REFTYPES, THIS_NIGHT, candidate_from_header, choose, julian_date, why_none,
};
pub use load::{
    Frame, load_bias, load_dark, load_flat, load_gain, load_mask, load_readnoise, load_saturation, load_sky,
};
pub use nonlin::{Nonlin, ZeroPoint, load_nonlin};
pub use reftype::canonical_reftype;

/// A file that may serve as a reference, known by its header alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where it is (or, for a master still to be made, will be).
    pub path: PathBuf,
    /// Canonical reference type (`dark`, `flat`, `sky`, `bias`, `nonlin`, `gain`,
    /// `readnoise`, `saturation`, `mask`, `lenspx`).
    pub reftype: String,
    /// The facts it is selected by.
    pub meta: Meta,
    /// Where it came from, for messages: "this night", "refs", "given by hand".
    pub origin: String,
}

#[cfg(test)]
mod tests;
