//! λ(x) of every spaxel anew, from arcs of another time than the LEN-SPX calibration's.
//!
//! What is fitted is the change from the calibration's wavelengths, which is small and
//! smooth: δ(t) = Σ_k c_k P_k(t), t the column scaled to −1 … 1 over the spaxel's spectrum,
//! in units of the median dispersion.
//! 1. Where the lines lie as a whole: of all distances (lines of all spaxels to known
//!    wavelengths, columns) the one about which most gather, within 15. Then each
//!    line is the known one nearest to where that puts it ([`lines::assign`]).
//! 2. The field: δ a polynomial in t, IX and IY, by robust least squares of all lines. Its
//!    total degree is the one that the lines speak for.
//! 3. Each spaxel: its own c_k, drawn to the field's by the scatter s_k that spaxels have
//!    about the field beyond the noise of their lines:
//!    Σ (δ_i − δ(t_i))²/σ_i² + Σ_k (c_k − field_k)²/s_k² is least. s_k comes from the
//!    spaxels that have lines enough (1.48 × median |c_k|, less the fit's variance); where
//!    there is none beyond noise the spaxel has the field's.

use rayon::prelude::*;

use super::wavemap::{Fitted, Solution, Wavemap};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::pipeline::extract::Spectra;
use crate::pipeline::lenspx::legendre::{self, Normal, each, median, unit};
use crate::pipeline::lenspx::lines::{self, Line};
use crate::pipeline::lenspx::{LensCal, Lenslet};

/// How far the spectra may have moved along dispersion, columns.
const REACH: f64 = 15.0;
/// Distances that belong together, columns.
const TOGETHER: f64 = 0.75;
/// Lines further from the field than this, and than 8 times the robust scatter, are not
/// what they were taken for (columns).
const WRONG: f64 = 0.3;
/// Error that every line has beside its noise, columns.
const FLOOR: f64 = 0.01;
/// Least fraction of the spaxels that must show lines.
const ENOUGH: f64 = 0.5;
/// Spaxels from which the scatter about the field is told.
const TELLING: usize = 12;
/// A spaxel whose lines scatter more than this about its wavelengths (columns), and five
/// times as much as others', is not to be relied on.
const UNLIKELY: f64 = 0.1;

/// The spectra of an arc, and the lines that its lamps have.
#[derive(Debug)]
pub struct ArcSpectra {
    /// Vacuum µm.
    pub wavelengths: Vec<f64>,
    /// Extracted without rejection.
    pub spectra: Spectra,
}

/// A line of a spaxel.
#[derive(Debug, Clone, Copy)]
struct Seen {
    lens: usize,
    wavelength: f64,
    line: Line,
    /// Column scaled to the spectrum.
    t: f64,
    /// Known wavelength less the calibration's, in units of the dispersion.
    off: f64,
}

