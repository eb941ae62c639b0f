//! Products that a night does not make any more: those of frames that were removed or
//! excluded, those under names that are another's now, masters of sets that are other
//! sets now. They are put into the folder `stale` of the products' folder, never removed,
//! and come back from there when the night makes them again.
//!
//! Only files are touched that this program wrote for this night (DRSVER, IGPLAN, IGNIGHT)
//! under the name that they have (FILENAME), and that lie where it writes. Whoever calls
//! holds the folder's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::scan::Scan;
use super::{Plan, Task, is_up_to_date, plan_hash};
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::pipeline::{companions, recorded_inputs, recorded_name};

/// The folder's name.
pub const STALE: &str = "stale";
/// What IGNIGHT of a product ends in that a step left on the way (`--save_results`).
const ON_THE_WAY: &str = "+";

/// Which frames a night has, by their files' names as products record them.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// What IGNIGHT of its products says.
    night: String,
    here: BTreeSet<String>,
    /// Those that lie there and do not count, with the reason.
    left_out: BTreeMap<String, String>,
}

/// A product that the night does not make any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its name within the products' folder.
    pub file: String,
    /// Why, as a phrase.
    pub why: String,
}

impl Orphan {
    /// What became of it, after its name.
    pub fn sentence(&self) -> String {
        format!("is in {STALE}/ now: {}", self.why)
    }
}

/// What IGNIGHT of the products of a night says: where they lie within its folder, or
/// else that folder's name and the name of the one around it, as a hash. So a night may
/// move as a whole, be called otherwise where its products go with it, and share a folder
/// of products with another one.
pub(super) fn night_id(night: &Path, output: &Path) -> String {
    let (night, output) = (real(night), real(output));
    let names: Vec<_> = match output.strip_prefix(&night) {
        Ok(within) => vec![within.to_string_lossy()],
        Err(_) => night.components().rev().take(2).map(|c| c.as_os_str().to_string_lossy()).collect(),
    };
    plan_hash(&names).chars().take(16).collect()
}

/// The path without links, also of a folder that is still to be made.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (real, _, _) => real.unwrap_or(path),
    }
}

/// IGNIGHT of a product.
pub(super) fn mark(night: &str, on_the_way: bool) -> String {
    if on_the_way { format!("{night}{ON_THE_WAY}") } else { night.to_owned() }
}

fn plain(name: &str) -> String {
    recorded_name(Path::new(name))
}

impl Frames {
    /// Those of a scanned night, whose products bear `night`; `None` where a part of it could not be listed.
    pub(super) fn of(night: String, scan: &Scan) -> Option<Frames> {
        let ignored: BTreeSet<&String> = scan.ignored.iter().map(|(name, _)| name).collect();
        let here: BTreeSet<String> =
            scan.files.iter().filter(|f| !ignored.contains(f)).map(|f| plain(f)).collect();
        let why = scan.ignored.iter().map(|(name, why)| (plain(name), why.clone()));
        let left_out = why.filter(|(name, _)| !here.contains(name)).collect();
        scan.whole.then_some(Frames { night, here, left_out })
    }

    /// Files that are there, too, whether or not they count yet.
    pub fn add<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        for name in files.map(recorded_name) {
            if !self.left_out.contains_key(&name) {
                self.here.insert(name);
            }
        }
    }
}

/// A file that may be an orphan.
struct Product {
    path: PathBuf,
    name: String,
    hash: String,
    inputs: Vec<String>,
    on_the_way: bool,
}

