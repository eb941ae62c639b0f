use super::*;
use crate::config::{Instrument, RampFit, Step};
use crate::fits::Fits;
use crate::pipeline::provenance::Status;
use crate::pipeline::wcs::{Grid, assign};

/// Where the files go: `IRISGPU_KEEP` keeps them for a look with other programs.
fn folder() -> (Option<tempfile::TempDir>, PathBuf) {
    match std::env::var_os("IRISGPU_KEEP") {
        Some(path) => (None, PathBuf::from(path)),
        None => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().to_path_buf();
            (Some(dir), path)
        }
    }
}

/// An input header with everything that products must not inherit.
fn input() -> Header {
    let mut h = Header::new();
    h.set("SIMPLE", true, "");
    h.set("OBJECT", "O'Neill 5", "a quote");
    h.set("DETECTOR", "IMG1", "");
    h.set("RA", 83.8221, "");
    h.set("DEC", -5.3911, "");
    h.set("PA", 90.0, "");
    h.set("SCALE", 0.004, "");
    h.set("EXPDTST", "20240229123456", "");
    h.set("CRPIX1", 3.0, "not for PRIMARY");
    h.set("RADECSYS", "ICRS", "deprecated");
    h.set("BUNIT", "DN", "of the input");
    h.set("DATALVL", 0, "");
    h.set("TEMPIMGD", f64::NAN, "not finite");
    h.set("EQUINOX", "J2000.0", "should be a number");
    h.set("LONG", "a long text ".repeat(12).trim_end(), "continued");
    h.set("HIERARCH TCS PK AZ", 1.5, "long name");
    h.history(&"an old history ".repeat(9));
    let raw =
        ["lower   = 1", "BADNAN  =                  NaN", "OBJECT  = 'second'", "COMMENT taken at night"];
    let mut bytes: Vec<u8> = h.to_bytes();
    let end = bytes.chunks(80).position(|c| c.starts_with(b"END ")).unwrap() * 80;
    bytes.truncate(end);
    raw.iter().chain(&["END"]).for_each(|r| bytes.extend(format!("{r:<80}").bytes()));
    Header::parse(&bytes).unwrap().0
}

fn provenance() -> Provenance {
    let mut p = Provenance {
        engine: "cpu".into(),
        device: "CPU (2 threads)".into(),
        plan_hash: "ab".repeat(32),
        inputs: vec!["/night/raw.fits".into()],
        warnings: vec!["no gain reference: the instrument file's 2 e-/DN was used — see the log".into()],
        ..Default::default()
    };
    p.step(&Step::RampFit(RampFit::default()), Status::Complete);
    p.reference("nonlin", Path::new("/refs/nonlin.fits"), &"cd".repeat(32), "");
    p
}

