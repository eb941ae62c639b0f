//! The kernels on which `factored` is solved, [`Machine`](super::Machine)'s steps on an
//! engine. What is fixed for a [`System`](super::System) is bound as it lies there; its
//! coefficients may be cut into ranges of whole segments, a buffer each.
//!
//! | stem | items | buffers |
//! |---|---|---|
//! | `factored_light` | segments × tiles of [`TILE`] rows × SEG | 0 entries, 1 starts, 2 shapes (taps, then basis), 3 coefs, 4 unknowns x, 5 data, 6 weight, 7 image: B x, weight·(B x) or weight·(data − B x) |
//! | `factored_take` | entries × SEG | 0 entries, 1 shapes, 2 coefs, 3 image, 4 wide (entries, WIDE): each entry's share of Bᵀ image |
//! | `factored_diagonal` | entries × SEG | the same of the diagonal of BᵀWB, from W |
//! | `factored_fold` | entries | 0 entries, 1 wide, 2 inverse, 3 prior, 4 x, 5 unknowns: the sums of `wide` ± prior·x, 6 parts (entries, [`PART`]): Σ x·sums, 0 |
//! | `factored_step` | entries | 0 p, 1 q, 2 inverse, 3 prior, 4 f += αp, 5 r −= αq, 6 parts: Σ r²·inverse, the largest r²·inverse without a prior |
//! | `factored_turn` | entries × SEG | 0 r, 1 inverse, 2 p := r·inverse + βp |

use rayon::prelude::*;

use super::filter::{Filter, precondition};
use super::operators::{Shapes, View, damped, diagonal, fold, light, transpose};
use super::{SEG, TAPS, WIDE};
use crate::kernels::layout::params;
use crate::kernels::{Access, Args, Bound, Kernel};

/// Words of an entry's part of a sum.
pub const PART: usize = 2;
/// Rows that one invocation of `factored_light` adds up.
pub const TILE: usize = 16;

/// What `factored_light` makes of B x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum LightMode {
    /// B x.
    Model = 0,
    /// weight·(B x).
    Weighted = 1,
    /// weight·(data − B x).
    Residual = 2,
}

params! {
    /// Parameters of `factored_light`.
    pub struct LightParams {
        /// First segment of the coefficients.
        pub first_segment: u32,
        /// Segments.
        pub segments: u32,
        /// First entry of the coefficients.
        pub first_entry: u32,
        /// Detector rows.
        pub ny: u32,
        /// Rows of a profile.
        pub ky: u32,
        /// Terms of B.
        pub rank: u32,
        /// Nodes of a profile.
        pub nodes: u32,
        /// Tiles of [`TILE`] rows.
        pub tiles: u32,
        /// A [`LightMode`].
        pub mode: u32,
    }
}

params! {
    /// Parameters of `factored_take` and `factored_diagonal`.
    pub struct EntriesParams {
        /// First entry of the coefficients.
        pub first_entry: u32,
        /// Entries.
        pub entries: u32,
        /// Detector rows.
        pub ny: u32,
        /// Rows of a profile.
        pub ky: u32,
        /// Terms of B.
        pub rank: u32,
        /// Nodes of a profile.
        pub nodes: u32,
    }
}

params! {
    /// Parameters of `factored_fold`.
    pub struct FoldParams {
        /// Entries.
        pub entries: u32,
        /// Sign of prior·x; not 0: leave 0 where the inverse is 0.
        pub sign: f32,
    }
}

params! {
    /// Parameters of `factored_step` and `factored_turn`.
    pub struct StepParams {
        /// Entries.
        pub entries: u32,
        /// α or β.
        pub factor: f32,
    }
}

/// The preconditioner.
const FILTER: &str = include_str!("../../../shaders/lib/factored_filter.wgsl");
/// What they share.
const SHARED: &str = include_str!("../../../shaders/lib/factored.wgsl");
const R: Access = Access::Read;
const W: Access = Access::Write;

