//! What others read of a watched night while it goes on: the status file, and the report.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Watcher;
use crate::night::Action;
use crate::words::counted;

impl Watcher<'_> {
    /// Brings the status file up to date.
    pub(super) fn post(&self, state: &str, now: bool) {
        let (rows, counts) = self.rows();
        self.board.is_own(self.lock.is_held());
        self.board.set("state", state.into());
        if let Some(why) = &self.complaint {
            self.board.set("why", why.as_str().into());
        } else {
            self.board.set("why", Value::Null);
        }
        self.board.set("counts", json!(counts));
        self.board.set("exposures", rows.into());
        self.board.set("last", json!(self.products));
        self.board.set("latency", self.latencies.json());
        self.board.set("warnings", self.voice.warnings());
        self.board.write(now);
    }

    /// A row a task and a file on its way, and how many are in each state.
    fn rows(&self) -> (Vec<Value>, BTreeMap<&'static str, usize>) {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut rows = Vec::new();
        let arriving: BTreeMap<String, Option<u64>> =
            self.arrivals.arriving().map(|(path, lacks)| (self.name(path), lacks)).collect();
        // The last pass takes what is not whole as it is: it has a task then.
        let taken: BTreeSet<&String> = self.plan.tasks.iter().flat_map(|t| &t.files).collect();
        for (name, lacks) in arriving.iter().filter(|(name, _)| !taken.contains(name)) {
            *counts.entry("arriving").or_default() += 1;
            rows.push(json!({"name": name, "state": "arriving", "why": null, "missing_bytes": lacks}));
        }
        for task in &self.plan.tasks {
            let trouble = if task.up_to_date { None } else { self.queue.trouble(&self.plan, task) };
            let (state, why) = match (&task.action, trouble) {
                (Action::Refused(why), _) if task.waits => ("waiting", Some(why.clone())),
                (Action::Refused(why), _) => ("failed", Some(why.clone())),
                (Action::NoRecipe(why), _) => ("no recipe", Some((*why).to_owned())),
                (Action::Run(_), Some(why)) => ("failed", Some(why)),
                (Action::Run(job), _) if task.up_to_date && job.preliminary => ("preliminary", None),
                (Action::Run(_), _) if task.up_to_date => ("done", None),
                (Action::Run(_), _) => ("queued", None),
            };
            *counts.entry(state).or_default() += 1;
            let short = task.files.iter().find_map(|f| Some((f, arriving.get(f)?)));
            let why = why.or_else(|| {
                let (file, lacks) = short?;
                let bytes =
                    lacks.map_or(String::new(), |n| format!(" (it lacks {})", counted(n as usize, "byte")));
                Some(format!("{file} is not whole{bytes}: taken as far as it goes"))
            });
            rows.push(json!({
                "name": task.name,
                "obsname": task.obsname,
                "recipe": task.recipe,
                "state": state,
                "why": why,
                "missing_bytes": short.and_then(|s| *s.1),
                "product": task.product(),
                "latency": self.latencies.of(&task.name),
            }));
        }
        (rows, counts)
    }

    /// Brings the night's report up to date, where it is time to; `idle`: nothing else is to
    /// be done.
    pub(super) fn report(&mut self, idle: bool) {
        if self.account.is_due(idle) && self.lock.is_held() {
            let rows = self.rows().0;
            self.account.tell(&rows, &self.plan.warnings, &self.crew.name(), &self.voice);
        }
    }
}
