// Pixels of a ramp out of the bytes that the file holds (big-endian words as a
// little-endian machine reads them).

fn swap16(w: u32) -> u32 {
    return ((w & 0x00ff00ffu) << 8u) | ((w >> 8u) & 0x00ff00ffu);
}

fn swap32(w: u32) -> u32 {
    let s = swap16(w);
    return (s << 16u) | (s >> 16u);
}

// The word of the ramp buffer that holds element `at`.
fn word_of(encoding: u32, at: u32) -> u32 {
    return select(at, at >> 1u, encoding < 2u);
}

// Bits of the element as an integer or float of its own type.
fn element_bits(encoding: u32, word: u32, at: u32) -> u32 {
    if encoding < 2u {
        return (swap16(word) >> (16u * (at & 1u))) & 0xffffu;
    }
    if encoding < 4u {
        return swap32(word);
    }
    return word;
}

// Whether the bits stand for 1e18 DN or more, infinity, or no number at all.
fn not_finite(encoding: u32, bits: u32) -> bool {
    return encoding >= 3u && (bits & 0x7fffffffu) >= 0x5d5e0b6bu;
}

// The value; 0 where it is not finite.
fn element_value(encoding: u32, bits: u32) -> f32 {
    if encoding == 0u {
        return f32(bits ^ 0x8000u);
    }
    if encoding == 1u {
        return f32(i32(bits << 16u) >> 16u);
    }
    if encoding == 2u {
        return f32(i32(bits));
    }
    return bitcast<f32>(select(bits, 0u, not_finite(encoding, bits)));
}
