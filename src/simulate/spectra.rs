//! What the lenslets see, and its image on the detector.
//!
//! The point-spread function is separable in detector columns:
//! frame(x, y) = Σ_l T_l · S_l(x) · P_l(y; x), P_l the pixel-integrated profile
//! centred on the trace at column x, S_l(x) the spectrum that a Gaussian along x
//! (σ from `lsf`) spreads over pixel x. Fluxes are e-/s, densities e-/s/µm.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lenslet::{Lenslet, LensletConfig};
use super::psf::{self, Change};
use super::random::{SIGMA, erf, gauss_pixel};
use super::wcs::Wcs;
use crate::datamodel::lines::oh;
use crate::error::{Error, Result};

/// Sky, lamps and targets of the lenslet spectrograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Field {
    /// White lamp, e-/s/µm a lenslet (1e6).
    pub white: f64,
    /// Sky continuum, e-/s/µm a lenslet (6500).
    pub sky_continuum: f64,
    /// OH lines of the sky (Rousselot et al. 2000): e-/s a lenslet for an intensity of 1
    /// there (0.05).
    pub oh: f64,
    /// More sky lines: vacuum µm, e-/s a lenslet (none).
    pub sky_lines: Vec<[f64; 2]>,
    /// Brightest line of arc lamps in the band, e-/s a lenslet (1500).
    pub arc: f64,
    /// White point source, e-/s/µm, all lenslets together (1e6).
    pub point: f64,
    /// Stars: arcsec east and north of the pointing at the night's own position,
    /// continuum (e-/s/µm, all lenslets together), and its relative slope over the band.
    pub stars: Vec<[f64; 4]>,
    /// FWHM of a star, arcsec (0.025).
    pub seeing: f64,
    /// The nebula's centre, arcsec east and north ([0.01, -0.01]).
    pub nebula: [f64; 2],
    /// The nebula's Gaussian σ, arcsec (0.03).
    pub nebula_radius: f64,
    /// The nebula's lines: vacuum µm, e-/s a lenslet at its centre.
    pub nebula_lines: Vec<[f64; 2]>,
    /// Rotation: velocity at one `nebula_radius` east, km/s (150).
    pub nebula_velocity: f64,
}

impl Default for Field {
    fn default() -> Self {
        Field {
            white: 1e6,
            sky_continuum: 6500.0,
            oh: 0.05,
            sky_lines: Vec::new(),
            arc: 1500.0,
            point: 1e6,
            stars: vec![[0.03, 0.025, 4e5, -0.3], [-0.035, -0.02, 1.2e5, 0.2]],
            seeing: 0.025,
            nebula: [0.01, -0.01],
            nebula_radius: 0.03,
            nebula_lines: vec![[2.1218, 120.0], [2.1661, 250.0]],
            nebula_velocity: 150.0,
        }
    }
}

/// The light that falls on one lenslet: a continuum, a polynomial in u, and lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Light {
    /// Density at the band's centre, e-/s/µm.
    pub continuum: f64,
    /// Its change from the centre to the long end, e-/s/µm.
    pub slope: f64,
    /// Vacuum µm, e-/s.
    pub lines: Vec<[f64; 2]>,
    /// A continuum of any shape beside that, e-/s/µm at evenly spaced u from −1.5
    /// to 1.5, linear between them; empty for none.
    pub table: Vec<f64>,
}

/// How far beyond the band (u = ±1) a tabulated continuum reaches.
const TABLE: f64 = 1.5;
/// Its samples.
const SAMPLES: usize = 601;

impl Field {
    pub(super) fn check(&self) -> Result<()> {
        let numbers = [
            self.white,
            self.oh,
            self.arc,
            self.point,
            self.sky_continuum,
            self.nebula[0],
            self.nebula[1],
            self.nebula_velocity,
        ];
        let lines = self.sky_lines.iter().chain(&self.nebula_lines).flatten();
        let all = numbers.iter().chain(lines).chain(self.stars.iter().flatten());
        if all.into_iter().any(|v| !v.is_finite()) {
            return Err(Error::Config("lenslet.field: all numbers must be finite".into()));
        }
        if !(self.seeing > 0.0 && self.nebula_radius > 0.0) {
            return Err(Error::Config("lenslet.field: seeing and nebula_radius must be positive".into()));
        }
        Ok(())
    }

