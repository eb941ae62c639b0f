//! File names of products and masters.

use super::Meta;

/// `{SEMID}-{PROGNUM}-{OBSNUM}_IRIS_{DETECTOR}_{IMTYPE}_LVL{n}_{EXPNUM:04}{_suffix}.fits`,
/// with liger_iris_pipeline's defaults for what is missing. `suffix` without its
/// underscore, empty for none. A subarray of the exposure has `-{SUBARRID:02}` after EXPNUM.
pub fn product_name(meta: &Meta, level: u32, suffix: &str) -> String {
    let suffix = if suffix.is_empty() { String::new() } else { format!("_{}", safe(suffix)) };
    let subarray = if meta.subarrid > 0 { format!("-{:02}", meta.subarrid) } else { String::new() };
    format!(
        "{}-{}-{}_IRIS_{}_{}_LVL{level}_{:04}{subarray}{suffix}.fits",
        safe(&meta.semid),
        safe(&meta.prognum),
        safe(&meta.obsnum),
        safe(&meta.detector),
        safe(&meta.imtype),
        meta.expnum
    )
}

/// `{name}_{suffix}.fits`, for a product whose name a person gave.
pub fn given_name(name: &str, suffix: &str) -> String {
    let name = name.strip_suffix(".fits").unwrap_or(name);
    let parts: Vec<&str> = name.split('_').collect();
    let kept: Vec<String> =
        parts.iter().map(|p| if p.is_empty() { String::new() } else { safe(p) }).collect();
    format!("{}_{}.fits", kept.join("_"), safe(suffix))
}

/// The stem of a file's name without the suffix that stpipe's pipelines gave it.
pub fn stem_of(name: &str) -> &str {
    const SUFFIXES: [&str; 12] =
        ["uncal", "ramp", "rate", "rateints", "sci", "cal", "calints", "bsub", "flat", "dark", "sky", "rop"];
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.rsplit_once('_').filter(|(_, last)| SUFFIXES.contains(last)).map_or(stem, |(stem, _)| stem)
}

/// A product's name made its alone: `_{own}` before `.fits`.
pub fn distinct_name(name: &str, own: &str) -> String {
    format!("{}_{}.fits", name.strip_suffix(".fits").unwrap_or(name), safe(own))
}

/// What tells the file called `name` (perhaps with its folders) from its like, in
/// 40 characters at most: its stem, or of a product's name what stands last in it,
/// so that a chain of steps does not write name into name.
pub fn own_part(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let lower = file.to_ascii_lowercase();
    let ends = [".fits.fz", ".fits.gz", ".fits", ".fit", ".fts"];
    let end = ends.iter().find(|end| lower.ends_with(*end)).map_or(0, |end| end.len());
    let stem = file.get(..file.len() - end).unwrap_or(file);
    let product = stem.contains("_IRIS_") && stem.contains("_LVL");
    let own = stem.rsplit_once('_').filter(|_| product).map_or(stem, |(_, last)| last);
    // The ends of long names differ rather than their beginnings.
    own.chars().skip(own.chars().count().saturating_sub(40)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_stay_in_their_folder_and_lose_a_suffix_for_another() {
        assert_eq!(given_name("ngc1_a__b", "cal"), "ngc1_a__b_cal.fits");
        assert_eq!(given_name("../../etc/x.fits", "rate"), "etc-x_rate.fits");
        assert_eq!(given_name("", "rate"), "_rate.fits");
        for (name, stem) in [
            ("a/raw_flat_frame_cal.fits", "raw_flat_frame"),
            ("raw.x_sci.fits", "raw.x"),
            ("night_one.fits", "night_one"),
            ("cal.fits", "cal"),
        ] {
            assert_eq!(stem_of(name), stem);
        }
    }

    #[test]
    fn what_is_a_file_s_own_is_short_and_does_not_grow() {
        for (name, own) in [
            ("deep/folders/a.b.fits", "a.b"),
            ("X.FIT", "X"),
            ("x.fits.fz", "x"),
            (".fits", ""),
            ("no ending", "no ending"),
            ("2032A-P001-001_IRIS_IMG1_SCI_LVL1_0001_flat-field_a.fits", "a"),
            ("my_own_name.fits", "my_own_name"),
        ] {
            assert_eq!(own_part(name), own);
        }
        assert_eq!(own_part(&format!("{}é1.fits", "x".repeat(300))).chars().count(), 40);
        let meta = Meta { expnum: 1, ..Meta::default() };
        let mut name = distinct_name(&product_name(&meta, 1, "dark-sub"), &own_part("a_b.fits"));
        assert!(name.ends_with("_LVL1_0001_dark-sub_a-b.fits"), "{name}");
        for step in ["flat-field", "background"] {
            name = distinct_name(&product_name(&meta, 2, step), &own_part(&name));
            assert!(name.ends_with(&format!("_LVL2_0001_{step}_a-b.fits")), "{name}");
        }
    }
}
