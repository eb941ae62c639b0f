//! What was calibrated with what, as a drawing: references that were given, masters in
//! columns by their order, and the exposures that used the same ones together.

use std::collections::BTreeMap;

use super::Row;
use super::page::escape;
use crate::pipeline::provenance::reference_keyword;
use crate::refs::MASTERS;
use crate::words::counted;

const WIDE: f64 = 212.0;
const HIGH: f64 = 46.0;
const COLUMN: f64 = 290.0;
const LINE: f64 = 64.0;
/// More boxes than this in a column are told by their number.
const MOST: usize = 40;

struct Node {
    column: usize,
    title: String,
    detail: String,
    /// What the pointer is told.
    hint: String,
    needs: Vec<String>,
}

/// The columns: files of elsewhere, darks, what needs them, other masters, exposures.
const COLUMNS: usize = 5;

/// The drawing; empty where nothing was calibrated with anything.
pub(super) fn svg(rows: &[Row]) -> String {
    let name = |r: &Row| r.file.rsplit('/').next().unwrap_or_default().to_owned();
    let masters: BTreeMap<String, &Row> =
        rows.iter().filter(|r| !r.reftype.is_empty()).map(|r| (name(r), r)).collect();
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut groups: BTreeMap<(Vec<String>, String, String), usize> = BTreeMap::new();
    for row in rows.iter().filter(|r| !r.reftype.is_empty() || r.level >= 2) {
        let needs = needs(row, &masters, &mut nodes);
        let detail = [&row.detector, &row.filter, &row.grating].map(String::as_str).join(" ");
        if row.reftype.is_empty() {
            if !needs.is_empty() {
                let detail = [&row.filter, &row.grating].map(String::as_str).join(" ");
                *groups.entry((needs, row.obsname.clone(), detail)).or_default() += 1;
            }
            continue;
        }
        let column = match row.reftype.as_str() {
            "DARK" => 1,
            "FLAT" | "LENSPX" => 2,
            _ => 3,
        };
        let exptime = row.exptime.map(|t| format!(" {t} s")).unwrap_or_default();
        let (title, detail, hint) = (row.reftype.to_lowercase(), detail + &exptime, name(row));
        nodes.insert(hint.clone(), Node { column, title, detail, hint, needs });
    }
    for ((needs, obsname, detail), count) in groups {
        let key = format!("{} {obsname} {detail}", needs.join(" "));
        let (title, detail) = (obsname, format!("{} {detail}", counted(count, "exposure")));
        nodes.insert(key, Node { column: COLUMNS - 1, title, hint: detail.clone(), detail, needs });
    }
    draw(&nodes)
}

/// The boxes that a product was calibrated with; those of files that the night did not make
/// are put among `nodes`: what nights make masters of in a box of its own each, what
/// describes a detector together.
fn needs(row: &Row, masters: &BTreeMap<String, &Row>, nodes: &mut BTreeMap<String, Node>) -> Vec<String> {
    let (mut needs, mut described) = (Vec::new(), Vec::new());
    for (kind, file) in &row.references {
        if masters.contains_key(file) {
            needs.push(file.clone());
        } else if let Some(master) = MASTERS.iter().find(|m| reference_keyword(m) == format!("R_{kind}")) {
            let (title, detail) = (format!("{master} (given)"), file.clone());
            needs.push(file.clone());
            nodes.insert(
                file.clone(),
                Node { column: 0, title, hint: file.clone(), detail, needs: Vec::new() },
            );
        } else {
            described.push((kind.as_str(), file.as_str()));
        }
    }
    if let [(first, _), ..] = described.as_slice() {
        let lines: Vec<String> = described.iter().map(|(kind, file)| format!("{kind} {file}")).collect();
        let kinds: Vec<&str> = described.iter().map(|(kind, _)| *kind).collect();
        let title = match kinds.len() {
            1 => first.to_lowercase(),
            n => format!("{n} references of {}", row.detector),
        };
        let (hint, detail) = (lines.join("\n"), kinds.join(" ").to_lowercase());
        needs.push(hint.clone());
        nodes.insert(hint.clone(), Node { column: 0, title, detail, hint, needs: Vec::new() });
    }
    needs
}

