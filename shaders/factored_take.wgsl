// An entry's share of the transpose of an image, a workgroup an entry: the twin of
// `transpose` in src/kernels/factored.

struct Params { first_entry: u32, entries: u32, ny: u32, ky: u32, rank: u32, nodes: u32 }

@group(0) @binding(0) var<storage, read> entries: array<u32>;
@group(0) @binding(1) var<storage, read> shapes: array<f32>;
@group(0) @binding(2) var<storage, read> coefs: array<f32>;
@group(0) @binding(3) var<storage, read> image: array<f32>;
@group(0) @binding(4) var<storage, read_write> wide: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

// The columns' sums with each term's profile, (rank, SEG).
var<workgroup> q: array<f32, 1024>;

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
    let first = u32(clamp(-top, 0, i32(p.ky)));
    let end = u32(clamp(i32(p.ny) - top, i32(first), i32(p.ky)));
    for (var r = 0u; r < p.rank; r++) {
        var total = 0.0;
        for (var k = 0u; k < p.nodes; k++) {
            var sum = 0.0;
            for (var dy = first; dy < end; dy++) {
                let z = image[(segment * p.ny + u32(top + i32(dy))) * SEG + x];
                sum += coefs[(own * p.ky + dy) * terms + r * p.nodes + k] * z;
            }
            total += shapes[basis + k * SEG + x] * sum;
        }
        q[r * SEG + x] = total;
    }
    workgroupBarrier();
    if i / SEG >= p.entries {
        return;
    }
    for (var at = x; at < WIDE; at += SEG) {
        var s = 0.0;
        for (var r = 0u; r < p.rank; r++) {
            for (var j = 0u; j < TAPS; j++) {
                // Columns below 0 are large numbers.
                let column = at - j;
                if column < SEG {
                    s += shapes[r * TAPS + j] * q[r * SEG + column];
                }
            }
        }
        wide[e * WIDE + at] = s;
    }
}
