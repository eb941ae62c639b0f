//! Stars: where they are, how wide, how sharp, and how faint one could still be seen.
//!
//! A star is fitted with an elliptical Gaussian on a constant background, by least
//! squares (Levenberg–Marquardt), within 1.25 of its own widths of its centre, so that a
//! halo is background rather than width. A pixel is a mean over its square, which adds
//! 1/12 pixel² to the variance of a profile; that is taken off again.

use serde::Serialize;

use crate::pipeline::robust::clipped_median;

/// FWHM of a Gaussian of σ = 1.
pub const FWHM: f64 = 2.354_820_045;

/// A plane: (ny, nx), not finite where there is no value.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Columns.
    pub nx: usize,
    /// Values, rows from below.
    pub values: &'a [f32],
}

impl Field<'_> {
    fn ny(&self) -> usize {
        self.values.len() / self.nx.max(1)
    }

    fn at(&self, x: i64, y: i64) -> Option<f64> {
        let inside = x >= 0 && y >= 0 && x < self.nx as i64 && y < self.ny() as i64;
        let value = inside.then(|| f64::from(self.values[y as usize * self.nx + x as usize]));
        value.filter(|v| v.is_finite())
    }

    /// Pixels with a value within `radius` of (x, y): x, y, value.
    fn within(&self, x: f64, y: f64, radius: f64) -> Vec<[f64; 3]> {
        let mut out = Vec::new();
        for j in (y - radius).ceil() as i64..=(y + radius).floor() as i64 {
            for i in (x - radius).ceil() as i64..=(x + radius).floor() as i64 {
                let (u, v) = (i as f64, j as f64);
                if (u - x).hypot(v - y) <= radius
                    && let Some(value) = self.at(i, j)
                {
                    out.push([u, v, value]);
                }
            }
        }
        out
    }
}

/// A fitted star. Positions count from 0 at the centre of the first pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Star {
    /// Column.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Height of the fitted Gaussian above the background.
    pub peak: f64,
    /// Level under the star.
    pub background: f64,
    /// Full width at half maximum, pixels: geometric mean of both axes.
    pub fwhm: f64,
    /// 1 − minor/major axis.
    pub ellipticity: f64,
    /// Volume of the fitted Gaussian.
    pub flux: f64,
}

/// Level and noise of a background with sources on it: clipped median and σ.
pub fn background(values: &[f32]) -> Option<(f64, f64)> {
    // Enough for 0.2 % of σ.
    let stride = (values.len() >> 18) | 1;
    clipped_median(&values.iter().copied().step_by(stride).collect::<Vec<_>>()).map(|c| (c.median, c.sigma))
}

/// Noise of neighbours that do not share it: σ of the second differences along rows, over
/// √6, where light is smooth (clipped).
pub fn noise(values: &[f32]) -> Option<f64> {
    // Enough for 0.1 % of σ.
    let stride = (values.len() >> 20) | 1;
    let bend = |v: &[f32]| v[0] - 2.0 * v[1] + v[2];
    let bends: Vec<f32> = values.windows(3).step_by(stride).map(bend).collect();
    clipped_median(&bends).map(|c| c.sigma / 6f64.sqrt())
}

/// The brightest stars, at most `most`: peaks `threshold` σ above the background whose
/// four neighbours stand out, too (a hot pixel's do not), without a brighter one within
/// 12 pixels, and that a star's profile fits.
pub fn find(field: &Field<'_>, threshold: f64, most: usize) -> Vec<Star> {
    const ALONE: f64 = 12.0;
    let Some((level, sigma)) = background(field.values).filter(|(_, s)| *s > 0.0) else { return Vec::new() };
    let (nx, ny) = (field.nx as i64, field.ny() as i64);
    let mut peaks: Vec<(f64, i64, i64)> = Vec::new();
    for y in 1..ny - 1 {
        for x in 1..nx - 1 {
            let Some(v) = field.at(x, y).filter(|v| *v > level + threshold * sigma) else { continue };
            let around = |dx: i64, dy: i64| field.at(x + dx, y + dy);
            let cross: Vec<f64> =
                [(1, 0), (-1, 0), (0, 1), (0, -1)].iter().filter_map(|(i, j)| around(*i, *j)).collect();
            let top = (-1..=1).all(|j| {
                (-1..=1).all(|i| around(i, j).is_none_or(|w| w < v || (w == v && (j, i) <= (0, 0))))
            });
            let light = |w: &f64| *w > level + (2.0 * sigma).max(0.03 * (v - level));
            if top && cross.len() == 4 && cross.iter().all(light) {
                peaks.push((v, x, y));
            }
        }
    }
    peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut stars: Vec<Star> = Vec::new();
    let mut seen: Vec<(f64, f64)> = Vec::new();
    for (_, x, y) in peaks {
        let (x, y) = (x as f64, y as f64);
        let alone = seen.iter().all(|(u, v)| (u - x).hypot(v - y) > ALONE);
        seen.push((x, y));
        // Two stars that are near spoil each other: the brighter one stands all the same.
        let stands_out = |s: &Star| s.peak > threshold * sigma.max(around(field, s));
        if alone && let Some(star) = fit(field, x, y).filter(stands_out) {
            stars.push(star);
        }
        if stars.len() == most || seen.len() > 50 * most {
            break;
        }
    }
    stars
}

