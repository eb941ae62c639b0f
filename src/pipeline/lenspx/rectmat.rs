//! OSIRIS's rectification matrices, out of a calibration and into one.
//!
//! | HDU | FITS shape | |
//! |---|---|---|
//! | `hilo` | (2, spectra) int16 | first and last detector row of each spectrum's strip, from 0 |
//! | `effective` | (spectra) int16 | 1 where the spectrum is lit |
//! | `basis_vectors` | (columns, rows, spectra) float32 | the pixel's response to unit flux of the spectrum in that column: the profile times the lenslet's throughput |
//!
//! as OsirisDRP's mkrecmatrx writes them. Spectra are in the order of the calibration's
//! lenslets; a strip has as many rows as the steepest trace needs (OSIRIS's have 16). A
//! matrix knows neither wavelengths nor lenslets: those come from a calibration of the same
//! lenslets where it is read.

use std::path::Path;

use rayon::prelude::*;

use super::legendre::{self, Normal};
use super::{LensCal, Lenslet, gaussian};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::{Fits, FitsWriter, Header, Pixels};

/// Half of a profile's height in σ.
const REACH: f64 = 4.0;
/// A column whose response is below this part of the largest tells nothing.
const FAINT: f64 = 0.02;
/// Terms of what is fitted along a spectrum: row, FWHM, throughput.
const TERMS: [usize; 3] = [5, 3, 3];

/// First and last row of a lenslet's strip.
fn rows(l: &Lenslet, ny: usize) -> (usize, usize) {
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for x in l.xmin..=l.xmax {
        let (y, reach) = (l.y(x as f64), REACH * l.sigma(x as f64));
        (low, high) = (low.min(y - reach), high.max(y + reach));
    }
    let within = |v: f64| v.clamp(0.0, ny as f64 - 1.0) as usize;
    (within(low.round()), within(high.round()))
}

/// A lenslet's strip, (rows, columns), from detector row `first` on.
fn strip(cal: &LensCal, l: &Lenslet, first: usize, height: usize) -> Vec<f32> {
    let nx = cal.mode.nx;
    let mut out = vec![0f32; height * nx];
    let mut profile = vec![0.0; height];
    for x in l.xmin..=l.xmax {
        gaussian::profile(l.y(x as f64), l.sigma(x as f64), first as i64, &mut profile);
        let flat = cal.flat(l, l.wavelength(x as f64));
        for (row, p) in profile.iter().enumerate() {
            out[row * nx + x] = (flat * p) as f32;
        }
    }
    out
}

/// Writes a calibration's profiles as a rectification matrix.
pub fn export(cal: &LensCal, path: &Path) -> Result<()> {
    let (n, nx) = (cal.lenslets.len(), cal.mode.nx);
    let strips: Vec<(usize, usize)> = cal.lenslets.iter().map(|l| rows(l, cal.mode.ny)).collect();
    let height = strips.iter().map(|(a, b)| b + 1 - a).max().unwrap_or(1).min(cal.mode.ny);
    // All are of one height: at the detector's last rows they begin earlier.
    let first: Vec<usize> = strips.iter().map(|(a, _)| (*a).min(cal.mode.ny - height)).collect();
    let hilo: Vec<i16> = first.iter().flat_map(|f| [*f as i16, (f + height - 1) as i16]).collect();
    let lit = |l: &Lenslet| i16::from(l.dq & dq::DO_NOT_USE == 0);
    let effective: Vec<i16> = cal.lenslets.iter().map(lit).collect();
    let mut matrix = vec![0f32; n * height * nx];
    matrix
        .par_chunks_exact_mut(height * nx)
        .zip(cal.lenslets.par_iter().zip(&first))
        .for_each(|(out, (l, first))| out.copy_from_slice(&strip(cal, l, *first, height)));
    let mut header = Header::new();
    header.set("BASESIZE", height, "rows of a strip");
    header.set("DETNY", cal.mode.ny, "detector rows");
    header.set("FILTER", cal.mode.filter.as_str(), "");
    header.set("SCALE", cal.mode.scale, "arcsec a spaxel");
    let mut w = FitsWriter::create(path)?;
    w.image("hilo", &header, &[n, 2], Pixels::I16(&hilo))?;
    w.image("effective", &Header::new(), &[n], Pixels::I16(&effective))?;
    w.image("basis_vectors", &Header::new(), &[n, height, nx], Pixels::F32(&matrix))?;
    w.finish()?;
    Ok(())
}

