//! JWST's form (jwst 3.0.0, `reference_pixels.py`): read by read, what the reference
//! pixels hold is subtracted, their level included.
//!
//! Ends: for each channel and column parity the mean of the 3 σ clipped pixels of
//! either end, averaged. Sides, after that: the median of the side's pixels in
//! `side_smoothing_length` lines (reflected at the ends), averaged over the two sides
//! and multiplied by `side_gain`. An end or side without pixels leaves it to the other.

use rayon::prelude::*;

use super::samples::{Samples, median};
use super::{Tables, clipped};
use crate::config::Refpix;

/// Standard deviations beyond which a pixel is clipped.
const CLIP: f64 = 3.0;

/// The samples by where they are used, as places in [`Samples::list`].
pub(super) struct Places {
    /// By channel and parity (even first), lower and upper end.
    ends: Vec<[Vec<usize>; 2]>,
    /// By line, left and right.
    pub(super) sides: [Vec<Vec<usize>>; 2],
}

impl Places {
    /// Sorts them. `window`: all are one group a parity, and there are no sides, as in
    /// JWST's subarrays of one output.
    pub(super) fn of(samples: &Samples, window: bool) -> Places {
        let channels = if window { 1 } else { samples.channels() };
        let mut ends = vec![[Vec::new(), Vec::new()]; channels * 2];
        let mut sides = [vec![Vec::new(); samples.lines], vec![Vec::new(); samples.lines]];
        for (i, s) in samples.list.iter().enumerate() {
            if window {
                ends[s.across % 2][0].push(i);
                continue;
            }
            if s.end {
                let upper = usize::from(2 * s.line >= samples.lines);
                ends[samples.channel(s) * 2 + s.across % 2][upper].push(i);
            }
            if s.side {
                sides[usize::from(2 * s.across >= samples.across)][s.line].push(i);
            }
        }
        Places { ends, sides }
    }

    /// What to subtract at read `k` by channel and parity.
    fn end_values(&self, samples: &Samples, k: usize, odd_even: bool) -> Vec<f64> {
        let one = |end: usize, group: &[[Vec<usize>; 2]]| {
            let places = group.iter().flat_map(|g| &g[end]);
            clipped(places.map(|i| samples.list[*i].values[k]).collect(), CLIP)
        };
        let both = |group: &[[Vec<usize>; 2]]| match (one(0, group), one(1, group)) {
            (Some(a), Some(b)) => Some((a + b) / 2.0),
            (a, b) => a.or(b),
        };
        let channel = |pair: &[[Vec<usize>; 2]]| match odd_even {
            // Without one parity nothing is known of the channel.
            true => both(&pair[..1]).zip(both(&pair[1..])).map_or([0.0; 2], |(e, o)| [e, o]),
            false => [both(pair).unwrap_or(0.0); 2],
        };
        self.ends.chunks(2).flat_map(channel).collect()
    }

    /// Offsets `[read][column]` from the ends; zeros where they are not wanted.
    pub(super) fn columns(&self, samples: &Samples, step: &Refpix) -> Vec<f64> {
        let across = samples.across;
        let mut columns = vec![0.0; samples.total() * across];
        if step.use_top_bottom_ref_pixels {
            columns.par_chunks_mut(across).enumerate().for_each(|(k, row)| {
                let values = self.end_values(samples, k, step.odd_even_columns);
                for (i, c) in row.iter_mut().enumerate() {
                    *c = values[i / samples.width * 2 + i % 2];
                }
            });
        }
        columns
    }

    /// Variance that the ends' offsets add to a read, of a pixel's own.
    pub(super) fn end_noise(&self, step: &Refpix) -> f64 {
        if !step.use_top_bottom_ref_pixels {
            return 0.0;
        }
        let parities = if step.odd_even_columns { 1 } else { 2 };
        let of = |group: &[[Vec<usize>; 2]]| {
            let counts = [0, 1].map(|end| group.iter().map(|g| g[end].len()).sum::<usize>() as f64);
            match counts.map(|n| n > 0.0) {
                [true, true] => (1.0 / counts[0] + 1.0 / counts[1]) / 4.0,
                [false, false] => 0.0,
                _ => 1.0 / (counts[0] + counts[1]),
            }
        };
        self.ends.chunks(parities).map(of).sum::<f64>() / self.ends.chunks(parities).len() as f64
    }
}

/// The offsets, and the variance that they add to a read, of a pixel's own.
pub(super) fn offsets(samples: &Samples, window: bool, step: &Refpix) -> (Tables, f64) {
    let places = Places::of(samples, window);
    let columns = places.columns(samples, step);
    let mut lines = vec![0f32; samples.total() * samples.lines];
    let mut added = places.end_noise(step);
    if step.use_side_ref_pixels && !window {
        lines.par_chunks_mut(samples.lines).enumerate().for_each(|(k, row)| {
            let columns = &columns[k * samples.across..][..samples.across];
            let [left, right] = places.sides.each_ref().map(|side| {
                let value = |i: &usize| samples.list[*i].values[k] - columns[samples.list[*i].across];
                let values: Vec<Vec<f64>> = side.iter().map(|l| l.iter().map(value).collect()).collect();
                running_median(&values, step.side_smoothing_length as usize)
            });
            for (to, both) in row.iter_mut().zip(left.into_iter().zip(right)) {
                let value = match both {
                    (Some(l), Some(r)) => (l + r) / 2.0,
                    (l, r) => l.or(r).unwrap_or(0.0),
                };
                *to = (step.side_gain * value) as f32;
            }
        });
        added += step.side_gain * step.side_gain * side_noise(&places, step.side_smoothing_length as usize);
    }
    let columns = columns.into_iter().map(|v| v as f32).collect();
    (Tables { columns, lines, block_width: samples.across }, added)
}

/// The median of all values in `length` lines about each; `None` where there are none.
/// Past its ends the column is reflected about its first and last line.
fn running_median(lines: &[Vec<f64>], length: usize) -> Vec<Option<f64>> {
    let (n, half) = (lines.len() as isize, (length / 2) as isize);
    let reflected = |i: isize| {
        let i = if i < 0 {
            -i
        } else if i >= n {
            2 * n - 2 - i
        } else {
            i
        };
        i.clamp(0, n - 1) as usize
    };
    let mut window = Vec::new();
    (0..n)
        .map(|y| {
            window.clear();
            (y - half..=y + half).for_each(|i| window.extend_from_slice(&lines[reflected(i)]));
            (!window.is_empty()).then(|| median(&mut window))
        })
        .collect()
}

/// Variance of the running medians of normal noise of variance 1: π/2 of a mean's.
fn side_noise(places: &Places, length: usize) -> f64 {
    let window = (length / 2 * 2 + 1) as f64;
    let [left, right] = places.sides.each_ref().map(|side| {
        let pixels: usize = side.iter().map(Vec::len).sum();
        pixels as f64 / side.len().max(1) as f64 * window
    });
    let of = |n: f64| std::f64::consts::FRAC_PI_2 / n;
    match (left > 0.0, right > 0.0) {
        (true, true) => (of(left) + of(right)) / 4.0,
        (false, false) => 0.0,
        _ => of(left + right),
    }
}
