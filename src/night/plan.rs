//! Tasks out of exposures.
//!
//! Darks make a master for each detector, READMODE and EXPTIME; flats for each
//! detector, FILTER and PUPIL; LEN-SPX scans with the arcs of their mode a lenspx
//! for each FILTER, GRATING and SCALE; skies a master for each of these. Every
//! science exposure is a task of its own. Masters stand before what needs them, so
//! the tasks can be run in order. What has no recipe yet, and what cannot be done,
//! is in the plan too, with the sentence that says so.

use std::path::{Path, PathBuf};

use super::assign::Picked;
use super::before::Before;
use super::build::Builder;
use super::group::{Group, groups};
use super::{Exposure, References, Scan, Settings, read_files};
use crate::config::{Recipe, Takes};
use crate::datamodel::Kind;
use crate::error::{Error, Result};
use crate::pipeline::Job;

/// What becomes of a task.
#[derive(Debug, Clone)]
pub enum Action {
    /// It can be run.
    Run(Box<Job>),
    /// Nothing in irisgpu reduces this yet; why, as a phrase.
    NoRecipe(&'static str),
    /// It cannot be run, as a sentence.
    Refused(String),
}

/// One product of the night, or what stands in its way.
#[derive(Debug, Clone)]
pub struct Task {
    /// The exposure's file, or the set in words.
    pub name: String,
    /// What it is for (as written, where that could not be understood).
    pub obsname: String,
    /// The recipe's name; empty where there is none.
    pub recipe: String,
    /// The files within the night.
    pub files: Vec<String>,
    /// References looked for.
    pub references: Vec<Picked>,
    /// Tasks (all before this one) whose products it reads.
    pub needs: Vec<usize>,
    /// What the user should know beforehand.
    pub warnings: Vec<String>,
    /// What becomes of it.
    pub action: Action,
    /// Whether its product is there already.
    pub up_to_date: bool,
    /// Whether `--only` lets it be done.
    pub asked: bool,
}

impl Task {
    /// The job, if it can be run.
    pub fn job(&self) -> Option<&Job> {
        match &self.action {
            Action::Run(job) => Some(job),
            _ => None,
        }
    }

    /// The planned product, seen from the output folder.
    pub fn product_within(&self) -> String {
        let within = self.job().zip(self.product()).map(|(job, p)| p.strip_prefix(&job.output).unwrap_or(p));
        within.map(|p| p.display().to_string()).unwrap_or_default()
    }

    /// The planned product.
    pub fn product(&self) -> Option<&Path> {
        self.job().and_then(|job| job.product.as_deref())
    }
}

/// The night as tasks, each after those that it needs.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Folder of science products.
    pub output: PathBuf,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What concerns no single task.
    pub warnings: Vec<String>,
}

