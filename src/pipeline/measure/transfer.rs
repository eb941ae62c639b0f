//! Photon transfer in the spectrum of the differences between reads.
//!
//! The n − 1 differences of n evenly spaced reads of a pixel have the covariance
//!
//! ```text
//! C = v 1 + σ² T,   T = tridiagonal (−1, 2, −1)
//! ```
//!
//! with v the photon variance of an interval (signal/gain, DN²) and σ the noise of
//! a read: photons arrive independently, a read's noise enters two differences with
//! opposite signs. The sine transform z_m = √(2/n) Σ_k d_k sin(π m k/n) makes C
//! diagonal: Var z_m = v + σ² λ_m, λ_m = 2 − 2 cos(π m/n). The mean power of many
//! pixels in each mode is then fitted with v and σ² (maximum likelihood of χ²
//! distributed powers: weighted least squares with weights ν/(2 model²), iterated),
//! with information matrix F). A flat alone has both, but hardly any
//! information on σ where photons dominate; darks add it. Where linearity stretches the
//! noise of read k by f_k, λ_m is Σ_k f_k² (s_m,k − s_m,k+1)², with s_m the mode.
//!
//! The errors are not those of normal noise, F⁻¹: hits too faint to be seen, popcorn
//! noise and the like make the powers scatter more. With S the covariance of the mean
//! powers as the ramps of each pixel show it (see [`Powers`]) and a_m the factors of
//! v and σ² in mode m, the covariance is F⁻¹ (Σ w_m w_m' S_mm' a_m a_m'ᵀ) F⁻¹, which is
//! F⁻¹ where the noise is normal.
//!
//! Inter-pixel capacitance shares each pixel's signal with its neighbours, which
//! takes variance out of the pixel and puts it into the covariance with them
//! (Moore, Ninkov & Forrest 2006, Opt. Eng. 45, 076402). With coupling a_x to each
//! neighbour along x and a_y along y, and c = 1 − 2a_x − 2a_y:
//!
//! ```text
//! variance kept  κ = c² + 2a_x² + 2a_y²
//! correlation    ρ_x = 2 a_x c/κ,  ρ_y = 2 a_y c/κ
//! ```
//!
//! Read noise enters after the capacitance and is not coupled.

use std::f64::consts::PI;

/// Powers of the modes of one group of ramps in one tile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spectrum {
    /// Mean power of each mode, DN².
    pub(super) power: Vec<f64>,
    /// Degrees of freedom of each.
    pub(super) freedom: f64,
    /// Covariance of the mean powers, row by row, as measured; empty where it is not.
    pub(super) covariance: Vec<f64>,
    /// What multiplies 1/gain: the signal of an interval, DN.
    pub(super) photons: f64,
    /// What multiplies σ² in each mode: [`eigenvalues`], where all reads are alike.
    pub(super) reads: Vec<f64>,
}

/// Photon variance per signal (1/gain, 1/(e-/DN), capacitance left in) and read
/// variance σ² (DN²), with their covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transfer {
    pub(super) inverse_gain: f64,
    pub(super) read_variance: f64,
    /// Variances and covariance (u, w, uw); infinite where nothing is known.
    pub(super) covariance: [f64; 3],
}

/// Sums over pixels of the powers of their residual ramps.
pub(super) struct Powers {
    sines: Vec<Vec<f32>>,
    sum: Vec<f64>,
    /// Σ over pixels and ramps of the products of the powers' deviations from the pixel's
    /// own means.
    products: Vec<f64>,
    /// Σ over pixels of the products of their powers, summed over the ramps.
    between: Vec<f64>,
    pixels: usize,
    /// Of a pixel: `[ramp][mode]`.
    squares: Vec<f64>,
}