    /// The sky on every lenslet of a band (µm).
    pub fn sky(&self, factor: f64, [low, high]: [f64; 2]) -> Light {
        let margin = 0.1 * (high - low);
        let oh = oh(low - margin, high + margin).iter().map(|l| [l.wavelength, l.brightness * self.oh]);
        let lines = oh.chain(self.sky_lines.iter().copied()).map(|[w, f]| [w, f * factor]).collect();
        Light { continuum: self.sky_continuum * factor, lines, ..Light::default() }
    }

    /// A white point source at `place` (spaxels along ix and iy from the centre of the
    /// array) on lenslet (ix, iy).
    pub fn point(&self, c: &LensletConfig, place: [f64; 2], ix: usize, iy: usize) -> Light {
        let [x, y] = [0, 1].map(|k| (c.grid[k] as f64 - 1.0) / 2.0 + place[k]);
        let part = star(c, SIGMA * self.seeing / c.scale, [x, y], [ix, iy]);
        Light { table: tabulated(c, |wave, _| self.point * part(wave)), ..Light::default() }
    }

    /// The targets on lenslet (ix, iy) of an array that points by `wcs`; `nominal`
    /// is the night's own pointing.
    pub fn targets(&self, c: &LensletConfig, wcs: &Wcs, nominal: &Wcs, ix: usize, iy: usize) -> Light {
        const C: f64 = 299_792.458;
        let place = |east: f64, north: f64| {
            let [x, y] = nominal.pixel_of_offset(east, north);
            let [ra, dec] = nominal.sky(x, y);
            wcs.pixel(ra, dec).unwrap_or([f64::MAX; 2])
        };
        let mut light = Light::default();
        for [east, north, flux, slope] in &self.stars {
            let [x, y] = place(*east, *north);
            let part = star(c, SIGMA * self.seeing / wcs.scale, [x, y], [ix, iy]);
            if c.disperses() {
                let own = tabulated(c, |wave, u| flux * (1.0 + slope * u) * part(wave));
                light = light.plus(&Light { table: own, ..Light::default() });
                continue;
            }
            let part = part(c.wave[0]);
            light.continuum += flux * part;
            light.slope += flux * part * slope;
        }
        let [x, y] = place(self.nebula[0], self.nebula[1]);
        let (sin, cos) = wcs.pa.to_radians().sin_cos();
        for [w, f] in &self.nebula_lines {
            let off = c.dispersion(*w);
            let (dx, dy) = ((ix as f64 - x - off[0]) * wcs.scale, (iy as f64 - y - off[1]) * wcs.scale);
            let level = (-(dx * dx + dy * dy) / (2.0 * self.nebula_radius.powi(2))).exp();
            let east = wcs.parity * dx * cos + dy * sin;
            let velocity = self.nebula_velocity * (east / self.nebula_radius).clamp(-3.0, 3.0);
            if level > 1e-6 {
                light.lines.push([w * (1.0 + velocity / C), f * level]);
            }
        }
        light
    }
}

/// The part of a star's light at (x, y) spaxels that falls on one lenslet, by wavelength.
fn star(c: &LensletConfig, sigma: f64, at: [f64; 2], lens: [usize; 2]) -> impl Fn(f64) -> f64 {
    move |wave| {
        let off = c.dispersion(wave);
        [0, 1].into_iter().map(|k| gauss_pixel(lens[k] as f64, at[k] + off[k], sigma)).product()
    }
}

/// A continuum as [`Light::table`] has it, from its density at a wavelength and u.
fn tabulated(c: &LensletConfig, density: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let at = |k: usize| TABLE * (2.0 * k as f64 / (SAMPLES - 1) as f64 - 1.0);
    let wave = |u: f64| 0.5 * (c.wave[0] + c.wave[1] + u * (c.wave[1] - c.wave[0]));
    (0..SAMPLES).map(|k| density(wave(at(k)), at(k))).collect()
}

