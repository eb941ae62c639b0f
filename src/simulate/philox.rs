//! Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror & Shaw
//! (SC'11, "Parallel random numbers: as easy as 1, 2, 3"): the n-th number is a
//! function of the key and n alone, so that bytes do not depend on threads.

/// One block: four uniform 32-bit words from a counter and a key.
#[inline(always)]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(M[0]) * u64::from(c[0]);
        let p1 = u64::from(M[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}

/// What a family of random numbers is for; families never share a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// The noise of a pixel in a read.
    Pixel = 1,
    /// Reset noise of a pixel in a ramp.
    Reset = 2,
    /// Drifts of the electronics.
    Drift = 3,
    /// Cosmic rays.
    Cosmic = 4,
    /// Fixed maps of a detector.
    Map = 5,
    /// The field of stars.
    Stars = 6,
    /// Lenslet positions and throughputs.
    Lenslet = 7,
    /// Ramps of `bench`.
    Bench = 8,
}

/// The generators of one exposure (or detector, or field): a key, and a family
/// number that goes into every counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    key: [u32; 2],
    family: u32,
}

impl Source {
    /// Generators for `purpose`, number `which` (exposure, detector …; < 2²⁴).
    pub(crate) fn new(seed: u64, purpose: Purpose, which: usize) -> Source {
        let family = u32::from(purpose as u8) << 24 | (which as u32 & 0x00ff_ffff);
        Source { key: [seed as u32, (seed >> 32) as u32], family }
    }

    /// The block at (`x`, `y`, `z`): for pixels column, row, and read or draw.
    pub(crate) fn block(&self, x: u32, y: u32, z: u32) -> [u32; 4] {
        philox([x, y, z, self.family], self.key)
    }

    /// A sequence of numbers that begins at (0, `y`, `z`).
    pub(super) fn stream(&self, y: u32, z: u32) -> Stream {
        Stream { source: *self, x: 0, y, z, words: [0; 4], left: 0 }
    }
}

/// Words one after another.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    source: Source,
    x: u32,
    y: u32,
    z: u32,
    words: [u32; 4],
    left: usize,
}

impl Stream {
    /// A stream whose first words are `words` and which goes on at column `x`.
    pub(super) fn after(source: Source, x: u32, y: u32, z: u32, words: [u32; 4], left: usize) -> Stream {
        Stream { source, x, y, z, words, left: left.min(4) }
    }

    /// The next word.
    pub(super) fn word(&mut self) -> u32 {
        if self.left == 0 {
            self.words = self.source.block(self.x, self.y, self.z);
            self.x = self.x.wrapping_add(1);
            self.left = 4;
        }
        self.left -= 1;
        self.words[3 - self.left]
    }

    /// Uniform in the open interval (0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        super::random::unit(self.word())
    }

    /// Standard normal.
    pub(super) fn normal(&mut self) -> f64 {
        super::random::normal(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        // kat_vectors of the Random123 distribution, philox4x32 10.
        let ones = u32::MAX;
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn families_differ() {
        let a = Source::new(1, Purpose::Pixel, 3).block(1, 2, 3);
        assert_ne!(a, Source::new(1, Purpose::Reset, 3).block(1, 2, 3));
        assert_ne!(a, Source::new(1, Purpose::Pixel, 4).block(1, 2, 3));
        assert_ne!(a, Source::new(2, Purpose::Pixel, 3).block(1, 2, 3));
    }
}
