//! The two-dimensional point-spread function of the calibration: eigen-PSFlets with
//! coefficients at knots along every spectrum, and the line-spread function on which
//! spectra are extracted.
//!
//! A PSFlet is the share of a line's light on the pixel whose centre is dx columns and
//! η rows from the line, rows being counted from the trace at the pixel's own column
//! (so a trace's slope is in the PSFlet); it is sampled [`FINE`] times a pixel.

use rayon::prelude::*;

use super::legendre;
use super::{LensCal, Lenslet};

/// Samples of a PSFlet a pixel.
pub const FINE: usize = 4;
/// A PSFlet's reach, pixels.
pub const HALF: usize = 6;
/// Samples along an axis.
pub const NODES: usize = 2 * HALF * FINE + 1;
/// Columns beyond a spectrum's ends in which its light is still modelled.
pub const MARGIN: usize = 12;
/// Columns from knot to knot, about.
const STEP: f64 = 64.0;
/// The line-spread function over the native one.
const BROADER: f64 = 1.05;
/// Most eigen-PSFlets.
const MOST: usize = 24;
/// Eigen-PSFlets stop where what is left is this part of the whole.
const LEFT: f64 = 5e-5;

/// The model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PsfModel {
    /// Eigen-PSFlets, each (η, dx), NODES × NODES.
    pub basis: Vec<Vec<f64>>,
    /// Knots a spectrum, from [`MARGIN`] columns before it to as many after it.
    pub knots: usize,
    /// (lenslets, knots, basis).
    pub coefs: Vec<f32>,
    /// σ of the line-spread function, columns, (lenslets, knots).
    pub lsf: Vec<f32>,
}

/// Columns in which a lenslet's light is modelled: first and last.
pub fn modelled(l: &Lenslet, nx: usize) -> (usize, usize) {
    (l.xmin.saturating_sub(MARGIN), (l.xmax + MARGIN).min(nx - 1))
}

/// Terms of total degree up to `degree` of three variables in [−1, 1], Legendre.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Total degree.
    pub degree: usize,
}

impl Terms {
    /// How many.
    pub fn count(self) -> usize {
        let d = self.degree;
        (d + 1) * (d + 2) * (d + 3) / 6
    }

    /// Their values.
    pub fn at(self, t: [f64; 3]) -> Vec<f64> {
        let d = self.degree;
        let series = t.map(|t| {
            let mut p = vec![0.0; d + 1];
            legendre::each(t, d + 1, |k, v| p[k] = v);
            p
        });
        let mut out = Vec::with_capacity(self.count());
        for i in 0..=d {
            for j in 0..=d - i {
                for k in 0..=d - i - j {
                    out.push(series[0][i] * series[1][j] * series[2][k]);
                }
            }
        }
        out
    }
}

impl LensCal {
    /// A lenslet's place in the field and a wavelength's in the band, −1 to 1.
    pub fn place(&self, l: &Lenslet, x: f64) -> [f64; 3] {
        let (nx, ny) = self.grid();
        let side = |i: i32, n: usize| if n > 1 { 2.0 * f64::from(i) / (n as f64 - 1.0) - 1.0 } else { 0.0 };
        let wave = legendre::unit(l.wavelength(x), self.flat_range.0, self.flat_range.1);
        [side(l.ix, nx), side(l.iy, ny), wave.clamp(-1.1, 1.1)]
    }
}

impl PsfModel {
    /// Column of knot `k` of a lenslet.
    pub fn knot(&self, l: &Lenslet, k: usize) -> f64 {
        let (from, to) = (l.xmin as f64 - MARGIN as f64, (l.xmax + MARGIN) as f64);
        from + (to - from) * k as f64 / (self.knots - 1).max(1) as f64
    }

    /// The knot below column `x` and how far towards the next it is.
    pub fn between(&self, l: &Lenslet, x: f64) -> (usize, f64) {
        let (from, to) = (l.xmin as f64 - MARGIN as f64, (l.xmax + MARGIN) as f64);
        let at = ((x - from) / (to - from) * (self.knots - 1) as f64).clamp(0.0, (self.knots - 1) as f64);
        let k = (at as usize).min(self.knots.saturating_sub(2));
        (k, at - k as f64)
    }

