//! Exposures out of folders.
//!
//! The folder is walked whole, in the order of names, each folder once (links may
//! loop). Not looked into: hidden files and folders, `reduced/`, `masters/`,
//! `refs/`, `truth/`, and the folders that the caller names. Not exposures, and
//! passed over: what a pipeline wrote (DRSVER, but for ramps of liger_iris_pipeline,
//! which writes it everywhere; or DATALVL of 2 and more) and
//! reference files (REFTYPE). A file that cannot be read is an exposure that
//! failed, with its sentence; it never stops the scan. Files of single reads
//! (READ_NO) are one exposure where OBS_ID, DET_ID and EXP_NO are the same. Of copies of
//! one file under several names, one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;

use super::by_hand::ByHand;
use super::classify::{classify, classify_meta};
use super::state::{Likeness, Stamp, file_identity};
use super::walk::{Found, PACKED, fits_files};
use crate::datamodel::registry::names;
use crate::datamodel::{
    Meta, ObsName, another_instrument, contradictions, product_name, unusable, window_faults,
};
use crate::error::{Error, Result};
use crate::fits::{Card, Fits, Header, Value};
use crate::input::{ReadKey, Relabels, faults_of_reads, header_of_reads, read_group_key};
use crate::refs::fingerprint;

/// Folders of a night that hold no raw frames.
const NOT_RAW: [&str; 4] = ["reduced", "masters", "refs", "truth"];

/// One exposure: its file, or the files of its reads in order.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// The (first) file's path within the night, for people.
    pub name: String,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Facts, completed from OBSNAME.
    pub meta: Meta,
    /// What it is for; `None` when nobody asked (`run`).
    pub obsname: Option<ObsName>,
    /// What identifies its contents.
    pub identity: String,
    /// Its keywords (those of its first file).
    pub header: Header,
    /// What its header contradicts.
    pub warnings: Vec<String>,
}

impl Exposure {
    /// What it is for, in words; as written where that was not understood.
    pub fn obsname(&self) -> String {
        self.obsname.as_ref().map_or_else(|| self.meta.obsname.clone(), ToString::to_string)
    }
}

/// A file that cannot be an exposure, and why.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Its path within the night.
    pub name: String,
    /// OBSNAME as written, if it came that far.
    pub obsname: String,
    /// The sentence.
    pub sentence: String,
}

/// What a night holds.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Exposures, by name.
    pub exposures: Vec<Exposure>,
    /// What could not be read or classified.
    pub problems: Vec<Problem>,
    /// Files passed over, with the reason.
    pub ignored: Vec<(String, String)>,
    /// What concerns no single exposure.
    pub warnings: Vec<String>,
    /// Keywords given by hand.
    pub relabels: Relabels,
    /// All files that were found, by their names within the night.
    pub files: Vec<String>,
    /// Whether every folder of it could be listed.
    pub whole: bool,
}

/// Scans a night; `skip` are further folders not to look into, `by_hand` is what a
/// person says of its frames.
pub fn scan(night: &Path, skip: &[PathBuf], by_hand: &ByHand) -> Result<Scan> {
    scan_of(night, list(night, skip)?, by_hand, &Seen::default())
}

/// The files of a night that may be frames; `skip` as in [`scan`].
pub fn list(night: &Path, skip: &[PathBuf]) -> Result<Found> {
    if night.is_file() {
        return Err(Error::Usage(format!(
            "{} is a file: name the night's folder, or take `irisgpu run RECIPE FILE`",
            night.display()
        )));
    }
    if !night.is_dir() {
        return Err(Error::Usage(format!(
            "{}: there is no such folder; name the night's folder",
            night.display()
        )));
    }
    fits_files(night, &NOT_RAW, skip)
}