/// Solves for the wavelengths; what is doubtful is said as sentences.
///
/// # Errors
/// No line, lines of one wavelength, lines in fewer than half of the spaxels.
pub fn wavemap(cal: &LensCal, arcs: &[ArcSpectra], degree: usize) -> Result<(Wavemap, Vec<String>)> {
    let usable = |l: &&Lenslet| l.dq & dq::DO_NOT_USE == 0;
    let dispersion = median(cal.lenslets.iter().filter(usable).map(|l| slope(l, 0.0).abs()).collect());
    if dispersion.is_nan() || dispersion <= 0.0 {
        return Err(Error::reference("lenspx", "has no usable lenslet with wavelengths"));
    }
    let mut seen = Vec::new();
    for arc in arcs {
        seen.extend(identify(cal, arc, dispersion));
    }
    let mut wavelengths: Vec<f64> = seen.iter().map(|s| s.wavelength).collect();
    wavelengths.sort_by(f64::total_cmp);
    wavelengths.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    if wavelengths.len() < 2 {
        return Err(unsolvable(format!(
            "lines of {} of the lamps' wavelengths could be measured, two are the least ({}): are the arcs \
             saturated or too faint, or the lamps' lines outside the band?",
            wavelengths.len(),
            saturated(arcs)
        )));
    }
    let mut warnings = Vec::new();
    let affords = degree.min(wavelengths.len() - 1);
    if affords < degree {
        warnings.push(format!(
            "wavecal: {} lines afford a change of degree {affords} from the LEN-SPX calibration's wavelengths, not \
             {degree}",
            wavelengths.len()
        ));
    }
    let (field, kept) = Field::fit(cal, &seen, affords, dispersion)?;
    let by_lens = grouped(cal.lenslets.len(), &kept);
    let scatter = scatter(cal, &field, &by_lens);
    let spaxels: Vec<Solution> = cal
        .lenslets
        .par_iter()
        .zip(&by_lens)
        .map(|(l, own)| spaxel(l, own, &field, &scatter, dispersion))
        .collect();
    let mut map = Wavemap {
        mode: cal.mode.clone(),
        lines: fitted(&wavelengths, &kept, &spaxels, dispersion),
        degree: field.degree,
        shift: -median(kept.iter().map(|s| s.off).collect()),
        rms: median(spaxels.iter().map(|s| s.rms / dispersion).collect()),
        scatter,
        spaxels,
    };
    flag(&mut map, cal, dispersion);
    let lit = map.spaxels.iter().zip(&cal.lenslets).filter(|(_, l)| usable(l));
    let (all, with) = lit.fold((0, 0), |(n, k), (s, _)| (n + 1, k + usize::from(s.lines > 0)));
    if (with as f64) < ENOUGH * f64::from(all) {
        return Err(unsolvable(format!(
            "only {with} of {all} spaxels show the lamps' lines ({}): are the arcs saturated, too faint, or not lit \
             through all lenslets?",
            saturated(arcs)
        )));
    }
    let (first, last) = (wavelengths[0], wavelengths[wavelengths.len() - 1]);
    let band = cal
        .lenslets
        .iter()
        .filter(usable)
        .fold((f64::MAX, f64::MIN), |b, l| (b.0.min(l.wavmin), b.1.max(l.wavmax)));
    if last - first < 0.5 * (band.1 - band.0) {
        warnings.push(format!(
            "wavecal: the lines lie between {first:.4} and {last:.4} um, less than half of the band ({:.4} to {:.4} um): \
             beyond them wavelengths are extrapolated",
            band.0, band.1
        ));
    }
    Ok((map, warnings))
}

fn unsolvable(message: String) -> Error {
    Error::Unsolvable(format!("wavecal: {message}"))
}

/// How many samples of the spectra are saturated, in words.
fn saturated(arcs: &[ArcSpectra]) -> String {
    let flags = || arcs.iter().flat_map(|a| &a.spectra.dq);
    let within = flags().filter(|d| **d & dq::NON_SCIENCE == 0).count();
    let bad = flags().filter(|d| **d & dq::NON_SCIENCE == 0 && **d & dq::SATURATED != 0).count();
    format!("{:.1} % of the spectra's samples are saturated", 100.0 * bad as f64 / within.max(1) as f64)
}

/// µm a column at t.
fn slope(l: &Lenslet, t: f64) -> f64 {
    legendre::slope(&l.wave, t) * 2.0 / (l.xmax - l.xmin).max(1) as f64
}

