//! Words that what is printed has in common.

use std::borrow::Cow;

/// `1 star`, `2 stars`: a number of what is called `one` alone.
pub(crate) fn counted(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// The text with its control characters written out, but for line ends and tabs: names of
/// files come from anywhere, and a terminal obeys.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A number of a header without the three hundred digits that it may have.
pub(crate) fn short(v: f64) -> String {
    let plain = v == 0.0 || (1e-4..1e9).contains(&v.abs());
    if plain { v.to_string() } else { format!("{v:e}") }
}

#[cfg(test)]
mod tests {
    use super::{counted, printable, short};

    #[test]
    fn a_terminal_is_told_no_commands() {
        assert_eq!(printable("a\tb\nµm"), "a\tb\nµm");
        assert_eq!(printable("\u{1b}[2J\u{9b}31mx\r"), "\\u{1b}[2J\\u{9b}31mx\\r");
    }

    #[test]
    fn numbers_stay_short() {
        assert_eq!([0.0, 12.5, 1e300, -2e-9].map(short), ["0", "12.5", "1e300", "-2e-9"]);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "star")), ["0 stars", "1 star", "2 stars"]);
    }
}
