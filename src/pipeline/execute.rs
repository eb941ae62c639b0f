//! A job from its files to its products.

use std::path::{Path, PathBuf};

use super::exposure::{
    self, Checksums, Level1, Made, Session, Straight, exposures, is_stage1, note_references, write_level1,
};
use super::job::{Done, Job};
use super::persistence::Saturated;
use super::provenance::{Provenance, Status};
use super::stage2::{self, References};
use crate::config::{Background, Step};
use crate::datamodel::{Image, Meta, product_name};
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
    saturated: Saturated,
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
        Pipeline { engine, checksums: Checksums::new(), saturated: Saturated::new() }
    }

    /// What an exposure's reduction works with.
    pub(super) fn session(&mut self) -> Session<'_> {
        let Pipeline { engine, checksums, saturated } = self;
        Session { engine: engine.as_mut(), checksums, saturated }
    }

    /// The device.
    pub fn device(&self) -> &DeviceInfo {
        self.engine.device()
    }

    /// Whether the device computes as it should.
    pub fn self_test(&mut self) -> Result<()> {
        crate::engine::self_test(self.engine.as_mut())
    }

    /// Does the job, telling `progress` the fraction done.
    pub fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = self.carry_out(job, progress)?;
        done.warnings.extend(job.compat.and_then(|c| c.unchanged(&done.products)));
        Ok(done)
    }

    fn carry_out(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let job = &one_dark(job)?;
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
        } else if job.recipe.master() == Some("wavemap") {
            self.wavecal(job, progress)
        } else if job.recipe.master() == Some("dispersion") {
            self.dispersion(job, progress)
        } else if has(|s| matches!(s, Step::Wavecal(_))) {
            self.lenspx(job, progress)
        } else if has(|s| matches!(s, Step::Extract(_) | Step::CubeBuild(_) | Step::SkySub(_)))
            || job.inputs.first().is_some_and(|p| is_cube(p))
        {
            self.cube(job, progress)
        } else if has(|s| matches!(s, Step::MergeSubarrays(_))) {
            self.merge_subarrays(job, progress)
        } else if has(|s| matches!(s, Step::CombineFrames(_))) {
            match job.recipe.master() {
                Some(reftype) => self.make_master(job, reftype, progress),
                None => self.combine(job, progress),
            }
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
        self.one_to(job, done, None, progress)
    }

    /// The same, its rate written as it is made to where `rate` says, where that can be.
    fn one_to(
        &mut self,
        job: &Job,
        done: &mut Done,
        rate: Option<&dyn Fn(&Meta) -> PathBuf>,
        progress: &dyn Fn(f64),
    ) -> Result<Made> {
        let ramp = product_path(job, None, 0);
        let straight = Straight { ramp: Some(&ramp), rate };
        let made = exposure::level1(job, &job.inputs, straight, &mut self.session(), &|f| progress(0.8 * f))?;
        match &made {
            Made::Rate(l) => {
                if let Some(path) = job.inputs.first().filter(|_| !l.fresh) {
                    refuse_repeats(job, &l.header, path)?;
                }
                done.warnings.extend(l.provenance.warnings.iter().cloned());
            }
            Made::Written(paths, warnings) => {
                done.warnings.extend(warnings.iter().cloned());
                done.products.extend(paths.iter().cloned());
            }
        }
        Ok(made)
    }

    fn stage1(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let to = |meta: &Meta| product_path(job, Some(meta), 1);
        if let Made::Rate(mut level1) = self.one_to(job, &mut done, Some(&to), progress)? {
            let path = to(&level1.meta);
            done.products.extend(write_level1(&path, &mut level1, job)?);
        }
        Ok(done)
    }

    /// Rates of every exposure of a set, written as they come, and kept.
    pub(super) fn set(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Vec<Level1>> {
        let groups = exposures(&job.inputs);
        let mut out: Vec<Level1> = Vec::new();
        for (i, files) in groups.iter().enumerate() {
            let share = |f: f64| progress(0.9 * (i as f64 + f) / groups.len() as f64);
            let made = exposure::level1(job, files, Straight::default(), &mut self.session(), &share)?;
            let Made::Rate(mut level1) = made else { continue };
            let path = files.first().cloned().unwrap_or_default();
            if level1.counts {
                return Err(Error::input(&path, "is in DN/s; combination needs e-/s (ramp_fit.units)"));
            }
            if !level1.fresh {
                refuse_repeats(job, &level1.header, &path)?;
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
                let path = rate_of(job, &path, &level1.meta);
                done.products.extend(write_level1(&path, &mut level1, job)?);
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

    /// Subtracts a dark: `dark_sub`, by itself.
    pub(super) fn subtract_dark(&mut self, level1: &mut Level1, dark: &Image) -> Result<()> {
        let before = std::mem::take(&mut level1.common);
        let references = References { dark: Some(dark), before: &before, ..References::default() };
        let reduced =
            stage2::reduce(self.engine.as_mut(), &level1.rate, &references, &Background::default())?;
        level1.take(reduced.image);
        Ok(())
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
}

/// The job without dark_sub where dark_ramp takes the same dark from the ramp. Rates
/// that were made without it keep the step, which then says what is wrong.
fn one_dark(job: &Job) -> Result<Job> {
    let mut job = job.clone();
    let (Some(_), Some(dark)) = (step!(job, DarkRamp), job.references.get("dark")) else { return Ok(job) };
    let kept = |path: &PathBuf| {
        Fits::open(path).is_ok_and(|f| {
            let h = f.primary();
            h.has("DRSVER")
                && h.integer("DATALVL") >= Some(1)
                && h.text("S_DARK").as_deref() != Some("COMPLETE")
        })
    };
    if refs::is_ramp(dark)? && !job.inputs.first().is_some_and(kept) {
        job.recipe.steps.retain(|s| !matches!(s, Step::DarkSub(_)));
    }
    Ok(job)
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

/// Where the rate of an exposure of a set goes.
pub(super) fn rate_of(job: &Job, file: &Path, meta: &Meta) -> PathBuf {
    job.rates.get(file).cloned().unwrap_or_else(|| job.output.join(product_name(meta, 1, "")))
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
pub(super) fn is_level2(path: &Path) -> bool {
    Fits::open(path).is_ok_and(|f| f.primary().has("DRSVER") && f.primary().integer("DATALVL") >= Some(2))
}

/// Whether a file is a cube that a pipeline made.
fn is_cube(path: &Path) -> bool {
    is_level2(path)
        && Fits::open(path)
            .is_ok_and(|f| f.hdu("DATA").is_some_and(|h| h.shape.iter().filter(|n| **n > 1).count() == 3))
}

/// A step that the input went through already is not done again. Coordinates may be
/// assigned anew, and combinations combined.
pub(super) fn refuse_repeats(job: &Job, header: &Header, path: &Path) -> Result<()> {
    let done = |s: &&Step| {
        let again =
            is_stage1(s) || matches!(s, Step::AssignWcs(_) | Step::CombineFrames(_) | Step::Normalize(_));
        !again && !s.skip() && header.text(s.keyword()).as_deref() == Some("COMPLETE")
    };
    let Some(step) = job.recipe.steps.iter().find(done) else { return Ok(()) };
    let (name, keyword) = (step.name(), step.keyword());
    Err(Error::input(
        path,
        format!(
            "went through {name} already ({keyword} = COMPLETE): leave the step out, or start from what was before it"
        ),
    ))
}
