//! Keywords of world coordinates.

/// Whether a keyword belongs to the world coordinates.
pub fn is_wcs_keyword(keyword: &str) -> bool {
    const EXACT: &[&str] = &[
        "WCSAXES", "WCSNAME", "RADESYS", "RADECSYS", "LONPOLE", "LATPOLE", "SPECSYS", "SSYSOBS", "VELOSYS",
        "RESTWAV", "RESTFRQ", "A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER",
    ];
    const ONE: &[&str] = &["CRPIX", "CRVAL", "CTYPE", "CUNIT", "CDELT", "CROTA", "CNAME", "CRDER", "CSYER"];
    const TWO: &[&str] = &["PC", "CD", "PV", "PS", "A_", "B_", "AP_", "BP_"];
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let pair = |s: &str| s.split_once('_').is_some_and(|(a, b)| digits(a) && digits(b));
    EXACT.contains(&keyword)
        || ONE.iter().any(|p| keyword.strip_prefix(p).is_some_and(digits))
        || TWO.iter().any(|p| keyword.strip_prefix(p).is_some_and(pair))
}
