//! Reference pixels to offset tables: what every read drifted by, by readout
//! channel, column parity and line, to be subtracted on the fly.
//!
//! Each good reference pixel gives, at each read, its value minus its own mean
//! over the ramp, so that neither its bias nor its reset noise enters. From these
//! residuals: a common drift (mean of all), a pattern over channels and column
//! parity (from the rows at the ends of the channels) and a pattern over lines
//! (from the side columns), the patterns shrunk to what stands out of the noise
//! ([`shrink`](crate::kernels::shrink)). Where the bias was subtracted, the common
//! level of the ramp's reset is added, so that linearity starts from zero.

use std::ops::Range;

use rayon::prelude::*;

use super::calibration::Calibration;
use crate::config;
use crate::datamodel::dq;
use crate::error::Result;
use crate::input::{Encoding, Ramp};
use crate::kernels::shrink::{shrink, shrink_smooth};

/// Where the reference pixels are and how the channels lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The reference pixels, ascending.
    pub reference: Vec<u32>,
    /// Those of them that can be used, ascending.
    pub usable: Vec<u32>,
    /// Pixels across a channel.
    pub amp_width: usize,
    /// Channels are blocks of rows.
    pub along_y: bool,
}

/// Offsets to subtract, DN.
#[derive(Debug, Clone, PartialEq)]
pub struct Offsets {
    /// `[read][column]` (row, where channels are blocks of rows).
    pub columns: Vec<f32>,
    /// `[read][line]`.
    pub lines: Vec<f32>,
    /// Usable reference pixels.
    pub pixels: usize,
    /// Scatter of a reference pixel between reads, DN.
    pub scatter: f64,
}

impl Layout {
    /// The reference pixels of a frame: those that the mask names, else the border
    /// that the instrument file gives a full frame. `None` where there are none.
    pub fn find(ramp: &Ramp, cal: &Calibration<'_>, detector: &config::Detector) -> Result<Option<Layout>> {
        let (ny, nx) = (ramp.ny, ramp.nx);
        let along_y = detector.amplifiers.along == 'y';
        let (across, full) = if along_y { (ny, detector.size[1]) } else { (nx, detector.size[0]) };
        let channel = full / detector.amplifiers.count.max(1);
        // A detector read smaller than its full size keeps its number of channels.
        let amp_width = if across == full { channel } else { across / detector.amplifiers.count.max(1) };
        let mut pixels = cal.find(0..ny, |_, bits| bits & dq::REFERENCE_PIXEL != 0)?;
        if pixels.is_empty() {
            let subarray = crate::refs::Frame::new(&ramp.meta, ny, nx).subarray;
            let b = detector.reference_border;
            if subarray || b == 0 || ny.min(nx) < 16 * b {
                return Ok(None);
            }
            let edge = |i: usize, n: usize| i < b || i >= n - b;
            pixels = cal.find(0..ny, |p, _| edge(p / nx, ny) || edge(p % nx, nx))?;
        }
        let bad = dq::BAD_REF_PIXEL | dq::DEAD | dq::HOT | dq::TELEGRAPH;
        let usable = pixels.iter().filter(|(_, bits)| bits & bad == 0).map(|(p, _)| *p).collect();
        let reference = pixels.into_iter().map(|(p, _)| p).collect();
        Ok(Some(Layout { reference, usable, amp_width: amp_width.max(1), along_y }))
    }
}

/// What is subtracted from a reference pixel before its level counts.
#[derive(Clone, Copy)]
pub enum Zero<'a> {
    /// Nothing: the level means nothing.
    None,
    /// The bias reference.
    Bias(&'a Calibration<'a>),
    /// An earlier run subtracted the bias.
    Subtracted,
}

/// One reference pixel: where it is, and its residual at every read.
struct Sample {
    across: usize,
    line: usize,
    end: bool,
    level: Vec<f64>,
    residual: Vec<f64>,
}

