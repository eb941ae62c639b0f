//! What a keyword, a bit or a plane means: data-quality flags, metadata of an
//! exposure, product models and their names. Knows no bytes on disk beyond
//! header cards. Every keyword is a line of one table, the [`registry`].

mod check;
mod coordinates;
mod date;
pub mod dq;
pub mod lines;
mod merge;
mod meta;
mod models;
mod names;
pub mod registry;
mod times;
mod unit;
mod window;

pub use check::{Finding, Level, What, another_instrument, check, contradictions, unusable};
pub use coordinates::is_wcs_keyword;
pub use date::civil;
pub use merge::{MULTIPLE, add_up, merge};
pub use meta::{Kind, Meta, ObsName, guide_window_mode};
pub use models::{Cube, Image, Rate};
pub use names::{distinct_name, given_name, master_name, own_part, product_name, stem_of};
pub use registry::{keyword_of, paths};
pub use times::{Span, compact_date, iso_date, mjd_of};
pub use unit::Unit;
pub use window::window_faults;
