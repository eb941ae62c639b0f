// Raw reads of a pixel to its rate, or through any part of that way: the twin of
// src/kernels/ramp. One invocation a pixel; NREADS >= ramps * reads; FITS is 0
// where no stage needs the fit.

struct Params {
    items: u32, nx: u32, rows: u32, row0: u32,
    ramps: u32, reads: u32, stride_ramp: u32, stride_read: u32,
    stride_y: u32, stride_x: u32, encoding: u32, listed: u32,
    stages: u32, grow: u32, ncoef: u32, zero_point: u32,
    algorithm: u32, num_coadd: u32, across: u32, along_y: u32,
    lines: u32, block_width: u32, max_jumps: u32, threshold_one: f32,
    threshold_two: f32, counts: u32, pedestal: u32, prior: f32,
    prior_variance: f32, added_variance: f32,
}

@group(0) @binding(0) var<storage, read> ramp: array<u32>;
@group(0) @binding(1) var<storage, read> flags_in: array<u32>;
@group(0) @binding(2) var<storage, read> cal: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<f32>;
@group(0) @binding(4) var<storage, read> list: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<storage, read_write> flags_out: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const SATURATION: u32 = 1u;
const BIAS: u32 = 2u;
const REFPIX: u32 = 4u;
const LINEARITY: u32 = 8u;
const JUMP: u32 = 16u;
const FIT: u32 = 32u;
const STORE: u32 = 64u;
const FLAGS_IN: u32 = 128u;
const DARK: u32 = 256u;
const LINEARISED: u32 = 512u;

const FLAG_DO_NOT_USE: u32 = 1u;
const FLAG_SATURATED: u32 = 2u;
const FLAG_JUMP: u32 = 4u;
const FLAG_AD_FLOOR: u32 = 64u;

// Reads after the corrections, and their flags.
var<private> y: array<f32, NREADS>;
var<private> flags: array<u32, NREADS>;
// Data that pedestals known before were to the fit.
var<private> known: f32 = 0.0;

fn on(bit: u32) -> bool { return (p.stages & bit) != 0u; }
fn total_reads() -> u32 { return p.ramps * p.reads; }

fn t_inv_dt(i: u32) -> f32 { return tables[i]; }
fn t_ap(i: u32) -> f32 { return tables[total_reads() + i]; }
fn t_ar(i: u32) -> f32 { return tables[2u * total_reads() + i]; }
fn t_bp(i: u32) -> f32 { return tables[3u * total_reads() + i]; }
fn t_br(i: u32) -> f32 { return tables[4u * total_reads() + i]; }
fn t_pair(i: u32) -> f32 { return tables[5u * total_reads() + i]; }
fn t_time(i: u32) -> f32 { return tables[6u * total_reads() + i]; }
fn t_inv_n(i: u32) -> f32 { return tables[7u * total_reads() + i]; }
fn t_lag(i: u32) -> f32 { return tables[8u * total_reads() + i]; }

fn cal_bits(plane: u32, pixel: u32) -> u32 { return cal[plane * p.nx * p.rows + pixel]; }
fn cal_value(plane: u32, pixel: u32) -> f32 { return bitcast<f32>(cal_bits(plane, pixel)); }

// Bits of read `k` of the exposure at `pixel`.
fn raw_bits(pixel: u32, k: u32) -> u32 {
    let at = (k / p.reads) * p.stride_ramp + (k % p.reads) * p.stride_read
        + (pixel / p.nx) * p.stride_y + (pixel % p.nx) * p.stride_x;
    return element_bits(p.encoding, ramp[word_of(p.encoding, at)], at);
}

fn load(pixel: u32) {
    for (var k = 0u; k < total_reads(); k++) {
        let bits = raw_bits(pixel, k);
        y[k] = element_value(p.encoding, bits);
        var f = select(0u, FLAG_DO_NOT_USE, not_finite(p.encoding, bits));
        if on(FLAGS_IN) {
            f |= flags_in[k * p.nx * p.rows + pixel];
        }
        flags[k] = f;
    }
}

