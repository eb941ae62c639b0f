//! Pictures with labels, as PNG: planes side by side with a colour bar, spectra.

use std::path::Path;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::stretch::colour;
use super::{Cuts, Plane, Stretch};
use crate::error::{Error, Result};

/// Paper, ink, and what stands between them.
const PAPER: [u8; 3] = [250, 250, 248];
const INK: [u8; 3] = [32, 34, 38];
const FAINT: [u8; 3] = [196, 198, 200];
/// Pixels without a value: no colour of a value is near it.
const NO_VALUE: [u8; 3] = [233, 230, 236];
const LINE: [u8; 3] = [30, 80, 140];
const TEXT: RasterHeight = RasterHeight::Size16;
const MARGIN: usize = 16;
const GAP: usize = 10;
const LETTER_HEIGHT: usize = 16;

/// A picture being drawn; rows from above.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    pixels: Vec<u8>,
}

/// A plane with what is written above it.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is shown.
    pub plane: Plane,
    /// Its name.
    pub label: String,
}

/// Words around a picture.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Above, large in meaning.
    pub title: String,
    /// Lines below.
    pub notes: Vec<String>,
    /// Unit of the values.
    pub unit: String,
    /// Directions of north and east, degrees counter-clockwise from right.
    pub compass: Option<[f64; 2]>,
}

impl Plane {
    /// As large as can be by whole factors within `side` pixels: means of what has a
    /// value, or each pixel enlarged.
    #[must_use]
    pub fn fitted(&self, side: usize) -> Plane {
        let longest = self.nx.max(self.ny).max(1);
        let (nx, ny, factor) = if longest > side {
            let f = longest.div_ceil(side);
            (self.nx.div_ceil(f), self.ny.div_ceil(f), f)
        } else {
            let f = (side / longest).max(1);
            return self.enlarged(f);
        };
        let mean = |i: usize| {
            let (x, y) = (i % nx * factor, i / nx * factor);
            let (mut sum, mut n) = (0f64, 0u32);
            for row in y..(y + factor).min(self.ny) {
                for v in &self.values[row * self.nx + x..row * self.nx + (x + factor).min(self.nx)] {
                    if v.is_finite() {
                        sum += f64::from(*v);
                        n += 1;
                    }
                }
            }
            if n == 0 { f32::NAN } else { (sum / f64::from(n)) as f32 }
        };
        Plane { nx, ny, values: (0..nx * ny).map(mean).collect() }
    }

    fn enlarged(&self, f: usize) -> Plane {
        let (nx, ny) = (self.nx * f, self.ny * f);
        let at = |i: usize| self.values[i / nx / f * self.nx + i % nx / f];
        Plane { nx, ny, values: (0..nx * ny).map(at).collect() }
    }
}

impl Canvas {
    /// Blank paper.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: PAPER.repeat(width * height) }
    }

    fn dot(&mut self, x: i64, y: i64, colour: [u8; 3], strength: f64) {
        if x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height {
            let at = (y as usize * self.width + x as usize) * 3;
            for (to, from) in self.pixels[at..at + 3].iter_mut().zip(colour) {
                *to = (f64::from(*to) * (1.0 - strength) + f64::from(from) * strength).round() as u8;
            }
        }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        for j in y..y + height {
            (x..x + width).for_each(|i| self.dot(i as i64, j as i64, colour, 1.0));
        }
    }

    /// A straight line one pixel wide.
    fn line(&mut self, from: [f64; 2], to: [f64; 2], colour: [u8; 3]) {
        let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs()).ceil().max(1.0);
        for k in 0..=steps as usize {
            let t = k as f64 / steps;
            let at = |c: usize| (from[c] + (to[c] - from[c]) * t).round() as i64;
            self.dot(at(0), at(1), colour, 1.0);
        }
    }

    /// Writes `text` with its upper left corner at (x, y). Letters that the font has not
    /// are shown as `?`.
    fn text(&mut self, x: usize, y: usize, text: &str, colour: [u8; 3]) {
        let step = letter_width();
        for (k, letter) in text.chars().enumerate() {
            let glyph = get_raster(letter, FontWeight::Regular, TEXT)
                .or_else(|| get_raster('?', FontWeight::Regular, TEXT));
            let Some(glyph) = glyph else { continue };
            for (j, row) in glyph.rows().enumerate() {
                for (i, ink) in row.iter().enumerate() {
                    self.dot((x + k * step + i) as i64, (y + j) as i64, colour, f64::from(*ink) / 255.0);
                }
            }
        }
    }

    fn plane(&mut self, x: usize, y: usize, plane: &Plane, cuts: &Cuts, stretch: Stretch) {
        for (j, row) in plane.values.chunks_exact(plane.nx.max(1)).enumerate() {
            for (i, v) in row.iter().enumerate() {
                let c = if v.is_finite() { colour(stretch.shade(f64::from(*v), cuts)) } else { NO_VALUE };
                self.dot((x + i) as i64, (y + plane.ny - 1 - j) as i64, c, 1.0);
            }
        }
    }

    /// The picture as the bytes of a PNG file.
    pub fn png(&self) -> Result<Vec<u8>> {
        let fail = |e: png::EncodingError| Error::Usage(format!("the picture cannot be drawn: {e}"));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(fail)?;
        writer.write_image_data(&self.pixels).map_err(fail)?;
        writer.finish().map_err(fail)?;
        Ok(bytes)
    }

    /// Writes it: under another name first, so that a viewer never meets half of it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.png()?;
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        }
        let part = path.with_extension("png.part");
        std::fs::write(&part, bytes).map_err(Error::io("write", &part))?;
        std::fs::rename(&part, path).map_err(Error::io("write", path))
    }
}

