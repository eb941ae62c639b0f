//! The engine that the command line asked for.

use crate::engine;
use crate::error::Result;
use crate::night::Executor;
use crate::pipeline::{Done, Job, Pipeline};

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

/// Opens the engine; fails with `NoDevice` where none fits.
pub(super) fn executor(options: &EngineOptions) -> Result<Box<dyn Executor>> {
    if let Some(n) = options.threads {
        // A pool that exists already (a second run in one process) is kept.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    let engine = engine::select(options.device.as_deref(), options.memory)?;
    Ok(Box::new(Local(Pipeline::new(engine))))
}

/// The pipeline on an engine of this machine.
struct Local(Pipeline);

impl Executor for Local {
    fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        self.0.execute(job, progress)
    }

    fn name(&self) -> String {
        self.0.device().name.clone()
    }
}
