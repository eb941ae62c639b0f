//! What a watched night does next.
//!
//! 1. Science of which there is no product yet, or that came again since, the newest
//!    first, each after what it needs: somebody is looking at the screen.
//! 2. When no frame has come for a while (the caller says so): science that has a better
//!    calibration now, the newest first; then masters that nobody waits for yet. While
//!    darks come one after the other, their master is so made once, not once for each.
//!
//! What takes long (by its recipe's last time; the calibrations of an IFS from the first)
//! has a place of its own behind the others, where there are two: an image does not wait
//! for a lenslet calibration. Those calibrations also wait until none of their frames has
//! come for a while: a scan is whole only with its last column.
//!
//! What failed is not tried again until its plan is another, or a pause is over that
//! doubles with each failure: a full disk may have been emptied, a network disk be back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::{Outcome, Plan, Stamp, Status, Task};

/// The first pause after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Pauses do not grow beyond this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Seconds from which a task is long: an image is due 30 s after its last read.
const LONG: f64 = 15.0;
/// Masters that are taken to be long before one was made: those of an IFS.
const OF_IFS: [&str; 3] = ["lenspx", "wavemap", "dispersion"];

/// What went wrong so far, what is in hand, and how long things take.
#[derive(Debug, Default)]
pub struct Queue {
    /// By the plan that it went wrong with.
    failed: BTreeMap<String, Failure>,
    /// Products that are being made.
    in_hand: BTreeSet<PathBuf>,
    /// By recipe, what its last task took.
    seconds: BTreeMap<String, f64>,
}

/// Where a task is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There is one place for all.
    Only,
    /// Of two, the one that is never taken for long.
    Front,
    /// Of two, the one for what takes long.
    Behind,
}

/// What the night is like when a task is asked for.
pub struct Moment<'a> {
    /// Now.
    pub now: Instant,
    /// No frame has come for a while.
    pub quiet: bool,
    /// When the newest of a task's frames was written.
    pub when: &'a dyn Fn(&Task) -> Option<SystemTime>,
    /// Whether none of a task's frames has come for a while.
    pub is_still: &'a dyn Fn(&Task) -> bool,
}

#[derive(Debug, Clone)]
struct Failure {
    sentence: String,
    times: u32,
    again: Instant,
}

/// Whether a task is a science product: no master of the night needs it.
pub fn is_science(task: &Task) -> bool {
    task.job().is_some_and(|job| job.recipe.master().is_none())
}

fn is_of_ifs(task: &Task) -> bool {
    task.job().and_then(|job| job.recipe.master()).is_some_and(|master| OF_IFS.contains(&master))
}

impl Queue {
    /// The task to do now in this place; `None` where there is nothing.
    pub fn next(&self, plan: &Plan, place: Place, moment: &Moment<'_>) -> Option<usize> {
        let due = |&i: &usize| {
            let task = &plan.tasks[i];
            task.asked && task.job().is_some() && !task.up_to_date
        };
        let due: Vec<usize> = (0..plan.tasks.len()).filter(due).collect();
        let mut science: Vec<usize> = due.iter().copied().filter(|&i| is_science(&plan.tasks[i])).collect();
        science.sort_by_key(|&i| (std::cmp::Reverse((moment.when)(&plan.tasks[i])), i));
        let first_time = |i: &&usize| {
            let task = &plan.tasks[**i];
            let made = task.product().and_then(Stamp::of);
            made.is_none_or(|made| (moment.when)(task) > made.changed)
        };
        let fits = |i: &usize| match place {
            Place::Only => true,
            Place::Front => !self.is_long(&plan.tasks[*i]),
            Place::Behind => self.is_long(&plan.tasks[*i]),
        };
        let step = |&i: &usize| self.step(plan, i, moment).filter(fits);
        let first = science.iter().filter(first_time).find_map(step);
        let later = || science.iter().chain(&due).find_map(step);
        first.or_else(|| if moment.quiet { later() } else { None })
    }

    /// The task itself, or the first of those that it needs; `None` where one of them has
    /// failed, is being made, or lacks frames that may still come.
    fn step(&self, plan: &Plan, i: usize, moment: &Moment<'_>) -> Option<usize> {
        let task = plan.tasks.get(i)?;
        let in_hand = task.product().is_some_and(|p| self.in_hand.contains(p));
        if in_hand || self.failure(task).is_some_and(|f| moment.now < f.again) {
            return None;
        }
        let unmet = task.needs.iter().find(|&&need| plan.tasks.get(need).is_some_and(|t| !t.up_to_date));
        match unmet {
            // Needs stand before what needs them.
            Some(&need) if need < i => self.step(plan, need, moment),
            Some(_) => None,
            None if is_of_ifs(task) && !(moment.is_still)(task) => None,
            None => task.job().map(|_| i),
        }
    }

