//! Wavelengths: λ(x) of every lenslet from lines of known wavelength.
//!
//! First one polynomial for the whole field, λ(x, IX, IY) of total degree at most
//! `degree` (and less than the number of different lines), fitted robustly to all
//! measured lines: it tells misidentified lines and carries lenslets with few. Then
//! each lenslet's own Legendre correction on top, of a degree that its lines afford:
//! none without lines, constant with one or two, linear with three to `degree` + 2,
//! quadratic with more. Vacuum µm throughout.

use super::LensCal;
use super::legendre::{self, Normal, each, median, unit};
use super::lines::Line;
use crate::datamodel::dq;
use crate::error::{Error, Result};

/// A line of a lenslet with its wavelength.
#[derive(Debug, Clone, Copy)]
pub struct Match {
    /// Index of the lenslet.
    pub lens: usize,
    /// Wavelength, µm.
    pub wavelength: f64,
    /// The measurement.
    pub line: Line,
}

/// Lines with residuals beyond this, and beyond 8 times the robust scatter, are
/// misidentified (columns).
const WRONG: f64 = 0.3;

/// λ(x, IX, IY) as a polynomial.
#[derive(Debug, Clone)]
pub struct Field {
    degree: usize,
    size: (f64, f64, f64),
    terms: Vec<f64>,
}

impl Field {
    fn row(&self, x: f64, ix: i32, iy: i32) -> Vec<f64> {
        let d = self.degree;
        let series = |t: f64| {
            let mut p = vec![0.0; d + 1];
            each(t, d + 1, |k, v| p[k] = v);
            p
        };
        let a = series(unit(x, 0.0, self.size.0 - 1.0));
        let b = series(unit(f64::from(ix), 0.0, self.size.1 - 1.0));
        let c = series(unit(f64::from(iy), 0.0, self.size.2 - 1.0));
        // An axis of one lenslet has no terms beyond the constant.
        let (nb, nc) = (if self.size.1 > 1.0 { d } else { 0 }, if self.size.2 > 1.0 { d } else { 0 });
        let mut row = Vec::new();
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate().take(nb.min(d - i) + 1) {
                row.extend(c.iter().take(nc.min(d - i - j) + 1).map(|c| a * b * c));
            }
        }
        row
    }

    /// λ at column `x` of lenslet (`ix`, `iy`).
    pub fn wavelength(&self, x: f64, ix: i32, iy: i32) -> f64 {
        self.row(x, ix, iy).iter().zip(&self.terms).map(|(a, b)| a * b).sum()
    }

    /// λ and dλ/dx.
    pub fn with_slope(&self, x: f64, ix: i32, iy: i32) -> (f64, f64) {
        let (a, b) = (self.wavelength(x - 0.5, ix, iy), self.wavelength(x + 0.5, ix, iy));
        ((a + b) / 2.0, b - a)
    }
}

/// Fits the field; returns it with the matches that agree with it.
pub fn field(cal: &LensCal, matches: &[Match], degree: usize) -> Result<(Field, Vec<Match>)> {
    let mut different: Vec<f64> = matches.iter().map(|m| m.wavelength).collect();
    different.sort_by(f64::total_cmp);
    different.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    if different.len() < 2 {
        return Err(Error::Unsolvable(format!(
            "the wavelength solution needs lines of at least two wavelengths; {} could be measured \
             (are the arc frames saturated or too faint, or their wavelengths outside the band?)",
            different.len()
        )));
    }
    let (nx, ny) = cal.grid();
    // Fewer lenslets than terms cannot carry a field of high degree.
    let mut degree = degree.clamp(1, different.len() - 1);
    loop {
        let size = (cal.mode.nx as f64, nx as f64, ny as f64);
        let mut f = Field { degree, size, terms: Vec::new() };
        let mut solved = false;
        let mut kept = matches.to_vec();
        for _ in 0..8 {
            let n = f.row(0.0, 0, 0).len();
            let mut normal = Normal::new(n);
            for m in &kept {
                let l = &cal.lenslets[m.lens];
                normal.add(&f.row(m.line.x, l.ix, l.iy), m.wavelength, 1.0);
            }
            let Some((terms, _)) = normal.solve().filter(|_| kept.len() >= n) else {
                solved = false;
                break;
            };
            f.terms = terms;
            solved = true;
            let off = |m: &Match| {
                let l = &cal.lenslets[m.lens];
                let (wavelength, slope) = f.with_slope(m.line.x, l.ix, l.iy);
                ((m.wavelength - wavelength) / slope).abs()
            };
            let limit = (8.0 * 1.48 * median(kept.iter().map(off).collect())).max(WRONG);
            let next: Vec<Match> = matches.iter().filter(|m| off(m) <= limit).copied().collect();
            if next.len() == kept.len() {
                break;
            }
            kept = next;
        }
        if solved {
            return Ok((f, kept));
        }
        if degree == 1 {
            return Err(Error::Unsolvable(format!(
                "the wavelength solution is not determined by the {} lines measured in {} lenslets; \
                 take more arc lines or arc frames",
                kept.len(),
                cal.lenslets.len()
            )));
        }
        degree -= 1;
    }
}

