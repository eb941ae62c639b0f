// Weighted least squares on the segments between jumps: the twin of
// src/kernels/ols_c.rs, which has the formulas and their source.

struct Params {
    items: u32, pixels: u32, skip: u32, ramps: u32,
    reads: u32, first: u32, last: u32, suppress_one_group: u32,
    counts: u32, dark: u32, group_time: f32, first_time: f32,
    frames: f32, zero: u32, frame_time: f32, alone: u32,
}

@group(0) @binding(4) var<storage, read> dark: array<f32>;
@group(0) @binding(5) var<storage, read> zero_frames: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const LARGE: f32 = 1e6;

fn grid() -> u32 { return p.pixels; }
fn total_reads() -> u32 { return p.ramps * p.reads; }

// Of the pixel: gain, variance of an averaged read (e-squared), Poisson rate (DN/s).
var<private> gain: f32;
var<private> noise: f32;
var<private> rate: f32;
// Whether the ramp at hand has its first frame in place of its first read.
var<private> zeros: bool;

struct Sums { read: f32, photon: f32, both: f32, slope: f32 }

// Whether the rate is one of ramp r.
fn counts(r: u32) -> bool { return p.alone == 0u || p.alone == r + 1u; }

fn good(f: u32) -> bool { return (f & ~FLAG_PERSISTENCE) == 0u; }

// Brings the flags of the ramp at hand to what the fit goes by.
fn settle() {
    if p.first > 0u {
        flags[p.first] &= ~FLAG_JUMP;
    }
    var count = 0u;
    for (var k = p.first; k < p.last; k++) {
        count += select(0u, 1u, good(flags[k]));
    }
    if p.suppress_one_group != 0u && p.last - p.first > 1u && count == 1u {
        for (var k = p.first; k < p.last; k++) {
            flags[k] |= FLAG_DO_NOT_USE;
        }
    }
}

// Loads ramp r as the fit takes it. How many reads it can use, and what its flags
// were together, before they were settled and after.
fn ramp_at(r: u32, pixel: u32) -> vec3<u32> {
    load(pixel, r * p.reads, p.reads);
    var usable = 0u;
    for (var k = 0u; k < p.reads; k++) {
        usable += select(0u, 1u, (flags[k] & LOST) == 0u);
    }
    let before = together();
    settle();
    let after = together();
    first_frame(r, pixel);
    return vec3<u32>(usable, before, after);
}

fn together() -> u32 {
    var all = 0u;
    for (var k = p.first; k < p.last; k++) {
        all |= flags[k];
    }
    return all;
}

// Puts the first frame of a ramp without a good read in place of its first read.
fn first_frame(r: u32, pixel: u32) {
    zeros = false;
    if p.zero == 0u || p.suppress_one_group != 0u {
        return;
    }
    for (var k = p.first; k < p.last; k++) {
        if flags[k] == 0u {
            return;
        }
    }
    let value = zero_frames[r * grid() + pixel];
    if value != 0.0 {
        y[p.first] = value;
        flags[p.first] = 0u;
        zeros = true;
    }
}

fn only_first() -> bool {
    var count = 0u;
    for (var k = p.first; k < p.last; k++) {
        count += select(0u, 1u, flags[k] == 0u);
    }
    return p.suppress_one_group == 0u && flags[p.first] == 0u && count == 1u;
}

fn single_time() -> f32 {
    if zeros {
        return p.frame_time;
    }
    return select(p.group_time, p.first_time, only_first());
}

fn median_rate() -> f32 {
    let a = p.first;
    if zeros {
        return y[a] / p.frame_time;
    }
    if p.last - a == 1u || only_first() {
        return y[a] / p.first_time;
    }
    var n = 0u;
    for (var k = a + 1u; k < p.last; k++) {
        if (flags[k - 1u] & LOST) == 0u && (flags[k] & (LOST | FLAG_JUMP)) == 0u {
            sorted[n] = (y[k] - y[k - 1u]) / p.group_time;
            n++;
        }
    }
    if n == 0u {
        return select(0.0, y[a] / p.group_time, (flags[a] & LOST) == 0u);
    }
    return median(n);
}

// The first segment that ends after read `start`: x its first read, y the read after
// its last; x = y where there is none.
fn segment(start: u32) -> vec2<u32> {
    let b = p.last;
    var k = start;
    while k < b && !good(flags[min(k, NREADS - 1u)]) {
        k++;
    }
    if k >= b {
        return vec2<u32>(b, b);
    }
    var end = k;
    while end < b && good(flags[min(end, NREADS - 1u)]) {
        end++;
    }
    if k > p.first && (flags[k - 1u] & ~FLAG_PERSISTENCE) == FLAG_JUMP {
        k--;
    }
    return vec2<u32>(k, end);
}

fn longest() -> u32 {
    var most = 0u;
    var s = segment(p.first);
    while s.x < s.y {
        most = max(most, s.y - s.x);
        s = segment(s.y);
    }
    return most;
}

// Which of the six exponents a rise of `signal` DN over a segment asks for.
fn exponent(signal: f32) -> u32 {
    let electrons = signal * gain;
    let variance = noise + electrons;
    if !(variance > 0.0) {
        return 0u;
    }
    let snr = electrons / sqrt(variance);
    return select(0u, 1u, snr >= 5.0) + select(0u, 1u, snr >= 10.0) + select(0u, 1u, snr >= 20.0)
        + select(0u, 1u, snr >= 50.0) + select(0u, 1u, snr >= 100.0);
}

