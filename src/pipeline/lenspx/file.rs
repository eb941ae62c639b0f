//! The calibration on disk: REFTYPE LENSPX, FMTVER 1.
//!
//! | HDU | numpy shape | |
//! |---|---|---|
//! | LENSLETS | table | ID, IX, IY, XSKY, YSKY (arcsec), XMIN, XMAX (columns from 0, inclusive), WAVMIN, WAVMAX (µm), THRU, DQ, WAVERMS (µm), LSFSIG (columns) |
//! | TRACE | (lenslets, terms) f64 | Legendre series of the centre's row on [XMIN, XMAX] |
//! | WAVE | (lenslets, terms) f64 | the same of the wavelength, vacuum µm |
//! | PROFILE | (lenslets, terms) f32 | the same of the FWHM across dispersion, rows |
//! | LFLAT | (lenslets, terms) f32 | Legendre series in wavelength on [FLATMIN, FLATMAX] |
//! | DQ | (lenslets) u32 | as in LENSLETS |
//! | PSFBASIS | (eigen-PSFlets, 49, 49) f32 | where the PSF was measured: (η, dx), PSFFINE samples a pixel |
//! | PSFCOEF | (lenslets, knots, eigen-PSFlets) f32 | their coefficients |
//! | LSF | (lenslets, knots) f32 | σ of the line-spread function, columns |

use std::path::Path;

use super::choice::Chi2;
use super::leak::Leak;
use super::psf::{FINE, HALF, NODES, PsfModel};
use super::{LensCal, Lenslet, Mode};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::{Column, ColumnData, Fits, FitsWriter, Header, Pixels, read_column};

const VERSION: i64 = 1;

