//! `simulate`: a night of raw frames with their truth.
//!
//! The note `irisgpu-night.json` in a folder says which night was simulated into it,
//! by which version, and whether that is complete. A folder that holds the same
//! night whole is left as it is, one that holds part of it is completed, and one
//! that holds anything else is refused: raw frames of two nights in one folder
//! would be reduced as one. Nothing is ever deleted.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::args::Simulate;
use super::exit::Exit;
use super::print;
use crate::error::{Error, Result};
use crate::simulate::{Exposure, NightConfig, exposures, night};

/// The note in a simulated night's folder.
const NOTE: &str = "irisgpu-night.json";

/// Runs `simulate`.
pub(super) fn simulate(args: &Simulate) -> Result<Exit> {
    let start = Instant::now();
    let config = NightConfig::from_file(&args.config)?;
    let made = into_folder(&config, &args.dir, Some(args.force), args.talk.quiet)?;
    if !args.json {
        print::out(&format!("{}\n", args.dir.display()))?;
        return Ok(Exit::Done);
    }
    let row = |e: &Exposure| json!({"file": e.file_name(&config), "obsname": e.obsname()});
    print::json(&json!({
        "night": args.dir.join("night"),
        "refs": args.dir.join("night/refs"),
        "truth": args.dir.join("truth"),
        "exposures": exposures(&config).iter().map(row).collect::<Vec<_>>(),
        "simulated": made,
        "seconds": start.elapsed().as_secs_f64(),
    }))?;
    Ok(Exit::Done)
}

/// Simulates a night into `dir`, unless it is there already; whether it had to.
/// `force`: into any folder, and again; `None` where the user cannot ask for that.
pub(super) fn into_folder(
    config: &NightConfig,
    dir: &Path,
    force: Option<bool>,
    quiet: bool,
) -> Result<bool> {
    let say = |line: &str| {
        if !quiet {
            print::note(line);
        }
    };
    let text = serde_json::to_string(config).map_err(|e| Error::Config(e.to_string()))?;
    let version = env!("CARGO_PKG_VERSION");
    let hash = blake3::hash(format!("{version} {text}").as_bytes()).to_hex().to_string();
    match found(dir, &hash, config)? {
        Found::Whole if force != Some(true) => {
            say(&format!("{}: this night is there already", dir.display()));
            return Ok(false);
        }
        Found::Else(what) if force != Some(true) => {
            let forced = force.map_or("", |_| {
                " (--force writes into it all the same, and leaves files of other names, which would be \
                 reduced with the new ones)"
            });
            let dir = dir.display();
            return Err(Error::Usage(format!("{dir} {what}: name another folder, or remove it{forced}")));
        }
        _ => {}
    }
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let note = dir.join(NOTE);
    let write = |complete: bool| {
        let text = json!({"night": hash, "complete": complete, "version": version});
        std::fs::write(&note, format!("{text:#}\n")).map_err(Error::io("write", &note))
    };
    write(false)?;
    night(config, dir, &say)?;
    write(true)?;
    Ok(true)
}

/// What a folder holds before a night is simulated into it.
enum Found {
    /// Nothing, or part of this night.
    Room,
    /// This night.
    Whole,
    /// Something else, in words.
    Else(&'static str),
}

fn found(dir: &Path, hash: &str, config: &NightConfig) -> Result<Found> {
    if dir.is_file() {
        return Err(Error::Usage(format!("{} is a file: name a folder for the night", dir.display())));
    }
    let Ok(said) = std::fs::read_to_string(dir.join(NOTE)) else {
        let empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        return Ok(if empty { Found::Room } else { Found::Else("is not empty, and not a simulated night") });
    };
    let said: Value = serde_json::from_str(&said).unwrap_or_default();
    if said["night"] != hash {
        return Ok(Found::Else("holds another night, or that of another version of irisgpu"));
    }
    let raw = dir.join("night");
    let all = exposures(config).iter().all(|e| raw.join(e.file_name(config)).is_file());
    Ok(if all && said["complete"] == true { Found::Whole } else { Found::Room })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = NightConfig { exposures: Vec::new(), ..NightConfig::default() };
        let go = |force: bool| into_folder(&config, dir.path(), Some(force), true);
        std::fs::write(dir.path().join("thesis.tex"), "x").expect("write");
        let sentence = go(false).expect_err("not ours").to_string();
        assert!(sentence.contains("not a simulated night") && sentence.contains("--force"), "{sentence}");
        std::fs::write(dir.path().join(NOTE), r#"{"night": "another", "complete": true}"#).expect("write");
        let sentence = go(false).expect_err("another's").to_string();
        assert!(sentence.contains("another night"), "{sentence}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 2);
        assert!(go(true).expect("forced"));
        assert!(!go(false).expect("the same night"));
        assert!(into_folder(&config, &dir.path().join("thesis.tex"), None, true).is_err());
    }
}
