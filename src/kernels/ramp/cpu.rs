//! The CPU form: bands of items on rayon, each through the widest vectors that the
//! machine has.

use rayon::prelude::*;

use super::super::{Args, Bound};
use super::rates::Rates;
use super::reads::{Source, Work};
use super::{LANES, OUT_PLANES, Params, stage};
use crate::simd::widest;

/// Items that a thread takes at a time.
const BAND: usize = 4096;

/// Runs the kernel.
pub(super) fn run(args: &mut Args<'_>) {
    let p: Params = args.params_as();
    let [.., out, flags] = args.buffers.as_mut_slice() else { return };
    let (out, flags) = (detach(out), detach(flags));
    let source = Source::<f32>::new(p, args);
    if source.p.items == 0 {
        return;
    }
    if source.on(stage::STORE) {
        store(&source, out, flags);
    } else {
        rates(&source, out);
    }
}

/// A writable binding taken out of the arguments, so that the rest can be read.
fn detach<'a>(bound: &mut Bound<'a>) -> &'a mut [u32] {
    match std::mem::replace(bound, Bound::Read(&[])) {
        Bound::Write(words) => words,
        Bound::Read(_) => &mut [],
    }
}

/// Rate, error, photon and read variance and reduced χ² of every item in f64: the
/// reference of both engines. NaN where the kernel writes NaN.
pub fn reference(args: &Args<'_>) -> Vec<[f64; 5]> {
    with_pedestals(args).into_iter().map(|(rates, _)| rates).collect()
}

/// [`reference`] with each ramp's pedestal, its variance and its covariance with the
/// rate, where they are asked for.
pub(super) fn with_pedestals(args: &Args<'_>) -> Vec<([f64; 5], Vec<[f64; 3]>)> {
    let p: Params = args.params_as();
    let source = Source::<f64>::new(p, args);
    let mut work = Work::<f64, 1>::new(&p);
    let value = |r: &Rates<f64, 1>, plane: usize| {
        if r.nan[0] >> plane & 1 != 0 { f64::NAN } else { r.values[plane][0] }
    };
    (0..p.items as usize)
        .map(|item| match source.run(item, &mut work) {
            Some(r) => {
                let pedestals = work.pedestals.iter().map(|p| r.pedestal_value(p)).collect();
                (std::array::from_fn(|plane| value(&r, plane)), pedestals)
            }
            None => ([f64::NAN; 5], Vec::new()),
        })
        .collect()
}

fn rates(source: &Source<'_, f32>, out: &mut [u32]) {
    let items = source.p.items as usize;
    let mut bands: Vec<Vec<&mut [u32]>> = Vec::new();
    bands.resize_with(items.div_ceil(BAND), Vec::new);
    for plane in out.chunks_mut(items).take(source.p.out_planes()) {
        bands.iter_mut().zip(plane.chunks_mut(BAND)).for_each(|(band, part)| band.push(part));
    }
    bands.into_par_iter().enumerate().for_each_init(
        || Work::new(&source.p),
        |work, (band, mut planes)| run_band(source, band * BAND, &mut planes, work),
    );
}

widest! {
    fn run_band(
        source: &Source<'_, f32>,
        first: usize,
        out: &mut [&mut [u32]],
        work: &mut Work<f32, LANES>,
    ) = band
}

#[inline(always)]
fn band(s: &Source<'_, f32>, first: usize, out: &mut [&mut [u32]], w: &mut Work<f32, LANES>) {
    let n = out[0].len();
    for start in (0..n).step_by(LANES) {
        let Some(rates) = s.run(first + start, w) else { return };
        let values = rates.words();
        let width = LANES.min(n - start);
        for (plane, value) in out.iter_mut().zip(&values) {
            plane[start..start + width].copy_from_slice(&value[..width]);
        }
        let pedestals = w.pedestals.iter().flat_map(|p| rates.pedestal(p));
        for (plane, value) in out[OUT_PLANES..].iter_mut().zip(pedestals) {
            plane[start..start + width].copy_from_slice(&value[..width]);
        }
    }
}

/// Stores the ramps and flags after the stages, `[read][item]`.
fn store(source: &Source<'_, f32>, out: &mut [u32], flags: &mut [u32]) {
    let (items, reads) = (source.p.items as usize, source.reads());
    // Of a block's state, only what is stored outlives it.
    type Stored = (Vec<[f32; LANES]>, Vec<[u32; LANES]>);
    let bands: Vec<(usize, Vec<Stored>)> = (0..items.div_ceil(BAND))
        .into_par_iter()
        .map(|band| {
            let first = band * BAND;
            let blocks = (first..(first + BAND).min(items)).step_by(LANES).map(|item| {
                let mut work = Work::new(&source.p);
                source.run(item, &mut work);
                (work.y, work.flags)
            });
            (first, blocks.collect())
        })
        .collect();
    for (first, blocks) in bands {
        for (b, (y, f)) in blocks.iter().enumerate() {
            let item = first + b * LANES;
            for k in 0..reads {
                for l in 0..LANES.min(items - item) {
                    out[k * items + item + l] = y[k][l].to_bits();
                    flags[k * items + item + l] = f[k][l];
                }
            }
        }
    }
}
