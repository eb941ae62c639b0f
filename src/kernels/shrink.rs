//! Shrinkage of noisy offsets: keeps of a pattern what stands out of its noise, so
//! that subtracting it never adds more noise than it removes.
//!
//! A pattern of n values at each of several times is split into an orthonormal
//! Haar basis along n. All coefficients of one level share a signal variance; it
//! is estimated from all times as the excess of their mean square over the noise,
//! and the level is multiplied by signal/(signal + noise) (James–Stein shrinkage;
//! Donoho & Johnstone 1995 for the wavelet form). Levels of few coefficients are
//! taken together.
//!
//! The noise is the greater of two: what is known of it, and what the two halves
//! of the measurement (two sides, two ends) disagree by. With halves a and b the
//! value is (a + b)/2, and the mean square of the value less that of (a − b)/2 is
//! the covariance of a and b: only what both halves saw counts as signal, whatever
//! either saw alone.
//!
//! A level whose excess could be chance is dropped: a night tries thousands of
//! levels, so it must stand out by 4.5 σ of χ² made normal by its cube root
//! (Wilson & Hilferty 1931), or of F where the noise is that of the halves
//! (Paulson 1942).

/// Least significance of a level's excess, σ.
const SIGNIFICANCE: f64 = 4.5;
/// The halves' noise is believed from this significance on, σ.
const DISAGREE: f64 = 3.0;
/// Least degrees of freedom of a level: coarser ones are taken together.
const LEAST: f64 = 8.0;
/// With fewer degrees of freedom no ratio is certain: the halves' noise counts as known.
const FEW: f64 = 4.0;

/// What is known of the noise of a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Noise<'a> {
    /// Variance of a value.
    pub white: f64,
    /// Half the difference of the two halves, of the values' shape.
    pub spread: Option<&'a [f64]>,
    /// Number of independent times (a mean over time taken out costs one).
    pub independent: f64,
}

/// Shrinks `values` (`[time][n]`) in place; the mean over n is part of the pattern
/// (its level has one coefficient). Returns the noise variance left in a value, in
/// the unit of [`Noise::white`].
pub fn shrink(values: &mut [f64], n: usize, noise: Noise<'_>) -> f64 {
    if n == 0 || values.is_empty() {
        return 0.0;
    }
    let times = values.len() / n;
    let lost = noise.independent / times as f64;
    let mut spread = noise.spread.map(<[f64]>::to_vec).unwrap_or_default();
    forward_all(&mut spread, n);
    forward_all(values, n);
    let mut left = 0.0;
    for (start, end) in levels(n, noise.independent) {
        let freedom = ((end - start) as f64 * noise.independent).max(1.0);
        let power = mean_square(values, n, start, end);
        let white = noise.white * lost;
        let seen = if spread.is_empty() { 0.0 } else { mean_square(&spread, n, start, end) };
        let known = excess(seen / white, freedom, f64::INFINITY) < DISAGREE || freedom < FEW;
        let expected = white.max(seen);
        let significance = excess(power / expected, freedom, if known { f64::INFINITY } else { freedom });
        let keep = if significance > SIGNIFICANCE { 1.0 - expected / power } else { 0.0 };
        if keep > 0.0 {
            left += keep * keep * expected / lost * (end - start) as f64 / n as f64;
        }
        for row in values.chunks_mut(n) {
            row[start..end].iter_mut().for_each(|v| *v *= keep);
        }
    }
    for row in values.chunks_mut(n) {
        inverse(row);
    }
    left
}

/// Like [`shrink`], for a pattern that varies smoothly along n: the mean over eight
/// circular shifts of the basis (cycle spinning, Coifman & Donoho 1995), so that the
/// steps of one basis do not show. The noise returned is the mean of the eight, which
/// their mean does not exceed.
pub fn shrink_smooth(values: &mut [f64], n: usize, noise: Noise<'_>) -> f64 {
    const SHIFTS: [usize; 8] = [0, 1, 3, 7, 13, 26, 51, 102];
    if n == 0 {
        return 0.0;
    }
    let (mut mean, mut left) = (vec![0.0; values.len()], 0.0);
    for shift in SHIFTS.map(|s| s % n) {
        let mut turned = values.to_vec();
        turned.chunks_mut(n).for_each(|row| row.rotate_left(shift));
        let mut spread = noise.spread.map(<[f64]>::to_vec);
        spread.iter_mut().flat_map(|s| s.chunks_mut(n)).for_each(|row| row.rotate_left(shift));
        left += shrink(&mut turned, n, Noise { spread: spread.as_deref(), ..noise }) / SHIFTS.len() as f64;
        turned.chunks_mut(n).for_each(|row| row.rotate_right(shift));
        mean.iter_mut().zip(turned).for_each(|(m, t)| *m += t / SHIFTS.len() as f64);
    }
    values.copy_from_slice(&mean);
    left
}

