//! Keywords that people give a frame without touching its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::fits::{Header, Value};
use crate::paths::absolute;

/// By file: keywords that stand in place of those of its header.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Relabels(BTreeMap<PathBuf, BTreeMap<String, Value>>);

impl Relabels {
    /// Gives a file a keyword.
    pub fn set(&mut self, file: &Path, keyword: &str, value: Value) {
        self.0.entry(file.to_path_buf()).or_default().insert(keyword.to_owned(), value);
    }

    /// What a file is given.
    pub fn of(&self, file: &Path) -> Option<&BTreeMap<String, Value>> {
        self.0.get(file)
    }

    /// Those of some files.
    pub fn only(&self, files: &[PathBuf]) -> Relabels {
        Relabels(files.iter().filter_map(|f| Some((f.clone(), self.0.get(f)?.clone()))).collect())
    }

    /// The same from whatever folder.
    pub fn absolute(&self) -> Result<Relabels> {
        Ok(Relabels(
            self.0.iter().map(|(file, given)| Ok((absolute(file)?, given.clone()))).collect::<Result<_>>()?,
        ))
    }

    /// Writes what the file is given into its header; what it said stands in the comments.
    pub fn apply(&self, file: &Path, header: &mut Header) {
        for (keyword, value) in self.0.get(file).into_iter().flatten() {
            let comment = match header.text(keyword) {
                Some(was) => format!("relabelled: the file says {was}"),
                None => "relabelled: the file says nothing".into(),
            };
            header.set(keyword, value.clone(), &comment);
        }
    }
}
