//! What the reference pixels drift by, as patterns over channels and lines, each
//! measured twice (two ends, two sides), and what they say of the noise.

use std::collections::BTreeMap;

use super::Report;
use super::samples::{Sample, Samples, median};
use crate::kernels::shrink::Noise;

/// A pattern over n places, from two halves of the pixels.
pub(super) struct Pattern {
    /// `[read][n]`: mean of the halves, or the one that there is.
    pub(super) value: Vec<f64>,
    /// Half their difference; `None` where only one half was measured.
    pub(super) spread: Option<Vec<f64>>,
    /// Variance of a value by the pixels' own noise, DN².
    pub(super) white: f64,
    /// Places.
    pub(super) n: usize,
}

/// The mean of some pixels of one channel.
pub(super) struct Group {
    pub(super) channel: usize,
    /// Of its even (0) or odd (1) columns.
    pub(super) parity: usize,
    /// Of the lower (0) or upper (1) end, or the left (2) or right (3) side.
    part: usize,
    count: f64,
    /// `[read]`, DN.
    mean: Vec<f64>,
}

/// All that the reference pixels show, DN.
pub(super) struct Patterns {
    /// All pixels, by where they are.
    common: Vec<Group>,
    /// Channels about that: mean of even and odd columns.
    pub(super) channels: Option<Pattern>,
    /// Half the difference of even and odd columns.
    pub(super) parity: Option<Pattern>,
    /// Lines about the mean of their side.
    pub(super) lines: Option<Pattern>,
    /// Variance of a single read of a reference pixel, DN².
    pub(super) white: f64,
    /// Number of independent reads.
    pub(super) independent: f64,
    /// Reads of all ramps.
    pub(super) total: usize,
    /// Pixels that were used.
    pub(super) pixels: usize,
    /// Median level of each ramp, DN.
    pub(super) levels: Vec<f64>,
}

impl Patterns {
    /// Measures them. Pixels that scatter wildly are left out. `None` where too few
    /// are left to tell the noise.
    pub(super) fn of(mut samples: Samples) -> Option<Patterns> {
        let (ramps, reads) = (samples.ramps, samples.reads);
        let mut levels = vec![Vec::new(); ramps];
        for s in &mut samples.list {
            for (ramp, levels) in s.values.chunks_mut(reads).zip(&mut levels) {
                let level = ramp.iter().sum::<f64>() / reads as f64;
                ramp.iter_mut().for_each(|v| *v -= level);
                levels.push(level);
            }
        }
        let kept = tame(&samples);
        let level = |all: Vec<f64>| {
            let mut of_kept: Vec<f64> =
                all.into_iter().zip(&kept).filter_map(|(v, k)| k.then_some(v)).collect();
            median(&mut of_kept)
        };
        let levels = levels.into_iter().map(level).collect();
        let mut flags = kept.iter();
        samples.list.retain(|_| flags.next().copied().unwrap_or(false));
        let total = samples.total();
        // A mean over each ramp's reads was taken out.
        let independent = (total - ramps) as f64;
        let white = noise_variance(&samples, independent)?;
        let pixels = samples.list.len();
        let common = groups(&samples);
        // Channels are about the mean of their end, lines about that of their columns: so
        // neither tells of the other, nor of what is common.
        centre(&mut samples);
        let [even, odd] = [0, 1].map(|p| ends(&samples, white, |s| s.across % 2 == p));
        let (mut channels, parity) = match (even, odd) {
            (Some(even), Some(odd)) => (Some(even.with(&odd, 0.5)), Some(even.with(&odd, -0.5))),
            _ => (ends(&samples, white, |_| true), None),
        };
        let lines = sides(&samples, white);
        if let (Some(channels), Some(lines)) = (&mut channels, &lines)
            && channels.spread.is_none()
        {
            // One end may have drifted as its own lines do.
            channels.white += lines.of_one_half(independent);
        }
        // A side tells of its own channel: that others share it, the other side says.
        let lines = lines.filter(|l| l.spread.is_some() || samples.channels() == 1);
        Some(Patterns { common, channels, parity, lines, white, independent, total, pixels, levels })
    }

