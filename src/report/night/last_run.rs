//! What the last run said of its tasks: `last-run.json` beside the products.
//!
//! Products tell what was made; what failed, how long it took, and what a run warned of,
//! only the run knew.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Row, atomically};
use crate::error::Result;

const NAME: &str = "last-run.json";

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
    /// `done`, `up to date`, `failed`, `no recipe yet`, `not run`.
    pub status: String,
    /// Why it failed, or why there is no recipe.
    pub error: String,
    /// Seconds it took when it was computed.
    pub seconds: f64,
    /// Its product's file name.
    pub product: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl LastRun {
    /// Of a folder of products; empty where no run left an account that can be read.
    pub fn read(output: &Path) -> LastRun {
        std::fs::read(output.join(NAME))
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default()
    }

    /// Keeps a run's summary (`reduce --json`'s object) for reports to come. `whole` says
    /// that the run looked at every task of the night: what an earlier run said of others
    /// is then out of date.
    pub fn keep(output: &Path, summary: &Value, command: &str, whole: bool) -> Result<()> {
        let before = LastRun::read(output);
        let mut old: BTreeMap<String, TaskSaid> =
            before.tasks.into_iter().map(|t| (t.name.clone(), t)).collect();
        let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
        let mut tasks = Vec::new();
        for row in summary["tasks"].as_array().into_iter().flatten() {
            let warnings = row["warnings"].as_array().into_iter().flatten();
            let mut task = TaskSaid {
                name: text(row, "name"),
                obsname: text(row, "obsname"),
                status: text(row, "status"),
                error: text(row, if row["error"].is_string() { "error" } else { "why" }),
                seconds: row["seconds"].as_f64().unwrap_or(0.0),
                product: text(row, "product").rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
                warnings: warnings.filter_map(|w| w.as_str().map(str::to_owned)).collect(),
            };
            // A task that was left alone is as the run that did it told.
            if let (Some(was), "up to date") = (old.remove(&task.name), task.status.as_str()) {
                (task.seconds, task.warnings) = (was.seconds, was.warnings);
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
            engine: text(summary, "engine"),
            tasks,
            warnings: general.collect(),
        };
        atomically(&output.join(NAME), serde_json::to_string_pretty(&run).unwrap_or_default().as_bytes())
    }

    /// Tasks that have no product, with why.
    pub fn troubles(&self) -> impl Iterator<Item = &TaskSaid> {
        self.tasks.iter().filter(|t| matches!(t.status.as_str(), "failed" | "no recipe yet" | "not run"))
    }

    /// Puts warnings and seconds beside the products that they belong to.
    pub(super) fn tell(&self, rows: &mut [Row]) {
        let by: BTreeMap<&str, &TaskSaid> =
            self.tasks.iter().filter(|t| !t.product.is_empty()).map(|t| (t.product.as_str(), t)).collect();
        for row in rows {
            if let Some(task) = by.get(row.file.rsplit('/').next().unwrap_or_default()) {
                row.warnings.clone_from(&task.warnings);
                row.seconds = Some(task.seconds).filter(|s| *s > 0.0);
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
    }
}
