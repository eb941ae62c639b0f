//! What came before an exposure on its detector: the exposures that saturation may
//! glow from (step `persistence`).
//!
//! A night is known whole, so an exposure of it without others before it had none.
//! Of named files, only what is named with them is known.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Exposure;
use crate::config::{Recipe, Step};
use crate::pipeline::Earlier;

/// Exposures that may stand before others.
pub(super) struct Before<'a> {
    /// Of the night, or named: they count where times say that they are earlier.
    others: &'a [Exposure],
    /// Named as earlier ones: they count unless times say that they are not.
    asked: &'a [Exposure],
    /// Whether no other exposures were taken.
    whole: bool,
}

impl<'a> Before<'a> {
    /// In a night.
    pub(super) fn of_night(night: &'a [Exposure], asked: &'a [Exposure]) -> Self {
        Before { others: night, asked, whole: true }
    }

    /// Among named files.
    pub(super) fn of_files(files: &'a [Exposure], asked: &'a [Exposure]) -> Self {
        Before { others: files, asked, whole: false }
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
        for exposure in exposures {
            let others = self.others.iter().filter_map(|e| {
                let seconds = seconds(e, exposure)?;
                (e.meta.detector == exposure.meta.detector).then_some((e, Some(seconds)))
            });
            let asked = self.asked.iter().map(|e| (e, seconds(e, exposure)));
            // A tenth of a second for the rounding of dates; what began later ended later.
            let apart = |(e, s): &(&Exposure, Option<f64>)| {
                e.files != exposure.files
                    && e.meta.level < Some(1)
                    && s.is_none_or(|s| (-0.1..=step.persistence_time).contains(&s))
            };
            let mut found: Vec<(&Exposure, Option<f64>)> = others.chain(asked).filter(apart).collect();
            found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
            found.dedup_by(|a, b| a.0.files == b.0.files);
            let known = self.whole && exposure.meta.jd.is_some();
            if found.is_empty() && !known {
                continue;
            }
            identities.extend(found.iter().map(|(e, _)| format!("before: {}", e.identity)));
            let list = found.into_iter().map(|(e, seconds)| Earlier { files: e.files.clone(), seconds });
            if let Some(first) = exposure.files.first() {
                earlier.insert(first.clone(), list.collect());
            }
        }
        (earlier, identities)
    }
}

/// Seconds from the end of `a` to the start of `b`. A start of `a` and its EXPTIME
/// stand in for an end that its header does not have.
fn seconds(a: &Exposure, b: &Exposure) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    let end = a.meta.jd_end.or_else(|| Some(a.meta.jd? + a.meta.exptime? / DAY))?;
    Some((b.meta.jd? - end) * DAY)
}
