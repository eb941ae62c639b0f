//! A full frame that was taken with subarrays, from its raw files to one frame again,
//! through the public command line.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use irisgpu::fits::{Fits, Pixels};
use serde_json::Value;
use support::{Job, write};

const NY: usize = 30;
const NX: usize = 41;
const READS: usize = 6;
/// OUTLIER and DO_NOT_USE.
const APART: u32 = 17;

fn devices() -> Vec<String> {
    let gpu = irisgpu::engine::testing::gpu().map(|g| g.device().name.clone());
    std::iter::once("cpu".to_owned()).chain(gpu).collect()
}

fn windows() -> [(Range<usize>, Range<usize>); 2] {
    [(3..11, 20..37), (14..29, 5..9)]
}

/// (…, NY, NX) cut out.
fn cut<T: Copy>(all: &[T], (rows, columns): &(Range<usize>, Range<usize>)) -> Vec<T> {
    let frames = all.chunks(NY * NX);
    frames
        .flat_map(|f| rows.clone().flat_map(move |y| f[y * NX..][columns.clone()].iter().copied()))
        .collect()
}

struct Night {
    dir: tempfile::TempDir,
    device: String,
}

impl Night {
    /// The exposure as it would be without subarrays (whole.fits), the full frame with
    /// two windows missing, the subarrays, and references of the detector.
    fn new(device: &str) -> Night {
        let dir = tempfile::tempdir().expect("folder");
        let night = Night { dir, device: device.to_owned() };
        let rate = |p: usize| 20.0 + (p % 97) as f64 * 3.0;
        let reads: Vec<u16> = (0..READS * NY * NX)
            .map(|i| {
                (2000.0 + (i / (NY * NX) + 1) as f64 * rate(i % (NY * NX)) + (i * 7919 % 13) as f64) as u16
            })
            .collect();
        let mut holes = reads.clone();
        let mut map = vec![0u8; NY * NX];
        for (k, (rows, columns)) in windows().into_iter().enumerate() {
            for y in rows {
                map[y * NX..][columns.clone()].fill(k as u8 + 1);
                (0..READS).for_each(|r| holes[(r * NY + y) * NX..][columns.clone()].fill(0));
            }
        }
        let times: Vec<f64> = (1..=READS).map(|k| 2.0 * k as f64).collect();
        let full = [("SUBARRAY", Value::from("FULL")), ("SUBARRID", Value::from(0))];
        let frame: &[usize] = &[1, READS, NY, NX];
        let t: (&str, &[usize], Pixels<'_>) = ("TIMES", &[1, READS], Pixels::F64(&times));
        night.write("whole", &full, &[("DATA", frame, Pixels::U16(&reads)), t]);
        let m: (&str, &[usize], Pixels<'_>) = ("SUBARR_MAP", &[NY, NX], Pixels::U8(&map));
        night.write("full", &full, &[("DATA", frame, Pixels::U16(&holes)), t, m]);
        for (k, w) in windows().iter().enumerate() {
            let shape = [1, READS, w.0.len(), w.1.len()];
            let data = cut(&reads, w);
            night.write(
                &format!("sub{}", k + 1),
                &Self::custom(k, w),
                &[("DATA", &shape, Pixels::U16(&data)), t],
            );
        }
        let plane = |a: f32, b: f32| (0..NY * NX).map(|p| a + b * (p % 31) as f32).collect::<Vec<f32>>();
        for (name, values, err) in [
            ("gain", plane(2.0, 0.01), 0.0),
            ("dark", plane(0.3, 0.02), 0.05),
            ("flat", plane(0.9, 0.005), 0.01),
        ] {
            night.reference(name, &[], &values, err, &[NY, NX]);
        }
        night
    }

    fn custom(k: usize, (rows, columns): &(Range<usize>, Range<usize>)) -> Vec<(&'static str, Value)> {
        vec![
            ("SUBARRAY", "CUSTOM".into()),
            ("SUBARRID", (k as i64 + 1).into()),
            ("SUBSTRT1", (columns.start as i64 + 1).into()),
            ("SUBSTRT2", (rows.start as i64 + 1).into()),
            ("SUBSIZE1", (columns.len() as i64).into()),
            ("SUBSIZE2", (rows.len() as i64).into()),
        ]
    }

    fn reference(&self, name: &str, cards: &[(&str, Value)], values: &[f32], err: f32, shape: &[usize]) {
        let reftype = Value::from(name.trim_end_matches(char::is_numeric));
        let cards = [&[("REFTYPE", reftype), ("FILTER", "H".into())], cards].concat();
        let err = vec![err; values.len()];
        write(
            &self.path(name),
            &Job::primary(&cards),
            &[("DATA", shape, Pixels::F32(values)), ("ERR", shape, Pixels::F32(&err))],
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.fits"))
    }

    fn write(&self, name: &str, cards: &[(&str, Value)], planes: &[(&str, &[usize], Pixels<'_>)]) {
        let about = [
            ("OBSNAME", Value::from("IMG1-SCI")),
            ("IMTYPE", Value::from("SCI")),
            ("EXPNUM", Value::from(7)),
            ("FILTER", Value::from("H")),
        ];
        write(&self.path(name), &Job::primary(&[&about, cards].concat()), planes);
    }

    fn run(&self, recipe: &str, files: &[PathBuf], out: &str, options: &[String]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["run", recipe]).args(files).arg("-o").arg(self.dir.path().join(out));
        command.args(["--device", &self.device]).args(options).output().expect("irisgpu")
    }

    fn options(&self, dark: &str) -> Vec<String> {
        let mut options: Vec<String> = ["refpix", "jump", "persistence", "background", "cosmic_rays"]
            .iter()
            .map(|s| format!("--steps.{s}.skip=true"))
            .collect();
        options.extend(["gain", "flat"].map(|r| format!("--override_{r}={}", self.path(r).display())));
        options.push(format!("--override_dark={}", self.path(dark).display()));
        options
    }

    /// Products of a run that went well, by the end of their names.
    fn reduced(
        &self,
        recipe: &str,
        files: &[PathBuf],
        out: &str,
        dark: &str,
    ) -> impl Fn(&str) -> PathBuf + use<> {
        let done = self.run(recipe, files, out, &self.options(dark));
        assert!(done.status.success(), "{recipe}: {}", String::from_utf8_lossy(&done.stderr));
        let out = self.dir.path().join(out);
        move |end: &str| named(&out, end)
    }
}

fn named(folder: &Path, end: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("folder").map(|f| f.expect("file").path());
    let names: Vec<PathBuf> = files.collect();
    names
        .iter()
        .find(|p| p.to_string_lossy().ends_with(end))
        .unwrap_or_else(|| panic!("{end} in {names:?}"))
        .clone()
}

fn bits(f: &Fits, name: &str) -> Vec<u32> {
    f.f32(f.hdu(name).expect(name)).expect(name).into_iter().map(f32::to_bits).collect()
}

fn flags(f: &Fits) -> Vec<u32> {
    f.u32(f.hdu("DQ").expect("DQ")).expect("DQ")
}

fn open(path: &Path) -> Fits {
    Fits::open(path).expect("product")
}

fn status(f: &Fits, keyword: &str) -> String {
    f.primary().text(keyword).unwrap_or_default()
}

#[test]
fn subarrays_are_reduced_with_cut_out_references_and_put_back() {
    for device in devices() {
        let night = Night::new(&device);
        // A dark of the second subarray's own window: what matches need not be cut out.
        let w = &windows()[1];
        let dark = open(&night.path("dark"));
        let own = cut(&dark.f32(dark.hdu("DATA").expect("DATA")).expect("DATA"), w);
        night.reference("dark2", &Night::custom(1, w), &own, 0.05, &[w.0.len(), w.1.len()]);
        for (recipe, level) in [("stage1", 1), ("imager", 2)] {
            let out = |what: &str| format!("{recipe}-{what}");
            let whole = night.reduced(recipe, &[night.path("whole")], &out("whole"), "dark");
            let apart =
                night.reduced(recipe, &["full", "sub1"].map(|n| night.path(n)), &out("apart"), "dark");
            let second = night.reduced(recipe, &[night.path("sub2")], &out("apart2"), "dark2");
            let name = |k: &str| format!("_IRIS_IMG1_SCI_LVL{level}_0007{k}.fits");
            let files = [apart(&name("")), apart(&name("-01")), second(&name("-02"))];
            let whole_file = whole(&name(""));
            let (whole, full) = (open(&whole_file), open(&files[0]));
            let missing: Vec<bool> = (0..NY * NX)
                .map(|p| windows().iter().any(|(r, c)| r.contains(&(p / NX)) && c.contains(&(p % NX))))
                .collect();
            // The full frame: flagged where it has nothing, else as if there were no subarrays.
            for name in ["DATA", "ERR"] {
                let (a, b) = (bits(&full, name), bits(&whole, name));
                assert!((0..NY * NX).all(|p| missing[p] || a[p] == b[p]), "{recipe} {name}");
                assert!(
                    (0..NY * NX).all(|p| !missing[p] || f32::from_bits(a[p]).is_nan()),
                    "{recipe} {name}"
                );
            }
            assert!(flags(&full).iter().zip(&missing).all(|(q, m)| (q & APART == APART) == *m), "{recipe}");
            assert_eq!(
                (status(&full, "S_PARSSA"), status(&whole, "S_PARSSA")),
                ("COMPLETE".into(), "SKIPPED".into())
            );
            let map = full.hdu("SUBARR_MAP").expect("map");
            let said = ["SUB1X0", "SUB1Y0", "SUB1NX", "SUB1NY", "SUB2X0", "SUB2Y0", "NSUBARR"];
            assert_eq!(said.map(|k| map.header.integer(k).expect(k)), [21, 4, 17, 8, 6, 15, 2]);
            assert!(said.iter().all(|k| !full.primary().has(k)) && !full.primary().has("SUBSTRT1"));
            assert!(whole.hdu("SUBARR_MAP").is_none());

            // All of them in any order, back into one.
            let order = [files[1].clone(), files[0].clone(), files[2].clone()];
            let done = night.run("merge_subarrays", &order, &out("merged"), &[]);
            assert!(done.status.success(), "{recipe}: {}", String::from_utf8_lossy(&done.stderr));
            let path = named(&night.dir.path().join(out("merged")), &name("_merged"));
            let merged = open(&path);
            let all: &[&str] = match level {
                1 => &["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2"],
                _ => &["DATA", "ERR", "VAR_COMMON"],
            };
            for name in all {
                assert!(bits(&merged, name) == bits(&whole, name), "{device} {recipe}: {name} differs");
            }
            assert_eq!(flags(&merged), flags(&whole), "{recipe}");
            assert_eq!(
                (merged.primary().integer("NSUBMRG"), merged.primary().integer("DATALVL")),
                (Some(2), Some(level))
            );
            assert_eq!(status(&merged, "S_MERGSA"), "COMPLETE");

            // One that is not there leaves its pixels as they were.
            let done = night.run("merge_subarrays", &order[..2], &out("part"), &[]);
            let said = [done.stdout, done.stderr].concat();
            assert!(
                done.status.success() && String::from_utf8_lossy(&said).contains("no file is subarray 2")
            );
            let part = open(&named(&night.dir.path().join(out("part")), &name("_merged")));
            let left = flags(&part).iter().filter(|q| **q & APART == APART).count();
            assert_eq!(left, 15 * 4);

            let copy = night.path("copy");
            // To the last bit it would count once.
            let mut bytes = std::fs::read(&files[1]).expect("read");
            *bytes.last_mut().expect("a byte") ^= 1;
            std::fs::write(&copy, bytes).expect("write");
            for (wrong, sentence) in [
                (vec![path.clone(), files[1].clone()], "already (S_MERGSA"),
                (vec![files[1].clone(), files[2].clone()], "no file is the full frame"),
                (vec![files[0].clone(), whole_file, files[1].clone()], "both full frames"),
                (vec![files[0].clone(), files[1].clone(), copy], "another subarray 1"),
                (vec![files[0].clone(), night.path("sub1")], "not reduced yet"),
            ] {
                let done = night.run("merge_subarrays", &wrong, "wrong", &[]);
                let said = String::from_utf8_lossy(&done.stderr).replace('\n', " ");
                assert!(!done.status.success() && said.contains(sentence), "{sentence}: {said}");
            }
        }
    }
}

#[test]
fn a_night_puts_them_back_unasked() {
    for device in devices() {
        let night = Night::new(&device);
        let raw = night.dir.path().join("raw");
        std::fs::create_dir(&raw).expect("folder");
        for name in ["full", "sub1", "sub2"] {
            std::fs::rename(night.path(name), raw.join(format!("{name}.fits"))).expect("move");
        }
        let mut options = vec![raw.display().to_string()];
        options.extend(night.options("dark"));
        let reduce = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
            let done = command.arg("reduce").args(&options).args(["--device", &device, "--json"]).output();
            let done = done.expect("irisgpu");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            serde_json::from_slice::<Value>(&done.stdout).expect("json")
        };
        let first = reduce();
        let whole = night.reduced("imager", &[night.path("whole")], "whole", "dark");
        let whole = open(&whole("_LVL2_0007.fits"));
        let merged = open(&named(&raw.join("reduced"), "_LVL2_0007_merged.fits"));
        for name in ["DATA", "ERR", "VAR_COMMON"] {
            assert!(bits(&merged, name) == bits(&whole, name), "{device}: {name} differs");
        }
        assert_eq!(flags(&merged), flags(&whole));
        let states = |json: &Value| json["tasks"].to_string().matches("up to date").count();
        assert_eq!((states(&first), states(&reduce())), (0, 4), "{first}");
    }
}

/// The level of a subarray is that of what it was read for: the factor on its sky is the
/// full frame's, so that the merged frame has no step.
#[test]
fn the_sky_of_a_subarray_has_the_factor_of_its_full_frame() {
    let night = Night::new("cpu");
    let raw = night.dir.path().join("raw");
    std::fs::create_dir(&raw).expect("folder");
    // By name, the subarrays come first.
    for (name, new) in [("full", "z"), ("sub1", "a"), ("sub2", "b")] {
        std::fs::rename(night.path(name), raw.join(format!("{new}.fits"))).expect("move");
    }
    let sky: Vec<f32> = (0..NY * NX).map(|p| 20.0 + (p % 7) as f32).collect();
    night.reference("sky", &[], &sky, 0.1, &[NY, NX]);
    let mut options = night.options("dark");
    options.retain(|o| !o.contains("background"));
    options.push(format!("--override_sky={}", night.path("sky").display()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    let done = command.arg("reduce").arg(&raw).args(&options).args(["--device", "cpu"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let product = |end: &str| open(&named(&raw.join("reduced"), end));
    let factor = |f: &Fits| f.primary().number("SKYSCALE").expect("SKYSCALE");
    let merged = product("_LVL2_0007_merged.fits");
    let k = factor(&merged);
    assert!((k - 1.0).abs() > 0.5, "{k}");
    for end in ["_LVL2_0007.fits", "_LVL2_0007-01.fits", "_LVL2_0007-02.fits"] {
        assert_eq!(factor(&product(end)), k, "{end}");
    }
    options.extend(
        ["scaling=fixed".to_owned(), format!("scale={k}")].map(|s| format!("--steps.background.{s}")),
    );
    let done = night.run("imager", &[night.path("whole")], "whole", &options);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let whole = open(&named(&night.dir.path().join("whole"), "_LVL2_0007.fits"));
    let values = |f: &Fits| f.f32(f.hdu("DATA").expect("DATA")).expect("DATA");
    // SKYSCALE has six decimals.
    let apart = |(a, b): (f32, f32)| (a - b).abs() > 1e-4;
    assert_eq!(values(&merged).into_iter().zip(values(&whole)).filter(|p| apart(*p)).count(), 0);
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let night = Night::new("cpu");
    let raw = open(&night.path("full"));
    let reads: Vec<u16> =
        raw.f32(raw.hdu("DATA").expect("DATA")).expect("DATA").iter().map(|v| *v as u16).collect();
    for (at, id, sentence) in
        [(0, 11, "holds 11 at (1, 1)"), (0, 1, "write whole rectangles"), (4 * NX + 22, 0, "write whole")]
    {
        let map = raw.hdu("SUBARR_MAP").expect("map");
        let mut map: Vec<u8> = raw.u32(map).expect("map").iter().map(|v| *v as u8).collect();
        map[at] = id;
        let times: Vec<f64> = (1..=READS).map(|k| k as f64).collect();
        night.write(
            "wrong",
            &[],
            &[
                ("DATA", &[1, READS, NY, NX], Pixels::U16(&reads)),
                ("TIMES", &[1, READS], Pixels::F64(&times)),
                ("SUBARR_MAP", &[NY, NX], Pixels::U8(&map)),
            ],
        );
        let done = night.run("stage1", &[night.path("wrong")], "wrong", &[]);
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(said.contains("SUBARR_MAP") && said.contains(sentence), "{said}");
    }
}
