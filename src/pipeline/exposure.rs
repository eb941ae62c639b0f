//! One exposure to its rate: opening, stage 1, and what it records.

mod ramp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::job::Job;
use super::jump_list::{self, JumpList};
use super::persistence::Saturated;
use super::product::{self, About};
use super::provenance::{Provenance, Status};
use super::wcs::{self, Grid};
use super::{dq_init, ramp_rates, read_list, subarrays};
use crate::config::{RampFit, RateUnits, Recipe, Step};
use crate::datamodel::{Image, Meta, Rate, dq};
use crate::engine::{DeviceKind, Engine};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::input::{self, EachRead, NoiseModel, Raw, RawImage};
use crate::refs::{self, Frame, MaskFile, PlaneFile};

/// A rate with what is known of it.
#[derive(Debug)]
pub(super) struct Level1 {
    /// Keywords that products inherit.
    pub(super) header: Header,
    /// The header's facts.
    pub(super) meta: Meta,
    /// The planes, e-/s.
    pub(super) rate: Rate,
    /// What made it so far.
    pub(super) provenance: Provenance,
    /// Whether it was made here (else it was a rate already).
    pub(super) fresh: bool,
    /// DN/s rather than e-/s.
    pub(super) counts: bool,
    /// Seconds that the rate is written as counts over; `None`: it is written as a rate.
    pub(super) span: Option<f64>,
    /// Variance shared with frames of the same references; empty for a rate.
    pub(super) common: Vec<f32>,
    /// The rates of its ramps, where they are to be written and not yet are.
    pub(super) ramps: Vec<Rate>,
    /// Its jumps, where they are to be written and not yet are.
    pub(super) jumps: Option<JumpList>,
    /// What differs from read to read, where it came as one file a read and that is not
    /// yet written.
    pub(super) reads: Option<EachRead>,
}

/// What became of an exposure.
pub(super) enum Made {
    /// A rate.
    Rate(Box<Level1>),
    /// A ramp or a rate, written to these files, the product last; with warnings.
    Written(Vec<PathBuf>, Vec<String>),
}

/// Checksums of references, remembered by path.
pub(super) type Checksums = BTreeMap<PathBuf, String>;

/// What jobs share.
pub(super) struct Session<'a> {
    /// What computes.
    pub(super) engine: &'a mut dyn Engine,
    /// Of references.
    pub(super) checksums: &'a mut Checksums,
    /// What saturated in earlier exposures.
    pub(super) saturated: &'a mut Saturated,
}

/// Notes in `provenance` the references among `types` that the job has.
pub(super) fn note_references(
    provenance: &mut Provenance,
    job: &Job,
    types: &[&str],
    checksums: &mut Checksums,
) -> Result<()> {
    checksums.extend(sums(unknown(job, types, checksums))?);
    name_references(provenance, job, types, checksums);
    Ok(())
}

/// The references among `types` whose checksums are not known.
fn unknown(job: &Job, types: &[&str], checksums: &Checksums) -> Vec<PathBuf> {
    let all = types.iter().filter_map(|t| job.references.get(*t));
    all.filter(|p| !checksums.contains_key(*p)).cloned().collect()
}

/// The checksums of files.
fn sums(files: Vec<PathBuf>) -> Result<Checksums> {
    use rayon::prelude::*;
    files.into_par_iter().map(|p| refs::checksum(&p).map(|sum| (p, sum))).collect()
}

/// Notes in `provenance` the references among `types` that the job has, with the
/// checksums that are known.
fn name_references(provenance: &mut Provenance, job: &Job, types: &[&str], checksums: &Checksums) {
    for reftype in types {
        let Some(path) = job.references.get(*reftype) else { continue };
        let sum = checksums.get(path).map_or("", String::as_str);
        match provenance.references.iter_mut().find(|r| r.reftype == *reftype) {
            Some(noted) if noted.path == *path => noted.checksum = sum.to_owned(),
            Some(_) => {}
            None => {
                let why = job.reasons.get(*reftype).map_or("", String::as_str);
                provenance.reference(reftype, path, sum, why);
            }
        }
    }
}

