//! Chains of single steps through the public command line: they make what the
//! recipes make, or say why not.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};

/// What was said, and whether all was done.
fn irisgpu(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_irisgpu")).args(args).output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A night, simulated and reduced on the CPU engine.
struct Night {
    dir: tempfile::TempDir,
}

impl Night {
    fn new(config: &str) -> Night {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = format!("{}/testdata/{config}", env!("CARGO_MANIFEST_DIR"));
        assert!(irisgpu(&["simulate", &config, text(dir.path())]).0);
        let night = dir.path().join("night");
        let (done, said) = irisgpu(&["reduce", text(&night), "--device", "cpu"]);
        assert!(done, "{said}");
        Night { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("night").join(name)
    }

    /// The file in `folder` whose name contains `part`.
    fn find(&self, folder: &str, part: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path(folder)).expect("folder").flatten();
        entries.map(|e| e.path()).find(|p| text(p).contains(part)).unwrap_or_else(|| panic!("no {part}"))
    }

    /// `run` with the references and masters of the night.
    fn run(&self, what: &str, files: &[&Path], output: &str) -> (bool, String) {
        let (refs, masters, output) = (self.path("refs"), self.path("reduced/masters"), self.path(output));
        let mut args = vec!["run", what];
        args.extend(files.iter().map(|f| text(f)));
        args.extend([
            "--refs",
            text(&refs),
            "--refs",
            text(&masters),
            "-o",
            text(&output),
            "--device",
            "cpu",
        ]);
        irisgpu(&args)
    }

    /// The product of a step on one file, whose name must say its level.
    fn step(&self, what: &str, file: &Path, output: &str) -> PathBuf {
        let (done, said) = self.run(what, &[file], output);
        assert!(done && said.contains("0 warnings"), "{what}: {said}");
        let product = self.find(output, &format!("_{}.fits", what.replace('_', "-")));
        let level = Fits::open(&product).expect("product").primary().integer("DATALVL").expect("DATALVL");
        assert!(text(&product).contains(&format!("_LVL{level}_")), "{}: {level}", product.display());
        product
    }

    /// A run that must fail with a sentence that has all `parts`.
    fn refused(&self, what: &str, files: &[&Path], parts: &[&str]) {
        // A folder of its own: tests run at once, and a folder has one writer.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = format!("refused-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (done, said) = self.run(what, files, &folder);
        assert!(!done && parts.iter().all(|p| said.contains(p)), "{what}: {said}");
    }
}

fn imager() -> &'static Night {
    static NIGHT: OnceLock<Night> = OnceLock::new();
    NIGHT.get_or_init(|| Night::new("small-night.yaml"))
}

fn lenslets() -> &'static Night {
    static NIGHT: OnceLock<Night> = OnceLock::new();
    NIGHT.get_or_init(|| Night::new("small-lenslets.yaml"))
}

/// The planes of two files agree to `close` of ERR (rounding), flags to the bit.
fn same(a: &Path, b: &Path, close: f32) {
    let (a, b) = (Fits::open(a).expect("a"), Fits::open(b).expect("b"));
    let plane = |f: &Fits, name: &str| f.f32(f.hdu(name).expect(name)).expect(name);
    let err = plane(&b, "ERR");
    for name in ["DATA", "ERR", "VAR_COMMON"] {
        let (a, b) = (plane(&a, name), plane(&b, name));
        let far = |i: &usize| {
            a[*i].is_nan() != b[*i].is_nan() || (a[*i] - b[*i]).abs() > close * (err[*i] + b[*i].abs())
        };
        let far: Vec<usize> = (0..b.len()).filter(far).collect();
        assert!(a.len() == b.len() && far.is_empty(), "{name}: {} differ: {:?}", far.len(), far.first());
    }
    let bits = |f: &Fits| f.u32(f.hdu("DQ").expect("DQ")).expect("DQ");
    assert_eq!(bits(&a), bits(&b));
}

#[test]
fn steps_of_the_imager_make_the_recipe_s_image() {
    let night = imager();
    let whole = night.find("reduced", "SCI_LVL2_0008");
    let rate = night.find("reduced", "SCI_LVL1_0008");
    let dark = night.step("dark_sub", &rate, "flat-first");
    assert!(text(&dark).contains("_LVL1_"));
    let flat = night.step("flat_field", &dark, "flat-first");
    same(&night.step("background", &flat, "flat-first"), &whole, 1e-4);
    let sky = night.step("background", &dark, "sky-first");
    same(&night.step("flat_field", &sky, "sky-first"), &whole, 1e-5);
    // Once is enough, and a sky that the flat never saw needs that flat.
    night.refused("dark_sub", &[&dark], &["went through dark_sub already (S_DARK = COMPLETE)"]);
    night.refused("imager", &[&dark], &["went through dark_sub already"]);
    let (sky, out) = (night.find("reduced/masters", "_SKY_"), night.path("refused"));
    let with_sky = format!("--override_sky={}", text(&sky));
    let (done, said) = irisgpu(&["run", "background", text(&flat), &with_sky, "-o", text(&out)]);
    assert!(!done && said.contains("give the flat it was divided by (IRIS_IMG1_FLAT"), "{said}");
    let with_sky = format!("--override_sky={}", text(&night.find("reduced", "SKY_LVL2_")));
    let (done, said) = irisgpu(&["run", "background", text(&dark), &with_sky, "-o", text(&out)]);
    assert!(!done && said.contains("flat-fielded and the frame is not yet"), "{said}");
    let (done, said) = irisgpu(&["run", "background", text(&flat), &with_sky, "-o", text(&out)]);
    assert!(done, "{said}");
}

