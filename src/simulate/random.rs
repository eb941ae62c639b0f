//! Random variates from uniform words: normal (inverse distribution function,
//! Wichura 1988, AS 241, PPND7) and Poisson (inversion below a mean of 10,
//! Hörmann's 1993 transformed rejection PTRS above: exact at any mean).

use super::philox::{Source, Stream};

/// Uniform in the open interval (0, 1).
pub(super) fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// Standard normal of one word (|z| < 6.4), good to 1e-7.
#[inline]
pub(crate) fn normal(word: u32) -> f64 {
    let q = unit(word) - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * (((59.109_374_720 * r + 159.291_132_02) * r + 50.434_271_938) * r + 3.387_132_717_9)
            / (((67.187_563_600 * r + 78.757_757_664) * r + 17.895_169_469) * r + 1.0);
    }
    let tail = 0.5 - q.abs();
    let r = (-tail.ln()).sqrt();
    let z = if r <= 5.0 {
        let r = r - 1.6;
        (((0.170_238_211_03 * r + 1.306_728_481_6) * r + 2.756_815_390_0) * r + 1.423_437_277_7)
            / ((0.120_211_329_75 * r + 0.737_001_642_50) * r + 1.0)
    } else {
        let r = r - 5.0;
        (((0.017_337_203_997 * r + 0.428_682_943_37) * r + 3.081_226_386_0) * r + 6.657_905_115_0)
            / ((0.012_258_202_635 * r + 0.241_978_942_25) * r + 1.0)
    };
    z.copysign(q)
}

/// Poisson variate of mean `mean` (0 where it is not positive), from `words` and,
/// where a draw is rejected, further words of `source` at row `y`, draw `z`,
/// columns 2³¹ up (which no detector has).
#[inline]
pub(crate) fn poisson(mean: f64, words: [u32; 2], source: &Source, x: u32, y: u32, z: u32) -> f64 {
    if mean.is_nan() || mean <= 0.0 {
        return 0.0;
    }
    if mean < 10.0 {
        return small(mean, words);
    }
    // 64 further blocks a pixel are reserved; a draw is accepted with probability > 0.8.
    let next = 0x8000_0000 | (x << 6);
    let mut stream = Stream::after(*source, next, y, z, [0, 0, words[0], words[1]], 2);
    large(mean, &mut stream)
}

/// Inversion with 63 bits, so that tails of 1e-15 are there.
fn small(mean: f64, words: [u32; 2]) -> f64 {
    let u = (f64::from(words[0]) + (f64::from(words[1]) + 0.5) / 4_294_967_296.0) / 4_294_967_296.0;
    // exp(−m) ≥ 1 − m: most draws of a faint pixel need no exponential.
    if u <= 1.0 - mean {
        return 0.0;
    }
    let mut p = (-mean).exp();
    let (mut below, mut k) = (p, 0.0);
    while u > below && k < 200.0 {
        k += 1.0;
        p *= mean / k;
        below += p;
    }
    k
}

/// Hörmann (1993), Insurance: Mathematics and Economics 12, 39; algorithm PTRS.
fn large(mean: f64, stream: &mut Stream) -> f64 {
    let root = mean.sqrt();
    let b = 0.931 + 2.53 * root;
    let a = -0.059 + 0.02483 * b;
    let v_fast = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let u = stream.uniform() - 0.5;
        let v = stream.uniform();
        let us = 0.5 - u.abs();
        let k = floor((2.0 * a / us + b) * u + mean + 0.43);
        if us >= 0.07 && v <= v_fast {
            return k;
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        let left = (v * inverse_alpha / (a / (us * us) + b)).ln();
        if left <= k * mean.ln() - mean - ln_factorial(k) {
            return k;
        }
    }
}

/// `f64::floor` without the call it costs where the processor's own is not assumed.
fn floor(x: f64) -> f64 {
    let whole = x as i64 as f64;
    if whole > x { whole - 1.0 } else { whole }
}

/// ln k!, by Stirling's series from 10 on.
fn ln_factorial(k: f64) -> f64 {
    if k < 10.0 {
        return (2..=k as u32).map(|i| f64::from(i).ln()).sum();
    }
    let n = k + 1.0;
    let i = 1.0 / n;
    (n - 0.5) * n.ln() - n
        + 0.918_938_533_204_672_7
        + i * (1.0 / 12.0 - i * i * (1.0 / 360.0 - i * i / 1260.0))
}

