//! Recipes: lists of steps, from YAML, with options laid over them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Step;
use crate::error::{Error, Result};

/// Whether a recipe treats its files one by one or together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// One product a file.
    One,
    /// One product from all files.
    Set,
}

/// A list of steps with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name on the command line.
    pub name: String,
    /// One line for `--help`.
    pub about: String,
    /// One by one or together.
    pub takes: Takes,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// Parameters given on the command line: step → parameter → value as typed.
pub type Overrides = BTreeMap<String, BTreeMap<String, String>>;

const BUILT_IN: &[(&str, &str)] = &[
    ("stage1", include_str!("../../configs/stage1.yaml")),
    ("dark", include_str!("../../configs/dark.yaml")),
    ("flat", include_str!("../../configs/flat.yaml")),
    ("sky", include_str!("../../configs/sky.yaml")),
    ("gain", include_str!("../../configs/gain.yaml")),
    ("mask", include_str!("../../configs/mask.yaml")),
    ("nonlin", include_str!("../../configs/nonlin.yaml")),
    ("imager", include_str!("../../configs/imager.yaml")),
    ("lenspx", include_str!("../../configs/lenspx.yaml")),
    ("lenslet_sky", include_str!("../../configs/lenslet_sky.yaml")),
    ("lenslet", include_str!("../../configs/lenslet.yaml")),
];

impl Recipe {
    /// The built-in recipes' names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A built-in recipe.
    pub fn built_in(name: &str) -> Result<Recipe> {
        let (_, text) = BUILT_IN.iter().find(|(n, _)| *n == name).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            Error::Usage(format!(
                "no recipe or step '{name}' (recipes: {}; steps: {})",
                names.join(", "),
                Step::NAMES.join(", ")
            ))
        })?;
        Self::from_yaml(text, name)
    }

    /// A recipe of the one step `name`, with its defaults.
    pub fn single(name: &str) -> Option<Recipe> {
        let step = Step::with_defaults(name)?;
        let set = matches!(
            step,
            Step::CombineFrames(_) | Step::PhotonTransfer(_) | Step::BadPixels(_) | Step::NonlinFit(_)
        );
        let takes = if set { Takes::Set } else { Takes::One };
        Some(Recipe { name: name.into(), about: format!("the step {name} alone"), takes, steps: vec![step] })
    }

    /// Reads a recipe from a YAML file.
    pub fn from_file(path: &Path) -> Result<Recipe> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::from_yaml(&text, &path.display().to_string())
    }

    /// Reads a recipe from YAML; `origin` is named in errors.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Recipe> {
        let recipe: Recipe =
            serde_yaml::from_str(text).map_err(|e| Error::Config(format!("{origin}: {e}")))?;
        recipe.check_order()?;
        Ok(recipe)
    }

    /// Steps must stand in the canonical order, each once.
    fn check_order(&self) -> Result<()> {
        for pair in self.steps.windows(2) {
            if pair[0].order() >= pair[1].order() {
                return Err(Error::Config(format!(
                    "recipe '{}': step {} cannot come after {} (the order is {})",
                    self.name,
                    pair[1].name(),
                    pair[0].name(),
                    Step::NAMES.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Lays command-line parameters over the recipe. Steps that the recipe does
    /// not have are left alone (one set of options serves a whole night); a step
    /// or parameter that does not exist at all is an error.
    pub fn with(mut self, overrides: &Overrides) -> Result<Recipe> {
        for (step_name, parameters) in overrides {
            if !Step::NAMES.contains(&step_name.as_str()) {
                return Err(Error::Usage(format!(
                    "--steps.{step_name}: no such step (steps: {})",
                    Step::NAMES.join(", ")
                )));
            }
            for step in self.steps.iter_mut().filter(|s| s.name() == step_name) {
                *step = set_parameters(step, parameters)?;
            }
        }
        Ok(self)
    }

    /// The step of type `T`, where `pick` takes it out of a [`Step`], unless skipped.
    pub fn active<'a, T>(&'a self, pick: impl Fn(&'a Step) -> Option<&'a T>) -> Option<&'a T> {
        self.steps.iter().filter(|s| !s.skip()).find_map(pick)
    }
}

fn set_parameters(step: &Step, parameters: &BTreeMap<String, String>) -> Result<Step> {
    let name = step.name();
    let fail = |m: String| Error::Usage(format!("--steps.{name}: {m}"));
    let mut value = serde_json::to_value(step).map_err(|e| fail(e.to_string()))?;
    let known = value.get_mut(name).and_then(|v| v.as_object_mut());
    let known = known.ok_or_else(|| fail("has no parameters".into()))?;
    for (parameter, text) in parameters {
        let old = known.get(parameter).ok_or_else(|| {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            fail(format!("no parameter '{parameter}' (it has {})", names.join(", ")))
        })?;
        let new = match old {
            serde_json::Value::String(_) => serde_json::Value::String(text.clone()),
            _ => serde_json::from_str(&text.to_ascii_lowercase())
                .map_err(|_| fail(format!("{parameter} = '{text}' is not a value like {old}")))?,
        };
        known.insert(parameter.clone(), new);
    }
    serde_json::from_value(value).map_err(|e| fail(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_parse_and_options_apply() {
        for name in Recipe::names() {
            assert_eq!(Recipe::built_in(name).expect(name).name, name);
        }
        let mut o = Overrides::new();
        o.entry("ramp_fit".into()).or_default().insert("algorithm".into(), "ols".into());
        o.entry("jump".into()).or_default().insert("skip".into(), "True".into());
        let r = Recipe::built_in("stage1").expect("stage1").with(&o).expect("with");
        assert!(
            r.steps
                .iter()
                .any(|s| matches!(s, Step::RampFit(f) if f.algorithm == super::super::Algorithm::Ols))
        );
        assert!(r.active(|s| if let Step::Jump(j) = s { Some(j) } else { None }).is_none());
    }

    #[test]
    fn wrong_options_are_sentences() {
        let mut o = Overrides::new();
        o.entry("ramp_fit".into()).or_default().insert("algoritm".into(), "ols".into());
        let e = Recipe::built_in("stage1").expect("stage1").with(&o).expect_err("unknown parameter");
        assert!(e.to_string().contains("algoritm"), "{e}");
        let text = "name: x\nabout: y\ntakes: one\nsteps: [{ramp_fit: {}}, {bias: {}}]";
        assert!(Recipe::from_yaml(text, "x").expect_err("order").to_string().contains("cannot come after"));
    }
}
