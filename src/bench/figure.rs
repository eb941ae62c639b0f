//! What was measured, what it must be, and how well it was measured.

use serde_json::{Value, json};

/// A number with its Monte-Carlo error and its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// What was found.
    pub value: f64,
    /// 1 σ of it, from the number of ramps alone; 0 where it has none.
    pub error: f64,
    /// Least and most that it must be; infinite where there is no limit.
    pub target: [f64; 2],
}

/// How a figure stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Within the target.
    Met,
    /// Outside, by less than three Monte-Carlo errors.
    WithinError,
    /// Outside.
    Missed,
}

impl Verdict {
    /// In a word or two.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::WithinError => "met within 3 s",
            Verdict::Missed => "MISSED",
        }
    }
}

impl Figure {
    /// A figure.
    pub fn new(value: f64, error: f64, target: [f64; 2]) -> Figure {
        Figure { value, error, target }
    }

    /// Where it stands. What is not a number is missed, whatever the target.
    pub fn verdict(&self) -> Verdict {
        let within =
            |margin: f64| self.value >= self.target[0] - margin && self.value <= self.target[1] + margin;
        match () {
            () if within(0.0) => Verdict::Met,
            () if within(3.0 * self.error) => Verdict::WithinError,
            () => Verdict::Missed,
        }
    }

    /// How far it is into its target: 1 at a limit, less inside, 0 in the middle or
    /// where there is no limit.
    fn strain(&self) -> f64 {
        let [low, high] = self.target;
        let strain = match (low.is_finite(), high.is_finite()) {
            (true, true) => (self.value - (low + high) / 2.0).abs() / ((high - low) / 2.0),
            (false, true) => self.value / high,
            (true, false) => low / self.value,
            (false, false) => 0.0,
        };
        if strain.is_nan() { f64::INFINITY } else { strain }
    }

    /// The value with its error, in bold where the target is missed.
    fn cell(&self) -> String {
        let text = match self.error {
            e if e > 0.0 => format!("{} ± {}", rounded(self.value, e), digits(e)),
            _ => digits(self.value),
        };
        if self.verdict() == Verdict::Missed { format!("**{text}**") } else { text }
    }
}

/// Two digits, in powers of ten where it is small.
fn digits(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if a < 1e-4 => format!("{v:.1e}"),
        a => format!("{v:.*}", (1 - a.log10().floor() as i32).max(0) as usize),
    }
}

/// A value to the second digit of its error.
fn rounded(v: f64, error: f64) -> String {
    let places = (1 - error.log10().floor() as i32).max(0) as usize;
    if v.abs() < 1e-3 && error < 1e-4 { digits(v) } else { format!("{v:.places$}") }
}

/// A target in words.
fn limits([low, high]: [f64; 2]) -> String {
    let short = |v: f64| if v.abs() < 1e-3 && v != 0.0 { format!("{v:e}") } else { v.to_string() };
    let (low_text, high_text) = (short(low), short(high));
    match (low.is_finite(), high.is_finite()) {
        (true, true) if low == -high => format!("within ± {high_text}"),
        (true, true) => format!("{low_text} to {high_text}"),
        (false, true) => format!("≤ {high_text}"),
        (true, false) => format!("≥ {low_text}"),
        (false, false) => "-".into(),
    }
}

/// A table of figures that share their columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What `--only` calls it.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What was done.
    pub about: String,
    /// Heads of what a row is about.
    pub heads: Vec<&'static str>,
    /// Heads of the figures.
    pub figures: Vec<&'static str>,
    /// Rows: what each is about, and its figures.
    pub rows: Vec<(Vec<String>, Vec<Figure>)>,
}

impl Section {
    /// The worst verdict of all.
    pub fn verdict(&self) -> Verdict {
        self.rows.iter().flat_map(|(_, f)| f).map(Figure::verdict).max().unwrap_or(Verdict::Met)
    }

    /// As a markdown table.
    pub fn markdown(&self) -> String {
        let mut out = format!("## {}\n{}\n\n", self.title, self.about);
        let heads: Vec<&str> = self.heads.iter().chain(&self.figures).copied().collect();
        out += &format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for (what, figures) in &self.rows {
            let cells: Vec<String> = what.iter().cloned().chain(figures.iter().map(Figure::cell)).collect();
            out += &format!("| {} |\n", cells.join(" | "));
        }
        out
    }

