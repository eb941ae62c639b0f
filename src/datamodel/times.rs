//! When an exposure was taken: the same instants under the names of the peers
//! (Julian dates, compact dates) and of the FITS standard (MJD, ISO dates).

use super::date::{civil, days};
use crate::fits::{Header, Value};

/// Julian date of MJD 0.
pub(super) const MJD0: f64 = 2_400_000.5;
/// A number of a Julian date keyword below this is an MJD.
const JULIAN: f64 = 1_000_000.0;
/// Seconds by which two keywords of one instant may differ: EXPDTST has whole ones.
const SAME: f64 = 1.5;

/// An instant's keywords, in the order in which they are believed.
struct Instant {
    /// As in sentences.
    name: &'static str,
    julian: &'static [&'static str],
    modified: &'static [&'static str],
    dates: &'static [&'static str],
}

const BEGIN: Instant = Instant {
    name: "beginning",
    julian: &["EXPJDST"],
    modified: &["MJD-BEG", "EXPSTART", "MJD-OBS"],
    dates: &["DATE-BEG", "EXPDTST", "DATE-OBS"],
};
const MIDDLE: Instant = Instant {
    name: "middle",
    julian: &["EXPJDMID"],
    modified: &["MJD-AVG", "EXPMID"],
    dates: &["DATE-AVG", "EXPDTMID"],
};
const END: Instant = Instant {
    name: "end",
    julian: &["EXPJDEND"],
    modified: &["MJD-END", "EXPEND"],
    dates: &["DATE-END", "EXPDTEND"],
};

/// When an exposure began, was half done, and ended: MJD, in the time scale of its
/// header (TIMESYS, default UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Span {
    /// The beginning.
    pub begin: Option<f64>,
    /// The middle; of beginning and end where the header has none.
    pub middle: Option<f64>,
    /// The end.
    pub end: Option<f64>,
}

impl Span {
    /// What a header says.
    pub fn of(header: &Header) -> Span {
        let first = |i: &Instant| said(header, i).first().map(|(_, mjd)| *mjd);
        let (begin, end) = (first(&BEGIN), first(&END));
        let half = || begin.zip(end).filter(|(b, e)| e >= b).map(|(b, e)| b + (e - b) / 2.0);
        Span { begin, middle: first(&MIDDLE).or_else(half), end }
    }

    /// Writes what is known into a header: the Julian and compact dates of the peers
    /// where it has none, and the standard's keywords, made from them.
    pub fn write(&self, header: &mut Header) {
        let instants = [
            (self.begin, "EXPJDST", "EXPDTST", "MJD-BEG", "DATE-BEG", "beginning"),
            (self.middle, "EXPJDMID", "EXPDTMID", "MJD-AVG", "DATE-AVG", "middle"),
            (self.end, "EXPJDEND", "EXPDTEND", "MJD-END", "DATE-END", "end"),
        ];
        for (mjd, julian, compact, modified, date, what) in instants {
            let Some(mjd) = mjd else { continue };
            header.set_default(julian, mjd + MJD0, &format!("{what} of the exposure (JD)"));
            header.set_default(compact, compact_date(mjd).as_str(), "");
            header.set(modified, mjd, &format!("[d] {what} of the exposure"));
            header.set(date, iso_date(mjd).as_str(), &format!("{what} of the exposure"));
        }
        if let Some(mjd) = self.begin {
            header.set("DATE-OBS", iso_date(mjd).as_str(), "beginning of the exposure");
        }
        if self.begin.or(self.middle).or(self.end).is_some() {
            header.set_default("TIMESYS", "UTC", "time scale");
        }
    }
}

/// The MJD of the years 1 to 9999, which dates are written of.
const CALENDAR: std::ops::Range<f64> = -678_575.0..2_973_483.0;

/// The keywords of an instant that a header has, each with the MJD that it says.
fn said(header: &Header, instant: &Instant) -> Vec<(&'static str, f64)> {
    let number = |key: &str| header.number(key).filter(|v| *v != 0.0);
    let julian = instant.julian.iter().filter_map(|k| {
        let v = number(k)?;
        Some((*k, if v < JULIAN { v } else { v - MJD0 }))
    });
    let modified = instant.modified.iter().filter_map(|k| Some((*k, number(k)?)));
    let numbers = julian.chain(modified).filter(|(_, mjd)| CALENDAR.contains(mjd));
    let dates = instant.dates.iter().filter_map(|k| {
        let text = header.text(k)?;
        // JWST's DATE-OBS has its time of day beside it.
        let text = match header.text("TIME-OBS") {
            Some(time) if *k == "DATE-OBS" && text.len() == 10 => format!("{text}T{time}"),
            _ => text,
        };
        Some((*k, mjd_of(&text)?))
    });
    numbers.chain(dates).collect()
}

/// Whether text stands for no value.
fn says_nothing(text: &str) -> bool {
    matches!(text.trim().to_ascii_uppercase().as_str(), "" | "N/A" | "NONE" | "UNKNOWN" | "UNDEFINED")
}

