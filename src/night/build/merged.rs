//! Full frames with the subarrays that were read beside them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::super::assign::Assigned;
use super::{Builder, Draft};
use crate::config::{SkyScaling, Step};
use crate::datamodel::{Meta, product_name};
use crate::night::Exposure;

/// What the products of one exposure, a full frame and its subarrays, share of their names.
fn family(meta: &Meta) -> String {
    product_name(&Meta { subarrid: 0, ..meta.clone() }, 0, "")
}

/// The tasks of full frames that have subarrays, by family; `None` where there are several.
#[derive(Default)]
pub(super) struct FullFrames(BTreeMap<String, Option<usize>>);

impl FullFrames {
    pub(super) fn note(&mut self, exposure: &Exposure, task: usize) {
        if exposure.meta.subarrid == 0 && exposure.meta.holes {
            let one = |slot: &mut Option<usize>| *slot = None;
            self.0.entry(family(&exposure.meta)).and_modify(one).or_insert(Some(task));
        }
    }

    /// That of the frame that a subarray was read beside.
    pub(super) fn of(&self, exposure: &Exposure) -> Option<usize> {
        self.0.get(&family(&exposure.meta)).copied().flatten().filter(|_| exposure.meta.subarrid > 0)
    }
}

/// Whether a sky is subtracted with a factor that is measured.
pub(super) fn scales_sky(assigned: &Assigned) -> bool {
    let scales = |s: &Step| matches!(s, Step::Background(b) if !s.skip() && b.scaling != SkyScaling::Fixed);
    assigned.recipe.steps.iter().any(scales)
        && assigned.picked.iter().any(|p| p.reftype == "sky" && p.path.is_some())
}

