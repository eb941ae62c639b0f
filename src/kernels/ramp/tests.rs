use proptest::prelude::*;

use super::*;
use crate::engine::{CpuEngine, Dispatch, Engine, testing};
use crate::kernels::{Args, Bound};

/// A small deterministic generator (splitmix64) for test data.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// A chunk of ramps as the kernel takes it, in f32 words.
#[derive(Clone)]
struct Case {
    params: Params,
    buffers: Vec<Vec<u32>>,
}

fn words(values: &[f32]) -> Vec<u32> {
    bytemuck::cast_slice(values).to_vec()
}

/// `pixels` ramps of `rate` e-/s (drawn Gaussian, as photon noise of many electrons
/// is), gain 2, read noise 10 e-, pedestal 5000 DN, a jump in every 50th pixel.
fn case(pixels: usize, ramps: usize, reads: usize, rate: f64, jump: f64, seed: u64) -> Case {
    let (gain, noise, dt) = (2.0, 10.0, 1.5);
    let k = ramps * reads;
    let mut random = Random(seed);
    let mut ramp = vec![0f32; k * pixels];
    for pixel in 0..pixels {
        for r in 0..ramps {
            let mut electrons = 0.0;
            for read in 0..reads {
                electrons += rate * dt + (rate * dt).sqrt() * random.normal();
                if pixel % 50 == 7 && read == reads / 2 {
                    electrons += jump;
                }
                let dn = 5000.0 + (electrons + noise * random.normal()) / gain;
                ramp[(r * reads + read) * pixels + pixel] = dn as f32;
            }
        }
    }
    let times: Vec<f64> = (0..k).map(|i| (i % reads + 1) as f64 * dt).collect();
    let tables = Tables::new(&times, &vec![1; k], 0.0, reads);
    let plane = |v: f32| vec![v; pixels];
    let mut cal = vec![0u32; pixels];
    for v in [1e30, 0.0, gain as f32, (noise * noise) as f32, 0.0, 1.0] {
        cal.extend(words(&plane(v)));
    }
    let params = Params {
        items: pixels as u32,
        nx: pixels as u32,
        rows: 1,
        ramps: ramps as u32,
        reads: reads as u32,
        stride_ramp: (reads * pixels) as u32,
        stride_read: pixels as u32,
        stride_y: pixels as u32,
        stride_x: 1,
        encoding: Encoding::Native as u32,
        stages: stage::SATURATION | stage::BIAS | stage::LINEARITY | stage::JUMP | stage::FIT,
        ncoef: 2,
        num_coadd: 3,
        max_jumps: 10,
        threshold_one: 30.25,
        threshold_two: 34.0,
        ..Params::default()
    };
    let buffers =
        vec![words(&ramp), vec![0], cal, tables.to_words(), vec![0], vec![0; OUT_PLANES * pixels], vec![0]];
    Case { params, buffers }
}

fn dispatch(case: &Case, engine: &mut dyn Engine) -> (Vec<u32>, Vec<u32>) {
    let buffers: Vec<_> = case.buffers.iter().map(|w| engine.buffer_of(w).expect("buffer")).collect();
    let dispatch = Dispatch {
        kernel: &RAMP,
        buffers: buffers.clone(),
        items: case.params.items as usize,
        params: bytemuck::cast_slice(&[case.params]).to_vec(),
        constants: case.params.constants(),
    };
    engine.submit(&vec![dispatch]).expect("submit");
    (engine.download(buffers[5]).expect("out"), engine.download(buffers[6]).expect("flags"))
}

fn on_cpu(case: &Case) -> Vec<u32> {
    dispatch(case, &mut CpuEngine::new(1 << 30)).0
}

fn in_f64(case: &Case) -> Vec<[f64; 5]> {
    let params: Vec<u32> = bytemuck::cast_slice(&[case.params]).to_vec();
    let buffers = case.buffers.iter().map(|w| Bound::Read(w)).collect();
    reference(&Args { items: case.params.items as usize, params: &params, buffers })
}

