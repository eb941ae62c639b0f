//! Paths that mean the same from every folder.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The same path from whatever folder it is used, without `..`.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(Error::io("find", path))?;
    let parts: Vec<Component> = whole.components().collect();
    let Some(last) = parts.iter().rposition(|c| *c == Component::ParentDir) else { return Ok(whole) };
    // What it leads up from may be a link: the system knows where to.
    let up: PathBuf = parts[..=last].iter().collect();
    let up = up.canonicalize().map_err(Error::io("find", &up))?;
    Ok(parts[last + 1..].iter().fold(up, |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_up_is_resolved_and_what_is_not_there_yet_is_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().canonicalize().expect("root");
        std::fs::create_dir_all(root.join("a/b")).expect("folders");
        let up = absolute(&root.join("a/b/../new/file")).expect("absolute");
        assert_eq!(up, root.join("a/new/file"));
        assert_eq!(absolute(&root.join("none")).expect("absolute"), root.join("none"));
        assert!(absolute(&root.join("none/../x")).is_err());
    }
}
