//! The cache on this machine: where mappings and references lie, and which context
//! applies.
//!
//! `$CRDS_PATH/mappings/<observatory>/*.{pmap,imap,rmap}`,
//! `$CRDS_PATH/references/<observatory>/[<instrument>/]*.fits`,
//! `$CRDS_PATH/config/<observatory>/server_config`. The context is the one asked
//! for, else CRDS_CONTEXT, else the one that server_config names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::condition::{condition, quoted};
use super::lexer::MAX_BYTES;
use super::literal::{Literal, alone, entry};
use super::mapping::{Body, Mapping, Rules, parse};
use super::selector::Values;
use super::{Answer, Facts};
use crate::datamodel::{Meta, keyword_of};
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::refs::canonical_reftype;

/// Keywords that name the instrument, after the context's own.
const INSTRUMENT: [&str; 5] =
    ["INSTRUME", "META.INSTRUMENT.NAME", "META_INSTRUMENT_NAME", "INSTRUMENT", "META.INSTRUMENT.TYPE"];

/// Observatories whose contexts cannot have IRIS.
const OTHERS: [&str; 3] = ["hst", "jwst", "roman"];

/// A context of CRDS and the cache that it lies in.
#[derive(Debug)]
pub struct Crds {
    context: String,
    folders: Folders,
    root: Root,
    instruments: Mutex<BTreeMap<String, Result<Arc<Instrument>, String>>>,
    warnings: Mutex<Warnings>,
}

#[derive(Debug, Default)]
struct Warnings {
    checksums: BTreeSet<String>,
    others: BTreeSet<String>,
}

#[derive(Debug)]
struct Folders {
    observatory: String,
    /// Searched in turn.
    mappings: Vec<PathBuf>,
    references: Option<PathBuf>,
    /// Whether references lie in a folder an instrument.
    by_instrument: bool,
}

#[derive(Debug)]
enum Root {
    Pipeline {
        parkey: String,
        files: BTreeMap<String, String>,
    },
    /// A mapping of one instrument, or of one type alone.
    One(Arc<Instrument>),
}

/// The mappings of an instrument.
#[derive(Debug)]
pub(super) struct Instrument {
    types: BTreeMap<String, Type>,
    /// What any of its rules looks at.
    parkeys: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) enum Type {
    Rules(Rules),
    NotApplicable,
    Omitted,
    /// The mapping cannot be read, and why.
    Broken(String),
}

/// What a look-up found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The answer.
    pub answer: Answer,
    /// The mapping that gave it; empty where it came to none.
    pub mapping: String,
    /// Conditions of the mapping that were passed over, as sentences.
    pub warnings: Vec<String>,
}

/// What CRDS has for a step.
#[derive(Debug, Clone, PartialEq)]
pub enum FromCrds {
    /// The file, and why.
    File(PathBuf, String),
    /// The type does not apply, as a phrase.
    NotApplicable(String),
    /// There is none, as a phrase.
    Nothing(String),
}

