//! Every reference that may be chosen: those given by hand, and those that lie in
//! reference folders, known by their headers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::scan::fits_files;
use super::state::file_identity;
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::refs::{BY_HAND, Candidate, REFTYPES, candidate_from_header, canonical_reftype};

/// Candidates, with what identifies their contents.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// What may be chosen.
    pub candidates: Vec<Candidate>,
    /// The identity of each file.
    pub identities: BTreeMap<PathBuf, String>,
    /// Sky frames that say that their dark current stayed in (S_DARK = SKIPPED).
    pub dark_kept: BTreeSet<PathBuf>,
    /// Files in the folders that cannot be read, as sentences.
    pub warnings: Vec<String>,
}

impl References {
    /// Gathers the references given by hand (type and file) and those in `folders`.
    /// A file given by hand must be readable; one in a folder need not be.
    pub fn gather(by_hand: &[(String, PathBuf)], folders: &[PathBuf]) -> Result<References> {
        let mut all = References::default();
        for (reftype, path) in by_hand {
            all.add_by_hand(reftype, path)?;
        }
        for folder in folders {
            if !folder.is_dir() {
                return Err(Error::Usage(format!("--refs {}: there is no such folder", folder.display())));
            }
            let found = fits_files(folder, &[], &[])?;
            all.warnings.extend(found.closed.iter().map(|(_, e)| e.to_string()));
            for path in found.files {
                if let Err(e) = all.add_found(&path) {
                    all.warnings.push(e.to_string());
                }
            }
        }
        Ok(all)
    }

    fn add_by_hand(&mut self, reftype: &str, path: &Path) -> Result<()> {
        let wanted = canonical_reftype(reftype).ok_or_else(|| {
            let types = REFTYPES.join(", ");
            Error::Usage(format!("--override_{reftype}: no such reference type (types: {types})"))
        })?;
        let fits = Fits::open(path)
            .map_err(|e| Error::Usage(format!("--override_{reftype}: {e}; give a FITS reference file")))?;
        let mut candidate =
            candidate_from_header(path, fits.primary(), BY_HAND).unwrap_or_else(|| Candidate {
                path: path.to_path_buf(),
                reftype: wanted.to_owned(),
                meta: crate::datamodel::Meta::from_header(fits.primary()),
                origin: BY_HAND.into(),
            });
        if candidate.reftype != wanted {
            self.warnings.push(format!(
                "--override_{reftype}: {} says REFTYPE = '{}'; it is used as '{wanted}' all the same",
                path.display(),
                candidate.reftype
            ));
            candidate.reftype = wanted.to_owned();
        }
        self.insert(candidate, &fits)
    }

    fn add_found(&mut self, path: &Path) -> Result<()> {
        let fits = Fits::open(path)?;
        match candidate_from_header(path, fits.primary(), "refs") {
            Some(candidate) => self.insert(candidate, &fits),
            None => Err(Error::fits(
                path,
                "",
                "has no REFTYPE and is not used as a reference; set it to one of the reference types",
            )),
        }
    }

    fn insert(&mut self, candidate: Candidate, fits: &Fits) -> Result<()> {
        // The file's own name: a reference is the same one in whatever folder it lies.
        let name = candidate.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if candidate.reftype == "sky" && fits.primary().text("S_DARK").as_deref() == Some("SKIPPED") {
            self.dark_kept.insert(candidate.path.clone());
        }
        self.identities.insert(candidate.path.clone(), file_identity(&name, fits)?);
        self.candidates.push(candidate);
        Ok(())
    }
}
