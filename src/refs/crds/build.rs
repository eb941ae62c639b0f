//! From the literal of a selector to the tree of rules.

use std::collections::HashMap;

use super::condition::{alternatives, condition, number, quoted};
use super::key::Key;
use super::literal::{Dict, Literal, entry};
use super::selector::{Choice, Entry, Order, Rule, Selector, padded_version};
use super::weigh::{Match, Weighed, allowed};

/// Stands for "any subarray" in every mapping, unless it says otherwise itself.
const SUBSTITUTIONS: [(&str, &str, &str); 2] =
    [("META.SUBARRAY.NAME", "GENERIC", "N/A"), ("SUBARRAY", "GENERIC", "N/A")];

/// Regular expressions in a mapping, at most: each takes memory.
const MAX_EXPRESSIONS: usize = 1000;

/// The rules of one reference type.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) root: Selector,
    /// Every file that can be chosen, by its number.
    pub(super) files: Vec<File>,
}

/// A file, and the keys on the way to it.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) answer: Literal,
    pub(super) keys: Vec<String>,
}

/// What a header says of its selector.
struct Builder<'a> {
    header: &'a Dict,
    files: Vec<File>,
    /// Regular expressions so far.
    expressions: usize,
}

/// Builds the rules of a mapping from its header and selector.
pub(super) fn tree(header: &Dict, selector: &Literal) -> Result<Tree, String> {
    let levels = levels(header)?;
    let mut builder = Builder { header, files: Vec::new(), expressions: 0 };
    let root = builder.selector(selector, &levels, &[])?;
    Ok(Tree { root, files: builder.files })
}

/// The parameters of each level of selectors.
pub(super) fn levels(header: &Dict) -> Result<Vec<Vec<String>>, String> {
    let wrong = || "the header's parkey must be a tuple of tuples of names".to_owned();
    let Some(Literal::Row(levels)) = entry(header, "parkey") else { return Err(wrong()) };
    let names = |level: &Literal| match level {
        Literal::Row(names) => names.iter().map(|n| n.text().map(str::to_owned)).collect(),
        _ => None,
    };
    levels.iter().map(|level| names(level).ok_or_else(wrong)).collect()
}