impl Crds {
    /// The CRDS that the environment (and a context asked for) sets up; `None` where
    /// it sets up none, or one of an observatory that has no IRIS.
    pub fn open(asked: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Crds>> {
        let set = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        if asked.is_some_and(|a| a.eq_ignore_ascii_case("none")) {
            return Ok(None);
        }
        let (asked, by) = match (asked.map(str::to_owned), set("CRDS_CONTEXT")) {
            (Some(asked), _) => (Some(asked), "--context"),
            (None, context) => (context, "CRDS_CONTEXT"),
        };
        let file = asked.as_ref().map(PathBuf::from).filter(|f| f.is_file());
        let root = set("CRDS_PATH").map(PathBuf::from);
        if root.is_none() && file.is_none() {
            return match by {
                "--context" => Err(Error::Usage(format!(
                    "--context {}: there is no such file; for a context of a CRDS cache set CRDS_PATH to the \
                     cache's folder",
                    asked.unwrap_or_default()
                ))),
                _ => Ok(None),
            };
        }
        let observatory = observatory(asked.as_deref(), &set, root.as_deref());
        if by != "--context" && OTHERS.contains(&observatory.as_str()) {
            return Ok(None);
        }
        let place = |variable: &str, folder: &str| {
            let own = set(variable).map(PathBuf::from);
            own.or_else(|| root.as_ref().map(|r| r.join(folder))).map(|p| p.join(&observatory))
        };
        let (mappings, config) = (place("CRDS_MAPPATH", "mappings"), place("CRDS_CFGPATH", "config"));
        let tag = config.as_ref().map(|c| c.join("ref_cache_subdir_mode"));
        let mode = set("CRDS_REF_SUBDIR_MODE")
            .or_else(|| tag.and_then(|t| std::fs::read_to_string(t).ok()))
            .unwrap_or_default();
        let beside = file.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let folders = Folders {
            mappings: beside.into_iter().chain(mappings).collect(),
            references: place("CRDS_REFPATH", "references"),
            by_instrument: mode.trim() == "instrument",
            observatory,
        };
        let context = match (file.as_deref().and_then(Path::file_name), asked) {
            (Some(name), _) => name.to_string_lossy().into_owned(),
            (None, Some(asked)) => folders.known(&asked, by)?,
            (None, None) => folders.operational(config.as_deref())?,
        };
        Crds::of(context, folders).map(Some)
    }

    fn of(context: String, folders: Folders) -> Result<Crds> {
        let mut warnings = Warnings::default();
        let body = folders.mapping(&context, &mut warnings)?;
        let root = match body {
            Body::Index { parkey, files, pipeline: true } => Root::Pipeline { parkey, files },
            Body::Index { files, .. } => Root::One(Arc::new(folders.instrument(&files, &mut warnings))),
            Body::Rules(rules) => {
                let types = BTreeMap::from([(rules.filekind.clone(), Type::Rules(*rules))]);
                Root::One(Arc::new(Instrument::of(types)))
            }
        };
        Ok(Crds { context, folders, root, instruments: Mutex::default(), warnings: Mutex::new(warnings) })
    }

    /// The context's name.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The facts of an exposure, by the names of this observatory's mappings: those of
    /// TMT call the detectors of the imager IRIS1 and so on.
    pub fn facts(&self, header: &Header, meta: &Meta) -> Facts {
        let mut facts = super::facts(header, meta);
        if self.folders.observatory == "tmt" {
            for key in ["DETECTOR", "META.INSTRUMENT.DETECTOR"] {
                if let Some(detector) = facts.get_mut(key) {
                    *detector = detector.replacen("IMG", "IRIS", 1);
                }
            }
        }
        facts
    }

    /// What is odd about the mappings read so far, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(warnings) = self.warnings.lock() else { return Vec::new() };
        let mut all: Vec<String> = warnings.others.iter().cloned().collect();
        if !warnings.checksums.is_empty() {
            let names: Vec<&str> = warnings.checksums.iter().map(String::as_str).collect();
            all.push(format!(
                "CRDS: the sha1sum of {} is not that of its text (edited since?): used all the same",
                names.join(", ")
            ));
        }
        all
    }

    /// The reference types of a header's instrument, or why there are none.
    pub fn types(&self, facts: &Facts) -> Result<Vec<String>, String> {
        Ok(self.instrument(facts)?.types.keys().cloned().collect())
    }

    /// What the context answers for a type, called as the context calls it.
    pub fn best(&self, reftype: &str, facts: &Facts) -> Found {
        let reftype = reftype.trim().to_lowercase();
        let none = |answer| Found { answer, mapping: String::new(), warnings: Vec::new() };
        let instrument = match self.instrument(facts) {
            Ok(instrument) => instrument,
            Err(why) => return none(Answer::NotFound(why)),
        };
        match instrument.types.get(&reftype) {
            Some(Type::Rules(rules)) => {
                let outcome = rules.best(&instrument.values(facts));
                Found { answer: outcome.answer, mapping: rules.name.clone(), warnings: outcome.warnings }
            }
            Some(Type::NotApplicable) => none(Answer::NotApplicable),
            Some(Type::Omitted) => none(Answer::Omitted),
            Some(Type::Broken(why)) => none(Answer::NotFound(why.clone())),
            None => none(Answer::NotFound(format!("Unknown reference type {}", quoted(&reftype)))),
        }
    }

