//! `watch` on a small simulated night that is replayed into a folder, through the public
//! command line: in the end its products are those of `reduce`.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use irisgpu::fits::Fits;
use serde_json::Value;

const NIGHT: &str = "frame: [64, 64]
exposures:
  - {detector: IMG1, kind: DRK, count: 2, reads: 6}
  - {detector: IMG1, kind: NFF, count: 2, reads: 6}
  - {detector: IMG1, kind: SCI, count: 2, reads: 6}
  - {detector: IMG1, kind: SKY, count: 1, reads: 6}
  - {detector: IMG1, kind: SCI, count: 1, reads: 6}
";

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).current_dir(folder);
    command.env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT").env_remove("IRISGPU_FAULT");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code and everything said.
fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().expect("wait");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn irisgpu(folder: &Path, args: &[&str]) -> (i32, String) {
    ended(command(folder, args).spawn().expect("irisgpu"))
}

const WATCH: [&str; 13] = [
    "watch",
    "night",
    "--device",
    "cpu",
    "--settle",
    "0.3",
    "--poll",
    "0.1",
    "--quiet-time",
    "0.5",
    "--until-idle",
    "3",
    "--log-format",
];

fn watch(folder: &Path, more: &[&str]) -> Child {
    let args: Vec<&str> = WATCH.into_iter().chain(["json"]).chain(more.iter().copied()).collect();
    command(folder, &args).spawn().expect("irisgpu")
}

/// Simulates the night into `made/night`; its frames, in the order of their numbers.
fn simulate(folder: &Path) -> Vec<PathBuf> {
    std::fs::write(folder.join("night.cfg.yaml"), NIGHT).expect("configuration");
    let (code, said) = irisgpu(folder, &["simulate", "night.cfg.yaml", "made"]);
    assert_eq!(code, 0, "{said}");
    let made = folder.join("made/night");
    std::fs::create_dir_all(folder.join("night/refs")).expect("night");
    for entry in std::fs::read_dir(made.join("refs")).expect("refs").flatten() {
        std::fs::copy(entry.path(), folder.join("night/refs").join(entry.file_name())).expect("copy");
    }
    let mut frames: Vec<PathBuf> = fits(&made);
    frames.sort_by_key(|p| p.to_string_lossy().rsplit('_').next().map(str::to_owned));
    assert_eq!(frames.len(), 8);
    frames
}

fn fits(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("list").flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "fits")).collect();
    files.sort();
    files
}

/// A frame appears whole, by a rename.
fn put(folder: &Path, frame: &Path) {
    let name = frame.file_name().expect("name");
    let part = folder.join("night").join(format!(".{}", name.to_string_lossy()));
    std::fs::copy(frame, &part).expect("copy");
    std::fs::rename(part, folder.join("night").join(name)).expect("rename");
}

