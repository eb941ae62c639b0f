//! `bench`: the program measured against its own goals.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{Accuracy, Bench, BenchVerb, Compare, Engine, LensletBench, Speed};
use super::exit::Exit;
use super::{options, print};
use crate::bench::{Report, Verdict, accuracy, lenslet, speed};
use crate::engine;
use crate::error::{Error, Result};

/// Ramps a point with `--quick`.
const QUICK: usize = 20_000;

/// Runs `bench`.
pub(super) fn bench(args: &Bench) -> Result<Exit> {
    let output = match &args.verb {
        BenchVerb::Accuracy(a) => &a.output,
        BenchVerb::Lenslet(a) => &a.output,
        BenchVerb::Speed(a) => &a.output,
        BenchVerb::Compare(_) => &None,
    };
    // Before minutes of measuring.
    output.as_deref().map_or(Ok(()), print::spare)?;
    match &args.verb {
        BenchVerb::Accuracy(a) => statistics(a),
        BenchVerb::Lenslet(a) => spectra(a),
        BenchVerb::Speed(a) => timings(a),
        BenchVerb::Compare(a) => compare(a),
    }
}

/// `bench speed`: a kernel that is not what the reference says is the exit code's.
fn timings(args: &Speed) -> Result<Exit> {
    for (what, least, value) in [
        ("--runs", 1, args.runs),
        ("--size", 64, args.size),
        ("--reads", 2, args.reads.iter().copied().min().unwrap_or(0)),
    ] {
        if value < least {
            return Err(Error::Usage(format!("{what} {value}: give at least {least}")));
        }
    }
    let asked = options::engine(&args.engine)?;
    if let Some(n) = asked.threads {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    let engine = engine::select(asked.device.as_deref(), asked.memory)?;
    let folder = Scratch::new(args.folder.as_deref())?;
    let options = speed::Options {
        only: args.only.clone(),
        size: args.size,
        reads: args.reads.clone(),
        runs: args.runs,
        folder: folder.0.clone(),
        engine: repeated(&args.engine),
    };
    let report = speed::measure(engine, &options, &|what| {
        if !args.talk.quiet {
            print::note(what);
        }
    })?;
    if let Some(path) = &args.output {
        let text = format!("{:#}\n", report.json());
        std::fs::write(path, text).map_err(Error::io("write", path))?;
    }
    if args.json {
        print::json(&report.json())?;
    } else {
        print::out(&report.text())?;
    }
    Ok(if report.agrees() { Exit::Done } else { Exit::SomeFailed })
}

/// The options of the engine as they were typed.
fn repeated(engine: &Engine) -> Vec<String> {
    let threads = engine.threads.map(|n| n.to_string());
    let all = [("--device", &engine.device), ("--threads", &threads), ("--memory", &engine.memory)];
    all.iter().filter_map(|(name, v)| v.as_ref().map(|v| [(*name).to_owned(), v.clone()])).flatten().collect()
}

/// A folder of this process, removed with what it holds.
struct Scratch(PathBuf);

impl Scratch {
    fn new(within: Option<&Path>) -> Result<Scratch> {
        let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let folder = within.join(format!("irisgpu-speed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done where it fails, and nothing is wrong but lost space.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// `bench compare`.
fn compare(args: &Compare) -> Result<Exit> {
    let read = |path: &Path| -> Result<serde_json::Value> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let run: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Error::input(path, format!("is no result of `irisgpu bench speed --json`: {e}")))?;
        match run["timings"].is_array() {
            true => Ok(run),
            false => {
                Err(Error::input(path, "is no result of `irisgpu bench speed --json`: it has no timings"))
            }
        }
    };
    print::out(&speed::compare(&read(&args.before)?, &read(&args.after)?))?;
    Ok(Exit::Done)
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
    let only = trimmed(&args.only);
    let options = accuracy::Options { ramps, only: only.clone() };
    let report = accuracy::measure(engine, &options, &|point| {
        if args.talk.verbose {
            print::note(point);
        }
    })?;
    let device = args.engine.device.as_ref().map_or_else(String::new, |d| format!(" --device {d}"));
    let command = format!("accuracy --ramps {ramps}{}{device}", repeated_only(&only));
    let about = json!({ "ramps": ramps });
    deliver(&report, "Accuracy of stage 1", &command, about, (args.output.as_deref(), args.json))
}

/// `bench lenslet`: the report, as for `accuracy`.
fn spectra(args: &LensletBench) -> Result<Exit> {
    if !(4..=64).contains(&args.rows) {
        return Err(Error::Usage(format!("--rows {}: give 4 to 64", args.rows)));
    }
    let only = trimmed(&args.only);
    let options = lenslet::Options { rows: args.rows, full: args.full, only: only.clone() };
    let report = lenslet::measure(&options, &|point| {
        if args.talk.verbose {
            print::note(point);
        }
    })?;
    let full = if args.full { " --full" } else { "" };
    let command = format!("lenslet --rows {}{full}{}", args.rows, repeated_only(&only));
    deliver(&report, "Lenslet extraction", &command, json!({}), (args.output.as_deref(), args.json))
}

/// Names without blanks around them, and no empty ones.
fn trimmed(only: &[String]) -> Vec<String> {
    only.iter().map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect()
}

/// `--only` as it was typed.
fn repeated_only(only: &[String]) -> String {
    if only.is_empty() { String::new() } else { format!(" --only '{}'", only.join(",")) }
}

/// A report to stdout, as JSON with what `about` says, and to a file that is named,
/// under `title` and the `command` that makes it; the exit code that it asks for.
fn deliver(
    report: &Report,
    title: &str,
    command: &str,
    mut about: Value,
    (output, json): (Option<&Path>, bool),
) -> Result<Exit> {
    let missed = report.verdict() == Verdict::Missed;
    if let Some(path) = output {
        let version = env!("CARGO_PKG_VERSION");
        let text =
            format!("# {title}\n`irisgpu bench {command}` (irisgpu {version})\n\n{}", report.markdown());
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        std::fs::write(path, text).map_err(Error::io("write", path))?;
    }
    if json {
        about["device"] = report.device.as_str().into();
        about["met"] = (!missed).into();
        about["figures"] = report.sections.iter().flat_map(|s| s.json()).collect();
        print::json(&about)?;
    } else {
        print::out(&report.markdown())?;
    }
    Ok(if missed { Exit::SomeFailed } else { Exit::Done })
}