/// Products of this night that it does not make any more. `is_made` tells which tasks have
/// their product: what takes another's place must be there. None where the plan is not
/// that of a whole night.
pub fn orphans(plan: &Plan, is_made: impl Fn(usize) -> bool) -> Vec<Orphan> {
    let Some(frames) = &plan.frames else { return Vec::new() };
    let planned: BTreeSet<PathBuf> = plan.tasks.iter().flat_map(planned_of).collect();
    let name = |p: &PathBuf| p.file_name().unwrap_or_default().to_os_string();
    let names: BTreeSet<_> = planned.iter().map(name).collect();
    let goes = goes_into(plan, is_made);
    let hashes: BTreeSet<&str> =
        plan.tasks.iter().filter_map(|t| t.job()).map(|job| job.plan_hash.as_str()).collect();
    let used = used(plan);
    let mut kept = BTreeMap::new();
    for path in written(&plan.output) {
        let is_planned = planned.contains(&path) || names.contains(path.file_name().unwrap_or_default());
        let is_used = || path.canonicalize().is_ok_and(|real| used.contains(&real));
        // A task may leave more than is planned (the frames of a sky).
        let product = if is_planned || is_used() { None } else { product(&path, frames) };
        if let Some(product) = product.filter(|p| !hashes.contains(p.hash.as_str())) {
            kept.insert(product.name.clone(), product);
        }
    }
    let known: BTreeSet<String> = names.iter().map(|n| plain(&n.to_string_lossy())).collect();
    let mut out = Vec::new();
    // A product may have been made of another one: what goes may take others with it.
    loop {
        let gone = |input: &String| {
            let there = frames.here.contains(input)
                || known.contains(input)
                || kept.contains_key(input)
                || plan.output.join(input).is_file() && !out.iter().any(|o: &Orphan| o.file == *input);
            !there
        };
        let reason = |p: &Product| -> Option<String> {
            if let Some(input) = p.inputs.iter().find(|i| gone(i)) {
                return Some(match frames.left_out.get(input) {
                    Some(why) => format!("of {input}: {why}"),
                    None => format!("{input}, which it was made of, is not in the night any more"),
                });
            }
            let now: Option<Vec<_>> = p.inputs.iter().map(|i| goes.get(i)).collect();
            let now = now.filter(|now| !now.is_empty() && !p.on_the_way)?;
            let now = now[0].strip_prefix(&plan.output).unwrap_or(now[0]).display();
            Some(match p.inputs.as_slice() {
                [one] => format!("{one} goes into {now} now"),
                [first, ..] => format!("{first} and the others go into {now} now"),
                [] => String::new(),
            })
        };
        let more: Vec<(String, Orphan)> = kept
            .iter()
            .filter_map(|(key, p)| {
                let file = p.path.strip_prefix(&plan.output).unwrap_or(&p.path);
                let file = file.to_string_lossy().replace('\\', "/");
                Some((key.clone(), Orphan { file, why: reason(p)? }))
            })
            .collect();
        if more.is_empty() {
            out.sort_by(|a, b| a.file.cmp(&b.file));
            return out;
        }
        for (key, orphan) in more {
            kept.remove(&key);
            out.push(orphan);
        }
    }
}

/// Which product a frame goes into, where that is there.
fn goes_into(plan: &Plan, is_made: impl Fn(usize) -> bool) -> BTreeMap<String, &Path> {
    let mut goes = BTreeMap::new();
    for (_, task) in plan.tasks.iter().enumerate().filter(|(i, _)| is_made(*i)) {
        let Some((job, product)) = task.job().zip(task.product()) else { continue };
        for input in &job.inputs {
            goes.entry(recorded_name(input)).or_insert(product);
        }
    }
    goes
}

/// Files that tasks read: a person may take an old master by hand, or as one of another
/// night.
fn used(plan: &Plan) -> BTreeSet<PathBuf> {
    let jobs = plan.tasks.iter().filter_map(Task::job);
    let all: BTreeSet<&PathBuf> = jobs.flat_map(|job| job.references.values().chain(&job.inputs)).collect();
    all.into_iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// Everything that is planned of a task.
fn planned_of(task: &Task) -> Vec<PathBuf> {
    let rates = task.job().into_iter().flat_map(|job| job.rates.values().cloned());
    let mut all: Vec<PathBuf> = task.outputs().into_iter().chain(rates).collect();
    all.sort();
    all.dedup();
    all
}

/// FITS files where products are written, links and what stands beside products left out.
fn written(output: &Path) -> Vec<PathBuf> {
    let folders = [output.to_path_buf(), output.join("masters")];
    let entries = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file()))
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "fits") && !crate::pipeline::product::is_companion(p))
        .collect();
    files.sort();
    files
}

