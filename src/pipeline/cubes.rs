//! Lenslet jobs: the LEN-SPX calibration of a set, cubes of science and sky.

use super::blend;
use super::execute::{Pipeline, VERSION, beside, check_size, product_path, step};
use super::exposure::{Made, note_references, write_level1};
use super::lenslet;
use super::product::{self, About, MasterInfo};
use super::wcs::{self, Grid};
use super::{Done, Job};
use crate::config::Step;
use crate::datamodel::Meta;
use crate::error::{Error, Result};
use crate::refs::Frame;

impl Pipeline {
    pub(super) fn lenspx(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
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
    pub(super) fn cube(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let is_sky = job.recipe.takes == crate::config::Takes::Set;
        let mut frames = if is_sky {
            self.set(job, &mut done, progress)?
        } else {
            match self.one(job, &mut done, progress)? {
                Made::Rate(mut level1) => {
                    if level1.fresh {
                        let path = beside(job, &level1.meta, 1);
                        done.products.extend(write_level1(&path, &mut level1, job)?);
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