/// Scans these files of a night. Headers in `seen` of files that have not changed since
/// are not read again.
pub fn scan_of(night: &Path, found: Found, by_hand: &ByHand, seen: &Seen) -> Result<Scan> {
    let Found { files, closed, passed } = found;
    let named: Vec<(String, PathBuf)> =
        files.into_iter().map(|path| (name_within(night, &path), path)).collect();
    let mut warnings = Vec::new();
    for refs in passed.iter().filter(|p| p.ends_with("refs")) {
        let (name, path) = (name_within(night, refs), refs.display());
        warnings
            .push(format!("{name}: references of a folder below are not taken unasked: give --refs={path}"));
    }
    let relabels = by_hand.relabels(&named, &mut warnings)?;
    let all = named.iter().map(|(name, _)| name.clone()).collect();
    let mut ignored = Vec::new();
    let mut files = Vec::new();
    for (name, path) in named {
        match by_hand.excluded(&name) {
            Some(why) => {
                warnings.push(format!("{name}: {why}"));
                ignored.push((name, why));
            }
            None => files.push(path),
        }
    }
    let mut scan = open(night, &files, true, &relabels, seen);
    scan.ignored.extend(ignored);
    scan.warnings.extend(warnings);
    scan.relabels = relabels;
    (scan.files, scan.whole) = (all, closed.is_empty());
    for (path, e) in closed {
        let name = name_within(night, &path);
        scan.problems.push(Problem { name, obsname: String::new(), sentence: e.to_string() });
    }
    let found = std::mem::take(&mut scan.exposures);
    for mut exposure in found {
        match classify(&exposure.meta) {
            Ok(class) => {
                exposure.meta = classify_meta(exposure.meta, &class.obsname);
                exposure.warnings.extend(class.warnings);
                exposure.obsname = Some(class.obsname);
                scan.exposures.push(exposure);
            }
            Err(sentence) => {
                scan.problems.push(Problem { name: exposure.name, obsname: exposure.meta.obsname, sentence })
            }
        }
    }
    scan.problems.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

/// Reads the headers of named files, whatever they are, grouping single reads. A
/// file counts once, however often and by whatever path or link it is named. What
/// OBSNAME or IMTYPE says is taken where it says something.
pub fn read_files(files: &[PathBuf]) -> Scan {
    let mut times: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut first_time = |file: &&PathBuf| {
        let n = times.entry(file.canonicalize().unwrap_or_else(|_| (*file).clone())).or_default();
        *n += 1;
        *n == 1
    };
    let once: Vec<PathBuf> = files.iter().filter(&mut first_time).cloned().collect();
    let mut scan = open(Path::new(""), &once, false, &Relabels::default(), &Seen::default());
    let again = times.iter().filter(|(_, n)| **n > 1);
    let again = again.map(|(file, n)| format!("{} is named {n} times: it counts once", file.display()));
    scan.warnings.extend(again);
    for exposure in &mut scan.exposures {
        if let Ok(class) = classify(&exposure.meta) {
            exposure.meta = classify_meta(exposure.meta.clone(), &class.obsname);
            exposure.obsname = Some(class.obsname);
        }
    }
    scan
}

/// One file's headers.
struct Opened {
    name: String,
    path: PathBuf,
    facts: Header,
    identity: String,
    alike: Likeness,
    /// Rows and columns of its image.
    size: Option<(usize, usize)>,
    /// Whether it is an image, so that READ_NO makes it one read of a set.
    is_read: bool,
    /// What was given by hand, as sentences.
    relabelled: Vec<String>,
}

fn open(root: &Path, files: &[PathBuf], raw_only: bool, relabels: &Relabels, seen: &Seen) -> Scan {
    let all: Vec<_> = files.par_iter().map(|path| (path, open_one(root, path, relabels, seen))).collect();
    let mut scan = Scan::default();
    let mut opened = Vec::new();
    for (path, result) in all {
        match result {
            Ok(one) => opened.push(one),
            Err(e) => {
                let name = name_within(root, path);
                scan.problems.push(Problem { name, obsname: String::new(), sentence: e.to_string() });
            }
        }
    }
    let mut reads: BTreeMap<(String, String, i64), Vec<(ReadKey, Opened)>> = BTreeMap::new();
    let copies = copies(&opened);
    for one in opened {
        if let Some(why) = copies.get(&one.name) {
            scan.warnings.push(format!("{}: {why}", one.name));
            scan.ignored.push((one.name, why.clone()));
        } else if let Some(why) = not_raw(&one.facts).filter(|_| raw_only) {
            scan.ignored.push((one.name, why.to_owned()));
        } else if let Some(key) = read_group_key(&one.facts).filter(|_| one.is_read) {
            reads.entry(key.exposure.clone()).or_default().push((key, one));
        } else {
            scan.exposures.push(exposure(vec![one], false));
        }
    }
    for mut set in reads.into_values() {
        set.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.name.cmp(&y.name)));
        scan.exposures.push(exposure(set.into_iter().map(|(_, one)| one).collect(), true));
    }
    scan.exposures.sort_by(|a, b| a.name.cmp(&b.name));
    scan
}

