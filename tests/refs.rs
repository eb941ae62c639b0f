//! References by CRDS, through the command line: a cache on disk, plans, products,
//! what is wrong with a cache, and mappings that mean harm.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};
use serde_json::{Value, json};

/// A cache with one context, in a folder that goes with it.
struct Cache {
    dir: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
}

impl Cache {
    /// `rules`: selector and parkey by reference type.
    fn new(rules: &[(&str, &str, &str)]) -> Cache {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().to_str().expect("UTF-8").to_owned();
        let cache = Cache { dir, env: vec![("CRDS_PATH", path), ("CRDS_OBSERVATORY", "ligeriri".into())] };
        cache.map("ligeriri_0001.pmap", "PIPELINE", "('META.INSTRUMENT.NAME',)", "{'IRIS': 'iris.imap'}");
        let types: String =
            rules.iter().map(|(t, ..)| format!("'{}': 'iris_{t}.rmap',\n", t.to_uppercase())).collect();
        let types = format!("{{{types}'IPC': 'N/A'}}");
        cache.map("iris.imap", "INSTRUMENT", "('META.EXPOSURE.IMTYPE',)", &types);
        for (reftype, parkey, selector) in rules {
            cache.map(&format!("iris_{reftype}.rmap"), "REFERENCE", parkey, selector);
        }
        cache.config("server_config", "{'operational_context': 'ligeriri_0001.pmap', 'status': ['a', 1]}");
        cache
    }

    fn place(&self, folder: &str, name: &str) -> PathBuf {
        let folder = self.dir.path().join(folder).join("ligeriri");
        std::fs::create_dir_all(&folder).expect("folder");
        folder.join(name)
    }

    fn config(&self, name: &str, text: &str) {
        std::fs::write(self.place("config", name), text).expect("config");
    }

    /// A mapping with the right checksum.
    fn map(&self, name: &str, kind: &str, parkey: &str, selector: &str) {
        let reftype = name.trim_start_matches("iris_").trim_end_matches(".rmap");
        let head = format!(
            "header = {{\n    'mapping': '{kind}',\n    'name': '{name}',\n    'derived_from': 'by hand',\n    \
             'observatory': 'LIGERIRI',\n    'instrument': 'IRIS',\n    'filekind': '{reftype}',\n    'parkey': \
             {parkey},\n"
        );
        let tail = format!("}}\n\nselector = {selector}\n");
        let sum = sha1_smol::Sha1::from(format!("{head}{tail}")).digest().to_string();
        let text = format!("{head}    'sha1sum': '{sum}',\n{tail}");
        std::fs::write(self.place("mappings", name), text).expect("mapping");
    }

    fn reference(&self, name: &str, reftype: &str, value: f32) -> PathBuf {
        let mut h = Header::new();
        h.set("REFTYPE", reftype, "");
        h.set("DETECTOR", "IMG1", "");
        h.set("BUNIT", if reftype == "dark" { "electron s-1" } else { "1" }, "");
        let path = self.place("references", name);
        write(&path, &h, value);
        path
    }

