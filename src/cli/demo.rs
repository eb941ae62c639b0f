//! `demo`: a small night simulated, reduced as a user would, and every product held
//! against the truth.
//!
//! `DIR/` gets what `simulate` writes (which leaves a folder of anything else alone,
//! and the raw frames of an earlier demo as they are), `night/reduced/` with the
//! products, all made again, and the night's report, and `pictures/`. Nothing is ever
//! deleted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{Common, Demo, Select};
use super::exit::Exit;
use super::families::Families;
use super::log::Log;
use super::reduce::Ran;
use super::scores::Report;
use super::summary::Summary;
use super::{interrupt, options, print, reduce, simulate};
use crate::config::Instrument;
use crate::error::Result;
use crate::fits::Fits;
use crate::night::{Lock, Plan, Status, Task};
use crate::report::picture::{self, Panel};
use crate::report::{Truth, night};
use crate::simulate::NightConfig;

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
    simulate::into_folder(&NightConfig::demo()?, &args.dir, None, args.talk.quiet)?;
    let simulated = start.elapsed().as_secs_f64();
    let common =
        Common { json: args.json, engine: args.engine.clone(), talk: args.talk, ..Common::default() };
    let folder = args.dir.join("night");
    let select = Select { force: true, ..Select::default() };
    let (plan, output) = reduce::planned(&folder, &common, &select, &Families::default())?;
    let _lock = Lock::take(&output)?;
    let log = Log::open(&common.log, Some(&output));
    let Ran { device, outcomes, .. } = reduce::outcomes(&plan, &common, reduce::Work::Own, &log)?;
    let reduced = start.elapsed().as_secs_f64() - simulated;
    let summary = Summary::new(&plan, &outcomes, &device, reduced);
    let page = reported(&output, &summary.json(), &options::instrument(None)?)?;
    let truth = Truth::new(args.dir.join("truth"));
    let mut report = Report::new(device);
    for (task, outcome) in plan.tasks.iter().zip(&outcomes) {
        report.add(&truth, task, outcome);
    }
    (report.page, report.pictures) = (Some(page), pictures(&args.dir, &plan)?);
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

/// The night's report, as after `reduce`; its page.
fn reported(output: &Path, summary: &serde_json::Value, instrument: &Instrument) -> Result<PathBuf> {
    night::LastRun::keep(output, summary, &super::report::command(), true)?;
    Ok(night::write(output, instrument, &night::Options::default())?.page)
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
