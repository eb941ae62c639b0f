//! Statistics of pixels.

use serde::Serialize;

use crate::pipeline::robust::{Clipped, clipped_median};

/// Of the pixels of a region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stats {
    /// Pixels with a value.
    pub pixels: usize,
    /// Pixels without one: bad, or outside what was measured.
    pub bad: usize,
    /// Least value.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Standard deviation.
    pub std: f64,
    /// Mean after clipping at 3 σ about the median.
    pub clipped_mean: f64,
    /// 1.4826 × the median absolute deviation after the same clipping.
    pub clipped_sigma: f64,
}

impl Stats {
    /// Of `values`, those that are not finite counted as bad; `None` where all are.
    pub fn of(values: &[f32]) -> Option<Stats> {
        let mut good: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let n = good.len();
        let Clipped { mean: clipped_mean, sigma: clipped_sigma, .. } = clipped_median(&good)?;
        let (min, max) = good.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let mean = good.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let square = good.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
        let std = (square / (n.max(2) - 1) as f64).sqrt();
        let (_, middle, _) = good.select_nth_unstable_by(n / 2, f32::total_cmp);
        let upper = f64::from(*middle);
        let lower = good[..n / 2].iter().copied().max_by(f32::total_cmp).map_or(upper, f64::from);
        let median = if n % 2 == 1 { upper } else { 0.5 * (lower + upper) };
        Some(Stats {
            pixels: n,
            bad: values.len() - n,
            min: f64::from(min),
            max: f64::from(max),
            mean,
            median,
            std,
            clipped_mean,
            clipped_sigma,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_few_values_of_which_one_is_wild_and_one_is_bad() {
        let mut values: Vec<f32> = (0..100).map(|i| (i % 10) as f32).collect();
        values.extend([1e6, f32::NAN]);
        let s = Stats::of(&values).expect("stats");
        assert_eq!((s.pixels, s.bad, s.min, s.max, s.median), (101, 1, 0.0, 1e6, 5.0));
        assert!((s.clipped_mean - 4.5).abs() < 1e-9 && s.mean > 9000.0);
        assert_eq!(Stats::of(&[1.0, 3.0]).expect("stats").median, 2.0);
        assert!(Stats::of(&[f32::NAN]).is_none());
    }
}
