//! A context of CRDS: which mapping an exposure's instrument and a reference type
//! have, and what its rules say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::cache::{Cache, Warnings};
use super::condition::{condition, quoted};
use super::mapping::{Body, Rules};
use super::selector::Values;
use super::{Answer, Facts};
use crate::datamodel::{Meta, keyword_of};
use crate::error::Result;
use crate::fits::Header;
use crate::refs::canonical_reftype;

/// Keywords that name the instrument, after the context's own.
const INSTRUMENT: [&str; 5] =
    ["INSTRUME", "META.INSTRUMENT.NAME", "META_INSTRUMENT_NAME", "INSTRUMENT", "META.INSTRUMENT.TYPE"];

/// A context of CRDS and the cache that it lies in.
#[derive(Debug)]
pub struct Crds {
    context: String,
    cache: Cache,
    root: Root,
    instruments: Mutex<BTreeMap<String, Result<Arc<Instrument>, String>>>,
    warnings: Mutex<Warnings>,
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
    Rules(Box<Rules>),
    NotApplicable,
    Omitted,
    /// The mapping cannot be read, and why.
    Broken(String),
}

/// What a look-up found.
#[derive(Debug, Clone)]
pub struct LookedUp {
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
        match Cache::open(asked, env)? {
            Some((cache, context)) => Crds::of(context, cache).map(Some),
            None => Ok(None),
        }
    }

    fn of(context: String, cache: Cache) -> Result<Crds> {
        let mut warnings = Warnings::default();
        let body = cache.mapping(&context, &mut warnings)?;
        let root = match body {
            Body::Index { parkey, files, pipeline: true } => Root::Pipeline { parkey, files },
            Body::Index { files, .. } => Root::One(Arc::new(Instrument::read(&files, &cache, &mut warnings))),
            Body::Rules(rules) => {
                let types = BTreeMap::from([(rules.filekind.clone(), Type::Rules(rules))]);
                Root::One(Arc::new(Instrument::of(types)))
            }
        };
        Ok(Crds { context, cache, root, instruments: Mutex::default(), warnings: Mutex::new(warnings) })
    }

    /// The context's name.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The facts of an exposure, by the names of this observatory's mappings: those of
    /// TMT call the detectors of the imager IRIS1 and so on.
    pub fn facts(&self, header: &Header, meta: &Meta) -> Facts {
        let mut facts = super::facts(header, meta);
        if self.cache.observatory == "tmt" {
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
    pub fn best(&self, reftype: &str, facts: &Facts) -> LookedUp {
        let reftype = reftype.trim().to_lowercase();
        let none = |answer| LookedUp { answer, mapping: String::new(), warnings: Vec::new() };
        let instrument = match self.instrument(facts) {
            Ok(instrument) => instrument,
            Err(why) => return none(Answer::NotFound(why)),
        };
        match instrument.types.get(&reftype) {
            Some(Type::Rules(rules)) => {
                let outcome = rules.best(&instrument.values(facts));
                LookedUp { answer: outcome.answer, mapping: rules.name.clone(), warnings: outcome.warnings }
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
        self.cache.locate(name, &self.name_of_instrument(facts).unwrap_or_default().to_lowercase())
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
            let body = self.cache.mapping(file, &mut warnings).map_err(|e| e.to_string())?;
            let instrument = match body {
                Body::Index { files, .. } => Instrument::read(&files, &self.cache, &mut warnings),
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
    /// The mappings of an instrument; one that cannot be read spoils its type alone.
    fn read(files: &BTreeMap<String, String>, cache: &Cache, warnings: &mut Warnings) -> Instrument {
        let mut types = BTreeMap::new();
        for (reftype, file) in files {
            let found = match file.as_str() {
                "N/A" | "n/a" | "TEMP_N/A" | "temp_n/a" => Type::NotApplicable,
                "OMIT" | "omit" | "TEMP_OMIT" => Type::Omitted,
                file => match cache.mapping(file, warnings) {
                    Ok(Body::Rules(rules)) => Type::Rules(rules),
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

    fn of(types: BTreeMap<String, Type>) -> Instrument {
        let rules = types.values().filter_map(|t| match t {
            Type::Rules(rules) => Some(rules.as_ref()),
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
