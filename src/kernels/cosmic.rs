//! Which sharp peaks of an image are cosmic rays, after van Dokkum (2001, PASP 113,
//! 1420), one iteration.
//!
//! With S the significance of [`laplacian`](super::laplacian), S′ = S − S's median
//! over 5 × 5 pixels (which takes away what is smooth), N² the variance, M3 the
//! image's median over 3 × 3 pixels and M7 that of M3 over 7 × 7:
//!
//! * *struck*: S′ > `threshold`, and S′ > `contrast` · max((M3 − M7)/N, 0.01): a
//!   star's own fine structure is large where its Laplacian is;
//! * *grown*: S′ > `threshold`, beside a struck pixel (of its 3 × 3);
//! * hit: S′ > `neighbour_threshold`, beside a grown pixel.
//!
//! Pixels that are left out are never hit.
//!
//! Buffers, of `n` = `items` pixels in rows of `nx`: S, its median, M3, M7, variances
//! (all finite), left out (0: judged), each (n); result (n) 1 where hit, else 0.

use rayon::prelude::*;

use super::layout::params;
use super::{Access, Args, Kernel, Real};

/// The kernel.
pub static COSMIC: Kernel = Kernel {
    stem: "cosmic",
    wgsl: &[include_str!("../../shaders/cosmic.wgsl")],
    constants: &[],
    params: CosmicParams::LAYOUT,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    cpu,
};

params! {
    /// The parameter block; the same words as the WGSL struct.
    pub struct CosmicParams {
        /// Pixels.
        pub pixels: u32,
        /// Pixels in a row.
        pub nx: u32,
        /// σ of a struck pixel.
        pub threshold: f32,
        /// σ of a pixel beside one.
        pub neighbour_threshold: f32,
        /// Least ratio of the peak to the fine structure.
        pub contrast: f32,
    }
}

/// What the decision turns on, for one pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak<T> {
    /// S′.
    pub peak: T,
    /// M3 − M7.
    pub structure: T,
    /// N².
    pub variance: T,
    /// Not to be judged.
    pub left_out: bool,
}

fn struck<T: Real>(p: &CosmicParams, a: &Peak<T>) -> bool {
    if a.left_out || !(a.peak > T::of(p.threshold)) || !(a.variance > T::ZERO) {
        return false;
    }
    a.peak > T::of(p.contrast) * (a.structure / a.variance.sqrt()).larger(T::of(0.01))
}

/// Whether any pixel of the 3 × 3 about `i` is so.
fn beside(p: &CosmicParams, i: usize, so: impl Fn(usize) -> bool) -> bool {
    let nx = p.nx as usize;
    let (x, y, ny) = (i % nx, i / nx, p.pixels as usize / nx);
    let mut rows = y.saturating_sub(1)..(y + 2).min(ny);
    rows.any(|row| (x.saturating_sub(1)..(x + 2).min(nx)).any(|column| so(row * nx + column)))
}

/// The decision for pixel `i`.
pub fn hit<T: Real>(peak: impl Fn(usize) -> Peak<T>, i: usize, p: &CosmicParams) -> bool {
    let own = peak(i);
    if own.left_out || !(own.peak > T::of(p.neighbour_threshold)) {
        return false;
    }
    beside(p, i, |j| {
        let near = peak(j);
        !near.left_out && near.peak > T::of(p.threshold) && beside(p, j, |k| struck(p, &peak(k)))
    })
}

/// Pixels that a thread takes at a time.
const BLOCK: usize = 4096;

