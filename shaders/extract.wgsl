// One detector column of spectra by banded weighted least squares; contract and
// formulas: src/kernels/extract.

struct Params {
    ncols: u32,
    ny: u32,
    ky: u32,
    hb: u32,
    nmax: u32,
    factor: f32,
    threshold: f32,
    min_fraction: f32,
}

@group(0) @binding(0) var<storage, read> pixels: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(4) var<storage, read_write> samples: array<u32>;
@group(0) @binding(5) var<storage, read_write> columns: array<u32>;
@group(0) @binding(6) var<uniform> params: Params;

const PIVOT: f32 = 1e-3;
const TOUCHED: f32 = 0.1;
const MODEL_ERROR: f32 = 0.03;
const LEAST_FREE: f32 = 0.02;
const ROUNDS: u32 = 5u;
const DO_NOT_USE: u32 = 1u;
const OUTLIER: u32 = 16u;
const MAX_ROWS: u32 = 16u;
const MAX_BAND: u32 = 16u;

// The column, its first entry and how many it has.
var<private> x: u32;
var<private> first_entry: u32;
var<private> n: u32;

// Places in the scratch memory of a column; columns are interleaved so that
// neighbouring invocations touch neighbouring words.
fn weight_at(y: u32) -> u32 { return y * params.ncols + x; }
fn model_at(y: u32) -> u32 { return (params.ny + y) * params.ncols + x; }
fn leverage_at(y: u32) -> u32 { return (2u * params.ny + y) * params.ncols + x; }
fn flux_at(j: u32) -> u32 { return (3u * params.ny + j) * params.ncols + x; }
fn diagonal_at(j: u32) -> u32 { return (3u * params.ny + params.nmax + j) * params.ncols + x; }
fn band_at(j: u32, k: u32) -> u32 {
    return (3u * params.ny + 2u * params.nmax + j * (params.hb + 1u) + k) * params.ncols + x;
}

fn first(j: u32) -> i32 { return bitcast<i32>(table[(first_entry + j) * (params.ky + 1u)]); }
fn profile(j: u32, k: u32) -> f32 {
    return bitcast<f32>(table[(first_entry + j) * (params.ky + 1u) + 1u + k]);
}
fn pixel(y: u32) -> vec4<u32> { return pixels[y * params.ncols + x]; }
fn finite(bits: u32) -> bool { return (bits & 0x7f800000u) != 0x7f800000u; }

fn good(p: vec4<u32>) -> bool {
    return (p.w & DO_NOT_USE) == 0u && finite(p.x) && finite(p.y) && finite(p.z) && bitcast<f32>(p.y) > 0.0;
}

// Whether row k of a profile that begins at row f0 is on the detector.
fn inside(f0: i32, k: u32) -> bool {
    let y = f0 + i32(k);
    return y >= 0 && y < i32(params.ny);
}

fn load() {
    for (var y = 0u; y < params.ny; y++) {
        scratch[weight_at(y)] = 0.0;
    }
    for (var j = 0u; j < n; j++) {
        let f0 = first(j);
        for (var k = 0u; k < params.ky; k++) {
            if inside(f0, k) {
                let y = u32(f0 + i32(k));
                let p = pixel(y);
                if good(p) {
                    scratch[weight_at(y)] = 1.0 / bitcast<f32>(p.y);
                }
            }
        }
    }
}

fn assemble() {
    for (var j = 0u; j < n; j++) {
        let f0 = first(j);
        var weighted: array<f32, MAX_ROWS>;
        var right = 0.0;
        for (var k = 0u; k < params.ky; k++) {
            weighted[k] = 0.0;
            if inside(f0, k) {
                let y = u32(f0 + i32(k));
                let w = scratch[weight_at(y)];
                if w > 0.0 {
                    weighted[k] = profile(j, k) * w;
                    right += weighted[k] * bitcast<f32>(pixel(y).x);
                }
            }
        }
        scratch[flux_at(j)] = right;
        for (var i = 0u; i <= params.hb; i++) {
            var sum = 0.0;
            if j + i < n {
                let shift = u32(first(j + i) - f0);
                for (var k = shift; k < params.ky; k++) {
                    sum += weighted[k] * profile(j + i, k - shift);
                }
            }
            scratch[band_at(j, i)] = sum;
            if i == 0u {
                scratch[diagonal_at(j)] = sum;
            }
        }
    }
}

