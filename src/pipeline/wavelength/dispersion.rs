//! Instrumental dispersion: where a white point source lies in the field at each
//! wavelength, and the shift of a cube's channels that undoes it.
//!
//! In bins of channels a round Gaussian on a constant is fitted to the source (unweighted;
//! the errors are those that ERR gives such a fit). All exposures together then determine
//! the Legendre series of the offsets, x(λ) = x_0 + Σ_k≥1 a_k (P_k(t) − P_k(t_0)), each
//! exposure having a place x_0 of its own; t is λ scaled to −1 … 1, t_0 = 0 the middle of
//! the band.

use super::source::{Place, places};
use super::wavefile::{column, describe};
use crate::datamodel::{Cube, dq};
use crate::error::{Error, Result};
use crate::fits::{ColumnData, Fits, FitsWriter, Header, Pixels, read_column};
use crate::pipeline::lenspx::Mode;
use crate::pipeline::lenspx::legendre::{self, Normal, each, median, unit};
use std::path::Path;

const VERSION: i64 = 1;
/// Error that every place has beside its noise, spaxels.
const FLOOR: f64 = 0.002;
/// Part of a spaxel that must be covered by known ones.
const MIN_COVERAGE: f64 = 0.9;
/// Flags of spaxels that hold this share of another are its, too.
const TOUCHED: f64 = 0.1;

/// The source at one wavelength in one exposure, less its place in the middle of the band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Vacuum µm.
    pub wavelength: f64,
    /// Spaxels along x and y.
    pub offset: [f64; 2],
    /// Their errors.
    pub error: [f64; 2],
}

/// Offsets against wavelength.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dispersion {
    /// What it is valid for.
    pub mode: Mode,
    /// Interval of the series, vacuum µm; beyond it the offset stays what it is at the end.
    pub range: (f64, f64),
    /// Legendre series along x and y, spaxels; zero in the middle of the band.
    pub series: [Vec<f64>; 2],
    /// Scatter of the points about them, spaxels.
    pub rms: [f64; 2],
    /// What was measured.
    pub points: Vec<Point>,
}

impl Dispersion {
    /// Where light of `wavelength` lies, spaxels along x and y from where that of the
    /// middle of the band does.
    pub fn offset(&self, wavelength: f64) -> [f64; 2] {
        let t = unit(wavelength, self.range.0, self.range.1).clamp(-1.0, 1.0);
        self.series.each_ref().map(|c| legendre::value(c, t))
    }

    /// Fits the offsets in cubes of a white point source; what is doubtful is said.
    ///
    /// # Errors
    /// No source in any of them, or in too few bins for the degree.
    pub fn fit(cubes: &[Cube], mode: &Mode, degree: usize) -> Result<(Dispersion, Vec<String>)> {
        let fail = |m: String| Err(Error::Unsolvable(format!("dispersion: {m}")));
        let ends = cubes.iter().filter_map(|c| Some((*c.wavelength.first()?, *c.wavelength.last()?)));
        let range = ends.fold((f64::MAX, f64::MIN), |r, (a, b)| (r.0.min(a), r.1.max(b)));
        let mut found: Vec<(usize, f64, Place)> = Vec::new();
        let mut warnings = Vec::new();
        let mut with = 0;
        for (n, cube) in cubes.iter().enumerate() {
            let places = places(cube);
            if places.is_empty() {
                warnings.push(format!(
                    "dispersion: exposure {} of {} shows no point source: it is left out",
                    n + 1,
                    cubes.len()
                ));
                continue;
            }
            found.extend(places.into_iter().map(|(w, p)| (with, w, p)));
            with += 1;
        }
        if with == 0 {
            return fail(format!(
                "no exposure (of {}) shows a white point source well inside the field: is it lit, and not saturated?",
                cubes.len()
            ));
        }
        let mut series = [Vec::new(), Vec::new()];
        let mut rms = [0.0; 2];
        let mut starts = [vec![0.0; with], vec![0.0; with]];
        for axis in [0, 1] {
            let n = with + degree;
            let row = |exposure: usize, wavelength: f64| {
                let mut row = vec![0.0; n];
                row[exposure] = 1.0;
                let t = unit(wavelength, range.0, range.1);
                let mut middle = vec![0.0; degree + 1];
                each(0.0, degree + 1, |k, p| middle[k] = p);
                each(t, degree + 1, |k, p| {
                    if k > 0 {
                        row[with + k - 1] = p - middle[k];
                    }
                });
                row
            };
            let mut kept: Vec<&(usize, f64, Place)> = found.iter().collect();
            let mut solution = Vec::new();
            for _ in 0..6 {
                let mut normal = Normal::new(n);
                for (exposure, w, p) in &kept {
                    let weight = 1.0 / (p.error[axis].powi(2) + FLOOR * FLOOR);
                    normal.add(&row(*exposure, *w), p.at[axis], weight);
                }
                let solved = (kept.len() >= n + 2).then(|| normal.solution()).flatten();
                let Some(s) = solved else {
                    return fail(format!(
                        "the source is seen at {} wavelengths in all, too few for a series of degree {degree} \
                         (dispersion.degree): take longer or more exposures",
                        kept.len()
                    ));
                };
                let off = |f: &(usize, f64, Place)| -> f64 {
                    f.2.at[axis] - row(f.0, f.1).iter().zip(&s).map(|(a, b)| a * b).sum::<f64>()
                };
                let spread = 1.4826 * median(kept.iter().map(|f| off(f).abs()).collect());
                let next: Vec<_> = found
                    .iter()
                    .filter(|f| off(f).abs() <= 5.0 * spread.max(FLOOR).max(f.2.error[axis]))
                    .collect();
                rms[axis] = (kept.iter().map(|f| off(f).powi(2)).sum::<f64>() / kept.len() as f64).sqrt();
                solution = s;
                if next.len() == kept.len() {
                    break;
                }
                kept = next;
            }
            starts[axis].copy_from_slice(&solution[..with]);
            let mut c = vec![0.0];
            c.extend(&solution[with..]);
            c[0] = -legendre::value(&c, 0.0);
            series[axis] = c;
        }
        let points = found
            .iter()
            .map(|(e, w, p)| Point {
                wavelength: *w,
                offset: [0, 1].map(|k| p.at[k] - starts[k][*e]),
                error: p.error,
            })
            .collect();
        Ok((Dispersion { mode: mode.clone(), range, series, rms, points }, warnings))
    }

