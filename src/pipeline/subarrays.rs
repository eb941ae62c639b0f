//! Subarrays read beside a full frame: their pixels flagged in it (`parse_subarray_map`),
//! and put back once they are reduced (`merge_subarrays`).

use std::path::{Path, PathBuf};

use super::combine::{DARK, DETECTOR, FLAT, Fact, SKY, UNIT, alike};
use super::execute::{Pipeline, is_level2, product_path};
use super::exposure::{Level1, flag, write_level1};
use super::image::from_image;
use super::product::{self, About};
use super::provenance::{Provenance, Status};
use super::wcs::{self, Grid};
use super::{Done, Job};
use crate::config::{Recipe, Step};
use crate::datamodel::{Image, Rate, dq};
use crate::error::{Error, Result};
use crate::fits::Fits;
use crate::input::{SubarrayMap, Window, subarray_map};

/// The bits of a full frame's pixels that were read apart from it: the one that
/// liger_iris_pipeline sets, and that there is no value.
pub(super) const APART: u32 = dq::OUTLIER | dq::DO_NOT_USE;

/// The subarrays of the exposure in `file`, whose frame has (ny, nx) pixels.
pub(super) fn of_file(file: Option<&PathBuf>, size: (usize, usize)) -> Result<Option<SubarrayMap>> {
    file.map_or(Ok(None), |f| subarray_map(&Fits::open(f)?, size))
}

/// `parse_subarray_map` on a rate, where the recipe has it.
pub(super) fn parse(recipe: &Recipe, rate: &mut Rate, record: &mut Provenance) {
    let Some(step) = recipe.steps.iter().find(|s| matches!(s, Step::ParseSubarrayMap(_))) else { return };
    let map = record.subarrays.as_ref().filter(|_| !step.skip());
    if let Some(map) = map {
        let mut bits = vec![0; rate.data.len()];
        map.pixels().iter().for_each(|p| bits[*p as usize] = APART);
        flag(rate, &bits);
    }
    let status = if map.is_some() { Status::Complete } else { Status::Skipped };
    record.step(step, status);
}

const FILTER: Fact = ("FILTER", |f| f.meta.filter.clone());
const LEVEL: Fact = ("DATALVL", |f| f.meta.level.unwrap_or(1).to_string());

impl Pipeline {
    /// A reduced full frame and its reduced subarrays to one frame.
    pub(super) fn merge_subarrays(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut done = Done::default();
        let mut frames = Vec::new();
        for file in &job.inputs {
            frames.push(self.reduced(job, file)?);
        }
        let full = one_full_frame(&frames, &job.inputs)?;
        alike(&frames, &job.inputs, &[DETECTOR, FILTER, UNIT, LEVEL, DARK, FLAT, SKY])?;
        let mut into = frames.swap_remove(full);
        let mut files = job.inputs.clone();
        let full_file = files.swap_remove(full);
        let Some(map) = into.provenance.subarrays.clone() else {
            let text = "is the full frame (SUBARRID = 0) and has no image SUBARR_MAP that says where subarrays \
                        belong: reduce it from its raw file, which has one, again";
            return Err(Error::input(&full_file, text));
        };
        let mut found: Vec<i64> = Vec::new();
        for (frame, file) in frames.iter().zip(&files) {
            let id = frame.meta.subarrid;
            if found.contains(&id) {
                return Err(Error::input(
                    file,
                    format!("is another subarray {id} (SUBARRID): give each once"),
                ));
            }
            put(&mut into, frame, window(&map, frame, file)?);
            found.push(id);
            into.header.history(&format!("subarray {id} from {}", short(file)));
        }
        let missing: Vec<String> = map
            .windows
            .iter()
            .filter(|w| !found.contains(&i64::from(w.id)))
            .map(|w| w.id.to_string())
            .collect();
        if !missing.is_empty() {
            done.warnings.push(format!(
                "no file is subarray {} of {}: its pixels stay without a value",
                missing.join(", "),
                short(&full_file)
            ));
        }
        into.header.set("NSUBMRG", found.len(), "subarrays put back into the frame");
        let path = product_path(job, Some(&into.meta), job.recipe.level(into.meta.level));
        let mut record = std::mem::take(&mut into.provenance);
        record.inputs.clone_from(&job.inputs);
        record.warnings.clone_from(&done.warnings);
        self.finish_record(job, &mut record, &[], &[])?;
        done.products.extend(write(&path, into, record, job)?);
        progress(1.0);
        Ok(done)
    }