    fn irisgpu(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("irisgpu").expect("binary");
        ["CRDS_PATH", "CRDS_CONTEXT", "CRDS_OBSERVATORY", "CRDS_SERVER_URL"].iter().for_each(|v| {
            command.env_remove(v);
        });
        let output = command.envs(self.env.iter().cloned()).args(args).output().expect("run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn json(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.irisgpu(args);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).expect("JSON")
    }
}

fn write(path: &Path, header: &Header, value: f32) {
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", header).expect("primary");
    w.image("DATA", &Header::new(), &[4, 5], Pixels::F32(&[value; 20])).expect("data");
    w.finish().expect("finish");
}

/// A rate of level 1, in the cache's own folder.
fn rate(cache: &Cache, more: &[(&str, &str)]) -> String {
    let mut h = Header::new();
    for (key, value) in [
        ("INSTRUME", "IRIS"),
        ("OBSNAME", "IMG1-SCI"),
        ("DETECTOR", "IMG1"),
        ("INSTERA", "0.0.0"),
        ("FILTER", "K"),
        ("READMODE", "UTR"),
        ("EXPDTST", "20320102060000"),
        ("BUNIT", "electron s-1"),
    ]
    .iter()
    .chain(more)
    {
        h.set(key, *value, "");
    }
    h.set("DATALVL", 1i64, "");
    h.set("EXPTIME", 60.0, "");
    let path = cache.dir.path().join("x.fits");
    write(&path, &h, 10.0);
    path.to_str().expect("UTF-8").to_owned()
}

const DARK: (&str, &str, &str) = (
    "dark",
    "(('META.INSTRUMENT.ERA', 'META.INSTRUMENT.DETECTOR', 'META.EXPOSURE.READMODE'), ('META.DATE',))",
    "Match({\n ('0.0.0', 'IMG1', 'UTR|MCDS'): ClosestTime({\n  '2031-12-01 00:00:00': 'far.fits',\n  '2032-01-03 \
     00:00:00': 'near.fits',\n }),\n})",
);
const FLAT: (&str, &str, &str) = (
    "flat",
    "(('META.INSTRUMENT.DETECTOR', 'META.INSTRUMENT.FILTER'), ('META.DATE',))",
    "Match({\n ('IMG1', 'K'): UseAfter({\n  '2030-01-01 00:00:00': 'old.fits',\n  '2032-01-01 00:00:00': \
     'flat.fits',\n  '2033-01-01 00:00:00': 'future.fits',\n }),\n ('IMG1', 'H'): 'N/A',\n ('IMG1', 'N/A'): \
     UseAfter({'2000-01-01 00:00:00': 'any.fits'}),\n})",
);
const NONLIN: (&str, &str, &str) =
    ("nonlincoeff", "(('META.INSTRUMENT.DETECTOR',),)", "Match({'IMG1': 'nonlin.fits'})");

#[test]
fn a_run_takes_what_crds_names_and_says_so_in_the_product() {
    let cache = Cache::new(&[DARK, FLAT, NONLIN]);
    cache.reference("near.fits", "dark", 4.0);
    let flat = cache.reference("flat.fits", "flat", 2.0);
    let file = rate(&cache, &[]);
    let out = cache.dir.path().join("out");
    let out_text = out.to_str().expect("UTF-8");
    let args = ["run", "imager", &file, "-o", out_text, "--device", "cpu", "--steps.background.skip=true"];
    let (code, _, err) = cache.irisgpu(&args);
    assert_eq!(code, 0, "{err}");
    let product = std::fs::read_dir(&out)
        .expect("out")
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "fits"))
        .expect("a product");
    let product = Fits::open(&product).expect("product");
    let data = product.f32(product.hdu("DATA").expect("DATA")).expect("pixels");
    assert!(data.iter().all(|v| (v - 3.0).abs() < 1e-5), "(10 - 4) / 2: {data:?}");
    let h = product.primary();
    assert_eq!(h.text("CRDS_CTX").as_deref(), Some("ligeriri_0001.pmap"));
    assert_eq!(h.text("R_DARK").as_deref(), Some("near.fits"));
    assert_eq!(h.text("R_FLAT").as_deref(), Some("flat.fits"));
    assert_eq!(h.text("C_FLAT").map(|c| c.len()), Some(16));
    // A folder's own file comes first, an override before it; without CRDS there is no dark.
    let refs = cache.dir.path().join("refs");
    std::fs::create_dir(&refs).expect("refs");
    let mut own = Header::new();
    [("REFTYPE", "flat"), ("DETECTOR", "IMG1"), ("FILTER", "K")].iter().for_each(|(k, v)| own.set(k, *v, ""));
    write(&refs.join("own.fits"), &own, 1.0);
    let best = cache.json(&["refs", "best", &file, "--json"]);
    let of = |best: &Value, reftype: &str| {
        let all = best["references"].as_array().expect("references").clone();
        all.into_iter().find(|r| r["reftype"] == reftype).expect("a type")
    };
    assert!(of(&best, "flat")["file"].as_str().expect("file").ends_with("refs/own.fits"));
    assert_eq!(of(&best, "dark")["reason"], "CRDS ligeriri_0001.pmap, iris_dark.rmap");
    assert_eq!(best["best"]["flat"], "flat.fits", "what CRDS by itself says");
    let over = format!("--override_flat={}", flat.display());
    let best = cache.json(&["refs", "best", &file, "--json", "--reftype", "flat", &over]);
    assert!(of(&best, "flat")["file"].as_str().expect("file").ends_with("references/ligeriri/flat.fits"));
    let (code, out, _) = cache.irisgpu(&[&args[..], &["--context", "none"]].concat());
    assert!(code == 1 && out.contains("dark_sub needs a dark"), "{out}");
}

