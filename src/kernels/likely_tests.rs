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
    }
}

fn of(case: &Case) -> Params {
    let (ramps, reads, pixels) = case.size();
    params(ramps, reads, pixels)
}

fn in_precision<T: Real>(case: &Case) -> Vec<Rate> {
    with_args(bytemuck::cast_slice(&[of(case)]), &case.fit(), reference::<T>)
}

fn on(case: &Case, engine: &mut dyn crate::engine::Engine) -> Vec<Rate> {
    let (ramps, reads, pixels) = case.size();
    let reads = ((ramps * reads) as u32).next_power_of_two().max(4);
    let constants = [("NREADS", reads), ("NRAMPS", (ramps as u32).next_power_of_two())];
    let out = dispatch(&LIKELY, bytemuck::cast_slice(&[of(case)]), &case.fit(), pixels, &constants, engine);
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
    let buffers =
        vec![ramp, vec![0; reads * pixels], cal, tables, vec![0; pixels], vec![0; OUT_PLANES * pixels]];
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
