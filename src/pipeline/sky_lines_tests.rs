use super::*;
use crate::config::SkySub;
use crate::pipeline::cube::sky_sub;

const NX: usize = 12;
const NW: usize = 700;
const STEP: f64 = 2.5e-4;

/// Lines of the families 4-2, 5-3 and 6-4: µm, e-/s; the second of each group is a
/// weak one.
const LINES: [(f64, f64); 12] = [
    (1.5833, 900.0),
    (1.5972, 150.0),
    (1.6030, 700.0),
    (1.6129, 400.0),
    (1.6502, 500.0),
    (1.6554, 120.0),
    (1.6692, 1000.0),
    (1.6904, 800.0),
    (1.7009, 450.0),
    (1.7303, 90.0),
    (1.7351, 300.0),
    (1.7450, 260.0),
];

/// Even numbers of no pattern in 0..1, and from them a normal one.
fn normal(state: &mut u64) -> f64 {
    let mut sum = 0.0;
    for _ in 0..12 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sum += (*state >> 11) as f64 / (1u64 << 53) as f64;
    }
    sum - 6.0
}

/// A line's light on channel `k` whose centre is at `x`: the Gaussian's integral.
fn line(k: usize, x: f64, sigma: f64) -> f64 {
    let fine = 20;
    (0..fine)
        .map(|j| {
            let d = k as f64 - 0.5 + (f64::from(j) + 0.5) / f64::from(fine) - x;
            (-0.5 * (d / sigma).powi(2)).exp() / (sigma * std::f64::consts::TAU.sqrt()) / f64::from(fine)
        })
        .sum()
}

/// A cube: families times `factors`, lines `shift` channels to the red, of a width
/// that changes over the field; with a star where `star`.
fn cube(factors: [f64; 3], shift: f64, noise: f64, star: bool, seed: u64) -> Cube {
    let mut state = seed;
    let n = NX * NX * NW;
    let wavelength: Vec<f64> = (0..NW).map(|k| 1.58 + k as f64 * STEP).collect();
    let mut data = vec![0f32; n];
    for s in 0..NX * NX {
        let sigma = 1.0 + 0.1 * (s % NX) as f64 / NX as f64;
        let mut spectrum = vec![50.0; NW];
        for (wave, flux) in LINES {
            let group = usize::from(wave > 1.6356) + usize::from(wave > 1.7253);
            let x = (wave - wavelength[0]) / STEP + shift;
            let near = (x as usize).saturating_sub(8)..(x as usize + 9).min(NW);
            near.for_each(|k| spectrum[k] += factors[group] * flux * line(k, x, sigma));
        }
        let (dx, dy) = ((s % NX) as f64 - 3.0, (s / NX) as f64 - 3.0);
        let light = if star { 400.0 * (-0.5 * (dx * dx + dy * dy) / 2.0).exp() } else { 0.0 };
        for (k, v) in spectrum.iter().enumerate() {
            data[k * NX * NX + s] = (v + light + noise * normal(&mut state)) as f32;
        }
    }
    Cube {
        nx: NX,
        ny: NX,
        nw: NW,
        data,
        err: vec![noise.max(1e-3) as f32; n],
        dq: vec![0; n],
        wavelength,
        ..Cube::default()
    }
}

/// Largest mean residual of the rows without the star, in parts of the brightest
/// line's peak in the science cube.
fn residual(c: &Cube) -> f64 {
    let plane = NX * NX;
    let peak = 2.0 * 900.0 * line(0, 0.0, 1.0);
    let mean = |k: usize| {
        (plane / 2 + 2 * NX..plane).map(|s| f64::from(c.data[k * plane + s])).sum::<f64>()
            / (plane / 2 - 2 * NX) as f64
    };
    (0..NW).map(|k| mean(k).abs() / peak).fold(0.0, f64::max)
}

#[test]
fn families_and_shift_are_found_and_taken_away() {
    let factors = [2.0, 0.5, 1.6];
    let science = cube(factors, 0.12, 1.0, true, 3);
    let sky = cube([1.0; 3], 0.0, 1.0, false, 4);
    let found = fit(&science, &sky, 1.0).expect("lines");
    assert_eq!(found.factors.iter().map(|f| FAMILIES[f.family].2).collect::<Vec<_>>(), ["4-2", "5-3", "6-4"]);
    for (f, truth) in found.factors.iter().zip(factors) {
        println!("{}: {:.4} ± {:.4}, truth {truth}", FAMILIES[f.family].2, f.value, f.error);
        assert!((f.value / truth - 1.0).abs() < 0.01, "{f:?}");
    }
    println!("shift {:.4} ± {:.4} channels, truth 0.12", found.shift, found.shift_error);
    assert!((found.shift - 0.12).abs() < 0.02);

    let mut plain = science.clone();
    sky_sub(&mut plain, &sky, &SkySub::default(), false).expect("sky_sub");
    let mut scaled = science.clone();
    let by = SkySub { oh_scaling: true, ..SkySub::default() };
    let lines = sky_sub(&mut scaled, &sky, &by, false).expect("sky_sub");
    println!("residual over the brightest peak: {:.4}, unscaled {:.4}", residual(&scaled), residual(&plain));
    assert!(lines.is_some() && residual(&scaled) <= 0.01 && residual(&plain) > 0.2);
    // The common error is a spectrum: on lines alone.
    assert_eq!(scaled.sky_err.len(), NW);
    let found = lines.expect("lines");
    assert!((0..NW).all(|k| (scaled.sky_err[k] > 0.0) <= found.line[k]));
    assert!(scaled.sky_err.iter().any(|e| *e > 0.0));
}

#[test]
fn what_cannot_be_measured_is_left_as_it_is() {
    // The same sky without noise: factors 1, no shift, nothing left.
    let sky = cube([1.0; 3], 0.0, 0.0, false, 1);
    let found = fit(&sky, &sky, 1.0).expect("lines");
    assert!(found.factors.iter().all(|f| (f.value - 1.0).abs() < 1e-9) && found.shift.abs() < 1e-9);
    // No lines: no fit. A family without lines: said.
    assert_eq!(fit(&cube([1.0; 3], 0.0, 1.0, false, 1), &cube([0.0; 3], 0.0, 1.0, false, 2), 1.0), None);
    let two =
        fit(&cube([1.0, 1.0, 0.0], 0.0, 1.0, false, 1), &cube([1.0, 1.0, 0.0], 0.0, 1.0, false, 2), 1.0);
    assert_eq!(two.expect("lines").faint, [10]);
}
