//! Files in every layout, whole and damaged.

use std::path::{Path, PathBuf};

use super::*;
use crate::datamodel::dq;
use crate::fits::{FitsWriter, Header, Pixels};

const RAMPS: usize = 2;
const READS: usize = 3;
const NY: usize = 5;
const NX: usize = 4;

/// The value of a pixel, the same in every layout.
fn value(ramp: usize, read: usize, y: usize, x: usize) -> u16 {
    ((ramp * 30000 + read * 9000 + y * 700 + x * 61) % 65536) as u16
}

/// Pixels in native order.
fn native() -> Vec<u16> {
    let mut out = Vec::new();
    for i in 0..RAMPS * READS * NY * NX {
        out.push(value(i / (READS * NY * NX), i / (NY * NX) % READS, i / NX % NY, i % NX));
    }
    out
}

/// Pixels in liger's order.
fn liger() -> Vec<u16> {
    let mut out = Vec::new();
    for i in 0..RAMPS * READS * NY * NX {
        out.push(value(i / READS % RAMPS, i % READS, i / (RAMPS * READS * NX), i / (RAMPS * READS) % NX));
    }
    out
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().expect("temp dir") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, cards: &[(&str, f64)], hdus: &[(&str, &[usize], Pixels<'_>)]) -> PathBuf {
        let mut header = Header::new();
        header.set("DETECTOR", "IMG1", "");
        for (key, v) in cards {
            if v.fract() == 0.0 { header.set(key, *v as i64, "") } else { header.set(key, *v, "") }
        }
        let path = self.path(name);
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &header).expect("primary");
        for (name, shape, pixels) in hdus {
            w.image(name, &Header::new(), shape, *pixels).expect("image");
        }
        w.finish().expect("finish")
    }
}

const NATIVE: [usize; 4] = [RAMPS, READS, NY, NX];
const LIGER: [usize; 4] = [NY, NX, RAMPS, READS];
const TIMES: [f64; 6] = [1.5, 3.0, 4.5, 1.5, 3.0, 4.5];

fn open_it(path: &Path) -> Result<Raw> {
    open(path, &Instrument::iris().expect("iris"), &OpenOptions::default())
}

fn ramp(path: &Path) -> Ramp {
    match open_it(path) {
        Ok(Raw::Ramp(r)) => r,
        other => panic!("not a ramp: {other:?}"),
    }
}

fn failure(path: &Path) -> String {
    open_it(path).expect_err("must fail").to_string()
}

/// All values of the ramp, read in chunks of `rows`, in native order.
fn values(r: &Ramp, rows: usize) -> Vec<f64> {
    let mut out = vec![0.0; r.ramps * r.reads * r.ny * r.nx];
    for first in (0..r.ny).step_by(rows) {
        let n = rows.min(r.ny - first);
        let mut bytes = vec![0; r.chunk_bytes(n)];
        r.read_rows(first..first + n, &mut bytes).expect("rows");
        let s = r.strides(n);
        for i in 0..r.ramps * r.reads * n * r.nx {
            let (x, y, read, ramp) =
                (i % r.nx, i / r.nx % n, i / (r.nx * n) % r.reads, i / (r.nx * n * r.reads));
            let at = (ramp * s.ramp + read * s.read + y * s.y + x * s.x) * r.encoding.bytes();
            let b = &bytes[at..at + r.encoding.bytes()];
            let v = match r.encoding {
                Encoding::U16 => f64::from(u16::from_be_bytes([b[0], b[1]]) ^ 0x8000),
                Encoding::I16 => f64::from(i16::from_be_bytes([b[0], b[1]])),
                Encoding::I32 => f64::from(i32::from_be_bytes([b[0], b[1], b[2], b[3]])),
                Encoding::F32 => f64::from(f32::from_be_bytes([b[0], b[1], b[2], b[3]])),
            };
            out[((ramp * r.reads + read) * r.ny + first + y) * r.nx + x] = v;
        }
    }
    out
}

fn as_f64<T: Copy + Into<f64>>(v: &[T]) -> Vec<f64> {
    v.iter().map(|v| (*v).into()).collect()
}

