//! A job from its files to its products.

use std::path::PathBuf;

use super::cosmic_rays;
use super::exposure::{self, Checksums, Level1, Made, exposures, is_stage1, note_references, write_level1};
use super::job::{Done, Job};
use super::lenslet;
use super::product::{self, About};
use super::provenance::{Provenance, Status};
use super::stage2::{self, References, Sky};
use super::wcs::{self, Grid};
use crate::config::{Background, Step};
use crate::datamodel::{Image, Meta, Rate, product_name};
use crate::engine::{DeviceInfo, Engine};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::refs::{self, Frame};

/// REFVER of the masters that a night makes.
pub(super) const VERSION: &str = "0.0.1";

/// Carries out jobs on one engine.
pub struct Pipeline {
    pub(super) engine: Box<dyn Engine>,
    pub(super) checksums: Checksums,
}

/// The job's step of a kind, unless it is skipped.
macro_rules! step {
    ($job:expr, $kind:ident) => {
        $job.recipe.active(|s| if let Step::$kind(p) = s { Some(p) } else { None })
    };
}
pub(super) use step;

impl Pipeline {
    /// A pipeline on `engine`.
    pub fn new(engine: Box<dyn Engine>) -> Pipeline {
        Pipeline { engine, checksums: Checksums::new() }
    }

    /// The device.
    pub fn device(&self) -> &DeviceInfo {
        self.engine.device()
    }

