//! What is looked at before a night is watched: better a sentence in the evening than a
//! dark screen at night.

use std::path::Path;
use std::time::Instant;

use super::Voice;
use crate::cli::args::Level;
use crate::cli::engine::Crew;
use crate::error::{Error, Result};

/// Free bytes in the folder of products below which a night is not begun, and below which
/// it is with a warning (a night of IRIS leaves tens of GB).
const LEAST: u64 = 256 << 20;
const LITTLE: u64 = 20 << 30;

/// Bytes free for us where `folder` lies; `None` where the system does not tell.
pub(super) fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let facts = rustix::fs::statvfs(folder).ok()?;
        Some(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 * 1e-9)
}

/// The folder can be written in, and has room.
pub(super) fn output(folder: &Path, voice: &Voice) -> Result<()> {
    let probe = folder.join(".irisgpu-probe.part");
    let written = std::fs::write(&probe, [0u8; 4096]).and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|e| {
        Error::Usage(format!(
            "cannot write in {}: {e}; make room in it, make it writable, or give another folder with -o",
            folder.display()
        ))
    })?;
    let place = folder.display();
    match free(folder) {
        Some(bytes) if bytes < LEAST => Err(Error::Usage(format!(
            "{place} has {} free, less than one exposure may need ({}): make room, or give another folder with -o",
            gigabytes(bytes),
            gigabytes(LEAST)
        ))),
        Some(bytes) => {
            let level = if bytes < LITTLE { Level::Warn } else { Level::Info };
            voice.say(level, "", &format!("output {place}: writable, {} free", gigabytes(bytes)));
            Ok(())
        }
        None => {
            voice.say(Level::Info, "", &format!("output {place}: writable"));
            Ok(())
        }
    }
}

/// The device computes as it should.
pub(super) fn device(crew: &mut Crew, voice: &Voice) -> Result<()> {
    let start = Instant::now();
    crew.self_test()?;
    let (name, seconds) = (crew.name(), start.elapsed().as_secs_f64());
    voice.say(Level::Info, "", &format!("device {name}: self-test passed in {seconds:.2} s"));
    Ok(())
}
