//! What calibrates which exposures because a person says so.

use std::collections::BTreeSet;

use super::super::assign::{skip, steps_that_need};
use super::super::group::Group;
use super::super::pairs::{Pair, With};
use super::names::Named;
use super::{Builder, Draft};
use crate::config::{Recipe, Step};
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
                With::Unusable(sentence) => Err(sentence.clone()),
                With::Frames(frames) => self.paired_master(pair, frames).map(Some),
            };
            self.bound.push(Bound {
                by: pair.by.clone(),
                exposures: pair.exposures.union(&pair.also).cloned().collect(),
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
            let mut makers = b.makers.iter().filter(|(_, at)| b.tasks[**at].files == files);
            makers.find_map(|(path, _)| {
                b.candidates.iter().find(|c| c.path == *path && c.reftype == pair.reftype).cloned()
            })
        };
        if planned(self).is_none() {
            match pair.reftype {
                "sky" => self.sky(&group),
                "wavemap" => self.master("wavecal", "wavemap", &group),
                reftype => self.master(reftype, reftype, &group),
            }
        }
        let origin = Origin::Paired(pair.by.clone());
        let made = planned(self).map(|c| Candidate { origin, ..c });
        made.ok_or_else(|| {
            format!("{} puts it with the {}, which cannot be made", pair.by, group.name(pair.reftype))
        })
    }

    /// Forgets the pairs: what comes next has its own.
    pub(in crate::night) fn release(&mut self) {
        self.bound.clear();
    }

    /// The recipe and the candidates of a task, and what is to be said of them: what a
    /// person put with all its exposures is the only one of its type, but for what is
    /// given on the command line.
    pub(super) fn as_bound(
        &self,
        recipe: &Recipe,
        draft: &Draft<'_>,
    ) -> Result<(Recipe, Vec<Candidate>, Vec<String>), String> {
        let mut candidates = self.candidates.clone();
        // A product of an association has what it names, not what another one's has.
        if matches!(self.named, Some(Named::So(_))) {
            candidates.retain(|c| c.origin != Origin::ThisNight);
        }
        let mut skipped = BTreeSet::new();
        let mut said = Vec::new();
        for bound in &self.bound {
            let (by, reftype) = (&bound.by, bound.reftype);
            let with = draft.exposures.iter().filter(|e| bound.exposures.contains(&e.name)).count();
            if with == 0 {
                continue;
            }
            if with < draft.exposures.len() {
                said.push(format!(
                    "{by} puts a {reftype} with {with} of its {} exposures: it counts only where it is for all of \
                     them",
                    draft.exposures.len()
                ));
                continue;
            }
            candidates.retain(|c| c.reftype != bound.reftype || c.origin == Origin::ByHand);
            match &bound.reference {
                Ok(Some(reference)) => {
                    let (own, its) = (&draft.meta.detector, &reference.meta.detector);
                    if !its.is_empty() && its != own {
                        return Err(format!(
                            "{by} puts it with {}, whose DETECTOR is {its}, not {own}",
                            reference.path.display()
                        ));
                    }
                    candidates.push(reference.clone());
                }
                // Nothing is left out without one.
                Ok(None) if matches!(reftype, "wavemap" | "dispersion") => {
                    said.push(format!("{reftype}: none, by {by}"));
                }
                Ok(None) => {
                    let idle = steps_that_need(reftype);
                    if idle.is_empty() || reftype == "lenspx" {
                        return Err(format!(
                            "{by} puts it with no {reftype}, and no step can be left out for that"
                        ));
                    }
                    for step in recipe
                        .steps
                        .iter()
                        .filter(|s| !s.skip())
                        .map(Step::name)
                        .filter(|name| idle.contains(name))
                    {
                        skipped.insert(step);
                        said.push(format!("{reftype}: none, by {by}: {step} is left out"));
                    }
                }
                Err(sentence) => return Err(sentence.clone()),
            }
        }
        Ok((skip(recipe.clone(), &skipped)?, candidates, said))
    }
}
