//! When exposures were taken, as a drawing: a line a detector.

use super::Row;
use super::page::{clock, escape};

const WIDE: f64 = 1200.0;
const LEFT: f64 = 64.0;
const LINE: f64 = 26.0;

/// The drawing; empty where no exposure says when it was taken.
pub(super) fn svg(rows: &[Row]) -> String {
    let taken: Vec<(&Row, f64, f64)> = rows
        .iter()
        .filter(|r| r.reftype.is_empty())
        .filter_map(|r| Some((r, r.begin?, r.end.or(r.begin)?)))
        .filter(|(_, a, b)| a.is_finite() && b >= a)
        .collect();
    let first = taken.iter().map(|t| t.1).fold(f64::MAX, f64::min);
    let last = taken.iter().map(|t| t.2).fold(f64::MIN, f64::max);
    if !(last > first) {
        return String::new();
    }
    let mut detectors: Vec<&str> = taken.iter().map(|t| t.0.detector.as_str()).collect();
    detectors.sort_unstable();
    detectors.dedup();
    let at = |t: f64| LEFT + (t - first) / (last - first) * (WIDE - LEFT - 8.0);
    let mut out = String::new();
    let bottom = detectors.len() as f64 * LINE + 6.0;
    // Ticks at round minutes, about ten of them.
    let minutes = (last - first) * 1440.0;
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 720.0, 1440.0, 14400.0]
        .into_iter()
        .find(|s| minutes / s <= 12.0)
        .unwrap_or(144_000.0)
        / 1440.0;
    for k in 0..200 {
        let t = ((first / step).ceil() + f64::from(k)) * step;
        if t > last {
            break;
        }
        let x = at(t);
        out += &format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            clock(t)
        );
    }
    for (row, name) in detectors.iter().enumerate() {
        let y = row as f64 * LINE;
        out += &format!("<text x=\"0\" y=\"{}\" class=\"t\">{}</text>", y + 19.0, escape(name));
        for (r, a, b) in taken.iter().filter(|t| t.0.detector == *name) {
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
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDE} {}\" role=\"img\" aria-label=\"When exposures were taken\">{out}</svg>",
        bottom + 22.0
    )
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
        let text = svg(&[at(60000.1), at(60000.2), Row::default()]);
        assert_eq!(text.matches("class=\"bar sci\"").count(), 2);
        assert!(svg(&[Row::default()]).is_empty());
        // A clock that went mad makes no endless drawing.
        assert!(svg(&[at(0.0), at(1e9)]).len() < 100_000);
    }
}
