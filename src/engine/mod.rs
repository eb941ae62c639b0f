//! Buffers and dispatches on a device: the CPU (rayon) or a GPU (wgpu).
//!
//! An engine owns buffers of 32-bit words behind handles and executes
//! [`Recording`]s of [`Dispatch`]es in order. It knows no astronomy: all meaning
//! is in the kernels and their parameters. Dispatches may still be running when
//! [`Engine::submit`] returns; reading a buffer waits for them.

mod allotted;
mod cpu;
mod faulty;
mod gpu;
mod select;
mod self_test;
mod shelf;
#[doc(hidden)]
pub mod testing;

pub use cpu::CpuEngine;
pub use gpu::GpuEngine;
pub use select::{Listed, choose, devices, each, last_resort, promised, require, select};
pub use self_test::self_test;
pub use shelf::Shelf;

use crate::error::{Error, Result};
use crate::kernels::Kernel;

/// A buffer of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer {
    id: usize,
    words: usize,
}

impl Buffer {
    /// Length in 32-bit words.
    pub fn words(&self) -> usize {
        self.words
    }
}

/// One kernel on some buffers.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its buffers, in the order of [`Kernel::access`]; none twice where one is written.
    pub buffers: Vec<Buffer>,
    /// Number of items.
    pub items: usize,
    /// The parameter block, laid out as [`Kernel::params`].
    pub params: Vec<u32>,
    /// The values of [`Kernel::constants`].
    pub constants: Vec<(&'static str, u32)>,
}

/// Dispatches in order.
pub type Recording = Vec<Dispatch>;

/// What sort of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A hardware GPU.
    Gpu,
    /// A graphics driver in software (llvmpipe, SwiftShader).
    Software,
    /// This process's own threads.
    Cpu,
}

/// A device and its limits.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// `cpu`, `vulkan`, `metal`, `dx12`, `gl`.
    pub backend: String,
    /// What sort it is.
    pub kind: DeviceKind,
    /// Largest buffer that a kernel can be given, bytes.
    pub max_binding: u64,
    /// Bytes that buffers should not exceed together.
    pub memory: u64,
    /// Bytes of one buffer from which more at once gain nothing: what stays in a
    /// cache, or what hides the cost of a dispatch.
    pub enough: u64,
    /// Bytes of buffers that may stay from task to task. None on the CPU: files that are read
    /// again come out of the page cache, at the cost of a copy, and memory stays free.
    pub keeps: u64,
}

/// A device that runs kernels.
pub trait Engine: Send {
    /// Its name and limits.
    fn device(&self) -> &DeviceInfo;

    /// A new buffer, contents zero.
    fn allocate(&mut self, words: usize) -> Result<Buffer>;

    /// Gives a buffer back.
    fn free(&mut self, buffer: Buffer);

    /// What it keeps from task to task.
    fn shelf(&mut self) -> &mut Shelf;

    /// Overwrites the first `bytes` bytes of `buffer` (a multiple of 4): `fill` is
    /// handed memory on its way to the device (contents undefined) to write into,
    /// so that files are read without a further copy.
    fn upload_with(
        &mut self,
        buffer: Buffer,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()>;

    /// Runs the dispatches in order, after everything submitted before.
    fn submit(&mut self, recording: &Recording) -> Result<()>;

    /// Waits for the buffer and shows its words to `look`.
    fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()>;
}

/// Convenience on top of the trait's few methods.
impl dyn Engine + '_ {
    /// Overwrites the start of `buffer`.
    pub fn upload(&mut self, buffer: Buffer, words: &[u32]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        self.upload_with(buffer, bytes.len(), &mut |to| {
            to.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// A new buffer holding `words` (one word of zero for an empty slice).
    pub fn buffer_of(&mut self, words: &[u32]) -> Result<Buffer> {
        let buffer = self.allocate(words.len().max(1))?;
        if !words.is_empty() {
            self.upload(buffer, words)?;
        }
        Ok(buffer)
    }

    /// A new buffer holding f32 values.
    pub fn buffer_of_f32(&mut self, values: &[f32]) -> Result<Buffer> {
        self.buffer_of(bytemuck::cast_slice(values))
    }

    /// The words of `buffer`.
    pub fn download(&mut self, buffer: Buffer) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        self.download_with(buffer, &mut |w| out = w.to_vec())?;
        Ok(out)
    }

    /// The f32 values of `buffer`.
    pub fn download_f32(&mut self, buffer: Buffer) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        self.download_with(buffer, &mut |w| out = bytemuck::cast_slice(w).to_vec())?;
        Ok(out)
    }
}

/// Refuses a dispatch whose buffers do not fit its kernel.
fn check(dispatch: &Dispatch, device: &DeviceInfo) -> Result<()> {
    let fail = |message: String| {
        Err(Error::Device {
            device: device.name.clone(),
            message: format!("{}: {message}", dispatch.kernel.stem),
        })
    };
    if dispatch.buffers.len() != dispatch.kernel.access.len() {
        return fail(format!(
            "takes {} buffers, was given {}",
            dispatch.kernel.access.len(),
            dispatch.buffers.len()
        ));
    }
    if dispatch.params.len() * 4 != dispatch.kernel.params.size {
        return fail(format!(
            "takes {} bytes of parameters, was given {}",
            dispatch.kernel.params.size,
            dispatch.params.len() * 4
        ));
    }
    if !dispatch.kernel.constants.iter().map(|c| c.0).eq(dispatch.constants.iter().map(|c| c.0)) {
        return fail(format!("needs the constants {:?}", dispatch.kernel.constants));
    }
    for (i, a) in dispatch.buffers.iter().enumerate() {
        let written = |j: usize| dispatch.kernel.access[j] == crate::kernels::Access::Write;
        if dispatch
            .buffers
            .iter()
            .enumerate()
            .any(|(j, b)| j != i && b.id == a.id && (written(i) || written(j)))
        {
            return fail(format!("buffer {i} is bound twice, once for writing"));
        }
        if a.words as u64 * 4 > device.max_binding {
            return fail(format!(
                "buffer {i} has {} bytes, more than the device binds ({})",
                a.words * 4,
                device.max_binding
            ));
        }
    }
    Ok(())
}
