//! The page: one file, nothing from outside it.

use super::{Night, Row, graph, newest, timeline};
use crate::datamodel::civil;
use crate::quicklook::picture::number;
use crate::words::counted;

const TEMPLATE: &str = include_str!("../html/report.html");
const STYLE: &str = include_str!("../html/report.css");
const SCRIPT: &str = include_str!("../html/report.js");

/// The whole page.
pub(super) fn html(night: &Night, refresh: Option<u32>) -> String {
    let live = refresh.is_some();
    let refresh =
        refresh.map_or(String::new(), |s| format!("<meta http-equiv=\"refresh\" content=\"{}\">", s.max(1)));
    // A column that no product fills is left out.
    let numbers: Vec<_> = night.rows.iter().map(numbers).collect();
    let filled: Vec<bool> = (0..COLUMNS.len()).map(|k| numbers.iter().any(|n| n[k].said.is_some())).collect();
    let parts = [
        ("refresh", refresh),
        ("style", STYLE.to_owned()),
        ("script", SCRIPT.to_owned()),
        ("title", escape(&title(night))),
        ("summary", summary(night, live)),
        ("newest", newest::section(night.newest.as_ref(), &night.rows)),
        ("troubles", troubles(night, live)),
        ("warnings", warnings(night)),
        ("timeline", section("When exposures were taken", "timeline", &timeline::taken(&night.rows))),
        ("made", section("When products were made", "made", &timeline::made(&night.rows))),
        ("cubes", cubes(night)),
        ("heads", heads(night, &filled)),
        ("rows", night.rows.iter().map(|r| row(r, &filled)).collect()),
        ("graph", section("What was calibrated with what", "calibrations", &graph::svg(&night.rows))),
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
    // An exposure that failed now may have a product of before, and stands among those.
    let older = count(|r| !r.failed_since.is_empty()).min(failed);
    let (exposures, masters) = (count(|r| r.reftype.is_empty()), count(|r| !r.reftype.is_empty()));
    let mut tiles = vec![
        (
            exposures.to_string(),
            if exposures == 1 { "exposure with a product" } else { "exposures with a product" },
        ),
        (masters.to_string(), if masters == 1 { "master" } else { "masters" }),
        ((failed - older).to_string(), "failed, without a product"),
        (warned.to_string(), "with warnings"),
    ];
    if older > 0 {
        tiles.insert(3, (older.to_string(), "failed, with an older product"));
    }
    let busy: f64 = night.rows.iter().filter_map(|r| r.seconds).sum();
    let timed = night.rows.iter().filter(|r| r.seconds.is_some()).count();
    if busy > 0.0 {
        tiles.push((format!("{} s", number(busy / timed as f64)), "a product, on average"));
        tiles.push((format!("{:.0}", 3600.0 * timed as f64 / busy), "products an hour of work"));
    }
    let mut latencies: Vec<f64> = night.rows.iter().filter_map(|r| r.latency).collect();
    latencies.sort_by(f64::total_cmp);
    if let Some(longest) = latencies.last() {
        let median = latencies[latencies.len() / 2];
        tiles.push((format!("{median:.1} s"), "from a whole file to its product, median"));
        tiles.push((format!("{longest:.1} s"), "the longest of these"));
    }
    let preliminary = count(|r| r.preliminary);
    if preliminary > 0 {
        tiles.push((preliminary.to_string(), "preliminary"));
    }
    let waiting = run.troubles().filter(|t| t.status == "waiting").count();
    if waiting > 0 {
        tiles.push((waiting.to_string(), "waiting"));
    }
    let mut out = String::from("<dl class=\"tiles\">");
    for (value, name) in tiles {
        let bad = if name.starts_with("failed") && value != "0" { " class=\"bad\"" } else { "" };
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
        let (lie, whose) = if night.stale == 1 { ("lies", "its") } else { ("lie", "their") };
        out += &format!(
            "<p class=\"aside\">{} {lie} in the folder stale: {whose} frames were removed or excluded, or make other products now. The log says which and why.</p>",
            counted(night.stale, "product")
        );
    }
    out
}

/// `live`: the run goes on, and tries again by itself.
fn troubles(night: &Night, live: bool) -> String {
    let mut rows = String::new();
    let with = |command: &str| {
        if command.is_empty() { String::new() } else { format!("<br><code>{}</code>", escape(command)) }
    };
    let all = if live { String::new() } else { with(&night.last_run.command) };
    for t in night.last_run.troubles() {
        let class = if t.status == "failed" { "bad" } else { "" };
        let again = match t.status.as_str() {
            "failed" | "not run" if t.again.is_empty() => all.clone(),
            _ => with(&t.again),
        };
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
            "<tr class=\"bad\"><td>{}</td><td></td><td>unreadable</td><td class=\"sentence\">{}{all}</td></tr>",
            escape(file),
            escape(why)
        );
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"troubles\"><h2>What was not done, and why</h2><div class=\"wide\"><table><thead><tr><th>Exposure</th><th>Kind</th><th>Status</th><th>Reason, and the command to run it again</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
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

fn row(r: &Row, filled: &[bool]) -> String {
    let name = r.file.rsplit('/').next().unwrap_or_default();
    let kind =
        if r.reftype.is_empty() { r.obsname.clone() } else { format!("master {}", r.reftype.to_lowercase()) };
    let kind = if r.preliminary { format!("{kind}, preliminary") } else { kind };
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
    let cells: String = numbers(r).iter().zip(filled).filter(|(_, f)| **f).map(|(n, _)| n.cell()).collect();
    let references: Vec<String> =
        r.references.iter().map(|(k, f)| format!("{}: {f}", k.to_lowercase())).collect();
    format!(
        "<tr><td class=\"thumb\">{picture}</td><td class=\"name\"><b title=\"{}\">{}</b><span>{}</span></td><td>{}</td>{}<td>{warn}</td></tr>\n",
        escape(&references.join("\n")),
        escape(name),
        what.join(" · "),
        escape(&kind),
        cells
    )
}

/// Columns of numbers: head, and what stands below it; `*` is the unit that all have.
const COLUMNS: [(&str, &str); 14] = [
    ("Taken", "UT"),
    ("Exposed", "s"),
    ("Background", "*"),
    ("Noise", "÷ expected"),
    ("Hits", "/s/Mpx"),
    ("Saturated", "pixels"),
    ("χ²", "median"),
    ("FWHM", "mas"),
    ("Strehl", ""),
    ("5 σ star", "*"),
    ("λ rms", "nm"),
    ("Flexure", "px"),
    ("Leak", "%"),
    ("Took", "s"),
];

fn heads(night: &Night, filled: &[bool]) -> String {
    let head = |(name, below): &(&str, &str)| {
        let below = if *below == "*" { escape(unit(night)) } else { (*below).to_owned() };
        let below = if below.is_empty() { below } else { format!("<small>{below}</small>") };
        format!("<th class=\"n\">{name}{below}</th>")
    };
    COLUMNS.iter().zip(filled).filter(|(_, f)| **f).map(|(c, _)| head(c)).collect()
}

/// A cell of a column of numbers.
struct Number {
    /// By what it is sorted, and what stands there; none where the product does not tell.
    said: Option<(f64, String)>,
    /// What a pointer on it tells.
    title: &'static str,
}

impl Number {
    fn of(value: Option<f64>, say: impl Fn(f64) -> String) -> Number {
        Number { said: value.filter(|v| v.is_finite()).map(|v| (v, say(v))), title: "" }
    }

    fn cell(&self) -> String {
        let title =
            if self.title.is_empty() { String::new() } else { format!(" title=\"{}\"", escape(self.title)) };
        match &self.said {
            Some((v, text)) => format!("<td class=\"n\" data-v=\"{v}\"{title}>{}</td>", escape(text)),
            None => "<td class=\"n none\">–</td>".into(),
        }
    }
}

/// A row's numbers, in the order of [`COLUMNS`].
fn numbers(r: &Row) -> [Number; COLUMNS.len()] {
    let n = &r.numbers;
    let mut strehl = Number::of(n.strehl.or(n.strehl_above_1), |v| format!("{v:.2}"));
    if n.strehl_above_1.is_some() {
        strehl.title = ABOVE_1;
        strehl.said.iter_mut().for_each(|(_, text)| text.push('!'));
    }
    [
        Number::of(r.begin, clock),
        Number::of(r.exptime, number),
        Number::of(n.background, number),
        Number::of(n.noise_ratio, |v| format!("{v:.2}")),
        Number::of(n.hit_rate, number),
        Number::of(n.saturated.map(|s| s as f64), |s| format!("{s}")),
        Number::of(n.chi2, |v| format!("{v:.3}")),
        Number::of(n.fwhm_mas, |v| format!("{v:.1}")),
        strehl,
        Number::of(n.depth, number),
        Number::of(n.wavelength_rms, |v| format!("{v:.3}")),
        Number::of(n.flexure, |v| format!("{v:+.3}")),
        Number::of(n.leak.map(|v| 100.0 * v), |v| format!("{v:.2}")),
        Number::of(r.seconds, |s| format!("{s:.2}")),
    ]
}

/// What a Strehl ratio above 1 says.
pub(super) const ABOVE_1: &str =
    "above 1: no Strehl ratio; is the wavelength, the pixel scale or the background wrong?";

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

/// `YYYY-MM-DD` of a Modified Julian Date.
pub(super) fn date(mjd: f64) -> String {
    if !(-600_000.0..3_000_000.0).contains(&mjd) {
        return String::new();
    }
    // 1970-01-01 is MJD 40587.
    let (year, month, day) = civil(mjd.floor() as i64 - 40_587);
    format!("{year:04}-{month:02}-{day:02}")
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
    fn what_failed_says_how_to_run_it_again_and_is_counted_apart() {
        let mut night = Night::default();
        let row =
            |file: &str, since: &str| Row { file: file.into(), failed_since: since.into(), ..Row::default() };
        night.rows = vec![row("a.fits", ""), row("b.fits", "is bad")];
        night.last_run.command = "irisgpu reduce n".into();
        let task = |name: &str, status: &str, again: &str| TaskSaid {
            name: name.into(),
            status: status.into(),
            again: again.into(),
            ..TaskSaid::default()
        };
        night.last_run.tasks = vec![
            task("b", "failed", ""),
            task("c", "failed", "irisgpu reduce --plan p --only 3"),
            task("d", "no recipe yet", ""),
        ];
        night.stale = 1;
        let page = html(&night, None);
        for part in [
            "<dt>exposures with a product</dt><dd>2</dd>",
            "<dt>failed, without a product</dt><dd>1</dd>",
            "<dt>failed, with an older product</dt><dd>1</dd>",
            "--only 3</code></td>",
            "1 product lies in the folder stale: its frames",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert_eq!(page.matches("<code>irisgpu reduce n</code></td>").count(), 1);
        // While the run goes on, it tries again by itself.
        assert!(!html(&night, Some(5)).contains("<code>irisgpu reduce n</code></td>"));
    }

    #[test]
    fn columns_that_no_product_fills_are_left_out_and_a_strehl_ratio_above_1_is_marked() {
        let mut night = Night { rows: vec![Row::default(), Row::default()], ..Night::default() };
        night.rows[0].numbers.strehl_above_1 = Some(1.57);
        let page = html(&night, None);
        assert!(page.contains("<th class=\"n\">Strehl</th>") && !page.contains("Flexure<small>"), "{page}");
        assert!(page.contains(">1.57!</td>") && page.contains("above 1: no Strehl ratio"), "{page}");
        night.rows[1].numbers.flexure = Some(0.1);
        assert!(html(&night, None).contains("<th class=\"n\">Flexure<small>px</small></th>"));
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