/// Traces, widths and throughputs out of a rectification matrix, the rest (wavelengths, places in the
/// field) from `like`, whose lenslets are the matrix's spectra in their order. What the
/// matrix has no light for is flagged.
pub fn import(path: &Path, like: &LensCal) -> Result<LensCal> {
    let fits = Fits::open(path)?;
    let fail = |m: String| Error::input(path, m);
    let hdu = |i: usize, what: &str| {
        fits.hdus.get(i).ok_or_else(|| {
            fail(format!(
                "has no HDU {i} ({what}): a rectification matrix has hilo, effective and basis_vectors"
            ))
        })
    };
    let (hilo, effective, matrix) = (hdu(0, "hilo")?, hdu(1, "effective")?, hdu(2, "basis_vectors")?);
    let n = like.lenslets.len();
    let [spectra, height, nx] = matrix.shape[..] else {
        return Err(fail(format!(
            "basis_vectors has shape {:?}, not (spectra, rows, columns)",
            matrix.shape
        )));
    };
    if hilo.shape != [spectra, 2] || effective.shape != [spectra] {
        return Err(fail(format!(
            "hilo and effective have shapes {:?} and {:?}, not ({spectra}, 2) and ({spectra}) as basis_vectors",
            hilo.shape, effective.shape
        )));
    }
    if (spectra, nx) != (n, like.mode.nx) {
        return Err(fail(format!(
            "has {spectra} spectra of {nx} columns, the calibration that names its lenslets {n} of {}",
            like.mode.nx
        )));
    }
    let (first, lit, values) = (fits.f64(hilo)?, fits.f64(effective)?, fits.f32(matrix)?);
    let bad = (0..n).find(|i| {
        let (a, b) = (first[2 * i], first[2 * i + 1]);
        a < 0.0 || b - a + 1.0 > height as f64 || b >= like.mode.ny as f64
    });
    if let Some(i) = bad {
        return Err(fail(format!(
            "spectrum {i}: rows {} to {} are not those of its strip",
            first[2 * i],
            first[2 * i + 1]
        )));
    }
    let mut cal = LensCal { psf: None, leak: None, leak_factored: None, ..like.clone() };
    let range = cal.flat_range;
    cal.lenslets.par_iter_mut().enumerate().for_each(|(i, l)| {
        let strip = &values[i * height * nx..(i + 1) * height * nx];
        let measured = if lit[i] == 1.0 { measure(strip, nx, first[2 * i], l, range) } else { None };
        match measured {
            Some([trace, fwhm, flat]) => {
                l.throughput = flat[0];
                (l.trace, l.fwhm, l.lflat) = (trace, fwhm, flat);
            }
            None => l.dq |= dq::DO_NOT_USE | dq::NON_SCIENCE,
        }
    });
    if cal.lenslets.iter().all(|l| l.dq & dq::DO_NOT_USE != 0) {
        return Err(fail("holds no profile that could be measured".into()));
    }
    Ok(cal)
}

/// Series of row, FWHM and throughput of a strip.
fn measure(strip: &[f32], nx: usize, first: f64, l: &Lenslet, range: (f64, f64)) -> Option<[Vec<f64>; 3]> {
    let column = |x: usize| strip.iter().skip(x).step_by(nx).map(|v| f64::from(*v));
    let largest = (l.xmin..=l.xmax).map(|x| column(x).sum::<f64>()).fold(0.0, f64::max);
    let mut points: [Vec<(f64, f64, f64)>; 3] = Default::default();
    for x in l.xmin..=l.xmax {
        let values: Vec<f64> = column(x).collect();
        if !values.iter().all(|v| v.is_finite()) || values.iter().sum::<f64>() <= FAINT * largest {
            continue;
        }
        let Some([flux, centre, sigma]) = bell(&values) else { continue };
        let t = legendre::unit(x as f64, l.xmin as f64, l.xmax as f64);
        points[0].push((t, first + centre, 1.0));
        points[1].push((t, sigma * gaussian::FWHM, 1.0));
        points[2].push((legendre::unit(l.wavelength(x as f64), range.0, range.1), flux, 1.0));
    }
    if points[0].len() < (l.xmax - l.xmin) / 2 {
        return None;
    }
    let series = |k: usize| legendre::robust_fit(&points[k], TERMS[k] - 1, 5.0, 1e-4);
    Some([series(0)?, series(1)?, series(2)?])
}

