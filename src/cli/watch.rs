//! `watch`: a night's frames reduced as they arrive (docs/watch.md).
//!
//! One loop: look at the folder, plan the night anew where it is another, do the one task
//! that matters most, look again; what takes long is done behind it. The planner, the tasks and what makes a product up to
//! date are those of `reduce`; at the end one pass does what `reduce` would.

mod account;
mod behind;
mod checks;
mod finish;
mod latency;
mod look;
mod notices;
mod screen;
mod status;
mod tell;
mod voice;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use self::account::Account;
use self::behind::{Behind, Ended};
use self::latency::Latencies;
use self::look::Beside;
use self::notices::Notices;
use self::screen::Screen;
use self::status::{Board, Pulse};
use self::voice::Voice;
use super::args::{self, Level, Select};
use super::engine::{Crew, warn_of_no_gpu};
use super::exit::Exit;
use super::families::Families;
use super::log::{Log, utc};
use super::{interrupt, options, reduce};
use crate::error::Result;
use crate::night::{
    self, Arrivals, Lock, Moment, Outcome, Place, Plan, Queue, References, Seen, Settings, Stamp, Status,
    Task,
};
use crate::profile;
use crate::refs;
use crate::words::counted;

/// After so long a file that is not whole is named.
const PATIENCE: Duration = Duration::from_secs(30);
/// Products and warnings kept in the status file.
const LAST: usize = 20;

/// Runs `watch`.
pub(super) fn watch(args: &args::Watch, families: &Families) -> Result<Exit> {
    let common = &args.common;
    let output = reduce::output(&args.night, common);
    let mut settings = options::settings(common, &Select::default(), families, output.clone())?;
    if args.quick {
        settings.recipes = night::Recipes::quick(&common.config, &families.steps)?;
    }
    let found = night::list(&args.night, std::slice::from_ref(&output))?;
    let lock = Lock::take(&output)?;
    let voice = Voice::new(Log::open(&common.log, Some(&output)), &common.talk);
    let (night, files) = (args.night.display(), counted(found.files.len(), "FITS file"));
    let (version, mode) = (env!("CARGO_PKG_VERSION"), if args.quick { "quick" } else { "full" });
    voice.say(Level::Info, "", &format!("irisgpu {version} watches {night} ({mode}): {files} in it"));
    checks::output(&output, &voice)?;
    let options = options::engine(&common.engine)?;
    let mut crew = Crew::new(&options, usize::MAX)?;
    warn_of_no_gpu(&options, &voice.log);
    checks::device(&mut crew, &voice)?;
    refs::recall(&output.join(reduce::CHECKSUMS));
    refs::keep(&output.join(reduce::CHECKSUMS));
    if let Some(path) = &common.trace {
        super::print::spare(path)?;
        profile::trace(path)?;
    }
    let board = Arc::new(Board::new(&output, &args.night, mode));
    board.set("device", crew.name().into());
    let screen = if args.ds9 { Screen::open(&voice) } else { None };
    let mut watcher = Watcher {
        args,
        families,
        lock,
        account: Account::new(&output, &settings.instrument),
        screen,
        settings,
        crew,
        notices: Notices::of(&args.night, &output, &voice),
        voice,
        board,
        arrivals: Arrivals::new(Duration::from_secs_f64(args.settle), PATIENCE),
        seen: Seen::default(),
        beside: None,
        references: References::default(),
        plan: Plan { output: output.clone(), ..Plan::default() },
        queue: Queue::default(),
        behind: Behind::default(),
        latencies: Latencies::default(),
        waited: BTreeSet::new(),
        products: VecDeque::new(),
        listing: Vec::new(),
        stirred: Instant::now(),
        busy: Instant::now(),
        complaint: None,
        tidy: false,
    };
    let ended = watcher.run(interrupt::stop());
    if ended.is_err() {
        watcher.account.close(None, true, &watcher.voice);
    }
    watcher.board.is_own(watcher.lock.is_held());
    watcher.board.set("state", "stopped".into());
    // What is still being done there ends with the process.
    watcher.board.set("behind", Value::Null);
    watcher.board.write(true);
    if let Some(path) = &common.trace {
        profile::end_trace(path)?;
    }
    ended
}

