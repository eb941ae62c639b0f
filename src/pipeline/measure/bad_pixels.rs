//! `bad_pixels`: what is wrong with each pixel, from dark and flat ramps.
//!
//! Each ramp gives a pixel a slope (least squares through its usable reads) and the
//! residuals of its differences about their median; darks tell rate and noise, flats the response.

use rayon::prelude::*;

use super::Tiles;
use super::groups::{Member, members};
use super::ramps::{Band, Corrected};
use crate::config::BadPixels;
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::pipeline::robust::{clipped_median, median};

/// Differences between dark reads below which nothing is said about noise.
const FEWEST: usize = 20;
/// Rows in memory at a time.
const ROWS: usize = 64;
/// Pixels on a side over which the response of good pixels is taken to be even.
const EVEN: usize = 32;

/// A pixel's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Pixel {
    /// Median dark slope, DN/s; NaN where no dark read is usable.
    dark: f32,
    /// Median difference of dark reads over the time between them, DN/s: less exact,
    /// but jumps up and down have no part in it.
    steady: f32,
    /// 1.4826 × the median absolute residual of a difference of two dark reads, DN.
    noise: f32,
    /// Residuals beyond the telegraph limit, above and below; counted later.
    outliers: [u16; 2],
    /// Median over the flats of (slope − dark)/(the frame's median); NaN without.
    response: f32,
}

/// The mask, (ny, nx), and what the user should know.
pub(super) fn mask(
    set: &Corrected,
    gain: &[f32],
    typical_dark: f64,
    step: &BadPixels,
    progress: &dyn Fn(f64),
) -> Result<(Vec<u32>, Vec<String>)> {
    let (ny, nx) = set.size();
    let reference: Vec<bool> = match &set.ramps[0].pixeldq {
        Some(flags) => flags.iter().map(|f| f & dq::REFERENCE_PIXEL != 0).collect(),
        None => vec![false; ny * nx],
    };
    let live: Vec<bool> = reference.iter().map(|r| !r).collect();
    let all = members(set, &live)?;
    let (flats, darks): (Vec<Member>, Vec<Member>) =
        all.into_iter().filter(|m| m.reads >= 3).partition(|m| m.lit);
    if darks.is_empty() || flats.is_empty() {
        return Err(Error::Unsolvable(format!(
            "{} dark and {} flat ramps of 3 unsaturated reads or more: a mask needs one of each at least{}",
            darks.len(),
            flats.len(),
            if flats.is_empty() { set.why_dark() } else { String::new() }
        )));
    }
    let mut warnings = Vec::new();
    let differences: usize = darks.iter().map(|m| m.reads - 1).sum();
    if differences < FEWEST {
        warnings.push(format!(
            "the darks have {differences} differences between reads, fewer than {FEWEST}: noisy and telegraph \
             pixels are not looked for"
        ));
    }
    // A second pass counts outliers, once the noise of a typical pixel is known.
    let mut pixels = look(set, &darks, &flats, None, &|f| progress(0.5 * f))?;
    let noise_of = |which: &[bool]| {
        let values = pixels.iter().zip(which).filter(|(p, w)| **w && p.noise > 0.0);
        clipped_median(&values.map(|(p, _)| p.noise).collect::<Vec<_>>()).map_or(f64::NAN, |c| c.median)
    };
    let noise = [noise_of(&live), noise_of(&reference)];
    if differences >= FEWEST {
        let limit = Limit { sigmas: step.telegraph, noise: noise[0], gain };
        let second = look(set, &darks, &[], Some(&limit), &|f| progress(0.5 + 0.5 * f))?;
        pixels.iter_mut().zip(second).for_each(|(p, s)| p.outliers = s.outliers);
    }
    let even = even_response(&pixels, &live, (ny, nx));
    let rates: Vec<f32> = pixels.iter().zip(gain).map(|(p, g)| p.dark * g).collect();
    let good = rates.iter().zip(&live).filter(|(r, l)| **l && r.is_finite()).map(|(r, _)| *r);
    let dark = clipped_median(&good.collect::<Vec<_>>())
        .ok_or_else(|| Error::Unsolvable("the darks have no usable pixel".into()))?;
    let outlying = dark.median + 5.0 * dark.sigma;
    let telling = differences >= FEWEST;
    let out = (0..ny * nx)
        .map(|i| {
            let p = pixels[i];
            if reference[i] {
                let bad = telling && f64::from(p.noise) > step.noisy * noise[1];
                return dq::REFERENCE_PIXEL | if bad { dq::BAD_REF_PIXEL | dq::DO_NOT_USE } else { 0 };
            }
            let mut rate = f64::from(rates[i]);
            let mut flags = 0;
            if rate.is_nan() {
                // Not one dark read below saturation.
                return dq::HOT | dq::DO_NOT_USE;
            }
            let mut least = outlying;
            if telling {
                // The charge of a hot pixel has its own noise.
                let seconds = darks[0].step;
                let signal = f64::from(p.dark.max(0.0)) * seconds / f64::from(gain[i]);
                let expected = (noise[0] * noise[0] + signal).sqrt();
                let [above, below] = p.outliers;
                if f64::from(p.noise) > step.noisy * expected {
                    flags |= dq::UNRELIABLE_SLOPE;
                } else if above > 0 && below > 0 && above + below >= 3 {
                    flags |= dq::TELEGRAPH;
                }
                if flags != 0 {
                    // Its slopes wander: the median difference, and 5 σ of that.
                    let unit = f64::from(gain[i]);
                    let error = 1.2533 * f64::from(p.noise) / (differences as f64).sqrt() / seconds;
                    rate = f64::from(p.steady) * unit;
                    least = outlying.max(5.0 * error * unit);
                }
            }
            let stands_out = |factor: f64| rate > least && rate > factor * typical_dark;
            if stands_out(step.hot) {
                flags |= dq::HOT;
            } else if stands_out(step.warm) {
                flags |= dq::WARM;
            }
            if stands_out(step.unusable) {
                flags |= dq::DO_NOT_USE;
            }
            let response = f64::from(p.response) / even[i];
            if response < step.dead {
                flags |= dq::DEAD | dq::DO_NOT_USE;
            } else if response < step.low_qe {
                flags |= dq::LOW_QE;
            }
            flags
        })
        .collect();
    Ok((out, warnings))
}