// LDLᵀ in place: 1/D on the diagonal, L beside it; solves on the way.
fn factor() {
    for (var j = 0u; j < n; j++) {
        let pivot = scratch[band_at(j, 0u)];
        let diagonal = scratch[diagonal_at(j)];
        let last = min(params.hb, n - 1u - j);
        if !(diagonal > 0.0 && pivot > PIVOT * diagonal) {
            scratch[diagonal_at(j)] = select(0.0, -1.0, diagonal > 0.0);
            for (var k = 0u; k <= params.hb; k++) {
                scratch[band_at(j, k)] = 0.0;
            }
            scratch[flux_at(j)] = 0.0;
            continue;
        }
        let inverse = 1.0 / pivot;
        let z = scratch[flux_at(j)];
        for (var k = 1u; k <= last; k++) {
            let l = scratch[band_at(j, k)] * inverse;
            for (var m = k; m <= last; m++) {
                scratch[band_at(j + k, m - k)] -= l * scratch[band_at(j, m)];
            }
            scratch[flux_at(j + k)] -= l * z;
            scratch[band_at(j, k)] = l;
        }
        scratch[band_at(j, 0u)] = inverse;
        scratch[flux_at(j)] = z * inverse;
    }
    for (var i = 0u; i < n; i++) {
        let j = n - 1u - i;
        var sum = scratch[flux_at(j)];
        for (var k = 1u; k <= min(params.hb, n - 1u - j); k++) {
            sum -= scratch[band_at(j, k)] * scratch[flux_at(j + k)];
        }
        scratch[flux_at(j)] = sum;
    }
}

fn project() {
    for (var y = 0u; y < params.ny; y++) {
        scratch[model_at(y)] = 0.0;
    }
    for (var j = 0u; j < n; j++) {
        let f0 = first(j);
        let s = scratch[flux_at(j)];
        for (var k = 0u; k < params.ky; k++) {
            if inside(f0, k) {
                scratch[model_at(u32(f0 + i32(k)))] += profile(j, k) * s;
            }
        }
    }
}

// Takahashi: the band of N⁻¹ in place of the factors.
fn invert() {
    for (var back = 0u; back < n; back++) {
        let i = n - 1u - back;
        let last = min(params.hb, n - 1u - i);
        var l: array<f32, MAX_BAND + 1u>;
        for (var k = 0u; k <= last; k++) {
            l[k] = scratch[band_at(i, k)];
        }
        var diagonal = l[0];
        for (var k = 1u; k <= last; k++) {
            var sum = 0.0;
            for (var m = 1u; m <= last; m++) {
                sum += l[m] * scratch[band_at(i + min(m, k), max(m, k) - min(m, k))];
            }
            scratch[band_at(i, k)] = -sum;
            diagonal += l[k] * sum;
        }
        scratch[band_at(i, 0u)] = diagonal;
    }
}

// Whether a used pixel is too far from the model.
fn is_far(y: u32) -> bool {
    if !(scratch[weight_at(y)] > 0.0) || params.threshold <= 0.0 {
        return false;
    }
    let p = pixel(y);
    let model = scratch[model_at(y)];
    let m = max(model, 0.0);
    let r = bitcast<f32>(p.x) - model;
    let error = MODEL_ERROR * m;
    let limit = params.threshold * params.threshold;
    return r * r > limit * (bitcast<f32>(p.y) + params.factor * m + error * error);
}

// Variance of the model at each pixel, from the band of N⁻¹.
fn find_leverage() {
    for (var y = 0u; y < params.ny; y++) {
        scratch[leverage_at(y)] = 0.0;
    }
    for (var j = 0u; j < n; j++) {
        let f0 = first(j);
        for (var i = 0u; i <= min(params.hb, n - 1u - j); i++) {
            let shift = u32(first(j + i) - f0);
            let z = scratch[band_at(j, i)] * select(2.0, 1.0, i == 0u);
            for (var k = shift; k < params.ky; k++) {
                if inside(f0, k) {
                    scratch[leverage_at(u32(f0 + i32(k)))] += z * profile(j, k) * profile(j + i, k - shift);
                }
            }
        }
    }
}

// What row y cost the fit where it is too far from the model (after `reweight`).
fn cost(y: i32) -> f32 {
    if y < 0 || y >= i32(params.ny) {
        return 0.0;
    }
    return scratch[model_at(u32(y))];
}

