//! Tasks one by one: names, references, needs and hashes.

mod bound;
mod merged;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

pub use names::Named;
pub(super) use names::rate_beside;

use self::bound::Bound;
use self::merged::{FullFrames, scales_sky};
use self::names::caseless;
use super::assign::{Assigned, assign};
use super::group::{Group, arcs_of_another_time, of_other_kinds};
use super::stale::mark;
use super::state::reference_identity;
use super::{Action, Exposure, References, Settings, Task, before, is_up_to_date, plan_hash};
use crate::config::{Recipe, Step, Takes};
use crate::datamodel::{Kind, Meta, master_name, product_name};
use crate::error::Result;
use crate::input::Relabels;
use crate::pipeline::Job;
use crate::refs::crds::Crds;
use crate::refs::{Candidate, Origin};

/// Version in the names of masters.
const MASTER_VERSION: &str = "0.0.1";

/// Tasks under construction.
pub(super) struct Builder<'a> {
    settings: &'a Settings,
    candidates: Vec<Candidate>,
    /// The plan hash of each product planned: a master's identity as a reference.
    hashes: BTreeMap<PathBuf, String>,
    /// The products planned, whether or not their tasks can be run.
    taken: BTreeSet<PathBuf>,
    /// Which task makes a master.
    makers: BTreeMap<PathBuf, usize>,
    dark_kept: BTreeSet<PathBuf>,
    crds: Option<Arc<Crds>>,
    before: before::Before<'a>,
    relabels: &'a Relabels,
    /// What calibrates which exposures because a person says so.
    bound: Vec<Bound>,
    /// How the products under way are called, where a person says so.
    named: Option<Named>,
    /// Whether what is planned is left by a step on the way.
    intermediate: bool,
    /// The night that products are of: none for named files.
    pub(super) night: Option<String>,
    pub(super) tasks: Vec<Task>,
}

/// What a task is made of.
struct Draft<'a> {
    name: String,
    obsname: String,
    exposures: Vec<&'a Exposure>,
    meta: Meta,
    product: PathBuf,
    /// The task of the full frame that a subarray was read beside.
    full_frame: Option<usize>,
}

