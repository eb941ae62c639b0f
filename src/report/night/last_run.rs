//! What the last run said of its tasks: `last-run.json` beside the products.
//!
//! Products tell what was made; what failed, how long it took, and what a run warned of,
//! only the run knew. Where many processes do the tasks of one plan, each leaves a small
//! file a task ([`note`]); the next run of the whole night takes them into its account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Row, atomically};
use crate::error::{Error, Result};

const NAME: &str = "last-run.json";
/// What is told of tasks done one at a time, beside the locks of those.
const FOLDER: &str = ".irisgpu-tasks";

/// A run's account of its tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    /// What was typed.
    pub command: String,
    /// When it ended, UTC.
    pub ended: String,
    /// Seconds it took.
    pub seconds: f64,
    /// The engine's name.
    pub engine: String,
    /// Its tasks, those of earlier runs that it did not touch among them.
    pub tasks: Vec<TaskSaid>,
    /// What concerned no single task.
    pub warnings: Vec<String>,
}

/// A task, as a run told of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSaid {
    /// The exposure, or the set in words.
    pub name: String,
    /// What it was for.
    pub obsname: String,
    /// `done`, `up to date`, `failed`, `no recipe yet`, `not run`; of a night that is being
    /// watched also `waiting` and `queued`.
    pub status: String,
    /// Why it failed, or why there is no recipe.
    pub error: String,
    /// Seconds it took when it was computed.
    pub seconds: f64,
    /// Seconds from whole files to its first product, where the night was watched.
    pub latency: Option<f64>,
    /// Its product's file name.
    pub product: String,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The command that does this task alone; empty where the run's own does it again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub again: String,
}

impl TaskSaid {
    /// Of a row of `reduce --json`.
    fn of(row: &Value) -> TaskSaid {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let warnings = row["warnings"].as_array().into_iter().flatten();
        TaskSaid {
            name: text("name"),
            obsname: text("obsname"),
            status: text("status"),
            error: text(if row["error"].is_string() { "error" } else { "why" }),
            seconds: row["seconds"].as_f64().unwrap_or(0.0),
            latency: row["latency"].as_f64(),
            product: text("product").rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
            warnings: warnings.filter_map(|w| w.as_str().map(str::to_owned)).collect(),
            again: String::new(),
        }
    }
}

/// Keeps what a process said of the one task that it did (a row of `reduce --json`), and
/// how to do that `again`: a file of its own, named after the task's `id`, so that none
/// waits for another.
pub fn note(output: &Path, id: &str, row: &Value, again: &str) -> Result<()> {
    let said = TaskSaid { again: again.to_owned(), ..TaskSaid::of(row) };
    let folder = output.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let stem: String = id.chars().map(plain).collect();
    let text = serde_json::to_string_pretty(&said).unwrap_or_default();
    atomically(&folder.join(format!("{stem}.json")), text.as_bytes())
}

/// What processes said of single tasks since the last run of the whole.
fn noted(output: &Path) -> Vec<(PathBuf, TaskSaid)> {
    let entries = std::fs::read_dir(output.join(FOLDER)).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let read = |path: PathBuf| {
        let said = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        Some((path, said))
    };
    files.into_iter().filter_map(read).collect()
}

impl LastRun {
    /// Of a folder of products, with what was said of single tasks since; empty where no
    /// run left an account that can be read.
    pub fn read(output: &Path) -> LastRun {
        LastRun::with(output, &noted(output))
    }

    fn with(output: &Path, noted: &[(PathBuf, TaskSaid)]) -> LastRun {
        let bytes = std::fs::read(output.join(NAME)).ok();
        let mut run: LastRun = bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let mut place: BTreeMap<String, usize> =
            run.tasks.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        for (_, said) in noted {
            let at = *place.entry(said.name.clone()).or_insert(run.tasks.len());
            match run.tasks.get_mut(at) {
                Some(task) => task.clone_from(said),
                None => run.tasks.push(said.clone()),
            }
        }
        run
    }

