use super::super::testing::{frame, planned, reference, settings, write};
use super::*;

fn task<'a>(plan: &'a Plan, name: &str) -> &'a Task {
    plan.tasks.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no task {name}: {:?}", names(plan)))
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
        Action::Refused(s) => assert!(s.contains("has not DETECTOR = IMG2"), "{s}"),
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
    let places = ["a_b.fits", "a-b.fits", "x.fits", "x.fit", "sub/x.fits", "sub-x.fits", "own.fits", &deep];
    places.iter().for_each(|place| write(&night.join(place), &frame("IMG1-SCI", 1)));
    let recipe = Recipe::built_in("stage1").expect("recipe");
    let mut files: Vec<PathBuf> = places.iter().map(|place| night.join(place)).collect();
    let products = |files: &[PathBuf]| -> Vec<(String, PathBuf)> {
        let read = super::super::read_files(files);
        let plan = of_files(&recipe, &read, None, &References::default(), &settings(night)).expect("plan");
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
        of_files(&recipe, &read, None, &references, &settings(dir.path())).expect("plan")
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
    let plan = of_files(&recipe, &read, None, &References::default(), &s).expect("plan");
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
    let scan = super::super::scan(dir.path(), &[], &ByHand::default()).expect("scan");
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
    let scan = super::super::scan(dir.path(), &[], &ByHand::default()).expect("scan");
    let e = plan(dir.path(), &scan, &ByHand::default(), &References::default(), &settings(dir.path()))
        .expect_err("nothing");
    assert!(matches!(e, Error::NothingToReduce(_)), "{e}");
}

/// A frame at a time of the night, `HHMM`, in filter K.
fn at(obsname: &str, expnum: i64, time: &str) -> crate::fits::Header {
    let mut h = frame(obsname, expnum);
    h.set("EXPDTST", format!("20320102{time}00").as_str(), "");
    h
}

/// The file names of a task's reference of a type, without folders.
fn reference_of(plan: &Plan, name: &str, reftype: &str) -> String {
    let picked = task(plan, name).references.iter().find(|p| p.reftype == reftype);
    let path = picked.and_then(|p| p.path.as_ref());
    path.map(|p| p.file_name().unwrap_or_default().to_string_lossy().into_owned()).unwrap_or_default()
}

/// A dark and a flat in refs/, so that science frames can be reduced.
fn refs(night: &Path) {
    for reftype in ["dark", "flat"] {
        let mut h = reference(reftype, "IMG1");
        h.set("FILTER", "K", "");
        write(&night.join(format!("refs/{reftype}.fits")), &h);
    }
}

#[test]
fn sets_that_are_apart_in_time_are_masters_of_their_own_and_the_nearest_is_taken() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    for (name, obsname, time) in [
        ("k1", "IMG1-SKY", "0600"),
        ("k2", "IMG1-SKY", "0602"),
        ("s1", "IMG1-SCI", "0605"),
        ("s2", "IMG1-SCI", "0620"),
        ("k3", "IMG1-SKY", "0622"),
        ("k4", "IMG1-SKY", "0650"),
        ("k5", "IMG1-SKY", "0800"),
        ("d1", "IMG1-DRK", "0100"),
        ("d2", "IMG1-DRK", "0104"),
        ("d3", "IMG1-DRK", "1200"),
    ] {
        write(&night.join(format!("{name}.fits")), &at(obsname, 1, time));
    }
    let plan = planned(night, &settings(night));
    for (name, files) in [
        ("dark IMG1 UTR-120s 0102T01:00", &["d1.fits", "d2.fits"][..]),
        ("dark IMG1 UTR-120s 0102T12:00", &["d3.fits"]),
        ("sky IMG1 K 0102T06:00", &["k1.fits", "k2.fits"]),
        ("sky IMG1 K 0102T06:22", &["k3.fits", "k4.fits"]),
        ("sky IMG1 K 0102T08:00", &["k5.fits"]),
    ] {
        assert_eq!(task(&plan, name).files, files, "{name}");
    }
    assert_eq!(reference_of(&plan, "s1.fits", "sky"), "IRIS_IMG1_SKY_20320102060000_0.0.1.fits");
    assert_eq!(reference_of(&plan, "s2.fits", "sky"), "IRIS_IMG1_SKY_20320102062200_0.0.1.fits");
    assert_eq!(reference_of(&plan, "s1.fits", "dark"), "IRIS_IMG1_DARK_20320102010000_0.0.1.fits");
    let job = task(&plan, "s1.fits").job().expect("job");
    assert_eq!(job.reasons["sky"], "this night, nearest in time: 4 min");
}

