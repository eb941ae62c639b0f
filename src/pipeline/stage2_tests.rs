//! Errors of frames that share references: simulated, and judged by their pulls.

use super::*;
use crate::config::Combine;
use crate::datamodel::dq;
use crate::engine::CpuEngine;
use crate::kernels::normal::Normal;
use crate::pipeline::masters::{master_flat, master_sky};

const NY: usize = 151;
const NX: usize = 203;
const N: usize = NY * NX;

/// A frame of `level(i)` with normal noise σ.
fn rate(normal: &mut Normal, sigma: f64, level: impl Fn(usize) -> f64) -> Rate {
    let mut r = Rate::zeros(NY, NX);
    for i in 0..N {
        r.data[i] = (level(i) + sigma * normal.next()) as f32;
        r.err[i] = sigma as f32;
    }
    r
}

fn image(r: Rate) -> Image {
    Image { nx: r.nx, ny: r.ny, data: r.data, err: r.err, dq: r.dq, var_common: vec![] }
}

/// No sky is to be seen between these objects.
fn unscaled() -> Background {
    Background { scaling: SkyScaling::Fixed, ..Background::default() }
}

const DARK: f64 = 0.5;
const SKY: f64 = 6.0;

fn gain(i: usize) -> f64 {
    // Whole waves, so that the median is 1.
    1.0 + 0.2 * ((i % NX) as f64 * 2.0 * std::f64::consts::TAU / NX as f64).sin()
}

fn object(i: usize) -> f64 {
    3.0 + (i % 7) as f64
}

/// rms(value − truth) / rms(err).
fn pull(values: &[f32], err: impl Fn(usize) -> f64, truth: impl Fn(usize) -> f64) -> f64 {
    let residual: f64 = (0..N).map(|i| (f64::from(values[i]) - truth(i)).powi(2)).sum();
    let stated: f64 = (0..N).map(|i| err(i).powi(2)).sum();
    (residual / stated).sqrt()
}

struct Night {
    dark: Image,
    sky: Image,
    flat: Image,
    frames: Vec<Rate>,
}

/// One dark, a sky of two frames, a flat of three, `frames` science frames.
fn night(seed: u64, frames: usize, dark_noise: f64) -> Night {
    let mut normal = Normal(seed);
    let engine: &mut dyn Engine = &mut CpuEngine::new(1 << 30);
    let dark = image(rate(&mut normal, dark_noise, |_| DARK));
    let skies: Vec<_> = (0..2).map(|_| rate(&mut normal, 0.3, |i| DARK + SKY * gain(i))).collect();
    let flats: Vec<_> = (0..3).map(|_| rate(&mut normal, 1.0, |i| DARK + 50.0 * gain(i))).collect();
    let step = CombineFrames::default();
    let sky = master_sky(engine, &skies, Some(&dark), &step).unwrap().image;
    let flat = master_flat(engine, &flats, Some(&dark), &step, Some(&Default::default())).unwrap().image;
    let frames =
        (0..frames).map(|_| rate(&mut normal, 0.3, |i| DARK + (SKY + object(i)) * gain(i))).collect();
    Night { dark, sky, flat, frames }
}

fn reduced(night: &Night, frame: &Rate, background: &Background) -> Reduced {
    let references = References {
        dark: Some(&night.dark),
        flat: Some(&night.flat),
        sky: Some(Sky { image: &night.sky, same_dark: true }),
        ..References::default()
    };
    reduce(&mut CpuEngine::new(1 << 30), frame, &references, background).unwrap()
}

#[test]
fn a_dark_used_twice_cancels_and_naive_quadrature_does_not_know() {
    let night = night(1, 1, 0.12);
    let r = reduced(&night, &night.frames[0], &unscaled()).image;
    let ours = pull(&r.data, |i| r.err[i].into(), object);
    // Naive: every subtraction adds the variances of both sides.
    let naive = |i: usize| {
        let f = f64::from(night.flat.data[i]);
        let e = |v: f32| f64::from(v).powi(2);
        let relative = f64::from(night.flat.err[i] / night.flat.data[i] * r.data[i]).powi(2);
        ((e(night.frames[0].err[i]) + e(night.dark.err[i]) + e(night.sky.err[i])) / f / f + relative).sqrt()
    };
    let naively = pull(&r.data, naive, object);
    println!("pull {ours:.4}, naive {naively:.4}");
    assert!((0.97..1.03).contains(&ours), "{ours}");
    assert!((0.88..0.95).contains(&naively), "{naively}");
}

#[test]
fn frames_that_share_references_average_down_no_further_than_those() {
    let night = night(2, 8, 0.12);
    let images: Vec<Image> = night.frames.iter().map(|f| reduced(&night, f, &unscaled()).image).collect();
    let images: Vec<&Image> = images.iter().collect();
    for method in [Combine::Mean, Combine::Median] {
        let step = CombineFrames { method, ..Default::default() };
        let combine = |shared| combine_images(&mut CpuEngine::new(1 << 30), &images, &step, shared).unwrap();
        let (right, naive) = (combine(true), combine(false));
        let ours = pull(&right.data, |i| right.err[i].into(), object);
        let naively = pull(&naive.data, |i| naive.err[i].into(), object);
        println!("{method:?}: pull {ours:.4}, naive {naively:.4}");
        assert!((0.97..1.03).contains(&ours), "{method:?} {ours}");
        assert!(naively > 1.4, "{method:?} {naively}");
    }
}

