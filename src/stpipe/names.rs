//! Names of pipelines, steps and parameters, and what they mean here.

use crate::config::Step;

/// Pipeline classes and aliases, and the recipe that each means.
const PIPELINES: &[(&str, &str)] = &[
    ("Stage1Pipeline", "stage1"),
    ("ROPPipeline", "readout"),
    ("Detector1Pipeline", "stage1"),
    ("calwebb_detector1", "stage1"),
    ("ImagerStage2Pipeline", "imager"),
    ("ProcessImagerL2Pipeline", "imager"),
    ("Image2Pipeline", "imager"),
    ("calwebb_image2", "imager"),
    ("CreateDark", "dark"),
    ("CreateFlatfield", "flat"),
    ("ProcessFlatfieldL2", "flat"),
];

/// Step classes (without `Step`) and aliases that are not this program's own names.
const STEPS: &[(&str, &str)] = &[
    ("nonlin_corr", "linearity"),
    ("nonlincorr", "linearity"),
    ("nonlinear_correction", "linearity"),
    ("fit_ramp", "ramp_fit"),
    ("readoutsamp", "ramp_fit"),
    ("superbias", "bias"),
    ("dark_current", "dark_sub"),
    ("dark_subtraction", "dark_sub"),
    ("flatfield", "flat_field"),
    ("bkg_subtract", "background"),
    ("background_sub", "background"),
    ("subtract_bkg", "background"),
    ("subtract_background_imager", "background"),
    ("calc_background", "background"),
    ("calc_bkg_imager", "background"),
    ("calculate_background_imager", "background"),
];

/// Steps of those pipelines that have no counterpart here.
const ABSENT: &[&str] = &["photom", "resample", "flux_cal", "group_scale", "gain_scale"];

/// What the name of a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// This step.
    Step(&'static str),
    /// A step of those pipelines that does not exist here.
    Absent,
}

/// The recipe or step that a pipeline's or a step's class stands for, with or without
/// its modules (`iris_pipeline.pipeline.ROPPipeline`).
pub fn class(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    if let Some((_, recipe)) = PIPELINES.iter().find(|(known, _)| *known == last) {
        return Some(recipe);
    }
    let stem = last.strip_suffix("Step").filter(|s| !s.is_empty())?;
    match step(&snake(stem))? {
        Meant::Step(step) => Some(step),
        Meant::Absent => None,
    }
}

/// What a step's name or alias means; `None` where nobody has such a step.
pub fn step(name: &str) -> Option<Meant> {
    let name = name.replace('-', "_");
    let own = |n: &str| Step::NAMES.iter().find(|s| **s == n).map(|s| Meant::Step(s));
    own(&name)
        .or_else(|| STEPS.iter().find(|(alias, _)| *alias == name).map(|(_, s)| Meant::Step(s)))
        .or_else(|| ABSENT.contains(&name.as_str()).then_some(Meant::Absent))
}

/// The steps, parameters and values that a parameter of a step means here.
pub fn parameters(step: &str, name: &str, value: &str) -> Vec<(String, String, String)> {
    let value = value.trim();
    let one = |step: &str, name: &str, value: &str| (step.to_owned(), name.to_owned(), value.to_owned());
    match (step, name) {
        // The readout's up-the-ramp sampling is a line fit with equal weights.
        ("ramp_fit", "method" | "mode") if value.eq_ignore_ascii_case("utr") => {
            vec![one(step, "algorithm", "ols")]
        }
        ("ramp_fit", "method" | "mode") => vec![one(step, "algorithm", &value.to_ascii_lowercase())],
        // Sky frames are clipped where they are combined.
        ("background", "sigma") => vec![
            one("combine_frames", "sigma_thresh_low", value),
            one("combine_frames", "sigma_thresh_high", value),
        ],
        ("background", "maxiters") => vec![one("combine_frames", "maxiters", value)],
        _ => vec![one(step, name, value)],
    }
}

/// Parameters of those pipelines' steps that have no counterpart here.
pub fn is_elsewhere(step: &str, name: &str) -> bool {
    match step {
        "background" => matches!(
            name,
            "sigma_low"
                | "sigma_high"
                | "box_size"
                | "filter_size"
                | "save_combined_background"
                | "wfss_mmag_extract"
        ),
        "combine_frames" => matches!(name, "error_calc" | "min_batch_size"),
        _ => matches!(name, "suffix" | "output_file" | "output_dir"),
    }
}

