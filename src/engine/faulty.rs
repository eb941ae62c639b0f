//! Devices that fail on request, to try what becomes of a night then.
//!
//! `IRISGPU_FAULT=device-lost@3` makes the third [`Engine::submit`] of the process fail
//! as that of a lost device does, whatever the device; `device-lost@3,4` the next one,
//! too. The engine that takes over in the end ([`super::last_resort`]) is none of this kind,
//! and without the variable there is no such engine.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Buffer, DeviceInfo, Engine, Recording, Shelf};
use crate::error::{Error, Result};

/// The variable.
const VARIABLE: &str = "IRISGPU_FAULT";

/// Submits of this process so far: a device that is opened again goes on counting.
static SUBMITS: AtomicU64 = AtomicU64::new(0);

struct Faulty {
    engine: Box<dyn Engine>,
    at: Vec<u64>,
}

/// The engine, or one that fails as the environment says.
pub(super) fn as_asked(engine: Box<dyn Engine>) -> Result<Box<dyn Engine>> {
    let Some(said) = std::env::var(VARIABLE).ok().filter(|s| !s.is_empty()) else { return Ok(engine) };
    let numbers = said.strip_prefix("device-lost@").map(|list| list.split(',').map(str::parse).collect());
    match numbers {
        Some(Ok(at)) => Ok(Box::new(Faulty { engine, at })),
        _ => Err(Error::Usage(format!("{VARIABLE}={said}: give device-lost@N or device-lost@N,M"))),
    }
}

impl Engine for Faulty {
    fn device(&self) -> &DeviceInfo {
        self.engine.device()
    }

    fn allocate(&mut self, words: usize) -> Result<Buffer> {
        self.engine.allocate(words)
    }

    fn free(&mut self, buffer: Buffer) {
        self.engine.free(buffer);
    }

    fn shelf(&mut self) -> &mut Shelf {
        self.engine.shelf()
    }

    fn upload_with(
        &mut self,
        buffer: Buffer,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        self.engine.upload_with(buffer, bytes, fill)
    }

    fn submit(&mut self, recording: &Recording) -> Result<()> {
        let n = SUBMITS.fetch_add(1, Ordering::Relaxed) + 1;
        if self.at.contains(&n) {
            let message = format!("was lost while running kernels ({VARIABLE})");
            return Err(Error::Device { device: self.device().name.clone(), message });
        }
        self.engine.submit(recording)
    }

    fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()> {
        self.engine.download_with(buffer, look)
    }
}
