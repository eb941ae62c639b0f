//! Stars of known width, position, flux and Strehl ratio.

use super::*;

/// A deterministic normal deviate (sum of twelve).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }
}

/// A Gaussian star integrated over pixels (by 9 × 9 points each).
fn star(values: &mut [f32], nx: usize, x: f64, y: f64, flux: f64, sx: f64, sy: f64) {
    for (i, v) in values.iter_mut().enumerate() {
        let (px, py) = ((i % nx) as f64, (i / nx) as f64);
        if (px - x).hypot(py - y) > 30.0 {
            continue;
        }
        let part = |k: usize| (k as f64 + 0.5) / 9.0 - 0.5;
        let sum: f64 = (0..81)
            .map(|k| {
                let (u, w) = (px - x + part(k % 9), py - y + part(k / 9));
                (-0.5 * ((u / sx).powi(2) + (w / sy).powi(2))).exp()
            })
            .sum();
        *v += (flux * sum / 81.0 / (std::f64::consts::TAU * sx * sy)) as f32;
    }
}

#[test]
fn widths_positions_and_fluxes_without_noise() {
    for fwhm in [2.0, 3.0, 5.0, 9.0] {
        let nx = 80;
        let mut values = vec![7f32; nx * 70];
        let s = fwhm / FWHM;
        star(&mut values, nx, 40.3, 35.7, 1000.0, s, s);
        let got = at(&Field { nx, values: &values }, 41.0, 35.0).expect("a star");
        assert!((got.fwhm / fwhm - 1.0).abs() < 0.005, "{fwhm}: {got:?}");
        assert!((got.x - 40.3).abs() < 0.005 && (got.y - 35.7).abs() < 0.005, "{got:?}");
        assert!((got.flux / 1000.0 - 1.0).abs() < 0.01 && (got.background - 7.0).abs() < 0.2, "{got:?}");
        assert!(got.ellipticity < 0.01);
    }
    let nx = 61;
    let mut values = vec![0f32; nx * nx];
    star(&mut values, nx, 30.0, 30.0, 500.0, 2.0, 1.5);
    let got = fit(&Field { nx, values: &values }, 30.0, 30.0).expect("a star");
    assert!((got.ellipticity - 0.25).abs() < 0.005, "{got:?}");
}

#[test]
fn widths_in_noise_are_not_biased_and_hot_pixels_are_no_stars() {
    let (nx, ny, sigma) = (400, 400, 2.0);
    let mut noise = Noise(5);
    let mut values: Vec<f32> = (0..nx * ny).map(|_| (50.0 + sigma * noise.next()) as f32).collect();
    let s = 3.2 / FWHM;
    let mut truth = Vec::new();
    for k in 0..36 {
        let (x, y) = (35.0 + 62.0 * f64::from(k % 6) + 0.13 * f64::from(k), 35.0 + 62.0 * f64::from(k / 6));
        star(&mut values, nx, x, y, 1500.0, s, s);
        truth.push((x, y));
    }
    for hot in [20 * nx + 300, 200 * nx + 10, 333 * nx + 70] {
        values[hot] += 4000.0;
    }
    values[100 * nx + 100] = f32::NAN;
    let found = find(&Field { nx, values: &values }, 8.0, 60);
    assert_eq!(found.len(), 36);
    for f in &found {
        assert!(truth.iter().any(|t| (t.0 - f.x).hypot(t.1 - f.y) < 0.15), "{f:?}");
    }
    let mean = found.iter().map(|f| f.fwhm).sum::<f64>() / 36.0;
    assert!((mean / 3.2 - 1.0).abs() < 0.01, "{mean}");
    // Nothing is found in nothing.
    assert!(find(&Field { nx: 10, values: &[f32::NAN; 100] }, 5.0, 9).is_empty());
    assert!(find(&Field { nx: 0, values: &[] }, 5.0, 9).is_empty());
}

#[test]
fn depth_is_the_star_whose_best_fit_has_that_ratio() {
    // (Σ P²)^(−1/2) σ for a profile P of unit volume, summed on pixels.
    let (sigma, s) = (2.0f64, 2.0f64);
    let square: f64 = (-30..=30)
        .flat_map(|j| (-30..=30).map(move |i| f64::from(i * i + j * j)))
        .map(|r2| ((-0.5 * r2 / s / s).exp() / (std::f64::consts::TAU * s * s)).powi(2))
        .sum();
    let expected = 5.0 * sigma / square.sqrt();
    assert!((depth(sigma, s * FWHM, 5.0) / expected - 1.0).abs() < 1e-6);
}

#[test]
fn bessel_functions_and_the_annular_pattern() {
    // Abramowitz & Stegun, table 9.1.
    for (x, j1) in
        [(0.0, 0.0), (1.0, 0.440_050_585_744), (5.0, -0.327_579_137_591), (17.0, -0.097_668_492_757)]
    {
        assert!((bessel_j1(x) - j1).abs() < 1e-11, "{x}");
    }
    let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength: 2.2, scale: 0.004 };
    assert!((optics.lambda_over_d() - 3.7815).abs() < 1e-3);
    // All the light is in the whole pattern, but for what is far out.
    let (near, far) = (optics.within(10.0 * 3.78), optics.within(200.0 * 3.78));
    assert!(near > 0.95 && near < far && (0.995..1.0).contains(&far), "{near} {far}");
}

#[test]
fn strehl_ratios_of_made_stars_are_found_again() {
    let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength: 2.2, scale: 0.004 };
    let nx = 161;
    for (strehl, x, y) in [(1.0, 80.0, 80.0), (0.6, 80.3, 79.6), (0.25, 79.5, 80.5)] {
        // The sharp part, and the rest in a wide halo within the circle of 10 λ/D.
        let mut values = vec![3f32; nx * nx];
        for (i, v) in values.iter_mut().enumerate() {
            *v += (1e5 * strehl * optics.in_pixel((i % nx) as f64 - x, (i / nx) as f64 - y)) as f32;
        }
        let s = 10.0;
        star(&mut values, nx, x, y, 1e5 * (1.0 - strehl), s, s);
        let field = Field { nx, values: &values };
        let star = at(&field, 80.0, 80.0).expect("a star");
        let got = optics.strehl(&field, &star).expect("a ratio");
        // The halo adds a little to the peak.
        let halo = (1.0 - strehl) / (std::f64::consts::TAU * s * s) / optics.in_pixel(0.0, 0.0);
        assert!((got - strehl - halo).abs() < 0.04, "{strehl} + {halo}: {got}");
    }
    // Sharper than the telescope: no answer.
    let mut values = vec![0f32; nx * nx];
    star(&mut values, nx, 80.0, 80.0, 1e4, 0.9, 0.9);
    let field = Field { nx, values: &values };
    let star = at(&field, 80.0, 80.0).expect("a star");
    assert!(optics.strehl(&field, &star).is_none());
}
