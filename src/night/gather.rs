//! Every reference that may be chosen: those given by hand, and those that lie in
//! reference folders, known by their headers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Stamp;
use super::walk::fits_files;
use crate::datamodel::another_instrument;
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::refs::crds::Crds;
use crate::refs::{Candidate, Origin, REFTYPES, candidate_from_header, canonical_reftype};

/// Candidates, with what must be known of them beside.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// What may be chosen.
    pub candidates: Vec<Candidate>,
    /// Sky frames that say that their dark current stayed in (S_DARK = SKIPPED).
    pub dark_kept: BTreeSet<PathBuf>,
    /// Who is asked where none of these applies.
    pub crds: Option<Arc<Crds>>,
    /// Files in the folders that cannot be read, as sentences.
    pub warnings: Vec<String>,
}

impl References {
    /// Gathers the references given by hand (type and file), those in `folders`, and the
    /// masters in `nights` (folders of masters, or whole nights).
    /// A file given by hand must be readable; one in a folder need not be, unless it is the
    /// disk that fails.
    pub fn gather(
        by_hand: &[(String, PathBuf)],
        folders: &[PathBuf],
        nights: &[PathBuf],
    ) -> Result<References> {
        let mut all = References::default();
        for (reftype, path) in by_hand {
            all.add_by_hand(reftype, path)?;
        }
        let folders = folders.iter().map(|f| ("--refs", f, Origin::Folder));
        let nights = nights.iter().map(|f| ("--masters", f, Origin::OtherNight));
        for (option, folder, origin) in folders.chain(nights) {
            if !folder.is_dir() {
                return Err(Error::Usage(format!("{option} {}: there is no such folder", folder.display())));
            }
            let found = fits_files(folder, &[], &[])?;
            all.warnings.extend(found.closed.iter().map(|(_, e)| e.to_string()));
            let mut unused = BTreeSet::new();
            for path in found.files {
                match all.add_found(&path, &origin) {
                    Ok(Some(reftype)) => drop(unused.insert(reftype)),
                    Ok(None) => {}
                    // A night reduced without it would look well and be worse.
                    Err(e) if e.is_of_the_disk() => return Err(e),
                    Err(e) => all.warnings.push(e.to_string()),
                }
            }
            if !unused.is_empty() {
                let unused = unused.into_iter().collect::<Vec<_>>().join(", ");
                let (folder, types) = (folder.display(), REFTYPES.join(", "));
                all.warnings.push(format!(
                    "{folder}: no step uses references of type {unused}: passed over (types in use: {types})"
                ));
            }
        }
        Ok(all)
    }

    /// What tells without reading whether a gathering of `folders` would be another.
    pub fn stamps(folders: &[PathBuf]) -> Vec<(PathBuf, Option<Stamp>)> {
        let files = folders.iter().filter_map(|f| fits_files(f, &[], &[]).ok()).flat_map(|found| found.files);
        files.map(|path| (path.clone(), Stamp::of(&path))).collect()
    }

    fn add_by_hand(&mut self, reftype: &str, path: &Path) -> Result<()> {
        let known = canonical_reftype(reftype);
        let wanted = known.filter(|t| REFTYPES.contains(t)).ok_or_else(|| {
            let what = if known.is_some() {
                "no step uses this reference type yet"
            } else {
                "no such reference type"
            };
            Error::Usage(format!("--override_{reftype}: {what} (types: {})", REFTYPES.join(", ")))
        })?;
        let fits = Fits::open(path)
            .map_err(|e| Error::Usage(format!("--override_{reftype}: {e}; give a FITS reference file")))?;
        let mut candidate =
            candidate_from_header(path, fits.primary(), Origin::ByHand).unwrap_or_else(|| Candidate {
                path: path.to_path_buf(),
                reftype: wanted.to_owned(),
                meta: crate::datamodel::Meta::from_header(fits.primary()),
                origin: Origin::ByHand,
                useafter: None,
                version: Vec::new(),
            });
        if candidate.reftype != wanted {
            let (file, said) = (path.display(), &candidate.reftype);
            if canonical_reftype(said).is_some() {
                let text = format!(
                    "--override_{reftype}: {file} says REFTYPE = '{said}': give a {wanted} reference"
                );
                return Err(Error::Usage(text));
            }
            self.warnings.push(format!(
                "--override_{reftype}: {file} says REFTYPE = '{said}', which is no type: it is used as '{wanted}'"
            ));
            candidate.reftype = wanted.to_owned();
        }
        self.insert(candidate, &fits);
        Ok(())
    }

    /// Adds a file of a folder; the type, where it is one that no step uses.
    fn add_found(&mut self, path: &Path, origin: &Origin) -> Result<Option<String>> {
        let fits = Fits::open(path)?;
        match candidate_from_header(path, fits.primary(), origin.clone()) {
            Some(candidate) if !REFTYPES.contains(&candidate.reftype.as_str()) => Ok(Some(candidate.reftype)),
            Some(candidate) => {
                self.insert(candidate, &fits);
                Ok(None)
            }
            // A whole night has its frames and products beside its masters.
            None if is_frame(fits.primary()) => Ok(None),
            None => Err(Error::fits(
                path,
                "",
                "has no REFTYPE and is not used as a reference; set it to one of the reference types",
            )),
        }
    }

    fn insert(&mut self, candidate: Candidate, fits: &Fits) {
        if let Some(whose) = another_instrument(fits.primary()) {
            let (file, by_hand) = (candidate.path.display(), candidate.origin.by_hand());
            let becomes = if by_hand { "it is used all the same" } else { "it is passed over" };
            self.warnings.push(format!("{file}: {whose}: {becomes}"));
            if !by_hand {
                return;
            }
        }
        if candidate.reftype == "sky" && fits.primary().text("S_DARK").as_deref() == Some("SKIPPED") {
            self.dark_kept.insert(candidate.path.clone());
        }
        self.candidates.push(candidate);
    }
}

/// Whether a header is that of a raw frame or of a science product.
fn is_frame(header: &Header) -> bool {
    ["OBSNAME", "IMTYPE", "READ_NO", "DATALVL"].iter().any(|key| header.has(key))
}
