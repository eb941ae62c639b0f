//! What people type who know stpipe: classes, `.cfg` files, associations, options of
//! single steps, results on the way, through the public command line.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;
use std::process::Command;

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};

const SIDE: usize = 96;

/// A folder in which commands are run.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Room {
        Room(tempfile::tempdir().expect("temp dir"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    /// Exit code and everything said.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(args).current_dir(self.0.path()).env_remove("CRDS_PATH");
        let output = command.output().expect("run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
    }

    /// Runs what must be done.
    fn done(&self, args: &[&str]) -> String {
        let (code, said) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {said}");
        said
    }

    /// A raw science frame as the old package has it: SCI in DN over the ramp.
    fn frame(&self, name: &str, imtype: &str, number: i64, rate: impl Fn(usize, usize) -> f32) {
        const SECONDS: f32 = 300.0;
        let mut h = Header::new();
        for (key, value) in [
            ("INSTRUME", "IRIS"),
            ("DETECTOR", "IMG1"),
            ("FILTER", "K"),
            ("READMODE", "UTR"),
            ("IMTYPE", imtype),
            ("EXPDTST", &format!("203201010600{number:02}")),
        ] {
            h.set(key, value, "");
        }
        h.set("EXPTIME", f64::from(SECONDS), "");
        h.set("NREADS", 10, "");
        h.set("DATALVL", 1, "");
        h.set("EXPNUM", number, "");
        h.set("GAIN", 2.0, "");
        h.set("READNOIS", 5.0, "");
        let pixels: Vec<f32> = (0..SIDE * SIDE).map(|i| rate(i % SIDE, i / SIDE) * SECONDS / 2.0).collect();
        let mut w = FitsWriter::create(&self.path(name)).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.image("SCI", &Header::new(), &[SIDE, SIDE], Pixels::F32(&pixels)).expect("SCI");
        w.finish().expect("finish");
    }

    fn data(&self, name: &str) -> Vec<f32> {
        let fits = Fits::open(&self.path(name)).expect(name);
        fits.f32(fits.hdu("DATA").expect("DATA")).expect("pixels")
    }

    fn header(&self, name: &str) -> Header {
        Fits::open(&self.path(name)).expect(name).primary().clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("list").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn flat(x: usize, y: usize) -> f32 {
    1.0 + 0.1 * ((x * 7 + y * 13) % 11) as f32 / 11.0
}

fn source(x: usize, y: usize) -> f32 {
    let r2 = (x as f32 - 42.0).powi(2) + (y as f32 - 52.0).powi(2);
    50.0 * (-r2 / 18.0).exp()
}

const DARK: f32 = 0.5;
const SKY: f32 = 5.0;

/// The three raw frames of the design document's example, beside an association.
fn example() -> Room {
    let room = Room::new();
    std::fs::create_dir(room.path("data")).expect("folder");
    room.frame("data/raw_science_frame_sci.fits", "SCI", 1, |x, y| DARK + flat(x, y) * (source(x, y) + SKY));
    room.frame("data/raw_background_frame_cal.fits", "SKY", 2, |x, y| DARK + flat(x, y) * SKY);
    room.frame("data/raw_flat_frame_cal.fits", "FLAT", 3, |x, y| DARK + flat(x, y) * 400.0);
    room.text(
        "image2_iris.cfg",
        "name = \"ProcessImagerL2Pipeline\"\nclass = \"iris_pipeline.pipeline.ProcessImagerL2Pipeline\"\n\
         save_results = True\n\n    [steps]\n      [[bkg_subtract]]\n      [[assign_wcs]]\n        skip = True\n\
         \u{20}     [[flat_field]]\n        config_file = flat_field.cfg\n      [[photom]]\n        skip = True\n\
         \u{20}     [[resample]]\n        skip = True\n",
    );
    room.text(
        "flat_field.cfg",
        "name = \"flat_field\"\nclass = \"jwst.flatfield.FlatFieldStep\"\noverride_flat = 'raw_flat_frame_flat.fits'\n",
    );
    let member = |name: &str, kind: &str| format!(r#"{{"expname": "data/{name}", "exptype": "{kind}"}}"#);
    let members = [
        member("raw_science_frame_sci.fits", "science"),
        member("raw_background_frame_cal.fits", "background"),
    ];
    room.text(
        "association.json",
        &format!(
            r#"{{"asn_rule": "Asn_Lv2Image", "asn_pool": "pool", "asn_type": "image2",
                "products": [{{"name": "test_iris_subtract_bg_flat", "members": [{}]}}]}}"#,
            members.join(", ")
        ),
    );
    room
}

#[test]
fn the_design_document_s_example_works_as_written() {
    let room = example();
    room.done(&["run", "iris_pipeline.pipeline.ProcessFlatfieldL2", "data/raw_flat_frame_cal.fits"]);
    let made = room.data("raw_flat_frame_flat.fits");
    let median = {
        let mut truth: Vec<f32> = (0..SIDE * SIDE).map(|i| DARK + flat(i % SIDE, i / SIDE) * 400.0).collect();
        truth.sort_by(f32::total_cmp);
        f64::midpoint(truth[truth.len() / 2].into(), truth[truth.len() / 2 - 1].into())
    };
    let expected = |x, y| f64::from(DARK + flat(x, y) * 400.0) / median;
    assert!((f64::from(made[0]) / expected(0, 0) - 1.0).abs() < 2e-3, "{} {}", made[0], expected(0, 0));
    room.done(&["run", "image2_iris.cfg", "association.json"]);
    let reduced = room.data("test_iris_subtract_bg_flat_cal.fits");
    let header = room.header("test_iris_subtract_bg_flat_cal.fits");
    assert_eq!(header.text("S_WCS").as_deref(), Some("SKIPPED"));
    assert_eq!(header.text("S_BKGSUB").as_deref(), Some("COMPLETE"));
    assert_eq!(header.text("R_FLAT").as_deref(), Some("raw_flat_frame_flat.fits"));
    assert!(header.cards().iter().any(|c| c.comment.contains("put with it by association.json")));
    let at = |x: usize, y: usize| reduced[y * SIDE + x];
    // Divided by the flat, whose median of 1.05 it keeps.
    let scale = (median / 400.0) as f32;
    assert!((at(42, 52) / (50.0 * scale) - 1.0).abs() < 5e-3, "{}", at(42, 52));
    assert!(at(10, 10).abs() < 0.02, "{}", at(10, 10));
}

#[test]
fn parameters_go_by_their_old_names_and_the_command_line_wins() {
    let room = example();
    room.text(
        "preprocess_flatfield.cfg",
        "name = \"preprocess_flatfield\"\nclass = \"iris_pipeline.pipeline.ProcessFlatfieldL2\"\n\
         output_dir = made\n    [steps]\n      [[normalize]]\n        # name of numpy method\n        method = \"mean\"\n",
    );
    room.done(&["run", "preprocess_flatfield.cfg", "data/raw_flat_frame_cal.fits"]);
    let data = room.data("made/raw_flat_frame_flat.fits");
    let mean = data.iter().map(|v| f64::from(*v)).sum::<f64>() / data.len() as f64;
    assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    let args = ["run", "preprocess_flatfield.cfg", "data/raw_flat_frame_cal.fits", "--output_dir=other"];
    room.done(&[&args[..], &["--steps.normalize.method=median", "--suffix=mine"]].concat());
    assert!(room.path("other/raw_flat_frame_mine.fits").is_file());
    room.done(&["run", "CreateFlatfield", "data/raw_flat_frame_cal.fits", "--output_file=K"]);
    assert!(room.path("K_flat.fits").is_file());
}

#[test]
fn one_step_takes_its_own_parameters_and_results_on_the_way_are_saved() {
    let room = example();
    let science = "data/raw_science_frame_sci.fits";
    room.frame("dark.fits", "DARK", 4, |_, _| DARK);
    room.done(&["run", "CreateDark", "dark.fits"]);
    let skipped =
        ["run", "jwst.dark_current.DarkCurrentStep", science, "--skip", "--override_dark=dark_dark.fits"];
    room.done(&skipped);
    assert_eq!(room.header("raw_science_frame_rate.fits").text("S_DARK").as_deref(), Some("SKIPPED"));
    let (code, said) = room.run(&["run", "ImagerStage2Pipeline", science, "--method=mean"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--steps.<STEP>.method=mean"), "{said}");
    room.done(&[
        "run",
        "ImagerStage2Pipeline",
        science,
        "--steps.dark_current.override_dark=dark_dark.fits",
        "--override_flat=N/A",
        "--steps.dark_current.save_results=True",
        "--steps.photom.skip=true",
    ]);
    let after = room.data("raw_science_frame_dark-sub.fits");
    assert!((after[0] - flat(0, 0) * SKY).abs() < 1e-3, "{}", after[0]);
    let header = room.header("raw_science_frame_cal.fits");
    assert_eq!(header.text("S_FLAT").as_deref(), Some("SKIPPED"));
    assert_eq!(header.text("S_DARK").as_deref(), Some("COMPLETE"));
}

#[test]
fn what_cannot_be_understood_is_a_sentence_that_names_the_file() {
    let room = example();
    for (text, what) in [
        ("class = \"a.NoPipeline\"\n", "'a.NoPipeline' is no pipeline or step"),
        ("class = \"Stage1Pipeline\"\n[steps]\n[[jump]]\nthreshold = 4\n", "steps.jump.threshold"),
        ("class = \"Stage1Pipeline\"\nx\n", "line 2"),
    ] {
        room.text("bad.cfg", text);
        let (code, said) = room.run(&["run", "bad.cfg", "data/raw_science_frame_sci.fits"]);
        assert!(code == 2 && said.contains(what), "{said}");
    }
    room.text("bad.json", "{\"products\": 3}");
    let (code, said) = room.run(&["run", "imager", "bad.json"]);
    assert!(code == 2 && said.contains("bad.json: is no association"), "{said}");
    let (code, said) = room.run(&["run", "imager", "association.json", "data/raw_science_frame_sci.fits"]);
    assert!(code == 2 && said.contains("run them apart"), "{said}");
    assert!(!room.names().iter().any(|n| n.ends_with(".part")));
}
