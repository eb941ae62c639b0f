//! Lenslet frames of known truth, and the calibration that knows everything.

use rayon::prelude::*;

use crate::config::LensletFormat;
use crate::datamodel::{Rate, dq};
use crate::engine::CpuEngine;
use crate::error::{Error, Result};
use crate::kernels::factored::System;
use crate::pipeline::lenspx::psf::{FINE, HALF, NODES, PsfModel, Terms};
use crate::pipeline::lenspx::{self, Arc, LensCal, Lenslet as Calibrated, Mode, Scan, legendre};
use crate::simulate::philox::{Purpose, Source};
use crate::simulate::psf::{Change, Psf, seen, sheared};
use crate::simulate::random::{normal, poisson};
use crate::simulate::{Lenslet, LensletConfig, Light, frame};

/// Noise of a pixel without light, e-.
pub(super) const NOISE: f64 = 9.0;
/// Frames of a single wavelength that a calibration has.
const MONOS: usize = 16;
/// Degree of the exact PSF's field.
const DEGREE: usize = 5;

/// A spectrograph and its lenslets.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) config: LensletConfig,
    pub(super) lenslets: Vec<Lenslet>,
    pub(super) size: [usize; 2],
}

/// A small detector with the 2-px pitch of the full one: `rows` × 16 spectra.
pub(super) fn small(rows: usize) -> (LensletFormat, [usize; 2]) {
    let format = LensletFormat {
        grid: [16, rows],
        blocks: 1,
        block_step: 0.0,
        pitch: [8.24621, 32.98485],
        angle: 14.03624,
        skew: 8.0,
        span: 300.0,
    };
    (format, [512, 32 * rows + 64])
}

/// A frame of which one pixel in `every` is bad; none where that is 0.
pub(super) fn spoilt(rate: &Rate, every: u32) -> Rate {
    let mut out = rate.clone();
    let source = Source::new(11, Purpose::Pixel, 79);
    let nx = out.nx;
    for (i, (value, flags)) in out.data.iter_mut().zip(&mut out.dq).enumerate().filter(|_| every > 0) {
        if source.block((i % nx) as u32, (i / nx) as u32, 0)[0].is_multiple_of(every) {
            (*value, *flags) = (f32::NAN, dq::DO_NOT_USE);
        }
    }
    out
}

impl Scene {
    pub(super) fn new(format: &LensletFormat, size: [usize; 2], psf: Psf) -> Scene {
        // Where the last column of lenslets stands beside the first of the next row, traces
        // that climb come nearer by what they climb between them: half a pixel of the two.
        let behind = format.pitch[0] * (format.grid[0] as f64 - 1.0);
        let base = LensletConfig {
            distortion: 0.5,
            jitter: 0.03,
            tilt: 0.5 / behind,
            tilt_field: 0.25 / behind,
            curvature: f64::min(2e-6, 0.5 / (behind * format.span)),
            bend: 0.004 * format.span,
            dispersion_field: 0.005,
            wave: [2.0, 2.0 + 1e-4 * 3.0 * format.span],
            band_edge: 5e-5 * 3.0,
            psf: Some(psf),
            ..LensletConfig::default()
        };
        let config = base.laid_out(format);
        let lenslets = config.lenslets(size, 11);
        Scene { config, lenslets, size }
    }

    pub(super) fn psf(&self) -> Psf {
        self.config.psf.clone().unwrap_or_default()
    }

    /// Light on the detector without noise, e-.
    pub(super) fn light(&self, lights: &[Light], change: &Change) -> Vec<f32> {
        frame(&self.config, &self.lenslets, lights, self.size, change).0
    }

    /// A frame of `light` with photon and read noise; `seed` 0 for none. Rates of 1 s.
    pub(super) fn expose(&self, light: &[f32], seed: u64) -> Rate {
        let [nx, ny] = self.size;
        let mut rate = Rate::zeros(ny, nx);
        let source = Source::new(seed, Purpose::Pixel, 77);
        rate.data.par_chunks_exact_mut(nx).enumerate().for_each(|(y, row)| {
            for (x, v) in row.iter_mut().enumerate() {
                let mean = f64::from(light[y * nx + x]);
                *v = if seed == 0 {
                    mean as f32
                } else {
                    let w = source.block(x as u32, y as u32, 0);
                    (poisson(mean, [w[1], w[2]], &source, x as u32, y as u32, 0) + NOISE * normal(w[0]))
                        as f32
                };
            }
        });
        for i in 0..nx * ny {
            rate.var_poisson[i] = rate.data[i].max(0.0);
            rate.var_rnoise[i] = (NOISE * NOISE) as f32;
            rate.err[i] = (rate.var_poisson[i] + rate.var_rnoise[i]).sqrt();
        }
        rate
    }

