//! The two-dimensional point-spread function out of frames of single wavelengths.
//!
//! Every lenslet's spot is the same PSFlet at another place between the pixels. The
//! PSFlet is a cubic spline of (dx, η) whose coefficients are polynomials of the place in
//! field and band; all spots of all frames are fitted together, neighbours' wings
//! included, by conjugate gradients on the normal equations, in turn with the spots'
//! fluxes and places. Then the traces are measured once more in the white-light scans,
//! with the PSFlets' sums over columns in place of a Gaussian: a profile that is not the
//! true one puts a trace where the pixels' phase wants it.

use rayon::prelude::*;

use super::legendre::{self, Normal};
use super::noise::Noise;
use super::psf::{FINE, HALF, NODES, PsfModel, Terms, weights};
use super::{Arc, LensCal, Scan, gaussian};
use crate::datamodel::{Rate, dq};
use crate::error::Result;

/// Spline intervals a pixel.
const SPLINES: f64 = 2.0;
/// Spline coefficients along an axis.
const KNOTS: usize = (2 * HALF) * SPLINES as usize + 3;
/// Rounds of shapes, fluxes and places.
const ROUNDS: usize = 4;
/// Iterations of the conjugate gradients a round.
const ITERATIONS: usize = 25;
/// Damping of the polynomial's terms beyond the constant, relative to the mean diagonal.
const DAMPING: f64 = 1e-3;
/// Pixels further than this from the model are left out, σ.
const CLIP: f64 = 7.0;
/// Relative error of the model that this allows for.
const MODEL_ERROR: f64 = 0.03;
/// Least number of frames.
pub const FRAMES: usize = 4;

/// A lenslet's line in a frame.
#[derive(Debug, Clone)]
struct Spot {
    lens: usize,
    /// Column where the arcs' solution has it.
    home: f64,
    x: f64,
    y: f64,
    flux: f64,
    terms: Vec<f64>,
}

/// One frame's pixels and spots.
struct Frame<'a> {
    rate: &'a Rate,
    noise: Noise,
    spots: Vec<Spot>,
    /// 1/variance of each pixel; 0 where unused.
    weight: Vec<f64>,
}

