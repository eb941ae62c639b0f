use super::*;
use crate::engine::{CpuEngine, Engine, testing};
use crate::kernels::stored_tests::{cases, dispatch};

const CASES: &str = include_str!("../../testdata/oracle/charge_migration.json");

fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    engines
}

#[test]
fn flags_are_jwsts() {
    for case in cases(CASES) {
        let (ramps, reads, pixels) = case.size();
        let shape = case.shape("in_data");
        let p = Params {
            items: pixels as u32,
            nx: shape[3] as u32,
            rows: shape[2] as u32,
            ramps: ramps as u32,
            reads: reads as u32,
            threshold: case.number("signal_threshold") as f32,
        };
        let whole = |name: &str| case.array(name).iter().map(|v| *v as u32).collect::<Vec<u32>>();
        let data = case.array("in_data").iter().map(|v| (*v as f32).to_bits()).collect();
        let expected = whole("out_groupdq");
        let buffers = vec![data, whole("in_groupdq"), vec![0; expected.len()]];
        let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
        for engine in &mut engines() {
            let mut out =
                dispatch(&CHARGE_MIGRATION, &words, &buffers, pixels, &[], engine.as_mut()).remove(0);
            assert_eq!(out, expected, "{}", case.id);
            out[5] ^= flag::CHARGELOSS;
            assert_ne!(out, expected, "the comparison cannot fail");
        }
    }
}

/// Two ramps of 4 reads over 3 × 5 pixels: the second ramp starts anew, a read that was
/// not to be used starts nothing, edges have fewer neighbours.
#[test]
fn ramps_and_edges_stand_for_themselves() {
    let (nx, rows, reads) = (3usize, 5usize, 4usize);
    let pixels = nx * rows;
    let mut y = vec![10.0f32; 2 * reads * pixels];
    let mut flags = vec![0; y.len()];
    y[2 * pixels + nx + 1] = 200.0;
    y[(reads + 1) * pixels] = 200.0;
    y[(reads + 1) * pixels + 14] = 200.0;
    flags[(reads + 1) * pixels + 14] = flag::DO_NOT_USE;
    let p = Params {
        items: pixels as u32,
        nx: nx as u32,
        rows: rows as u32,
        ramps: 2,
        reads: reads as u32,
        threshold: 100.0,
    };
    let words: Vec<u32> = bytemuck::cast_slice(&[p]).to_vec();
    let bits = y.iter().map(|v| v.to_bits()).collect();
    let buffers = vec![bits, flags, vec![0; y.len()]];
    for engine in &mut engines() {
        let out = dispatch(&CHARGE_MIGRATION, &words, &buffers, pixels, &[], engine.as_mut()).remove(0);
        let lost = |k: usize| {
            let read = &out[k * pixels..][..pixels];
            (0..pixels).filter(|q| read[*q] & flag::CHARGELOSS != 0).collect::<Vec<usize>>()
        };
        for k in [2, 3] {
            assert_eq!(lost(k), [1, 3, 4, 5, 7]);
        }
        for k in [0, 1, 4] {
            assert!(lost(k).is_empty());
        }
        for k in [5, 6, 7] {
            assert_eq!(lost(k), [0, 1, 3]);
        }
    }
}
