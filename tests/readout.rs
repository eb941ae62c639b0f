//! `irisgpu readout` through the public command line: iris_readout's own sample, its
//! formulas, and the way on from its product.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use irisgpu::fits::{Fits, Pixels};
use serde_json::Value;
use support::{Job, write};

fn devices() -> Vec<String> {
    let gpu = irisgpu::engine::testing::gpu().map(|g| g.device().name.clone());
    std::iter::once("cpu".to_owned()).chain(gpu).collect()
}

fn irisgpu(args: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).arg("-o").arg(out).output().expect("irisgpu")
}

/// The one product in a folder, of a run that went well.
fn product(args: &[&str], out: &Path) -> (PathBuf, Fits) {
    let done = irisgpu(args, out);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    let files = std::fs::read_dir(out).expect("folder").map(|f| f.expect("file").path());
    let fits: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "fits")).collect();
    assert_eq!(fits.len(), 1, "{fits:?}");
    let file = Fits::open(&fits[0]).expect("product");
    (fits[0].clone(), file)
}

fn numbers(f: &Fits, name: &str) -> Vec<f64> {
    f.f32(f.hdu(name).expect(name)).expect(name).into_iter().map(f64::from).collect()
}

fn unit(f: &Fits, name: &str) -> String {
    f.hdu(name).expect(name).header.text("BUNIT").unwrap_or_default()
}

/// The sample of iris_readout as it lies there: iris_pipeline's layout, four reads of
/// 10 x 10 pixels, 4000 counts more each, and not a word about time.
fn sample(path: &Path) {
    let cards = [
        ("DATAMODL", Value::from("TMTRampModel")),
        ("DETECTOR", Value::from("IRIS1")),
        ("TELESCOP", Value::from("TMT")),
        ("DATE-OBS", Value::from("2015-10-11")),
        ("TIME-OBS", Value::from("00:00:00")),
    ];
    let reads: Vec<f32> = (0..400).map(|i| (i / 100 * 4000) as f32).collect();
    let planes: [(&str, &[usize], Pixels<'_>); 4] = [
        ("SCI", &[1, 4, 10, 10], Pixels::F32(&reads)),
        ("PIXELDQ", &[10, 10], Pixels::U32(&[0; 100])),
        ("GROUPDQ", &[1, 4, 10, 10], Pixels::U8(&[0; 400])),
        ("ERR", &[1, 4, 10, 10], Pixels::F32(&[0.0; 400])),
    ];
    write(path, &Job::primary(&cards), &planes);
}

#[test]
fn the_sample_of_iris_readout_gives_what_its_library_gives() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("sample_ramp.fits");
    sample(&file);
    let file = file.to_str().expect("path");
    for (i, device) in devices().iter().enumerate() {
        for (mode, counts, span) in [
            (&["-s", "utr"][..], 12000.0, 12.0),
            (&["-s", "cds"], 12000.0, 12.0),
            (&["-s", "mcds", "--num_coadd=2"], 8000.0, 8.0),
        ] {
            let out = dir.path().join(format!("{i}{}", mode[1]));
            let args = [&["readout"], mode, &[file, "--read-time", "4", "--device", device]].concat();
            let (path, fits) = product(&args, &out);
            assert!(path.to_string_lossy().ends_with("_LVL1_0001_rop.fits"), "{path:?}");
            let near = |name: &str, expected: f64| {
                let values = numbers(&fits, name);
                assert!(
                    values.iter().all(|v| (v / expected - 1.0).abs() < 1e-6),
                    "{mode:?} {name}: {values:?}"
                );
            };
            near("DATA", counts);
            near("RATE", counts / span);
            let (err, rate) = (numbers(&fits, "ERR"), numbers(&fits, "RATE_ERR"));
            assert!(err.iter().zip(&rate).all(|(e, r)| *e > 1.0 && (e / r / span - 1.0).abs() < 1e-6));
            assert!(fits.u32(fits.hdu("DQ").expect("DQ")).expect("DQ").iter().all(|q| *q == 0));
            assert_eq!((unit(&fits, "DATA"), unit(&fits, "RATE")), ("adu".into(), "adu s-1".into()));
            assert_eq!(fits.primary().number("RAMPSPAN"), Some(span));
            assert_eq!(fits.primary().text("SAMPMODE").expect("mode").to_ascii_lowercase(), mode[1]);
        }
    }
    // Counts do not ask for the time.
    let (_, fits) = product(&["readout", file, "--device", "cpu"], &dir.path().join("timeless"));
    assert!(numbers(&fits, "DATA").iter().all(|v| (v - 12000.0).abs() < 0.01));
    // What means nothing is refused.
    for wrong in [&["-s", "median"][..], &["--num_coadd=0"], &["--steps.ramp_fit.algorithm=ols"]] {
        let done = irisgpu(&[&["readout", file], wrong].concat(), &dir.path().join("none"));
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
    }
}

