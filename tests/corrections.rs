//! The corrections of stored ramps through the public command line: other programs'
//! results, and that chunks, recipes and single steps agree.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use irisgpu::fits::{Fits, Pixels};
use serde_json::Value;
use support::{Case, Job, write};

/// The devices to test on.
fn devices() -> Vec<String> {
    let gpu = irisgpu::engine::testing::gpu().map(|g| g.device().name.clone());
    std::iter::once("cpu".to_owned()).chain(gpu).collect()
}

fn job(device: &str) -> Job {
    Job { device: device.to_owned(), ..Job::new() }
}

fn numbers(f: &Fits, name: &str) -> Vec<f64> {
    f.f32(f.hdu(name).expect(name)).expect(name).into_iter().map(f64::from).collect()
}

fn flags(f: &Fits, name: &str) -> Vec<u32> {
    f.u32(f.hdu(name).expect(name)).expect(name)
}

fn whole(case: &Case, name: &str) -> Vec<u32> {
    case.array(name).iter().map(|v| *v as u32).collect()
}

/// Every value within `relative` of what is expected, and `absolute`.
fn near(got: &[f64], expected: &[f64], relative: f64, absolute: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= relative * b.abs() + absolute, "{what} {i}: {a} against {b}");
    }
}

fn times(frame: f64, frames: u64, gap: u64) -> [(&'static str, Value); 4] {
    let group = frame * (frames + gap) as f64;
    [
        ("TFRAME", Value::from(frame)),
        ("TGROUP", Value::from(group)),
        ("NFRAMES", Value::from(frames as i64)),
        ("GROUPGAP", Value::from(gap as i64)),
    ]
}

#[test]
fn ipc_is_jwsts() {
    for (case, device) in Case::all("ipc").iter().flat_map(|c| devices().into_iter().map(move |d| (c, d))) {
        let [ny, nx] = case.shape("in_data")[..] else { panic!("an image") };
        let (width, border) =
            (case.shape("in_kernel")[0], case.meta("ref_border").as_u64().unwrap() as usize);
        let edge = |i: usize, n: usize| i < border || i >= n - border;
        let mask: Vec<u32> =
            (0..ny * nx).map(|p| if edge(p / nx, ny) || edge(p % nx, nx) { 1 << 31 } else { 0 }).collect();
        let image = case.f32("in_data");
        let data = image.repeat(2);
        let kernel = case.f32("in_kernel");
        let mut job = job(&device);
        job.reference("mask", &[], &[("DQ", &[ny, nx], Pixels::U32(&mask))]);
        job.reference("ipc", &[], &[("SCI", &[width, width], Pixels::F32(&kernel))]);
        let (_dir, fits) = job.run("ipc", &times(1.0, 1, 0), &[("SCI", &[1, 2, ny, nx], Pixels::F32(&data))]);
        near(&numbers(&fits, "DATA"), &case.array("out_data").repeat(2), 2e-6, 0.0, case.id());
        assert_eq!(fits.primary().text("S_IPC").as_deref(), Some("COMPLETE"));
        assert!(flags(&fits, "PIXELDQ").iter().all(|q| *q == 0), "ipc flags nothing");
    }
}

/// Normal deviates.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let mut uniform = || {
            // Knuth's MMIX generator, its upper bits.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let (a, b) = (uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// What a coupling of `a` to the four neighbours does to an image of `n` × `n`.
fn coupled(image: &[f64], n: usize, a: f64) -> Vec<f64> {
    let at = |x: isize, y: isize| {
        let wrap = |i: isize| i.rem_euclid(n as isize) as usize;
        image[wrap(y) * n + wrap(x)]
    };
    (0..n * n)
        .map(|p| {
            let (x, y) = ((p % n) as isize, (p / n) as isize);
            (1.0 - 4.0 * a) * at(x, y) + a * (at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1))
        })
        .collect()
}

/// The kernel of 5 × 5 taps that undoes it: 1 + (1 − H) + (1 − H)² + …, cut off.
fn uncoupling(a: f64) -> Vec<f32> {
    let n = 15;
    let (mut term, mut sum) = (vec![0.0; n * n], vec![0.0; n * n]);
    term[n * n / 2] = 1.0;
    for _ in 0..7 {
        sum.iter_mut().zip(&term).for_each(|(s, t)| *s += t);
        let through = coupled(&term, n, a);
        term.iter_mut().zip(through).for_each(|(t, h)| *t -= h);
    }
    (0..25).map(|i| sum[(5 + i / 5) * n + 5 + i % 5] as f32).collect()
}

