//! A reference file, opened and matched to a frame.

use std::ops::Range;
use std::path::Path;

use crate::datamodel::Meta;
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, Header};

/// The detector region that planes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Rows.
    pub ny: usize,
    /// Columns.
    pub nx: usize,
    /// 1-based detector column and row of the first pixel.
    pub substart: (i64, i64),
    /// Whether it is part of a detector, so that references may be larger.
    pub subarray: bool,
}

impl Frame {
    /// The frame of an exposure of `ny` rows and `nx` columns.
    pub fn new(meta: &Meta, ny: usize, nx: usize) -> Frame {
        let named = !matches!(meta.subarray.as_str(), "" | "FULL" | "N/A");
        Frame { ny, nx, substart: meta.substart, subarray: named || meta.substart != (1, 1) }
    }
}

/// Where a frame lies in a plane of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Columns of the file's plane.
    pub(super) nx: usize,
    /// First column and row (from 0) of the frame.
    pub(super) corner: (usize, usize),
    /// Columns of the frame.
    pub(super) width: usize,
}

impl Place {
    /// The run of the file's pixels that holds rows `rows` of the frame.
    fn run(&self, rows: &Range<usize>) -> Range<usize> {
        let at = |row: usize| (self.corner.1 + row) * self.nx;
        at(rows.start)..at(rows.end)
    }

    /// Rows `rows` of the frame out of the plane that begins at pixel `base` of its
    /// HDU, into `into` (rows × width): straight where the widths are the same.
    pub(super) fn read<T: Copy + Default>(
        &self,
        base: usize,
        rows: &Range<usize>,
        into: &mut [T],
        read: impl Fn(usize, &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let run = self.run(rows);
        if self.nx == self.width {
            return read(base + run.start, into);
        }
        let mut wide = vec![T::default(); run.len()];
        read(base + run.start, &mut wide)?;
        let from = wide.chunks_exact(self.nx.max(1)).map(|row| &row[self.corner.0..][..self.width]);
        into.chunks_exact_mut(self.width.max(1)).zip(from).for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    }
}

/// An open reference file.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) fits: Fits,
    pub(super) frame: Frame,
    reftype: &'static str,
    /// SUBSTRT1, SUBSTRT2, where it says.
    substart: Option<(i64, i64)>,
}

impl Reference {
    pub(super) fn open(path: &Path, reftype: &'static str, frame: &Frame) -> Result<Reference> {
        let fits = Fits::open(path)?;
        if let Some(said) = fits.primary().text("REFTYPE").filter(|t| !t.is_empty())
            && super::canonical_reftype(&said).is_some_and(|t| t != reftype)
        {
            let message = format!("{}: REFTYPE = '{said}': give a {reftype} reference", path.display());
            return Err(Error::reference(reftype, message));
        }
        let start = |key: &str| fits.primary().integer(key);
        let substart = start("SUBSTRT1").zip(start("SUBSTRT2"));
        Ok(Reference { fits, frame: *frame, reftype, substart })
    }

