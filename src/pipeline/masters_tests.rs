use super::*;
use crate::engine::CpuEngine;
use crate::kernels::normal::Normal;

const N: usize = 120 * 130;

fn rate(normal: &mut Normal, sigma: f64, level: impl Fn(usize) -> f64) -> Rate {
    let mut r = Rate::zeros(120, 130);
    for i in 0..N {
        r.data[i] = (level(i) + sigma * normal.next()) as f32;
        r.err[i] = sigma as f32;
    }
    r
}

fn engine() -> CpuEngine {
    CpuEngine::new(1 << 30)
}

#[test]
fn a_master_dark_flags_hot_warm_and_unreliable_pixels() {
    let mut normal = Normal(1);
    let level = |i: usize| match i {
        10 => 30.0,
        11 => 0.6,
        12 => 0.1,
        _ => 0.025,
    };
    let mut rates: Vec<Rate> = (0..5).map(|_| rate(&mut normal, 0.01, level)).collect();
    for r in &mut rates[..3] {
        r.dq[13] = dq::DO_NOT_USE | dq::SATURATED;
        r.dq[14] = dq::JUMP_DET;
    }
    rates[0].data[15] = 1e4;
    for r in &mut rates {
        r.dq[16] = dq::DO_NOT_USE | dq::DEAD;
        r.dq[17] = dq::LOW_QE;
    }
    let master =
        master_dark(&mut engine(), &rates, &CombineFrames::default(), DarkLimits::of(0.025)).unwrap();
    let flags: Vec<u32> = master.image.dq[10..19].to_vec();
    let none_left = dq::DO_NOT_USE | dq::DEAD | dq::UNRELIABLE_DARK;
    assert_eq!(flags, [dq::HOT, dq::WARM, 0, dq::UNRELIABLE_DARK, 0, 0, none_left, dq::LOW_QE, 0]);
    assert!(master.image.data[16].is_nan() && master.image.err[16].is_nan());
    assert!((master.image.data[15] - 0.025).abs() < 0.03);
    assert!((master.image.err[20] - 0.01 / 5f32.sqrt()).abs() < 1e-6);
    assert!(master.image.var_common.is_empty() && master.warnings.is_empty());
    assert_eq!(master.levels.len(), 5);
}

#[test]
fn a_master_flat_has_median_one_and_an_error_that_knows_the_dark_is_one() {
    let mut normal = Normal(2);
    let shape = |i: usize| 1.0 + 0.1 * ((i % 130) as f64 * 0.1).sin();
    let bad = |i: usize| match i {
        5 => 0.05,
        6 => 9.0,
        7 => -1.0,
        _ => shape(i),
    };
    // A lamp that drifts by 20 %.
    let rates: Vec<Rate> =
        (0..4).map(|k| rate(&mut normal, 1.0, |i| 2.0 + (100.0 + 5.0 * k as f64) * bad(i))).collect();
    let d = rate(&mut normal, 1.0, |_| 2.0);
    let dark = Image { nx: d.nx, ny: d.ny, data: d.data, err: d.err, dq: d.dq, var_common: vec![] };
    let step = CombineFrames::default();
    let flat =
        master_flat(&mut engine(), &rates, Some(&dark), &step, Some(&Normalize::default())).unwrap().image;
    for i in [5, 6, 7] {
        assert_eq!(flat.dq[i], dq::NO_FLAT_FIELD | dq::DO_NOT_USE);
    }
    let good: Vec<usize> = (8..N).collect();
    let mut values: Vec<f32> = good.iter().map(|&i| flat.data[i]).collect();
    assert!((super::super::robust::median(&mut values).unwrap() - 1.0).abs() < 1e-3);
    let norm: f64 = good.iter().map(|&i| f64::from(flat.data[i])).sum::<f64>()
        / good.iter().map(|&i| shape(i)).sum::<f64>();
    let residual: f64 = good.iter().map(|&i| (f64::from(flat.data[i]) - norm * shape(i)).powi(2)).sum();
    let stated: f64 = good.iter().map(|&i| f64::from(flat.err[i]).powi(2)).sum();
    let own: f64 = good.iter().map(|&i| f64::from(flat.err[i].powi(2) - flat.var_common[i])).sum();
    let common: f64 = good.iter().map(|&i| f64::from(flat.var_common[i])).sum();
    let pull = (residual / stated).sqrt();
    let naive = (residual / (own + common / 4.0)).sqrt();
    println!("flat: pull {pull:.4}, naive {naive:.4}");
    assert!((0.97..1.03).contains(&pull), "{pull}");
    assert!(naive > 1.4, "{naive}");
    let unlit = [Rate::zeros(120, 130)];
    let e = master_flat(&mut engine(), &unlit, None, &step, None).unwrap_err();
    assert!(e.to_string().contains("lamp"), "{e}");
}

#[test]
fn skies_of_different_levels_are_matched_and_hold_the_dark_once() {
    let mut normal = Normal(3);
    let rates: Vec<Rate> =
        (0..6).map(|k| rate(&mut normal, 0.1, |_| 0.5 + 5.0 * (1.0 + 0.1 * k as f64))).collect();
    let d = rate(&mut normal, 0.2, |_| 0.5);
    let dark = Image { nx: d.nx, ny: d.ny, data: d.data, err: d.err, dq: d.dq, var_common: vec![] };
    let sky = master_sky(&mut engine(), &rates, Some(&dark), &CombineFrames::default()).unwrap();
    let mean: f64 = sky.image.data.iter().map(|v| f64::from(*v)).sum::<f64>() / N as f64;
    let scatter: f64 = sky.image.data.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
    let stated: f64 = sky.image.err.iter().map(|e| f64::from(*e).powi(2)).sum();
    let pull = (scatter / stated).sqrt();
    println!("sky: mean {mean:.4}, pull {pull:.4}");
    assert!((0.97..1.03).contains(&pull), "{pull}");
    assert!(sky.levels[5] > 1.4 * sky.levels[0]);
    // The dark's coefficient is −1: adding the dark back leaves the sky's own noise.
    let own: f64 =
        (0..N).map(|i| f64::from(sky.image.data[i] + dark.data[i]) - mean - 0.5).map(|r| r * r).sum::<f64>();
    let stated: f64 = (0..N).map(|i| f64::from(sky.image.err[i].powi(2) - sky.image.var_common[i])).sum();
    let pull = (own / stated).sqrt();
    assert!((0.95..1.08).contains(&pull), "{pull}");
}

#[test]
fn no_frames_and_odd_frames_are_sentences() {
    let step = CombineFrames::default();
    assert!(master_sky(&mut engine(), &[], None, &step).is_err());
    let rates = [Rate::zeros(2, 3), Rate::zeros(3, 2)];
    assert!(master_sky(&mut engine(), &rates, None, &step).unwrap_err().to_string().contains("3 x 2"));
    let many = vec![Rate::zeros(1, 1); 300];
    assert!(master_sky(&mut engine(), &many, None, &step).unwrap_err().to_string().contains("300"));
}