/// Measures the offsets of every read. `odd_even` and `sides` as the step's
/// parameters say.
pub fn measure(
    ramp: &Ramp,
    layout: &Layout,
    zero: Zero<'_>,
    odd_even: bool,
    sides: bool,
) -> Result<Option<Offsets>> {
    let mut samples = collect(ramp, layout, zero)?;
    reject_wild(&mut samples);
    if samples.len() < 64 {
        return Ok(None);
    }
    let reads = ramp.ramps * ramp.reads;
    let across = if layout.along_y { ramp.ny } else { ramp.nx };
    let lines = if layout.along_y { ramp.nx } else { ramp.ny };
    let channels = across.div_ceil(layout.amp_width);
    let count = samples.len() as f64;
    let mut common = vec![0.0; reads];
    for s in &samples {
        common.iter_mut().zip(&s.residual).for_each(|(c, r)| *c += r / count);
    }
    for s in &mut samples {
        s.residual.iter_mut().zip(&common).for_each(|(r, c)| *r -= c);
    }
    let variance = noise_variance(&samples, channels * 2, layout.amp_width);
    // A mean over each ramp's reads was taken out.
    let independent = (reads - ramp.ramps) as f64;
    let pattern =
        column_pattern(&samples, layout.amp_width, channels, reads, odd_even, variance, independent);
    let mut columns = vec![0f32; reads * across];
    for (k, row) in columns.chunks_mut(across).enumerate() {
        let level = if matches!(zero, Zero::None) { 0.0 } else { level(&samples, k / ramp.reads) };
        for (i, c) in row.iter_mut().enumerate() {
            let group = i / layout.amp_width * 2 + i % 2;
            *c = (level + common[k] + pattern[k * channels * 2 + group]) as f32;
        }
    }
    let mut rows = vec![0f32; reads * lines];
    if sides {
        for s in &mut samples {
            let g = s.across / layout.amp_width * 2 + s.across % 2;
            for (k, r) in s.residual.iter_mut().enumerate() {
                *r -= pattern[k * channels * 2 + g];
            }
        }
        let smooth = line_pattern(&samples, lines, reads, variance, independent);
        rows.iter_mut().zip(smooth).for_each(|(r, s)| *r = s as f32);
    }
    Ok(Some(Offsets { columns, lines: rows, pixels: samples.len(), scatter: variance.sqrt() }))
}

/// Reads the usable reference pixels, a band of rows at a time.
fn collect(ramp: &Ramp, layout: &Layout, zero: Zero<'_>) -> Result<Vec<Sample>> {
    const BAND: usize = 16;
    let bands: Vec<Range<usize>> = (0..ramp.ny).step_by(BAND).map(|r| r..(r + BAND).min(ramp.ny)).collect();
    let parts: Vec<Vec<Sample>> = bands
        .into_par_iter()
        .map_init(Vec::new, |bytes, rows| {
            bytes.resize(ramp.chunk_bytes(rows.len()), 0);
            ramp.read_rows(rows.clone(), bytes)?;
            let bias = match zero {
                Zero::Bias(cal) => cal.bias(rows.clone())?,
                _ => None,
            };
            Ok(collect_band(ramp, layout, bias.as_deref(), rows, bytes))
        })
        .collect::<Result<_>>()?;
    Ok(parts.into_iter().flatten().collect())
}

/// The usable reference pixels of some rows, whose raw `bytes` and bias are given.
fn collect_band(
    ramp: &Ramp,
    layout: &Layout,
    bias: Option<&[f32]>,
    rows: Range<usize>,
    bytes: &[u8],
) -> Vec<Sample> {
    let strides = ramp.strides(rows.len());
    let first = rows.start * ramp.nx;
    let from = layout.usable.partition_point(|p| (*p as usize) < first);
    let pixels = layout.usable[from..].iter().map(|p| *p as usize);
    let mut out = Vec::new();
    for pixel in pixels.take_while(|p| *p < rows.end * ramp.nx) {
        let (x, y) = (pixel % ramp.nx, pixel / ramp.nx);
        let at = |k: usize| {
            k / ramp.reads * strides.ramp
                + k % ramp.reads * strides.read
                + (y - rows.start) * strides.y
                + x * strides.x
        };
        let zero = bias.map_or(0.0, |b| f64::from(b[pixel - first]));
        let values: Vec<f64> =
            (0..ramp.ramps * ramp.reads).map(|k| value(ramp.encoding, bytes, at(k)) - zero).collect();
        if values.iter().any(|v| !v.is_finite()) {
            continue;
        }
        let level: Vec<f64> =
            values.chunks(ramp.reads).map(|r| r.iter().sum::<f64>() / r.len() as f64).collect();
        let residual = values.iter().enumerate().map(|(k, v)| v - level[k / ramp.reads]).collect();
        let (across, line) = if layout.along_y { (y, x) } else { (x, y) };
        out.push(Sample { across, line, end: is_end(layout, ramp, line), level, residual });
    }
    out
}

/// Whether the line is reference pixels in its middle too (a row at the end of the
/// channels), rather than one with reference pixels at its sides only.
fn is_end(layout: &Layout, ramp: &Ramp, line: usize) -> bool {
    let (x, y) = if layout.along_y { (line, ramp.ny / 2) } else { (ramp.nx / 2, line) };
    layout.reference.binary_search(&((y * ramp.nx + x) as u32)).is_ok()
}

fn value(encoding: Encoding, bytes: &[u8], at: usize) -> f64 {
    let two = || [bytes[2 * at], bytes[2 * at + 1]];
    let four = || [bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]];
    match encoding {
        Encoding::U16 => f64::from(u16::from_be_bytes(two()) ^ 0x8000),
        Encoding::I16 => f64::from(i16::from_be_bytes(two())),
        Encoding::I32 => f64::from(i32::from_be_bytes(four())),
        Encoding::F32 => f64::from(f32::from_be_bytes(four())),
    }
}

fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Takes out pixels whose level or scatter is far from the others'. The common
/// drift is removed first by the median over pixels at each read.
fn reject_wild(samples: &mut Vec<Sample>) {
    let Some(reads) = samples.first().map(|s| s.residual.len()) else { return };
    let centre: Vec<f64> =
        (0..reads).map(|k| median(&mut samples.iter().map(|s| s.residual[k]).collect::<Vec<_>>())).collect();
    let rms = |s: &Sample| {
        (s.residual.iter().zip(&centre).map(|(r, c)| (r - c).powi(2)).sum::<f64>() / reads as f64).sqrt()
    };
    let mut scatter: Vec<f64> = samples.iter().map(rms).collect();
    let typical = median(&mut scatter);
    samples.retain(|s| rms(s) <= 3.0 * typical);
}

/// The median level of a ramp's reset.
fn level(samples: &[Sample], ramp: usize) -> f64 {
    median(&mut samples.iter().map(|s| s.level[ramp]).collect::<Vec<_>>())
}

/// Variance of a residual within its column group and line end.
fn noise_variance(samples: &[Sample], groups: usize, width: usize) -> f64 {
    let reads = samples[0].residual.len();
    let group = |s: &Sample| s.across / width * 2 + s.across % 2;
    let mut sums = vec![0.0; groups * reads];
    let mut counts = vec![0.0; groups];
    for s in samples.iter().filter(|s| s.end) {
        counts[group(s)] += 1.0;
        s.residual.iter().enumerate().for_each(|(k, r)| sums[group(s) * reads + k] += r);
    }
    let (mut square, mut dof) = (0.0, 0.0);
    for s in samples.iter().filter(|s| s.end && counts[group(s)] > 1.0) {
        for (k, r) in s.residual.iter().enumerate() {
            square += (r - sums[group(s) * reads + k] / counts[group(s)]).powi(2);
        }
    }
    for n in counts.iter().filter(|n| **n > 1.0) {
        dof += (n - 1.0) * reads as f64;
    }
    if dof > 0.0 { square / dof } else { 0.0 }
}

/// Drift of each channel and column parity about the common one, shrunk.
fn column_pattern(
    samples: &[Sample],
    width: usize,
    channels: usize,
    reads: usize,
    odd_even: bool,
    variance: f64,
    independent: f64,
) -> Vec<f64> {
    let mut sums = vec![0.0; reads * channels * 2];
    let mut counts = vec![0.0; channels * 2];
    for s in samples.iter().filter(|s| s.end) {
        let g = s.across / width * 2 + s.across % 2;
        counts[g] += 1.0;
        s.residual.iter().enumerate().for_each(|(k, r)| sums[k * channels * 2 + g] += r);
    }
    let fewest = counts.iter().copied().fold(f64::INFINITY, f64::min);
    if fewest < 1.0 {
        return vec![0.0; reads * channels * 2];
    }
    // Even and odd columns become their mean and half difference, each a pattern
    // over channels.
    let (mut mean, mut half) = (vec![0.0; reads * channels], vec![0.0; reads * channels]);
    for k in 0..reads {
        for c in 0..channels {
            let at = |p: usize| sums[k * channels * 2 + c * 2 + p] / counts[c * 2 + p];
            mean[k * channels + c] = (at(0) + at(1)) / 2.0;
            half[k * channels + c] = (at(0) - at(1)) / 2.0;
        }
    }
    // `residual` already lost `1 − reads taken out`: `independent` accounts for it,
    // and the noise variance was measured on the residuals themselves.
    let noise = variance * reads as f64 / independent.max(1.0) / (2.0 * fewest);
    shrink(&mut mean, channels, noise, independent);
    shrink(&mut half, channels, noise, independent);
    let mut out = vec![0.0; reads * channels * 2];
    for (i, (m, h)) in mean.iter().zip(&half).enumerate() {
        let h = if odd_even { *h } else { 0.0 };
        out[2 * i] = m + h;
        out[2 * i + 1] = m - h;
    }
    out
}

/// Drift of each line about the rest, from the side columns, shrunk.
fn line_pattern(samples: &[Sample], lines: usize, reads: usize, variance: f64, independent: f64) -> Vec<f64> {
    let mut sums = vec![0.0; reads * lines];
    let mut counts = vec![0.0; lines];
    for s in samples.iter().filter(|s| !s.end) {
        counts[s.line] += 1.0;
        s.residual.iter().enumerate().for_each(|(k, r)| sums[k * lines + s.line] += r);
    }
    let measured: Vec<f64> = counts.iter().copied().filter(|c| *c > 0.0).collect();
    if measured.len() < lines / 2 {
        return vec![0.0; reads * lines];
    }
    let typical = measured.iter().sum::<f64>() / measured.len() as f64;
    for row in sums.chunks_mut(lines) {
        row.iter_mut().zip(&counts).for_each(|(s, c)| *s /= c.max(1.0));
    }
    let noise = variance * reads as f64 / independent.max(1.0) / typical;
    shrink_smooth(&mut sums, lines, noise, independent);
    sums
}