#[test]
fn a_master_of_another_night_is_taken_where_this_one_has_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (night, other) = (dir.path().join("b"), dir.path().join("a"));
    refs(&night);
    write(&night.join("s.fits"), &at("IMG1-SCI", 1, "0605"));
    // A whole night: its frames and products are passed over without a word.
    write(&other.join("raw.fits"), &at("IMG1-SKY", 2, "0600"));
    let mut sky = reference("sky", "IMG1");
    sky.set("FILTER", "K", "");
    sky.set("EXPDTST", "20320101060000", "");
    write(&other.join("reduced/masters/sky.fits"), &sky);
    let references = References::gather(&[], &[night.join("refs")], &[other]).expect("references");
    let by_hand = ByHand::default();
    let scan = super::super::scan(&night, &[], &by_hand).expect("scan");
    let plan = plan(&night, &scan, &by_hand, &references, &settings(&night)).expect("plan");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let sky = task(&plan, "s.fits").references.iter().find(|p| p.reftype == "sky").expect("sky");
    assert_eq!(sky.reason, "another night, nearest in time: 24.1 h");
}

#[test]
fn what_a_person_says_of_a_night_wins() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    for (name, obsname, time) in [
        ("s1", "IMG1-SCI", "0605"),
        ("s2", "IMG1-SCI", "0610"),
        ("s3", "IMG1-SCI", "0615"),
        ("wrong", "IMG1-SCI", "0600"),
        ("k2", "IMG1-SKY", "0620"),
        ("k3", "IMG1-SKY", "0900"),
        ("bad", "IMG1-SKY", "0601"),
    ] {
        write(&night.join(format!("{name}.fits")), &at(obsname, 1, time));
    }
    let text = "relabel: [{files: wrong.fits, set: {OBSNAME: IMG1-SKY, IMTYPE: SKY}}]\n\
                exclude: [{files: bad.fits, because: dome}]\n\
                pair:\n  - {files: s2.fits, with: {sky: k3.fits, dark: none}}\n  \
                - {files: s3.fits, with: {flat: refs/flat.fits, sky: none}}\n";
    std::fs::write(night.join("night.yaml"), text).expect("night.yaml");
    let plan = planned(night, &settings(night));
    assert!(
        plan.warnings.contains(&"bad.fits: night.yaml leaves it out (dome)".to_owned()),
        "{:?}",
        plan.warnings
    );
    assert_eq!(task(&plan, "sky IMG1 K 0102T06:00").files, ["wrong.fits"]);
    assert_eq!(reference_of(&plan, "s1.fits", "sky"), "IRIS_IMG1_SKY_20320102060000_0.0.1.fits");
    let s2 = task(&plan, "s2.fits");
    let sky = s2.references.iter().find(|p| p.reftype == "sky").expect("sky");
    assert_eq!(sky.reason, "put with it by night.yaml");
    assert_eq!(task(&plan, "sky IMG1 K 0102T09:00").files, ["k3.fits"]);
    let job = s2.job().expect("job");
    assert!(job.recipe.steps.iter().any(|s| s.name() == "dark_sub" && s.skip()));
    assert_eq!(job.said, ["dark: none, by night.yaml: dark_sub is left out"]);
    let s3 = task(&plan, "s3.fits").job().expect("job");
    assert!(!s3.references.contains_key("sky") && s3.reasons["flat"].contains("night.yaml"));
    let relabelled = task(&plan, "sky IMG1 K 0102T06:00");
    assert!(relabelled.warnings.iter().any(|w| w.contains("by hand; the file says 'IMG1-SCI'")));
    assert!(relabelled.job().expect("job").relabels.of(&night.join("wrong.fits")).is_some());
    // Saying less makes what is done so again.
    let hash = |plan: &Plan| task(plan, "s2.fits").job().expect("job").plan_hash.clone();
    std::fs::write(night.join("night.yaml"), "pair: [{files: s2.fits, with: {sky: k3.fits}}]")
        .expect("night.yaml");
    assert_ne!(hash(&plan), hash(&planned(night, &settings(night))));
}

