//! `cosmic_rays`: hits in single frames, which no read can show, found by their
//! sharpness (van Dokkum 2001).
//!
//! Each round: pixels that are not usable, or were hit in an earlier round, get the
//! median of the usable ones about them (5 × 5); then the kernels
//! [`median`](crate::kernels::median), [`laplacian`](crate::kernels::laplacian) and
//! [`cosmic`](crate::kernels::cosmic) tell which pixels are hit. N² is the median of
//! the frame's own variance over 5 × 5 pixels, in which a hit has no part.

use crate::config::{CosmicFrames, CosmicRays};
use crate::datamodel::{Image, dq};
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::Result;
use crate::kernels::cosmic::{COSMIC, CosmicParams};
use crate::kernels::laplacian::{LAPLACIAN, LaplacianParams};
use crate::kernels::median::{MEDIAN, MedianParams};

use super::exposure::Level1;
use super::frames::Frame;
use super::provenance::Status;
use super::robust;

/// Flags of a pixel that was hit.
const HIT: u32 = dq::JUMP_DET | dq::DO_NOT_USE;

/// Whether the step has to look at a frame: one of which no reads (or two) were seen
/// on the way, unless the user wants all, or asks for this step alone.
pub(super) fn applies(step: &CosmicRays, level1: &Level1, alone: bool) -> bool {
    let jump = |s: &super::provenance::StepRecord| s.name == "jump" && s.status == Status::Complete;
    let searched = level1.provenance.steps.iter().any(jump)
        || (!level1.fresh && level1.header.text("S_JUMP").as_deref() == Some("COMPLETE"));
    let two_reads = level1.fresh && level1.rate.nreads.iter().all(|n| *n <= 2);
    alone || step.frames == CosmicFrames::All || !searched || two_reads
}

/// Flags the hits in `image` JUMP_DET and DO_NOT_USE, and takes their values away.
/// Returns their number.
pub(super) fn reject(engine: &mut dyn Engine, image: &mut Image, step: &CosmicRays) -> Result<usize> {
    let hits = find(engine, image, step)?;
    for (i, _) in hits.iter().enumerate().filter(|(_, h)| **h) {
        image.dq[i] |= HIT;
        image.data[i] = f32::NAN;
        image.err[i] = f32::NAN;
        if let Some(v) = image.var_common.get_mut(i) {
            *v = f32::NAN;
        }
    }
    Ok(hits.iter().filter(|h| **h).count())
}

/// The pixels hit.
fn find(engine: &mut dyn Engine, image: &Image, step: &CosmicRays) -> Result<Vec<bool>> {
    let frame = Frame::from(image);
    let n = frame.len();
    let mut hits = vec![false; n];
    let bad: Vec<u32> = (0..n).map(|i| u32::from(!frame.usable(i))).collect();
    let mut usable: Vec<f32> = (0..n).filter(|i| bad[*i] == 0).map(|i| frame.data[i]).collect();
    let Some(level) = robust::median(&mut usable) else { return Ok(hits) };
    let variances: Vec<f32> = (0..n).map(|i| frame.variance(i)).collect();
    let variances = run(engine, |r| {
        let (variances, bad) = (r.floats(&variances)?, r.words(&bad)?);
        r.median(variances, bad, 2, image.nx, 0.0)
    })?;
    let mut left_out = bad.clone();
    for _ in 0..step.maxiters {
        let smooth = run(engine, |r| {
            let (data, out) = (r.floats(frame.data)?, r.words(&left_out)?);
            r.median(data, out, 2, image.nx, level as f32)
        })?;
        let clean: Vec<f32> = (0..n)
            .map(|i| if left_out[i] == 0 { frame.data[i] } else { f32::from_bits(smooth[i]) })
            .collect();
        let new = run(engine, |r| r.hits(&clean, &variances, &left_out, image.nx, step))?;
        let before = hits.iter().filter(|h| **h).count();
        for (i, _) in new.iter().enumerate().filter(|(_, h)| **h != 0) {
            hits[i] = true;
            left_out[i] = 1;
        }
        if hits.iter().filter(|h| **h).count() == before {
            break;
        }
    }
    Ok(hits)
}

/// A round's dispatches and buffers.
struct Round<'a> {
    engine: &'a mut dyn Engine,
    held: Vec<Buffer>,
}

