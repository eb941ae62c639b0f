//! Which device: what there is, and which one a request means.

use std::path::Path;

use super::allotted::{self, Allotted, allotted};
use super::{CpuEngine, DeviceInfo, DeviceKind, Engine, GpuEngine};
use crate::error::{Error, Result};

/// A device as `irisgpu devices` lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name, limits.
    pub info: DeviceInfo,
    /// PCI address; empty where the driver does not say.
    pub pci: String,
    /// Driver and version.
    pub driver: String,
    /// Whether it is the one taken when nothing is asked for.
    pub default: bool,
}

/// Memory that GPU buffers should stay under when the user does not say: wgpu does
/// not tell how much a device has.
const GPU_MEMORY: u64 = 4 << 30;
/// Uploads of this size reach the bus's full speed.
pub(super) const GPU_ENOUGH: u64 = 64 << 20;
/// The same for the CPU engine.
const CPU_MEMORY: u64 = 1 << 30;

fn adapters() -> Vec<(wgpu::Adapter, DeviceKind)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    if std::env::var_os("WGPU_BACKEND").is_none() {
        // OpenGL only on request: its drivers probe for displays.
        descriptor.backends = wgpu::Backends::PRIMARY;
    }
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let mut found: Vec<_> = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .filter(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .map(|a| {
            let info = a.get_info();
            let software = ["llvmpipe", "swiftshader", "lavapipe", "basic render"];
            let name = info.name.to_ascii_lowercase();
            let is_cpu =
                info.device_type == wgpu::DeviceType::Cpu || software.iter().any(|s| name.contains(s));
            (a, if is_cpu { DeviceKind::Software } else { DeviceKind::Gpu })
        })
        .collect();
    // Best first; stable, so the driver's order breaks ties.
    found.sort_by_key(|(a, kind)| match (kind, a.get_info().device_type) {
        (DeviceKind::Gpu, wgpu::DeviceType::DiscreteGpu) => 0,
        (DeviceKind::Gpu, wgpu::DeviceType::IntegratedGpu) => 1,
        (DeviceKind::Gpu, _) => 2,
        _ => 3,
    });
    found
}

fn describe(adapter: &wgpu::Adapter, kind: DeviceKind) -> DeviceInfo {
    let limits = adapter.limits();
    let info = adapter.get_info();
    DeviceInfo {
        name: info.name,
        backend: info.backend.to_string(),
        kind,
        max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        memory: GPU_MEMORY,
        enough: GPU_ENOUGH,
        keeps: GPU_MEMORY / 2,
    }
}

/// Every device of this machine, best first, the CPU engine last.
pub fn devices() -> Vec<Listed> {
    listed(&adapters())
}

fn listed(found: &[(wgpu::Adapter, DeviceKind)]) -> Vec<Listed> {
    let mut list: Vec<Listed> = found
        .iter()
        .map(|(adapter, kind)| {
            let about = adapter.get_info();
            Listed {
                info: describe(adapter, *kind),
                pci: about.device_pci_bus_id,
                driver: format!("{} {}", about.driver, about.driver_info).trim().to_owned(),
                default: false,
            }
        })
        .collect();
    let cpu = CpuEngine::new(CPU_MEMORY);
    list.push(Listed {
        info: cpu.device().clone(),
        pci: String::new(),
        driver: String::new(),
        default: false,
    });
    if let Ok(chosen) = choose(&list, None) {
        list[chosen].default = true;
    }
    list
}

/// Which device of `list` (see [`devices`]) a request means: `None` the GPU that a batch
/// system gave this process, else the best hardware GPU, else the CPU engine; `cpu` the
/// CPU engine; `gpu` a hardware GPU, `all` the first of those ([`each`] names them); `pci:…`
/// the device at that address; any other text the first device whose name contains it (in
/// any case).
pub fn choose(list: &[Listed], request: Option<&str>) -> Result<usize> {
    let given = allotted(|name| std::env::var(name).ok(), Path::new("/proc/driver/nvidia/gpus"));
    among(list, request, &given)
}

