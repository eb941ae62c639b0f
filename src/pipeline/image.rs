//! An imager exposure to its calibrated image, from a ramp, a rate or an image that
//! an earlier step left.

use std::path::Path;

use super::execute::{Pipeline, beside, is_level2, product_path, refuse_repeats, step};
use super::exposure::{self, Level1, Made, note_references, write_level1};
use super::product::{self, About};
use super::provenance::{Provenance, same_reference};
use super::stage2::{self, References, Sky};
use super::wcs::{self, Grid};
use super::{Done, Job};
use super::{cosmic_rays, subarrays};
use crate::config::{Background, SkyScaling, Step};
use crate::datamodel::{Image, Meta, Rate};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::refs::{self, Frame};

/// What the steps of stage 2 leave.
pub(super) struct Calibrated {
    /// The planes.
    pub(super) image: Image,
    /// Cards of the world coordinates.
    pub(super) wcs: Option<Header>,
    /// Steps that could not be done.
    pub(super) left_out: Vec<&'static str>,
}

impl Pipeline {
    /// An imager exposure to its calibrated image, or to the rate less its dark.
    pub(super) fn image(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut level1 = match job.inputs.as_slice() {
            [path] if is_level2(path) => from_image(job, path, self.engine.as_ref())?,
            _ => match self.one(job, &mut done, progress)? {
                Made::Rate(level1) => *level1,
                Made::Written(..) => return Ok(done),
            },
        };
        let file = job.inputs.first().cloned().unwrap_or_default();
        let level = job.recipe.level(level1.meta.level);
        let path = product_path(job, Some(&level1.meta), level);
        if level == 1 && level1.is_image() {
            let text = "is an image of level 2, and dark_sub takes rates: start from the exposure's rate";
            return Err(Error::input(&file, text));
        }
        let rate = beside(job, &level1.meta, 1);
        if level1.fresh && rate != path && !job.intermediate {
            done.products.extend(write_level1(&rate, &mut level1, job)?);
        }
        let made = self.calibrated(job, &mut level1, &file, &mut done.warnings)?;
        level1.provenance.warnings.clone_from(&done.warnings);
        let mut record = std::mem::take(&mut level1.provenance);
        self.finish_record(job, &mut record, &made.left_out, &[])?;
        if level == 1 {
            level1.provenance = record;
            level1.take(made.image);
            done.products.extend(write_level1(&path, &mut level1, job)?);
        } else {
            let about = About {
                input: &level1.header,
                model: product::image_model(&level1.meta),
                level: level.into(),
                unit: product::ELECTRONS,
                wcs: made.wcs.as_ref(),
                provenance: &record,
                extra: None,
            };
            done.products.push(product::write_image(&path, &about, &made.image)?);
        }
        progress(1.0);
        Ok(done)
    }

