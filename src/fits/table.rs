//! Binary tables of fixed-width columns, scalar or vector.

use super::{Fits, FitsWriter, Hdu, HduKind, Header, Pixels};
use crate::error::Result;

/// The values of a column, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnData {
    /// Bytes (`B`).
    U8(Vec<u8>),
    /// 16-bit integers (`I`).
    I16(Vec<i16>),
    /// 32-bit integers (`J`).
    I32(Vec<i32>),
    /// 64-bit integers (`K`).
    I64(Vec<i64>),
    /// Single precision (`E`).
    F32(Vec<f32>),
    /// Double precision (`D`).
    F64(Vec<f64>),
    /// Characters (`A`): the column's width is the length of its texts, padded with blanks.
    Text(Vec<u8>),
}

impl ColumnData {
    fn len(&self) -> usize {
        match self {
            ColumnData::U8(v) => v.len(),
            ColumnData::I16(v) => v.len(),
            ColumnData::I32(v) => v.len(),
            ColumnData::F32(v) => v.len(),
            ColumnData::F64(v) => v.len(),
            ColumnData::I64(v) => v.len(),
            ColumnData::Text(v) => v.len(),
        }
    }

    fn code(&self) -> (char, usize) {
        match self {
            ColumnData::U8(_) => ('B', 1),
            ColumnData::I16(_) => ('I', 2),
            ColumnData::I32(_) => ('J', 4),
            ColumnData::F32(_) => ('E', 4),
            ColumnData::F64(_) => ('D', 8),
            ColumnData::I64(_) => ('K', 8),
            ColumnData::Text(_) => ('A', 1),
        }
    }

    fn put(&self, i: usize, out: &mut Vec<u8>) {
        match self {
            ColumnData::U8(v) => out.push(v[i]),
            ColumnData::I16(v) => out.extend(v[i].to_be_bytes()),
            ColumnData::I32(v) => out.extend(v[i].to_be_bytes()),
            ColumnData::F32(v) => out.extend(v[i].to_be_bytes()),
            ColumnData::F64(v) => out.extend(v[i].to_be_bytes()),
            ColumnData::I64(v) => out.extend(v[i].to_be_bytes()),
            ColumnData::Text(v) => out.push(v[i]),
        }
    }
}

/// One column: `width` values a row.
#[derive(Debug, Clone)]
pub struct Column {
    /// TTYPE.
    pub name: String,
    /// TUNIT; empty for none.
    pub unit: String,
    /// Values a row.
    pub width: usize,
    /// The values.
    pub data: ColumnData,
}

impl FitsWriter {
    /// Appends a binary table; every column must have the same number of rows.
    pub fn table(&mut self, name: &str, header: &Header, columns: &[Column]) -> Result<()> {
        let rows = columns.first().map_or(0, |c| c.data.len() / c.width.max(1));
        let mut structure = Header::new();
        let mut row_bytes = 0;
        for (i, column) in columns.iter().enumerate() {
            let (code, size) = column.data.code();
            let n = i + 1;
            structure.set(&format!("TTYPE{n}"), column.name.as_str(), "");
            structure.set(&format!("TFORM{n}"), format!("{}{code}", column.width), "");
            if !column.unit.is_empty() {
                structure.set(&format!("TUNIT{n}"), column.unit.as_str(), "");
            }
            row_bytes += size * column.width;
        }
        let mut bytes = Vec::with_capacity(row_bytes * rows);
        for row in 0..rows {
            for c in columns {
                (0..c.width).for_each(|k| c.data.put(row * c.width + k, &mut bytes));
            }
        }
        let mut mandatory = Header::new();
        mandatory.set("BITPIX", 8, "");
        mandatory.set("NAXIS", 2, "");
        mandatory.set("NAXIS1", row_bytes, "bytes a row");
        mandatory.set("NAXIS2", rows, "rows");
        mandatory.set("PCOUNT", 0, "");
        mandatory.set("GCOUNT", 1, "");
        mandatory.set("TFIELDS", columns.len(), "columns");
        self.hdu(Some("BINTABLE"), name, header, mandatory, structure, Pixels::U8(&bytes))
    }
}

