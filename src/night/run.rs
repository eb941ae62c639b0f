//! Runs a plan: one task after the other, each failure its own.
//!
//! A failure, or a panic, is the failure of its task and of those that need its
//! product, which are named; the rest of the night goes on. When `stop` turns
//! true, the task in hand is finished and the others are left for the next run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
pub trait Watch {
    /// Task number `index` begins.
    fn begins(&self, index: usize, task: &Task);
    /// It is done to this fraction.
    fn progress(&self, fraction: f64);
    /// It ended.
    fn ends(&self, index: usize, task: &Task, outcome: &Outcome);
}

/// Runs the tasks; the outcomes are as many, in the same order.
pub fn run(plan: &Plan, executor: &mut dyn Executor, watch: &dyn Watch, stop: &AtomicBool) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(plan.tasks.len());
    for (index, task) in plan.tasks.iter().enumerate() {
        let start = Instant::now();
        let mut warnings = task.warnings.clone();
        let status = match &task.action {
            _ if !task.asked => Status::NotAsked,
            Action::NoRecipe(why) => Status::NoRecipe(why),
            Action::Refused(sentence) => Status::Failed(sentence.clone()),
            Action::Run(job) if task.up_to_date => {
                Status::UpToDate(job.product.clone().unwrap_or_else(|| job.output.clone()))
            }
            _ if stop.load(Ordering::Relaxed) => Status::NotRun,
            Action::Run(job) => match unmet(plan, task, &outcomes) {
                Some(status) => status,
                None => {
                    watch.begins(index, task);
                    let span = profile::span(Work::Task, task.name.clone());
                    let (status, more) = execute(job, executor, watch);
                    drop(span);
                    warnings.extend(more);
                    if status == Status::NotRun {
                        stop.store(true, Ordering::Relaxed);
                    }
                    status
                }
            },
        };
        let outcome = Outcome { status, seconds: start.elapsed().as_secs_f64(), warnings };
        watch.ends(index, task, &outcome);
        outcomes.push(outcome);
    }
    outcomes
}

/// How a task ends whose needs were not met.
fn unmet(plan: &Plan, task: &Task, outcomes: &[Outcome]) -> Option<Status> {
    for &need in &task.needs {
        match &outcomes.get(need)?.status {
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

fn execute(job: &Job, executor: &mut dyn Executor, watch: &dyn Watch) -> (Status, Vec<String>) {
    // An engine that panicked is used again: its buffers are made anew for each
    // exposure, and a night is worth more than the doubt.
    let result = catch_unwind(AssertUnwindSafe(|| executor.execute(job, &|f| watch.progress(f))));
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

    use super::super::testing::{Mock, frame, planned, reference, settings, write};
    use super::*;

    struct Nobody;
    impl Watch for Nobody {
        fn begins(&self, _: usize, _: &Task) {}
        fn progress(&self, _: f64) {}
        fn ends(&self, _: usize, _: &Task, _: &Outcome) {}
    }

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
        let outcomes = run(&plan, mock, &Nobody, &AtomicBool::new(false));
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
