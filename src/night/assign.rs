//! References for a recipe, and what to do where there is none.
//!
//! | reference | without it |
//! |---|---|
//! | mask, saturation, gain, readnoise, nonlin | the pipeline takes the instrument file's value, or skips, and warns |
//! | bias, sky | a warning; its step is skipped |
//! | dark | a set (flats, skies, scans): a warning, the step is skipped. One exposure: an error, unless a sky of the same EXPTIME and READMODE, which kept its dark too, takes it away, or the user skips the step |
//! | flat, lenspx, refpix | an error for this exposure, unless the user skips the step |
//! | wavemap, dispersion | nothing is said: lenspx has wavelengths of its own, channels stay where they are. A wavemap further in time than the lenspx is not taken |
//!
//! Where CRDS says that a type does not apply to an exposure (N/A), the step that
//! reads nothing else is skipped.
//!
//! A sky frame that kept its dark current is never subtracted from an exposure
//! that lost its own: [`assign`] is told which ones those are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{Overrides, Recipe, RefpixAlgorithm, Step, Takes};
use crate::datamodel::Meta;
use crate::refs::crds::{Crds, Facts};
use crate::refs::{Candidate, Found, choose, find, middle};

/// A reference that was looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Picked {
    /// Canonical type.
    pub reftype: &'static str,
    /// The file; `None` where none applies.
    pub path: Option<PathBuf>,
    /// Why this one, or why none and what is done without.
    pub reason: String,
    /// What is doubtful about it, as sentences.
    pub doubts: Vec<String>,
    /// Whether CRDS gave it, or said that none applies.
    pub crds: bool,
}

impl Picked {
    /// The reason, as a warning where there is no file.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.reftype, self.reason)
    }
}

/// A recipe with its references.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// The recipe; steps that must do without their reference are skipped in it.
    pub recipe: Recipe,
    /// What its steps look for, in the order of the steps.
    pub picked: Vec<Picked>,
    /// What pipeline steps outside the recipe may use (stage 1 before a recipe that
    /// begins at rates, ERR of raw science frames): taken where there is one.
    pub also: Vec<Picked>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Assigned {
    /// Whether CRDS gave any of it.
    pub fn asked_crds(&self) -> bool {
        self.picked.iter().chain(&self.also).any(|p| p.crds)
    }

    /// The chosen files by type.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let all = self.picked.iter().chain(&self.also);
        all.filter_map(|p| Some((p.reftype.to_owned(), p.path.clone()?))).collect()
    }
}

/// What stage 1 uses.
const STAGE1: [&str; 7] = ["mask", "saturation", "bias", "nonlin", "invlin", "gain", "readnoise"];

/// The references that a step reads.
fn needs(step: &Step) -> &'static [&'static str] {
    match step {
        Step::DqInit(_) => &["mask"],
        Step::Saturation(_) => &["saturation"],
        Step::Bias(_) => &["bias"],
        Step::Ipc(_) => &["ipc"],
        Step::Refpix(s) if s.refpix_algorithm == RefpixAlgorithm::Sirs => &["refpix"],
        Step::Linearity(_) => &["nonlin"],
        Step::Jump(_) | Step::RampFit(_) => &["gain", "readnoise"],
        Step::BadPixels(_) => &["gain"],
        Step::DarkRamp(_) | Step::DarkSub(_) => &["dark"],
        Step::FlatField(_) => &["flat"],
        Step::Background(_) | Step::SkySub(_) => &["sky"],
        Step::Extract(_) | Step::CubeBuild(_) => &["lenspx"],
        _ => &[],
    }
}

/// The references that a step is better with.
fn may_use(step: &Step) -> &'static [&'static str] {
    match step {
        Step::Extract(_) => &["wavemap"],
        Step::CubeBuild(c) if c.dispersion => &["wavemap", "dispersion"],
        Step::CubeBuild(_) => &["wavemap"],
        _ => &[],
    }
}

/// Why a wavemap is not taken: the wavelengths of the lenspx are nearer in time.
fn older(found: &Picked, picked: &[Picked], meta: &Meta, candidates: &[Candidate]) -> bool {
    let of = |p: &Picked| candidates.iter().find(|c| Some(&c.path) == p.path.as_ref());
    let lenspx = picked.iter().find(|p| p.reftype == "lenspx");
    let (Some(map), Some(spx)) = (of(found), lenspx.and_then(of)) else { return false };
    let distance = |c: &Candidate| Some((middle(&c.meta)? - middle(meta)?).abs());
    let by_hand = map.origin.by_hand();
    !by_hand && matches!((distance(map), distance(spx)), (Some(a), Some(b)) if a > b)
}

