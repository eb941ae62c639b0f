//! Raw pixels of a ramp as the bytes that engines decode.

use crate::error::Result;
use crate::fits::{Fits, Hdu, HduKind};

/// What the big-endian bytes of a chunk mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Unsigned 16-bit, stored as FITS does: signed, offset by 32768. After the
    /// byte swap, `xor 0x8000` gives the value.
    U16,
    /// Signed 16-bit.
    I16,
    /// Signed 32-bit.
    I32,
    /// Single precision; NaN where the file has NaN or BLANK.
    F32,
}

impl Encoding {
    /// Bytes a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Encoding::U16 | Encoding::I16 => 2,
            Encoding::I32 | Encoding::F32 => 4,
        }
    }

    /// The values that big-endian `bytes` stand for.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let two = bytes.as_chunks::<2>().0.iter();
        let four = bytes.as_chunks::<4>().0.iter();
        match self {
            Encoding::U16 => two.map(|b| f32::from(u16::from_be_bytes(*b) ^ 0x8000)).collect(),
            Encoding::I16 => two.map(|b| f32::from(i16::from_be_bytes(*b))).collect(),
            Encoding::I32 => four.map(|b| i32::from_be_bytes(*b) as f32).collect(),
            Encoding::F32 => four.map(|b| f32::from_be_bytes(*b)).collect(),
        }
    }
}

/// How an HDU's pixels come: their encoding, and whether the bytes on disk are
/// that encoding already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stored {
    pub(super) encoding: Encoding,
    direct: bool,
}

impl Stored {
    /// Of `hdu`: U16, I16, I32 and F32 are passed through as they lie; 16-bit
    /// compressed ones are unpacked to the same; all others (bytes, 64-bit, scaled,
    /// with BLANK) become F32.
    pub(super) fn of(hdu: &Hdu) -> Stored {
        let plain = hdu.bscale() == 1.0 && hdu.blank().is_none() && !hdu.header.has("ZBLANK");
        let encoding = match (hdu.bitpix, hdu.bzero()) {
            (16, 32768.0) if plain => Some(Encoding::U16),
            (16, 0.0) if plain => Some(Encoding::I16),
            (32, 0.0) if plain && hdu.kind == HduKind::Image => Some(Encoding::I32),
            (-32, 0.0) if plain => Some(Encoding::F32),
            _ => None,
        };
        let direct = hdu.kind == HduKind::Image && encoding.is_some();
        Stored { encoding: encoding.unwrap_or(Encoding::F32), direct }
    }

    /// Fills `into` with the pixels from `first` (in file order) on.
    pub(super) fn read(self, fits: &Fits, hdu: &Hdu, first: usize, into: &mut [u8]) -> Result<()> {
        let width = self.encoding.bytes();
        if self.direct {
            return fits.read_raw(hdu, (first * width) as u64, into);
        }
        let values = fits.pixels_f32(hdu, first, into.len() / width)?;
        match self.encoding {
            Encoding::U16 => pack(into, &values, |v| (v as u16 ^ 0x8000).to_be_bytes()),
            Encoding::I16 => pack(into, &values, |v| (v as i16).to_be_bytes()),
            Encoding::I32 => pack(into, &values, |v| (v as i32).to_be_bytes()),
            Encoding::F32 => pack(into, &values, f32::to_be_bytes),
        }
        Ok(())
    }
}

fn pack<const N: usize>(into: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    for (bytes, value) in into.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = encode(*value);
    }
}
