//! `photon_transfer`: gain and read noise of a detector, tile by tile, from flat
//! ramps and (for the read noise) dark ramps.
//!
//! In each group of ramps that were read and lit alike, every pixel's differences
//! between reads are brought to the group's mean level, and the mean over the ramps
//! (the flat's pattern) and over each line and channel of the tile (the lamp's flicker,
//! drifts of the readout) are taken off. What is left is noise, whose spectrum [`transfer`](super::transfer) fits.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::Tiles;
use super::groups::{Group, Member, groups, members};
use super::ramps::{Band, Corrected};
use super::stretch::{Polynomials, Stretch};
use super::transfer::{Capacitance, Powers, Spectrum, Transfer, eigenvalues, fit};
use crate::config::PhotonTransfer;
use crate::error::{Error, Result};
use crate::pipeline::robust::median;

/// Pixels in a tile below which nothing is said about it.
const FEWEST: usize = 30;

/// The measurement of a frame.
pub(super) struct Measured {
    pub(super) tiles: Tiles,
    /// Of each tile.
    pub(super) transfer: Vec<Option<Transfer>>,
    /// `None` where it was not asked for.
    pub(super) capacitance: Option<Capacitance>,
    /// Ramps used: lit, dark.
    pub(super) used: [usize; 2],
    /// As sentences.
    pub(super) warnings: Vec<String>,
}

/// A tile's noise in one group.
#[derive(Default)]
struct Noise {
    spectrum: Spectrum,
    /// Σ e(x) e(x + 1), Σ e(y) e(y + 1).
    products: [f64; 2],
    /// Degrees of freedom of each.
    pairs: [f64; 2],
}

/// Measures the set in tiles. `stretch` is what linearity did to the noise.
pub(super) fn measure(
    set: &Corrected,
    tiles: Tiles,
    step: &PhotonTransfer,
    (stretch, drifts): (Option<&Stretch>, Drifts),
    progress: &dyn Fn(f64),
) -> Result<Measured> {
    let good = set.good();
    let (groups, warnings) = groups(&members(set, &good)?, set);
    let used = [true, false].map(|lit| groups.iter().filter(|g| g[0].lit == lit).map(Vec::len).sum());
    if used[0] == 0 {
        let reasons: String = warnings.iter().map(|w| format!("; {w}")).collect();
        return Err(Error::Unsolvable(format!(
            "no two ramps show the same light, so there is no gain to measure: give two flat ramps or more of \
             one level and one read time{reasons}{}",
            set.why_dark()
        )));
    }
    let mut spectra: Vec<Vec<Noise>> = Vec::new();
    for j in 0..tiles.down {
        let n = tiles.rows(j).len() * tiles.nx;
        let polynomials = stretch.map(|s| s.rows(tiles.rows(j), n)).transpose()?;
        let mut row: Vec<Vec<Noise>> = (0..tiles.across).map(|_| Vec::new()).collect();
        for group in &groups {
            let bands = group.iter().map(|m| set.band(m.file, tiles.rows(j))).collect::<Result<Vec<_>>>()?;
            let first_row = tiles.rows(j).start;
            let part = Part { group, bands: &bands, good: &good[first_row * tiles.nx..], first_row, drifts };
            let noise: Vec<Noise> = (0..tiles.across)
                .into_par_iter()
                .map(|i| noise(&part, polynomials.as_ref(), tiles, i, step))
                .collect();
            row.iter_mut().zip(noise).for_each(|(t, n)| t.push(n));
        }
        spectra.extend(row);
        progress((j + 1) as f64 / tiles.down as f64);
    }
    let transfer: Vec<Option<Transfer>> = spectra
        .iter()
        .map(|tile| fit(&tile.iter().map(|n| n.spectrum.clone()).collect::<Vec<_>>()))
        .map(|t| t.filter(|t| t.inverse_gain > 0.0))
        .collect();
    let capacitance = step.ipc.then(|| capacitance(&spectra, &transfer, &groups));
    Ok(Measured { tiles, transfer, capacitance, used, warnings })
}

