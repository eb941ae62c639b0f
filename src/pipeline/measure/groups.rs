//! Ramps that may be compared with each other: read alike and lit alike.

use crate::error::{Error, Result};
use crate::pipeline::robust::median;

use super::ramps::Corrected;

/// One ramp of one exposure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Member {
    /// Exposure.
    pub(super) file: usize,
    /// Its first read among the exposure's.
    pub(super) first: usize,
    /// Reads of the ramp.
    pub(super) all: usize,
    /// Reads that (nearly) all pixels have below saturation.
    pub(super) reads: usize,
    /// Seconds from read to read.
    pub(super) step: f64,
    /// Median signal of an interval, DN.
    pub(super) level: f64,
    /// Whether the signal stands out of the noise of a difference.
    pub(super) lit: bool,
}

/// Ramps with the same reads, at the same level within a tenth.
pub(super) type Group = Vec<Member>;

/// Part of the good pixels that must be below saturation in all the reads used.
const UNSATURATED: f64 = 0.95;

/// Every ramp of the set, with what is measured on a band in the middle of the frame.
pub(super) fn members(set: &Corrected, good: &[bool]) -> Result<Vec<Member>> {
    let (ny, nx) = set.size();
    let rows = ny.saturating_sub(64) / 2..(ny + 64).min(2 * ny) / 2;
    let pixels: Vec<usize> = (0..rows.len() * nx).filter(|i| good[rows.start * nx + i]).collect();
    if pixels.is_empty() {
        return Err(Error::Unsolvable("the ramps have no usable pixel in the middle of the frame".into()));
    }
    let mut out = Vec::new();
    for (file, ramp) in set.ramps.iter().enumerate() {
        if ramp.nsample.iter().any(|n| *n > 1) {
            let message = "has averaged reads (NSAMPLE > 1): single reads are needed, whose noise is known";
            return Err(Error::input(&set.names[file], message));
        }
        let band = set.band(file, rows.clone())?;
        for r in 0..ramp.ramps {
            let first = r * ramp.reads;
            let times = &ramp.times[first..first + ramp.reads];
            let Some(step) = even_step(times) else {
                let message =
                    "has reads that are not evenly spaced in time (TIMES): give ramps with even reads";
                return Err(Error::input(&set.names[file], message));
            };
            let mut usable: Vec<usize> = pixels.iter().map(|i| band.usable(*i, first, ramp.reads)).collect();
            usable.sort_unstable();
            let reads = usable[((1.0 - UNSATURATED) * usable.len() as f64) as usize];
            if reads < 3 {
                out.push(Member { file, first, all: ramp.reads, reads, step, level: f64::NAN, lit: false });
                continue;
            }
            let mut differences: Vec<f32> = pixels
                .iter()
                .flat_map(|i| (1..reads).map(move |k| (*i, k)))
                .map(|(i, k)| band.read(first + k)[i] - band.read(first + k - 1)[i])
                .filter(|d| d.is_finite())
                .collect();
            let level = median(&mut differences).unwrap_or(f64::NAN);
            differences.iter_mut().for_each(|d| *d = (f64::from(*d) - level).abs() as f32);
            let noise = 1.4826 * median(&mut differences).unwrap_or(f64::NAN);
            out.push(Member { file, first, all: ramp.reads, reads, step, level, lit: level > noise });
        }
    }
    Ok(out)
}

/// The seconds from read to read, where they are the same within 1 %.
pub(super) fn even_step(times: &[f64]) -> Option<f64> {
    let (first, last) = (times.first()?, times.last()?);
    let step = (last - first) / (times.len().checked_sub(1).filter(|n| *n > 0)?) as f64;
    let even = times.windows(2).all(|t| ((t[1] - t[0]) / step - 1.0).abs() < 0.01);
    (even && step > 0.0).then_some(step)
}

/// Groups of two ramps or more; the others, with the reason, as sentences.
pub(super) fn groups(members: &[Member], set: &Corrected) -> (Vec<Group>, Vec<String>) {
    let mut out: Vec<Group> = Vec::new();
    let mut left = Vec::new();
    for m in members {
        let name = set.names[m.file].display();
        if m.reads < 3 {
            left.push(format!("{name}: fewer than 3 reads below saturation: left out"));
            continue;
        }
        let alike = |g: &&mut Group| {
            let o = g[0];
            let level = (m.level - o.level).abs() <= 0.1 * o.level.abs();
            (m.step / o.step - 1.0).abs() < 1e-3 && m.lit == o.lit && (!m.lit || level)
        };
        match out.iter_mut().find(alike) {
            Some(g) => g.push(*m),
            None => out.push(vec![*m]),
        }
    }
    out.retain(|g| {
        let alone = g.len() < 2;
        if alone {
            let name = set.names[g[0].file].display();
            left.push(format!("{name}: no other ramp has its level and read times: left out"));
        }
        !alone
    });
    for g in &mut out {
        let reads = g.iter().map(|m| m.reads).min().unwrap_or(0);
        g.iter_mut().for_each(|m| m.reads = reads);
    }
    (out, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_times_have_a_step() {
        assert_eq!(even_step(&[3.0, 6.0, 9.0]), Some(3.0));
        assert_eq!(even_step(&[3.0, 6.0, 12.0]), None);
        assert_eq!(even_step(&[3.0]), None);
        assert_eq!(even_step(&[]), None);
    }
}
