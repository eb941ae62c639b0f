//! The GPU engine: WGSL through wgpu (Vulkan, Metal, DX12).
//!
//! Uploads fill mapped staging buffers that are reused once the device has copied
//! them; pipelines are built once per kernel and set of constants. Errors of the
//! driver arrive as sentences: every operation runs under wgpu's error scopes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::util::DeviceExt;

use super::{Buffer, DeviceInfo, DeviceKind, Dispatch, Engine, Recording, Shelf, check};
use crate::error::{Error, Result};
use crate::kernels::Access;
use crate::profile::{self, Work};

/// Invocations in a workgroup, and most workgroups along one dimension.
const WORKGROUP: usize = 64;
const MAX_GROUPS: usize = 65_535;
/// Staging buffers kept for reuse.
const STAGING: usize = 3;

/// Kernels on a wgpu device.
#[derive(Debug)]
pub struct GpuEngine {
    info: DeviceInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    buffers: Vec<Option<wgpu::Buffer>>,
    pipelines: HashMap<(&'static str, Vec<(&'static str, u32)>), Pipeline>,
    staging: Vec<Staging>,
    readback: Option<wgpu::Buffer>,
    lost: Arc<AtomicBool>,
    shelf: Shelf,
}

#[derive(Debug)]
struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

#[derive(Debug)]
struct Staging {
    buffer: wgpu::Buffer,
    /// Mapped again after its last copy.
    ready: Arc<AtomicBool>,
}

impl GpuEngine {
    /// Opens `adapter` with all the limits it has; buffers together should stay
    /// under `memory` bytes.
    pub fn new(adapter: &wgpu::Adapter, kind: DeviceKind, memory: u64) -> Result<GpuEngine> {
        let about = adapter.get_info();
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("irisgpu"),
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::NoDevice(format!("device '{}' cannot be opened: {e}", about.name)))?;
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        device.set_device_lost_callback(move |_, _| flag.store(true, Ordering::Relaxed));
        let info = DeviceInfo {
            name: about.name,
            backend: about.backend.to_string(),
            kind,
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            memory,
            enough: super::select::GPU_ENOUGH,
            keeps: memory / 2,
        };
        Ok(GpuEngine {
            info,
            device,
            queue,
            buffers: Vec::new(),
            pipelines: HashMap::new(),
            staging: Vec::new(),
            readback: None,
            lost,
            shelf: Shelf::default(),
        })
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::Device { device: self.info.name.clone(), message: message.into() }
    }

    /// Runs `work` and turns what the driver complains about into an error.
    fn scoped<T>(&mut self, doing: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let result = work(self);
        let complaints = [internal, validation, memory].map(|scope| pollster::block_on(scope.pop()));
        let result = result?;
        if self.lost.load(Ordering::Relaxed) {
            return Err(self.error(format!("was lost while {doing}; use --device cpu or run again")));
        }
        match complaints.into_iter().flatten().next() {
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(self.error(format!("is out of memory while {doing}; lower --memory or use --device cpu")))
            }
            Some(e) => Err(self.error(format!("refused {doing}: {e}"))),
            None => Ok(result),
        }
    }

    fn buffer(&self, buffer: Buffer) -> Result<&wgpu::Buffer> {
        self.buffers
            .get(buffer.id)
            .and_then(Option::as_ref)
            .ok_or_else(|| self.error("a buffer was used after it was freed"))
    }

    fn build(&mut self, dispatch: &Dispatch) -> Result<()> {
        let key = (dispatch.kernel.stem, dispatch.constants.clone());
        if self.pipelines.contains_key(&key) {
            return Ok(());
        }
        let _span = profile::span(Work::Compute, format!("building {}", dispatch.kernel.stem));
        let pipeline = self
            .scoped(&format!("building kernel {}", dispatch.kernel.stem), |gpu| Ok(gpu.pipeline(dispatch)))?;
        self.pipelines.insert(key, pipeline);
        Ok(())
    }

    fn pipeline(&self, dispatch: &Dispatch) -> Pipeline {
        let kernel = dispatch.kernel;
        let label = Some(kernel.stem);
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let mut entries: Vec<_> = (0..)
            .zip(kernel.access)
            .map(|(i, a)| entry(i, wgpu::BufferBindingType::Storage { read_only: *a == Access::Read }))
            .collect();
        entries.push(entry(entries.len() as u32, wgpu::BufferBindingType::Uniform));
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(kernel.source(&dispatch.constants).into()),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, dispatch: &Dispatch) -> Result<()> {
        let key = (dispatch.kernel.stem, dispatch.constants.clone());
        let Some(pipeline) = self.pipelines.get(&key) else {
            return Err(self.error(format!("kernel {} was not built", dispatch.kernel.stem)));
        };
        // Uniform structs are padded to 16 bytes.
        let mut params = dispatch.params.clone();
        params.resize(params.len().next_multiple_of(4).max(4), 0);
        let params = self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(&params),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let mut entries = Vec::new();
        for (binding, buffer) in (0..).zip(&dispatch.buffers) {
            let resource = self.buffer(*buffer)?.as_entire_binding();
            entries.push(wgpu::BindGroupEntry { binding, resource });
        }
        entries.push(wgpu::BindGroupEntry {
            binding: entries.len() as u32,
            resource: params.as_entire_binding(),
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(dispatch.kernel.stem),
            layout: &pipeline.layout,
            entries: &entries,
        });
        let groups = dispatch.items.div_ceil(WORKGROUP);
        let (x, y) =
            if groups <= MAX_GROUPS { (groups, 1) } else { (MAX_GROUPS, groups.div_ceil(MAX_GROUPS)) };
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(x as u32, y as u32, 1);
        Ok(())
    }

    /// A mapped staging buffer of at least `bytes`, reused where one is ready.
    fn staging(&mut self, bytes: u64) -> Result<Staging> {
        let fits = |s: &Staging| s.buffer.size() >= bytes && s.buffer.size() <= bytes.max(1 << 16) * 4;
        loop {
            let ready = |s: &Staging| s.ready.load(Ordering::Acquire) && fits(s);
            if let Some(i) = self.staging.iter().position(ready) {
                return Ok(self.staging.swap_remove(i));
            }
            let waiting = self.staging.iter().filter(|s| fits(s)).count();
            if waiting < STAGING {
                break;
            }
            self.wait()?;
        }
        // Buffers of sizes no longer asked for are let go.
        self.staging.retain(|s| fits(s) || s.buffer.size() < 1 << 20);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes.next_multiple_of(256),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        Ok(Staging { buffer, ready: Arc::new(AtomicBool::new(true)) })
    }

    fn wait(&self) -> Result<()> {
        self.device
            .poll(wgpu::PollType::Wait { submission_index: None, timeout: None })
            .map(|_| ())
            .map_err(|e| self.error(format!("does not answer: {e}")))
    }
}

