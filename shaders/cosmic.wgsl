// Which peaks are cosmic rays: the contract is in src/kernels/cosmic.rs.

struct Params {
    pixels: u32,
    nx: u32,
    threshold: f32,
    neighbour_threshold: f32,
    contrast: f32,
}

@group(0) @binding(0) var<storage, read> peaks: array<f32>;
@group(0) @binding(1) var<storage, read> smooth_peaks: array<f32>;
@group(0) @binding(2) var<storage, read> median3: array<f32>;
@group(0) @binding(3) var<storage, read> median7: array<f32>;
@group(0) @binding(4) var<storage, read> variances: array<f32>;
@group(0) @binding(5) var<storage, read> left_out: array<u32>;
@group(0) @binding(6) var<storage, read_write> result: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

fn peak(i: u32) -> f32 {
    return peaks[i] - smooth_peaks[i];
}

// A peak that is sharp for the structure it stands on.
fn struck(i: u32) -> bool {
    if (left_out[i] != 0u || !(peak(i) > p.threshold) || !(variances[i] > 0.0)) {
        return false;
    }
    let structure = max((median3[i] - median7[i]) / sqrt(variances[i]), 0.01);
    return peak(i) > p.contrast * structure;
}

// Significant itself, and beside a struck pixel (or struck).
fn grown(i: u32) -> bool {
    if (left_out[i] != 0u || !(peak(i) > p.threshold)) {
        return false;
    }
    let ny = p.pixels / p.nx;
    let x = i % p.nx;
    let y = i / p.nx;
    for (var row = max(y, 1u) - 1u; row <= min(y + 1u, ny - 1u); row++) {
        for (var column = max(x, 1u) - 1u; column <= min(x + 1u, p.nx - 1u); column++) {
            if (struck(row * p.nx + column)) {
                return true;
            }
        }
    }
    return false;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    if (i >= p.pixels) {
        return;
    }
    var hit = 0u;
    if (left_out[i] == 0u && peak(i) > p.neighbour_threshold) {
        let ny = p.pixels / p.nx;
        let x = i % p.nx;
        let y = i / p.nx;
        for (var row = max(y, 1u) - 1u; row <= min(y + 1u, ny - 1u); row++) {
            for (var column = max(x, 1u) - 1u; column <= min(x + 1u, p.nx - 1u); column++) {
                if (grown(row * p.nx + column)) {
                    hit = 1u;
                }
            }
        }
    }
    result[i] = hit;
}