    fn is_long(&self, task: &Task) -> bool {
        self.seconds.get(&task.recipe).map_or_else(|| is_of_ifs(task), |&seconds| seconds >= LONG)
    }

    fn failure(&self, task: &Task) -> Option<&Failure> {
        self.failed.get(&task.job()?.plan_hash)
    }

    /// Why a task stands still: its own failure, or that of what it needs.
    pub fn trouble(&self, plan: &Plan, task: &Task) -> Option<String> {
        if let Some(failure) = self.failure(task) {
            return Some(failure.sentence.clone());
        }
        let failed = |need: &&Task| !need.up_to_date && self.trouble(plan, need).is_some();
        let need = task.needs.iter().filter_map(|&n| plan.tasks.get(n)).find(failed)?;
        Some(format!("needs the master '{}', which failed", need.name))
    }

    /// Notes that a task is in hand.
    pub fn begun(&mut self, task: &Task) {
        self.in_hand.extend(task.product().map(PathBuf::from));
    }

    /// Notes how a task ended.
    pub fn ended(&mut self, task: &Task, outcome: &Outcome, now: Instant) {
        let Some(job) = task.job() else { return };
        if let Some(product) = task.product() {
            self.in_hand.remove(product);
        }
        if let Status::Done(_) = outcome.status {
            self.seconds.insert(task.recipe.clone(), outcome.seconds);
        }
        match &outcome.status {
            Status::Failed(sentence) => {
                let times = self.failed.get(&job.plan_hash).map_or(0, |f| f.times);
                let pause = PAUSE.saturating_mul(1 << times.min(10)).min(LONGEST);
                let failure = Failure { sentence: sentence.clone(), times: times + 1, again: now + pause };
                self.failed.insert(job.plan_hash.clone(), failure);
            }
            _ => drop(self.failed.remove(&job.plan_hash)),
        }
    }

    /// Forgets the failures of plans that are no more.
    pub fn keep_only(&mut self, plan: &Plan) {
        let live: BTreeSet<&str> =
            plan.tasks.iter().filter_map(|t| Some(t.job()?.plan_hash.as_str())).collect();
        self.failed.retain(|hash, _| live.contains(hash.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::run;
    use super::super::testing::{Mock, Nobody, frame, planned, settings, write};
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn night(dir: &Path, names: &[(&str, &str, i64)]) -> Plan {
        names.iter().for_each(|(name, o, n)| write(&dir.join(format!("{name}.fits")), &frame(o, *n)));
        planned(dir, &settings(dir))
    }

    /// By the number in the name.
    fn when(task: &Task) -> Option<SystemTime> {
        let n = task.name.chars().filter_map(|c| c.to_digit(10)).next()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(n)))
    }

    /// Does what comes next until nothing does; the names in order.
    fn go(queue: &mut Queue, plan: &mut Plan, mock: &mut Mock, now: Instant, quiet: bool) -> Vec<String> {
        let mut done = Vec::new();
        let moment = Moment { now, quiet, when: &when, is_still: &|_| true };
        while let Some(i) = queue.next(plan, Place::Only, &moment) {
            let one = plan.only(i);
            let outcome = run(&one, &mut [mock], &Nobody, &AtomicBool::new(false)).remove(0);
            queue.ended(&plan.tasks[i], &outcome, now);
            plan.tasks[i].up_to_date = matches!(outcome.status, Status::Done(_));
            done.push(plan.tasks[i].name.clone());
        }
        done
    }

    #[test]
    fn the_newest_science_first_and_the_rest_when_it_is_quiet() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut plan = night(
            dir.path(),
            &[
                ("d1", "IMG1-DRK", 1),
                ("d2", "IMG2-DRK", 2),
                ("f1", "IMG1-NFF", 3),
                ("s1", "IMG1-SCI", 4),
                ("s2", "IMG1-SCI", 5),
            ],
        );
        let (mut queue, mut mock) = (Queue::default(), Mock::default());
        let now = Instant::now();
        let done = go(&mut queue, &mut plan, &mut mock, now, false);
        assert_eq!(done[done.len() - 2..], ["s2.fits", "s1.fits"], "{done:?}");
        assert_eq!(done.len(), 4, "{done:?}");
        let done = go(&mut queue, &mut plan, &mut mock, now, true);
        assert_eq!(done, ["dark IMG2 UTR-120s"]);
        // A sky after the science: first of all the new frame, the old ones when it is quiet.
        let mut plan = night(dir.path(), &[("k1", "IMG1-SKY", 6), ("s3", "IMG1-SCI", 7)]);
        let done = go(&mut queue, &mut plan, &mut mock, now, false);
        assert_eq!(done.len(), 2, "{done:?}");
        assert!(done[0].starts_with("sky") && done[1] == "s3.fits", "{done:?}");
        assert_eq!(go(&mut queue, &mut plan, &mut mock, now, true), ["s2.fits", "s1.fits"]);
    }

