//! How much linearity stretches the noise of a read.
//!
//! y = P(x) takes counts x to linear ones; the noise of a read enters at x, so that
//! after P it is P'(x) times as large: in the bright end of a ramp by as much as the
//! detector compresses there.

use std::ops::Range;

use super::ramps::Corrected;
use crate::datamodel::Meta;
use crate::error::Result;
use crate::pipeline::Job;
use crate::refs::{Frame, NonlinFile, ZeroPoint};

/// The polynomials that a set's ramps went through.
pub(super) struct Stretch(NonlinFile);

/// The coefficients of some rows, `[power][pixel]`.
pub(super) struct Polynomials(Vec<Vec<f32>>);

impl Stretch {
    /// `None` where the ramps were not made linear, and where each ramp's first read is
    /// its zero (its noise then enters all the others).
    pub(super) fn open(job: &Job, set: &Corrected) -> Result<Option<Stretch>> {
        let linear = set.ramps[0].header.text("S_NLCORR").as_deref() == Some("COMPLETE");
        let Some(path) = job.references.get("nonlin").filter(|_| linear) else { return Ok(None) };
        let (ny, nx) = set.size();
        let file = NonlinFile::open(path, &Frame::new(&Meta::from_header(&set.header()), ny, nx))?;
        Ok(Some(Stretch(file)).filter(|s| s.0.zero_point != ZeroPoint::First))
    }

    /// The polynomials of rows `rows`, of `pixels` pixels.
    pub(super) fn rows(&self, rows: Range<usize>, pixels: usize) -> Result<Polynomials> {
        let mut planes = vec![vec![0.0; pixels]; self.0.ncoef()];
        let mut slices: Vec<&mut [f32]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        self.0.read(rows, &mut slices, &mut vec![0; pixels])?;
        Ok(Polynomials(planes))
    }
}

impl Polynomials {
    /// P' of the mean polynomial of `pixels`, where P is each of `levels`.
    pub(super) fn factors(&self, pixels: &[usize], levels: &[f64]) -> Vec<f64> {
        let mean =
            |plane: &Vec<f32>| pixels.iter().map(|p| f64::from(plane[*p])).sum::<f64>() / pixels.len() as f64;
        let c: Vec<f64> = self.0.iter().map(mean).collect();
        levels.iter().map(|y| slope_at(&c, *y)).collect()
    }
}

/// P'(x) where P(x) = `y`, by Newton's method from x = y; 1 where that leads nowhere.
fn slope_at(c: &[f64], y: f64) -> f64 {
    let value = |x: f64| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
    let slope = |x: f64| (1..c.len()).rev().fold(0.0, |sum, k| sum * x + k as f64 * c[k]);
    let mut x = y;
    for _ in 0..20 {
        x -= (value(x) - y) / slope(x);
    }
    let found = slope(x);
    if (value(x) - y).abs() < 1e-3 + 1e-6 * y.abs() && found > 0.0 { found } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_stretched_by_the_derivative() {
        let (c, x) = ([3.0, 1.0, 2e-6, 1e-11], 30_000.0);
        let y = c[0] + x * (c[1] + x * (c[2] + x * c[3]));
        let expected = 1.0 + 2.0 * c[2] * x + 3.0 * c[3] * x * x;
        assert!((slope_at(&c, y) - expected).abs() < 1e-9);
        assert_eq!(slope_at(&[0.0, 1.0], 5.0), 1.0);
        // Counts that the polynomial never gives.
        assert_eq!(slope_at(&[0.0, 1.0, -1e-4], 1e6), 1.0);
        let p = Polynomials(vec![vec![0.0; 2], vec![1.0, 3.0]]);
        assert_eq!(p.factors(&[0, 1], &[10.0]), [2.0]);
    }
}
