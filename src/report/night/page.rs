//! The page: one file, nothing from outside it.

use super::{Night, Row, graph, newest, timeline};
use crate::quicklook::picture::number;

const TEMPLATE: &str = include_str!("../html/report.html");
const STYLE: &str = include_str!("../html/report.css");
const SCRIPT: &str = include_str!("../html/report.js");

/// The whole page.
pub(super) fn html(night: &Night, refresh: Option<u32>) -> String {
    let live = refresh.is_some();
    let refresh =
        refresh.map_or(String::new(), |s| format!("<meta http-equiv=\"refresh\" content=\"{}\">", s.max(1)));
    let parts = [
        ("refresh", refresh),
        ("style", STYLE.to_owned()),
        ("script", SCRIPT.to_owned()),
        ("title", escape(&title(night))),
        ("summary", summary(night, live)),
        ("newest", newest::section(night.newest.as_ref(), &night.rows)),
        ("troubles", troubles(night)),
        ("warnings", warnings(night)),
        ("timeline", section("When exposures were taken", "timeline", &timeline::taken(&night.rows))),
        ("made", section("When products were made", "made", &timeline::made(&night.rows))),
        ("cubes", cubes(night)),
        ("rows", night.rows.iter().map(row).collect()),
        ("graph", section("What was calibrated with what", "calibrations", &graph::svg(&night.rows))),
        ("unit", escape(unit(night))),
        ("written", escape(&night.written)),
    ];
    // One pass: a header's text that looks like a place in the template stays text.
    let mut out = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        out += before;
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out += parts.iter().find(|p| p.0 == name).map_or("", |p| &p.1);
        rest = after;
    }
    out + rest
}

/// The unit that all numbers have; none where there are several.
fn unit(night: &Night) -> &str {
    let mut units = night.rows.iter().map(|r| r.numbers.unit.as_str()).filter(|u| !u.is_empty());
    let first = units.next().unwrap_or_default();
    if units.all(|u| u == first) { first } else { "" }
}

fn title(night: &Night) -> String {
    let day = night.rows.iter().find_map(|r| r.begin).map(date).unwrap_or_default();
    if day.is_empty() { "Night".to_owned() } else { format!("Night of {day}") }
}

fn section(title: &str, id: &str, body: &str) -> String {
    if body.is_empty() {
        String::new()
    } else {
        format!("<section id=\"{id}\"><h2>{title}</h2><div class=\"wide\">{body}</div></section>")
    }
}

