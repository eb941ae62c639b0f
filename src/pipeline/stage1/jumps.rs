//! The jumps of an exposure as a list: read back at the pixels that have any, so
//! that the kernel need not write what hardly any pixel has.

use std::ops::Range;

use super::Stream;
use super::slot::Loaded;
use super::window::Window;
use crate::config::Jump as Step;
use crate::datamodel::dq;
use crate::engine::{Buffer, DeviceKind, Engine};
use crate::error::Result;
use crate::kernels::ramp::{Plane, flag};
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
    /// Those of rows that are given away, without those of pixels that are not used.
    pub(super) kept: Vec<Jump>,
    /// Jumps found in rows that will not be seen again.
    counted: usize,
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
        Found { saturated, ..Found::default() }
    }

    /// Forgets `pixels`, ascending: they are seen once more.
    pub(super) fn forget(&mut self, pixels: &[usize]) {
        self.jumps.retain(|j| pixels.binary_search(&(j.pixel as usize)).is_err());
    }

    /// Brings the list into order: by read, then by pixel.
    pub(super) fn sort(&mut self) {
        sort(&mut self.jumps);
    }

    /// Keeps the jumps of the run `pixels`, which is given away, but for those of pixels
    /// that are not used: reference pixels and bad ones have no rate that a jump could
    /// spoil.
    pub(super) fn keep(&mut self, window: &Window, pixels: Range<usize>) {
        let own = self.jumps.iter().filter(|j| pixels.contains(&(j.pixel as usize)));
        let dq = window.dq(pixels.clone());
        self.kept.extend(own.filter(|j| dq[j.pixel as usize - pixels.start] & dq::DO_NOT_USE == 0));
    }

    /// Lets go of the jumps before pixel `first`: of all that is kept, nobody asks again.
    pub(super) fn let_go(&mut self, first: usize) {
        self.jumps.retain(|j| j.pixel as usize >= first);
    }

    /// Takes the jumps of `pixels` (of the frame), each at its place of `seen`.
    fn take(
        &mut self,
        stream: &Stream<'_>,
        seen: &Seen<'_>,
        pixels: impl Iterator<Item = (usize, usize)>,
        noise: &Noise,
        rates: &Window,
    ) {
        let reads = stream.ramp.reads;
        for (place, pixel) in pixels {
            let all = if self.too_many { 0 } else { stream.ramp.ramps * reads };
            for k in 0..all {
                let f = seen.flags[k * seen.width + place];
                if f & flag::JUMP_DET != 0 && f & LOST == 0 && k % reads > 0 {
                    self.jumps.push(noise.jump(stream, seen, place, pixel, k, rates, Kind::Found));
                }
            }
            for (ramp, first) in self.saturated.iter_mut().enumerate() {
                let saturated =
                    |k: &usize| seen.flags[(ramp * reads + k) * seen.width + place] & flag::SATURATED != 0;
                first[pixel] = (0..reads).find(saturated).map_or(u16::MAX, |k| k.min(65534) as u16);
            }
        }
    }

    /// Counts the jumps of the run `pixels`, which will not be seen again.
    pub(super) fn count(&mut self, stream: &Stream<'_>, pixels: Range<usize>) {
        /// Frames of fewer pixels may all be hit.
        const SMALL: usize = 1 << 20;
        let own = |j: &&Jump| j.kind == Kind::Found && pixels.contains(&(j.pixel as usize));
        self.counted += self.jumps.iter().filter(own).count();
        self.too_many |= self.counted > SMALL.max(stream.ramp.ny * stream.ramp.nx / 2);
        if self.too_many {
            (self.jumps, self.kept) = (Vec::new(), Vec::new());
        }
    }
}

