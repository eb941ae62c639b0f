use super::super::array_length;
use super::*;
use crate::engine::{CpuEngine, testing};
use crate::kernels::stored_tests::{Case, cases, compare, dispatch, rates, with_args};

const CASES: &str = include_str!("../../testdata/oracle/ols_c.json");

fn params(case: &Case) -> Params {
    let (ramps, reads, pixels) = case.size();
    let flags = case.array("in_groupdq");
    // Reads at the start that no pixel can use.
    let dead = |k: usize| {
        (0..ramps).all(|r| flags[(r * reads + k) * pixels..][..pixels].iter().all(|f| *f as u32 & 1 != 0))
    };
    let first = (0..reads).take_while(|k| dead(*k)).count();
    let last = reads - usize::from(dead(reads - 1));
    let (first, last) = if last < first + 2 { (0, reads) } else { (first, last) };
    let (times, frames, _) = case.times();
    Params {
        items: pixels as u32,
        pixels: pixels as u32,
        skip: 0,
        ramps: ramps as u32,
        reads: reads as u32,
        first: first as u32,
        last: last as u32,
        suppress_one_group: u32::from(case.is("suppress_one_group")),
        counts: 1,
        dark: 1,
        group_time: case.number("group_time") as f32,
        first_time: times[0] as f32,
        frames: f32::from(frames[0]),
        zero: u32::from(case.has_zeroframe()),
        frame_time: case.number("frame_time") as f32,
        alone: 0,
    }
}

fn in_precision<T: Real>(case: &Case) -> Vec<Rate> {
    with_args(bytemuck::cast_slice(&[params(case)]), &case.fit(), reference::<T>)
}

fn on(case: &Case, engine: &mut dyn crate::engine::Engine) -> Vec<Rate> {
    of_ramp(case, 0, engine)
}

fn of_ramp(case: &Case, alone: u32, engine: &mut dyn crate::engine::Engine) -> Vec<Rate> {
    let params = Params { alone, ..params(case) };
    let (_, reads, pixels) = case.size();
    let constants = [("NREADS", array_length(reads))];
    let out = dispatch(&OLS_C, bytemuck::cast_slice(&[params]), &case.fit(), pixels, &constants, engine);
    rates(&out[0], pixels)
}

#[test]
fn stcals_ols_c_is_met_in_double_and_single_precision() {
    for case in cases(CASES) {
        compare(&case, &in_precision::<f64>(&case), 1e-6, 0.0, 1e-6).expect("double");
        compare(&case, &in_precision::<f32>(&case), 1e-5, 0.0, 1e-5).expect("single");
        compare(&case, &on(&case, &mut CpuEngine::new(1 << 30)), 1e-6, 0.0, 1e-6).expect("engine");
    }
}

#[test]
fn a_wrong_slope_or_flag_is_seen() {
    let case = cases(CASES).into_iter().find(|c| c.id == "olsc_random_a").expect("case");
    let mut wrong = in_precision::<f64>(&case);
    wrong[40].values[0] *= 1.0001;
    assert!(compare(&case, &wrong, 1e-5, 0.0, 1e-5).is_err());
    let mut wrong = in_precision::<f64>(&case);
    wrong[41].dq ^= 4;
    assert!(compare(&case, &wrong, 1e-5, 0.0, 1e-5).is_err());
}

#[test]
fn gpu_agrees_with_stcal() {
    let Some(mut gpu) = testing::gpu() else { return };
    for case in cases(CASES) {
        compare(&case, &on(&case, gpu.as_mut()), 1e-5, 0.0, 1e-5).expect("gpu");
    }
}

/// stcal's rateints, on every engine.
#[test]
fn gpu_agrees_with_stcal_on_single_ramps() {
    let mut engines: Vec<Box<dyn crate::engine::Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    let several: Vec<Case> = cases(CASES).into_iter().filter(|c| c.has("out_int_slope")).collect();
    assert!(several.len() >= 6);
    for case in &several {
        let pixels = case.size().2;
        let names = ["out_int_slope", "out_int_err", "out_int_var_poisson", "out_int_var_rnoise"];
        let expected = names.map(|n| case.array(n));
        for engine in &mut engines {
            let near = |got: f64, i: usize, plane: usize| {
                let (slope, value) = (expected[0][i], expected[plane][i]);
                got.is_nan() == slope.is_nan()
                    && (got.is_nan() || (got - value).abs() <= 1e-5 * value.abs() + 1e-12)
            };
            for alone in 1..=case.size().0 as u32 {
                let rates = of_ramp(case, alone, engine.as_mut());
                for (p, plane) in (0..pixels).flat_map(|p| (0..4).map(move |plane| (p, plane))) {
                    let (i, got) = ((alone as usize - 1) * pixels + p, rates[p].values[plane]);
                    assert!(near(got, i, plane), "{} {alone} {p}: {} is {got}", case.id, names[plane]);
                    let wrong = 1.001 * got + 1.0;
                    assert!(got.is_nan() || !near(wrong, i, plane), "the comparison cannot fail");
                }
            }
        }
    }
}

#[test]
fn segments_begin_with_the_jump_before_them() {
    let flags = [0, 0, 4, 0, 0, 6, 0, 36, 0, 32];
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((a, b)) = segment(&flags, from) {
        found.push((a, b));
        from = b;
    }
    // A jump that is saturated too begins none; persistence does not count.
    assert_eq!(found, vec![(0, 2), (2, 5), (6, 7), (7, 10)]);
    assert_eq!(longest(&flags), 3);
}
