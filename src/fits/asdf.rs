//! An ASDF tree beside the images of a FITS file: YAML in the one cell of a table,
//! whose arrays are the file's own images (ASDF Standard 1.6.0; in FITS as STScI's
//! stdatamodels has it).
//!
//! The tree's `_fits_hash` is the SHA-256 of all headers before it, byte for byte.
//! stdatamodels takes the tree for the headers where it is right, and reads the
//! headers where it is not.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

use super::{Column, ColumnData, FitsWriter, Header, Value};
use crate::error::Result;

/// What the text begins with.
const HEAD: &str =
    "#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n";

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Nodes by name.
    Map(BTreeMap<String, Tree>),
    /// Nodes in order.
    List(Vec<Tree>),
    /// A value; null where FITS has none.
    Value(Value),
    /// An image HDU of the file.
    Image(String),
}

impl Tree {
    /// The image that `header` describes; `None` where it has no pixels.
    pub fn image(header: &Header) -> Option<Tree> {
        let axes = header.integer("NAXIS").filter(|n| *n > 0)?;
        let zero = header.number("BZERO").unwrap_or(0.0);
        let datatype = match (header.integer("BITPIX")?, zero != 0.0) {
            (8, _) => "uint8",
            (16, false) => "int16",
            (16, true) => "uint16",
            (32, false) => "int32",
            (32, true) => "uint32",
            (-32, _) => "float32",
            (-64, _) => "float64",
            _ => return None,
        };
        let shape: Option<Vec<String>> =
            (1..=axes).rev().map(|n| Some(header.integer(&format!("NAXIS{n}"))?.to_string())).collect();
        let name = quoted(&format!("fits:{},1", header.text("EXTNAME")?));
        let shape = shape?.join(", ");
        Some(Tree::Image(format!(
            "!core/ndarray-1.1.0 {{source: {name}, datatype: {datatype}, byteorder: big, shape: [{shape}]}}"
        )))
    }

    /// Puts `leaf` at `path` (`instrument.filter`) under this map.
    pub fn put(&mut self, path: &str, leaf: Tree) {
        let Tree::Map(map) = self else { return };
        match path.split_once('.') {
            None => {
                map.insert(path.to_owned(), leaf);
            }
            Some((first, rest)) => {
                map.entry(first.to_owned()).or_insert_with(|| Tree::Map(BTreeMap::new())).put(rest, leaf);
            }
        }
    }
}

