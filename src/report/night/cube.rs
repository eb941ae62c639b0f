//! A cube in a page: its spectra, coarser and in 8 bits, and maps of its brightest lines.

use serde::{Deserialize, Serialize};

use super::look::{base64, thumbnail};
use crate::datamodel::Cube;
use crate::pipeline::robust::clipped_median;
use crate::quicklook::Plane;
use crate::quicklook::show::{self, Collapse};

/// Most spaxels along an axis, and most channels, that a page holds of a cube: 32 × 32 × 160
/// bytes are 225 kB of text.
const SPAXELS: usize = 32;
const CHANNELS: usize = 160;
/// Most line maps.
const LINES: usize = 3;

/// What a page shows of a cube.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CubeView {
    /// Spaxels along x, y and channels, after averaging.
    pub size: [usize; 3],
    /// First and last wavelength, µm.
    pub wavelength: [f64; 2],
    /// Unit of the values.
    pub unit: String,
    /// Value of 1 and of 255 of each spaxel (y, x).
    pub ranges: Vec<[f32; 2]>,
    /// Base64 of a byte a voxel (y, x, channel); 0 is no value.
    pub spectra: String,
    /// Maps of lines: wavelength (µm) and picture.
    pub lines: Vec<(f64, String)>,
}

/// σ of a voxel, and over what ERR says: of differences between neighbouring spaxels less
/// the same two channels on, so that neither sources' continua nor lines of the sky that all
/// spaxels have count, and channels are compared that share no column of the detector. Only
/// between the sky's lines, in the half of the channels whose ERR is least: in a line, what
/// is left of it is more than noise. `None` of a cube with fewer than 100 such differences.
pub(super) fn noise(cube: &Cube) -> Option<(f64, f64)> {
    let (nx, spaxels) = (cube.nx, cube.nx * cube.ny);
    if nx < 2 || cube.data.len() != cube.err.len() || cube.data.len() != spaxels * cube.nw {
        return None;
    }
    let errors = |k: usize| cube.err[k * spaxels..][..spaxels].iter().copied().filter(|e| *e > 0.0);
    let levels: Vec<f32> = (0..cube.nw).map(|k| Collapse::Median.of(errors(k))).collect();
    let middle = Collapse::Median.of(levels.iter().copied());
    let quiet = |k: usize| levels[k] <= middle;
    let mut over = Vec::new();
    for k in (0..cube.nw.saturating_sub(2)).filter(|k| quiet(*k) && quiet(k + 2)) {
        for s in (0..spaxels).filter(|s| (s + 1) % nx != 0) {
            let voxels = [(k, s, 1.0), (k, s + 1, -1.0), (k + 2, s, -1.0), (k + 2, s + 1, 1.0)];
            let voxels =
                voxels.map(|(k, s, sign)| (sign * cube.data[k * spaxels + s], cube.err[k * spaxels + s]));
            let (sum, variance) = voxels.iter().fold((0.0, 0.0), |(a, v), (d, e)| (a + d, v + e * e));
            if sum.is_finite() && voxels.iter().all(|(_, e)| *e > 0.0) {
                over.push(sum / variance.sqrt());
            }
        }
    }
    let ratio = clipped_median(&over).filter(|_| over.len() >= 100)?.sigma;
    Some((ratio * f64::from(Collapse::Median.of((0..cube.nw).filter(|k| quiet(*k)).flat_map(errors))), ratio))
}

/// Makes the view of a cube.
pub(super) fn view(cube: &Cube, unit: &str) -> CubeView {
    let by = |n: usize, most: usize| n.div_ceil(most).max(1);
    let f = by(cube.nx.max(cube.ny), SPAXELS);
    let g = by(cube.nw, CHANNELS);
    let (nx, ny, nw) = (cube.nx.div_ceil(f), cube.ny.div_ceil(f), cube.nw.div_ceil(g));
    let mut ranges = Vec::with_capacity(nx * ny);
    let mut bytes = Vec::with_capacity(nx * ny * nw);
    for s in 0..nx * ny {
        let (x, y) = (s % nx * f, s / nx * f);
        let mean = |w: usize| {
            let (mut sum, mut n) = (0f64, 0u32);
            for k in w * g..((w + 1) * g).min(cube.nw) {
                for j in y..(y + f).min(cube.ny) {
                    let row = &cube.data[(k * cube.ny + j) * cube.nx..][..cube.nx];
                    for v in row[x..(x + f).min(cube.nx)].iter().filter(|v| v.is_finite()) {
                        sum += f64::from(*v);
                        n += 1;
                    }
                }
            }
            if n == 0 { f32::NAN } else { (sum / f64::from(n)) as f32 }
        };
        let spectrum: Vec<f32> = (0..nw).map(mean).collect();
        let finite = spectrum.iter().filter(|v| v.is_finite());
        let (low, high) = finite.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        ranges.push([low, high]);
        let step = ((high - low) / 254.0).max(f32::MIN_POSITIVE);
        bytes.extend(
            spectrum.iter().map(|v| if v.is_finite() { 1 + ((v - low) / step).round() as u8 } else { 0 }),
        );
    }
    let ends = [cube.wavelength.first(), cube.wavelength.last()].map(|w| w.copied().unwrap_or(0.0));
    CubeView {
        size: [nx, ny, nw],
        wavelength: ends,
        unit: unit.to_owned(),
        ranges,
        spectra: base64(&bytes),
        lines: lines(cube),
    }
}

