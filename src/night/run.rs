//! Runs a plan: each task when what it needs is there, each failure its own.
//!
//! A failure, or a panic, is the failure of its task and of those that need its
//! product, which are named; the rest of the night goes on. When `stop` turns
//! true, the tasks in hand are finished and the others are left for the next run.
//!
//! Several at a time keep the cores, the disk and the device busy at once: while one is
//! written another is read. What a task makes does not depend on what is done beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Action, Executor, Plan, Task};
use crate::error::Error;
use crate::pipeline::Job;
use crate::profile::{self, Work};

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Done; the products, the planned one last.
    Done(Vec<PathBuf>),
    /// Its product was there already.
    UpToDate(PathBuf),
    /// Nothing reduces this yet; why, as a phrase.
    NoRecipe(&'static str),
    /// It failed, as a sentence.
    Failed(String),
    /// The run was stopped before it.
    NotRun,
    /// `--only` left it out.
    NotAsked,
}

/// What became of a task (in the plan's order).
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Seconds it took.
    pub seconds: f64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Who watches a run: bars, lines, or nobody.
pub trait Watch: Sync {
    /// Task number `index` begins.
    fn begins(&self, index: usize, task: &Task);
    /// It is done to this fraction.
    fn progress(&self, index: usize, fraction: f64);
    /// It ended, or was never begun.
    fn ends(&self, index: usize, task: &Task, outcome: &Outcome);
}

/// Runs the tasks, as many at a time as `crew` has members: each takes the first task,
/// in the plan's order, whose needs have ended. One member does them in that order. The
/// outcomes are as many as the tasks, in the plan's order.
pub fn run(
    plan: &Plan,
    crew: &mut [&mut dyn Executor],
    watch: &dyn Watch,
    stop: &AtomicBool,
) -> Vec<Outcome> {
    let state = State { begun: vec![false; plan.tasks.len()], outcomes: vec![None; plan.tasks.len()] };
    let desk = Desk { plan, watch, stop, state: Mutex::new(state), ended: Condvar::new() };
    if let Some((first, others)) = crew.split_first_mut() {
        std::thread::scope(|scope| {
            others.iter_mut().for_each(|member| drop(scope.spawn(|| desk.work(&mut **member))));
            desk.work(&mut **first);
        });
    }
    let not_run = |t: &Task| Outcome { status: Status::NotRun, seconds: 0.0, warnings: t.warnings.clone() };
    let outcomes = desk.state.into_inner().unwrap_or_else(PoisonError::into_inner).outcomes;
    plan.tasks.iter().zip(outcomes).map(|(t, o)| o.unwrap_or_else(|| not_run(t))).collect()
}

/// Where the members of a crew find their tasks.
struct Desk<'a> {
    plan: &'a Plan,
    watch: &'a dyn Watch,
    stop: &'a AtomicBool,
    state: Mutex<State>,
    /// A task has ended; others may be ready.
    ended: Condvar,
}

/// By task.
struct State {
    begun: Vec<bool>,
    outcomes: Vec<Option<Outcome>>,
}

