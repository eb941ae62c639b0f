//! Stage 1 step by step, for methods that the fused kernel does not have: each
//! chunk's ramp is stored, corrected, jumps are found in it and spread, and it is fitted.
//!
//! Chunks have a halo of rows, wide enough for the growth of saturation and for what
//! each step takes from its neighbours; the answer does not depend on their size.

mod corrections;
mod fit;
mod two_point;

use std::ops::Range;

use super::super::calibration::Calibration;
use super::jumps::{Found, Noise, Seen};
use super::plan::threshold_two;
use super::touched::Marks;
use super::window::Window;
use super::{Plan, Slot, Stream};
use crate::config::{Algorithm, Jump, RampFit};
use crate::datamodel::Rate;
use crate::engine::{Buffer, Engine};
use crate::error::{Error, Result};
use crate::input::Ramp;
use crate::kernels::ramp::{OUT_PLANES, flag};

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
        (rates, found): (&mut Window, &mut Found),
    ) -> Result<()> {
        let chunks = self.chunks();
        for (i, rows) in chunks.iter().enumerate() {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            self.fit_chunk(engine, tables, &chunk, 0, rates)?;
            if self.spread.is_some() {
                let (values, flags) = (engine.download_f32(chunk.values)?, engine.download(chunk.flags)?);
                let seen = chunk.seen(&values, &flags, self.ramp.nx);
                self.see_stored(&seen, chunk.grid.start * self.ramp.nx, rows.clone(), (rates, found))?;
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
        (rates, found): (&mut Window, &mut Found),
    ) -> Result<()> {
        let nx = self.ramp.nx;
        for rows in self.chunks().into_iter().filter(|r| marks.any(r.start * nx..r.end * nx)) {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            let (values, mut flags) = (engine.download_f32(chunk.values)?, engine.download(chunk.flags)?);
            let (width, first) = (chunk.grid.len() * nx, chunk.grid.start * nx);
            let new = self.mark(marks, (&mut flags, width, first), rows.start * nx..rows.end * nx);
            engine.upload(chunk.flags, &flags)?;
            self.fit_chunk(engine, tables, &chunk, 0, rates)?;
            let noise = Noise::of(self, rows)?;
            let seen = chunk.seen(&values, &flags, nx);
            for (p, new) in new {
                let jumps =
                    new.into_iter().map(|(k, kind)| noise.jump(self, &seen, p - first, p, k, rates, kind));
                found.jumps.extend(jumps);
            }
            chunk.free(engine);
        }
        Ok(())
    }

    /// Whether the rate of a ramp takes from the others too: then it is none of a ramp
    /// by itself.
    pub fn ramps_together(&self) -> bool {
        matches!(self.chain.fit, Fit::OlsC { .. })
    }

    /// The rates of single ramps, where [`Stream::ramps_together`]: jumps are those of
    /// the exposure, and so is the photons' part of the variance.
    pub fn rates_of_ramps(&self, engine: &mut dyn Engine, progress: &dyn Fn(f64)) -> Result<Vec<Rate>> {
        let tables = engine.buffer_of_f32(&self.tables)?;
        let marks = self.known_marks(engine, tables)?;
        let (nx, chunks) = (self.ramp.nx, self.chunks());
        let mut rates: Vec<Window> = (0..self.ramp.ramps).map(|_| self.whole()).collect();
        for (i, rows) in chunks.iter().enumerate() {
            let chunk = self.chunk(engine, tables, rows.clone())?;
            if let Some(marks) = marks {
                let mut flags = engine.download(chunk.flags)?;
                let (width, first) = (chunk.grid.len() * nx, chunk.grid.start * nx);
                self.mark(marks, (&mut flags, width, first), rows.start * nx..rows.end * nx);
                engine.upload(chunk.flags, &flags)?;
            }
            for (alone, rates) in (1..).zip(&mut rates) {
                self.fit_chunk(engine, tables, &chunk, alone, rates)?;
            }
            chunk.free(engine);
            progress((i + 1) as f64 / chunks.len() as f64);
        }
        engine.free(tables);
        Ok(rates.into_iter().map(|r| r.into_rate(self.ramp.ny, nx)).collect())
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
        let mut slot = self.slot(engine, grid.len(), pixels, true)?;
        let whole = self.params.stages;
        let first = self.chain.corrections.first(whole);
        self.start(engine, &mut slot, tables, grid.clone(), None, Some(first))?;
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
}

/// Bytes a row that the chain holds beside what every stored ramp needs.
pub(super) fn row_bytes(plan: &Plan, reads: u64, nx: u64) -> u64 {
    let corrections = plan.chain.corrections.planes(reads);
    if plan.chain.needed() { (corrections + 2 * reads + OUT_PLANES as u64 + 2) * nx * 4 } else { 0 }
}
