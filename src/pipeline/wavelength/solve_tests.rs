use super::*;
use crate::kernels::normal::Normal as Noise;
use crate::pipeline::lenspx::{Mode, gaussian};

const NX: usize = 260;
const LINES: [f64; 7] = [2.104, 2.1171, 2.1339, 2.1476, 2.1540, 2.1762, 2.1909];

/// Lenslets whose spectra lie `columns` to the right of the calibration's, with a stretch
/// and a scatter of their own, and the true λ(x).
fn layout(columns: f64, stretch: f64, own: f64) -> (LensCal, Vec<[f64; 2]>) {
    let mut random = Noise(5);
    let lenslets: Vec<Lenslet> = (0..30)
        .map(|i| Lenslet {
            id: i,
            ix: i % 6,
            iy: i / 6,
            xmin: 40,
            xmax: 200,
            trace: vec![5.0],
            fwhm: vec![2.0],
            // Descending, as some gratings are.
            wave: vec![2.15, -0.05, 0.0004 * f64::from(i % 3)],
            lflat: vec![1.0],
            throughput: 1.0,
            wavmin: 2.1,
            wavmax: 2.2,
            wave_rms: 0.0,
            lsf_sigma: 0.9,
            dq: 0,
        })
        .collect();
    let moves =
        lenslets.iter().map(|l| [columns + 0.05 * f64::from(l.ix) + own * random.next(), stretch]).collect();
    let mode = Mode { nx: NX, ny: 20, filter: "KN3".into(), ..Mode::default() };
    (LensCal { mode, lenslets, flat_range: (2.1, 2.2), ..LensCal::default() }, moves)
}

/// Where the calibration had what now lies at column `x`.
fn before(x: f64, [columns, stretch]: [f64; 2]) -> f64 {
    let middle = 120.0;
    middle + (x - columns - middle) / (1.0 + stretch)
}

/// Lines of `flux` in every lenslet, with noise; those for which `lost` have samples that
/// are saturated.
fn arc(cal: &LensCal, moves: &[[f64; 2]], flux: f64, lost: impl Fn(usize, f64) -> bool) -> ArcSpectra {
    let mut s = Spectra { nx: NX, ..Spectra::default() };
    let mut random = Noise(17);
    for (l, (lens, m)) in cal.lenslets.iter().zip(moves).enumerate() {
        let mut values = vec![0.0; NX];
        let mut flags = vec![0; NX];
        for w in LINES {
            // The column at which the line lies: bisection of what the calibration says.
            let (mut a, mut b) = (0.0, NX as f64);
            for _ in 0..60 {
                let c = f64::midpoint(a, b);
                if lens.wavelength(before(c, *m)) > w { a = c } else { b = c }
            }
            (0..NX).for_each(|x| values[x] += flux * gaussian::with_slopes(a, 0.95, x as i64).0);
            if lost(l, w) {
                flags[a.round() as usize] |= dq::SATURATED;
            }
        }
        s.flux.extend(values.iter().map(|v| (v + 3.0 * random.next()) as f32));
        s.variance.extend(values.iter().map(|v| (9.0 + 0.02 * v) as f32));
        s.dq.extend(flags);
    }
    ArcSpectra { wavelengths: LINES.to_vec(), spectra: s }
}

/// Rms distance of a solution from the truth over the spectra, columns.
fn off(map: &Wavemap, cal: &LensCal, moves: &[[f64; 2]]) -> f64 {
    let (mut n, mut square) = (0.0, 0.0);
    for ((s, l), m) in map.spaxels.iter().zip(&cal.lenslets).zip(moves) {
        for x in (50..190).step_by(5) {
            let x = f64::from(x);
            let told = legendre::value(&s.wave, unit(x, 40.0, 200.0));
            n += 1.0;
            square += ((told - l.wavelength(before(x, *m))) / 6.25e-4f64).powi(2);
        }
    }
    (square / f64::max(n, 1.0)).sqrt()
}

