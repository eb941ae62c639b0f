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
// 1 for ramps that have their first frame in place of their first read.
var<private> zeros: array<u32, NRAMPS>;

struct Sums { read: f32, photon: f32, both: f32, slope: f32 }

// Whether the rate is one of ramp r.
fn counts(r: u32) -> bool { return p.alone == 0u || p.alone == r + 1u; }

fn good(f: u32) -> bool { return (f & ~FLAG_PERSISTENCE) == 0u; }

// Brings the flags of reads a..b to what the fit goes by.
fn settle(a: u32, b: u32) {
    if p.first > 0u {
        flags[a] &= ~FLAG_JUMP;
    }
    var count = 0u;
    for (var k = a; k < b; k++) {
        count += select(0u, 1u, good(flags[k]));
    }
    if p.suppress_one_group != 0u && b - a > 1u && count == 1u {
        for (var k = a; k < b; k++) {
            flags[k] |= FLAG_DO_NOT_USE;
        }
    }
}

// Puts the first frame of ramp r without a good read in place of its first read a.
fn first_frame(r: u32, pixel: u32, a: u32, b: u32) {
    zeros[r] = 0u;
    if p.zero == 0u || p.suppress_one_group != 0u {
        return;
    }
    for (var k = a; k < b; k++) {
        if flags[k] == 0u {
            return;
        }
    }
    let value = zero_frames[r * grid() + pixel];
    if value != 0.0 {
        y[a] = value;
        flags[a] = 0u;
        zeros[r] = 1u;
    }
}

fn only_first(a: u32, b: u32) -> bool {
    var count = 0u;
    for (var k = a; k < b; k++) {
        count += select(0u, 1u, flags[k] == 0u);
    }
    return p.suppress_one_group == 0u && flags[a] == 0u && count == 1u;
}

fn single_time(r: u32, a: u32, b: u32) -> f32 {
    if zeros[r] != 0u {
        return p.frame_time;
    }
    return select(p.group_time, p.first_time, only_first(a, b));
}

fn median_rate(r: u32, a: u32, b: u32) -> f32 {
    if zeros[r] != 0u {
        return y[a] / p.frame_time;
    }
    if b - a == 1u || only_first(a, b) {
        return y[a] / p.first_time;
    }
    var n = 0u;
    for (var k = a + 1u; k < b; k++) {
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

// The first segment of reads a..b that ends after `from`: x its first read, y the
// read after its last; x = y where there is none.
fn segment(a: u32, b: u32, start: u32) -> vec2<u32> {
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
    if k > a && (flags[k - 1u] & ~FLAG_PERSISTENCE) == FLAG_JUMP {
        k--;
    }
    return vec2<u32>(k, end);
}

fn longest(a: u32, b: u32) -> u32 {
    var most = 0u;
    var s = segment(a, b, a);
    while s.x < s.y {
        most = max(most, s.y - s.x);
        s = segment(a, b, s.y);
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

fn add_segments(a: u32, b: u32, single: f32, sums: Sums) -> Sums {
    var out = sums;
    let most = longest(a, b);
    var s = segment(a, b, a);
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
        s = segment(a, b, select(s.y, b, most == 1u));
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
        let a = r * p.reads + p.first;
        let b = r * p.reads + p.last;
        let single = single_time(r, a, b);
        let saturated = (flags[a] & FLAG_SATURATED) != 0u;
        var charged = false;
        for (var k = a; k < b; k++) {
            charged = charged || (flags[k] & FLAG_CHARGELOSS) != 0u;
        }
        if charged {
            for (var k = a; k < b; k++) {
                var f = flags_in[k * grid() + pixel];
                if (f & FLAG_CHARGELOSS) != 0u {
                    f ^= FLAG_CHARGELOSS | FLAG_DO_NOT_USE;
                }
                flags[k] = f;
            }
        } else if saturated {
            continue;
        }
        sums = add_segments(a, b, single, sums);
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
    load(pixel);
    gain = cal_value(3u, pixel);
    noise = cal_value(4u, pixel) / p.frames;
    var dq = cal_bits(0u, pixel);
    var usable = 0u;
    var total = 0.0;
    var any = 0u;
    var loss = 0u;
    for (var k = 0u; k < total_reads(); k++) {
        usable += select(0u, 1u, (flags[k] & LOST) == 0u && counts(k / p.reads));
    }
    for (var r = 0u; r < p.ramps; r++) {
        let a = r * p.reads + p.first;
        let b = r * p.reads + p.last;
        for (var k = a; k < b; k++) {
            loss |= select(0u, flags[k] & FLAG_CHARGELOSS, counts(r));
        }
        settle(a, b);
        for (var k = a; k < b; k++) {
            any |= select(0u, flags[k], counts(r));
        }
        first_frame(r, pixel, a, b);
        total += median_rate(r, a, b);
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
        let a = r * p.reads + p.first;
        let b = r * p.reads + p.last;
        let saturated = (flags[a] & FLAG_SATURATED) != 0u;
        var lost = true;
        for (var k = a; k < b; k++) {
            lost = lost && (flags[k] & LOST) != 0u;
        }
        alive = alive || !(saturated || lost);
        if !saturated {
            sums = add_segments(a, b, single_time(r, a, b), sums);
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
