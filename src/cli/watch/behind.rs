//! The place behind the loop: what takes long is done there, one task at a time, while the
//! loop goes on with images and what they need.
//!
//! It has an executor and a thread pool of its own, of a lower priority where the system
//! knows that of threads (Linux): two cores are shared with what somebody waits for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::SystemTime;

use super::status::{Board, Pulse};
use crate::night::{self, Executor, Outcome, Plan, Status, Task};

/// How much nicer it is to others than the loop (10: about a tenth of a core that both
/// want).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// What is done behind.
#[derive(Default)]
pub(super) struct Behind(Option<(Task, JoinHandle<Returned>)>);

struct Returned {
    member: Box<dyn Executor>,
    outcome: Option<Outcome>,
    at: SystemTime,
}

/// A task that ended.
pub(super) struct Ended {
    pub(super) task: Task,
    pub(super) outcome: Outcome,
    /// When.
    pub(super) at: SystemTime,
    /// Who did it; none where that went down with it.
    pub(super) member: Option<Box<dyn Executor>>,
}

impl Behind {
    /// Whether something is being done.
    pub(super) fn is_busy(&self) -> bool {
        self.0.is_some()
    }

    /// Whether something waits to be taken.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|(_, thread)| thread.is_finished())
    }

    /// Begins a task: `one` is the plan that holds it alone. What is being done already
    /// must have been taken.
    pub(super) fn begin(
        &mut self,
        task: Task,
        one: Plan,
        mut member: Box<dyn Executor>,
        board: Arc<Board>,
        stop: &'static AtomicBool,
    ) {
        let threads = rayon::current_num_threads();
        let work = move || {
            // Threads inherit it.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::setpriority_process(None, NICE);
            let pulse = Pulse::new(board, "behind");
            let mut run = || night::run(&one, &mut [&mut *member], &pulse, stop).pop();
            let outcome = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
                Ok(pool) => pool.install(run),
                Err(_) => run(),
            };
            Returned { member, outcome, at: SystemTime::now() }
        };
        self.0 = Some((task, std::thread::spawn(work)));
    }

    /// What ended, once.
    pub(super) fn take(&mut self) -> Option<Ended> {
        let (task, thread) = self.0.take_if(|(_, thread)| thread.is_finished())?;
        let lost = || Outcome {
            status: Status::Failed("the thread that did it broke down: tell the makers of irisgpu".into()),
            seconds: 0.0,
            warnings: Vec::new(),
        };
        Some(match thread.join() {
            Ok(Returned { member, outcome, at }) => {
                Ended { task, outcome: outcome.unwrap_or_else(lost), at, member: Some(member) }
            }
            Err(_) => Ended { task, outcome: lost(), at: SystemTime::now(), member: None },
        })
    }
}
