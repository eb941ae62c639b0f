//! Buffers and dispatches on a device: the CPU (rayon) or a GPU (wgpu).