#[test]
fn contradictory_words_are_refused_and_names_of_nothing_told() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    write(&night.join("s1.fits"), &at("IMG1-SCI", 1, "0605"));
    write(&night.join("k1.fits"), &at("IMG1-SKY", 2, "0606"));
    let of = |text: &str| {
        std::fs::write(night.join("night.yaml"), text).expect("night.yaml");
        let by_hand = ByHand::of_night(night)?;
        let scan = super::super::scan(night, &[], &by_hand)?;
        plan(night, &scan, &by_hand, &References::default(), &settings(night))
    };
    for (text, what) in [
        (
            "pair:\n- {files: s1.fits, with: {sky: k1.fits}}\n- {files: s*, with: {sky: none}}\n",
            "s1.fits is put with a sky twice",
        ),
        ("pair: [{files: s1.fits, with: {sky: [k1.fits, s1.fits]}}]", "puts s1.fits with itself"),
        ("pair: [{files: s1.fits, with: {sky: []}}]", "names nothing"),
        ("pair: [{files: s1.fits, with: {skies: k1.fits}}]", "'skies' is no reference type"),
        ("pair: [{files: s1.fits, with: {sky: k9.fits}}]", "no frame of the night is called k9.fits"),
    ] {
        let sentence = of(text).expect_err(text).to_string();
        assert!(sentence.contains(what) && sentence.contains("night.yaml"), "{sentence}");
    }
    let plan = of("pair: [{files: s9.fits, with: {sky: k1.fits}}]").expect("plan");
    assert!(plan.warnings.iter().any(|w| w == "night.yaml, pair: no frame is called s9.fits"));
}

#[test]
fn an_association_in_the_night_pairs_its_members() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    for (name, obsname, time) in [
        ("s1", "IMG1-SCI", "0605"),
        ("k1", "IMG1-SKY", "0606"),
        ("k2", "IMG1-SKY", "0700"),
        ("k3", "IMG1-SKY", "0702"),
    ] {
        write(&night.join(format!("{name}.fits")), &at(obsname, 1, time));
    }
    let member = |name: &str, kind: &str| format!(r#"{{"expname": "{name}.fits", "exptype": "{kind}"}}"#);
    let members =
        [member("s1", "science"), member("k2", "background"), member("k3", "background")].join(", ");
    let text = format!(r#"{{"products": [{{"name": "p", "members": [{members}]}}]}}"#);
    std::fs::write(night.join("level2_asn.json"), text).expect("association");
    let plan = planned(night, &settings(night));
    let sky = task(&plan, "s1.fits").references.iter().find(|p| p.reftype == "sky").expect("sky");
    assert_eq!(sky.reason, "put with it by level2_asn.json");
    assert_eq!(task(&plan, "sky IMG1 K 0102T07:00").files, ["k2.fits", "k3.fits"]);
}

#[test]
fn what_a_step_leaves_is_a_task_of_its_own_where_it_is_asked_for() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    write(&night.join("s1.fits"), &at("IMG1-SCI", 1, "0605"));
    let mut settings = settings(night);
    settings.save = ["linearity", "dark_sub", "assign_wcs"].map(String::from).into();
    let plan = planned(night, &settings);
    let products: Vec<String> = plan.tasks.iter().map(Task::product_within).collect();
    let name =
        |level: u32, suffix: &str| format!("2032A-P001-001_IRIS_IMG1_SCI_LVL{level}_0001{suffix}.fits");
    assert_eq!(products, [name(2, ""), name(0, "_linearity"), name(1, "_dark-sub")]);
    assert!(plan.tasks[1..].iter().all(|t| t.job().is_some_and(|j| j.intermediate)));
}

