//! One element of a Match key against one value of a header.

use std::cmp::Ordering;

use regex_lite::{Regex, RegexBuilder};

use super::condition::{alternatives, float, quoted};

/// `NOT`s and relations within each other, at most.
const MAX_DEPTH: usize = 16;

/// Bytes of a compiled regular expression, at most.
const MAX_EXPRESSION: usize = 32 << 10;

/// How a value meets a key. The weight of a whole key is the number of its
/// elements that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    /// It matches, and counts.
    Yes,
    /// It does not matter, and does not count.
    Anyway,
    No,
}

/// A key's element, conditioned.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// The same text; `{text}` in a mapping takes signs as they are.
    Same(String),
    /// An or-bar of names with `*`, `?` and `[...]`.
    Names(Vec<String>),
    /// A regular expression that the value begins with: `(expression)`.
    Regular(String, Regex),
    /// `<5`, `>=2.5` …
    Relation(String, Compare, f64),
    /// `# a AND b #`, `# a OR b #`, `between a b`; by itself, the whole text is one of
    /// the values that match.
    Two(String, Junction, Box<[Key; 2]>),
    /// `NOT x`.
    Not(Box<Key>),
    /// `N/A`: whatever the value.
    Anyway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Less,
    LessOrSame,
    More,
    MoreOrSame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Junction {
    And,
    Or,
}

impl Key {
    /// Reads a conditioned element.
    pub(super) fn new(text: &str) -> Result<Key, String> {
        Key::within(text, 0)
    }

    fn within(text: &str, depth: usize) -> Result<Key, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the key {} has more than {MAX_DEPTH} levels", quoted(&start(text))));
        }
        let inside = |open, close| text.strip_prefix(open).and_then(|t: &str| t.strip_suffix(close));
        if let Some(pattern) = inside('(', ')') {
            return regular(pattern);
        }
        if let Some(literal) = inside('{', '}') {
            return Ok(Key::Same(literal.to_owned()));
        }
        if let Some(relation) = inside('#', '#') {
            let upper = text.to_uppercase();
            return if upper.contains(" AND ") {
                Key::two(&upper, Junction::And, depth)
            } else if upper.contains(" OR ") {
                Key::two(&upper, Junction::Or, depth)
            } else {
                Key::within(&relation.to_uppercase(), depth + 1)
            };
        }
        let upper = text.to_uppercase();
        if upper.starts_with("BETWEEN") {
            let words: Vec<&str> = text.split_whitespace().collect();
            return match words.as_slice() {
                [_, low, high] if float(low)? <= float(high)? => {
                    Key::two(&format!(">={low} AND <{high}"), Junction::And, depth)
                }
                _ => Err(format!("{} should be 'between LOWER UPPER'", quoted(&start(text)))),
            };
        }
        if upper.starts_with("NOT ") {
            return Ok(Key::Not(Box::new(Key::within(text[4..].trim(), depth + 1)?)));
        }
        if text.contains(['|', '*']) {
            return Ok(Key::Names(alternatives(text)));
        }
        match text {
            "N/A" => Ok(Key::Anyway),
            t if t.starts_with(['<', '>']) => relation(t),
            t => Ok(Key::Same(t.to_owned())),
        }
    }

    /// Two keys: the first two parts, as the CRDS client splits them, at the bare word.
    fn two(text: &str, junction: Junction, depth: usize) -> Result<Key, String> {
        let word = if junction == Junction::And { "AND" } else { "OR" };
        let inner = text.strip_prefix('#').map_or(text, |t| t.strip_suffix('#').unwrap_or(t));
        let mut parts = inner.split(word).map(str::trim);
        let mut next = || Key::within(parts.next().unwrap_or_default(), depth + 1);
        Ok(Key::Two(text.to_owned(), junction, Box::new([next()?, next()?])))
    }

    /// How many regular expressions are in it.
    pub(super) fn expressions(&self) -> usize {
        match self {
            Key::Regular(..) => 1,
            Key::Two(_, _, keys) => keys.iter().map(Key::expressions).sum(),
            Key::Not(key) => key.expressions(),
            _ => 0,
        }
    }

    /// Compares a conditioned value.
    pub(super) fn meets(&self, value: &str) -> Meets {
        let text = match self {
            Key::Anyway => return Meets::Anyway,
            Key::Not(key) => {
                return match key.meets(value) {
                    Meets::Yes => Meets::No,
                    Meets::No => Meets::Yes,
                    Meets::Anyway => Meets::Anyway,
                };
            }
            Key::Same(text) | Key::Regular(text, _) | Key::Relation(text, ..) | Key::Two(text, ..) => {
                Some(text.as_str())
            }
            Key::Names(_) => None,
        };
        match value {
            own if text == Some(own) => Meets::Yes,
            "*" => Meets::Yes,
            "N/A" => Meets::Anyway,
            other if self.fits(other) => Meets::Yes,
            _ => Meets::No,
        }
    }

    /// Whether a plain value fits what more than a text the key is.
    fn fits(&self, value: &str) -> bool {
        let yes = |key: &Key| key.meets(value) == Meets::Yes;
        match self {
            Key::Names(parts) => parts.iter().any(|p| named(p, value)),
            Key::Regular(_, regex) => regex.is_match(value),
            Key::Relation(_, compare, bound) => compare.holds(value, *bound),
            Key::Two(_, Junction::And, keys) => keys.iter().all(yes),
            Key::Two(_, Junction::Or, keys) => keys.iter().any(yes),
            Key::Same(_) | Key::Not(_) | Key::Anyway => false,
        }
    }
}

