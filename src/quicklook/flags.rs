//! What flags say of a plane, or of planes of a cube.

use std::ops::{Range, RangeInclusive};

use serde_json::{Value, json};

use super::Plane;
use crate::datamodel::dq;
use crate::words::counted;

/// How many pixels of what is shown have flags, and which.
#[derive(Debug)]
pub struct Flagged {
    pixels: usize,
    flagged: usize,
    /// By the flags' names, in order of bits.
    of: Vec<(&'static str, usize)>,
}

impl Flagged {
    /// Of the pixels in `region` (all without) of the planes `planes` of `flags`.
    pub fn of(
        flags: &[u32],
        plane: &Plane,
        region: Option<(Range<usize>, Range<usize>)>,
        planes: Option<RangeInclusive<usize>>,
    ) -> Flagged {
        let size = (plane.nx * plane.ny).max(1);
        let inside = |i: &usize| {
            let (k, x, y) = (i / size, i % size % plane.nx.max(1), i % size / plane.nx.max(1));
            planes.as_ref().is_none_or(|p| p.contains(&k))
                && region.as_ref().is_none_or(|(xs, ys)| xs.contains(&x) && ys.contains(&y))
        };
        let flags: Vec<u32> = (0..flags.len()).filter(inside).map(|i| flags[i]).collect();
        let count = |bits: u32| flags.iter().filter(|f| *f & bits != 0).count();
        let of = dq::NAMES.iter().map(|(bit, name)| (*name, count(1 << bit)));
        Flagged { pixels: flags.len(), flagged: count(u32::MAX), of: of.filter(|(_, n)| *n > 0).collect() }
    }

    /// In words: how many.
    pub fn words(&self) -> String {
        format!("{} of {} with a flag", self.flagged, counted(self.pixels, "pixel"))
    }

    /// And of each flag, behind that.
    pub fn of_each(&self) -> String {
        let of: Vec<String> = self.of.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if of.is_empty() { String::new() } else { format!(": {}", of.join(", ")) }
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let of: serde_json::Map<String, Value> =
            self.of.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect();
        json!({"pixels": self.pixels, "flagged": self.flagged, "of": of})
    }
}
