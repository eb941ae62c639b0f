//! The recipes `wavecal` and `dispersion`: frames to a reference.

use std::path::PathBuf;

use super::Dispersion;
use super::solve::{self, ArcSpectra};
use crate::config::{CubeBuild, Extract, Step};
use crate::datamodel::{Cube, master_name};
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::pipeline::blend;
use crate::pipeline::combine::{DARK, DETECTOR, SIZE, WINDOW, alike, files};
use crate::pipeline::execute::{Pipeline, VERSION, step};
use crate::pipeline::exposure::Level1;
use crate::pipeline::lenslet;
use crate::pipeline::lenspx::LensCal;
use crate::pipeline::product::{self, About, MasterInfo};
use crate::pipeline::provenance::Provenance;
use crate::pipeline::{Done, Job};
use crate::refs::Frame;

/// Frames that are to become a reference: rates less their dark, and what is said of them.
struct Set {
    frames: Vec<Level1>,
    header: Header,
    record: Provenance,
    cal: LensCal,
    extract: Extract,
}

impl Pipeline {
    /// Arcs to the wavelengths of the spaxels.
    pub(in crate::pipeline) fn wavecal(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut set = self.set_of_lenslets(job, &mut done, progress)?;
        set.cal = lenslet::own_calibration(job)?;
        let degree = step!(job, Wavecal).map_or(3, |w| w.degree as usize);
        // A sharp line is nothing for a cosmic-ray filter to judge.
        let extract = Extract { rejection_threshold: 0.0, ..set.extract.clone() };
        let mut arcs = Vec::new();
        for (frame, path) in set.frames.iter_mut().zip(&files(job)) {
            let wavelengths = lenslet::lines_of(&frame.header, &frame.meta, path, &set.cal)?;
            let spectra = lenslet::spectra(job, frame, &set.cal, &extract, self.engine.as_mut())?;
            arcs.push(ArcSpectra { wavelengths, spectra });
        }
        let (map, warnings) = solve::wavemap(&set.cal, &arcs, degree)?;
        done.warnings.extend(warnings);
        let info = MasterInfo {
            reftype: "wavemap",
            version: VERSION,
            description: "wavelengths of the spaxels from arcs",
        };
        self.reference(job, set, &info, &["dark", "lenspx"], done, |path, header| map.save(path, header))
    }

    /// Frames of a white point source to the instrumental dispersion.
    pub(in crate::pipeline) fn dispersion(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut set = self.set_of_lenslets(job, &mut done, progress)?;
        let build = step!(job, CubeBuild).cloned().ok_or_else(|| needs(job, "cube_build"))?;
        // It is what is to be measured, and a lamp has no OH lines.
        let build = CubeBuild { dispersion: false, oh_check: false, wavelength_shift: false, ..build };
        let degree = step!(job, Dispersion).map_or(3, |d| d.degree as usize);
        let mut cubes: Vec<Cube> = Vec::new();
        let extract = set.extract.clone();
        for frame in &mut set.frames {
            let spectra = lenslet::spectra(job, frame, &set.cal, &extract, self.engine.as_mut())?;
            cubes.push(lenslet::build(
                job,
                &spectra,
                &set.cal,
                &build,
                &mut frame.header,
                &mut done.warnings,
            )?);
        }
        let (found, warnings) = Dispersion::fit(&cubes, &set.cal.mode, degree)?;
        done.warnings.extend(warnings);
        let description = "place of a white point source against wavelength";
        let info = MasterInfo { reftype: "dispersion", version: VERSION, description };
        self.reference(job, set, &info, &["dark", "lenspx", "wavemap"], done, |path, header| {
            found.save(path, header)
        })
    }

    fn set_of_lenslets(&mut self, job: &Job, done: &mut Done, progress: &dyn Fn(f64)) -> Result<Set> {
        let extract = step!(job, Extract).cloned().ok_or_else(|| needs(job, "extract"))?;
        let mut frames = self.set(job, done, progress)?;
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce(format!("no frames for the recipe '{}'", job.recipe.name)));
        };
        alike(&frames, &files(job), &[DETECTOR, WINDOW, SIZE, DARK])?;
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let header = blend(&frames.iter().map(|f| &f.header).collect::<Vec<_>>());
        let mut record = first.provenance.clone();
        record.inputs.clone_from(&job.inputs);
        let cal = lenslet::calibration(job)?;
        if let Some(dark) = self.dark(job, &frame, None)? {
            frames.iter_mut().try_for_each(|f| self.subtract_dark(f, &dark))?;
        }
        Ok(Set { frames, header, record, cal, extract })
    }

    /// Writes the reference with all that is to be said of it.
    fn reference(
        &mut self,
        job: &Job,
        set: Set,
        info: &MasterInfo<'_>,
        types: &[&str],
        mut done: Done,
        save: impl FnOnce(&std::path::Path, &Header) -> Result<()>,
    ) -> Result<Done> {
        let Set { frames, header, mut record, .. } = set;
        record.warnings.clone_from(&done.warnings);
        self.finish_record(job, &mut record, &[], types)?;
        let name = || master_name(&frames[0].meta, info.reftype, "", VERSION);
        let path: PathBuf = job.product.clone().unwrap_or_else(|| job.masters.join(name()));
        let (model, extra) = product::master_keywords(info, &header);
        let about = About::reference(&header, &model, &record, &extra);
        save(&path, &product::primary(&path, &about))?;
        done.products.push(path);
        Ok(done)
    }
}

fn needs(job: &Job, step: &str) -> Error {
    let last = job.recipe.steps.last().map_or("", Step::name);
    Error::Usage(format!("recipe '{}': {last} needs {step}, which is left out", job.recipe.name))
}
