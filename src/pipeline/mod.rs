//! Steps and recipes: what each step needs, does and records. A [`Job`] is one
//! recipe on named files with the references that its caller chose.

pub mod cube;
pub mod extract;
mod job;
pub mod lenspx;

pub use job::{Done, Job};