    /// The job's steps of stage 2 on one frame; SKYSCALE and the references are noted
    /// in its header and record.
    pub(super) fn calibrated(
        &mut self,
        job: &Job,
        level1: &mut Level1,
        file: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Calibrated> {
        if level1.counts {
            return Err(Error::input(file, "is in DN/s; stage 2 needs e-/s (leave ramp_fit.units at e-/s)"));
        }
        let (ny, nx) = (level1.rate.ny, level1.rate.nx);
        let frame = Frame::new(&level1.meta, ny, nx);
        let gain =
            job.references.get("gain").map(|p| refs::PlaneFile::gain(p, &frame)?.load(&[])).transpose()?;
        let gain = gain.as_ref().map(|(g, _)| g.as_slice());
        let dark = self.dark(job, &frame, gain)?;
        let mut flat = match (step!(job, FlatField), job.references.get("flat")) {
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
                let header = Fits::open(path)?.primary().clone();
                Some((refs::load_sky(path, &frame, gain)?, header))
            }
            (Some(_), None) => {
                left_out.push("background");
                warnings.push("no sky frame: the background stays in".into());
                None
            }
            _ => None,
        };
        for (reftype, image) in [("dark", dark.as_ref()), ("sky", sky.as_ref().map(|(image, _)| image))] {
            if let Some((image, path)) = image.zip(job.references.get(reftype)) {
                warnings.extend(refs::doubts_of_rate(path, reftype, image)?);
            }
        }
        let mut types = Vec::new();
        types.extend(dark.is_some().then_some("dark"));
        let flat_sky = sky.as_ref().is_some_and(|(_, header)| is_done(header, "S_FLAT"));
        match (is_done(&level1.header, "S_FLAT"), flat_sky) {
            (true, false) if sky.is_some() => {
                let own = self.flat_of(job, level1, file)?;
                undo_flat(level1, &own);
                flat = Some(own);
            }
            (false, true) => {
                let text = "is flat-fielded and the frame is not yet: take a sky that is not, or run flat_field first";
                return Err(Error::reference("sky", text));
            }
            _ => {}
        }
        types.extend(flat.is_some().then_some("flat"));
        types.extend(sky.is_some().then_some("sky"));
        let mut record = std::mem::take(&mut level1.provenance);
        note_references(&mut record, job, &types, &mut self.checksums)?;
        let facts = facts(level1, &record);
        let references = References {
            dark: dark.as_ref(),
            flat: flat.as_ref(),
            sky: sky
                .as_ref()
                // A flat-fielded sky shares more than the dark, which would not cancel with it.
                .map(|(image, header)| Sky {
                    image,
                    same_dark: !flat_sky && same_reference(header, &facts, "dark"),
                }),
            before: &level1.common,
        };
        if let Some((_, header)) = &sky {
            warnings.extend(other_dark(header, &facts, dark.is_some()));
        }
        let default = Background::default();
        let mut background = step!(job, Background).unwrap_or(&default);
        // What a subarray shows is what it was read for: its level is not the sky's.
        let mut fixed = Background { scaling: SkyScaling::Fixed, ..background.clone() };
        if level1.meta.subarrid > 0 && sky.is_some() && background.scaling != SkyScaling::Fixed {
            match factor_of(job.full_frame.as_deref())? {
                Some(factor) => fixed.scale = factor,
                None => warnings.push(format!(
                    "background: a subarray's own level does not tell that of its sky, which is subtracted times {} \
                     (scaling fixed): its full frame, with that one's factor, is not among the files",
                    fixed.scale
                )),
            }
            background = &fixed;
        }
        let mut reduced = stage2::reduce(self.engine.as_mut(), &level1.rate, &references, background)?;
        level1.provenance = record;
        if let Some(step) = step!(job, CosmicRays) {
            if cosmic_rays::applies(step, level1, job.recipe.steps.len() == 1) {
                let hits = cosmic_rays::reject(self.engine.as_mut(), &mut reduced.image, step)?;
                level1.header.set("NCOSMIC", hits, "pixels that cosmic rays hit");
            } else {
                left_out.push("cosmic_rays");
            }
        }
        if let Some(scale) = reduced.sky_scale {
            level1.header.set("SKYSCALE", (scale * 1e6).round() / 1e6, "factor on the sky frame");
        }
        let find = || wcs::assign(&level1.header, None, &job.instrument, Grid::Detector(ny, nx));
        let mut coordinates = None;
        match job.recipe.steps.iter().find(|s| matches!(s, Step::AssignWcs(_))) {
            Some(step) if step.skip() => {}
            Some(_) => {
                coordinates = find()?;
                match &coordinates {
                    Some(found) => warnings.extend(found.warnings.iter().cloned()),
                    None => {
                        left_out.push("assign_wcs");
                        warnings.push("no WCS: the header has neither a full one nor RA and DEC".into());
                    }
                }
            }
            // A step by itself keeps what there is; nobody asked for more.
            None if level1.meta.detector != "IFU" => coordinates = find().ok().flatten(),
            None => {}
        }
        warnings.extend(reduced.warnings);
        Ok(Calibrated { image: reduced.image, wcs: coordinates.map(|s| s.cards), left_out })
    }

