//! What an exposure is for.
//!
//! OBSNAME decides: `IMG1-SCI`, `LEN-SPX` …. Where OBSTYPE, IMTYPE, INSTMODE or
//! DETECTOR contradict it, a warning says so; OBSNAME chooses the recipe, DETECTOR
//! and IMTYPE name the file. Without OBSNAME, IMTYPE with DETECTOR and INSTMODE decide
//! (arcs, pinhole grids, fibres, PSF stars and masks, which have no OBSNAME of their own,
//! always come this way). An OBSNAME that does not
//! exist is an error that lists those that do: a typing error must not become
//! another calibration.

use crate::datamodel::{Kind, Meta, ObsName};

/// The legal values, as messages list them.
pub const LEGAL: &str = "IMG1-NFF, SLI-NFF, LEN-SPX, IMG1-DRK, SLI-DRK, LEN-DRK, IMG1-TEL, SLI-TEL, LEN-TEL, \
     SLI-IDP, LEN-IDP, IMG1-SCI, SLI-SCI, LEN-SCI, IMG1-SKY, SLI-SKY, LEN-SKY, and IMG2 to IMG4 like IMG1";

/// What an exposure is for, and what its header says against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Channel and kind.
    pub obsname: ObsName,
    /// Contradictions, as sentences.
    pub warnings: Vec<String>,
}

/// Classifies an exposure, or says why it cannot be.
pub fn classify(meta: &Meta) -> Result<Class, String> {
    let mut warnings = Vec::new();
    if meta.obsname.is_empty() {
        return Ok(Class { obsname: from_imtype(meta)?, warnings });
    }
    let mut obsname = parse(&meta.obsname)?;
    let kind = obsname.kind;
    // What has no OBSNAME of its own may have that of the calibration it belongs to.
    match kind_of(&meta.imtype) {
        Some(Kind::Arc) if kind == Kind::Spx => obsname.kind = Kind::Arc,
        Some(own @ (Kind::Pinhole | Kind::Fiber | Kind::Mask)) if kind.obstype() != "SCI" => {
            obsname.kind = own
        }
        Some(Kind::Psf) if matches!(kind, Kind::Telluric | Kind::Science) => obsname.kind = Kind::Psf,
        _ => {}
    }
    if !meta.obstype.is_empty() && meta.obstype != kind.obstype() {
        warnings.push(format!(
            "OBSTYPE = '{}' does not go with OBSNAME = '{}' (its OBSTYPE is '{}'): OBSNAME is believed",
            meta.obstype,
            meta.obsname,
            kind.obstype()
        ));
    }
    if kind_of(&meta.imtype).is_some_and(|k| k != obsname.kind) {
        warnings.push(format!(
            "IMTYPE = '{}' does not go with OBSNAME = '{}': OBSNAME chooses the recipe, IMTYPE names the file",
            meta.imtype, meta.obsname
        ));
    }
    let detector = if obsname.channel.starts_with("IMG") { obsname.channel.as_str() } else { "IFU" };
    if !meta.detector.is_empty() && meta.detector != detector {
        warnings.push(format!(
            "DETECTOR = '{}' does not go with OBSNAME = '{}': OBSNAME chooses the recipe, DETECTOR names the file",
            meta.detector, meta.obsname
        ));
        if obsname.channel.starts_with("IMG") && is_imager(&meta.detector) {
            obsname.channel.clone_from(&meta.detector);
        }
    }
    let instmode = instmode_of(&obsname.channel);
    if !meta.instmode.is_empty() && meta.instmode != instmode {
        warnings.push(format!(
            "INSTMODE = '{}' does not go with OBSNAME = '{}' (its INSTMODE is '{instmode}'): OBSNAME is believed",
            meta.instmode, meta.obsname
        ));
    }
    Ok(Class { obsname, warnings })
}

