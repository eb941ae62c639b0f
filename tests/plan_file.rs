//! A night's tasks in other processes, from a plan's file, through the public command line.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use irisgpu::fits::Fits;
use serde_json::Value;

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
    command.args(args).current_dir(folder).env_remove("CRDS_PATH").env_remove("CRDS_CONTEXT");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code and everything said.
fn irisgpu(folder: &Path, args: &[&str]) -> (i32, String) {
    ended(command(folder, args).spawn().expect("run"))
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().expect("output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn done(folder: &Path, args: &[&str]) -> String {
    let (code, said) = irisgpu(folder, args);
    assert_eq!(code, 0, "{args:?}: {said}");
    said
}

const NIGHT: &str = "frame: [48, 48]\nexposures:\n\
  - {detector: IMG1, kind: DRK, count: 2, reads: 5}\n\
  - {detector: IMG1, kind: NFF, count: 2, reads: 5}\n\
  - {detector: IMG1, kind: SKY, count: 2, reads: 5, dithers: [[20, 0], [20, 0.5]]}\n\
  - {detector: IMG1, kind: SCI, count: 3, reads: 5, dithers: [[0, 0], [0.1, 0], [0, 0.1]]}\n";

/// A simulated night, twice, its times of change the same.
fn nights() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let root = dir.path();
    std::fs::write(root.join("config.yaml"), NIGHT).expect("config");
    done(root, &["simulate", "config.yaml", "made"]);
    let copied = Command::new("cp").args(["-rp", "made/night", "one"]).current_dir(root).status();
    assert!(copied.expect("cp").success());
    std::fs::rename(root.join("made/night"), root.join("many")).expect("move");
    dir
}

fn states(root: &Path) -> Vec<(String, String)> {
    let (_, said) = irisgpu(root, &["status", "plan.jsonl", "--json"]);
    let json: Value = serde_json::from_str(&said).expect("json");
    let text = |t: &Value, key: &str| t[key].as_str().unwrap_or_default().to_owned();
    json["tasks"].as_array().expect("tasks").iter().map(|t| (text(t, "recipe"), text(t, "state"))).collect()
}

/// Data by HDU and keywords of a product.
type Product = (Vec<Vec<u8>>, Vec<String>);

fn product(path: &Path) -> Product {
    let fits = Fits::open(path).unwrap_or_else(|e| panic!("{e}"));
    let data = fits.hdus.iter().map(|h| {
        let mut bytes = vec![0; usize::try_from(h.data_len).expect("small")];
        fits.read_raw(h, 0, &mut bytes).expect("data");
        bytes
    });
    // When, on which device, and what follows from that.
    let free = ["CHECKSUM", "DATASUM", "DATECRT", "DEVICE", "HISTORY", "IGNIGHT"];
    let cards = fits.hdus.iter().flat_map(|h| h.header.cards());
    let cards = cards.filter(|c| !free.contains(&c.keyword.as_str())).map(|c| c.text());
    (data.collect(), cards.collect())
}