/// The case with pedestals asked for.
fn with_pedestals(mut c: Case, prior: f32, prior_variance: f32) -> Case {
    (c.params.pedestal, c.params.prior, c.params.prior_variance) = (1, prior, prior_variance);
    c.buffers[5] = vec![0; c.params.out_planes() * c.params.items as usize];
    c
}

fn plane(out: &[u32], pixels: usize, which: Out) -> Vec<f32> {
    bytemuck::cast_slice(&out[which as usize * pixels..][..pixels]).to_vec()
}

#[test]
fn rates_errors_and_chi2_are_right() {
    for (ramps, reads, rate) in [(1, 5, 0.5), (1, 20, 5.0), (2, 10, 500.0)] {
        let n = 40_000;
        let out = on_cpu(&case(n, ramps, reads, rate, 0.0, 11));
        let (value, err, chi2) =
            (plane(&out, n, Out::Rate), plane(&out, n, Out::Err), plane(&out, n, Out::Chi2));
        let pulls: Vec<f64> = value.iter().map(|v| f64::from(*v) - rate).collect();
        let mean_var = err.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>() / n as f64;
        let rms = (pulls.iter().map(|p| p * p).sum::<f64>() / n as f64 / mean_var).sqrt();
        let mean = pulls.iter().sum::<f64>() / n as f64 / mean_var.sqrt();
        let chi2 = chi2.iter().map(|c| f64::from(*c)).sum::<f64>() / n as f64;
        assert!((rms - 1.0).abs() < 0.02, "{reads} reads at {rate}: rms {rms}");
        assert!(mean.abs() < 0.02, "{reads} reads at {rate}: mean {mean}");
        assert!((chi2 - 1.0).abs() < 0.03, "{reads} reads at {rate}: chi2 {chi2}");
    }
}

#[test]
fn jumps_are_found_where_they_are_and_only_there() {
    let n = 20_000;
    // Of the two differences of three reads either could be the hit, but for its sign.
    for (reads, tolerance) in [(20, 0.15), (4, 1.5), (3, 2.0)] {
        let out = on_cpu(&case(n, 1, reads, 5.0, 400.0, 3));
        let dq = &out[Out::Dq as usize * n..][..n];
        let hit = |i: usize| i % 50 == 7;
        assert!((0..n).filter(|&i| hit(i)).all(|i| dq[i] & flag::JUMP_DET != 0), "{reads} reads");
        assert!((0..n).filter(|&i| !hit(i) && dq[i] & flag::JUMP_DET != 0).count() <= 1);
        let value = plane(&out, n, Out::Rate);
        let mean = (0..n).filter(|&i| hit(i)).map(|i| f64::from(value[i])).sum::<f64>() / (n / 50) as f64;
        assert!((mean - 5.0).abs() < tolerance, "{reads} reads: mean of hit pixels {mean}");
    }
}

#[test]
fn f32_follows_f64() {
    for algorithm in [algorithm::LIKELIHOOD, algorithm::OLS, algorithm::MCDS] {
        let n = 3001;
        let mut c = case(n, 1, 30, 50.0, 900.0, 5);
        c.params.algorithm = algorithm;
        let out = on_cpu(&c);
        let exact = in_f64(&c);
        let (value, chi2) = (plane(&out, n, Out::Rate), plane(&out, n, Out::Chi2));
        for i in 0..n {
            let sigma = exact[i][1];
            assert!((f64::from(value[i]) - exact[i][0]).abs() < 1e-3 * sigma, "pixel {i}");
            assert!(
                (f64::from(chi2[i]) - exact[i][4]).abs() < 1e-3,
                "pixel {i}: χ² {} {}",
                chi2[i],
                exact[i][4]
            );
        }
    }
}

