//! Reference files: which applies, and their planes.

use std::path::PathBuf;

use crate::datamodel::Meta;

mod choose;

pub use choose::{
    BY_HAND, Choice, REFTYPES, THIS_NIGHT, candidate_from_header, canonical, choose, julian_date, why_none,
};

/// A file that may serve as a reference, known by its header alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where it is (or, for a master still to be made, will be).
    pub path: PathBuf,
    /// Canonical reference type (`dark`, `flat`, `sky`, `bias`, `nonlin`, `gain`,
    /// `readnoise`, `saturation`, `mask`, `lenspx`, `wavemap`).
    pub reftype: String,
    /// The facts it is selected by.
    pub meta: Meta,
    /// Where it came from, for messages: "this night", "refs", "given by hand".
    pub origin: String,
}
