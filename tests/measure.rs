//! Detectors measured through the public command line, on small simulated nights
//! whose truth is known: gain and read noise, masks, linearity, and cosmic rays in
//! frames without reads.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::datamodel::dq;
use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_irisgpu")).args(args).stdin(Stdio::null()).output().expect("run");
    let said = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(output.status.success(), "{args:?}\n{}\n{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

/// Simulates a night and returns its raw files.
fn night(dir: &Path, yaml: &str) -> Vec<PathBuf> {
    let elsewhere = tempfile::tempdir().expect("temp dir");
    let config = elsewhere.path().join("night.yaml");
    std::fs::write(&config, yaml).expect("write");
    run(&["simulate", text(&config), text(dir), "-q"]);
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("night"))
        .expect("night")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.is_file())
        .collect();
    files.sort();
    files
}

fn reduce(recipe: &str, files: &[PathBuf], out: &Path, more: &[&str]) {
    let mut args = vec!["run", recipe];
    args.extend(files.iter().map(|f| text(f)));
    args.extend(["-o", text(out), "--device", "cpu", "-q"]);
    args.extend(more);
    run(&args);
}

/// The one file of `folder` with `part` in its name.
fn the(folder: &Path, part: &str) -> PathBuf {
    let mut found = std::fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path());
    found.find(|p| p.is_file() && text(p).contains(part)).unwrap_or_else(|| panic!("no {part} in {folder:?}"))
}

fn floats(path: &Path, hdu: &str) -> Vec<f32> {
    let fits = Fits::open(path).expect("open");
    fits.f32(fits.hdu(hdu).expect("HDU")).expect("pixels")
}

fn words(path: &Path, hdu: &str) -> Vec<u32> {
    let fits = Fits::open(path).expect("open");
    fits.u32(fits.hdu(hdu).expect("HDU")).expect("pixels")
}

const GAIN: &str = "
seed: 5
frame: [128, 128]
physics: {ipc: IPC, amplifier_drift: 0, odd_even_drift: 0}
exposures:
  - {detector: IMG1, kind: DRK, count: 5, reads: 16}
  - {detector: IMG1, kind: NFF, count: 8, reads: 12, read_time: 2.5}
";

#[test]
fn gain_and_read_noise_come_back_within_their_errors() {
    const N: usize = 128;
    for ipc in ["0", "0.01"] {
        let dir = tempfile::tempdir().expect("temp dir");
        let files = night(dir.path(), &GAIN.replace("IPC", ipc));
        let out = dir.path().join("out");
        let tiles = ["--steps.photon_transfer.tiles_across=8", "--steps.photon_transfer.tiles_along=8"];
        reduce("gain", &files, &out, &tiles);
        let refs = dir.path().join("night/refs");
        let mask = words(&the(&refs, "_MASK_"), "DQ");
        let mut figures = Vec::new();
        for (name, power) in [("_GAIN_", -1), ("_READNOISE_", 2)] {
            let product = the(&out, name);
            let (value, error) = (floats(&product, "DATA"), floats(&product, "ERR"));
            let truth = floats(&the(&refs, name), "DATA");
            let (mut chi2, mut ratio) = (0.0, 0.0);
            for tile in 0..64 {
                let (y0, x0) = (tile / 8 * N / 8, tile % 8 * N / 8);
                let all = (0..N * N / 64).map(|i| (y0 + i / (N / 8)) * N + x0 + i % (N / 8));
                let good: Vec<usize> =
                    all.filter(|i| mask[*i] & (dq::DO_NOT_USE | dq::REFERENCE_PIXEL) == 0).collect();
                let sum: f64 = good.iter().map(|i| f64::from(truth[*i]).powi(power)).sum();
                let expected = (sum / good.len() as f64).powf(1.0 / f64::from(power));
                let at = y0 * N + x0;
                chi2 += ((f64::from(value[at]) - expected) / f64::from(error[at])).powi(2) / 64.0;
                ratio += f64::from(value[at]) / expected / 64.0;
            }
            figures.push((name, ratio, chi2));
        }
        for (name, ratio, chi2) in &figures {
            assert!((ratio - 1.0).abs() < 0.01, "ipc {ipc}: {name} {ratio}: {figures:?}");
            // 4.5 sigma of a chi-square of 64.
            assert!((chi2 - 1.0).abs() < 4.5 * (2f64 / 64.0).sqrt(), "ipc {ipc}: {name}: {figures:?}");
        }
        let header = Fits::open(&the(&out, "_GAIN_")).expect("open").primary().clone();
        // It says nothing of references that it has not used.
        assert!(header.has("R_BIAS") && !header.has("R_GAIN") && !header.has("R_READNO"));
        for keyword in ["IPCX", "IPCY"] {
            let found = header.number(keyword).expect("measured");
            assert!((found - ipc.parse::<f64>().expect("number")).abs() < 0.003, "{keyword} {found}");
        }
        // The next run takes both files as references.
        let again = dir.path().join("rate");
        let gain = format!("--override_gain={}", text(&the(&out, "_GAIN_")));
        let noise = format!("--override_readnoise={}", text(&the(&out, "_READNOISE_")));
        reduce("stage1", &files[..1], &again, &[&gain, &noise]);
        let rate = Fits::open(&the(&again, "_LVL1_")).expect("open").primary().clone();
        assert!(rate.text("R_GAIN").expect("R_GAIN").contains("_GAIN_"));
        assert!(rate.text("R_READNO").expect("R_READNO").contains("_READNOISE_"));
    }
}

