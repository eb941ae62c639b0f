//! The numbers of one image: statistics, stars, depth, Strehl ratio.

use serde::Serialize;

use super::stars::{self, Field, Optics, Star};
use super::{Plane, Stats};

/// What was measured in an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Of the whole image, or of the region.
    pub stats: Stats,
    /// Stars that gave the width; none where none were looked for.
    pub stars: Option<usize>,
    /// Median FWHM of the stars, pixels.
    pub fwhm: Option<f64>,
    /// Half the spread from the 16th to the 84th percentile of their FWHM; none of one star.
    pub fwhm_spread: Option<f64>,
    /// Median of 1 − minor/major axis.
    pub ellipticity: Option<f64>,
    /// Flux of a star at 5 σ, with the FWHM of the stars, else of the diffraction limit.
    pub depth: Option<f64>,
    /// FWHM that the depth is for, pixels.
    pub depth_fwhm: Option<f64>,
    /// Median Strehl ratio of the stars that allow one; none above 1.
    pub strehl: Option<f64>,
    /// That median where it is above 1, which no Strehl ratio is.
    pub strehl_above_1: Option<f64>,
    /// How many stars did.
    pub strehl_stars: usize,
}

impl Measured {
    /// Of a plane that no stars stand in; `None` without a value.
    pub fn without_stars(plane: &Plane) -> Option<Measured> {
        Stats::of(&plane.values).map(Measured::from)
    }

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
        // Sources and what varies slowly add to the one, sharp sources to the other.
        let spread = stars::background(&plane.values).map(|b| b.1);
        let sigma = spread.zip(stars::noise(&plane.values)).map(|(a, b)| a.min(b));
        let ellipticities: Vec<f64> = found.iter().map(|s: &Star| s.ellipticity).collect();
        let strehl = quantile(&ratios, 0.5);
        Some(Measured {
            stars: Some(found.len()),
            fwhm,
            fwhm_spread: quantile(&widths, 0.84)
                .zip(quantile(&widths, 0.16))
                .filter(|_| widths.len() > 1)
                .map(|(a, b)| 0.5 * (a - b)),
            ellipticity: quantile(&ellipticities, 0.5),
            depth: sigma.zip(depth_fwhm).map(|(s, f)| stars::depth(s, f, 5.0)),
            depth_fwhm,
            strehl: strehl.filter(|s| *s <= 1.0),
            strehl_above_1: strehl.filter(|s| *s > 1.0),
            strehl_stars: ratios.len(),
            ..Measured::from(stats)
        })
    }
}

impl From<Stats> for Measured {
    fn from(stats: Stats) -> Measured {
        Measured {
            stats,
            stars: None,
            fwhm: None,
            fwhm_spread: None,
            ellipticity: None,
            depth: None,
            depth_fwhm: None,
            strehl: None,
            strehl_above_1: None,
            strehl_stars: 0,
        }
    }
}

fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().checked_sub(1)? as f64 * q).round() as usize).copied()
}
