//! One header of several, for combined products, and dates as headers write them.
//!
//! As JWST's blendmeta does, a combination claims nothing of all frames that is true
//! of one: see [`blend`].

use std::time::{SystemTime, UNIX_EPOCH};

use super::wcs::is_wcs_keyword;
use crate::datamodel::civil;
use crate::fits::{Card, Header, Value};

/// What the combination has of its first frame: on whose pixels the others lie, and
/// whose number is in its name.
const FIRST: &[&str] =
    &["RA", "DEC", "RAOFF", "DECOFF", "PA", "ROLL_REF", "EQUINOX", "EXPNUM", "EXPNO", "EXP_NO"];
/// Times of which the earliest is kept. Dates of one length sort as text.
const EARLIEST: &[&str] = &["EXPJDST", "EXPDTST", "DATE-BEG", "DATE-OBS", "MJD-BEG", "MJD-OBS", "JD", "MJD"];
/// Times of which the latest is kept.
const LATEST: &[&str] = &["EXPJDEND", "EXPDTEND", "DATE-END", "MJD-END"];

/// Text where frames differ.
pub(super) const MULTIPLE: &str = "MULTIPLE";

/// The header of a combination: what all frames say. Where they differ, times span
/// the frames, text is MULTIPLE, numbers are the mean; checksums, and what only some
/// frames have, are left out. The pointing and EXPNUM are the first frame's. NCOMBINE
/// counts the frames, those of combinations too.
pub fn blend(headers: &[&Header]) -> Header {
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
            Some(value) => match blended(card, value, headers) {
                // The card itself, so that what is the same stays as it is written.
                Some(same) if same == *value => out.push(card.clone()),
                Some(value) => out.set(&card.keyword, value, &card.comment),
                None => {}
            },
        }
    }
    if headers.iter().any(|h| h.has("EXPDTMID"))
        && let Some(middle) = out.number("EXPJDMID")
    {
        out.set("EXPDTMID", compact_date(middle), "");
    }
    let frames: i64 = headers.iter().map(|h| h.integer("NCOMBINE").filter(|n| *n > 0).unwrap_or(1)).sum();
    out.set("NCOMBINE", frames, "frames combined");
    out
}

