// The next direction of the conjugate gradients: the twin of `run_turn` in
// src/kernels/factored. One invocation an unknown.

struct Params { entries: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> residual: array<f32>;
@group(0) @binding(1) var<storage, read> scale: array<f32>;
@group(0) @binding(2) var<storage, read> taps: array<f32>;
@group(0) @binding(3) var<storage, read_write> direction: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    if i >= p.entries * SEG {
        return;
    }
    direction[i] = preconditioned(i / SEG, i % SEG) + p.factor * direction[i];
}
