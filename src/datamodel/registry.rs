//! Every keyword that means something, in one table: `registry.csv`.
//!
//! | column | |
//! |---|---|
//! | keyword | as FITS has it |
//! | paths | where the data models of liger_iris_pipeline and iris_pipeline keep it |
//! | type | `s` text, `n` number, `i` whole number, `b` logical; empty: any |
//! | unit | |
//! | allowed | the values that it may have; empty: any |
//! | required, expected | by level: `r` one read, `0` ramp, `1` raw science frame or rate, `2` product, `c` reference |
//! | blend | what a combination says where frames differ: [`Rule`] |
//! | stands_for | the keyword whose older or observatory name it is, `/` how many of its units make one of that keyword's |
//! | source | the schemas and tables that define it, with their lines: `liger` and `iris_pipeline` (data models), `model` (the observatory's event models), `readout` (the detectors' headers), `FITS-4.0`, `irisgpu` |
//!
//! Reading ([`names`], [`completed`]), paths of CRDS ([`paths`]), checking
//! ([`super::check()`]), combining ([`super::merge()`]) and writing all ask it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::fits::{Header, Value};

const TABLE: &str = include_str!("registry.csv");

/// What kind of value a keyword has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// T or F.
    Logical,
    /// Any of them.
    Any,
}

/// What a combination of frames says of a keyword in which they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The first frame's value.
    First,
    /// The last frame's.
    Last,
    /// The least, or the date that sorts first.
    Min,
    /// The greatest, or the date that sorts last.
    Max,
    /// The mean; of dates nothing (they are made anew from the number beside them).
    Mean,
    /// The sum.
    Sum,
    /// `MULTIPLE`.
    Multi,
    /// The value of the frame that began first (EXPJDST).
    Earliest,
    /// The value of the frame that ended last (EXPJDEND).
    Latest,
    /// Not of the data model: text `MULTIPLE`, numbers the mean.
    Unknown,
}

/// One keyword.
#[derive(Debug)]
pub struct Entry {
    /// The keyword.
    pub keyword: &'static str,
    /// Where the packages' models keep it, in capitals: `META.INSTRUMENT.FILTER`.
    pub paths: Vec<String>,
    /// What kind of value it has.
    pub kind: Type,
    /// Its unit; empty for none.
    pub unit: &'static str,
    /// The values that it may have; empty: any.
    pub allowed: Vec<&'static str>,
    /// Letters of the levels that cannot do without.
    pub required: &'static str,
    /// Letters of the levels that should have it.
    pub expected: &'static str,
    /// How frames are combined in it.
    pub blend: Rule,
    /// The keyword whose other name it is, and how many of its units make one of that
    /// one's.
    pub stands_for: Option<(&'static str, f64)>,
    /// Who defines it.
    pub source: &'static str,
}

impl Entry {
    fn parse(line: &'static str) -> Option<Entry> {
        let mut columns = line.split(',');
        let mut next = || columns.next().unwrap_or_default();
        let keyword = next();
        let paths = next().split_whitespace().map(str::to_ascii_uppercase).collect();
        let kind = match next() {
            "s" => Type::Text,
            "n" => Type::Number,
            "i" => Type::Integer,
            "b" => Type::Logical,
            _ => Type::Any,
        };
        let unit = next();
        let allowed = next().split('|').filter(|v| !v.is_empty()).collect();
        let (required, expected) = (next(), next());
        let blend = match next() {
            "first" => Rule::First,
            "last" => Rule::Last,
            "min" => Rule::Min,
            "max" => Rule::Max,
            "mean" => Rule::Mean,
            "sum" => Rule::Sum,
            "multi" => Rule::Multi,
            "earliest" => Rule::Earliest,
            "latest" => Rule::Latest,
            _ => Rule::Unknown,
        };
        let stands_for = match next() {
            "" => None,
            text => {
                let (keyword, divisor) = text.split_once('/').unwrap_or((text, "1"));
                Some((keyword, divisor.parse().ok()?))
            }
        };
        let source = next();
        (!keyword.is_empty()).then_some(Entry {
            keyword,
            paths,
            kind,
            unit,
            allowed,
            required,
            expected,
            blend,
            stands_for,
            source,
        })
    }

    /// Whether the data model itself defines it, not the telemetry of the observatory,
    /// whose models change.
    pub fn of_the_model(&self) -> bool {
        ["liger:", "irisgpu", "FITS", "readout:"].iter().any(|s| self.source.starts_with(s))
    }
}

static REGISTRY: LazyLock<BTreeMap<&'static str, Entry>> =
    LazyLock::new(|| TABLE.lines().skip(1).filter_map(Entry::parse).map(|e| (e.keyword, e)).collect());

/// Each keyword with its other names after it.
static NAMES: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let mut names: BTreeMap<_, _> = REGISTRY.keys().map(|k| (*k, vec![*k])).collect();
    for entry in REGISTRY.values() {
        if let Some((keyword, _)) = entry.stands_for {
            names.entry(keyword).or_insert_with(|| vec![keyword]).push(entry.keyword);
        }
    }
    names
});

/// All keywords, in order.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    REGISTRY.values()
}

