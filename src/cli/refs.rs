//! `refs`: which reference applies, and why the others do not.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::args::{Refs, RefsVerb, Sources};
use super::exit::Exit;
use super::families::Families;
use super::{options, print};
use crate::error::{Error, Result};
use crate::night::{self, Exposure, References};
use crate::refs::crds::{Crds, Facts, facts_of_json};
use crate::refs::{REFTYPES, canonical_reftype, explain, find};
use crate::report::Table;

/// Runs `refs`.
pub(super) fn refs(args: &Refs, families: &Families) -> Result<Exit> {
    match &args.verb {
        RefsVerb::Best { file, reftype, from } => {
            best(&Asked::new(file.as_deref(), from, families)?, reftype, from.json)
        }
        RefsVerb::Explain { what, reftype, from } => {
            let (file, reftype) = match (what.as_slice(), reftype, &from.header) {
                ([file, reftype], None, None) | ([file], Some(reftype), None) => {
                    (Some(Path::new(file)), reftype)
                }
                ([reftype], None, Some(_)) => (None, reftype),
                ([], Some(reftype), Some(_)) => (None, reftype),
                _ => {
                    return Err(Error::Usage(
                        "give an exposure (or --header FILE) and one reference type: refs explain x.fits dark"
                            .into(),
                    ));
                }
            };
            explained(&Asked::new(file, from, families)?, reftype, from.json)
        }
    }
}

/// An exposure, or its facts alone, and all that may be its reference.
struct Asked {
    /// `None` where a JSON header stands for it.
    exposure: Option<Exposure>,
    /// As CRDS sees it.
    facts: Facts,
    references: References,
}

/// The answer for one type: what a step takes.
struct Taken {
    reftype: String,
    file: Option<PathBuf>,
    why: String,
    doubts: Vec<String>,
}

impl Asked {
    fn new(file: Option<&Path>, from: &Sources, families: &Families) -> Result<Asked> {
        let beside = file.and_then(Path::parent).map(|p| p.join("refs")).unwrap_or_default();
        let folders = match file {
            Some(_) => options::reference_folders(&from.refs, beside),
            None => from.refs.clone(),
        };
        let references = options::references(&folders, &from.masters, families, from.context.as_deref())?;
        let crds = references.crds.as_deref();
        match (file, &from.header) {
            (Some(file), _) => {
                if !file.is_file() {
                    return Err(Error::Usage(format!("{}: there is no such file", file.display())));
                }
                let mut scan = night::read_files(&[file.to_path_buf()]);
                if let Some(problem) = scan.problems.pop() {
                    return Err(Error::input(file, problem.sentence));
                }
                let exposure = scan.exposures.pop();
                let facts = crds.zip(exposure.as_ref()).map(|(c, e)| c.facts(&e.header, &e.meta));
                Ok(Asked { exposure, facts: facts.unwrap_or_default(), references })
            }
            (None, Some(header)) => {
                let text = std::fs::read_to_string(header).map_err(Error::io("read", header))?;
                let wrong = |why: String| Error::Usage(format!("--header {}: {why}", header.display()));
                let facts = facts_of_json(&text).map_err(wrong)?;
                if crds.is_none() {
                    return Err(wrong(
                        "needs CRDS: set CRDS_PATH to the folder of its cache, or name a mapping with --context"
                            .into(),
                    ));
                }
                Ok(Asked { exposure: None, facts, references })
            }
            (None, None) => Err(Error::Usage("give an exposure, or --header FILE".into())),
        }
    }

    fn crds(&self) -> Option<&Crds> {
        self.references.crds.as_deref()
    }

    /// What `run` would take.
    fn taken(&self, reftype: &'static str) -> Option<Taken> {
        let meta = &self.exposure.as_ref()?.meta;
        let crds = self.crds().map(|crds| (crds, &self.facts));
        let found = find(reftype, meta, &self.references.candidates, crds);
        Some(Taken { reftype: reftype.to_owned(), file: found.path, why: found.reason, doubts: found.doubts })
    }
}

/// The canonical name of a type that steps use.
fn in_use(reftype: &str) -> Option<&'static str> {
    canonical_reftype(reftype).filter(|t| REFTYPES.contains(t))
}

