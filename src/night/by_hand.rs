//! `night.yaml`, beside the data: what a person says of a night without touching a
//! header. Every part may be left out.
//!
//! ```yaml
//! relabel:                     # keywords that stand in place of those of the header
//!   - files: IMG1-0007.fits
//!     set: {OBSNAME: IMG1-SKY, OBJECT: blank field}
//! exclude:                     # frames that are as if they were not there
//!   - files: [focus-*.fits, bad.fits]
//!     because: telescope out of focus
//! pair:                        # what calibrates what
//!   - files: sci-00*.fits
//!     with: {sky: [sky-3.fits, sky-4.fits], dark: ../20320101/reduced/masters/D.fits, flat: none}
//! associations: [level2.json]  # stpipe's; asn.json and *_asn.json beside it are found
//! ```
//! A name is that of the file, or its path within the night; `*` stands for anything.
//! What is paired is raw frames of the night (a master of just these is made), a
//! reference file (its path from the night's folder), or `none`, which leaves the step
//! out. What is wrong in it stops the run before anything is done: half of what a person
//! said is worse than nothing. Where an association names what is not there, its exposures
//! are not done; one that lies beside the data and cannot be read is not used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::classify::goes_with;
use super::plan::matches;
use crate::config::{not_understood, read_text};
use crate::error::{Error, Result};
use crate::fits::Value;
use crate::input::{Relabels, describes_bytes};
use crate::stpipe::Association;

/// What a person says of a night.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ByHand {
    /// The name of the file that says it.
    pub name: String,
    notes: Notes,
    /// Associations named in it or found beside it.
    pub associations: Vec<Association>,
    /// Why associations that were found and not named are not used, as sentences.
    pub unused: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notes {
    #[serde(deserialize_with = "or_none")]
    relabel: Vec<Relabel>,
    #[serde(deserialize_with = "or_none")]
    exclude: Vec<Exclude>,
    #[serde(deserialize_with = "or_none")]
    pair: Vec<PairOf>,
    #[serde(deserialize_with = "or_none")]
    associations: Vec<PathBuf>,
}

/// A list, or nothing behind the colon.
fn or_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Relabel {
    files: Names,
    set: BTreeMap<String, Scalar>,
}

/// A keyword's value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "the value of a keyword is one number, text, true or false")]
enum Scalar {
    Logical(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclude {
    files: Names,
    #[serde(default)]
    because: String,
}

/// Which frames, and what calibrates them by reference type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairOf {
    pub(super) files: Names,
    pub(super) with: BTreeMap<String, Names>,
}

/// One name, or several; each may have `*` in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "give the name of a file, or a list of names")]
pub(super) enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        };
        all.iter().map(String::as_str)
    }

    /// Whether one of them is that of a frame.
    pub(super) fn name(&self, frame: &str) -> bool {
        self.iter().any(|n| is_named(n, frame))
    }

    /// Those that are of none of the frames, as warnings.
    pub(super) fn idle(&self, what: &str, frames: &[String]) -> Vec<String> {
        let none = |n: &&str| !frames.iter().any(|f| is_named(n, f));
        self.iter().filter(none).map(|n| format!("{what}: no frame is called {n}")).collect()
    }
}

/// Whether `name`, perhaps with `*`, is that of the file `path` or its path.
pub(super) fn is_named(name: &str, path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    match name.contains('*') {
        true => matches(name, path) || matches(name, file),
        false => name == path || name == file,
    }
}

/// The text of a `night.yaml`; `origin` is named in errors.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Notes> {
    let notes = serde_yaml::from_str::<Option<Notes>>(text).map_err(|e| not_understood(origin, &e))?;
    Ok(notes.unwrap_or_default())
}

impl ByHand {
    /// Reads what stands beside a night's data; nothing where nothing does.
    ///
    /// # Errors
    /// What cannot be read or understood.
    pub fn of_night(night: &Path) -> Result<ByHand> {
        if !night.is_dir() {
            // The scan says so.
            return Ok(ByHand::default());
        }
        let mut all = ByHand { name: "night.yaml".into(), ..ByHand::default() };
        for name in ["night.yaml", "night.yml"] {
            let path = night.join(name);
            if path.is_file() {
                all.name = name.into();
                all.notes = parse(&read_text(&path)?, &path.display().to_string())?;
                break;
            }
            // What a person said is not to be lost for where it lies.
            if path.symlink_metadata().is_ok() {
                let message =
                    "is no file that can be read (a link to nothing, a folder, a pipe): mend or remove it";
                return Err(Error::Usage(format!("{}: {message}", path.display())));
            }
        }
        let named: Vec<PathBuf> = all.notes.associations.iter().map(|a| night.join(a)).collect();
        all.associations = named.iter().map(|f| Association::from_file(f)).collect::<Result<_>>()?;
        for file in associations_beside(night)?.iter().filter(|f| !named.contains(f)) {
            match Association::from_file(file) {
                Ok(association) => all.associations.push(association),
                Err(e) => all.unused.push(format!("{e}; it is not used")),
            }
        }
        Ok(all)
    }

