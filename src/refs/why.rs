//! Why each candidate was taken, or lost.

use super::choose::{Rank, canonical, fits};
use super::rules::rules;
use super::{Candidate, choose};
use crate::datamodel::Meta;
use crate::words::short;

/// A candidate and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// Whether it was taken.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}

/// Every candidate of a type for an exposure, the one that [`choose`] takes first.
pub fn explain<'a>(reftype: &str, exposure: &Meta, candidates: &'a [Candidate]) -> Vec<Verdict<'a>> {
    let wanted = canonical(reftype);
    let choice = choose(&wanted, exposure, candidates);
    let of_type = candidates.iter().filter(|c| c.reftype == wanted);
    let best = choice.as_ref().and_then(|c| {
        let mut same = of_type.clone().filter(|o| o.path == c.path && fits(&wanted, exposure, o));
        same.next()
    });
    let rank = best.map(|b| Rank::of(&wanted, exposure, b));
    let mut verdicts: Vec<Verdict<'a>> = of_type
        .map(|candidate| {
            let chosen = best.is_some_and(|b| std::ptr::eq(b, candidate));
            let why = match (&choice, &rank, best) {
                _ if !fits(&wanted, exposure, candidate) => unfit(&wanted, exposure, candidate),
                (Some(choice), ..) if chosen => choice.reason.clone(),
                (_, Some(rank), Some(best)) => {
                    Rank::of(&wanted, exposure, candidate).behind(rank, candidate, best)
                }
                _ => String::new(),
            };
            Verdict { candidate, chosen, why }
        })
        .collect();
    verdicts.sort_by(|a, b| b.chosen.cmp(&a.chosen).then_with(|| a.candidate.path.cmp(&b.candidate.path)));
    verdicts
}

/// The rules that a candidate breaks.
fn unfit(reftype: &str, exposure: &Meta, candidate: &Candidate) -> String {
    let broken = rules(reftype, &exposure.instmode).iter().filter(|r| !r.holds(exposure, &candidate.meta));
    let broken: Vec<String> = broken.map(|r| r.broken(exposure, &candidate.meta)).collect();
    match broken.is_empty() {
        true => "is for another kind of exposure".to_owned(),
        false => broken.join("; "),
    }
}

impl Rank {
    /// What puts a candidate behind the one taken.
    fn behind(&self, best: &Rank, candidate: &Candidate, taken: &Candidate) -> String {
        let time = |days: f64| match days {
            d if !d.is_finite() => "no date".to_owned(),
            d => super::choose::apart(d),
        };
        if best.origin == 0 && self.origin > 0 {
            format!("another is {}", taken.origin)
        } else if self.other_mode && !best.other_mode {
            format!("READMODE {}; another has the exposure's", candidate.meta.readmode)
        } else if self.larger && !best.larger {
            "of the full frame; another is of the subarray".to_owned()
        } else if self.origin > best.origin {
            format!("{}; another is of {}", candidate.origin, taken.origin)
        } else if self.early && !best.early {
            "its USEAFTER is after the exposure".to_owned()
        } else if self.exptime > best.exptime {
            let own =
                candidate.meta.exptime.map_or("no EXPTIME".to_owned(), |t| format!("EXPTIME {} s", short(t)));
            format!("{own}; another's is nearer")
        } else if self.days > best.days {
            format!("{} away; another is {}", time(self.days), time(best.days))
        } else {
            format!("fits as well as {}, which comes first by name", taken.path.display())
        }
    }
}
