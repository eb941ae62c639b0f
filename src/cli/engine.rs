//! The engine that the command line asked for.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::log::Log;
use super::{args::Level, print};
use crate::engine;
use crate::error::{Error, Result};
use crate::night::Executor;
use crate::pipeline::{Done, Job, Pipeline};

/// What computes, as asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineOptions {
    /// `--device`.
    pub device: Option<String>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--memory`, bytes, of all tasks together.
    pub memory: Option<u64>,
    /// `--at-once`.
    pub at_once: Option<usize>,
}

/// Who does tasks: as many at a time as it has members, each on an engine of its own.
pub(super) struct Crew(Vec<Box<dyn Executor>>);

/// Says, and writes down, that a batch system's GPU is nowhere to be seen.
pub(super) fn warn_of_no_gpu(options: &EngineOptions, log: &Log) {
    if let Some(warning) = engine::promised(options.device.as_deref()) {
        print::note(&format!("warning: {warning}"));
        log.event(Level::Warn, "", &warning);
    }
}

impl Crew {
    /// For as many of `tasks` tasks at a time as was asked for; fails with `NoDevice` where
    /// no device fits.
    pub(super) fn new(options: &EngineOptions, tasks: usize) -> Result<Crew> {
        if let Some(n) = options.threads {
            // A pool that exists already (a second run in one process) is kept.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
        }
        let devices = engine::each(options.device.as_deref());
        let n = options.at_once.unwrap_or(AT_ONCE * devices.len()).min(tasks).max(1);
        let memory = options.memory.map(|bytes| (bytes / n as u64).max(1));
        let member = |device: &Option<String>| -> Result<Box<dyn Executor>> {
            let options = EngineOptions { device: device.clone(), memory, ..options.clone() };
            let pipeline = open(&options)?;
            let name = pipeline.device().name.clone();
            Ok(Box::new(Local { options, pipeline: Some(pipeline), name, fallen: 0 }))
        };
        devices.iter().cycle().take(n).map(member).collect::<Result<_>>().map(Crew)
    }

    /// For a plan in which nothing is to be computed.
    pub(super) fn nobody() -> Crew {
        Crew(vec![Box::new(Nobody)])
    }

    /// All of it.
    pub(super) fn all(&mut self) -> Vec<&mut dyn Executor> {
        self.0.iter_mut().map(|member| &mut **member as &mut dyn Executor).collect()
    }

    /// One of it.
    pub(super) fn one(&mut self) -> Vec<&mut dyn Executor> {
        self.0.iter_mut().take(1).map(|member| &mut **member as &mut dyn Executor).collect()
    }

    /// Its last member, where it is not the only one, until it is taken back.
    pub(super) fn lend(&mut self) -> Option<Box<dyn Executor>> {
        if self.size() > 1 { self.0.pop() } else { None }
    }

    /// A member that was lent; none where it was lost.
    pub(super) fn take_back(&mut self, member: Option<Box<dyn Executor>>) {
        self.0.extend(member);
    }

    /// Tasks at a time.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    /// Engines and devices.
    pub(super) fn name(&self) -> String {
        let names: BTreeSet<String> = self.0.iter().map(|member| member.name()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Whether what computes does so as it should.
    pub(super) fn self_test(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|member| member.self_test())
    }
}

/// Does nothing.
struct Nobody;

impl Executor for Nobody {
    fn execute(&mut self, _: &Job, _: &dyn Fn(f64)) -> Result<Done> {
        Err(Error::NoDevice("no engine was opened".into()))
    }

    fn name(&self) -> String {
        String::new()
    }
}

fn open(options: &EngineOptions) -> Result<Pipeline> {
    Ok(Pipeline::new(engine::select(options.device.as_deref(), options.memory)?))
}

/// Tasks at a time, a device: while one reads or writes, the other computes.
const AT_ONCE: usize = 2;

/// Exposures in a row that fell back to the CPU, after which a device is left alone.
const ENOUGH: u32 = 3;

/// The pipeline on an engine of this machine. A device that fails (lost, out of memory)
/// is opened once more for the exposure in hand; where it fails again, that exposure is
/// computed on the CPU, which its warnings and its HISTORY say, and the next one tries
/// the device again. A device that was asked for by name is no exception: it is required
/// when a night begins, and a night is worth more than the device.
struct Local {
    options: EngineOptions,
    /// `None` after a panic or a failure: opened again for the next job.
    pipeline: Option<Pipeline>,
    name: String,
    fallen: u32,
}

impl Local {
    fn attempt(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let mut pipeline = match self.pipeline.take() {
            Some(pipeline) => pipeline,
            None => open(&self.options)?,
        };
        self.name.clone_from(&pipeline.device().name);
        match catch_unwind(AssertUnwindSafe(|| pipeline.execute(job, progress))) {
            // What state it is in nobody knows.
            Err(panic) => resume_unwind(panic),
            Ok(Err(e)) if is_of_device(&e) => Err(e),
            Ok(result) => {
                self.pipeline = Some(pipeline);
                result
            }
        }
    }
}

/// Whether it is the device that failed, and not the exposure.
fn is_of_device(e: &Error) -> bool {
    matches!(e, Error::Device { .. } | Error::NoDevice(_))
}

impl Executor for Local {
    fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        let first = match self.attempt(job, progress) {
            Err(e) if is_of_device(&e) => e,
            result => {
                self.fallen = 0;
                return result;
            }
        };
        let mut job = job.clone();
        let again = format!("{first}; it was opened again");
        job.troubles = vec![again.clone()];
        let second = match self.attempt(&job, progress) {
            Err(e) if is_of_device(&e) => e,
            result => return result.map(|done| with(done, again)),
        };
        let warning = format!("{second}, twice: this exposure was computed on the CPU");
        job.troubles = vec![warning.clone()];
        let device = self.options.device.replace("cpu".into());
        self.pipeline = Some(Pipeline::new(engine::last_resort(self.options.memory)));
        let result = self.attempt(&job, progress);
        self.fallen += 1;
        if self.fallen < ENOUGH {
            self.options.device = device;
            self.pipeline = None;
        }
        result.map(|done| with(done, warning))
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn self_test(&mut self) -> Result<()> {
        self.pipeline.as_mut().map_or(Ok(()), Pipeline::self_test)
    }
}

fn with(mut done: Done, warning: String) -> Done {
    if !done.warnings.contains(&warning) {
        done.warnings.push(warning);
    }
    done
}
