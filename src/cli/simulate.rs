//! `simulate`: a night of raw frames with their truth.

use super::args::Simulate;
use super::exit::Exit;
use super::print;
use crate::error::Result;
use crate::simulate::{NightConfig, night};

/// Runs `simulate`.
pub(super) fn simulate(args: &Simulate) -> Result<Exit> {
    let config = NightConfig::from_file(&args.config)?;
    night(&config, &args.dir, &|line| {
        if !args.talk.quiet {
            print::note(line);
        }
    })?;
    print::out(&format!("{}\n", args.dir.display()))?;
    Ok(Exit::Done)
}
