//! References by the rules of CRDS, the calibration reference data system, from a
//! cache on this machine.
//!
//! A context (`ligeriri_0001.pmap`) names a mapping for each instrument (`.imap`),
//! that one for each reference type (`.rmap`), whose selectors choose a file by the
//! header's values. The files are read as data, never run; what the
//! rules mean is what the CRDS client makes of them (`selector`), its messages
//! included. No server is asked for anything.

mod build;
mod cache;
mod condition;
mod context;
mod dates;
mod explain;
mod expression;
mod facts;
mod key;
mod lexer;
mod literal;
mod mapping;
mod selector;
#[cfg(test)]
mod tests;
mod weigh;

use std::fmt;

pub use context::{Crds, FromCrds, LookedUp};
pub use explain::Explained;
pub use facts::{Facts, facts, facts_of_json};
#[cfg(any(test, fuzzing))]
pub(crate) use mapping::try_mapping;

/// What CRDS says of one reference type for one header.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The file; a list where the rules give several.
    Found(serde_json::Value),
    /// This exposure needs none: the step is skipped.
    NotApplicable,
    /// The type is left out of the answers.
    Omitted,
    /// None was found, and why, in the client's words.
    NotFound(String),
}

impl Answer {
    /// The file, where it is one.
    pub fn file(&self) -> Option<&str> {
        match self {
            Answer::Found(serde_json::Value::String(name)) => Some(name),
            _ => None,
        }
    }

    /// As the client's `getrecommendations` gives it: a name, a list, `NOT FOUND ...`,
    /// null for what is left out.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Answer::Found(found) => found.clone(),
            Answer::Omitted => serde_json::Value::Null,
            other => other.to_string().into(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Found(serde_json::Value::String(name)) => write!(f, "{name}"),
            Answer::Found(several) => write!(f, "{several}"),
            Answer::NotApplicable => write!(f, "NOT FOUND n/a"),
            Answer::Omitted => write!(f, "(left out)"),
            Answer::NotFound(why) => write!(f, "NOT FOUND {why}"),
        }
    }
}