#[test]
fn what_crds_cannot_give_is_said_with_the_keyword_and_the_file() {
    let cache = Cache::new(&[DARK, FLAT, NONLIN]);
    let run = |more: &[(&str, &str)]| {
        let file = rate(&cache, more);
        let out = cache.dir.path().join("out");
        let (_, out, _) =
            cache.irisgpu(&["run", "imager", &file, "-o", out.to_str().expect("UTF-8"), "--device", "cpu"]);
        out
    };
    let said = run(&[("INSTERA", "9.9.9")]);
    for part in [
        "CRDS ligeriri_0001.pmap",
        "value='9.9.9' is not in ['0.0.0']",
        "META.INSTRUMENT.ERA is INSTERA",
        "dark_sub needs a dark",
    ] {
        assert!(said.contains(part), "'{part}' in\n{said}");
    }
    assert!(run(&[]).contains("near.fits is not in the cache, and irisgpu fetches nothing"));
    std::fs::write(
        cache.place("references", "near.fits"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    )
    .expect("pointer");
    assert!(run(&[]).contains("near.fits is a git-LFS pointer"));
    // A layout of one folder an instrument.
    std::fs::remove_file(cache.place("references", "near.fits")).expect("remove");
    cache.config("ref_cache_subdir_mode", "instrument\n");
    assert!(run(&[]).contains("references/ligeriri/iris/near.fits is not in the cache"));
    let deep = cache.reference("near.fits", "dark", 4.0);
    std::fs::create_dir(deep.with_file_name("iris")).expect("folder");
    std::fs::rename(&deep, deep.with_file_name("iris").join("near.fits")).expect("move");
    // N/A for filter H: the step is skipped, and nothing is missing.
    let file = rate(&cache, &[("FILTER", "H")]);
    let best = cache.json(&["refs", "best", &file, "--json"]);
    assert_eq!(best["best"]["flat"], "NOT FOUND n/a");
    let out = cache.dir.path().join("skipped");
    let args = ["run", "imager", &file, "-o", out.to_str().expect("UTF-8"), "--device", "cpu"];
    let (code, said, err) = cache.irisgpu(&args);
    assert_eq!(code, 0, "{said}{err}");
    let product = std::fs::read_dir(&out)
        .expect("out")
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "fits"));
    let h = Fits::open(&product.expect("a product")).expect("product").primary().clone();
    assert_eq!(h.text("S_FLAT").as_deref(), Some("SKIPPED"));
    assert_eq!(h.text("S_DARK").as_deref(), Some("COMPLETE"));
}

