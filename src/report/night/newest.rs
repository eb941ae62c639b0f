//! The newest product, larger: what a watched night's page shows first.

use std::path::Path;

use super::Row;
use super::look;
use super::page::{ABOVE_1, clock, escape};
use crate::config::Instrument;
use crate::quicklook::picture::number;

/// Longest side of its picture, pixels.
const SIDE: usize = 560;

/// The newest product and its picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// Its name within the folder.
    pub file: String,
    /// When it was made, UTC: the same name with another time is another product.
    pub made: String,
    /// `data:` address; empty where it cannot be drawn.
    pub picture: String,
}

/// The newest product of the sky or a source; `before` where that is still the newest.
pub(super) fn of(
    rows: &[Row],
    before: Option<Newest>,
    output: &Path,
    instrument: &Instrument,
) -> Option<Newest> {
    let shown = rows.iter().filter(|r| is_of_the_sky(r) && !r.thumbnail.is_empty());
    let row = shown
        .max_by(|a, b| a.made.cmp(&b.made).then(a.begin.unwrap_or(0.0).total_cmp(&b.begin.unwrap_or(0.0))))?;
    if let Some(before) = before.filter(|b| b.file == row.file && b.made == row.made) {
        return Some(before);
    }
    let picture = look::picture(&output.join(&row.file), instrument, SIDE);
    Some(Newest { file: row.file.clone(), made: row.made.clone(), picture })
}

/// Neither a master nor a frame that only calibrates.
fn is_of_the_sky(row: &Row) -> bool {
    let calibrates = ["-DRK", "-NFF", "-SPX", "-IDP"].iter().any(|end| row.obsname.ends_with(end));
    row.reftype.is_empty() && !calibrates
}

/// The section of the page; empty without one.
pub(super) fn section(newest: Option<&Newest>, rows: &[Row]) -> String {
    let Some((newest, row)) = newest.and_then(|n| Some((n, rows.iter().find(|r| r.file == n.file)?))) else {
        return String::new();
    };
    let n = &row.numbers;
    let with =
        |v: Option<f64>, unit: &str| v.filter(|v| v.is_finite()).map(|v| format!("{} {unit}", number(v)));
    let facts = [
        ("Object", Some(row.object.clone()).filter(|t| !t.is_empty())),
        ("Filter", Some(row.filter.clone()).filter(|t| !t.is_empty())),
        ("Grating", Some(row.grating.clone()).filter(|t| !t.is_empty())),
        ("Taken", row.begin.map(|b| format!("{} UT", clock(b)))),
        ("Exposed", with(row.exptime, "s")),
        ("Background", with(n.background, &n.unit)),
        ("Noise ÷ expected", n.noise_ratio.map(|v| format!("{v:.2}"))),
        ("FWHM", with(n.fwhm_mas, "mas")),
        ("Strehl", n.strehl.map(|v| format!("{v:.2}"))),
        ("Strehl", n.strehl_above_1.map(|v| format!("{v:.2}, {ABOVE_1}"))),
        ("5 σ star", with(n.depth, &n.unit)),
        ("Leak", n.leak.map(|v| format!("{:.2} %", 100.0 * v))),
        ("Warnings", Some(row.warnings.join("; ")).filter(|t| !t.is_empty())),
    ];
    let facts: String = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("<dt>{name}</dt><dd>{}</dd>", escape(&value?))))
        .collect();
    format!(
        "<section id=\"newest\"><h2>Newest</h2><div class=\"newest\"><img alt=\"\" src=\"{}\"><div><h3>{}<span>{}</span></h3><dl>{facts}</dl></div></div></section>",
        escape(&newest.picture),
        escape(row.file.rsplit('/').next().unwrap_or_default()),
        escape(&row.obsname),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_calibrations_are_not_the_newest_product() {
        let row = |file: &str, obsname: &str, reftype: &str, made: &str| Row {
            file: file.into(),
            obsname: obsname.into(),
            reftype: reftype.into(),
            made: made.into(),
            thumbnail: "data:image/png;base64,".into(),
            ..Row::default()
        };
        let science = row("science.fits", "IMG1-SCI", "", "2026-03-15T03:00:00");
        let dark = row("dark_rate.fits", "IMG1-DRK", "", "2026-03-15T03:00:05");
        let master = row("flat.fits", "IMG1-NFF", "FLAT", "2026-03-15T03:00:06");
        let instrument = Instrument::iris().expect("instrument");
        let newest = |rows: &[Row]| of(rows, None, Path::new("."), &instrument).map(|n| n.file);
        assert_eq!(newest(&[dark.clone(), science, master.clone()]).as_deref(), Some("science.fits"));
        assert_eq!(newest(&[dark, master]), None);
    }
}