#[test]
fn steps_of_the_lenslets_make_the_recipe_s_cube() {
    let night = lenslets();
    let whole = night.find("reduced", "SCI_LVL2_");
    let rate = night.find("reduced", "SCI_LVL1_");
    let dark = night.step("dark_sub", &rate, "steps");
    let spectra = night.step("extract", &dark, "steps");
    let cube = night.step("cube_build", &spectra, "steps");
    same(&night.step("sky_sub", &cube, "steps"), &whole, 1e-5);
    let f = Fits::open(&spectra).expect("spectra");
    let shape = |name: &str| f.hdu(name).expect(name).shape.clone();
    assert_eq!((shape("DATA"), shape("WAVELENGTH")), (vec![20, 160], vec![20, 160]));
    night.refused("lenslet", &[&dark], &["went through dark_sub already"]);
    night.refused("cube_build", &[&dark], &["holds no spectra", "run extract"]);
    night.refused("sky_sub", &[&spectra], &["a cube has 3 axes"]);
    night.refused("combine_frames", &[&cube, &whole], &["combine_frames is a step of images"]);
    // Another calibration is told by its content: made again it is the same one.
    let scans: Vec<PathBuf> = (4..=11).map(|n| night.find("reduced", &format!("SPX_LVL1_{n:04}"))).collect();
    let made = |degree: &str| {
        let (refs, out) = (night.path("reduced/masters"), night.path(&format!("degree-{degree}")));
        let degree = format!("--steps.wavecal.degree={degree}");
        let mut args = vec!["run", "lenspx", "--refs", text(&refs), "-o", text(&out), &degree];
        args.extend(scans.iter().map(|p| text(p)));
        let (done, said) = irisgpu(&args);
        assert!(done, "{said}");
        let calibration = night.find(text(&out), "LENSPX");
        let (with, out) = (format!("--override_lenspx={}", text(&calibration)), out.join("cube"));
        irisgpu(&["run", "cube_build", text(&spectra), &with, "-o", text(&out)])
    };
    let (done, said) = made("3");
    assert!(done, "{said}");
    let (done, said) = made("2");
    assert!(!done && said.contains("C_LENSPX"), "{said}");
}

#[test]
fn combinations_are_level_3_and_of_like_frames() {
    let night = imager();
    let find = |part: &str| night.find("reduced", part);
    let images = [find("SCI_LVL2_0008"), find("SCI_LVL2_0009"), find("SCI_LVL2_0010")];
    let all: Vec<&Path> = images.iter().map(PathBuf::as_path).collect();
    let (done, said) = night.run("combine_frames", &all, "combined");
    assert!(
        done && said.contains("the frames are dithered") && said.contains("_0009.fits lies 5."),
        "{said}"
    );
    let f = Fits::open(&night.path("combined/2026A-P001-001_IRIS_IMG1_SCI_LVL3_0008.fits")).expect("level 3");
    let h = f.primary();
    assert_eq!((h.integer("DATALVL"), h.integer("NCOMBINE"), h.has("REFTYPE")), (Some(3), Some(3), false));
    let scales = images
        .each_ref()
        .map(|p| Fits::open(p).expect("image").primary().number("SKYSCALE").expect("SKYSCALE"));
    let mean = scales.iter().sum::<f64>() / 3.0;
    assert!(h.number("SKYSCALE").is_some_and(|s| (s - mean).abs() < 1e-9) && scales[0] != scales[1]);
    // Frames of one pointing are no matter to warn of, nor are darks.
    let (done, said) = night.run("combine_frames", &[all[0], all[2]], "combined");
    assert!(done && said.contains("0 warnings"), "{said}");
    let darks = [1, 2, 3].map(|n| find(&format!("DARK_LVL1_{n:04}")));
    let darks: Vec<&Path> = darks.iter().map(PathBuf::as_path).collect();
    assert!(night.run("combine_frames", &darks, "combined").0);
    assert!(night.path("combined/2026A-P001-001_IRIS_IMG1_DARK_LVL3_0001.fits").is_file());
    assert!(night.run("dark", &darks, "combined").0);
    let master = Fits::open(&night.find("combined", "IRIS_IMG1_DARK_2026")).expect("master");
    assert_eq!(master.primary().text("REFTYPE").as_deref(), Some("dark"));
    let rate = find("SCI_LVL1_0008");
    night.refused("combine_frames", &[&rate, all[1]], &["1 of 2 files are calibrated images"]);
    night.refused("combine_frames", &[&rate, darks[0]], &["IMTYPE is 'SCI' here and 'DARK' there"]);
    let ifu = lenslets().find("reduced", "SCI_LVL1_");
    for recipe in ["combine_frames", "dark"] {
        night.refused(recipe, &[&rate, &ifu], &["DETECTOR is 'IFU' here and 'IMG1' there"]);
    }
    let dark = night.step("dark_sub", &rate, "combined");
    night.refused("combine_frames", &[&dark, &find("SCI_LVL1_0009")], &["S_DARK is"]);
}

