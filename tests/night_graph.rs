//! A night as a graph, through the public command line: every OBSNAME that has a recipe,
//! two filters interleaved, calibrations of the night before, one frame mislabelled and
//! mended by `night.yaml`.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;

use irisgpu::fits::{Fits, Header};

/// Exit code and everything said.
fn irisgpu(folder: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).current_dir(folder).env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT");
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn done(folder: &Path, args: &[&str]) -> String {
    let (code, said) = irisgpu(folder, args);
    assert_eq!(code, 0, "{args:?}: {said}");
    said
}

/// Simulates imager exposures in a filter and moves them to a folder of a night.
fn imager(root: &Path, filter: &str, observation: &str, start: f64, exposures: &[&str], to: &str) {
    let blocks: String =
        exposures.iter().map(|e| format!("  - {{detector: IMG1, reads: 6, {e}}}\n")).collect();
    let config = format!(
        "frame: [64, 64]\nstart_jd: {start}\nimager_filter: {filter}\nobsnum: '{observation}'\nexposures:\n{blocks}"
    );
    simulate(root, &config, to);
}

/// Simulates a night and moves its frames to a folder, its references to `refs/`.
fn simulate(root: &Path, config: &str, to: &str) {
    std::fs::write(root.join("config.yaml"), config).expect("config");
    done(root, &["simulate", "config.yaml", "made", "--force"]);
    let made = root.join("made/night");
    for (from, into) in [(made.join("refs"), root.join("refs")), (made, root.join(to))] {
        std::fs::create_dir_all(&into).expect("folder");
        for entry in std::fs::read_dir(from).expect("list").flatten() {
            if entry.path().is_file() {
                std::fs::rename(entry.path(), into.join(entry.file_name())).expect("move");
            }
        }
    }
    std::fs::remove_dir_all(root.join("made")).expect("remove");
}

fn header(path: &Path) -> Header {
    Fits::open(path).unwrap_or_else(|e| panic!("{e}")).primary().clone()
}

/// The products in a folder whose names have `part` in them.
fn products(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("list")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().contains(part))
        .collect();
    found.sort();
    found
}

/// Rewrites a keyword of a file's primary header in place.
fn relabel(path: &Path, keyword: &str, value: &str) {
    let mut bytes = std::fs::read(path).expect("read");
    let mut header = header(path);
    let before = header.to_bytes().len();
    header.set(keyword, value, "");
    let new = header.to_bytes();
    assert_eq!(new.len(), before);
    bytes[..before].copy_from_slice(&new);
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_night_mended_by_night_yaml_reduces_unattended_with_the_right_pairings() {
    const NIGHT: f64 = 2_461_114.625;
    let dir = tempfile::tempdir().expect("temp dir");
    let root = dir.path();
    // The night before: darks, and flats in both filters.
    let flats = ["kind: NFF, count: 3, read_time: 2.5"];
    imager(root, "KS", "001", NIGHT - 1.0, &["kind: DRK, count: 3", flats[0]], "before/ks");
    imager(root, "H", "002", NIGHT - 0.99, &flats, "before/h");
    done(root, &["reduce", "before", "--refs", "refs", "--device", "cpu"]);
    // This night: sky, science, sky, science in both filters by turns, and the lenslets.
    let turns = ["kind: SKY, dithers: [[20, 0]]", "kind: SCI", "kind: SKY, dithers: [[20, 1]]", "kind: SCI"];
    imager(root, "KS", "001", NIGHT, &turns, "night/ks");
    imager(root, "H", "002", NIGHT + 15.0 / 86_400.0, &turns, "night/h");
    let lenslets = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/small-lenslets.yaml");
    let lenslets =
        std::fs::read_to_string(lenslets).expect("config").replace("semid:", "obsnum: '003'\nsemid:");
    simulate(root, &lenslets, "night/lenslets");
    let wrong = "ks/2026A-P001-001_IRIS_IMG1_SCI_LVL0_0004.fits";
    relabel(&root.join("night").join(wrong), "OBSNAME", "IMG1-SKY");

    let args = ["night", "--refs", "refs", "--masters", "before"];
    let plan = |more: &[&str]| done(root, &[&["plan"], &args[..], more].concat());
    let said = plan(&[]);
    assert!(said.contains("IMTYPE = 'SCI' does not go with OBSNAME = 'IMG1-SKY'"), "{said}");
    std::fs::write(
        root.join("night/night.yaml"),
        format!("relabel: [{{files: {wrong}, set: {{OBSNAME: IMG1-SCI}}}}]\n"),
    )
    .expect("night.yaml");
    let said = plan(&[]);
    for part in [
        "OBSNAME = 'IMG1-SCI' by hand; the file says 'IMG1-SKY'",
        "(another night, nearest in time: 2",
        "(this night, nearest in time: ",
        " 0 that cannot be done",
    ] {
        assert!(said.contains(part), "'{part}' in {said}");
    }
    done(root, &[&["reduce"], &args[..], &["--device", "cpu"]].concat());

    let reduced = root.join("night/reduced");
    let images = products(&reduced, "_IMG1_SCI_LVL2_");
    assert_eq!(images.len(), 4, "{images:?}");
    let mut skies = Vec::new();
    for path in &images {
        let h = header(path);
        let filter = h.text("FILTER").unwrap_or_default();
        let sky = h.text("R_SKY").expect("R_SKY");
        let of = |key: &str, folder: &str| header(&root.join(folder).join(h.text(key).unwrap_or_default()));
        assert_eq!(of("R_SKY", "night/reduced/masters").text("FILTER"), Some(filter.clone()));
        assert_eq!(of("R_FLAT", "before/reduced/masters").text("FILTER"), Some(filter.clone()));
        assert!(h.text("R_DARK").is_some_and(|d| d.contains("20260314")), "{:?}", h.text("R_DARK"));
        assert_eq!(h.text("OBSNAME").as_deref(), Some("IMG1-SCI"));
        let why = h.cards().iter().any(|c| c.comment.contains("reference sky") && c.keyword == "HISTORY");
        assert!(why, "{}", path.display());
        skies.push(sky);
    }
    // Each science exposure has the sky beside it: four masters, each used once.
    skies.sort();
    skies.dedup();
    assert_eq!(skies.len(), 4, "{skies:?}");
    let mended = header(&reduced.join("2026A-P001-001_IRIS_IMG1_SCI_LVL2_0004.fits"));
    let card = mended.cards().iter().find(|c| c.keyword == "OBSNAME").expect("OBSNAME");
    assert!(card.comment.contains("the file says IMG1-SKY"), "{}", card.comment);
    let cube = products(&reduced, "_IFU_SCI_LVL2_");
    let cube = header(cube.first().expect("a cube"));
    for key in ["R_LENSPX", "R_DARK", "R_SKY"] {
        assert!(cube.text(key).is_some(), "{key}");
    }
    // Done once, done for good.
    let said = plan(&[]);
    assert!(said.contains("\n0 to do, "), "{said}");
}
