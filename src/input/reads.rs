//! Exposures that come as one file a read.

use std::path::{Path, PathBuf};

use super::each_read::header_of_reads;
use super::headers::{complete, merged, upper};
use super::pixels::Stored;
use super::ramp::{Ramp, Source};
use super::{OpenOptions, by, label, layout, times};
use crate::datamodel::Meta;
use crate::error::{Error, Result};
use crate::fits::{Fits, Hdu, Header};

/// Which read of which exposure a file is. Sorted, files come exposure by
/// exposure, ramp by ramp, read by read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadKey {
    /// OBS_ID, DET_ID and EXP_NO: files that agree in them are one exposure.
    pub exposure: (String, String, i64),
    /// RAMP_NO.
    pub ramp: i64,
    /// READ_NO.
    pub read: i64,
}

/// The key of a file that holds one read; `None` where its primary header has no
/// READ_NO.
pub fn read_group_key(header: &Header) -> Option<ReadKey> {
    Some(ReadKey {
        exposure: (
            upper(header, &["OBS_ID", "OBSID", "OBSNUM"]),
            upper(header, &["DET_ID", "DETECTOR"]),
            ["EXP_NO", "EXPNO", "EXPNUM"].iter().find_map(|k| header.integer(k)).unwrap_or(0),
        ),
        ramp: header.integer("RAMP_NO").unwrap_or(0),
        read: header.integer("READ_NO")?,
    })
}

/// One read's file. It is opened for each piece that is read, so that an exposure
/// of hundreds of reads does not hold hundreds of open files.
#[derive(Debug, Clone)]
pub(super) struct ReadFile {
    pub(super) path: PathBuf,
    hdu: Hdu,
    stored: Stored,
    pub(super) header: Header,
    key: ReadKey,
}

impl ReadFile {
    fn open(path: &Path, options: &OpenOptions<'_>) -> Result<ReadFile> {
        let fits = options.headers(path)?;
        let hdu = layout::science_hdu(&fits)?.clone();
        let header = merged(&fits, &hdu, false);
        let key = read_group_key(&header)
            .ok_or_else(|| Error::input(path, "has no READ_NO: it is not one read of a set"))?;
        if axes(&hdu).is_none() {
            let message = format!("is {}: one read is a 2-D image", by(&hdu.shape));
            return Err(fits.error(&label(&hdu), message));
        }
        fits.check(&hdu, 0, hdu.len())?;
        Ok(ReadFile { path: path.to_path_buf(), stored: Stored::of(&hdu), hdu, header, key })
    }

    /// Fills `into` with pixels from `first` on.
    pub(super) fn read(&self, first: usize, into: &mut [u8]) -> Result<()> {
        let fits = Fits::open(&self.path)?;
        match fits.hdus.get(self.hdu.index) {
            Some(h) if h.data_start == self.hdu.data_start && h.shape == self.hdu.shape => {
                self.stored.read(&fits, h, first, into)
            }
            _ => Err(Error::input(&self.path, "changed while it was being read; run again")),
        }
    }
}

/// Rows and columns of a read, leading axes of length 1 aside.
fn axes(hdu: &Hdu) -> Option<(usize, usize)> {
    match *hdu.shape.as_slice() {
        [ref ones @ .., ny, nx] if ones.iter().all(|&n| n == 1) => Some((ny, nx)),
        _ => None,
    }
}

/// Opens the exposure whose reads are `paths`, one a file, in any order. A file
/// that cannot be used is left out with a warning; of ramps with unequal numbers
/// of reads, those ramps and reads are kept that make the most of the exposure.
pub fn open_reads(paths: &[PathBuf], options: &OpenOptions<'_>) -> Result<Ramp> {
    let mut warnings = Vec::new();
    let mut files = Vec::new();
    let mut failure = None;
    for path in paths {
        match ReadFile::open(path, options) {
            Ok(file) => files.push(file),
            Err(e) => {
                warnings.push(format!("a read is left out: {e}"));
                failure.get_or_insert(e);
            }
        }
    }
    files.sort_by(|a, b| a.key.cmp(&b.key));
    let Some(first) = files.first().cloned() else {
        return Err(
            failure.unwrap_or_else(|| Error::Usage("no files were given as reads of an exposure".into()))
        );
    };
    files.iter().try_for_each(|f| consistent(&first, f))?;
    if let Some(pair) = files.windows(2).find(|p| p[0].key == p[1].key) {
        let (ramp, read, other) = (pair[1].key.ramp, pair[1].key.read, pair[0].path.display());
        let message = format!("RAMP_NO = {ramp}, READ_NO = {read} is also {other}: remove one of them");
        return Err(Error::input(&pair[1].path, message));
    }
    let (files, ramps, reads) = fullest(files, &mut warnings);
    let times = read_times(&files, options, &mut warnings)?;
    times::check(&times, reads).map_err(|m| {
        Error::input(&first.path, format!("{m}; correct READTIME, RST_TIME, READ_NO of the set"))
    })?;
    let (ny, nx) = axes(&first.hdu).unwrap_or_default();
    let headers: Vec<&Header> = files.iter().map(|f| &f.header).collect();
    let mut header = header_of_reads(&headers);
    complete(&mut header, &mut warnings);
    Ok(Ramp {
        meta: Meta::from_header(&header),
        header,
        path: first.path,
        ramps,
        reads,
        ny,
        nx,
        nsample: vec![1; times.len()],
        times,
        frame_time: 0.0,
        encoding: first.stored.encoding,
        pixeldq: None,
        average_dark: None,
        has_groupdq: false,
        zeroframe: None,
        warnings,
        unused: Vec::new(),
        source: Source::Reads(files),
    })
}

