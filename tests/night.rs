//! A small night through the public command line: reduced, killed, taken step by
//! step, and on a GPU.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use irisgpu::fits::Fits;

fn irisgpu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    irisgpu().args(args).output().expect("run")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The night and its reduction on the CPU engine, made once.
fn night() -> &'static Path {
    static NIGHT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = NIGHT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/small-night.yaml");
        let made = run(&["simulate", config, text(dir.path())]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let reduced = reduce(&dir.path().join("night"), &dir.path().join("whole"), "cpu");
        assert!(reduced.status.success(), "{}", String::from_utf8_lossy(&reduced.stderr));
        dir
    });
    dir.path()
}

fn reduce(night: &Path, output: &Path, device: &str) -> Output {
    run(&["reduce", text(night), "-o", text(output), "--device", device])
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// DATASUM of every HDU of every product, by file name.
fn sums(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let products = files(folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "fits"));
    products
        .map(|p| {
            let fits = Fits::open(&p).expect("a whole product");
            let sums = fits.hdus.iter().map(|h| h.header.text("DATASUM").expect("DATASUM")).collect();
            (p.file_name().expect("name").to_string_lossy().into_owned(), sums)
        })
        .collect()
}

#[test]
fn a_second_run_has_nothing_to_do() {
    let again = reduce(&night().join("night"), &night().join("whole"), "cpu");
    assert!(again.status.success());
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains("up to date") && !said.contains(" failed\n"), "{said}");
    let names: Vec<String> = sums(&night().join("whole")).into_keys().collect();
    assert_eq!(names.iter().filter(|n| n.contains("_SCI_LVL2_")).count(), 3, "{names:?}");
    assert_eq!(
        names.iter().filter(|n| n.contains("_LVL1_") && !n.contains("_jumps")).count(),
        10,
        "{names:?}"
    );
}

#[test]
fn killed_and_run_again_it_leaves_the_same_bits() {
    let output = night().join("killed");
    let mut delay = Duration::from_millis(20);
    for _ in 0..8 {
        let mut child = irisgpu()
            .args(["reduce", text(&night().join("night")), "-o", text(&output), "--device", "cpu"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        std::thread::sleep(delay);
        let _ = child.kill();
        child.wait().expect("wait");
        // Whatever has a final name is whole, at any moment.
        sums(&output);
        delay = delay * 5 / 4;
    }
    let last = reduce(&night().join("night"), &output, "cpu");
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stdout));
    assert_eq!(sums(&output), sums(&night().join("whole")));
    assert!(files(&output).iter().all(|p| p.extension().is_none_or(|e| e != "part")));
}

#[test]
fn step_by_step_is_the_same_as_fused() {
    let raw = files(&night().join("night"))
        .into_iter()
        .find(|p| text(p).contains("_SCI_LVL0_"))
        .expect("a raw frame");
    let refs = night().join("night/refs");
    let step = |step: &str, input: &Path| -> PathBuf {
        let output = night().join(format!("steps/{step}"));
        let done =
            run(&["run", step, text(input), "-o", text(&output), "--refs", text(&refs), "--device", "cpu"]);
        assert!(done.status.success(), "{step}: {}", String::from_utf8_lossy(&done.stdout));
        files(&output).into_iter().find(|p| p.extension().is_some_and(|e| e == "fits")).expect("a product")
    };
    let mut ramp = raw.clone();
    for name in ["dq_init", "saturation", "bias", "refpix", "linearity", "jump"] {
        ramp = step(name, &ramp);
    }
    let (slow, fused) = (step("ramp_fit", &ramp), step("stage1", &raw));
    let (slow, fused) = (Fits::open(&slow).expect("steps"), Fits::open(&fused).expect("fused"));
    // What refpix measured is known however stage 1 was done.
    for keyword in ["NREFPIX", "REFNOISE"] {
        let (a, b) = (slow.primary().number(keyword), fused.primary().number(keyword));
        assert!(a.is_some_and(|a| (a - b.unwrap_or(0.0)).abs() <= 1e-3 * a), "{keyword}: {a:?} {b:?}");
    }
    for name in ["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2", "DQ", "NREADS"] {
        let plane = |f: &Fits| f.f64(f.hdu(name).expect(name)).expect(name);
        let (a, b) = (plane(&slow), plane(&fused));
        let differ =
            a.iter().zip(&b).filter(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()));
        let close = |(a, b): &(&f64, &f64)| (*a - *b).abs() <= 1e-4 * b.abs().max(1e-2);
        let far = differ.filter(|p| !close(p)).count();
        assert!(far == 0, "{name}: {far} pixels differ");
    }
}

