//! Values as they are compared: in capitals, numbers all written alike, and one
//! spelling of what means "any" or "does not matter".

/// The form in which a header's value and a mapping's key are compared.
pub(super) fn condition(value: &str) -> String {
    let mut value = value.trim().to_uppercase();
    if is_number(&value)
        && let Ok(n) = value.parse::<f64>()
    {
        value = number(n);
    }
    if does_not_matter(&value) {
        return "N/A".into();
    }
    match value.as_str() {
        "ANY" => "*".into(),
        "4294967295.0" => "-1.0".into(),
        "TRUE" => "T".into(),
        "FALSE" => "F".into(),
        _ => value,
    }
}

/// What stands for "does not matter". As the CRDS client has it, all but the last
/// also where something follows.
fn does_not_matter(value: &str) -> bool {
    let never = value.strip_prefix("-2147483648").map(|rest| rest.chars().skip(1));
    never.is_some_and(|mut rest| rest.next() == Some('0'))
        || ["()", "N/A", "NOT APPLICABLE"].iter().any(|p| value.starts_with(p))
        || value == "NOT_APPLICABLE"
}

/// Whether the whole of a text is a decimal number.
fn is_number(text: &str) -> bool {
    let digits = |t: &str| t.len() - t.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unsigned = |t: &'_ str| t.strip_prefix(['+', '-']).map_or(t.len(), str::len);
    let text = &text[text.len() - unsigned(text)..];
    let whole = digits(text);
    let rest = &text[whole..];
    let rest = match rest.strip_prefix('.') {
        Some("") => return whole > 0,
        Some(fraction) if digits(fraction) > 0 => &fraction[digits(fraction)..],
        None if whole > 0 => rest,
        _ => return false,
    };
    match rest.strip_prefix(['E', 'e']) {
        None => rest.is_empty(),
        Some(power) => {
            let power = &power[power.len() - unsigned(power)..];
            !power.is_empty() && digits(power) == power.len()
        }
    }
}

/// A number as Python writes a float: the shortest digits that give it back, with
/// an exponent below 1e-4 and from 1e16 on.
pub(super) fn number(n: f64) -> String {
    if n.is_nan() {
        return "nan".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "inf" } else { "-inf" }.into();
    }
    if n != 0.0 && !(1e-4..1e16).contains(&n.abs()) {
        let text = format!("{n:e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let power: i32 = power.parse().unwrap_or(0);
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", power.abs());
    }
    format!("{n:?}")
}

/// A text as Python's `repr` quotes it.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Texts as Python writes their list (`['A', 'B']`) or, in parentheses, tuple.
pub(super) fn listed<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|t| quoted(t)).collect();
    texts.join(", ")
}

/// A number as Python's `float()` reads it.
pub(super) fn float(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("could not convert string to float: {}", quoted(text)))
}

/// The parts of an or-bar, sorted; the whole where it is none.
pub(super) fn alternatives(value: &str) -> Vec<String> {
    if !value.contains('|') || is_expression(value) {
        return vec![value.to_owned()];
    }
    let mut parts: Vec<String> =
        value.split('|').map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect();
    parts.sort();
    parts
}

/// Whether a key is more than a value or an or-bar of values, so that a header's
/// value cannot be looked up in a list of what is allowed.
pub(super) fn is_expression(key: &str) -> bool {
    let key = key.to_uppercase();
    (key.starts_with(['{', '(', '#']) && key.ends_with(['}', ')', '#']))
        || key.starts_with("BETWEEN")
        || key.starts_with("NOT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_form() {
        for (from, to) in [
            (" img1 ", "IMG1"),
            ("9", "9.0"),
            ("9.", "9.0"),
            (".5", "0.5"),
            ("-1e3", "-1000.0"),
            ("1e16", "1e+16"),
            ("0.00001", "1e-05"),
            ("20240924000000", "20240924000000.0"),
            ("1.", "1.0"),
            (".", "."),
            ("1e", "1E"),
            ("+", "+"),
            ("0.0.0", "0.0.0"),
            ("any", "*"),
            ("n/a", "N/A"),
            ("N/A please", "N/A"),
            ("not applicable", "N/A"),
            ("()", "N/A"),
            ("-2147483648", "N/A"),
            ("4294967295", "-1.0"),
            ("True", "T"),
            ("f", "F"),
            ("", ""),
        ] {
            assert_eq!(condition(from), to, "{from}");
        }
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(alternatives("FOO|BAR | BAZ| "), ["BAR", "BAZ", "FOO"]);
        assert_eq!(alternatives("{A|B}"), ["{A|B}"]);
    }
}
