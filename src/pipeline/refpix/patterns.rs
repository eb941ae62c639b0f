//! What the reference pixels drift by, as patterns over channels and lines, each
//! measured twice (two ends, two sides), and what they say of the noise.

use std::collections::BTreeSet;

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
    /// Of the left (0) or right (1) side, or the lower or upper end.
    half: usize,
    count: f64,
    /// `[read]`, DN.
    mean: Vec<f64>,
}

/// All that the reference pixels show, DN.
pub(super) struct Patterns {
    /// Pixels that drift as all do: those of the sides, which see every line; without
    /// any, those of the ends.
    pub(super) common: Vec<Group>,
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
        let kept = tame(&samples.list);
        let keep = |all: Vec<f64>| all.into_iter().zip(&kept).filter_map(|(v, k)| k.then_some(v)).collect();
        let levels = levels
            .into_iter()
            .map(|l| {
                median(&mut {
                    let kept: Vec<f64> = keep(l);
                    kept
                })
            })
            .collect();
        let mut flags = kept.iter();
        samples.list.retain(|_| flags.next().copied().unwrap_or(false));
        let total = samples.total();
        // A mean over each ramp's reads was taken out.
        let independent = (total - ramps) as f64;
        let white = noise_variance(&samples, independent)?;
        let pixels = samples.list.len();
        let places = samples.channels() * 2;
        let width = samples.width;
        let place = |s: &Sample| s.across / width * 2 + s.across % 2;
        let has_sides = samples.list.iter().any(|s| !s.end);
        let (across, lines) = (samples.across, samples.lines);
        let common = groups(&samples, places, |s| {
            let half = if has_sides { 2 * s.across >= across } else { 2 * s.line >= lines };
            (s.end != has_sides).then(|| usize::from(half) * places + place(s))
        });
        // Channels are about the mean of their end, lines about that of their columns: so
        // neither tells of the other, nor of what is common.
        let uppers = 2;
        centre(&mut samples, uppers + places, |s| {
            if s.end { usize::from(2 * s.line >= lines) } else { uppers + place(s) }
        });
        let [even, odd] = [0, 1].map(|p| ends(&samples, white, |s| s.across % 2 == p));
        let (channels, parity) = match (even, odd) {
            (Some(even), Some(odd)) => (Some(even.with(&odd, 0.5)), Some(even.with(&odd, -0.5))),
            _ => (ends(&samples, white, |_| true), None),
        };
        Some(Patterns {
            common,
            channels,
            parity,
            lines: sides(&samples, white),
            white,
            independent,
            total,
            pixels,
            levels,
        })
    }

    /// The drift of all pixels: [`Patterns::common`] less what `other` says of a group
    /// at a read.
    pub(super) fn together(&self, other: impl Fn(usize, &Group) -> f64) -> Option<Pattern> {
        let half = |h: usize| {
            let groups: Vec<&Group> = self.common.iter().filter(|g| g.half == h).collect();
            let sum = |k: usize| groups.iter().map(|g| g.count * (g.mean[k] - other(k, g))).sum();
            ((0..self.total).map(sum).collect(), vec![groups.iter().map(|g| g.count).sum()])
        };
        Pattern::of_halves([half(0), half(1)], self.white)
    }

    /// The part of a channel's own variance that [`Patterns::together`] has: 1/n for the
    /// pixels of n channels.
    pub(super) fn share(&self) -> f64 {
        let pixels: f64 = self.common.iter().map(|g| g.count).sum();
        let channels = self.common.iter().map(|g| g.channel).collect::<BTreeSet<_>>();
        let of = |c: &usize| self.common.iter().filter(|g| g.channel == *c).map(|g| g.count).sum::<f64>();
        channels.iter().map(|c| (of(c) / pixels).powi(2)).sum()
    }

    /// What they say of the noise; the offsets add `added` to the variance of a read.
    pub(super) fn report(&self, added: f64) -> Report {
        let rms = |p: Option<&Pattern>| p.map_or(0.0, |p| p.signal(self.independent).sqrt());
        Report {
            pixels: self.pixels,
            scatter: self.white.sqrt(),
            common: rms(self.together(|_, _| 0.0).as_ref()),
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

/// Which pixels scatter no more than three times the median. What all drift by, the
/// median over pixels at each read, is left out of account.
fn tame(samples: &[Sample]) -> Vec<bool> {
    let Some(total) = samples.first().map(|s| s.values.len()) else { return Vec::new() };
    let mut column = Vec::with_capacity(samples.len());
    let mut centre = Vec::with_capacity(total);
    for k in 0..total {
        column.clear();
        column.extend(samples.iter().map(|s| s.values[k]));
        centre.push(median(&mut column));
    }
    let square = |s: &Sample| s.values.iter().zip(&centre).map(|(r, c)| (r - c).powi(2)).sum::<f64>();
    let squares: Vec<f64> = samples.iter().map(square).collect();
    let typical = median(&mut squares.clone());
    squares.iter().map(|s| *s <= 9.0 * typical).collect()
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

/// The means of the samples to which `of` gives a place, one of `places` (channel and
/// parity) of either half.
fn groups(samples: &Samples, places: usize, of: impl Fn(&Sample) -> Option<usize>) -> Vec<Group> {
    let n = 2 * places;
    let (sums, counts) = sums(samples, n, of);
    let one = |i: usize| Group {
        channel: i % places / 2,
        parity: i % 2,
        half: i / places,
        count: counts[i],
        mean: sums.iter().skip(i).step_by(n).map(|s| s / counts[i]).collect(),
    };
    (0..n).filter(|i| counts[*i] > 0.0).map(one).collect()
}

/// Takes out of each of `groups` groups of samples its mean at every read.
fn centre(samples: &mut Samples, groups: usize, of: impl Fn(&Sample) -> usize) {
    let (sums, counts) = sums(samples, groups, |s| Some(of(s)));
    for s in &mut samples.list {
        let group = of(s);
        for (k, v) in s.values.iter_mut().enumerate() {
            *v -= sums[k * groups + group] / counts[group];
        }
    }
}

/// The pattern over channels from the lines at their two ends.
fn ends(samples: &Samples, white: f64, wanted: impl Fn(&Sample) -> bool) -> Option<Pattern> {
    let half = |upper: bool| {
        let of = |s: &Sample| {
            let here = s.end && wanted(s) && (2 * s.line >= samples.lines) == upper;
            here.then(|| samples.channel(s))
        };
        sums(samples, samples.channels(), of)
    };
    Pattern::of_halves([half(false), half(true)], white)
}

/// The pattern over lines from the pixels at the two sides.
fn sides(samples: &Samples, white: f64) -> Option<Pattern> {
    let half = |right: bool| {
        let of = |s: &Sample| (!s.end && (2 * s.across >= samples.across) == right).then_some(s.line);
        sums(samples, samples.lines, of)
    };
    Pattern::of_halves([half(false), half(true)], white)
}
