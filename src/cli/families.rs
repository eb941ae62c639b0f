//! Options with names that are data: `--override_<reftype>=FILE`,
//! `--steps.<step>.<parameter>=VALUE` and, where `run` is of one step, that step's
//! `--<parameter>=VALUE`. They are taken out before clap sees the arguments. `_` and
//! `-` are the same in the names of all long options.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{Overrides, Step};
use crate::error::{Error, Result};
use crate::night;
use crate::refs::canonical_reftype;
use crate::stpipe::names::{self, Meant};

/// What was given in these families.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Families {
    /// Reference type and file, in the order given.
    pub(super) references: Vec<(String, PathBuf)>,
    /// Step → parameter → value.
    pub(super) steps: Overrides,
    /// Parameters without a step's name: `run` gives them to the step that it is of.
    pub(super) own: Vec<(String, String)>,
    /// Steps after which a product is to be written.
    pub(super) save: BTreeSet<String>,
    /// What was understood and has no meaning here, as sentences.
    pub(super) notes: Vec<String>,
}

impl Families {
    /// The first of these options, as its like is written.
    pub(super) fn first(&self) -> Option<&'static str> {
        let reference = (!self.references.is_empty()).then_some("--override_TYPE");
        let step = (!self.steps.is_empty() || !self.save.is_empty()).then_some("--steps.STEP.PARAMETER");
        reference.or(step)
    }

    /// A parameter of a step, each under any name that people use for it.
    pub(super) fn set(&mut self, step: &str, parameter: &str, value: &str) -> Result<()> {
        let option = || format!("--steps.{step}.{parameter}");
        let own = match names::step(step) {
            Some(Meant::Step(own)) => own.to_owned(),
            Some(Meant::Absent) => {
                if parameter != "skip" || !yes(value, &option())? {
                    self.notes.push(format!("{}: irisgpu has no step {step}: it is left out", option()));
                }
                return Ok(());
            }
            // The recipe lists the steps that there are.
            None => {
                let step = step.replace('-', "_");
                self.steps.entry(step).or_default().insert(parameter.to_owned(), value.to_owned());
                return Ok(());
            }
        };
        if let Some(reftype) = parameter.strip_prefix("override_") {
            return self.reference(reftype, PathBuf::from(value));
        }
        if let Some(reftype) = names::reference_parameter(&own, parameter) {
            return self.reference(reftype, PathBuf::from(value));
        }
        if parameter == "save_results" {
            match yes(value, &option())? {
                true => self.save.insert(own),
                false => self.save.remove(&own),
            };
            return Ok(());
        }
        if names::is_idle(parameter) {
            return Ok(());
        }
        if names::is_elsewhere(&own, parameter) {
            self.notes.push(format!("{}: irisgpu's {own} has nothing of the kind: it is ignored", option()));
            return Ok(());
        }
        if parameter == "skip" {
            let skip = yes(value, &option())?.to_string();
            self.steps.entry(own).or_default().insert("skip".into(), skip);
            return Ok(());
        }
        for (step, name, value) in names::parameters(&own, parameter, value) {
            self.steps.entry(step).or_default().insert(name, value);
        }
        Ok(())
    }

    /// A reference given by hand; `N/A` for none, which leaves out what needs it.
    pub(super) fn reference(&mut self, reftype: &str, file: PathBuf) -> Result<()> {
        // stpipe's default.
        if file.as_os_str() == "None" {
            return Ok(());
        }
        if !file.as_os_str().eq_ignore_ascii_case("N/A") {
            self.references.push((reftype.to_owned(), file));
            return Ok(());
        }
        let wanted = canonical_reftype(reftype).unwrap_or(reftype);
        let idle = night::steps_that_need(wanted);
        if idle.is_empty() {
            return Err(Error::Usage(format!("--override_{reftype}=N/A: no step can be left out for it")));
        }
        for step in idle {
            self.steps.entry(step.to_owned()).or_default().insert("skip".into(), "true".into());
        }
        Ok(())
    }

    /// Lays what the command line says over what a file said.
    pub(super) fn over(mut self, file: Families) -> Families {
        let mut under = file;
        for (step, parameters) in std::mem::take(&mut self.steps) {
            under.steps.entry(step).or_default().extend(parameters);
        }
        let given = |reftype: &str| {
            self.references.iter().any(|(r, _)| canonical_reftype(r) == canonical_reftype(reftype))
        };
        under.references.retain(|(reftype, _)| !given(reftype));
        under.references.append(&mut self.references);
        under.own.append(&mut self.own);
        under.save.append(&mut self.save);
        under.notes.append(&mut self.notes);
        under
    }
}

/// A logical value as Python and YAML write it.
pub(super) fn yes(value: &str, option: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "off" | "0" => Ok(false),
        _ => Err(Error::Usage(format!("{option}={value}: it must be true or false"))),
    }
}

