//! The cache on this machine: where mappings and references lie, and which context
//! applies.
//!
//! `$CRDS_PATH/mappings/<observatory>/*.{pmap,imap,rmap}`,
//! `$CRDS_PATH/references/<observatory>/[<instrument>/]*.fits`,
//! `$CRDS_PATH/config/<observatory>/server_config`. The context is the one asked
//! for, else CRDS_CONTEXT, else the one that server_config names.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::condition::quoted;
use super::lexer::MAX_BYTES;
use super::literal::{Literal, alone, entry};
use super::mapping::{Body, Mapping, parse};
use crate::error::{Error, Result};

/// Observatories whose contexts cannot have IRIS.
const OTHERS: [&str; 3] = ["hst", "jwst", "roman"];

/// What is odd about mappings.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// Names of mappings whose checksum is not that of their text.
    pub(super) checksums: BTreeSet<String>,
    /// Sentences.
    pub(super) others: BTreeSet<String>,
}

/// Where things lie.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) observatory: String,
    /// Searched in turn.
    mappings: Vec<PathBuf>,
    references: Option<PathBuf>,
    /// Whether references lie in a folder an instrument.
    by_instrument: bool,
}

impl Cache {
    /// The cache and the context that the environment (and a context asked for) set up;
    /// `None` where they set up none, or one of an observatory that has no IRIS.
    pub(super) fn open(
        asked: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<(Cache, String)>> {
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
        let cache = Cache {
            mappings: beside.into_iter().chain(mappings).collect(),
            references: place("CRDS_REFPATH", "references"),
            by_instrument: mode.trim() == "instrument",
            observatory,
        };
        let context = match (file.as_deref().and_then(Path::file_name), asked) {
            (Some(name), _) => name.to_string_lossy().into_owned(),
            (None, Some(asked)) => cache.known(&asked, by)?,
            (None, None) => cache.operational(config.as_deref())?,
        };
        Ok(Some((cache, context)))
    }

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
    pub(super) fn mapping(&self, name: &str, warnings: &mut Warnings) -> Result<Body> {
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
    /// Where a reference lies, or what is wrong with it.
    pub(super) fn locate(&self, name: &str, instrument: &str) -> Result<PathBuf, String> {
        let Some(references) = &self.references else {
            return Err(format!("{name}: set CRDS_PATH to the folder of the CRDS cache"));
        };
        if Path::new(name).file_name() != Some(Path::new(name).as_os_str()) {
            return Err(format!("the mapping names {}, which is not the name of a file", quoted(name)));
        }
        let mut places = [references.join(name), references.join(instrument).join(name)];
        if self.by_instrument {
            places.reverse();
        }
        let Some(path) = places.iter().find(|p| p.is_file()) else {
            return Err(format!(
                "{} is not in the cache, and irisgpu fetches nothing: bring it there with the CRDS client, or by hand",
                places[0].display()
            ));
        };
        match is_pointer(path) {
            true => Err(pointer(path)),
            false => Ok(path.clone()),
        }
    }
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