/// The reference type that a step's parameter of this name gives a file for.
pub fn reference_parameter(step: &str, name: &str) -> Option<&'static str> {
    Some(match (step, name) {
        ("linearity", "nonlin") => "nonlin",
        ("dark_sub", "dark") => "dark",
        ("flat_field", "flat") => "flat",
        ("background", "background") => "sky",
        _ => return None,
    })
}

/// Whether some step has a parameter of this name that gives a reference.
pub fn gives_reference(name: &str) -> bool {
    Step::NAMES.iter().any(|step| reference_parameter(step, name).is_some())
}

/// Parameters that every stpipe step has and that decide nothing here.
pub fn is_idle(name: &str) -> bool {
    matches!(
        name,
        "name"
            | "class"
            | "config_file"
            | "input_dir"
            | "output_ext"
            | "output_use_model"
            | "output_use_index"
            | "search_output_file"
            | "pre_hooks"
            | "post_hooks"
            | "logcfg"
            | "dark_output_dir"
            | "flat_output_dir"
    )
}

/// The step whose result a pipeline's own parameter asks for.
pub fn saved(parameter: &str) -> Option<&'static str> {
    match parameter {
        "save_bsub" => Some("background"),
        "save_calibrated_ramp" => Some("jump"),
        _ => None,
    }
}

/// Options of `strun` that decide nothing here.
pub fn is_idle_option(name: &str) -> bool {
    is_idle_flag(name) || matches!(name, "logcfg" | "log_level" | "log_file" | "log_stream" | "input_dir")
}

/// Those of them that have no value behind them (but may have one after `=`).
pub fn is_idle_flag(name: &str) -> bool {
    matches!(
        name,
        "debug" | "disable_crds_steppars" | "search_output_file" | "output_use_model" | "output_use_index"
    )
}

/// `FlatField` → `flat_field`, `AssignWCS` → `assign_wcs`, `DQInit` → `dq_init`.
fn snake(camel: &str) -> String {
    let letters: Vec<char> = camel.chars().collect();
    let mut out = String::new();
    for (i, c) in letters.iter().enumerate() {
        let word_begins = c.is_ascii_uppercase()
            && i > 0
            && (!letters[i - 1].is_ascii_uppercase()
                || letters.get(i + 1).is_some_and(char::is_ascii_lowercase));
        if word_begins {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Recipe;

    #[test]
    fn classes_with_and_without_their_modules_are_recipes_and_steps_that_exist() {
        for (name, meant) in [
            ("Stage1Pipeline", "stage1"),
            ("liger_iris_pipeline.pipeline.ImagerStage2Pipeline", "imager"),
            ("iris_pipeline.pipeline.ProcessFlatfieldL2", "flat"),
            ("iris_pipeline.flatfield.FlatFieldStep", "flat_field"),
            ("jwst.assign_wcs.AssignWcsStep", "assign_wcs"),
            ("AssignWCSStep", "assign_wcs"),
            ("DQInitStep", "dq_init"),
            ("DarkSubtractionStep", "dark_sub"),
            ("FitRampStep", "ramp_fit"),
            ("NonlinearCorrectionStep", "linearity"),
            ("CalculateBackgroundImagerStep", "background"),
        ] {
            assert_eq!(class(name), Some(meant), "{name}");
        }
        for name in ["imager", "flat_field", "Step", "a.b.PhotomStep", "x.NoPipeline", ""] {
            assert_eq!(class(name), None, "{name}");
        }
        assert!(PIPELINES.iter().all(|(_, recipe)| Recipe::built_in(recipe).is_ok()));
        assert!(STEPS.iter().all(|(_, step)| Step::with_defaults(step).is_some()));
    }

    #[test]
    fn steps_go_by_their_aliases_and_parameters_too() {
        assert_eq!(step("bkg_subtract"), Some(Meant::Step("background")));
        assert_eq!(step("flat-field"), Some(Meant::Step("flat_field")));
        assert_eq!(step("photom"), Some(Meant::Absent));
        assert_eq!(step("foo"), None);
        let meant = |step, name, value| {
            let all = parameters(step, name, value);
            all.into_iter().map(|(s, n, v)| format!("{s}.{n}={v}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(meant("ramp_fit", "mode", "UTR"), "ramp_fit.algorithm=ols");
        assert_eq!(meant("ramp_fit", "method", "mcds"), "ramp_fit.algorithm=mcds");
        assert_eq!(meant("jump", "method", "two_point"), "jump.method=two_point");
        assert!(meant("background", "sigma", "3").ends_with("combine_frames.sigma_thresh_high=3"));
        assert_eq!(reference_parameter("flat_field", "flat"), Some("flat"));
    }
}
