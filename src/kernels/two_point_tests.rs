use super::super::array_length;
use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::jump_spread::{self, JUMP_SPREAD};
use crate::kernels::stored_tests::{Case, cases, dispatch};

const CASES: &str = include_str!("../../testdata/oracle/jump_2pt.json");

fn params(case: &Case) -> (Params, jump_spread::Params) {
    let (ramps, reads, pixels) = case.size();
    let shape = case.shape("in_data");
    let number = |name: &str| case.number(name) as f32;
    let after: Vec<f64> =
        case.meta["after"].as_array().expect("after").iter().map(|v| v.as_f64().expect("number")).collect();
    let single = reads > case.number("min_diffs_single_pass") as usize;
    let find = Params {
        items: pixels as u32,
        ramps: ramps as u32,
        reads: reads as u32,
        mode: if single { mode::SINGLE } else { mode::ITERATIVE },
        normal: number("normal"),
        three: number("three_diff"),
        two: number("two_diff"),
        neighbours_min: number("min_nb"),
        neighbours_max: number("max_nb"),
    };
    let take = jump_spread::Params {
        items: pixels as u32,
        nx: shape[3] as u32,
        rows: shape[2] as u32,
        ramps: ramps as u32,
        reads: reads as u32,
        neighbours: u32::from(case.is("flag_4_neighbors")),
        after_electrons_1: after[0] as f32,
        after_reads_1: after[1] as u32,
        after_electrons_2: after[2] as f32,
        after_reads_2: after[3] as u32,
    };
    (find, take)
}

/// The flags of both dispatches, `[read][pixel]`.
fn flags(case: &Case, engine: &mut dyn Engine) -> Vec<u32> {
    let (ramps, reads, pixels) = case.size();
    let (find, take) = params(case);
    let constants = [("NREADS", array_length(ramps * reads))];
    let mut buffers = case.stored();
    buffers.extend([vec![0; ramps * reads * pixels], vec![0; pixels]]);
    let found = dispatch(&TWO_POINT, bytemuck::cast_slice(&[find]), &buffers, pixels, &constants, engine);
    let [flags, medians] = found.try_into().expect("two");
    let mut buffers = case.stored();
    buffers[1] = flags;
    buffers.extend([medians, vec![0; ramps * reads * pixels]]);
    dispatch(&JUMP_SPREAD, bytemuck::cast_slice(&[take]), &buffers, pixels, &constants, engine).remove(0)
}

fn differ(case: &Case, got: &[u32]) -> usize {
    case.array("out_groupdq").iter().zip(got).filter(|(a, b)| **a as u32 != **b).count()
}

#[test]
fn stcals_jumps_are_met() {
    for case in cases(CASES) {
        assert_eq!(differ(&case, &flags(&case, &mut CpuEngine::new(1 << 30))), 0, "{}", case.id);
        let (find, _) = params(&case);
        let mut buffers = case.stored();
        buffers.extend([vec![0], vec![0]]);
        let (double, single) =
            crate::kernels::stored_tests::with_args(bytemuck::cast_slice(&[find]), &buffers, |a| {
                (reference::<f64>(a), reference::<f32>(a))
            });
        assert_eq!(double, single, "{}", case.id);
    }
}

#[test]
fn gpu_agrees_with_stcal() {
    let Some(mut gpu) = testing::gpu() else { return };
    for case in cases(CASES) {
        let mut got = flags(&case, gpu.as_mut());
        assert_eq!(differ(&case, &got), 0, "{}", case.id);
        got[0] ^= 4;
        assert_eq!(differ(&case, &got), 1, "the comparison cannot fail");
    }
}

#[test]
fn clipping_over_ramps_finds_what_one_ramp_has_more() {
    let ramps = 40;
    let mut y = Vec::new();
    for r in 0..ramps {
        let hit = if r == 17 { 500.0 } else { 0.0 };
        y.extend([0.0, 10.0 + (r % 5) as f32, 20.0 + (r % 3) as f32 + hit, 30.0 + hit]);
    }
    let bits: Vec<u32> = y.iter().map(|v: &f32| v.to_bits()).collect();
    let mut cal = vec![0];
    cal.extend([1e30f32, 0.0, 1.0, 25.0].map(f32::to_bits));
    let times: Vec<f64> = (0..4 * ramps).map(|k| (k % 4 + 1) as f64).collect();
    let n = 4 * ramps;
    let tables = crate::kernels::ramp::Tables::new(&times, &vec![1; n], 0.0, 4).to_words();
    let buffers = vec![bits, vec![0; n], cal, tables, vec![0; n], vec![0]];
    let p = Params {
        items: 1,
        ramps: ramps as u32,
        reads: 4,
        mode: mode::CLIP_RAMPS,
        normal: 5.0,
        ..Params::default()
    };
    let constants = [("NREADS", 256)];
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    for engine in &mut engines {
        let out = dispatch(&TWO_POINT, bytemuck::cast_slice(&[p]), &buffers, 1, &constants, engine.as_mut());
        let jumps: Vec<usize> = (0..n).filter(|k| out[0][*k] & 4 != 0).collect();
        assert_eq!(jumps, vec![17 * 4 + 2]);
    }
}