/// See [`choose`].
fn among(list: &[Listed], request: Option<&str>, given: &Allotted) -> Result<usize> {
    let hardware = list.iter().any(|l| l.info.kind == DeviceKind::Gpu);
    match (request, given) {
        (None, Allotted::Nothing) => return among(list, Some("cpu"), given),
        (None, Allotted::Gpu(pci, by)) if hardware => {
            return list.iter().position(|l| l.pci.eq_ignore_ascii_case(pci)).ok_or_else(|| {
                Error::NoDevice(format!(
                    "{by} gives this process the GPU at {pci}, which is not among the devices that its driver shows \
                     (`irisgpu devices` lists them); give one with --device"
                ))
            });
        }
        _ => {}
    }
    let wanted = request.map(str::to_ascii_lowercase);
    let fits = |l: &Listed| match wanted.as_deref() {
        None | Some("gpu" | "all") => l.info.kind == DeviceKind::Gpu,
        Some("cpu") => l.info.kind == DeviceKind::Cpu,
        Some(text) => match text.strip_prefix("pci:") {
            Some(address) => l.pci.eq_ignore_ascii_case(address),
            None => l.info.kind != DeviceKind::Cpu && l.info.name.to_ascii_lowercase().contains(text),
        },
    };
    let cpu = || list.iter().position(|l| l.info.kind == DeviceKind::Cpu);
    let found = list.iter().position(fits).or_else(|| if wanted.is_none() { cpu() } else { None });
    found.ok_or_else(|| {
        let wanted = wanted.unwrap_or_default();
        let what = if ["gpu", "all"].contains(&wanted.as_str()) {
            "no hardware GPU".to_owned()
        } else {
            format!("no device '{wanted}'")
        };
        let gpus = list.iter().filter(|l| l.info.kind != DeviceKind::Cpu);
        let names: Vec<&str> = gpus.map(|l| l.info.name.as_str()).collect();
        Error::NoDevice(format!(
            "{what} on this machine (it has {}); `irisgpu devices` lists them",
            if names.is_empty() { "only the CPU engine, 'cpu'".into() } else { names.join(", ") + ", cpu" }
        ))
    })
}

/// A sentence where a batch system gave this process a GPU, none was asked for by name, and
/// there is none to be seen: the CPU engine does its work.
pub fn promised(request: Option<&str>) -> Option<String> {
    let (name, value) = allotted::by_slurm(|name| std::env::var(name).ok()).filter(|_| request.is_none())?;
    let seen = adapters().iter().any(|(_, kind)| *kind == DeviceKind::Gpu);
    (!seen).then(|| {
        format!(
            "{name} = {value} gives this process a GPU, but Vulkan shows none here: the CPU engine works in its place \
             (`irisgpu devices` lists what there is; the driver's Vulkan part may be missing on this node)"
        )
    })
}

/// The requests that `request` stands for: itself, or for `all` one for each hardware GPU
/// that is of the best one's sort and has an address.
pub fn each(request: Option<&str>) -> Vec<Option<String>> {
    let itself = || vec![request.map(str::to_owned)];
    if !request.is_some_and(|r| r.eq_ignore_ascii_case("all")) {
        return itself();
    }
    let found = adapters();
    let sort = |a: &wgpu::Adapter| a.get_info().device_type;
    let best = found.first().map(|(a, _)| sort(a));
    let alike: Vec<(wgpu::Adapter, DeviceKind)> =
        found.into_iter().filter(|(a, _)| Some(sort(a)) == best).collect();
    match addresses(&listed(&alike)) {
        none if none.is_empty() => itself(),
        addresses => addresses.into_iter().map(|pci| Some(format!("pci:{pci}"))).collect(),
    }
}

/// Of hardware GPUs, each once.
fn addresses(list: &[Listed]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for l in list.iter().filter(|l| l.info.kind == DeviceKind::Gpu && !l.pci.is_empty()) {
        if !out.contains(&l.pci) {
            out.push(l.pci.clone());
        }
    }
    out
}

