//! Other programs' results through the public command line: a JWST-like ramp with
//! its references is written, reduced with `irisgpu run`, and compared.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::path::Path;

use irisgpu::fits::{Fits, Header, Pixels};
use serde_json::Value;
use support::{Case, Job, write};

/// A rate by `algorithm` against the case, relative (or in `sigma`); DQ and NaN exact.
fn fitted(case: &Case, algorithm: &str, sigma: f64) {
    let (shape, plane) = (case.shape("in_data"), case.shape("in_gain"));
    let (gain, noise) = (case.f32("in_gain"), case.f32("in_readnoise"));
    let dark = case.f32("in_average_dark_current");
    let mut job = Job::new();
    let unit = |u: &str| Value::from(u);
    job.reference("gain", &[], &[("DATA", &plane, Pixels::F32(&gain))]);
    let cards = [("RNFORM", unit("CDS")), ("BUNIT", unit("DN"))];
    job.reference("readnoise", &cards, &[("DATA", &plane, Pixels::F32(&noise))]);
    job.options.push(format!("--steps.ramp_fit.algorithm={algorithm}"));
    job.options.push("--steps.ramp_fit.units=DN/s".into());
    job.options.push(case.option("ramp_fit", "suppress_one_group", "suppress_one_group"));
    let data = case.f32("in_data");
    let flags: Vec<u8> = case.array("in_groupdq").iter().map(|f| *f as u8).collect();
    let pixeldq: Vec<u32> = case.array("in_pixeldq").iter().map(|f| *f as u32).collect();
    let times = [
        ("TFRAME", "frame_time"),
        ("TGROUP", "group_time"),
        ("NFRAMES", "nframes"),
        ("GROUPGAP", "groupgap"),
    ];
    let cards = times.map(|(key, name)| (key, case.meta(name).clone()));
    let frames = [shape[0], plane[0], plane[1]];
    let zero = if case.0["arrays"].get("in_zeroframe").is_some() { case.f32("in_zeroframe") } else { vec![] };
    let mut planes = vec![
        ("SCI", &shape[..], Pixels::F32(&data)),
        ("PIXELDQ", &plane[..], Pixels::U32(&pixeldq)),
        ("GROUPDQ", &shape[..], Pixels::U8(&flags)),
        ("AVERAGE_DARK_CURRENT", &plane[..], Pixels::F32(&dark)),
    ];
    if !zero.is_empty() {
        planes.push(("ZEROFRAME", &frames[..], Pixels::F32(&zero)));
    }
    let ints = case.0["arrays"].get("out_int_slope").is_some();
    if ints {
        job.options.push("--save_ramps".into());
    }
    let (dir, fits) = job.run("ramp_fit", &cards, &planes);
    if ints {
        of_ramps(case, dir.path());
    }
    let image = |name: &str| fits.f32(fits.hdu(name).expect(name)).expect(name);
    let (slope, err) = (image("DATA"), image("ERR"));
    let dq = fits.u32(fits.hdu("DQ").expect("DQ")).expect("DQ");
    let (slope0, err0, dq0) = (case.array("out_slope"), case.array("out_err"), case.array("out_dq"));
    for i in 0..slope.len() {
        let lost = u32::from(slope0[i].is_nan());
        assert_eq!(slope[i].is_nan(), slope0[i].is_nan(), "{} {i}", case.id());
        assert_eq!(dq[i] | lost, dq0[i] as u32 | lost, "{} {i}", case.id());
        if lost == 0 {
            let allowed = (1e-6 * slope0[i].abs()).max(sigma * err0[i]) + 1e-12;
            let off = (f64::from(slope[i]) - slope0[i]).abs();
            assert!(off <= allowed, "{} {i}: {} against {}", case.id(), slope[i], slope0[i]);
            assert!((f64::from(err[i]) - err0[i]).abs() <= 1e-6 * err0[i], "{} {i}: error", case.id());
        }
    }
}

