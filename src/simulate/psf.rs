//! A two-dimensional point-spread function that changes over field and wavelength, and
//! its image on the detector.
//!
//! The PSF is a sum of elliptical Gaussians integrated over pixels: a core, a displaced
//! part of it (asymmetry) and round wings three times as wide; its centroid is the
//! trace. A tilted ellipse is expanded in Hermite functions (Mehler's formula),
//!
//! ```text
//! N(x, y; ρ) = φ(x) φ(y) Σ_n ρⁿ/n! He_n(x) He_n(y),
//! ```
//!
//! whose terms integrate over pixels in closed form, so that a spectrum's image is a sum
//! of products of columns and rows: exact, without stamps. The slope of the trace is a
//! shear and joins ρ. The PSF is that of the pixel's column: within 32 columns an image
//! goes linearly from the first column's PSF to that of the next 32's.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lenslet::{Lenslet, LensletConfig};
use super::random::{SIGMA, erf};
use super::spectra::Light;
use crate::error::{Error, Result};

/// Columns from one PSF of a spectrum to the next.
const BLOCK: usize = 32;
/// Samples a column of the fine grid of continua.
const FINE: usize = 4;
/// How far a Gaussian reaches, σ.
const REACH: f64 = 5.5;
/// Most terms of the expansion; they stop where ρⁿ is below 1e-6.
const ORDERS: usize = 20;

/// The point-spread function of the lamps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Psf {
    /// FWHM, pixels, geometric mean of the axes, before pixels: at the field's centre in
    /// the middle of the band, its change to the field's corners, and to the band's long
    /// end ([1.9, 0.15, 0.1]).
    pub fwhm: [f64; 3],
    /// Long axis over short axis (1.3).
    pub axis_ratio: f64,
    /// The long axis from x towards y, degrees: at the centre, change to the field's side
    /// ([25, 10]).
    pub angle: [f64; 2],
    /// Part of the core that is displaced: at the centre, change to the field's side
    /// ([0.06, 0.03]).
    pub asymmetry: [f64; 2],
    /// By how much, pixels ([0.6, 0.9]).
    pub offset: [f64; 2],
    /// Part of the light in wings three times as wide (0.02).
    pub wings: f64,
}

impl Default for Psf {
    fn default() -> Psf {
        Psf {
            fwhm: [1.9, 0.15, 0.1],
            axis_ratio: 1.3,
            angle: [25.0, 10.0],
            asymmetry: [0.06, 0.03],
            offset: [0.6, 0.9],
            wings: 0.02,
        }
    }
}

/// How the sky's PSF differs from the lamps'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Width over that of the lamps (1).
    pub width: f64,
    /// Shift of all spectra, pixels along x and y ([0, 0]).
    pub shift: [f64; 2],
    /// Added to [`Psf::asymmetry`] (0).
    pub asymmetry: f64,
}

impl Default for Change {
    fn default() -> Change {
        Change { width: 1.0, shift: [0.0; 2], asymmetry: 0.0 }
    }
}

/// An elliptical Gaussian: part of the light, place, σ along x and y, correlation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bell {
    /// Part of the light.
    pub part: f64,
    /// Centre, pixels from the trace.
    pub at: [f64; 2],
    /// σ along x and y, pixels.
    pub sigma: [f64; 2],
    /// Correlation of x and y.
    pub rho: f64,
}

impl Psf {
    pub(super) fn check(&self, change: &Change) -> Result<()> {
        let fail = |m: &str| Err(Error::Config(format!("lenslet.psf: {m}")));
        let all = [self.fwhm.as_slice(), &self.angle, &self.asymmetry, &self.offset, &change.shift].concat();
        if all.iter().chain([&self.wings, &change.width, &change.asymmetry]).any(|v| !v.is_finite()) {
            return fail("all numbers must be finite");
        }
        let least = self.fwhm[0] + self.fwhm[1].min(0.0) - self.fwhm[2].abs();
        if !(least > 0.8 && self.fwhm.iter().sum::<f64>() < 10.0 && (0.5..2.0).contains(&change.width)) {
            return fail("fwhm must stay between 0.8 and 10 pixels, science.width between 0.5 and 2");
        }
        if !(1.0..=3.0).contains(&self.axis_ratio) || !(0.0..0.5).contains(&self.wings) {
            return fail("axis_ratio is 1 to 3, wings 0 to 0.5");
        }
        let most = self.asymmetry[0].abs() + self.asymmetry[1].abs() + change.asymmetry.abs();
        if most > 0.5 || self.offset.iter().any(|o| o.abs() > 3.0) {
            return fail("asymmetry is at most 0.5, offset at most 3 pixels");
        }
        Ok(())
    }

