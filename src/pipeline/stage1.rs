//! Stage 1: a raw ramp, streamed row chunk by row chunk through the ramp kernel.
//!
//! Passes: (P0) the reference pixels are read and become offset tables; (P1) row
//! chunks go through the fused kernel; (P2) the saturated pixels are grown on the
//! whole-frame data-quality plane, and what jumps take with them is found from their
//! list; (P3) the pixels that this touches are refitted by the same kernel from a
//! list, and patched. The answer does not depend on the size of the chunks.

mod chain;
mod jumps;
mod plan;
mod snowballs;
mod touched;
mod zero;

use std::ops::Range;
use std::sync::OnceLock;

use crate::config::Detector;
use crate::datamodel::{Rate, dq};
use crate::engine::{Buffer, DeviceKind, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::input::{Encoding, Ramp};
use crate::kernels::ramp::{self, Amplitudes, OUT_PLANES, Out, Params, RAMP, Tables, stage};
use crate::kernels::{Args, Bound};

use super::calibration::Calibration;
use super::refpix::{self, Zero};
use jumps::{Found, Spread};
pub use jumps::{Jump, Kind};
pub use plan::{Plan, theirs};
use touched::Marks;

/// A ramp ready to be streamed: its tables and where its chunks end.
pub struct Stream<'a> {
    ramp: &'a Ramp,
    cal: Calibration<'a>,
    params: Params,
    tables: Vec<f32>,
    grow: u32,
    rows: usize,
    nreads: u32,
    chain: chain::Chain,
    facts: chain::Facts,
    /// Whether it ends in rates.
    fits: bool,
    /// The ramp of first frames.
    zero: Option<Box<Stream<'a>>>,
    spread: Option<Spread>,
    amplitudes: Amplitudes,
    /// What jumps flag beyond themselves, once that is known.
    marks: OnceLock<Marks>,
    /// What the reference pixels gave.
    pub offsets: Option<refpix::Report>,
}

/// One chunk's device memory.
struct Slot {
    ramp: Buffer,
    flags: Buffer,
    cal: Buffer,
    list: Buffer,
    out: Buffer,
    flags_out: Buffer,
}