/// The brightest emission lines of the whole field: channels whose mean over all spaxels
/// stands 6 σ above the median of the 41 around them, one for each peak; each map is the
/// sum of 5 channels less the mean of 8 on both sides.
fn lines(cube: &Cube) -> Vec<(f64, String)> {
    let spectrum = show::spectrum(cube, Collapse::Mean, 0.0, 0.0, f64::MAX);
    let nw = spectrum.len();
    if nw < 24 || cube.wavelength.len() != nw {
        return Vec::new();
    }
    let over: Vec<f32> = (0..nw)
        .map(|k| {
            spectrum[k]
                - Collapse::Median.of(spectrum[k.saturating_sub(20)..(k + 21).min(nw)].iter().copied())
        })
        .collect();
    let sizes = over.iter().map(|v| v.abs());
    let sigma = 1.4826 * Collapse::Median.of(sizes);
    let mut peaks: Vec<usize> = (7..nw - 7)
        .filter(|k| over[*k] > 6.0 * sigma && (k - 3..=k + 3).all(|j| !(over[j] > over[*k])))
        .collect();
    peaks.sort_by(|a, b| over[*b].total_cmp(&over[*a]));
    peaks.truncate(LINES);
    peaks.sort_unstable();
    peaks.into_iter().map(|k| (cube.wavelength[k], thumbnail(&line_map(cube, k)))).collect()
}

fn line_map(cube: &Cube, k: usize) -> Plane {
    let mut map = show::collapsed(cube, Collapse::Sum, k - 2..=k + 2);
    let below = show::collapsed(cube, Collapse::Mean, k.saturating_sub(7)..=k - 4);
    let above = show::collapsed(cube, Collapse::Mean, k + 4..=k + 7);
    for ((v, a), b) in map.values.iter_mut().zip(&below.values).zip(&above.values) {
        *v -= 2.5 * (a + b);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_that_of_voxels_whatever_the_sources_and_the_lines() {
        let (nx, ny, nw) = (12, 12, 80);
        let mut seed = 7u64;
        let mut even = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 24) as f32
        };
        // Lines of the sky, wrong by more than noise in every tenth channel, where ERR is large.
        let line = |k: usize| k.is_multiple_of(10);
        let (mut data, mut err) = (Vec::new(), Vec::new());
        for i in 0..nx * ny * nw {
            let (k, s) = (i / (nx * ny), i % (nx * ny));
            let normal = (0..12).map(|_| even()).sum::<f32>() - 6.0;
            let source = 50.0 * (-0.2 * ((s % nx) as f32 - 5.0).powi(2)).exp();
            let error = if line(k) { 3.0 } else { 0.5 };
            let left = if line(k) { 30.0 * even() } else { 0.0 };
            data.push(source + left + 0.6 * normal);
            err.push(error);
        }
        let cube = Cube { nx, ny, nw, data, err, ..Cube::default() };
        let (sigma, ratio) = noise(&cube).expect("noise");
        assert!((sigma - 0.6).abs() < 0.02 && (ratio - 1.2).abs() < 0.04, "{sigma} {ratio}");
        assert_eq!(
            noise(&Cube { nx: 2, ny: 1, nw: 2, data: vec![1.0; 4], err: vec![1.0; 4], ..Cube::default() }),
            None
        );
    }

    #[test]
    fn spectra_come_back_within_a_255th_and_lines_are_found() {
        let (nx, ny, nw) = (40, 20, 60);
        let wavelength: Vec<f64> = (0..nw).map(|k| 2.0 + 0.001 * k as f64).collect();
        let value = |i: usize| {
            let (w, s) = (i / (nx * ny), i % (nx * ny));
            let noise = (i.wrapping_mul(2_654_435_761) >> 5 & 1023) as f32 / 1023.0;
            let line = if w == 30 && s % nx < 10 { 500.0 } else { 0.0 };
            if s == 0 { f32::NAN } else { 10.0 + noise + line }
        };
        let cube =
            Cube { nx, ny, nw, data: (0..nx * ny * nw).map(value).collect(), wavelength, ..Cube::default() };
        let view = view(&cube, "e-/s");
        assert_eq!(view.size, [20, 10, 60]);
        assert_eq!(view.lines.len(), 1);
        assert!((view.lines[0].0 - 2.03).abs() < 1e-9);
        assert_eq!(view.spectra.len(), (20 * 10 * 60usize).div_ceil(3) * 4);
        let [low, high] = view.ranges[0];
        assert!(low >= 10.0 && (high - 510.0).abs() < 2.0, "{low} {high}");
    }
}
