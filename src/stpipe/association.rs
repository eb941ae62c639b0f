//! Association files (`asn.json`): which files make a product together.
//!
//! ```json
//! {"asn_type": "image2", "products": [{"name": "ngc1", "members": [
//!   {"expname": "sci.fits", "exptype": "science"},
//!   {"expname": "sky.fits", "exptype": "background"}]}]}
//! ```
//! Files are looked for beside the association. Keys that are not used here
//! (`asn_rule`, `asn_pool`, `program` …) may say what they like.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::read_text;
use crate::error::{Error, Result};

/// An association file.
#[derive(Debug, Clone, PartialEq)]
pub struct Association {
    /// The file.
    pub path: PathBuf,
    /// What is to be made.
    pub products: Vec<Product>,
}

/// One product of an association.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Its name, without suffix and `.fits`.
    pub name: String,
    /// What it is made of.
    pub members: Vec<Member>,
}

/// A file of a product.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The file.
    pub path: PathBuf,
    /// What it is to the product.
    pub role: Role,
}

/// What a file is to the product.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// It is reduced.
    Science,
    /// It calibrates: a reference type, or what stands for one.
    Calibration(String),
}

#[derive(Deserialize)]
pub(crate) struct RawAssociation {
    products: Vec<RawProduct>,
}

#[derive(Deserialize)]
struct RawProduct {
    name: String,
    members: Vec<RawMember>,
}

#[derive(Deserialize)]
struct RawMember {
    expname: String,
    exptype: String,
}

impl Association {
    /// Reads an association.
    ///
    /// # Errors
    /// What is not JSON of this form. Whether members are there is not asked (see
    /// [`Association::complete`]).
    pub fn from_file(path: &Path) -> Result<Association> {
        let fail = |what: String| Error::Config(format!("{}: {what}", path.display()));
        let raw = parse(&read_text(path)?).map_err(fail)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut products = Vec::new();
        for product in raw.products {
            let name = product.name;
            let mut members = Vec::new();
            for member in product.members {
                let role = Role::of(&member.exptype);
                members.push(Member { path: folder.join(&member.expname), role });
            }
            products.push(Product { name, members });
        }
        Ok(Association { path: path.to_path_buf(), products })
    }

    /// Itself, if all its members are there. Where a product has no science members, those
    /// of an exptype that `is_own` are: darks make a dark.
    ///
    /// # Errors
    /// The first that is not there, products without science members.
    pub fn complete(mut self, is_own: impl Fn(&str) -> bool) -> Result<Association> {
        for product in &mut self.products {
            let (by, name) = (self.path.display(), &product.name);
            let science = |members: &[Member]| members.iter().any(|m| m.role == Role::Science);
            if !science(&product.members) {
                for member in &mut product.members {
                    if matches!(&member.role, Role::Calibration(kind) if is_own(kind)) {
                        member.role = Role::Science;
                    }
                }
            }
            if !science(&product.members) {
                let text = format!("{by}: product '{name}' has no member of exptype science");
                return Err(Error::Config(text));
            }
            if let Some(file) = product.missing(|_| true).next() {
                let text = format!("{by}: product '{name}': there is no file {}", file.display());
                return Err(Error::Config(text));
            }
        }
        Ok(self)
    }
}

/// The text of an association; a sentence where it is none.
pub(crate) fn parse(text: &str) -> Result<RawAssociation, String> {
    let raw: RawAssociation = serde_json::from_str(text)
        .map_err(|e| format!("is no association (an object with \"products\"): {e}"))?;
    if raw.products.is_empty() { Err("has no products".into()) } else { Ok(raw) }
}

impl Role {
    fn of(exptype: &str) -> Role {
        match exptype.trim().to_ascii_lowercase().as_str() {
            "science" | "sci" => Role::Science,
            "background" | "bkg" => Role::Calibration("sky".into()),
            other => Role::Calibration(other.to_owned()),
        }
    }
}

impl Product {
    /// The files that are reduced.
    pub fn science(&self) -> Vec<PathBuf> {
        self.members.iter().filter(|m| m.role == Role::Science).map(|m| m.path.clone()).collect()
    }

    /// The members of a role whose files are not there.
    pub fn missing(&self, of: impl Fn(&Role) -> bool) -> impl Iterator<Item = &Path> {
        self.members.iter().filter(move |m| of(&m.role) && !m.path.is_file()).map(|m| m.path.as_path())
    }

    /// The files that calibrate them, by what they are, each kind once.
    pub fn calibrations(&self) -> Vec<(&str, Vec<PathBuf>)> {
        let mut out: Vec<(&str, Vec<PathBuf>)> = Vec::new();
        for member in &self.members {
            let Role::Calibration(kind) = &member.role else { continue };
            match out.iter_mut().find(|(k, _)| k == kind) {
                Some((_, files)) => files.push(member.path.clone()),
                None => out.push((kind, vec![member.path.clone()])),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_apart_and_looked_for_beside_the_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["s.fits", "b.fits", "c.fits"] {
            std::fs::write(dir.path().join(name), "").expect("write");
        }
        let at = |text: &str| {
            let path = dir.path().join("asn.json");
            std::fs::write(&path, text).expect("write");
            Association::from_file(&path)?.complete(|kind| kind == "flat")
        };
        let member = |name: &str, kind: &str| format!(r#"{{"expname": "{name}", "exptype": "{kind}"}}"#);
        let asn = at(&format!(
            r#"{{"asn_rule": "x", "products": [{{"name": "p", "more": 1, "members": [{}, {}, {}]}}]}}"#,
            member("s.fits", "SCIENCE"),
            member("b.fits", "background"),
            member("c.fits", "sky")
        ))
        .expect("association");
        let product = &asn.products[0];
        assert_eq!(product.science(), [dir.path().join("s.fits")]);
        assert_eq!(
            product.calibrations(),
            [("sky", vec![dir.path().join("b.fits"), dir.path().join("c.fits")])]
        );
        let own =
            at(&format!(r#"{{"products": [{{"name": "p", "members": [{}]}}]}}"#, member("b.fits", "flat")));
        assert_eq!(own.expect("flats make a flat").products[0].science(), [dir.path().join("b.fits")]);
        for (text, what) in [
            ("[]", "is no association"),
            (r#"{"products": []}"#, "has no products"),
            (r#"{"products": [{"name": "p", "members": []}]}"#, "no member of exptype science"),
            (
                r#"{"products": [{"name": "p", "members": [{"expname": "no.fits", "exptype": "science"}]}]}"#,
                "no.fits",
            ),
        ] {
            let sentence = at(text).expect_err(text).to_string();
            assert!(sentence.contains("asn.json") && sentence.contains(what), "{sentence}");
        }
    }
}
