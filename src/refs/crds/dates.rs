//! Dates in the forms that headers and mappings have them.

use super::condition::{float, quoted};
use crate::datamodel::civil;

/// A date and time of day. Compared as the text of [`Date::text`], or by
/// [`Date::microseconds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    year: i64,
    month: i64,
    day: i64,
    time: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Time {
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Date {
    /// Reads a date: `YYYY-MM-DD` or `YYYY/MM/DD` with a time after a space or T,
    /// `MM/DD/YYYY`, `DD/MM/YY`, `YYYYMMDD:HHMMSS`, `Jan 01 2020 03:04:05 pm`.
    pub(super) fn parse(text: &str) -> Result<Date, String> {
        if text.contains("UNDEFINED") {
            return Err("One or more required date/time values is UNDEFINED".into());
        }
        let text = text.strip_suffix(" UT").unwrap_or(text);
        let text = if joined_by_t(text) { text.replace('T', " ") } else { text.to_owned() };
        let letters = text.split(|c: char| !c.is_ascii_alphabetic()).map(str::len).max();
        if letters.unwrap_or(0) >= 3 { with_month(&text) } else { in_digits(&text) }
    }

    fn new(year: i64, month: i64, day: i64, time: Time) -> Result<Date, String> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let wrong = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
        wrong((1..=9999).contains(&year), &format!("year {year} is out of range"))?;
        wrong((1..=12).contains(&month), "month must be in 1..12")?;
        wrong((1..=days).contains(&day), "day is out of range for month")?;
        wrong((0..24).contains(&time.hour), "hour must be in 0..23")?;
        wrong((0..60).contains(&time.minute), "minute must be in 0..59")?;
        wrong((0..60).contains(&time.second), "second must be in 0..59")?;
        wrong((0..1_000_000).contains(&time.micro), "microsecond must be in 0..999999")?;
        Ok(Date { year, month, day, time })
    }

    /// `2020-01-31 03:04:05`, with `.678000` where there is a fraction.
    pub(super) fn text(&self) -> String {
        let Time { hour, minute, second, micro } = self.time;
        let (year, month, day) = (self.year, self.month, self.day);
        let fraction = if micro == 0 { String::new() } else { format!(".{micro:06}") };
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}")
    }

    /// Microseconds since 1970.
    pub(super) fn microseconds(&self) -> i64 {
        let Time { hour, minute, second, micro } = self.time;
        // Days from the first of March of the year 0, when the day of a leap year is the last.
        let (year, month) =
            if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month + 2) / 5
            + self.day
            - 719_469;
        (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro
    }
}

/// The date of a Julian date, to the second.
pub(super) fn of_julian(jd: f64) -> Option<String> {
    let seconds = ((jd - 2_440_587.5) * 86_400.0).round();
    if !seconds.is_finite() || seconds.abs() > 1e11 {
        return None;
    }
    let (days, rest) = ((seconds as i64).div_euclid(86_400), (seconds as i64).rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let time = Time { hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, micro: 0 };
    Date::new(year, month, day, time).ok().map(|d| d.text())
}

/// `2020-01-31T03:04`, perhaps with seconds, those perhaps with up to six decimals.
fn joined_by_t(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let (time, fraction) = match time.split_once('.') {
        Some((time, fraction)) => (time, Some(fraction)),
        None => (time, None),
    };
    let dashed = date.replace('/', "-");
    shaped(&dashed, "0000-00-00")
        && (shaped(time, "00:00") || shaped(time, "00:00:00"))
        && fraction.is_none_or(|f| (1..=6).contains(&f.len()) && f.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a text has digits where the shape has 0, and else what it has.
fn shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(t, s)| if s == b'0' { t.is_ascii_digit() } else { t == s })
}

fn integer(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid literal for int() with base 10: {}", quoted(text));
    text.trim().parse().map_err(|_| wrong())
}

/// `Jan 01 2020 03:04:05`, `1 January 2020`, `2020-Jan-01` …
fn with_month(text: &str) -> Result<Date, String> {
    let mut date = text.to_owned();
    for half in ["am", "pm"] {
        while date.to_lowercase().ends_with(&format!(" {half}")) {
            date = date.to_lowercase().replace(&format!(" {half}"), half);
        }
    }
    let date = date.replace(['-', '/'], " ");
    let words: Vec<&str> = date.split_whitespace().collect();
    let (month, day, year, time) = match words.as_slice() {
        [month, day, year, time] => (*month, *day, *year, *time),
        [month, day, year] => (*month, *day, *year, "00:00AM"),
        more if more.len() > 3 => return Err("too many values to unpack (expected 3)".into()),
        less => return Err(format!("not enough values to unpack (expected 3, got {})", less.len())),
    };
    let day = day.strip_suffix(',').unwrap_or(day);
    let named = |month: &str| {
        let three: String = month.chars().take(3).collect();
        let found = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(&three));
        let wrong = || format!("Invalid month value {} in base date {}", quoted(month), quoted(text));
        found.map(|n| n as i64 + 1).ok_or_else(wrong)
    };
    let numbers = |month: &str, day: &str| Ok::<_, String>((named(month)?, integer(day)?, integer(year)?));
    let (month, day, year) = numbers(month, day).or_else(|_| numbers(day, month))?;
    Date::new(year, month, day, time_of_day(time)?)
}

