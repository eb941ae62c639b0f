//! The lenslet spectrograph's layout: where each lenslet's spectrum falls.
//!
//! Lenslets (ix, iy), both from 0, stand on a lattice of pitch (px, py) detector
//! pixels turned by `angle`; nothing assumes rows. With u ∈ [−1, 1] the wavelength
//! scaled from `wave`, and (X, Y) the lenslet's place,
//!
//! ```text
//! x(λ) = X + span/2 · (1 + dispersion_field · X̂) · u + bend · (u² − 1/3)
//! y(x) = Y + (tilt + tilt_field · Ŷ)(x − X) + curvature · (x − X)²
//! ```
//!
//! with X̂, Ŷ the place relative to the frame's half sides. Pixels are counted from
//! 0, a pixel's centre is an integer.

use serde::{Deserialize, Serialize};

use super::philox::{Purpose, Source};
use super::psf::{Change, Psf};
use super::spectra::Field;
use crate::config::LensletFormat;
use crate::error::{Error, Result};

/// The lenslet spectrograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LensletConfig {
    /// FILTER ("KN3").
    pub filter: String,
    /// GRATING ("K4000").
    pub grating: String,
    /// Arcsec a spaxel (0.009).
    pub scale: f64,
    /// Lenslets along ix and iy ([16, 16]).
    pub grid: [usize; 2],
    /// Detector pixels from lenslet to lenslet along ix and iy ([18, 28]).
    pub pitch: [f64; 2],
    /// Turn of the lattice, degrees (10.99: spectra of neighbours 3.4 px apart).
    pub angle: f64,
    /// Shift along x from iy to iy + 1 beyond the lattice's turn, pixels (0; half of
    /// `pitch[0]` makes a hexagonal lattice).
    pub skew: f64,
    /// Pincushion of the lattice: shift of its corners, pixels (1).
    pub distortion: f64,
    /// Scatter of the lenslets' places, pixels (0.05).
    pub jitter: f64,
    /// Ends of the band, vacuum µm ([2.10, 2.20]).
    pub wave: [f64; 2],
    /// Softness of the band's edges, µm (0.001).
    pub band_edge: f64,
    /// Length of the band on the detector, pixels (130).
    pub span: f64,
    /// Quadratic term of x(λ), pixels (1.5).
    pub bend: f64,
    /// Relative change of dispersion from the centre to the side of the frame (0.02).
    pub dispersion_field: f64,
    /// Slope of the traces (0.010).
    pub tilt: f64,
    /// Change of slope from the centre to the side of the frame (0.004).
    pub tilt_field: f64,
    /// Curvature of the traces, px⁻¹ (0.00005).
    pub curvature: f64,
    /// FWHM of the profile across dispersion, pixels, at the centre and the corner
    /// ([1.7, 2.1]).
    pub fwhm: [f64; 2],
    /// Fraction of the profile in wings three times as wide (0).
    pub wings: f64,
    /// FWHM along dispersion, pixels (2.0).
    pub lsf: f64,
    /// Spread of the lenslets' throughput (0.08).
    pub throughput_spread: f64,
    /// Blocks of lenslet columns that stand one behind the other along dispersion (1):
    /// the grid's columns are shared out among them.
    pub blocks: usize,
    /// Pixels along x from block to block (585).
    pub block_step: f64,
    /// How far the spectra move on the detector in an hour from the night's start, columns
    /// and rows ([0, 0]).
    pub drift: [f64; 2],
    /// Instrumental dispersion along ix, spaxels: coefficients of u, u² …, with u from −1
    /// to 1 over the band; targets and point sources move by it (none).
    pub dispersion_x: Vec<f64>,
    /// The same along iy.
    pub dispersion_y: Vec<f64>,
    /// A two-dimensional point-spread function in place of `fwhm`, `wings` and `lsf` (none).
    pub psf: Option<Psf>,
    /// How it differs for sky and targets (not at all).
    pub science: Change,
    /// What it sees.
    pub field: Field,
}

impl Default for LensletConfig {
    fn default() -> Self {
        LensletConfig {
            filter: "KN3".into(),
            grating: "K4000".into(),
            scale: 0.009,
            grid: [16, 16],
            pitch: [18.0, 28.0],
            angle: 10.99,
            skew: 0.0,
            distortion: 1.0,
            jitter: 0.05,
            wave: [2.10, 2.20],
            band_edge: 0.001,
            span: 130.0,
            bend: 1.5,
            dispersion_field: 0.02,
            tilt: 0.010,
            tilt_field: 0.004,
            curvature: 5e-5,
            fwhm: [1.7, 2.1],
            wings: 0.0,
            lsf: 2.0,
            throughput_spread: 0.08,
            blocks: 1,
            block_step: 585.0,
            drift: [0.0; 2],
            dispersion_x: Vec::new(),
            dispersion_y: Vec::new(),
            psf: None,
            science: Change::default(),
            field: Field::default(),
        }
    }
}