/// `live`: the run goes on.
fn summary(night: &Night, live: bool) -> String {
    let count = |what: fn(&Row) -> bool| night.rows.iter().filter(|r| what(r)).count();
    let run = &night.last_run;
    let failed = run.troubles().filter(|t| t.status == "failed").count();
    let warned = night.rows.iter().filter(|r| !r.warnings.is_empty()).count();
    let mut tiles = vec![
        (count(|r| r.reftype.is_empty()).to_string(), "exposures"),
        (count(|r| !r.reftype.is_empty()).to_string(), "masters"),
        (failed.to_string(), "failed"),
        (warned.to_string(), "with warnings"),
    ];
    let busy: f64 = night.rows.iter().filter_map(|r| r.seconds).sum();
    let timed = night.rows.iter().filter(|r| r.seconds.is_some()).count();
    if busy > 0.0 {
        tiles.push((format!("{} s", number(busy / timed as f64)), "a product, on average"));
        tiles.push((format!("{:.0}", 3600.0 * timed as f64 / busy), "products an hour of work"));
    }
    let waiting = run.troubles().filter(|t| t.status == "waiting").count();
    if waiting > 0 {
        tiles.push((waiting.to_string(), "waiting"));
    }
    let mut out = String::from("<dl class=\"tiles\">");
    for (value, name) in tiles {
        let bad = if name == "failed" && value != "0" { " class=\"bad\"" } else { "" };
        out += &format!("<div{bad}><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    out += "</dl>";
    if !run.command.is_empty() {
        out += &format!(
            "<p class=\"again\">{}: <code>{}</code><br><span>{} {} UTC{} {} s{}</span></p>",
            if live { "Running" } else { "Run it again" },
            escape(&run.command),
            if live { "as of" } else { "last ended" },
            escape(&run.ended.replace('T', " ")),
            if live { ", for" } else { " after" },
            number(run.seconds),
            if run.engine.is_empty() { String::new() } else { format!(", on {}", escape(&run.engine)) }
        );
    }
    if night.stale > 0 {
        let (n, s) = (night.stale, if night.stale == 1 { " lies" } else { "s lie" });
        out += &format!(
            "<p class=\"aside\">{n} product{s} in the folder stale: their frames were removed or excluded, or make other products now. The log says which and why.</p>"
        );
    }
    out
}

fn troubles(night: &Night) -> String {
    let mut rows = String::new();
    for t in night.last_run.troubles() {
        let class = if t.status == "failed" { "bad" } else { "" };
        let again =
            if t.again.is_empty() { String::new() } else { format!("<br><code>{}</code>", escape(&t.again)) };
        rows += &format!(
            "<tr class=\"{class}\"><td>{}</td><td>{}</td><td>{}</td><td class=\"sentence\">{}{again}</td></tr>",
            escape(&t.name),
            escape(&t.obsname),
            escape(&t.status),
            escape(&t.error)
        );
    }
    for (file, why) in &night.unreadable {
        rows += &format!(
            "<tr class=\"bad\"><td>{}</td><td></td><td>unreadable</td><td class=\"sentence\">{}</td></tr>",
            escape(file),
            escape(why)
        );
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"troubles\"><h2>What was not done, and why</h2><div class=\"wide\"><table><thead><tr><th>Exposure</th><th>Kind</th><th>Status</th><th>Reason</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
}

fn warnings(night: &Night) -> String {
    let mut said: Vec<(&str, Vec<&str>)> =
        night.last_run.warnings.iter().map(|w| (w.as_str(), Vec::new())).collect();
    for row in &night.rows {
        for w in &row.warnings {
            let name = row.file.rsplit('/').next().unwrap_or_default();
            match said.iter_mut().find(|s| s.0 == w) {
                Some(s) => s.1.push(name),
                None => said.push((w, vec![name])),
            }
        }
    }
    if said.is_empty() {
        return String::new();
    }
    let item = |(text, names): &(&str, Vec<&str>)| {
        let of = match names.as_slice() {
            [] => String::new(),
            [one] => format!(" <span>{}</span>", escape(one)),
            [one, rest @ ..] => format!(" <span>{} and {} more</span>", escape(one), rest.len()),
        };
        format!("<li>{}{of}</li>", escape(text))
    };
    let list: String = said.iter().map(item).collect();
    format!("<section id=\"warnings\"><h2>Warnings</h2><ul class=\"warnings\">{list}</ul></section>")
}

fn row(r: &Row) -> String {
    let n = &r.numbers;
    let name = r.file.rsplit('/').next().unwrap_or_default();
    let kind =
        if r.reftype.is_empty() { r.obsname.clone() } else { format!("master {}", r.reftype.to_lowercase()) };
    let picture = if r.thumbnail.is_empty() {
        String::new()
    } else {
        format!("<img alt=\"\" loading=\"lazy\" src=\"{}\">", escape(&r.thumbnail))
    };
    let mut told = r.warnings.clone();
    if !r.failed_since.is_empty() {
        told.insert(0, format!("out of date, and made again it failed: {}", r.failed_since));
    }
    let warn = match told.len() {
        0 => String::new(),
        k => format!("<span class=\"warn\" title=\"{}\">{k}</span>", escape(&told.join("\n"))),
    };
    let what = [&r.object, &r.filter, &r.grating]
        .into_iter()
        .filter(|t| !t.is_empty())
        .map(|t| escape(t))
        .collect::<Vec<_>>();
    let cells = [
        cell(r.begin, clock),
        cell(r.exptime, number),
        cell(n.background, number),
        cell(n.noise_ratio, |v| format!("{v:.2}")),
        cell(n.hit_rate, number),
        cell(n.saturated.map(|s| s as f64), |s| format!("{s}")),
        cell(n.chi2, |v| format!("{v:.3}")),
        cell(n.fwhm_mas, |v| format!("{v:.1}")),
        cell(n.strehl, |v| format!("{v:.2}")),
        cell(n.depth, number),
        cell(n.wavelength_rms, |v| format!("{v:.3}")),
        cell(n.flexure, |v| format!("{v:+.3}")),
        cell(n.leak.map(|v| 100.0 * v), |v| format!("{v:.2}")),
        cell(r.seconds, |s| format!("{s:.2}")),
    ];
    let references: Vec<String> =
        r.references.iter().map(|(k, f)| format!("{}: {f}", k.to_lowercase())).collect();
    format!(
        "<tr><td class=\"thumb\">{picture}</td><td class=\"name\"><b title=\"{}\">{}</b><span>{}</span></td><td>{}</td>{}<td>{warn}</td></tr>\n",
        escape(&references.join("\n")),
        escape(name),
        what.join(" · "),
        escape(&kind),
        cells.concat()
    )
}

fn cell(value: Option<f64>, say: impl Fn(f64) -> String) -> String {
    match value.filter(|v| v.is_finite()) {
        Some(v) => format!("<td class=\"n\" data-v=\"{v}\">{}</td>", escape(&say(v))),
        None => "<td class=\"n none\">–</td>".into(),
    }
}

fn cubes(night: &Night) -> String {
    let mut out = String::new();
    for r in &night.rows {
        let Some(cube) = &r.cube else { continue };
        let name = r.file.rsplit('/').next().unwrap_or_default();
        let data = serde_json::json!({
            "size": cube.size, "wavelength": cube.wavelength, "unit": cube.unit,
            "ranges": cube.ranges.iter().map(|r| r.map(finite)).collect::<Vec<_>>(), "spectra": cube.spectra,
        });
        // Within a script element only "</" and "<!--" have a meaning.
        let data = data.to_string().replace('<', "\\u003c");
        let mut maps = String::new();
        for (w, picture) in &cube.lines {
            maps += &format!(
                "<figure><img alt=\"\" src=\"{}\"><figcaption>line at {w:.4} µm</figcaption></figure>",
                escape(picture)
            );
        }
        out += &format!(
            "<article class=\"cube\"><h3>{}<span>{}</span></h3><div class=\"panes\"><figure class=\"white\"><img alt=\"white light\" src=\"{}\"><i></i><figcaption>white light</figcaption></figure><figure class=\"spectrum\"><canvas width=\"720\" height=\"240\"></canvas><figcaption>spectrum under the pointer</figcaption></figure>{maps}</div><script type=\"application/json\">{data}</script></article>",
            escape(name),
            escape(&r.object),
            escape(&r.thumbnail)
        );
    }
    if out.is_empty() { out } else { format!("<section id=\"cubes\"><h2>Cubes</h2>{out}</section>") }
}

fn finite(v: f32) -> f32 {
    if v.is_finite() { v } else { 0.0 }
}

/// Text that cannot be taken for HTML, within elements and within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// `HH:MM` of a Modified Julian Date.
pub(super) fn clock(mjd: f64) -> String {
    let minutes = ((mjd.rem_euclid(1.0)) * 1440.0).round() as u32 % 1440;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `YYYY-MM-DD` of a Modified Julian Date (Fliegel & Van Flandern 1968, CACM 11, 657).
fn date(mjd: f64) -> String {
    if !(-600_000.0..3_000_000.0).contains(&mjd) {
        return String::new();
    }
    let mut l = mjd.floor() as i64 + 2_400_001 + 68_569;
    let n = 4 * l / 146_097;
    l -= (146_097 * n + 3) / 4;
    let i = 4000 * (l + 1) / 1_461_001;
    l = l - 1461 * i / 4 + 31;
    let j = 80 * l / 2447;
    let day = l - 2447 * j / 80;
    l = j / 11;
    format!("{:04}-{:02}-{day:02}", 100 * (n - 49) + i + l, j + 2 - 12 * l)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::night::last_run::TaskSaid;

    #[test]
    fn dates_and_clocks() {
        assert_eq!((date(61_114.13).as_str(), clock(61_114.132_013_9).as_str()), ("2026-03-15", "03:10"));
        assert_eq!((date(51_544.0).as_str(), date(f64::NAN).as_str()), ("2000-01-01", ""));
    }

    #[test]
    fn what_headers_say_stays_text_and_nothing_is_fetched() {
        let evil = "<script>alert('1')</script>\"{{style}}";
        let mut night = Night::default();
        night.rows.push(Row {
            file: format!("{evil}.fits"),
            object: evil.into(),
            obsname: evil.into(),
            filter: evil.into(),
            detector: evil.into(),
            begin: Some(60000.0),
            end: Some(60001.0),
            warnings: vec![evil.into()],
            references: [("DARK".to_owned(), evil.to_owned())].into(),
            cube: Some(super::super::cube::CubeView { unit: evil.into(), ..Default::default() }),
            ..Row::default()
        });
        night.unreadable.push((evil.into(), evil.into()));
        night.last_run.command = evil.into();
        night.last_run.warnings.push(evil.into());
        night.last_run.tasks.push(TaskSaid {
            name: evil.into(),
            status: "failed".into(),
            error: evil.into(),
            again: evil.into(),
            ..TaskSaid::default()
        });
        let picture = evil.into();
        night.newest =
            Some(super::super::Newest { file: night.rows[0].file.clone(), made: evil.into(), picture });
        let page = html(&night, None);
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"));
        assert!(
            page.contains("{{style}}") && page.matches("{{").count() == page.matches("{{style}}").count()
        );
        for outside in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("http-equiv=\"refresh\"") && html(&night, Some(5)).contains("content=\"5\""));
        // The data of a cube cannot end its script element.
        assert_eq!(page.matches("</script>").count(), page.matches("<script").count());
    }
}
