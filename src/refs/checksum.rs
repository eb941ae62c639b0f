//! Fingerprints of reference files, remembered while the files stay as they are.
//!
//! Whether a product is up to date turns on the bytes of its references
//! ([`fingerprint`]), whatever their times of change say. Whether two frames share
//! the noise of one reference turns on what it holds ([`checksum`], in C_DARK and
//! its like): a master that is made again, of the same frames, has a new date in its
//! header and the same pixels, and must cancel as the old one did. The pixels are
//! read for that; a DATASUM would be out of date in a file edited by hand.
//!
//! To read every reference before each run is slow. So a fingerprint is remembered,
//! within the process and (of bytes) by [`recall`] and [`keep`] from run to run, for
//! as long as size and time of change stay.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::profile::{self, Work};

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

/// What of a file is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Bytes,
    Data,
}

static KNOWN: Mutex<BTreeMap<(Of, PathBuf), (Stamp, String)>> = Mutex::new(BTreeMap::new());

/// The first 16 hexadecimal digits of the BLAKE3 hash of the file's bytes.
pub fn fingerprint(path: &Path) -> Result<String> {
    remembered(Of::Bytes, path, |file, hasher| {
        hasher.update_reader(file).map_err(Error::io("read", path))?;
        Ok(())
    })
}

/// What identifies a reference by what it holds: of a file that this pipeline made
/// (DRSVER) the hash of its REFTYPE and of every HDU's name, form and data; of any
/// other its [`fingerprint`].
pub fn checksum(path: &Path) -> Result<String> {
    let Some(fits) = Fits::open(path).ok().filter(|f| f.primary().has("DRSVER")) else {
        return fingerprint(path);
    };
    remembered(Of::Data, path, |mut file, hasher| {
        hasher.update(fits.primary().text("REFTYPE").unwrap_or_default().as_bytes());
        for hdu in &fits.hdus {
            let card = |key| hdu.header.text(key).unwrap_or_default();
            let form = ["BUNIT", "BSCALE", "BZERO", "PCOUNT"].map(card);
            hasher.update(format!("\n{} {} {:?} {form:?}\n", hdu.name, hdu.bitpix, hdu.shape).as_bytes());
            // Behind the pixels of a compressed image lies what they point to.
            let heap = hdu.header.integer("PCOUNT").and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            file.seek(SeekFrom::Start(hdu.data_start)).map_err(Error::io("read", path))?;
            let data = (&mut file).take(hdu.data_len.saturating_add(heap));
            hasher.update_reader(data).map_err(Error::io("read", path))?;
        }
        Ok(())
    })
}

/// What `hash` makes of a file, unless it is known from before.
fn remembered(
    of: Of,
    path: &Path,
    hash: impl FnOnce(File, &mut blake3::Hasher) -> Result<()>,
) -> Result<String> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let stamp = stamp(&file);
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let key = (of, whole);
    let known = KNOWN.lock().ok().and_then(|k| k.get(&key).cloned());
    if let (Some(now), Some((then, sum))) = (stamp, known)
        && now == then
    {
        return Ok(sum);
    }
    let _span = profile::span(Work::References, "checksum");
    let mut hasher = blake3::Hasher::new();
    hash(file, &mut hasher)?;
    let sum = hasher.finalize().to_hex()[..16].to_owned();
    if let (Some(stamp), Ok(mut known)) = (stamp, KNOWN.lock()) {
        known.insert(key, (stamp, sum.clone()));
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
        known.entry((Of::Bytes, path)).or_insert(entry);
    }
}

/// Writes what is known to `file`, whole or not at all. That it cannot be written
/// is no error: files are then read again.
pub fn keep(file: &Path) {
    let Ok(known) = KNOWN.lock() else { return };
    let kept = known.iter().filter(|((of, path), _)| *of == Of::Bytes && path.is_file());
    let lines = kept.filter_map(|((_, path), (stamp, sum))| {
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
    use crate::fits::{FitsWriter, Header, Pixels};

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
        assert!(fingerprint(dir.path()).is_err() && checksum(dir.path()).is_err());
        assert!(checksum(&dir.path().join("none")).is_err());
        std::fs::write(&path, b"a").expect("write");
        age(&path, 100);
        let a = checksum(&path).expect("a");
        age(&path, 50);
        assert_eq!(checksum(&path).expect("touched"), a);
        std::fs::write(&path, b"b").expect("write");
        assert_ne!(checksum(&path).expect("b"), a);
    }

    #[test]
    fn a_master_made_again_is_the_same_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("dark.fits");
        let sums = |date: &str, pixel: f32, by: &str| {
            let mut h = Header::new();
            h.set(by, "irisgpu", "");
            h.set("REFTYPE", "dark", "");
            h.set("DATECRT", date, "");
            let mut w = FitsWriter::create(&path).expect("create");
            w.empty("PRIMARY", &h).expect("primary");
            w.image("DATA", &Header::new(), &[1, 2], Pixels::F32(&[0.0, pixel])).expect("data");
            w.finish().expect("finish");
            (checksum(&path).expect("checksum"), fingerprint(&path).expect("fingerprint"))
        };
        let (first, again) = (sums("2032", 1.0, "DRSVER"), sums("2033", 1.0, "DRSVER"));
        assert!(first.0 == again.0 && first.1 != again.1);
        assert_ne!(sums("2033", 2.0, "DRSVER").0, again.0);
        // Pixels edited by hand, the DATASUM left as it was.
        let mut bytes = std::fs::read(&path).expect("read");
        let at = bytes.len() - 2880;
        bytes[at] ^= 1;
        let before = checksum(&path).expect("before");
        std::fs::write(&path, bytes).expect("edit");
        assert_ne!(checksum(&path).expect("after"), before);
        // Of what others made nothing is known but the bytes.
        let (first, again) = (sums("2032", 1.0, "AUTHOR"), sums("2033", 1.0, "AUTHOR"));
        assert!(first.0 == first.1 && first.0 != again.0);
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
