//! The lenslet extraction on simulated frames of known truth: leaks, fluxes, errors.

mod hits;
mod scene;
mod time;
mod wave;

use super::figure::{Figure, Section};
use super::report::Report;
use crate::config::{Extract, Extraction};
use crate::datamodel::Rate;
use crate::engine::CpuEngine;
use crate::error::{Error, Result};
use crate::kernels::factored::{Fit, LAGS, Options as Solver, Plain, System, column, fit};
use crate::pipeline::extract::factored::{DECIMATED, Planes, extract_with, planes, spectra};
use crate::pipeline::extract::solver::OnEngine;
use crate::pipeline::extract::{Spectra, extract};
use crate::pipeline::lenspx::noise::Noise;
use crate::pipeline::lenspx::psf::PsfModel;
use crate::pipeline::lenspx::{LensCal, system};
use crate::simulate::philox::{Purpose, Source};
use crate::simulate::psf::{Change, Psf};
use crate::simulate::random::normal;
use scene::{NOISE, Scene, field, lines, plane, small, spoilt};

/// What is to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Rows of lenslets of the small detector (16 columns).
    pub rows: usize,
    /// The IRIS size, too.
    pub full: bool,
    /// Sections by (a part of) their names; all where empty.
    pub only: Vec<String>,
}

/// The names that `only` knows.
pub const SECTIONS: [&str; 8] =
    ["leak", "calibration", "flux", "errors", "rejection", "precision", "wavelength", "time"];

const FREE: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];
const fn most(limit: f64) -> [f64; 2] {
    [f64::NEG_INFINITY, limit]
}

/// Measures. `progress` hears what is being done.
pub fn measure(options: &Options, progress: &dyn Fn(&str)) -> Result<Report> {
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|o| name.contains(o.as_str()));
    if let Some(unknown) = options.only.iter().find(|o| !SECTIONS.iter().any(|s| s.contains(o.as_str()))) {
        let message = format!("--only {unknown}: no section has that in its name ({})", SECTIONS.join(", "));
        return Err(Error::Usage(message));
    }
    let mut sections = Vec::new();
    let (format, size) = small(options.rows);
    let bench = |psf: Psf| -> Result<Bench> {
        let scene = Scene::new(&format, size, psf);
        let (cal, psf) = scene.exact()?;
        let system = system::system(&cal, &psf, &|_, _| 0.0, &system::all(&cal))?;
        Ok(Bench { scene, cal, psf, system })
    };
    let usual = bench(Psf::default())?;
    if wanted("leak") {
        progress("leak");
        let narrow = Psf { fwhm: [1.4, 0.1, 0.05], ..Psf::default() };
        let broad = Psf { fwhm: [2.5, 0.1, 0.05], ..Psf::default() };
        let plain = Psf { asymmetry: [0.0; 2], ..Psf::default() };
        let mut rows = Vec::new();
        for (name, b) in [
            ("FWHM 1.9", &usual),
            ("FWHM 1.9, symmetric", &bench(plain)?),
            ("FWHM 1.4", &bench(narrow)?),
            ("FWHM 2.5", &bench(broad)?),
        ] {
            rows.extend(b.leak(name)?);
        }
        sections.push(Section {
            name: "leak",
            title: "Light of one column of lenslets in the others",
            about: "Noiseless lines through one lenslet column, the PSF as calibrated. Leak: the largest value in \
                    a dark spectrum over the line's peak; right: the lit spectra's flux over the truth; assigned: over \
                    the sum of all spectra's magnitudes."
                .into(),
            heads: vec!["PSF", "method", "rank"],
            figures: vec!["leak", "right", "assigned"],
            rows,
        });
    }
    if wanted("calibration") {
        progress("calibration");
        sections.push(usual.calibration()?);
    }
    if wanted("flux") {
        progress("flux");
        sections.push(usual.flux()?);
    }
    if wanted("errors") {
        progress("errors");
        sections.push(usual.errors()?);
    }
    if wanted("rejection") {
        progress("rejection");
        sections.push(usual.rejection()?);
    }
    if wanted("precision") {
        progress("precision");
        sections.push(usual.precision()?);
    }
    if wanted("wavelength") {
        progress("wavelength");
        sections.push(wave::wavelength(&format, size)?);
    }
    if wanted("time") {
        progress("time");
        sections.push(time::time(options)?);
    }
    Ok(Report { device: "CPU".into(), note: String::new(), sections })
}

