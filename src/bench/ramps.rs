//! Ramps of known truth as the files that a detector would leave.
//!
//! Per pixel and frame: electrons += Poisson(rate · Δt), and the jump where there is
//! one; counts = round(pedestal + electrons/gain + noise), kept in 0 … 65535. The
//! frames of a read are averaged and rounded once more. Every number is a function of
//! the seed, the pixel and the frame, so that files do not depend on threads.

use std::path::Path;

use rayon::prelude::*;

use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels};
use crate::simulate::philox::{Purpose, Source};
use crate::simulate::random::{normal, poisson};

/// Columns of the frames.
pub(super) const COLUMNS: usize = 1000;
/// Seconds from frame to frame.
pub(super) const FRAME: f64 = 1.475;
/// Noise of a single frame, e-.
pub(super) const NOISE: f64 = 10.0;

/// How a ramp is read: the frames (counted from 1, one each [`FRAME`] after the
/// reset) that each read averages.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    pub(super) name: String,
    pub(super) reads: Vec<Vec<usize>>,
    /// Times that this is done, each after a reset.
    pub(super) ramps: usize,
}

impl Pattern {
    /// Every frame is a read.
    pub(super) fn even(reads: usize) -> Pattern {
        Pattern { name: reads.to_string(), reads: (1..=reads).map(|k| vec![k]).collect(), ramps: 1 }
    }

    /// Mean time of each read since the reset, s.
    pub(super) fn times(&self) -> Vec<f64> {
        self.reads.iter().map(|f| f.iter().sum::<usize>() as f64 / f.len() as f64 * FRAME).collect()
    }

    fn frames(&self) -> usize {
        self.reads.last().and_then(|f| f.last()).copied().unwrap_or(0)
    }
}

/// Ramps alike but for their noise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ramps {
    pub(super) pattern: Pattern,
    /// e-/s.
    pub(super) rate: f64,
    /// e-/DN.
    pub(super) gain: f64,
    /// DN before any light.
    pub(super) pedestal: f64,
    /// Electrons of a hit, just before a read that goes through all but the first with
    /// the column; 0: none.
    pub(super) jump: f64,
    /// Raw DN from which a read counts as saturated.
    pub(super) saturation: f64,
}

impl Ramps {
    /// Without hits, nothing near saturation: a gain of 2, and of 3 where a u16 would
    /// not hold the last read of that.
    pub(super) fn new(pattern: Pattern, rate: f64) -> Ramps {
        let (pedestal, saturation) = (2000.0, 65_000.0);
        let fits = rate * FRAME * pattern.frames() as f64 / 2.0 < 0.9 * saturation;
        let gain = if fits { 2.0 } else { 3.0 };
        Ramps { pattern, rate, gain, pedestal, jump: 0.0, saturation }
    }

