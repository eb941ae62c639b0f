use super::super::array_length;
use super::*;
use crate::engine::{CpuEngine, testing};
use crate::kernels::ramp::OUT_PLANES;
use crate::kernels::stored_tests::{Case, cases, compare, dispatch, rates, with_args};

const CASES: &str = include_str!("../../testdata/oracle/likely.json");
const FITRAMP: &str = include_str!("../../testdata/oracle/fitramp.json");

fn params(ramps: usize, reads: usize, pixels: usize) -> Params {
    Params {
        items: pixels as u32,
        pixels: pixels as u32,
        skip: 0,
        ramps: ramps as u32,
        reads: reads as u32,
        counts: 1,
        dark: 1,
        threshold_one: 20.25,
        threshold_two: 23.8,
        zero: 0,
        frames: 1.0,
    }
}

fn of(case: &Case) -> Params {
    let (ramps, reads, pixels) = case.size();
    let zero = usize::from(case.has_zeroframe());
    let frames = f32::from(case.times().1[0]);
    Params { zero: zero as u32, frames, ..params(ramps, reads + zero, pixels) }
}

/// The case's buffers; with first frames, the tables have them as reads.
fn buffers(case: &Case) -> Vec<Vec<u32>> {
    let mut buffers = case.fit();
    if case.has_zeroframe() {
        let (ramps, reads, _) = case.size();
        let (times, frames, frame) = case.times();
        let first = case.number("frame_time");
        let n = f64::from(frames[0]);
        let one = |k: usize| {
            let (t, f) = (&times[k * reads..][..reads], &frames[k * reads..][..reads]);
            let head = [first, (n * t[0] - first) / (n - 1.0)];
            ([&head, &t[1..]].concat(), [&[1, frames[0] - 1], &f[1..]].concat())
        };
        let (times, frames): (Vec<Vec<f64>>, Vec<Vec<u16>>) = (0..ramps).map(one).unzip();
        buffers[3] = Tables::new(&times.concat(), &frames.concat(), frame, reads + 1).to_words();
    }
    buffers
}

fn in_precision<T: Real>(case: &Case) -> Vec<Rate> {
    with_args(bytemuck::cast_slice(&[of(case)]), &buffers(case), reference::<T>)
}

fn on(case: &Case, engine: &mut dyn crate::engine::Engine) -> Vec<Rate> {
    let (ramps, reads, pixels) = case.size();
    let constants = [("NREADS", array_length((reads + 1).max(ramps))), ("NRAMPS", array_length(ramps))];
    let out =
        dispatch(&LIKELY, bytemuck::cast_slice(&[of(case)]), &buffers(case), pixels, &constants, engine);
    rates(&out[0], pixels)
}

#[test]
fn stcals_likely_is_met_in_double_and_single_precision() {
    for case in cases(CASES) {
        compare(&case, &in_precision::<f64>(&case), 1e-6, 1e-5, 1e-6).expect("double");
        compare(&case, &in_precision::<f32>(&case), 0.0, 3e-5, 1e-4).expect("single");
        compare(&case, &on(&case, &mut CpuEngine::new(1 << 30)), 1e-6, 1e-5, 1e-6).expect("engine");
    }
}

#[test]
fn gpu_agrees_with_stcal() {
    let Some(mut gpu) = testing::gpu() else { return };
    for case in cases(CASES) {
        compare(&case, &on(&case, gpu.as_mut()), 0.0, 3e-5, 1e-4).expect("gpu");
        let mut wrong = on(&case, gpu.as_mut());
        wrong[0].values[1] *= 1.001;
        let has_rate = !wrong[0].values[0].is_nan();
        assert!(!has_rate || compare(&case, &wrong, 0.0, 3e-5, 1e-4).is_err(), "the comparison cannot fail");
    }
}

/// A fitramp case: buffers of ramps in electrons, pixels across.
fn fitramp(case: &Case) -> (Params, Vec<Vec<u32>>) {
    let shape = case.shape("in_resultants");
    let (reads, pixels) = (shape[0], shape[1]);
    let pattern = case.meta["read_times"].as_array().expect("times");
    let times: Vec<f64> = pattern.iter().map(|r| r[0].as_f64().expect("one time")).collect();
    assert!(pattern.iter().all(|r| r.as_array().expect("times").len() == 1));
    let bits = |v: &[f64]| v.iter().map(|v| (*v as f32).to_bits()).collect::<Vec<u32>>();
    let mut cal = vec![0; pixels];
    let variance: Vec<f64> = case.array("in_sig").iter().map(|s| s * s).collect();
    for plane in [vec![1e30; pixels], vec![0.0; pixels], vec![1.0; pixels], variance] {
        cal.extend(bits(&plane));
    }
    let tables = Tables::new(&times, &vec![1; reads], 0.0, reads).to_words();
    let ramp = bits(&case.array("in_resultants"));
    let buffers = vec![
        ramp,
        vec![0; reads * pixels],
        cal,
        tables,
        vec![0; pixels],
        vec![0],
        vec![0; OUT_PLANES * pixels],
    ];
    (Params { counts: 0, ..params(1, reads, pixels) }, buffers)
}

