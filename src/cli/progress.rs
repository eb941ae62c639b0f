//! What is seen on stderr while a plan runs: bars on a terminal, else a line for
//! each task when it ends, and one every half minute while it lasts.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::print::note;
use super::summary::{about, word};
use crate::night::{Outcome, Plan, Status, Task, Watch};

const HEARTBEAT: Duration = Duration::from_secs(30);

/// Watches a run for the user.
pub(super) struct Progress {
    quiet: bool,
    bars: Option<Bars>,
    total: usize,
    ended: Cell<usize>,
    current: RefCell<String>,
    spoke: Cell<Instant>,
}

struct Bars {
    all: ProgressBar,
    task: ProgressBar,
}

impl Progress {
    pub(super) fn new(plan: &Plan, quiet: bool) -> Progress {
        let total = plan.tasks.iter().filter(|t| t.asked).count();
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| Bars::new(total));
        Progress {
            quiet,
            bars,
            total,
            ended: Cell::new(0),
            current: RefCell::default(),
            spoke: Cell::new(Instant::now()),
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.task.finish_and_clear();
            bars.all.finish_and_clear();
        }
    }
}

impl Bars {
    fn new(total: usize) -> Bars {
        let multi = MultiProgress::new();
        let style = |template: &str| {
            // The templates are constants; a default bar stands in for a wrong one.
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let task = multi.add(ProgressBar::new(1000));
        task.set_style(style("  {bar:30} {percent:>3} %  {wide_msg}"));
        let all = multi.add(ProgressBar::new(total as u64));
        all.set_style(style("  {bar:30} {pos}/{len}  {elapsed_precise}, {eta} to go"));
        Bars { all, task }
    }
}

impl Watch for Progress {
    fn begins(&self, _: usize, task: &Task) {
        let name = format!("{}  {}", task.recipe, task.name);
        if let Some(bars) = &self.bars {
            bars.task.set_position(0);
            bars.task.set_message(name.clone());
        }
        self.current.replace(name);
        self.spoke.set(Instant::now());
    }

    fn progress(&self, fraction: f64) {
        if let Some(bars) = &self.bars {
            bars.task.set_position((fraction.clamp(0.0, 1.0) * 1000.0) as u64);
        } else if !self.quiet && self.spoke.get().elapsed() >= HEARTBEAT {
            self.spoke.set(Instant::now());
            note(&format!("        {}  {:.0} %", self.current.borrow(), fraction * 100.0));
        }
    }

    fn ends(&self, _: usize, task: &Task, outcome: &Outcome) {
        if outcome.status == Status::NotAsked {
            return;
        }
        self.ended.set(self.ended.get() + 1);
        if let Some(bars) = &self.bars {
            bars.all.set_position(self.ended.get() as u64);
        }
        let line = match &outcome.status {
            Status::Failed(sentence) => about(&task.name, sentence),
            _ if self.quiet || self.bars.is_some() => return,
            Status::Done(_) => format!("{}  {}  {:.2} s", task.recipe, task.name, outcome.seconds),
            other => format!("{}  {}  {}", task.recipe, task.name, word(other)),
        };
        let line = format!("{:>3}/{}  {}", self.ended.get(), self.total, line.trim_start());
        match &self.bars {
            Some(bars) => bars.all.suspend(|| note(&line)),
            None => note(&line),
        }
    }
}
