//! What a header lacks, says wrongly, or says against itself.

use super::registry::{Entry, Type, entries, entry, names, translated};
use super::times;
use crate::fits::{Card, Header, Value};

/// What a file is, as far as its keywords go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One read of a set.
    Read,
    /// A raw ramp.
    Ramp,
    /// A raw science frame.
    Frame,
    /// What a pipeline made.
    Product,
    /// A reference.
    Reference,
}

impl Level {
    /// Of a header, with the number of axes (of more than one pixel) of its image.
    pub fn of(header: &Header, axes: usize) -> Level {
        let level = header.integer("DATALVL");
        if header.has("REFTYPE") {
            Level::Reference
        } else if header.has("DRSVER") || level.is_some_and(|l| l >= 2) {
            Level::Product
        } else if axes <= 2 && header.has("READ_NO") && level != Some(1) {
            Level::Read
        } else if axes > 2 || level == Some(0) {
            Level::Ramp
        } else {
            Level::Frame
        }
    }

    /// Its letter in the registry.
    fn letter(self) -> char {
        match self {
            Level::Read => 'r',
            Level::Ramp => '0',
            Level::Frame => '1',
            Level::Product => '2',
            Level::Reference => 'c',
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Level::Read => "one read",
            Level::Ramp => "raw ramp",
            Level::Frame => "raw science frame",
            Level::Product => "product",
            Level::Reference => "reference",
        }
    }
}

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The file cannot be read, or not be reduced, whatever its keywords say.
    Unreadable,
    /// Two keywords cannot both be true.
    Contradictory,
    /// A value of the wrong type, or none of those allowed.
    Illegal,
    /// A keyword is not there.
    Missing,
    /// A keyword under another name.
    Aliased,
    /// A card that products cannot have as it is.
    Card,
}

impl What {
    /// In one word.
    pub fn text(self) -> &'static str {
        match self {
            What::Unreadable => "unreadable",
            What::Contradictory => "contradictory",
            What::Illegal => "illegal",
            What::Missing => "missing",
            What::Aliased => "aliased",
            What::Card => "card",
        }
    }
}

/// Something found in a header.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What.
    pub what: What,
    /// Whether it must be mended; else it is good to know.
    pub error: bool,
    /// The keyword.
    pub keyword: String,
    /// What is wrong with it, and how to mend it.
    pub sentence: String,
}

impl Finding {
    /// Something that must be mended.
    pub fn error(what: What, keyword: &str, sentence: impl Into<String>) -> Finding {
        Finding { what, error: true, keyword: keyword.to_owned(), sentence: sentence.into() }
    }

    fn note(what: What, keyword: &str, sentence: impl Into<String>) -> Finding {
        Finding { error: false, ..Finding::error(what, keyword, sentence) }
    }
}

/// Compares a header of `level` with the registry. Errors are what reduction cannot do
/// without, values that the data model does not allow, and contradictions. What only the
/// observatory's telemetry models ask for or allow is a note: they change.
pub fn check(header: &Header, level: Level) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        contradictions(header).into_iter().map(|(k, s)| Finding::error(What::Contradictory, &k, s)).collect();
    for e in entries() {
        if header.has(e.keyword) {
            found.extend(illegal(header, e));
            found.extend(e.stands_for.filter(|(k, _)| !header.has(k)).map(|(k, divisor)| {
                let unit = if divisor == 1.0 { String::new() } else { format!(" (divided by {divisor})") };
                Finding::note(What::Aliased, e.keyword, format!("{} is read as {k}{unit}", e.keyword))
            }));
        } else {
            found.extend(missing(header, e, level));
        }
    }
    found.extend(impossible(header));
    found.extend(cards(header));
    found.sort_by(|a, b| (!a.error, a.what, &a.keyword).cmp(&(!b.error, b.what, &b.keyword)));
    found
}

/// What a header says against itself, as the keyword and a sentence: times, and
/// keywords against their other names.
pub fn contradictions(header: &Header) -> Vec<(String, String)> {
    let mut found = times::disagreements(header);
    for e in entries() {
        let Some((keyword, divisor)) = e.stands_for else { continue };
        // An observer's NUMREADS may be the reads averaged at each end of NREADS.
        let (Some(value), Some(own)) = (header.get(e.keyword), header.get(keyword)) else { continue };
        if keyword == "NREADS" || !header.has(e.keyword) || !header.has(keyword) {
            continue;
        }
        let Some(meant) = translated(e.keyword, value, divisor) else { continue };
        if !same(&meant, own) {
            found.push((
                e.keyword.to_owned(),
                format!(
                    "{} = {} says that {keyword} is {}, but {keyword} = {}: {keyword} is believed; correct one of them",
                    e.keyword,
                    quoted(value),
                    quoted(&meant),
                    quoted(own)
                ),
            ));
        }
    }
    found
}

