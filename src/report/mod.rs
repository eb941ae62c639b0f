//! Tables and pictures from finished products.

mod table;

pub use table::Table;