    /// The row that strains each figure's target most, as rows of the report's first
    /// table: section, figure, target, worst value, where, verdict.
    pub fn summary(&self) -> Vec<[String; 5]> {
        let mut out = Vec::new();
        for (i, name) in self.figures.iter().enumerate() {
            let bound = |f: &Figure| f.target.iter().any(|t| t.is_finite());
            let all = self.rows.iter().map(|(what, f)| (what, &f[i])).filter(|(_, f)| bound(f));
            let worst = all.max_by(|(_, a), (_, b)| {
                a.verdict().cmp(&b.verdict()).then(a.strain().total_cmp(&b.strain()))
            });
            let Some((what, figure)) = worst else { continue };
            let place: Vec<String> =
                self.heads.iter().zip(what).map(|(head, value)| format!("{head} {value}")).collect();
            out.push([
                format!("{}: {name}", self.name),
                limits(figure.target),
                figure.cell(),
                place.join(", "),
                figure.verdict().text().to_owned(),
            ]);
        }
        out
    }

    /// Every figure as an object.
    pub fn json(&self) -> Vec<Value> {
        let mut out = Vec::new();
        for (what, figures) in &self.rows {
            let place: serde_json::Map<String, Value> =
                self.heads.iter().zip(what).map(|(h, v)| ((*h).to_owned(), v.as_str().into())).collect();
            for (name, f) in self.figures.iter().zip(figures) {
                out.push(json!({
                    "section": self.name,
                    "at": place,
                    "figure": name,
                    "value": f.value,
                    "error": f.error,
                    "target": f.target,
                    "verdict": f.verdict().text(),
                }));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_error() {
        let of = |value: f64, error: f64| Figure::new(value, error, [0.98, 1.02]).verdict();
        assert_eq!(of(1.01, 0.0), Verdict::Met);
        assert_eq!(of(1.03, 0.004), Verdict::WithinError);
        assert_eq!(of(1.03, 0.003), Verdict::Missed);
        assert_eq!(of(f64::NAN, 1.0), Verdict::Missed);
        assert_eq!(Figure::new(f64::NAN, 0.0, [f64::NEG_INFINITY, f64::INFINITY]).verdict(), Verdict::Missed);
    }

    #[test]
    fn the_summary_names_the_worst() {
        let row =
            |name: &str, value: f64| (vec![name.to_owned()], vec![Figure::new(value, 0.001, [0.9, 1.1])]);
        let section = Section {
            name: "grid",
            title: "A grid",
            about: String::new(),
            heads: vec!["reads"],
            figures: vec!["scatter"],
            rows: vec![row("5", 1.0), row("10", 1.2), row("20", 0.95)],
        };
        let [name, target, value, place, verdict] = section.summary().remove(0);
        assert_eq!((name.as_str(), target.as_str()), ("grid: scatter", "0.9 to 1.1"));
        assert_eq!((value.as_str(), place.as_str()), ("**1.2000 ± 0.0010**", "reads 10"));
        assert_eq!((verdict.as_str(), section.verdict()), ("MISSED", Verdict::Missed));
        assert!(section.markdown().contains("| 5 | 1.0000 ± 0.0010 |"), "{}", section.markdown());
        assert_eq!(section.json()[1]["verdict"], "MISSED");
    }

    #[test]
    fn numbers_keep_two_digits_of_their_error() {
        assert_eq!(Figure::new(1.00349, 0.00112, [0.0, 2.0]).cell(), "1.0035 ± 0.0011");
        assert_eq!(Figure::new(3.2e-6, 0.0, [0.0, 2.0]).cell(), "3.2e-6");
        assert_eq!(Figure::new(4e-7, 2e-7, [0.0, 2.0]).cell(), "4.0e-7 ± 2.0e-7");
        assert_eq!(Figure::new(0.99992, 5.3e-5, [0.0, 1.0]).cell(), "0.999920 ± 5.3e-5");
        assert_eq!(Figure::new(0.0, 2.5e-6, [0.0, 1.0]).cell(), "0 ± 2.5e-6");
        assert_eq!((digits(0.0), digits(12.0)), ("0".into(), "12".into()));
        assert_eq!(
            (limits([f64::NEG_INFINITY, 5e-6]), limits([0.99, 1.01])),
            ("≤ 5e-6".into(), "0.99 to 1.01".into())
        );
    }
}
