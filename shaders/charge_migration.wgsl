// Reads in which charge has migrated: the twin of src/kernels/charge_migration.rs. One
// invocation a pixel.

struct Params {
    items: u32, nx: u32, rows: u32, ramps: u32,
    reads: u32, threshold: f32,
}

@group(0) @binding(0) var<storage, read> ramp: array<f32>;
@group(0) @binding(1) var<storage, read> flags_in: array<u32>;
@group(0) @binding(2) var<storage, read_write> flags_out: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

const FLAG_DO_NOT_USE: u32 = 1u;
const FLAG_CHARGELOSS: u32 = 128u;

// The first read of a ramp, before `most`, at which `pixel` is above the threshold.
fn first_above(start: u32, pixel: u32, most: u32) -> u32 {
    for (var k = 0u; k < most; k++) {
        let at = (start + k) * p.items + pixel;
        if ramp[at] > p.threshold && flags_in[at] != FLAG_DO_NOT_USE {
            return k;
        }
    }
    return most;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    let x = pixel % p.nx;
    let y = pixel / p.nx;
    for (var r = 0u; r < p.ramps; r++) {
        let start = r * p.reads;
        var first = first_above(start, pixel, p.reads);
        if x > 0u {
            first = first_above(start, pixel - 1u, first);
        }
        if x + 1u < p.nx {
            first = first_above(start, pixel + 1u, first);
        }
        if y > 0u {
            first = first_above(start, pixel - p.nx, first);
        }
        if y + 1u < p.rows {
            first = first_above(start, pixel + p.nx, first);
        }
        for (var k = 0u; k < p.reads; k++) {
            let at = (start + k) * p.items + pixel;
            let lost = select(0u, FLAG_CHARGELOSS | FLAG_DO_NOT_USE, k >= first);
            flags_out[at] = flags_in[at] | lost;
        }
    }
}
