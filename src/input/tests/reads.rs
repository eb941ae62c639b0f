//! Three axes, and one file a read.

use super::*;

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
    let options = OpenOptions { read_time: Some(2.0), relabels: None };
    let r = open(&bare, &Instrument::iris().expect("iris"), &options).expect("open");
    assert!(matches!(r, Raw::Ramp(r) if r.times == [2.0, 4.0, 6.0]));
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
    assert_eq!(values(&r.alone(1).expect("second"), NY), as_f64(&d[READS * NY * NX..]));
    // An exposure is no read; its times are those of its reads.
    assert!(read_group_key(&r.header).is_none() && r.header.integer("EXP_NO") == Some(4));
    assert_eq!(r.header.number("MJD-BEG"), Some(5.2e15 / 86_400e6));
    let each = r.each_read().expect("reads");
    assert_eq!((each.ramp[3], each.read[3], each.times[3]), (2, 1, 1.5));
    let varying: Vec<&str> = each.varying.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(varying, ["READ_NO", "RAMP_NO", "RST_TIME", "READTIME"]);
    // The last read of the second ramp is missing, and one file is no FITS file.
    std::fs::write(&paths[0], b"junk").expect("write");
    let r = open_reads(&paths, &OpenOptions::default()).expect("reads");
    assert_eq!((r.ramps, r.reads, r.warnings.len()), (2, 2, 2), "{:?}", r.warnings);
    let twice = [paths[1].clone(), paths[1].clone()];
    assert!(open_reads(&twice, &OpenOptions::default()).expect_err("twice").to_string().contains("READ_NO"));
    assert!(open_reads(&[], &OpenOptions::default()).is_err());
}