fn cpu(args: &mut Args<'_>) {
    let p: CosmicParams = args.params_as();
    let items = args.items;
    let [peaks, smooth, median3, median7, variances, left_out, out] = args.buffers.as_mut_slice() else {
        return;
    };
    let (peaks, smooth, variances) = (peaks.floats(), smooth.floats(), variances.floats());
    let (median3, median7, left_out) = (median3.floats(), median7.floats(), left_out.words());
    let peak = |i: usize| Peak {
        peak: peaks[i] - smooth[i],
        structure: median3[i] - median7[i],
        variance: variances[i],
        left_out: left_out[i] != 0,
    };
    out.words_mut()[..items].par_chunks_mut(BLOCK).enumerate().for_each(|(b, out)| {
        out.iter_mut().enumerate().for_each(|(j, o)| *o = u32::from(hit(peak, b * BLOCK + j, &p)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::gpu;
    use crate::engine::{CpuEngine, Dispatch, Engine};
    use crate::kernels::normal::Normal;

    const P: CosmicParams =
        CosmicParams { pixels: 61 * 40, nx: 61, threshold: 5.0, neighbour_threshold: 1.5, contrast: 5.0 };

    /// S, its median, M3, M7, variances; many near the thresholds, none at them.
    fn planes() -> [Vec<f32>; 5] {
        let mut random = Normal(11);
        let mut plane = |centre: f64, sigma: f64| -> Vec<f32> {
            (0..P.pixels).map(|_| (centre + sigma * random.next()) as f32).collect()
        };
        let mut planes =
            [plane(2.0, 4.0), plane(0.5, 0.2), plane(10.0, 1.0), plane(9.0, 1.0), plane(1.0, 0.1)];
        planes[4][5] = 0.0;
        planes
    }

    fn left_out() -> Vec<u32> {
        (0..P.pixels).map(|i| u32::from(i % 23 == 4)).collect()
    }

    fn run(engine: &mut dyn Engine, planes: &[Vec<f32>; 5]) -> Vec<u32> {
        let mut buffers: Vec<_> = planes.iter().map(|p| engine.buffer_of_f32(p).unwrap()).collect();
        buffers.push(engine.buffer_of(&left_out()).unwrap());
        buffers.push(engine.allocate(P.pixels as usize).unwrap());
        let (out, items) = (buffers[6], P.pixels as usize);
        let params = bytemuck::cast_slice(&[P]).to_vec();
        engine
            .submit(&vec![Dispatch { kernel: &COSMIC, buffers, items, params, constants: vec![] }])
            .unwrap();
        engine.download(out).unwrap()
    }

    #[test]
    fn engines_agree_with_f64_and_a_perturbation_is_seen() {
        let (planes, left_out) = (planes(), left_out());
        let peak = |i: usize| {
            let at = |k: usize| f64::from(planes[k][i]);
            Peak {
                peak: at(0) - at(1),
                structure: at(2) - at(3),
                variance: at(4),
                left_out: left_out[i] != 0,
            }
        };
        let truth: Vec<u32> = (0..P.pixels as usize).map(|i| u32::from(hit(peak, i, &P))).collect();
        let hits = truth.iter().filter(|h| **h == 1).count();
        assert!((50..P.pixels as usize / 2).contains(&hits), "{hits}");
        let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
        engines.extend(gpu());
        for engine in &mut engines {
            assert_eq!(run(engine.as_mut(), &planes), truth, "{:?}", engine.device());
            let mut other = planes.clone();
            other[0][truth.iter().position(|h| *h == 1).unwrap()] = 0.0;
            assert_ne!(run(engine.as_mut(), &other), truth, "{:?}", engine.device());
        }
    }

    #[test]
    fn a_star_is_spared_and_a_weak_neighbour_is_taken() {
        let peak = |i: usize| Peak {
            // Pixel 12 is a hit, 13 its weaker part, 20 a star of the same sharpness.
            peak: [(12, 40.0), (13, 2.0), (20, 40.0)].iter().find(|p| p.0 == i).map_or(0.0f64, |p| p.1),
            structure: if i == 20 { 9.0 } else { 0.0 },
            variance: 1.0,
            left_out: false,
        };
        let p = CosmicParams { pixels: 25, nx: 5, ..P };
        let hits: Vec<usize> = (0..25).filter(|i| hit(peak, *i, &p)).collect();
        assert_eq!(hits, [12, 13]);
    }
}
