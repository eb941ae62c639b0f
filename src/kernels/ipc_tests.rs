use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::stored_tests::{cases, dispatch, with_args};

const CASES: &str = include_str!("../../testdata/oracle/ipc.json");

fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    engines
}

fn words(p: Params) -> Vec<u32> {
    bytemuck::cast_slice(&[p]).to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|w| f32::from_bits(*w)).collect()
}

#[test]
fn the_convolution_is_jwsts() {
    for case in cases(CASES) {
        let f32s = |name: &str| case.array(name).iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (data, taps, expected) = (f32s("in_data"), f32s("in_kernel"), f32s("out_data"));
        let shape = case.shape("in_data");
        let border = case.number("ref_border") as u32;
        let p = Params {
            items: data.len() as u32,
            nx: shape[1] as u32,
            rows: shape[0] as u32,
            reads: 1,
            width: case.shape("in_kernel")[0] as u32,
            x0: border,
            x1: shape[1] as u32 - border,
            y0: border,
            y1: shape[0] as u32 - border,
            ..Params::default()
        };
        let buffers = vec![bits(&data), vec![0; data.len()], bits(&taps), vec![0; data.len()]];
        let double: Vec<f64> = with_args(&words(p), &buffers, reference::<f64>);
        for (d, e) in double.iter().zip(&expected) {
            assert!((d - f64::from(*e)).abs() <= 2e-6 * d.abs(), "{}: {d} against {e}", case.id);
        }
        for engine in &mut engines() {
            let out = floats(&dispatch(&IPC, &words(p), &buffers, data.len(), &[], engine.as_mut())[0]);
            testing::close(&out, &expected, 0.0, 2e-6, 0).expect("jwst's values");
            let mut wrong = out.clone();
            wrong[7 * shape[1] + 9] *= 1.0 + 1e-5;
            assert!(testing::close(&wrong, &expected, 0.0, 2e-6, 0).is_err(), "the comparison cannot fail");
        }
    }
}

/// 13 × 7 pixels, 3 reads, 5 × 5 taps that differ from pixel to pixel, some reads lost.
#[test]
fn engines_agree_on_odd_shapes_and_lost_reads_do_not_spread() {
    let (nx, rows, reads, width) = (13usize, 7usize, 3usize, 5usize);
    let pixels = nx * rows;
    let noise = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 1000.0;
    let mut data: Vec<f32> = (0..reads * pixels).map(|i| 5000.0 + 100.0 * noise(i)).collect();
    let mut flags = vec![0; reads * pixels];
    let lost = pixels + 3 * nx + 6;
    (data[lost], flags[lost]) = (0.0, flag::DO_NOT_USE);
    // At the floor of the converter 0 is a value.
    let floor = 2 * pixels + 3 * nx + 6;
    (data[floor], flags[floor]) = (0.0, flag::DO_NOT_USE | flag::AD_FLOOR);
    let mut taps: Vec<f32> = (0..width * width * pixels).map(|i| -0.004 * noise(i + 7)).collect();
    for pixel in 0..pixels {
        let rest: f32 = (0..25).filter(|t| *t != 12).map(|t| taps[t * pixels + pixel]).sum();
        taps[12 * pixels + pixel] = 1.0 - rest;
    }
    let p = Params {
        items: pixels as u32,
        nx: nx as u32,
        rows: rows as u32,
        reads: reads as u32,
        width: width as u32,
        varies: 1,
        x0: 1,
        x1: nx as u32 - 2,
        y0: 0,
        y1: rows as u32 - 1,
    };
    let buffers = vec![bits(&data), flags, bits(&taps), vec![0; data.len()]];
    let double: Vec<f64> = with_args(&words(p), &buffers, reference::<f64>);
    let single: Vec<f32> = double.iter().map(|v| *v as f32).collect();
    for engine in &mut engines() {
        let out = floats(&dispatch(&IPC, &words(p), &buffers, pixels, &[], engine.as_mut())[0]);
        testing::close(&out, &single, 2e-3, 0.0, 0).expect("the reference");
    }
    // Beside the lost read a pixel of 5000 to 5100 stays one; beside the floor it gains.
    // The row below reaches over the edge of the area, where the rest of the sum is 0.
    let beside = |at: usize| [at - 1, at + 1, at - nx];
    assert!(beside(lost).iter().all(|q| (double[*q] - f64::from(data[*q])).abs() < 10.0));
    assert!(beside(floor).iter().any(|q| double[*q] - f64::from(data[*q]) > 5.0));
    // Outside the area nothing changes.
    assert!((0..rows).all(|y| double[y * nx] == f64::from(data[y * nx])));
    assert!((0..nx).all(|x| double[(rows - 1) * nx + x] == f64::from(data[(rows - 1) * nx + x])));
}

/// A chunk with its halo has the values of the whole frame.
#[test]
fn halves_of_a_frame_with_a_row_more_are_the_frame() {
    let (nx, rows) = (11usize, 10usize);
    let data: Vec<f32> = (0..nx * rows).map(|i| ((i * 7919) % 997) as f32).collect();
    let taps = [0.0f32, -0.01, 0.001, -0.02, 1.06, -0.015, 0.0, -0.012, 0.002];
    let of = |first: usize, last: usize| {
        let n = (last - first) * nx;
        let p = Params {
            items: n as u32,
            nx: nx as u32,
            rows: (last - first) as u32,
            reads: 1,
            width: 3,
            x1: nx as u32,
            y1: (last - first) as u32,
            ..Params::default()
        };
        let buffers = vec![bits(&data[first * nx..last * nx]), vec![0; n], bits(&taps), vec![0; n]];
        dispatch(&IPC, &words(p), &buffers, n, &[], &mut CpuEngine::new(1 << 30)).remove(0)
    };
    let whole = of(0, rows);
    assert_eq!(of(0, 6)[..5 * nx], whole[..5 * nx]);
    assert_eq!(of(4, rows)[nx..], whole[5 * nx..]);
}
