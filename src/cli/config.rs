//! `config show`: what is in effect, in the form that `--config` reads.

use super::args::{Config, ConfigVerb};
use super::exit::Exit;
use super::families::Families;
use super::{options, print};
use crate::config::{Recipe, Step};
use crate::error::{Error, Result};
use crate::night::Recipes;

/// Runs `config`.
pub(super) fn config(args: &Config, families: &Families) -> Result<Exit> {
    let ConfigVerb::Show { recipe, config, instrument, json } = &args.verb;
    let recipes = Recipes::new(config, &families.steps)?;
    if recipe.as_deref() == Some("instrument") {
        let instrument = options::instrument(instrument.as_deref())?;
        if *json {
            print::json(&as_json(&instrument)?)?
        } else {
            print::out(&as_yaml(&instrument)?)?
        }
        return Ok(Exit::Done);
    }
    let shown: Vec<Recipe> = match recipe.as_deref() {
        Some(name) => vec![recipes.resolve(name)?],
        None => recipes.iter().cloned().collect(),
    };
    if *json {
        match shown.as_slice() {
            [one] => print::json(&as_json(one)?)?,
            all => print::json(&as_json(&all)?)?,
        }
    } else {
        let all = shown.iter().map(|r| Ok(explained(&as_yaml(r)?))).collect::<Result<Vec<_>>>()?;
        print::out(&all.join("---\n"))?;
    }
    Ok(Exit::Done)
}

fn unprintable(e: impl std::fmt::Display) -> Error {
    Error::Config(format!("cannot be printed: {e}"))
}

fn as_json(thing: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(thing).map_err(unprintable)
}

fn as_yaml(thing: &impl serde::Serialize) -> Result<String> {
    let mut yaml = serde_yaml::to_string(thing).map_err(unprintable)?;
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok(yaml)
}

/// A recipe's YAML with what each parameter is, and may be, in comments.
fn explained(yaml: &str) -> String {
    let mut step: Option<Step> = None;
    let mut out = String::new();
    for line in yaml.lines() {
        let key = line.trim().trim_start_matches("- ").split(':').next().unwrap_or_default();
        if line.trim_start().starts_with("- ") {
            step = Step::with_defaults(key);
        }
        out.push_str(line);
        let parameters = step.as_ref().map_or(&[][..], Step::parameters);
        if let Some(p) = parameters.iter().find(|p| p.name == key) {
            out.push_str("  #");
            out.push_str(p.about.trim_end_matches('.'));
            if let Some(range) = p.range {
                out.push_str(&format!(": {range}"));
            }
        }
        out.push('\n');
    }
    out
}
