//! Wavelengths and dispersion through the public command line, on a simulated night whose
//! spectra drift: arcs of another time, OH lines, a white point source, velocity frames.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use irisgpu::fits::{Fits, Header, read_column};

/// Columns an hour, and days from the night's start to the middle of the arcs.
const DRIFT: f64 = 0.15;

/// What was said, and the exit code.
fn irisgpu(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_irisgpu")).args(args).output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

struct Night(tempfile::TempDir);

impl Night {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file in `folder` whose name contains `part`.
    fn find(&self, folder: &str, part: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path(folder)).expect("folder").flatten();
        entries.map(|e| e.path()).find(|p| text(p).contains(part)).unwrap_or_else(|| panic!("no {part}"))
    }

    fn primary(&self, folder: &str, part: &str) -> Header {
        Fits::open(&self.find(folder, part)).expect("file").primary().clone()
    }

    /// The cube of the second science exposure by the recipe `lenslet` from its rate, with
    /// the night's masters but a wavemap; the folder's name and what was said.
    fn without_wavemap(&self, name: &str, options: &[&str]) -> (String, String) {
        let own = |reftype: &str, part: &str| {
            format!("--override_{reftype}={}", text(&self.find("night/reduced/masters", part)))
        };
        let references = [
            own("lenspx", "LENSPX"),
            own("dark", "_DARK_"),
            own("dispersion", "DISPERSION"),
            own("sky", "_SKY_"),
        ];
        let (rate, out) = (self.find("night/reduced", "SCI_LVL1_0020"), self.path(name));
        let mut args = vec!["run", "lenslet", text(&rate), "-o", text(&out), "--device", "cpu"];
        args.extend(references.iter().map(String::as_str));
        args.extend(options);
        let (code, said) = irisgpu(&args);
        assert_eq!(code, 0, "{said}");
        (name.to_owned(), said)
    }
}

fn night() -> &'static Night {
    static NIGHT: OnceLock<Night> = OnceLock::new();
    NIGHT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/small-wavelengths.yaml");
        assert_eq!(irisgpu(&["simulate", config, text(dir.path())]).0, 0);
        let (code, said) = irisgpu(&["reduce", text(&dir.path().join("night")), "--device", "cpu"]);
        assert_eq!(code, 0, "{said}");
        Night(dir)
    })
}

#[test]
fn arcs_of_another_time_serve_the_exposures_beside_them() {
    let n = night();
    let map = n.find("night/reduced/masters", "IRIS_IFU_WAVEMAP_");
    let f = Fits::open(&map).expect("wavemap");
    let h = f.primary();
    assert_eq!(h.text("DATAMODL").as_deref(), Some("WavemapModel"));
    assert!(h.has("C_LENSPX") && h.has("C_DARK") && h.text("S_WAVCAL").as_deref() == Some("COMPLETE"));
    // The first science exposure lies beside the scans, sky and the second beside the arcs.
    let science = |part: &str| n.primary("night/reduced", part);
    assert!(!science("SCI_LVL2_0015").has("R_WAVMAP"));
    assert_eq!(
        science("SCI_LVL2_0020").text("R_WAVMAP").as_deref(),
        map.file_name().and_then(|n| n.to_str())
    );
    assert!(n.primary("night/reduced/masters", "_SKY_").has("R_WAVMAP"));
    // Against the layout, moved by what the spectra drifted until then.
    let truth = Fits::open(&n.path("truth/lenslets_truth.fits")).expect("truth");
    let table = |fits: &Fits, hdu: &str, name: &str| {
        read_column(fits, fits.require(&[hdu]).expect(hdu), name).expect(name).0
    };
    let x = table(&truth, "LENSLETS", "XCOEF");
    let [ix, iy, xmin, xmax] = ["IX", "IY", "XMIN", "XMAX"].map(|c| table(&f, "SPAXELS", c));
    let waves = f.require(&["WAVE"]).expect("WAVE");
    let terms = waves.shape[1];
    let waves = f.f64(waves).expect("WAVE");
    let hours = (h.number("EXPJDMID").expect("EXPJDMID") - 2_461_114.625) * 24.0;
    assert!(hours > 3.0, "{hours}");
    let (mut count, mut square) = (0.0, 0.0);
    for s in 0..ix.len() {
        let c = &x[3 * (iy[s] as usize * 6 + ix[s] as usize)..][..3];
        for k in 0..=20 {
            let u = -0.95 + 0.095 * f64::from(k);
            let column = c[0] + u * (c[1] + u * c[2]) + DRIFT * hours;
            let t = (2.0 * column - xmin[s] - xmax[s]) / (xmax[s] - xmin[s]);
            let wave: f64 =
                waves[s * terms..(s + 1) * terms].iter().zip(legendre(t, terms)).map(|(a, b)| a * b).sum();
            let off = (wave - (2.15 + 0.05 * u)) / 0.05 * (c[1] + 2.0 * u * c[2]);
            count += 1.0;
            square += off * off;
        }
    }
    let rms = f64::sqrt(square / count);
    println!("wavemap against the truth: {rms:.4} columns rms");
    assert!(ix.len() == 30 && rms < 0.02, "{rms}");
}

