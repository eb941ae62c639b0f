//! Writing to stdout and stderr without minding who listens.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::words::printable;

/// Writes a result to stdout. A reader that has gone (`| head`) is no error; a
/// full disk is.
pub(super) fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(printable(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("write", Path::new("stdout"))(e)),
        _ => Ok(()),
    }
}

/// Writes JSON to stdout.
pub(super) fn json(value: &serde_json::Value) -> Result<()> {
    out(&format!("{value:#}\n"))
}

/// Refuses to write what is no FITS file over one: a raw frame named by mistake is lost.
pub(super) fn spare(path: &Path) -> Result<()> {
    let mut first = [0; 10];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut first));
    if read.is_ok() && first.starts_with(b"SIMPLE  =") {
        let path = path.display();
        return Err(Error::Usage(format!(
            "{path} is a FITS file: it is not written over; give another name"
        )));
    }
    Ok(())
}

/// A line to stderr; lost where nobody listens.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}
