//! From what was typed to what it means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Common, Engine, Select};
use super::engine::EngineOptions;
use super::families::Families;
use crate::config::Instrument;
use crate::error::{Error, Result};
use crate::night::{Recipes, References, Settings};
use crate::pipeline::Compat;
use crate::refs::crds::Crds;

/// The settings of a reduction into `output`. Everything typed is checked here,
/// before a night is read.
pub(super) fn settings(
    common: &Common,
    select: &Select,
    families: &Families,
    output: PathBuf,
) -> Result<Settings> {
    if let Some(t) = common.read_time.filter(|t| !(t.is_finite() && *t > 0.0)) {
        return Err(Error::Usage(format!(
            "--read-time {t}: give the seconds from read to read, more than 0"
        )));
    }
    if let Some(file) = common.earlier.iter().find(|f| !f.is_file()) {
        return Err(Error::Usage(format!("--earlier {}: there is no such file", file.display())));
    }
    // Before anything is planned: a device that was asked for is required, even
    // where everything turns out to be up to date.
    if let Some(device) = engine(&common.engine)?.device {
        crate::engine::require(&device)?;
    }
    Ok(Settings {
        recipes: Recipes::new(&common.config, &families.steps)?,
        instrument: instrument(common.instrument.as_deref())?.into(),
        masters: output.join("masters"),
        output,
        suffix: common.suffix.clone(),
        read_time: common.read_time,
        save: families.save.clone(),
        save_ramps: common.save_ramps,
        // The parser takes no other name.
        compat: common.compat.as_ref().map(|_| Compat::Liger),
        earlier: common.earlier.clone(),
        force: select.force,
        only: select.only.iter().map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect(),
    })
}

/// The instrument from its file, or the built-in one.
pub(super) fn instrument(file: Option<&Path>) -> Result<Instrument> {
    file.map_or_else(Instrument::iris, Instrument::from_file)
}

/// Reference folders: those named, else `default` where it exists.
pub(super) fn reference_folders(named: &[PathBuf], default: PathBuf) -> Vec<PathBuf> {
    match named {
        [] if default.is_dir() => vec![default],
        named => named.to_vec(),
    }
}

/// All references that may be chosen: files, masters of other nights, and the CRDS that
/// is set up.
pub(super) fn references(
    folders: &[PathBuf],
    nights: &[PathBuf],
    families: &Families,
    context: Option<&str>,
) -> Result<References> {
    let mut references = References::gather(&families.references, folders, nights)?;
    references.crds = Crds::open(context, &|name| std::env::var(name).ok())?.map(Arc::new);
    Ok(references)
}

/// What computes.
pub(super) fn engine(engine: &Engine) -> Result<EngineOptions> {
    if engine.threads == Some(0) {
        return Err(Error::Usage("--threads 0: give at least 1".into()));
    }
    if engine.device.as_deref().is_some_and(|d| d.trim().is_empty()) {
        return Err(Error::Usage("--device: give cpu, gpu, a part of a device's name, or pci:BUS-ID".into()));
    }
    if engine.at_once == Some(0) {
        return Err(Error::Usage("--at-once 0: give at least 1".into()));
    }
    let memory = engine.memory.as_deref().map(bytes).transpose()?;
    let Engine { device, threads, at_once, .. } = engine.clone();
    Ok(EngineOptions { device, threads, memory, at_once })
}

/// `2GiB`, `500MB`, `1.5G` or a number of bytes.
fn bytes(text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let at = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let factor = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024f64.powi(2),
        "g" | "gib" => 1024f64.powi(3),
        "t" | "tib" => 1024f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => f64::NAN,
    };
    match number.parse::<f64>().map(|n| n * factor) {
        Ok(n) if (1.0..1e18).contains(&n) => Ok(n as u64),
        _ => Err(Error::Usage(format!("--memory {text}: give a size such as 2GiB or 500MB"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        assert_eq!(bytes("2GiB").expect("GiB"), 2 << 30);
        assert_eq!(bytes("500MB").expect("MB"), 500_000_000);
        assert_eq!(bytes("1.5 g").expect("g"), 3 << 29);
        assert_eq!(bytes("4096").expect("bytes"), 4096);
        for wrong in ["", "GiB", "-1", "2 parsecs", "0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
