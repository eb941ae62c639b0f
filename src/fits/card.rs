//! One card: its value, as it is read and as it is written.

use serde::{Deserialize, Serialize};

/// The value of a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// `T` or `F`.
    Logical(bool),
    /// An integer.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// A character string, trailing blanks removed.
    Text(String),
    /// No value between `=` and the comment.
    Undefined,
    /// Anything else (complex numbers, unparsable text), kept as written.
    Other(String),
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Logical(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Value::Integer(v)
    }
}
impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Value::Integer(v.into())
    }
}
impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Value::Integer(v.into())
    }
}
impl From<usize> for Value {
    fn from(v: usize) -> Self {
        Value::Integer(v as i64)
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        if v.is_finite() { Value::Real(v) } else { Value::Undefined }
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.to_owned())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v)
    }
}

/// One card: a keyword with a value, or commentary.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The keyword, without trailing blanks; `HIERARCH` keywords keep their
    /// prefix (`HIERARCH ESO DET ID`).
    pub keyword: String,
    /// `None` for commentary (`COMMENT`, `HISTORY`, blank).
    pub value: Option<Value>,
    /// The comment after `/`, or the text of a commentary card.
    pub comment: String,
    /// The 80-character records this card was read from, written back verbatim.
    pub(super) raw: Option<Vec<u8>>,
}

impl Card {
    /// Commentary: COMMENT, HISTORY, or no keyword.
    pub(super) fn commentary(keyword: &str, text: &str) -> Self {
        Card { keyword: keyword.to_owned(), value: None, comment: text.to_owned(), raw: None }
    }

    /// Whether it was read from printable ASCII alone, as FITS wants it.
    pub fn is_ascii(&self) -> bool {
        self.raw.as_ref().is_none_or(|r| r.iter().all(|b| (32..127).contains(b)))
    }

    pub(super) fn new(keyword: &str, value: Value, comment: &str) -> Self {
        Card { keyword: keyword.to_owned(), value: Some(value), comment: comment.to_owned(), raw: None }
    }

    /// Whether it can be written as it was read: printable, and a value (text closed by
    /// its quote, a number in capitals, a complex number, or none) with nothing but a
    /// comment after it. A card that was not read but made is.
    pub fn is_sound(&self) -> bool {
        let (Some(raw), Some(value)) = (&self.raw, &self.value) else { return self.is_ascii() };
        let text: String = raw.iter().map(|b| *b as char).collect();
        let skip = match self.keyword.starts_with("HIERARCH ") {
            true => text.find('=').map_or(80, |i| i + 1),
            false => 10,
        };
        let text = text.get(skip..).unwrap_or_default();
        let plain = match value {
            Value::Text(_) => {
                let more = raw.chunks(80).skip(1).map(|r| r.iter().skip(8).map(|b| *b as char).collect());
                let first = text.chars().take(80 - skip.min(80)).collect();
                std::iter::once(first).chain(more).all(|piece: String| closed(piece.trim_start()))
            }
            Value::Other(v) => complex(v),
            Value::Undefined => true,
            _ => !text.split('/').next().unwrap_or_default().contains(|c: char| c.is_ascii_lowercase()),
        };
        self.is_ascii() && plain
    }

    /// `KEYWORD = value / comment` on one line.
    pub fn text(&self) -> String {
        let value = match &self.value {
            None => return format!("{} {}", self.keyword, self.comment),
            Some(Value::Text(t)) => format!("'{t}'"),
            Some(Value::Other(t)) => t.clone(),
            Some(Value::Logical(b)) => if *b { "T" } else { "F" }.into(),
            Some(Value::Integer(i)) => i.to_string(),
            Some(Value::Real(r)) => real(*r),
            Some(Value::Undefined) => String::new(),
        };
        let comment = if self.comment.is_empty() { String::new() } else { format!(" / {}", self.comment) };
        format!("{} = {value}{comment}", self.keyword)
    }

    /// The card's 80-byte records, long strings continued on further records. What fits
    /// on no record (a HIERARCH name that leaves no room for its value) is a COMMENT.
    pub(super) fn records(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let Some(value) = &self.value else {
            return commentary(&self.keyword, &self.comment);
        };
        let start = if self.keyword.len() > 8 || self.keyword.contains(' ') {
            let name = self.keyword.strip_prefix("HIERARCH ").unwrap_or(&self.keyword);
            format!("HIERARCH {name} = ")
        } else {
            format!("{:<8}= ", self.keyword)
        };
        // Text needs its quotes, the sign of a continuation and something between them.
        let least = match value {
            Value::Text(_) => 14,
            Value::Integer(_) | Value::Real(_) => 25,
            Value::Other(s) => s.len(),
            _ => 1,
        };
        if start.len() + least > 80 {
            return commentary("COMMENT", &self.text());
        }
        let text = match value {
            Value::Text(s) => return text_records(&start, &ascii(s), &ascii(&self.comment)),
            Value::Logical(b) => if *b { "T" } else { "F" }.to_owned(),
            Value::Integer(i) => i.to_string(),
            Value::Real(r) => real(*r),
            Value::Undefined => String::new(),
            Value::Other(s) => ascii(s),
        };
        let width = 20.min(80 - start.len());
        let mut line = start + &format!("{text:>width$}");
        if !self.comment.is_empty() {
            line += " / ";
            line += &ascii(&self.comment);
        }
        record(&line)
    }
}

