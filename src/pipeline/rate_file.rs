//! The rate of an exposure, written while it is made: row by row, so that the planes of
//! the frame are never held. The same file as [`product::write_rate`] writes.
//!
//! [`product::write_rate`]: super::product::write_rate

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::product::{About, plane_headers, primary, variance_header};
use super::stage1::Band;
use crate::datamodel::dq;
use crate::error::Result;
use crate::fits::{FitsWriter, Header, Pixels, Reserved};
use crate::kernels::ramp::Out;
use crate::profile::{self, Work};

/// Reads of an exposure that NREADS counts in a byte.
pub(super) const MOST_READS: usize = u8::MAX as usize;

/// A rate that is being written.
pub(super) struct RateFile {
    writer: FitsWriter,
    primary: Reserved,
    /// In the order of the file.
    planes: Vec<(Out, Reserved)>,
    nx: usize,
}

impl RateFile {
    /// Begins the file of a frame of (ny, nx) pixels and at most [`MOST_READS`] reads.
    /// `about` has all keywords, but their values may still change.
    pub(super) fn begin(path: &Path, about: &About<'_>, (ny, nx): (usize, usize)) -> Result<RateFile> {
        let shape = [ny, nx];
        let mut writer = FitsWriter::create(path)?;
        let none = Pixels::U8(&[]);
        let primary = writer.reserve("PRIMARY", &primary(path, about), &[], none);
        let (unit, mut bits) = plane_headers(about, &shape);
        dq::describe(&mut bits);
        let (variance, plain) = (variance_header(about), Header::new());
        let (floats, words) = (Pixels::F32(&[]), Pixels::U32(&[]));
        let mut planes = Vec::new();
        for (plane, name, header, of) in [
            (Out::Rate, "DATA", &unit, floats),
            (Out::Err, "ERR", &unit, floats),
            (Out::Dq, "DQ", &bits, words),
            (Out::VarPoisson, "VAR_POISSON", &variance, floats),
            (Out::VarRnoise, "VAR_RNOISE", &variance, floats),
            (Out::Chi2, "CHI2", &plain, floats),
            (Out::Reads, "NREADS", &plain, none),
        ] {
            planes.push((plane, writer.reserve(name, header, &shape, of)));
            if let (Out::Dq, Some(map)) = (plane, &about.provenance.subarrays)
                && shape == [map.ny, map.nx]
            {
                writer.image("SUBARR_MAP", &map.header(), &shape, Pixels::U16(&map.image()))?;
            }
        }
        Ok(RateFile { writer, primary, planes, nx })
    }

    /// Writes rows that are done.
    pub(super) fn put(&mut self, band: &Band<'_>) -> Result<()> {
        let bytes = band.rows.len() * self.nx * (4 * (self.planes.len() - 1) + 1);
        let _span = profile::span(Work::Write, "write").bytes(bytes as u64);
        let (writer, first) = (&self.writer, band.rows.start * self.nx);
        self.planes.par_iter_mut().try_for_each(|(plane, to)| match plane {
            Out::Dq => writer.put(to, first, Pixels::U32(band.words(*plane))),
            Out::Reads => {
                let bytes: Vec<u8> = band.words(*plane).iter().map(|n| *n as u8).collect();
                writer.put(to, first, Pixels::U8(&bytes))
            }
            _ => writer.put(to, first, Pixels::F32(band.values(*plane))),
        })
    }

    /// Ends the file, all of whose rows were put: `about` as it is now.
    pub(super) fn finish(mut self, path: &Path, about: &About<'_>) -> Result<PathBuf> {
        for (_, plane) in self.planes {
            self.writer.complete(plane)?;
        }
        self.writer.complete_primary(self.primary, &primary(path, about))?;
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::product::write_rate;
    use super::super::provenance::Provenance;
    use super::super::stage1::window::Window;
    use super::*;
    use crate::fits::Fits;

    fn about<'a>(input: &'a Header, provenance: &'a Provenance) -> About<'a> {
        let unit = super::super::product::ELECTRONS;
        About { input, model: "ImagerModel", level: 1, unit, wcs: None, provenance, extra: None }
    }

    #[test]
    fn it_is_the_file_of_the_whole_rate() {
        let (ny, nx, planes) = (5, 4, 7u32);
        let words: Vec<u32> = (0..planes * 20).map(|i| if i >= 100 { i % 90 } else { i << 20 }).collect();
        let dir = tempfile::tempdir().expect("folder");
        let (mut header, provenance) = (Header::new(), Provenance::default());
        header.set("NJUMPS", 0, "");
        let mut window = Window::new(7, 0);
        window.place(&words, 0..20);
        let (bands, whole) = (dir.path().join("bands.fits"), dir.path().join("whole.fits"));
        let mut file = RateFile::begin(&bands, &about(&header, &provenance), (ny, nx)).expect("begin");
        for rows in [0..1, 1..1, 1..4, 4..5] {
            file.put(&window.band(rows, nx)).expect("put");
        }
        let before = header.clone();
        header.set("NJUMPS", 12345, "");
        file.finish(&bands, &about(&header, &provenance)).expect("finish");
        write_rate(&whole, &about(&header, &provenance), &window.into_rate(ny, nx), &[]).expect("write");
        let (a, b) = (Fits::open(&bands).expect("bands"), Fits::open(&whole).expect("whole"));
        assert_eq!(a.primary().integer("NJUMPS"), Some(12345));
        assert_eq!(a.hdus.len(), b.hdus.len());
        for (x, y) in a.hdus.iter().zip(&b.hdus).skip(1) {
            assert_eq!(x.header.to_bytes(), y.header.to_bytes(), "{}", x.name);
            let pixels = |f: &Fits, h| f.u32(h).expect("pixels");
            assert!(x.data_start == y.data_start && pixels(&a, x) == pixels(&b, y), "{}", x.name);
        }
        // More cards than there is room for.
        let file = RateFile::begin(&bands, &about(&before, &provenance), (ny, nx)).expect("begin");
        (0..36).for_each(|i| header.history(&format!("{i}")));
        assert!(file.finish(&bands, &about(&header, &provenance)).is_err());
    }
}
