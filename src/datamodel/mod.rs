//! What a keyword, a bit or a plane means: data-quality flags, metadata of an
//! exposure, product models and their names. Knows no bytes on disk beyond
//! header cards.

mod date;
pub mod dq;
mod meta;
mod models;
mod names;
mod paths;
mod unit;

pub use date::civil;
pub use meta::{EXPOSURE_NUMBER, Kind, Meta, ObsName, guide_window_mode};
pub use models::{Cube, Image, Rate};
pub use names::{distinct_name, given_name, master_name, own_part, product_name, stem_of};
pub use paths::{keyword_of, paths};
pub use unit::Unit;
