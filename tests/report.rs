//! The night's report through the public command line, and in a real browser where one is
//! installed.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn done(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).current_dir(folder).env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT");
    let output = command.output().expect("run");
    assert!(output.status.code().is_some_and(|c| c <= 1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A night with images, cubes, masters, and a frame that fails.
fn night() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let root = dir.path();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for (name, to) in [("small-night", "a"), ("small-lenslets", "b")] {
        let config = data.join(format!("{name}.yaml"));
        done(root, &["simulate", config.to_str().expect("path"), to, "--quiet"]);
    }
    for folder in ["night", "night/refs"] {
        std::fs::create_dir_all(root.join("a").join(folder)).expect("folder");
        for entry in std::fs::read_dir(root.join("b").join(folder)).expect("list").flatten() {
            if entry.path().is_file() {
                let to = root.join("a").join(folder).join(entry.file_name());
                assert!(!to.exists(), "{}", to.display());
                std::fs::rename(entry.path(), to).expect("move");
            }
        }
    }
    std::fs::rename(root.join("a/night"), root.join("n")).expect("move");
    std::fs::write(root.join("n/broken.fits"), "SIMPLE  =                    T").expect("broken");
    done(root, &["reduce", "n", "--device", "cpu", "--report"]);
    dir
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("json")).expect("JSON")
}

#[test]
fn the_page_says_what_became_of_the_night() {
    let dir = night();
    let out = dir.path().join("n/reduced");
    let report = json(&out.join("report.json"));
    let rows = report["rows"].as_array().expect("rows");
    let of = |end: &str| -> Vec<&Value> {
        rows.iter().filter(|r| r["obsname"].as_str().is_some_and(|o| o.ends_with(end))).collect()
    };
    let science = of("-SCI");
    assert!(science.len() >= 4, "{report}");
    for row in &science {
        assert!(row["thumbnail"].as_str().is_some_and(|t| t.starts_with("data:image/png;base64,")), "{row}");
        assert!(row["numbers"]["background"].is_number(), "{row}");
    }
    assert!(rows.iter().any(|r| r["cube"]["size"].is_array()), "a cube");
    // The calibration of the lenslets knows how much spectra leak, and so do its cubes.
    let leaks: Vec<f64> = rows.iter().filter_map(|r| r["numbers"]["leak"].as_f64()).collect();
    let with_leak = |r: &&Value| r["reftype"] == "LENSPX" || r["cube"]["size"].is_array();
    assert!(rows.iter().filter(with_leak).all(|r| r["numbers"]["leak"].is_number()), "{report}");
    assert!(leaks.len() >= 2 && leaks.iter().all(|l| (0.0..0.1).contains(l)), "{leaks:?}");
    assert!(report["last_run"]["command"].as_str().is_some_and(|c| c.contains("reduce n")), "{report}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    assert!(page.contains("<th class=\"n\">Leak<small>%</small></th>"));
    assert!(page.contains("broken.fits") && page.contains("END card"), "what failed, and why");
    assert!(!page.contains("http://") && !page.contains("https://"));
    the_noise_is_held_against_what_is_expected(rows);
    one_channel_is_not_collapsed(&out, rows);
    what_is_no_light_has_no_stars(&out, rows);
    // Again: nothing is looked at anew, and the page is there.
    let said = done(dir.path(), &["report", "n"]);
    assert!(said.contains(", 0 looked at now"), "{said}");
    in_a_browser(&out, rows.len());
}

/// Darks, flat-fielded images and cubes have a ratio of 1; what shows the pixels' response has
/// none: flats, scans, and a master sky, which no flat was divided into.
fn the_noise_is_held_against_what_is_expected(rows: &[Value]) {
    for row in rows {
        let (obsname, reftype) = (row["obsname"].as_str().expect("obsname"), &row["reftype"]);
        let ratio = row["numbers"]["noise_ratio"].as_f64();
        let flat = obsname.starts_with("IMG1-S") && reftype == "";
        if obsname.ends_with("-DRK") || obsname == "LEN-SCI" || flat {
            assert!(ratio.is_some_and(|r| (0.8..1.2).contains(&r)), "{row:#}");
        } else {
            assert_eq!(ratio, None, "{row:#}");
        }
        // Lenslets do not resolve the telescope's pattern; without a star there is no depth.
        if row["cube"].is_object() {
            let number = |key: &str| row["numbers"][key].is_number();
            assert!(!number("strehl") && number("fwhm") == number("depth"), "{row:#}");
        }
    }
}

