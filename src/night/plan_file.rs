//! A plan as a file: JSON, one line a task, each with all that its task takes, so that
//! any machine that sees the files can do any line without planning the night again.
//!
//! Lines stand in waves: what needs nothing, what needs only that, and so on, so that
//! the tasks of a wave are lines one after the other and may be done at once.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::Metadata;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::{Action, Plan, Task, is_up_to_date};
use crate::error::{Error, Result};
use crate::paths::absolute;
use crate::pipeline::Job;

/// One line: a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The program that planned it, with its version.
    pub by: String,
    /// Which line it is, from 1.
    pub number: usize,
    /// Its product's name without `.fits`: unique in its plan; the task's name, where
    /// it cannot be done.
    pub id: String,
    /// From 1: it needs lines of earlier waves alone.
    pub wave: usize,
    /// The lines whose products it reads.
    pub needs: Vec<usize>,
    /// What it is called in tables.
    pub name: String,
    /// What it is for.
    pub obsname: String,
    /// The recipe's name.
    pub recipe: String,
    /// Its files within the night.
    pub files: Vec<String>,
    /// The files that it reads and that no other line makes.
    pub reads: Vec<Read>,
    /// References with the reason for each.
    pub references: Vec<Chosen>,
    /// The files without which it is not done.
    pub outputs: Vec<PathBuf>,
    /// What it takes.
    pub cost: Cost,
    /// What the user should know beforehand.
    pub warnings: Vec<String>,
    /// Why it cannot be done, where it cannot.
    pub why: Option<String>,
    /// Everything else.
    pub job: Option<Job>,
}

/// A file as it was when the night was planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Nanoseconds from 1970 to its last change; 0 where the file system does not say.
    pub changed: u64,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Its type.
    pub reftype: String,
    /// The file; none where none applies.
    pub file: Option<PathBuf>,
    /// Why.
    pub reason: String,
}

/// What a task takes, for schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Bytes of raw files.
    pub input_bytes: u64,
    /// Bytes of references that no line makes.
    pub reference_bytes: u64,
}

/// The program, for [`Line::by`].
fn program() -> String {
    format!("irisgpu {}", env!("CARGO_PKG_VERSION"))
}

/// The plan's lines. Paths become absolute.
pub fn lines(plan: &Plan) -> Result<Vec<Line>> {
    let mut wave = vec![1; plan.tasks.len()];
    for (i, task) in plan.tasks.iter().enumerate() {
        wave[i] = task.needs.iter().map(|n| wave[*n] + 1).max().unwrap_or(1);
    }
    let mut order: Vec<usize> = (0..plan.tasks.len()).filter(|i| plan.tasks[*i].asked).collect();
    order.sort_by_key(|i| wave[*i]);
    let number: BTreeMap<usize, usize> = order.iter().enumerate().map(|(n, i)| (*i, n + 1)).collect();
    let made: Vec<PathBuf> = plan.tasks.iter().flat_map(Task::outputs).collect();
    order
        .iter()
        .map(|i| {
            let task = &plan.tasks[*i];
            let mut needs: Vec<usize> = task.needs.iter().filter_map(|n| number.get(n).copied()).collect();
            needs.sort_unstable();
            Ok(Line { number: number[i], wave: wave[*i], needs, ..line(task, &made)? })
        })
        .collect()
}

