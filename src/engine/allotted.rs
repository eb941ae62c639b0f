//! The GPU that a batch system gave this process.
//!
//! Vulkan shows every GPU whatever CUDA_VISIBLE_DEVICES says. Slurm's SLURM_STEP_GPUS and
//! SLURM_JOB_GPUS number GPUs as the driver's device files (`/dev/nvidia0` …) do; in
//! CUDA_VISIBLE_DEVICES they are numbered in the order of their PCI addresses (as with
//! CUDA_DEVICE_ORDER=PCI_BUS_ID), or named by UUID. NVIDIA's driver says in
//! `/proc/driver/nvidia/gpus/ADDRESS/information` which is which.

use std::path::Path;

/// What a batch system allows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Allotted {
    /// It says nothing, or the driver does not say what it means.
    Anything,
    /// No GPU.
    Nothing,
    /// The GPU at this PCI address; the variable that says so.
    Gpu(String, &'static str),
}

/// A GPU as NVIDIA's driver lists it.
struct Card {
    address: String,
    minor: Option<u32>,
    uuid: String,
}

/// Where Slurm names the GPUs of a step, or else of a job.
const SLURM: [&str; 2] = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"];

/// The GPUs that Slurm says are this process's, and in which variable.
pub(super) fn by_slurm(env: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let said = |name| Some((name, env(name).filter(|v| !v.trim().is_empty())?));
    SLURM.into_iter().find_map(said)
}

/// What the environment allows; `gpus` is the driver's folder.
pub(super) fn allotted(env: impl Fn(&str) -> Option<String>, gpus: &Path) -> Allotted {
    const CUDA: &str = "CUDA_VISIBLE_DEVICES";
    let said = SLURM.into_iter().chain([CUDA]).find_map(|name| Some((name, env(name)?)));
    let Some((name, value)) = said else { return Allotted::Anything };
    let first = value.split(',').next().unwrap_or_default().trim();
    let cuda = name == CUDA;
    if cuda && (first.is_empty() || first == "-1" || first == "NoDevFiles") {
        return Allotted::Nothing;
    }
    let cards = cards(gpus);
    let card = match first.parse::<u32>() {
        Ok(index) if cuda => cards.get(index as usize),
        Ok(minor) => cards.iter().find(|c| c.minor == Some(minor)),
        Err(_) => cards.iter().find(|c| !first.is_empty() && c.uuid.starts_with(first)),
    };
    card.map_or(Allotted::Anything, |c| Allotted::Gpu(c.address.clone(), name))
}

/// The cards in the order of their addresses.
fn cards(gpus: &Path) -> Vec<Card> {
    let mut cards: Vec<Card> = std::fs::read_dir(gpus)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path().join("information")).ok()?;
            let line = |key: &str| {
                let of = |l: &str| Some(l.strip_prefix(key)?.trim().strip_prefix(':')?.trim().to_owned());
                text.lines().find_map(of).unwrap_or_default()
            };
            Some(Card {
                address: entry.file_name().to_string_lossy().into_owned(),
                minor: line("Device Minor").parse().ok(),
                uuid: line("GPU UUID"),
            })
        })
        .collect();
    cards.sort_by(|a, b| a.address.cmp(&b.address));
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_systems_numbers_become_addresses() {
        let dir = tempfile::tempdir().expect("folder");
        for (address, minor, uuid) in [
            ("0000:c1:00.0", 0, "GPU-aa11"),
            ("0000:41:00.0", 1, "GPU-bb22"),
            ("0000:81:00.0", 2, "GPU-cc33"),
        ] {
            let card = dir.path().join(address);
            std::fs::create_dir(&card).expect("card");
            let text = format!("Model: \t H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n");
            std::fs::write(card.join("information"), text).expect("information");
        }
        let of = |vars: &[(&str, &str)]| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            allotted(env, dir.path())
        };
        let gpu = |address: &str, by| Allotted::Gpu(address.into(), by);
        assert_eq!(of(&[]), Allotted::Anything);
        assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", "")]), Allotted::Nothing);
        // CUDA's are relative to what a job sees, Slurm's are not: Slurm's come first.
        let both = [("CUDA_VISIBLE_DEVICES", "0"), ("SLURM_JOB_GPUS", "1,2")];
        assert_eq!(of(&both), gpu("0000:41:00.0", "SLURM_JOB_GPUS"));
        assert_eq!(of(&[("SLURM_STEP_GPUS", "0")]), gpu("0000:c1:00.0", "SLURM_STEP_GPUS"));
        assert_eq!(of(&both[..1]), gpu("0000:41:00.0", "CUDA_VISIBLE_DEVICES"));
        assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", "GPU-cc")]), gpu("0000:81:00.0", "CUDA_VISIBLE_DEVICES"));
        assert_eq!(of(&[("SLURM_JOB_GPUS", "7")]), Allotted::Anything);
    }
}