/// By read, then by pixel.
pub(super) fn sort(jumps: &mut [Jump]) {
    jumps.sort_unstable_by_key(|j| (j.read, j.pixel, j.kind));
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

    /// The same of rows of a chunk: where that is memory of this process, out of it; from
    /// elsewhere the planes would take longer than from the files.
    pub(super) fn of_loaded(
        stream: &Stream<'_>,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        rows: Range<usize>,
    ) -> Result<Noise> {
        if engine.device().kind != DeviceKind::Cpu {
            return Noise::of(stream, rows);
        }
        let (nx, grid) = (stream.ramp.nx, &chunk.grid);
        let mut noise = Noise { first: rows.start * nx, gain: Vec::new(), variance: Vec::new() };
        engine.download_with(chunk.slot.cal, &mut |planes| {
            let part = |plane: Plane| {
                let first = plane as usize * grid.len() * nx + (rows.start - grid.start) * nx;
                bytemuck::cast_slice(&planes[first..first + rows.len() * nx]).to_vec()
            };
            (noise.gain, noise.variance) = (part(Plane::Gain), part(Plane::ReadVariance));
        })?;
        let added = stream.params.added_variance;
        noise.variance.iter_mut().zip(&noise.gain).for_each(|(v, g)| *v += g * g * added);
        Ok(noise)
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
        rates: &Window,
        kind: Kind,
    ) -> Jump {
        let at = |k: usize| k * seen.width + place;
        let gain = self.gain(pixel);
        let rate = stream.electrons(rates, pixel, gain);
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
    pub(super) fn electrons(&self, rates: &Window, pixel: usize, gain: f64) -> f64 {
        f64::from(rates.rate(pixel)) * if self.params.counts != 0 { gain } else { 1.0 }
    }

    /// Those of `pixels` whose ramps are to be looked at.
    pub(super) fn worth_seeing(&self, rates: &Window, pixels: impl Iterator<Item = usize>) -> Vec<usize> {
        let bits = dq::JUMP_DET | if self.wants_saturated() { dq::SATURATED } else { 0 };
        pixels.filter(|p| rates.dq(*p..p + 1)[0] & bits != 0).collect()
    }

    /// Looks at the ramps of `pixels` of a chunk, and takes their jumps.
    pub(super) fn see(
        &self,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
        (rates, found): (&Window, &mut Found),
    ) -> Result<()> {
        let Some((first, last)) = pixels.first().zip(pixels.last()) else { return Ok(()) };
        let _span = profile::span(Work::Compute, "jumps");
        let nx = self.ramp.nx;
        let noise = Noise::of_loaded(self, engine, chunk, first / nx..last / nx + 1)?;
        for part in pixels.chunks(self.at_once(chunk.grid.len())) {
            let stored = self.store(engine, chunk, part)?;
            let values = engine.download_f32(stored[1])?;
            let flags = engine.download(stored[2])?;
            stored.into_iter().for_each(|b| engine.free(b));
            let seen = Seen { values: &values, flags: &flags, width: part.len() };
            found.take(self, &seen, part.iter().copied().enumerate(), &noise, rates);
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
        (rates, found): (&Window, &mut Found),
    ) -> Result<()> {
        let noise = Noise::of(self, rows.clone())?;
        let own = rows.start * self.ramp.nx..rows.end * self.ramp.nx;
        let pixels = self.worth_seeing(rates, own.clone()).into_iter().map(|p| (p - first, p));
        found.take(self, seen, pixels, &noise, rates);
        found.count(self, own);
        Ok(())
    }

    /// Pixels of a chunk of `rows` whose ramps are stored at once: no more memory
    /// than the chunk's raw reads take.
    pub(super) fn at_once(&self, rows: usize) -> usize {
        (self.ramp.chunk_bytes(rows) / 8 / (self.ramp.ramps * self.ramp.reads)).max(256)
    }

    /// Stores the ramps of `pixels` (of the frame) of a chunk: the list, the values and
    /// the flags.
    pub(super) fn store(
        &self,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
    ) -> Result<[Buffer; 3]> {
        let total = self.ramp.ramps * self.ramp.reads;
        let list = engine.buffer_of(&self.list(chunk, pixels))?;
        let values = engine.allocate(total * pixels.len())?;
        let flags = engine.allocate(total * pixels.len())?;
        let slot = chunk.slot.with(list, values, flags);
        let stages = Some(self.params.stages);
        self.dispatch(engine, &slot, chunk.tables, chunk.grid.clone(), Some(pixels.len()), stages)?;
        Ok([list, values, flags])
    }
}
