//! What glows after saturation, through the public command line: a night whose first
//! exposure has a star that saturates, and named files.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::datamodel::dq;
use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};

const N: usize = 64;
const READS: usize = 6;
const START: f64 = 2_461_114.625;
/// Column and row of the star's core.
const STAR: [(usize, usize); 2] = [(30, 20), (31, 20)];

/// One raw exposure: `at` seconds into the night, 10 s a read; its detector pixel
/// (from 0) at the corner.
fn raw(path: &Path, number: i64, detector: &str, at: f64, star: bool, corner: (usize, usize), n: usize) {
    let jd = |seconds: f64| START + seconds / 86_400.0;
    let exptime = 10.0 * READS as f64;
    let mut h = Header::new();
    h.set("OBSNAME", format!("{detector}-SCI").as_str(), "");
    h.set("DETECTOR", detector, "");
    h.set("EXPNUM", number, "");
    h.set("EXPTIME", exptime, "");
    h.set("EXPJDST", jd(at), "");
    h.set("EXPJDEND", jd(at + exptime), "");
    h.set("EXPDTST", "20260315030000", "");
    if n < N {
        h.set("SUBARRAY", "CUSTOM", "");
        h.set("SUBSTRT1", corner.0 + 1, "");
        h.set("SUBSTRT2", corner.1 + 1, "");
    }
    let times: Vec<f64> = (1..=READS).map(|k| 10.0 * k as f64).collect();
    let mut data = Vec::new();
    for k in 1..=READS {
        for p in 0..n * n {
            let pixel = (p % n + corner.0, p / n + corner.1);
            // It is full in the last two reads only.
            let bright = star && STAR.contains(&pixel);
            data.push(if bright { (12_000 * k).min(60_000) as u16 } else { 2000 + 50 * k as u16 });
        }
    }
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("TIMES", &Header::new(), &[1, READS], Pixels::F64(&times)).expect("times");
    w.image("DATA", &Header::new(), &[1, READS, n, n], Pixels::U16(&data)).expect("data");
    w.finish().expect("finish");
}

fn irisgpu(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    let done = command.stdin(Stdio::null()).args(args).args(["--device", "cpu"]).output().expect("run");
    let said = [&done.stdout, &done.stderr].map(|s| String::from_utf8_lossy(s).into_owned()).concat();
    assert!(done.status.success(), "{said}");
    said
}