    /// The flat that an image was divided by, which the job must have: the sky, which
    /// was not divided by any, is subtracted before the flat.
    fn flat_of(&mut self, job: &Job, level1: &Level1, file: &Path) -> Result<Image> {
        let name = level1.header.text("R_FLAT").unwrap_or_else(|| "R_FLAT is missing".into());
        let mut found = String::new();
        if let Some(path) = job.references.get("flat") {
            let mut given = Provenance::default();
            note_references(&mut given, job, &["flat"], &mut self.checksums)?;
            if same_reference(&level1.header, &facts(level1, &given), "flat") {
                return refs::load_flat(path, &Frame::new(&level1.meta, level1.rate.ny, level1.rate.nx));
            }
            found = format!(", whose checksum C_FLAT says; {} is another", path.display());
        }
        Err(Error::input(
            file,
            format!(
                "is flat-fielded and the sky frame is not: give the flat it was divided by ({name}{found}) with \
                 --override_flat=FILE, or subtract the sky before flat_field"
            ),
        ))
    }
}

/// The factor that the sky was subtracted from a full frame with.
fn factor_of(product: Option<&Path>) -> Result<Option<f64>> {
    product.map_or(Ok(None), |p| Ok(Fits::open(p)?.primary().number("SKYSCALE")))
}

/// The frame's keywords with those of the references in `record`.
fn facts(level1: &Level1, record: &Provenance) -> Header {
    let mut header = level1.header.clone();
    record.keywords(&mut header);
    header
}

pub(super) fn is_done(header: &Header, keyword: &str) -> bool {
    header.text(keyword).as_deref() == Some("COMPLETE")
}

/// A warning where a sky and a frame do not agree about the dark. `now`: the dark is
/// subtracted from the frame by this job. A sky that says nothing has lost its own.
pub(super) fn other_dark(sky: &Header, frame: &Header, now: bool) -> Option<String> {
    let kept = sky.text("S_DARK").as_deref() == Some("SKIPPED");
    match (kept, now || is_done(frame, "S_DARK")) {
        (true, true) => Some(
            "the sky still has its dark current and the frame has not: it is subtracted twice; take a sky made with a dark"
                .into(),
        ),
        (false, false) => Some(
            "the sky has lost its dark current and the frame has not: it stays in the frame; run dark_sub first".into(),
        ),
        _ => None,
    }
}

/// Multiplies an image by the flat that it was divided by: what
/// [`stage2`](super::stage2) says of value, own and common variance, backwards.
fn undo_flat(level1: &mut Level1, flat: &Image) {
    let rate = &mut level1.rate;
    level1.common.resize(rate.data.len(), 0.0);
    for i in 0..rate.data.len() {
        let (value, f) = (f64::from(rate.data[i]), f64::from(flat.data[i]));
        let (err, flat_err) = (f64::from(rate.err[i]), f64::from(flat.err[i]));
        let common = f64::from(level1.common[i]);
        let own = (err * err - common).max(0.0) * f * f;
        let before = (common * f * f - value * value * flat_err * flat_err).max(0.0);
        rate.data[i] = (value * f) as f32;
        rate.err[i] = (own + before).sqrt() as f32;
        level1.common[i] = before as f32;
    }
}

/// A level-2 image as a step's input.
pub(super) fn from_image(job: &Job, path: &Path, engine: &dyn Engine) -> Result<Level1> {
    let (header, image) = crate::input::read_image(path)?;
    refuse_repeats(job, &header, path)?;
    let mut provenance = exposure::provenance(job, engine, &job.inputs);
    provenance.subarrays = subarrays::of_file(Some(&path.to_path_buf()), (image.ny, image.nx))?;
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
        ..Rate::default()
    };
    Ok(Level1 {
        meta: Meta::from_header(&header),
        header,
        rate,
        provenance,
        fresh: false,
        counts: false,
        span: None,
        common: image.var_common,
        ramps: Vec::new(),
        jumps: None,
        reads: None,
    })
}