/// The photons' correlation with the neighbours, over the whole frame: the products
/// of neighbouring residuals over the photons' own variance.
fn capacitance(spectra: &[Vec<Noise>], transfer: &[Option<Transfer>], groups: &[Group]) -> Capacitance {
    let (mut sums, mut photons, mut variance) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    for (tile, t) in spectra.iter().zip(transfer) {
        let Some(t) = t else { continue };
        for (noise, _) in tile.iter().zip(groups).filter(|(_, g)| g[0].lit) {
            let modes = noise.spectrum.power.len() as f64;
            let mean = noise.spectrum.power.iter().sum::<f64>() / modes.max(1.0);
            for axis in 0..2 {
                sums[axis] += noise.products[axis];
                photons[axis] += noise.pairs[axis] * noise.spectrum.photons * t.inverse_gain;
                variance[axis] += noise.pairs[axis] * mean * mean;
            }
        }
    }
    let part = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    Capacitance::of(
        [0, 1].map(|i| part(sums[i], photons[i])),
        [0, 1].map(|i| part(variance[i].sqrt(), photons[i])),
    )
}

/// A group's reads of a row of tiles.
struct Part<'a> {
    group: &'a Group,
    bands: &'a [Band],
    good: &'a [bool],
    first_row: usize,
    drifts: Drifts,
}

/// Which pixels drift together. Neighbours share neither a line's class nor a channel's,
/// so that taking off the means of classes does not correlate them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drifts {
    /// Pixels across a readout channel.
    pub(super) channel: usize,
    /// Channels are blocks of rows, and lines columns.
    pub(super) along_y: bool,
}

impl Drifts {
    /// Where a pixel lies across the channels and along them.
    fn turned(self, x: usize, y: usize) -> (usize, usize) {
        if self.along_y { (y, x) } else { (x, y) }
    }

    /// Even and odd places of each line.
    fn line(self, x: usize, y: usize) -> usize {
        let (across, along) = self.turned(x, y);
        across % 2 + 2 * along
    }

    /// Even and odd rows and columns of each channel.
    fn channel(self, x: usize, y: usize) -> usize {
        let (across, along) = self.turned(x, y);
        across % 2 + 2 * (along % 2) + PARITIES * (across / self.channel.max(1))
    }
}

/// Tile `i` of a row of tiles: its noise in a group.
fn noise(
    part: &Part<'_>,
    polynomials: Option<&Polynomials>,
    tiles: Tiles,
    i: usize,
    step: &PhotonTransfer,
) -> Noise {
    let Part { group, bands, good, first_row, drifts } = *part;
    let (reads, columns) = (group[0].reads, tiles.columns(i));
    let pixels: Vec<usize> = (0..bands[0].pixels)
        .filter(|p| columns.contains(&(p % tiles.nx)) && good[*p])
        .filter(|p| group.iter().zip(bands).all(|(m, b)| b.usable(*p, m.first, reads) == reads))
        .collect();
    if pixels.len() < FEWEST {
        return Noise::default();
    }
    let (count, steps) = (group.len(), reads - 1);
    let difference = |r: usize, k: usize, p: usize| {
        let (b, first) = (&bands[r], group[r].first);
        f64::from(b.read(first + k + 1)[p]) - f64::from(b.read(first + k)[p])
    };
    let levels: Vec<f64> = (0..count)
        .map(|r| {
            let sum: f64 = pixels.iter().map(|p| (0..steps).map(|k| difference(r, k, *p)).sum::<f64>()).sum();
            sum / (pixels.len() * steps) as f64
        })
        .collect();
    let mean = levels.iter().sum::<f64>() / count as f64;
    let scale: Vec<f64> = levels.iter().map(|s| if group[0].lit { mean / s } else { 1.0 }).collect();
    // Residuals [pixel][ramp][interval].
    let mut all: Vec<Vec<f32>> = pixels
        .iter()
        .map(|p| {
            let mut e: Vec<f64> = (0..count * steps)
                .map(|at| difference(at / steps, at % steps, *p) * scale[at / steps])
                .collect();
            for k in 0..steps {
                let m = (0..count).map(|r| e[r * steps + k]).sum::<f64>() / count as f64;
                (0..count).for_each(|r| e[r * steps + k] -= m);
            }
            e.into_iter().map(|v| v as f32).collect()
        })
        .collect();
    let kept = without_hits(&all, count * steps, step.rejection_threshold);
    let n = kept.iter().filter(|k| **k).count();
    if n < FEWEST {
        return Noise::default();
    }
    // What a line or a channel of the tile has in common goes: drifts, and the noise of
    // what corrects them.
    let classes = |of: fn(Drifts, usize, usize) -> usize| -> Vec<usize> {
        pixels.iter().map(|p| of(drifts, p % tiles.nx, first_row + p / tiles.nx)).collect()
    };
    let sets: Vec<Vec<usize>> = [classes(Drifts::line), classes(Drifts::channel)]
        .into_iter()
        .filter(|classes| n >= CLASS * distinct(classes, &kept))
        .collect();
    sets.iter().for_each(|classes| without_means(&mut all, classes, &kept));
    let means: usize = sets.iter().map(|classes| distinct(classes, &kept)).sum();
    // The means of even and odd rows and columns are in both.
    let taken = means - PARITIES * sets.len().saturating_sub(1);
    let freedom = (count - 1) as f64 * (n - taken) as f64;
    let (products, pairs) = neighbours(&pixels, &all, &kept, &sets, tiles.nx);
    let pairs = pairs.map(|n| n * (count - 1) as f64 * steps as f64);
    let mut powers = Powers::new(reads);
    all.iter().zip(&kept).filter(|(_, k)| **k).for_each(|(e, _)| powers.add(e));
    let (power, covariance) = powers.mean(count, freedom, pixels.len());
    let inverse = |power: i32| levels.iter().map(|s| s.powi(-power)).sum::<f64>() / count as f64;
    // A dark's own light is that of most pixels: hits and what hot pixels leak into their
    // neighbours would raise the mean, and each part of it counts threefold for σ².
    let mut own: Vec<f32> = pixels
        .iter()
        .zip(&kept)
        .filter(|(_, k)| **k)
        .map(|(p, _)| {
            let ends = |(m, b): (&Member, &Band)| b.read(m.first + steps)[*p] - b.read(m.first)[*p];
            group.iter().zip(bands).map(ends).sum::<f32>() / (count * steps) as f32
        })
        .collect();
    let (photons, scaled) = match group[0].lit {
        true => (mean * mean * inverse(1), mean * mean * inverse(2)),
        false => (median(&mut own).unwrap_or(0.0).max(0.0), 1.0),
    };
    let level = |k: usize| {
        let of =
            |(m, b): (&Member, &Band)| pixels.iter().map(|p| f64::from(b.read(m.first + k)[*p])).sum::<f64>();
        group.iter().zip(bands).map(of).sum::<f64>() / (count * pixels.len()) as f64
    };
    let factors = match polynomials {
        Some(p) => p.factors(&pixels, &(0..reads).map(level).collect::<Vec<_>>()),
        None => vec![1.0; reads],
    };
    let reads = eigenvalues(&factors).into_iter().map(|l| scaled * l).collect();
    Noise { spectrum: Spectrum { power, freedom, covariance, photons, reads }, products, pairs }
}