    /// The context's name for a type of ours (`nonlin`: NONLINCOEFF), where it has it.
    pub fn type_of(&self, canonical: &str, facts: &Facts) -> Result<Option<String>, String> {
        let instrument = self.instrument(facts)?;
        let same = |t: &&String| canonical_reftype(t).unwrap_or(t.as_str()) == canonical;
        let own = instrument.types.get_key_value(canonical).map(|(name, _)| name);
        Ok(own.or_else(|| instrument.types.keys().find(same)).cloned())
    }

    /// The reference of one of our types that a step would take.
    pub fn reference(&self, canonical: &str, facts: &Facts) -> FromCrds {
        let context = format!("CRDS {}", self.context);
        let none = |why: &str| FromCrds::Nothing(format!("{context}: {why}"));
        let reftype = match self.type_of(canonical, facts) {
            Ok(Some(reftype)) => reftype,
            Ok(None) => return none("it has no such type"),
            Err(why) => return none(&why),
        };
        let found = self.best(&reftype, facts);
        match &found.answer {
            Answer::NotApplicable => FromCrds::NotApplicable(format!("{context}: not applicable (N/A)")),
            Answer::Omitted => none("left out for this exposure"),
            Answer::NotFound(why) => none(&with_keywords(why)),
            answer => match answer.file().map(|name| self.locate(name, facts)) {
                Some(Ok(path)) => FromCrds::File(path, format!("{context}, {}", found.mapping)),
                Some(Err(why)) => none(&why),
                None => none(&format!(
                    "{} gives several files ({answer}): name one with --override",
                    found.mapping
                )),
            },
        }
    }

    /// The rules of a type with the values that they look at.
    pub(super) fn rules<T>(
        &self,
        reftype: &str,
        facts: &Facts,
        look: impl FnOnce(&Rules, &Values) -> T,
    ) -> Option<T> {
        let instrument = self.instrument(facts).ok()?;
        match instrument.types.get(&reftype.trim().to_lowercase()) {
            Some(Type::Rules(rules)) => Some(look(rules, &instrument.values(facts))),
            _ => None,
        }
    }

    /// Where a reference that the context named lies, or what is wrong with it.
    pub fn locate(&self, name: &str, facts: &Facts) -> Result<PathBuf, String> {
        let Some(references) = &self.folders.references else {
            return Err(format!("{name}: set CRDS_PATH to the folder of the CRDS cache"));
        };
        let plain = Path::new(name).file_name().is_some_and(|n| n == Path::new(name).as_os_str());
        if !plain {
            return Err(format!("the mapping names {}, which is not the name of a file", quoted(name)));
        }
        let instrument = self.name_of_instrument(facts).unwrap_or_default().to_lowercase();
        let mut places = vec![references.join(name), references.join(instrument).join(name)];
        if self.folders.by_instrument {
            places.reverse();
        }
        let Some(path) = places.iter().find(|p| p.is_file()) else {
            return Err(format!(
                "{} is not in the cache, and irisgpu fetches nothing: bring it with `crds sync` or by hand",
                places[0].display()
            ));
        };
        match is_pointer(path) {
            true => Err(pointer(path)),
            false => Ok(path.clone()),
        }
    }

    fn name_of_instrument(&self, facts: &Facts) -> Option<String> {
        let own = match &self.root {
            Root::Pipeline { parkey, .. } => Some(parkey.as_str()),
            Root::One(_) => None,
        };
        let said = |key: &str| facts.get(key).map(|v| v.trim()).filter(|v| !v.is_empty());
        let said = own.into_iter().chain(INSTRUMENT).filter_map(said);
        said.map(str::to_uppercase).find(|v| v != "UNDEFINED")
    }