/// Text as YAML and JSON quote it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A number that YAML 1.1 takes for one: with a point, and a sign in the exponent.
fn real(value: f64) -> String {
    let text = format!("{value:?}");
    let Some((digits, power)) = text.split_once('e') else { return text };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if power.starts_with('-') { "" } else { "+" };
    format!("{digits}{point}e{sign}{power}")
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Map(map) => {
                for (i, (name, node)) in map.iter().enumerate() {
                    write!(f, "{}{}: {node}", if i == 0 { "{" } else { ", " }, quoted(name))?;
                }
                f.write_str(if map.is_empty() { "{}" } else { "}" })
            }
            Tree::List(list) => {
                f.write_str("[")?;
                for (i, node) in list.iter().enumerate() {
                    write!(f, "{}{node}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Tree::Value(Value::Text(text)) => f.write_str(&quoted(text)),
            Tree::Value(Value::Integer(n)) => write!(f, "{n}"),
            Tree::Value(Value::Real(v)) => f.write_str(&real(*v)),
            Tree::Value(Value::Logical(b)) => write!(f, "{b}"),
            Tree::Value(Value::Undefined | Value::Other(_)) => f.write_str("null"),
            Tree::Image(text) => f.write_str(text),
        }
    }
}

impl FitsWriter {
    /// Appends the table ASDF with `tree` (a map) and the hash of all headers so far:
    /// nothing may come after it.
    pub fn asdf(&mut self, tree: &Tree) -> Result<()> {
        let mut hash = Sha256::new();
        self.headers().iter().for_each(|h| hash.update(h.to_bytes()));
        let mut text = format!("{HEAD}_fits_hash: ");
        hash.finalize().iter().for_each(|byte| text += &format!("{byte:02x}"));
        text.push('\n');
        if let Tree::Map(map) = tree {
            for (name, node) in map {
                // Into a string: it cannot fail.
                let _ = writeln!(text, "{name}: {node}");
            }
        }
        text += "...\n";
        let bytes = text.into_bytes();
        let column = Column {
            name: "ASDF_METADATA".into(),
            unit: String::new(),
            width: bytes.len(),
            data: ColumnData::U8(bytes),
        };
        self.table("ASDF", &Header::new(), &[column])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Fits, Pixels};
    use super::*;

    fn write(path: &Path, object: &str) -> Vec<u8> {
        let mut h = Header::new();
        h.set("OBJECT", object, "");
        h.set("LONG", "a long text ".repeat(12).trim_end(), "continued");
        let mut w = FitsWriter::create(path).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.image("DATA", &Header::new(), &[2, 3], Pixels::F32(&[1.0; 6])).expect("data");
        w.image("DQ", &Header::new(), &[2, 3], Pixels::U16(&[1; 6])).expect("dq");
        let mut tree = Tree::Map(BTreeMap::new());
        tree.put("data", Tree::image(&w.headers()[1]).expect("an image"));
        tree.put("meta.wcsinfo.cdelt1", Tree::Value(Value::Real(-1e-6)));
        tree.put("meta.name", Tree::Value(Value::Text("O'Neill \"5\"".into())));
        w.asdf(&tree).expect("asdf");
        std::fs::read(w.finish().expect("finish")).expect("read")
    }

    /// The hash as anyone else computes it: of the header blocks as they lie in the file.
    fn hash(path: &Path, bytes: &[u8]) -> String {
        let fits = Fits::open(path).expect("open");
        let mut hash = Sha256::new();
        let mut at = 0;
        for hdu in fits.hdus.iter().filter(|h| h.name != "ASDF") {
            let end = hdu.data_start as usize;
            hash.update(&bytes[at..end]);
            at = end + (hdu.data_len as usize).div_ceil(2880) * 2880;
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn text(path: &Path, bytes: &[u8]) -> String {
        let fits = Fits::open(path).expect("open");
        let hdu = fits.hdu("ASDF").expect("ASDF");
        let n = hdu.header.integer("NAXIS1").expect("NAXIS1") as usize;
        let start = hdu.data_start as usize;
        String::from_utf8(bytes[start..start + n].to_vec()).expect("text")
    }

    #[test]
    fn the_hash_is_that_of_the_headers_in_the_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (a, b) = (dir.path().join("a.fits"), dir.path().join("b.fits"));
        let (one, two) = (write(&a, "M 31"), write(&b, "M 32"));
        let stored = |text: &str| {
            text.lines().find_map(|l| l.strip_prefix("_fits_hash: ")).expect("a hash").to_owned()
        };
        assert_eq!(stored(&text(&a, &one)), hash(&a, &one));
        // One card differs: so does the hash.
        assert_eq!(stored(&text(&b, &two)), hash(&b, &two));
        assert_ne!(hash(&a, &one), hash(&b, &two));
    }

    #[test]
    fn the_tree_is_yaml() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.fits");
        let bytes = write(&path, "M 31");
        let text = text(&path, &bytes);
        assert!(text.starts_with("#ASDF 1.0.0\n") && text.ends_with("\n...\n"), "{text}");
        let data = "data: !core/ndarray-1.1.0 {source: \"fits:DATA,1\", datatype: float32, byteorder: big, shape: [2, 3]}\n";
        assert!(text.contains(data), "{text}");
        let meta = "meta: {\"name\": \"O'Neill \\\"5\\\"\", \"wcsinfo\": {\"cdelt1\": -1.0e-6}}\n";
        assert!(text.contains(meta), "{text}");
    }

    #[test]
    fn numbers_are_numbers_in_yaml_1_1() {
        for (value, text) in [(250.4, "250.4"), (2.0, "2.0"), (-1e-6, "-1.0e-6"), (1.5e20, "1.5e+20")] {
            assert_eq!(real(value), text);
        }
    }
}
