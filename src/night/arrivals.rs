//! Which files of a night that is being taken are whole.
//!
//! A frame appears bit by bit, over a network perhaps minute by minute. It has arrived
//! when every HDU that its headers promise is in it and its size and time have stood
//! still for a while: a header may be written before its data, and an extension after
//! both. A file that was whole and still before it was first looked at has arrived at
//! once, so that a night half over is taken up without waiting; one that its writer is
//! known to have closed, or that got its name by a rename, need not stand still either.
//!
//! What stands still and is not whole is named after [`Arrivals::patience`], once, and
//! waited for: it may be an exposure that was broken off, or a copy that was, and the end
//! of the night decides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Stamp;
use crate::error::Error;
use crate::fits::Fits;
use crate::words::counted;

/// How much of a file is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Whole {
    /// All that its headers promise.
    Yes,
    /// So many bytes are missing.
    Lacks(u64),
    /// It cannot be told; why, as a sentence.
    Unknown(String),
}

/// How much of the file is there, by its headers.
pub fn whole(path: &Path) -> Whole {
    match Fits::open(path) {
        Ok(fits) if fits.missing() == 0 => Whole::Yes,
        Ok(fits) => Whole::Lacks(fits.missing()),
        // Whatever it is, it is no beginning of a FITS file: the scan says so.
        Err(Error::Fits { message, .. }) if message.contains("compressed as a whole") => Whole::Yes,
        Err(e) => Whole::Unknown(e.to_string()),
    }
}

/// A file on its way.
#[derive(Debug, Clone)]
struct Arriving {
    stamp: Stamp,
    /// When it was first seen so.
    since: Instant,
    /// When it was last seen otherwise (or not at all).
    before: Option<SystemTime>,
    /// When that was noticed.
    seen: SystemTime,
    arrived: bool,
    whole: Option<Whole>,
    named: bool,
    /// It had arrived and changed: whoever closes it may open it again.
    again: bool,
}

/// What a look at the night found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// Files that have arrived since the last look, again where they were replaced.
    pub arrived: Vec<PathBuf>,
    /// Files that are there no more, or are being written again.
    pub gone: Vec<PathBuf>,
    /// Files that have stood still for long and are not whole, as sentences.
    pub named: Vec<(PathBuf, String)>,
}

impl News {
    /// Whether the night is another than before.
    pub fn is_other(&self) -> bool {
        !(self.arrived.is_empty() && self.gone.is_empty())
    }
}

/// The files of a night as they arrive.
#[derive(Debug)]
pub struct Arrivals {
    files: BTreeMap<PathBuf, Arriving>,
    /// How long a file must stand still.
    settle: Duration,
    /// How long one that is not whole stands still before it is named.
    patience: Duration,
    looked: Option<SystemTime>,
    /// Closed by who wrote them, since the last look.
    closed: BTreeSet<PathBuf>,
}

impl Arrivals {
    /// With the times after which a file is taken, and named.
    pub fn new(settle: Duration, patience: Duration) -> Arrivals {
        Arrivals { files: BTreeMap::new(), settle, patience, looked: None, closed: BTreeSet::new() }
    }

    /// Whoever wrote a file has closed it, or given it its name: the next look takes it
    /// where it is whole. Once: one that changed after it had arrived must stand still.
    pub fn closed(&mut self, path: PathBuf) {
        self.closed.insert(path);
    }

    /// Takes in what lies in the night at `now` (`clock` on the wall): its files with
    /// their stamps. `whole` is asked of files that stand still.
    pub fn look(
        &mut self,
        now: Instant,
        clock: SystemTime,
        listing: &[(PathBuf, Stamp)],
        whole: impl Fn(&Path) -> Whole,
    ) -> News {
        let mut news = News::default();
        let before = std::mem::take(&mut self.files);
        let closed = std::mem::take(&mut self.closed);
        for (path, stamp) in listing {
            let known = before.get(path);
            let mut file = match known.filter(|f| f.stamp == *stamp) {
                Some(file) => file.clone(),
                None => Arriving {
                    stamp: *stamp,
                    since: now,
                    before: self.looked,
                    seen: clock,
                    arrived: false,
                    whole: None,
                    named: false,
                    again: known.is_some_and(|f| f.arrived || f.again),
                },
            };
            if !file.arrived {
                let age = stamp.changed.and_then(|t| clock.duration_since(t).ok());
                // Long before the first look, by a clock that may not be ours.
                let old = self.looked.is_none() && age.is_some_and(|a| a > 3 * self.settle);
                let still = now.saturating_duration_since(file.since);
                let told = closed.contains(path) && !file.again;
                if old || still >= self.settle || told {
                    let state = file.whole.get_or_insert_with(|| whole(path));
                    file.arrived = *state == Whole::Yes;
                    if file.arrived {
                        news.arrived.push(path.clone());
                    } else if still >= self.patience && !file.named {
                        file.named = true;
                        news.named.push((path.clone(), sentence(path, state, still)));
                    }
                }
                if known.is_some_and(|f| f.arrived) && !file.arrived {
                    news.gone.push(path.clone());
                }
            }
            self.files.insert(path.clone(), file);
        }
        let here = |path: &&PathBuf| self.files.contains_key(*path);
        let lost = before.iter().filter(|(path, f)| f.arrived && !here(path));
        news.gone.extend(lost.map(|(path, _)| path.clone()));
        self.looked = Some(clock);
        news
    }

    /// The files that have arrived, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().filter(|(_, f)| f.arrived).map(|(path, _)| path)
    }

    /// Those that have not, and what they lack where that is known.
    pub fn arriving(&self) -> impl Iterator<Item = (&PathBuf, Option<u64>)> {
        self.files.iter().filter(|(_, f)| !f.arrived).map(|(path, f)| match f.whole {
            Some(Whole::Lacks(bytes)) => (path, Some(bytes)),
            _ => (path, None),
        })
    }

    /// When a file became what it is, by this machine's clock: its time of change as far
    /// as that lies between the looks that it changed between (the clock of a network disk
    /// is another). `None` of what was there at the first look.
    pub fn completed(&self, path: &Path) -> Option<SystemTime> {
        let file = self.files.get(path)?;
        let changed = file.stamp.changed.unwrap_or(file.seen);
        Some(changed.clamp(file.before?.min(file.seen), file.seen))
    }

    /// For how long a file has been as it is; `None` of what was there at the first look:
    /// nobody knows.
    pub fn age(&self, path: &Path, now: Instant) -> Option<Duration> {
        let file = self.files.get(path)?;
        file.before.map(|_| now.saturating_duration_since(file.since))
    }

    /// When a file changed, as its disk says.
    pub fn changed(&self, path: &Path) -> Option<SystemTime> {
        self.files.get(path)?.stamp.changed
    }
}

fn sentence(path: &Path, state: &Whole, still: Duration) -> String {
    let (path, still) = (path.display(), still.as_secs());
    match state {
        Whole::Lacks(bytes) => format!(
            "{path} is {} short of what its headers promise and has not grown for {still} s; it is \
             waited for: copy it again if nothing is writing it",
            counted(usize::try_from(*bytes).unwrap_or(usize::MAX), "byte")
        ),
        Whole::Unknown(why) => format!(
            "{why}; nothing was added for {still} s; {path} is waited for: copy it again if nothing is writing it"
        ),
        Whole::Yes => String::new(),
    }
}

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
