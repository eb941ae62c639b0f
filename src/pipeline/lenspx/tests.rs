//! Calibration, extraction and cube on a small forward model with noise: 8 × 8
//! lenslets on a rotated square lattice, tilted and curved traces 2.2 rows apart.

use super::*;
use crate::config::{CubeBuild, Extract, Extraction, SkySub};
use crate::datamodel::{Cube, dq};
use crate::engine::CpuEngine;
use crate::kernels::normal::Random;
use crate::pipeline::cube;
use crate::pipeline::extract::extract;

const SIZE: usize = 256;
const N: i32 = 8;
const BAND: (f64, f64) = (1.628, 1.672);
const READ: f64 = 0.25;
const DARK: f64 = 0.03;
/// Photon variance per unit rate: 60 s.
const FACTOR: f64 = 1.0 / 60.0;

/// e-/s a µm by wavelength, of one lenslet.
type Light = Option<Box<dyn Fn(f64) -> f64>>;

/// The instrument, forwards.
struct Truth {
    angle: f64,
}

impl Truth {
    /// Where lenslet (ix, iy) puts the middle of the band.
    fn origin(&self, ix: i32, iy: i32) -> (f64, f64) {
        let (s, c) = self.angle.sin_cos();
        let (u, v) = (18.0 * (f64::from(ix) - 3.5), 18.0 * (f64::from(iy) - 3.5));
        // A little jitter: no real lattice is perfect.
        let j = f64::from((ix * 7 + iy * 13) % 5 - 2) * 0.03;
        (127.5 + u * c - v * s + j, 127.5 + u * s + v * c - j)
    }

    fn y(&self, ix: i32, iy: i32, x: f64) -> f64 {
        let (x0, y0) = self.origin(ix, iy);
        let d = x - x0;
        y0 + 0.02 * d + 1.5e-4 * d * d
    }

    fn sigma(&self, x: f64, y: f64) -> f64 {
        (1.7 + 0.2 * x / 255.0 + 0.15 * (y / 255.0).powi(2)) / gaussian::FWHM
    }

    fn wavelength(&self, ix: i32, iy: i32, x: f64) -> f64 {
        let d = x - self.origin(ix, iy).0;
        1.65 + 5e-4 * d + 1.2e-7 * d * d
    }

    /// Column of a wavelength.
    fn column(&self, ix: i32, iy: i32, w: f64) -> f64 {
        let mut x = self.origin(ix, iy).0;
        for _ in 0..30 {
            x -= (self.wavelength(ix, iy, x) - w) / 5e-4;
        }
        x
    }

    fn throughput(&self, ix: i32, iy: i32, w: f64) -> f64 {
        // The median over the lenslets is 1 at every wavelength.
        1.0 + 0.05 * f64::from((ix * 5 + iy * 3) % 7 - 3) * (1.0 + 30.0 * (w - 1.65))
    }

    /// A noisy rate frame of what `spectrum(ix, iy)` (e-/s a µm, None for dark) sends.
    fn frame(&self, seed: u64, spectrum: &dyn Fn(i32, i32) -> Light) -> Rate {
        let mut model = vec![0.0; SIZE * SIZE];
        for ix in 0..N {
            for iy in 0..N {
                if let Some(f) = spectrum(ix, iy) {
                    self.paint(&mut model, ix, iy, &*f);
                }
            }
        }
        let mut random = Random(seed);
        let mut rate = Rate::zeros(SIZE, SIZE);
        for (i, m) in model.iter().enumerate() {
            let noise = (READ * READ + FACTOR * (m + DARK)).sqrt();
            rate.data[i] = (m + noise * random.normal()) as f32;
            rate.var_poisson[i] = (FACTOR * (f64::from(rate.data[i]) + DARK).max(0.0)) as f32;
            rate.var_rnoise[i] = (READ * READ) as f32;
            rate.err[i] = (rate.var_poisson[i] + rate.var_rnoise[i]).sqrt();
            if random.uniform() < 0.003 {
                (rate.data[i], rate.dq[i]) = (f32::NAN, dq::DO_NOT_USE);
            }
        }
        rate
    }

