//! The program measured against its own goals: simulated ramps of known truth go
//! through stage 1 as any file does, and what comes out is held to targets.
//!
//! [`accuracy`] is the statistics of rates, errors, χ² and jumps; [`lenslet`] that of
//! spectra.

pub mod accuracy;
mod bound;
mod figure;
pub mod lenslet;
mod ramps;
pub mod report;
mod stage1;
mod tally;

pub use figure::{Figure, Section, Verdict};