/// Pixels of a class at least, on the mean, for the means of classes to be taken off.
const CLASS: usize = 6;
/// Even and odd rows and columns.
const PARITIES: usize = 4;

/// Pixels in which no residual stands out of the tile's by more than `threshold` σ.
fn without_hits(all: &[Vec<f32>], intervals: usize, threshold: f64) -> Vec<bool> {
    let mut kept = vec![true; all.len()];
    for k in 0..intervals {
        let mut values: Vec<f32> = all.iter().map(|e| e[k]).collect();
        let centre = median(&mut values).unwrap_or(0.0);
        values.iter_mut().for_each(|v| *v = (f64::from(*v) - centre).abs() as f32);
        let sigma = 1.4826 * median(&mut values).unwrap_or(0.0);
        for (keep, e) in kept.iter_mut().zip(all.iter()) {
            *keep &= (f64::from(e[k]) - centre).abs() <= threshold * sigma;
        }
    }
    kept
}

/// Classes with a pixel that is kept.
fn distinct(classes: &[usize], kept: &[bool]) -> usize {
    classes.iter().zip(kept).filter(|(_, k)| **k).map(|(c, _)| c).collect::<BTreeSet<_>>().len()
}

/// Takes the mean of each class off every interval of every ramp.
fn without_means(all: &mut [Vec<f32>], classes: &[usize], kept: &[bool]) {
    let intervals = all.first().map_or(0, Vec::len);
    let mut sums = vec![(0.0f64, 0.0f64); classes.iter().max().map_or(0, |c| c + 1)];
    for k in 0..intervals {
        sums.fill((0.0, 0.0));
        for ((e, class), _) in all.iter().zip(classes).zip(kept).filter(|(_, k)| **k) {
            sums[*class] = (sums[*class].0 + f64::from(e[k]), sums[*class].1 + 1.0);
        }
        all.iter_mut().zip(classes).for_each(|(e, class)| {
            let (sum, n) = sums[*class];
            e[k] -= (sum / n.max(1.0)) as f32;
        });
    }
}

