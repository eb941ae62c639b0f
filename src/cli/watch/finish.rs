//! The end of a watched night.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::Watcher;
use super::status::Pulse;
use crate::cli::args::Level;
use crate::cli::engine::Crew;
use crate::cli::exit::Exit;
use crate::cli::log::Logged;
use crate::cli::reduce::put_aside;
use crate::cli::summary::Summary;
use crate::cli::{print, progress};
use crate::error::{Error, Result};
use crate::night::{self, Status};
use crate::pipeline::Job;

impl Watcher<'_> {
    /// The plan may be old, where the night could not be planned again lately: what it
    /// calls up to date is so only where the product is there.
    fn as_it_is(&mut self) {
        for task in self.plan.tasks.iter_mut().filter(|t| t.up_to_date) {
            let outputs = task.outputs();
            let made = |job: &Job| outputs.iter().all(|p| night::is_up_to_date(p, &job.plan_hash));
            task.up_to_date = task.job().is_some_and(made);
        }
        self.plan.warnings.extend(self.complaint.clone());
    }

    /// The end: everything that `reduce` would do, and nothing is preliminary any more.
    pub(super) fn settle(&mut self, stop: &AtomicBool) -> Result<Exit> {
        let (start, interrupted) = (Instant::now(), stop.load(Ordering::Relaxed));
        if !interrupted {
            self.voice.say(Level::Info, "", "nothing comes any more: one last pass over the night");
            self.post("settling", true);
            let found = night::list(&self.args.night, &self.skip(&self.folders()))?;
            self.plan = self.planned(found, false).map_err(|e| match e {
                Error::NothingToReduce(why) => {
                    Error::NothingToReduce(format!("{}: {why}", self.args.night.display()))
                }
                other => other,
            })?;
        }
        if interrupted {
            self.as_it_is();
        } else {
            night::bring_back(&mut self.plan);
        }
        let name = self.crew.name();
        let outcomes = if interrupted {
            night::run(
                &self.plan,
                &mut Crew::nobody().all(),
                &Pulse::new(Arc::clone(&self.board), "current"),
                stop,
            )
        } else {
            let shown = progress::Progress::new(&self.plan, true);
            let watch = Logged { shown: &shown, log: &self.voice.log };
            night::run(&self.plan, &mut self.crew.all(), &watch, stop)
        };
        if !self.args.quick && !interrupted {
            let (_, unsettled) = night::settle(&self.plan, &outcomes);
            for e in unsettled {
                self.voice.say(Level::Warn, "", &format!("{e}; it stays marked as preliminary"));
            }
        }
        let (aside, unmoved) = match interrupted {
            true => Default::default(),
            false => put_aside(&self.plan, &outcomes, &self.voice.log),
        };
        unmoved.iter().for_each(|e| self.voice.show(Level::Warn, "", &e.to_string()));
        for (task, outcome) in self.plan.tasks.iter_mut().zip(&outcomes) {
            task.up_to_date |= matches!(outcome.status, Status::Done(_));
            self.queue.ended(task, outcome, Instant::now());
        }
        self.post("stopped", true);
        let summary =
            Summary::new(&self.plan, &outcomes, &name, start.elapsed().as_secs_f64()).with_aside(aside);
        self.account.close(Some(&summary.json()), interrupted, &self.voice);
        if self.args.common.json {
            let mut json = summary.json();
            json["latency"] = self.latencies.json();
            print::json(&json)?;
        } else {
            print::out(&summary.to_string())?;
            if let Some(sentence) = self.latencies.sentence() {
                print::out(&format!("{sentence}\n"))?;
            }
        }
        if let Some(sentence) = self.latencies.sentence() {
            self.voice.log.event_with(
                Level::Info,
                "",
                &sentence,
                &json!({"latencies": self.latencies.json()}),
            );
        }
        Ok(if stop.load(Ordering::Relaxed) { Exit::Interrupted } else { summary.exit() })
    }
}
