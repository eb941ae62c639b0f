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
use super::{interrupt, options, print, reduce, summary};
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::night::{Lock, Outcome, Plan, Status, Task};
use crate::report::picture::{self, Panel};
use crate::report::score::{Pulls, Score, digits};
use crate::report::{Table, Truth};
use crate::simulate::{NightConfig, night};

/// The note in a demo's folder: its night, and whether that is complete.
const NOTE: &str = "irisgpu-demo.json";
/// Columns of the table that are figures.
const FIGURES: [&str; 9] = ["used", "rms", "mean", "beyond", "hits", "chi2", "blocks", "rows", "voxels"];
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
    let mut report = Report { engine, rows: Vec::new(), pulls: Pulls::default(), pictures: Vec::new() };
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

/// A product and how it compares.
struct Row {
    task: String,
    obsname: String,
    recipe: String,
    seconds: f64,
    /// Where it is; none where the task made nothing.
    product: Option<PathBuf>,
    /// Whether it is what the task was for (else a product on the way).
    last: bool,
    /// The score, or why there is none.
    score: std::result::Result<Score, String>,
}

impl Row {
    fn is_good(&self) -> bool {
        self.score.as_ref().is_ok_and(Score::is_good)
    }

    fn name(&self) -> String {
        match &self.product {
            Some(p) if !self.last => p.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            _ => self.task.clone(),
        }
    }

    /// What is wrong, as a sentence.
    fn fault(&self) -> Option<String> {
        match &self.score {
            Ok(score) if score.is_good() => None,
            Ok(score) => Some(score.faults().join("; ")),
            Err(why) => Some(why.clone()),
        }
    }
}

struct Report {
    engine: String,
    rows: Vec<Row>,
    /// Of all rates together.
    pulls: Pulls,
    pictures: Vec<PathBuf>,
}

impl Report {
    fn add(&mut self, truth: &Truth, task: &Task, outcome: &Outcome) {
        let products = match &outcome.status {
            Status::Done(products) => products.as_slice(),
            _ => &[],
        };
        let row = |product: Option<&PathBuf>, last: bool, score| Row {
            task: task.name.clone(),
            obsname: task.obsname.clone(),
            recipe: task.recipe.clone(),
            seconds: outcome.seconds,
            product: product.cloned(),
            last,
            score,
        };
        for (i, product) in products.iter().enumerate() {
            let score = match truth.score(product) {
                Ok(Some(score)) => Ok(score),
                Ok(None) => Err("nothing to compare it with".to_owned()),
                Err(e) => Err(e.to_string()),
            };
            let last = i + 1 == products.len();
            if let (Ok(score), false) = (&score, last) {
                self.pulls.add(&score.pulls);
            }
            self.rows.push(row(Some(product), last, score));
        }
        if products.is_empty() {
            let why = match &outcome.status {
                Status::Failed(why) => why.clone(),
                other => summary::word(other).to_owned(),
            };
            self.rows.push(row(None, true, Err(why)));
        }
    }

    fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good) && self.pulls.figures().iter().all(|f| f.is_good())
    }

    fn table(&self) -> Table {
        let mut heads: Vec<String> =
            ["EXPOSURE", "OBSNAME", "RECIPE", "ENGINE", ">TIME", "SCORE"].map(str::to_owned).to_vec();
        heads.extend(FIGURES.map(|f| format!(">{}", f.to_uppercase())));
        let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &self.rows {
            let verdict = match &row.score {
                _ if row.is_good() => "good",
                Ok(_) => "BAD",
                Err(_) => "FAILED",
            };
            let of_task = |text: String| if row.last { text } else { String::new() };
            let mut cells = vec![
                row.name(),
                row.obsname.clone(),
                of_task(row.recipe.clone()),
                of_task(self.engine.clone()),
                of_task(format!("{:.2} s", row.seconds)),
                verdict.to_owned(),
            ];
            let figure = |name: &&str| row.score.as_ref().ok().and_then(|s| s.get(name)).map(digits);
            cells.extend(FIGURES.iter().map(|f| figure(f).unwrap_or_default()));
            table.row(cells);
        }
        let pulls = self.pulls.figures();
        if !pulls.is_empty() {
            let good = pulls.iter().all(|f| f.is_good());
            let mut cells: Vec<String> = ["all rates together", "", "", "", ""].map(str::to_owned).to_vec();
            cells.push(if good { "good" } else { "BAD" }.to_owned());
            let figure = |name: &&str| pulls.iter().find(|f| f.name == *name).map(|f| digits(f.value));
            cells.extend(FIGURES.iter().map(|f| figure(f).unwrap_or_default()));
            table.row(cells);
        }
        table
    }

    fn text(&self, output: &Path, [simulated, reduced, whole]: [f64; 3]) -> String {
        let mut text = self.table().to_string();
        for row in self.rows.iter().filter(|r| r.last) {
            let others = row.score.iter().flat_map(|s| &s.figures);
            let others: Vec<String> = others
                .filter(|f| !FIGURES.contains(&f.name))
                .map(|f| format!("{} {}", f.name, digits(f.value)))
                .collect();
            if !others.is_empty() {
                text += &format!("\n{}: {}\n", row.name(), others.join(", "));
            }
        }
        let faults: Vec<String> = self
            .rows
            .iter()
            .filter_map(|r| r.fault().map(|f| format!("{}: {f}\n", r.name())))
            .chain(
                self.pulls
                    .figures()
                    .iter()
                    .filter(|f| !f.is_good())
                    .map(|f| format!("all rates together: {f}\n")),
            )
            .collect();
        if !faults.is_empty() {
            text += &format!("\nBad:\n  {}", faults.join("  "));
        }
        let good = self.rows.iter().filter(|r| r.is_good()).count();
        text += &format!(
            "\n{good} of {} products are as the truth says. Simulation {simulated:.1} s, reduction {reduced:.1} s, \
             all {whole:.1} s.\nProducts: {}\n",
            self.rows.len(),
            output.display()
        );
        for picture in &self.pictures {
            text += &format!("Picture:  {}\n", picture.display());
        }
        text
    }

    fn json(&self, output: &Path, [simulated, reduced, whole]: [f64; 3]) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                let figures: Vec<Value> = r
                    .score
                    .iter()
                    .flat_map(|s| &s.figures)
                    .map(|f| json!({"name": f.name, "value": f.value, "low": f.low, "high": f.high, "good": f.is_good()}))
                    .collect();
                json!({
                    "exposure": r.task, "obsname": r.obsname, "recipe": r.recipe, "engine": self.engine,
                    "seconds": r.seconds, "product": r.product, "good": r.is_good(), "figures": figures,
                    "error": r.fault(),
                })
            })
            .collect();
        let pulls: Vec<Value> = self
            .pulls
            .figures()
            .iter()
            .map(|f| json!({"name": f.name, "value": f.value, "low": f.low, "high": f.high, "good": f.is_good()}))
            .collect();
        json!({
            "good": self.is_good(), "products": rows, "together": pulls, "output": output,
            "pictures": self.pictures,
            "seconds": {"simulation": simulated, "reduction": reduced, "all": whole},
        })
    }
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
