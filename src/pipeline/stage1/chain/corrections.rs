//! Corrections of a stored ramp: inter-pixel capacitance, averaged reads frame by
//! frame, the dark ramp, charge migration.
//!
//! Capacitance comes before the bias, so the ramp kernel runs twice: what is stored
//! after saturation is convolved, and goes through the other stages from there.

use std::ops::Range;

use super::super::super::calibration::Calibration;
use super::super::super::refpix;
use super::super::Stream;
use super::{Chain, Chunk};
use crate::config::Detector;
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::Result;
use crate::input::Ramp;
use crate::kernels::Kernel;
use crate::kernels::charge_migration::{self, CHARGE_MIGRATION};
use crate::kernels::dark_ramp::{self, DARK_RAMP};
use crate::kernels::ipc::{self, IPC};
use crate::kernels::linearity_reads::{self, LINEARITY_READS};
use crate::kernels::ramp::{Encoding, Params, RAMP, stage};

/// What a recipe asks to be corrected in stored ramps.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in super::super) struct Corrections {
    /// Undo inter-pixel capacitance.
    pub(in super::super) ipc: bool,
    /// Coefficients of the inverse polynomial, where averaged reads are corrected frame
    /// by frame.
    pub(in super::super) inverse: u32,
    /// Subtract the dark ramp.
    pub(in super::super) dark: bool,
    /// DN above which charge migrates.
    pub(in super::super) charge: Option<f64>,
    /// Taps across the convolution kernel, and whether they vary.
    taps: (usize, bool),
    /// Columns and rows of the science area.
    area: (Range<usize>, Range<usize>),
}

impl Corrections {
    pub(super) fn any(&self) -> bool {
        self.ipc || self.inverse > 0 || self.dark || self.charge.is_some()
    }

    /// Rows that they take from a chunk's neighbours.
    pub(super) fn halo(&self) -> usize {
        self.taps.0 / 2 + usize::from(self.charge.is_some())
    }

    /// Those of the kernel's `stages` that run while the ramp is first stored.
    pub(super) fn first(&self, stages: u32) -> u32 {
        let later = if self.ipc { stage::BIAS | stage::REFPIX | stage::LINEARITY } else { 0 };
        stages & !(later | if self.any() { stage::JUMP } else { 0 })
    }

    /// Planes of taps.
    fn tap_planes(&self) -> u64 {
        if self.taps.1 { (self.taps.0 * self.taps.0) as u64 } else { 0 }
    }

    /// Planes that the largest of their buffers has.
    pub(in super::super) fn widest(&self, reads: u64) -> u64 {
        if self.any() { reads.max(self.tap_planes()) } else { 0 }
    }

    /// Planes that all their buffers have.
    pub(super) fn planes(&self, reads: u64) -> u64 {
        let stored = u64::from(self.ipc) * 3 + u64::from(self.dark) + u64::from(self.charge.is_some()) + 2;
        if self.any() { stored * reads + self.tap_planes() } else { 0 }
    }
}

impl Chain {
    /// Looks at the frame and its references: the science area; the average dark current,
    /// to which that of the dark ramp is added.
    pub(in super::super) fn prepare(
        &mut self,
        ramp: &Ramp,
        cal: &mut Calibration<'_>,
        detector: &Detector,
    ) -> Result<()> {
        let corrections = &mut self.corrections;
        if let Some(file) = cal.ipc().filter(|_| corrections.ipc) {
            corrections.taps = (file.width(), file.varies());
            let layout = refpix::Layout::find(ramp, cal, detector)?;
            corrections.area = science(ramp, layout.as_ref().map_or(&[], |l| &l.reference));
        }
        let Some(file) = cal.dark_ramp().filter(|_| corrections.dark) else { return Ok(()) };
        /// Rows read together.
        const ROWS: usize = 64;
        let mut rate = Vec::with_capacity(ramp.ny * ramp.nx);
        for first in (0..ramp.ny).step_by(ROWS) {
            rate.extend(file.rate(first..(first + ROWS).min(ramp.ny))?);
        }
        if let Some(own) = &ramp.average_dark {
            rate.iter_mut().zip(own).for_each(|(r, own)| *r += own);
        }
        cal.set_average_dark(rate);
        Ok(())
    }
}

/// Columns and rows within the border of reference pixels (ascending).
fn science(ramp: &Ramp, reference: &[u32]) -> (Range<usize>, Range<usize>) {
    let (ny, nx) = (ramp.ny, ramp.nx);
    let (mut columns, mut rows) = (vec![0; nx], vec![0; ny]);
    for p in reference {
        columns[*p as usize % nx] += 1;
        rows[*p as usize / nx] += 1;
    }
    let within = |counts: &[usize], full: usize| {
        let border = |c: &&usize| **c == full;
        let first = counts.iter().take_while(border).count();
        let last = counts.len() - counts.iter().rev().take_while(border).count();
        first..last.max(first)
    };
    (within(&columns, ny), within(&rows, nx))
}

impl Chunk {
    /// A kernel of one invocation a pixel of the grid.
    fn run<P: bytemuck::NoUninit>(
        &self,
        engine: &mut dyn Engine,
        kernel: &'static Kernel,
        buffers: Vec<Buffer>,
        pixels: usize,
        params: P,
    ) -> Result<()> {
        let params = bytemuck::cast_slice(&[params]).to_vec();
        engine.submit(&vec![Dispatch { kernel, buffers, items: pixels, params, constants: Vec::new() }])
    }
}

