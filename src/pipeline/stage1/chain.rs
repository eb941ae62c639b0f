//! Stage 1 step by step, for methods that the fused kernel does not have: each
//! chunk's ramp is stored, corrected, jumps are found in it and spread, and it is fitted.
//!
//! Chunks have a halo of rows, wide enough for the growth of saturation and for what
//! each step takes from its neighbours; the answer does not depend on their size.

mod corrections;

use std::ops::Range;

use super::super::calibration::Calibration;
use super::jumps::{Found, Noise, Seen};
use super::plan::threshold_two;
use super::touched::Marks;
use super::{Plan, Slot, Stream, place};
use crate::config::{Algorithm, Jump, RampFit};
use crate::datamodel::Rate;
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::input::Ramp;
use crate::kernels::jump_spread::{self, JUMP_SPREAD};
use crate::kernels::likely::{self, LIKELY};
use crate::kernels::ols_c::{self, OLS_C};
use crate::kernels::ramp::{OUT_PLANES, Params, RAMP, Tables, flag, stage};
use crate::kernels::two_point::{self, TWO_POINT, mode};
use corrections::Corrections;

/// Gains in χ² of stcal's LIKELY where no threshold is given.
const LIKELY_GAINS: (f64, f64) = (20.25, 23.8);
/// stcal's LIKELY leaves shorter ramps to OLS_C.
const LIKELY_READS: usize = 4;

/// What of a recipe needs the ramp stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Chain {
    pub(super) corrections: Corrections,
    jump: Option<Jump>,
    fit: Fit,
    zeroframe: bool,
}

/// The fit after it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Fit {
    /// The ramp kernel's.
    #[default]
    Ramp,
    OlsC {
        suppress: bool,
    },
    Likely {
        one: f64,
        two: f64,
        suppress: bool,
    },
}

/// What the methods must know of the whole exposure.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// (ramps, reads): every pixel is DO_NOT_USE.
    dead: Vec<bool>,
    /// Median gain, e-/DN; 1 where no level in DN is asked for.
    gain: f64,
}

impl Chain {
    /// Whether there is anything for it to do.
    pub(super) fn needed(&self) -> bool {
        self.corrections.any() || self.jump.is_some() || self.fit != Fit::Ramp
    }

    /// Takes the two-point method's parameters.
    pub(super) fn find_jumps(&mut self, step: &Jump) {
        self.jump = Some(step.clone());
    }

    /// Takes the fit, where it is one of its own. Says whether that finds its own jumps.
    pub(super) fn fit_with(&mut self, step: &RampFit) -> bool {
        let suppress = step.suppress_one_group;
        self.zeroframe = step.use_zeroframe;
        match step.algorithm {
            Algorithm::OlsC => self.fit = Fit::OlsC { suppress },
            Algorithm::Likely => {
                let (one, two) = step.rejection_threshold.map_or(LIKELY_GAINS, |t| (t * t, threshold_two(t)));
                self.fit = Fit::Likely { one, two, suppress };
                self.jump = None;
                return true;
            }
            _ => {}
        }
        false
    }

    /// Whether the fit takes first frames of a `ramp` that has them.
    pub(super) fn takes_zeroframe(&self, ramp: &Ramp) -> bool {
        self.zeroframe
            && match self.fit {
                Fit::Ramp => false,
                Fit::OlsC { suppress } => !suppress,
                Fit::Likely { .. } => ramp.nsample.first().is_some_and(|n| *n > 1),
            }
    }

    /// Rows around a chunk beside those of the growth of saturation.
    pub(super) fn halo(&self) -> usize {
        self.corrections.halo() + usize::from(self.jump.as_ref().is_some_and(|j| j.flag_4_neighbors))
    }

