//! `--compat liger`: images that liger_iris_pipeline opens as its own.
//!
//! Its `datamodels.open` takes the class from DATAMODL, keywords from PRIMARY, arrays
//! by EXTNAME, and fails on subarray keywords unless an ASDF table names the file's
//! headers by their hash; it then reads that table in place of the headers. So, of
//! images, darks, flats and skies of the imager, and of nothing else:
//!
//! * PRIMARY has the coordinates, with CRPIX counted from 0 (those of DATA, ERR and DQ
//!   count from 1, as FITS does), the subarray, and names as the package spells them;
//! * DQ is u2 where its schema says so, and DQ_HIGH has bits 16 to 31 where any is set;
//! * the table ASDF has the keywords by their paths in the package, and all others as
//!   `extra_fits`, which the package keeps.
//!
//! Measured against the package's commit 3d0ac2e: docs/interoperability.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::product::{About, is_companion};
use crate::datamodel::{Meta, dq};
use crate::error::Result;
use crate::fits::{Card, Fits, FitsWriter, Header, Pixels, Tree, Value};

/// A package whose files products are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// liger_iris_pipeline.
    Liger,
}

impl Compat {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Compat::Liger => "liger",
        }
    }

    /// The sentence about products that were written as always; `None` where none was.
    pub fn unchanged(self, products: &[impl AsRef<Path>]) -> Option<String> {
        let dressed = |p: &Path| Fits::open(p).is_ok_and(|f| f.hdu("ASDF").is_some());
        let all = products.iter().map(AsRef::as_ref).filter(|p| !is_companion(p)).all(dressed);
        (!all).then(|| {
            format!(
                "--compat {}: liger_iris_pipeline has no class that opens spectra, cubes, IFU frames, ramps of ours \
                 and references other than dark and flat: they are written as always",
                self.name()
            )
        })
    }
}

/// One of the package's classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Class {
    name: &'static str,
    /// Its schema has 32 bits of flags.
    wide_flags: bool,
}

/// The class that a product is to be of; `None` where it is written as always.
pub(super) fn class(about: &About<'_>) -> Option<Class> {
    about.provenance.compat?;
    let imager = Meta::from_header(about.input).detector != "IFU";
    let (name, wide_flags) = match about.model {
        "ImagerModel" | "SkyModel" if imager => ("ImagerModel", false),
        "DarkModel" if imager => ("DarkModel", false),
        "FlatModel" if imager => ("FlatModel", true),
        _ => return None,
    };
    Some(Class { name, wide_flags })
}

/// A keyword of the package.
struct Entry {
    path: &'static str,
    kind: &'static str,
    allowed: Vec<&'static str>,
}

/// keyword, path, type, allowed values: the package's schemas of commit 3d0ac2e,
/// without those that its models do not refer to.
static KEYWORDS: LazyLock<BTreeMap<&'static str, Entry>> = LazyLock::new(|| {
    let lines = include_str!("compat/liger.csv").lines().skip(1);
    let entry = |line: &'static str| {
        let mut cells = line.split(',');
        let (keyword, path, kind) = (cells.next()?, cells.next()?, cells.next()?);
        let allowed = cells.next()?.split('|').filter(|v| !v.is_empty()).collect();
        Some((keyword, Entry { path, kind, allowed }))
    };
    lines.filter_map(entry).collect()
});

/// The package's arrays, by EXTNAME.
const ARRAYS: [(&str, &str); 4] =
    [("DATA", "data"), ("ERR", "err"), ("DQ", "dq"), ("SUBARR_MAP", "subarr_map")];

impl Class {
    fn image(self) -> bool {
        self.name == "ImagerModel"
    }