#[test]
fn a_gpu_reduces_the_night_as_the_cpu_does() {
    let Some(gpu) = irisgpu::engine::testing::gpu() else { return };
    let output = night().join("gpu");
    let name = gpu.device().name.clone();
    drop(gpu);
    let done = reduce(&night().join("night"), &output, &name);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for path in files(&night().join("whole")).iter().filter(|p| text(p).contains("_SCI_LVL2_")) {
        let other = output.join(path.file_name().expect("name"));
        let read = |p: &Path, name: &str| {
            let f = Fits::open(p).expect("product");
            f.f32(f.hdu(name).expect(name)).expect(name)
        };
        let (cpu, gpu, err) = (read(path, "DATA"), read(&other, "DATA"), read(path, "ERR"));
        let apart = |i: usize| cpu[i].is_nan() != gpu[i].is_nan() || (cpu[i] - gpu[i]).abs() > 0.01 * err[i];
        let far = (0..cpu.len()).filter(|&i| apart(i)).count();
        assert!(far <= 3, "{}: {far} pixels differ by more than 0.01 σ", path.display());
    }
}

/// The darks of one EXPTIME share every calibration: reduced in one process, a GPU keeps
/// them from the second on, as far as its memory goes.
#[test]
fn calibrations_that_a_device_keeps_change_nothing() {
    let raw = files(&night().join("night"));
    let darks: Vec<&Path> = raw.iter().filter(|p| text(p).contains("_DARK_")).map(PathBuf::as_path).collect();
    let science: Vec<&Path> =
        raw.iter().filter(|p| text(p).contains("_SCI_")).map(PathBuf::as_path).collect();
    assert_eq!((darks.len(), science.len()), (3, 3));
    let refs = night().join("night/refs");
    let stage1 = |frames: &[&Path], name: &str, device: &str, memory: &str| {
        let (output, trace) = (night().join(name), night().join(format!("{name}.json")));
        let mut args = vec!["run", "stage1", "--refs", text(&refs), "-o", text(&output), "--at-once", "1"];
        args.extend(["--device", device, "--memory", memory, "--trace", text(&trace)]);
        args.extend(frames.iter().map(|p| text(p)));
        let done = run(&args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let read = std::fs::read_to_string(trace).expect("trace").matches("\"planes\"").count();
        (sums(&output), read)
    };
    let Some(gpu) = irisgpu::engine::testing::gpu() else { return };
    let device = gpu.device().name.clone();
    drop(gpu);
    let (mut alone, mut read_alone) = (BTreeMap::new(), 0);
    for dark in &darks {
        let (sums, read) = stage1(&[dark], "alone", &device, "1GB");
        (alone, read_alone) = (sums, read_alone + read);
    }
    let (together, read) = stage1(&darks, "together", &device, "1GB");
    assert_eq!(alone, together);
    assert!(read * 3 == read_alone * 2, "planes read {read} times in place of {read_alone}");
    // Rows of 16 and room for some of them.
    let (little, some) = stage1(&darks, "little", &device, "600kB");
    assert_eq!(alone, little);
    let (_, none) = stage1(&darks[..1], "least", &device, "600kB");
    assert!(2 * none < some && some < 3 * none, "{some} of 3 times {none}");
    // Science frames have persistence of those before them, which is their own.
    let (kept, read) = stage1(&science, "kept", &device, "1GB");
    let (not_kept, all) = stage1(&science, "not_kept", &device, "1kB");
    assert_eq!(kept, not_kept);
    assert!(read == 2 && all > 100, "{read}, {all}");
}

#[test]
fn a_dark_made_again_cancels_as_the_first() {
    let output = night().join("again");
    let one = |path: &PathBuf| text(path).contains("_IMG1_") && text(path).ends_with("_SCI_LVL0_0010.fits");
    let name = files(&night().join("night")).into_iter().find(one).expect("raw");
    let only = name.file_name().expect("name").to_string_lossy().into_owned();
    let go = || {
        let raw = night().join("night");
        let done = run(&["reduce", text(&raw), "-o", text(&output), "--device", "cpu", "--only", &only]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    };
    go();
    let before = sums(&output);
    let card = |name: &str, key: &str| {
        let path = files(&output).into_iter().find(|p| text(p).contains(name)).expect("product");
        Fits::open(&path).expect("open").primary().text(key)
    };
    let (dark, sky) = (card("_IMG1_DARK_2", "DATECRT"), card("_IMG1_SKY_2", "DATECRT"));
    for path in
        files(&output).iter().filter(|p| text(p).contains("_IMG1_DARK_2") || text(p).contains("_SCI_LVL2_"))
    {
        std::fs::remove_file(path).expect("remove");
    }
    // DATECRT counts seconds.
    std::thread::sleep(Duration::from_millis(1100));
    go();
    assert_ne!(card("_IMG1_DARK_2", "DATECRT"), dark);
    assert_eq!(card("_IMG1_SKY_2", "DATECRT"), sky);
    assert_eq!(sums(&output), before);
}

/// A copy of the raw night, references included.
fn copy(to: &Path) {
    for path in files(&night().join("night")) {
        let to = to.join(path.strip_prefix(night().join("night")).expect("inside"));
        std::fs::create_dir_all(to.parent().expect("parent")).expect("folder");
        std::fs::copy(&path, to).expect("copy");
    }
}

#[test]
fn references_are_known_by_their_bytes() {
    let dir = tempfile::tempdir().expect("temp dir");
    copy(dir.path());
    let refs = files(&dir.path().join("refs"));
    let age = |path: &Path, seconds: u64| {
        let file = std::fs::File::options().append(true).open(path).expect("open");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(seconds)).expect("time");
    };
    let to_do = || {
        let out = run(&["plan", text(dir.path()), "--json", "--only", "IMG1-DRK"]).stdout;
        let plan: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        plan["tasks"].as_array().expect("tasks").iter().filter(|t| t["state"] == "to do").count()
    };
    refs.iter().for_each(|r| age(r, 1000));
    assert_eq!(to_do(), 1);
    let done = run(&["reduce", text(dir.path()), "--only", "IMG1-DRK", "--device", "cpu"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(dir.path().join("reduced/.irisgpu-checksums").is_file());
    assert_eq!(to_do(), 0);
    refs.iter().for_each(|r| age(r, 500));
    assert_eq!(to_do(), 0, "touched");
    let gain = refs.iter().find(|r| text(r).contains("GAIN")).expect("gain");
    let mut bytes = std::fs::read(gain).expect("read");
    let at = bytes.len() - 2880 - 1;
    bytes[at] ^= 1;
    std::fs::write(gain, &bytes).expect("write");
    assert_eq!(to_do(), 1, "changed");
    bytes[at] ^= 1;
    std::fs::write(gain, &bytes).expect("write");
    assert_eq!(to_do(), 0, "as it was");
}

#[test]
fn rates_of_single_ramps_are_saved_on_demand() {
    let raw = files(&night().join("night")).into_iter().find(|p| text(p).ends_with("_SCI_LVL0_0010.fits"));
    let raw = raw.expect("an exposure of two ramps");
    let refs = night().join("night/refs");
    let output = night().join("ramps");
    let done = run(&[
        "run",
        "stage1",
        text(&raw),
        "-o",
        text(&output),
        "--refs",
        text(&refs),
        "--device",
        "cpu",
        "--save_ramps",
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let open = |end: &str| {
        Fits::open(files(&output).iter().find(|p| text(p).ends_with(end)).expect(end)).expect(end)
    };
    let (whole, ramps) = (open("_LVL1_0010.fits"), open("_LVL1_0010_ramps.fits"));
    let names = |f: &Fits| f.hdus.iter().map(|h| h.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole), names(&ramps));
    assert_eq!(ramps.hdu("DATA").expect("DATA").shape, [2, 128, 128]);
    let plane = |f: &Fits, name: &str| f.f32(f.hdu(name).expect(name)).expect(name);
    let (mean, each, err) = (plane(&whole, "DATA"), plane(&ramps, "DATA"), plane(&ramps, "ERR"));
    let n = mean.len();
    // Two independent measurements of what the exposure's rate is the mean of.
    let (mut chi2, mut used) = (0.0, 0.0);
    for i in (0..n).filter(|&i| mean[i].is_finite() && each[i].is_finite() && each[i + n].is_finite()) {
        let apart = f64::from(each[i] - each[i + n]).powi(2);
        let (a, b) = (f64::from(err[i]), f64::from(err[i + n]));
        chi2 += apart / (a * a + b * b);
        used += 1.0;
        assert!((mean[i] - 0.5 * (each[i] + each[i + n])).abs() < 6.0 * err[i], "pixel {i}");
    }
    assert!(used > 0.8 * n as f64 && (chi2 / used - 1.0).abs() < 0.1, "{used} pixels, chi2 {}", chi2 / used);
}

#[test]
fn pedestals_are_written_on_demand() {
    let raw = files(&night().join("night")).into_iter().find(|p| text(p).ends_with("_SCI_LVL0_0010.fits"));
    let raw = raw.expect("an exposure of two ramps");
    let refs = night().join("night/refs");
    let fit = |name: &str, options: &[&str]| {
        let output = night().join(name);
        let mut args =
            vec!["run", "stage1", text(&raw), "-o", text(&output), "--refs", text(&refs), "--device", "cpu"];
        args.extend(options);
        let done = run(&args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let product = files(&output).into_iter().find(|p| p.extension().is_some_and(|e| e == "fits"));
        (Fits::open(&product.expect("a product")).expect("a product"), said)
    };
    let plane = |f: &Fits, name: &str| f.f32(f.hdu(name).expect(name)).expect(name);
    let (free, _) = fit("pedestal", &["--steps.ramp_fit.pedestal=true"]);
    for (name, unit) in
        [("PEDESTAL", "electron"), ("VAR_PEDESTAL", "electron2"), ("COV_PEDESTAL", "electron2 s-1")]
    {
        let hdu = free.hdu(name).expect(name);
        assert_eq!((&hdu.shape[..], hdu.header.text("BUNIT").as_deref()), (&[2, 128, 128][..], Some(unit)));
    }
    let (rate, err) = (plane(&free, "DATA"), plane(&free, "ERR"));
    let (value, variance) = (plane(&free, "PEDESTAL"), plane(&free, "VAR_PEDESTAL"));
    let covariance = plane(&free, "COV_PEDESTAL");
    for i in 0..2 * rate.len() {
        let r = i % rate.len();
        assert!(rate[r].is_finite() || value[i].is_nan());
        assert!(value[i].is_nan() || (variance[i] > 0.0 && covariance[i] < 0.0));
        let bound = covariance[i] * covariance[i] / (variance[i] * err[r] * err[r]);
        assert!(value[i].is_nan() || bound < 1.0, "a correlation of {bound}");
    }
    // Pedestals known to be where they are make the rate better.
    let typical = |v: &[f32]| {
        let mut v: Vec<f32> = v.iter().copied().filter(|v| v.is_finite()).collect();
        v.sort_by(f32::total_cmp);
        v[v.len() / 2]
    };
    let (known, _) = fit("known", &["--steps.ramp_fit.pedestal_prior_err=2"]);
    assert!(typical(&plane(&known, "ERR")) < 0.95 * typical(&err));
    let (ols, said) = fit("ols", &["--steps.ramp_fit.pedestal=true", "--steps.ramp_fit.algorithm=ols"]);
    assert!(ols.hdu("PEDESTAL").is_none() && said.contains("only algorithm = likelihood finds pedestals"));
}

#[test]
fn a_missing_detector_is_told_by_obsname() {
    let raw =
        files(&night().join("night")).into_iter().find(|p| text(p).contains("_SCI_LVL0_")).expect("raw");
    let dir = tempfile::tempdir().expect("temp dir");
    let (input, output) = (dir.path().join("raw.fits"), dir.path().join("out"));
    let with = |from: &str, to: &str| {
        let mut bytes = std::fs::read(&raw).expect("read");
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("card");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&input, bytes).expect("write");
        let refs = night().join("night/refs");
        run(&["run", "stage1", text(&input), "-o", text(&output), "--refs", text(&refs), "--device", "cpu"])
    };
    let done = with("DETECTOR= 'IMG1", "DETECTOX= 'IMG1");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("DETECTOR is missing: OBSNAME = 'IMG1-SCI' tells that it is IMG1"), "{said}");
    let product =
        files(&output).into_iter().find(|p| text(p).contains("_IMG1_SCI_LVL1_")).expect("a product");
    assert_eq!(Fits::open(&product).expect("open").primary().text("DETECTOR").as_deref(), Some("IMG1"));
    let done = with("DETECTOR= 'IMG1", "DETECTOR= 'IMG9");
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("DETECTOR = 'IMG9' is not known") && !said.contains("configuration:"), "{said}");
}

#[test]
fn a_simulated_night_is_neither_mixed_nor_made_twice() {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = dir.path().join("one.yaml");
    let yaml = "frame: [32, 32]\nexposures: [{detector: IMG1, kind: DRK, count: COUNT, reads: 3}]\n";
    std::fs::write(&config, yaml.replace("COUNT", "1")).expect("write");
    let to = dir.path().join("to");
    let go = |more: &[&str]| run(&[&["simulate", text(&config), text(&to), "--json"], more].concat());
    let made = |o: &Output| {
        serde_json::from_slice::<serde_json::Value>(&o.stdout).expect("JSON")["simulated"].clone()
    };
    assert_eq!(made(&go(&[])), true);
    assert_eq!(made(&go(&[])), false);
    let raw = files(&to.join("night")).into_iter().find(|p| text(p).contains("_LVL0_")).expect("raw");
    std::fs::remove_file(&raw).expect("remove");
    assert_eq!(made(&go(&["-q"])), true);
    assert!(raw.is_file());
    std::fs::write(&config, yaml.replace("COUNT", "2")).expect("write");
    let other = go(&[]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        other.status.code() == Some(2) && said.contains("another night") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(made(&go(&["--force"])), true);
}

#[test]
fn what_cannot_be_written_or_read_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let empty = run(&["reduce", text(dir.path())]);
    assert_eq!(empty.status.code(), Some(64), "{}", String::from_utf8_lossy(&empty.stderr));
    for verb in [&["reduce"][..], &["plan"], &["reduce", "--dry-run"]] {
        let empty = run(&[verb, &[text(dir.path()), "--json"]].concat());
        assert_eq!(empty.status.code(), Some(64));
        let json: serde_json::Value = serde_json::from_slice(&empty.stdout).expect("JSON");
        assert_eq!(json["tasks"], serde_json::json!([]), "{verb:?}");
    }
    let odd = |path: &str| String::from_utf8_lossy(&run(&["run", "stage1", path]).stderr).into_owned();
    assert!(odd(text(dir.path())).contains("is a folder"));
    #[cfg(unix)]
    assert!(odd("/dev/null").contains("is not a regular file"));
    std::fs::write(dir.path().join("file"), b"").expect("write");
    let into = reduce(&night().join("night"), &dir.path().join("file/x"), "cpu");
    assert!(matches!(into.status.code(), Some(1 | 2)));
    let none = run(&["devices", "--device", "no such device"]);
    assert_eq!(none.status.code(), Some(3));
    // One bad frame stops nothing.
    let mixed = dir.path().join("night");
    copy(&mixed);
    std::fs::write(mixed.join("junk.fits"), b"not a FITS file").expect("write");
    let done = run(&["reduce", text(&mixed), "--device", "cpu"]);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("junk.fits") && said.contains("1 failed"), "{said}");
}

/// Frames with one exposure number, in folders of their own: no rate of a set may
/// take the place of another.
#[test]
fn rates_of_a_set_have_names_of_their_own() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path().join("night");
    for (k, from) in ["DARK_LVL0_0001", "DARK_LVL0_0002", "DARK_LVL0_0003"].iter().enumerate() {
        let raw = files(crate::night()).into_iter().find(|p| text(p).contains(from)).expect("raw frame");
        let mut bytes = std::fs::read(&raw).expect("read");
        // The card is EXPNUM's in the first header; its number ends in column 30.
        let card = bytes.windows(8).position(|w| w == b"EXPNUM  ").expect("EXPNUM");
        bytes[card + 29] = b'7';
        let folder = night.join(format!("sub{k}"));
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("x.fits"), bytes).expect("write");
    }
    let output = dir.path().join("out");
    let out = reduce(&night, &output, "cpu");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let rates = files(&output)
        .into_iter()
        .filter(|p| text(p).contains("_LVL1_0007") && !text(p).contains("jumps"))
        .count();
    assert_eq!(rates, 3, "{:?}", files(&output));
    let again = reduce(&night, &output, "cpu");
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 up to date"));
}
