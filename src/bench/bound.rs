//! The least error that any unbiased estimate of a rate can have: generalised least
//! squares with the true covariance, by sums over single frames and a dense
//! factorisation in double precision. Nothing is shared with the kernel's recursion.

use super::ramps::{FRAME, NOISE, Ramps};

/// The Cramér–Rao bound of a ramp's rate, e-/s, from its first `reads` reads.
pub(super) fn bound(ramps: &Ramps, reads: usize) -> f64 {
    let reads = &ramps.pattern.reads[..reads.min(ramps.pattern.reads.len())];
    let times: Vec<f64> =
        reads.iter().map(|f| f.iter().sum::<usize>() as f64 / f.len() as f64 * FRAME).collect();
    let digit = ramps.gain * ramps.gain / 12.0;
    let covariance = |i: usize, j: usize| {
        let (a, b) = (&reads[i], &reads[j]);
        let n = (a.len() * b.len()) as f64;
        // Photons that two frames share are those before the earlier one.
        let shared: f64 = a.iter().flat_map(|s| b.iter().map(|t| *s.min(t) as f64 * FRAME)).sum();
        let own = (NOISE * NOISE + digit) / a.len() as f64 + if a.len() > 1 { digit } else { 0.0 };
        ramps.rate * shared / n + if i == j { own } else { 0.0 }
    };
    let n = reads.len() - 1;
    let difference = |i: usize, j: usize| {
        covariance(i + 1, j + 1) + covariance(i, j) - covariance(i + 1, j) - covariance(i, j + 1)
    };
    let mut c: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| difference(i, j)).collect()).collect();
    let steps: Vec<f64> = times.windows(2).map(|t| t[1] - t[0]).collect();
    let solved = solve(&mut c, &steps);
    let information: f64 = steps.iter().zip(&solved).map(|(s, v)| s * v).sum();
    1.0 / (information * ramps.pattern.ramps as f64).sqrt()
}

/// x of C x = b for a positive definite C, by Cholesky's factors (in place of C).
fn solve(c: &mut [Vec<f64>], b: &[f64]) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| c[i][k] * c[j][k]).sum();
            c[i][j] = if i == j { (c[i][i] - sum).sqrt() } else { (c[i][j] - sum) / c[j][j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| c[i][k] * x[k]).sum::<f64>()) / c[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| c[k][i] * x[k]).sum::<f64>()) / c[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::super::ramps::Pattern;
    use super::*;

    #[test]
    fn both_limits_are_the_textbooks() {
        let n = 20.0f64;
        let faint = Ramps::new(Pattern::even(20), 0.0);
        let read = (12.0 * (NOISE * NOISE + 4.0 / 12.0) / (n * (n * n - 1.0))).sqrt() / FRAME;
        assert!((bound(&faint, 20) / read - 1.0).abs() < 1e-12);
        let bright = Ramps::new(Pattern::even(20), 1e9);
        let photon = (1e9 / (19.0 * FRAME)).sqrt();
        assert!((bound(&bright, 20) / photon - 1.0).abs() < 1e-6);
        assert!((bound(&bright, 5) / bound(&bright, 20) - (19.0f64 / 4.0).sqrt()).abs() < 1e-6);
    }
}
