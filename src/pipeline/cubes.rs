//! Lenslet jobs: the LEN-SPX calibration of a set, spectra and cubes of science and
//! sky.

use std::path::Path;

use super::blend;
use super::combine::{DARK, DETECTOR, SIZE, WINDOW, alike, files};
use super::execute::{Pipeline, VERSION, beside, product_path, refuse_repeats, step};
use super::exposure::{self, Level1, Made, note_references, write_level1};
use super::extract::Spectra;
use super::image::other_dark;
use super::lenslet;
use super::lenspx::LensCal;
use super::product::{self, About, MasterInfo};
use super::provenance::{Provenance, Status, same_reference};
use super::sky_lines::{FAMILIES, SkyLines};
use super::wavelength::observer::{C, Correction};
use super::wcs::{self, Grid};
use super::{Done, Job};
use crate::config::{AssignWcs, CubeBuild, Extract, Extraction, SpectralFrame, Step, Takes};
use crate::datamodel::{Cube, Meta, Span};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::refs::Frame;

/// A shift between cube and sky (channels) that is worth a warning.
const MOST_SHIFT: f64 = 0.1;

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
            frames.iter_mut().try_for_each(|f| self.subtract_dark(f, &dark))?;
        }
        let cal = lenslet::calibrate(job, frames, self.engine.as_mut())?;
        done.warnings.extend(cal.leak_warning(Extraction::Best));
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
        let about = About::reference(&header, &model, &record, &extra);
        cal.save(&path, &product::primary(&path, &about))?;
        done.products.push(path);
        Ok(done)
    }

    /// Lenslet exposures to spectra or a cube: one (science), or the mean of a set
    /// (sky). A recipe may begin where an earlier one ended: with a rate, spectra or a
    /// cube.
    pub(super) fn cube(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let file = job.inputs.first().cloned().unwrap_or_default();
        if let Some(step) = job.recipe.steps.iter().find(|s| {
            !s.skip() && matches!(s, Step::FlatField(_) | Step::Background(_) | Step::CombineFrames(_))
        }) {
            let name = step.name();
            let text = format!("{name} is a step of images: it is done neither to cubes nor before extract");
            return Err(Error::input(&file, text));
        }
        let record = exposure::provenance(job, self.engine.as_ref(), &job.inputs);
        let (header, record, cube) = match (step!(job, Extract), step!(job, CubeBuild)) {
            (Some(extract), building) => {
                let Some(made) = self.extracted(job, extract, building, &mut done, progress)? else {
                    return Ok(done);
                };
                made
            }
            (None, Some(building)) => {
                let (mut header, spectra) = lenslet::read_spectra(&file)?;
                refuse_repeats(job, &header, &file)?;
                let cal = lenslet::calibration(job)?;
                let mut record = self.same_calibration(job, &header, &file, record)?;
                let cube = lenslet::build(job, &spectra, &cal, building, &mut header, &mut done.warnings)?;
                note_references(&mut record, job, &["dispersion"], &mut self.checksums)?;
                (header, record, cube)
            }
            (None, None) => {
                let (header, cube) = crate::input::read_cube(&file)?;
                refuse_repeats(job, &header, &file)?;
                topocentric(&file)?;
                (header, record, cube)
            }
        };
        self.finish_cube(job, header, record, cube, &mut done)?;
        progress(1.0);
        Ok(done)
    }

    /// From rates: the cube, or `None` where the spectra are the product.
    fn extracted(
        &mut self,
        job: &Job,
        extract: &Extract,
        building: Option<&CubeBuild>,
        done: &mut Done,
        progress: &dyn Fn(f64),
    ) -> Result<Option<(Header, Provenance, Cube)>> {
        let is_set = job.recipe.takes == Takes::Set;
        let mut frames = if is_set {
            self.set(job, done, progress)?
        } else {
            match self.one(job, done, progress)? {
                Made::Rate(mut level1) => {
                    if level1.fresh {
                        let path = beside(job, &level1.meta, 1);
                        done.products.extend(write_level1(&path, &mut level1, job)?);
                    }
                    vec![*level1]
                }
                Made::Written(..) => return Ok(None),
            }
        };
        let Some(first) = frames.first() else {
            return Err(Error::NothingToReduce("no frames to extract".into()));
        };
        alike(&frames, &files(job), &[DETECTOR, WINDOW, SIZE, DARK])?;
        let frame = Frame::new(&first.meta, first.rate.ny, first.rate.nx);
        let cal = lenslet::calibration(job)?;
        done.warnings.extend(cal.leak_warning(extract.method));
        let dark = self.dark(job, &frame, None)?;
        let mut cubes = Vec::new();
        for f in &mut frames {
            if let Some(dark) = &dark {
                self.subtract_dark(f, dark)?;
            }
            let spectra = lenslet::spectra(job, f, &cal, extract, self.engine.as_mut())?;
            match building {
                Some(step) => {
                    cubes.push(lenslet::build(job, &spectra, &cal, step, &mut f.header, &mut done.warnings)?);
                }
                None if is_set => {
                    return Err(Error::Usage(format!(
                        "recipe '{}': a set needs cube_build",
                        job.recipe.name
                    )));
                }
                None => {
                    self.write_spectra(job, f, &spectra, &cal, done)?;
                    return Ok(None);
                }
            }
        }
        let cube = lenslet::mean(&cubes)?;
        let mut record = std::mem::take(&mut frames[0].provenance);
        record.inputs.clone_from(&job.inputs);
        let types = if dark.is_some() { ["dark"].as_slice() } else { &[] };
        let types = [types, &["lenspx", "wavemap", "dispersion"]].concat();
        note_references(&mut record, job, &types, &mut self.checksums)?;
        let header = match frames.as_slice() {
            [one] if !is_set => one.header.clone(),
            _ => blend(&frames.iter().map(|f| &f.header).collect::<Vec<_>>()),
        };
        Ok(Some((header, record, cube)))
    }

    /// The spectra of one frame as the product.
    fn write_spectra(
        &mut self,
        job: &Job,
        level1: &mut Level1,
        spectra: &Spectra,
        cal: &LensCal,
        done: &mut Done,
    ) -> Result<()> {
        let mut left_out = Vec::new();
        if step!(job, SkySub).is_some() {
            left_out.push("sky_sub");
            done.warnings.push("sky_sub takes cubes, not spectra: the sky stays in".into());
        }
        let mut record = std::mem::take(&mut level1.provenance);
        record.warnings.clone_from(&done.warnings);
        let types = if step!(job, DarkSub).is_some() { ["dark"].as_slice() } else { &[] };
        note_references(&mut record, job, &[types, &["lenspx", "wavemap"]].concat(), &mut self.checksums)?;
        // Spectra have no place for sky coordinates; the cube gets them.
        left_out.push("assign_wcs");
        self.finish_record(job, &mut record, &left_out, &[])?;
        let about = About {
            input: &level1.header,
            model: "IFUSpectraModel",
            level: 2,
            unit: product::ELECTRONS,
            wcs: None,
            provenance: &record,
            extra: None,
        };
        let path = product_path(job, Some(&level1.meta), 2);
        done.products.push(product::write_spectra(&path, &about, spectra, cal)?);
        Ok(())
    }

    /// Notes the calibrations, refused where the spectra were extracted with others.
    fn same_calibration(
        &mut self,
        job: &Job,
        header: &Header,
        file: &Path,
        mut record: Provenance,
    ) -> Result<Provenance> {
        note_references(&mut record, job, &["lenspx", "wavemap"], &mut self.checksums)?;
        let mut ours = Header::new();
        record.keywords(&mut ours);
        for (reftype, keyword, what) in
            [("lenspx", "LENSPX", "LEN-SPX calibration"), ("wavemap", "WAVMAP", "wavemap")]
        {
            let (r, c) = (format!("R_{keyword}"), format!("C_{keyword}"));
            let neither = reftype == "wavemap" && !header.has(&c);
            if neither || same_reference(header, &ours, reftype) {
                continue;
            }
            let name = |h: &Header| h.text(&r).unwrap_or_else(|| "none that is known".into());
            return Err(Error::input(
                file,
                format!(
                    "was extracted with the {what} {}, and {} is another (by {c}, the checksum): give \
                     the same with --override_{reftype}=FILE, or extract again",
                    name(header),
                    name(&ours)
                ),
            ));
        }
        Ok(record)
    }

    /// Notes the corrections for the observer's motion, and moves the cube's wavelengths to
    /// the frame that was asked for: its SPECSYS with the velocity. A sky is subtracted from
    /// others and stays as it was observed.
    fn to_frame(
        &self,
        job: &Job,
        header: &mut Header,
        cube: &mut Cube,
        done: &mut Done,
    ) -> Result<Option<(&'static str, f64)>> {
        let asked = step!(job, AssignWcs).map(|s| s.spectral_frame).filter(|_| job.recipe.master().is_none());
        let correction = match (wcs::pointing(header)?, Span::of(header).middle, job.instrument.site) {
            (Some(sky), Some(mjd), Some(site)) => Correction::of(sky, site.geocentric(), mjd),
            _ => {
                if asked.is_some_and(|f| f != SpectralFrame::Topocentric) {
                    done.warnings.push(
                        "assign_wcs: the wavelengths stay topocentric: the header does not say where (RA, DEC) or when \
                         (EXPJDMID, DATE-AVG …) it was taken, or the instrument file not from where (site)"
                            .into(),
                    );
                }
                return Ok(None);
            }
        };
        correction.write(header);
        let (frame, velocity) = match asked {
            Some(SpectralFrame::Barycentric) => ("BARYCENT", correction.barycentric),
            Some(SpectralFrame::Heliocentric) => ("HELIOCEN", correction.heliocentric),
            _ => return Ok(None),
        };
        cube.wavelength.iter_mut().for_each(|w| *w *= 1.0 + velocity / C);
        Ok(Some((frame, velocity)))
    }

    /// The sky, the coordinates, the file.
    fn finish_cube(
        &mut self,
        job: &Job,
        mut header: Header,
        mut record: Provenance,
        mut cube: Cube,
        done: &mut Done,
    ) -> Result<()> {
        let mut left_out = Vec::new();
        match (step!(job, SkySub), job.references.get("sky")) {
            (Some(step), Some(path)) => {
                let (sky_header, sky) = crate::input::read_cube(path)?;
                let mut facts = header.clone();
                record.keywords(&mut facts);
                let shared = same_reference(&sky_header, &facts, "dark");
                let dark = job.references.contains_key("dark") && step!(job, DarkSub).is_some();
                done.warnings.extend(other_dark(&sky_header, &facts, dark));
                let lines = super::cube::sky_sub(&mut cube, &sky, step, shared)?;
                if step.oh_scaling {
                    done.warnings.extend(sky_warnings(lines.as_ref()));
                }
                note_references(&mut record, job, &["sky"], &mut self.checksums)?;
            }
            (Some(_), None) => {
                left_out.push("sky_sub");
                done.warnings.push("no sky cube: the sky stays in".into());
            }
            (None, _) => {}
        }
        let moved = self.to_frame(job, &mut header, &mut cube, done)?;
        let step = if cube.nw > 1 { cube.wavelength[1] - cube.wavelength[0] } else { 0.0 };
        let first = cube.wavelength.first().copied().unwrap_or(0.0);
        let grid = Grid::Cube { ny: cube.ny, nx: cube.nx, first, step };
        // A cube gets its axes whether or not its recipe names the step.
        let asked = job.recipe.steps.iter().find(|s| matches!(s, Step::AssignWcs(_)));
        let mut coordinates = None;
        if asked.is_none_or(|s| !s.skip()) {
            coordinates = wcs::assign(&header, None, &job.instrument, grid)?;
            if let (Some(found), Some((frame, velocity))) = (&mut coordinates, moved) {
                found.cards.set("SPECSYS", frame, "of the wavelengths");
                found.cards.set("VELOSYS", velocity, "[m/s] by which they were corrected");
            }
            match &coordinates {
                Some(found) => {
                    done.warnings.extend(found.warnings.iter().cloned());
                    if asked.is_none() {
                        record.step(&Step::AssignWcs(AssignWcs::default()), Status::Complete);
                    }
                }
                None => {
                    left_out.push("assign_wcs");
                    done.warnings.push("no sky coordinates: the header has no RA and DEC".into());
                }
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
            extra: job.recipe.master().is_some().then_some(&extra),
        };
        let path = product_path(job, Some(&meta), 2);
        done.products.push(product::write_cube(&path, &about, &cube)?);
        Ok(())
    }
}