#[test]
fn a_pedestal_moves_nothing() {
    let n = 2000;
    let mut c = case(n, 1, 20, 2.0, 0.0, 9);
    c.params.stages = stage::JUMP | stage::FIT;
    let low = on_cpu(&c);
    let raised: Vec<f32> =
        bytemuck::cast_slice::<u32, f32>(&c.buffers[0]).iter().map(|v| v.round() + 40_000.0).collect();
    let level: Vec<f32> = bytemuck::cast_slice::<u32, f32>(&c.buffers[0]).iter().map(|v| v.round()).collect();
    c.buffers[0] = words(&level);
    let before = on_cpu(&c);
    c.buffers[0] = words(&raised);
    let after = on_cpu(&c);
    assert_ne!(low, before);
    assert_eq!(before, after);
}

#[test]
fn pedestals_scatter_as_their_covariance_says() {
    let (n, ramps, rate) = (40_000usize, 2, 5.0f64);
    for (prior, spread) in [(0.0, 0.0), (5000.0f32, 4.0f32)] {
        let out = on_cpu(&with_pedestals(case(n, ramps, 12, rate, 0.0, 31), prior, spread));
        let plane = |p: usize| bytemuck::cast_slice::<u32, f32>(&out[p * n..][..n]).to_vec();
        let mean = |v: &dyn Fn(usize) -> f64| (0..n).map(v).sum::<f64>() / n as f64;
        let value = plane(Out::Rate as usize);
        let off_rate = |i: usize| f64::from(value[i]) - rate;
        // Of the rate too: the prior is the truth here, so it may only help.
        let err = plane(Out::Err as usize);
        let scatter = mean(&|i| off_rate(i).powi(2)).sqrt();
        let quoted = mean(&|i| f64::from(err[i]).powi(2)).sqrt();
        assert!(spread > 0.0 || (scatter / quoted - 1.0).abs() < 0.02, "rate {scatter} against {quoted}");
        assert!(scatter / quoted < 1.02, "rate {scatter} against {quoted}");
        for r in 0..ramps {
            let [p, v, c] = [0, 1, 2].map(|j| plane(OUT_PLANES + 3 * r + j));
            let off = |i: usize| f64::from(p[i]) - 10_000.0;
            let (variance, covariance) = (mean(&|i| f64::from(v[i])), mean(&|i| f64::from(c[i])));
            assert!(mean(&off).abs() < 0.02 * variance.sqrt(), "pedestal {}", mean(&off));
            if spread == 0.0 {
                assert!((mean(&|i| off(i).powi(2)) / variance - 1.0).abs() < 0.03);
                assert!((mean(&|i| off(i) * off_rate(i)) / covariance - 1.0).abs() < 0.04);
            } else {
                assert!(mean(&|i| off(i).powi(2)) < variance);
            }
        }
    }
}

#[test]
fn pedestals_agree_on_gpu_in_f32_and_in_f64() {
    let n = 501;
    for (prior, spread) in [(0.0, 0.0), (5010.0, 90.0)] {
        let mut c = with_pedestals(case(n, 2, 9, 30.0, 900.0, 8), prior, spread);
        // Some ramps saturate early, some at once: a pedestal from one read, and none.
        c.buffers[2][n..2 * n].iter_mut().enumerate().for_each(|(i, w)| {
            *w = [1e30f32, 5040.0, 4990.0][i % 3].to_bits();
        });
        let cpu = on_cpu(&c);
        let mut engines = vec![cpu.clone()];
        engines.extend(testing::gpu().map(|mut gpu| dispatch(&c, gpu.as_mut()).0));
        let params: Vec<u32> = bytemuck::cast_slice(&[c.params]).to_vec();
        let buffers = c.buffers.iter().map(|w| Bound::Read(w)).collect();
        let exact = cpu::with_pedestals(&Args { items: n, params: &params, buffers });
        let (mut some, mut none) = (0, 0);
        for out in &engines {
            let at = |p: usize, i: usize| f64::from(f32::from_bits(out[p * n + i]));
            for (i, (_, pedestals)) in exact.iter().enumerate() {
                for (r, [value, variance, covariance]) in pedestals.iter().enumerate() {
                    let got = [0, 1, 2].map(|j| at(OUT_PLANES + 3 * r + j, i));
                    if value.is_nan() {
                        none += 1;
                        assert!(got.iter().all(|v| v.is_nan()), "pixel {i} ramp {r}: {got:?}");
                        continue;
                    }
                    some += 1;
                    assert!((got[0] - value).abs() < 2e-3 * variance.sqrt(), "pixel {i}: {got:?} {value}");
                    assert!((got[1] / variance - 1.0).abs() < 1e-3, "pixel {i}: {got:?} {variance}");
                    assert!((got[2] / covariance - 1.0).abs() < 1e-3, "pixel {i}: {got:?} {covariance}");
                }
            }
        }
        assert!(some > n && none > n / 10, "{some} pedestals, {none} without");
    }
}