/// The rates of single ramps are stcal's rateints: their photons' part of the variance is
/// from the rate of all ramps.
fn of_ramps(case: &Case, folder: &Path) {
    let mut files = std::fs::read_dir(folder.join("out")).expect("output").map(|f| f.expect("file").path());
    let path = files.find(|p| p.to_string_lossy().ends_with("_ramps.fits")).expect("rates of ramps");
    let fits = Fits::open(&path).expect("open");
    let dq = fits.u32(fits.hdu("DQ").expect("DQ")).expect("DQ");
    let (slope, bits) = (case.array("out_int_slope"), case.array("out_int_dq"));
    for (i, slope) in slope.iter().enumerate() {
        let lost = u32::from(slope.is_nan());
        assert_eq!(dq[i] | lost, bits[i] as u32 | lost, "{} ramps {i}", case.id());
    }
    for (hdu, name) in [
        ("DATA", "out_int_slope"),
        ("ERR", "out_int_err"),
        ("VAR_POISSON", "out_int_var_poisson"),
        ("VAR_RNOISE", "out_int_var_rnoise"),
    ] {
        let got = fits.f32(fits.hdu(hdu).expect(hdu)).expect(hdu);
        for (i, (got, expected)) in got.into_iter().zip(case.array(name)).enumerate() {
            let got = f64::from(got);
            assert_eq!(got.is_nan(), slope[i].is_nan(), "{} {hdu} {i}", case.id());
            let off = (got - expected).abs();
            assert!(
                got.is_nan() || off <= 1e-6 * expected.abs() + 1e-12,
                "{} {hdu} {i}: {got}, {expected}",
                case.id()
            );
        }
    }
}

#[test]
fn ols_c_is_stcals() {
    let cases = Case::all("ols_c");
    cases.iter().for_each(|c| fitted(c, "ols_c", 0.0));
    assert!(cases.iter().filter(|c| c.0["arrays"].get("out_int_slope").is_some()).count() >= 6);
}

#[test]
fn likely_is_stcals() {
    Case::all("likely").iter().for_each(|c| fitted(c, "likely", 1e-5));
}

/// Mean times and frames of a read pattern, for every ramp.
fn pattern(case: &Case, ramps: usize) -> Option<(Vec<f64>, Vec<i16>)> {
    let reads = case.meta("read_pattern").as_array()?;
    let one = |r: &Value| -> Vec<f64> { r.as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect() };
    let times = reads.iter().map(|r| one(r).iter().sum::<f64>() / one(r).len() as f64);
    let frames = reads.iter().map(|r| one(r).len() as i16);
    let times: Vec<f64> = times.collect();
    let frames: Vec<i16> = frames.collect();
    Some((times.repeat(ramps), frames.repeat(ramps)))
}

/// A ramp that a step leaves, with the case's read pattern.
fn stepped(case: &Case, recipe: &str, job: Job) -> (tempfile::TempDir, Fits) {
    let shape = case.shape("in_data");
    let data = case.f32("in_data");
    let one = Value::from(1.0);
    let cards =
        [("TFRAME", one.clone()), ("TGROUP", one), ("NFRAMES", Value::from(1)), ("GROUPGAP", Value::from(0))];
    let flags: Vec<u8> = match case.0["arrays"].get("in_groupdq") {
        Some(_) => case.array("in_groupdq").iter().map(|f| *f as u8).collect(),
        None => vec![0; data.len()],
    };
    let (times, frames) = pattern(case, shape[0]).unwrap_or_default();
    let mut planes =
        vec![("SCI", &shape[..], Pixels::F32(&data)), ("GROUPDQ", &shape[..], Pixels::U8(&flags))];
    if !times.is_empty() {
        planes.push(("TIMES", &shape[..2], Pixels::F64(&times)));
        planes.push(("NSAMPLE", &shape[..2], Pixels::I16(&frames)));
    }
    job.run(recipe, &cards, &planes)
}

