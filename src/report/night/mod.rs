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
mod page;
mod timeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

pub use last_run::LastRun;
pub use look::Row;

use crate::config::Instrument;
use crate::error::{Error, Result};

/// What was seen of products, from report to report.
const SEEN: &str = ".irisgpu-report";
/// Changes with what [`Row`] holds.
const SEEN_VERSION: u32 = 1;

/// How a report is written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seconds after which a browser loads the page again; none for a finished night.
    pub refresh: Option<u32>,
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
    /// The last run's own account.
    pub last_run: LastRun,
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
    if !output.is_dir() {
        let message = format!("{}: there is no such folder; reduce the night first", output.display());
        return Err(Error::NothingToReduce(message));
    }
    let (night, looked_at) = collect(output, instrument)?;
    let folder = options.folder.as_deref().unwrap_or(output);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let (page, json) = (folder.join("report.html"), folder.join("report.json"));
    let text = serde_json::to_string_pretty(&night).unwrap_or_default();
    atomically(&json, text.as_bytes())?;
    atomically(&page, page::html(&night, options.refresh).as_bytes())?;
    Ok(Written { page, json, products: night.rows.len(), looked_at })
}

fn collect(output: &Path, instrument: &Instrument) -> Result<(Night, usize)> {
    let seen_path = output.join(SEEN);
    let known: Option<Known> =
        std::fs::read(&seen_path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = known.filter(|k| k.version == SEEN_VERSION).map(|k| k.files).unwrap_or_default();
    let names = products(output)?;
    // Of an exposure's rate and image, the image is shown; the rate has the fit's numbers.
    let mut highest: BTreeMap<String, u8> = BTreeMap::new();
    for name in &names {
        let (key, level) = exposure_key(name);
        let top = highest.entry(key).or_default();
        *top = level.max(*top);
    }
    let mut files = BTreeMap::new();
    let mut unreadable = Vec::new();
    let mut looked_at = 0;
    for name in names {
        let path = output.join(&name);
        let Ok(facts) = std::fs::metadata(&path) else { continue };
        let changed = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map_or(0, |t| t.as_nanos());
        let (key, level) = exposure_key(&name);
        let lesser = highest.get(&key).is_some_and(|top| *top > level);
        let old = known.get(&name);
        let old = old.filter(|s| s.size == facts.len() && s.changed == changed && s.lesser == lesser);
        let row = match old {
            Some(seen) => seen.row.clone(),
            None => {
                looked_at += 1;
                match look::look(&path, &name, lesser, instrument) {
                    Ok(Some(row)) => row,
                    Ok(None) => continue,
                    Err(e) => {
                        unreadable.push((name, e.to_string()));
                        continue;
                    }
                }
            }
        };
        files.insert(name, Seen { size: facts.len(), changed, lesser, row });
    }
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    // In order of names LVL1 comes before LVL2: what the lower one knows goes with it.
    for (name, seen) in &files {
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
    let last_run = LastRun::read(output);
    last_run.tell(&mut rows);
    let text = serde_json::to_vec(&Known { version: SEEN_VERSION, files }).unwrap_or_default();
    if looked_at > 0 {
        // Only a help for the next report: a folder that cannot be written in is no error.
        let _ = atomically(&seen_path, &text);
    }
    let written = crate::pipeline::now_text();
    Ok((Night { format: 1, output: output.into(), written, rows, unreadable, last_run }, looked_at))
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
    std::fs::write(&part, bytes).map_err(Error::io("write", &part))?;
    std::fs::rename(&part, path).map_err(Error::io("write", path))
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