/// Planes in rows of `columns`, the first at the upper left, under one pair of cuts, with
/// a colour bar, a compass and notes.
pub fn planes(panels: &[Panel], columns: usize, cuts: &Cuts, stretch: Stretch, words: &Words) -> Canvas {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let cell = |pick: fn(&Plane) -> usize| panels.iter().map(|p| pick(&p.plane)).max().unwrap_or(1);
    let (wide, high) = (cell(|p| p.nx), cell(|p| p.ny));
    let line = LETTER_HEIGHT + 4;
    let labelled = panels.iter().any(|p| !p.label.is_empty());
    let label = if labelled { line } else { 0 };
    let top = MARGIN + line + 4;
    let body = rows * (high + label + GAP);
    let bar_x = MARGIN + columns * (wide + GAP) + 6;
    let ticks: Vec<(f64, String)> =
        (0..=4).map(|k| f64::from(k) / 4.0).map(|s| (s, number(stretch.value(s, cuts)))).collect();
    let tick_letters = ticks.iter().map(|(_, t)| t.len()).max().unwrap_or(0).max(words.unit.len());
    let letters = words.notes.iter().chain([&words.title]).map(|t| t.chars().count()).max().unwrap_or(0);
    let width =
        (bar_x + 14 + 10 + (tick_letters + 1) * letter_width()).max(letters * letter_width() + 2 * MARGIN);
    let compass = if words.compass.is_some() { 96 } else { 0 };
    let below = (words.notes.len() * line).max(compass);
    let mut canvas = Canvas::new(width, top + body + 6 + below + MARGIN);
    canvas.text(MARGIN, MARGIN, &words.title, INK);
    for (k, panel) in panels.iter().enumerate() {
        let (x, y) = (MARGIN + k % columns * (wide + GAP), top + k / columns * (high + label + GAP));
        if labelled {
            canvas.text(x, y, &panel.label, INK);
        }
        canvas.plane(x, y + label, &panel.plane, cuts, stretch);
    }
    let (bar_top, bar_high) = (top + label, body.saturating_sub(GAP + label).max(40));
    for k in 0..bar_high {
        let shade = 1.0 - k as f64 / (bar_high - 1) as f64;
        canvas.fill(bar_x, bar_top + k, 14, 1, colour(shade));
    }
    for (shade, text) in ticks {
        let y = bar_top as f64 + (1.0 - shade) * (bar_high - 1) as f64;
        canvas.line([bar_x as f64 + 14.0, y], [bar_x as f64 + 18.0, y], INK);
        let room = (bar_top + bar_high).saturating_sub(LETTER_HEIGHT);
        canvas.text(
            bar_x + 24,
            (y as usize).saturating_sub(LETTER_HEIGHT / 2).clamp(bar_top, room),
            &text,
            INK,
        );
    }
    canvas.text(bar_x, top.saturating_sub(if labelled { 0 } else { line }), &words.unit, INK);
    for (k, note) in words.notes.iter().enumerate() {
        canvas.text(MARGIN, top + body + 6 + k * line, note, INK);
    }
    if let Some(directions) = words.compass {
        let centre = [(width - MARGIN - 44) as f64, (top + body + 6 + 46) as f64];
        for (angle, name) in directions.iter().zip(["N", "E"]) {
            let (s, c) = angle.to_radians().sin_cos();
            let end = |r: f64| [centre[0] + r * c, centre[1] - r * s];
            canvas.line(centre, end(26.0), INK);
            let at = end(37.0);
            let corner = |v: f64, by: usize| (v - by as f64 / 2.0).max(0.0) as usize;
            canvas.text(corner(at[0], letter_width()), corner(at[1], LETTER_HEIGHT), name, INK);
        }
    }
    canvas
}