/// Sums of the products of neighbouring residuals along x and y, and the number of
/// neighbours that would show as much had no means been taken off. `pixels` are in the
/// order of rows; neighbours share no class of `sets`.
///
/// Taking the means of classes A and B off two neighbours i in A and j in B takes from
/// their covariance the parts 1/n_B of i's with every neighbour in B, and so on:
/// Cov' = Cov (1 − N_B(i)/n_B − N_A(j)/n_A + P/(n_A n_B)) with N neighbours along the
/// axis and P such pairs in all. Of several sets the parts add, to first order.
fn neighbours(
    pixels: &[usize],
    all: &[Vec<f32>],
    kept: &[bool],
    sets: &[Vec<usize>],
    nx: usize,
) -> ([f64; 2], [f64; 2]) {
    let (mut sums, mut pairs) = ([0.0; 2], [0.0; 2]);
    for axis in 0..2 {
        let mut found = Vec::new();
        for (i, p) in pixels.iter().enumerate().filter(|(i, _)| kept[*i]) {
            let next = if axis == 0 { p + 1 } else { p + nx };
            let Ok(j) = pixels.binary_search(&next) else { continue };
            if !kept[j] || (axis == 0 && next % nx == 0) {
                continue;
            }
            let product: f32 = all[i].iter().zip(&all[j]).map(|(a, b)| a * b).sum();
            sums[axis] += f64::from(product);
            found.push((i, j));
        }
        let lost: f64 = sets.iter().map(|classes| lost(&found, classes, kept)).sum();
        pairs[axis] = (found.len() as f64 - lost).max(0.0);
    }
    (sums, pairs)
}

/// Neighbours' worth of covariance that taking off the means of `classes` cost.
fn lost(found: &[(usize, usize)], classes: &[usize], kept: &[bool]) -> f64 {
    let mut sizes = BTreeMap::new();
    classes.iter().zip(kept).filter(|(_, k)| **k).for_each(|(c, _)| *sizes.entry(*c).or_insert(0.0) += 1.0);
    // Neighbours of a pixel in a class, and pairs of two classes.
    let (mut near, mut between) = (BTreeMap::new(), BTreeMap::new());
    for (i, j) in found {
        let (a, b) = (classes[*i], classes[*j]);
        *near.entry((*i, b)).or_insert(0.0) += 1.0;
        *near.entry((*j, a)).or_insert(0.0) += 1.0;
        *between.entry((a.min(b), a.max(b))).or_insert(0.0) += 1.0;
    }
    let squares: f64 = near.iter().map(|((_, class), n): (_, &f64)| n * n / sizes[class]).sum();
    let common: f64 = between.iter().map(|((a, b), p): (_, &f64)| p * p / (sizes[a] * sizes[b])).sum();
    squares - common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::normal::Normal;

    #[test]
    fn what_lines_have_in_common_costs_no_covariance() {
        // Capacitance along x and y between white pixels, with offsets of rows on top.
        let (nx, ny, frames, a) = (32usize, 24, 3000, 0.05f64);
        let mut random = Normal(8);
        let pixels: Vec<usize> = (0..nx * ny).collect();
        let mut all = vec![vec![0f32; frames]; nx * ny];
        for k in 0..frames {
            let white: Vec<f64> = (0..nx * ny).map(|_| random.next()).collect();
            let rows: Vec<f64> = (0..ny).map(|_| 0.5 * random.next()).collect();
            for p in 0..nx * ny {
                let (x, y) = (p % nx, p / nx);
                let near = |q: usize, there: bool| if there { white[q.min(nx * ny - 1)] } else { 0.0 };
                let sum = near(p.wrapping_sub(1), x > 0)
                    + near(p + 1, x + 1 < nx)
                    + near(p.wrapping_sub(nx), y > 0)
                    + near(p + nx, y + 1 < ny);
                all[p][k] = ((1.0 - 4.0 * a) * white[p] + a * sum + rows[y]) as f32;
            }
        }
        let kept: Vec<bool> = pixels.iter().map(|p| p % 97 != 5).collect();
        let lines: Vec<usize> = pixels.iter().map(|p| p % nx % 2 + 2 * (p / nx)).collect();
        let parity: Vec<usize> = pixels.iter().map(|p| p % nx % 2 + 2 * (p / nx % 2)).collect();
        let sets = [lines, parity];
        sets.iter().for_each(|classes| without_means(&mut all, classes, &kept));
        let (sums, pairs) = neighbours(&pixels, &all, &kept, &sets, nx);
        let expected = 2.0 * a * (1.0 - 4.0 * a);
        for axis in 0..2 {
            let found = sums[axis] / (pairs[axis] * frames as f64);
            // 1 σ: 1/√(2.2e6).
            assert!((found / expected - 1.0).abs() < 0.04, "{axis}: {found} {expected}");
        }
    }
}
