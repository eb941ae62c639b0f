//! Opening a FITS file: every header, and where each HDU's data lie.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::header::is_end;
use super::{BLOCK, Header, compressed, convert, padded};
use crate::error::{Error, Result};

/// Headers longer than this are taken for garbage (JWST's longest are ~0.2 MB).
const MAX_HEADER: usize = 16 << 20;

/// What an HDU holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HduKind {
    /// An image (the primary HDU too), perhaps without data.
    Image,
    /// A tile-compressed image; `bitpix` and `axes` are those of the image.
    CompressedImage,
    /// A binary table.
    BinTable,
    /// Anything else.
    Other,
}

/// One header-data unit.
#[derive(Debug, Clone)]
pub struct Hdu {
    /// The whole header.
    pub header: Header,
    /// EXTNAME in capitals, `PRIMARY` for an unnamed first HDU, else empty.
    pub name: String,
    /// Position in the file, from 0.
    pub index: usize,
    /// What it holds.
    pub kind: HduKind,
    /// BITPIX of the pixels (8, 16, 32, 64, −32, −64).
    pub bitpix: i64,
    /// Axis lengths in numpy order (slowest first); empty when there are no data.
    pub shape: Vec<usize>,
    /// Byte offset of the data in the file.
    pub data_start: u64,
    /// Bytes of data the header promises, without padding.
    pub data_len: u64,
}

impl Hdu {
    /// BZERO, 0 when absent.
    pub fn bzero(&self) -> f64 {
        self.header.number("BZERO").unwrap_or(0.0)
    }

    /// BSCALE, 1 when absent.
    pub fn bscale(&self) -> f64 {
        self.header.number("BSCALE").unwrap_or(1.0)
    }

    /// BLANK, the integer that stands for no value.
    pub fn blank(&self) -> Option<i64> {
        if self.bitpix > 0 { self.header.integer("BLANK") } else { None }
    }

    /// Number of pixels.
    pub fn len(&self) -> usize {
        if self.shape.is_empty() { 0 } else { self.shape.iter().product() }
    }

    /// Whether there are no pixels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is an image with pixels, compressed or not.
    pub fn is_image(&self) -> bool {
        matches!(self.kind, HduKind::Image | HduKind::CompressedImage) && !self.is_empty()
    }
}

/// An open FITS file: its HDUs, and reading of their data.
#[derive(Debug)]
pub struct Fits {
    /// Where it was opened.
    pub path: PathBuf,
    /// The HDUs in order.
    pub hdus: Vec<Hdu>,
    source: Source,
    len: u64,
}

