use super::*;
use crate::engine::testing::{close, gpu};
use crate::engine::{CpuEngine, Dispatch, Engine};
use crate::kernels::normal::Normal;

const DO_NOT_USE: u32 = 1;
const HOT: u32 = 1 << 11;

fn params(pixels: usize, frames: usize, median: u32, maxiters: u32) -> CombineParams {
    CombineParams {
        pixels: pixels as u32,
        frames: frames as u32,
        median,
        maxiters,
        low: 4.0,
        high: 4.0,
        unusable: DO_NOT_USE,
        has_common: 1,
        efficiency: EFFICIENCY,
    }
}

/// (values, variances, commons, dq), each (frames, pixels), with outliers and bad samples.
fn stack(pixels: usize, frames: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<u32>) {
    let mut normal = Normal(pixels as u64 * 1000 + frames as u64);
    let n = pixels * frames;
    let mut values: Vec<f32> = (0..n).map(|_| (100.0 + 2.0 * normal.next()) as f32).collect();
    let mut variances: Vec<f32> = (0..n).map(|_| (4.0 * (0.8 + 0.4 * normal.uniform())) as f32).collect();
    let commons: Vec<f32> = (0..n).map(|_| normal.uniform() as f32).collect();
    let mut dq = vec![HOT; n];
    for at in 0..n {
        match (at % pixels) % 11 + 13 * (normal.uniform() < 0.6) as usize {
            1 => values[at] = 1e4,
            2 => values[at] = f32::NAN,
            3 => dq[at] |= DO_NOT_USE,
            4 => variances[at] = f32::NAN,
            5 => variances[at] = -1.0,
            6 => dq[at] = 1 << 2,
            7 => values[at] = f32::INFINITY,
            8 => values[at] = if at % 2 == 0 { -500.0 } else { 700.0 },
            _ => {}
        }
    }
    (values, variances, commons, dq)
}

type Stack = (Vec<f32>, Vec<f32>, Vec<f32>, Vec<u32>);

fn run(engine: &mut dyn Engine, stack: &Stack, p: &CombineParams) -> Vec<u32> {
    let out = engine.allocate(5 * p.pixels as usize).unwrap();
    let buffers = vec![
        engine.buffer_of_f32(&stack.0).unwrap(),
        engine.buffer_of_f32(&stack.1).unwrap(),
        engine.buffer_of_f32(&stack.2).unwrap(),
        engine.buffer_of(&stack.3).unwrap(),
        out,
    ];
    let dispatch = Dispatch {
        kernel: &COMBINE,
        buffers,
        items: p.pixels as usize,
        params: bytemuck::cast_slice(&[*p]).to_vec(),
        constants: vec![("CAPACITY", capacity(p.frames as usize))],
    };
    engine.submit(&vec![dispatch]).unwrap();
    engine.download(out).unwrap()
}

fn agrees(words: &[u32], stack: &Stack, p: &CombineParams, flip: bool) -> Result<(), String> {
    let n = p.pixels as usize;
    let mut words = words.to_vec();
    let mut scratch = Scratch::default();
    let truth: Vec<Combined<f64>> = (0..n)
        .map(|i| {
            let sample = |k: usize| Sample {
                value: f64::from(stack.0[k * n + i]),
                variance: f64::from(stack.1[k * n + i]),
                common: f64::from(stack.2[k * n + i]),
                dq: stack.3[k * n + i],
            };
            combine(sample, p, &mut scratch)
        })
        .collect();
    if flip {
        let i = truth.iter().position(|t| t.value.is_finite()).unwrap();
        words[i] = (f32::from_bits(words[i]) * 1.0001).to_bits();
    }
    let floats: &[f32] = bytemuck::cast_slice(&words);
    let plane = |f: fn(&Combined<f64>) -> f64| -> Vec<f32> { truth.iter().map(|t| f(t) as f32).collect() };
    close(&floats[..n], &plane(|t| t.value), 2e-4, 1e-6, 0)?;
    close(&floats[n..2 * n], &plane(|t| t.own), 0.0, 5e-6, 0)?;
    close(&floats[2 * n..3 * n], &plane(|t| t.common), 1e-7, 5e-6, 0)?;
    let same = (0..n).all(|i| words[3 * n + i] == truth[i].dq && words[4 * n + i] == truth[i].used);
    if same { Ok(()) } else { Err("DQ or counts differ".into()) }
}