impl Stream<'_> {
    /// Corrects a stored chunk, and looks for jumps where the kernel still has to.
    pub(super) fn correct(&self, engine: &mut dyn Engine, tables: Buffer, chunk: &mut Chunk) -> Result<()> {
        let corrections = &self.chain.corrections;
        if !corrections.any() {
            return Ok(());
        }
        if corrections.ipc {
            self.undo_ipc(engine, chunk)?;
            let stages = self.params.stages & (stage::BIAS | stage::REFPIX | stage::LINEARITY);
            self.again(engine, tables, chunk, stages)?;
        }
        if corrections.inverse > 0 {
            self.linearise(engine, tables, chunk)?;
        }
        if corrections.dark {
            self.subtract_dark(engine, chunk)?;
        }
        if let Some(threshold) = corrections.charge {
            self.charge_migration(engine, chunk, threshold)?;
        }
        match self.params.stages & stage::JUMP {
            0 => Ok(()),
            jump => self.again(engine, tables, chunk, jump | self.noise()),
        }
    }

    /// Reads of all ramps, pixels of a chunk's grid.
    fn size(&self, chunk: &Chunk) -> (usize, usize) {
        (self.ramp.ramps * self.ramp.reads, chunk.grid.len() * self.ramp.nx)
    }

    /// The ramp kernel's `stages` on what is stored.
    fn again(&self, engine: &mut dyn Engine, tables: Buffer, chunk: &mut Chunk, stages: u32) -> Result<()> {
        if stages == 0 {
            return Ok(());
        }
        let (reads, pixels) = self.size(chunk);
        let (values, flags) = (engine.allocate(reads * pixels)?, engine.allocate(reads * pixels)?);
        let params = Params {
            items: pixels as u32,
            nx: self.ramp.nx as u32,
            rows: chunk.grid.len() as u32,
            row0: chunk.grid.start as u32,
            stride_ramp: (self.ramp.reads * pixels) as u32,
            stride_read: pixels as u32,
            stride_y: self.ramp.nx as u32,
            stride_x: 1,
            encoding: Encoding::Native as u32,
            stages: stages | stage::STORE | stage::FLAGS_IN,
            ..self.params
        };
        let slot = &chunk.slot;
        engine.submit(&vec![Dispatch {
            kernel: &RAMP,
            buffers: vec![chunk.values, chunk.flags, slot.cal, tables, slot.list, values, flags],
            items: pixels,
            params: bytemuck::cast_slice(&[params]).to_vec(),
            constants: params.constants(),
        }])?;
        (chunk.values, chunk.flags) = (values, flags);
        chunk.more.extend([values, flags]);
        Ok(())
    }

    fn undo_ipc(&self, engine: &mut dyn Engine, chunk: &mut Chunk) -> Result<()> {
        let Some(file) = self.cal.ipc() else { return Ok(()) };
        let (reads, pixels) = self.size(chunk);
        let taps = engine.buffer_of_f32(&file.read(chunk.grid.clone())?)?;
        let out = engine.allocate(reads * pixels)?;
        let (columns, rows) = &self.chain.corrections.area;
        let within = |row: usize| row.clamp(chunk.grid.start, chunk.grid.end) - chunk.grid.start;
        let params = ipc::Params {
            items: pixels as u32,
            nx: self.ramp.nx as u32,
            rows: chunk.grid.len() as u32,
            reads: reads as u32,
            width: file.width() as u32,
            varies: u32::from(file.varies()),
            x0: columns.start as u32,
            x1: columns.end as u32,
            y0: within(rows.start) as u32,
            y1: within(rows.end) as u32,
        };
        chunk.run(engine, &IPC, vec![chunk.values, chunk.flags, taps, out], pixels, params)?;
        chunk.values = out;
        chunk.more.extend([taps, out]);
        Ok(())
    }

    fn linearise(&self, engine: &mut dyn Engine, tables: Buffer, chunk: &mut Chunk) -> Result<()> {
        let (_, pixels) = self.size(chunk);
        let params = linearity_reads::Params {
            items: pixels as u32,
            ramps: self.ramp.ramps as u32,
            reads: self.ramp.reads as u32,
            ncoef: self.params.ncoef,
            inverse: self.cal.inverse_plane() as u32,
            ninverse: self.chain.corrections.inverse,
            zero_point: self.params.zero_point,
            bias: u32::from(self.params.stages & stage::BIAS != 0),
            frame_time: self.ramp.frame_time as f32,
        };
        let buffers = vec![chunk.values, chunk.flags, chunk.slot.cal, tables];
        chunk.run(engine, &LINEARITY_READS, buffers, pixels, params)
    }

    fn subtract_dark(&self, engine: &mut dyn Engine, chunk: &mut Chunk) -> Result<()> {
        let Some(file) = self.cal.dark_ramp() else { return Ok(()) };
        let (reads, pixels) = self.size(chunk);
        let dark = engine.buffer_of_f32(&file.read(chunk.grid.clone())?)?;
        chunk.more.push(dark);
        let params =
            dark_ramp::Params { items: pixels as u32, reads: reads as u32, dark_reads: file.reads() as u32 };
        chunk.run(engine, &DARK_RAMP, vec![chunk.values, dark], pixels, params)
    }

    fn charge_migration(&self, engine: &mut dyn Engine, chunk: &mut Chunk, threshold: f64) -> Result<()> {
        let (reads, pixels) = self.size(chunk);
        let out = engine.allocate(reads * pixels)?;
        let params = charge_migration::Params {
            items: pixels as u32,
            nx: self.ramp.nx as u32,
            rows: chunk.grid.len() as u32,
            ramps: self.ramp.ramps as u32,
            reads: self.ramp.reads as u32,
            threshold: threshold as f32,
        };
        chunk.run(engine, &CHARGE_MIGRATION, vec![chunk.values, chunk.flags, out], pixels, params)?;
        chunk.flags = out;
        chunk.more.push(out);
        Ok(())
    }
}