/// Scatter of the light around a star, clipped: lumps in the halo of a brighter one stand
/// among others.
fn around(field: &Field<'_>, star: &Star) -> f64 {
    let inner = (1.5 * star.fwhm).max(5.0);
    let ring = |p: &&[f64; 3]| (p[0] - star.x).hypot(p[1] - star.y) > inner;
    let near = field.within(star.x, star.y, 2.0 * inner);
    let values: Vec<f32> = near.iter().filter(ring).map(|p| p[2] as f32).collect();
    clipped_median(&values).map_or(0.0, |c| c.sigma)
}

/// The star nearest (x, y), within 5 pixels of it: fitted from the brightest pixel there.
pub fn at(field: &Field<'_>, x: f64, y: f64) -> Option<Star> {
    let near = field.within(x, y, 5.0);
    let top = near.iter().max_by(|a, b| a[2].total_cmp(&b[2]))?;
    fit(field, top[0], top[1])
}

/// The largest radius of a fit, pixels, which tells of nothing broader.
const MOST_FWHM: f64 = 60.0;

/// Fits the star whose brightest pixel is (x, y).
pub fn fit(field: &Field<'_>, x: f64, y: f64) -> Option<Star> {
    let mut radius = 6.0;
    let mut star: Option<Star> = None;
    for _ in 0..4 {
        let (x, y) = star.map_or((x, y), |s| (s.x, s.y));
        let next = gaussian(&field.within(x, y, radius), x, y, star.map_or(2.5, |s| s.fwhm))?;
        let settled = star.is_some_and(|s| (s.fwhm - next.fwhm).abs() < 0.005 * next.fwhm);
        star = Some(next);
        radius = (1.25 * next.fwhm).clamp(2.6, MOST_FWHM);
        if settled {
            break;
        }
    }
    // A fit that walked away from its peak is of something else.
    star.filter(|s| {
        (s.x - x).hypot(s.y - y) < 2.0f64.max(0.5 * s.fwhm)
            && (0.5..MOST_FWHM).contains(&s.fwhm)
            && s.ellipticity < 0.8
    })
}

/// Least squares of A exp(−(a dx² + 2b dx dy + c dy²)/2) + background.
fn gaussian(pixels: &[[f64; 3]], x: f64, y: f64, fwhm: f64) -> Option<Star> {
    const N: usize = 7;
    if pixels.len() < 2 * N {
        return None;
    }
    let low = pixels.iter().map(|p| p[2]).fold(f64::INFINITY, f64::min);
    let high = pixels.iter().map(|p| p[2]).fold(f64::NEG_INFINITY, f64::max);
    let curvature = (FWHM / fwhm).powi(2);
    let mut p = [high - low, x, y, curvature, 0.0, curvature, low];
    let model = |p: &[f64; N], u: f64, v: f64| {
        let (dx, dy) = (u - p[1], v - p[2]);
        let e = (-0.5 * (p[3] * dx * dx + 2.0 * p[4] * dx * dy + p[5] * dy * dy)).exp();
        let f = p[0] * e;
        let slopes = [
            e,
            f * (p[3] * dx + p[4] * dy),
            f * (p[5] * dy + p[4] * dx),
            -0.5 * f * dx * dx,
            -f * dx * dy,
            -0.5 * f * dy * dy,
            1.0,
        ];
        (f + p[6], slopes)
    };
    let misfit = |p: &[f64; N]| pixels.iter().map(|q| (q[2] - model(p, q[0], q[1]).0).powi(2)).sum::<f64>();
    let mut chi2 = misfit(&p);
    let mut damping = 1e-3;
    for _ in 0..60 {
        let mut matrix = [[0f64; N]; N];
        let mut right = [0f64; N];
        for q in pixels {
            let (value, slopes) = model(&p, q[0], q[1]);
            for i in 0..N {
                right[i] += slopes[i] * (q[2] - value);
                for j in 0..N {
                    matrix[i][j] += slopes[i] * slopes[j];
                }
            }
        }
        for i in 0..N {
            matrix[i][i] *= 1.0 + damping;
        }
        let step = solve(matrix, right)?;
        let mut next = p;
        next.iter_mut().zip(step).for_each(|(to, by)| *to += by);
        let bent = next[3] > 0.0 && next[5] > 0.0 && next[3] * next[5] > next[4] * next[4];
        let new = if bent { misfit(&next) } else { f64::INFINITY };
        if new < chi2 {
            let done = chi2 - new < 1e-10 * chi2;
            (p, chi2, damping) = (next, new, damping * 0.2);
            if done {
                break;
            }
        } else {
            damping *= 8.0;
            if damping > 1e9 {
                break;
            }
        }
    }
    // Covariance of the profile: the inverse of the curvatures, less the pixel's own.
    let det = p[3] * p[5] - p[4] * p[4];
    let (mean, half) = (0.5 * (p[3] + p[5]) / det, (0.5 * (p[3] - p[5])).hypot(p[4]) / det);
    let (major, minor) = (mean + half - 1.0 / 12.0, mean - half - 1.0 / 12.0);
    if !(p[0] > 0.0 && minor > 0.0 && major.is_finite()) {
        return None;
    }
    Some(Star {
        x: p[1],
        y: p[2],
        peak: p[0],
        background: p[6],
        fwhm: FWHM * (major * minor).powf(0.25),
        ellipticity: 1.0 - (minor / major).sqrt(),
        flux: p[0] * std::f64::consts::TAU / det.sqrt(),
    })
}

