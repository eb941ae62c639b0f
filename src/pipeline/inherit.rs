//! What a product takes over of its input's keywords: all of them, known or not, and
//! what becomes of those that FITS has no place for. `docs/datamodel.md` has the table.

use std::collections::BTreeMap;

use crate::datamodel::{is_wcs_keyword, registry};
use crate::fits::{Card, Header, Value};

/// Keywords of bytes, units and axes, which every product writes anew.
const ANEW: &[&str] =
    &["BUNIT", "IGNIGHT", "INHERIT", "EXTVER", "EXTLEVEL", "DISPAXIS", "DATE", "EXTNAME", "LONGSTRN", "END"];

/// The cards of `input` that a product takes over, in their order and as they are
/// written there; what only stands under other names (SAMPMODE) also under the keyword
/// (READMODE).
pub(super) fn inherited(input: &Header) -> Header {
    let mut out = Header::new();
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for card in input.cards() {
        let Some(value) = &card.value else {
            commentary(&mut out, card);
            continue;
        };
        let keyword = match card.keyword.strip_prefix("HIERARCH ") {
            Some(_) => card.keyword.clone(),
            None => card.keyword.to_ascii_uppercase(),
        };
        if ANEW.contains(&keyword.as_str()) || is_wcs_keyword(&keyword) || keyword.starts_with("DQB") {
            continue;
        }
        if !is_standard(&keyword) {
            aside(&mut out, "", card);
            continue;
        }
        match seen.get(&keyword) {
            Some(first) if first == value => continue,
            Some(_) => {
                aside(&mut out, "again ", card);
                continue;
            }
            None => seen.insert(keyword.clone(), value.clone()),
        };
        match value {
            // A reserved keyword whose value must be a number.
            Value::Text(t) if matches!(keyword.as_str(), "EQUINOX" | "EPOCH") => {
                match t.trim().parse::<f64>() {
                    Ok(number) => out.set(&keyword, number, &card.comment),
                    Err(_) => aside(&mut out, "", card),
                }
            }
            _ if keyword == card.keyword && card.is_sound() => out.push(card.clone()),
            // FITS has no such value; as text it is not lost.
            Value::Other(text) => out.append(&keyword, text.as_str(), &card.comment),
            value => out.append(&keyword, value.clone(), &card.comment),
        }
    }
    registry::completed(&mut out);
    out
}

/// COMMENT, HISTORY and lines without a keyword stay what they are; anything else
/// without a value becomes a COMMENT; blank lines say nothing.
fn commentary(out: &mut Header, card: &Card) {
    let text = card.comment.trim_end();
    match card.keyword.as_str() {
        "COMMENT" | "HISTORY" => out.commentary(&card.keyword, text),
        "" if text.is_empty() => {}
        "" => out.commentary("", text),
        "END" => {}
        keyword => out.commentary("COMMENT", &format!("input: {keyword} {text}")),
    }
}

/// A card that cannot be one of the product's, in a COMMENT.
fn aside(out: &mut Header, again: &str, card: &Card) {
    out.commentary("COMMENT", &format!("input: {again}{}", card.text()));
}

