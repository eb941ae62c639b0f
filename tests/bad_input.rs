//! Input that is wrong, through the public command line: each has its documented
//! result (docs/bad-input.md) or a clear error, never a silent number.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::datamodel::dq;
use irisgpu::fits::{Column, ColumnData, Fits, FitsWriter, Header, Pixels, Value};

const N: usize = 8;
const PLANE: [usize; 2] = [N, N];
/// DN/s of every good pixel; a gain of 2 makes 40 e-/s of it.
const RATE: f32 = 20.0;

/// A clean exposure and its references, to be spoilt.
struct Case {
    ramps: usize,
    times: Vec<f64>,
    /// (ramps, reads, N, N), DN.
    data: Vec<f32>,
    gain: Vec<f32>,
    noise: Vec<f32>,
    noise_cards: Vec<(&'static str, &'static str)>,
    saturation: Vec<f32>,
    mask: Vec<u32>,
    mask_shape: [usize; 2],
    /// (ncoef, N, N).
    coefficients: Vec<f32>,
    /// Seeing of each read; no table without.
    seeing: Vec<f64>,
    /// Reads of DATA, where not as many as there are times.
    reads: Option<usize>,
    /// The image of times, and that of the ramp.
    names: [&'static str; 2],
    cards: Vec<(&'static str, Value)>,
    options: Vec<String>,
    recipe: &'static str,
}

impl Case {
    fn new(ramps: usize, reads: usize) -> Case {
        let times: Vec<f64> = (0..ramps * reads).map(|i| (i % reads + 1) as f64).collect();
        let data = times.iter().flat_map(|t| vec![1000.0 + RATE * *t as f32; N * N]).collect();
        let identity = |k: usize| vec![if k == 1 { 1.0 } else { 0.0 }; N * N];
        Case {
            ramps,
            times,
            data,
            gain: vec![2.0; N * N],
            noise: vec![5.0; N * N],
            noise_cards: vec![("RNFORM", "SINGLE"), ("BUNIT", "DN")],
            saturation: vec![60_000.0; N * N],
            mask: vec![0; N * N],
            mask_shape: PLANE,
            coefficients: [identity(0), identity(1), identity(2)].concat(),
            seeing: Vec::new(),
            reads: None,
            names: ["TIMES", "DATA"],
            cards: Vec::new(),
            options: Vec::new(),
            recipe: "stage1",
        }
    }

    fn option(mut self, option: &str) -> Case {
        self.options.push(option.to_owned());
        self
    }

    /// Sets read `k` (ramp × reads + read) of pixel `p`.
    fn set(&mut self, k: usize, p: usize, value: f32) {
        self.data[k * N * N + p] = value;
    }

    /// The product, or what was said on the way to none.
    fn run_on(&self, device: &str) -> Result<Product, String> {
        let dir = tempfile::tempdir().expect("folder");
        let at = |name: &str| dir.path().join(name);
        let mut h = Header::new();
        h.set("DETECTOR", "IMG1", "");
        self.cards.iter().for_each(|(k, v)| h.set(k, v.clone(), ""));
        let (ramps, reads) = (self.ramps, self.times.len() / self.ramps);
        let mut w = FitsWriter::create(&at("ramp.fits")).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        let plain = Header::new();
        if !self.names[0].is_empty() {
            w.image(self.names[0], &plain, &[ramps, reads], Pixels::F64(&self.times)).expect("times");
        }
        let reads = self.reads.unwrap_or(reads);
        w.image(self.names[1], &plain, &[ramps, reads, N, N], Pixels::F32(&self.data)).expect("data");
        if !self.seeing.is_empty() {
            let data = ColumnData::F64(self.seeing.clone());
            let column = Column { name: "SEEING".into(), unit: "arcsec".into(), width: 1, data };
            w.table("READS", &plain, &[column]).expect("table");
        }
        w.finish().expect("finish");
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.stdin(Stdio::null()).args(["run", self.recipe]).arg(at("ramp.fits"));
        command.arg("-o").arg(at("out")).args(["--device", device]).args(&self.options);
        let mut reference = |reftype: &str, shape: &[usize], pixels: Pixels<'_>, name: &str| {
            let mut h = Header::new();
            h.set("REFTYPE", reftype, "");
            if reftype == "readnoise" {
                self.noise_cards.iter().for_each(|(k, v)| h.set(k, *v, ""));
            }
            if reftype == "nonlin" {
                h.set("COEFFZP", "RAW", "");
            }
            let path = at(&format!("{reftype}.fits"));
            let mut w = FitsWriter::create(&path).expect("create");
            w.empty("PRIMARY", &h).expect("primary");
            w.image(name, &Header::new(), shape, pixels).expect("image");
            w.finish().expect("finish");
            command.arg(format!("--override_{reftype}={}", path.display()));
        };
        reference("gain", &PLANE, Pixels::F32(&self.gain), "DATA");
        reference("readnoise", &PLANE, Pixels::F32(&self.noise), "DATA");
        reference("saturation", &PLANE, Pixels::F32(&self.saturation), "DATA");
        reference("mask", &self.mask_shape, Pixels::U32(&self.mask), "DQ");
        let shape = [self.coefficients.len() / (N * N), N, N];
        reference("nonlin", &shape, Pixels::F32(&self.coefficients), "COEFFS");
        let done = command.output().expect("run");
        let said = [done.stdout, done.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
        assert!(!said.contains("fault in irisgpu"), "{said}");
        if !done.status.success() {
            assert!(files(&at("out")).is_empty(), "a product in spite of an error: {said}");
            return Err(said);
        }
        let path = files(&at("out")).pop().expect("product");
        Ok(Product { fits: Fits::open(&path).expect("product"), _dir: dir })
    }

    /// The product of the CPU, which a GPU's must be like, where there is one.
    fn run(&self) -> Result<Product, String> {
        let cpu = self.run_on("cpu");
        if let Some(name) = irisgpu::engine::testing::gpu().map(|g| g.device().name.clone()) {
            match (&cpu, self.run_on(&name)) {
                (Ok(a), Ok(b)) => {
                    assert_eq!(a.dq(), b.dq());
                    for name in ["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2"] {
                        for (a, b) in a.plane(name).into_iter().zip(b.plane(name)) {
                            assert_eq!(a.is_nan(), b.is_nan(), "{name}");
                            assert!(a.is_nan() || (a - b).abs() <= 1e-4 + 1e-4 * a.abs(), "{name}: {a} {b}");
                        }
                    }
                }
                (Err(_), Err(_)) => {}
                (a, b) => panic!("CPU {:?}, GPU {:?}", a.as_ref().err(), b.err()),
            }
        }
        cpu
    }

    /// The error, which must have these words.
    fn refused(&self, words: &[&str]) {
        let said = self.run_on("cpu").err().expect("an error");
        assert!(words.iter().all(|w| said.contains(w)), "{said}");
    }
}

struct Product {
    fits: Fits,
    _dir: tempfile::TempDir,
}

impl Product {
    fn plane(&self, name: &str) -> Vec<f32> {
        self.fits.f32(self.fits.hdu(name).expect(name)).expect(name)
    }

    fn dq(&self) -> Vec<u32> {
        self.fits.u32(self.fits.hdu("DQ").expect("DQ")).expect("DQ")
    }

    /// Whether its header says so.
    fn history(&self, words: &str) -> bool {
        let cards = self.fits.primary().cards();
        let said: String =
            cards.iter().filter(|c| c.keyword == "HISTORY").map(|c| c.comment.trim_end()).collect();
        said.replace(' ', "").contains(&words.replace(' ', ""))
    }

    /// Pixel `p` has no value and says so, with `bits`.
    fn lost(&self, p: usize, bits: u32) {
        for name in ["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2"] {
            assert!(self.plane(name)[p].is_nan(), "{name} of {p} is {}", self.plane(name)[p]);
        }
        let wanted = bits | dq::DO_NOT_USE;
        assert_eq!(self.dq()[p] & wanted, wanted, "{:#x}", self.dq()[p]);
    }

    /// Pixel `p` has the true rate, an error, and exactly these bits.
    fn good(&self, p: usize, bits: u32) {
        let (rate, err) = (self.plane("DATA")[p], self.plane("ERR")[p]);
        assert!((rate - 2.0 * RATE).abs() < 1e-3 && err > 0.0 && err.is_finite(), "{p}: {rate} {err}");
        assert_eq!(self.dq()[p], bits, "{p}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
    all.filter(|p| p.extension().is_some_and(|e| e == "fits")).collect()
}

const FITS: [&str; 6] = ["likelihood", "ols", "mcds", "cds", "ols_c", "likely"];

fn with_fit(algorithm: &str, reads: usize) -> Case {
    Case::new(1, reads).option(&format!("--steps.ramp_fit.algorithm={algorithm}"))
}

#[test]
fn wrong_coefficients() {
    let mut case = Case::new(1, 6);
    case.coefficients.truncate(N * N);
    case.refused(&["COEFFS", "one coefficient"]);
    // A pixel without a usable polynomial is left as it is, and says so.
    let mut case = Case::new(1, 6);
    case.coefficients[2 * N * N + 3] = f32::NAN;
    case.coefficients[N * N + 4] = 0.0;
    case.coefficients[5] = f32::INFINITY;
    let product = case.run().expect("product");
    [3, 4, 5].iter().for_each(|p| product.good(*p, dq::NO_LIN_CORR));
    product.good(6, 0);
}

#[test]
fn wrong_gain_and_noise() {
    let mut case = Case::new(1, 6);
    let bad = [0.0, -1.0, f32::NAN, f32::INFINITY];
    case.gain[..4].copy_from_slice(&bad);
    case.noise[4..8].copy_from_slice(&bad);
    let product = case.run().expect("product");
    (0..4).for_each(|p| product.lost(p, dq::NO_GAIN_VALUE));
    (4..8).for_each(|p| product.good(p, dq::UNRELIABLE_ERROR));
    let err = product.plane("ERR");
    assert!((4..8).all(|p| err[p] == err[20]), "the median noise stands in");
    let mut case = Case::new(1, 6);
    case.noise.fill(0.0);
    case.refused(&["readnoise", "no positive value"]);
    for (left, word) in [("RNFORM", "RNFORM is missing"), ("BUNIT", "BUNIT is missing")] {
        let mut case = Case::new(1, 6);
        case.noise_cards.retain(|(key, _)| *key != left);
        case.refused(&["readnoise", word]);
    }
    let mut case = Case::new(1, 6);
    case.noise_cards[0].1 = "RMS";
    case.refused(&["RNFORM = 'RMS' is not known"]);
}

#[test]
fn a_wrong_mask_or_saturation_level() {
    let mut case = Case::new(1, 6);
    case.mask_shape = [N, N - 1];
    case.mask.truncate(N * (N - 1));
    case.refused(&["mask", "8 x 7", "8 x 8"]);
    let mut case = Case::new(1, 6);
    case.saturation[..4].copy_from_slice(&[0.0, -5.0, f32::NAN, f32::INFINITY]);
    let product = case.run().expect("product");
    (0..4).for_each(|p| product.good(p, dq::NO_SAT_CHECK));
}

#[test]
fn everything_saturated() {
    for algorithm in FITS {
        let mut case = with_fit(algorithm, 6).option("--steps.saturation.n_pix_grow_sat=0");
        (0..6).for_each(|k| case.set(k, 10, 65_000.0));
        let product = case.run().expect("product");
        product.lost(10, dq::SATURATED);
        product.good(11, 0);
        assert_eq!(product.plane("NREADS")[10], 0.0);
        // Every pixel.
        case.data.fill(65_000.0);
        let product = case.run().expect("product");
        (0..N * N).for_each(|p| product.lost(p, dq::SATURATED));
    }
}

#[test]
fn one_read_and_two() {
    for algorithm in FITS {
        with_fit(algorithm, 1).refused(&["one read a ramp", "two at least"]);
        let product = with_fit(algorithm, 2).run().expect("product");
        (0..N * N).for_each(|p| product.good(p, 0));
        assert!(product.plane("CHI2").iter().all(|c| c.is_nan()), "{algorithm}: nothing is left for a χ²");
    }
}

#[test]
fn values_that_are_no_numbers() {
    for algorithm in FITS {
        let mut case = with_fit(algorithm, 8);
        case.set(0, 0, f32::NAN);
        case.set(3, 1, f32::NAN);
        case.set(7, 2, f32::INFINITY);
        case.set(4, 3, f32::NEG_INFINITY);
        for k in 0..8 {
            case.set(k, 4, f32::NAN);
            case.set(k, 5, if k == 3 { 1080.0 } else { f32::NAN });
        }
        let product = case.run().expect("product");
        (0..4).for_each(|p| product.good(p, 0));
        let reads = product.plane("NREADS");
        assert_eq!(reads[..6], [7.0, 7.0, 7.0, 7.0, 0.0, 1.0], "{algorithm}");
        [4, 5].iter().for_each(|p| product.lost(*p, 0));
    }
}

#[test]
fn times_that_do_not_increase() {
    for (k, t, words) in [
        (3, 3.0, ["TIMES[0, 3]", "increase strictly"]),
        (3, 1.5, ["TIMES[0, 3]", "increase strictly"]),
        (2, f64::NAN, ["TIMES[0, 2]", "finite"]),
        (5, f64::INFINITY, ["TIMES[0, 5]", "finite"]),
    ] {
        let mut case = Case::new(1, 6);
        case.times[k] = t;
        case.refused(&words);
    }
    let mut case = Case::new(1, 6);
    case.times[0] = -5.0;
    case.refused(&["TIMES[0, 0]", "not before it"]);
    // A read at the reset is no harm to differences; alone it gives no rate.
    let mut case = with_fit("ols_c", 6);
    case.times.iter_mut().for_each(|t| *t -= 1.0);
    case.run().expect("product").good(0, 0);
    case.option("--steps.ramp_fit.suppress_one_group=false").refused(&["at the reset"]);
    // Every ramp begins anew.
    Case::new(2, 6).run().expect("product").good(0, 0);
}

#[test]
fn reads_that_are_left_out() {
    // Two reads in cloud, and one lost pixel by pixel: none of them counts.
    let mut case = Case::new(2, 8).option("--steps.dq_init.drop_reads=[0,-1]");
    (0..N * N).for_each(|p| [0, 7, 8, 15].iter().for_each(|k| case.set(*k, p, 9000.0)));
    let product = case.run().expect("product");
    (0..N * N).for_each(|p| product.good(p, 0));
    assert_eq!(product.plane("NREADS")[0], 12.0);
    assert_eq!(product.fits.primary().integer("NDROPPED"), Some(4));
    let history = product.fits.primary().cards().iter().filter(|c| c.keyword == "HISTORY");
    assert!(history.into_iter().any(|c| c.comment.contains("left out of ramp 1 (from 0) the reads 0, 7")));
    // By seeing, another read of each ramp, and one ramp without; a read of which
    // nothing is known is out.
    let limit = ["--steps.dq_init.read_column=seeing", "--steps.dq_init.read_max=0.8"];
    let by_seeing = |algorithm: &str| {
        let mut case = Case::new(3, 8).option(&format!("--steps.ramp_fit.algorithm={algorithm}"));
        case.options.extend(limit.map(str::to_owned));
        case.seeing = vec![0.5; 24];
        for (k, seeing) in [(2, 0.9), (11, f64::NAN), (12, 2.0)] {
            case.seeing[k] = seeing;
            (0..N * N).for_each(|p| case.set(k, p, 9000.0));
        }
        case
    };
    for (algorithm, reads) in [("likelihood", 21.0), ("ols", 21.0), ("ols_c", 21.0), ("likely", 21.0)] {
        let product = by_seeing(algorithm).run().expect("product");
        (0..N * N).for_each(|p| product.good(p, 0));
        assert_eq!(product.plane("NREADS")[0], reads, "{algorithm}");
    }
    // What cannot be done is said.
    let mut case = by_seeing("likelihood");
    case.options[1] = "--steps.dq_init.read_column=AIRMASS".into();
    case.refused(&["AIRMASS", "SEEING"]);
    let mut case = by_seeing("likelihood");
    case.seeing.pop();
    case.refused(&["has 23 values", "3 x 8"]);
    let mut case = by_seeing("likelihood");
    case.seeing.fill(3.0);
    case.refused(&["keeps none of its 24 reads"]);
    Case::new(1, 8).option("--steps.dq_init.drop_reads=8").refused(&["no read 8", "a ramp has 8"]);
    Case::new(1, 8).option("--steps.dq_init.keep_reads=3").refused(&["one read a ramp"]);
    // Said before any file is looked at: wrong usage.
    for half in ["read_max=1", "read_column=SEEING"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.args(["run", "stage1", "none.fits", &format!("--steps.dq_init.{half}")]);
        let done = command.stdin(Stdio::null()).output().expect("run");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && said.contains("go together"), "{:?} {said}", done.status);
    }
    Case::new(1, 8).option("--steps.dq_init.drop_reads=first").refused(&["whole numbers"]);
}

/// JWST's headers say when reads were taken: what they cannot mean is refused.
#[test]
fn times_of_headers_are_checked() {
    let jwst = |cards: &[(&'static str, f64)]| {
        let mut case = Case::new(1, 5);
        case.names = ["", "SCI"];
        case.cards = cards.iter().map(|(k, v)| (*k, Value::Real(*v))).collect();
        case
    };
    jwst(&[("TGROUP", 1.0), ("NFRAMES", 1.0)]).run().expect("product").good(9, 0);
    for (cards, words) in [
        (&[("TGROUP", 0.0)][..], ["TGROUP = 0", "above 0"]),
        (&[("TGROUP", -3.0), ("TFRAME", 1.0)], ["TGROUP = -3", "above 0"]),
        (&[("TGROUP", 1e6)], ["TGROUP = 1000000", "below 10000"]),
        (&[("TFRAME", 0.0), ("TGROUP", 1.0)], ["TFRAME = 0", "above 0"]),
        (&[("TGROUP", 1.0), ("NFRAMES", 0.0)], ["NFRAMES = 0", "from 1 to"]),
        (&[("TGROUP", 1.0), ("NFRAMES", -4.0)], ["NFRAMES = -4", "from 1 to"]),
        (&[("TGROUP", 1.0), ("NFRAMES", 1.5)], ["NFRAMES = 1.5", "whole number"]),
        (&[("TGROUP", 1.0), ("GROUPGAP", -1.0)], ["GROUPGAP = -1", "from 0 to"]),
        (&[("FRM_TIME", 0.0)], ["FRM_TIME = 0", "above 0"]),
    ] {
        jwst(cards).refused(&words);
    }
    // Microseconds, as the detector's own headers have them: said so.
    let product = jwst(&[("FRM_TIME", 1e6)]).run().expect("product");
    product.good(9, 0);
    assert!(product.history("FRM_TIME = 1000000 is taken as microseconds: 1 s"));
    // TIMES beside SCI, right and of another size.
    let mut case = jwst(&[("TGROUP", 7.0)]);
    case.names[0] = "TIMES";
    case.run().expect("product").good(9, 0);
    let mut wrong = jwst(&[("TGROUP", 1.0)]);
    wrong.names[0] = "TIMES";
    wrong.data.truncate(4 * N * N);
    wrong.reads = Some(4);
    wrong.refused(&["TIMES", "1 x 5", "1 x 4"]);
}

#[test]
fn guide_windows_are_masked() {
    let mut case = Case::new(1, 6);
    case.mask[0] = dq::HOT;
    let plain = case.run().expect("product");
    assert!(plain.fits.primary().integer("NGUIDE").is_none());
    for (key, value) in [("XSTART", 2), ("YSTART", 3), ("XSIZE", 2), ("YSIZE", 4)] {
        case.cards.push((key, value.into()));
    }
    // Without the mode, these keywords say nothing about windows.
    case.run().expect("product").good(2 * N + 1, 0);
    case.cards.push(("SARRMODE", "ODGW".into()));
    let masked = case.run().expect("product");
    for p in 0..N * N {
        match (2..6).contains(&(p / N)) && (1..3).contains(&(p % N)) {
            true => masked.lost(p, dq::NON_SCIENCE),
            false => masked.good(p, if p == 0 { dq::HOT } else { 0 }),
        }
    }
    assert_eq!(masked.fits.primary().integer("NGUIDE"), Some(8));
    case.options.push("--steps.dq_init.mask_guide_windows=false".into());
    case.run().expect("product").good(2 * N + 1, 0);
    case.options.clear();
    case.cards.retain(|(key, _)| *key == "SARRMODE");
    let nowhere = case.run().expect("product");
    nowhere.good(2 * N + 1, 0);
    let said = nowhere.fits.primary().cards().iter().any(|c| c.comment.contains("nowhere described"));
    assert!(said, "a warning in HISTORY");
}