impl Draft<'_> {
    /// What its exposures' headers contradict.
    fn warnings(&self) -> Vec<String> {
        let of = |e: &&Exposure| e.warnings.iter().map(|w| format!("{}: {w}", e.name)).collect::<Vec<_>>();
        self.exposures.iter().flat_map(of).collect()
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        references: &References,
        settings: &'a Settings,
        before: before::Before<'a>,
        relabels: &'a Relabels,
    ) -> Self {
        Builder {
            settings,
            candidates: references.candidates.clone(),
            hashes: BTreeMap::new(),
            taken: BTreeSet::new(),
            makers: BTreeMap::new(),
            dark_kept: references.dark_kept.clone(),
            crds: references.crds.clone(),
            before,
            relabels,
            bound: Vec::new(),
            named: None,
            intermediate: false,
            night: None,
            tasks: Vec::new(),
        }
    }

    /// A task that makes a master of `reftype` by the recipe of that name.
    pub(super) fn master(&mut self, recipe: &str, reftype: &str, group: &Group<'_>) {
        match self.settings.recipes.resolve(recipe) {
            Ok(recipe) => self.set(&recipe, reftype, group),
            Err(e) => {
                let files = group.exposures.iter().map(|e| e.name.clone()).collect();
                self.refuse(&group.name(reftype), &group.obsname(), recipe, files, e.to_string());
            }
        }
    }

    /// A LEN-SPX calibration of scans and the arcs beside them; the other arcs of the group,
    /// of which wavemaps are made.
    pub(super) fn lenspx<'e>(&mut self, group: &Group<'e>, science: &[&Exposure]) -> Vec<&'e Exposure> {
        let scans = |e: &&Exposure| e.obsname.as_ref().is_some_and(|o| o.kind == Kind::Spx);
        if !group.exposures.iter().any(scans) {
            return group.exposures.clone();
        }
        let away = arcs_of_another_time(&group.exposures, science);
        self.master("lenspx", "lenspx", &group.without(&away));
        away
    }

    pub(super) fn sky(&mut self, group: &Group<'_>) {
        let lenslet = group.meta.instmode == "LENSLET";
        self.master(if lenslet { "lenslet_sky" } else { "sky" }, "sky", group);
    }

    /// One recipe on exposures: one by one, or together.
    pub(super) fn files(&mut self, recipe: &Recipe, exposures: &[&Exposure]) {
        match recipe.takes {
            Takes::One => self.one_by_one(recipe, exposures),
            Takes::Set if exposures.is_empty() => {}
            Takes::Set => {
                let group = Group::of(exposures.to_vec());
                match recipe.master() {
                    Some(reftype) => self.set(recipe, reftype, &group),
                    None => self.combination(recipe, &group),
                }
            }
        }
    }

    pub(super) fn set(&mut self, recipe: &Recipe, reftype: &str, group: &Group<'_>) {
        let mut product = PathBuf::new();
        for n in 1.. {
            // The date tells masters of a night apart; where it does not, the label does.
            let label = match n {
                1 => String::new(),
                2 => group.label.clone(),
                _ => format!("{}-{n}", group.label),
            };
            product = self.settings.masters.join(master_name(&group.meta, reftype, &label, MASTER_VERSION));
            if !self.taken.contains(&caseless(&product)) {
                break;
            }
        }
        product = self.given_name(reftype, group.exposures.first()).unwrap_or(product);
        let draft = Draft {
            name: group.name(reftype),
            obsname: group.obsname(),
            exposures: group.exposures.clone(),
            meta: group.meta.clone(),
            product: product.clone(),
            full_frame: None,
        };
        let others = of_other_kinds(reftype, &group.exposures);
        let done = self.add(recipe, draft);
        self.tasks
            .iter_mut()
            .last()
            .into_iter()
            .for_each(|task| task.warnings.extend(others.iter().cloned()));
        if done {
            let meta = group.meta.clone();
            self.makers.insert(product.clone(), self.tasks.len() - 1);
            self.candidates.push(Candidate {
                path: product,
                reftype: reftype.to_owned(),
                meta,
                origin: Origin::ThisNight,
                useafter: None,
                version: Vec::new(),
            });
        }
        self.on_the_way(recipe, &group.exposures);
    }

    /// One task for a set that becomes no master: a product of level 3.
    pub(super) fn combination(&mut self, recipe: &Recipe, group: &Group<'_>) {
        let merges = recipe.merges();
        let own = if merges { "merged" } else { "" };
        let suffix = self.settings.suffix.as_deref().unwrap_or(own);
        // What is merged bears the full frame's name.
        let full = group.exposures.iter().map(|e| &e.meta).find(|m| merges && m.subarrid == 0);
        let meta = full.unwrap_or(&group.meta).clone();
        let draft = Draft {
            name: group.name(&recipe.name),
            obsname: group.obsname(),
            exposures: group.exposures.clone(),
            product: self
                .given_name(if merges { "merged" } else { "comb" }, group.exposures.first())
                .unwrap_or_else(|| {
                    self.settings.output.join(product_name(&meta, recipe.level(meta.level), suffix))
                }),
            meta,
            full_frame: None,
        };
        self.add(recipe, draft);
    }

    /// One task an exposure, by the recipe called `name`.
    pub(super) fn each(&mut self, name: &str, exposures: &[&Exposure]) {
        match self.settings.recipes.resolve(name) {
            Ok(recipe) => self.one_by_one(&recipe, exposures),
            Err(e) => {
                for exposure in exposures {
                    self.refuse(
                        &exposure.name,
                        &exposure.obsname(),
                        name,
                        vec![exposure.name.clone()],
                        e.to_string(),
                    );
                }
            }
        }
    }

    /// One task an exposure.
    pub(super) fn one_by_one(&mut self, recipe: &Recipe, exposures: &[&Exposure]) {
        let known = Recipe::names().any(|n| n == recipe.name) || recipe.steps.len() > 1;
        let own = if known && !self.intermediate { "" } else { recipe.name.as_str() };
        let suffix = self.settings.suffix.as_deref().filter(|_| !self.intermediate).unwrap_or(own);
        let plain: Vec<String> =
            exposures.iter().map(|e| product_name(&e.meta, recipe.level(e.meta.level), suffix)).collect();
        let names = self.told_apart(&plain, exposures);
        let mut all: Vec<_> = exposures.iter().zip(names.into_iter().zip(plain)).collect();
        // Subarrays after the full frames, whose factor on the sky is theirs, too.
        all.sort_by_key(|(e, _)| e.meta.subarrid > 0);
        let mut full_frames = FullFrames::default();
        for (exposure, (name, plain)) in all {
            let level = recipe.level(exposure.meta.level);
            let like = match recipe.name.as_str() {
                "readout" => "rop",
                _ => ["ramp", "rate", "cal", "comb"][level.min(3) as usize],
            };
            let given = self.given_name(if self.intermediate { own } else { like }, Some(exposure));
            let renamed = name != plain && given.is_none();
            let draft = Draft {
                name: exposure.name.clone(),
                obsname: exposure.obsname(),
                exposures: vec![exposure],
                meta: exposure.meta.clone(),
                product: given.unwrap_or_else(|| self.settings.output.join(name)),
                full_frame: full_frames.of(exposure),
            };
            if self.add(recipe, draft) {
                full_frames.note(exposure, self.tasks.len() - 1);
            }
            if let Some(task) = self.tasks.last_mut().filter(|_| renamed) {
                task.warnings.push(format!(
                    "SEMID, PROGNUM, OBSNUM and EXPNUM = {} are not its alone: its product is named after its file",
                    exposure.meta.expnum
                ));
            }
        }
        self.on_the_way(recipe, exposures);
    }

    /// What the steps leave on the way of which that was asked for (`save_results`): each a
    /// task of its own, of the recipe up to that step.
    fn on_the_way(&mut self, recipe: &Recipe, exposures: &[&Exposure]) {
        let last = recipe.steps.iter().rposition(|s| !s.skip());
        for (i, step) in recipe.steps.iter().enumerate() {
            let together = matches!(step, Step::CombineFrames(_) | Step::Wavecal(_) | Step::Dispersion(_));
            if self.intermediate || together {
                return;
            }
            if step.skip() || Some(i) == last || !self.settings.save.contains(step.name()) {
                continue;
            }
            let steps = recipe.steps[..=i].to_vec();
            let part = Recipe { name: step.name().into(), takes: Takes::One, steps, ..recipe.clone() };
            self.intermediate = true;
            self.one_by_one(&part, exposures);
            self.intermediate = false;
        }
    }

    /// Adds a task; whether it can be run.
    fn add(&mut self, recipe: &Recipe, draft: Draft<'_>) -> bool {
        let files: Vec<String> = draft.exposures.iter().map(|e| e.name.clone()).collect();
        let inputs: Vec<PathBuf> = draft.exposures.iter().flat_map(|e| e.files.clone()).collect();
        // Only a file that is there can be overwritten, under whatever name or link.
        let there = draft.product.canonicalize().ok();
        let itself = there.is_some_and(|p| inputs.iter().any(|i| i.canonicalize().is_ok_and(|i| i == p)));
        let overwrites = if itself {
            Some("it")
        } else if !self.taken.insert(caseless(&draft.product)) {
            Some("another product of this plan")
        } else {
            None
        };
        if let Some(what) = overwrites {
            let sentence =
                format!("its product would overwrite {what}; give --suffix, or another folder with -o");
            self.refuse_draft(&draft, recipe, files, sentence);
            return false;
        }
        let (recipe, candidates, said) = match self.as_bound(recipe, &draft) {
            Ok(bound) => bound,
            Err(sentence) => {
                self.refuse_draft(&draft, recipe, files, sentence);
                return false;
            }
        };
        let recipe = &recipe;
        let first = draft.exposures.first();
        let facts = self.crds.as_deref().zip(first).map(|(c, e)| (c, c.facts(&e.header, &draft.meta)));
        let asked = facts.as_ref().map(|(crds, facts)| (*crds, facts));
        let assigned = match assign(recipe, &draft.meta, &candidates, &self.dark_kept, asked) {
            Ok(assigned) => assigned,
            Err(sentence) => {
                self.refuse_draft(&draft, recipe, files, sentence);
                if let Some(task) = self.tasks.last_mut() {
                    task.waits = true;
                }
                return false;
            }
        };
        let context = self.crds.as_ref().filter(|_| assigned.asked_crds());
        let crds_context = context.map(|crds| crds.context().to_owned());
        let (earlier, identities) = self.before.of(&assigned.recipe, &draft.exposures);
        let full_frame = draft.full_frame.filter(|_| scales_sky(&assigned));
        let hash = match self.hash(&assigned, &draft, full_frame, identities) {
            Ok(hash) => hash,
            Err(e) => {
                self.refuse_draft(&draft, recipe, files, e.to_string());
                return false;
            }
        };
        let references = assigned.paths();
        let masters = references.values().filter_map(|p| self.makers.get(p).copied());
        let needs: BTreeSet<usize> = masters.chain(full_frame).collect();
        let lost_dark = assigned.picked.iter().any(|p| p.reftype == "dark" && p.path.is_none());
        if lost_dark {
            self.dark_kept.insert(draft.product.clone());
        }
        self.hashes.insert(draft.product.clone(), hash.clone());
        let mut warnings = draft.warnings();
        warnings.extend(said.iter().cloned());
        warnings.extend(assigned.warnings.iter().cloned());
        let up_to_date = !self.settings.force
            && is_up_to_date(&draft.product, &hash)
            && self.rate_beside(recipe, &draft.product).is_none_or(|rate| is_up_to_date(&rate, &hash));
        let rates = self.rates(recipe, &draft);
        if let Some(sentence) = self.overwrites_another_night(&draft, &rates, &hash) {
            self.refuse_draft(&draft, recipe, files, sentence);
            return false;
        }
        let relabels = self.relabels.only(&inputs);
        let picked = assigned.picked.iter().chain(&assigned.also);
        let reasons =
            picked.filter(|p| p.path.is_some()).map(|p| (p.reftype.to_owned(), p.reason.clone())).collect();
        let job = Job {
            recipe: assigned.recipe,
            instrument: self.settings.instrument.clone(),
            inputs,
            rates,
            references,
            earlier,
            full_frame: full_frame.and_then(|i| self.tasks[i].product().map(Path::to_path_buf)),
            output: self.settings.output.clone(),
            masters: self.settings.masters.clone(),
            product: Some(draft.product),
            suffix: self.settings.suffix.clone(),
            read_time: self.settings.read_time,
            relabels,
            reasons,
            said,
            troubles: Vec::new(),
            intermediate: self.intermediate,
            save_ramps: self.settings.save_ramps,
            compat: self.settings.compat,
            crds_context,
            plan_hash: hash,
            night: self.night.as_deref().map(|night| mark(night, self.intermediate)),
            preliminary: false,
        };
        self.tasks.push(Task {
            name: draft.name,
            obsname: draft.obsname,
            recipe: recipe.name.clone(),
            files,
            references: assigned.picked,
            needs: needs.into_iter().collect(),
            warnings,
            action: Action::Run(Box::new(job)),
            waits: false,
            up_to_date,
            asked: true,
        });
        true
    }

    /// Everything that decides the product's bytes, except where it is made.
    fn hash(
        &self,
        assigned: &Assigned,
        draft: &Draft<'_>,
        full_frame: Option<usize>,
        earlier: Vec<String>,
    ) -> Result<String> {
        let s = self.settings;
        let json = |v: serde_json::Result<String>| v.unwrap_or_default();
        let mut parts = vec![
            format!("irisgpu {}", env!("CARGO_PKG_VERSION")),
            json(serde_json::to_string(&assigned.recipe)),
            json(serde_json::to_string(&s.instrument)),
            format!("{:?}", s.read_time),
            draft.product.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ];
        parts.extend(s.compat.map(|c| format!("compat {}", c.name())));
        parts.extend(draft.exposures.iter().map(|e| e.identity.clone()));
        parts.extend(earlier);
        parts.extend(full_frame.and_then(|i| Some(self.tasks[i].job()?.plan_hash.clone())));
        let references: Vec<(String, PathBuf)> = assigned.paths().into_iter().collect();
        let identities = references.par_iter().map(|(reftype, path)| match self.hashes.get(path) {
            Some(hash) => Ok([reftype.clone(), hash.clone()]),
            None => Ok([reftype.clone(), reference_identity(path)?]),
        });
        parts.extend(identities.collect::<Result<Vec<_>>>()?.into_iter().flatten());
        Ok(plan_hash(parts))
    }

    /// Lists an exposure that nothing above took.
    pub(super) fn without_recipe(&mut self, exposure: &Exposure) {
        let Some(obsname) = &exposure.obsname else { return };
        self.push(
            exposure.name.clone(),
            obsname.to_string(),
            "",
            vec![exposure.name.clone()],
            Action::NoRecipe("no recipe yet"),
        );
    }

    /// A task that cannot be done, with what its exposures' headers contradict: that may
    /// be why.
    fn refuse_draft(&mut self, draft: &Draft<'_>, recipe: &Recipe, files: Vec<String>, sentence: String) {
        self.refuse(&draft.name, &draft.obsname, &recipe.name, files, sentence);
        if let Some(task) = self.tasks.last_mut() {
            task.warnings = draft.warnings();
        }
    }

    pub(super) fn refuse(
        &mut self,
        name: &str,
        obsname: &str,
        recipe: &str,
        files: Vec<String>,
        sentence: String,
    ) {
        self.push(name.to_owned(), obsname.to_owned(), recipe, files, Action::Refused(sentence));
    }

    fn push(&mut self, name: String, obsname: String, recipe: &str, files: Vec<String>, action: Action) {
        self.tasks.push(Task {
            name,
            obsname,
            recipe: recipe.to_owned(),
            files,
            references: Vec::new(),
            needs: Vec::new(),
            warnings: Vec::new(),
            action,
            waits: false,
            up_to_date: false,
            asked: true,
        });
    }
}
