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
    ("readout", include_str!("../../configs/readout.yaml")),
    ("dark", include_str!("../../configs/dark.yaml")),
    ("flat", include_str!("../../configs/flat.yaml")),
    ("sky", include_str!("../../configs/sky.yaml")),
    ("gain", include_str!("../../configs/gain.yaml")),
    ("mask", include_str!("../../configs/mask.yaml")),
    ("nonlin", include_str!("../../configs/nonlin.yaml")),
    ("imager", include_str!("../../configs/imager.yaml")),
    ("lenspx", include_str!("../../configs/lenspx.yaml")),
    ("wavecal", include_str!("../../configs/wavecal.yaml")),
    ("dispersion", include_str!("../../configs/dispersion.yaml")),
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
        let mut recipes = Self::from_yaml(text, name)?;
        recipes.pop().ok_or_else(|| Error::Config(format!("{name}: holds no recipe")))
    }

    /// The recipes for real time (`configs/quicklook.yaml`).
    pub fn quicklook() -> Result<Vec<Recipe>> {
        Self::from_yaml(include_str!("../../configs/quicklook.yaml"), "quicklook")
    }

    /// A recipe of the one step `name`, with its defaults. A step that measures the
    /// detector comes with the corrections before it: it has nothing to measure in a
    /// rate, and raw reads are not what it is about.
    pub fn single(name: &str) -> Option<Recipe> {
        let step = Step::with_defaults(name)?;
        let whole = match &step {
            Step::PhotonTransfer(_) => Some("gain"),
            Step::BadPixels(_) => Some("mask"),
            Step::NonlinFit(_) => Some("nonlin"),
            Step::Wavecal(_) => Some("wavecal"),
            Step::Dispersion(_) => Some("dispersion"),
            _ => None,
        };
        if let Some(whole) = whole {
            return Some(Recipe { name: name.into(), ..Recipe::built_in(whole).ok()? });
        }
        let set = matches!(step, Step::MergeSubarrays(_) | Step::CombineFrames(_));
        let takes = if set { Takes::Set } else { Takes::One };
        Some(Recipe { name: name.into(), about: format!("the step {name} alone"), takes, steps: vec![step] })
    }

    /// Reads the recipes of a YAML file: see [`Recipe::from_yaml`].
    pub fn from_file(path: &Path) -> Result<Vec<Recipe>> {
        Self::from_yaml(&super::read_text(path)?, &path.display().to_string())
    }

    /// Reads recipes from YAML, one or several with `---` between them, as
    /// `config show` prints them; `origin` is named in errors.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Vec<Recipe>> {
        let fail = |e: String| Error::Config(format!("{origin}: {e}"));
        let recipes: Vec<Recipe> =
            serde_yaml::from_multiple(text).map_err(|e| super::not_understood(origin, &e))?;
        for (i, recipe) in recipes.iter().enumerate() {
            let name = &recipe.name;
            recipe.check().map_err(|e| fail(format!("recipe '{name}': {e}")))?;
            if recipes[..i].iter().any(|r| r.name == *name) {
                return Err(fail(format!("recipe '{name}' stands in it twice: remove one")));
            }
        }
        if recipes.is_empty() {
            return Err(fail("holds no recipe; `irisgpu config show` prints some to begin with".into()));
        }
        Ok(recipes)
    }

    /// The reference type of the master that a set becomes; `None`: no master.
    pub fn master(&self) -> Option<&'static str> {
        let has = |name| self.steps.iter().any(|s| s.name() == name);
        match self.name.as_str() {
            _ if self.takes == Takes::One => None,
            _ if has("photon_transfer") => Some("gain"),
            _ if has("bad_pixels") => Some("mask"),
            _ if has("nonlin_fit") => Some("nonlin"),
            _ if has("dispersion") => Some("dispersion"),
            _ if has("wavecal") && has("extract") => Some("wavemap"),
            _ if has("wavecal") => Some("lenspx"),
            _ if has("normalize") => Some("flat"),
            "dark" => Some("dark"),
            "sky" => Some("sky"),
            _ if has("cube_build") => Some("sky"),
            _ => None,
        }
    }

    /// The level of what it leaves of a file of level `given`: 0 a ramp, 1 a rate (with
    /// or without its dark), 2 a calibrated image, spectra, a cube or a master, 3 a
    /// combination. Steps that calibrate nothing leave it as it is.
    pub fn level(&self, given: Option<i64>) -> u32 {
        let keeps = |s: &&Step| !matches!(s, Step::AssignWcs(_) | Step::CosmicRays(_));
        let order = |name| Step::NAMES.iter().position(|n| *n == name);
        match self.steps.iter().filter(keeps).map(|s| Some(s.order())).max() {
            // Back at the level that all of them have.
            _ if self.merges() => given.and_then(|level| u32::try_from(level).ok()).unwrap_or(1).max(1),
            None => given.and_then(|level| u32::try_from(level).ok()).unwrap_or(1).max(1),
            _ if self.takes == Takes::Set && self.master().is_none() => 3,
            Some(last) if last > order("dark_sub") => 2,
            Some(last) if last >= order("ramp_fit") => 1,
            Some(_) => 0,
        }
    }

    /// Whether all it does is to merge subarrays.
    pub fn merges(&self) -> bool {
        matches!(self.steps.as_slice(), [Step::MergeSubarrays(_)])
    }

    /// Steps must stand in the canonical order, each once, their numbers in range; a
    /// sentence where they do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        for pair in self.steps.windows(2) {
            if pair[0].order() >= pair[1].order() {
                return Err(format!(
                    "step {} cannot come after {} (the order is {})",
                    pair[1].name(),
                    pair[0].name(),
                    Step::NAMES.join(", ")
                ));
            }
        }
        self.steps.iter().try_for_each(|s| s.check().map_err(|e| format!("{}.{e}", s.name())))
    }

    /// Lays command-line parameters over the recipe. Steps that the recipe does
    /// not have are left alone (one set of options serves a whole night); a step
    /// or parameter that does not exist at all is an error.
    pub fn with(mut self, overrides: &Overrides) -> Result<Recipe> {
        for (name, parameters) in overrides {
            let defaults = Step::with_defaults(name).ok_or_else(|| {
                let steps = Step::NAMES.join(", ");
                Error::Usage(format!("--steps.{name}: no such step (steps: {steps})"))
            })?;
            // Checked even where no recipe has the step.
            set_parameters(&defaults, parameters)?;
            for step in self.steps.iter_mut().filter(|s| s.name() == name) {
                *step = set_parameters(step, parameters)?;
            }
        }
        if let Some(step) = self.active(|s| if let Step::DqInit(d) = s { Some(d) } else { None }) {
            step.limited().map_err(Error::Usage)?;
        }
        Ok(self)
    }

    /// The step of type `T`, where `pick` takes it out of a [`Step`], unless skipped.
    pub fn active<'a, T>(&'a self, pick: impl Fn(&'a Step) -> Option<&'a T>) -> Option<&'a T> {
        self.steps.iter().filter(|s| !s.skip()).find_map(pick)
    }
}

