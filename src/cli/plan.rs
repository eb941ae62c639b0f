//! `plan` (and `reduce --dry-run`): what would be done, with which references and
//! why.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::args;
use super::exit::Exit;
use super::families::Families;
use super::summary::about;
use super::{print, reduce};
use crate::error::{Error, Result};
use crate::night::{self, Action, Plan, Task};
use crate::report::Table;

/// Runs `plan`.
pub(super) fn plan(args: &args::Plan, families: &Families) -> Result<Exit> {
    if args.select.force && args.save.is_some() {
        return Err(Error::Usage(
            "--force is for the run, a plan's file does not keep it: give it to `irisgpu reduce --plan FILE`"
                .into(),
        ));
    }
    let planned = reduce::planned(&args.night, &args.common, &args.select, families);
    let (plan, _) = reduce::or_empty(planned, &args.night, &args.common, as_json)?;
    if let Some(file) = &args.save {
        print::spare(file)?;
        save(&plan, file)?;
    }
    show(&plan, args.common.json)
}

/// Writes a plan's file, whole or not at all.
fn save(plan: &Plan, file: &Path) -> Result<()> {
    let text = night::to_text(&night::lines(plan)?)?;
    let part = file.with_extension("part");
    std::fs::write(&part, text).map_err(Error::io("write", &part))?;
    std::fs::rename(&part, file).map_err(Error::io("rename", file))
}

/// Prints a plan. What cannot be done is part of the answer, not a failure.
pub(super) fn show(plan: &Plan, json: bool) -> Result<Exit> {
    if json {
        print::json(&as_json(plan))?
    } else {
        print::out(&as_text(plan))?
    }
    Ok(Exit::Done)
}

fn state(task: &Task) -> &'static str {
    match &task.action {
        Action::Run(_) if task.up_to_date => "up to date",
        Action::Run(_) => "to do",
        Action::NoRecipe(_) => "no recipe yet",
        Action::Refused(_) => "cannot be done",
    }
}

/// Why a task is not to do.
fn why(task: &Task) -> Option<&str> {
    match &task.action {
        Action::Run(_) => None,
        Action::NoRecipe(why) => Some(*why).filter(|w| *w != "no recipe yet"),
        Action::Refused(why) => Some(why),
    }
}

/// A file as seen from the night (where the products lie in it).
fn within(plan: &Plan, path: &Path) -> String {
    let night = plan.output.parent().unwrap_or(Path::new(""));
    path.strip_prefix(night).unwrap_or(path).display().to_string()
}

fn as_text(plan: &Plan) -> String {
    let asked: Vec<(usize, &Task)> = plan.tasks.iter().enumerate().filter(|(_, t)| t.asked).collect();
    let mut table = Table::new(&[">#", "TASK", "OBSNAME", "RECIPE", ">FILES", "NEEDS", "STATE", "PRODUCT"]);
    for (i, task) in &asked {
        let needs: Vec<String> = task.needs.iter().map(|n| (n + 1).to_string()).collect();
        table.row([
            (i + 1).to_string(),
            task.name.clone(),
            task.obsname.clone(),
            task.recipe.clone(),
            task.files.len().to_string(),
            needs.join(","),
            state(task).to_owned(),
            task.product_within(),
        ]);
    }
    let mut text = table.to_string();
    for (i, task) in asked.iter().filter(|(_, t)| !t.references.is_empty() || !t.warnings.is_empty()) {
        let _ = writeln!(text, "\n{}. {}", i + 1, task.name);
        for picked in &task.references {
            let file = picked.path.as_ref().map_or("none".into(), |p| within(plan, p));
            let _ = writeln!(text, "   {:<10} {file}  ({})", picked.reftype, picked.reason);
        }
        // What a missing reference means stands with the reference.
        let said: Vec<String> = task.references.iter().map(|p| p.sentence()).collect();
        for warning in task.warnings.iter().filter(|w| !said.contains(w)) {
            let _ = writeln!(text, "   warning: {warning}");
        }
    }
    text.push('\n');
    for (task, why) in asked.iter().filter_map(|(_, t)| Some((t, why(t)?))) {
        let _ = writeln!(text, "{}", about(&task.name, why));
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let count = |what: fn(&Task) -> bool| asked.iter().filter(|(_, t)| what(t)).count();
    let _ = writeln!(
        text,
        "{} to do, {} up to date, {} without a recipe yet, {} that cannot be done; products in {}",
        count(|t| t.job().is_some() && !t.up_to_date),
        count(|t| t.up_to_date),
        count(|t| matches!(t.action, Action::NoRecipe(_))),
        count(|t| matches!(t.action, Action::Refused(_))),
        plan.output.display()
    );
    text
}

pub(super) fn as_json(plan: &Plan) -> serde_json::Value {
    let tasks: Vec<_> = plan
        .tasks
        .iter()
        .enumerate()
        .filter(|(_, t)| t.asked)
        .map(|(i, t)| {
            let references: Vec<_> = t
                .references
                .iter()
                .map(|p| json!({"reftype": p.reftype, "file": p.path, "reason": p.reason}))
                .collect();
            json!({
                "number": i + 1,
                "name": t.name,
                "obsname": t.obsname,
                "recipe": t.recipe,
                "files": t.files,
                "needs": t.needs.iter().map(|n| n + 1).collect::<Vec<_>>(),
                "state": state(t),
                "why": why(t),
                "product": t.product(),
                "references": references,
                "warnings": t.warnings,
                "plan_hash": t.job().map(|j| j.plan_hash.as_str()),
            })
        })
        .collect();
    json!({"output": plan.output, "tasks": tasks, "warnings": plan.warnings})
}
