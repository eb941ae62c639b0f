//! B out of the calibration ([`System`]): where spectra lie on the detector, and their
//! profiles' coefficients at the nodes of every segment.

use rayon::prelude::*;

use super::LensCal;
use super::factor::{END, LANES, Profile, Tables, rows};
use super::psf::{PsfModel, modelled};
use crate::error::{Error, Result};
use crate::kernels::factored::{Entry, NONE, REACH, SEG, System};

/// Most rows of a profile.
const MAX_ROWS: i64 = 64;
/// What a profile's nodes leave out of the columns between them, of its largest value.
const BETWEEN: f32 = 1e-4;
/// Numbers of nodes, fewest first; the last has one in every column.
const NODES: [usize; 10] = [3, 4, 5, 6, 8, 12, 16, 24, 32, SEG];
/// Entries on which numbers of nodes are tried.
const TRIED: usize = 48;

/// Added to the row of a lenslet's trace: of its number and column.
pub type Moved<'a> = &'a (dyn Fn(usize, f64) -> f64 + Sync);

/// All segments of the calibration's detector.
pub fn all(cal: &LensCal) -> Vec<usize> {
    (0..cal.mode.nx.div_ceil(SEG)).collect()
}

/// B for frames of the calibration's size, of some of their segments, ascending.
///
/// # Errors
/// Where traces climb over more rows in a segment than are modelled.
pub fn system(cal: &LensCal, psf: &PsfModel, moved: Moved<'_>, segments: &[usize]) -> Result<System> {
    let tables = Tables::new(psf);
    let rank = tables.taps.len();
    let columns: Vec<u32> = segments.iter().map(|s| (s * SEG) as u32).collect();
    let traces = Traces { cal, psf, moved, columns: &columns };
    let (entries, starts, ky) = traces.entries()?;
    let profiles = traces.profiles(&tables, &entries);
    let nodes = traces.nodes(&profiles, &entries, ky);
    let mut coefs = vec![0f32; entries.len() * ky * rank * nodes.len()];
    coefs.par_chunks_exact_mut(ky * rank * nodes.len()).zip(&entries).for_each(|(out, entry)| {
        let mut column = vec![[0f32; LANES]; ky];
        for (k, x) in nodes.iter().enumerate() {
            traces.column(&profiles, entry, *x, *x, &mut column);
            for (out, row) in out.chunks_exact_mut(rank * nodes.len()).zip(&column) {
                (0..rank).for_each(|r| out[r * nodes.len() + k] = row[r]);
            }
        }
    });
    let taps = tables.taps.iter().map(|h| h.map(|v| v as f32)).collect();
    let (nx, ny, basis) = (cal.mode.nx, cal.mode.ny, basis(&nodes));
    Ok(System { nx, ny, ky, taps, basis, columns, entries, starts, coefs })
}

/// `n` columns of a segment, Chebyshev's points; every column where that is as many.
fn places(n: usize) -> Vec<f64> {
    let half = (SEG - 1) as f64 / 2.0;
    let point = |k: usize| half - half * (std::f64::consts::PI * (k as f64 + 0.5) / n as f64).cos();
    (0..n).map(|k| if n == SEG { k as f64 } else { point(k) }).collect()
}

/// Lagrange's polynomials of the nodes in a segment's columns.
fn basis(nodes: &[f64]) -> Vec<[f32; SEG]> {
    let at = |k: usize, x: usize| -> f64 {
        if nodes.len() == SEG {
            return f64::from(u8::from(k == x));
        }
        let others = nodes.iter().enumerate().filter(|(i, _)| *i != k);
        others.map(|(_, n)| (x as f64 - n) / (nodes[k] - n)).product()
    };
    (0..nodes.len()).map(|k| std::array::from_fn(|x| at(k, x) as f32)).collect()
}

/// Where spectra lie.
struct Traces<'a> {
    cal: &'a LensCal,
    psf: &'a PsfModel,
    moved: Moved<'a>,
    /// First columns of the segments.
    columns: &'a [u32],
}