/// Where its bytes are.
#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl Fits {
    /// Opens `path` and reads every header. Data may be cut short by the end of
    /// the file (see [`Fits::available`]); a header may not.
    pub fn open(path: &Path) -> Result<Fits> {
        // Asked before opening: a pipe would keep us waiting for somebody to write.
        let meta = std::fs::metadata(path).map_err(Error::io("read", path))?;
        if meta.is_dir() {
            return Err(Error::fits(path, "", "is a folder, not a FITS file"));
        }
        if !meta.is_file() {
            return Err(Error::fits(path, "", "is not a regular file"));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::walk(path, Source::File(file), meta.len())
    }

    /// The same of a file in memory; `path` is what errors call it. Compressed tiles
    /// cannot be read from there.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Fits> {
        let len = bytes.len() as u64;
        Self::walk(path, Source::Memory(bytes), len)
    }

    fn walk(path: &Path, source: Source, len: u64) -> Result<Fits> {
        if len == 0 {
            return Err(Error::fits(path, "", "is empty (0 bytes): not a FITS file"));
        }
        let mut fits = Fits { path: path.to_path_buf(), hdus: Vec::new(), source, len };
        let mut at = 0u64;
        while at < len {
            let Some((header, start)) = fits.read_header(at)? else { break };
            let hdu = describe(header, fits.hdus.len(), start, path)?;
            at = start.saturating_add(padded(extent(&hdu)));
            fits.hdus.push(hdu);
        }
        Ok(fits)
    }

    /// The primary header.
    pub fn primary(&self) -> &Header {
        &self.hdus[0].header
    }

    /// The first HDU called `name` (in any case).
    pub fn hdu(&self, name: &str) -> Option<&Hdu> {
        self.hdus.iter().find(|h| h.name.eq_ignore_ascii_case(name))
    }

    /// The first HDU of any of `names`, or a sentence that lists them.
    pub fn require(&self, names: &[&str]) -> Result<&Hdu> {
        names.iter().find_map(|n| self.hdu(n)).ok_or_else(|| {
            let found: Vec<_> = self.hdus.iter().map(|h| h.name.as_str()).collect();
            self.error("", format!("has no HDU {} (found {})", names.join(" or "), found.join(", ")))
        })
    }

    /// An error about `hdu` of this file.
    pub fn error(&self, hdu: &str, message: impl Into<String>) -> Error {
        Error::fits(&self.path, hdu, message)
    }

    /// Bytes of `hdu`'s data that the file really holds.
    pub fn available(&self, hdu: &Hdu) -> u64 {
        hdu.data_len.min(self.len.saturating_sub(hdu.data_start))
    }

    /// Bytes that its headers promise and the file does not hold (yet).
    pub fn missing(&self) -> u64 {
        let end = |h: &Hdu| h.data_start.saturating_add(extent(h));
        self.hdus.iter().map(end).max().unwrap_or(0).saturating_sub(self.len)
    }

    /// Reads raw data bytes of `hdu` from byte `offset` on, as they lie on disk.
    pub fn read_raw(&self, hdu: &Hdu, offset: u64, into: &mut [u8]) -> Result<()> {
        if offset + into.len() as u64 > self.available(hdu) {
            return Err(self.cut_short(hdu));
        }
        self.read_at(hdu.data_start + offset, into)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<()> {
        match &self.source {
            Source::File(file) => read_at(file, at, into),
            Source::Memory(bytes) => {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
                from.map(|from| into.copy_from_slice(from))
                    .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
        }
        .map_err(Error::io("read", &self.path))
    }

    /// Fills `into` from byte `at` of the file on, as far as the file reaches; how far.
    pub(super) fn read_at_most(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let n = (into.len() as u64).min(self.len.saturating_sub(at)) as usize;
        self.read_at(at, &mut into[..n])?;
        Ok(n)
    }

    /// Pixels `[first, first + n)` (in file order) as f32, BSCALE and BZERO applied.
    pub fn pixels_f32(&self, hdu: &Hdu, first: usize, n: usize) -> Result<Vec<f32>> {
        self.check(hdu, first, n)?;
        let mut out = vec![0f32; n];
        self.read_f32(hdu, first, &mut out)?;
        Ok(out)
    }

    /// Fills `into` with the pixels from `first` on, as [`Fits::pixels_f32`] gives them.
    pub fn read_f32(&self, hdu: &Hdu, first: usize, into: &mut [f32]) -> Result<()> {
        self.check(hdu, first, into.len())?;
        if hdu.kind == HduKind::CompressedImage {
            into.copy_from_slice(&compressed::pixels::<f32>(self, hdu, first, into.len())?);
            return Ok(());
        }
        self.convert_into(hdu, first, into, convert::to_f32)
    }

    /// Like [`Fits::pixels_f32`], as f64.
    pub fn pixels_f64(&self, hdu: &Hdu, first: usize, n: usize) -> Result<Vec<f64>> {
        self.check(hdu, first, n)?;
        if hdu.kind == HduKind::CompressedImage {
            return compressed::pixels(self, hdu, first, n);
        }
        let mut out = vec![0f64; n];
        self.convert_into(hdu, first, &mut out, convert::to_f64)?;
        Ok(out)
    }

    /// All pixels as f32.
    pub fn f32(&self, hdu: &Hdu) -> Result<Vec<f32>> {
        self.pixels_f32(hdu, 0, hdu.len())
    }

    /// All pixels as f64.
    pub fn f64(&self, hdu: &Hdu) -> Result<Vec<f64>> {
        self.pixels_f64(hdu, 0, hdu.len())
    }

    /// All pixels as u32 (data quality); negative or fractional values are refused
    /// by truncation to the low 32 bits.
    pub fn u32(&self, hdu: &Hdu) -> Result<Vec<u32>> {
        self.pixels_u32(hdu, 0, hdu.len())
    }

    /// Like [`Fits::pixels_f32`], as u32 (see [`Fits::u32`]).
    pub fn pixels_u32(&self, hdu: &Hdu, first: usize, n: usize) -> Result<Vec<u32>> {
        self.check(hdu, first, n)?;
        let mut out = vec![0u32; n];
        self.read_u32(hdu, first, &mut out)?;
        Ok(out)
    }

    /// Fills `into` with the pixels from `first` on, as [`Fits::pixels_u32`] gives them.
    pub fn read_u32(&self, hdu: &Hdu, first: usize, into: &mut [u32]) -> Result<()> {
        self.check(hdu, first, into.len())?;
        if hdu.kind == HduKind::CompressedImage {
            let wide: Vec<f64> = compressed::pixels(self, hdu, first, into.len())?;
            into.iter_mut().zip(wide).for_each(|(to, v)| *to = v as i64 as u32);
            return Ok(());
        }
        self.convert_into(hdu, first, into, convert::to_u32)
    }

    /// Whether pixels `[first, first + n)` can be in the file at all, before memory
    /// is taken for them.
    pub(crate) fn check(&self, hdu: &Hdu, first: usize, n: usize) -> Result<()> {
        if first.checked_add(n).is_none_or(|end| end > hdu.len()) {
            return Err(self.error(&hdu.name, "has fewer pixels than were asked for"));
        }
        let width = hdu.bitpix.unsigned_abs() / 8;
        if hdu.kind == HduKind::CompressedImage {
            // No tile compression of FITS gains more than this.
            const LIMIT: u64 = 20_000;
            if hdu.len() as u64 / LIMIT * width > self.len {
                return Err(self.error(&hdu.name, "ZNAXISn promise more pixels than the file can hold"));
            }
        } else if (first + n) as u64 * width > self.available(hdu) {
            return Err(self.cut_short(hdu));
        }
        Ok(())
    }

    fn cut_short(&self, hdu: &Hdu) -> Error {
        let (here, all) = (self.available(hdu), hdu.data_len);
        self.error(
            &hdu.name,
            format!("is cut short: {here} of {all} data bytes are in the file; copy it again"),
        )
    }

    /// Reads the header at `at`; `None` where only padding or junk follows the last HDU.
    fn read_header(&self, at: u64) -> Result<Option<(Header, u64)>> {
        let (path, index) = (&self.path, self.hdus.len());
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let old = bytes.len();
            let got = BLOCK.min(usize::try_from(self.len - at).unwrap_or(usize::MAX) - old);
            bytes.resize(old + got, 0);
            self.read_at(at + old as u64, &mut bytes[old..])?;
            if old == 0 {
                let expected: &[u8] = if index == 0 { b"SIMPLE  =" } else { b"XTENSION=" };
                if !bytes.starts_with(expected) {
                    return if index == 0 { Err(Error::fits(path, "", not_fits(&bytes))) } else { Ok(None) };
                }
            }
            // Parsed once it is whole: block after block would take a minute where there is no END.
            let ends = bytes[old..].chunks_exact(80).any(is_end);
            if ends && let Some((header, used)) = Header::parse(&bytes) {
                return Ok(Some((header, at + padded(used as u64))));
            }
            if got < BLOCK || bytes.len() > MAX_HEADER {
                let hdu = if index == 0 { "PRIMARY".to_owned() } else { format!("HDU {index}") };
                return Err(Error::fits(
                    path,
                    hdu,
                    "the header has no END card: the file is truncated or damaged",
                ));
            }
        }
    }

    fn convert_into<T: Send>(
        &self,
        hdu: &Hdu,
        first: usize,
        out: &mut [T],
        convert: fn(&convert::Format, &[u8], &mut [T]),
    ) -> Result<()> {
        use rayon::prelude::*;
        let format = convert::Format {
            bitpix: hdu.bitpix,
            bscale: hdu.bscale(),
            bzero: hdu.bzero(),
            blank: hdu.blank(),
        };
        let width = hdu.bitpix.unsigned_abs() as usize / 8;
        const PIXELS: usize = 1 << 16;
        out.par_chunks_mut(PIXELS).enumerate().try_for_each(|(i, part)| {
            with_scratch(part.len() * width, |bytes| {
                self.read_raw(hdu, ((first + i * PIXELS) * width) as u64, bytes)?;
                convert(&format, bytes, part);
                Ok(())
            })
        })
    }
}

