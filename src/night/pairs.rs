//! What calibrates what because a person says so: `night.yaml` and associations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::by_hand::{ByHand, is_named};
use super::{Exposure, Scan, read_files};
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::refs::{Candidate, Origin, REFTYPES, candidate_from_header, canonical_reftype};
use crate::stpipe::{Product, Role};

/// Exposures and what calibrates them.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// Who says so: `night.yaml`, an association's file.
    pub(super) by: String,
    /// The exposures' names.
    pub(super) exposures: BTreeSet<String>,
    /// Frames that calibrate the same exposures, and are calibrated so, too.
    pub(super) also: BTreeSet<String>,
    /// Canonical reference type.
    pub(super) reftype: &'static str,
    /// What it is.
    pub(super) with: With,
}

/// What is paired with exposures.
#[derive(Debug, Clone)]
pub(super) enum With {
    /// Nothing: the step is left out.
    Nothing,
    /// A reference file; a sky may say that its dark current stayed in.
    File { candidate: Box<Candidate>, dark_kept: bool },
    /// Raw frames, of which a master is made.
    Frames(Vec<Exposure>),
    /// What is not there or cannot be used, as a sentence.
    Unusable(String),
}

impl Pair {
    fn new(by: &str, exposures: BTreeSet<String>, reftype: &str, with: With) -> Result<Pair> {
        let known = canonical_reftype(reftype).filter(|t| REFTYPES.contains(t));
        let reftype = known.ok_or_else(|| {
            Error::Config(format!("{by}: '{reftype}' is no reference type (types: {})", REFTYPES.join(", ")))
        })?;
        Ok(Pair { by: by.to_owned(), exposures, also: BTreeSet::new(), reftype, with })
    }

    /// The names of the frames that a master is made of.
    pub(super) fn frames(&self) -> impl Iterator<Item = &str> {
        let frames: &[Exposure] = if let With::Frames(frames) = &self.with { frames } else { &[] };
        frames.iter().map(|e| e.name.as_str())
    }
}

/// The pairs of a night; what pairs nothing is warned about.
///
/// # Errors
/// Types that do not exist, files that are not there, an exposure with two references of
/// a type.
pub(super) fn of_night(
    by_hand: &ByHand,
    night: &Path,
    scan: &Scan,
    warnings: &mut Vec<String>,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for pair in by_hand.pairs() {
        let by = &by_hand.name;
        let exposures: BTreeSet<String> =
            scan.exposures.iter().filter(|e| pair.files.name(&e.name)).map(|e| e.name.clone()).collect();
        let all: Vec<String> = scan.exposures.iter().map(|e| e.name.clone()).collect();
        warnings.extend(pair.files.idle(&format!("{by}, pair"), &all));
        let from = pairs.len();
        for (reftype, names) in &pair.with {
            let with = match names.iter().collect::<Vec<_>>().as_slice() {
                ["none"] => With::Nothing,
                names => with(by, reftype, names, night, scan)?,
            };
            pairs.push(Pair::new(by, exposures.clone(), reftype, with)?);
        }
        share(&mut pairs[from..]);
    }
    for association in &by_hand.associations {
        let by = file_name(&association.path);
        for product in &association.products {
            for file in product.missing(|role| *role == Role::Science) {
                warnings.push(format!("{by}, product {}: there is no file {}", product.name, file.display()));
            }
            let science = known(scan, &product.science());
            if science.is_empty() {
                let name = &product.name;
                warnings.push(format!(
                    "{by}, product {name}: its science member is none of this night's exposures"
                ));
            }
            pairs.extend(of_product(&by, product, &science, Some(scan), warnings)?);
        }
    }
    check(&pairs)?;
    Ok(pairs)
}