impl Builder<'_> {
    /// One task for each of `exposures` that was read with subarrays: their products put
    /// back into the full frame's.
    pub(in crate::night) fn merged(&mut self, exposures: &[&Exposure]) {
        let Ok(recipe) = self.settings.recipes.resolve("merge_subarrays") else { return };
        if recipe.steps.iter().all(Step::skip) {
            return;
        }
        // Of one exposure is what has one name but for SUBARRID.
        let mut families: BTreeMap<String, Vec<(&Exposure, usize)>> = BTreeMap::new();
        let mut makers: HashMap<&[PathBuf], usize> = HashMap::new();
        for (i, job) in self.tasks.iter().enumerate().filter_map(|(i, t)| Some((i, t.job()?))) {
            if !job.intermediate {
                makers.entry(&job.inputs).or_insert(i);
            }
        }
        for exposure in exposures {
            if let Some(&task) = makers.get(exposure.files.as_slice()) {
                families.entry(family(&exposure.meta)).or_default().push((exposure, task));
            }
        }
        for mut family in families.into_values() {
            family.sort_by(|a, b| a.0.meta.subarrid.cmp(&b.0.meta.subarrid).then(a.0.name.cmp(&b.0.name)));
            let full = family.iter().filter(|(e, _)| e.meta.subarrid == 0).count();
            if full == family.len() {
                for (_, task) in family.iter().filter(|(e, _)| e.meta.holes) {
                    self.tasks[*task].warnings.push(
                        "SUBARR_MAP: no file of the night is one of its subarrays (SUBARRID): their pixels stay without a value"
                            .into(),
                    );
                }
            }
            if full == 0 || full == family.len() {
                continue;
            }
            let names: Vec<String> = family.iter().map(|(e, _)| e.name.clone()).collect();
            let first = family[0].0;
            let name = format!("merged {}", first.name);
            if full > 1 {
                let sentence = format!(
                    "{} and {} are both the full frame (SUBARRID 0 or missing) of EXPNUM {}: their subarrays are \
                     not put back; give each exposure its own EXPNUM, in night.yaml, too",
                    names[0], names[1], first.meta.expnum
                );
                self.refuse(&name, &first.obsname(), &recipe.name, names, sentence);
                continue;
            }
            let parts: Vec<Exposure> =
                family.iter().filter_map(|(e, task)| self.as_reduced(e, *task)).collect();
            let Some(meta) = parts.first().map(|p| p.meta.clone()) else { continue };
            let suffix: Vec<&str> = self.settings.suffix.as_deref().into_iter().chain(["merged"]).collect();
            let product = product_name(&meta, recipe.level(meta.level), &suffix.join("_"));
            let draft = Draft {
                name,
                obsname: first.obsname(),
                exposures: parts.iter().collect(),
                product: self.settings.output.join(product),
                meta,
                full_frame: None,
            };
            if self.add(&recipe, draft)
                && let Some(task) = self.tasks.last_mut()
            {
                task.files = names;
                task.needs = family.iter().map(|(_, task)| *task).collect();
            }
        }
    }

    /// The exposure as its task will leave it.
    fn as_reduced(&self, exposure: &Exposure, task: usize) -> Option<Exposure> {
        let job = self.tasks[task].job()?;
        let product = job.product.clone()?;
        let level = Some(i64::from(job.recipe.level(exposure.meta.level)));
        Some(Exposure {
            identity: job.plan_hash.clone(),
            meta: Meta { level, ..exposure.meta.clone() },
            files: vec![product],
            warnings: Vec::new(),
            ..exposure.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{frame, planned, settings, write};

    fn night(ids: &[(i64, i64)]) -> (tempfile::TempDir, crate::night::Plan) {
        let dir = tempfile::tempdir().expect("temp dir");
        for (i, obsname) in ["IMG1-DRK", "IMG1-NFF", "IMG1-SKY"].into_iter().enumerate() {
            write(&dir.path().join(format!("{obsname}.fits")), &frame(obsname, i as i64 + 1));
        }
        for (i, (expnum, id)) in ids.iter().enumerate() {
            let mut header = frame("IMG1-SCI", *expnum);
            header.set("SUBARRID", *id, "");
            write(&dir.path().join(format!("{i}.fits")), &header);
        }
        let plan = planned(dir.path(), &settings(dir.path()));
        (dir, plan)
    }

    fn merging(plan: &crate::night::Plan) -> Vec<&crate::night::Task> {
        plan.tasks.iter().filter(|t| t.recipe == "merge_subarrays").collect()
    }

    #[test]
    fn subarrays_are_put_back_into_the_frame_of_their_exposure() {
        let (_dir, plan) = night(&[(7, 2), (7, 0), (7, 1), (8, 0), (9, 1)]);
        let [task] = merging(&plan)[..] else { panic!("{:?}", plan.tasks) };
        assert_eq!(
            (task.name.as_str(), task.files.join(" ")),
            ("merged 1.fits", "1.fits 2.fits 0.fits".into())
        );
        assert!(task.product_within().ends_with("_LVL2_0007_merged.fits"), "{}", task.product_within());
        let needed: Vec<_> = task.needs.iter().map(|i| plan.tasks[*i].product_within()).collect();
        let ends = ["_0007.fits", "_0007-01.fits", "_0007-02.fits"];
        assert!(needed.iter().zip(ends).all(|(name, end)| name.ends_with(end)), "{needed:?}");
        let inputs = &task.job().expect("job").inputs;
        assert!(inputs.iter().zip(&task.needs).all(|(i, n)| Some(i.as_path()) == plan.tasks[*n].product()));
    }

    #[test]
    fn a_sky_with_holes_is_not_for_what_lies_in_them() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut sky = frame("IMG1-SKY", 3);
        sky.set("NSUBARR", 1, "");
        write(&dir.path().join("sky.fits"), &sky);
        for (name, obsname) in [("d", "IMG1-DRK"), ("f", "IMG1-NFF")] {
            write(&dir.path().join(format!("{name}.fits")), &frame(obsname, 1));
        }
        for id in [0, 1] {
            let mut header = frame("IMG1-SCI", 7);
            header.set("SUBARRID", id, "");
            write(&dir.path().join(format!("{id}.fits")), &header);
        }
        let plan = planned(dir.path(), &settings(dir.path()));
        let sky = |name: &str| {
            let task = plan.tasks.iter().find(|t| t.name == name).expect("task");
            task.references.iter().find(|p| p.reftype == "sky").expect("sky").clone()
        };
        assert!(sky("0.fits").path.is_some());
        assert!(
            sky("1.fits").path.is_none() && sky("1.fits").reason.contains("values in its window"),
            "{:?}",
            sky("1.fits")
        );
    }

    #[test]
    fn subarrays_of_two_full_frames_are_refused() {
        let (_dir, plan) = night(&[(7, 0), (7, 1), (7, 0)]);
        let [task] = merging(&plan)[..] else { panic!("{:?}", plan.tasks) };
        let crate::night::Action::Refused(sentence) = &task.action else { panic!("{:?}", task.action) };
        assert!(sentence.contains("0.fits and 2.fits are both the full frame"), "{sentence}");
    }
}
