//! The reference pixels' values at every read.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layout, Zero};
use crate::error::Result;
use crate::input::{Encoding, Ramp};

/// One reference pixel: where it is, and its value at every read.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) across: usize,
    pub(super) line: usize,
    /// Its line is reference pixels in its middle too (the ends of the channels).
    pub(super) end: bool,
    /// Its column is reference pixels in its middle too (the sides); at a corner
    /// both are.
    pub(super) side: bool,
    /// DN above the bias, where there is one.
    pub(super) values: Vec<f64>,
}

/// All that can be used, and how they lie.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    pub(super) list: Vec<Sample>,
    pub(super) ramps: usize,
    /// Reads a ramp.
    pub(super) reads: usize,
    /// Pixels across the channels.
    pub(super) across: usize,
    /// Pixels along them.
    pub(super) lines: usize,
    /// Pixels across a channel.
    pub(super) width: usize,
}

impl Samples {
    /// Reads the usable reference pixels, a band of rows at a time.
    pub(super) fn collect(ramp: &Ramp, layout: &Layout, zero: Zero<'_>) -> Result<Samples> {
        const BAND: usize = 16;
        let bands: Vec<Range<usize>> =
            (0..ramp.ny).step_by(BAND).map(|r| r..(r + BAND).min(ramp.ny)).collect();
        let parts: Vec<Vec<Sample>> = bands
            .into_par_iter()
            .map_init(Vec::new, |bytes, rows| {
                bytes.resize(ramp.chunk_bytes(rows.len()), 0);
                ramp.read_rows(rows.clone(), bytes)?;
                let bias = match zero {
                    Zero::Bias(cal) => cal.bias(rows.clone())?,
                    _ => None,
                };
                Ok(of_band(ramp, layout, bias.as_deref(), rows, bytes))
            })
            .collect::<Result<_>>()?;
        let (across, lines) = if layout.along_y { (ramp.ny, ramp.nx) } else { (ramp.nx, ramp.ny) };
        Ok(Samples {
            list: parts.into_iter().flatten().collect(),
            ramps: ramp.ramps,
            reads: ramp.reads,
            across,
            lines,
            width: layout.amp_width,
        })
    }

    /// Number of channels.
    pub(super) fn channels(&self) -> usize {
        self.across.div_ceil(self.width)
    }

    /// Reads of all ramps.
    pub(super) fn total(&self) -> usize {
        self.ramps * self.reads
    }

    /// Channel of a sample.
    pub(super) fn channel(&self, s: &Sample) -> usize {
        s.across / self.width
    }
}

/// The usable reference pixels of some rows, whose raw `bytes` and bias are given.
fn of_band(
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
        let (row, column) =
            (layout.is_reference(ramp.nx / 2, y, ramp.nx), layout.is_reference(x, ramp.ny / 2, ramp.nx));
        let (across, line, end, side) =
            if layout.along_y { (y, x, column, row) } else { (x, y, row, column) };
        out.push(Sample { across, line, end, side, values });
    }
    out
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

/// The median; the mean of the middle two of an even number. 0 of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match below.iter().copied().max_by(f64::total_cmp) {
        Some(lower) if even => (lower + *upper) / 2.0,
        _ => *upper,
    }
}
