//! Steps and recipes: what each step needs, does and records. A [`Job`] is one
//! recipe on named files with the references that its caller chose.

mod blend;
pub mod calibration;
mod combine;
mod compat;
mod cosmic_rays;
pub mod cube;
mod cubes;
mod dark_decay;
mod dq_init;
mod execute;
mod exposure;
pub mod extract;
mod frames;
mod image;
mod inherit;
mod job;
mod jump_list;
mod lenslet;
pub mod lenspx;
pub mod masters;
mod measure;
mod persistence;
pub mod product;
pub mod provenance;
mod ramp_file;
mod ramp_rates;
mod ramp_weights;
mod rate_file;
mod read_list;
pub mod refpix;
pub mod robust;
mod sets;
pub mod sky_lines;
pub mod stage1;
pub mod stage2;
mod subarrays;
pub mod wavelength;
pub mod wcs;

pub use blend::blend;
pub(crate) use blend::now as now_text;
pub use compat::Compat;
pub use execute::Pipeline;
pub use frames::Frame;
pub use job::{Done, Earlier, Job};
pub use provenance::Provenance;
