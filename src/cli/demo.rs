//! `demo`: a small night simulated, reduced as a user would, and every product held
//! against the truth.
//!
//! `DIR/` gets `night/` (raw frames, `refs/`, and `reduced/` with the products),
//! `truth/`, `pictures/`, and the note `irisgpu-demo.json` that makes the folder ours.
//! A folder that holds anything else is left alone. In a folder of an earlier demo
//! raw frames are used again if they are complete, and everything is reduced again.
//! Nothing is ever deleted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::args::{Common, Demo, Select};
use super::exit::Exit;
use super::families::Families;
use super::scores::Report;
use super::{interrupt, options, print, reduce};
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::night::{Lock, Plan, Status, Task};
use crate::report::Truth;
use crate::report::picture::{self, Panel};
use crate::simulate::{NightConfig, night};

/// The note in a demo's folder: its night, and whether that is complete.
const NOTE: &str = "irisgpu-demo.json";
/// Side of a panel of a picture, pixels.
const SIDE: usize = 256;

/// Runs `demo`.
pub(super) fn demo(args: &Demo) -> Result<Exit> {
    let start = Instant::now();
    let engine = options::engine(&args.engine)?;
    if let Some(n) = engine.threads {
        // The simulation's threads, too; a pool that exists already is kept.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    simulate(&args.dir, args.talk.quiet)?;
    let simulated = start.elapsed().as_secs_f64();
    let common =
        Common { json: args.json, engine: args.engine.clone(), talk: args.talk, ..Common::default() };
    let night = args.dir.join("night");
    let select = Select { force: true, ..Select::default() };
    let (plan, output) = reduce::planned(&night, &common, &select, &Families::default())?;
    let _lock = Lock::take(&output)?;
    let (engine, outcomes) = reduce::outcomes(&plan, &common, false)?;
    let reduced = start.elapsed().as_secs_f64() - simulated;
    let truth = Truth::new(args.dir.join("truth"));
    let mut report = Report::new(engine);
    for (task, outcome) in plan.tasks.iter().zip(&outcomes) {
        report.add(&truth, task, outcome);
    }
    report.pictures = pictures(&args.dir, &plan)?;
    let seconds = [simulated, reduced, start.elapsed().as_secs_f64()];
    if args.json {
        print::json(&report.json(&output, seconds))?;
    } else {
        print::out(&report.text(&output, seconds))?;
    }
    let stopped = outcomes.iter().any(|o| o.status == Status::NotRun);
    Ok(match (stopped, report.is_good()) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::Done,
        (_, false) => Exit::SomeFailed,
    })
}

/// Simulates the night into `dir`, unless an earlier demo did.
fn simulate(dir: &Path, quiet: bool) -> Result<()> {
    let config = NightConfig::demo()?;
    let text = serde_json::to_string(&config).map_err(|e| Error::Config(format!("demo: {e}")))?;
    let version = env!("CARGO_PKG_VERSION");
    let hash = blake3::hash(format!("{version} {text}").as_bytes()).to_hex().to_string();
    let note = dir.join(NOTE);
    match std::fs::read_to_string(&note) {
        Ok(said) => {
            let said: Value = serde_json::from_str(&said).unwrap_or_default();
            if said["night"] != hash.as_str() {
                return Err(Error::Usage(format!(
                    "{} holds the demo of another version of irisgpu: remove it, or name another folder",
                    dir.display()
                )));
            }
            if said["complete"] == true {
                return Ok(());
            }
        }
        Err(_) if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) => {
            return Err(Error::Usage(format!(
                "{} is not a demo's folder and not empty: name another one (irisgpu demo DIR)",
                dir.display()
            )));
        }
        Err(_) => {}
    }
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let say = |complete: bool| {
        let text = json!({"night": hash, "complete": complete, "version": version});
        std::fs::write(&note, format!("{text:#}\n")).map_err(Error::io("write", &note))
    };
    say(false)?;
    if !quiet {
        print::note("simulating the night");
    }
    night(&config, dir, &|line| {
        if !quiet {
            print::note(line);
        }
    })?;
    say(true)
}

/// A picture of the first imager and lenslet science exposures: raw read, image,
/// cube in white light.
fn pictures(dir: &Path, plan: &Plan) -> Result<Vec<PathBuf>> {
    let first = |obsname: &str| plan.tasks.iter().find(|t| t.obsname == obsname).and_then(Task::job);
    let mut panels = Vec::new();
    if let Some(job) = first("IMG1-SCI") {
        if let Some(raw) = job.inputs.first() {
            panels.push(last_read(raw)?.fitted(SIDE));
        }
        if let Some(product) = job.product.as_ref().filter(|p| p.is_file()) {
            let (_, image) = crate::input::read_image(product)?;
            panels.push(Panel::new(image.nx, image.data).fitted(SIDE));
        }
    }
    if let Some(product) = first("LEN-SCI").and_then(|j| j.product.as_ref()).filter(|p| p.is_file()) {
        panels.push(Panel::white_light(&crate::input::read_cube(product)?.1).fitted(SIDE));
    }
    if panels.is_empty() || interrupt::stop().load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    Ok(vec![picture::write(&dir.join("pictures/demo.png"), &panels)?])
}

/// The last read of a native ramp, DN.
fn last_read(path: &Path) -> Result<Panel> {
    let fits = Fits::open(path)?;
    let hdu = fits.require(&["DATA"])?;
    let nx = hdu.shape.last().copied().unwrap_or(1);
    let pixels = nx * hdu.shape.iter().rev().nth(1).copied().unwrap_or(1);
    Ok(Panel::new(nx, fits.pixels_f32(hdu, hdu.len() - pixels, pixels)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("thesis.tex"), "x").expect("write");
        let sentence = simulate(dir.path(), true).expect_err("not ours").to_string();
        assert!(sentence.contains("not a demo's folder"), "{sentence}");
        std::fs::write(dir.path().join(NOTE), r#"{"night": "another", "complete": true}"#).expect("write");
        let sentence = simulate(dir.path(), true).expect_err("another's").to_string();
        assert!(sentence.contains("another version"), "{sentence}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 2);
    }
}
