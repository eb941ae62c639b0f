//! The CPU form against dense algebra and against truth; the WGSL against the CPU.

use super::*;
use crate::engine::testing::{close, gpu};
use crate::engine::{CpuEngine, Dispatch, Engine};
use crate::kernels::normal::Random;

/// Everything that a dispatch takes, and the truth.
struct Scene {
    params: Params,
    pixels: Vec<u32>,
    starts: Vec<u32>,
    table: Vec<u32>,
    truth: Vec<f64>,
}

/// Spectra at a pitch of 2.2 px, tilted, on `ncols` × `ny` pixels: Poisson (as
/// Gaussian) and read noise, 1 % bad pixels of each kind, one crossing pair.
fn scene(ncols: usize, ny: usize, level: f64, seed: u64) -> Scene {
    let (ky, factor, read) = (8, 0.02f32, 0.3);
    let mut random = Random(seed);
    let (mut starts, mut table, mut truth) = (vec![0u32], Vec::new(), Vec::new());
    let mut model = vec![0.0; ncols * ny];
    let mut nmax = 0;
    for x in 0..ncols {
        let mut entries = Vec::new();
        // Some columns have no spectra at all; some profiles hang over the edge.
        let count = if x % 17 == 5 { 0 } else { ny * 5 / 11 };
        for l in 0..count {
            let mut centre = 0.3 + 2.2 * l as f64 + 0.03 * x as f64;
            if l == 7 && x % 10 == 3 {
                centre -= 2.2; // lies on its neighbour
            }
            let first = (centre - ky as f64 / 2.0 + 0.5).floor() as i32;
            let flux = level * (0.2 + random.uniform());
            let weights: Vec<f32> = (0..ky)
                .map(|k| {
                    let d = f64::from(first) + k as f64 - centre;
                    (-0.5 * (d / 0.8).powi(2)).exp() as f32 / (0.8 * 2.506_628_3)
                })
                .collect();
            entries.push((first, weights, flux));
        }
        entries.sort_by_key(|e| e.0);
        for (first, weights, flux) in entries {
            table.push(first as u32);
            for (k, w) in weights.iter().enumerate() {
                table.push(w.to_bits());
                let y = first + k as i32;
                if (0..ny as i32).contains(&y) {
                    model[y as usize * ncols + x] += flux * f64::from(*w);
                }
            }
            truth.push(flux);
        }
        let entries = (truth.len() - starts[x] as usize) as u32;
        nmax = nmax.max(entries);
        starts.push(truth.len() as u32);
    }
    let mut pixels = Vec::new();
    for m in &model {
        let variance = read * read * (0.5 + random.uniform());
        let mut rate = m + (variance + f64::from(factor) * m).sqrt() * random.normal();
        let mut dq = 0;
        match (random.uniform() * 100.0) as u32 {
            0 => rate += 1000.0,                            // a cosmic ray
            1 => (rate, dq) = (f64::NAN, DO_NOT_USE | 512), // a dead pixel
            2 => rate = f64::INFINITY,
            3 => dq = 4,
            _ => {}
        }
        let planes = [rate as f32, variance as f32, 0.2 * variance as f32];
        pixels.extend(planes.map(f32::to_bits));
        pixels.push(dq);
    }
    let params = Params {
        ncols: ncols as u32,
        ny: ny as u32,
        ky: ky as u32,
        hb: 4,
        nmax,
        factor,
        threshold: 6.0,
        min_fraction: 0.5,
    };
    Scene { params, pixels, starts, table, truth }
}

fn run(engine: &mut dyn Engine, s: &Scene) -> (Vec<u32>, Vec<u32>) {
    let p = s.params;
    let entries = s.truth.len();
    let sizes = [scratch_words(&p), entries * SAMPLE, p.ncols as usize * COLUMN];
    let mut buffers: Vec<_> =
        [&s.pixels, &s.starts, &s.table].map(|w| engine.buffer_of(w).expect("upload")).into();
    buffers.extend(sizes.map(|n| engine.allocate(n.max(1)).expect("allocate")));
    let params: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&p));
    let dispatch = Dispatch {
        kernel: &EXTRACT,
        buffers: buffers.clone(),
        items: p.ncols as usize,
        params: params.to_vec(),
        constants: vec![],
    };
    engine.submit(&vec![dispatch]).expect("submit");
    (engine.download(buffers[4]).expect("samples"), engine.download(buffers[5]).expect("columns"))
}

/// Word `w` of each sample as f32.
fn plane(samples: &[u32], w: usize) -> Vec<f32> {
    samples.chunks_exact(SAMPLE).map(|s| f32::from_bits(s[w])).collect()
}