/// The facts of an exposure of this class, with what the header left out filled
/// in: DETECTOR, INSTMODE, IMTYPE (the product's name needs them).
pub fn classify_meta(mut meta: Meta, obsname: &ObsName) -> Meta {
    if meta.detector.is_empty() {
        meta.detector =
            if obsname.channel.starts_with("IMG") { obsname.channel.clone() } else { "IFU".into() };
    }
    meta.instmode = instmode_of(&obsname.channel).into();
    if meta.imtype.is_empty() {
        meta.imtype = imtype_of(obsname.kind).into();
    }
    meta
}

/// The IMTYPE and OBSTYPE that go with an OBSNAME; `None` for one that is not known.
pub(super) fn goes_with(obsname: &str) -> Option<(&'static str, &'static str)> {
    let kind = parse(&obsname.trim().to_ascii_uppercase()).ok()?.kind;
    Some((imtype_of(kind), kind.obstype()))
}

fn imtype_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Dark => "DARK",
        Kind::Flat => "FLAT",
        Kind::Dispersion => "IDP",
        Kind::Telluric => "TEL",
        Kind::Spx => "SPX",
        Kind::Sky => "SKY",
        Kind::Science => "SCI",
        Kind::Arc | Kind::Pinhole | Kind::Fiber | Kind::Psf | Kind::Mask => kind.code(),
    }
}

fn is_imager(channel: &str) -> bool {
    matches!(channel, "IMG1" | "IMG2" | "IMG3" | "IMG4")
}

fn instmode_of(channel: &str) -> &'static str {
    match channel {
        "LEN" => "LENSLET",
        "SLI" => "SLICER",
        _ => "IMG",
    }
}

/// Reads `^(IMG[1-4]|SLI|LEN)-(NFF|SPX|DRK|TEL|IDP|SCI|SKY)$`.
fn parse(text: &str) -> Result<ObsName, String> {
    let unknown = || format!("OBSNAME = '{text}' is not known; legal values are {LEGAL}");
    let (channel, code) = text.split_once('-').ok_or_else(unknown)?;
    let kinds =
        [Kind::Flat, Kind::Spx, Kind::Dark, Kind::Telluric, Kind::Dispersion, Kind::Science, Kind::Sky];
    let kind = kinds.into_iter().find(|k| k.code() == code).ok_or_else(unknown)?;
    if !is_imager(channel) && !matches!(channel, "SLI" | "LEN") {
        return Err(unknown());
    }
    legal_pair(channel, kind)
        .map_err(|why| format!("OBSNAME = '{text}' cannot be: {why}; legal values are {LEGAL}"))?;
    Ok(ObsName { channel: channel.to_owned(), kind })
}

fn legal_pair(channel: &str, kind: Kind) -> Result<(), &'static str> {
    match (channel, kind) {
        ("LEN", Kind::Flat) => Err("the lenslets' flat response is measured by LEN-SPX"),
        ("SLI", Kind::Spx) => Err("only the lenslets have a spectral extraction calibration"),
        ("SLI" | "LEN", _) => Ok(()),
        (_, Kind::Spx | Kind::Dispersion | Kind::Arc) => Err("the imager has no spectra"),
        _ => Ok(()),
    }
}

/// What an IMTYPE means; `None` for one that is not known.
fn kind_of(imtype: &str) -> Option<Kind> {
    match imtype {
        "DARK" | "DRK" => Some(Kind::Dark),
        "FLAT" | "NFF" => Some(Kind::Flat),
        "ARC" => Some(Kind::Arc),
        "SPX" | "LEN-SPX" => Some(Kind::Spx),
        "TEL" | "TELLURIC" => Some(Kind::Telluric),
        "IDP" => Some(Kind::Dispersion),
        "SCI" | "SCIENCE" => Some(Kind::Science),
        "SKY" => Some(Kind::Sky),
        "PINHOLE" => Some(Kind::Pinhole),
        "FIBER" | "FIBRE" => Some(Kind::Fiber),
        "PSF" => Some(Kind::Psf),
        "MASK" => Some(Kind::Mask),
        _ => None,
    }
}

