//! The engine that the command line asked for.

use crate::error::{Error, Result};
use crate::night::Executor;

/// What computes, as asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineOptions {
    /// `--device`.
    pub device: Option<String>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--memory`, bytes.
    pub memory: Option<u64>,
}

/// Opens the engine; fails with [`Error::NoDevice`] where none fits.
pub(super) fn executor(options: &EngineOptions) -> Result<Box<dyn Executor>> {
    if let Some(n) = options.threads {
        // A pool that exists already (a second run in one process) is kept.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    Err(Error::NoDevice("this build has no engine yet".into()))
}
