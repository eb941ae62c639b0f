//! Quick-look pictures: PNG files of a palette of 250 colours.
//!
//! A [`Panel`] is a plane with its first row at the bottom, as astronomers show it.
//! Values are stretched with an inverse hyperbolic sine between robust cuts and
//! coloured with cividis (Nuñez, Anderton & Renslow 2018, PLoS ONE 13, e0199239),
//! which those who see colours otherwise read alike. Pixels without a value are
//! black, which no value is.

use std::path::{Path, PathBuf};

use crate::datamodel::Cube;
use crate::error::{Error, Result};
use crate::quicklook::stretch::colour;

/// Colours of values; palette entry 0 is no value, 1 the ground between panels.
const LEVELS: usize = 250;
const NO_VALUE: u8 = 0;
const GROUND: u8 = 1;
const FIRST: u8 = 2;
/// Pixels between panels.
const GAP: usize = 8;

/// A plane to be shown: (ny, nx), NaN where there is no value.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    nx: usize,
    ny: usize,
    values: Vec<f32>,
}

/// Where black ends and white begins, and how much of it is linear.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    low: f64,
    high: f64,
    /// Width of the linear part.
    soft: f64,
}

impl Panel {
    /// A plane of `nx` columns.
    pub fn new(nx: usize, values: Vec<f32>) -> Panel {
        Panel { nx, ny: values.len() / nx.max(1), values }
    }

    /// The mean over a cube's channels, of the voxels that have a value.
    pub fn white_light(cube: &Cube) -> Panel {
        let spaxels = cube.nx * cube.ny;
        let mean = |s: usize| {
            let spectrum = cube.data.iter().skip(s).step_by(spaxels.max(1)).filter(|v| v.is_finite());
            let (sum, n) = spectrum.fold((0f64, 0u32), |(sum, n), v| (sum + f64::from(*v), n + 1));
            if n == 0 { f32::NAN } else { (sum / f64::from(n)) as f32 }
        };
        Panel::new(cube.nx, (0..spaxels).map(mean).collect())
    }

    /// Means of `factor` × `factor` pixels, of those that have a value.
    #[must_use]
    pub fn binned(&self, factor: usize) -> Panel {
        let (nx, ny) = (self.nx / factor, self.ny / factor);
        let mean = |i: usize| {
            let (x, y) = (i % nx * factor, i / nx * factor);
            let cells = (0..factor * factor).map(|k| (y + k / factor) * self.nx + x + k % factor);
            let finite = cells.map(|at| self.values[at]).filter(|v| v.is_finite());
            let (sum, n) = finite.fold((0f32, 0u32), |(sum, n), v| (sum + v, n + 1));
            if n == 0 { f32::NAN } else { sum / n as f32 }
        };
        Panel::new(nx, (0..nx * ny).map(mean).collect())
    }

    /// Every pixel `factor` times as large.
    #[must_use]
    pub fn enlarged(&self, factor: usize) -> Panel {
        let nx = self.nx * factor;
        let at = |i: usize| self.values[i / nx / factor * self.nx + i % nx / factor];
        Panel::new(nx, (0..nx * self.ny * factor).map(at).collect())
    }

    /// The panel as large as can be, by whole factors, within `side` pixels.
    #[must_use]
    pub fn fitted(&self, side: usize) -> Panel {
        let longest = self.nx.max(self.ny).max(1);
        if longest > side { self.binned(longest.div_ceil(side)) } else { self.enlarged(side / longest) }
    }