    /// The drift of all pixels, less what `other` says of a group at a read, and the part
    /// of a channel's own variance that is in it: 1/n for the pixels of n channels.
    ///
    /// The sides see every line, the ends only a few: they count by what their halves
    /// differ, or by their pixels' noise where that is more. Where a side or an end is
    /// missing, the halves are the sides and the ends.
    pub(super) fn together(&self, other: impl Fn(usize, &Group) -> f64) -> Option<(Pattern, f64)> {
        let there = |parts: &[usize]| parts.iter().all(|p| self.common.iter().any(|g| g.part == *p));
        let of = |halves: [&[usize]; 2]| {
            let half = |parts: &[usize]| {
                let groups = || self.common.iter().filter(|g| parts.contains(&g.part));
                let sum = |k: usize| groups().map(|g| g.count * (g.mean[k] - other(k, g))).sum();
                ((0..self.total).map(sum).collect(), vec![groups().map(|g| g.count).sum()])
            };
            Pattern::of_halves(halves.map(half), self.white)
        };
        let (sides, ends): ([&[usize]; 2], [&[usize]; 2]) = ([&[2], &[3]], [&[0], &[1]]);
        if !there(&[0, 1, 2, 3]) {
            let halves = match (there(&[2, 3]), self.common.iter().any(|g| g.part > 1)) {
                (true, _) => sides,
                (_, false) => ends,
                _ => [&[2usize, 3][..], &[0, 1][..]],
            };
            let parts = halves.concat();
            return of(halves).map(|pattern| (pattern, self.share(&[(&parts, 1.0)])));
        }
        let (sides, ends) = (of(sides)?, of(ends)?);
        let noise = |p: &Pattern| p.half_difference(self.independent).max(p.white);
        let by_ends = noise(&sides) / (noise(&sides) + noise(&ends));
        let share = self.share(&[(&[2, 3], 1.0 - by_ends), (&[0, 1], by_ends)]);
        Some((sides.joined(&ends, by_ends), share))
    }

    /// Sum over channels of the squares of their parts of a mean of `parts`, by weight.
    fn share(&self, parts: &[(&[usize], f64)]) -> f64 {
        let mut of_channel = BTreeMap::<usize, f64>::new();
        for (parts, weight) in parts {
            let groups = || self.common.iter().filter(|g| parts.contains(&g.part));
            let pixels: f64 = groups().map(|g| g.count).sum();
            groups().for_each(|g| *of_channel.entry(g.channel).or_default() += weight * g.count / pixels);
        }
        of_channel.values().map(|part| part * part).sum()
    }

    /// What they say of the noise; the offsets add `added` to the variance of a read.
    pub(super) fn report(&self, added: f64) -> Report {
        let rms = |p: Option<&Pattern>| p.map_or(0.0, |p| p.signal(self.independent).sqrt());
        Report {
            pixels: self.pixels,
            scatter: self.white.sqrt(),
            common: rms(self.together(|_, _| 0.0).map(|(pattern, _)| pattern).as_ref()),
            channels: rms(self.channels.as_ref()),
            lines: rms(self.lines.as_ref()),
            added,
        }
    }
}

