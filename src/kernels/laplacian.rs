//! Significance of sharp peaks in an image, by the Laplacian of van Dokkum (2001,
//! PASP 113, 1420, eqs 4–9).
//!
//! The image is sampled twice as finely (each pixel repeated 2 × 2), convolved with
//! the kernel (−1 about a 4), its negative values set to 0, and averaged back over
//! each pixel. A finely sampled corner has two neighbours in its own pixel, so with h
//! the left or right neighbour and v the upper or lower one
//!
//! ```text
//! L⁺ = ¼ Σ_{h, v} max(2 I − h − v, 0),   S = L⁺/(2 √variance)
//! ```
//!
//! and S of a lone bright pixel is its excess in σ. Beyond the frame's edge the
//! edge's own pixel is repeated. Where the variance is not positive S = 0.
//!
//! Buffers, of `n` = `items` pixels in rows of `nx`: values, variances (all finite),
//! each (n); result S (n).

use rayon::prelude::*;

use super::layout::params;
use super::{Access, Args, Kernel, Real};

/// The kernel.
pub static LAPLACIAN: Kernel = Kernel {
    stem: "laplacian",
    wgsl: &[include_str!("../../shaders/laplacian.wgsl")],
    constants: &[],
    params: LaplacianParams::LAYOUT,
    access: &[Access::Read, Access::Read, Access::Write],
    cpu,
};

params! {
    /// The parameter block; the same words as the WGSL struct.
    pub struct LaplacianParams {
        /// Pixels.
        pub pixels: u32,
        /// Pixels in a row.
        pub nx: u32,
    }
}

/// The formula, for pixel `i`.
#[inline]
pub fn significance<T: Real>(value: impl Fn(usize) -> T, variance: T, i: usize, p: &LaplacianParams) -> T {
    let (n, nx) = (p.pixels as usize, p.nx as usize);
    let x = i % nx;
    let v = value(i);
    let left = value(if x > 0 { i - 1 } else { i });
    let right = value(if x + 1 < nx { i + 1 } else { i });
    let up = value(if i >= nx { i - nx } else { i });
    let down = value(if i + nx < n { i + nx } else { i });
    let twice = v + v;
    let corner = |h: T, w: T| (twice - h - w).larger(T::ZERO);
    let sum = corner(left, up) + corner(right, up) + corner(left, down) + corner(right, down);
    if variance > T::ZERO { T::of(0.125) * sum / variance.sqrt() } else { T::ZERO }
}

/// Pixels that a thread takes at a time.
const BLOCK: usize = 4096;

fn cpu(args: &mut Args<'_>) {
    let p: LaplacianParams = args.params_as();
    let items = args.items;
    let [values, variances, out] = args.buffers.as_mut_slice() else { return };
    let (values, variances) = (values.floats(), variances.floats());
    out.floats_mut()[..items].par_chunks_mut(BLOCK).enumerate().for_each(|(b, out)| {
        for (j, o) in out.iter_mut().enumerate() {
            let i = b * BLOCK + j;
            *o = significance(|i| values[i], variances[i], i, &p);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{close, gpu};
    use crate::engine::{CpuEngine, Dispatch, Engine};
    use crate::kernels::normal::Normal;

    fn run(engine: &mut dyn Engine, values: &[f32], variances: &[f32], p: LaplacianParams) -> Vec<f32> {
        let buffers = vec![
            engine.buffer_of_f32(values).unwrap(),
            engine.buffer_of_f32(variances).unwrap(),
            engine.allocate(values.len()).unwrap(),
        ];
        let (out, items) = (buffers[2], values.len());
        let params = bytemuck::cast_slice(&[p]).to_vec();
        let dispatch = Dispatch { kernel: &LAPLACIAN, buffers, items, params, constants: vec![] };
        engine.submit(&vec![dispatch]).unwrap();
        engine.download_f32(out).unwrap()
    }

    #[test]
    fn engines_agree_with_f64() {
        let mut gpu = gpu();
        for (nx, ny) in [(1, 1), (1, 40), (67, 31)] {
            let mut random = Normal(7);
            let n = nx * ny;
            let values: Vec<f32> = (0..n).map(|_| 100.0 + 5.0 * random.next() as f32).collect();
            let variances: Vec<f32> = (0..n).map(|i| (i % 13) as f32).collect();
            let p = LaplacianParams { pixels: n as u32, nx: nx as u32 };
            let truth: Vec<f32> = (0..n)
                .map(|i| significance(|i| f64::from(values[i]), f64::from(variances[i]), i, &p) as f32)
                .collect();
            let mut cpu = CpuEngine::new(1 << 30);
            let mut on_cpu = run(&mut cpu, &values, &variances, p);
            close(&on_cpu, &truth, 1e-4, 1e-5, 0).unwrap();
            if let Some(gpu) = &mut gpu {
                close(&run(gpu.as_mut(), &values, &variances, p), &truth, 1e-4, 1e-5, 0).unwrap();
            }
            on_cpu[n / 2] += 0.01;
            close(&on_cpu, &truth, 1e-4, 1e-5, 0).expect_err("a perturbed pixel must be seen");
        }
    }

    #[test]
    fn a_lone_pixel_has_its_own_significance() {
        let p = LaplacianParams { pixels: 25, nx: 5 };
        let value = |i: usize| if i == 12 { 42.0 } else { 2.0 };
        assert!((significance(value, 16.0, 12, &p) - 10.0f64).abs() < 1e-12);
        assert_eq!(significance(value, 16.0, 11, &p), 0.0);
        assert_eq!(significance(value, 0.0, 12, &p), 0.0);
    }
}