fn same(a: &Value, b: &Value) -> bool {
    let number = |v: &Value| match v {
        Value::Integer(i) => Some(*i as f64),
        Value::Real(r) => Some(*r),
        Value::Text(t) => t.trim().parse().ok(),
        _ => None,
    };
    match (number(a), number(b), a, b) {
        (Some(a), Some(b), ..) => (a - b).abs() <= 1e-3 * a.abs().max(b.abs()),
        (_, _, Value::Text(a), Value::Text(b)) => a.trim().eq_ignore_ascii_case(b.trim()),
        _ => a == b,
    }
}

fn illegal(header: &Header, e: &Entry) -> Option<Finding> {
    let value = header.get(e.keyword)?;
    let is = |what: &str, mend: &str| Some(format!("{} = {} is {what}: {mend}", e.keyword, quoted(value)));
    let sentence = match (e.kind, value) {
        (_, Value::Other(_)) => is("not a value that FITS has", "write a number, T, F, or text in quotes"),
        (Type::Text, Value::Integer(_) | Value::Real(_) | Value::Logical(_)) => {
            is("not text", "write it in quotes")
        }
        (Type::Number | Type::Integer, Value::Text(t)) => match t.trim().parse::<f64>() {
            Ok(_) => is("text", "write the number without quotes"),
            Err(_) => is("text", &format!("write a number{}", in_unit(e))),
        },
        (Type::Integer, Value::Real(r)) if r.fract() != 0.0 => is("no whole number", "write one"),
        (Type::Number | Type::Integer, Value::Logical(_)) => is("logical", "write a number"),
        (Type::Logical, Value::Logical(_)) => None,
        (Type::Logical, _) => is("neither T nor F", "write one of them, without quotes"),
        _ => None,
    }
    .or_else(|| {
        let text = header.text(e.keyword)?;
        let equal = |a: &&str| {
            *a == text || matches!((a.parse::<f64>(), text.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
        };
        if e.allowed.is_empty() || e.allowed.iter().any(equal) {
            return None;
        }
        let near = e.allowed.iter().find(|a| a.eq_ignore_ascii_case(&text));
        let mend = match near {
            Some(a) => format!("write '{a}'"),
            None => format!("set it to one of {}", e.allowed.join(", ")),
        };
        is("not a value it may have", &mend)
    })?;
    // Matching knows no case of letters; other programs may.
    let other_case =
        header.text(e.keyword).is_some_and(|t| e.allowed.iter().any(|a| a.eq_ignore_ascii_case(&t)));
    let wrong = if e.of_the_model() && !other_case { Finding::error } else { Finding::note };
    Some(wrong(What::Illegal, e.keyword, sentence))
}

fn in_unit(e: &Entry) -> String {
    if e.unit.is_empty() { String::new() } else { format!(" ({})", e.unit) }
}

fn missing(header: &Header, e: &Entry, level: Level) -> Option<Finding> {
    let letter = level.letter();
    let (required, expected) = (e.required.contains(letter), e.expected.contains(letter));
    if !(required || expected) || names(e.keyword).iter().any(|k| header.has(k)) {
        return None;
    }
    // A set's own name of a keyword that the header has under the usual one.
    if e.stands_for.is_some_and(|(k, _)| header.has(k)) {
        return None;
    }
    let others = match names(e.keyword) {
        [_, others @ ..] if !others.is_empty() => format!(" (or {})", others.join(", ")),
        _ => String::new(),
    };
    let values = if e.allowed.is_empty() || e.allowed.len() > 12 {
        in_unit(e)
    } else {
        format!(": one of {}", e.allowed.join(", "))
    };
    let none = if header.get(e.keyword).is_some() { "has no value" } else { "is missing" };
    let sentence = format!("{}{others} {none}; set it{values}", e.keyword);
    Some(if required {
        Finding::error(What::Missing, e.keyword, sentence)
    } else {
        Finding::note(What::Missing, e.keyword, sentence)
    })
}

/// Numbers that reduction reads, with what they may be.
const RANGES: [(&str, f64, f64, &str); 9] = [
    ("EXPTIME", 0.0, 1e7, "s"),
    ("RA", 0.0, 360.0, "deg"),
    ("DEC", -90.0, 90.0, "deg"),
    ("SCALE", 1e-4, 1.0, "arcsec a pixel or spaxel"),
    ("NREADS", 1.0, 1e6, ""),
    ("NRAMPS", 1.0, 1e6, ""),
    ("EXPNUM", 0.0, 1e9, ""),
    ("GAIN", 1e-3, 1e3, "e-/DN"),
    ("READNOIS", 0.0, 1e4, "e-"),
];

/// Values that reduction reads and cannot use, as sentences.
pub fn unusable(header: &Header) -> Vec<String> {
    let no_number = |(key, ..): &(&str, f64, f64, &str)| {
        let text = header.text(key).filter(|t| !t.is_empty() && header.number(key).is_none())?;
        Some(format!("{key} = '{text}' is no number: it counts as missing"))
    };
    // Of EXPNUM the scan says more.
    let numbers = RANGES.iter().filter(|(key, ..)| *key != "EXPNUM").filter_map(no_number);
    let impossible = impossible(header).into_iter().filter(|f| f.keyword != "EXPNUM").map(|f| f.sentence);
    numbers.chain(impossible).collect()
}

/// Whose file it is, where it is not IRIS's (or Liger's, of which it is the twin).
pub fn another_instrument(header: &Header) -> Option<String> {
    let name = header.text("INSTRUME").filter(|t| !t.trim().is_empty())?;
    let known = ["IRIS", "LIGER", "ANY", "N/A"].iter().any(|k| name.trim().eq_ignore_ascii_case(k));
    (!known).then(|| format!("INSTRUME = '{name}' is another instrument"))
}

/// Values that no exposure has.
fn impossible(header: &Header) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, least, most, unit) in RANGES {
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        if let Some(v) = header.number(key).filter(|v| !(least..=most).contains(v)) {
            let sentence = format!("{key} = {v} cannot be: write a number from {least} to {most}{unit}");
            found.push(Finding::error(What::Illegal, key, sentence));
        }
    }
    if let (Some(low), Some(high)) = (header.number("WAVEMIN"), header.number("WAVEMAX"))
        && low > high
    {
        let sentence = format!("WAVEMIN = {low} is above WAVEMAX = {high}: correct one of them");
        found.push(Finding::error(What::Contradictory, "WAVEMIN", sentence));
    }
    found
}