impl Builder<'_> {
    fn selector(
        &mut self,
        literal: &Literal,
        levels: &[Vec<String>],
        path: &[String],
    ) -> Result<Selector, String> {
        let Literal::Call(name, entries) = literal else {
            return Err("the selector must begin with a selector's name, as Match({...})".into());
        };
        let Some((parameters, below)) = levels.split_first() else {
            return Err(format!("{name} stands deeper than parkey has levels"));
        };
        if parameters.is_empty() && name != "Match" {
            return Err(format!("{name} has no parameter in parkey"));
        }
        let mut rows = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let shown = shown(key)?;
            let path = [path, &[shown]].concat();
            rows.push((key, self.choice(value, below, path)?));
        }
        let rule = match name.as_str() {
            "Match" => Rule::Match(self.matches(parameters, rows)?),
            "UseAfter" => Rule::Ordered(Order::UseAfter, by_text(name, rows)?),
            "ClosestTime" => Rule::Ordered(Order::ClosestTime, by_text(name, rows)?),
            "VersionAfter" => {
                let mut entries = by_text(name, rows)?;
                for entry in &mut entries {
                    entry.key = padded_version(&entry.key)?;
                }
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                Rule::Ordered(Order::VersionAfter, once(name, entries, |e| e.key.clone())?)
            }
            "GeometricallyNearest" => {
                let entries = by_number(name, rows)?;
                let mut entries: Vec<(f32, Entry)> = entries
                    .into_iter()
                    .map(|(n, e)| (n as f32, Entry { key: condition(&e.key), ..e }))
                    .collect();
                entries.sort_by(|a, b| a.1.key.cmp(&b.1.key));
                Rule::Nearest(once(name, entries, |(_, e)| e.key.clone())?)
            }
            "Bracket" => {
                let mut entries = by_number(name, rows)?;
                entries.sort_by(|a, b| a.0.total_cmp(&b.0));
                Rule::Bracket(entries)
            }
            _ => Rule::SelectVersion(by_version(rows)?),
        };
        Ok(Selector { parameters: parameters.clone(), rule })
    }

    fn choice(
        &mut self,
        value: &Literal,
        below: &[Vec<String>],
        path: Vec<String>,
    ) -> Result<Choice, String> {
        let plain = |v: &Literal| v.text().is_some();
        let file = match value {
            Literal::Call(..) => return Ok(Choice::Then(Box::new(self.selector(value, below, &path)?))),
            Literal::Text(_) => true,
            Literal::Row(names) => names.iter().all(plain),
            Literal::Dict(names) => names.iter().all(|(k, v)| plain(k) && plain(v)),
            _ => false,
        };
        if !file {
            return Err(format!("at {} stands neither a file's name nor a selector", path.join(", ")));
        }
        self.files.push(File { answer: value.clone(), keys: path });
        Ok(Choice::File(value.clone(), self.files.len() - 1))
    }

    fn matches(&mut self, parameters: &[String], rows: Vec<(&Literal, Choice)>) -> Result<Match, String> {
        let substitutions: Vec<Vec<(Literal, Literal)>> =
            parameters.iter().map(|p| self.substitutions(p)).collect();
        let mut rows: Vec<(Vec<Literal>, bool, Choice)> = rows
            .into_iter()
            .map(|(key, choice)| match key {
                Literal::Row(elements) => (elements.clone(), true, choice),
                single => (vec![single.clone()], false, choice),
            })
            .collect();
        for (i, of_parameter) in substitutions.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
            rows = substituted(rows, i, of_parameter);
        }
        let mut entries = Vec::with_capacity(rows.len());
        for (elements, _, choice) in rows {
            if !parameters.is_empty() && elements.len() != parameters.len() {
                let (n, of) = (elements.len(), parameters.len());
                let key = shown(&Literal::Row(elements))?;
                return Err(format!("Match key={key} has {n} elements, but parkey names {of} parameters"));
            }
            let key: Vec<String> = elements.iter().map(conditioned).collect::<Result<_, _>>()?;
            entries.push((key, choice));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let entries = once("Match", entries, |(key, _)| key.join(", "))?;
        let column = |i: usize| entries.iter().filter_map(move |(key, _)| key.get(i).map(String::as_str));
        let allowed = (0..parameters.len()).map(|i| allowed(column(i))).collect();
        let texts = |pairs: &Vec<(Literal, Literal)>| {
            pairs
                .iter()
                .filter_map(|(from, to)| Some((from.text()?.to_owned(), to.text()?.to_owned())))
                .collect()
        };
        let mut weighed = Vec::with_capacity(entries.len());
        for (key, choice) in entries {
            let keys: Vec<Key> = key.iter().map(|k| Key::new(k)).collect::<Result<_, _>>()?;
            self.expressions += keys.iter().map(Key::expressions).sum::<usize>();
            if self.expressions > MAX_EXPRESSIONS {
                return Err(format!("the mapping has more than {MAX_EXPRESSIONS} regular expressions"));
            }
            weighed.push(Weighed { keys, choice });
        }
        let yes = |text: String| matches!(text.to_uppercase().as_str(), "TRUE" | "1");
        Ok(Match {
            allowed,
            substitutions: substitutions.iter().map(texts).collect(),
            merge: entry(self.header, "merge_overlaps")
                .and_then(Literal::plain)
                .is_none_or(|t| yes(t.strip_suffix(".0").map(str::to_owned).unwrap_or(t))),
            entries: weighed,
        })
    }

    /// What stands for what in a parameter: the mapping's own in place of the default.
    fn substitutions(&self, parameter: &str) -> Vec<(Literal, Literal)> {
        let own = match entry(self.header, "substitutions") {
            Some(Literal::Dict(own)) => entry(own, parameter),
            _ => None,
        };
        match own {
            Some(Literal::Dict(pairs)) => pairs.clone(),
            _ => SUBSTITUTIONS
                .iter()
                .filter(|(of, ..)| *of == parameter)
                .map(|(_, from, to)| (Literal::Text((*from).into()), Literal::Text((*to).into())))
                .collect(),
        }
    }
}

/// Rows with one element of their keys replaced; one that becomes the key of another
/// takes its place.
fn substituted(
    rows: Vec<(Vec<Literal>, bool, Choice)>,
    i: usize,
    of_parameter: &[(Literal, Literal)],
) -> Vec<(Vec<Literal>, bool, Choice)> {
    let name = |key: &[Literal], tuple: bool| format!("{tuple} {key:?}");
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut out: Vec<Option<(Vec<Literal>, bool, Choice)>> = Vec::with_capacity(rows.len());
    for row in rows {
        places.insert(name(&row.0, row.1), out.len());
        out.push(Some(row));
    }
    for at in 0..out.len() {
        let Some((key, tuple, _)) = &out[at] else { continue };
        let which = if *tuple { i } else { 0 };
        let to = key.get(which).and_then(|old| of_parameter.iter().find(|(from, _)| from == old));
        let Some((_, to)) = to else { continue };
        let mut key = key.clone();
        key[which] = to.clone();
        let new = name(&key, *tuple);
        if let Some(row) = out[at].take() {
            if let Some(other) = places.insert(new, at).filter(|other| *other != at) {
                out[other] = None;
            }
            out[at] = Some((key, row.1, row.2));
        }
    }
    out.into_iter().flatten().collect()
}