    /// Keywords given to `files`; names that are of none of them are warned about.
    ///
    /// # Errors
    /// Keywords that FITS does not have.
    pub(super) fn relabels(
        &self,
        files: &[(String, PathBuf)],
        warnings: &mut Vec<String>,
    ) -> Result<Relabels> {
        let mut out = Relabels::default();
        let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        for relabel in &self.notes.relabel {
            warnings.extend(relabel.files.idle(&format!("{}, relabel", self.name), &names));
            let mut set = relabel.set.clone();
            // A wrong OBSNAME has its IMTYPE and OBSTYPE with it.
            if let Some(Scalar::Text(obsname)) = relabel.set.get("OBSNAME")
                && let Some((imtype, obstype)) = goes_with(obsname)
            {
                set.entry("IMTYPE".into()).or_insert_with(|| Scalar::Text(imtype.into()));
                set.entry("OBSTYPE".into()).or_insert_with(|| Scalar::Text(obstype.into()));
            }
            for (keyword, value) in &set {
                let legal = !keyword.is_empty()
                    && keyword.len() <= 8
                    && keyword
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b));
                let commentary = matches!(keyword.as_str(), "COMMENT" | "HISTORY" | "CONTINUE" | "END");
                if !legal || commentary || describes_bytes(keyword) {
                    return Err(Error::Config(format!(
                        "{}, relabel: {keyword}: give a keyword that FITS allows (up to 8 capitals, digits, - and _), \
                         and none that says how the file is built",
                        self.name
                    )));
                }
                for (_, path) in files.iter().filter(|(name, _)| relabel.files.name(name)) {
                    out.set(path, keyword, Value::from(value));
                }
            }
        }
        for names_of in self.notes.exclude.iter().map(|e| &e.files) {
            warnings.extend(names_of.idle(&format!("{}, exclude", self.name), &names));
        }
        Ok(out)
    }

    /// Why a frame is left out, if it is.
    pub(super) fn excluded(&self, frame: &str) -> Option<String> {
        let exclude = self.notes.exclude.iter().find(|e| e.files.name(frame))?;
        let why = if exclude.because.is_empty() { String::new() } else { format!(" ({})", exclude.because) };
        Some(format!("{} leaves it out{why}", self.name))
    }

    pub(super) fn pairs(&self) -> &[PairOf] {
        &self.notes.pair
    }
}

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Value {
        match scalar {
            Scalar::Logical(b) => Value::from(*b),
            Scalar::Integer(i) => Value::from(*i),
            Scalar::Real(r) => Value::from(*r),
            Scalar::Text(t) => Value::from(t.as_str()),
        }
    }
}

/// `asn.json` and `*_asn.json` in a folder, by name.
fn associations_beside(night: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(night).map_err(Error::io("list", night))? {
        let path = entry.map_err(Error::io("list", night))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if (name == "asn.json" || name.ends_with("_asn.json")) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<ByHand> {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("night.yaml"), text).expect("write");
        ByHand::of_night(dir.path())
    }

    #[test]
    fn frames_are_named_by_file_path_or_pattern() {
        for (name, path, yes) in [
            ("a.fits", "a.fits", true),
            ("a.fits", "sub/a.fits", true),
            ("sub/a.fits", "sub/a.fits", true),
            ("other/a.fits", "sub/a.fits", false),
            ("a", "a.fits", false),
            ("sub/*", "sub/a.fits", true),
            ("a*", "sub/a.fits", true),
            ("b*", "sub/a.fits", false),
        ] {
            assert_eq!(is_named(name, path), yes, "{name} {path}");
        }
    }

    #[test]
    fn keywords_and_omissions_are_read_and_names_of_nothing_told() {
        let hand = of("relabel:\n  - {files: a.fits, set: {OBSNAME: IMG1-SKY, EXPNUM: 7}}\n  - {files: no.fits, set: {A: 1.5}}\n\
                       exclude: [{files: [b*, c.fits], because: clouds}]\n")
        .expect("notes");
        let files = [
            ("a.fits".to_owned(), PathBuf::from("n/a.fits")),
            ("b1.fits".to_owned(), PathBuf::from("n/b1.fits")),
        ];
        let mut warnings = Vec::new();
        let relabels = hand.relabels(&files, &mut warnings).expect("relabels");
        let given = relabels.of(Path::new("n/a.fits")).expect("a.fits");
        assert_eq!((&given["IMTYPE"], &given["OBSTYPE"]), (&Value::from("SKY"), &Value::from("SCI")));
        assert_eq!((&given["OBSNAME"], &given["EXPNUM"]), (&Value::from("IMG1-SKY"), &Value::from(7)));
        assert_eq!(
            warnings,
            [
                "night.yaml, relabel: no frame is called no.fits",
                "night.yaml, exclude: no frame is called c.fits"
            ]
        );
        assert_eq!(hand.excluded("b1.fits").as_deref(), Some("night.yaml leaves it out (clouds)"));
        assert_eq!(hand.excluded("a.fits"), None);
        assert_eq!(of("").expect("empty").pairs().len(), 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("relabels: []\n", "relabels"),
            ("relabel: [{files: a.fits}]\n", "set"),
            ("exclude: 3\n", "night.yaml"),
            ("associations: [no.json]\n", "no.json"),
        ] {
            let sentence = of(text).expect_err(text).to_string();
            assert!(sentence.contains(what), "{sentence}");
        }
        for keyword in ["obsname", "NAXIS1", "END", "HISTORY", "TOOLONGNAME"] {
            let hand = of(&format!("relabel: [{{files: a.fits, set: {{{keyword}: x}}}}]\n")).expect("yaml");
            assert!(hand.relabels(&[], &mut Vec::new()).expect_err(keyword).to_string().contains(keyword));
        }
    }
}