#[test]
fn skies_of_another_dark_are_masters_of_their_own() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    let mut flat = reference("flat", "IMG1");
    flat.set("FILTER", "K", "");
    write(&night.join("refs/flat.fits"), &flat);
    for (name, obsname, time, exptime) in [
        ("k1", "IMG1-SKY", "0600", 120.0),
        ("k2", "IMG1-SKY", "0602", 60.0),
        ("s1", "IMG1-SCI", "0605", 120.0),
        ("s2", "IMG1-SCI", "0607", 60.0),
    ] {
        let mut h = at(obsname, 1, time);
        h.set("EXPTIME", exptime, "");
        write(&night.join(format!("{name}.fits")), &h);
    }
    // No dark: each sky cancels that of its own science frame.
    let plan = planned(night, &settings(night));
    assert_eq!(reference_of(&plan, "s1.fits", "sky"), "IRIS_IMG1_SKY_20320102060000_0.0.1.fits");
    assert_eq!(reference_of(&plan, "s2.fits", "sky"), "IRIS_IMG1_SKY_20320102060200_0.0.1.fits");
}

#[test]
fn windows_without_a_name_are_told_apart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    for (name, obsname, time, start) in [
        ("d1", "IMG1-DRK", "0500", 9),
        ("d2", "IMG1-DRK", "0501", 17),
        ("d0", "IMG1-DRK", "0502", 1),
        ("s2", "IMG1-SCI", "0605", 33),
    ] {
        let mut h = at(obsname, 1, time);
        h.set("SUBARRAY", if start == 1 { "FULL" } else { "CUSTOM" }, "");
        h.set("SUBSTRT1", start, "");
        h.set("SUBSTRT2", start, "");
        write(&night.join(format!("{name}.fits")), &h);
    }
    let plan = planned(night, &settings(night));
    assert_eq!(plan.tasks.iter().filter(|t| t.recipe == "dark").count(), 3, "{:?}", names(&plan));
    // A window takes its own dark, or the full frame's; never another window's.
    assert_eq!(reference_of(&plan, "s2.fits", "dark"), "IRIS_IMG1_DARK_20320102050200_0.0.1.fits");
}

#[test]
fn what_contradicts_itself_says_so_where_it_cannot_be_done() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    let mut h = at("IMG1-SCI", 1, "0605");
    h.set("DETECTOR", "IFU", "");
    write(&night.join("s.fits"), &h);
    let plan = planned(night, &settings(night));
    let task = task(&plan, "s.fits");
    assert!(matches!(task.action, Action::Refused(_)));
    assert!(
        task.warnings.iter().any(|w| w.contains("DETECTOR = 'IFU' does not go with")),
        "{:?}",
        task.warnings
    );
}

#[test]
fn the_exact_dark_of_another_night_comes_before_an_odd_one_of_this() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (night, other) = (dir.path().join("b"), dir.path().join("a"));
    refs(&night);
    write(&night.join("s.fits"), &at("IMG1-SCI", 1, "0605"));
    let mut odd = at("IMG1-DRK", 2, "0500");
    odd.set("EXPTIME", 90.0, "");
    write(&night.join("d.fits"), &odd);
    let mut exact = reference("dark", "IMG1");
    exact.set("EXPTIME", 120.0, "");
    exact.set("READMODE", "UTR", "");
    exact.set("EXPDTST", "20320101060000", "");
    write(&other.join("exact.fits"), &exact);
    let references = References::gather(&[], &[night.join("refs")], &[other]).expect("references");
    let by_hand = ByHand::default();
    let scan = super::super::scan(&night, &[], &by_hand).expect("scan");
    let plan = plan(&night, &scan, &by_hand, &references, &settings(&night)).expect("plan");
    assert_eq!(reference_of(&plan, "s.fits", "dark"), "exact.fits");
}

