//! The simulator as a whole: bytes, statistics, truth.

use std::path::Path;

use super::*;
use crate::config::Amplifiers;
use crate::datamodel::dq;
use crate::fits::{Fits, read_column};

fn small() -> NightConfig {
    let text = "
frame: [64, 48]
given: {IMG2: [dark, flat]}
imager: {stars: 5, fwhm: 2}
lenslet: {grid: [3, 2], pitch: [6, 9], span: 30, bend: 0.3}
exposures:
  - {detector: IMG1, kind: DRK, reads: 4}
  - {detector: IMG1, kind: NFF, reads: 4}
  - {detector: IMG1, kind: SCI, reads: 5, ramps: 2}
  - {detector: IMG2, kind: SKY, reads: 3}
  - {detector: IFU, kind: SPX, reads: 3}
  - {detector: IFU, kind: SPX, spx: arc, lines: [[2.13, 100], [2.17, 50]], reads: 3}
  - {detector: IFU, kind: SCI, reads: 3}
";
    NightConfig::from_yaml(text, "small").expect("small night")
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push((path.display().to_string(), std::fs::read(&path).expect("read")));
        }
    }
    out.sort();
    out
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let made: Vec<Vec<(String, Vec<u8>)>> = [1, 4]
        .into_iter()
        .map(|threads| {
            let dir = tempfile::tempdir().expect("temp dir");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(|| night(&small(), dir.path(), &|_| ())).expect("night");
            let base = dir.path().display().to_string();
            files(dir.path()).into_iter().map(|(n, b)| (n.replace(&base, ""), b)).collect()
        })
        .collect();
    let names = |v: &[(String, Vec<u8>)]| v.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&made[0]), names(&made[1]));
    // 9 raw frames and truths, references of 3 detectors, masters, the lenslets.
    assert_eq!(made[0].len(), 9 + 9 + 3 * 6 + 2 + 3 * 2 + 1);
    assert!(made[0] == made[1]);
}

#[test]
fn truth_and_raw_frames_belong_together() {
    let dir = tempfile::tempdir().expect("temp dir");
    night(&small(), dir.path(), &|_| ()).expect("night");
    let raw = dir.path().join("night/2026A-P001-001_IRIS_IMG1_SCI_LVL0_0003.fits");
    let raw = Fits::open(&raw).expect("raw");
    let data = raw.hdu("DATA").expect("DATA");
    assert_eq!(data.shape, [2, 5, 48, 64]);
    assert_eq!(raw.f64(raw.hdu("TIMES").expect("TIMES")).expect("f64")[..3], [3.0, 6.0, 9.0]);
    let truth = dir.path().join("truth/2026A-P001-001_IRIS_IMG1_SCI_LVL0_0003_truth.fits");
    let truth = Fits::open(&truth).expect("truth");
    let plane = |f: &Fits, name: &str| f.f32(f.hdu(name).expect(name)).expect(name);
    let (rate, scene, sky) = (plane(&truth, "RATE"), plane(&truth, "SCENE"), plane(&truth, "SKY"));
    let master = |name: &str| {
        let f = Fits::open(&dir.path().join(format!("truth/{name}_IMG1_truth.fits"))).expect("master");
        plane(&f, "DATA")
    };
    let (dark, flat) = (master("dark"), master("flat"));
    for i in 0..rate.len() {
        let expected = (scene[i] + sky[i]) * flat[i] + dark[i];
        assert!((rate[i] - expected).abs() <= 1e-5 * expected.abs() + 1e-4);
    }
    let cube = dir.path().join("truth/2026A-P001-001_IRIS_IFU_SCI_LVL0_0009_truth.fits");
    let cube = Fits::open(&cube).expect("cube");
    let waves = cube.f64(cube.hdu("WAVELENGTH").expect("WAVELENGTH")).expect("f64");
    assert_eq!(cube.hdu("CUBE").expect("CUBE").shape, [waves.len(), 2, 3]);
    let lenslets = Fits::open(&dir.path().join("truth/lenslets_truth.fits")).expect("lenslets");
    let (thru, _) = read_column(&lenslets, lenslets.hdu("LENSLETS").expect("table"), "THRU").expect("THRU");
    // What a lenslet's spectrum holds is what its two cubes hold, times throughput.
    let (targets, sky, spectra) = (plane(&cube, "CUBE"), plane(&cube, "SKYCUBE"), plane(&cube, "SPECTRA"));
    let step = waves[1] - waves[0];
    for l in 0..6 {
        let sum: f64 = (0..waves.len()).map(|w| f64::from(targets[w * 6 + l] + sky[w * 6 + l]) * step).sum();
        let detector: f64 = spectra[l * 64..(l + 1) * 64].iter().map(|v| f64::from(*v)).sum();
        assert!((detector / (thru[l] * sum) - 1.0).abs() < 2e-3, "{l}: {detector} {}", thru[l] * sum);
    }
}