    fn paint(&self, model: &mut [f64], ix: i32, iy: i32, f: &dyn Fn(f64) -> f64) {
        for x in 0..SIZE {
            // The light between the column's edges, by the midpoint rule.
            let flux: f64 = (0..16)
                .map(|k| {
                    let at = |s: f64| self.wavelength(ix, iy, x as f64 - 0.5 + s / 16.0);
                    let (a, b) = (at(f64::from(k)), at(f64::from(k + 1)));
                    let w = (a + b) / 2.0;
                    if (BAND.0..BAND.1).contains(&w) {
                        f(w) * self.throughput(ix, iy, w) * (b - a)
                    } else {
                        0.0
                    }
                })
                .sum();
            if flux == 0.0 {
                continue;
            }
            let y = self.y(ix, iy, x as f64);
            let mut p = [0.0; 17];
            let first = y.round() as i64 - 8;
            gaussian::profile(y, self.sigma(x as f64, y), first, &mut p);
            for (row, share) in (first..).zip(p) {
                if (0..SIZE as i64).contains(&row) {
                    model[row as usize * SIZE + x] += flux * share;
                }
            }
        }
    }

    fn white(&self, lenscol: i32, dead: &[(i32, i32)]) -> Scan {
        let dead = dead.to_vec();
        let rate = self.frame(100 + lenscol as u64, &|ix, iy| {
            let lit = ix == lenscol && !dead.contains(&(ix, iy));
            lit.then(|| Box::new(|w: f64| 1.2e6 * (1.0 + 8.0 * (w - 1.65))) as Box<dyn Fn(f64) -> f64>)
        });
        Scan { lenscol, rate }
    }

    /// `dead` lenslets are as dark as in the scans.
    fn lines(&self, seed: u64, wavelengths: &[f64], dead: &[(i32, i32)]) -> Arc {
        let all = wavelengths.to_vec();
        let rate = self.frame(seed, &|ix, iy| {
            let all = all.clone();
            let line = |l: &f64, w: f64| 1500.0 / 4.5e-4 * gaussian::density((w - l) / 4.5e-4);
            let lit = !dead.contains(&(ix, iy));
            lit.then(|| {
                Box::new(move |w: f64| all.iter().map(|l| line(l, w)).sum()) as Box<dyn Fn(f64) -> f64>
            })
        });
        Arc { wavelengths: wavelengths.to_vec(), rate }
    }

    fn mode(&self) -> Mode {
        Mode {
            detector: "IFU".into(),
            filter: "HN3".into(),
            grating: "H4000".into(),
            scale: 0.009,
            nx: SIZE,
            ny: SIZE,
        }
    }
}

/// e-/s a µm of the sky and source in spaxel (ix, iy).
fn science(ix: i32, iy: i32, w: f64) -> f64 {
    let r2 = f64::from((ix - 3).pow(2) + (iy - 4).pow(2));
    let line = |c: f64, s: f64| gaussian::density((w - c) / s) / s;
    4e4 + 3e5 * (-r2 / 8.0).exp()
        + 60.0 * line(1.642, 1.1e-3)
        + 300.0 * (-r2 / 8.0).exp() * line(1.655, 1.1e-3)
}

fn calibration(truth: &Truth, dead: &[(i32, i32)], arcs: &[Arc]) -> Result<LensCal> {
    let scans: Vec<Scan> = (0..N).map(|c| truth.white(c, dead)).collect();
    let mut engine = CpuEngine::new(1 << 30);
    build(&mut engine, &scans, arcs, &truth.mode(), &Params::default())
}

fn mono(truth: &Truth) -> Vec<Arc> {
    [1.632, 1.639, 1.646, 1.653, 1.661, 1.668]
        .iter()
        .map(|w| truth.lines((w * 1e6) as u64, &[*w], &[]))
        .collect()
}

/// rms and mean of (cube − truth) over rms ERR, and the share of voxels compared.
fn pulls(truth: &Truth, c: &Cube, f: &dyn Fn(i32, i32, f64) -> f64) -> (f64, f64, f64, u32) {
    let step = c.wavelength[1] - c.wavelength[0];
    let (mut squares, mut sum, mut variances, mut n, mut all, mut far) = (0.0, 0.0, 0.0, 0.0, 0.0, 0);
    for (k, w) in c.wavelength.iter().enumerate() {
        if *w < BAND.0 + 2.0 * step || *w > BAND.1 - 2.0 * step {
            continue;
        }
        for iy in 0..N {
            for ix in 0..N {
                all += 1.0;
                let i = (k * c.ny + iy as usize) * c.nx + ix as usize;
                if c.dq[i] & dq::DO_NOT_USE != 0 {
                    continue;
                }
                // The lamp's normalisation is the median throughput: 1 up to the truth's.
                let flat: Vec<f64> = (0..64).map(|l| truth.throughput(l % 8, l / 8, *w)).collect();
                let value = (0..16)
                    .map(|s| f(ix, iy, w + (f64::from(s) - 7.5) / 16.0 * step) * step / 16.0)
                    .sum::<f64>()
                    * legendre::median(flat);
                let d = f64::from(c.data[i]) - value;
                squares += d * d;
                sum += d;
                variances += f64::from(c.err[i]).powi(2);
                far += u32::from(d.abs() > 5.0 * f64::from(c.err[i]));
                n += 1.0;
            }
        }
    }
    ((squares / variances).sqrt(), sum / n / (variances / n).sqrt(), n / all, far)
}