#[test]
fn tasks_in_many_processes_make_what_one_makes() {
    let dir = nights();
    let root = dir.path();
    done(root, &["reduce", "one", "--device", "cpu"]);
    let said = done(root, &["plan", "many", "--save", "plan.jsonl"]);
    assert!(said.contains("6 to do"), "{said}");
    let state = |recipe: &str, state: &str| (recipe.to_owned(), state.to_owned());
    let ready = [("dark", "ready"), ("flat", "waiting"), ("sky", "waiting")];
    assert_eq!(states(root)[..3], ready.map(|(r, s)| state(r, s)));

    // What needs another task waits for it, with a sentence; numbers and ids both name tasks.
    let (code, said) = irisgpu(root, &["reduce", "--plan", "plan.jsonl", "--only", "4"]);
    assert!(code == 1 && said.contains("needs task 1 (dark IMG1"), "{said}");
    assert_eq!(states(root)[3], state("imager", "waiting"));
    for (args, sentence) in [
        (vec!["--only", "77"], "has no such task"),
        (vec!["--refs", "x"], "--refs is decided when the night is planned"),
        (vec!["--steps.jump.skip=true"], "is decided when the night is planned"),
    ] {
        let (code, said) = irisgpu(root, &[vec!["reduce", "--plan", "plan.jsonl"], args].concat());
        assert!(code == 2 && said.contains(sentence), "{said}");
    }

    // Everything at once, and each twice: who comes second finds it done.
    for wave in [vec!["1"], vec!["2"], vec!["3"], vec!["4", "5", "6"]] {
        let args = |n| ["reduce", "--plan", "plan.jsonl", "--device", "cpu", "--only", n];
        let started: Vec<Child> =
            wave.iter().chain(&wave).map(|n| command(root, &args(n)).spawn().expect("run")).collect();
        for child in started {
            let (code, said) = ended(child);
            assert_eq!(code, 0, "{said}");
        }
    }
    assert!(states(root).iter().all(|(_, s)| s == "done"), "{:?}", states(root));
    let found: Vec<_> = ["", "masters"]
        .iter()
        .flat_map(|f| std::fs::read_dir(root.join("one/reduced").join(f)).expect("list").flatten())
        .filter(|e| e.path().extension().is_some_and(|x| x == "fits"))
        .map(|e| e.path())
        .collect();
    assert!(found.len() > 10, "{found:?}");
    for path in found {
        let within = path.strip_prefix(root.join("one")).expect("within");
        let (a, b) = (product(&path), product(&root.join("many").join(within)));
        assert!(a.0 == b.0, "{}: other data", within.display());
        assert_eq!(a.1, b.1, "{}", within.display());
    }
    // A whole night's run finds all of it up to date, and the other way round.
    let said = done(root, &["reduce", "many", "--device", "cpu"]);
    assert!(said.contains("0 done, 6 up to date"), "{said}");
}

#[test]
fn a_plan_that_no_longer_holds_is_refused() {
    let dir = nights();
    let root = dir.path();
    done(root, &["plan", "many", "--save", "plan.jsonl"]);
    let text = std::fs::read_to_string(root.join("plan.jsonl")).expect("plan");
    let lines: Vec<&str> = text.lines().collect();
    for (changed, sentence) in [
        (text.replacen("irisgpu 0", "irisgpu 99", 1), "was planned by irisgpu 99"),
        (text.replace("many/reduced/", "many/reduced/../"), "is outside the folder of products"),
        (
            text.replacen("\"rejection_threshold\":null", "\"rejection_threshold\":-3", 1),
            "rejection_threshold",
        ),
        (lines[1..].join("\n"), "lines are missing"),
        (text[..text.len() / 2].to_owned(), "make the plan again"),
        (String::new(), "holds no task"),
    ] {
        std::fs::write(root.join("wrong.jsonl"), changed).expect("write");
        for verb in [&["reduce", "--plan"][..], &["status"], &["emit", "slurm"]] {
            let (code, said) = irisgpu(root, &[verb, &["wrong.jsonl"]].concat());
            assert!(code != 0 && said.contains(sentence), "{verb:?}: {code} {said}");
        }
    }
    // A raw file that is another one now.
    let raw = std::fs::read_dir(root.join("many")).expect("list").flatten().map(|e| e.path());
    let dark = raw.filter(|p| p.to_string_lossy().contains("DARK")).min().expect("dark");
    let bytes = std::fs::read(&dark).expect("read");
    std::fs::write(&dark, bytes).expect("write");
    let (code, said) = irisgpu(root, &["reduce", "--plan", "plan.jsonl", "--only", "1"]);
    assert!(code == 1 && said.contains("has changed since the night was planned"), "{said}");
}