/// Gives every lenslet its λ(x); says what fraction of usable lenslets had lines.
pub fn solve(cal: &mut LensCal, matches: &[Match], degree: usize) -> Result<f64> {
    let (field, kept) = field(cal, matches, degree)?;
    let (mut with_lines, mut usable) = (0, 0);
    for (index, l) in cal.lenslets.iter_mut().enumerate() {
        let own: Vec<&Match> = kept.iter().filter(|m| m.lens == index).collect();
        let (low, high) = (l.xmin as f64, l.xmax as f64);
        let t = |x: f64| unit(x, low, high);
        let residuals: Vec<(f64, f64, f64)> = own
            .iter()
            .map(|m| (t(m.line.x), m.wavelength - field.wavelength(m.line.x, l.ix, l.iy), m.line.error))
            // A floor keeps one very bright line from ruling alone.
            .map(|(t, r, e)| (t, r, 1.0 / (e * e + 1e-4)))
            .collect();
        let own_degree = match own.len() {
            0 => None,
            1..=2 => Some(0),
            n if n <= degree + 2 => Some(1),
            _ => Some(2.min(degree)),
        };
        let correction = own_degree.and_then(|d| legendre::fit(&residuals, d)).unwrap_or_default();
        let n = (field.degree.max(2) + 1).max(degree + 1);
        let points: Vec<(f64, f64, f64)> = (0..4 * n)
            .map(|i| (2.0 * i as f64 / (4 * n - 1) as f64) - 1.0)
            .map(|s| {
                let x = low + (s + 1.0) / 2.0 * (high - low);
                (s, field.wavelength(x, l.ix, l.iy) + legendre::value(&correction, s), 1.0)
            })
            .collect();
        l.wave = legendre::fit(&points, n - 1).unwrap_or_default();
        let off = |p: &(f64, f64, f64)| (p.1 - legendre::value(&correction, p.0)).powi(2);
        l.wave_rms = (residuals.iter().map(off).sum::<f64>() / residuals.len().max(1) as f64).sqrt();
        l.lsf_sigma = median(own.iter().map(|m| m.line.sigma).collect());
        let ends = (l.wavelength(low - 0.5), l.wavelength(high + 0.5));
        (l.wavmin, l.wavmax) = (ends.0.min(ends.1), ends.0.max(ends.1));
        let sign = (ends.1 - ends.0).signum();
        let monotonic = (0..=32).all(|i| legendre::slope(&l.wave, f64::from(i) / 16.0 - 1.0) * sign > 0.0);
        if own.is_empty() {
            l.dq |= dq::UNRELIABLE_WS;
        }
        if !monotonic {
            l.dq |= dq::UNRELIABLE_WS | dq::DO_NOT_USE;
        }
        if l.dq & dq::DO_NOT_USE == 0 {
            usable += 1;
            with_lines += usize::from(!own.is_empty());
        }
    }
    let overall = median(cal.lenslets.iter().map(|l| l.lsf_sigma).collect());
    for l in &mut cal.lenslets {
        if !l.lsf_sigma.is_finite() {
            l.lsf_sigma = overall;
        }
    }
    Ok(with_lines as f64 / usable.max(1) as f64)
}