impl Pattern {
    /// What [`shrink`](crate::kernels::shrink::shrink) must know.
    pub(super) fn noise(&self, independent: f64) -> Noise<'_> {
        Noise { white: self.white, spread: self.spread.as_deref(), independent }
    }

    /// Variance of the signal: covariance of the halves; where there is only one half,
    /// what exceeds the pixels' noise. Not below 0.
    pub(super) fn signal(&self, independent: f64) -> f64 {
        let power = |values: &[f64]| {
            values.iter().map(|v| v * v).sum::<f64>() / (self.n as f64 * independent.max(1.0))
        };
        let noise = self.spread.as_ref().map_or(self.white, |s| power(s));
        (power(&self.value) - noise).max(0.0)
    }

    /// Variance of what is not known of a value once `kept` of the pattern, with noise
    /// of variance `left`, is taken out: the rest of the signal, and twice the error
    /// with which that is known.
    pub(super) fn unknown(&self, kept: &[f64], left: f64, independent: f64) -> f64 {
        let freedom = self.n as f64 * independent.max(1.0);
        let kept = kept.iter().map(|v| v * v).sum::<f64>() / freedom;
        (self.signal(independent) - kept).max(0.0) + left + 2.0 * self.white * (2.0 / freedom).sqrt()
    }

    /// Variance of a value's drift, of whatever kind, in one half; without halves, of all.
    fn of_one_half(&self, independent: f64) -> f64 {
        let halves = self.spread.as_ref().map_or((&self.value, 1.0), |s| (s, 2.0));
        let power = halves.0.iter().map(|v| v * v).sum::<f64>() / (self.n as f64 * independent.max(1.0));
        (halves.1 * (power - self.white)).max(0.0)
    }

    /// Mean square of half the difference of the halves; 0 where there is only one.
    fn half_difference(&self, independent: f64) -> f64 {
        let squares: f64 = self.spread.iter().flatten().map(|v| v * v).sum();
        squares / (self.n as f64 * independent.max(1.0))
    }

    /// The mean of two, `other` with this weight: of one half each, of the other half
    /// each.
    fn joined(&self, other: &Pattern, weight: f64) -> Pattern {
        let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + weight * (b - a)).collect();
        Pattern {
            value: mean(&self.value, &other.value),
            spread: self.spread.as_ref().zip(other.spread.as_ref()).map(|(a, b)| mean(a, b)),
            white: (1.0 - weight).powi(2) * self.white + weight * weight * other.white,
            n: self.n,
        }
    }

    /// Half the sum (`factor` 0.5) or difference (−0.5) of two.
    fn with(&self, other: &Pattern, factor: f64) -> Pattern {
        let both = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| 0.5 * a + factor * b).collect();
        Pattern {
            value: both(&self.value, &other.value),
            spread: self.spread.as_ref().zip(other.spread.as_ref()).map(|(a, b)| both(a, b)),
            white: (self.white + other.white) / 4.0,
            n: self.n,
        }
    }

    /// From two halves, each the sums `[read][n]` and the counts `[n]`. `None` where
    /// less than half of the places was measured at all.
    fn of_halves(halves: [(Vec<f64>, Vec<f64>); 2], white: f64) -> Option<Pattern> {
        let n = halves[0].1.len();
        let count = |h: usize, i: usize| halves[h].1[i];
        let both = (0..n).filter(|i| count(0, *i) > 0.0 && count(1, *i) > 0.0).count();
        let any: Vec<usize> = (0..n).filter(|i| count(0, *i) + count(1, *i) > 0.0).collect();
        if n == 0 || 2 * any.len() < n {
            return None;
        }
        let mut value = vec![0.0; halves[0].0.len()];
        let mut spread = vec![0.0; halves[0].0.len()];
        let mut variance = 0.0;
        for i in &any {
            let (a, b) = (count(0, *i), count(1, *i));
            variance += if a > 0.0 && b > 0.0 { (1.0 / a + 1.0 / b) / 4.0 } else { 1.0 / (a + b) };
        }
        for (at, (value, spread)) in value.iter_mut().zip(&mut spread).enumerate() {
            let (a, b) = (count(0, at % n), count(1, at % n));
            let (sum_a, sum_b) = (halves[0].0[at], halves[1].0[at]);
            if a > 0.0 && b > 0.0 {
                *value = (sum_a / a + sum_b / b) / 2.0;
                *spread = (sum_a / a - sum_b / b) / 2.0;
            } else if a + b > 0.0 {
                *value = (sum_a + sum_b) / (a + b);
            }
        }
        // Halves that share few places do not tell their noise.
        let spread = (2 * both >= any.len()).then_some(spread);
        Some(Pattern { value, spread, white: white * variance / any.len() as f64, n })
    }
}

/// Where a sample is: lower or upper end, left or right side.
fn part(samples: &Samples, s: &Sample) -> usize {
    if s.end {
        usize::from(2 * s.line >= samples.lines)
    } else {
        2 + usize::from(2 * s.across >= samples.across)
    }
}

/// Part, channel and parity of a sample as one number below [`places`].
fn place(samples: &Samples, s: &Sample) -> usize {
    (part(samples, s) * samples.channels() + samples.channel(s)) * 2 + s.across % 2
}

fn places(samples: &Samples) -> usize {
    4 * samples.channels() * 2
}

/// Which pixels scatter no more than three times the median of those about them: of the
/// same end or side, channel and parity. What these drift by, their median at each read,
/// is left out of account.
fn tame(samples: &Samples) -> Vec<bool> {
    /// Of fewer no median tells.
    const FEWEST: usize = 5;
    let mut kept = vec![true; samples.list.len()];
    let mut order: Vec<(usize, usize)> =
        samples.list.iter().enumerate().map(|(i, s)| (place(samples, s), i)).collect();
    order.sort_unstable();
    let mut column = Vec::new();
    for group in order.chunk_by(|a, b| a.0 == b.0).filter(|g| g.len() >= FEWEST) {
        let mut squares = vec![0.0; group.len()];
        for k in 0..samples.total() {
            let value = |&(_, i): &(usize, usize)| samples.list[i].values[k];
            column.clear();
            column.extend(group.iter().map(value));
            let middle = median(&mut column);
            squares.iter_mut().zip(group).for_each(|(s, at)| *s += (value(at) - middle).powi(2));
        }
        let limit = 9.0 * median(&mut squares.clone());
        squares.iter().zip(group).for_each(|(s, (_, i))| kept[*i] = *s <= limit);
    }
    kept
}