    fn instrument(&self, facts: &Facts) -> Result<Arc<Instrument>, String> {
        let (parkey, files) = match &self.root {
            Root::One(instrument) => return Ok(Arc::clone(instrument)),
            Root::Pipeline { parkey, files } => (parkey, files),
        };
        let name = self.name_of_instrument(facts).ok_or_else(|| {
            format!("Missing {} keyword in header for determining instrument.", quoted(parkey))
        })?;
        let name = name.to_lowercase();
        let Ok(mut known) = self.instruments.lock() else { return Err("interrupted".into()) };
        let instrument = known.entry(name.clone()).or_insert_with(|| {
            let (name, context) = (quoted(&name), quoted(&self.context));
            let file = files.get(&name[1..name.len() - 1]);
            let file = file.ok_or_else(|| format!("Unknown instrument {name} for context {context}"))?;
            let mut warnings = Warnings::default();
            let body = self.folders.mapping(file, &mut warnings).map_err(|e| e.to_string())?;
            let instrument = match body {
                Body::Index { files, .. } => self.folders.instrument(&files, &mut warnings),
                Body::Rules(_) => return Err(format!("{file} is no mapping of an instrument")),
            };
            if let Ok(mut all) = self.warnings.lock() {
                all.checksums.extend(warnings.checksums);
                all.others.extend(warnings.others);
            }
            Ok(Arc::new(instrument))
        });
        instrument.clone()
    }
}

impl Instrument {
    fn of(types: BTreeMap<String, Type>) -> Instrument {
        let rules = types.values().filter_map(|t| match t {
            Type::Rules(rules) => Some(rules),
            _ => None,
        });
        let parkeys = rules.flat_map(|r| r.parkeys.iter().cloned()).collect();
        Instrument { types, parkeys }
    }

    /// A header's values of what the rules look at, as they are compared.
    fn values(&self, facts: &Facts) -> Values {
        let value = |key: &String| {
            let value = facts.get(&key.to_uppercase()).map_or("UNDEFINED", String::as_str);
            (key.clone(), condition(value))
        };
        self.parkeys.iter().map(value).collect()
    }
}

impl Folders {
    /// A context's name as given, where there is such a mapping.
    fn known(&self, name: &str, by: &str) -> Result<String> {
        let mapping = [".pmap", ".imap", ".rmap"].iter().any(|end| name.ends_with(end));
        if mapping && self.find(name).is_some() {
            return Ok(name.to_owned());
        }
        let why = match mapping {
            true => "there is no such mapping",
            false => "this is for the CRDS server to resolve, which irisgpu never asks",
        };
        Err(Error::Config(format!("CRDS: {by} {name}: {why}; {}", self.choices())))
    }

    /// The context that server_config names.
    fn operational(&self, config: Option<&Path>) -> Result<String> {
        let file = config.map(|c| c.join("server_config")).unwrap_or_default();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let literal = alone(&text).ok();
        let named = |key: &str| match &literal {
            Some(Literal::Dict(dict)) => entry(dict, key).and_then(Literal::text).map(str::to_owned),
            _ => None,
        };
        let context = named("operational_context").or_else(|| named("latest_context"));
        match context {
            Some(context) if self.find(&context).is_some() => Ok(context),
            Some(context) => Err(Error::Config(format!(
                "CRDS: {} names {context}, and there is no such mapping; {}",
                file.display(),
                self.choices()
            ))),
            None => {
                Err(Error::Config(format!("CRDS: CRDS_PATH is set, but no context is; {}", self.choices())))
            }
        }
    }

    /// What to do where no context applies.
    fn choices(&self) -> String {
        let folder = self.mappings.last().cloned().unwrap_or_default();
        let mut there: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|n| n.ends_with(".pmap"))
            .collect();
        there.sort();
        let there = match there.as_slice() {
            [] => format!("{} holds no .pmap", folder.display()),
            some => format!("{} holds {}", folder.display(), some[some.len().saturating_sub(5)..].join(", ")),
        };
        format!("{there}; set CRDS_CONTEXT or give --context (none to do without CRDS)")
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let plain = Path::new(name).file_name()?;
        self.mappings.iter().map(|m| m.join(plain)).find(|p| p.is_file())
    }

    /// Reads a mapping by its name.
    fn mapping(&self, name: &str, warnings: &mut Warnings) -> Result<Body> {
        let path = self.find(name).ok_or_else(|| {
            let place = self.mappings.last().cloned().unwrap_or_default();
            Error::input(&place.join(name), "the mapping is not in the CRDS cache")
        })?;
        let text = text_of(&path)?;
        let Mapping { body, warnings: odd, sha1sum } = parse(&path, &text)?;
        warnings.others.extend(odd.into_iter().map(|w| format!("CRDS: {}: {w}", path.display())));
        if sha1sum.as_deref() != Some(checksum(&text).as_str()) {
            warnings.checksums.insert(name.to_owned());
        }
        Ok(body)
    }

    /// The mappings of an instrument; one that cannot be read spoils its type alone.
    fn instrument(&self, files: &BTreeMap<String, String>, warnings: &mut Warnings) -> Instrument {
        let mut types = BTreeMap::new();
        for (reftype, file) in files {
            let found = match file.as_str() {
                "N/A" | "n/a" | "TEMP_N/A" | "temp_n/a" => Type::NotApplicable,
                "OMIT" | "omit" | "TEMP_OMIT" => Type::Omitted,
                file => match self.mapping(file, warnings) {
                    Ok(Body::Rules(rules)) => Type::Rules(*rules),
                    Ok(Body::Index { .. }) => {
                        Type::Broken(format!("{file} has no rules of a reference type"))
                    }
                    Err(e) => Type::Broken(e.to_string()),
                },
            };
            types.insert(reftype.clone(), found);
        }
        Instrument::of(types)
    }
}