/// One lenslet's spectrum on the detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Lenslet {
    /// Column of the array, from 0.
    pub ix: usize,
    /// Row of the array, from 0.
    pub iy: usize,
    /// `x(λ) = Σ x[k] uᵏ`.
    pub x: [f64; 3],
    /// `y(x) = Σ y[k] (x − x_ref)ᵏ`.
    pub y: [f64; 3],
    /// Where `y` is expanded.
    pub x_ref: f64,
    /// FWHM across dispersion, pixels.
    pub fwhm: f64,
    /// Throughput, mean 1.
    pub throughput: f64,
    /// Ends of the band, µm.
    pub wave: [f64; 2],
    /// Place in the field, −1 to 1 along ix and iy.
    pub field: [f64; 2],
}

impl LensletConfig {
    pub(super) fn check(&self) -> Result<()> {
        let fail = |m: &str| Err(Error::Config(format!("lenslet: {m}")));
        if !(1..=4096).contains(&self.grid[0]) || !(1..=4096).contains(&self.grid[1]) {
            return fail("grid must have 1 to 4096 lenslets a side");
        }
        let numbers = [
            self.angle,
            self.skew,
            self.distortion,
            self.jitter,
            self.bend,
            self.dispersion_field,
            self.tilt,
            self.tilt_field,
            self.curvature,
            self.pitch[0],
            self.pitch[1],
            self.throughput_spread,
            self.drift[0],
            self.drift[1],
        ];
        let dispersion = || self.dispersion_x.iter().chain(&self.dispersion_y);
        if dispersion().any(|v| !(v.is_finite() && v.abs() < 100.0)) {
            return fail("dispersion_x and dispersion_y are spaxels, less than 100");
        }
        if numbers.iter().any(|v| !v.is_finite()) {
            return fail("all numbers must be finite");
        }
        if !(self.wave[0] > 0.0 && self.wave[1] > self.wave[0] && self.wave[1] < 100.0) {
            return fail("wave must be [shortest, longest] in um");
        }
        let positive = [self.band_edge, self.span, self.fwhm[0], self.fwhm[1], self.lsf, self.scale];
        if positive.iter().any(|v| !(v.is_finite() && *v > 0.0)) || self.span > 16_384.0 {
            return fail("band_edge, span, fwhm, lsf and scale must be positive");
        }
        if self.dispersion_field.abs() > 0.2 || self.bend.abs() > 0.05 * self.span {
            return fail("dispersion_field is at most 0.2, bend at most a twentieth of span");
        }
        if self.fwhm.iter().any(|f| *f > 100.0) || self.lsf > 100.0 {
            return fail("fwhm and lsf are at most 100 pixels");
        }
        if self.wings < 0.0 || self.wings >= 1.0 || self.throughput_spread < 0.0 {
            return fail("wings is a fraction, throughput_spread is not negative");
        }
        if self.blocks == 0 || !self.grid[0].is_multiple_of(self.blocks) || !self.block_step.is_finite() {
            return fail("blocks must share the grid's columns out evenly");
        }
        self.psf.as_ref().map_or(Ok(()), |p| p.check(&self.science))?;
        self.field.check()
    }

    /// These spectra in one of the instrument's layouts.
    #[must_use]
    pub fn laid_out(self, format: &LensletFormat) -> LensletConfig {
        LensletConfig {
            grid: format.grid,
            blocks: format.blocks,
            block_step: format.block_step,
            pitch: format.pitch,
            angle: format.angle,
            skew: format.skew,
            span: format.span,
            ..self
        }
    }

    /// Every lenslet, iy the slow index, on a detector of `size` (columns, rows).
    pub fn lenslets(&self, size: [usize; 2], seed: u64) -> Vec<Lenslet> {
        let mut s = Source::new(seed, Purpose::Lenslet, 0).stream(0, 0);
        let (sin, cos) = self.angle.to_radians().sin_cos();
        let half = [(size[0] as f64 - 1.0) / 2.0, (size[1] as f64 - 1.0) / 2.0];
        let [nx, ny] = self.grid;
        let columns = nx / self.blocks.max(1);
        let side = |i: usize, n: usize| if n > 1 { 2.0 * i as f64 / (n as f64 - 1.0) - 1.0 } else { 0.0 };
        let mut out = Vec::with_capacity(nx * ny);
        for iy in 0..ny {
            for ix in 0..nx {
                let (block, column) = (ix / columns, ix % columns);
                let a = self.pitch[0] * (column as f64 - (columns as f64 - 1.0) / 2.0);
                let behind = self.block_step * (block as f64 - (self.blocks as f64 - 1.0) / 2.0);
                let b = self.pitch[1] * (iy as f64 - (ny as f64 - 1.0) / 2.0);
                let skew = self.skew * (iy as f64 - (ny as f64 - 1.0) / 2.0);
                let (u, v) = (a * cos - b * sin + skew, a * sin + b * cos);
                let r2 = ((u / half[0]).powi(2) + (v / half[1]).powi(2)) / 2.0;
                let (hx, hy) = (u / half[0], v / half[1]);
                let x = half[0] + behind + u + self.distortion * hx * r2 + self.jitter * s.normal();
                let y = half[1] + v + self.distortion * hy * r2 + self.jitter * s.normal();
                let throughput = (1.0 + self.throughput_spread * s.normal()).max(0.2);
                let stretch = 1.0 + self.dispersion_field * hx.clamp(-2.0, 2.0);
                out.push(Lenslet {
                    ix,
                    iy,
                    x: [x - self.bend / 3.0, self.span / 2.0 * stretch, self.bend],
                    y: [y, self.tilt + self.tilt_field * hy, self.curvature],
                    x_ref: x,
                    fwhm: self.fwhm[0] + (self.fwhm[1] - self.fwhm[0]) * r2.min(1.0),
                    throughput,
                    wave: self.wave,
                    field: [side(ix, nx), side(iy, ny)],
                });
            }
        }
        let mean = out.iter().map(|l| l.throughput).sum::<f64>() / out.len() as f64;
        out.iter_mut().for_each(|l| l.throughput /= mean);
        out
    }