impl Engine for GpuEngine {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&mut self, words: usize) -> Result<Buffer> {
        let id = self.buffers.iter().position(Option::is_none).unwrap_or(self.buffers.len());
        let buffer = self.scoped(&format!("allocating {} MiB", (words * 4) >> 20), |gpu| {
            Ok(gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: (words.max(1) * 4) as u64,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }))
        })?;
        if id == self.buffers.len() {
            self.buffers.push(None);
        }
        self.buffers[id] = Some(buffer);
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
        if bytes == 0 {
            return Ok(());
        }
        let _span = profile::span(Work::Upload, "upload").bytes(bytes as u64);
        self.scoped("uploading", |gpu| {
            let staging = gpu.staging(bytes as u64)?;
            {
                let mut view = staging
                    .buffer
                    .get_mapped_range_mut(..bytes as u64)
                    .map_err(|e| gpu.error(format!("cannot map staging memory: {e}")))?;
                let pointer = view.slice(..).as_raw_element_ptr();
                // SAFETY: the view is a live, exclusive mapping of `bytes` bytes that
                // wgpu has zeroed; the slice does not outlive it.
                let memory = unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes) };
                fill(memory)?;
            }
            staging.buffer.unmap();
            let target = gpu.buffer(buffer)?;
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&staging.buffer, 0, target, 0, bytes as u64);
            gpu.queue.submit([encoder.finish()]);
            staging.ready.store(false, Ordering::Release);
            let ready = Arc::clone(&staging.ready);
            staging.buffer.map_async(wgpu::MapMode::Write, .., move |r| {
                if r.is_ok() {
                    ready.store(true, Ordering::Release);
                }
            });
            gpu.staging.push(staging);
            Ok(())
        })
    }

    fn submit(&mut self, recording: &Recording) -> Result<()> {
        for dispatch in recording {
            check(dispatch, &self.info)?;
            self.build(dispatch)?;
        }
        self.scoped("running kernels", |gpu| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for dispatch in recording.iter().filter(|d| d.items > 0) {
                gpu.encode(&mut encoder, dispatch)?;
            }
            gpu.queue.submit([encoder.finish()]);
            Ok(())
        })
    }

    fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()> {
        self.scoped("downloading", |gpu| {
            let bytes = (buffer.words * 4) as u64;
            let down = match gpu.readback.take().filter(|b| b.size() >= bytes) {
                Some(b) => b,
                None => gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("readback"),
                    size: bytes.max(4),
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                }),
            };
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(gpu.buffer(buffer)?, 0, &down, 0, bytes);
            gpu.queue.submit([encoder.finish()]);
            down.map_async(wgpu::MapMode::Read, ..bytes, |_| {});
            let wait = profile::span(Work::Compute, "device");
            gpu.wait()?;
            drop(wait);
            {
                let view = down
                    .get_mapped_range(..bytes)
                    .map_err(|e| gpu.error(format!("cannot map results: {e}")))?;
                look(bytemuck::cast_slice(&view));
            }
            down.unmap();
            gpu.readback = Some(down);
            Ok(())
        })
    }
}