#[test]
fn associations_reach_outside_the_night_and_keep_to_their_product() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path().join("night");
    refs(&night);
    for (name, obsname, time) in [
        ("night/s1", "IMG1-SCI", "0605"),
        ("night/k1", "IMG1-SKY", "0606"),
        ("beside/k9", "IMG1-SKY", "0400"),
    ] {
        write(&dir.path().join(format!("{name}.fits")), &at(obsname, 1, time));
    }
    let asn = |background: &str| {
        let text = format!(
            r#"{{"products": [{{"name": "a", "members": [{{"expname": "s1.fits", "exptype": "science"}},
                {{"expname": "{background}", "exptype": "background"}}]}},
                {{"name": "b", "members": [{{"expname": "s1.fits", "exptype": "science"}}]}}]}}"#
        );
        std::fs::write(night.join("asn.json"), text).expect("association");
    };
    asn("../beside/k9.fits");
    let plan = planned(&night, &settings(&night));
    let sky = task(&plan, "s1.fits").references.iter().find(|p| p.reftype == "sky").expect("sky");
    assert_eq!(sky.reason, "put with it by asn.json");
    assert!(
        plan.tasks.iter().any(|t| t.recipe == "sky" && t.files.len() == 1 && t.files[0].ends_with("k9.fits"))
    );
    // By `run`, too, and what one product has, the other has not.
    let recipe = Recipe::built_in("imager").expect("imager");
    let references = References::gather(&[], &[night.join("refs")], &[]).expect("references");
    let association = Association::from_file(&night.join("asn.json")).expect("association");
    let plan = of_associations(&recipe, &[association], &references, &settings(&night)).expect("plan");
    let of = |name: &str| {
        plan.tasks.iter().find(|t| t.product_within() == name).expect("task").job().expect("job")
    };
    assert!(of("a_cal.fits").references.contains_key("sky"));
    assert!(!of("b_cal.fits").references.contains_key("sky"));
    std::fs::write(night.join("night.yaml"), "exclude: [{files: k1.fits}]").expect("night.yaml");
    // What cannot be used is the fault of its product alone.
    write(&night.join("s2.fits"), &at("IMG1-SCI", 2, "0607"));
    for (member, why) in
        [("k1.fits", "asn.json names k1.fits: night.yaml leaves it out"), ("no.fits", "there is no file")]
    {
        asn(member);
        let plan = planned(&night, &settings(&night));
        let Action::Refused(sentence) = &task(&plan, "s1.fits").action else { panic!("{:?}", plan.tasks) };
        assert!(sentence.contains(why), "{sentence}");
        assert!(task(&plan, "s2.fits").job().is_some());
    }
    std::fs::write(night.join("asn.json"), "[]").expect("association");
    let plan = planned(&night, &settings(&night));
    assert!(task(&plan, "s1.fits").job().is_some());
    assert!(plan.warnings.iter().any(|w| w.contains("asn.json") && w.ends_with("it is not used")));
}

#[test]
fn frames_may_serve_two_types_and_a_pair_for_a_part_is_told() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    refs(night);
    for (name, obsname, time) in
        [("s1", "IMG1-SCI", "0605"), ("k1", "IMG1-SKY", "0606"), ("k2", "IMG1-SKY", "0607")]
    {
        write(&night.join(format!("{name}.fits")), &at(obsname, 1, time));
    }
    let text =
        "pair:\n- {files: s1.fits, with: {sky: k*, flat: k*}}\n- {files: k1.fits, with: {dark: none}}\n";
    std::fs::write(night.join("night.yaml"), text).expect("night.yaml");
    let plan = planned(night, &settings(night));
    let job = task(&plan, "s1.fits").job().expect("job");
    assert!(job.reasons["sky"].contains("night.yaml") && job.reasons["flat"].contains("night.yaml"));
    let sky = plan.tasks.iter().find(|t| t.recipe == "sky").expect("sky");
    assert!(sky.warnings.iter().any(|w| w.contains("1 of its 2 exposures")), "{:?}", sky.warnings);
    let flat = plan.tasks.iter().find(|t| t.recipe == "flat").expect("flat");
    assert!(flat.warnings.iter().any(|w| w.starts_with("k1.fits goes into a flat, and it is IMG1-SKY")));
    std::fs::write(night.join("night.yaml"), "pair: [{files: s1.fits, with: {flat: refs/dark.fits}}]")
        .expect("night.yaml");
    let by_hand = ByHand::of_night(night).expect("by hand");
    let scan = super::super::scan(night, &[], &by_hand).expect("scan");
    let refused =
        super::plan(night, &scan, &by_hand, &References::default(), &settings(night)).expect_err("a dark");
    assert!(refused.to_string().contains("REFTYPE is dark"), "{refused}");
}

/// A lenslet frame at a time of day, hours.
fn lenslet_at(obsname: &str, n: i64, hours: f64) -> crate::fits::Header {
    let mut h = frame(obsname, n);
    let minutes = (hours * 60.0).round() as i64;
    h.set("EXPDTST", format!("20320102{:02}{:02}00", minutes / 60, minutes % 60).as_str(), "");
    if obsname.is_empty() {
        h.set("IMTYPE", "ARC", "");
        h.set("INSTMODE", "LENSLET", "");
        h.set("LAMP", "Ar", "");
    }
    h
}