    /// Looks over the exposure: reads that no pixel can use, the typical gain.
    pub(super) fn look(
        &mut self,
        ramp: &Ramp,
        cal: &Calibration<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Facts> {
        if let Fit::Likely { suppress, .. } = self.fit
            && ramp.reads < LIKELY_READS
        {
            warnings.push(format!("ramp_fit: {} reads a ramp are too few for likely; ols_c", ramp.reads));
            self.fit = Fit::OlsC { suppress };
        }
        if matches!(self.fit, Fit::OlsC { .. }) && even(ramp).is_none() {
            let message = "its reads are not evenly spaced averages of as many frames, which ols_c needs: \
                           take --steps.ramp_fit.algorithm=likelihood";
            return Err(Error::input(&ramp.path, message));
        }
        if matches!(self.fit, Fit::OlsC { suppress: false }) && ramp.times.first() <= Some(&0.0) {
            let message = "its first read is taken at the reset (0 s), so it alone gives no rate: take \
                           --steps.ramp_fit.suppress_one_group=true";
            return Err(Error::input(&ramp.path, message));
        }
        let total = ramp.ramps * ramp.reads;
        let mut dead = vec![ramp.has_groupdq; total];
        /// Rows looked at together.
        const ROWS: usize = 64;
        for first in (0..ramp.ny).step_by(ROWS) {
            let rows = first..(first + ROWS).min(ramp.ny);
            let pixels = rows.len() * ramp.nx;
            if !dead.contains(&true) {
                break;
            }
            let Some(flags) = ramp.groupdq_rows(rows)? else { break };
            for (d, read) in dead.iter_mut().zip(flags.chunks(pixels)) {
                *d = *d && read.iter().all(|f| u32::from(*f) & flag::DO_NOT_USE != 0);
            }
        }
        let mut facts = Facts { dead, gain: 1.0 };
        // A whole plane, read only where a level in DN has to become electrons.
        if self.jump.as_ref().is_some_and(|j| j.after_jump_flag_dn1 > 0.0 || j.after_jump_flag_dn2 > 0.0) {
            let mut gain = cal.gain()?;
            let middle = gain.len() / 2;
            facts.gain = f64::from(*gain.select_nth_unstable_by(middle, f32::total_cmp).1);
        }
        Ok(facts)
    }
}

/// Seconds from read to read of an evenly read exposure.
fn even(ramp: &Ramp) -> Option<f64> {
    let first = ramp.times.first()?;
    let n = ramp.reads;
    let step = if n > 1 { (ramp.times[n - 1] - first) / (n - 1) as f64 } else { *first };
    let near = |t: f64, i: usize| (t - first - (i % n) as f64 * step).abs() < 1e-3 * step;
    let all = ramp.times.iter().enumerate().all(|(i, t)| near(*t, i));
    (all && ramp.nsample.iter().all(|f| *f == ramp.nsample[0])).then_some(step)
}

/// One chunk after its jumps: a grid of pixels with its halo.
struct Chunk {
    slot: Slot,
    /// The ramp `[read][pixel]` of the grid.
    values: Buffer,
    /// Flags `[read][pixel]` of the grid.
    flags: Buffer,
    /// Other memory, to be freed.
    more: Vec<Buffer>,
    grid: Range<usize>,
    rows: Range<usize>,
}

impl Chunk {
    fn free(self, engine: &mut dyn Engine) {
        self.slot.free(engine);
        self.more.into_iter().for_each(|b| engine.free(b));
    }

    fn seen<'a>(&self, values: &'a [f32], flags: &'a [u32], nx: usize) -> Seen<'a> {
        Seen { values, flags, width: self.grid.len() * nx }
    }
}

impl Stream<'_> {
    /// The rates of the whole frame through stored ramps, and the jumps.
    pub(super) fn chained_rates(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        progress: &dyn Fn(f64),
        (rate, found): (&mut Rate, &mut Found),
    ) -> Result<()> {
        let chunks = self.chunks();
        for (i, rows) in chunks.iter().enumerate() {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            self.fit_chunk(engine, tables, &chunk, rate)?;
            if self.spread.is_some() {
                let (values, flags) = (engine.download_f32(chunk.values)?, engine.download(chunk.flags)?);
                let seen = chunk.seen(&values, &flags, self.ramp.nx);
                self.see_stored(&seen, chunk.grid.start * self.ramp.nx, rows.clone(), (rate, found))?;
            }
            chunk.free(engine);
            progress((i + 1) as f64 / chunks.len() as f64 * 0.9);
        }
        Ok(())
    }

