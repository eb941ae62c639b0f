//! Products that a night does not make any more are put aside, and nothing else is;
//! through the public command line.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::fits::{Fits, FitsWriter};
use serde_json::Value;

const NIGHT: &str = "frame: [64, 64]
exposures:
  - {detector: IMG1, kind: DRK, count: 2, reads: 6}
  - {detector: IMG1, kind: NFF, count: 2, reads: 6}
  - {detector: IMG1, kind: SKY, count: 2, reads: 6}
  - {detector: IMG1, kind: SCI, count: 3, reads: 6}
";

/// Exit code, stdout and both streams together.
fn irisgpu(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command.env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT").env_remove("IRISGPU_FAULT");
    let done = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    (done.status.code().unwrap_or(-1), out.clone(), out + &err)
}

fn reduce(folder: &Path, more: &[&str]) -> Value {
    let args = ["reduce", "night", "--device", "cpu", "--json", "--quiet"];
    let (code, out, said) = irisgpu(folder, &[&args[..], more].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&out).expect("JSON")
}

/// A night that was reduced, and its frames by kind, in order.
fn night() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    std::fs::write(dir.path().join("night.cfg.yaml"), NIGHT).expect("configuration");
    let (code, _, said) = irisgpu(dir.path(), &["simulate", "night.cfg.yaml", "made"]);
    assert_eq!(code, 0, "{said}");
    std::fs::rename(dir.path().join("made/night"), dir.path().join("night")).expect("move");
    reduce(dir.path(), &[]);
    dir
}

fn frames(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("night")).expect("list").flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.to_string_lossy().contains(kind)).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().expect("name").to_string_lossy().into_owned()
}

/// FITS files below `reduced`, by their names within it; those in `stale` apart.
fn products(folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    fn below(folder: &Path, out: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).expect("list").flatten().map(|e| e.path()) {
            if path.is_dir() {
                below(&path, out);
            } else if path.extension().is_some_and(|e| e == "fits") {
                out.push(path);
            }
        }
    }
    let (root, mut files) = (folder.join("reduced"), Vec::new());
    below(&root, &mut files);
    let names = files.iter().map(|p| p.strip_prefix(&root).expect("within").to_string_lossy().into_owned());
    let (stale, own): (BTreeSet<_>, BTreeSet<_>) = names.partition(|n| n.starts_with("stale/"));
    (own, stale.into_iter().map(|n| n["stale/".len()..].to_owned()).collect())
}

/// The products whose file says that they were made of this frame alone, without what stands
/// beside them.
fn made_of(root: &Path, frame: &str) -> BTreeSet<String> {
    let (own, _) = products(root);
    let of = |n: &String| {
        let fits = Fits::open(&root.join("reduced").join(n)).expect("product");
        let cards = fits.primary().cards().to_vec();
        let inputs = cards.iter().filter(|c| c.keyword == "HISTORY").map(|c| c.comment.clone());
        inputs.filter(|t| t.starts_with("input: ")).collect::<Vec<_>>() == [format!("input: {frame}")]
    };
    own.into_iter().filter(|n| !n.starts_with("jumps/")).filter(of).collect()
}

/// Another exposure with the keywords of `frame`: one byte of it is another.
fn twin(frame: &Path, to: &Path) {
    let mut bytes = std::fs::read(frame).expect("read");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(to, bytes).expect("write");
}

fn stale_of(summary: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    let rows = summary["stale"].as_array().expect("stale");
    rows.iter().map(|r| (text(&r["file"]), text(&r["why"]))).collect()
}

