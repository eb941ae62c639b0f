//! stpipe's `.cfg` files: ConfigObj's INI dialect, sections nested by brackets.
//!
//! ```ini
//! name = "image2"
//! class = "iris_pipeline.pipeline.ProcessImagerL2Pipeline"
//! save_results = True
//!     [steps]
//!       [[flat_field]]
//!         config_file = flat_field.cfg
//! ```
//! Values may stand in quotes (single, double, or three of either over several lines);
//! `#` begins a comment; a list has commas. A step's `config_file` is read beside the
//! file that names it, and what that file says itself comes before. `None` leaves a
//! parameter at its default.

use std::path::{Path, PathBuf};

use crate::config::read_text;
use crate::error::{Error, Result};

/// Parameters, in the order of the file: name and value.
type Parameters = Vec<(String, String)>;

/// A `.cfg` file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cfg {
    /// The file.
    pub path: PathBuf,
    /// The class, or where there is none the name, of the pipeline or step.
    pub class: String,
    /// Its own parameters.
    pub parameters: Parameters,
    /// The steps' parameters, by their aliases.
    pub steps: Vec<(String, Parameters)>,
}

impl Cfg {
    /// Reads a file and those that its steps name.
    ///
    /// # Errors
    /// What cannot be read or understood, with file and line.
    pub fn from_file(path: &Path) -> Result<Cfg> {
        let mut cfg = parse(&read_text(path)?, path)?;
        for (_, parameters) in &mut cfg.steps {
            let Some(file) = take(parameters, "config_file") else { continue };
            let beside = path.parent().unwrap_or(Path::new("")).join(file);
            let of_step = parse(&read_text(&beside)?, &beside)?;
            if !of_step.steps.is_empty() {
                return Err(Error::Config(format!(
                    "{}: is the configuration of a step and has steps itself",
                    beside.display()
                )));
            }
            let own = std::mem::take(parameters);
            let more = of_step.parameters.into_iter().filter(|(name, _)| own.iter().all(|(n, _)| n != name));
            parameters.extend(more.chain(own.iter().cloned()));
        }
        Ok(cfg)
    }
}

/// Takes a parameter out.
fn take(parameters: &mut Parameters, name: &str) -> Option<String> {
    let at = parameters.iter().position(|(n, _)| n == name)?;
    Some(parameters.remove(at).1)
}

/// Where the parameters of a line belong.
enum Section {
    Top,
    Steps,
    Step,
}

/// The text of a file, which errors call `path`; files that it names are not read.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Cfg> {
    let mut cfg = Cfg { path: path.to_path_buf(), ..Cfg::default() };
    let mut section = Section::Top;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((n, line)) = lines.next() {
        let fail = |what: String| Error::Config(format!("{}, line {}: {what}", path.display(), n + 1));
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            let (depth, name) = heading(line).ok_or_else(|| fail(format!("'{line}' is no section")))?;
            section = match (depth, &section) {
                (1, _) if name == "steps" => Section::Steps,
                (2, Section::Steps | Section::Step) => {
                    if cfg.steps.iter().any(|(s, _)| *s == name) {
                        return Err(fail(format!("the step {name} stands here twice: remove one")));
                    }
                    cfg.steps.push((name, Parameters::new()));
                    Section::Step
                }
                _ => {
                    return Err(fail(format!(
                        "'{line}' is not understood: there is one section [steps], and in it [[STEP]]"
                    )));
                }
            };
            continue;
        }
        let (name, rest) =
            line.split_once('=').ok_or_else(|| fail(format!("'{line}' is no NAME = VALUE")))?;
        let name = name.trim().trim_matches(['"', '\'']).to_owned();
        let mut more = || lines.next().map(|(_, line)| line);
        let value = value(rest.trim(), &mut more).map_err(|what| fail(format!("{name}: {what}")))?;
        let into = match &section {
            Section::Top => &mut cfg.parameters,
            Section::Step => match cfg.steps.last_mut() {
                Some((_, parameters)) => parameters,
                None => continue,
            },
            Section::Steps => {
                return Err(fail(format!("{name} belongs to no step: write [[STEP]] before it")));
            }
        };
        if into.iter().any(|(n, _)| *n == name) {
            return Err(fail(format!("{name} is given twice: remove one")));
        }
        if value != "None" {
            into.push((name, value));
        }
    }
    let name = take(&mut cfg.parameters, "name").unwrap_or_default();
    cfg.class = take(&mut cfg.parameters, "class").unwrap_or(name);
    Ok(cfg)
}

