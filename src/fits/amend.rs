//! A file once more, with other cards in its primary header.

use std::path::Path;

use super::checksum::{accumulate, combine, encode};
use super::{Fits, FitsWriter, Header};
use crate::error::Result;

/// Bytes copied at a time.
const PIECE: usize = 4 << 20;

/// Changes the primary header of `path`: the file is written anew beside itself, all
/// data byte for byte, and renamed, so that whoever reads it sees it whole, before or
/// after. Its CHECKSUM is made anew where it has one. Fails on a file that is cut short.
pub fn amend(path: &Path, change: impl FnOnce(&mut Header)) -> Result<()> {
    let fits = Fits::open(path)?;
    if fits.missing() > 0 {
        return Err(fits.error("", format!("is cut short by {} bytes: make it again", fits.missing())));
    }
    let mut header = fits.primary().clone();
    change(&mut header);
    let data = header.text("DATASUM").and_then(|sum| sum.trim().parse::<u32>().ok());
    if let Some(data) = data.filter(|_| header.has("CHECKSUM")) {
        header.set("CHECKSUM", "0".repeat(16), "HDU checksum");
        let sum = accumulate(0, &header.to_bytes());
        header.set("CHECKSUM", encode(combine(sum, data)), "HDU checksum");
    }
    let writer = FitsWriter::create(path)?;
    let bytes = header.to_bytes();
    writer.put_bytes(0, &bytes)?;
    let (mut from, mut to) = (fits.hdus[0].data_start, bytes.len() as u64);
    let mut piece = vec![0; PIECE];
    loop {
        let n = fits.read_at_most(from, &mut piece)?;
        if n == 0 {
            break;
        }
        writer.put_bytes(to, &piece[..n])?;
        from += n as u64;
        to += n as u64;
    }
    writer.finish().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::Pixels;
    use super::*;

    #[test]
    fn a_card_less_and_the_same_data() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.fits");
        let write = |marked: bool| {
            let mut h = Header::new();
            // A header that fills its block: a card less is a block less.
            (0..29).for_each(|i| h.set(&format!("K{i}"), i, ""));
            if marked {
                h.set("IGPRELIM", true, "");
            }
            let mut w = FitsWriter::create(&path).expect("create");
            w.empty("PRIMARY", &h).expect("primary");
            w.image("DATA", &Header::new(), &[7], Pixels::F32(&[1.5; 7])).expect("data");
            w.finish().expect("finish");
            std::fs::read(&path).expect("read")
        };
        let (marked, plain) = (write(true), write(false));
        assert_ne!(marked.len(), plain.len());
        write(true);
        amend(&path, |h| h.remove("IGPRELIM")).expect("amended");
        assert!(std::fs::read(&path).expect("read") == plain);
        std::fs::write(&path, &marked[..marked.len() - 2880]).expect("cut");
        let sentence = amend(&path, |_| {}).expect_err("cut short").to_string();
        assert!(sentence.contains("is cut short by 28 bytes"), "{sentence}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}