#[test]
fn changes_are_followed_and_spaxels_are_themselves() {
    for (columns, stretch, own, flux) in [
        (0.3, 0.0, 0.0, 3000.0),
        (-1.2, 1e-3, 0.03, 3000.0),
        (9.4, -5e-4, 0.0, 1000.0),
        (0.1, 0.0, 0.03, 300.0),
    ] {
        let (cal, moves) = layout(columns, stretch, own);
        let (map, warnings) = wavemap(&cal, &[arc(&cal, &moves, flux, |_, _| false)], 3).expect("solved");
        let rms = off(&map, &cal, &moves);
        println!("{columns} {stretch} {own} {flux}: {rms:.4} columns, scatter {:?}", map.scatter);
        assert!(
            rms < if flux > 500.0 { 0.01 } else { 0.03 } && warnings.is_empty(),
            "{columns}: {rms} {warnings:?}"
        );
        // Spaxels that are not alike are told from those that are.
        let told = map.scatter.first().copied().unwrap_or(0.0);
        assert!(
            if own > 0.0 { (told / own - 1.0).abs() < 0.5 } else { told < 0.01 },
            "{own}: {:?}",
            map.scatter
        );
        assert!(map.spaxels.iter().all(|s| s.lines == 7 && s.dq == 0));
        assert!(map.lines.len() == 7 && map.lines.iter().all(|l| l.spaxels == 30 && l.offset.abs() < 0.02));
    }
}

#[test]
fn saturated_lines_are_left_out_and_too_few_are_an_error() {
    let (cal, moves) = layout(0.3, 0.0, 0.0);
    // Two lines everywhere, and all of a few spaxels.
    let lost = |l: usize, w: f64| w == LINES[2] || w == LINES[4] || l < 5;
    let (map, _) = wavemap(&cal, &[arc(&cal, &moves, 3000.0, lost)], 3).expect("solved");
    assert!(off(&map, &cal, &moves) < 0.02);
    for (i, s) in map.spaxels.iter().enumerate() {
        assert_eq!((s.lines, s.dq), if i < 5 { (0, dq::UNRELIABLE_WS) } else { (5, 0) }, "{i}");
    }
    let error = |lost: &dyn Fn(usize, f64) -> bool| {
        wavemap(&cal, &[arc(&cal, &moves, 3000.0, lost)], 3).expect_err("too few").to_string()
    };
    let e = error(&|_, w| w != LINES[3]);
    assert!(e.contains("lines of 1 of the lamps' wavelengths") && e.contains("saturated"), "{e}");
    assert!(error(&|_, _| true).contains("lines of 0"));
    assert!(error(&|l, _| l < 20).contains("only 10 of 30 spaxels"));
    // Two lines afford a shift and a stretch.
    let two = |_: usize, w: f64| w != LINES[1] && w != LINES[2];
    let (map, warnings) = wavemap(&cal, &[arc(&cal, &moves, 3000.0, two)], 3).expect("solved");
    assert!(map.degree < 3 && off(&map, &cal, &moves) < 0.02);
    assert!(
        warnings[0].contains("afford a change of degree 1") && warnings[1].contains("extrapolated"),
        "{warnings:?}"
    );
}

#[test]
fn a_wavemap_goes_to_disk_and_takes_the_place_of_the_calibration_s() {
    let (cal, moves) = layout(0.3, 1e-3, 0.0);
    let (map, _) = wavemap(&cal, &[arc(&cal, &moves, 3000.0, |_, _| false)], 3).expect("solved");
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("w.fits");
    map.save(&path, &crate::fits::Header::new()).expect("save");
    let again = Wavemap::load(&path).expect("load");
    assert_eq!((again.spaxels.len(), &again.lines, again.degree), (30, &map.lines, map.degree));
    assert!(again.spaxels.iter().zip(&map.spaxels).all(|(a, b)| a.wave == b.wave));
    // On other intervals of columns the polynomials are the same.
    let mut other = cal.clone();
    other.lenslets.iter_mut().for_each(|l| (l.xmin, l.xmax) = (50, 190));
    again.apply(&mut other).expect("apply");
    for (l, s) in other.lenslets.iter().zip(&map.spaxels) {
        for x in [50.0, 111.5, 190.0] {
            assert!((l.wavelength(x) - legendre::value(&s.wave, unit(x, 40.0, 200.0))).abs() < 1e-9);
        }
    }
    let mut few = cal.clone();
    few.lenslets[3].id = 99;
    again.apply(&mut few).expect("apply");
    assert_eq!(few.lenslets[3].dq, dq::UNRELIABLE_WS);
    let mut wrong = cal;
    wrong.mode.filter = "H".into();
    assert!(again.apply(&mut wrong).expect_err("mode").to_string().contains("FILTER = 'KN3'"));
}
