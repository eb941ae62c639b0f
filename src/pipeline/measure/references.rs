//! Measurements as the reference files that other steps take.

use std::path::PathBuf;

use super::Tiles;
use super::bad_pixels;
use super::gain::{Drifts, Measured, measure};
use super::nonlin::{self, Weights};
use super::ramps::Corrected;
use super::stretch::Stretch;
use crate::config::{BadPixels, Detector, NonlinFit, PhotonTransfer};
use crate::datamodel::{Image, Meta, dq, master_name};
use crate::error::{Error, Result};
use crate::fits::{FitsWriter, Header, Pixels};
use crate::pipeline::calibration::ipc_noise;
use crate::pipeline::execute::{Pipeline, VERSION};
use crate::pipeline::exposure::{self, is_stage1, note_references};
use crate::pipeline::product::{self, About, MasterInfo};
use crate::pipeline::provenance::{Provenance, Status};
use crate::pipeline::{Done, Job};
use crate::refs::{Frame, PlaneFile};
use crate::words::counted;

/// References that stage-1 corrections may have used.
const CORRECTIONS: [&str; 4] = ["mask", "bias", "saturation", "nonlin"];

impl Pipeline {
    /// The set brought through stage 1, and the record of how.
    pub(super) fn corrected(
        &mut self,
        job: &Job,
        progress: &dyn Fn(f64),
    ) -> Result<(Corrected, Provenance, Done)> {
        let set = Corrected::make(job, &mut self.session(), &|f| progress(0.6 * f))?;
        let mut record = exposure::provenance(job, self.engine.as_ref(), &job.inputs);
        for step in job.recipe.steps.iter().filter(|s| is_stage1(s)) {
            // What a ramp says became of each step; the first speaks for all.
            let done = set.ramps[0].header.text(step.keyword()).as_deref() == Some("COMPLETE");
            record.step(step, if done { Status::Complete } else { Status::Skipped });
        }
        note_references(&mut record, job, &CORRECTIONS, &mut self.checksums)?;
        record.warnings.clone_from(&set.warnings);
        record.warnings.extend(set.lit_references());
        let done = Done { products: Vec::new(), warnings: record.warnings.clone() };
        Ok((set, record, done))
    }

    /// `photon_transfer`: the gain and the read-noise reference of a set of ramps.
    pub(in crate::pipeline) fn gain(
        &mut self,
        job: &Job,
        step: &PhotonTransfer,
        progress: &dyn Fn(f64),
    ) -> Result<Done> {
        let (set, mut record, mut done) = self.corrected(job, progress)?;
        let header = set.header();
        let meta = Meta::from_header(&header);
        let detector = job.instrument.detector_of(&meta.detector, &set.names[0])?;
        let tiles = tiles(set.size(), detector, step);
        let stretch = Stretch::open(job, &set)?;
        let along_y = detector.amplifiers.along == 'y';
        let across = if along_y { set.size().0 } else { set.size().1 };
        // A detector read smaller than its full size keeps its number of channels.
        let drifts = Drifts { channel: across / detector.amplifiers.count.max(1), along_y };
        let found = measure(&set, tiles, step, (stretch.as_ref(), drifts), &|f| progress(0.6 + 0.4 * f))?;
        record.warnings.extend(found.warnings.iter().cloned());
        done.warnings.extend(found.warnings.iter().cloned());
        self.finish_record(job, &mut record, &[], &[])?;
        let path =
            job.product.clone().unwrap_or_else(|| job.masters.join(master_name(&meta, "gain", "", VERSION)));
        let beside = path.with_file_name(master_name(&meta, "readnoise", "", VERSION));
        for (reftype, path) in [("readnoise", beside), ("gain", path)] {
            let (image, extra, unit) = match reftype {
                "gain" => gain_image(&found)?,
                _ => noise_image(&found, set.whole, ipc_noise(&set.ramps[0].header).unwrap_or(1.0))?,
            };
            let description = format!(
                "{reftype} of {} from {} lit and {} dark (photon transfer)",
                counted(tiles.count(), "tile"),
                counted(found.used[0], "ramp"),
                counted(found.used[1], "ramp")
            );
            let info = MasterInfo { reftype, version: VERSION, description: &description };
            done.products.push(write(&path, &header, &record, &info, (&image, &extra, unit))?);
        }
        Ok(done)
    }

