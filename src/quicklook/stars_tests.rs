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

/// Steps of a table of the diffraction pattern, pixels.
const STEP: f64 = 0.1;

/// The diffraction pattern by distance.
fn table(optics: &Optics, nx: usize) -> Vec<f64> {
    (0..(0.75 * nx as f64 / STEP) as usize).map(|k| optics.pattern(k as f64 * STEP)).collect()
}

/// The pattern of a telescope with adaptive optics on pixels: `strehl` of the light in the
/// diffraction pattern, the rest in a halo of the seeing (Moffat 1969, A&A 3, 455, β = 3;
/// its FWHM in pixels). Also gives its Strehl ratio, as defined: peak over peak.
fn corrected(table: &[f64], nx: usize, at: (f64, f64), strehl: f64, seeing: f64) -> (Vec<f32>, f64) {
    let pattern = |r: f64| {
        let (k, f) = ((r / STEP) as usize, (r / STEP).fract());
        table.get(k).zip(table.get(k + 1)).map_or(0.0, |(a, b)| a + f * (b - a))
    };
    let alpha = 0.5 * seeing / (2f64.powf(1.0 / 3.0) - 1.0).sqrt();
    let halo = |r: f64| 2.0 / std::f64::consts::PI / alpha.powi(2) * (1.0 + (r / alpha).powi(2)).powi(-3);
    let part = |k: i32| (f64::from(k) + 0.5) / 7.0 - 0.5;
    let value = |i: usize| {
        let (x, y) = ((i % nx) as f64 - at.0, (i / nx) as f64 - at.1);
        let r = x.hypot(y);
        let sharp = if r > 40.0 {
            pattern(r)
        } else {
            (0..49).map(|k| pattern((x + part(k % 7)).hypot(y + part(k / 7)))).sum::<f64>() / 49.0
        };
        (1e6 * (strehl * sharp + (1.0 - strehl) * halo(r)) + 3.0) as f32
    };
    let truth = strehl + (1.0 - strehl) * halo(0.0) / table[0];
    ((0..nx * nx).map(value).collect(), truth)
}

#[test]
fn strehl_ratios_of_stars_with_a_halo_are_found_again() {
    let nx = 801;
    let (mut worst, mut rows) = ([0f64; 2], String::new());
    // Y, H, K on the imager's pixels: λ/D is 1.7 to 3.8 of them.
    for wavelength in [1.02, 1.63, 2.2] {
        let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength, scale: 0.004 };
        let table = table(&optics, nx);
        for (strehl, dx, dy) in [(0.1, 0.0, 0.0), (0.4, 0.3, -0.4), (0.9, 0.5, 0.5)] {
            for (which, seeing) in [(0, 75.0), (1, 150.0)] {
                let (values, truth) = corrected(&table, nx, (400.0 + dx, 400.0 + dy), strehl, seeing);
                let field = Field { nx, values: &values };
                let star = at(&field, 400.0, 400.0).expect("a star");
                let got = optics.strehl(&field, &star).expect("a ratio");
                rows += &format!("{wavelength} µm, {seeing} px: {truth:.3} {got:.3}\n");
                worst[which] = worst[which].max((got - truth).abs());
            }
        }
    }
    // Halos of 0.3 and 0.6 arcsec.
    assert!(worst[0] < 0.01 && worst[1] < 0.025, "{worst:?}\n{rows}");
}

#[test]
fn a_strehl_ratio_that_cannot_be_known_is_none() {
    let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength: 2.2, scale: 0.004 };
    let nx = 301;
    let (values, truth) = corrected(&table(&optics, nx), nx, (150.0, 150.0), 0.5, 30.0);
    let ratio = |values: &[f32]| {
        let field = Field { nx, values };
        optics.strehl(&field, &at(&field, 150.0, 150.0).expect("a star"))
    };
    assert!(ratio(&values).is_some_and(|s| (s - truth).abs() < 0.02));
    // Noise in which the light of the halo is lost.
    let mut noise = Noise(9);
    let noisy = |sigma: f64, noise: &mut Noise| -> Vec<f32> {
        values.iter().map(|v| v + (sigma * noise.next()) as f32).collect()
    };
    assert!(ratio(&noisy(3.0, &mut noise)).is_some_and(|s| (s - truth).abs() < 0.05));
    assert_eq!(ratio(&noisy(1000.0, &mut noise)), None);
    // Too near the edge.
    let field = Field { nx, values: &values };
    let star = Star { x: 40.0, ..at(&field, 150.0, 150.0).expect("a star") };
    assert!(optics.strehl(&field, &star).is_none());
}

/// Lumps of noise in the halo of a very bright star are no stars.
#[test]
fn a_bright_stars_halo_has_no_stars_in_it() {
    let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength: 2.15, scale: 0.004 };
    let nx = 601;
    let (values, _) = corrected(&table(&optics, nx), nx, (300.0, 300.0), 0.3, 60.0);
    let total: f64 = values.iter().map(|v| f64::from(*v)).sum();
    let mut noise = Noise(5);
    // 3e6 electrons, and the noise of their number.
    let photons = |v: &f32, noise: &mut Noise| {
        let light = f64::from(*v) / total * 3e6;
        (light + (1.0 + light).sqrt() * noise.next()) as f32
    };
    let values: Vec<f32> = values.iter().map(|v| photons(v, &mut noise)).collect();
    let found = find(&Field { nx, values: &values }, 10.0, 60);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!((found[0].fwhm - 3.7).abs() < 0.2, "{found:?}");
}

/// Stars that are sharper than the telescope can make them: the wavelength or the size of a
/// pixel is wrong, and what neighbours have added to some is no ratio either.
#[test]
fn a_strehl_ratio_above_1_is_none_and_said() {
    let optics = Optics { diameter: 30.0, obstruction: 3.1, wavelength: 2.2, scale: 0.004 };
    let nx = 301;
    let mut noise = Noise(4);
    let mut values: Vec<f32> = (0..nx * nx).map(|_| noise.next() as f32).collect();
    for (x, y) in [(150.0, 150.0), (90.0, 150.0), (150.0, 210.0)] {
        self::star(&mut values, nx, x, y, 1e4, 0.9, 0.9);
    }
    let plane = crate::quicklook::Plane { nx, ny: nx, values };
    let measured = crate::quicklook::Measured::of(&plane, Some(&optics)).expect("measured");
    assert_eq!((measured.strehl, measured.stars), (None, Some(3)));
    assert!(measured.strehl_above_1.is_some_and(|s| s > 1.5), "{measured:?}");
}
