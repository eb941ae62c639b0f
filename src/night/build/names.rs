//! Names of products: each its alone, or as a person says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::stale::mark;
use super::super::{is_up_to_date, plan_hash};
use super::{Builder, Draft};
use crate::config::{Recipe, Step, Takes};
use crate::datamodel::{Meta, distinct_name, given_name, own_part, product_name, stem_of};
use crate::fits::Fits;
use crate::night::Exposure;

/// How a product is called that is not called as products of a night are.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// This, and a suffix.
    So(String),
    /// As its (first) file, with another suffix: what stpipe does.
    AsFile,
}

impl Builder<'_> {
    /// Does `work`, the products of which are called as `named` says.
    pub(in crate::night) fn named(&mut self, named: Option<Named>, work: impl FnOnce(&mut Self)) {
        self.named = named;
        work(self);
        self.named = None;
    }

    /// The path of a product whose name a person gave: with the suffix that stpipe's
    /// pipelines give to its like.
    pub(super) fn given_name(&self, like: &str, first: Option<&&Exposure>) -> Option<PathBuf> {
        let suffix = self.settings.suffix.as_deref().filter(|_| !self.intermediate).unwrap_or(like);
        let name = match self.named.as_ref()? {
            Named::So(name) => name,
            Named::AsFile => stem_of(&first?.name),
        };
        Some(self.settings.output.join(given_name(name, suffix)))
    }

    /// `names` without clashes: none may overwrite another, nor the file of another.
    /// Those that clash get their file's own part of its name and, where that is not
    /// enough, the hash of its path, so that a name hangs on no order.
    pub(super) fn told_apart(&self, names: &[String], exposures: &[&Exposure]) -> Vec<String> {
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

    /// Where the rates that a task leaves beside its product go, by file: names of
    /// their own, like products'.
    pub(super) fn rates(&mut self, recipe: &Recipe, draft: &Draft<'_>) -> BTreeMap<PathBuf, PathBuf> {
        if recipe.takes == Takes::One {
            self.taken.extend(self.rate_beside(recipe, &draft.product).map(|rate| caseless(&rate)));
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

    /// Why the product, or a rate beside it, cannot be written: under its name lies that of
    /// another night, of an exposure of another time.
    pub(super) fn overwrites_another_night(
        &self,
        draft: &Draft<'_>,
        rates: &BTreeMap<PathBuf, PathBuf>,
        hash: &str,
    ) -> Option<String> {
        let night = self.night.as_deref().filter(|_| !self.settings.force)?;
        let rate_of = |e: &&Exposure| Some((rates.get(e.files.first()?)?.as_path(), e.meta.jd?));
        let product = draft.meta.jd.map(|jd| (draft.product.as_path(), jd));
        let mut written = draft.exposures.iter().filter_map(rate_of).chain(product);
        let theirs = |(path, jd): (&Path, f64)| -> Option<String> {
            if !path.exists() || is_up_to_date(path, hash) {
                return None;
            }
            let there = Fits::open(path).ok()?;
            let meta = Meta::from_header(there.primary());
            let other = there.primary().text("IGNIGHT")?;
            // A night that was renamed has the same exposures.
            let own = other == night || other == mark(night, true) || (meta.jd? - jd).abs() < 0.1;
            (!own).then(|| {
                format!(
                    "it would overwrite {} of another night (that exposure began {}); give another folder with -o",
                    path.display(),
                    meta.expdtst
                )
            })
        };
        written.find_map(theirs)
    }

    /// The rate that a recipe from ramps to level 2 leaves beside its product.
    pub(super) fn rate_beside(&self, recipe: &Recipe, product: &Path) -> Option<PathBuf> {
        rate_beside(recipe, product).filter(|_| !self.intermediate)
    }
}

/// See [`Builder::rate_beside`]: where this is not a product on the way.
pub(in crate::night) fn rate_beside(recipe: &Recipe, product: &Path) -> Option<PathBuf> {
    let fits = recipe.steps.iter().any(|s| matches!(s, Step::RampFit(_)));
    let name = product.file_name()?.to_str().filter(|n| n.contains("_LVL2_"))?;
    let leaves = fits && recipe.takes == Takes::One;
    leaves.then(|| product.with_file_name(name.replace("_LVL2_", "_LVL1_")))
}

/// The path as file systems see it that know no case of letters.
pub(super) fn caseless(path: &Path) -> PathBuf {
    path.to_string_lossy().to_lowercase().into()
}
