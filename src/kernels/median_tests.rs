use super::*;
use crate::engine::testing::{close, gpu};
use crate::engine::{CpuEngine, Dispatch, Engine};
use crate::kernels::normal::Normal;

fn params(nx: usize, ny: usize, radius: u32) -> MedianParams {
    MedianParams { pixels: (nx * ny) as u32, nx: nx as u32, radius, otherwise: -7.0 }
}

/// Values with NaN among them, and pixels left out.
fn image(n: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Normal(n as u64);
    let values = (0..n).map(|i| if i % 17 == 3 { f32::NAN } else { random.next() as f32 }).collect();
    (values, (0..n).map(|i| u32::from(i % 5 == 1 || i < n / 6)).collect())
}

fn run(engine: &mut dyn Engine, values: &[f32], left_out: &[u32], p: MedianParams) -> Vec<f32> {
    let buffers = vec![
        engine.buffer_of_f32(values).unwrap(),
        engine.buffer_of(left_out).unwrap(),
        engine.allocate(values.len()).unwrap(),
    ];
    let out = buffers[2];
    let params = bytemuck::cast_slice(&[p]).to_vec();
    let items = values.len();
    engine.submit(&vec![Dispatch { kernel: &MEDIAN, buffers, items, params, constants: vec![] }]).unwrap();
    engine.download_f32(out).unwrap()
}

/// By sorting, in f64.
fn plainly(values: &[f32], left_out: &[u32], p: &MedianParams) -> Vec<f32> {
    let (nx, r) = (p.nx as i64, i64::from(p.radius));
    let near = |a: usize, b: usize| {
        let (a, b) = (a as i64, b as i64);
        (a % nx - b % nx).abs() <= r && (a / nx - b / nx).abs() <= r
    };
    (0..values.len())
        .map(|i| {
            let taken = |j: &usize| near(i, *j) && left_out[*j] == 0 && values[*j].is_finite();
            let mut v: Vec<f64> = (0..values.len()).filter(taken).map(|j| f64::from(values[j])).collect();
            v.sort_by(f64::total_cmp);
            match v.len() {
                0 => p.otherwise,
                n if n % 2 == 1 => v[n / 2] as f32,
                n => (0.5 * (v[n / 2 - 1] + v[n / 2])) as f32,
            }
        })
        .collect()
}

#[test]
fn engines_agree_with_a_plain_median() {
    let mut gpu = gpu();
    for (nx, ny, radius) in [(1, 1, 3), (13, 9, 1), (31, 23, 2), (40, 33, 3), (5, 70, 3)] {
        let ((values, left_out), p) = (image(nx * ny), params(nx, ny, radius));
        let truth = plainly(&values, &left_out, &p);
        let mut cpu = CpuEngine::new(1 << 30);
        let mut on_cpu = run(&mut cpu, &values, &left_out, p);
        close(&on_cpu, &truth, 0.0, 1e-6, 0).unwrap();
        if let Some(gpu) = &mut gpu {
            close(&run(gpu.as_mut(), &values, &left_out, p), &on_cpu, 0.0, 0.0, 0).unwrap();
        }
        on_cpu[nx * ny / 2] += 0.01;
        close(&on_cpu, &truth, 0.0, 1e-6, 0).expect_err("a perturbed pixel must be seen");
    }
}
