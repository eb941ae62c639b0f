//! The program: see [`irisgpu::cli`].

#[cfg(target_os = "linux")]
mod huge_pages;

use std::io::Write;
use std::process::ExitCode;

use irisgpu::cli::{self, Exit};

#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: huge_pages::HugePages = huge_pages::HugePages;

fn main() -> ExitCode {
    give_mesa_a_runtime_folder();
    match cli::main(std::env::args_os()) {
        Ok(exit) => exit.into(),
        Err(e) => {
            let exit = Exit::of(&e);
            let _ = writeln!(std::io::stderr(), "irisgpu: {:#}", anyhow::Error::from(e));
            exit.into()
        }
    }
}

/// Mesa's Vulkan drivers complain on stderr where XDG_RUNTIME_DIR is not set, as on
/// machines without a desktop; any folder contents them.
fn give_mesa_a_runtime_folder() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: nothing else runs yet: this is the first statement of the program, and
        // no thread that could read the environment has been started.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}
