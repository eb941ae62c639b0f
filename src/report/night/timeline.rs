//! When exposures were taken, as a drawing: a line a detector.

use super::Row;
use super::page::{clock, date, escape};
use crate::datamodel::mjd_of;

const WIDE: f64 = 1200.0;
const LEFT: f64 = 64.0;
const LINE: f64 = 26.0;

/// A bar: of which line, from when to when (MJD), of what.
struct Bar<'a> {
    line: String,
    row: &'a Row,
    from: f64,
    to: f64,
}

/// When exposures were taken; empty where none says.
pub(super) fn taken<'a>(rows: &'a [Row]) -> String {
    let exposures = rows.iter().filter(|r| r.reftype.is_empty());
    let bar = |row: &'a Row| {
        Some(Bar { line: row.detector.clone(), row, from: row.begin?, to: row.end.or(row.begin)? })
    };
    svg(exposures.filter_map(bar).collect(), "When exposures were taken")
}

/// When products were computed, what was done at the same time in lines of its own; empty
/// where none says.
pub(super) fn made<'a>(rows: &'a [Row]) -> String {
    let bar = |row: &'a Row| {
        let (to, seconds) = (mjd(&row.made)?, row.seconds?);
        Some(Bar { line: String::new(), row, from: to - seconds / 86_400.0, to })
    };
    let mut bars: Vec<Bar<'_>> = rows.iter().filter_map(bar).collect();
    bars.sort_by(|a, b| a.from.total_cmp(&b.from));
    // Ends are known to a second: what overlaps by less may have been one after the other.
    const SLACK: f64 = 1.0 / 86_400.0;
    let mut busy: Vec<f64> = Vec::new();
    for bar in &mut bars {
        let free = busy.iter().position(|until| *until <= bar.from + SLACK).unwrap_or(busy.len());
        busy.resize(busy.len().max(free + 1), bar.to);
        busy[free] = bar.to;
        bar.line = format!("{}", free + 1);
    }
    svg(bars, "When products were made")
}

/// MJD of `YYYY-MM-DDTHH:MM:SS…`; a day alone is no time.
fn mjd(text: &str) -> Option<f64> {
    mjd_of(text).filter(|_| text.len() >= 19)
}

/// The drawing: a line a detector.
fn svg(mut taken: Vec<Bar<'_>>, label: &str) -> String {
    taken.retain(|b| b.from.is_finite() && b.to >= b.from);
    let first = taken.iter().map(|b| b.from).fold(f64::MAX, f64::min);
    let last = taken.iter().map(|b| b.to).fold(f64::MIN, f64::max);
    if !(last > first) {
        return String::new();
    }
    let mut detectors: Vec<String> = taken.iter().map(|b| b.line.clone()).collect();
    detectors.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    detectors.dedup();
    let at = |t: f64| LEFT + (t - first) / (last - first) * (WIDE - LEFT - 8.0);
    let mut out = String::new();
    let bottom = detectors.len() as f64 * LINE + 6.0;
    let step = step(86_400.0 * (last - first)) / 86_400.0;
    for k in 0..200 {
        let t = ((first / step).ceil() + f64::from(k)) * step;
        if t > last {
            break;
        }
        let x = at(t);
        out += &format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{}\">{}</text>",
            bottom + 15.0,
            if x > WIDE - 40.0 { "end" } else { "middle" },
            tick(t, step)
        );
    }
    for (row, name) in detectors.iter().enumerate() {
        let y = row as f64 * LINE;
        out += &format!("<text x=\"0\" y=\"{}\" class=\"t\">{}</text>", y + 19.0, escape(name));
        for Bar { row: r, from: a, to: b, .. } in taken.iter().filter(|b| b.line == *name) {
            let kind = r.obsname.rsplit('-').next().unwrap_or_default().to_lowercase();
            let kind = if ["sci", "sky", "drk", "nff", "spx", "tel"].contains(&kind.as_str()) {
                kind
            } else {
                "other".into()
            };
            let width = (at(*b) - at(*a)).max(1.5);
            out += &format!(
                "<rect class=\"bar {kind}\" x=\"{:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"16\"><title>{} {} {}</title></rect>",
                at(*a),
                y + 6.0,
                escape(&r.obsname),
                escape(&r.object),
                clock(*a)
            );
        }
    }
    format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDE} {}\" role=\"img\" aria-label=\"{label}\">{out}</svg>",
        bottom + 22.0
    )
}