    #[test]
    fn what_failed_waits_longer_each_time_or_for_another_plan() {
        let dir = tempfile::tempdir().expect("temp dir");
        let names = [("d1", "IMG1-DRK", 1), ("f1", "IMG1-NFF", 3), ("s1", "IMG1-SCI", 4)];
        let mut plan = night(dir.path(), &names);
        let (mut queue, mut mock) = (Queue::default(), Mock::default());
        mock.mishaps.insert("f1".into(), "is bad");
        let now = Instant::now();
        assert_eq!(go(&mut queue, &mut plan, &mut mock, now, true).len(), 2);
        let science = plan.tasks.iter().find(|t| t.name == "s1.fits").expect("s1");
        assert_eq!(
            queue.trouble(&plan, science).as_deref(),
            Some("needs the master 'flat IMG1 K', which failed")
        );
        let later = |s| now + Duration::from_secs(s);
        assert!(go(&mut queue, &mut plan, &mut mock, later(59), true).is_empty());
        assert_eq!(go(&mut queue, &mut plan, &mut mock, later(61), true).len(), 1);
        assert!(go(&mut queue, &mut plan, &mut mock, later(170), true).is_empty());
        mock.mishaps.clear();
        // Another flat beside it is another plan.
        let mut plan = night(dir.path(), &[("f2", "IMG1-NFF", 5)]);
        queue.keep_only(&plan);
        assert!(queue.failed.is_empty());
        assert_eq!(go(&mut queue, &mut plan, &mut mock, later(62), false).len(), 2);
    }

    #[test]
    fn what_takes_long_is_done_behind_and_only_once_its_frames_are_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let names =
            [("d1", "IMG1-DRK", 1), ("c1", "LEN-SPX", 2), ("c2", "LEN-SPX", 3), ("s4", "IMG1-SCI", 4)];
        let mut plan = night(
            dir.path(),
            &[&names[..], &[("n5", "IMG1-NFF", 5), ("k5", "LEN-DRK", 5), ("z6", "LEN-SCI", 6)]].concat(),
        );
        let mut queue = Queue::default();
        let now = Instant::now();
        let named = |plan: &Plan, i: Option<usize>| i.map(|i| plan.tasks[i].name.clone());
        let next = |queue: &Queue, plan: &Plan, place, still: bool| {
            let moment = Moment { now, quiet: true, when: &when, is_still: &|_| still };
            named(plan, queue.next(plan, place, &moment))
        };
        let spx = plan.tasks.iter().position(is_of_ifs).expect("a lenspx");
        let name = plan.tasks[spx].name.clone();
        // First what it needs.
        assert_eq!(next(&queue, &plan, Place::Behind, true), None);
        for dark in plan.tasks.iter_mut().filter(|t| t.name.starts_with("dark IFU")) {
            dark.up_to_date = true;
        }
        assert_eq!(next(&queue, &plan, Place::Behind, false), None);
        assert_eq!(next(&queue, &plan, Place::Behind, true).as_ref(), Some(&name));
        queue.begun(&plan.tasks[spx]);
        assert_eq!(next(&queue, &plan, Place::Behind, true), None);
        // Beside it everything but what needs it.
        let mut done = Vec::new();
        while let Some(first) = next(&queue, &plan, Place::Front, true) {
            let i = plan.tasks.iter().position(|t| t.name == first).expect("it");
            plan.tasks[i].up_to_date = true;
            done.push(first);
        }
        assert!(done.contains(&"s4.fits".to_owned()), "{done:?}");
        let left = |t: &&Task| t.job().is_some() && !t.up_to_date;
        assert_eq!(plan.tasks.iter().filter(left).count(), 2, "{:?}", plan.tasks);
        let ended = |seconds| Outcome { status: Status::Done(Vec::new()), seconds, warnings: Vec::new() };
        queue.ended(&plan.tasks[spx], &ended(1.0), now);
        plan.tasks[spx].up_to_date = true;
        assert_eq!(next(&queue, &plan, Place::Front, true).as_deref(), Some("z6.fits"));
        // Experience goes before what was expected.
        let cube = plan.tasks.iter().position(|t| t.name == "z6.fits").expect("cube");
        queue.ended(&plan.tasks[cube], &ended(LONG), now);
        assert_eq!(next(&queue, &plan, Place::Front, true), None);
        assert_eq!(next(&queue, &plan, Place::Behind, true).as_deref(), Some("z6.fits"));
        plan.tasks[spx].up_to_date = false;
        assert_eq!(next(&queue, &plan, Place::Front, true).as_ref(), Some(&name));
    }
}
