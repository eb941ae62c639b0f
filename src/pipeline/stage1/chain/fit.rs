//! The fit of a stored chunk.

use super::super::Stream;
use super::super::window::Window;
use super::{Chunk, Fit, even};
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::Result;
use crate::kernels::array_length;
use crate::kernels::likely::{self, LIKELY};
use crate::kernels::ols_c::{self, OLS_C};
use crate::kernels::ramp::{Params, RAMP, Tables};

impl Stream<'_> {
    /// Fits the chunk's own rows, into those of `rates`: all ramps together, or with
    /// `ols_c` one `alone` (from 1).
    pub(super) fn fit_chunk(
        &self,
        engine: &mut dyn Engine,
        tables: Buffer,
        chunk: &Chunk,
        alone: u32,
        rates: &mut Window,
    ) -> Result<()> {
        let (ramp, nx) = (self.ramp, self.ramp.nx);
        let (items, pixels) = (chunk.rows.len() * nx, chunk.grid.len() * nx);
        let out = engine.allocate(self.params.out_planes() * items)?;
        let skip = (chunk.rows.start - chunk.grid.start) * nx;
        let (ramps, reads) = (ramp.ramps as u32, ramp.reads as u32);
        let mut extra = vec![out];
        let mut buffers = vec![chunk.values, chunk.flags, chunk.slot.cal, tables];
        let plane = chunk.grid.start * nx..chunk.grid.end * nx;
        let dark = self.cal.average_dark().map(|d| &d[plane]);
        let counts = self.params.counts;
        let zero = self.zero_rows(engine, &chunk.grid)?;
        if self.chain.fit != Fit::Ramp {
            let dark = engine.buffer_of_f32(dark.unwrap_or(&[0.0]))?;
            let zero = engine.buffer_of_f32(zero.as_deref().unwrap_or(&[0.0]))?;
            extra.extend([dark, zero]);
            buffers.extend([dark, zero, out]);
        }
        let common = (items as u32, pixels as u32, skip as u32);
        let (kernel, params, constants) = match self.chain.fit {
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
                    alone,
                };
                let constants = vec![("NREADS", array_length(ramp.reads))];
                (&OLS_C, bytemuck::cast_slice(&[params]).to_vec(), constants)
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
                }
                // Room for the ramps' rates, to find their median.
                let room = array_length(params.reads.max(ramps) as usize);
                let constants = vec![("NREADS", room), ("NRAMPS", array_length(ramp.ramps))];
                (&LIKELY, bytemuck::cast_slice(&[params]).to_vec(), constants)
            }
            Fit::Ramp => {
                let list: Vec<u32> = (skip as u32..(skip + items) as u32).collect();
                let (list, none) = (engine.buffer_of(&list)?, engine.allocate(1)?);
                extra.extend([list, none]);
                buffers.extend([list, out, none]);
                let params = Params { listed: 1, ..self.stored_params(items, pixels) };
                (&RAMP, bytemuck::cast_slice(&[params]).to_vec(), params.constants())
            }
        };
        engine.submit(&vec![Dispatch { kernel, buffers, items, params, constants }])?;
        let own = chunk.rows.start * nx..chunk.rows.end * nx;
        engine.download_with(out, &mut |w| rates.place(w, own.clone()))?;
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
