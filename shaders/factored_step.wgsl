// A step of the conjugate gradients: the twin of `run_step` in src/kernels/factored. One
// invocation an entry.

struct Params { entries: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> direction: array<f32>;
@group(0) @binding(1) var<storage, read> image: array<f32>;
@group(0) @binding(2) var<storage, read> scale: array<f32>;
@group(0) @binding(3) var<storage, read> prior: array<f32>;
@group(0) @binding(4) var<storage, read> taps: array<f32>;
@group(0) @binding(5) var<storage, read_write> flux: array<f32>;
@group(0) @binding(6) var<storage, read_write> residual: array<f32>;
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = item(id, groups);
    if e >= p.entries {
        return;
    }
    var most = 0.0;
    for (var at = e * SEG; at < (e + 1u) * SEG; at++) {
        flux[at] += p.factor * direction[at];
        let r = residual[at] - p.factor * image[at];
        residual[at] = r;
        let v = r * scale[at];
        if prior[at] == 0.0 {
            most = max(most, v * v);
        }
    }
    var sum = 0.0;
    for (var x = 0u; x < SEG; x++) {
        sum += residual[e * SEG + x] * preconditioned(e, x);
    }
    parts[2u * e] = sum;
    parts[2u * e + 1u] = most;
}