/// Fails where no device answers to `request`; opens none.
pub fn require(request: &str) -> Result<()> {
    if is_cpu(request) { Ok(()) } else { choose(&devices(), Some(request)).map(|_| ()) }
}

/// Asked for by name, the CPU engine needs no driver to be looked for.
fn is_cpu(request: &str) -> bool {
    request.eq_ignore_ascii_case("cpu")
}

/// Opens the device that [`choose`] takes. `memory` bounds its buffers, bytes.
pub fn select(request: Option<&str>, memory: Option<u64>) -> Result<Box<dyn Engine>> {
    let found = if request.is_some_and(is_cpu) { Vec::new() } else { adapters() };
    super::faulty::as_asked(match found.get(choose(&listed(&found), request)?) {
        Some((adapter, kind)) => Box::new(GpuEngine::new(adapter, *kind, memory.unwrap_or(GPU_MEMORY))?),
        None => Box::new(CpuEngine::new(memory.unwrap_or(CPU_MEMORY))),
    })
}

/// The CPU engine for what a device has failed at: no device can be lost there, and none
/// that is lost on request (`IRISGPU_FAULT`).
pub fn last_resort(memory: Option<u64>) -> Box<dyn Engine> {
    Box::new(CpuEngine::new(memory.unwrap_or(CPU_MEMORY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: DeviceKind, pci: &str) -> Listed {
        let info = DeviceInfo {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            max_binding: 1,
            memory: 1,
            enough: 1,
            keeps: 0,
        };
        Listed { info, pci: pci.into(), driver: String::new(), default: false }
    }

    #[test]
    fn requests_are_understood() {
        let hall = [
            device("NVIDIA H200", DeviceKind::Gpu, "0000:41:00.0"),
            device("llvmpipe (LLVM 19)", DeviceKind::Software, ""),
            device("CPU (2 threads)", DeviceKind::Cpu, ""),
        ];
        let choose = |list: &[Listed], request| among(list, request, &Allotted::Anything);
        let chosen = |request| choose(&hall, request).ok();
        assert_eq!(chosen(None), Some(0));
        assert_eq!(chosen(Some("GPU")), Some(0));
        assert_eq!(chosen(Some("cpu")), Some(2));
        assert_eq!(chosen(Some("LLVMpipe")), Some(1));
        assert_eq!(chosen(Some("pci:0000:41:00.0")), Some(0));
        assert_eq!(chosen(Some("threads")), None);
        assert_eq!(chosen(Some("all")), Some(0));
        // A GPU that two drivers show is one.
        let twins =
            [hall[0].clone(), device("NVIDIA H200", DeviceKind::Gpu, "0000:c1:00.0"), hall[0].clone()];
        assert_eq!(addresses(&twins), ["0000:41:00.0", "0000:c1:00.0"]);
        assert!(addresses(&hall[1..]).is_empty());
        // Without hardware the CPU engine is taken, but not for a GPU.
        assert_eq!(choose(&hall[1..], None).ok(), Some(1));
        let sentence = choose(&hall[1..], Some("gpu")).expect_err("no GPU").to_string();
        assert!(sentence.contains("no hardware GPU") && sentence.contains("llvmpipe"), "{sentence}");
        // What a batch system gives, unless another is asked for.
        let gpu = |pci: &str| Allotted::Gpu(pci.into(), "SLURM_JOB_GPUS");
        let given = |list: &[Listed], request, given: &Allotted| among(list, request, given).ok();
        assert_eq!(given(&hall, None, &Allotted::Nothing), Some(2));
        assert_eq!(given(&hall, Some("gpu"), &Allotted::Nothing), Some(0));
        assert_eq!(given(&hall, None, &gpu("0000:41:00.0")), Some(0));
        assert_eq!(given(&hall, None, &gpu("0000:42:00.0")), None);
        assert_eq!(given(&hall[1..], None, &gpu("0000:42:00.0")), Some(1));
    }
}