/// Which line of an arc is which known one.
fn identify(cal: &LensCal, arc: &ArcSpectra, dispersion: f64) -> Vec<Seen> {
    let found = lines::in_spectra(&arc.spectra, cal.lenslets.len());
    let of = |l: &Lenslet, x: f64| (l.wavelength(x), slope(l, unit(x, l.xmin as f64, l.xmax as f64)));
    let usable = |l: &Lenslet| l.dq & dq::DO_NOT_USE == 0 && !l.wave.is_empty();
    let distances: Vec<f64> = cal
        .lenslets
        .par_iter()
        .zip(&found)
        .filter(|(l, _)| usable(l))
        .flat_map_iter(|(l, lines)| {
            lines.iter().flat_map(move |line| {
                let (wavelength, slope) = of(l, line.x);
                let off = move |known: &f64| (known - wavelength) / slope;
                arc.wavelengths.iter().map(off).filter(|d| d.abs() <= REACH)
            })
        })
        .collect();
    let Some(moved) = most_common(distances) else { return Vec::new() };
    cal.lenslets
        .par_iter()
        .zip(&found)
        .enumerate()
        .filter(|(_, (l, _))| usable(l))
        .flat_map_iter(|(lens, (l, lines))| {
            let at = |x: f64| {
                let (wavelength, slope) = of(l, x);
                (wavelength + moved * slope, slope)
            };
            let (pairs, _) = lines::assign(lines, &arc.wavelengths, &at);
            pairs.into_iter().map(move |(i, k)| {
                let (line, wavelength) = (lines[i], arc.wavelengths[k]);
                let t = unit(line.x, l.xmin as f64, l.xmax as f64);
                Seen { lens, wavelength, line, t, off: (wavelength - l.wavelength(line.x)) / dispersion }
            })
        })
        .collect()
}

/// The value about which most of `values` lie within [`TOGETHER`]; of equals the one
/// nearest to zero.
fn most_common(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let mut best: Option<(usize, f64)> = None;
    let steps = (4.0 * REACH) as i32;
    for k in -steps..=steps {
        let centre = f64::from(k) / 4.0;
        let near = &values[values.partition_point(|v| *v < centre - TOGETHER)
            ..values.partition_point(|v| *v <= centre + TOGETHER)];
        let n = near.len();
        if n > 0 && best.is_none_or(|b| n > b.0 || (n == b.0 && centre.abs() < b.1.abs())) {
            best = Some((n, centre));
        }
    }
    let (_, centre) = best?;
    Some(median(values.into_iter().filter(|v| (v - centre).abs() <= TOGETHER).collect()))
}

fn grouped(n: usize, seen: &[Seen]) -> Vec<Vec<Seen>> {
    let mut out = vec![Vec::new(); n];
    seen.iter().for_each(|s| out[s.lens].push(*s));
    out
}

/// δ(t, IX, IY): Σ_kij θ_kij P_k(t) P_i(IX) P_j(IY), i + j + k no more than `degree`, i + j
/// no more than 2 and k than `along`.
struct Field {
    degree: usize,
    along: usize,
    size: (usize, usize),
    terms: Vec<f64>,
}

impl Field {
    /// Each P_i P_j of a spaxel, with i + j.
    fn places(&self, l: &Lenslet) -> Vec<(f64, usize)> {
        let axis = |i: i32, n: usize| {
            let mut p = [0.0; 3];
            each(unit(f64::from(i), 0.0, n as f64 - 1.0), 3, |k, v| p[k] = v);
            // A side of n spaxels has n terms.
            (p, n.min(3))
        };
        let ((a, na), (b, nb)) = (axis(l.ix, self.size.0), axis(l.iy, self.size.1));
        (0..na).flat_map(|i| (0..nb.min(3 - i)).map(move |j| (a[i] * b[j], i + j))).collect()
    }

    /// Each term's k and P_i P_j.
    fn factors(&self, l: &Lenslet) -> Vec<(usize, f64)> {
        let places = self.places(l);
        let of = |k: usize| {
            let within = places.iter().filter(move |(_, order)| order + k <= self.degree);
            within.map(move |(p, _)| (k, *p))
        };
        (0..=self.along.min(self.degree)).flat_map(of).collect()
    }

    fn row(&self, l: &Lenslet, t: f64) -> Vec<f64> {
        let mut p = vec![0.0; self.along + 1];
        each(t, self.along + 1, |k, v| p[k] = v);
        self.factors(l).into_iter().map(|(k, place)| p[k] * place).collect()
    }

