use super::*;

/// Angular distance and position angle (east of north) from `a` to `b`, degrees.
fn towards(a: [f64; 2], b: [f64; 2]) -> (f64, f64) {
    let ((s0, c0), (s1, c1)) = (a[1].to_radians().sin_cos(), b[1].to_radians().sin_cos());
    let (sd, cd) = (b[0] - a[0]).to_radians().sin_cos();
    let (x, y) = (c1 * sd, c0 * s1 - s0 * c1 * cd);
    let distance = x.hypot(y).atan2(s0 * s1 + c0 * c1 * cd);
    (distance.to_degrees(), x.atan2(y).to_degrees().rem_euclid(360.0))
}

fn header(pa: f64) -> Header {
    let mut h = Header::new();
    h.set("RA", 83.8221, "");
    h.set("DEC", -5.3911, "");
    h.set("PA", pa, "");
    h.set("DETECTOR", "IMG1", "");
    h
}

fn iris(parity: f64) -> Instrument {
    let mut i = Instrument::iris().unwrap();
    i.imager.parity = parity;
    i.lenslet.parity = parity;
    i.imager.offsets.insert("IMG1".into(), [9.2, 9.2]);
    i
}

fn tan(h: &Header, parity: f64, grid: Grid) -> Tan {
    assign(h, None, &iris(parity), grid).unwrap().unwrap().tan.unwrap()
}

fn apart(a: f64, b: f64) -> f64 {
    ((a - b + 180.0).rem_euclid(360.0) - 180.0).abs()
}

#[test]
fn axes_point_where_the_position_angle_and_parity_say() {
    for parity in [-1.0, 1.0] {
        for pa in [0.0, 90.0, 200.0] {
            let w = tan(&header(pa), parity, Grid::Detector(512, 400));
            let here = w.sky(w.crpix);
            assert!(towards([83.8221, -5.3911], here).0 < 1e-12);
            // +y lies at the PA; +x a quarter turn from it: with parity +1 (east to
            // the right when north is up) towards greater angles.
            let (along_y, angle_y) = towards(here, w.sky([w.crpix[0], w.crpix[1] + 100.0]));
            let (along_x, angle_x) = towards(here, w.sky([w.crpix[0] + 100.0, w.crpix[1]]));
            assert!(apart(angle_y, pa) < 1e-6, "{parity} {pa}: {angle_y}");
            assert!(apart(angle_x, pa + parity * 90.0) < 1e-6, "{parity} {pa}: {angle_x}");
            for along in [along_x, along_y] {
                assert!((along * 3600.0 / 0.4 - 1.0).abs() < 1e-9, "{along}");
            }
        }
    }
}

#[test]
fn the_detector_lies_where_the_instrument_file_says() {
    for pa in [0.0, 90.0, 200.0] {
        for parity in [-1.0, 1.0] {
            let w = tan(&header(pa), parity, Grid::Detector(512, 400));
            // IMG1: 9.2 arcsec east and north at PA 0, turned with the PA.
            let (distance, angle) = towards(w.crval, w.sky([200.5, 256.5]));
            assert!((distance * 3600.0 - 9.2 * 2f64.sqrt()).abs() < 1e-6, "{distance}");
            assert!(apart(angle, 45.0 + pa) < 1e-5, "{angle}");
        }
    }
}

#[test]
fn sky_to_pixel_and_back() {
    for (pa, dec) in [(0.0, 0.0), (90.0, 89.9), (200.0, -60.0)] {
        for parity in [-1.0, 1.0] {
            let w = Tan::build([359.999, dec], pa, 0.05, parity, [100.0, 50.0], [3.0, -2.0]).unwrap();
            for pixel in [[1.0, 1.0], [2000.0, 37.5], [-400.0, 4096.0]] {
                let back = w.pixel(w.sky(pixel)).unwrap();
                assert!((back[0] - pixel[0]).hypot(back[1] - pixel[1]) < 1e-7, "{back:?} {pixel:?}");
            }
        }
    }
    let w = Tan::build([10.0, 0.0], 0.0, 1.0, 1.0, [1.0, 1.0], [0.0, 0.0]).unwrap();
    assert_eq!(w.pixel([190.0, 0.0]), None);
}