/// From where on a residual of a dark is an outlier.
struct Limit<'a> {
    /// σ.
    sigmas: f64,
    /// σ of a typical pixel's difference, DN; the dark current's own noise is added.
    noise: f64,
    /// e-/DN, (ny, nx).
    gain: &'a [f32],
}

/// Every pixel's numbers, a band of rows of all ramps at a time; with `limit`,
/// outliers too.
fn look(
    set: &Corrected,
    darks: &[Member],
    flats: &[Member],
    limit: Option<&Limit<'_>>,
    progress: &dyn Fn(f64),
) -> Result<Vec<Pixel>> {
    let (ny, nx) = set.size();
    let mut out = Vec::with_capacity(ny * nx);
    for start in (0..ny).step_by(ROWS) {
        let rows = start..(start + ROWS).min(ny);
        let read = |m: &Member| set.band(m.file, rows.clone());
        let dark = darks.iter().map(read).collect::<Result<Vec<_>>>()?;
        let flat = flats.iter().map(read).collect::<Result<Vec<_>>>()?;
        let found: Vec<Pixel> = (0..rows.len() * nx)
            .into_par_iter()
            .map(|i| {
                let own = limit.map(|l| (l.sigmas, l.noise, f64::from(l.gain[start * nx + i])));
                pixel(i, (darks, &dark), (flats, &flat), own)
            })
            .collect();
        out.extend(found);
        progress(rows.end as f64 / ny as f64);
    }
    Ok(out)
}