    /// Fits the chunks again in which jumps took something with them.
    pub(super) fn chained_again(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        marks: &Marks,
        (rate, found): (&mut Rate, &mut Found),
    ) -> Result<()> {
        let nx = self.ramp.nx;
        for rows in self.chunks().into_iter().filter(|r| marks.any(r.start * nx..r.end * nx)) {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            let (values, mut flags) = (engine.download_f32(chunk.values)?, engine.download(chunk.flags)?);
            let (width, first) = (chunk.grid.len() * nx, chunk.grid.start * nx);
            let new = self.mark(marks, (&mut flags, width, first), rows.start * nx..rows.end * nx);
            engine.upload(chunk.flags, &flags)?;
            self.fit_chunk(engine, tables, &chunk, rate)?;
            let noise = Noise::of(self, rows)?;
            let seen = chunk.seen(&values, &flags, nx);
            for (p, new) in new {
                let jumps =
                    new.into_iter().map(|(k, kind)| noise.jump(self, &seen, p - first, p, k, rate, kind));
                found.jumps.extend(jumps);
            }
            chunk.free(engine);
        }
        Ok(())
    }

    /// The ramp after its jumps; see [`Stream::ramps`].
    pub(super) fn chained_ramps(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        marks: Option<&Marks>,
        sink: &mut dyn FnMut(Range<usize>, &[f32], &[u32]) -> Result<()>,
    ) -> Result<()> {
        let nx = self.ramp.nx;
        for rows in self.chunks() {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            let (values, mut flags) = (engine.download_f32(chunk.values)?, engine.download(chunk.flags)?);
            let inner = (rows.start - chunk.grid.start) * nx..(rows.end - chunk.grid.start) * nx;
            let pixels = chunk.grid.len() * nx;
            if let Some(marks) = marks {
                let first = chunk.grid.start * nx;
                self.mark(marks, (&mut flags, pixels, first), rows.start * nx..rows.end * nx);
            }
            let values: Vec<f32> = values.chunks(pixels).flat_map(|r| &r[inner.clone()]).copied().collect();
            let flags: Vec<u32> = flags.chunks(pixels).flat_map(|r| &r[inner.clone()]).copied().collect();
            chunk.free(engine);
            sink(rows, &values, &flags)?;
        }
        Ok(())
    }

    /// Stores the ramp of `rows` and finds its jumps.
    fn chunk(&self, engine: &mut dyn Engine, tables: Buffer, rows: Range<usize>) -> Result<Chunk> {
        let halo = self.reach() + self.chain.halo();
        let grid = rows.start.saturating_sub(halo)..(rows.end + halo).min(self.ramp.ny);
        let pixels = grid.len() * self.ramp.nx;
        let slot = self.slot(engine, grid.len(), pixels, true)?;
        let whole = self.params.stages;
        let first = self.chain.corrections.first(whole);
        self.start(engine, &slot, tables, grid.clone(), None, Some(first))?;
        let (values, flags) = (slot.out, slot.flags_out);
        let mut chunk = Chunk { slot, values, flags, more: Vec::new(), grid, rows };
        self.correct(engine, tables, &mut chunk)?;
        if let Some(step) = &self.chain.jump
            && let Some(mode) = self.jump_mode(step)
        {
            self.two_point(engine, tables, &mut chunk, step, mode)?;
        }
        Ok(chunk)
    }

    /// How the two-point method searches this exposure; `None` where it has too few
    /// reads (stcal 1.20.0, `find_crs`).
    fn jump_mode(&self, step: &Jump) -> Option<u32> {
        let (ramps, reads) = (self.ramp.ramps, self.ramp.reads);
        let dead: Vec<usize> =
            self.facts.dead.chunks(reads).map(|r| r.iter().filter(|d| **d).count()).collect();
        let usable = reads - dead.iter().max().copied().unwrap_or(0).min(reads);
        let total = ramps * reads - dead.iter().sum::<usize>();
        let least = step.minimum_sigclip_groups as usize;
        let enough = if step.only_use_ints { ramps >= least } else { total >= least };
        if usable < step.minimum_groups as usize && !enough {
            return None;
        }
        Some(if enough && even(self.ramp).is_some() {
            if step.only_use_ints { mode::CLIP_RAMPS } else { mode::CLIP_ALL }
        } else if usable > step.min_diffs_single_pass as usize {
            mode::SINGLE
        } else {
            mode::ITERATIVE
        })
    }