fn draw(nodes: &BTreeMap<String, Node>) -> String {
    // Columns that nothing stands in are left out.
    let used: Vec<usize> = (0..COLUMNS).filter(|c| nodes.values().any(|n| n.column == *c)).collect();
    let mut filled = [0usize; COLUMNS];
    let mut places: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut boxes = String::new();
    for (key, node) in nodes {
        let row = filled[node.column];
        filled[node.column] += 1;
        if row >= MOST {
            continue;
        }
        let column = used.iter().position(|c| *c == node.column).unwrap_or(0);
        let (x, y) = (column as f64 * COLUMN + 2.0, row as f64 * LINE + 2.0);
        places.insert(key, (x, y));
        boxes += &format!(
            "<g class=\"node k{}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDE}\" height=\"{HIGH}\" rx=\"5\"/><text x=\"{}\" y=\"{}\" class=\"t\">{}</text><text x=\"{}\" y=\"{}\">{}</text></g>",
            node.column,
            escape(&node.hint),
            x + 12.0,
            y + 19.0,
            escape(&node.title),
            x + 12.0,
            y + 36.0,
            escape(&shortened(&node.detail))
        );
    }
    let mut edges = String::new();
    for (key, node) in nodes {
        for need in &node.needs {
            if let (Some((x1, y1)), Some((x0, y0))) = (places.get(key.as_str()), places.get(need.as_str())) {
                let (a, b, c, d) = (x0 + WIDE, y0 + HIGH / 2.0, *x1, y1 + HIGH / 2.0);
                let middle = (a + c) / 2.0;
                edges += &format!("<path d=\"M{a} {b}C{middle} {b} {middle} {d} {c} {d}\"/>");
            }
        }
    }
    if edges.is_empty() {
        return String::new();
    }
    let tallest = filled.iter().map(|n| (*n).min(MOST)).max().unwrap_or(0);
    let (w, h) = ((used.len() - 1) as f64 * COLUMN + WIDE + 4.0, tallest as f64 * LINE);
    let hidden: usize = filled.iter().map(|n| n.saturating_sub(MOST)).sum();
    let more = if hidden > 0 { format!("<p>The table has {hidden} more.</p>") } else { String::new() };
    format!(
        "<svg class=\"graph\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"What was calibrated with what\"><g class=\"edges\">{edges}</g>{boxes}</svg>{more}"
    )
}

fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 28 { text.chars().take(27).chain(['…']).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposures_of_the_same_masters_are_one_box() {
        let master = Row {
            file: "masters/D.fits".into(),
            reftype: "DARK".into(),
            detector: "<b>".into(),
            ..Row::default()
        };
        let one = Row {
            obsname: "IMG1-SCI".into(),
            level: 2,
            references: [("DARK".to_owned(), "D.fits".to_owned())].into(),
            ..Row::default()
        };
        let svg = svg(&[master, one.clone(), one.clone()]);
        assert!(svg.contains("2 exposures") && svg.contains("&lt;b&gt;") && !svg.contains("<b>"));
        assert_eq!((svg.matches("<rect").count(), svg.matches("<path").count()), (2, 1));
        assert!(super::svg(&[]).is_empty());
        // What the night did not make is told, too: a dark of elsewhere alone, what
        // describes the detector together.
        let given = [("DARK", "other.fits"), ("GAIN", "g.fits"), ("MASK", "m.fits")];
        let references = given.map(|(kind, file)| (kind.to_owned(), file.to_owned())).into();
        let svg = super::svg(&[Row { detector: "IMG2".into(), references, ..one }]);
        assert!(svg.contains("dark (given)") && svg.contains("2 references of IMG2"), "{svg}");
        assert!(svg.contains("GAIN g.fits\nMASK m.fits"), "{svg}");
        // Keywords of types are shorter than these.
        let references = [("IDP".to_owned(), "i.fits".to_owned())].into();
        assert!(super::svg(&[Row { level: 2, references, ..Row::default() }]).contains("dispersion (given)"));
        assert_eq!((svg.matches("<rect").count(), svg.matches("<path").count()), (3, 2));
    }
}
