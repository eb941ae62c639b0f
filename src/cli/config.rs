//! `config show`: what is in effect, in the form that `--config` reads.

use super::args::{Config, ConfigVerb};
use super::exit::Exit;
use super::families::Families;
use super::{options, print};
use crate::error::{Error, Result};
use crate::night::Recipes;

/// Runs `config`.
pub(super) fn config(args: &Config, families: &Families) -> Result<Exit> {
    let ConfigVerb::Show { recipe, config, instrument, json } = &args.verb;
    let recipes = Recipes::new(config, &families.steps)?;
    let shown = match recipe.as_deref() {
        Some("instrument") => vec![value(&options::instrument(instrument.as_deref())?)?],
        Some(name) => vec![value(&recipes.resolve(name)?)?],
        None => recipes.iter().map(value).collect::<Result<_>>()?,
    };
    if *json {
        return print::json(&if shown.len() == 1 {
            shown[0].0.clone()
        } else {
            shown.into_iter().map(|s| s.0).collect()
        })
        .map(|()| Exit::Done);
    }
    let texts: Vec<String> = shown.into_iter().map(|s| s.1).collect();
    print::out(&texts.join("---\n"))?;
    Ok(Exit::Done)
}

/// As JSON and as YAML.
fn value(thing: &impl serde::Serialize) -> Result<(serde_json::Value, String)> {
    let fail = |e: String| Error::Config(format!("cannot be printed: {e}"));
    let json = serde_json::to_value(thing).map_err(|e| fail(e.to_string()))?;
    let mut yaml = serde_yaml::to_string(thing).map_err(|e| fail(e.to_string()))?;
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok((json, yaml))
}
