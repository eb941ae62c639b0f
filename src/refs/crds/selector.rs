//! The rules of a mapping as a tree, and the walk down it.
//!
//! What each selector does is what the CRDS client does, its oddities included:
//! dates and their like are compared as text, times in float32 seconds, numbers in
//! float32, and the order of equals is that of their sorted keys.

use std::collections::BTreeMap;

use super::build::Tree;
use super::condition::{alternatives, float, is_expression, listed, number, quoted};
use super::dates::Date;
use super::key::{Key, Meets};
use super::literal::Literal;

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

/// Keys of several elements, weighed.
#[derive(Debug, Clone)]
pub(super) struct Match {
    /// By their conditioned keys.
    pub(super) entries: Vec<Weighed>,
    /// What each parameter may be; `None` where that is not checked.
    pub(super) allowed: Vec<Option<Vec<String>>>,
    /// What stands for what, by parameter.
    pub(super) substitutions: Vec<Vec<(String, String)>>,
    /// Whether entries of equal weight are merged.
    pub(super) merge: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Weighed {
    pub(super) keys: Vec<Key>,
    pub(super) choice: Choice,
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
    goes_on: bool,
}

impl Nothing {
    fn here(why: impl Into<String>) -> Nothing {
        Nothing { why: why.into(), goes_on: true }
    }