    fn two_point(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        chunk: &mut Chunk,
        step: &Jump,
        mode: u32,
    ) -> Result<()> {
        let (ramps, reads) = (self.ramp.ramps as u32, self.ramp.reads as u32);
        let (nx, rows) = (self.ramp.nx, chunk.grid.len());
        let pixels = rows * nx;
        let total = (ramps * reads) as usize;
        let constants = vec![("NREADS", self.nreads)];
        let found = engine.allocate(total * pixels)?;
        let spread = engine.allocate(total * pixels)?;
        let medians = engine.allocate(pixels)?;
        let find = two_point::Params {
            items: pixels as u32,
            ramps,
            reads,
            mode,
            normal: step.rejection_threshold.unwrap_or(4.0) as f32,
            three: step.four_group_rejection_threshold as f32,
            two: step.three_group_rejection_threshold as f32,
            neighbours_min: step.min_jump_to_flag_neighbors as f32,
            neighbours_max: step.max_jump_to_flag_neighbors as f32,
        };
        let after = |time: f64| {
            let step = even(self.ramp).unwrap_or(f64::INFINITY);
            // A hair more, so that a time of so many reads is that many.
            (time / step + 1e-6).clamp(0.0, f64::from(reads)) as u32
        };
        let take = jump_spread::Params {
            items: pixels as u32,
            nx: nx as u32,
            rows: rows as u32,
            ramps,
            reads,
            neighbours: u32::from(step.flag_4_neighbors),
            after_electrons_1: (step.after_jump_flag_dn1 * self.facts.gain) as f32,
            after_reads_1: after(step.after_jump_flag_time1),
            after_electrons_2: (step.after_jump_flag_dn2 * self.facts.gain) as f32,
            after_reads_2: after(step.after_jump_flag_time2),
        };
        let (values, cal) = (chunk.values, chunk.slot.cal);
        engine.submit(&vec![
            Dispatch {
                kernel: &TWO_POINT,
                buffers: vec![values, chunk.flags, cal, tables, found, medians],
                items: pixels,
                params: bytemuck::cast_slice(&[find]).to_vec(),
                constants: constants.clone(),
            },
            Dispatch {
                kernel: &JUMP_SPREAD,
                buffers: vec![values, found, cal, tables, medians, spread],
                items: pixels,
                params: bytemuck::cast_slice(&[take]).to_vec(),
                constants,
            },
        ])?;
        chunk.flags = spread;
        chunk.more.extend([found, spread, medians]);
        Ok(())
    }

