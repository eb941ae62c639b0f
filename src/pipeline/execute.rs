//! A job from its files to its products.

use std::path::PathBuf;

use super::blend;
use super::exposure::{self, Checksums, Level1, Made, exposures, is_stage1, note_references, write_level1};
use super::job::{Done, Job};
use super::lenslet;
use super::masters::{self, DarkLimits, Master};
use super::product::{self, About, MasterInfo};
use super::provenance::{Provenance, Status};
use super::stage2::{self, References, Sky};
use super::wcs::{self, Grid};
use crate::config::{Background, CombineFrames, Step};
use crate::datamodel::{Image, Meta, Rate, product_name};
use crate::engine::{DeviceInfo, Engine};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::refs::{self, Frame};

/// REFVER of the masters that a night makes.
const VERSION: &str = "0.0.1";

/// Carries out jobs on one engine.
pub struct Pipeline {
    engine: Box<dyn Engine>,
    checksums: Checksums,
}

/// The job's step of a kind, unless it is skipped.
macro_rules! step {
    ($job:expr, $kind:ident) => {
        $job.recipe.active(|s| if let Step::$kind(p) = s { Some(p) } else { None })
    };
}

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
        if has(|s| matches!(s, Step::Wavecal(_))) {
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
    fn one(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Made> {
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
    fn set(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Vec<Level1>> {
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

    fn dark(&self, job: &Job, frame: &Frame, gain: Option<&[f32]>) -> Result<Option<Image>> {
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
    fn finish_record(
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

    fn combine(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let default = CombineFrames::default();
        let step = step!(job, CombineFrames).unwrap_or(&default).clone();
        if job.inputs.iter().all(|p| is_level2(p)) {
            return self.combine_images(job, &step);
        }
        let frames = self.set(job, &mut done, progress)?;
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce("no frames to combine".into()));
        };
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let headers: Vec<&Header> = frames.iter().map(|f| &f.header).collect();
        let header = blend(&headers);
        let mut record = first.provenance.clone();
        record.inputs.clone_from(&job.inputs);
        let meta = first.meta.clone();
        let (level2, rates): (Vec<(Header, bool)>, Vec<Rate>) =
            frames.into_iter().map(|f| ((f.header, f.fresh), f.rate)).unzip();
        let dark = self.dark(job, &frame, None)?;
        let kind = if job.recipe.steps.iter().any(|s| matches!(s, Step::Normalize(_))) {
            "flat"
        } else {
            match job.recipe.name.as_str() {
                "dark" => "dark",
                _ => "sky",
            }
        };
        let engine = self.engine.as_mut();
        let master: Master = match kind {
            "flat" => masters::master_flat(engine, &rates, dark.as_ref(), &step, step!(job, Normalize))?,
            "dark" => {
                let typical = job.instrument.detector(&meta.detector).map_or(0.1, |d| d.dark);
                masters::master_dark(engine, &rates, &step, DarkLimits::of(typical))?
            }
            _ => masters::master_sky(engine, &rates, dark.as_ref(), &step)?,
        };
        record.warnings.extend(master.warnings.iter().cloned());
        done.warnings.extend(master.warnings);
        self.finish_record(job, &mut record, &[], &["dark"])?;
        let path = job
            .product
            .clone()
            .unwrap_or_else(|| job.masters.join(crate::datamodel::master_name(&meta, kind, "", VERSION)));
        if kind == "sky" {
            self.sky_images(job, &rates, &level2, dark.as_ref(), &record, &mut done)?;
        }
        let unit = if kind == "flat" { "" } else { product::ELECTRONS };
        let about =
            About { input: &header, model: "", level: 2, unit, wcs: None, provenance: &record, extra: None };
        let description = format!("master {kind} of {} exposures", rates.len());
        let info = MasterInfo { reftype: kind, version: VERSION, description: &description };
        done.products.push(product::write_master(&path, &about, &info, &master.image)?);
        Ok(done)
    }

    /// The level-2 image of each sky frame: less the dark, and flat-fielded where the
    /// job has a flat. `frames` are their headers, and whether they were made here.
    fn sky_images(
        &mut self,
        job: &Job,
        rates: &[Rate],
        frames: &[(Header, bool)],
        dark: Option<&Image>,
        record: &Provenance,
        done: &mut Done,
    ) -> Result<()> {
        for ((header, fresh), rate) in frames.iter().zip(rates) {
            if !fresh {
                continue;
            }
            let meta = Meta::from_header(header);
            let frame = Frame::new(&meta, rate.ny, rate.nx);
            let flat = job.references.get("flat").map(|p| refs::load_flat(p, &frame)).transpose()?;
            let references = References { dark, flat: flat.as_ref(), sky: None };
            let reduced = stage2::reduce(self.engine.as_mut(), rate, &references, &Background::default())?;
            let mut record = record.clone();
            let flat_step = Step::FlatField(crate::config::FlatField::default());
            record.step(&flat_step, if flat.is_some() { Status::Complete } else { Status::Skipped });
            note_references(&mut record, job, &["flat"], &mut self.checksums)?;
            let grid = Grid::Detector(rate.ny, rate.nx);
            let coordinates = wcs::assign(header, None, &job.instrument, grid).ok().flatten();
            let about = About {
                input: header,
                model: product::image_model(&meta),
                level: 2,
                unit: product::ELECTRONS,
                wcs: coordinates.as_ref().map(|s| &s.cards),
                provenance: &record,
                extra: None,
            };
            let path = job.output.join(product_name(&meta, 2, ""));
            done.products.push(product::write_image(&path, &about, &reduced.image)?);
        }
        Ok(())
    }

    /// Level-2 images to one level-3 image.
    fn combine_images(&mut self, job: &Job, step: &CombineFrames) -> Result<Done> {
        let mut images = Vec::new();
        let mut headers = Vec::new();
        for path in &job.inputs {
            let (header, image) = crate::input::read_image(path)?;
            headers.push(header);
            images.push(image);
        }
        let all: Vec<&Image> = images.iter().collect();
        let key = |h: &Header| ["C_DARK", "C_FLAT", "C_SKY"].map(|k| h.text(k));
        let shared = headers.windows(2).all(|p| key(&p[0]) == key(&p[1]));
        let image = stage2::combine_images(self.engine.as_mut(), &all, step, shared)?;
        let header = blend(&headers.iter().collect::<Vec<_>>());
        let mut record = exposure::provenance(job, self.engine.as_ref(), &job.inputs);
        self.finish_record(job, &mut record, &[], &[])?;
        let meta = Meta::from_header(&header);
        let path = job.product.clone().unwrap_or_else(|| product_path(job, Some(&meta), 3));
        let coordinates = headers
            .first()
            .and_then(|h| wcs::assign(h, None, &job.instrument, Grid::Detector(image.ny, image.nx)).ok())
            .flatten();
        let about = About {
            input: &header,
            model: product::image_model(&meta),
            level: 3,
            unit: product::ELECTRONS,
            wcs: coordinates.as_ref().map(|s| &s.cards),
            provenance: &record,
            extra: None,
        };
        Ok(Done { products: vec![product::write_image(&path, &about, &image)?], warnings: vec![] })
    }

    /// `normalize` alone: a flat to median 1.
    fn normalize(&mut self, job: &Job) -> Result<Done> {
        let path = job.inputs.first().ok_or_else(|| Error::Usage("no file to normalise".into()))?;
        let (header, mut image) = crate::input::read_image(path)?;
        let default = crate::config::Normalize::default();
        masters::normalise(&mut image, step!(job, Normalize).unwrap_or(&default))?;
        let mut record = exposure::provenance(job, self.engine.as_ref(), &job.inputs);
        self.finish_record(job, &mut record, &[], &[])?;
        let product =
            job.product.clone().unwrap_or_else(|| product_path(job, Some(&Meta::from_header(&header)), 2));
        let about = About {
            input: &header,
            model: "",
            level: 2,
            unit: "",
            wcs: None,
            provenance: &record,
            extra: None,
        };
        let info = MasterInfo { reftype: "flat", version: VERSION, description: "normalised flat" };
        Ok(Done { products: vec![product::write_master(&product, &about, &info, &image)?], warnings: vec![] })
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
                Some((refs::load_sky(path, &frame, gain)?, Fits::open(path)?.primary().clone()))
            }
            (Some(_), None) => {
                left_out.push("background");
                done.warnings.push("no sky frame: the background stays in".into());
                None
            }
            _ => None,
        };
        let mut record = std::mem::take(&mut level1.provenance);
        let mut types = vec!["dark", "flat"];
        if sky.is_some() {
            types.push("sky");
        }
        self.finish_record_references(job, &mut record, &types)?;
        let default = Background::default();
        let same_dark = |h: &Header| lenslet::same_reference(h, &record, "dark");
        let references = References {
            dark: dark.as_ref(),
            flat: flat.as_ref(),
            sky: sky.as_ref().map(|(image, header)| Sky { image, same_dark: same_dark(header) }),
        };
        let background = step!(job, Background).unwrap_or(&default);
        let reduced = stage2::reduce(self.engine.as_mut(), &level1.rate, &references, background)?;
        if let Some(scale) = reduced.sky_scale {
            level1.header.set("SKYSCALE", (scale * 1e6).round() / 1e6, "factor on the sky frame");
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

    fn finish_record_references(&mut self, job: &Job, record: &mut Provenance, types: &[&str]) -> Result<()> {
        note_references(record, job, types, &mut self.checksums)
    }

    fn lenspx(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut frames = self.set(job, &mut done, progress)?;
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce("no frames to calibrate the lenslets with".into()));
        };
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let header = blend(&frames.iter().map(|f| &f.header).collect::<Vec<_>>());
        let mut record = first.provenance.clone();
        record.inputs.clone_from(&job.inputs);
        let meta = first.meta.clone();
        if let Some(dark) = self.dark(job, &frame, None)? {
            for f in &mut frames {
                check_size(&f.rate, &dark, "dark")?;
                lenslet::subtract_dark(&mut f.rate, &dark);
            }
        }
        let cal = lenslet::calibrate(job, frames, self.engine.as_mut())?;
        self.finish_record(job, &mut record, &[], &["dark"])?;
        let path = job
            .product
            .clone()
            .unwrap_or_else(|| job.masters.join(crate::datamodel::master_name(&meta, "lenspx", "", VERSION)));
        let info = MasterInfo {
            reftype: "lenspx",
            version: VERSION,
            description: "lenslet traces, profiles, wavelengths and flat",
        };
        let (model, extra) = product::master_keywords(&info, &header);
        let about = About {
            input: &header,
            model: &model,
            level: 2,
            unit: "",
            wcs: None,
            provenance: &record,
            extra: Some(&extra),
        };
        cal.save(&path, &product::primary(&path, &about))?;
        done.products.push(path);
        Ok(done)
    }

    /// Lenslet exposures to a cube: one (science), or the mean of a set (sky).
    fn cube(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let is_sky = job.recipe.takes == crate::config::Takes::Set;
        let mut frames = if is_sky {
            self.set(job, &mut done, progress)?
        } else {
            match self.one(job, &mut done, progress)? {
                Made::Rate(level1) => {
                    if level1.fresh {
                        done.products.push(write_level1(&beside(job, &level1.meta, 1), &level1, job)?);
                    }
                    vec![*level1]
                }
                Made::Ramp(..) => return Ok(done),
            }
        };
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce("no frames to extract".into()));
        };
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let cal = lenslet::calibration(job, first)?;
        let dark = self.dark(job, &frame, None)?;
        let mut cubes = Vec::new();
        for f in &mut frames {
            if let Some(dark) = &dark {
                check_size(&f.rate, dark, "dark")?;
                lenslet::subtract_dark(&mut f.rate, dark);
            }
            cubes.push(lenslet::cube(job, f, &cal, self.engine.as_mut())?);
        }
        let mut cube = lenslet::mean(&cubes)?;
        let header = blend(&frames.iter().map(|f| &f.header).collect::<Vec<_>>());
        let mut record = std::mem::take(&mut frames[0].provenance);
        record.inputs.clone_from(&job.inputs);
        let mut left_out = Vec::new();
        note_references(&mut record, job, &["dark", "lenspx"], &mut self.checksums)?;
        if let Some(step) = step!(job, SkySub) {
            match job.references.get("sky") {
                Some(path) => {
                    let (sky_header, sky) = crate::input::read_cube(path)?;
                    let shared = lenslet::same_reference(&sky_header, &record, "dark");
                    super::cube::sky_sub(&mut cube, &sky, step, shared)?;
                    note_references(&mut record, job, &["sky"], &mut self.checksums)?;
                }
                None => {
                    left_out.push("sky_sub");
                    done.warnings.push("no sky cube: the sky stays in".into());
                }
            }
        }
        let step = if cube.nw > 1 { cube.wavelength[1] - cube.wavelength[0] } else { 0.0 };
        let first_wave = cube.wavelength.first().copied().unwrap_or(0.0);
        let grid = Grid::Cube { ny: cube.ny, nx: cube.nx, first: first_wave, step };
        let coordinates = wcs::assign(&header, None, &job.instrument, grid)?;
        match &coordinates {
            Some(found) => done.warnings.extend(found.warnings.iter().cloned()),
            None => {
                left_out.push("assign_wcs");
                done.warnings.push("no sky coordinates: the header has no RA and DEC".into());
            }
        }
        record.warnings.clone_from(&done.warnings);
        self.finish_record(job, &mut record, &left_out, &[])?;
        let meta = Meta::from_header(&header);
        let info = MasterInfo { reftype: "sky", version: VERSION, description: "lenslet sky cube" };
        let (_, extra) = product::master_keywords(&info, &header);
        let about = About {
            input: &header,
            model: "IFUCubeModel",
            level: 2,
            unit: product::CUBE,
            wcs: coordinates.as_ref().map(|s| &s.cards),
            provenance: &record,
            extra: is_sky.then_some(&extra),
        };
        let path = job.product.clone().unwrap_or_else(|| product_path(job, Some(&meta), 2));
        done.products.push(product::write_cube(&path, &about, &cube)?);
        progress(1.0);
        Ok(done)
    }
}

