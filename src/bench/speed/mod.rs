//! How fast the program is on this machine, and how far from what the machine can do.

mod kernels;
mod limits;
mod timing;
mod whole;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::report::Table;
pub use timing::Timing;

/// The parts, in order; the limits are always measured.
pub const PARTS: [&str; 4] = ["kernels", "stage1", "four", "night"];

/// Furthest that a kernel's rates may be from the double-precision reference, σ.
const DRIFT: f64 = 1e-3;
/// What the observatory asks for: an image within 30 s (REQ-2-IRIS-1630), and the
/// reads of five detectors every 0.72 s, bytes a second.
const IMAGE: f64 = 30.0;
const STREAM: f64 = 233e6;

/// What is to be timed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Parts by name; [`PARTS`] but for the last two where empty.
    pub only: Vec<String>,
    /// Pixels along an edge of whole frames.
    pub size: usize,
    /// Reads of a ramp.
    pub reads: Vec<usize>,
    /// Runs of each.
    pub runs: usize,
    /// An empty folder for the files, on the disk that is to be measured.
    pub folder: PathBuf,
    /// Options of the engine, for the processes that are timed.
    pub engine: Vec<String>,
}

/// What was timed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The engine.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// In order.
    pub timings: Vec<Timing>,
}

/// Measures. `progress` hears what is being done.
pub fn measure(mut engine: Box<dyn Engine>, options: &Options, progress: &dyn Fn(&str)) -> Result<Report> {
    if let Some(unknown) = options.only.iter().find(|o| !PARTS.contains(&o.as_str())) {
        let parts = PARTS.join(", ");
        return Err(Error::Usage(format!("--only {unknown}: there is no such part ({parts})")));
    }
    let wanted = |part: &str| match options.only.is_empty() {
        true => PARTS[..2].contains(&part),
        false => options.only.iter().any(|o| o == part),
    };
    progress("limits of the machine");
    let (limits, mut timings) = limits::measure(engine.as_mut(), &options.folder, options.runs)?;
    if wanted("kernels") {
        progress("kernels");
        timings.extend(kernels::measure(engine.as_mut(), &options.reads, &limits, options.runs)?);
    }
    let device = engine.device().name.clone();
    // A process that is timed has the device, and the memory, to itself.
    drop(engine);
    if wanted("stage1") {
        progress("stage 1 of whole files");
        timings.extend(whole::stage1(options, &limits)?);
    }
    if wanted("four") {
        progress("four detectors");
        timings.extend(whole::four(options, &limits)?);
    }
    if wanted("night") {
        progress("a night");
        timings.extend(whole::night(options, &limits)?);
    }
    Ok(Report { device, threads: rayon::current_num_threads(), timings })
}

impl Report {
    /// Whether every kernel agrees with the double-precision reference.
    pub fn agrees(&self) -> bool {
        self.timings.iter().filter_map(|t| t.drift).all(|d| d <= DRIFT)
    }

    /// Does this machine do what the observatory asks for? A sentence each, of what
    /// was measured.
    pub fn answers(&self) -> Vec<String> {
        let yes = |good: bool| if good { "yes" } else { "NO" };
        let whole = self.timings.iter().filter(|t| t.section == "whole");
        let mut out = Vec::new();
        for t in whole.filter(|t| !t.what.ends_with("sync")) {
            let (seconds, rate) = (t.median(), t.rate());
            if t.what.starts_with("4 detectors") {
                let good = yes(seconds <= IMAGE);
                out.push(format!("An image within {IMAGE:.0} s: {good} ({}: {seconds:.1} s).", t.what));
            } else {
                let good = yes(rate >= STREAM);
                let (asked, rate) = (STREAM * 1e-6, rate * 1e-6);
                out.push(format!("{asked:.0} MB/s of reads: {good} ({}: {rate:.0} MB/s).", t.what));
            }
        }
        if !self.agrees() {
            out.push(format!("A kernel is more than {DRIFT:e} σ from the double-precision reference."));
        }
        out
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut out =
            format!("{}, {} threads\n\n{}", self.device, self.threads, timing::table(&self.timings));
        for answer in self.answers() {
            out += &format!("\n{answer}");
        }
        out + "\n"
    }

    /// For machines, and for [`compare`].
    pub fn json(&self) -> Value {
        let timings: Vec<Value> = self.timings.iter().map(Timing::json).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"), "device": self.device, "threads": self.threads,
            "agrees": self.agrees(), "answers": self.answers(), "timings": timings,
        })
    }
}

/// Two runs side by side: what both have, and how much faster the second is.
pub fn compare(before: &Value, after: &Value) -> String {
    let rows = |run: &Value| run["timings"].as_array().cloned().unwrap_or_default();
    let mut table = Table::new(&["WHAT", ">BEFORE", ">AFTER", ">FASTER BY", ">± "]);
    for new in rows(after) {
        let Some(old) = rows(before).into_iter().find(|o| o["what"] == new["what"]) else { continue };
        let number = |run: &Value, key: &str| run[key].as_f64().unwrap_or(f64::NAN);
        let (a, b) = (number(&old, "median"), number(&new, "median"));
        let spread = number(&old, "spread").hypot(number(&new, "spread"));
        table.row([
            new["what"].as_str().unwrap_or_default().to_owned(),
            format!("{a:.4} s"),
            format!("{b:.4} s"),
            format!("{:.2}", a / b),
            format!("{:.2}", a / b * spread),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seconds: f64, drift: f64) -> Report {
        let timing = |section, what: &str, drift| Timing {
            section,
            what: what.into(),
            seconds: vec![seconds],
            bytes: 466_000_000,
            reads: 0,
            limit: None,
            drift,
        };
        let timings =
            vec![timing("kernels", "fused", Some(drift)), timing("whole", "stage 1, 64×64×10", None)];
        Report { device: "CPU".into(), threads: 2, timings }
    }

    #[test]
    fn it_says_whether_the_machine_keeps_up_and_the_kernels_are_right() {
        assert!(report(1.0, 1e-5).answers()[0].contains("233 MB/s of reads: yes"));
        let slow = report(4.0, 1e-2);
        assert!(slow.answers()[0].contains("NO") && !slow.agrees() && slow.answers().len() == 2);
    }

    #[test]
    fn two_runs_are_compared_by_name() {
        let (before, after) = (report(4.0, 0.0).json(), report(2.0, 0.0).json());
        let text = compare(&before, &after);
        assert!(text.contains("fused") && text.contains("2.00"), "{text}");
        assert_eq!(compare(&before, &Value::Null).lines().count(), 1);
    }
}
