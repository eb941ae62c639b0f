//! One header of several, for combined products, and dates as headers write them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::fits::Header;

/// Keywords that say MULTIPLE where the frames differ.
const MULTIPLE: &[&str] = &["DETECTOR", "INSTMODE", "FILTER", "GRATING", "PUPIL", "OBJECT", "READMODE"];

/// The header of a combination: the first frame's, with the span and the mean of the
/// times, MULTIPLE where frames differ, and NCOMBINE.
pub fn blend(headers: &[&Header]) -> Header {
    let Some(first) = headers.first() else { return Header::new() };
    let mut out = (*first).clone();
    let numbers = |keyword: &str| -> Vec<f64> { headers.iter().filter_map(|h| h.number(keyword)).collect() };
    let (start, middle, end) = (numbers("EXPJDST"), numbers("EXPJDMID"), numbers("EXPJDEND"));
    if let Some(earliest) = start.iter().copied().reduce(f64::min) {
        out.set("EXPJDST", earliest, "");
    }
    if !middle.is_empty() {
        // The mean of differences: the Julian date's digits are few enough already.
        let mean = middle[0] + middle.iter().map(|m| m - middle[0]).sum::<f64>() / middle.len() as f64;
        out.set("EXPJDMID", mean, "");
        if headers.iter().any(|h| h.has("EXPDTMID")) {
            out.set("EXPDTMID", compact_date(mean), "");
        }
    }
    if let Some(latest) = end.iter().copied().reduce(f64::max) {
        out.set("EXPJDEND", latest, "");
    }
    // Dates of one length sort as text.
    let texts =
        |keyword: &'static str| headers.iter().filter_map(move |h| h.text(keyword)).filter(|t| !t.is_empty());
    if let Some(earliest) = texts("EXPDTST").min() {
        out.set("EXPDTST", earliest, "");
    }
    if let Some(latest) = texts("EXPDTEND").max() {
        out.set("EXPDTEND", latest, "");
    }
    for keyword in MULTIPLE {
        let mine = first.text(keyword);
        if headers.iter().any(|h| h.text(keyword) != mine) {
            out.set(keyword, "MULTIPLE", "");
        }
    }
    out.set("NCOMBINE", headers.len(), "frames combined");
    out
}

/// Year, month, day of a day number from 1970-01-01 (Howard Hinnant's
/// `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
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
}