/// Seconds from tick to tick over so many seconds: round numbers, of which each is at most
/// three times the one before, so that there are 3 ticks at least and 13 at most.
fn step(seconds: f64) -> f64 {
    const STEPS: [f64; 17] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
        14_400.0, 43_200.0,
    ];
    let days = std::iter::successors(Some(86_400.0), |s| Some(2.0 * s));
    STEPS.into_iter().chain(days.take(64)).find(|s| seconds / s <= 12.0).unwrap_or(f64::MAX)
}

/// What stands at a tick: the time as finely as the `step` (both in days) needs it.
fn tick(t: f64, step: f64) -> String {
    match 86_400.0 * step {
        s if s < 0.9 => seconds(t, 1),
        s if s < 59.0 => seconds(t, 0),
        s if s < 86_000.0 => clock(t),
        _ => date(t),
    }
}

/// `HH:MM:SS` of a Modified Julian Date, with so many decimals of a second (0 or 1).
fn seconds(mjd: f64, decimals: usize) -> String {
    let parts = if decimals == 0 { 1.0 } else { 10.0 };
    let all = (mjd.rem_euclid(1.0) * 86_400.0 * parts).round() / parts % 86_400.0;
    let (hours, minutes) = ((all / 3600.0).floor(), (all / 60.0).floor() % 60.0);
    let width = if decimals == 0 { 2 } else { 4 };
    format!("{hours:02}:{minutes:02}:{:0width$.decimals$}", all % 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exposure_has_its_bar() {
        let at = |begin: f64| Row {
            detector: "IMG1".into(),
            obsname: "IMG1-SCI".into(),
            begin: Some(begin),
            end: Some(begin + 0.001),
            ..Row::default()
        };
        let text = taken(&[at(60000.1), at(60000.2), Row::default()]);
        assert_eq!(text.matches("class=\"bar sci\"").count(), 2);
        assert!(taken(&[Row::default()]).is_empty());
        // A clock that went mad makes no endless drawing.
        assert!(taken(&[at(0.0), at(1e9)]).len() < 100_000);
    }

    #[test]
    fn a_drawing_has_three_ticks_at_least_however_short_or_long() {
        for seconds in [0.45, 0.9, 3.0, 13.0, 61.0, 75.0, 400.0, 3601.0, 40_000.0, 1e5, 1e6, 1e7, 1e9] {
            // From an odd time on, and not a whole number of steps long.
            let begin = 60_000.123_456_7;
            let row = Row { begin: Some(begin), end: Some(begin + seconds / 86_400.0), ..Row::default() };
            let svg = taken(&[row]);
            let ticks = svg.matches("class=\"grid\"").count();
            assert!((3..=13).contains(&ticks), "{ticks} ticks in {seconds} s");
            let mut labels: Vec<&str> =
                svg.split("text-anchor=").skip(1).filter_map(|t| t.split(['>', '<']).nth(1)).collect();
            labels.dedup();
            assert_eq!(labels.len(), ticks, "{labels:?} are not all different");
        }
    }

    #[test]
    fn when_it_was_made_is_read_and_drawn() {
        assert_eq!(mjd("2000-01-01T12:00:00.000"), Some(51_544.5));
        assert_eq!(mjd("2026-03-15T03:00:36"), Some(61_114.0 + 10_836.0 / 86_400.0));
        assert_eq!((mjd("yesterday"), mjd(""), mjd("2026-é")), (None, None, None));
        assert_eq!(mjd("2000-01-01T12:00:00.5"), Some(51_544.5 + 0.5 / 86_400.0));
        assert_eq!(
            (seconds(51_544.5, 0).as_str(), seconds(51_544.5, 1).as_str()),
            ("12:00:00", "12:00:00.0")
        );
        assert_eq!(seconds(51_544.0 + 86_399.96 / 86_400.0, 1), "00:00:00.0");
        let row = Row { made: "2026-03-15T03:00:36".into(), seconds: Some(2.0), ..Row::default() };
        assert_eq!(made(&[row]).matches("<rect").count(), 1);
        assert!(made(&[Row::default()]).is_empty());
    }
}
