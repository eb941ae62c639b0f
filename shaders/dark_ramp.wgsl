// A dark ramp subtracted read by read: the twin of src/kernels/dark_ramp.rs. One
// invocation a pixel.

struct Params {
    items: u32, reads: u32, dark_reads: u32,
}

@group(0) @binding(0) var<storage, read_write> ramp: array<f32>;
@group(0) @binding(1) var<storage, read> dark: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    for (var k = 0u; k < p.reads; k++) {
        ramp[k * p.items + pixel] -= dark[(k % p.dark_reads) * p.items + pixel];
    }
}