/// An empty record for a job on an engine.
pub(super) fn provenance(job: &Job, engine: &dyn Engine, inputs: &[PathBuf]) -> Provenance {
    let device = engine.device();
    Provenance {
        engine: if device.kind == DeviceKind::Cpu {
            "cpu".into()
        } else {
            format!("gpu ({})", device.backend)
        },
        device: device.name.clone(),
        site: job.instrument.site.map(|s| (job.instrument.telescope.clone(), s.geocentric())),
        plan_hash: job.plan_hash.clone(),
        night: job.night.clone().unwrap_or_default(),
        preliminary: job.preliminary,
        crds_context: job.crds_context.clone().unwrap_or_default(),
        inputs: inputs.to_vec(),
        defaults: job.said.clone(),
        troubles: job.troubles.clone(),
        compat: job.compat,
        ..Provenance::default()
    }
}

/// Whether a step belongs to stage 1.
pub(super) fn is_stage1(step: &Step) -> bool {
    matches!(
        step,
        Step::DqInit(_)
            | Step::ParseSubarrayMap(_)
            | Step::Saturation(_)
            | Step::Ipc(_)
            | Step::Bias(_)
            | Step::Refpix(_)
            | Step::DarkDecay(_)
            | Step::Linearity(_)
            | Step::DarkRamp(_)
            | Step::ChargeMigration(_)
            | Step::Persistence(_)
            | Step::Jump(_)
            | Step::RampFit(_)
    )
}

/// The recipe's stage-1 steps; a recipe that begins later gets the whole stage.
fn stage1_of(recipe: &Recipe) -> Result<Recipe> {
    if recipe.steps.iter().any(is_stage1) {
        let steps = recipe.steps.iter().filter(|s| is_stage1(s)).cloned().collect();
        return Ok(Recipe { steps, ..recipe.clone() });
    }
    Recipe::built_in("stage1")
}

/// Opens `files` (one file, or the reads of one exposure) and brings it to a rate.
/// What may be written as it is made goes to `straight`.
pub(super) fn level1(
    job: &Job,
    files: &[PathBuf],
    straight: Straight<'_>,
    session: &mut Session<'_>,
    progress: &dyn Fn(f64),
) -> Result<Made> {
    let options = job.open_options();
    let opened = match files {
        [] => return Err(Error::Usage("no file to reduce".into())),
        [one] => input::open(one, &job.instrument, &options)?,
        several => Raw::Ramp(input::open_reads(several, &options)?),
    };
    let mut record = provenance(job, session.engine, files);
    let size = match &opened {
        Raw::Ramp(r) => (r.ny, r.nx),
        Raw::Level1(i) => (i.ny, i.nx),
        Raw::Rate(f) => (f.rate.ny, f.rate.nx),
    };
    record.subarrays = subarrays::of_file(files.first(), size)?;
    let samples = |f: &RampFit| f.units == RateUnits::OverRamp;
    let fit = job.recipe.active(|s| if let Step::RampFit(f) = s { Some(f) } else { None });
    if let (Raw::Level1(_) | Raw::Rate(_), Some(file)) =
        (&opened, files.first().filter(|_| fit.is_some_and(samples)))
    {
        let text = "is an image, and readout samples the reads of a ramp: give the raw ramp";
        return Err(Error::input(file, text));
    }
    match opened {
        Raw::Ramp(ramp) => ramp::reduce(job, ramp, record, straight, session, progress),
        Raw::Level1(image) => {
            from_image(job, &image, record, session.checksums).map(|l| Made::Rate(Box::new(l)))
        }
        Raw::Rate(file) => {
            let mut provenance = record;
            provenance.warnings.extend(file.warnings);
            let mut rate = file.rate;
            subarrays::parse(&job.recipe, &mut rate, &mut provenance);
            Ok(Made::Rate(Box::new(Level1 {
                counts: counts(&file.header),
                span: None,
                header: file.header,
                meta: file.meta,
                rate,
                provenance,
                fresh: false,
                common: file.common,
                ramps: Vec::new(),
                jumps: None,
                reads: None,
            })))
        }
    }
}

fn counts(header: &Header) -> bool {
    header.text("BUNIT").is_some_and(|u| u.contains("adu") || u.contains("DN"))
}

