//! Stage 1: a raw ramp, streamed row chunk by row chunk through the ramp kernel.
//!
//! Passes: (P0) the reference pixels are read and become offset tables; (P1) row
//! chunks go through the fused kernel; (P2) the saturated pixels are grown on the
//! data-quality plane, and what jumps take with them is found from their list; (P3) the
//! pixels that this touches are refitted by the same kernel from a list, and patched.
//! P2 and P3 follow P1 chunk by chunk (`bands`), but for snowballs, which need the whole
//! frame. The answer does not depend on the size of the chunks.

mod bands;
mod chain;
mod jumps;
mod plan;
mod slot;
mod snowballs;
mod touched;
pub(super) mod window;
mod zero;

use std::ops::Range;
use std::sync::OnceLock;

use crate::config::Detector;
use crate::datamodel::Rate;
use crate::engine::{Buffer, Engine};
use crate::error::Result;
use crate::input::{Encoding, Ramp};
use crate::kernels::ramp::{self, Amplitudes, Params, Tables, stage};
use crate::kernels::{Args, Bound};
use crate::profile::{self, Work};

use super::calibration::Calibration;
use super::dark_decay;
use super::refpix::{self, Zero};
use bands::{Done, Pass};
use jumps::{Found, Spread};
pub use jumps::{Jump, Kind};
pub use plan::{Plan, theirs};
use slot::{Slot, chunk_rows};
use touched::Marks;
pub use window::Band;
use window::Window;

/// A ramp ready to be streamed: its tables and where its chunks end.
pub struct Stream<'a> {
    ramp: &'a Ramp,
    cal: Calibration<'a>,
    params: Params,
    tables: Vec<f32>,
    grow: u32,
    rows: usize,
    chain: chain::Chain,
    facts: chain::Facts,
    /// Whether it ends in rates.
    fits: bool,
    /// The set of calibrations that exposures share, which the device may keep.
    kept: Option<String>,
    /// Bits of pixels, ascending, that the planes do not have.
    told: Vec<(u32, u32)>,
    /// The ramp of first frames.
    zero: Option<Box<Stream<'a>>>,
    spread: Option<Spread>,
    amplitudes: Amplitudes,
    /// What jumps flag beyond themselves, once that is known.
    marks: OnceLock<Marks>,
    /// What the reference pixels gave.
    pub offsets: Option<refpix::Report>,
}

