//! Spectral lines of lamps and of the night sky, vacuum µm: what is known of the world,
//! shared by the simulator and the reduction. Sources are in the tables' heads.

use std::sync::LazyLock;

/// A line: vacuum wavelength (µm) and relative brightness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Vacuum µm.
    pub wavelength: f64,
    /// Relative to others of its table.
    pub brightness: f64,
}

/// The lamps of which there is a table, as LAMP names them.
pub const LAMPS: [&str; 3] = ["Ar", "Kr", "Xe"];

static ARC: LazyLock<Vec<(&'static str, Line)>> = LazyLock::new(|| {
    let rows = include_str!("lines/arc.csv").lines().filter(|l| !l.starts_with('#'));
    rows.filter_map(|row| row.split_once(',').and_then(|(lamp, rest)| Some((lamp, line(rest)?)))).collect()
});

static OH: LazyLock<Vec<Line>> = LazyLock::new(|| {
    include_str!("lines/oh.csv").lines().filter(|l| !l.starts_with('#')).filter_map(line).collect()
});

fn line(row: &str) -> Option<Line> {
    let (wavelength, brightness) = row.split_once(',')?;
    Some(Line { wavelength: wavelength.parse().ok()?, brightness: brightness.parse().ok()? })
}

/// The lamps of [`LAMPS`] that a word is made of (`Ar`, `KRXE`, `argon`); none where
/// any of it is something else.
fn lamps_of(word: &str) -> Vec<&'static str> {
    let named = ["ARGON", "KRYPTON", "XENON"].iter().position(|n| *n == word);
    if let Some(one) = named {
        return vec![LAMPS[one]];
    }
    let symbols: Vec<Option<&'static str>> = (0..word.len())
        .step_by(2)
        .map(|i| LAMPS.into_iter().find(|l| word.get(i..i + 2).is_some_and(|w| w.eq_ignore_ascii_case(l))))
        .collect();
    symbols.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The lines of the lamps that a text names (`Ar`, `Kr+Xe`, `ARGON, KRYPTON`, `ArKr`), by
/// wavelength; empty where it names none of [`LAMPS`].
pub fn of_lamps(text: &str) -> Vec<Line> {
    let text = text.to_ascii_uppercase();
    let lit: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).flat_map(lamps_of).collect();
    let mut lines: Vec<Line> = ARC.iter().filter(|(lamp, _)| lit.contains(lamp)).map(|(_, l)| *l).collect();
    lines.sort_by(|a, b| a.wavelength.total_cmp(&b.wavelength));
    lines
}

/// The OH lines of the night sky between two wavelengths (µm), by wavelength.
pub fn oh(low: f64, high: f64) -> &'static [Line] {
    let begin = OH.partition_point(|l| l.wavelength < low);
    let end = OH.partition_point(|l| l.wavelength <= high);
    &OH[begin..end.max(begin)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refractive index of standard air (15 °C, 101 325 Pa, 450 ppm CO2) at a vacuum
    /// wavelength: Ciddor (1996, Appl. Opt. 35, 1566), eq. 1.
    fn index(wavelength: f64) -> f64 {
        let s = wavelength.powi(-2);
        1.0 + 0.057_921_05 / (238.018_5 - s) + 0.001_679_17 / (57.362 - s)
    }

    /// NIST's wavelengths in air of lines of each lamp.
    #[test]
    fn lamps_are_in_vacuum() {
        for (lamp, air) in [
            ("Ar", 1.694_058_4),
            ("Ar", 2.061_622_9),
            ("Ar", 1.047_005_4),
            ("Ar", 1.240_282_7),
            ("Kr", 1.689_044_1),
            ("Kr", 2.190_251_3),
            ("Kr", 1.181_937_7),
            ("Xe", 2.026_224_2),
            ("Xe", 1.541_839_4),
            ("Xe", 0.979_969_7),
        ] {
            let nearest = of_lamps(lamp)
                .into_iter()
                .min_by(|a, b| (a.wavelength - air).abs().total_cmp(&(b.wavelength - air).abs()))
                .expect("lines");
            let vacuum = air * index(nearest.wavelength);
            assert!((nearest.wavelength - vacuum).abs() < 6e-6, "{lamp} {air}: {nearest:?}, {vacuum}");
            // The difference of air and vacuum is fifty times that.
            assert!((nearest.wavelength - air).abs() > 2.5e-4);
        }
    }

    #[test]
    fn tables_are_whole_and_in_order() {
        let lines =
            |text: &str| include_str!("lines/arc.csv").lines().filter(|l| l.starts_with(text)).count();
        for lamp in LAMPS {
            assert_eq!(of_lamps(lamp).len(), lines(lamp), "{lamp}");
            assert!(of_lamps(lamp).len() > 20, "{lamp}");
        }
        assert_eq!(of_lamps("ArKr").len(), lines("Ar") + lines("Kr"));
        assert_eq!(of_lamps("argon / Xe").len(), lines("Ar") + lines("Xe"));
        for none in ["", "NONE", "ARC", "CLEAR", "Th-U"] {
            assert!(of_lamps(none).is_empty(), "{none}");
        }
        let all = oh(0.0, 9.0);
        assert_eq!(all.len(), include_str!("lines/oh.csv").lines().filter(|l| !l.starts_with('#')).count());
        assert!(all.windows(2).all(|w| w[0].wavelength < w[1].wavelength));
        // Q1(1.5) of the 9-7 band (Rousselot et al. 2000, table 1: 21507.308 A).
        let bright = oh(2.1500, 2.1515).iter().copied().max_by(|a, b| a.brightness.total_cmp(&b.brightness));
        assert!((bright.expect("OH").wavelength - 2.150_730_8).abs() < 1e-7);
        assert!(oh(1.0, 0.9).is_empty() && oh(5.0, 6.0).is_empty());
    }
}
