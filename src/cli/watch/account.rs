//! The night's report while the night goes on: `last-run.json` and the page, as products
//! come.
//!
//! Each product is looked at once. While there is something to reduce, reports take a
//! twentieth of the time at most, and each looks at new products for so long only, the
//! newest first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::voice::Voice;
use crate::cli::args::Level;
use crate::cli::report::command;
use crate::config::Instrument;
use crate::error::Result;
use crate::night::{Outcome, Status, Task};
use crate::report::night::{LastRun, Options, Reporter};

/// Reports are not written more often than this.
const PACE: Duration = Duration::from_secs(1);
/// After a report, so many times what it took goes by before the next one.
const SHARE: u32 = 20;
/// For so long a report looks at products that it does not know.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same after Ctrl-C.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What the report is made of.
pub(super) struct Account {
    output: PathBuf,
    reporter: Reporter,
    /// Seconds and warnings of what was done since it was told last, by name.
    done: BTreeMap<String, (f64, Vec<String>)>,
    /// Something has changed since.
    stale: bool,
    /// When it was written last, and how long that took.
    told: Option<Instant>,
    took: Duration,
    start: Instant,
    /// Why it could not be written.
    trouble: Option<String>,
}

impl Account {
    pub(super) fn new(output: &Path, instrument: &Instrument) -> Account {
        let (output, reporter) = (output.to_path_buf(), Reporter::new(output, instrument));
        let (done, start, took) = (BTreeMap::new(), Instant::now(), Duration::ZERO);
        Account { output, reporter, done, stale: true, told: None, took, start, trouble: None }
    }

    /// A task ended.
    pub(super) fn ended(&mut self, task: &Task, outcome: &Outcome) {
        if matches!(outcome.status, Status::Done(_)) {
            self.done.insert(task.name.clone(), (outcome.seconds, outcome.warnings.clone()));
        }
        self.stale = true;
    }

    /// The plan is another.
    pub(super) fn stale(&mut self) {
        self.stale = true;
    }

    /// Whether it is time to write it; `idle`: nothing else is to be done.
    pub(super) fn is_due(&self, idle: bool) -> bool {
        let pause = if idle { PACE.max(self.took) } else { PACE.max(self.took * SHARE) };
        self.stale && self.told.is_none_or(|told| told.elapsed() >= pause)
    }

    /// Writes it: `rows` are those of the status file.
    pub(super) fn tell(&mut self, rows: &[Value], warnings: &[String], engine: &str, voice: &Voice) {
        let start = Instant::now();
        let tasks: Vec<Value> = rows.iter().filter_map(|row| self.row(row)).collect();
        let warnings: Vec<Value> = warnings.iter().map(|w| json!({"warning": w, "tasks": 0})).collect();
        let seconds = self.start.elapsed().as_secs_f64();
        let all = json!({"tasks": tasks, "warnings": warnings, "engine": engine, "seconds": seconds});
        let pause = u32::try_from((self.took * SHARE).as_secs()).unwrap_or(u32::MAX);
        let refresh = pause.clamp(10, 120);
        let options = Options { refresh: Some(refresh), patience: Some(PATIENCE), ..Options::default() };
        let mut write = || -> Result<usize> {
            // Tasks whose frames are being written again are still known.
            LastRun::keep(&self.output, &all, &command(), false)?;
            self.done.clear();
            self.reporter.write(&options).map(|written| written.left)
        };
        match write() {
            Ok(left) => {
                self.stale = left > 0;
                self.trouble = None;
            }
            Err(e) => self.complain(&e.to_string(), voice),
        }
        self.took = start.elapsed();
        self.told = Some(Instant::now());
    }

    /// A row of the status file as one of `reduce --json`.
    fn row(&self, row: &Value) -> Option<Value> {
        let done = row["name"].as_str().and_then(|name| self.done.get(name));
        let status = match row["state"].as_str()? {
            "arriving" => return None,
            "done" | "preliminary" if done.is_some() => "done",
            "done" | "preliminary" => "up to date",
            "no recipe" => "no recipe yet",
            other => other,
        };
        let mut row = row.clone();
        row["status"] = status.into();
        if let Some((seconds, warnings)) = done.filter(|_| status == "done") {
            row["seconds"] = (*seconds).into();
            row["warnings"] = json!(warnings);
        }
        Some(row)
    }

    /// The last report: the page does not load itself again any more. `summary` is that of
    /// the last pass; none where that could not be done.
    pub(super) fn close(&mut self, summary: Option<&Value>, interrupted: bool, voice: &Voice) {
        let patience = interrupted.then_some(LAST_PATIENCE);
        let mut write = || -> Result<()> {
            if let Some(summary) = summary {
                LastRun::keep(&self.output, summary, &command(), true)?;
            }
            self.reporter.write(&Options { patience, ..Options::default() }).map(|_| ())
        };
        if let Err(e) = write() {
            self.complain(&e.to_string(), voice);
        }
    }

    /// Says once why there is no report; it is tried again.
    fn complain(&mut self, why: &str, voice: &Voice) {
        if self.trouble.as_deref() != Some(why) {
            voice.say(Level::Warn, "", &format!("the report was not written: {why}"));
        }
        self.trouble = Some(why.to_owned());
    }
}