fn check_size(rate: &Rate, image: &Image, what: &str) -> Result<()> {
    if (rate.ny, rate.nx) == (image.ny, image.nx) {
        return Ok(());
    }
    Err(Error::reference(
        what,
        format!("is {} × {} pixels, the frame {} × {}", image.nx, image.ny, rate.nx, rate.ny),
    ))
}

/// A product's path where the caller gave none.
fn product_path(job: &Job, meta: Option<&Meta>, level: u32) -> PathBuf {
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
fn beside(job: &Job, meta: &Meta, level: u32) -> PathBuf {
    let planned = job.product.as_ref().and_then(|p| Some((p, p.file_name()?.to_str()?)));
    match planned {
        Some((path, name)) if name.contains("_LVL2_") => {
            path.with_file_name(name.replace("_LVL2_", &format!("_LVL{level}_")))
        }
        _ => job.output.join(product_name(meta, level, job.suffix.as_deref().unwrap_or_default())),
    }
}

/// Whether a file is a product of level 2 or more, told by its primary header.
fn is_level2(path: &std::path::Path) -> bool {
    Fits::open(path).is_ok_and(|f| f.primary().has("DRSVER") && f.primary().integer("DATALVL") >= Some(2))
}

/// A level-2 image as a step's input: its errors count as its own.
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
    Ok(Level1 { meta: Meta::from_header(&header), header, rate, provenance, fresh: false, counts: false })
}
