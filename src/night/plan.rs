//! Tasks out of exposures.
//!
//! Darks make a master for each detector, READMODE and EXPTIME; flats for each
//! detector, FILTER and PUPIL; LEN-SPX scans with the arcs of their mode a lenspx
//! for each FILTER, GRATING and SCALE; other arcs a wavemap and white point sources a
//! dispersion for each of these, skies a master for each of these; each of them
//! one for each set that was taken together. What a person put together (`night.yaml`,
//! associations) is made so. Every science exposure is a task of its own; a
//! full frame with its subarrays is one more. Masters stand before what needs them, so
//! the tasks can be run in order. What has no recipe yet, and what cannot be done,
//! is in the plan too, with the sentence that says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::assign::Picked;
use super::before::Before;
use super::build::{Builder, Named, rate_beside};
use super::group::groups;
use super::pairs;
use super::stale::night_id;
use super::{ByHand, Exposure, Frames, References, Scan, Settings, read_files};
use crate::config::{Recipe, Takes};
use crate::datamodel::Kind;
use crate::error::{Error, Result};
use crate::pipeline::Job;
use crate::refs::MASTERS;
use crate::stpipe::Association;

/// What becomes of a task.
#[derive(Debug, Clone)]
pub enum Action {
    /// It can be run.
    Run(Box<Job>),
    /// Nothing in irisgpu reduces this yet; why, as a phrase.
    NoRecipe(&'static str),
    /// It cannot be run, as a sentence.
    Refused(String),
}

/// One product of the night, or what stands in its way.
#[derive(Debug, Clone)]
pub struct Task {
    /// The exposure's file, or the set in words.
    pub name: String,
    /// What it is for (as written, where that could not be understood).
    pub obsname: String,
    /// The recipe's name; empty where there is none.
    pub recipe: String,
    /// The files within the night.
    pub files: Vec<String>,
    /// References looked for.
    pub references: Vec<Picked>,
    /// Tasks (all before this one) whose products it reads.
    pub needs: Vec<usize>,
    /// What the user should know beforehand.
    pub warnings: Vec<String>,
    /// What becomes of it.
    pub action: Action,
    /// Whether a calibration that may still be taken is all that it is refused for.
    pub waits: bool,
    /// Whether its product is there already.
    pub up_to_date: bool,
    /// Whether `--only` lets it be done.
    pub asked: bool,
}

impl Task {
    /// The job, if it can be run.
    pub fn job(&self) -> Option<&Job> {
        match &self.action {
            Action::Run(job) => Some(job),
            _ => None,
        }
    }

    /// The planned product, seen from the output folder.
    pub fn product_within(&self) -> String {
        let within = self.job().zip(self.product()).map(|(job, p)| p.strip_prefix(&job.output).unwrap_or(p));
        within.map(|p| p.display().to_string()).unwrap_or_default()
    }

    /// The files without which it is not done: its product, and the rate beside that.
    pub fn outputs(&self) -> Vec<PathBuf> {
        let Some((job, product)) = self.job().zip(self.product()) else { return Vec::new() };
        let rate = rate_beside(&job.recipe, product).filter(|_| !job.intermediate);
        std::iter::once(product.to_path_buf()).chain(rate).collect()
    }

    /// The planned product.
    pub fn product(&self) -> Option<&Path> {
        self.job().and_then(|job| job.product.as_deref())
    }
}

/// The night as tasks, each after those that it needs.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Folder of science products.
    pub output: PathBuf,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What concerns no single task.
    pub warnings: Vec<String>,
    /// The night's frames, where this is the plan of a whole one: products of it that are
    /// not in the plan are then none of its products any more.
    pub frames: Option<Frames>,
}