/// Plans a scanned night.
pub fn plan(scan: &Scan, references: &References, settings: &Settings) -> Result<Plan> {
    if scan.exposures.is_empty() && scan.problems.is_empty() {
        let passed = match scan.ignored.len() {
            0 => String::new(),
            n => format!(
                " ({n} FITS files were passed over: the first, {}, because {})",
                scan.ignored[0].0, scan.ignored[0].1
            ),
        };
        return Err(Error::NothingToReduce(format!("there are no raw FITS files to reduce{passed}")));
    }
    let asked = read_files(&settings.earlier);
    let before = Before::of_night(&scan.exposures, &asked.exposures);
    let mut builder = Builder::new(references, settings, before);
    let of = |kinds: &'static [Kind], channel: fn(&str) -> bool| {
        scan.exposures.iter().filter(move |e| {
            e.obsname.as_ref().is_some_and(|o| kinds.contains(&o.kind) && channel(&o.channel))
        })
    };
    let imager: fn(&str) -> bool = |c| c.starts_with("IMG");
    let lenslet: fn(&str) -> bool = |c| c == "LEN";
    // The slicer and the lenslets share a detector, so their darks are one.
    for group in groups("dark", of(&[Kind::Dark], |_| true)) {
        builder.master("dark", "dark", &group);
    }
    for group in groups("flat", of(&[Kind::Flat], imager)) {
        builder.master("flat", "flat", &group);
    }
    for group in groups("lenspx", of(&[Kind::Spx, Kind::Arc], lenslet)) {
        builder.lenspx(&group);
    }
    for group in groups("sky", of(&[Kind::Sky], |c| c != "SLI")) {
        let lenslet = group.meta.instmode == "LENSLET";
        builder.master(if lenslet { "lenslet_sky" } else { "sky" }, "sky", &group);
    }
    builder.each("imager", &of(&[Kind::Science], imager).collect::<Vec<_>>());
    builder.each("lenslet", &of(&[Kind::Science], lenslet).collect::<Vec<_>>());
    for exposure in &scan.exposures {
        builder.without_recipe(exposure);
    }
    for problem in &scan.problems {
        builder.refuse(
            &problem.name,
            &problem.obsname,
            "",
            vec![problem.name.clone()],
            problem.sentence.clone(),
        );
    }
    let mut plan =
        Plan { output: settings.output.clone(), tasks: builder.tasks, warnings: references.warnings.clone() };
    plan.warnings.extend(asked.problems.iter().map(|p| p.sentence.clone()));
    plan.warnings.extend(references.crds.iter().flat_map(|crds| crds.warnings()));
    plan.keep_only(&settings.only)?;
    Ok(plan)
}

/// Plans one recipe on named files: one task a file, or one for the set.
pub fn of_files(recipe: &Recipe, files: &Scan, references: &References, settings: &Settings) -> Result<Plan> {
    let asked = read_files(&settings.earlier);
    let before = Before::of_files(&files.exposures, &asked.exposures);
    let mut builder = Builder::new(references, settings, before);
    let exposures: Vec<&Exposure> = files.exposures.iter().collect();
    match recipe.takes {
        Takes::One => builder.one_by_one(recipe, &exposures),
        Takes::Set if exposures.is_empty() => {}
        Takes::Set => {
            let group = Group::of(exposures);
            match recipe.master() {
                Some(reftype) => builder.set(recipe, reftype, &group),
                None => builder.combination(recipe, &group),
            }
        }
    }
    for problem in &files.problems {
        builder.refuse(&problem.name, "", &recipe.name, vec![problem.name.clone()], problem.sentence.clone());
    }
    let mut warnings = [files.warnings.as_slice(), &references.warnings].concat();
    warnings.extend(asked.problems.iter().map(|p| p.sentence.clone()));
    warnings.extend(references.crds.iter().flat_map(|crds| crds.warnings()));
    if let (Takes::Set, [one], false) = (recipe.takes, files.exposures.as_slice(), files.warnings.is_empty())
    {
        warnings.push(format!("{} is all that the set holds then: give several exposures", one.name));
    }
    Ok(Plan { output: settings.output.clone(), tasks: builder.tasks, warnings })
}

impl Plan {
    /// Marks what is asked for, and what that needs.
    fn keep_only(&mut self, only: &[String]) -> Result<()> {
        if only.is_empty() {
            return Ok(());
        }
        for i in (0..self.tasks.len()).rev() {
            let task = &self.tasks[i];
            let texts = task.files.iter().chain([&task.name, &task.obsname, &task.recipe]);
            let matched = texts.into_iter().any(|t| only.iter().any(|pattern| matches(pattern, t)));
            let needed = self.tasks[i + 1..].iter().any(|later| later.asked && later.needs.contains(&i));
            self.tasks[i].asked = matched || needed;
        }
        if self.tasks.iter().any(|t| t.asked) {
            return Ok(());
        }
        Err(Error::NothingToReduce(format!(
            "nothing in this night matches --only {} (it is compared with file names, OBSNAME and recipes)",
            only.join(",")
        )))
    }
}

