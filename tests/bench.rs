//! `bench accuracy` through the public command line, with few ramps.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::process::{Command, Output, Stdio};

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(["bench", "accuracy", "--device", "cpu"]).args(args).stdin(Stdio::null());
    command.output().expect("run")
}

#[test]
fn a_report_goes_to_stdout_and_to_a_file_the_same_each_time() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("run/README.md");
    let args = ["--ramps", "2000", "--only", "saturated,pedestal", "-o", file.to_str().expect("UTF-8")];
    let first = bench(&args);
    let text = String::from_utf8(first.stdout.clone()).expect("UTF-8");
    assert!(first.status.success(), "{text}{}", String::from_utf8_lossy(&first.stderr));
    assert!(text.contains("| saturated: scatter | ≤ 1.02 |") && text.contains("## A pedestal moves nothing"));
    let written = std::fs::read_to_string(&file).expect("report");
    assert!(
        written.contains("--only 'saturated,pedestal' --device cpu") && written.ends_with(&text),
        "{written}"
    );
    assert_eq!(bench(&["--threads", "1", args[0], args[1], args[2], args[3]]).stdout, first.stdout);
}

#[test]
fn figures_come_as_json() {
    let output = bench(&["--ramps", "1000", "--only", "grid,precision", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // 30 points of 5 figures and of 3.
    assert_eq!(value["figures"].as_array().map(Vec::len), Some(240));
    assert_eq!(value["met"], output.status.success());
    let precise =
        value["figures"].as_array().expect("figures").iter().filter(|f| f["section"] == "precision");
    assert!(precise.clone().all(|f| f["verdict"] == "met"), "{:?}", precise.collect::<Vec<_>>());
}

#[test]
fn what_is_not_known_is_a_sentence() {
    for args in [["--only", "nonsense"], ["--ramps", "0"]] {
        let output = bench(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("saturated") || said.contains("at least 1"), "{said}");
    }
}