/// What is known of a keyword.
pub fn entry(keyword: &str) -> Option<&'static Entry> {
    REGISTRY.get(keyword)
}

/// The keyword and the other names that it may be read under, in the order in which
/// they count: READMODE, SAMPMODE. Empty for a keyword that is not in the table.
pub fn names(keyword: &str) -> &'static [&'static str] {
    NAMES.get(keyword).map_or(&[], Vec::as_slice)
}

/// The paths of a keyword, in capitals; none for a keyword that no model knows.
pub fn paths(keyword: &str) -> &'static [String] {
    REGISTRY.get(keyword).map_or(&[], |e| e.paths.as_slice())
}

/// The keyword that a path is written as.
pub fn keyword_of(path: &str) -> Option<&'static str> {
    REGISTRY.values().find(|e| e.paths.iter().any(|p| p.eq_ignore_ascii_case(path))).map(|e| e.keyword)
}

/// Puts in what a header says under other names: READMODE where there is only
/// SAMPMODE. The other names stay.
pub fn completed(header: &mut Header) {
    let found: Vec<(&str, &str, Value)> = entries()
        .filter_map(|e| {
            let (keyword, divisor) = e.stands_for?;
            let value = header.get(e.keyword).filter(|_| header.has(e.keyword))?;
            Some((keyword, e.keyword, translated(e.keyword, value, divisor)?))
        })
        .collect();
    for (keyword, other, value) in found {
        header.set_default(keyword, value, &format!("from {other}"));
    }
    if let (Some(detector), false) = (header.text("DET_ID"), header.has("INSTMODE"))
        && let Some(mode) = mode_of(&detector)
    {
        header.set("INSTMODE", mode, "from DET_ID");
    }
}

/// The mode that a detector's name tells, where it tells one.
pub(super) fn mode_of(detector: &str) -> Option<&'static str> {
    match detector.to_ascii_uppercase().as_str() {
        "SLC" | "SLICER" => Some("SLICER"),
        "LEN" | "LENSLET" => Some("LENSLET"),
        name if name.starts_with("IMG") => Some("IMG"),
        _ => None,
    }
}

/// SARRMODE in the words of SUBARRAY.
pub(super) fn subarray_of(mode: &str) -> &str {
    match mode {
        "FULL_FRAME" => "FULL",
        "SUB_ARRAY" => "CUSTOM",
        other => other,
    }
}

/// A value of `other` in the words and the unit of the keyword it stands for; `None`
/// where there are none.
pub(super) fn translated(other: &str, value: &Value, divisor: f64) -> Option<Value> {
    match (other, value) {
        ("DET_ID", Value::Text(t)) if matches!(mode_of(t), Some("SLICER" | "LENSLET")) => Some("IFU".into()),
        ("SARRMODE", Value::Text(t)) => Some(subarray_of(t).into()),
        ("IFSMODE", Value::Text(t)) => Some(t.to_ascii_uppercase().into()),
        _ if divisor == 1.0 => Some(value.clone()),
        (_, Value::Integer(i)) => Some((*i as f64 / divisor).into()),
        (_, Value::Real(r)) => Some((r / divisor).into()),
        (_, Value::Text(t)) => t.trim().parse::<f64>().ok().map(|v| (v / divisor).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(paths("FILTER"), ["META.INSTRUMENT.FILTER"]);
        assert_eq!(paths("NOSUCH"), [] as [String; 0]);
        assert_eq!(keyword_of("meta.instrument.era"), Some("INSTERA"));
    }

    #[test]
    fn the_table_is_whole() {
        let lines = TABLE.lines().skip(1).count();
        assert_eq!(entries().count(), lines, "a keyword stands in it twice");
        for line in TABLE.lines() {
            assert_eq!(line.split(',').count(), 10, "{line}");
        }
        for e in entries() {
            assert!((1..=8).contains(&e.keyword.len()) && !e.source.is_empty(), "{}", e.keyword);
            assert!(
                e.required.chars().chain(e.expected.chars()).all(|c| "r012c".contains(c)),
                "{}",
                e.keyword
            );
            if let Some((keyword, _)) = e.stands_for {
                let it = entry(keyword).expect(keyword);
                assert!(it.stands_for.is_none(), "{keyword} is another name itself");
            }
        }
    }

    #[test]
    fn other_names_and_units() {
        assert_eq!(names("READMODE"), ["READMODE", "SAMPMODE"]);
        assert_eq!(names("EXPNUM"), ["EXPNUM", "EXPNO", "EXP_NO"]);
        let mut h = Header::new();
        h.set("IFSSCALE", 9, "");
        h.set("DET_ID", "LEN", "");
        h.set("SARRMODE", "FULL_FRAME", "");
        h.set("SAMPMODE", "UTR", "");
        h.set("READMODE", "MCDS", "");
        completed(&mut h);
        assert_eq!(h.number("SCALE"), Some(0.009));
        for (keyword, value) in
            [("DETECTOR", "IFU"), ("INSTMODE", "LENSLET"), ("SUBARRAY", "FULL"), ("READMODE", "MCDS")]
        {
            assert_eq!(h.text(keyword).as_deref(), Some(value), "{keyword}");
        }
        assert!(h.has("IFSSCALE"));
    }
}