// First read of ramp `r` at which a pixel within `grow` of `pixel` saturates.
fn first_saturated(pixel: u32, r: u32) -> u32 {
    let px = pixel % p.nx;
    let py = pixel / p.nx;
    var first = p.reads;
    for (var qy = py - min(py, p.grow); qy <= min(py + p.grow, p.rows - 1u); qy++) {
        for (var qx = px - min(px, p.grow); qx <= min(px + p.grow, p.nx - 1u); qx++) {
            let q = qy * p.nx + qx;
            let threshold = cal_value(1u, q);
            for (var k = 0u; k < first; k++) {
                let bits = raw_bits(q, r * p.reads + k);
                if !not_finite(p.encoding, bits) && element_value(p.encoding, bits) >= threshold {
                    first = k;
                }
            }
        }
    }
    return first;
}

// Time of the last frame of read `k`, from the lag of their mean.
fn last_frame(k: u32) -> f32 {
    return t_time(k) - 3.0 * t_lag(k) / (1.0 + t_inv_n(k));
}

// Whether read `k`, not flagged itself, reaches the threshold by its last frame.
fn hides(pixel: u32, k: u32) -> bool {
    if t_inv_n(k) >= 1.0 {
        return false;
    }
    var came = 0u;
    if on(FLAGS_IN) {
        came = flags_in[k * p.nx * p.rows + pixel];
    }
    let bits = raw_bits(pixel, k);
    let value = element_value(p.encoding, bits);
    return !not_finite(p.encoding, bits) && value > 0.0
        && value * last_frame(k) >= cal_value(1u, pixel) * t_time(k)
        && (came & (FLAG_DO_NOT_USE | FLAG_SATURATED)) == 0u;
}

// Averaged reads whose last frames saturated; `own` is the first saturated read.
fn partly_saturated(pixel: u32, r: u32, own: u32) {
    if own == p.reads && p.grow == 0u {
        return;
    }
    let start = r * p.reads;
    let px = pixel % p.nx;
    let py = pixel / p.nx;
    for (var qy = py - min(py, p.grow); qy <= min(py + p.grow, p.rows - 1u); qy++) {
        for (var qx = px - min(px, p.grow); qx <= min(px + p.grow, p.nx - 1u); qx++) {
            let q = qy * p.nx + qx;
            let first = first_saturated(q, r);
            if first > 0u && first < p.reads && hides(q, start + first - 1u) {
                flags[start + first - 1u] |= FLAG_DO_NOT_USE;
            }
        }
    }
    if own == 2u {
        let threshold = cal_value(1u, pixel);
        let bias = cal_value(2u, pixel);
        let foretold = (y[start] - bias) / t_time(start) * last_frame(start + 2u) + bias >= threshold;
        if !foretold && y[start + 1u] - y[start] > (threshold - y[start]) * t_inv_n(start + 1u) {
            flags[start + 1u] |= FLAG_DO_NOT_USE;
        }
    }
}

fn saturation(pixel: u32) {
    let threshold = cal_value(1u, pixel);
    var averaged = false;
    for (var k = 0u; k < total_reads(); k++) {
        averaged = averaged || t_inv_n(k) < 1.0;
    }
    for (var r = 0u; r < p.ramps; r++) {
        var first = p.reads;
        if p.grow > 0u {
            first = first_saturated(pixel, r);
        }
        for (var k = 0u; k < p.reads; k++) {
            let at = r * p.reads + k;
            if y[at] >= threshold {
                first = min(first, k);
            }
            if k >= first {
                flags[at] |= FLAG_SATURATED;
            }
            if y[at] <= 0.0 && (flags[at] & FLAG_DO_NOT_USE) == 0u {
                flags[at] |= FLAG_AD_FLOOR | FLAG_DO_NOT_USE;
            }
        }
        if averaged {
            partly_saturated(pixel, r, first);
        }
    }
}