    /// Keeps a run's summary (`reduce --json`'s object) for reports to come. `whole` says
    /// that the run looked at every task of the night: what an earlier run said of others
    /// is then out of date.
    pub fn keep(output: &Path, summary: &Value, command: &str, whole: bool) -> Result<()> {
        let noted = noted(output);
        let before = LastRun::with(output, &noted);
        let mut old: BTreeMap<String, TaskSaid> =
            before.tasks.into_iter().map(|t| (t.name.clone(), t)).collect();
        let text = |key: &str| summary[key].as_str().unwrap_or_default().to_owned();
        let mut tasks = Vec::new();
        for row in summary["tasks"].as_array().into_iter().flatten() {
            let mut task = TaskSaid::of(row);
            // A task that was left alone is as the run that did it told; where none did,
            // nobody knows how long it took.
            let was = old.remove(&task.name).filter(|w| w.status != "failed");
            task.latency = task.latency.or(was.as_ref().and_then(|w| w.latency));
            if matches!(task.status.as_str(), "up to date" | "waiting" | "queued") {
                (task.seconds, task.warnings) = was.map_or((0.0, task.warnings), |w| (w.seconds, w.warnings));
            }
            tasks.push(task);
        }
        if !whole {
            tasks.extend(old.into_values());
        }
        let said = summary["warnings"].as_array().into_iter().flatten();
        let general =
            said.filter(|w| w["tasks"] == 0).filter_map(|w| w["warning"].as_str().map(str::to_owned));
        let run = LastRun {
            command: command.to_owned(),
            ended: crate::pipeline::now_text(),
            seconds: summary["seconds"].as_f64().unwrap_or(0.0),
            engine: text("engine"),
            tasks,
            warnings: general.collect(),
        };
        atomically(&output.join(NAME), serde_json::to_string_pretty(&run).unwrap_or_default().as_bytes())?;
        for (path, _) in noted {
            // One that stays is older than the account, and is taken into the next.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// Tasks that have no product, with why.
    pub fn troubles(&self) -> impl Iterator<Item = &TaskSaid> {
        let none = ["failed", "waiting", "no recipe yet", "not run"];
        self.tasks.iter().filter(move |t| none.contains(&t.status.as_str()))
    }

    /// Puts warnings and seconds beside the products that they belong to.
    pub(super) fn tell(&self, rows: &mut [Row]) {
        let by: BTreeMap<&str, &TaskSaid> =
            self.tasks.iter().filter(|t| !t.product.is_empty()).map(|t| (t.product.as_str(), t)).collect();
        for row in rows {
            if let Some(task) = by.get(row.file.rsplit('/').next().unwrap_or_default()) {
                row.warnings.clone_from(&task.warnings);
                row.seconds = Some(task.seconds).filter(|s| *s > 0.0);
                row.latency = task.latency;
                row.failed_since = if task.status == "failed" { task.error.clone() } else { String::new() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn summary(tasks: Value) -> Value {
        json!({"tasks": tasks, "warnings": [{"warning": "w", "tasks": 0}], "engine": "e", "seconds": 2.0})
    }

    #[test]
    fn what_failed_is_kept_and_what_was_left_alone_is_as_before() {
        let dir = tempfile::tempdir().expect("temp dir");
        let done = json!({"name": "a", "status": "done", "seconds": 3.0, "product": "/x/a.fits", "warnings": ["low"]});
        let bad =
            json!({"name": "b", "status": "failed", "error": "is bad", "seconds": 0.1, "product": null});
        LastRun::keep(dir.path(), &summary(json!([done, bad])), "irisgpu reduce n", true).expect("keep");
        let run = LastRun::read(dir.path());
        assert_eq!(
            (run.troubles().count(), run.tasks[1].error.as_str(), run.warnings.len()),
            (1, "is bad", 1)
        );
        // Only `a` was asked for: `b` is still known; then a whole run without `b`.
        let again = json!({"name": "a", "status": "up to date", "seconds": 0.0, "product": "/x/a.fits"});
        LastRun::keep(dir.path(), &summary(json!([again])), "", false).expect("keep");
        let run = LastRun::read(dir.path());
        assert_eq!((run.tasks.len(), run.tasks[0].seconds), (2, 3.0));
        LastRun::keep(dir.path(), &summary(json!([again])), "", true).expect("keep");
        assert_eq!(LastRun::read(dir.path()).tasks.len(), 1);
        std::fs::write(dir.path().join(NAME), "{nonsense").expect("write");
        assert_eq!(LastRun::read(dir.path()), LastRun::default());
        // What it takes to find a product up to date is not what it took to make it.
        let found = json!({"name": "a", "status": "up to date", "seconds": 0.4, "product": "/x/a.fits", "warnings": ["w"]});
        LastRun::keep(dir.path(), &summary(json!([found])), "", true).expect("keep");
        let task = &LastRun::read(dir.path()).tasks[0];
        assert_eq!((task.seconds, task.warnings.len()), (0.0, 1));
    }
    #[test]
    fn what_single_processes_say_goes_into_the_next_account() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bad = json!({"name": "a/b", "status": "failed", "error": "is bad", "product": null});
        let done = |status| json!({"name": "c", "status": status, "seconds": 2.0, "product": "/x/c.fits"});
        note(dir.path(), "a/b", &bad, "irisgpu reduce --plan p --only 3").expect("note");
        note(dir.path(), "c", &done("failed"), "").expect("note");
        note(dir.path(), "c", &done("done"), "").expect("note");
        let run = LastRun::read(dir.path());
        assert_eq!((run.tasks.len(), run.troubles().count()), (2, 1));
        assert!(run.troubles().all(|t| t.again.ends_with("--only 3")), "{run:?}");
        LastRun::keep(dir.path(), &summary(json!([done("up to date")])), "", false).expect("keep");
        assert!(noted(dir.path()).is_empty());
        let run = LastRun::read(dir.path());
        assert_eq!((run.tasks.len(), run.tasks[0].seconds, run.troubles().count()), (2, 2.0, 1));
    }
}
