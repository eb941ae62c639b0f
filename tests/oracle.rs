//! Other programs' results through the public command line: a JWST-like ramp with
//! its references is written, reduced with `irisgpu run`, and compared.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use irisgpu::fits::{Fits, Pixels};
use serde_json::Value;
use support::{Case, Job};

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
    let (_dir, fits) = job.run(
        "ramp_fit",
        &cards,
        &[
            ("SCI", &shape, Pixels::F32(&data)),
            ("PIXELDQ", &plane, Pixels::U32(&pixeldq)),
            ("GROUPDQ", &shape, Pixels::U8(&flags)),
            ("AVERAGE_DARK_CURRENT", &plane, Pixels::F32(&dark)),
        ],
    );
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

#[test]
fn ols_c_is_stcals() {
    Case::all("ols_c").iter().for_each(|c| fitted(c, "ols_c", 0.0));
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
