//! Snowballs: large events with a core that saturates and a halo that grows over the
//! next reads. What stcal 1.20.0 flags (`jump.py`, `flag_large_events`), from lists
//! of pixels instead of planes.
//!
//! At each read: pixels that jump and touch (corners count) are a region; so are
//! those that saturate. An ellipse with a region's centre, second moments and
//! direction stands for it, its axes 4 √moment − 1 long (the −1: from centre to
//! centre of the outermost pixels). A jump is a snowball where the centre of a core
//! that saturates at this read or the next lies in it. Its minor axis grows by
//! `expand_factor`, its major one by as many pixels, and the unsaturated pixels within
//! are flagged at that read; a core grows by `sat_expand` and is saturated from then
//! on; in the next ramp a core's own pixels are flagged.

use std::collections::BTreeSet;

use crate::config::Jump;

/// What stands for the pixels of a region.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ellipse {
    /// Centre, row and column.
    centre: [f64; 2],
    /// Full axes, pixels.
    major: f64,
    minor: f64,
    /// Direction of the major axis, row and column.
    along: [f64; 2],
}

/// The regions of `pixels` (ascending, row-major with `nx` columns) that cover
/// `least` pixels or more, holes filled.
fn regions(pixels: &[u32], nx: usize, least: f64) -> Vec<Ellipse> {
    let mut seen = vec![false; pixels.len()];
    let mut out = Vec::new();
    for start in 0..pixels.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let (mut region, mut next) = (vec![start], 0);
        while next < region.len() {
            let p = pixels[region[next]] as usize;
            next += 1;
            let (x, y) = (p % nx, p / nx);
            for row in y.saturating_sub(1)..=y + 1 {
                let (from, to) = (row * nx + x.saturating_sub(1), row * nx + (x + 1).min(nx - 1));
                let first = pixels.partition_point(|q| (*q as usize) < from);
                for i in (first..pixels.len()).take_while(|&i| pixels[i] as usize <= to) {
                    if !std::mem::replace(&mut seen[i], true) {
                        region.push(i);
                    }
                }
            }
        }
        // As moments go by the pixels in order, they do not depend on the way here.
        region.sort_unstable();
        let places: Vec<[usize; 2]> =
            region.iter().map(|&i| [pixels[i] as usize / nx, pixels[i] as usize % nx]).collect();
        if places.len() as f64 >= least || filled(&places) as f64 >= least {
            out.push(Ellipse::of(&places));
        }
    }
    out
}

/// Pixels of a region and of its holes: what of the box around it cannot be reached
/// from outside (corners count).
fn filled(places: &[[usize; 2]]) -> usize {
    let ends = |axis: usize| {
        let all = places.iter().map(|p| p[axis]);
        (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
    };
    let ((y0, y1), (x0, x1)) = (ends(0), ends(1));
    // With a border of one pixel.
    let (rows, columns) = (y1 - y0 + 3, x1 - x0 + 3);
    let mut closed = vec![false; rows * columns];
    places.iter().for_each(|p| closed[(p[0] - y0 + 1) * columns + p[1] - x0 + 1] = true);
    let (mut outside, mut queue) = (1, vec![0usize]);
    closed[0] = true;
    while let Some(p) = queue.pop() {
        let (y, x) = (p / columns, p % columns);
        for row in y.saturating_sub(1)..(y + 2).min(rows) {
            for column in x.saturating_sub(1)..(x + 2).min(columns) {
                let q = row * columns + column;
                if !std::mem::replace(&mut closed[q], true) {
                    outside += 1;
                    queue.push(q);
                }
            }
        }
    }
    rows * columns - outside
}

impl Ellipse {
    fn of(places: &[[usize; 2]]) -> Ellipse {
        let n = places.len() as f64;
        let centre = [0, 1].map(|a| places.iter().map(|p| p[a] as f64).sum::<f64>() / n);
        let moment = |a: usize, b: usize| {
            let of = |p: &[usize; 2]| (p[a] as f64 - centre[a]) * (p[b] as f64 - centre[b]);
            places.iter().map(of).sum::<f64>() / n
        };
        let (yy, xx, xy) = (moment(0, 0), moment(1, 1), moment(0, 1));
        let (mean, half) = ((yy + xx) / 2.0, ((yy - xx) / 2.0).hypot(xy));
        let angle = if half > 0.0 { 0.5 * (2.0 * xy).atan2(yy - xx) } else { 0.0 };
        // By way of degrees and within half a turn, as stcal has it: of a pixel on the rim
        // itself the last bit decides.
        let angle = angle.to_degrees().to_radians().rem_euclid(std::f64::consts::PI);
        let axis = |moment: f64| 4.0 * moment.max(0.0).sqrt() - 1.0;
        Ellipse {
            centre,
            major: axis(mean + half),
            minor: axis(mean - half),
            along: [angle.cos(), angle.sin()],
        }
    }

    /// Distances along the two axes.
    fn place(&self, from: [f64; 2], at: [f64; 2]) -> [f64; 2] {
        let [dy, dx] = [at[0] - from[0], at[1] - from[1]];
        [dy * self.along[0] + dx * self.along[1], dy * self.along[1] - dx * self.along[0]]
    }

    fn holds(&self, at: [f64; 2]) -> bool {
        let [a, b] = self.place(self.centre, at);
        (2.0 * a / self.major).powi(2) + (2.0 * b / self.minor).powi(2) <= 1.0
    }

    /// Pixels of a frame within an ellipse of these full axes about the centre pixel.
    fn drawn(&self, major: f64, minor: f64, ny: usize, nx: usize) -> Vec<usize> {
        let whole = |v: f64| v.round_ties_even();
        let (a, b, from) = (whole(major / 2.0), whole(minor / 2.0), self.centre.map(whole));
        if a <= 0.0 || b <= 0.0 {
            return Vec::new();
        }
        let reach = |axis: usize, n: usize| {
            ((from[axis] - a.max(b)).max(0.0) as usize)..((from[axis] + a.max(b)) as usize + 1).min(n)
        };
        let mut out = Vec::new();
        for y in reach(0, ny) {
            for x in reach(1, nx) {
                let [u, v] = self.place(from, [y as f64, x as f64]);
                if (u / a).powi(2) + (v / b).powi(2) < 1.0 {
                    out.push(y * nx + x);
                }
            }
        }
        out
    }
}

/// Pixels to flag.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Marked {
    /// (pixel, read of the exposure) of jumps.
    pub(super) jumps: BTreeSet<(u32, u32)>,
    /// (pixel, read of the exposure) from which on the ramp is saturated.
    pub(super) saturated: BTreeSet<(u32, u32)>,
    /// Snowballs.
    pub(super) events: usize,
}

