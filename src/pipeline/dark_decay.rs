//! `dark_decay`: the signal that a reset leaves in every pixel and that dies away.
//!
//! Frame j of read k, taken at t_kj since the ramp's reset on the mean over the frame,
//! reaches line l of n at t_kj + T ((l + ½)/n − ½), T the time that a frame takes:
//!
//! ```text
//! y_k(l) −= mean_j A exp(−(t_kj + T ((l + ½)/n − ½))/τ)
//! ```
//!
//! the form of romancal's step of that name. It is alike in all pixels of a line, so it
//! goes with the offsets of the reference pixels.

use super::refpix::Tables;
use crate::config::DarkDecay;
use crate::input::Ramp;

/// Adds it to `offsets`; channels are blocks of rows where `along_y`.
pub(super) fn add(offsets: Option<Tables>, ramp: &Ramp, along_y: bool, step: &DarkDecay) -> Tables {
    let (across, lines) = if along_y { (ramp.ny, ramp.nx) } else { (ramp.nx, ramp.ny) };
    let total = ramp.ramps * ramp.reads;
    let mut offsets = offsets.unwrap_or_else(|| Tables {
        columns: vec![0.0; total * across],
        lines: vec![0.0; total * lines],
        block_width: across,
    });
    let of_read = offsets.lines.len() / total.max(1);
    for (k, read) in offsets.lines.chunks_mut(of_read.max(1)).enumerate() {
        for (i, to) in read.iter_mut().enumerate() {
            *to += value(ramp, k, (i % lines) as f64, lines as f64, step) as f32;
        }
    }
    offsets
}

/// What is left of it in line `line` of `lines` at read `k` of all, DN.
fn value(ramp: &Ramp, k: usize, line: f64, lines: f64, step: &DarkDecay) -> f64 {
    let late = frame_time(ramp) * ((line + 0.5) / lines - 0.5);
    let frames = f64::from(ramp.nsample[k].max(1));
    let at = |j: usize| ramp.times[k] + (j as f64 - (frames - 1.0) / 2.0) * ramp.frame_time + late;
    let left = (0..frames as usize).map(|j| (-at(j) / step.time_constant).exp());
    step.amplitude * left.sum::<f64>() / frames
}

/// Seconds that a frame takes: those between averaged frames, else between the reads that
/// are nearest to each other.
fn frame_time(ramp: &Ramp) -> f64 {
    if ramp.frame_time > 0.0 {
        return ramp.frame_time;
    }
    let gaps = ramp.times.chunks(ramp.reads.max(1)).flat_map(|t| t.windows(2).map(|t| t[1] - t[0]));
    let least = gaps.fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}
