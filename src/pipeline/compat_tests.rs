use super::*;
use crate::datamodel::{Image, Rate};
use crate::input::read_image;
use crate::pipeline::Provenance;
use crate::pipeline::product::{ELECTRONS, write_image, write_rate};

fn input() -> Header {
    let mut h = Header::new();
    h.set("DETECTOR", "IMG1", "");
    h.set("FILTER", "KS", "not as the package spells it");
    h.set("SUBARRAY", "ODGW", "guide windows in a whole frame");
    h.set("SUBSTRT1", 100, "of a window");
    h.set("EXPDTST", "20240924000000", "");
    h.set("FILTWAVE", 2.15, "");
    h.set("EXPNUM", 3, "");
    h.set("HIERARCH TCS PK AZ", 1.5, "long name");
    h
}

fn wcs() -> Header {
    let mut h = Header::new();
    h.set("CTYPE1", "RA---TAN", "");
    h.set("CTYPE2", "DEC--TAN", "");
    h.set("CRPIX1", 1.5, "");
    h.set("CRPIX2", 2.0, "");
    h.set("CD1_1", -3.0, "");
    h.set("CD1_2", 4.0, "");
    h.set("CD2_1", 4.0, "");
    h.set("CD2_2", 3.0, "");
    h
}

/// Writes an image of model `model` for `compat` and reads it as bytes of its tree.
fn written(compat: Option<Compat>, model: &str, flags: [u32; 2]) -> (tempfile::TempDir, Fits) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.fits");
    let (input, wcs) = (input(), wcs());
    let provenance = Provenance { compat, ..Provenance::default() };
    let about = About {
        input: &input,
        model,
        level: 2,
        unit: ELECTRONS,
        wcs: Some(&wcs),
        provenance: &provenance,
        extra: None,
    };
    let image = Image {
        nx: 2,
        ny: 1,
        data: vec![1.0, f32::NAN],
        err: vec![0.5; 2],
        dq: flags.to_vec(),
        var_common: vec![0.1; 2],
    };
    write_image(&path, &about, &image).unwrap();
    (dir, Fits::open(&path).unwrap())
}

fn names(fits: &Fits) -> Vec<&str> {
    fits.hdus.iter().skip(1).map(|h| h.name.as_str()).collect()
}