fn pixel(
    i: usize,
    (darks, dark): (&[Member], &[Band]),
    (flats, flat): (&[Member], &[Band]),
    limit: Option<(f64, f64, f64)>,
) -> Pixel {
    let mut residuals: Vec<f32> = Vec::new();
    let (mut slopes, mut steady): (Vec<f32>, Vec<f32>) = Default::default();
    let mut outliers = [0u16; 2];
    for (m, band) in darks.iter().zip(dark) {
        let reads: Vec<f64> = usable(m, band, i);
        let Some(slope) = slope(&reads, m.step) else { continue };
        slopes.push(slope as f32);
        let differences: Vec<f32> = reads.windows(2).map(|r| (r[1] - r[0]) as f32).collect();
        steady.extend(differences.iter().map(|d| f64::from(*d) / m.step).map(|d| d as f32));
        // From the median: one jump bends the slope and makes all the others outliers.
        let centre = median(&mut differences.clone()).unwrap_or(0.0);
        let beyond =
            limit.map(|(sigmas, noise, gain)| sigmas * (noise * noise + centre.max(0.0) / gain).sqrt());
        for d in differences.iter().map(|d| f64::from(*d) - centre) {
            residuals.push(d.abs() as f32);
            if let Some(beyond) = beyond {
                outliers[0] += u16::from(d > beyond);
                outliers[1] += u16::from(d < -beyond);
            }
        }
    }
    let dark = median(&mut slopes).unwrap_or(f64::NAN);
    let noise = 1.4826 * median(&mut residuals).unwrap_or(0.0);
    let mut responses: Vec<f32> = flats
        .iter()
        .zip(flat)
        .filter_map(|(m, band)| Some((m, slope(&usable(m, band, i), m.step)?)))
        .map(|(m, slope)| ((slope - dark) * m.step / m.level) as f32)
        .filter(|r| r.is_finite())
        .collect();
    let response = median(&mut responses).unwrap_or(f64::NAN) as f32;
    let steady = median(&mut steady).unwrap_or(f64::NAN) as f32;
    Pixel { dark: dark as f32, steady, noise: noise as f32, outliers, response }
}

fn usable(m: &Member, band: &Band, i: usize) -> Vec<f64> {
    // Reference pixels are flagged in PIXELDQ only, so their reads count here.
    (0..band.usable(i, m.first, m.reads)).map(|k| f64::from(band.read(m.first + k)[i])).collect()
}

/// Least-squares slope of reads `step` seconds apart; `None` of fewer than two.
fn slope(reads: &[f64], step: f64) -> Option<f64> {
    let n = reads.len() as f64;
    if reads.len() < 2 {
        return None;
    }
    let centre = (n - 1.0) / 2.0;
    // From the first read, so that a pedestal costs no digits.
    let sum: f64 = reads.iter().enumerate().map(|(k, v)| (k as f64 - centre) * (v - reads[0])).sum();
    Some(12.0 * sum / (n * (n * n - 1.0)) / step)
}

/// The median response of the tile that each pixel lies in; 1 where it has none.
fn even_response(pixels: &[Pixel], live: &[bool], (ny, nx): (usize, usize)) -> Vec<f64> {
    let tiles = Tiles::new((ny, nx), ny.div_ceil(EVEN), nx.div_ceil(EVEN));
    let level = |t: usize| {
        let (rows, columns) = (tiles.rows(t / tiles.across), tiles.columns(t % tiles.across));
        let at = rows.flat_map(|y| columns.clone().map(move |x| y * nx + x));
        let mut values: Vec<f32> =
            at.filter(|i| live[*i]).map(|i| pixels[i].response).filter(|r| r.is_finite()).collect();
        median(&mut values).filter(|m| *m > 0.0).unwrap_or(1.0)
    };
    let levels: Vec<f64> = (0..tiles.count()).map(level).collect();
    tiles.plane(|t| levels[t] as f32).into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_least_squares() {
        assert_eq!(slope(&[30_000.0, 30_006.0, 30_012.0], 2.0), Some(3.0));
        // Σ (k − 1.5) y / Σ (k − 1.5)² = (−1.5·0 − 0.5·1 + 0.5·1 + 1.5·4)/5
        assert!((slope(&[0.0, 1.0, 1.0, 4.0], 1.0).expect("slope") - 1.2).abs() < 1e-12);
        assert_eq!(slope(&[1.0], 1.0), None);
    }
}