/// A scene with its calibration.
struct Bench {
    scene: Scene,
    cal: LensCal,
    psf: PsfModel,
    system: System,
}

impl Bench {
    fn extract(&self, rate: &Rate, method: Extraction) -> Result<Spectra> {
        let params = Extract { method, ..Extract::default() };
        let mut engine = CpuEngine::new(4 << 30);
        match method {
            Extraction::Factored => extract_with(&mut engine, &self.system, rate, &self.cal, &params),
            _ => extract(&mut engine, rate, &self.cal, &params),
        }
    }

    fn fit(&self, images: &Planes, options: &Solver) -> Result<Fit<f32>> {
        let mut engine = CpuEngine::new(4 << 30);
        let mut solver = OnEngine::new(&mut engine, &self.system)?;
        fit(&mut solver, &self.system, &images.data, &images.variance, options)
    }

    fn leak(&self, name: &str) -> Result<Vec<(Vec<String>, Vec<Figure>)>> {
        let mut rows = Vec::new();
        for method in [Extraction::Banded, Extraction::Factored] {
            let figures = self.leaks(&Change::default(), method == Extraction::Factored, 5e-4, |rate| {
                self.extract(rate, method)
            })?;
            let rank = if method == Extraction::Factored { self.system.rank() } else { 1 };
            rows.push((vec![name.into(), format!("{method:?}").to_lowercase(), rank.to_string()], figures));
        }
        Ok(rows)
    }

    /// Leak, light in the right spectra over the truth, and over all; `limit` is the
    /// leak's where there is a target.
    fn leaks(
        &self,
        change: &Change,
        target: bool,
        limit: f64,
        extract: impl Fn(&Rate) -> Result<Spectra>,
    ) -> Result<Vec<Figure>> {
        let c = &self.scene.config;
        let waves: Vec<f64> =
            (1..8).map(|k| c.wave[0] + (c.wave[1] - c.wave[0]) * (0.121 * f64::from(k))).collect();
        let flux = 1e5;
        let (mut leak, mut right, mut assigned) = (0f64, f64::MAX, f64::MAX);
        for column in [3, 12] {
            let lights = lines(&self.scene, &waves, flux, |l| l.ix == column);
            let rate = self.scene.expose(&self.scene.light(&lights, change), 0);
            let s = extract(&rate)?;
            let (mut lit, mut dark, mut total, mut truth, mut line) = (0.0, 0.0, 0.0, 0.0, f64::MAX);
            for (i, l) in self.scene.lenslets.iter().enumerate() {
                let own: Vec<f64> = s.flux[i * s.nx..(i + 1) * s.nx]
                    .iter()
                    .filter(|f| f.is_finite())
                    .map(|f| f64::from(*f))
                    .collect();
                let peak = own.iter().fold(0f64, |m, f| m.max(f.abs()));
                total += own.iter().map(|f| f.abs()).sum::<f64>();
                if l.ix == column {
                    lit += own.iter().sum::<f64>();
                    truth += flux * l.throughput * waves.len() as f64;
                    line = peak.min(line);
                } else {
                    dark = peak.max(dark);
                }
            }
            leak = leak.max(dark / line);
            right = right.min(lit / truth);
            assigned = assigned.min(lit / total);
        }
        let whole = if target { [0.995, 1.005] } else { FREE };
        Ok(vec![
            Figure::new(leak, 0.0, if target { most(limit) } else { FREE }),
            Figure::new(right, 0.0, whole),
            Figure::new(assigned, 0.0, whole),
        ])
    }

