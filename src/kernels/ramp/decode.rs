//! Pixels of a ramp out of the bytes that the file holds.

use super::super::real::Real;
use super::flag;

/// How reads lie in the ramp buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Encoding {
    /// Big-endian, BZERO 32768.
    U16 = 0,
    /// Big-endian.
    I16 = 1,
    /// Big-endian.
    I32 = 2,
    /// Big-endian; NaN, infinity and what no read can be mark it as unusable.
    F32 = 3,
    /// f32 words of this machine, as a materialised ramp has them.
    Native = 4,
}

impl Encoding {
    /// From the parameter block.
    pub(super) fn of(code: u32) -> Encoding {
        match code {
            0 => Encoding::U16,
            1 => Encoding::I16,
            2 => Encoding::I32,
            3 => Encoding::F32,
            _ => Encoding::Native,
        }
    }
}

/// DN from which on a read is none: far beyond any converter, and its square is still
/// an f32.
pub(super) const LARGEST: f32 = 1e18;

/// The value at element `at` of `words`; `None` for what is no read's.
#[inline(always)]
pub(super) fn one<T: Real>(encoding: Encoding, words: &[u32], at: usize) -> Option<T> {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let two = |i: usize| u16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    let value = match encoding {
        Encoding::U16 => f32::from(two(at) ^ 0x8000),
        Encoding::I16 => f32::from(two(at) as i16),
        Encoding::I32 => u32::from_be(words[at]) as i32 as f32,
        Encoding::F32 => f32::from_bits(u32::from_be(words[at])),
        Encoding::Native => f32::from_bits(words[at]),
    };
    (value.abs() < LARGEST).then(|| T::of(value))
}

/// `L` consecutive values from element `at` on; `bad` is DO_NOT_USE where one is not a
/// number.
#[inline(always)]
pub(super) fn run<T: Real, const L: usize>(
    encoding: Encoding,
    words: &[u32],
    at: usize,
    out: &mut [T; L],
    bad: &mut [u32; L],
) {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    match encoding {
        Encoding::U16 => {
            let part = bytes[2 * at..2 * (at + L)].as_chunks::<2>().0;
            for l in 0..L {
                out[l] = T::of(f32::from(u16::from_be_bytes(part[l]) ^ 0x8000));
            }
        }
        Encoding::I16 => {
            let part = bytes[2 * at..2 * (at + L)].as_chunks::<2>().0;
            for l in 0..L {
                out[l] = T::of(f32::from(i16::from_be_bytes(part[l])));
            }
        }
        _ => {
            for l in 0..L {
                let value = one(encoding, words, at + l);
                bad[l] = if value.is_none() { flag::DO_NOT_USE } else { 0 };
                out[l] = value.unwrap_or(T::ZERO);
            }
        }
    }
}
