//! `devices`: what this machine has, and which of it is taken.

use serde_json::json;

use super::args::Devices;
use super::exit::Exit;
use super::{options, print};
use crate::engine::{self, DeviceKind, Listed};
use crate::error::Result;
use crate::report::Table;

/// Runs `devices`. A request that nothing answers to is told after the list.
pub(super) fn devices(args: &Devices) -> Result<Exit> {
    let asked = options::engine(&args.engine)?.device;
    let list = engine::devices();
    let chosen = engine::choose(&list, asked.as_deref());
    let why = why(&list, chosen.as_ref().ok().copied(), asked.as_deref());
    if args.json {
        let rows: Vec<_> =
            list.iter().enumerate().map(|(i, l)| row(l, chosen.as_ref().is_ok_and(|c| *c == i))).collect();
        print::json(&json!({"devices": rows, "why": why}))?;
    } else {
        let mut table = Table::new(&[
            "",
            "DEVICE",
            "BACKEND",
            "KIND",
            ">LARGEST BUFFER",
            ">MEMORY BUDGET",
            "PCI",
            "DRIVER",
        ]);
        for (i, l) in list.iter().enumerate() {
            let mark = if chosen.as_ref().is_ok_and(|c| *c == i) { "*" } else { "" };
            table.row([
                mark.to_owned(),
                l.info.name.clone(),
                l.info.backend.clone(),
                kind(l.info.kind).to_owned(),
                size(l.info.max_binding),
                size(l.info.memory),
                l.pci.clone(),
                l.driver.clone(),
            ]);
        }
        print::out(&format!("{table}"))?;
        if !why.is_empty() {
            print::out(&format!("\n{why}\n"))?;
        }
    }
    chosen.map(|_| Exit::Done)
}

fn why(list: &[Listed], chosen: Option<usize>, asked: Option<&str>) -> String {
    let Some(device) = chosen.and_then(|i| list.get(i)) else { return String::new() };
    let name = &device.info.name;
    match (asked, device.info.kind) {
        (Some(asked), _) => format!("* {name} answers to --device {asked}."),
        (None, DeviceKind::Gpu) => format!("* {name} is taken: the best hardware GPU."),
        (None, _) if list.len() > 1 => format!(
            "* {name} is taken: there is no hardware GPU, and graphics drivers in software are slower \
             than the CPU engine; --device NAME takes one."
        ),
        (None, _) => format!("* {name} is taken: no driver (Vulkan, Metal, DX12) offers a GPU."),
    }
}

fn row(l: &Listed, chosen: bool) -> serde_json::Value {
    let unlimited = l.info.max_binding == u64::MAX;
    json!({
        "name": l.info.name,
        "backend": l.info.backend,
        "kind": kind(l.info.kind),
        "max_binding": if unlimited { serde_json::Value::Null } else { l.info.max_binding.into() },
        "memory": l.info.memory,
        "pci": l.pci,
        "driver": l.driver,
        "default": l.default,
        "chosen": chosen,
    })
}

fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Gpu => "GPU",
        DeviceKind::Software => "software",
        DeviceKind::Cpu => "CPU",
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        u64::MAX => "any".into(),
        b if b >= 1 << 30 => format!("{:.1} GiB", b as f64 / f64::from(1 << 30)),
        b => format!("{:.0} MiB", b as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            (size(u64::MAX), size(128 << 20), size(6 << 29)),
            ("any".into(), "128 MiB".into(), "3.0 GiB".into())
        );
    }
}
