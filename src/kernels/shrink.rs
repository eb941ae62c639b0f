//! Shrinkage of noisy offsets: keeps of a pattern what stands out of its noise, so
//! that subtracting it never adds more noise than it removes.
//!
//! A pattern of n values at each of several times is split into an orthonormal
//! Haar basis along n. All coefficients of one level share a signal variance; it
//! is estimated from all times as the excess of their mean square over the noise,
//! and the level is multiplied by signal/(signal + noise) (James–Stein shrinkage;
//! Donoho & Johnstone 1995 for the wavelet form). A level whose excess could be
//! chance is dropped: a night tries thousands of levels, so it must stand out by
//! 4.5 σ of χ² made normal by its cube root (Wilson & Hilferty 1931; χ²
//! of few degrees of freedom has a long tail).

/// Least significance of a level's excess, σ.
const SIGNIFICANCE: f64 = 4.5;

/// Shrinks `values` (`[time][n]`) whose noise variance is `noise`, in place. The
/// mean over n is part of the pattern (its level has one coefficient).
/// `independent` is the number of independent times (a mean over time taken out
/// costs one).
pub fn shrink(values: &mut [f64], n: usize, noise: f64, independent: f64) {
    if n == 0 || values.is_empty() {
        return;
    }
    let times = values.len() / n;
    let levels = forward_all(values, n);
    let lost = independent / times as f64;
    for (start, end) in levels {
        let count = times * (end - start);
        let mut power = 0.0;
        for row in values.chunks(n) {
            power += row[start..end].iter().map(|v| v * v).sum::<f64>();
        }
        let power = power / count as f64;
        let expected = noise * lost;
        let narrow = 2.0 / 9.0 / (count as f64 * lost).max(1.0);
        let excess = ((power / expected).cbrt() - (1.0 - narrow)) / narrow.sqrt();
        let keep = if excess > SIGNIFICANCE { 1.0 - expected / power } else { 0.0 };
        for row in values.chunks_mut(n) {
            row[start..end].iter_mut().for_each(|v| *v *= keep);
        }
    }
    for row in values.chunks_mut(n) {
        inverse(row);
    }
}

/// Like [`shrink`], for a pattern that varies smoothly along n: the mean over eight
/// circular shifts of the basis (cycle spinning, Coifman & Donoho 1995), so that the
/// steps of one basis do not show.
pub fn shrink_smooth(values: &mut [f64], n: usize, noise: f64, independent: f64) {
    const SHIFTS: [usize; 8] = [0, 1, 3, 7, 13, 26, 51, 102];
    let mut mean = vec![0.0; values.len()];
    for shift in SHIFTS.map(|s| s % n.max(1)) {
        let mut turned = values.to_vec();
        turned.chunks_mut(n.max(1)).for_each(|row| row.rotate_left(shift));
        shrink(&mut turned, n, noise, independent);
        turned.chunks_mut(n.max(1)).for_each(|row| row.rotate_right(shift));
        mean.iter_mut().zip(turned).for_each(|(m, t)| *m += t / SHIFTS.len() as f64);
    }
    values.copy_from_slice(&mean);
}

/// Transforms every row; returns the range of coefficients of each level, the
/// mean first.
fn forward_all(values: &mut [f64], n: usize) -> Vec<(usize, usize)> {
    for row in values.chunks_mut(n) {
        forward(row);
    }
    let mut lengths = vec![n];
    while lengths[lengths.len() - 1] > 1 {
        lengths.push(lengths[lengths.len() - 1].div_ceil(2));
    }
    lengths.reverse();
    let mut levels = vec![(0, 1)];
    levels.extend(lengths.windows(2).map(|w| (w[0], w[1])));
    levels
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

    #[test]
    fn chance_is_not_taken_for_a_pattern() {
        // As many levels as some nights have.
        for trial in 0..400 {
            let mut field: Vec<f64> = (0..64 * 8).map(|i| noise(i + 100_000 * (trial + 1))).collect();
            shrink(&mut field, 64, 1.0, 8.0);
            assert!(field.iter().all(|v| *v == 0.0), "trial {trial}");
        }
    }

    #[test]
    fn pure_noise_is_taken_out_and_a_pattern_stays() {
        let (n, times) = (64, 10);
        let mut flat: Vec<f64> = (0..n * times).map(noise).collect();
        shrink(&mut flat, n, 1.0, times as f64);
        let left = flat.iter().map(|v| v * v).sum::<f64>() / flat.len() as f64;
        assert!(left < 0.02, "left of pure noise: {left}");
        let step = |i: usize| if i % n < 16 { 3.0 * noise(i / n + 7000) } else { 0.0 };
        let mut drift: Vec<f64> = (0..n * times).map(|i| noise(i + 999) + step(i)).collect();
        shrink(&mut drift, n, 1.0, times as f64);
        let error = (0..drift.len()).map(|i| (drift[i] - step(i)).powi(2)).sum::<f64>() / drift.len() as f64;
        assert!(error < 0.1, "error with a pattern: {error}");
    }
}