/// A raw science frame: gain and noise make its error, the mask its flags.
fn from_image(
    job: &Job,
    image: &RawImage,
    mut record: Provenance,
    checksums: &mut Checksums,
) -> Result<Level1> {
    let frame = Frame::new(&image.meta, image.ny, image.nx);
    let path = |t: &str| job.references.get(t);
    let gain = path("gain").map(|p| PlaneFile::gain(p, &frame)?.load(&[])).transpose()?;
    let ones;
    let gain_plane = match &gain {
        Some((g, _)) => g.as_slice(),
        None => {
            ones = vec![
                job.instrument.detector(&image.meta.detector).map_or(1.0, |d| d.gain) as f32;
                image.ny * image.nx
            ];
            &ones
        }
    };
    let noise = path("readnoise").map(|p| PlaneFile::readnoise(p, &frame)?.load(gain_plane)).transpose()?;
    let model = NoiseModel {
        gain: gain.as_ref().map(|(g, _)| g.as_slice()),
        read_noise: noise.as_ref().map(|(n, _)| n.as_slice()),
    };
    let mut rate = image.to_rate(&model)?;
    let mut used = vec!["gain", "readnoise"];
    if let Some(mask) = path("mask") {
        let mask = MaskFile::open(mask, &frame)?.load()?;
        flag(&mut rate, &mask);
        used.push("mask");
    }
    let recipe = stage1_of(&job.recipe)?;
    let mut header = image.header.clone();
    let dq_init = recipe.active(|s| if let Step::DqInit(d) = s { Some(d) } else { None });
    if dq_init.is_some_and(|step| step.mask_guide_windows)
        && let Some(pixels) =
            dq_init::guide_windows(&image.path, &image.header, (image.ny, image.nx), &mut record.warnings)?
    {
        let mut bits = vec![0; image.ny * image.nx];
        pixels.iter().for_each(|p| bits[*p as usize] = dq_init::GUIDE_WINDOW);
        flag(&mut rate, &bits);
        header.set("NGUIDE", pixels.len(), "pixels of guide windows, masked");
    }
    record.warnings.extend(
        image
            .warnings
            .iter()
            .filter(|w| {
                !(gain.is_some() && w.starts_with("GAIN ") || noise.is_some() && w.starts_with("READNOIS "))
            })
            .cloned(),
    );
    subarrays::parse(&recipe, &mut rate, &mut record);
    // The readout did what it did of stage 1; only the mask is applied here.
    for step in recipe.steps {
        let done = header.text(step.keyword()).as_deref() == Some("COMPLETE");
        if done || record.has(&step) {
            continue;
        }
        let masked = matches!(step, Step::DqInit(_)) && (used.contains(&"mask") || header.has("NGUIDE"));
        record.step(&step, if masked { Status::Complete } else { Status::Skipped });
    }
    note_references(&mut record, job, &used, checksums)?;
    Ok(Level1 {
        header,
        meta: image.meta.clone(),
        rate,
        provenance: record,
        fresh: true,
        counts: false,
        span: None,
        common: Vec::new(),
        ramps: Vec::new(),
        jumps: None,
        reads: None,
    })
}

/// Adds flags; pixels that become DO_NOT_USE lose their values.
pub(super) fn flag(rate: &mut Rate, mask: &[u32]) {
    for (i, m) in mask.iter().enumerate() {
        rate.dq[i] |= m;
        if rate.dq[i] & dq::DO_NOT_USE != 0 {
            for plane in
                [&mut rate.data, &mut rate.err, &mut rate.var_poisson, &mut rate.var_rnoise, &mut rate.chi2]
            {
                plane[i] = f32::NAN;
            }
        }
    }
}

impl Level1 {
    /// Whether it was read from an image of level 2 or more, not a rate.
    pub(super) fn is_image(&self) -> bool {
        !self.fresh && self.header.integer("DATALVL") >= Some(2)
    }

    /// Takes the values, errors and flags of the rate after a step; without a value
    /// it has no variances either.
    pub(super) fn take(&mut self, image: Image) {
        let rate = &mut self.rate;
        (rate.data, rate.err, rate.dq, self.common) = (image.data, image.err, image.dq, image.var_common);
        for plane in [&mut rate.var_poisson, &mut rate.var_rnoise, &mut rate.chi2] {
            let lost = plane.iter_mut().zip(&rate.data).filter(|(_, value)| value.is_nan());
            lost.for_each(|(v, _)| *v = f32::NAN);
        }
    }
}

