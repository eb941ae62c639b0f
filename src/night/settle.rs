//! The end of a night: what was preliminary is final.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::claim::open_claim;
use super::walk::fits_files;
use super::{Outcome, Plan, Status, Task};
use crate::error::Error;
use crate::fits::{Fits, amend};

/// Takes the mark of preliminary products (IGPRELIM) from those of this plan that are as
/// planned, wherever they lie in the output folder; how many, and those of which it could
/// not be taken. Nothing but the mark changes.
pub fn settle(plan: &Plan, outcomes: &[Outcome]) -> (usize, Vec<Error>) {
    let plans: BTreeSet<&str> =
        as_planned(plan, outcomes).filter_map(|t| Some(t.job()?.plan_hash.as_str())).collect();
    if plans.is_empty() {
        return (0, Vec::new());
    }
    let files = fits_files(&plan.output, &[], &[]).map(|found| found.files).unwrap_or_default();
    unmark(&marked(files, &plans))
}

/// The same of the tasks' own products alone, each under the claim to its task: for
/// processes that share the folder.
pub fn settle_claimed(plan: &Plan, outcomes: &[Outcome]) -> (usize, Vec<Error>) {
    let (mut n, mut errors) = (0, Vec::new());
    for task in as_planned(plan, outcomes) {
        let Some((job, product)) = task.job().zip(task.product()) else { continue };
        let plans = BTreeSet::from([job.plan_hash.as_str()]);
        if marked(task.outputs(), &plans).is_empty() {
            continue;
        }
        // Some network file systems have no locks; working beats refusing.
        let claim = open_claim(&plan.output, product).inspect(|file| drop(file.lock()));
        // Whoever had the claim may have taken the mark.
        let (more, errors_of_it) = unmark(&marked(task.outputs(), &plans));
        n += more;
        errors.extend(claim.err().into_iter().chain(errors_of_it));
    }
    (n, errors)
}

fn as_planned<'a>(plan: &'a Plan, outcomes: &'a [Outcome]) -> impl Iterator<Item = &'a Task> {
    let ended = plan.tasks.iter().zip(outcomes);
    ended.filter(|(_, o)| matches!(o.status, Status::Done(_) | Status::UpToDate(_))).map(|(t, _)| t)
}

fn unmark(files: &[PathBuf]) -> (usize, Vec<Error>) {
    let (mut n, mut errors) = (0, Vec::new());
    for path in files {
        match amend(path, |header| header.remove("IGPRELIM")) {
            Ok(()) => n += 1,
            Err(e) => errors.push(e),
        }
    }
    (n, errors)
}

/// The products that bear the mark and were made by one of these plans.
fn marked(mut files: Vec<PathBuf>, plans: &BTreeSet<&str>) -> Vec<PathBuf> {
    files.retain(|path| {
        Fits::open(path).is_ok_and(|fits| {
            let header = fits.primary();
            header.logical("IGPRELIM") == Some(true)
                && header.text("IGPLAN").is_some_and(|plan| plans.contains(plan.as_str()))
        })
    });
    files
}