    /// What an extraction on `psf`'s line-spread function should find, (lenslets, nx).
    pub(super) fn truth(&self, cal: &LensCal, psf: &PsfModel, lights: &[Light], shift: f64) -> Vec<f32> {
        seen(&self.config, shift, &self.lenslets, lights, self.size[0], &|l, x| psf.lsf(cal, l, x as f64))
    }

    /// The calibration from the truth itself.
    pub(super) fn exact(&self) -> Result<(LensCal, PsfModel)> {
        let [nx, ny] = self.size;
        let series = |l: &Lenslet, degree: usize, from: usize, to: usize, f: &dyn Fn(f64) -> f64| {
            let points: Vec<_> = (0..=60)
                .map(|k| from as f64 + (to - from) as f64 * f64::from(k) / 60.0)
                .map(|x| (legendre::unit(x, from as f64, to as f64), f(x), 1.0))
                .collect();
            legendre::fit(&points, degree)
                .ok_or_else(|| Error::Unsolvable(format!("lenslet {} {} has no trace", l.ix, l.iy)))
        };
        let psf = self.psf();
        let mut lenslets = Vec::new();
        for (id, l) in self.lenslets.iter().enumerate() {
            let xmin = l.column(l.wave[0]).ceil().clamp(0.0, nx as f64 - 2.0) as usize;
            let xmax = l.column(l.wave[1]).floor().clamp(xmin as f64 + 1.0, nx as f64 - 1.0) as usize;
            let width = |x: f64| {
                let u = (2.0 * l.wavelength(x) - l.wave[0] - l.wave[1]) / (l.wave[1] - l.wave[0]);
                let core = psf.bells(l.field, u, &Change::default())[0];
                (core.sigma[1].powi(2) + 1.0 / 12.0).sqrt() * 2.354_82
            };
            lenslets.push(Calibrated {
                id: id as i32,
                ix: l.ix as i32,
                iy: l.iy as i32,
                xmin,
                xmax,
                trace: series(l, 4, xmin, xmax, &|x| l.row(x))?,
                fwhm: series(l, 2, xmin, xmax, &width)?,
                wave: series(l, 6, xmin, xmax, &|x| l.wavelength(x))?,
                lflat: vec![l.throughput],
                throughput: l.throughput,
                wavmin: l.wave[0],
                wavmax: l.wave[1],
                wave_rms: 0.0,
                lsf_sigma: 0.9,
                dq: 0,
            });
        }
        let cal = LensCal {
            mode: Mode { nx, ny, ..Mode::default() },
            lenslets,
            flat_range: (self.config.wave[0], self.config.wave[1]),
            ..LensCal::default()
        };
        let model = PsfModel::of_terms(&cal, Terms { degree: DEGREE }, &self.theta(&cal)?);
        Ok((cal, model))
    }

    /// The true PSFlets as polynomials of place: fitted to 6 × 6 lenslets × 6 wavelengths.
    fn theta(&self, cal: &LensCal) -> Result<Vec<Vec<f64>>> {
        let psf = self.psf();
        let [gx, gy] = self.config.grid;
        let pick = |n: usize| -> Vec<usize> {
            let mut all: Vec<usize> =
                (0..6).map(|k| ((n - 1) as f64 * f64::from(k) / 5.0).round() as usize).collect();
            all.dedup();
            all
        };
        let mut places = Vec::new();
        for iy in pick(gy) {
            for ix in pick(gx) {
                for k in 0..6 {
                    let l = &self.lenslets[iy * gx + ix];
                    let x = l.column(l.wave[0] + (l.wave[1] - l.wave[0]) * f64::from(k) / 5.0);
                    places.push((iy * gx + ix, x));
                }
            }
        }
        let terms = Terms { degree: DEGREE };
        let samples: Vec<(Vec<f64>, Vec<f64>)> = places
            .par_iter()
            .map(|(i, x)| {
                let l = &self.lenslets[*i];
                let u = (2.0 * l.wavelength(*x) - l.wave[0] - l.wave[1]) / (l.wave[1] - l.wave[0]);
                let slope = (l.row(x + 1.0) - l.row(x - 1.0)) / 2.0;
                let bells = psf.bells(l.field, u, &Change::default()).map(|b| sheared(&b, slope));
                let at = |k: usize| k as f64 / FINE as f64 - HALF as f64;
                let image = (0..NODES * NODES).map(|n| Psf::pixel(&bells, at(n % NODES), at(n / NODES)));
                (terms.at(cal.place(&cal.lenslets[*i], *x)), image.collect())
            })
            .collect();
        let m = terms.count();
        let mut normal = legendre::Normal::new(m);
        samples.iter().for_each(|(row, _)| normal.add(row, 0.0, 1.0));
        // A field of one row or column of lenslets has fewer terms than these.
        (0..m).for_each(|i| normal.add_to(i, i, 1e-7));
        let solved: Vec<Option<Vec<f64>>> = (0..NODES * NODES)
            .into_par_iter()
            .map(|n| {
                let mut own = normal.clone();
                for (row, image) in &samples {
                    row.iter().enumerate().for_each(|(i, r)| own.add_right(i, r * image[n]));
                }
                own.solution()
            })
            .collect();
        let mut theta = vec![vec![0.0; NODES * NODES]; m];
        for (n, values) in solved.into_iter().enumerate() {
            let values = values.ok_or_else(|| Error::Unsolvable("the true PSF has no fit".into()))?;
            for (t, v) in theta.iter_mut().zip(values) {
                t[n] = v;
            }
        }
        Ok(theta)
    }
}