/// The four cubic B-splines at `d` pixels: number of the first, and values.
fn splines(d: f64) -> Option<(usize, [f64; 4])> {
    let at = (d + HALF as f64) * SPLINES;
    if !(0.0..(2 * HALF) as f64 * SPLINES).contains(&at) {
        return None;
    }
    let (k, t) = (at as usize, at - at.floor());
    let s = 1.0 - t;
    let b = [
        s * s * s / 6.0,
        (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
        (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
        t * t * t / 6.0,
    ];
    Some((k, b))
}

/// Calls `look(pixel, dx splines, η splines)` for the pixels of a spot.
fn pixels_of(
    cal: &LensCal,
    rate: &Rate,
    spot: &Spot,
    mut look: impl FnMut(usize, (usize, [f64; 4]), (usize, [f64; 4])),
) {
    let lens = &cal.lenslets[spot.lens];
    let offset = spot.y - lens.y(spot.x);
    let from = (spot.x - HALF as f64).ceil().max(0.0) as usize;
    for x in from..((spot.x + HALF as f64).floor() as i64 + 1).clamp(0, rate.nx as i64) as usize {
        let Some(along) = splines(x as f64 - spot.x) else { continue };
        let trace = lens.y(x as f64) + offset;
        let from = (trace - HALF as f64).ceil().max(0.0) as usize;
        let to = ((trace + HALF as f64).floor() as i64 + 1).clamp(0, rate.ny as i64) as usize;
        for y in from..to {
            if let Some(across) = splines(y as f64 - trace) {
                look(y * rate.nx + x, along, across);
            }
        }
    }
}

/// Σ over the 4 × 4 splines.
fn value(c: &[f64], (a, p): (usize, [f64; 4]), (b, q): (usize, [f64; 4])) -> f64 {
    let mut sum = 0.0;
    for (j, q) in q.iter().enumerate() {
        let row = &c[(b + j) * KNOTS + a..][..4];
        sum += q * (row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3] * p[3]);
    }
    sum
}

/// The PSFlet's spline coefficients at a spot.
fn at_spot(theta: &[Vec<f64>], spot: &Spot) -> Vec<f64> {
    let mut c = vec![0.0; KNOTS * KNOTS];
    for (t, theta) in spot.terms.iter().zip(theta) {
        c.iter_mut().zip(theta).for_each(|(c, v)| *c += t * v);
    }
    c
}

impl Frame<'_> {
    /// The image of all spots.
    fn image(&self, cal: &LensCal, theta: &[Vec<f64>]) -> Vec<f64> {
        let mut out = vec![0.0; self.rate.data.len()];
        for spot in &self.spots {
            let c = at_spot(theta, spot);
            pixels_of(cal, self.rate, spot, |i, a, b| out[i] += spot.flux * value(&c, a, b));
        }
        out
    }

    /// The transpose of [`Frame::image`].
    fn transpose(&self, cal: &LensCal, image: &[f64], out: &mut [Vec<f64>]) {
        for spot in &self.spots {
            let mut c = vec![0.0; KNOTS * KNOTS];
            pixels_of(cal, self.rate, spot, |i, (a, p), (b, q)| {
                let v = spot.flux * image[i];
                if v != 0.0 {
                    for (j, q) in q.iter().enumerate() {
                        for (k, p) in p.iter().enumerate() {
                            c[(b + j) * KNOTS + a + k] += v * q * p;
                        }
                    }
                }
            });
            for (t, out) in spot.terms.iter().zip(out.iter_mut()) {
                out.iter_mut().zip(&c).for_each(|(o, c)| *o += t * c);
            }
        }
    }

    /// The diagonal of the normal equations.
    fn diagonal(&self, cal: &LensCal, out: &mut [Vec<f64>]) {
        for spot in &self.spots {
            let mut c = vec![0.0; KNOTS * KNOTS];
            pixels_of(cal, self.rate, spot, |i, (a, p), (b, q)| {
                let v = spot.flux * spot.flux * self.weight[i];
                for (j, q) in q.iter().enumerate() {
                    for (k, p) in p.iter().enumerate() {
                        c[(b + j) * KNOTS + a + k] += v * q * q * p * p;
                    }
                }
            });
            for (t, out) in spot.terms.iter().zip(out.iter_mut()) {
                out.iter_mut().zip(&c).for_each(|(o, c)| *o += t * t * c);
            }
        }
    }

    /// Weights from a model; pixels far from it count for nothing.
    fn reweigh(&mut self, model: &[f64], clip: bool) {
        let (rate, noise) = (self.rate, self.noise);
        self.weight.par_iter_mut().enumerate().for_each(|(i, w)| {
            let p = noise.pixel(rate, i);
            let usable = p.variance > 0.0 && rate.dq[i] & (dq::DO_NOT_USE | dq::SATURATED) == 0;
            let v = f64::from(p.variance) + noise.factor * model[i].max(0.0);
            let far = (f64::from(p.rate) - model[i]).powi(2);
            let limit = CLIP * CLIP * (v + (MODEL_ERROR * model[i]).powi(2));
            *w = if usable && !(clip && far > limit) { 1.0 / v } else { 0.0 };
        });
    }

    /// Corrects every spot's flux and place with the others' light taken off.
    fn correct(&mut self, cal: &LensCal, theta: &[Vec<f64>], places: bool) {
        let model = self.image(cal, theta);
        let (rate, weight) = (self.rate, &self.weight);
        self.spots.par_iter_mut().for_each(|spot| {
            let c = at_spot(theta, spot);
            let h = 0.05;
            let moved = |dx: f64, dy: f64| Spot {
                x: spot.x + dx,
                y: spot.y + dy + slope(cal, spot) * dx,
                ..spot.clone()
            };
            let sample = |s: &Spot| {
                let mut out = std::collections::BTreeMap::new();
                pixels_of(cal, rate, s, |i, a, b| {
                    out.insert(i, value(&c, a, b));
                });
                out
            };
            let own = sample(spot);
            let [xp, xm, yp, ym] =
                [(h, 0.0), (-h, 0.0), (0.0, h), (0.0, -h)].map(|(x, y)| sample(&moved(x, y)));
            let mut normal = Normal::new(if places { 3 } else { 1 });
            for (i, p) in &own {
                let get = |m: &std::collections::BTreeMap<usize, f64>| m.get(i).copied().unwrap_or(0.0);
                let row = [
                    *p,
                    spot.flux * (get(&xp) - get(&xm)) / (2.0 * h),
                    spot.flux * (get(&yp) - get(&ym)) / (2.0 * h),
                ];
                normal.add(
                    &row[..if places { 3 } else { 1 }],
                    f64::from(rate.data[*i]) - model[*i],
                    weight[*i],
                );
            }
            if let Some(step) = normal.solution() {
                spot.flux += step[0];
                if places {
                    spot.x += step[1].clamp(-0.1, 0.1);
                    spot.y += step[2].clamp(-0.1, 0.1) + slope(cal, spot) * step[1].clamp(-0.1, 0.1);
                }
            }
        });
    }
}

