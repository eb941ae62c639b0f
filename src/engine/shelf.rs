//! What stays on a device from task to task: calibrations that many exposures share.
//!
//! Buffers are kept by set (a detector's calibration) and part (rows of it). A set is kept
//! from the second time on that it is asked for, as most are wanted once. Where there is no
//! room, parts of the sets that were asked for longest ago go; those of the set that is in
//! use never do: a set larger than the room keeps the parts that came first, which is more
//! than keeping those that came last would find of it.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Buffer, Engine};
use crate::error::Result;

/// Names of sets that are remembered without being kept.
const REMEMBERED: usize = 64;

/// The buffers that a device keeps.
#[derive(Debug, Default)]
pub struct Shelf {
    kept: Vec<Part>,
    /// Sets that were asked for, the last one at the end.
    asked: VecDeque<String>,
    turn: u64,
}

#[derive(Debug)]
struct Part {
    set: String,
    rows: Range<usize>,
    buffer: Buffer,
    /// When its set was asked for last.
    turn: u64,
}

impl Shelf {
    /// Words that it holds.
    pub fn words(&self) -> usize {
        self.kept.iter().map(|p| p.buffer.words()).sum()
    }
}

impl dyn Engine + '_ {
    /// Begins with the set called `set`; whether it was asked for before, so that it is worth
    /// keeping.
    pub fn ask_for(&mut self, set: &str) -> bool {
        let shelf = self.shelf();
        shelf.turn += 1;
        let turn = shelf.turn;
        shelf.kept.iter_mut().filter(|p| p.set == set).for_each(|p| p.turn = turn);
        let before = shelf.asked.iter().position(|s| s == set);
        let known = before.and_then(|i| shelf.asked.remove(i));
        let again = known.is_some();
        shelf.asked.push_back(known.unwrap_or_else(|| set.to_owned()));
        if shelf.asked.len() > REMEMBERED {
            shelf.asked.pop_front();
        }
        again
    }

    /// The part `rows` of `set`, `bytes` long (a multiple of 4), which `fill` makes where it
    /// is not there (see [`Engine::upload_with`]); `None` where there is no room for it
    /// ([`DeviceInfo::keeps`](super::DeviceInfo)). It is the device's: not to be
    /// freed, or written to.
    pub fn kept(
        &mut self,
        set: &str,
        rows: &Range<usize>,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Option<Buffer>> {
        if let Some(part) = self.shelf().kept.iter().find(|p| p.set == set && p.rows == *rows) {
            return Ok(Some(part.buffer));
        }
        let most = self.device().keeps;
        while (self.shelf().words() * 4 + bytes) as u64 > most {
            let shelf = self.shelf();
            let turn = shelf.turn;
            let others = (0..shelf.kept.len()).filter(|i| shelf.kept[*i].turn < turn);
            let Some(oldest) = others.min_by_key(|i| shelf.kept[*i].turn) else { return Ok(None) };
            let part = shelf.kept.swap_remove(oldest);
            self.free(part.buffer);
        }
        let buffer = self.allocate(bytes / 4)?;
        if let Err(e) = self.upload_with(buffer, bytes, fill) {
            self.free(buffer);
            return Err(e);
        }
        let shelf = self.shelf();
        let turn = shelf.turn;
        shelf.kept.push(Part { set: set.to_owned(), rows: rows.clone(), buffer, turn });
        Ok(Some(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::super::CpuEngine;
    use super::*;
    use crate::error::Error;

    /// Which of the parts 0 to `n` of a set were made, and how many are kept.
    fn use_set(engine: &mut dyn Engine, set: &str, n: usize) -> (usize, usize) {
        let again = engine.ask_for(set);
        let (mut made, mut kept) = (0, 0);
        for i in 0..n {
            let value = (set.len() * 100 + i) as u8;
            let mut fill = |to: &mut [u8]| {
                made += 1;
                to.fill(value);
                Ok(())
            };
            if let Some(buffer) = again
                .then(|| engine.kept(set, &(i..i + 1), 400, &mut fill))
                .transpose()
                .expect("part")
                .flatten()
            {
                kept += 1;
                assert_eq!(engine.download(buffer).expect("words")[99], u32::from_ne_bytes([value; 4]));
            }
        }
        (made, kept)
    }

    #[test]
    fn what_is_asked_for_again_is_kept_while_there_is_room() {
        // Room for ten parts.
        let mut engine = CpuEngine::new(1 << 20).keeping(4000);
        let engine: &mut dyn Engine = &mut engine;
        assert_eq!(use_set(engine, "a", 6), (0, 0), "once is not worth it");
        assert_eq!(use_set(engine, "a", 6), (6, 6));
        assert_eq!(use_set(engine, "a", 6), (0, 6));
        // Another set pushes out as much as it needs; more than fits is not kept.
        assert_eq!(use_set(engine, "bb", 12), (0, 0));
        assert_eq!(use_set(engine, "bb", 12), (10, 10));
        assert_eq!(use_set(engine, "bb", 12), (0, 10));
        assert_eq!(use_set(engine, "a", 6), (6, 6));
        assert_eq!(engine.shelf().words(), 1000);
        assert_eq!(use_set(engine, "bb", 12), (6, 10));
        // What could not be made is not there.
        engine.ask_for("ccc");
        let fails = |_: &mut [u8]| Err(Error::Usage("no".into()));
        assert!(engine.kept("ccc", &(0..1), 400, &mut fails.clone()).is_err());
        assert_eq!(engine.shelf().words(), 900);
    }
}
