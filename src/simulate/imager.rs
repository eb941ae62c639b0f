//! What the imager sees: sky, stars, a galaxy; rates in e-/s a pixel.

use serde::{Deserialize, Serialize};

use super::philox::{Purpose, Source};
use super::random::{SIGMA, gauss_pixel};
use super::wcs::Wcs;
use crate::error::{Error, Result};

/// The imager's sky and sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagerScene {
    /// Sky, e-/s a pixel where the flat is 1 (30).
    pub sky: f64,
    /// Flat lamp, e-/s a pixel where the flat is 1 (1500).
    pub lamp: f64,
    /// Stars in the field of each detector (60).
    pub stars: usize,
    /// Faintest and brightest star, e-/s, spread evenly in the logarithm ([100, 60000]).
    pub star_flux: [f64; 2],
    /// FWHM of the stars' Gaussian core, pixels (3.0).
    pub fwhm: f64,
    /// Fraction of the light in a halo four times as wide (0.1).
    pub halo: f64,
    /// Galaxies: exponential discs (one).
    pub galaxies: Vec<Galaxy>,
}

/// An exponential disc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Galaxy {
    /// Arcsec east and north of the centre of IMG1 at the night's pointing ([0.3, -0.2]).
    pub offset: [f64; 2],
    /// Total rate, e-/s (40000).
    pub flux: f64,
    /// Scale length along the major axis, arcsec (0.12).
    pub radius: f64,
    /// Minor over major axis (0.5).
    pub ratio: f64,
    /// Position angle of the major axis, degrees east of north (60).
    pub pa: f64,
}

impl Default for Galaxy {
    fn default() -> Self {
        Galaxy { offset: [0.3, -0.2], flux: 40_000.0, radius: 0.12, ratio: 0.5, pa: 60.0 }
    }
}

impl Default for ImagerScene {
    fn default() -> Self {
        ImagerScene {
            sky: 30.0,
            lamp: 1500.0,
            stars: 60,
            star_flux: [100.0, 60_000.0],
            fwhm: 3.0,
            halo: 0.1,
            galaxies: vec![Galaxy::default()],
        }
    }
}

/// A star as it falls on a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Star {
    /// Right ascension, degrees.
    pub ra: f64,
    /// Declination, degrees.
    pub dec: f64,
    /// Rate, e-/s.
    pub flux: f64,
}

impl ImagerScene {
    pub(super) fn check(&self) -> Result<()> {
        let [faint, bright] = self.star_flux;
        let numbers = [self.sky, self.lamp, self.halo, faint, bright, self.fwhm];
        if numbers.iter().any(|v| !v.is_finite() || *v < 0.0)
            || self.fwhm < 0.1
            || faint <= 0.0
            || self.halo > 1.0
        {
            return Err(Error::Config(
                "imager: sky, lamp, star_flux must not be negative, fwhm at least 0.1, halo at most 1".into(),
            ));
        }
        for g in &self.galaxies {
            let numbers = [g.offset[0], g.offset[1], g.flux, g.radius, g.ratio, g.pa];
            if numbers.iter().any(|v| !v.is_finite()) || g.radius <= 0.0 || g.ratio <= 0.0 || g.flux < 0.0 {
                return Err(Error::Config("imager: a galaxy's radius and ratio must be positive".into()));
            }
        }
        Ok(())
    }

    /// The stars around a detector (number `which`), the same for every exposure:
    /// `nominal` is the detector at the night's own pointing.
    pub fn stars(&self, nominal: &Wcs, size: [usize; 2], seed: u64, which: usize) -> Vec<Star> {
        let mut s = Source::new(seed, Purpose::Stars, which).stream(0, 0);
        let [faint, bright] = self.star_flux;
        (0..self.stars)
            .map(|_| {
                let x = (1.1 * s.uniform() - 0.05) * size[0] as f64;
                let y = (1.1 * s.uniform() - 0.05) * size[1] as f64;
                let [ra, dec] = nominal.sky(x, y);
                Star { ra, dec, flux: faint * (bright / faint).powf(s.uniform()) }
            })
            .collect()
    }

