//! Which line is which where nothing is known of the wavelengths.
//!
//! In lenslets spread over the field, by the lines of all frames together: each way to
//! take two lines for two known ones gives a dispersion, linear but for a bend of
//! b (1 − t²) columns, t the column scaled to −1 … 1 over the spectrum; the way that
//! explains most lines is taken.

use rayon::prelude::*;

use super::legendre::unit;
use super::lines::{self, Line};
use super::wave::Match;
use super::{LensCal, Lenslet};
use crate::datamodel::dq;

/// Lenslets in which lines are told.
const LENSLETS: usize = 61;
/// A frame's brightest lines and so many of all are tried as the two.
const TRIED: usize = 10;
/// Least distance of the two, columns.
const APART: f64 = 10.0;
/// Least lines that must agree.
const AGREE: usize = 4;
/// Largest bend as a part of the spectrum's length: the dispersion's ends differ by
/// 8 times that, 12 % (a volume-phase grating's over a 20 % band differ by less).
const BEND: f64 = 0.015;
/// Step of the bend, columns: half of it is well within what a line may be off.
const STEP: f64 = 4.0;

/// The lines of one frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Their wavelengths, vacuum µm.
    pub known: &'a [f64],
    /// Those measured, of each lenslet.
    pub lines: Vec<Vec<Line>>,
}

/// Indices of a frame, of a line of it and of the known wavelength that it is.
type Told = (usize, usize, usize);

/// The lines of some lenslets with their wavelengths; none where no lenslet's pattern
/// can be told.
pub fn tell(cal: &LensCal, frames: &[Frame]) -> Vec<Match> {
    let usable = |i: &usize| cal.lenslets[*i].dq & dq::DO_NOT_USE == 0;
    let usable: Vec<usize> = (0..cal.lenslets.len()).filter(usable).collect();
    let some = LENSLETS.min(usable.len());
    (0..some)
        .into_par_iter()
        .map(|k| usable[k * usable.len() / some])
        .flat_map_iter(|lens| {
            let told = of_lenslet(&cal.lenslets[lens], lens, frames).unwrap_or_default();
            told.into_iter().map(move |(f, i, k)| Match {
                lens,
                wavelength: frames[f].known[k],
                line: frames[f].lines[lens][i],
            })
        })
        .collect()
}

/// `None` where fewer than [`AGREE`] lines agree, or where another way explains as many.
fn of_lenslet(l: &Lenslet, lens: usize, frames: &[Frame]) -> Option<Vec<Told>> {
    let length = (l.xmax - l.xmin) as f64;
    let bends = (BEND * length / STEP).floor() as i32;
    let mut best: Option<(usize, f64, Vec<Told>)> = None;
    let mut second = 0;
    for bend in (-bends..=bends).map(|b| f64::from(b) * STEP) {
        let straight = |line: &Line| {
            let t = unit(line.x, l.xmin as f64, l.xmax as f64);
            Line { x: line.x + bend * (1.0 - t * t), ..*line }
        };
        let seen: Vec<Vec<Line>> =
            frames.iter().map(|f| f.lines[lens].iter().map(straight).collect()).collect();
        for (first, slope, wavelength) in ways(&seen, frames) {
            let at = |x: f64| (wavelength + slope * (x - first), slope);
            let mut told = Vec::new();
            let mut off = 0.0;
            for (f, lines) in seen.iter().enumerate() {
                let (pairs, mean) = lines::assign(lines, frames[f].known, &at);
                off += mean * pairs.len() as f64;
                told.extend(pairs.into_iter().map(|(i, k)| (f, i, k)));
            }
            let off = off / told.len().max(1) as f64;
            let Some((most, least, theirs)) = &best else {
                best = Some((told.len(), off, told));
                continue;
            };
            // What shares most lines with it is the same way, a little shifted.
            let shared = told.iter().filter(|p| theirs.contains(p)).count();
            let same = 2 * shared >= told.len().min(*most);
            if (told.len(), -off) > (*most, -least) {
                second = if same { second } else { *most };
                best = Some((told.len(), off, told));
            } else if !same {
                second = second.max(told.len());
            }
        }
    }
    best.filter(|b| b.0 >= AGREE && b.0 > second).map(|b| b.2)
}

