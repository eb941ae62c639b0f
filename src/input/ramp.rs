//! An opened ramp exposure: what it holds, and its pixels row chunk by row chunk.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::headers::{complete, merged};
use super::layout::{Family, Layout, recognise, squeezed};
use super::pixels::{Encoding, Stored};
use super::{OpenOptions, by, label, reads, times};
use crate::datamodel::registry::names;
use crate::datamodel::{Meta, Unit, dq};
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, HduKind, Header};
use crate::profile::{self, Work};

/// Headers that promise more reads than this are damaged.
const MOST_READS: usize = 1 << 20;

/// A ramp exposure in any layout. Opening reads headers and small planes; pixels
/// come from [`Ramp::read_rows`], which several threads may call at once.
#[derive(Debug)]
pub struct Ramp {
    /// The file (the first one of a set of one file a read).
    pub path: PathBuf,
    /// What products inherit: PRIMARY, with the science HDU's own keywords laid
    /// under it. CRPIX is 1-based whatever the layout.
    pub header: Header,
    /// The header's facts.
    pub meta: Meta,
    /// Ramps (reset to reset) that are whole in the file.
    pub ramps: usize,
    /// Reads (or averaged resultants) a ramp.
    pub reads: usize,
    /// Rows.
    pub ny: usize,
    /// Columns.
    pub nx: usize,
    /// (ramps, reads): mean time of each read since its ramp's reset, s; strictly
    /// increasing within a ramp.
    pub times: Vec<f64>,
    /// (ramps, reads): frames averaged in each read, ≥ 1.
    pub nsample: Vec<u16>,
    /// Seconds between the frames averaged in a read; 0 where all `nsample` are 1.
    pub frame_time: f64,
    /// What the bytes of a chunk mean.
    pub encoding: Encoding,
    /// (ny, nx): flags that hold for every read.
    pub pixeldq: Option<Vec<u32>>,
    /// (ny, nx): average dark current, DN/s, where the file has one.
    pub average_dark: Option<Vec<f32>>,
    /// Whether [`Ramp::groupdq_rows`] gives flags of single reads.
    pub has_groupdq: bool,
    /// A first frame a ramp, as a ramp of one read each (JWST's ZEROFRAME).
    pub zeroframe: Option<Box<Ramp>>,
    /// What was mended, as sentences.
    pub warnings: Vec<String>,
    /// (ramps, reads): reads that no pixel may use; empty where there are none.
    pub(super) unused: Vec<bool>,
    pub(super) source: Source,
}

/// Where a ramp's pixels are.
#[derive(Debug)]
pub(super) enum Source {
    /// In one HDU.
    Array(Box<Array>),
    /// In one file a read, in order.
    Reads(Vec<reads::ReadFile>),
}

/// A ramp in one HDU.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) fits: Fits,
    hdu: Hdu,
    stored: Stored,
    /// As the header has it, whether or not the file holds it all.
    pub(super) layout: Layout,
    groupdq: Option<Hdu>,
    /// (ramps, reads): which of the file's reads each one is.
    pub(super) planes: Vec<usize>,
}

impl Array {
    /// Whether the ramp is all reads of the file.
    fn whole(&self) -> bool {
        self.planes.len() == self.layout.ramps * self.layout.reads
    }

    fn liger(&self) -> bool {
        self.layout.family == Family::Liger
    }
}

/// Distances in pixels (not bytes) within a chunk buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strides {
    /// From a ramp to the next.
    pub ramp: usize,
    /// From a read to the next.
    pub read: usize,
    /// From a row to the next.
    pub y: usize,
    /// From a column to the next.
    pub x: usize,
}

