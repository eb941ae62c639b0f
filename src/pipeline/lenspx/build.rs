//! The calibration out of its frames.

use rayon::prelude::*;

use super::identify::rows;
use super::lines::{self, Line};
use super::noise::Noise;
use super::pattern::{self, Frame};
use super::wave::{self, Match};
use super::{
    Arc, LensCal, Lenslet, Mode, Params, Scan, Shape, choice, epsf, flat, gaussian, leak, legendre, shape,
    trace,
};
use crate::config::{Extract, Extraction};
use crate::datamodel::dq;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipeline::extract::extract;

/// Profiles further than this from a Gaussian (rms residual over rms model) are not
/// what this model describes.
const MISFIT: f64 = 0.25;
/// Least fraction of lenslets that must be usable, and that must show lines.
const ENOUGH: f64 = 0.5;

/// Makes the calibration for `mode` out of `scans` and `arcs`.
pub fn build(
    engine: &mut dyn Engine,
    scans: &[Scan],
    arcs: &[Arc],
    mode: &Mode,
    params: &Params,
) -> Result<LensCal> {
    check(scans, arcs, mode)?;
    let first = scans.iter().map(|s| s.lenscol).min().unwrap_or(0);
    let mut order: Vec<&Scan> = scans.iter().collect();
    order.sort_by_key(|s| s.lenscol);
    let measured: Vec<Vec<Shape>> = order.iter().map(|s| traces(s, params)).collect::<Result<_>>()?;
    let (mut cal, shapes) = place(&measured, &order, first, mode)?;
    let matches = match_lines(engine, &cal, arcs, params)?;
    let seen = wave::solve(&mut cal, &matches, params.wave_degree)?;
    if seen < ENOUGH {
        return Err(unsolvable(format!(
            "only {:.0} % of the lenslets show the arc lines: are the arc frames saturated, too faint, \
             or not lit through all lenslets?",
            100.0 * seen
        )));
    }
    flat::solve(&mut cal, &shapes, params.flat_terms)?;
    cal.psf = epsf::measure(&mut cal, &order, arcs)?;
    cal.leak = leak::measure(engine, &cal, &order, Extraction::Banded)?;
    cal.leak_factored = leak::measure(engine, &cal, &order, Extraction::Factored)?;
    cal.chi2 = choice::measure(engine, &cal, arcs)?;
    for l in &mut cal.lenslets {
        l.dq |= if l.dq & dq::DO_NOT_USE != 0 { dq::NON_SCIENCE } else { 0 };
    }
    let usable = cal.lenslets.iter().filter(|l| l.dq & dq::DO_NOT_USE == 0).count();
    let (nx, ny) = cal.grid();
    if (usable as f64) < ENOUGH * (nx * ny) as f64 {
        return Err(unsolvable(format!(
            "only {usable} of {} lenslets can be calibrated; look at the scans (lamp, focus, saturation)",
            nx * ny
        )));
    }
    Ok(cal)
}

fn unsolvable(message: String) -> Error {
    Error::Unsolvable(format!("LEN-SPX: {message}"))
}

fn check(scans: &[Scan], arcs: &[Arc], mode: &Mode) -> Result<()> {
    if scans.is_empty() {
        return Err(unsolvable("there is no white-light scan (frames with LENSCOL)".into()));
    }
    if arcs.iter().all(|a| a.wavelengths.is_empty()) {
        return Err(unsolvable("there is no arc or monochromatic frame with known wavelengths".into()));
    }
    let sizes = scans.iter().map(|s| &s.rate).chain(arcs.iter().map(|a| &a.rate));
    for rate in sizes {
        if (rate.nx, rate.ny) != (mode.nx, mode.ny) {
            return Err(unsolvable(format!(
                "frames of different sizes, {} × {} and {} × {} pixels",
                mode.nx, mode.ny, rate.nx, rate.ny
            )));
        }
    }
    let mut columns: Vec<i32> = scans.iter().map(|s| s.lenscol).collect();
    columns.sort_unstable();
    for pair in columns.windows(2) {
        if pair[0] == pair[1] {
            return Err(unsolvable(format!("two scans of lenslet column LENSCOL = {}", pair[0])));
        }
        if pair[1] != pair[0] + 1 {
            return Err(unsolvable(format!(
                "no scan of lenslet column LENSCOL = {}; its light could not be told from its neighbours'",
                pair[0] + 1
            )));
        }
    }
    Ok(())
}

fn traces(scan: &Scan, params: &Params) -> Result<Vec<Shape>> {
    let noise = Noise::of(&scan.rate)?;
    let rough = trace::find(&scan.rate, &noise);
    let degrees = (params.trace_degree, params.width_degree);
    let shapes: Vec<Shape> =
        rough.par_iter().filter_map(|r| shape::measure(&scan.rate, &noise, r, degrees)).collect();
    // What is much shorter than the spectra is not one of them (a ghost, a bad row).
    let length = |s: &Shape| (s.range.1 - s.range.0) as f64;
    let usual = legendre::median(shapes.iter().map(length).collect());
    let shapes: Vec<Shape> = shapes.into_iter().filter(|s| length(s) > 0.25 * usual).collect();
    if shapes.is_empty() {
        return Err(unsolvable(format!(
            "the scan of lenslet column LENSCOL = {} shows no spectrum ({} candidates); \
             is the lamp on and the column on the detector?",
            scan.lenscol,
            rough.len()
        )));
    }
    Ok(shapes)
}

