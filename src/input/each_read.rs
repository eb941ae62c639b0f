//! What the files of single reads say one by one.

use super::ramp::{Ramp, Source};
use super::reads::ReadFile;
use crate::datamodel::{Span, merge};
use crate::fits::{Header, Value};

/// Keywords that say which read a file is, and when it was taken.
const OWN: [&str; 4] = ["READ_NO", "RAMP_NO", "READTIME", "RST_TIME"];

/// What differs from read to read of an exposure of one file a read; each list has one
/// entry a read, in order of ramps and reads.
#[derive(Debug, Clone, PartialEq)]
pub struct EachRead {
    /// Ramp, from 1.
    pub ramp: Vec<i32>,
    /// Read in its ramp, from 1.
    pub read: Vec<i32>,
    /// Seconds since the ramp's reset.
    pub times: Vec<f64>,
    /// Name of the file.
    pub files: Vec<String>,
    /// Keywords whose values differ; `None` where a read has none.
    pub varying: Vec<(String, Vec<Option<Value>>)>,
}

impl Ramp {
    /// What differs from read to read; `None` for an exposure in one file.
    pub fn each_read(&self) -> Option<EachRead> {
        let Source::Reads(files) = &self.source else { return None };
        let reads = self.reads.max(1);
        let number = |n: usize| i32::try_from(n + 1).unwrap_or(i32::MAX);
        let name = |f: &ReadFile| f.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let headers: Vec<&Header> = files.iter().map(|f| &f.header).collect();
        Some(EachRead {
            ramp: (0..files.len()).map(|i| number(i / reads)).collect(),
            read: (0..files.len()).map(|i| number(i % reads)).collect(),
            times: self.times.clone(),
            files: files.iter().map(name).collect(),
            varying: varying(&headers),
        })
    }
}

/// Keywords, in order of their appearance, that not all headers have with one value.
fn varying(headers: &[&Header]) -> Vec<(String, Vec<Option<Value>>)> {
    let mut seen = std::collections::BTreeSet::new();
    let all = headers.iter().flat_map(|h| h.cards()).filter(|c| c.value.is_some());
    all.filter(|c| seen.insert(c.keyword.as_str()))
        .map(|c| {
            let of = |h: &&Header| h.get(&c.keyword).filter(|_| h.has(&c.keyword)).cloned();
            (c.keyword.clone(), headers.iter().map(of).collect::<Vec<_>>())
        })
        .filter(|(_, values)| values.iter().any(|v| *v != values[0]))
        .collect()
}

/// The exposure's header of those of its reads: what they share, and of what differs what
/// a combination of frames has. Which read it is, it does not say; when the exposure began
/// and ended it learns from the reads' times, where nothing else says it.
pub(super) fn of_exposure(files: &[ReadFile]) -> Header {
    let headers: Vec<&Header> = files.iter().map(|f| &f.header).collect();
    let mut header = merge(&headers);
    let same = |key: &str| headers.iter().all(|h| h.get(key) == headers[0].get(key));
    OWN.iter().filter(|k| **k == "READ_NO" || !same(k)).for_each(|k| header.remove(k));
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return header };
    let days = |h: &Header, key: &str| super::reads::date(h, key).map(|t| t as f64 / 86_400e6);
    let span = Span::of(&header);
    if let (None, Some(mjd)) = (span.begin, days(first, "RST_TIME").or_else(|| days(first, "READTIME"))) {
        header.set("MJD-BEG", mjd, "reset of the first ramp");
    }
    // FRM_TIME in microseconds, or in seconds.
    let frame = last.number("FRM_TIME").map(|t| if t >= 1e4 { t * 1e-6 } else { t });
    if let (None, Some(mjd), Some(frame)) = (span.end, days(last, "READTIME"), frame) {
        header.set("MJD-END", mjd + frame / 86_400.0, "end of the last read");
    }
    header
}