    /// (ny, nx) rate of the sources, e-/s a pixel where the flat is 1.
    pub fn sources(
        &self,
        wcs: &Wcs,
        nominal: &Wcs,
        stars: &[Star],
        size: [usize; 2],
        first: bool,
    ) -> Vec<f32> {
        let mut out = vec![0f32; size[0] * size[1]];
        for star in stars {
            if let Some(at) = wcs.pixel(star.ra, star.dec) {
                let sigma = SIGMA * self.fwhm;
                add_gaussian(&mut out, size, at, sigma, star.flux * (1.0 - self.halo));
                add_gaussian(&mut out, size, at, 4.0 * sigma, star.flux * self.halo);
            }
        }
        if first {
            let centre = [(size[0] as f64 - 1.0) / 2.0, (size[1] as f64 - 1.0) / 2.0];
            for g in &self.galaxies {
                let [ra0, dec0] = nominal.sky(centre[0], centre[1]);
                let local = Wcs { ra: ra0, dec: dec0, pa: 0.0, scale: 1.0, parity: 1.0, reference: [0.0; 2] };
                let [ra, dec] = local.sky(g.offset[0], g.offset[1]);
                if let Some(at) = wcs.pixel(ra, dec) {
                    add_disc(&mut out, size, at, g, wcs);
                }
            }
        }
        out
    }
}

/// Pixels from `centre − reach` to `centre + reach` that are on a side of `length`.
fn window(centre: f64, reach: f64, length: usize) -> std::ops::Range<usize> {
    let from = (centre - reach).floor().max(0.0) as usize;
    let to = (centre + reach).ceil().max(-1.0) + 1.0;
    from..(to as usize).min(length).max(from.min(length))
}

fn add_gaussian(out: &mut [f32], size: [usize; 2], at: [f64; 2], sigma: f64, flux: f64) {
    let (xs, ys) = (window(at[0], 6.0 * sigma, size[0]), window(at[1], 6.0 * sigma, size[1]));
    let across: Vec<f64> = xs.clone().map(|x| gauss_pixel(x as f64, at[0], sigma)).collect();
    for y in ys {
        let down = flux * gauss_pixel(y as f64, at[1], sigma);
        for (x, a) in xs.clone().zip(&across) {
            out[y * size[0] + x] += (down * a) as f32;
        }
    }
}

fn add_disc(out: &mut [f32], size: [usize; 2], at: [f64; 2], g: &Galaxy, wcs: &Wcs) {
    let radius = g.radius / wcs.scale;
    let reach = 12.0 * radius;
    let peak = g.flux / (std::f64::consts::TAU * radius * radius * g.ratio);
    let (sin, cos) = g.pa.to_radians().sin_cos();
    let cd = wcs.cd();
    for y in window(at[1], reach, size[1]) {
        for x in window(at[0], reach, size[0]) {
            let (dx, dy) = (x as f64 - at[0], y as f64 - at[1]);
            let s = wcs.scale / 3600.0;
            let (east, north) = ((cd[0] * dx + cd[1] * dy) / s, (cd[2] * dx + cd[3] * dy) / s);
            let (major, minor) = (east * sin + north * cos, (east * cos - north * sin) / g.ratio);
            out[y * size[0] + x] += (peak * (-major.hypot(minor) / radius).exp()) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_is_conserved_and_lands_where_the_sky_says() {
        let scene =
            ImagerScene { stars: 1, star_flux: [500.0, 500.0], galaxies: vec![], ..Default::default() };
        let size = [128, 96];
        let wcs = Wcs::detector([10.0, 5.0, 40.0], 0.004, -1.0, size, [0.0, 0.0]);
        let [ra, dec] = wcs.sky(40.25, 50.0);
        let star = Star { ra, dec, flux: 500.0 };
        let image = scene.sources(&wcs, &wcs, &[star], size, true);
        let total: f64 = image.iter().map(|v| f64::from(*v)).sum();
        let x: f64 =
            image.iter().enumerate().map(|(i, v)| f64::from(*v) * (i % 128) as f64).sum::<f64>() / total;
        assert!((total - 500.0).abs() < 0.1 && (x - 40.25).abs() < 0.01, "{total} {x}");
        // Far off the frame is no trouble.
        let far = Star { ra: ra + 1.0, dec: -80.0, flux: 1.0 };
        assert!(scene.sources(&wcs, &wcs, &[far], size, false).iter().all(|v| *v == 0.0));
    }
}