/// Refuses a cube whose wavelengths are not the observer's: what is done to cubes counts on
/// that.
fn topocentric(file: &Path) -> Result<()> {
    let fits = Fits::open(file)?;
    match fits.hdu("DATA").and_then(|h| h.header.text("SPECSYS")) {
        Some(frame) if frame != "TOPOCENT" => Err(Error::input(
            file,
            format!(
                "has its wavelengths in the frame {frame} (SPECSYS): give the cube before assign_wcs moved them"
            ),
        )),
        _ => Ok(()),
    }
}

/// What is to be said of the fit of the sky's lines.
fn sky_warnings(lines: Option<&SkyLines>) -> Vec<String> {
    let Some(lines) = lines else {
        return vec!["sky_sub: no OH line could be fitted: the sky is subtracted unscaled".into()];
    };
    let mut out = Vec::new();
    if lines.shift.abs() > MOST_SHIFT.max(5.0 * lines.shift_error) {
        out.push(format!(
            "sky_sub: the sky lines of the cube and of the sky are {:.3} ± {:.3} channels apart: see the flexure of both",
            lines.shift, lines.shift_error
        ));
    }
    let faint: Vec<&str> = lines.faint.iter().map(|f| FAMILIES[*f].2).collect();
    if !faint.is_empty() {
        out.push(format!("sky_sub: OH lines too faint to be scaled, in {}", faint.join(", ")));
    }
    out
}
