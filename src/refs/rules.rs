//! What a reference must have in common with an exposure, by type.

use crate::datamodel::Meta;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    Detector,
    Instmode,
    Filter,
    Pupil,
    Grating,
    Scale,
    Readmode,
    Subarray,
}

/// How strictly a key is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// Reference and exposure say the same.
    Same(Key),
    /// They do not contradict each other: what one leaves out, fits.
    Agree(Key),
    /// As `Agree`, and FULL in the reference fits all: a part is taken out of it.
    Within(Key),
}

use Key::{Detector, Filter, Grating, Instmode, Pupil, Readmode, Scale, Subarray};
use Rule::{Agree, Same, Within};

/// What must match, by type. The imager's sky does not turn on GRATING and SCALE,
/// which only a spectrograph's header has to state.
pub(super) fn rules(reftype: &str, instmode: &str) -> &'static [Rule] {
    match reftype {
        "flat" => &[Same(Detector), Same(Filter), Agree(Pupil), Within(Subarray)],
        "sky" if instmode == "IMG" => {
            &[Same(Detector), Agree(Instmode), Same(Filter), Agree(Pupil), Within(Subarray)]
        }
        "sky" => {
            &[Same(Detector), Same(Instmode), Same(Filter), Same(Grating), Agree(Scale), Within(Subarray)]
        }
        "lenspx" | "wavemap" | "dispersion" => {
            &[Agree(Detector), Agree(Instmode), Same(Filter), Same(Grating), Agree(Scale), Agree(Subarray)]
        }
        // A dark is a rate: another READMODE is second choice, not refused.
        "dark" => &[Same(Detector), Within(Subarray)],
        _ => &[Same(Detector), Agree(Readmode), Within(Subarray)],
    }
}

impl Key {
    fn keyword(self) -> &'static str {
        match self {
            Detector => "DETECTOR",
            Instmode => "INSTMODE",
            Filter => "FILTER",
            Pupil => "PUPIL",
            Grating => "GRATING",
            Scale => "SCALE",
            Readmode => "READMODE",
            Subarray => "SUBARRAY",
        }
    }

    /// Whether a reference says that it is for any value.
    fn is_any(self, reference: &Meta) -> bool {
        let text = match self {
            Filter => &reference.filter,
            Grating => &reference.grating,
            Instmode => &reference.instmode,
            _ => return false,
        };
        text.trim().eq_ignore_ascii_case("ANY")
    }

    /// The value in capitals; empty for "says nothing". An exposure or reference
    /// without SUBARRAY says nothing in a reference and FULL in an exposure.
    fn value(self, meta: &Meta) -> String {
        let text = match self {
            Detector => &meta.detector,
            Instmode => &meta.instmode,
            Filter => &meta.filter,
            Pupil => &meta.pupil,
            Grating => &meta.grating,
            Readmode => &meta.readmode,
            Subarray => &meta.subarray,
            Scale => return meta.scale.map_or(String::new(), |s| format!("{s:.4}")),
        };
        let text = text.trim().to_ascii_uppercase();
        // Windows without a name of their own are told apart by where they lie.
        if self == Subarray && text == "CUSTOM" {
            return format!("CUSTOM at {},{}", meta.substart.0, meta.substart.1);
        }
        if matches!(text.as_str(), "ANY" | "N/A" | "GENERIC") { String::new() } else { text }
    }
}

/// Whether the exposure is a subarray, and the reference a frame that has no values where
/// subarrays were read.
fn holes(exposure: &Meta, reference: &Meta) -> bool {
    exposure.subarrid > 0 && reference.holes
}

impl Rule {
    fn key(self) -> Key {
        match self {
            Same(key) | Agree(key) | Within(key) => key,
        }
    }

    /// The rule's keyword with what the exposure says; `None` where it says nothing.
    pub(super) fn said_by(self, exposure: &Meta) -> Option<String> {
        let value = self.key().value(exposure);
        (!value.is_empty()).then(|| format!("{} = {value}", self.key().keyword()))
    }

    pub(super) fn holds(self, exposure: &Meta, reference: &Meta) -> bool {
        let key = self.key();
        let (mut e, r) = (key.value(exposure), key.value(reference));
        if key == Subarray && e.is_empty() {
            e = "FULL".into();
        }
        match self {
            Same(_) => e == r || key.is_any(reference),
            Agree(_) => e.is_empty() || r.is_empty() || e == r,
            Within(_) if holes(exposure, reference) => false,
            Within(_) => Agree(key).holds(exposure, reference) || r == "FULL",
        }
    }

    /// Whether the reference has the rule's keyword.
    pub(super) fn is_said(self, reference: &Meta) -> bool {
        !self.key().value(reference).is_empty()
    }

    /// What the reference says where it breaks the rule, and what it should.
    pub(super) fn broken(self, exposure: &Meta, reference: &Meta) -> String {
        if matches!(self, Within(_)) && holes(exposure, reference) {
            return "SUBARR_MAP: its subarrays were read apart, it has no values there".into();
        }
        let says = self.key().value(reference);
        let says = if says.is_empty() { "nothing".to_owned() } else { says };
        format!("{} is {says}, not {}", self.key().keyword(), self.wanted(exposure))
    }

    pub(super) fn wish(self, exposure: &Meta) -> String {
        format!("{} = {}", self.key().keyword(), self.wanted(exposure))
    }

    /// The value that a reference must have, in words.
    fn wanted(self, exposure: &Meta) -> String {
        let value = self.key().value(exposure);
        let value = match (value.is_empty(), self.key()) {
            (true, Subarray) => "FULL",
            (true, _) => "(the exposure does not say)",
            _ => value.as_str(),
        };
        let or = match self {
            Within(_) if exposure.subarrid > 0 => " or FULL (with values in its window)",
            Within(_) if value != "FULL" => " or FULL",
            _ => "",
        };
        format!("{value}{or}")
    }
}
