//! What is up to date.
//!
//! A product carries in IGPLAN the hash of everything that decided its bytes:
//! this software's version, the effective recipe, the instrument's numbers, the
//! identities of its inputs and of its references. It is up to date when a plan
//! made now gives the same hash.
//!
//! The identity of a raw file is its name within the night, its size, its time of
//! change (ns) and the hash of all its headers: cheap (pixels are not read), yet
//! an edited, replaced or re-copied file is seen. The identity of a reference is
//! its file's name and the hash of its bytes, so one that was only touched or
//! copied again is the same. The identity of a master of the night is its own plan
//! hash, so a chain of tasks is judged before any has run.
//! Where the night lies and which engine computes are left out: a night moved to
//! another disk, or begun on a GPU and continued without one, is not redone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::refs;

/// The identity of an open file under the name that it has in its night, and what tells
/// whether it is a copy of another one.
pub(super) fn file_identity(name: &str, fits: &Fits) -> Result<(String, Likeness)> {
    let facts = std::fs::metadata(&fits.path).map_err(Error::io("read", &fits.path))?;
    // File systems without times of change leave it to size and headers.
    let changed = facts.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |t| t.as_nanos());
    let mut hasher = blake3::Hasher::new();
    for hdu in &fits.hdus {
        hasher.update(&hdu.header.to_bytes());
    }
    let alike = Likeness {
        primary: blake3::hash(&fits.primary().to_bytes()).to_hex().to_string(),
        headers: hasher.finalize().to_hex().to_string(),
        bytes: facts.len(),
        missing: fits.missing(),
    };
    Ok((format!("{name} {} {changed} {}", alike.bytes, alike.headers), alike))
}

/// What tells which files may be copies of one another, whole or cut short.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Likeness {
    /// Hash of the primary header: a file cut short has that of the whole one.
    pub(super) primary: String,
    headers: String,
    bytes: u64,
    /// Bytes that its headers promise and that are not there.
    pub(super) missing: u64,
}

/// The identity of a reference file, in whatever folder it lies.
pub(super) fn reference_identity(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} {}", refs::fingerprint(path)?))
}

/// The hash of `parts`, in order; 32 hexadecimal digits, which fit in a card.
pub fn plan_hash<T: AsRef<str>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // The length keeps ("ab", "c") from being ("a", "bc").
        let part = part.as_ref();
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// What tells without reading that a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its size.
    pub bytes: u64,
    /// Its time of change, where its file system has times.
    pub changed: Option<SystemTime>,
    /// Its number in its file system: another file under the same name has another.
    pub inode: u64,
}

/// A file changed so recently may change again within one tick of its file system's
/// clock.
const TICK: Duration = Duration::from_secs(3);

impl Stamp {
    /// The file's; `None` of what cannot be asked.
    pub fn of(path: &Path) -> Option<Stamp> {
        let facts = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&facts);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { bytes: facts.len(), changed: facts.modified().ok(), inode })
    }

    /// How long ago the file changed, by this machine's clock; `None` where that is not
    /// known, or still to come.
    pub fn age(&self) -> Option<Duration> {
        SystemTime::now().duration_since(self.changed?).ok()
    }

    /// Whether it changed so long ago that the same stamp is the same file.
    pub fn is_old(&self) -> bool {
        self.age().is_some_and(|age| age > TICK)
    }
}

/// The plans by which whole products were made, as far as they were looked at: a watched
/// night is planned again with every frame.
static MADE: Mutex<BTreeMap<PathBuf, (Stamp, Option<String>)>> = Mutex::new(BTreeMap::new());

/// Whether `product` exists, is whole, and was made by the plan `hash`.
pub fn is_up_to_date(product: &Path, hash: &str) -> bool {
    let stamp = Stamp::of(product).filter(Stamp::is_old);
    let known = MADE.lock().ok().and_then(|k| k.get(product).cloned());
    let plan = match (stamp, known) {
        (Some(now), Some((then, plan))) if now == then => plan,
        _ => {
            let plan = made_by(product);
            if let (Some(stamp), Ok(mut known)) = (stamp, MADE.lock()) {
                known.insert(product.to_path_buf(), (stamp, plan.clone()));
            }
            plan
        }
    };
    plan.as_deref() == Some(hash)
}

/// The plan that made a product; `None` of one that is not there, or not whole.
fn made_by(product: &Path) -> Option<String> {
    let fits = Fits::open(product).ok()?;
    let whole = fits.hdus.iter().all(|h| fits.available(h) == h.data_len);
    fits.primary().text("IGPLAN").filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fits::{FitsWriter, Header};

    fn write(path: &Path, object: &str, plan: &str) {
        let mut h = Header::new();
        h.set("OBJECT", object, "");
        h.set("IGPLAN", plan, "");
        let mut w = FitsWriter::create(path).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.finish().expect("finish");
    }

    #[test]
    fn a_moved_file_keeps_its_identity_and_an_edited_one_does_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (a, b) = (dir.path().join("a/x.fits"), dir.path().join("b/x.fits"));
        write(&a, "M 31", "");
        std::fs::create_dir(dir.path().join("b")).expect("b");
        let identity = |p: &Path| file_identity("x.fits", &Fits::open(p).expect("open")).expect("identity").0;
        let before = identity(&a);
        std::fs::rename(&a, &b).expect("move");
        assert_eq!(identity(&b), before);
        write(&b, "M 33", "");
        assert_ne!(identity(&b), before);
    }

    #[test]
    fn up_to_date_means_the_same_plan() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.fits");
        let hash = plan_hash(["a", "b"]);
        assert_eq!(hash.len(), 32);
        assert_ne!(hash, plan_hash(["ab", ""]));
        assert!(!is_up_to_date(&path, &hash));
        write(&path, "", &hash);
        assert!(is_up_to_date(&path, &hash));
        assert!(!is_up_to_date(&path, &plan_hash(["c"])));
    }
}
