//! What is seen on stderr while a plan runs: bars on a terminal, else a line for
//! each task when it ends, and one every half minute while it lasts.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::print::note;
use super::summary::{about, word};
use crate::night::{Outcome, Plan, Status, Task, Watch};
use crate::words::printable;

const HEARTBEAT: Duration = Duration::from_secs(30);

/// Watches a run for the user.
pub(super) struct Progress {
    quiet: bool,
    bars: Option<Bars>,
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: usize,
    /// What runs, by the task's number.
    running: BTreeMap<usize, Running>,
}

struct Running {
    name: String,
    bar: Option<ProgressBar>,
    spoke: Instant,
}

/// A bar of the whole, and above it one of each task that runs.
struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
}

impl Progress {
    pub(super) fn new(plan: &Plan, quiet: bool) -> Progress {
        let total = plan.tasks.iter().filter(|t| t.asked).count();
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| Bars::new(total));
        Progress { quiet, bars, total, state: Mutex::default() }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.all.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bars {
    fn new(total: usize) -> Bars {
        let multi = MultiProgress::new();
        let all = multi.add(ProgressBar::new(total as u64));
        all.set_style(style("  {bar:30} {pos}/{len}  {elapsed_precise}, {eta} to go"));
        Bars { multi, all }
    }

    fn of_task(&self, name: &str) -> ProgressBar {
        let bar = self.multi.insert_before(&self.all, ProgressBar::new(1000));
        bar.set_style(style("  {bar:30} {percent:>3} %  {wide_msg}"));
        bar.set_message(printable(name).into_owned());
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a default bar stands in for a wrong one.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Watch for Progress {
    fn begins(&self, index: usize, task: &Task) {
        let name = format!("{}  {}", task.recipe, task.name);
        let bar = self.bars.as_ref().map(|bars| bars.of_task(&name));
        self.lock().running.insert(index, Running { name, bar, spoke: Instant::now() });
    }

    fn progress(&self, index: usize, fraction: f64) {
        let mut state = self.lock();
        let Some(task) = state.running.get_mut(&index) else { return };
        if let Some(bar) = &task.bar {
            bar.set_position((fraction.clamp(0.0, 1.0) * 1000.0) as u64);
        } else if !self.quiet && task.spoke.elapsed() >= HEARTBEAT {
            task.spoke = Instant::now();
            note(&format!("        {}  {:.0} %", task.name, fraction * 100.0));
        }
    }

    fn ends(&self, index: usize, task: &Task, outcome: &Outcome) {
        let mut state = self.lock();
        if let Some(Running { bar: Some(bar), .. }) = state.running.remove(&index) {
            bar.finish_and_clear();
        }
        if outcome.status == Status::NotAsked {
            return;
        }
        state.ended += 1;
        if let Some(bars) = &self.bars {
            bars.all.set_position(state.ended as u64);
        }
        let line = match &outcome.status {
            Status::Failed(sentence) => about(&task.name, sentence),
            _ if self.quiet || self.bars.is_some() => return,
            Status::Done(_) => format!("{}  {}  {:.2} s", task.recipe, task.name, outcome.seconds),
            other => format!("{}  {}  {}", task.recipe, task.name, word(other)),
        };
        let line = format!("{:>3}/{}  {}", state.ended, self.total, line.trim_start());
        match &self.bars {
            Some(bars) => bars.multi.suspend(|| note(&line)),
            None => note(&line),
        }
    }
}