/// A polynomial that stretches by half: y = x + x²/4e4 at 1e4 DN.
fn stretched(seed: u64) -> Case {
    let n = 20_000;
    // As good as without photons, whose noise this case would stretch too.
    let mut c = case(n, 1, 12, 0.01, 0.0, seed);
    c.params.ncoef = 3;
    c.buffers[2].extend(vec![(1f32 / 4e4).to_bits(); n]);
    // The pedestal that the case has is what is left of the scale.
    let raise = |w: &mut u32| *w = (f32::from_bits(*w) + 5000.0).to_bits();
    c.buffers[0].iter_mut().for_each(raise);
    c
}

#[test]
fn variance_that_an_exposure_adds_is_as_if_the_plane_had_it() {
    let n = 3000;
    let mut in_plane = case(n, 1, 9, 3.0, 0.0, 5);
    let mut added = in_plane.clone();
    added.params.added_variance = 2.5;
    for i in 0..n {
        let at = |plane: Plane| plane as usize * n + i;
        let gain = f32::from_bits(in_plane.buffers[2][at(Plane::Gain)]);
        let word = &mut in_plane.buffers[2][at(Plane::ReadVariance)];
        *word = (f32::from_bits(*word) + gain * gain * 2.5).to_bits();
    }
    assert_ne!(on_cpu(&added), on_cpu(&case(n, 1, 9, 3.0, 0.0, 5)));
    assert_eq!(on_cpu(&added), on_cpu(&in_plane));
    if let Some(mut gpu) = testing::gpu() {
        agree(&dispatch(&added, gpu.as_mut()).0, &on_cpu(&added), n, 2).expect("engines agree");
    }
}

#[test]
fn read_noise_is_stretched_with_the_counts() {
    let c = stretched(4);
    let n = c.params.items as usize;
    let out = on_cpu(&c);
    let (value, err) = (plane(&out, n, Out::Rate), plane(&out, n, Out::Err));
    let (read, chi2) = (plane(&out, n, Out::VarRnoise), plane(&out, n, Out::Chi2));
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    let centre = mean(&value);
    let scatter = (value.iter().map(|v| (f64::from(*v) - centre).powi(2)).sum::<f64>() / n as f64).sqrt();
    assert!((scatter / mean(&err) - 1.0).abs() < 0.02, "{scatter} against {}", mean(&err));
    let mut plain = stretched(4);
    plain.params.stages &= !stage::LINEARITY;
    let unstretched = on_cpu(&plain);
    let ratio = mean(&read) / mean(&plane(&unstretched, n, Out::VarRnoise));
    // 1.5² where reads alone make the noise; photon noise shifts the weights a little.
    assert!((ratio / 2.25 - 1.0).abs() < 0.1, "variance of reads {ratio} times");
    assert!((mean(&chi2) - 1.0).abs() < 0.02, "χ² {}", mean(&chi2));
    // Stored after linearity, the ramp is fitted with the same noise.
    let mut stored = stretched(4);
    stored.params.stages = stage::LINEARITY | stage::STORE;
    stored.buffers[5] = vec![0; 12 * n];
    stored.buffers[6] = vec![0; 12 * n];
    let (ramp, _) = dispatch(&stored, &mut CpuEngine::new(1 << 30));
    let mut fit = stretched(4);
    fit.buffers[0] = ramp;
    fit.params.stages = stage::LINEARISED | stage::JUMP | stage::FIT;
    agree(&on_cpu(&fit), &out, n, 2).expect("lowerings agree");
    let again = plane(&on_cpu(&fit), n, Out::VarRnoise);
    assert!(again.iter().zip(&read).all(|(a, b)| (a / b - 1.0).abs() < 1e-4));
    if let Some(mut gpu) = testing::gpu() {
        for case in [&c, &fit] {
            let on_gpu = dispatch(case, gpu.as_mut()).0;
            agree(&on_gpu, &out, n, 2).expect("engines agree");
            let other = plane(&on_gpu, n, Out::VarRnoise);
            assert!(other.iter().zip(&read).all(|(a, b)| (a / b - 1.0).abs() < 1e-4));
        }
    }
}