/// What `reduce` needs for frames without calibrations, and a saturation level.
fn options(level: &Path) -> Vec<String> {
    if !level.exists() {
        let mut h = Header::new();
        h.set("REFTYPE", "saturation", "");
        let mut w = FitsWriter::create(level).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.image("DATA", &Header::new(), &[N, N], Pixels::F32(&[55_000.0; N * N])).expect("data");
        w.finish().expect("finish");
    }
    let skips = ["dark_sub", "flat_field", "refpix", "cosmic_rays"];
    let mut out: Vec<String> = skips.iter().map(|s| format!("--steps.{s}.skip=true")).collect();
    out.push(format!("--override_saturation={}", level.display()));
    out
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn product(folder: &Path, part: &str) -> Fits {
    let all = std::fs::read_dir(folder).expect("folder").flatten().map(|f| f.path());
    let found: Vec<PathBuf> = all.filter(|p| text(p).contains(part) && text(p).ends_with(".fits")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    Fits::open(&found[0]).expect("product")
}

/// The pixels that are flagged PERSISTENCE, as (column, row).
fn flagged(fits: &Fits, plane: &str) -> Vec<(usize, usize)> {
    let hdu = fits.hdu(plane).expect(plane);
    let (bits, nx) = (fits.u32(hdu).expect("bits"), hdu.shape[1]);
    (0..bits.len()).filter(|p| bits[*p] & dq::PERSISTENCE != 0).map(|p| (p % nx, p / nx)).collect()
}

#[test]
fn a_night_flags_what_glows() {
    let dir = tempfile::tempdir().expect("folder");
    let night = dir.path().join("night");
    std::fs::create_dir(&night).expect("night");
    let a = night.join("a.fits");
    raw(&a, 1, "IMG1", 0.0, true, (0, 0), N);
    raw(&night.join("b.fits"), 2, "IMG1", 80.0, false, (0, 0), N);
    raw(&night.join("c.fits"), 3, "IMG2", 90.0, false, (0, 0), N);
    raw(&night.join("d.fits"), 4, "IMG1", 2000.0, false, (0, 0), N);
    let options = options(&dir.path().join("level.fits"));
    let reduce = |out: &Path, more: &[&str]| {
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        irisgpu(&[&["reduce", text(&night), "-o", text(out)], options.as_slice()].concat())
    };
    let out = dir.path().join("out");
    reduce(&out, &[]);
    for level in ["_LVL1_", "_LVL2_"] {
        let of = |detector: &str, n: i64| product(&out, &format!("{detector}_SCI{level}000{n}"));
        assert_eq!(flagged(&of("IMG1", 2), "DQ"), STAR, "20 s after it");
        for (detector, n, why) in
            [("IMG1", 1, "the star itself"), ("IMG2", 3, "another detector"), ("IMG1", 4, "1940 s after it")]
        {
            assert_eq!(flagged(&of(detector, n), "DQ"), [], "{why}");
        }
    }
    let b = product(&out, "IMG1_SCI_LVL1_0002");
    let h = b.primary();
    assert_eq!(h.text("S_PERSIS").as_deref(), Some("COMPLETE"));
    assert_eq!((h.integer("NPERSIST"), h.integer("NPEREXP")), (Some(2), Some(1)));
    let says = |text: &str| h.cards().iter().any(|c| c.keyword == "HISTORY" && c.comment.contains(text));
    assert!(says("2 pixels saturated in a.fits, which ended 20 s before"));
    // A flag only: the value is there.
    let data = b.f32(b.hdu("DATA").expect("DATA")).expect("data");
    assert!(data[STAR[0].1 * N + STAR[0].0].is_finite());
    // In whatever order, and alone.
    let alone = dir.path().join("alone");
    reduce(&alone, &["--only", "b.fits"]);
    assert_eq!(flagged(&product(&alone, "IMG1_SCI_LVL1_0002"), "DQ"), STAR);
    // A longer memory reaches the last one, and makes it a plan of its own.
    let longer = dir.path().join("longer");
    reduce(&longer, &["--steps.persistence.persistence_time=3000"]);
    assert_eq!(flagged(&product(&longer, "IMG1_SCI_LVL1_0004"), "DQ"), STAR);
    // What came before belongs to what a product is made of.
    let idle = |said: &str| said.lines().filter(|l| l.contains("-SCI") && l.contains("up to date")).count();
    assert_eq!(idle(&reduce(&out, &[])), 4);
    raw(&a, 1, "IMG1", 0.0, false, (0, 0), N);
    let said = reduce(&out, &[]);
    assert_eq!(flagged(&product(&out, "IMG1_SCI_LVL1_0002"), "DQ"), []);
    assert_eq!(idle(&said), 2, "{said}");
}

#[test]
fn named_files_know_what_is_named_with_them() {
    let dir = tempfile::tempdir().expect("folder");
    let at = |name: &str| dir.path().join(name);
    let (a, b, part) = (at("a.fits"), at("b.fits"), at("part.fits"));
    raw(&a, 1, "IMG1", 0.0, true, (0, 0), N);
    raw(&b, 2, "IMG1", 80.0, false, (0, 0), N);
    raw(&part, 3, "IMG1", 160.0, false, (24, 12), 16);
    let level = format!("--override_saturation={}", at("level.fits").display());
    options(&at("level.fits"));
    let run = |recipe: &str, file: &Path, out: &str, more: &[&str]| {
        let out = at(out);
        let plain = ["run", recipe, text(file), "-o", text(&out), &level, "--steps.refpix.skip=true"];
        irisgpu(&[&plain, more].concat());
        let all = std::fs::read_dir(&out).expect("folder").flatten().map(|f| f.path());
        Fits::open(&all.filter(|p| text(p).ends_with(".fits")).max().expect("product")).expect("product")
    };
    let earlier = ["--earlier", text(&a)];
    let alone = run("stage1", &b, "1", &[]);
    assert_eq!(alone.primary().text("S_PERSIS").as_deref(), Some("SKIPPED"));
    assert!(alone.primary().integer("NPERSIST").is_none() && flagged(&alone, "DQ").is_empty());
    assert_eq!(flagged(&run("stage1", &b, "2", &earlier), "DQ"), STAR);
    // Named with it, the other is known too.
    assert_eq!(flagged(&run("stage1", &b, "3", &[text(&a)]), "DQ"), STAR);
    // A ramp has the flag in PIXELDQ, and keeps it.
    let ramp = run("persistence", &b, "4", &earlier);
    assert_eq!(flagged(&ramp, "PIXELDQ"), STAR);
    let path = ramp.path.clone();
    let rate = run("stage1", &path, "5", &earlier);
    assert_eq!(flagged(&rate, "DQ"), STAR);
    // A region of the detector, by the detector's pixels.
    let moved = STAR.map(|(x, y)| (x - 24, y - 12));
    assert_eq!(flagged(&run("stage1", &part, "6", &earlier), "DQ"), moved);
    // DO_NOT_USE where that is asked for.
    let strict =
        run("stage1", &b, "7", &[&earlier[..], &["--steps.persistence.persistence_dnu=true"]].concat());
    let data = strict.f32(strict.hdu("DATA").expect("DATA")).expect("data");
    assert!(STAR.iter().all(|(x, y)| data[y * N + x].is_nan()));
    assert_eq!(data.iter().filter(|v| v.is_nan()).count(), STAR.len());
}