#[test]
fn a_gain_without_light_is_a_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let files =
        night(dir.path(), "frame: [64, 64]\nexposures: [{detector: IMG1, kind: DRK, count: 2, reads: 4}]\n");
    let output = Command::new(env!("CARGO_BIN_EXE_irisgpu"))
        .args(["run", "gain", text(&files[0]), text(&files[1]), "--device", "cpu", "-o"])
        .arg(dir.path().join("out"))
        .stdin(Stdio::null())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("give two flat ramps or more"), "{said}");
    let left = std::fs::read_dir(dir.path().join("out")).expect("out").count();
    assert!(left <= 1, "nothing but the lock stays: {left}");
}

/// Pixels that are lit and taken for reference pixels take light away: that is said, with
/// numbers, wherever light is needed.
#[test]
fn lit_reference_pixels_are_told() {
    const N: usize = 192;
    let dir = tempfile::tempdir().expect("temp dir");
    let files = night(
        dir.path(),
        "frame: [192, 192]\nexposures: [{detector: IMG1, kind: NFF, count: 2, reads: 6, read_time: 2.5}, \
         {detector: IMG1, kind: DRK, count: 2, reads: 6}]\n",
    );
    let wrong: Vec<u32> = (0..N * N)
        .map(|p| {
            // Twenty lit pixels beside the four that are none.
            let border = |i: usize| !(24..N - 24).contains(&i);
            if border(p / N) || border(p % N) { dq::REFERENCE_PIXEL } else { 0 }
        })
        .collect();
    let path = dir.path().join("wrong.fits");
    let mut h = Header::new();
    h.set("REFTYPE", "mask", "");
    h.set("DETECTOR", "IMG1", "");
    let mut w = FitsWriter::create(&path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("DQ", &Header::new(), &[N, N], Pixels::U32(&wrong)).expect("image");
    w.finish().expect("finish");
    for recipe in ["gain", "nonlin"] {
        let output = Command::new(env!("CARGO_BIN_EXE_irisgpu"))
            .args(["run", recipe])
            .args(&files)
            .arg(format!("--override_mask={}", text(&path)))
            .args(["--steps.photon_transfer.tiles_across=2", "--steps.photon_transfer.tiles_along=2"])
            .args(["--device", "cpu", "-o", text(&dir.path().join(recipe))])
            .stdin(Stdio::null())
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let words = ["for reference pixels that drift by", "as lit ones do", "refpix.skip=true"];
        assert!(words.iter().all(|w| said.contains(w)) && !said.contains("()"), "{recipe}: {said}");
    }
}

const BAD: &str = "
seed: 8
frame: [192, 192]
physics: {dead: 0.004, hot: 0.004, warm: 0.004, low_qe: 0.004, telegraph: 0.004, noisy: 0.004,
  bad_reference: 0.01, amplifier_drift: 0, odd_even_drift: 0}
exposures:
  - {detector: IMG1, kind: DRK, count: 5, reads: 16}
  - {detector: IMG1, kind: NFF, count: 3, reads: 8, read_time: 2.5}
";

#[test]
fn masks_find_what_is_wrong_and_little_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let files = night(dir.path(), BAD);
    let out = dir.path().join("out");
    reduce("mask", &files, &out, &[]);
    let found = words(&the(&out, "_MASK_"), "DQ");
    let truth = words(&the(&dir.path().join("night/refs"), "_MASK_"), "DQ");
    let mut report = String::new();
    for (name, really, called) in [
        ("dead", dq::DEAD, dq::DEAD),
        ("hot", dq::HOT, dq::HOT),
        ("warm", dq::WARM, dq::WARM | dq::HOT),
        ("low QE", dq::LOW_QE, dq::LOW_QE),
        ("telegraph", dq::TELEGRAPH, dq::TELEGRAPH),
        ("noisy", dq::UNRELIABLE_SLOPE, dq::UNRELIABLE_SLOPE),
        ("bad reference", dq::BAD_REF_PIXEL, dq::BAD_REF_PIXEL),
    ] {
        let all = truth.iter().filter(|t| **t & really != 0).count();
        let hit = truth.iter().zip(&found).filter(|(t, f)| **t & really != 0 && **f & called != 0).count();
        let wrong = truth.iter().zip(&found).filter(|(t, f)| **t & really == 0 && **f & really != 0);
        // A warm pixel above the hot limit is not wrong.
        let wrong = wrong.filter(|(t, _)| !(really == dq::HOT && **t & dq::WARM != 0)).count();
        report += &format!("{name}: {hit} of {all}, {wrong} false; ");
        assert!(all > 10 && hit as f64 >= 0.95 * all as f64, "{report}");
        assert!(wrong as f64 <= 3e-4 * truth.len() as f64, "{report}");
    }
    println!("{report}");
    let unusable = |m: &[u32]| m.iter().filter(|f| **f & dq::DO_NOT_USE != 0).count() as f64;
    assert!((unusable(&found) / unusable(&truth) - 1.0).abs() < 0.05, "{report}");
    // stage 1 takes it.
    let rates = dir.path().join("rate");
    let mask = format!("--override_mask={}", text(&the(&out, "_MASK_")));
    reduce("stage1", &files[..1], &rates, &[&mask]);
    let flagged = words(&the(&rates, "_LVL1_"), "DQ").iter().filter(|f| **f & dq::DEAD != 0).count();
    assert!(flagged > 50, "{flagged}");
}