#[test]
fn fitramps_jumps_and_rates_are_met() {
    for case in cases(FITRAMP) {
        let (params, buffers) = fitramp(&case);
        let words: Vec<u32> = bytemuck::cast_slice(&[params]).to_vec();
        let (double, single) = with_args(&words, &buffers, |a| (reference::<f64>(a), reference::<f32>(a)));
        let names = ["out_final_countrate", "out_final_uncert", "out_final_chisq"];
        let [rate, err, chi2] = names.map(|n| case.array(n));
        let mask = case.array("out_mask_use");
        let n = rate.len();
        for i in 0..n {
            let dof = (0..mask.len() / n).map(|k| mask[k * n + i]).sum::<f64>() - 1.0;
            for (got, slope, other, chi) in [(&double[i], 2e-6, 1e-6, 1e-4), (&single[i], 2e-5, 1e-5, 2e-3)] {
                assert!(
                    (got.values[0] - rate[i]).abs() < slope * rate[i].abs().max(err[i]),
                    "{} {i}",
                    case.id
                );
                assert!((got.values[1] / err[i] - 1.0).abs() < other, "{} {i}", case.id);
                assert!((got.values[4] * dof - chi2[i]).abs() < chi, "{} {i}", case.id);
            }
        }
    }
}

/// The formulas alone, on doubles as fitramp has them.
#[test]
fn fitramps_omissions_are_met_to_nine_digits() {
    for case in cases(FITRAMP) {
        let shape = case.shape("in_resultants");
        let (reads, pixels) = (shape[0], shape[1]);
        let pattern = case.meta["read_times"].as_array().expect("times");
        let times: Vec<f64> = pattern.iter().map(|r| r[0].as_f64().expect("one time")).collect();
        let tables = Tables::new(&times, &vec![1; reads], 0.0, reads);
        let (y, s) = (case.array("in_resultants"), case.array("in_sig"));
        let omitted = case.array("out_chisq_oneomit");
        for i in 0..pixels {
            let mut block = Block::<f64, 1>::new(reads - 1);
            let mut all = Vec::new();
            for k in 0..reads - 1 {
                let d = (y[(k + 1) * pixels + i] - y[k * pixels + i]) * tables.inv_dt[k];
                (block.d[k], block.used[k]) = ([d], [1.0]);
                all.push(d);
            }
            let g = median(&mut all).max(0.0);
            let a0 = block.trimmed_mean();
            block.read_variance(&tables, &[s[i] * s[i]]);
            let sums = block.forward(&tables, &[g], &a0);
            let chi2 = sums.s2[0] - sums.s1[0] * sums.s1[0] / sums.s0[0];
            let best = block.omissions(&tables, &sums).0;
            let expected = omitted[best.at[0] as usize * pixels + i];
            let least = (0..reads - 1).map(|k| omitted[k * pixels + i]).fold(f64::INFINITY, f64::min);
            assert!((expected - least).abs() < 1e-9 * least.max(1.0), "{} {i}: another is better", case.id);
            let got = chi2 - best.gain[0];
            assert!((got - expected).abs() < 1e-9 * chi2.max(1.0), "{} {i}: {got} {expected}", case.id);
        }
    }
}

/// Ramps of `reads` averages of eight frames, 40 frames from read to read, each with
/// one hit of 1e4 to 1e6 e- that falls between reads or inside one, which it splits.
fn split_by_hits(pixels: usize, reads: usize) -> (Params, Vec<Vec<u32>>) {
    let mut state = 17u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let (frames, gap, noise, rate) = (8usize, 40usize, 12.0, 3.0);
    let mut ramp = vec![0u32; reads * pixels];
    for i in 0..pixels {
        let charge = 10f64.powf(4.0 + 2.0 * (i % 97) as f64 / 97.0);
        let hit = frames + (i * 7) % ((reads - 2) * gap);
        let mut electrons = 0.0;
        for k in 0..reads {
            let mut mean = 0.0;
            for frame in k * gap..k * gap + frames {
                electrons += rate + rate.sqrt() * normal() * f64::from(u8::from(frame == k * gap));
                let all = electrons + if frame >= hit { charge } else { 0.0 };
                mean += (all + noise * normal()) / frames as f64;
            }
            ramp[k * pixels + i] = (mean as f32).to_bits();
        }
    }
    let mut cal = vec![0; pixels];
    for v in [1e30f32, 0.0, 1.0, (noise * noise) as f32] {
        cal.extend(vec![v.to_bits(); pixels]);
    }
    let times: Vec<f64> = (0..reads).map(|k| (k * gap) as f64 + (frames + 1) as f64 / 2.0).collect();
    let tables = Tables::new(&times, &vec![frames as u16; reads], 1.0, reads).to_words();
    let flags = vec![0; reads * pixels];
    let none = vec![0; pixels];
    let buffers = vec![ramp, flags, cal, tables, none.clone(), none, vec![0; OUT_PLANES * pixels]];
    (Params { counts: 0, ..params(1, reads, pixels) }, buffers)
}

/// The gains of one difference and of two are both so large that single precision
/// loses what is between them: only what the second adds tells.
#[test]
fn single_precision_splits_large_hits_as_double_does() {
    let (params, buffers) = split_by_hits(1600, 10);
    let words: Vec<u32> = bytemuck::cast_slice(&[params]).to_vec();
    let (double, single) = with_args(&words, &buffers, |a| (reference::<f64>(a), reference::<f32>(a)));
    // The error follows from which differences are left.
    let other = |a: &Rate, b: &Rate| (a.values[1] / b.values[1] - 1.0).abs() > 1e-3 || a.dq != b.dq;
    let differing = |them: &[Rate]| (0..1600).filter(|&i| other(&them[i], &double[i])).collect::<Vec<_>>();
    assert!(double.iter().all(|r| r.dq & flag::JUMP_DET != 0));
    assert_eq!(differing(&single), Vec::<usize>::new());
    let Some(mut gpu) = testing::gpu() else { return };
    let constants = [("NREADS", 16), ("NRAMPS", 1)];
    let out = dispatch(&LIKELY, &words, &buffers, 1600, &constants, gpu.as_mut());
    let mut got = rates(&out[0], 1600);
    assert_eq!(differing(&got), Vec::<usize>::new());
    got[3].values[1] *= 1.01;
    assert_eq!(differing(&got), [3]);
}
