//! A [`Wavemap`] on disk: REFTYPE WAVEMAP, FMTVER 1.
//!
//! | HDU | numpy shape | |
//! |---|---|---|
//! | SPAXELS | table | ID, IX, IY, XMIN, XMAX (columns from 0, inclusive), NLINES, DQ, WAVERMS (µm), LSFSIG (columns) |
//! | WAVE | (spaxels, terms) f64 | Legendre series on [XMIN, XMAX], vacuum µm |
//! | LINES | table | WAVELENGTH (vacuum µm), SPAXELS (that it was measured in), OFFSET, RMS (solution less line, columns) |

use std::path::Path;

use super::wavemap::{Fitted, Solution, Wavemap};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::{Column, ColumnData, Fits, FitsWriter, Header, Pixels, read_column};
use crate::pipeline::lenspx::Mode;

const VERSION: i64 = 1;

/// The facts by which a reference of spaxels is chosen.
pub(super) fn describe(h: &mut Header, mode: &Mode) {
    h.set("DETECTOR", mode.detector.as_str(), "");
    h.set("FILTER", mode.filter.as_str(), "");
    h.set("GRATING", mode.grating.as_str(), "");
    h.set("SCALE", mode.scale, "arcsec a spaxel");
    h.set("DETNX", mode.nx, "detector columns");
    h.set("DETNY", mode.ny, "detector rows");
}

/// A column of one value a row.
pub(super) fn column(name: &str, unit: &str, data: ColumnData) -> Column {
    Column { name: name.into(), unit: unit.into(), width: 1, data }
}