/// Opens the ramp in `hdu`.
pub(super) fn open(fits: Fits, hdu: Hdu, options: &OpenOptions<'_>) -> Result<Ramp> {
    let mut warnings = Vec::new();
    let layout = recognise(&fits, &hdu)?;
    if hdu.shape.len() > 4 {
        let (label, shape) = (label(&hdu), by(&hdu.shape));
        warnings.push(format!("{label} is {shape}: its leading axes of length 1 are passed over"));
    }
    let mut header = merged(&fits, &hdu, layout.family == Family::Liger);
    complete(&mut header, &mut warnings);
    if layout.family == Family::Liger && is_ligers_own(&fits, &hdu) && !header.has("GAIN") {
        header.set("GAIN", 1.0, "liger_iris_pipeline's ramps are electrons");
        warnings.push(
            "liger_iris_pipeline wrote it, which takes counts for electrons: GAIN = 1 e-/DN, unless there is a gain \
             reference"
                .into(),
        );
    }
    let (ramps, reads) = whole_reads(&fits, &hdu, &layout, &mut warnings)?;
    warnings.extend(wrong_counts(&header, &layout).into_iter().map(|(_, sentence)| sentence));
    let all = times::of_ramp(&fits, &header, &layout, options, &mut warnings)?;
    let kept = |i: &usize| i % layout.reads < reads && i / layout.reads < ramps;
    let kept: Vec<usize> = (0..layout.ramps * layout.reads).filter(kept).collect();
    if reads < layout.reads && layout.family == Family::Native && header.has("EXPTIME") {
        header.set("EXPTIME", all.times[reads - 1], "[s] a ramp, reset to the last read that is whole");
    }
    let stored = Stored::of(&hdu);
    let (mut pixeldq, groupdq) = flags(&fits, &hdu, &layout, &mut warnings)?;
    if let Some(reads) = groupdq.as_ref().filter(|h| layout.family == Family::Liger && h.bitpix != 8) {
        pixeldq = pixeldq.or(flags_of_pixels(&fits, reads, &layout)?);
    }
    let average_dark = average_dark(&fits, &layout, &mut warnings)?;
    let zeroframe = zeroframe(&fits, &header, &layout, ramps, &all, &mut warnings)?;
    Ok(Ramp {
        path: fits.path.clone(),
        meta: Meta::from_header(&header),
        header,
        ramps,
        reads,
        ny: layout.ny,
        nx: layout.nx,
        times: kept.iter().map(|&i| all.times[i]).collect(),
        nsample: kept.iter().map(|&i| all.nsample[i]).collect(),
        frame_time: all.frame_time,
        encoding: stored.encoding,
        pixeldq,
        average_dark,
        has_groupdq: groupdq.is_some(),
        zeroframe: zeroframe.map(Box::new),
        warnings,
        unused: Vec::new(),
        source: Source::Array(Box::new(Array { fits, hdu, stored, layout, groupdq, planes: kept })),
    })
}

/// ZEROFRAME (ramps, ny, nx): the first frame of each ramp's first read, which JWST
/// sends beside averages. A ramp of one read a ramp.
fn zeroframe(
    fits: &Fits,
    header: &Header,
    layout: &Layout,
    ramps: usize,
    times: &times::Times,
    warnings: &mut Vec<String>,
) -> Result<Option<Ramp>> {
    let Some(hdu) = fits.hdu("ZEROFRAME").filter(|h| h.is_image()) else { return Ok(None) };
    let shape = [layout.ramps, layout.ny, layout.nx];
    if squeezed(hdu) != shape && (layout.ramps, hdu.shape.as_slice()) != (1, &shape[1..]) {
        let message = format!("is {} but must be {} (ramps x rows x columns): ", by(&hdu.shape), by(&shape));
        return Err(fits.error("ZEROFRAME", message + "correct or remove it"));
    }
    if fits.available(hdu) < hdu.data_len {
        warnings.push("ZEROFRAME is cut off by the end of the file: ignored".into());
        return Ok(None);
    }
    let (stored, hdu) = (Stored::of(hdu), hdu.clone());
    let first = |r: usize| {
        // An average's first frame is taken half its frames before its middle.
        let k = r * layout.reads;
        times.times[k] - times.frame_time * (f64::from(times.nsample[k]) - 1.0) / 2.0
    };
    let layout = Layout { family: Family::Native, reads: 1, ..*layout };
    Ok(Some(Ramp {
        path: fits.path.clone(),
        meta: Meta::from_header(header),
        header: header.clone(),
        ramps,
        reads: 1,
        ny: layout.ny,
        nx: layout.nx,
        times: (0..ramps).map(first).collect(),
        nsample: vec![1; ramps],
        frame_time: 0.0,
        encoding: stored.encoding,
        pixeldq: None,
        average_dark: None,
        has_groupdq: false,
        zeroframe: None,
        warnings: Vec::new(),
        unused: Vec::new(),
        source: Source::Array(Box::new(Array {
            fits: Fits::open(&fits.path)?,
            hdu,
            stored,
            layout,
            groupdq: None,
            planes: (0..ramps).collect(),
        })),
    }))
}