#[test]
fn arcs_of_another_time_make_wavemaps_and_point_sources_a_dispersion() {
    let dir = tempfile::tempdir().expect("temp dir");
    let night = dir.path();
    for (name, obsname, n, hours) in [
        ("dark", "LEN-DRK", 1, 1.0),
        ("scan", "LEN-SPX", 2, 2.0),
        ("arc-a", "", 3, 2.1),
        ("idp", "LEN-IDP", 4, 2.2),
        ("sci-a", "LEN-SCI", 5, 3.0),
        ("arc-b", "", 6, 5.0),
        ("arc-c", "", 7, 5.1),
        ("sci-b", "LEN-SCI", 8, 6.0),
        ("arc-d", "", 9, 6.5),
        ("sci-c", "LEN-SCI", 10, 6.6),
    ] {
        write(&night.join(format!("{name}.fits")), &lenslet_at(obsname, n, hours));
    }
    let plan = planned(night, &settings(night));
    let mode = "IFU LENSLET-K-4000-K-9mas";
    let files = |name: &str| task(&plan, name).files.clone();
    assert_eq!(files(&format!("lenspx {mode}")), ["scan.fits", "arc-a.fits"]);
    let maps: Vec<&Task> = plan.tasks.iter().filter(|t| t.recipe == "wavecal").collect();
    assert_eq!(
        maps.iter().map(|t| t.files.clone()).collect::<Vec<_>>(),
        [vec!["arc-b.fits", "arc-c.fits"], vec!["arc-d.fits"]]
    );
    assert!(maps.iter().all(|t| t.job().is_some_and(|j| j.references.contains_key("lenspx"))));
    assert_eq!(
        (files(&format!("dispersion {mode}")), task(&plan, &format!("dispersion {mode}")).recipe.as_str()),
        (vec!["idp.fits".to_owned()], "dispersion")
    );
    let of =
        |name: &str, reftype: &str| task(&plan, name).job().expect("job").references.get(reftype).cloned();
    // Nearer to the scans than to any arc; then each by the nearest arc.
    assert_eq!(of("sci-a.fits", "wavemap"), None);
    assert_eq!(of("sci-b.fits", "wavemap"), maps[1].product().map(Path::to_path_buf));
    assert_eq!(of("sci-c.fits", "wavemap"), maps[1].product().map(Path::to_path_buf));
    for name in ["sci-a.fits", "sci-b.fits", "sci-c.fits"] {
        assert!(of(name, "dispersion").is_some(), "{name}");
        assert!(task(&plan, name).needs.len() >= 3, "{name}");
    }
    // Without the arc beside them the scans keep the others: they would have no lines.
    std::fs::remove_file(night.join("arc-a.fits")).expect("remove");
    let plan = planned(night, &settings(night));
    assert!(plan.tasks.iter().all(|t| t.recipe != "wavecal"));
    let spx = plan.tasks.iter().find(|t| t.recipe == "lenspx").expect("lenspx");
    assert_eq!(spx.files, ["scan.fits", "arc-b.fits", "arc-c.fits", "arc-d.fits"]);
    // Arcs alone need a LEN-SPX calibration of another night.
    std::fs::remove_file(night.join("scan.fits")).expect("remove");
    let plan = planned(night, &settings(night));
    let map = plan.tasks.iter().find(|t| t.recipe == "wavecal").expect("wavecal");
    assert!(
        matches!(&map.action, Action::Refused(s) if s.contains("extract needs a lenspx")),
        "{:?}",
        map.action
    );
    let mut spx = reference("lenspx", "IFU");
    for (key, value) in [("FILTER", "K"), ("GRATING", "4000-K"), ("INSTMODE", "LENSLET")] {
        spx.set(key, value, "");
    }
    write(&night.join("refs/lenspx.fits"), &spx);
    let plan = planned(night, &settings(night));
    assert!(plan.tasks.iter().filter(|t| t.recipe == "wavecal").all(|t| t.job().is_some()));
}
