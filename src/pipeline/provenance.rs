//! What made a product: collected while the pipeline runs, written into headers.

use std::path::{Path, PathBuf};

use super::Compat;
use crate::config::Step;
use crate::fits::Header;
use crate::input::SubarrayMap;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ran.
    Complete,
    /// It was left out.
    Skipped,
    /// It could not run.
    Failed,
}

impl Status {
    /// The value of its S_* keyword.
    pub fn text(self) -> &'static str {
        match self {
            Status::Complete => "COMPLETE",
            Status::Skipped => "SKIPPED",
            Status::Failed => "FAILED",
        }
    }
}

/// A step as it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Its S_* keyword.
    pub keyword: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// Its effective parameters, JSON.
    pub parameters: String,
}

/// A reference file as it was used.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRecord {
    /// Canonical type.
    pub reftype: String,
    /// The file.
    pub path: PathBuf,
    /// Of its content.
    pub checksum: String,
    /// Why it was chosen.
    pub why: String,
}

/// Everything that a product's header says about its making.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance {
    /// `cpu`, `vulkan`, `metal` …
    pub engine: String,
    /// The device's name.
    pub device: String,
    /// The telescope, and where it stands (geocentric, m).
    pub site: Option<(String, [f64; 3])>,
    /// Identifies all that decides the product's data.
    pub plan_hash: String,
    /// The night of whose plan it is; empty for named files.
    pub night: String,
    /// Whether a better calibration may still come.
    pub preliminary: bool,
    /// The CRDS context that references came from; empty where none did.
    pub crds_context: String,
    /// The steps in order.
    pub steps: Vec<StepRecord>,
    /// The references.
    pub references: Vec<ReferenceRecord>,
    /// The files it was made from.
    pub inputs: Vec<PathBuf>,
    /// What the user should know, as sentences.
    pub warnings: Vec<String>,
    /// How the device failed at it before, as sentences.
    pub troubles: Vec<String>,
    /// Whose files products are to be, too.
    pub compat: Option<Compat>,
    /// Numbers of the instrument file that stood in for references, as sentences.
    pub defaults: Vec<String>,
    /// Subarrays that were read beside a full frame: products keep them as SUBARR_MAP.
    pub subarrays: Option<SubarrayMap>,
}

impl Provenance {
    /// Whether a step is noted.
    pub fn has(&self, step: &Step) -> bool {
        self.steps.iter().any(|s| s.name == step.name())
    }

    /// Notes a step with its parameters.
    pub fn step(&mut self, step: &Step, status: Status) {
        let parameters = serde_json::to_value(step).ok();
        let parameters = parameters.as_ref().and_then(|v| v.get(step.name())).map(ToString::to_string);
        self.steps.push(StepRecord {
            keyword: step.keyword().to_owned(),
            name: step.name().to_owned(),
            status,
            parameters: parameters.unwrap_or_default(),
        });
    }

    /// Notes a reference.
    pub fn reference(&mut self, reftype: &str, path: &Path, checksum: &str, why: &str) {
        self.references.push(ReferenceRecord {
            reftype: reftype.to_owned(),
            path: path.to_path_buf(),
            checksum: checksum.to_owned(),
            why: why.to_owned(),
        });
    }

    /// Writes the keywords into a primary header: DRSVER, ENGINE, S_, R_ and C_ …
    pub fn keywords(&self, h: &mut Header) {
        let version = env!("CARGO_PKG_VERSION");
        h.set("DRSVER", format!("irisgpu {version}"), "data reduction software");
        let mut set = |keyword: &str, value: &str, comment: &str| {
            if !value.is_empty() {
                h.set(keyword, value, comment);
            }
        };
        set("ENGINE", &self.engine, "what computed it");
        set("DEVICE", &self.device, "on which device");
        set("IGPLAN", &self.plan_hash, "hash of all that decides the data");
        set("IGNIGHT", &self.night, "of the plan of this night (hash of its folder)");
        set("CRDS_CTX", &self.crds_context, "CRDS context of the references");
        for s in &self.steps {
            set(&s.keyword, s.status.text(), &format!("step {}", s.name));
        }
        // The dark is gone, whichever step it was; dark_sub then does nothing more.
        if self.steps.iter().any(|s| s.name == "dark_ramp" && s.status == Status::Complete) {
            set("S_DARK", Status::Complete.text(), "by dark_ramp");
        }
        for r in &self.references {
            let keyword = reference_keyword(&r.reftype);
            let comment = format!("reference: {}", r.reftype);
            set(&keyword, &file_name(&r.path), &comment);
            set(&keyword.replacen('R', "C", 1), &r.checksum, "its checksum");
        }
        if self.preliminary {
            h.set("IGPRELIM", true, "preliminary: a better calibration may come");
        }
    }

