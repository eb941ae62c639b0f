//! Legendre series on an interval and linear least squares for their coefficients.

/// `x` of `[low, high]` on [−1, 1]; 0 on an interval without length.
pub fn unit(x: f64, low: f64, high: f64) -> f64 {
    if high > low { (2.0 * x - low - high) / (high - low) } else { 0.0 }
}

/// Calls `with(k, P_k(t))` for k = 0 … n − 1.
pub fn each(t: f64, n: usize, mut with: impl FnMut(usize, f64)) {
    let (mut now, mut before) = (1.0, 0.0);
    for k in 0..n {
        with(k, now);
        let next = ((2 * k + 1) as f64 * t * now - k as f64 * before) / (k + 1) as f64;
        (before, now) = (now, next);
    }
}

/// Σ c_k P_k(t).
pub fn value(c: &[f64], t: f64) -> f64 {
    let mut sum = 0.0;
    each(t, c.len(), |k, p| sum += c[k] * p);
    sum
}

/// d/dt Σ c_k P_k(t), by (2k+1) P_k = P'_{k+1} − P'_{k−1}.
pub fn slope(c: &[f64], t: f64) -> f64 {
    let mut p = vec![0.0; c.len() + 1];
    each(t, c.len() + 1, |k, v| p[k] = v);
    let mut derivative = vec![0.0; c.len() + 1];
    let mut sum = 0.0;
    for k in 1..c.len() {
        derivative[k] = (2 * k - 1) as f64 * p[k - 1] + if k >= 2 { derivative[k - 2] } else { 0.0 };
        sum += c[k] * derivative[k];
    }
    sum
}

/// Normal equations of a linear least-squares problem.
#[derive(Debug, Clone)]
pub struct Normal {
    n: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl Normal {
    /// For `n` unknowns.
    pub fn new(n: usize) -> Normal {
        Normal { n, matrix: vec![0.0; n * n], right: vec![0.0; n] }
    }

    /// Adds an observation: `row` · unknowns = `value`, with `weight` = 1/variance.
    pub fn add(&mut self, row: &[f64], value: f64, weight: f64) {
        for i in 0..self.n {
            let w = row[i] * weight;
            self.right[i] += w * value;
            for (to, r) in self.matrix[i * self.n..=i * self.n + i].iter_mut().zip(row) {
                *to += w * r;
            }
        }
    }

    /// Adds to an element of the lower triangle and to the right-hand side.
    pub fn add_to(&mut self, i: usize, j: usize, value: f64) {
        let (i, j) = if i >= j { (i, j) } else { (j, i) };
        self.matrix[i * self.n + j] += value;
    }

    /// Adds to the right-hand side.
    pub fn add_right(&mut self, i: usize, value: f64) {
        self.right[i] += value;
    }

    /// [`Normal::solve`] without the variances.
    pub fn solution(&self) -> Option<Vec<f64>> {
        Some(self.solved(false)?.0)
    }

    /// The solution and the variances of the unknowns, by Cholesky after scaling to
    /// a unit diagonal; `None` where the unknowns are not determined.
    pub fn solve(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        self.solved(true)
    }

    fn solved(&self, variances: bool) -> Option<(Vec<f64>, Vec<f64>)> {
        let n = self.n;
        let scale: Vec<f64> = (0..n).map(|i| self.matrix[i * n + i].sqrt()).collect();
        if !scale.iter().all(|s| s.is_finite() && *s > 0.0) {
            return None;
        }
        let mut l = self.matrix.clone();
        for i in 0..n {
            for j in 0..=i {
                let mut sum = self.matrix[i * n + j] / (scale[i] * scale[j]);
                for k in 0..j {
                    sum -= l[i * n + k] * l[j * n + k];
                }
                if i == j {
                    if sum < 1e-11 {
                        return None;
                    }
                    l[i * n + i] = sum.sqrt();
                } else {
                    l[i * n + j] = sum / l[j * n + j];
                }
            }
        }
        let back = |mut v: Vec<f64>| {
            for i in 0..n {
                for k in 0..i {
                    v[i] -= l[i * n + k] * v[k];
                }
                v[i] /= l[i * n + i];
            }
            for i in (0..n).rev() {
                for k in i + 1..n {
                    v[i] -= l[k * n + i] * v[k];
                }
                v[i] /= l[i * n + i];
            }
            v
        };
        let x = back((0..n).map(|i| self.right[i] / scale[i]).collect());
        let x = x.iter().zip(&scale).map(|(x, s)| x / s).collect();
        let variance = (0..if variances { n } else { 0 }).map(|i| {
            let mut e = vec![0.0; n];
            e[i] = 1.0;
            back(e)[i] / (scale[i] * scale[i])
        });
        Some((x, variance.collect()))
    }
}

/// Coefficients of the series of degree `degree` (lower where there are few
/// points) through (t, value, weight).
pub fn fit(points: &[(f64, f64, f64)], degree: usize) -> Option<Vec<f64>> {
    let n = (degree + 1).min(points.len());
    let mut normal = Normal::new(n);
    let mut row = vec![0.0; n];
    for (t, value, weight) in points {
        each(*t, n, |k, p| row[k] = p);
        normal.add(&row, *value, *weight);
    }
    let mut c = normal.solve()?.0;
    c.resize(degree + 1, 0.0);
    Some(c)
}

/// [`fit`] repeated without points whose residual·√weight exceeds `clip` times the
/// robust scatter (1.48 × the median of its magnitudes), never below `floor`.
pub fn robust_fit(points: &[(f64, f64, f64)], degree: usize, clip: f64, floor: f64) -> Option<Vec<f64>> {
    let mut kept = points.to_vec();
    let mut c = fit(&kept, degree)?;
    for _ in 0..6 {
        let residual = |c: &[f64], p: &(f64, f64, f64)| (p.1 - value(c, p.0)).abs() * p.2.sqrt();
        let scatter = 1.48 * median(kept.iter().map(|p| residual(&c, p)).collect());
        let limit = (clip * scatter).max(floor);
        let next: Vec<_> = points.iter().filter(|p| residual(&c, p) <= limit).copied().collect();
        if next.len() == kept.len() || next.len() <= degree {
            break;
        }
        kept = next;
        c = fit(&kept, degree)?;
    }
    Some(c)
}

/// The median; NaN of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|v| v.is_finite());
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    let (_, m, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    *m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_slopes_and_fits() {
        let c = [1.0, -2.0, 0.5, 0.25];
        let t = 0.3;
        let p3 = 0.5 * (5.0 * t * t * t - 3.0 * t);
        let by_hand = 1.0 - 2.0 * t + 0.25 * (3.0 * t * t - 1.0) + 0.25 * p3;
        assert!((value(&c, t) - by_hand).abs() < 1e-14);
        let h = 1e-6;
        let numeric = (value(&c, t + h) - value(&c, t - h)) / (2.0 * h);
        assert!((slope(&c, t) - numeric).abs() < 1e-8);
        let mut points: Vec<_> =
            (0..40).map(|i| unit(f64::from(i), 0.0, 39.0)).map(|t| (t, value(&c, t), 1.0)).collect();
        points[7].1 += 50.0;
        let found = robust_fit(&points, 3, 5.0, 1e-9).expect("fit");
        assert!(found.iter().zip(&c).all(|(a, b)| (a - b).abs() < 1e-10), "{found:?}");
        assert!(Normal::new(2).solve().is_none());
    }
}