/// A file that says that this program wrote it so for this night.
fn product(path: &Path, frames: &Frames) -> Option<Product> {
    let fits = Fits::open(path).ok()?;
    let h = fits.primary();
    let name = path.file_name()?.to_str()?;
    let own = h.text("FILENAME").as_deref() == Some(name)
        && h.text("DRSVER").is_some_and(|by| by.starts_with("irisgpu"));
    let hash = h.text("IGPLAN").filter(|hash| !hash.is_empty())?;
    let night = h.text("IGNIGHT").filter(|_| own)?;
    let on_the_way = night == mark(&frames.night, true);
    let inputs = recorded_inputs(h);
    let known = (on_the_way || night == frames.night) && !inputs.is_empty();
    known.then(|| Product { path: path.to_path_buf(), name: plain(name), hash, inputs, on_the_way })
}

/// Moves the orphans into `stale`; those that were moved, and why others were not.
pub fn put_aside(plan: &Plan, is_made: impl Fn(usize) -> bool) -> (Vec<Orphan>, Vec<Error>) {
    let (mut moved, mut errors) = (Vec::new(), Vec::new());
    for orphan in orphans(plan, is_made) {
        let from = plan.output.join(&orphan.file);
        let to = plan.output.join(STALE).join(&orphan.file);
        // What stands beside it first: a run that is killed here finds the product again.
        let beside = companions(&from).into_iter().zip(companions(&to));
        let all = beside.filter(|(from, _)| from.is_file()).chain([(from.clone(), to.clone())]);
        match all.into_iter().try_for_each(|(from, to)| displace(&from, &to)) {
            Ok(()) => moved.push(orphan),
            Err(e) => errors.push(e),
        }
    }
    (moved, errors)
}

/// Moves a file; one that stands there already gets a number.
fn displace(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    if to.exists() {
        let stem = to.file_stem().unwrap_or_default().to_string_lossy();
        let free = (2..).map(|n| to.with_file_name(format!("{stem}.{n}.fits"))).find(|p| !p.exists());
        free.map_or(Ok(()), |free| std::fs::rename(to, free)).map_err(Error::io("rename", to))?;
    }
    std::fs::rename(from, to).map_err(Error::io("move", from))
}

/// Moves back from `stale` what tasks of the night would make again as it is there, and
/// marks these tasks as up to date; how many.
pub fn bring_back(plan: &mut Plan) -> usize {
    let stale = plan.output.join(STALE);
    if plan.frames.is_none() || !stale.is_dir() || plan.tasks.iter().all(|t| t.up_to_date) {
        return 0;
    }
    let mut aside: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in written(&stale) {
        let Ok(fits) = Fits::open(&path) else { continue };
        let text = |key| fits.primary().text(key);
        // One that got a number there is an older one.
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        if let Some(hash) = text("IGPLAN").filter(|_| text("FILENAME") == name) {
            aside.entry(hash).or_default().push(path);
        }
    }
    let mut n = 0;
    for task in plan.tasks.iter_mut().filter(|t| !t.up_to_date) {
        let Some(hash) = task.job().map(|job| job.plan_hash.clone()) else { continue };
        let Some(files) = aside.remove(&hash) else { continue };
        for from in files.iter().filter(|from| is_up_to_date(from, &hash)) {
            let Ok(within) = from.strip_prefix(&stale) else { continue };
            let to = plan.output.join(within);
            let beside = companions(from).into_iter().zip(companions(&to));
            let moves = [(from.clone(), to.clone())].into_iter().chain(beside);
            for (from, to) in moves.filter(|(from, to)| from.is_file() && !to.exists()) {
                let folder = to.parent().map_or(Ok(()), std::fs::create_dir_all);
                // What cannot be moved is made again.
                let _ = folder.and_then(|()| std::fs::rename(&from, &to));
            }
        }
        task.up_to_date = task.outputs().iter().all(|p| is_up_to_date(p, &hash));
        n += usize::from(task.up_to_date);
    }
    n
}

/// The products in `stale`, by their names within it.
pub fn set_aside(output: &Path) -> Vec<String> {
    let stale = output.join(STALE);
    let within = |p: PathBuf| Some(p.strip_prefix(&stale).ok()?.to_string_lossy().replace('\\', "/"));
    written(&stale).into_iter().filter_map(within).collect()
}
