// Dark, sky and flat on a frame: the contract is in src/kernels/calibrate.rs.

struct Params {
    pixels: u32,
    steps: u32,
    sky_scale: f32,
    dark_coefficient: f32,
    factor: f32,
    unusable: u32,
    inherit: u32,
    dark_bad: u32,
    sky_bad: u32,
    flat_bad: u32,
}

@group(0) @binding(0) var<storage, read> science: array<u32>;
@group(0) @binding(1) var<storage, read> dark: array<u32>;
@group(0) @binding(2) var<storage, read> sky: array<u32>;
@group(0) @binding(3) var<storage, read> flat: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

const DARK: u32 = 1u;
const SKY: u32 = 2u;
const FLAT: u32 = 4u;

// By bits: drivers may assume that no float is NaN or infinite.
fn finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) != 0x7f800000u;
}

fn usable(value: u32, variance: u32, dq: u32) -> bool {
    return (dq & p.unusable) == 0u && finite(value) && finite(variance);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    let n = p.pixels;
    if (i >= n) {
        return;
    }
    var dq = science[2u * n + i];
    var good = usable(science[i], science[n + i], dq);
    // Unusable inputs become 0, so that nothing is computed with NaN.
    var value = select(0.0, bitcast<f32>(science[i]), good);
    var own = select(0.0, bitcast<f32>(science[n + i]), good);
    var shared_variance = 0.0;
    if ((p.steps & DARK) != 0u) {
        let d = dark[2u * n + i];
        dq |= d & p.inherit;
        if (usable(dark[i], dark[n + i], d)) {
            value = value - bitcast<f32>(dark[i]);
            shared_variance = shared_variance + p.dark_coefficient * p.dark_coefficient * bitcast<f32>(dark[n + i]);
        } else {
            dq |= p.dark_bad;
            good = false;
        }
    }
    if ((p.steps & SKY) != 0u) {
        let d = sky[2u * n + i];
        dq |= d & p.inherit;
        if (usable(sky[i], sky[n + i], d)) {
            value = value - p.sky_scale * bitcast<f32>(sky[i]);
            shared_variance = shared_variance + p.sky_scale * p.sky_scale * bitcast<f32>(sky[n + i]);
        } else {
            dq |= p.sky_bad;
            good = false;
        }
    }
    let g2 = p.factor * p.factor;
    value = value * p.factor;
    shared_variance = shared_variance * g2;
    own = own * g2;
    if ((p.steps & FLAT) != 0u) {
        let d = flat[2u * n + i];
        dq |= d & p.inherit;
        let bits = flat[i];
        // Positive: no sign bit, not zero.
        if (usable(bits, flat[n + i], d) && bits < 0x80000000u && bits != 0u) {
            let f = bitcast<f32>(bits);
            value = value / f;
            own = own / f / f;
            shared_variance = (shared_variance + value * value * bitcast<f32>(flat[n + i])) / f / f;
        } else {
            dq |= p.flat_bad;
            good = false;
        }
    }
    let v = bitcast<u32>(value);
    let o = bitcast<u32>(own);
    let c = bitcast<u32>(shared_variance);
    good = good && finite(v) && finite(o) && finite(c);
    result[i] = select(NAN_BITS, v, good);
    result[n + i] = select(NAN_BITS, o, good);
    result[2u * n + i] = select(NAN_BITS, c, good);
    result[3u * n + i] = select(dq | p.unusable, dq, good);
}
