//! Writing to stdout and stderr without minding who listens.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a result to stdout. A reader that has gone (`| head`) is no error; a
/// full disk is.
pub(super) fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("write", Path::new("stdout"))(e)),
        _ => Ok(()),
    }
}

/// Writes JSON to stdout.
pub(super) fn json(value: &serde_json::Value) -> Result<()> {
    out(&format!("{value:#}\n"))
}

/// A line to stderr; lost where nobody listens.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