/// Cards that products cannot have as they are.
fn cards(header: &Header) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen: std::collections::BTreeMap<&str, &Card> = std::collections::BTreeMap::new();
    for card in header.cards() {
        let k = card.keyword.as_str();
        let mut note = |sentence: String| found.push(Finding::note(What::Card, k, sentence));
        if !card.is_ascii() {
            note(format!(
                "{k} has characters that FITS forbids: products have ? for each; write plain ASCII"
            ));
        }
        let Some(value) = &card.value else {
            match k {
                "" | "COMMENT" | "HISTORY" => {}
                "CONTINUE" => note(
                    "CONTINUE continues no text (one that ends in &): products have it in a COMMENT".into(),
                ),
                _ => note(format!("{k} has no '= ' in columns 9 and 10: products have it in a COMMENT")),
            }
            continue;
        };
        if matches!(value, Value::Text(_)) && card.is_ascii() && !card.is_sound() {
            note(format!(
                "{k} = {} has no closing quote, or more than a comment behind it: products have this text",
                quoted(value)
            ));
        }
        if let Some(first) = seen.get(k) {
            if first.value != card.value {
                note(format!(
                    "{k} stands there again, as {}: the first counts, products have the other in a COMMENT; remove one",
                    quoted(value)
                ));
            }
            continue;
        }
        seen.insert(k, card);
        if matches!(value, Value::Other(t) if !t.starts_with('(')) && entry(k).is_none() {
            note(format!("{k} = {} is not a value that FITS has: products have it as text", quoted(value)));
        }
        if !standard(k) {
            note(format!(
                "{k} is not a keyword as FITS has them: products have it in capitals or in a COMMENT"
            ));
        }
    }
    found
}

/// A keyword as the standard wants it, or the name of a HIERARCH card.
fn standard(keyword: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    keyword.starts_with("HIERARCH ") || ((1..=8).contains(&keyword.len()) && keyword.chars().all(plain))
}