fn set_parameters(step: &Step, parameters: &BTreeMap<String, String>) -> Result<Step> {
    let mut step = step.clone();
    for (parameter, text) in parameters {
        step = set_parameter(&step, parameter, text)?;
    }
    Ok(step)
}

/// The step with one parameter set to the value typed.
fn set_parameter(step: &Step, parameter: &str, text: &str) -> Result<Step> {
    use serde_json::Value;
    let name = step.name();
    let fail = |m: String| Error::Usage(format!("--steps.{name}.{parameter}={text}: {m}"));
    let mut value = serde_json::to_value(step).map_err(|e| fail(e.to_string()))?;
    let known = value.get_mut(name).and_then(|v| v.as_object_mut());
    let known = known.ok_or_else(|| fail(format!("{name} has no parameters")))?;
    let old = known.get(parameter).ok_or_else(|| {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        fail(format!("{name} has no parameter '{parameter}' (it has {})", names.join(", ")))
    })?;
    let range = step.parameters().iter().find(|p| p.name == parameter).and_then(|p| p.range);
    let numbers = range.map_or(String::new(), |r| format!(", {r}"));
    let typed = serde_json::from_str(&text.trim().to_ascii_lowercase()).unwrap_or(Value::Null);
    let new = match (old, typed) {
        (Value::String(_), _) => Value::String(text.to_owned()),
        (Value::Bool(_), yes @ Value::Bool(_)) => yes,
        (Value::Bool(_), _) => return Err(fail("it must be true or false".into())),
        (Value::Array(_), list @ Value::Array(_)) => list,
        (Value::Array(_), _) => numbers_of(text).ok_or_else(|| {
            fail("it must be whole numbers with commas between them, as 0,5 or [0, 5]".into())
        })?,
        (whole, Value::Number(n)) if !whole.is_u64() || n.is_u64() => Value::Number(n),
        (whole, _) if whole.is_u64() => return Err(fail(format!("it must be a whole number{numbers}"))),
        _ => return Err(fail(format!("it must be a number{numbers}"))),
    };
    known.insert(parameter.to_owned(), new);
    let step: Step = serde_json::from_value(value).map_err(|e| fail(e.to_string()))?;
    match (range, step.check()) {
        (Some(range), Err(_)) => Err(fail(format!("it must be {range}"))),
        _ => Ok(step),
    }
}