fn tree(fits: &Fits) -> String {
    let hdu = fits.hdu("ASDF").unwrap();
    let mut bytes = vec![0; hdu.shape[1]];
    fits.read_raw(hdu, 0, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn without_it_nothing_is_different() {
    let (_dir, fits) = written(None, "ImagerModel", [1 << 30, 1]);
    assert_eq!(names(&fits), ["DATA", "ERR", "DQ", "VAR_COMMON"]);
    assert_eq!(fits.hdu("DQ").unwrap().bitpix, 32);
    assert!(!fits.primary().has("CRPIX1"));
    assert_eq!(fits.primary().text("SUBARRAY").as_deref(), Some("ODGW"));
}

#[test]
fn an_image_is_the_package_s() {
    let (_dir, fits) = written(Some(Compat::Liger), "ImagerModel", [1 << 30 | 4, 1]);
    assert_eq!(names(&fits), ["DATA", "ERR", "DQ", "DQ_HIGH", "VAR_COMMON", "ASDF"]);
    assert_eq!(fits.u32(fits.hdu("DQ").unwrap()).unwrap(), [4, 1]);
    assert_eq!(fits.u32(fits.hdu("DQ_HIGH").unwrap()).unwrap(), [1 << 14, 0]);
    // Together they are what was written.
    let (header, image) = read_image(&fits.path).unwrap();
    assert_eq!(image.dq, [1 << 30 | 4, 1]);
    // Read back, CRPIX counts from 1 again.
    assert_eq!(header.number("CRPIX1"), Some(1.5));
    let h = fits.primary();
    assert_eq!([h.number("CRPIX1"), h.number("CRPIX2")], [Some(0.5), Some(1.0)]);
    assert_eq!(fits.hdu("DATA").unwrap().header.number("CRPIX1"), Some(1.5));
    // CD as CDELT and PC.
    assert_eq!([h.number("CDELT1"), h.number("CDELT2")], [Some(-5.0), Some(5.0)]);
    assert_eq!(h.number("PC1_2"), Some(-0.8));
    for (keyword, text) in [
        ("RADECSYS", "ICRS"),
        ("FILTER", "Ks"),
        ("SUBARRAY", "FULL"),
        ("INSTMODE", "IMG"),
        ("SEMID", "2024B"),
    ] {
        assert_eq!(h.text(keyword).as_deref(), Some(text), "{keyword}");
    }
    let integers =
        ["SUBARRID", "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2"].map(|k| h.integer(k).unwrap());
    assert_eq!(integers, [0, 1, 1, 2, 1]);
    assert_eq!(h.number("WAVECEN"), Some(2.15));
}

#[test]
fn the_tree_has_every_keyword_once() {
    let (_dir, fits) = written(Some(Compat::Liger), "ImagerModel", [0, 1]);
    assert_eq!(names(&fits), ["DATA", "ERR", "DQ", "VAR_COMMON", "ASDF"]);
    let tree = tree(&fits);
    let instrument = r#""instrument": {"detector": "IMG1", "filter": "Ks", "mode": "IMG", "name": "IRIS", "wave_center": 2.15}"#;
    for part in [
        instrument,
        "data: !core/ndarray-1.1.0 {source: \"fits:DATA,1\", datatype: float32, byteorder: big, shape: [1, 2]}\n",
        "dq: !core/ndarray-1.1.0 {source: \"fits:DQ,1\", datatype: uint16, byteorder: big, shape: [1, 2]}\n",
        "\"crpix1\": 0.5",
        "[\"TCS PK AZ\", 1.5, \"long name\"]",
        "\"VAR_COMMON\": {\"data\": !core/ndarray-1.1.0",
    ] {
        assert!(tree.contains(part), "{part} in {tree}");
    }
    assert!(!tree.contains("DATASUM") && !tree.contains("\"NAXIS"), "{tree}");
    assert_eq!(tree.matches("Ks").count(), 1);
}

#[test]
fn masters_are_of_their_classes() {
    let of = |model| written(Some(Compat::Liger), model, [1 << 18, 0]);
    let (_a, flat) = of("FlatModel");
    // The flat's schema has 32 bits, and no coordinates.
    assert_eq!(names(&flat), ["DATA", "ERR", "DQ", "VAR_COMMON", "ASDF"]);
    assert_eq!(flat.u32(flat.hdu("DQ").unwrap()).unwrap(), [1 << 18, 0]);
    assert!(!flat.primary().has("CRPIX1"));
    let (_b, dark) = of("DarkModel");
    assert!(names(&dark).contains(&"DQ_HIGH"));
    let (_c, sky) = of("SkyModel");
    assert_eq!(sky.primary().text("DATAMODL").as_deref(), Some("ImagerModel"));
    // No class of the package's: as always.
    let (_d, gain) = of("GainModel");
    assert_eq!(names(&gain), ["DATA", "ERR", "DQ", "VAR_COMMON"]);
    let said = |fits: &Fits| Compat::Liger.unchanged(&[&fits.path]);
    assert!(said(&gain).unwrap().contains("written as always"));
    assert_eq!(said(&dark), None);
}

#[test]
fn frames_of_the_spectrograph_are_written_as_always() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.fits");
    let mut input = input();
    input.set("DETECTOR", "IFU", "");
    let provenance = Provenance { compat: Some(Compat::Liger), ..Provenance::default() };
    let about = About {
        input: &input,
        model: "IFUImageModel",
        level: 1,
        unit: ELECTRONS,
        wcs: None,
        provenance: &provenance,
        extra: None,
    };
    write_rate(&path, &about, &Rate::zeros(2, 2), &[]).unwrap();
    let fits = Fits::open(&path).unwrap();
    assert!(fits.hdu("ASDF").is_none());
    assert_eq!(fits.hdu("DQ").unwrap().bitpix, 32);
}

#[test]
fn the_table_of_keywords_is_whole() {
    assert_eq!(KEYWORDS.len(), include_str!("compat/liger.csv").lines().count() - 1);
    for (keyword, entry) in KEYWORDS.iter() {
        assert!(entry.path.starts_with("meta."), "{keyword}");
        assert!(matches!(entry.kind, "string" | "integer" | "number"), "{keyword}");
    }
}
