//! A trace's centre y(x), width σ(x) and spectrum S(x), from a frame in which it
//! stands alone.
//!
//! Model: pixel (x, y) = S(x) · (Gaussian at y(x) with σ(x), integrated over the
//! pixel); y and σ are Legendre series on the trace's columns. Gauss–Newton on the
//! coefficients of y and σ, S(x) being eliminated in every column (variable
//! projection), so that faint columns count for what they are worth. Weights come
//! from the model; pixels beyond 6 σ (σ² including 5 % of the model, squared) are
//! left out.

use super::gaussian;
use super::legendre::{self, Normal, unit};
use super::noise::Noise;
use super::trace::Rough;
use crate::datamodel::Rate;

const ITERATIONS: usize = 15;
/// Pixels beyond this are not fitted, σ.
const CLIP: f64 = 6.0;
/// Relative model error allowed for when pixels are left out.
const MODEL_ERROR: f64 = 0.05;
/// σ of the first guess and its bounds, rows.
const WIDTH: (f64, f64, f64) = (0.8, 0.3, 3.0);
/// A column belongs to the spectrum where it has this fraction of the median flux
/// at this significance.
const EDGE: (f64, f64) = (0.1, 5.0);

/// A measured trace.
#[derive(Debug, Clone)]
pub struct Shape {
    /// First and last column, inclusive; the series' interval.
    pub range: (usize, usize),
    /// Series of y.
    pub centre: Vec<f64>,
    /// Series of σ, rows.
    pub sigma: Vec<f64>,
    /// S and its variance in each column of the range; NaN where unknown.
    pub flux: Vec<(f64, f64)>,
    /// Error of y in the middle, rows.
    pub error: f64,
    /// Reduced χ².
    pub chi2: f64,
    /// Residual beyond the noise as a fraction of the model (rms over rms).
    pub misfit: f64,
}

impl Shape {
    /// y at column `x`.
    pub fn y(&self, x: f64) -> f64 {
        legendre::value(&self.centre, unit(x, self.range.0 as f64, self.range.1 as f64))
    }

    /// σ at column `x`.
    pub fn width(&self, x: f64) -> f64 {
        let s = legendre::value(&self.sigma, unit(x, self.range.0 as f64, self.range.1 as f64));
        s.clamp(WIDTH.1, WIDTH.2)
    }

    /// The same curve as series on another interval.
    fn on(&self, range: (usize, usize)) -> Option<Shape> {
        let t = |x: usize| unit(x as f64, range.0 as f64, range.1 as f64);
        let series = |f: &dyn Fn(f64) -> f64, degree: usize| {
            let points: Vec<_> = (range.0..=range.1).map(|x| (t(x), f(x as f64), 1.0)).collect();
            legendre::fit(&points, degree)
        };
        let centre = series(&|x| self.y(x), self.centre.len() - 1)?;
        let sigma = series(&|x| self.width(x), self.sigma.len() - 1)?;
        Some(Shape { range, centre, sigma, ..self.clone() })
    }
}

/// Measures the trace that begins as `rough`; `degrees` of y and σ. `None` where
/// there is no spectrum that a fit holds on to.
pub fn measure(rate: &Rate, noise: &Noise, rough: &Rough, degrees: (usize, usize)) -> Option<Shape> {
    let range = rough.range(rate.nx);
    let t = |x: f64| unit(x, range.0 as f64, range.1 as f64);
    let points: Vec<_> = rough.points.iter().map(|(x, y)| (t(*x), *y, 1.0)).collect();
    let mut shape = Shape {
        range,
        centre: legendre::robust_fit(&points, degrees.0.min(2), 5.0, 0.3)?,
        sigma: vec![WIDTH.0],
        flux: Vec::new(),
        error: f64::INFINITY,
        chi2: f64::NAN,
        misfit: f64::NAN,
    };
    shape.centre.resize(degrees.0 + 1, 0.0);
    shape.sigma.resize(degrees.1 + 1, 0.0);
    refine(rate, noise, &mut shape)?;
    let range = lit_columns(rate, noise, &shape)?;
    if range.1 - range.0 < 2 * (degrees.0 + 1) {
        return None;
    }
    let mut shape = shape.on(range)?;
    refine(rate, noise, &mut shape)?;
    (shape.error < 0.2).then_some(shape)
}