fn slope(cal: &LensCal, spot: &Spot) -> f64 {
    let l = &cal.lenslets[spot.lens];
    (l.y(spot.x + 1.0) - l.y(spot.x - 1.0)) / 2.0
}

/// Column at which a lenslet shows a wavelength.
pub fn column(cal: &LensCal, lens: usize, wave: f64) -> Option<f64> {
    let l = &cal.lenslets[lens];
    let (mut low, mut high) = (l.xmin as f64 - 2.0, l.xmax as f64 + 2.0);
    let rising = l.wavelength(high) > l.wavelength(low);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if (l.wavelength(middle) < wave) == rising { low = middle } else { high = middle }
    }
    (low > l.xmin as f64 + 1.0 && low < l.xmax as f64 - 1.0).then_some(low)
}

/// Measures the PSF and improves traces and wavelengths with it. `None` where there are
/// fewer than [`FRAMES`] frames of one wavelength.
pub fn measure(cal: &mut LensCal, scans: &[&Scan], arcs: &[Arc]) -> Result<Option<PsfModel>> {
    let singles: Vec<&Arc> = arcs.iter().filter(|a| a.wavelengths.len() == 1).collect();
    if singles.len() < FRAMES {
        return Ok(None);
    }
    let (gx, gy) = cal.grid();
    let least = gx.min(gy).min(singles.len());
    let terms = Terms { degree: least.saturating_sub(2).clamp(1, 3) };
    let mut frames = Vec::new();
    for arc in singles {
        let n = arc.rate.data.len();
        let noise = Noise::of(&arc.rate)?;
        let mut frame = Frame { rate: &arc.rate, noise, spots: Vec::new(), weight: vec![0.0; n] };
        for lens in 0..cal.lenslets.len() {
            if cal.lenslets[lens].dq & dq::DO_NOT_USE != 0 {
                continue;
            }
            let Some(x) = column(cal, lens, arc.wavelengths[0]) else { continue };
            let l = &cal.lenslets[lens];
            let terms = terms.at(cal.place(l, x));
            frame.spots.push(Spot { lens, home: x, x, y: l.y(x), flux: 0.0, terms });
        }
        frames.push(frame);
    }
    let mut theta = first_guess(cal, terms);
    let mut last = Vec::new();
    for round in 0..ROUNDS {
        frames.par_iter_mut().for_each(|f| {
            for k in 0..2 {
                let model = f.image(cal, &theta);
                f.reweigh(&model, round > 0 && k > 0);
                f.correct(cal, &theta, round > 0 && k > 0);
            }
        });
        let series = smooth_places(cal, &mut frames);
        last = series;
        fit(cal, &frames, &mut theta);
        normalise(&mut frames, &mut theta);
        if round + 2 == ROUNDS {
            let model = model(cal, terms, &theta);
            let traces = retrace(cal, &model, scans)?;
            for (l, t) in cal.lenslets.iter_mut().zip(traces) {
                if let Some(t) = t {
                    l.trace = t;
                }
            }
            smooth_places(cal, &mut frames);
        }
    }
    rewave(cal, &last);
    Ok(Some(model(cal, terms, &theta)))
}

