// Non-linearity of averaged reads, frame by frame: the twin of
// src/kernels/linearity_reads.rs. One invocation a pixel.

struct Params {
    items: u32, ramps: u32, reads: u32, ncoef: u32,
    inverse: u32, ninverse: u32, zero_point: u32, bias: u32,
    frame_time: f32,
}

@group(0) @binding(0) var<storage, read_write> ramp: array<f32>;
@group(0) @binding(1) var<storage, read> flags_in: array<u32>;
@group(0) @binding(2) var<storage, read> cal: array<f32>;
@group(0) @binding(3) var<storage, read> tables: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

const FLAG_DO_NOT_USE: u32 = 1u;
const FLAG_SATURATED: u32 = 2u;
const COEFFICIENTS: u32 = 5u;
const CAP: f32 = 1.2;

fn t_time(k: u32) -> f32 { return tables[6u * p.ramps * p.reads + k]; }
fn t_inv_n(k: u32) -> f32 { return tables[7u * p.ramps * p.reads + k]; }
fn cal_value(plane: u32, pixel: u32) -> f32 { return cal[plane * p.items + pixel]; }

fn forwards(pixel: u32, x: f32) -> f32 {
    var sum = 0.0;
    for (var c = p.ncoef; c > 0u; c--) {
        sum = sum * x + cal_value(COEFFICIENTS + c - 1u, pixel);
    }
    return sum;
}

fn backwards(pixel: u32, x: f32) -> f32 {
    var sum = 0.0;
    for (var c = p.ninverse; c > 0u; c--) {
        sum = sum * x + cal_value(p.inverse + c - 1u, pixel);
    }
    return sum;
}

// A read of mean `x` at read `k`; `line` is signal, rate and time at which it starts.
fn frames(pixel: u32, line: vec3<f32>, x: f32, k: u32) -> f32 {
    let count = floor(1.0 / t_inv_n(k) + 0.5);
    let n = u32(count);
    let begin = t_time(k) - line.z - 0.5 * (count - 1.0) * p.frame_time;
    var mean = 0.0;
    for (var j = 0u; j < n; j++) {
        mean += backwards(pixel, line.x + line.y * (begin + f32(j) * p.frame_time)) - x;
    }
    let offset = mean / count;
    let level = cal_value(1u, pixel);
    var sum = 0.0;
    for (var j = 0u; j < n; j++) {
        var frame = backwards(pixel, line.x + line.y * (begin + f32(j) * p.frame_time)) - offset;
        if level < 1e30 {
            frame = min(frame, CAP * level);
        }
        sum += forwards(pixel, frame);
    }
    return sum / count;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    for (var r = 0u; r < p.ramps; r++) {
        let start = r * p.reads;
        var shift = 0.0;
        if p.zero_point == 1u && p.bias != 0u {
            shift = -cal_value(2u, pixel);
        }
        if p.zero_point == 2u {
            shift = ramp[start * p.items + pixel];
        }
        // The reads that the rate is taken from.
        var count = 0u;
        var first = 0u;
        for (var k = 0u; k < p.reads; k++) {
            if (flags_in[(start + k) * p.items + pixel] & (FLAG_SATURATED | FLAG_DO_NOT_USE)) == 0u {
                if count == 0u {
                    first = k;
                }
                count++;
            }
        }
        let wanted = max(max(count, 2u) - 2u, 1u);
        var last = first;
        var seen = 0u;
        for (var k = 0u; k < p.reads; k++) {
            if (flags_in[(start + k) * p.items + pixel] & (FLAG_SATURATED | FLAG_DO_NOT_USE)) == 0u {
                if seen == wanted {
                    last = k;
                }
                seen++;
            }
        }
        var line = vec3<f32>(0.0, 0.0, 0.0);
        if count > 1u {
            let low = forwards(pixel, ramp[(start + first) * p.items + pixel] - shift);
            let high = forwards(pixel, ramp[(start + last) * p.items + pixel] - shift);
            let time = t_time(start + first);
            line = vec3<f32>(low, (high - low) / (t_time(start + last) - time), time);
        }
        for (var k = 0u; k < p.reads; k++) {
            let at = (start + k) * p.items + pixel;
            if (flags_in[at] & FLAG_SATURATED) != 0u {
                continue;
            }
            let x = ramp[at] - shift;
            if count > 1u && t_inv_n(start + k) < 1.0 {
                ramp[at] = frames(pixel, line, x, start + k);
            } else {
                ramp[at] = forwards(pixel, x);
            }
        }
    }
}