/// Times of a header that cannot all be true, as the keyword and a sentence.
pub(super) fn disagreements(header: &Header) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for instant in [BEGIN, MIDDLE, END] {
        for key in instant.dates {
            if let Some(text) = header.text(key).filter(|t| !says_nothing(t) && mjd_of(t).is_none()) {
                let form = if key.starts_with("EXPDT") { "YYYYMMDDhhmmss" } else { "YYYY-MM-DDThh:mm:ss" };
                let sentence = format!("{key} = '{text}' is no date that can be read: write it as {form}");
                found.push(((*key).to_owned(), sentence));
            }
        }
        let all = said(header, &instant);
        for key in instant.julian.iter().chain(instant.modified) {
            if header.number(key).is_some_and(|v| v != 0.0) && all.iter().all(|(k, _)| k != key) {
                let sentence = format!(
                    "{key} = {} is no day of the years 1 to 9999: it counts as missing",
                    shown(header, key)
                );
                found.push(((*key).to_owned(), sentence));
            }
        }
        let Some(((first, believed), others)) = all.split_first() else { continue };
        for (key, mjd) in others {
            // A day without its time says the day.
            let day = header.text(key).is_some_and(|t| t.len() <= 10) && key.contains("DATE");
            let apart =
                if day { (mjd.floor() - believed.floor()) * 86_400.0 } else { (mjd - believed) * 86_400.0 };
            if apart.abs() > SAME {
                found.push(((*key).to_owned(), format!(
                    "{key} = {} is {} from {first} = {} though both say the {} of the exposure: {first} is believed; correct {key}",
                    shown(header, key),
                    apart_text(apart),
                    shown(header, first),
                    instant.name,
                )));
            }
        }
    }
    let span = Span::of(header);
    for ((a, first), (b, second)) in [
        ((span.begin, BEGIN), (span.end, END)),
        ((span.begin, BEGIN), (span.middle, MIDDLE)),
        ((span.middle, MIDDLE), (span.end, END)),
    ] {
        if let (Some(a), Some(b)) = (a, b)
            && (a - b) * 86_400.0 > SAME
        {
            let key = |i: &Instant| said(header, i).first().map_or("", |(k, _)| *k);
            let (k, l) = (key(&second), key(&first));
            found.push((
                k.to_owned(),
                format!(
                    "{k} = {} is before {l} = {}: an exposure does not {} before its {}; correct one of them",
                    shown(header, k),
                    shown(header, l),
                    if second.name == "end" { "end" } else { "reach its middle" },
                    first.name,
                ),
            ));
            break;
        }
    }
    found
}

fn shown(header: &Header, key: &str) -> String {
    match header.get(key) {
        Some(Value::Text(t)) => format!("'{t}'"),
        _ => header.text(key).unwrap_or_default(),
    }
}

fn apart_text(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// MJD of `YYYY-MM-DD[Thh:mm:ss[.sss]]`, `YYYYMMDD[hhmmss]`, or the `DD/MM/YY` of old
/// files, which is of the 20th century (FITS 4.0, §4.4.2.1); `None` of anything else.
pub fn mjd_of(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('Z');
    if let &[d1, d2, b'/', m1, m2, b'/', y1, y2] = text.as_bytes() {
        let of = |a: u8, b: u8| {
            (a.is_ascii_digit() && b.is_ascii_digit()).then(|| format!("{}{}", a as char, b as char))
        };
        return mjd_of(&format!("19{}-{}-{}", of(y1, y2)?, of(m1, m2)?, of(d1, d2)?));
    }
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<i64>().ok()).flatten();
    let compact = !date.contains('-');
    let (y, m, d, h, min, s) = if compact && matches!(date.len(), 8 | 14) && time.is_empty() {
        let part = |r: std::ops::Range<usize>| date.get(r).map_or(Some(0), number);
        (part(0..4)?, part(4..6)?, part(6..8)?, part(8..10)?, part(10..12)?, part(12..14)? as f64)
    } else {
        let ymd: Vec<i64> = date.split('-').map(number).collect::<Option<_>>()?;
        let [y, m, d] = *ymd.as_slice() else { return None };
        let mut hms = time.split(':');
        let mut whole = || hms.next().filter(|t| !t.is_empty()).map_or(Some(0), number);
        let (h, min) = (whole()?, whole()?);
        let s = hms.next().map_or(Some(0.0), |t| t.parse::<f64>().ok())?;
        (y, m, d, h, min, s)
    };
    // A leap second is the 61st.
    let clock = (0..24).contains(&h) && (0..60).contains(&min) && (0.0..61.0).contains(&s);
    ((1..=9999).contains(&y) && (1..=12).contains(&m) && (1..=31).contains(&d) && clock)
        .then(|| (days(y, m, d) + 40_587) as f64 + ((h * 60 + min) as f64 * 60.0 + s) / 86_400.0)
}

