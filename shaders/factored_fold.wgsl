// Entries' shares of one another's columns, together: the twin of `fold` in
// src/kernels/factored. One invocation an entry.

struct Params { entries: u32, sign: f32 }

@group(0) @binding(0) var<storage, read> entries: array<u32>;
@group(0) @binding(1) var<storage, read> wide: array<f32>;
@group(0) @binding(2) var<storage, read> scale: array<f32>;
@group(0) @binding(3) var<storage, read> prior: array<f32>;
@group(0) @binding(4) var<storage, read> vector: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = item(id, groups);
    if e >= p.entries {
        return;
    }
    let left = entries[e * ENTRY + 3u];
    let right = entries[e * ENTRY + 4u];
    var sum = 0.0;
    for (var x = 0u; x < SEG; x++) {
        let at = e * SEG + x;
        var v = wide[e * WIDE + REACH + x];
        if x < REACH && left != NONE {
            v += wide[left * WIDE + REACH + SEG + x];
        }
        if x >= SEG - REACH && right != NONE {
            v += wide[right * WIDE + x + REACH - SEG];
        }
        if p.sign != 0.0 {
            if scale[at] == 0.0 {
                v = 0.0;
            } else {
                v += p.sign * (prior[at] * vector[at]);
            }
        }
        out[at] = v;
        sum += vector[at] * v;
    }
    parts[2u * e] = sum;
    parts[2u * e + 1u] = 0.0;
}
