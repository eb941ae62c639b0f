//! Tables, pictures and scores from finished products.

mod lenslet;
pub mod night;
pub mod picture;
pub mod score;
mod table;
mod truth;

pub use table::Table;
pub use truth::Truth;
