//! Steps and recipes: what each step needs, does and records. A [`Job`] is one
//! recipe on named files with the references that its caller chose.

pub mod calibration;
mod job;
pub mod refpix;
pub mod stage1;

pub use job::{Done, Job};
