// Jumps by the two-point difference method: the twin of src/kernels/two_point.rs,
// which has the decisions and their source.

struct Params {
    items: u32, ramps: u32, reads: u32, mode: u32,
    normal: f32, three: f32, two: f32, neighbours_min: f32,
    neighbours_max: f32,
}

@group(0) @binding(4) var<storage, read_write> flags_out: array<u32>;
@group(0) @binding(5) var<storage, read_write> medians: array<u32>;
@group(0) @binding(6) var<uniform> p: Params;

const MARK: u32 = 256u;
const ITERATIVE: u32 = 0u;
const SINGLE: u32 = 1u;
const CLIP_RAMPS: u32 = 2u;

fn grid() -> u32 { return p.items; }
fn total_reads() -> u32 { return p.ramps * p.reads; }

// Differences, e-/s; whether they are usable, and still looked at.
var<private> d: array<f32, NREADS>;
var<private> on: array<u32, NREADS>;
const USABLE: u32 = 1u;
const KEPT: u32 = 2u;

var<private> s2: f32;

// |value - middle| in sigma of difference i; 0 where sigma is 0.
fn ratio(i: u32, value: f32, middle: f32) -> f32 {
    let inv = table(0u, i);
    let frames = 1.0 / table(7u, i) + 1.0 / table(7u, i + 1u);
    let variance = abs(middle) / inv + 4.0 * s2 / frames;
    if !(variance > 0.0) {
        return 0.0;
    }
    return abs(value - middle) / (sqrt(variance) * inv);
}

// Room for the differences start, start + step, … that have `bit` and lie within.
fn collect(start: u32, step: u32, bit: u32, magnitude: bool, low: f32, high: f32) -> u32 {
    var n = 0u;
    for (var i = start; i < total_reads(); i += step) {
        if (on[i] & bit) != 0u && d[i] >= low && d[i] <= high {
            sorted[n] = select(d[i], abs(d[i]), magnitude);
            n++;
        }
    }
    return n;
}

fn typical(n: u32) -> f32 {
    let all = median(n);
    if n == 2u {
        return sorted[0];
    }
    if n == 3u {
        return all;
    }
    var below = n;
    while below > 0u && sorted[max(below, 1u) - 1u] == sorted[n - 1u] {
        below--;
    }
    if below == 0u {
        return sorted[0];
    }
    return middle_of(below);
}

fn iterate() {
    for (var round = 0u; round < total_reads(); round++) {
        let n = collect(0u, 1u, KEPT, true, -3e38, 3e38);
        if n < 2u {
            return;
        }
        var threshold = p.normal;
        if n == 2u {
            threshold = p.two;
        } else if n == 3u {
            threshold = p.three;
        }
        let middle = typical(n);
        var most = 0.0;
        for (var i = 0u; i < total_reads(); i++) {
            if (on[i] & KEPT) != 0u {
                most = max(most, ratio(i, abs(d[i]), middle));
            }
        }
        if !(most > threshold) {
            return;
        }
        for (var i = 0u; i < total_reads(); i++) {
            if (on[i] & KEPT) != 0u && ratio(i, abs(d[i]), middle) >= most {
                on[i] = USABLE;
                flags[i + 1u] |= FLAG_JUMP;
            }
        }
    }
}

fn clip(start: u32, step: u32) {
    var low = -3e38;
    var high = 3e38;
    var count = total_reads() + 1u;
    for (var round = 0u; round < 5u; round++) {
        let n = collect(start, step, USABLE, false, low, high);
        if n == 0u || n == count {
            break;
        }
        count = n;
        var mean = 0.0;
        for (var i = 0u; i < n; i++) {
            mean += sorted[i] / f32(n);
        }
        var variance = 0.0;
        for (var i = 0u; i < n; i++) {
            variance += (sorted[i] - mean) * (sorted[i] - mean) / f32(n);
        }
        let reach = p.normal * sqrt(variance);
        let middle = median(n);
        low = max(low, middle - reach);
        high = min(high, middle + reach);
    }
    for (var i = start; i < total_reads(); i += step) {
        if (on[i] & USABLE) != 0u && (d[i] < low || d[i] > high) {
            flags[i + 1u] |= FLAG_JUMP;
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    load(pixel, 0u, total_reads());
    let gain = cal_value(3u, pixel);
    s2 = cal_value(4u, pixel);
    on[total_reads() - 1u] = 0u;
    for (var i = 0u; i + 1u < total_reads(); i++) {
        let inv = table(0u, i);
        on[i] = select(0u, USABLE | KEPT, inv > 0.0 && ((flags[i] | flags[i + 1u]) & LOST) == 0u);
        d[i] = gain * ((y[i + 1u] - y[i]) * inv);
    }
    let n = collect(0u, 1u, USABLE, false, -3e38, 3e38);
    medians[pixel] = NAN_BITS;
    if n > 0u {
        let middle = median(n);
        medians[pixel] = bitcast<u32>(middle);
        if p.mode == ITERATIVE {
            iterate();
        } else if p.mode == SINGLE {
            for (var i = 0u; i < total_reads(); i++) {
                if (on[i] & USABLE) != 0u && ratio(i, d[i], middle) > p.normal {
                    flags[i + 1u] |= FLAG_JUMP;
                }
            }
        } else if p.mode == CLIP_RAMPS {
            for (var k = 0u; k < p.reads; k++) {
                clip(k, p.reads);
            }
        } else {
            clip(0u, 1u);
        }
        for (var i = 0u; i + 1u < total_reads(); i++) {
            if (on[i] & USABLE) != 0u && (flags[i + 1u] & FLAG_JUMP) != 0u {
                let excess = ratio(i, d[i], middle);
                if excess > p.neighbours_min && excess < p.neighbours_max {
                    flags[i + 1u] |= MARK;
                }
            }
        }
    }
    for (var k = 0u; k < total_reads(); k++) {
        flags_out[k * p.items + pixel] = flags[k];
    }
}
