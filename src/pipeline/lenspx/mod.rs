//! LEN-SPX: where each lenslet's spectrum lies on the detector, how wide it is,
//! which wavelength falls where, and how much of the light it passes.
//!
//! [`build`] makes the calibration from rate frames:
//! * white-light scans, each with one lenslet column lit: traces ([`trace`] finds
//!   them, [`shape`] measures centre, width and spectrum), IX and IY ([`identify`]);
//! * arc or monochromatic frames with all lenslets lit: extracted with those traces,
//!   lines measured ([`lines`]) and told apart ([`pattern`]), λ(x) ([`wave`]);
//! * the scans again, now with wavelengths: the lenslet flat ([`flat`]).
//!
//! Profile: a Gaussian integrated over pixels, FWHM a low-order series along the
//! trace. Other profiles are fitted as well as a Gaussian can; `PSFRES` in the file
//! says how well that is. Nothing is assumed of the lattice beyond what [`identify`]
//! states: traces may be tilted, curved and in any order on the detector.
//!
//! Coordinates: columns x along dispersion and rows y, pixel centres at integers
//! from 0. All series are Legendre.

mod build;
pub mod choice;
pub mod epsf;
mod factor;
mod file;
pub mod flat;
pub mod gaussian;
pub mod identify;
pub mod leak;
pub mod legendre;
pub mod lines;
pub mod noise;
pub mod pattern;
pub mod psf;
pub mod rectmat;
pub mod shape;
pub mod system;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod wave;

pub use build::build;
pub use shape::Shape;

use crate::config::Extraction;
use crate::datamodel::{Meta, Rate};
use crate::error::{Error, Result};
use legendre::unit;

/// A white-light frame with one lenslet column lit.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Which column (LENSCOL); the smallest of the scans becomes IX 0.
    pub lenscol: i32,
    /// The frame, dark subtracted.
    pub rate: Rate,
}

/// A frame of lines with all lenslets lit.
#[derive(Debug, Clone)]
pub struct Arc {
    /// The lines' wavelengths, vacuum µm, in any order. With one, each lenslet's
    /// strongest line is that; with more, lines are told by the solution of three
    /// frames with one, or by their [`pattern`].
    pub wavelengths: Vec<f64>,
    /// The frame, dark subtracted.
    pub rate: Rate,
}

/// How to build.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Degree of y(x).
    pub trace_degree: usize,
    /// Degree of FWHM(x).
    pub width_degree: usize,
    /// Degree of λ(x).
    pub wave_degree: usize,
    /// Terms of the lenslet flat's series.
    pub flat_terms: usize,
}

impl Default for Params {
    fn default() -> Params {
        Params { trace_degree: 4, width_degree: 2, wave_degree: 3, flat_terms: 3 }
    }
}

/// What a calibration is valid for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mode {
    /// DETECTOR.
    pub detector: String,
    /// FILTER.
    pub filter: String,
    /// GRATING.
    pub grating: String,
    /// Spaxel, arcsec.
    pub scale: f64,
    /// Detector columns.
    pub nx: usize,
    /// Detector rows.
    pub ny: usize,
}

impl Mode {
    /// The mode of an exposure of `nx` × `ny` pixels; `scale` stands in for a
    /// missing SCALE.
    pub fn of(meta: &Meta, nx: usize, ny: usize, scale: f64) -> Mode {
        Mode {
            detector: meta.detector.clone(),
            filter: meta.filter.clone(),
            grating: meta.grating.clone(),
            scale: meta.scale.unwrap_or(scale),
            nx,
            ny,
        }
    }
}

/// One lenslet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lenslet {
    /// Number, IY · (lenslets along x) + IX.
    pub id: i32,
    /// Spaxel.
    pub ix: i32,
    /// Spaxel.
    pub iy: i32,
    /// First and last detector column, inclusive; the interval of the series in x.
    pub xmin: usize,
    /// Last detector column.
    pub xmax: usize,
    /// Row of the centre.
    pub trace: Vec<f64>,
    /// FWHM of the profile across dispersion, rows.
    pub fwhm: Vec<f64>,
    /// Wavelength, vacuum µm.
    pub wave: Vec<f64>,
    /// Throughput relative to the median lenslet, on the calibration's flat range.
    pub lflat: Vec<f64>,
    /// Mean of that.
    pub throughput: f64,
    /// Shortest wavelength, at a pixel's edge.
    pub wavmin: f64,
    /// Longest wavelength.
    pub wavmax: f64,
    /// Scatter of its lines about its wavelengths, µm.
    pub wave_rms: f64,
    /// σ of the line-spread function, columns, without the pixel.
    pub lsf_sigma: f64,
    /// Data quality.
    pub dq: u32,
}