/// A value as sentences have it.
fn quoted(value: &Value) -> String {
    match value {
        Value::Text(t) => format!("'{t}'"),
        Value::Other(t) => t.clone(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => format!("{r:?}"),
        Value::Logical(b) => if *b { "T" } else { "F" }.into(),
        Value::Undefined => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cards: &[(&str, Value)]) -> Header {
        let mut h = Header::new();
        cards.iter().for_each(|(k, v)| h.set(k, v.clone(), ""));
        h
    }

    fn errors(header: &Header, level: Level) -> Vec<(What, String)> {
        check(header, level).into_iter().filter(|f| f.error).map(|f| (f.what, f.keyword)).collect()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_mend() {
        let h = header(&[
            ("DETECTOR", "IMG9".into()),
            ("FILTER", "kbb".into()),
            ("EXPTIME", "long".into()),
            ("NREADS", 2.5.into()),
            ("OBSNUM", 1.into()),
            ("SAMPMODE", "UTR".into()),
            ("PNTGST", "LOST".into()),
            ("SUBSTRT1", "1".into()),
        ]);
        let found = check(&h, Level::Ramp);
        let named = |k: &str| found.iter().find(|f| f.keyword == k).expect(k);
        for (k, part) in [
            ("DETECTOR", "set it to one of IMG, IMG1"),
            ("FILTER", "write 'Kbb'"),
            ("EXPTIME", "write a number (s)"),
            ("NREADS", "no whole number"),
            ("OBSNUM", "write it in quotes"),
            ("SUBSTRT1", "without quotes"),
        ] {
            let f = named(k);
            // A letter in another case is only a note.
            assert!(
                f.error != (k == "FILTER") && f.what == What::Illegal && f.sentence.contains(part),
                "{f:?}"
            );
        }
        assert!(named("SAMPMODE").what == What::Aliased && !named("SAMPMODE").error);
        // Telemetry is never an error.
        assert!(!named("PNTGST").error && named("PNTGST").what == What::Illegal);
        let airmass = named("AIRMASS");
        assert!(!airmass.error && airmass.what == What::Missing);
        assert!(found.iter().all(|f| f.keyword != "READMODE"), "it is there as SAMPMODE");
    }

    #[test]
    fn values_that_cannot_be_are_errors() {
        let h = header(&[
            ("DETECTOR", "IMG1".into()),
            ("EXPTIME", (-5.0).into()),
            ("RA", 500.0.into()),
            ("DEC", (-89.0).into()),
            ("WAVEMIN", 3.0.into()),
            ("WAVEMAX", 2.0.into()),
            ("DATE-OBS", "32/13/99".into()),
        ]);
        let found: Vec<String> = errors(&h, Level::Ramp).into_iter().map(|(_, k)| k).collect();
        assert_eq!(found, ["DATE-OBS", "WAVEMIN", "EXPTIME", "RA"]);
    }

    #[test]
    fn cards_that_are_none_are_noted() {
        let text: String =
            ["CONTINUE  'of nothing'", "FOO     bar", "OBJECT  = 'M 31", "FILTER  = 'K'", "END"]
                .iter()
                .map(|line| format!("{line:<80}"))
                .collect();
        let (h, _) = Header::parse(text.as_bytes()).expect("header");
        let found = cards(&h);
        let keys: Vec<_> = found.iter().map(|f| f.keyword.as_str()).collect();
        assert_eq!(keys, ["CONTINUE", "FOO", "OBJECT"]);
        assert!(
            found[2].sentence.starts_with("OBJECT = 'M 31' has no closing quote"),
            "{}",
            found[2].sentence
        );
    }

    #[test]
    fn each_level_wants_its_own() {
        let none = Header::new();
        let missing = |level| -> Vec<String> { errors(&none, level).into_iter().map(|(_, k)| k).collect() };
        assert_eq!(missing(Level::Read), ["DETECTOR", "READ_NO"]);
        assert_eq!(missing(Level::Ramp), ["DETECTOR"]);
        assert_eq!(missing(Level::Reference), ["DETECTOR", "REFTYPE"]);
        assert_eq!(missing(Level::Product), ["DATALVL", "DETECTOR"]);
        let notes = |level, k: &str| check(&none, level).iter().any(|f| f.keyword == k);
        assert!(notes(Level::Read, "FRM_TIME") && !notes(Level::Ramp, "FRM_TIME"));
        assert!(
            notes(Level::Ramp, "AIRMASS") && notes(Level::Product, "M2TIP") && !notes(Level::Frame, "M2TIP")
        );
        assert!(notes(Level::Reference, "USEAFTER") && !notes(Level::Reference, "AIRMASS"));
        let mut h = Header::new();
        assert_eq!((Level::of(&h, 4), Level::of(&h, 2)), (Level::Ramp, Level::Frame));
        h.set("READ_NO", 1, "");
        assert_eq!(Level::of(&h, 2), Level::Read);
        h.set("DATALVL", 2, "");
        assert_eq!(Level::of(&h, 2), Level::Product);
        h.set("REFTYPE", "dark", "");
        assert_eq!(Level::of(&h, 2), Level::Reference);
    }

    #[test]
    fn other_names_that_say_something_else_are_contradictions() {
        let h = header(&[
            ("DETECTOR", "IMG1".into()),
            ("DET_ID", "LEN".into()),
            ("SCALE", 0.009.into()),
            ("IFSSCALE", 9.into()),
            ("READMODE", "utr".into()),
            ("SAMPMODE", "UTR".into()),
            ("EXPNUM", 3.into()),
            ("EXPNO", 4.into()),
        ]);
        let found = contradictions(&h);
        let keys: Vec<_> = found.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["DET_ID", "EXPNO"]);
        assert!(found[0].1.contains("says that DETECTOR is 'IFU'"), "{}", found[0].1);
    }
}
