//! The ramp kernel on ramps in memory, stage by stage and fused: the arithmetic alone.

use super::limits::Limits;
use super::timing::{Timing, timed};
use crate::engine::{Buffer, DeviceKind, Dispatch, Engine};
use crate::error::Result;
use crate::kernels::ramp::{self, Encoding, OUT_PLANES, Params, RAMP, Tables, algorithm, stage};
use crate::kernels::{Args, Bound};
use crate::simd;

const NX: usize = 2048;
const ROWS: usize = 256;
const PIXELS: usize = NX * ROWS;
/// Pixels that are computed in double precision, too.
const EXACT: usize = 20_000;

/// What runs: its name, its stages, its algorithm.
const FORMS: [(&str, u32, u32); 5] = [
    ("fit alone", stage::FIT, algorithm::LIKELIHOOD),
    ("with saturation and bias", stage::FIT | stage::SATURATION | stage::BIAS, algorithm::LIKELIHOOD),
    ("and linearity", stage::FIT | CORRECTIONS, algorithm::LIKELIHOOD),
    ("ordinary least squares, without jumps", stage::FIT | CORRECTIONS, algorithm::OLS),
    (FUSED, stage::FIT | CORRECTIONS | stage::JUMP, algorithm::LIKELIHOOD),
];
const CORRECTIONS: u32 = stage::SATURATION | stage::BIAS | stage::REFPIX | stage::LINEARITY;
/// The complete stage 1.
const FUSED: &str = "fused: mask, saturation, bias, refpix, linearity, jumps, likelihood";

/// Times every form at every number of reads; on a CPU the complete one with each
/// instruction set.
pub(super) fn measure(
    engine: &mut dyn Engine,
    reads: &[usize],
    limits: &Limits,
    runs: usize,
) -> Result<Vec<Timing>> {
    let mut out = Vec::new();
    for &reads in reads {
        let ramps = Ramps::new(reads);
        let buffers = ramps.upload(engine)?;
        for (name, stages, algorithm) in FORMS {
            let params = Params { stages, algorithm, ..ramps.params };
            out.push(one(
                engine,
                (&ramps, &buffers, params),
                format!("{reads} reads, {name}"),
                limits,
                runs,
            )?);
        }
        if engine.device().kind == DeviceKind::Cpu {
            let widest = simd::level();
            for level in simd::LEVELS.into_iter().filter(|l| *l < widest) {
                simd::limit(level);
                let params = Params { stages: FORMS[4].1, ..ramps.params };
                let what = format!("{reads} reads, the same with {level:?} vectors");
                out.push(one(engine, (&ramps, &buffers, params), what, limits, runs)?);
            }
            simd::limit(simd::Level::Avx512);
        }
        buffers.into_iter().for_each(|b| engine.free(b));
    }
    Ok(out)
}

fn one(
    engine: &mut dyn Engine,
    (ramps, buffers, params): (&Ramps, &[Buffer], Params),
    what: String,
    limits: &Limits,
    runs: usize,
) -> Result<Timing> {
    let recording = vec![Dispatch {
        kernel: &RAMP,
        buffers: buffers.to_vec(),
        items: PIXELS,
        params: bytemuck::cast_slice(&[params]).to_vec(),
        constants: params.constants(),
    }];
    let (out, last) = (buffers[5], buffers[6]);
    let seconds = timed(runs, || {
        engine.submit(&recording)?;
        // One word, to wait for the rest.
        engine.download_with(last, &mut |_| {})
    })?;
    let mut drift = 0.0;
    engine.download_with(out, &mut |words| drift = ramps.drift(&params, words))?;
    let planes = ramps.words[2].len() / PIXELS;
    let bytes = PIXELS * (2 * params.reads as usize + 4 * (planes + OUT_PLANES));
    let mut timing = Timing::new("kernels", what, seconds, bytes as u64);
    timing.reads = (PIXELS * params.reads as usize) as u64;
    if engine.device().kind == DeviceKind::Cpu {
        // A copy moves each of its bytes twice.
        timing.limit = Some(("memory", 2.0 * limits.copy));
    }
    timing.drift = Some(drift);
    Ok(timing)
}