/// Copies that do not count, by their names, with the reason. Of whole ones the file counts
/// that has the observatory's name for it, else the one with the shortest name, as copies are
/// called "x (2)" or "copy of x"; of one that is cut short the whole one does. A copy of which a person says something else is another frame.
fn copies(opened: &[Opened]) -> BTreeMap<String, String> {
    let mut alike: BTreeMap<_, Vec<&Opened>> = BTreeMap::new();
    for one in opened {
        alike.entry((&one.alike, &one.relabelled)).or_default().push(one);
    }
    let mut copies = BTreeMap::new();
    let whole: BTreeMap<_, &str> = opened
        .iter()
        .filter(|one| one.alike.missing == 0)
        .map(|one| ((&one.alike.primary, &one.relabelled), one.name.as_str()))
        .collect();
    for one in opened.iter().filter(|one| one.alike.missing > 0) {
        if let Some(whole) = whole.get(&(&one.alike.primary, &one.relabelled)) {
            let why = format!("is {whole} cut short, of which the whole file counts");
            copies.insert(one.name.clone(), why);
        }
    }
    for mut set in alike.into_values().filter(|set| set.len() > 1) {
        let own = |one: &Opened| {
            let file = one.name.rsplit('/').next().unwrap_or_default();
            file == product_name(&Meta::from_header(&one.facts), 0, "")
        };
        set.sort_by_key(|one| (!own(one), one.name.len(), &one.name));
        let mut first: BTreeMap<String, &str> = BTreeMap::new();
        for one in set {
            // What cannot be read fails as an exposure, with its sentence.
            let Ok(bytes) = fingerprint(&one.path) else { continue };
            match first.get(&bytes) {
                Some(first) => {
                    copies.insert(one.name.clone(), format!("is byte for byte {first}, which counts"))
                }
                None => first.insert(bytes, &one.name).map(str::to_owned),
            };
        }
    }
    copies
}

/// What a file says, whatever a person says of it.
#[derive(Debug, Clone)]
struct Said {
    facts: Header,
    identity: String,
    alike: Likeness,
    size: Option<(usize, usize)>,
    is_read: bool,
}

/// Headers of files read before, for as long as the files stay as they are.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<PathBuf, (Stamp, Said)>>);

impl Seen {
    fn said(&self, path: &Path, name: &str) -> Result<Said> {
        let stamp = Stamp::of(path).filter(Stamp::is_old);
        let known = self.0.lock().ok().and_then(|k| k.get(path).cloned());
        if let (Some(now), Some((then, said))) = (stamp, known)
            && now == then
        {
            return Ok(said);
        }
        let said = read_headers(path, name)?;
        if let (Some(stamp), Ok(mut known)) = (stamp, self.0.lock()) {
            known.insert(path.to_path_buf(), (stamp, said.clone()));
        }
        Ok(said)
    }

    /// Forgets what lies no more among `files`.
    pub fn keep_only(&self, files: &BTreeSet<&Path>) {
        if let Ok(mut known) = self.0.lock() {
            known.retain(|path, _| files.contains(path.as_path()));
        }
    }
}

fn open_one(root: &Path, path: &Path, relabels: &Relabels, seen: &Seen) -> Result<Opened> {
    let name = name_within(root, path);
    let Said { mut facts, mut identity, alike, size, is_read } = seen.said(path, &name)?;
    let mut relabelled = Vec::new();
    for (keyword, value) in relabels.of(path).into_iter().flatten() {
        let was = facts.text(keyword);
        facts.set(keyword, value.clone(), "");
        let now = facts.text(keyword).unwrap_or_default();
        if was.as_deref() != Some(&now) {
            let says = was.map_or("nothing".into(), |was| format!("'{was}'"));
            relabelled.push(format!("{keyword} = '{now}' by hand; the file says {says}"));
        }
        identity += &format!(" {keyword}={now}");
    }
    // A level-1 frame may keep the keywords of its last read.
    let is_read = is_read && facts.integer("DATALVL") != Some(1);
    Ok(Opened { name, path: path.to_path_buf(), facts, identity, alike, size, is_read, relabelled })
}

