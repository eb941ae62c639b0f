//! What the system tells of files that were written: a watched night need not wait for
//! its next look, nor for a file to stand still that its writer has closed.
//!
//! Notices are a help, never the ground: they do not come from network disks that others
//! write to, may be lost, and are not to be had everywhere. The folder is looked at all
//! the same.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::voice::Voice;
use crate::cli::args::Level;

/// Notices of one night.
pub(super) struct Notices {
    /// Ends with this; none where the system does not tell.
    _watcher: Option<RecommendedWatcher>,
    /// The night, as its files are called here, and its absolute name.
    night: (PathBuf, PathBuf),
    /// Absolute names of files that were closed after writing, or renamed.
    told: Receiver<PathBuf>,
    early: Vec<PathBuf>,
}

impl Notices {
    /// Of everything in `night` but what is in `output`.
    pub(super) fn of(night: &Path, output: &Path, voice: &Voice) -> Notices {
        let (tell, told) = channel();
        let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_path_buf());
        let (whole, ours) = (absolute(night), absolute(output));
        let hear = move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            let paths = closed(&event).filter(|p| !p.starts_with(&ours));
            paths.for_each(|p| drop(tell.send(p.clone())));
        };
        let watcher = notify::recommended_watcher(hear)
            .and_then(|mut w| w.watch(&whole, RecursiveMode::Recursive).map(|()| w));
        let watcher = watcher.map_err(|e| {
            voice.say(
                Level::Info,
                "",
                &format!("the system does not tell of new files ({e}): they are looked for"),
            );
        });
        Notices { _watcher: watcher.ok(), night: (night.to_path_buf(), whole), told, early: Vec::new() }
    }

    /// The files that were closed since this was last asked.
    pub(super) fn closed(&mut self) -> Vec<PathBuf> {
        let told = std::mem::take(&mut self.early).into_iter().chain(self.told.try_iter());
        told.filter_map(|p| Some(self.night.0.join(p.strip_prefix(&self.night.1).ok()?))).collect()
    }

    /// Waits for so long, or until a file was closed or `wake` says so.
    pub(super) fn wait(&mut self, time: Duration, wake: impl Fn() -> bool) {
        let end = Instant::now() + time;
        while !wake() {
            let left = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
            if left.is_zero() {
                return;
            }
            match self.told.recv_timeout(left) {
                Ok(path) => return self.early.push(path),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left),
            }
        }
    }
}

/// The files that an event says are complete, as far as their writer knows.
fn closed(event: &Event) -> impl Iterator<Item = &PathBuf> {
    let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::Both)));
    let complete = renamed
        || matches!(
            event.kind,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To))
        );
    // Of a rename that is told whole, the second is the new name.
    event.paths.iter().skip(usize::from(renamed)).filter(move |_| complete)
}