    /// A rate or an image as an earlier run left it.
    fn reduced(&mut self, job: &Job, file: &Path) -> Result<Level1> {
        if is_level2(file) {
            return from_image(job, file, self.engine.as_ref());
        }
        let raw = "is not reduced yet: merge_subarrays takes rates or images that irisgpu made (reduce the full \
                   frame and each subarray first)";
        if !Fits::open(file)?.primary().has("DRSVER") {
            return Err(Error::input(file, raw));
        }
        let one = Job { inputs: vec![file.to_path_buf()], ..job.clone() };
        match self.one(&one, &mut Done::default(), &|_| {})? {
            super::exposure::Made::Rate(level1) if !level1.fresh => Ok(*level1),
            _ => Err(Error::input(file, raw)),
        }
    }
}

/// Which of the frames is the full one.
fn one_full_frame(frames: &[Level1], files: &[PathBuf]) -> Result<usize> {
    let full: Vec<usize> = (0..frames.len()).filter(|i| frames[*i].meta.subarrid == 0).collect();
    match full.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::Usage(
            "merge_subarrays: no file is the full frame (SUBARRID 0 or missing): name it with its subarrays"
                .into(),
        )),
        [a, b, ..] => Err(Error::Usage(format!(
            "merge_subarrays: {} and {} are both full frames (SUBARRID 0 or missing): name one with its subarrays, \
             each with its SUBARRID",
            short(&files[*a]),
            short(&files[*b])
        ))),
    }
}

/// Where a subarray belongs, which its own keywords must confirm.
fn window<'a>(map: &'a SubarrayMap, frame: &Level1, file: &Path) -> Result<&'a Window> {
    let id = frame.meta.subarrid;
    let w = map.window(id).ok_or_else(|| {
        let ids: Vec<String> = map.windows.iter().map(|w| w.id.to_string()).collect();
        let known = ids.join(", ");
        Error::input(file, format!("SUBARRID = {id} is not in the full frame's SUBARR_MAP (it has {known})"))
    })?;
    let (rows, columns) = (&w.rows, &w.columns);
    let there = (columns.start as i64 + 1, rows.start as i64 + 1, columns.len(), rows.len());
    let here = (frame.meta.substart.0, frame.meta.substart.1, frame.rate.nx, frame.rate.ny);
    if here == there {
        return Ok(w);
    }
    let say = |(x, y, nx, ny): (i64, i64, usize, usize)| format!("{nx} x {ny} pixels from ({x}, {y}) on");
    Err(Error::input(
        file,
        format!(
            "is {} (SUBSTRT1/2), and subarray {id} of the full frame's SUBARR_MAP is {}: they do not belong together",
            say(here),
            say(there)
        ),
    ))
}

/// Puts every plane of a subarray in its place.
fn put(full: &mut Level1, sub: &Level1, w: &Window) {
    let nx = full.rate.nx;
    if !(full.common.is_empty() && sub.common.is_empty()) {
        full.common.resize(full.rate.data.len(), 0.0);
    }
    for (row, y) in w.rows.clone().enumerate() {
        let to = y * nx + w.columns.start..y * nx + w.columns.end;
        let from = row * sub.rate.nx..(row + 1) * sub.rate.nx;
        let (into, of) = (&mut full.rate, &sub.rate);
        for (a, b) in [
            (&mut into.data, &of.data),
            (&mut into.err, &of.err),
            (&mut into.var_poisson, &of.var_poisson),
            (&mut into.var_rnoise, &of.var_rnoise),
            (&mut into.chi2, &of.chi2),
        ] {
            a[to.clone()].copy_from_slice(&b[from.clone()]);
        }
        into.dq[to.clone()].copy_from_slice(&of.dq[from.clone()]);
        into.nreads[to.clone()].copy_from_slice(&of.nreads[from.clone()]);
        match (full.common.is_empty(), sub.common.is_empty()) {
            (true, _) => {}
            (false, true) => full.common[to].fill(0.0),
            (false, false) => full.common[to].copy_from_slice(&sub.common[from]),
        }
    }
}

/// Writes the frame as what it was: a rate, or an image.
fn write(path: &Path, mut frame: Level1, record: Provenance, job: &Job) -> Result<Vec<PathBuf>> {
    let level = frame.meta.level.unwrap_or(1);
    if level < 2 {
        frame.provenance = record;
        return write_level1(path, &mut frame, job);
    }
    let rate = frame.rate;
    let grid = Grid::Detector(rate.ny, rate.nx);
    let coordinates = wcs::assign(&frame.header, None, &job.instrument, grid).ok().flatten();
    let unit = frame.header.text("BUNIT").unwrap_or_default();
    let about = About {
        input: &frame.header,
        model: product::image_model(&frame.meta),
        level,
        unit: &unit,
        wcs: coordinates.as_ref().map(|s| &s.cards),
        provenance: &record,
        extra: None,
    };
    let Rate { ny, nx, data, err, dq, .. } = rate;
    let image = Image { ny, nx, data, err, dq, var_common: frame.common };
    Ok(vec![product::write_image(path, &about, &image)?])
}

fn short(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
