//! What the tests of this folder share: tiny frames and an executor that only
//! writes headers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ByHand, Executor, Outcome, Plan, Recipes, References, Settings, Task, Watch, plan, scan};
use crate::config::{Instrument, Overrides};
use crate::error::{Error, Result};
use crate::fits::{FitsWriter, Header, Pixels};
use crate::pipeline::{Done, Job};

/// A frame's header: `obsname`, its DETECTOR and so on, filter K, exposure number.
pub(super) fn frame(obsname: &str, expnum: i64) -> Header {
    let mut h = Header::new();
    let imager = obsname.starts_with("IMG");
    h.set("OBSNAME", obsname, "");
    h.set("DETECTOR", if imager { obsname.get(..4).unwrap_or("IMG1") } else { "IFU" }, "");
    h.set(
        "INSTMODE",
        if imager {
            "IMG"
        } else if obsname.starts_with("LEN") {
            "LENSLET"
        } else {
            "SLICER"
        },
        "",
    );
    h.set("FILTER", "K", "");
    if !imager {
        h.set("GRATING", "4000-K", "");
        h.set("SCALE", 0.009, "");
    }
    h.set("READMODE", "UTR", "");
    h.set("EXPTIME", 120.0, "");
    h.set("EXPNUM", expnum, "");
    h.set("EXPDTST", format!("2032010206{:02}00", expnum % 60).as_str(), "");
    h
}

/// A reference's header.
pub(super) fn reference(reftype: &str, detector: &str) -> Header {
    let mut h = Header::new();
    h.set("REFTYPE", reftype, "");
    h.set("DETECTOR", detector, "");
    h
}

/// Writes a header with a one-pixel image, which is another one in every file: two
/// exposures are never the same to the last bit.
pub(super) fn write(path: &Path, header: &Header) {
    let pixel = path
        .to_string_lossy()
        .bytes()
        .fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let mut w = FitsWriter::create(path).expect("create");
    w.empty("PRIMARY", header).expect("primary");
    w.image("DATA", &Header::new(), &[1, 1], Pixels::F32(&[(pixel % (1 << 24)) as f32])).expect("data");
    w.finish().expect("finish");
}

/// Settings for a night with everything at its default.
pub(super) fn settings(night: &Path) -> Settings {
    Settings {
        recipes: Recipes::new(&[], &Overrides::new()).expect("recipes"),
        instrument: Instrument::iris().expect("iris").into(),
        output: night.join("reduced"),
        masters: night.join("reduced/masters"),
        suffix: None,
        read_time: None,
        save: Default::default(),
        save_ramps: false,
        compat: None,
        earlier: Vec::new(),
        force: false,
        only: Vec::new(),
    }
}

/// Scan and plan in one.
pub(super) fn planned(night: &Path, settings: &Settings) -> Plan {
    let refs = night.join("refs");
    let folders: Vec<PathBuf> = refs.is_dir().then_some(refs).into_iter().collect();
    let references = References::gather(&[], &folders, &[]).expect("references");
    let by_hand = ByHand::of_night(night).expect("by hand");
    let scan = scan(night, &[], &by_hand).expect("scan");
    plan(night, &scan, &by_hand, &references, settings).expect("plan")
}

/// Watches nothing.
pub(super) struct Nobody;

impl Watch for Nobody {
    fn begins(&self, _: usize, _: &Task) {}
    fn progress(&self, _: usize, _: f64) {}
    fn ends(&self, _: usize, _: &Task, _: &Outcome) {}
}

/// Writes each product as a header; does as told by the name of an input.
#[derive(Default)]
pub(super) struct Mock {
    pub(super) jobs: Vec<Job>,
    /// File stem of an input → what happens.
    pub(super) mishaps: BTreeMap<String, &'static str>,
}

impl Executor for Mock {
    fn execute(&mut self, job: &Job, progress: &dyn Fn(f64)) -> Result<Done> {
        self.jobs.push(job.clone());
        progress(0.5);
        let made = |path: &&PathBuf| path.starts_with(&job.masters) && !path.exists();
        if let Some(missing) = job.references.values().find(made) {
            return Err(Error::input(missing, "is read before it is there"));
        }
        for input in &job.inputs {
            let stem = input.file_stem().unwrap_or_default().to_string_lossy();
            match self.mishaps.get(stem.as_ref()) {
                Some(&"panic") => panic!("index out of bounds"),
                Some(&"interrupt") => return Err(Error::Interrupted),
                Some(&"nothing") => return Ok(Done::default()),
                Some(sentence) => return Err(Error::input(input, *sentence)),
                None => {}
            }
        }
        let product = job.product.clone().expect("a planned name");
        let mut h = Header::new();
        h.set("IGPLAN", job.plan_hash.as_str(), "");
        h.set("DRSVER", "test", "");
        write(&product, &h);
        // As the pipeline does: the rate beside the image.
        let name = product.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("_LVL2_") {
            write(&product.with_file_name(name.replace("_LVL2_", "_LVL1_")), &h);
        }
        Ok(Done { products: vec![product], warnings: vec!["as expected".into()] })
    }

    fn name(&self) -> String {
        "mock".into()
    }
}