    /// Writes OBSGEO-X, -Y and -Z, unless the header is of another telescope.
    fn place(&self, h: &mut Header) {
        let Some((telescope, place)) = &self.site else { return };
        if h.text("TELESCOP").is_none_or(|t| t.eq_ignore_ascii_case(telescope)) {
            for (axis, metres) in ["X", "Y", "Z"].iter().zip(place) {
                let metres = (metres * 1000.0).round() / 1000.0;
                h.set_default(&format!("OBSGEO-{axis}"), metres, "[m] geocentric place of the telescope");
            }
        }
    }

    /// Writes all of it into a primary header: the keywords, the place and the HISTORY.
    pub fn write(&self, h: &mut Header) {
        self.keywords(h);
        self.place(h);
        let version = env!("CARGO_PKG_VERSION");
        let mut history = |text: String| h.history(&ascii(&text));
        for s in &self.steps {
            history(format!("irisgpu {version} {} {} {}", s.name, s.status.text(), s.parameters));
        }
        for r in &self.references {
            let why = if r.why.is_empty() { String::new() } else { format!(": {}", r.why) };
            history(format!("reference {}: {} ({}){why}", r.reftype, r.path.display(), r.checksum));
        }
        self.inputs.iter().for_each(|i| history(format!("{INPUT}{}", file_name(i))));
        self.defaults.iter().for_each(|d| history(format!("default: {d}")));
        self.troubles.iter().for_each(|t| history(format!("warning: {t}")));
        self.warnings.iter().for_each(|w| history(format!("warning: {w}")));
    }
}

/// How HISTORY of an input begins.
const INPUT: &str = "input: ";

/// The names of the files that a product was made of, as [`recorded_name`] has them: its
/// own, not those that its input's HISTORY brought.
pub fn recorded_inputs(h: &Header) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    let (mut within, mut continued) = (false, false);
    for text in h.cards().iter().filter(|c| c.keyword == "HISTORY").map(|c| c.comment.trim_end()) {
        if let Some(name) = text.strip_prefix(INPUT) {
            if !within {
                own.clear();
            }
            own.push(name.to_owned());
            within = true;
        } else if continued {
            own.iter_mut().last().into_iter().for_each(|name| name.push_str(text));
        } else {
            within = false;
        }
        // A line that is full goes on in the next.
        continued = within && text.len() == 72;
    }
    own
}

/// A file's name as HISTORY has it, which takes ASCII alone.
pub fn recorded_name(path: &Path) -> String {
    let plain = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    ascii(&file_name(path)).chars().map(plain).collect::<String>().trim_end().to_owned()
}

/// Signs that sentences like, as FITS can write them.
fn ascii(text: &str) -> String {
    [("—", "-"), ("–", "-"), ("×", "x"), ("σ", "sigma"), ("µ", "u"), ("²", "^2"), ("’", "'"), ("…", "...")]
        .iter()
        .fold(text.to_owned(), |t, (sign, plain)| t.replace(sign, plain))
}

/// Whether two headers name the same file, by its content, as their reference.
pub fn same_reference(a: &Header, b: &Header, reftype: &str) -> bool {
    let keyword = reference_keyword(reftype).replacen('R', "C", 1);
    matches!((a.text(&keyword), b.text(&keyword)), (Some(a), Some(b)) if a == b && !a.is_empty())
}