/// One column's fit of S for a given profile.
struct Column {
    /// (weight, residual, ∂P/∂y, ∂P/∂σ, P) of the pixels used.
    pixels: Vec<[f64; 5]>,
    flux: f64,
    variance: f64,
    spent: (f64, f64, f64),
}

fn column(rate: &Rate, noise: &Noise, x: usize, y: f64, sigma: f64, clip: f64) -> Option<Column> {
    let half = (4.0 * sigma).ceil() as i64 + 1;
    let middle = y.round() as i64;
    let mut pixels = Vec::with_capacity(2 * half as usize + 1);
    let mut covered = 0.0;
    for row in middle - half..=middle + half {
        let Some(row_index) = usize::try_from(row).ok().filter(|r| *r < rate.ny) else { continue };
        let p = noise.pixel(rate, row_index * rate.nx + x);
        if p.variance > 0.0 {
            let (value, by_y, by_sigma) = gaussian::with_slopes(y, sigma, row);
            covered += value;
            pixels.push([f64::from(p.variance), f64::from(p.rate), by_y, by_sigma, value]);
        }
    }
    if covered < 0.7 {
        return None;
    }
    let solve = |pixels: &[[f64; 5]], flux: f64| {
        let weight = |p: &[f64; 5]| 1.0 / (p[0] + noise.factor * (flux * p[4]).max(0.0));
        let (top, bottom) = pixels
            .iter()
            .map(|p| (weight(p) * p[4] * p[1], weight(p) * p[4] * p[4]))
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (top / bottom, 1.0 / bottom)
    };
    let mut flux = solve(&pixels, 0.0).0;
    for _ in 0..2 {
        flux = solve(&pixels, flux).0;
        let far = |p: &[f64; 5]| {
            let m = flux.max(0.0) * p[4];
            let v = p[0] + noise.factor * m + (MODEL_ERROR * flux * p[4].max(0.05)).powi(2);
            (p[1] - flux * p[4]).powi(2) / v
        };
        // The worst goes, and the fit is done again.
        let worst = pixels.iter().enumerate().max_by(|a, b| far(a.1).total_cmp(&far(b.1)));
        match worst.map(|(i, p)| (i, far(p))) {
            Some((i, z)) if z > clip * clip && pixels.len() > 3 => {
                covered -= pixels[i][4];
                pixels.remove(i);
            }
            _ => break,
        }
    }
    let (flux, variance) = solve(&pixels, flux);
    if covered < 0.5 || !flux.is_finite() {
        return None;
    }
    let mut spent = (0.0, 0.0, 0.0);
    for p in &mut pixels {
        let v = p[0] + noise.factor * (flux * p[4]).max(0.0);
        let r = p[1] - flux * p[4];
        spent.0 += r * r / v;
        spent.1 += r * r - v;
        spent.2 += (flux * p[4]).powi(2);
        (p[0], p[1]) = (1.0 / v, r);
    }
    Some(Column { pixels, flux, variance, spent })
}