/// The differences a − b in units of b's σ must be small; NaN and flags equal.
/// Pixels at the rejection limit may fall on either side: `bad` samples may differ.
fn agree(a: &[u32], b: &[u32], bad: usize) -> Result<(), String> {
    let sigma: Vec<f32> = plane(b, 1).iter().map(|v| v.sqrt()).collect();
    let scaled = |s: &[u32]| plane(s, 0).iter().zip(&sigma).map(|(f, s)| f / s).collect::<Vec<f32>>();
    close(&scaled(a), &scaled(b), 2e-3, 1e-5, bad).map_err(|e| format!("flux: {e}"))?;
    for (word, name) in [(1, "variance"), (3, "shared"), (4, "chi2")] {
        close(&plane(a, word), &plane(b, word), 1e-4, 1e-3, bad).map_err(|e| format!("{name}: {e}"))?;
    }
    let other = |s: &[u32]| s.chunks_exact(SAMPLE).map(|s| s[5]).collect::<Vec<u32>>();
    let different = other(a).iter().zip(other(b)).filter(|(a, b)| **a != *b).count();
    if different > bad { Err(format!("{different} flags differ")) } else { Ok(()) }
}

fn oracle(s: &Scene) -> Vec<u32> {
    let entry = s.params.ky as usize + 1;
    let mut out = vec![0; s.truth.len() * SAMPLE];
    let mut work = Work::<f64>::default();
    for x in 0..s.params.ncols as usize {
        let (from, to) = (s.starts[x] as usize, s.starts[x + 1] as usize);
        let problem = Problem {
            pixels: &s.pixels,
            ncols: s.params.ncols as usize,
            x,
            ny: s.params.ny as usize,
            ky: s.params.ky as usize,
            hb: s.params.hb as usize,
            factor: s.params.factor,
            threshold: s.params.threshold,
            min_fraction: s.params.min_fraction,
            table: &s.table[from * entry..to * entry],
        };
        solve(&problem, &mut work, &mut out[from * SAMPLE..to * SAMPLE]);
    }
    out
}

/// Dense normal equations, inverted by Gauss–Jordan: nothing shared with the kernel.
fn dense(s: &Scene, x: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let p = &s.params;
    let (from, to) = (s.starts[x] as usize, s.starts[x + 1] as usize);
    let n = to - from;
    let entry = p.ky as usize + 1;
    let mut a = vec![vec![0.0; 2 * n + 1]; n];
    for y in 0..p.ny as usize {
        let pixel = &s.pixels[(y * p.ncols as usize + x) * PIXEL..][..PIXEL];
        let (rate, variance) = (f32::from_bits(pixel[0]), f32::from_bits(pixel[1]));
        if pixel[3] & 1 != 0 || !rate.is_finite() {
            continue;
        }
        let row: Vec<f64> = (0..n)
            .map(|j| {
                let e = &s.table[(from + j) * entry..][..entry];
                let k = y as i64 - i64::from(e[0] as i32);
                usize::try_from(k)
                    .ok()
                    .and_then(|k| e.get(k + 1))
                    .map_or(0.0, |b| f64::from(f32::from_bits(*b)))
            })
            .collect();
        for i in 0..n {
            for j in 0..n {
                a[i][j] += row[i] * row[j] / f64::from(variance);
            }
            a[i][2 * n] += row[i] * f64::from(rate) / f64::from(variance);
        }
    }
    (0..n).for_each(|i| a[i][n + i] = 1.0);
    for i in 0..n {
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|v| *v /= pivot);
        for r in 0..n {
            if r != i {
                let f = a[r][i];
                let row = a[i].clone();
                a[r].iter_mut().zip(row).for_each(|(v, p)| *v -= f * p);
            }
        }
    }
    (a.iter().map(|r| r[2 * n]).collect(), a.iter().map(|r| r[n..2 * n].to_vec()).collect())
}

#[test]
fn values_and_errors_are_those_of_dense_algebra() {
    let mut s = scene(9, 41, 40.0, 3);
    s.params.factor = 0.0;
    s.params.threshold = 0.0;
    for x in [0, 1, 8] {
        let (flux, inverse) = dense(&s, x);
        let samples = oracle(&s);
        let from = s.starts[x] as usize;
        for (j, (f, v)) in flux.iter().zip(&inverse).enumerate() {
            let sample = &samples[(from + j) * SAMPLE..][..SAMPLE];
            let value = |w: usize| f64::from(f32::from_bits(sample[w]));
            if sample[5] & 1 == 0 {
                assert!((value(0) - f).abs() < 1e-5 * (1.0 + f.abs()), "{x} {j}: {} {f}", value(0));
                assert!((value(1) / v[j] - 1.0).abs() < 1e-5, "{x} {j}");
                if j + 1 < flux.len() {
                    assert!((value(2) - v[j + 1]).abs() < 1e-5 * v[j], "{x} {j}");
                }
            }
        }
    }
}

#[test]
fn single_precision_is_enough() {
    for (ncols, ny, level) in [(1, 1, 10.0), (3, 7, 100.0), (65, 33, 3.0), (70, 101, 3e4)] {
        let s = scene(ncols, ny, level, 11);
        let (samples, _) = run(&mut CpuEngine::new(1 << 30), &s);
        agree(&samples, &oracle(&s), s.truth.len() / 1000).expect("f32 against f64");
    }
}