    fn at_all(why: impl Into<String>) -> Nothing {
        Nothing { why: why.into(), goes_on: false }
    }
}

type Found = Result<Pick, Nothing>;

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

fn ordered(order: Order, parameters: &[String], entries: &[&Entry], values: &Values) -> Found {
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

impl Match {
    fn choose(&self, parameters: &[String], values: &Values) -> Found {
        for (i, parameter) in parameters.iter().enumerate() {
            self.check(i, parameter, value_of(values, parameter), 0)?;
        }
        for (_, group) in self.groups(parameters, values) {
            let found = match group.as_slice() {
                [one] => one.choice.follow(values),
                _ if !self.merge => {
                    return Err(Nothing::at_all("More than one match clause matched."));
                }
                several => together(several, values),
            };
            match found {
                Err(nothing) if nothing.goes_on => {}
                other => return other,
            }
        }
        Err(Nothing::here("No match found."))
    }

    /// The entries that fit, the heaviest first, those of equal weight together.
    pub(super) fn groups(&self, parameters: &[String], values: &Values) -> Vec<(usize, Vec<&Weighed>)> {
        let values: Vec<&str> = parameters.iter().map(|p| value_of(values, p)).collect();
        let mut groups: BTreeMap<usize, Vec<&Weighed>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(weight) = entry.weight(&values) {
                groups.entry(weight).or_default().push(entry);
            }
        }
        groups.into_iter().rev().collect()
    }

    /// Whether a header's value is one that the mapping knows at all.
    fn check(&self, i: usize, parameter: &str, value: &str, depth: usize) -> Result<(), Nothing> {
        let Some(allowed) = self.allowed.get(i).and_then(Option::as_ref).filter(|a| !a.is_empty()) else {
            return Ok(());
        };
        let has = |text: &str| allowed.iter().any(|a| a == text);
        if has(value) || has(&super::condition::condition(value)) || has("*") || has("ANY") || has("N/A") {
            return Ok(());
        }
        if let Some(negated) = value.strip_prefix("NOT").filter(|_| depth < 8) {
            return self.check(i, parameter, negated.trim(), depth + 1);
        }
        if is_expression(value) && !value.to_uppercase().starts_with("BETWEEN")
            || matches!(value, "*" | "ANY" | "N/A")
            || value.to_uppercase().starts_with("BETWEEN")
        {
            return Ok(());
        }
        if let [range] = allowed.as_slice()
            && let Some((low, high)) = range.split_once(':')
        {
            let number = |text: &str| float(text).map_err(Nothing::at_all);
            let (low, high, value_is) = (number(low)?, number(high)?, number(value)?);
            if low <= value_is && value_is <= high {
                return Ok(());
            }
            let (name, value, low, high) =
                (quoted(parameter), quoted(value), number_text(low), number_text(high));
            let why = format!(" parameter={name} value ={value} is not in range [{low} .. {high}]");
            return Err(Nothing::at_all(why));
        }
        let substituted = self.substitutions.get(i).and_then(|s| s.iter().find(|(from, _)| from == value));
        if let Some((_, to)) = substituted.filter(|_| depth < 8) {
            return self.check(i, parameter, to, depth + 1);
        }
        let (name, value) = (quoted(parameter), quoted(value));
        Err(Nothing::at_all(format!(" parameter={name} value={value} is not in [{}]", listed(allowed))))
    }
}

fn number_text(n: f64) -> String {
    number(n)
}

impl Weighed {
    /// How many elements match; `None` where one does not.
    pub(super) fn weight(&self, values: &[&str]) -> Option<usize> {
        let mut weight = 0;
        for (key, value) in self.keys.iter().zip(values) {
            match key.meets(value) {
                Meets::Yes => weight += 1,
                Meets::Anyway => {}
                Meets::No => return None,
            }
        }
        Some(weight)
    }
}

/// Entries of equal weight: their dates in one list; files as they are.
fn together(group: &[&Weighed], values: &Values) -> Found {
    let selectors: Vec<&Selector> = group
        .iter()
        .filter_map(|w| match &w.choice {
            Choice::Then(selector) => Some(selector.as_ref()),
            Choice::File(..) => None,
        })
        .collect();
    if selectors.is_empty() {
        let picks: Vec<Pick> = group.iter().map(|w| w.choice.follow(values)).collect::<Result<_, _>>()?;
        let (answers, files): (Vec<_>, Vec<_>) = picks.into_iter().map(|p| (p.answer, p.files)).unzip();
        return Ok(Pick { answer: Literal::Row(answers), files: files.concat() });
    }
    let cannot = |what: &str| {
        Nothing::at_all(format!(
            "More than one match was found at the same weight and {what} does not support merging."
        ))
    };
    let first = selectors[0];
    let Rule::Ordered(order, entries) = &first.rule else {
        return Err(cannot(first.name()));
    };
    if selectors.len() < group.len() {
        return Err(cannot("a file beside a selector"));
    }
    let mut merged: Vec<&Entry> = entries.iter().collect();
    for selector in &selectors[1..] {
        let Rule::Ordered(_, entries) = &selector.rule else { return Err(cannot(selector.name())) };
        merged = merge(merged, entries)?;
    }
    ordered(*order, &first.parameters, &merged, values)
}

/// Two sorted lists in one; of two entries with one key, the greater file name stays.
fn merge<'a>(ours: Vec<&'a Entry>, theirs: &'a [Entry]) -> Result<Vec<&'a Entry>, Nothing> {
    let mut out = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.iter().peekable());
    while let (Some(own), Some(other)) = (ours.peek(), theirs.peek()) {
        let (own, other) = (*own, *other);
        match own.key.cmp(&other.key) {
            std::cmp::Ordering::Less => out.extend(ours.next()),
            std::cmp::Ordering::Greater => out.extend(theirs.next()),
            std::cmp::Ordering::Equal => {
                let names = |e: &Entry| match &e.choice {
                    Choice::File(Literal::Text(name), _) => Some(vec![name.clone()]),
                    Choice::File(Literal::Row(row), _) => row.iter().map(Literal::plain).collect(),
                    _ => None,
                };
                let both = names(own).zip(names(other));
                let (a, b) = both.ok_or_else(|| {
                    Nothing::at_all(format!("two selectors at {} cannot be merged", quoted(&own.key)))
                })?;
                out.push(if a >= b { own } else { other });
                ours.next();
                theirs.next();
            }
        }
    }
    out.extend(ours);
    out.extend(theirs);
    Ok(out)
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

/// The values that keys may have, from all keys of a Match: `None` where a key is an
/// expression.
pub(super) fn allowed<'a>(column: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut all = std::collections::BTreeSet::new();
    for key in column {
        if is_expression(key) {
            return None;
        }
        all.extend(alternatives(key));
    }
    Some(all.into_iter().collect())
}

impl Tree {
    /// The best reference of a mapping for conditioned values.
    pub(super) fn choose(&self, values: &Values) -> Found {
        self.root.choose(values)
    }
}
