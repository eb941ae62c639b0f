//! What became of a plan, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use super::exit::Exit;
use crate::night::{Orphan, Outcome, Plan, STALE, Status, Task};
use crate::profile::Total;
use crate::report::Table;
use crate::words::counted;

/// A status in a word.
pub(super) fn word(status: &Status) -> &'static str {
    match status {
        Status::Done(_) => "done",
        Status::UpToDate(_) => "up to date",
        Status::NoRecipe(_) => "no recipe yet",
        Status::Failed(_) => "failed",
        Status::NotRun => "not run",
        Status::NotAsked => "not asked for",
    }
}

/// A sentence about `name`, which is put before it where it is not in it already.
pub(super) fn about(name: &str, sentence: &str) -> String {
    let ends = |at: usize| !sentence[at + name.len()..].starts_with(|c: char| c.is_alphanumeric());
    let begins = |at: usize| at == 0 || sentence[..at].ends_with(['/', '\\', ' ', '\'']);
    let said = !name.is_empty() && sentence.match_indices(name).any(|(at, _)| begins(at) && ends(at));
    if said { sentence.to_owned() } else { format!("{name}: {sentence}") }
}

fn is_failed(status: &Status) -> bool {
    matches!(status, Status::Failed(_))
}

/// What stood in a task's way.
fn trouble(status: &Status) -> Option<&str> {
    match status {
        Status::Failed(why) => Some(why),
        Status::NoRecipe(why) if *why != word(status) => Some(why),
        _ => None,
    }
}

/// Shares of `seconds` by kind, with the rate of what moved bytes; `None` of nothing.
/// `at_once` tasks share the seconds.
fn where_time_went(totals: &[Total], seconds: f64, at_once: usize) -> Option<String> {
    let seconds = seconds * at_once as f64;
    let busy: Vec<&Total> = totals.iter().filter(|t| t.seconds > 0.005 * seconds).collect();
    let parts = busy.iter().map(|t| {
        let (share, rate) = (100.0 * t.seconds / seconds, t.bytes as f64 / t.seconds * 1e-9);
        let rate = if t.bytes == 0 { String::new() } else { format!(" ({rate:.2} GB/s)") };
        format!("{} {share:.0} %{rate}", t.kind.word())
    });
    let idle = 1.0 - totals.iter().map(|t| t.seconds).sum::<f64>() / seconds;
    let parts = parts.chain((idle > 0.005).then(|| format!("between tasks {:.0} %", 100.0 * idle)));
    let whose = if at_once > 1 { format!(" of {at_once} tasks at a time") } else { String::new() };
    (!busy.is_empty()).then(|| format!("Time{whose}: {}", parts.collect::<Vec<_>>().join(", ")))
}

/// Failures of a run, those first that are causes: what needs a task that failed says no
/// more than that, and where a disk was full many do.
struct Troubles<'a> {
    /// Each alone.
    causes: Vec<(&'a str, &'a str)>,
    /// The same sentence once, with the first task that gave it and how many others did.
    follow: Vec<(&'a str, &'a str, usize)>,
}

