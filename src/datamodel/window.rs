//! Where on the detector an array lies, as keywords say, against the array.

use super::meta::guide_window_mode;
use super::registry::{names, subarray_of};
use crate::fits::Header;

/// What the keywords of an array's window (SUBARRAY, SUBARRID, SUBSTRT1/2, SUBSIZE1/2) say
/// against each other, against the array of `size` (rows, columns) and the `detector`
/// (columns, rows), as the keyword and a sentence each.
pub fn window_faults(
    header: &Header,
    size: Option<(usize, usize)>,
    detector: Option<[usize; 2]>,
) -> Vec<(&'static str, String)> {
    if guide_window_mode(header) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let whole = |key: &str| names(key).iter().find_map(|k| header.integer(k));
    let is_custom = {
        let named = names("SUBARRAY").iter().find_map(|k| header.text(k)).unwrap_or_default();
        subarray_of(named.trim().to_ascii_uppercase().as_str()) == "CUSTOM"
    };
    let id = header.text("SUBARRID").filter(|t| !t.is_empty());
    if let Some(id) = id.filter(|t| !t.parse().is_ok_and(|n: i64| (0..=10).contains(&n))) {
        found.push((
            "SUBARRID",
            format!(
                "SUBARRID = {id} cannot be: write 0 for a full frame, 1 to 10 for a subarray read beside one"
            ),
        ));
    }
    let axes = [("SUBSTRT1", "SUBSIZE1", "column"), ("SUBSTRT2", "SUBSIZE2", "row")];
    let sizes = size.map(|(ny, nx)| [nx, ny]);
    for (axis, (start, length, unit)) in axes.into_iter().enumerate() {
        match whole(start) {
            None if is_custom => found.push((
                start,
                format!("{start} is missing and SUBARRAY = CUSTOM: it is taken as 1; set the window's first {unit}"),
            )),
            Some(first) if first < 1 => found
                .push((start, format!("{start} = {first} cannot be: {unit}s of the detector are counted from 1"))),
            Some(first) => {
                let last = sizes.map(|s| first.saturating_add(s[axis] as i64 - 1));
                if let (Some(last), Some(detector)) = (last, detector)
                    && last > detector[axis] as i64
                {
                    let text = format!(
                        "{start} = {first} puts the array's last {unit} at {last}, and the detector has {}",
                        detector[axis]
                    );
                    found.push((start, text));
                }
            }
            None => {}
        }
        if let (Some(said), Some(sizes)) = (whole(length), sizes)
            && said != sizes[axis] as i64
        {
            found.push((
                length,
                format!(
                    "{length} = {said}, but the array has {} {unit}s: the array is believed",
                    sizes[axis]
                ),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(cards: &[(&str, i64)], name: &str) -> Vec<&'static str> {
        let mut h = Header::default();
        h.set("SUBARRAY", name, "");
        for (key, value) in cards {
            h.set(key, *value, "");
        }
        window_faults(&h, Some((8, 16)), Some([40, 40])).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn windows_that_cannot_be_are_told() {
        let start = [("SUBSTRT1", 5), ("SUBSTRT2", 9)];
        let with = |more: &[(&'static str, i64)]| [&start, more].concat();
        assert!(faults(&start, "CUSTOM").is_empty() && faults(&[], "FULL").is_empty());
        assert!(faults(&with(&[("SUBSIZE1", 16), ("SUBSIZE2", 8), ("SUBARRID", 10)]), "CUSTOM").is_empty());
        assert_eq!(faults(&with(&[("SUBSIZE1", 8), ("SUBSIZE2", 16)]), "CUSTOM"), ["SUBSIZE1", "SUBSIZE2"]);
        assert_eq!(faults(&start[..1], "CUSTOM"), ["SUBSTRT2"]);
        assert_eq!(faults(&[("SUBSTRT1", 25), ("SUBSTRT2", 34)], "CUSTOM"), ["SUBSTRT2"]);
        assert_eq!(faults(&[("SUBSTRT1", 0), ("SUBSTRT2", 1)], "FULL"), ["SUBSTRT1"]);
        for id in [-1, 11] {
            assert_eq!(faults(&with(&[("SUBARRID", id)]), "CUSTOM"), ["SUBARRID"]);
        }
        // Guide windows are not the array's place.
        assert!(faults(&[("SUBARRID", -1)], "ODGW").is_empty());
    }
}