/// Depth and name of `[[name]]`.
fn heading(line: &str) -> Option<(usize, String)> {
    let line = line.split_once('#').map_or(line, |(before, _)| before).trim_end();
    let depth = line.bytes().take_while(|b| *b == b'[').count();
    let closed = line.bytes().rev().take_while(|b| *b == b']').count();
    let name = line.get(depth..line.len().checked_sub(closed)?)?.trim().trim_matches(['"', '\'']);
    (depth == closed && !name.is_empty()).then(|| (depth, name.to_owned()))
}

/// A value without its quotes and comment; the items of a list joined by commas.
fn value<'a>(text: &'a str, more: &mut dyn FnMut() -> Option<&'a str>) -> Result<String, String> {
    for quotes in ["\"\"\"", "'''"] {
        if let Some(begun) = text.strip_prefix(quotes) {
            return over_lines(begun, quotes, more);
        }
    }
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let item;
        (item, rest) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (item, after) =
                    rest[1..].split_once(quote).ok_or_else(|| format!("the quote {quote} is not closed"))?;
                (item, after.trim_start())
            }
            _ => {
                let end = rest.find([',', '#']).unwrap_or(rest.len());
                (rest[..end].trim(), &rest[end..])
            }
        };
        items.push(item);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None => break,
        }
        if rest.is_empty() || rest.starts_with('#') {
            break;
        }
    }
    if !rest.is_empty() && !rest.starts_with('#') {
        return Err(format!("'{rest}' follows its value"));
    }
    Ok(items.join(","))
}

fn over_lines<'a>(
    begun: &'a str,
    quotes: &str,
    more: &mut dyn FnMut() -> Option<&'a str>,
) -> Result<String, String> {
    let mut parts = Vec::new();
    let mut line = begun;
    loop {
        if let Some((last, _)) = line.split_once(quotes) {
            parts.push(last);
            return Ok(parts.join("\n"));
        }
        parts.push(line);
        line = more().ok_or_else(|| format!("the quotes {quotes} are not closed"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Parameters {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_pipeline_with_its_steps() {
        let dir = tempfile::tempdir().expect("temp dir");
        let text = "\n name = \"p\"  # a name\nclass = \"a.b.Pipe\"\nsave_results = True\noutput_dir = 'a # b'\n\
                    \u{20} [steps]\n  [[jump]]\n [[ flat_field ]] # here\n config_file = f.cfg\n low = 1\n\
                    [[x]]\n list = 0, '5, 6', # end\n skip = None\n long = '''one\n two'''\n";
        std::fs::write(dir.path().join("p.cfg"), text).expect("write");
        std::fs::write(dir.path().join("f.cfg"), "name='f'\nclass='c.F'\nlow = 2\nhigh=3\n").expect("write");
        let cfg = Cfg::from_file(&dir.path().join("p.cfg")).expect("cfg");
        assert_eq!(cfg.class, "a.b.Pipe");
        assert_eq!(cfg.parameters, pairs(&[("save_results", "True"), ("output_dir", "a # b")]));
        assert_eq!(cfg.steps[0], ("jump".into(), pairs(&[])));
        assert_eq!(cfg.steps[1], ("flat_field".into(), pairs(&[("high", "3"), ("low", "1")])));
        assert_eq!(cfg.steps[2].1, pairs(&[("list", "0,5, 6"), ("long", "one\n two")]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, what) in [
            ("a = 1\nb\n", "line 2: 'b' is no NAME = VALUE"),
            ("[other]\n", "one section [steps]"),
            ("[[jump]]\n", "one section [steps]"),
            ("[steps]\n[[[x]]]\n", "one section [steps]"),
            ("[steps\n", "is no section"),
            ("a = 'x\n", "a: the quote ' is not closed"),
            ("a = 'x' y\n", "'y' follows its value"),
            ("a = '''x\ny\n", "are not closed"),
            ("[steps]\nskip = True\n", "belongs to no step"),
            ("a = 1\na = 2\n", "a is given twice"),
            ("[steps]\n[[jump]]\n[[jump]]\n", "jump stands here twice"),
        ] {
            let sentence = parse(text, Path::new("p.cfg")).expect_err(text).to_string();
            assert!(sentence.contains("p.cfg") && sentence.contains(what), "{text}: {sentence}");
        }
    }
}
