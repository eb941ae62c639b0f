//! The jumps of an exposure as a list: read back at the pixels that have any, so
//! that the kernel need not write what hardly any pixel has.

use std::ops::Range;

use super::{Slot, Stream};
use crate::config::Jump as Step;
use crate::datamodel::{Rate, dq};
use crate::engine::{Buffer, Engine};
use crate::error::Result;
use crate::kernels::ramp::flag;
use crate::profile::{self, Work};

/// Why a difference is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum Kind {
    /// A jump was found there, or came with the file.
    Found = 1,
    /// A jump in a neighbour leaks into it.
    Neighbour = 2,
    /// Soon after a large jump.
    After = 3,
    /// In the halo of a snowball, or where the core of one was in the ramp before.
    Snowball = 4,
}

/// A difference between two reads that is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jump {
    /// Pixel, row-major from 0.
    pub pixel: u32,
    /// The read after the difference, of the exposure, from 0.
    pub read: u32,
    /// Charge above the pixel's rate, e-; NaN where a read of the two is not usable.
    pub amplitude: f32,
    /// Its 1 σ, e-.
    pub sigma: f32,
    /// Gain, e-/DN.
    pub gain: f32,
    /// Why.
    pub kind: Kind,
}

/// What a recipe wants done about jumps once they are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spread {
    pub(super) step: Step,
    /// Part of a jump's charge in each neighbour along x and y; 0 for none.
    pub(super) leak: [f64; 2],
    /// Whether large jumps flag reads after them.
    pub(super) after: bool,
}

impl Spread {
    /// Whether the jumps have to be known at all.
    pub(super) fn needed(&self) -> bool {
        self.marks() || self.step.save_jumps
    }

    /// Whether they can flag more than themselves.
    pub(super) fn marks(&self) -> bool {
        self.leak != [0.0; 2] || self.after || self.step.expand_large_events
    }
}

/// What is read back of the frame.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) jumps: Vec<Jump>,
    /// First saturated read of each pixel, ramp by ramp (`u16::MAX`: none); only for
    /// snowballs.
    pub(super) saturated: Vec<Vec<u16>>,
    /// More jumps than pixels could have: the noise is wrong, and the list is let go.
    pub(super) too_many: bool,
}

/// Ramps of some pixels: their values, DN, and flags, `[read][place]`.
pub(super) struct Seen<'a> {
    pub(super) values: &'a [f32],
    pub(super) flags: &'a [u32],
    /// Places.
    pub(super) width: usize,
}

impl Found {
    /// Nothing yet of the frame of `stream`.
    pub(super) fn new(stream: &Stream<'_>) -> Found {
        let ramps = if stream.wants_saturated() { stream.ramp.ramps } else { 0 };
        let saturated = vec![vec![u16::MAX; stream.ramp.ny * stream.ramp.nx]; ramps];
        Found { jumps: Vec::new(), saturated, too_many: false }
    }

    /// Forgets the pixels that `again` picks: they are seen once more.
    pub(super) fn forget(&mut self, again: &[bool]) {
        self.jumps.retain(|j| !again[j.pixel as usize]);
    }

    /// Brings the list into order: by read, then by pixel.
    pub(super) fn sort(&mut self) {
        self.jumps.sort_unstable_by_key(|j| (j.read, j.pixel, j.kind));
    }

    /// Takes the jumps of `pixels` (of the frame), each at its place of `seen`.
    fn take(
        &mut self,
        stream: &Stream<'_>,
        seen: &Seen<'_>,
        pixels: impl Iterator<Item = (usize, usize)>,
        noise: &Noise,
        rate: &Rate,
    ) {
        /// Frames of fewer pixels may all be hit.
        const SMALL: usize = 1 << 20;
        let reads = stream.ramp.reads;
        if self.jumps.len() > SMALL.max(stream.ramp.ny * stream.ramp.nx / 2) {
            self.too_many = true;
        }
        if self.too_many {
            self.jumps = Vec::new();
        }
        for (place, pixel) in pixels {
            let all = if self.too_many { 0 } else { stream.ramp.ramps * reads };
            for k in 0..all {
                let f = seen.flags[k * seen.width + place];
                if f & flag::JUMP_DET != 0 && f & LOST == 0 && k % reads > 0 {
                    self.jumps.push(noise.jump(stream, seen, place, pixel, k, rate, Kind::Found));
                }
            }
            for (ramp, first) in self.saturated.iter_mut().enumerate() {
                let saturated =
                    |k: &usize| seen.flags[(ramp * reads + k) * seen.width + place] & flag::SATURATED != 0;
                first[pixel] = (0..reads).find(saturated).map_or(u16::MAX, |k| k.min(65534) as u16);
            }
        }
    }
}

/// Flags of reads that take no part.
pub(super) const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;

/// Gain and read variance of some rows.
pub(super) struct Noise {
    first: usize,
    gain: Vec<f32>,
    variance: Vec<f32>,
}

impl Noise {
    pub(super) fn of(stream: &Stream<'_>, rows: Range<usize>) -> Result<Noise> {
        let first = rows.start * stream.ramp.nx;
        let (gain, variance) = stream.cal.noise(rows)?;
        Ok(Noise { first, gain, variance })
    }

    pub(super) fn gain(&self, pixel: usize) -> f64 {
        f64::from(self.gain[pixel - self.first])
    }