impl Wavemap {
    /// Writes it. `header` brings what the caller knows of it.
    pub fn save(&self, path: &Path, header: &Header) -> Result<()> {
        let mut h = header.clone();
        h.set("REFTYPE", "WAVEMAP", "wavelengths of the spaxels");
        h.set("FMTVER", VERSION, "version of this format");
        describe(&mut h, &self.mode);
        h.set("NLENS", self.spaxels.len(), "spaxels");
        h.set("WAVETYPE", "vacuum, um", "");
        h.set("WAVEDEG", self.degree, "total degree of the change over the field");
        let rounded = |v: f64| if v.is_finite() { (v * 1e6).round() / 1e6 } else { 0.0 };
        h.set("WAVESHFT", rounded(self.shift), "[pixel] the lines from where LEN-SPX has them");
        h.set("WAVERMS", rounded(self.rms), "[pixel] scatter of a spaxel's lines, median");
        for (k, s) in self.scatter.iter().enumerate() {
            h.set(&format!("WAVESCA{k}"), rounded(*s), "[pixel] of the spaxels about the field");
        }
        let s = &self.spaxels;
        let ints = |f: &dyn Fn(&Solution) -> i32| ColumnData::I32(s.iter().map(f).collect());
        let singles = |f: &dyn Fn(&Solution) -> f64| ColumnData::F32(s.iter().map(|s| f(s) as f32).collect());
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &h)?;
        let mut described = Header::new();
        dq::describe(&mut described);
        w.table(
            "SPAXELS",
            &described,
            &[
                column("ID", "", ints(&|s| s.id)),
                column("IX", "", ints(&|s| s.ix)),
                column("IY", "", ints(&|s| s.iy)),
                column("XMIN", "pixel", ints(&|s| s.xmin as i32)),
                column("XMAX", "pixel", ints(&|s| s.xmax as i32)),
                column("NLINES", "", ints(&|s| s.lines as i32)),
                column("DQ", "", ints(&|s| s.dq as i32)),
                column("WAVERMS", "um", singles(&|s| s.rms)),
                column("LSFSIG", "pixel", singles(&|s| s.sigma)),
            ],
        )?;
        let terms = s.iter().map(|s| s.wave.len()).max().unwrap_or(0);
        let padded = |s: &Solution| {
            let mut row = s.wave.clone();
            row.resize(terms, 0.0);
            row
        };
        let waves: Vec<f64> = s.iter().flat_map(padded).collect();
        w.image("WAVE", &Header::new(), &[s.len(), terms], Pixels::F64(&waves))?;
        let of = |f: &dyn Fn(&Fitted) -> f64| self.lines.iter().map(f).collect::<Vec<f64>>();
        let spaxels = self.lines.iter().map(|f| f.spaxels as i32).collect();
        w.table(
            "LINES",
            &Header::new(),
            &[
                column("WAVELENGTH", "um", ColumnData::F64(of(&|f| f.wavelength))),
                column("SPAXELS", "", ColumnData::I32(spaxels)),
                column("OFFSET", "pixel", ColumnData::F64(of(&|f| f.offset))),
                column("RMS", "pixel", ColumnData::F64(of(&|f| f.rms))),
            ],
        )?;
        w.finish()?;
        Ok(())
    }

    /// Reads one.
    pub fn load(path: &Path) -> Result<Wavemap> {
        let fits = Fits::open(path)?;
        let h = fits.primary();
        let fail = |m: String| Error::reference("wavemap", format!("{}: {m}", path.display()));
        let kind = h.text("REFTYPE").unwrap_or_default();
        if !kind.eq_ignore_ascii_case("WAVEMAP") {
            return Err(fail(format!("REFTYPE is '{kind}', not WAVEMAP")));
        }
        let version = h.integer("FMTVER").unwrap_or(0);
        if version != VERSION {
            return Err(fail(format!("FMTVER = {version}; this program reads version {VERSION}")));
        }
        let number = |key: &str| h.number(key).ok_or_else(|| fail(format!("{key} is missing")));
        let size = |key: &str| match number(key)? {
            v if v > 0.0 && v < 1e6 => Ok(v as usize),
            v => Err(fail(format!("{key} = {v} is not a size"))),
        };
        let text = |key: &str| h.text(key).unwrap_or_default();
        let mode = Mode {
            detector: text("DETECTOR"),
            filter: text("FILTER"),
            grating: text("GRATING"),
            scale: number("SCALE")?,
            nx: size("DETNX")?,
            ny: size("DETNY")?,
        };
        let n = size("NLENS")?;
        let waves = fits.require(&["WAVE"])?;
        let terms = match waves.shape[..] {
            [rows, terms] if rows == n && (1..=64).contains(&terms) => terms,
            _ => return Err(fail(format!("WAVE has shape {:?}, not (NLENS = {n}, terms)", waves.shape))),
        };
        let waves = fits.f64(waves)?;
        if !waves.iter().all(|v| v.is_finite()) {
            return Err(fail("WAVE holds values that are not numbers".into()));
        }
        let columns = |hdu: &str, names: &[&str]| -> Result<Vec<Vec<f64>>> {
            let table = fits.require(&[hdu])?;
            names.iter().map(|name| Ok(read_column(&fits, table, name)?.0)).collect()
        };
        let names = ["ID", "IX", "IY", "XMIN", "XMAX", "NLINES", "DQ", "WAVERMS", "LSFSIG"];
        let table = columns("SPAXELS", &names)?;
        if table.iter().any(|c| c.len() != n) {
            return Err(fail(format!("SPAXELS does not have NLENS = {n} rows")));
        }
        let mut spaxels = Vec::with_capacity(n);
        for i in 0..n {
            let v: Vec<f64> = table.iter().map(|c| c[i]).collect();
            if !(v[3] >= 0.0 && v[3] < v[4] && v[4] < mode.nx as f64) {
                return Err(fail(format!(
                    "lenslet {}: XMIN, XMAX = {}, {} do not make sense",
                    v[0], v[3], v[4]
                )));
            }
            spaxels.push(Solution {
                id: v[0] as i32,
                ix: v[1] as i32,
                iy: v[2] as i32,
                xmin: v[3] as usize,
                xmax: v[4] as usize,
                lines: v[5].max(0.0) as usize,
                dq: v[6] as i64 as u32,
                rms: v[7],
                sigma: v[8],
                wave: waves[i * terms..(i + 1) * terms].to_vec(),
            });
        }
        let lines = columns("LINES", &["WAVELENGTH", "SPAXELS", "OFFSET", "RMS"])?;
        let lines = (0..lines[0].len())
            .map(|i| Fitted {
                wavelength: lines[0][i],
                spaxels: lines[1][i].max(0.0) as usize,
                offset: lines[2][i],
                rms: lines[3][i],
            })
            .collect();
        Ok(Wavemap {
            mode,
            spaxels,
            lines,
            degree: h.integer("WAVEDEG").unwrap_or(0).max(0) as usize,
            shift: h.number("WAVESHFT").unwrap_or(0.0),
            rms: h.number("WAVERMS").unwrap_or(0.0),
            scatter: (0..).map_while(|k| h.number(&format!("WAVESCA{k}"))).collect(),
        })
    }
}
