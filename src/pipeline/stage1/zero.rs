//! ZEROFRAME: the first frame of each ramp, brought as far as its reads by the steps
//! that concern one read alone, for the fits that take it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::super::calibration::Calibration;
use super::{Plan, Stream};
use crate::config::{Detector, Recipe, Step};
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::ramp::flag;

impl Stream<'_> {
    /// Takes the exposure's first frames, where it has some and they are of use: to
    /// the fit, or to the ramp that is written.
    pub fn take_zeroframe(
        &mut self,
        references: &BTreeMap<String, PathBuf>,
        recipe: &Recipe,
        detector: &Detector,
        engine: &dyn Engine,
    ) -> Result<()> {
        let Some(zero) = self.ramp.zeroframe.as_deref() else { return Ok(()) };
        if self.fits && !self.chain.takes_zeroframe(self.ramp) {
            return Ok(());
        }
        let concerns = |s: &&Step| matches!(s, Step::Saturation(_) | Step::Bias(_) | Step::Linearity(_));
        let steps = recipe.steps.iter().filter(concerns).cloned().collect();
        let recipe = Recipe { steps, ..recipe.clone() };
        let cal = Calibration::open(references, zero, detector, false)?;
        let mut plan = Plan::new(&recipe, &cal);
        self.zero = Some(Box::new(Stream::prepare(zero, cal, &mut plan, detector, engine)?));
        Ok(())
    }

    /// The first frames of rows `rows`, DN `[ramp][pixel]`; 0 where they cannot be
    /// used. `None` where there are none.
    pub(super) fn zero_rows(&self, engine: &mut dyn Engine, rows: &Range<usize>) -> Result<Option<Vec<f32>>> {
        let Some(zero) = &self.zero else { return Ok(None) };
        let tables = engine.buffer_of_f32(&zero.tables)?;
        let mut slot = zero.slot(engine, rows.len(), rows.len() * zero.ramp.nx, true)?;
        zero.start(engine, &mut slot, tables, rows.clone(), None, Some(zero.params.stages))?;
        let (mut values, flags) = (engine.download_f32(slot.out)?, engine.download(slot.flags_out)?);
        slot.free(engine);
        engine.free(tables);
        let lost = flag::SATURATED | flag::DO_NOT_USE;
        for (v, _) in values.iter_mut().zip(flags).filter(|(v, f)| f & lost != 0 || !v.is_finite()) {
            *v = 0.0;
        }
        Ok(Some(values))
    }

    /// The first frames of the whole exposure, (ramps, ny, nx), rows by rows: `sink`
    /// gets the rows and the values `[ramp][pixel]`.
    pub fn zeroframes(
        &self,
        engine: &mut dyn Engine,
        sink: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let halo = self.reach();
        for rows in self.chunks() {
            let grid = rows.start.saturating_sub(halo)..(rows.end + halo).min(self.ramp.ny);
            let Some(values) = self.zero_rows(engine, &grid)? else { return Ok(()) };
            let nx = self.ramp.nx;
            let own = (rows.start - grid.start) * nx..(rows.end - grid.start) * nx;
            let values: Vec<f32> =
                values.chunks(grid.len() * nx).flat_map(|r| &r[own.clone()]).copied().collect();
            sink(rows, &values)?;
        }
        Ok(())
    }

    /// Whether there are first frames.
    pub fn has_zeroframe(&self) -> bool {
        self.zero.is_some()
    }
}