    /// The PSF of a lenslet at `field` (−1 to 1) in the band's place `u` (−1 to 1).
    pub fn bells(&self, field: [f64; 2], u: f64, change: &Change) -> [Bell; 3] {
        let r2 = (field[0] * field[0] + field[1] * field[1]) / 2.0;
        let fwhm = (self.fwhm[0] + self.fwhm[1] * r2 + self.fwhm[2] * u) * change.width;
        let root = self.axis_ratio.sqrt();
        let (long, short) = (SIGMA * fwhm * root, SIGMA * fwhm / root);
        let (sin, cos) = (self.angle[0] + self.angle[1] * field[0]).to_radians().sin_cos();
        let xx = (long * cos).powi(2) + (short * sin).powi(2);
        let yy = (long * sin).powi(2) + (short * cos).powi(2);
        let xy = (long * long - short * short) * sin * cos;
        let core = |part: f64, at: [f64; 2]| Bell {
            part,
            at,
            sigma: [xx.sqrt(), yy.sqrt()],
            rho: xy / (xx * yy).sqrt(),
        };
        let displaced = self.asymmetry[0] + self.asymmetry[1] * field[1] + change.asymmetry;
        let rest = 1.0 - self.wings;
        let o = self.offset;
        let mean = [rest * displaced * o[0], rest * displaced * o[1]];
        let wide = 3.0 * SIGMA * fwhm;
        [
            core(rest * (1.0 - displaced), [-mean[0], -mean[1]]),
            core(rest * displaced, [o[0] - mean[0], o[1] - mean[1]]),
            Bell { part: self.wings, at: [-mean[0], -mean[1]], sigma: [wide; 2], rho: 0.0 },
        ]
    }

