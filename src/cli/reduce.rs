//! `reduce`: a night, whatever of it is not up to date.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{Common, Level, Reduce, Select};
use super::engine::{Crew, warn_of_no_gpu};
use super::exit::Exit;
use super::families::Families;
use super::log::{Log, Logged};
use super::{interrupt, options, print, progress, summary, watch};
use crate::error::{Error, Result};
use crate::night::{self, ByHand, Executor, Line, Lock, Orphan, Outcome, Plan, Scan, Status, Task, Watch};
use crate::profile;
use crate::refs;
use crate::report::night as report;
use crate::words::counted;

/// Fingerprints of references, kept in the folder of products from run to run.
pub(super) const CHECKSUMS: &str = ".irisgpu-checksums";

/// Runs `reduce`.
pub(super) fn reduce(args: &Reduce, families: &Families) -> Result<Exit> {
    let Some(night) = &args.night else { return of_plan(args, families) };
    let planned = planned(night, &args.common, &args.select, families).or_else(|e| match e {
        Error::NothingToReduce(why) if !args.dry_run => without_frames(night, args, families, why),
        other => Err(other),
    });
    let json = |plan: &Plan| {
        if args.dry_run {
            super::plan::as_json(plan)
        } else {
            summary::Summary::new(plan, &[], "", 0.0).json()
        }
    };
    let (mut plan, output) = or_empty(planned, night, &args.common, json)?;
    if args.dry_run {
        return super::plan::show(&plan, args.common.json);
    }
    // Where nothing is to be made, a watched night may still be settled, and products of
    // frames that are gone be put aside.
    let orphaned = || !night::orphans(&plan, |i| plan.tasks[i].up_to_date).is_empty();
    let idle = is_idle(&plan) && !watch::was_in(&output) && !orphaned();
    let _lock = if idle { None } else { Some(Lock::take(&output)?) };
    if !args.select.force {
        let back = night::bring_back(&mut plan);
        if back > 0 && !args.common.talk.quiet {
            let products = counted(back, "product");
            print::note(&format!("{products} came back from {}/: nothing has changed", night::STALE));
        }
    }
    if output.is_dir() {
        refs::keep(&output.join(CHECKSUMS));
    }
    let log = Log::open(&args.common.log, Some(output.as_path()).filter(|o| o.is_dir()));
    let (exit, summary) = carry_out(&plan, &args.common, Work::Own, &log)?;
    let put_aside = summary["stale"].as_array().is_some_and(|stale| !stale.is_empty());
    if output.is_dir() && (exit != Exit::Nothing || put_aside) {
        told(&output, &summary, args);
    }
    Ok(exit)
}

/// Keeps what the run said for reports, and writes one. Products are what counts: where
/// this fails it is said, no more.
fn told(output: &Path, summary: &serde_json::Value, args: &Reduce) {
    let report = || -> Result<()> {
        let whole = args.select.only.is_empty();
        report::LastRun::keep(output, summary, &super::report::command(), whole)?;
        if args.report {
            let instrument = options::instrument(args.common.instrument.as_deref())?;
            report::write(output, &instrument, &report::Options::default())?;
        }
        Ok(())
    };
    if let Err(e) = report() {
        print::note(&format!("the report was not written: {e}"));
    }
}

/// Tasks of a plan's file. Many processes may do them, each task one at a time.
fn of_plan(args: &Reduce, families: &Families) -> Result<Exit> {
    let file = args.plan.as_deref().unwrap_or(Path::new(""));
    if let Some(option) = args.common.decides().or_else(|| families.first()) {
        return Err(Error::Usage(format!(
            "{option} is decided when the night is planned: give it to `irisgpu plan NIGHT --save {}`",
            file.display()
        )));
    }
    if args.report {
        return Err(Error::Usage(
            "--report is for a night: others may be at work on a plan; when they are done, `irisgpu report FOLDER` \
             writes it from the products' folder"
                .into(),
        ));
    }
    let lines = night::read_lines(file)?;
    let plan = night::from_lines(&lines, &args.select.only, args.select.force)?;
    if args.dry_run {
        return super::plan::show(&plan, args.common.json);
    }
    let idle = is_idle(&plan);
    let _lock =
        if idle && !super::watch::was_in(&plan.output) { None } else { Some(Lock::share(&plan.output)?) };
    let log = Log::open(&args.common.log, Some(plan.output.as_path()).filter(|o| o.is_dir()));
    carry_out(&plan, &args.common, Work::Shared(file, &lines), &log).map(|(exit, _)| exit)
}