#[test]
fn pointing_keywords_and_subarrays() {
    let mut h = header(0.0);
    h.set("RA", "05:35:17.304", "");
    h.set("DEC", "-05 23 27.96", "");
    let text = tan(&h, -1.0, Grid::Detector(512, 512));
    assert!((text.crval[0] - 83.8221).abs() < 1e-9 && (text.crval[1] + 5.3911).abs() < 1e-9);
    let full = tan(&header(30.0), -1.0, Grid::Detector(4096, 4096));
    let mut h = header(30.0);
    h.set("SUBARRAY", "CUSTOM", "");
    h.set("SUBSTRT1", 101, "");
    h.set("SUBSTRT2", 201, "");
    let part = tan(&h, -1.0, Grid::Detector(64, 128));
    let (a, b) = (full.sky([101.0, 201.0]), part.sky([1.0, 1.0]));
    assert!(towards(a, b).0 < 1e-12, "{a:?} {b:?}");
    let mut h = header(0.0);
    h.set("RAOFF", 3.0, "");
    h.set("DECOFF", 4.0, "");
    let (distance, angle) = towards([83.8221, -5.3911], tan(&h, -1.0, Grid::Detector(9, 9)).crval);
    assert!((distance * 3600.0 - 5.0).abs() < 1e-6 && apart(angle, 3f64.atan2(4.0).to_degrees()) < 1e-5);
    for bad in ["north", "5:61:00", "1:2:3:4"] {
        h.set("RA", bad, "");
        assert!(assign(&h, None, &iris(1.0), Grid::Detector(9, 9)).unwrap_err().to_string().contains(bad));
    }
    assert_eq!(assign(&Header::new(), None, &iris(1.0), Grid::Detector(9, 9)).unwrap(), None);
    let mut h = header(0.0);
    h.remove("PA");
    assert_eq!(assign(&h, None, &iris(1.0), Grid::Detector(9, 9)).unwrap().unwrap().warnings.len(), 1);
}

#[test]
fn a_full_wcs_is_used_as_it_is() {
    let mut h = header(0.0);
    for (k, v) in [("CRPIX1", 5.0), ("CRPIX2", 6.0), ("CRVAL1", 10.0), ("CRVAL2", 20.0)] {
        h.set(k, v, "");
    }
    h.set("CTYPE1", "RA---TAN", "");
    h.set("CTYPE2", "DEC--TAN", "");
    h.set("RADECSYS", "FK5", "");
    h.set("CD1_1", -1e-6, "");
    h.set("CD2_2", 1e-6, "");
    h.set("PC1_1", 1.0, "");
    let s = assign(&h, None, &iris(1.0), Grid::Detector(9, 9)).unwrap().unwrap();
    assert_eq!((s.origin, s.cards.number("CRVAL2")), ("header", Some(20.0)));
    assert_eq!(s.cards.text("RADESYS").as_deref(), Some("FK5"));
    assert!(!s.cards.has("PC1_1") && !s.cards.has("RA"));
    let cube = Grid::Cube { ny: 4, nx: 5, first: 1.5, step: 1e-3 };
    assert_eq!(assign(&h, None, &iris(1.0), cube).unwrap().unwrap().origin, "pointing");
}

#[test]
fn a_cube_has_a_wavelength_axis() {
    let mut h = header(90.0);
    h.set("SCALE", 0.025, "");
    let s = assign(&h, None, &iris(-1.0), Grid::Cube { ny: 16, nx: 15, first: 1.5, step: 2e-4 });
    let cards = s.unwrap().unwrap().cards;
    assert_eq!(cards.text("CTYPE3").as_deref(), Some("WAVE"));
    assert_eq!(cards.text("CUNIT3").as_deref(), Some("um"));
    assert_eq!((cards.number("CRVAL3"), cards.number("CDELT3")), (Some(1.5), Some(2e-4)));
    assert_eq!((cards.number("CRPIX1"), cards.number("CRPIX2")), (Some(8.0), Some(8.5)));
    assert_eq!(cards.number("CDELT2"), Some(0.025 / 3600.0));
    assert_eq!(cards.number("PC1_1"), Some(0.0));
}

#[test]
fn astropy_agrees() {
    // astropy.wcs, all_pix2world(2000, 37.5, 1) on the same cards.
    for (pa, parity, ra, dec) in [
        (0.0, -1.0, 359.947887776, -60.000719295),
        (90.0, 1.0, 359.997540466, -60.0272222121),
        (200.0, -1.0, 0.0475393216398, -60.0080464206),
        (200.0, 1.0, 359.948353054, -59.9899945643),
    ] {
        let w = Tan::build([359.999, -60.0], pa, 0.05, parity, [100.0, 50.0], [3.0, -2.0]).unwrap();
        let sky = w.sky([2000.0, 37.5]);
        assert!((sky[0] - ra).abs() < 2e-9 && (sky[1] - dec).abs() < 2e-9, "{sky:?}");
    }
}

#[test]
fn a_projection_is_read_back_from_its_cards() {
    let w = tan(&header(25.0), -1.0, Grid::Detector(512, 400));
    let back = Tan::of(&w.cards()).expect("TAN");
    let (here, there) = (w.sky([10.0, 300.0]), back.sky([10.0, 300.0]));
    assert!(towards(here, there).0 < 1e-12);
    let mut cd = w.cards();
    for i in [0, 1] {
        cd.remove(&format!("CDELT{}", i + 1));
        for j in [0, 1] {
            cd.remove(&format!("PC{}_{}", i + 1, j + 1));
            cd.set(&format!("CD{}_{}", i + 1, j + 1), w.cdelt[i] * w.pc[i][j], "");
        }
    }
    let there = Tan::of(&cd).expect("CD").sky([10.0, 300.0]);
    assert!(towards(here, there).0 < 1e-12);
    cd.set("CTYPE1", "RA---SIN", "");
    assert_eq!(Tan::of(&cd), None);
}
