//! Finding the spectra in a white-light frame: peaks across dispersion in blocks of
//! columns, linked from block to block wherever they lead.

use super::legendre::median;
use super::noise::Noise;
use crate::datamodel::Rate;

/// Columns summed before peaks are looked for.
const BLOCK: usize = 8;
/// Least significance of a peak, σ.
const SIGNIFICANCE: f64 = 8.0;
/// Peaks below this fraction of the median peak are scattered light.
const FAINT: f64 = 0.1;
/// How far a trace may stray from its extrapolation in one block, rows.
const STRAY: f64 = 2.0;
/// The steepest trace, rows a column, for its second block.
const STEEPEST: f64 = 0.3;
/// Blocks that a trace may be missing from.
const GAP: usize = 3;
/// Blocks that make a trace.
const SHORTEST: usize = 3;

/// A trace found: centre row at the middle of some blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Rough {
    /// (column, row), columns ascending.
    pub points: Vec<(f64, f64)>,
}

impl Rough {
    /// First and last column of the blocks it was seen in.
    pub fn range(&self, nx: usize) -> (usize, usize) {
        let half = BLOCK as f64 / 2.0;
        let first = self.points.first().map_or(0.0, |p| p.0 - half + 0.5);
        let last = self.points.last().map_or(0.0, |p| p.0 + half - 0.5);
        (first.max(0.0) as usize, (last.max(0.0) as usize).min(nx - 1))
    }
}

struct Peak {
    y: f64,
    height: f64,
}

/// Every trace of the frame.
pub fn find(rate: &Rate, noise: &Noise) -> Vec<Rough> {
    let blocks: Vec<(f64, Vec<Peak>)> = (0..rate.nx)
        .step_by(BLOCK)
        .map(|x0| {
            let x1 = (x0 + BLOCK).min(rate.nx);
            ((x0 + x1 - 1) as f64 / 2.0, peaks(rate, noise, x0, x1))
        })
        .collect();
    let level = median(blocks.iter().flat_map(|b| b.1.iter().map(|p| p.height)).collect());
    link(&blocks, FAINT * level)
}

fn peaks(rate: &Rate, noise: &Noise, x0: usize, x1: usize) -> Vec<Peak> {
    let (mut mean, mut error) = (vec![0.0; rate.ny], vec![f64::INFINITY; rate.ny]);
    for y in 0..rate.ny {
        let (mut values, mut variance) = (Vec::with_capacity(BLOCK), 0.0);
        for x in x0..x1 {
            let p = noise.pixel(rate, y * rate.nx + x);
            if p.variance > 0.0 {
                values.push(f64::from(p.rate));
                variance += f64::from(p.variance);
            }
        }
        if !values.is_empty() {
            let n = values.len() as f64;
            // A cosmic ray must not make a peak: nothing above 5 × the median counts whole.
            let cap = 5.0 * median(values.clone()).max((variance / n).sqrt());
            mean[y] = values.iter().map(|v| v.min(cap)).sum::<f64>() / n;
            error[y] = (variance + noise.factor * n * mean[y].max(0.0)).sqrt() / n;
        }
    }
    let known = |y: usize| error[y].is_finite();
    let smooth = |y: usize| -> f64 { (y - 1..=y + 1).map(|i| if known(i) { mean[i] } else { 0.0 }).sum() };
    let mut found = Vec::new();
    for y in 3..rate.ny.saturating_sub(3) {
        let height = smooth(y);
        let sigma = (y - 1..=y + 1).filter(|i| known(*i)).map(|i| error[i] * error[i]).sum::<f64>().sqrt();
        let highest = (y - 2..=y + 2)
            .all(|i| if i < y { smooth(i.max(1)) < height } else { smooth(i.min(rate.ny - 2)) <= height });
        if sigma > 0.0 && height > SIGNIFICANCE * sigma && highest {
            let part = |i: usize| mean[i].max(0.0);
            let total: f64 = (y - 3..=y + 3).map(part).sum();
            let centre = (y - 3..=y + 3).map(|i| part(i) * i as f64).sum::<f64>() / total;
            found.push(Peak { y: centre, height });
        }
    }
    found
}

struct Chain {
    points: Vec<(f64, f64)>,
    missed: usize,
}

impl Chain {
    /// Where it should be at column `x`, and how far off it may be.
    fn expect(&self, x: f64) -> (f64, f64) {
        let n = self.points.len();
        let (x1, y1) = self.points[n - 1];
        if n == 1 {
            return (y1, STEEPEST * (x - x1));
        }
        let (x0, y0) = self.points[n.saturating_sub(4)];
        (y1 + (y1 - y0) / (x1 - x0) * (x - x1), STRAY)
    }
}

fn link(blocks: &[(f64, Vec<Peak>)], faint: f64) -> Vec<Rough> {
    let (mut open, mut done): (Vec<Chain>, Vec<Chain>) = (Vec::new(), Vec::new());
    for (x, peaks) in blocks {
        let mut free: Vec<&Peak> = peaks.iter().filter(|p| p.height >= faint).collect();
        // Long chains choose first: their extrapolation is the better one.
        open.sort_by_key(|c| std::cmp::Reverse(c.points.len()));
        for chain in &mut open {
            let (y, reach) = chain.expect(*x);
            let nearest = (0..free.len()).min_by(|a, b| {
                let off = |i: usize| (free[i].y - y).abs();
                off(*a).total_cmp(&off(*b))
            });
            match nearest.filter(|&i| (free[i].y - y).abs() <= reach) {
                Some(i) => {
                    chain.points.push((*x, free.swap_remove(i).y));
                    chain.missed = 0;
                }
                None => chain.missed += 1,
            }
        }
        done.extend(open.extract_if(.., |c| c.missed > GAP));
        open.extend(free.iter().map(|p| Chain { points: vec![(*x, p.y)], missed: 0 }));
    }
    done.extend(open);
    done.retain(|c| c.points.len() >= SHORTEST);
    done.into_iter().map(|c| Rough { points: c.points }).collect()
}
