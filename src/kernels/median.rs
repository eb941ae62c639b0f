//! Median over a box about each pixel of an image.
//!
//! Of the (2 r + 1)² pixels about a pixel, those within the frame that are finite and
//! not left out are taken; of an even number the mean of the middle two. Where there
//! is none, the result is `otherwise`.
//!
//! Buffers, of `n` = `items` pixels in rows of `nx`: values, left out (0: taken), each
//! (n); result (n). r is 3 at most.

use rayon::prelude::*;

use super::layout::params;
use super::{Access, Args, Kernel, Real};

/// The kernel.
pub static MEDIAN: Kernel = Kernel {
    stem: "median",
    wgsl: &[include_str!("../../shaders/median.wgsl")],
    constants: &[],
    params: MedianParams::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Write],
    cpu,
};

/// Most pixels in a box.
const CAPACITY: usize = 49;

params! {
    /// The parameter block; the same words as the WGSL struct.
    pub struct MedianParams {
        /// Pixels.
        pub pixels: u32,
        /// Pixels in a row.
        pub nx: u32,
        /// r, at most 3.
        pub radius: u32,
        /// Where a box has no pixel to take.
        pub otherwise: f32,
    }
}

/// The formula, for pixel `i`; `value` is `None` for pixels that are left out.
#[inline]
pub fn median<T: Real>(value: impl Fn(usize) -> Option<T>, i: usize, p: &MedianParams) -> T {
    let (nx, r) = (p.nx as usize, p.radius.min(3) as usize);
    let ny = p.pixels as usize / nx.max(1);
    let (x, y) = (i % nx, i / nx);
    let mut sorted = [T::ZERO; CAPACITY];
    let mut n = 0;
    for row in y.saturating_sub(r)..(y + r + 1).min(ny) {
        for column in x.saturating_sub(r)..(x + r + 1).min(nx) {
            let Some(v) = value(row * nx + column) else { continue };
            let mut k = n;
            while k > 0 && sorted[k - 1] > v {
                sorted[k] = sorted[k - 1];
                k -= 1;
            }
            sorted[k] = v;
            n += 1;
        }
    }
    match n {
        0 => T::of(p.otherwise),
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) * T::of(0.5),
    }
}

/// Pixels that a thread takes at a time.
const BLOCK: usize = 4096;

fn cpu(args: &mut Args<'_>) {
    let p: MedianParams = args.params_as();
    let items = args.items;
    let [values, left_out, out] = args.buffers.as_mut_slice() else { return };
    let (values, left_out) = (values.floats(), left_out.words());
    let value = |i: usize| Some(values[i]).filter(|v| left_out[i] == 0 && v.is_finite());
    out.floats_mut()[..items].par_chunks_mut(BLOCK).enumerate().for_each(|(b, out)| {
        out.iter_mut().enumerate().for_each(|(j, o)| *o = median(value, b * BLOCK + j, &p));
    });
}

#[cfg(test)]
#[path = "median_tests.rs"]
mod tests;
