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

/// The exposure's header of those of its reads, in order of ramps and reads: what they
/// share, and of what differs what a combination of frames has. Which read it is, it does
/// not say; when the exposure began and ended, and how long a ramp was, it learns from the
/// reads' times, where nothing else says it.
pub fn header_of_reads(headers: &[&Header]) -> Header {
    let mut header = merge(headers);
    let same = |key: &str| headers.iter().all(|h| h.get(key) == headers[0].get(key));
    OWN.iter().filter(|k| **k == "READ_NO" || !same(k)).for_each(|k| header.remove(k));
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return header };
    let days = |h: &Header, key: &str| super::reads::date(h, key).map(|t| t as f64 / 86_400e6);
    let span = Span::of(&header);
    let reset = days(first, "RST_TIME");
    if let (None, Some(mjd)) = (span.begin, reset.or_else(|| days(first, "READTIME"))) {
        header.set("MJD-BEG", mjd, "reset of the first ramp");
    }
    // FRM_TIME in microseconds, or in seconds.
    let frame = last.number("FRM_TIME").map(|t| if t >= 1e4 { t * 1e-6 } else { t });
    if let (None, Some(mjd), Some(frame)) = (span.end, days(last, "READTIME"), frame) {
        header.set("MJD-END", mjd + frame / 86_400.0, "end of the last read");
    }
    let ramp = |h: &&&Header| h.integer("RAMP_NO") == first.integer("RAMP_NO");
    let read = headers.iter().filter(ramp).filter_map(|h| days(h, "READTIME")).fold(f64::NAN, f64::max);
    if let Some(reset) = reset.filter(|r| read > *r && !header.has("EXPTIME")) {
        // To the millisecond, which days in f64 hold.
        let seconds = ((read - reset) * 86_400e3).round() / 1e3;
        header.set("EXPTIME", seconds, "[s] reset to the last read of a ramp");
    }
    header
}

/// What is wrong with a set of reads, as sentences.
pub fn faults_of_reads(headers: &[&Header]) -> Vec<String> {
    const ONE: [&str; 12] = [
        "OBSNAME", "OBSTYPE", "IMTYPE", "FILTER", "PUPIL", "GRATING", "SCALE", "INSTMODE", "READMODE",
        "OBJECT", "SUBARRID", "SUBARRAY",
    ];
    let mut found = Vec::new();
    for key in ONE {
        let mut values: Vec<String> =
            headers.iter().map(|h| h.text(key).unwrap_or_else(|| "nothing".into())).collect();
        values.sort();
        values.dedup();
        if let [a, b, ..] = values.as_slice() {
            found.push(format!(
                "its reads disagree in {key}: '{a}' and '{b}'; correct it in their headers, or in night.yaml"
            ));
        }
    }
    let broken = headers.iter().filter(|h| h.logical("COMPLETE") == Some(false)).count();
    if broken > 0 {
        found.push(format!("COMPLETE = F in {broken} of its {} reads: it was broken off", headers.len()));
    }
    let number = |h: &Header| (h.integer("RAMP_NO").unwrap_or(0), h.integer("READ_NO").unwrap_or(0));
    for pair in headers.windows(2) {
        let ((ramp, a), (next, b)) = (number(pair[0]), number(pair[1]));
        if ramp == next && b > a + 1 {
            found.push(format!(
                "READ_NO {} to {} are missing{}",
                a + 1,
                b - 1,
                if ramp > 0 { format!(" in ramp {ramp}") } else { String::new() }
            ));
        }
    }
    found
}
