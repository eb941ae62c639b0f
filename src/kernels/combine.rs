//! N frames to one, pixel by pixel: sigma-clipped mean, or median.
//!
//! Usable samples (not flagged `unusable`, value and variance finite, variance not
//! negative) are sorted. With σ² the *median over the frames* of their own
//! variances (the noisy pixel's own variance never decides about itself), samples
//! outside [c − low σ, c + high σ] about the median c are left out, again until
//! nothing changes, at most `maxiters` times and never among fewer than three
//! samples; so the frames should be about equally noisy. Of the n samples left:
//!
//! ```text
//! mean:   value = Σ x / n            own = Σ var / n²          (weights are equal)
//! median: value = median x           own = e(n) Σ var / n²
//! common = (Σ √common / n)²
//! ```
//!
//! The common part is the same noise in every frame, with a coefficient of its own
//! in each: its standard deviations add, and it does not average down. (Exact where
//! one reference makes the common part, an upper bound where several with different
//! proportions do.)
//!
//! e(n) is the variance of the median of n equal normal samples over that of their
//! mean: numerical integrals over the densities of normal order statistics
//! (David & Nagaraja 2003, Order Statistics, §2.2 and §3) in [`EFFICIENCY`] up to
//! n = 64, beyond it π/2 · n/(n + a) with `a` fitted to the same integrals.
//!
//! The result's flags are those that all the samples left have in common; samples
//! left out as outliers flag nothing. Where no sample is usable the result is NaN,
//! flagged with every bit that any frame has and `unusable`.
//!
//! Buffers, of N = `frames` and n = `items` pixels: values, variances, common
//! variances (anything where `has_common` is 0) and dq, each (N, n); result
//! [value | own | common | dq | samples left].

use rayon::prelude::*;

use super::layout::params;
use super::{Access, Args, Kernel, Real};

/// The kernel; needs the constant `CAPACITY` ≥ `frames` (see [`capacity`]).
pub static COMBINE: Kernel = Kernel {
    stem: "combine",
    wgsl: &[include_str!("../../shaders/combine.wgsl")],
    constants: &[("CAPACITY", 16)],
    params: CombineParams::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu,
};

/// Most frames in one combination.
pub const MAX_FRAMES: usize = 256;

/// The constant `CAPACITY` for `frames` frames: few values, so that few shaders
/// are built.
pub fn capacity(frames: usize) -> u32 {
    frames.clamp(4, MAX_FRAMES).next_power_of_two() as u32
}

params! {
    /// The parameter block; the same words as the WGSL struct.
    pub struct CombineParams {
        /// Pixels in the chunk.
        pub pixels: u32,
        /// N.
        pub frames: u32,
        /// 0: mean; 1: median.
        pub median: u32,
        /// Rounds of clipping at most; 0 for none.
        pub maxiters: u32,
        /// Clipping below, σ.
        pub low: f32,
        /// Clipping above, σ.
        pub high: f32,
        /// Bits that leave a sample out, and the bit set where none is left.
        pub unusable: u32,
        /// Whether there are common variances.
        pub has_common: u32,
        /// [`EFFICIENCY`].
        pub efficiency: [f32; 64],
    }
}

/// n · Var(median of n standard normal samples), n = 1 … 64.
#[rustfmt::skip]
pub const EFFICIENCY: [f32; 64] = [
    1.0, 1.0, 1.34601, 1.1928, 1.43417, 1.28846, 1.47313, 1.34545,
    1.49491, 1.38326, 1.50879, 1.41019, 1.51839, 1.43035, 1.52542, 1.446,
    1.53079, 1.45851, 1.53503, 1.46874, 1.53845, 1.47726, 1.54128, 1.48446,
    1.54366, 1.49063, 1.54568, 1.49598, 1.54742, 1.50066, 1.54893, 1.50479,
    1.55026, 1.50846, 1.55144, 1.51174, 1.55249, 1.51469, 1.55343, 1.51737,
    1.55428, 1.5198, 1.55506, 1.52201, 1.55576, 1.52405, 1.5564, 1.52592,
    1.55699, 1.52764, 1.55753, 1.52924, 1.55803, 1.53072, 1.5585, 1.53211,
    1.55893, 1.5334, 1.55934, 1.5346, 1.55971, 1.53573, 1.56007, 1.53679,
];

/// e(n): how much more variance the median of `n` normal samples has than their mean.
pub fn median_efficiency(n: usize) -> f32 {
    match n {
        0 => 1.0,
        1..=64 => EFFICIENCY[n - 1],
        _ => {
            let a = if n % 2 == 1 { 0.4315 } else { 1.4225 };
            std::f32::consts::FRAC_PI_2 * n as f32 / (n as f32 + a)
        }
    }
}

/// One frame's sample of a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<T> {
    /// Value.
    pub value: T,
    /// The frame's own variance.
    pub variance: T,
    /// Variance shared with the other frames.
    pub common: T,
    /// Data quality.
    pub dq: u32,
}

/// The combination of a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combined<T> {
    /// Value.
    pub value: T,
    /// Variance that averaged down.
    pub own: T,
    /// Variance that did not.
    pub common: T,
    /// Data quality.
    pub dq: u32,
    /// Samples left.
    pub used: u32,
}

