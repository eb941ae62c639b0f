//! Says which device the tests of the WGSL run on; `scripts/test` passes it on.

use irisgpu::engine::testing;

#[test]
fn the_device_of_the_gpu_tests() {
    if let Some(gpu) = testing::gpu() {
        let device = gpu.device();
        eprintln!("GPU tests run on {} ({})", device.name, device.backend);
    }
}
