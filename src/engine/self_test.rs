//! A small case with a known answer, before a night is given to a device.

use super::{Dispatch, Engine};
use crate::error::{Error, Result};
use crate::kernels::laplacian::{LAPLACIAN, LaplacianParams};

/// Edge of the frame: more pixels than one workgroup has, in rows that end within one.
const EDGE: usize = 100;

/// Sends a frame to the device, runs a kernel on it and looks at what comes back: even
/// frame, but for lone pixels that stand out by 4 σ (all of it exact in f32). Fails where
/// the device does, or where a single pixel comes back otherwise.
pub fn self_test(engine: &mut dyn Engine) -> Result<()> {
    let lone = |i: usize| i % EDGE % 7 == 3 && i / EDGE % 5 == 2;
    let values: Vec<f32> = (0..EDGE * EDGE).map(|i| if lone(i) { 18.0 } else { 10.0 }).collect();
    let variances = vec![4.0f32; values.len()];
    let params = LaplacianParams { pixels: values.len() as u32, nx: EDGE as u32 };
    let inputs = [engine.buffer_of_f32(&values)?, engine.buffer_of_f32(&variances)?];
    let output = engine.allocate(values.len())?;
    let dispatch = Dispatch {
        kernel: &LAPLACIAN,
        buffers: vec![inputs[0], inputs[1], output],
        items: values.len(),
        params: bytemuck::cast_slice(&[params]).to_vec(),
        constants: Vec::new(),
    };
    engine.submit(&vec![dispatch])?;
    let found = engine.download_f32(output)?;
    inputs.into_iter().chain([output]).for_each(|b| engine.free(b));
    let wrong = (0..values.len()).filter(|&i| found.get(i) != Some(&if lone(i) { 4.0 } else { 0.0 })).count();
    if wrong == 0 {
        return Ok(());
    }
    Err(Error::Device {
        device: engine.device().name.clone(),
        message: format!(
            "computes wrongly: {wrong} of {} pixels of a known case differ; use another with --device",
            values.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::gpu;
    use super::super::{Buffer, CpuEngine, DeviceInfo, Recording, Shelf};
    use super::*;

    /// A device that forgets to compute.
    struct Idle(CpuEngine);

    impl Engine for Idle {
        fn device(&self) -> &DeviceInfo {
            self.0.device()
        }
        fn allocate(&mut self, words: usize) -> Result<Buffer> {
            self.0.allocate(words)
        }
        fn free(&mut self, buffer: Buffer) {
            self.0.free(buffer);
        }
        fn shelf(&mut self) -> &mut Shelf {
            self.0.shelf()
        }
        fn upload_with(
            &mut self,
            buffer: Buffer,
            bytes: usize,
            fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
        ) -> Result<()> {
            self.0.upload_with(buffer, bytes, fill)
        }
        fn submit(&mut self, _: &Recording) -> Result<()> {
            Ok(())
        }
        fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()> {
            self.0.download_with(buffer, look)
        }
    }

    #[test]
    fn sound_devices_pass_and_an_idle_one_does_not() {
        self_test(&mut CpuEngine::new(1 << 20)).expect("CPU");
        if let Some(mut gpu) = gpu() {
            self_test(gpu.as_mut()).expect("GPU");
        }
        let sentence = self_test(&mut Idle(CpuEngine::new(1 << 20))).expect_err("idle").to_string();
        assert!(sentence.contains("computes wrongly: 280 of 10000"), "{sentence}");
    }
}
