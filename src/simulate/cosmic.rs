//! Cosmic rays: events at random places and times, single pixels or tracks.

use super::philox::{Purpose, Source};
use super::physics::Cosmic;
use super::random::poisson;

/// Charge that a cosmic ray left in a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Column, from 0.
    pub x: u32,
    /// Row, from 0.
    pub y: u32,
    /// Ramp, from 0.
    pub ramp: u32,
    /// The first read that holds the charge, from 0.
    pub read: u32,
    /// Charge, e-.
    pub charge: f32,
}

/// Hits of one read (`when`: exposure, ramp, read), those of the `seconds` since the
/// read before or the reset, ordered by row.
pub(super) fn hits(c: &Cosmic, size: [usize; 2], seed: u64, when: [usize; 3], seconds: f64) -> Vec<Hit> {
    let ([nx, ny], [exposure, ramp, read]) = (size, when);
    let source = Source::new(seed, Purpose::Cosmic, exposure);
    let mut s = source.stream(read as u32, ramp as u32);
    let mean = c.rate * seconds * (nx * ny) as f64 / 1e6;
    let events = poisson(mean, [s.word(), s.word()], &source, 0, read as u32, ramp as u32);
    let mut out = Vec::new();
    for _ in 0..events as u64 {
        let (mut x, mut y) = (s.uniform() * nx as f64, s.uniform() * ny as f64);
        let track = s.uniform() < c.tracks;
        let (angle, along) = (s.uniform() * std::f64::consts::TAU, s.uniform());
        let steps = if track { 1 + (along * c.track_length.min(4096.0)) as u32 } else { 1 };
        let charge = c.charge * (c.charge_spread * s.normal()).exp();
        let (dx, dy) = (angle.cos(), angle.sin());
        // One step a pixel along the longer direction, so that no pixel is hit twice.
        let unit = dx.abs().max(dy.abs());
        for _ in 0..steps {
            if x >= 0.0 && y >= 0.0 && x < nx as f64 && y < ny as f64 {
                let charge = charge.round() as f32;
                out.push(Hit { x: x as u32, y: y as u32, ramp: ramp as u32, read: read as u32, charge });
            }
            x += dx / unit;
            y += dy / unit;
        }
    }
    out.sort_by_key(|h| (h.y, h.x));
    out
}

/// The hits of row `y` among hits ordered by row.
pub(super) fn of_row(hits: &[Hit], y: usize) -> &[Hit] {
    let from = hits.partition_point(|h| (h.y as usize) < y);
    let to = hits.partition_point(|h| h.y as usize <= y);
    &hits[from..to]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_rate_says() {
        let c = Cosmic { rate: 100.0, tracks: 0.0, ..Cosmic::default() };
        let n: usize = (0..50).map(|read| hits(&c, [200, 100], 1, [0, 0, read], 10.0).len()).sum();
        assert!((n as f64 - 1000.0).abs() < 150.0, "{n}");
        let tracks = hits(&Cosmic { tracks: 1.0, ..c }, [200, 100], 1, [0, 0, 0], 10.0);
        assert!(tracks.len() > 40);
        let total: usize = (0..100).map(|y| of_row(&tracks, y).len()).sum();
        assert_eq!(total, tracks.len());
    }
}
