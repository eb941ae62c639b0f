//! Centre and spread of many pixels of which some are not like the others.

/// Sigma-clipped statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// Median of what is left.
    pub median: f64,
    /// Mean of what is left.
    pub mean: f64,
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
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    Some(Clipped { median, mean, sigma, n })
}

fn centre_and_spread(values: &mut [f32], deviations: &mut Vec<f32>) -> Option<(f64, f64)> {
    let centre = median(values)?;
    deviations.clear();
    deviations.extend(values.iter().map(|v| (f64::from(*v) - centre).abs() as f32));
    Some((centre, 1.4826 * median(deviations)?))
}

/// Pixels of an image (ny, nx) without visible sources: `values`, in units of their
/// σ and less their centre, must themselves be within 3 σ, and their means over boxes
/// of 5, 15 and 45 pixels not more than 3 σ above. (Not below: sources only add, and a
/// centre that they have raised would put the true background there.) NaN is no
/// background.
pub fn background(values: &[f32], ny: usize, nx: usize) -> Vec<bool> {
    let mut keep: Vec<bool> = values.iter().map(|v| v.is_finite() && v.abs() <= 3.0).collect();
    for box_size in [5usize, 15, 45] {
        let half = box_size / 2;
        let (sums, counts) = (integral(values, &keep, nx, |v| v), integral(values, &keep, nx, |_| 1.0));
        let mut next = keep.clone();
        for y in 0..ny {
            for x in 0..nx {
                let rows = (y.saturating_sub(half), (y + half + 1).min(ny));
                let columns = (x.saturating_sub(half), (x + half + 1).min(nx));
                let within = |table: &[f64]| {
                    let at = |y: usize, x: usize| table[y * (nx + 1) + x];
                    at(rows.1, columns.1) - at(rows.0, columns.1) - at(rows.1, columns.0)
                        + at(rows.0, columns.0)
                };
                let n = within(&counts);
                next[y * nx + x] &= n > 0.0 && within(&sums) <= 3.0 * n.sqrt();
            }
        }
        keep = next;
    }
    keep
}

/// The level of a background on which only light can lie: `values` (of unit noise,
/// rows of `nx`) are averaged over blocks of 16 × 16 kept pixels; light that is too
/// faint to be seen raises some of the block means and lowers none, so the level is
/// taken from their first decile, where noise alone would put it 1.2816 σ low. `None`
/// where hardly any block is half kept.
pub fn darkest_level(values: &[f32], keep: &[bool], nx: usize) -> Option<f64> {
    const BLOCK: usize = 16;
    const DECILE: f64 = 1.281_551_6;
    let across = nx.div_ceil(BLOCK);
    let mut blocks = vec![(0.0f64, 0.0f64); values.len().div_ceil(nx).div_ceil(BLOCK) * across];
    for (i, v) in values.iter().enumerate().filter(|(i, _)| keep[*i]) {
        let block = &mut blocks[i / nx / BLOCK * across + i % nx / BLOCK];
        *block = (block.0 + f64::from(*v), block.1 + 1.0);
    }
    blocks.retain(|b| b.1 >= (BLOCK * BLOCK / 2) as f64);
    if blocks.len() < 10 {
        return clipped_median(values.iter().zip(keep).filter(|(_, k)| **k).map(|(v, _)| *v).collect())
            .map(|c| c.median);
    }
    let mut means: Vec<f64> = blocks.iter().map(|(sum, n)| sum / n + DECILE / n.sqrt()).collect();
    means.sort_by(f64::total_cmp);
    let at = 0.1 * (means.len() - 1) as f64;
    let (low, part) = (means[at as usize], at.fract());
    Some(low + part * (means[(at as usize + 1).min(means.len() - 1)] - low))
}

/// Summed-area table, (ny + 1, nx + 1), of the kept pixels.
fn integral(values: &[f32], keep: &[bool], nx: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut table = vec![0.0; nx + 1];
    for (row, kept) in values.chunks(nx).zip(keep.chunks(nx)) {
        let above = table.len() - (nx + 1);
        table.push(0.0);
        let mut sum = 0.0;
        for x in 0..nx {
            sum += if kept[x] { of(f64::from(row[x])) } else { 0.0 };
            table.push(table[above + x + 1] + sum);
        }
    }
    table
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
    fn wings_of_sources_are_no_background() {
        let (ny, nx) = (120usize, 130usize);
        let mut random = crate::kernels::normal::Normal(5);
        let mut values: Vec<f32> = (0..ny * nx).map(|_| random.next() as f32).collect();
        let clean = background(&values, ny, nx).iter().filter(|k| **k).count();
        assert!(clean as f64 > 0.97 * (ny * nx) as f64, "{clean}");
        for i in 0..ny * nx {
            let (x, y) = ((i % nx) as f32 - 60.0, (i / nx) as f32 - 50.0);
            values[i] += 400.0 / (1.0 + x * x + y * y);
        }
        let keep = background(&values, ny, nx);
        let nearest = (0..ny * nx)
            .filter(|&i| keep[i])
            .map(|i| ((i % nx) as f32 - 60.0).hypot((i / nx) as f32 - 50.0))
            .fold(f32::MAX, f32::min);
        assert!(nearest > 15.0, "{nearest}");
    }

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