/// Runs `work` with so many bytes of memory, of any contents, that each thread keeps: to
/// have it anew and at zero for every piece of a file takes as long as to copy the piece.
/// `work` must not come back here.
pub(super) fn with_scratch<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < bytes {
            scratch.resize(bytes, 0);
        }
        work(&mut scratch[..bytes])
    })
}

#[cfg(unix)]
fn read_at(file: &File, at: u64, into: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut at: u64, mut into: &mut [u8]) -> std::io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                at += n as u64;
                into = &mut into[n..];
            }
        }
    }
    Ok(())
}

/// Why a file that does not begin as FITS files do is none.
fn not_fits(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x1f, 0x8b, ..] => "is compressed as a whole: gunzip it first",
        b if b.starts_with(b"version https://git-lfs") => {
            "is a Git LFS pointer: fetch the file itself (git lfs pull)"
        }
        _ => "is not a FITS file (it does not begin with SIMPLE)",
    }
}

fn describe(header: Header, index: usize, data_start: u64, path: &Path) -> Result<Hdu> {
    let name = match header.text("EXTNAME") {
        Some(n) if !n.is_empty() => n.to_ascii_uppercase(),
        _ if index == 0 => "PRIMARY".to_owned(),
        _ => String::new(),
    };
    let label = if name.is_empty() { format!("HDU {index}") } else { name.clone() };
    let xtension = header.text("XTENSION").unwrap_or_else(|| "IMAGE".into());
    let zimage = xtension == "BINTABLE" && header.logical("ZIMAGE") == Some(true);
    let kind = match xtension.as_str() {
        "IMAGE" | "IUEIMAGE" => HduKind::Image,
        "BINTABLE" if zimage => HduKind::CompressedImage,
        "BINTABLE" | "A3DTABLE" => HduKind::BinTable,
        _ => HduKind::Other,
    };
    let (raw_bitpix, raw_shape) = geometry(&header, "", path, &label)?;
    let (bitpix, shape) =
        if zimage { geometry(&header, "Z", path, &label)? } else { (raw_bitpix, raw_shape.clone()) };
    let bytes = |bitpix: i64, shape: &[usize]| {
        let pixels = if shape.is_empty() {
            Some(0)
        } else {
            shape.iter().try_fold(1u64, |n, &a| n.checked_mul(a as u64))
        };
        pixels.and_then(|n| n.checked_mul(bitpix.unsigned_abs() / 8)).filter(|&n| n < 1 << 60)
    };
    let too_large = || Error::fits(path, label.clone(), "NAXISn multiply to an impossible size");
    bytes(bitpix, &shape).ok_or_else(too_large)?;
    let data_len = bytes(raw_bitpix, &raw_shape).ok_or_else(too_large)?;
    Ok(Hdu { header, name, index, kind, bitpix, shape, data_start, data_len })
}

