//! A look at the night: what has come and gone, and the plan that follows from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::Watcher;
use crate::cli::args::Level;
use crate::cli::log::Log;
use crate::cli::options;
use crate::error::{Error, Result};
use crate::night::{self, Action, ByHand, Lock, Plan, References, Stamp, Task};

/// Stamps of what lies beside the frames: references, and what a person says.
pub(super) type Beside = (Vec<(PathBuf, Option<Stamp>)>, Vec<(PathBuf, Option<Stamp>)>);

impl Watcher<'_> {
    /// Looks at the night, and plans it anew where it is another.
    pub(super) fn look(&mut self) -> Result<()> {
        self.keep_output()?;
        let folders = self.folders();
        // Asked before the listing: what is written after it is another notice.
        for path in self.notices.closed() {
            self.arrivals.closed(path);
        }
        let found = night::list(&self.args.night, &self.skip(&folders))?;
        let listing: Vec<(PathBuf, Stamp)> =
            found.files.iter().filter_map(|p| Some((p.clone(), Stamp::of(p)?))).collect();
        let news = self.arrivals.look(Instant::now(), SystemTime::now(), &listing, night::whole);
        if listing != self.listing || news.is_other() {
            self.stirred = Instant::now();
        }
        self.listing = listing;
        for (path, sentence) in &news.named {
            self.voice.say(Level::Warn, &self.name(path), sentence);
        }
        for path in &news.arrived {
            self.voice.say(Level::Debug, &self.name(path), "arrived");
        }
        for path in &news.gone {
            self.voice.say(Level::Debug, &self.name(path), "is gone, or being written again");
        }
        let all: Vec<PathBuf> = folders.iter().chain(&self.args.common.masters).cloned().collect();
        let beside = (References::stamps(&all), notes(&self.args.night));
        // A product that somebody removed is made again.
        let lost = |t: &Task| t.up_to_date && t.product().is_some_and(|p| !p.exists());
        let other = self.beside.as_ref() != Some(&beside) || self.plan.tasks.iter().any(lost);
        if other || news.is_other() || self.complaint.is_some() {
            // Asked before: what changes while it is read is read again.
            if self.beside.as_ref().is_none_or(|(references, _)| *references != beside.0) {
                let (masters, context) = (&self.args.common.masters, self.args.common.context.as_deref());
                self.references = options::references(&folders, masters, self.families, context)?;
            }
            let files = self.arrivals.files().cloned().collect();
            self.plan = self.planned(night::Found { files, ..found }, true)?;
            if let Some(frames) = &mut self.plan.frames {
                // What is being written again is not gone.
                frames.add(self.listing.iter().map(|(path, _)| path.as_path()));
            }
            night::bring_back(&mut self.plan);
            self.tidy = false;
            self.queue.keep_only(&self.plan);
            let here: BTreeSet<&Path> = self.listing.iter().map(|(p, _)| p.as_path()).collect();
            self.seen.keep_only(&here);
            let waits = self.plan.tasks.iter().filter(|t| t.waits);
            for task in waits {
                if self.waited.insert(task.name.clone())
                    && let Action::Refused(why) = &task.action
                {
                    self.voice.say(Level::Info, &task.name, &format!("waits: {why}"));
                }
            }
            self.beside = Some(beside);
            self.account.stale();
            self.post(self.state(), true);
        }
        Ok(())
    }

    /// The folder of products may be removed while the night goes on, and another be put in
    /// its place. One that is gone is not made again: a network disk may come back.
    fn keep_output(&mut self) -> Result<()> {
        if self.lock.is_held() {
            return Ok(());
        }
        let output = &self.settings.output;
        if !output.is_dir() {
            let output = output.display();
            return Err(Error::Usage(format!(
                "the folder of products {output} is gone: put it back, or make an empty one to have everything made again"
            )));
        }
        self.lock = Lock::take(output)?;
        self.voice.log = Log::open(&self.args.common.log, Some(output));
        self.account.stale();
        let place = output.display();
        self.voice.say(
            Level::Warn,
            "",
            &format!("{place} is another folder than before: what is not in it is made again"),
        );
        Ok(())
    }

    /// The folders of references that there are now.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        options::reference_folders(&self.args.common.refs, self.args.night.join("refs"))
    }

    pub(super) fn skip(&self, folders: &[PathBuf]) -> Vec<PathBuf> {
        folders.iter().cloned().chain([self.settings.output.clone()]).collect()
    }

    pub(super) fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.args.night).unwrap_or(path).display().to_string()
    }

    /// Plans these files of the night; `preliminary`: it is not over.
    pub(super) fn planned(&self, found: night::Found, preliminary: bool) -> Result<Plan> {
        let by_hand = ByHand::of_night(&self.args.night)?;
        let scan = night::scan_of(&self.args.night, found, &by_hand, &self.seen)?;
        let mut plan = match night::plan(&self.args.night, &scan, &by_hand, &self.references, &self.settings)
        {
            Err(Error::NothingToReduce(_)) if preliminary => {
                let none = night::of_no_frame(&self.args.night, &scan, &self.settings);
                none.unwrap_or_else(|| Plan { output: self.settings.output.clone(), ..Plan::default() })
            }
            plan => plan?,
        };
        for task in plan.tasks.iter_mut().filter(|t| night::is_science(t)) {
            if let Action::Run(job) = &mut task.action {
                job.preliminary = preliminary || self.args.quick;
            }
        }
        Ok(plan)
    }
}

/// What a person says of a night, as files.
fn notes(night: &Path) -> Vec<(PathBuf, Option<Stamp>)> {
    let entries = std::fs::read_dir(night).into_iter().flatten().flatten().map(|e| e.path());
    let spoken = |p: &PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    let mut files: Vec<PathBuf> = entries.filter(spoken).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), Stamp::of(&path))).collect()
}
