//! One mapping file: which mapping an instrument or reference type has (`.pmap`,
//! `.imap`), or the rules of one reference type (`.rmap`).

use std::collections::BTreeMap;
use std::path::Path;

use super::Answer;
use super::build::{Tree, levels, tree};
use super::expression::Expression;
use super::literal::{Dict, Literal, entry, source};
use super::selector::{Pick, Values};
use crate::error::{Error, Result};

/// A mapping as read.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) body: Body,
    /// What is odd about it, as sentences.
    pub(super) warnings: Vec<String>,
    /// The checksum that it states.
    pub(super) sha1sum: Option<String>,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Mapping files (or N/A, OMIT) by instrument (`.pmap`) or type (`.imap`), in
    /// lower case, with the parkey of the header.
    Index {
        parkey: String,
        files: BTreeMap<String, String>,
        pipeline: bool,
    },
    Rules(Box<Rules>),
}

/// The rules of one reference type.
#[derive(Debug)]
pub(super) struct Rules {
    /// The file's name.
    pub(super) name: String,
    /// The reference type, in lower case.
    pub(super) filekind: String,
    /// What its rules look at.
    pub(super) parkeys: Vec<String>,
    pub(super) tree: Tree,
    omit: Option<Expression>,
    relevant: Option<Expression>,
    /// When a parkey counts; `None` for one that never does.
    parkey_relevant: Vec<(String, Option<Expression>)>,
    required: bool,
}

/// The answer of a mapping's rules.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answer: Answer,
    /// The numbers of the files chosen.
    pub(super) files: Vec<usize>,
    /// Conditions that have no answer and were passed over.
    pub(super) warnings: Vec<String>,
}

/// A header's text as the CRDS client has it: in lower case, unless it is an
/// expression in parentheses.
fn text(header: &Dict, key: &str) -> Option<String> {
    let text = entry(header, key)?.plain()?;
    let expression = text.starts_with('(') && text.ends_with(')');
    Some(if expression { text } else { text.to_lowercase() })
}

/// Reads the text of a mapping; `path` is named where it is wrong.
pub(super) fn parse(path: &Path, contents: &str) -> Result<Mapping> {
    let source = source(contents).map_err(|wrong| Error::input(path, wrong.to_string()))?;
    let wrong = |why: String| Error::input(path, why);
    let header = &source.header;
    let need = |key: &str| {
        text(header, key).ok_or_else(|| wrong(format!("the header does not say '{key}', which it must")))
    };
    for key in ["name", "derived_from", "observatory"] {
        need(key)?;
    }
    let body = match (need("mapping")?.as_str(), &source.selector) {
        ("reference", selector) => {
            need("instrument")?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let rules = rules(name, need("filekind")?, header, selector).map_err(wrong)?;
            Body::Rules(Box::new(rules))
        }
        (kind @ ("pipeline" | "instrument"), Literal::Dict(entries)) => {
            let file = |(key, value): &(Literal, Literal)| {
                Some((key.text()?.to_lowercase(), value.text()?.to_owned()))
            };
            let files = entries.iter().map(file).collect::<Option<BTreeMap<_, _>>>();
            let parkey = match entry(header, "parkey") {
                Some(Literal::Row(row)) => row.first().and_then(Literal::text),
                _ => None,
            };
            let files = files.ok_or_else(|| wrong("the selector must name files by names".into()))?;
            let parkey =
                parkey.ok_or_else(|| wrong("the header's parkey must be a tuple of names".into()))?;
            Body::Index { parkey: parkey.to_uppercase(), files, pipeline: kind == "pipeline" }
        }
        (kind @ ("pipeline" | "instrument"), _) => {
            return Err(wrong(format!("the selector of a mapping for a(n) {kind} must be a dictionary")));
        }
        (other, _) => {
            let why =
                format!("the header says mapping = '{other}': it must be PIPELINE, INSTRUMENT or REFERENCE");
            return Err(wrong(why));
        }
    };
    Ok(Mapping { body, warnings: source.doubles, sha1sum: text(header, "sha1sum") })
}

/// Reads a mapping and asks it for a reference of values that are none, and of its own
/// parameters' names.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_mapping(text: &str) {
    let Ok(Mapping { body: Body::Rules(rules), .. }) = parse(Path::new("fuzzed.rmap"), text) else { return };
    let _ = rules.best(&Values::new());
    let _ =
        rules.best(&rules.parkeys.iter().map(|p| (p.clone(), "2024-01-02 03:04:05".to_owned())).collect());
}

