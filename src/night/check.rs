//! One file's metadata, checked: its keywords against the registry, against each other,
//! and against its array.

use std::path::{Path, PathBuf};

use super::classify::{classify, classify_meta};
use crate::config::Instrument;
use crate::datamodel::{Finding, Level, Meta, What, check, window_faults};
use crate::error::Error;
use crate::fits::{Fits, Header};
use crate::input::{self, OpenOptions, Raw};
use crate::refs::{REFTYPES, canonical_reftype};

/// What was found in a file.
#[derive(Debug)]
pub struct Checked {
    /// The file.
    pub file: PathBuf,
    /// What it is; `None` where it cannot be read.
    pub level: Option<Level>,
    /// Errors first.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// How many findings must be mended.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.error).count()
    }
}

/// Checks the keywords of `file`.
pub fn check_file(file: &Path, instrument: &Instrument) -> Checked {
    let unreadable = |e: &Error| Finding::error(What::Unreadable, "", without(file, e));
    let (header, shape) = match Fits::open(file).map(|f| facts(&f)) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let none = "holds no image: it is neither a frame nor a product of IRIS";
            let findings = vec![Finding::error(What::Unreadable, "", none)];
            return Checked { file: file.to_path_buf(), level: None, findings };
        }
        Err(e) => return Checked { file: file.to_path_buf(), level: None, findings: vec![unreadable(&e)] },
    };
    let level = Level::of(&header, shape.iter().filter(|n| **n > 1).count());
    let mut findings = check(&header, level);
    match level {
        Level::Product => {}
        Level::Reference => findings.extend(unknown_type(&header)),
        Level::Read | Level::Ramp | Level::Frame => {
            let size = shape.last_chunk().map(|[ny, nx]| (*ny, *nx));
            let detector = instrument.detectors.get(&Meta::from_header(&header).detector).map(|d| d.size);
            let window = window_faults(&header, size, detector);
            findings.extend(window.into_iter().map(|(k, s)| Finding::error(What::Contradictory, k, s)));
            let classified = classified(&header, &mut findings);
            if classified && level != Level::Read {
                match input::open(file, instrument, &OpenOptions::default()) {
                    Ok(Raw::Ramp(ramp)) => findings.extend(
                        ramp.wrong_counts()
                            .into_iter()
                            .map(|(k, s)| Finding::error(What::Contradictory, k, s)),
                    ),
                    Ok(_) => {}
                    Err(e) => findings.push(unreadable(&e)),
                }
            }
        }
    }
    findings.sort_by_key(|f| (!f.error, f.what));
    Checked { file: file.to_path_buf(), level: Some(level), findings }
}

/// The primary header with the science image's keywords laid under it, and the image's
/// shape; `None` without an image (tables of references count as one).
fn facts(fits: &Fits) -> Option<(Header, Vec<usize>)> {
    let mut header = fits.primary().clone();
    let named = ["DATA", "SCI"].iter().find_map(|n| fits.hdu(n)).filter(|h| h.is_image());
    let image = named.or_else(|| fits.hdus.iter().find(|h| h.is_image()));
    if let Some(image) = image.filter(|h| h.index > 0) {
        for card in image.header.cards() {
            if card.value.is_some() && !header.has(&card.keyword) {
                header.remove(&card.keyword);
                header.push(card.clone());
            }
        }
    }
    if image.is_none() && !header.has("REFTYPE") && !header.has("DRSVER") {
        return None;
    }
    Some((header, image.map_or(Vec::new(), |h| h.shape.clone())))
}

/// What the exposure is for. Contradictions become errors; a DETECTOR that OBSNAME tells
/// is none. Whether it is known.
fn classified(header: &Header, findings: &mut Vec<Finding>) -> bool {
    let meta = Meta::from_header(header);
    let class = match classify(&meta) {
        Ok(class) => class,
        Err(sentence) => {
            let what = if meta.obsname.is_empty() { What::Missing } else { What::Illegal };
            findings.push(Finding::error(what, "OBSNAME", sentence));
            return false;
        }
    };
    for sentence in class.warnings {
        let keyword = sentence.split(' ').next().unwrap_or_default().to_owned();
        findings.push(Finding::error(What::Contradictory, &keyword, sentence));
    }
    let told = classify_meta(meta, &class.obsname).detector;
    for f in findings.iter_mut().filter(|f| f.what == What::Missing && f.keyword == "DETECTOR") {
        f.error = false;
        f.sentence = format!("DETECTOR is missing: OBSNAME tells that it is {told}; set it");
    }
    true
}

fn unknown_type(header: &Header) -> Option<Finding> {
    let reftype = header.text("REFTYPE")?;
    canonical_reftype(&reftype).is_none().then(|| {
        let known = REFTYPES.join(", ");
        let sentence = format!("REFTYPE = '{reftype}' is of no use here: set it to one of {known}");
        Finding::error(What::Illegal, "REFTYPE", sentence)
    })
}

/// An error's sentence without the file's name, which stands before it.
fn without(file: &Path, e: &Error) -> String {
    let text = e.to_string();
    let name = file.display().to_string();
    text.strip_prefix(&name).map_or(text.clone(), |rest| rest.trim_start_matches([':', ' ']).to_owned())
}
