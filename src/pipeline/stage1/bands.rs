//! P1 to P3 in one pass over the chunks: what crosses rows is done as soon as the rows
//! around are known, with the chunk that is on the device still; then nothing changes a
//! row any more, and it can be given away. So each read and each reference is read once,
//! and no plane of the frame is held that the caller does not keep.

use std::ops::Range;

use super::Stream;
use super::jumps::{Found, Jump, Kind, sort};
use super::slot::Loaded;
use super::touched::Marks;
use super::window::{Band, Window};
use crate::datamodel::dq;
use crate::engine::{Buffer, Engine};
use crate::error::Result;
use crate::kernels::ramp::stage;

/// Who gets rows that are done.
pub(super) type Sink<'a> = dyn FnMut(&Band<'_>) -> Result<()> + 'a;

/// What becomes of rows that are done.
pub(super) enum Done<'s, 'a> {
    /// They stay as they are in the window.
    Kept,
    /// They are given away.
    Given(&'s mut Sink<'a>),
}

/// A pass over the frame.
pub(super) struct Pass {
    /// The rows that are fitted and not yet given away.
    pub(super) rates: Window,
    /// The jumps of these rows and of one before, and all that are kept.
    pub(super) found: Found,
    /// What jumps take with them.
    pub(super) marks: Marks,
    /// Whether jumps are looked for.
    list: bool,
    /// Whether what jumps take with them is decided row by row.
    mark: bool,
    /// Rows before this one have the saturation of their neighbours, and their jumps are
    /// known.
    settled: usize,
    /// Rows before this one have what jumps take with them: they are done.
    done: usize,
    /// Pixels that saturate themselves, ascending, as far back as they can matter.
    saturated: Vec<usize>,
}

impl Pass {
    /// At the first row. `list` looks for jumps, `mark` decides row by row what they take
    /// with them.
    pub(super) fn new(stream: &Stream<'_>, rates: Window, list: bool, mark: bool) -> Pass {
        let found = if list { Found::new(stream) } else { Found::default() };
        Pass {
            rates,
            found,
            marks: Marks::default(),
            list,
            mark: list && mark,
            settled: 0,
            done: 0,
            saturated: Vec::new(),
        }
    }

    /// Goes over the whole frame, or until there are too many jumps.
    pub(super) fn run(
        &mut self,
        stream: &Stream<'_>,
        engine: &mut dyn Engine,
        tables: Buffer,
        mut to: Done<'_, '_>,
        progress: &dyn Fn(f64),
    ) -> Result<()> {
        let (ny, nx) = (stream.ramp.ny, stream.ramp.nx);
        let (chunks, rows) = (stream.chunks(), stream.rows.min(ny));
        // Two slots: a GPU computes on one while the other is filled and read.
        let mut slots =
            [stream.slot(engine, rows, rows * nx, false)?, stream.slot(engine, rows, rows * nx, false)?];
        let kept = stream.kept.as_deref().filter(|set| engine.ask_for(set));
        for i in 0..=chunks.len() {
            if let Some(rows) = chunks.get(i) {
                let slot = &mut slots[i % 2];
                stream.upload(engine, slot, rows.clone(), kept)?;
                stream.dispatch(engine, slot, tables, rows.clone(), None, None)?;
            }
            if i > 0 {
                let (rows, slot) = (chunks[i - 1].clone(), &slots[(i - 1) % 2]);
                let pixels = rows.start * nx..rows.end * nx;
                engine.download_with(slot.out, &mut |w| self.rates.place(w, pixels.clone()))?;
                self.advance(stream, engine, &Loaded { slot, tables, grid: rows }, &mut to)?;
                progress(i as f64 / chunks.len() as f64);
            }
            if self.found.too_many {
                break;
            }
        }
        slots.into_iter().for_each(|slot| slot.free(engine));
        Ok(())
    }

