//! One process at a time does a task, where many do the tasks of one plan.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::{Executor, is_up_to_date};
use crate::error::{Error, Result};
use crate::pipeline::{Done, Job};

/// In the folder of products: a file a task that was begun.
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
pub(super) fn open_claim(output: &Path, product: &Path) -> Result<File> {
    let (folder, path) = (output.join(FOLDER), lock(output, product));
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
    let Ok(file) = File::open(lock(output, product)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The file of a claim.
fn lock(output: &Path, product: &Path) -> PathBuf {
    let stem = product.file_stem().unwrap_or_default().to_string_lossy();
    output.join(FOLDER).join(format!("{stem}.lock"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::testing::{Mock, Nobody, frame, planned, settings, write};
    use super::super::{Plan, Status, run};
    use super::*;

    #[test]
    fn a_claim_ends_with_its_task_however_that_ends() {
        let dir = tempfile::tempdir().expect("temp dir");
        write(&dir.path().join("d1.fits"), &frame("IMG1-DRK", 1));
        let plan: Plan = planned(dir.path(), &settings(dir.path()));
        let product = plan.tasks[0].product().expect("a product").to_path_buf();
        for mishap in ["panic", "is bad", "interrupt"] {
            let mut mock = Mock::default();
            mock.mishaps.insert("d1".into(), mishap);
            let outcome =
                run(&plan, &mut [&mut Claiming(&mut mock)], &Nobody, &AtomicBool::new(false)).remove(0);
            assert!(!matches!(outcome.status, Status::Done(_)), "{mishap}");
            assert!(!is_claimed(&plan.output, &product), "{mishap}");
        }
        let claim = open_claim(&plan.output, &product).expect("claim");
        claim.lock().expect("lock");
        assert!(is_claimed(&plan.output, &product));
        drop(claim);
        let outcome =
            run(&plan, &mut [&mut Claiming(&mut Mock::default())], &Nobody, &AtomicBool::new(false))
                .remove(0);
        assert!(matches!(outcome.status, Status::Done(_)));
        assert!(!is_claimed(&plan.output, &product));
    }
}
