//! Products of a simulated night beside its truth (the files that
//! [`crate::simulate`] describes): which truth a product must equal, and its score.
//!
//! | product | must be |
//! |---|---|
//! | rate (level 1) | RATE |
//! | image (level 2) | SCENE, where a sky was subtracted; else SCENE + SKY |
//! | cube (level 2) | [`super::lenslet`]: the rebinned SPECTRA |
//! | dark, flat | the detector's maps |
//! | sky | the mean over the night's sky exposures of RATE, less the dark (a cube: of SPECTRA, rebinned) |
//! | lenspx | traces and wavelengths of the layout |
//!
//! A pixel is good where the truth's mask has neither DO_NOT_USE nor
//! REFERENCE_PIXEL and at least two reads of a ramp are below saturation. Pixels
//! that a cosmic ray hit (JUMP_DET in the truth's mask) are good: the reduction must
//! cope with them.

use std::path::{Path, PathBuf};

use super::lenslet;
use super::score::{self, Judged, Score};
use crate::datamodel::{Image, Meta, dq, product_name};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::input::{RateFile, read_image};

/// The truth of a simulated night.
#[derive(Debug, Clone)]
pub struct Truth {
    dir: PathBuf,
}

/// Truth of the pixels of one frame.
struct Expected {
    values: Vec<f32>,
    good: Vec<bool>,
    hit: Vec<bool>,
    references: usize,
}

impl Truth {
    /// The truth in `dir` (`DIR/truth` of a simulated night).
    pub fn new(dir: impl Into<PathBuf>) -> Truth {
        Truth { dir: dir.into() }
    }

    /// Scores the product at `path`; `None` where nothing is known that it must be.
    pub fn score(&self, path: &Path) -> Result<Option<Score>> {
        let fits = Fits::open(path)?;
        let header = fits.primary().clone();
        let meta = Meta::from_header(&header);
        let reftype = header.text("REFTYPE").unwrap_or_default().to_ascii_lowercase();
        let science = fits.hdu("DATA").map_or(0, |h| h.shape.len());
        let level = header.integer("DATALVL").unwrap_or(0);
        let score = match (reftype.as_str(), level, science) {
            ("dark" | "flat", ..) => self.image(path, self.map(&reftype, &meta.detector)?)?,
            ("sky", _, 2) => self.image(path, self.sky(&meta)?)?,
            ("sky", _, 3) => lenslet::cube(path, &self.sky_spectra(&meta)?, &self.lenslets())?,
            ("lenspx", ..) => lenslet::calibration(path, &self.lenslets())?,
            ("", 1, 2) => self.rate(path, &meta)?,
            ("", 2, 2) => self.image(path, self.scene(&meta, &header)?)?,
            ("", 2, 3) => lenslet::cube(path, &self.spectra(&meta, &header)?, &self.lenslets())?,
            _ => return Ok(None),
        };
        Ok(Some(score))
    }

    fn rate(&self, path: &Path, meta: &Meta) -> Result<Score> {
        let file = RateFile::open(path)?;
        let truth = Fits::open(&self.of_exposure(meta)?)?;
        let expected = Expected::of_exposure(&truth, read(&truth, "RATE")?)?;
        let r = &file.rate;
        let j = expected.judged(path, r.nx, &r.data, &r.err, &r.dq)?;
        let mut score = score::image(&j, expected.references, Some(&r.var_rnoise));
        let ramps = truth.require(&["NUSABLE"])?.shape.first().copied().unwrap_or(1);
        score.figures.push(score::chi2(&j, &r.chi2, &r.nreads, ramps));
        Ok(score)
    }

    fn image(&self, path: &Path, expected: Expected) -> Result<Score> {
        let (_, Image { nx, data, err, dq, .. }) = read_image(path)?;
        let j = expected.judged(path, nx, &data, &err, &dq)?;
        Ok(score::image(&j, expected.references, None))
    }

    /// The detector's dark or flat.
    fn map(&self, name: &str, detector: &str) -> Result<Expected> {
        let fits = Fits::open(&self.dir.join(format!("{name}_{detector}_truth.fits")))?;
        let mask = fits.u32(fits.require(&["DQ"])?)?;
        Ok(Expected::new(read(&fits, "DATA")?, &mask))
    }

    /// The image of an exposure.
    fn scene(&self, meta: &Meta, product: &Header) -> Result<Expected> {
        let fits = Fits::open(&self.of_exposure(meta)?)?;
        let mut values = read(&fits, "SCENE")?;
        if !subtracted(product, "S_BKGSUB") {
            values.iter_mut().zip(read(&fits, "SKY")?).for_each(|(v, s)| *v += s);
        }
        Expected::of_exposure(&fits, values)
    }

