//! Reference files of every kind, matching and not.

use std::path::{Path, PathBuf};

use super::*;
use crate::datamodel::dq;
use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("temp dir"))
    }

    fn write(&self, cards: &[(&str, &str)], hdus: &[(&str, &[usize], Pixels<'_>)]) -> PathBuf {
        let mut h = Header::new();
        for (k, v) in cards {
            match v.parse::<i64>() {
                Ok(i) => h.set(k, i, ""),
                Err(_) => h.set(k, *v, ""),
            }
        }
        let mut w = FitsWriter::create(&self.0.path().join("r.fits")).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        for (name, shape, pixels) in hdus {
            w.image(name, &Header::new(), shape, *pixels).expect("image");
        }
        w.finish().expect("finish")
    }
}

const FULL: Frame = Frame { ny: 2, nx: 3, substart: (1, 1), subarray: false };
const NAN: f32 = f32::NAN;

fn mask(path: &Path, frame: &Frame) -> Result<Vec<u32>> {
    MaskFile::open(path, frame)?.load()
}

/// A nonlin reference, whole.
#[derive(Debug)]
struct Nonlin {
    ncoef: usize,
    coeffs: Vec<f32>,
    dq: Vec<u32>,
    zero_point: ZeroPoint,
}

fn nonlin(path: &Path, frame: &Frame) -> Result<Nonlin> {
    let file = NonlinFile::open(path, frame)?;
    let n = frame.ny * frame.nx;
    let (mut coeffs, mut dq) = (vec![0.0; file.ncoef() * n], vec![0; n]);
    // A row at a time, as a stream would read it, must make no difference to whole.
    file.read(0..frame.ny, &mut coeffs.chunks_mut(n).collect::<Vec<_>>(), &mut dq)?;
    for y in 0..frame.ny {
        let (mut row, mut flags) = (vec![0.0; file.ncoef() * frame.nx], vec![0; frame.nx]);
        file.read(y..y + 1, &mut row.chunks_mut(frame.nx).collect::<Vec<_>>(), &mut flags)?;
        let at = y * frame.nx..(y + 1) * frame.nx;
        assert_eq!(flags, dq[at.clone()]);
        let whole: Vec<f32> = coeffs.chunks(n).flat_map(|plane| plane[at.clone()].to_vec()).collect();
        assert_eq!(row, whole);
    }
    Ok(Nonlin { ncoef: file.ncoef(), coeffs, dq, zero_point: file.zero_point })
}

#[test]
fn unusable_values_become_flags() {
    let f = Files::new();
    let p = f.write(&[], &[("DATA", &[2, 3], Pixels::F32(&[5.0, NAN, 0.0, -1.0, 4.0, 2.0]))]);
    let (data, dq) = PlaneFile::bias(&p, &FULL).and_then(|f| f.load(&[])).expect("bias");
    assert_eq!((data[1], dq[1], data[3], dq[3]), (0.0, dq::UNRELIABLE_BIAS, -1.0, 0));
    let (data, dq) = PlaneFile::gain(&p, &FULL).and_then(|f| f.load(&[])).expect("gain");
    assert_eq!((data[2], dq[2]), (1.0, dq::NO_GAIN_VALUE | dq::DO_NOT_USE));
    let (data, dq) = PlaneFile::saturation(&p, &FULL).and_then(|f| f.load(&[])).expect("saturation");
    assert_eq!((data[3], dq[3], dq[4]), (f32::MAX, dq::NO_SAT_CHECK, 0));
    let flat = load_flat(&p, &FULL).expect("flat");
    assert_eq!((flat.data[1], flat.dq[1]), (1.0, dq::NO_FLAT_FIELD | dq::DO_NOT_USE));
    let dark = load_dark(&p, &FULL, None).expect("dark");
    assert_eq!((dark.data[0], dark.data[1], dark.err[0]), (5.0, 0.0, 0.0));
}

#[test]
fn read_noise_says_what_it_is() {
    let f = Files::new();
    let data: [(&str, &[usize], Pixels<'_>); 1] =
        [("DATA", &[2, 3], Pixels::F32(&[6.0, 6.0, 6.0, 6.0, NAN, 8.0]))];
    let gain = [2.0; 6];
    let load = |cards: &[(&str, &str)]| PlaneFile::readnoise(&f.write(cards, &data), &FULL)?.load(&gain);
    let (v, dq) = load(&[("RNFORM", "SINGLE"), ("BUNIT", "DN")]).expect("DN");
    assert_eq!((v[0], v[4], v[5], dq[4]), (12.0, 12.0, 16.0, dq::UNRELIABLE_ERROR));
    let (v, _) = load(&[("RNFORM", "CDS"), ("BUNIT", "electron")]).expect("CDS");
    assert!((v[0] - 6.0 / 2f32.sqrt()).abs() < 1e-6);
    for (cards, word) in [
        (&[("BUNIT", "DN")][..], "RNFORM is missing"),
        (&[("RNFORM", "SINGLE")][..], "BUNIT is missing"),
        (&[("RNFORM", "TRIPLE"), ("BUNIT", "DN")][..], "TRIPLE"),
    ] {
        let e = load(cards).expect_err("must fail").to_string();
        assert!(e.contains(word), "{e}");
    }
}

#[test]
fn rates_come_in_electrons() {
    let f = Files::new();
    let hdus: [(&str, &[usize], Pixels<'_>); 2] =
        [("DATA", &[2, 3], Pixels::F32(&[1.0; 6])), ("ERR", &[2, 3], Pixels::F32(&[0.5; 6]))];
    let p = f.write(&[("BUNIT", "DN/s")], &hdus);
    let dark = load_dark(&p, &FULL, Some(&[3.0; 6])).expect("dark");
    assert_eq!((dark.data[0], dark.err[0]), (3.0, 1.5));
    assert!(load_sky(&p, &FULL, None).is_err());
    let p = f.write(&[("BUNIT", "DN")], &hdus);
    assert!(load_dark(&p, &FULL, None).expect_err("counts").to_string().contains("not a count rate"));
}

#[test]
fn subarrays_are_cut_out_and_other_sizes_refused() {
    let f = Files::new();
    let values: Vec<u32> = (0..20).collect();
    let dq: [(&str, &[usize], Pixels<'_>); 1] = [("DQ", &[4, 5], Pixels::U32(&values))];
    let sub = Frame { substart: (2, 3), subarray: true, ..FULL };
    let p = f.write(&[("REFTYPE", "DQ")], &dq);
    assert_eq!(mask(&p, &sub).expect("mask"), [11, 12, 13, 16, 17, 18]);
    let e = mask(&p, &FULL).expect_err("size").to_string();
    assert!(e.contains("4 x 5") && e.contains("2 x 3"), "{e}");
    assert!(mask(&p, &Frame { substart: (2, 4), ..sub }).is_err());
    assert!(mask(&p, &Frame { substart: (i64::MIN, i64::MAX), ..sub }).is_err());
    let p = f.write(&[("SUBSTRT1", "2"), ("SUBSTRT2", "2")], &dq);
    assert_eq!(mask(&p, &sub).expect("mask")[0], 5);
    assert!(
        PlaneFile::gain(&f.write(&[("REFTYPE", "DARK")], &dq), &sub)
            .expect_err("type")
            .to_string()
            .contains("DARK")
    );
}

#[test]
fn linearity_in_either_order_and_form() {
    let f = Files::new();
    // c_k of pixel p is 10 k + p, but c1 of pixel 0 is 0.
    let c = |k: usize, p: usize| if (k, p) == (1, 0) { 0.0 } else { (10 * k + p) as f32 };
    let native: Vec<f32> = (0..24).map(|i| c(i / 6, i % 6)).collect();
    let liger: Vec<f32> = (0..24).map(|i| c(i % 4, i / 4)).collect();
    let n = nonlin(&f.write(&[], &[("COEFFS", &[4, 2, 3], Pixels::F32(&native))]), &FULL).expect("native");
    let p = f.write(
        &[("COEFFZP", "FIRST")],
        &[("COEFFS", &[2, 3, 4], Pixels::F32(&liger)), ("DQ", &[2, 3], Pixels::U32(&[0; 6]))],
    );
    let l = nonlin(&p, &FULL).expect("liger");
    assert_eq!((n.ncoef, &n.coeffs, &n.dq), (4, &l.coeffs, &l.dq));
    assert_eq!((n.zero_point, l.zero_point), (ZeroPoint::Bias, ZeroPoint::First));
    assert_eq!((n.coeffs[0], n.coeffs[6], n.coeffs[12], n.dq[0]), (0.0, 1.0, 0.0, dq::NO_LIN_CORR));
    assert_eq!((n.coeffs[5], n.coeffs[23], n.dq[5]), (5.0, 35.0, 0));
    let rop = f.write(&[("COEFFORM", "IRISROP")], &[("COEFFS", &[2, 2, 3], Pixels::F32(&[0.5; 12]))]);
    let r = nonlin(&rop, &FULL).expect("rop");
    assert_eq!((r.ncoef, r.coeffs[0], r.coeffs[6], r.coeffs[12]), (3, 0.0, 1.5, 0.5));
    let sub = Frame { ny: 1, nx: 2, substart: (2, 2), subarray: true };
    let p = f.write(&[], &[("COEFFS", &[4, 2, 3], Pixels::F32(&native))]);
    assert_eq!(nonlin(&p, &sub).expect("cut").coeffs[..4], [4.0, 5.0, 14.0, 15.0]);
    let wrong = Frame { ny: 7, nx: 9, ..FULL };
    assert!(nonlin(&p, &wrong).expect_err("size").to_string().contains("7 x 9"));
    let p = f.write(&[("COEFFZP", "MOON")], &[("COEFFS", &[4, 2, 3], Pixels::F32(&native))]);
    assert!(nonlin(&p, &FULL).is_err());
}
