//! `emit`: a plan's file as a scheduler's.

use super::args::{Emit, Scheduler};
use super::exit::Exit;
use super::print;
use crate::emit::{Options, slurm, snakemake};
use crate::error::{Error, Result};
use crate::night;
use crate::paths::absolute;

/// Runs `emit`.
pub(super) fn emit(args: &Emit) -> Result<Exit> {
    let lines = night::read_lines(&args.plan)?;
    let program = match &args.program {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|e| {
            Error::Usage(format!("where this program lies is not known ({e}): give --program"))
        })?,
    };
    let options = Options {
        plan: absolute(&args.plan)?,
        program,
        gpus: args.gpus,
        cpus: args.cpus,
        at_once: args.at_once,
    };
    let text = match args.scheduler {
        Scheduler::Slurm => slurm(&lines, &options)?,
        Scheduler::Snakemake => snakemake(&options)?,
    };
    print::out(&text)?;
    Ok(Exit::Done)
}