/// The reads' noise does not go through the coupling that the kernel undoes: Σ K² of it,
/// 1.11 for 0.013, is in the fit's errors. The charge's does, and comes back as it was.
#[test]
fn ipc_knows_what_it_does_to_the_noise() {
    const N: usize = 96;
    let (reads, a, sigma, gain) = (10usize, 0.013, 5.0, 2.0f64);
    let kernel = uncoupling(a);
    let factor: f64 = kernel.iter().map(|k| f64::from(*k).powi(2)).sum();
    assert!((factor - 1.11).abs() < 0.01, "{factor}");
    for rate in [20.0f64, 400.0] {
        let mut random = Normal(7);
        let (mut charge, mut data) = (vec![3000.0; N * N], Vec::new());
        for _ in 0..reads {
            for q in &mut charge {
                *q += rate + (rate / gain).sqrt() * random.next();
            }
            data.extend(coupled(&charge, N, a).iter().map(|v| (v + sigma * random.next()) as f32));
        }
        let run = |recipe: &str,
                   device: &str,
                   planes: &[(&str, &[usize], Pixels<'_>)],
                   cards: &[(&'static str, Value)]| {
            let mut job = job(device);
            let plane = |v: f32| vec![v; N * N];
            let mask: Vec<u32> = (0..N * N)
                .map(|p| if [p % N, p / N].iter().any(|i| !(4..N - 4).contains(i)) { 1 << 31 } else { 0 })
                .collect();
            let single = [("RNFORM", Value::from("SINGLE")), ("BUNIT", Value::from("DN"))];
            job.reference("mask", &[], &[("DQ", &[N, N], Pixels::U32(&mask))]);
            job.reference("gain", &[], &[("DATA", &[N, N], Pixels::F32(&plane(gain as f32)))]);
            job.reference("readnoise", &single, &[("DATA", &[N, N], Pixels::F32(&plane(sigma as f32)))]);
            job.reference("ipc", &[], &[("SCI", &[5, 5], Pixels::F32(&kernel))]);
            for option in ["ipc.skip=false", "refpix.skip=true", "jump.skip=true"] {
                job.options.push(format!("--steps.{option}"));
            }
            job.run(recipe, cards, planes)
        };
        for device in devices() {
            let shape = [1, reads, N, N];
            let (_dir, fits) =
                run("stage1", &device, &[("SCI", &shape, Pixels::F32(&data))], &times(1.0, 1, 0));
            assert!((fits.primary().number("IPCNOISE").unwrap() - factor).abs() < 1e-5);
            let (value, err, chi2) = (numbers(&fits, "DATA"), numbers(&fits, "ERR"), numbers(&fits, "CHI2"));
            // Where all of the kernel lies in the science area.
            let within = |i: usize| (6..N - 6).contains(&i);
            let good: Vec<usize> = (0..N * N).filter(|p| within(p % N) && within(p / N)).collect();
            let mean =
                |of: &dyn Fn(usize) -> f64| good.iter().map(|p| of(*p)).sum::<f64>() / good.len() as f64;
            let chi2 = mean(&|p| chi2[p]);
            let pulls = mean(&|p| ((value[p] - gain * rate) / err[p]).powi(2)).sqrt();
            // 7056 pixels of 8 degrees of freedom: 0.006 and 0.008 are 1 σ.
            assert!((chi2 - 1.0).abs() < 0.025 && (pulls - 1.0).abs() < 0.035, "{rate}: {chi2} {pulls}");
        }
    }
}

#[test]
fn a_kernel_that_does_not_keep_the_flux_is_refused() {
    let (ny, nx) = (6usize, 5usize);
    let n = ny * nx;
    let refused = |kernel: &[f32], shape: &[usize], words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(
            &at("ramp.fits"),
            &Job::primary(&times(1.0, 1, 0)),
            &[("SCI", &[1, 2, ny, nx], Pixels::F32(&vec![100.0; 2 * n]))],
        );
        let mut h = Job::primary(&[]);
        h.set("REFTYPE", "ipc", "");
        write(&at("ipc.fits"), &h, &[("SCI", shape, Pixels::F32(kernel))]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["run", "ipc"]).arg(at("ramp.fits")).arg("-o").arg(at("out"));
        command.arg(format!("--override_ipc={}", at("ipc.fits").display())).args(["--device", "cpu"]);
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        match words {
            [] => assert!(done.status.success(), "{said}"),
            words => assert!(!done.status.success() && words.iter().all(|w| said.contains(w)), "{said}"),
        }
    };
    let kernel = |middle: f32| [-0.01, -0.01, -0.01, -0.01, middle, -0.01, -0.01, -0.01, -0.01];
    refused(&kernel(1.085), &[3, 3], &[]);
    refused(&kernel(3.08), &[3, 3], &["ipc.fits", "SCI", "add up to 3.0", "within 0.01"]);
    refused(&kernel(1.065), &[3, 3], &["add up to 0.98"]);
    refused(&kernel(f32::NAN), &[3, 3], &["add up to NaN"]);
    let mut varying: Vec<f32> = kernel(1.08).iter().flat_map(|k| vec![*k; n]).collect();
    // A pixel with a tap that is no number is left alone.
    varying[3] = f32::NAN;
    refused(&varying, &[3, 3, ny, nx], &[]);
    varying[4 * n + 2 * nx + 3] = 1.0;
    refused(&varying, &[3, 3, ny, nx], &["column 3, row 2", "add up to 0.92"]);
}

#[test]
fn dark_ramps_are_stcals() {
    for (case, device) in Case::all("dark").iter().flat_map(|c| devices().into_iter().map(move |d| (c, d))) {
        let (shape, dark) = (case.shape("in_data"), case.shape("in_dark"));
        let number = |name: &str| case.meta(name).as_u64().unwrap();
        let cards = [
            ("NFRAMES", Value::from(number("dark_nframes") as i64)),
            ("GROUPGAP", Value::from(number("dark_groupgap") as i64)),
        ];
        let (values, bits) = (case.f32("in_dark"), whole(case, "in_dark_dq"));
        let mut job = job(&device);
        let planes = [("SCI", &dark[..], Pixels::F32(&values)), ("DQ", &dark[1..], Pixels::U32(&bits))];
        job.reference("dark", &cards, &planes);
        let cards = times(2.5, number("sci_nframes"), number("sci_groupgap"));
        let data = case.f32("in_data");
        let (_dir, fits) = job.run("dark_ramp", &cards, &[("SCI", &shape, Pixels::F32(&data))]);
        near(&numbers(&fits, "DATA"), &case.array("out_data"), 1e-6, 1e-5, case.id());
        assert_eq!(flags(&fits, "PIXELDQ"), whole(case, "out_pixeldq"), "{}", case.id());
        // The dark's shot noise stays in the reads: its rate goes on with them.
        let n = shape[2] * shape[3];
        let (before, after) = (case.array("in_data"), case.array("out_data"));
        let last = (shape[1] - 1) * n;
        let span = (shape[1] - 1) as f64 * 2.5 * (number("sci_nframes") + number("sci_groupgap")) as f64;
        let rise = |i: usize| (before[last + i] - after[last + i] - before[i] + after[i]) / span;
        let rate: Vec<f64> = (0..n).map(|i| rise(i).max(0.0)).collect();
        near(&numbers(&fits, "AVERAGE_DARK_CURRENT"), &rate, 1e-4, 1e-4, case.id());
    }
}

/// A dark whose reads lie otherwise in time is taken at the times of the frames.
#[test]
fn a_dark_sampled_otherwise_is_taken_at_the_frames_times() {
    let (ny, nx) = (3usize, 5usize);
    let n = ny * nx;
    let signal = |p: usize, t: f64| 40.0 + (2.0 + p as f64) * t;
    let dark_times: Vec<f64> = vec![0.7, 2.0, 5.5, 9.0];
    let dark: Vec<f32> = dark_times.iter().flat_map(|t| (0..n).map(move |p| signal(p, *t) as f32)).collect();
    // Averages of 1, 3 and 2 frames 0.5 s apart, the last beyond the dark.
    let (means, counts) = ([1.0, 4.0, 10.0], [1i16, 3, 2]);
    let data: Vec<f32> =
        means.iter().flat_map(|t| (0..n).map(move |p| (7000.0 + signal(p, *t)) as f32)).collect();
    for device in devices() {
        let mut job = job(&device);
        let planes = [
            ("TIMES", &[4usize][..], Pixels::F64(&dark_times)),
            ("DATA", &[4, ny, nx][..], Pixels::F32(&dark)),
        ];
        job.reference("dark", &[], &planes);
        let (_dir, fits) = job.run(
            "dark_ramp",
            &[("TFRAME", Value::from(0.5))],
            &[
                ("DATA", &[1, 3, ny, nx], Pixels::F32(&data)),
                ("TIMES", &[1, 3], Pixels::F64(&means)),
                ("NSAMPLE", &[1, 3], Pixels::I16(&counts)),
            ],
        );
        near(&numbers(&fits, "DATA"), &vec![7000.0; 3 * n], 0.0, 2e-3, "what is left");
        let rate: Vec<f64> = (0..n).map(|p| 2.0 + p as f64).collect();
        near(&numbers(&fits, "AVERAGE_DARK_CURRENT"), &rate, 1e-4, 0.0, "the dark current");
    }
}

#[test]
fn charge_migration_is_jwsts() {
    let cases = Case::all("charge_migration");
    for (case, device) in cases.iter().flat_map(|c| devices().into_iter().map(move |d| (c, d))) {
        let shape = case.shape("in_data");
        let data = case.f32("in_data");
        let came: Vec<u8> = case.array("in_groupdq").iter().map(|f| *f as u8).collect();
        let mut job = job(&device);
        job.options.push(case.option("charge_migration", "signal_threshold", "signal_threshold"));
        let planes = [("SCI", &shape[..], Pixels::F32(&data)), ("GROUPDQ", &shape[..], Pixels::U8(&came))];
        let (_dir, fits) = job.run("charge_migration", &times(1.0, 1, 0), &planes);
        assert_eq!(flags(&fits, "GROUPDQ"), whole(case, "out_groupdq"), "{}", case.id());
        assert_eq!(fits.f32(fits.hdu("DATA").unwrap()).unwrap(), data);
    }
}

#[test]
fn linearity_is_stcals() {
    for (case, device) in
        Case::all("linearity").iter().flat_map(|c| devices().into_iter().map(move |d| (c, d)))
    {
        let (shape, coeffs) = (case.shape("in_data"), case.shape("in_coeffs"));
        let (data, values, bits) = (case.f32("in_data"), case.f32("in_coeffs"), whole(case, "in_lin_dq"));
        let came: Vec<u8> = case.array("in_groupdq").iter().map(|f| *f as u8).collect();
        let mut job = job(&device);
        let planes =
            [("COEFFS", &coeffs[..], Pixels::F32(&values)), ("DQ", &coeffs[1..], Pixels::U32(&bits))];
        job.reference("nonlin", &[("COEFFZP", Value::from("RAW"))], &planes);
        let planes = [("SCI", &shape[..], Pixels::F32(&data)), ("GROUPDQ", &shape[..], Pixels::U8(&came))];
        let (_dir, fits) = job.run("linearity", &times(1.0, 1, 0), &planes);
        near(&numbers(&fits, "DATA"), &case.array("out_data"), 2e-6, 0.0, case.id());
        assert_eq!(flags(&fits, "PIXELDQ"), whole(case, "out_pixeldq"), "{}", case.id());
    }
}

#[test]
fn averaged_reads_are_linearised_frame_by_frame() {
    let case = Case::all("linearity_readlevel").remove(0);
    let pattern = case.meta("read_pattern").as_array().unwrap().clone();
    let frames: Vec<Vec<f64>> =
        pattern.iter().map(|r| r.as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect()).collect();
    let means: Vec<f64> = frames.iter().map(|r| r.iter().sum::<f64>() / r.len() as f64).collect();
    let counts: Vec<i16> = frames.iter().map(|r| r.len() as i16).collect();
    let (shape, data) = (case.shape("in_data"), case.f32("in_data"));
    let (forward, inverse) = (case.f32("in_coeffs"), case.f32("in_inverse_coeffs"));
    let level = case.f32("in_satval");
    let run = |device: &str, option: &str, own_file: bool| {
        let mut job = job(device);
        let (a, b) = ([forward.len(), 1, 1], [inverse.len(), 1, 1]);
        let zero = [("COEFFZP", Value::from("RAW"))];
        let mut planes = vec![("COEFFS", &a[..], Pixels::F32(&forward))];
        if own_file {
            job.reference("invlin", &[], &[("COEFFS", &b, Pixels::F32(&inverse))]);
        } else {
            planes.push(("INVCOEFFS", &b[..], Pixels::F32(&inverse)));
        }
        job.reference("nonlin", &zero, &planes);
        job.reference("saturation", &[], &[("DATA", &[1, 1], Pixels::F32(&level))]);
        if !option.is_empty() {
            job.options.push(option.into());
        }
        let (_dir, fits) = job.run(
            "linearity",
            &[("TFRAME", Value::from(1.0))],
            &[
                ("DATA", &shape, Pixels::F32(&data)),
                ("TIMES", &shape[..2], Pixels::F64(&means)),
                ("NSAMPLE", &shape[..2], Pixels::I16(&counts)),
            ],
        );
        let named = fits.primary().text("R_INVLIN");
        assert_eq!(named.is_some(), own_file, "{named:?}");
        numbers(&fits, "DATA")
    };
    for device in devices() {
        for own_file in [false, true] {
            let got = run(&device, "", own_file);
            near(&got, &case.array("out_data_readlevel"), 1e-5, 0.0, "frame by frame");
        }
        let whole = run(&device, "--steps.linearity.read_level=false", false);
        near(&whole, &case.array("out_data_grouplevel"), 1e-5, 0.0, "read by read");
    }
}

/// What each COEFFZP and iris_readout's form mean, on counts whose truth is known.
#[test]
fn zero_points_and_iris_readouts_form_are_what_the_reference_says() {
    let (reads, ny, nx) = (5usize, 4usize, 6usize);
    let n = ny * nx;
    let bias: Vec<f32> = (0..n).map(|p| 1000.0 + 10.0 * p as f32).collect();
    let raw: Vec<f32> = (0..reads * n).map(|i| bias[i % n] + 700.0 * (1 + i / n) as f32).collect();
    let quadratic = |p: usize| 1e-6 * (1.0 + p as f64);
    let poly = |p: usize, x: f64| 3.0 + 1.01 * x + quadratic(p) * x * x;
    let plane = |f: &dyn Fn(usize) -> f64| (0..n).map(|p| f(p) as f32).collect::<Vec<f32>>();
    let coeffs = [plane(&|_| 3.0), plane(&|_| 1.01), plane(&quadratic)].concat();
    for (device, zero) in devices().iter().flat_map(|d| ["BIAS", "RAW", "FIRST"].map(|z| (d.clone(), z))) {
        let mut job = job(&device);
        job.reference("bias", &[], &[("DATA", &[ny, nx], Pixels::F32(&bias))]);
        let card = [("COEFFZP", Value::from(zero))];
        job.reference("nonlin", &card, &[("COEFFS", &[3, ny, nx], Pixels::F32(&coeffs))]);
        for step in ["saturation", "refpix", "jump", "ramp_fit"] {
            job.options.push(format!("--steps.{step}.skip=true"));
        }
        let recipe = job.dir.path().join("two.yaml");
        std::fs::write(&recipe, "{name: two, about: x, takes: one, steps: [bias: {}, linearity: {}]}")
            .unwrap();
        job.options.push(format!("--config={}", recipe.display()));
        let (_dir, fits) =
            job.run("two", &times(1.0, 1, 0), &[("SCI", &[1, reads, ny, nx], Pixels::F32(&raw))]);
        let expected: Vec<f64> = (0..reads * n)
            .map(|i| {
                let (y, b) = (f64::from(raw[i]), f64::from(bias[i % n]));
                match zero {
                    "BIAS" => poly(i % n, y - b),
                    "RAW" => poly(i % n, y),
                    _ => poly(i % n, y - f64::from(raw[i % n])),
                }
            })
            .collect();
        near(&numbers(&fits, "DATA"), &expected, 1e-6, 1e-3, zero);
        // y = x (1 + c0 + c1 x): the same polynomial without its constant.
        let mut job = self::job(&device);
        let own = [plane(&|_| 0.01), plane(&quadratic)].concat();
        let cards = [("COEFFZP", Value::from("RAW")), ("COEFFORM", Value::from("IRISROP"))];
        job.reference("nonlin", &cards, &[("COEFFS", &[2, ny, nx], Pixels::F32(&own))]);
        let (_dir, fits) =
            job.run("linearity", &times(1.0, 1, 0), &[("SCI", &[1, reads, ny, nx], Pixels::F32(&raw))]);
        let expected: Vec<f64> = (0..reads * n).map(|i| poly(i % n, f64::from(raw[i])) - 3.0).collect();
        near(&numbers(&fits, "DATA"), &expected, 1e-6, 1e-3, "IRISROP");
    }
}

/// liger_iris_pipeline's slopes of single ramps, by each method. Its combination of ramps
/// weights them with the scatter of their residuals (of mcds and cds about a line without
/// an intercept), which is noise itself; here the reads of all ramps make one fit.
#[test]
fn slopes_of_ramps_are_ligers() {
    let case = Case::all("legacy_liger").remove(0);
    let shape = case.shape("in_ramps");
    let (ny, nx, ramps, reads) = (shape[0], shape[1], shape[2], shape[3]);
    let times = case.array("in_times");
    let data = case.f32("in_ramps");
    let t = &times[..reads];
    // Squared residuals of a pixel's ramp about a line, with and without an intercept.
    let residuals = |pixel: usize, ramp: usize, slope: f64, intercept: bool| {
        let y: Vec<f64> = (0..reads).map(|k| f64::from(data[(pixel * ramps + ramp) * reads + k])).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let start = if intercept { mean(&y) - slope * mean(t) } else { 0.0 };
        y.iter().zip(t).map(|(y, t)| (y - start - slope * t).powi(2)).sum::<f64>()
    };
    for device in devices() {
        for (algorithm, name, intercept) in [
            ("ols", "out_ols_slope", true),
            ("mcds", "out_mcds3_slope", false),
            ("cds", "out_cds_slope", false),
        ] {
            let mut job = job(&device);
            job.reference("gain", &[], &[("DATA", &[ny, nx], Pixels::F32(&vec![1.0; ny * nx]))]);
            job.options.push(format!("--steps.ramp_fit.algorithm={algorithm}"));
            job.options.push("--save_ramps".into());
            let planes = [
                ("TIMES", &[ramps, reads][..], Pixels::F64(&times)),
                ("DATA", &shape[..], Pixels::F32(&data)),
            ];
            let (dir, _) = job.run("ramp_fit", &[], &planes);
            let files = std::fs::read_dir(dir.path().join("out")).unwrap().map(|f| f.unwrap().path());
            let (own, both): (Vec<PathBuf>, Vec<PathBuf>) = files
                .filter(|p| p.extension().is_some_and(|e| e == "fits"))
                .partition(|p| p.to_str().unwrap().ends_with("_ramps.fits"));
            let slopes = numbers(&Fits::open(&own[0]).unwrap(), "DATA");
            let n = ny * nx;
            if algorithm == "ols" {
                near(&slopes[..n], &case.array("out_ols_1ramp_slope"), 2e-6, 0.0, "the first ramp");
            }
            let weighted: Vec<f64> = (0..n)
                .map(|p| {
                    let w = |r: usize| 1.0 / residuals(p, r, slopes[r * n + p], intercept);
                    let sum: f64 = (0..ramps).map(w).sum();
                    (0..ramps).map(|r| w(r) * slopes[r * n + p]).sum::<f64>() / sum
                })
                .collect();
            near(&weighted, &case.array(name), 2e-4, 0.0, name);
            // The same on request, and for every read of the rates as ours.
            let mut job = self::job(&device);
            job.reference("gain", &[], &[("DATA", &[ny, nx], Pixels::F32(&vec![2.0; ny * nx]))]);
            job.options.push(format!("--steps.ramp_fit.algorithm={algorithm}"));
            job.options.push("--steps.ramp_fit.weight_ramps_by_scatter=true".into());
            let (dir, combined) = job.run("ramp_fit", &[], &planes);
            let theirs: Vec<f64> = case.array(name).iter().map(|s| 2.0 * s).collect();
            near(&numbers(&combined, "DATA"), &theirs, 2e-4, 0.0, name);
            assert!(
                std::fs::read_dir(dir.path().join("out"))
                    .unwrap()
                    .all(|f| { !f.unwrap().file_name().to_string_lossy().ends_with("_ramps.fits") })
            );
            // Ours: ramps of the same times count alike.
            let mean: Vec<f64> = (0..n).map(|p| (slopes[p] + slopes[n + p]) / 2.0).collect();
            near(&numbers(&Fits::open(&both[0]).unwrap(), "DATA"), &mean, 1e-5, 0.0, "both ramps");
        }
    }
}

/// What a reset leaves dies away, in reads that are averages too.
#[test]
fn the_decay_after_a_reset_is_taken_off() {
    let (ramps, reads, ny, nx) = (2usize, 5usize, 64usize, 64usize);
    let n = ny * nx;
    let (amplitude, tau) = (12.0f64, 7.0f64);
    // Averages of 3 frames 1 s apart, 4 s from first to first: a frame takes 1 s.
    let mean = |k: usize, y: usize| {
        let late = (y as f64 + 0.5) / ny as f64 - 0.5;
        (0..3).map(|j| (-(2.0 + 4.0 * k as f64 + f64::from(j) - 1.0 + late) / tau).exp()).sum::<f64>() / 3.0
    };
    let data: Vec<f32> = (0..ramps * reads * n)
        .map(|i| (3000.0 + amplitude * mean(i / n % reads, i % n / nx)) as f32)
        .collect();
    for device in devices() {
        let run = |more: &[&str], recipe: &str| {
            let mut job = job(&device);
            job.options.extend(more.iter().map(|o| format!("--steps.{o}")));
            job.run(recipe, &times(1.0, 3, 1), &[("SCI", &[ramps, reads, ny, nx], Pixels::F32(&data))])
        };
        let on = ["dark_decay.amplitude=12", "dark_decay.time_constant=7"];
        let (_dir, fits) = run(&on, "dark_decay");
        near(&numbers(&fits, "DATA"), &vec![3000.0; ramps * reads * n], 0.0, 2e-3, "what is left");
        assert_eq!(fits.primary().text("S_DKDECA").as_deref(), Some("COMPLETE"));
        let (_dir, fits) = run(&[], "dark_decay");
        assert_eq!(fits.primary().text("S_DKDECA").as_deref(), Some("SKIPPED"));
        let rates = |skip: &str| {
            let skip = format!("dark_decay.skip={skip}");
            let options = [on[0], on[1], skip.as_str(), "refpix.skip=true", "jump.skip=true"];
            numbers(&run(&options, "stage1").1, "DATA")
        };
        assert!(rates("true")[n / 2 + nx / 2] < -0.1);
        near(&rates("false"), &vec![0.0; n], 0.0, 2e-3, "rates");
    }
}

/// A frame with all that the corrections take, in one folder.
struct Scene {
    dir: tempfile::TempDir,
    options: Vec<String>,
}

/// 40 × 70 pixels, 2 ramps of 6 reads that average 2 frames, a bright star that saturates
/// and migrates, lost reads.
fn scene() -> Scene {
    let (ramps, reads, ny, nx) = (2usize, 6usize, 70usize, 40usize);
    let n = ny * nx;
    let noise = |i: usize| ((i.wrapping_mul(2_654_435_761)) % 1000) as f32 / 1000.0;
    let star = |p: usize| {
        let (x, y) = ((p % nx) as f32 - 19.0, (p / nx) as f32 - 33.0);
        9000.0 * (-(x * x + y * y) / 12.0).exp()
    };
    let mut data: Vec<f32> = (0..ramps * reads * n)
        .map(|i| {
            let t = (i / n % reads) as f32 * 3.0 + 1.5;
            (1000.0 + t * (20.0 + star(i % n)) + 15.0 * noise(i)).min(62000.0)
        })
        .collect();
    data[3 * n + 900] = f32::NAN;
    data[7 * n + 2500] += 4000.0;
    let mut job = Job::new();
    let plane = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
    let cards = [("RNFORM", Value::from("SINGLE")), ("BUNIT", Value::from("DN"))];
    let (ones, noises) = (plane(&|_| 2.0), plane(&|_| 6.0));
    job.reference("gain", &[], &[("DATA", &[ny, nx], Pixels::F32(&ones))]);
    job.reference("readnoise", &cards, &[("DATA", &[ny, nx], Pixels::F32(&noises))]);
    let (bias, level) = (plane(&|p| 990.0 + 20.0 * noise(p)), plane(&|_| 60000.0));
    job.reference("bias", &[], &[("DATA", &[ny, nx], Pixels::F32(&bias))]);
    job.reference("saturation", &[], &[("DATA", &[ny, nx], Pixels::F32(&level))]);
    let coeffs = [plane(&|_| 0.0), plane(&|_| 1.0), plane(&|p| 1e-7 * noise(p))].concat();
    let inverse = [plane(&|_| 0.0), plane(&|_| 1.0), plane(&|p| -1e-7 * noise(p))].concat();
    let planes = [
        ("COEFFS", &[3, ny, nx][..], Pixels::F32(&coeffs)),
        ("INVCOEFFS", &[3, ny, nx][..], Pixels::F32(&inverse)),
    ];
    job.reference("nonlin", &[], &planes);
    let taps: Vec<f32> =
        (0..9 * n).map(|i| if i / n == 4 { 1.02 } else { -0.0025 + 1e-4 * noise(i) }).collect();
    job.reference("ipc", &[], &[("SCI", &[3, 3, ny, nx], Pixels::F32(&taps))]);
    let dark: Vec<f32> = (0..30 * n).map(|i| (i / n) as f32 * (0.5 + noise(i % n))).collect();
    job.reference(
        "dark",
        &[("NFRAMES", Value::from(1)), ("TFRAME", Value::from(1.0))],
        &[("DATA", &[30, ny, nx], Pixels::F32(&dark))],
    );
    let mask: Vec<u32> = (0..n).map(|p| if p % nx < 4 || p % nx >= nx - 4 { 1 << 31 } else { 0 }).collect();
    job.reference("mask", &[], &[("DQ", &[ny, nx], Pixels::U32(&mask))]);
    let cards = times(1.0, 2, 1);
    write(
        &job.dir.path().join("ramp.fits"),
        &Job::primary(&cards),
        &[("SCI", &[ramps, reads, ny, nx], Pixels::F32(&data))],
    );
    for option in ["ipc.skip=false", "dark_ramp.skip=false", "charge_migration.skip=false"] {
        job.options.push(format!("--steps.{option}"));
    }
    Scene { dir: job.dir, options: job.options }
}

impl Scene {
    /// The product of a recipe or step on `file`, into the folder `output`.
    fn run(&self, recipe: &str, file: &Path, output: &str, more: &[&str]) -> PathBuf {
        let out = self.dir.path().join(output);
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["run", recipe]).arg(file).arg("-o").arg(&out).args(&self.options).args(more);
        let done = command.output().expect("run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let files = std::fs::read_dir(&out).unwrap().map(|f| f.unwrap().path());
        let found = files
            .filter(|p| p.extension().is_some_and(|e| e == "fits"))
            .max_by_key(|p| std::fs::metadata(p).unwrap().modified().unwrap());
        found.expect("product")
    }

    fn ramp(&self) -> PathBuf {
        self.dir.path().join("ramp.fits")
    }
}

/// The same bits in every plane but where NaN is.
fn equal(a: &Path, b: &Path) {
    let (a, b) = (Fits::open(a).unwrap(), Fits::open(b).unwrap());
    for name in ["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2"] {
        let bits =
            |f: &Fits| f.f32(f.hdu(name).unwrap()).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let differ = bits(&a).iter().zip(bits(&b)).filter(|(a, b)| **a != *b).count();
        assert_eq!(differ, 0, "{name}");
    }
    assert_eq!(flags(&a, "DQ"), flags(&b, "DQ"));
}

#[test]
fn chunks_and_threads_do_not_change_a_bit() {
    let scene = scene();
    for (i, algorithm) in ["likelihood", "ols_c"].iter().enumerate() {
        let fit = format!("--steps.ramp_fit.algorithm={algorithm}");
        let whole = scene.run("stage1", &scene.ramp(), &format!("whole{i}"), &["--device", "cpu", &fit]);
        let parts = scene.run(
            "stage1",
            &scene.ramp(),
            &format!("parts{i}"),
            &["--device", "cpu", "--memory", "600kB", "--threads", "1", &fit],
        );
        equal(&whole, &parts);
        let f = Fits::open(&whole).unwrap();
        for key in ["S_IPC", "S_DARKRP", "S_CHGMIG", "S_DARK", "S_NLCORR"] {
            assert_eq!(f.primary().text(key).as_deref(), Some("COMPLETE"), "{key}");
        }
    }
}

/// Step by step in the order of the recipe: the rate of the whole.
#[test]
fn steps_one_by_one_make_the_recipes_rate() {
    let scene = scene();
    for device in devices() {
        let on = ["--device", &device, "--steps.refpix.skip=true"];
        let whole = scene.run("stage1", &scene.ramp(), &format!("whole-{}", device.len()), &on);
        let mut file = scene.ramp();
        for step in
            ["saturation", "ipc", "bias", "linearity", "dark_ramp", "charge_migration", "jump", "ramp_fit"]
        {
            file = scene.run(step, &file, &format!("{step}-{}", device.len()), &on);
        }
        let (a, b) = (Fits::open(&file).unwrap(), Fits::open(&whole).unwrap());
        let (x, y, err) = (numbers(&a, "DATA"), numbers(&b, "DATA"), numbers(&b, "ERR"));
        let mut compared = 0;
        for i in (0..x.len()).filter(|i| i % 40 >= 4 && i % 40 < 36) {
            assert_eq!(x[i].is_nan(), y[i].is_nan(), "{i}");
            assert!(y[i].is_nan() || (x[i] - y[i]).abs() < 1e-3 * err[i], "{i}: {} against {}", x[i], y[i]);
            compared += usize::from(!y[i].is_nan());
        }
        assert!(compared > 2000);
    }
}

/// A dark is subtracted once, and a dark that is a ramp is no rate.
#[test]
fn a_dark_goes_once() {
    let scene = scene();
    let rate = scene.run("stage1", &scene.ramp(), "rate", &["--device", "cpu"]);
    let run = |args: &[&str]| {
        let out = scene.dir.path().join("refused");
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        let done = command.arg("run").args(args).arg("-o").arg(&out).output().expect("run");
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let dark = format!("--override_dark={}", scene.dir.path().join("dark.fits").display());
    let (done, said) = run(&["dark_sub", rate.to_str().unwrap(), &dark]);
    assert!(!done && said.contains("went through dark_sub already (S_DARK = COMPLETE)"), "{said}");
    let before =
        scene.run("stage1", &scene.ramp(), "kept", &["--device", "cpu", "--steps.dark_ramp.skip=true"]);
    let (done, said) = run(&["dark_sub", before.to_str().unwrap(), &dark]);
    assert!(!done && said.contains("is a ramp of reads, which dark_ramp subtracts"), "{said}");
}
