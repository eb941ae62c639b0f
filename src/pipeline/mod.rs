//! Steps and recipes: what each step needs, does and records. A [`Job`] is one
//! recipe on named files with the references that its caller chose.

mod job;

pub use job::{Done, Job};