/// A product of a frame that was replaced is none of the plan any more; one of a frame that
/// is gone (to tape, say) is.
#[test]
fn a_replaced_frame_makes_its_task_undone() {
    let dir = nights();
    let root = dir.path();
    done(root, &["plan", "many", "--save", "plan.jsonl"]);
    done(root, &["reduce", "--plan", "plan.jsonl", "--device", "cpu"]);
    let entries = std::fs::read_dir(root.join("many")).expect("list").flatten().map(|e| e.path());
    let mut science: Vec<_> = entries.filter(|p| p.to_string_lossy().contains("_SCI_")).collect();
    science.sort();
    std::fs::remove_file(&science[2]).expect("remove");
    assert!(states(root).iter().all(|(_, state)| state == "done"));
    let bytes = std::fs::read(&science[0]).expect("read");
    std::fs::remove_file(&science[0]).expect("remove");
    std::fs::write(&science[0], bytes).expect("write");
    // Those after it look for its persistence.
    let undone: Vec<String> =
        states(root).into_iter().filter(|(_, state)| state != "done").map(|(recipe, _)| recipe).collect();
    assert_eq!(undone, ["imager"; 3]);
    let (code, said) = irisgpu(root, &["reduce", "--plan", "plan.jsonl", "--device", "cpu"]);
    assert!(code == 1 && said.contains("has changed since the night was planned"), "{said}");
}

#[test]
fn what_failed_is_in_the_report_until_it_is_done() {
    let dir = nights();
    let root = dir.path();
    done(root, &["plan", "many", "--save", "plan.jsonl"]);
    let text = std::fs::read_to_string(root.join("plan.jsonl")).expect("plan");
    let line: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let (id, output) = (line["id"].as_str().expect("id"), line["outputs"][0].as_str().expect("output"));
    // A folder stands where the product shall be.
    std::fs::create_dir_all(output).expect("folder");
    let args = ["reduce", "--plan", "plan.jsonl", "--device", "cpu", "--only", "1"];
    let (code, said) = irisgpu(root, &args);
    assert!(code == 1 && said.contains(id), "{said}");
    assert_eq!(states(root)[0], ("dark".to_owned(), "failed".to_owned()));
    // What waits for it was not begun, and did not fail.
    let (code, said) = irisgpu(root, &["reduce", "--plan", "plan.jsonl", "--device", "cpu", "--only", "2"]);
    assert!(code == 1 && said.contains("needs task 1"), "{said}");
    assert_eq!(states(root)[1].1, "waiting");
    let page = || {
        done(root, &["report", "many"]);
        std::fs::read_to_string(root.join("many/reduced/report.html")).expect("page")
    };
    let text = page();
    let again = format!("reduce --plan {} --only {id}", root.join("plan.jsonl").display());
    assert!(text.contains("<td>failed</td>") && text.contains(&again), "{again} in {text}");
    std::fs::remove_dir(output).expect("remove");
    done(root, &args);
    assert_eq!(states(root)[0].1, "done");
    let text = page();
    assert!(!text.contains("<td>failed</td>") && text.contains(id), "{text}");
    let told: Value = serde_json::from_str(
        &std::fs::read_to_string(root.join("many/reduced/report.json")).expect("report"),
    )
    .expect("JSON");
    let mut rows = told["rows"].as_array().expect("rows").iter();
    assert!(rows.any(|r| r["seconds"].as_f64().is_some_and(|s| s > 0.0)), "{told:#}");
}