/// Whether some step has a parameter of this name.
fn is_parameter(name: &str) -> bool {
    name == "skip"
        || names::gives_reference(name)
        || Step::NAMES
            .iter()
            .filter_map(|n| Step::with_defaults(n))
            .any(|s| s.parameters().iter().any(|p| p.name == name))
}

/// Takes the families out of `args`; the rest, with long names in their `-` form,
/// is for clap. Nothing after `--` is touched.
pub(super) fn split(args: impl IntoIterator<Item = OsString>) -> Result<(Vec<OsString>, Families)> {
    let mut rest: Vec<OsString> = Vec::new();
    let mut families = Families::default();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args);
            break;
        }
        // A name must be text; a value (a path) need not be.
        let text = arg.to_string_lossy();
        let Some(long) = text.strip_prefix("--") else {
            rest.push(arg);
            continue;
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let (kebab, snake) = (name.replace('_', "-"), name.replace('-', "_"));
        let of_run = rest.get(1).is_some_and(|verb| verb == "run");
        if of_run && names::is_idle_option(&snake) {
            // Those that are no flags have their value behind them.
            if value.is_none() && !names::is_idle_flag(&snake) {
                args.next();
            }
            continue;
        }
        if let Some(reftype) = kebab.strip_prefix("override-") {
            let file = value_of(name, value, &mut args)?;
            families.reference(reftype, PathBuf::from(file))?;
        } else if let Some(path) = name.strip_prefix("steps.") {
            let (step, parameter) = path.split_once('.').ok_or_else(|| {
                Error::Usage(format!("--{name}: say which parameter, as in --steps.{path}.skip=true"))
            })?;
            let value = text_of(name, value_of(name, value, &mut args)?)?;
            families.set(step, &parameter.replace('-', "_"), &value)?;
        } else if of_run && (is_parameter(&snake) || names::saved(&snake).is_some()) {
            // A flag like --skip may stand alone.
            let alone = value.is_none()
                && args.peek().is_none_or(|next| {
                    let flag = kebab == "skip" || names::saved(&snake).is_some();
                    next.to_str().is_none_or(|n| n.starts_with('-') || flag && yes(n, "").is_err())
                });
            let value = match alone {
                true => "true".to_owned(),
                false => text_of(name, value_of(name, value, &mut args)?)?,
            };
            match names::saved(&snake) {
                Some(step) => families.set(step, "save_results", &value)?,
                None => families.own.push((snake, value)),
            }
        } else {
            match (value, arg.to_str()) {
                (None, _) => rest.push(OsString::from(format!("--{kebab}"))),
                (Some(value), Some(_)) => rest.push(OsString::from(format!("--{kebab}={value}"))),
                (Some(_), None) => rest.push(arg.clone()),
            }
        }
    }
    Ok((rest, families))
}

fn text_of(name: &str, value: OsString) -> Result<String> {
    value.into_string().map_err(|_| Error::Usage(format!("--{name}: the value is not text")))
}

fn value_of(name: &str, value: Option<&str>, args: &mut impl Iterator<Item = OsString>) -> Result<OsString> {
    let value = value.map(OsString::from).or_else(|| args.next());
    value
        .filter(|v| !v.is_empty())
        .ok_or_else(|| Error::Usage(format!("--{name} needs a value: --{name}=VALUE")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> (Vec<String>, Families) {
        let (rest, families) = split(args.iter().map(OsString::from)).expect("split");
        (rest.into_iter().map(|a| a.into_string().expect("text")).collect(), families)
    }

    #[test]
    fn families_are_taken_out_and_the_rest_is_left() {
        let (rest, families) = of(&[
            "irisgpu",
            "reduce",
            "my_night",
            "--override_dark=d=1.fits",
            "--override-linearity",
            "n_1.fits",
            "--steps.ramp-fit.num-coadd=4",
            "--steps.jump.skip",
            "true",
            "--output_dir=a_b",
            "--dry_run",
            "--",
            "--override_x",
        ]);
        assert_eq!(
            rest,
            ["irisgpu", "reduce", "my_night", "--output-dir=a_b", "--dry-run", "--", "--override_x"]
        );
        assert_eq!(families.references[0], ("dark".into(), "d=1.fits".into()));
        assert_eq!(families.references[1], ("linearity".into(), "n_1.fits".into()));
        assert_eq!(families.steps["ramp_fit"]["num_coadd"], "4");
        assert_eq!(families.steps["jump"]["skip"], "true");
    }

    #[test]
    fn pipelines_own_parameters_save_steps() {
        let (rest, families) =
            of(&["x", "run", "imager", "--save_bsub", "a.fits", "--save-calibrated-ramp=no"]);
        assert_eq!(rest, ["x", "run", "imager", "a.fits"]);
        assert!(families.own.is_empty() && families.save.iter().eq(["background"]), "{families:?}");
    }

    #[test]
    fn what_is_left_out_is_a_sentence() {
        for args in [["x", "--steps.jump"], ["x", "--override_dark"], ["x", "--steps.jump.skip="]] {
            assert!(split(args.iter().map(OsString::from)).is_err(), "{args:?}");
        }
    }
}