    /// The part of a line's light on the pixel whose centre is (`dx`, `dy`) from it, by
    /// 8 × 8 points of Gauss–Legendre: slow, for samples of the truth.
    pub fn pixel(bells: &[Bell; 3], dx: f64, dy: f64) -> f64 {
        const NODES: [(f64, f64); 4] = [
            (0.183_434_642_495_649_8, 0.362_683_783_378_362),
            (0.525_532_409_916_329, 0.313_706_645_877_887_3),
            (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
            (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
        ];
        let points = NODES.iter().flat_map(|(t, w)| [(-t / 2.0, w / 2.0), (t / 2.0, w / 2.0)]);
        let mut sum = 0.0;
        for b in bells.iter().filter(|b| b.part != 0.0) {
            let free = 1.0 - b.rho * b.rho;
            let norm = b.part / (std::f64::consts::TAU * b.sigma[0] * b.sigma[1] * free.sqrt());
            for (x, wx) in points.clone() {
                let p = (dx + x - b.at[0]) / b.sigma[0];
                for (y, wy) in points.clone() {
                    let q = (dy + y - b.at[1]) / b.sigma[1];
                    let r2 = (p * p - 2.0 * b.rho * p * q + q * q) / free;
                    sum += wx * wy * norm * (-0.5 * r2).exp();
                }
            }
        }
        sum
    }
}

/// ∫ He_n φ up to `z`, for n = 0 … `out.len()` − 1: Φ, then −He_{n−1} φ.
fn edges(z: f64, out: &mut [f64]) {
    out[0] = if z > 0.0 { 1.0 - tail(z) } else { tail(-z) };
    if out.len() > 1 {
        let (mut now, mut before) = ((-0.5 * z * z).exp() * 0.398_942_280_401_432_7, 0.0);
        for (n, o) in out.iter_mut().enumerate().skip(1) {
            *o = -now;
            (before, now) = (now, z * now - n as f64 * before);
        }
    }
}

/// 1 − Φ(z) for z ≥ 0, from a table with cubic interpolation (error below 1e-9).
fn tail(z: f64) -> f64 {
    const STEP: f64 = 1.0 / 32.0;
    static TABLE: std::sync::LazyLock<Vec<(f64, f64)>> = std::sync::LazyLock::new(|| {
        (0..=8 * 32)
            .map(|k| f64::from(k) * STEP)
            .map(|z| {
                (
                    0.5 * (1.0 - erf(z / std::f64::consts::SQRT_2)),
                    -(-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt(),
                )
            })
            .collect()
    });
    let at = z / STEP;
    let k = at as usize;
    if k >= 8 * 32 {
        return 0.0;
    }
    let ((a, da), (b, db)) = (TABLE[k], TABLE[k + 1]);
    let t = at - k as f64;
    let s = 1.0 - t;
    a * s * s * (1.0 + 2.0 * t) + b * t * t * (1.0 + 2.0 * s) + STEP * t * s * (s * da - t * db)
}

/// What a lenslet sends to the detector: its lines (column, e-/s) and its continuum on
/// the fine grid from column `x0` (e-/s a sample).
struct Source {
    lines: Vec<[f64; 2]>,
    x0: i64,
    fine: Vec<f32>,
}

impl Source {
    fn new(c: &LensletConfig, l: &Lenslet, light: &Light) -> Source {
        let lines = light.lines.iter().map(|[w, f]| [l.column(*w), f * c.band(*w) * l.throughput]).collect();
        if light.is_dark() {
            return Source { lines, x0: 0, fine: Vec::new() };
        }
        let margin = 10.0 * c.band_edge;
        let x0 = l.column(l.wave[0] - margin).floor();
        let n = ((l.column(l.wave[1] + margin).ceil() - x0) * FINE as f64).clamp(0.0, 1e6) as usize;
        let sample = |k: usize| {
            let wave = l.wavelength(x0 + k as f64 / FINE as f64);
            let u = (2.0 * wave - l.wave[0] - l.wave[1]) / (l.wave[1] - l.wave[0]);
            let density = light.density(u) * c.band(wave) / l.slope(wave);
            (density * l.throughput / FINE as f64) as f32
        };
        Source { lines, x0: x0 as i64, fine: (0..=n).map(sample).collect() }
    }

    /// Columns that it touches, `reach` beyond it.
    fn range(&self, reach: f64) -> (f64, f64) {
        let lines = self.lines.iter().filter(|l| l[1] != 0.0).map(|l| l[0]);
        let (mut low, mut high) = lines.fold((f64::MAX, f64::MIN), |r, x| (r.0.min(x), r.1.max(x)));
        if !self.fine.is_empty() {
            low = low.min(self.x0 as f64);
            high = high.max(self.x0 as f64 + self.fine.len() as f64 / FINE as f64);
        }
        (low - reach, high + reach)
    }

    /// Samples of the fine grid from `from` to `to` (grid steps from column 0).
    fn samples(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, f64)> {
        let start = self.x0 * FINE as i64;
        let last = start + self.fine.len() as i64 - 1;
        (from.max(start)..=to.min(last)).map(move |k| (k, f64::from(self.fine[(k - start) as usize])))
    }
}

/// The detector's illumination (ny, nx), e-/s, and the light of each lenslet on each
/// column (lenslets, nx), as [`spectra::frame`](super::spectra) has them.
pub(super) fn frame(
    c: &LensletConfig,
    psf: &Psf,
    change: &Change,
    lenslets: &[Lenslet],
    lights: &[Light],
    [nx, ny]: [usize; 2],
) -> (Vec<f32>, Vec<f32>) {
    let sources: Vec<Source> =
        lenslets.par_iter().zip(lights).map(|(l, light)| Source::new(c, l, light)).collect();
    let blocks: Vec<(Vec<f64>, Vec<f64>)> = (0..nx.div_ceil(BLOCK))
        .into_par_iter()
        .map(|b| block(psf, change, lenslets, &sources, b * BLOCK, ny))
        .collect();
    let mut image = vec![0f32; nx * ny];
    image.par_chunks_exact_mut(nx).enumerate().for_each(|(y, row)| {
        for (to, from) in row.chunks_mut(BLOCK).zip(&blocks) {
            to.iter_mut().zip(&from.0[y * BLOCK..]).for_each(|(t, f)| *t = *f as f32);
        }
    });
    let mut spectra = vec![0f32; lenslets.len() * nx];
    spectra.par_chunks_exact_mut(nx).enumerate().for_each(|(l, row)| {
        for (to, from) in row.chunks_mut(BLOCK).zip(&blocks) {
            to.iter_mut().zip(&from.1[l * BLOCK..]).for_each(|(t, f)| *t = *f as f32);
        }
    });
    (image, spectra)
}

/// The image (ny, BLOCK) and the spectra (lenslets, BLOCK) of the columns from `xa`.
fn block(
    psf: &Psf,
    change: &Change,
    lenslets: &[Lenslet],
    sources: &[Source],
    xa: usize,
    ny: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut image, mut spectra) = (vec![0.0; ny * BLOCK], vec![0.0; lenslets.len() * BLOCK]);
    for (i, (l, source)) in lenslets.iter().zip(sources).enumerate() {
        let (low, high) = source.range(20.0);
        if high < xa as f64 || low > (xa + BLOCK) as f64 {
            continue;
        }
        for end in [0, 1] {
            let x = (xa + end * BLOCK) as f64;
            let wave = l.wavelength(x - change.shift[0]);
            let u = ((2.0 * wave - l.wave[0] - l.wave[1]) / (l.wave[1] - l.wave[0])).clamp(-1.5, 1.5);
            let slope = (l.row(x + 1.0) - l.row(x - 1.0)) / 2.0;
            let share: [f64; BLOCK] = std::array::from_fn(|k| {
                let t = k as f64 / BLOCK as f64;
                if end == 0 { 1.0 - t } else { t }
            });
            for bell in psf.bells(l.field, u, change).into_iter().filter(|b| b.part != 0.0) {
                let own = &mut spectra[i * BLOCK..][..BLOCK];
                draw(&sheared(&bell, slope), &share, l, source, change.shift, xa, (&mut image, ny), own);
            }
        }
    }
    (image, spectra)
}

/// A bell in rows counted from the trace at the pixel's own column. Within the pixel the
/// trace goes on; that is a covariance of slope/12, as good as exact.
pub fn sheared(b: &Bell, slope: f64) -> Bell {
    let [sx, sy] = b.sigma;
    let xy = b.rho * sx * sy;
    let yy = sy * sy - 2.0 * slope * xy + slope * slope * sx * sx;
    Bell {
        at: [b.at[0], b.at[1] - slope * b.at[0]],
        sigma: [sx, yy.sqrt()],
        rho: (xy - slope * (sx * sx + 1.0 / 12.0)) / (sx * yy.sqrt()),
        ..*b
    }
}

/// Adds a bell's light, `share` of it in each column.
#[allow(clippy::too_many_arguments, reason = "the inside of the loops above")]
fn draw(
    b: &Bell,
    share: &[f64; BLOCK],
    l: &Lenslet,
    source: &Source,
    shift: [f64; 2],
    xa: usize,
    (image, ny): (&mut [f64], usize),
    spectrum: &mut [f64],
) {
    let orders = (1..ORDERS).find(|n| b.rho.abs().powi(*n as i32) < 1e-6).unwrap_or(ORDERS);
    let mut columns = vec![0.0; orders * BLOCK];
    along(b, source, shift[0], xa, orders, &mut columns);
    // ρⁿ/n!
    let mut scale = [1.0; ORDERS];
    for n in 1..orders {
        scale[n] = scale[n - 1] * b.rho / n as f64;
    }
    let reach = REACH * b.sigma[1] + 1.0;
    let (mut upper, mut lower) = ([0.0; ORDERS], [0.0; ORDERS]);
    for i in 0..BLOCK {
        let mut terms = [0.0; ORDERS];
        for n in 0..orders {
            terms[n] = share[i] * columns[n * BLOCK + i] * scale[n];
        }
        spectrum[i] += share[i] * columns[i];
        if terms[..orders].iter().all(|t| t.abs() < 1e-9) {
            continue;
        }
        let row = l.row((xa + i) as f64 - shift[0]) + shift[1] + b.at[1];
        let from = (row - reach).ceil().clamp(0.0, ny as f64) as usize;
        let to = ((row + reach).floor().clamp(-1.0, ny as f64 - 1.0) + 1.0) as usize;
        if from >= to {
            continue;
        }
        edges((from as f64 - 0.5 - row) / b.sigma[1], &mut lower[..orders]);
        for y in from..to {
            edges((y as f64 + 0.5 - row) / b.sigma[1], &mut upper[..orders]);
            let part: f64 = (0..orders).map(|n| terms[n] * (upper[n] - lower[n])).sum();
            image[y * BLOCK + i] += part;
            std::mem::swap(&mut upper, &mut lower);
        }
    }
}

/// Light × ∫ He_n φ over each column from `xa`, for every order.
fn along(b: &Bell, source: &Source, shift: f64, xa: usize, orders: usize, out: &mut [f64]) {
    let sigma = b.sigma[0];
    let reach = REACH * sigma + 1.0;
    let (mut upper, mut lower) = ([0.0; ORDERS], [0.0; ORDERS]);
    for [x, flux] in &source.lines {
        let x = x + shift + b.at[0];
        for i in 0..BLOCK {
            let d = (xa + i) as f64 - x;
            if d.abs() < reach && *flux != 0.0 {
                edges((d - 0.5) / sigma, &mut lower[..orders]);
                edges((d + 0.5) / sigma, &mut upper[..orders]);
                for n in 0..orders {
                    out[n * BLOCK + i] += b.part * flux * (upper[n] - lower[n]);
                }
            }
        }
    }
    if source.fine.is_empty() {
        return;
    }
    // ∫ over a column whose centre is k/FINE from the light, less the shift.
    let half = (reach * FINE as f64).ceil() as i64 + 1;
    let n = (2 * half + 1) as usize;
    let at = |k: i64| (k as f64 / FINE as f64 - shift - b.at[0]) / sigma;
    let step = (FINE / 2) as i64;
    let mut edge = vec![0.0; (n + FINE) * orders];
    for (e, k) in edge.chunks_exact_mut(orders).zip(-half - step..) {
        edges(at(k), e);
    }
    let mut taps = vec![0.0; orders * n];
    for k in 0..n {
        for order in 0..orders {
            taps[order * n + k] = b.part * (edge[(k + FINE) * orders + order] - edge[k * orders + order]);
        }
    }
    for i in 0..BLOCK {
        let middle = (xa + i) as i64 * FINE as i64;
        // A light at fine step s is seen from a column at distance middle − s.
        for (s, value) in source.samples(middle - half, middle + half) {
            let k = (middle - s + half) as usize;
            for order in 0..orders {
                out[order * BLOCK + i] += value * taps[order * n + k];
            }
        }
    }
}

/// Each lenslet's light as a Gaussian of `sigma(lenslet, column)` pixels shows it at the
/// columns' centres, (lenslets, nx): what an extraction on that line-spread function
/// should find.
pub fn seen(
    c: &LensletConfig,
    shift: f64,
    lenslets: &[Lenslet],
    lights: &[Light],
    nx: usize,
    sigma: &(dyn Fn(usize, usize) -> f64 + Sync),
) -> Vec<f32> {
    let rows: Vec<Vec<f32>> = lenslets
        .par_iter()
        .zip(lights)
        .enumerate()
        .map(|(i, (l, light))| {
            let source = Source::new(c, l, light);
            let one = |x: usize| {
                let s = sigma(i, x);
                let bell = |d: f64| (-0.5 * (d / s).powi(2)).exp() / (s * std::f64::consts::TAU.sqrt());
                let near = |at: f64| if (x as f64 - at).abs() < 9.0 * s { bell(x as f64 - at) } else { 0.0 };
                let lines: f64 = source.lines.iter().map(|[at, flux]| flux * near(at + shift)).sum();
                let half = (8.0 * s * FINE as f64).ceil() as i64;
                let middle = ((x as f64 - shift) * FINE as f64).round() as i64;
                let fine = source.samples(middle - half, middle + half);
                let sum: f64 = fine.map(|(k, v)| v * bell(x as f64 - shift - k as f64 / FINE as f64)).sum();
                (lines + sum) as f32
            };
            let (low, high) = source.range(20.0);
            (0..nx).map(|x| if (low..=high).contains(&(x as f64)) { one(x) } else { 0.0 }).collect()
        })
        .collect();
    rows.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expansion against the plain integral, and the light's sum and centroid.
    #[test]
    fn an_image_is_the_integral_over_its_pixels() {
        let psf = Psf { wings: 0.03, ..Psf::default() };
        let c = LensletConfig { grid: [2, 1], throughput_spread: 0.0, tilt: 0.02, ..Default::default() };
        let c = LensletConfig { psf: Some(psf.clone()), ..c };
        let change = Change { width: 1.02, shift: [0.13, -0.21], asymmetry: 0.03 };
        let lenslets = c.lenslets([512, 512], 3);
        let light = Light { lines: vec![[2.1432, 100.0]], ..Light::default() };
        let (image, spectra) = frame(&c, &psf, &change, &lenslets, &[light, Light::default()], [512, 512]);
        let l = &lenslets[0];
        let (x, y) = (l.column(2.1432) + 0.13, l.row(l.column(2.1432)) - 0.21);
        let (mut sum, mut cx, mut cy) = (0.0, 0.0, 0.0);
        for (i, v) in image.iter().enumerate() {
            let v = f64::from(*v);
            sum += v / 100.0;
            cx += v / 100.0 * (i % 512) as f64;
            cy += v / 100.0 * (i / 512) as f64;
        }
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        // The PSF widens along the line's own columns, which displaces it by dσ²/dx.
        assert!((cx - x).abs() < 2.5e-3 && (cy - y).abs() < 1e-3, "{} {}", cx - x, cy - y);
        let total: f32 = spectra.iter().sum();
        assert!((total - 100.0).abs() < 1e-3);
        let mut worst = 0f64;
        for py in y as usize - 6..y as usize + 7 {
            for px in x as usize - 6..x as usize + 7 {
                let u = (2.0 * l.wavelength(px as f64 - 0.13) - 4.3) / 0.1;
                let bells = psf.bells(l.field, u, &change);
                let exact = 100.0 * Psf::pixel(&bells, px as f64 - x, py as f64 - y);
                worst = worst.max((exact - f64::from(image[py * 512 + px])).abs());
            }
        }
        // On this short spectrum half of it is the PSF's bend within 32 columns.
        assert!(worst < 1e-2, "{worst}");
    }

    #[test]
    fn a_continuum_is_its_lines() {
        let psf = Psf::default();
        let c = LensletConfig { grid: [1, 1], throughput_spread: 0.0, ..Default::default() };
        let lenslets = c.lenslets([512, 512], 3);
        let flat = Light { continuum: 1000.0, ..Light::default() };
        let (image, spectra) =
            frame(&c, &psf, &Change::default(), &lenslets, std::slice::from_ref(&flat), [512, 512]);
        let sum = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>();
        assert!((sum(&image) - 100.0).abs() < 0.01 && (sum(&spectra) - 100.0).abs() < 0.01);
        let f = seen(&c, 0.0, &lenslets, &[flat], 512, &|_, _| 0.9);
        assert!((sum(&f) - 100.0).abs() < 0.01);
    }

    #[test]
    #[ignore = "timing at the IRIS format; cargo test --release --lib psf -- --ignored --nocapture"]
    fn iris_size() {
        let iris = crate::config::Instrument::iris().expect("iris.yaml");
        let c = LensletConfig { tilt: 0.002, ..Default::default() }.laid_out(&iris.lenslet.formats["narrow"]);
        let lenslets = c.lenslets([4096, 4096], 3);
        let lights =
            vec![Light { continuum: 1000.0, lines: vec![[2.15, 50.0]], ..Light::default() }; lenslets.len()];
        let start = std::time::Instant::now();
        frame(&c, &Psf::default(), &Change::default(), &lenslets, &lights, [4096, 4096]);
        println!("{} spectra in {:?}", lenslets.len(), start.elapsed());
    }
}