/// How many (ramps, reads a ramp) a file that may be cut short really holds:
/// either the ramps that are whole, or the reads that all ramps have, whichever is
/// more.
fn whole_reads(
    fits: &Fits,
    hdu: &Hdu,
    layout: &Layout,
    warnings: &mut Vec<String>,
) -> Result<(usize, usize)> {
    let all = (layout.ramps, layout.reads);
    let here = fits.available(hdu);
    let total = layout.ramps * layout.reads;
    if total > MOST_READS {
        let message = format!("promises {total} reads, which no exposure has: the header is damaged");
        return Err(fits.error(&label(hdu), message));
    }
    if hdu.kind == HduKind::CompressedImage {
        fits.check(hdu, 0, hdu.len())?;
    }
    if here >= hdu.data_len {
        return Ok(all);
    }
    let name = label(hdu);
    if hdu.kind != HduKind::Image || layout.family == Family::Liger {
        return Err(fits.error(
            &name,
            format!(
                "is cut short ({here} of {} data bytes): the file is truncated; copy it again",
                hdu.data_len
            ),
        ));
    }
    let plane = (layout.ny * layout.nx) as u64 * hdu.bitpix.unsigned_abs() / 8;
    let whole = usize::try_from(here / plane).unwrap_or(total).min(total);
    if whole == 0 {
        let message =
            format!("is cut short before its first read ends ({here} data bytes); copy the file again");
        return Err(fits.error(&name, message));
    }
    let by_ramps = (whole / layout.reads, layout.reads);
    let by_reads = (layout.ramps, whole.saturating_sub((layout.ramps - 1) * layout.reads));
    let first_ramp = (1, whole.min(layout.reads));
    let kept = [by_ramps, by_reads, first_ramp].into_iter().max_by_key(|(r, n)| r * n).unwrap_or(first_ramp);
    let are = if whole == 1 { "is" } else { "are" };
    // A set's warnings stand together.
    let file = fits.path.file_name().unwrap_or_default().to_string_lossy();
    warnings.push(format!(
        "{name} of {file} is cut short: {whole} of {total} reads {are} whole; {} x {} (ramps x reads) are reduced",
        kept.0, kept.1
    ));
    Ok(kept)
}

