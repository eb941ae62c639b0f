//! The command line: what was typed, what it means, and what is printed.
//!
//! [`main`] is the whole program but for the conversion of its answer into an
//! exit code. Results go to stdout, progress and messages to stderr; a reader of
//! stdout that goes away is no error.

mod args;
mod bench;
mod config;
mod demo;
mod devices;
mod emit;
mod engine;
mod exit;
mod families;
mod interrupt;
mod log;
mod meta;
mod options;
mod plan;
mod print;
mod progress;
mod quicklook;
mod readout;
mod rectmat;
mod reduce;
mod refs;
mod report;
mod run;
mod scores;
mod simulate;
mod status;
mod summary;
mod watch;

use std::ffi::OsString;

use clap::Parser;

pub use engine::EngineOptions;
pub use exit::Exit;

use crate::error::Result;
use args::{Cli, Verb};

/// Runs what was typed (`args` with the program's name first). Errors have been
/// neither printed nor turned into an exit code: see [`Exit::of`].
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<Exit> {
    let (args, families) = families::split(args)?;
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Help and version come as errors, too; clap knows which stream is theirs.
        Err(e) => {
            let _ = e.print();
            return Ok(if e.use_stderr() { Exit::Usage } else { Exit::Done });
        }
    };
    match cli.verb {
        Verb::Reduce(a) => reduce::reduce(&a, &families),
        Verb::Watch(a) => watch::watch(&a, &families),
        Verb::Run(a) => run::run(&a, &families),
        Verb::Readout(a) => readout::readout(a, families),
        Verb::Plan(a) => plan::plan(&a, &families),
        Verb::Quicklook(a) => quicklook::quicklook(&a),
        Verb::Report(a) => report::report(&a),
        Verb::Status(a) => status::status(&a),
        Verb::Emit(a) => emit::emit(&a),
        Verb::Refs(a) => refs::refs(&a, &families),
        Verb::Meta(a) => meta::meta(&a),
        Verb::Rectmat(a) => rectmat::rectmat(&a),
        Verb::Config(a) => config::config(&a, &families),
        Verb::Demo(a) => demo::demo(&a),
        Verb::Simulate(a) => simulate::simulate(&a),
        Verb::Devices(a) => devices::devices(&a),
        Verb::Bench(a) => bench::bench(&a),
    }
}