impl Desk<'_> {
    /// One task after the other, until none is left.
    fn work(&self, executor: &mut dyn Executor) {
        while let Some((index, unmet)) = self.next() {
            let task = &self.plan.tasks[index];
            let outcome = self.one(index, task, unmet, executor);
            self.watch.ends(index, task, &outcome);
            self.lock().outcomes[index] = Some(outcome);
            self.ended.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task, and how it ends where its needs were not met. Waits while all that
    /// are left need one that somebody is at.
    fn next(&self) -> Option<(usize, Option<Status>)> {
        let mut state = self.lock();
        loop {
            // A plan of one task of many may name needs that it does not hold.
            let over = |n: &usize| state.outcomes.get(*n).is_none_or(Option::is_some);
            let ready = |i: &usize| !state.begun[*i] && self.plan.tasks[*i].needs.iter().all(over);
            if let Some(index) = (0..state.begun.len()).find(ready) {
                let unmet = unmet(self.plan, &self.plan.tasks[index], &state.outcomes);
                state.begun[index] = true;
                return Some((index, unmet));
            }
            if state.begun.iter().all(|b| *b) {
                return None;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn one(&self, index: usize, task: &Task, unmet: Option<Status>, executor: &mut dyn Executor) -> Outcome {
        let start = Instant::now();
        let mut warnings = task.warnings.clone();
        let status = match (&task.action, unmet) {
            _ if !task.asked => Status::NotAsked,
            (Action::NoRecipe(why), _) => Status::NoRecipe(why),
            (Action::Refused(sentence), _) => Status::Failed(sentence.clone()),
            (Action::Run(job), _) if task.up_to_date => {
                Status::UpToDate(job.product.clone().unwrap_or_else(|| job.output.clone()))
            }
            _ if self.stop.load(Ordering::Relaxed) => Status::NotRun,
            (_, Some(status)) => status,
            (Action::Run(job), None) => {
                self.watch.begins(index, task);
                let span = profile::span(Work::Task, task.name.clone());
                let (status, more) = execute(job, executor, &|f| self.watch.progress(index, f));
                drop(span);
                warnings.extend(more);
                if status == Status::NotRun {
                    self.stop.store(true, Ordering::Relaxed);
                }
                status
            }
        };
        Outcome { status, seconds: start.elapsed().as_secs_f64(), warnings }
    }
}

/// How a task ends whose needs were not met.
fn unmet(plan: &Plan, task: &Task, outcomes: &[Option<Outcome>]) -> Option<Status> {
    for &need in &task.needs {
        match &outcomes.get(need)?.as_ref()?.status {
            Status::Done(_) | Status::UpToDate(_) => {}
            Status::NotRun => return Some(Status::NotRun),
            _ => {
                let name = &plan.tasks.get(need)?.name;
                return Some(Status::Failed(format!("needs '{name}', which failed")));
            }
        }
    }
    None
}

fn execute(job: &Job, executor: &mut dyn Executor, progress: &dyn Fn(f64)) -> (Status, Vec<String>) {
    // An engine that panicked is used again: its buffers are made anew for each
    // exposure, and a night is worth more than the doubt.
    let result = catch_unwind(AssertUnwindSafe(|| executor.execute(job, progress)));
    let done = match result {
        Ok(Ok(done)) => done,
        Ok(Err(Error::Interrupted)) => return (Status::NotRun, Vec::new()),
        Ok(Err(e)) => return (Status::Failed(e.to_string()), Vec::new()),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let sentence = format!("a fault in irisgpu itself ({said}); please report it with this file");
            return (Status::Failed(sentence), Vec::new());
        }
    };
    match &job.product {
        Some(product) if !product.exists() => {
            (Status::Failed(format!("{} was not written", product.display())), done.warnings)
        }
        _ => (Status::Done(done.products), done.warnings),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{Mock, Nobody, frame, planned, reference, settings, write};
    use super::*;

    fn night(dir: &Path) {
        for (name, obsname, n) in [
            ("d1", "IMG1-DRK", 1),
            ("d2", "IMG1-DRK", 2),
            ("f1", "IMG1-NFF", 3),
            ("k1", "IMG1-SKY", 4),
            ("s1", "IMG1-SCI", 5),
            ("s2", "IMG1-SCI", 6),
            ("l1", "SLI-SCI", 7),
        ] {
            write(&dir.join(format!("{name}.fits")), &frame(obsname, n));
        }
    }

    fn go(dir: &Path, mock: &mut Mock) -> (Plan, Vec<Outcome>) {
        let plan = planned(dir, &settings(dir));
        let outcomes = run(&plan, &mut [mock], &Nobody, &AtomicBool::new(false));
        (plan, outcomes)
    }

    fn stems(outcomes: &[Outcome], what: impl Fn(&Status) -> bool) -> usize {
        outcomes.iter().filter(|o| what(&o.status)).count()
    }

    fn failed(s: &Status) -> bool {
        matches!(s, Status::Failed(_))
    }

    #[test]
    fn a_night_runs_in_order_and_the_second_time_not_at_all() {
        let dir = tempfile::tempdir().expect("temp dir");
        night(dir.path());
        let mut mock = Mock::default();
        let (_, outcomes) = go(dir.path(), &mut mock);
        let recipes: Vec<_> = mock.jobs.iter().map(|j| j.recipe.name.as_str()).collect();
        assert_eq!(recipes, ["dark", "flat", "sky", "imager", "imager"]);
        let job = &mock.jobs[3];
        for reftype in ["dark", "flat", "sky"] {
            assert!(job.references[reftype].starts_with(&job.masters), "{reftype}");
        }
        assert_eq!(stems(&outcomes, |s| matches!(s, Status::NoRecipe(_))), 1);
        assert!(outcomes.iter().any(|o| o.warnings.contains(&"as expected".to_owned())));
        let mut again = Mock::default();
        let (_, outcomes) = go(dir.path(), &mut again);
        assert!(again.jobs.is_empty());
        assert_eq!(stems(&outcomes, |s| matches!(s, Status::UpToDate(_))), 5);
        // A new flat makes the flat, and what is divided by it, again (the sky frames,
        // too); not the dark.
        write(&dir.path().join("f2.fits"), &frame("IMG1-NFF", 9));
        go(dir.path(), &mut again);
        let recipes: Vec<_> = again.jobs.iter().map(|j| j.recipe.name.as_str()).collect();
        assert_eq!(recipes, ["flat", "sky", "imager", "imager"]);
    }

    #[test]
    fn a_crew_does_each_task_once_and_after_what_it_needs() {
        let dir = tempfile::tempdir().expect("temp dir");
        night(dir.path());
        for i in 8..40 {
            write(&dir.path().join(format!("s{i}.fits")), &frame("IMG1-SCI", i));
        }
        let plan = planned(dir.path(), &settings(dir.path()));
        let mut mocks: Vec<Mock> = (0..4).map(|_| Mock::default()).collect();
        let mut crew: Vec<&mut dyn Executor> = mocks.iter_mut().map(|m| m as &mut dyn Executor).collect();
        let outcomes = run(&plan, &mut crew, &Nobody, &AtomicBool::new(false));
        let mut done: Vec<_> = mocks.iter().flat_map(|m| &m.jobs).map(|j| j.product.clone()).collect();
        done.sort();
        done.dedup();
        assert_eq!(done.len(), mocks.iter().map(|m| m.jobs.len()).sum::<usize>());
        assert_eq!(stems(&outcomes, |s| matches!(s, Status::Done(_))), plan.tasks.len() - 1);
        assert_eq!(stems(&outcomes, |s| matches!(s, Status::NoRecipe(_))), 1);
        // What fails takes with it what needs it, whoever is at it.
        std::fs::remove_dir_all(dir.path().join("reduced")).expect("remove");
        let mut mocks: Vec<Mock> = (0..4).map(|_| Mock::default()).collect();
        for mock in &mut mocks {
            mock.mishaps.insert("f1".into(), "panic");
        }
        let mut crew: Vec<&mut dyn Executor> = mocks.iter_mut().map(|m| m as &mut dyn Executor).collect();
        let plan = planned(dir.path(), &settings(dir.path()));
        let outcomes = run(&plan, &mut crew, &Nobody, &AtomicBool::new(false));
        assert_eq!(stems(&outcomes, |s| matches!(s, Status::Done(_))), 1);
        assert_eq!(stems(&outcomes, failed), plan.tasks.len() - 2);
    }

    #[test]
    fn one_failure_is_not_anothers() {
        let dir = tempfile::tempdir().expect("temp dir");
        night(dir.path());
        for (stem, mishap, failures) in [
            ("s1", "is bad", 1),
            ("s1", "panic", 1),
            ("s2", "nothing", 1),
            ("f1", "is bad", 4),
            ("d2", "panic", 5),
        ] {
            let _ = std::fs::remove_dir_all(dir.path().join("reduced"));
            let mut mock = Mock::default();
            mock.mishaps.insert(stem.into(), mishap);
            let (_, outcomes) = go(dir.path(), &mut mock);
            assert_eq!(stems(&outcomes, failed), failures, "{stem} {mishap}");
            if stem == "f1" {
                let sentence = outcomes.iter().find_map(|o| match &o.status {
                    Status::Failed(s) if s.contains("needs") => Some(s.clone()),
                    _ => None,
                });
                assert_eq!(sentence.as_deref(), Some("needs 'flat IMG1 K', which failed"));
            }
        }
    }

    #[test]
    fn an_interrupt_leaves_the_rest_for_the_next_run() {
        let dir = tempfile::tempdir().expect("temp dir");
        night(dir.path());
        let mut mock = Mock::default();
        mock.mishaps.insert("k1".into(), "interrupt");
        let (_, outcomes) = go(dir.path(), &mut mock);
        assert_eq!(stems(&outcomes, |s| *s == Status::NotRun), 3);
        assert_eq!(stems(&outcomes, failed), 0);
        let mut again = Mock::default();
        go(dir.path(), &mut again);
        assert_eq!(again.jobs.len(), 3);
    }

    #[test]
    fn a_rate_that_is_gone_or_half_is_made_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        night(dir.path());
        go(dir.path(), &mut Mock::default());
        let rate = dir.path().join("reduced/2032A-P001-001_IRIS_IMG1_SCI_LVL1_0005.fits");
        let whole = std::fs::read(&rate).expect("a rate");
        std::fs::remove_file(&rate).expect("remove");
        for _ in 0..2 {
            let mut mock = Mock::default();
            go(dir.path(), &mut mock);
            let made: Vec<_> = mock.jobs.iter().map(|j| j.inputs[0].file_stem().expect("stem")).collect();
            assert_eq!(made, ["s1"]);
            assert_eq!(std::fs::read(&rate).expect("made again").len(), whole.len());
            std::fs::write(&rate, &whole[..whole.len() - 2880]).expect("cut");
        }
    }

    #[test]
    fn a_moved_night_is_still_done() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        night(&here);
        write(&here.join("refs/gain.fits"), &reference("GAIN", "IMG1"));
        go(&here, &mut Mock::default());
        std::fs::rename(&here, &there).expect("move");
        let mut mock = Mock::default();
        go(&there, &mut mock);
        assert!(mock.jobs.is_empty());
        write(&there.join("refs/gain.fits"), &reference("gain", "IMG1"));
        go(&there, &mut mock);
        assert_eq!(mock.jobs.len(), 5);
    }
}
