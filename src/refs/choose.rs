//! Which reference applies to an exposure, and why.
//!
//! [`choose`] looks only at facts (header values) and is told its candidates, so
//! that the plan, `run` and `refs explain` give the same answer. A candidate fits
//! when every rule of its type holds; among those that fit, one given by hand
//! comes before a master of this night, that before any other; then (darks) the
//! nearest EXPTIME, then the nearest in time (middle to middle; of two that are as near
//! within a second the earlier), then the path, so that the answer
//! never depends on the order in which a folder is listed.

use std::path::{Path, PathBuf};

use super::rules::Key::{Readmode, Subarray};
use super::rules::Rule::Agree;
use super::rules::{Key, rules};
use super::{Candidate, Origin, canonical_reftype};
use crate::datamodel::Meta;
use crate::fits::Header;
use crate::words::short;

/// Logarithm of the ratio of exposure times from which on a dark is warned about: it is a
/// rate, but what glows after a reset is not.
const OTHER_EXPTIME: f64 = 0.405;

/// A second, in days: candidates that lie closer are as near.
const SECOND: f64 = 1.0 / 86_400.0;

/// Days after which a sky is warned about.
const OLD_SKY: f64 = 0.25;

/// The reference types that steps use, by their canonical names.
pub const REFTYPES: &[&str] = &[
    "mask",
    "saturation",
    "ipc",
    "bias",
    "refpix",
    "nonlin",
    "invlin",
    "gain",
    "readnoise",
    "dark",
    "flat",
    "sky",
    "lenspx",
    "wavemap",
    "dispersion",
];

/// The reference that applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The file.
    pub path: PathBuf,
    /// What is doubtful about it, as sentences.
    pub doubts: Vec<String>,
    /// Why this one, for people: "this night, nearest in time: 14 min".
    pub reason: String,
}

/// The canonical name of a known type; another one in lower case.
pub(super) fn canonical(reftype: &str) -> String {
    canonical_reftype(reftype).map_or_else(|| reftype.trim().to_ascii_lowercase(), str::to_owned)
}

/// A candidate from a file's primary header; `None` when it has no REFTYPE.
/// A reference without a date of its own is dated by USEAFTER.
pub fn candidate_from_header(path: &Path, header: &Header, origin: Origin) -> Option<Candidate> {
    let reftype = header.text("REFTYPE").filter(|t| !t.is_empty())?;
    let mut meta = Meta::from_header(header);
    let after = header.text("USEAFTER").unwrap_or_default();
    let after: String = after.chars().filter(char::is_ascii_digit).take(14).collect();
    let useafter = julian_date(&Meta { expdtst: after.clone(), ..Meta::default() });
    if meta.expdtst.is_empty() {
        meta.expdtst = after;
    }
    let version = version_of(path, header);
    Some(Candidate {
        path: path.to_path_buf(),
        reftype: canonical(&reftype),
        meta,
        origin,
        useafter,
        version,
    })
}

/// The numbers of REFVER or, without one, of the version at the end of a file's name
/// (`…_0.0.10.fits`); empty where there is none.
fn version_of(path: &Path, header: &Header) -> Vec<u64> {
    let numbers = |t: &str| t.split('.').map(|n| n.trim().parse().ok()).collect::<Option<Vec<u64>>>();
    let said = header.text("REFVER").filter(|t| !t.trim().is_empty());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = stem.rsplit('_').next().filter(|v| v.contains('.'));
    said.as_deref().or(end).and_then(numbers).unwrap_or_default()
}

/// The keywords by which a type is chosen, with the exposure's values.
fn compared(reftype: &str, exposure: &Meta) -> String {
    let mut words: Vec<String> =
        rules(reftype, &exposure.instmode).iter().filter_map(|r| r.said_by(exposure)).collect();
    if reftype == "dark" {
        words.push("READMODE, EXPTIME".into());
    }
    words.join(", ")
}