fn offsets(pixel: u32) {
    let bias = select(0.0, cal_value(2u, pixel), on(BIAS));
    let px = pixel % p.nx;
    let py = pixel / p.nx + p.row0;
    let across = select(px, py, p.along_y != 0u);
    let line = select(py, px, p.along_y != 0u);
    let columns = total_reads() * 9u;
    let width = max(p.block_width, 1u);
    let blocks = (p.across + width - 1u) / width;
    let rows = columns + total_reads() * p.across + across / width * p.lines + line;
    for (var k = 0u; k < total_reads(); k++) {
        y[k] -= bias;
        if on(REFPIX) {
            y[k] -= tables[columns + k * p.across + across] + tables[rows + k * blocks * p.lines];
        }
    }
}

fn noise_of_reads(pixel: u32) {
    let gain = cal_value(3u, pixel);
    let s2 = cal_value(4u, pixel) + gain * gain * p.added_variance;
    for (var k = 0u; k < total_reads(); k++) {
        read_variance[k] = s2 * t_inv_n(k);
    }
}

// Value and slope of the polynomial; a slope outside 0.1 to 10 is no detector's.
fn horner(pixel: u32, x: f32) -> vec2<f32> {
    var value = 0.0;
    var slope = 0.0;
    for (var c = p.ncoef; c > 0u; c--) {
        slope = slope * x + value;
        value = value * x + cal_value(4u + c, pixel);
    }
    return vec2<f32>(value, min(max(slope, 0.1), 10.0));
}

// The noise of reads that the polynomial has stretched before.
fn stretch(pixel: u32) {
    for (var k = 0u; k < total_reads(); k++) {
        var x = y[k];
        for (var step = 0u; step < 4u; step++) {
            let at = horner(pixel, x);
            x -= (at.x - y[k]) / at.y;
        }
        let slope = horner(pixel, x).y;
        read_variance[k] = read_variance[k] * slope * slope;
    }
}

fn linearity(pixel: u32) {
    var shift = select(0.0, -cal_value(2u, pixel), p.zero_point == 1u && on(BIAS));
    for (var k = 0u; k < total_reads(); k++) {
        if p.zero_point == 2u && k % p.reads == 0u {
            shift = y[k];
        }
        let at = horner(pixel, y[k] - shift);
        if (flags[k] & FLAG_SATURATED) == 0u {
            y[k] = at.x;
        }
        read_variance[k] = read_variance[k] * at.y * at.y;
    }
}

fn differences(pixel: u32, n: u32) {
    let gain = cal_value(3u, pixel);
    let lost_bits = FLAG_DO_NOT_USE | FLAG_SATURATED;
    for (var i = 0u; i < n; i++) {
        let inv = t_inv_dt(i);
        let lost = ((flags[i] | flags[i + 1u]) & lost_bits) | (flags[i + 1u] & FLAG_JUMP);
        if lost == 0u && inv > 0.0 {
            d[i] = gain * ((y[i + 1u] - y[i]) * inv);
            used[i] = 1.0;
        } else {
            d[i] = 0.0;
            used[i] = 0.0;
        }
    }
}

// Drops the differences that a hit spoils, best first; the rate of the last fit.
fn jumps(n: u32, dark: f32) -> f32 {
    var rate = 0.0;
    for (var round = 0u; round <= p.max_jumps; round++) {
        let a0 = trimmed_mean(n);
        let s = forward(n, max(a0, 0.0) + dark, a0);
        rate = a0 + s.s1 / max(s.s0, TINY);
        if round == p.max_jumps {
            break;
        }
        let best = omissions(n, s);
        let left = count_used(n);
        let single = exceeds(best.one, p.threshold_one) && left > 1.5;
        let double = exceeds(best.two, p.threshold_two) && left > 3.5
            && !leads(best.one, best.two, p.threshold_one - p.threshold_two);
        if !single && !double {
            break;
        }
        var first = select(best.one.at, best.two.at, double);
        if left < 2.5 {
            first = largest(n);
        }
        let last = select(first, first + 1u, double);
        for (var i = first; i <= last; i++) {
            used[i] = 0.0;
            d[i] = 0.0;
            flags[i + 1u] |= FLAG_JUMP;
        }
    }
    return rate;
}

