//! The command line on nights of tiny frames: plans, options, exit codes. No
//! engine computes here.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::Path;

use assert_cmd::Command;
use irisgpu::config::Recipe;
use irisgpu::fits::{FitsWriter, Header, Pixels};

fn irisgpu(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("irisgpu").expect("binary").args(args).output().expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn frame(path: &Path, cards: &[(&str, &str)]) {
    let mut h = Header::new();
    cards.iter().for_each(|(k, v)| h.set(k, *v, ""));
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("DATA", &Header::new(), &[2, 2], Pixels::F32(&[0.0; 4])).expect("data");
    w.finish().expect("finish");
}

fn night(dir: &Path) {
    let common = [("DETECTOR", "IMG1"), ("FILTER", "K"), ("READMODE", "UTR"), ("EXPTIME", "60")];
    for (name, obsname, date) in [
        ("sci.fits", "IMG1-SCI", "2032-01-02T06:00:00"),
        ("dark.fits", "IMG1-DRK", "2032-01-02T03:00:00"),
        ("tel.fits", "LEN-TEL", "2032-01-02T05:00:00"),
        ("wrong.fits", "LEN-NFF", "2032-01-02T05:00:00"),
    ] {
        let own = [("OBSNAME", obsname), ("EXPDTST", date)];
        frame(&dir.join(name), &[&common[..], &own[..]].concat());
    }
    frame(
        &dir.join("refs/flat.fits"),
        &[&common[..], &[("REFTYPE", "FLAT"), ("EXPDTST", "2032-01-02T05:48:00")]].concat(),
    );
}

#[test]
fn a_dry_run_prints_the_plan_with_its_reasons_and_does_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(dir.path());
    let path = dir.path().to_str().expect("UTF-8");
    let (code, out, err) = irisgpu(&["reduce", path, "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "dark IMG1 UTR-60s",
        "(refs, nearest in time: 12 min)",
        "(this night, nearest in time: 3.0 h)",
        "none  (no sky reference was found; no sky is subtracted)",
        "no recipe yet",
        "wrong.fits: OBSNAME = 'LEN-NFF' cannot be",
        "2 to do, 0 up to date, 1 without a recipe yet, 1 that cannot be done",
    ] {
        assert!(out.contains(part), "'{part}' in\n{out}");
    }
    assert!(!dir.path().join("reduced").exists());
    let (code, out, _) = irisgpu(&["plan", path, "--json", "--only", "IMG1-SCI"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["tasks"].as_array().expect("tasks").len()), (0, 2));
}

#[test]
fn options_reach_the_plan() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(dir.path());
    let path = dir.path().to_str().expect("UTF-8");
    let hand = dir.path().join("mine.fit_");
    frame(&hand, &[("REFTYPE", "gain")]);
    let hand = format!("--override_gain={}", hand.display());
    let (code, out, err) = irisgpu(&["plan", path, &hand, "--steps.dark-sub.skip=true", "-o", "/nowhere"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("(given by hand)"), "{out}");
    assert!(out.contains("products in /nowhere"), "{out}");
    assert!(!out.contains("this night, nearest"), "{out}");
}

#[test]
fn wrong_usage_is_a_sentence_and_an_exit_code() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().to_str().expect("UTF-8");
    let file = dir.path().join("all.yaml");
    let (bad, wrong) = (dir.path().join("bad.yaml"), dir.path().join("wrong.yaml"));
    std::fs::write(&file, irisgpu(&["config", "show"]).1).expect("write");
    std::fs::write(&bad, "name: x\nabout: y\ntakes: one\nsteps: [jump: {rejection_threshold: -3}]\n")
        .expect("write");
    std::fs::write(&wrong, "name: [\n").expect("write");
    let text = |p: &Path| p.to_str().expect("UTF-8").to_owned();
    let (file, bad, wrong) = (text(&file), text(&bad), text(&wrong));
    let cases: [(&[&str], i32, &str); 21] = [
        (&["reduce", &file], 2, "is a file: name the night's folder"),
        (&["reduce", path, "--steps.ramp_fit.num_coadd=0"], 2, "num_coadd=0: it must be 1 or more"),
        (&["reduce", path, "--steps.jump.rejection_threshold=nan"], 2, "it must be a number, more than 0"),
        (&["reduce", path, "--config", &bad], 2, "jump.rejection_threshold = -3: it must be more than 0"),
        (&["reduce", path, "--config", &wrong], 2, "wrong.yaml: line 1"),
        (&["reduce", path, "--config", "/no/such.yaml"], 2, "cannot read /no/such.yaml"),
        (&["run", &file, &file], 2, "holds several recipes"),
        (&["reduce", path, "--override_telluric=x.fits"], 2, "no step uses this reference type yet"),
        (&["reduce", path, "--device", "no such device"], 3, "no device 'no such device'"),
        (&["reduce", path, "--device", ""], 2, "give cpu, gpu"),
        (&["reduce", path, "--read-time", "-3"], 2, "more than 0"),
        (&["simulate", "/no/such.yaml", path], 2, "cannot read /no/such.yaml"),
        (&["reduce", path], 64, "no raw FITS files"),
        (&["reduce", "/no/such/night"], 2, "no such folder"),
        (&["reduce", path, "--steps.jumpp.skip=true"], 2, "no such step"),
        (&["reduce", path, "--steps.jump.skipp=true"], 2, "no parameter 'skipp'"),
        (&["reduce", path, "--override_drak=x.fits"], 2, "no such reference type"),
        (&["reduce", path, "--memory", "much"], 2, "2GiB"),
        (&["run", "stage9", "x.fits"], 2, "no recipe or step 'stage9'"),
        (&["run", "stage1", "/no/such.fits"], 2, "no such file"),
        (&["reduce"], 2, "NIGHT"),
    ];
    for (args, code, part) in cases {
        let (got, out, err) = irisgpu(args);
        assert_eq!(got, code, "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: {err}");
        assert!(out.is_empty(), "{out}");
        // One sentence, with the system's reason once.
        assert!(err.matches("os error").count() <= 1, "{args:?}: {err}");
    }
    assert_eq!(irisgpu(&["--help"]).0, 0);
    assert_eq!(irisgpu(&["--version"]).0, 0);
}