fn legendre(t: f64, n: usize) -> Vec<f64> {
    let mut p = vec![1.0, t];
    for k in 1..n {
        p.push(((2 * k + 1) as f64 * t * p[k] - k as f64 * p[k - 1]) / (k + 1) as f64);
    }
    p.truncate(n);
    p
}

#[test]
fn oh_lines_tell_where_the_wavelengths_are() {
    let n = night();
    let shift = |h: &Header| {
        assert!(h.integer("OHLINES").expect("OHLINES") >= 3);
        (h.number("OHSHIFT").expect("OHSHIFT"), h.number("OHSHERR").expect("OHSHERR"))
    };
    for part in ["SCI_LVL2_0015", "SCI_LVL2_0020"] {
        let (off, error) = shift(&n.primary("night/reduced", part));
        println!("{part}: {off} +- {error} channels");
        assert!(off.abs() < 0.05 + 3.0 * error && error < 0.03, "{part}: {off} {error}");
    }
    let (off, error) = shift(&n.primary("night/reduced/masters", "_SKY_"));
    assert!(off.abs() < 0.03 + 3.0 * error, "{off} {error}");
    // With the wavelengths of three hours ago.
    let (folder, said) = n.without_wavemap("old", &[]);
    let old = n.primary(&folder, "SCI_LVL2_0020");
    let (off, error) = shift(&old);
    println!("without the wavemap: {off} +- {error} channels");
    assert!((off - DRIFT * 3.25).abs() < 0.06 && said.contains("channels too long by"), "{off}: {said}");
    let (folder, said) = n.without_wavemap("moved", &["--steps.cube_build.wavelength_shift=true"]);
    let moved = n.primary(&folder, "SCI_LVL2_0020");
    let channel = 0.1 / 150.0;
    let by = moved.number("WAVSHIFT").expect("WAVSHIFT");
    assert!((by / channel + off).abs() < 0.05 && !said.contains("channels too"), "{by}: {said}");
    let (folder, _) = n.without_wavemap("unasked", &["--steps.cube_build.oh_check=false"]);
    assert!(!n.primary(&folder, "SCI_LVL2_0020").has("OHSHIFT"));
}

/// The star's place (spaxels) in the first and last third of the channels, from the spaxels
/// inside the field: those at its sides are not known in all channels.
fn places(path: &Path) -> [[f64; 2]; 2] {
    let f = Fits::open(path).expect("cube");
    let hdu = f.require(&["DATA"]).expect("DATA");
    let (nw, ny, nx) = (hdu.shape[0], hdu.shape[1], hdu.shape[2]);
    let data = f.f32(hdu).expect("DATA");
    [5..nw / 3, 2 * nw / 3..nw - 5].map(|channels| {
        let (mut sum, mut x, mut y) = (0.0, 0.0, 0.0);
        for i in channels.flat_map(|k| k * ny * nx..(k + 1) * ny * nx) {
            let (sx, sy) = (i % nx, i / nx % ny);
            if (1..nx - 1).contains(&sx) && (1..ny - 1).contains(&sy) && data[i].is_finite() {
                let v = f64::from(data[i]);
                sum += v;
                x += v * sx as f64;
                y += v * sy as f64;
            }
        }
        [x / sum, y / sum]
    })
}

#[test]
fn dispersion_is_measured_and_taken_out() {
    let n = night();
    let path = n.find("night/reduced/masters", "IRIS_IFU_DISPERSION_");
    let f = Fits::open(&path).expect("dispersion");
    let h = f.primary();
    assert_eq!(h.text("DATAMODL").as_deref(), Some("DispersionModel"));
    let series = f.f64(f.require(&["SERIES"]).expect("SERIES")).expect("SERIES");
    let terms = series.len() / 2;
    let (low, high) = (h.number("WAVEMIN").expect("WAVEMIN"), h.number("WAVEMAX").expect("WAVEMAX"));
    let at = |axis: usize, wave: f64| -> f64 {
        let p = legendre((2.0 * wave - low - high) / (high - low), terms);
        series[axis * terms..(axis + 1) * terms].iter().zip(p).map(|(a, b)| a * b).sum()
    };
    let mut worst = 0f64;
    for k in 0..=20 {
        let u = -1.0 + 0.1 * f64::from(k);
        let (wave, middle) = (2.15 + 0.05 * u, (low + high) / 2.0);
        let truth = [0.3 * u + 0.05 * u * u, -0.2 * u];
        let own = [at(0, wave) - at(0, 2.15), at(1, wave) - at(1, 2.15)];
        worst = worst.max((own[0] - truth[0]).abs()).max((own[1] - truth[1]).abs());
        assert!(at(0, middle).abs() < 1e-9);
    }
    println!("dispersion against the truth: {worst:.4} spaxels at most");
    assert!(worst < 0.02, "{worst}");
    // The star of a science cube stays where it is once that is applied.
    let cube = n.find("night/reduced", "SCI_LVL2_0020");
    assert!(Fits::open(&cube).expect("cube").primary().has("R_IDP"));
    let (folder, _) = n.without_wavemap("dispersed", &["--steps.cube_build.dispersion=false"]);
    let raw = places(&n.find(&folder, "SCI_LVL2_0020"));
    let (folder, _) = n.without_wavemap("straight", &[]);
    let straight = places(&n.find(&folder, "SCI_LVL2_0020"));
    let moves = |p: [[f64; 2]; 2]| (p[1][0] - p[0][0]).hypot(p[1][1] - p[0][1]);
    println!("the star moves by {:.3} spaxels, put back by {:.3}", moves(raw), moves(straight));
    assert!(moves(raw) > 0.1 && moves(straight) < 0.3 * moves(raw), "{raw:?} {straight:?}");
}

