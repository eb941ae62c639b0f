//! A set to one combination (level 3), pixel by pixel.

use std::path::{Path, PathBuf};

use super::blend;
use super::execute::{Pipeline, is_level2, product_path, step};
use super::exposure::{Level1, exposures};
use super::image::{from_image, is_done};
use super::product::{self, About};
use super::stage2;
use super::wcs::{self, Grid, Tan};
use super::{Done, Job};
use crate::config::{CombineFrames, Step};
use crate::datamodel::Image;
use crate::error::{Error, Result};
use crate::fits::Header;

/// Frames further apart on the sky than this (pixels) are said to be dithered.
const DITHERED: f64 = 0.1;

impl Pipeline {
    /// Rates or images to their combination: each goes through the recipe's steps
    /// before `combine_frames` first.
    pub(super) fn combine(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let files = files(job);
        let images = files.iter().filter(|f| is_level2(f)).count();
        let mut frames = match images {
            0 => self.set(job, &mut done, progress)?,
            n if n == files.len() => {
                files.iter().map(|f| from_image(job, f, self.engine.as_ref())).collect::<Result<_>>()?
            }
            n => {
                return Err(Error::Usage(format!(
                    "{n} of {} files are calibrated images and the others are not: combine images with images, or \
                     rates with rates",
                    files.len()
                )));
            }
        };
        alike(&frames, &files, &[DETECTOR, WINDOW, SIZE, UNIT, IMTYPE, DARK, FLAT, SKY])?;
        done.warnings.extend(dithered(&frames, &files, job));
        let (mut planes, mut headers, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut coordinates = None;
        for (frame, file) in frames.iter_mut().zip(&files) {
            let mut warnings = Vec::new();
            let made = self.calibrated(job, frame, file, &mut warnings)?;
            warnings.retain(|w| !done.warnings.contains(w));
            done.warnings.extend(warnings);
            left_out.extend(made.left_out);
            if planes.is_empty() {
                coordinates = made.wcs;
            }
            planes.push(made.image);
            let mut header = frame.header.clone();
            frame.provenance.keywords(&mut header);
            headers.push(header);
        }
        let Some(first) = frames.first_mut() else {
            return Err(Error::NothingToReduce("no frames to combine".into()));
        };
        // Where frames share any of these, all of the references' noise is taken as
        // shared: an upper bound, never an error that is too small.
        let same = |k: &&str| headers[0].has(k) && headers.iter().all(|h| h.text(k) == headers[0].text(k));
        let shared = ["C_DARK", "C_FLAT", "C_SKY"].iter().any(same);
        let default = CombineFrames::default();
        let step = step!(job, CombineFrames).unwrap_or(&default);
        let image = stage2::combine_images(
            self.engine.as_mut(),
            &planes.iter().collect::<Vec<&Image>>(),
            step,
            shared,
        )?;
        let unit = if first.fresh { product::ELECTRONS.into() } else { unit(first) };
        let mut record = std::mem::take(&mut first.provenance);
        record.inputs.clone_from(&job.inputs);
        record.subarrays = None;
        record.warnings.clone_from(&done.warnings);
        self.finish_record(job, &mut record, &left_out, &[])?;
        let about = About {
            input: &blend(&headers.iter().collect::<Vec<_>>()),
            model: product::image_model(&first.meta),
            level: 3,
            unit: &unit,
            wcs: coordinates.as_ref(),
            provenance: &record,
            extra: None,
        };
        let path = product_path(job, Some(&first.meta), 3);
        done.products.push(product::write_image(&path, &about, &image)?);
        progress(1.0);
        Ok(done)
    }
}

/// The (first) file of each exposure of a set.
pub(super) fn files(job: &Job) -> Vec<PathBuf> {
    exposures(&job.inputs).into_iter().filter_map(|files| files.into_iter().next()).collect()
}

/// Something in which frames of a set must be alike: its keyword or name, and how to
/// read it.
pub(super) type Fact = (&'static str, fn(&Level1) -> String);

pub(super) const DETECTOR: Fact = ("DETECTOR", |f| f.meta.detector.clone());
pub(super) const WINDOW: Fact =
    ("SUBSTRT1, SUBSTRT2", |f| format!("{}, {}", f.meta.substart.0, f.meta.substart.1));
pub(super) const SIZE: Fact = ("size", |f| format!("{} x {} pixels", f.rate.nx, f.rate.ny));
pub(super) const UNIT: Fact = ("BUNIT", unit);
const IMTYPE: Fact = ("IMTYPE", |f| f.meta.imtype.clone());
pub(super) const DARK: Fact = ("S_DARK", |f| status(f, "S_DARK"));
pub(super) const FLAT: Fact = ("S_FLAT", |f| status(f, "S_FLAT"));
pub(super) const SKY: Fact = ("S_BKGSUB", |f| status(f, "S_BKGSUB"));

fn status(frame: &Level1, keyword: &str) -> String {
    if is_done(&frame.header, keyword) { "COMPLETE" } else { "not done" }.into()
}

fn unit(frame: &Level1) -> String {
    if frame.fresh { product::ELECTRONS.into() } else { frame.header.text("BUNIT").unwrap_or_default() }
}

/// Refuses a frame that differs from the first in one of `facts`.
pub(super) fn alike(frames: &[Level1], files: &[PathBuf], facts: &[Fact]) -> Result<()> {
    let (Some(first), Some(first_file)) = (frames.first(), files.first()) else { return Ok(()) };
    for (frame, file) in frames.iter().zip(files).skip(1) {
        for (name, read) in facts {
            let (ours, theirs) = (read(frame), read(first));
            if ours != theirs {
                return Err(Error::input(
                    file,
                    format!(
                        "does not belong to {}: {name} is '{ours}' here and '{theirs}' there; combine what is alike",
                        short(first_file)
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// A warning where frames of the sky do not lie on each other.
fn dithered(frames: &[Level1], files: &[PathBuf], job: &Job) -> Option<String> {
    let first = frames.first()?;
    if matches!(first.meta.imtype.as_str(), "DARK" | "FLAT" | "SKY") {
        return None;
    }
    let (ny, nx) = (first.rate.ny, first.rate.nx);
    let plate = |header: &Header| {
        let found = wcs::assign(header, None, &job.instrument, Grid::Detector(ny, nx)).ok()??;
        found.tan.or_else(|| Tan::of(&found.cards))
    };
    let reference = plate(&first.header)?;
    let corners = [[1.0, 1.0], [nx as f64, 1.0], [1.0, ny as f64], [nx as f64, ny as f64]];
    let apart = |frame: &Level1| {
        let plate = plate(&frame.header)?;
        let shift = |c: [f64; 2]| {
            plate.pixel(reference.sky(c)).map_or(f64::INFINITY, |p| (p[0] - c[0]).hypot(p[1] - c[1]))
        };
        Some(corners.into_iter().map(shift).fold(0.0, f64::max))
    };
    let each = frames.iter().zip(files).filter_map(|(frame, file)| Some((apart(frame)?, file)));
    let (most, file) = each.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (most > DITHERED).then(|| {
        format!(
            "the frames are dithered: {} lies {most:.1} pixels off {} on the sky; frames are averaged pixel by pixel, \
             not aligned, so sources are smeared",
            short(file),
            files.first().map(|f| short(f)).unwrap_or_default()
        )
    })
}

fn short(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
