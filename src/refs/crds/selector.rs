//! The rules of a mapping as a tree, and the walk down it.
//!
//! What each selector does is what the CRDS client does, its oddities included:
//! dates and their like are compared as text, times in float32 seconds, numbers in
//! float32, and the order of equals is that of their sorted keys.

use std::collections::BTreeMap;

use super::build::Tree;
use super::condition::{float, listed, quoted};
use super::dates::Date;
use super::literal::Literal;
use super::weigh::Match;

/// Conditioned values by parkey.
pub(super) type Values = BTreeMap<String, String>;

/// One selector.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    pub(super) parameters: Vec<String>,
    pub(super) rule: Rule,
}

#[derive(Debug, Clone)]
pub(super) enum Rule {
    Match(Match),
    /// Entries by the text of their keys: dates, or versions padded with zeros.
    Ordered(Order, Vec<Entry>),
    /// The nearest number; entries by the text of their keys.
    Nearest(Vec<(f32, Entry)>),
    /// The numbers on both sides; entries by number.
    Bracket(Vec<(f64, Entry)>),
    /// The first entry that is not below the version: (version, relation), sorted.
    SelectVersion(Vec<((f64, String), Entry)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    UseAfter,
    ClosestTime,
    VersionAfter,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) choice: Choice,
}

#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// A file (or several), and its number among those of the mapping.
    File(Literal, usize),
    Then(Box<Selector>),
}

/// What was found: the answer, and the numbers of the files it is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pick {
    pub(super) answer: Literal,
    pub(super) files: Vec<usize>,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nothing {
    pub(super) why: String,
    /// Whether a Match above may go on with its next best entries.
    pub(super) goes_on: bool,
}

impl Nothing {
    pub(super) fn here(why: impl Into<String>) -> Nothing {
        Nothing { why: why.into(), goes_on: true }
    }

    pub(super) fn at_all(why: impl Into<String>) -> Nothing {
        Nothing { why: why.into(), goes_on: false }
    }
}

pub(super) type Found = Result<Pick, Nothing>;

/// The value of a parameter; what a header does not say is UNDEFINED.
pub(super) fn value_of<'a>(values: &'a Values, parameter: &str) -> &'a str {
    values.get(parameter).map_or("UNDEFINED", String::as_str)
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Order::UseAfter => "UseAfter",
            Order::ClosestTime => "ClosestTime",
            Order::VersionAfter => "VersionAfter",
        }
    }
}

impl Selector {
    pub(super) fn choose(&self, values: &Values) -> Found {
        match &self.rule {
            Rule::Match(m) => m.choose(&self.parameters, values),
            Rule::Ordered(order, entries) => {
                let entries: Vec<&Entry> = entries.iter().collect();
                ordered(*order, &self.parameters, &entries, values)
            }
            Rule::Nearest(entries) => {
                let wanted = self.number("GeometricallyNearest", values)? as f32;
                let nearest = first_least(entries.iter().map(|(n, _)| (n - wanted).abs()));
                let (_, entry) = nearest.and_then(|i| entries.get(i)).ok_or_else(none)?;
                entry.choice.follow(values).map_err(last)
            }
            Rule::Bracket(entries) => {
                let wanted = self.number("Bracket", values)?;
                let (low, high) = bracket(entries, wanted).ok_or_else(none)?;
                let below = entries[low].1.choice.follow(values).map_err(last)?;
                let above = entries[high].1.choice.follow(values).map_err(last)?;
                let files = [below.files, above.files].concat();
                Ok(Pick { answer: Literal::Row(vec![below.answer, above.answer]), files })
            }
            Rule::SelectVersion(entries) => {
                let wanted = self.number("SelectVersion", values)?;
                let below = |(version, relation): &(f64, String)| {
                    *version < wanted || (*version == wanted && relation.as_str() < "=")
                };
                let entry = entries.iter().find(|(key, _)| !below(key));
                let (_, entry) = entry.ok_or_else(|| Nothing::at_all("list index out of range"))?;
                entry.choice.follow(values).map_err(last)
            }
        }
    }

    /// The value of the one parameter of a selector by number.
    pub(super) fn number(&self, rule: &str, values: &Values) -> Result<f64, Nothing> {
        let parameter = self.parameters.first().map_or("", String::as_str);
        let value = value_of(values, parameter);
        float(value).map_err(|_| {
            let (parameter, value) = (quoted(parameter), quoted(value));
            Nothing::at_all(format!("{rule} Invalid number for {parameter} value = {value}"))
        })
    }
}

fn none() -> Nothing {
    Nothing::at_all("the selector has no entries")
}

fn last(nothing: Nothing) -> Nothing {
    match nothing.goes_on {
        true => Nothing::here(format!("All lookup attempts failed. last exception: {}", nothing.why)),
        false => nothing,
    }
}