/// A keyword as the standard wants it, or the name of a HIERARCH card.
fn is_standard(keyword: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    match keyword.strip_prefix("HIERARCH ") {
        Some(name) => {
            (1..=45).contains(&name.len())
                && !name.starts_with(' ')
                && name.chars().all(|c| c.is_ascii_graphic() && c != '=' && c != '?' || c == ' ')
        }
        None => (1..=8).contains(&keyword.len()) && keyword.chars().all(plain),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(lines: &[&[u8]]) -> Header {
        let mut bytes = Vec::new();
        for line in lines.iter().chain([&b"END".as_slice()]) {
            let mut record = line.to_vec();
            record.resize(80, b' ');
            bytes.extend(record);
        }
        Header::parse(&bytes).expect("END").0
    }

    /// The cards of what is inherited, as they are written and read again.
    fn lines(header: &Header) -> Vec<String> {
        let bytes = inherited(header).to_bytes();
        let lines: Vec<String> =
            bytes.chunks(80).map(|r| String::from_utf8_lossy(r).trim_end().to_owned()).collect();
        let end = lines.iter().position(|l| l == "END").expect("END");
        lines[..end].to_vec()
    }

    #[test]
    fn every_kind_of_card_has_its_fate() {
        let as_it_is: &[&[u8]] = &[
            b"AZ      = 1.20D+01           / degrees",
            b"COMPLEX = (1.5, 2)",
            b"NOTHING =                      / no value yet",
            b"BIG     = 123456789012345678901234567890",
            b"HIERARCH ESO DET Chip.id = 'x y'   / a name",
            b"COMMENT  of the observer",
            b"HISTORY written by the detector",
            b"        a line without a keyword",
            b"LONG    = 'begins &'",
            b"CONTINUE  'and ends' / here",
            b"QUOTE   = 'O''Neill'/close",
        ];
        let text: Vec<String> = as_it_is.iter().map(|l| String::from_utf8(l.to_vec()).unwrap()).collect();
        assert_eq!(lines(&parsed(as_it_is)), text);
        for (line, fate) in [
            (b"BARE    = NaN".as_slice(), "BARE    = 'NaN     '"),
            (b"lower   = 5", "LOWER   =                    5"),
            (b"A$B     = 5 / odd", "COMMENT input: A$B = 5 / odd"),
            (b"NAME    = 'Andr\xe9'", "NAME    = 'Andr?   '"),
            (b"UNCLOSED= 'abc", "UNCLOSED= 'abc     '"),
            (b"EQUINOX = 'J2000'", "COMMENT input: EQUINOX = 'J2000'"),
            (b"EQUINOX = '2000'", "EQUINOX =               2000.0"),
            (b"NOVALUE 5", "COMMENT input: NOVALUE 5"),
            (b"CONTINUE  'lost'", "COMMENT input: CONTINUE   'lost'"),
        ] {
            assert_eq!(lines(&parsed(&[line])), [fate], "{}", String::from_utf8_lossy(line));
        }
        for gone in [b"CRPIX1  = 5".as_slice(), b"BUNIT   = 'DN'", b"", b"EXTVER  = 1"] {
            assert_eq!(lines(&parsed(&[gone])), [] as [String; 0]);
        }
        // The first of two counts; the other is not lost.
        let twice = parsed(&[b"FILTER  = 'K'", b"FILTER  = 'H' / later", b"FILTER  = 'K'"]);
        assert_eq!(lines(&twice), ["FILTER  = 'K'", "COMMENT input: again FILTER = 'H' / later"]);
        // What a product has, its own products have.
        for header in [parsed(as_it_is), twice] {
            let once = inherited(&header);
            assert_eq!(inherited(&once).to_bytes(), once.to_bytes());
        }
    }

    #[test]
    fn other_names_get_the_keyword_beside_them() {
        let h = inherited(&parsed(&[b"SAMPMODE= 'UTR     '", b"IFSSCALE=                    9"]));
        assert_eq!((h.text("READMODE").as_deref(), h.number("SCALE")), (Some("UTR"), Some(0.009)));
        assert!(h.has("SAMPMODE") && h.has("IFSSCALE"));
    }

    proptest! {
        /// Whatever bytes a header has, a product can be made of it, its cards are all
        /// printable, and no value that can be read is lost.
        #[test]
        fn nothing_is_lost_of_random_cards(
            cards in proptest::collection::vec(("[A-Z][A-Z0-9_-]{0,7}", "[ -~]{0,70}"), 0..40),
            wild in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 80), 0..6),
        ) {
            let mut text: Vec<Vec<u8>> =
                cards.iter().map(|(k, v)| format!("{k:<8}= {v}").into_bytes()).collect();
            text.extend(wild);
            let lines: Vec<&[u8]> = text.iter().map(Vec::as_slice).collect();
            let header = parsed(&lines);
            let out = inherited(&header);
            let again = Header::parse(&out.to_bytes()).expect("END").0;
            prop_assert!(again.cards().iter().all(|c| c.is_ascii() && c.is_sound()));
            let comments: String = again
                .cards()
                .iter()
                .filter(|c| c.keyword == "COMMENT")
                .map(|c| c.comment.as_str())
                .collect();
            for card in header.cards() {
                let k = card.keyword.to_ascii_uppercase();
                if card.value.is_none() || ANEW.contains(&k.as_str()) || is_wcs_keyword(&k) || k.starts_with("DQB") {
                    continue;
                }
                let there = again.get(&k).is_some_and(|v| match (v, card.value.as_ref()) {
                    (Value::Text(t), Some(Value::Other(o))) => t == o,
                    (v, Some(own)) => v == own,
                    _ => false,
                });
                prop_assert!(there || comments.contains(&card.keyword) || k.starts_with("HIERARCH"), "{card:?}");
            }
        }
    }
}
