//! A header as CRDS sees it: values by parkey.

use std::collections::BTreeMap;

use super::dates::of_julian;
use crate::datamodel::{Meta, paths};
use crate::fits::Header;
use crate::refs::julian_date;

/// Values by parkey, in capitals: keywords, and paths as `META.INSTRUMENT.FILTER`.
pub type Facts = BTreeMap<String, String>;

/// The facts of an exposure: every keyword of its header under its name and under
/// its path in the data model; then what is known under other names. META.DATE is
/// the middle of the exposure (its keyword DATE would be the file's own date), and
/// META.OBSERVATION.DATE and TIME are that, too, where the header has no DATE-OBS.
pub fn facts(header: &Header, meta: &Meta) -> Facts {
    let mut facts = Facts::new();
    for card in header.cards().iter().filter(|c| c.value.is_some()) {
        let Some(value) = header.text(&card.keyword) else { continue };
        for path in paths(&card.keyword) {
            facts.insert(path.clone(), value.clone());
        }
        facts.insert(card.keyword.to_uppercase(), value);
    }
    let mut add = |path: &str, value: &str| {
        if !value.is_empty() && facts.get(path).is_none_or(|v| v.is_empty()) {
            facts.insert(path.to_owned(), value.to_owned());
        }
    };
    let subarray = if meta.subarray.is_empty() { "FULL" } else { &meta.subarray };
    for (path, value) in [
        ("META.INSTRUMENT.NAME", "IRIS"),
        ("META.INSTRUMENT.DETECTOR", meta.detector.as_str()),
        ("META.INSTRUMENT.MODE", &meta.instmode),
        ("META.INSTRUMENT.FILTER", &meta.filter),
        ("META.INSTRUMENT.PUPIL", &meta.pupil),
        ("META.INSTRUMENT.GRATING", &meta.grating),
        ("META.EXPOSURE.READMODE", &meta.readmode),
        ("META.EXPOSURE.IMTYPE", &meta.imtype),
        ("META.SUBARRAY.NAME", subarray),
    ] {
        add(path, value);
    }
    if let Some(scale) = meta.scale {
        add("META.INSTRUMENT.SCALE", &scale.to_string());
    }
    let begin = julian_date(meta);
    let half = match (meta.jd_end, begin) {
        (Some(end), Some(begin)) if end > begin => (end - begin) / 2.0,
        _ => 0.0,
    };
    let middle = header.number("EXPJDMID").or_else(|| begin.map(|jd| jd + half)).and_then(of_julian);
    if let Some(date) = middle {
        let (day, time) = date.split_once(' ').unwrap_or((&date, "00:00:00"));
        add("META.OBSERVATION.DATE", day);
        add("META.OBSERVATION.TIME", time);
        facts.insert("META.DATE".into(), date);
    }
    facts
}

/// The facts of a JSON object, `{"META.INSTRUMENT.NAME": "IRIS", ...}`; what is wrong
/// with it, else. FITS keywords stand for their paths, and their times for META.DATE.
pub fn facts_of_json(text: &str) -> Result<Facts, String> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let serde_json::Value::Object(object) = json else {
        return Err("must be an object, as {\"META.INSTRUMENT.NAME\": \"IRIS\"}".into());
    };
    let value = |(key, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((key.to_uppercase(), text)),
        serde_json::Value::Null => Ok((key.to_uppercase(), "UNDEFINED".into())),
        plain @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
            Ok((key.to_uppercase(), plain.to_string()))
        }
        _ => Err(format!("{key}: its value must be a text, a number, true, false or null")),
    };
    let mut facts: Facts = object.into_iter().map(value).collect::<Result<_, _>>()?;
    // A keyword stands for its path, too.
    let plain: Vec<(String, String)> = facts.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (keyword, value) in plain {
        for path in paths(&keyword) {
            facts.entry(path.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(date) = date_of(&facts).filter(|_| !facts.contains_key("META.DATE")) {
        facts.insert("META.DATE".into(), date);
    }
    Ok(facts)
}

/// META.DATE of FITS keywords, as [`facts`] has it.
fn date_of(said: &Facts) -> Option<String> {
    let mut header = Header::new();
    for (key, value) in said.iter().filter(|(key, _)| key.len() <= 8 && !key.contains('.')) {
        match (value.parse::<i64>(), value.parse::<f64>()) {
            (Ok(whole), _) => header.set(key, whole, ""),
            (_, Ok(number)) => header.set(key, number, ""),
            _ => header.set(key, value.as_str(), ""),
        }
    }
    facts(&header, &Meta::from_header(&header)).remove("META.DATE")
}
