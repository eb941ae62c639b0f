//! What the tests of other programs' results share: their cases, and a ramp with its
//! references on its way through `irisgpu run`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels};
use serde_json::Value;

/// One case: its arrays as f64, NaN where null.
pub(crate) struct Case(pub(crate) Value);

impl Case {
    pub(crate) fn all(kind: &str) -> Vec<Case> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/oracle").join(kind);
        let text = std::fs::read_to_string(path.with_extension("json")).expect("cases");
        serde_json::from_str::<Vec<Value>>(&text).expect("JSON").into_iter().map(Case).collect()
    }

    pub(crate) fn id(&self) -> &str {
        self.0["id"].as_str().expect("id")
    }

    pub(crate) fn array(&self, name: &str) -> Vec<f64> {
        let data = self.0["arrays"][name]["data"].as_array().expect(name);
        data.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        let shape = self.0["arrays"][name]["shape"].as_array().expect(name);
        shape.iter().map(|n| n.as_u64().expect("size") as usize).collect()
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.array(name).into_iter().map(|v| v as f32).collect()
    }

    pub(crate) fn meta(&self, name: &str) -> &Value {
        &self.0["meta"][name]
    }

    pub(crate) fn option(&self, step: &str, parameter: &str, name: &str) -> String {
        format!("--steps.{step}.{parameter}={}", self.meta(name))
    }
}

/// A folder with a ramp, its references and the options that name them.
pub(crate) struct Job {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: Vec<String>,
    pub(crate) device: String,
}

impl Job {
    pub(crate) fn new() -> Job {
        Job { dir: tempfile::tempdir().expect("folder"), options: Vec::new(), device: "cpu".into() }
    }

    pub(crate) fn primary(cards: &[(&str, Value)]) -> Header {
        let mut h = Header::new();
        h.set("INSTRUME", "IRIS", "");
        h.set("DETECTOR", "IMG1", "");
        for (key, value) in cards {
            match value {
                Value::Number(n) if n.is_i64() => h.set(key, n.as_i64().unwrap(), ""),
                Value::Number(n) => h.set(key, n.as_f64().unwrap(), ""),
                Value::String(s) => h.set(key, s.as_str(), ""),
                _ => {}
            }
        }
        h
    }

    pub(crate) fn reference(
        &mut self,
        reftype: &str,
        cards: &[(&str, Value)],
        planes: &[(&str, &[usize], Pixels<'_>)],
    ) {
        let path = self.dir.path().join(format!("{reftype}.fits"));
        let mut h = Self::primary(cards);
        h.set("REFTYPE", reftype, "");
        write(&path, &h, planes);
        self.options.push(format!("--override_{reftype}={}", path.display()));
    }

    /// The product of `irisgpu run RECIPE` on a ramp with these HDUs.
    pub(crate) fn run(
        self,
        recipe: &str,
        cards: &[(&str, Value)],
        planes: &[(&str, &[usize], Pixels<'_>)],
    ) -> (tempfile::TempDir, Fits) {
        let ramp = self.dir.path().join("ramp.fits");
        write(&ramp, &Self::primary(cards), planes);
        let out = self.dir.path().join("out");
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.stdin(Stdio::null()).args(["run", recipe]).arg(&ramp).arg("-o").arg(&out);
        command.args(["--device", &self.device]).args(&self.options);
        let done = command.output().expect("run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let files = std::fs::read_dir(&out).expect("output").map(|f| f.expect("file").path());
        // Rates of single ramps are not the product, but beside it.
        let product: PathBuf = files
            .into_iter()
            .find(|p| {
                p.extension().is_some_and(|e| e == "fits") && !p.to_string_lossy().ends_with("_ramps.fits")
            })
            .expect("product");
        (self.dir, Fits::open(&product).expect("product"))
    }
}

pub(crate) fn write(path: &Path, primary: &Header, planes: &[(&str, &[usize], Pixels<'_>)]) {
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", primary).expect("primary");
    for (name, shape, pixels) in planes {
        w.image(name, &Header::new(), shape, *pixels).expect("image");
    }
    w.finish().expect("finish");
}