/// Ramps of sky and noise (uint16 as files hold it), one pixel in 200 hit.
struct Ramps {
    params: Params,
    /// The read buffers of the kernel.
    words: [Vec<u32>; 5],
}

impl Ramps {
    fn new(reads: usize) -> Ramps {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut raw = vec![0u8; PIXELS * reads * 2];
        for pixel in 0..PIXELS {
            let (rate, hit) = (20.0 + 40.0 * uniform(), uniform() < 0.005);
            let mut level = 3000.0;
            for k in 0..reads {
                level += rate + 8.0 * (uniform() - 0.5) + if hit && k == reads / 2 { 900.0 } else { 0.0 };
                let noise = 20.0 * (uniform() - 0.5);
                let at = (k * PIXELS + pixel) * 2;
                raw[at..at + 2].copy_from_slice(&(((level + noise) as u16) ^ 0x8000).to_be_bytes());
            }
        }
        // DQ, saturation, bias, gain, read variance, then the coefficients.
        let planes = [0.0f32, 60_000.0, 3000.0, 2.0, 130.0, 0.0, 1.0, 1e-6, 1e-12];
        let cal: Vec<u32> = planes.iter().flat_map(|v| std::iter::repeat_n(v.to_bits(), PIXELS)).collect();
        let times: Vec<f64> = (1..=reads).map(|k| k as f64 * 1.5).collect();
        let mut tables = Tables::new(&times, &vec![1; reads], 1.5, reads).to_words();
        // Offsets of columns and of lines in four channels.
        const CHANNEL: usize = NX / 4;
        let offsets = reads * (NX + NX / CHANNEL * ROWS);
        tables.extend((0..offsets).map(|i| ((i % 7) as f32 * 0.1).to_bits()));
        let params = Params {
            items: PIXELS as u32,
            nx: NX as u32,
            rows: ROWS as u32,
            ramps: 1,
            reads: reads as u32,
            stride_ramp: (PIXELS * reads) as u32,
            stride_read: PIXELS as u32,
            stride_y: NX as u32,
            stride_x: 1,
            encoding: Encoding::U16 as u32,
            ncoef: 4,
            num_coadd: 2,
            across: NX as u32,
            lines: ROWS as u32,
            block_width: CHANNEL as u32,
            max_jumps: 10,
            threshold_one: 5.5 * 5.5,
            threshold_two: 33.7,
            ..Params::default()
        };
        Ramps { params, words: [bytemuck::pod_collect_to_vec(&raw), vec![0], cal, tables, vec![0]] }
    }

    fn upload(&self, engine: &mut dyn Engine) -> Result<Vec<Buffer>> {
        let mut buffers = Vec::new();
        for words in &self.words {
            buffers.push(engine.buffer_of(words)?);
        }
        buffers.push(engine.allocate(OUT_PLANES * PIXELS)?);
        buffers.push(engine.allocate(1)?);
        Ok(buffers)
    }

    /// Furthest rate from the double-precision reference, σ; infinite where one has a
    /// value and the other none. Pixels in which a jump is at its threshold, and found
    /// by one alone, are no more than 1 in 2000, or it is infinite, too.
    fn drift(&self, params: &Params, out: &[u32]) -> f64 {
        let params = Params { items: EXACT as u32, ..*params };
        let mut buffers: Vec<Bound<'_>> = self.words.iter().map(|w| Bound::Read(w)).collect();
        buffers.extend([Bound::Read(&[]), Bound::Read(&[])]);
        let words: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&params));
        let exact = ramp::reference(&Args { items: EXACT, params: words, buffers });
        let value = |plane: usize, i: usize| f64::from(f32::from_bits(out[plane * PIXELS + i]));
        let (mut worst, mut others) = (0.0f64, 0);
        for (i, exact) in exact.iter().enumerate() {
            let off = ((value(0, i) - exact[0]) / exact[1]).abs();
            match () {
                () if value(0, i).is_nan() != exact[0].is_nan() => return f64::INFINITY,
                () if exact[0].is_nan() => {}
                // Another set of differences has another error.
                () if (value(1, i) / exact[1] - 1.0).abs() > 1e-3 => others += 1,
                () => worst = worst.max(off),
            }
        }
        if others * 2000 > EXACT { f64::INFINITY } else { worst }
    }
}
