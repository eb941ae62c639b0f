//! The numbers of one image: statistics, stars, depth, Strehl ratio.

use serde::Serialize;

use super::stars::{self, Field, Optics, Star};
use super::{Plane, Stats};

/// What was measured in an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Of the whole image, or of the region.
    pub stats: Stats,
    /// Stars that gave the width.
    pub stars: usize,
    /// Median FWHM of the stars, pixels.
    pub fwhm: Option<f64>,
    /// Half the spread from the 16th to the 84th percentile of their FWHM.
    pub fwhm_spread: Option<f64>,
    /// Median of 1 − minor/major axis.
    pub ellipticity: Option<f64>,
    /// Flux of a star at 5 σ, with the FWHM of the stars, else of the diffraction limit.
    pub depth: Option<f64>,
    /// FWHM that the depth is for, pixels.
    pub depth_fwhm: Option<f64>,
    /// Median Strehl ratio of the stars that allow one.
    pub strehl: Option<f64>,
    /// How many did.
    pub strehl_stars: usize,
}

impl Measured {
    /// Measures `plane`; `optics`, where they are known, give Strehl ratios and the width
    /// of a star where there is none. `None` of an image without a value.
    pub fn of(plane: &Plane, optics: Option<&Optics>) -> Option<Measured> {
        let field = Field { nx: plane.nx, values: &plane.values };
        let stats = Stats::of(&plane.values)?;
        let found = stars::find(&field, 10.0, 60);
        let widths: Vec<f64> = found.iter().map(|s| s.fwhm).collect();
        let ratios: Vec<f64> = optics
            .map_or_else(Vec::new, |o| found.iter().take(8).filter_map(|s| o.strehl(&field, s)).collect());
        let fwhm = quantile(&widths, 0.5);
        // FWHM of an Airy pattern: 1.029 λ/D.
        let depth_fwhm = fwhm.or_else(|| optics.map(|o| 1.029 * o.lambda_over_d()));
        let sigma = stars::background(&plane.values).map(|b| b.1);
        let ellipticities: Vec<f64> = found.iter().map(|s: &Star| s.ellipticity).collect();
        Some(Measured {
            stats,
            stars: found.len(),
            fwhm,
            fwhm_spread: quantile(&widths, 0.84).zip(quantile(&widths, 0.16)).map(|(a, b)| 0.5 * (a - b)),
            ellipticity: quantile(&ellipticities, 0.5),
            depth: sigma.zip(depth_fwhm).map(|(s, f)| stars::depth(s, f, 5.0)),
            depth_fwhm,
            strehl: quantile(&ratios, 0.5),
            strehl_stars: ratios.len(),
        })
    }
}

fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().checked_sub(1)? as f64 * q).round() as usize).copied()
}