/// The steps that read references of this type and no other.
pub fn steps_that_need(reftype: &str) -> Vec<&'static str> {
    let all = Step::NAMES.iter().filter_map(|name| Step::with_defaults(name));
    all.filter(|s| needs(s) == [reftype]).map(|s| s.name()).collect()
}

/// What stands in for a reference that is not there; `None` where nothing can.
fn without(reftype: &str) -> Option<&'static str> {
    match reftype {
        "mask" => Some("no pixel is known to be bad"),
        "saturation" => Some("the instrument file's level is used"),
        "nonlin" => Some("the detector is taken as linear"),
        "gain" | "readnoise" => Some("the instrument file's value is used"),
        "bias" => Some("the bias is not subtracted"),
        "ipc" => Some("what pixels share of their signal stays shared"),
        "sky" => Some("no sky is subtracted"),
        _ => None,
    }
}

/// Chooses the references of `recipe` for an exposure (or for a set, by the facts
/// that its members share). `dark_kept`: sky frames whose dark was not subtracted.
/// `crds`: who is asked where no candidate applies, with the facts to ask by.
pub fn assign(
    recipe: &Recipe,
    meta: &Meta,
    candidates: &[Candidate],
    dark_kept: &BTreeSet<PathBuf>,
    crds: Option<(&Crds, &Facts)>,
) -> Result<Assigned, String> {
    let mut wanted: Vec<&'static str> = Vec::new();
    for reftype in recipe.steps.iter().filter(|s| !s.skip()).flat_map(needs) {
        if !wanted.contains(reftype) {
            wanted.push(reftype);
        }
    }
    let look = |reftype: &'static str, from: &[Candidate], crds| {
        let Found { path, reason, doubts, crds } = find(reftype, meta, from, crds);
        Picked { reftype, path, reason, doubts, crds }
    };
    let pick = |reftype: &'static str, from: &[Candidate]| look(reftype, from, crds);
    let dark = wanted.contains(&"dark").then(|| pick("dark", candidates));
    let has_dark = dark.as_ref().map(|d| d.path.is_some());
    let skies = usable_skies(candidates, meta, has_dark, dark_kept);
    let mut skipped: BTreeSet<&'static str> = BTreeSet::new();
    let mut warnings = Vec::new();
    let mut picked = Vec::new();
    for reftype in wanted {
        let mut found = match (&dark, reftype) {
            (Some(dark), "dark") => dark.clone(),
            // CRDS cannot tell a sky that kept its dark.
            (_, "sky") if has_dark == Some(false) => look(reftype, &skies, None),
            (_, "sky") => pick(reftype, &skies),
            _ => pick(reftype, candidates),
        };
        if reftype == "sky"
            && !found.crds
            && found.path.is_none()
            && let Some(unlike) = choose("sky", meta, candidates)
        {
            found.reason = other_dark(&unlike.path, has_dark == Some(true));
        }
        let alone: Vec<&str> =
            recipe.steps.iter().filter(|s| needs(s) == [reftype]).map(Step::name).collect();
        if found.path.is_none() && found.crds && !alone.is_empty() && reftype != "lenspx" {
            found.reason = format!("{}; {} is skipped", found.reason, alone.join(", "));
            skipped.extend(recipe.steps.iter().map(Step::name).filter(|name| alone.contains(name)));
        } else if found.path.is_none() {
            let instead = match (reftype, without(reftype)) {
                ("dark", _) => {
                    let sky = choose("sky", meta, &skies).map(|c| c.path);
                    let cancels = |c: &&Candidate| Some(&c.path) == sky.as_ref() && keeps(c, meta, dark_kept);
                    without_dark(recipe, skies.iter().any(|c| cancels(&c)), &found.reason)?
                }
                (_, Some(instead)) => instead,
                (_, None) => return Err(missing(recipe, reftype, &found.reason)),
            };
            found.reason = format!("{}; {instead}", found.reason);
            // Of the others' stand-ins the pipeline warns, with their values.
            if matches!(reftype, "dark" | "sky" | "ipc") || (reftype == "bias" && meta.level < Some(1)) {
                warnings.push(found.sentence());
            }
            if matches!(reftype, "dark" | "bias" | "sky" | "ipc") {
                let idle = recipe.steps.iter().filter(|s| needs(s) == [reftype]);
                skipped.extend(idle.map(Step::name));
            }
        }
        warnings.extend(found.doubts.iter().cloned());
        picked.push(found);
    }
    let made = recipe.master();
    let better: Vec<&'static str> =
        recipe.steps.iter().filter(|s| !s.skip()).flat_map(may_use).copied().collect();
    for reftype in ["wavemap", "dispersion"].into_iter().filter(|t| better.contains(t)) {
        // What a recipe makes it makes without one of before, and a wavemap is of lenspx alone.
        if made == Some(reftype) || made == Some("wavemap") {
            continue;
        }
        let found = pick(reftype, candidates);
        if found.path.is_none() || (reftype == "wavemap" && older(&found, &picked, meta, candidates)) {
            continue;
        }
        warnings.extend(found.doubts.iter().cloned());
        picked.push(found);
    }
    // Sky frames become level-2 images too, flat-fielded where there is a flat. A sky is
    // subtracted from a flat-fielded image as if before the flat, which takes that flat.
    let subtracts_sky = recipe.steps.iter().any(|s| !s.skip() && matches!(s, Step::Background(_)));
    let flat = (recipe.name == "sky" || subtracts_sky).then_some("flat");
    let also = STAGE1.into_iter().chain(flat).filter(|t| picked.iter().all(|p| p.reftype != *t));
    let also = also.map(|t| pick(t, candidates)).filter(|p| p.path.is_some()).collect();
    let mut recipe = skip(recipe.clone(), &skipped)?;
    if skipped.contains("dark_sub") && recipe.takes == Takes::One {
        let fixed = BTreeMap::from([("scaling".to_owned(), "fixed".to_owned())]);
        recipe =
            recipe.with(&Overrides::from([("background".to_owned(), fixed)])).map_err(|e| e.to_string())?;
    }
    Ok(Assigned { recipe, picked, also, warnings })
}

