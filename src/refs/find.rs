//! The reference of a type, wherever it comes from.

use std::path::PathBuf;

use super::crds::{Crds, Facts, FromCrds};
use super::{Candidate, choose, why_none};
use crate::datamodel::Meta;

/// What was found, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The file; `None` where none applies.
    pub path: Option<PathBuf>,
    /// Why this one, or why none.
    pub reason: String,
    /// What is doubtful about it, as sentences.
    pub doubts: Vec<String>,
    /// Whether CRDS gave it, or said that none applies.
    pub crds: bool,
}

/// The reference of a type for an exposure: the best candidate, else what CRDS has.
pub fn find(
    reftype: &str,
    exposure: &Meta,
    candidates: &[Candidate],
    crds: Option<(&Crds, &Facts)>,
) -> Found {
    if let Some(choice) = choose(reftype, exposure, candidates) {
        return Found { path: Some(choice.path), reason: choice.reason, doubts: choice.doubts, crds: false };
    }
    let none = why_none(reftype, exposure, candidates);
    let (path, reason, crds) = match crds.map(|(crds, facts)| crds.reference(reftype, facts)) {
        None => (None, none, false),
        Some(FromCrds::File(path, reason)) => (Some(path), reason, true),
        Some(FromCrds::NotApplicable(reason)) => (None, reason, true),
        Some(FromCrds::Nothing(why)) => (None, format!("{none}; {why}"), false),
    };
    Found { path, reason, doubts: Vec::new(), crds }
}