#[test]
fn what_was_excluded_is_put_aside_with_a_reason_and_comes_back() {
    let dir = night();
    let root = dir.path().join("night");
    let (before, none) = products(&root);
    assert!(none.is_empty());
    // The last one: none after it asks for its persistence.
    let bad = name(&frames(dir.path(), "_SCI_")[2]);
    let own = made_of(&root, &bad);
    assert_eq!(own.len(), 2, "a rate and an image: {own:?}");
    // What a person put there, and a product under another name, are not the program's.
    let image = own.iter().find(|n| n.contains("_LVL2_")).expect("image").clone();
    std::fs::copy(root.join("reduced").join(&image), root.join("reduced/mine.fits")).expect("copy");
    std::fs::create_dir(root.join("reduced/best")).expect("folder");
    std::fs::copy(root.join("reduced").join(&image), root.join("reduced/best").join(&image)).expect("copy");
    let exclude = format!("exclude: [{{files: {bad}, because: clouds}}]\n");
    std::fs::write(root.join("night.yaml"), &exclude).expect("night.yaml");

    // Neither a part of the night, nor a look, nor tasks of a plan move anything.
    reduce(dir.path(), &["--only", "IMG1-DRK"]);
    reduce(dir.path(), &["--suffix", "mine", "--only", "IMG1-DRK"]);
    assert_eq!(irisgpu(dir.path(), &["reduce", "night", "--dry-run"]).0, 0);
    let (code, _, said) = irisgpu(dir.path(), &["plan", "night", "--save", "plan.jsonl"]);
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = irisgpu(dir.path(), &["reduce", "--plan", "plan.jsonl", "--device", "cpu"]);
    assert_eq!(code, 0, "{said}");
    assert!(products(&root).1.is_empty() && own.iter().all(|n| root.join("reduced").join(n).is_file()));
    // Nor does a run that finds another at work.
    let lock = std::fs::File::open(root.join("reduced/.irisgpu.lock")).expect("lock");
    lock.lock().expect("lock");
    let (code, _, said) = irisgpu(dir.path(), &["reduce", "night", "--device", "cpu"]);
    assert!(code == 2 && said.contains("is writing in"), "{code} {said}");
    assert!(products(&root).1.is_empty());
    drop(lock);

    let (code, _, said) = irisgpu(dir.path(), &["reduce", "night", "--device", "cpu", "--report"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("now in stale/")
            && said.contains(&format!("of {bad}: night.yaml leaves it out (clouds)")),
        "{said}"
    );
    let (after, aside) = products(&root);
    let moved: BTreeSet<String> = before.difference(&after).cloned().collect();
    assert_eq!(aside, moved);
    assert!(own.is_subset(&aside), "{aside:?}");
    assert!(aside.iter().all(|n| own.contains(n) || n.starts_with("jumps/")), "{aside:?}");
    assert!(after.contains("mine.fits") && after.contains(&format!("best/{image}")));
    let log = std::fs::read_to_string(root.join("reduced/irisgpu.log")).expect("log");
    assert!(log.contains(&format!("{image}: is in stale/ now")), "{log}");
    // The report counts them, and has no rows of them; `status` names them.
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(root.join("reduced/report.json")).expect("report"))
            .expect("JSON");
    assert_eq!(report["stale"], 2);
    assert!(report["rows"].as_array().expect("rows").iter().all(|r| r["file"] != image.as_str()));
    let page = std::fs::read_to_string(root.join("reduced/report.html")).expect("page");
    assert!(page.contains("2 products lie in the folder stale"));
    let (_, out, said) = irisgpu(dir.path(), &["status", "plan.jsonl"]);
    assert!(out.contains("in stale/:") && out.contains(&image), "{said}");
    // Once is enough.
    assert!(stale_of(&reduce(dir.path(), &[])).is_empty());

    // The frame counts again: its products are as they were, and nothing is computed.
    std::fs::remove_file(root.join("night.yaml")).expect("remove");
    let again = reduce(dir.path(), &[]);
    assert_eq!((&again["counts"]["done"], &again["counts"]["up_to_date"]), (&0.into(), &6.into()), "{again}");
    let (back, left) = products(&root);
    assert!(left.is_empty() && before.is_subset(&back), "{left:?}");
}

