//! What a watched night does next.
//!
//! 1. Science of which there is no product yet, or that came again since, the newest
//!    first, each after what it needs: somebody is looking at the screen.
//! 2. When no frame has come for a while (the caller says so): science that has a better
//!    calibration now, the newest first; then masters that nobody waits for yet. While
//!    darks come one after the other, their master is so made once, not once for each.
//!
//! What failed is not tried again until its plan is another, or a pause is over that
//! doubles with each failure: a full disk may have been emptied, a network disk be back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::{Plan, Stamp, Status, Task};

/// The first pause after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Pauses do not grow beyond this.
const LONGEST: Duration = Duration::from_secs(3600);

/// What went wrong so far, by the plan that it went wrong with.
#[derive(Debug, Default)]
pub struct Queue {
    failed: BTreeMap<String, Failure>,
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

impl Queue {
    /// The task to do now; `None` where there is nothing. `quiet`: no frame has come for
    /// a while. `when` tells when a task's frames were written.
    pub fn next(
        &self,
        plan: &Plan,
        now: Instant,
        quiet: bool,
        when: impl Fn(&Task) -> Option<SystemTime>,
    ) -> Option<usize> {
        let due = |&i: &usize| {
            let task = &plan.tasks[i];
            task.asked && task.job().is_some() && !task.up_to_date
        };
        let due: Vec<usize> = (0..plan.tasks.len()).filter(due).collect();
        let mut science: Vec<usize> = due.iter().copied().filter(|&i| is_science(&plan.tasks[i])).collect();
        science.sort_by_key(|&i| (std::cmp::Reverse(when(&plan.tasks[i])), i));
        let first_time = |i: &&usize| {
            let task = &plan.tasks[**i];
            let made = task.product().and_then(Stamp::of);
            made.is_none_or(|made| when(task) > made.changed)
        };
        let first = science.iter().filter(first_time).find_map(|&i| self.step(plan, i, now));
        let later = || science.iter().chain(&due).find_map(|&i| self.step(plan, i, now));
        first.or_else(|| if quiet { later() } else { None })
    }

    /// The task itself, or the first of those that it needs; `None` where one of them has
    /// failed.
    fn step(&self, plan: &Plan, i: usize, now: Instant) -> Option<usize> {
        let task = plan.tasks.get(i)?;
        if self.failure(task).is_some_and(|f| now < f.again) {
            return None;
        }
        let unmet = task.needs.iter().find(|&&need| plan.tasks.get(need).is_some_and(|t| !t.up_to_date));
        match unmet {
            // Needs stand before what needs them.
            Some(&need) if need < i => self.step(plan, need, now),
            Some(_) => None,
            None => task.job().map(|_| i),
        }
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

    /// Notes how a task ended.
    pub fn ended(&mut self, task: &Task, status: &Status, now: Instant) {
        let Some(job) = task.job() else { return };
        match status {
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
        let live: std::collections::BTreeSet<&str> =
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
        while let Some(i) = queue.next(plan, now, quiet, when) {
            let one = plan.only(i);
            let outcome = run(&one, &mut [mock], &Nobody, &AtomicBool::new(false)).remove(0);
            queue.ended(&plan.tasks[i], &outcome.status, now);
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
}