/// Runs `work`, gives back its buffers however it ends, and returns the words of the
/// buffer that it names.
fn run(engine: &mut dyn Engine, work: impl FnOnce(&mut Round<'_>) -> Result<Buffer>) -> Result<Vec<u32>> {
    let mut round = Round { engine, held: Vec::new() };
    let result = work(&mut round).and_then(|out| round.engine.download(out));
    let Round { engine, held } = round;
    held.into_iter().for_each(|b| engine.free(b));
    result
}

impl Round<'_> {
    fn words(&mut self, words: &[u32]) -> Result<Buffer> {
        let buffer = self.engine.buffer_of(words)?;
        self.held.push(buffer);
        Ok(buffer)
    }

    fn floats(&mut self, values: &[f32]) -> Result<Buffer> {
        self.words(bytemuck::cast_slice(values))
    }

    /// Runs one kernel on `inputs`; its output buffer, as long as the first of them.
    fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static crate::kernels::Kernel,
        inputs: &[Buffer],
        params: P,
    ) -> Result<Buffer> {
        let items = inputs[0].words();
        let out = self.engine.allocate(items)?;
        self.held.push(out);
        let buffers = [inputs, &[out]].concat();
        let params = bytemuck::cast_slice(&[params]).to_vec();
        self.engine.submit(&vec![Dispatch { kernel, buffers, items, params, constants: vec![] }])?;
        Ok(out)
    }

    fn median(
        &mut self,
        values: Buffer,
        left_out: Buffer,
        radius: u32,
        nx: usize,
        otherwise: f32,
    ) -> Result<Buffer> {
        let p = MedianParams { pixels: values.words() as u32, nx: nx as u32, radius, otherwise };
        self.dispatch(&MEDIAN, &[values, left_out], p)
    }

    /// One round on the cleaned image.
    fn hits(
        &mut self,
        clean: &[f32],
        variances: &[u32],
        left_out: &[u32],
        nx: usize,
        step: &CosmicRays,
    ) -> Result<Buffer> {
        let pixels = clean.len() as u32;
        let (clean, variances) = (self.floats(clean)?, self.words(variances)?);
        let none = self.words(&vec![0; pixels as usize])?;
        let left_out = self.words(left_out)?;
        let laplacian = LaplacianParams { pixels, nx: nx as u32 };
        let peaks = self.dispatch(&LAPLACIAN, &[clean, variances], laplacian)?;
        let smooth = self.median(peaks, none, 2, nx, 0.0)?;
        let median3 = self.median(clean, none, 1, nx, 0.0)?;
        let median7 = self.median(median3, none, 3, nx, 0.0)?;
        let p = CosmicParams {
            pixels,
            nx: nx as u32,
            threshold: step.rejection_threshold as f32,
            neighbour_threshold: (step.rejection_threshold * step.neighbour_fraction) as f32,
            contrast: step.contrast as f32,
        };
        self.dispatch(&COSMIC, &[peaks, smooth, median3, median7, variances, left_out], p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CpuEngine;
    use crate::kernels::normal::Normal;

    const NX: usize = 150;
    const NY: usize = 120;

    /// A sky of σ = 10 with a star of FWHM 3 pixels every 25, and hits of `charge`.
    fn frame(charge: f32, every: usize) -> (Image, Vec<usize>) {
        let mut random = Normal(21);
        let star = |x: usize, y: usize| {
            let (dx, dy) = ((x % 25) as f64 - 12.3, (y % 25) as f64 - 11.8);
            8000.0 * (-(dx * dx + dy * dy) / (2.0 * 1.27 * 1.27)).exp()
        };
        let mut image = Image {
            nx: NX,
            ny: NY,
            data: Vec::new(),
            err: Vec::new(),
            dq: vec![0; NX * NY],
            var_common: Vec::new(),
        };
        for i in 0..NX * NY {
            let light = star(i % NX, i / NX);
            let sigma = (100.0 + light).sqrt();
            image.data.push((500.0 + light + sigma * random.next()) as f32);
            image.err.push(sigma as f32);
        }
        let struck: Vec<usize> = (0..NX * NY).filter(|i| every > 0 && i % every == every / 2).collect();
        for i in &struck {
            image.data[*i] += charge;
            image.err[*i] = (image.err[*i].powi(2) + charge).sqrt();
        }
        (image, struck)
    }

    #[test]
    fn hits_are_found_and_stars_are_not() {
        let step = CosmicRays::default();
        let mut engine = CpuEngine::new(1 << 30);
        let (mut clean, _) = frame(0.0, 0);
        let wrong = reject(&mut engine, &mut clean, &step).expect("clean");
        assert!(wrong <= 3, "{wrong} false hits among {} pixels with 24 stars", NX * NY);
        // Faint ones are lost within the stars, which cover a tenth of the frame.
        for (charge, least) in [(150.0, 0.85), (1000.0, 0.9)] {
            let (mut image, struck) = frame(charge, 97);
            reject(&mut engine, &mut image, &step).expect("hits");
            let found = struck.iter().filter(|i| image.dq[**i] & HIT == HIT).count();
            assert!(found as f64 > least * struck.len() as f64, "{charge}: {found} of {}", struck.len());
            assert!(struck.iter().all(|i| image.data[*i].is_nan() == (image.dq[*i] & HIT != 0)));
        }
    }

    #[test]
    fn a_track_is_followed_and_bad_pixels_are_left_alone() {
        let (mut image, _) = frame(0.0, 0);
        let track: Vec<usize> = (0..12).map(|k| (60 + k / 2) * NX + 65 + k).collect();
        track.iter().for_each(|i| image.data[*i] += 700.0);
        image.dq[5 * NX + 5] = dq::HOT | dq::DO_NOT_USE;
        image.data[5 * NX + 5] = 1e6;
        image.data[100 * NX + 3] = f32::NAN;
        let mut engine = CpuEngine::new(1 << 30);
        reject(&mut engine, &mut image, &CosmicRays::default()).expect("track");
        let found = track.iter().filter(|i| image.dq[**i] & HIT == HIT).count();
        assert!(found >= 11, "{found}");
        assert_eq!(image.dq[5 * NX + 5], dq::HOT | dq::DO_NOT_USE);
        assert_eq!((image.dq[5 * NX + 6], image.dq[100 * NX + 3]), (0, 0));
    }
}
