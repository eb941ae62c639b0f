//! Lines in a spectrum, and which known line each is where the wavelengths are known
//! roughly.

use rayon::prelude::*;

use super::gaussian;
use super::legendre::Normal;
use crate::datamodel::dq;
use crate::pipeline::extract::Spectra;

/// Least significance of a line's peak, σ.
const SIGNIFICANCE: f64 = 10.0;
/// Columns on either side of the peak that are fitted.
const HALF: usize = 5;
/// How far a line may be from where it is looked for, columns.
const TOLERANCE: f64 = 3.0;

/// Indices of lines and of the known wavelengths that they are.
pub type Pairs = Vec<(usize, usize)>;

/// A measured line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Centre, columns.
    pub x: f64,
    /// Its error.
    pub error: f64,
    /// Width of the line-spread function, columns (the pixel not included).
    pub sigma: f64,
    /// Flux.
    pub flux: f64,
}

/// The lines of each of `lenslets` spectra; saturated and bad samples are unknown.
pub fn in_spectra(spectra: &Spectra, lenslets: usize) -> Vec<Vec<Line>> {
    let samples = |l: usize| -> Vec<(f64, f64)> {
        let sample = |i: usize| match spectra.dq[i] & (dq::DO_NOT_USE | dq::SATURATED) {
            0 => (f64::from(spectra.flux[i]), f64::from(spectra.variance[i])),
            _ => (f64::NAN, f64::NAN),
        };
        (l * spectra.nx..(l + 1) * spectra.nx).map(sample).collect()
    };
    (0..lenslets).into_par_iter().map(|l| find(&samples(l))).collect()
}

/// Every significant line of a spectrum given as (value, variance) by column, NaN
/// where unknown. A line with an unknown sample within two columns of its peak
/// (saturated, bad) is left out.
pub fn find(spectrum: &[(f64, f64)]) -> Vec<Line> {
    let n = spectrum.len();
    let value = |x: usize| if spectrum[x].0.is_finite() { spectrum[x].0 } else { f64::NEG_INFINITY };
    let peaks: Vec<usize> = (2..n.saturating_sub(2))
        .filter(|&x| {
            let (v, variance) = spectrum[x];
            let known = (x - 2..=x + 2).all(|i| spectrum[i].0.is_finite());
            let top = value(x - 1).max(value(x - 2)) < v && value(x + 1).max(value(x + 2)) <= v;
            known && top && v > SIGNIFICANCE * variance.sqrt()
        })
        .collect();
    let mut lines: Vec<Option<Line>> = peaks.iter().map(|&x| centroid(spectrum, x)).collect();
    // Again without the neighbours' wings.
    for _ in 0..2 {
        for i in 0..lines.len() {
            let near = |j: usize| j != i && peaks[j].abs_diff(peaks[i]) < 3 * HALF;
            let others: Vec<Line> = (0..lines.len()).filter(|j| near(*j)).filter_map(|j| lines[j]).collect();
            if others.is_empty() {
                continue;
            }
            let around = peaks[i].saturating_sub(HALF)..(peaks[i] + HALF + 1).min(n);
            let mut alone = spectrum.to_vec();
            for x in around {
                let wing = |l: &Line| l.flux * gaussian::with_slopes(l.x, l.sigma, x as i64).0;
                alone[x].0 -= others.iter().map(wing).sum::<f64>();
            }
            lines[i] = centroid(&alone, peaks[i]);
        }
    }
    let mut lines: Vec<Line> = lines.into_iter().flatten().collect();
    lines.dedup_by(|a, b| (a.x - b.x).abs() < 1.0);
    lines
}

/// A pixel-integrated Gaussian on a constant, fitted around `peak`.
fn centroid(spectrum: &[(f64, f64)], peak: usize) -> Option<Line> {
    let around = peak.saturating_sub(HALF)..(peak + HALF + 1).min(spectrum.len());
    let base = around.clone().map(|x| spectrum[x].0).filter(|v| v.is_finite()).fold(f64::MAX, f64::min);
    let sigma = 0.9;
    let (mut flux, mut x0, mut sigma, mut level) =
        ((spectrum[peak].0 - base) * 2.5, peak as f64, sigma, base);
    let mut errors = Vec::new();
    for iteration in 0..20 {
        let mut normal = Normal::new(4);
        for x in around.clone() {
            let (v, variance) = spectrum[x];
            if v.is_finite() && variance > 0.0 {
                let (p, by_x, by_sigma) = gaussian::with_slopes(x0, sigma, x as i64);
                let row = [p, flux * by_x, flux * by_sigma, 1.0];
                normal.add(&row, v - flux * p - level, 1.0 / variance);
            }
        }
        let (step, variance) = normal.solve()?;
        flux += step[0];
        x0 += step[1].clamp(-0.5, 0.5);
        sigma = (sigma + step[2].clamp(-0.3, 0.3)).clamp(0.25, 4.0);
        level += step[3];
        errors = variance;
        if iteration > 2 && step[1].abs() < 1e-5 && step[2].abs() < 1e-4 {
            break;
        }
    }
    let plausible = (x0 - peak as f64).abs() < 1.5
        && (0.3..3.5).contains(&sigma)
        && flux > SIGNIFICANCE * errors[0].sqrt();
    plausible.then(|| Line { x: x0, error: errors[1].sqrt(), sigma, flux })
}

/// Pairs every line with the nearest known wavelength within three columns, each
/// used once, and the mean distance in columns. `at` gives wavelength and dispersion.
pub fn assign(lines: &[Line], known: &[f64], at: &dyn Fn(f64) -> (f64, f64)) -> (Pairs, f64) {
    let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let (wavelength, slope) = at(line.x);
        let off = |k: usize| ((known[k] - wavelength) / slope).abs();
        let Some(k) = (0..known.len()).min_by(|a, b| off(*a).total_cmp(&off(*b))) else { continue };
        if off(k) > TOLERANCE {
            continue;
        }
        match pairs.iter_mut().find(|p| p.1 == k) {
            Some(p) if p.2 > off(k) => *p = (i, k, off(k)),
            Some(_) => {}
            None => pairs.push((i, k, off(k))),
        }
    }
    let mean = pairs.iter().map(|p| p.2).sum::<f64>() / pairs.len().max(1) as f64;
    (pairs.into_iter().map(|p| (p.0, p.1)).collect(), mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(lines: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let mut s = vec![(5.0, 1.0); 200];
        for (x, flux) in lines {
            for (i, v) in s.iter_mut().enumerate() {
                v.0 += flux * gaussian::with_slopes(*x, 0.95, i as i64).0;
            }
        }
        s
    }

    #[test]
    fn centres() {
        let known: [f64; 6] = [1.50, 1.512, 1.517, 1.53, 1.546, 1.56];
        let truth: Vec<(f64, f64)> = known.iter().map(|w| (20.3 + (1.57 - w) * 2000.0, 3000.0 * w)).collect();
        let mut all = truth.clone();
        all.push((120.0, 900.0)); // an unknown line
        all.remove(2);
        let lines = find(&spectrum(&all));
        assert_eq!(lines.len(), 6);
        for line in &lines {
            assert!(all.iter().any(|t| (t.0 - line.x).abs() < 2e-3), "{line:?}");
            assert!((line.sigma - 0.95).abs() < 0.01);
        }
        // A saturated line is not measured.
        let mut s = spectrum(&truth);
        s[truth[3].0 as usize].0 = f64::NAN;
        assert_eq!(find(&s).len(), 5);
    }
}