#[test]
fn explain_says_why_each_candidate_lost() {
    let cache = Cache::new(&[DARK, FLAT, NONLIN]);
    cache.reference("flat.fits", "flat", 1.0);
    let file = rate(&cache, &[]);
    let (code, out, err) = cache.irisgpu(&["refs", "explain", &file, "flat"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "superseded by the one from 2032-01-01 00:00:00 on",
        "only from 2033-01-01 00:00:00 on; this is 2032-01-02 06:00:00",
        "does not fit META.INSTRUMENT.FILTER = 'K'",
        "1 of its keys match; 2 of the chosen one's",
        "CRDS iris_flat.rmap: flat.fits",
    ] {
        assert!(out.contains(part), "'{part}' in\n{out}");
    }
    let chosen: Vec<&str> = out.lines().filter(|l| l.starts_with('*')).collect();
    assert!(chosen.len() == 1 && chosen[0].contains("flat.fits"), "{out}");
    let dark = cache.json(&["refs", "explain", &file, "dark", "--json"]);
    assert!(dark["candidates"].to_string().contains("32.2 d away; another is nearer in time"), "{dark}");
    // The local files, by the rules of folders.
    let refs = cache.dir.path().join("refs");
    std::fs::create_dir(&refs).expect("refs");
    for (name, filter, date) in [
        ("a.fits", "K", "20320101"),
        ("b.fits", "K", "20320102"),
        ("c.fits", "K", "20320102"),
        ("d.fits", "H", ""),
    ] {
        let mut h = Header::new();
        [("REFTYPE", "flat"), ("DETECTOR", "IMG1"), ("FILTER", filter), ("EXPDTST", date)]
            .iter()
            .for_each(|(k, v)| h.set(k, *v, ""));
        write(&refs.join(name), &h, 1.0);
    }
    let (_, out, _) = cache.irisgpu(&["refs", "explain", &file, "flat"]);
    for part in [
        "30.0 h away; another is 6.0 h",
        "refs/b.fits, which comes first by name",
        "FILTER is H, not K",
        "CRDS's choice; files at hand come first",
    ] {
        assert!(out.contains(part), "'{part}' in\n{out}");
    }
}

#[test]
fn a_header_in_json_gets_the_client_s_answers() {
    let cache = Cache::new(&[DARK, FLAT, NONLIN]);
    let header = cache.dir.path().join("h.json");
    let facts = json!({"META.INSTRUMENT.NAME": "iris", "META.INSTRUMENT.DETECTOR": "IMG1", "FILTER": "K",
        "META.DATE": "2032-06-01T00:00:00", "META.INSTRUMENT.ERA": "0.0.0", "META.EXPOSURE.READMODE": "CDS"});
    std::fs::write(&header, facts.to_string()).expect("header");
    let header = header.to_str().expect("UTF-8");
    let best = cache.json(&["refs", "best", "--header", header, "--json"]);
    assert_eq!(best["context"], "ligeriri_0001.pmap");
    assert_eq!(
        best["best"],
        json!({"flat": "flat.fits", "nonlincoeff": "nonlin.fits", "ipc": "NOT FOUND n/a",
            "dark": "NOT FOUND  parameter='META.EXPOSURE.READMODE' value='CDS' is not in ['MCDS', 'UTR']"})
    );
    assert_eq!(best["warnings"], json!([]));
    let one = cache.json(&["refs", "best", "--header", header, "--reftype", "nonlin", "--json"]);
    assert_eq!(one["best"]["nonlin"], "NOT FOUND Unknown reference type 'nonlin'");
    let (code, out, _) = cache.irisgpu(&["refs", "explain", "flat", "--header", header]);
    assert!(code == 0 && out.contains("* "), "{out}");
    let mapping = cache.place("mappings", "iris_flat.rmap");
    let direct = cache.json(&[
        "refs",
        "best",
        "--header",
        header,
        "--context",
        mapping.to_str().expect("UTF-8"),
        "--json",
    ]);
    assert_eq!(direct["best"], json!({"flat": "flat.fits"}));
}

#[test]
fn a_cache_that_cannot_be_used_is_a_sentence() {
    let mut cache = Cache::new(&[DARK, FLAT, NONLIN]);
    let file = rate(&cache, &[]);
    // Edited by hand: a warning, and used.
    let mapping = cache.place("mappings", "iris_flat.rmap");
    let text = std::fs::read_to_string(&mapping).expect("mapping").replace("old.fits", "older.fits");
    std::fs::write(&mapping, text).expect("edit");
    let (code, _, err) = cache.irisgpu(&["refs", "best", &file]);
    assert!(code == 0 && err.contains("the sha1sum of iris_flat.rmap is not that of its text"), "{err}");
    cache.config("server_config", "{'operational_context': 'iris_liger_0001.pmap'}");
    let fails = |cache: &Cache, part: &str| {
        let (code, _, err) = cache.irisgpu(&["refs", "best", &file]);
        assert!(code == 2 && err.contains(part) && err.contains("ligeriri_0001.pmap"), "{code} {err}");
    };
    fails(&cache, "names iris_liger_0001.pmap, and there is no such mapping");
    cache.env.push(("CRDS_CONTEXT", "ligeriri-latest".into()));
    fails(&cache, "for the CRDS server to resolve, which irisgpu never asks");
    cache.env.push(("CRDS_CONTEXT", "ligeriri_0009.pmap".into()));
    fails(&cache, "CRDS_CONTEXT ligeriri_0009.pmap: there is no such mapping");
    // A cache set up for another observatory is none of ours.
    cache.env = vec![
        ("CRDS_PATH", cache.dir.path().to_str().expect("UTF-8").to_owned()),
        ("CRDS_SERVER_URL", "https://jwst-crds.stsci.edu".into()),
        ("CRDS_CONTEXT", "jwst_1234.pmap".into()),
    ];
    let best = cache.json(&["refs", "best", &file, "--json"]);
    assert_eq!(best["context"], Value::Null);
    cache.env.pop();
    cache.env.push(("CRDS_CONTEXT", "ligeriri_0001.pmap".into()));
    let best = cache.json(&["refs", "best", &file, "--json"]);
    assert_eq!(best["context"], "ligeriri_0001.pmap", "the context's own name counts first");
}

#[test]
fn mappings_that_mean_harm_are_refused_at_once() {
    let cache = Cache::new(&[DARK, FLAT, NONLIN]);
    let header = cache.dir.path().join("h.json");
    std::fs::write(&header, r#"{"META.INSTRUMENT.NAME": "IRIS"}"#).expect("header");
    let header = header.to_str().expect("UTF-8");
    let mapping = cache.place("mappings", "evil.rmap");
    let place = mapping.to_str().expect("UTF-8");
    let proof = cache.dir.path().join("proof");
    let start = Instant::now();
    let whole = |selector: &str| format!("header = {{}}\nselector = {selector}\n");
    for (text, part) in [
        (whole(&"Match({'a': ".repeat(100_000)), "evil.rmap: line 2, column "),
        (whole(&"(\n".repeat(3_000_000)), "brackets within brackets"),
        (whole(&format!("'{}'", "x".repeat(1 << 20))), "line 2, column 65537: the line has more than 64 KiB"),
        (whole(&format!("open('{}', 'w')", proof.display())), "line 2, column 12: 'open' is not a selector"),
        (format!("import os\n{}", whole("Match({})")), "line 1, column 1: 'import' cannot stand here"),
        (whole("__import__('os').system('id')"), "nothing in a mapping is run"),
        ("x".repeat(17 << 20), "evil.rmap: has more than 8 MiB"),
        ("\u{0}\u{1}".to_owned(), "line 1, column 1"),
    ] {
        std::fs::write(&mapping, text).expect("write");
        let (code, out, err) = cache.irisgpu(&["refs", "best", "--header", header, "--context", place]);
        assert!(code == 1 && out.is_empty() && err.contains(part) && err.len() < 1000, "{code} {err}");
    }
    std::fs::write(&mapping, [0xff, 0xfe]).expect("write");
    let (_, _, err) = cache.irisgpu(&["refs", "best", "--header", header, "--context", place]);
    assert!(err.contains("is not a text in UTF-8"), "{err}");
    // One broken type does not spoil the others.
    std::fs::write(cache.place("mappings", "iris_dark.rmap"), "import os").expect("write");
    let best = cache.json(&["refs", "best", "--header", header, "--json"]);
    assert!(best["best"]["dark"].as_str().expect("text").contains("iris_dark.rmap: line 1"), "{best}");
    assert!(!proof.exists());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