/// Gauss–Newton on the coefficients; leaves flux, error, χ² and misfit.
fn refine(rate: &Rate, noise: &Noise, shape: &mut Shape) -> Option<()> {
    let (ny, ns) = (shape.centre.len(), shape.sigma.len());
    let (low, high) = (shape.range.0 as f64, shape.range.1 as f64);
    let mut basis = vec![0.0; ny.max(ns)];
    for iteration in 0..ITERATIONS {
        let mut normal = Normal::new(ny + ns);
        let clip = if iteration < 3 { 1e3 } else { CLIP };
        let mut totals = (0.0, 0.0, 0.0, 0usize);
        shape.flux.clear();
        for x in shape.range.0..=shape.range.1 {
            let t = unit(x as f64, low, high);
            let (y, sigma) = (shape.y(x as f64), shape.width(x as f64));
            let Some(c) = column(rate, noise, x, y, sigma, clip) else {
                shape.flux.push((f64::NAN, f64::NAN));
                continue;
            };
            shape.flux.push((c.flux, c.variance));
            totals.0 += c.spent.0;
            totals.1 += c.spent.1;
            totals.2 += c.spent.2;
            totals.3 += c.pixels.len().saturating_sub(1);
            // Derivatives by y and σ without what a change of S would do as well.
            let sum =
                |f: &dyn Fn(&[f64; 5]) -> f64| -> f64 { c.pixels.iter().map(|p| p[0] * f(p)).sum::<f64>() };
            let pp = sum(&|p| p[4] * p[4]);
            let (py, ps) = (sum(&|p| p[4] * p[2]) / pp, sum(&|p| p[4] * p[3]) / pp);
            let (dy, ds) = (|p: &[f64; 5]| p[2] - py * p[4], |p: &[f64; 5]| p[3] - ps * p[4]);
            let s = c.flux;
            let yy = s * s * sum(&|p| dy(p) * dy(p));
            let yo = s * s * sum(&|p| dy(p) * ds(p));
            let oo = s * s * sum(&|p| ds(p) * ds(p));
            let (ry, ro) = (s * sum(&|p| dy(p) * p[1]), s * sum(&|p| ds(p) * p[1]));
            legendre::each(t, basis.len(), |k, p| basis[k] = p);
            for i in 0..ny {
                normal.add_right(i, ry * basis[i]);
                (0..=i).for_each(|j| normal.add_to(i, j, yy * basis[i] * basis[j]));
                (0..ns).for_each(|j| normal.add_to(ny + j, i, yo * basis[i] * basis[j]));
            }
            for i in 0..ns {
                normal.add_right(ny + i, ro * basis[i]);
                (0..=i).for_each(|j| normal.add_to(ny + i, ny + j, oo * basis[i] * basis[j]));
            }
        }
        let (step, variance) = normal.solve()?;
        // Σ|c| bounds the change of the curve; far steps are shortened.
        let (far_y, far_s) = (
            step[..ny].iter().map(|v| v.abs()).sum::<f64>(),
            step[ny..].iter().map(|v| v.abs()).sum::<f64>(),
        );
        let shorten = (1.0 / (far_y / 0.7).max(far_s / 0.2)).min(1.0);
        shape.centre.iter_mut().zip(&step).for_each(|(c, d)| *c += shorten * d);
        shape.sigma.iter_mut().zip(&step[ny..]).for_each(|(c, d)| *c += shorten * d);
        shape.error = variance[0].sqrt();
        let freedom = totals.3.saturating_sub(ny + ns).max(1);
        shape.chi2 = totals.0 / freedom as f64;
        shape.misfit = (totals.1.max(0.0) / totals.2.max(f64::MIN_POSITIVE)).sqrt();
        if iteration > 3 && far_y.max(far_s) < 1e-5_f64.max(0.02 * shape.error) {
            return Some(());
        }
    }
    Some(())
}

/// The columns that the spectrum covers, looked for beyond both ends of the range.
fn lit_columns(rate: &Rate, noise: &Noise, shape: &Shape) -> Option<(usize, usize)> {
    let level = legendre::median(shape.flux.iter().map(|f| f.0).collect());
    let middle = (shape.range.0 + shape.range.1) / 2;
    let lit = |x: usize| {
        let (y, sigma) = (shape.y(x as f64), shape.width(x as f64));
        // The whole core of the profile must be on the detector.
        if y < 1.0 || y > rate.ny as f64 - 2.0 {
            return Some(false);
        }
        let c = column(rate, noise, x, y, sigma, CLIP)?;
        Some(c.flux > EDGE.0 * level && c.flux > EDGE.1 * c.variance.sqrt())
    };
    // Outwards from the middle; columns that cannot be told are passed over, three
    // dark ones in a row are the end.
    let walk = |columns: &mut dyn Iterator<Item = usize>| {
        let (mut last, mut dark) = (None, 0);
        for x in columns {
            match lit(x) {
                Some(true) => (last, dark) = (Some(x), 0),
                Some(false) => dark += 1,
                None => {}
            }
            if dark >= 3 {
                break;
            }
        }
        last
    };
    let beyond = 24;
    let right = walk(&mut (middle..=(shape.range.1 + beyond).min(rate.nx - 1)))?;
    let left = walk(&mut (shape.range.0.saturating_sub(beyond)..=middle).rev())?;
    Some((left, right))
}
