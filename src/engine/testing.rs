//! Helpers for tests that run one recording on two engines.

use super::{Engine, select};

/// A GPU to test the WGSL on: `IRISGPU_TEST_DEVICE`, else the software Vulkan
/// driver, else any GPU. `None`, with a message, where there is none; a panic
/// instead of that when `IRISGPU_REQUIRE_GPU=1`.
pub fn gpu() -> Option<Box<dyn Engine>> {
    let named = std::env::var("IRISGPU_TEST_DEVICE").ok();
    let names = [named.as_deref().unwrap_or("llvmpipe"), "gpu"];
    let found = names.iter().find_map(|name| select(Some(name), None).ok());
    let required = std::env::var("IRISGPU_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(found.is_some() || !required, "IRISGPU_REQUIRE_GPU=1 and no GPU, not even a software one");
    if found.is_none() {
        eprintln!("SKIPPED: no GPU and no software Vulkan driver (install mesa-vulkan-drivers)");
    }
    found
}

/// Compares two float arrays: NaN in the same places, and at most `bad` elements
/// with |a − b| > `atol` + `rtol`·|b|. The error says where they differ most.
pub fn close(a: &[f32], b: &[f32], atol: f32, rtol: f32, bad: usize) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("lengths {} and {}", a.len(), b.len()));
    }
    let excess = |i: usize| match (a[i].is_nan(), b[i].is_nan()) {
        (true, true) => 0.0,
        (false, false) if a[i] == b[i] => 0.0,
        (false, false) => (a[i] - b[i]).abs() / (atol + rtol * b[i].abs()),
        _ => f32::INFINITY,
    };
    let over: Vec<usize> = (0..a.len()).filter(|&i| excess(i) > 1.0).collect();
    if over.len() <= bad {
        return Ok(());
    }
    let worst = over.iter().copied().max_by(|&i, &j| excess(i).total_cmp(&excess(j))).unwrap_or(0);
    Err(format!(
        "{} of {} differ; worst at {worst}: {} against {} ({:.1} tolerances)",
        over.len(),
        a.len(),
        a[worst],
        b[worst],
        excess(worst)
    ))
}