/// Leaves what became of each task of a plan's file for `status` and the report, as it
/// ends: the process may be killed before the next one does.
struct Noted<'a, W> {
    shown: W,
    output: &'a Path,
    /// What does a task of this plan, but for its name.
    command: &'a str,
    /// The tasks' lines.
    lines: &'a [Line],
}

impl<W: Watch> Watch for Noted<'_, W> {
    fn begins(&self, index: usize, task: &Task) {
        self.shown.begins(index, task);
    }

    fn progress(&self, index: usize, fraction: f64) {
        self.shown.progress(index, fraction);
    }

    fn ends(&self, index: usize, task: &Task, outcome: &Outcome) {
        self.shown.ends(index, task, outcome);
        // What waits for another task was not begun.
        let told = matches!(outcome.status, Status::Done(_) | Status::Failed(_));
        if task.waits || !told || !self.output.is_dir() {
            return;
        }
        // A task that is refused has no product to be known by.
        let id = self.lines.get(index).map_or(&task.name, |l| &l.id);
        let again = format!("{} --only {}", self.command, super::report::quoted(id));
        if let Err(e) = report::note(self.output, id, &summary::row(task, outcome, ""), &again) {
            print::note(&format!("{}: what became of it was not kept: {e}", task.name));
        }
    }
}

/// Where the products of a night go.
pub(super) fn output(folder: &Path, common: &Common) -> PathBuf {
    common.output.clone().unwrap_or_else(|| folder.join("reduced"))
}

/// Machines get a whole answer where there is nothing to reduce, too: what `json`
/// makes of an empty plan with the reason as its warning.
pub(super) fn or_empty<T>(
    planned: Result<T>,
    folder: &Path,
    common: &Common,
    json: impl FnOnce(&Plan) -> serde_json::Value,
) -> Result<T> {
    if let (Err(e @ Error::NothingToReduce(_)), true) = (&planned, common.json) {
        let output = output(folder, common);
        print::json(&json(&Plan { output, warnings: vec![e.to_string()], ..Plan::default() }))?;
    }
    planned
}

/// Scans and plans a night; also tells where its products go.
pub(super) fn planned(
    folder: &Path,
    common: &Common,
    select: &Select,
    families: &Families,
) -> Result<(Plan, PathBuf)> {
    let output = output(folder, common);
    let settings = options::settings(common, select, families, output.clone())?;
    refs::recall(&output.join(CHECKSUMS));
    let folders = options::reference_folders(&common.refs, folder.join("refs"));
    let (scan, by_hand) = scanned(folder, &folders, &output)?;
    let references = options::references(&folders, &common.masters, families, common.context.as_deref())?;
    if common.talk.verbose {
        scan.ignored.iter().for_each(|(name, why)| print::note(&format!("passed over {name}: {why}")));
    }
    let plan = night::plan(folder, &scan, &by_hand, &references, &settings).map_err(|e| match e {
        Error::NothingToReduce(why) => Error::NothingToReduce(format!("{}: {why}", folder.display())),
        other => other,
    })?;
    Ok((plan, output))
}

fn scanned(folder: &Path, references: &[PathBuf], output: &Path) -> Result<(Scan, ByHand)> {
    let skip: Vec<PathBuf> = references.iter().cloned().chain([output.to_path_buf()]).collect();
    let by_hand = ByHand::of_night(folder)?;
    let scan = night::scan(folder, &skip, &by_hand)?;
    Ok((scan, by_hand))
}

/// The plan of a night all of whose frames were left out, where products of theirs are to be
/// put aside; else there is nothing to reduce, and this is `why`.
fn without_frames(folder: &Path, args: &Reduce, families: &Families, why: String) -> Result<(Plan, PathBuf)> {
    let output = output(folder, &args.common);
    let settings = options::settings(&args.common, &args.select, families, output.clone())?;
    let folders = options::reference_folders(&args.common.refs, folder.join("refs"));
    let (scan, _) = scanned(folder, &folders, &output)?;
    let plan = night::of_no_frame(folder, &scan, &settings);
    match plan.filter(|plan| !night::orphans(plan, |_| false).is_empty()) {
        Some(plan) => Ok((Plan { warnings: vec![why], ..plan }, output)),
        None => Err(Error::NothingToReduce(why)),
    }
}

