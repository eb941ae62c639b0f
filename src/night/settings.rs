//! What the user asked for, once it is understood.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Instrument, Overrides, Recipe};
use crate::error::{Error, Result};
use crate::pipeline::Compat;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Recipes with the user's parameters.
    pub recipes: Recipes,
    /// The instrument's numbers.
    pub instrument: Arc<Instrument>,
    /// Folder of science products.
    pub output: PathBuf,
    /// Folder of masters.
    pub masters: PathBuf,
    /// Replaces the product name's suffix.
    pub suffix: Option<String>,
    /// Seconds a read for files that do not say.
    pub read_time: Option<f64>,
    /// Steps after which a product is written on the way.
    pub save: BTreeSet<String>,
    /// Write the rates of single ramps, too.
    pub save_ramps: bool,
    /// Write files that another package opens, too (`--compat`).
    pub compat: Option<Compat>,
    /// Raw files of exposures before those that are reduced (`--earlier`).
    pub earlier: Vec<PathBuf>,
    /// Do again what is up to date.
    pub force: bool,
    /// Do only what matches one of these (a part of, or a `*` pattern for, a file
    /// name, an OBSNAME or a recipe) and what that needs; empty for all.
    pub only: Vec<String>,
}

/// Recipes by name.
#[derive(Debug, Clone)]
pub struct Recipes {
    by_name: BTreeMap<String, Recipe>,
    overrides: Overrides,
}

impl Recipes {
    /// The built-in recipes, replaced by those in `files` that have their names,
    /// with the parameters of the command line over them.
    pub fn new(files: &[PathBuf], overrides: &Overrides) -> Result<Recipes> {
        Self::over(Vec::new(), files, overrides)
    }

    /// The same with the recipes for real time in place of the built-in ones of their names.
    pub fn quick(files: &[PathBuf], overrides: &Overrides) -> Result<Recipes> {
        Self::over(Recipe::quicklook()?, files, overrides)
    }

    fn over(others: Vec<Recipe>, files: &[PathBuf], overrides: &Overrides) -> Result<Recipes> {
        let mut by_name = BTreeMap::new();
        for name in Recipe::names() {
            by_name.insert(name.to_owned(), Recipe::built_in(name)?.with(overrides)?);
        }
        for recipe in others {
            by_name.insert(recipe.name.clone(), recipe.with(overrides)?);
        }
        for file in files {
            for recipe in Recipe::from_file(file)? {
                by_name.insert(recipe.name.clone(), recipe.with(overrides)?);
            }
        }
        Ok(Recipes { by_name, overrides: overrides.clone() })
    }

    /// A recipe, a step alone, or a recipe's file.
    pub fn resolve(&self, name: &str) -> Result<Recipe> {
        if let Some(recipe) = self.by_name.get(name) {
            return Ok(recipe.clone());
        }
        let path = Path::new(name);
        let recipe = match Recipe::single(&name.replace('-', "_")) {
            Some(single) => single,
            None if path.extension().is_some_and(|e| e == "yaml" || e == "yml") => only_one(path)?,
            // Gives the sentence that lists what there is.
            None => Recipe::built_in(name)?,
        };
        recipe.with(&self.overrides)
    }

    /// All recipes, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.by_name.values()
    }
}

/// The recipe of a file that must hold no other.
fn only_one(path: &Path) -> Result<Recipe> {
    let mut recipes = Recipe::from_file(path)?;
    match (recipes.pop(), recipes.is_empty()) {
        (Some(recipe), true) => Ok(recipe),
        (last, _) => {
            let names = recipes.into_iter().chain(last).map(|r| r.name).collect::<Vec<_>>().join(", ");
            let path = path.display();
            Err(Error::Usage(format!(
                "{path} holds several recipes ({names}): give --config {path}, and one of these names in its place"
            )))
        }
    }
}
