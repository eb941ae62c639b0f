//! The night's report: one page and its copy for machines, from products.
//!
//! [`write()`] looks at every product in a folder (`look`), joins them with what
//! the last run said ([`LastRun`]), and writes `report.html` and `report.json` there. What
//! was seen of a product is kept in `.irisgpu-report`, so that the next report looks at new
//! and changed files alone.

mod cube;
mod graph;
mod last_run;
mod look;
mod newest;
mod page;
mod timeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use last_run::{LastRun, note};
pub use look::Row;
pub use newest::Newest;

use crate::config::Instrument;
use crate::error::{Error, Result};

/// What was seen of products, from report to report.
const SEEN: &str = ".irisgpu-report";
/// Changes with what [`Row`] holds.
const SEEN_VERSION: u32 = 4;

/// How a report is written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seconds after which a browser loads the page again, its newest product first; none
    /// for a finished night.
    pub refresh: Option<u32>,
    /// When this much time has gone into looking at files, the others are left for the next
    /// time; at least one is looked at.
    pub patience: Option<Duration>,
    /// Where the page and its copy go; the products' folder without.
    pub folder: Option<PathBuf>,
}

/// The report's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// The copy for machines.
    pub json: PathBuf,
    /// Products in it.
    pub products: usize,
    /// Products that were looked at; the others were known from before.
    pub looked_at: usize,
    /// Products that are left for the next time.
    pub left: usize,
}

/// A whole night, as reported.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Night {
    /// Version of this format.
    pub format: u32,
    /// The products' folder.
    pub output: PathBuf,
    /// When the report was written, UTC.
    pub written: String,
    /// Exposures and masters, in the order in which they were taken.
    pub rows: Vec<Row>,
    /// Files that could not be looked at, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Products that the night does not make any more, in the folder `stale`.
    pub stale: usize,
    /// The last run's own account.
    pub last_run: LastRun,
    /// The newest product, of a night that is not over.
    #[serde(skip)]
    pub newest: Option<Newest>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    version: u32,
    files: BTreeMap<String, Seen>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Seen {
    size: u64,
    changed: u128,
    /// Whether it was looked at for its fit alone.
    lesser: bool,
    row: Row,
}

/// Reports on the products in `output`.
pub fn write(output: &Path, instrument: &Instrument, options: &Options) -> Result<Written> {
    Reporter::new(output, instrument).write(options)
}

/// Writes reports on one folder of products, and looks at no product twice.
pub struct Reporter {
    output: PathBuf,
    instrument: Instrument,
    /// What was seen so far; none before the first report.
    known: Option<BTreeMap<String, Seen>>,
    newest: Option<Newest>,
}

/// A product that is to be looked at.
struct Fresh {
    name: String,
    size: u64,
    changed: u128,
    lesser: bool,
}

impl Reporter {
    /// Looks at nothing yet.
    pub fn new(output: &Path, instrument: &Instrument) -> Reporter {
        let (output, instrument) = (output.to_path_buf(), instrument.clone());
        Reporter { output, instrument, known: None, newest: None }
    }