/// Sum, centre (from the first value) and σ of a Gaussian integrated over pixels.
fn bell(values: &[f64]) -> Option<[f64; 3]> {
    let sum: f64 = values.iter().sum();
    let centre = values.iter().enumerate().map(|(i, v)| i as f64 * v).sum::<f64>() / sum;
    let square = values.iter().enumerate().map(|(i, v)| (i as f64 - centre).powi(2) * v).sum::<f64>() / sum;
    let mut p = [sum, centre, (square - 1.0 / 12.0).max(0.1).sqrt()];
    for _ in 0..8 {
        let mut normal = Normal::new(3);
        for (i, v) in values.iter().enumerate() {
            let (share, by_centre, by_sigma) = gaussian::with_slopes(p[1], p[2], i as i64);
            normal.add(&[share, p[0] * by_centre, p[0] * by_sigma], v - p[0] * share, 1.0);
        }
        let (step, _) = normal.solve()?;
        (0..3).for_each(|k| p[k] += step[k]);
        if !(p[2] > 0.2 && p[2] < values.len() as f64 && p[1] > -1.0 && p[1] < values.len() as f64) {
            return None;
        }
    }
    Some(p)
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    fn calibration() -> LensCal {
        let lenslet = |i: i32| Lenslet {
            id: i,
            ix: i % 2,
            iy: i / 2,
            xmin: 4,
            xmax: 90,
            trace: vec![9.3 + 5.1 * f64::from(i), 0.6, -0.05],
            fwhm: vec![1.9, 0.1],
            wave: vec![1.65, 0.05],
            lflat: vec![1.0 + 0.02 * f64::from(i), 0.03],
            throughput: 1.0 + 0.02 * f64::from(i),
            wavmin: 1.6,
            wavmax: 1.7,
            wave_rms: 0.0,
            lsf_sigma: 0.9,
            dq: if i == 3 { dq::DO_NOT_USE } else { 0 },
        };
        let mode = Mode { nx: 100, ny: 48, scale: 0.004, ..Mode::default() };
        LensCal {
            mode,
            lenslets: (0..6).map(lenslet).collect(),
            flat_range: (1.6, 1.7),
            ..LensCal::default()
        }
    }

    fn file(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("irisgpu-rectmat-{}-{name}.fits", std::process::id()))
    }

    #[test]
    fn a_matrix_comes_back_as_the_calibration_it_was_made_of() {
        let (cal, path) = (calibration(), file("round"));
        export(&cal, &path).expect("export");
        {
            let fits = Fits::open(&path).expect("fits");
            let shapes: Vec<&[usize]> = fits.hdus.iter().map(|h| h.shape.as_slice()).collect();
            assert_eq!((shapes[0], shapes[1], shapes[2][0], shapes[2][2]), (&[6, 2][..], &[6][..], 6, 100));
            let matrix = fits.f32(&fits.hdus[2]).expect("matrix");
            let rows = shapes[2][1];
            // The response adds up to the throughput.
            let sum: f32 = (0..rows).map(|r| matrix[(2 * rows + r) * 100 + 47]).sum();
            let l = &cal.lenslets[2];
            assert!((f64::from(sum) - cal.flat(l, l.wavelength(47.0))).abs() < 1e-3, "{sum}");
        }
        // What is taken from `like` and what is not.
        let mut like = cal.clone();
        like.lenslets.iter_mut().for_each(|l| (l.trace, l.fwhm, l.lflat) = (vec![0.0], vec![1.0], vec![5.0]));
        let back = import(&path, &like).expect("import");
        let _ = std::fs::remove_file(&path);
        for (a, b) in back.lenslets.iter().zip(&cal.lenslets) {
            assert_eq!(a.dq & dq::DO_NOT_USE, b.dq & dq::DO_NOT_USE);
            if a.dq & dq::DO_NOT_USE != 0 {
                continue;
            }
            for x in [5.0, 40.0, 88.0] {
                assert!((a.y(x) - b.y(x)).abs() < 1e-3 && (a.sigma(x) - b.sigma(x)).abs() < 1e-3);
                let w = b.wavelength(x);
                assert!((back.flat(a, w) / cal.flat(b, w) - 1.0).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn another_detector_is_refused() {
        let (cal, path) = (calibration(), file("other"));
        export(&cal, &path).expect("export");
        let mut like = cal;
        like.lenslets.pop();
        let sentence = import(&path, &like).expect_err("five lenslets").to_string();
        let _ = std::fs::remove_file(&path);
        assert!(sentence.contains("6 spectra of 100 columns"), "{sentence}");
    }
}