    /// The c_k of a spaxel.
    fn series(&self, l: &Lenslet) -> Vec<f64> {
        let mut c = vec![0.0; self.along + 1];
        self.factors(l).into_iter().zip(&self.terms).for_each(|((k, place), term)| c[k] += place * term);
        c
    }

    /// How far a line lies from it, in units of the dispersion.
    fn off(&self, cal: &LensCal, s: &Seen) -> f64 {
        s.off - legendre::value(&self.series(&cal.lenslets[s.lens]), s.t)
    }

    /// Determined by these lines; `None` where they do not.
    fn solved(mut self, cal: &LensCal, seen: &[Seen]) -> Option<Field> {
        let n = self.row(cal.lenslets.first()?, 0.0).len();
        let mut normal = Normal::new(n);
        for s in seen {
            normal.add(&self.row(&cal.lenslets[s.lens], s.t), s.off, weight(s));
        }
        self.terms = normal.solution().filter(|_| seen.len() > n)?;
        Some(self)
    }

    /// Fits it to lines; the lines that agree with it. Of all total degrees up to the one
    /// asked for that is taken which the lines speak for: n ln χ² + p ln n is least, p terms
    /// (Schwarz 1978).
    fn fit(cal: &LensCal, seen: &[Seen], along: usize, dispersion: f64) -> Result<(Field, Vec<Seen>)> {
        let size = cal.grid();
        let of = |degree: usize| Field { degree, along, size, terms: Vec::new() };
        let columns =
            |f: &Field, s: &Seen| f.off(cal, s).abs() * dispersion / slope(&cal.lenslets[s.lens], s.t).abs();
        // The fullest that is determined tells what is no line of the lamps.
        let most = (0..=along.max(2)).rev().find(|d| of(*d).solved(cal, seen).is_some());
        let Some(most) = most else {
            return Err(unsolvable(format!(
                "the {} lines measured in {} spaxels do not determine it: take more arcs",
                seen.len(),
                cal.lenslets.len()
            )));
        };
        let mut kept = seen.to_vec();
        for _ in 0..10 {
            let Some(f) = of(most).solved(cal, &kept) else { break };
            let limit = (8.0 * 1.48 * median(kept.iter().map(|s| columns(&f, s)).collect())).max(WRONG);
            let next: Vec<Seen> = seen.iter().filter(|s| columns(&f, s) <= limit).copied().collect();
            if next.len() == kept.len() {
                break;
            }
            kept = next;
        }
        let n = kept.len() as f64;
        let speaks = |f: &Field| {
            let chi2: f64 = kept.iter().map(|s| f.off(cal, s).powi(2) * weight(s)).sum();
            n * (chi2 / n).ln() + f.terms.len() as f64 * n.ln()
        };
        let all = (0..=most).filter_map(|d| of(d).solved(cal, &kept));
        let best = all.map(|f| (speaks(&f), f)).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, field)| (field, kept))
            .ok_or_else(|| unsolvable("no line agrees with the others".into()))
    }
}

fn weight(s: &Seen) -> f64 {
    1.0 / (s.line.error * s.line.error + FLOOR * FLOOR)
}

/// A spaxel's own c_k about the field's, drawn to them where `scatter` says how far.
fn own(
    l: &Lenslet,
    seen: &[Seen],
    field: &Field,
    terms: usize,
    scatter: &[f64],
) -> Option<(Vec<f64>, Vec<f64>)> {
    let series = field.series(l);
    let mut normal = Normal::new(terms);
    let mut row = vec![0.0; terms];
    for s in seen {
        each(s.t, terms, |k, p| row[k] = p);
        normal.add(&row, s.off - legendre::value(&series, s.t), weight(s));
    }
    scatter.iter().enumerate().for_each(|(k, s)| normal.add_to(k, k, 1.0 / (s * s)));
    normal.solve()
}

