//! Files that are cut short, contradict themselves, or are nonsense.

use super::*;

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
    // A fifth axis that holds nothing is none.
    let five = [1, RAMPS, READS, NY, NX];
    let times: (&str, &[usize], Pixels<'_>) = ("TIMES", &[RAMPS, READS], Pixels::F64(&TIMES));
    let r = ramp(&f.write("1.fits", &[], &[("DATA", &five, Pixels::U16(&d)), times]));
    assert_eq!(values(&r, 2), as_f64(&d));
    assert!(r.warnings.len() == 1 && r.warnings[0].contains("1 x 2 x 3 x 5 x 4"), "{:?}", r.warnings);
    let image = [("DATA", &[NY, NX][..], Pixels::U16(&d[..NY * NX]))];
    let sentence = failure(&f.write("0.fits", &[("DATALVL", 0.0), ("EXPTIME", 9.0)], &image));
    assert!(sentence.contains("DATALVL = 0") && sentence.contains("READ_NO"), "{sentence}");
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

#[test]
fn a_long_header_without_an_end_is_refused_at_once() {
    let f = Files::new();
    let path = f.path("long.fits");
    let mut bytes = std::fs::read(f.write("x.fits", &[], &[])).expect("read");
    let end = bytes.windows(4).position(|w| w == b"END ").expect("END");
    bytes.truncate(end);
    bytes.resize(8 << 20, b'A');
    std::fs::write(&path, bytes).expect("write");
    let start = std::time::Instant::now();
    assert!(failure(&path).contains("no END card"));
    // Parsed again with every block, it takes a minute.
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
