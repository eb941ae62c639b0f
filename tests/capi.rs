//! The C library as a C program sees it: its header is the sources', and programs
//! compiled with `cc` against both get what they should.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = "src/capi/iris_readout.h";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_what_cbindgen_makes_of_the_sources() {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        include_guard: Some("IRIS_READOUT_H".into()),
        header: Some(
            "/* The readout's three functions for C, in libirisgpu: see docs/readout.md.\n \
             * Made by cbindgen of src/capi/mod.rs: IRISGPU_WRITE_HEADER=1 cargo test --test capi */"
                .into(),
        ),
        cpp_compat: true,
        usize_is_size_t: true,
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        documentation_style: cbindgen::DocumentationStyle::C,
        enumeration: cbindgen::EnumConfig {
            rename_variants: cbindgen::RenameRule::QualifiedScreamingSnakeCase,
            ..Default::default()
        },
        ..Default::default()
    };
    let made = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root().join("src/capi/mod.rs"))
        .generate()
        .expect("the sources parse");
    let mut text = Vec::new();
    made.write(&mut text);
    let text = String::from_utf8(text).expect("text");
    let path = root().join(HEADER);
    if std::env::var_os("IRISGPU_WRITE_HEADER").is_some() {
        std::fs::write(&path, &text).expect("header");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{HEADER} is old: IRISGPU_WRITE_HEADER=1 cargo test --test capi makes it anew"
    );
}

/// The folder of libirisgpu.so (or .dylib) that cargo built with this test.
fn library() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_irisgpu")).parent().expect("target").to_path_buf();
    let name = format!("{}irisgpu{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let at = [target.join("deps"), target].into_iter().find(|d| d.join(&name).is_file());
    at.unwrap_or_else(|| panic!("cargo built no {name}"))
}

/// What a C program, compiled with every warning an error, prints.
fn run(source: &Path) -> String {
    let (dir, library) = (tempfile::tempdir().expect("folder"), library());
    let program = dir.path().join("program");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-o"]).arg(&program).arg(source);
    cc.arg("-I").arg(root().join("src/capi")).arg("-L").arg(&library).arg("-lirisgpu");
    cc.arg(format!("-Wl,-rpath,{}", library.display()));
    let done = cc.output().expect("a C compiler (cc)");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = Command::new(&program).output().expect("the program");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{:?}: {out}{err}", done.status);
    out.into_owned()
}

#[cfg(unix)]
#[test]
fn a_c_program_links_and_gets_what_the_original_gives_where_that_is_right() {
    assert_eq!(run(&root().join("tests/capi.c")), "all right\n");
}

/// The program in the docs works as it stands there.
#[cfg(unix)]
#[test]
fn the_example_of_the_docs_compiles_and_prints_what_it_says() {
    let page = std::fs::read_to_string(root().join("docs/readout.md")).expect("page");
    let block = |fence: &str| {
        let (_, rest) = page.split_once(&format!("```{fence}\n")).expect(fence);
        rest.split_once("```").expect("end").0.to_owned()
    };
    let dir = tempfile::tempdir().expect("folder");
    let source = dir.path().join("example.c");
    std::fs::write(&source, block("c")).expect("source");
    assert_eq!(run(&source), block("text"));
}