    /// From PSFlets that are polynomials of place: Σ_m `terms`_m(place) · `theta`\[m\].
    pub fn of_terms(cal: &LensCal, terms: Terms, theta: &[Vec<f64>]) -> PsfModel {
        let m = theta.len();
        let longest = cal.lenslets.iter().map(|l| l.xmax - l.xmin).max().unwrap_or(0) + 2 * MARGIN;
        let knots = (longest as f64 / STEP).ceil() as usize + 1;
        let mut model = PsfModel { knots, ..PsfModel::default() };
        let phi: Vec<Vec<Vec<f64>>> = cal
            .lenslets
            .par_iter()
            .map(|l| (0..knots).map(|k| terms.at(cal.place(l, model.knot(l, k)))).collect())
            .collect();
        // P = φᵀθ; with mean φφᵀ = L Lᵀ the eigenvectors of (Lᵀθ)(Lᵀθ)ᵀ.
        let mut gram = vec![0.0; m * m];
        let mut n = 0.0;
        for p in phi.iter().flatten().step_by(7) {
            n += 1.0;
            for i in 0..m {
                for j in 0..m {
                    gram[i * m + j] += p[i] * p[j];
                }
            }
        }
        gram.iter_mut().for_each(|g| *g /= n);
        let (values, vectors) = eigen(&gram, m);
        // Rows of √Λ Uᵀ θ.
        let rows: Vec<Vec<f64>> = (0..m)
            .map(|a| {
                let scale = values[a].max(0.0).sqrt();
                let mut row = vec![0.0; NODES * NODES];
                for (b, t) in theta.iter().enumerate() {
                    let c = scale * vectors[b * m + a];
                    row.iter_mut().zip(t).for_each(|(r, t)| *r += c * t);
                }
                row
            })
            .collect();
        let mut product = vec![0.0; m * m];
        for i in 0..m {
            for j in 0..m {
                product[i * m + j] = rows[i].iter().zip(&rows[j]).map(|(a, b)| a * b).sum();
            }
        }
        let (energy, turn) = eigen(&product, m);
        let total: f64 = energy.iter().map(|e| e.max(0.0)).sum();
        let mut rest = total;
        for k in 0..m.min(MOST) {
            if rest <= LEFT * LEFT * total || energy[k] <= 0.0 {
                break;
            }
            rest -= energy[k];
            let mut image = vec![0.0; NODES * NODES];
            for (i, row) in rows.iter().enumerate() {
                let c = turn[i * m + k] / energy[k].sqrt();
                image.iter_mut().zip(row).for_each(|(v, r)| *v += c * r);
            }
            model.basis.push(image);
        }
        let inner = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let shares: Vec<Vec<f64>> =
            theta.iter().map(|t| model.basis.iter().map(|e| inner(t, e)).collect()).collect();
        let coefs: Vec<Vec<f32>> = phi
            .par_iter()
            .map(|at| {
                at.iter()
                    .flat_map(|p| {
                        (0..model.basis.len())
                            .map(|k| p.iter().zip(&shares).map(|(p, s)| p * s[k]).sum::<f64>() as f32)
                    })
                    .collect()
            })
            .collect();
        model.coefs = coefs.into_iter().flatten().collect();
        model.lsf = model.native().iter().map(|s| (BROADER * s) as f32).collect();
        model
    }

    /// σ of the PSFlets' sums over rows, from their FWHM, at every knot.
    fn native(&self) -> Vec<f64> {
        let sums: Vec<Vec<f64>> = self
            .basis
            .iter()
            .map(|e| (0..NODES).map(|x| (0..NODES).map(|y| e[y * NODES + x]).sum()).collect())
            .collect();
        self.coefs
            .par_chunks(self.basis.len().max(1))
            .map(|c| {
                let value =
                    |x: usize| -> f64 { c.iter().zip(&sums).map(|(c, s)| f64::from(*c) * s[x]).sum() };
                let profile: Vec<f64> = (0..NODES).map(value).collect();
                fwhm(&profile) / FINE as f64 / super::gaussian::FWHM
            })
            .collect()
    }

    /// The PSFlet of lenslet number `l` at column `x`.
    pub fn psflet(&self, cal: &LensCal, l: usize, x: f64) -> Vec<f64> {
        let (k, t) = self.between(&cal.lenslets[l], x);
        let n = self.basis.len();
        let mut out = vec![0.0; NODES * NODES];
        for (b, image) in self.basis.iter().enumerate() {
            let at = |k: usize| f64::from(self.coefs[(l * self.knots + k) * n + b]);
            let c = at(k) * (1.0 - t) + if t > 0.0 { at(k + 1) * t } else { 0.0 };
            out.iter_mut().zip(image).for_each(|(o, i)| *o += c * i);
        }
        out
    }

    /// σ of the line-spread function of lenslet number `l` at column `x`.
    pub fn lsf(&self, cal: &LensCal, l: usize, x: f64) -> f64 {
        let (k, t) = self.between(&cal.lenslets[l], x);
        let at = |k: usize| f64::from(self.lsf[l * self.knots + k]);
        at(k) * (1.0 - t) + if t > 0.0 { at(k + 1) * t } else { 0.0 }
    }

    /// The model with another width (relative) and skewness along rows and columns
    /// (pixels³, of −∂³/6): what differs between lamp and sky.
    #[must_use]
    pub fn changed(&self, width: f64, skew: [f64; 2]) -> PsfModel {
        let basis = self.basis.iter().map(|e| changed(e, width, skew)).collect();
        PsfModel { basis, ..self.clone() }
    }
}