/// A night of which nothing can be computed needs no device and no folder.
pub(super) fn is_idle(plan: &Plan) -> bool {
    plan.tasks.iter().all(|t| !t.asked || t.up_to_date || t.job().is_none())
}

/// Who does a plan's tasks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work<'a> {
    /// This process alone.
    Own,
    /// Perhaps others at the same time, from this plan's file, whose lines these are: each
    /// task is claimed, and what became of it is kept beside the products.
    Shared(&'a Path, &'a [Line]),
}

/// Runs a plan and prints what became of it; also gives it as JSON.
pub(super) fn carry_out(
    plan: &Plan,
    common: &Common,
    work: Work<'_>,
    log: &Log,
) -> Result<(Exit, serde_json::Value)> {
    let (start, before) = (Instant::now(), profile::totals());
    if let Some(path) = &common.trace {
        print::spare(path)?;
        profile::trace(path)?;
    }
    log.plan(plan);
    let Ran { device, at_once, outcomes } = outcomes(plan, common, work, log)?;
    // What a watched night left as preliminary.
    let unsettled = match work {
        _ if !watch::was_in(&plan.output) => Vec::new(),
        Work::Shared(..) => night::settle_claimed(plan, &outcomes).1,
        Work::Own => night::settle(plan, &outcomes).1,
    };
    unsettled.iter().for_each(|e| print::note(&format!("{e}; it stays marked as preliminary")));
    let (aside, unmoved) = put_aside(plan, &outcomes, log);
    unmoved.iter().for_each(|e| print::note(&format!("{e}; it is not of the night any more")));
    if let Some(path) = &common.trace {
        profile::end_trace(path)?;
    }
    let summary = summary::Summary::new(plan, &outcomes, &device, start.elapsed().as_secs_f64())
        .with_times(&profile::since(&before), at_once)
        .with_aside(aside);
    log.event(Level::Info, "", &summary.verdict());
    if common.json {
        print::json(&summary.json())?;
    } else {
        print::out(&summary.to_string())?;
    }
    Ok((summary.exit(), summary.json()))
}

/// Puts aside what a whole night that ran does not make any more; a line in the log for
/// each. A night that was interrupted is left as it is.
pub(super) fn put_aside(plan: &Plan, outcomes: &[Outcome], log: &Log) -> (Vec<Orphan>, Vec<Error>) {
    if outcomes.iter().any(|o| o.status == Status::NotRun) {
        return Default::default();
    }
    let is_made =
        |i: usize| outcomes.get(i).is_some_and(|o| matches!(o.status, Status::Done(_) | Status::UpToDate(_)));
    let (moved, errors) = night::put_aside(plan, is_made);
    for orphan in &moved {
        log.event(Level::Warn, &orphan.file, &orphan.sentence());
    }
    errors.iter().for_each(|e| log.event(Level::Warn, "", &e.to_string()));
    (moved, errors)
}

/// A plan that ran.
pub(super) struct Ran {
    /// Engine and device.
    pub(super) device: String,
    /// Tasks at a time.
    at_once: usize,
    /// What became of each task.
    pub(super) outcomes: Vec<Outcome>,
}

/// Runs a plan, showing its progress.
pub(super) fn outcomes(plan: &Plan, common: &Common, work: Work<'_>, log: &Log) -> Result<Ran> {
    let stop = interrupt::stop();
    let options = options::engine(&common.engine)?;
    let to_do = plan.tasks.iter().filter(|t| t.asked && !t.up_to_date && t.job().is_some()).count();
    let mut crew = if to_do == 0 { Crew::nobody() } else { Crew::new(&options, to_do)? };
    if to_do > 0 {
        warn_of_no_gpu(&options, log);
    }
    let shown = progress::Progress::new(plan, common.talk.quiet);
    let watch = Logged { shown: &shown, log };
    let outcomes = match work {
        Work::Own => night::run(plan, &mut crew.all(), &watch, stop),
        Work::Shared(file, lines) => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
            let command = format!("irisgpu reduce --plan {}", super::report::quoted(&file.to_string_lossy()));
            let watch = Noted { shown: watch, output: &plan.output, command: &command, lines };
            let mut claiming: Vec<_> = crew.all().into_iter().map(night::Claiming).collect();
            let mut crew: Vec<_> = claiming.iter_mut().map(|c| c as &mut dyn Executor).collect();
            night::run(plan, &mut crew, &watch, stop)
        }
    };
    shown.finish();
    Ok(Ran { device: crew.name(), at_once: crew.size(), outcomes })
}
