//! What calibrates which exposures because a person says so.

use std::collections::BTreeSet;

use super::super::assign::steps_that_need;
use super::super::group::Group;
use super::super::pairs::{Pair, With};
use super::{Builder, Draft};
use crate::config::{Overrides, Recipe};
use crate::night::Exposure;
use crate::refs::{Candidate, Origin};

/// A [`Pair`] whose master, where it needs one, is planned.
pub(super) struct Bound {
    by: String,
    exposures: BTreeSet<String>,
    reftype: &'static str,
    /// The reference; `None` for none at all.
    reference: Result<Option<Candidate>, String>,
}

impl Builder<'_> {
    /// Notes the pairs of some types; their masters are planned.
    pub(in crate::night) fn pairs(&mut self, pairs: &[Pair], of: impl Fn(&str) -> bool) {
        for pair in pairs.iter().filter(|p| of(p.reftype)) {
            let reference = match &pair.with {
                With::Nothing => Ok(None),
                With::File { candidate, dark_kept } => {
                    if *dark_kept {
                        self.dark_kept.insert(candidate.path.clone());
                    }
                    Ok(Some((**candidate).clone()))
                }
                With::Frames(frames) => self.paired_master(pair, frames).map(Some),
            };
            self.bound.push(Bound {
                by: pair.by.clone(),
                exposures: pair.exposures.clone(),
                reftype: pair.reftype,
                reference,
            });
        }
    }

    /// The master of just these frames, planned now unless it is already.
    fn paired_master(&mut self, pair: &Pair, frames: &[Exposure]) -> Result<Candidate, String> {
        let group = Group::for_master(pair.reftype, frames.iter().collect());
        let files: Vec<String> = group.exposures.iter().map(|e| e.name.clone()).collect();
        let planned = |b: &Self| {
            let makers = b.makers.iter().find(|(_, at)| b.tasks[**at].files == files);
            makers
                .and_then(|(path, _)| {
                    b.candidates.iter().find(|c| c.path == *path && c.reftype == pair.reftype)
                })
                .cloned()
        };
        if planned(self).is_none() {
            match pair.reftype {
                "sky" => self.sky(&group),
                reftype => self.master(reftype, reftype, &group),
            }
        }
        let origin = Origin::Paired(pair.by.clone());
        let made = planned(self).map(|c| Candidate { origin, ..c });
        made.ok_or_else(|| {
            format!("{} puts it with the {}, which cannot be made", pair.by, group.name(pair.reftype))
        })
    }

    /// The recipe and the candidates of a task: what a person put with all its exposures
    /// is the only one of its type, but for what is given on the command line.
    pub(super) fn as_bound(
        &self,
        recipe: &Recipe,
        draft: &Draft<'_>,
    ) -> Result<(Recipe, Vec<Candidate>), String> {
        let mut candidates = self.candidates.clone();
        let mut skipped = Overrides::new();
        for bound in &self.bound {
            if !draft.exposures.iter().all(|e| bound.exposures.contains(&e.name)) {
                continue;
            }
            candidates.retain(|c| c.reftype != bound.reftype || c.origin == Origin::ByHand);
            match &bound.reference {
                Ok(Some(reference)) => candidates.push(reference.clone()),
                Ok(None) => {
                    for step in steps_that_need(bound.reftype) {
                        skipped.entry(step.into()).or_default().insert("skip".into(), "true".into());
                    }
                }
                Err(sentence) => return Err(sentence.clone()),
            }
            let (by, reftype) = (&bound.by, bound.reftype);
            if bound.reference == Ok(None) && steps_that_need(reftype).is_empty() {
                return Err(format!("{by} puts it with no {reftype}, and no step can be left out for that"));
            }
        }
        Ok((recipe.clone().with(&skipped).map_err(|e| e.to_string())?, candidates))
    }
}