    /// The calibration from noisy frames, and a sky whose PSF is not the lamps'.
    fn calibration(&self) -> Result<Section> {
        let cal = self.scene.measured()?;
        let Some((psf, chi2)) = cal.psf.as_ref().zip(cal.chi2) else {
            return Err(Error::Unsolvable("the calibration has no two-dimensional PSF".into()));
        };
        let file = std::env::temp_dir().join(format!("irisgpu-bench-{}.fits", std::process::id()));
        cal.save(&file, &crate::fits::Header::new())?;
        let size = std::fs::metadata(&file).map_err(Error::io("read", &file))?.len() as f64 / 1e6;
        let _ = std::fs::remove_file(&file);
        let (mut shape, mut count) = (0f64, 0.0);
        for (l, lens) in self.cal.lenslets.iter().enumerate().step_by(7) {
            let x = f64::midpoint(lens.xmin as f64, lens.xmax as f64);
            let (a, b) = (psf.psflet(&cal, l, x), self.psf.psflet(&self.cal, l, x));
            let top = b.iter().fold(0f64, |m, v| m.max(*v));
            shape +=
                (a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt() / top;
            count += 1.0;
        }
        let sky = Change { width: 1.02, shift: [0.1, 0.1], asymmetry: 0.03 };
        let mut rows = Vec::new();
        for (name, change, flexure, limit) in [
            ("the lamps'", Change::default(), false, 5e-4),
            ("wider, shifted, skew", sky.clone(), false, f64::INFINITY),
            ("the same, flexure fitted", sky, true, 3e-3),
        ] {
            let target = limit.is_finite();
            let params = Extract { flexure, ..Extract::default() };
            let figures = self.leaks(&change, target, limit, |rate| {
                extract(&mut CpuEngine::new(4 << 30), rate, &cal, &params)
            })?;
            rows.push((vec![name.into()], figures));
        }
        Ok(Section {
            name: "calibration",
            title: "A LEN-SPX from noisy frames",
            about: format!(
                "White scans of every column (30 000 e- a detector column), 16 frames of one wavelength (200 000 e- a \
                 spot), noise {} e-: {size:.2} MB, {} eigen-PSFlets; the PSFlets' rms error is {:.2} % \
                 of their peak (shifts that the wavelengths take up among it). Frames of one wavelength have a \
                 reduced χ² of {:.3} by banded and {:.3} by factored: {} is taken. The sky's PSF is 2 % wider, shifted by \
                 0.1 px along both axes and has 3 % more of its light displaced.",
                scene::NOISE,
                psf.basis.len(),
                100.0 * shape / count,
                chi2.banded,
                chi2.factored,
                cal.method(Extraction::Best).word(),
            ),
            heads: vec!["the sky's PSF"],
            figures: vec!["leak", "right", "assigned"],
            rows,
        })
    }

    /// (value − truth)/truth of spectra.
    fn flux(&self) -> Result<Section> {
        let mut rows = Vec::new();
        for (name, level, line, seed) in
            [("noiseless", 300.0, 3000.0, 0), ("30 e- a pixel", 60.0, 100.0, 5), ("300 e-", 300.0, 3000.0, 6)]
        {
            let lights = field(&self.scene, level, line);
            let rate = self.scene.expose(&self.scene.light(&lights, &Change::default()), seed);
            let truth = self.scene.truth(&self.cal, &self.psf, &lights, 0.0);
            let s = self.extract(&rate, Extraction::Factored)?;
            let mut relative: Vec<f64> = Vec::new();
            let (mut sum, mut all, mut variance, mut lost) = (0.0, 0.0, 0.0, 0.0);
            self.inside(&s, &mut |i, _, _| {
                if s.flux[i].is_finite() {
                    let (f, t) = (f64::from(s.flux[i]), f64::from(truth[i]));
                    relative.push((f / t - 1.0).abs());
                    sum += f - t;
                    all += t;
                    variance += f64::from(s.variance[i]);
                } else {
                    lost += 1.0;
                }
            });
            relative.sort_by(f64::total_cmp);
            let at = |p: f64| relative[((relative.len() - 1) as f64 * p) as usize];
            let clean = seed == 0;
            let bias =
                Figure::new(sum / all, if clean { 0.0 } else { variance.sqrt() / all }, [-0.002, 0.002]);
            let figures = vec![
                Figure::new(at(0.5), 0.0, if clean { most(1e-3) } else { FREE }),
                Figure::new(at(0.95), 0.0, if clean { most(3e-3) } else { FREE }),
                bias,
                Figure::new(lost / (lost + relative.len() as f64), 0.0, FREE),
            ];
            rows.push((vec![name.into()], figures));
        }
        Ok(Section {
            name: "flux",
            title: "Fluxes",
            about: "Continua that differ from lenslet to lenslet by up to 3 times, with lines; the PSF as calibrated. \
                    Differences of samples from the truth on the same line-spread function, relative; bias is that of \
                    their sums."
                .into(),
            heads: vec!["frame"],
            figures: vec!["median", "p95", "bias", "lost"],
            rows,
        })
    }

    /// Samples well inside their spectra.
    fn inside(&self, s: &Spectra, look: &mut dyn FnMut(usize, usize, usize)) {
        for (l, lens) in self.cal.lenslets.iter().enumerate() {
            for x in lens.xmin + 5..lens.xmax.saturating_sub(4) {
                look(l * s.nx + x, l, x);
            }
        }
    }

    fn errors(&self) -> Result<Section> {
        let mut rows = Vec::new();
        let independent = Stripes::default();
        for (name, level, line, stripes, every) in [
            ("30 e- a pixel", 60.0, 100.0, independent, 0),
            ("1000 e-", 2000.0, 20_000.0, independent, 0),
            ("1000 e-, 1 % bad", 2000.0, 20_000.0, independent, 100),
            ("30 e-, rows 2 %", 60.0, 100.0, Stripes { rows: 0.14, amplifiers: 0.0 }, 0),
            ("30 e-, amplifiers 2 %", 60.0, 100.0, Stripes { rows: 0.0, amplifiers: 0.14 }, 0),
        ] {
            let lights = field(&self.scene, level, line);
            let light = self.scene.light(&lights, &Change::default());
            let truth = self.scene.truth(&self.cal, &self.psf, &lights, 0.0);
            let mut p = Pulls::default();
            let mut chi2 = 0.0;
            let mut used = 0.0;
            let trials = 4;
            for seed in 1..=trials {
                let mut rate = spoilt(&self.scene.expose(&light, seed), every);
                stripes.add(&mut rate, seed);
                let s = self.extract(&rate, Extraction::Factored)?;
                chi2 += s.reduced_chi2 / trials as f64;
                let (mut good, mut all) = (0.0, 0.0);
                self.inside(&s, &mut |i, _, _| {
                    all += 1.0;
                    good += f64::from(u8::from(s.flux[i].is_finite()));
                });
                used += good / all / trials as f64;
                self.pulls(&s, &truth, &mut p);
            }
            let local = self.local_errors(&spoilt(&self.scene.expose(&light, 1), every))?;
            let share = |v: f64, n: f64| v / (2.0 * n).sqrt();
            let f = |m: &Moments, target: [f64; 2]| Figure::new(m.rms(), share(m.rms(), m.n), target);
            let wanted = |target: [f64; 2]| if stripes == independent { target } else { FREE };
            let figures = vec![
                f(&p.sample, wanted([0.97, 1.03])),
                f(&p.lines, wanted([0.95, 1.05])),
                f(&p.continua, wanted([0.95, 1.05])),
                // Of bad pixels some samples are lost.
                Figure::new(used, 0.0, if every == 0 { [0.99, 1.0] } else { FREE }),
                Figure::new(local.0, 0.0, [0.99, 1.01]),
                Figure::new(local.1, 0.0, [0.99, 1.01]),
                Figure::new(chi2, 0.0, [0.98, 1.03]),
            ];
            rows.push((vec![name.into()], figures));
        }
        Ok(Section {
            name: "errors",
            title: "Errors",
            about: "Pulls, (value − truth)/error, of samples, of sums over 3 × 3 spaxels × 5 columns and of 100 columns \
                    with the written correlations; σ/CRLB: the written σ over that of the whole frame's inverse (f64, \
                    conjugate gradients), its median and, of 96 samples, the farthest from 1. Rows: noise that the 64 columns \
                    of an amplifier share in a row, amplifiers: that all its pixels share, each with 2 % of the read \
                    noise's variance, of which the fit is told nothing."
                .into(),
            heads: vec!["frame"],
            figures: vec!["samples", "3×3×5", "100 columns", "used", "σ/CRLB", "farthest", "χ²"],
            rows,
        })
    }

    fn pulls(&self, s: &Spectra, truth: &[f32], p: &mut Pulls) {
        let (gx, gy) = self.cal.grid();
        self.inside(s, &mut |i, _, _| {
            if s.flux[i].is_finite() {
                p.sample.add(f64::from(s.flux[i] - truth[i]) / f64::from(s.variance[i]).sqrt());
            }
        });
        // Sums: (Σ difference, variance) of columns from x of a lenslet.
        let sum = |l: usize, x0: usize, n: usize| -> Option<(f64, f64)> {
            let coarse = s.nx.div_ceil(DECIMATED) + 1;
            let mut total = (0.0, 0.0);
            for x in x0..x0 + n {
                let i = l * s.nx + x;
                if !s.flux[i].is_finite() {
                    return None;
                }
                total.0 += f64::from(s.flux[i] - truth[i]);
                total.1 += f64::from(s.variance[i]);
                for (k, (up, on)) in LAGS.iter().enumerate() {
                    let y = x as i64 + i64::from(*on);
                    if *up == 0 && y < (x0 + n) as i64 {
                        let v = f64::from(s.variance[i] * s.variance[l * s.nx + y as usize]).sqrt();
                        total.1 += 2.0 * v * f64::from(s.correlation[k][l * coarse + x / DECIMATED]);
                    }
                }
            }
            Some(total)
        };
        for iy in (1..gy - 1).step_by(3) {
            for ix in (1..gx - 1).step_by(3) {
                let c = &self.scene.config;
                for k in 0..20 {
                    let wave = c.wave[0] + (c.wave[1] - c.wave[0]) * (0.05 + 0.045 * f64::from(k));
                    let mut total = Some((0.0, 0.0));
                    for l in (0..9).map(|n| (iy + n / 3 - 1) * gx + ix + n % 3 - 1) {
                        let x = self.scene.lenslets[l].column(wave).round() as usize;
                        total = match (total, sum(l, x - 2, 5)) {
                            (Some(a), Some(b)) => Some((a.0 + b.0, a.1 + b.1)),
                            _ => None,
                        };
                    }
                    if let Some((d, v)) = total {
                        p.lines.add(d / v.sqrt());
                    }
                }
            }
        }
        for (l, lens) in self.cal.lenslets.iter().enumerate() {
            for x in (lens.xmin + 5..lens.xmax.saturating_sub(105)).step_by(100) {
                if let Some((d, v)) = sum(l, x, 100) {
                    p.continua.add(d / v.sqrt());
                }
            }
        }
    }

    /// Written σ over the true inverse's, median and farthest of some samples.
    fn local_errors(&self, rate: &Rate) -> Result<(f64, f64)> {
        let noise = Noise::of(rate)?;
        let images = planes(&self.system, rate, &noise);
        let options = Solver { factor: noise.factor, ..Solver::default() };
        let own = self.fit(&images, &options)?;
        let written = spectra(&self.system, rate, &self.cal, &images, &own);
        let weight: Vec<f64> = own.weight.iter().map(|w| f64::from(w.max(0.0))).collect();
        let diagonal: Vec<f64> = own.diagonal.iter().map(|d| f64::from(*d)).collect();
        let mut ratios = Vec::new();
        for k in 0..96 {
            let e = (k * 7919 + 13) % self.system.entries.len();
            let x = (k * 37 + 5) % 64;
            let entry = &self.system.entries[e];
            let i = entry.spectrum as usize * written.nx + entry.segment as usize * 64 + x;
            if !written.variance.get(i).is_some_and(|v| v.is_finite()) {
                continue;
            }
            let truth = column(&self.system, &weight, &diagonal, e * 64 + x)?[e * 64 + x];
            ratios.push((f64::from(written.variance[i]) / truth).sqrt());
        }
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        let far = ratios
            .iter()
            .copied()
            .fold(1.0, |w: f64, r| if (r - 1.0).abs() > (w - 1.0).abs() { r } else { w });
        Ok((middle, far))
    }

    fn precision(&self) -> Result<Section> {
        let mut rows = Vec::new();
        for (name, level, line) in [("30 e- a pixel", 60.0, 100.0), ("20 000 e-", 40_000.0, 400_000.0)] {
            let lights = field(&self.scene, level, line);
            let rate = self.scene.expose(&self.scene.light(&lights, &Change::default()), 9);
            let noise = Noise::of(&rate)?;
            let images = planes(&self.system, &rate, &noise);
            let options = Solver { factor: noise.factor, ..Solver::default() };
            let single = self.fit(&images, &options)?;
            let of = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
            let deep = Solver { tolerance: 1e-9, iterations: 400, ..options };
            let mut plain = Plain::new(&self.system);
            let double = fit(&mut plain, &self.system, &of(&images.data), &of(&images.variance), &deep)?;
            let n = self.cal.lenslets.len();
            let (a, b) = (plane(&self.system, &single.flux, n), plane(&self.system, &double.flux, n));
            let s = spectra(&self.system, &rate, &self.cal, &images, &single);
            let mut all = Vec::new();
            self.inside(&s, &mut |i, _, _| {
                if s.variance[i].is_finite() {
                    all.push((a[i] - b[i]).abs() / f64::from(s.variance[i]).sqrt());
                }
            });
            all.sort_by(f64::total_cmp);
            let figures = vec![
                Figure::new(all[all.len() / 2], 0.0, most(1e-3)),
                Figure::new(all[all.len() - 1], 0.0, most(0.02)),
                Figure::new(single.iterations as f64, 0.0, FREE),
                Figure::new(double.iterations as f64, 0.0, FREE),
            ];
            rows.push((vec![name.into()], figures));
        }
        Ok(Section {
            name: "precision",
            title: "Single against double precision",
            about: "The same frame in f32 and, to 1e-9 σ, in f64.".into(),
            heads: vec!["frame"],
            figures: vec!["median, σ", "largest, σ", "f32 its", "f64 its"],
            rows,
        })
    }
}

/// Noise that pixels share, in parts of the read noise's σ.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stripes {
    /// By the columns of an amplifier in a row.
    rows: f64,
    /// By all pixels of an amplifier.
    amplifiers: f64,
}

impl Stripes {
    fn add(self, rate: &mut Rate, seed: u64) {
        const AMPLIFIER: usize = 64;
        let source = Source::new(seed, Purpose::Pixel, 79);
        let nx = rate.nx;
        for (i, v) in rate.data.iter_mut().enumerate() {
            let (x, y) = (i % nx / AMPLIFIER, i / nx);
            let of = |row: usize| normal(source.block(x as u32, row as u32, 0)[0]);
            *v += (NOISE * (self.rows * of(y + 1) + self.amplifiers * of(0))) as f32;
        }
    }
}

#[derive(Default)]
struct Pulls {
    sample: Moments,
    lines: Moments,
    continua: Moments,
}

/// A mean square.
#[derive(Default)]
struct Moments {
    n: f64,
    square: f64,
}

impl Moments {
    fn add(&mut self, v: f64) {
        self.n += 1.0;
        self.square += v * v;
    }

    fn rms(&self) -> f64 {
        (self.square / self.n).sqrt()
    }
}