/// `quicklook` finds stars in light alone, says of flags which there are, and shows what
/// irisgpu writes: a LEN-SPX master, whose numbers are a lenslet's.
fn what_is_no_light_has_no_stars(out: &Path, rows: &[Value]) {
    let file = |what: &dyn Fn(&Value) -> bool| {
        rows.iter().find(|r| what(r)).and_then(|r| r["file"].as_str()).expect("a product").to_owned()
    };
    let look = |file: &str, more: &[&str]| -> (String, Value) {
        let args = [&["quicklook", file, "-o", "look.png"][..], more].concat();
        let json = done(out, &[&args[..], &["--json"]].concat());
        (done(out, &args), serde_json::from_str::<Value>(&json).expect("JSON")["files"][0].clone())
    };
    let lenspx = file(&|r| r["reftype"] == "LENSPX");
    let (_, json) = look(&lenspx, &[]);
    assert_eq!((&json["size"], &json["measured"]["stats"]["bad"]), (&serde_json::json!([5, 4]), &0.into()));
    let median = json["measured"]["stats"]["median"].as_f64();
    assert!(median.is_some_and(|m| (0.9..1.1).contains(&m)) && json["measured"]["stars"].is_null(), "{json}");
    let image = file(&|r| r["obsname"] == "IMG1-SCI");
    let (said, json) = look(&image, &[]);
    assert!(said.contains("a star of 5 sigma") && json["measured"]["stars"].is_number(), "{said}");
    for plane in ["ERR", "VAR_COMMON"] {
        let (said, json) = look(&image, &["--extension", plane]);
        assert!(!said.contains("star") && said.contains("clipped mean"), "{plane}: {said}");
        assert!(json["measured"]["stars"].is_null() && json["measured"]["depth"].is_null(), "{json}");
    }
    let (said, json) = look(&image, &["--extension", "DQ", "--region", "10,10,20,19"]);
    assert!(said.contains(" of 110 pixels with a flag") && !said.contains("sigma"), "{said}");
    assert!(json["measured"].is_null() && json["flags"]["pixels"] == 110, "{json}");
    let (said, json) = look(&image, &["--extension", "DQ"]);
    assert!(said.contains("DO_NOT_USE") && json["flags"]["of"]["DO_NOT_USE"].is_number(), "{said}");
    // What cannot be is refused, in words that say what is wanted.
    for (args, want) in [
        (&["--collapse", "sum"][..], "is no cube: leave it out"),
        (&["--line", "1,1,9,9", "--smooth", "2"], "cannot be used with '--smooth"),
        (&["--spectrum", "2,2", "--smooth", "2"], "cannot be used with '--smooth"),
        (&["--spectrum", "2,2", "--slice", "2"], "cannot be used with '--slice"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["quicklook", &image, "-o", "look.png"]).args(args).current_dir(out);
        let done = command.output().expect("run");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && said.contains(want), "{args:?}: {said}");
    }
}

/// `quicklook` of a cube's channel takes no `--collapse`.
fn one_channel_is_not_collapsed(out: &Path, rows: &[Value]) {
    let cube = rows.iter().find(|r| r["cube"]["size"].is_array()).expect("a cube");
    let file = cube["file"].as_str().expect("file");
    for (args, code) in [
        (&["--slice", "3", "--collapse", "median"][..], 2),
        (&["--channels", "1,3", "--collapse", "median"], 0),
        (&["--collapse", "median", "--spectrum", "2,2,1"], 0),
        (&["--slice", "3"], 0),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["quicklook", file, "-o", "look.png"]).args(args).current_dir(out);
        let done = command.output().expect("run");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(said.contains("--slice shows one channel"), code == 2, "{said}");
    }
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|p| names.map(|n| p.join(n))).find(|p| p.is_file())
}

/// Does in the page what a person does, and keeps what comes of it.
const PERSON: &str = r#"<script>
const said = { errors: window.faults, rows: document.querySelectorAll("table.sortable tbody tr").length };
const input = document.getElementById("filter");
input.value = "master dark";
input.dispatchEvent(new Event("input"));
said.filtered = document.querySelectorAll("table.sortable tbody tr:not([hidden])").length;
input.value = "";
input.dispatchEvent(new Event("input"));
const heads = [...document.querySelectorAll("table.sortable th")];
heads.find((h) => h.textContent.startsWith("Background")).click();
const values = [...document.querySelectorAll("table.sortable tbody tr")].map((r) => r.cells[heads.findIndex((h) => h.textContent.startsWith("Background"))].dataset.v).filter((v) => v !== undefined).map(Number);
said.sorted = values.every((v, i) => i === 0 || values[i - 1] <= v);
const canvas = document.querySelector(".cube canvas"), image = document.querySelector(".cube .white img");
const box = image.getBoundingClientRect();
const before = [canvas.dataset.spaxel, canvas.toDataURL()];
document.querySelector(".cube .white").dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 2, clientY: box.bottom - 2 }));
said.spaxel = canvas.dataset.spaxel;
said.moved = before[0] !== canvas.dataset.spaxel && before[1] !== canvas.toDataURL();
said.loaded = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).map((e) => e.name);
document.title = "SAID" + JSON.stringify(said) + "END";
</script></body>"#;

fn in_a_browser(out: &Path, rows: usize) {
    let Some(browser) = browser() else {
        println!("no chromium here: the page is not opened in a browser");
        return;
    };
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    let listening = "<head><script>window.faults = []; window.addEventListener('error', (e) => faults.push(e.message)); \
                     document.addEventListener('securitypolicyviolation', (e) => faults.push(e.blockedURI));</script>";
    let tried = page.replacen("<head>", listening, 1).replacen("</body>", PERSON, 1);
    let file = out.join("tried.html");
    std::fs::write(&file, tried).expect("write");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", out.join("profile").display()));
    let ran = command.arg(format!("file://{}", file.display())).output().expect("browser");
    let dom = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = dom.split_once("SAID").and_then(|(_, rest)| rest.split_once("END"));
    let said =
        said.unwrap_or_else(|| panic!("the page's script did not end: {}", &dom[..dom.len().min(2000)])).0;
    let said: Value =
        serde_json::from_str(&said.replace("&quot;", "\"").replace("&amp;", "&")).expect("JSON");
    assert_eq!(said["errors"], serde_json::json!([]), "{said}");
    assert_eq!(said["loaded"], serde_json::json!([]), "nothing is fetched: {said}");
    assert_eq!(said["rows"], rows, "{said}");
    let filtered = said["filtered"].as_u64().expect("number");
    assert!(filtered > 0 && filtered < rows as u64, "{said}");
    assert_eq!(
        (&said["sorted"], &said["moved"], &said["spaxel"]),
        (&true.into(), &true.into(), &"0,0".into()),
        "{said}"
    );
}
