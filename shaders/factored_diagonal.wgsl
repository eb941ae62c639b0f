// An entry's share of the diagonal of BᵀWB, a workgroup an entry: the twin of `diagonal` in
// src/kernels/factored.

struct Params { first_entry: u32, entries: u32, ny: u32, ky: u32, rank: u32, nodes: u32 }

@group(0) @binding(0) var<storage, read> entries: array<u32>;
@group(0) @binding(1) var<storage, read> shapes: array<f32>;
@group(0) @binding(2) var<storage, read> coefs: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> wide: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

// The pixel columns' sums over rows with each tap, (TAPS, SEG).
var<workgroup> sums: array<f32, 1088>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    let x = i % SEG;
    // What lies beyond the last entry does as the last one, and writes nothing.
    let own = min(i / SEG, p.entries - 1u);
    let e = p.first_entry + own;
    let segment = entries[e * ENTRY + 1u];
    let top = bitcast<i32>(entries[e * ENTRY + 2u]);
    let basis = p.rank * TAPS;
    let terms = p.rank * p.nodes;
    var total: array<f32, TAPS>;
    for (var dy = 0u; dy < p.ky; dy++) {
        let y = top + i32(dy);
        if y < 0 || y >= i32(p.ny) {
            continue;
        }
        let w = weight[(segment * p.ny + u32(y)) * SEG + x];
        var b: array<f32, TAPS>;
        for (var r = 0u; r < p.rank; r++) {
            var a = 0.0;
            for (var k = 0u; k < p.nodes; k++) {
                a += coefs[(own * p.ky + dy) * terms + r * p.nodes + k] * shapes[basis + k * SEG + x];
            }
            for (var j = 0u; j < TAPS; j++) {
                b[j] += shapes[r * TAPS + j] * a;
            }
        }
        for (var j = 0u; j < TAPS; j++) {
            total[j] += w * (b[j] * b[j]);
        }
    }
    for (var j = 0u; j < TAPS; j++) {
        sums[j * SEG + x] = total[j];
    }
    workgroupBarrier();
    if i / SEG >= p.entries {
        return;
    }
    for (var at = x; at < WIDE; at += SEG) {
        var s = 0.0;
        for (var j = 0u; j < TAPS; j++) {
            // Columns below 0 are large numbers.
            let column = at - j;
            if column < SEG {
                s += sums[j * SEG + column];
            }
        }
        wide[e * WIDE + at] = s;
    }
}