fn model(cal: &LensCal, terms: Terms, theta: &[Vec<f64>]) -> PsfModel {
    let nodes: Vec<Vec<f64>> = theta
        .iter()
        .map(|c| {
            let at = |k: usize| splines((k as f64 / FINE as f64 - HALF as f64).min(HALF as f64 - 1e-9));
            (0..NODES * NODES)
                .map(|n| match (at(n % NODES), at(n / NODES)) {
                    (Some(a), Some(b)) => value(c, a, b),
                    _ => 0.0,
                })
                .collect()
        })
        .collect();
    PsfModel::of_terms(cal, terms, &nodes)
}

/// A Gaussian of the lenslets' median widths.
fn first_guess(cal: &LensCal, terms: Terms) -> Vec<Vec<f64>> {
    let across = legendre::median(
        cal.lenslets.iter().map(|l| l.sigma(f64::midpoint(l.xmin as f64, l.xmax as f64))).collect(),
    );
    let along = legendre::median(cal.lenslets.iter().map(|l| l.lsf_sigma).collect());
    let profile = |sigma: f64| -> Vec<f64> {
        // A spline with these coefficients is a little broader than they.
        let own = |k: usize| (k as f64 - 1.0) / SPLINES - HALF as f64;
        let sigma = (sigma * sigma - 1.0 / (3.0 * SPLINES * SPLINES) + 1.0 / 12.0).max(0.1).sqrt();
        (0..KNOTS).map(|k| gaussian::density(own(k) / sigma) / sigma).collect()
    };
    let along = profile(if along.is_finite() { along } else { across });
    let across = profile(if across.is_finite() { across } else { 0.9 });
    let mut theta = vec![vec![0.0; KNOTS * KNOTS]; terms.count()];
    for (b, v) in across.iter().enumerate() {
        for (a, u) in along.iter().enumerate() {
            theta[0][b * KNOTS + a] = v * u;
        }
    }
    theta
}