/// Skies that go with an exposure that has (or has not) a dark: both must have
/// lost their dark current, or both kept the same. A sky that says nothing about
/// it is taken to have lost it; one given by hand is taken whatever it says (the pipeline
/// warns). `has_dark` is `None` where the recipe subtracts no dark.
fn usable_skies(
    candidates: &[Candidate],
    meta: &Meta,
    has_dark: Option<bool>,
    dark_kept: &BTreeSet<PathBuf>,
) -> Vec<Candidate> {
    let usable = |c: &&Candidate| match has_dark {
        _ if c.origin.by_hand() => true,
        None => true,
        Some(true) => !dark_kept.contains(&c.path),
        Some(false) => keeps(c, meta, dark_kept),
    };
    candidates.iter().filter(|c| c.reftype == "sky").filter(usable).cloned().collect()
}

/// Whether a sky kept the dark current that an exposure has.
fn keeps(sky: &Candidate, exposure: &Meta, dark_kept: &BTreeSet<PathBuf>) -> bool {
    dark_kept.contains(&sky.path) && same_exposure(exposure, &sky.meta)
}

/// Why a sky is not for an exposure, which loses its dark current or keeps it.
fn other_dark(sky: &Path, loses: bool) -> String {
    let sky = sky.display();
    match loses {
        true => format!(
            "{sky} still has its dark current (S_DARK = SKIPPED), which the exposure loses: make it with a dark, or \
             give it with --override_sky"
        ),
        false => format!(
            "{sky} has lost its dark current, or that of another EXPTIME or READMODE stayed in it, and the exposure \
             keeps its own"
        ),
    }
}

/// Whether two frames collected the same dark current: same EXPTIME, same READMODE.
fn same_exposure(a: &Meta, b: &Meta) -> bool {
    let same_time = match (a.exptime, b.exptime) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-3 * a.abs(),
        _ => false,
    };
    same_time && a.readmode == b.readmode
}

/// How `recipe` does without a dark, or why it cannot.
fn without_dark(recipe: &Recipe, sky_has_it: bool, why: &str) -> Result<&'static str, String> {
    if recipe.takes == Takes::Set {
        return Ok("the dark current stays in");
    }
    let subtracts_whole_sky = recipe.steps.iter().filter(|s| !s.skip()).any(|s| match s {
        // Its level is then not measured: only a sky subtracted whole takes the dark away.
        Step::Background(b) => b.scale == 1.0,
        // Scaled lines scale the dark current under them too.
        Step::SkySub(s) => s.scale == 1.0 && !s.oh_scaling,
        _ => false,
    });
    if subtracts_whole_sky && sky_has_it {
        return Ok("the sky of the same EXPTIME and READMODE takes it away");
    }
    Err(missing(recipe, "dark", why))
}

