//! Plain text tables with aligned columns, and the same rows as JSON.
//!
//! Widths count characters, not terminal cells: all that is printed here is Latin
//! text. Trailing blanks are never written, so that output diffs cleanly.

use std::fmt;

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heads: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads; a head that begins with `>` marks a column
    /// of numbers, set flush right.
    pub fn new(heads: &[&str]) -> Table {
        Table {
            heads: heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect(),
            right: heads.iter().map(|h| h.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Appends a row; missing cells are empty, surplus ones are dropped.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.heads.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as objects keyed by the heads in lower case.
    pub fn json(&self) -> serde_json::Value {
        let object = |row: &Vec<String>| {
            let pairs = self.heads.iter().zip(row);
            pairs.map(|(h, c)| (h.to_ascii_lowercase(), c.as_str().into())).collect::<serde_json::Map<_, _>>()
        };
        self.rows.iter().map(|row| serde_json::Value::Object(object(row))).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = self.heads.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            widths.iter_mut().zip(row).for_each(|(w, c)| *w = (*w).max(c.chars().count()));
        }
        for row in std::iter::once(&self.heads).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                // Not by the formatter, whose widths end at 65535.
                let blanks = " ".repeat(width - cell.chars().count().min(width));
                if right {
                    line += &blanks;
                }
                line += cell;
                if !right {
                    line += &blanks;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_rows_are_objects() {
        let mut t = Table::new(&["NAME", ">TIME"]);
        t.row(["a", "1.5"]);
        t.row(["λ-cube", "12.25"]);
        t.row(["short"]);
        assert_eq!(t.to_string(), "NAME     TIME\na         1.5\nλ-cube  12.25\nshort\n");
        assert_eq!(t.json()[1]["time"], "12.25");
        t.row(["x".repeat(70_000)]);
        assert!(t.to_string().len() > 280_000);
    }
}