/// Bytes from an HDU's data start to its end, heap included, without padding.
fn extent(hdu: &Hdu) -> u64 {
    let pcount = hdu.header.integer("PCOUNT").unwrap_or(0).clamp(0, 1 << 60) as u64;
    if hdu.data_len == 0 && pcount == 0 { 0 } else { hdu.data_len.saturating_add(pcount) }
}

/// BITPIX and the axes (numpy order) from `{prefix}BITPIX`, `{prefix}NAXISn`.
fn geometry(header: &Header, prefix: &str, path: &Path, label: &str) -> Result<(i64, Vec<usize>)> {
    let need = |key: String| {
        header
            .integer(&key)
            .ok_or_else(|| Error::fits(path, label, format!("{key} is missing or not an integer")))
    };
    let bitpix = need(format!("{prefix}BITPIX"))?;
    if !matches!(bitpix, 8 | 16 | 32 | 64 | -32 | -64) {
        return Err(Error::fits(path, label, format!("{prefix}BITPIX = {bitpix} is not a FITS pixel type")));
    }
    let naxis = need(format!("{prefix}NAXIS"))?;
    if !(0..=999).contains(&naxis) {
        return Err(Error::fits(path, label, format!("{prefix}NAXIS = {naxis} is out of range (0 to 999)")));
    }
    let mut shape = Vec::new();
    for n in (1..=naxis).rev() {
        let key = format!("{prefix}NAXIS{n}");
        let length = need(key.clone())?;
        let length = usize::try_from(length)
            .map_err(|_| Error::fits(path, label, format!("{key} = {length} is negative")))?;
        shape.push(length);
    }
    Ok((bitpix, shape))
}
