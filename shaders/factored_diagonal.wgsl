// An entry's share of the diagonal of BᵀWB: the twin of `diagonal` in
// src/kernels/factored.

struct Params { first_entry: u32, entries: u32, ny: u32, ky: u32, rank: u32 }

@group(0) @binding(0) var<storage, read> entries: array<u32>;
@group(0) @binding(1) var<storage, read> taps: array<f32>;
@group(0) @binding(2) var<storage, read> coefs: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> wide: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    let own = i / SEG;
    if own >= p.entries {
        return;
    }
    let e = p.first_entry + own;
    let segment = entries[e * ENTRY + 1u];
    let top = bitcast<i32>(entries[e * ENTRY + 2u]);
    for (var at = i % SEG; at < WIDE; at += SEG) {
        var total = 0.0;
        for (var j = 0u; j < TAPS; j++) {
            // Columns below 0 are large numbers.
            let x = at - j;
            if x >= SEG {
                continue;
            }
            let shift = 16u - 16u * (x & 1u);
            var sum = 0.0;
            for (var dy = 0u; dy < p.ky; dy++) {
                let y = top + i32(dy);
                if y < 0 || y >= i32(p.ny) {
                    continue;
                }
                let row = (own * p.ky + dy) * p.rank;
                var b = 0.0;
                for (var r = 0u; r < p.rank; r++) {
                    let word = coefs[(row + r) * (SEG / 2u) + x / 2u];
                    b += taps[r * TAPS + j] * f32(bitcast<i32>(word << shift) >> 16u);
                }
                sum += weight[(segment * p.ny + u32(y)) * SEG + x] * (b * b);
            }
            total += sum;
        }
        wide[e * WIDE + at] = total;
    }
}
