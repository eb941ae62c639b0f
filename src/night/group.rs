//! Sets of exposures that make one master.

use std::collections::BTreeMap;

use super::Exposure;
use crate::datamodel::Meta;
use crate::refs::julian_date;

/// Exposures of one master, in the order of time.
pub(super) struct Group<'a> {
    pub(super) exposures: Vec<&'a Exposure>,
    /// The facts that all share; the date is the first's, JD the mean.
    pub(super) meta: Meta,
    /// Tells this master from others of its type and detector, in its name.
    pub(super) label: String,
}

impl<'a> Group<'a> {
    /// A set that the user put together.
    pub(super) fn of(mut exposures: Vec<&'a Exposure>) -> Group<'a> {
        sort_by_time(&mut exposures);
        Group { meta: shared(&exposures), exposures, label: String::new() }
    }

    /// The set in words: "flat IMG1 K".
    pub(super) fn name(&self, reftype: &str) -> String {
        [reftype, &self.meta.detector, &self.label].join(" ").trim_end().to_owned()
    }

    /// What its members are for, each name once.
    pub(super) fn obsname(&self) -> String {
        let mut names: Vec<String> = self.exposures.iter().map(|e| e.obsname()).collect();
        names.sort();
        names.dedup();
        names.join("+")
    }
}

/// The facts by which masters of `reftype` are told apart, in words.
fn label(reftype: &str, meta: &Meta) -> String {
    let seconds = meta.exptime.map(|t| format!("{t}s"));
    let mas = meta.scale.filter(|_| meta.instmode != "IMG").map(|s| format!("{:.0}mas", s * 1000.0));
    let spectral = |text: &str| if meta.instmode == "IMG" { String::new() } else { text.to_owned() };
    let mut parts = match reftype {
        "dark" => vec![meta.readmode.clone(), seconds.unwrap_or_default()],
        "flat" => vec![meta.filter.clone(), meta.pupil.clone()],
        _ => vec![
            spectral(&meta.instmode),
            meta.filter.clone(),
            spectral(&meta.grating),
            mas.unwrap_or_default(),
        ],
    };
    if meta.subarray != "FULL" {
        parts.push(meta.subarray.clone());
    }
    parts.retain(|p| !p.is_empty());
    parts.join("-")
}

fn sort_by_time(exposures: &mut [&Exposure]) {
    exposures.sort_by(|a, b| {
        let jd = |e: &Exposure| julian_date(&e.meta).unwrap_or(0.0);
        jd(a).total_cmp(&jd(b)).then_with(|| a.name.cmp(&b.name))
    });
}

/// Groups `exposures` into masters of `reftype`.
pub(super) fn groups<'a>(reftype: &str, exposures: impl Iterator<Item = &'a Exposure>) -> Vec<Group<'a>> {
    let mut by_key: BTreeMap<(String, String), Vec<&Exposure>> = BTreeMap::new();
    for exposure in exposures {
        let label = label(reftype, &exposure.meta);
        by_key.entry((exposure.meta.detector.clone(), label)).or_default().push(exposure);
    }
    by_key
        .into_iter()
        .map(|((_, label), mut exposures)| {
            sort_by_time(&mut exposures);
            Group { meta: shared(&exposures), exposures, label }
        })
        .collect()
}

/// The first member's facts, without those in which another differs.
fn shared(exposures: &[&Exposure]) -> Meta {
    let mut meta = exposures.first().map(|e| e.meta.clone()).unwrap_or_default();
    for other in exposures.iter().map(|e| &e.meta) {
        let texts = [
            (&mut meta.readmode, &other.readmode),
            (&mut meta.pupil, &other.pupil),
            (&mut meta.filter, &other.filter),
            (&mut meta.object, &other.object),
        ];
        for (ours, theirs) in texts {
            if ours != theirs {
                ours.clear();
            }
        }
        if meta.exptime != other.exptime {
            meta.exptime = None;
        }
    }
    let dates: Vec<f64> = exposures.iter().filter_map(|e| julian_date(&e.meta)).collect();
    meta.jd = (!dates.is_empty()).then(|| dates.iter().sum::<f64>() / dates.len() as f64);
    meta
}