#[test]
fn a_sky_frame_is_scaled_to_the_science_frame() {
    let night = night(3, 0, 0.1);
    let mut normal = Normal(33);
    let frame =
        rate(&mut normal, 0.3, |i| DARK + (1.3 * SKY + if i % 50 == 0 { 40.0 } else { 0.0 }) * gain(i));
    let median = Background { scaling: SkyScaling::Median, ..Default::default() };
    let r = reduced(&night, &frame, &median);
    assert!((r.sky_scale.unwrap() - 1.3).abs() < 0.01, "{:?}", r.sky_scale);
    let ours = pull(&r.image.data, |i| r.image.err[i].into(), |i| if i % 50 == 0 { 40.0 } else { 0.0 });
    println!("scale {:?}, pull {ours:.4}", r.sky_scale);
    assert!((0.97..1.03).contains(&ours), "{ours}");
    let none = Image { data: vec![0.0; N], ..night.sky.clone() };
    let references = References { sky: Some(Sky { image: &none, same_dark: false }), ..Default::default() };
    let r = reduce(&mut CpuEngine::new(1 << 30), &frame, &references, &median).unwrap();
    assert!(r.sky_scale == Some(1.0) && r.warnings.len() == 1);
}

#[test]
fn another_dark_in_the_sky_does_not_cancel() {
    let mut normal = Normal(4);
    let (one, two) = (image(rate(&mut normal, 0.3, |_| DARK)), image(rate(&mut normal, 0.3, |_| DARK)));
    let skies = [rate(&mut normal, 0.2, |_| DARK + SKY)];
    let sky = master_sky(&mut CpuEngine::new(1 << 30), &skies, Some(&two), &CombineFrames::default())
        .unwrap()
        .image;
    let frame = rate(&mut normal, 0.2, |i| DARK + SKY + object(i));
    let references = References {
        dark: Some(&one),
        sky: Some(Sky { image: &sky, same_dark: false }),
        ..References::default()
    };
    let r = reduce(&mut CpuEngine::new(1 << 30), &frame, &references, &unscaled()).unwrap().image;
    let ours = pull(&r.data, |i| r.err[i].into(), object);
    assert!((0.97..1.03).contains(&ours), "{ours}");
}

#[test]
fn bad_pixels_and_wrong_sizes() {
    let mut night = night(5, 1, 0.1);
    night.frames[0].dq[0] = dq::DO_NOT_USE;
    night.frames[0].dq[6] = dq::JUMP_DET;
    night.dark.data[1] = f32::NAN;
    night.dark.dq[2] = dq::HOT | dq::JUMP_DET;
    night.flat.data[3] = 0.0;
    night.flat.dq[4] = dq::DO_NOT_USE;
    night.sky.data[5] = f32::NAN;
    let r = reduced(&night, &night.frames[0], &Background::default()).image;
    let flagged: Vec<u32> = r.dq[..8].to_vec();
    let bad = dq::DO_NOT_USE;
    let expected = [
        bad,
        bad | dq::UNRELIABLE_DARK,
        dq::HOT,
        bad | dq::NO_FLAT_FIELD,
        bad | dq::NO_FLAT_FIELD,
        bad,
        dq::JUMP_DET,
        0,
    ];
    assert_eq!(flagged, expected);
    for i in 0..8 {
        let nan = r.dq[i] & bad != 0;
        assert!(r.data[i].is_nan() == nan && r.err[i].is_nan() == nan, "{i}");
    }
    let small = image(Rate::zeros(3, 4));
    let references = References { dark: Some(&small), ..Default::default() };
    let e = reduce(&mut CpuEngine::new(1 << 30), &night.frames[0], &references, &Background::default());
    assert!(e.unwrap_err().to_string().contains("4 x 3"));
}

#[test]
fn chunks_do_not_change_a_bit() {
    let night = night(6, 5, 0.1);
    let images: Vec<Image> =
        night.frames.iter().map(|f| reduced(&night, f, &Background::default()).image).collect();
    let images: Vec<&Image> = images.iter().collect();
    let combine = |memory| {
        let step = CombineFrames::default();
        combine_images(&mut CpuEngine::new(memory), &images, &step, true).unwrap()
    };
    assert_eq!(combine(1 << 30), combine(1 << 20));
}

#[test]
fn a_gpu_gives_the_same_images() {
    let Some(mut gpu) = crate::engine::testing::gpu() else { return };
    let close = crate::engine::testing::close;
    let night = night(7, 3, 0.1);
    let references = References {
        dark: Some(&night.dark),
        flat: Some(&night.flat),
        sky: Some(Sky { image: &night.sky, same_dark: true }),
        ..References::default()
    };
    let on = |engine: &mut dyn Engine| -> Image {
        let reduced: Vec<Image> = night
            .frames
            .iter()
            .map(|f| reduce(engine, f, &references, &Background::default()).unwrap().image)
            .collect();
        let images: Vec<&Image> = reduced.iter().collect();
        combine_images(engine, &images, &CombineFrames::default(), true).unwrap()
    };
    let (a, b) = (on(gpu.as_mut()), on(&mut CpuEngine::new(1 << 30)));
    assert_eq!(a.dq, b.dq);
    close(&a.data, &b.data, 1e-5, 1e-5, 0).unwrap();
    close(&a.err, &b.err, 0.0, 1e-5, 0).unwrap();
    close(&a.var_common, &b.var_common, 0.0, 2e-5, 0).unwrap();
    let wrong: Vec<f32> = a.data.iter().map(|v| v + 1e-3).collect();
    close(&wrong, &b.data, 1e-5, 1e-5, 0).expect_err("a perturbed image must be seen");
}