impl LensCal {
    /// Writes the calibration. `header` brings what the caller knows of it
    /// (TELESCOP, USEAFTER, HISTORY …); the keywords of the format are set here.
    pub fn save(&self, path: &Path, header: &Header) -> Result<()> {
        let n = self.lenslets.len();
        let mut primary = header.clone();
        let m = &self.mode;
        primary.set("REFTYPE", "LENSPX", "lenslet spectral extraction calibration");
        primary.set("FMTVER", VERSION, "version of this format");
        primary.set("DETECTOR", m.detector.as_str(), "");
        primary.set("FILTER", m.filter.as_str(), "");
        primary.set("GRATING", m.grating.as_str(), "");
        primary.set("SCALE", m.scale, "arcsec a spaxel");
        primary.set("DETNX", m.nx, "detector columns");
        primary.set("DETNY", m.ny, "detector rows");
        primary.set("NLENS", n, "lenslets with a trace");
        primary.set("DISPAXIS", 1, "dispersion runs along FITS axis 1");
        primary.set("PIXCONV", "0-based, pixel centre integer", "");
        primary.set("WAVETYPE", "vacuum, um", "");
        primary.set("PROFTYPE", "GAUSSIAN", "integrated over pixels; PROFILE is its FWHM");
        primary.set("FLATMIN", self.flat_range.0, "interval of the LFLAT series, um");
        primary.set("FLATMAX", self.flat_range.1, "interval of the LFLAT series, um");
        primary.set("FLATERR", finite(self.flat_error), "median relative error of LFLAT");
        primary.set("PSFRES", finite(self.misfit), "profile residual beyond noise (fraction)");
        for (leak, name, method) in [(self.leak, "LEAK", "banded"), (self.leak_factored, "LEAK2", "factored")]
        {
            let Some(leak) = leak else { continue };
            primary.set(
                name,
                rounded(leak.largest),
                &format!("most of its light in a dark neighbour, {method}"),
            );
            primary.set(&format!("{name}MED"), rounded(leak.median), "the same, median of pairs");
            primary.set(&format!("{name}ERR"), rounded(leak.error), "the same, what noise makes");
        }
        if let Some(chi2) = self.chi2 {
            primary.set("CHI2BND", rounded(chi2.banded), "of frames of one wavelength, by banded");
            primary.set("CHI2FAC", rounded(chi2.factored), "of frames of one wavelength, by factored");
        }
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &primary)?;
        w.table("LENSLETS", &Header::new(), &self.columns())?;
        for (name, pick) in
            [("TRACE", (|l: &Lenslet| &l.trace) as fn(&Lenslet) -> &Vec<f64>), ("WAVE", |l| &l.wave)]
        {
            let (values, terms) = self.series(pick);
            w.image(name, &Header::new(), &[n, terms], Pixels::F64(&values))?;
        }
        for (name, pick) in
            [("PROFILE", (|l: &Lenslet| &l.fwhm) as fn(&Lenslet) -> &Vec<f64>), ("LFLAT", |l| &l.lflat)]
        {
            let (values, terms) = self.series(pick);
            let single: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            w.image(name, &Header::new(), &[n, terms], Pixels::F32(&single))?;
        }
        let flags: Vec<u32> = self.lenslets.iter().map(|l| l.dq).collect();
        let mut described = Header::new();
        dq::describe(&mut described);
        w.image("DQ", &described, &[n], Pixels::U32(&flags))?;
        if let Some(psf) = &self.psf {
            let nb = psf.basis.len();
            let basis: Vec<f32> = psf.basis.iter().flatten().map(|v| *v as f32).collect();
            let mut h = Header::new();
            h.set("PSFFINE", FINE, "samples a pixel");
            h.set("PSFHALF", HALF, "pixels from the middle to the edge");
            w.image("PSFBASIS", &h, &[nb, NODES, NODES], Pixels::F32(&basis))?;
            w.image("PSFCOEF", &Header::new(), &[n, psf.knots, nb], Pixels::F32(&psf.coefs))?;
            let mut h = Header::new();
            h.set("BUNIT", "pixel", "sigma of the Gaussian line-spread function");
            w.image("LSF", &h, &[n, psf.knots], Pixels::F32(&psf.lsf))?;
        }
        w.finish()?;
        Ok(())
    }

    fn series(&self, pick: fn(&Lenslet) -> &Vec<f64>) -> (Vec<f64>, usize) {
        let terms = self.lenslets.iter().map(|l| pick(l).len()).max().unwrap_or(0);
        let row = |l| {
            let mut row = pick(l).clone();
            row.resize(terms, 0.0);
            row
        };
        (self.lenslets.iter().flat_map(row).collect(), terms)
    }

    fn columns(&self) -> Vec<Column> {
        let column =
            |name: &str, unit: &str, data| Column { name: name.into(), unit: unit.into(), width: 1, data };
        let l = &self.lenslets;
        let ints = |f: &dyn Fn(&Lenslet) -> i32| ColumnData::I32(l.iter().map(f).collect());
        let short = |f: &dyn Fn(&Lenslet) -> i16| ColumnData::I16(l.iter().map(f).collect());
        let wide = |f: &dyn Fn(&Lenslet) -> f64| ColumnData::F64(l.iter().map(f).collect());
        let single = |f: &dyn Fn(&Lenslet) -> f64| ColumnData::F32(l.iter().map(|l| f(l) as f32).collect());
        vec![
            column("ID", "", ints(&|l| l.id)),
            column("IX", "", short(&|l| l.ix as i16)),
            column("IY", "", short(&|l| l.iy as i16)),
            column("XSKY", "arcsec", wide(&|l| self.sky(l).0)),
            column("YSKY", "arcsec", wide(&|l| self.sky(l).1)),
            column("XMIN", "pixel", short(&|l| l.xmin as i16)),
            column("XMAX", "pixel", short(&|l| l.xmax as i16)),
            column("WAVMIN", "um", wide(&|l| l.wavmin)),
            column("WAVMAX", "um", wide(&|l| l.wavmax)),
            column("THRU", "", single(&|l| l.throughput)),
            column("DQ", "", ints(&|l| l.dq as i32)),
            column("WAVERMS", "um", single(&|l| l.wave_rms)),
            column("LSFSIG", "pixel", single(&|l| l.lsf_sigma)),
        ]
    }

    /// Reads a calibration.
    pub fn load(path: &Path) -> Result<LensCal> {
        let fits = Fits::open(path)?;
        let h = fits.primary();
        let fail = |m: String| Error::reference("lenspx", format!("{}: {m}", path.display()));
        let kind = h.text("REFTYPE").unwrap_or_default();
        if !["LENSPX", "LEN-SPX"].contains(&kind.to_ascii_uppercase().as_str()) {
            return Err(fail(format!("REFTYPE is '{kind}', not LENSPX")));
        }
        let version = h.integer("FMTVER").unwrap_or(0);
        if version != VERSION {
            return Err(fail(format!("FMTVER = {version}; this program reads version {VERSION}")));
        }
        let number = |key: &str| h.number(key).ok_or_else(|| fail(format!("{key} is missing")));
        let size = |key: &str| {
            let v = number(key)?;
            if v > 0.0 && v < 1e6 { Ok(v as usize) } else { Err(fail(format!("{key} = {v} is not a size"))) }
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
        let table = fits.require(&["LENSLETS"])?;
        let column = |name: &str| {
            let (values, width) = read_column(&fits, table, name)?;
            if width != 1 || values.len() != n {
                return Err(fail(format!("column {name} of LENSLETS does not have NLENS = {n} rows")));
            }
            Ok(values)
        };
        let series = |name: &str| {
            let hdu = fits.require(&[name])?;
            match hdu.shape[..] {
                [rows, terms] if rows == n && (1..=64).contains(&terms) => {
                    let values = fits.f64(hdu)?;
                    if !values.iter().all(|v| v.is_finite()) {
                        return Err(fail(format!("{name} holds values that are not numbers")));
                    }
                    Ok(values.chunks_exact(terms).map(<[f64]>::to_vec).collect::<Vec<_>>())
                }
                _ => Err(fail(format!("{name} has shape {:?}, not (NLENS = {n}, terms)", hdu.shape))),
            }
        };
        let (trace, wave, fwhm, lflat) =
            (series("TRACE")?, series("WAVE")?, series("PROFILE")?, series("LFLAT")?);
        let [id, ix, iy] = [column("ID")?, column("IX")?, column("IY")?];
        let [xmin, xmax, wavmin, wavmax] =
            [column("XMIN")?, column("XMAX")?, column("WAVMIN")?, column("WAVMAX")?];
        let [throughput, flags, rms, lsf] =
            [column("THRU")?, column("DQ")?, column("WAVERMS")?, column("LSFSIG")?];
        let mut lenslets = Vec::with_capacity(n);
        for i in 0..n {
            let in_frame = xmin[i] >= 0.0 && xmin[i] <= xmax[i] && xmax[i] < mode.nx as f64;
            let in_field = [ix[i], iy[i]].iter().all(|v| (0.0..4096.0).contains(v));
            if !in_frame || !in_field {
                return Err(fail(format!(
                    "lenslet {}: XMIN, XMAX, IX or IY do not make sense ({}, {}, {}, {})",
                    id[i], xmin[i], xmax[i], ix[i], iy[i]
                )));
            }
            lenslets.push(Lenslet {
                id: id[i] as i32,
                ix: ix[i] as i32,
                iy: iy[i] as i32,
                xmin: xmin[i] as usize,
                xmax: xmax[i] as usize,
                trace: trace[i].clone(),
                fwhm: fwhm[i].clone(),
                wave: wave[i].clone(),
                lflat: lflat[i].clone(),
                throughput: throughput[i],
                wavmin: wavmin[i],
                wavmax: wavmax[i],
                wave_rms: rms[i],
                lsf_sigma: lsf[i],
                dq: flags[i] as i64 as u32,
            });
        }
        let flat_range = (number("FLATMIN")?, number("FLATMAX")?);
        Ok(LensCal {
            mode,
            lenslets,
            flat_range,
            flat_error: h.number("FLATERR").unwrap_or(0.0),
            misfit: h.number("PSFRES").unwrap_or(0.0),
            psf: read_psf(&fits, n, &fail)?,
            leak: read_leak(h, "LEAK"),
            leak_factored: read_leak(h, "LEAK2"),
            chi2: h
                .number("CHI2BND")
                .zip(h.number("CHI2FAC"))
                .map(|(banded, factored)| Chi2 { banded, factored }),
        })
    }
}