#[test]
fn what_was_removed_renamed_or_regrouped_is_put_aside_and_no_other_night_s() {
    let dir = night();
    let root = dir.path().join("night");
    let (before, _) = products(&root);
    let science = frames(dir.path(), "_SCI_");
    // A duplicate of the number: both products get names of their own, and the first name
    // is nobody's.
    let old = made_of(&root, &name(&science[0]));
    twin(&science[0], &root.join("twin.fits"));
    // A frame that is gone.
    let gone = made_of(&root, &name(&science[2]));
    std::fs::remove_file(&science[2]).expect("remove");
    // The first dark and the first sky are gone, so that the masters are others' now.
    let darks = frames(dir.path(), "_DARK_");
    std::fs::remove_file(&darks[0]).expect("remove");
    let skies = frames(dir.path(), "_SKY_");
    std::fs::remove_file(&skies[0]).expect("remove");
    // Another night's product in the same folder, and masters of an earlier one.
    std::fs::create_dir(dir.path().join("earlier")).expect("folder");
    let masters: Vec<String> = before.iter().filter(|n| n.starts_with("masters/")).cloned().collect();
    let flat = masters.iter().find(|n| n.contains("FLAT")).expect("flat");
    std::fs::copy(root.join("reduced").join(flat), dir.path().join("earlier").join(name(Path::new(flat))))
        .expect("copy");
    let foreign = "2000A-P000-001_IRIS_IMG1_SCI_LVL2_0001.fits";
    let image = old.iter().find(|n| n.contains("_LVL2_")).expect("image");
    let fits = Fits::open(&root.join("reduced").join(image)).expect("open");
    let mut header = fits.primary().clone();
    header.set("FILENAME", foreign, "");
    header.set("IGNIGHT", "0123456789abcdef", "");
    let mut w = FitsWriter::create(&root.join("reduced").join(foreign)).expect("create");
    w.empty("PRIMARY", &header).expect("primary");
    w.finish().expect("finish");

    let summary = reduce(dir.path(), &["--masters", "earlier"]);
    let aside: BTreeSet<String> = stale_of(&summary).into_iter().map(|(file, _)| file).collect();
    let said = format!("{:?}", stale_of(&summary));
    assert!(old.is_subset(&aside) && gone.is_subset(&aside), "{said}");
    let (after, stale) = products(&root);
    assert!(after.contains(foreign) && dir.path().join("earlier").read_dir().expect("list").count() == 1);
    assert!(aside.is_subset(&stale) && aside.is_disjoint(&after), "{said}");
    for (kind, n) in [("DARK", 1), ("SKY", 1), ("FLAT", 1)] {
        let of = |set: &BTreeSet<String>| {
            set.iter().filter(|m| m.starts_with("masters/") && m.contains(kind)).count()
        };
        assert_eq!(of(&after), n, "{kind}: {after:?}");
        assert_eq!(of(&aside), usize::from(kind != "FLAT"), "{kind}: {said}");
    }
    assert!(said.contains("is not in the night any more") && said.contains("goes into"), "{said}");
    // A twin comes back under a name that lies in stale already: neither is lost.
    std::fs::remove_file(root.join("twin.fits")).expect("remove");
    reduce(dir.path(), &[]);
    twin(&science[0], &root.join("twin.fits"));
    let more = stale_of(&reduce(dir.path(), &[]));
    let stale = products(&root).1;
    for file in [&old, &more.into_iter().map(|(file, _)| file).collect()].into_iter().flatten() {
        assert!(stale.contains(file), "{file}: {stale:?}");
    }
    let first: BTreeSet<String> = old.iter().map(|n| n.replace(".fits", ".2.fits")).collect();
    assert!(first.is_subset(&stale), "{stale:?}");
}

#[test]
fn a_master_that_somebody_uses_stays_where_it_is() {
    let dir = night();
    let root = dir.path().join("night");
    let (before, _) = products(&root);
    let dark = before.iter().find(|n| n.starts_with("masters/") && n.contains("DARK")).expect("dark");
    std::fs::remove_file(&frames(dir.path(), "_DARK_")[0]).expect("remove");
    let pair = format!("pair: [{{files: '*_SCI_*', with: {{dark: reduced/{dark}}}}}]\n");
    std::fs::write(root.join("night.yaml"), pair).expect("night.yaml");
    let summary = reduce(dir.path(), &[]);
    let (after, stale) = products(&root);
    assert!(after.contains(dark) && !stale.contains(dark), "{summary}");
    // Its frame's rate is nobody's; and the master, too, when nothing uses it any more.
    assert!(stale_of(&summary).iter().all(|(file, _)| file.contains("_DARK_LVL1_")), "{summary}");
    std::fs::remove_file(root.join("night.yaml")).expect("remove");
    reduce(dir.path(), &[]);
    assert!(products(&root).1.contains(dark));
}