fn line(task: &Task, made: &[PathBuf]) -> Result<Line> {
    let job = task.job();
    let stem = task.product().and_then(Path::file_stem).map(|s| s.to_string_lossy().into_owned());
    let raw = |job: &Job| -> Vec<PathBuf> {
        let earlier = job.earlier.values().flatten().flat_map(|e| e.files.iter().cloned());
        let mut files: Vec<PathBuf> = job.inputs.iter().cloned().chain(earlier).collect();
        files.retain(|f| !made.contains(f));
        files
    };
    let references = |job: &Job| -> Vec<PathBuf> {
        job.references.values().filter(|f| !made.contains(f)).cloned().collect()
    };
    let read = |files: Vec<PathBuf>| files.iter().map(|f| Read::of(f)).collect::<Result<Vec<_>>>();
    let mut inputs = read(job.map(raw).unwrap_or_default())?;
    let references = read(job.map(references).unwrap_or_default())?;
    let bytes = |reads: &[Read]| reads.iter().map(|r| r.bytes).sum();
    let cost = Cost { input_bytes: bytes(&inputs), reference_bytes: bytes(&references) };
    inputs.extend(references);
    inputs.sort_by(|a, b| a.path.cmp(&b.path));
    inputs.dedup();
    Ok(Line {
        by: program(),
        number: 0,
        id: stem.unwrap_or_else(|| task.name.clone()),
        wave: 0,
        needs: Vec::new(),
        name: task.name.clone(),
        obsname: task.obsname.clone(),
        recipe: task.recipe.clone(),
        files: task.files.clone(),
        reads: inputs,
        references: task
            .references
            .iter()
            .map(|p| {
                let file = p.path.as_deref().map(absolute).transpose()?;
                Ok(Chosen { reftype: p.reftype.to_owned(), file, reason: p.reason.clone() })
            })
            .collect::<Result<_>>()?,
        outputs: task.outputs().iter().map(|p| absolute(p)).collect::<Result<_>>()?,
        cost,
        warnings: task.warnings.clone(),
        why: match &task.action {
            Action::Run(_) => None,
            Action::NoRecipe(why) => Some((*why).to_owned()),
            Action::Refused(why) => Some(why.clone()),
        },
        job: job.map(Job::absolute).transpose()?,
    })
}

/// The lines as text.
pub fn to_text(lines: &[Line]) -> Result<String> {
    let mut text = String::new();
    for line in lines {
        let json = serde_json::to_string(line).map_err(|e| {
            Error::Usage(format!("{}: cannot be written as a line of a plan: {e}", line.name))
        })?;
        let _ = writeln!(text, "{json}");
    }
    Ok(text)
}

/// Reads the lines of a plan's file.
pub fn read_lines(path: &Path) -> Result<Vec<Line>> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Error::Usage(format!(
            "{shown} is a folder, and a plan's file is wanted: if it is a night, write one with \
             `irisgpu plan {shown} --save night.jsonl` and name night.jsonl in its place"
        )));
    }
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    // A raw frame of some GB that was named by mistake is not read whole.
    let mut text = Vec::new();
    (&mut file).take(64).read_to_end(&mut text).map_err(Error::io("read", path))?;
    if text.trim_ascii_start().first().is_none_or(|first| *first == b'{') {
        file.read_to_end(&mut text).map_err(Error::io("read", path))?;
        if let Ok(text) = String::from_utf8(text) {
            return from_text(&text, &shown.to_string());
        }
    }
    Err(no_plan(&shown.to_string()))
}

fn no_plan(origin: &str) -> Error {
    Error::Usage(format!(
        "{origin} is no plan: name a file that `irisgpu plan NIGHT --save FILE` wrote (a line of JSON a task)"
    ))
}

/// Reads the lines of a plan; `origin` is named in errors. A line is refused that another
/// version planned, whose recipe cannot be, or that would write outside its folders.
pub fn from_text(text: &str, origin: &str) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for (i, text) in text.lines().enumerate().filter(|(_, t)| !t.trim().is_empty()) {
        let fail = |why: String| Error::Config(format!("{origin}, line {}: {why}", i + 1));
        let is_line = || {
            let value = serde_json::from_str::<serde_json::Value>(text);
            value.is_ok_and(|v| v["by"].is_string() && v["number"].is_number())
        };
        if lines.is_empty() && !is_line() {
            return Err(no_plan(origin));
        }
        let line: Line = serde_json::from_str(text)
            .map_err(|e| fail(format!("{e}; make the plan again (`irisgpu plan NIGHT --save FILE`)")))?;
        if line.by != program() {
            return Err(fail(format!(
                "was planned by {}, this is {}: make the plan again",
                line.by,
                program()
            )));
        }
        if line.number != lines.len() + 1 || line.needs.iter().any(|n| *n == 0 || *n >= line.number) {
            return Err(fail("lines are missing, or in another order: make the plan again".into()));
        }
        if let Some(job) = &line.job {
            job.recipe.check().map_err(&fail)?;
            let inside = |p: &PathBuf| {
                let up = p.components().any(|c| c == Component::ParentDir);
                !up && (p.starts_with(&job.output) || p.starts_with(&job.masters))
            };
            let written = job.rates.values().chain(&job.product).chain(&line.outputs);
            if let Some(outside) = written.into_iter().find(|p| !inside(p)) {
                return Err(fail(format!(
                    "{} is outside the folder of products {}",
                    outside.display(),
                    job.output.display()
                )));
            }
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::NothingToReduce(format!("{origin} holds no task")));
    }
    Ok(lines)
}