const SHAPES: [(usize, usize); 7] = [(1, 1), (63, 2), (257, 3), (1025, 4), (301, 7), (129, 64), (65, 130)];

#[test]
fn the_cpu_engine_agrees_with_f64() {
    for (pixels, frames) in SHAPES {
        let stack = stack(pixels, frames);
        for (median, maxiters) in [(0, 5), (0, 0), (1, 0)] {
            let p = params(pixels, frames, median, maxiters);
            let words = run(&mut CpuEngine::new(1 << 30), &stack, &p);
            agrees(&words, &stack, &p, false).unwrap();
            agrees(&words, &stack, &p, true).expect_err("a perturbed pixel must be seen");
        }
    }
}

#[test]
fn the_gpu_engine_agrees_with_f64() {
    let Some(mut gpu) = gpu() else { return };
    for (pixels, frames) in SHAPES {
        let stack = stack(pixels, frames);
        for (median, maxiters) in [(0, 5), (1, 0)] {
            let p = params(pixels, frames, median, maxiters);
            let words = run(gpu.as_mut(), &stack, &p);
            agrees(&words, &stack, &p, false).unwrap();
            agrees(&words, &stack, &p, true).expect_err("a perturbed pixel must be seen");
        }
    }
}

/// Mean and variance of 20 000 combinations of normal samples, over the stated variance.
fn ratio(frames: usize, median: u32, maxiters: u32) -> f64 {
    let mut normal = Normal(7 + frames as u64);
    let p = CombineParams { has_common: 0, ..params(1, frames, median, maxiters) };
    let mut scratch = Scratch::default();
    let (mut squares, mut stated) = (0.0, 0.0);
    for _ in 0..20_000 {
        let x: Vec<f64> = (0..frames).map(|_| normal.next()).collect();
        let sample = |k: usize| Sample { value: x[k], variance: 1.0, common: 0.0, dq: 0 };
        let r = combine(sample, &p, &mut scratch);
        squares += r.value * r.value;
        stated += r.own;
    }
    (squares / stated).sqrt()
}

#[test]
fn stated_errors_are_those_of_normal_samples() {
    for frames in [1, 2, 3, 4, 5, 8, 15, 64, 65, 90] {
        for (median, maxiters) in [(0, 5), (1, 0)] {
            let r = ratio(frames, median, maxiters);
            assert!((0.98..1.02).contains(&r), "{frames} frames, median {median}: {r}");
        }
    }
}

#[test]
fn the_tail_formula_joins_the_table_and_meets_the_integrals() {
    for (n, exact) in [(65, 1.560_396), (66, 1.537_795), (101, 1.564_109), (256, 1.562_096)] {
        assert!((median_efficiency(n) - exact).abs() < 2e-4, "{n}");
    }
}

#[test]
fn outliers_go_and_two_frames_are_never_clipped() {
    let mut scratch = Scratch::default();
    let mut value = |x: &[f64]| {
        let p = params(1, x.len(), 0, 5);
        let sample = |k: usize| Sample { value: x[k], variance: 1.0, common: 0.0, dq: 0 };
        let r = combine(sample, &p, &mut scratch);
        (r.value, r.used)
    };
    assert_eq!(value(&[1.0, 2.0, 900.0]), (1.5, 2));
    assert_eq!(value(&[1.0, 901.0]), (451.0, 2));
    assert_eq!(value(&[1.0, 2.0, 900.0, 901.0]), (1.5, 2));
    assert_eq!(value(&[-900.0, 1.0, 2.0, 3.0]), (2.0, 3));
}