    /// The mean of the sky exposures of a detector, less its dark.
    fn sky(&self, meta: &Meta) -> Result<Expected> {
        let dark = self.map("dark", &meta.detector)?;
        let mut mean = Expected { values: vec![0.0; dark.values.len()], ..dark };
        let skies = self.skies(&meta.detector)?;
        for path in &skies {
            let fits = Fits::open(path)?;
            let one = Expected::of_exposure(&fits, read(&fits, "RATE")?)?;
            mean.values.iter_mut().zip(&one.values).for_each(|(m, v)| *m += v / skies.len() as f32);
            mean.good.iter_mut().zip(&one.good).for_each(|(m, g)| *m &= g);
            mean.hit.iter_mut().zip(&one.hit).for_each(|(m, h)| *m |= h);
        }
        mean.values.iter_mut().zip(&dark.values).for_each(|(m, d)| *m -= d);
        Ok(mean)
    }

    /// What an extraction of an exposure should find, targets and, where the product
    /// still has it, sky.
    fn spectra(&self, meta: &Meta, product: &Header) -> Result<Vec<f32>> {
        let fits = Fits::open(&self.of_exposure(meta)?)?;
        let mut spectra = read(&fits, "SPECTRA")?;
        if subtracted(product, "S_SKYSUB") {
            spectra.iter_mut().zip(self.sky_spectra(meta)?).for_each(|(v, s)| *v -= s);
        }
        Ok(spectra)
    }

    /// The mean over the sky exposures.
    fn sky_spectra(&self, meta: &Meta) -> Result<Vec<f32>> {
        let skies = self.skies(&meta.detector)?;
        let mut mean = Vec::new();
        for path in &skies {
            let spectra = read(&Fits::open(path)?, "SPECTRA")?;
            mean.resize(spectra.len(), 0.0);
            mean.iter_mut().zip(spectra).for_each(|(m, s): (&mut f32, f32)| *m += s / skies.len() as f32);
        }
        Ok(mean)
    }

    fn lenslets(&self) -> PathBuf {
        self.dir.join("lenslets_truth.fits")
    }

    fn of_exposure(&self, meta: &Meta) -> Result<PathBuf> {
        let name = product_name(meta, 0, "").replace(".fits", "_truth.fits");
        let path = self.dir.join(name);
        if path.is_file() { Ok(path) } else { Err(Error::input(&path, "is missing from the night's truth")) }
    }

    /// The truths of a detector's sky exposures.
    fn skies(&self, detector: &str) -> Result<Vec<PathBuf>> {
        let part = format!("_IRIS_{detector}_SKY_LVL0_");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(Error::io("read", &self.dir))? {
            let path = entry.map_err(Error::io("read", &self.dir))?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().contains(&part)) {
                found.push(path);
            }
        }
        found.sort();
        if found.is_empty() {
            return Err(Error::input(&self.dir, format!("has no truth of a sky exposure of {detector}")));
        }
        Ok(found)
    }
}

impl Expected {
    fn new(values: Vec<f32>, mask: &[u32]) -> Expected {
        let not_good = dq::DO_NOT_USE | dq::REFERENCE_PIXEL;
        let reference = |m: &&u32| **m & dq::REFERENCE_PIXEL != 0 && **m & dq::BAD_REF_PIXEL == 0;
        Expected {
            values,
            good: mask.iter().map(|m| m & not_good == 0).collect(),
            hit: mask.iter().map(|m| m & dq::JUMP_DET != 0).collect(),
            references: mask.iter().filter(reference).count(),
        }
    }

    fn of_exposure(truth: &Fits, values: Vec<f32>) -> Result<Expected> {
        let mask = truth.u32(truth.require(&["MASK"])?)?;
        let usable = truth.u32(truth.require(&["NUSABLE"])?)?;
        let mut expected = Expected::new(values, &mask);
        let n = expected.good.len();
        for (i, good) in expected.good.iter_mut().enumerate() {
            *good &= usable.iter().skip(i).step_by(n.max(1)).any(|u| *u >= 2);
        }
        Ok(expected)
    }

    fn judged<'a>(
        &'a self,
        path: &Path,
        nx: usize,
        value: &'a [f32],
        err: &'a [f32],
        dq: &'a [u32],
    ) -> Result<Judged<'a>> {
        if [value.len(), err.len(), dq.len()] != [self.values.len(); 3] {
            return Err(Error::input(
                path,
                format!("has {} pixels, the truth {}", value.len(), self.values.len()),
            ));
        }
        Ok(Judged { nx, value, err, dq, truth: &self.values, good: &self.good, hit: &self.hit })
    }
}

/// Whether the step with this keyword ran.
fn subtracted(header: &Header, keyword: &str) -> bool {
    header.text(keyword).is_some_and(|s| s == "COMPLETE")
}

fn read(fits: &Fits, name: &str) -> Result<Vec<f32>> {
    fits.f32(fits.require(&[name])?)
}
