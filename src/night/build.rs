//! Tasks one by one: names, references, needs and hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::assign::{Assigned, assign};
use super::group::Group;
use super::state::reference_identity;
use super::{Action, Exposure, References, Settings, Task, before, is_up_to_date, plan_hash};
use crate::config::{Recipe, Step, Takes};
use crate::datamodel::{Kind, Meta, distinct_name, master_name, own_part, product_name};
use crate::error::Result;
use crate::pipeline::Job;
use crate::refs::crds::Crds;
use crate::refs::{Candidate, THIS_NIGHT};

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
    pub(super) tasks: Vec<Task>,
}

/// What a task is made of.
struct Draft<'a> {
    name: String,
    obsname: String,
    exposures: Vec<&'a Exposure>,
    meta: Meta,
    product: PathBuf,
}

impl<'a> Builder<'a> {
    pub(super) fn new(references: &References, settings: &'a Settings, before: before::Before<'a>) -> Self {
        Builder {
            settings,
            candidates: references.candidates.clone(),
            hashes: BTreeMap::new(),
            taken: BTreeSet::new(),
            makers: BTreeMap::new(),
            dark_kept: references.dark_kept.clone(),
            crds: references.crds.clone(),
            before,
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

    pub(super) fn lenspx(&mut self, group: &Group<'_>) {
        // Arcs alone make no lenspx: they are listed with what has no recipe yet.
        let scans = |e: &&Exposure| e.obsname.as_ref().is_some_and(|o| o.kind == Kind::Spx);
        if group.exposures.iter().any(scans) {
            self.master("lenspx", "lenspx", group);
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
        let draft = Draft {
            name: group.name(reftype),
            obsname: group.obsname(),
            exposures: group.exposures.clone(),
            meta: group.meta.clone(),
            product: product.clone(),
        };
        if self.add(recipe, draft) {
            let meta = group.meta.clone();
            self.makers.insert(product.clone(), self.tasks.len() - 1);
            self.candidates.push(Candidate {
                path: product,
                reftype: reftype.to_owned(),
                meta,
                origin: THIS_NIGHT.into(),
            });
        }
    }

    /// One task for a set that becomes no master: a product of level 3.
    pub(super) fn combination(&mut self, recipe: &Recipe, group: &Group<'_>) {
        let suffix = self.settings.suffix.as_deref().unwrap_or_default();
        let draft = Draft {
            name: group.name(&recipe.name),
            obsname: group.obsname(),
            exposures: group.exposures.clone(),
            meta: group.meta.clone(),
            product: self.settings.output.join(product_name(&group.meta, recipe.level(None), suffix)),
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
        let own = if known { "" } else { recipe.name.as_str() };
        let suffix = self.settings.suffix.as_deref().unwrap_or(own);
        let plain: Vec<String> =
            exposures.iter().map(|e| product_name(&e.meta, recipe.level(e.meta.level), suffix)).collect();
        let names = self.told_apart(&plain, exposures);
        for ((exposure, name), plain) in exposures.iter().zip(names).zip(plain) {
            let renamed = name != plain;
            let draft = Draft {
                name: exposure.name.clone(),
                obsname: exposure.obsname(),
                exposures: vec![exposure],
                meta: exposure.meta.clone(),
                product: self.settings.output.join(name),
            };
            self.add(recipe, draft);
            if let Some(task) = self.tasks.last_mut().filter(|_| renamed) {
                task.warnings.push(format!(
                    "SEMID, PROGNUM, OBSNUM and EXPNUM = {} are not its alone: its product is named after its file",
                    exposure.meta.expnum
                ));
            }
        }
    }

    /// `names` without clashes: none may overwrite another, nor the file of another.
    /// Those that clash get their file's own part of its name and, where that is not
    /// enough, the hash of its path, so that a name hangs on no order.
    fn told_apart(&self, names: &[String], exposures: &[&Exposure]) -> Vec<String> {
        let path = |name: &String| self.settings.output.join(name);
        let hashed = |e: &Exposure| plan_hash([&e.name]).chars().take(8).collect::<String>();
        let owns: [&dyn Fn(&Exposure) -> String; 2] = [&|e: &Exposure| own_part(&e.name), &|e: &Exposure| {
            format!("{}-{}", own_part(&e.name), hashed(e))
        }];
        let files: BTreeMap<PathBuf, &str> = exposures
            .iter()
            .flat_map(|e| e.files.iter().filter_map(move |f| Some((f.canonicalize().ok()?, e.name.as_str()))))
            .collect();
        let mut out = names.to_vec();
        for own in owns {
            let mut times: BTreeMap<PathBuf, usize> = BTreeMap::new();
            out.iter().for_each(|name| *times.entry(caseless(&path(name))).or_default() += 1);
            for ((out, name), exposure) in out.iter_mut().zip(names).zip(exposures) {
                let place = path(out);
                let anothers = place.canonicalize().ok().and_then(|p| files.get(&p).copied());
                if times.get(&caseless(&place)).is_some_and(|&n| n > 1)
                    || self.taken.contains(&caseless(&place))
                    || self.candidates.iter().any(|c| c.path == place)
                    || anothers.is_some_and(|name| name != exposure.name)
                {
                    *out = distinct_name(name, &own(exposure));
                }
            }
        }
        out
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
            self.refuse(&draft.name, &draft.obsname, &recipe.name, files, sentence);
            return false;
        }
        let first = draft.exposures.first();
        let facts = self.crds.as_deref().zip(first).map(|(c, e)| (c, c.facts(&e.header, &draft.meta)));
        let asked = facts.as_ref().map(|(crds, facts)| (*crds, facts));
        let assigned = match assign(recipe, &draft.meta, &self.candidates, &self.dark_kept, asked) {
            Ok(assigned) => assigned,
            Err(sentence) => {
                self.refuse(&draft.name, &draft.obsname, &recipe.name, files, sentence);
                return false;
            }
        };
        let context = self.crds.as_ref().filter(|_| assigned.asked_crds());
        let crds_context = context.map(|crds| crds.context().to_owned());
        let (earlier, identities) = self.before.of(&assigned.recipe, &draft.exposures);
        let hash = match self.hash(&assigned, &draft, identities) {
            Ok(hash) => hash,
            Err(e) => {
                self.refuse(&draft.name, &draft.obsname, &recipe.name, files, e.to_string());
                return false;
            }
        };
        let references = assigned.paths();
        let needs: BTreeSet<usize> =
            references.values().filter_map(|p| self.makers.get(p).copied()).collect();
        let lost_dark = assigned.picked.iter().any(|p| p.reftype == "dark" && p.path.is_none());
        if lost_dark {
            self.dark_kept.insert(draft.product.clone());
        }
        self.hashes.insert(draft.product.clone(), hash.clone());
        let mut warnings: Vec<String> = Vec::new();
        for exposure in &draft.exposures {
            warnings.extend(exposure.warnings.iter().map(|w| format!("{}: {w}", exposure.name)));
        }
        warnings.extend(assigned.warnings.iter().cloned());
        let up_to_date = !self.settings.force
            && is_up_to_date(&draft.product, &hash)
            && rate_beside(recipe, &draft.product).is_none_or(|rate| is_up_to_date(&rate, &hash));
        let rates = self.rates(recipe, &draft);
        let job = Job {
            recipe: assigned.recipe,
            instrument: self.settings.instrument.clone(),
            inputs,
            rates,
            references,
            earlier,
            output: self.settings.output.clone(),
            masters: self.settings.masters.clone(),
            product: Some(draft.product),
            suffix: self.settings.suffix.clone(),
            read_time: self.settings.read_time,
            save_ramps: self.settings.save_ramps,
            compat: self.settings.compat,
            crds_context,
            plan_hash: hash,
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
            up_to_date,
            asked: true,
        });
        true
    }

    /// Where the rates that a task leaves beside its product go, by file: names of
    /// their own, like products'.
    fn rates(&mut self, recipe: &Recipe, draft: &Draft<'_>) -> BTreeMap<PathBuf, PathBuf> {
        if recipe.takes == Takes::One {
            self.taken.extend(rate_beside(recipe, &draft.product).map(|rate| caseless(&rate)));
            return BTreeMap::new();
        }
        let plain: Vec<String> = draft.exposures.iter().map(|e| product_name(&e.meta, 1, "")).collect();
        let names = self.told_apart(&plain, &draft.exposures);
        let mut out = BTreeMap::new();
        for (exposure, name) in draft.exposures.iter().zip(names) {
            let path = self.settings.output.join(name);
            self.taken.insert(caseless(&path));
            out.extend(exposure.files.iter().map(|file| (file.clone(), path.clone())));
        }
        out
    }

    /// Everything that decides the product's bytes, except where it is made.
    fn hash(&self, assigned: &Assigned, draft: &Draft<'_>, earlier: Vec<String>) -> Result<String> {
        let s = self.settings;
        let json = |v: serde_json::Result<String>| v.unwrap_or_default();
        let mut parts = vec![
            format!("irisgpu {}", env!("CARGO_PKG_VERSION")),
            json(serde_json::to_string(&assigned.recipe)),
            json(serde_json::to_string(&s.instrument)),
            format!("{:?} {:?}", s.suffix, s.read_time),
            draft.product.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ];
        parts.extend(s.compat.map(|c| format!("compat {}", c.name())));
        parts.extend(draft.exposures.iter().map(|e| e.identity.clone()));
        parts.extend(earlier);
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
        if self.tasks.iter().any(|t| t.files.contains(&exposure.name)) {
            return;
        }
        let why = match obsname.kind {
            Kind::Arc if obsname.channel == "LEN" => {
                "no recipe yet for arcs without LEN-SPX scans of their mode"
            }
            _ => "no recipe yet",
        };
        self.push(
            exposure.name.clone(),
            obsname.to_string(),
            "",
            vec![exposure.name.clone()],
            Action::NoRecipe(why),
        );
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
            up_to_date: false,
            asked: true,
        });
    }
}

/// The path as file systems see it that know no case of letters.
fn caseless(path: &Path) -> PathBuf {
    path.to_string_lossy().to_lowercase().into()
}

/// The rate that a recipe from ramps to level 2 leaves beside its product.
fn rate_beside(recipe: &Recipe, product: &Path) -> Option<PathBuf> {
    let fits = recipe.steps.iter().any(|s| matches!(s, Step::RampFit(_)));
    let name = product.file_name()?.to_str().filter(|n| n.contains("_LVL2_"))?;
    (fits && recipe.takes == Takes::One).then(|| product.with_file_name(name.replace("_LVL2_", "_LVL1_")))
}