impl Compare {
    fn holds(self, value: &str, bound: f64) -> bool {
        let order = float(value).ok().and_then(|v| v.partial_cmp(&bound));
        match self {
            Compare::Less => order == Some(Ordering::Less),
            Compare::LessOrSame => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Compare::More => order == Some(Ordering::Greater),
            Compare::MoreOrSame => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The first signs of a text, for messages.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The engine answers in time linear in the value: no pattern can hang it.
fn regular(pattern: &str) -> Result<Key, String> {
    let regex = RegexBuilder::new(&format!("^(?:{pattern})")).size_limit(MAX_EXPRESSION).build();
    let regex = regex.map_err(|e| format!("the key '({})' is no regular expression: {e}", start(pattern)))?;
    Ok(Key::Regular(pattern.to_owned(), regex))
}

/// `<`, `<=`, `>` or `>=` and a number; what follows the number counts for nothing.
fn relation(text: &str) -> Result<Key, String> {
    let (compare, rest) = match (text.strip_prefix(">="), text.strip_prefix("<="), text.strip_prefix('>')) {
        (Some(rest), ..) => (Compare::MoreOrSame, rest),
        (_, Some(rest), _) => (Compare::LessOrSame, rest),
        (.., Some(rest)) => (Compare::More, rest),
        _ => (Compare::Less, text.get(1..).unwrap_or_default()),
    };
    let rest = rest.trim_start();
    let numeric = |end: usize| {
        rest[..end].parse::<f64>().ok().filter(|_| rest[..end].ends_with(|c: char| c.is_ascii_digit()))
    };
    let ends = rest.char_indices().map(|(i, c)| i + c.len_utf8()).take(64);
    match ends.filter_map(numeric).last() {
        Some(bound) => Ok(Key::Relation(text.to_owned(), compare, bound)),
        None => Err(format!("{} should be a relation and a number, as >=2.5", quoted(&start(text)))),
    }
}

/// Whether the whole of `text` fits a pattern of `*` (any signs), `?` (one sign) and
/// `[abc]`, `[a-z]`, `[!abc]` (one of, or none of).
fn named(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?', '[']) {
        return pattern == text;
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last * must take one sign more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => one_of(&pattern[p..], text[t])
                .map_or((text[t] == '[').then_some(p + 1), |(len, yes)| yes.then_some(p + len)),
            Some(c) => (*c == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The length of the set at the start of `pattern`, and whether `c` is in it; `None`
/// where the bracket is never closed.
fn one_of(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A ] that comes first stands for itself.
    let close = pattern.iter().skip(first + 1).position(|c| *c == ']')? + first + 1;
    let set = &pattern[first..close];
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        match set[i..] {
            [low, '-', high, ..] => {
                found |= (low..=high).contains(&c);
                i += 3;
            }
            _ => {
                found |= set[i] == c;
                i += 1;
            }
        }
    }
    Some((close + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_kind() {
        use Meets::{Anyway, No, Yes};
        for (key, value, meets) in [
            ("J", "J", Yes),
            ("J", "H", No),
            ("J", "*", Yes),
            ("J", "N/A", Anyway),
            ("N/A", "J", Anyway),
            ("H|K", "K", Yes),
            ("H|K", "HK", No),
            ("Y*", "YN2", Yes),
            ("*", "X", Yes),
            ("*", "N/A", Anyway),
            ("{N/A}", "N/A", Yes),
            ("K[1-3]|*Z", "K2", Yes),
            ("K[!1-3]|*Z", "K2", No),
            ("A?C|B", "ABC", Yes),
            ("[|B", "[", Yes),
            ("{H|K}", "H|K", Yes),
            ("{H|K}", "H", No),
            ("(KN[1-5])", "KN5X", Yes),
            ("(KN[1-5])", "XKN5", No),
            (">50", "51.0", Yes),
            (">50", "50.0", No),
            (">50", ">50", Yes),
            ("<=1.5E1 M", "15.0", Yes),
            ("<5", "ABC", No),
            ("BETWEEN 4 9", "4.0", Yes),
            ("BETWEEN 4 9", "9.0", No),
            ("# >=25 AND <=50 #", "50.0", Yes),
            ("# <1 OR >5 #", "3.0", No),
            ("#>5#", "6.0", Yes),
            ("# >5 #", "6.0", No),
            ("NOT J", "H", Yes),
            ("NOT J", "J", No),
            ("NOT J", "N/A", Anyway),
            ("NOT NOT J", "J", Yes),
            ("", "", Yes),
        ] {
            assert_eq!(Key::new(key).expect(key).meets(value), meets, "{key} {value}");
        }
    }

    #[test]
    fn what_is_no_key_is_a_sentence() {
        let deep = format!("{}J", "NOT ".repeat(200_000));
        let hashes = "#".repeat(1 << 20);
        for key in ["between 9 4", "between 4", ">x", "((a)", "(?=a)", "((a{999}){999})", &deep, &hashes] {
            let sentence = Key::new(key).expect_err("no key");
            assert!(sentence.len() < 400, "{sentence}");
        }
    }
}