/// The error function, to 1.5e-15: its series below 2.5, a continued fraction of
/// the complement above.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let gauss = (-a * a).exp();
    if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 1.0);
        while term > 1e-17 * sum {
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        return (sum * gauss * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let fraction = (1..=60).rev().fold(a, |f, k| a + 0.5 * f64::from(k) / f);
    (1.0 - gauss / fraction / std::f64::consts::PI.sqrt()).copysign(x)
}

/// Fraction of a unit Gaussian of width `sigma` at `centre` that falls on the
/// pixel at `pixel` (its centre an integer, its width 1).
pub(super) fn gauss_pixel(pixel: f64, centre: f64, sigma: f64) -> f64 {
    let s = std::f64::consts::SQRT_2 * sigma;
    0.5 * (erf((pixel + 0.5 - centre) / s) - erf((pixel - 0.5 - centre) / s))
}

/// FWHM to σ of a Gaussian.
pub(super) const SIGMA: f64 = 0.424_660_900_144_009_5;

#[cfg(test)]
mod tests {
    use super::super::philox::Purpose;
    use super::*;

    #[test]
    fn normal_quantiles_and_moments() {
        let word = |p: f64| (p * 4_294_967_296.0) as u32;
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_98), (0.001, -3.090_232_31), (0.8413447, 0.99999982)] {
            assert!((normal(word(p)) - z).abs() < 1e-6, "{p}: {}", normal(word(p)));
        }
        assert!((normal(0) + 6.337).abs() < 0.01, "{}", normal(0));
        let mut s = Source::new(5, Purpose::Map, 0).stream(0, 0);
        let n = 200_000;
        let z: Vec<f64> = (0..n).map(|_| s.normal()).collect();
        let m = |p: i32| z.iter().map(|v| v.powi(p)).sum::<f64>() / f64::from(n);
        assert!(
            m(1).abs() < 0.01 && (m(2) - 1.0).abs() < 0.02 && m(3).abs() < 0.03 && (m(4) - 3.0).abs() < 0.1
        );
    }

    #[test]
    fn poisson_mean_variance_and_skewness() {
        let source = Source::new(9, Purpose::Pixel, 0);
        for (which, mean) in [0.02, 0.7, 3.0, 9.9, 10.1, 40.0, 1000.0, 90_000.0].into_iter().enumerate() {
            let n = 100_000u32;
            let k: Vec<f64> = (0..n)
                .map(|x| {
                    let w = source.block(x, which as u32, 0);
                    poisson(mean, [w[1], w[2]], &source, x, which as u32, 0)
                })
                .collect();
            let average = k.iter().sum::<f64>() / f64::from(n);
            let moment = |p| k.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / f64::from(n);
            let sigma = (mean / f64::from(n)).sqrt();
            assert!((average - mean).abs() < 4.5 * sigma, "mean {mean}: {average}");
            let tolerance = 4.5 * ((2.0 + 1.0 / mean) / f64::from(n)).sqrt();
            assert!((moment(2) / mean - 1.0).abs() < tolerance, "variance {mean}: {}", moment(2));
            let skew = moment(3) / mean.powf(1.5) - mean.powf(-0.5);
            assert!(skew.abs() < 0.04 + 0.15 / mean, "skewness {mean}: {skew}");
        }
        assert_eq!(poisson(f64::NAN, [1, 2], &source, 0, 0, 0), 0.0);
    }

    #[test]
    fn poisson_follows_its_distribution() {
        // Chi-square of the counts at a mean where PTRS's steps matter most.
        let source = Source::new(11, Purpose::Pixel, 0);
        let (mean, n) = (12.0, 200_000u32);
        let mut counts = [0f64; 40];
        for x in 0..n {
            let w = source.block(x, 0, 0);
            let k = poisson(mean, [w[1], w[2]], &source, x, 0, 0) as usize;
            counts[k.min(39)] += 1.0;
        }
        let mut chi2 = 0.0;
        let mut cells = 0;
        for (k, count) in counts.iter().enumerate().take(39) {
            let expected = f64::from(n) * (k as f64 * mean.ln() - mean - ln_factorial(k as f64)).exp();
            if expected > 10.0 {
                chi2 += (count - expected).powi(2) / expected;
                cells += 1;
            }
        }
        assert!(chi2 < f64::from(cells) + 4.5 * f64::from(2 * cells).sqrt(), "{chi2} in {cells}");
    }

    #[test]
    fn erf_is_right() {
        for (x, y) in [
            (0.1, 0.112_462_916_018_284_9),
            (1.0, 0.842_700_792_949_714_9),
            (2.6, 0.999_763_965_583_470_6),
            (-3.5, -0.999_999_256_901_627_7),
        ] {
            assert!((erf(x) - y).abs() < 2e-14, "erf({x}) = {}", erf(x));
        }
        let total: f64 = (-20..=20).map(|i| gauss_pixel(f64::from(i), 0.3, 1.1)).sum();
        assert!((total - 1.0).abs() < 1e-12);
    }
}
