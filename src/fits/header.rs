//! Header cards: parsing, editing and writing without losing anything.

use super::BLOCK;
use super::card::{Card, Value, parse_card, parse_value, real, record};

/// An ordered list of cards, `END` left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    cards: Vec<Card>,
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
                    text.truncate(text.trim_end().len());
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
        self.cards.push(Card::commentary(keyword, text));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// Whatever is set is read back: text of any length and signs, numbers to the bit.
        #[test]
        fn random_values_survive(
            texts in proptest::collection::vec("[ -~]{0,250}", 1..8),
            numbers in proptest::collection::vec(any::<f64>(), 1..8),
            whole in any::<i64>(),
            name in "[A-Z][A-Za-z0-9 ._-]{0,30}[a-z]",
        ) {
            let mut h = Header::new();
            for (i, text) in texts.iter().enumerate() {
                h.set(&format!("T{i}"), text.as_str(), "a comment");
            }
            for (i, number) in numbers.iter().enumerate() {
                h.set(&format!("N{i}"), *number, "a comment");
            }
            h.set("WHOLE", whole, "");
            let name = format!("HIERARCH {name}");
            h.set(&name, texts[0].as_str(), "");
            let r = round_trip(&h);
            for (i, text) in texts.iter().enumerate() {
                prop_assert_eq!(r.get(&format!("T{i}")), Some(&Value::from(text.trim_end())));
            }
            for (i, number) in numbers.iter().enumerate() {
                prop_assert_eq!(r.get(&format!("N{i}")), Some(&Value::from(*number)));
            }
            prop_assert_eq!(r.integer("WHOLE"), Some(whole));
            prop_assert_eq!(r.get(&name), Some(&Value::from(texts[0].trim_end())));
            prop_assert_eq!(round_trip(&r).to_bytes(), r.to_bytes());
        }
    }

    #[test]
    fn what_fits_no_card_is_a_comment() {
        let mut h = Header::new();
        let name = format!("HIERARCH {}", "LONG ".repeat(15).trim_end());
        h.set(&name, "text", "");
        h.set(&(name + "ER"), 1.5, "");
        let r = round_trip(&h);
        assert_eq!(r.cards().len(), 4, "two lines each");
        assert!(r.cards().iter().all(|c| c.keyword == "COMMENT"));
        assert!(r.cards()[1].comment.ends_with("= 'text'") && r.cards()[3].comment.ends_with("= 1.5"));
    }

    #[test]
    fn no_end_is_no_header() {
        assert!(Header::parse(&record("SIMPLE  =                    T")).is_none());
    }
}
