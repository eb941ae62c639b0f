use super::*;
use crate::kernels::normal::Normal as Noise;

/// A point source of FWHM 2.5 spaxels that moves with wavelength.
fn cube(place: [f64; 2], moves: impl Fn(f64) -> [f64; 2], noise: f64, seed: u64) -> Cube {
    let (nx, ny, nw) = (13, 11, 300);
    let mut random = Noise(seed);
    let wavelength: Vec<f64> = (0..nw).map(|k| 2.1 + k as f64 * 0.1 / nw as f64).collect();
    let mut data = Vec::new();
    for w in &wavelength {
        let off = moves(unit(*w, wavelength[0], wavelength[nw - 1]));
        for i in 0..nx * ny {
            let d = [(i % nx) as f64 - place[0] - off[0], (i / nx) as f64 - place[1] - off[1]];
            let level = 200.0 * (-0.5 * (d[0] * d[0] + d[1] * d[1]) / (2.5f64 / 2.355).powi(2)).exp();
            data.push((level + 3.0 + noise * random.next()) as f32);
        }
    }
    let n = data.len();
    Cube {
        nx,
        ny,
        nw,
        data,
        err: vec![noise as f32; n],
        dq: vec![0; n],
        wavelength,
        var_common: Vec::new(),
        sky_err: Vec::new(),
    }
}

fn moves(t: f64) -> [f64; 2] {
    [0.4 * t + 0.1 * t * t, -0.25 * t + 0.05 * t * t * t]
}

#[test]
fn a_moving_source_is_followed_and_put_back() {
    let cubes = [cube([5.8, 5.1], moves, 4.0, 1), cube([6.4, 4.7], moves, 4.0, 2)];
    let (d, warnings) = Dispersion::fit(&cubes, &Mode::default(), 3).expect("fit");
    assert!(warnings.is_empty(), "{warnings:?}");
    let (mut worst, mut pulls) = (0f64, Vec::new());
    for w in &cubes[0].wavelength {
        let t = unit(*w, d.range.0, d.range.1);
        let (a, b) = (d.offset(*w), moves(t));
        worst = worst.max((a[0] - b[0]).abs()).max((a[1] - b[1]).abs());
    }
    for p in &d.points {
        let truth = moves(unit(p.wavelength, d.range.0, d.range.1));
        pulls.extend([0, 1].map(|k| (p.offset[k] - truth[k]) / p.error[k]));
    }
    assert!(worst < 0.01, "{worst}");
    let rms = (pulls.iter().map(|p| p * p).sum::<f64>() / pulls.len() as f64).sqrt();
    // The errors allow for channels that share columns; these do not.
    assert!((0.65..1.05).contains(&rms), "{rms}");
    let mut straight = cube([5.8, 5.1], moves, 0.0, 1);
    let before: f64 = straight.data.iter().map(|v| f64::from(*v) - 3.0).sum();
    straight.err = vec![1.0; straight.data.len()];
    let correlation = d.apply(&mut straight);
    assert!(correlation.iter().all(|c| (0.0..0.5).contains(c) && *c > 0.05), "{correlation:?}");
    let (again, _) = Dispersion::fit(&[straight.clone()], &Mode::default(), 3).expect("fit");
    let left = straight.wavelength.iter().flat_map(|w| again.offset(*w)).fold(0f64, |m, o| m.max(o.abs()));
    // A box of light moved by part of a spaxel is not a Gaussian any more.
    assert!(left < 0.03, "{left}");
    let known = straight.data.iter().filter(|v| v.is_finite());
    let after: f64 = known.map(|v| f64::from(*v) - 3.0).sum();
    assert!((after / before - 1.0).abs() < 2e-3, "{after} {before}");
    // Of even light the mean stays, and the errors are those of the mean of four.
    let i = 150 * 13 * 11 + 5 * 13 + 6;
    assert!(straight.err[i] <= 1.0 && straight.err[i] > 0.4);
}

#[test]
fn what_is_unknown_stays_unknown() {
    let d = Dispersion { range: (2.1, 2.2), series: [vec![0.5], vec![0.0]], ..Dispersion::default() };
    let mut c = cube([6.0, 5.0], |_| [0.0; 2], 1.0, 3);
    let at = 100 * 13 * 11 + 5 * 13 + 6;
    c.data[at] = f32::NAN;
    c.dq[at] = dq::DO_NOT_USE;
    let before = c.clone();
    d.apply(&mut c);
    for gone in [at, at - 1] {
        assert!(c.data[gone].is_nan() && c.dq[gone] & dq::DO_NOT_USE != 0);
    }
    assert!(c.data[at - 2].is_finite() && c.dq[at - 2] == 0);
    // The last column has half of its light beyond the field.
    assert!(c.data[at + 6].is_nan());
    let mean = (before.data[at + 1] + before.data[at + 2]) / 2.0;
    assert!((c.data[at + 1] - mean).abs() < 1e-4);
    // Nothing to undo, nothing done.
    let none = Dispersion { series: [vec![0.0], vec![0.0]], ..d };
    let mut same = before.clone();
    assert_eq!(none.apply(&mut same), [0.0; 2]);
    assert!(same.dq == before.dq && same.data[..at] == before.data[..at]);
}

#[test]
fn without_a_source_it_says_so() {
    let mut dark = cube([6.0, 5.0], |_| [0.0; 2], 1.0, 4);
    let mut random = Noise(9);
    dark.data.iter_mut().for_each(|v| *v = random.next() as f32);
    let e = Dispersion::fit(&[dark.clone()], &Mode::default(), 3).expect_err("dark");
    assert!(e.to_string().contains("no exposure (of 1) shows"), "{e}");
    let (_, warnings) =
        Dispersion::fit(&[dark, cube([6.0, 5.0], moves, 1.0, 5)], &Mode::default(), 3).expect("one of two");
    assert!(warnings[0].contains("exposure 1 of 2"), "{warnings:?}");
    let edge = cube([0.2, 5.0], |_| [0.0; 2], 1.0, 6);
    assert!(Dispersion::fit(&[edge], &Mode::default(), 3).is_err());
}

#[test]
fn files_hold_what_was_measured() {
    let mode =
        Mode { filter: "KN3".into(), grating: "K4000".into(), scale: 0.009, nx: 8, ny: 8, ..Mode::default() };
    let (d, _) = Dispersion::fit(&[cube([6.0, 5.0], moves, 1.0, 7)], &mode, 2).expect("fit");
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("d.fits");
    d.save(&path, &Header::new()).expect("save");
    let again = Dispersion::load(&path).expect("load");
    assert_eq!((&again.series, &again.points, again.range), (&d.series, &d.points, d.range));
    assert!(again.check(&mode).is_ok());
    let other = Mode { filter: "H".into(), ..mode };
    assert!(again.check(&other).expect_err("H").to_string().contains("FILTER = 'KN3'"));
}
