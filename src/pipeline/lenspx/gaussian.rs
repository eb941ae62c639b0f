//! The Gaussian integrated over pixels: pixel i holds Φ((i + ½ − c)/σ) − Φ((i − ½ − c)/σ).

use std::sync::LazyLock;

/// FWHM over σ of a Gaussian.
pub const FWHM: f64 = 2.354_820_045_030_949;

const STEPS: f64 = 64.0;
const EDGE: f64 = 7.0;

/// Φ at steps of 1/64 by its Taylor series; between them by cubic Hermite
/// interpolation (error below 4e-10).
static TABLE: LazyLock<Vec<(f64, f64)>> = LazyLock::new(|| {
    let n = (2.0 * EDGE * STEPS) as i32 + 2;
    (0..n)
        .map(|i| {
            let x = f64::from(i) / STEPS - EDGE;
            // Φ(x) = ½ + φ(x) Σ x^(2k+1) / (1·3·5…(2k+1)).
            let (mut term, mut sum, mut k) = (x, x, 1.0);
            while term.abs() > 1e-18 * sum.abs() {
                term *= x * x / (2.0 * k + 1.0);
                sum += term;
                k += 1.0;
            }
            let density = density(x);
            (0.5 + density * sum, density)
        })
        .collect()
});

/// The normal density φ.
pub fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The normal distribution Φ.
pub fn cumulative(x: f64) -> f64 {
    if x <= -EDGE {
        return 0.0;
    }
    if x >= EDGE {
        return 1.0;
    }
    let u = (x + EDGE) * STEPS;
    let i = u as usize;
    let ((a, da), (b, db)) = (TABLE[i], TABLE[i + 1]);
    let (t, h) = (u - i as f64, 1.0 / STEPS);
    let s = 1.0 - t;
    a * s * s * (1.0 + 2.0 * t) + b * t * t * (1.0 + 2.0 * s) + h * t * s * (da * s - db * t)
}

/// Fills `out[k]` with the share of pixel `first + k` in a profile at `centre`.
pub fn profile(centre: f64, sigma: f64, first: i64, out: &mut [f64]) {
    let mut before = cumulative((first as f64 - 0.5 - centre) / sigma);
    for (k, o) in out.iter_mut().enumerate() {
        let after = cumulative((first as f64 + k as f64 + 0.5 - centre) / sigma);
        *o = after - before;
        before = after;
    }
}

/// Share of pixel `i`, and its derivatives by centre and by σ.
pub fn with_slopes(centre: f64, sigma: f64, i: i64) -> (f64, f64, f64) {
    let (a, b) = ((i as f64 - 0.5 - centre) / sigma, (i as f64 + 0.5 - centre) / sigma);
    let (da, db) = (density(a), density(b));
    (cumulative(b) - cumulative(a), (da - db) / sigma, (a * da - b * db) / sigma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_slopes() {
        assert!((cumulative(1.0) - 0.841_344_746_068_543).abs() < 1e-9);
        assert!((cumulative(-2.013) - 0.022_057_5).abs() < 1e-6);
        let h = 1e-4;
        let (p, by_centre, by_sigma) = with_slopes(3.2, 0.8, 4);
        let at = |c: f64, s: f64| with_slopes(c, s, 4).0;
        assert!((by_centre - (at(3.2 + h, 0.8) - at(3.2 - h, 0.8)) / (2.0 * h)).abs() < 1e-5);
        assert!((by_sigma - (at(3.2, 0.8 + h) - at(3.2, 0.8 - h)) / (2.0 * h)).abs() < 1e-5);
        let mut all = [0.0; 12];
        profile(3.2, 0.8, -2, &mut all);
        assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-9 && (all[6] - p).abs() < 1e-15);
    }
}
