//! Simple improved reference subtraction in the time domain (Rauscher 2022; jwst
//! 3.0.0, `optimized_convolution.py`): the row means of either side, convolved with a
//! kernel for each channel, are subtracted from the channel's lines.
//!
//! Pixels further than `sigreject` × 1.48 × the median absolute deviation from the
//! side's median at that read are left out, and each sum is weighed with what the
//! kernel finds of the pixels: template = Σ_j k(j) s(y−j) · Σ_j k(j) / Σ_j k(j) n(y−j),
//! with s and n the sum and the number of good pixels of a line. Beyond the first and
//! last line there is nothing.

use rayon::prelude::*;

use super::Tables;
use super::median::Places;
use super::samples::{Samples, median};
use crate::config::Refpix;
use crate::refs::SirsKernels;

/// What turns a median absolute deviation into a standard deviation.
const MAD: f64 = 1.48;

/// The offsets, and the variance that they add to a read, of a pixel's own. The
/// kernels say how many channels there are.
pub(super) fn offsets(samples: &Samples, kernels: &SirsKernels, step: &Refpix) -> (Tables, f64) {
    let (n, channels) = (samples.lines, kernels.left.len());
    let places = Places::of(samples, false);
    let columns = places.columns(samples, step);
    let mut lines = vec![0f32; samples.total() * channels * n];
    let mut added = places.end_noise(step);
    if step.use_side_ref_pixels {
        lines.par_chunks_mut(channels * n).enumerate().for_each(|(k, read)| {
            let columns = &columns[k * samples.across..][..samples.across];
            let sides = places.sides.each_ref().map(|side| {
                let value = |i: &usize| samples.list[*i].values[k] - columns[samples.list[*i].across];
                let values: Vec<Vec<f64>> = side.iter().map(|l| l.iter().map(value).collect()).collect();
                good(&values, step.sigreject)
            });
            for ((to, left), right) in read.chunks_mut(n).zip(&kernels.left).zip(&kernels.right) {
                let templates = [template(&sides[0], left), template(&sides[1], right)];
                for (y, to) in to.iter_mut().enumerate() {
                    *to = (templates[0][y] + templates[1][y]) as f32;
                }
            }
        });
        added += noise(&places, kernels);
    }
    let columns = columns.into_iter().map(|v| v as f32).collect();
    (Tables { columns, lines, block_width: samples.width }, added)
}

/// Sum and number of the good pixels of each line.
fn good(lines: &[Vec<f64>], sigreject: f64) -> Vec<(f64, f64)> {
    let mut all: Vec<f64> = lines.concat();
    let middle = median(&mut all);
    all.iter_mut().for_each(|v| *v = (*v - middle).abs());
    let limit = sigreject * MAD * median(&mut all);
    let one = |line: &Vec<f64>| {
        let good = line.iter().filter(|v| (**v - middle).abs() <= limit);
        good.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0))
    };
    lines.iter().map(one).collect()
}

/// The side's part of a channel's offsets, by line.
fn template(side: &[(f64, f64)], kernel: &[f64]) -> Vec<f64> {
    let (n, half) = (side.len(), kernel.len() / 2);
    (0..n)
        .map(|y| {
            let (mut sum, mut all, mut found) = (0.0, 0.0, 0.0);
            // kernel[j] multiplies line y + half − j.
            for (j, weight) in kernel.iter().enumerate() {
                let Some(line) = (y + half).checked_sub(j).filter(|l| *l < n) else { continue };
                sum += weight * side[line].0;
                all += weight;
                found += weight * side[line].1;
            }
            if found == 0.0 { 0.0 } else { sum * all / found }
        })
        .collect()
}

/// Mean variance of the templates of normal noise of variance 1.
fn noise(places: &Places, kernels: &SirsKernels) -> f64 {
    let of = |side: usize, kernels: &[Vec<f64>]| {
        let pixels: usize = places.sides[side].iter().map(Vec::len).sum();
        let a_line = pixels as f64 / places.sides[side].len().max(1) as f64;
        let squares: f64 = kernels.iter().flatten().map(|w| w * w).sum();
        if a_line > 0.0 { squares / kernels.len() as f64 / a_line } else { 0.0 }
    };
    of(0, &kernels.left) + of(1, &kernels.right)
}