/// Gauss elimination with pivots; `None` of a singular matrix.
fn solve<const N: usize>(mut m: [[f64; N]; N], mut b: [f64; N]) -> Option<[f64; N]> {
    for k in 0..N {
        let pivot = (k..N).max_by(|i, j| m[*i][k].abs().total_cmp(&m[*j][k].abs()))?;
        m.swap(k, pivot);
        b.swap(k, pivot);
        if !(m[k][k].abs() > 1e-300) {
            return None;
        }
        for i in k + 1..N {
            let factor = m[i][k] / m[k][k];
            for j in k..N {
                m[i][j] -= factor * m[k][j];
            }
            b[i] -= factor * b[k];
        }
    }
    for k in (0..N).rev() {
        b[k] = (b[k] - (k + 1..N).map(|j| m[k][j] * b[j]).sum::<f64>()) / m[k][k];
    }
    b.iter().all(|v| v.is_finite()).then_some(b)
}

/// The faintest star at `threshold` σ, in the unit of `sigma` (noise of a pixel): the
/// flux whose fit with a Gaussian of this FWHM has that signal-to-noise ratio where the
/// background makes the noise. Its noise-equivalent area is 4π s² pixels, s = FWHM/2.355
/// (King 1983, PASP 95, 163).
pub fn depth(sigma: f64, fwhm: f64, threshold: f64) -> f64 {
    threshold * sigma * (4.0 * std::f64::consts::PI).sqrt() * fwhm / FWHM
}

/// Arcsec from a star to where its light ends: the halo of the seeing is as wide.
const HALO: f64 = 1.5;

/// A telescope seen at one wavelength by pixels of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optics {
    /// Diameter of the pupil, m.
    pub diameter: f64,
    /// Diameter of its central obstruction, m.
    pub obstruction: f64,
    /// µm.
    pub wavelength: f64,
    /// Arcsec a pixel.
    pub scale: f64,
}

impl Optics {
    /// π D/λ for an angle of one pixel.
    fn per_pixel(&self) -> f64 {
        std::f64::consts::PI * self.diameter / (self.wavelength * 1e-6) * (self.scale / 3600.0).to_radians()
    }

    /// λ/D in pixels.
    pub fn lambda_over_d(&self) -> f64 {
        std::f64::consts::PI / self.per_pixel()
    }

    /// Intensity of the annular pupil's pattern at `r` pixels, as a share of all light a
    /// pixel² (Born & Wolf, Principles of Optics, 8.6.2).
    fn pattern(&self, r: f64) -> f64 {
        let e = self.obstruction / self.diameter;
        let airy = |x: f64| if x < 1e-6 { 1.0 } else { 2.0 * bessel_j1(x) / x };
        let x = self.per_pixel() * r;
        let amplitude = (airy(x) - e * e * airy(e * x)) / (1.0 - e * e);
        // At its peak: clear area / λ², a steradian.
        let peak = self.per_pixel().powi(2) * (1.0 - e * e) / (4.0 * std::f64::consts::PI);
        peak * amplitude * amplitude
    }

    /// Share of the light in the pixel whose centre is (dx, dy) pixels from the star.
    fn in_pixel(&self, dx: f64, dy: f64) -> f64 {
        const SUB: i32 = 5;
        let offset = |k: i32| (f64::from(k) + 0.5) / f64::from(SUB) - 0.5;
        let parts = (0..SUB * SUB).map(|k| self.pattern((dx + offset(k % SUB)).hypot(dy + offset(k / SUB))));
        parts.sum::<f64>() / f64::from(SUB * SUB)
    }

