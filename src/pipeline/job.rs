//! What the caller asks for and what it gets back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Compat;
use crate::config::{Instrument, Recipe};
use crate::error::Result;
use crate::input::{OpenOptions, Relabels};
use crate::paths::absolute;

/// One recipe on one file or one set of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The steps.
    pub recipe: Recipe,
    /// The instrument's numbers.
    pub instrument: Arc<Instrument>,
    /// Raw files, or rates where the recipe starts there.
    pub inputs: Vec<PathBuf>,
    /// Where the rate of each exposure of a set goes, by its files; what is not in it
    /// is named by its header.
    pub rates: BTreeMap<PathBuf, PathBuf>,
    /// Chosen references by canonical type.
    pub references: BTreeMap<String, PathBuf>,
    /// The exposures that ended before an exposure began, of the same detector, by its
    /// first file; an exposure that is not in it may have had any.
    pub earlier: BTreeMap<PathBuf, Vec<Earlier>>,
    /// The product of the full frame that a subarray was read beside: the sky is
    /// subtracted from both with its factor.
    pub full_frame: Option<PathBuf>,
    /// Folder of science products.
    pub output: PathBuf,
    /// Folder of masters.
    pub masters: PathBuf,
    /// The one file this job makes: the caller planned its name, and other jobs
    /// may be waiting for it. `None` leaves the name to the pipeline.
    pub product: Option<PathBuf>,
    /// Replaces the product name's suffix.
    pub suffix: Option<String>,
    /// Seconds a read for files that do not say (`--read-time`).
    pub read_time: Option<f64>,
    /// Keywords that stand in place of those of the inputs.
    pub relabels: Relabels,
    /// Why each reference was chosen, by type.
    pub reasons: BTreeMap<String, String>,
    /// What a person said of it, for its HISTORY.
    pub said: Vec<String>,
    /// How the device failed at it before, as sentences, for its HISTORY.
    #[serde(skip)]
    pub troubles: Vec<String>,
    /// Whether this is what a step leaves on the way: nothing is written beside it.
    pub intermediate: bool,
    /// Whether the rates of single ramps are written, too (`--save_ramps`).
    pub save_ramps: bool,
    /// Whose files products are to be, too (`--compat`).
    pub compat: Option<Compat>,
    /// The CRDS context that gave some of the references, where one did.
    pub crds_context: Option<String>,
    /// Identifies everything that decides the products' bytes; written as IGPLAN.
    pub plan_hash: String,
    /// The night of whose plan it is: written as IGNIGHT. None for named files.
    #[serde(default)]
    pub night: Option<String>,
    /// Whether a better calibration may still come: written as IGPRELIM, which is taken
    /// away when the night is settled.
    #[serde(skip)]
    pub preliminary: bool,
}

impl Job {
    /// The same job from whatever folder it is run.
    pub fn absolute(&self) -> Result<Job> {
        let one = |p: &PathBuf| absolute(p);
        let all = |files: &[PathBuf]| files.iter().map(one).collect::<Result<Vec<_>>>();
        let earlier = |list: &[Earlier]| {
            list.iter()
                .map(|e| Ok(Earlier { files: all(&e.files)?.into(), ..e.clone() }))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Job {
            inputs: all(&self.inputs)?,
            rates: self.rates.iter().map(|(a, b)| Ok((one(a)?, one(b)?))).collect::<Result<_>>()?,
            references: self
                .references
                .iter()
                .map(|(t, p)| Ok((t.clone(), one(p)?)))
                .collect::<Result<_>>()?,
            earlier: self.earlier.iter().map(|(f, l)| Ok((one(f)?, earlier(l)?))).collect::<Result<_>>()?,
            full_frame: self.full_frame.as_ref().map(one).transpose()?,
            output: one(&self.output)?,
            masters: one(&self.masters)?,
            product: self.product.as_ref().map(one).transpose()?,
            relabels: self.relabels.absolute()?,
            ..self.clone()
        })
    }

    /// What opening its files takes.
    pub(super) fn open_options(&self) -> OpenOptions<'_> {
        OpenOptions { read_time: self.read_time, relabels: Some(&self.relabels) }
    }
}

/// An exposure before another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// Its raw file, or the files of its reads; many exposures after it share them.
    pub files: Arc<[PathBuf]>,
    /// Seconds from its end to the other's start, where both are known.
    pub seconds: Option<f64>,
}

/// What a job made.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Finished files, the last product last.
    pub products: Vec<PathBuf>,
    /// What the user should know, as sentences.
    pub warnings: Vec<String>,
}
