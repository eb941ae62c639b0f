//! A file shown in DS9, through its XPA messages.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Shows `path` in the DS9 that runs, by `xpaset` (of the XPA tools) found in PATH. A cube
/// opens as one, an image with the zscale cuts.
pub fn show(path: &Path) -> Result<()> {
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    // DS9 reads a bracket at the end of a name as a filter: braces keep names whole.
    send(&["fits".into(), format!("{{{}}}", path.display())])?;
    send(&["scale".into(), "mode".into(), "zscale".into()])
}

/// Fails where `xpaset` is not in PATH.
pub fn available() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let name = format!("xpaset{}", std::env::consts::EXE_SUFFIX);
    let found = std::env::split_paths(&path).any(|folder| folder.join(&name).is_file());
    if found { Ok(()) } else { Err(Error::Usage(ABSENT.into())) }
}

const ABSENT: &str =
    "--ds9: xpaset is not in PATH: install the XPA tools (package xpa-tools), which DS9 listens to";

fn send(what: &[String]) -> Result<()> {
    let mut command = Command::new("xpaset");
    command.args(["-p", "ds9"]).args(what).stdin(Stdio::null());
    let answer = command.output().map_err(|e| {
        Error::Usage(match e.kind() {
            std::io::ErrorKind::NotFound => ABSENT.into(),
            _ => format!("--ds9: cannot run xpaset: {e}"),
        })
    })?;
    // xpaset ends with the number of programs that did not answer, and says so on stderr.
    let said = String::from_utf8_lossy(&answer.stderr);
    if answer.status.success() && !said.contains("XPA$ERROR") {
        return Ok(());
    }
    let said = said.trim().trim_start_matches("XPA$ERROR ").to_owned();
    Err(Error::Usage(format!("--ds9: DS9 does not answer ({said}): start it first")))
}