    /// Share of the light within `radius` pixels.
    fn within(&self, radius: f64) -> f64 {
        let steps = (radius * self.per_pixel() * 8.0).ceil().max(64.0) as usize;
        let dr = radius / steps as f64;
        (0..steps)
            .map(|k| (k as f64 + 0.5) * dr)
            .map(|r| std::f64::consts::TAU * r * dr * self.pattern(r))
            .sum()
    }

    /// The Strehl ratio of a star: its brightest pixel over its light, as a share of the
    /// same of the telescope without aberrations. Its light: pixels within 10 λ/D, further
    /// out the medians of rings, which neighbours do not move, as far as 4/5 of `HALO` or
    /// of the way to the picture's edge; the background: the median beyond. `None` where
    /// that is not 15 λ/D, where pixels near the core have no value, or where the noise of
    /// all that light is above a tenth of it. Above 1 it is none: no star of this telescope
    /// at this wavelength, on pixels of this size. It is given all the same: to leave those
    /// out would leave the others' median as if all were well.
    pub fn strehl(&self, field: &Field<'_>, star: &Star) -> Option<f64> {
        use std::f64::consts::{FRAC_PI_2, PI};
        let unit = self.lambda_over_d();
        let (nx, ny) = (field.nx as f64, field.ny() as f64);
        let edge = star.x.min(star.y).min(nx - 1.0 - star.x).min(ny - 1.0 - star.y);
        let outer = (HALO / self.scale).max(15.0 * unit).min(edge);
        if !(15.0 * unit <= outer && (1.0..400.0).contains(&outer)) {
            return None;
        }
        let (near, far) = (10.0 * unit, 0.8 * outer);
        let mut rings = vec![Vec::new(); ((far - near) / unit).ceil() as usize];
        let (mut beyond, mut flux, mut pixels) = (Vec::new(), 0.0, 0.0);
        for [x, y, value] in field.within(star.x, star.y, outer) {
            let r = (x - star.x).hypot(y - star.y);
            if r <= near {
                flux += value;
                pixels += 1.0;
            } else if r > far {
                beyond.push(value as f32);
            } else if let Some(ring) = rings.get_mut(((r - near) / unit) as usize) {
                ring.push(value as f32);
            }
        }
        let sky = clipped_median(&beyond)?;
        flux -= pixels * sky.median;
        let core = field.within(star.x, star.y, star.fwhm);
        let whole = places(star.x, star.y, star.fwhm);
        if core.len() * 10 < whole * 9 || pixels < 0.97 * PI * near * near {
            return None;
        }
        for (k, mut ring) in rings.into_iter().enumerate().filter(|(_, ring)| !ring.is_empty()) {
            let (a, b) = (near + k as f64 * unit, (near + (k + 1) as f64 * unit).min(far));
            let middle = ring.len() / 2;
            let median = f64::from(*ring.select_nth_unstable_by(middle, f32::total_cmp).1);
            flux += (median - sky.median) * PI * (b * b - a * a);
        }
        // A median has π/2 of the variance of a mean.
        let (all, inner) = (PI * far * far, PI * near * near);
        let variance = inner + FRAC_PI_2 * (all - inner + all * all / sky.n.max(1) as f64);
        let top = core.iter().max_by(|a, b| a[2].total_cmp(&b[2]))?;
        let ideal = self.in_pixel(top[0] - star.x, top[1] - star.y) / self.within(far);
        let strehl = (top[2] - sky.median) / flux / ideal;
        (flux > 10.0 * sky.sigma * variance.sqrt() && strehl >= 0.0).then_some(strehl)
    }
}

/// Pixels within `radius` of (x, y), with a value or without.
fn places(x: f64, y: f64, radius: f64) -> usize {
    let span = |c: f64| (c - radius).ceil() as i64..=(c + radius).floor() as i64;
    let inside = |j: i64| span(x).filter(|i| (*i as f64 - x).hypot(j as f64 - y) <= radius).count();
    span(y).map(inside).sum()
}

/// J₁ by the trapezoid rule on Bessel's integral, which is exact to rounding once there
/// are more points than x.
fn bessel_j1(x: f64) -> f64 {
    let n = 24 + (1.2 * x.abs()) as usize;
    let step = std::f64::consts::PI / n as f64;
    let term = |k: usize| {
        let t = k as f64 * step;
        (t - x * t.sin()).cos()
    };
    let ends = 0.5 * (term(0) + term(n));
    (ends + (1..n).map(term).sum::<f64>()) * step / std::f64::consts::PI
}

#[cfg(test)]
#[path = "stars_tests.rs"]
mod tests;
