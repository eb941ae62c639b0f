//! Names of reference types.

/// The canonical name of a reference type: REFTYPE in any case, with the synonyms
/// of other pipelines (`nonlincoeff`, `linearity` → `nonlin`; `dq` → `mask`;
/// `superbias` → `bias` …). `None` for a type that is not known.
pub fn canonical_reftype(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "mask" | "dq" | "bpm" => "mask",
        "bias" | "superbias" => "bias",
        "saturation" => "saturation",
        "nonlin" | "nonlincoeff" | "nonlinearity" | "linearity" => "nonlin",
        "invlin" | "inverselinearity" => "invlin",
        "ipc" => "ipc",
        "gain" => "gain",
        "readnoise" => "readnoise",
        "dark" => "dark",
        "flat" | "flatfield" => "flat",
        "sky" => "sky",
        "refpix" | "sirskernel" => "refpix",
        "lenspx" | "len-spx" | "spx" | "rectmat" => "lenspx",
        "wavemap" => "wavemap",
        "telluric" => "telluric",
        "photom" => "photom",
        "dispersion" | "idp" => "dispersion",
        "distortion" => "distortion",
        _ => return None,
    })
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
}