fn missing(recipe: &Recipe, reftype: &str, why: &str) -> String {
    let step = recipe.steps.iter().find(|s| !s.skip() && needs(s).contains(&reftype));
    let step = step.map_or("", Step::name);
    let take = match reftype {
        "dark" => "take darks of this READMODE",
        "flat" => "take flats in this FILTER",
        "lenspx" => "take LEN-SPX scans in this mode",
        _ => "make one",
    };
    format!(
        "{step} needs a {reftype}, and there is none ({why}); {take}, put a {reftype} in refs/, give \
         --override_{reftype}=FILE, or leave the step out with --steps.{step}.skip=true"
    )
}

/// The recipe without these steps.
pub(super) fn skip(recipe: Recipe, names: &BTreeSet<&'static str>) -> Result<Recipe, String> {
    let yes = || BTreeMap::from([("skip".to_owned(), "true".to_owned())]);
    let overrides: Overrides = names.iter().map(|n| ((*n).to_owned(), yes())).collect();
    recipe.with(&overrides).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::Origin;

    fn science() -> Meta {
        Meta {
            detector: "IMG1".into(),
            instmode: "IMG".into(),
            filter: "K".into(),
            readmode: "UTR".into(),
            exptime: Some(100.0),
            jd: Some(1.0),
            ..Meta::default()
        }
    }

    fn have(reftype: &str, meta: Meta) -> Candidate {
        Candidate {
            path: reftype.into(),
            reftype: reftype.into(),
            meta,
            origin: Origin::ThisNight,
            useafter: None,
            version: Vec::new(),
        }
    }

    fn skips(a: &Assigned, step: &str) -> bool {
        a.recipe.steps.iter().any(|s| s.name() == step && s.skip())
    }

    #[test]
    fn a_science_frame_needs_a_dark_or_a_sky_that_kept_the_same_one() {
        let imager = Recipe::built_in("imager").expect("imager");
        let none = BTreeSet::new();
        let kept = BTreeSet::from([PathBuf::from("sky")]);
        let all = vec![have("flat", science()), have("sky", science())];
        let sentence = assign(&imager, &science(), &all, &none, None).expect_err("no dark");
        assert!(
            sentence.contains("dark_sub needs a dark") && sentence.contains("--steps.dark_sub.skip=true")
        );
        let a = assign(&imager, &science(), &all, &kept, None).expect("cancelled by the sky");
        assert!(skips(&a, "dark_sub") && !skips(&a, "background"));
        let other = Meta { exptime: Some(50.0), ..science() };
        assert!(assign(&imager, &other, &all, &kept, None).is_err());
        // With a dark of its own, the sky that kept its dark is of no use.
        let all = [all, vec![have("dark", science())]].concat();
        let a = assign(&imager, &science(), &all, &kept, None).expect("dark");
        assert!(skips(&a, "background") && !skips(&a, "dark_sub"));
        let a = assign(&imager, &science(), &all, &none, None).expect("dark and sky");
        assert_eq!(a.paths().len(), 3);
        assert!(!skips(&a, "background"));
    }

    #[test]
    fn defaults_are_warnings_and_what_has_none_is_an_error() {
        let imager = Recipe::built_in("imager").expect("imager");
        let dark = [have("dark", science())];
        let sentence = assign(&imager, &science(), &dark, &BTreeSet::new(), None).expect_err("no flat");
        assert!(sentence.contains("flat_field needs a flat"), "{sentence}");
        let flat = Recipe::built_in("flat").expect("flat");
        let a = assign(&flat, &science(), &[], &BTreeSet::new(), None).expect("a set does without");
        assert!(skips(&a, "dark_sub") && skips(&a, "bias") && !skips(&a, "linearity"));
        assert_eq!(a.warnings.len(), 2, "{:?}", a.warnings);
        assert!(a.picked.iter().any(|p| p.reason.ends_with("the instrument file's value is used")));
        let lenslet = Recipe::built_in("lenslet").expect("lenslet");
        let ifu = Meta { detector: "IFU".into(), instmode: "LENSLET".into(), ..science() };
        let dark = [have("dark", ifu.clone())];
        let sentence = assign(&lenslet, &ifu, &dark, &BTreeSet::new(), None).expect_err("no lenspx");
        assert!(sentence.contains("extract needs a lenspx"), "{sentence}");
    }

    #[test]
    fn what_the_user_skips_needs_nothing() {
        let mut o = Overrides::new();
        for step in ["dark_sub", "flat_field"] {
            o.entry(step.into()).or_default().insert("skip".into(), "true".into());
        }
        let imager = Recipe::built_in("imager").expect("imager").with(&o).expect("with");
        let a = assign(&imager, &science(), &[have("gain", science())], &BTreeSet::new(), None)
            .expect("assigned");
        assert!(a.picked.iter().all(|p| p.reftype != "dark"));
        assert_eq!(a.paths().keys().collect::<Vec<_>>(), ["gain"]);
    }
}