fn consistent(first: &ReadFile, file: &ReadFile) -> Result<()> {
    let other = first.path.display();
    let wrong = |m: String| Err(Error::input(&file.path, m));
    if file.key.exposure != first.key.exposure {
        return wrong(format!("is of another exposure than {other} (OBS_ID, DET_ID, EXP_NO)"));
    }
    if axes(&file.hdu) != axes(&first.hdu) {
        return wrong(format!("is {} but {other} is {}", by(&file.hdu.shape), by(&first.hdu.shape)));
    }
    if file.stored.encoding != first.stored.encoding {
        return wrong(format!("has other pixels (BITPIX, BZERO) than {other}"));
    }
    Ok(())
}

/// The ramps, and reads of each, that make a full (ramps, reads) array with the
/// most reads.
fn fullest(files: Vec<ReadFile>, warnings: &mut Vec<String>) -> (Vec<ReadFile>, usize, usize) {
    let total = files.len();
    let mut by_ramp: Vec<Vec<ReadFile>> = Vec::new();
    for file in files {
        match by_ramp.last_mut().filter(|r| r.first().is_some_and(|f| f.key.ramp == file.key.ramp)) {
            Some(ramp) => ramp.push(file),
            None => by_ramp.push(vec![file]),
        }
    }
    let size = |n: usize| n * by_ramp.iter().filter(|r| r.len() >= n).count();
    let reads = by_ramp.iter().map(Vec::len).max_by_key(|&n| size(n)).unwrap_or(0);
    let kept: Vec<ReadFile> =
        by_ramp.into_iter().filter(|r| r.len() >= reads).flat_map(|r| r.into_iter().take(reads)).collect();
    let ramps = kept.len() / reads.max(1);
    if kept.len() < total {
        warnings.push(format!(
            "ramps have unequal numbers of reads: {ramps} x {reads} (ramps x reads) of {total} files are reduced"
        ));
    }
    (kept, ramps, reads)
}

/// A keyword that is a date in microseconds: any date is beyond 10¹¹, any duration below.
pub(super) fn date(header: &Header, key: &str) -> Option<i64> {
    header.integer(key).filter(|t| (1e11..9e18).contains(&(*t as f64)))
}

/// Seconds since each ramp's reset: READTIME − RST_TIME (both microseconds in MJD),
/// else READTIME since the ramp's first read, else READ_NO times the read time.
fn read_times(files: &[ReadFile], options: &OpenOptions<'_>, warnings: &mut Vec<String>) -> Result<Vec<f64>> {
    let date = |f: &ReadFile, key: &str| date(&f.header, key);
    let both = |f: &ReadFile| Some((date(f, "READTIME")?, date(f, "RST_TIME")?));
    let seconds = |micro: i64| micro as f64 * 1e-6;
    if let Some(times) = files.iter().map(|f| both(f).map(|(t, reset)| seconds(t - reset))).collect() {
        return Ok(times);
    }
    let step = match files.first() {
        Some(f) => times::read_time(&f.path, &f.header, options, warnings)?,
        None => None,
    };
    let begins = |ramp: i64| files.iter().find(|f| f.key.ramp == ramp).and_then(|f| date(f, "READTIME"));
    let since =
        |f: &ReadFile| Some(seconds(date(f, "READTIME")? - begins(f.key.ramp)?) + step.unwrap_or(0.0));
    if let Some(times) = files.iter().map(since).collect() {
        return Ok(times);
    }
    let (Some(first), Some(step)) = (files.first(), step) else {
        let path = files.first().map_or(Path::new(""), |f| &f.path);
        return Err(Error::input(
            path,
            "says nothing about when the reads were taken: READTIME and RST_TIME (microseconds in MJD), or \
             FRM_TIME (a read's duration), or --read-time=SECONDS is needed",
        ));
    };
    // READ_NO counts from 0 or from 1.
    let zero = files.iter().map(|f| f.key.read).min().unwrap_or(first.key.read).min(1);
    Ok(files.iter().map(|f| f.key.read.saturating_sub(zero).saturating_add(1) as f64 * step).collect())
}