    /// `bad_pixels`: the mask of a set of ramps.
    pub(in crate::pipeline) fn mask(
        &mut self,
        job: &Job,
        step: &BadPixels,
        progress: &dyn Fn(f64),
    ) -> Result<Done> {
        let (set, mut record, mut done) = self.corrected(job, progress)?;
        let header = set.header();
        let meta = Meta::from_header(&header);
        let detector = job.instrument.detector_of(&meta.detector, &set.names[0])?;
        let (ny, nx) = set.size();
        let gain = match job.references.get("gain") {
            Some(path) => PlaneFile::gain(path, &Frame::new(&meta, ny, nx))?.load(&[])?.0,
            None => vec![detector.gain as f32; ny * nx],
        };
        let (flags, warnings) =
            bad_pixels::mask(&set, &gain, detector.dark, step, &|f| progress(0.6 + 0.4 * f))?;
        record.warnings.extend(warnings.iter().cloned());
        done.warnings.extend(warnings);
        self.finish_record(job, &mut record, &[], &["gain"])?;
        let path =
            job.product.clone().unwrap_or_else(|| job.masters.join(master_name(&meta, "mask", "", VERSION)));
        let description = format!("bad pixels from {}", counted(set.ramps.len(), "exposure"));
        let info = MasterInfo { reftype: "mask", version: VERSION, description: &description };
        let (model, mut extra) = product::master_keywords(&info, &header);
        for (keyword, bit) in COUNTED {
            let count = flags.iter().filter(|f| **f & bit != 0).count();
            extra.set(keyword, count, "pixels");
        }
        let about = About::reference(&header, &model, &record, &extra);
        let mut w = FitsWriter::create(&path)?;
        w.empty("PRIMARY", &product::primary(&path, &about))?;
        let mut h = Header::new();
        dq::describe(&mut h);
        w.image("DQ", &h, &[ny, nx], Pixels::U32(&flags))?;
        done.products.push(w.finish()?);
        Ok(done)
    }

    /// `nonlin_fit`: the non-linearity reference of a set of ramps.
    pub(in crate::pipeline) fn nonlin(
        &mut self,
        job: &Job,
        step: &NonlinFit,
        progress: &dyn Fn(f64),
    ) -> Result<Done> {
        let (set, mut record, mut done) = self.corrected(job, progress)?;
        if set.ramps.iter().any(|r| r.header.text("S_BIAS").as_deref() != Some("COMPLETE")) {
            return Err(Error::reference(
                "bias",
                "the polynomial is one of counts above the bias, and there is no bias reference: give one \
                 (--override_bias=FILE)",
            ));
        }
        if let Some(i) =
            set.ramps.iter().position(|r| r.header.text("S_NLCORR").as_deref() == Some("COMPLETE"))
        {
            return Err(Error::input(&set.names[i], "was made linear already: give the raw ramp"));
        }
        let header = set.header();
        let meta = Meta::from_header(&header);
        let detector = job.instrument.detector_of(&meta.detector, &set.names[0])?;
        let weights = Weights { gain: detector.gain, noise: detector.read_noise / detector.gain };
        let found = nonlin::fit(&set, weights, step, &|f| progress(0.6 + 0.4 * f))?;
        record.warnings.extend(found.warnings.iter().cloned());
        done.warnings.extend(found.warnings);
        self.finish_record(job, &mut record, &[], &[])?;
        let path = job
            .product
            .clone()
            .unwrap_or_else(|| job.masters.join(master_name(&meta, "nonlin", "", VERSION)));
        let description = format!("non-linearity polynomial from {}", counted(set.ramps.len(), "exposure"));
        let info = MasterInfo { reftype: "nonlin", version: VERSION, description: &description };
        let (model, mut extra) = product::master_keywords(&info, &header);
        extra.set("COEFFZP", "BIAS", "x is measured from the bias");
        extra.set("NLSPREAD", round(found.spread), "spread of the amplitude between pixels");
        let about = About::reference(&header, &model, &record, &extra);
        let (ny, nx) = set.size();
        let ncoef = found.coefficients.len() / (ny * nx).max(1);
        let mut w = FitsWriter::create(&path)?;
        w.empty("PRIMARY", &product::primary(&path, &about))?;
        let mut h = Header::new();
        h.set("COEFFZP", "BIAS", "x is measured from the bias");
        w.image("COEFFS", &h, &[ncoef, ny, nx], Pixels::F32(&found.coefficients))?;
        let mut h = Header::new();
        dq::describe(&mut h);
        w.image("DQ", &h, &[ny, nx], Pixels::U32(&found.dq))?;
        done.products.push(w.finish()?);
        Ok(done)
    }
}

/// Keywords that count flags in a mask.
const COUNTED: [(&str, u32); 7] = [
    ("NDEAD", dq::DEAD),
    ("NHOT", dq::HOT),
    ("NWARM", dq::WARM),
    ("NLOWQE", dq::LOW_QE),
    ("NTELEGR", dq::TELEGRAPH),
    ("NNOISY", dq::UNRELIABLE_SLOPE),
    ("NUNUSABL", dq::DO_NOT_USE),
];