#[test]
fn velocity_frames_are_stated_and_changed_on_request() {
    let n = night();
    let data = |path: &Path| Fits::open(path).expect("cube").require(&["DATA"]).expect("DATA").header.clone();
    let as_seen = n.find("night/reduced", "SCI_LVL2_0020");
    let (wcs, h) = (data(&as_seen), Fits::open(&as_seen).expect("cube").primary().clone());
    for keyword in ["SPECSYS", "SSYSOBS"] {
        assert_eq!(wcs.text(keyword).as_deref(), Some("TOPOCENT"), "{keyword}");
    }
    // astropy 8.0: RA 266.4168, Dec -29.0078 from TMT's site in the middle of the exposure;
    // the Earth moves by less than 2 m/s in what is left open here.
    let (barycentric, heliocentric) = (h.number("BARYCORR").expect("v"), h.number("HELICORR").expect("v"));
    assert!((barycentric - BARYCENTRIC).abs() < 5.0, "{barycentric}");
    assert!((heliocentric - HELIOCENTRIC).abs() < 5.0, "{heliocentric}");
    let later = h.number("BMIDTIME").expect("t") - (h.number("EXPJDMID").expect("t") - 2_400_000.5);
    assert!((later * 86_400.0 - 69.184 - h.number("BARTDELT").expect("t")).abs() < 0.01);
    let (folder, _) = n.without_wavemap("rest", &["--steps.assign_wcs.spectral_frame=barycentric"]);
    let moved = n.find(&folder, "SCI_LVL2_0020");
    let own = data(&moved);
    assert_eq!(own.text("SPECSYS").as_deref(), Some("BARYCENT"));
    for keyword in ["CRVAL3", "CDELT3"] {
        let ratio = own.number(keyword).expect(keyword) / wcs.number(keyword).expect(keyword);
        assert!((ratio - 1.0 - barycentric / 299_792_458.0).abs() < 1e-9, "{keyword}: {ratio}");
    }
    assert!((own.number("VELOSYS").expect("VELOSYS") - barycentric).abs() < 0.1);
    let out = n.path("refused");
    let (code, said) = irisgpu(&["run", "sky_sub", text(&moved), "-o", text(&out)]);
    assert!(code != 0 && said.contains("frame BARYCENT"), "{said}");
}

const BARYCENTRIC: f64 = 29_930.5;
const HELIOCENTRIC: f64 = 29_928.0;

#[test]
fn what_cannot_be_solved_is_said() {
    let n = night();
    let masters = n.path("night/reduced/masters");
    let run = |recipe: &str, file: &Path, options: &[&str]| {
        let out = n.path(&format!("refused-{recipe}-{}", options.len()));
        let mut args =
            vec!["run", recipe, text(file), "--refs", text(&masters), "-o", text(&out), "--device", "cpu"];
        args.extend(options);
        irisgpu(&args)
    };
    // Xenon has one line in the band, a dark and a scan none.
    let xenon = n.find("night/reduced", "ARC_LVL1_0017");
    let (code, said) = run("wavecal", &xenon, &[]);
    assert!(code != 0 && said.contains("lines of 1 of the lamps' wavelengths"), "{said}");
    let scan = n.find("night/reduced", "SPX_LVL1_0005");
    let (code, said) = run("wavecal", &scan, &[]);
    assert!(code != 0 && said.contains("is a white-light scan"), "{said}");
    let (code, said) = run("wavecal", &xenon, &["--steps.extract.skip=true"]);
    assert!(code != 0 && said.contains("wavecal needs extract"), "{said}");
    let sky = n.find("night/reduced", "SKY_LVL1_");
    let (code, said) = run("dispersion", &sky, &[]);
    assert!(code != 0 && said.contains("shows a white point source"), "{said}");
}
