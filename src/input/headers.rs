//! The header that products inherit.

use crate::datamodel::Meta;
use crate::fits::{Fits, Hdu, Header};

/// The primary header with the science HDU's own keywords laid under it (the
/// primary's value wins), without what describes bytes. liger_iris_pipeline's
/// CRPIX, which stand in its PRIMARY and count from 0, become 1-based where
/// `liger` says so or the file carries its signature (see [`is_liger`]).
pub(super) fn merged(fits: &Fits, hdu: &Hdu, liger: bool) -> Header {
    let mut header = fits.primary().clone();
    header.retain(|c| !describes_bytes(&c.keyword) && !is_boilerplate(&c.comment));
    if liger || is_liger(fits, hdu) {
        for n in 1..=3 {
            let key = format!("CRPIX{n}");
            if let Some(v) = header.number(&key) {
                header.set(&key, v + 1.0, "");
            }
        }
    }
    if hdu.index != 0 {
        for card in hdu.header.cards() {
            if describes_bytes(&card.keyword) || is_boilerplate(&card.comment) {
                continue;
            }
            if card.value.is_none() {
                header.push(card.clone());
            } else if !header.has(&card.keyword) {
                header.remove(&card.keyword);
                header.push(card.clone());
            }
        }
    }
    header
}

/// Adds a DETECTOR that the header leaves out but OBSNAME (or INSTMODE) tells.
pub(super) fn complete(header: &mut Header, warnings: &mut Vec<String>) {
    let meta = Meta::from_header(header);
    let by =
        |key: &str, value: &str, detector: &str| Some((format!("{key} = '{value}'"), detector.to_owned()));
    let told = match (meta.obsname.split('-').next().unwrap_or_default(), meta.instmode.as_str()) {
        _ if !meta.detector.is_empty() => None,
        (imager @ ("IMG1" | "IMG2" | "IMG3" | "IMG4"), _) => by("OBSNAME", &meta.obsname, imager),
        ("LEN" | "SLI", _) => by("OBSNAME", &meta.obsname, "IFU"),
        (_, "LENSLET" | "SLICER") => by("INSTMODE", &meta.instmode, "IFU"),
        _ => None,
    };
    if let Some((by, detector)) = told {
        warnings.push(format!("DETECTOR is missing: {by} tells that it is {detector}"));
        header.set("DETECTOR", detector.as_str(), "from OBSNAME or INSTMODE");
    }
}

/// Whether liger_iris_pipeline wrote the file: an ASDF tail, science in DATA, the
/// WCS in PRIMARY (JWST's tail stands beside SCI, with the WCS there).
pub(super) fn is_liger(fits: &Fits, hdu: &Hdu) -> bool {
    hdu.name == "DATA" && fits.hdu("ASDF").is_some() && fits.primary().has("CRPIX1")
}

/// `text` of the first of `keys` that has one, in capitals.
pub(super) fn upper(header: &Header, keys: &[&str]) -> String {
    keys.iter()
        .find_map(|k| header.text(k).filter(|t| !t.is_empty()))
        .unwrap_or_default()
        .to_ascii_uppercase()
}

/// A positive count from the first of `keys` that has one.
pub(super) fn count(header: &Header, keys: &[&str]) -> Option<usize> {
    keys.iter()
        .find_map(|k| header.integer(k))
        .and_then(|n| usize::try_from(n).ok())
        .filter(|&n| (1..=1 << 24).contains(&n))
}

/// The comment every FITS library puts in a primary header.
fn is_boilerplate(comment: &str) -> bool {
    comment.contains("FITS (Flexible Image Transport System)") || comment.contains("2001A&A...376..359H")
}

/// Whether a keyword says how a file is built, not what is in it.
pub fn describes_bytes(keyword: &str) -> bool {
    const EXACT: [&str; 28] = [
        "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "TFIELDS", "THEAP",
        "EXTNAME", "EXTVER", "EXTLEVEL", "BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM", "NEXTEND",
        "ZIMAGE", "ZSIMPLE", "ZTENSION", "ZBITPIX", "ZNAXIS", "ZCMPTYPE", "ZQUANTIZ", "ZDITHER0", "ZBLANK",
    ];
    const NUMBERED: [&str; 13] = [
        "NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TSCAL", "TZERO", "TNULL", "TDISP", "ZNAXIS", "ZTILE",
        "ZNAME", "ZVAL",
    ];
    EXACT.contains(&keyword)
        || matches!(keyword, "ZPCOUNT" | "ZGCOUNT" | "ZEXTEND" | "ZHECKSUM" | "ZDATASUM" | "ZMASKCMP")
        || NUMBERED.iter().any(|p| {
            keyword.strip_prefix(p).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
}
