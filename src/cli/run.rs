//! `run`: one recipe or one step on named files, in this program's words or stpipe's.

use std::path::{Path, PathBuf};

use super::args::{Common, Run, Select};
use super::exit::Exit;
use super::families::{Families, yes};
use super::log::Log;
use super::{options, print, reduce};
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::night::{self, Named};
use crate::refs::canonical_reftype;
use crate::stpipe::{Association, Cfg, names};

/// What is to be run, once a `.cfg` file or a class is understood.
struct Asked {
    recipe: String,
    common: Common,
    families: Families,
    output_file: Option<String>,
    /// A pipeline or step was named by its class: products are called as it would.
    as_stpipe: bool,
}

/// Runs `run`. What is named is done, whether or not it is up to date.
pub(super) fn run(args: &Run, families: &Families) -> Result<Exit> {
    let asked = asked(args, families)?;
    let common = &asked.common;
    let output = common.output.clone().unwrap_or_else(|| PathBuf::from("."));
    // Counts do not depend on it; headers that know better are believed.
    let counts = Common { read_time: common.read_time.or(Some(1.0)), ..common.clone() };
    let common = if asked.recipe == "readout" { &counts } else { common };
    let select = Select { force: true, ..Select::default() };
    let mut settings = options::settings(common, &select, &asked.families, output)?;
    // Named files, one folder: masters are not set apart as in a night.
    settings.masters.clone_from(&settings.output);
    let recipe = settings.recipes.resolve(&asked.recipe)?;
    asked.families.notes.iter().for_each(|note| print::note(&format!("warning: {note}")));
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
    let references =
        options::references(&folders, &common.masters, &asked.families, common.context.as_deref())?;
    let (associations, frames): (Vec<&PathBuf>, Vec<&PathBuf>) = args.files.iter().partition(|f| is_json(f));
    let plan = match (associations.as_slice(), frames.first()) {
        ([], _) => {
            let named = asked.output_file.clone().map(Named::So).or(asked.as_stpipe.then_some(Named::AsFile));
            night::of_files(&recipe, &night::read_files(&args.files), named, &references, &settings)?
        }
        ([first, ..], Some(frame)) => {
            return Err(Error::Usage(format!(
                "{} is an association and {} is none: run them apart",
                first.display(),
                frame.display()
            )));
        }
        (several, None) => {
            if asked.output_file.is_some() {
                return Err(Error::Usage("--output_file: an association names its products".into()));
            }
            let is_own = |kind: &str| canonical_reftype(kind).is_some_and(|k| Some(k) == recipe.master());
            let all = several
                .iter()
                .map(|f| Association::from_file(f)?.complete(is_own))
                .collect::<Result<Vec<_>>>()?;
            night::of_associations(&recipe, &all, &references, &settings)?
        }
    };
    let idle = plan.tasks.iter().all(|t| t.job().is_none());
    let _lock = if idle { None } else { Some(night::Lock::take(&settings.output)?) };
    reduce::carry_out(&plan, common, reduce::Work::Own, &Log::open(&common.log, None)).map(|(exit, _)| exit)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

/// What the arguments and the `.cfg` file, if one is named, ask for: the command line
/// comes before the file.
fn asked(args: &Run, families: &Families) -> Result<Asked> {
    let mut asked = Asked {
        recipe: args.recipe.clone(),
        common: args.common.clone(),
        families: families.clone(),
        output_file: args.output_file.clone(),
        as_stpipe: false,
    };
    if let Some(value) = &args.save_results {
        yes(value, "--save_results")?;
    }
    if args.recipe.to_ascii_lowercase().ends_with(".cfg") {
        from_cfg(&Cfg::from_file(Path::new(&args.recipe))?, &mut asked)?;
        asked.as_stpipe = true;
    } else if let Some(meant) = names::class(&asked.recipe) {
        asked.recipe = meant.into();
        asked.as_stpipe = true;
    } else if let Some(names::Meant::Step(step)) = names::step(&asked.recipe) {
        asked.recipe = step.into();
    }
    let own = std::mem::take(&mut asked.families.own);
    if Recipe::built_in(&asked.recipe).is_err() && Recipe::single(&asked.recipe.replace('-', "_")).is_some() {
        for (name, value) in own {
            asked.families.set(&asked.recipe, &name, &value)?;
        }
    } else if let Some((name, value)) = own.first() {
        return Err(Error::Usage(format!(
            "--{name}={value}: {} has several steps: say of which, as --steps.<STEP>.{name}={value}",
            asked.recipe
        )));
    }
    if asked.as_stpipe {
        as_theirs(&mut asked);
    }
    Ok(asked)
}

/// Those pipelines' own ways where nothing else is asked for: they subtract the sky as it
/// is, and average two reads at each end.
fn as_theirs(asked: &mut Asked) {
    let (step, parameter, value) = match asked.recipe.as_str() {
        "imager" | "background" => ("background", "scaling", "fixed"),
        "readout" => ("ramp_fit", "num_coadd", "2"),
        _ => return,
    };
    let parameters = asked.families.steps.entry(step.into()).or_default();
    parameters.entry(parameter.into()).or_insert_with(|| value.into());
}

/// Takes over what a `.cfg` file says.
fn from_cfg(cfg: &Cfg, asked: &mut Asked) -> Result<()> {
    let at = |e: Error| match e {
        Error::Usage(m) => Error::Config(format!("{}: {}", cfg.path.display(), m.trim_start_matches("--"))),
        other => other,
    };
    let meant = names::class(&cfg.class).ok_or_else(|| {
        Error::Config(format!(
            "{}: class = '{}' is no pipeline or step that irisgpu knows (Stage1Pipeline, ImagerStage2Pipeline, \
             CreateDark, CreateFlatfield, ProcessImagerL2Pipeline, ProcessFlatfieldL2, ROPPipeline, or a step's)",
            cfg.path.display(),
            cfg.class
        ))
    })?;
    asked.recipe = meant.into();
    let step = Recipe::built_in(meant).is_err();
    let mut said = Families::default();
    for (alias, parameters) in &cfg.steps {
        for (name, value) in parameters {
            said.set(alias, name, value).map_err(at)?;
        }
    }
    for (name, value) in &cfg.parameters {
        if let Some(step) = names::saved(name) {
            said.set(step, "save_results", value).map_err(at)?;
            continue;
        }
        match name.as_str() {
            "output_dir" => drop(asked.common.output.get_or_insert_with(|| PathBuf::from(value))),
            "output_file" => drop(asked.output_file.get_or_insert_with(|| value.clone())),
            "suffix" => drop(asked.common.suffix.get_or_insert_with(|| value.clone())),
            "save_results" => drop(yes(value, name).map_err(at)?),
            _ if name.starts_with("override_") => {
                said.reference(&name["override_".len()..], PathBuf::from(value)).map_err(at)?;
            }
            _ if names::is_idle(name) => {}
            _ if step => said.set(meant, name, value).map_err(at)?,
            _ => said.notes.push(format!("{}: {name} is not understood: it is ignored", cfg.path.display())),
        }
    }
    asked.families = std::mem::take(&mut asked.families).over(said);
    Ok(())
}
