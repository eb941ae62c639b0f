//! Whole exposures, file to file, as a user runs them: this program as a process of
//! its own, from its start to its end.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Options;
use super::limits::{Limits, forget};
use super::timing::Timing;
use crate::error::{Error, Result};
use crate::simulate::{self, Block, NightConfig, Purpose};

/// What a whole night is made of, a detector.
const NIGHT: [(Purpose, usize); 5] =
    [(Purpose::Drk, 3), (Purpose::Nff, 3), (Purpose::Sky, 2), (Purpose::Sci, 3), (Purpose::Drk, 1)];

/// One ramp of each number of reads through stage 1.
pub(super) fn stage1(options: &Options, limits: &Limits) -> Result<Vec<Timing>> {
    let mut out = Vec::new();
    for &reads in &options.reads {
        let night = simulated(options, &format!("ramp{reads}"), &[(Purpose::Sci, 1)], &["IMG1"], reads)?;
        let file = raw(&night)?;
        let refs = night.join("refs");
        let arguments = |out: &Path| -> Vec<PathBuf> {
            let mut a: Vec<PathBuf> = ["run", "stage1"].map(PathBuf::from).into();
            a.extend([file.clone(), "--refs".into(), refs.clone(), "-o".into(), out.to_path_buf()]);
            a
        };
        let what = format!("stage 1, {0}×{0}×{reads}", options.size);
        out.extend(several(options, limits, &what, &[file.as_path()], reads, &arguments)?);
        remove(&night)?;
    }
    Ok(out)
}

/// Four detectors, a science and a sky exposure each, to images without sky.
pub(super) fn four(options: &Options, limits: &Limits) -> Result<Vec<Timing>> {
    let reads = options.reads.last().copied().unwrap_or(10);
    let detectors = ["IMG1", "IMG2", "IMG3", "IMG4"];
    let night = simulated(options, "four", &[(Purpose::Sky, 1), (Purpose::Sci, 1)], &detectors, reads)?;
    let what = format!("4 detectors, {0}×{0}×{reads}, science and sky to images", options.size);
    let out = whole(options, limits, &what, &night, reads)?;
    remove(&night)?;
    Ok(out)
}

/// A small night of two detectors with its calibrations.
pub(super) fn night(options: &Options, limits: &Limits) -> Result<Vec<Timing>> {
    let night = simulated(options, "night", &NIGHT, &["IMG1", "IMG2"], 10)?;
    let what = format!("night of 24 exposures, {0}×{0}×10", options.size);
    let out = whole(options, limits, &what, &night, 10)?;
    remove(&night)?;
    Ok(out)
}

fn whole(options: &Options, limits: &Limits, what: &str, night: &Path, reads: usize) -> Result<Vec<Timing>> {
    let files = files(night)?;
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let arguments = |out: &Path| vec!["reduce".into(), night.to_path_buf(), "-o".into(), out.to_path_buf()];
    several(options, limits, what, &paths, reads, &arguments)
}

/// Runs it warm, and once with the page cache emptied of the raw files; each time
/// with the time until the disk has the products, and without.
fn several(
    options: &Options,
    limits: &Limits,
    what: &str,
    files: &[&Path],
    reads: usize,
    arguments: &dyn Fn(&Path) -> Vec<PathBuf>,
) -> Result<Vec<Timing>> {
    let products = options.folder.join("products");
    let once = || -> Result<(f64, f64)> {
        if products.exists() {
            remove(&products)?;
        }
        process(options, &arguments(&products))
    };
    let bytes: u64 = files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    let mut out = Vec::new();
    let mut add = |state: &str, seconds: Vec<f64>, limit: Option<(&'static str, f64)>| {
        let mut timing = Timing::new("whole", format!("{what}{state}"), seconds, bytes);
        timing.reads = (options.size * options.size * reads * files.len()) as u64;
        timing.limit = limit;
        out.push(timing);
    };
    once()?;
    let warm: Vec<(f64, f64)> = (0..options.runs).map(|_| once()).collect::<Result<_>>()?;
    let cached = Some(("read, warm", limits.cached_read));
    add("", warm.iter().map(|(all, _)| *all).collect(), cached);
    // Of tasks that run at a time, one waits for the disk while another computes.
    if files.len() == 1 {
        add(", before the sync", warm.iter().map(|(all, sync)| all - sync).collect(), cached);
    }
    if let Some(disk) = limits.disk_read
        && files.iter().all(|f| forget(f))
    {
        add(", page cache cold", vec![once()?.0], Some(("read, cold", disk)));
    }
    remove(&products)?;
    Ok(out)
}

/// Runs this program; its seconds, and those of them that it waited for the disk.
fn process(options: &Options, arguments: &[PathBuf]) -> Result<(f64, f64)> {
    let own = std::env::current_exe().map_err(Error::io("find", Path::new("irisgpu")))?;
    let mut command = Command::new(&own);
    command.args(arguments).args(["--json", "--quiet"]).args(&options.engine);
    let start = std::time::Instant::now();
    let output = command.output().map_err(Error::io("run", &own))?;
    let seconds = start.elapsed().as_secs_f64();
    let result: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let sync = result.and_then(|r| r["time"]["sync"]["seconds"].as_f64());
    match sync {
        Some(sync) if output.status.success() => Ok((seconds, sync)),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let words: Vec<_> = arguments.iter().map(|a| a.display().to_string()).collect();
            Err(Error::Bench(format!("irisgpu {} failed: {}", words.join(" "), said.trim())))
        }
    }
}

/// A simulated night; its folder of raw files.
fn simulated(
    options: &Options,
    name: &str,
    blocks: &[(Purpose, usize)],
    detectors: &[&str],
    reads: usize,
) -> Result<PathBuf> {
    let block = |detector: &str, (kind, count): (Purpose, usize)| Block {
        detector: detector.to_owned(),
        kind,
        count,
        reads,
        ..Block::default()
    };
    let exposures = blocks.iter().flat_map(|b| detectors.iter().map(|d| block(d, *b))).collect();
    let config = NightConfig { frame: [options.size; 2], exposures, ..NightConfig::default() };
    let folder = options.folder.join(name);
    simulate::night(&config, &folder, &|_| {})?;
    Ok(folder.join("night"))
}

fn files(night: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(night).map_err(Error::io("list", night))?;
    let files = listed.filter_map(|e| e.ok().map(|e| e.path()));
    Ok(files.filter(|p| p.extension().is_some_and(|e| e == "fits")).collect())
}

fn raw(night: &Path) -> Result<PathBuf> {
    files(night)?.pop().ok_or_else(|| Error::input(night, "holds no raw file"))
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(Error::io("remove", folder))
}