/// The fall-back: IMTYPE, with DETECTOR and INSTMODE for the channel.
fn from_imtype(meta: &Meta) -> Result<ObsName, String> {
    let kind = match (kind_of(&meta.imtype), meta.imtype.as_str()) {
        (Some(kind), _) => kind,
        (None, "") => return Err(format!("has neither OBSNAME nor IMTYPE; set OBSNAME to one of {LEGAL}")),
        (None, other) => {
            return Err(format!(
                "has no OBSNAME, and IMTYPE = '{other}' is none of DARK, FLAT, ARC, SPX, TEL, IDP, SCI, SKY, \
                 PINHOLE, FIBER, PSF, MASK; \
                 set OBSNAME to one of {LEGAL}"
            ));
        }
    };
    let channel = match (meta.detector.as_str(), meta.instmode.as_str()) {
        (detector, _) if is_imager(detector) => detector,
        (_, "LENSLET") => "LEN",
        (_, "SLICER") => "SLI",
        // The slicer's dark and the lenslets' are the same detector's.
        ("IFU", "") if kind == Kind::Dark => "LEN",
        (detector, mode) => {
            return Err(format!(
                "has no OBSNAME, and DETECTOR = '{detector}' with INSTMODE = '{mode}' does not say which channel \
                 it is of; set OBSNAME to one of {LEGAL}"
            ));
        }
    };
    legal_pair(channel, kind).map_err(|why| {
        format!("IMTYPE = '{}' of {channel} cannot be: {why}; set OBSNAME to one of {LEGAL}", meta.imtype)
    })?;
    Ok(ObsName { channel: channel.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(obsname: &str) -> Meta {
        Meta { obsname: obsname.into(), ..Meta::default() }
    }

    #[test]
    fn all_seventeen_names_are_known() {
        let table = [
            ("IMG1-NFF", "CAL", "FLAT"),
            ("SLI-NFF", "CAL", "FLAT"),
            ("LEN-SPX", "CAL", "SPX"),
            ("IMG1-DRK", "CAL", "DARK"),
            ("SLI-DRK", "CAL", "DARK"),
            ("LEN-DRK", "CAL", "DARK"),
            ("IMG1-TEL", "CAL", "TEL"),
            ("SLI-TEL", "CAL", "TEL"),
            ("LEN-TEL", "CAL", "TEL"),
            ("SLI-IDP", "ENG", "IDP"),
            ("LEN-IDP", "ENG", "IDP"),
            ("IMG1-SCI", "SCI", "SCI"),
            ("SLI-SCI", "SCI", "SCI"),
            ("LEN-SCI", "SCI", "SCI"),
            ("IMG1-SKY", "SCI", "SKY"),
            ("SLI-SKY", "SCI", "SKY"),
            ("LEN-SKY", "SCI", "SKY"),
        ];
        for (name, obstype, imtype) in table {
            let meta = Meta { obstype: obstype.into(), ..named(name) };
            let class = classify(&meta).expect(name);
            assert_eq!(class.obsname.to_string(), name);
            assert!(class.warnings.is_empty(), "{:?}", class.warnings);
            assert!(LEGAL.contains(name));
            let meta = classify_meta(meta, &class.obsname);
            assert_eq!(meta.imtype, imtype);
            assert_eq!(meta.detector, if name.starts_with("IMG") { "IMG1" } else { "IFU" });
            // The same exposure without OBSNAME comes out the same.
            let bare = Meta { obsname: String::new(), ..meta };
            assert_eq!(classify(&bare).expect(name).obsname, class.obsname);
        }
        assert!(classify(&named("IMG4-SCI")).is_ok());
    }

    #[test]
    fn what_cannot_be_is_named_with_what_can() {
        for name in ["IMG1-SPX", "IMG2-IDP", "LEN-NFF", "SLI-SPX", "IMG5-SCI", "IMG1-FOO", "SCI", "IMG1-ARC"]
        {
            let sentence = classify(&named(name)).expect_err(name);
            assert!(sentence.contains(name) && sentence.contains("SLI-IDP"), "{sentence}");
        }
        for (imtype, detector, mode) in [
            ("ARC", "IMG1", "IMG"),
            ("FLAT", "IFU", "LENSLET"),
            ("SCI", "IFU", ""),
            ("", "IMG1", "IMG"),
            ("BIAS", "IMG1", "IMG"),
        ] {
            let meta = Meta {
                imtype: imtype.into(),
                detector: detector.into(),
                instmode: mode.into(),
                ..Meta::default()
            };
            let sentence = classify(&meta).expect_err(imtype);
            assert!(sentence.contains("LEN-SCI"), "{sentence}");
        }
    }

    #[test]
    fn contradictions_are_warnings_and_obsname_is_believed() {
        let meta = Meta {
            obstype: "CAL".into(),
            detector: "IMG2".into(),
            instmode: "SLICER".into(),
            ..named("IMG1-SCI")
        };
        let class = classify(&meta).expect("class");
        assert_eq!(class.obsname.to_string(), "IMG2-SCI");
        assert_eq!(class.warnings.len(), 3, "{:?}", class.warnings);
        assert_eq!(classify_meta(meta, &class.obsname).detector, "IMG2");
        let meta = Meta { detector: "IMG1".into(), imtype: "SCI".into(), ..named("IMG2-DRK") };
        let class = classify(&meta).expect("class");
        assert_eq!(class.obsname.to_string(), "IMG1-DRK");
        let names = ["IMTYPE = 'SCI'", "DETECTOR = 'IMG1'"];
        assert!(class.warnings.iter().zip(names).all(|(w, n)| w.starts_with(n)), "{:?}", class.warnings);
        assert_eq!(class.warnings.len(), 2);
        let meta = Meta { detector: "IMG1".into(), ..named("LEN-SCI") };
        let class = classify(&meta).expect("class");
        assert_eq!(class.obsname.to_string(), "LEN-SCI");
        assert_eq!(classify_meta(meta, &class.obsname).detector, "IMG1");
    }

    #[test]
    fn kinds_without_an_obsname_come_by_imtype() {
        for (imtype, kind) in
            [("PINHOLE", Kind::Pinhole), ("FIBER", Kind::Fiber), ("PSF", Kind::Psf), ("MASK", Kind::Mask)]
        {
            let bare = Meta { imtype: imtype.into(), detector: "IMG2".into(), ..Meta::default() };
            let class = classify(&bare).expect(imtype);
            assert_eq!((class.obsname.channel.as_str(), class.obsname.kind), ("IMG2", kind));
            assert_eq!(classify_meta(bare, &class.obsname).imtype, imtype);
        }
        let fibre = Meta { imtype: "FIBER".into(), ..named("LEN-IDP") };
        let class = classify(&fibre).expect("fibre");
        assert_eq!((class.obsname.kind, class.warnings.len()), (Kind::Fiber, 0));
        let odd = Meta { imtype: "PINHOLE".into(), ..named("IMG1-SCI") };
        assert_eq!(classify(&odd).expect("odd").obsname.kind, Kind::Science);
    }

    #[test]
    fn arcs_come_by_imtype() {
        let meta = Meta {
            imtype: "ARC".into(),
            detector: "IFU".into(),
            instmode: "LENSLET".into(),
            ..Meta::default()
        };
        assert_eq!(classify(&meta).expect("arc").obsname.to_string(), "LEN-ARC");
        let meta = Meta { imtype: "ARC".into(), ..named("LEN-SPX") };
        assert_eq!(classify(&meta).expect("arc").obsname.kind, Kind::Arc);
    }
}