impl Traces<'_> {
    /// Row of lenslet `l`'s trace in column `x`, beyond its spectrum's ends a straight line: a
    /// series is nothing to extrapolate far.
    fn row(&self, l: usize, x: f64) -> f64 {
        const BEYOND: f64 = 18.0;
        let lens = &self.cal.lenslets[l];
        let end = x.clamp(lens.xmin as f64 - BEYOND, lens.xmax as f64 + BEYOND);
        let slope = lens.y(end + 0.5) - lens.y(end - 0.5);
        lens.y(end) + slope * (x - end) + (self.moved)(l, x)
    }

    /// The part of the segment from column `x0` in which lenslet `l`'s samples are unknowns.
    fn live(&self, l: usize, x0: usize) -> [u16; 2] {
        let (from, to) = modelled(&self.cal.lenslets[l], self.cal.mode.nx);
        let within = |x: usize| x.clamp(x0, x0 + SEG) - x0;
        let from = within(from);
        [from as u16, within(to + 1).max(from) as u16]
    }

    /// The columns of lenslet `l`'s spectrum, counted from `x0`.
    fn wanted(&self, l: usize, x0: u32) -> [i16; 2] {
        let lens = &self.cal.lenslets[l];
        let from = |x: usize| x as i64 - i64::from(x0);
        [lens.xmin, lens.xmax + 1].map(|x| from(x).clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }

    /// First and last row of lenslet `l`'s profiles in the segment from column `x0`, where it
    /// has any.
    fn reach(&self, l: usize, x0: usize) -> Option<(i32, i64)> {
        let (from, to) = modelled(&self.cal.lenslets[l], self.cal.mode.nx);
        let lit = from < x0 + SEG + REACH && to + REACH >= x0;
        let rows = (x0..x0 + SEG).map(|x| self.row(l, x as f64));
        let (low, high) = rows.fold((f64::MAX, f64::MIN), |(a, b), y| (a.min(y), b.max(y)));
        let on_detector = high >= -END && low <= self.cal.mode.ny as f64 + END;
        if !(lit && low.is_finite() && high.is_finite() && on_detector) {
            return None;
        }
        Some(((low - END).ceil() as i32, (high + END).floor() as i64))
    }

    /// Entries, the first of each segment, and rows of a profile.
    fn entries(&self) -> Result<(Vec<Entry>, Vec<u32>, usize)> {
        let lenslets = self.cal.lenslets.len();
        let found: Vec<Vec<(usize, i32, i64)>> = (0..lenslets)
            .into_par_iter()
            .map(|l| {
                let own = self.columns.iter().enumerate();
                let of = |(s, x0): (usize, &u32)| {
                    self.reach(l, *x0 as usize).map(|(anchor, last)| (s, anchor, last))
                };
                own.filter_map(of).collect()
            })
            .collect();
        let mut ky = 1;
        let mut by_segment: Vec<Vec<(i32, u32)>> = vec![Vec::new(); self.columns.len()];
        for (l, found) in (0u32..).zip(found) {
            for (s, anchor, last) in found {
                ky = ky.max(last - i64::from(anchor) + 1);
                by_segment[s].push((anchor, l));
            }
        }
        if ky > MAX_ROWS {
            return Err(Error::reference(
                "lenspx",
                format!(
                    "a trace runs over {ky} rows in {SEG} columns, {MAX_ROWS} are modelled: its traces are \
                     wrong"
                ),
            ));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut starts = vec![0u32];
        let mut before: Vec<u32> = vec![NONE; lenslets];
        for (s, list) in by_segment.iter_mut().enumerate() {
            list.sort_unstable();
            let x0 = self.columns[s];
            if s > 0 && self.columns[s - 1] + SEG as u32 != x0 {
                before.fill(NONE);
            }
            let mut now = vec![NONE; lenslets];
            for (anchor, l) in list {
                let e = entries.len() as u32;
                let left = before[*l as usize];
                if left != NONE {
                    entries[left as usize].right = e;
                }
                now[*l as usize] = e;
                entries.push(Entry {
                    spectrum: *l,
                    segment: s as u32,
                    anchor: *anchor,
                    left,
                    right: NONE,
                    live: self.live(*l as usize, x0 as usize),
                    wanted: self.wanted(*l as usize, x0),
                });
            }
            before = now;
            starts.push(entries.len() as u32);
        }
        Ok((entries, starts, ky as usize))
    }

    /// The profiles at the knots that the entries' segments touch, (lenslets, knots).
    fn profiles(&self, tables: &Tables, entries: &[Entry]) -> Vec<Profile> {
        let knots = self.psf.knots;
        let mut needed = vec![false; self.cal.lenslets.len() * knots];
        for entry in entries {
            let l = entry.spectrum as usize;
            let x = f64::from(self.columns[entry.segment as usize]);
            let knot = |x: f64| self.psf.between(&self.cal.lenslets[l], x).0;
            let last = (knot(x + SEG as f64) + 1).min(knots - 1);
            needed[l * knots + knot(x)..=l * knots + last].fill(true);
        }
        let of = |(i, needed): (usize, &bool)| {
            if *needed { tables.profiles(self.psf, i / knots, i % knots) } else { Profile::new() }
        };
        needed.par_iter().enumerate().map(of).collect()
    }

    /// An entry's profile, (rows, terms), in column `x` of its segment, as the PSF is in
    /// column `of`.
    fn column(&self, profiles: &[Profile], entry: &Entry, x: f64, of: f64, out: &mut [[f32; LANES]]) {
        let l = entry.spectrum as usize;
        let x0 = f64::from(self.columns[entry.segment as usize]);
        let (k, t) = self.psf.between(&self.cal.lenslets[l], x0 + of);
        let own = &profiles[l * self.psf.knots + k];
        let next = if t > 0.0 { &profiles[l * self.psf.knots + k + 1] } else { own };
        rows(own, next, t, f64::from(entry.anchor) - self.row(l, x0 + x), out);
    }

    /// The fewest nodes that tell how traces move the PSF in all columns of some entries. (That
    /// the PSF is linear between its knots is to be left out: it bends there, where the true one
    /// does not.)
    fn nodes(&self, profiles: &[Profile], entries: &[Entry], ky: usize) -> Vec<f64> {
        const MIDDLE: f64 = SEG as f64 / 2.0;
        // (rows, terms) of each of some columns.
        let columns = |entry: &Entry, at: &[f64]| -> Vec<Vec<f32>> {
            let of = |x: &f64| {
                let mut column = vec![[0f32; LANES]; ky];
                self.column(profiles, entry, *x, MIDDLE, &mut column);
                column.as_flattened().to_vec()
            };
            at.iter().map(of).collect()
        };
        let every = places(SEG);
        let some: Vec<&Entry> = entries.iter().step_by(entries.len().div_ceil(TRIED).max(1)).collect();
        let truth: Vec<_> = some.par_iter().map(|entry| columns(entry, &every)).collect();
        let largest = truth.iter().flatten().flatten().fold(0f32, |m, v| m.max(v.abs()));
        let tells = |n: usize| {
            let nodes = places(n);
            let basis = basis(&nodes);
            some.par_iter().zip(&truth).all(|(entry, truth)| {
                let known = columns(entry, &nodes);
                let between =
                    |x: usize, i: usize| known.iter().zip(&basis).map(|(c, b)| c[i] * b[x]).sum::<f32>();
                let told = |(x, column): (usize, &Vec<f32>)| {
                    column.iter().enumerate().all(|(i, v)| (between(x, i) - v).abs() <= BETWEEN * largest)
                };
                truth.iter().enumerate().all(told)
            })
        };
        places(NODES.into_iter().find(|n| *n == SEG || tells(*n)).unwrap_or(SEG))
    }
}
