//! The status file: what other programs read of a watched night (docs/watch.md).

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::super::log::utc;
use crate::night::{Outcome, Task, Watch};

/// Its name in the folder of products.
pub(super) const NAME: &str = "irisgpu-status.json";
/// The version of what is in it: raised when a member changes its meaning or goes.
const SCHEMA: u32 = 1;
/// It is not written more often than this.
const PACE: Duration = Duration::from_secs(1);

/// The status as it was written last, and what has changed since.
pub(super) struct Board {
    path: PathBuf,
    state: Mutex<State>,
    /// The folder is another watch's now.
    foreign: AtomicBool,
}

struct State {
    value: Value,
    written: Option<Instant>,
    /// What the last writing took: a long night's file is written less often.
    took: Duration,
}

impl Board {
    pub(super) fn new(folder: &Path, night: &Path, mode: &str) -> Board {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_path_buf());
        let value = json!({
            "schema": SCHEMA,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "host": host.trim(),
            "night": absolute(night),
            "output": absolute(folder),
            "mode": mode,
            "started": utc(SystemTime::now()),
            "state": "starting",
            "current": null,
            "behind": null,
        });
        let state = State { value, written: None, took: Duration::ZERO };
        Board { path: folder.join(NAME), state: Mutex::new(state), foreign: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a member; it is written with the next [`Board::write`].
    pub(super) fn set(&self, member: &str, value: Value) {
        self.lock().value[member] = value;
    }

    /// Changes part of a member.
    pub(super) fn with(&self, member: &str, change: impl FnOnce(&mut Value)) {
        let member = &mut self.lock().value[member];
        if member.is_object() {
            change(member);
        }
    }

    /// Whether the folder of the file is this watch's: another one may have taken it.
    pub(super) fn is_own(&self, own: bool) {
        self.foreign.store(!own, Ordering::Relaxed);
    }

    /// Replaces the file, unless it is young (`now`: in any case). A disk that is full
    /// keeps the old one, whose time of change still tells that somebody is there.
    pub(super) fn write(&self, now: bool) {
        if self.foreign.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        let pace = PACE.max(state.took * 50);
        if !now && state.written.is_some_and(|t| t.elapsed() < pace) {
            return;
        }
        let start = Instant::now();
        state.written = Some(start);
        state.value["heartbeat"] = utc(SystemTime::now()).into();
        let free = super::checks::free(self.path.parent().unwrap_or(Path::new(".")));
        state.value["disk_free"] = free.into();
        let part = self.path.with_extension("json.part");
        let text = format!("{:#}\n", state.value);
        if std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &self.path)).is_err() {
            let _ = std::fs::remove_file(&part);
            let old = OpenOptions::new().append(true).open(&self.path);
            let _ = old.and_then(|f| f.set_modified(SystemTime::now()));
        }
        state.took = start.elapsed();
    }
}

/// Keeps the heartbeat while a task runs, and its progress in one member.
pub(super) struct Pulse {
    board: Arc<Board>,
    member: &'static str,
}

impl Pulse {
    pub(super) fn new(board: Arc<Board>, member: &'static str) -> Pulse {
        Pulse { board, member }
    }
}

impl Watch for Pulse {
    fn begins(&self, _: usize, task: &Task) {
        let begun = utc(SystemTime::now());
        let task = json!({"name": task.name, "recipe": task.recipe, "begun": begun, "fraction": 0.0});
        self.board.set(self.member, task);
        self.board.write(true);
    }

    fn progress(&self, _: usize, fraction: f64) {
        self.board.with(self.member, |task| task["fraction"] = fraction.into());
        self.board.write(false);
    }

    fn ends(&self, _: usize, _: &Task, _: &Outcome) {
        self.board.set(self.member, Value::Null);
    }
}