    /// Writes the page and its copy for machines as the products are now.
    pub fn write(&mut self, options: &Options) -> Result<Written> {
        let output = self.output.clone();
        if !output.is_dir() {
            let message = format!("{}: there is no such folder; reduce the night first", output.display());
            return Err(Error::NothingToReduce(message));
        }
        let (mut night, looked_at, left) = self.collect(options.patience)?;
        if options.refresh.is_some() {
            self.newest = newest::of(&night.rows, self.newest.take(), &output, &self.instrument);
            night.newest.clone_from(&self.newest);
        }
        let folder = options.folder.as_deref().unwrap_or(&output);
        // The products' own may have been removed meanwhile: it is not made again.
        if folder != output {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let (page, json) = (folder.join("report.html"), folder.join("report.json"));
        let text = serde_json::to_string_pretty(&night).unwrap_or_default();
        atomically(&json, text.as_bytes())?;
        atomically(&page, page::html(&night, options.refresh).as_bytes())?;
        Ok(Written { page, json, products: night.rows.len(), looked_at, left })
    }

    /// What earlier reports saw.
    fn seen_before(&self) -> BTreeMap<String, Seen> {
        let bytes = std::fs::read(self.output.join(SEEN)).ok();
        let known: Option<Known> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        known.filter(|k| k.version == SEEN_VERSION).map(|k| k.files).unwrap_or_default()
    }

    /// The night; how many files were looked at, and how many are left.
    fn collect(&mut self, patience: Option<Duration>) -> Result<(Night, usize, usize)> {
        let start = Instant::now();
        let mut known = self.known.take().unwrap_or_else(|| self.seen_before());
        let names = products(&self.output)?;
        // Of an exposure's rate and image, the image is shown; the rate has the fit's numbers.
        let mut highest: BTreeMap<String, u8> = BTreeMap::new();
        for name in &names {
            let (key, level) = exposure_key(name);
            let top = highest.entry(key).or_default();
            *top = level.max(*top);
        }
        let (mut files, mut fresh) = (BTreeMap::new(), Vec::new());
        for name in names {
            let Ok(facts) = std::fs::metadata(self.output.join(&name)) else { continue };
            let changed = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let (size, changed) = (facts.len(), changed.map_or(0, |t| t.as_nanos()));
            let (key, level) = exposure_key(&name);
            let lesser = highest.get(&key).is_some_and(|top| *top > level);
            match known.remove(&name) {
                Some(seen) if seen.size == size && seen.changed == changed && seen.lesser == lesser => {
                    files.insert(name, seen);
                }
                _ => fresh.push(Fresh { name, size, changed, lesser }),
            }
        }
        fresh.sort_by_key(|f| std::cmp::Reverse(f.changed));
        let (mut unreadable, mut looked_at, all) = (Vec::new(), 0, fresh.len());
        for f in fresh {
            if looked_at > 0 && patience.is_some_and(|p| start.elapsed() >= p) {
                break;
            }
            looked_at += 1;
            let looked = look::look(&self.output.join(&f.name), &f.name, f.lesser, &self.instrument);
            match looked {
                Ok(Some(row)) => {
                    let Fresh { name, size, changed, lesser } = f;
                    files.insert(name, Seen { size, changed, lesser, row });
                }
                Ok(None) => {}
                Err(e) => unreadable.push((f.name, e.to_string())),
            }
        }
        unreadable.sort();
        let mut rows = exposures(&files);
        let last_run = LastRun::read(&self.output);
        last_run.tell(&mut rows);
        if looked_at > 0 {
            let known = Known { version: SEEN_VERSION, files };
            let text = serde_json::to_vec(&known).unwrap_or_default();
            // Only a help for the next report: a folder that cannot be written in is no error.
            let _ = atomically(&self.output.join(SEEN), &text);
            files = known.files;
        }
        self.known = Some(files);
        let (written, output) = (crate::pipeline::now_text(), self.output.clone());
        let stale = products(&self.output.join("stale"))?.len();
        let night = Night { format: 1, output, written, rows, unreadable, stale, last_run, newest: None };
        Ok((night, looked_at, all - looked_at))
    }
}

/// A row an exposure and a master, in the order in which they were taken.
fn exposures(files: &BTreeMap<String, Seen>) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    // In order of names LVL1 comes before LVL2: what the lower one knows goes with it.
    for (name, seen) in files {
        let row = seen.row.clone();
        match rows.entry(exposure_key(name).0) {
            std::collections::btree_map::Entry::Occupied(mut before) => {
                let merged = if row.level >= before.get().level {
                    row.over(before.get())
                } else {
                    before.get().over(&row)
                };
                before.insert(merged);
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(row);
            }
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    let start = |r: &Row| r.begin.unwrap_or(f64::MAX);
    rows.sort_by(|a, b| start(a).total_cmp(&start(b)).then_with(|| a.file.cmp(&b.file)));
    rows
}

/// FITS files in the folder and its `masters`, by their names within it; lists of jumps and
/// rates of single ramps are no products of their own.
fn products(output: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (folder, prefix) in [(output.to_path_buf(), ""), (output.join("masters"), "masters/")] {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".fits") && !crate::pipeline::product::is_companion(&entry.path()) {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// A product's name without its level, and the level.
fn exposure_key(name: &str) -> (String, u8) {
    match name.split_once("_LVL") {
        Some((front, rest)) if rest.as_bytes().first().is_some_and(u8::is_ascii_digit) => {
            (format!("{front}_LVL{}", &rest[1..]), rest.as_bytes()[0] - b'0')
        }
        _ => (name.to_owned(), 0),
    }
}

/// Under another name first: a reader meets the old page or the new one.
pub(super) fn atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|e| {
        // Of a disk that is full, nothing stays.
        let _ = std::fs::remove_file(&part);
        Error::io("write", path)(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_is_one_whatever_its_level() {
        let (a, b) =
            (exposure_key("S_IRIS_IMG1_SCI_LVL1_0001.fits"), exposure_key("S_IRIS_IMG1_SCI_LVL2_0001.fits"));
        assert_eq!(a.0, b.0);
        assert_eq!((a.1, b.1), (1, 2));
        assert_eq!(exposure_key("masters/IRIS_IMG1_DARK.fits").1, 0);
        assert_eq!(exposure_key("x_LVLé.fits").1, 0);
    }
}