#[test]
fn the_configuration_shown_can_be_given_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (code, shown, err) = irisgpu(&["config", "show", "imager", "--steps.ramp_fit.algorithm=ols"]);
    assert_eq!(code, 0, "{err}");
    assert!(shown.contains("algorithm: ols"), "{shown}");
    let file = dir.path().join("mine.yaml");
    std::fs::write(&file, &shown).expect("write");
    let (_, again, err) = irisgpu(&["config", "show", "imager", "--config", file.to_str().expect("UTF-8")]);
    assert_eq!(shown, again, "{err}");
    let (code, all, _) = irisgpu(&["config", "show", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!((code, all.as_array().expect("recipes").len()), (0, Recipe::names().count()));
    assert!(irisgpu(&["config", "show", "instrument"]).1.contains("plate_scale"));
    assert!(shown.contains("num_coadd: 3  # Reads averaged"), "{shown}");
}

#[test]
fn all_recipes_shown_and_given_back_plan_the_same() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(dir.path());
    let path = dir.path().to_str().expect("UTF-8");
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, irisgpu(&["config", "show"]).1).expect("write");
    let file = file.to_str().expect("UTF-8");
    let hashes = |more: &[&str]| {
        let (code, out, err) = irisgpu(&[&["plan", path, "--json"], more].concat());
        assert_eq!(code, 0, "{err}");
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let tasks = json["tasks"].as_array().expect("tasks").clone();
        tasks.iter().map(|t| t["plan_hash"].clone()).collect::<Vec<_>>()
    };
    let plain = hashes(&[]);
    assert_eq!(plain.iter().filter(|h| h.is_string()).count(), 2);
    assert_eq!(hashes(&["--config", file]), plain);
    assert_ne!(hashes(&["--config", file, "--steps.jump.max_jumps=3"]), plain);
}

#[test]
fn a_file_is_named_once_and_references_of_no_use_are_said() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(dir.path());
    let path = dir.path().to_str().expect("UTF-8");
    std::fs::write(dir.path().join("junk.fits"), "junk").expect("write");
    for name in ["a", "b"] {
        let cards = [("REFTYPE", "TELLURIC"), ("DETECTOR", "IFU")];
        frame(&dir.path().join(format!("refs/{name}.fits")), &cards);
    }
    let (_, plan, _) = irisgpu(&["plan", path]);
    let said: Vec<&str> = plan.lines().filter(|l| l.contains("is not a FITS file")).collect();
    assert_eq!(said.len(), 1, "{plan}");
    assert_eq!(said[0].matches("junk.fits").count(), 1, "{said:?}");
    assert_eq!(plan.matches("no step uses references of type telluric").count(), 1, "{plan}");
    let (code, out, err) = irisgpu(&["run", "stage1", &format!("{path}/junk.fits"), "-o", path]);
    assert_eq!(code, 1);
    for text in [out, err] {
        let said = text.lines().find(|l| l.contains("is not a FITS file")).expect("a sentence");
        assert_eq!(said.matches("junk.fits").count(), 1, "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_stdout_is_no_crash() {
    let program = assert_cmd::cargo::cargo_bin("irisgpu");
    let line = format!("{} config show | true", program.display());
    let output = std::process::Command::new("sh").args(["-c", &line]).output().expect("sh");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_fits_file_is_not_written_over_by_what_is_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(dir.path());
    let path = dir.path().to_str().expect("UTF-8");
    let file = dir.path().join("image.fits");
    frame(&file, &[]);
    let before = std::fs::read(&file).expect("frame");
    let name = file.to_str().expect("UTF-8");
    for args in [
        &["quicklook", name, "-o", name][..],
        &["plan", path, "--save", name],
        &["reduce", path, "--trace", name],
        &["watch", path, "--trace", name, "--until-idle", "0"],
        &["bench", "accuracy", "--quick", "-o", name],
        &["bench", "lenslet", "-o", name],
        &["bench", "speed", "-o", name],
    ] {
        let (code, _, err) = irisgpu(args);
        assert!(code == 2 && err.contains("it is not written over"), "{args:?}: {code} {err}");
    }
    irisgpu(&["reduce", path, "--log", name, "-o", dir.path().join("out").to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read(&file).expect("frame"), before);
}
