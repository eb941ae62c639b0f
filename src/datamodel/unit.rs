//! Units of raw and rate pixels, as BUNIT spells them.

/// What BUNIT says of a detector's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Electrons, not DN.
    pub electrons: bool,
    /// A rate, not counts.
    pub per_second: bool,
}

impl Unit {
    /// Understands DN (ADU, counts) and electrons (e-), each also per second in any
    /// of the usual spellings; `None` for anything else, the empty text too.
    pub fn parse(bunit: &str) -> Option<Unit> {
        let ignored = |c: &char| !c.is_whitespace() && !"^*.()".contains(*c);
        let text: String = bunit.to_ascii_lowercase().chars().filter(ignored).collect();
        let rate = ["/second", "/sec", "/s", "s-1"].iter().find_map(|end| text.strip_suffix(end));
        let electrons = match rate.unwrap_or(&text) {
            "dn" | "adu" | "count" | "counts" | "ct" => false,
            "e" | "e-" | "electron" | "electrons" => true,
            _ => return None,
        };
        Some(Unit { electrons, per_second: rate.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let unit = |electrons, per_second| Some(Unit { electrons, per_second });
        for text in ["e-/s", "electron s-1", "electron / s", "e s**-1", "electron.s^(-1)"] {
            assert_eq!(Unit::parse(text), unit(true, true), "{text}");
        }
        assert_eq!(Unit::parse("adu"), unit(false, false));
        assert_eq!(Unit::parse("DN/s"), unit(false, true));
        assert_eq!(Unit::parse("electrons"), unit(true, false));
        for text in ["", "Jy", "electrons-"] {
            assert_eq!(Unit::parse(text), None, "{text}");
        }
    }
}
