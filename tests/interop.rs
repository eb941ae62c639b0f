//! Files of liger_iris_pipeline in, and files for it out (`--compat liger`), through the
//! public command line. `testdata/liger` was written by the package itself
//! (`scripts/interop`, commit 3d0ac2e); that it opens ours is checked there.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use irisgpu::fits::{Fits, Header};
use irisgpu::input::read_image;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/liger");

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.env_remove("CRDS_PATH").stdin(Stdio::null()).args(args).output().expect("run")
}

fn done(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The files in `folder` whose names contain `part`, sorted.
fn named(folder: &Path, part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(part))).collect();
    files.sort();
    files
}

fn names(fits: &Fits) -> Vec<&str> {
    fits.hdus.iter().skip(1).map(|h| h.name.as_str()).collect()
}

/// The package's references.
fn theirs(types: &[&str]) -> Vec<String> {
    types.iter().map(|t| format!("--override_{t}={PEER}/{t}.fits")).collect()
}

#[test]
fn its_ramps_become_its_rates() {
    let dir = tempfile::tempdir().expect("temp dir");
    let given = theirs(&["nonlin"]);
    let ramp = format!("{PEER}/ramp.fits");
    // Its fit is an unweighted line; it has no other step.
    done(&[
        "run",
        "stage1",
        &ramp,
        "-o",
        text(dir.path()),
        &given[0],
        "--device",
        "cpu",
        "--steps.ramp_fit.algorithm=ols",
        "--steps.jump.skip=true",
    ]);
    let (_, ours) = read_image(&named(dir.path(), "_LVL1_")[0]).expect("our rate");
    let (_, theirs) = read_image(Path::new(&format!("{PEER}/rate.fits"))).expect("its rate");
    let mut ratios: Vec<f32> = ours.data.iter().zip(&theirs.data).map(|(a, b)| a / b).collect();
    ratios.sort_by(f32::total_cmp);
    let median = ratios[ratios.len() / 2];
    // Its counts are electrons: with the instrument's gain it would be 2.
    assert!((median - 1.0).abs() < 2e-3, "{median}");
    // It weights its two ramps otherwise than we do, so single pixels differ by noise.
    assert!(ratios[0] > 0.9 && ratios[ratios.len() - 1] < 1.1, "{ratios:?}");
    // DEAD (bit 10), which the file says of one read.
    assert_eq!(ours.dq[5 * ours.nx + 6] & 1024, 1024);
}

#[test]
fn a_folder_of_its_files_is_a_night() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path().join("night");
    std::fs::create_dir_all(night.join("refs")).expect("folders");
    for (from, to) in [
        ("ramp", "ramp"),
        ("rate", "rate"),
        ("dark", "refs/dark"),
        ("flat", "refs/flat"),
        ("nonlin", "refs/nonlin"),
    ] {
        std::fs::copy(format!("{PEER}/{from}.fits"), night.join(format!("{to}.fits"))).expect("copy");
    }
    let said = done(&["reduce", text(&night), "--device", "cpu"]);
    // The ramp is raw, though the package wrote DRSVER into it; its rate is not.
    assert!(said.contains("1 done"), "{said}");
    let made = Fits::open(&named(&night.join("reduced"), "_LVL2_")[0]).expect("a product");
    let h = made.primary();
    assert_eq!(h.text("R_DARK").as_deref(), Some("dark.fits"));
    assert_eq!(h.text("R_FLAT").as_deref(), Some("flat.fits"));
    assert_eq!(h.text("R_NONLIN").as_deref(), Some("nonlin.fits"));
    // NO_FLAT_FIELD in the flat's 32 bits.
    let (_, image) = read_image(&made.path).expect("image");
    assert_eq!(image.dq[3 * image.nx + 4], 1 | 1 << 18);
}

#[test]
fn what_compat_writes_beside_the_usual() {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/small-night.yaml");
    done(&["simulate", config, text(dir.path())]);
    let night = dir.path().join("night");
    let (plain, compat) = (dir.path().join("plain"), dir.path().join("compat"));
    let reduce = |output: &Path, more: &[&str]| {
        let mut args = vec!["reduce", text(&night), "-o", text(output), "--device", "cpu"];
        args.extend(more);
        done(&args)
    };
    reduce(&plain, &[]);
    let said = reduce(&compat, &["--compat", "liger"]);
    assert!(!said.contains("as always"), "{said}");
    let mut products = 0;
    for (of, part) in [("", "_LVL1_"), ("", "_LVL2_"), ("masters", "IRIS_")] {
        let (a, b) = (named(&plain.join(of), part), named(&compat.join(of), part));
        assert_eq!(a.len(), b.len());
        products += a.len();
        for (a, b) in a.iter().zip(&b) {
            compare(&Fits::open(a).expect("plain"), &Fits::open(b).expect("compat"));
        }
    }
    assert!(products > 12, "{products}");
    // Each is up to date for what it was asked for, and only for that.
    let count = |said: &str| said.matches("up to date").count();
    assert!(count(&reduce(&compat, &["--compat", "liger"])) >= 6);
    let again = reduce(&compat, &[]);
    assert!(again.contains("6 done"), "{again}");
}

/// A product for the package holds the same numbers under the same names.
fn compare(plain: &Fits, compat: &Fits) {
    let name = compat.path.display();
    assert!(!names(plain).contains(&"ASDF") && !plain.primary().has("CRPIX1"), "{name}");
    let mut kept = names(compat);
    assert_eq!(kept.pop(), Some("ASDF"), "{name}");
    kept.retain(|n| *n != "DQ_HIGH");
    assert_eq!(kept, names(plain), "{name}");
    let sum = |h: &Header| h.text("DATASUM").expect("DATASUM");
    for hdu in plain.hdus.iter().filter(|h| h.name != "DQ") {
        let other = if hdu.index == 0 { &compat.hdus[0] } else { compat.hdu(&hdu.name).expect("HDU") };
        assert_eq!(sum(&hdu.header), sum(&other.header), "{name} {}", hdu.name);
    }
    let model = compat.primary().text("DATAMODL").expect("DATAMODL");
    let flags = compat.hdu("DQ").expect("DQ");
    assert_eq!(flags.bitpix, if model == "FlatModel" { 32 } else { 16 }, "{name}");
    assert!(["ImagerModel", "DarkModel", "FlatModel"].contains(&model.as_str()), "{model}");
    let ([a, b], [h, g]) =
        ([plain, compat].map(|f| read_image(&f.path).expect("image").1), [plain, compat].map(Fits::primary));
    assert_eq!(a.dq, b.dq, "{name}");
    assert_ne!(h.text("IGPLAN"), g.text("IGPLAN"), "{name}");
    assert_eq!(g.text("FILTER").as_deref(), Some("Ks"), "{name}");
    assert_eq!(g.integer("SUBSIZE1"), Some(128), "{name}");
    if let Some(pixel) = plain.hdu("DATA").and_then(|h| h.header.number("CRPIX1"))
        && model == "ImagerModel"
    {
        assert_eq!(g.number("CRPIX1"), Some(pixel - 1.0), "{name}");
    }
}

#[test]
fn only_packages_that_are_known() {
    let output = run(&["reduce", PEER, "--compat", "jwst"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("liger"));
}