/// Whether `pattern` is a part of `text`, or, with `*`, matches the whole of it;
/// in any case of letters.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return !pattern.is_empty() && text.contains(&pattern);
    };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{frame, planned, reference, settings, write};
    use super::*;

    fn task<'a>(plan: &'a Plan, name: &str) -> &'a Task {
        plan.tasks
            .iter()
            .find(|t| t.name == name)
            .unwrap_or_else(|| panic!("no task {name}: {:?}", names(plan)))
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.tasks.iter().map(|t| t.name.as_str()).collect()
    }

    #[test]
    fn masters_come_first_and_are_told_apart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        for (name, obsname, n) in [
            ("a-sci", "IMG1-SCI", 1),
            ("b-sci", "LEN-SCI", 2),
            ("c-sky", "IMG1-SKY", 3),
            ("d-sky", "LEN-SKY", 4),
            ("e-spx", "LEN-SPX", 5),
            ("f-nff", "IMG1-NFF", 6),
            ("g-drk", "IMG1-DRK", 7),
            ("h-drk", "LEN-DRK", 8),
            ("i-drk", "SLI-DRK", 9),
            ("j-tel", "LEN-TEL", 10),
            ("k-nff", "SLI-NFF", 11),
        ] {
            write(&night.join(format!("{name}.fits")), &frame(obsname, n));
        }
        let mut arc = frame("", 12);
        arc.set("IMTYPE", "ARC", "");
        arc.set("INSTMODE", "LENSLET", "");
        write(&night.join("l-arc.fits"), &arc);
        let mut h_flat = frame("IMG1-NFF", 13);
        h_flat.set("FILTER", "H", "");
        write(&night.join("m-nff.fits"), &h_flat);
        std::fs::write(night.join("n.fits"), "junk").expect("junk");
        let plan = planned(night, &settings(night));
        assert_eq!(
            names(&plan),
            [
                "dark IFU UTR-120s",
                "dark IMG1 UTR-120s",
                "flat IMG1 H",
                "flat IMG1 K",
                "lenspx IFU LENSLET-K-4000-K-9mas",
                "sky IFU LENSLET-K-4000-K-9mas",
                "sky IMG1 K",
                "a-sci.fits",
                "b-sci.fits",
                "j-tel.fits",
                "k-nff.fits",
                "n.fits"
            ]
        );
        assert_eq!(task(&plan, "lenspx IFU LENSLET-K-4000-K-9mas").files, ["e-spx.fits", "l-arc.fits"]);
        assert_eq!(task(&plan, "dark IFU UTR-120s").obsname, "LEN-DRK+SLI-DRK");
        assert_eq!(task(&plan, "a-sci.fits").needs, [1, 3, 6]);
        assert_eq!(task(&plan, "b-sci.fits").needs, [0, 4, 5]);
        assert!(matches!(task(&plan, "j-tel.fits").action, Action::NoRecipe(_)));
        assert!(matches!(task(&plan, "n.fits").action, Action::Refused(_)));
        let product = task(&plan, "a-sci.fits").product().expect("product").to_owned();
        assert_eq!(product, night.join("reduced/2032A-P001-001_IRIS_IMG1_SCI_LVL2_0001.fits"));
        assert!(
            plan.tasks
                .iter()
                .flat_map(|t| t.needs.iter().map(move |n| (n, t)))
                .all(|(n, t)| plan.tasks[*n].name != t.name)
        );
    }

    #[test]
    fn a_missing_reference_refuses_that_exposure_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        write(&night.join("a.fits"), &frame("IMG1-SCI", 1));
        write(&night.join("b.fits"), &frame("IMG2-SCI", 2));
        for reftype in ["dark", "flat"] {
            let mut h = reference(reftype, "IMG1");
            h.set("FILTER", "K", "");
            write(&night.join(format!("refs/{reftype}.fits")), &h);
        }
        let plan = planned(night, &settings(night));
        assert!(task(&plan, "a.fits").job().is_some());
        match &task(&plan, "b.fits").action {
            Action::Refused(s) => assert!(s.contains("1 candidate, none with DETECTOR = IMG2"), "{s}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sky_that_keeps_its_dark_stands_in_for_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        write(&night.join("a.fits"), &frame("IMG1-SCI", 1));
        write(&night.join("b.fits"), &frame("IMG1-SKY", 2));
        let mut flat = reference("flat", "IMG1");
        flat.set("FILTER", "K", "");
        write(&night.join("refs/flat.fits"), &flat);
        let plan = planned(night, &settings(night));
        let task = task(&plan, "a.fits");
        let job = task.job().expect("a job");
        assert!(job.references.contains_key("sky") && !job.references.contains_key("dark"));
        assert!(job.recipe.steps.iter().any(|s| s.name() == "dark_sub" && s.skip()));
        assert!(task.warnings.iter().any(|w| w.contains("takes it away")), "{:?}", task.warnings);
    }

    #[test]
    fn no_two_exposures_share_a_product() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        for place in ["x/a.fits", "y/a.fits", "z.fits"] {
            write(&night.join(place), &frame("IMG1-SCI", if place == "z.fits" { 2 } else { 1 }));
        }
        let mut s = settings(night);
        let skip = |step: &str| (step.to_owned(), [("skip".to_owned(), "true".to_owned())].into());
        s.recipes =
            super::super::Recipes::new(&[], &[skip("dark_sub"), skip("flat_field")].into()).expect("recipes");
        let plan = planned(night, &s);
        let products: Vec<_> = plan.tasks.iter().filter_map(|t| t.product()?.file_name()?.to_str()).collect();
        let hashed = |path: &str| format!("1_a-{}", &super::super::plan_hash([path])[..8]);
        let ends = [hashed("x/a.fits"), hashed("y/a.fits"), "2".into()];
        let named = ends.map(|end| format!("2032A-P001-001_IRIS_IMG1_SCI_LVL2_000{end}.fits"));
        assert_eq!(products, named);
    }

    #[test]
    fn however_files_are_called_their_products_differ() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        let deep = format!("{}/{}.fits", "folder/".repeat(40), "n".repeat(200));
        let places =
            ["a_b.fits", "a-b.fits", "x.fits", "x.fit", "sub/x.fits", "sub-x.fits", "own.fits", &deep];
        places.iter().for_each(|place| write(&night.join(place), &frame("IMG1-SCI", 1)));
        let recipe = Recipe::built_in("stage1").expect("recipe");
        let mut files: Vec<PathBuf> = places.iter().map(|place| night.join(place)).collect();
        let products = |files: &[PathBuf]| -> Vec<(String, PathBuf)> {
            let read = super::super::read_files(files);
            let plan = of_files(&recipe, &read, &References::default(), &settings(night)).expect("plan");
            let products = plan.tasks.iter().map(|t| (t.name.clone(), t.product().expect("product").into()));
            products.collect()
        };
        let made = products(&files);
        let unique: std::collections::BTreeSet<_> = made.iter().map(|(_, p)| p).collect();
        assert_eq!(unique.len(), places.len(), "{made:?}");
        assert!(made.iter().any(|(_, p)| p.ends_with("2032A-P001-001_IRIS_IMG1_SCI_LVL1_0001_own.fits")));
        let name = |p: &Path| p.file_name().map_or(0, |n| n.len());
        assert!(made.iter().all(|(_, p)| name(p) < 100), "{made:?}");
        files.reverse();
        assert_eq!(products(&files), made);
    }

    #[test]
    fn a_file_named_twice_counts_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (file, other) = (dir.path().join("d.fits"), dir.path().join("./sub/../d.fits"));
        write(&file, &frame("IMG1-DRK", 1));
        std::fs::create_dir(dir.path().join("sub")).expect("sub");
        let mut files = vec![file.clone(), other, file];
        #[cfg(unix)]
        {
            let link = dir.path().join("link.fits");
            std::os::unix::fs::symlink(&files[0], &link).expect("link");
            files.push(link);
        }
        let (named, references) = (files.len(), References::default());
        let read = super::super::read_files(&files);
        let plan = |recipe: &str| {
            let recipe = Recipe::built_in(recipe).expect("recipe");
            of_files(&recipe, &read, &references, &settings(dir.path())).expect("plan")
        };
        let each = plan("stage1");
        assert_eq!(each.tasks.len(), 1);
        assert!(each.warnings[0].contains(&format!("d.fits is named {named} times: it counts once")));
        let set = plan("dark");
        assert_eq!(set.tasks[0].files.len(), 1);
        assert!(set.warnings[1].contains("give several exposures"), "{:?}", set.warnings);
        files.truncate(1);
        let once = super::super::read_files(&files);
        assert!(once.warnings.is_empty());
    }

    #[test]
    fn no_product_overwrites_what_is_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut s = settings(dir.path());
        s.output = dir.path().join(".");
        // A file that has the name of the other's product, and one that has its own.
        let name = |n| format!("2032A-P001-001_IRIS_IMG1_SCI_LVL1_000{n}.fits");
        let files = [dir.path().join("a.fits"), dir.path().join(name(1)), dir.path().join(name(3))];
        files.iter().zip([1, 2, 3]).for_each(|(f, n)| write(f, &frame("IMG1-SCI", n)));
        let recipe = Recipe::built_in("stage1").expect("recipe");
        let read = super::super::read_files(&files);
        let plan = of_files(&recipe, &read, &References::default(), &s).expect("plan");
        let product = |n: &str| plan.tasks.iter().find(|t| t.name.ends_with(n)).expect(n).product();
        let within = |n: &str| product(n).and_then(|p| p.file_name()?.to_str().map(str::to_owned));
        assert_eq!(within("a.fits").as_deref(), Some("2032A-P001-001_IRIS_IMG1_SCI_LVL1_0001_a.fits"));
        assert_eq!(within(&name(1)), Some(name(2)));
        assert_eq!(within(&name(3)), None);
    }

    #[test]
    fn what_is_no_exposure_number_counts_as_missing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut h = frame("IMG1-DRK", -3);
        write(&dir.path().join("a.fits"), &h);
        h.set("EXPNUM", "text", "");
        h.set("EXPNO", 7, "");
        write(&dir.path().join("b.fits"), &h);
        let scan = super::super::scan(dir.path(), &[]).expect("scan");
        let found: Vec<_> = scan.exposures.iter().map(|e| (e.meta.expnum, e.warnings.join("|"))).collect();
        assert_eq!((found[0].0, found[1].0), (1, 7));
        assert!(found[0].1.starts_with("EXPNUM = '-3' is not"), "{}", found[0].1);
        assert!(found[1].1.starts_with("EXPNUM = 'text' is not"), "{}", found[1].1);
    }

    #[test]
    fn only_takes_what_it_needs_with_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let night = dir.path();
        for (name, obsname) in
            [("d", "IMG1-DRK"), ("f", "IMG1-NFF"), ("g", "IMG2-NFF"), ("s", "IMG1-SCI"), ("k", "IMG1-SKY")]
        {
            write(&night.join(format!("{name}.fits")), &frame(obsname, 1));
        }
        let mut s = settings(night);
        s.only = vec!["img1-sci".into()];
        let plan = planned(night, &s);
        let asked: Vec<_> = plan.tasks.iter().filter(|t| t.asked).map(|t| t.name.as_str()).collect();
        assert_eq!(asked, ["dark IMG1 UTR-120s", "flat IMG1 K", "sky IMG1 K", "s.fits"]);
        assert!(matches("*.fits", "a.fits") && matches("a*t*", "a.fits") && !matches("b*", "a.fits"));
        assert!(matches("IMG1", "img1-sci") && !matches("", "a"));
    }

    #[test]
    fn an_empty_night_is_nothing_to_reduce() {
        let dir = tempfile::tempdir().expect("temp dir");
        let scan = super::super::scan(dir.path(), &[]).expect("scan");
        let e = plan(&scan, &References::default(), &settings(dir.path())).expect_err("nothing");
        assert!(matches!(e, Error::NothingToReduce(_)), "{e}");
    }
}