#[test]
fn from_frames_to_a_cube() {
    let truth = Truth { angle: 0.122 };
    let cal = calibration(&truth, &[], &mono(&truth)).expect("calibration");
    assert_eq!(cal.lenslets.len(), 64);
    // The PSF is separable, and few spots tell of it: columns by themselves are better.
    let chi2 = cal.chi2.expect("chi2");
    assert!(cal.psf.is_some() && chi2.banded < chi2.factored, "{chi2:?}");
    assert_eq!(cal.method(Extraction::Best), Extraction::Banded);
    let (mut worst_y, mut worst_s, mut worst_w, mut worst_t) = (0f64, 0f64, 0f64, 0f64);
    let (mut flat2, mut flatn) = (0.0, 0.0);
    for l in &cal.lenslets {
        for i in 0..=20 {
            let x = l.xmin as f64 + f64::from(i) / 20.0 * (l.xmax - l.xmin) as f64;
            let (y, w) = (truth.y(l.ix, l.iy, x), truth.wavelength(l.ix, l.iy, x));
            worst_y = worst_y.max((l.y(x) - y).abs());
            worst_s = worst_s.max((l.sigma(x) / truth.sigma(x, y) - 1.0).abs());
            worst_w = worst_w.max((l.wavelength(x) - w).abs() / 5e-4);
            if (BAND.0 + 1e-3..BAND.1 - 1e-3).contains(&w) {
                let all = (0..64).map(|l| truth.throughput(l % 8, l / 8, w)).collect();
                let t = truth.throughput(l.ix, l.iy, w) / legendre::median(all);
                flat2 += (cal.flat(l, w) / t - 1.0).powi(2);
                flatn += 1.0;
                worst_t = worst_t.max((cal.flat(l, w) / t - 1.0).abs());
            }
        }
    }
    println!("flat rms {:.5} quoted {:.5}", f64::sqrt(flat2 / flatn), cal.flat_error);
    println!(
        "worst: y {worst_y:.4} σ {worst_s:.4} λ {worst_w:.4} px flat {worst_t:.4}; misfit {:.4}",
        cal.misfit
    );
    assert!(worst_y < 0.02 && worst_s < 0.02 && worst_w < 0.05 && worst_t < 0.015);

    let mut engine = CpuEngine::new(1 << 30);
    let frame = |seed| {
        truth.frame(seed, &|ix, iy| Some(Box::new(move |w| science(ix, iy, w)) as Box<dyn Fn(f64) -> f64>))
    };
    let spectra = extract(&mut engine, &frame(5), &cal, &Extract::default()).expect("extract");
    println!("reduced χ² {:.4}, rejected {}", spectra.reduced_chi2, spectra.rejected);
    assert!((spectra.reduced_chi2 - 1.0).abs() < 0.03);
    let c = cube::build(&spectra, &cal, &CubeBuild::default()).expect("cube");
    let (pull, bias, share, far) = pulls(&truth, &c, &science);
    println!("cube: pull {pull:.4} bias {bias:.4} share {share:.4} beyond 5 σ {far}");
    assert!((0.97..1.05).contains(&pull) && bias.abs() < 0.03 && share > 0.98 && far < 3);
    let correlation = cube::channel_correlation(&cal, &CubeBuild::default()).expect("correlation");
    assert!((0.05..0.5).contains(&correlation), "{correlation}");

    // Sky of its own noise, twice as much, off.
    let sky = |_: i32, _: i32, w: f64| 0.5 * (4e4 + 60.0 * gaussian::density((w - 1.642) / 1.1e-3) / 1.1e-3);
    let rate = truth.frame(6, &|ix, iy| Some(Box::new(move |w| sky(ix, iy, w)) as Box<dyn Fn(f64) -> f64>));
    let spectra = extract(&mut engine, &rate, &cal, &Extract::default()).expect("extract sky");
    let skycube = cube::build(&spectra, &cal, &CubeBuild::default()).expect("sky cube");
    let mut subtracted = c.clone();
    let by = SkySub { scale: 2.0, ..SkySub::default() };
    cube::sky_sub(&mut subtracted, &skycube, &by, false).expect("sky_sub");
    let (pull, bias, ..) = pulls(&truth, &subtracted, &|ix, iy, w| science(ix, iy, w) - 2.0 * sky(ix, iy, w));
    println!("less sky: pull {pull:.4} bias {bias:.4}");
    assert!((0.97..1.05).contains(&pull) && bias.abs() < 0.03);
    let mut short = skycube.clone();
    short.wavelength.iter_mut().for_each(|w| *w += 1e-4);
    assert!(cube::sky_sub(&mut subtracted, &short, &by, false).is_err());

    // The quick look knows nothing of neighbours, but is about right.
    let quick = Extract { method: Extraction::Profile, ..Extract::default() };
    let spectra = extract(&mut engine, &frame(5), &cal, &quick).expect("quick look");
    let q = cube::build(&spectra, &cal, &CubeBuild::default()).expect("cube");
    let ratio = q.data.iter().zip(&c.data).map(|(a, b)| f64::from(a / b)).collect();
    let ratio = legendre::median(ratio);
    assert!((0.9..1.8).contains(&ratio), "{ratio}");
}

