//! Long exposures and many ramps, and what must not matter: threads and memory.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};

/// Writes ramps of `n` × `n` pixels at 20 DN/s and more, with a star that saturates,
/// hits, and noise enough for every decision.
fn exposure(path: &Path, ramps: usize, reads: usize, n: usize) {
    let mut h = Header::new();
    h.set("DETECTOR", "IMG1", "");
    h.set("GAIN", 2.0, "");
    h.set("READNOIS", 10.0, "");
    let times: Vec<f64> = (0..ramps * reads).map(|i| (i % reads + 1) as f64).collect();
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 16) / 65_536.0 - 0.5
    };
    let mut level = vec![0.0; n * n];
    let mut data = Vec::with_capacity(times.len() * n * n);
    for k in 0..times.len() {
        for (p, level) in level.iter_mut().enumerate() {
            if k % reads == 0 {
                *level = 1000.0;
            }
            let star = p % 97 == 41;
            *level += if star { 90_000.0 / reads as f64 } else { 20.0 } + 10.0 * noise();
            // A hit now and then.
            *level += if noise() > 0.4995 { 500.0 } else { 0.0 };
            data.push((*level + 17.0 * noise()).clamp(0.0, 65_535.0) as u16);
        }
    }
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("TIMES", &Header::new(), &[ramps, reads], Pixels::F64(&times)).expect("times");
    w.image("DATA", &Header::new(), &[ramps, reads, n, n], Pixels::U16(&data)).expect("data");
    w.finish().expect("finish");
}

fn run(file: &Path, out: PathBuf, options: &[&str]) -> Fits {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.stdin(Stdio::null()).args(["run", "stage1"]).arg(file).arg("-o").arg(&out);
    let done = command.args(["--steps.refpix.skip=true"]).args(options).output().expect("run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let all = std::fs::read_dir(&out).expect("folder").flatten().map(|f| f.path());
    let product = all.filter(|p| p.extension().is_some_and(|e| e == "fits")).max();
    Fits::open(&product.expect("product")).expect("product")
}

/// DATASUM of every HDU after the first.
fn sums(fits: &Fits) -> Vec<String> {
    fits.hdus.iter().skip(1).map(|h| h.header.text("DATASUM").expect("DATASUM")).collect()
}

#[test]
fn neither_threads_nor_memory_change_a_bit() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("ramp.fits");
    exposure(&file, 2, 9, 72);
    let two_point = ["--steps.jump.method=two_point", "--steps.ramp_fit.algorithm=ols_c"];
    let methods: [&[&str]; 4] =
        [&[], &["--steps.ramp_fit.algorithm=ols"], &two_point, &["--steps.ramp_fit.algorithm=likely"]];
    let gpu = irisgpu::engine::testing::gpu().map(|g| g.device().name.clone());
    for (m, method) in methods.iter().enumerate() {
        for device in std::iter::once("cpu").chain(gpu.as_deref()) {
            let with = |name: &str, options: &[&str]| {
                let out = dir.path().join(format!("{m}-{}-{name}", device.len()));
                sums(&run(&file, out, &[method, options, &["--device", device]].concat()))
            };
            let whole = with("whole", &[]);
            assert_eq!(
                whole,
                with("narrow", &["--threads", "1", "--memory", "400kB"]),
                "{method:?} {device}"
            );
            assert_eq!(whole, with("two", &["--threads", "2", "--memory", "1MB"]), "{method:?} {device}");
            // Another fit is other bits: the sums can differ.
            let other = with("other", &["--steps.jump.skip=true", "--steps.saturation.skip=true"]);
            assert_ne!(whole, other, "{method:?} {device}");
        }
    }
}

#[test]
fn two_hundred_reads_of_sixteen_ramps() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("ramp.fits");
    exposure(&file, 16, 200, 12);
    for algorithm in ["likelihood", "ols_c", "likely"] {
        let option = format!("--steps.ramp_fit.algorithm={algorithm}");
        let grow = "--steps.saturation.n_pix_grow_sat=0";
        let fits = run(&file, dir.path().join(algorithm), &[&option, grow, "--device", "cpu"]);
        let plane = |name: &str| fits.f32(fits.hdu(name).expect(name)).expect(name);
        let (rate, reads) = (plane("DATA"), plane("NREADS"));
        for p in 0..rate.len() {
            let star = p % 97 == 41;
            let truth = if star { 900.0 } else { 40.0 };
            assert!((rate[p] / truth - 1.0).abs() < 0.05, "{algorithm} {p}: {}", rate[p]);
            assert!(if star { reads[p] < 16.0 * 145.0 } else { reads[p] == 3200.0 }, "{p}: {}", reads[p]);
        }
    }
}
