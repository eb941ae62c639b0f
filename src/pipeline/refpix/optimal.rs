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
    let (independent, total) = (patterns.independent, patterns.total);
    let reads = total / patterns.levels.len().max(1);
    let kept = |pattern: Option<&Pattern>, wanted: bool, smooth: bool| {
        let Some(pattern) = pattern.filter(|_| wanted) else { return (None, 0.0) };
        let mut value = pattern.value.clone();
        let shrink = if smooth { shrink_smooth } else { shrink };
        let left = shrink(&mut value, pattern.n, pattern.noise(independent));
        (Some(value), left)
    };
    let ends = step.use_top_bottom_ref_pixels;
    let (channels, by_channels) = kept(patterns.channels.as_ref(), ends, false);
    let (parity, by_parity) = kept(patterns.parity.as_ref(), ends && step.odd_even_columns, false);
    let (rows, by_rows) = kept(patterns.lines.as_ref(), step.use_side_ref_pixels, true);
    let count = across.div_ceil(width);
    let at = |pattern: &Option<Vec<f64>>, i: usize| pattern.as_ref().map_or(0.0, |p| p[i]);
    let of_channel = |k: usize, channel: usize, parity_of: usize| {
        let sign = if parity_of == 0 { 1.0 } else { -1.0 };
        at(&channels, k * count + channel) + sign * at(&parity, k * count + channel)
    };
    // The sides belong to two channels or one: what these do by themselves is taken out.
    let mut common = patterns.together(|k, g| of_channel(k, g.channel, g.parity));
    let mut by_common = 0.0;
    if let (Some((common, share)), Some(pattern)) = (&mut common, &patterns.channels) {
        by_common = common.white + by_channels * *share;
        // What is not known of it is noise for the test, but none that is added.
        let unknown = pattern.unknown(channels.as_deref().unwrap_or_default(), by_channels, independent);
        common.white += unknown * *share;
    } else if let Some((common, _)) = &common {
        by_common = common.white;
    }
    let (common, left) = kept(common.as_ref().map(|(pattern, _)| pattern), true, false);
    by_common = left.min(by_common);
    let mut columns = vec![0f32; total * across];
    for (k, row) in columns.chunks_mut(across).enumerate() {
        let level = if matches!(zero, Zero::None) { 0.0 } else { patterns.levels[k / reads] };
        for (i, c) in row.iter_mut().enumerate() {
            *c = (level + at(&common, k) + of_channel(k, i / width, i % 2)) as f32;
        }
    }
    let lines = rows.map_or_else(|| vec![0.0; total * lines], |r| r.into_iter().map(|v| v as f32).collect());
    (Tables { columns, lines, block_width: across }, by_common + by_channels + by_parity + by_rows)
}