fn status(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("night/reduced/irisgpu-status.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits until the status is as it should be.
fn until(folder: &Path, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let status = status(folder);
        if so(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn count(status: &Value, state: &str) -> u64 {
    status["counts"][state].as_u64().unwrap_or(0)
}

/// The data of every HDU of the products in a folder, and the primary keywords that do
/// not tell when they were made.
fn products(folder: &Path) -> BTreeMap<String, (Vec<Vec<u8>>, Vec<String>)> {
    let all = fits(folder).into_iter().chain(fits(&folder.join("masters")));
    all.map(|path| {
        let fits = Fits::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let data = fits.hdus.iter().map(|h| {
            let mut bytes = vec![0; h.data_len as usize];
            fits.read_raw(h, 0, &mut bytes).expect("data");
            bytes
        });
        // IGNIGHT tells where the products lie, too.
        let of_its_making = ["DATE", "DATECRT", "CHECKSUM", "DATASUM", "IGPLAN", "IGNIGHT"];
        let cards = fits.primary().cards().iter().filter(|c| !of_its_making.contains(&c.keyword.as_str()));
        let cards = cards.filter(|c| c.keyword != "HISTORY").map(|c| format!("{} {}", c.keyword, c.text()));
        (path.file_name().expect("name").to_string_lossy().into_owned(), (data.collect(), cards.collect()))
    })
    .collect()
}

fn is_marked(path: &Path) -> bool {
    Fits::open(path).unwrap_or_else(|e| panic!("{e}")).primary().logical("IGPRELIM") == Some(true)
}

#[test]
fn a_night_that_comes_frame_by_frame_ends_as_reduce_would_have_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    let [d1, d2, f1, f2, s1, s2, k1, s3] = frames.as_slice() else { panic!("eight frames") };
    // Science before any calibration: it waits, and says for what.
    let child = watch(folder, &[]);
    until(folder, "watching", |s| s["state"] == "watching");
    put(folder, s1);
    let waiting = until(folder, "waiting", |s| count(s, "waiting") == 1);
    let why = waiting["exposures"][0]["why"].as_str().expect("why");
    assert!(why.contains("dark_sub needs a dark"), "{why}");
    // Calibrations out of order; a frame that grows; a second science frame.
    [f1, d2, s2].into_iter().for_each(|f| put(folder, f));
    let bytes = std::fs::read(d1).expect("read");
    let growing = folder.join("night").join(d1.file_name().expect("name"));
    std::fs::write(&growing, &bytes[..bytes.len() / 2]).expect("half");
    until(folder, "arriving", |s| count(s, "arriving") == 1 && count(s, "preliminary") == 2);
    let product =
        fits(&folder.join("night/reduced")).into_iter().find(|p| p.to_string_lossy().contains("_SCI_LVL2_"));
    let product = product.expect("a product");
    assert!(is_marked(&product));
    // A product that somebody removes is made again.
    std::fs::remove_file(&product).expect("remove");
    until(folder, "made again", |_| product.is_file());
    std::fs::write(&growing, &bytes).expect("whole");
    // A sky after the science, a late flat, a duplicate.
    [k1, f2, s3, s2].into_iter().for_each(|f| put(folder, f));
    let cut = std::fs::read(f2).expect("read");
    std::fs::write(folder.join("night/cut.fits"), &cut[..1000]).expect("a header that is cut");
    let (code, said) = ended(child);
    // The file that never became whole is the only failure.
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cut.fits") && said.contains("1 failed"), "{said}");
    assert!(said.contains("From a whole file to its product: median"), "{said}");
    assert!(!is_marked(&product));
    let last = status(folder);
    assert_eq!(
        (last["state"].as_str(), count(&last, "failed"), count(&last, "done")),
        (Some("stopped"), 1, 6)
    );
    assert_eq!(last["latency"]["exposures"], 2, "{last:#}");
    assert_eq!(last["latency"]["waited_for_calibration"], 1, "{last:#}");
    let log = std::fs::read_to_string(folder.join("night/reduced/irisgpu.log")).expect("log");
    let events: Vec<Value> =
        log.lines().map(|l| serde_json::from_str(l).expect("a line is an object")).collect();
    let measured = events.iter().filter(|e| e["latency"].as_f64().is_some_and(|s| s < 60.0)).count();
    assert!(measured >= 3, "{log}");
    // The same night by `reduce`, and nothing is left to be done where it was watched.
    let (_, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu"]);
    assert!(said.contains("0 done, 6 up to date"), "{said}");
    let (_, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu", "-o", "again"]);
    assert!(said.contains("6 done, 1 failed"), "{said}");
    let (watched, reduced) = (products(&folder.join("night/reduced")), products(&folder.join("again")));
    // A master that was made before its first frame came was called after another one, and
    // is put aside.
    let more: Vec<&String> = watched.keys().filter(|name| !reduced.contains_key(*name)).collect();
    assert!(more.is_empty(), "{more:?}");
    let stale = fits(&folder.join("night/reduced/stale/masters"));
    assert!(stale.iter().all(|p| {
        let name = p.to_string_lossy().into_owned();
        name.contains("_DARK_") || name.contains("_FLAT_")
    }));
    assert!(reduced.len() >= 6);
    for (name, (data, cards)) in &reduced {
        let watched = watched.get(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert!(*data == watched.0, "{name}: other data");
        assert_eq!(*cards, watched.1, "{name}");
    }
}

/// A watch that does not end by itself, with a PATH of its own.
#[cfg(unix)]
fn endless(folder: &Path, more: &[&str], path: &std::ffi::OsStr) -> Child {
    let args =
        ["watch", "night", "--device", "cpu", "--settle", "0.3", "--poll", "0.1", "--quiet-time", "0.5"];
    let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).collect();
    command(folder, &args).env("PATH", path).spawn().expect("irisgpu")
}

/// SIGINT, by the shell's own `kill`: a bare system has no program of that name.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let line = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("sh").success());
}

/// Stops a watch as Ctrl-C does; exit code and everything said.
#[cfg(unix)]
fn stopped(child: Child) -> (i32, String) {
    interrupt(&child);
    ended(child)
}

/// Waits until a file says so.
#[cfg(unix)]
fn says(path: &Path, what: &str) -> String {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.contains(what) {
            return text;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "'{what}' in {}:\n{text}", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(unix)]
#[test]
fn the_page_follows_the_night_and_ds9_the_newest_product() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    // A DS9 that writes down what it is told.
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("bin");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\n", folder.join("told").display());
    std::fs::write(bin.join("xpaset"), script).expect("xpaset");
    std::fs::set_permissions(bin.join("xpaset"), std::fs::Permissions::from_mode(0o755)).expect("mode");
    put(folder, &frames[4]);
    let child = endless(folder, &["--ds9"], bin.as_os_str());
    let (page, run) = (folder.join("night/reduced/report.html"), folder.join("night/reduced/last-run.json"));
    // What waits is on the page, which loads itself again; then the newest is.
    let text = says(&page, "dark_sub needs a dark");
    assert!(text.contains("http-equiv=\"refresh\"") && text.contains("<td>waiting</td>"), "{text}");
    frames[..4].iter().for_each(|f| put(folder, f));
    let text = says(&page, "id=\"newest\"");
    assert!(text.contains("_SCI_LVL2_") && text.contains("http-equiv=\"refresh\""), "{text}");
    let said: Value = serde_json::from_str(&says(&run, "_SCI_LVL2_")).expect("JSON");
    let tasks = said["tasks"].as_array().expect("tasks");
    let science = tasks.iter().find(|t| t["obsname"] == "IMG1-SCI").expect("science");
    assert!(science["seconds"].as_f64().is_some_and(|s| s > 0.0), "{said:#}");
    let told = says(&folder.join("told"), "scale mode zscale");
    assert!(told.starts_with("-p ds9 fits {") && told.contains("_SCI_LVL2_"), "{told}");
    // How long a product took to come is known of what came while it was watched.
    put(folder, &frames[5]);
    says(&page, "from a whole file to its product, median");
    let before = said["tasks"].clone();
    let (code, said) = stopped(child);
    assert_eq!(code, 130, "{said}");
    let text = std::fs::read_to_string(&page).expect("page");
    assert!(!text.contains("http-equiv=\"refresh\"") && !text.contains("id=\"newest\""), "{text}");
    // What a task that was left alone took is still known.
    let after: Value = serde_json::from_str(&std::fs::read_to_string(&run).expect("run")).expect("JSON");
    let seconds = |tasks: &Value| -> Vec<Option<f64>> {
        tasks.as_array().into_iter().flatten().map(|t| t["seconds"].as_f64()).collect()
    };
    assert!(seconds(&before).iter().all(|s| seconds(&after["tasks"]).contains(s)), "{before:#} {after:#}");
    // Without xpaset: a warning, and the night goes on.
    let child = endless(folder, &["--ds9"], folder.join("no").as_os_str());
    until(folder, "watching", |s| s["state"] == "watching");
    let (_, said) = stopped(child);
    assert!(said.contains("xpaset is not in PATH") && said.contains("products are not shown"), "{said}");
}

#[cfg(unix)]
#[test]
fn what_breaks_fails_alone_with_a_sentence_and_is_mended() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let child = endless(folder, &[], &path);
    frames[..4].iter().for_each(|f| put(folder, f));
    until(folder, "masters", |s| count(s, "done") == 2);
    // A folder stands where the product shall be; the other exposure goes on.
    let products = folder.join("night/reduced");
    let product = |frame: &Path| {
        let name = frame.file_name().expect("name").to_string_lossy().replace("_LVL0_", "_LVL2_");
        products.join(name)
    };
    let taken = product(&frames[4]);
    std::fs::create_dir(&taken).expect("folder");
    frames[4..6].iter().for_each(|f| put(folder, f));
    let status = until(folder, "one of two", |s| count(s, "failed") == 1 && count(s, "preliminary") == 1);
    let rows = status["exposures"].as_array().expect("rows");
    let why = rows.iter().find(|r| r["state"] == "failed").expect("failed")["why"].as_str().expect("why");
    assert!(why.contains(taken.file_name().expect("name").to_string_lossy().as_ref()), "{why}");
    // The page has the sentence.
    let page = says(&products.join("report.html"), "<td>failed</td>");
    assert!(page.contains("What was not done, and why"), "{page}");
    // A frame that is cut after it was taken: planned again as it is then.
    let raw = folder.join("night").join(frames[6].file_name().expect("name"));
    put(folder, &frames[6]);
    until(folder, "sky", |s| s["exposures"].as_array().is_some_and(|r| r.len() == 5));
    std::fs::remove_file(&raw).expect("remove");
    until(folder, "gone", |s| s["exposures"].as_array().is_some_and(|r| r.len() == 4));
    let (code, said) = stopped(child);
    assert_eq!(code, 130, "{said}");
    // The next run mends it.
    std::fs::remove_dir(&taken).expect("remove");
    let (code, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu"]);
    assert!(code == 0 && said.contains("0 failed"), "{said}");
    assert!(taken.is_file());
    let page = std::fs::read_to_string(products.join("last-run.json")).expect("run");
    assert!(!page.contains("\"failed\""), "{page}");
}

/// No file may be longer than so many bytes: what a full disk is like, at no cost.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_its_exposure_and_the_next_run_mends_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    frames[..6].iter().for_each(|f| put(folder, f));
    let args = ["watch", "night", "--device", "cpu", "--settle", "0", "--poll", "0.1", "--quiet-time", "0"];
    let full = |size: &str| {
        let mut run = Command::new("sh");
        // The signal that the limit sends is not what a disk does: it is left alone.
        run.args(["-c", &format!("trap '' XFSZ; ulimit -f {size}; exec \"$@\"")]);
        run.arg("sh").arg(env!("CARGO_BIN_EXE_irisgpu")).args(args).args(["--until-idle", "0.5"]);
        run.current_dir(folder).env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT");
        ended(run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh"))
    };
    let (code, said) = full("16");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("File too large") && said.contains("4 failed"), "{said}");
    for part in ["needs 'dark", "cannot write"] {
        assert!(said.contains(part), "'{part}' in {said}");
    }
    // Nothing half-written has its final name, and nothing is left over.
    let left = fits(&folder.join("night/reduced"));
    assert!(left.is_empty(), "{left:?}");
    let (code, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu"]);
    assert!(code == 0 && said.contains("4 done, 0 failed"), "{said}");
    let mut left = std::fs::read_dir(folder.join("night/reduced")).expect("list").flatten();
    assert!(!left.any(|e| e.path().to_string_lossy().ends_with(".part")));
}

#[cfg(unix)]
#[test]
fn a_watch_that_is_stopped_is_taken_up_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    frames[..5].iter().for_each(|f| put(folder, f));
    let child = watch(folder, &[]);
    until(folder, "first", |s| count(s, "preliminary") == 1);
    // A second one is refused while the first is there; a folder that vanishes is waited for.
    let (code, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu", "--force"]);
    assert!(code == 2 && said.contains("another irisgpu"), "{said}");
    let (code, said) = stopped(child);
    assert_eq!(code, 130, "{said}");
    assert_eq!(status(folder)["state"], "stopped");
    // As planned, and so final: also for who does a line of a plan, and no other.
    let science: Vec<PathBuf> = fits(&folder.join("night/reduced"));
    assert!(science.iter().any(|p| is_marked(p)));
    let (code, said) = irisgpu(folder, &["plan", "night", "--save", "plan.jsonl"]);
    assert_eq!(code, 0, "{said}");
    for (only, marked) in [("1", true), ("3", false)] {
        let (code, said) = irisgpu(folder, &["reduce", "--plan", "plan.jsonl", "--only", only]);
        assert!(code == 0 && said.contains("1 up to date"), "{said}");
        assert_eq!(science.iter().any(|p| is_marked(p)), marked, "{only}");
    }
    frames[5..].iter().for_each(|f| put(folder, f));
    let child = watch(folder, &["--quick"]);
    let (code, said) = ended(child);
    assert_eq!(code, 0, "{said}");
    // Quick products stay marked until they are made in full.
    let science: Vec<PathBuf> = fits(&folder.join("night/reduced"));
    assert!(science.iter().filter(|p| p.to_string_lossy().contains("SCI_LVL2")).all(|p| is_marked(p)));
    let (code, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu"]);
    assert!(code == 0 && said.contains("3 done, 3 up to date"), "{said}");
    assert!(fits(&folder.join("night/reduced")).iter().all(|p| !is_marked(p)));
}

#[test]
fn a_night_that_vanishes_is_waited_for() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    let (night, away) = (folder.join("night"), folder.join("away"));
    frames[..4].iter().for_each(|f| put(folder, f));
    let child = watch(folder, &["-o", "out"]);
    let status = || {
        let text = std::fs::read_to_string(folder.join("out/irisgpu-status.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()
    };
    let wait = |what: &str, so: &dyn Fn(&Value) -> bool| {
        let start = Instant::now();
        while !so(&status()) {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:#}", status());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("masters", &|s| count(s, "done") == 2);
    std::fs::rename(&night, &away).expect("away");
    wait("gone", &|s| {
        s["state"] == "unreachable" && s["why"].as_str().is_some_and(|w| w.contains("no such folder"))
    });
    // Longer than it would wait for a frame.
    std::thread::sleep(Duration::from_secs(4));
    std::fs::rename(&away, &night).expect("back");
    frames[4..].iter().for_each(|f| put(folder, f));
    let (code, said) = ended(child);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("waiting until that is mended") && said.contains("can be read and planned again"),
        "{said}"
    );
    assert!(said.contains("0 failed"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_folder_of_products_that_vanishes_is_waited_for_and_one_in_its_place_is_filled() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    frames[..4].iter().for_each(|f| put(folder, f));
    let child = watch(folder, &["-o", "out"]);
    let out = folder.join("out");
    let state = out.join("irisgpu-status.json");
    let masters = || std::fs::read_dir(out.join("masters")).into_iter().flatten().count();
    let wait = |what: &str, so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    says(&state, "\"done\": 2");
    std::fs::rename(&out, folder.join("away")).expect("away");
    // Longer than it would wait for a frame; nobody makes the folder.
    std::thread::sleep(Duration::from_secs(4));
    assert!(!out.exists());
    std::fs::create_dir(&out).expect("another folder");
    wait("masters", &|| masters() == 2);
    let (code, said) = irisgpu(folder, &["reduce", "night", "-o", "out", "--device", "cpu"]);
    assert!(code == 2 && said.contains("another irisgpu"), "{said}");
    frames[4..].iter().for_each(|f| put(folder, f));
    let (code, said) = ended(child);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("is gone") && said.contains("another folder than before"), "{said}");
    assert!(said.contains("0 failed") && out.join("irisgpu.log").is_file(), "{said}");
}

#[test]
fn what_cannot_be_watched_is_a_sentence_before_the_night() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    std::fs::create_dir(folder.join("night")).expect("night");
    std::fs::write(folder.join("file"), "").expect("file");
    for (args, code, part) in [
        (&["watch", "none"][..], 2, "no such folder"),
        (&["watch", "file"], 2, "is a file"),
        (&["watch", "night", "-o", "file/out", "--device", "cpu"], 2, "cannot write in"),
        (&["watch", "night", "--device", "no such"], 3, "no device 'no such'"),
        (&["watch", "night", "--poll=-1"], 2, "seconds"),
        (&["watch", "night", "--poll=0"], 2, "from 0.05"),
        (
            &["watch", "night", "--until-idle", "0", "--settle", "0", "--poll", "0.1", "--device", "cpu"],
            64,
            "no raw FITS",
        ),
    ] {
        let (got, said) = irisgpu(folder, args);
        assert!(got == code && said.contains(part), "{args:?}: {got} {said}");
    }
}

#[test]
fn a_device_that_fails_is_opened_again_and_then_left() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    frames[..5].iter().for_each(|f| put(folder, f));
    let (code, said) = irisgpu(folder, &["reduce", "night", "--device", "cpu", "-o", "sound"]);
    assert_eq!(code, 0, "{said}");
    // The CPU that takes over cannot be lost in its turn.
    for (fault, part) in [
        ("device-lost@3", "it was opened again"),
        ("device-lost@3,4", "was computed on the CPU"),
        ("device-lost@3,4,5", "was computed on the CPU"),
    ] {
        let output = format!("out-{}", fault.len());
        let mut run = command(folder, &["reduce", "night", "--device", "cpu", "-o", &output]);
        let (code, said) = ended(run.env("IRISGPU_FAULT", fault).spawn().expect("irisgpu"));
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(part), "{said}");
        let (sound, faulty) = (products(&folder.join("sound")), products(&folder.join(&output)));
        assert!(sound.keys().eq(faulty.keys()));
        assert!(sound.iter().all(|(name, (data, _))| *data == faulty[name].0), "{fault}");
        let told = |p: &PathBuf| {
            let fits = Fits::open(p).unwrap_or_else(|e| panic!("{e}"));
            fits.primary().cards().iter().any(|c| c.keyword == "HISTORY" && c.comment.contains("was lost"))
        };
        let all = [fits(&folder.join(&output)), fits(&folder.join(&output).join("masters"))].concat();
        assert!(all.iter().any(told) && !all.iter().all(told), "{fault}");
    }
    let mut run = command(folder, &["reduce", "night", "--device", "cpu", "--force"]);
    let (code, said) = ended(run.env("IRISGPU_FAULT", "fire").spawn().expect("irisgpu"));
    assert!(code == 2 && said.contains("IRISGPU_FAULT=fire"), "{said}");
}

#[cfg(unix)]
#[test]
fn what_is_excluded_while_it_is_watched_is_put_aside_and_comes_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    frames[..6].iter().for_each(|f| put(folder, f));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let child = endless(folder, &[], &path);
    until(folder, "two", |s| count(s, "preliminary") == 2 && s["state"] == "watching");
    let out = folder.join("night/reduced");
    let images = || -> Vec<PathBuf> {
        fits(&out).into_iter().filter(|p| p.to_string_lossy().contains("_SCI_LVL2_")).collect()
    };
    says(&out.join("report.html"), "IMG1-SCI, preliminary");
    let before = images();
    let bad = frames[5].file_name().expect("name").to_string_lossy().into_owned();
    let notes = folder.join("night/night.yaml");
    std::fs::write(&notes, format!("exclude: [{{files: {bad}, because: clouds}}]")).expect("night.yaml");
    let log = says(&out.join("irisgpu.log"), "is in stale/ now");
    assert!(log.contains(&format!("of {bad}: night.yaml leaves it out (clouds)")), "{log}");
    until(folder, "one", |_| images().len() == 1);
    let page = says(&out.join("report.html"), "in the folder stale");
    assert!(page.contains("http-equiv=\"refresh\""));
    std::fs::remove_file(&notes).expect("remove");
    until(folder, "two again", |_| images() == before);
    // What the plan cannot see any more is not called up to date: night.yaml is wrong, and
    // a product is gone.
    std::fs::write(&notes, "exclude: 3").expect("night.yaml");
    until(folder, "unreachable", |s| s["state"] == "unreachable");
    std::fs::remove_file(&before[0]).expect("remove");
    let (code, said) = stopped(child);
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("3 up to date") && said.contains("1 not run"), "{said}");
    assert!(said.contains("Warnings:") && said.contains("night.yaml"), "{said}");
}

/// A frame that was broken off: after the last pass, which takes the reads that are whole, it
/// stands in the status file once, with what became of it.
#[test]
fn a_frame_that_was_cut_is_listed_once_with_what_became_of_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path();
    let frames = simulate(folder);
    let (cut, whole) = frames.split_last().expect("frames");
    whole.iter().for_each(|f| put(folder, f));
    let bytes = std::fs::read(cut).expect("read");
    let name = cut.file_name().expect("name").to_string_lossy().into_owned();
    let short = bytes.len() * 7 / 10;
    std::fs::write(folder.join("night").join(&name), &bytes[..short]).expect("cut");
    let (code, said) = ended(watch(folder, &[]));
    assert_eq!(code, 0, "{said}");
    let last = status(folder);
    let rows: Vec<&Value> = last["exposures"].as_array().expect("rows").iter().collect();
    let own: Vec<&&Value> = rows.iter().filter(|r| r["name"] == name.as_str()).collect();
    assert_eq!((own.len(), count(&last, "arriving")), (1, 0), "{last:#}");
    assert_eq!((&own[0]["state"], own[0]["missing_bytes"].is_u64()), (&"done".into(), true), "{last:#}");
    let why = own[0]["why"].as_str().expect("why");
    assert!(
        why.starts_with(&format!("{name} is not whole")) && why.ends_with("taken as far as it goes"),
        "{why}"
    );
    assert!(rows.iter().all(|r| r["name"] == name.as_str() || r["missing_bytes"].is_null()), "{last:#}");
}
