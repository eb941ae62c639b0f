//! Corrected ramps of a set of exposures, on disk while they are needed: a row of
//! tiles of all of them is in memory at a time, whatever the detector's size.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::input::{self, Encoding, OpenOptions, Ramp, Raw};
use crate::kernels::ramp::flag;
use crate::pipeline::exposure::{self, Made, Session, Straight};
use crate::pipeline::{Job, blend, refpix};

/// The exposures of a job after the recipe's stage-1 steps.
pub(super) struct Corrected {
    /// One ramp file an exposure, in the order given.
    pub(super) ramps: Vec<Ramp>,
    /// The input's first file of each.
    pub(super) names: Vec<PathBuf>,
    /// Headers of the inputs as they came: the corrected ramps' own speak of
    /// references that a measurement does not use.
    headers: Vec<Header>,
    /// Whether all inputs hold whole numbers, whose rounding is noise of its own.
    pub(super) whole: bool,
    /// What the user should know, as sentences.
    pub(super) warnings: Vec<String>,
    /// Removed with all its ramps in the end.
    _folder: Folder,
}

/// A folder that goes when its owner goes.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing can be done where it fails, and nothing is wrong but lost space.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Reads of some rows: all ramps of an exposure.
pub(super) struct Band {
    /// DN, `[ramp × read][pixel]`.
    pub(super) values: Vec<f32>,
    /// Flags of the reads, the same shape.
    pub(super) flags: Vec<u8>,
    /// Pixels.
    pub(super) pixels: usize,
}

impl Band {
    /// Read `k` (ramp × reads + read) of every pixel.
    pub(super) fn read(&self, k: usize) -> &[f32] {
        &self.values[k * self.pixels..][..self.pixels]
    }

    /// Reads of pixel `i`, from read `first` on, before the first of `reads` that
    /// is flagged or no number.
    pub(super) fn usable(&self, i: usize, first: usize, reads: usize) -> usize {
        let bad = (flag::DO_NOT_USE | flag::SATURATED) as u8;
        let good = |k: &usize| {
            let at = (first + k) * self.pixels + i;
            self.flags[at] & bad == 0 && self.values[at].is_finite()
        };
        (0..reads).take_while(good).count()
    }
}

impl Corrected {
    /// Brings every exposure of `job` through the recipe's stage-1 steps.
    pub(super) fn make(job: &Job, session: &mut Session<'_>, progress: &dyn Fn(f64)) -> Result<Corrected> {
        let folder = Folder(job.output.join(format!(".{}-ramps", job.recipe.name)));
        let groups = exposure::exposures(&job.inputs);
        let (mut ramps, mut names, mut warnings): (Vec<Ramp>, Vec<PathBuf>, Vec<String>) = Default::default();
        let mut headers = Vec::new();
        let mut whole = true;
        for (i, files) in groups.iter().enumerate() {
            let name = files.first().cloned().unwrap_or_default();
            let path = folder.0.join(format!("{i}.fits"));
            let share = |f: f64| progress((i as f64 + f) / groups.len() as f64);
            let no_reads = || Error::input(&name, "holds no reads: give the raw ramp that it was made of");
            let options = job.open_options();
            let Raw::Ramp(raw) = input::open(&name, &job.instrument, &options)? else {
                return Err(no_reads());
            };
            whole &= raw.encoding != Encoding::F32;
            headers.push(raw.header);
            let straight = Straight { ramp: Some(&path), rate: None };
            let Made::Written(_, said) = exposure::level1(job, files, straight, session, &share)? else {
                return Err(no_reads());
            };
            warnings.extend(said.into_iter().filter(|w| !warnings.contains(w)).collect::<Vec<_>>());
            let ramp = reopen(&path, job)?;
            if let Some(other) = ramps.first().filter(|r| (r.ny, r.nx) != (ramp.ny, ramp.nx)) {
                let message = format!(
                    "is {} x {} pixels, {} is {} x {} (columns x rows): give ramps of one detector region",
                    ramp.nx,
                    ramp.ny,
                    names[0].display(),
                    other.nx,
                    other.ny
                );
                return Err(Error::input(&name, message));
            }
            ramps.push(ramp);
            names.push(name);
        }
        if ramps.is_empty() {
            return Err(Error::NothingToReduce("no ramps to measure".into()));
        }
        Ok(Corrected { ramps, names, headers, whole, warnings, _folder: folder })
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.ramps[0].ny, self.ramps[0].nx)
    }

    /// What products inherit.
    pub(super) fn header(&self) -> Header {
        blend(&self.headers.iter().collect::<Vec<_>>())
    }

    /// Whether each pixel may be measured in every exposure, (ny, nx).
    pub(super) fn good(&self) -> Vec<bool> {
        let (ny, nx) = self.size();
        let mut good = vec![true; ny * nx];
        for flags in self.ramps.iter().filter_map(|r| r.pixeldq.as_ref()) {
            let bad = dq::DO_NOT_USE | dq::REFERENCE_PIXEL;
            good.iter_mut().zip(flags).for_each(|(g, f)| *g &= f & bad == 0);
        }
        good
    }

    /// A sentence where reference pixels drift as only lit ones do: they took light away.
    pub(super) fn lit_references(&self) -> Option<String> {
        let used = self.ramps.iter().filter(|r| r.header.text("S_REFPIX").as_deref() == Some("COMPLETE"));
        let drifts = used.filter_map(|r| {
            Some((r.header.number("REFCOMM")?, r.header.number("REFNOISE")?, r.header.integer("NREFPIX")?))
        });
        let (drift, noise, pixels) = drifts.max_by(|a, b| a.0.total_cmp(&b.0))?;
        refpix::lit(drift, noise, pixels)
    }

    /// The same as a clause after another sentence.
    pub(super) fn why_dark(&self) -> String {
        self.lit_references().map_or(String::new(), |s| format!("; {s}"))
    }

    /// All reads of some rows of exposure `i`.
    pub(super) fn band(&self, i: usize, rows: Range<usize>) -> Result<Band> {
        let ramp = &self.ramps[i];
        let mut bytes = vec![0; ramp.chunk_bytes(rows.len())];
        ramp.read_rows(rows.clone(), &mut bytes)?;
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_be_bytes(*b)).collect();
        let flags = ramp.groupdq_rows(rows.clone())?.unwrap_or_else(|| vec![0; values.len()]);
        Ok(Band { values, flags, pixels: rows.len() * ramp.nx })
    }
}

/// A ramp that stage 1 left.
fn reopen(path: &Path, job: &Job) -> Result<Ramp> {
    match input::open(path, &job.instrument, &OpenOptions::default())? {
        Raw::Ramp(ramp) if ramp.encoding == Encoding::F32 => Ok(ramp),
        _ => Err(Error::input(path, "is not the ramp that stage 1 wrote: remove it and run again")),
    }
}