/// Two ramps of uneven reads, one pixel saturated in the last read of both: the line
/// through the others, over the whole ramp's time; and on from there in electrons.
#[test]
fn counts_are_the_formula_s_and_lead_on_to_a_rate() {
    const N: usize = 7;
    let (ny, nx) = (9, 13);
    let (p, gain) = (ny * nx, 2.5);
    let times = [1.5, 3.0, 4.5, 9.0, 10.5, 15.0, 19.5];
    let mut state = 11u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let mut reads = vec![0u16; 2 * N * p];
    for (i, y) in reads.iter_mut().enumerate() {
        *y = (3000.0 + times[i / p % N] * (100.0 + (i % p) as f64) + 60.0 * draw()) as u16;
    }
    let bright = 4 * nx + 6;
    (0..2).for_each(|r| reads[(r * N + N - 1) * p + bright] = 65535);
    let dir = tempfile::tempdir().expect("folder");
    let at = |name: &str| dir.path().join(name);
    let planes: [(&str, &[usize], Pixels<'_>); 2] =
        [("DATA", &[2, N, ny, nx], Pixels::U16(&reads)), ("TIMES", &[2, N], Pixels::F64(&times.repeat(2)))];
    write(&at("ramp.fits"), &Job::primary(&[("IMTYPE", Value::from("SCI"))]), &planes);
    let reference = Job::primary(&[("REFTYPE", Value::from("gain"))]);
    write(&at("gain.fits"), &reference, &[("DATA", &[ny, nx], Pixels::F32(&vec![gain as f32; p]))]);
    let (ramp, gains) = (at("ramp.fits"), format!("--override_gain={}", at("gain.fits").display()));
    let ramp = ramp.to_str().expect("path");
    let value = |ramp: usize, k: usize, pixel: usize| f64::from(reads[(ramp * N + k) * p + pixel]);
    let line = |ramp: usize, n: usize, pixel: usize| {
        let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let (t, y) = (mean(&|k| times[k]), mean(&|k| value(ramp, k, pixel)));
        let sxy = mean(&|k| (times[k] - t) * (value(ramp, k, pixel) - y));
        sxy / mean(&|k| (times[k] - t).powi(2))
    };
    for (i, device) in devices().iter().enumerate() {
        for mode in ["utr", "mcds", "cds"] {
            let args = [
                "readout",
                "-s",
                mode,
                ramp,
                &gains,
                "--steps.saturation.n_pix_grow_sat=0",
                "--device",
                device,
            ];
            let (path, fits) = product(&args, &at(&format!("{mode}{i}")));
            let data = numbers(&fits, "DATA");
            let coadd = if mode == "mcds" { 3 } else { 1 };
            let mean = |r: usize, first: usize, pixel: usize| {
                (first..first + coadd).map(|k| value(r, k, pixel)).sum::<f64>() / coadd as f64
            };
            for pixel in (0..p).filter(|q| *q != bright || mode == "utr") {
                let n = if pixel == bright { N - 1 } else { N };
                let expected: f64 = (0..2)
                    .map(|r| match mode {
                        "utr" => line(r, n, pixel) * (times[N - 1] - times[0]),
                        _ => mean(r, N - coadd, pixel) - mean(r, 0, pixel),
                    })
                    .sum();
                assert!(
                    (data[pixel] / expected - 1.0).abs() < 3e-6,
                    "{mode} {pixel}: {} {expected}",
                    data[pixel]
                );
            }
            let dq = fits.u32(fits.hdu("DQ").expect("DQ")).expect("DQ");
            assert!((0..p).all(|q| (dq[q] & 2 != 0) == (q == bright)), "SATURATED in one pixel");
            // The product is a raw science frame: stage 1 makes a rate in e-/s of it.
            let span = fits.primary().number("RAMPSPAN").expect("span");
            let (_, rate) = product(
                &["run", "stage1", path.to_str().expect("path"), &gains, "--device", device],
                &at(&format!("rate-{mode}{i}")),
            );
            for name in ["DATA", "ERR"] {
                for (e, c) in numbers(&rate, name).iter().zip(numbers(&fits, name)) {
                    assert!((e * span / gain / c - 1.0).abs() < 1e-6, "{name}: {e} from {c}");
                }
            }
            assert!(!rate.primary().has("RAMPSPAN") && unit(&rate, "DATA") == "electron s-1");
            assert_eq!(rate.primary().text("S_RAMPFI").as_deref(), Some("COMPLETE"));
        }
    }
}
