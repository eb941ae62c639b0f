//! The log of a night: one file in the folder of products, one line an event, appended
//! by every run. A line is one write, so that two programs may log at once; a log that
//! cannot be written (a full disk) is no reason to stop.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::args::{self, Level};
use super::print::{note, spare};
use crate::datamodel::iso_date;
use crate::night::{Outcome, Plan, Status, Task, Watch};
use crate::words::{counted, printable};

/// The log's name in the folder of products.
const NAME: &str = "irisgpu.log";

/// Where events are written down.
pub(super) struct Log {
    file: Mutex<Option<File>>,
    level: Level,
    json: bool,
}

impl Log {
    /// The log that was asked for; else the one in `folder`; `None` for no log.
    pub(super) fn open(asked: &args::Log, folder: Option<&Path>) -> Log {
        let level = asked.level.unwrap_or(Level::Info);
        let path = asked.file.clone().or_else(|| folder.map(|f| f.join(NAME)));
        let file = path.filter(|_| level > Level::Off).and_then(|path| {
            if let Err(e) = spare(&path) {
                note(&format!("no log is written: {e}"));
                return None;
            }
            let opened = OpenOptions::new().append(true).create(true).open(&path);
            opened.map_err(|e| note(&format!("no log is written: cannot open {}: {e}", path.display()))).ok()
        });
        Log { file: Mutex::new(file), level, json: asked.format == "json" }
    }

    /// Writes an event of an exposure (or of none, `""`) down.
    pub(super) fn event(&self, level: Level, exposure: &str, message: &str) {
        self.event_with(level, exposure, message, &Value::Null);
    }

    /// The same; `facts` are further members of the JSON object.
    pub(super) fn event_with(&self, level: Level, exposure: &str, message: &str, facts: &Value) {
        if level > self.level || level == Level::Off {
            return;
        }
        let line = line(SystemTime::now(), level, exposure, message, facts, self.json);
        if let Ok(mut file) = self.file.lock()
            && let Some(file) = file.as_mut()
        {
            let _ = file.write_all(line.as_bytes());
        }
    }

    /// The run begins: what it is to do.
    pub(super) fn plan(&self, plan: &Plan) {
        let asked = plan.tasks.iter().filter(|t| t.asked);
        let to_do = asked.clone().filter(|t| t.job().is_some() && !t.up_to_date).count();
        let version = env!("CARGO_PKG_VERSION");
        let all = counted(asked.count(), "task");
        self.event(Level::Info, "", &format!("irisgpu {version}: {all}, {to_do} to do"));
        plan.warnings.iter().for_each(|w| self.event(Level::Warn, "", w));
    }

    /// How a task ended.
    pub(super) fn ended(&self, task: &Task, outcome: &Outcome, facts: Value) {
        let facts = || {
            let mut all =
                json!({"recipe": task.recipe, "seconds": outcome.seconds, "product": task.product()});
            if let (Some(all), Value::Object(more)) = (all.as_object_mut(), &facts) {
                all.extend(more.clone());
            }
            all
        };
        match &outcome.status {
            Status::Done(_) => {
                for warning in &outcome.warnings {
                    self.event(Level::Warn, &task.name, warning);
                }
                let message =
                    format!("{} in {:.2} s: {}", task.recipe, outcome.seconds, task.product_within());
                self.event_with(Level::Info, &task.name, &message, &facts());
            }
            Status::Failed(why) => self.event_with(Level::Error, &task.name, why, &facts()),
            Status::NoRecipe(why) => self.event(Level::Warn, &task.name, why),
            Status::UpToDate(_) => self.event(Level::Debug, &task.name, "up to date"),
            Status::NotRun => self.event(Level::Info, &task.name, "not run: interrupted"),
            Status::NotAsked => {}
        }
    }
}

/// This instant, UTC, as FITS and logs write it.
pub(super) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
    iso_date(40_587.0 + seconds / 86_400.0) + "Z"
}

fn line(time: SystemTime, level: Level, exposure: &str, message: &str, facts: &Value, json: bool) -> String {
    let word = match level {
        Level::Off | Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    if json {
        let mut event = json!({"time": utc(time), "level": word, "exposure": exposure, "message": message});
        if let (Some(event), Value::Object(facts)) = (event.as_object_mut(), facts) {
            event.extend(facts.clone());
        }
        return format!("{event}\n");
    }
    let exposure = if exposure.is_empty() { "-" } else { exposure };
    // One line an event, whatever an operating system says.
    let clean = |text: &str| printable(&text.replace(['\n', '\r'], " ")).into_owned();
    format!("{} {word:<5} {}: {}\n", utc(time), clean(exposure), clean(message))
}

/// Tells two watchers: the one who is shown the run, and the log.
pub(super) struct Logged<'a, W> {
    pub(super) shown: &'a W,
    pub(super) log: &'a Log,
}

impl<W: Watch> Watch for Logged<'_, W> {
    fn begins(&self, index: usize, task: &Task) {
        self.log.event(Level::Debug, &task.name, &format!("{} begins", task.recipe));
        self.shown.begins(index, task);
    }

    fn progress(&self, index: usize, fraction: f64) {
        self.shown.progress(index, fraction);
    }

    fn ends(&self, index: usize, task: &Task, outcome: &Outcome) {
        self.log.ended(task, outcome, Value::Null);
        self.shown.ends(index, task, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_event_is_a_line() {
        let time = UNIX_EPOCH + Duration::from_millis(1_956_550_123_456);
        let text = line(time, Level::Warn, "a.fits", "no gain\nat all", &Value::Null, false);
        assert_eq!(text, "2032-01-01T06:08:43.456Z warn  a.fits: no gain at all\n");
        let text = line(time, Level::Info, "", "begins", &json!({"n": 3}), true);
        let event: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&event["level"], &event["exposure"], &event["n"]),
            (&json!("info"), &json!(""), &json!(3))
        );
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn levels_and_a_log_that_cannot_be() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut asked = args::Log { level: Some(Level::Warn), format: "text".into(), file: None };
        let log = Log::open(&asked, Some(dir.path()));
        log.event(Level::Info, "", "not this");
        log.event(Level::Error, "x", "but this");
        let text = std::fs::read_to_string(dir.path().join(NAME)).expect("log");
        assert!(text.ends_with("error x: but this\n") && !text.contains("not this"), "{text}");
        asked.level = Some(Level::Off);
        Log::open(&asked, Some(dir.path())).event(Level::Error, "", "nothing");
        assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).expect("log"), text);
        asked = args::Log { file: Some("/no/such/folder/log".into()), level: None, ..asked };
        Log::open(&asked, None).event(Level::Error, "", "nowhere");
    }
}