#[test]
fn files_keep_everything_and_refuse_other_modes() {
    let truth = Truth { angle: -0.122 };
    // Dead lenslets, and arcs of many lines told by their pattern alone.
    let dead = [(0, 0), (4, 7), (5, 3)];
    let known = [1.6312, 1.636, 1.6385, 1.6462, 1.6549, 1.6581, 1.6667];
    let arcs = [50, 51].map(|seed| truth.lines(seed, &known, &dead));
    let cal = calibration(&truth, &dead, &arcs).expect("calibration");
    assert_eq!(cal.lenslets.len(), 61);
    for l in &cal.lenslets {
        let x = f64::midpoint(l.xmin as f64, l.xmax as f64);
        let off = (l.y(x) - truth.y(l.ix, l.iy, x), truth.column(l.ix, l.iy, l.wavelength(x)) - x);
        assert!(
            off.0.abs() < 0.02 && off.1.abs() < 0.1,
            "{} {}: {off:?} {} {} {x}",
            l.ix,
            l.iy,
            l.xmin,
            l.xmax
        );
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("lenspx.fits");
    cal.save(&path, &crate::fits::Header::new()).expect("save");
    let back = LensCal::load(&path).expect("load");
    assert_eq!((back.lenslets.len(), &back.mode, back.grid()), (61, &cal.mode, (8, 8)));
    let (kept, leak) = (back.leak.expect("kept"), cal.leak.expect("measured"));
    assert!((kept.largest - leak.largest).abs() < 1e-6 && (kept.median - leak.median).abs() < 1e-6);
    assert!(back.leak_factored.is_none(), "there is no PSF");
    for (a, b) in back.lenslets.iter().zip(&cal.lenslets) {
        assert_eq!((a.id, a.ix, a.iy, a.xmin, a.xmax, a.dq), (b.id, b.ix, b.iy, b.xmin, b.xmax, b.dq));
        assert_eq!((&a.trace, &a.wave), (&b.trace, &b.wave));
        assert!((a.sigma(100.0) - b.sigma(100.0)).abs() < 1e-6);
    }
    back.check(&truth.mode()).expect("same mode");
    for other in [
        Mode { filter: "K".into(), ..truth.mode() },
        Mode { scale: 0.004, ..truth.mode() },
        Mode { nx: 512, ..truth.mode() },
    ] {
        assert!(back.check(&other).is_err());
    }
    assert!(extract(&mut CpuEngine::new(1 << 30), &Rate::zeros(9, 9), &back, &Extract::default()).is_err());
    // A dead lenslet is an empty spaxel.
    let rate =
        truth.frame(9, &|ix, iy| Some(Box::new(move |w| science(ix, iy, w)) as Box<dyn Fn(f64) -> f64>));
    let spectra = extract(&mut CpuEngine::new(1 << 30), &rate, &back, &Extract::default()).expect("extract");
    let c = cube::build(&spectra, &back, &CubeBuild::default()).expect("cube");
    let at = (c.nw / 2 * 8 + 3) * 8 + 5;
    assert!(c.data[at].is_nan() && c.dq[at] == dq::DO_NOT_USE | dq::NON_SCIENCE);
}

#[test]
fn what_cannot_be_calibrated_is_an_error() {
    let truth = Truth { angle: 0.122 };
    let scans: Vec<Scan> = (0..N).map(|c| truth.white(c, &[])).collect();
    let arcs = mono(&truth);
    let mut engine = CpuEngine::new(1 << 30);
    let mut fails = |scans: &[Scan], arcs: &[Arc], part: &str| {
        let e = build(&mut engine, scans, arcs, &truth.mode(), &Params::default()).expect_err(part);
        assert!(e.to_string().contains(part), "{part}: {e}");
    };
    fails(&[], &arcs, "no white-light scan");
    fails(&scans, &[], "no arc");
    fails(&scans, &arcs[..1], "at least two wavelengths");
    let holed: Vec<Scan> = scans.iter().filter(|s| s.lenscol != 3).cloned().collect();
    fails(&holed, &arcs, "LENSCOL = 3");
    let mut dark = scans.clone();
    dark[2].rate = truth.frame(77, &|_, _| None);
    fails(&dark, &arcs, "LENSCOL = 2 shows no spectrum");
    let mut saturated = arcs.clone();
    for arc in &mut saturated {
        for (q, v) in arc.rate.dq.iter_mut().zip(&arc.rate.data) {
            *q |= if *v > 20.0 { dq::SATURATED | dq::DO_NOT_USE } else { 0 };
        }
    }
    fails(&scans, &saturated, "saturated");
}

/// A model that has the widths wrong gives light of lit spectra to dark neighbours, and
/// the leak says so; the right one does not.
#[test]
fn a_leak_is_small_with_the_right_model_and_large_with_a_wrong_one() {
    let truth = Truth { angle: 0.122 };
    let cal = calibration(&truth, &[], &mono(&truth)).expect("calibration");
    let scans: Vec<Scan> = (0..N).map(|c| truth.white(c, &[])).collect();
    let scans: Vec<&Scan> = scans.iter().collect();
    let mut engine = CpuEngine::new(1 << 30);
    let mut measured = |cal: &LensCal, method| leak::measure(&mut engine, cal, &scans, method).expect("leak");
    let right = [Extraction::Banded, Extraction::Factored].map(|m| measured(&cal, m).expect("pairs"));
    assert_eq!((cal.leak, cal.leak_factored), (Some(right[0]), Some(right[1])));
    // The PSF of 64 lenslets is measured less well than their widths are.
    for (leak, method, most) in [(right[0], Extraction::Banded, 2e-3), (right[1], Extraction::Factored, 1e-2)]
    {
        println!("{method:?}: {leak:?}");
        assert!(leak.largest < most && leak.median < 0.4 * most && leak.error < 1e-3, "{method:?}: {leak:?}");
        assert_eq!(cal.leak_warning(method), None);
    }
    let mut wrong = cal.clone();
    wrong.lenslets.iter_mut().flat_map(|l| &mut l.fwhm).for_each(|w| *w *= 1.5);
    wrong.psf = cal.psf.as_ref().map(|psf| psf.changed(1.4, [0.0, 0.0]));
    for method in [Extraction::Banded, Extraction::Factored] {
        let leak = measured(&wrong, method).expect("pairs");
        println!("wrong, {method:?}: {leak:?}");
        assert!(leak.largest > 0.03 && leak.median > 0.01, "{method:?}: {leak:?}");
        let known = LensCal { leak: Some(leak), leak_factored: Some(leak), ..LensCal::default() };
        let sentence = known.leak_warning(method).expect("a warning");
        assert!(sentence.contains("neighbours show") && sentence.contains('%'), "{sentence}");
    }
    // One that has no PSF tells nothing of `factored`; one column's lenslets of nothing.
    let flat = LensCal { psf: None, ..cal.clone() };
    assert_eq!(measured(&flat, Extraction::Factored), None);
    let mut alone = cal.clone();
    alone.lenslets.retain(|l| l.ix == 0);
    let one = [scans[0]];
    let of_one = leak::measure(&mut CpuEngine::new(1 << 30), &alone, &one, Extraction::Banded);
    assert_eq!(of_one.expect("leak"), None);
}
