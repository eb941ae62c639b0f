//! Every kernel's WGSL, without any device: it parses, it is valid without any
//! optional capability, it stays within the limits that every device has, and its
//! bindings and parameter block are those that Rust says.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use irisgpu::kernels::{Access, Kernel, all};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner, valid};

/// Limits that WebGPU guarantees and that the engine counts on.
const STORAGE_BUFFERS: usize = 8;
const UNIFORM_BYTES: usize = 16 << 10;
const SHARED_BYTES: u32 = 16 << 10;
/// What the engine dispatches.
const WORKGROUP: [u32; 3] = [64, 1, 1];

/// What is wrong with `source` as the WGSL of `kernel`.
fn faults(kernel: &Kernel, source: &str) -> Vec<String> {
    let module = match naga::front::wgsl::parse_str(source) {
        Ok(module) => module,
        Err(e) => return vec![e.emit_to_string(source)],
    };
    let mut validator = valid::Validator::new(valid::ValidationFlags::all(), valid::Capabilities::empty());
    let mut out = Vec::new();
    if let Err(e) = validator.validate(&module) {
        out.push(e.emit_to_string(source));
    }
    entry_point(&module, &mut out);
    bindings(kernel, &module, &mut out);
    out
}

fn entry_point(module: &Module, out: &mut Vec<String>) {
    match module.entry_points.as_slice() {
        [main] if main.name == "main" && main.workgroup_size == WORKGROUP => {}
        [main] => out.push(format!("entry point {} of {:?}", main.name, main.workgroup_size)),
        all => out.push(format!("{} entry points", all.len())),
    }
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
    if bytes > SHARED_BYTES {
        out.push(format!("{bytes} bytes shared in a workgroup"));
    }
}

fn bindings(kernel: &Kernel, module: &Module, out: &mut Vec<String>) {
    let mut bound: Vec<_> =
        module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?, v))).collect();
    bound.sort_by_key(|(at, _)| (at.group, at.binding));
    if kernel.access.len() > STORAGE_BUFFERS {
        out.push(format!("{} storage buffers", kernel.access.len()));
    }
    if bound.len() != kernel.access.len() + 1 {
        out.push(format!("{} bindings for {} buffers and the parameters", bound.len(), kernel.access.len()));
    }
    for (i, (at, variable)) in bound.iter().enumerate() {
        if (at.group, at.binding) != (0, i as u32) {
            out.push(format!("binding {i} is @group({}) @binding({})", at.group, at.binding));
        }
        let expected = match kernel.access.get(i) {
            Some(Access::Read) => AddressSpace::Storage { access: StorageAccess::LOAD },
            Some(Access::Write) => {
                AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE }
            }
            None => AddressSpace::Uniform,
        };
        if variable.space != expected {
            out.push(format!("binding {i} is {:?}, not {expected:?}", variable.space));
        }
    }
    let uniforms = bound.iter().filter(|(_, v)| v.space == AddressSpace::Uniform);
    uniforms.for_each(|(_, v)| parameters(kernel, module, &module.types[v.ty].inner, out));
}

fn parameters(kernel: &Kernel, module: &Module, block: &TypeInner, out: &mut Vec<String>) {
    let TypeInner::Struct { members, span } = block else {
        return out.push("the uniform is no struct".into());
    };
    if *span as usize != kernel.params.size || kernel.params.size > UNIFORM_BYTES {
        out.push(format!("parameters of {span} bytes, {} in Rust", kernel.params.size));
    }
    if members.len() != kernel.params.fields.len() {
        out.push(format!("{} parameters, {} in Rust", members.len(), kernel.params.fields.len()));
    }
    for (member, field) in members.iter().zip(kernel.params.fields) {
        let ty = &module.types[member.ty].inner;
        let wgsl = (
            member.name.as_deref().unwrap_or_default(),
            member.offset as usize,
            ty.size(module.to_ctx()) as usize,
            kind(module, ty),
        );
        let kind = match field.ty.trim_start_matches('[').split(';').next() {
            Some("f32") => Some(ScalarKind::Float),
            Some("u32") => Some(ScalarKind::Uint),
            _ => None,
        };
        let rust = (field.name, field.offset, field.size, kind);
        if wgsl != rust {
            out.push(format!("parameter {wgsl:?}, in Rust {rust:?}"));
        }
    }
}

/// What the numbers of a type are.
fn kind(module: &Module, ty: &TypeInner) -> Option<ScalarKind> {
    match *ty {
        TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } => Some(s.kind),
        TypeInner::Array { base, .. } => kind(module, &module.types[base].inner),
        _ => None,
    }
}

#[test]
fn every_kernel_is_valid_everywhere_and_laid_out_as_rust_says() {
    for kernel in all() {
        let faults = faults(kernel, &kernel.source(kernel.constants));
        assert!(faults.is_empty(), "{kernel:?}:\n{}", faults.join("\n"));
    }
}

#[test]
fn every_shader_belongs_to_a_kernel_and_has_its_name() {
    let mut kernels = all();
    kernels.sort_by_key(|k| k.stem);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let stems = |folder: &std::path::Path| -> Vec<String> {
        let files = std::fs::read_dir(folder).expect("folder").map(|f| f.expect("entry").path());
        let wgsl = files.filter(|f| f.extension().is_some_and(|e| e == "wgsl"));
        let mut stems: Vec<String> = wgsl.filter_map(|f| Some(f.file_stem()?.to_str()?.to_owned())).collect();
        stems.sort();
        stems
    };
    assert_eq!(stems(&folder), kernels.iter().map(|k| k.stem).collect::<Vec<_>>());
    for kernel in &kernels {
        let own = std::fs::read_to_string(folder.join(kernel.stem).with_extension("wgsl")).expect("file");
        assert_eq!(kernel.wgsl.last(), Some(&own.as_str()), "{kernel:?}");
    }
    for stem in stems(&folder.join("lib")) {
        let text = std::fs::read_to_string(folder.join("lib").join(&stem).with_extension("wgsl"));
        let text = text.expect("file");
        assert!(kernels.iter().any(|k| k.source(k.constants).contains(&text)), "lib/{stem} is not used");
    }
}

#[test]
fn what_is_wrong_is_found() {
    let kernel = all().into_iter().find(|k| k.stem == "ramp").expect("the ramp kernel");
    let source = kernel.source(kernel.constants);
    for (from, to, found) in [
        ("nx: u32, rows: u32", "rows: u32, nx: u32", "parameter (\"rows\", 4"),
        ("items: u32, nx", "items: u32, @align(16) nx", "parameter (\"nx\", 16"),
        ("counts: u32,", "counts: u32, more: u32,", "31 parameters"),
        ("threshold_one: f32", "threshold_one: i32", ""),
        ("counts: u32,", "counts: f32,", ""),
        ("@workgroup_size(64)", "@workgroup_size(512)", "[512, 1, 1]"),
        ("@binding(7)", "@binding(8)", "binding 7 is"),
        ("@binding(5) var<storage, read_write>", "@binding(5) var<storage, read>", ""),
        ("@binding(4) var<storage, read>", "@binding(4) var<storage, read_write>", "binding 4 is Storage"),
        ("// In front", "enable f16;\n// In front", ""),
    ] {
        assert!(source.contains(from), "{from}");
        let faults = faults(kernel, &source.replacen(from, to, 1)).join("\n");
        assert!(!faults.is_empty() && faults.contains(found), "{from} → {to}: '{faults}'");
    }
}