    /// Completes the primary header of a product of `shape` (ny, nx).
    pub(super) fn primary(self, h: &mut Header, wcs: Option<&Header>, shape: [usize; 2]) {
        h.set("DATAMODL", self.name, "data model");
        if let Some(cards) = wcs.filter(|_| self.image()) {
            coordinates(h, cards);
        }
        let meta = Meta::from_header(h);
        subarray(h, &meta, shape);
        for (keyword, text) in [
            ("DETECTOR", &meta.detector),
            ("INSTMODE", &meta.instmode),
            ("READMODE", &meta.readmode),
            ("SEMID", &meta.semid),
        ] {
            if !text.is_empty() {
                h.set_default(keyword, text.as_str(), "");
            }
        }
        if let Some(centre) = h.number("FILTWAVE") {
            h.set_default("WAVECEN", centre, "");
        }
        if let Some(status) = h.text("S_BKGSUB") {
            h.set_default("S_SKYSUB", status, "step background");
        }
        for (keyword, entry) in KEYWORDS.iter() {
            let Some(text) = h.text(keyword).filter(|t| !entry.allowed.contains(&t.as_str())) else {
                continue;
            };
            if let Some(spelled) = entry.allowed.iter().find(|a| a.eq_ignore_ascii_case(&text)) {
                h.set(keyword, *spelled, "");
            }
        }
    }

    /// Appends the flags of an image, in 16 bits where the class has no more; `h` is
    /// the header of DQ without the bits' names.
    pub(super) fn flags(
        self,
        w: &mut FitsWriter,
        mut h: Header,
        shape: &[usize],
        flags: &[u32],
    ) -> Result<()> {
        dq::describe(&mut h);
        if self.wide_flags {
            return w.image("DQ", &h, shape, Pixels::U32(flags));
        }
        let mut high = h.clone();
        let bit = |c: &Card| c.keyword.strip_prefix("DQB").and_then(|b| b.parse::<u32>().ok());
        h.retain(|c| bit(c).is_none_or(|b| b < 16));
        let low: Vec<u16> = flags.iter().map(|f| *f as u16).collect();
        w.image("DQ", &h, shape, Pixels::U16(&low))?;
        if flags.iter().all(|f| *f < 1 << 16) {
            return Ok(());
        }
        high.retain(|c| bit(c).is_none_or(|b| b >= 16));
        high.set("DQSHIFT", 16, "bit 0 here is bit 16 of the flags");
        let upper: Vec<u16> = flags.iter().map(|f| (*f >> 16) as u16).collect();
        w.image("DQ_HIGH", &high, shape, Pixels::U16(&upper))
    }

    /// Appends the table ASDF.
    pub(super) fn tail(self, w: &mut FitsWriter) -> Result<()> {
        let tree = self.tree(w.headers());
        w.asdf(&tree)
    }

    fn tree(self, headers: &[Header]) -> Tree {
        let mut tree = Tree::Map(BTreeMap::new());
        for header in headers {
            let name = header.text("EXTNAME").unwrap_or_else(|| "PRIMARY".into());
            let array = ARRAYS.iter().find(|(extname, _)| *extname == name);
            if let Some(image) = Tree::image(header) {
                match array {
                    Some((_, path)) => tree.put(path, image),
                    None => tree.put(&format!("extra_fits.{name}.data"), image),
                }
            }
            let mut extra = Vec::new();
            for card in header.cards().iter().filter(|c| !describes_bytes(&c.keyword)) {
                match self.entry(card).filter(|_| name == "PRIMARY") {
                    Some((entry, value)) => tree.put(entry.path, Tree::Value(value.clone())),
                    None => extra.extend(triple(card)),
                }
            }
            if !extra.is_empty() {
                tree.put(&format!("extra_fits.{name}.header"), Tree::List(extra));
            }
        }
        tree
    }