/// Significance of a ratio of two mean squares of `above` and `below` degrees of
/// freedom, σ.
fn excess(ratio: f64, above: f64, below: f64) -> f64 {
    if !ratio.is_finite() {
        // Nothing over nothing is nothing; something without any noise is certain.
        return if ratio.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let (root, a, b) = (ratio.cbrt(), 2.0 / 9.0 / above, 2.0 / 9.0 / below);
    ((1.0 - b) * root - (1.0 - a)) / (root * root * b + a).sqrt()
}

fn mean_square(values: &[f64], n: usize, start: usize, end: usize) -> f64 {
    let sum: f64 = values.chunks(n).flat_map(|row| &row[start..end]).map(|v| v * v).sum();
    sum / (values.len() / n * (end - start)) as f64
}

/// The ranges of coefficients that are treated together, the mean first.
fn levels(n: usize, independent: f64) -> Vec<(usize, usize)> {
    let mut lengths = vec![n];
    while lengths[lengths.len() - 1] > 1 {
        lengths.push(lengths[lengths.len() - 1].div_ceil(2));
    }
    lengths.reverse();
    let mut out: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for (i, end) in lengths.iter().enumerate() {
        if (end - start) as f64 * independent >= LEAST || i + 1 == lengths.len() {
            out.push((start, *end));
            start = *end;
        }
    }
    out.retain(|(start, end)| end > start);
    out
}

fn forward_all(values: &mut [f64], n: usize) {
    values.chunks_mut(n).for_each(forward);
}

/// Orthonormal Haar transform: averages first, details after; where a length is
/// odd the last value passes on as it is.
fn forward(row: &mut [f64]) {
    let mut len = row.len();
    let mut scratch = vec![0.0; len];
    while len > 1 {
        let (half, pairs) = (len.div_ceil(2), len / 2);
        for i in 0..pairs {
            scratch[i] = (row[2 * i] + row[2 * i + 1]) * std::f64::consts::FRAC_1_SQRT_2;
            scratch[half + i] = (row[2 * i] - row[2 * i + 1]) * std::f64::consts::FRAC_1_SQRT_2;
        }
        if len % 2 == 1 {
            scratch[pairs] = row[len - 1];
        }
        row[..len].copy_from_slice(&scratch[..len]);
        len = half;
    }
}

fn inverse(row: &mut [f64]) {
    let n = row.len();
    let mut lengths = vec![n];
    while lengths[lengths.len() - 1] > 1 {
        lengths.push(lengths[lengths.len() - 1].div_ceil(2));
    }
    let mut scratch = vec![0.0; n];
    for &len in lengths.iter().rev().filter(|&&l| l > 1) {
        let (half, pairs) = (len.div_ceil(2), len / 2);
        for i in 0..pairs {
            scratch[2 * i] = (row[i] + row[half + i]) * std::f64::consts::FRAC_1_SQRT_2;
            scratch[2 * i + 1] = (row[i] - row[half + i]) * std::f64::consts::FRAC_1_SQRT_2;
        }
        if len % 2 == 1 {
            scratch[len - 1] = row[pairs];
        }
        row[..len].copy_from_slice(&scratch[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f64 {
        // Twelve uniform numbers from a small hash: normal enough.
        (0..12u64)
            .map(|j| {
                let mut z = (i as u64 * 12 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                ((z ^ (z >> 27)) >> 11) as f64 / (1u64 << 53) as f64
            })
            .sum::<f64>()
            - 6.0
    }

    #[test]
    fn transform_inverts_at_any_length() {
        for n in 1..40 {
            let original: Vec<f64> = (0..n).map(noise).collect();
            let mut row = original.clone();
            forward(&mut row);
            let power: f64 = row.iter().map(|v| v * v).sum();
            assert!((power - original.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
            inverse(&mut row);
            assert!(row.iter().zip(&original).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    fn white(variance: f64, independent: f64) -> Noise<'static> {
        Noise { white: variance, spread: None, independent }
    }

    fn power(values: &[f64]) -> f64 {
        values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn chance_is_not_taken_for_a_pattern() {
        // As many levels as some nights have, of many times and of two.
        for (times, n) in [(8, 64), (1, 512), (2, 37)] {
            for trial in 0..400 {
                let at = |i: usize| noise(i + 100_000 * (trial + 1));
                let mut field: Vec<f64> = (0..n * times).map(at).collect();
                let left = shrink(&mut field, n, white(1.0, times as f64));
                assert!(left == 0.0 && field.iter().all(|v| *v == 0.0), "{times} times {n}, trial {trial}");
            }
        }
    }

    #[test]
    fn pure_noise_is_taken_out_and_a_pattern_stays() {
        let (n, times) = (64, 10);
        let mut flat: Vec<f64> = (0..n * times).map(noise).collect();
        shrink(&mut flat, n, white(1.0, times as f64));
        assert!(power(&flat) < 0.02, "left of pure noise: {}", power(&flat));
        let step = |i: usize| if i % n < 16 { 3.0 * noise(i / n + 7000) } else { 0.0 };
        let mut drift: Vec<f64> = (0..n * times).map(|i| noise(i + 999) + step(i)).collect();
        let left = shrink(&mut drift, n, white(1.0, times as f64));
        let errors: Vec<f64> = (0..drift.len()).map(|i| drift[i] - step(i)).collect();
        assert!(power(&errors) < 0.1, "error with a pattern: {}", power(&errors));
        assert!((0.02..0.1).contains(&left), "noise left with a pattern: {left}");
    }

    #[test]
    fn what_one_half_saw_alone_is_no_pattern() {
        let (n, times) = (128, 6);
        // Both halves have ten times the noise that is believed, each its own.
        let half = |seed: usize| move |i: usize| 3.2 * noise(i + seed);
        let (a, b) = (half(50_000), half(90_000));
        let both = |common: f64| {
            let value = |i: usize| (a(i) + b(i)) / 2.0 + common * noise(i / 16 + 7);
            let mut values: Vec<f64> = (0..n * times).map(value).collect();
            let spread: Vec<f64> = (0..n * times).map(|i| (a(i) - b(i)) / 2.0).collect();
            let noise = Noise { white: 0.5, spread: Some(&spread), independent: times as f64 };
            (shrink(&mut values, n, noise), values)
        };
        assert!(both(0.0).1.iter().all(|v| *v == 0.0));
        let (left, values) = both(6.0);
        let errors: Vec<f64> = (0..n * times).map(|i| values[i] - 6.0 * noise(i / 16 + 7)).collect();
        assert!(power(&errors) < 1.0 && left > 0.1, "error {}, noise {left}", power(&errors));
    }

    #[test]
    fn the_noise_left_is_what_is_left() {
        // A strong smooth pattern: what remains beside it is noise, as much as is said.
        let (n, times) = (512, 8);
        let smooth = |i: usize| {
            let phase = std::f64::consts::TAU * (i % n) as f64 / n as f64;
            noise(i / n + 31) * phase.sin() + noise(i / n + 77) * (2.0 * phase).cos()
        };
        let (mut error, mut said) = (0.0, 0.0);
        for trial in 0..40 {
            let at = |i: usize| 5.0 * smooth(i) + noise(i + 20_000 * (trial + 1));
            let mut values: Vec<f64> = (0..n * times).map(at).collect();
            said += shrink_smooth(&mut values, n, white(1.0, times as f64)) / 40.0;
            let off: Vec<f64> = (0..n * times).map(|i| values[i] - 5.0 * smooth(i)).collect();
            error += power(&off) / 40.0;
        }
        assert!(said < 0.12 && error < 2.0 * said && error > 0.3 * said, "error {error}, said {said}");
    }
}
