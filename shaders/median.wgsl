// Median over a box: the contract is in src/kernels/median.rs.

struct Params {
    pixels: u32,
    nx: u32,
    radius: u32,
    otherwise: f32,
}

@group(0) @binding(0) var<storage, read> values: array<u32>;
@group(0) @binding(1) var<storage, read> left_out: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

const CAPACITY: u32 = 49u;
var<private> sorted: array<f32, CAPACITY>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = item(id, groups);
    if (i >= p.pixels) {
        return;
    }
    let ny = p.pixels / p.nx;
    let x = i % p.nx;
    let y = i / p.nx;
    let r = min(p.radius, 3u);
    var n = 0u;
    for (var row = max(y, r) - r; row <= min(y + r, ny - 1u); row++) {
        for (var column = max(x, r) - r; column <= min(x + r, p.nx - 1u); column++) {
            let at = row * p.nx + column;
            let bits = values[at];
            if (left_out[at] != 0u || (bits & 0x7f800000u) == 0x7f800000u) {
                continue;
            }
            let v = bitcast<f32>(bits);
            var k = n;
            while (k > 0u && sorted[k - 1u] > v) {
                sorted[k] = sorted[k - 1u];
                k--;
            }
            sorted[k] = v;
            n++;
        }
    }
    if (n == 0u) {
        result[i] = p.otherwise;
    } else if ((n & 1u) == 1u) {
        result[i] = sorted[n / 2u];
    } else {
        result[i] = (sorted[n / 2u - 1u] + sorted[n / 2u]) * 0.5;
    }
}