/// The candidate that applies to the exposure, or `None` (see [`why_none`]).
pub fn choose(reftype: &str, exposure: &Meta, candidates: &[Candidate]) -> Option<Choice> {
    let wanted = canonical(reftype);
    let mut fit: Vec<(&Candidate, Rank)> = candidates
        .iter()
        .filter(|c| c.reftype == wanted && fits(&wanted, exposure, c))
        .map(|c| (c, Rank::of(&wanted, exposure, c)))
        .collect();
    fit.sort_by(|(a, x), (b, y)| x.order(y).then_with(|| a.path.cmp(&b.path)));
    let nearest = &fit.first()?.1;
    let as_near =
        |r: &Rank| nearest.but_days(r).is_eq() && (r.days <= nearest.days + SECOND || r.days == nearest.days);
    let mut tied: Vec<&(&Candidate, Rank)> = fit.iter().take_while(|(_, r)| as_near(r)).collect();
    let date = |c: &Candidate| middle(&c.meta).unwrap_or_default();
    tied.sort_by(|(a, _), (b, _)| {
        let apart = date(a) - date(b);
        let order = if apart.abs() > SECOND { apart.total_cmp(&0.0) } else { std::cmp::Ordering::Equal };
        order.then_with(|| b.version.cmp(&a.version)).then_with(|| a.path.cmp(&b.path))
    });
    let (candidate, rank) = tied.first()?;
    let mut doubts = Vec::new();
    let mut reason = rank.reason(exposure, candidate);
    if let Some((other, _)) = tied.iter().find(|(c, _)| c.path != candidate.path) {
        let earlier = date(other) - date(candidate) > SECOND;
        let newer = !earlier && candidate.version > other.version;
        let taken = if earlier { "the earlier" } else { "the first by name" };
        // Of two sets of this night, one before and one after, either will do.
        if candidate.origin == Origin::ThisNight && earlier {
            reason += &format!("; {} is as near: the earlier is taken", file_name(&other.path));
        } else if newer {
            reason += &format!("; {} is an older version (REFVER)", file_name(&other.path));
        } else {
            doubts.push(format!(
                "{wanted}: {} and {} match equally ({}, as near in time): {taken} is taken; remove one, or \
                 give --override_{wanted}=FILE",
                candidate.path.display(),
                other.path.display(),
                compared(&wanted, exposure)
            ));
        }
    }
    let otherwise =
        if candidate.origin.by_hand() { said_otherwise(&wanted, exposure, candidate) } else { Vec::new() };
    if !otherwise.is_empty() {
        let (file, what) = (candidate.path.display(), otherwise.join("; "));
        doubts.push(format!(
            "{wanted}: {file} is of another kind ({what}): it is taken as it was given by hand"
        ));
    }
    let other_time = rank.exptime.is_finite() && rank.exptime > OTHER_EXPTIME;
    if wanted == "dark" && rank.origin > 0 && (rank.other_mode || other_time) {
        doubts.push(format!(
            "dark: {} is not of this exposure's kind:{}; none that matches it better",
            candidate.path.display(),
            rank.unlike(exposure, candidate).replacen(',', "", 1)
        ));
    }
    if let Some(days) = ahead(&wanted, exposure, candidate) {
        doubts.push(format!(
            "{wanted}: {} is from the future: its date (EXPDTST, EXPJDST …) is {} after the exposure's",
            candidate.path.display(),
            apart(days)
        ));
    }
    if wanted == "sky" && rank.origin > 0 && rank.days.is_finite() && rank.days > OLD_SKY {
        doubts.push(format!(
            "sky: {} is {} from the exposure: the sky may have changed",
            candidate.path.display(),
            apart(rank.days)
        ));
    }
    if rank.early {
        doubts.push(format!(
            "{wanted}: {} is from the future: its USEAFTER is {} after the exposure's date, and there is no other",
            candidate.path.display(),
            apart(candidate.useafter.unwrap_or_default() - julian_date(exposure).unwrap_or_default())
        ));
    }
    Some(Choice { path: candidate.path.clone(), doubts, reason })
}