/// `YYYY-MM-DDThh:mm:ss.sss` of an MJD.
pub fn iso_date(mjd: f64) -> String {
    let (date, ms) = split(mjd, 86_400_000.0);
    let s = ms / 1000;
    format!("{date}T{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000)
}

/// `YYYYMMDDhhmmss` of an MJD.
pub fn compact_date(mjd: f64) -> String {
    let (date, s) = split(mjd, 86_400.0);
    format!("{}{:02}{:02}{:02}", date.replace('-', ""), s / 3600, s / 60 % 60, s % 60)
}

/// The day, and the time of day in `parts` of it; what is beyond the calendar is its end.
fn split(mjd: f64, parts: f64) -> (String, i64) {
    let mjd = mjd.clamp(CALENDAR.start, CALENDAR.end);
    let total = ((mjd - mjd.floor()) * parts).round() as i64;
    let whole = mjd.floor() as i64 + total.div_euclid(parts as i64);
    let (y, m, d) = civil(whole - 40_587);
    (format!("{y:04}-{m:02}-{d:02}"), total.rem_euclid(parts as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_beyond_the_calendar_are_no_dates() {
        let mut h = Header::new();
        // Of the first, fuzzing found that it overflowed.
        for (key, value) in [("EXPJDMID", 2.7e200), ("MJD-BEG", -1e9), ("EXPEND", 60_000.0)] {
            h.set(key, value, "");
        }
        let span = Span::of(&h);
        assert_eq!((span.begin, span.middle, span.end), (None, None, Some(60_000.0)));
        let keys: Vec<String> = disagreements(&h).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["MJD-BEG", "EXPJDMID"]);
        assert_eq!(
            (iso_date(-678_575.0).as_str(), compact_date(1e300).as_str()),
            ("0001-01-01T00:00:00.000", "99991231000000")
        );
        assert_eq!(iso_date(f64::NAN).len(), 23);
    }

    #[test]
    fn dates_of_days_and_back() {
        // astropy.time: Time('2024-02-29T12:34:56.789').mjd
        let mjd = 60_369.524_268_391_2;
        assert!((mjd_of("2024-02-29T12:34:56.789").unwrap() - mjd).abs() < 1e-9);
        assert_eq!(iso_date(mjd), "2024-02-29T12:34:56.789");
        assert_eq!(compact_date(mjd), "20240229123457");
        assert_eq!(mjd_of("20240229"), Some(60_369.0));
        assert_eq!(mjd_of("2000-01-01"), Some(51_544.0));
        assert_eq!(compact_date(mjd_of("20240229235959").unwrap()), "20240229235959");
        // Rounding goes over midnight.
        assert_eq!(iso_date(60_368.999_999_999_9), "2024-02-29T00:00:00.000");
        assert_eq!(mjd_of("31/12/99"), mjd_of("1999-12-31"));
        for wrong in
            ["", "2024", "2024-13-01", "99/12/31", "2024-01-01T25:00:00", "yesterday", "99999999999999", "-"]
        {
            assert_eq!(mjd_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_known_is_written_under_all_names() {
        let mut h = Header::new();
        h.set("EXPJDST", 2_460_310.5, "");
        h.set("EXPDTEND", "20240101000100", "");
        Span::of(&h).write(&mut h);
        assert_eq!(h.number("MJD-BEG"), Some(60_310.0));
        for (key, value) in [
            ("DATE-OBS", "2024-01-01T00:00:00.000"),
            ("DATE-AVG", "2024-01-01T00:00:30.000"),
            ("DATE-END", "2024-01-01T00:01:00.000"),
            ("EXPDTST", "20240101000000"),
            ("EXPDTMID", "20240101000030"),
            ("TIMESYS", "UTC"),
        ] {
            assert_eq!(h.text(key).as_deref(), Some(value), "{key}");
        }
        assert!((h.number("EXPJDEND").unwrap() - 2_460_310.5 - 1.0 / 1440.0).abs() < 1e-8);
        assert!(disagreements(&h).is_empty(), "{:?}", disagreements(&h));
        // Nothing is made up.
        let mut h = Header::new();
        Span::of(&h).write(&mut h);
        assert_eq!(h, Header::new());
        h.set("DATE-BEG", "2024-01-01T00:00:00", "");
        Span::of(&h).write(&mut h);
        assert!(!h.has("MJD-END") && !h.has("MJD-AVG") && h.has("EXPJDST"));
    }

    #[test]
    fn times_that_disagree_are_named() {
        let mut h = Header::new();
        h.set("EXPJDST", 2_460_310.5, "");
        h.set("EXPJDEND", 2_460_310.4, "");
        h.set("DATE-OBS", "2024-01-01", "");
        h.set("MJD-BEG", 60_311.0, "");
        let found = disagreements(&h);
        let keys: Vec<_> = found.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["MJD-BEG", "EXPJDEND"], "{found:?}");
        assert!(
            found[0].1.contains("24.0 h") && found[0].1.contains("EXPJDST = 2460310.5"),
            "{}",
            found[0].1
        );
    }
}