    pub(super) fn variance(&self, pixel: usize) -> f64 {
        f64::from(self.variance[pixel - self.first])
    }

    /// The difference before read `k` of the exposure.
    #[allow(clippy::too_many_arguments, reason = "one place that knows how")]
    pub(super) fn jump(
        &self,
        stream: &Stream<'_>,
        seen: &Seen<'_>,
        place: usize,
        pixel: usize,
        k: usize,
        rate: &Rate,
        kind: Kind,
    ) -> Jump {
        let at = |k: usize| k * seen.width + place;
        let gain = self.gain(pixel);
        let rate = stream.electrons(rate, pixel, gain);
        let lost = (seen.flags[at(k - 1)] | seen.flags[at(k)]) & LOST != 0;
        let seconds = stream.amplitudes.seconds(k).filter(|_| !lost && rate.is_finite());
        let rise = gain * (f64::from(seen.values[at(k)]) - f64::from(seen.values[at(k - 1)]));
        let amplitude = seconds.map_or(f64::NAN, |s| rise - rate * s) as f32;
        let sigma = if amplitude.is_nan() {
            f32::NAN
        } else {
            stream.amplitudes.of_difference(rate, self.variance(pixel), k) as f32
        };
        Jump { pixel: pixel as u32, read: k as u32, amplitude, sigma, gain: gain as f32, kind }
    }
}

impl Stream<'_> {
    /// Whether the saturation of single reads is to be known.
    pub(super) fn wants_saturated(&self) -> bool {
        self.spread.as_ref().is_some_and(|s| s.step.expand_large_events)
    }

    /// A rate in e-/s.
    pub(super) fn electrons(&self, rate: &Rate, pixel: usize, gain: f64) -> f64 {
        f64::from(rate.data[pixel]) * if self.params.counts != 0 { gain } else { 1.0 }
    }

    /// Pixels of `rows` whose ramps are to be looked at.
    pub(super) fn worth_seeing(&self, rate: &Rate, rows: Range<usize>) -> Vec<usize> {
        let nx = self.ramp.nx;
        let bits = dq::JUMP_DET | if self.wants_saturated() { dq::SATURATED } else { 0 };
        (rows.start * nx..rows.end * nx).filter(|p| rate.dq[*p] & bits != 0).collect()
    }

    /// Looks at the ramps of `pixels` of a chunk that is still in `slot`, and takes
    /// their jumps.
    pub(super) fn see(
        &self,
        engine: &mut dyn Engine,
        slot: &Slot,
        tables: Buffer,
        grid: Range<usize>,
        pixels: &[usize],
        (rate, found): (&Rate, &mut Found),
    ) -> Result<()> {
        let Some((first, last)) = pixels.first().zip(pixels.last()) else { return Ok(()) };
        let _span = profile::span(Work::Compute, "jumps");
        let nx = self.ramp.nx;
        let noise = Noise::of(self, first / nx..last / nx + 1)?;
        for part in pixels.chunks(self.at_once(grid.len())) {
            let stored = self.store(engine, slot, tables, grid.clone(), part)?;
            let values = engine.download_f32(stored[1])?;
            let flags = engine.download(stored[2])?;
            stored.into_iter().for_each(|b| engine.free(b));
            let seen = Seen { values: &values, flags: &flags, width: part.len() };
            found.take(self, &seen, part.iter().copied().enumerate(), &noise, rate);
        }
        Ok(())
    }

    /// Takes the jumps of a chunk whose ramps are stored: `first` is the frame's pixel
    /// at the first place.
    pub(super) fn see_stored(
        &self,
        seen: &Seen<'_>,
        first: usize,
        rows: Range<usize>,
        (rate, found): (&Rate, &mut Found),
    ) -> Result<()> {
        let noise = Noise::of(self, rows.clone())?;
        let pixels = self.worth_seeing(rate, rows).into_iter().map(|p| (p - first, p));
        found.take(self, seen, pixels, &noise, rate);
        Ok(())
    }

    /// Pixels of a chunk of `rows` whose ramps are stored at once: no more memory
    /// than the chunk's raw reads take.
    pub(super) fn at_once(&self, rows: usize) -> usize {
        (self.ramp.chunk_bytes(rows) / 8 / (self.ramp.ramps * self.ramp.reads)).max(256)
    }

    /// Stores the ramps of `pixels` (of the frame) of a chunk that is in `slot`: the
    /// list, the values and the flags.
    pub(super) fn store(
        &self,
        engine: &mut dyn Engine,
        slot: &Slot,
        tables: Buffer,
        grid: Range<usize>,
        pixels: &[usize],
    ) -> Result<[Buffer; 3]> {
        let total = self.ramp.ramps * self.ramp.reads;
        let list: Vec<u32> = pixels.iter().map(|p| (p - grid.start * self.ramp.nx) as u32).collect();
        let list = engine.buffer_of(&list)?;
        let values = engine.allocate(total * pixels.len())?;
        let flags = engine.allocate(total * pixels.len())?;
        let listed =
            Slot { ramp: slot.ramp, flags: slot.flags, cal: slot.cal, list, out: values, flags_out: flags };
        self.dispatch(engine, &listed, tables, grid, Some(pixels.len()), Some(self.params.stages))?;
        Ok([list, values, flags])
    }
}
