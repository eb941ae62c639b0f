// B x on the rows of a tile, one column an invocation: the twin of `light` in
// src/kernels/factored.

struct Params {
    first_segment: u32, segments: u32, first_entry: u32, ny: u32,
    ky: u32, rank: u32, nodes: u32, tiles: u32, mode: u32,
}

@group(0) @binding(0) var<storage, read> entries: array<u32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> shapes: array<f32>;
@group(0) @binding(3) var<storage, read> coefs: array<f32>;
@group(0) @binding(4) var<storage, read> unknowns: array<f32>;
@group(0) @binding(5) var<storage, read> data: array<f32>;
@group(0) @binding(6) var<storage, read> weight: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

const TILE: u32 = 16u;

fn anchor(e: u32) -> i32 { return bitcast<i32>(entries[e * ENTRY + 2u]); }

// The unknown at place `at` of an entry's WIDE columns.
fn unknown(e: u32, at: u32) -> f32 {
    if at < REACH {
        let left = entries[e * ENTRY + 3u];
        if left == NONE { return 0.0; }
        return unknowns[left * SEG + at + SEG - REACH];
    }
    if at >= REACH + SEG {
        let right = entries[e * ENTRY + 4u];
        if right == NONE { return 0.0; }
        return unknowns[right * SEG + at - REACH - SEG];
    }
    return unknowns[e * SEG + at - REACH];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    if i >= p.segments * p.tiles * SEG {
        return;
    }
    let x = i % SEG;
    let segment = p.first_segment + i / SEG / p.tiles;
    let y0 = i32((i / SEG) % p.tiles * TILE);
    let y1 = y0 + i32(TILE);
    let last = starts[segment + 1u];
    // The first entry that reaches the tile.
    var e = starts[segment];
    var beyond = last;
    while e < beyond {
        let middle = (e + beyond) / 2u;
        if anchor(middle) + i32(p.ky) > y0 {
            beyond = middle;
        } else {
            e = middle + 1u;
        }
    }
    let basis = p.rank * TAPS;
    let terms = p.rank * p.nodes;
    var sum: array<f32, 16>;
    var g: array<f32, 16>;
    for (; e < last; e++) {
        let top = anchor(e);
        if top >= y1 {
            break;
        }
        for (var r = 0u; r < p.rank; r++) {
            g[r] = 0.0;
        }
        for (var j = 0u; j < TAPS; j++) {
            let f = unknown(e, x + j);
            for (var r = 0u; r < p.rank; r++) {
                g[r] += shapes[r * TAPS + j] * f;
            }
        }
        let first = max(0, y0 - top);
        let end = min(i32(p.ky), y1 - top);
        for (var dy = first; dy < end; dy++) {
            let row = ((e - p.first_entry) * p.ky + u32(dy)) * terms;
            var s = sum[top + dy - y0];
            for (var r = 0u; r < p.rank; r++) {
                for (var k = 0u; k < p.nodes; k++) {
                    s += coefs[row + r * p.nodes + k] * (shapes[basis + k * SEG + x] * g[r]);
                }
            }
            sum[top + dy - y0] = s;
        }
    }
    for (var k = 0u; k < TILE; k++) {
        let y = u32(y0) + k;
        if y >= p.ny {
            break;
        }
        let at = (segment * p.ny + y) * SEG + x;
        var v = sum[k];
        if p.mode == 1u {
            v *= weight[at];
        } else if p.mode == 2u {
            v = weight[at] * (data[at] - v);
        }
        out[at] = v;
    }
}