// What the first usable read of ramp `r` says beyond the differences, about the rate
// `a`: see src/kernels/ramp/pedestal.rs. A variance (z) of 0: nothing.
fn zero_read(pixel: u32, r: u32, a: f32, g: f32) -> vec3<f32> {
    let end = (r + 1u) * p.reads;
    var k = r * p.reads;
    var hit = false;
    while k < end && (flags[min(k, NREADS - 1u)] & (FLAG_DO_NOT_USE | FLAG_SATURATED)) != 0u {
        hit = hit || (flags[k] & FLAG_JUMP) != 0u;
        k++;
    }
    if k >= end || hit || (flags[k] & FLAG_JUMP) != 0u {
        return vec3<f32>(0.0, 0.0, 0.0);
    }
    var c = 0.0;
    var v = 0.0;
    var h = 0.0;
    var q = 0.0;
    if k + 1u < end && used[k] > 0.0 {
        c = -(g * t_lag(k) + read_variance[k]) * t_inv_dt(k);
        var link = 0.0;
        for (var j = end - 1u; j > k; j--) {
            let i = j - 1u;
            v = fz[i] * finv[i] - link * v;
            h = fw[i] * finv[i] - link * h;
            q = finv[i] + link * link * q;
            link = flink[i];
        }
    }
    let gain = cal_value(3u, pixel);
    let variance = g * (t_time(k) + t_lag(k)) + read_variance[k] - c * c * q;
    return vec3<f32>(gain * y[k] - c * v - a * t_time(k), t_time(k) - c * h, max(variance, TINY));
}

// Rate, photon variance, read variance, chi-squared; adds to `known` the data that
// the pedestals known before were, and writes the pedestals of item `index`.
fn fit(index: u32, pixel: u32, n: u32, dark: f32, start: f32) -> vec4<f32> {
    if p.algorithm != 0u {
        let e = line_estimate(n, p.algorithm == 1u, p.num_coadd);
        let g = max(e.rate, 0.0) + dark;
        let s = forward(n, g, e.rate);
        return vec4<f32>(e.rate, e.photon * g, e.read, s.s2);
    }
    var a = start;
    let once = forward(n, max(a, 0.0) + dark, a);
    a += once.s1 / max(once.s0, TINY);
    let g = max(a, 0.0) + dark;
    var s = forward(n, g, a);
    var part = parts(n);
    if p.pedestal != 0u {
        let gain = cal_value(3u, pixel);
        let prior = p.prior * gain;
        let spread = p.prior_variance * gain * gain;
        for (var r = 0u; r < p.ramps && p.prior_variance > 0.0; r++) {
            let read = zero_read(pixel, r, a, g);
            if read.z > 0.0 {
                let weight = 1.0 / (read.z + spread);
                let off = read.x - prior;
                s.s0 += read.y * read.y * weight;
                s.s1 += read.y * off * weight;
                s.s2 += off * off * weight;
                part.y += read.y * read.y * weight;
                known += 1.0;
            }
        }
        pedestals(index, pixel, n, a, g, s);
    }
    let inv = 1.0 / max(s.s0, TINY);
    return vec4<f32>(
        a + s.s1 * inv,
        g * part.x * inv * inv,
        part.y * inv * inv,
        s.s2 - s.s1 * s.s1 * inv,
    );
}