#[test]
fn reads_have_the_mean_and_variance_that_they_should() {
    let physics = Physics {
        common_drift: 0.0,
        amplifier_drift: 0.0,
        odd_even_drift: 0.0,
        row_drift: 0.0,
        read_noise_spread: 0.0,
        gain_spread: 0.0,
        cosmic: Cosmic { rate: 0.0, ..Cosmic::default() },
        ..Physics::default()
    };
    let maps = Maps::new(&physics, Amplifiers { count: 4, along: 'x' }, 4, [128, 128], 1, 0);
    let light = |m: &u32| if m & dq::REFERENCE_PIXEL == 0 { 200.0 } else { 0.0 };
    let rate: Vec<f32> = maps.mask.iter().map(light).collect();
    let timing = Timing { ramps: 1, reads: 3, read_time: 5.0 };
    let mut readout = Readout::new(&physics, &maps, &rate, &timing, 1, 0);
    let mut reads = vec![vec![0u16; 128 * 128]; 3];
    for (k, out) in reads.iter_mut().enumerate() {
        readout.read(k, out).expect("read");
    }
    // Corrected by the polynomial itself, a difference is 1000 e- with Poisson noise
    // and twice the read noise, digitisation included.
    let linear = |k: usize, i: usize| {
        let x = f64::from(reads[k][i]) - f64::from(maps.bias[i]);
        let c = [f64::from(maps.nonlinearity[0][i]), f64::from(maps.nonlinearity[1][i])];
        2.0 * (x + x * x * (c[0] + c[1] * x))
    };
    let good: Vec<usize> = (0..128 * 128).filter(|i| maps.mask[*i] & dq::REFERENCE_PIXEL == 0).collect();
    let n = good.len() as f64;
    for k in 1..3 {
        let d: Vec<f64> = good.iter().map(|i| linear(k, *i) - linear(k - 1, *i)).collect();
        let mean = d.iter().sum::<f64>() / n;
        let variance = d.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let expected = 1000.0 + 2.0 * (81.0 + 4.0 / 12.0);
        assert!((mean - 1000.0).abs() < 4.5 * (expected / n).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 4.5 * (2.0 / n).sqrt(), "{variance} {expected}");
    }
    // Reference pixels see neither light nor reset noise.
    let corner: Vec<f64> = (0..4).map(|x| f64::from(reads[2][x]) - f64::from(reads[0][x])).collect();
    assert!(corner.iter().all(|d| d.abs() < 30.0), "{corner:?}");
    assert!(readout.usable.iter().all(|u| *u == 3) && readout.hits.is_empty());
}

#[test]
fn bright_pixels_saturate_and_say_so() {
    let physics = Physics::default();
    let maps = Maps::new(&physics, Amplifiers { count: 2, along: 'y' }, 4, [32, 32], 1, 0);
    let rate = vec![25_000f32; 32 * 32];
    let timing = Timing { ramps: 2, reads: 4, read_time: 2.0 };
    let mut readout = Readout::new(&physics, &maps, &rate, &timing, 1, 0);
    let mut out = vec![0; 32 * 32];
    for plane in 0..8 {
        readout.read(plane, &mut out).expect("read");
    }
    let i = 16 * 32 + 16;
    // 50 ke- a read, 120 ke- to saturation: two reads stay below.
    assert_eq!((readout.usable[i], readout.usable[32 * 32 + i]), (2, 2));
    assert!(f32::from(out[i]) > maps.saturation[i] && out[i] < 65_535);
}

#[test]
fn a_ramp_file_comes_with_its_references() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = ramp_file(dir.path(), [96, 64], 1, 3, 7).expect("ramp");
    assert_eq!(Fits::open(&path).expect("open").hdu("DATA").expect("DATA").shape, [1, 3, 64, 96]);
    assert_eq!(std::fs::read_dir(dir.path().join("refs")).expect("refs").count(), 8);
}

/// `cargo test --release simulate::tests::timing -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn timing() {
    let keep = std::env::var("IRISGPU_SIM_DIR").ok();
    let dir = tempfile::tempdir().expect("temp dir");
    let at = keep.map_or(dir.path().to_path_buf(), Into::into);
    let start = std::time::Instant::now();
    night(&NightConfig::demo().expect("demo"), &at.join("demo"), &|l| {
        eprintln!("{:7.2} s {l}", start.elapsed().as_secs_f64());
    })
    .expect("night");
    eprintln!("{:7.2} s demo", start.elapsed().as_secs_f64());
    if std::env::var("IRISGPU_SIM_LARGE").is_ok() {
        let start = std::time::Instant::now();
        ramp_file(&at.join("large"), [4096, 4096], 1, 10, 1).expect("ramp");
        eprintln!("{:7.2} s 4096 x 4096 x 10", start.elapsed().as_secs_f64());
    }
}