/// Writes one reference.
pub(super) fn write(
    path: &std::path::Path,
    header: &Header,
    record: &Provenance,
    info: &MasterInfo<'_>,
    (image, extra, unit): (&Image, &Header, &str),
) -> Result<PathBuf> {
    let about =
        About { input: header, model: "", level: 2, unit, wcs: None, provenance: record, extra: Some(extra) };
    product::write_master(path, &about, info, image)
}

/// As many tiles across the readout channels as the step says (0: one a channel)
/// and as many along them.
fn tiles(size: (usize, usize), detector: &Detector, step: &PhotonTransfer) -> Tiles {
    let across = match step.tiles_across {
        0 => detector.amplifiers.count.max(1),
        n => n as usize,
    };
    let along = (step.tiles_along as usize).max(1);
    match detector.amplifiers.along {
        'y' => Tiles::new(size, across, along),
        _ => Tiles::new(size, along, across),
    }
}

/// An image of one (value, error) a tile; NaN and `flags` where there is none.
fn tiled(tiles: Tiles, flags: u32, of: impl Fn(usize) -> Option<(f64, f64)>) -> Image {
    let values: Vec<Option<(f64, f64)>> = (0..tiles.count()).map(of).collect();
    let part = |t: usize, which: fn((f64, f64)) -> f64| values[t].map_or(f32::NAN, |v| which(v) as f32);
    let data = tiles.plane(|t| part(t, |v| v.0));
    let dq = data.iter().map(|v| if v.is_finite() { 0 } else { flags }).collect();
    let err = tiles.plane(|t| part(t, |v| v.1));
    Image { nx: tiles.nx, ny: tiles.ny, data, err, dq, var_common: Vec::new() }
}

/// The clipped median of what was measured, or a sentence that nothing was.
fn typical(image: &Image, what: &str) -> Result<f64> {
    let found = crate::pipeline::robust::clipped_median(&image.data);
    found.map(|c| c.median).ok_or_else(|| {
        Error::Unsolvable(format!(
            "no tile has a {what}: each needs 30 pixels that are usable in all ramps; take larger tiles \
             (--steps.photon_transfer.tiles_along, tiles_across) or more ramps"
        ))
    })
}

/// Gain κ/u, e-/DN, with the error of both.
fn gain_image(found: &Measured) -> Result<(Image, Header, &'static str)> {
    let c = found.capacitance.unwrap_or_default();
    let image = tiled(found.tiles, dq::NO_GAIN_VALUE | dq::DO_NOT_USE, |t| {
        let t = found.transfer[t]?;
        let gain = c.variance_kept() / t.inverse_gain;
        let relative = t.covariance[0] / t.inverse_gain.powi(2) + c.log_error().powi(2);
        Some((gain, gain * relative.sqrt()))
    });
    let mut h = common(found);
    h.set("GAINMED", round(typical(&image, "gain")?), "e-/DN, median of the tiles");
    if found.capacitance.is_some() {
        h.set("IPCX", round(c.x), "coupling to each neighbour along x");
        h.set("IPCY", round(c.y), "coupling to each neighbour along y");
        h.set("IPCERR", round(c.log_error()), "relative error of all gains from the coupling");
    }
    Ok((image, h, "electron/DN"))
}

/// Noise of a single read σ, DN, as it comes out of the detector: without what `ipc`
/// makes of its variance, nor that of its rounding to `whole` DN, since stage 1 takes
/// both into account itself.
fn noise_image(found: &Measured, whole: bool, ipc: f64) -> Result<(Image, Header, &'static str)> {
    let rounding = if whole { 1.0 / 12.0 } else { 0.0 };
    let image = tiled(found.tiles, dq::UNRELIABLE_ERROR, |t| {
        let t = found.transfer[t].filter(|t| t.read_variance / ipc > rounding)?;
        let sigma = (t.read_variance / ipc - rounding).sqrt();
        Some((sigma, t.covariance[1].sqrt() / ipc / (2.0 * sigma)))
    });
    let mut h = common(found);
    h.set("RNFORM", "SINGLE", "noise of a single read");
    h.set("RNMED", round(typical(&image, "read noise")?), "DN, median of the tiles");
    Ok((image, h, "DN"))
}

fn common(found: &Measured) -> Header {
    let mut h = Header::new();
    h.set("NTILEX", found.tiles.across, "tiles along x");
    h.set("NTILEY", found.tiles.down, "tiles along y");
    h.set("NLIT", found.used[0], "ramps with light");
    h.set("NDARK", found.used[1], "ramps without");
    h
}

/// Six digits.
fn round(v: f64) -> f64 {
    (v * 1e6).round() / 1e6
}
