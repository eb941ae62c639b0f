use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::stored_tests::{cases, dispatch, with_args};

const CASES: &str = include_str!("../../testdata/oracle/dark.json");

/// Differences of results at full precision are the oracle's own dark, whatever its
/// sampling; the matching is tested through the command line.
#[test]
fn subtraction_is_stcals() {
    for case in cases(CASES) {
        let (ramps, reads, pixels) = case.size();
        let f32s = |name: &str| case.array(name).iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (data, expected) = (f32s("in_data"), f32s("out_data"));
        let dark: Vec<f32> = data[..reads * pixels].iter().zip(&expected).map(|(a, b)| a - b).collect();
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let p = Params { items: pixels as u32, reads: (ramps * reads) as u32, dark_reads: reads as u32 };
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        let buffers = vec![bits(&data), bits(&dark)];
        let double: Vec<f64> = with_args(&words, &buffers, reference::<f64>);
        let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
        engines.extend(testing::gpu());
        for engine in &mut engines {
            let out = dispatch(&DARK_RAMP, &words, &buffers, pixels, &[], engine.as_mut()).remove(0);
            let out: Vec<f32> = out.iter().map(|w| f32::from_bits(*w)).collect();
            testing::close(&out, &expected, 1e-4, 1e-6, 0).expect("stcal's values");
            let single: Vec<f32> = double.iter().map(|v| *v as f32).collect();
            testing::close(&out, &single, 0.0, 1e-7, 0).expect("the reference");
            let mut wrong = out.clone();
            wrong[3] += 1.0;
            assert!(testing::close(&wrong, &expected, 1e-4, 1e-6, 0).is_err(), "the comparison cannot fail");
        }
    }
}

#[test]
fn darks_of_all_ramps_and_of_one() {
    let (pixels, reads) = (5usize, 6usize);
    let data: Vec<f32> = (0..pixels * reads).map(|i| i as f32).collect();
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    for dark_reads in [3usize, 6] {
        let dark: Vec<f32> = (0..pixels * dark_reads).map(|i| 0.5 * i as f32).collect();
        let p = Params { items: pixels as u32, reads: reads as u32, dark_reads: dark_reads as u32 };
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        let buffers = vec![bits(&data), bits(&dark)];
        for engine in &mut engines {
            let out = dispatch(&DARK_RAMP, &words, &buffers, pixels, &[], engine.as_mut()).remove(0);
            for (i, w) in out.iter().enumerate() {
                assert_eq!(f32::from_bits(*w), data[i] - dark[i % dark.len()]);
            }
        }
    }
}