fn in_digits(text: &str) -> Result<Date, String> {
    let text = text.replace('-', "/");
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some((date, time)) = words.split_first() else { return Err("list index out of range".into()) };
    let mut time = if time.is_empty() { Time::default() } else { time_of_day(&time.join(" "))? };
    let part = |from: usize, to: usize| date.get(from..to).map_or(Ok(0), integer);
    let (year, month, day) = if shaped(date, "00/00/0000") {
        (part(6, 10)?, part(0, 2)?, part(3, 5)?)
    } else if shaped(date, "0000/00/00") {
        (part(0, 4)?, part(5, 7)?, part(8, 10)?)
    } else if shaped(date, "00/00/90") {
        (1900 + part(6, 8)?, part(3, 5)?, part(0, 2)?)
    } else if shaped(date, "00/00/00") && part(6, 8)? < 40 {
        (2000 + part(6, 8)?, part(3, 5)?, part(0, 2)?)
    } else if shaped(date, "00000000:000000") {
        time = Time { hour: part(9, 11)?, minute: part(11, 13)?, second: part(13, 15)?, micro: 0 };
        (part(0, 4)?, part(4, 6)?, part(6, 8)?)
    } else {
        return Err(format!("Unknown numerical date format: {}", quoted(&text)));
    };
    Date::new(year, month, day, time)
}

/// `03:04`, `03:04:05.6`, `03:04:05pm`; a fourth part is passed over.
fn time_of_day(text: &str) -> Result<Time, String> {
    let text = text.trim();
    let at = text.char_indices().nth_back(1).map_or(0, |(at, _)| at);
    let half = text[at..].to_uppercase();
    let half = if half == "AM" || half == "PM" { half } else { String::new() };
    let text = &text[..text.len() - half.len()];
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (hour, minute, "00"),
        [hour, minute, second] | [hour, minute, second, _] => (hour, minute, *second),
        [one] if one.len() == text.len() => {
            return Err("not enough values to unpack (expected 4, got 1)".into());
        }
        _ => return Err("too many values to unpack (expected 4)".into()),
    };
    let (hour, minute, seconds) = (integer(hour)?, integer(minute)?, float(second)?);
    if !seconds.is_finite() {
        return Err("cannot convert float NaN or infinity to integer".into());
    }
    let second = seconds as i64;
    let micro = ((seconds - second as f64) * 1e6) as i64;
    let hour = match half.as_str() {
        "PM" if hour < 12 => hour + 12,
        "AM" if hour == 12 => 0,
        _ => hour,
    };
    Ok(Time { hour, minute, second, micro })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_many_forms() {
        for (text, date) in [
            ("2020-01-31T03:04:05.678", "2020-01-31 03:04:05.677999"),
            ("2020/01/31 03:04", "2020-01-31 03:04:00"),
            ("01/31/2020", "2020-01-31 00:00:00"),
            ("31/01/98", "1998-01-31 00:00:00"),
            ("31/01/20 UT", "2020-01-31 00:00:00"),
            ("20200131:030405", "2020-01-31 03:04:05"),
            ("JAN 31 2020 03:04:05 PM", "2020-01-31 15:04:05"),
            ("31 January, 2020", "2020-01-31 00:00:00"),
            ("January 31, 2020 12:30am", "2020-01-31 00:30:00"),
        ] {
            assert_eq!(Date::parse(text).map(|d| d.text()).as_deref(), Ok(date), "{text}");
        }
        for text in ["20240924000000.0", "", "2020-02-30", "2020-01-01 25:00", "FOO BAR 2020", "UNDEFINED"] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_counted_through_leap_years() {
        let at = |text| Date::parse(text).expect("a date").microseconds();
        assert_eq!(at("1970-01-01"), 0);
        assert_eq!(at("2000-03-01") - at("2000-02-28"), 2 * 86_400 * 1_000_000);
        assert_eq!(at("2024-09-24 00:00:00"), 1_727_136_000 * 1_000_000);
        assert_eq!(of_julian(2_440_587.5).as_deref(), Some("1970-01-01 00:00:00"));
        assert_eq!(of_julian(2_460_577.5).as_deref(), Some("2024-09-24 00:00:00"));
        assert_eq!(of_julian(f64::NAN), None);
    }
}
