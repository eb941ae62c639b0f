// Jumps and rates by likelihood, ramp by ramp: the twin of src/kernels/likely.rs,
// which has the decisions and their source.

struct Params {
    items: u32, pixels: u32, skip: u32, ramps: u32,
    reads: u32, counts: u32, dark: u32, threshold_one: f32,
    threshold_two: f32, zero: u32, frames: f32,
}

@group(0) @binding(4) var<storage, read> dark: array<f32>;
@group(0) @binding(5) var<storage, read> zero_frames: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

fn grid() -> u32 { return p.pixels; }
fn total_reads() -> u32 { return p.ramps * p.reads; }

// First read of the ramp at hand.
var<private> base: u32 = 0u;

fn t_ap(i: u32) -> f32 { return table(1u, base + i); }
fn t_ar(i: u32) -> f32 { return table(2u, base + i); }
fn t_bp(i: u32) -> f32 { return table(3u, base + i); }
fn t_br(i: u32) -> f32 { return table(4u, base + i); }
fn t_pair(i: u32) -> f32 { return table(5u, base + i); }

// Rate, photon variance, read variance of each ramp that has them.
var<private> rates: array<vec3<f32>, NRAMPS>;

// The reads of ramp r of the pixel and their flags; how many can be used.
fn load_ramp(r: u32, pixel: u32) -> u32 {
    let given = p.reads - p.zero;
    var usable = 0u;
    for (var k = 0u; k < given; k++) {
        let place = (r * given + k) * grid() + pixel;
        let to = p.zero + k;
        y[to] = ramp[place];
        flags[to] = flags_in[place];
        usable += select(0u, 1u, (flags[to] & LOST) == 0u);
    }
    if p.zero != 0u {
        let z = zero_frames[r * grid() + pixel];
        y[0] = z;
        y[1] = (y[1] * p.frames - z) / (p.frames - 1.0);
        flags[0] = flags[1];
    }
    return usable;
}

// Differences of the ramp, and the median of them all, at least 0.
fn differences(n: u32, gain: f32) -> f32 {
    for (var i = 0u; i < n; i++) {
        let value = gain * ((y[i + 1u] - y[i]) * table(0u, base + i));
        sorted[i] = value;
        let on = (flags[i] | flags[i + 1u]) == 0u;
        d[i] = select(0.0, value, on);
        used[i] = select(0.0, 1.0, on);
    }
    return max(median(n), 0.0);
}

// Drops the differences that hits spoil; the rate of what is left. One difference
// at least is usable.
fn jumps(n: u32, g: f32) -> f32 {
    var again = true;
    var rate = 0.0;
    for (var round = 0u; round <= n; round++) {
        let left = count_used(n);
        let a0 = trimmed_mean(n);
        let s = forward(n, g, a0);
        rate = a0 + s.s1 / max(s.s0, TINY);
        if !again {
            break;
        }
        let best = omissions(n, s);
        let single = exceeds(best.one, p.threshold_one) && left > 1.5;
        let pair = exceeds(best.two, p.threshold_two) && left > 2.5;
        if !single && !pair {
            break;
        }
        let both = pair
            && !(single && leads(best.one, best.two, p.threshold_one - p.threshold_two));
        var first = select(best.one.at, best.two.at, both);
        if left < 2.5 {
            first = largest(n);
        }
        let last = select(first, first + 1u, both);
        for (var i = first; i <= last; i++) {
            used[i] = 0.0;
            d[i] = 0.0;
            flags[i + 1u] |= FLAG_JUMP;
        }
        again = count_used(n) > 3.5;
    }
    return rate;
}

fn photon_of(f: vec3<f32>, rate: f32) -> f32 {
    if f.x == 0.0 || !(rate / f.x > 0.0) {
        return 0.0;
    }
    return f.y * (rate / f.x);
}

// The average of the first `n` ramps.
fn combine(n: u32) -> vec3<f32> {
    for (var i = 0u; i < n; i++) {
        sorted[i] = rates[i].x;
    }
    var mean = vec3<f32>(median(n), 0.0, 0.0);
    for (var round = 0u; round < 2u; round++) {
        var total = 0.0;
        var sum = vec3<f32>(0.0, 0.0, 0.0);
        for (var i = 0u; i < n; i++) {
            let f = rates[i];
            let photon = photon_of(f, mean.x);
            let w = 1.0 / (photon + f.z);
            total += w;
            sum += vec3<f32>(w * f.x, w * w * photon, w * w * f.z);
        }
        mean = sum / vec3<f32>(total, total * total, total * total);
    }
    return mean;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = item(id, groups);
    if index >= p.items {
        return;
    }
    let pixel = index + p.skip;
    let n = p.reads - 1u;
    let gain = cal_value(3u, pixel);
    let s2 = cal_value(4u, pixel);
    var current = 0.0;
    if p.dark != 0u {
        current = dark[pixel] * gain;
    }
    var dq = cal_bits(0u, pixel);
    var usable = 0u;
    var found = 0u;
    var chi2 = 0.0;
    var dof = 0.0;
    for (var r = 0u; r < p.ramps; r++) {
        base = r * p.reads;
        usable += load_ramp(r, pixel);
        for (var k = 0u; k < p.reads; k++) {
            read_variance[k] = s2 * table(7u, base + k);
        }
        let g0 = differences(n, gain);
        var a0 = 0.0;
        let any = count_used(n) > 0.0;
        if any {
            a0 = jumps(n, g0);
        }
        for (var k = 0u; k < p.reads; k++) {
            dq |= flags[k] & (FLAG_JUMP | FLAG_SATURATED);
        }
        if !any {
            continue;
        }
        let g = max(a0, 0.0) + current;
        let s = forward(n, g, a0);
        let part = parts(n);
        let inv = 1.0 / max(s.s0, TINY);
        rates[found] = vec3<f32>(a0 + s.s1 * inv, g * part.x * inv * inv, part.y * inv * inv);
        chi2 += max(s.s2 - s.s1 * s.s1 * inv, 0.0);
        dof += count_used(n) - 1.0;
        found++;
    }
    if found == 0u {
        dq |= FLAG_DO_NOT_USE;
    }
    let none = (dq & FLAG_DO_NOT_USE) != 0u;
    var v = rates[0];
    if found > 0u && p.ramps > 1u {
        v = combine(found);
    }
    var unit = 1.0;
    if p.counts != 0u {
        unit = 1.0 / gain;
    }
    out[index] = select(bitcast<u32>(v.x * unit), NAN_BITS, none);
    out[p.items + index] = select(bitcast<u32>(sqrt(v.y + v.z) * unit), NAN_BITS, none);
    out[2u * p.items + index] = select(bitcast<u32>(v.y * unit * unit), NAN_BITS, none);
    out[3u * p.items + index] = select(bitcast<u32>(v.z * unit * unit), NAN_BITS, none);
    out[4u * p.items + index] = select(bitcast<u32>(chi2 / max(dof, 1.0)), NAN_BITS, none || dof < 0.5);
    out[5u * p.items + index] = dq;
    out[6u * p.items + index] = usable;
}
