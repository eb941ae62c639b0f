//! What a lenslet product must be: the cube that a flux-conserving rebinning makes
//! of the true spectra at the true wavelengths, and the layout's own traces.
//!
//! A detector column holds the light between the wavelengths of its two edges,
//! spread evenly over them; a channel takes what lies within its own. SPECTRA has
//! the lenslets' throughput in it; in a cube the median lenslet's is 1.

use std::path::Path;

use super::score::{self, Figure, Judged, Pulls, Score};
use crate::error::{Error, Result};
use crate::fits::{Fits, read_column};
use crate::input::read_cube;

/// Limits of a calibration against the layout, pixels rms. A trace that is off by
/// 0.02 px of a profile of 1.7 px FWHM loses 0.1 % of the light; a wavelength that
/// is off by 0.05 px moves 5 % of a step in a spectrum into the next channel.
const TRACE: f64 = 0.02;
const WAVELENGTH: f64 = 0.05;

/// The layout of the simulated lenslets.
struct Layout {
    ix: Vec<usize>,
    iy: Vec<usize>,
    throughput: Vec<f64>,
    /// x(λ) = Σ x[k] uᵏ.
    x: Vec<[f64; 3]>,
    /// Columns lit, from 0, both within.
    columns: Vec<(usize, usize)>,
    wave: [f64; 2],
    nx: usize,
    grid: [usize; 2],
    /// (lenslets, nx), NaN where the spectrum is not.
    trace: Vec<f64>,
}

impl Layout {
    fn open(path: &Path) -> Result<Layout> {
        let fits = Fits::open(path)?;
        let table = fits.require(&["LENSLETS"])?;
        let column = |name: &str| Ok::<_, Error>(read_column(&fits, table, name)?.0);
        let whole = |name: &str| Ok::<_, Error>(column(name)?.iter().map(|v| *v as usize).collect());
        let number = |key: &str| {
            fits.primary().number(key).ok_or_else(|| fits.error("PRIMARY", format!("{key} is missing")))
        };
        let (first, last): (Vec<usize>, Vec<usize>) = (whole("XMIN")?, whole("XMAX")?);
        let trace = fits.require(&["TRACE"])?;
        Ok(Layout {
            ix: whole("IX")?,
            iy: whole("IY")?,
            throughput: relative(column("THRU")?),
            x: column("XCOEF")?.as_chunks::<3>().0.to_vec(),
            columns: first.into_iter().zip(last).collect(),
            wave: [number("WAVEMIN")?, number("WAVEMAX")?],
            nx: trace.shape.last().copied().unwrap_or(0),
            grid: [number("LENSNX")? as usize, number("LENSNY")? as usize],
            trace: fits.f64(trace)?,
        })
    }

    /// Wavelength (µm) of lenslet `l` at column `x`.
    fn wavelength(&self, l: usize, x: f64) -> f64 {
        let [x0, x1, x2] = self.x[l];
        let mut u = (x - x0) / x1;
        for _ in 0..6 {
            u -= (x0 + u * (x1 + u * x2) - x) / (x1 + 2.0 * u * x2);
        }
        (self.wave[0] + self.wave[1] + u * (self.wave[1] - self.wave[0])) / 2.0
    }

    /// Light of lenslet `l` (`spectrum`, a value a column) between the channels'
    /// `edges`, throughput taken out.
    fn rebin(&self, l: usize, spectrum: &[f32], edges: &[[f64; 2]]) -> Vec<f64> {
        let mut out = vec![0.0; edges.len()];
        // A band edge's width beyond the band there is no light, and the wavelengths
        // beyond that mean nothing.
        let lit = |x: &usize| !self.trace[l * self.nx + x].is_nan();
        for x in (0..self.nx).filter(lit) {
            let (from, to) = (self.wavelength(l, x as f64 - 0.5), self.wavelength(l, x as f64 + 0.5));
            let density = f64::from(spectrum[x]) / (to - from) / self.throughput[l];
            let begin = edges.partition_point(|e| e[1] <= from);
            for (k, e) in edges.iter().enumerate().skip(begin).take_while(|(_, e)| e[0] < to) {
                out[k] += density * (e[1].min(to) - e[0].max(from));
            }
        }
        out
    }
}

/// `values` over their median.
fn relative(values: Vec<f64>) -> Vec<f64> {
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let median = match sorted.get((n.max(1) - 1) / 2..n / 2 + 1) {
        Some(middle) if n > 0 => middle.iter().sum::<f64>() / middle.len() as f64,
        _ => 1.0,
    };
    values.into_iter().map(|v| v / median).collect()
}

/// Scores a cube against `spectra` (lenslets, nx) with throughput, of the layout in
/// `layout`. Voxels are good whose whole channel lies within the band.
pub(super) fn cube(path: &Path, spectra: &[f32], layout: &Path) -> Result<Score> {
    let (_, cube) = read_cube(path)?;
    let layout = Layout::open(layout)?;
    if [cube.nx, cube.ny] != layout.grid {
        let [nx, ny] = layout.grid;
        let what = format!("has {} x {} spaxels, the array {nx} x {ny} lenslets", cube.nx, cube.ny);
        return Err(Error::input(path, what));
    }
    let w = &cube.wavelength;
    let half = match w.as_slice() {
        [first, second, ..] => (second - first) / 2.0,
        _ => return Err(Error::input(path, "has fewer than 2 channels")),
    };
    let edges: Vec<[f64; 2]> = w.iter().map(|w| [w - half, w + half]).collect();
    let mut truth = vec![0f32; cube.data.len()];
    let mut good = vec![false; cube.data.len()];
    for l in 0..layout.ix.len() {
        let values = layout.rebin(l, &spectra[l * layout.nx..(l + 1) * layout.nx], &edges);
        for (k, value) in values.into_iter().enumerate() {
            let at = (k * cube.ny + layout.iy[l]) * cube.nx + layout.ix[l];
            truth[at] = value as f32;
            good[at] = edges[k][0] >= layout.wave[0] && edges[k][1] <= layout.wave[1];
        }
    }
    let j = Judged {
        nx: cube.nx,
        value: &cube.data,
        err: &cube.err,
        dq: &cube.dq,
        truth: &truth,
        good: &good,
        hit: &[],
    };
    Ok(score::cube(&j))
}