#[test]
fn schedulers_get_every_task() {
    let dir = nights();
    let root = dir.path();
    // Names that a shell or Slurm would read something into.
    let odd = "d$HOME \"`'%j";
    std::fs::create_dir(root.join(odd)).expect("folder");
    let plan = format!("{odd}/plan.jsonl");
    done(root, &["plan", "many", "--save", &plan]);
    let script = done(root, &["emit", "slurm", &plan, "--gpus", "0", "--at-once", "2"]);
    std::fs::write(root.join("night.sh"), &script).expect("script");
    let checked = Command::new("bash").args(["-n", "night.sh"]).current_dir(root).status().expect("bash");
    assert!(checked.success(), "{script}");
    // A dark, a flat, a sky, three science frames: each wave one array.
    let submitted: Vec<&str> = script.lines().filter(|l| l.starts_with("submit ")).collect();
    assert_eq!(submitted, ["submit 0 1", "submit 1 1", "submit 2 1", "submit 3 3"]);
    assert!(script.contains("$2%2\"") && !script.contains("--gres"), "{script}");
    // What stands for Slurm here keeps what it is given.
    let sbatch = "#!/bin/bash\ncat > \"job-$$\"\necho $$\nprintf '%s ' \"$@\" >> calls; echo >> calls\n";
    let stub = root.join("sbatch");
    std::fs::write(&stub, sbatch).expect("stub");
    let made = Command::new("chmod").arg("+x").arg(&stub).status().expect("chmod");
    assert!(made.success());
    let path = format!("{}:{}", root.display(), std::env::var("PATH").unwrap_or_default());
    let ran = Command::new("bash")
        .args(["night.sh", "--partition=x y"])
        .current_dir(root)
        .env("PATH", path)
        .output();
    let ran = ran.expect("bash");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let calls = std::fs::read_to_string(root.join("calls")).expect("calls");
    assert_eq!(calls.matches("--dependency=afterany:").count(), 3, "{calls}");
    assert_eq!(calls.matches("--partition=x y").count(), 4, "{calls}");
    assert_eq!(calls.matches("'%%j/slurm-logs/%A_%a.log").count(), 4, "{calls}");
    let jobs = std::fs::read_dir(root).expect("list").flatten().map(|e| e.path());
    let jobs: Vec<_> = jobs.filter(|p| p.to_string_lossy().contains("/job-")).collect();
    assert_eq!(jobs.len(), 4);
    for job in jobs {
        let mut run = Command::new("bash");
        run.arg(&job)
            .env("SLURM_ARRAY_TASK_ID", "1")
            .env("SLURM_CPUS_PER_TASK", "1")
            .env("SLURM_JOB_GPUS", "0");
        let ran = run.output().expect("bash");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code().is_some_and(|c| c <= 1) && !said.contains("Usage"), "{said}");
    }
    let snakefile = done(root, &["emit", "snakemake", &plan]);
    assert!(snakefile.contains("plan.jsonl\"") && !snakefile.contains('@'), "{snakefile}");
}

/// What is no plan is refused with what is wanted and how to make it, before it is read whole.
#[test]
fn what_is_no_plan_is_told_from_one() {
    let dir = tempfile::tempdir().expect("folder");
    let root = dir.path();
    std::fs::create_dir(root.join("night")).expect("folder");
    std::fs::write(root.join("raw.fits"), [&b"SIMPLE  =                    T"[..], &[0xff; 4000]].concat())
        .expect("write");
    std::fs::write(root.join("binary"), [b'{', 0xff, 0xfe]).expect("write");
    std::fs::write(root.join("other.json"), "{\n  \"tasks\": []\n}\n").expect("write");
    for command in [&["status"][..], &["emit", "slurm"], &["reduce", "--plan"]] {
        let said = |name: &str| irisgpu(root, &[command, &[name]].concat());
        let (code, text) = said("night");
        let way = "night is a folder, and a plan's file is wanted: if it is a night, write one with `irisgpu plan night --save";
        assert!(code == 2 && text.contains(way), "{command:?}: {text}");
        for name in ["raw.fits", "binary", "other.json"] {
            let (code, text) = said(name);
            let way = format!("{name} is no plan: name a file that `irisgpu plan NIGHT --save FILE` wrote");
            assert!(code == 2 && text.contains(&way), "{command:?}: {text}");
        }
    }
}
