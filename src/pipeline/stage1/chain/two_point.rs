//! Jumps by two-point differences in a stored chunk.

use super::super::Stream;
use super::{Chunk, even};
use crate::config::Jump;
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::Result;
use crate::kernels::array_length;
use crate::kernels::jump_spread::{self, JUMP_SPREAD};
use crate::kernels::two_point::{self, TWO_POINT, mode};

impl Stream<'_> {
    /// How the two-point method searches this exposure; `None` where it has too few
    /// reads (stcal 1.20.0, `find_crs`).
    pub(super) fn jump_mode(&self, step: &Jump) -> Option<u32> {
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

    pub(super) fn two_point(
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
        let constants = vec![("NREADS", array_length(total))];
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
}