    /// Cuts that noise and a few bright pixels do not move: from 2 σ below the median,
    /// σ from the lower half's quartile, to the 99.8th percentile.
    fn stretch(&self) -> Stretch {
        let mut sorted: Vec<f32> = self.values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f32::total_cmp);
        let at = |q: f64| match sorted.len() {
            0 => 0.0,
            n => f64::from(sorted[((n - 1) as f64 * q) as usize]),
        };
        let (median, sigma) = (at(0.5), (at(0.5) - at(0.16)).max(1e-12));
        let low = (median - 2.0 * sigma).max(at(0.0));
        let high = at(0.998).max(median + 3.0 * sigma);
        Stretch { low, high, soft: 4.0 * sigma }
    }

    fn paint(&self) -> Vec<u8> {
        let s = self.stretch();
        let whole = ((s.high - s.low) / s.soft).asinh();
        let colour = |v: &f32| {
            if !v.is_finite() {
                return NO_VALUE;
            }
            let shade = ((f64::from(*v) - s.low).max(0.0) / s.soft).asinh() / whole;
            FIRST + (shade * LEVELS as f64).clamp(0.0, LEVELS as f64 - 1.0) as u8
        };
        self.values.iter().map(colour).collect()
    }
}

/// Writes panels side by side, the first at the left.
pub fn write(path: &Path, panels: &[Panel]) -> Result<PathBuf> {
    let bytes = png(panels)
        .map_err(|e| Error::Input { path: path.into(), message: format!("cannot be drawn: {e}") })?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    std::fs::write(path, bytes).map_err(Error::io("write", path))?;
    Ok(path.to_path_buf())
}

/// Panels side by side, the first at the left, as the bytes of a PNG file.
pub fn png(panels: &[Panel]) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let height = panels.iter().map(|p| p.ny).max().unwrap_or(0);
    let width = panels.iter().map(|p| p.nx).sum::<usize>() + GAP * panels.len().saturating_sub(1);
    let mut pixels = vec![GROUND; width * height];
    let mut left = 0;
    for panel in panels {
        let painted = panel.paint();
        for (y, row) in painted.chunks_exact(panel.nx.max(1)).enumerate() {
            let at = (height - 1 - y) * width + left;
            pixels[at..at + panel.nx].copy_from_slice(row);
        }
        left += panel.nx + GAP;
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette());
    encoder.set_compression(png::Compression::High);
    // Filters predict brightness, not the numbers of colours.
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// No value, ground, then cividis.
fn palette() -> Vec<u8> {
    let mut out = vec![0, 0, 0, 255, 255, 255];
    (0..LEVELS).for_each(|k| out.extend(colour(k as f64 / (LEVELS - 1) as f64)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_binned_enlarged_and_painted() {
        let p = Panel::new(4, (0..16).map(|i| i as f32).collect());
        assert_eq!(p.binned(2).values, [2.5, 4.5, 10.5, 12.5]);
        assert_eq!(p.binned(2).enlarged(2).values[..4], [2.5, 2.5, 4.5, 4.5]);
        assert_eq!((p.fitted(13).nx, p.fitted(2).nx), (12, 2));
        let mut holed = p.clone();
        holed.values[5] = f32::NAN;
        assert!((holed.binned(2).values[0] - 5.0 / 3.0).abs() < 1e-6);
        let painted = holed.paint();
        assert_eq!(painted[5], NO_VALUE);
        assert!(painted.iter().enumerate().all(|(i, c)| i == 5 || *c >= FIRST));
        assert!(painted[15] > painted[8] && painted[8] > painted[1]);
        // Nothing to show is no fault.
        assert!(Panel::new(2, vec![f32::NAN; 4]).paint().iter().all(|c| *c == NO_VALUE));
        assert!(Panel::new(2, vec![3.0; 4]).paint().iter().all(|c| *c >= FIRST));
    }

    #[test]
    fn the_file_is_a_png_with_the_first_row_below() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("pictures/p.png");
        let panel = Panel::new(2, vec![0.0, 0.0, 100.0, f32::NAN]);
        write(&path, &[panel.clone(), panel]).expect("write");
        let decoder = png::Decoder::new(std::io::Cursor::new(std::fs::read(&path).expect("read")));
        let mut reader = decoder.read_info().expect("png");
        assert_eq!((reader.info().width, reader.info().height), (12, 2));
        let mut pixels = vec![0; reader.output_buffer_size().expect("size")];
        reader.next_frame(&mut pixels).expect("frame");
        assert!(pixels[0] > pixels[12] && pixels[1] == NO_VALUE && pixels[4] == GROUND);
    }
}
