//! Sets of exposures that make one master.

use std::collections::BTreeMap;

use super::Exposure;
use crate::datamodel::{Kind, Meta};
use crate::refs::{julian_date, middle};

/// Exposures of one master, in the order of time.
pub(super) struct Group<'a> {
    pub(super) exposures: Vec<&'a Exposure>,
    /// The facts that all share; the date is the first's, JD the mean.
    pub(super) meta: Meta,
    /// Tells this master from others of its type and detector, in its name.
    pub(super) label: String,
    /// Tells it from others of its label, taken at other times.
    pub(super) when: String,
}

impl<'a> Group<'a> {
    /// A set that the user put together.
    pub(super) fn of(mut exposures: Vec<&'a Exposure>) -> Group<'a> {
        sort_by_time(&mut exposures);
        Group { meta: shared(&exposures), exposures, label: String::new(), when: String::new() }
    }

    /// A set that is to become a master of `reftype`.
    pub(super) fn for_master(reftype: &str, exposures: Vec<&'a Exposure>) -> Group<'a> {
        let group = Group::of(exposures);
        Group { label: label(reftype, &group.meta), when: when(&group.meta), ..group }
    }

    /// The set less some of its members.
    pub(super) fn without(&self, others: &[&Exposure]) -> Group<'a> {
        let is_other = |e: &&Exposure| others.iter().any(|o| o.name == e.name);
        let exposures: Vec<&Exposure> = self.exposures.iter().copied().filter(|e| !is_other(e)).collect();
        Group { meta: shared(&exposures), exposures, label: self.label.clone(), when: self.when.clone() }
    }

    /// The set in words: "flat IMG1 K".
    pub(super) fn name(&self, reftype: &str) -> String {
        let parts = [reftype, &self.meta.detector, &self.label, &self.when];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ")
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
    match meta.subarray.as_str() {
        "FULL" => {}
        "CUSTOM" => parts.push(format!("CUSTOM-{}-{}", meta.substart.0, meta.substart.1)),
        named => parts.push(named.to_owned()),
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

/// The time of day of a set, `06:12`; with the day, where it may be another.
fn when(meta: &Meta) -> String {
    match (meta.expdtst.get(4..8), meta.expdtst.get(8..10), meta.expdtst.get(10..12)) {
        (Some(day), Some(hour), Some(minute)) => format!("{day}T{hour}:{minute}"),
        _ => String::new(),
    }
}

/// Frames that a master of a type is not made of, as warnings. Science frames are the sky
/// of others where the telescope nods.
pub(super) fn of_other_kinds(reftype: &str, frames: &[&Exposure]) -> Vec<String> {
    let usual: &[Kind] = match reftype {
        "dark" => &[Kind::Dark],
        "flat" => &[Kind::Flat],
        "sky" => &[Kind::Sky, Kind::Science],
        "lenspx" => &[Kind::Spx, Kind::Arc],
        // A frame of one wavelength is an arc of one line.
        "wavemap" => &[Kind::Arc, Kind::Spx],
        "dispersion" => &[Kind::Dispersion, Kind::Fiber],
        _ => return Vec::new(),
    };
    let other = |e: &&&Exposure| e.obsname.as_ref().is_some_and(|o| !usual.contains(&o.kind));
    let say = |e: &&Exposure| {
        format!("{} goes into a {reftype}, and it is {} (OBSNAME, IMTYPE)", e.name, e.obsname())
    };
    frames.iter().filter(other).map(say).collect()
}

/// Days between two calibrations of a kind after which they are of two sets: the
/// evening's are not averaged with the morning's.
const SESSION: f64 = 0.25;

/// The same for skies, and for arcs that follow the spectra's drift: what the sky was an
/// hour ago it is no more.
const SKY_SESSION: f64 = 1.0 / 24.0;

/// Groups `exposures` into masters of `reftype`: sets taken apart in time are masters of
/// their own, so that each science exposure may take the nearest. Of skies and arcs, those
/// between which a science exposure of the same mode (one of `science`) lies, too.
pub(super) fn groups<'a>(
    reftype: &str,
    exposures: impl Iterator<Item = &'a Exposure>,
    science: &[&Exposure],
) -> Vec<Group<'a>> {
    let mut by_key: BTreeMap<(String, String, String), Vec<&Exposure>> = BTreeMap::new();
    for exposure in exposures {
        let meta = &exposure.meta;
        // Skies must be of one dark, so that it can be subtracted or cancel.
        let seconds = meta.exptime.map(|t| format!("{t}s")).unwrap_or_default();
        let dark = if reftype == "sky" { format!("{} {seconds}", meta.readmode) } else { String::new() };
        by_key.entry((meta.detector.clone(), label(reftype, meta), dark)).or_default().push(exposure);
    }
    let alike =
        |key: &(String, String, String)| by_key.keys().filter(|k| (&k.0, &k.1) == (&key.0, &key.1)).count();
    let several: Vec<bool> = by_key.keys().map(|key| alike(key) > 1).collect();
    let mut out = Vec::new();
    for (((_, label, _), mut exposures), several) in by_key.into_iter().zip(several) {
        sort_by_time(&mut exposures);
        let sets = sets(reftype, &exposures, science);
        for set in &sets {
            let meta = shared(set);
            let when = if several || sets.len() > 1 { when(&meta) } else { String::new() };
            out.push(Group { meta, exposures: set.clone(), label: label.clone(), when });
        }
    }
    out
}

/// The arcs of a LEN-SPX set that are not part of it: those between which and the nearest
/// scan a science exposure of the same mode lies. They tell where the spectra are at another
/// time. The set keeps what it needs: all of them, where it would else have no lines.
pub(super) fn arcs_of_another_time<'a>(set: &[&'a Exposure], science: &[&Exposure]) -> Vec<&'a Exposure> {
    let is_arc = |e: &Exposure| e.obsname.as_ref().is_some_and(|o| o.kind == Kind::Arc);
    let (arcs, scans): (Vec<&Exposure>, Vec<&Exposure>) = set.iter().copied().partition(|e| is_arc(e));
    let date = |e: &Exposure| julian_date(&e.meta);
    let same = |s: &&&Exposure| set.first().is_some_and(|first| same_mode(s, first));
    let between: Vec<f64> = science.iter().filter(same).filter_map(|s| date(s)).collect();
    let apart = |arc: &&&Exposure| {
        let Some(own) = date(arc) else { return false };
        let nearest =
            scans.iter().filter_map(|s| date(s)).min_by(|a, b| (a - own).abs().total_cmp(&(b - own).abs()));
        nearest.is_some_and(|n| between.iter().any(|s| (n.min(own)..n.max(own)).contains(s)))
    };
    let away: Vec<&Exposure> = arcs.iter().filter(apart).copied().collect();
    let lines = |e: &&Exposure| e.header.has("SPXWAVE") || e.header.has("SPXWAV1");
    let enough = away.len() < arcs.len() || scans.iter().any(lines);
    if enough { away } else { Vec::new() }
}

