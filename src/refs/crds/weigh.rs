//! Match: keys of several elements, weighed by how many match.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{alternatives, condition, float, is_expression, listed, number, quoted};
use super::key::{Key, Meets};
use super::literal::Literal;
use super::selector::{Choice, Entry, Found, Nothing, Pick, Rule, Selector, Values, ordered, value_of};

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

impl Match {
    pub(super) fn choose(&self, parameters: &[String], values: &Values) -> Found {
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
        if has(value) || has(&condition(value)) || has("*") || has("ANY") || has("N/A") {
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
            let bound = |text: &str| float(text).map_err(Nothing::at_all);
            let (low, high, value_is) = (bound(low)?, bound(high)?, bound(value)?);
            if low <= value_is && value_is <= high {
                return Ok(());
            }
            let (name, value, low, high) = (quoted(parameter), quoted(value), number(low), number(high));
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
                let greater = greater(&own.choice, &other.choice);
                out.push(if greater? { own } else { other });
                ours.next();
                theirs.next();
            }
        }
    }
    out.extend(ours);
    out.extend(theirs);
    Ok(out)
}

/// Whether a choice is not below another by its name.
fn greater(own: &Choice, other: &Choice) -> Result<bool, Nothing> {
    let names = |row: &[Literal]| row.iter().map(Literal::plain).collect::<Vec<_>>();
    match (own, other) {
        (Choice::File(Literal::Text(a), _), Choice::File(Literal::Text(b), _)) => Ok(a >= b),
        (Choice::File(Literal::Row(a), _), Choice::File(Literal::Row(b), _)) => Ok(names(a) >= names(b)),
        _ => Err(Nothing::at_all("two entries of equal weight and date are of different kinds")),
    }
}

/// The values that keys may have, from all keys of a Match: `None` where a key is an
/// expression.
pub(super) fn allowed<'a>(column: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut all = BTreeSet::new();
    for key in column {
        if is_expression(key) {
            return None;
        }
        all.extend(alternatives(key));
    }
    Some(all.into_iter().collect())
}
