//! SUBARR_MAP: which pixels of a full frame were read as subarrays, apart from it.

use std::ops::Range;

use super::{by, label};
use crate::datamodel::guide_window_mode;
use crate::error::Result;
use crate::fits::{Fits, Header};

/// Most subarrays of a frame.
pub const MOST_SUBARRAYS: u16 = 10;

/// A subarray's window in the full frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// SUBARRID, from 1.
    pub id: u16,
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

/// The windows of a full frame that was taken together with subarrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubarrayMap {
    /// Rows of the frame.
    pub ny: usize,
    /// Columns of the frame.
    pub nx: usize,
    /// By id.
    pub windows: Vec<Window>,
}

impl SubarrayMap {
    /// From the image: 0 in no subarray, k in subarray k. Each is a full rectangle.
    /// An error is a sentence.
    pub fn new(map: &[f64], ny: usize, nx: usize) -> Result<SubarrayMap, String> {
        let mut boxes: [Option<(Window, usize)>; MOST_SUBARRAYS as usize] = Default::default();
        for (p, &id) in map.iter().enumerate().filter(|(_, id)| **id != 0.0) {
            let (x, y) = (p % nx, p / nx);
            let whole = id.fract() == 0.0 && id > 0.0;
            let found = if whole { boxes.get_mut(id as usize - 1) } else { None };
            let found = found.ok_or_else(|| {
                format!("holds {id} at ({}, {}): subarrays are 1 to {MOST_SUBARRAYS}", x + 1, y + 1)
            })?;
            let (w, pixels) =
                found.get_or_insert_with(|| (Window { id: id as u16, rows: y..y + 1, columns: x..x + 1 }, 0));
            w.rows.end = y + 1;
            w.columns = w.columns.start.min(x)..w.columns.end.max(x + 1);
            *pixels += 1;
        }
        let windows = boxes.into_iter().flatten().map(|(w, pixels)| {
            let size = w.rows.len() * w.columns.len();
            (pixels == size).then_some(w.clone()).ok_or_else(|| {
                format!(
                    "has {pixels} pixels of subarray {}, whose rectangle {} x {} has {size}: write whole \
                     rectangles that do not overlap",
                    w.id,
                    w.columns.len(),
                    w.rows.len()
                )
            })
        });
        Ok(SubarrayMap { ny, nx, windows: windows.collect::<Result<_, _>>()? })
    }

    /// Pixels of the frame in any window, ascending.
    pub fn pixels(&self) -> Vec<u32> {
        (0..).zip(self.image()).filter(|(_, id)| *id != 0).map(|(p, _)| p).collect()
    }

    /// The window of subarray `id`.
    pub fn window(&self, id: i64) -> Option<&Window> {
        self.windows.iter().find(|w| i64::from(w.id) == id)
    }

    /// The image.
    pub fn image(&self) -> Vec<u16> {
        let mut map = vec![0; self.ny * self.nx];
        for w in &self.windows {
            w.rows.clone().for_each(|y| map[y * self.nx..][w.columns.clone()].fill(w.id));
        }
        map
    }

    /// Keywords of the image: SUBkX0, SUBkY0 (first column and row, from 1), SUBkNX, SUBkNY.
    pub fn header(&self) -> Header {
        let mut h = Header::new();
        h.set("NSUBARR", self.windows.len(), "subarrays");
        for w in &self.windows {
            for (end, value, about) in [
                ("X0", w.columns.start + 1, "first column, from 1"),
                ("Y0", w.rows.start + 1, "first row, from 1"),
                ("NX", w.columns.len(), "columns"),
                ("NY", w.rows.len(), "rows"),
            ] {
                h.set(&format!("SUB{}{end}", w.id), value, about);
            }
        }
        h
    }
}

/// The SUBARR_MAP of a file whose frame has (ny, nx) pixels; `None` where there is none,
/// where it is empty, and where it is about guide windows.
pub fn subarray_map(fits: &Fits, (ny, nx): (usize, usize)) -> Result<Option<SubarrayMap>> {
    let Some(hdu) = fits.hdu("SUBARR_MAP").filter(|h| h.is_image()) else { return Ok(None) };
    if guide_window_mode(fits.primary()) {
        return Ok(None);
    }
    if hdu.shape != [ny, nx] {
        let message = format!("is {}, but the frame is {ny} x {nx}: correct or remove it", by(&hdu.shape));
        return Err(fits.error(&label(hdu), message));
    }
    let map = SubarrayMap::new(&fits.f64(hdu)?, ny, nx).map_err(|m| fits.error("SUBARR_MAP", m))?;
    Ok(Some(map).filter(|m| !m.windows.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_and_written_back() {
        let (ny, nx) = (7, 9);
        let mut map = vec![0.0; ny * nx];
        for (id, rows, columns) in [(2.0, 1..3, 4..9), (1.0, 4..7, 0..1), (10.0, 3..4, 2..4)] {
            rows.for_each(|y| map[y * nx..][columns.clone()].fill(id));
        }
        let read = SubarrayMap::new(&map, ny, nx).expect("map");
        assert_eq!(read.windows.iter().map(|w| w.id).collect::<Vec<_>>(), [1, 2, 10]);
        assert_eq!(read.window(2).map(|w| (w.rows.clone(), w.columns.clone())), Some((1..3, 4..9)));
        assert_eq!(read.image().into_iter().map(f64::from).collect::<Vec<_>>(), map);
        let inside: Vec<u32> = (0..).zip(&map).filter(|(_, id)| **id != 0.0).map(|(p, _)| p).collect();
        assert_eq!(read.pixels(), inside);
        let h = read.header();
        let said = ["NSUBARR", "SUB2X0", "SUB2Y0", "SUB2NX", "SUB2NY", "SUB10X0"].map(|k| h.integer(k));
        assert_eq!(said, [3, 5, 2, 5, 2, 3].map(Some));
    }

    #[test]
    fn what_is_no_rectangle_or_no_subarray_is_refused() {
        let e = SubarrayMap::new(&[1.0, 1.0, 0.0, 1.0], 2, 2).expect_err("a corner is missing");
        assert!(e.contains("3 pixels of subarray 1") && e.contains("2 x 2 has 4"), "{e}");
        for (id, said) in [(11.0, "11"), (-1.0, "-1"), (0.5, "0.5"), (f64::NAN, "NaN")] {
            let e = SubarrayMap::new(&[0.0, id, 0.0, 0.0], 2, 2).expect_err(said);
            assert!(e.contains(&format!("holds {said} at (2, 1)")), "{e}");
        }
        assert!(SubarrayMap::new(&[0.0; 4], 2, 2).expect("empty").windows.is_empty());
    }
}
