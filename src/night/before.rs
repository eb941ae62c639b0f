//! What came before an exposure on its detector: the exposures that saturation may
//! glow from (step `persistence`).
//!
//! A night is known whole, so an exposure of it without others before it had none.
//! Of named files, only what is named with them is known.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Exposure;
use crate::config::{Recipe, Step};
use crate::pipeline::Earlier;

/// Exposures that may stand before others.
pub(super) struct Before<'a> {
    /// Of the night, or named, by detector: they count where times say that they are
    /// earlier. In the order of their ends, so that a long night is not gone through for
    /// each of its exposures.
    others: BTreeMap<&'a str, Vec<Other<'a>>>,
    /// Named as earlier ones: they count unless times say that they are not.
    asked: Vec<Other<'a>>,
    /// Whether no other exposures were taken.
    whole: bool,
}

/// An exposure that may stand before others.
#[derive(Clone)]
struct Other<'a> {
    exposure: &'a Exposure,
    /// When it ended, where that is known (JD).
    end: Option<f64>,
    files: Arc<[PathBuf]>,
}

impl<'a> Before<'a> {
    /// In a night.
    pub(super) fn of_night(night: &'a [Exposure], asked: &'a [Exposure]) -> Self {
        Before::new(night, asked, true)
    }

    /// Among named files.
    pub(super) fn of_files(files: &'a [Exposure], asked: &'a [Exposure]) -> Self {
        Before::new(files, asked, false)
    }

    fn new(others: &'a [Exposure], asked: &'a [Exposure], whole: bool) -> Self {
        let raw = |e: &&Exposure| e.meta.level < Some(1);
        let other = |exposure: &'a Exposure| Other {
            exposure,
            end: end(exposure),
            files: exposure.files.as_slice().into(),
        };
        let mut by_detector: BTreeMap<&str, Vec<Other>> = BTreeMap::new();
        for e in others.iter().filter(raw).map(other).filter(|e| e.end.is_some()) {
            by_detector.entry(&e.exposure.meta.detector).or_default().push(e);
        }
        by_detector.values_mut().for_each(|list| list.sort_by(|a, b| a.jd().total_cmp(&b.jd())));
        Before { others: by_detector, asked: asked.iter().filter(raw).map(other).collect(), whole }
    }

    /// What came before each of `exposures`, by first file, no longer ago than the
    /// recipe's step looks back; and the identities of these exposures.
    pub(super) fn of(
        &self,
        recipe: &Recipe,
        exposures: &[&Exposure],
    ) -> (BTreeMap<PathBuf, Vec<Earlier>>, Vec<String>) {
        let step = recipe.active(|s| if let Step::Persistence(p) = s { Some(p) } else { None });
        let (mut earlier, mut identities) = (BTreeMap::new(), Vec::new());
        let Some(step) = step else { return (earlier, identities) };
        // A tenth of a second for the rounding of dates; what began later ended later.
        let within = -0.1..=step.persistence_time;
        for exposure in exposures {
            let seconds = |e: &Other| Some((exposure.meta.jd? - e.end?) * DAY);
            let list = self.others.get(exposure.meta.detector.as_str()).map_or(&[][..], Vec::as_slice);
            let list = exposure.meta.jd.map_or(&[][..], |start| {
                // The ends of the list rise: a little more than what counts is a part of it.
                let (first, last) = (start - (step.persistence_time + 1.0) / DAY, start + 1.0 / DAY);
                &list[list.partition_point(|e| e.jd() < first)..list.partition_point(|e| e.jd() <= last)]
            });
            let near = list.iter().filter(|e| seconds(e).is_some_and(|s| within.contains(&s)));
            let asked = self.asked.iter().filter(|e| seconds(e).is_none_or(|s| within.contains(&s)));
            let mut found: Vec<&Other> =
                near.chain(asked).filter(|e| e.exposure.files != exposure.files).collect();
            found.sort_by(|a, b| a.exposure.name.cmp(&b.exposure.name));
            found.dedup_by(|a, b| a.exposure.files == b.exposure.files);
            let known = self.whole && exposure.meta.jd.is_some();
            if found.is_empty() && !known {
                continue;
            }
            identities.extend(found.iter().map(|e| format!("before: {}", e.exposure.identity)));
            let list = found.into_iter().map(|e| Earlier { files: e.files.clone(), seconds: seconds(e) });
            if let Some(first) = exposure.files.first() {
                earlier.insert(first.clone(), list.collect());
            }
        }
        (earlier, identities)
    }
}

impl Other<'_> {
    /// Its end, as a number to sort by.
    fn jd(&self) -> f64 {
        self.end.unwrap_or(f64::NEG_INFINITY)
    }
}

const DAY: f64 = 86_400.0;

/// When an exposure ended (JD). Its start and EXPTIME stand in for an end that its header
/// does not have.
fn end(e: &Exposure) -> Option<f64> {
    e.meta.jd_end.or_else(|| Some(e.meta.jd? + e.meta.exptime? / DAY))
}