/// Whether two exposures are of one detector, mode and filter.
fn same_mode(a: &Exposure, b: &Exposure) -> bool {
    (&a.meta.detector, &a.meta.instmode, &a.meta.filter)
        == (&b.meta.detector, &b.meta.instmode, &b.meta.filter)
}

/// Exposures in order of time, cut where they are apart.
fn sets<'a>(reftype: &str, exposures: &[&'a Exposure], science: &[&Exposure]) -> Vec<Vec<&'a Exposure>> {
    let Some(first) = exposures.first() else { return Vec::new() };
    let same = |s: &&&Exposure| same_mode(s, first);
    let sky = matches!(reftype, "sky" | "wavemap");
    let between: Vec<f64> =
        science.iter().filter(|_| sky).filter(same).filter_map(|s| julian_date(&s.meta)).collect();
    let longest = if sky { SKY_SESSION } else { SESSION };
    let apart = |a: &Exposure, b: &Exposure| match (julian_date(&a.meta), julian_date(&b.meta)) {
        (Some(begins), Some(next)) => {
            let lasts = a.meta.exptime.unwrap_or(0.0) / 86_400.0;
            let ends = a.meta.jd_end.filter(|e| *e >= begins).unwrap_or(begins + lasts);
            next - ends > longest || between.iter().any(|s| (begins..next).contains(s))
        }
        _ => false,
    };
    let mut sets = vec![vec![*first]];
    for pair in exposures.windows(2) {
        match sets.last_mut().filter(|_| !apart(pair[0], pair[1])) {
            Some(set) => set.push(pair[1]),
            None => sets.push(vec![pair[1]]),
        }
    }
    sets
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
        // Where one frame has values, their mean has.
        meta.holes &= other.holes;
        if meta.exptime != other.exptime {
            meta.exptime = None;
        }
    }
    let dates: Vec<f64> = exposures.iter().filter_map(|e| middle(&e.meta)).collect();
    // The mean of the middles is where a set lies in time.
    meta.jd = (!dates.is_empty()).then(|| dates.iter().sum::<f64>() / dates.len() as f64);
    meta.jd_end = meta.jd;
    meta
}