impl Slot {
    fn free(self, engine: &mut dyn Engine) {
        for b in [self.ramp, self.flags, self.cal, self.list, self.out, self.flags_out] {
            engine.free(b);
        }
    }
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
        let mut found = None;
        if let Some(step) = &plan.refpix {
            let kernels = refpix::kernels(step, cal.refpix.as_deref())?;
            let layout = refpix::Layout::find(ramp, &cal, detector)?;
            let zero = match plan.stages & stage::BIAS != 0 {
                true => Zero::Bias(&cal),
                // A ramp whose bias an earlier run subtracted has its zero where it should be.
                false if ramp.header.text("S_BIAS").as_deref() == Some("COMPLETE") => Zero::Subtracted,
                false => Zero::None,
            };
            let offsets = match &layout {
                Some(l) => refpix::measure(ramp, l, zero, step, kernels.as_ref())?,
                None => None,
            };
            if let (Some(kernels), Some(layout)) = (&kernels, &layout) {
                cal.warnings.extend(layout.disagrees(ramp, kernels.left.len()));
            }
            let has_layout = layout.is_some();
            if let Some(layout) = layout {
                params.along_y = u32::from(layout.along_y);
                cal.set_reference_pixels(layout.reference);
            }
            match offsets {
                Some(o) => {
                    params.stages |= stage::REFPIX;
                    params.across = (o.tables.columns.len() / total) as u32;
                    params.lines = if params.along_y != 0 { ramp.nx } else { ramp.ny } as u32;
                    params.block_width = o.tables.block_width as u32;
                    found = Some(o.report);
                    if !plan.theirs {
                        cal.add_read_variance(o.report.added, &ramp.nsample);
                    }
                    tables.extend(o.tables.columns);
                    tables.extend(o.tables.lines);
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
        let nreads = (total as u32).next_power_of_two().max(4);
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
            nreads,
            chain,
            facts,
            spread,
            amplitudes,
            marks: OnceLock::new(),
            fits: plan.fits(),
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

    fn slot(&self, engine: &mut dyn Engine, rows: usize, items: usize, store: bool) -> Result<Slot> {
        let total = self.ramp.ramps * self.ramp.reads;
        let pixels = rows * self.ramp.nx;
        let planes = if store { total } else { self.params.out_planes() };
        Ok(Slot {
            ramp: engine.allocate(self.ramp.chunk_bytes(rows).div_ceil(4))?,
            flags: engine.allocate(if self.ramp.has_groupdq { total * pixels } else { 1 })?,
            cal: engine.allocate(self.cal.planes() * pixels)?,
            list: engine.allocate(items.max(1))?,
            out: engine.allocate(planes * items)?,
            flags_out: engine.allocate(if store { total * items } else { 1 })?,
        })
    }

    /// Uploads the rows of a chunk and starts the kernel on them; `store` stores the ramp
    /// after those stages.
    fn start(
        &self,
        engine: &mut dyn Engine,
        slot: &Slot,
        tables: Buffer,
        rows: Range<usize>,
        list: Option<&[u32]>,
        store: Option<u32>,
    ) -> Result<()> {
        self.upload(engine, slot, rows.clone())?;
        if let Some(list) = list {
            engine.upload(slot.list, list)?;
        }
        self.dispatch(engine, slot, tables, rows, list.map(<[u32]>::len), store)
    }

    /// Uploads the rows of a chunk.
    fn upload(&self, engine: &mut dyn Engine, slot: &Slot, rows: Range<usize>) -> Result<()> {
        let (ramp, nx, n) = (self.ramp, self.ramp.nx, rows.len());
        let bytes = ramp.chunk_bytes(n);
        engine.upload_with(slot.ramp, bytes.next_multiple_of(4), &mut |to| {
            ramp.read_rows(rows.clone(), &mut to[..bytes])
        })?;
        if let Some(flags) = ramp.groupdq_rows(rows.clone())? {
            let words: Vec<u32> = flags.into_iter().map(u32::from).collect();
            engine.upload(slot.flags, &words)?;
        }
        let pixels = rows.start * nx..rows.end * nx;
        engine.upload_with(slot.cal, self.cal.planes() * pixels.len() * 4, &mut |to| {
            self.cal.read(rows.clone(), bytemuck::cast_slice_mut(to))
        })
    }

    /// Starts the kernel on a chunk that was uploaded, or on so many `listed` pixels of it.
    fn dispatch(
        &self,
        engine: &mut dyn Engine,
        slot: &Slot,
        tables: Buffer,
        rows: Range<usize>,
        listed: Option<usize>,
        store: Option<u32>,
    ) -> Result<()> {
        let (nx, n) = (self.ramp.nx, rows.len());
        let items = listed.unwrap_or(n * nx);
        let params = Params {
            items: items as u32,
            listed: u32::from(listed.is_some()),
            grow: if listed.is_some() || store.is_some() { self.grow } else { 0 },
            stages: match store {
                Some(stages) => stages & !stage::FIT | stage::STORE,
                None => self.params.stages | stage::FIT,
            },
            ..self.grid(&rows)
        };
        engine.submit(&vec![Dispatch {
            kernel: &RAMP,
            buffers: vec![slot.ramp, slot.flags, slot.cal, tables, slot.list, slot.out, slot.flags_out],
            items,
            params: bytemuck::cast_slice(&[params]).to_vec(),
            constants: vec![("NREADS", self.nreads)],
        }])
    }

    /// The parameters of a chunk whose items are all its pixels.
    fn grid(&self, rows: &Range<usize>) -> Params {
        let strides = self.ramp.strides(rows.len());
        Params {
            items: (rows.len() * self.ramp.nx) as u32,
            nx: self.ramp.nx as u32,
            rows: rows.len() as u32,
            row0: rows.start as u32,
            stride_ramp: strides.ramp as u32,
            stride_read: strides.read as u32,
            stride_y: strides.y as u32,
            stride_x: strides.x as u32,
            ..self.params
        }
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
        self.cal.read(rows.clone(), &mut cal)?;
        let params = self.grid(&rows);
        let buffers =
            [&raw, &flags, bytemuck::cast_slice(&cal), bytemuck::cast_slice(&self.tables), &[], &[], &[]];
        Ok(ramp::reference(&Args {
            items: params.items as usize,
            params: bytemuck::cast_slice(&[params]),
            buffers: buffers.map(Bound::Read).into(),
        }))
    }

    fn chunks(&self) -> Vec<Range<usize>> {
        (0..self.ramp.ny).step_by(self.rows).map(|r| r..(r + self.rows).min(self.ramp.ny)).collect()
    }

    /// Planes for the rates of the whole frame.
    fn empty(&self) -> Rate {
        let mut rate = Rate::zeros(self.ramp.ny, self.ramp.nx);
        if self.params.pedestal != 0 {
            let planes = vec![f32::NAN; self.ramp.ramps * rate.data.len()];
            (rate.pedestal, rate.var_pedestal, rate.cov_pedestal) = (planes.clone(), planes.clone(), planes);
        }
        rate
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
        let (mut rate, mut found) = self.first_rates(engine, tables, progress)?;
        let marks = self.marks(&rate, &mut found)?;
        if self.chain.needed() {
            self.chained_again(engine, tables, &marks, (&mut rate, &mut found))?;
        } else {
            self.refit_marked(engine, tables, &marks, (&mut rate, &mut found))?;
        }
        engine.free(tables);
        // Reference pixels and bad ones have no rate that a jump could spoil.
        found.jumps.retain(|j| rate.dq[j.pixel as usize] & dq::DO_NOT_USE == 0);
        found.sort();
        progress(1.0);
        Ok((rate, self.spread.is_some().then_some(found.jumps).filter(|_| !found.too_many)))
    }

    /// Whether jumps are listed.
    pub fn lists_jumps(&self) -> bool {
        self.spread.is_some()
    }

    /// The rates before jumps take anything with them, and the jumps.
    fn first_rates(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        progress: &dyn Fn(f64),
    ) -> Result<(Rate, Found)> {
        let (ny, nx) = (self.ramp.ny, self.ramp.nx);
        let (mut rate, mut found) = (self.empty(), Found::new(self));
        if self.chain.needed() {
            self.chained_rates(engine, tables, progress, (&mut rate, &mut found))?;
            found.sort();
            return Ok((rate, found));
        }
        let chunks = self.chunks();
        // Two slots: a GPU computes on one while the other is filled and read.
        let slots = [
            self.slot(engine, self.rows.min(ny), self.rows.min(ny) * nx, false)?,
            self.slot(engine, self.rows.min(ny), self.rows.min(ny) * nx, false)?,
        ];
        for i in 0..=chunks.len() {
            if let Some(rows) = chunks.get(i) {
                self.start(engine, &slots[i % 2], tables, rows.clone(), None, None)?;
            }
            if i > 0 {
                let (rows, slot) = (chunks[i - 1].clone(), &slots[(i - 1) % 2]);
                let pixels = rows.start * nx..rows.end * nx;
                engine.download_with(slot.out, &mut |w| place(w, &mut rate, pixels.clone()))?;
                if self.spread.is_some() {
                    let pixels = self.worth_seeing(&rate, rows.clone());
                    self.see(engine, slot, tables, rows, &pixels, (&rate, &mut found))?;
                }
                progress(i as f64 / chunks.len() as f64 * 0.9);
            }
        }
        for slot in slots {
            slot.free(engine);
        }
        if self.grow > 0 && self.params.stages & stage::SATURATION != 0 {
            self.refit(engine, tables, (&mut rate, &mut found))?;
        }
        found.sort();
        Ok((rate, found))
    }

    /// P2 and P3: pixels near saturated ones, refitted with the saturation of their
    /// neighbourhood.
    fn refit(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        (rate, found): (&mut Rate, &mut Found),
    ) -> Result<()> {
        let (ny, nx, grow) = (self.ramp.ny, self.ramp.nx, self.reach());
        let touched = dilate(&rate.dq, ny, nx, grow);
        found.forget(&touched);
        for rows in self.chunks() {
            let grid = rows.start.saturating_sub(grow)..(rows.end + grow).min(ny);
            let pixels: Vec<usize> = (rows.start * nx..rows.end * nx).filter(|&p| touched[p]).collect();
            if pixels.is_empty() {
                continue;
            }
            let list: Vec<u32> = pixels.iter().map(|p| (p - grid.start * nx) as u32).collect();
            let slot = self.slot(engine, grid.len(), list.len(), false)?;
            self.start(engine, &slot, tables, grid.clone(), Some(&list), None)?;
            engine.download_with(slot.out, &mut |w| scatter(w, list.len(), rate, pixels.iter().copied()))?;
            if self.spread.is_some() {
                let mut again = self.worth_seeing(rate, rows);
                again.retain(|p| touched[*p]);
                self.see(engine, &slot, tables, grid, &again, (&*rate, found))?;
            }
            slot.free(engine);
        }
        Ok(())
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
            let slot = self.slot(engine, grid.len(), list.len(), true)?;
            self.start(engine, &slot, tables, grid, Some(&list), Some(self.params.stages))?;
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
            let (rate, mut found) = self.first_rates(engine, tables, &|_| {})?;
            let marks = self.marks(&rate, &mut found)?;
            let _ = self.marks.set(marks);
        }
        Ok(self.marks.get())
    }
}

/// Copies a chunk's output planes into the frame's run of `pixels`.
fn place(words: &[u32], rate: &mut Rate, pixels: Range<usize>) {
    let n = pixels.len();
    let plane = |plane: Out| &words[plane as usize * n..][..n];
    let frame = rate.data.len();
    let Rate { data, err, var_poisson, var_rnoise, chi2, dq, nreads, .. } = rate;
    rayon::scope(|s| {
        for (which, to) in [
            (Out::Rate, data),
            (Out::Err, err),
            (Out::VarPoisson, var_poisson),
            (Out::VarRnoise, var_rnoise),
            (Out::Chi2, chi2),
        ] {
            let (to, from) = (&mut to[pixels.clone()], plane(which));
            s.spawn(move |_| to.copy_from_slice(bytemuck::cast_slice(from)));
        }
        let to = &mut dq[pixels.clone()];
        s.spawn(move |_| to.copy_from_slice(plane(Out::Dq)));
        let to = &mut nreads[pixels.clone()];
        s.spawn(move |_| to.iter_mut().zip(plane(Out::Reads)).for_each(|(t, w)| *t = *w as u16));
    });
    for (to, from) in pedestal_planes(rate, words, n, frame) {
        to[pixels.clone()].copy_from_slice(from);
    }
}

/// The frame's planes of pedestals, each with its chunk of `n` items among `words`.
fn pedestal_planes<'a>(
    rate: &'a mut Rate,
    words: &'a [u32],
    n: usize,
    frame: usize,
) -> impl Iterator<Item = (&'a mut [f32], &'a [f32])> {
    let planes = rate.pedestal.chunks_mut(frame).zip(rate.var_pedestal.chunks_mut(frame));
    let planes = planes.zip(rate.cov_pedestal.chunks_mut(frame)).flat_map(|((p, v), c)| [p, v, c]);
    planes.zip(bytemuck::cast_slice(&words[OUT_PLANES * n..]).chunks_exact(n.max(1)))
}

/// Copies the output planes of listed items into the frame at `pixels`.
fn scatter(words: &[u32], items: usize, rate: &mut Rate, pixels: impl Iterator<Item = usize> + Clone) {
    let float = |plane: Out| &words[plane as usize * items..][..items];
    for (plane, to) in [
        (Out::Rate, &mut rate.data),
        (Out::Err, &mut rate.err),
        (Out::VarPoisson, &mut rate.var_poisson),
        (Out::VarRnoise, &mut rate.var_rnoise),
        (Out::Chi2, &mut rate.chi2),
    ] {
        for (p, w) in pixels.clone().zip(float(plane)) {
            to[p] = f32::from_bits(*w);
        }
    }
    let frame = rate.data.len();
    for (to, from) in pedestal_planes(rate, words, items, frame) {
        pixels.clone().zip(from).for_each(|(p, v)| to[p] = *v);
    }
    for (i, p) in pixels.enumerate() {
        rate.dq[p] = words[Out::Dq as usize * items + i];
        rate.nreads[p] = words[Out::Reads as usize * items + i] as u16;
    }
}

fn averaged(ramp: &Ramp) -> bool {
    ramp.nsample.iter().any(|n| *n > 1)
}

/// Pixels within `grow` of a saturated one.
fn dilate(bits: &[u32], ny: usize, nx: usize, grow: usize) -> Vec<bool> {
    let mut out = vec![false; bits.len()];
    for (p, _) in bits.iter().enumerate().filter(|(_, b)| **b & dq::SATURATED != 0) {
        let (x, y) = (p % nx, p / nx);
        for row in y.saturating_sub(grow)..(y + grow + 1).min(ny) {
            out[row * nx + x.saturating_sub(grow)..row * nx + (x + grow + 1).min(nx)].fill(true);
        }
    }
    out
}

/// Rows of a chunk: as many as the device binds and two slots fit the budget.
fn chunk_rows(ramp: &Ramp, planes: usize, plan: &Plan, engine: &dyn Engine) -> Result<usize> {
    /// Fewer leave threads without work, and are mostly halo.
    const LEAST: u64 = 16;
    let total = (ramp.ramps * ramp.reads) as u64;
    let nx = ramp.nx as u64;
    let raw = ramp.chunk_bytes(1) as u64;
    let flags = if ramp.has_groupdq { total * nx * 4 } else { 0 };
    let rates = plan.fits() && !plan.chain.needed();
    let pedestals = Params { ramps: ramp.ramps as u32, ..plan.params }.out_planes() as u64;
    let out = if rates { pedestals } else { total } * nx * 4;
    let planes = planes as u64 * nx * 4;
    let flags_out = if rates { 0 } else { total * nx * 4 };
    let widest = plan.chain.corrections.widest(total) * nx * 4;
    let largest = [raw, flags, out, planes, flags_out, widest].into_iter().max().unwrap_or(1).max(1);
    let more = chain::row_bytes(plan, total, nx);
    let together = (raw + flags + out + planes + flags_out + more).max(1) * 2;
    let device = engine.device();
    /// Private arrays of a thread on a GPU are of this length at most: 128 KiB.
    const MOST_READS: u64 = 4096;
    if device.kind != DeviceKind::Cpu && total.next_power_of_two() > MOST_READS {
        return Err(Error::Device {
            device: device.name.clone(),
            message: format!(
                "{} ramps of {} reads are {total}, more than the {MOST_READS} that its kernel holds: use --device cpu",
                ramp.ramps, ramp.reads
            ),
        });
    }
    let rows = (device.max_binding / largest)
        .min(device.memory / 2 / together)
        .min((device.enough / largest).max(LEAST));
    if device.max_binding / largest == 0 {
        return Err(Error::Device {
            device: device.name.clone(),
            message: format!("one row of {total} reads does not fit a buffer; use --device cpu"),
        });
    }
    // Halo rows of the sparse passes must fit too.
    Ok((rows.saturating_sub(4 * u64::from(plan.grow) + 2 * plan.chain.halo() as u64).max(1) as usize)
        .min(ramp.ny))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dilation_stays_in_the_frame() {
        let mut bits = vec![0; 20];
        bits[0] = dq::SATURATED;
        bits[19] = dq::SATURATED;
        let grown = dilate(&bits, 4, 5, 1);
        assert_eq!(grown.iter().filter(|g| **g).count(), 8);
    }
}
