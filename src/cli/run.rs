//! `run`: one recipe or one step on named files.

use std::path::{Path, PathBuf};

use super::args::{Run, Select};
use super::exit::Exit;
use super::families::Families;
use super::{options, reduce};
use crate::error::{Error, Result};
use crate::night;

/// Runs `run`. What is named is done, whether or not it is up to date.
pub(super) fn run(args: &Run, families: &Families) -> Result<Exit> {
    let common = &args.common;
    let output = common.output.clone().unwrap_or_else(|| PathBuf::from("."));
    let mut settings =
        options::settings(common, &Select { force: true, ..Select::default() }, families, output)?;
    // Named files, one folder: masters are not set apart as in a night.
    settings.masters.clone_from(&settings.output);
    let recipe = settings.recipes.resolve(&args.recipe)?;
    for file in &args.files {
        let why = match file {
            f if f.is_file() => continue,
            f if f.is_dir() => "is a folder: name its files, or take `irisgpu reduce` for a night",
            f if f.exists() => "is not a regular file: name a FITS file",
            _ => "there is no such file",
        };
        return Err(Error::Usage(format!("{}: {why}", file.display())));
    }
    let beside = args.files.first().and_then(|f| f.parent()).unwrap_or(Path::new("")).join("refs");
    let folders = options::reference_folders(&common.refs, beside);
    let references = options::references(&folders, families, common.context.as_deref())?;
    let plan = night::of_files(&recipe, &night::read_files(&args.files), &references, &settings)?;
    let idle = plan.tasks.iter().all(|t| t.job().is_none());
    let _lock = if idle { None } else { Some(night::Lock::take(&settings.output)?) };
    reduce::carry_out(&plan, common, idle)
}