#[test]
fn native_and_liger_give_the_same_pixels() {
    let f = Files::new();
    let (dn, dl) = (native(), liger());
    let flags: Vec<u8> = dn.iter().map(|v| (v % 251) as u8).collect();
    let liger_flags: Vec<u16> = dl.iter().map(|v| v % 251).collect();
    let times: (&str, &[usize], Pixels<'_>) = ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES));
    let n = f.write(
        "n.fits",
        &[("CRPIX1", 7.0)],
        &[
            ("DATA", &NATIVE, Pixels::U16(&dn)),
            times,
            ("PIXELDQ", &[NY, NX], Pixels::U32(&[1 << 31; NY * NX])),
            ("GROUPDQ", &NATIVE, Pixels::U8(&flags)),
        ],
    );
    let l = f.write(
        "l.fits",
        &[("CRPIX1", 7.0)],
        &[times, ("DATA", &LIGER, Pixels::U16(&dl)), ("DQ", &LIGER, Pixels::U16(&liger_flags))],
    );
    let (n, l) = (ramp(&n), ramp(&l));
    for r in [&n, &l] {
        assert_eq!((r.ramps, r.reads, r.ny, r.nx), (RAMPS, READS, NY, NX));
        assert_eq!((r.times.as_slice(), r.encoding), (TIMES.as_slice(), Encoding::U16));
        assert_eq!(r.warnings, Vec::<String>::new());
        for rows in [1, 2, NY] {
            assert_eq!(values(r, rows), as_f64(&dn));
        }
        assert_eq!(r.groupdq_rows(0..NY).expect("dq").expect("has"), flags);
        let part = r.groupdq_rows(1..3).expect("dq").expect("has");
        assert_eq!(part[..2 * NX], flags[NX..3 * NX]);
        assert_eq!(part[2 * NX..4 * NX], flags[NY * NX + NX..NY * NX + 3 * NX]);
        assert!(r.read_rows(3..NY + 1, &mut vec![0; 4096]).is_err());
        assert!(r.read_rows(0..NY, &mut [0; 8]).is_err());
    }
    assert_eq!(n.pixeldq, Some(vec![1 << 31; NY * NX]));
    assert_eq!((n.header.number("CRPIX1"), l.header.number("CRPIX1")), (Some(7.0), Some(8.0)));
}

#[test]
fn where_sizes_coincide_a_dq_of_datas_shape_tells_liger() {
    let f = Files::new();
    let d: Vec<u16> = (0..16).collect();
    let hdus: [(&str, &[usize], Pixels<'_>); 3] = [
        ("DATA", &[2, 2, 2, 2], Pixels::U16(&d)),
        ("TIMES", &[2, 2], Pixels::F64(&[1.0, 2.0, 1.0, 2.0])),
        ("DQ", &[2, 2, 2, 2], Pixels::U16(&d)),
    ];
    assert_eq!(ramp(&f.write("n.fits", &[], &hdus[..2])).strides(2).x, 1);
    assert_eq!(ramp(&f.write("l.fits", &[], &hdus)).strides(2).read, 1);
}

#[test]
fn pixel_types() {
    let f = Files::new();
    let d = native();
    let low: Vec<u8> = d.iter().map(|v| (v % 256) as u8).collect();
    let signed: Vec<i16> = d.iter().map(|v| (i32::from(*v) - 32768) as i16).collect();
    let wide: Vec<i32> = d.iter().map(|v| i32::from(*v) * 3).collect();
    let float: Vec<f32> = d.iter().map(|v| f32::from(*v) + 0.5).collect();
    let double: Vec<f64> = as_f64(&float);
    let long: Vec<u8> = d.iter().flat_map(|v| i64::from(*v).to_be_bytes()).collect();
    let cases: [(Pixels<'_>, Encoding, Vec<f64>); 7] = [
        (Pixels::U16(&d), Encoding::U16, as_f64(&d)),
        (Pixels::I16(&signed), Encoding::I16, as_f64(&signed)),
        (Pixels::I32(&wide), Encoding::I32, as_f64(&wide)),
        (Pixels::F32(&float), Encoding::F32, as_f64(&float)),
        (Pixels::U8(&low), Encoding::F32, as_f64(&low)),
        (Pixels::F64(&double), Encoding::F32, double.clone()),
        (Pixels::Raw(64, &long), Encoding::F32, as_f64(&d)),
    ];
    for (pixels, encoding, expected) in cases {
        let p = f.write(
            "x.fits",
            &[],
            &[("DATA", &NATIVE, pixels), ("TIMES", &[READS], Pixels::F64(&TIMES[..3]))],
        );
        let r = ramp(&p);
        assert_eq!(r.encoding, encoding);
        assert_eq!(values(&r, 2), expected, "{encoding:?}");
    }
}

#[test]
fn tile_compressed_u16_by_astropy() {
    let r = ramp(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ramp-rice-u16.fits"));
    assert_eq!((r.ramps, r.reads, r.ny, r.nx, r.encoding), (2, 3, 8, 10, Encoding::U16));
    let all: Vec<f64> = (0..480).map(|i| f64::from(value(i / 240, i / 80 % 3, i / 10 % 8, i % 10))).collect();
    assert_eq!(values(&r, 3), all);
}

#[test]
fn jwst_times_are_those_of_averaged_groups() {
    let f = Files::new();
    let d: Vec<f32> = native().iter().map(|v| f32::from(*v)).collect();
    let cards = [("NFRAMES", 4.0), ("GROUPGAP", 1.0), ("TFRAME", 2.0), ("TGROUP", 10.0), ("NGROUPS", 3.0)];
    let r = ramp(&f.write("j.fits", &cards, &[("SCI", &NATIVE, Pixels::F32(&d))]));
    assert_eq!(r.times, [5.0, 15.0, 25.0, 5.0, 15.0, 25.0]);
    assert_eq!((r.nsample[0], r.frame_time), (4, 2.0));
    assert_eq!(r.warnings, Vec::<String>::new());
}

#[test]
fn native_resultants_count_their_frames() {
    let f = Files::new();
    let d = native();
    let hdus: [(&str, &[usize], Pixels<'_>); 3] = [
        ("DATA", &NATIVE, Pixels::U16(&d)),
        ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES)),
        ("NSAMPLE", &[READS], Pixels::I16(&[1, 2, 1])),
    ];
    let r = ramp(&f.write("a.fits", &[("TFRAME", 0.5)], &hdus));
    assert_eq!((r.nsample.as_slice(), r.frame_time), ([1, 2, 1, 1, 2, 1].as_slice(), 0.5));
    let r = ramp(&f.write("b.fits", &[], &hdus));
    assert!((r.frame_time - 1.0).abs() < 1e-12 && r.warnings.len() == 1, "{:?}", r.warnings);
}

#[test]
fn cubes_need_a_read_time() {
    let f = Files::new();
    let d: Vec<u16> = native()[..READS * NY * NX].to_vec();
    let hdus: [(&str, &[usize], Pixels<'_>); 1] = [("", &[READS, NY, NX], Pixels::U16(&d))];
    assert_eq!(ramp(&f.write("c.fits", &[("READTIME", 1.5)], &hdus)).times, TIMES[..3]);
    let micro = ramp(&f.write("m.fits", &[("READTIME", 5.2e15), ("FRM_TIME", 1.5e6)], &hdus));
    assert_eq!(micro.times, TIMES[..3]);
    let bare = f.write("n.fits", &[], &hdus);
    let message = failure(&bare);
    for word in ["FRM_TIME", "READTIME", "TFRAME", "--read-time"] {
        assert!(message.contains(word), "{message}");
    }
    let options = OpenOptions { read_time: Some(2.0) };
    let r = open(&bare, &Instrument::iris().expect("iris"), &options).expect("open");
    assert!(matches!(r, Raw::Ramp(r) if r.times == [2.0, 4.0, 6.0]));
}

#[test]
fn truncated_files_give_what_they_hold() {
    let f = Files::new();
    let d: Vec<u16> = (0..RAMPS * READS * 40 * 40).map(|i| i as u16).collect();
    let times: (&str, &[usize], Pixels<'_>) = ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES));
    let whole = f.write("w.fits", &[], &[times, ("DATA", &[RAMPS, READS, 40, 40], Pixels::U16(&d))]);
    let bytes = std::fs::read(&whole).expect("read");
    let data = Fits::open(&whole).expect("open").hdu("DATA").expect("DATA").data_start as usize;
    let cut = |reads: f64| {
        let path = f.path("t.fits");
        std::fs::write(&path, &bytes[..data + (reads * 3200.0) as usize]).expect("write");
        path
    };
    for (reads, kept) in [(5.5, (2, 2)), (4.0, (1, 3)), (3.2, (1, 3)), (2.9, (1, 2))] {
        let r = ramp(&cut(reads));
        assert_eq!((r.ramps, r.reads, r.warnings.len()), (kept.0, kept.1, 1), "{reads}");
        assert_eq!(r.times[..], TIMES[..kept.1].repeat(kept.0));
        let got = values(&r, 7);
        assert_eq!(got[got.len() - 1], f64::from(d[((kept.0 - 1) * READS + kept.1) * 1600 - 1]));
    }
    assert!(failure(&cut(0.9)).contains("first read"));
    let l = f.write("l.fits", &[], &[times, ("DATA", &[40, 40, RAMPS, READS], Pixels::U16(&d))]);
    let bytes = std::fs::read(&l).expect("read");
    std::fs::write(&l, &bytes[..bytes.len() - 2880]).expect("write");
    assert!(failure(&l).contains("truncated"));
}

#[test]
fn wrong_times_and_shapes_are_sentences() {
    let f = Files::new();
    let d = native();
    let with = |shape: &[usize], times: &[f64]| {
        let p = f.write(
            "x.fits",
            &[],
            &[("DATA", &NATIVE, Pixels::U16(&d)), ("TIMES", shape, Pixels::F64(times))],
        );
        failure(&p)
    };
    assert!(with(&[2, 3], &[1.0, 2.0, 2.0, 1.0, 2.0, 3.0]).contains("[TIMES]: TIMES[0, 2]"));
    assert!(with(&[2, 3], &[1.0, f64::NAN, 2.0, 1.0, 2.0, 3.0]).contains("finite"));
    assert!(with(&[3, 2], &TIMES).contains("3 x 2"));
    let zero = f.write("z.fits", &[], &[("DATA", &[1, 0, 4, 4], Pixels::U16(&[]))]);
    assert!(failure(&zero).contains("NAXIS3 = 0"));
    let five = f.write("5.fits", &[], &[("DATA", &[3, 2, 5, 2, 2], Pixels::U16(&d))]);
    assert!(failure(&five).contains("5 axes"));
    let counts = f.write(
        "c.fits",
        &[("NREADS", 9.0), ("NGROUPS", 2.0)],
        &[("DATA", &NATIVE, Pixels::U16(&d)), ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES))],
    );
    let r = ramp(&counts);
    assert!(r.warnings.len() == 1 && r.warnings[0].contains("NREADS = 9"), "{:?}", r.warnings);
    let done = f.write("p.fits", &[("DATALVL", 2.0)], &[("DATA", &[NY, NX], Pixels::U16(&d[..NY * NX]))]);
    assert!(failure(&done).contains("DATALVL = 2"));
}

#[test]
fn one_file_a_read() {
    let f = Files::new();
    let d = native();
    let mut paths = Vec::new();
    for i in (0..RAMPS * READS).rev() {
        let (r, n) = (i / READS, i % READS);
        let reset = 5.2e15 + 2e7 * r as f64;
        let cards = [
            ("READ_NO", n as f64),
            ("RAMP_NO", r as f64),
            ("EXP_NO", 4.0),
            ("RST_TIME", reset),
            ("READTIME", reset + 1.5e6 * (n + 1) as f64),
        ];
        let image = &d[i * NY * NX..(i + 1) * NY * NX];
        paths.push(f.write(&format!("{i}.fits"), &cards, &[("DATA", &[NY, NX], Pixels::U16(image))]));
    }
    let r = open_reads(&paths, &OpenOptions::default()).expect("reads");
    assert_eq!((r.ramps, r.reads, r.times.as_slice()), (RAMPS, READS, TIMES.as_slice()));
    assert_eq!(values(&r, 2), as_f64(&d));
    let key = read_group_key(&r.header).expect("key");
    assert_eq!((key.exposure.2, key.ramp, key.read), (4, 0, 0));
    // The last read of the second ramp is missing, and one file is no FITS file.
    std::fs::write(&paths[0], b"junk").expect("write");
    let r = open_reads(&paths, &OpenOptions::default()).expect("reads");
    assert_eq!((r.ramps, r.reads, r.warnings.len()), (2, 2, 2), "{:?}", r.warnings);
    let twice = [paths[1].clone(), paths[1].clone()];
    assert!(open_reads(&twice, &OpenOptions::default()).expect_err("twice").to_string().contains("READ_NO"));
    assert!(open_reads(&[], &OpenOptions::default()).is_err());
}

fn frame(path: &Path) -> RawImage {
    match open_it(path) {
        Ok(Raw::Level1(r)) => r,
        other => panic!("not a raw frame: {other:?}"),
    }
}

#[test]
fn raw_frames_become_rates() {
    let f = Files::new();
    let mut counts = [1350.0f32; 4];
    counts[1] = f32::NAN;
    counts[2] = -1350.0;
    let cards = [("DATALVL", 1.0), ("NREADS", 10.0), ("FRM_TIME", 1.5), ("GAIN", 2.0), ("READNOIS", 9.0)];
    let data: (&str, &[usize], Pixels<'_>) = ("DATA", &[2, 2], Pixels::F32(&counts));
    let path = f.write("f.fits", &cards, &[data, ("DQ", &[2, 2], Pixels::U16(&[0, 0, 4, 1]))]);
    let r = frame(&path).to_rate(&NoiseModel::default()).expect("rate");
    assert_eq!(r.data[0], 200.0);
    assert!((r.var_rnoise[0] - (12.0 * 81.0 / (2.25 * 990.0)) as f32).abs() < 1e-6);
    assert!((r.var_poisson[0] / (1.2 * 200.0 / 15.0 * 101.0 / 99.0) as f32 - 1.0).abs() < 1e-5);
    assert_eq!((r.data[2], r.var_poisson[2], r.dq[2]), (-200.0, 0.0, 4));
    assert_eq!((r.dq[1], r.dq[3], r.nreads[0]), (dq::DO_NOT_USE, dq::DO_NOT_USE, 10));
    assert!(r.data[1].is_nan() && r.err[1].is_nan() && r.data[3].is_nan());
    let noise = NoiseModel { gain: Some(&[1.0, 1.0, -1.0, 1.0]), read_noise: None };
    let r = frame(&path).to_rate(&noise).expect("rate");
    assert_eq!((r.data[0], r.dq[2] & dq::NO_GAIN_VALUE), (100.0, dq::NO_GAIN_VALUE));
    let short = NoiseModel { gain: None, read_noise: Some(&[1.0]) };
    assert!(frame(&path).to_rate(&short).is_err());
    // The file's own errors are kept.
    let path = f.write("e.fits", &cards, &[data, ("ERR", &[2, 2], Pixels::F32(&[135.0, 1.0, 0.0, 1.0]))]);
    let r = frame(&path).to_rate(&NoiseModel::default()).expect("rate");
    assert_eq!(r.err[0], 20.0);
    assert!((r.var_poisson[0] + r.var_rnoise[0] - 400.0).abs() < 1e-3 && r.err[2] > 0.0);
    let bare = f.write("b.fits", &[("DATALVL", 1.0)], &[data]);
    assert!(failure(&bare).contains("EXPTIME"));
}

#[test]
fn noise_formulas_match_a_simulation_free_sum() {
    use super::noise::Timing;
    // Σ w² by brute force, for lines and Fowler pairs.
    for (sampling, n) in [(Sampling::Utr, 7), (Sampling::Mcds { k: 1 }, 2), (Sampling::Mcds { k: 3 }, 9)] {
        let t = Timing { sampling, reads: n, step: 1.7 };
        let coefficient = |i: usize| match sampling {
            Sampling::Utr => {
                let mean = (n - 1) as f64 / 2.0;
                let sum: f64 = (0..n).map(|j| (j as f64 - mean).powi(2)).sum();
                (i as f64 - mean) / sum / t.step
            }
            Sampling::Mcds { k } => {
                let sign = if i < k {
                    -1.0
                } else if i >= n - k {
                    1.0
                } else {
                    0.0
                };
                sign / k as f64 / t.span()
            }
        };
        let reads: f64 = (0..n).map(|i| coefficient(i).powi(2)).sum();
        let photons: f64 = (1..n).map(|j| (j..n).map(coefficient).sum::<f64>().powi(2) * t.step).sum();
        let (p, r) = t.variances();
        assert!((p / photons - 1.0).abs() < 1e-12 && (r / reads - 1.0).abs() < 1e-12, "{sampling:?}");
    }
}

#[test]
fn products_read_back() {
    let f = Files::new();
    let p = f.path("r.fits");
    let mut h = Header::new();
    h.set("DRSVER", "0.1", "");
    h.set("DATALVL", 1, "");
    let mut w = FitsWriter::create(&p).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    for (i, name) in ["DATA", "ERR", "VAR_POISSON", "VAR_RNOISE", "CHI2"].into_iter().enumerate() {
        w.image(name, &Header::new(), &[2, 3], Pixels::F32(&[i as f32; 6])).expect("image");
    }
    w.image("NREADS", &Header::new(), &[2, 3], Pixels::U8(&[9; 6])).expect("image");
    w.finish().expect("finish");
    let Ok(Raw::Rate(r)) = open_it(&p) else { panic!("not a rate") };
    assert_eq!((r.rate.var_rnoise[0], r.rate.chi2[5], r.rate.nreads[1], r.warnings.len()), (3.0, 4.0, 9, 0));
    let (header, image) = read_image(&p).expect("image");
    assert_eq!((header.text("DRSVER").as_deref(), image.err[0]), (Some("0.1"), 1.0));
    let wave: [(&str, &[usize], Pixels<'_>); 2] =
        [("DATA", &[2, 1, 2], Pixels::F32(&[1.0; 4])), ("WAVELENGTH", &[2], Pixels::F64(&[2.0, 2.1]))];
    let (_, cube) = read_cube(&f.write("c.fits", &[], &wave)).expect("cube");
    assert_eq!((cube.nw, cube.wavelength), (2, vec![2.0, 2.1]));
    assert!(read_cube(&p).is_err());
}

/// Damaged bytes are errors or warnings, never panics, and sizes are checked before
/// memory is taken.
#[test]
fn damaged_headers_never_panic() {
    let f = Files::new();
    let d = native();
    let good = f.write(
        "g.fits",
        &[],
        &[
            ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES)),
            ("DATA", &NATIVE, Pixels::U16(&d)),
            ("PIXELDQ", &[NY, NX], Pixels::U32(&[0; NY * NX])),
        ],
    );
    let bytes = std::fs::read(&good).expect("read");
    let mut seed = 1u64;
    let mut random = move |n: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % n
    };
    let path = f.path("bad.fits");
    for _ in 0..400 {
        let mut b = bytes.clone();
        for _ in 0..=random(3) {
            let digits: Vec<usize> = (0..b.len()).filter(|&i| b[i].is_ascii_digit()).collect();
            let at = digits[random(digits.len())];
            match random(3) {
                0 => b[at] = b'0' + random(10) as u8,
                1 => b[at.saturating_sub(12)..=at].fill(b'9'),
                _ => b[at] = b"-.E 'T"[random(6)],
            }
        }
        b.truncate(b.len() - random(4) / 3 * random(b.len()));
        std::fs::write(&path, &b).expect("write");
        if let Ok(Raw::Ramp(r)) = open_it(&path) {
            let mut into = vec![0; r.chunk_bytes(r.ny)];
            let _ = r.read_rows(0..r.ny, &mut into);
            let _ = r.groupdq_rows(0..r.ny);
        }
    }
}