/// A finished run.
pub(super) struct Summary<'a> {
    rows: Vec<(&'a Task, &'a Outcome)>,
    engine: &'a str,
    output: &'a Path,
    seconds: f64,
    times: Vec<Total>,
    at_once: usize,
    /// What was put aside.
    aside: Vec<Orphan>,
    /// Each warning once, with the first task that gave it and how many others did.
    warnings: Vec<(String, String, usize)>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(plan: &'a Plan, outcomes: &'a [Outcome], engine: &'a str, seconds: f64) -> Summary<'a> {
        let rows = plan.tasks.iter().zip(outcomes).filter(|(_, o)| o.status != Status::NotAsked);
        let rows: Vec<_> = rows.collect();
        let mut warnings: Vec<(String, String, usize)> =
            plan.warnings.iter().map(|w| (w.clone(), String::new(), 0)).collect();
        let mut place: BTreeMap<&str, usize> = BTreeMap::new();
        for (task, outcome) in &rows {
            for warning in &outcome.warnings {
                let at = *place.entry(warning).or_insert_with(|| {
                    warnings.push((warning.clone(), task.name.clone(), 0));
                    warnings.len() - 1
                });
                warnings[at].2 += 1;
            }
        }
        let (times, aside) = Default::default();
        Summary { rows, engine, output: &plan.output, seconds, times, at_once: 1, aside, warnings }
    }

    /// With the products that were put aside.
    pub(super) fn with_aside(self, aside: Vec<Orphan>) -> Summary<'a> {
        Summary { aside, ..self }
    }

    /// With what the time of `at_once` tasks at a time went for.
    pub(super) fn with_times(self, times: &[Total], at_once: usize) -> Summary<'a> {
        Summary { times: times.to_vec(), at_once, ..self }
    }

    fn troubles(&self) -> Troubles<'a> {
        let failed: BTreeSet<&str> =
            self.rows.iter().filter(|(_, o)| is_failed(&o.status)).map(|(t, _)| t.name.as_str()).collect();
        let mut troubles = Troubles { causes: Vec::new(), follow: Vec::new() };
        for (task, outcome) in &self.rows {
            let Some(why) = trouble(&outcome.status) else { continue };
            let follows = why.strip_prefix("needs '").and_then(|w| w.strip_suffix("', which failed"));
            match troubles.follow.iter_mut().find(|f| f.1 == why) {
                Some(same) => same.2 += 1,
                None if follows.is_some_and(|need| failed.contains(need)) => {
                    troubles.follow.push((&task.name, why, 0));
                }
                None => troubles.causes.push((&task.name, why)),
            }
        }
        troubles
    }

    fn count(&self, what: impl Fn(&Status) -> bool) -> usize {
        self.rows.iter().filter(|(_, o)| what(&o.status)).count()
    }

    fn counts(&self) -> [(&'static str, usize); 5] {
        [
            ("done", self.count(|s| matches!(s, Status::Done(_)))),
            ("up to date", self.count(|s| matches!(s, Status::UpToDate(_)))),
            ("failed", self.count(is_failed)),
            ("no recipe yet", self.count(|s| matches!(s, Status::NoRecipe(_)))),
            ("not run", self.count(|s| *s == Status::NotRun)),
        ]
    }

    /// How many tasks ended how, in a line.
    pub(super) fn verdict(&self) -> String {
        let counts = self.counts().into_iter().filter(|(w, n)| *n > 0 || matches!(*w, "done" | "failed"));
        let counts: Vec<String> = counts.map(|(word, n)| format!("{n} {word}")).collect();
        let warnings = counted(self.warnings.len(), "warning");
        format!("{}; {warnings}; {:.1} s", counts.join(", "), self.seconds)
    }

    /// The exit code that says this.
    pub(super) fn exit(&self) -> Exit {
        let [(_, done), (_, up_to_date), (_, failed), _, (_, not_run)] = self.counts();
        match (failed, not_run, done + up_to_date) {
            (_, 1.., _) => Exit::Interrupted,
            (1.., ..) => Exit::SomeFailed,
            (.., 0) => Exit::Nothing,
            _ => Exit::Done,
        }
    }

    /// The machine's copy.
    pub(super) fn json(&self) -> Value {
        let tasks: Vec<Value> =
            self.rows.iter().map(|(task, outcome)| row(task, outcome, self.engine)).collect();
        let counts: serde_json::Map<String, Value> =
            self.counts().iter().map(|(word, n)| (word.replace(' ', "_"), (*n).into())).collect();
        let warnings: Vec<_> = self
            .warnings
            .iter()
            .map(|(text, first, n)| json!({"warning": text, "first": first, "tasks": n}))
            .collect();
        let times: serde_json::Map<String, Value> = self
            .times
            .iter()
            .map(|t| (t.kind.word().to_owned(), json!({"seconds": t.seconds, "bytes": t.bytes})))
            .collect();
        let stale: Vec<Value> = self.aside.iter().map(|o| json!({"file": o.file, "why": o.why})).collect();
        json!({"output": self.output, "stale": stale, "tasks": tasks, "counts": counts, "warnings": warnings, "engine": self.engine, "seconds": self.seconds, "at_once": self.at_once, "time": times})
    }
}

