//! The demo's report: every product with its figures, as a table and as JSON.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::summary;
use crate::night::{Outcome, Status, Task};
use crate::pipeline::product::is_companion;
use crate::report::score::{Figure, Pulls, Score, digits};
use crate::report::{Table, Truth};

/// Columns of the table that are figures.
const FIGURES: [&str; 9] = ["used", "rms", "mean", "beyond", "hits", "chi2", "blocks", "rows", "voxels"];

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
        // SEMID, PROGNUM and OBSNUM are those of the whole night.
        let short = |name: &str| name.split_once("_IRIS_").map_or(name, |(_, rest)| rest).to_owned();
        match &self.product {
            Some(p) if !self.last => short(&p.file_stem().unwrap_or_default().to_string_lossy()),
            _ => short(self.task.trim_end_matches(".fits")),
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

/// All products.
pub(super) struct Report {
    engine: String,
    rows: Vec<Row>,
    /// Of all rates together, and of all that was made of them.
    pulls: [Pulls; 2],
    /// The report of the night.
    pub(super) page: Option<PathBuf>,
    /// Pictures made of them.
    pub(super) pictures: Vec<PathBuf>,
}

impl Report {
    pub(super) fn new(engine: String) -> Report {
        Report { engine, rows: Vec::new(), pulls: <[Pulls; 2]>::default(), pictures: Vec::new(), page: None }
    }

    /// Scores what a task made.
    pub(super) fn add(&mut self, truth: &Truth, task: &Task, outcome: &Outcome) {
        let products = match &outcome.status {
            Status::Done(products) => products.as_slice(),
            _ => &[],
        };
        // Lists of jumps and rates of single ramps stand beside what is scored.
        let products: Vec<&PathBuf> = products.iter().filter(|p| !is_companion(p)).collect();
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
            if let Ok(score) = &score {
                self.pulls[usize::from(last)].add(&score.pulls);
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

    /// Whether every product is there and good.
    pub(super) fn is_good(&self) -> bool {
        let together = self.together().into_iter().flat_map(|(_, figures)| figures);
        self.rows.iter().all(Row::is_good) && together.into_iter().all(|f| f.is_good())
    }

    /// Block and row pulls of many frames, where there are any.
    fn together(&self) -> Vec<(&'static str, Vec<Figure>)> {
        let named = ["all rates together", "all masters and images together"].into_iter().zip(&self.pulls);
        named.map(|(name, p)| (name, p.figures())).filter(|(_, f)| !f.is_empty()).collect()
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
        for (name, figures) in self.together() {
            let mut cells: Vec<String> = [name, "", "", "", ""].map(str::to_owned).to_vec();
            cells.push(if figures.iter().all(Figure::is_good) { "good" } else { "BAD" }.to_owned());
            let figure = |name: &&str| figures.iter().find(|f| f.name == *name).map(|f| digits(f.value));
            cells.extend(FIGURES.iter().map(|f| figure(f).unwrap_or_default()));
            table.row(cells);
        }
        table
    }

    /// The table, what is wrong, and where things are.
    pub(super) fn text(&self, output: &Path, [simulated, reduced, whole]: [f64; 3]) -> String {
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
        let mut faults: Vec<String> =
            self.rows.iter().filter_map(|r| r.fault().map(|f| format!("{}: {f}\n", r.name()))).collect();
        for (name, figures) in self.together() {
            faults.extend(figures.iter().filter(|f| !f.is_good()).map(|f| format!("{name}: {f}\n")));
        }
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
        if let Some(page) = &self.page {
            text += &format!("Report:   {}\n", page.display());
        }
        for picture in &self.pictures {
            text += &format!("Picture:  {}\n", picture.display());
        }
        text
    }

    /// The machine's copy.
    pub(super) fn json(&self, output: &Path, [simulated, reduced, whole]: [f64; 3]) -> Value {
        let figures = |figures: &[Figure]| -> Vec<Value> {
            figures
                .iter()
                .map(|f| json!({"name": f.name, "value": f.value, "low": f.low, "high": f.high, "good": f.is_good()}))
                .collect()
        };
        let row = |r: &Row| {
            json!({
                "exposure": r.task, "obsname": r.obsname, "recipe": r.recipe, "engine": self.engine,
                "seconds": r.seconds, "product": r.product, "good": r.is_good(),
                "figures": r.score.as_ref().map_or_else(|_| Vec::new(), |s| figures(&s.figures)),
                "fault": r.fault(),
            })
        };
        let together: serde_json::Map<String, Value> =
            self.together().into_iter().map(|(name, f)| (name.to_owned(), figures(&f).into())).collect();
        json!({
            "good": self.is_good(), "output": output, "report": self.page, "pictures": self.pictures,
            "products": self.rows.iter().map(row).collect::<Vec<_>>(), "together": together,
            "seconds": {"simulation": simulated, "reduction": reduced, "all": whole},
        })
    }
}
