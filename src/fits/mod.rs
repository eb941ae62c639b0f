//! FITS bytes on disk, both ways, whole or not at all.
//!
//! Our own small reader and writer of header cards and image data: lossless,
//! sizes checked against the file before memory is taken, no network. cfitsio
//! (through `fitsio`) reads tile-compressed images. Knows no astronomy.
//!
//! Standard followed: FITS 4.0 (Pence et al. 2010, A&A 524, A42, and the 2016
//! revision); checksums after Seaman, Pence & Rots (FITS checksum convention).

mod amend;
mod asdf;
mod card;
mod checksum;
mod compressed;
mod convert;
mod header;
mod read;
mod table;
mod write;

pub use amend::amend;
pub use asdf::Tree;
pub use card::{Card, Value};
pub use header::Header;
pub use read::{Fits, Hdu, HduKind};
pub use table::{Column, ColumnData, read_column};
pub use write::{FitsWriter, Parts, Pixels, Reserved};

/// FITS files are written in blocks of this many bytes.
pub const BLOCK: usize = 2880;

/// `n` rounded up to whole FITS blocks.
pub(crate) fn padded(n: u64) -> u64 {
    n.div_ceil(BLOCK as u64) * BLOCK as u64
}
