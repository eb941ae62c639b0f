//! Writing FITS files: beside the final name, checksummed, synced, renamed.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::checksum::{accumulate, combine, encode};
use super::read::with_scratch;
use super::{BLOCK, Header, padded};
use crate::error::{Error, Result};
use crate::profile::{self, Work};
use crate::simd::widest;

/// Pixels of an image HDU, in numpy (C) order.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// Bytes.
    U8(&'a [u8]),
    /// Signed 16-bit.
    I16(&'a [i16]),
    /// Unsigned 16-bit (BZERO 32768).
    U16(&'a [u16]),
    /// Signed 32-bit.
    I32(&'a [i32]),
    /// Unsigned 32-bit (BZERO 2³¹).
    U32(&'a [u32]),
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Bytes that are already as FITS wants them, with their BITPIX.
    Raw(i64, &'a [u8]),
}

impl Pixels<'_> {
    fn bitpix(&self) -> i64 {
        match self {
            Pixels::U8(_) => 8,
            Pixels::I16(_) | Pixels::U16(_) => 16,
            Pixels::I32(_) | Pixels::U32(_) => 32,
            Pixels::F32(_) => -32,
            Pixels::F64(_) => -64,
            Pixels::Raw(bitpix, _) => *bitpix,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Pixels::U8(v) => v.len(),
            Pixels::I16(v) => v.len() * 2,
            Pixels::U16(v) => v.len() * 2,
            Pixels::I32(v) => v.len() * 4,
            Pixels::U32(v) => v.len() * 4,
            Pixels::F32(v) => v.len() * 4,
            Pixels::F64(v) => v.len() * 8,
            Pixels::Raw(_, v) => v.len(),
        }
    }
}

widest! {
    /// Big-endian bytes `[at, at + out.len())` of the pixels; both multiples of 8.
    fn pack(pixels: &Pixels<'_>, at: usize, out: &mut [u8]) = pack_of
}

#[inline(always)]
fn pack_of(pixels: &Pixels<'_>, at: usize, out: &mut [u8]) {
    macro_rules! pack {
        ($values:expr, $width:literal, $f:expr) => {
            for (o, v) in out.as_chunks_mut::<$width>().0.iter_mut().zip(&$values[at / $width..]) {
                *o = $f(*v).to_be_bytes();
            }
        };
    }
    match pixels {
        Pixels::U8(v) | Pixels::Raw(_, v) => out.copy_from_slice(&v[at..at + out.len()]),
        Pixels::I16(v) => pack!(v, 2, |x: i16| x),
        Pixels::U16(v) => pack!(v, 2, |x: u16| x ^ 0x8000),
        Pixels::I32(v) => pack!(v, 4, |x: i32| x),
        Pixels::U32(v) => pack!(v, 4, |x: u32| x ^ 0x8000_0000),
        Pixels::F32(v) => pack!(v, 4, |x: f32| x.to_bits()),
        Pixels::F64(v) => pack!(v, 8, |x: f64| x.to_bits()),
    }
}

/// An image that is written part by part.
pub struct Parts<'a> {
    writer: &'a FitsWriter,
    image: &'a mut Reserved,
}

impl Parts<'_> {
    /// Writes `pixels` from pixel `first` of the image on.
    pub fn put(&mut self, first: usize, pixels: Pixels<'_>) -> Result<()> {
        self.writer.put(self.image, first, pixels)
    }
}

/// An HDU whose place in the file is settled, and whose pixels are still to come.
#[derive(Debug)]
pub struct Reserved {
    /// Which of the file's HDUs.
    index: usize,
    cards: Header,
    header_at: u64,
    data_at: u64,
    /// Of data, without padding.
    bytes: usize,
    /// Of the data so far.
    sum: u32,
}

/// A FITS file being written: `<name>.part` until [`FitsWriter::finish`], which
/// syncs it and gives it its name. Dropped before that, it removes what it wrote.
#[derive(Debug)]
pub struct FitsWriter {
    path: PathBuf,
    part: PathBuf,
    file: Option<File>,
    at: u64,
    /// Of the HDUs written so far.
    headers: Vec<Header>,
}

impl FitsWriter {
    /// Begins `path`; its folder is created when missing.
    pub fn create(path: &Path) -> Result<FitsWriter> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&part)
            .map_err(Error::io("create", &part))?;
        Ok(FitsWriter { path: path.to_path_buf(), part, file: Some(file), at: 0, headers: Vec::new() })
    }

    /// The headers of the HDUs written so far.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Appends an HDU without data; the first one written is the primary HDU.
    pub fn empty(&mut self, name: &str, header: &Header) -> Result<()> {
        self.image(name, header, &[], Pixels::U8(&[]))
    }

    /// Appends an image HDU. `shape` is in numpy order (slowest axis first);
    /// `header` holds the keywords beyond the mandatory ones, which are written
    /// from `shape` and `pixels` (any in `header` are ignored).
    pub fn image(&mut self, name: &str, header: &Header, shape: &[usize], pixels: Pixels<'_>) -> Result<()> {
        let (mandatory, scale) = image_cards(shape, pixels);
        let xtension = if self.headers.is_empty() { None } else { Some("IMAGE") };
        self.hdu(xtension, name, header, mandatory, scale, pixels)
    }

    /// Appends any HDU: mandatory keywords after XTENSION in `mandatory`, the
    /// structural ones that may follow EXTNAME in `structure`.
    pub(super) fn hdu(
        &mut self,
        xtension: Option<&str>,
        name: &str,
        header: &Header,
        mandatory: Header,
        structure: Header,
        pixels: Pixels<'_>,
    ) -> Result<()> {
        let mut image = self.place(framed(xtension, name, header, mandatory, structure), pixels.bytes());
        self.put(&mut image, 0, pixels)?;
        self.complete(image)
    }

    /// Appends an unsigned 16-bit image HDU plane by plane (a plane is the two
    /// fastest axes), so that a long ramp never has to be in memory: `fill` is
    /// called with each plane's number, in order, and its pixels to set.
    pub fn image_u16_by_plane(
        &mut self,
        name: &str,
        header: &Header,
        shape: &[usize],
        mut fill: impl FnMut(usize, &mut [u16]) -> Result<()>,
    ) -> Result<()> {
        let plane: usize = shape.iter().rev().take(2).product();
        let planes: usize = shape.iter().rev().skip(2).product();
        self.image_in_parts(name, header, shape, Pixels::U16(&[]), |parts| {
            let mut pixels = vec![0; plane];
            for i in 0..planes {
                fill(i, &mut pixels)?;
                parts.put(plane * i, Pixels::U16(&pixels))?;
            }
            Ok(())
        })
    }

    /// Appends an image whose pixels come in parts: `write` puts them into the
    /// [`Parts`] it is given, each pixel once. `of` tells the type (its pixels are
    /// not looked at).
    pub fn image_in_parts(
        &mut self,
        name: &str,
        header: &Header,
        shape: &[usize],
        of: Pixels<'_>,
        write: impl FnOnce(&mut Parts<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut image = self.reserve(name, header, shape, of);
        write(&mut Parts { writer: self, image: &mut image })?;
        self.complete(image)
    }

    /// Settles the place of an image whose pixels come later, and of several images at a
    /// time: each is [`put`](FitsWriter::put) piece by piece, each pixel once, and
    /// [completed](FitsWriter::complete). `of` tells the type.
    pub fn reserve(&mut self, name: &str, header: &Header, shape: &[usize], of: Pixels<'_>) -> Reserved {
        let (mandatory, scale) = image_cards(shape, of);
        let width = of.bitpix().unsigned_abs() as usize / 8;
        // No axes: no data.
        let pixels: usize = if shape.is_empty() { 0 } else { shape.iter().product() };
        let xtension = if self.headers.is_empty() { None } else { Some("IMAGE") };
        self.place(framed(xtension, name, header, mandatory, scale), width * pixels)
    }

    /// Writes `pixels` from pixel `first` of `image` on.
    pub fn put(&self, image: &mut Reserved, first: usize, pixels: Pixels<'_>) -> Result<()> {
        let _span = profile::span(Work::Write, "write").bytes(pixels.bytes() as u64);
        let offset = first as u64 * (pixels.bitpix().unsigned_abs() / 8);
        let part = self.write_bytes(image.data_at + offset, pixels)?;
        // A part may begin within a 32-bit word: its ones-complement sum turns with it.
        image.sum = combine(image.sum, part.rotate_right(8 * (offset % 4) as u32));
        Ok(())
    }

    /// Writes the header of an image, all of whose pixels were put.
    pub fn complete(&mut self, image: Reserved) -> Result<()> {
        let Reserved { index, mut cards, header_at, data_at, bytes, sum } = image;
        self.pad(data_at, bytes)?;
        cards.set("DATASUM", sum.to_string(), "data checksum");
        let header_sum = accumulate(0, &cards.to_bytes());
        cards.set("CHECKSUM", encode(combine(header_sum, sum)), "HDU checksum");
        self.put_bytes(header_at, &cards.to_bytes())?;
        self.headers[index] = cards;
        Ok(())
    }

    /// Completes the primary HDU, which has no data, with another `header` than it was
    /// reserved with: as many cards, other values.
    pub fn complete_primary(&mut self, mut primary: Reserved, header: &Header) -> Result<()> {
        let (mandatory, scale) = image_cards(&[], Pixels::U8(&[]));
        let cards = framed(None, "PRIMARY", header, mandatory, scale);
        if cards.to_bytes().len() as u64 != primary.data_at - primary.header_at {
            let message = "its header does not fit the place that was left for it";
            return Err(Error::fits(&self.path, "PRIMARY", message));
        }
        primary.cards = cards;
        self.complete(primary)
    }

    /// The next place in the file, for an HDU with these `cards` and so many bytes of data.
    fn place(&mut self, cards: Header, bytes: usize) -> Reserved {
        let header_at = self.at;
        let data_at = header_at + cards.to_bytes().len() as u64;
        self.at = data_at + padded(bytes as u64);
        self.headers.push(cards.clone());
        Reserved { index: self.headers.len() - 1, cards, header_at, data_at, bytes, sum: 0 }
    }

    /// Zeros from the end of `total` bytes of data at `at` to the end of its block.
    fn pad(&self, at: u64, total: usize) -> Result<()> {
        let padding = padded(total as u64) as usize - total;
        if padding > 0 {
            self.put_bytes(at + total as u64, &[0; BLOCK][..padding])?;
        }
        Ok(())
    }

    /// Writes pixels and returns the sum of their bytes as if they began a word.
    fn write_bytes(&self, at: u64, pixels: Pixels<'_>) -> Result<u32> {
        const PIECE: usize = 1 << 18;
        let total = pixels.bytes();
        (0..total.div_ceil(PIECE))
            .into_par_iter()
            .map(|i| {
                let start = i * PIECE;
                with_scratch(PIECE.min(total - start), |buffer| {
                    pack(&pixels, start, buffer);
                    self.put_bytes(at + start as u64, buffer)?;
                    Ok(accumulate(0, buffer))
                })
            })
            .try_reduce(|| 0, |a, b| Ok(combine(a, b)))
    }

    pub(super) fn put_bytes(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        write_at(file, at, bytes).map_err(Error::io("write", &self.part))
    }

    /// Syncs the file to disk and gives it its final name.
    pub fn finish(mut self) -> Result<PathBuf> {
        if let Some(file) = self.file.take() {
            let span = profile::span(Work::Sync, "sync");
            file.sync_all().map_err(Error::io("sync", &self.part))?;
            drop(span);
            drop(file);
            if let Err(e) = std::fs::rename(&self.part, &self.path) {
                let _ = std::fs::remove_file(&self.part);
                return Err(Error::io("rename to", &self.path)(e));
            }
        }
        Ok(self.path.clone())
    }
}

impl Drop for FitsWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut at: u64, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        at += n as u64;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// All cards of an HDU, with room for its checksums: those that FITS wants in their order,
/// then those of `header` but for what the writer sets itself.
fn framed(
    xtension: Option<&str>,
    name: &str,
    header: &Header,
    mandatory: Header,
    structure: Header,
) -> Header {
    let mut cards = header.clone();
    cards.retain(|c| !is_structural(&c.keyword));
    let mut front = Header::new();
    match xtension {
        None => front.set("SIMPLE", true, "conforms to FITS 4.0"),
        Some(kind) => front.set("XTENSION", kind, ""),
    }
    mandatory.cards().iter().for_each(|c| front.push(c.clone()));
    match xtension {
        None => front.set("EXTEND", true, ""),
        Some(_) => {
            front.set_default("PCOUNT", 0, "");
            front.set_default("GCOUNT", 1, "");
            front.set("EXTNAME", name, "");
        }
    }
    structure.cards().iter().for_each(|c| front.push(c.clone()));
    cards.prepend(front);
    cards.set("CHECKSUM", "0".repeat(16), "HDU checksum");
    cards.set("DATASUM", format!("{:<10}", u32::MAX), "data checksum");
    cards
}

/// An image's mandatory keywords, and those of its scaling.
fn image_cards(shape: &[usize], pixels: Pixels<'_>) -> (Header, Header) {
    let mut mandatory = Header::new();
    mandatory.set("BITPIX", pixels.bitpix(), "bits per pixel");
    mandatory.set("NAXIS", shape.len(), "number of axes");
    for (i, length) in shape.iter().rev().enumerate() {
        mandatory.set(&format!("NAXIS{}", i + 1), *length, "");
    }
    let mut scale = Header::new();
    if let Some(bzero) = match pixels {
        Pixels::U16(_) => Some(32768i64),
        Pixels::U32(_) => Some(1 << 31),
        _ => None,
    } {
        scale.set("BZERO", bzero, "unsigned integers");
        scale.set("BSCALE", 1, "");
    }
    (mandatory, scale)
}

/// Keywords that the writer sets itself.
fn is_structural(keyword: &str) -> bool {
    const EXACT: [&str; 17] = [
        "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "TFIELDS", "THEAP",
        "EXTNAME", "BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM", "END",
    ];
    const NUMBERED: [&str; 10] =
        ["NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TSCAL", "TZERO", "TNULL", "TDISP", "TBCOL"];
    EXACT.contains(&keyword)
        || NUMBERED.iter().any(|p| {
            keyword.strip_prefix(p).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
}

#[cfg(test)]
mod tests {
    use super::super::Fits;
    use super::*;

    #[test]
    fn images_read_back_as_written() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.fits");
        let mut h = Header::new();
        h.set("OBJECT", "M 31", "");
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        let f: Vec<f32> = (0..12).map(|i| i as f32 * 0.5).collect();
        w.image("DATA", &Header::new(), &[3, 4], Pixels::F32(&f)).expect("data");
        w.image("DQ", &Header::new(), &[3, 4], Pixels::U32(&[1 << 31; 12])).expect("dq");
        let u: Vec<u16> = (0..5).map(|i| i * 16000).collect();
        w.image("RAW", &Header::new(), &[5], Pixels::U16(&u)).expect("raw");
        assert!(!path.exists());
        w.finish().expect("finish");
        let r = Fits::open(&path).expect("open");
        assert_eq!(r.primary().text("OBJECT").as_deref(), Some("M 31"));
        assert_eq!(r.f32(r.hdu("DATA").expect("DATA")).expect("f32"), f);
        assert_eq!(r.u32(r.hdu("DQ").expect("DQ")).expect("u32"), vec![1 << 31; 12]);
        let raw = r.f32(r.hdu("RAW").expect("RAW")).expect("u16");
        assert!(raw.iter().zip(&u).all(|(a, b)| *a == f32::from(*b)));
    }

    #[test]
    fn plane_by_plane_is_the_same_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let shape = [2, 3, 3, 5];
        let pixels: Vec<u16> = (0..90u32).map(|i| (i * 7919 % 65536) as u16).collect();
        let mut files = Vec::new();
        for streamed in [false, true] {
            let path = dir.path().join(format!("{streamed}.fits"));
            let mut w = FitsWriter::create(&path).expect("create");
            w.empty("PRIMARY", &Header::new()).expect("primary");
            if streamed {
                w.image_u16_by_plane("DATA", &Header::new(), &shape, |i, out| {
                    out.copy_from_slice(&pixels[15 * i..15 * (i + 1)]);
                    Ok(())
                })
                .expect("streamed");
            } else {
                w.image("DATA", &Header::new(), &shape, Pixels::U16(&pixels)).expect("whole");
            }
            files.push(std::fs::read(w.finish().expect("finish")).expect("read"));
        }
        assert!(files[0] == files[1]);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.fits");
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &Header::new()).expect("primary");
        drop(w);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
