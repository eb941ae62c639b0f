// Significance of sharp peaks: the contract is in src/kernels/laplacian.rs.

struct Params {
    pixels: u32,
    nx: u32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> variances: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    if (i >= p.pixels) {
        return;
    }
    let x = i % p.nx;
    let v = values[i];
    // Beyond the edge lies what is at the edge.
    let left = values[select(i, i - 1u, x > 0u)];
    let right = values[select(i, i + 1u, x + 1u < p.nx)];
    let up = values[select(i, i - p.nx, i >= p.nx)];
    let down = values[select(i, i + p.nx, i + p.nx < p.pixels)];
    let sum = max(2.0 * v - left - up, 0.0) + max(2.0 * v - right - up, 0.0)
        + max(2.0 * v - left - down, 0.0) + max(2.0 * v - right - down, 0.0);
    let variance = variances[i];
    var s = 0.0;
    if (variance > 0.0) {
        s = 0.125 * sum / sqrt(variance);
    }
    result[i] = s;
}