#[test]
fn two_point_jumps_are_stcals() {
    for case in Case::all("jump_2pt") {
        let shape = case.shape("in_data");
        let (ny, nx) = (shape[2], shape[3]);
        let given = case.f32("in_readnoise");
        let noise: Vec<f32> = (0..ny * nx).map(|i| given[i % given.len()]).collect();
        let mut job = Job::new();
        job.reference("gain", &[], &[("DATA", &[ny, nx], Pixels::F32(&vec![1.0; ny * nx]))]);
        let cards = [("RNFORM", Value::from("CDS")), ("BUNIT", Value::from("DN"))];
        job.reference("readnoise", &cards, &[("DATA", &[ny, nx], Pixels::F32(&noise))]);
        job.options.push("--steps.jump.method=two_point".into());
        for (parameter, name) in [
            ("rejection_threshold", "normal"),
            ("three_group_rejection_threshold", "two_diff"),
            ("four_group_rejection_threshold", "three_diff"),
            ("flag_4_neighbors", "flag_4_neighbors"),
            ("max_jump_to_flag_neighbors", "max_nb"),
            ("min_jump_to_flag_neighbors", "min_nb"),
            ("minimum_groups", "min_groups"),
            ("minimum_sigclip_groups", "min_sigclip"),
            ("only_use_ints", "only_use_ints"),
            ("min_diffs_single_pass", "min_diffs_single_pass"),
        ] {
            job.options.push(case.option("jump", parameter, name));
        }
        let after = case.meta("after").as_array().expect("after");
        for (parameter, value) in ["dn1", "time1", "dn2", "time2"].iter().zip(after) {
            job.options.push(format!("--steps.jump.after_jump_flag_{parameter}={value}"));
        }
        let (_dir, fits) = stepped(&case, "jump", job);
        let got = fits.u32(fits.hdu("GROUPDQ").expect("GROUPDQ")).expect("flags");
        let expected: Vec<u32> = case.array("out_groupdq").iter().map(|f| *f as u32).collect();
        assert_eq!(got, expected, "{}", case.id());
    }
}

/// Compares the flags that `saturation` sets on a device.
fn saturated(device: &str) {
    for case in Case::all("saturation") {
        let shape = case.shape("in_data");
        let plane = &shape[2..];
        let (level, bits) = (case.f32("in_sat_thresh"), case.array("in_sat_dq"));
        let bits: Vec<u32> = bits.iter().map(|f| *f as u32).collect();
        let mut job = Job { device: device.to_owned(), ..Job::new() };
        let planes = [("DATA", plane, Pixels::F32(&level)), ("DQ", plane, Pixels::U32(&bits))];
        job.reference("saturation", &[], &planes);
        job.options.push(case.option("saturation", "n_pix_grow_sat", "n_pix_grow_sat"));
        let (_dir, fits) = stepped(&case, "saturation", job);
        for (hdu, name) in [("GROUPDQ", "out_groupdq"), ("PIXELDQ", "out_pixeldq")] {
            let got = fits.u32(fits.hdu(hdu).expect(hdu)).expect("flags");
            let expected: Vec<u32> = case.array(name).iter().map(|f| *f as u32).collect();
            assert_eq!(got, expected, "{} {hdu}", case.id());
        }
    }
}

#[test]
fn saturation_is_stcals() {
    saturated("cpu");
}

#[test]
fn saturation_is_stcals_on_a_gpu() {
    if let Some(gpu) = irisgpu::engine::testing::gpu() {
        saturated(&gpu.device().name);
    }
}

/// The input of the REFPIX_NIR case by its formula: (2, 2048, 2048).
fn nir_input() -> Vec<f32> {
    let n = 2048u64;
    let pixel = |g: u64, i: u64, j: u64| {
        let mixed = i.wrapping_mul(73_856_093) ^ j.wrapping_mul(19_349_663) ^ ((g + 1) * 83_492_791);
        let hash = mixed.wrapping_mul(2_654_435_761) & 0xffff_ffff;
        let noise = ((hash >> 8) % 2001) as f64 / 50.0 - 20.0;
        let row = 6.0 * (std::f64::consts::TAU * i as f64 / 333.0).sin() + 0.01 * i as f64;
        let amplifier = [5.0, -3.0, 2.0, 7.0][(j / 512) as usize];
        let odd = if j.is_multiple_of(2) { 1.5 } else { -1.5 };
        let odd = odd * (g + 1) as f64;
        let inner = |k: u64| (4..n - 4).contains(&k);
        let signal = if inner(i) && inner(j) { 100.0 } else { 0.0 };
        (noise + row + amplifier + odd + signal) as f32
    };
    (0..2).flat_map(|g| (0..n).flat_map(move |i| (0..n).map(move |j| pixel(g, i, j)))).collect()
}

/// One file of a ramp, with the options that `refpix` runs with.
fn refpix(device: &str, shape: [usize; 4], data: &[f32], bits: &[u32], options: &[String]) -> Vec<f32> {
    let mut job = Job { device: device.to_owned(), ..Job::new() };
    job.options.extend_from_slice(options);
    let one = Value::from(1.0);
    let cards = [
        ("TFRAME", one.clone()),
        ("TGROUP", one),
        ("NFRAMES", Value::from(1)),
        ("GROUPGAP", Value::from(0)),
        ("NOUTPUTS", Value::from(4)),
    ];
    let planes = [("SCI", &shape[..], Pixels::F32(data)), ("PIXELDQ", &shape[2..], Pixels::U32(bits))];
    let (_dir, fits) = job.run("refpix", &cards, &planes);
    fits.f32(fits.hdu("DATA").expect("DATA")).expect("DATA")
}

