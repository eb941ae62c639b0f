//! `readout`: what iris_readout does, as the recipe of that name.

use super::args::{Readout, Run, Sampling};
use super::exit::Exit;
use super::families::Families;
use super::run;
use crate::error::{Error, Result};

/// Suffix of products, as the pipelines before had it.
const SUFFIX: &str = "rop";

/// Runs `readout`.
pub(super) fn readout(args: Readout, mut families: Families) -> Result<Exit> {
    let algorithm = match args.sampling {
        Sampling::Utr => "ols",
        Sampling::Mcds => "mcds",
        Sampling::Cds => "cds",
    };
    let fit = families.steps.entry("ramp_fit".into()).or_default();
    if fit.contains_key("algorithm") {
        return Err(Error::Usage("--steps.ramp_fit.algorithm: with readout, --sampling says it".into()));
    }
    fit.insert("algorithm".into(), algorithm.into());
    if let Some(n) = args.num_coadd {
        fit.insert("num_coadd".into(), n.to_string());
    }
    let mut common = args.common;
    common.suffix.get_or_insert_with(|| SUFFIX.into());
    let run =
        Run { recipe: "readout".into(), files: args.files, output_file: None, save_results: None, common };
    run::run(&run, &families)
}