/// Shape of an exposure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) ramps: usize,
    pub(super) reads: usize,
    pub(super) ny: usize,
    pub(super) nx: usize,
    /// Seconds from read to read, on average.
    pub(super) step: f64,
}

/// Flags the snowballs. `jumps` gives the jumping pixels (ascending) of a read of the
/// exposure, `saturated` the first saturated read of each pixel in a ramp
/// (`u16::MAX`: none), which grows with the cores.
pub(super) fn flag(
    step: &Jump,
    shape: Shape,
    jumps: &dyn Fn(usize) -> Vec<u32>,
    saturated: &mut [Vec<u16>],
) -> Marked {
    let Shape { ramps, reads, ny, nx, .. } = shape;
    let most = f64::from(step.max_extended_radius);
    let edge = f64::from(step.edge_size);
    let mut out = Marked::default();
    let mut cores: BTreeSet<usize> = BTreeSet::new();
    for ramp in 0..ramps {
        if step.mask_snowball_core_next_int {
            let masked = (step.snowball_time_masked_next_int / shape.step + 1e-6) as usize;
            for read in 1..masked.min(reads) {
                out.jumps.extend(cores.iter().map(|p| (*p as u32, (ramp * reads + read) as u32)));
            }
        }
        cores.clear();
        let first = &mut saturated[ramp];
        let mut new: Vec<Vec<u32>> = vec![Vec::new(); reads];
        for (p, k) in first.iter().enumerate().filter(|(_, k)| (1..reads).contains(&usize::from(**k))) {
            new[usize::from(*k)].push(p as u32);
        }
        for read in 1..reads {
            let k = (ramp * reads + read) as u32;
            // Without those that a core has grown over.
            let still = |first: &[u16], read: usize| -> Vec<u32> {
                new[read].iter().copied().filter(|p| usize::from(first[*p as usize]) == read).collect()
            };
            let mut jumping = jumps(k as usize);
            jumping.retain(|p| usize::from(first[*p as usize]) > read);
            let mut events = regions(&jumping, nx, step.min_jump_area);
            if step.sat_required_snowball {
                let own = regions(&still(first, read), nx, step.min_sat_area);
                let next = if read + 1 < reads { still(first, read + 1) } else { Vec::new() };
                let next = regions(&next, nx, step.min_sat_area);
                let near = |c: f64, n: usize| c < edge || c > n as f64 - edge;
                events.retain(|e| {
                    near(e.centre[0], ny)
                        || near(e.centre[1], nx)
                        || own.iter().chain(&next).any(|core| e.holds(core.centre))
                });
                for core in own.iter().filter(|c| c.minor > step.min_sat_radius_extend) {
                    let wider = |axis: f64| (axis + f64::from(step.sat_expand)).min(most);
                    for p in core.drawn(wider(core.major), wider(core.minor), ny, nx) {
                        if usize::from(first[p]) > read {
                            first[p] = read as u16;
                            out.saturated.insert((p as u32, k));
                        }
                    }
                    cores.extend(core.drawn(core.major, core.minor, ny, nx));
                }
            }
            out.events += events.len();
            for event in &events {
                let more = (step.expand_factor - 1.0) * event.minor;
                let (major, minor) = ((event.major + more).min(most), (event.minor + more).min(most));
                // Rounded to whole radii, as they are drawn.
                let whole = |axis: f64| 2.0 * (axis / 2.0).round_ties_even();
                let around = event.drawn(whole(major), whole(minor), ny, nx);
                let around = around.into_iter().filter(|p| usize::from(first[*p]) > read);
                out.jumps.extend(around.map(|p| (p as u32, k)));
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "snowballs_tests.rs"]
mod tests;