impl Line {
    /// Whether all that it makes is there, made by this plan, of files that are as they were
    /// or gone since.
    pub fn is_done(&self) -> bool {
        let made = |job: &Job| self.outputs.iter().all(|p| is_up_to_date(p, &job.plan_hash));
        let replaced = |then: &Read| then.is_another().unwrap_or(false);
        self.job.as_ref().is_some_and(made) && !self.reads.iter().any(replaced)
    }

    /// What has changed since the night was planned, as a sentence.
    fn changed(&self) -> Option<String> {
        self.reads.iter().find_map(|then| match then.is_another() {
            Err(e) => Some(e.to_string()),
            Ok(false) => None,
            Ok(true) => Some(format!(
                "{} has changed since the night was planned: plan it again",
                then.path.display()
            )),
        })
    }
}

/// The plan that the lines are. `only` names lines by number or id: others are not
/// done, and what a named one needs must be there already. No name is all lines.
pub fn from_lines(lines: &[Line], only: &[String], force: bool) -> Result<Plan> {
    for name in only {
        if !lines.iter().any(|l| l.is_called(name)) {
            return Err(Error::Usage(format!(
                "--only {name}: the plan has no such task; give numbers from 1 to {}, or ids (`irisgpu status PLAN`)",
                lines.len()
            )));
        }
    }
    let asked = |l: &Line| only.is_empty() || only.iter().any(|name| l.is_called(name));
    let output = lines.iter().find_map(|l| Some(l.job.as_ref()?.output.clone())).unwrap_or_default();
    let tasks = lines.iter().map(|line| task(line, lines, asked, force)).collect();
    Ok(Plan { output, tasks, ..Plan::default() })
}

fn task(line: &Line, lines: &[Line], asked: impl Fn(&Line) -> bool, force: bool) -> Task {
    let mut task = Task {
        name: line.name.clone(),
        obsname: line.obsname.clone(),
        recipe: line.recipe.clone(),
        files: line.files.clone(),
        references: Vec::new(),
        needs: line.needs.iter().map(|n| n - 1).filter(|n| asked(&lines[*n])).collect(),
        warnings: line.warnings.clone(),
        action: Action::Refused(line.why.clone().unwrap_or_default()),
        waits: false,
        up_to_date: false,
        asked: asked(line),
    };
    let Some(job) = line.job.as_ref().filter(|_| task.asked) else { return task };
    task.up_to_date = !force && line.is_done();
    let absent = line.needs.iter().map(|n| &lines[n - 1]).find(|l| !asked(l) && !l.is_done());
    task.waits = absent.is_some() && !task.up_to_date;
    task.action = match absent {
        _ if task.up_to_date => Action::Run(Box::new(job.clone())),
        Some(need) => {
            Action::Refused(format!("needs task {} ({}), which is not done", need.number, need.name))
        }
        None => line.changed().map_or_else(|| Action::Run(Box::new(job.clone())), Action::Refused),
    };
    task
}

impl Line {
    fn is_called(&self, name: &str) -> bool {
        self.id == name || name.parse() == Ok(self.number)
    }
}

impl Read {
    fn of(path: &Path) -> Result<Read> {
        let facts = std::fs::metadata(path).map_err(Error::io("read", path))?;
        Ok(Read { path: absolute(path)?, bytes: facts.len(), changed: changed(&facts) })
    }

    /// Whether another file is there now.
    fn is_another(&self) -> Result<bool> {
        Ok(Read::of(&self.path)? != *self)
    }
}

fn changed(facts: &Metadata) -> u64 {
    let since = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}