/// Variance of a single read about the mean of the same line, channel and column
/// parity, which drift together. `None` where no two pixels share these.
fn noise_variance(samples: &Samples, independent: f64) -> Option<f64> {
    let key = |s: &Sample| (s.line, samples.channel(s), s.across % 2);
    let mut order: Vec<&Sample> = samples.list.iter().collect();
    order.sort_by_key(|s| key(s));
    let (mut square, mut freedom) = (0.0, 0.0);
    for group in order.chunk_by(|a, b| key(a) == key(b)).filter(|g| g.len() > 1) {
        let mean = group_mean(group.iter().copied(), samples.total());
        for s in group {
            square += s.values.iter().zip(&mean).map(|(v, m)| (v - m).powi(2)).sum::<f64>();
        }
        freedom += (group.len() - 1) as f64 * independent;
    }
    (freedom > 0.0).then(|| square / freedom)
}

fn group_mean<'a>(samples: impl ExactSizeIterator<Item = &'a Sample>, total: usize) -> Vec<f64> {
    let count = samples.len() as f64;
    let mut mean = vec![0.0; total];
    for s in samples {
        mean.iter_mut().zip(&s.values).for_each(|(m, v)| *m += v / count);
    }
    mean
}

/// Sums `[read][n]` and counts `[n]` of the samples that `of` gives a place.
fn sums(samples: &Samples, n: usize, of: impl Fn(&Sample) -> Option<usize>) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut counts) = (vec![0.0; samples.total() * n], vec![0.0; n]);
    for s in &samples.list {
        let Some(place) = of(s) else { continue };
        counts[place] += 1.0;
        s.values.iter().enumerate().for_each(|(k, v)| sums[k * n + place] += v);
    }
    (sums, counts)
}

/// The means of the samples by [`place`].
fn groups(samples: &Samples) -> Vec<Group> {
    let (n, channels) = (places(samples), samples.channels());
    let (sums, counts) = sums(samples, n, |s| Some(place(samples, s)));
    let one = |i: usize| Group {
        channel: i / 2 % channels,
        parity: i % 2,
        part: i / 2 / channels,
        count: counts[i],
        mean: sums.iter().skip(i).step_by(n).map(|s| s / counts[i]).collect(),
    };
    (0..n).filter(|i| counts[*i] > 0.0).map(one).collect()
}

/// Takes out at every read the mean of each end, and of each side, channel and parity.
fn centre(samples: &mut Samples) {
    let n = 2 + places(samples);
    let of = |samples: &Samples, s: &Sample| if s.end { part(samples, s) } else { 2 + place(samples, s) };
    let (sums, counts) = sums(samples, n, |s| Some(of(samples, s)));
    let groups: Vec<usize> = samples.list.iter().map(|s| of(samples, s)).collect();
    for (s, group) in samples.list.iter_mut().zip(groups) {
        for (k, v) in s.values.iter_mut().enumerate() {
            *v -= sums[k * n + group] / counts[group];
        }
    }
}

/// The pattern over channels from the lines at their two ends.
fn ends(samples: &Samples, white: f64, wanted: impl Fn(&Sample) -> bool) -> Option<Pattern> {
    let half = |upper: bool| {
        let of = |s: &Sample| {
            let here = s.end && wanted(s) && part(samples, s) == usize::from(upper);
            here.then(|| samples.channel(s))
        };
        sums(samples, samples.channels(), of)
    };
    Pattern::of_halves([half(false), half(true)], white)
}

/// The pattern over lines from the pixels at the two sides.
fn sides(samples: &Samples, white: f64) -> Option<Pattern> {
    let half = |right: bool| {
        let of = |s: &Sample| (!s.end && part(samples, s) == 2 + usize::from(right)).then_some(s.line);
        sums(samples, samples.lines, of)
    };
    Pattern::of_halves([half(false), half(true)], white)
}