    /// Does the job, telling `progress` the fraction done.
    pub fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        // Masters of an earlier run may have been replaced since.
        self.checksums.retain(|path, _| !job.references.values().any(|p| p == path));
        let has = |f: fn(&Step) -> bool| job.recipe.steps.iter().any(|s| !s.skip() && f(s));
        let only_stage1 = job.recipe.steps.iter().all(is_stage1);
        if let Some(step) = step!(job, PhotonTransfer) {
            self.gain(job, step, progress)
        } else if let Some(step) = step!(job, BadPixels) {
            self.mask(job, step, progress)
        } else if let Some(step) = step!(job, NonlinFit) {
            self.nonlin(job, step, progress)
        } else if has(|s| matches!(s, Step::Wavecal(_))) {
            self.lenspx(job, progress)
        } else if has(|s| matches!(s, Step::Extract(_) | Step::CubeBuild(_))) {
            self.cube(job, progress)
        } else if has(|s| matches!(s, Step::CombineFrames(_))) {
            self.combine(job, progress)
        } else if only_stage1 {
            self.stage1(job, progress)
        } else if has(|s| matches!(s, Step::Normalize(_))) {
            self.normalize(job)
        } else {
            self.image(job, progress)
        }
    }

    /// The one exposure of a job that takes one.
    pub(super) fn one(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Made> {
        let ramp_product = product_path(job, None, 0);
        let made = exposure::level1(
            job,
            &job.inputs,
            Some(&ramp_product),
            self.engine.as_mut(),
            &mut self.checksums,
            &|f| progress(0.8 * f),
        )?;
        match &made {
            Made::Rate(l) => done.warnings.extend(l.provenance.warnings.iter().cloned()),
            Made::Ramp(path, warnings) => {
                done.warnings.extend(warnings.iter().cloned());
                done.products.push(path.clone());
            }
        }
        Ok(made)
    }

    fn stage1(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        if let Made::Rate(level1) = self.one(job, &mut done, progress)? {
            let path = job.product.clone().unwrap_or_else(|| product_path(job, Some(&level1.meta), 1));
            done.products.push(write_level1(&path, &level1, job)?);
        }
        Ok(done)
    }

    /// Rates of every exposure of a set, written as they come, and kept.
    pub(super) fn set(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Vec<Level1>> {
        let groups = exposures(&job.inputs);
        let mut out: Vec<Level1> = Vec::new();
        let mut names: Vec<PathBuf> = Vec::new();
        for (i, files) in groups.iter().enumerate() {
            let share = |f: f64| progress(0.9 * (i as f64 + f) / groups.len() as f64);
            let made = exposure::level1(job, files, None, self.engine.as_mut(), &mut self.checksums, &share)?;
            let Made::Rate(level1) = made else { continue };
            if level1.counts {
                let path = files.first().cloned().unwrap_or_default();
                return Err(Error::input(&path, "is in DN/s; combination needs e-/s (ramp_fit.units)"));
            }
            done.warnings.extend(
                level1
                    .provenance
                    .warnings
                    .iter()
                    .filter(|w| !done.warnings.contains(w))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            if level1.fresh {
                let mut path = job.output.join(product_name(&level1.meta, 1, ""));
                if names.contains(&path) {
                    let stem =
                        files.first().and_then(|f| f.file_stem()).unwrap_or_default().to_string_lossy();
                    path = job.output.join(product_name(&level1.meta, 1, &stem));
                }
                done.products.push(write_level1(&path, &level1, job)?);
                names.push(path);
            }
            out.push(*level1);
        }
        Ok(out)
    }

    pub(super) fn dark(&self, job: &Job, frame: &Frame, gain: Option<&[f32]>) -> Result<Option<Image>> {
        match (step!(job, DarkSub), job.references.get("dark")) {
            (Some(_), Some(path)) => refs::load_dark(path, frame, gain).map(Some),
            (Some(_), None) => Err(Error::reference(
                "dark",
                "dark_sub needs a dark: give --override_dark=FILE or leave the step out with --steps.dark_sub.skip=true",
            )),
            _ => Ok(None),
        }
    }

    /// Notes the steps after stage 1, each complete unless it was left out.
    pub(super) fn finish_record(
        &mut self,
        job: &Job,
        record: &mut Provenance,
        left_out: &[&str],
        types: &[&str],
    ) -> Result<()> {
        for step in job.recipe.steps.iter().filter(|s| !is_stage1(s)) {
            let out = step.skip() || left_out.contains(&step.name());
            record.step(step, if out { Status::Skipped } else { Status::Complete });
        }
        note_references(record, job, types, &mut self.checksums)
    }

    /// An imager exposure to its calibrated image.
    fn image(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut level1 = match job.inputs.as_slice() {
            [path] if is_level2(path) => from_image(job, path, self.engine.as_ref())?,
            _ => match self.one(job, &mut done, progress)? {
                Made::Rate(level1) => *level1,
                Made::Ramp(..) => return Ok(done),
            },
        };
        refuse_repeats(job, &level1)?;
        if level1.counts {
            let path = job.inputs.first().cloned().unwrap_or_default();
            return Err(Error::input(&path, "is in DN/s; stage 2 needs e-/s (leave ramp_fit.units at e-/s)"));
        }
        if level1.fresh {
            let path = beside(job, &level1.meta, 1);
            done.products.push(write_level1(&path, &level1, job)?);
        }
        let (ny, nx) = (level1.rate.ny, level1.rate.nx);
        let frame = Frame::new(&level1.meta, ny, nx);
        let gain = job.references.get("gain").map(|p| refs::load_gain(p, &frame)).transpose()?;
        let gain = gain.as_ref().map(|(g, _)| g.as_slice());
        let dark = self.dark(job, &frame, gain)?;
        let flat = match (step!(job, FlatField), job.references.get("flat")) {
            (Some(_), Some(path)) => Some(refs::load_flat(path, &frame)?),
            (Some(_), None) => {
                return Err(Error::reference(
                    "flat",
                    "flat_field needs a flat: give --override_flat=FILE or leave the step out with \
                     --steps.flat_field.skip=true",
                ));
            }
            _ => None,
        };
        let mut left_out = Vec::new();
        let sky = match (step!(job, Background), job.references.get("sky")) {
            (Some(_), Some(path)) => {
                refuse_other_flat(job, &level1, path)?;
                Some((refs::load_sky(path, &frame, gain)?, Fits::open(path)?.primary().clone()))
            }
            (Some(_), None) => {
                left_out.push("background");
                done.warnings.push("no sky frame: the background stays in".into());
                None
            }
            _ => None,
        };
        let mut record = level1.provenance.clone();
        let mut types = vec!["dark", "flat"];
        if sky.is_some() {
            types.push("sky");
        }
        note_references(&mut record, job, &types, &mut self.checksums)?;
        let default = Background::default();
        let same_dark = |h: &Header| lenslet::same_reference(h, &record, "dark");
        let references = References {
            dark: dark.as_ref(),
            flat: flat.as_ref(),
            sky: sky.as_ref().map(|(image, header)| Sky { image, same_dark: same_dark(header) }),
        };
        let background = step!(job, Background).unwrap_or(&default);
        let mut reduced = stage2::reduce(self.engine.as_mut(), &level1.rate, &references, background)?;
        keep_common(&mut reduced.image, &level1);
        if let Some(scale) = reduced.sky_scale {
            level1.header.set("SKYSCALE", (scale * 1e6).round() / 1e6, "factor on the sky frame");
        }
        if let Some(step) = step!(job, CosmicRays) {
            if cosmic_rays::applies(step, &level1, job.recipe.steps.len() == 1) {
                let hits = cosmic_rays::reject(self.engine.as_mut(), &mut reduced.image, step)?;
                level1.header.set("NCOSMIC", hits, "pixels that cosmic rays hit");
            } else {
                left_out.push("cosmic_rays");
            }
        }
        let mut coordinates = None;
        if step!(job, AssignWcs).is_some() {
            coordinates = wcs::assign(&level1.header, None, &job.instrument, Grid::Detector(ny, nx))?;
            match &coordinates {
                Some(found) => done.warnings.extend(found.warnings.iter().cloned()),
                None => {
                    left_out.push("assign_wcs");
                    done.warnings.push("no WCS: the header has neither a full one nor RA and DEC".into());
                }
            }
        }
        done.warnings.extend(reduced.warnings);
        record.warnings.clone_from(&done.warnings);
        self.finish_record(job, &mut record, &left_out, &[])?;
        let about = About {
            input: &level1.header,
            model: product::image_model(&level1.meta),
            level: 2,
            unit: product::ELECTRONS,
            wcs: coordinates.as_ref().map(|s| &s.cards),
            provenance: &record,
            extra: None,
        };
        let path = job.product.clone().unwrap_or_else(|| product_path(job, Some(&level1.meta), 2));
        done.products.push(product::write_image(&path, &about, &reduced.image)?);
        progress(1.0);
        Ok(done)
    }
}

pub(super) fn check_size(rate: &Rate, image: &Image, what: &str) -> Result<()> {
    if (rate.ny, rate.nx) == (image.ny, image.nx) {
        return Ok(());
    }
    Err(Error::reference(
        what,
        format!("is {} × {} pixels, the frame {} × {}", image.nx, image.ny, rate.nx, rate.ny),
    ))
}

/// A product's path where the caller gave none.
pub(super) fn product_path(job: &Job, meta: Option<&Meta>, level: u32) -> PathBuf {
    if let Some(path) = &job.product {
        return path.clone();
    }
    let suffix = job.suffix.as_deref().unwrap_or_default();
    match meta {
        Some(meta) => job.output.join(product_name(meta, level, suffix)),
        None => {
            let stem = job.inputs.first().and_then(|p| p.file_stem()).unwrap_or_default().to_string_lossy();
            let suffix = if suffix.is_empty() { job.recipe.name.as_str() } else { suffix };
            job.output.join(format!("{stem}_{suffix}.fits"))
        }
    }
}

/// The level-1 file that belongs to a job's planned level-2 file: the same name at
/// the other level, so that clashes solved there are solved here.
pub(super) fn beside(job: &Job, meta: &Meta, level: u32) -> PathBuf {
    let planned = job.product.as_ref().and_then(|p| Some((p, p.file_name()?.to_str()?)));
    match planned {
        Some((path, name)) if name.contains("_LVL2_") => {
            path.with_file_name(name.replace("_LVL2_", &format!("_LVL{level}_")))
        }
        _ => job.output.join(product_name(meta, level, job.suffix.as_deref().unwrap_or_default())),
    }
}

/// Whether a file is a product of level 2 or more, told by its primary header.
pub(super) fn is_level2(path: &std::path::Path) -> bool {
    Fits::open(path).is_ok_and(|f| f.primary().has("DRSVER") && f.primary().integer("DATALVL") >= Some(2))
}

/// A step that the input went through already is not done again.
fn refuse_repeats(job: &Job, level1: &Level1) -> Result<()> {
    let done = |s: &&Step| {
        let complete = level1.header.text(s.keyword()).as_deref() == Some("COMPLETE");
        !level1.fresh && !s.skip() && !is_stage1(s) && !matches!(s, Step::AssignWcs(_)) && complete
    };
    let Some(step) = job.recipe.steps.iter().find(done) else { return Ok(()) };
    let path = job.inputs.first().cloned().unwrap_or_default();
    let (name, keyword) = (step.name(), step.keyword());
    Err(Error::input(
        &path,
        format!(
            "went through {name} already ({keyword} = COMPLETE): leave the step out, or start from the rate"
        ),
    ))
}

/// A sky frame that was not flat-fielded does not belong to an image that was.
fn refuse_other_flat(job: &Job, level1: &Level1, sky: &std::path::Path) -> Result<()> {
    let flat = |h: &Header| h.text("S_FLAT").as_deref() == Some("COMPLETE");
    if level1.fresh || !flat(&level1.header) || flat(Fits::open(sky)?.primary()) {
        return Ok(());
    }
    let path = job.inputs.first().cloned().unwrap_or_default();
    Err(Error::input(
        &path,
        "is flat-fielded and the sky frame is not: run the recipe 'imager' on the rate, which subtracts the sky first",
    ))
}

/// What the input shared with other frames, its product shares too: scaled as its
/// variance was.
fn keep_common(image: &mut Image, level1: &Level1) {
    if level1.common.is_empty() {
        return;
    }
    image.var_common.resize(image.data.len(), 0.0);
    for i in 0..image.data.len() {
        let (before, after) = (level1.rate.err[i].powi(2), image.err[i].powi(2) - image.var_common[i]);
        let more = level1.common[i] * after / before;
        image.var_common[i] += if more.is_finite() { more.max(0.0) } else { 0.0 };
    }
}

/// A level-2 image as a step's input: its errors count as its own, but for the part
/// that [`keep_common`] puts back.
fn from_image(job: &Job, path: &std::path::Path, engine: &dyn Engine) -> Result<Level1> {
    let (header, image) = crate::input::read_image(path)?;
    let variance: Vec<f32> = image.err.iter().map(|e| e * e).collect();
    let n = image.data.len();
    let rate = Rate {
        nx: image.nx,
        ny: image.ny,
        data: image.data,
        err: image.err,
        dq: image.dq,
        var_poisson: vec![0.0; n],
        var_rnoise: variance,
        chi2: vec![f32::NAN; n],
        nreads: vec![0; n],
    };
    let provenance = exposure::provenance(job, engine, &job.inputs);
    Ok(Level1 {
        meta: Meta::from_header(&header),
        header,
        rate,
        provenance,
        fresh: false,
        counts: false,
        common: image.var_common,
    })
}
