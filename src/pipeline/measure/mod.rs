//! The detector measured from its own ramps: gain and read noise, linearity, bad
//! pixels. Each recipe takes a set of raw ramps, brings them through the same
//! corrections that science gets, and leaves reference files that the other steps
//! take.

mod bad_pixels;
mod gain;
mod groups;
mod nonlin;
mod ramps;
mod references;
mod stretch;
mod transfer;

use std::ops::Range;

/// A frame cut into equal rectangles, (`down`, `across`) of them, in the order of
/// rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiles {
    ny: usize,
    nx: usize,
    down: usize,
    across: usize,
}

impl Tiles {
    /// At most one tile a pixel, at least one in all.
    fn new((ny, nx): (usize, usize), down: usize, across: usize) -> Tiles {
        Tiles { ny, nx, down: down.clamp(1, ny.max(1)), across: across.clamp(1, nx.max(1)) }
    }

    fn count(&self) -> usize {
        self.down * self.across
    }

    /// Rows of a row of tiles.
    fn rows(&self, j: usize) -> Range<usize> {
        j * self.ny / self.down..(j + 1) * self.ny / self.down
    }

    /// Columns of a column of tiles.
    fn columns(&self, i: usize) -> Range<usize> {
        i * self.nx / self.across..(i + 1) * self.nx / self.across
    }

    /// One value a tile as a plane (ny, nx).
    fn plane(&self, value: impl Fn(usize) -> f32) -> Vec<f32> {
        let mut out = vec![0.0; self.ny * self.nx];
        for j in 0..self.down {
            for i in 0..self.across {
                let v = value(j * self.across + i);
                for y in self.rows(j) {
                    out[y * self.nx..][self.columns(i)].fill(v);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_pixel_once() {
        let tiles = Tiles::new((10, 7), 3, 4);
        let mut seen = vec![0; 70];
        for j in 0..3 {
            for y in tiles.rows(j) {
                (0..4).flat_map(|i| tiles.columns(i)).for_each(|x| seen[y * 7 + x] += 1);
            }
        }
        assert_eq!(seen, vec![1; 70]);
        let plane = tiles.plane(|t| t as f32);
        assert_eq!((plane[0], plane[69], plane[6]), (0.0, 11.0, 3.0));
        assert_eq!(Tiles::new((2, 2), 9, 0).count(), 2);
    }
}
