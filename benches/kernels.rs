//! The ramp kernel on ramps in memory: `cargo bench`.
//!
//! Items are pixels times reads, so "Mitem/s" is Mpix·reads/s. Uploads and
//! downloads are left out: this is the arithmetic alone, every stage-1 step on
//! (saturation, bias, linearity with four coefficients, jumps, likelihood fit;
//! no reference-pixel offsets, which cost two additions a read).
//! The GPU's times need a GPU or a software Vulkan driver; without one that bench
//! is left out.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on says where")]

use divan::counter::ItemsCount;
use irisgpu::engine::{Buffer, Dispatch, Engine, select, testing};
use irisgpu::kernels::ramp::{Encoding, OUT_PLANES, Params, RAMP, Tables, stage};

const NX: usize = 1024;
const NY: usize = 256;
const PIXELS: usize = NX * NY;

fn main() {
    divan::main();
}

#[divan::bench(args = [10, 20], sample_count = 10)]
fn ramp_cpu(bencher: divan::Bencher, reads: usize) {
    bench(bencher, select(Some("cpu"), None).expect("the CPU engine"), reads);
}

#[divan::bench(args = [10, 20], sample_count = 5)]
fn ramp_gpu(bencher: divan::Bencher, reads: usize) {
    if let Some(engine) = testing::gpu() {
        bench(bencher, engine, reads);
    }
}

fn bench(bencher: divan::Bencher, mut engine: Box<dyn Engine>, reads: usize) {
    let dispatch = dispatch(engine.as_mut(), reads);
    let last: Buffer = dispatch.buffers[6];
    let recording = vec![dispatch];
    let mut run = move || {
        engine.submit(&recording).expect("submit");
        // One word, to wait for the rest.
        engine.download_with(last, &mut |_| {}).expect("wait");
    };
    // The first run builds the shader.
    run();
    bencher.counter(ItemsCount::new(PIXELS * reads)).bench_local(run);
}

/// A ramp of sky and noise (uint16 as files hold it), one pixel in 200 hit.
fn dispatch(engine: &mut dyn Engine, reads: usize) -> Dispatch {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut raw = vec![0u8; PIXELS * reads * 2];
    for pixel in 0..PIXELS {
        let (rate, hit) = (20.0 + 40.0 * uniform(), uniform() < 0.005);
        let mut level = 3000.0;
        for k in 0..reads {
            level += rate + 8.0 * (uniform() - 0.5) + if hit && k == reads / 2 { 900.0 } else { 0.0 };
            let noise = 20.0 * (uniform() - 0.5);
            let at = (k * PIXELS + pixel) * 2;
            raw[at..at + 2].copy_from_slice(&(((level + noise) as u16) ^ 0x8000).to_be_bytes());
        }
    }
    // DQ, saturation, bias, gain, read variance, then the coefficients.
    let planes = [0.0f32, 60_000.0, 3000.0, 2.0, 130.0, 0.0, 1.0, 1e-6, 1e-12];
    let cal: Vec<f32> = planes.iter().flat_map(|v| std::iter::repeat_n(*v, PIXELS)).collect();
    let times: Vec<f64> = (1..=reads).map(|k| k as f64 * 1.5).collect();
    let tables = Tables::new(&times, &vec![1; reads], 1.5, reads).to_words();
    let ramp: Vec<u32> = bytemuck::pod_collect_to_vec(&raw);
    let params = Params {
        items: PIXELS as u32,
        nx: NX as u32,
        rows: NY as u32,
        ramps: 1,
        reads: reads as u32,
        stride_read: PIXELS as u32,
        stride_y: NX as u32,
        stride_x: 1,
        encoding: Encoding::U16 as u32,
        stages: stage::SATURATION | stage::BIAS | stage::LINEARITY | stage::JUMP | stage::FIT,
        ncoef: 4,
        max_jumps: 10,
        threshold_one: 5.5 * 5.5,
        threshold_two: 33.7,
        ..Params::default()
    };
    let none = [0u32];
    let buffers = [
        engine.buffer_of(&ramp),
        engine.buffer_of(&none),
        engine.buffer_of_f32(&cal),
        engine.buffer_of(&tables),
        engine.buffer_of(&none),
        engine.allocate(OUT_PLANES * PIXELS),
        engine.allocate(1),
    ];
    Dispatch {
        kernel: &RAMP,
        buffers: buffers.into_iter().map(|b| b.expect("memory")).collect(),
        items: PIXELS,
        params: bytemuck::cast_slice(&[params]).to_vec(),
        constants: params.constants(),
    }
}
