use super::*;
use crate::engine::testing::{close, gpu};
use crate::engine::{CpuEngine, Dispatch, Engine};

const DO_NOT_USE: u32 = 1;
const HOT: u32 = 1 << 11;

fn params(n: usize, steps: u32) -> CalibrateParams {
    CalibrateParams {
        pixels: n as u32,
        steps,
        sky_scale: 1.25,
        dark_coefficient: 0.25,
        factor: 0.5,
        unusable: DO_NOT_USE,
        inherit: HOT,
        dark_bad: 1 << 23,
        sky_bad: 0,
        flat_bad: 1 << 18,
    }
}

/// A frame about `level`, with every kind of bad pixel at some primes' multiples.
fn frame(n: usize, level: f32, seed: u32) -> Vec<Sample<f32>> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..n)
        .map(|i| {
            let mut s = Sample { value: level * (0.5 + uniform()), variance: 0.1 + uniform(), dq: 0 };
            match i as u32 % (37 + seed) {
                5 => s.value = f32::NAN,
                6 => s.variance = f32::INFINITY,
                7 => s.dq = DO_NOT_USE,
                8 => s.dq = HOT | (1 << 2),
                9 => s.value = -0.0,
                10 => s.value = -level,
                11 => s.value = 1e-30,
                _ => {}
            }
            s
        })
        .collect()
}

fn planes(frame: &[Sample<f32>]) -> Vec<u32> {
    let value = frame.iter().map(|s| s.value.to_bits());
    let variance = frame.iter().map(|s| s.variance.to_bits());
    value.chain(variance).chain(frame.iter().map(|s| s.dq)).collect()
}

fn run(engine: &mut dyn Engine, frames: &[Vec<Sample<f32>>; 4], p: CalibrateParams) -> Vec<u32> {
    let n = p.pixels as usize;
    let mut buffers: Vec<_> = frames.iter().map(|f| engine.buffer_of(&planes(f)).unwrap()).collect();
    buffers.push(engine.allocate(4 * n).unwrap());
    let params = bytemuck::cast_slice(&[p]).to_vec();
    let out = buffers[4];
    let dispatch = Dispatch { kernel: &CALIBRATE, buffers, items: n, params, constants: vec![] };
    engine.submit(&vec![dispatch]).unwrap();
    engine.download(out).unwrap()
}

fn frames(n: usize) -> [Vec<Sample<f32>>; 4] {
    [frame(n, 100.0, 1), frame(n, 3.0, 2), frame(n, 40.0, 3), frame(n, 1.0, 4)]
}

fn oracle(frames: &[Vec<Sample<f32>>; 4], p: &CalibrateParams) -> Vec<Calibrated<f64>> {
    let wide =
        |s: Sample<f32>| Sample { value: f64::from(s.value), variance: f64::from(s.variance), dq: s.dq };
    (0..p.pixels as usize)
        .map(|i| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|k: usize| wide(frames[k][i]));
            let mut r = calibrate(a, b, c, d, p);
            // The tiny flats overflow in f32 and not in f64.
            if r.own.max(r.common) > f64::from(f32::MAX) {
                (r.value, r.own, r.common, r.dq) = (f64::NAN, f64::NAN, f64::NAN, r.dq | p.unusable);
            }
            r
        })
        .collect()
}

/// Compares an engine's planes with the f64 form; `flip` perturbs one pixel first.
fn agrees(words: &[u32], truth: &[Calibrated<f64>], flip: bool) -> Result<(), String> {
    let n = truth.len();
    let mut words = words.to_vec();
    if flip {
        let i = truth.iter().position(|t| t.value.is_finite()).unwrap();
        words[i] = (f32::from_bits(words[i]) * 1.01).to_bits();
    }
    let floats: &[f32] = bytemuck::cast_slice(&words);
    let plane = |f: fn(&Calibrated<f64>) -> f64| -> Vec<f32> { truth.iter().map(|t| f(t) as f32).collect() };
    close(&floats[..n], &plane(|t| t.value), 1e-4, 2e-6, 0)?;
    close(&floats[n..2 * n], &plane(|t| t.own), 0.0, 2e-6, 0)?;
    close(&floats[2 * n..3 * n], &plane(|t| t.common), 1e-3, 1e-5, 0)?;
    let wrong = (0..n).filter(|&i| words[3 * n + i] != truth[i].dq).count();
    if wrong > 0 { Err(format!("{wrong} DQ words differ")) } else { Ok(()) }
}

#[test]
fn engines_agree_with_f64_and_with_each_other() {
    for n in [1, 63, 257, 12_289] {
        for steps in [0, DARK, SKY, FLAT, DARK | FLAT, DARK | SKY | FLAT] {
            let (frames, p) = (frames(n), params(n, steps));
            let truth = oracle(&frames, &p);
            let mut cpu = CpuEngine::new(1 << 30);
            let on_cpu = run(&mut cpu, &frames, p);
            agrees(&on_cpu, &truth, false).unwrap();
            agrees(&on_cpu, &truth, true).expect_err("a perturbed pixel must be seen");
        }
    }
    let Some(mut gpu) = gpu() else { return };
    for n in [1, 63, 257, 12_289] {
        for steps in [0, SKY, DARK | FLAT, DARK | SKY | FLAT] {
            let (frames, p) = (frames(n), params(n, steps));
            let mut cpu = CpuEngine::new(1 << 30);
            let (a, b) = (run(gpu.as_mut(), &frames, p), run(&mut cpu, &frames, p));
            agrees(&a, &oracle(&frames, &p), false).unwrap();
            assert_eq!(a[3 * n..], b[3 * n..], "DQ");
            let (x, y): (&[f32], &[f32]) = (bytemuck::cast_slice(&a), bytemuck::cast_slice(&b));
            close(&x[..3 * n], &y[..3 * n], 1e-3, 1e-5, 0).unwrap();
        }
    }
}

#[test]
fn each_bad_input_has_its_flag() {
    let good = Sample { value: 10.0, variance: 1.0, dq: 0 };
    let one = Sample { value: 1.0, variance: 0.0, dq: 0 };
    let nan = Sample { value: f64::NAN, variance: 1.0, dq: 0 };
    let p = params(1, DARK | SKY | FLAT);
    let flags = |s: Sample<f64>, d, k, f| {
        let r = calibrate(s, d, k, f, &p);
        assert!(r.value.is_nan() && r.own.is_nan() && r.common.is_nan());
        r.dq
    };
    assert_eq!(flags(nan, one, one, one), DO_NOT_USE);
    assert_eq!(flags(good, nan, one, one), DO_NOT_USE | 1 << 23);
    assert_eq!(flags(good, one, nan, one), DO_NOT_USE);
    for value in [f64::NAN, 0.0, -0.0, -1.0] {
        let flat = Sample { value, variance: 0.0, dq: 0 };
        assert_eq!(flags(good, one, one, flat), DO_NOT_USE | 1 << 18, "{value}");
    }
    let hot = Sample { dq: HOT | 2, ..one };
    assert_eq!(calibrate(good, hot, one, one, &p).dq, HOT);
}
