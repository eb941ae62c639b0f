//! Jobs that make a master of a set, and normalised flats.

use std::path::PathBuf;

use super::blend;
use super::combine::{DARK, DETECTOR, SIZE, WINDOW, alike, files};
use super::execute::{Pipeline, VERSION, product_path, rate_of, step};
use super::exposure::{self, Level1, note_references};
use super::masters::{self, DarkLimits, Master};
use super::product::{self, About, MasterInfo};
use super::provenance::{Provenance, Status};
use super::stage2::{self, References};
use super::wcs::{self, Grid};
use super::{Done, Job};
use crate::config::{Background, CombineFrames, Step};
use crate::datamodel::{Image, Meta, Rate};
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::refs::{self, Frame};
use crate::words::counted;

impl Pipeline {
    /// A set to the master of a type: `dark`, `flat`, `sky`.
    pub(super) fn make_master(&mut self, job: &Job, kind: &str, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let default = CombineFrames::default();
        let step = step!(job, CombineFrames).unwrap_or(&default).clone();
        let frames = self.set(job, &mut done, progress)?;
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce("no frames to combine".into()));
        };
        alike(&frames, &files(job), &[DETECTOR, WINDOW, SIZE, DARK])?;
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let headers: Vec<&Header> = frames.iter().map(|f| &f.header).collect();
        let header = blend(&headers);
        let mut record = first.provenance.clone();
        record.inputs.clone_from(&job.inputs);
        record.subarrays = None;
        let meta = first.meta.clone();
        let (level2, rates): (Vec<(Option<PathBuf>, Header)>, Vec<Rate>) =
            frames.into_iter().map(|f| ((image_of(job, &f), f.header), f.rate)).unzip();
        let dark = self.dark(job, &frame, None)?;
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
        let description = format!("master {kind} of {}", counted(rates.len(), "exposure"));
        let info = MasterInfo { reftype: kind, version: VERSION, description: &description };
        done.products.push(product::write_master(&path, &about, &info, &master.image)?);
        Ok(done)
    }

    /// The level-2 image of each sky frame: less the dark, and flat-fielded where the
    /// job has a flat. `frames` are where these go, for rates made here, and the
    /// rates' headers.
    fn sky_images(
        &mut self,
        job: &Job,
        rates: &[Rate],
        frames: &[(Option<PathBuf>, Header)],
        dark: Option<&Image>,
        record: &Provenance,
        done: &mut Done,
    ) -> Result<()> {
        for ((path, header), rate) in frames.iter().zip(rates) {
            let Some(path) = path else { continue };
            let meta = Meta::from_header(header);
            let frame = Frame::new(&meta, rate.ny, rate.nx);
            let flat = job.references.get("flat").map(|p| refs::load_flat(p, &frame)).transpose()?;
            let references = References { dark, flat: flat.as_ref(), ..References::default() };
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
            done.products.push(product::write_image(path, &about, &reduced.image)?);
        }
        Ok(())
    }

    /// `normalize` alone: a flat to median 1.
    pub(super) fn normalize(&mut self, job: &Job) -> Result<Done> {
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
}

/// Where the level-2 image of a rate made here goes: beside it.
fn image_of(job: &Job, level1: &Level1) -> Option<PathBuf> {
    let file = level1.provenance.inputs.first().filter(|_| level1.fresh)?;
    let rate = rate_of(job, file, &level1.meta);
    let name = rate.file_name()?.to_string_lossy().replace("_LVL1_", "_LVL2_");
    Some(rate.with_file_name(name))
}