/// `R_DARK` of `dark`; the names that the observatory fixed, else the type's own
/// first six letters. The checksum is under the same name with C in front.
pub fn reference_keyword(reftype: &str) -> String {
    let name = match reftype {
        "readnoise" => "READNO",
        "saturation" => "SATURA",
        "linearity" | "nonlincoeff" => "NONLIN",
        "wavemap" => "WAVMAP",
        // R_DISPER is JWST's disperser.
        "dispersion" => "IDP",
        "telluric" => "TELLUR",
        "persistence" => "PERSAT",
        "dq" => "MASK",
        other => other,
    };
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).take(6).collect::<String>().to_ascii_uppercase();
    format!("R_{name}")
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DarkSub, Step};

    #[test]
    fn everything_is_in_the_header() {
        let mut p = Provenance { engine: "cpu".into(), ..Default::default() };
        p.step(&Step::DarkSub(DarkSub::default()), Status::Complete);
        p.reference("dark", Path::new("/a/b/d.fits"), "blake3:12", "nearest");
        p.reference("nonlincoeff", Path::new("n.fits"), "", "");
        p.warnings.push("a warning".into());
        let mut h = Header::new();
        p.write(&mut h);
        for (keyword, value) in [
            ("S_DARK", "COMPLETE"),
            ("R_DARK", "d.fits"),
            ("C_DARK", "blake3:12"),
            ("R_NONLIN", "n.fits"),
            ("ENGINE", "cpu"),
        ] {
            assert_eq!(h.text(keyword).as_deref(), Some(value), "{keyword}");
        }
        let history: Vec<_> = h.cards().iter().filter(|c| c.keyword == "HISTORY").collect();
        assert!(
            history[0].comment.ends_with(r#"dark_sub COMPLETE {"skip":false}"#),
            "{}",
            history[0].comment
        );
        assert_eq!(history[3].comment, "warning: a warning");
        assert!(!h.has("C_NONLIN"));
    }

    #[test]
    fn inputs_are_read_back_and_are_its_own() {
        let long = format!("{}.fits", "é long name".repeat(20));
        let inputs: Vec<PathBuf> = vec!["/n/a.fits".into(), long.as_str().into(), "b.fits".into()];
        let p = Provenance { inputs: inputs.clone(), warnings: vec!["w".into()], ..Default::default() };
        let mut h = Header::new();
        // What a frame's own HISTORY says is not an input of the product.
        for text in ["input: other.fits", "reference flat: f.fits"] {
            h.history(text);
        }
        p.write(&mut h);
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.fits");
        let mut w = crate::fits::FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        w.finish().expect("finish");
        let fits = crate::fits::Fits::open(&path).expect("open");
        let names: Vec<String> = inputs.iter().map(|p| recorded_name(p)).collect();
        assert_eq!(recorded_inputs(fits.primary()), names);
        assert!(recorded_inputs(&Header::new()).is_empty());
    }

    #[test]
    fn what_is_written_is_in_the_registry() {
        use crate::datamodel::registry::entry;
        for name in Step::NAMES {
            let step = Step::with_defaults(name).expect(name);
            assert!(entry(step.keyword()).is_some(), "{} of {name}", step.keyword());
        }
        for reftype in crate::refs::REFTYPES {
            let keyword = reference_keyword(reftype);
            assert!(entry(&keyword).is_some(), "{keyword} of {reftype}");
        }
        for keyword in ["DRSVER", "ENGINE", "DEVICE", "IGPLAN", "IGNIGHT", "IGPRELIM", "CRDS_CTX", "OBSGEO-X"]
        {
            assert!(entry(keyword).is_some(), "{keyword}");
        }
    }

    #[test]
    fn reference_keywords_are_the_observatory_s() {
        for (reftype, keyword) in [
            ("saturation", "R_SATURA"),
            ("readnoise", "R_READNO"),
            ("lenspx", "R_LENSPX"),
            ("mask", "R_MASK"),
        ] {
            assert_eq!(reference_keyword(reftype), keyword);
        }
    }
}