/// A task in the machine's copy.
pub(super) fn row(task: &Task, outcome: &Outcome, engine: &str) -> Value {
    let computed = matches!(outcome.status, Status::Done(_));
    let mut row = json!({
        "name": task.name,
        "obsname": task.obsname,
        "recipe": task.recipe,
        "files": task.files,
        "engine": if computed { engine } else { "" },
        "seconds": outcome.seconds,
        "status": word(&outcome.status),
        "product": task.product(),
        "warnings": outcome.warnings,
    });
    match &outcome.status {
        Status::Failed(why) => row["error"] = why.as_str().into(),
        Status::NoRecipe(why) => row["why"] = (*why).into(),
        Status::Done(products) => row["products"] = json!(products),
        _ => {}
    }
    row
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(&["EXPOSURE", "OBSNAME", "RECIPE", "ENGINE", ">TIME", "STATUS", "PRODUCT"]);
        for (task, outcome) in &self.rows {
            let computed = matches!(outcome.status, Status::Done(_));
            table.row([
                task.name.clone(),
                task.obsname.clone(),
                task.recipe.clone(),
                if computed { self.engine.to_owned() } else { String::new() },
                if computed { format!("{:.2} s", outcome.seconds) } else { String::new() },
                word(&outcome.status).to_owned(),
                if matches!(outcome.status, Status::Done(_) | Status::UpToDate(_)) {
                    task.product_within()
                } else {
                    String::new()
                },
            ]);
        }
        if !table.is_empty() {
            write!(f, "{table}")?;
        }
        let troubles = self.troubles();
        if !troubles.causes.is_empty() {
            writeln!(f)?;
        }
        for (task, why) in &troubles.causes {
            writeln!(f, "{}", about(task, why))?;
        }
        for (task, why, more) in &troubles.follow {
            match more {
                0 => writeln!(f, "{task}: {why}")?,
                n => writeln!(f, "{task} and {n} more: {why}")?,
            }
        }
        if !self.warnings.is_empty() {
            writeln!(f, "\nWarnings:")?;
        }
        for (text, first, n) in &self.warnings {
            match n {
                0 => writeln!(f, "  {text}")?,
                1 => writeln!(f, "  {}", about(first, text))?,
                n => writeln!(f, "  {first} and {} more: {text}", n - 1)?,
            }
        }
        if !self.aside.is_empty() {
            writeln!(f, "\nNot of the night any more, and now in {STALE}/:")?;
        }
        for orphan in &self.aside {
            writeln!(f, "  {}: {}", orphan.file, orphan.why)?;
        }
        writeln!(f, "\n{}; products in {}", self.verdict(), self.output.display())?;
        if let Some(times) = where_time_went(&self.times, self.seconds, self.at_once) {
            writeln!(f, "{times}")?;
        }
        // Where much failed, a screen shows these last lines alone.
        if let (Some((task, why)), true) = (troubles.causes.first(), self.count(is_failed) > 1) {
            writeln!(f, "What failed first: {}", about(task, why))?;
        }
        if self.exit() == Exit::Interrupted {
            writeln!(f, "Interrupted: run it again for the rest.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::night::Action;

    fn task(name: &str) -> Task {
        Task {
            name: name.into(),
            obsname: "IMG1-SCI".into(),
            recipe: "imager".into(),
            files: vec![name.into()],
            references: Vec::new(),
            needs: Vec::new(),
            warnings: Vec::new(),
            action: Action::Refused(String::new()),
            waits: false,
            up_to_date: false,
            asked: true,
        }
    }

    fn ended(status: Status, warnings: &[&str]) -> Outcome {
        Outcome { status, seconds: 1.0, warnings: warnings.iter().map(|w| (*w).to_owned()).collect() }
    }

    #[test]
    fn nothing_is_left_out_and_warnings_are_said_once() {
        let tasks = ["a", "b", "c", "d"].map(task).to_vec();
        let plan =
            Plan { output: "out".into(), tasks, warnings: vec!["of the night".into()], ..Plan::default() };
        let outcomes = [
            ended(Status::Done(vec!["out/a.fits".into()]), &["no gain"]),
            ended(Status::Done(Vec::new()), &["no gain"]),
            ended(Status::Failed("is bad".into()), &[]),
            ended(Status::NoRecipe("no recipe yet"), &[]),
        ];
        let summary = Summary::new(&plan, &outcomes, "mock", 2.0);
        let text = summary.to_string();
        for part in [
            "c: is bad",
            "a and 1 more: no gain",
            "  of the night",
            "2 done, 1 failed, 1 no recipe yet; 2 warnings",
        ] {
            assert!(text.contains(part), "'{part}' in\n{text}");
        }
        assert_eq!(summary.exit(), Exit::SomeFailed);
        assert_eq!(summary.json()["counts"]["done"], 2);
        assert_eq!(summary.json()["tasks"][2]["error"], "is bad");
    }

    /// A disk that was full: the tasks that needed the ones it stopped hide neither these nor
    /// the system's reason.
    #[test]
    fn the_cause_of_many_failures_is_said_first_and_last() {
        let tasks = ["dark", "sky", "a", "b", "c", "d"].map(task).to_vec();
        let plan = Plan { output: "out".into(), tasks, ..Plan::default() };
        let full = "cannot write out/D.fits: No space left on device (os error 28)";
        let needs = || ended(Status::Failed("needs 'dark', which failed".into()), &[]);
        let other = ended(Status::Failed("needs 'x', which is no task".into()), &[]);
        let outcomes = [
            ended(Status::Failed(full.into()), &[]),
            ended(Status::UpToDate("s".into()), &[]),
            needs(),
            needs(),
            needs(),
            other,
        ];
        let text = Summary::new(&plan, &outcomes, "mock", 2.0).to_string();
        assert_eq!(text.matches("which failed").count(), 1, "{text}");
        assert!(text.contains("\na and 2 more: needs 'dark', which failed\n"), "{text}");
        assert!(text.ends_with(&format!("What failed first: dark: {full}\n")), "{text}");
        let at = |part: &str| text.find(part).expect("said");
        assert!(at("os error 28") < at("d: needs 'x'") && at("d: needs 'x'") < at("a and 2 more"), "{text}");
    }

    #[test]
    fn a_file_is_named_once() {
        assert_eq!(about("x.fits", "is bad"), "x.fits: is bad");
        assert_eq!(about("x.fits", "/n/x.fits[DATA]: is bad"), "/n/x.fits[DATA]: is bad");
        assert_eq!(about("x.fits", "cannot open x.fits: gone"), "cannot open x.fits: gone");
        assert_eq!(about("x.fits", "is like /n/ax.fits"), "x.fits: is like /n/ax.fits");
        assert_eq!(about("a", "is about"), "a: is about");
    }

    #[test]
    fn exit_codes_say_what_happened() {
        let plan = Plan { tasks: vec![task("a"), task("b")], ..Plan::default() };
        let exit = |a: Status, b: Status| {
            let outcomes = [ended(a, &[]), ended(b, &[])];
            Summary::new(&plan, &outcomes, "", 0.0).exit().code()
        };
        let none = || Status::NoRecipe("no recipe yet");
        assert_eq!(exit(Status::UpToDate("x".into()), none()), 0);
        assert_eq!(exit(none(), none()), 64);
        assert_eq!(exit(none(), Status::Failed(String::new())), 1);
        assert_eq!(exit(Status::NotRun, Status::Failed(String::new())), 130);
    }
}