/// Why no candidate applies: "2 candidates, none with FILTER = K".
pub fn why_none(reftype: &str, exposure: &Meta, candidates: &[Candidate]) -> String {
    let wanted = canonical(reftype);
    let mut left: Vec<&Candidate> = candidates.iter().filter(|c| c.reftype == wanted).collect();
    let count = left.len();
    if count == 0 {
        return format!("no {wanted} reference was found");
    }
    let mut wishes = Vec::new();
    for rule in rules(&wanted, &exposure.instmode) {
        let before = left.len();
        left.retain(|c| rule.holds(exposure, &c.meta));
        if left.len() < before {
            wishes.push(rule.wish(exposure));
        }
        if left.is_empty() {
            break;
        }
    }
    if let (1, Some(only)) = (count, candidates.iter().find(|c| c.reftype == wanted)) {
        return format!("the only candidate, {}, has not {}", only.path.display(), wishes.join(" and "));
    }
    format!("{count} candidates, none with {}", wishes.join(" and "))
}

pub(super) fn fits(reftype: &str, exposure: &Meta, candidate: &Candidate) -> bool {
    if candidate.origin.by_hand() {
        return Agree(Key::Detector).holds(exposure, &candidate.meta);
    }
    if matches!(reftype, "lenspx" | "wavemap" | "dispersion") && exposure.instmode != "LENSLET" {
        return false;
    }
    rules(reftype, &exposure.instmode).iter().all(|rule| rule.holds(exposure, &candidate.meta))
}

/// How many days after the exposure a calibration of its nights was taken, where that is
/// more than its own night allows. A reference with a USEAFTER says by that when it applies.
fn ahead(reftype: &str, exposure: &Meta, candidate: &Candidate) -> Option<f64> {
    const NIGHT: f64 = 1.0;
    let nightly = matches!(reftype, "dark" | "flat" | "lenspx" | "sky" | "wavemap");
    if !nightly || candidate.origin.by_hand() || candidate.useafter.is_some() {
        return None;
    }
    let days = middle(&candidate.meta)? - middle(exposure)?;
    (days > NIGHT).then_some(days)
}

/// The rules that the keywords of a candidate break, by what they say: those that it lacks
/// break none.
fn said_otherwise(reftype: &str, exposure: &Meta, candidate: &Candidate) -> Vec<String> {
    let broken = rules(reftype, &exposure.instmode).iter().filter(|r| !r.holds(exposure, &candidate.meta));
    broken.filter(|r| r.is_said(&candidate.meta)).map(|r| r.broken(exposure, &candidate.meta)).collect()
}

/// What decides among candidates that fit; smaller is better.
pub(super) struct Rank {
    pub(super) origin: u8,
    pub(super) other_mode: bool,
    /// A part is taken out of a larger one.
    pub(super) larger: bool,
    /// A reference of a folder does not apply yet (USEAFTER).
    pub(super) early: bool,
    pub(super) exptime: f64,
    pub(super) days: f64,
}

impl Rank {
    pub(super) fn of(reftype: &str, exposure: &Meta, candidate: &Candidate) -> Rank {
        let origin = candidate.origin.rank();
        let exptime = match (exposure.exptime, candidate.meta.exptime) {
            _ if reftype != "dark" => 0.0,
            (Some(e), Some(c)) if (e - c).abs() <= 1e-3 * e.abs() => 0.0,
            (Some(e), Some(c)) if e > 0.0 && c > 0.0 => (e / c).ln().abs(),
            (None, _) => 0.0,
            _ => f64::INFINITY,
        };
        let days = match (middle(exposure), middle(&candidate.meta)) {
            (Some(e), Some(c)) => (e - c).abs(),
            _ => f64::INFINITY,
        };
        let other_mode =
            matches!(reftype, "dark" | "sky") && !Agree(Readmode).holds(exposure, &candidate.meta);
        let larger = !Agree(Subarray).holds(exposure, &candidate.meta);
        // A flat of a window is one about the window's own level, not the frame's.
        let larger = if reftype == "flat" && exposure.subarrid > 0 { !larger } else { larger };
        let early = candidate.origin == Origin::Folder
            && candidate.useafter.zip(julian_date(exposure)).is_some_and(|(after, e)| after > e);
        Rank { origin, other_mode, larger, early, exptime, days }
    }

