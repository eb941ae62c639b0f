//! Centre and spread of many pixels of which some are not like the others.

use rayon::prelude::*;

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
pub fn clipped_median(values: &[f32]) -> Option<Clipped> {
    let mut sorted: Vec<f32> = values.par_iter().copied().filter(|v| v.is_finite()).collect();
    // Sorted once, every median and every cut is a search.
    sorted.par_sort_unstable_by(f32::total_cmp);
    let mut left = sorted.as_slice();
    let (mut median, mut sigma) = centre_and_spread(left)?;
    for _ in 0..5 {
        let off = |v: f32| f64::from(v) - median;
        let first = left.partition_point(|v| off(*v) < -3.0 * sigma);
        let end = left.partition_point(|v| off(*v) <= 3.0 * sigma);
        if (first, end) == (0, left.len()) {
            break;
        }
        left = &left[first..end];
        (median, sigma) = centre_and_spread(left)?;
    }
    let mean = left.iter().map(|v| f64::from(*v)).sum::<f64>() / left.len() as f64;
    Some(Clipped { median, mean, sigma, n: left.len() })
}

/// Median of sorted values, and 1.4826 times that of their distances from it.
fn centre_and_spread(sorted: &[f32]) -> Option<(f64, f64)> {
    let middle = |of: &dyn Fn(usize) -> f64| {
        let n = sorted.len();
        if n % 2 == 1 { of(n / 2) } else { 0.5 * (of(n / 2 - 1) + of(n / 2)) }
    };
    if sorted.is_empty() {
        return None;
    }
    let centre = middle(&|rank| f64::from(sorted[rank]));
    let split = sorted.partition_point(|v| f64::from(*v) < centre);
    let (below, above) = sorted.split_at(split);
    let distance = |v: f32| (f64::from(v) - centre).abs() as f32;
    let within = |d: f32| {
        below.len() - below.partition_point(|v| distance(*v) > d)
            + above.partition_point(|v| distance(*v) <= d)
    };
    // The least distance within which more than `rank` values are: floats that are not
    // negative are ordered as their bits.
    let nearest = |rank: usize| {
        let (mut low, mut high) = (0u32, f32::INFINITY.to_bits());
        while low < high {
            let half = low + (high - low) / 2;
            if within(f32::from_bits(half)) > rank { high = half } else { low = half + 1 }
        }
        f64::from(f32::from_bits(low))
    };
    Some((centre, 1.4826 * middle(&nearest)))
}

/// Pixels of an image (ny, nx) without visible sources: `values`, in units of their
/// σ and less their centre, must themselves be within 3 σ, and their means over boxes
/// of 5, 15 and 45 pixels not more than 3 σ above. (Not below: sources only add, and a
/// centre that they have raised would put the true background there.) NaN is no
/// background.
pub fn background(values: &[f32], ny: usize, nx: usize) -> Vec<bool> {
    let mut keep: Vec<bool> = values.par_iter().map(|v| v.abs() <= 3.0).collect();
    for half in [2, 7, 22] {
        keep = without_crowds(values, &keep, (ny, nx), half);
    }
    keep
}

/// Of the kept pixels those whose mean over the kept ones in a box of 2 `half` + 1 pixels is
/// not more than 3 σ above zero.
fn without_crowds(values: &[f32], keep: &[bool], (ny, nx): (usize, usize), half: usize) -> Vec<bool> {
    /// Rows that a thread does together.
    const ROWS: usize = 128;
    /// Steps a σ: sums are exact, in whatever order.
    const FINE: f32 = 65536.0;
    // A sum and how many are in it, in one word.
    let word = |i: usize| {
        if keep[i] { i64::from((values[i] * FINE) as i32) * 4096 + 1 } else { 0 }
    };
    let most: Vec<i64> = (0..4096).map(|n| (3.0 * f64::from(FINE) * f64::from(n).sqrt()) as i64).collect();
    let mut next = vec![false; values.len()];
    next.par_chunks_mut(ROWS * nx).enumerate().for_each(|(band, next)| {
        let first = band * ROWS;
        let mut columns = vec![0i64; nx];
        let row_into = |columns: &mut [i64], y: usize, sign: i64| {
            columns.iter_mut().enumerate().for_each(|(x, c)| *c += sign * word(y * nx + x));
        };
        (first.saturating_sub(half)..(first + half).min(ny)).for_each(|y| row_into(&mut columns, y, 1));
        for (y, next) in (first..).zip(next.chunks_mut(nx)) {
            if y + half < ny {
                row_into(&mut columns, y + half, 1);
            }
            let mut sum: i64 = columns[..half.min(nx)].iter().sum();
            for (x, next) in next.iter_mut().enumerate() {
                sum += columns.get(x + half).unwrap_or(&0);
                *next = keep[y * nx + x] && sum >> 12 <= most[(sum & 4095) as usize];
                sum -= if x >= half { columns[x - half] } else { 0 };
            }
            if y >= half {
                row_into(&mut columns, y - half, -1);
            }
        }
    });
    next
}