#[test]
fn products_hold_what_was_written() {
    let (_keep, dir) = folder();
    let (input, provenance) = (input(), provenance());
    let iris = Instrument::iris().unwrap();
    let wcs = assign(&input, None, &iris, Grid::Detector(5, 7)).unwrap().unwrap().cards;
    let cube_grid = Grid::Cube { ny: 4, nx: 3, first: 1.5, step: 0.01 };
    let cube_wcs = assign(&input, None, &iris, cube_grid).unwrap().unwrap().cards;
    let about = About {
        input: &input,
        model: "ImagerModel",
        level: 1,
        unit: ELECTRONS,
        wcs: None,
        provenance: &provenance,
        extra: None,
    };
    let mut rate = Rate::zeros(5, 7);
    rate.data[0] = f32::NAN;
    rate.nreads[1] = 200;
    write_rate(&dir.join("rate.fits"), &about, &rate, &[]).unwrap();
    rate.nreads[1] = 300;
    write_rate(&dir.join("rate300.fits"), &about, &rate, &[]).unwrap();
    let image = Image {
        nx: 7,
        ny: 5,
        data: (0..35).map(|i| i as f32).collect(),
        err: vec![0.5; 35],
        dq: vec![dq::REFERENCE_PIXEL | dq::DO_NOT_USE; 35],
        var_common: vec![0.1; 35],
    };
    let about = About { level: 2, wcs: Some(&wcs), ..about };
    write_image(&dir.join("image.fits"), &about, &image).unwrap();
    let info = MasterInfo { reftype: "flat", version: "0.0.1", description: "Master flat of 3 frames" };
    let plain = About { unit: "", wcs: None, ..about };
    write_master(&dir.join("flat.fits"), &plain, &info, &image).unwrap();
    let cube = Cube {
        nx: 3,
        ny: 4,
        nw: 6,
        data: vec![1.0; 72],
        err: vec![1.0; 72],
        var_common: vec![],
        sky_err: vec![0.5; 6],
        dq: vec![0; 72],
        wavelength: (0..6).map(|i| 1.5 + 0.01 * f64::from(i)).collect(),
    };
    let about = About { model: "IFUCubeModel", unit: CUBE, wcs: Some(&cube_wcs), ..about };
    write_cube(&dir.join("cube.fits"), &about, &cube).unwrap();

    let f = Fits::open(&dir.join("rate.fits")).unwrap();
    let names: Vec<&str> = f.hdus.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["PRIMARY", "DATA", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "CHI2", "NREADS"]);
    assert_eq!(f.hdus[7].bitpix, 8);
    let f = Fits::open(&dir.join("rate300.fits")).unwrap();
    assert_eq!(f.f32(&f.hdus[7]).unwrap()[1], 300.0);
    let f = Fits::open(&dir.join("image.fits")).unwrap();
    let p = f.primary();
    for gone in ["CRPIX1", "RADECSYS", "BUNIT", "TEMPIMGD", "lower", "EQUINOX"] {
        assert!(!p.has(gone), "{gone}");
    }
    assert_eq!((p.text("BADNAN").as_deref(), p.has("LOWER")), (Some("NaN"), true));
    assert_eq!(p.text("OBJECT").as_deref(), Some("O'Neill 5"));
    assert_eq!((p.integer("DATALVL"), p.text("DATAMODL").as_deref()), (Some(2), Some("ImagerModel")));
    assert!(p.text("LONG").unwrap().len() > 100 && p.has("DRSVER") && p.has("DATECRT"));
    for name in ["DATA", "ERR", "DQ"] {
        assert_eq!(f.hdu(name).unwrap().header.text("CTYPE1").as_deref(), Some("RA---TAN"), "{name}");
    }
    assert_eq!(f.hdu("DQ").unwrap().header.text("DQB11").as_deref(), Some("HOT"));
    assert_eq!(f.u32(f.hdu("DQ").unwrap()).unwrap(), image.dq);
    let f = Fits::open(&dir.join("flat.fits")).unwrap();
    assert_eq!(f.primary().text("DATAMODL").as_deref(), Some("FlatModel"));
    assert_eq!(f.primary().text("USEAFTER").as_deref(), Some("2024-02-29T12:34:56"));
    let f = Fits::open(&dir.join("cube.fits")).unwrap();
    assert_eq!(f.hdu("DATA").unwrap().header.integer("DISPAXIS"), Some(3));
    assert_eq!(f.f64(f.hdu("WAVELENGTH").unwrap()).unwrap(), cube.wavelength);
    assert_eq!(f.f32(f.hdu("SKY_ERR").unwrap()).unwrap(), cube.sky_err);
    assert_eq!(crate::input::read_cube(&dir.join("cube.fits")).unwrap().1, cube);
}

#[test]
fn a_product_of_a_product_inherits_steps_but_not_twice() {
    let (input, provenance) = (input(), provenance());
    let about = About {
        input: &input,
        model: "ImagerModel",
        level: 1,
        unit: ELECTRONS,
        wcs: None,
        provenance: &provenance,
        extra: None,
    };
    let first = primary(Path::new("a.fits"), &about);
    let none = Provenance::default();
    let second = primary(Path::new("b.fits"), &About { input: &first, provenance: &none, ..about });
    assert_eq!(second.text("S_RAMPFI").as_deref(), Some("COMPLETE"));
    assert_eq!(second.text("R_NONLIN").as_deref(), Some("nonlin.fits"));
    let count = second.cards().iter().filter(|c| c.keyword == "OBJECT").count();
    assert_eq!((count, second.text("FILENAME").as_deref()), (1, Some("b.fits")));
}

#[test]
fn planes_of_the_wrong_size_are_refused_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (input, provenance) = (input(), provenance());
    let about = About {
        input: &input,
        model: "",
        level: 2,
        unit: "",
        wcs: None,
        provenance: &provenance,
        extra: None,
    };
    let image = Image { nx: 3, ny: 2, data: vec![0.0; 5], ..Default::default() };
    assert!(write_image(&dir.path().join("x.fits"), &about, &image).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