/// Shortest text that reads back as the same f64, with a decimal point.
pub(super) fn real(value: f64) -> String {
    let text = if value == 0.0 || (1e-4..1e15).contains(&value.abs()) {
        format!("{value:?}")
    } else {
        format!("{value:E}")
    };
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

pub(super) fn record(line: &str) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.resize(80, b' ');
    bytes
}

fn commentary(keyword: &str, text: &str) -> Vec<u8> {
    let text = ascii(text);
    let mut out = Vec::new();
    let mut rest = text.as_str();
    loop {
        let (line, tail) = rest.split_at(rest.len().min(72));
        out.extend(record(&format!("{keyword:<8}{line}")));
        rest = tail;
        if rest.is_empty() {
            return out;
        }
    }
}

/// A string value, continued with `&` and CONTINUE records where it is long.
fn text_records(start: &str, text: &str, comment: &str) -> Vec<u8> {
    let quoted: Vec<String> =
        text.chars().map(|c| if c == '\'' { "''".into() } else { c.to_string() }).collect();
    let mut out = Vec::new();
    let mut start = start.to_owned();
    let mut at = 0;
    loop {
        let room = 80 - start.len() - 2;
        let left: usize = quoted[at..].iter().map(String::len).sum();
        if left <= room {
            let mut line = format!("{start}'{:<8}'", quoted[at..].concat());
            if !comment.is_empty() && line.len() + 4 < 80 {
                line = format!("{line:<30} / {comment}");
            }
            line.truncate(80);
            out.extend(record(&line));
            return out;
        }
        let mut piece = String::new();
        while at < quoted.len() && piece.len() + quoted[at].len() < room {
            piece += &quoted[at];
            at += 1;
        }
        out.extend(record(&format!("{start}'{piece}&'")));
        start = "CONTINUE  ".to_owned();
    }
}

pub(super) fn parse_value(field: &str) -> (Value, String) {
    let trimmed = field.trim_start();
    if let Some(rest) = trimmed.strip_prefix('\'') {
        let mut text = String::new();
        let mut chars = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((i, c)) = chars.next() {
            if c == '\'' {
                if chars.peek().is_some_and(|&(_, n)| n == '\'') {
                    chars.next();
                } else {
                    end = i + 1;
                    break;
                }
            }
            text.push(c);
        }
        return (Value::Text(text.trim_end().to_owned()), comment_after(&rest[end..]));
    }
    let (value, comment) = match trimmed.split_once('/') {
        Some((v, c)) => (v.trim(), c.trim().to_owned()),
        None => (trimmed.trim(), String::new()),
    };
    let parsed = match value {
        "" => Value::Undefined,
        "T" => Value::Logical(true),
        "F" => Value::Logical(false),
        v => number(v).unwrap_or_else(|| Value::Other(v.to_owned())),
    };
    (parsed, comment)
}

fn number(text: &str) -> Option<Value> {
    if let Ok(i) = text.parse::<i64>() {
        return Some(Value::Integer(i));
    }
    // Only characters of a FITS number, so that "nan", "inf" and "infinity" stay text.
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'E' | b'e' | b'D' | b'd')) {
        return None;
    }
    text.replace(['D', 'd'], "E").parse::<f64>().ok().filter(|v| v.is_finite()).map(Value::Real)
}

/// Whether the text that begins with a quote ends with one, before a comment if any.
fn closed(field: &str) -> bool {
    let mut rest = match field.strip_prefix('\'') {
        Some(rest) => rest,
        None => return false,
    };
    while let Some((_, after)) = rest.split_once('\'') {
        match after.strip_prefix('\'') {
            Some(on) => rest = on,
            None => return after.trim().is_empty() || after.trim_start().starts_with('/'),
        }
    }
    false
}

/// Whether it is a complex number, `(1.5, 2)`.
fn complex(text: &str) -> bool {
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let pair = inner.and_then(|t| t.split_once(','));
    pair.is_some_and(|(a, b)| {
        number(a.trim()).is_some() && number(b.trim()).is_some() && !text.contains(['e', 'd'])
    })
}

fn comment_after(rest: &str) -> String {
    rest.trim_start().strip_prefix('/').map_or(String::new(), |c| c.trim().to_owned())
}

pub(super) fn parse_card(line: &str, raw: &[u8; 80]) -> Card {
    let raw = Some(raw.to_vec());
    let keyword = line[..8].trim_end();
    if keyword == "HIERARCH"
        && let Some((name, field)) = line[8..].split_once('=')
    {
        let (value, comment) = parse_value(field);
        let keyword = format!("HIERARCH {}", name.trim());
        return Card { keyword, value: Some(value), comment, raw };
    }
    if &line[8..10] == "= " && !matches!(keyword, "COMMENT" | "HISTORY" | "") {
        let (value, comment) = parse_value(&line[10..]);
        return Card { keyword: keyword.to_owned(), value: Some(value), comment, raw };
    }
    Card { keyword: keyword.to_owned(), value: None, comment: line[8..].trim_end().to_owned(), raw }
}