/// Count keywords that contradict the array, each with a sentence.
fn wrong_counts(header: &Header, layout: &Layout) -> Vec<(&'static str, String)> {
    let pairs: [(&[&'static str], usize, &str); 2] = match layout.family {
        Family::Jwst => [(&["NINTS"], layout.ramps, "ramps"), (&["NGROUPS"], layout.reads, "reads")],
        _ => [(names("NGROUPS"), layout.ramps, "ramps"), (names("NREADS"), layout.reads, "reads")],
    };
    let mut wrong = Vec::new();
    for (keys, real, what) in pairs {
        let said = keys.iter().find_map(|k| header.integer(k).map(|n| (*k, n)));
        if let Some((key, n)) = said
            && usize::try_from(n) != Ok(real)
        {
            let sentence = format!("{key} = {n} but the array holds {real} {what}: the array is believed");
            wrong.push((key, sentence));
        }
    }
    wrong
}

/// AVERAGE_DARK_CURRENT, which JWST's dark step leaves in a ramp; NaN counts as 0.
fn average_dark(fits: &Fits, layout: &Layout, warnings: &mut Vec<String>) -> Result<Option<Vec<f32>>> {
    let Some(hdu) = fits.hdu("AVERAGE_DARK_CURRENT").filter(|h| h.is_image()) else { return Ok(None) };
    if hdu.shape != [layout.ny, layout.nx] || fits.available(hdu) < hdu.data_len {
        warnings
            .push(format!("AVERAGE_DARK_CURRENT is {}, not an image of the frame: ignored", by(&hdu.shape)));
        return Ok(None);
    }
    let values = fits.f32(hdu)?;
    Ok(Some(values.into_iter().map(|v| if v.is_finite() { v } else { 0.0 }).collect()))
}

/// PIXELDQ as a plane, and the HDU of flags of single reads.
fn flags(
    fits: &Fits,
    science: &Hdu,
    layout: &Layout,
    warnings: &mut Vec<String>,
) -> Result<(Option<Vec<u32>>, Option<Hdu>)> {
    let (mut pixeldq, mut groupdq) = (None, None);
    for name in ["PIXELDQ", "GROUPDQ", "DQ"] {
        let Some(hdu) = fits.hdu(name).filter(|h| h.is_image()) else { continue };
        if fits.available(hdu) < hdu.data_len {
            warnings.push(format!("{name} is cut off by the end of the file: ignored"));
            continue;
        }
        let shape = squeezed(hdu);
        if shape == [layout.ny, layout.nx] && name != "GROUPDQ" {
            pixeldq = pixeldq.or(Some(fits.u32(hdu)?));
        } else if shape == squeezed(science) && name != "PIXELDQ" {
            groupdq = groupdq.or(Some(hdu.clone()));
        } else {
            let wanted =
                if name == "GROUPDQ" { by(&science.shape) } else { format!("{} x {}", layout.ny, layout.nx) };
            let science = label(science);
            let message = format!("is {} but {science} needs {wanted}: correct or remove it", by(&hdu.shape));
            return Err(fits.error(name, message));
        }
    }
    Ok((pixeldq, groupdq))
}

/// Whether liger_iris_pipeline itself wrote the ramp (it simulates them, too), and does
/// not say that they are DN.
fn is_ligers_own(fits: &Fits, hdu: &Hdu) -> bool {
    let of = |key: &str| hdu.header.text(key).or_else(|| fits.primary().text(key));
    of("DATAMODL").as_deref() == Some("RampModel")
        && fits.hdu("ASDF").is_some()
        && of("BUNIT").is_none_or(|u| Unit::parse(&u).is_none_or(|u| u.electrons))
}

/// liger's DQ has a flag of 16 bits a read. Those from bit 8 on are no read's but the
/// pixel's (dead, hot ...): (ny, nx), `None` where there are none. Takes one pass over DQ.
fn flags_of_pixels(fits: &Fits, hdu: &Hdu, layout: &Layout) -> Result<Option<Vec<u32>>> {
    let planes = layout.ramps * layout.reads;
    let row = |y: usize| {
        let flags = fits.pixels_u32(hdu, y * layout.nx * planes, layout.nx * planes)?;
        Ok(flags.chunks_exact(planes).map(|p| p.iter().fold(0, |a, f| a | f) & !0xff).collect::<Vec<u32>>())
    };
    let rows = (0..layout.ny).into_par_iter().map(row).collect::<Result<Vec<_>>>()?;
    let flags = rows.concat();
    Ok(flags.iter().any(|f| *f != 0).then_some(flags))
}

impl Ramp {
    /// Count keywords (NGROUPS, NREADS …) that contradict the array, each with a sentence.
    pub fn wrong_counts(&self) -> Vec<(&'static str, String)> {
        match &self.source {
            Source::Array(array) => wrong_counts(&self.header, &array.layout),
            Source::Reads(_) => Vec::new(),
        }
    }

    /// Ramp number `ramp` of the exposure (from 0) as an exposure of its own.
    pub fn alone(&self, ramp: usize) -> Result<Ramp> {
        if ramp >= self.ramps {
            let message = format!("has {} ramps: there is no ramp {ramp} (from 0)", self.ramps);
            return Err(Error::input(&self.path, message));
        }
        let zeroframe = self.zeroframe.as_ref().map(|z| z.alone(ramp)).transpose()?;
        let reads: Vec<usize> = (ramp * self.reads..(ramp + 1) * self.reads).collect();
        let mut one = self.pick(&reads, self.reads)?;
        one.zeroframe = zeroframe.map(Box::new);
        Ok(one)
    }

    /// The reads `at` (ramp × reads + read) alone, `reads` a ramp, without ZEROFRAME.
    pub(super) fn pick(&self, at: &[usize], reads: usize) -> Result<Ramp> {
        let source = match &self.source {
            Source::Reads(files) => Source::Reads(at.iter().map(|&i| files[i].clone()).collect()),
            Source::Array(a) => Source::Array(Box::new(Array {
                fits: Fits::open(&self.path)?,
                hdu: a.hdu.clone(),
                stored: a.stored,
                layout: a.layout,
                groupdq: a.groupdq.clone(),
                planes: at.iter().map(|&i| a.planes[i]).collect(),
            })),
        };
        let unused = at.iter().filter_map(|&i| self.unused.get(i).copied()).collect();
        Ok(Ramp {
            path: self.path.clone(),
            header: self.header.clone(),
            meta: self.meta.clone(),
            ramps: at.len() / reads.max(1),
            reads,
            times: at.iter().map(|&i| self.times[i]).collect(),
            nsample: at.iter().map(|&i| self.nsample[i]).collect(),
            pixeldq: self.pixeldq.clone(),
            average_dark: self.average_dark.clone(),
            zeroframe: None,
            warnings: Vec::new(),
            unused,
            source,
            ..*self
        })
    }

    /// Where pixel (ramp, read, y, x) of a chunk of `rows` rows lies in its buffer.
    pub fn strides(&self, rows: usize) -> Strides {
        let (ramps, reads, nx) = (self.ramps, self.reads, self.nx);
        match &self.source {
            Source::Array(a) if a.liger() && a.whole() => {
                Strides { ramp: reads, read: 1, y: nx * ramps * reads, x: ramps * reads }
            }
            _ => Strides { ramp: reads * rows * nx, read: rows * nx, y: nx, x: 1 },
        }
    }

    /// Bytes of a chunk of `rows` rows.
    pub fn chunk_bytes(&self, rows: usize) -> usize {
        self.ramps * self.reads * rows * self.nx * self.encoding.bytes()
    }

    /// Fills `into` (of [`Ramp::chunk_bytes`] bytes) with all ramps and reads of
    /// `rows`: big-endian [`Encoding`] bytes, laid out by [`Ramp::strides`].
    pub fn read_rows(&self, rows: Range<usize>, into: &mut [u8]) -> Result<()> {
        self.check_rows(&rows)?;
        let bytes = self.chunk_bytes(rows.len());
        let _span = profile::span(Work::Read, "reads").bytes(bytes as u64);
        let Some(into) = into.get_mut(..bytes) else {
            let message = format!("a chunk of {} rows needs {bytes} bytes, not {}", rows.len(), into.len());
            return Err(Error::input(&self.path, message));
        };
        if into.is_empty() {
            return Ok(());
        }
        let plane = rows.len() * self.nx * self.encoding.bytes();
        match &self.source {
            Source::Reads(files) => into
                .par_chunks_mut(plane)
                .zip(files)
                .try_for_each(|(part, file)| file.read(rows.start * self.nx, part)),
            Source::Array(a) if a.liger() => {
                let planes = a.layout.ramps * a.layout.reads;
                let first = rows.start * self.nx * planes;
                if a.whole() {
                    return a.stored.read(&a.fits, &a.hdu, first, into);
                }
                // The reads alternate pixel by pixel: these are picked out.
                let bytes = self.encoding.bytes();
                let mut all = vec![0; rows.len() * self.nx * planes * bytes];
                a.stored.read(&a.fits, &a.hdu, first, &mut all)?;
                into.par_chunks_mut(plane).enumerate().for_each(|(i, part)| {
                    let from = all.chunks_exact(bytes).skip(a.planes[i]).step_by(planes);
                    part.chunks_exact_mut(bytes).zip(from).for_each(|(to, from)| to.copy_from_slice(from));
                });
                Ok(())
            }
            Source::Array(a) => into.par_chunks_mut(plane).enumerate().try_for_each(|(i, part)| {
                a.stored.read(&a.fits, &a.hdu, self.plane_start(a, i, rows.start), part)
            }),
        }
    }

    /// Flags of single reads of `rows`, the low 8 bits (JWST's GROUPDQ), always in
    /// (ramps, reads, rows, nx) order; `None` where the file has none.
    pub fn groupdq_rows(&self, rows: Range<usize>) -> Result<Option<Vec<u8>>> {
        self.check_rows(&rows)?;
        let pixels = rows.len() * self.nx;
        let stored = self.stored_flags(rows, pixels)?;
        if self.unused.is_empty() {
            return Ok(stored);
        }
        let mut flags = stored.unwrap_or_else(|| vec![0; self.ramps * self.reads * pixels]);
        for (read, _) in flags.chunks_mut(pixels.max(1)).zip(&self.unused).filter(|(_, u)| **u) {
            read.iter_mut().for_each(|f| *f |= dq::DO_NOT_USE as u8);
        }
        Ok(Some(flags))
    }

    /// The file's own flags of single reads.
    fn stored_flags(&self, rows: Range<usize>, pixels: usize) -> Result<Option<Vec<u8>>> {
        let Source::Array(array) = &self.source else { return Ok(None) };
        let Array { fits, layout, groupdq: Some(hdu), planes, .. } = &**array else { return Ok(None) };
        if array.liger() {
            let all = layout.ramps * layout.reads;
            let fast = fits.pixels_u32(hdu, rows.start * self.nx * all, pixels * all)?;
            let mut out = vec![0; pixels * planes.len()];
            for (p, flags) in fast.chunks_exact(all).enumerate() {
                planes.iter().enumerate().for_each(|(i, at)| out[i * pixels + p] = flags[*at] as u8);
            }
            return Ok(Some(out));
        }
        let mut out = Vec::with_capacity(planes.len() * pixels);
        for i in 0..planes.len() {
            let flags = fits.pixels_u32(hdu, self.plane_start(array, i, rows.start), pixels)?;
            out.extend(flags.into_iter().map(|f| f as u8));
        }
        Ok(Some(out))
    }

    /// The pixel in the file where row `row` of the `i`th read begins.
    fn plane_start(&self, array: &Array, i: usize, row: usize) -> usize {
        (array.planes[i] * self.ny + row) * self.nx
    }

    fn check_rows(&self, rows: &Range<usize>) -> Result<()> {
        if rows.start <= rows.end && rows.end <= self.ny {
            return Ok(());
        }
        let message = format!("rows {} to {} were asked for, but it has {}", rows.start, rows.end, self.ny);
        Err(Error::input(Path::new(&self.path), message))
    }
}