    /// Moves each channel of a cube by what its light stands off, so that a source lies at
    /// one place: a spaxel's light is spread evenly over it, and each takes what lies within
    /// (flux is conserved). Spaxels less than 0.9 of which is covered by known ones are
    /// unknown. Returns the mean correlation of the errors of neighbours along x and y that
    /// this makes.
    pub fn apply(&self, cube: &mut Cube) -> [f64; 2] {
        let (nx, ny, plane) = (cube.nx, cube.ny, cube.nx * cube.ny);
        let before = cube.clone();
        let common = !cube.var_common.is_empty();
        let mut correlation = [0.0; 2];
        for k in 0..cube.nw {
            let taps = self.offset(cube.wavelength[k]).map(|d| (d.floor() as isize, d - d.floor()));
            for (c, (_, f)) in correlation.iter_mut().zip(taps) {
                *c += f * (1.0 - f) / ((1.0 - f).powi(2) + f * f) / cube.nw as f64;
            }
            for to in 0..plane {
                let (x, y) = ((to % nx) as isize, (to / nx) as isize);
                let (mut value, mut variance, mut shared, mut covered, mut inside, mut flags) =
                    (0.0, 0.0, 0.0, 0.0, 0.0, 0);
                for n in 0..4 {
                    let step = [n % 2, n / 2];
                    let [wx, wy] = [0, 1].map(|a| if step[a] == 0 { 1.0 - taps[a].1 } else { taps[a].1 });
                    let weight = wx * wy;
                    let (sx, sy) = (x + taps[0].0 + step[0] as isize, y + taps[1].0 + step[1] as isize);
                    if weight == 0.0 || sx < 0 || sy < 0 || sx >= nx as isize || sy >= ny as isize {
                        continue;
                    }
                    let from = k * plane + sy as usize * nx + sx as usize;
                    inside += weight;
                    if weight > TOUCHED {
                        flags |= before.dq[from];
                    }
                    if before.dq[from] & dq::DO_NOT_USE != 0 || !before.data[from].is_finite() {
                        continue;
                    }
                    value += weight * f64::from(before.data[from]);
                    variance += (weight * f64::from(before.err[from])).powi(2);
                    if common && before.var_common[from] > 0.0 {
                        shared += weight * weight * f64::from(before.var_common[from]);
                    }
                    covered += weight;
                }
                let at = k * plane + to;
                let known = covered >= MIN_COVERAGE;
                let scale = 1.0 / covered.min(1.0);
                let or_nan = |v: f64| if known { v as f32 } else { f32::NAN };
                cube.data[at] = or_nan(value * scale);
                cube.err[at] = or_nan(variance.sqrt() * scale);
                if common {
                    cube.var_common[at] = or_nan(shared * scale * scale);
                }
                cube.dq[at] = match (known, inside == 0.0) {
                    // What is unknown of a spaxel that is not is a tenth of it.
                    (true, _) => flags & !(dq::DO_NOT_USE | dq::NON_SCIENCE),
                    (false, beyond) => flags | dq::DO_NOT_USE | if beyond { dq::NON_SCIENCE } else { 0 },
                };
            }
        }
        correlation
    }