/// A curve of `y` over `x`, with gaps where `y` is not finite.
pub fn curve(x: &[f64], y: &[f32], x_unit: &str, words: &Words) -> Canvas {
    let (wide, high) = (880usize, 380usize);
    let line = LETTER_HEIGHT + 4;
    let (left, top) = (MARGIN + 10 * letter_width(), MARGIN + 2 * line);
    let mut canvas =
        Canvas::new(left + wide + MARGIN, top + high + 3 * line + words.notes.len() * line + MARGIN);
    canvas.text(MARGIN, MARGIN, &words.title, INK);
    canvas.text(MARGIN, MARGIN + line, &words.unit, INK);
    let cuts = Cuts::of(y);
    let finite = y.iter().copied().filter(|v| v.is_finite()).map(f64::from);
    let (least, most) = finite.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    let (least, most) = if least < most { (least, most) } else { (cuts.low, cuts.high) };
    let (low, high_value) = (least - 0.05 * (most - least), most + 0.05 * (most - least));
    let (first, last) = (x.first().copied().unwrap_or(0.0), x.last().copied().unwrap_or(1.0));
    let (x0, x1) = if first < last { (first, last) } else { (last, first + 1e-9) };
    let place = |u: f64, v: f64| {
        let at = left as f64 + (u - x0) / (x1 - x0) * (wide - 1) as f64;
        [at, top as f64 + (high_value - v) / (high_value - low) * (high - 1) as f64]
    };
    for tick in ticks(low, high_value) {
        let [_, v] = place(x0, tick);
        canvas.line([left as f64, v], [(left + wide - 1) as f64, v], FAINT);
        let text = number(tick);
        let x = left.saturating_sub((text.chars().count() + 1) * letter_width());
        canvas.text(x, (v as usize).saturating_sub(LETTER_HEIGHT / 2), &text, INK);
    }
    for tick in ticks(x0, x1) {
        let [u, _] = place(tick, low);
        canvas.line([u, (top + high) as f64], [u, (top + high + 5) as f64], INK);
        let text = number(tick);
        canvas.text((u as usize).saturating_sub(text.len() * letter_width() / 2), top + high + 8, &text, INK);
    }
    canvas.text(left + wide / 2, top + high + 8 + line, x_unit, INK);
    canvas.line([left as f64, (top + high) as f64], [(left + wide - 1) as f64, (top + high) as f64], INK);
    let points: Vec<Option<[f64; 2]>> =
        x.iter().zip(y).map(|(u, v)| v.is_finite().then(|| place(*u, f64::from(*v)))).collect();
    for pair in points.windows(2) {
        if let [Some(a), Some(b)] = pair {
            canvas.line(*a, *b, LINE);
        }
    }
    for (k, note) in words.notes.iter().enumerate() {
        canvas.text(MARGIN, top + high + 3 * line + k * line, note, INK);
    }
    canvas
}

/// Round numbers within an interval, four to nine of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    if !(rough > 0.0 && rough.is_finite()) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0);
    let first = (low / step).ceil() as i64;
    (first..).map(|k| k as f64 * step).take_while(|v| *v <= high).take(20).collect()
}

/// Four figures or so.
pub fn number(v: f64) -> String {
    let size = v.abs();
    let digits = |n: usize| {
        let text = format!("{v:.n$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match size {
        _ if v == 0.0 => "0".into(),
        _ if !(1e-3..1e6).contains(&size) => format!("{v:.2e}"),
        _ if size >= 1000.0 => digits(0),
        _ if size >= 100.0 => digits(1),
        _ if size >= 1.0 => digits(2),
        _ => digits(4),
    }
}

fn letter_width() -> usize {
    get_raster_width(FontWeight::Regular, TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_stand_with_their_first_row_below_and_holes_are_neutral() {
        let plane = Plane { nx: 2, ny: 2, values: vec![0.0, 0.0, 100.0, f32::NAN] };
        let cuts = Cuts { low: 0.0, high: 100.0, soft: 10.0 };
        let mut canvas = Canvas::new(2, 2);
        canvas.plane(0, 0, &plane, &cuts, Stretch::Asinh);
        assert_eq!(canvas.pixels[..3], colour(1.0));
        assert_eq!(canvas.pixels[3..6], NO_VALUE);
        assert_eq!(canvas.pixels[6..9], colour(0.0));
    }

    #[test]
    fn pictures_hold_all_their_parts() {
        let plane = Plane { nx: 30, ny: 20, values: vec![1.0; 600] }.fitted(200);
        assert_eq!((plane.nx, plane.ny), (180, 120));
        let panel = Panel { plane, label: "IMG1".into() };
        let words = Words {
            title: "µ".repeat(90),
            notes: vec!["note".into(); 3],
            compass: Some([90.0, 180.0]),
            ..Words::default()
        };
        let cuts = Cuts::of(&[0.0, 1.0]);
        let canvas = planes(&vec![panel; 4], 2, &cuts, Stretch::Asinh, &words);
        assert!(canvas.width >= 90 * letter_width() + 2 * MARGIN && canvas.height > 2 * 120);
        assert!(canvas.png().expect("png").starts_with(b"\x89PNG"));
        let gap = curve(&[1.0, 2.0, 3.0], &[1.0, f32::NAN, 2.0], "µm", &words);
        assert!(gap.png().is_ok());
        assert!(curve(&[], &[], "", &words).png().is_ok());
    }

    #[test]
    fn numbers_and_ticks_are_round() {
        assert_eq!(
            ["0", "12.5", "1.25", "1.00e-4", "123457"].map(str::to_owned),
            [0.0, 12.5, 1.25, 1e-4, 123_456.7].map(number)
        );
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Plane { nx: 5, ny: 3, values: vec![2.0; 15] }.fitted(2).values.len(), 2);
    }
}
