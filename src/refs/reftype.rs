//! Names of reference types, and the fingerprint of a reference file.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};

/// The canonical name of a reference type: REFTYPE in any case, with the synonyms
/// of other pipelines (`nonlincoeff`, `linearity` → `nonlin`; `dq` → `mask`;
/// `superbias` → `bias` …). `None` for a type that is not known.
pub fn canonical_reftype(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "mask" | "dq" | "bpm" => "mask",
        "bias" | "superbias" => "bias",
        "saturation" => "saturation",
        "nonlin" | "nonlincoeff" | "nonlinearity" | "linearity" => "nonlin",
        "gain" => "gain",
        "readnoise" => "readnoise",
        "dark" => "dark",
        "flat" | "flatfield" => "flat",
        "sky" => "sky",
        "lenspx" | "len-spx" | "spx" | "rectmat" => "lenspx",
        "wavemap" => "wavemap",
        "telluric" => "telluric",
        "photom" => "photom",
        "distortion" => "distortion",
        _ => return None,
    })
}

/// The first 16 hexadecimal digits of the file's BLAKE3 hash, for R_* provenance.
pub fn checksum(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(Error::io("read", path))?;
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synonyms() {
        assert_eq!(canonical_reftype("NonLinCoeff "), Some("nonlin"));
        assert_eq!(canonical_reftype("DQ"), Some("mask"));
        assert_eq!(canonical_reftype("superbias"), Some("bias"));
        assert_eq!(canonical_reftype("spam"), None);
    }

    #[test]
    fn checksum_is_blake3() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x");
        std::fs::write(&path, b"").expect("write");
        assert_eq!(checksum(&path).expect("checksum"), "af1349b9f5f9a1a6");
        assert!(checksum(dir.path()).is_err());
    }
}
