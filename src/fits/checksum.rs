//! The 32-bit ones-complement checksum of the FITS convention.

use crate::simd::widest;

/// Adds `bytes` (big-endian 32-bit words, a short tail padded with zeros) to a
/// running sum. Sums of parts that start at multiples of four bytes may be
/// combined in any order with [`combine`].
pub(crate) fn accumulate(sum: u32, bytes: &[u8]) -> u32 {
    let mut total = u64::from(sum);
    let (words, tail) = bytes.as_chunks::<4>();
    for block in words.chunks(1 << 24) {
        total += total_of(block);
        total = (total & 0xffff_ffff) + (total >> 32);
    }
    if !tail.is_empty() {
        let mut word = [0; 4];
        word[..tail.len()].copy_from_slice(tail);
        total += u64::from(u32::from_be_bytes(word));
    }
    fold(total)
}

widest! {
    fn total_of(words: &[[u8; 4]]) -> u64 = sum_of
}

#[inline(always)]
fn sum_of(words: &[[u8; 4]]) -> u64 {
    words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum()
}

/// Ones-complement sum of two checksums.
pub(crate) fn combine(a: u32, b: u32) -> u32 {
    fold(u64::from(a) + u64::from(b))
}

fn fold(mut total: u64) -> u32 {
    while total >> 32 != 0 {
        total = (total & 0xffff_ffff) + (total >> 32);
    }
    total as u32
}

/// The 16 characters that make an HDU whose sum without them is `sum` add up to
/// all ones (the convention's ASCII encoding of the complement).
pub(crate) fn encode(sum: u32) -> String {
    const EXCLUDED: [u8; 13] = [0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0x60];
    let value = !sum;
    let mut text = [0u8; 16];
    for (i, byte) in value.to_be_bytes().into_iter().enumerate() {
        let mut four = [byte / 4 + b'0'; 4];
        four[0] += byte % 4;
        while four.iter().any(|c| EXCLUDED.contains(c)) {
            for pair in [0, 2] {
                if EXCLUDED.contains(&four[pair]) || EXCLUDED.contains(&four[pair + 1]) {
                    four[pair] += 1;
                    four[pair + 1] -= 1;
                }
            }
        }
        for (j, c) in four.into_iter().enumerate() {
            text[4 * j + i] = c;
        }
    }
    text.rotate_right(1);
    text.iter().map(|&c| c as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_conventions_own_example() {
        // FITS checksum convention, appendix: 868229149 encodes to hcHjjc9ghcEghc9g.
        assert_eq!(encode(868_229_149), "hcHjjc9ghcEghc9g");
    }

    #[test]
    fn parts_combine_to_the_whole() {
        let bytes: Vec<u8> = (0..4001).map(|i| (i * 37 % 251) as u8).collect();
        let whole = accumulate(0, &bytes);
        let parts = combine(accumulate(0, &bytes[2000..]), accumulate(0, &bytes[..2000]));
        assert_eq!(whole, parts);
    }
}
