// Inter-pixel capacitance undone: the twin of src/kernels/ipc.rs. One invocation a pixel.

struct Params {
    items: u32, nx: u32, rows: u32, reads: u32,
    width: u32, varies: u32, x0: u32, x1: u32,
    y0: u32, y1: u32,
}

@group(0) @binding(0) var<storage, read> ramp: array<f32>;
@group(0) @binding(1) var<storage, read> flags_in: array<u32>;
@group(0) @binding(2) var<storage, read> taps: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

const FLAG_DO_NOT_USE: u32 = 1u;
const FLAG_AD_FLOOR: u32 = 64u;

// The signal at element `at`; `own` where it has none.
fn signal(at: u32, own: f32) -> f32 {
    let value = ramp[at];
    let lost = value == 0.0 && (flags_in[at] & (FLAG_DO_NOT_USE | FLAG_AD_FLOOR)) == FLAG_DO_NOT_USE;
    return select(value, own, lost);
}

fn tap(index: u32, pixel: u32) -> f32 {
    if p.varies != 0u {
        return taps[index * p.items + pixel];
    }
    return taps[index];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    let x = pixel % p.nx;
    let y = pixel / p.nx;
    let half = p.width / 2u;
    let inside = x >= p.x0 && x < p.x1 && y >= p.y0 && y < p.y1;
    for (var k = 0u; k < p.reads; k++) {
        let base = k * p.items;
        let own = ramp[base + pixel];
        if !inside {
            out[base + pixel] = own;
            continue;
        }
        var sum = 0.0;
        for (var j = 0u; j < p.width; j++) {
            // Rows above 2^31 are those below 0.
            let qy = y + half - j;
            if qy < p.y0 || qy >= p.y1 || qy >= p.rows {
                continue;
            }
            for (var i = 0u; i < p.width; i++) {
                let qx = x + half - i;
                if qx < p.x0 || qx >= p.x1 || (i == half && j == half) {
                    continue;
                }
                sum += tap(j * p.width + i, pixel) * signal(base + qy * p.nx + qx, own);
            }
        }
        // The middle last: it is the largest by far.
        out[base + pixel] = sum + tap(half * p.width + half, pixel) * own;
    }
}