impl<'a> Stream<'a> {
    /// Prepares `ramp`: measures the reference pixels (P0), which are then flagged
    /// in `cal`, and sizes the chunks for `engine`.
    pub fn prepare(
        ramp: &'a Ramp,
        mut cal: Calibration<'a>,
        plan: &mut Plan,
        detector: &Detector,
        engine: &dyn Engine,
    ) -> Result<Stream<'a>> {
        let total = ramp.ramps * ramp.reads;
        let mut params = Params { ramps: ramp.ramps as u32, reads: ramp.reads as u32, ..plan.params };
        params.stages = plan.stages | if ramp.has_groupdq { stage::FLAGS_IN } else { 0 };
        params.encoding = match ramp.encoding {
            Encoding::U16 => ramp::Encoding::U16,
            Encoding::I16 => ramp::Encoding::I16,
            Encoding::I32 => ramp::Encoding::I32,
            Encoding::F32 => ramp::Encoding::F32,
        } as u32;
        let mut tables: Vec<f32> = bytemuck::cast_vec(
            Tables::new(&ramp.times, &ramp.nsample, ramp.frame_time, ramp.reads).to_words(),
        );
        if !plan.theirs {
            cal.amplify();
        }
        let (mut found, mut offsets) = (None, None);
        if let Some(step) = &plan.refpix {
            let kernels = refpix::kernels(step, cal.refpix.as_deref())?;
            let layout = refpix::Layout::find(ramp, &cal, detector)?;
            let zero = match plan.stages & stage::BIAS != 0 {
                true => Zero::Bias(&cal),
                // A ramp whose bias an earlier run subtracted has its zero where it should be.
                false if ramp.header.text("S_BIAS").as_deref() == Some("COMPLETE") => Zero::Subtracted,
                false => Zero::None,
            };
            let span = profile::span(Work::Read, "reference pixels");
            let measured = match &layout {
                Some(l) => refpix::measure(ramp, l, zero, step, kernels.as_ref())?,
                None => None,
            };
            drop(span);
            if let (Some(kernels), Some(layout)) = (&kernels, &layout) {
                cal.warnings.extend(layout.disagrees(ramp, kernels.left.len()));
            }
            let has_layout = layout.is_some();
            if let Some(layout) = layout {
                params.along_y = u32::from(layout.along_y);
                cal.set_reference_pixels(layout.reference);
            }
            match measured {
                Some(o) => {
                    cal.warnings.extend(o.report.lit());
                    found = Some(o.report);
                    if !plan.theirs {
                        cal.add_read_variance(o.report.added, &ramp.nsample);
                    }
                    offsets = Some(o.tables);
                }
                None => plan.left_out.push((
                    "refpix",
                    if has_layout {
                        "too few usable reference pixels"
                    } else {
                        "no reference pixels in the frame"
                    }
                    .into(),
                )),
            }
        }
        if let Some(step) = &plan.decay {
            let along_y = detector.amplifiers.along == 'y';
            params.along_y = u32::from(along_y);
            offsets = Some(dark_decay::add(offsets, ramp, along_y, step));
        }
        if let Some(o) = offsets {
            params.stages |= stage::REFPIX;
            params.across = (o.columns.len() / total) as u32;
            params.lines = if params.along_y != 0 { ramp.nx } else { ramp.ny } as u32;
            params.block_width = o.block_width as u32;
            tables.extend(o.columns);
            tables.extend(o.lines);
        }
        // What an earlier run's offsets added, they still do.
        if let Some(added) = refpix::added_before(ramp).filter(|_| plan.refpix.is_none() && !plan.theirs) {
            cal.add_read_variance(added, &ramp.nsample);
        }
        cal.warnings.append(&mut plan.warnings);
        plan.chain.prepare(ramp, &mut cal, detector)?;
        if cal.average_dark().is_some() {
            params.stages |= stage::DARK;
        }
        let done = ramp.header.text("S_NLCORR").as_deref() == Some("COMPLETE");
        let ncoef = cal.polynomial().0;
        if done && ncoef > 0 && params.stages & stage::LINEARITY == 0 {
            params.stages |= stage::LINEARISED;
            params.ncoef = ncoef as u32;
        }
        let mut chain = plan.chain.clone();
        let mut facts = chain::Facts::default();
        if chain.needed() {
            let mut warnings = Vec::new();
            facts = chain.look(ramp, &cal, &mut warnings)?;
            cal.warnings.extend(warnings);
        }
        let rows = chunk_rows(ramp, cal.planes(), plan, engine)?;
        let (mut kept, mut told) = (None, Vec::new());
        if !chain.needed() {
            (params.added_variance, told) = cal.hand_over();
            // A name costs a hash of every reference.
            if engine.device().keeps > 0 {
                kept = cal.name()?.map(|name| format!("{name} by {rows}"));
            }
        }
        let grow = plan.grow;
        let spread = plan.spread.clone().filter(Spread::needed);
        let amplitudes = Amplitudes::new(&ramp.times, &ramp.nsample, ramp.frame_time, ramp.reads);
        Ok(Stream {
            ramp,
            cal,
            params,
            tables,
            grow,
            rows,
            chain,
            facts,
            spread,
            amplitudes,
            marks: OnceLock::new(),
            fits: plan.fits(),
            kept,
            told,
            zero: None,
            offsets: found,
        })
    }

    /// The planes, with the reference pixels flagged.
    pub fn calibration(&self) -> &Calibration<'a> {
        &self.cal
    }

    /// Pixels over which saturation reaches: an averaged read that a neighbour's
    /// growth makes doubtful has neighbours in its turn.
    fn reach(&self) -> usize {
        self.grow as usize * if averaged(self.ramp) { 2 } else { 1 }
    }

    /// Rate, error, photon and read variance and reduced χ² of the pixels of `rows`
    /// by the fused kernel in double precision, on the CPU whatever the engine; NaN
    /// where it has no value. Saturation is not grown.
    pub fn exact(&self, rows: Range<usize>) -> Result<Vec<[f64; 5]>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut raw = vec![0u32; self.ramp.chunk_bytes(rows.len()).div_ceil(4)];
        let bytes = self.ramp.chunk_bytes(rows.len());
        self.ramp.read_rows(rows.clone(), &mut bytemuck::cast_slice_mut(&mut raw)[..bytes])?;
        let flags = self.ramp.groupdq_rows(rows.clone())?.unwrap_or_default();
        let flags: Vec<u32> = flags.into_iter().map(u32::from).collect();
        let mut cal = vec![0f32; self.cal.planes() * rows.len() * self.ramp.nx];
        self.cal.read(rows.clone(), &mut cal, true)?;
        let params = self.grid(&rows);
        let buffers =
            [&raw, &flags, bytemuck::cast_slice(&cal), bytemuck::cast_slice(&self.tables), &[], &[], &[]];
        Ok(ramp::reference(&Args {
            items: params.items as usize,
            params: bytemuck::cast_slice(&[params]),
            buffers: buffers.map(Bound::Read).into(),
        }))
    }

    /// Room for the rates of the whole frame.
    fn whole(&self) -> Window {
        Window::new(self.params.out_planes(), self.ramp.ny * self.ramp.nx).telling(&self.told)
    }

    /// P1 to P3: the rates of the whole frame. `progress` hears the fraction done.
    pub fn rates(&self, engine: &mut dyn Engine, progress: &dyn Fn(f64)) -> Result<Rate> {
        Ok(self.rates_and_jumps(engine, progress)?.0)
    }

    /// [`Stream::rates`], and the differences that were left out, by read and pixel:
    /// none where nobody asks for them, or where they are too many to be true.
    pub fn rates_and_jumps(
        &self,
        engine: &mut dyn Engine,
        progress: &dyn Fn(f64),
    ) -> Result<(Rate, Option<Vec<Jump>>)> {
        let tables = engine.buffer_of_f32(&self.tables)?;
        let (mut rates, mut found, marks) = self.first_rates(engine, tables, progress)?;
        if let Some(marks) = marks {
            if self.chain.needed() {
                self.chained_again(engine, tables, &marks, (&mut rates, &mut found))?;
            } else {
                self.refit_marked(engine, tables, &marks, (&mut rates, &mut found))?;
            }
        }
        engine.free(tables);
        let (ny, nx) = (self.ramp.ny, self.ramp.nx);
        found.keep(&rates, 0..ny * nx);
        jumps::sort(&mut found.kept);
        progress(1.0);
        let listed = self.spread.is_some() && !found.too_many;
        Ok((rates.into_rate(ny, nx), listed.then_some(found.kept)))
    }

    /// Whether rows can be given away one after the other ([`Stream::give_rates`]).
    pub fn gives_rates(&self) -> bool {
        !self.chain.needed() && !self.wants_saturated() && self.params.pedestal == 0
    }

    /// P1 to P3: the rates, as they are done: `sink` gets every row once, in order. Gives
    /// the jumps as [`Stream::rates_and_jumps`] does, none unless `list`; `None` where they
    /// are too many to be true: then not every row was given, and without `list` they are.
    pub fn give_rates(
        &self,
        engine: &mut dyn Engine,
        list: bool,
        sink: &mut dyn FnMut(&Band<'_>) -> Result<()>,
        progress: &dyn Fn(f64),
    ) -> Result<Option<Vec<Jump>>> {
        let tables = engine.buffer_of_f32(&self.tables)?;
        let rates = Window::new(self.params.out_planes(), 2 * self.rows * self.ramp.nx).telling(&self.told);
        let mut pass = Pass::new(self, rates, list && self.spread.is_some(), true);
        pass.run(self, engine, tables, Done::Given(sink), progress)?;
        engine.free(tables);
        let Found { mut kept, too_many, .. } = pass.found;
        jumps::sort(&mut kept);
        Ok((!too_many).then_some(kept))
    }

    /// Whether jumps are listed.
    pub fn lists_jumps(&self) -> bool {
        self.spread.is_some()
    }

    /// The rates and the jumps, and what jumps take with them where that is decided once
    /// the whole frame is known and not in the rates yet.
    fn first_rates(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        progress: &dyn Fn(f64),
    ) -> Result<(Window, Found, Option<Marks>)> {
        if self.chain.needed() {
            let (mut rates, mut found) = (self.whole(), Found::new(self));
            self.chained_rates(engine, tables, progress, (&mut rates, &mut found))?;
            found.sort();
            let marks = self.marks(&rates, &mut found)?;
            return Ok((rates, found, Some(marks)));
        }
        let Pass { rates, mut found, .. } = self.pass(engine, tables, progress)?;
        let marks = if self.wants_saturated() && !found.too_many {
            found.sort();
            Some(self.marks(&rates, &mut found)?)
        } else {
            None
        };
        Ok((rates, found, marks))
    }

    /// All chunks through the fused kernel, the whole frame kept; without jumps where they
    /// are too many.
    fn pass(&self, engine: &mut dyn Engine, tables: Buffer, progress: &dyn Fn(f64)) -> Result<Pass> {
        let mut pass = Pass::new(self, self.whole(), self.spread.is_some(), !self.wants_saturated());
        pass.run(self, engine, tables, Done::Kept, progress)?;
        if pass.found.too_many {
            pass = Pass::new(self, self.whole(), false, false);
            pass.run(self, engine, tables, Done::Kept, progress)?;
            pass.found.too_many = true;
        }
        Ok(pass)
    }

    /// The ramp after the steps, chunk by chunk with a halo for growth: `sink` gets
    /// the rows, the values `[read][pixel]` and the flags `[read][pixel]`.
    pub fn ramps(
        &self,
        engine: &mut dyn Engine,
        sink: &mut dyn FnMut(Range<usize>, &[f32], &[u32]) -> Result<()>,
    ) -> Result<()> {
        let tables = engine.buffer_of_f32(&self.tables)?;
        let marks = self.known_marks(engine, tables)?;
        if self.chain.needed() {
            self.chained_ramps(engine, tables, marks, sink)?;
            engine.free(tables);
            return Ok(());
        }
        let (ny, nx, grow) = (self.ramp.ny, self.ramp.nx, self.reach());
        for rows in self.chunks() {
            let grid = rows.start.saturating_sub(grow)..(rows.end + grow).min(ny);
            let list: Vec<u32> =
                ((rows.start - grid.start) * nx..(rows.end - grid.start) * nx).map(|p| p as u32).collect();
            let mut slot = self.slot(engine, grid.len(), list.len(), true)?;
            self.start(engine, &mut slot, tables, grid, Some(&list), Some(self.params.stages))?;
            let (values, mut flags) = (engine.download_f32(slot.out)?, engine.download(slot.flags_out)?);
            slot.free(engine);
            if let Some(marks) = marks {
                let pixels = rows.start * nx..rows.end * nx;
                self.mark(marks, (&mut flags, pixels.len(), pixels.start), pixels);
            }
            sink(rows, &values, &flags)?;
        }
        engine.free(tables);
        Ok(())
    }

    /// What jumps take with them, for ramps that are not fitted; found only once.
    fn known_marks(&self, engine: &mut dyn Engine, tables: Buffer) -> Result<Option<&Marks>> {
        if !self.spread.as_ref().is_some_and(Spread::marks) {
            return Ok(None);
        }
        if self.marks.get().is_none() {
            let marks = if !self.chain.needed() && !self.wants_saturated() {
                self.pass(engine, tables, &|_| {})?.marks
            } else {
                self.first_rates(engine, tables, &|_| {})?.2.unwrap_or_default()
            };
            let _ = self.marks.set(marks);
        }
        Ok(self.marks.get())
    }
}

fn averaged(ramp: &Ramp) -> bool {
    ramp.nsample.iter().any(|n| *n > 1)
}
