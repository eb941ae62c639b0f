//! FITS files under a folder, by their names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::lock;
use super::stale::STALE;
use crate::error::{Error, Result};

/// What a walk finds.
#[derive(Debug)]
pub struct Found {
    /// FITS files, sorted.
    pub files: Vec<PathBuf>,
    /// Folders that cannot be listed, and why.
    pub closed: Vec<(PathBuf, Error)>,
    /// Folders below those of the root that were left out by their names.
    pub passed: Vec<PathBuf>,
}

/// The FITS files under `root`, sorted, each once, and the folders below it that
/// cannot be listed. Folders called one of `not_called` (below `root`) and those in
/// `skip` are left out.
pub(super) fn fits_files(root: &Path, not_called: &[&str], skip: &[PathBuf]) -> Result<Found> {
    let mut walk = Walk { not_called, ..Walk::default() };
    walk.seen = skip.iter().filter_map(|p| p.canonicalize().ok()).collect();
    if let Ok(root) = root.canonicalize() {
        walk.seen.remove(&root);
    }
    walk.folder(root, 0)?;
    walk.files.sort();
    Ok(Found { files: walk.files, closed: walk.closed, passed: walk.passed })
}

#[derive(Default)]
struct Walk<'a> {
    not_called: &'a [&'a str],
    /// Real paths of folders and files met so far: links may loop and repeat.
    seen: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    closed: Vec<(PathBuf, Error)>,
    passed: Vec<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let real = folder.canonicalize().map_err(Error::io("open the folder", folder))?;
        if !self.seen.insert(real) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
            entries.push(entry.map_err(Error::io("list", folder))?.path());
        }
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                // What a folder of products put aside is neither a frame nor a reference.
                if name == STALE && folder.join(lock::NAME).exists() {
                    continue;
                }
                if self.not_called.contains(&name.as_str()) {
                    self.passed.extend((depth > 0).then_some(path));
                } else if let Err(e) = self.folder(&path, depth + 1) {
                    self.closed.push((path, e));
                }
            } else if is_fits(&name) && path.canonicalize().map_or(true, |real| self.seen.insert(real)) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// How files are called that are compressed as a whole, and what unpacks them.
pub(super) const PACKED: [(&str, &str); 5] =
    [("gz", "gunzip"), ("z", "uncompress"), ("bz2", "bunzip2"), ("xz", "unxz"), ("zst", "unzstd")];

/// By its name in small letters.
fn is_fits(name: &str) -> bool {
    let packed = PACKED.iter().find_map(|(end, _)| name.strip_suffix(end)?.strip_suffix('.'));
    let name = packed.or_else(|| name.strip_suffix(".fz")).unwrap_or(name);
    [".fits", ".fit", ".fts"].iter().any(|end| name.ends_with(end))
}