/// Column of a line, dispersion and wavelength there, of each way to take two lines for
/// two known ones.
fn ways(seen: &[Vec<Line>], frames: &[Frame]) -> Vec<(f64, f64, f64)> {
    let mut bright: Vec<(usize, Line)> = Vec::new();
    for (f, lines) in seen.iter().enumerate() {
        let mut lines = lines.clone();
        lines.sort_by(|a, b| b.flux.total_cmp(&a.flux));
        bright.extend(lines.into_iter().take(TRIED).map(|l| (f, l)));
    }
    bright.sort_by(|a, b| b.1.flux.total_cmp(&a.1.flux));
    bright.truncate(TRIED);
    let mut out = Vec::new();
    for (f, a) in &bright {
        for (g, b) in bright.iter().filter(|(_, b)| b.x >= a.x + APART) {
            for p in frames[*f].known {
                let others = frames[*g].known.iter().filter(|q| *q != p);
                out.extend(others.map(|q| (a.x, (q - p) / (b.x - a.x), *p)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::normal::Random;
    use crate::pipeline::lenspx::wave;

    /// λ at a column of a spectrum that is `length` long and bends by `bend`; `sign` is
    /// its direction.
    fn wavelength(l: &Lenslet, x: f64, bend: f64, sign: f64) -> f64 {
        let t = unit(x, l.xmin as f64, l.xmax as f64);
        let straight = x + bend * (1.0 - t * t);
        2.15 + sign * 0.05 * unit(straight, l.xmin as f64, l.xmax as f64)
    }

    /// 16 × 128 lenslets on a lattice, their spectra 3500 columns long.
    fn lenslets() -> LensCal {
        let mut cal = LensCal::default();
        cal.mode.nx = 4096;
        for iy in 0..128 {
            for ix in 0..16 {
                let xmin = 40 + 32 * ix as usize + iy as usize / 8;
                let l = Lenslet { id: 16 * iy + ix, ix, iy, xmin, xmax: xmin + 3500, ..Lenslet::default() };
                cal.lenslets.push(l);
            }
        }
        cal
    }

    fn frame<'a>(cal: &LensCal, known: &'a [f64], bend: f64, sign: f64, random: &mut Random) -> Frame<'a> {
        let lines = |l: &Lenslet| {
            let column = |w: f64| {
                let (mut low, mut high) = (l.xmin as f64, l.xmax as f64);
                for _ in 0..60 {
                    let x = 0.5 * (low + high);
                    let short = (wavelength(l, x, bend, sign) < w) == (sign > 0.0);
                    if short { low = x } else { high = x }
                }
                low
            };
            let line = |x: f64, flux: f64| Line { x, error: 0.02, sigma: 0.9, flux };
            let mut all: Vec<Line> = Vec::new();
            for w in known {
                // One in ten is not seen.
                if random.uniform() > 0.1 {
                    all.push(line(column(*w) + 0.02 * random.normal(), 1000.0 * (1.0 + random.uniform())));
                }
            }
            // And one is not of the lamp.
            all.push(line(l.xmin as f64 + 3500.0 * random.uniform(), 800.0));
            all
        };
        Frame { known, lines: cal.lenslets.iter().map(lines).collect() }
    }

    #[test]
    fn bent_spectra_of_either_direction() {
        let (one, two) = ([2.104, 2.1215, 2.152, 2.176], [2.116, 2.140, 2.1705, 2.188]);
        let cal = lenslets();
        for (bend, sign) in [(14.0, 1.0), (-30.0, 1.0), (45.0, -1.0), (0.0, -1.0)] {
            let mut random = Random(7);
            let frames =
                [frame(&cal, &one, bend, sign, &mut random), frame(&cal, &two, bend, sign, &mut random)];
            let told = tell(&cal, &frames);
            let right = |m: &&Match| {
                let l = &cal.lenslets[m.lens];
                (wavelength(l, m.line.x, bend, sign) - m.wavelength).abs() < 3e-6
            };
            let wrong = told.iter().filter(|m| !right(m)).count();
            assert!(told.len() > 300 && wrong * 50 < told.len(), "{bend} {sign}: {wrong} of {}", told.len());
            // The field then puts every line of every lenslet where it is looked for.
            let (field, _) = wave::field(&cal, &told, 2).expect("field");
            for l in &cal.lenslets {
                // The lines lie within.
                for x in (l.xmin + 150..=l.xmax - 400).step_by(500) {
                    let (at, slope) = field.with_slope(x as f64, l.ix, l.iy);
                    let off = (at - wavelength(l, x as f64, bend, sign)) / slope;
                    assert!(off.abs() < 3.0, "{bend} {sign}: {off} columns at {x} of {}, {}", l.ix, l.iy);
                }
            }
        }
    }

    #[test]
    fn lines_that_fit_in_two_ways_are_not_told() {
        // Evenly spaced lines say nothing of the direction.
        let cal = lenslets();
        let even = [2.11, 2.13, 2.15, 2.17, 2.19];
        let mut random = Random(3);
        assert!(tell(&cal, &[frame(&cal, &even, 0.0, 1.0, &mut random)]).is_empty());
    }
}