// Each ramp's pedestal, its variance and its covariance with the rate.
fn pedestals(index: u32, pixel: u32, n: u32, a: f32, g: f32, s: Sums) {
    let gain = cal_value(3u, pixel);
    let unit = select(1.0, 1.0 / gain, p.counts != 0u);
    let lost = (cal_bits(0u, pixel) & FLAG_DO_NOT_USE) != 0u || count_used(n) == 0.0;
    let spread = p.prior_variance * gain * gain;
    let inv = 1.0 / max(s.s0, TINY);
    let off = s.s1 * inv;
    for (var r = 0u; r < p.ramps; r++) {
        let read = zero_read(pixel, r, a, g);
        let none = lost || read.z == 0.0;
        var share = 1.0;
        var before = 0.0;
        if spread > 0.0 {
            share = spread / (spread + read.z);
            before = p.prior * gain;
        }
        let value = before + share * (read.x - off * read.y - before);
        let variance = share * read.z + share * share * read.y * read.y * inv;
        let covariance = -(share * read.y * inv);
        let at = (7u + 3u * r) * p.items + index;
        out[at] = select(bitcast<u32>(value * unit), NAN_BITS, none);
        out[at + p.items] = select(bitcast<u32>(variance * unit * unit), NAN_BITS, none);
        out[at + 2u * p.items] = select(bitcast<u32>(covariance * unit * unit), NAN_BITS, none);
    }
}

fn store(index: u32) {
    for (var k = 0u; k < total_reads(); k++) {
        out[k * p.items + index] = bitcast<u32>(y[k]);
        flags_out[k * p.items + index] = flags[k];
    }
}

fn write_rate(index: u32, pixel: u32, n: u32, v: vec4<f32>) {
    var dq = cal_bits(0u, pixel);
    var reads = 0u;
    for (var k = 0u; k < total_reads(); k++) {
        dq |= flags[k] & (FLAG_SATURATED | FLAG_JUMP);
        if (flags[k] & (FLAG_SATURATED | FLAG_DO_NOT_USE)) == 0u {
            reads++;
        }
    }
    let used_count = count_used(n);
    if used_count == 0.0 {
        dq |= FLAG_DO_NOT_USE;
    }
    var unit = 1.0;
    if p.counts != 0u {
        unit = 1.0 / cal_value(3u, pixel);
    }
    let lost = (dq & FLAG_DO_NOT_USE) != 0u;
    out[index] = select(bitcast<u32>(v.x * unit), NAN_BITS, lost);
    out[p.items + index] = select(bitcast<u32>(sqrt(v.y + v.z) * unit), NAN_BITS, lost);
    out[2u * p.items + index] = select(bitcast<u32>(v.y * unit * unit), NAN_BITS, lost);
    out[3u * p.items + index] = select(bitcast<u32>(v.z * unit * unit), NAN_BITS, lost);
    let chi2 = v.w / max(used_count + known - 1.0, 1.0);
    out[4u * p.items + index] = select(bitcast<u32>(chi2), NAN_BITS, lost || used_count + known < 1.5);
    out[5u * p.items + index] = dq;
    out[6u * p.items + index] = reads;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = item(id, groups);
    if index >= p.items {
        return;
    }
    var pixel = index;
    if p.listed != 0u {
        pixel = list[index];
    }
    load(pixel);
    if on(SATURATION) {
        saturation(pixel);
    }
    offsets(pixel);
    noise_of_reads(pixel);
    if on(LINEARITY) {
        linearity(pixel);
    } else if on(LINEARISED) {
        stretch(pixel);
    }
    let n = total_reads() - 1u;
    var dark = 0.0;
    if on(DARK) {
        dark = cal_value(5u + p.ncoef, pixel);
    }
    var start = 0.0;
    if FITS != 0u && on(JUMP | FIT) {
        differences(pixel, n);
        if on(JUMP) {
            start = jumps(n, dark);
        } else {
            let a0 = trimmed_mean(n);
            let s = forward(n, max(a0, 0.0) + dark, a0);
            start = a0 + s.s1 / max(s.s0, TINY);
        }
    }
    if FITS == 0u || on(STORE) {
        store(index);
    } else {
        write_rate(index, pixel, n, fit(index, pixel, n, dark, start));
    }
}