/// Where the products of an exposure go that are written as they are made.
#[derive(Clone, Copy, Default)]
pub(super) struct Straight<'a> {
    /// A ramp, where the recipe stops before the fit.
    pub(super) ramp: Option<&'a Path>,
    /// Its rate, of which nothing else is made.
    pub(super) rate: Option<&'a dyn Fn(&Meta) -> PathBuf>,
}

/// Cards of an exposure's world coordinates, where its header has them.
fn coordinates(header: &Header, meta: &Meta, (ny, nx): (usize, usize), job: &Job) -> Option<Header> {
    // A detector behind a spectrograph sees wavelengths, not the sky.
    if meta.detector == "IFU" {
        return None;
    }
    let solution = wcs::assign(header, None, &job.instrument, Grid::Detector(ny, nx));
    solution.ok().flatten().map(|s| s.cards)
}

/// What is written around the planes of a rate.
fn about<'a>(
    header: &'a Header,
    meta: &Meta,
    counts: bool,
    wcs: Option<&'a Header>,
    provenance: &'a Provenance,
) -> About<'a> {
    let unit = if counts { product::COUNTS } else { product::ELECTRONS };
    About { input: header, model: product::image_model(meta), level: 1, unit, wcs, provenance, extra: None }
}

/// Writes the jumps and what differs from read to read beside the rate at `path`.
fn write_lists(
    path: &Path,
    about: &About<'_>,
    jumps: Option<JumpList>,
    reads: Option<EachRead>,
) -> Result<Option<PathBuf>> {
    let table = About { unit: "", wcs: None, ..*about };
    match (jumps, reads) {
        (Some(jumps), reads) => jumps.write(&jump_list::path_for(path), &table, reads.as_ref()).map(Some),
        (None, Some(reads)) => read_list::write(&read_list::path_for(path), &table, &reads).map(Some),
        (None, None) => Ok(None),
    }
}

/// Writes the rate of an exposure; with world coordinates, where its header has
/// them. The rates of its ramps, where there are any, are written before it and let go.
pub(super) fn write_level1(path: &Path, level1: &mut Level1, job: &Job) -> Result<Vec<PathBuf>> {
    let shape = (level1.rate.ny, level1.rate.nx);
    let wcs = coordinates(&level1.header, &level1.meta, shape, job);
    let ramps = std::mem::take(&mut level1.ramps);
    let (jumps, reads) = (level1.jumps.take(), level1.reads.take());
    let about = about(&level1.header, &level1.meta, level1.counts, wcs.as_ref(), &level1.provenance);
    let mut written: Vec<PathBuf> = write_lists(path, &about, jumps, reads)?.into_iter().collect();
    if !ramps.is_empty() {
        written.push(ramp_rates::write(&ramp_rates::path_beside(path), &about, &ramps)?);
    }
    written.push(match level1.span {
        Some(span) => product::write_counts(path, &about, &level1.rate, span)?,
        None => product::write_rate(path, &about, &level1.rate, &level1.common)?,
    });
    Ok(written)
}

/// The files of each exposure: reads of one exposure together, all others alone.
pub(super) fn exposures(inputs: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    type Exposure = (String, String, i64);
    let mut sets: Vec<(Exposure, Vec<(input::ReadKey, PathBuf)>)> = Vec::new();
    let mut alone: Vec<Vec<PathBuf>> = Vec::new();
    for path in inputs {
        // A product may keep the keywords of its last read.
        let raw = Fits::open(path).ok().filter(|f| !f.primary().has("DRSVER"));
        let key = raw.and_then(|f| input::read_group_key(f.primary()));
        let Some(key) = key else {
            alone.push(vec![path.clone()]);
            continue;
        };
        match sets.iter_mut().find(|(exposure, _)| *exposure == key.exposure) {
            Some((_, files)) => files.push((key, path.clone())),
            None => sets.push((key.exposure.clone(), vec![(key, path.clone())])),
        }
    }
    for (_, mut files) in sets {
        files.sort();
        alone.push(files.into_iter().map(|(_, p)| p).collect());
    }
    alone
}