impl Scene {
    /// The calibration as a pipeline makes it: from noisy white scans of every column and
    /// frames of single wavelengths.
    pub(super) fn measured(&self) -> Result<LensCal> {
        let c = &self.config;
        let density = 30_000.0 * c.span / (c.wave[1] - c.wave[0]);
        let lamp = Change::default();
        let mut scans = Vec::new();
        for column in 0..c.grid[0] {
            let white = Light { continuum: density, ..Light::default() };
            let lights: Vec<Light> = self
                .lenslets
                .iter()
                .map(|l| if l.ix == column { white.clone() } else { Light::default() })
                .collect();
            let rate = self.expose(&self.light(&lights, &lamp), 1000 + column as u64);
            scans.push(Scan { lenscol: column as i32, rate });
        }
        let mut arcs = Vec::new();
        for k in 0..MONOS {
            let wave = c.wave[0] + (c.wave[1] - c.wave[0]) * (0.02 + 0.96 * k as f64 / (MONOS - 1) as f64);
            let lights = lines(self, &[wave], 2e5, |_| true);
            let rate = self.expose(&self.light(&lights, &lamp), 2000 + k as u64);
            arcs.push(Arc { wavelengths: vec![wave], rate });
        }
        let [nx, ny] = self.size;
        let mode = Mode { nx, ny, ..Mode::default() };
        lenspx::build(&mut CpuEngine::new(4 << 30), &scans, &arcs, &mode, &lenspx::Params::default())
    }
}

/// A line of every lenslet for which `lit`, at each of `waves`.
pub(super) fn lines(scene: &Scene, waves: &[f64], flux: f64, lit: impl Fn(&Lenslet) -> bool) -> Vec<Light> {
    let one = |l: &Lenslet| {
        let lines = if lit(l) { waves.iter().map(|w| [*w, flux]).collect() } else { Vec::new() };
        Light { lines, ..Light::default() }
    };
    scene.lenslets.iter().map(one).collect()
}

/// A continuum of about `level` e- a column that differs from lenslet to lenslet, and
/// lines of `flux` on it.
pub(super) fn field(scene: &Scene, level: f64, flux: f64) -> Vec<Light> {
    let c = &scene.config;
    let density = level * c.span / (c.wave[1] - c.wave[0]);
    let at = |l: &Lenslet, k: usize| {
        c.wave[0] + (c.wave[1] - c.wave[0]) * (0.1 + 0.2 * k as f64 + 0.002 * (l.ix + l.iy) as f64)
    };
    let one = |l: &Lenslet| {
        let own = 1.0 + 0.5 * ((3 * l.ix + 5 * l.iy) as f64).sin();
        let lines =
            (0..5).map(|k| [at(l, k), flux * (1.0 + ((7 * l.ix + 3 * l.iy + k) as f64).cos())]).collect();
        Light { continuum: density * own, slope: 0.2 * density * own, lines, ..Light::default() }
    };
    scene.lenslets.iter().map(one).collect()
}

/// Flux planes (lenslets, nx) of a vector of unknowns.
pub(super) fn plane<T: crate::kernels::Real>(s: &System, f: &[T], lenslets: usize) -> Vec<f64> {
    use crate::kernels::factored::SEG;
    let mut out = vec![0.0; lenslets * s.nx];
    for (e, entry) in s.entries.iter().enumerate() {
        for x in 0..SEG.min(s.nx - entry.segment as usize * SEG) {
            out[entry.spectrum as usize * s.nx + entry.segment as usize * SEG + x] = f[e * SEG + x].to_f64();
        }
    }
    out
}