#[test]
fn a_dark_current_taken_out_before_is_still_noise() {
    let (n, dark) = (20_000, 30.0f32);
    let mut c = case(n, 1, 12, f64::from(dark), 0.0, 6);
    let mut ramp: Vec<f32> = bytemuck::cast_slice(&c.buffers[0]).to_vec();
    for (k, read) in ramp.chunks_mut(n).enumerate() {
        read.iter_mut().for_each(|v| *v -= dark * 1.5 * (k + 1) as f32 / 2.0);
    }
    c.buffers[0] = words(&ramp);
    c.buffers[2].extend(vec![dark.to_bits(); n]);
    let quoted = |out: &[u32]| {
        let (value, err) = (plane(out, n, Out::Rate), plane(out, n, Out::Err));
        let square = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        (square(&value) / square(&err)).sqrt()
    };
    let without = quoted(&on_cpu(&c));
    c.params.stages |= stage::DARK;
    let with = on_cpu(&c);
    assert!((quoted(&with) - 1.0).abs() < 0.02, "scatter {} of the error", quoted(&with));
    assert!(without > 1.3, "scatter {without} of the error without the dark");
    if let Some(mut gpu) = testing::gpu() {
        agree(&dispatch(&c, gpu.as_mut()).0, &with, n, 2).expect("engines agree");
    }
}

/// Three pixels whose last lies as far from the first as a whole block's last would.
#[test]
fn listed_pixels_are_those_of_the_list() {
    let n = 100;
    let mut c = case(n, 1, 12, 40.0, 700.0, 5);
    let whole = on_cpu(&c);
    let list = [10u32, 12, 10 + LANES as u32 - 1];
    c.params.items = list.len() as u32;
    c.params.listed = 1;
    c.buffers[4] = list.to_vec();
    c.buffers[5] = vec![0; OUT_PLANES * list.len()];
    let some = on_cpu(&c);
    for (i, pixel) in list.iter().enumerate() {
        for plane in 0..OUT_PLANES {
            assert_eq!(some[plane * list.len() + i], whole[plane * n + *pixel as usize], "{pixel} {plane}");
        }
    }
}

#[test]
fn saturation_growth_reaches_neighbours_only_where_listed() {
    let (nx, rows, reads) = (20usize, 9usize, 8usize);
    let pixels = nx * rows;
    let mut c = case(pixels, 1, reads, 20.0, 0.0, 2);
    (c.params.nx, c.params.rows) = (nx as u32, rows as u32);
    c.params.stride_y = nx as u32;
    let mut ramp: Vec<f32> = bytemuck::cast_slice(&c.buffers[0]).to_vec();
    let hot = 4 * nx + 7;
    for k in 5..reads {
        ramp[k * pixels + hot] = 65_000.0;
    }
    c.buffers[0] = words(&ramp);
    c.buffers[2][pixels..2 * pixels].fill(60_000f32.to_bits());
    let plain = on_cpu(&c);
    let saturated = |out: &[u32]| (0..pixels).filter(|i| out[5 * pixels + i] & flag::SATURATED != 0).count();
    assert_eq!(saturated(&plain), 1);
    c.params.grow = 1;
    let grown = on_cpu(&c);
    assert_eq!(saturated(&grown), 9);
    c.params.listed = 1;
    c.params.items = 2;
    c.buffers[4] = vec![(hot + nx + 1) as u32, 0];
    c.buffers[5] = vec![0; OUT_PLANES * 2];
    let listed = on_cpu(&c);
    for p in 0..OUT_PLANES {
        assert_eq!(listed[2 * p], grown[p * pixels + hot + nx + 1]);
        assert_eq!(listed[2 * p + 1], grown[p * pixels]);
    }
}