/// The pairs of an association's product: `science` are its exposures.
pub(super) fn of_product(
    by: &str,
    product: &Product,
    science: &[Exposure],
    night: Option<&Scan>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Pair>> {
    let exposures: BTreeSet<String> = science.iter().map(|e| e.name.clone()).collect();
    let mut pairs = Vec::new();
    for (kind, files) in product.calibrations() {
        if canonical_reftype(kind).is_none() {
            warnings.push(format!("{by}, product {}: members of exptype {kind} are not used", product.name));
            continue;
        }
        // One product's fault is not the others'.
        let with =
            members(by, product, kind, &files, night).unwrap_or_else(|e| With::Unusable(e.to_string()));
        pairs.push(Pair::new(by, exposures.clone(), kind, with)?);
    }
    share(&mut pairs);
    Ok(pairs)
}

/// What calibrates the same exposures calibrates each other: the dark is the sky frames',
/// too.
fn share(pairs: &mut [Pair]) {
    for i in 0..pairs.len() {
        let others = pairs.iter().filter(|p| p.reftype != pairs[i].reftype);
        let frames: BTreeSet<String> = others.flat_map(|p| p.frames().map(String::from)).collect();
        let own: BTreeSet<String> = pairs[i].frames().map(String::from).collect();
        pairs[i].also = frames.difference(&own).cloned().collect();
    }
}

/// What an association names to calibrate with: a reference, or frames.
fn members(by: &str, product: &Product, kind: &str, files: &[PathBuf], night: Option<&Scan>) -> Result<With> {
    if let Some(file) = files.iter().find(|f| !f.is_file()) {
        let (name, file) = (&product.name, file.display());
        return Err(Error::Config(format!("{by}, product {name}: there is no file {file} (exptype {kind})")));
    }
    match files {
        [file] if is_reference(file, kind)? => file_as_reference(by, kind, file),
        files => Ok(With::Frames(frames(by, files, night)?)),
    }
}

/// An exposure has one reference of a type, and is not its own.
pub(super) fn check(pairs: &[Pair]) -> Result<()> {
    for (i, pair) in pairs.iter().enumerate() {
        for other in pairs[..i].iter().filter(|o| o.reftype == pair.reftype) {
            if let Some(name) = pair.exposures.intersection(&other.exposures).next() {
                let (by, also, what) = (&pair.by, &other.by, pair.reftype);
                return Err(Error::Config(format!(
                    "{name} is put with a {what} twice, by {also} and by {by}: leave one out"
                )));
            }
        }
        if let Some(name) = pair.frames().find(|frame| pair.exposures.contains(*frame)) {
            let (by, what) = (&pair.by, pair.reftype);
            return Err(Error::Config(format!(
                "{by} puts {name} with itself as its {what}: name other frames"
            )));
        }
    }
    Ok(())
}

/// Frames of the night or beside it, or a reference file.
fn with(by: &str, reftype: &str, names: &[&str], night: &Path, scan: &Scan) -> Result<With> {
    let fail = |what: String| Err(Error::Config(format!("{by}, pair: {reftype}: {what}")));
    if names.is_empty() {
        return fail("names nothing; write none to leave the step out".into());
    }
    let mut chosen: Vec<Exposure> = Vec::new();
    for name in names {
        let file = night.join(name);
        let mut found: Vec<Exposure> = scan
            .exposures
            .iter()
            .filter(|e| is_named(name.trim_start_matches("./"), &e.name))
            .cloned()
            .collect();
        if found.is_empty() && file.is_file() {
            if is_reference(&file, reftype)? {
                match names {
                    [_] => return file_as_reference(by, reftype, &file),
                    _ => return fail(format!("{name} is a reference: it can only stand alone")),
                }
            }
            found = frames(by, &[file], Some(scan))?;
        }
        if found.is_empty() {
            return fail(format!("no frame of the night is called {name}, and there is no such file"));
        }
        chosen.extend(
            found.into_iter().filter(|e| chosen.iter().all(|c| c.files != e.files)).collect::<Vec<_>>(),
        );
    }
    Ok(With::Frames(chosen))
}

fn file_as_reference(by: &str, reftype: &str, path: &Path) -> Result<With> {
    let fits = Fits::open(path)?;
    let origin = Origin::Paired(by.to_owned());
    let candidate = candidate_from_header(path, fits.primary(), origin.clone());
    let wanted = canonical_reftype(reftype).unwrap_or(reftype);
    if let Some(other) = candidate.as_ref().map(|c| c.reftype.as_str()).filter(|t| *t != wanted) {
        return Err(Error::Config(format!(
            "{by} takes {} as {wanted}, but its REFTYPE is {other}: name another file",
            path.display()
        )));
    }
    let mut candidate = candidate.unwrap_or_else(|| Candidate {
        path: path.to_path_buf(),
        reftype: String::new(),
        meta: crate::datamodel::Meta::from_header(fits.primary()),
        origin,
        useafter: None,
        version: Vec::new(),
    });
    candidate.reftype = wanted.to_owned();
    let kept = fits.primary().text("S_DARK").as_deref() == Some("SKIPPED");
    let dark_kept = kept && candidate.reftype == "sky";
    Ok(With::File { candidate: Box::new(candidate), dark_kept })
}

/// Whether a file is a finished reference, not a frame to make one of.
fn is_reference(path: &Path, kind: &str) -> Result<bool> {
    let fits = Fits::open(path)?;
    let made_of_frames = matches!(
        canonical_reftype(kind),
        Some("dark" | "flat" | "sky" | "lenspx" | "wavemap" | "dispersion")
    );
    let header = fits.primary();
    Ok(!made_of_frames || header.has("REFTYPE") || header.integer("DATALVL") >= Some(2))
}

/// The exposures that files are of: the night's, or others beside it. Files of the night
/// that are no exposures of it (left out, unreadable) are an error.
fn frames(by: &str, files: &[PathBuf], night: Option<&Scan>) -> Result<Vec<Exposure>> {
    let mut chosen = night.map(|n| known(n, files)).unwrap_or_default();
    let real = |p: &PathBuf| p.canonicalize().unwrap_or_else(|_| p.clone());
    let held: BTreeSet<PathBuf> = chosen.iter().flat_map(|e| e.files.iter().map(real)).collect();
    let others: Vec<PathBuf> = files.iter().filter(|f| !held.contains(&real(f))).cloned().collect();
    let in_night = |file: &&PathBuf| {
        let name = file_name(file);
        let passed = night.iter().flat_map(|n| n.ignored.iter().map(|(name, why)| (name, why.clone())));
        let problems = night.iter().flat_map(|n| n.problems.iter().map(|p| (&p.name, p.sentence.clone())));
        passed
            .chain(problems)
            .find(|(n, _)| is_named(&name, n))
            .map(|(n, why)| format!("{by} names {n}: {why}"))
    };
    if let Some(sentence) = others.iter().find_map(|f| in_night(&f)) {
        return Err(Error::Config(sentence));
    }
    let scan = read_files(&others);
    if let Some(problem) = scan.problems.into_iter().next() {
        return Err(Error::Config(format!("{by}: {}", problem.sentence)));
    }
    chosen.extend(scan.exposures);
    Ok(chosen)
}

/// The night's exposures that these files are of.
fn known(scan: &Scan, files: &[PathBuf]) -> Vec<Exposure> {
    let real = |p: &PathBuf| p.canonicalize().unwrap_or_else(|_| p.clone());
    let wanted: BTreeSet<PathBuf> = files.iter().map(real).collect();
    scan.exposures.iter().filter(|e| e.files.iter().any(|f| wanted.contains(&real(f)))).cloned().collect()
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
