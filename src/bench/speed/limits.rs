//! What the machine can do at best: the limits that everything else is held to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rayon::prelude::*;

use super::timing::{Timing, timed};
use crate::engine::{DeviceKind, Engine};
use crate::error::{Error, Result};

/// Bytes of a test of memory or disk: well beyond every cache of a processor.
const BYTES: usize = 512 << 20;
/// Bytes that a thread takes at a time.
const PIECE: usize = 1 << 20;

/// Rates in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Memory to memory, all threads; bytes copied.
    pub(super) copy: f64,
    /// Reading a file that the page cache holds.
    pub(super) cached_read: f64,
    /// Reading a file that it does not hold; `None` where it cannot be emptied.
    pub(super) disk_read: Option<f64>,
    /// Writing a file, until the disk has it.
    pub(super) disk_write: f64,
}

/// Measures them in `folder`.
pub(super) fn measure(engine: &mut dyn Engine, folder: &Path, runs: usize) -> Result<(Limits, Vec<Timing>)> {
    let mut out = Vec::new();
    let from = vec![1u8; BYTES];
    let mut to = vec![0u8; BYTES];
    let seconds = timed(runs, || {
        to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    })?;
    out.push(Timing::new("limits", "memory copy", seconds, BYTES as u64));
    let path = folder.join("limits.bin");
    let seconds = timed(runs, || {
        let failed = |e| Error::io("write", &path)(e);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        file.write_all(&from).and_then(|()| file.sync_all()).map_err(failed)
    })?;
    out.push(Timing::new("limits", "write, synced", seconds, BYTES as u64));
    let mut read = || {
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        file.read_exact(&mut to).map_err(Error::io("read", &path))
    };
    let seconds = timed(runs, &mut read)?;
    out.push(Timing::new("limits", "read, page cache warm", seconds, BYTES as u64));
    let cold: Option<Result<Vec<f64>>> = (0..runs)
        .map(|_| {
            forget(&path).then(|| {
                let start = std::time::Instant::now();
                read().map(|()| start.elapsed().as_secs_f64())
            })
        })
        .collect();
    let cold = cold.transpose()?;
    if let Some(seconds) = cold {
        out.push(Timing::new("limits", "read, page cache cold", seconds, BYTES as u64));
    }
    let rate = |what: &str| out.iter().find(|t| t.what == what).map(Timing::rate);
    let limits = Limits {
        copy: rate("memory copy").unwrap_or(f64::NAN),
        cached_read: rate("read, page cache warm").unwrap_or(f64::NAN),
        disk_read: rate("read, page cache cold"),
        disk_write: rate("write, synced").unwrap_or(f64::NAN),
    };
    if engine.device().kind != DeviceKind::Cpu {
        out.extend(transfers(engine, runs)?);
    }
    std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    Ok((limits, out))
}

/// To the device and back.
fn transfers(engine: &mut dyn Engine, runs: usize) -> Result<Vec<Timing>> {
    let bytes = (64u64 << 20).min(engine.device().max_binding) as usize;
    let buffer = engine.allocate(bytes / 4)?;
    let up = timed(runs, || {
        engine.upload_with(buffer, bytes, &mut |to| {
            to.fill(1);
            Ok(())
        })?;
        // A word back, to wait for it.
        engine.download_with(buffer, &mut |_| {})
    })?;
    let down = timed(runs, || engine.download_with(buffer, &mut |w| drop(w.to_vec())))?;
    engine.free(buffer);
    Ok(vec![
        Timing::new("limits", "to the device and back", up, 2 * bytes as u64),
        Timing::new("limits", "from the device", down, bytes as u64),
    ])
}

/// Has the page cache let go of a file, through GNU dd; whether that worked.
pub(super) fn forget(path: &Path) -> bool {
    let file = format!("if={}", path.display());
    let mut dd = Command::new("dd");
    dd.args([file.as_str(), "iflag=nocache", "count=0"]).stdout(Stdio::null()).stderr(Stdio::null());
    dd.status().is_ok_and(|s| s.success())
}
