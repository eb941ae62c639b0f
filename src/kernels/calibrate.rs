//! Dark, sky and flat on a frame, pixel by pixel, in one pass.
//!
//! ```text
//! value  = g (S − D − s K) / F
//! own    = g² var_S / F²
//! common = (g² (c² var_D + s² var_K) + value² var_F) / F²
//! ```
//!
//! S, D, K, F: science, dark, sky, flat; s the sky's scale, g a factor on the
//! result. The sky frame K is stored with a dark already taken off. Where that was
//! the same dark, S − D − s (K_raw − D) holds D with the coefficient c = −(1 − s)
//! and `var_K` is the sky's variance without the dark's; otherwise c = −1 and
//! `var_K` is all of it. `common` is what frames that used the same references
//! share; it does not average down.
//!
//! Buffers, of `n` = `items` pixels (planes one after the other):
//! science [value | variance | dq], dark, sky and flat likewise (any words where
//! the step is left out), result [value | own | common | dq].
//!
//! A pixel is NaN and `unusable` in the result when the science pixel is not finite
//! or flagged `unusable`, when a reference's value or variance is not finite or
//! its pixel is flagged so, when the flat is not positive, or when the result
//! overflows. Each reference adds its own bits among `inherit`, and `dark_bad`,
//! `sky_bad` or `flat_bad` where it made the pixel unusable.

use rayon::prelude::*;

use super::layout::params;
use super::{Access, Args, Kernel, Real};

/// The kernel.
pub static CALIBRATE: Kernel = Kernel {
    stem: "calibrate",
    wgsl: &[include_str!("../../shaders/calibrate.wgsl")],
    constants: &[],
    params: CalibrateParams::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu,
};

/// Bit of [`CalibrateParams::steps`]: subtract the dark.
pub const DARK: u32 = 1;
/// Bit of [`CalibrateParams::steps`]: subtract the sky.
pub const SKY: u32 = 2;
/// Bit of [`CalibrateParams::steps`]: divide by the flat.
pub const FLAT: u32 = 4;

params! {
    /// The parameter block; the same words as the WGSL struct.
    pub struct CalibrateParams {
        /// Pixels in the chunk.
        pub pixels: u32,
        /// [`DARK`], [`SKY`], [`FLAT`].
        pub steps: u32,
        /// s.
        pub sky_scale: f32,
        /// |c|: 1, or 1 − s where the sky had the same dark taken off.
        pub dark_coefficient: f32,
        /// g.
        pub factor: f32,
        /// Bits that make a pixel of any frame unusable, and the bit set in the result.
        pub unusable: u32,
        /// Bits that pass from a reference to the result.
        pub inherit: u32,
        /// Set where the dark is unusable.
        pub dark_bad: u32,
        /// Set where the sky is unusable.
        pub sky_bad: u32,
        /// Set where the flat is unusable.
        pub flat_bad: u32,
    }
}

/// A pixel of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<T> {
    /// Value.
    pub value: T,
    /// Variance.
    pub variance: T,
    /// Data quality.
    pub dq: u32,
}

/// A pixel of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrated<T> {
    /// Value.
    pub value: T,
    /// Variance of this frame alone.
    pub own: T,
    /// Variance shared with frames that used the same references.
    pub common: T,
    /// Data quality.
    pub dq: u32,
}

impl<T: Real> Sample<T> {
    fn usable(&self, unusable: u32) -> bool {
        self.dq & unusable == 0 && self.value.is_finite() && self.variance.is_finite()
    }
}

/// The formula, for one pixel.
#[inline]
pub fn calibrate<T: Real>(
    science: Sample<T>,
    dark: Sample<T>,
    sky: Sample<T>,
    flat: Sample<T>,
    p: &CalibrateParams,
) -> Calibrated<T> {
    let mut dq = science.dq;
    let mut good = science.usable(p.unusable);
    let mut reference = |bit: u32, usable: bool, reference_dq: u32, bad: u32| {
        if p.steps & bit != 0 {
            dq |= reference_dq & p.inherit;
            if !usable {
                dq |= bad;
                good = false;
            }
        }
    };
    reference(DARK, dark.usable(p.unusable), dark.dq, p.dark_bad);
    reference(SKY, sky.usable(p.unusable), sky.dq, p.sky_bad);
    reference(FLAT, flat.usable(p.unusable) && flat.value > T::of(0.0), flat.dq, p.flat_bad);

    let g = T::of(p.factor);
    let mut value = science.value;
    let mut common = T::of(0.0);
    if p.steps & DARK != 0 {
        let c = T::of(p.dark_coefficient);
        value -= dark.value;
        common += c * c * dark.variance;
    }
    if p.steps & SKY != 0 {
        let s = T::of(p.sky_scale);
        value -= s * sky.value;
        common += s * s * sky.variance;
    }
    value *= g;
    common *= g * g;
    let mut own = science.variance * (g * g);
    if p.steps & FLAT != 0 {
        let f = flat.value;
        value = value / f;
        own = own / f / f;
        common = (common + value * value * flat.variance) / f / f;
    }
    if good && value.is_finite() && own.is_finite() && common.is_finite() {
        Calibrated { value, own, common, dq }
    } else {
        Calibrated { value: T::NAN, own: T::NAN, common: T::NAN, dq: dq | p.unusable }
    }
}

/// Pixels that a thread takes at a time.
const BLOCK: usize = 4096;

fn cpu(args: &mut Args<'_>) {
    let n = args.items;
    let p: CalibrateParams = args.params_as();
    let [science, dark, sky, flat, out] = args.buffers.as_mut_slice() else { return };
    let (science, dark, sky, flat) = (science.words(), dark.words(), sky.words(), flat.words());
    let sample = |words: &[u32], present: bool, i: usize| {
        if present {
            Sample {
                value: f32::from_bits(words[i]),
                variance: f32::from_bits(words[n + i]),
                dq: words[2 * n + i],
            }
        } else {
            Sample { value: 0.0, variance: 0.0, dq: 0 }
        }
    };
    let (value, rest) = out.words_mut().split_at_mut(n);
    let (own, rest) = rest.split_at_mut(n);
    let (common, rest) = rest.split_at_mut(n);
    let blocks = value
        .par_chunks_mut(BLOCK)
        .zip(own.par_chunks_mut(BLOCK))
        .zip(common.par_chunks_mut(BLOCK))
        .zip(rest[..n].par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(b, (((value, own), common), dq))| {
        for j in 0..value.len() {
            let i = b * BLOCK + j;
            let r = calibrate(
                sample(science, true, i),
                sample(dark, p.steps & DARK != 0, i),
                sample(sky, p.steps & SKY != 0, i),
                sample(flat, p.steps & FLAT != 0, i),
                &p,
            );
            value[j] = r.value.to_bits();
            own[j] = r.own.to_bits();
            common[j] = r.common.to_bits();
            dq[j] = r.dq;
        }
    });
}

#[cfg(test)]
#[path = "calibrate_tests.rs"]
mod tests;