fn reweight() -> u32 {
    var search = false;
    for (var y = 0u; y < params.ny; y++) {
        search = search || is_far(y);
    }
    if search {
        invert();
        find_leverage();
    }
    for (var y = 0u; y < params.ny; y++) {
        var z = 0.0;
        let w = scratch[weight_at(y)];
        if w > 0.0 {
            let p = pixel(y);
            let model = scratch[model_at(y)];
            if search && is_far(y) {
                let r = bitcast<f32>(p.x) - model;
                z = r * r * w / max(1.0 - w * scratch[leverage_at(y)], LEAST_FREE);
            }
            scratch[weight_at(y)] = 1.0 / (bitcast<f32>(p.y) + params.factor * max(model, 0.0));
        }
        scratch[model_at(y)] = z;
    }
    var rejected = 0u;
    if search {
        for (var y = 0; y < i32(params.ny); y++) {
            let z = cost(y);
            if z > cost(y - 1) && z > cost(y - 2) && z >= cost(y + 1) && z >= cost(y + 2) {
                scratch[weight_at(u32(y))] = -1.0;
                rejected += 1u;
            }
        }
    }
    return rejected;
}

fn report(j: u32) -> bool {
    let f0 = first(j);
    var fraction = 0.0;
    var chi2 = 0.0;
    var information = 0.0;
    var shared_part = 0.0;
    var dq = 0u;
    var spoilt = false;
    let limit = params.threshold * params.threshold;
    for (var k = 0u; k < params.ky; k++) {
        if inside(f0, k) {
            let y = u32(f0 + i32(k));
            let p = profile(j, k);
            let w = scratch[weight_at(y)];
            if w > 0.0 {
                let values = pixel(y);
                let model = scratch[model_at(y)];
                let r = bitcast<f32>(values.x) - model;
                fraction += p;
                chi2 += p * r * r * w;
                information += p * p * w;
                shared_part += p * p * w * w * bitcast<f32>(values.z);
                if p >= TOUCHED {
                    dq |= values.w;
                    let m = model * MODEL_ERROR;
                    spoilt = spoilt || (params.threshold > 0.0 && r * r > limit * (1.0 / w + m * m));
                }
            } else if w < 0.0 && p >= TOUCHED {
                dq |= OUTLIER;
            }
        }
    }
    var inseparable = false;
    for (var i = j - min(j, params.hb); i < min(n, j + params.hb + 1u); i++) {
        inseparable = inseparable || scratch[diagonal_at(i)] < 0.0;
    }
    if spoilt {
        dq |= OUTLIER;
    }
    // Which of few pixels is the outlier is a guess: ask for more of them then.
    let doubt = select(params.min_fraction, 0.5 * (1.0 + params.min_fraction), (dq & OUTLIER) != 0u);
    let ok = !inseparable && !spoilt && fraction > doubt && information > 0.0
        && scratch[diagonal_at(j)] > 0.0;
    let at = (first_entry + j) * 6u;
    if ok {
        let variance = scratch[band_at(j, 0u)];
        var covariance = 0.0;
        if params.hb > 0u && j + 1u < n {
            covariance = scratch[band_at(j, 1u)];
        }
        samples[at] = bitcast<u32>(scratch[flux_at(j)]);
        samples[at + 1u] = bitcast<u32>(variance);
        samples[at + 2u] = bitcast<u32>(covariance);
        samples[at + 3u] = bitcast<u32>(variance * shared_part / information);
        samples[at + 4u] = bitcast<u32>(chi2 / fraction);
    } else {
        dq |= DO_NOT_USE;
        samples[at] = NAN_BITS;
        samples[at + 1u] = NAN_BITS;
        samples[at + 2u] = 0u;
        samples[at + 3u] = NAN_BITS;
        samples[at + 4u] = NAN_BITS;
    }
    samples[at + 5u] = dq;
    return ok;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    x = item(id, groups);
    if x >= params.ncols {
        return;
    }
    first_entry = starts[x];
    n = starts[x + 1u] - first_entry;
    var rejected = 0u;
    load();
    assemble();
    factor();
    for (var round = 0u; round < ROUNDS; round++) {
        project();
        let more = reweight();
        assemble();
        factor();
        rejected += more;
        if round > 0u && more == 0u {
            break;
        }
    }
    invert();
    project();
    var chi2 = 0.0;
    var used = 0u;
    for (var y = 0u; y < params.ny; y++) {
        let w = scratch[weight_at(y)];
        if w > 0.0 {
            let r = bitcast<f32>(pixel(y).x) - scratch[model_at(y)];
            chi2 += r * r * w;
            used += 1u;
        }
    }
    var solved = 0u;
    for (var j = 0u; j < n; j++) {
        solved += u32(report(j));
    }
    columns[x * 4u] = bitcast<u32>(chi2);
    columns[x * 4u + 1u] = used;
    columns[x * 4u + 2u] = rejected;
    columns[x * 4u + 3u] = solved;
}