const LAMPS: &str = "
seed: 9
frame: [96, 96]
physics: {amplifier_drift: 0, odd_even_drift: 0, warm: 0}
exposures:
  - {detector: IMG1, kind: NFF, count: 2, reads: 20, read_time: 3, lamp: 0.4}
  - {detector: IMG1, kind: NFF, count: 4, reads: 20, read_time: 3, lamp: 0.8}
  - {detector: IMG1, kind: NFF, count: 4, reads: 20, read_time: 3, lamp: 1.2}
  - {detector: IMG1, kind: NFF, count: 1, reads: 20, read_time: 3, lamp: 1.1}
";

/// How much the first and the last quarter of a ramp's differences differ, relative
/// to their mean, over all usable pixels: (mean over the frame, rms over pixels).
fn bend(ramp: &Path, reads: usize) -> (f64, f64) {
    let (data, flags) = (floats(ramp, "DATA"), words(ramp, "GROUPDQ"));
    let bad = words(ramp, "PIXELDQ");
    let n = bad.len();
    let mut all = Vec::new();
    for i in (0..n).filter(|i| bad[*i] & (dq::DO_NOT_USE | dq::REFERENCE_PIXEL) == 0) {
        if (0..reads).any(|k| flags[k * n + i] != 0) {
            continue;
        }
        let at = |k: usize| f64::from(data[k * n + i]);
        let quarter = reads / 4;
        let (early, late) = (at(quarter) - at(0), at(reads - 1) - at(reads - 1 - quarter));
        all.push((early - late) / (early + late) * 2.0);
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    (mean, (all.iter().map(|b| b * b).sum::<f64>() / all.len() as f64).sqrt())
}

#[test]
fn the_polynomial_straightens_a_ramp_that_it_never_saw() {
    let dir = tempfile::tempdir().expect("temp dir");
    let files = night(dir.path(), LAMPS);
    let out = dir.path().join("out");
    let (fitted, other) = files.split_at(files.len() - 1);
    reduce("nonlin", fitted, &out, &[]);
    let product = the(&out, "_NONLIN_");
    let fits = Fits::open(&product).expect("open");
    assert_eq!(fits.hdu("COEFFS").expect("COEFFS").shape, [4, 96, 96]);
    let good = words(&product, "DQ").iter().filter(|f| **f == 0).count();
    assert!(good as f64 > 0.97 * 88.0 * 88.0, "{good}");
    let recipe = dir.path().join("ramp.yaml");
    let steps = |last: &str| {
        let yaml = format!(
            "name: ramp\nabout: corrected ramp\ntakes: one\nsteps: [dq_init: {{}}, saturation: {{}}, bias: {{}}, \
             refpix: {{}}{last}]\n"
        );
        std::fs::write(&recipe, yaml).expect("write");
    };
    let nonlin = |path: &Path| format!("--override_nonlin={}", text(path));
    let mut bends = Vec::new();
    let truth = the(&dir.path().join("night/refs"), "_NONLIN_");
    for (name, last, file) in
        [("raw", "", &truth), ("fit", ", linearity: {}", &product), ("truth", ", linearity: {}", &truth)]
    {
        steps(last);
        let folder = dir.path().join(format!("ramp-{name}"));
        let mut args =
            vec!["run", text(&recipe), text(&other[0]), "-o", text(&folder), "--device", "cpu", "-q"];
        let option = nonlin(file);
        args.push(&option);
        run(&args);
        bends.push(bend(&the(&folder, ".fits"), 16));
    }
    let [raw, fit, truth] = [bends[0], bends[1], bends[2]];
    // 7 % at the end of the raw ramp; what is left is noise, as with the truth.
    assert!(raw.0 > 0.05, "{bends:?}");
    assert!((fit.0 - truth.0).abs() < 1e-3, "{bends:?}");
    assert!(fit.1 < 1.05 * truth.1, "{bends:?}");
    println!("{bends:?}");
}

/// A raw correlated-double-sampling frame of 60 s: sky 900 e-, stars, hits.
fn cds(path: &Path, number: i64, hits: &[usize], n: usize) {
    let mut state = number as u64 + 77;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut data: Vec<f32> = (0..n * n)
        .map(|i| {
            let (dx, dy) = ((i % n) as f64 % 32.0 - 15.4, (i / n) as f64 % 32.0 - 16.2);
            let electrons = 900.0 + 30_000.0 * (-(dx * dx + dy * dy) / (2.0 * 1.5 * 1.5)).exp();
            let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
            ((electrons + (electrons + 162.0).sqrt() * normal) / 2.0) as f32
        })
        .collect();
    hits.iter().for_each(|i| data[*i] += 500.0);
    let mut h = Header::new();
    for (k, v) in [("DETECTOR", "IMG1"), ("OBSNAME", "IMG1-SCI"), ("FILTER", "K"), ("READMODE", "CDS")] {
        h.set(k, v, "");
    }
    h.set("EXPNUM", number, "");
    h.set("DATALVL", 1, "");
    h.set("EXPTIME", 60.0, "");
    h.set("NREADS", 2, "");
    h.set("GAIN", 2.0, "");
    h.set("READNOIS", 9.0, "");
    let mut unit = Header::new();
    unit.set("BUNIT", "DN", "");
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("DATA", &unit, &[n, n], Pixels::F32(&data)).expect("data");
    w.finish().expect("finish");
}

#[test]
fn cosmic_rays_leave_frames_that_have_no_reads() {
    const N: usize = 128;
    let dir = tempfile::tempdir().expect("temp dir");
    let struck = |k: usize| -> Vec<usize> { (0..N * N).filter(|i| i % 211 == 30 + 40 * k).collect() };
    let files: Vec<PathBuf> = (0..3)
        .map(|k| {
            let path = dir.path().join(format!("cds-{k}.fits"));
            cds(&path, k as i64 + 1, &struck(k), N);
            path
        })
        .collect();
    let out = dir.path().join("alone");
    reduce("cosmic_rays", &files[..1], &out, &[]);
    let product = the(&out, "_LVL1_");
    let header = Fits::open(&product).expect("open").primary().clone();
    assert_eq!(header.text("S_COSMIC").as_deref(), Some("COMPLETE"));
    let flags = words(&product, "DQ");
    let hit = |i: usize| flags[i] & (dq::JUMP_DET | dq::DO_NOT_USE) == dq::JUMP_DET | dq::DO_NOT_USE;
    let found = struck(0).into_iter().filter(|i| hit(*i)).count();
    let near = |i: usize| struck(0).iter().any(|s| (s % N).abs_diff(i % N).max((s / N).abs_diff(i / N)) <= 2);
    let wrong = (0..N * N).filter(|i| hit(*i) && !near(*i)).count();
    let all = (0..N * N).filter(|i| hit(*i)).count();
    println!("{found} of {}, {wrong} false, {all} flagged", struck(0).len());
    assert!(found as f64 >= 0.9 * struck(0).len() as f64, "{found} of {}", struck(0).len());
    // Away from the hits hardly any; of their neighbours a few go with them.
    assert!(wrong <= 2 && all <= found + 40, "{wrong} of {all}");
    // Within the imager's recipe the step looks at such a frame of its own accord …
    let skip = ["dark_sub", "flat_field"].map(|s| format!("--steps.{s}.skip=true"));
    let imager = dir.path().join("imager");
    reduce("imager", &files[..1], &imager, &[&skip[0], &skip[1]]);
    let product = the(&imager, "_LVL2_");
    assert_eq!(Fits::open(&product).expect("open").primary().text("S_COSMIC").as_deref(), Some("COMPLETE"));
    assert_eq!(words(&product, "DQ"), flags);
    // … and three frames together need no sharpness: the median tells.
    let together = dir.path().join("together");
    reduce("combine_frames", &files, &together, &[]);
    let data = floats(&the(&together, "_LVL3_"), "DATA");
    let sky: Vec<f64> = (0..3)
        .flat_map(struck)
        .filter(|i| (i % N) % 32 < 8 && (i / N) % 32 < 8)
        .map(|i| f64::from(data[i]))
        .collect();
    let worst = sky.iter().fold(0.0f64, |w, v| w.max((v - 15.0).abs()));
    // A hit left in would add 500 × 2/60/3 = 5.6 e-/s; noise is 0.3.
    assert!(sky.len() > 5 && worst < 2.0, "{worst} of {}", sky.len());
}
