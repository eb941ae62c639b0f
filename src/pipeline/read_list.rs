//! What differs from read to read of an exposure that came as one file a read: the table
//! READS, in the list of jumps where one is written, else in a file of its own in the
//! folder `reads` (a table beside a 2-D image keeps viewers from loading the image).

use std::path::{Path, PathBuf};

use super::product::{About, primary};
use crate::error::Result;
use crate::fits::{Column, ColumnData, FitsWriter, Header, Value};
use crate::input::EachRead;

/// Where the table of the rate at `rate` goes.
pub(super) fn path_for(rate: &Path) -> PathBuf {
    let stem = rate.file_stem().unwrap_or_default().to_string_lossy();
    rate.with_file_name("reads").join(format!("{stem}_reads.fits"))
}

/// Writes the table as a file.
pub(super) fn write(path: &Path, about: &About<'_>, reads: &EachRead) -> Result<PathBuf> {
    let mut w = FitsWriter::create(path)?;
    w.empty("PRIMARY", &primary(path, about))?;
    append(&mut w, reads)?;
    w.finish()
}

/// Appends READS, a row a read: RAMP, READ (from 1), TIME, FILE, and a column for each
/// keyword that differs.
pub(super) fn append(w: &mut FitsWriter, reads: &EachRead) -> Result<()> {
    let mut columns = vec![
        Column {
            name: "RAMP".into(),
            unit: String::new(),
            width: 1,
            data: ColumnData::I32(reads.ramp.clone()),
        },
        Column {
            name: "READ".into(),
            unit: String::new(),
            width: 1,
            data: ColumnData::I32(reads.read.clone()),
        },
        Column {
            name: "TIME".into(),
            unit: "s".into(),
            width: 1,
            data: ColumnData::F64(reads.times.clone()),
        },
        text("FILE", reads.files.iter().map(String::as_str)),
    ];
    columns.extend(reads.varying.iter().map(|(keyword, values)| column(keyword, values)));
    let mut h = Header::new();
    h.set("NVARYING", reads.varying.len(), "keywords that differ from read to read");
    w.table("READS", &h, &columns)
}

/// Whole numbers, or numbers (NaN where there is none), or text as headers have it.
fn column(keyword: &str, values: &[Option<Value>]) -> Column {
    let whole = |v: &Option<Value>| if let Some(Value::Integer(i)) = v { Some(*i) } else { None };
    let real = |v: &Option<Value>| match v {
        None => Some(f64::NAN),
        Some(Value::Integer(i)) => Some(*i as f64),
        Some(Value::Real(r)) => Some(*r),
        _ => None,
    };
    let data = values.iter().map(whole).collect::<Option<Vec<_>>>().map(ColumnData::I64);
    let data = data.or_else(|| values.iter().map(real).collect::<Option<Vec<_>>>().map(ColumnData::F64));
    match data {
        Some(data) => Column { name: keyword.into(), unit: String::new(), width: 1, data },
        None => {
            let mut as_text = Header::new();
            let texts: Vec<String> = values
                .iter()
                .map(|v| {
                    as_text.set("V", v.clone().unwrap_or(Value::Undefined), "");
                    as_text.text("V").unwrap_or_default()
                })
                .collect();
            text(keyword, texts.iter().map(String::as_str))
        }
    }
}

/// A column of text, as wide as the longest.
fn text<'a>(name: &str, values: impl Iterator<Item = &'a str> + Clone) -> Column {
    let width = values.clone().map(|v| v.chars().count()).max().unwrap_or(0).max(1);
    let cell = |v: &str| {
        let ascii = v.chars().map(|c| if (' '..='~').contains(&c) { c as u8 } else { b'?' });
        ascii.chain(std::iter::repeat(b' ')).take(width).collect::<Vec<u8>>()
    };
    Column {
        name: name.into(),
        unit: String::new(),
        width,
        data: ColumnData::Text(values.flat_map(cell).collect()),
    }
}
