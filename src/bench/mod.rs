//! The program measured against its own goals: simulated ramps of known truth go
//! through stage 1 as any file does, and what comes out is held to targets.
//!
//! [`accuracy`] is the statistics of rates, errors, χ² and jumps; [`speed`] is how
//! long things take, beside what the machine can do at best; [`lenslet`] is the statistics
//! of spectra.

pub mod accuracy;
mod bound;
mod figure;
pub mod lenslet;
mod ramps;
mod report;
pub mod speed;
mod stage1;
mod tally;

pub use figure::{Figure, Section, Verdict};
pub use report::Report;