impl Light {
    /// Both lights together.
    pub fn plus(&self, other: &Light) -> Light {
        let lines = [self.lines.as_slice(), other.lines.as_slice()].concat();
        let table = match (self.table.is_empty(), other.table.is_empty()) {
            (true, _) => other.table.clone(),
            (_, true) => self.table.clone(),
            _ => self.table.iter().zip(&other.table).map(|(a, b)| a + b).collect(),
        };
        Light { continuum: self.continuum + other.continuum, slope: self.slope + other.slope, lines, table }
    }

    /// Density of its continuum at u (−1 to 1 over the band), e-/s/µm.
    pub(super) fn density(&self, u: f64) -> f64 {
        let smooth = self.continuum + self.slope * u;
        if self.table.is_empty() {
            return smooth;
        }
        let at = ((u / TABLE + 1.0) / 2.0 * (SAMPLES - 1) as f64).clamp(0.0, (SAMPLES - 2) as f64);
        let (k, t) = (at as usize, at - at.floor());
        smooth + self.table[k] * (1.0 - t) + self.table[k + 1] * t
    }

    /// Whether it has no continuum.
    pub(super) fn is_dark(&self) -> bool {
        self.continuum == 0.0 && self.slope == 0.0 && self.table.is_empty()
    }
}

/// Samples a column of the fine grid on which continua are integrated.
const FINE: usize = 10;

/// A continuum on a fine grid of columns: e-/s a column at x₀ + k/FINE.
fn continuum(c: &LensletConfig, l: &Lenslet, light: &Light) -> (f64, Vec<f64>) {
    let margin = 10.0 * c.band_edge;
    let from = (l.column(l.wave[0] - margin)).floor();
    let to = (l.column(l.wave[1] + margin)).ceil();
    let n = ((to - from) * FINE as f64).clamp(0.0, 1e6) as usize;
    let values = (0..=n).map(|k| {
        let wave = l.wavelength(from + k as f64 / FINE as f64);
        let u = (2.0 * wave - l.wave[0] - l.wave[1]) / (l.wave[1] - l.wave[0]);
        light.density(u) * c.band(wave) / l.slope(wave)
    });
    (from, values.collect())
}

/// S(x): e-/s on each of `nx` columns, before throughput.
pub(super) fn spectrum(c: &LensletConfig, l: &Lenslet, light: &Light, nx: usize) -> Vec<f64> {
    let sigma = SIGMA * c.lsf;
    let mut out = vec![0.0; nx];
    let columns = |x: f64, reach: f64| {
        let from = (x - reach).ceil().clamp(0.0, nx as f64) as usize;
        from..((x + reach).floor() + 1.0).clamp(from as f64, nx as f64) as usize
    };
    let reach = 6.0 * sigma + 1.0;
    for [wave, flux] in &light.lines {
        let (x, flux) = (l.column(*wave), flux * c.band(*wave));
        columns(x, reach).for_each(|i| out[i] += flux * gauss_pixel(i as f64, x, sigma));
    }
    if light.is_dark() {
        return out;
    }
    let (x0, values) = continuum(c, l, light);
    let half = (reach * FINE as f64).ceil() as i64;
    let kernel: Vec<f64> = (-half..=half).map(|d| gauss_pixel(0.0, d as f64 / FINE as f64, sigma)).collect();
    for i in
        columns(x0 + values.len() as f64 / FINE as f64 / 2.0, values.len() as f64 / FINE as f64 / 2.0 + reach)
    {
        // x0 is whole, so every column's centre is a point of the fine grid.
        let centre = (i as i64 - x0 as i64) * FINE as i64;
        let from = (centre - half).max(0);
        let to = (centre + half).min(values.len() as i64 - 1);
        let sum: f64 = (from..=to).map(|k| values[k as usize] * kernel[(k - centre + half) as usize]).sum();
        out[i] += sum / FINE as f64;
    }
    out
}