/// Column `name` of a table as f64, row after row, with its width. Integer and
/// floating columns of fixed width are understood.
pub fn read_column(fits: &Fits, hdu: &Hdu, name: &str) -> Result<(Vec<f64>, usize)> {
    let fail = |m: String| fits.error(&hdu.name, m);
    if hdu.kind != HduKind::BinTable || hdu.shape.len() != 2 {
        return Err(fail("is not a binary table".into()));
    }
    let fields = hdu.header.integer("TFIELDS").unwrap_or(0);
    let mut offset = 0;
    for n in 1..=fields {
        let form = hdu.header.text(&format!("TFORM{n}")).unwrap_or_default();
        let digits = form.bytes().take_while(u8::is_ascii_digit).count();
        let width: usize = if digits == 0 { 1 } else { form[..digits].parse().unwrap_or(0) };
        let code = form[digits..].bytes().next().unwrap_or(b'?');
        let size = match code {
            b'L' | b'B' | b'A' => 1,
            b'I' => 2,
            b'J' | b'E' => 4,
            b'K' | b'D' | b'C' | b'P' => 8,
            b'M' | b'Q' => 16,
            _ => return Err(fail(format!("TFORM{n} = '{form}' is not understood"))),
        };
        let ttype = hdu.header.text(&format!("TTYPE{n}")).unwrap_or_default();
        if !ttype.eq_ignore_ascii_case(name) {
            offset += size * width;
            continue;
        }
        let (rows, row_bytes) = (hdu.shape[0], hdu.shape[1]);
        if offset + size * width > row_bytes {
            return Err(fail(format!("column {name} does not fit the row (NAXIS1)")));
        }
        if fits.available(hdu) < hdu.data_len {
            return Err(fail("the table is cut short; copy the file again".into()));
        }
        let mut bytes = vec![0; rows * row_bytes];
        fits.read_raw(hdu, 0, &mut bytes)?;
        let zero = hdu.header.number(&format!("TZERO{n}")).unwrap_or(0.0);
        let scale = hdu.header.number(&format!("TSCAL{n}")).unwrap_or(1.0);
        let mut out = Vec::with_capacity(rows * width);
        for row in bytes.chunks_exact(row_bytes) {
            for cell in row[offset..offset + size * width].chunks_exact(size) {
                let value = match (code, cell) {
                    (b'B', [b]) => f64::from(*b),
                    (b'I', [a, b]) => f64::from(i16::from_be_bytes([*a, *b])),
                    (b'J', [a, b, c, d]) => f64::from(i32::from_be_bytes([*a, *b, *c, *d])),
                    (b'E', [a, b, c, d]) => f64::from(f32::from_be_bytes([*a, *b, *c, *d])),
                    (b'K', &[a, b, c, d, e, f, g, h]) => i64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64,
                    (b'D', &[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
                    _ => return Err(fail(format!("column {name} is not numeric (TFORM{n} = '{form}')"))),
                };
                out.push(value * scale + zero);
            }
        }
        return Ok((out, width));
    }
    Err(fail(format!("has no column {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_read_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("t.fits");
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &Header::new()).expect("primary");
        let columns = [
            Column { name: "ID".into(), unit: String::new(), width: 1, data: ColumnData::I32(vec![7, -8]) },
            Column {
                name: "XY".into(),
                unit: "arcsec".into(),
                width: 2,
                data: ColumnData::F64(vec![1.0, 2.0, 3.0, 4.5]),
            },
        ];
        w.table("LENSLETS", &Header::new(), &columns).expect("table");
        w.finish().expect("finish");
        let f = Fits::open(&path).expect("open");
        let t = f.hdu("LENSLETS").expect("table");
        assert_eq!(read_column(&f, t, "id").expect("id"), (vec![7.0, -8.0], 1));
        assert_eq!(read_column(&f, t, "XY").expect("xy"), (vec![1.0, 2.0, 3.0, 4.5], 2));
        assert!(read_column(&f, t, "NOPE").is_err());
    }
}