/// The leak under keywords that begin so, where the file says.
fn read_leak(h: &Header, name: &str) -> Option<Leak> {
    let number = |end: &str| h.number(&format!("{name}{end}")).filter(|v| v.is_finite());
    Some(Leak { largest: number("")?, median: number("MED")?, error: number("ERR").unwrap_or(0.0) })
}

/// The two-dimensional PSF, where the file has one.
fn read_psf(fits: &Fits, n: usize, fail: &dyn Fn(String) -> Error) -> Result<Option<PsfModel>> {
    let Some(hdu) = fits.hdu("PSFBASIS") else { return Ok(None) };
    let sampled = (hdu.header.integer("PSFFINE"), hdu.header.integer("PSFHALF"));
    if sampled != (Some(FINE as i64), Some(HALF as i64)) {
        return Err(fail(format!(
            "PSFBASIS has PSFFINE, PSFHALF = {sampled:?}; this program reads {FINE} samples a pixel out to {HALF}"
        )));
    }
    let nb = match hdu.shape[..] {
        [nb, NODES, NODES] if (1..=64).contains(&nb) => nb,
        _ => return Err(fail(format!("PSFBASIS has shape {:?}, not (n, {NODES}, {NODES})", hdu.shape))),
    };
    let basis = fits.f64(hdu)?;
    let coefs = fits.require(&["PSFCOEF"])?;
    let knots = match coefs.shape[..] {
        [rows, knots, own] if rows == n && own == nb && (2..=1024).contains(&knots) => knots,
        _ => {
            return Err(fail(format!("PSFCOEF has shape {:?}, not (NLENS = {n}, knots, {nb})", coefs.shape)));
        }
    };
    let coefs = fits.f32(coefs)?;
    let lsf = fits.require(&["LSF"])?;
    if lsf.shape != [n, knots] {
        return Err(fail(format!("LSF has shape {:?}, not (NLENS = {n}, {knots})", lsf.shape)));
    }
    let lsf = fits.f32(lsf)?;
    let known = basis.iter().all(|v| v.is_finite()) && coefs.iter().all(|v| v.is_finite());
    if !known || !lsf.iter().all(|s| (0.2..10.0).contains(s)) {
        return Err(fail("PSFBASIS, PSFCOEF or LSF hold values that cannot be".into()));
    }
    let basis = basis.chunks_exact(NODES * NODES).map(<[f64]>::to_vec).collect();
    Ok(Some(PsfModel { basis, knots, coefs, lsf }))
}

/// A part of light to six places.
fn rounded(v: f64) -> f64 {
    (finite(v) * 1e6).round() / 1e6
}

fn finite(v: f64) -> f64 {
    if v.is_finite() { v } else { 0.0 }
}