/// B x.
pub static LIGHT: Kernel = Kernel {
    stem: "factored_light",
    wgsl: &[SHARED, include_str!("../../../shaders/factored_light.wgsl")],
    constants: &[],
    params: LightParams::LAYOUT,
    access: &[R, R, R, R, R, R, R, W],
    cpu: run_light,
};

/// Bᵀ of an image.
pub static TAKE: Kernel = Kernel {
    stem: "factored_take",
    wgsl: &[SHARED, include_str!("../../../shaders/factored_take.wgsl")],
    constants: &[],
    params: EntriesParams::LAYOUT,
    access: &[R, R, R, R, W],
    cpu: |args| each_entry(args, transpose),
};

/// The diagonal of BᵀWB.
pub static DIAGONAL: Kernel = Kernel {
    stem: "factored_diagonal",
    wgsl: &[SHARED, include_str!("../../../shaders/factored_diagonal.wgsl")],
    constants: &[],
    params: EntriesParams::LAYOUT,
    access: &[R, R, R, R, W],
    cpu: |args| each_entry(args, diagonal),
};

/// Entries' shares together.
pub static FOLD: Kernel = Kernel {
    stem: "factored_fold",
    wgsl: &[SHARED, include_str!("../../../shaders/factored_fold.wgsl")],
    constants: &[],
    params: FoldParams::LAYOUT,
    access: &[R, R, R, R, R, W, W],
    cpu: run_fold,
};

/// A step along p.
pub static STEP: Kernel = Kernel {
    stem: "factored_step",
    wgsl: &[SHARED, FILTER, include_str!("../../../shaders/factored_step.wgsl")],
    constants: &[],
    params: StepParams::LAYOUT,
    access: &[R, R, R, R, R, W, W, W],
    cpu: run_step,
};

/// The next p.
pub static TURN: Kernel = Kernel {
    stem: "factored_turn",
    wgsl: &[SHARED, FILTER, include_str!("../../../shaders/factored_turn.wgsl")],
    constants: &[],
    params: StepParams::LAYOUT,
    access: &[R, R, R, W],
    cpu: run_turn,
};

fn shapes<'a>(bound: &'a Bound<'_>, rank: u32) -> Shapes<'a> {
    let (taps, basis) = bound.floats().split_at(rank as usize * TAPS);
    Shapes { taps: bytemuck::cast_slice(taps), basis: bytemuck::cast_slice(basis) }
}

fn run_light(args: &mut Args<'_>) {
    let p: LightParams = args.params_as();
    let [entries, starts, h, coefs, x, data, weight, out] = args.buffers.as_mut_slice() else { return };
    let view = View {
        ny: p.ny as usize,
        ky: p.ky as usize,
        shapes: shapes(h, p.rank),
        entries: bytemuck::cast_slice(entries.words()),
        starts: starts.words(),
        coefs: coefs.floats(),
        first_entry: p.first_entry as usize,
    };
    let block = view.ny * SEG;
    let first = p.first_segment as usize;
    let (x, data, weight) = (x.floats(), data.floats(), weight.floats());
    let own = out.floats_mut()[first * block..].par_chunks_exact_mut(block).take(p.segments as usize);
    own.zip(first..first + p.segments as usize).for_each(|(out, seg)| {
        light(&view, x, seg, out);
        let pixels = out.iter_mut().zip(&data[seg * block..]).zip(&weight[seg * block..]);
        if p.mode == LightMode::Weighted as u32 {
            pixels.for_each(|((o, _), w)| *o *= *w);
        } else if p.mode == LightMode::Residual as u32 {
            pixels.for_each(|((o, d), w)| *o = *w * (*d - *o));
        }
    });
}