/// An element of a Match key as it is compared.
fn conditioned(element: &Literal) -> Result<String, String> {
    match element {
        Literal::Text(t) if t.starts_with('{') && t.ends_with('}') => Ok(t.clone()),
        Literal::Text(t) if t.starts_with('(') && t.ends_with(')') => Ok(t.clone()),
        Literal::Text(t) if t.contains('|') => {
            Ok(alternatives(t).iter().map(|p| condition(p)).collect::<Vec<_>>().join("|"))
        }
        Literal::Row(row) => {
            let parts = row.iter().map(|v| v.plain().map(|t| condition(&t)));
            parts.collect::<Option<Vec<_>>>().map(|p| p.join("|")).ok_or_else(|| unfit("Match", element))
        }
        other => other.plain().map(|t| condition(&t)).ok_or_else(|| unfit("Match", element)),
    }
}

fn unfit(name: &str, key: &Literal) -> String {
    let key = shown(key).unwrap_or_default();
    format!("{key} cannot be a key of {name}")
}

/// A key as a mapping has it.
fn shown(key: &Literal) -> Result<String, String> {
    Ok(match key {
        Literal::Text(t) => quoted(t),
        Literal::Row(row) => {
            let row: Vec<String> = row.iter().map(shown).collect::<Result<_, _>>()?;
            format!("({})", row.join(", "))
        }
        other => other.plain().ok_or("a dictionary cannot be a key")?,
    })
}

/// Entries sorted by their keys, which must be texts.
fn by_text(name: &str, rows: Vec<(&Literal, Choice)>) -> Result<Vec<Entry>, String> {
    let entry = |(key, choice): (&Literal, Choice)| match key {
        Literal::Text(key) => Ok(Entry { key: key.clone(), choice }),
        _ => Err(unfit(name, key)),
    };
    let mut entries: Vec<Entry> = rows.into_iter().map(entry).collect::<Result<_, _>>()?;
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

/// Entries with the numbers that their keys are.
fn by_number(name: &str, rows: Vec<(&Literal, Choice)>) -> Result<Vec<(f64, Entry)>, String> {
    rows.into_iter()
        .map(|(key, choice)| {
            let n = match key {
                Literal::Number(n) => Some(*n),
                Literal::Text(t) if name != "Bracket" => t.trim().parse().ok(),
                _ => None,
            };
            let n: f64 = n.ok_or_else(|| unfit(name, key))?;
            Ok((n, Entry { key: key.plain().unwrap_or_else(|| number(n)), choice }))
        })
        .collect()
}

/// Entries by version and relation: `'<5'`, `'=3.1'`, `4`, `'default'`.
fn by_version(rows: Vec<(&Literal, Choice)>) -> Result<Vec<((f64, String), Entry)>, String> {
    let mut entries = Vec::with_capacity(rows.len());
    for (key, choice) in rows {
        let text = key.plain().ok_or_else(|| unfit("SelectVersion", key))?;
        let by = if text.replace('=', "").trim() == "default" {
            (i64::MAX as f64, "=".to_owned())
        } else {
            let signs = text.bytes().take(2).take_while(|b| matches!(b, b'<' | b'=')).count();
            // '<' and '=' may be followed by '=' only.
            let signs = if text.starts_with("<<") || text.starts_with("=<") { 1 } else { signs };
            let relation = match &text[..signs] {
                "" | "==" => "=",
                other => other,
            };
            let version = text[signs..].trim().parse::<f64>();
            (version.map_err(|_| unfit("SelectVersion", key))?, relation.to_owned())
        };
        entries.push((by, Entry { key: text, choice }));
    }
    entries.sort_by(|((a, x), _), ((b, y), _)| a.total_cmp(b).then_with(|| x.cmp(y)));
    once("SelectVersion", entries, |((version, relation), _)| format!("{relation}{version}"))
}

/// Sorted entries, unless two have one key.
fn once<T>(name: &str, entries: Vec<T>, key: impl Fn(&T) -> String) -> Result<Vec<T>, String> {
    match entries.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
        Some(pair) => Err(format!("two keys of {name} mean the same: {}", key(&pair[0]))),
        None => Ok(entries),
    }
}