/// What all frames together say of a card of the first; `None`: nothing.
fn blended(card: &Card, value: &Value, headers: &[&Header]) -> Option<Value> {
    let keyword = card.keyword.as_str();
    if FIRST.contains(&keyword) || is_wcs_keyword(keyword) {
        return Some(value.clone());
    }
    let values: Vec<&Value> = headers.iter().filter_map(|h| h.get(keyword)).collect();
    if values.iter().all(|v| *v == value) && values.len() == headers.len() {
        return Some(value.clone());
    }
    for (list, wanted) in [(EARLIEST, std::cmp::Ordering::Less), (LATEST, std::cmp::Ordering::Greater)] {
        if list.contains(&keyword) {
            let pick = |a, b| if compare(b, a) == Some(wanted) { b } else { a };
            return values.into_iter().reduce(pick).cloned();
        }
    }
    if values.len() < headers.len() || keyword.starts_with("C_") {
        return None;
    }
    match value {
        Value::Text(_) => Some(Value::from(MULTIPLE)),
        Value::Real(_) | Value::Integer(_) => {
            let numbers: Vec<f64> = headers.iter().filter_map(|h| h.number(keyword)).collect();
            // The mean of differences: a Julian date's digits are few enough already.
            let zero = *numbers.first()?;
            let mean = zero + numbers.iter().map(|v| v - zero).sum::<f64>() / numbers.len() as f64;
            (numbers.len() == headers.len()).then(|| Value::from(mean))
        }
        _ => None,
    }
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    let number = |v: &Value| match v {
        Value::Integer(i) => Some(*i as f64),
        Value::Real(r) => Some(*r),
        _ => None,
    };
    match (a, b) {
        (Value::Text(a), Value::Text(b)) if !a.is_empty() && !b.is_empty() => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

fn iso(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// `YYYYMMDDHHMMSS` of a Julian date.
fn compact_date(jd: f64) -> String {
    let seconds = ((jd - 2_440_587.5) * 86_400.0).round() as i64;
    iso(seconds).chars().filter(char::is_ascii_digit).collect()
}

/// Now, UTC, `YYYY-MM-DDTHH:MM:SS`.
pub(super) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    iso(i64::try_from(seconds).unwrap_or(0))
}

/// `YYYY-MM-DDTHH:MM:SS` of EXPDTST's `YYYYMMDDHHMMSS`; `None` of anything shorter.
pub(super) fn iso_date(compact: &str) -> Option<String> {
    let d: Vec<&str> = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14]
        .into_iter()
        .map(|r| compact.get(r).filter(|t| t.bytes().all(|b| b.is_ascii_digit())))
        .collect::<Option<_>>()?;
    Some(format!("{}-{}-{}T{}:{}:{}", d[0], d[1], d[2], d[3], d[4], d[5]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(iso(1_709_210_096), "2024-02-29T12:34:56");
        assert_eq!(compact_date(2_451_545.0), "20000101120000");
        assert_eq!(iso_date("20240229123456").as_deref(), Some("2024-02-29T12:34:56"));
        assert_eq!(iso_date("2024"), None);
    }

    #[test]
    fn times_span_the_frames_and_differences_say_multiple() {
        let frame = |jd: f64, filter: &str| {
            let mut h = Header::new();
            h.set("EXPJDST", jd, "");
            h.set("EXPJDMID", jd + 0.01, "");
            h.set("EXPJDEND", jd + 0.02, "");
            h.set("EXPDTMID", "20000101120000", "");
            h.set("FILTER", filter, "");
            h.set("OBJECT", "M 31", "");
            h
        };
        let (a, b) = (frame(2_451_545.5, "H"), frame(2_451_545.0, "K"));
        let h = blend(&[&a, &b]);
        assert_eq!((h.number("EXPJDST"), h.number("EXPJDEND")), (Some(2_451_545.0), Some(2_451_545.52)));
        assert!((h.number("EXPJDMID").unwrap() - 2_451_545.26).abs() < 1e-6);
        assert_eq!(h.text("EXPDTMID").as_deref(), Some("20000101181424"));
        assert_eq!(
            (h.text("FILTER").as_deref(), h.text("OBJECT").as_deref()),
            (Some("MULTIPLE"), Some("M 31"))
        );
        assert_eq!(h.integer("NCOMBINE"), Some(2));
    }

    #[test]
    fn nothing_is_claimed_of_all_that_is_true_of_one() {
        let frame = |dark: &str, scale: f64, extra: bool| {
            let mut h = Header::new();
            h.set("R_DARK", dark, "");
            h.set("C_DARK", format!("blake3:{dark}"), "");
            h.set("R_FLAT", "f.fits", "");
            h.set("C_FLAT", "blake3:f", "");
            h.set("SKYSCALE", scale, "");
            h.set("NREFPIX", (10.0 * scale) as i64, "");
            h.set("RA", 10.0 + scale, "");
            if extra {
                h.set("LENSCOL", 3, "");
            }
            h.history("reference flat: f.fits");
            h.history(&format!("reference dark: {dark}"));
            h
        };
        let (a, b) = (frame("a.fits", 1.0, true), frame("b.fits", 2.0, false));
        let h = blend(&[&a, &b]);
        assert_eq!(h.text("R_DARK").as_deref(), Some("MULTIPLE"));
        assert_eq!(h.text("C_FLAT").as_deref(), Some("blake3:f"));
        assert_eq!((h.number("SKYSCALE"), h.number("RA")), (Some(1.5), Some(11.0)));
        assert_eq!(h.number("NREFPIX"), Some(15.0));
        for gone in ["C_DARK", "LENSCOL"] {
            assert!(!h.has(gone), "{gone}");
        }
        let history: Vec<_> = h.cards().iter().filter(|c| c.keyword == "HISTORY").collect();
        assert_eq!(history.len(), 1);
        // A combination of combinations counts all the frames.
        assert_eq!(blend(&[&h, &a, &h]).integer("NCOMBINE"), Some(5));
        // One frame stays what it was.
        assert_eq!(blend(&[&a]).number("LENSCOL"), Some(3.0));
    }
}
