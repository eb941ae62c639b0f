//! The CRDS client's own answers, and mappings that mean harm.

use std::path::Path;

use serde_json::Value;

use super::mapping::parse;
use super::*;

/// Look-ups that the real client answered, with its answers.
fn oracle() -> Value {
    serde_json::from_str(include_str!("../../../testdata/oracle/crds.json")).expect("JSON")
}

fn nowhere(_: &str) -> Option<String> {
    None
}

#[test]
fn every_look_up_has_the_client_s_answer() {
    let oracle = oracle();
    let dir = tempfile::tempdir().expect("temp dir");
    for (name, text) in oracle["mappings"].as_object().expect("mappings") {
        std::fs::write(dir.path().join(name), text.as_str().expect("text")).expect("write");
    }
    let cases = oracle["cases"].as_array().expect("cases");
    assert!(cases.len() > 40);
    for case in cases {
        let context = dir.path().join(case["context"].as_str().expect("context"));
        let crds = Crds::open(context.to_str(), &nowhere).expect("open").expect("CRDS");
        assert_eq!(crds.warnings(), [] as [String; 0], "the checksums are right");
        let facts = facts_of_json(&case["header"].to_string()).expect("facts");
        for reftype in case["reftypes"].as_array().expect("types") {
            let reftype = reftype.as_str().expect("type");
            let found = crds.best(reftype, &facts);
            assert_eq!(
                found.answer.json(),
                case["expected"][reftype],
                "{}: {}",
                case["context"],
                case["desc"]
            );
            let explained = crds.explain(reftype, &facts);
            let chosen = explained.iter().any(|e| e.chosen);
            assert!(chosen || !matches!(found.answer, Answer::Found(_)), "{explained:?}");
            assert!(explained.iter().all(|e| !e.why.is_empty()), "{explained:?}");
        }
    }
}

/// A mapping with this selector and these lines more in its header.
fn rmap(header: &str, selector: &str) -> String {
    format!(
        "header = {{'mapping': 'REFERENCE', 'name': 'x.rmap', 'derived_from': 'by hand',\n'observatory': 'LIGERIRI', \
         'instrument': 'IRIS', 'filekind': 'FLAT',\n'parkey': (('META.INSTRUMENT.DETECTOR',), ('META.DATE',)),\n\
         {header}}}\nselector = {selector}\n"
    )
}

#[test]
fn what_is_no_mapping_is_refused_with_its_place() {
    let plain = "Match({'IMG1': UseAfter({'2020-01-01 00:00:00': 'a.fits'})})";
    assert!(parse(Path::new("x.rmap"), &rmap("", plain)).is_ok());
    let deep = |open: &str, n: usize| rmap("", &open.repeat(n));
    let long = rmap("", &format!("Match({{'{}': 'a.fits'}})", "x".repeat(1 << 20)));
    for (text, says) in [
        (deep("Match({'a': ", 100_000), "line 5"),
        (deep("(", 60_000), "brackets within brackets"),
        (deep("[\n", 1_000_000), "brackets within brackets"),
        (deep("{", 200_000), "KiB"),
        (long, "line 5, column 65537: the line has more than 64 KiB"),
        ("import os\nheader = {}".into(), "line 1, column 1: 'import' cannot stand here"),
        (rmap("", "__import__('os').system('x')"), "'__import__' is not a selector"),
        (rmap("", "Match({'a': open('x')})"), "'open' is not a selector"),
        (rmap("", "Match({k: 'v' for k in [1]})"), "'k' is not a selector"),
        (rmap("", "Match({'a': 'b' + 'c'})"), "'+' stands where '}' should"),
        (rmap("", "Match({'a': lambda: 1})"), "'lambda' is not a selector"),
        (rmap("", "Match({'a': f'{1}'})"), "'f' is not a selector"),
        (rmap("", "Match({**{}})"), "'*' stands where a value should"),
        (rmap("", "Match({'a': 'b"), "the string has no end"),
        (rmap("", "Match({'a': 1e})"), "'1e' is not a number"),
        (rmap("", "Match({'a': 5})"), "neither a file's name nor a selector"),
        (rmap("", "Match({'a': Match({'b': Match({'c': 'd'})})})"), "deeper than parkey"),
        (rmap("", "Match({('a', 'b'): 'c'})"), "has 2 elements"),
        (rmap("", "Match({'ANY': 'a', '*': 'b'})"), "mean the same"),
        (rmap("", "Match({'((a)': 'a'})"), "no regular expression"),
        (rmap("'rmap_omit': '(exec(1))'", plain), "rmap_omit"),
        ("header = {}".into(), "no 'selector"),
        ("header = {}\nselector = Match({})".into(), "does not say"),
        (String::new(), "no 'header"),
        ("\0".into(), "cannot stand here"),
    ] {
        let sentence = match parse(Path::new("x.rmap"), &text) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("{says}: was taken"),
        };
        assert!(sentence.starts_with("x.rmap: ") && sentence.len() < 500, "{sentence}");
        assert!(sentence.contains(says), "{sentence}\nshould say {says}");
    }
}

#[test]
fn hostile_files_take_no_time() {
    let start = std::time::Instant::now();
    let entries: String = (0..50_000).map(|i| format!("('a{i}|b*{i}*c*'): 'f{i}.fits',\n")).collect();
    let many = parse(Path::new("x.rmap"), &rmap("", &format!("Match({{\n{entries}}})")));
    assert!(many.is_ok(), "{many:?}");
    let stars = format!("Match({{'{}': 'a.fits'}})", "*a".repeat(5_000));
    let regex = "Match({'((a+)+$)': 'a.fits'})".to_owned();
    let value = "a".repeat(10_000) + "!";
    for selector in [stars, regex] {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.rmap");
        std::fs::write(&path, rmap("", &selector)).expect("write");
        let crds = Crds::open(path.to_str(), &nowhere).expect("open").expect("CRDS");
        let facts = Facts::from([("META.INSTRUMENT.DETECTOR".to_owned(), value.clone())]);
        assert!(matches!(crds.best("flat", &facts).answer, Answer::NotFound(_)));
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn doubles_and_wrong_checksums_are_warned_of() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("x.rmap");
    let text = rmap("'sha1sum': '00',\n", "Match({'IMG1': 'a.fits', 'IMG1': 'b.fits'})");
    std::fs::write(&path, &text).expect("write");
    let crds = Crds::open(path.to_str(), &nowhere).expect("open").expect("CRDS");
    let warnings = crds.warnings().join("\n");
    assert!(warnings.contains("line 6, column 37: this key stands here a second time"), "{warnings}");
    assert!(warnings.contains("the sha1sum of x.rmap is not that of its text"), "{warnings}");
    let dated = facts_of_json(r#"{"EXPJDMID": 2451545.0}"#).expect("facts");
    assert_eq!(dated.get("META.DATE").map(String::as_str), Some("2000-01-01 12:00:00"));
    let facts = facts_of_json(r#"{"DETECTOR": "img1"}"#).expect("facts");
    assert_eq!(crds.best("FLAT", &facts).answer.file(), Some("b.fits"));
}