/// Differences in σ, DQ mismatches counted: pixels at a threshold may fall either way.
fn agree(a: &[u32], b: &[u32], n: usize, allowed: usize) -> Result<(), String> {
    let dq = Out::Dq as usize * n;
    let mut odd = 0;
    let err = plane(b, n, Out::Err);
    let (va, vb) = (plane(a, n, Out::Rate), plane(b, n, Out::Rate));
    for i in 0..n {
        if a[dq + i] != b[dq + i] || va[i].is_nan() != vb[i].is_nan() {
            odd += 1;
        } else if !va[i].is_nan() && (va[i] - vb[i]).abs() > 1e-3 * err[i] + 1e-5 * vb[i].abs() {
            return Err(format!("pixel {i}: {} against {} ± {}", va[i], vb[i], err[i]));
        }
    }
    if odd > allowed { Err(format!("{odd} data-quality words differ")) } else { Ok(()) }
}

#[test]
fn gpu_agrees_with_cpu() {
    let Some(mut gpu) = testing::gpu() else { return };
    for (algorithm, ramps, reads) in [
        (algorithm::LIKELIHOOD, 1, 10),
        (algorithm::LIKELIHOOD, 3, 7),
        (algorithm::LIKELIHOOD, 1, 3),
        (algorithm::OLS, 1, 12),
        (algorithm::MCDS, 2, 9),
    ] {
        let n = 7777;
        let mut c = case(n, ramps, reads, 40.0, 700.0, 21);
        c.params.algorithm = algorithm;
        let (cpu, on_gpu) = (on_cpu(&c), dispatch(&c, gpu.as_mut()).0);
        agree(&on_gpu, &cpu, n, 2).unwrap_or_else(|e| panic!("{algorithm} {ramps}×{reads}: {e}"));
        let mut perturbed = cpu.clone();
        perturbed[17] = (f32::from_bits(perturbed[17]) * 1.001 + 0.01).to_bits();
        assert!(agree(&on_gpu, &perturbed, n, 2).is_err(), "the comparison cannot fail");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn gpu_agrees_at_odd_shapes(n in 1usize..300, ramps in 1usize..4, reads in 1usize..40, grow in 0u32..3, seed in 0u64..1000) {
        let Some(mut gpu) = testing::gpu() else { return Ok(()) };
        let mut c = case(n, ramps, reads, 300.0, 700.0, seed);
        c.params.grow = grow;
        c.buffers[2][n..2 * n].fill(5600f32.to_bits());
        let (cpu, on_gpu) = (on_cpu(&c), dispatch(&c, gpu.as_mut()).0);
        prop_assert!(agree(&on_gpu, &cpu, n, 1).is_ok(), "{:?}", agree(&on_gpu, &cpu, n, 1));
    }

    #[test]
    fn every_encoding_reads_the_same(encoding in 0u32..4, nx in 1usize..40, seed in 0u64..1000) {
        // The same whole numbers, written as each type of pixel.
        let mut c = case(nx, 1, 6, 100.0, 0.0, seed);
        let whole: Vec<f32> = bytemuck::cast_slice::<u32, f32>(&c.buffers[0]).iter().map(|v| v.round()).collect();
        c.buffers[0] = words(&whole);
        let native = on_cpu(&c);
        let mut bytes: Vec<u8> = whole.iter().flat_map(|v| match encoding {
            0 => ((*v as u16) ^ 0x8000).to_be_bytes().to_vec(),
            1 => (*v as i16).to_be_bytes().to_vec(),
            2 => (*v as i32).to_be_bytes().to_vec(),
            _ => v.to_be_bytes().to_vec(),
        }).collect();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        c.params.encoding = encoding;
        c.buffers[0] = bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
        prop_assert_eq!(&on_cpu(&c), &native);
        if let Some(mut gpu) = testing::gpu() {
            let out = dispatch(&c, gpu.as_mut()).0;
            prop_assert!(agree(&out, &native, nx, 1).is_ok());
        }
    }
}

/// A case of `rows` rows whose reads are all 5000 DN, with offsets that say where
/// they belong: columns 1000 read + across, lines 0.25 (block 100 + line).
fn offset_case(nx: usize, rows: usize, along_y: bool, width: usize) -> Case {
    let (pixels, reads, row0) = (nx * rows, 3, 2);
    let mut c = case(pixels, 1, reads, 0.0, 0.0, 1);
    let (across, lines) = if along_y { (rows + row0, nx) } else { (nx, rows + row0) };
    c.params = Params {
        nx: nx as u32,
        rows: rows as u32,
        row0: row0 as u32,
        stride_y: nx as u32,
        stages: stage::REFPIX | stage::STORE,
        across: across as u32,
        lines: lines as u32,
        along_y: u32::from(along_y),
        block_width: width as u32,
        ..c.params
    };
    c.buffers[0] = words(&vec![5000.0; reads * pixels]);
    let columns = (0..reads).flat_map(|k| (0..across).map(move |a| (1000 * k + a) as f32));
    let blocks = across.div_ceil(width);
    let of_read = (0..blocks).flat_map(|b| (0..lines).map(move |l| 0.25 * (100 * b + l) as f32));
    let tables: Vec<f32> = columns.chain((0..reads).flat_map(|_| of_read.clone())).collect();
    c.buffers[3].extend(words(&tables));
    c.buffers[5] = vec![0; reads * pixels];
    c.buffers[6] = vec![0; reads * pixels];
    c
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn offsets_are_those_of_the_pixel_s_place(nx in 1usize..90, rows in 1usize..12, along_y: bool, width in 1usize..100) {
        let c = offset_case(nx, rows, along_y, width);
        let (cpu, _) = dispatch(&c, &mut CpuEngine::new(1 << 30));
        let mut expected = Vec::new();
        for (k, y, x) in (0..3).flat_map(|k| (0..rows).flat_map(move |y| (0..nx).map(move |x| (k, y + 2, x)))) {
            let (across, line) = if along_y { (y, x) } else { (x, y) };
            expected.push(5000.0 - ((1000 * k + across) as f32 + 0.25 * (100 * (across / width) + line) as f32));
        }
        prop_assert_eq!(&cpu, &words(&expected));
        if let Some(mut gpu) = testing::gpu() {
            prop_assert_eq!(&dispatch(&c, gpu.as_mut()).0, &cpu);
            let other = offset_case(nx, rows, along_y, width + 100);
            let twin = dispatch(&other, gpu.as_mut()).0;
            let blocks = c.params.across as usize > width;
            prop_assert!(!blocks || twin != cpu, "the comparison cannot fail");
        }
    }
}

#[test]
fn storing_step_by_step_gives_the_fused_answer() {
    let n = 1003;
    let c = case(n, 2, 8, 60.0, 900.0, 77);
    let fused = on_cpu(&c);
    let mut step = Case { params: c.params, buffers: c.buffers.clone() };
    for stages in [stage::SATURATION, stage::BIAS, stage::LINEARITY, stage::JUMP] {
        step.params.stages =
            stages | stage::STORE | if stages == stage::SATURATION { 0 } else { stage::FLAGS_IN };
        step.buffers[5] = vec![0; 16 * n];
        step.buffers[6] = vec![0; 16 * n];
        let (ramp, flags) = dispatch(&step, &mut CpuEngine::new(1 << 30));
        (step.buffers[0], step.buffers[1]) = (ramp, flags);
    }
    step.params.stages = stage::FIT | stage::FLAGS_IN;
    step.buffers[5] = vec![0; OUT_PLANES * n];
    step.buffers[6] = vec![0];
    let (out, _) = dispatch(&step, &mut CpuEngine::new(1 << 30));
    agree(&out, &fused, n, 0).expect("lowerings agree");
}
