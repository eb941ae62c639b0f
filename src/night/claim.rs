//! One process at a time does a task, where many do the tasks of one plan.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Executor, Outcome, Plan, Status, is_up_to_date};
use crate::error::{Error, Result};
use crate::pipeline::{Done, Job};

/// In the folder of products: a file a task that was begun, and the sentence of each that
/// failed.
const FOLDER: &str = ".irisgpu-tasks";

/// An executor that waits while another process does the same task, and then has nothing
/// to do.
pub struct Claiming<'a>(pub &'a mut dyn Executor);

impl Executor for Claiming<'_> {
    fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let Some(product) = &job.product else { return self.0.execute(job, progress) };
        let claim = open_claim(&job.output, product)?;
        if claim.try_lock().is_err() {
            // Some network file systems have no locks; working beats refusing.
            let _ = claim.lock();
            if is_up_to_date(product, &job.plan_hash) {
                return Ok(Done { products: vec![product.clone()], warnings: Vec::new() });
            }
        }
        self.0.execute(job, progress)
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

/// The file whose lock is the claim to a product's task.
fn open_claim(output: &Path, product: &Path) -> Result<File> {
    let (folder, path) = (output.join(FOLDER), marker(output, product, "lock"));
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("create", &path))
}

/// Whether a process is at the task of this product now.
pub fn is_claimed(output: &Path, product: &Path) -> bool {
    let Ok(file) = File::open(marker(output, product, "lock")) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// Notes for `status` which tasks failed and why, and of those done that they did not.
pub fn note(plan: &Plan, outcomes: &[Outcome]) -> Result<()> {
    for (task, outcome) in plan.tasks.iter().zip(outcomes) {
        let Some(product) = task.product() else { continue };
        let path = marker(&plan.output, product, "failed");
        let noted = match &outcome.status {
            Status::Failed(why) => std::fs::write(&path, why),
            Status::Done(_) => std::fs::remove_file(&path),
            _ => Ok(()),
        };
        if let Err(e) = noted
            && e.kind() != ErrorKind::NotFound
        {
            return Err(Error::io("write", &path)(e));
        }
    }
    Ok(())
}

/// The sentence of the last failure of the task of this product.
pub fn failure(output: &Path, product: &Path) -> Option<String> {
    std::fs::read_to_string(marker(output, product, "failed")).ok()
}

fn marker(output: &Path, product: &Path, kind: &str) -> PathBuf {
    let stem = product.file_stem().unwrap_or_default().to_string_lossy();
    output.join(FOLDER).join(format!("{stem}.{kind}"))
}