/// The spectrum as the instrument's line-spread function shows it, without pixels:
/// density (e-/s/µm) at each of `waves`, before throughput.
pub(super) fn density(c: &LensletConfig, l: &Lenslet, light: &Light, waves: &[f64]) -> Vec<f32> {
    let sigma = SIGMA * c.lsf;
    let norm = 1.0 / (sigma * std::f64::consts::TAU.sqrt());
    let bell = |d: f64| (-0.5 * (d / sigma).powi(2)).exp();
    let step = 1.0 / FINE as f64;
    let half = (6.0 * sigma / step).ceil() as i64;
    // exp(−(d − m h)²/2σ²) = exp(−d²/2σ²) · exp(d h/σ²)ᵐ · table[m]: no exponential a sample.
    let table: Vec<f64> = (-half..=half).map(|m| bell(m as f64 * step)).collect();
    let dark = light.is_dark();
    let (x0, values) = if dark { (0.0, Vec::new()) } else { continuum(c, l, light) };
    let smooth = |x: f64| -> f64 {
        let at = (x - x0) / step;
        let node = at.round() as i64;
        let d = (at - node as f64) * step;
        let (from, to) = ((node - half).max(0), (node + half).min(values.len() as i64 - 1));
        let ratio = (d * step / (sigma * sigma)).exp();
        let mut factor = bell(d) * ratio.powf((from - node) as f64);
        let mut sum = 0.0;
        for k in from..=to {
            sum += values[k as usize] * table[(k - node + half) as usize] * factor;
            factor *= ratio;
        }
        sum * step
    };
    waves
        .iter()
        .map(|wave| {
            let x = l.column(*wave);
            let near = |at: f64| if (x - at).abs() < 8.0 * sigma { bell(x - at) } else { 0.0 };
            let lines: f64 = light.lines.iter().map(|[w, f]| f * c.band(*w) * near(l.column(*w))).sum();
            let sum = if dark { lines } else { lines + smooth(x) };
            (sum * norm * l.slope(*wave)) as f32
        })
        .collect()
}

/// P(y): the parts of a spectrum's light that the pixels `rows` get where its trace
/// is at `centre`.
fn profile(c: &LensletConfig, l: &Lenslet, rows: std::ops::Range<usize>, centre: f64) -> Vec<f64> {
    let width = std::f64::consts::SQRT_2 * SIGMA * l.fwhm;
    let below = |d: f64| {
        let core = 0.5 * erf(d / width);
        if c.wings == 0.0 { core } else { (1.0 - c.wings) * core + c.wings * 0.5 * erf(d / (3.0 * width)) }
    };
    let mut last = below(rows.start as f64 - 0.5 - centre);
    rows.map(|y| {
        let before = std::mem::replace(&mut last, below(y as f64 + 0.5 - centre));
        last - before
    })
    .collect()
}