/// `0,5` as a list.
fn numbers_of(text: &str) -> Option<serde_json::Value> {
    let numbers = text.split(',').map(|n| n.trim().parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
    Some(numbers.into())
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
    fn levels_and_masters() {
        let what = |r: &Recipe| (r.level(None), r.master());
        for (name, expected) in [
            ("stage1", (1, None)),
            ("imager", (2, None)),
            ("lenslet", (2, None)),
            ("dark", (2, Some("dark"))),
            ("flat", (2, Some("flat"))),
            ("sky", (2, Some("sky"))),
            ("lenslet_sky", (2, Some("sky"))),
            ("lenspx", (2, Some("lenspx"))),
            ("wavecal", (2, Some("wavemap"))),
            ("dispersion", (2, Some("dispersion"))),
        ] {
            assert_eq!(what(&Recipe::built_in(name).expect(name)), expected, "{name}");
        }
        for (name, level) in
            [("refpix", 0), ("ramp_fit", 1), ("dark_sub", 1), ("flat_field", 2), ("combine_frames", 3)]
        {
            assert_eq!(what(&Recipe::single(name).expect(name)), (level, None), "{name}");
        }
        for name in ["assign_wcs", "cosmic_rays"] {
            let step = Recipe::single(name).expect(name);
            assert_eq!([None, Some(0), Some(1), Some(2), Some(3)].map(|l| step.level(l)), [1, 1, 1, 2, 3]);
        }
        let gain = Recipe::single("photon_transfer").expect("single");
        assert_eq!((gain.takes, gain.master()), (Takes::Set, Some("gain")));
        assert!(gain.steps.len() > 1 && Recipe::single("wavecal").expect("single").takes == Takes::Set);
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

    #[test]
    fn a_column_of_reads_and_its_limit_go_together() {
        let with = |parameters: &[(&str, &str)]| {
            let parameters = parameters.iter().map(|(p, v)| ((*p).to_owned(), (*v).to_owned()));
            let o = Overrides::from([("dq_init".into(), parameters.collect())]);
            Recipe::built_in("stage1").expect("stage1").with(&o)
        };
        for half in [("read_column", "SEEING"), ("read_min", "1"), ("read_max", "1")] {
            assert!(matches!(with(&[half]), Err(Error::Usage(m)) if m.contains("go together")), "{half:?}");
            assert!(with(&[half, ("skip", "true")]).is_ok());
        }
        assert!(with(&[("read_column", "SEEING"), ("read_max", "1")]).is_ok());
    }

    #[test]
    fn numbers_outside_their_range_are_refused_with_the_range() {
        let with = |step: &str, parameter: &str, value: &str| {
            let o = Overrides::from([(step.into(), BTreeMap::from([(parameter.into(), value.into())]))]);
            Recipe::built_in("stage1").expect("stage1").with(&o).map_err(|e| e.to_string())
        };
        for (step, parameter, value, said) in [
            ("jump", "rejection_threshold", "-1", "more than 0"),
            ("jump", "rejection_threshold", "NaN", "a number, more than 0"),
            ("jump", "rejection_threshold", "1e999", "a number, more than 0"),
            ("ramp_fit", "num_coadd", "0", "1 or more"),
            ("ramp_fit", "num_coadd", "-1", "a whole number, 1 or more"),
            ("ramp_fit", "num_coadd", "2.5", "a whole number, 1 or more"),
            ("ramp_fit", "num_coadd", "5000000000", "u32"),
            ("ramp_fit", "algorithm", "magic", "likelihood"),
            ("refpix", "odd_even_columns", "perhaps", "true or false"),
            // Of a step that the recipe does not have.
            ("combine_frames", "sigma_thresh_low", "0", "more than 0"),
        ] {
            let sentence = with(step, parameter, value).expect_err(value);
            let option = format!("--steps.{step}.{parameter}={value}: ");
            assert!(sentence.starts_with(&option) && sentence.contains(said), "{sentence}");
        }
        assert!(with("jump", "rejection_threshold", "4").is_ok());
        for value in ["-1", ".nan", ".inf", "0"] {
            let text =
                format!("{{name: x, about: y, takes: one, steps: [jump: {{rejection_threshold: {value}}}]}}");
            let sentence = Recipe::from_yaml(&text, "x.yaml").expect_err(value).to_string();
            for part in ["x.yaml", "recipe 'x'", "jump.rejection_threshold", "more than 0"] {
                assert!(sentence.contains(part), "{sentence}");
            }
        }
    }

    #[test]
    fn a_file_may_hold_several_recipes_but_none_twice() {
        let text =
            "name: a\nabout: y\ntakes: one\nsteps: []\n---\nname: b\nabout: y\ntakes: set\nsteps: []\n";
        let two = Recipe::from_yaml(text, "x").expect("two");
        assert_eq!((two[0].name.as_str(), two[1].name.as_str()), ("a", "b"));
        let twice = text.replace("name: b", "name: a");
        assert!(Recipe::from_yaml(&twice, "x").expect_err("twice").to_string().contains("twice"));
        assert!(Recipe::from_yaml("", "x").expect_err("empty").to_string().contains("holds no recipe"));
    }

    #[test]
    fn every_number_of_every_step_has_a_range_that_its_default_lies_in() {
        for step in Step::NAMES.iter().filter_map(|n| Step::with_defaults(n)) {
            step.check().expect("defaults are in range");
            let json = serde_json::to_value(&step).expect("JSON");
            for p in step.parameters() {
                let value = &json[step.name()][p.name];
                // A null stands for a number that another parameter decides.
                assert!(!value.is_number() || p.range.is_some(), "{}.{}", step.name(), p.name);
                assert!(p.range.is_none() || value.is_number() || value.is_null(), "{}", p.name);
                assert!(!p.about.trim().is_empty());
            }
        }
    }
}