impl Powers {
    /// Of ramps of `reads` reads.
    pub(super) fn new(reads: usize) -> Powers {
        let modes = reads - 1;
        Powers {
            sines: sines(reads),
            sum: vec![0.0; modes],
            products: vec![0.0; modes * modes],
            between: vec![0.0; modes * modes],
            pixels: 0,
            squares: Vec::new(),
        }
    }

    /// Adds a pixel: its `residuals` about the mean over the ramps, `[ramp][interval]`.
    pub(super) fn add(&mut self, residuals: &[f32]) {
        let modes = self.sum.len();
        self.squares.clear();
        for ramp in residuals.chunks(modes) {
            self.squares.extend(self.sines.iter().map(|row| {
                let z: f32 = row.iter().zip(ramp).map(|(s, d)| s * d).sum();
                f64::from(z) * f64::from(z)
            }));
        }
        let ramps = (self.squares.len() / modes) as f64;
        let mut own = vec![0.0; modes];
        for (m, own) in own.iter_mut().enumerate() {
            *own = self.squares.iter().skip(m).step_by(modes).sum();
            self.sum[m] += *own;
            self.squares.iter_mut().skip(m).step_by(modes).for_each(|s| *s -= *own / ramps);
        }
        add_product(&mut self.between, &own);
        self.squares.chunks(modes).for_each(|ramp| add_product(&mut self.products, ramp));
        self.pixels += 1;
    }

    /// Mean powers of `ramps` ramps with `freedom` degrees of freedom each, and their
    /// covariance as ones of `all` pixels, of which those with hits are left out; that is
    /// empty of two ramps, whose residuals mirror each other.
    ///
    /// Of normal noise of variance 1, taking off the mean over R ramps leaves powers whose
    /// sum over the ramps has the variance 2 (R − 1), and whose squared deviations from
    /// the pixel's own mean power sum up to 2 (R − 1)(R − 2)/R: R/(R − 2) of the one is
    /// the other. What differs from pixel to pixel has no part in that covariance S; but n
    /// of N pixels stand for all: with T the covariance of the pixels' own powers, T − n S
    /// of it their difference, (T − n S)(1/n − 1/N) is added.
    pub(super) fn mean(self, ramps: usize, freedom: f64, all: usize) -> (Vec<f64>, Vec<f64>) {
        let power: Vec<f64> = self.sum.iter().map(|p| p / freedom).collect();
        let (n, modes) = (self.pixels as f64, self.sum.len());
        if ramps < 3 || self.pixels < 2 {
            return (power, Vec::new());
        }
        let within = ramps as f64 / (ramps as f64 - 2.0) / (freedom * freedom);
        let scale = n / freedom;
        let part = n / all as f64;
        let covariance = (0..modes * modes).map(|at| {
            let means = self.sum[at / modes] / n * (self.sum[at % modes] / n);
            let between = (self.between[at] - n * means) / (n - 1.0) * scale * scale;
            part * within * self.products[at] + (1.0 - part) / n * between
        });
        (power, covariance.collect())
    }
}

/// Adds a aᵀ to a matrix.
fn add_product(to: &mut [f64], a: &[f64]) {
    for (row, x) in to.chunks_mut(a.len()).zip(a) {
        row.iter_mut().zip(a).for_each(|(p, y)| *p += x * y);
    }
}

/// What reads with the noise `factors`[k] · σ have in each mode, over σ²: λ_m where all
/// factors are 1. With others, C is no longer diagonal in the modes; what is beside the
/// diagonal is second order in their differences, and only weights hang on it.
pub(super) fn eigenvalues(factors: &[f64]) -> Vec<f64> {
    let sines = sines(factors.len());
    let of_mode = |row: &Vec<f32>| {
        let at = |i: Option<usize>| f64::from(i.and_then(|i| row.get(i)).copied().unwrap_or(0.0));
        // Read k ends difference k − 1 and begins difference k.
        let part = |(k, f): (usize, &f64)| f * f * (at(k.checked_sub(1)) - at(Some(k))).powi(2);
        factors.iter().enumerate().map(part).sum()
    };
    sines.iter().map(of_mode).collect()
}

