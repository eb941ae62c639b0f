//! Four axes: native, liger, JWST.

use std::collections::BTreeMap;

use super::*;
use crate::fits::Tree;

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
        for k in 0..RAMPS {
            let one = r.alone(k).expect("one ramp");
            let n = READS * NY * NX;
            assert_eq!((one.ramps, one.times.as_slice()), (1, &TIMES[k * READS..(k + 1) * READS]));
            for rows in [2, NY] {
                assert_eq!(values(&one, rows), as_f64(&dn[k * n..(k + 1) * n]));
            }
            assert_eq!(one.groupdq_rows(0..NY).expect("dq").expect("has"), flags[k * n..(k + 1) * n]);
        }
        assert!(r.alone(RAMPS).is_err());
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
fn threads_may_share_a_ramp() {
    fn shared<T: Send + Sync>() {}
    shared::<Ramp>();
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

/// A ramp as liger_iris_pipeline writes it: keywords without BUNIT or GAIN, an ASDF
/// tail, flags of 16 bits a read.
fn ligers_own(f: &Files, unit: &str, flags: &[u16]) -> Ramp {
    let path = f.path("own.fits");
    let mut h = Header::new();
    h.set("DATAMODL", "RampModel", "");
    let mut w = FitsWriter::create(&path).expect("create");
    w.empty("PRIMARY", &h).expect("primary");
    w.image("TIMES", &Header::new(), &[RAMPS, READS], Pixels::F64(&TIMES)).expect("times");
    let mut data = Header::new();
    if !unit.is_empty() {
        data.set("BUNIT", unit, "");
    }
    w.image("DATA", &data, &LIGER, Pixels::U16(&liger())).expect("data");
    w.image("DQ", &Header::new(), &LIGER, Pixels::U16(flags)).expect("dq");
    w.asdf(&Tree::Map(BTreeMap::new())).expect("asdf");
    ramp(&w.finish().expect("finish"))
}

#[test]
fn liger_s_own_ramps_are_electrons() {
    let f = Files::new();
    let none = vec![0; RAMPS * READS * NY * NX];
    let own = ligers_own(&f, "", &none);
    assert_eq!(own.header.number("GAIN"), Some(1.0));
    assert!(own.warnings.iter().any(|w| w.contains("electrons")), "{:?}", own.warnings);
    assert_eq!(own.pixeldq, None);
    // One that says what it holds is believed.
    assert!(!ligers_own(&f, "DN", &none).header.has("GAIN"));
}

#[test]
fn high_flags_of_liger_s_reads_are_the_pixel_s() {
    let f = Files::new();
    let mut flags = vec![0; RAMPS * READS * NY * NX];
    // Pixel (1, 2): dead in one read, saturated in the next.
    let first = (NX + 2) * RAMPS * READS;
    flags[first] = dq::DEAD as u16;
    flags[first + 1] = dq::SATURATED as u16;
    let own = ligers_own(&f, "", &flags);
    let mut expected = vec![0; NY * NX];
    expected[NX + 2] = dq::DEAD;
    assert_eq!(own.pixeldq, Some(expected));
    let reads = own.groupdq_rows(0..NY).expect("dq").expect("has");
    assert_eq!(reads.iter().map(|f| u32::from(*f)).sum::<u32>(), dq::SATURATED);
}