/// Room for a pixel's sorted values and variances.
#[derive(Debug, Clone, Default)]
pub struct Scratch<T> {
    values: Vec<T>,
    variances: Vec<T>,
}

fn insert<T: Real>(sorted: &mut Vec<T>, x: T) {
    let mut i = sorted.len();
    sorted.push(x);
    while i > 0 && sorted[i - 1] > x {
        sorted[i] = sorted[i - 1];
        i -= 1;
    }
    sorted[i] = x;
}

fn middle<T: Real>(sorted: &[T]) -> T {
    let n = sorted.len();
    if n % 2 == 1 { sorted[n / 2] } else { (sorted[n / 2 - 1] + sorted[n / 2]) * T::of(0.5) }
}

/// The part of `sorted` within `below` and `above` of `centre`.
fn within<T: Real>(sorted: &[T], centre: T, below: T, above: T) -> &[T] {
    let mut kept = sorted;
    while let Some((first, rest)) = kept.split_first() {
        if centre - *first > below { kept = rest } else { break }
    }
    while let Some((last, rest)) = kept.split_last() {
        if *last - centre > above { kept = rest } else { break }
    }
    kept
}

/// The formula, for one pixel of which `sample(k)` is frame k's sample.
pub fn combine<T: Real>(
    sample: impl Fn(usize) -> Sample<T>,
    p: &CombineParams,
    scratch: &mut Scratch<T>,
) -> Combined<T> {
    let zero = T::of(0.0);
    let frames = p.frames as usize;
    let usable = |s: &Sample<T>| {
        s.dq & p.unusable == 0 && s.value.is_finite() && s.variance.is_finite() && s.variance >= zero
    };
    scratch.values.clear();
    scratch.variances.clear();
    let mut any = p.unusable;
    for s in (0..frames).map(&sample) {
        any |= s.dq;
        if usable(&s) {
            insert(&mut scratch.values, s.value);
            insert(&mut scratch.variances, s.variance);
        }
    }
    let mut kept: &[T] = &scratch.values;
    if kept.is_empty() {
        return Combined { value: T::NAN, own: T::NAN, common: T::NAN, dq: any, used: 0 };
    }
    let sigma = middle(&scratch.variances).sqrt();
    let (below, above) = (T::of(p.low) * sigma, T::of(p.high) * sigma);
    for _ in 0..p.maxiters {
        if kept.len() < 3 || sigma <= zero {
            break;
        }
        let mut inside = within(kept, middle(kept), below, above);
        if inside.is_empty() {
            // Two groups far apart: the middle of an even number lies in the gap.
            inside = within(kept, kept[(kept.len() - 1) / 2], below, above);
        }
        if inside.len() == kept.len() {
            break;
        }
        kept = inside;
    }
    let centre = middle(kept);
    let (first, last) = (kept[0], kept[kept.len() - 1]);
    let (mut sum, mut own, mut common, mut dq, mut used) = (zero, zero, zero, u32::MAX, 0u32);
    for s in (0..frames).map(&sample) {
        if usable(&s) && s.value >= first && s.value <= last {
            // Differences from the centre, so that a sum of large values keeps its digits.
            sum += s.value - centre;
            own += s.variance;
            common += s.common.sqrt();
            dq &= s.dq;
            used += 1;
        }
    }
    let n = T::of(used as f32);
    let common = if p.has_common == 0 { zero } else { common / n * (common / n) };
    let own = own / n / n;
    if p.median == 0 {
        Combined { value: centre + sum / n, own, common, dq, used }
    } else {
        Combined { value: centre, own: own * T::of(median_efficiency(used as usize)), common, dq, used }
    }
}

/// Pixels that a thread takes at a time.
const BLOCK: usize = 1024;

fn cpu(args: &mut Args<'_>) {
    let n = args.items;
    let p: CombineParams = args.params_as();
    let [values, variances, commons, dqs, out] = args.buffers.as_mut_slice() else { return };
    let (values, variances, commons, dqs) =
        (values.floats(), variances.floats(), commons.floats(), dqs.words());
    let planes: Vec<&mut [u32]> = out.words_mut().chunks_mut(n.max(1)).take(5).collect();
    let Ok([value, own, common, dq, used]) = <[&mut [u32]; 5]>::try_from(planes) else { return };
    let blocks = value
        .par_chunks_mut(BLOCK)
        .zip(own.par_chunks_mut(BLOCK))
        .zip(common.par_chunks_mut(BLOCK))
        .zip(dq.par_chunks_mut(BLOCK))
        .zip(used.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each_init(
        Scratch::default,
        |scratch, (b, ((((value, own), common), dq), used))| {
            for j in 0..value.len() {
                let i = b * BLOCK + j;
                let sample = |k: usize| Sample {
                    value: values[k * n + i],
                    variance: variances[k * n + i],
                    common: if p.has_common == 0 { 0.0 } else { commons[k * n + i] },
                    dq: dqs[k * n + i],
                };
                let r = combine(sample, &p, scratch);
                value[j] = r.value.to_bits();
                own[j] = r.own.to_bits();
                common[j] = r.common.to_bits();
                dq[j] = r.dq;
                used[j] = r.used;
            }
        },
    );
}

#[cfg(test)]
#[path = "combine_tests.rs"]
mod tests;
