//! A chunk of rows on the device: its memory, what is uploaded, and the dispatch.

use std::ops::Range;

use super::window::Window;
use super::{Plan, Stream, chain};
use crate::engine::{Buffer, DeviceKind, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::input::Ramp;
use crate::kernels::ramp::{Params, RAMP, stage};

/// One chunk's device memory.
pub(super) struct Slot {
    pub(super) ramp: Buffer,
    pub(super) flags: Buffer,
    /// The calibration planes: its own memory, or what the device keeps of them.
    pub(super) cal: Buffer,
    own_cal: Buffer,
    pub(super) list: Buffer,
    pub(super) out: Buffer,
    pub(super) flags_out: Buffer,
}

/// A chunk on the device, with the tables of its exposure.
pub(super) struct Loaded<'a> {
    pub(super) slot: &'a Slot,
    pub(super) tables: Buffer,
    /// Its rows.
    pub(super) grid: Range<usize>,
}

impl Slot {
    /// The same chunk with another list and other outputs.
    pub(super) fn with(&self, list: Buffer, out: Buffer, flags_out: Buffer) -> Slot {
        Slot { list, out, flags_out, ..*self }
    }

    pub(super) fn free(self, engine: &mut dyn Engine) {
        for b in [self.ramp, self.flags, self.own_cal, self.list, self.out, self.flags_out] {
            engine.free(b);
        }
    }
}

impl Stream<'_> {
    pub(super) fn slot(
        &self,
        engine: &mut dyn Engine,
        rows: usize,
        items: usize,
        store: bool,
    ) -> Result<Slot> {
        let total = self.ramp.ramps * self.ramp.reads;
        let pixels = rows * self.ramp.nx;
        let planes = if store { total } else { self.params.out_planes() };
        let own_cal = engine.allocate(self.cal.planes() * pixels)?;
        Ok(Slot {
            ramp: engine.allocate(self.ramp.chunk_bytes(rows).div_ceil(4))?,
            flags: engine.allocate(if self.ramp.has_groupdq { total * pixels } else { 1 })?,
            cal: own_cal,
            own_cal,
            list: engine.allocate(items.max(1))?,
            out: engine.allocate(planes * items)?,
            flags_out: engine.allocate(if store { total * items } else { 1 })?,
        })
    }

    /// Uploads the rows of a chunk and starts the kernel on them; `store` stores the ramp
    /// after those stages.
    pub(super) fn start(
        &self,
        engine: &mut dyn Engine,
        slot: &mut Slot,
        tables: Buffer,
        rows: Range<usize>,
        list: Option<&[u32]>,
        store: Option<u32>,
    ) -> Result<()> {
        self.upload(engine, slot, rows.clone(), None)?;
        if let Some(list) = list {
            engine.upload(slot.list, list)?;
        }
        self.dispatch(engine, slot, tables, rows, list.map(<[u32]>::len), store)
    }

    /// Uploads the rows of a chunk; `kept` is the set of calibrations that the device keeps.
    pub(super) fn upload(
        &self,
        engine: &mut dyn Engine,
        slot: &mut Slot,
        rows: Range<usize>,
        kept: Option<&str>,
    ) -> Result<()> {
        let (ramp, nx, n) = (self.ramp, self.ramp.nx, rows.len());
        let bytes = ramp.chunk_bytes(n);
        engine.upload_with(slot.ramp, bytes.next_multiple_of(4), &mut |to| {
            ramp.read_rows(rows.clone(), &mut to[..bytes])
        })?;
        if let Some(flags) = ramp.groupdq_rows(rows.clone())? {
            let words: Vec<u32> = flags.into_iter().map(u32::from).collect();
            engine.upload(slot.flags, &words)?;
        }
        let own = engine.device().kind == DeviceKind::Cpu;
        let bytes = self.cal.planes() * n * nx * 4;
        let mut fill = |to: &mut [u8]| self.cal.read(rows.clone(), bytemuck::cast_slice_mut(to), own);
        slot.cal = slot.own_cal;
        if let Some(set) = kept
            && let Some(buffer) = engine.kept(set, &rows, bytes, &mut fill)?
        {
            slot.cal = buffer;
            return Ok(());
        }
        engine.upload_with(slot.cal, bytes, &mut fill)
    }

    /// Starts the kernel on a chunk that was uploaded, or on so many `listed` pixels of it.
    pub(super) fn dispatch(
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
            constants: params.constants(),
        }])
    }

    /// Fits `pixels` (of the frame) of a chunk again, with the saturation of their
    /// neighbourhood, into those of `rates`.
    pub(super) fn fit_listed(
        &self,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
        rates: &mut Window,
    ) -> Result<()> {
        for pixels in pixels.chunks(self.at_once(chunk.grid.len())) {
            let list = engine.buffer_of(&self.list(chunk, pixels))?;
            let (out, none) =
                (engine.allocate(self.params.out_planes() * pixels.len())?, engine.allocate(1)?);
            let slot = chunk.slot.with(list, out, none);
            self.dispatch(engine, &slot, chunk.tables, chunk.grid.clone(), Some(pixels.len()), None)?;
            engine.download_with(out, &mut |w| rates.scatter(w, pixels))?;
            [list, out, none].into_iter().for_each(|b| engine.free(b));
        }
        Ok(())
    }

    /// Where `pixels` of the frame are in a chunk.
    pub(super) fn list(&self, chunk: &Loaded<'_>, pixels: &[usize]) -> Vec<u32> {
        pixels.iter().map(|p| (p - chunk.grid.start * self.ramp.nx) as u32).collect()
    }

    /// The parameters of a chunk whose items are all its pixels.
    pub(super) fn grid(&self, rows: &Range<usize>) -> Params {
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

    pub(super) fn chunks(&self) -> Vec<Range<usize>> {
        (0..self.ramp.ny).step_by(self.rows).map(|r| r..(r + self.rows).min(self.ramp.ny)).collect()
    }
}

/// Rows of a chunk: as many as the device binds and two slots fit the budget.
pub(super) fn chunk_rows(ramp: &Ramp, planes: usize, plan: &Plan, engine: &dyn Engine) -> Result<usize> {
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
    // Private arrays of a thread are of this length at most: 128 KiB on a GPU; in
    // software, what compiles in minutes.
    let most = match device.kind {
        DeviceKind::Gpu => 4096,
        DeviceKind::Software => 512,
        DeviceKind::Cpu => u64::MAX,
    };
    if total > most {
        return Err(Error::Device {
            device: device.name.clone(),
            message: format!(
                "{} ramps of {} reads are {total}, more than the {most} that its kernel holds: use --device cpu",
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
