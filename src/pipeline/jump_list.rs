//! The jumps of an exposure in a file of their own, in the folder `jumps` beside its
//! rate: a table beside a 2-D image keeps viewers from loading the image by themselves,
//! and a folder of rates stays one of rates.

use std::path::{Path, PathBuf};

use super::product::{About, primary};
use super::read_list;
use super::stage1::{Jump, Kind};
use crate::error::Result;
use crate::fits::{Column, ColumnData, FitsWriter, Header};
use crate::input::{EachRead, Ramp};

/// The differences left out of an exposure's ramps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JumpList {
    jumps: Vec<Jump>,
    /// Columns of the frame and reads a ramp.
    nx: usize,
    reads: usize,
    /// Seconds since its ramp's reset of each read of the exposure.
    times: Vec<f64>,
    /// Hits: jumps of one read that touch are one.
    hits: usize,
    /// Hits a second and Mpixel.
    rate: f64,
}

impl JumpList {
    /// Of the jumps of `ramp`, ordered by read and pixel.
    pub(super) fn new(jumps: Vec<Jump>, ramp: &Ramp) -> JumpList {
        let (reads, nx) = (ramp.reads, ramp.nx);
        // A hit shows from the first read on.
        let watched: f64 = ramp.times.chunks(reads).map(|one| one[reads - 1] - one[0]).sum();
        let hits = hits(&jumps, nx);
        let area = (ramp.ny * nx) as f64 / 1e6;
        let rate = if watched > 0.0 { hits as f64 / watched / area } else { 0.0 };
        JumpList { jumps, nx, reads, times: ramp.times.clone(), hits, rate }
    }

    /// Puts the counts into a product's header.
    pub(super) fn count(&self, header: &mut Header) {
        let found = self.jumps.iter().filter(|j| j.kind == Kind::Found).count();
        header.set("NJUMPS", found, "differences with a jump");
        header.set("NJUMPMOR", self.jumps.len() - found, "differences that went with them");
        header.set("NHITS", self.hits, "hits: jumps of one read that touch");
        let digits = 1e-4 * 10f64.powf(self.rate.abs().max(1e-300).log10().floor());
        header.set("HITRATE", (self.rate / digits).round() * digits, "hits a second and 1e6 pixels");
    }

    /// Writes the list beside a rate: JUMPS with X, Y, RAMP, READ (all from 1), TIME (of the
    /// read, since its ramp's reset), AMPLITUDE, SIGMA and KIND; and what differs from read to
    /// read of a set of files ([`read_list`]).
    pub(super) fn write(&self, path: &Path, about: &About<'_>, reads: Option<&EachRead>) -> Result<PathBuf> {
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &primary(path, about))?;
        let jumps = &self.jumps;
        let whole = |f: &dyn Fn(&Jump) -> usize| ColumnData::I32(jumps.iter().map(|j| f(j) as i32).collect());
        let column =
            |name: &str, unit: &str, data| Column { name: name.into(), unit: unit.into(), width: 1, data };
        let at = |j: &Jump| j.read as usize;
        let columns = [
            column("X", "pixel", whole(&|j| j.pixel as usize % self.nx + 1)),
            column("Y", "pixel", whole(&|j| j.pixel as usize / self.nx + 1)),
            column("RAMP", "", whole(&|j| at(j) / self.reads + 1)),
            column("READ", "", whole(&|j| at(j) % self.reads + 1)),
            column("TIME", "s", ColumnData::F64(jumps.iter().map(|j| self.times[at(j)]).collect())),
            column("AMPLITUDE", "electron", ColumnData::F32(jumps.iter().map(|j| j.amplitude).collect())),
            column("SIGMA", "electron", ColumnData::F32(jumps.iter().map(|j| j.sigma).collect())),
            column("KIND", "", ColumnData::I16(jumps.iter().map(|j| j.kind as i16).collect())),
        ];
        let mut h = Header::new();
        h.set("NXPIX", self.nx, "columns of the frame");
        for (kind, text) in [
            (Kind::Found, "jump"),
            (Kind::Neighbour, "leak from a jump beside it"),
            (Kind::After, "after a large jump"),
            (Kind::Snowball, "around a snowball"),
        ] {
            h.set(&format!("KIND{}", kind as i16), text, "");
        }
        w.table("JUMPS", &h, &columns)?;
        reads.map(|r| read_list::append(&mut w, r)).transpose()?;
        w.finish()
    }
}

/// Where the list of the rate at `rate` goes.
pub(super) fn path_for(rate: &Path) -> PathBuf {
    let stem = rate.file_stem().unwrap_or_default().to_string_lossy();
    rate.with_file_name("jumps").join(format!("{stem}_jumps.fits"))
}

/// Groups of jumps that touch (corners count) at one read.
fn hits(jumps: &[Jump], nx: usize) -> usize {
    let found: Vec<(u32, usize)> =
        jumps.iter().filter(|j| j.kind == Kind::Found).map(|j| (j.read, j.pixel as usize)).collect();
    // Each points at another of its group, the first one at itself.
    let mut group: Vec<usize> = (0..found.len()).collect();
    let root = |group: &[usize], mut i: usize| {
        while group[i] != i {
            i = group[i];
        }
        i
    };
    for i in 0..found.len() {
        let (read, p) = found[i];
        let (x, y) = (p % nx, p / nx);
        // Those before it in order: to the left, and the three in the row below.
        let left = (x > 0).then(|| p - 1..p);
        let below = (y > 0).then(|| p - nx - usize::from(x > 0)..p - nx + 1 + usize::from(x + 1 < nx));
        for pixels in [left, below].into_iter().flatten() {
            let first = found.partition_point(|f| *f < (read, pixels.start));
            for j in (first..i).take_while(|&j| found[j] < (read, pixels.end)) {
                let (a, b) = (root(&group, i), root(&group, j));
                group[a.max(b)] = a.min(b);
            }
        }
    }
    (0..group.len()).filter(|&i| group[i] == i).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_that_touch_are_one_hit() {
        let nx = 5;
        let of = |list: &[(u32, u32)]| {
            let jump = |&(read, pixel): &(u32, u32)| Jump {
                pixel,
                read,
                amplitude: 1.0,
                sigma: 1.0,
                gain: 1.0,
                kind: Kind::Found,
            };
            hits(&list.iter().map(jump).collect::<Vec<_>>(), nx)
        };
        assert_eq!(of(&[]), 0);
        // A U that closes in its last row.
        assert_eq!(of(&[(1, 0), (1, 2), (1, 5), (1, 7), (1, 10), (1, 11), (1, 12)]), 1);
        // The right end of a row and the left end of the next do not touch.
        assert_eq!(of(&[(1, 4), (1, 5)]), 2);
        // Corners do; other reads do not.
        assert_eq!(of(&[(1, 4), (1, 8), (2, 8)]), 2);
        assert_eq!(of(&[(1, 6), (1, 10), (1, 12)]), 1);
    }
}