    fn order(&self, other: &Rank) -> std::cmp::Ordering {
        self.but_days(other).then(self.days.total_cmp(&other.days))
    }

    /// The order of all that counts before the distance in time.
    fn but_days(&self, other: &Rank) -> std::cmp::Ordering {
        let by_hand = |r: &Rank| r.origin > 0;
        by_hand(self)
            .cmp(&by_hand(other))
            .then(self.other_mode.cmp(&other.other_mode))
            .then((self.exptime > 0.0).cmp(&(other.exptime > 0.0)))
            .then(self.larger.cmp(&other.larger))
            .then(self.origin.cmp(&other.origin))
            .then(self.early.cmp(&other.early))
            .then(self.exptime.total_cmp(&other.exptime))
    }

    fn reason(&self, exposure: &Meta, candidate: &Candidate) -> String {
        let mut reason = candidate.origin.to_string();
        if self.origin > 0 {
            reason += &match self.days {
                d if !d.is_finite() => ", by name (no dates to compare)".to_owned(),
                d => format!(", nearest in time: {}", apart(d)),
            };
            reason += &self.unlike(exposure, candidate);
        }
        reason
    }

    /// In what a candidate is not as the exposure.
    fn unlike(&self, exposure: &Meta, candidate: &Candidate) -> String {
        let mut text = String::new();
        if self.other_mode {
            text += &format!(", READMODE {} for {}", candidate.meta.readmode, exposure.readmode);
        }
        if let (true, Some(e)) = (self.exptime > 0.0, exposure.exptime) {
            text += &match candidate.meta.exptime {
                Some(c) => format!(", EXPTIME {} s for {} s", short(c), short(e)),
                None => format!(", no EXPTIME where the exposure's is {} s", short(e)),
            };
        }
        text
    }
}

/// A time in days, in words.
pub(super) fn apart(days: f64) -> String {
    match days {
        d if d < 1.0 / 24.0 => format!("{:.0} min", d * 1440.0),
        d if d < 2.0 => format!("{:.1} h", d * 24.0),
        d => format!("{d:.1} d"),
    }
}

