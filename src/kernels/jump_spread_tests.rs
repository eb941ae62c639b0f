use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::stored_tests::dispatch;

/// A frame of 5 × 4 pixels, 6 reads 1 s apart, rising 10 DN a read, with a jump of
/// 100 DN marked at read 2 of pixel (2, 1).
#[test]
fn neighbours_and_reads_after_a_jump_are_flagged_on_both_engines() {
    let (nx, rows, reads) = (5usize, 4usize, 6usize);
    let pixels = nx * rows;
    let hit = nx + 2;
    let mut y = vec![0f32; reads * pixels];
    let mut flags = vec![0u32; reads * pixels];
    for k in 0..reads {
        for p in 0..pixels {
            y[k * pixels + p] = 10.0 * k as f32 + if p == hit && k >= 2 { 100.0 } else { 0.0 };
        }
    }
    flags[2 * pixels + hit] = flag::JUMP_DET | MARK;
    flags[2 * pixels + hit + 1] = flag::SATURATED;
    flags[5 * pixels] = flag::JUMP_DET | flag::DO_NOT_USE;
    let mut cal = vec![0; pixels];
    for v in [1e30f32, 0.0, 1.0, 25.0] {
        cal.extend(vec![v.to_bits(); pixels]);
    }
    let times: Vec<f64> = (1..=reads).map(|k| k as f64).collect();
    let tables = Tables::new(&times, &vec![1; reads], 0.0, reads).to_words();
    let ramp = y.iter().map(|v| v.to_bits()).collect();
    let medians = vec![10f32.to_bits(); pixels];
    let buffers = vec![ramp, flags, cal, tables, medians, vec![0; reads * pixels]];
    let p = Params {
        items: pixels as u32,
        nx: nx as u32,
        rows: rows as u32,
        ramps: 1,
        reads: reads as u32,
        neighbours: 1,
        after_electrons_1: 50.0,
        after_reads_1: 2,
        ..Params::default()
    };
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    for engine in &mut engines {
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        let out =
            dispatch(&JUMP_SPREAD, &words, &buffers, pixels, &[("NREADS", 8)], engine.as_mut()).remove(0);
        let at = |k: usize, p: usize| out[k * pixels + p];
        for q in [hit, hit - 1, hit - nx, hit + nx] {
            assert_eq!(at(2, q), flag::JUMP_DET);
        }
        assert_eq!(at(2, hit + 1), flag::SATURATED);
        assert_eq!((at(3, hit), at(4, hit), at(5, hit)), (flag::JUMP_DET, flag::JUMP_DET, 0));
        assert_eq!(at(3, hit - 1), 0);
        assert_eq!(at(5, 0), flag::DO_NOT_USE);
        assert_eq!(out.iter().filter(|f| **f & flag::JUMP_DET != 0).count(), 6);
    }
}
