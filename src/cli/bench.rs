//! `bench`: the program measured against its own goals.

use super::args::{Accuracy, Bench, BenchVerb, LensletBench};
use super::exit::Exit;
use super::{options, print};
use crate::bench::{Verdict, accuracy, lenslet};
use crate::engine;
use crate::error::{Error, Result};

/// Ramps a point with `--quick`.
const QUICK: usize = 20_000;

/// Runs `bench`.
pub(super) fn bench(args: &Bench) -> Result<Exit> {
    match &args.verb {
        BenchVerb::Accuracy(a) => statistics(a),
        BenchVerb::Lenslet(a) => spectra(a),
    }
}

/// `bench accuracy`: the report goes to stdout, and to a file that is named; a target
/// that is missed is the exit code's.
fn statistics(args: &Accuracy) -> Result<Exit> {
    let asked = options::engine(&args.engine)?;
    if args.ramps == 0 {
        return Err(Error::Usage("--ramps 0: give at least 1".into()));
    }
    if let Some(n) = asked.threads {
        // The simulation's threads, too; a pool that exists already is kept.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    let engine = engine::select(asked.device.as_deref(), asked.memory)?;
    let ramps = if args.quick { QUICK } else { args.ramps };
    let only: Vec<String> = args.only.iter().map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect();
    let options = accuracy::Options { ramps, only: only.clone() };
    let report = accuracy::measure(engine, &options, &|point| {
        if args.talk.verbose {
            print::note(point);
        }
    })?;
    let missed = report.verdict() == Verdict::Missed;
    if let Some(path) = &args.output {
        let only = if only.is_empty() { String::new() } else { format!(" --only '{}'", only.join(",")) };
        let device = args.engine.device.as_ref().map_or_else(String::new, |d| format!(" --device {d}"));
        let command = format!("irisgpu bench accuracy --ramps {ramps}{only}{device}");
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("# Accuracy of stage 1\n`{command}` (irisgpu {version})\n\n{}", report.markdown());
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        std::fs::write(path, text).map_err(Error::io("write", path))?;
    }
    if args.json {
        print::json(&serde_json::json!({
            "device": report.device,
            "ramps": ramps,
            "met": !missed,
            "figures": report.sections.iter().flat_map(|s| s.json()).collect::<Vec<_>>(),
        }))?;
    } else {
        print::out(&report.markdown())?;
    }
    Ok(if missed { Exit::SomeFailed } else { Exit::Done })
}

/// `bench lenslet`: the report, as for `accuracy`.
fn spectra(args: &LensletBench) -> Result<Exit> {
    if !(4..=64).contains(&args.rows) {
        return Err(Error::Usage(format!("--rows {}: give 4 to 64", args.rows)));
    }
    let only: Vec<String> = args.only.iter().map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect();
    let options = lenslet::Options { rows: args.rows, full: args.full, only: only.clone() };
    let report = lenslet::measure(&options, &|point| {
        if args.talk.verbose {
            print::note(point);
        }
    })?;
    let missed = report.verdict() == Verdict::Missed;
    if let Some(path) = &args.output {
        let only = if only.is_empty() { String::new() } else { format!(" --only '{}'", only.join(",")) };
        let full = if args.full { " --full" } else { "" };
        let command = format!("irisgpu bench lenslet --rows {}{full}{only}", args.rows);
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("# Lenslet extraction\n`{command}` (irisgpu {version})\n\n{}", report.markdown());
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        std::fs::write(path, text).map_err(Error::io("write", path))?;
    }
    if args.json {
        print::json(&serde_json::json!({
            "device": report.device,
            "met": !missed,
            "figures": report.sections.iter().flat_map(|s| s.json()).collect::<Vec<_>>(),
        }))?;
    } else {
        print::out(&report.markdown())?;
    }
    Ok(if missed { Exit::SomeFailed } else { Exit::Done })
}