    /// Refuses cubes of another mode.
    pub fn check(&self, mode: &Mode) -> Result<()> {
        let (own, its) = (&self.mode, mode);
        for (keyword, a, b) in [("FILTER", &own.filter, &its.filter), ("GRATING", &own.grating, &its.grating)]
        {
            if !a.eq_ignore_ascii_case(b) {
                return Err(Error::reference(
                    "dispersion",
                    format!(
                        "was made with {keyword} = '{a}', the exposure has '{b}': take LEN-IDP frames of that mode"
                    ),
                ));
            }
        }
        if (own.scale - its.scale).abs() > 1e-6 {
            return Err(Error::reference(
                "dispersion",
                format!("was made with SCALE = {}, the exposure has {}", own.scale, its.scale),
            ));
        }
        Ok(())
    }

    /// Writes it: REFTYPE DISPERSION, FMTVER 1. SERIES (2, terms) f64, Legendre series of the
    /// offsets along x and y on [WAVEMIN, WAVEMAX], spaxels; POINTS, a table of what was
    /// measured: WAVELENGTH, DX, DY, DXERR, DYERR.
    pub fn save(&self, path: &Path, header: &Header) -> Result<()> {
        let mut h = header.clone();
        h.set("REFTYPE", "DISPERSION", "instrumental dispersion");
        h.set("FMTVER", VERSION, "version of this format");
        describe(&mut h, &self.mode);
        h.set("WAVEMIN", self.range.0, "[um] interval of the series");
        h.set("WAVEMAX", self.range.1, "[um] interval of the series");
        h.set("WAVEREF", f64::midpoint(self.range.0, self.range.1), "[um] where the offset is zero");
        let rounded = |v: f64| (v * 1e6).round() / 1e6;
        h.set("DISPRMSX", rounded(self.rms[0]), "[spaxel] of the points about the series");
        h.set("DISPRMSY", rounded(self.rms[1]), "[spaxel] of the points about the series");
        let terms = self.series[0].len();
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &h)?;
        w.image("SERIES", &Header::new(), &[2, terms], Pixels::F64(&self.series.concat()))?;
        let of = |f: &dyn Fn(&Point) -> f64| ColumnData::F64(self.points.iter().map(f).collect());
        w.table(
            "POINTS",
            &Header::new(),
            &[
                column("WAVELENGTH", "um", of(&|p| p.wavelength)),
                column("DX", "", of(&|p| p.offset[0])),
                column("DY", "", of(&|p| p.offset[1])),
                column("DXERR", "", of(&|p| p.error[0])),
                column("DYERR", "", of(&|p| p.error[1])),
            ],
        )?;
        w.finish()?;
        Ok(())
    }

    /// Reads one.
    pub fn load(path: &Path) -> Result<Dispersion> {
        let fits = Fits::open(path)?;
        let h = fits.primary();
        let fail = |m: String| Error::reference("dispersion", format!("{}: {m}", path.display()));
        let kind = h.text("REFTYPE").unwrap_or_default();
        if !["DISPERSION", "IDP"].contains(&kind.to_ascii_uppercase().as_str()) {
            return Err(fail(format!("REFTYPE is '{kind}', not DISPERSION")));
        }
        let version = h.integer("FMTVER").unwrap_or(0);
        if version != VERSION {
            return Err(fail(format!("FMTVER = {version}; this program reads version {VERSION}")));
        }
        let number = |key: &str| h.number(key).ok_or_else(|| fail(format!("{key} is missing")));
        let text = |key: &str| h.text(key).unwrap_or_default();
        let range = (number("WAVEMIN")?, number("WAVEMAX")?);
        let hdu = fits.require(&["SERIES"])?;
        let terms = match hdu.shape[..] {
            [2, terms] if (1..=64).contains(&terms) => terms,
            _ => return Err(fail(format!("SERIES has shape {:?}, not (2, terms)", hdu.shape))),
        };
        let all = fits.f64(hdu)?;
        if !all.iter().all(|v| v.is_finite() && v.abs() < 1e3) || range.0.is_nan() || range.1 <= range.0 {
            return Err(fail("SERIES, WAVEMIN or WAVEMAX hold values that cannot be".into()));
        }
        let table = fits.require(&["POINTS"])?;
        let columns = ["WAVELENGTH", "DX", "DY", "DXERR", "DYERR"];
        let columns =
            columns.iter().map(|c| Ok(read_column(&fits, table, c)?.0)).collect::<Result<Vec<_>>>()?;
        let point = |i: usize| Point {
            wavelength: columns[0][i],
            offset: [columns[1][i], columns[2][i]],
            error: [columns[3][i], columns[4][i]],
        };
        Ok(Dispersion {
            mode: Mode {
                detector: text("DETECTOR"),
                filter: text("FILTER"),
                grating: text("GRATING"),
                scale: number("SCALE")?,
                nx: number("DETNX")?.max(0.0) as usize,
                ny: number("DETNY")?.max(0.0) as usize,
            },
            range,
            series: [all[..terms].to_vec(), all[terms..].to_vec()],
            rms: [h.number("DISPRMSX").unwrap_or(0.0), h.number("DISPRMSY").unwrap_or(0.0)],
            points: (0..columns[0].len()).map(point).collect(),
        })
    }
}

#[cfg(test)]
#[path = "dispersion_tests.rs"]
mod tests;