    /// Fits the chunk's own rows, into those of `rate`.
    fn fit_chunk(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        chunk: &Chunk,
        rate: &mut Rate,
    ) -> Result<()> {
        let (ramp, nx) = (self.ramp, self.ramp.nx);
        let (items, pixels) = (chunk.rows.len() * nx, chunk.grid.len() * nx);
        let out = engine.allocate(self.params.out_planes() * items)?;
        let skip = (chunk.rows.start - chunk.grid.start) * nx;
        let (ramps, reads) = (ramp.ramps as u32, ramp.reads as u32);
        let mut extra = vec![out];
        let mut buffers = vec![chunk.values, chunk.flags, chunk.slot.cal, tables];
        let mut constants = vec![("NREADS", self.nreads)];
        let plane = chunk.grid.start * nx..chunk.grid.end * nx;
        let dark = self.cal.average_dark().map(|d| &d[plane]);
        let counts = self.params.counts;
        let zero = self.zero_rows(engine, &chunk.grid)?;
        if self.chain.fit != Fit::Ramp {
            let dark = engine.buffer_of_f32(dark.unwrap_or(&[0.0]))?;
            let zero = engine.buffer_of_f32(zero.as_deref().unwrap_or(&[0.0]))?;
            extra.extend([dark, zero]);
            buffers.extend([dark, zero, out]);
            constants.push(("NRAMPS", ramps.next_power_of_two()));
        }
        let common = (items as u32, pixels as u32, skip as u32);
        let (kernel, params) = match self.chain.fit {
            Fit::OlsC { suppress } => {
                let (first, last) = self.live();
                let params = ols_c::Params {
                    items: common.0,
                    pixels: common.1,
                    skip: common.2,
                    ramps,
                    reads,
                    first,
                    last,
                    suppress_one_group: u32::from(suppress),
                    counts,
                    dark: u32::from(dark.is_some()),
                    group_time: even(ramp).unwrap_or(1.0) as f32,
                    first_time: ramp.times[0] as f32,
                    frames: f32::from(ramp.nsample[0]),
                    zero: u32::from(zero.is_some()),
                    frame_time: ramp.zeroframe.as_ref().map_or(1.0, |z| z.times[0]) as f32,
                };
                (&OLS_C, bytemuck::cast_slice(&[params]).to_vec())
            }
            Fit::Likely { one, two, .. } => {
                let params = likely::Params {
                    items: common.0,
                    pixels: common.1,
                    skip: common.2,
                    ramps,
                    reads: reads + u32::from(zero.is_some()),
                    counts,
                    dark: u32::from(dark.is_some()),
                    threshold_one: one as f32,
                    threshold_two: two as f32,
                    zero: u32::from(zero.is_some()),
                    frames: f32::from(ramp.nsample[0]),
                };
                if zero.is_some() {
                    let split = engine.buffer_of(&self.split_tables().to_words())?;
                    extra.push(split);
                    buffers[3] = split;
                    constants[0].1 = (ramps * params.reads).next_power_of_two().max(4);
                }
                (&LIKELY, bytemuck::cast_slice(&[params]).to_vec())
            }
            Fit::Ramp => {
                let list: Vec<u32> = (skip as u32..(skip + items) as u32).collect();
                let (list, none) = (engine.buffer_of(&list)?, engine.allocate(1)?);
                extra.extend([list, none]);
                buffers.extend([list, out, none]);
                let params = Params { listed: 1, ..self.stored_params(items, pixels) };
                (&RAMP, bytemuck::cast_slice(&[params]).to_vec())
            }
        };
        engine.submit(&vec![Dispatch { kernel, buffers, items, params, constants }])?;
        let own = chunk.rows.start * nx..chunk.rows.end * nx;
        engine.download_with(out, &mut |w| place(w, rate, own.clone()))?;
        extra.into_iter().for_each(|b| engine.free(b));
        Ok(())
    }

    /// The tables of ramps whose first average is its first frame and the rest.
    fn split_tables(&self) -> Tables<f64> {
        let ramp = self.ramp;
        let (mut times, mut frames) = (Vec::new(), Vec::new());
        for (r, (t, n)) in ramp.times.chunks(ramp.reads).zip(ramp.nsample.chunks(ramp.reads)).enumerate() {
            let first = ramp.zeroframe.as_ref().map_or(t[0], |z| z.times[r]);
            let all = f64::from(n[0]);
            times.extend([first, (all * t[0] - first) / (all - 1.0)]);
            times.extend(&t[1..]);
            frames.extend([1, n[0] - 1]);
            frames.extend(&n[1..]);
        }
        Tables::new(&times, &frames, ramp.frame_time, ramp.reads + 1)
    }

    /// What the kernel must know of the noise of a ramp that is corrected already.
    pub(super) fn noise(&self) -> u32 {
        let linear = self.params.stages & (stage::LINEARITY | stage::LINEARISED) != 0
            || self.chain.corrections.inverse > 0;
        let linearised = if linear { stage::LINEARISED } else { 0 };
        linearised | self.params.stages & stage::DARK
    }

    /// The reads that count: without those at the ends that no pixel of any ramp can
    /// use (all of them at the start, one at the end), unless fewer than two are left.
    fn live(&self) -> (u32, u32) {
        let reads = self.ramp.reads;
        let dead = |k: usize| self.facts.dead.iter().skip(k).step_by(reads).all(|d| *d);
        let first = (0..reads).take_while(|k| dead(*k)).count();
        let last = if dead(reads - 1) { reads - 1 } else { reads };
        if last < first + 2 { (0, reads as u32) } else { (first as u32, last as u32) }
    }
}

/// Bytes a row that the chain holds beside what every stored ramp needs.
pub(super) fn row_bytes(plan: &Plan, reads: u64, nx: u64) -> u64 {
    let corrections = plan.chain.corrections.planes(reads);
    if plan.chain.needed() { (corrections + 2 * reads + OUT_PLANES as u64 + 2) * nx * 4 } else { 0 }
}