/// Plans a scanned night that lies in the folder `night`; `by_hand` is what a person says
/// of it.
pub fn plan(
    night: &Path,
    scan: &Scan,
    by_hand: &ByHand,
    references: &References,
    settings: &Settings,
) -> Result<Plan> {
    if scan.exposures.is_empty() && scan.problems.is_empty() {
        let passed = match scan.ignored.len() {
            0 => String::new(),
            1 => format!(" ({} was passed over: {})", scan.ignored[0].0, scan.ignored[0].1),
            n => format!(
                " ({n} FITS files were passed over: the first, {}, because {})",
                scan.ignored[0].0, scan.ignored[0].1
            ),
        };
        return Err(Error::NothingToReduce(format!("there are no raw FITS files to reduce{passed}")));
    }
    let asked = read_files(&settings.earlier);
    let before = Before::of_night(&scan.exposures, &asked.exposures);
    let mut warnings = [scan.warnings.as_slice(), &by_hand.unused].concat();
    let pairs = pairs::of_night(by_hand, night, scan, &mut warnings)?;
    let mut builder = Builder::new(references, settings, before, &scan.relabels);
    let id = night_id(night, &settings.output);
    builder.night = settings.suffix.is_none().then(|| id.clone());
    // What a person put together is in no other set.
    let free = |reftype: &str, exposure: &Exposure| {
        pairs.iter().filter(|p| p.reftype == reftype).all(|p| p.frames().all(|name| name != exposure.name))
    };
    let of = |kinds: &'static [Kind], channel: fn(&str) -> bool| {
        scan.exposures.iter().filter(move |e| {
            e.obsname.as_ref().is_some_and(|o| kinds.contains(&o.kind) && channel(&o.channel))
        })
    };
    let imager: fn(&str) -> bool = |c| c.starts_with("IMG");
    let lenslet: fn(&str) -> bool = |c| c == "LEN";
    let science: Vec<&Exposure> = of(&[Kind::Science], |_| true).collect();
    let free_of =
        |kinds, channel, reftype: &'static str| of(kinds, channel).filter(move |e| free(reftype, e));
    // References that are files first, then masters in the order of their needs. The
    // slicer and the lenslets share a detector, so their darks are one.
    builder.pairs(&pairs, |reftype| !MASTERS.contains(&reftype));
    for group in groups("dark", free_of(&[Kind::Dark], |_| true, "dark"), &science) {
        builder.master("dark", "dark", &group);
    }
    builder.pairs(&pairs, |reftype| reftype == "dark");
    for group in groups("flat", free_of(&[Kind::Flat], imager, "flat"), &science) {
        builder.master("flat", "flat", &group);
    }
    builder.pairs(&pairs, |reftype| reftype == "flat");
    let mut arcs = Vec::new();
    for group in groups("lenspx", free_of(&[Kind::Spx, Kind::Arc], lenslet, "lenspx"), &science) {
        arcs.extend(builder.lenspx(&group, &science));
    }
    builder.pairs(&pairs, |reftype| reftype == "lenspx");
    for group in groups("wavemap", arcs.into_iter().filter(|e| free("wavemap", e)), &science) {
        builder.master("wavecal", "wavemap", &group);
    }
    builder.pairs(&pairs, |reftype| reftype == "wavemap");
    // A fibre's frames are of the dispersion where their OBSNAME says so.
    let sources = free_of(&[Kind::Dispersion, Kind::Fiber], lenslet, "dispersion")
        .filter(|e| e.meta.obsname.trim().eq_ignore_ascii_case("LEN-IDP") || !is_fibre(e));
    for group in groups("dispersion", sources, &science) {
        builder.master("dispersion", "dispersion", &group);
    }
    builder.pairs(&pairs, |reftype| reftype == "dispersion");
    for group in groups("sky", free_of(&[Kind::Sky], |c| c != "SLI", "sky"), &science) {
        builder.sky(&group);
    }
    builder.pairs(&pairs, |reftype| reftype == "sky");
    let images: Vec<&Exposure> = of(&[Kind::Science], imager).collect();
    builder.each("imager", &images);
    builder.merged(&images);
    builder.each("lenslet", &of(&[Kind::Science], lenslet).collect::<Vec<_>>());
    let taken: BTreeSet<String> = builder.tasks.iter().flat_map(|t| t.files.iter().cloned()).collect();
    for exposure in scan.exposures.iter().filter(|e| !taken.contains(&e.name)) {
        builder.without_recipe(exposure);
    }
    for problem in &scan.problems {
        builder.refuse(
            &problem.name,
            &problem.obsname,
            "",
            vec![problem.name.clone()],
            problem.sentence.clone(),
        );
    }
    let mut plan =
        Plan { output: settings.output.clone(), warnings: references.warnings.clone(), ..Plan::default() };
    // Products with a suffix, and those of a part of the night, are a person's own.
    plan.frames = Frames::of(id, scan).filter(|_| settings.only.is_empty() && settings.suffix.is_none());
    if let Some(frames) = &mut plan.frames {
        // A person may pair frames of elsewhere.
        let inputs = builder.tasks.iter().filter_map(Task::job).flat_map(|job| &job.inputs);
        frames.add(inputs.map(PathBuf::as_path));
    }
    plan.tasks = builder.tasks;
    plan.warnings.extend(warnings);
    plan.warnings.extend(asked.problems.iter().map(|p| p.sentence.clone()));
    plan.warnings.extend(references.crds.iter().flat_map(|crds| crds.warnings()));
    plan.keep_only(&settings.only)?;
    Ok(plan)
}

/// The plan of a night none of whose frames counts any more, though they lie there: it has
/// no task, but knows which of its products are none of the night. `None` where nothing
/// lies there (a disk that is not mounted looks like that), or of a part of a night.
pub fn of_no_frame(night: &Path, scan: &Scan, settings: &Settings) -> Option<Plan> {
    let none = scan.exposures.is_empty() && scan.problems.is_empty() && !scan.ignored.is_empty();
    let whole = settings.only.is_empty() && settings.suffix.is_none();
    let frames = Frames::of(night_id(night, &settings.output), scan).filter(|_| none && whole)?;
    Some(Plan { output: settings.output.clone(), frames: Some(frames), ..Plan::default() })
}

fn is_fibre(exposure: &Exposure) -> bool {
    exposure.obsname.as_ref().is_some_and(|o| o.kind == Kind::Fiber)
}