    /// How far light of `wave` stands off, spaxels along ix and iy.
    pub fn dispersion(&self, wave: f64) -> [f64; 2] {
        let u = (2.0 * wave - self.wave[0] - self.wave[1]) / (self.wave[1] - self.wave[0]);
        let sum = |c: &[f64]| c.iter().rev().fold(0.0, |sum, c| u * (c + sum));
        [sum(&self.dispersion_x), sum(&self.dispersion_y)]
    }

    /// Whether it has any.
    pub(super) fn disperses(&self) -> bool {
        self.dispersion_x.iter().chain(&self.dispersion_y).any(|c| *c != 0.0)
    }

    /// The band's transmission: 1 inside `wave`, soft edges.
    pub fn band(&self, wave: f64) -> f64 {
        let edge = |d: f64| 0.5 * (1.0 + (d / self.band_edge).tanh());
        edge(wave - self.wave[0]) * edge(self.wave[1] - wave)
    }
}

impl Lenslet {
    fn u(&self, wave: f64) -> f64 {
        (2.0 * wave - self.wave[0] - self.wave[1]) / (self.wave[1] - self.wave[0])
    }

    /// The lenslet with its spectrum moved by `by` columns and rows.
    #[must_use]
    pub fn moved(&self, by: [f64; 2]) -> Lenslet {
        let mut out = self.clone();
        out.x[0] += by[0];
        out.x_ref += by[0];
        out.y[0] += by[1];
        out
    }

    /// Detector column of a wavelength (µm).
    pub fn column(&self, wave: f64) -> f64 {
        let u = self.u(wave);
        self.x[0] + u * (self.x[1] + u * self.x[2])
    }

    /// Wavelength (µm) at a detector column.
    pub fn wavelength(&self, x: f64) -> f64 {
        let d = x - self.x[0];
        let mut u = d / self.x[1];
        for _ in 0..5 {
            u -= (u * (self.x[1] + u * self.x[2]) - d) / (self.x[1] + 2.0 * u * self.x[2]);
        }
        0.5 * (self.wave[0] + self.wave[1] + u * (self.wave[1] - self.wave[0]))
    }

    /// dx/dλ, columns a µm.
    pub fn slope(&self, wave: f64) -> f64 {
        let u = self.u(wave);
        (self.x[1] + 2.0 * u * self.x[2]) * 2.0 / (self.wave[1] - self.wave[0])
    }

    /// Row of the trace's centre at a detector column.
    pub fn row(&self, x: f64) -> f64 {
        let d = x - self.x_ref;
        self.y[0] + d * (self.y[1] + d * self.y[2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_invert_and_keep_apart() {
        let c = LensletConfig::default();
        let all = c.lenslets([512, 512], 1);
        assert_eq!(all.len(), 256);
        for l in &all {
            for wave in [2.095, 2.13, 2.2] {
                let x = l.column(wave);
                assert!((l.wavelength(x) - wave).abs() < 1e-12);
                let h = 1e-6;
                let numeric = (l.column(wave + h) - l.column(wave - h)) / (2.0 * h);
                assert!((numeric / l.slope(wave) - 1.0).abs() < 1e-6);
                assert!(x > 4.0 && x < 508.0, "lenslet {} {} leaves the frame at {x}", l.ix, l.iy);
                let y = l.row(x);
                assert!(y > 8.0 && y < 504.0, "lenslet {} {} leaves the frame at row {y}", l.ix, l.iy);
            }
        }
        // At every column, the spectra lit there are at least 2.5 px apart.
        for column in (10..500).step_by(10) {
            let x = f64::from(column);
            let lit = |l: &&Lenslet| (2.10..=2.20).contains(&l.wavelength(x));
            let mut rows: Vec<f64> = all.iter().filter(lit).map(|l| l.row(x)).collect();
            rows.sort_by(f64::total_cmp);
            assert!(rows.windows(2).all(|w| w[1] - w[0] > 2.5), "column {column}");
        }
    }
}