/// The level of a background on which only light can lie: `values` (of unit noise,
/// rows of `nx`) are averaged over blocks of 16 × 16 kept pixels; light that is too
/// faint to be seen raises some of the block means and lowers none, so the level is
/// taken from their first decile, where noise alone would put it 1.2816 σ low. `None`
/// where hardly any block is half kept.
pub fn darkest_level(values: &[f32], keep: &[bool], nx: usize) -> Option<f64> {
    const BLOCK: usize = 16;
    const DECILE: f64 = 1.281_551_6;
    let rows = values.par_chunks(BLOCK * nx).zip(keep.par_chunks(BLOCK * nx));
    let mut blocks: Vec<(f64, f64)> = rows
        .flat_map_iter(|(values, keep)| {
            let mut blocks = vec![(0.0, 0.0); nx.div_ceil(BLOCK)];
            for (i, v) in values.iter().enumerate().filter(|(i, _)| keep[*i]) {
                let block: &mut (f64, f64) = &mut blocks[i % nx / BLOCK];
                *block = (block.0 + f64::from(*v), block.1 + 1.0);
            }
            blocks
        })
        .collect();
    blocks.retain(|b| b.1 >= (BLOCK * BLOCK / 2) as f64);
    if blocks.len() < 10 {
        let kept: Vec<f32> = values.iter().zip(keep).filter(|(_, k)| **k).map(|(v, _)| *v).collect();
        return clipped_median(&kept).map(|c| c.median);
    }
    let mut means: Vec<f64> = blocks.iter().map(|(sum, n)| sum / n + DECILE / n.sqrt()).collect();
    means.sort_by(f64::total_cmp);
    let at = 0.1 * (means.len() - 1) as f64;
    let (low, part) = (means[at as usize], at.fract());
    Some(low + part * (means[(at as usize + 1).min(means.len() - 1)] - low))
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
        let c = clipped_median(&v).expect("values");
        assert!((c.median - 50.0).abs() < 1.0 && c.n == 10_001, "{c:?}");
        assert_eq!(clipped_median(&[f32::NAN]), None);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn spreads_are_medians_of_distances() {
        let mut random = crate::kernels::normal::Normal(11);
        for n in [1usize, 2, 3, 10, 1001, 5000] {
            for (scale, shift) in [(1.0, 0.0), (1e-3, 7.0), (1e20, -1e19), (0.0, -2.0), (1e-40, 1e-40)] {
                let mut values: Vec<f32> = (0..n).map(|_| random.next() as f32 * scale + shift).collect();
                let centre = median(&mut values).expect("some");
                let mut away: Vec<f32> =
                    values.iter().map(|v| (f64::from(*v) - centre).abs() as f32).collect();
                let spread = 1.4826 * median(&mut away).expect("some");
                values.sort_by(f32::total_cmp);
                assert_eq!(centre_and_spread(&values), Some((centre, spread)), "{n} {scale} {shift}");
            }
        }
    }

    /// Both ways of saying it: the box of each pixel, summed by itself.
    #[test]
    fn crowds_are_boxes_above_three_sigma() {
        let mut random = crate::kernels::normal::Normal(3);
        for (ny, nx, half) in [(300, 41, 7), (7, 9, 22), (1, 130, 2), (131, 1, 2), (40, 50, 2)] {
            let values: Vec<f32> = (0..ny * nx).map(|_| (0.6 + random.next()) as f32).collect();
            let keep: Vec<bool> = values.iter().map(|v| v.abs() <= 3.0).collect();
            let found = without_crowds(&values, &keep, (ny, nx), half);
            let mut lost = 0;
            for i in 0..ny * nx {
                let (y, x) = (i / nx, i % nx);
                let (mut sum, mut n) = (0.0f64, 0.0f64);
                for y in y.saturating_sub(half)..(y + half + 1).min(ny) {
                    for x in (x.saturating_sub(half)..(x + half + 1).min(nx)).filter(|x| keep[y * nx + x]) {
                        (sum, n) = (sum + f64::from(values[y * nx + x]), n + 1.0);
                    }
                }
                let clear = (sum - 3.0 * n.sqrt()).abs() > 1e-4 * n;
                assert!(!clear || found[i] == (keep[i] && sum <= 3.0 * n.sqrt()), "{ny} {nx} {half}: {i}");
                lost += usize::from(keep[i] && !found[i]);
            }
            assert!(lost > 0 || ny * nx < 100);
        }
    }
}
