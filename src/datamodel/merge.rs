//! One header of several: a combination's of its frames, an exposure's of its reads.

use std::cmp::Ordering;

use super::is_wcs_keyword;
use super::registry::{Rule, entries, entry};
use crate::fits::{Card, Header, Value};

/// Text where headers differ.
pub const MULTIPLE: &str = "MULTIPLE";

/// Sets the sums that a combination has of its frames (the registry's rule `sum`).
pub fn add_up(out: &mut Header, headers: &[&Header]) {
    for e in entries().filter(|e| e.blend == Rule::Sum) {
        let Some(values) = headers.iter().map(|h| h.get(e.keyword)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let Some(numbers) = values.iter().map(|v| number(v)).collect::<Option<Vec<f64>>>() else { continue };
        let sum: f64 = numbers.iter().sum();
        let whole = values.iter().all(|v| matches!(v, Value::Integer(_)));
        out.set(e.keyword, if whole { Value::Integer(sum as i64) } else { sum.into() }, "");
    }
}

/// What all headers say. Where they differ, the registry's rule of a keyword decides
/// (the rules of JWST's and liger_iris_pipeline's blenders: first, last, min, max, mean,
/// sum, MULTIPLE); of a keyword that is not in it, text is MULTIPLE and numbers are the
/// mean. Checksums of references that differ, and what only some headers have, are left
/// out. The world coordinates are the first's, on whose pixels the others lie.
pub fn merge(headers: &[&Header]) -> Header {
    let Some(first) = headers.first() else { return Header::new() };
    let mut out = Header::new();
    for card in first.cards() {
        match &card.value {
            None => {
                let same = |c: &Card| c.keyword == card.keyword && c.comment == card.comment;
                if headers.iter().all(|h| h.cards().iter().any(same)) {
                    out.push(card.clone());
                }
            }
            Some(value) => match merged(card, value, headers) {
                // The card itself, so that what is the same stays as it is written.
                Some(same) if same == *value => out.push(card.clone()),
                Some(value) => out.set(&card.keyword, value, &card.comment),
                None => {}
            },
        }
    }
    out
}

/// What all headers together say of a card of the first; `None`: nothing.
fn merged(card: &Card, value: &Value, headers: &[&Header]) -> Option<Value> {
    let keyword = card.keyword.as_str();
    let values: Vec<&Value> = headers.iter().filter_map(|h| h.get(keyword)).collect();
    let all = values.len() == headers.len();
    if is_wcs_keyword(keyword) || (all && values.iter().all(|v| *v == value)) {
        return Some(value.clone());
    }
    let pick = |wanted: Ordering| {
        values.iter().copied().reduce(|a, b| if compare(b, a) == Some(wanted) { b } else { a }).cloned()
    };
    let of = |key: &str, wanted: Ordering| {
        let at = |h: &&&Header| h.has(key) && h.has(keyword);
        let better = |a: &Header, b: &Header| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => compare(b, a) == Some(wanted),
            _ => false,
        };
        headers
            .iter()
            .filter(at)
            .copied()
            .reduce(|a, b| if better(a, b) { b } else { a })?
            .get(keyword)
            .cloned()
    };
    match entry(keyword).map_or(Rule::Unknown, |e| e.blend) {
        Rule::First => Some(value.clone()),
        Rule::Last => headers.last()?.get(keyword).cloned(),
        Rule::Min => pick(Ordering::Less),
        Rule::Max => pick(Ordering::Greater),
        Rule::Earliest => of("EXPJDST", Ordering::Less).or_else(|| Some(value.clone())),
        Rule::Latest => of("EXPJDEND", Ordering::Greater).or_else(|| Some(value.clone())),
        Rule::Mean if all => mean(&values),
        // Of an exposure's reads each says the exposure's so far.
        Rule::Sum => headers.last()?.get(keyword).cloned(),
        Rule::Multi if all => Some(MULTIPLE.into()),
        Rule::Unknown if all && !keyword.starts_with("C_") => match value {
            Value::Text(_) | Value::Logical(_) => Some(MULTIPLE.into()),
            _ => mean(&values),
        },
        _ => None,
    }
}

fn mean(values: &[&Value]) -> Option<Value> {
    let numbers: Vec<f64> = values.iter().map(|v| number(v)).collect::<Option<_>>()?;
    // The mean of differences: a Julian date's digits are few enough already.
    let zero = *numbers.first()?;
    Some((zero + numbers.iter().map(|v| v - zero).sum::<f64>() / numbers.len() as f64).into())
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(i) => Some(*i as f64),
        Value::Real(r) => Some(*r),
        _ => None,
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        // Dates of one length sort as text.
        (Value::Text(a), Value::Text(b)) if !a.is_empty() && !b.is_empty() => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
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

    #[test]
    fn every_rule() {
        let a = header(&[
            ("EXPJDST", 2.0.into()),
            ("EXPJDEND", 2.5.into()),
            ("EXPJDMID", 2.25.into()),
            ("AIRMAST", 1.2.into()),
            ("AIRMAEND", 1.3.into()),
            ("FILTER", "H".into()),
            ("RA", 10.0.into()),
            ("EFFEXPTM", 60.0.into()),
            ("TIME-END", "a".into()),
            ("DATE-AVG", "x".into()),
            ("MYTEXT", "x".into()),
            ("MYNUMBER", 1.into()),
            ("SAME", 1.into()),
            ("C_DARK", "1".into()),
            ("CRPIX1", 5.0.into()),
        ]);
        let b = header(&[
            ("EXPJDST", 1.0.into()),
            ("EXPJDEND", 1.5.into()),
            ("EXPJDMID", 1.25.into()),
            ("AIRMAST", 1.1.into()),
            ("AIRMAEND", 1.2.into()),
            ("FILTER", "K".into()),
            ("RA", 11.0.into()),
            ("EFFEXPTM", 30.0.into()),
            ("TIME-END", "b".into()),
            ("DATE-AVG", "y".into()),
            ("MYTEXT", "y".into()),
            ("MYNUMBER", 2.into()),
            ("SAME", 1.into()),
            ("C_DARK", "2".into()),
        ]);
        let h = merge(&[&a, &b]);
        let expected: &[(&str, Option<Value>)] = &[
            ("EXPJDST", Some(1.0.into())),
            ("EXPJDEND", Some(2.5.into())),
            ("EXPJDMID", Some(1.75.into())),
            ("AIRMAST", Some(1.1.into())),
            ("AIRMAEND", Some(1.3.into())),
            ("FILTER", Some(MULTIPLE.into())),
            ("RA", Some(10.0.into())),
            ("EFFEXPTM", Some(30.0.into())),
            ("TIME-END", Some("b".into())),
            ("DATE-AVG", None),
            ("MYTEXT", Some(MULTIPLE.into())),
            ("MYNUMBER", Some(1.5.into())),
            ("SAME", Some(1.into())),
            ("C_DARK", None),
            ("CRPIX1", Some(5.0.into())),
        ];
        for (key, value) in expected {
            assert_eq!(h.get(key), value.as_ref(), "{key}");
        }
    }
}
