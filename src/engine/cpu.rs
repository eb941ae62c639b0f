//! The CPU engine: buffers in memory, kernels on the current rayon pool.

use super::{Buffer, DeviceInfo, DeviceKind, Engine, Recording, Shelf, check};
use crate::error::Result;
use crate::kernels::{Access, Args, Bound};
use crate::profile::{self, Work};
use crate::words::counted;

/// Kernels on this process's threads; dispatches finish before `submit` returns.
#[derive(Debug)]
pub struct CpuEngine {
    info: DeviceInfo,
    buffers: Vec<Option<Vec<u32>>>,
    shelf: Shelf,
}

impl CpuEngine {
    /// An engine that should keep its buffers under `memory` bytes.
    pub fn new(memory: u64) -> CpuEngine {
        let info = DeviceInfo {
            name: format!("CPU ({})", counted(rayon::current_num_threads(), "thread")),
            backend: "cpu".into(),
            kind: DeviceKind::Cpu,
            max_binding: u64::MAX,
            memory,
            enough: 8 << 20,
            keeps: 0,
        };
        CpuEngine { info, buffers: Vec::new(), shelf: Shelf::default() }
    }

    /// The same, keeping so many bytes from task to task.
    #[cfg(test)]
    pub(super) fn keeping(mut self, bytes: u64) -> CpuEngine {
        self.info.keeps = bytes;
        self
    }

    fn words(&mut self, buffer: Buffer) -> &mut Vec<u32> {
        self.buffers[buffer.id].get_or_insert_default()
    }
}

impl Engine for CpuEngine {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&mut self, words: usize) -> Result<Buffer> {
        let id = self.buffers.iter().position(Option::is_none).unwrap_or(self.buffers.len());
        if id == self.buffers.len() {
            self.buffers.push(None);
        }
        self.buffers[id] = Some(vec![0; words]);
        Ok(Buffer { id, words })
    }

    fn free(&mut self, buffer: Buffer) {
        self.buffers[buffer.id] = None;
    }

    fn shelf(&mut self) -> &mut Shelf {
        &mut self.shelf
    }

    fn upload_with(
        &mut self,
        buffer: Buffer,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let words: &mut [u8] = bytemuck::cast_slice_mut(self.words(buffer));
        fill(&mut words[..bytes])
    }

    fn submit(&mut self, recording: &Recording) -> Result<()> {
        for dispatch in recording {
            check(dispatch, &self.info)?;
            let access = dispatch.kernel.access;
            // Written buffers leave the store while the kernel runs; `check` has
            // seen to it that each is bound once.
            let mut taken: Vec<Vec<u32>> = Vec::new();
            for (buffer, access) in dispatch.buffers.iter().zip(access) {
                if *access == Access::Write {
                    taken.push(self.buffers[buffer.id].take().unwrap_or_default());
                }
            }
            let mut written = taken.iter_mut();
            let buffers = dispatch.buffers.iter().zip(access).map(|(buffer, access)| match access {
                Access::Read => Bound::Read(self.buffers[buffer.id].as_deref().unwrap_or_default()),
                Access::Write => Bound::Write(written.next().map(Vec::as_mut_slice).unwrap_or_default()),
            });
            let mut args =
                Args { items: dispatch.items, params: &dispatch.params, buffers: buffers.collect() };
            let span = profile::span(Work::Compute, dispatch.kernel.stem);
            (dispatch.kernel.cpu)(&mut args);
            drop(span);
            let mut taken = taken.into_iter();
            for (buffer, access) in dispatch.buffers.iter().zip(access) {
                if *access == Access::Write {
                    self.buffers[buffer.id] = taken.next();
                }
            }
        }
        Ok(())
    }

    fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()> {
        look(self.words(buffer));
        Ok(())
    }
}
