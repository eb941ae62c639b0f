//! `status`: how far the tasks of a plan are, from their products; why one has none, from
//! what its last run said.

use std::collections::BTreeMap;

use serde_json::json;

use super::args::Status;
use super::exit::Exit;
use super::print;
use super::summary::about;
use crate::error::Result;
use crate::night::{self, Line};
use crate::report::Table;
use crate::report::night::LastRun;
use crate::words::counted;

/// Runs `status`.
pub(super) fn status(args: &Status) -> Result<Exit> {
    let lines = night::read_lines(&args.plan)?;
    let output = lines.iter().find_map(|l| Some(&l.job.as_ref()?.output));
    let said = output.map(|o| LastRun::read(o)).unwrap_or_default();
    let stale = output.map(|o| night::set_aside(o)).unwrap_or_default();
    let failed: BTreeMap<&str, &str> = said
        .tasks
        .iter()
        .filter(|t| t.status == "failed")
        .map(|t| (t.name.as_str(), t.error.as_str()))
        .collect();
    let mut rows: Vec<(&Line, &'static str, Option<String>)> = Vec::with_capacity(lines.len());
    for line in &lines {
        let (state, why) =
            state(line, &failed, |n| rows.get(n - 1).is_some_and(|(_, state, _)| *state == "done"));
        rows.push((line, state, why));
    }
    let count = |word: &str| rows.iter().filter(|(_, state, _)| *state == word).count();
    let counts: Vec<(&str, usize)> =
        ["done", "running", "ready", "waiting", "failed", "cannot be done"].map(|w| (w, count(w))).to_vec();
    if args.json {
        let tasks: Vec<_> = rows
            .iter()
            .map(|(l, state, why)| {
                json!({
                    "number": l.number, "id": l.id, "name": l.name, "recipe": l.recipe, "state": state,
                    "why": why, "needs": l.needs, "outputs": l.outputs,
                })
            })
            .collect();
        let counts: serde_json::Map<String, serde_json::Value> =
            counts.iter().map(|(word, n)| (word.replace(' ', "_"), (*n).into())).collect();
        print::json(&json!({"tasks": tasks, "counts": counts, "stale": stale}))?;
    } else {
        let mut table = Table::new(&[">#", "ID", "TASK", "RECIPE", "NEEDS", "STATE"]);
        for (line, state, _) in &rows {
            let needs: Vec<String> = line.needs.iter().map(usize::to_string).collect();
            table.row([
                line.number.to_string(),
                line.id.clone(),
                line.name.clone(),
                line.recipe.clone(),
                needs.join(","),
                (*state).to_owned(),
            ]);
        }
        let mut text = format!("{table}\n");
        for (line, why) in rows.iter().filter_map(|(l, _, why)| Some((l, why.as_ref()?))) {
            text += &format!("{}\n", about(&line.name, why));
        }
        if !stale.is_empty() {
            text += &format!("not of the night any more, in {}/: {}\n", night::STALE, stale.join(", "));
        }
        let words: Vec<String> =
            counts.iter().filter(|(w, n)| *n > 0 || *w == "done").map(|(w, n)| format!("{n} {w}")).collect();
        print::out(&format!("{text}{} of {}\n", words.join(", "), counted(lines.len(), "task")))?;
    }
    Ok(if count("failed") > 0 { Exit::SomeFailed } else { Exit::Done })
}

/// A task's state in a word, and what stands in its way.
fn state(
    line: &Line,
    failed: &BTreeMap<&str, &str>,
    done: impl Fn(usize) -> bool,
) -> (&'static str, Option<String>) {
    let Some((job, product)) = line.job.as_ref().and_then(|j| Some((j, j.product.as_ref()?))) else {
        return ("cannot be done", line.why.clone());
    };
    if line.is_done() {
        ("done", None)
    } else if night::is_claimed(&job.output, product) {
        ("running", None)
    } else if let Some(why) = failed.get(line.name.as_str()) {
        ("failed", Some((*why).to_owned()))
    } else if line.needs.iter().all(|n| done(*n)) {
        ("ready", None)
    } else {
        ("waiting", None)
    }
}
