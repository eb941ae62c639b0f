//! Centre and spread of many pixels of which some are not like the others.

/// Sigma-clipped statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// Median of what is left.
    pub median: f64,
    /// 1.4826 × the median absolute deviation: σ of a normal distribution.
    pub sigma: f64,
    /// Values left.
    pub n: usize,
}

impl Clipped {
    /// 1 σ of the median itself (√(π/2) σ/√n, normal values).
    pub fn median_error(&self) -> f64 {
        1.2533 * self.sigma / (self.n.max(1) as f64).sqrt()
    }
}

/// Median and spread of `values` (finite ones), those beyond 3 σ from the median
/// left out, again until nothing changes, at most five times. `None` of nothing.
pub fn clipped_median(mut values: Vec<f32>) -> Option<Clipped> {
    values.retain(|v| v.is_finite());
    let mut deviations = Vec::new();
    for _ in 0..5 {
        let (centre, sigma) = centre_and_spread(&mut values, &mut deviations)?;
        let before = values.len();
        values.retain(|v| (f64::from(*v) - centre).abs() <= 3.0 * sigma);
        if values.len() == before {
            break;
        }
    }
    let n = values.len();
    let (median, sigma) = centre_and_spread(&mut values, &mut deviations)?;
    Some(Clipped { median, sigma, n })
}

fn centre_and_spread(values: &mut [f32], deviations: &mut Vec<f32>) -> Option<(f64, f64)> {
    let centre = median(values)?;
    deviations.clear();
    deviations.extend(values.iter().map(|v| (f64::from(*v) - centre).abs() as f32));
    Some((centre, 1.4826 * median(deviations)?))
}

/// Median (the mean of the middle two of an even number), reordering `values`.
pub fn median(values: &mut [f32]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let n = values.len();
    let (below, upper, _) = values.select_nth_unstable_by(n / 2, f32::total_cmp);
    let upper = f64::from(*upper);
    if n % 2 == 1 {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f32::total_cmp).map_or(upper, f64::from);
    Some(0.5 * (lower + upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_move_the_median() {
        let mut v: Vec<f32> = (0..10_001).map(|i| (i % 101) as f32).collect();
        v.extend(vec![1e6; 500]);
        v.push(f32::NAN);
        let c = clipped_median(v).expect("values");
        assert!((c.median - 50.0).abs() < 1.0 && c.n == 10_001, "{c:?}");
        assert_eq!(clipped_median(vec![f32::NAN]), None);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