#[test]
fn gpu_and_cpu_agree_and_the_comparison_can_fail() {
    let Some(mut gpu) = gpu() else { return };
    for (ncols, ny, hb) in [(1, 1, 4), (3, 7, 4), (130, 45, 4), (67, 101, 0)] {
        let mut s = scene(ncols, ny, 50.0, 5);
        s.params.hb = hb;
        let (a, ca) = run(gpu.as_mut(), &s);
        let (b, cb) = run(&mut CpuEngine::new(1 << 30), &s);
        let bad = s.truth.len() / 1000;
        agree(&a, &b, bad).expect("GPU against CPU");
        let used = |c: &[u32]| c.chunks_exact(COLUMN).map(|c| c[1] + c[2] + c[3]).sum::<u32>();
        assert!(used(&ca).abs_diff(used(&cb)) as usize <= bad * 20, "{ncols} {ny}");
        if s.truth.len() < 20 {
            continue;
        }
        // A twin with a slightly different noise model must be told apart.
        let mut other = scene(ncols, ny, 50.0, 5);
        other.params.hb = hb;
        other.params.factor *= 1.05;
        let (c, _) = run(&mut CpuEngine::new(1 << 30), &other);
        assert!(agree(&a, &c, bad).is_err(), "the comparison cannot fail");
    }
}

#[test]
fn pulls_are_normal_and_faint_fluxes_unbiased() {
    // 30 e- a spectrum in a column with 9 e- read noise would be level 0.6 here
    // (factor 0.02 is 50 s); bright is S/N 40.
    for (level, pull) in [(0.6, 0.02), (40.0, 0.02)] {
        let s = scene(600, 121, level, 21);
        let (samples, columns) = run(&mut CpuEngine::new(1 << 30), &s);
        let (mut n, mut squares, mut sum, mut bias, mut total, mut far) = (0.0, 0.0, 0.0, 0.0, 0.0, 0u32);
        for (sample, truth) in samples.chunks_exact(SAMPLE).zip(&s.truth) {
            if sample[5] & DO_NOT_USE != 0 {
                continue;
            }
            let value = |w: usize| f64::from(f32::from_bits(sample[w]));
            let z = (value(0) - truth) / value(1).sqrt();
            // One pixel in a hundred holds 3000 σ; a pair in one profile can win.
            if z.abs() > 6.0 {
                far += 1;
                continue;
            }
            n += 1.0;
            squares += z * z;
            sum += z;
            bias += value(0) - truth;
            total += truth;
        }
        assert!(n > 0.85 * s.truth.len() as f64, "{n} of {}", s.truth.len());
        assert!(((squares / n).sqrt() - 1.0).abs() < pull, "pull {} at {level}", (squares / n).sqrt());
        assert!((sum / n).abs() < 0.03, "mean pull {} at {level}", sum / n);
        assert!(
            (bias / total).abs() < if level > 1.0 { 1e-3 } else { 0.02 },
            "bias {} at {level}",
            bias / total
        );
        assert!(far < 5, "{far} beyond 6 σ at {level}");
        let chi2: f64 = columns.chunks_exact(COLUMN).map(|c| f64::from(f32::from_bits(c[0]))).sum();
        let freedom: f64 = columns.chunks_exact(COLUMN).map(|c| f64::from(c[1]) - f64::from(c[3])).sum();
        assert!((chi2 / freedom - 1.0).abs() < 0.03, "reduced χ² {}", chi2 / freedom);
        println!(
            "level {level}: pull {:.4} mean {:.4} bias {:.5} far {far} chi2 {:.4}",
            (squares / n).sqrt(),
            sum / n,
            bias / total,
            chi2 / freedom
        );
    }
}

#[test]
fn what_cannot_be_known_is_nan() {
    let mut s = scene(4, 30, 50.0, 9);
    // All pixels of column 1 bad.
    for y in 0..30 {
        s.pixels[(y * 4 + 1) * PIXEL + 3] = DO_NOT_USE;
    }
    let (samples, _) = run(&mut CpuEngine::new(1 << 30), &s);
    for j in s.starts[1] as usize..s.starts[2] as usize {
        assert!(f32::from_bits(samples[j * SAMPLE]).is_nan() && samples[j * SAMPLE + 5] & 1 == 1);
    }
    // The crossing pair of column 3.
    let from = s.starts[3] as usize;
    assert!((from + 6..=from + 7).all(|j| f32::from_bits(samples[j * SAMPLE]).is_nan()));
    assert!(f32::from_bits(samples[(from + 12) * SAMPLE]).is_finite());
}

#[test]
#[ignore = "timing at the IRIS format; cargo test --release -- --ignored iris_size --nocapture"]
fn iris_size() {
    let s = scene(256, 4096, 50.0, 1);
    let start = std::time::Instant::now();
    let (samples, _) = run(&mut CpuEngine::new(1 << 30), &s);
    println!("{} samples in {:?}", samples.len() / SAMPLE, start.elapsed());
}