/// Calls `of(view, image, entry, its columns of wide)` for the entries of a dispatch.
fn each_entry(args: &mut Args<'_>, of: impl Fn(&View<'_>, &[f32], usize, &mut [f32; WIDE]) + Sync) {
    let p: EntriesParams = args.params_as();
    let [entries, h, coefs, image, wide] = args.buffers.as_mut_slice() else { return };
    let view = View {
        ny: p.ny as usize,
        ky: p.ky as usize,
        shapes: shapes(h, p.rank),
        entries: bytemuck::cast_slice(entries.words()),
        starts: &[],
        coefs: coefs.floats(),
        first_entry: p.first_entry as usize,
    };
    let (first, n) = (p.first_entry as usize, p.entries as usize);
    let image = image.floats();
    let own = &mut wide.floats_mut()[first * WIDE..][..n * WIDE];
    let own = own.as_chunks_mut().0.par_iter_mut().enumerate();
    own.for_each(|(e, wide)| of(&view, image, first + e, wide));
}

fn run_fold(args: &mut Args<'_>) {
    let p: FoldParams = args.params_as();
    let [entries, wide, scale, prior, x, out, parts] = args.buffers.as_mut_slice() else { return };
    let entries = bytemuck::cast_slice(entries.words());
    let (wide, x) = (wide.floats(), x.floats());
    let (scale, prior) = (scale.floats(), prior.floats());
    let parts = parts.floats_mut().par_chunks_exact_mut(PART).take(p.entries as usize);
    out.floats_mut().par_chunks_exact_mut(SEG).zip(parts).enumerate().for_each(|(e, (out, part))| {
        let own = e * SEG..(e + 1) * SEG;
        fold(entries, wide, e, out);
        damped(out, &x[own.clone()], &scale[own.clone()], &prior[own.clone()], p.sign);
        let sum = out.iter().zip(&x[own]).fold(0.0, |sum, (o, x)| sum + *x * *o);
        part.copy_from_slice(&[sum, 0.0]);
    });
}

/// The filter, as it lies in its buffer.
fn filter<'a>(bound: &'a Bound<'_>) -> Option<&'a Filter<f32>> {
    bound.floats().first_chunk()
}

fn run_step(args: &mut Args<'_>) {
    let a: StepParams = args.params_as();
    let [p, q, scale, prior, taps, f, r, parts] = args.buffers.as_mut_slice() else { return };
    let (p, q) = (p.floats(), q.floats());
    let (scale, prior) = (scale.floats(), prior.floats());
    let Some(filter) = filter(taps) else { return };
    let parts = parts.floats_mut().par_chunks_exact_mut(PART).take(a.entries as usize);
    let (scale, _) = scale.as_chunks();
    let residuals = r.floats_mut().as_chunks_mut().0.par_iter_mut();
    let vectors = f.floats_mut().par_chunks_exact_mut(SEG).zip(residuals);
    vectors.zip(parts).enumerate().for_each(|(e, ((f, r), part))| {
        let own = e * SEG..(e + 1) * SEG;
        let (scale, prior) = (&scale[e], &prior[own.clone()]);
        f.iter_mut().zip(&p[own.clone()]).for_each(|(f, p)| *f += a.factor * *p);
        let mut most = 0f32;
        for ((r, q), (d, prior)) in r.iter_mut().zip(&q[own]).zip(scale.iter().zip(prior)) {
            *r -= a.factor * *q;
            let v = *r * *d;
            most = if *prior == 0.0 { most.max(v * v) } else { most };
        }
        let mut z = [0f32; SEG];
        precondition(r, scale, filter, &mut z);
        let sum = r.iter().zip(z).fold(0.0, |sum, (r, z)| sum + *r * z);
        part.copy_from_slice(&[sum, most]);
    });
}

fn run_turn(args: &mut Args<'_>) {
    let a: StepParams = args.params_as();
    let [r, scale, taps, p] = args.buffers.as_mut_slice() else { return };
    let Some(filter) = filter(taps) else { return };
    let known = r.floats().as_chunks().0.par_iter().zip(scale.floats().as_chunks().0);
    let own = p.floats_mut().par_chunks_exact_mut(SEG).take(a.entries as usize);
    own.zip(known).for_each(|(p, (r, scale))| {
        let mut z = [0f32; SEG];
        precondition(r, scale, filter, &mut z);
        p.iter_mut().zip(z).for_each(|(p, z)| *p = z + a.factor * *p);
    });
}