    /// The package's entry of a card that its schema takes.
    fn entry(self, card: &Card) -> Option<(&'static Entry, &Value)> {
        let entry = KEYWORDS.get(card.keyword.as_str())?;
        let value = card.value.as_ref()?;
        let of_images =
            entry.path.starts_with("meta.wcsinfo.") || entry.path.starts_with("meta.coordinates.");
        let of_references =
            entry.path.starts_with("meta.ref_type") || entry.path.starts_with("meta.ref_version");
        let fits = match (entry.kind, value) {
            ("string", Value::Text(t)) => entry.allowed.is_empty() || entry.allowed.contains(&t.as_str()),
            ("integer" | "number", Value::Integer(_)) | ("number", Value::Real(_)) => true,
            _ => false,
        };
        let has = if self.image() { !of_references } else { !of_images };
        (fits && has).then_some((entry, value))
    }
}

/// Puts the coordinates of `cards` where the package looks for them. It knows no CD
/// matrix (CDELT and PC say the same) and takes CRPIX as counted from 0.
fn coordinates(h: &mut Header, cards: &Header) {
    for card in cards.cards() {
        let known = KEYWORDS.get(card.keyword.as_str()).is_some_and(|e| e.path.starts_with("meta.wcsinfo."));
        match (&card.value, cards.number(&card.keyword)) {
            (Some(_), Some(pixel)) if card.keyword.starts_with("CRPIX") => {
                h.set(&card.keyword, pixel - 1.0, "reference pixel (from 0, not as FITS)");
            }
            (Some(value), _) if known => h.set(&card.keyword, value.clone(), &card.comment),
            _ => {}
        }
    }
    for i in 1..=2 {
        let element = |j: usize| cards.number(&format!("CD{i}_{j}"));
        let (Some(x), Some(y)) = (element(1), element(2)) else { continue };
        let step = x.hypot(y).copysign(if i == 1 { x } else { y });
        if step != 0.0 {
            h.set(&format!("CDELT{i}"), step, "degrees a pixel");
            h.set(&format!("PC{i}_1"), x / step, "");
            h.set(&format!("PC{i}_2"), y / step, "");
        }
    }
    let frame = cards.text("RADESYS").filter(|f| f == "FK5").unwrap_or_else(|| "ICRS".into());
    h.set("RADECSYS", frame, "");
}

/// The subarray, whole: the package subtracts no dark and divides by no flat without.
fn subarray(h: &mut Header, meta: &Meta, [ny, nx]: [usize; 2]) {
    let whole = matches!(meta.subarray.as_str(), "" | "FULL" | "N/A");
    let name = match meta.subarray.as_str() {
        _ if whole => "FULL",
        "GENERIC" => "GENERIC",
        _ => "CUSTOM",
    };
    let (x, y) = if whole { (1, 1) } else { meta.substart };
    h.set("SUBARRAY", name, "");
    h.set_default("SUBARRID", 0, "");
    for (keyword, value) in
        [("SUBSTRT1", x), ("SUBSTRT2", y), ("SUBSIZE1", nx as i64), ("SUBSIZE2", ny as i64)]
    {
        h.set(keyword, value, "");
    }
}

/// A card as stdatamodels keeps those that no schema knows: keyword, value, comment.
fn triple(card: &Card) -> Option<Tree> {
    let text = |t: &str| Tree::Value(Value::Text(t.to_owned()));
    let keyword = text(card.keyword.strip_prefix("HIERARCH ").unwrap_or(&card.keyword));
    match &card.value {
        None => Some(Tree::List(vec![keyword, text(&card.comment), text("")])),
        Some(Value::Other(_)) => None,
        Some(value) => Some(Tree::List(vec![keyword, Tree::Value(value.clone()), text(&card.comment)])),
    }
}

/// Keywords that stdatamodels writes itself, and checksums, which would be wrong.
fn describes_bytes(keyword: &str) -> bool {
    const EXACT: [&str; 14] = [
        "", "SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "EXTEND", "EXTNAME", "EXTVER", "BZERO",
        "BSCALE", "HISTORY", "CHECKSUM", "DATASUM",
    ];
    EXACT.contains(&keyword) || keyword.starts_with("NAXIS")
}

#[cfg(test)]
#[path = "compat_tests.rs"]
mod tests;