#[test]
fn a_copy_of_a_frame_changes_nothing() {
    let dir = night();
    let root = dir.path().join("night");
    let (before, _) = products(&root);
    for kind in ["_DARK_", "_SCI_"] {
        let frame = &frames(dir.path(), kind)[0];
        std::fs::copy(frame, root.join(format!("copy of {}", name(frame)))).expect("copy");
    }
    let summary = reduce(dir.path(), &[]);
    assert_eq!(
        (&summary["counts"]["done"], &summary["counts"]["up_to_date"]),
        (&0.into(), &6.into()),
        "{summary}"
    );
    let said = summary["warnings"].to_string();
    assert_eq!(said.matches("is byte for byte").count(), 2, "{said}");
    assert_eq!(products(&root), (before.clone(), BTreeSet::new()));
    // Nor does one that broke off.
    for kind in ["_SKY_", "_SCI_"] {
        let frame = &frames(dir.path(), kind)[0];
        let bytes = std::fs::read(frame).expect("read");
        std::fs::write(root.join(format!("cut {}", name(frame))), &bytes[..bytes.len() / 2]).expect("cut");
    }
    let summary = reduce(dir.path(), &[]);
    assert_eq!(summary["counts"]["up_to_date"], 6, "{summary}");
    let said = summary["warnings"].to_string();
    assert_eq!(said.matches("cut short, of which the whole file counts").count(), 2, "{said}");
    assert_eq!(products(&root), (before, BTreeSet::new()));
}

/// Two nights begin with exposure 1: in one folder the second's images would take the place of
/// the first's.
#[test]
fn what_another_night_made_is_not_written_over() {
    let dir = night();
    let later = format!("seed: 9\nstart_jd: 2461116.6\n{NIGHT}");
    std::fs::write(dir.path().join("later.yaml"), later).expect("configuration");
    let (code, _, said) = irisgpu(dir.path(), &["simulate", "later.yaml", "made", "--force"]);
    assert_eq!(code, 0, "{said}");
    let (before, _) = products(&dir.path().join("night"));
    let data = |name: &String| std::fs::read(dir.path().join("night/reduced").join(name)).expect("product");
    let bytes: Vec<Vec<u8>> = before.iter().map(data).collect();
    let args = ["reduce", "made/night", "-o", "night/reduced", "--device", "cpu"];
    let (code, _, said) = irisgpu(dir.path(), &args);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        code == 1 && said.contains("of another night") && said.contains("another folder with -o"),
        "{said}"
    );
    assert!(before.iter().map(data).eq(bytes), "a product of the first night is another now");
}

#[test]
fn a_night_under_another_name_is_the_same_night() {
    let dir = night();
    std::fs::create_dir(dir.path().join("archive")).expect("folder");
    std::fs::rename(dir.path().join("night"), dir.path().join("archive/20320101")).expect("rename");
    let root = dir.path().join("archive/20320101");
    let entries = std::fs::read_dir(&root).expect("list").flatten().map(|e| e.path());
    let gone = entries.filter(|p| p.to_string_lossy().contains("_SCI_")).max().expect("a frame");
    let own = made_of(&root, &name(&gone));
    std::fs::remove_file(&gone).expect("remove");
    let args = ["reduce", "archive/20320101", "--device", "cpu", "--json", "--quiet"];
    let (code, out, said) = irisgpu(dir.path(), &args);
    assert_eq!(code, 0, "{said}");
    let summary: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&summary["counts"]["done"], own.len()), (&0.into(), 2), "{summary}");
    assert!(own.is_subset(&products(&root).1), "{summary}");
}

/// Where every frame was excluded there is nothing to reduce, and nothing of what was made of
/// them is the night's any more.
#[test]
fn the_products_of_a_night_of_which_every_frame_was_excluded_are_put_aside() {
    let dir = night();
    let root = dir.path().join("night");
    let (before, _) = products(&root);
    std::fs::write(root.join("night.yaml"), "exclude: [{files: '*.fits', because: shutter closed}]\n")
        .expect("night.yaml");
    // A look moves nothing.
    assert_eq!(irisgpu(dir.path(), &["reduce", "night", "--dry-run"]).0, 64);
    assert_eq!(products(&root).0, before);
    let (code, _, said) = irisgpu(dir.path(), &["reduce", "night", "--device", "cpu"]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("no raw FITS files") && said.contains("now in stale/"), "{said}");
    assert!(said.contains("shutter closed"), "{said}");
    let (own, stale) = products(&root);
    assert!(own.is_empty() && stale == before, "{own:?} stay");
    // The last run tells of no frame, and once more there is nothing to do at all.
    let last = std::fs::read_to_string(root.join("reduced/last-run.json")).expect("last-run.json");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(last["tasks"], Value::Array(Vec::new()), "{last}");
    let (code, _, said) = irisgpu(dir.path(), &["reduce", "night", "--device", "cpu"]);
    assert!(code == 64 && !said.contains("now in stale/"), "{said}");
    // Included again, all come back.
    std::fs::remove_file(root.join("night.yaml")).expect("remove");
    reduce(dir.path(), &[]);
    assert_eq!(products(&root), (before, BTreeSet::new()));
}
