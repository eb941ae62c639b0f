//! The parsers of what comes from elsewhere, each on a text or file in memory: what the
//! fuzzers in `fuzz/` call. None may panic, hang, or take memory that its input does not
//! account for.

use std::path::Path;

use crate::config::{Instrument, Recipe};
use crate::datamodel::{Level, Meta, check};
use crate::fits::{Fits, Header};
use crate::{input, night, refs, stpipe};

/// A parser, by the name of its fuzzer and corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("fits", fits),
    ("mapping", |bytes| text(bytes, mapping)),
    ("facts", |bytes| text(bytes, |t| drop(refs::crds::facts_of_json(t)))),
    ("cfg", |bytes| text(bytes, |t| drop(stpipe::parse_cfg(t, Path::new("fuzzed.cfg"))))),
    ("association", |bytes| text(bytes, |t| drop(stpipe::parse_association(t)))),
    ("night", |bytes| text(bytes, |t| drop(night::parse_notes(t, "night.yaml")))),
    ("recipe", |bytes| text(bytes, recipe)),
    ("plan", |bytes| text(bytes, |t| drop(night::from_text(t, "plan.jsonl")))),
];

/// One input to the parser called `name`.
pub fn run(name: &str, bytes: &[u8]) {
    TARGETS.iter().filter(|(n, _)| *n == name).for_each(|(_, parse)| parse(bytes));
}

fn text(bytes: &[u8], parse: impl Fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse(text);
    }
}

fn fits(bytes: &[u8]) {
    let Ok(fits) = Fits::from_bytes(Path::new("fuzzed.fits"), bytes.to_vec()) else { return };
    for hdu in &fits.hdus {
        // What is written is read as the same cards.
        let written = hdu.header.to_bytes();
        let read = Header::parse(&written).map(|(header, _)| header);
        assert_eq!(read.map(|h| h.cards().len()), Some(hdu.header.cards().len()));
        let _ = check(&hdu.header, Level::of(&hdu.header, hdu.shape.len()));
        for n in [hdu.len(), hdu.len().min(100)] {
            let _ = fits.pixels_f32(hdu, 0, n);
            let _ = fits.pixels_u32(hdu, hdu.len() - n, n);
        }
    }
    let _ = Meta::from_header(fits.primary());
    if let [ny, nx] = fits.hdus.last().map_or(&[][..], |h| &h.shape) {
        let _ = input::subarray_map(&fits, (*ny, *nx));
    }
}

fn mapping(text: &str) {
    refs::crds::try_mapping(text);
}

fn recipe(text: &str) {
    let _ = Recipe::from_yaml(text, "fuzzed.yaml");
    let _ = Instrument::from_yaml(text, "fuzzed.yaml");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What parsers look for; a mutation without them seldom gets past the first line.
    const WORDS: [&[u8]; 16] = [
        b"CONTINUE",
        b"END                             ",
        b"NAXIS   = 999",
        b"XTENSION= 'IMAGE   '",
        b"9223372036854775807",
        b"-1",
        b"1e999",
        b"((((((((((((((((",
        b"{{{{{{{{",
        b"[[[[[[[[",
        b"'&'",
        b"\n- ",
        b": ",
        b"UseAfter({",
        b"\xf0\x9f\x94\xad",
        b"../../",
    ];

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            // xorshift64*, Marsaglia 2003 and Vigna 2016.
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
        }

        fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
            let mut bytes = seeds[self.below(seeds.len())].clone();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                match self.below(6) {
                    0 => bytes.truncate(at),
                    1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                    2 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                    3 => {
                        // A card or a line, written over.
                        let word = WORDS[self.below(WORDS.len())];
                        let at = at / 80 * 80;
                        let end = (at + word.len()).min(bytes.len());
                        bytes[at..end].copy_from_slice(&word[..end - at]);
                    }
                    4 => {
                        let end = (at + self.below(200)).min(bytes.len());
                        drop(bytes.drain(at..end));
                    }
                    _ => {
                        let other = &seeds[self.below(seeds.len())];
                        let from = self.below(other.len() + 1);
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[from..]);
                    }
                }
            }
            bytes
        }
    }

    #[test]
    fn parsers_take_whatever_comes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (i, (name, parse)) in TARGETS.iter().enumerate() {
            let folder = std::fs::read_dir(corpus.join(name)).expect("a corpus of each target");
            let mut files: Vec<_> = folder.map(|f| f.expect("file").path()).collect();
            files.sort();
            let seeds: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).expect("seed")).collect();
            assert!(!seeds.is_empty(), "{name}");
            seeds.iter().for_each(|s| parse(s));
            let mut random = Random(0x9e37_79b9_7f4a_7c15 + i as u64);
            (0..4000).for_each(|_| parse(&random.mutate(&seeds)));
        }
    }
}