/// JWST's reference-pixel step, to 2e-4 DN.
fn median_of_jwst(device: &str) {
    const N: usize = 2048;
    let data = nir_input();
    let mut bits = vec![0; N * N];
    (100..110).for_each(|y| bits[y * N + 1] = 1);
    bits[2 * N + 600] = 1;
    for case in Case::all("refpix_nir") {
        let rows = case.f32("in_first_rows");
        let at = |i: usize| data[i / 96 * N * N + i / 32 % 3 * N + i % 32 * 64];
        assert!(rows.iter().enumerate().all(|(i, v)| at(i) == *v), "the input is not the case's");
        for (variant, option) in [
            ("full", "odd_even_columns=true"),
            ("tb_only", "use_side_ref_pixels=false"),
            ("no_oddeven", "odd_even_columns=false"),
        ] {
            let options = ["refpix_algorithm=median", option].map(|o| format!("--steps.refpix.{o}"));
            let got = refpix(device, [1, 2, N, N], &data, &bits, &options);
            let near = |k: usize, y: usize, x: usize, expected: f64| {
                let got = f64::from(got[(k * N + y) * N + x]);
                assert!((got - expected).abs() < 2e-4, "{variant} {k} {y} {x}: {got}, {expected}");
            };
            for (i, v) in case.array(&format!("out_{variant}_s16")).into_iter().enumerate() {
                near(i / 256, i / 16 % 16 * 128, i % 16 * 128, v);
            }
            for (i, v) in case.array(&format!("out_{variant}_rows")).into_iter().enumerate() {
                near(i / 160, i / 5 % 32 * 64, [0, 5, 600, 1300, 2046][i % 5], v);
            }
        }
    }
}

#[test]
fn the_median_of_reference_pixels_is_jwst_s() {
    median_of_jwst("cpu");
}

#[test]
fn the_median_of_reference_pixels_is_jwst_s_on_a_gpu() {
    if let Some(gpu) = irisgpu::engine::testing::gpu() {
        median_of_jwst(&gpu.device().name);
    }
}

/// SIRS in the time domain, to 1e-3 DN: only side columns are reference pixels.
fn sirs_of_jwst(device: &str) {
    for case in Case::all("refpix_sirs") {
        let (data, shape) = (case.f32("in_data"), case.shape("in_data"));
        let (ny, nx) = (shape[0], shape[1]);
        let side = |i: usize| i % nx < 4 || i % nx >= nx - 4;
        let bits: Vec<u32> = (0..ny * nx).map(|i| if side(i) { 1 << 31 } else { 0 }).collect();
        let folder = tempfile::tempdir().expect("folder");
        let kernels = folder.path().join("kernels.fits");
        let mut primary = Header::new();
        primary.set("REFTYPE", "refpix", "");
        let (left, right) = (case.array("in_kernels_left"), case.array("in_kernels_right"));
        let taps = case.shape("in_kernels_left");
        write(
            &kernels,
            &primary,
            &[("LEFT", &taps, Pixels::F64(&left)), ("RIGHT", &taps, Pixels::F64(&right))],
        );
        let options = [
            "--steps.refpix.refpix_algorithm=sirs".to_owned(),
            case.option("refpix", "sigreject", "sigreject"),
            format!("--override_refpix={}", kernels.display()),
        ];
        let got = refpix(device, [1, 1, ny, nx], &data, &bits, &options);
        for (i, expected) in case.array("out_data").into_iter().enumerate() {
            let (y, x) = (i / 4, [0, 5, 10, 15][i % 4]);
            let got = f64::from(got[y * nx + x]);
            assert!((got - expected).abs() < 1e-3, "{y} {x}: {got}, {expected}");
        }
    }
}

#[test]
fn sirs_is_jwst_s() {
    sirs_of_jwst("cpu");
}

#[test]
fn sirs_is_jwst_s_on_a_gpu() {
    if let Some(gpu) = irisgpu::engine::testing::gpu() {
        sirs_of_jwst(&gpu.device().name);
    }
}
