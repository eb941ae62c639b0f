//! Fingerprints of reference files, remembered while the files stay as they are.
//!
//! A reference counts as the same one when its bytes are the same, whatever its
//! time of change says; but to read every reference before each run is slow. So a
//! fingerprint is remembered, within the process and by [`recall`] and [`keep`]
//! from run to run, for as long as size and time of change stay.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// What tells without reading that a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    /// Nanoseconds since 1970.
    changed: u128,
}

/// A file changed so recently may change again within one tick of its file
/// system's clock, and is not remembered.
const TICK: Duration = Duration::from_secs(3);

static KNOWN: Mutex<BTreeMap<PathBuf, (Stamp, String)>> = Mutex::new(BTreeMap::new());

/// The first 16 hexadecimal digits of the file's BLAKE3 hash.
pub fn checksum(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let stamp = stamp(&file);
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let known = KNOWN.lock().ok().and_then(|k| k.get(&whole).cloned());
    if let (Some(now), Some((then, sum))) = (stamp, known)
        && now == then
    {
        return Ok(sum);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(Error::io("read", path))?;
    let sum = hasher.finalize().to_hex()[..16].to_owned();
    if let (Some(stamp), Ok(mut known)) = (stamp, KNOWN.lock()) {
        known.insert(whole, (stamp, sum.clone()));
    }
    Ok(sum)
}

/// `None` for a file that is too young, or on a file system without times.
fn stamp(file: &File) -> Option<Stamp> {
    let facts = file.metadata().ok()?;
    let changed = facts.modified().ok()?;
    let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age > TICK);
    let changed = changed.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    old.then_some(Stamp { bytes: facts.len(), changed })
}

/// Takes in what [`keep`] wrote to `file`; nothing where there is none.
pub fn recall(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let Ok(mut known) = KNOWN.lock() else { return };
    for (path, entry) in text.lines().filter_map(parse) {
        known.entry(path).or_insert(entry);
    }
}

/// Writes what is known to `file`, whole or not at all. That it cannot be written
/// is no error: files are then read again.
pub fn keep(file: &Path) {
    let Ok(known) = KNOWN.lock() else { return };
    let lines = known.iter().filter(|(path, _)| path.is_file()).filter_map(|(path, (stamp, sum))| {
        let path = path.to_str().filter(|p| !p.contains('\n'))?;
        Some(format!("{sum} {} {} {path}\n", stamp.bytes, stamp.changed))
    });
    let text: String = lines.collect();
    drop(known);
    if text.is_empty() || std::fs::read_to_string(file).is_ok_and(|old| old == text) {
        return;
    }
    let part = file.with_extension("part");
    if std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, file)).is_err() {
        let _ = std::fs::remove_file(&part);
    }
}

fn parse(line: &str) -> Option<(PathBuf, (Stamp, String))> {
    let mut words = line.splitn(4, ' ');
    let sum = words.next().filter(|s| s.len() == 16)?.to_owned();
    let stamp = Stamp { bytes: words.next()?.parse().ok()?, changed: words.next()?.parse().ok()? };
    Some((PathBuf::from(words.next()?), (stamp, sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a file a time of change, seconds before now.
    fn age(path: &Path, seconds: u64) {
        let file = File::options().append(true).open(path).expect("open");
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).expect("time");
    }

    #[test]
    fn it_is_of_the_bytes_and_not_of_the_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x");
        std::fs::write(&path, b"").expect("write");
        assert_eq!(checksum(&path).expect("checksum"), "af1349b9f5f9a1a6");
        assert!(checksum(dir.path()).is_err() && checksum(&dir.path().join("none")).is_err());
        std::fs::write(&path, b"a").expect("write");
        age(&path, 100);
        let a = checksum(&path).expect("a");
        age(&path, 50);
        assert_eq!(checksum(&path).expect("touched"), a);
        std::fs::write(&path, b"b").expect("write");
        assert_ne!(checksum(&path).expect("b"), a);
    }

    #[test]
    fn what_is_kept_is_believed_while_the_file_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (path, kept) = (dir.path().join("a b"), dir.path().join(".kept"));
        std::fs::write(&path, b"a").expect("write");
        age(&path, 100);
        let sum = checksum(&path).expect("sum");
        keep(&kept);
        let text = std::fs::read_to_string(&kept).expect("kept");
        assert!(text.lines().any(|l| l.starts_with(&sum) && l.ends_with("/a b")), "{text}");
        assert!(text.lines().all(|l| parse(l).is_some()));
        assert!(parse("half a line").is_none() && parse("").is_none());
        recall(&dir.path().join("nothing here"));
    }
}
