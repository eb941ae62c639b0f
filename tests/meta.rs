//! What files say of themselves, through the public command line: headers that stay,
//! reads that are merged, files that are no frames, and `meta check`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels, Value};
use serde_json::Value as Json;

fn irisgpu(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    let output = command.args(args).stdin(Stdio::null()).output().expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A header of cards as they stand in a file.
fn cards(lines: &[&[u8]]) -> Header {
    let mut bytes = Vec::new();
    for line in lines.iter().chain([&b"END".as_slice()]) {
        let mut record = line.to_vec();
        record.resize(80, b' ');
        bytes.extend(record);
    }
    Header::parse(&bytes).expect("END").0
}

const USUAL: [&[u8]; 7] = [
    b"OBSNAME = 'IMG1-DRK'",
    b"DETECTOR= 'IMG1    '",
    b"READMODE= 'UTR     '",
    b"EXPTIME =                  4.0",
    b"EXPNUM  =                    7",
    b"EXPJDST =     2463599.75000000 / start",
    b"EXPJDEND=     2463599.75010000",
];

/// A ramp of 4 reads of 16 × 16 pixels, 20 DN/s and a little more in each column.
fn ramp(path: &Path, header: &Header) {
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", header).expect("primary");
    w.image("TIMES", &Header::new(), &[1, 4], Pixels::F64(&[1.0, 2.0, 3.0, 4.0])).expect("times");
    let data: Vec<u16> = (0..4 * 256).map(|i| (1000 + 20 * (i / 256) + i % 16 + i * 7 % 5) as u16).collect();
    w.image("DATA", &Header::new(), &[1, 4, 16, 16], Pixels::U16(&data)).expect("data");
    w.finish().expect("finish");
}

fn products(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(products(&path));
        } else if path.extension().is_some_and(|e| e == "fits") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn stage1(files: &[&Path], out: &Path, more: &[&str]) -> (i32, String, String) {
    let mut args = vec!["run", "stage1"];
    args.extend(files.iter().map(|f| text(f)));
    args.extend(["-o", text(out), "--device", "cpu", "--steps.refpix.skip=true"]);
    args.extend(more);
    irisgpu(&args)
}

#[test]
fn nothing_of_a_header_is_lost() {
    let dir = tempfile::tempdir().expect("folder");
    let kept: [&[u8]; 12] = [
        b"MYKEY   = 1.20D+01           / as it is written",
        b"COMPLEX = (1.5, 2)",
        b"NOTHING =                      / no value yet",
        b"HIERARCH TCS Probe.x = -0.125 / arcsec",
        b"COMMENT  of the observer",
        b"HISTORY  of the detector",
        b"        a line without a keyword",
        b"LONG    = 'a long text that goes on and on until it needs another card to en&'",
        b"CONTINUE  'd there' / and says so",
        b"QUOTE   = 'O''Neill'",
        b"SAMPMODE= 'UTR     '",
        b"BIG     =   9007199254740993123",
    ];
    let odd: [&[u8]; 6] = [
        b"OBSERVER= 'Andr\xc3\xa9'",
        b"BARE    = NaN",
        b"lower   =                    5",
        b"A$B     = 5",
        b"MYKEY   = 13.0 / again",
        b"ORPHAN  no value",
    ];
    let all: Vec<&[u8]> = USUAL.iter().chain(&kept).chain(&odd).copied().collect();
    let raw = dir.path().join("raw.fits");
    ramp(&raw, &cards(&all));
    let (code, out, err) = stage1(&[&raw], &dir.path().join("out"), &[]);
    assert_eq!(code, 0, "{out}{err}");
    let product = products(&dir.path().join("out")).pop().expect("product");
    let bytes = std::fs::read(&product).expect("product");
    let lines: Vec<&[u8]> = bytes.chunks(80).take_while(|l| !l.starts_with(b"END  ")).collect();
    for line in kept {
        let mut record = line.to_vec();
        record.resize(80, b' ');
        assert!(lines.contains(&record.as_slice()), "{}", String::from_utf8_lossy(line));
    }
    let said: String =
        lines.iter().map(|l| String::from_utf8_lossy(l).trim_end().to_owned() + "\n").collect();
    for line in [
        "OBSERVER= 'Andr??  '",
        "BARE    = 'NaN     '",
        "LOWER   =                    5",
        "COMMENT input: A$B = 5",
        "COMMENT input: again MYKEY = 13.0 / again",
        "COMMENT input: ORPHAN no value",
        "LONGSTRN= 'OGIP 1.0'",
    ] {
        assert!(said.contains(&format!("\n{line}")), "{line} in\n{said}");
    }
    // The times stand under all names, and where the telescope is.
    let f = Fits::open(&product).expect("product");
    let h = f.primary();
    assert_eq!(h.number("MJD-BEG"), Some(63_599.25));
    assert_eq!(h.text("DATE-OBS").as_deref(), Some("2033-01-02T06:00:00.000"));
    assert_eq!(h.text("DATE-END").as_deref(), Some("2033-01-02T06:00:08.640"));
    assert_eq!(h.text("DATE-AVG").as_deref(), Some("2033-01-02T06:00:04.320"));
    assert_eq!(h.text("TIMESYS").as_deref(), Some("UTC"));
    assert!((h.number("OBSGEO-Z").expect("OBSGEO-Z") - 2_151_689.167).abs() < 0.01);
    // A product has nothing to mend, though its raw file had odd cards, and no errors.
    for file in [&product, &raw] {
        let (code, out, err) = irisgpu(&["meta", "check", text(file)]);
        assert_eq!(code, 0, "{out}{err}");
    }
}

/// Reads of one exposure, one a file; AIRMASS, a text and READTIME differ.
fn reads(dir: &Path) -> Vec<PathBuf> {
    let one = |n: usize| {
        let mut h = cards(&USUAL[..3]);
        h.set("OBS_ID", "X", "");
        h.set("DET_ID", "IMG1", "");
        h.set("EXP_NO", 3, "");
        h.set("RAMP_NO", 0, "");
        h.set("READ_NO", n, "");
        h.set("RST_TIME", 5_495_000_000_000_000i64, "");
        h.set("READTIME", 5_495_000_000_000_000i64 + 1_000_000 * (n as i64 + 1), "");
        h.set("FRM_TIME", 1_000_000, "");
        h.set("AIRMASS", 1.25 + 0.125 * n as f64, "");
        h.set("SEEING", if n == 2 { "bad" } else { "good" }, "");
        h.set("CONSTANT", "same in all", "");
        let path = dir.join(format!("r{n}.fits"));
        let data: Vec<u16> = (0..256).map(|i| (1000 + 20 * n + i % 16 + i * 7 % 5) as u16).collect();
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.image("DATA", &Header::new(), &[16, 16], Pixels::U16(&data)).expect("data");
        w.finish().expect("finish")
    };
    (0..4).map(one).collect()
}

#[test]
fn headers_of_reads_become_one_and_a_table() {
    let dir = tempfile::tempdir().expect("folder");
    let files = reads(dir.path());
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let out = dir.path().join("out");
    let (code, said, err) = stage1(&files, &out, &["--steps.jump.save_jumps=false"]);
    assert_eq!(code, 0, "{said}{err}");
    let made = products(&out);
    let [rate, table] = made.as_slice() else { panic!("{made:?}") };
    assert!(text(table).contains("/reads/") && text(table).ends_with("_reads.fits"), "{}", table.display());
    let f = Fits::open(rate).expect("rate");
    let h = f.primary();
    assert_eq!(h.text("CONSTANT").as_deref(), Some("same in all"));
    assert_eq!((h.number("AIRMASS"), h.text("SEEING").as_deref()), (Some(1.4375), Some("MULTIPLE")));
    for gone in ["READ_NO", "READTIME"] {
        assert!(!h.has(gone), "{gone}");
    }
    // From the reset to the end of the last read.
    let begin = 5_495_000_000_000_000.0 / 86_400e6;
    assert!((h.number("MJD-BEG").expect("MJD-BEG") - begin).abs() < 1e-9);
    assert!((h.number("MJD-END").expect("MJD-END") - begin - 5.0 / 86_400.0).abs() < 1e-9);
    assert!((h.number("EXPJDST").expect("EXPJDST") - 2_400_000.5 - begin).abs() < 1e-8);
    let check = |file: &Path| {
        let f = Fits::open(file).expect("table");
        let t = f.hdu("READS").expect("READS");
        let column = |name: &str| irisgpu::fits::read_column(&f, t, name).expect(name).0;
        assert_eq!(column("AIRMASS"), [1.25, 1.375, 1.5, 1.625]);
        assert_eq!((column("READ"), column("TIME")), (vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(column("READ_NO"), [0.0, 1.0, 2.0, 3.0]);
        let names: Vec<String> = (1..=t.header.integer("TFIELDS").unwrap())
            .map(|n| t.header.text(&format!("TTYPE{n}")).unwrap())
            .collect();
        assert!(names.contains(&"SEEING".into()) && !names.contains(&"CONSTANT".into()), "{names:?}");
    };
    check(table);
    // With a list of jumps, the table stands there.
    let out = dir.path().join("jumps");
    let (code, said, err) = stage1(&files, &out, &["--steps.jump.save_jumps=true"]);
    assert_eq!(code, 0, "{said}{err}");
    let made = products(&out);
    let list = made.iter().find(|p| text(p).ends_with("_jumps.fits")).expect("jumps");
    assert!(made.iter().all(|p| !text(p).ends_with("_reads.fits")), "{made:?}");
    check(list);
}

/// A file of HDUs given as cards and bytes of data.
fn hdus(path: &Path, parts: &[(&[&str], usize)]) {
    let mut bytes = Vec::new();
    for (lines, data) in parts {
        for line in lines.iter().chain(&["END"]) {
            bytes.extend(format!("{line:<80}").bytes());
        }
        bytes.resize(bytes.len().div_ceil(2880) * 2880, b' ');
        bytes.extend(std::iter::repeat_n(0u8, data.div_ceil(2880) * 2880));
    }
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn files_that_are_no_frames_each_get_a_sentence() {
    let dir = tempfile::tempdir().expect("folder");
    let night = dir.path();
    let named = ["OBSNAME = 'IMG1-SCI'", "DETECTOR= 'IMG1'"];
    let empty = [
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
    ];
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&empty[..], &named, more].concat() };
    let image = |axes: &[&'static str], more: &[&'static str]| -> Vec<&'static str> {
        [&["SIMPLE  =                    T", "BITPIX  =                   16"], axes, &named, more].concat()
    };
    let two = ["NAXIS   = 2", "NAXIS1  = 10", "NAXIS2  = 10"];
    let table = |xtension: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        let own = [
            xtension,
            "BITPIX  = 8",
            "NAXIS   = 2",
            "NAXIS1  = 8",
            "NAXIS2  = 3",
            "PCOUNT  = 0",
            "GCOUNT  = 1",
            "TFIELDS = 1",
        ];
        [&own, more].concat()
    };
    // The kinds of astropy's own test files.
    let kinds: Vec<(&str, Vec<(Vec<&str>, usize)>)> = vec![
        ("primary_only", vec![(with(&[]), 0)]),
        ("one_axis", vec![(image(&["NAXIS   = 1", "NAXIS1  = 100"], &[]), 200)]),
        ("zero_axis", vec![(image(&["NAXIS   = 2", "NAXIS1  = 0", "NAXIS2  = 10"], &[]), 0)]),
        ("no_time", vec![(image(&two, &[]), 200)]),
        ("blank", vec![(image(&two, &["BLANK   = -1", "BSCALE  = 2.0", "BZERO   = 5.0"]), 200)]),
        ("wrong_checksum", vec![(image(&two, &["CHECKSUM= '0000000000000000'", "DATASUM = '12345'"]), 200)]),
        (
            "random_groups",
            vec![(
                image(
                    &["NAXIS   = 3", "NAXIS1  = 0", "NAXIS2  = 10", "NAXIS3  = 1"],
                    &["GROUPS  = T", "PCOUNT  = 2", "GCOUNT  = 10"],
                ),
                240,
            )],
        ),
        (
            "three_axes",
            vec![(image(&["NAXIS   = 3", "NAXIS1  = 10", "NAXIS2  = 10", "NAXIS3  = 3"], &[]), 600)],
        ),
        (
            "eight_axes",
            vec![(
                image(
                    &[
                        "NAXIS   = 8",
                        "NAXIS1  = 2",
                        "NAXIS2  = 2",
                        "NAXIS3  = 2",
                        "NAXIS4  = 2",
                        "NAXIS5  = 2",
                        "NAXIS6  = 2",
                        "NAXIS7  = 2",
                        "NAXIS8  = 2",
                    ],
                    &[],
                ),
                512,
            )],
        ),
        (
            "ascii_table",
            vec![
                (with(&["EXTEND  = T"]), 0),
                (table("XTENSION= 'TABLE   '", &["TFORM1  = 'I8'", "TBCOL1  = 1"]), 24),
            ],
        ),
        (
            "table",
            vec![(with(&["EXTEND  = T"]), 0), (table("XTENSION= 'BINTABLE'", &["TFORM1  = '8A'"]), 24)],
        ),
        (
            "variable_table",
            vec![
                (with(&["EXTEND  = T"]), 0),
                (table("XTENSION= 'BINTABLE'", &["TFORM1  = 'PJ(3)'", "THEAP   = 30"]), 24),
            ],
        ),
        (
            "zero_width",
            vec![(with(&["EXTEND  = T"]), 0), (table("XTENSION= 'BINTABLE'", &["TFORM1  = '0A'"]), 24)],
        ),
        (
            "unknown_hdu",
            vec![
                (with(&["EXTEND  = T"]), 0),
                (vec!["XTENSION= 'NONESUCH'", "BITPIX  = 8", "NAXIS   = 0", "PCOUNT  = 0", "GCOUNT  = 1"], 0),
            ],
        ),
        ("no_bitpix", vec![(vec!["SIMPLE  = T", "NAXIS   = 0"], 0)]),
        (
            "bitpix_7",
            vec![(vec!["SIMPLE  = T", "BITPIX  = 7", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4"], 16)],
        ),
        (
            "negative",
            vec![(vec!["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = -4", "NAXIS2  = 4"], 16)],
        ),
        (
            "endless",
            vec![(
                vec![
                    "SIMPLE  = T",
                    "BITPIX  = 16",
                    "NAXIS   = 3",
                    "NAXIS1  = 4000000000",
                    "NAXIS2  = 4000000000",
                    "NAXIS3  = 4000000000",
                ],
                0,
            )],
        ),
        ("date_of_old", vec![(image(&two, &["DATE-OBS= '31/12/99'", "EXPTIME = 'long'"]), 200)]),
    ];
    for (name, parts) in &kinds {
        let parts: Vec<(&[&str], usize)> = parts.iter().map(|(l, n)| (l.as_slice(), *n)).collect();
        hdus(&night.join(format!("{name}.fits")), &parts);
    }
    let mut bytes = std::fs::read(night.join("no_time.fits")).expect("read");
    std::fs::write(night.join("no_end.fits"), &bytes[..320]).expect("write");
    bytes.truncate(2880 + 100);
    std::fs::write(night.join("cut.fits"), &bytes).expect("write");
    std::fs::write(night.join("compressed.fits"), b"\x1f\x9d\x90nothing that FITS knows").expect("write");
    std::fs::write(night.join("nothing.fits"), b"").expect("write");
    // A frame that can be reduced stands among them.
    ramp(&night.join("good.fits"), &cards(&USUAL));
    let files: Vec<PathBuf> = products(night);
    assert_eq!(files.len(), kinds.len() + 5);

    let (code, out, err) = irisgpu(&["plan", text(night)]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, said, err) = irisgpu(&["reduce", text(night), "--device", "cpu", "--json"]);
    assert_eq!(code, 1, "{said}{err}");
    assert!(!(out + &said + &err).contains("panicked"), "{err}");
    assert!(products(&night.join("reduced/masters")).iter().any(|p| text(p).contains("DARK")), "{said}{err}");
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let sentence =
            err.lines().chain(said.lines()).find(|l| l.contains(name) && l.len() > name.len() + 30);
        assert!(name == "good.fits" || sentence.is_some(), "{name} has no sentence in\n{said}\n{err}");
        // And `meta check` has something to say of each.
        let (code, out, err) = irisgpu(&["meta", "check", text(file)]);
        assert_eq!(code, i32::from(name != "good.fits"), "{out}{err}");
    }
}

#[test]
fn what_contradicts_itself_is_named_with_keyword_and_file() {
    let dir = tempfile::tempdir().expect("folder");
    let wrong: [&[u8]; 9] = [
        b"OBSTYPE = 'SCI     '",
        b"IMTYPE  = 'FLAT    '",
        b"DET_ID  = 'IMG2    '",
        b"MJD-BEG =              60000.0",
        b"NREADS  =                    9",
        b"NGROUPS =                    2",
        b"FILTER  = 'ks      '",
        b"AIRMASS = 'high    '",
        b"EXPDTEND= '20330102050000'",
    ];
    let all: Vec<&[u8]> = USUAL.iter().chain(&wrong).copied().collect();
    let raw = dir.path().join("raw.fits");
    ramp(&raw, &cards(&all));
    let (code, out, _) = irisgpu(&["meta", "check", text(&raw)]);
    assert_eq!(code, 1, "{out}");
    for part in [
        "error: contradictory: OBSTYPE = 'SCI' does not go with OBSNAME = 'IMG1-DRK'",
        "error: contradictory: IMTYPE = 'FLAT' does not go with OBSNAME = 'IMG1-DRK'",
        "error: contradictory: DET_ID = 'IMG2' says that DETECTOR is 'IMG2', but DETECTOR = 'IMG1'",
        "error: contradictory: MJD-BEG = 60000.0 is ",
        "error: contradictory: EXPDTEND = '20330102050000' is 60.1 min from EXPJDEND",
        "error: contradictory: NREADS = 9 but the array holds 4 reads",
        "error: contradictory: NGROUPS = 2 but the array holds 1 ramps",
        "note: illegal: FILTER = 'ks' is not a value it may have: write 'Ks'",
        "note: illegal: AIRMASS = 'high' is text: write a number",
        "(raw ramp): 7 errors",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    assert!(out.lines().all(|l| l.starts_with(text(&raw))), "{out}");
    // The same in JSON, and in the plan of a night.
    let (code, json, _) = irisgpu(&["meta", "check", text(&raw), "--json"]);
    let json: Json = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, json["files"][0]["errors"].as_u64()), (1, Some(7)));
    let finding = &json["files"][0]["findings"][0];
    assert!(["severity", "kind", "keyword", "message"].iter().all(|k| finding[k].is_string()), "{finding}");
    let (_, plan, err) = irisgpu(&["plan", text(dir.path())]);
    for part in ["DET_ID = 'IMG2'", "MJD-BEG = 60000.0", "OBSTYPE = 'SCI'"] {
        let line = plan.lines().chain(err.lines()).find(|l| l.contains(part));
        assert!(line.is_some_and(|l| l.contains("raw.fits")), "{part} in\n{plan}{err}");
    }
    assert_eq!(irisgpu(&["meta", "check"]).0, 2);
    assert_eq!(irisgpu(&["meta", "check", "/no/such.fits"]).0, 1);
}

#[test]
fn a_combination_says_what_its_frames_say() {
    let dir = tempfile::tempdir().expect("folder");
    let files: Vec<PathBuf> = (0..3)
        .map(|i| {
            let mut h = cards(&USUAL);
            h.set("EXPNUM", i + 1, "");
            let jd = 2_463_599.75 + 0.001 * f64::from(i);
            h.set("EXPJDST", jd, "");
            h.set("EXPJDMID", jd + 0.0001, "");
            h.set("EXPJDEND", jd + 0.0002, "");
            h.set("FILTER", if i == 1 { "H" } else { "J" }, "");
            h.set("AIRMAEND", 1.0 + 0.125 * f64::from(i), "");
            h.set("MYTEXT", format!("{i}"), "");
            let path = dir.path().join(format!("d{i}.fits"));
            ramp(&path, &h);
            path
        })
        .collect();
    let out = dir.path().join("out");
    let mut args = vec!["run", "dark"];
    args.extend(files.iter().map(|f| text(f)));
    args.extend(["-o", text(&out), "--device", "cpu", "--steps.refpix.skip=true"]);
    let (code, said, err) = irisgpu(&args);
    assert_eq!(code, 0, "{said}{err}");
    let made = products(&out);
    let master =
        made.iter().find(|p| text(p).contains("/IRIS_IMG1_DARK_")).unwrap_or_else(|| panic!("{made:?}"));
    let f = Fits::open(master).expect("master");
    let h = f.primary();
    let near = |key: &str, value: f64| (h.number(key).unwrap_or(f64::NAN) - value).abs() < 1e-8;
    assert!(
        near("EXPJDST", 2_463_599.75)
            && near("EXPJDEND", 2_463_599.752_2)
            && near("EXPJDMID", 2_463_599.751_1)
    );
    assert!(near("MJD-BEG", 63_599.25) && near("MJD-END", 63_599.252_2) && near("MJD-AVG", 63_599.251_1));
    assert_eq!(h.text("FILTER").as_deref(), Some("MULTIPLE"));
    assert_eq!((h.text("MYTEXT").as_deref(), h.number("AIRMAEND")), (Some("MULTIPLE"), Some(1.25)));
    assert_eq!((h.integer("EXPNUM"), h.integer("NCOMBINE")), (Some(1), Some(3)));
    assert_eq!(h.get("EXPTIME"), Some(&Value::Real(4.0)));
}