/// Lenslets with their place in the field, and their traces in the same order.
fn place(measured: &[Vec<Shape>], scans: &[&Scan], first: i32, mode: &Mode) -> Result<(LensCal, Vec<Shape>)> {
    let length =
        legendre::median(measured.iter().flatten().map(|s| (s.range.1 - s.range.0) as f64).collect());
    // The middle of the whole spectrum, also where the detector cuts one end off.
    let middle = |s: &Shape| {
        let (a, b) = (s.range.0 as f64, s.range.1 as f64);
        let x = match (s.range.0 > 2, s.range.1 + 3 < mode.nx) {
            (true, true) => (a + b) / 2.0,
            (true, false) => a + length / 2.0,
            (false, true) => b - length / 2.0,
            (false, false) => (a + b) / 2.0,
        };
        (x, s.y(x.clamp(a, b)))
    };
    let places: Vec<(i32, Vec<(f64, f64)>)> = scans
        .iter()
        .zip(measured)
        .map(|(scan, shapes)| (scan.lenscol - first, shapes.iter().map(middle).collect()))
        .collect();
    let (iys, _) = rows(&places)?;
    let columns = scans.len() as i32;
    let mut both = Vec::new();
    for ((scan, shapes), iys) in scans.iter().zip(measured).zip(&iys) {
        for (s, iy) in shapes.iter().zip(iys) {
            both.push((lenslet(s, scan.lenscol - first, *iy, columns), s.clone()));
        }
    }
    both.sort_by_key(|(l, _)| l.id);
    let misfit = legendre::median(both.iter().map(|(_, s)| s.misfit).collect());
    if misfit > MISFIT {
        return Err(unsolvable(format!(
            "the spectra's profiles are {:.0} % off a Gaussian, which is all that this version models",
            100.0 * misfit
        )));
    }
    let (lenslets, shapes) = both.into_iter().unzip();
    Ok((LensCal { mode: mode.clone(), lenslets, misfit, ..LensCal::default() }, shapes))
}

fn lenslet(s: &Shape, ix: i32, iy: i32, columns: i32) -> Lenslet {
    let known = s.flux.iter().filter(|f| f.0.is_finite()).count();
    let spoilt = 2 * known < s.flux.len() || s.misfit > 2.0 * MISFIT;
    Lenslet {
        id: iy * columns + ix,
        ix,
        iy,
        xmin: s.range.0,
        xmax: s.range.1,
        trace: s.centre.clone(),
        fwhm: s.sigma.iter().map(|v| v * gaussian::FWHM).collect(),
        wave: Vec::new(),
        lflat: Vec::new(),
        throughput: f64::NAN,
        wavmin: f64::NAN,
        wavmax: f64::NAN,
        wave_rms: f64::NAN,
        lsf_sigma: f64::NAN,
        dq: if spoilt { dq::DO_NOT_USE } else { 0 },
    }
}

/// The lines of every arc in every lenslet, with their wavelengths. Frames of one
/// wavelength show it as their strongest line. The field that three of those determine, or
/// else the lines' pattern, or else fewer of those, tells the lines of the others.
fn match_lines(engine: &mut dyn Engine, cal: &LensCal, arcs: &[Arc], params: &Params) -> Result<Vec<Match>> {
    // No rejection: a sharp line is nothing for a cosmic-ray filter to judge.
    let extraction = Extract { method: Extraction::Banded, rejection_threshold: 0.0, ..Extract::default() };
    let mut frames = Vec::new();
    for arc in arcs.iter().filter(|a| !a.wavelengths.is_empty()) {
        let spectra = extract(engine, &arc.rate, cal, &extraction)?;
        let mut lines = lines::in_spectra(&spectra, cal.lenslets.len());
        if arc.wavelengths.len() == 1 {
            for seen in &mut lines {
                let strongest = seen.iter().copied().max_by(|a, b| a.flux.total_cmp(&b.flux));
                *seen = strongest.into_iter().collect();
            }
        }
        frames.push(Frame { known: &arc.wavelengths, lines });
    }
    let (single, many): (Vec<&Frame>, Vec<&Frame>) = frames.iter().partition(|f| f.known.len() == 1);
    let mut matches = Vec::new();
    for f in &single {
        let of = |(lens, l): (usize, &Vec<Line>)| {
            l.first().map(|line| Match { lens, wavelength: f.known[0], line: *line })
        };
        matches.extend(f.lines.iter().enumerate().filter_map(of));
    }
    if many.is_empty() {
        return Ok(matches);
    }
    let degree = params.wave_degree.min(2);
    let told = if single.len() > degree { Vec::new() } else { pattern::tell(cal, &frames) };
    let field = wave::field(cal, if told.is_empty() { &matches } else { &told }, degree);
    let (field, _) = field.map_err(|e| {
        let seen: usize = many.iter().flat_map(|f| &f.lines).map(Vec::len).sum();
        match (single.len(), seen) {
            (0 | 1, 1..) => unsolvable(format!(
                "{seen} lines are seen in {} lenslets, but which is which cannot be told by their pattern: take \
                 frames of one wavelength (SPXWAVE), two or three over the band, or lamps with more lines",
                cal.lenslets.len()
            )),
            _ => e,
        }
    })?;
    for f in many {
        let told = f.lines.par_iter().enumerate().flat_map_iter(|(lens, lines)| {
            let l = &cal.lenslets[lens];
            let (pairs, _) = lines::assign(lines, f.known, &|x| field.with_slope(x, l.ix, l.iy));
            pairs.into_iter().map(move |(i, k)| Match { lens, wavelength: f.known[k], line: lines[i] })
        });
        matches.par_extend(told);
    }
    Ok(matches)
}