/// The detector's illumination (ny, nx), e-/s, and each lenslet's S_l(x) with its
/// throughput (lenslets, nx), from the light on each lenslet. `change` is of a
/// two-dimensional point-spread function alone.
pub fn frame(
    c: &LensletConfig,
    lenslets: &[Lenslet],
    lights: &[Light],
    size: [usize; 2],
    change: &Change,
) -> (Vec<f32>, Vec<f32>) {
    if let Some(psf) = &c.psf {
        return psf::frame(c, psf, change, lenslets, lights, size);
    }
    let [nx, ny] = size;
    let spectra: Vec<Vec<f64>> = lenslets
        .par_iter()
        .zip(lights)
        .map(|(l, light)| spectrum(c, l, light, nx).iter().map(|s| s * l.throughput).collect())
        .collect();
    let mut image = vec![0f64; nx * ny];
    for (l, s) in lenslets.iter().zip(&spectra) {
        let reach = 6.0 * SIGMA * l.fwhm * if c.wings > 0.0 { 3.0 } else { 1.0 } + 1.0;
        for (x, value) in s.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let centre = l.row(x as f64);
            let from = (centre - reach).ceil().clamp(0.0, ny as f64) as usize;
            let to = (centre + reach).floor().clamp(-1.0, ny as f64 - 1.0) + 1.0;
            let rows = from..(to as usize).max(from);
            for (y, part) in rows.clone().zip(profile(c, l, rows, centre)) {
                image[y * nx + x] += value * part;
            }
        }
    }
    let to_f32 = |v: &f64| *v as f32;
    (image.iter().map(to_f32).collect(), spectra.iter().flatten().map(to_f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_is_conserved() {
        let c = LensletConfig { grid: [2, 1], throughput_spread: 0.0, ..Default::default() };
        let lenslets = c.lenslets([512, 512], 1);
        let line = Light { lines: vec![[2.15, 100.0]], ..Light::default() };
        let (image, spectra) =
            frame(&c, &lenslets, &[line.clone(), Light::default()], [512, 512], &Change::default());
        let total = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>();
        assert!((total(&image) - 100.0).abs() < 1e-3, "{}", total(&image));
        let x: f64 =
            spectra.iter().take(512).enumerate().map(|(i, s)| i as f64 * f64::from(*s)).sum::<f64>() / 100.0;
        assert!((x - lenslets[0].column(2.15)).abs() < 1e-3);
        // A flat continuum of 1000 e-/s/um over the band's 0.1 um.
        let flat = Light { continuum: 1000.0, ..Light::default() };
        let s = spectrum(&c, &lenslets[0], &flat, 512);
        assert!((s.iter().sum::<f64>() - 100.0).abs() < 1e-3, "{}", s.iter().sum::<f64>());
    }

    #[test]
    fn the_truth_cube_is_the_frame_before_pixels() {
        let c = LensletConfig { grid: [1, 1], throughput_spread: 0.0, ..Default::default() };
        let l = &c.lenslets([512, 512], 1)[0];
        let light =
            Light { continuum: 5000.0, slope: 1000.0, lines: vec![[2.16, 300.0]], ..Light::default() };
        let s = spectrum(&c, l, &light, 512);
        // Integrate the density over one detector column near the line.
        let x = l.column(2.16).round();
        let n = 400;
        let step = (l.wavelength(x + 0.5) - l.wavelength(x - 0.5)) / f64::from(n);
        let waves: Vec<f64> = (0..n).map(|k| l.wavelength(x - 0.5) + (f64::from(k) + 0.5) * step).collect();
        let sum: f64 = density(&c, l, &light, &waves).iter().map(|d| f64::from(*d) * step).sum();
        assert!((sum / s[x as usize] - 1.0).abs() < 1e-4, "{sum} {}", s[x as usize]);
    }

    #[test]
    fn targets_move_with_the_pointing() {
        let f = Field { nebula_lines: vec![], stars: vec![[0.018, 0.0, 1e5, 0.0]], ..Field::default() };
        let at = |ra: f64| Wcs::detector([ra, 0.0, 0.0], 0.009, -1.0, [17, 17], [0.0, 0.0]);
        let nominal = at(10.0);
        let c = LensletConfig::default();
        let flux = |w: &Wcs, ix| f.targets(&c, w, &nominal, ix, 8).continuum;
        // 2 spaxels east is 2 to the left; pointing 2 spaxels east centres it.
        assert!(flux(&nominal, 6) > flux(&nominal, 8));
        let moved = at(10.0 + 0.018 / 3600.0);
        assert!((flux(&moved, 8) / flux(&nominal, 6) - 1.0).abs() < 1e-6);
        // Dispersion moves its light with wavelength and keeps it.
        let c = LensletConfig { dispersion_x: vec![0.5], ..c };
        let at = |u: f64| -> (f64, f64) {
            let each = (0..17).map(|ix| (ix as f64, f.targets(&c, &moved, &nominal, ix, 8).density(u)));
            each.fold((0.0, 0.0), |s, (x, v)| (s.0 + v, s.1 + x * v))
        };
        let ((blue, bx), (red, rx)) = (at(-1.0), at(1.0));
        assert!((rx / red - bx / blue - 1.0).abs() < 1e-3, "{} {}", bx / blue, rx / red);
        assert!((red / blue - 1.0).abs() < 1e-3);
    }
}