/// Steps that calibrate nothing leave a rate a rate, with all its planes, so that the
/// next step can take it.
#[test]
fn a_rate_with_coordinates_is_still_a_rate() {
    let night = imager();
    let rate = night.find("reduced", "SCI_LVL1_0009");
    let placed = night.step("assign_wcs", &rate, "placed");
    let f = Fits::open(&placed).expect("rate");
    assert!(["VAR_POISSON", "VAR_RNOISE", "CHI2", "NREADS"].iter().all(|hdu| f.hdu(hdu).is_some()));
    night.step("dark_sub", &placed, "placed-dark");
    let image = night.find("reduced", "SCI_LVL2_0009");
    let again = Fits::open(&night.step("assign_wcs", &image, "placed-image")).expect("image");
    assert_eq!(again.primary().integer("DATALVL"), Some(2));
}

/// JWST's NGROUPS are reads; a product's are ramps.
#[test]
fn counts_of_reads_are_those_of_the_array_under_our_names() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("jwst.fits");
    let (reads, n) = (6usize, 32usize);
    let mut h = Header::new();
    for (key, value) in [("DETECTOR", "IMG1"), ("INSTRUME", "IRIS"), ("OBSNAME", "IMG1-SCI")] {
        h.set(key, value, "");
    }
    h.set("NINTS", 1, "");
    h.set("NGROUPS", reads, "");
    h.set("TGROUP", 2.0, "");
    h.set("TFRAME", 2.0, "");
    h.set("NFRAMES", 1, "");
    let pixels: Vec<f32> =
        (0..reads * n * n).map(|i| 1000.0 + 50.0 * (i / (n * n)) as f32 + (i * 7919 % 13) as f32).collect();
    let mut w = FitsWriter::create(&path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("SCI", &Header::new(), &[1, reads, n, n], Pixels::F32(&pixels)).expect("SCI");
    w.finish().expect("finish");
    let output = dir.path().join("out");
    let (done, said) = irisgpu(&["run", "stage1", text(&path), "-o", text(&output), "--device", "cpu"]);
    assert!(done, "{said}");
    let product = std::fs::read_dir(&output).expect("out").flatten().map(|e| e.path());
    let product = product.into_iter().find(|p| text(p).ends_with(".fits")).expect("product");
    let f = Fits::open(&product).expect("product");
    assert_eq!((f.primary().integer("NGROUPS"), f.primary().integer("NREADS")), (Some(1), Some(6)));
}

/// Every file of a reduced night says how it was made.
#[test]
fn every_product_says_how_it_was_made() {
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("folder").flatten().map(|e| e.path());
        entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
    }
    for night in [imager(), lenslets()] {
        let all: Vec<PathBuf> = files(&night.path("reduced"))
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "fits"))
            .collect();
        assert!(all.iter().any(|p| text(p).contains("masters")), "{all:?}");
        for path in all {
            let file = Fits::open(&path).expect("product");
            let h = file.primary();
            for key in ["DRSVER", "ENGINE", "DEVICE", "IGPLAN", "DATECRT", "TIMESYS", "MJD-BEG", "OBSGEO-X"] {
                assert!(h.has(key), "{key} of {}", path.display());
            }
            let history: Vec<&str> =
                h.cards().iter().filter(|c| c.keyword == "HISTORY").map(|c| c.comment.as_str()).collect();
            for part in ["irisgpu ", "{\"skip\"", "input: "] {
                assert!(history.iter().any(|t| t.contains(part)), "{part} of {}", path.display());
            }
            assert!(h.cards().iter().any(|c| c.keyword.starts_with("S_")), "{}", path.display());
            // Each reference with its checksum, in keywords and with its path.
            for card in h.cards().iter().filter(|c| c.keyword.starts_with("R_")) {
                let checksum = h.text(&card.keyword.replacen('R', "C", 1)).unwrap_or_default();
                let said = history.iter().any(|t| !checksum.is_empty() && t.contains(&checksum));
                let several = h.text(&card.keyword).as_deref() == Some("MULTIPLE");
                assert!(several || said, "{} of {}", card.keyword, path.display());
            }
        }
    }
}
