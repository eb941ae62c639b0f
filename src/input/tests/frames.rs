//! Images: raw science frames and products.

use super::*;

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
