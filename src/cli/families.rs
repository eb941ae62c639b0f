//! Options with names that are data: `--override_<reftype>=FILE` and
//! `--steps.<step>.<parameter>=VALUE`. They are taken out before clap sees the
//! arguments. `_` and `-` are the same in the names of all long options.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::Overrides;
use crate::error::{Error, Result};

/// What was given in these families.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Families {
    /// Reference type and file, in the order given.
    pub(super) references: Vec<(String, PathBuf)>,
    /// Step → parameter → value.
    pub(super) steps: Overrides,
}

/// Takes the families out of `args`; the rest, with long names in their `-` form,
/// is for clap. Nothing after `--` is touched.
pub(super) fn split(args: impl IntoIterator<Item = OsString>) -> Result<(Vec<OsString>, Families)> {
    let mut rest = Vec::new();
    let mut families = Families::default();
    let mut args = args.into_iter();
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
        let kebab = name.replace('_', "-");
        if let Some(reftype) = kebab.strip_prefix("override-") {
            let file = value_of(name, value, &mut args)?;
            families.references.push((reftype.to_owned(), PathBuf::from(file)));
        } else if let Some(path) = name.strip_prefix("steps.") {
            let (step, parameter) = path.split_once('.').ok_or_else(|| {
                Error::Usage(format!("--{name}: say which parameter, as in --steps.{path}.skip=true"))
            })?;
            let value = value_of(name, value, &mut args)?;
            let value =
                value.into_string().map_err(|_| Error::Usage(format!("--{name}: the value is not text")))?;
            let step = families.steps.entry(step.replace('-', "_")).or_default();
            step.insert(parameter.replace('-', "_"), value);
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
    fn what_is_left_out_is_a_sentence() {
        for args in [["x", "--steps.jump"], ["x", "--override_dark"], ["x", "--steps.jump.skip="]] {
            assert!(split(args.iter().map(OsString::from)).is_err(), "{args:?}");
        }
    }
}