/// How far the spaxels' c_k scatter about the field's beyond noise, columns; as many as
/// stand out.
fn scatter(cal: &LensCal, field: &Field, by_lens: &[Vec<Seen>]) -> Vec<f64> {
    for terms in (1..=(field.along + 1).min(3)).rev() {
        let fits: Vec<(Vec<f64>, Vec<f64>)> = cal
            .lenslets
            .iter()
            .zip(by_lens)
            .filter(|(_, own)| own.len() > terms)
            .filter_map(|(l, seen)| own(l, seen, field, terms, &[]))
            .collect();
        if fits.len() < TELLING {
            continue;
        }
        let of = |k: usize| {
            let spread = 1.4826 * median(fits.iter().map(|(c, _)| c[k].abs()).collect());
            spread * spread - median(fits.iter().map(|(_, v)| v[k]).collect())
        };
        // A higher term beyond one that does not stand out would be noise.
        return (0..terms).map(of).take_while(|v| *v > 0.0).map(f64::sqrt).collect();
    }
    Vec::new()
}

fn spaxel(l: &Lenslet, seen: &[Seen], field: &Field, scatter: &[f64], dispersion: f64) -> Solution {
    let mut change = field.series(l);
    if !seen.is_empty()
        && !scatter.is_empty()
        && let Some((c, _)) = own(l, seen, field, scatter.len(), scatter)
    {
        change.resize(change.len().max(c.len()), 0.0);
        change.iter_mut().zip(c).for_each(|(to, c)| *to += c);
    }
    let mut wave = l.wave.clone();
    wave.resize(wave.len().max(change.len()), 0.0);
    wave.iter_mut().zip(&change).for_each(|(w, c)| *w += c * dispersion);
    let squares: f64 = seen.iter().map(|s| (s.off - legendre::value(&change, s.t)).powi(2)).sum();
    Solution {
        id: l.id,
        ix: l.ix,
        iy: l.iy,
        xmin: l.xmin,
        xmax: l.xmax,
        wave,
        rms: if seen.is_empty() { f64::NAN } else { (squares / seen.len() as f64).sqrt() * dispersion },
        lines: seen.len(),
        sigma: median(seen.iter().map(|s| s.line.sigma).collect()),
        dq: 0,
    }
}

/// How each line fits.
fn fitted(wavelengths: &[f64], kept: &[Seen], spaxels: &[Solution], dispersion: f64) -> Vec<Fitted> {
    let each = wavelengths.iter().map(|w| {
        let off: Vec<f64> = kept
            .iter()
            .filter(|s| (s.wavelength - w).abs() < 1e-9)
            .map(|s| (legendre::value(&spaxels[s.lens].wave, s.t) - w) / dispersion)
            .collect();
        let n = off.len().max(1) as f64;
        let offset = off.iter().sum::<f64>() / n;
        let rms = (off.iter().map(|o| (o - offset).powi(2)).sum::<f64>() / n).sqrt();
        Fitted { wavelength: *w, spaxels: off.len(), offset, rms }
    });
    each.filter(|f| f.spaxels > 0).collect()
}

/// Spaxels without lines of their own, with lines that do not fit, with wavelengths that
/// turn round.
fn flag(map: &mut Wavemap, cal: &LensCal, dispersion: f64) {
    let limit = (5.0 * map.rms).max(UNLIKELY) * dispersion;
    for (s, l) in map.spaxels.iter_mut().zip(&cal.lenslets) {
        if s.lines == 0 || s.rms > limit {
            s.dq |= dq::UNRELIABLE_WS;
        }
        let sign = legendre::slope(&l.wave, 0.0).signum();
        if (0..=32).any(|i| legendre::slope(&s.wave, f64::from(i) / 16.0 - 1.0) * sign <= 0.0) {
            s.dq |= dq::UNRELIABLE_WS | dq::DO_NOT_USE;
        }
    }
}

#[cfg(test)]
#[path = "solve_tests.rs"]
mod tests;