/// The sine transform of n − 1 differences: row m − 1 has √(2/n) sin(π m k/n).
pub(super) fn sines(reads: usize) -> Vec<Vec<f32>> {
    let n = reads as f64;
    (1..reads)
        .map(|m| (1..reads).map(|k| ((2.0 / n).sqrt() * (PI * (m * k) as f64 / n).sin()) as f32).collect())
        .collect()
}

/// Fits 1/gain and σ² to the spectra of a tile. `None` where they do not determine
/// both: without light, or without modes of different λ.
pub(super) fn fit(spectra: &[Spectrum]) -> Option<Transfer> {
    let modes: Vec<(f64, f64, f64, f64)> = spectra
        .iter()
        .flat_map(|s| s.power.iter().zip(&s.reads).map(|(p, r)| (*p, s.freedom, s.photons, *r)))
        .filter(|m| m.0 > 0.0 && m.1 > 0.0)
        .collect();
    let mut model: Vec<f64> = modes.iter().map(|m| m.0).collect();
    let mut found = None;
    for _ in 0..30 {
        let (mut aa, mut ab, mut bb, mut ap, mut bp) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for ((power, freedom, a, b), model) in modes.iter().zip(&model) {
            let w = freedom / (2.0 * model * model);
            aa += w * a * a;
            ab += w * a * b;
            bb += w * b * b;
            ap += w * a * power;
            bp += w * b * power;
        }
        let determinant = aa * bb - ab * ab;
        if !(determinant > 1e-12 * aa * bb) {
            return None;
        }
        let (u, w) = ((bb * ap - ab * bp) / determinant, (aa * bp - ab * ap) / determinant);
        found = Some(Transfer {
            inverse_gain: u,
            read_variance: w,
            covariance: [bb / determinant, aa / determinant, -ab / determinant],
        });
        for (m, (power, _, a, b)) in model.iter_mut().zip(&modes) {
            // A model near nothing would weigh one mode above all.
            *m = (u * a + w * b).max(0.1 * power);
        }
    }
    found.map(|t| Transfer { covariance: measured(spectra, &t), ..t })
}

/// The covariance of 1/gain and σ² from that of the powers.
fn measured(spectra: &[Spectrum], t: &Transfer) -> [f64; 3] {
    let [uu, ww, uw] = t.covariance;
    let mut inner = [0.0; 3];
    for s in spectra.iter().filter(|s| s.freedom > 0.0) {
        // Of each mode: what its power moves 1/gain and σ² by.
        let pull: Vec<(f64, f64)> = s
            .power
            .iter()
            .zip(&s.reads)
            .map(|(power, b)| {
                let a = s.photons;
                let model = (t.inverse_gain * a + t.read_variance * b).max(0.1 * power);
                let w = if *power > 0.0 { s.freedom / (2.0 * model * model) } else { 0.0 };
                (w * (uu * a + uw * b), w * (uw * a + ww * b))
            })
            .collect();
        let n = pull.len();
        for (i, p) in pull.iter().enumerate() {
            for (j, q) in pull.iter().enumerate() {
                let covariance = match s.covariance.is_empty() {
                    false => s.covariance[i * n + j],
                    true if i == j => 2.0 * s.power[i] * s.power[i] / s.freedom,
                    true => 0.0,
                };
                inner[0] += p.0 * q.0 * covariance;
                inner[1] += p.1 * q.1 * covariance;
                inner[2] += p.0 * q.1 * covariance;
            }
        }
    }
    inner
}

/// Coupling to the neighbours along x and y.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Capacitance {
    /// a_x.
    pub(super) x: f64,
    /// a_y.
    pub(super) y: f64,
    /// 1 σ of ρ_x and of ρ_y.
    pub(super) error: [f64; 2],
}