/// Scores a LEN-SPX calibration: its traces and wavelengths at every column of the
/// band, of every lenslet that it has.
pub(super) fn calibration(path: &Path, layout: &Path) -> Result<Score> {
    let layout = Layout::open(layout)?;
    let fits = Fits::open(path)?;
    let table = fits.require(&["LENSLETS"])?;
    let column = |name: &str| Ok::<_, Error>(read_column(&fits, table, name)?.0);
    let (ix, iy) = (column("IX")?, column("IY")?);
    let (from, to) = (column("XMIN")?, column("XMAX")?);
    let series = |name: &str| {
        let hdu = fits.require(&[name])?;
        Ok::<_, Error>((fits.f64(hdu)?, hdu.shape.last().copied().unwrap_or(1)))
    };
    let ((traces, trace_terms), (waves, wave_terms)) = (series("TRACE")?, series("WAVE")?);
    let (mut n, mut rows, mut columns, mut found) = (0.0, 0.0, 0.0, 0.0);
    for i in 0..ix.len() {
        let same = |l: &usize| layout.ix[*l] as f64 == ix[i] && layout.iy[*l] as f64 == iy[i];
        let Some(l) = (0..layout.ix.len()).find(same) else { continue };
        found += 1.0;
        let (first, last) = layout.columns[l];
        for x in first..=last {
            let u = (2.0 * x as f64 - from[i] - to[i]) / (to[i] - from[i]).max(1.0);
            if u.abs() > 1.0 {
                continue;
            }
            let x = x as f64;
            let width = layout.wavelength(l, x + 0.5) - layout.wavelength(l, x - 0.5);
            let row = legendre(&traces[i * trace_terms..(i + 1) * trace_terms], u);
            let wave = legendre(&waves[i * wave_terms..(i + 1) * wave_terms], u);
            n += 1.0;
            rows += (row - layout.trace[l * layout.nx + x as usize]).powi(2);
            columns += ((wave - layout.wavelength(l, x)) / width).powi(2);
        }
    }
    let lit: usize = layout.columns.iter().map(|(first, last)| last + 1 - first).sum();
    let figures = vec![
        Figure::new("lenslets", found / layout.ix.len() as f64, 0.98, 1.0),
        Figure::new("used", n / lit as f64, 0.98, f64::INFINITY),
        Figure::new("trace", (rows / n).sqrt(), 0.0, TRACE),
        Figure::new("wavelength", (columns / n).sqrt(), 0.0, WAVELENGTH),
    ];
    Ok(Score { figures, pulls: Pulls::default() })
}

/// Σ c[k] P_k(u).
fn legendre(c: &[f64], u: f64) -> f64 {
    let (mut before, mut last, mut sum) = (1.0, u, 0.0);
    for (k, c) in c.iter().enumerate() {
        let p = match k {
            0 => 1.0,
            1 => u,
            _ => {
                let k = k as f64;
                let p = ((2.0 * k - 1.0) * u * last - (k - 1.0) * before) / k;
                (before, last) = (last, p);
                p
            }
        };
        sum += c * p;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legendre_series() {
        let u: f64 = 0.3;
        let p3 = (5.0 * u.powi(3) - 3.0 * u) / 2.0;
        let p4 = (35.0 * u.powi(4) - 30.0 * u * u + 3.0) / 8.0;
        let sum = legendre(&[1.0, 2.0, 3.0, 4.0, 5.0], u);
        let direct = 1.0 + 2.0 * u + 3.0 * (3.0 * u * u - 1.0) / 2.0 + 4.0 * p3 + 5.0 * p4;
        assert!((sum - direct).abs() < 1e-12);
    }

    #[test]
    fn medians() {
        assert_eq!(relative(vec![3.0, 1.0, 2.0]), [1.5, 0.5, 1.0]);
        assert_eq!(relative(vec![1.0, 3.0]), [0.5, 1.5]);
        assert!(relative(Vec::new()).is_empty());
    }

    #[test]
    fn rebinning_keeps_the_light() {
        let nx = 40;
        let layout = Layout {
            ix: vec![0],
            iy: vec![0],
            throughput: vec![0.5],
            x: vec![[20.0, 15.0, 0.5]],
            columns: vec![(5, 35)],
            wave: [2.0, 2.1],
            nx,
            grid: [1, 1],
            trace: (0..nx).map(|x| if (3..37).contains(&x) { 7.0 } else { f64::NAN }).collect(),
        };
        let spectrum: Vec<f32> = (0..nx).map(|x| if (3..37).contains(&x) { x as f32 } else { 9.0 }).collect();
        let edges: Vec<[f64; 2]> =
            (0..100).map(|k| [1.98 + 0.0014 * f64::from(k), 1.98 + 0.0014 * f64::from(k + 1)]).collect();
        let rebinned = layout.rebin(0, &spectrum, &edges);
        let all: f32 = spectrum[3..37].iter().sum();
        assert!((rebinned.iter().sum::<f64>() - f64::from(all) / 0.5).abs() < 1e-3);
    }
}
