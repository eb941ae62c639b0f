//! Things timed several times, beside the limit that binds them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::error::Result;
use crate::report::Table;

/// One thing, timed several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// What kind of thing.
    pub section: &'static str,
    /// Which.
    pub what: String,
    /// Seconds of each run.
    pub seconds: Vec<f64>,
    /// Bytes that a run moves.
    pub bytes: u64,
    /// Pixels times reads of a run; 0 where that means nothing.
    pub reads: u64,
    /// What the bytes could do at best, by name and in bytes a second.
    pub limit: Option<(&'static str, f64)>,
    /// Furthest from the double-precision reference, σ of the rate; where compared.
    pub drift: Option<f64>,
}

/// Runs `work` once to warm up, then `runs` times.
pub(super) fn timed(runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    work()?;
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

impl Timing {
    /// Without a limit and a comparison.
    pub(super) fn new(
        section: &'static str,
        what: impl Into<String>,
        seconds: Vec<f64>,
        bytes: u64,
    ) -> Timing {
        Timing { section, what: what.into(), seconds, bytes, reads: 0, limit: None, drift: None }
    }

    /// The median run, s.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        match n {
            0 => f64::NAN,
            _ => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
        }
    }

    /// Largest distance of a run from the median, as a part of it.
    pub fn spread(&self) -> f64 {
        let median = self.median();
        self.seconds.iter().map(|s| (s / median - 1.0).abs()).fold(0.0, f64::max)
    }

    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.median()
    }

    /// The part of its limit.
    pub fn fraction(&self) -> Option<f64> {
        self.limit.map(|(_, best)| self.rate() / best)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "section": self.section, "what": self.what, "seconds": self.seconds, "median": self.median(),
            "spread": self.spread(), "bytes": self.bytes, "bytes_per_second": self.rate(),
            "pixel_reads_per_second": if self.reads > 0 { Some(self.reads as f64 / self.median()) } else { None },
            "limit": self.limit.map(|l| l.0), "fraction": self.fraction(), "drift": self.drift,
        })
    }
}

/// All as a table.
pub(super) fn table(timings: &[Timing]) -> Table {
    let mut table =
        Table::new(&["", "WHAT", ">MEDIAN", ">±", ">GB/S", ">MPIX·READS/S", ">OF LIMIT", "LIMIT", ">DRIFT"]);
    for t in timings {
        let median = t.median();
        let time = if median < 0.1 { format!("{:.2} ms", 1e3 * median) } else { format!("{median:.3} s") };
        let or_blank = |some: Option<String>| some.unwrap_or_default();
        table.row([
            t.section.to_owned(),
            t.what.clone(),
            time,
            format!("{:.0} %", 100.0 * t.spread()),
            or_blank((t.bytes > 0).then(|| format!("{:.2}", 1e-9 * t.rate()))),
            or_blank((t.reads > 0).then(|| format!("{:.0}", 1e-6 * t.reads as f64 / median))),
            or_blank(t.fraction().map(|f| format!("{:.0} %", 100.0 * f))),
            or_blank(t.limit.map(|l| l.0.to_owned())),
            or_blank(t.drift.map(|d| format!("{d:.1e} σ"))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_its_spread_and_the_part_of_the_limit() {
        let mut t = Timing::new("kernels", "x", vec![3.0, 1.0, 2.0], 4_000_000_000);
        assert_eq!((t.median(), t.spread(), t.fraction()), (2.0, 0.5, None));
        t.limit = Some(("memory copy", 8e9));
        assert_eq!(t.fraction(), Some(0.25));
        t.seconds.push(9.0);
        assert_eq!(t.median(), 2.5);
        let text = table(&[t]).to_string();
        assert!(text.contains("1.60") && text.contains("20 %"), "{text}");
    }
}