/// Each lenslet's shifts along dispersion, series of its columns: what its spots have in
/// common with one another is where its wavelengths are, the rest is noise. Spots go
/// there, and onto their traces.
fn smooth_places(cal: &LensCal, frames: &mut [Frame<'_>]) -> Vec<Vec<f64>> {
    let mut points: Vec<Vec<(f64, f64, f64)>> = vec![Vec::new(); cal.lenslets.len()];
    let unit = |lens: usize, x: f64| {
        let l = &cal.lenslets[lens];
        legendre::unit(x, l.xmin as f64, l.xmax as f64)
    };
    for spot in frames.iter().flat_map(|f| &f.spots) {
        points[spot.lens].push((unit(spot.lens, spot.home), spot.x - spot.home, 1.0));
    }
    let series: Vec<Vec<f64>> = points
        .par_iter()
        .map(|p| {
            let degree = match p.len() {
                0..=3 => 0,
                4..=6 => 1,
                _ => 2,
            };
            legendre::robust_fit(p, degree, 5.0, 0.01).unwrap_or_else(|| vec![0.0])
        })
        .collect();
    for spot in frames.iter_mut().flat_map(|f| &mut f.spots) {
        spot.x = spot.home + legendre::value(&series[spot.lens], unit(spot.lens, spot.home));
        spot.y = cal.lenslets[spot.lens].y(spot.x);
    }
    series
}

/// Wavelengths as the shifted spots have them.
fn rewave(cal: &mut LensCal, series: &[Vec<f64>]) {
    for (l, c) in cal.lenslets.iter_mut().zip(series) {
        let unit = |x: f64| legendre::unit(x, l.xmin as f64, l.xmax as f64);
        let points: Vec<_> = (0..=40)
            .map(|k| l.xmin as f64 + (l.xmax - l.xmin) as f64 * f64::from(k) / 40.0)
            .map(|x| (unit(x), l.wavelength(x - legendre::value(c, unit(x))), 1.0))
            .collect();
        if let Some(wave) = legendre::fit(&points, l.wave.len() + 1) {
            l.wave = wave;
        }
    }
}

/// Fits the splines, by conjugate gradients from where they are.
fn fit(cal: &LensCal, frames: &[Frame<'_>], theta: &mut [Vec<f64>]) {
    let (m, n) = (theta.len(), KNOTS * KNOTS);
    let add_up = |of: &(dyn Fn(&Frame<'_>, &mut [Vec<f64>]) + Sync)| -> Vec<Vec<f64>> {
        let parts: Vec<Vec<Vec<f64>>> = frames
            .par_iter()
            .map(|f| {
                let mut own = vec![vec![0.0; n]; m];
                of(f, &mut own);
                own
            })
            .collect();
        let mut sum = vec![vec![0.0; n]; m];
        for part in parts {
            for (s, p) in sum.iter_mut().zip(part) {
                s.iter_mut().zip(p).for_each(|(s, p)| *s += p);
            }
        }
        sum
    };
    let gather =
        |image: &(dyn Fn(&Frame<'_>) -> Vec<f64> + Sync)| add_up(&|f, out| f.transpose(cal, &image(f), out));
    let mut r = gather(&|f| {
        let model = f.image(cal, theta);
        model
            .iter()
            .zip(&f.weight)
            .enumerate()
            .map(|(i, (m, w))| w * (f64::from(f.rate.data[i]) - m))
            .collect()
    });
    // The splines of the core count 500 times less than those of the wings: the diagonal
    // makes them alike.
    let mut diagonal = add_up(&|f, out| f.diagonal(cal, out));
    let scale = diagonal[0].iter().sum::<f64>() / n as f64;
    let damping = |k: usize| if k == 0 { 1e-9 } else { DAMPING } * scale;
    for (k, d) in diagonal.iter_mut().enumerate() {
        d.iter_mut().for_each(|d| *d += damping(k));
    }
    for (k, r) in r.iter_mut().enumerate() {
        r.iter_mut().zip(&theta[k]).for_each(|(r, t)| *r -= damping(k) * t);
    }
    let inner = |a: &[Vec<f64>], b: &[Vec<f64>]| -> f64 {
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()).sum()
    };
    let preconditioned = |r: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let of = |(r, d): (&Vec<f64>, &Vec<f64>)| r.iter().zip(d).map(|(r, d)| r / d).collect();
        r.iter().zip(&diagonal).map(of).collect()
    };
    let mut p = preconditioned(&r);
    let mut rz = inner(&r, &p);
    let start = rz;
    for _ in 0..ITERATIONS {
        let mut ap = gather(&|f| f.image(cal, &p).iter().zip(&f.weight).map(|(v, w)| v * w).collect());
        for (k, ap) in ap.iter_mut().enumerate() {
            ap.iter_mut().zip(&p[k]).for_each(|(a, p)| *a += damping(k) * p);
        }
        let pap = inner(&p, &ap);
        if !(pap > 0.0) || rz < 1e-12 * start {
            break;
        }
        let alpha = rz / pap;
        for k in 0..m {
            theta[k].iter_mut().zip(&p[k]).for_each(|(t, p)| *t += alpha * p);
            r[k].iter_mut().zip(&ap[k]).for_each(|(r, a)| *r -= alpha * a);
        }
        let z = preconditioned(&r);
        let next = inner(&r, &z);
        let beta = next / rz;
        rz = next;
        for k in 0..m {
            p[k].iter_mut().zip(&z[k]).for_each(|(p, z)| *p = z + beta * *p);
        }
    }
}

/// Fluxes take over what the PSFlets' sums have beyond 1.
fn normalise(frames: &mut [Frame<'_>], theta: &mut [Vec<f64>]) {
    let whole = |c: &[f64]| c.iter().sum::<f64>() / (SPLINES * SPLINES);
    let sums: Vec<f64> = theta.iter().map(|c| whole(c)).collect();
    let mean = sums[0];
    frames.iter_mut().flat_map(|f| &mut f.spots).for_each(|s| {
        s.flux *= s.terms.iter().zip(&sums).map(|(t, s)| t * s).sum::<f64>();
    });
    theta.iter_mut().flatten().for_each(|v| *v /= mean);
}

/// Traces once more, with the PSFlets' sums over columns: a white spectrum's profile.
fn retrace(cal: &LensCal, psf: &PsfModel, scans: &[&Scan]) -> Result<Vec<Option<Vec<f64>>>> {
    let first = scans.iter().map(|s| s.lenscol).min().unwrap_or(0);
    let mut noises = Vec::new();
    for s in scans {
        noises.push((s, Noise::of(&s.rate)?));
    }
    let of = |l: usize| noises.iter().find(|(s, _)| s.lenscol - first == cal.lenslets[l].ix);
    Ok((0..cal.lenslets.len())
        .into_par_iter()
        .map(|l| of(l).and_then(|(scan, noise)| one_trace(cal, psf, l, &scan.rate, noise)))
        .collect())
}

fn one_trace(cal: &LensCal, psf: &PsfModel, l: usize, rate: &Rate, noise: &Noise) -> Option<Vec<f64>> {
    let lens = &cal.lenslets[l];
    let unit = |x: f64| legendre::unit(x, lens.xmin as f64, lens.xmax as f64);
    let mut trace = lens.trace.clone();
    let profiles: Vec<Vec<f64>> = (0..psf.knots)
        .map(|k| {
            let image = psf.psflet(cal, l, psf.knot(lens, k));
            image.chunks_exact(NODES).map(|row| row.iter().sum::<f64>() / FINE as f64).collect()
        })
        .collect();
    for _ in 0..3 {
        let mut points = Vec::new();
        for x in lens.xmin + 3..lens.xmax.saturating_sub(2) {
            let y0 = legendre::value(&trace, unit(x as f64));
            let (k, t) = psf.between(lens, x as f64);
            let profile = |eta: f64| -> f64 {
                let (first, w) = weights((eta + HALF as f64) * FINE as f64);
                (first..)
                    .zip(w)
                    .filter(|(n, _)| (0..NODES as i64).contains(n))
                    .map(|(n, w)| {
                        w * (profiles[k][n as usize] * (1.0 - t)
                            + profiles[(k + 1).min(psf.knots - 1)][n as usize] * t)
                    })
                    .sum()
            };
            let rows = (y0 - 5.0).ceil().max(0.0) as usize..((y0 + 5.0).floor() as usize + 1).min(rate.ny);
            let h = 0.02;
            let mut pixels = Vec::new();
            for y in rows {
                let p = noise.pixel(rate, y * rate.nx + x);
                if p.variance > 0.0 {
                    let eta = y as f64 - y0;
                    let by_y = -(profile(eta + h) - profile(eta - h)) / (2.0 * h);
                    pixels.push((f64::from(p.rate), f64::from(p.variance), profile(eta), by_y));
                }
            }
            // Flux first, for weights from the model.
            let top: f64 = pixels.iter().map(|p| p.0 * p.2 / p.1).sum();
            let flux = top / pixels.iter().map(|p| p.2 * p.2 / p.1).sum::<f64>();
            let mut normal = Normal::new(2);
            for (d, v, p, by_y) in &pixels {
                let v = v + noise.factor * (flux * p).max(0.0);
                if (d - flux * p).powi(2) < 36.0 * (v + (0.05 * flux * p).powi(2)) {
                    normal.add(&[*p, flux * by_y], *d, 1.0 / v);
                }
            }
            if let Some((step, variance)) = normal.solve()
                && step[1].abs() < 0.5
                && variance[1] < 0.04
            {
                points.push((unit(x as f64), step[1], 1.0 / variance[1]));
            }
        }
        if points.len() < 4 * trace.len() {
            return None;
        }
        let step = legendre::robust_fit(&points, trace.len() - 1, 5.0, 5.0)?;
        trace.iter_mut().zip(&step).for_each(|(t, s)| *t += s);
    }
    Some(trace)
}
