//! A night: folders, exposures, what calibrates what, and what is up to date.
//!
//! [`scan()`] finds exposures, [`classify()`] says what each is for, [`plan()`] makes
//! tasks of them (each a [`Job`] with its references, or the sentence that says
//! why it cannot be one), [`run()`] gives the tasks to an [`Executor`] in order of
//! their needs. Nothing here knows an array: a night is planned and tested
//! without any engine.

mod arrivals;
mod assign;
mod before;
mod build;
mod by_hand;
mod check;
mod claim;
mod classify;
mod gather;
mod group;
mod lock;
mod pairs;
mod plan;
mod plan_file;
mod queue;
mod run;
mod scan;
mod settings;
mod settle;
mod stale;
mod state;
#[cfg(test)]
mod testing;
mod walk;

pub use arrivals::{Arrivals, News, Whole, whole};
pub use assign::{Assigned, Picked, assign, steps_that_need};
pub use build::Named;
pub use by_hand::ByHand;
#[cfg(any(test, fuzzing))]
pub(crate) use by_hand::parse as parse_notes;
pub use check::{Checked, check_file};
pub use claim::{Claiming, is_claimed};
pub use classify::{Class, LEGAL, classify, classify_meta};
pub use gather::References;
pub use lock::Lock;
pub use plan::{Action, Plan, Task, of_associations, of_files, of_no_frame, plan};
pub use plan_file::{Line, from_lines, from_text, lines, read_lines, to_text};
pub use queue::{Moment, Place, Queue, is_science};
pub use run::{Outcome, Status, Watch, run};
pub use scan::{Exposure, Problem, Scan, Seen, list, read_files, scan, scan_of};
pub use settings::{Recipes, Settings};
pub use settle::{settle, settle_claimed};
pub use stale::{Frames, Orphan, STALE, bring_back, orphans, put_aside, set_aside};
pub use state::{Stamp, is_up_to_date, plan_hash};
pub use walk::Found;

use crate::error::Result;
use crate::pipeline::{Done, Job};

/// Who carries jobs out: the pipeline on an engine, or a mock in tests.
pub trait Executor: Send {
    /// Does the job, telling `progress` the fraction done (0 to 1) now and then.
    fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done>;

    /// Engine and device, for tables.
    fn name(&self) -> String;

    /// Whether what computes does so as it should.
    fn self_test(&mut self) -> Result<()> {
        Ok(())
    }
}