fn read_headers(path: &Path, name: &str) -> Result<Said> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if let Some((_, tool)) = PACKED.iter().find(|(end, _)| *end == extension) {
        return Err(Error::fits(path, "", format!("is compressed as a whole; unpack it with {tool}")));
    }
    let fits = Fits::open(path)?;
    let (identity, alike) = file_identity(name, &fits)?;
    let mut facts = fits.primary().clone();
    // A tile-compressed or single-image file may have its keywords with its image.
    if let Some(image) = fits.hdus.iter().skip(1).find(|h| h.is_image()) {
        for card in image.header.cards() {
            if let Some(value) = card.value.clone() {
                facts.set_default(&card.keyword, value, "");
            }
        }
    }
    // What a pipeline wrote beside its images is passed over like them.
    if fits.hdus.iter().all(|h| !h.is_image()) && not_raw(&facts).is_none() {
        return Err(Error::fits(path, "", "holds no image: there is nothing to reduce in it"));
    }
    if let (false, false, Some(seconds)) =
        (facts.has("EXPTIME"), facts.has("EFFINTTM"), ramp_seconds(&fits, &facts))
    {
        facts.set("EXPTIME", seconds, "");
    }
    if fits.hdu("SUBARR_MAP").is_some_and(|h| h.is_image()) {
        facts.set_default("NSUBARR", 1, "subarrays were read beside it");
    }
    let image = fits.hdus.iter().find(|h| h.is_image());
    let axes = image.map_or(0, |h| h.shape.iter().filter(|&&n| n > 1).count());
    let size = image.and_then(|h| match *h.shape.as_slice() {
        [.., ny, nx] => Some((ny, nx)),
        _ => None,
    });
    Ok(Said { facts, identity, alike, size, is_read: axes <= 2 })
}

/// Whether the header is that of a ramp that no step has been through:
/// liger_iris_pipeline writes DRSVER into those, too.
fn is_ramp(facts: &Header) -> bool {
    let done =
        |c: &Card| c.keyword.starts_with("S_") && matches!(&c.value, Some(Value::Text(t)) if t == "COMPLETE");
    facts.integer("DATALVL") == Some(0)
        && facts.text("DATAMODL").as_deref() == Some("RampModel")
        && !facts.cards().iter().any(done)
}

fn not_raw(facts: &Header) -> Option<&'static str> {
    let made = facts.text("DRSVER").is_some_and(|by| by.starts_with("irisgpu")) || !is_ramp(facts);
    if facts.has("DRSVER") && made {
        Some("a pipeline wrote it (DRSVER)")
    } else if facts.integer("DATALVL").is_some_and(|level| level >= 2) {
        Some("it is reduced already (DATALVL)")
    } else if facts.has("REFTYPE") {
        Some("it is a reference (REFTYPE); references belong in refs/")
    } else {
        None
    }
}

/// Exposure numbers that are none, as sentences.
fn no_numbers(facts: &Header) -> Vec<String> {
    let wrong = |key: &&str| {
        let text = facts.text(key).filter(|t| !t.is_empty())?;
        let why = "is not a whole number of 0 or more: it counts as missing";
        facts.integer(key).is_none_or(|n| n < 0).then(|| format!("{key} = '{text}' {why}"))
    };
    names("EXPNUM").iter().filter_map(wrong).collect()
}

/// The exposure of one file, or of the files of its `reads`.
fn exposure(set: Vec<Opened>, reads: bool) -> Exposure {
    let headers: Vec<&Header> = set.iter().map(|o| &o.facts).collect();
    let (header, mut warnings) = match headers.first() {
        Some(_) if reads => (header_of_reads(&headers), faults_of_reads(&headers)),
        Some(first) => ((*first).clone(), Vec::new()),
        None => Default::default(),
    };
    let meta = Meta::from_header(&header);
    warnings.extend(no_numbers(&header));
    warnings.extend(set.first().iter().flat_map(|o| o.relabelled.clone()));
    warnings.extend(contradictions(&header).into_iter().map(|(_, sentence)| sentence));
    warnings.extend(unusable(&header));
    // From level 2 on an array may be spectra or a cube.
    let size = set.first().and_then(|o| o.size).filter(|_| meta.level.unwrap_or(0) < 2);
    warnings.extend(window_faults(&header, size, None).into_iter().map(|(_, sentence)| sentence));
    warnings.extend(another_instrument(&header).map(|w| format!("{w}: it is reduced as a frame of IRIS")));
    let name = set.first().map(|o| o.name.clone()).unwrap_or_default();
    let identity = set.iter().map(|o| o.identity.as_str()).collect::<Vec<_>>().join("\n");
    let files = set.into_iter().map(|o| o.path).collect();
    Exposure { name, files, meta, obsname: None, identity, header, warnings }
}