    /// Writes `rows` rows of [`COLUMNS`] such ramps; `seed` is their own.
    pub(super) fn write(&self, path: &Path, rows: usize, seed: u64) -> Result<()> {
        let (ramps, reads) = (self.pattern.ramps, self.pattern.reads.len());
        let mut h = Header::new();
        h.set("INSTRUME", "IRIS", "");
        h.set("DETECTOR", "IMG1", "");
        h.set("GAIN", self.gain, "e-/DN");
        h.set("READNOIS", NOISE, "e-");
        h.set("SATURATE", self.saturation, "DN");
        h.set("TFRAME", FRAME, "s");
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &h)?;
        let h = Header::new();
        let cube = self.expose(rows, seed);
        w.image("DATA", &h, &[ramps, reads, rows, COLUMNS], Pixels::U16(&cube))?;
        let times = self.pattern.times().repeat(ramps);
        w.image("TIMES", &h, &[ramps, reads], Pixels::F64(&times))?;
        let frames = |f: &Vec<usize>| f.len() as u16;
        let averaged: Vec<u16> = self.pattern.reads.iter().map(frames).collect::<Vec<_>>().repeat(ramps);
        w.image("NSAMPLE", &h, &[ramps, reads], Pixels::U16(&averaged))?;
        w.finish()?;
        Ok(())
    }

    /// The reads, `[ramp][read][row][column]`, DN.
    fn expose(&self, rows: usize, seed: u64) -> Vec<u16> {
        let (ramps, reads) = (self.pattern.ramps, self.pattern.reads.len());
        let mut out = vec![0; ramps * reads * rows * COLUMNS];
        // [row][ramp × read]: each row is one thread's.
        let mut by_row: Vec<Vec<&mut [u16]>> = (0..rows).map(|_| Vec::new()).collect();
        out.chunks_mut(COLUMNS).enumerate().for_each(|(i, part)| by_row[i % rows].push(part));
        let source = Source::new(seed, Purpose::Bench, 0);
        by_row.into_par_iter().enumerate().for_each(|(y, mut planes)| {
            for (ramp, planes) in planes.chunks_mut(reads).enumerate() {
                self.row(&source, y as u32, ramp * self.pattern.frames(), planes);
            }
        });
        out
    }

    /// One row of one ramp; its frames have the numbers from `first` on.
    fn row(&self, source: &Source, y: u32, first: usize, planes: &mut [&mut [u16]]) {
        let mut electrons = [0.0; COLUMNS];
        let places = (planes.len() - 1).max(1);
        let mut read_at = 0;
        let mut sums = [0.0; COLUMNS];
        for frame in 1..=self.pattern.frames() {
            let frames = &self.pattern.reads[read_at];
            if read_at > 0 && frames.first() == Some(&frame) {
                electrons.iter_mut().skip(read_at - 1).step_by(places).for_each(|e| *e += self.jump);
            }
            let read = frames.contains(&frame);
            let z = (first + frame) as u32;
            for (x, electrons) in electrons.iter_mut().enumerate() {
                let words = source.block(x as u32, y, z);
                *electrons += poisson(self.rate * FRAME, [words[1], words[2]], source, x as u32, y, z);
                if read {
                    let counts = self.pedestal + (*electrons + NOISE * normal(words[0])) / self.gain;
                    sums[x] += (counts + 0.5).clamp(0.0, 65_535.0).floor();
                }
            }
            if frames.last() == Some(&frame) {
                let n = frames.len() as f64;
                for (to, sum) in planes[read_at].iter_mut().zip(&mut sums) {
                    // Halves to even: upwards would raise the mean of few frames more than that
                    // of many.
                    *to = (*sum / n).round_ties_even() as u16;
                    *sum = 0.0;
                }
                read_at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_have_the_mean_and_the_noise_that_they_should() {
        let pattern = Pattern { name: String::new(), reads: vec![vec![1], vec![3, 4, 5, 6]], ramps: 2 };
        assert_eq!(pattern.times(), [FRAME, 4.5 * FRAME]);
        let ramps = Ramps::new(pattern, 200.0);
        let rows = 20;
        let cube = ramps.expose(rows, 3);
        assert_eq!(cube, ramps.expose(rows, 3));
        assert_ne!(cube, ramps.expose(rows, 4));
        let n = rows * COLUMNS;
        let electrons = |plane: usize, i: usize| (f64::from(cube[plane * n + i]) - 2000.0) * 2.0;
        for (plane, time, frames) in [(0, 1.0, 1.0), (1, 4.5, 4.0), (2, 1.0, 1.0), (3, 4.5, 4.0)] {
            let mean = (0..n).map(|i| electrons(plane, i)).sum::<f64>() / n as f64;
            let square = (0..n).map(|i| (electrons(plane, i) - mean).powi(2)).sum::<f64>() / n as f64;
            // τ of four frames: t̄ − (4² − 1)/(6 · 4) frames.
            let tau = time - (frames * frames - 1.0) / (6.0 * frames);
            let rounding = 4.0 / 12.0 * (1.0 / frames + f64::from(frames > 1.0));
            let variance = 200.0 * FRAME * tau + NOISE * NOISE / frames + rounding;
            assert!((mean - 200.0 * FRAME * time).abs() < 4.5 * (variance / n as f64).sqrt(), "{mean}");
            assert!((square / variance - 1.0).abs() < 4.5 * (2.0 / n as f64).sqrt(), "{square} {variance}");
        }
    }
}