fn best(asked: &Asked, only: &[String], as_json: bool) -> Result<Exit> {
    let mut warnings = asked.references.warnings.clone();
    let mut taken: Vec<Taken> = match only {
        [] => REFTYPES.iter().filter_map(|t| asked.taken(t)).collect(),
        some => some.iter().filter_map(|t| asked.taken(in_use(t)?)).collect(),
    };
    warnings.extend(taken.iter().flat_map(|t| t.doubts.clone()));
    let mut answers = Map::new();
    if let Some(crds) = asked.crds() {
        let types = match only {
            [] => crds.types(&asked.facts).unwrap_or_else(|why| {
                warnings.push(format!("CRDS {}: {why}", crds.context()));
                Vec::new()
            }),
            some => some.iter().map(|t| t.trim().to_lowercase()).collect(),
        };
        for reftype in types {
            let found = crds.best(&reftype, &asked.facts);
            warnings.extend(found.warnings);
            if asked.exposure.is_none() || in_use(&reftype).is_none() {
                let place = found.answer.file().map(|name| crds.locate(name, &asked.facts));
                let file = place.as_ref().and_then(|p| p.as_ref().ok()).cloned();
                let place = place.and_then(Result::err).map_or(String::new(), |why| format!("; {why}"));
                let why = format!("{} {}: {}{place}", crds.context(), found.mapping, found.answer);
                taken.push(Taken { reftype: reftype.clone(), file, why, doubts: Vec::new() });
            }
            answers.insert(reftype, found.answer.json());
        }
        warnings.extend(crds.warnings());
    }
    if as_json {
        let references: Vec<Value> =
            taken.iter().map(|t| json!({"reftype": t.reftype, "file": t.file, "reason": t.why})).collect();
        print::json(&json!({
            "context": asked.crds().map(Crds::context),
            "best": answers,
            "references": references,
            "warnings": warnings,
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["TYPE", "FILE", "WHY"]);
    for t in &taken {
        let file = t.file.as_ref().map_or("none".to_owned(), |f| f.display().to_string());
        table.row([t.reftype.clone(), file, t.why.clone()]);
    }
    print::out(&table.to_string())?;
    warnings.iter().for_each(|w| print::note(&format!("warning: {w}")));
    Ok(Exit::Done)
}

fn explained(asked: &Asked, reftype: &str, as_json: bool) -> Result<Exit> {
    let mut table = Table::new(&["", "SOURCE", "FILE", "KEYS", "WHY"]);
    let mut rows = Vec::new();
    let mut add = |chosen: bool, source: &str, file: &str, keys: &str, why: &str| {
        table.row([if chosen { "*" } else { "" }, source, file, keys, why]);
        rows.push(json!({"chosen": chosen, "source": source, "file": file, "keys": keys, "why": why}));
    };
    let canonical = in_use(reftype);
    let mut found = false;
    if let Some((exposure, canonical)) = asked.exposure.as_ref().zip(canonical) {
        for verdict in explain(canonical, &exposure.meta, &asked.references.candidates) {
            let candidate = verdict.candidate;
            found |= verdict.chosen;
            let path = candidate.path.display().to_string();
            add(verdict.chosen, &candidate.origin.to_string(), &path, "", &verdict.why);
        }
    }
    let mut answer = None;
    let mut warnings = asked.references.warnings.clone();
    warnings.extend(canonical.and_then(|c| asked.taken(c)).into_iter().flat_map(|t| t.doubts));
    if let Some(crds) = asked.crds() {
        let own = canonical.filter(|_| asked.exposure.is_some());
        let name = own.and_then(|c| crds.type_of(c, &asked.facts).ok().flatten());
        let name = name.unwrap_or_else(|| reftype.to_lowercase());
        let best = crds.best(&name, &asked.facts);
        let source = format!("CRDS {}", if best.mapping.is_empty() { crds.context() } else { &best.mapping });
        for e in crds.explain(&name, &asked.facts) {
            // What cannot be taken, `plan` and `run` do not take either.
            let file = e.chosen && asked.exposure.is_some() && best.answer.file() == Some(e.file.as_str());
            let place = if file { crds.locate(&e.file, &asked.facts).err() } else { None };
            let why = match &place {
                _ if e.chosen && found => "CRDS's choice; files at hand come first".to_owned(),
                Some(wrong) => format!("{}, but cannot be taken: {wrong}", e.why),
                None => e.why.clone(),
            };
            add(e.chosen && !found && place.is_none(), &source, &e.file, &e.keys, &why);
        }
        warnings.extend(best.warnings.iter().cloned());
        warnings.extend(crds.warnings());
        answer = Some((source, best.answer));
    }
    if as_json {
        let answer = answer.map(|(_, answer)| answer.json());
        print::json(&json!({
            "reftype": reftype,
            "context": asked.crds().map(Crds::context),
            "crds": answer,
            "candidates": rows,
            "warnings": warnings,
        }))?;
        return Ok(Exit::Done);
    }
    if !table.is_empty() {
        print::out(&table.to_string())?;
    }
    if let Some((source, answer)) = answer {
        print::out(&format!("{source}: {answer}\n"))?;
    } else if table.is_empty() {
        print::out(&format!("no {reftype} reference was found, and CRDS is not set up (CRDS_PATH)\n"))?;
    }
    warnings.iter().for_each(|w| print::note(&format!("warning: {w}")));
    Ok(Exit::Done)
}
