//! The default form: patterns of the drift, each shrunk to what stands out of its
//! noise ([`shrink`](crate::kernels::shrink)).

use super::patterns::{Pattern, Patterns};
use super::{Tables, Zero};
use crate::config::Refpix;
use crate::kernels::shrink::{shrink, shrink_smooth};

/// The offsets, `across` × `lines` pixels in channels of `width`, and the variance
/// that they add to a read, DN².
pub(super) fn offsets(
    patterns: &Patterns,
    zero: Zero<'_>,
    step: &Refpix,
    (across, lines, width): (usize, usize, usize),
) -> (Tables, f64) {
    let independent = patterns.independent;
    let total = patterns.common.value.len();
    let reads = total / patterns.levels.len().max(1);
    let mut added = 0.0;
    let mut kept = |pattern: Option<&Pattern>, wanted: bool, smooth: bool| {
        let pattern = pattern.filter(|_| wanted)?;
        let mut value = pattern.value.clone();
        let shrink = if smooth { shrink_smooth } else { shrink };
        added += shrink(&mut value, pattern.n, pattern.noise(independent));
        Some(value)
    };
    let ends = step.use_top_bottom_ref_pixels;
    let common = kept(Some(&patterns.common), true, false).unwrap_or_default();
    let channels = kept(patterns.channels.as_ref(), ends, false);
    let parity = kept(patterns.parity.as_ref(), ends && step.odd_even_columns, false);
    let rows = kept(patterns.lines.as_ref(), step.use_side_ref_pixels, true);
    let count = across.div_ceil(width);
    let at = |pattern: &Option<Vec<f64>>, i: usize| pattern.as_ref().map_or(0.0, |p| p[i]);
    let mut columns = vec![0f32; total * across];
    for (k, row) in columns.chunks_mut(across).enumerate() {
        let level = if matches!(zero, Zero::None) { 0.0 } else { patterns.levels[k / reads] };
        for (i, c) in row.iter_mut().enumerate() {
            let channel = k * count + i / width;
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            *c = (level + common[k] + at(&channels, channel) + sign * at(&parity, channel)) as f32;
        }
    }
    let lines = rows.map_or_else(|| vec![0.0; total * lines], |r| r.into_iter().map(|v| v as f32).collect());
    (Tables { columns, lines, block_width: across }, added)
}
