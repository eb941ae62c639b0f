// N frames to one: the contract is in src/kernels/combine.rs.
// CAPACITY: const, at least the number of frames.

struct Params {
    pixels: u32,
    frames: u32,
    median: u32,
    maxiters: u32,
    low: f32,
    high: f32,
    unusable: u32,
    has_common: u32,
    efficiency: array<vec4<f32>, 16>,
}

@group(0) @binding(0) var<storage, read> values: array<u32>;
@group(0) @binding(1) var<storage, read> variances: array<u32>;
@group(0) @binding(2) var<storage, read> commons: array<f32>;
@group(0) @binding(3) var<storage, read> dqs: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

var<private> sorted: array<f32, CAPACITY>;
var<private> spread: array<f32, CAPACITY>;
// The samples kept: sorted[lo] … sorted[hi − 1].
var<private> lo: u32;
var<private> hi: u32;

// By bits: drivers may assume that no float is NaN or infinite.
fn finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) != 0x7f800000u;
}

fn usable(at: u32) -> bool {
    let variance = variances[at];
    // Not negative: no sign bit, or −0.
    return (dqs[at] & p.unusable) == 0u && finite(values[at]) && finite(variance)
        && variance <= 0x80000000u;
}

fn middle() -> f32 {
    let n = hi - lo;
    let m = lo + n / 2u;
    if ((n & 1u) == 1u) {
        return sorted[m];
    }
    return (sorted[m - 1u] + sorted[m]) * 0.5;
}

// Moves lo and hi inwards to what is within `below` and `above` of `centre`;
// leaves them alone, and says so, where nothing is.
fn clip(centre: f32, below: f32, above: f32) -> bool {
    var a = lo;
    var b = hi;
    while (a < b && centre - sorted[a] > below) {
        a++;
    }
    while (a < b && sorted[b - 1u] - centre > above) {
        b--;
    }
    if (a == b) {
        return false;
    }
    lo = a;
    hi = b;
    return true;
}

fn efficiency(n: u32) -> f32 {
    if (n <= 64u) {
        return p.efficiency[(n - 1u) / 4u][(n - 1u) % 4u];
    }
    let a = select(1.4225, 0.4315, (n & 1u) == 1u);
    return 1.5707964 * f32(n) / (f32(n) + a);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    let n = p.pixels;
    if (i >= n) {
        return;
    }
    var any = p.unusable;
    var m = 0u;
    for (var k = 0u; k < p.frames; k++) {
        let at = k * n + i;
        any |= dqs[at];
        if (usable(at)) {
            let x = bitcast<f32>(values[at]);
            var j = m;
            while (j > 0u && sorted[j - 1u] > x) {
                sorted[j] = sorted[j - 1u];
                j--;
            }
            sorted[j] = x;
            let v = bitcast<f32>(variances[at]);
            j = m;
            while (j > 0u && spread[j - 1u] > v) {
                spread[j] = spread[j - 1u];
                j--;
            }
            spread[j] = v;
            m++;
        }
    }
    if (m == 0u) {
        result[i] = NAN_BITS;
        result[n + i] = NAN_BITS;
        result[2u * n + i] = NAN_BITS;
        result[3u * n + i] = any;
        result[4u * n + i] = 0u;
        return;
    }
    var variance = spread[m / 2u];
    if ((m & 1u) == 0u) {
        variance = (spread[m / 2u - 1u] + variance) * 0.5;
    }
    let sigma = sqrt(variance);
    let below = p.low * sigma;
    let above = p.high * sigma;
    lo = 0u;
    hi = m;
    for (var round = 0u; round < p.maxiters; round++) {
        let kept = hi - lo;
        if (kept < 3u || sigma <= 0.0) {
            break;
        }
        if (!clip(middle(), below, above)) {
            clip(sorted[lo + (kept - 1u) / 2u], below, above);
        }
        if (hi - lo == kept) {
            break;
        }
    }
    let centre = middle();
    let first = sorted[lo];
    let last = sorted[hi - 1u];
    var sum = 0.0;
    var own = 0.0;
    var deviations = 0.0;
    var dq = 0xffffffffu;
    var used = 0u;
    for (var k = 0u; k < p.frames; k++) {
        let at = k * n + i;
        if (usable(at)) {
            let x = bitcast<f32>(values[at]);
            if (x >= first && x <= last) {
                sum = sum + (x - centre);
                own = own + bitcast<f32>(variances[at]);
                if (p.has_common != 0u) {
                    deviations = deviations + sqrt(commons[at]);
                }
                dq &= dqs[at];
                used++;
            }
        }
    }
    let count = f32(used);
    own = own / count / count;
    var value = centre + sum / count;
    if (p.median != 0u) {
        value = centre;
        own = own * efficiency(used);
    }
    result[i] = bitcast<u32>(value);
    result[n + i] = bitcast<u32>(own);
    result[2u * n + i] = bitcast<u32>(deviations / count * (deviations / count));
    result[3u * n + i] = dq;
    result[4u * n + i] = used;
}
