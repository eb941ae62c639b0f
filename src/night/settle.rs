//! The end of a night: what was preliminary is final.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::walk::fits_files;
use super::{Outcome, Plan, Status};
use crate::error::Error;
use crate::fits::{Fits, amend};

/// Takes the mark of preliminary products (IGPRELIM) from those of this plan that are as
/// planned, wherever they lie in the output folder; how many, and those of which it could
/// not be taken. Nothing but the mark changes.
pub fn settle(plan: &Plan, outcomes: &[Outcome]) -> (usize, Vec<Error>) {
    let ended = plan.tasks.iter().zip(outcomes);
    let as_planned = ended.filter(|(_, o)| matches!(o.status, Status::Done(_) | Status::UpToDate(_)));
    let plans: BTreeSet<&str> = as_planned.filter_map(|(t, _)| Some(t.job()?.plan_hash.as_str())).collect();
    let (mut n, mut errors) = (0, Vec::new());
    if plans.is_empty() {
        return (n, errors);
    }
    for path in marked(&plan.output, &plans) {
        match amend(&path, |header| header.remove("IGPRELIM")) {
            Ok(()) => n += 1,
            Err(e) => errors.push(e),
        }
    }
    (n, errors)
}

/// The products in a folder that bear the mark and were made by one of these plans.
fn marked(output: &Path, plans: &BTreeSet<&str>) -> Vec<PathBuf> {
    let mut files = fits_files(output, &[], &[]).map(|found| found.files).unwrap_or_default();
    files.retain(|path| {
        Fits::open(path).is_ok_and(|fits| {
            let header = fits.primary();
            header.logical("IGPRELIM") == Some(true)
                && header.text("IGPLAN").is_some_and(|plan| plans.contains(plan.as_str()))
        })
    });
    files
}