/// The first of the least values; a NaN is less than all.
fn first_least(values: impl Iterator<Item = f32>) -> Option<usize> {
    let mut least: Option<(usize, f32)> = None;
    for (i, value) in values.enumerate() {
        if value.is_nan() {
            return Some(i);
        }
        if least.is_none_or(|(_, l)| value < l) {
            least = Some((i, value));
        }
    }
    least.map(|(i, _)| i)
}

/// The entries on both sides of a number; at an entry and beyond the ends, twice one.
pub(super) fn bracket(entries: &[(f64, Entry)], wanted: f64) -> Option<(usize, usize)> {
    let n = entries.len().checked_sub(1)?;
    Some(match entries.iter().position(|(key, _)| !(wanted > *key)) {
        None => (n, n),
        Some(i) if i == 0 || entries[i].0 == wanted => (i, i),
        Some(i) => (i - 1, i),
    })
}

impl Choice {
    pub(super) fn follow(&self, values: &Values) -> Found {
        match self {
            Choice::File(answer, number) => Ok(Pick { answer: answer.clone(), files: vec![*number] }),
            Choice::Then(selector) => selector.choose(values),
        }
    }
}

/// What the header's values are for a selector by date or version: a date as
/// `2020-01-31 03:04:05`, a version padded.
pub(super) fn ordering_key(order: Order, parameters: &[String], values: &Values) -> Result<String, Nothing> {
    let parts: Vec<&str> = parameters.iter().map(|p| value_of(values, p).trim()).collect();
    if order == Order::VersionAfter {
        return padded_version(&parts.join(".")).map_err(Nothing::at_all);
    }
    if let Some(undefined) = parameters.iter().zip(&parts).find(|(_, v)| **v == "UNDEFINED") {
        return Err(Nothing::at_all(format!("UseAfter parameter {} is UNDEFINED.", quoted(undefined.0))));
    }
    let text = parts.join(" ");
    Date::parse(text.trim()).map(|d| d.text()).map_err(|why| {
        let comma = if parameters.len() == 1 { "," } else { "" };
        Nothing::at_all(format!(
            "{} Invalid date/time format for ({}{comma}) value = {} exception is {}",
            order.name(),
            listed(parameters),
            quoted(text.trim()),
            quoted(&why)
        ))
    })
}

/// `1.10.2` as `00000001.00000010.00000002`, so that texts compare as versions.
pub(super) fn padded_version(text: &str) -> Result<String, String> {
    let wrong = || format!("Invalid version string {}", quoted(text));
    let mut parts = [0u32; 3];
    let mut rest = text;
    for (i, part) in parts.iter_mut().enumerate() {
        let after = if i == 0 { Some(rest) } else { rest.strip_prefix('.') };
        let digits = |t: &str| t.bytes().take(8).take_while(u8::is_ascii_digit).count();
        match after.map(|t| (t, digits(t))) {
            Some((t, n)) if n > 0 => {
                *part = t[..n].parse().map_err(|_| wrong())?;
                rest = &t[n..];
            }
            _ if i == 0 => return Err(wrong()),
            _ => break,
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if rest.len() > 128 || !rest.chars().all(plain) {
        return Err(wrong());
    }
    Ok(parts.map(|p| format!("{p:08}")).join("."))
}

/// The entry that a date or version chooses among sorted ones.
pub(super) fn ordered(order: Order, parameters: &[String], entries: &[&Entry], values: &Values) -> Found {
    let wanted = ordering_key(order, parameters, values)?;
    let entry = match order {
        Order::ClosestTime => {
            let date = |text: &str| Date::parse(text).map(|d| d.microseconds()).map_err(Nothing::at_all);
            let at = date(&wanted)?;
            let apart: Result<Vec<f32>, Nothing> =
                entries.iter().map(|e| Ok((date(&e.key)?.abs_diff(at) as f64 / 1e6) as f32)).collect();
            first_least(apart?.into_iter()).map(|i| entries[i]).ok_or_else(none)?
        }
        Order::UseAfter | Order::VersionAfter => {
            let after = entries.partition_point(|e| e.key <= wanted);
            let before = after.checked_sub(1).map(|i| entries[i]);
            before.ok_or_else(|| Nothing::here(format!("No selection <= {}", quoted(&wanted))))?
        }
    };
    entry.choice.follow(values).map_err(last)
}

impl Selector {
    pub(super) fn name(&self) -> &'static str {
        match &self.rule {
            Rule::Match(_) => "Match",
            Rule::Ordered(order, _) => order.name(),
            Rule::Nearest(_) => "GeometricallyNearest",
            Rule::Bracket(_) => "Bracket",
            Rule::SelectVersion(_) => "SelectVersion",
        }
    }
}

impl Tree {
    /// The best reference of a mapping for conditioned values.
    pub(super) fn choose(&self, values: &Values) -> Found {
        self.root.choose(values)
    }
}