fn rules(name: String, filekind: String, header: &Dict, selector: &Literal) -> Result<Rules, String> {
    let names = |key: &str| match entry(header, key) {
        Some(Literal::Row(row)) => row.iter().filter_map(|n| n.text().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let mut parkeys: Vec<String> = levels(header)?.concat();
    parkeys.extend(text(header, "reffile_switch").map(|s| s.to_uppercase()).filter(|s| s != "NONE"));
    parkeys.extend(names("extra_keys"));
    let condition = |key: &str, source: Option<String>| {
        let read = |text: String| Expression::new(&text).map_err(|why| format!("{key}: {why}"));
        source.map(read).transpose()
    };
    let mut parkey_relevant = Vec::new();
    if let Some(Literal::Dict(conditions)) = entry(header, "parkey_relevance") {
        for (parkey, source) in conditions {
            let both = parkey.text().zip(source.text());
            let (parkey, source) = both.ok_or("parkey_relevance must be conditions by parkey")?;
            let source = condition("parkey_relevance", Some(source.to_owned()))?;
            parkey_relevant.push((parkey.to_lowercase(), source));
        }
    }
    for parkey in names("comment_parkeys") {
        parkey_relevant.retain(|(name, _)| *name != parkey.to_lowercase());
        parkey_relevant.push((parkey.to_lowercase(), None));
    }
    let relevant = text(header, "rmap_relevance").map(|t| t.replace("always", "True"));
    let required = text(header, "reffile_required").unwrap_or_else(|| "none".into());
    Ok(Rules {
        tree: tree(header, selector)?,
        name,
        filekind,
        parkeys,
        omit: condition("rmap_omit", text(header, "rmap_omit"))?,
        relevant: condition("rmap_relevance", relevant)?,
        parkey_relevant,
        required: matches!(required.as_str(), "yes" | "none"),
    })
}

impl Rules {
    /// The best reference for conditioned values (which a caller shares among the
    /// mappings of an instrument).
    pub(super) fn best(&self, values: &Values) -> Outcome {
        let mut warnings = Vec::new();
        let mut told = |what: &str, condition: &Option<Expression>, otherwise: bool| match condition {
            None => otherwise,
            Some(c) => c.holds(&|name| by_name(values, name)).unwrap_or_else(|why| {
                warnings.push(format!("{}: {what} has no answer and is passed over: {why}", self.name));
                otherwise
            }),
        };
        let omitted = told("rmap_omit", &self.omit, false);
        let relevant = omitted || told("rmap_relevance", &self.relevant, true);
        let outcome = |answer, files| Outcome { answer, files, warnings };
        if omitted {
            return outcome(Answer::Omitted, Vec::new());
        }
        if !relevant {
            return outcome(Answer::NotApplicable, Vec::new());
        }
        let found = self.relevant_values(values).map(|values| self.tree.choose(&values));
        match found {
            Err(why) => outcome(Answer::NotFound(why), Vec::new()),
            Ok(Ok(Pick { answer, files })) => {
                let answer = match answer.text() {
                    Some("N/A" | "TEMP_N/A" | "n/a" | "temp_n/a") => Answer::NotApplicable,
                    Some("OMIT" | "TEMP_OMIT" | "omit") => Answer::Omitted,
                    _ => Answer::Found(json(&answer)),
                };
                outcome(answer, files)
            }
            Ok(Err(_)) if !self.required => outcome(Answer::NotApplicable, Vec::new()),
            Ok(Err(nothing)) => outcome(Answer::NotFound(nothing.why), Vec::new()),
        }
    }

    /// The values with N/A for the parkeys that do not count here.
    pub(super) fn relevant_values(&self, values: &Values) -> Result<Values, String> {
        let mut values = values.clone();
        let told = values.clone();
        for parkey in &self.parkeys {
            values.entry(parkey.clone()).or_insert_with(|| "UNDEFINED".into());
            let condition = self.parkey_relevant.iter().find(|(name, _)| *name == parkey.to_lowercase());
            let counts = match condition {
                None => true,
                Some((_, None)) => false,
                Some((_, Some(c))) => {
                    c.holds(&|name| by_name(&told, name).or(Some("UNDEFINED").filter(|_| self.has(name))))?
                }
            };
            if !counts {
                values.insert(parkey.clone(), "N/A".into());
            }
        }
        Ok(values)
    }

    fn has(&self, name: &str) -> bool {
        self.parkeys.iter().any(|p| p.replace('.', "_") == name)
    }
}

/// The value under a name with `_` for `.`.
fn by_name<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    let found = values.iter().find(|(key, _)| *key == name || key.replace('.', "_") == name);
    found.map(|(_, value)| value.as_str())
}

/// A choice as JSON: a name, a list, or names by names.
pub(super) fn json(answer: &Literal) -> serde_json::Value {
    match answer {
        Literal::Row(row) => row.iter().map(json).collect(),
        Literal::Dict(dict) => dict.iter().map(|(k, v)| (k.plain().unwrap_or_default(), json(v))).collect(),
        other => other.plain().into(),
    }
}
