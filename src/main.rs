//! The program: see [`irisgpu::cli`].

use std::io::Write;
use std::process::ExitCode;

use irisgpu::cli::{self, Exit};

fn main() -> ExitCode {
    match cli::main(std::env::args_os()) {
        Ok(exit) => exit.into(),
        Err(e) => {
            let exit = Exit::of(&e);
            let _ = writeln!(std::io::stderr(), "irisgpu: {:#}", anyhow::Error::from(e));
            exit.into()
        }
    }
}