/// The seconds of a ramp of a file whose keywords do not say: JWST's groups, or the last of
/// its TIMES.
fn ramp_seconds(fits: &Fits, facts: &Header) -> Option<f64> {
    let groups = facts.number("NGROUPS").zip(facts.number("TGROUP")).map(|(n, seconds)| n * seconds);
    let times = || {
        let hdu = fits.hdu("TIMES").filter(|h| h.is_image() && h.len() < 1 << 20)?;
        Some(fits.f64(hdu).ok()?.into_iter().fold(0.0, f64::max))
    };
    groups.or_else(times).filter(|t| t.is_finite() && *t > 0.0)
}

/// The path within `root`, with `/` on every system.
fn name_within(root: &Path, path: &Path) -> String {
    let within = path.strip_prefix(root).unwrap_or(path);
    within.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{frame, write};
    use super::*;

    #[test]
    fn a_night_is_walked_and_the_rest_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        for place in [
            "b.fits",
            "sub/a.fits",
            "reduced/x.fits",
            "refs/x.fits",
            "truth/x.fits",
            ".hid/x.fits",
            "out/x.fits",
        ] {
            write(&night.join(place), &frame("IMG1-SCI", 1));
        }
        write(&night.join("made.fits"), &{
            let mut h = frame("IMG1-SCI", 1);
            h.set("DRSVER", "1", "");
            h
        });
        // liger_iris_pipeline writes DRSVER into the ramps that it simulates, too.
        for (name, by, dark) in
            [("liger.fits", "0.0.1", ""), ("left.fits", "irisgpu 1", ""), ("sub.fits", "0.0.1", "COMPLETE")]
        {
            let mut h = frame("IMG1-SCI", 1);
            h.set("DRSVER", by, "");
            h.set("DATALVL", 0, "");
            h.set("DATAMODL", "RampModel", "");
            h.set("S_DARK", dark, "");
            write(&night.join(name), &h);
        }
        std::fs::write(night.join("c.fits.part"), "half").expect("part");
        std::fs::write(night.join("junk.fits"), "not FITS").expect("junk");
        std::fs::write(night.join("lzw.fits.Z"), "packed").expect("packed");
        write(&night.join("odd.fits"), &frame("IMG1-SPX", 1));
        #[cfg(unix)]
        std::os::unix::fs::symlink(night, night.join("sub/loop")).expect("link");
        let scan = scan(night, &[night.join("out")], &ByHand::default()).expect("scan");
        let names: Vec<_> = scan.exposures.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["b.fits", "liger.fits", "sub/a.fits"]);
        let problems: Vec<_> = scan.problems.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(problems, ["junk.fits", "lzw.fits.Z", "odd.fits"]);
        assert!(scan.problems[2].sentence.contains("IMG1-SPX"));
        assert_eq!(scan.ignored.len(), 3);
    }

    #[test]
    fn of_copies_of_a_file_one_counts() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["a.fits", "like a.fits"] {
            write(&dir.path().join(name), &frame("IMG1-DRK", 1));
        }
        for name in ["a (2).fits", "0 copy of a.fits"] {
            std::fs::copy(dir.path().join("a.fits"), dir.path().join(name)).expect("copy");
        }
        let found = scan(dir.path(), &[], &ByHand::default()).expect("scan");
        let names: Vec<_> = found.exposures.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a.fits", "like a.fits"]);
        let said =
            ["0 copy of a.fits", "a (2).fits"].map(|n| format!("{n}: is byte for byte a.fits, which counts"));
        assert_eq!(found.warnings, said);
        // Whatever a copy is called, the observatory's own name counts.
        let meta = Meta::from_header(&frame("IMG1-DRK", 1));
        let own = product_name(&meta, 0, "");
        std::fs::rename(dir.path().join("like a.fits"), dir.path().join(&own)).expect("rename");
        std::fs::copy(dir.path().join(&own), dir.path().join("b.fits")).expect("copy");
        let found = scan(dir.path(), &[], &ByHand::default()).expect("scan");
        let names: Vec<_> = found.exposures.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, [own.as_str(), "a.fits"]);
        std::fs::rename(dir.path().join(&own), dir.path().join("like a.fits")).expect("rename");
        std::fs::remove_file(dir.path().join("b.fits")).expect("remove");
        // One that is cut short is no other exposure, unless the whole one is not there.
        let bytes = std::fs::read(dir.path().join("like a.fits")).expect("read");
        std::fs::write(dir.path().join("cut.fits"), &bytes[..bytes.len() - 2879]).expect("cut");
        let found = scan(dir.path(), &[], &ByHand::default()).expect("scan");
        assert_eq!(found.exposures.len(), 2, "{:?}", found.exposures);
        let why = found.ignored.iter().find(|(name, _)| name == "cut.fits").map(|(_, why)| why.as_str());
        assert!(why.is_some_and(|w| w.ends_with("cut short, of which the whole file counts")), "{why:?}");
        std::fs::remove_file(dir.path().join("cut.fits")).expect("remove");
        // A person makes another frame of one.
        let notes = "relabel: [{files: '0 *', set: {OBSNAME: IMG1-SKY}}]";
        std::fs::write(dir.path().join("night.yaml"), notes).expect("night.yaml");
        let by_hand = ByHand::of_night(dir.path()).expect("notes");
        let found = scan(dir.path(), &[], &by_hand).expect("scan");
        assert_eq!((found.exposures.len(), found.ignored.len()), (3, 1), "{:?}", found.ignored);
    }

    #[test]
    fn files_of_single_reads_are_one_exposure() {
        let dir = tempfile::tempdir().expect("temp dir");
        for (exposure, read) in [(1, 3), (1, 1), (1, 2), (2, 1)] {
            let mut h = frame("IMG1-DRK", exposure);
            h.set("OBS_ID", "X", "");
            h.set("DET_ID", "IMG1", "");
            h.set("EXP_NO", exposure, "");
            h.set("READ_NO", read, "");
            write(&dir.path().join(format!("e{exposure}_{}.fits", 9 - read)), &h);
        }
        let scan = scan(dir.path(), &[], &ByHand::default()).expect("scan");
        assert_eq!(scan.exposures.len(), 2);
        let first = scan.exposures.iter().find(|e| e.files.len() == 3).expect("three reads");
        assert!(first.files[0].ends_with("e1_8.fits") && first.files[2].ends_with("e1_6.fits"));
    }

    #[test]
    fn no_folder_is_a_sentence() {
        assert!(scan(Path::new("/no/such/night"), &[], &ByHand::default()).is_err());
    }

    #[test]
    fn what_a_frame_says_of_its_time_counts_in_whatever_words() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut jwst = frame("IMG1-SKY", 1);
        jwst.remove("EXPDTST");
        jwst.remove("EXPTIME");
        for (key, value) in [("DATE-OBS", "2032-01-02"), ("TIME-OBS", "06:10:00.5")] {
            jwst.set(key, value, "");
        }
        jwst.set("NGROUPS", 5, "");
        jwst.set("TGROUP", 2.5, "");
        write(&dir.path().join("jwst.fits"), &jwst);
        // Reads: times in microseconds in MJD.
        let reset = 63_248.25 * 86_400e6;
        for n in 1..=3 {
            let mut read = frame("IMG1-SCI", 2);
            read.remove("EXPDTST");
            read.remove("EXPTIME");
            read.set("READ_NO", n + n / 3, "");
            read.set("RST_TIME", reset, "");
            read.set("READTIME", reset + 4e6 * f64::from(n), "");
            if n == 2 {
                read.set("FILTER", "H", "");
            }
            write(&dir.path().join(format!("read{n}.fits")), &read);
        }
        let mut table = frame("IMG1-SCI", 3);
        table.set("DRSVER", "irisgpu 0", "");
        let mut w = crate::fits::FitsWriter::create(&dir.path().join("jumps.fits")).expect("create");
        w.empty("PRIMARY", &table).expect("primary");
        w.finish().expect("finish");
        let found = scan(dir.path(), &[], &ByHand::default()).expect("scan");
        assert!(
            found.problems.is_empty() && found.ignored.len() == 1,
            "{:?} {:?}",
            found.problems,
            found.ignored
        );
        let [jwst, reads] = found.exposures.as_slice() else { panic!("{:?}", found.exposures) };
        assert_eq!((jwst.meta.exptime, jwst.meta.expdtst.as_str()), (Some(12.5), "20320102061000"));
        let jd = |e: &Exposure| e.meta.jd.expect("a date");
        assert!((jd(jwst) - 2_463_233.757_0).abs() < 1e-3, "{}", jd(jwst));
        assert!(
            (jd(reads) - 2_463_248.75).abs() < 1e-6 && reads.meta.exptime == Some(12.0),
            "{:?}",
            reads.meta
        );
        assert_eq!(reads.meta.semid, "2032A");
        for part in ["disagree in FILTER: 'H' and 'K'", "READ_NO 3 to 3 are missing"] {
            assert!(reads.warnings.iter().any(|w| w.contains(part)), "{part}: {:?}", reads.warnings);
        }
    }
}
