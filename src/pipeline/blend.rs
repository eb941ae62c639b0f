//! One header of several, for combined products, and dates as headers write them.
//!
//! As JWST's blendmeta does, a combination claims nothing of all frames that is true
//! of one: see [`blend`].

use std::time::{SystemTime, UNIX_EPOCH};

use crate::datamodel::{add_up, civil, compact_date, merge};
use crate::fits::Header;

/// The header of a combination: what [`merge`] leaves of its frames. The pointing and
/// EXPNUM are the first frame's. NCOMBINE counts the frames, those of combinations too.
pub fn blend(headers: &[&Header]) -> Header {
    let mut out = merge(headers);
    if headers.is_empty() {
        return out;
    }
    if headers.iter().any(|h| h.has("EXPDTMID"))
        && let Some(middle) = out.number("EXPJDMID")
    {
        out.set("EXPDTMID", compact_date(middle - 2_400_000.5), "");
    }
    add_up(&mut out, headers);
    let frames: i64 = headers.iter().map(|h| h.integer("NCOMBINE").filter(|n| *n > 0).unwrap_or(1)).sum();
    out.set("NCOMBINE", frames, "frames combined");
    out
}

fn iso(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Now, UTC, `YYYY-MM-DDTHH:MM:SS`.
pub(crate) fn now() -> String {
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
            h.set("EFFEXPTM", 20.0, "");
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
        // What is added up is, where it is the same, too.
        assert_eq!((h.integer("NCOMBINE"), h.number("EFFEXPTM")), (Some(2), Some(40.0)));
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
