//! Wavelengths of all spaxels as a reference of their own, which stand in place of a LEN-SPX
//! calibration's. [`super::solve`] makes them of arcs.

use std::collections::BTreeMap;

use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::pipeline::lenspx::legendre::{self, unit};
use crate::pipeline::lenspx::{LensCal, Mode};

/// A spaxel's solution.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The lenslet's number.
    pub id: i32,
    /// Spaxel.
    pub ix: i32,
    /// Spaxel.
    pub iy: i32,
    /// First column of the series' interval.
    pub xmin: usize,
    /// Last column.
    pub xmax: usize,
    /// Legendre series, vacuum µm.
    pub wave: Vec<f64>,
    /// Scatter of its lines about it, µm; NaN without lines.
    pub rms: f64,
    /// Its lines.
    pub lines: usize,
    /// σ of the line-spread function, columns; NaN without lines.
    pub sigma: f64,
    /// Data quality.
    pub dq: u32,
}

/// How a line fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Vacuum µm.
    pub wavelength: f64,
    /// Spaxels that it was measured in.
    pub spaxels: usize,
    /// Mean distance from the solution, columns.
    pub offset: f64,
    /// Its scatter, columns.
    pub rms: f64,
}

/// Wavelengths of all spaxels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wavemap {
    /// What it is valid for.
    pub mode: Mode,
    /// By lenslet number.
    pub spaxels: Vec<Solution>,
    /// The lines that it was made of, by wavelength.
    pub lines: Vec<Fitted>,
    /// Total degree of the change in t, IX and IY over the field.
    pub degree: usize,
    /// Mean distance of the lines from where the LEN-SPX calibration has them, columns.
    pub shift: f64,
    /// Median over spaxels of the lines' scatter, columns.
    pub rms: f64,
    /// Scatter of the spaxels' c_k about the field, columns.
    pub scatter: Vec<f64>,
}

impl Wavemap {
    /// Puts its wavelengths in place of a calibration's. The calibration's limits WAVMIN
    /// and WAVMAX stay, so that cubes with other wavelengths have the same channels.
    ///
    /// # Errors
    /// Of another mode, or of another array of lenslets.
    pub fn apply(&self, cal: &mut LensCal) -> Result<()> {
        let fail = |m: String| Err(Error::reference("wavemap", m));
        let (own, its) = (&self.mode, &cal.mode);
        let texts = [
            ("DETECTOR", &own.detector, &its.detector),
            ("FILTER", &own.filter, &its.filter),
            ("GRATING", &own.grating, &its.grating),
        ];
        for (keyword, a, b) in texts {
            if !a.eq_ignore_ascii_case(b) {
                return fail(format!(
                    "was made with {keyword} = '{a}', the LEN-SPX calibration with '{b}': take arcs of that mode"
                ));
            }
        }
        if (own.nx, own.ny) != (its.nx, its.ny) || (own.scale - its.scale).abs() > 1e-6 {
            return fail(format!(
                "was made for {} × {} pixels and SCALE = {}, the LEN-SPX calibration for {} × {} and {}",
                own.nx, own.ny, own.scale, its.nx, its.ny, its.scale
            ));
        }
        let by_id: BTreeMap<i32, &Solution> = self.spaxels.iter().map(|s| (s.id, s)).collect();
        for l in &mut cal.lenslets {
            let Some(s) = by_id.get(&l.id) else {
                l.dq |= dq::UNRELIABLE_WS;
                continue;
            };
            if (s.ix, s.iy) != (l.ix, l.iy) {
                return fail(format!(
                    "has lenslet {} at ({}, {}), the LEN-SPX calibration at ({}, {}): they count lenslets differently",
                    l.id, s.ix, s.iy, l.ix, l.iy
                ));
            }
            l.dq |= s.dq;
            l.wave = s.on(l.xmin, l.xmax);
        }
        Ok(())
    }
}

impl Solution {
    /// Its series on another interval of columns: the same polynomial.
    fn on(&self, xmin: usize, xmax: usize) -> Vec<f64> {
        if (xmin, xmax) == (self.xmin, self.xmax) {
            return self.wave.clone();
        }
        let n = self.wave.len();
        let points: Vec<(f64, f64, f64)> = (0..2 * n)
            .map(|i| (2 * i + 1) as f64 / (2 * n) as f64 - 1.0)
            .map(|t| {
                let x = xmin as f64 + (t + 1.0) / 2.0 * (xmax - xmin) as f64;
                (t, legendre::value(&self.wave, unit(x, self.xmin as f64, self.xmax as f64)), 1.0)
            })
            .collect();
        legendre::fit(&points, n - 1).unwrap_or_else(|| self.wave.clone())
    }
}