// x to the power 0, 0.4, 1, 3, 6 or 10.
fn weight(x: f32, which: u32) -> f32 {
    let cube = x * x * x;
    switch which {
        case 0u: { return 1.0; }
        case 1u: { return select(0.0, pow(max(x, 1e-30), 0.4), x > 0.0); }
        case 2u: { return x; }
        case 3u: { return cube; }
        case 4u: { return cube * cube; }
        default: { return cube * cube * cube * x; }
    }
}

fn slope_of(first: u32, last: u32, single: f32) -> f32 {
    let n = last - first;
    if n == 1u {
        return y[first] / single;
    }
    if n == 2u {
        return (y[first + 1u] - y[first]) / p.group_time;
    }
    let which = exponent(y[last - 1u] - y[first]);
    let middle = f32(n - 1u) * 0.5;
    var sxy = 0.0;
    var sxx = 0.0;
    for (var i = 0u; i < n; i++) {
        let x = f32(i) - middle;
        let w = weight(abs(x / middle), which) * x;
        sxy += w * (y[first + i] - y[first]);
        sxx += w * x;
    }
    return sxy / sxx / p.group_time;
}

fn read_noise(n: u32, single: f32) -> f32 {
    let t = select(p.group_time, single, n == 1u);
    let m = f32(max(n, 2u));
    return 12.0 * noise / (t * t * (m * m * m - m) * gain * gain);
}

fn add_segments(single: f32, sums: Sums) -> Sums {
    var out = sums;
    let most = longest();
    var s = segment(p.first);
    while s.x < s.y {
        let n = s.y - s.x;
        if n > 1u || most == 1u {
            let read = read_noise(n, single);
            let inv = 1.0 / read;
            let time = select(p.group_time * f32(max(n, 2u) - 1u), single, n == 1u);
            out.read += inv;
            out.slope += slope_of(s.x, s.y, single) * inv;
            out.both += 1.0 / (read + rate / (time * gain));
            if rate > 0.0 {
                out.photon += time * gain / rate;
            }
        }
        s = segment(select(s.y, p.last, most == 1u));
    }
    return out;
}

fn inverse(sum: f32) -> f32 {
    if !(sum > 0.0) {
        return 0.0;
    }
    let value = 1.0 / sum;
    return select(value, 0.0, value >= LARGE);
}

// Read variance of the segments that there would be without CHARGELOSS.
fn uncharged(pixel: u32) -> f32 {
    var sums = Sums(0.0, 0.0, 0.0, 0.0);
    for (var r = 0u; r < p.ramps; r++) {
        if !counts(r) {
            continue;
        }
        ramp_at(r, pixel);
        let single = single_time();
        if (together() & FLAG_CHARGELOSS) != 0u {
            for (var k = p.first; k < p.last; k++) {
                var f = flags_in[(r * p.reads + k) * grid() + pixel];
                if (f & FLAG_CHARGELOSS) != 0u {
                    f ^= FLAG_CHARGELOSS | FLAG_DO_NOT_USE;
                }
                flags[k] = f;
            }
        } else if (flags[p.first] & FLAG_SATURATED) != 0u {
            continue;
        }
        sums = add_segments(single, sums);
    }
    return inverse(sums.read);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = item(id, groups);
    if index >= p.items {
        return;
    }
    let pixel = index + p.skip;
    gain = cal_value(3u, pixel);
    noise = cal_value(4u, pixel) / p.frames;
    var dq = cal_bits(0u, pixel);
    var usable = 0u;
    var total = 0.0;
    var any = 0u;
    var loss = 0u;
    for (var r = 0u; r < p.ramps; r++) {
        let all = ramp_at(r, pixel);
        if counts(r) {
            usable += all.x;
            loss |= all.y & FLAG_CHARGELOSS;
            any |= all.z;
        }
        total += median_rate();
    }
    dq |= any & (FLAG_JUMP | FLAG_PERSISTENCE | FLAG_SATURATED);
    rate = max(total / f32(p.ramps), 0.0);
    if p.dark != 0u {
        rate += dark[pixel];
    }
    var sums = Sums(0.0, 0.0, 0.0, 0.0);
    var alive = false;
    for (var r = 0u; r < p.ramps; r++) {
        if !counts(r) {
            continue;
        }
        ramp_at(r, pixel);
        let saturated = (flags[p.first] & FLAG_SATURATED) != 0u;
        var lost = true;
        for (var k = p.first; k < p.last; k++) {
            lost = lost && (flags[k] & LOST) != 0u;
        }
        alive = alive || !(saturated || lost);
        if !saturated {
            sums = add_segments(single_time(), sums);
        }
    }
    if !alive {
        dq |= FLAG_DO_NOT_USE;
    }
    let photon = inverse(sums.photon);
    var read = inverse(sums.read);
    let slope = sums.slope * read;
    let err = sqrt(select(inverse(sums.both), photon + read, p.alone == 0u));
    if loss != 0u {
        read = uncharged(pixel);
    }
    var unit = gain;
    if p.counts != 0u {
        unit = 1.0;
    }
    let none = (dq & FLAG_DO_NOT_USE) != 0u;
    out[index] = select(bitcast<u32>(slope * unit), NAN_BITS, none);
    out[p.items + index] = select(bitcast<u32>(err * unit), NAN_BITS, none);
    out[2u * p.items + index] = select(bitcast<u32>(photon * unit * unit), NAN_BITS, none);
    out[3u * p.items + index] = select(bitcast<u32>(read * unit * unit), NAN_BITS, none);
    out[4u * p.items + index] = NAN_BITS;
    out[5u * p.items + index] = dq;
    out[6u * p.items + index] = usable;
}