impl Capacitance {
    /// From the photons' correlations with the neighbours along x and y, and their
    /// errors.
    pub(super) fn of(correlation: [f64; 2], error: [f64; 2]) -> Capacitance {
        let (mut x, mut y) = (0.0, 0.0);
        for _ in 0..50 {
            let centre: f64 = 1.0 - 2.0 * x - 2.0 * y;
            let kept = Self::kept(x, y);
            (x, y) = (correlation[0] * kept / (2.0 * centre), correlation[1] * kept / (2.0 * centre));
        }
        Capacitance { x, y, error }
    }

    fn kept(x: f64, y: f64) -> f64 {
        (1.0 - 2.0 * x - 2.0 * y).powi(2) + 2.0 * x * x + 2.0 * y * y
    }

    /// κ: the part of the photons' variance that stays in the pixel.
    pub(super) fn variance_kept(&self) -> f64 {
        Self::kept(self.x, self.y)
    }

    /// 1 σ of ln κ: κ falls by 2 for each unit of ρ_x and ρ_y, to first order.
    pub(super) fn log_error(&self) -> f64 {
        2.0 * (self.error[0].powi(2) + self.error[1].powi(2)).sqrt() / self.variance_kept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::normal::Normal;

    /// The spectrum of `ramps` simulated ramps of `reads` reads.
    fn spectrum(random: &mut Normal, ramps: usize, reads: usize, v: f64, sigma: f64) -> Spectrum {
        let sines = sines(reads);
        let mut power = vec![0.0; reads - 1];
        for _ in 0..ramps {
            let (mut level, mut before) = (0.0, sigma * random.next());
            let differences: Vec<f64> = (1..reads)
                .map(|_| {
                    level += v.sqrt() * random.next();
                    let now = level + sigma * random.next();
                    let d = now - before;
                    before = now;
                    d
                })
                .collect();
            for (p, row) in power.iter_mut().zip(&sines) {
                let z: f64 = row.iter().zip(&differences).map(|(s, d)| f64::from(*s) * d).sum();
                *p += z * z / ramps as f64;
            }
        }
        let reads = eigenvalues(&vec![1.0; reads]);
        Spectrum { power, freedom: ramps as f64, photons: v, reads, ..Spectrum::default() }
    }

    /// Noise that is not normal (hits that nobody saw) and differs from pixel to pixel.
    #[test]
    fn errors_are_those_of_noise_that_is_not_normal() {
        let mut random = Normal(11);
        let (pixels, ramps, reads, trials) = (200, 5, 8, 300);
        let steps = reads - 1;
        let sigmas: Vec<f64> = (0..pixels).map(|i| 2.0 + 0.014 * i as f64).collect();
        let mut found = Vec::new();
        for _ in 0..trials {
            let mut kept = 0;
            let mut powers = Powers::new(reads);
            for sigma in &sigmas {
                // A third of the pixels is left out, another one each time.
                if random.next() > 0.43 {
                    continue;
                }
                kept += 1;
                let mut d: Vec<f64> = (0..ramps)
                    .flat_map(|_| {
                        let noise: Vec<f64> = (0..reads).map(|_| sigma * random.next()).collect();
                        noise.windows(2).map(|n| n[1] - n[0]).collect::<Vec<_>>()
                    })
                    .collect();
                // One pixel in eighteen was hit.
                if random.next() > 1.6 {
                    d[steps] += 5.0 * sigma;
                }
                for k in 0..steps {
                    let mean = (0..ramps).map(|r| d[r * steps + k]).sum::<f64>() / ramps as f64;
                    (0..ramps).for_each(|r| d[r * steps + k] -= mean);
                }
                powers.add(&d.iter().map(|d| *d as f32).collect::<Vec<_>>());
            }
            let freedom = ((ramps - 1) * kept) as f64;
            let (power, covariance) = powers.mean(ramps, freedom, pixels);
            let all = eigenvalues(&vec![1.0; reads]);
            let dark = Spectrum { power, freedom, covariance, photons: 0.0, reads: all };
            let mut flat = spectrum(&mut random, 400, 8, 200.0, 3.4);
            flat.photons = 400.0;
            let normal = Spectrum { covariance: Vec::new(), ..dark.clone() };
            let fits = [dark, normal].map(|dark| fit(&[flat.clone(), dark]).expect("both are determined"));
            found.push((fits[0].read_variance, fits.map(|f| f.covariance[1])));
        }
        let n = f64::from(trials);
        let mean = found.iter().map(|f| f.0).sum::<f64>() / n;
        let variance = found.iter().map(|f| (f.0 - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let [quoted, normal] = [0, 1].map(|i| found.iter().map(|f| f.1[i]).sum::<f64>() / n);
        // 4.5 σ of the variance of 300 trials is 37 %.
        assert!((quoted / variance - 1.0).abs() < 0.3, "{quoted} {variance}");
        assert!(normal / variance < 0.6, "{normal} {variance}: the test shows nothing");
    }

    #[test]
    fn gain_and_noise_come_back_with_their_errors() {
        let mut random = Normal(3);
        let (inverse_gain, sigma) = (0.5, 4.5);
        let mut squares = [0.0; 2];
        let trials = 200;
        for _ in 0..trials {
            let mut flat = spectrum(&mut random, 300, 8, 400.0 * inverse_gain, sigma);
            flat.photons = 400.0;
            let mut dark = spectrum(&mut random, 300, 11, 0.0, sigma);
            dark.photons = 0.0;
            let t = fit(&[flat, dark]).expect("both are determined");
            squares[0] += (t.inverse_gain - inverse_gain).powi(2) / t.covariance[0];
            squares[1] += (t.read_variance - sigma * sigma).powi(2) / t.covariance[1];
        }
        for s in squares {
            let chi2 = s / f64::from(trials);
            assert!((chi2 - 1.0).abs() < 4.5 * (2.0 / f64::from(trials)).sqrt(), "{chi2}");
        }
    }

    #[test]
    fn alike_reads_have_the_eigenvalues_of_their_differences() {
        for n in [3usize, 12] {
            for (m, l) in (1..n).zip(eigenvalues(&vec![1.0; n])) {
                assert!((l - 2.0 + 2.0 * (PI * m as f64 / n as f64).cos()).abs() < 1e-6, "{n} {m}: {l}");
            }
        }
        // The sum over the modes is the trace of the differences' covariance.
        let f = [1.0f64, 1.1, 1.3, 1.2];
        let trace: f64 = f.windows(2).map(|f| f[0] * f[0] + f[1] * f[1]).sum();
        assert!((eigenvalues(&f).iter().sum::<f64>() - trace).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_determined_is_not_made_up() {
        let mut random = Normal(4);
        let mut dark = spectrum(&mut random, 50, 6, 0.0, 3.0);
        dark.photons = 0.0;
        assert_eq!(fit(&[dark]), None);
        let (power, reads) = (vec![5.0], vec![2.0]);
        let one = Spectrum { power, freedom: 9.0, photons: 2.0, reads, ..Spectrum::default() };
        assert_eq!(fit(&[one]), None);
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn capacitance_follows_from_the_correlations() {
        let (x, y) = (0.013, 0.007);
        let (c, kept) = (1.0 - 2.0 * x - 2.0 * y, Capacitance::kept(x, y));
        let found = Capacitance::of([2.0 * x * c / kept, 2.0 * y * c / kept], [1e-3; 2]);
        assert!((found.x - x).abs() < 1e-9 && (found.y - y).abs() < 1e-9, "{found:?}");
        assert!((found.variance_kept() - kept).abs() < 1e-9);
        assert_eq!(Capacitance::of([0.0; 2], [0.0; 2]).variance_kept(), 1.0);
    }
}
