//! How long it took from a whole file to its product.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::words::counted;

/// An exposure's first product after it came (or came again).
#[derive(Debug, Clone, Copy)]
struct Measured {
    completed: SystemTime,
    seconds: f64,
    /// It had to wait for a calibration that was not taken yet.
    waited: bool,
}

/// Latencies by exposure.
#[derive(Debug, Default)]
pub(super) struct Latencies(BTreeMap<String, Measured>);

impl Latencies {
    /// Notes that the exposure whose last file was complete at `completed` has a product
    /// now; the seconds, unless this is not its first.
    pub(super) fn note(
        &mut self,
        name: &str,
        completed: SystemTime,
        now: SystemTime,
        waited: bool,
    ) -> Option<f64> {
        if self.0.get(name).is_some_and(|m| m.completed == completed) {
            return None;
        }
        let seconds = now.duration_since(completed).map_or(0.0, |t| t.as_secs_f64());
        self.0.insert(name.to_owned(), Measured { completed, seconds, waited });
        Some(seconds)
    }

    /// That of an exposure.
    pub(super) fn of(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|m| m.seconds)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.0.values().filter(|m| !m.waited).map(|m| m.seconds).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// Number, median, 90 % and largest; those that waited for a calibration are counted
    /// apart, for their latency is the observer's.
    pub(super) fn json(&self) -> Value {
        let all = self.sorted();
        let waited = self.0.values().filter(|m| m.waited).count();
        json!({
            "exposures": all.len(),
            "waited_for_calibration": waited,
            "median": quantile(&all, 0.5),
            "p90": quantile(&all, 0.9),
            "max": all.last(),
        })
    }

    /// A line for people; `None` where nothing was measured.
    pub(super) fn sentence(&self) -> Option<String> {
        let all = self.sorted();
        let (median, p90, max) = (quantile(&all, 0.5)?, quantile(&all, 0.9)?, all.last()?);
        Some(format!(
            "From a whole file to its product: median {median:.1} s, 90 % within {p90:.1} s, longest {max:.1} s \
             ({})",
            counted(all.len(), "exposure")
        ))
    }
}

/// The smallest value that is no less than a fraction `q` of all.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let n = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(n.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_arrival_counts_once() {
        let mut latencies = Latencies::default();
        let at = |s: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(latencies.sentence(), None);
        for n in 1..=10 {
            assert_eq!(latencies.note(&format!("{n}"), at(100), at(100 + n), false), Some(n as f64));
        }
        assert_eq!(latencies.note("1", at(100), at(500), false), None);
        latencies.note("flatless", at(100), at(5000), true);
        let json = latencies.json();
        assert_eq!((&json["exposures"], &json["waited_for_calibration"]), (&json!(10), &json!(1)));
        assert_eq!((&json["median"], &json["p90"], &json["max"]), (&json!(5.0), &json!(9.0), &json!(10.0)));
        // Replaced, it is measured anew.
        assert_eq!(latencies.note("1", at(600), at(603), false), Some(3.0));
        assert_eq!(latencies.of("1"), Some(3.0));
    }
}