    /// Takes in the chunk that was fitted last.
    fn advance(
        &mut self,
        stream: &Stream<'_>,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        to: &mut Done<'_, '_>,
    ) -> Result<()> {
        let (ny, nx, grid) = (stream.ramp.ny, stream.ramp.nx, &chunk.grid);
        let grows = stream.grow > 0 && stream.params.stages & stage::SATURATION != 0;
        let reach = if grows { stream.reach() } else { 0 };
        let until = |margin: usize, least: usize| match grid.end == ny {
            true => ny,
            false => grid.end.saturating_sub(margin).max(least),
        };
        if grows {
            self.saturated.retain(|p| p / nx + reach >= self.done);
            let own = grid.start * nx..grid.end * nx;
            let bits = own.clone().zip(self.rates.dq(own));
            self.saturated.extend(bits.filter(|(_, bits)| *bits & dq::SATURATED != 0).map(|(p, _)| p));
        }
        let settled = self.settled..until(reach, self.settled);
        let touched = self.touched(nx, self.done.min(grid.start)..grid.end, reach);
        let at = |row: usize| touched.partition_point(|p| *p < row * nx);
        let again = &touched[at(settled.start)..at(settled.end)];
        self.found.forget(again);
        self.each(
            stream,
            engine,
            chunk,
            again,
            |_| reach,
            |pass, engine, loaded, pixels| {
                stream.fit_listed(engine, loaded, pixels, &mut pass.rates)?;
                pass.see(stream, engine, loaded, pixels.iter().copied(), &[])
            },
        )?;
        // While the chunk is here; those that saturation touches once its neighbour is.
        self.see(stream, engine, chunk, grid.start * nx..grid.end * nx, &touched)?;
        self.settled = settled.end;
        self.found.count(stream, settled.start * nx..settled.end * nx);
        if self.found.too_many {
            return Ok(());
        }
        let done = self.done..until(reach + 1, self.done).min(self.settled);
        if self.mark {
            let near = done.start.saturating_sub(1) * nx..(done.end + 1).min(ny) * nx;
            let own = |j: &&Jump| j.kind == Kind::Found && near.contains(&(j.pixel as usize));
            let mut jumps: Vec<Jump> = self.found.jumps.iter().filter(own).copied().collect();
            sort(&mut jumps);
            stream.marks_near(&self.rates, &jumps, done.clone(), &mut self.marks)?;
            let pixels = self.marks.pixels(done.start * nx..done.end * nx);
            let around = |p: usize| if touched.binary_search(&p).is_ok() { reach } else { 0 };
            self.each(stream, engine, chunk, &pixels, around, |pass, engine, loaded, pixels| {
                stream.refit_in(engine, loaded, pixels, &pass.marks, (&mut pass.rates, &mut pass.found))
            })?;
        }
        self.done = done.end;
        if let Done::Given(sink) = to {
            sink(&self.rates.band(done.clone(), nx))?;
            self.found.keep(&self.rates, done.start * nx..done.end * nx);
            self.rates.let_go(done.end * nx);
            self.found.let_go(done.end.saturating_sub(1) * nx);
        }
        Ok(())
    }

    /// The jumps of those of `pixels` that have any, and are not `but` (ascending).
    fn see(
        &mut self,
        stream: &Stream<'_>,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: impl Iterator<Item = usize>,
        but: &[usize],
    ) -> Result<()> {
        if !self.list {
            return Ok(());
        }
        let mut pixels = stream.worth_seeing(&self.rates, pixels);
        pixels.retain(|p| but.binary_search(p).is_err());
        stream.see(engine, chunk, &pixels, (&self.rates, &mut self.found))
    }

    /// Pixels of `rows` within `reach` of a saturated one, ascending.
    fn touched(&self, nx: usize, rows: Range<usize>, reach: usize) -> Vec<usize> {
        if self.saturated.is_empty() {
            return Vec::new();
        }
        let bits = dilate(&self.saturated, &rows, nx, reach);
        (rows.start * nx..).zip(bits).filter(|(_, b)| *b).map(|(p, _)| p).collect()
    }

    /// Does `work` for `pixels`, ascending, on a chunk that holds so many rows `around` each
    /// of them: this one, or one of their own.
    fn each(
        &mut self,
        stream: &Stream<'_>,
        engine: &mut dyn Engine,
        chunk: &Loaded<'_>,
        pixels: &[usize],
        around: impl Fn(usize) -> usize,
        work: impl Fn(&mut Pass, &mut dyn Engine, &Loaded<'_>, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let (ny, nx) = (stream.ramp.ny, stream.ramp.nx);
        let needs = |p: usize| (p / nx).saturating_sub(around(p))..(p / nx + around(p) + 1).min(ny);
        let here = |p: &usize| chunk.grid.start <= needs(*p).start && needs(*p).end <= chunk.grid.end;
        let (here, elsewhere): (Vec<usize>, Vec<usize>) = pixels.iter().partition(|p| here(p));
        let rows = elsewhere.iter().map(|p| needs(*p)).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        if let Some(grid) = rows {
            let mut slot = stream.slot(engine, grid.len(), 1, false)?;
            stream.upload(engine, &mut slot, grid.clone(), None)?;
            work(self, engine, &Loaded { slot: &slot, tables: chunk.tables, grid }, &elsewhere)?;
            slot.free(engine);
        }
        if here.is_empty() { Ok(()) } else { work(self, engine, chunk, &here) }
    }
}

/// Which pixels of `rows` lie within `reach` of one of `pixels`.
fn dilate(pixels: &[usize], rows: &Range<usize>, nx: usize, reach: usize) -> Vec<bool> {
    let mut out = vec![false; rows.len() * nx];
    for p in pixels {
        let (x, y) = (p % nx, p / nx);
        for row in y.saturating_sub(reach).max(rows.start)..(y + reach + 1).min(rows.end) {
            let first = (row - rows.start) * nx;
            out[first + x.saturating_sub(reach)..first + (x + reach + 1).min(nx)].fill(true);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dilation_stays_in_the_frame() {
        let grown = |rows: Range<usize>| dilate(&[0, 19], &rows, 5, 1).iter().filter(|g| **g).count();
        assert_eq!((grown(0..4), grown(0..1), grown(1..3), grown(3..4)), (8, 2, 4, 2));
    }
}
