//! What a jump takes with it beyond its own pixel and read: neighbours that its
//! charge leaks into, reads after a large one, snowballs. Decided on the list of
//! jumps of the whole frame; the pixels that this touches are fitted once more.
//!
//! Everything is ordered by pixel and read, so the answer depends neither on chunks
//! nor on threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

use super::jumps::{Found, Jump, Kind, LOST, Noise, Seen};
use super::slot::Loaded;
use super::window::Window;
use super::{Stream, snowballs};
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::Result;
use crate::kernels::ramp::{Encoding, Params, RAMP, flag, stage};

/// Flags to add.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// By (pixel, read of the exposure): a difference to leave out.
    jumps: BTreeMap<(u32, u32), Kind>,
    /// (pixel, read of the exposure): saturated from there on.
    saturated: BTreeSet<(u32, u32)>,
    /// Snowballs found.
    pub(super) snowballs: usize,
}

impl Marks {
    /// Whether pixels of `range` have any.
    pub(super) fn any(&self, range: Range<usize>) -> bool {
        let range = (range.start as u32, 0)..(range.end as u32, 0);
        self.jumps.range(range.clone()).next().is_some() || self.saturated.range(range).next().is_some()
    }

    /// Pixels of `range` with any, ascending.
    pub(super) fn pixels(&self, range: Range<usize>) -> Vec<usize> {
        let range = (range.start as u32, 0)..(range.end as u32, 0);
        let jumps = self.jumps.range(range.clone()).map(|((p, _), _)| *p as usize);
        let mut out: Vec<usize> =
            jumps.chain(self.saturated.range(range).map(|(p, _)| *p as usize)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Adds the flags of `pixel`, at `place` of `flags` (`[read][width]`). The reads
    /// that this flags as jumps, and why.
    fn apply(
        &self,
        pixel: usize,
        reads: usize,
        (flags, width, place): (&mut [u32], usize, usize),
    ) -> Vec<(usize, Kind)> {
        let pixel = pixel as u32;
        let own = (pixel, 0)..(pixel + 1, 0);
        for (_, from) in self.saturated.range(own.clone()) {
            let from = *from as usize;
            for k in from..from - from % reads + reads {
                let f = &mut flags[k * width + place];
                *f = *f & !flag::JUMP_DET | flag::SATURATED;
            }
        }
        let mut new = Vec::new();
        for ((_, k), kind) in self.jumps.range(own) {
            let f = &mut flags[*k as usize * width + place];
            if *f & (LOST | flag::JUMP_DET) == 0 {
                *f |= flag::JUMP_DET;
                new.push((*k as usize, *kind));
            }
        }
        new
    }
}

impl Stream<'_> {
    /// What the jumps take with them in the whole frame. `found` is in order.
    pub(super) fn marks(&self, rates: &Window, found: &mut Found) -> Result<Marks> {
        let mut marks = Marks::default();
        let Some(spread) = &self.spread else { return Ok(marks) };
        self.marks_near(rates, &found.jumps, 0..self.ramp.ny, &mut marks)?;
        if spread.step.expand_large_events {
            let Found { jumps, saturated, .. } = found;
            let mut by_read: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for (pixel, read) in marks.jumps.keys() {
                by_read.entry(*read).or_default().push(*pixel);
            }
            let all = |k: usize| {
                let k = k as u32;
                let from = jumps.partition_point(|j| j.read < k);
                let own = jumps[from..].iter().take_while(|j| j.read == k).map(|j| j.pixel);
                let mut all: Vec<u32> = own.chain(by_read.get(&k).into_iter().flatten().copied()).collect();
                all.sort_unstable();
                all.dedup();
                all
            };
            let flagged = snowballs::flag(&spread.step, self.shape(), &all, saturated);
            for at in flagged.jumps {
                marks.jumps.entry(at).or_insert(Kind::Snowball);
            }
            marks.saturated = flagged.saturated;
            marks.snowballs = flagged.events;
        }
        Ok(marks)
    }

    /// Adds what jumps take with them in their own pixel and in its neighbours, of pixels of
    /// `rows`. `jumps`, in order, are those of these rows and of one more on each side.
    pub(super) fn marks_near(
        &self,
        rates: &Window,
        jumps: &[Jump],
        rows: Range<usize>,
        marks: &mut Marks,
    ) -> Result<()> {
        let Some(spread) = &self.spread else { return Ok(()) };
        if spread.leak != [0.0; 2] {
            self.neighbours(spread.leak, rates, jumps, &rows, marks)?;
        }
        if spread.after {
            let step = &spread.step;
            for (level, time) in [
                (step.after_jump_flag_dn1, step.after_jump_flag_time1),
                (step.after_jump_flag_dn2, step.after_jump_flag_time2),
            ] {
                self.after(level, time, jumps, &rows, marks);
            }
        }
        Ok(())
    }

    fn shape(&self) -> snowballs::Shape {
        let (ramps, reads) = (self.ramp.ramps, self.ramp.reads);
        let times = &self.ramp.times[..reads];
        let step = if reads > 1 { (times[reads - 1] - times[0]) / (reads - 1) as f64 } else { times[0] };
        snowballs::Shape { ramps, reads, ny: self.ramp.ny, nx: self.ramp.nx, step }
    }

    /// Neighbours into which the jumps of one read together leak more than 1 σ of a
    /// step in them: from there on the leak would shift the neighbour's rate by more
    /// than the lost difference adds to its error.
    fn neighbours(
        &self,
        leak: [f64; 2],
        rates: &Window,
        jumps: &[Jump],
        rows: &Range<usize>,
        marks: &mut Marks,
    ) -> Result<()> {
        let (ny, nx) = (self.ramp.ny, self.ramp.nx);
        let pixels = rows.start * nx..rows.end * nx;
        let mut leaks: Vec<(u32, u32, f64)> = Vec::new();
        for j in jumps.iter().filter(|j| j.amplitude.is_finite()) {
            let (p, charge) = (j.pixel as usize, f64::from(j.amplitude));
            let (x, y) = (p % nx, p / nx);
            let mut to = |ok: bool, q: usize, part: f64| {
                if ok && pixels.contains(&q) {
                    leaks.push((q as u32, j.read, charge * part));
                }
            };
            to(x > 0, p.wrapping_sub(1), leak[0]);
            to(x + 1 < nx, p + 1, leak[0]);
            to(y > 0, p.wrapping_sub(nx), leak[1]);
            to(y + 1 < ny, p + nx, leak[1]);
        }
        // Stable: leaks into one pixel add in the order of the jumps.
        leaks.par_sort_by_key(|(q, k, _)| (*q, *k));
        leaks.dedup_by(|next, sum| {
            let same = (next.0, next.1) == (sum.0, sum.1);
            sum.2 += if same { next.2 } else { 0.0 };
            same
        });
        /// Rows whose noise is read together.
        const ROWS: usize = 64;
        let band = |q: u32| (q as usize / nx - rows.start) / ROWS;
        let bands: Vec<&[(u32, u32, f64)]> = leaks.chunk_by(|a, b| band(a.0) == band(b.0)).collect();
        for leaks in bands {
            let first = rows.start + band(leaks[0].0) * ROWS;
            let noise = Noise::of(self, first..(first + ROWS).min(rows.end))?;
            let matters = leaks.par_iter().map_init(
                || self.amplitudes.clone(),
                |amplitudes, (q, k, leak)| {
                    let q = *q as usize;
                    let rate = self.electrons(rates, q, noise.gain(q));
                    let listed = jumps.binary_search_by_key(&(*k, q as u32), |j| (j.read, j.pixel)).is_ok();
                    !listed
                        && rate.is_finite()
                        && leak.abs() > amplitudes.of_step(rate, noise.variance(q), *k as usize)
                },
            );
            let matters: Vec<bool> = matters.collect();
            for ((q, k, _), _) in leaks.iter().zip(matters).filter(|(_, m)| *m) {
                marks.jumps.insert((*q, *k), Kind::Neighbour);
            }
        }
        Ok(())
    }

    /// Reads up to `time` seconds after jumps of `level` DN or more, in `rows`.
    fn after(&self, level: f64, time: f64, jumps: &[Jump], rows: &Range<usize>, marks: &mut Marks) {
        let (reads, times, nx) = (self.ramp.reads, &self.ramp.times, self.ramp.nx);
        let jumps = jumps.iter().filter(|j| rows.contains(&(j.pixel as usize / nx)));
        if time <= 0.0 {
            return;
        }
        for j in jumps.filter(|j| f64::from(j.amplitude) >= level * f64::from(j.gain)) {
            let k = j.read as usize;
            let last = k - k % reads + reads;
            // A hair more, so that a time of so many reads is that many.
            let near = |i: &usize| times[*i] - times[k] <= time * (1.0 + 1e-6);
            for i in (k + 1..last).take_while(near) {
                marks.jumps.entry((j.pixel, i as u32)).or_insert(Kind::After);
            }
        }
    }

    /// P3: fits the pixels with marks once more, and lists what the marks left out.
    pub(super) fn refit_marked(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        marks: &Marks,
        (rates, found): (&mut Window, &mut Found),
    ) -> Result<()> {
        let (ny, nx, halo) = (self.ramp.ny, self.ramp.nx, self.reach());
        for rows in self.chunks() {
            let pixels = marks.pixels(rows.start * nx..rows.end * nx);
            if pixels.is_empty() {
                continue;
            }
            // Only the rows that there is something to do in.
            let rows = pixels[0] / nx..pixels[pixels.len() - 1] / nx + 1;
            let grid = rows.start.saturating_sub(halo)..(rows.end + halo).min(ny);
            let mut slot = self.slot(engine, grid.len(), 1, false)?;
            self.upload(engine, &mut slot, grid.clone(), None)?;
            self.refit_in(engine, &Loaded { slot: &slot, tables, grid }, &pixels, marks, (rates, found))?;
            slot.free(engine);
        }
        Ok(())
    }

    /// Fits `pixels`, ascending, of a chunk with their marks, and lists what these left
    /// out.
    pub(super) fn refit_in(
        &self,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
        marks: &Marks,
        (rates, found): (&mut Window, &mut Found),
    ) -> Result<()> {
        let mut parts = pixels.chunks(self.at_once(chunk.grid.len()));
        parts.try_for_each(|part| self.refit_part(engine, chunk, part, marks, (&mut *rates, &mut *found)))
    }

    fn refit_part(
        &self,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
        marks: &Marks,
        (rates, found): (&mut Window, &mut Found),
    ) -> Result<()> {
        let grid = &chunk.grid;
        let (nx, reads, n) = (self.ramp.nx, self.ramp.reads, pixels.len());
        let [list, ramp, flags] = self.store(engine, chunk, pixels)?;
        let values = engine.download_f32(ramp)?;
        let mut words = engine.download(flags)?;
        let new: Vec<Vec<(usize, Kind)>> = pixels
            .iter()
            .enumerate()
            .map(|(i, p)| marks.apply(*p, reads, (words.as_mut_slice(), n, i)))
            .collect();
        engine.upload(flags, &words)?;
        // The planes at the pixels alone.
        let mut own = vec![0u32; self.cal.planes() * n];
        engine.download_with(chunk.slot.cal, &mut |cal| {
            for (plane, to) in own.chunks_mut(n).enumerate() {
                let from = &cal[plane * grid.len() * nx..];
                to.iter_mut().zip(pixels).for_each(|(t, p)| *t = from[p - grid.start * nx]);
            }
        })?;
        let own = engine.buffer_of(&own)?;
        let out = engine.allocate(self.params.out_planes() * n)?;
        let none = engine.allocate(1)?;
        let params = self.stored_params(n, n);
        engine.submit(&vec![Dispatch {
            kernel: &RAMP,
            buffers: vec![ramp, flags, own, chunk.tables, list, out, none],
            items: n,
            params: bytemuck::cast_slice(&[params]).to_vec(),
            constants: params.constants(),
        }])?;
        engine.download_with(out, &mut |w| rates.scatter(w, pixels))?;
        for buffer in [list, ramp, flags, own, out, none] {
            engine.free(buffer);
        }
        if new.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let noise = Noise::of_loaded(self, engine, chunk, pixels[0] / nx..pixels[n - 1] / nx + 1)?;
        // As they were: what was left out is what there was to see.
        let seen = Seen { values: &values, flags: &words, width: n };
        for (i, (p, new)) in pixels.iter().zip(&new).enumerate() {
            let jumps = new.iter().map(|(k, kind)| noise.jump(self, &seen, i, *p, *k, rates, *kind));
            found.jumps.extend(jumps);
        }
        Ok(())
    }

    /// What the kernel must know of the noise of a ramp that is corrected already.
    pub(super) fn noise(&self) -> u32 {
        let linear = self.params.stages & (stage::LINEARITY | stage::LINEARISED) != 0
            || self.chain.corrections.inverse > 0;
        let linearised = if linear { stage::LINEARISED } else { 0 };
        linearised | self.params.stages & stage::DARK
    }

    /// How the ramp kernel fits stored ramps, `items` of `pixels` side by side.
    pub(super) fn stored_params(&self, items: usize, pixels: usize) -> Params {
        Params {
            items: items as u32,
            nx: pixels as u32,
            rows: 1,
            row0: 0,
            stride_ramp: (self.ramp.reads * pixels) as u32,
            stride_read: pixels as u32,
            stride_y: pixels as u32,
            stride_x: 1,
            encoding: Encoding::Native as u32,
            listed: 0,
            stages: stage::FIT | stage::FLAGS_IN | self.noise(),
            ..self.params
        }
    }

    /// The marks' flags, into those of a chunk whose first place is the frame's
    /// pixel `first`. Says whether there were any among `pixels`.
    pub(super) fn mark(
        &self,
        marks: &Marks,
        (flags, width, first): (&mut [u32], usize, usize),
        pixels: Range<usize>,
    ) -> Vec<(usize, Vec<(usize, Kind)>)> {
        let pixels = marks.pixels(pixels);
        let reads = self.ramp.reads;
        pixels.into_iter().map(|p| (p, marks.apply(p, reads, (&mut *flags, width, p - first)))).collect()
    }
}