/// The Julian date of an exposure's middle.
pub fn middle(meta: &Meta) -> Option<f64> {
    let begin = julian_date(meta)?;
    let end = meta.jd_end.filter(|end| *end >= begin);
    Some(begin + end.map_or(meta.exptime.unwrap_or(0.0) / 86_400.0, |end| end - begin) / 2.0)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The Julian date of an exposure's beginning: its own, or that of EXPDTST.
pub fn julian_date(meta: &Meta) -> Option<f64> {
    meta.jd.or_else(|| {
        let part = |from: usize, to: usize| meta.expdtst.get(from..to).and_then(|t| t.parse::<i64>().ok());
        let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
        // Fliegel & Van Flandern (1968): the Julian day number at noon of a Gregorian date.
        let a = (month - 14) / 12;
        let number = (1461 * (year + 4800 + a)) / 4 + (367 * (month - 2 - 12 * a)) / 12
            - (3 * ((year + 4900 + a) / 100)) / 4
            + day
            - 32075;
        let seconds =
            part(8, 10).unwrap_or(0) * 3600 + part(10, 12).unwrap_or(0) * 60 + part(12, 14).unwrap_or(0);
        Some(number as f64 - 0.5 + seconds as f64 / 86400.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(filter: &str, jd: f64) -> Meta {
        Meta {
            detector: "IMG1".into(),
            instmode: "IMG".into(),
            filter: filter.into(),
            jd: Some(jd),
            exptime: Some(100.0),
            ..Meta::default()
        }
    }

    fn candidate(name: &str, reftype: &str, origin: Origin, meta: Meta) -> Candidate {
        let version = Vec::new();
        Candidate { path: name.into(), reftype: reftype.into(), meta, origin, useafter: None, version }
    }

    #[test]
    fn the_night_comes_before_refs_and_the_hand_before_both() {
        let mut all = vec![
            candidate("refs/a.fits", "flat", Origin::Folder, meta("K", 100.0)),
            candidate("m/b.fits", "flat", Origin::ThisNight, meta("K", 100.5)),
            candidate("m/c.fits", "flat", Origin::ThisNight, meta("K", 100.01)),
            candidate("m/d.fits", "flat", Origin::ThisNight, meta("H", 100.0)),
        ];
        let choice = choose("flat", &meta("K", 100.0), &all).expect("a flat");
        assert_eq!(choice.path, Path::new("m/c.fits"));
        assert_eq!(choice.reason, "this night, nearest in time: 14 min");
        all.push(candidate("x.fits", "flat", Origin::ByHand, meta("J", 0.0)));
        assert_eq!(choose("flat", &meta("K", 100.0), &all).expect("a flat").reason, "given by hand");
    }

    #[test]
    fn ties_go_by_path_whatever_the_order() {
        let mut all = vec![
            candidate("b.fits", "gain", Origin::Folder, meta("", 1.0)),
            candidate("a.fits", "gain", Origin::Folder, meta("", 1.0)),
        ];
        for _ in 0..2 {
            let choice = choose("gain", &meta("K", 5.0), &all).expect("gain");
            assert_eq!(choice.path, Path::new("a.fits"));
            assert!(choice.doubts[0].contains("a.fits and b.fits match equally"), "{:?}", choice.doubts);
            all.reverse();
        }
    }

    #[test]
    fn of_two_as_near_the_earlier_is_taken_and_told() {
        let exposure = Meta { exptime: Some(7200.0), ..meta("K", 100.0) };
        let sky = |name: &str, jd: f64| candidate(name, "sky", Origin::ThisNight, meta("K", jd));
        // From middle to middle: 1 h and 1 h, rounding aside.
        let at = |hours: f64| 100.0 + (hours + 1.0) / 24.0 - 50.0 / 86_400.0;
        let mut all = vec![sky("z.fits", at(-1.0)), sky("a.fits", at(1.0) - 1e-9), sky("b.fits", at(1.5))];
        for _ in 0..2 {
            let choice = choose("sky", &exposure, &all).expect("sky");
            assert_eq!(choice.path, Path::new("z.fits"));
            assert!(choice.reason.contains("1.0 h; a.fits is as near"), "{}", choice.reason);
            assert!(choice.doubts.is_empty());
            all.reverse();
        }
        all.iter_mut().for_each(|c| c.origin = Origin::Folder);
        let choice = choose("sky", &exposure, &all).expect("sky");
        assert!(choice.doubts[0].contains("z.fits and a.fits match equally"), "{:?}", choice.doubts);
    }

    #[test]
    fn a_reference_from_the_future_is_the_last_resort_and_told() {
        let mut all = vec![
            candidate("a.fits", "gain", Origin::Folder, meta("", 5.1)),
            candidate("b.fits", "gain", Origin::Folder, meta("", 1.0)),
        ];
        all[0].useafter = Some(5.5);
        all[1].useafter = Some(1.0);
        let choice = choose("gain", &meta("K", 5.0), &all).expect("gain");
        assert_eq!((choice.path.as_path(), choice.doubts.len()), (Path::new("b.fits"), 0));
        let choice = choose("gain", &meta("K", 5.0), &all[..1]).expect("gain");
        assert!(choice.doubts[0].contains("its USEAFTER is 12.0 h after"), "{:?}", choice.doubts);
    }

    #[test]
    fn a_dark_is_nearest_in_exposure_time_and_of_the_same_read_mode_if_there_is_one() {
        let dark = |name: &str, exptime: f64, readmode: &str, jd: f64| {
            let m = Meta { exptime: Some(exptime), readmode: readmode.into(), ..meta("", jd) };
            candidate(name, "dark", Origin::Folder, m)
        };
        let all = [dark("a", 100.0, "CDS", 1.0), dark("b", 90.0, "UTR", 9.0), dark("c", 10.0, "UTR", 1.0)];
        let science = Meta { readmode: "UTR".into(), ..meta("K", 1.0) };
        let choice = choose("dark", &science, &all[..1]).expect("a dark of another mode");
        assert!(choice.reason.ends_with("READMODE CDS for UTR"), "{}", choice.reason);
        let choice = choose("dark", &science, &all).expect("dark");
        assert_eq!(choice.path, Path::new("b"));
        assert!(choice.reason.ends_with("EXPTIME 90 s for 100 s"), "{}", choice.reason);
    }

    #[test]
    fn why_none_names_what_is_missing() {
        let all = [
            candidate("a", "flat", Origin::Folder, meta("H", 1.0)),
            candidate("b", "flat", Origin::Folder, meta("J", 1.0)),
        ];
        let exposure = meta("K", 1.0);
        assert!(choose("flat", &exposure, &all).is_none());
        assert_eq!(why_none("flat", &exposure, &all), "2 candidates, none with FILTER = K");
        assert_eq!(why_none("sky", &exposure, &all), "no sky reference was found");
        let other = Meta { detector: "IMG2".into(), ..exposure };
        assert_eq!(why_none("flat", &other, &all), "2 candidates, none with DETECTOR = IMG2");
    }

    #[test]
    fn subarrays_must_agree_where_the_reference_states_one() {
        let full = Meta { subarray: "FULL".into(), ..meta("", 1.0) };
        let all = [candidate("a", "mask", Origin::Folder, full)];
        assert!(choose("mask", &meta("", 1.0), &all).is_some());
        // A part is taken out of the full frame, unless there is one of its own.
        let sub = |name: &str| Meta { subarray: name.into(), ..meta("", 1.0) };
        assert!(choose("mask", &sub("SUB1"), &all).is_some());
        let [full] = all;
        let all = [full, candidate("b", "mask", Origin::Folder, sub("SUB1"))];
        assert_eq!(choose("mask", &sub("SUB1"), &all).expect("mask").path, Path::new("b"));
        assert_eq!(
            why_none("mask", &sub("SUB2"), &all[1..]),
            "the only candidate, b, has not SUBARRAY = SUB2 or FULL"
        );
    }

    #[test]
    fn a_lenspx_is_for_the_lenslets_of_one_mode() {
        let lenslet = |scale: f64| Meta {
            detector: "IFU".into(),
            instmode: "LENSLET".into(),
            filter: "K".into(),
            grating: "4000-K".into(),
            scale: Some(scale),
            ..Meta::default()
        };
        let all = [candidate("a", "lenspx", Origin::Folder, lenslet(0.009))];
        assert!(choose("lenspx", &lenslet(0.009), &all).is_some());
        assert!(choose("lenspx", &lenslet(0.05), &all).is_none());
        let slicer = Meta { instmode: "SLICER".into(), ..lenslet(0.009) };
        assert!(choose("lenspx", &slicer, &all).is_none());
    }

    #[test]
    fn headers_become_candidates_under_every_tradition() {
        let mut h = Header::new();
        assert!(candidate_from_header(Path::new("x"), &h, Origin::Folder).is_none());
        for (written, meant) in [
            ("LINEARITY", "nonlin"),
            ("DQ", "mask"),
            ("LEN-SPX", "lenspx"),
            ("superbias", "bias"),
            ("Dark", "dark"),
        ] {
            h.set("REFTYPE", written, "");
            h.set("USEAFTER", "2024-01-02T12:00:00", "");
            let c = candidate_from_header(Path::new("x"), &h, Origin::Folder).expect(written);
            assert_eq!(c.reftype, meant);
            assert_eq!(julian_date(&c.meta), Some(2_460_312.0));
        }
    }
}