/// Plans one recipe on named files: one task a file, or one for the set. `named` says how
/// products are called, where a person did.
pub fn of_files(
    recipe: &Recipe,
    files: &Scan,
    named: Option<Named>,
    references: &References,
    settings: &Settings,
) -> Result<Plan> {
    let asked = read_files(&settings.earlier);
    let before = Before::of_files(&files.exposures, &asked.exposures);
    let mut builder = Builder::new(references, settings, before, &files.relabels);
    let exposures: Vec<&Exposure> = files.exposures.iter().collect();
    builder.named(named, |builder| builder.files(recipe, &exposures));
    for problem in &files.problems {
        builder.refuse(&problem.name, "", &recipe.name, vec![problem.name.clone()], problem.sentence.clone());
    }
    let mut warnings = [files.warnings.as_slice(), &references.warnings].concat();
    warnings.extend(asked.problems.iter().map(|p| p.sentence.clone()));
    warnings.extend(references.crds.iter().flat_map(|crds| crds.warnings()));
    if let (Takes::Set, [one], false) = (recipe.takes, files.exposures.as_slice(), files.warnings.is_empty())
    {
        warnings.push(format!("{} is all that the set holds then: give several exposures", one.name));
    }
    Ok(Plan { output: settings.output.clone(), tasks: builder.tasks, warnings, frames: None })
}

/// Plans one recipe on the products of associations: one task a product, which has its
/// name, on its science members (one of them, where the recipe takes one), with what
/// calibrates them before it.
pub fn of_associations(
    recipe: &Recipe,
    associations: &[Association],
    references: &References,
    settings: &Settings,
) -> Result<Plan> {
    let asked = read_files(&settings.earlier);
    let all = associations.iter().flat_map(|a| a.products.iter().map(|p| (pairs::file_name(&a.path), p)));
    let products: Vec<_> = all.map(|(by, product)| (by, product, read_files(&product.science()))).collect();
    let everything: Vec<Exposure> = products.iter().flat_map(|(_, _, s)| s.exposures.clone()).collect();
    let before = Before::of_files(&everything, &asked.exposures);
    let relabels = Default::default();
    let mut builder = Builder::new(references, settings, before, &relabels);
    let mut warnings = references.warnings.clone();
    for (by, product, scan) in &products {
        warnings.extend(scan.warnings.iter().cloned());
        let name = &product.name;
        for problem in &scan.problems {
            builder.refuse(
                &problem.name,
                "",
                &recipe.name,
                vec![problem.name.clone()],
                problem.sentence.clone(),
            );
        }
        let mut exposures: Vec<&Exposure> = scan.exposures.iter().collect();
        if recipe.takes == Takes::One && exposures.len() > 1 {
            warnings.push(format!(
                "{by}, product {name}: {} takes one exposure: {} is taken, the others are not",
                recipe.name, exposures[0].name
            ));
            exposures.truncate(1);
        }
        builder.release();
        let own: Vec<Exposure> = exposures.iter().map(|e| (*e).clone()).collect();
        let pairs = pairs::of_product(by, product, &own, None, &mut warnings)?;
        pairs::check(&pairs)?;
        builder.pairs(&pairs, |reftype| !MASTERS.contains(&reftype));
        MASTERS.iter().for_each(|master| builder.pairs(&pairs, |reftype| reftype == *master));
        builder.named(Some(Named::So(name.clone())), |builder| builder.files(recipe, &exposures));
    }
    warnings.extend(references.crds.iter().flat_map(|crds| crds.warnings()));
    Ok(Plan { output: settings.output.clone(), tasks: builder.tasks, warnings, frames: None })
}

impl Plan {
    /// One task alone, whatever it needs being there.
    pub fn only(&self, index: usize) -> Plan {
        let task = self.tasks.get(index).map(|t| Task { needs: Vec::new(), ..t.clone() });
        Plan { output: self.output.clone(), tasks: task.into_iter().collect(), ..Plan::default() }
    }

    /// Marks what is asked for, and what that needs.
    fn keep_only(&mut self, only: &[String]) -> Result<()> {
        if only.is_empty() {
            return Ok(());
        }
        for i in (0..self.tasks.len()).rev() {
            let task = &self.tasks[i];
            let texts = task.files.iter().chain([&task.name, &task.obsname, &task.recipe]);
            let matched = texts.into_iter().any(|t| only.iter().any(|pattern| matches(pattern, t)));
            let needed = self.tasks[i + 1..].iter().any(|later| later.asked && later.needs.contains(&i));
            self.tasks[i].asked = matched || needed;
        }
        if self.tasks.iter().any(|t| t.asked) {
            return Ok(());
        }
        Err(Error::NothingToReduce(format!(
            "nothing in this night matches --only {} (it is compared with file names, OBSNAME and recipes)",
            only.join(",")
        )))
    }
}

/// Whether `pattern` is a part of `text`, or, with `*`, matches the whole of it;
/// in any case of letters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return !pattern.is_empty() && text.contains(&pattern);
    };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
