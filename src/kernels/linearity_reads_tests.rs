use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::stored_tests::{Case, cases, dispatch, with_args};

const CASES: &str = include_str!("../../testdata/oracle/linearity_readlevel.json");

fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    engines
}

fn bits(values: impl IntoIterator<Item = f64>) -> Vec<u32> {
    values.into_iter().map(|v| (v as f32).to_bits()).collect()
}

/// The buffers of a case, with these flags; and its parameters.
fn set_up(case: &Case, flags: Vec<u32>) -> (Params, Vec<Vec<u32>>) {
    let (ramps, reads, pixels) = case.size();
    let (times, frames, frame_time) = case.times();
    let (forward, inverse) = (case.array("in_coeffs"), case.array("in_inverse_coeffs"));
    let mut cal = vec![0; pixels];
    for plane in [case.array("in_satval"), vec![0.0], vec![1.0], vec![1.0]] {
        cal.extend(bits(plane));
    }
    cal.extend(bits(forward.iter().copied()));
    cal.extend(bits(inverse.iter().copied()));
    let tables = Tables::new(&times, &frames, frame_time, reads).to_words();
    let p = Params {
        items: pixels as u32,
        ramps: ramps as u32,
        reads: reads as u32,
        ncoef: forward.len() as u32,
        inverse: (Plane::Coefficients as usize + forward.len()) as u32,
        ninverse: inverse.len() as u32,
        zero_point: zero::BIAS,
        bias: 0,
        frame_time: frame_time as f32,
    };
    (p, vec![bits(case.array("in_data")), flags, cal, tables])
}

#[test]
fn averaged_reads_are_stcals_and_nearer_the_truth() {
    for case in cases(CASES) {
        let (p, buffers) = set_up(&case, vec![0; case.size().1]);
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        let expected: Vec<f32> = case.array("out_data_readlevel").iter().map(|v| *v as f32).collect();
        let double: Vec<f64> = with_args(&words, &buffers, reference::<f64>);
        let single: Vec<f32> = with_args(&words, &buffers, reference::<f32>);
        let near: Vec<f32> = double.iter().map(|v| *v as f32).collect();
        testing::close(&near, &expected, 0.0, 1e-6, 0).expect("f64");
        testing::close(&single, &expected, 0.0, 1e-5, 0).expect("f32");
        for engine in &mut engines() {
            let out = dispatch(&LINEARITY_READS, &words, &buffers, 1, &[], engine.as_mut()).remove(0);
            let out: Vec<f32> = out.iter().map(|w| f32::from_bits(*w)).collect();
            testing::close(&out, &expected, 0.0, 1e-5, 0).expect("stcal's values");
            let mut wrong = out.clone();
            wrong[2] *= 1.0001;
            assert!(testing::close(&wrong, &expected, 0.0, 1e-5, 0).is_err(), "the comparison cannot fail");
        }
        let truth = case.array("out_truth");
        let worst = |of: &[f64]| of.iter().zip(&truth).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        assert!(worst(&double) < 0.1 * worst(&case.array("out_data_grouplevel")));
    }
}

/// Saturated reads stay; with one usable read left the polynomial alone is applied.
#[test]
fn saturated_reads_stay_and_one_read_has_no_rate() {
    let case = cases(CASES).remove(0);
    let forward = case.array("in_coeffs");
    let data = case.array("in_data");
    let poly = |x: f64| forward.iter().rev().fold(0.0, |s, c| s * x + c);
    let (p, buffers) = set_up(&case, vec![0, flag::SATURATED, flag::SATURATED, flag::SATURATED]);
    let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
    let double: Vec<f64> = with_args(&words, &buffers, reference::<f64>);
    let first = f64::from(data[0] as f32);
    assert!((double[0] / poly(first) - 1.0).abs() < 1e-6);
    assert!((1..4).all(|k| double[k] == f64::from(data[k] as f32)));
    for engine in &mut engines() {
        let out = dispatch(&LINEARITY_READS, &words, &buffers, 1, &[], engine.as_mut()).remove(0);
        let out: Vec<f32> = out.iter().map(|w| f32::from_bits(*w)).collect();
        let near: Vec<f32> = double.iter().map(|v| *v as f32).collect();
        testing::close(&out, &near, 0.0, 1e-6, 0).expect("the reference");
    }
}

/// Two ramps, 67 pixels, uneven averages, each zero point, flags here and there: both
/// engines follow the reference.
#[test]
fn engines_agree_on_uneven_averages() {
    let (ramps, reads, pixels) = (2usize, 5usize, 67usize);
    let frames = [1u16, 2, 4, 3, 5].repeat(ramps);
    let times = [1.0, 2.5, 6.5, 12.0, 18.0].repeat(ramps);
    let noise = |i: usize| ((i * 2_654_435_761) % 1000) as f64 / 1000.0;
    let total = ramps * reads;
    let data: Vec<f64> = (0..total * pixels)
        .map(|i| 300.0 + times[i / pixels] * (100.0 + 1500.0 * noise(i % pixels)) + 5.0 * noise(i))
        .collect();
    let flags: Vec<u32> = (0..total * pixels)
        .map(|i| match (i / pixels % reads, i % 11) {
            (3.., 3) => flag::SATURATED,
            (_, 5) => flag::DO_NOT_USE,
            _ => 0,
        })
        .collect();
    let mut cal = vec![0; pixels];
    let plane = |f: &dyn Fn(usize) -> f64| bits((0..pixels).map(f));
    for f in [
        &(|i: usize| if i.is_multiple_of(7) { 3.4e38 } else { 30000.0 }) as &dyn Fn(usize) -> f64,
        &|i| 250.0 + noise(i),
        &|_| 1.0,
        &|_| 1.0,
        &|_| 0.0,
        &|_| 1.0,
        &|i| 2e-6 * (1.0 + noise(i)),
        &|_| 1e-11,
        &|_| 0.0,
        &|_| 1.0,
        &|i| -2e-6 * (1.0 + noise(i)),
    ] {
        cal.extend(plane(f));
    }
    let tables = Tables::new(&times, &frames, 1.0, reads).to_words();
    let buffers = vec![bits(data), flags, cal, tables];
    for zero_point in [zero::BIAS, zero::RAW, zero::FIRST] {
        let p = Params {
            items: pixels as u32,
            ramps: ramps as u32,
            reads: reads as u32,
            ncoef: 4,
            inverse: 9,
            ninverse: 3,
            zero_point,
            bias: 1,
            frame_time: 1.0,
        };
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        let double: Vec<f64> = with_args(&words, &buffers, reference::<f64>);
        let near: Vec<f32> =
            (0..total * pixels).map(|i| double[i % pixels * total + i / pixels] as f32).collect();
        for engine in &mut engines() {
            let out = dispatch(&LINEARITY_READS, &words, &buffers, pixels, &[], engine.as_mut()).remove(0);
            let out: Vec<f32> = out.iter().map(|w| f32::from_bits(*w)).collect();
            testing::close(&out, &near, 1e-2, 1e-6, 0).expect("the reference");
        }
    }
}