    /// An error about this file.
    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::reference(self.reftype, format!("{}: {message}", self.fits.path.display()))
    }

    /// The main image: the first of `names`, else the first image.
    pub(super) fn main(&self, names: &[&str]) -> Result<&Hdu> {
        let named = names.iter().find_map(|n| self.image(n));
        named
            .or_else(|| self.fits.hdus.iter().find(|h| h.is_image() && h.name != "ERR" && h.name != "DQ"))
            .ok_or_else(|| self.error(format!("has no image {} (nor any other image)", names.join(" or "))))
    }

    /// The image called `name`, where there is one.
    pub(super) fn image(&self, name: &str) -> Option<&Hdu> {
        self.fits.hdu(name).filter(|h| h.is_image())
    }

    /// The value of `key` in `hdu` or else PRIMARY.
    pub(super) fn text(&self, hdu: &Hdu, key: &str) -> Option<String> {
        let read = |h: &Header| h.text(key).filter(|t| !t.is_empty());
        read(&hdu.header).or_else(|| read(self.fits.primary()))
    }

    /// Where the frame lies in a plane of `ny` rows and `nx` columns of this file, or
    /// why it does not fit.
    pub(super) fn place(&self, name: &str, (ny, nx): (usize, usize)) -> Result<Place> {
        let frame = &self.frame;
        let own = self.substart;
        if (ny, nx) == (frame.ny, frame.nx) && own.is_none_or(|s| s == frame.substart) {
            return Ok(Place { nx, corner: (0, 0), width: nx });
        }
        let own = own.unwrap_or((1, 1));
        let place = |of: i64, at: i64, size: usize, want: usize| {
            let first = usize::try_from(at.checked_sub(of)?).ok()?;
            (frame.subarray && first.checked_add(want)? <= size).then_some(first)
        };
        let x = place(own.0, frame.substart.0, nx, frame.nx);
        let y = place(own.1, frame.substart.1, ny, frame.ny);
        x.zip(y).map(|corner| Place { nx, corner, width: frame.nx }).ok_or_else(|| {
            let from = |s: (i64, i64)| format!("from pixel {}, {}", s.0, s.1);
            let (own, want) = (from(own), from(frame.substart));
            let Frame { ny: fy, nx: fx, .. } = frame;
            self.error(format!(
                "{name} is {ny} x {nx} (rows x columns, {own}) but the frame is {fy} x {fx} ({want}): give a \
                 reference of that detector region (SUBSTRT1/2, SUBSIZE1/2)"
            ))
        })
    }

    /// [`Reference::place`] of a 2-D image HDU.
    pub(super) fn place_of(&self, hdu: &Hdu) -> Result<Place> {
        match *hdu.shape.as_slice() {
            [ref ones @ .., ny, nx] if ones.iter().all(|&n| n == 1) => self.place(&hdu.name, (ny, nx)),
            ref other => {
                Err(self.error(format!("{} has {} axes: it must be (ny, nx)", hdu.name, other.len())))
            }
        }
    }

    /// The frame's pixels of a 2-D image HDU.
    pub(super) fn f32(&self, hdu: &Hdu) -> Result<Vec<f32>> {
        let place = self.place_of(hdu)?;
        let mut out = vec![0.0; self.frame.ny * self.frame.nx];
        place.read(0, &(0..self.frame.ny), &mut out, |first, into| self.fits.read_f32(hdu, first, into))?;
        Ok(out)
    }

    /// Flags of a file: its image DQ, zeros without one.
    pub(super) fn dq(&self) -> Result<Vec<u32>> {
        let mut out = vec![0; self.frame.ny * self.frame.nx];
        Flags::of(self, self.image("DQ"))?.read(self, &(0..self.frame.ny), &mut out)?;
        Ok(out)
    }
}

/// A plane of flags of a reference, perhaps absent, perhaps in two parts.
#[derive(Debug)]
pub(super) struct Flags(Vec<(Hdu, Place, u32)>);

impl Flags {
    pub(super) fn of(reference: &Reference, hdu: Option<&Hdu>) -> Result<Flags> {
        let high = hdu.filter(|h| h.name == "DQ").and_then(|_| reference.image("DQ_HIGH"));
        let parts = hdu.map(|h| (h, 0)).into_iter().chain(high.map(|h| (h, 16)));
        let parts = parts.map(|(h, shift)| Ok((h.clone(), reference.place_of(h)?, shift)));
        Ok(Flags(parts.collect::<Result<_>>()?))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the flags of rows `rows` to `into` (rows × columns).
    pub(super) fn read(&self, of: &Reference, rows: &Range<usize>, into: &mut [u32]) -> Result<()> {
        let mut flags = vec![0; if self.is_empty() { 0 } else { into.len() }];
        for (hdu, place, shift) in &self.0 {
            place.read(0, rows, &mut flags, |first, to| of.fits.read_u32(hdu, first, to))?;
            into.iter_mut().zip(&flags).for_each(|(to, f)| *to |= f << shift);
        }
        Ok(())
    }
}
