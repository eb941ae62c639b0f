//! Header cards: parsing, editing and writing without losing anything.

use super::BLOCK;

/// The value of a card.
#[derive(Debug, Clone, PartialEq)]
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
    raw: Option<Vec<u8>>,
}

/// An ordered list of cards, `END` left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    cards: Vec<Card>,
}

impl Card {
    /// Whether it was read from printable ASCII alone, as FITS wants it.
    pub fn is_ascii(&self) -> bool {
        self.raw.as_ref().is_none_or(|r| r.iter().all(|b| (32..127).contains(b)))
    }

    fn new(keyword: &str, value: Value, comment: &str) -> Self {
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
            // Continued text was put together of closed pieces.
            Value::Text(_) => raw.len() > 80 || closed(text.trim_start()),
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
    fn records(&self) -> Vec<u8> {
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
fn real(value: f64) -> String {
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

fn record(line: &str) -> Vec<u8> {
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

fn parse_value(field: &str) -> (Value, String) {
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

/// Whether a record is the END card.
pub(super) fn is_end(record: &[u8]) -> bool {
    record.strip_prefix(b"END").is_some_and(|rest| rest.iter().all(|b| *b == b' '))
}

impl Header {
    /// An empty header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses 80-byte records up to `END`; `None` when there is no `END`.
    /// Returns the header and the number of bytes up to and including `END`.
    pub fn parse(bytes: &[u8]) -> Option<(Header, usize)> {
        let mut cards: Vec<Card> = Vec::new();
        for (n, raw) in bytes.as_chunks::<80>().0.iter().enumerate() {
            let line: String =
                raw.iter().map(|&b| if (32..127).contains(&b) { b as char } else { '?' }).collect();
            let keyword = line[..8].trim_end();
            if is_end(raw) {
                return Some((Header { cards }, (n + 1) * 80));
            }
            if keyword == "CONTINUE"
                && let Some(last) = cards.last_mut().filter(|c| continues(c))
            {
                let (value, comment) = parse_value(&line[8..]);
                if let (Some(Value::Text(text)), Value::Text(more)) = (&mut last.value, value) {
                    text.pop();
                    text.push_str(&more);
                    last.comment.push_str(&comment);
                    if let Some(r) = &mut last.raw {
                        r.extend_from_slice(raw);
                    }
                    continue;
                }
            }
            cards.push(parse_card(&line, raw));
        }
        None
    }

    /// The header as it stands on disk: records, `END`, blank padding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.cards.iter().flat_map(Card::records).collect();
        out.extend(record("END"));
        out.resize(out.len().div_ceil(BLOCK) * BLOCK, b' ');
        out
    }

    /// All cards in order.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// The first value of `keyword`.
    pub fn get(&self, keyword: &str) -> Option<&Value> {
        self.cards.iter().find(|c| c.keyword == keyword).and_then(|c| c.value.as_ref())
    }

    /// Whether `keyword` is present with a defined value.
    pub fn has(&self, keyword: &str) -> bool {
        !matches!(self.get(keyword), None | Some(Value::Undefined))
    }

    /// A string; numbers and logicals come as their text.
    pub fn text(&self, keyword: &str) -> Option<String> {
        match self.get(keyword)? {
            Value::Text(s) | Value::Other(s) => Some(s.trim().to_owned()),
            Value::Integer(i) => Some(i.to_string()),
            Value::Real(r) => Some(real(*r)),
            Value::Logical(b) => Some(if *b { "T" } else { "F" }.to_owned()),
            Value::Undefined => None,
        }
    }

    /// A number; text that holds one counts.
    pub fn number(&self, keyword: &str) -> Option<f64> {
        match self.get(keyword)? {
            Value::Integer(i) => Some(*i as f64),
            Value::Real(r) => Some(*r),
            Value::Text(s) => s.trim().parse().ok().filter(|v: &f64| v.is_finite()),
            _ => None,
        }
    }

    /// An integer; a real without fraction or text that holds one counts.
    pub fn integer(&self, keyword: &str) -> Option<i64> {
        match self.get(keyword)? {
            Value::Integer(i) => Some(*i),
            Value::Real(r) if r.fract() == 0.0 && r.abs() < 9e15 => Some(*r as i64),
            Value::Text(s) => s.trim().parse().ok(),
            _ => None,
        }
    }

    /// A logical.
    pub fn logical(&self, keyword: &str) -> Option<bool> {
        match self.get(keyword)? {
            Value::Logical(b) => Some(*b),
            Value::Text(s) if s.eq_ignore_ascii_case("true") || s == "T" => Some(true),
            Value::Text(s) if s.eq_ignore_ascii_case("false") || s == "F" => Some(false),
            _ => None,
        }
    }

    /// Replaces the value of `keyword` (keeping its place) or appends a card. An
    /// empty comment keeps the old one.
    pub fn set(&mut self, keyword: &str, value: impl Into<Value>, comment: &str) {
        let value = value.into();
        match self.cards.iter_mut().find(|c| c.keyword == keyword && c.value.is_some()) {
            Some(card) => {
                card.value = Some(value);
                if !comment.is_empty() {
                    card.comment = comment.to_owned();
                }
                card.raw = None;
            }
            None => self.cards.push(Card::new(keyword, value, comment)),
        }
    }

    /// Like [`Header::set`], but does nothing when `keyword` is there already.
    pub fn set_default(&mut self, keyword: &str, value: impl Into<Value>, comment: &str) {
        if !self.has(keyword) {
            self.set(keyword, value, comment);
        }
    }

    /// Appends a card, whatever there is.
    pub fn append(&mut self, keyword: &str, value: impl Into<Value>, comment: &str) {
        self.cards.push(Card::new(keyword, value.into(), comment));
    }

    /// Appends a HISTORY card.
    pub fn history(&mut self, text: &str) {
        self.commentary("HISTORY", text);
    }

    /// Appends a card without value: COMMENT, HISTORY, or no keyword.
    pub fn commentary(&mut self, keyword: &str, text: &str) {
        self.cards.push(Card {
            keyword: keyword.to_owned(),
            value: None,
            comment: text.to_owned(),
            raw: None,
        });
    }

    /// Appends a card as it is.
    pub fn push(&mut self, card: Card) {
        self.cards.push(card);
    }

    /// Removes every card of `keyword`.
    pub fn remove(&mut self, keyword: &str) {
        self.cards.retain(|c| c.keyword != keyword);
    }

    /// Keeps only the cards that `keep` wants.
    pub fn retain(&mut self, keep: impl FnMut(&Card) -> bool) {
        self.cards.retain(keep);
    }

    /// Inserts cards in front (the mandatory ones).
    pub(crate) fn prepend(&mut self, front: Header) {
        self.cards.splice(0..0, front.cards);
    }
}

fn continues(card: &Card) -> bool {
    matches!(&card.value, Some(Value::Text(t)) if t.ends_with('&'))
}

fn parse_card(line: &str, raw: &[u8; 80]) -> Card {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(header: &Header) -> Header {
        let bytes = header.to_bytes();
        assert_eq!(bytes.len() % BLOCK, 0);
        Header::parse(&bytes).expect("END").0
    }

    #[test]
    fn values_survive_a_round_trip() {
        let mut h = Header::new();
        let long = "it's a long string ".repeat(12);
        h.set("OBJECT", "O'Neill", "a quote");
        h.set("LONG", long.trim_end(), "continued");
        h.set("COUNT", 42, "");
        h.set("TINY", 1.25e-17, "");
        h.set("WHOLE", 3.0, "");
        h.set("NONE", f64::NAN, "undefined");
        h.set("HIERARCH ESO DET ID", "x", "");
        h.history(&"h".repeat(100));
        let r = round_trip(&h);
        assert_eq!(r.text("OBJECT").as_deref(), Some("O'Neill"));
        assert_eq!(r.text("LONG").as_deref(), Some(long.trim_end()));
        assert_eq!(r.integer("COUNT"), Some(42));
        assert_eq!(r.number("TINY"), Some(1.25e-17));
        assert_eq!(r.get("WHOLE"), Some(&Value::Real(3.0)));
        assert!(!r.has("NONE"));
        assert_eq!(r.text("HIERARCH ESO DET ID").as_deref(), Some("x"));
        assert_eq!(round_trip(&r).to_bytes(), r.to_bytes());
    }

    #[test]
    fn unedited_cards_keep_their_bytes() {
        let mut bytes = record("AZ      = 1.20D+01           / degrees");
        bytes.extend(record("JUNK    = (1, 2)"));
        bytes.extend(record("END"));
        let (h, used) = Header::parse(&bytes).expect("END");
        assert_eq!(used, 240);
        assert_eq!(h.number("AZ"), Some(12.0));
        assert_eq!(&h.to_bytes()[..160], &bytes[..160]);
    }

    #[test]
    fn no_end_is_no_header() {
        assert!(Header::parse(&record("SIMPLE  =                    T")).is_none());
    }
}