impl Lenslet {
    fn unit(&self, x: f64) -> f64 {
        unit(x, self.xmin as f64, self.xmax as f64)
    }

    /// Row of the centre at column `x`.
    pub fn y(&self, x: f64) -> f64 {
        legendre::value(&self.trace, self.unit(x))
    }

    /// σ of the profile at column `x`, rows.
    pub fn sigma(&self, x: f64) -> f64 {
        (legendre::value(&self.fwhm, self.unit(x)) / gaussian::FWHM).clamp(0.25, 4.0)
    }

    /// Wavelength at column `x`, vacuum µm.
    pub fn wavelength(&self, x: f64) -> f64 {
        legendre::value(&self.wave, self.unit(x))
    }
}

/// The calibration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LensCal {
    /// What it is valid for.
    pub mode: Mode,
    /// The lenslets that have a trace, by ID.
    pub lenslets: Vec<Lenslet>,
    /// Interval of the series LFLAT, µm.
    pub flat_range: (f64, f64),
    /// Median relative error of LFLAT.
    pub flat_error: f64,
    /// Residual of the profile beyond noise, as a fraction (median).
    pub misfit: f64,
    /// The two-dimensional point-spread function, where it was measured.
    pub psf: Option<psf::PsfModel>,
    /// What extraction column by column (`banded`) gives of a spectrum's light to its
    /// neighbours, where that was measured.
    pub leak: Option<leak::Leak>,
    /// The same of `factored`.
    pub leak_factored: Option<leak::Leak>,
    /// How well both describe frames of one wavelength, where that was measured.
    pub chi2: Option<choice::Chi2>,
}

impl LensCal {
    /// Spaxels along x and y.
    pub fn grid(&self) -> (usize, usize) {
        let size = |pick: fn(&Lenslet) -> i32| self.lenslets.iter().map(pick).max().map_or(0, |m| m + 1);
        (size(|l| l.ix).max(0) as usize, size(|l| l.iy).max(0) as usize)
    }

    /// The leak of spectra extracted by `method`, where it is known.
    pub fn leak_of(&self, method: Extraction) -> Option<leak::Leak> {
        match self.method(method) {
            Extraction::Factored => self.leak_factored,
            // Knows nothing of neighbours: all that overlaps is given to both.
            Extraction::Profile => None,
            _ => self.leak,
        }
    }

    /// Throughput of lenslet `l` at `wavelength`, never outside what was measured.
    pub fn flat(&self, l: &Lenslet, wavelength: f64) -> f64 {
        let t = unit(wavelength, self.flat_range.0, self.flat_range.1);
        legendre::value(&l.lflat, t.clamp(-1.0, 1.0))
    }

    /// Spaxel's offset from the field's centre along x and y, arcsec, before any
    /// rotation or parity.
    pub fn sky(&self, l: &Lenslet) -> (f64, f64) {
        let (nx, ny) = self.grid();
        let at = |i: i32, n: usize| (f64::from(i) - (n as f64 - 1.0) / 2.0) * self.mode.scale;
        (at(l.ix, nx), at(l.iy, ny))
    }

    /// Refuses frames of another mode.
    pub fn check(&self, mode: &Mode) -> Result<()> {
        let own = &self.mode;
        let fail = |m: String| Err(Error::reference("lenspx", m));
        if (own.nx, own.ny) != (mode.nx, mode.ny) {
            return fail(format!(
                "was made for frames of {} × {} pixels, not {} × {}; take one made from frames of that size",
                own.nx, own.ny, mode.nx, mode.ny
            ));
        }
        let texts = [
            ("DETECTOR", &own.detector, &mode.detector),
            ("FILTER", &own.filter, &mode.filter),
            ("GRATING", &own.grating, &mode.grating),
        ];
        for (keyword, a, b) in texts {
            if !a.eq_ignore_ascii_case(b) {
                return fail(format!(
                    "was made with {keyword} = '{a}', the frame has '{b}'; take LEN-SPX frames of that mode"
                ));
            }
        }
        if (own.scale - mode.scale).abs() > 1e-6 {
            return fail(format!(
                "was made with SCALE = {}, the frame has {}; take LEN-SPX frames of that scale",
                own.scale, mode.scale
            ));
        }
        Ok(())
    }
}
