//! Pixels from their big-endian bytes to numbers and back.

use crate::simd::widest;

/// How pixels are written: BITPIX, BSCALE, BZERO, BLANK.
pub(crate) struct Format {
    pub(crate) bitpix: i64,
    pub(crate) bscale: f64,
    pub(crate) bzero: f64,
    /// The stored integer that stands for no value (NaN in floats).
    pub(crate) blank: Option<i64>,
}

macro_rules! each {
    ($bytes:expr, $out:expr, $n:literal, $f:expr) => {
        for (b, o) in $bytes.as_chunks::<$n>().0.iter().zip($out.iter_mut()) {
            *o = $f(*b);
        }
    };
}

widest! {
    /// To f32; unscaled 8- and 16-bit integers and floats are exact.
    pub(crate) fn to_f32(format: &Format, bytes: &[u8], out: &mut [f32]) = f32_of
}

widest! {
    /// To u32 by the low 32 bits of the integer value.
    pub(crate) fn to_u32(format: &Format, bytes: &[u8], out: &mut [u32]) = u32_of
}

#[inline(always)]
fn f32_of(format: &Format, bytes: &[u8], out: &mut [f32]) {
    let unscaled = format.bscale == 1.0 && format.blank.is_none();
    let plain = unscaled && format.bzero == 0.0;
    match format.bitpix {
        16 if unscaled && format.bzero == 32768.0 => {
            each!(bytes, out, 2, |b| f32::from(u16::from_be_bytes(b) ^ 0x8000));
        }
        16 if plain => each!(bytes, out, 2, |b| f32::from(i16::from_be_bytes(b))),
        -32 if plain => each!(bytes, out, 4, f32::from_be_bytes),
        _ => {
            let mut wide = vec![0f64; out.len()];
            to_f64(format, bytes, &mut wide);
            out.iter_mut().zip(wide).for_each(|(o, w)| *o = w as f32);
        }
    }
}

/// To f64.
pub(crate) fn to_f64(format: &Format, bytes: &[u8], out: &mut [f64]) {
    match format.bitpix {
        8 => each!(bytes, out, 1, |b: [u8; 1]| f64::from(b[0])),
        16 => each!(bytes, out, 2, |b| f64::from(i16::from_be_bytes(b))),
        32 => each!(bytes, out, 4, |b| f64::from(i32::from_be_bytes(b))),
        64 => each!(bytes, out, 8, |b| i64::from_be_bytes(b) as f64),
        -32 => each!(bytes, out, 4, |b| f64::from(f32::from_be_bytes(b))),
        _ => each!(bytes, out, 8, f64::from_be_bytes),
    }
    if let Some(blank) = format.blank {
        let blank = blank as f64;
        out.iter_mut().filter(|o| **o == blank).for_each(|o| *o = f64::NAN);
    }
    if format.bscale != 1.0 || format.bzero != 0.0 {
        out.iter_mut().for_each(|o| *o = *o * format.bscale + format.bzero);
    }
}

#[inline(always)]
fn u32_of(format: &Format, bytes: &[u8], out: &mut [u32]) {
    let offset = format.bzero as i64;
    match format.bitpix {
        8 => each!(bytes, out, 1, |b: [u8; 1]| i64::from(b[0]).wrapping_add(offset) as u32),
        16 => each!(bytes, out, 2, |b| i64::from(i16::from_be_bytes(b)).wrapping_add(offset) as u32),
        32 => each!(bytes, out, 4, |b| i64::from(i32::from_be_bytes(b)).wrapping_add(offset) as u32),
        64 => each!(bytes, out, 8, |b| i64::from_be_bytes(b).wrapping_add(offset) as u32),
        -32 => each!(bytes, out, 4, |b| (f32::from_be_bytes(b) as i64).wrapping_add(offset) as u32),
        _ => each!(bytes, out, 8, |b| (f64::from_be_bytes(b) as i64).wrapping_add(offset) as u32),
    }
}