struct Watcher<'a> {
    args: &'a args::Watch,
    families: &'a Families,
    lock: Lock,
    settings: Settings,
    crew: Crew,
    voice: Voice,
    board: Arc<Board>,
    account: Account,
    screen: Option<Screen>,
    notices: Notices,
    arrivals: Arrivals,
    seen: Seen,
    /// What of the files beside the frames the references and the plan were made.
    beside: Option<Beside>,
    references: References,
    plan: Plan,
    queue: Queue,
    behind: Behind,
    latencies: Latencies,
    /// Exposures that have waited for a calibration.
    waited: BTreeSet<String>,
    /// The last products.
    products: VecDeque<Value>,
    listing: Vec<(PathBuf, Stamp)>,
    /// When something last came, went or grew.
    stirred: Instant,
    /// When something was last done.
    busy: Instant,
    /// Why the night cannot be looked at or planned, while that lasts.
    complaint: Option<String>,
    /// Whether what the plan does not make any more was put aside.
    tidy: bool,
}

impl Watcher<'_> {
    /// Until the night is over, or somebody stops it.
    fn run(&mut self, stop: &'static AtomicBool) -> Result<Exit> {
        while !stop.load(Ordering::Relaxed) {
            match self.look() {
                Ok(()) => self.complain(None),
                Err(e) => self.complain(Some(e.to_string())),
            }
            if let Some(ended) = self.behind.take() {
                self.ended_behind(ended);
            }
            self.report(false);
            let quiet = self.stirred.elapsed().as_secs_f64() >= self.args.quiet_time;
            self.begin_behind(quiet, stop);
            match self.next(self.place(), quiet) {
                Some(i) => self.reduce(i, stop),
                None => {
                    self.put_aside(quiet);
                    self.report(true);
                    let idle = self.stirred.max(self.busy).elapsed().as_secs_f64();
                    // Longer than a file may be whole before it is taken.
                    let least = self.args.settle + 2.0 * self.args.poll;
                    let over = self.args.until_idle.is_some_and(|limit| idle >= limit.max(least));
                    if over && self.complaint.is_none() && !self.behind.is_busy() {
                        break;
                    }
                    self.post(self.state(), false);
                    let wake = || stop.load(Ordering::Relaxed) || self.behind.is_over();
                    self.notices.wait(Duration::from_secs_f64(self.args.poll), wake);
                }
            }
        }
        self.settle(stop)
    }

    /// What it is at, while the loop does no task.
    fn state(&self) -> &'static str {
        match (&self.complaint, self.behind.is_busy()) {
            (Some(_), _) => "unreachable",
            (None, true) => "reducing",
            (None, false) => "watching",
        }
    }

    /// Where the loop's own tasks are done.
    fn place(&self) -> Place {
        if self.behind.is_busy() || self.crew.size() > 1 { Place::Front } else { Place::Only }
    }

    /// The task to do now in a place.
    fn next(&self, place: Place, quiet: bool) -> Option<usize> {
        if self.complaint.is_some() {
            return None;
        }
        let (now, arrivals) = (Instant::now(), &self.arrivals);
        let inputs = |t: &Task| t.job().map_or(Vec::new(), |job| job.inputs.clone());
        let when = |t: &Task| inputs(t).iter().filter_map(|i| arrivals.changed(i)).max();
        let is_young =
            |i: &PathBuf| arrivals.age(i, now).is_some_and(|age| age.as_secs_f64() < self.args.quiet_time);
        let is_still = |t: &Task| !inputs(t).iter().any(is_young);
        self.queue.next(&self.plan, place, &Moment { now, quiet, when: &when, is_still: &is_still })
    }

    /// Begins what takes long, where there is something and nobody is at such a task.
    fn begin_behind(&mut self, quiet: bool, stop: &'static AtomicBool) {
        if self.behind.is_busy() || self.place() == Place::Only {
            return;
        }
        let Some(i) = self.next(Place::Behind, quiet) else { return };
        let Some(member) = self.crew.lend() else { return };
        let task = self.plan.tasks[i].clone();
        self.queue.begun(&task);
        self.behind.begin(task, self.plan.only(i), member, Arc::clone(&self.board), stop);
        self.post(self.state(), true);
    }

    /// Takes in what was done behind. The plan may be another now.
    fn ended_behind(&mut self, ended: Ended) {
        let Ended { task, outcome, at, member } = ended;
        self.crew.take_back(member);
        self.ended(&task, &outcome, at);
    }

    /// When the night is quiet and nothing is left to be done: what it does not make any
    /// more, once for each plan.
    fn put_aside(&mut self, quiet: bool) {
        if !quiet || self.tidy || self.complaint.is_some() || self.behind.is_busy() {
            return;
        }
        self.tidy = true;
        let (moved, errors) = night::put_aside(&self.plan, |i| self.plan.tasks[i].up_to_date);
        for orphan in &moved {
            self.account.stale();
            self.voice.say(Level::Warn, &orphan.file, &orphan.sentence());
        }
        errors.iter().for_each(|e| self.voice.say(Level::Warn, "", &e.to_string()));
    }

    /// Says once that the night cannot be reached or planned, and once that it can again.
    fn complain(&mut self, complaint: Option<String>) {
        if complaint == self.complaint {
            return;
        }
        match &complaint {
            Some(why) => self.voice.say(Level::Error, "", &format!("{why}; waiting until that is mended")),
            None => self.voice.say(Level::Info, "", "the night can be read and planned again"),
        }
        self.complaint = complaint;
    }

    /// Does one task.
    fn reduce(&mut self, i: usize, stop: &AtomicBool) {
        self.post("reducing", true);
        let (task, one) = (self.plan.tasks[i].clone(), self.plan.only(i));
        self.queue.begun(&task);
        let pulse = Pulse::new(Arc::clone(&self.board), "current");
        let outcome = night::run(&one, &mut self.crew.one(), &pulse, stop).pop();
        if let Some(outcome) = outcome {
            self.ended(&task, &outcome, SystemTime::now());
        }
    }

    /// A task ended: it is told to the plan, the log, the report and whoever looks on.
    fn ended(&mut self, task: &Task, outcome: &Outcome, at: SystemTime) {
        self.board.set("device", self.crew.name().into());
        self.busy = Instant::now();
        self.queue.ended(task, outcome, self.busy);
        let hash = |t: &Task| t.job().map(|job| job.plan_hash.clone());
        let mut same =
            self.plan.tasks.iter_mut().filter(|t| t.product() == task.product() && hash(t) == hash(task));
        if let Some(planned) = same.next() {
            planned.up_to_date = matches!(outcome.status, Status::Done(_));
        }
        self.account.ended(task, outcome);
        let latency = self.latency(task, outcome, at);
        self.voice.log.ended(task, outcome, latency.map_or(Value::Null, |s| json!({"latency": s})));
        match &outcome.status {
            Status::Done(_) => {
                for warning in &outcome.warnings {
                    self.voice.show(Level::Warn, &task.name, warning);
                }
                let after = latency.map_or(String::new(), |s| format!(", {s:.1} s after it was whole"));
                let message = format!("{} in {:.2} s{after}", task.recipe, outcome.seconds);
                self.voice.show(Level::Info, &task.name, &message);
                self.products.push_back(json!({
                    "name": task.name,
                    "recipe": task.recipe,
                    "product": task.product(),
                    "time": utc(at),
                    "seconds": outcome.seconds,
                    "latency": latency,
                }));
                while self.products.len() > LAST {
                    self.products.pop_front();
                }
                let product = task.product().filter(|_| night::is_science(task));
                if let (Some(screen), Some(product)) = (&self.screen, product) {
                    screen.show(product);
                    screen.listen(&self.voice);
                }
            }
            Status::Failed(why) => self.voice.show(Level::Error, &task.name, why),
            _ => {}
        }
        self.post(self.state(), true);
    }

    /// Seconds from whole files to the first product of science.
    fn latency(&mut self, task: &Task, outcome: &Outcome, at: SystemTime) -> Option<f64> {
        if !(matches!(outcome.status, Status::Done(_)) && night::is_science(task)) {
            return None;
        }
        let inputs = &task.job()?.inputs;
        let completed = inputs.iter().filter_map(|i| self.arrivals.completed(i)).max()?;
        let waited = self.waited.contains(&task.name);
        self.latencies.note(&task.name, completed, at, waited)
    }
}

/// Whether the products in a folder are those of a night that was watched.
pub(super) fn was_in(output: &Path) -> bool {
    output.join(status::NAME).is_file()
}
