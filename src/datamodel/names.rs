//! File names of products and masters.

use super::Meta;

/// `{SEMID}-{PROGNUM}-{OBSNUM}_IRIS_{DETECTOR}_{IMTYPE}_LVL{n}_{EXPNUM:04}{_suffix}.fits`,
/// with liger_iris_pipeline's defaults for what is missing. `suffix` without its
/// underscore, empty for none.
pub fn product_name(meta: &Meta, level: u32, suffix: &str) -> String {
    let suffix = if suffix.is_empty() { String::new() } else { format!("_{}", safe(suffix)) };
    format!(
        "{}-{}-{}_IRIS_{}_{}_LVL{level}_{:04}{suffix}.fits",
        safe(&meta.semid),
        safe(&meta.prognum),
        safe(&meta.obsnum),
        safe(&meta.detector),
        safe(&meta.imtype),
        meta.expnum
    )
}

/// `IRIS_{DETECTOR}_{REFTYPE}_{EXPDTST}_{version}.fits`; `label` tells apart masters
/// of one night (filter, read mode …) and may be empty.
pub fn master_name(meta: &Meta, reftype: &str, label: &str, version: &str) -> String {
    let label = if label.is_empty() { String::new() } else { format!("-{}", safe(label)) };
    let date = if meta.expdtst.is_empty() { "00000000000000" } else { &meta.expdtst };
    format!(
        "IRIS_{}_{}{label}_{}_{}.fits",
        safe(&meta.detector),
        safe(&reftype.to_ascii_uppercase()),
        safe(date),
        safe(version)
    )
}

/// Only characters that every file system takes, so that no header value can
/// name another folder.
fn safe(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-') { c } else { '-' })
        .collect();
    let kept = kept.trim_matches(|c| matches!(c, '.' | '-')).to_owned();
    if kept.is_empty() { "X".into() } else { kept }
}