/// A message with the keywords of the paths that it names.
fn with_keywords(why: &str) -> String {
    let words = why.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_')));
    let mut named: Vec<String> = words
        .filter(|w| w.starts_with("META."))
        .filter_map(|path| Some(format!("{path} is {}", keyword_of(path)?)))
        .collect();
    named.dedup();
    let why = why.trim();
    if named.is_empty() { why.to_owned() } else { format!("{why} ({})", named.join(", ")) }
}

/// The observatory: CRDS_OBSERVATORY, the first part of the server's name or of the
/// context's, the only one in the cache.
fn observatory(context: Option<&str>, set: &dyn Fn(&str) -> Option<String>, root: Option<&Path>) -> String {
    if let Some(own) = set("CRDS_OBSERVATORY") {
        return own.to_lowercase();
    }
    let mappings = set("CRDS_MAPPATH").map(PathBuf::from).or_else(|| root.map(|r| r.join("mappings")));
    let there = |name: &str| mappings.as_ref().is_some_and(|m| m.join(name).is_dir());
    let file = context.and_then(|c| Path::new(c).file_name()?.to_str());
    let of_context = file.map(|f| f.split(['_', '.']).next().unwrap_or(f).to_lowercase());
    let of_server = set("CRDS_SERVER_URL").and_then(|url| {
        let host = url.split("//").last()?.to_lowercase();
        host.split(['-', '.', '/']).next().map(str::to_owned)
    });
    let said: Vec<String> = of_context.into_iter().chain(of_server).collect();
    if let Some(name) = said.iter().find(|name| there(name) || OTHERS.contains(&name.as_str())) {
        return name.clone();
    }
    let ours = ["ligeriri", "tmt"].into_iter().find(|name| there(name));
    let mut all: Vec<String> = mappings
        .and_then(|m| std::fs::read_dir(m).ok())
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok().filter(|e| e.path().is_dir())?.file_name().into_string().ok())
        .collect();
    match (ours, all.len()) {
        (Some(ours), _) => ours.to_owned(),
        (None, 1) => all.remove(0),
        _ => "ligeriri".to_owned(),
    }
}

/// The text of a mapping.
fn text_of(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size > MAX_BYTES as u64 {
        return Err(Error::input(path, format!("has more than {} MiB: this is no mapping", MAX_BYTES >> 20)));
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::input(path, "is not a text in UTF-8"))?;
    match text.starts_with(POINTER) {
        true => Err(Error::input(path, pointer(path))),
        false => Ok(text.replace("\r\n", "\n")),
    }
}

/// How a file begins that git-LFS left in place of the real one.
const POINTER: &str = "version https://git-lfs";

fn is_pointer(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(POINTER.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == POINTER.as_bytes()
}

fn pointer(path: &Path) -> String {
    format!(
        "{} is a git-LFS pointer, not the file itself: run `git lfs pull` in its repository",
        path.display()
    )
}

/// SHA-1 of a mapping's text without the lines that have `sha1sum` in them.
pub(super) fn checksum(text: &str) -> String {
    let kept: String = text.split_inclusive('\n').filter(|line| !line.contains("sha1sum")).collect();
    sha1_smol::Sha1::from(kept).digest().to_string()
}