/// A PSFlet stretched by `width`, and less `skew`/6 of its third derivatives.
fn changed(image: &[f64], width: f64, skew: [f64; 2]) -> Vec<f64> {
    let mut out = vec![0.0; NODES * NODES];
    let middle = (NODES / 2) as f64;
    let at = |y: i64, x: i64| {
        let inside = (0..NODES as i64).contains(&y) && (0..NODES as i64).contains(&x);
        if inside { image[y as usize * NODES + x as usize] } else { 0.0 }
    };
    let third = (FINE as f64).powi(3) / 6.0;
    for y in 0..NODES {
        for x in 0..NODES {
            let stretched = if width == 1.0 {
                image[y * NODES + x]
            } else {
                let (v, u) = (middle + (y as f64 - middle) / width, middle + (x as f64 - middle) / width);
                let ((y0, wy), (x0, wx)) = (weights(v), weights(u));
                let mut sum = 0.0;
                for (a, wy) in (y0..).zip(wy) {
                    for (b, wx) in (x0..).zip(wx) {
                        sum += wy * wx * at(a, b);
                    }
                }
                sum / (width * width)
            };
            let (yi, xi) = (y as i64, x as i64);
            let d3 = |f: &dyn Fn(i64) -> f64| (f(2) - 2.0 * f(1) + 2.0 * f(-1) - f(-2)) / 2.0;
            let across = if skew[1] != 0.0 { skew[1] * third * d3(&|k| at(yi + k, xi)) } else { 0.0 };
            let along = if skew[0] != 0.0 { skew[0] * third * d3(&|k| at(yi, xi + k)) } else { 0.0 };
            out[y * NODES + x] = stretched - across - along;
        }
    }
    out
}

/// The first node and the six weights of Lagrange's polynomial at `at` (in nodes).
pub fn weights(at: f64) -> (i64, [f64; 6]) {
    let first = at.floor() as i64 - 2;
    let t = at - first as f64;
    let mut w = [1.0; 6];
    for (i, w) in w.iter_mut().enumerate() {
        for j in 0..6 {
            if i != j {
                *w *= (t - j as f64) / (i as f64 - j as f64);
            }
        }
    }
    (first, w)
}

/// Full width at half maximum of a peak, samples.
fn fwhm(profile: &[f64]) -> f64 {
    let top = (0..profile.len()).max_by(|a, b| profile[*a].total_cmp(&profile[*b])).unwrap_or(0);
    // The top between samples, by a parabola.
    let (a, b, c) = match top {
        0 => return 0.0,
        t if t + 1 >= profile.len() => return 0.0,
        t => (profile[t - 1], profile[t], profile[t + 1]),
    };
    let bend = a - 2.0 * b + c;
    let half = 0.5 * if bend < 0.0 { b - (a - c) * (a - c) / (8.0 * bend) } else { b };
    let cross = |step: i64| {
        let mut i = top as i64;
        while (0..profile.len() as i64).contains(&(i + step)) && profile[i as usize] > half {
            i += step;
        }
        let (outer, inner) = (profile[i as usize], profile[(i - step) as usize]);
        (i - step) as f64 + step as f64 * (inner - half) / (inner - outer)
    };
    (cross(1) - cross(-1)).abs()
}

/// Eigenvalues, descending, and eigenvectors (in columns) of a symmetric matrix, by
/// Jacobi's rotations.
pub fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    let size: f64 = a.iter().map(|x| x * x).sum::<f64>().sqrt();
    for _ in 0..60 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off.sqrt() <= 1e-14 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let g = a[p * n + q];
                if g.abs() <= 1e-300 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * g);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = c * x - s * y;
                    a[q * n + k] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (v[k * n + p], v[k * n + q]);
                    v[k * n + p] = c * x - s * y;
                    v[k * n + q] = s * x + c * y;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|i| a[i * n + i]).collect();
    let mut vectors = vec![0.0; n * n];
    for (to, from) in order.iter().enumerate() {
        (0..n).for_each(|k| vectors[k * n + to] = v[k * n + from]);
    }
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_those() {
        let m = [4.0, 1.0, 0.5, 1.0, 3.0, -0.2, 0.5, -0.2, 1.0];
        let (values, v) = eigen(&m, 3);
        assert!(values[0] > values[1] && values[1] > values[2]);
        for k in 0..3 {
            for i in 0..3 {
                let product: f64 = (0..3).map(|j| m[i * 3 + j] * v[j * 3 + k]).sum();
                assert!((product - values[k] * v[i * 3 + k]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn widths_and_weights() {
        let sigma = 3.7;
        let profile: Vec<f64> =
            (0..NODES).map(|i| (-0.5 * ((i as f64 - 24.3) / sigma).powi(2)).exp()).collect();
        assert!((fwhm(&profile) / (sigma * 2.354_82) - 1.0).abs() < 5e-3);
        let (first, w) = weights(10.3);
        let sum: f64 = w.iter().enumerate().map(|(k, w)| w * profile[(first + k as i64) as usize]).sum();
        assert!((sum - (-0.5 * ((10.3 - 24.3) / sigma).powi(2)).exp()).abs() < 1e-6);
    }
}
