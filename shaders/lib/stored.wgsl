// Ramps after the ramp kernel's STORE stage: see src/kernels/stored.rs. The kernel
// says how many pixels its grid has, grid(), and how many reads, total_reads().

@group(0) @binding(0) var<storage, read> ramp: array<f32>;
@group(0) @binding(1) var<storage, read> flags_in: array<u32>;
@group(0) @binding(2) var<storage, read> cal: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<f32>;

const FLAG_DO_NOT_USE: u32 = 1u;
const FLAG_SATURATED: u32 = 2u;
const FLAG_JUMP: u32 = 4u;
const FLAG_PERSISTENCE: u32 = 32u;
const FLAG_CHARGELOSS: u32 = 128u;
const LOST: u32 = FLAG_DO_NOT_USE | FLAG_SATURATED;

// Reads of the pixel, or of one of its ramps, DN, their flags, and room to sort.
var<private> y: array<f32, NREADS>;
var<private> flags: array<u32, NREADS>;
var<private> sorted: array<f32, NREADS>;

fn cal_bits(plane: u32, pixel: u32) -> u32 { return cal[plane * grid() + pixel]; }
fn cal_value(plane: u32, pixel: u32) -> f32 { return bitcast<f32>(cal_bits(plane, pixel)); }
fn table(which: u32, at: u32) -> f32 { return tables[which * total_reads() + at]; }

// Loads `count` reads of the pixel, the exposure's from `first` on.
fn load(pixel: u32, first: u32, count: u32) {
    for (var k = 0u; k < count; k++) {
        y[k] = ramp[(first + k) * grid() + pixel];
        flags[k] = flags_in[(first + k) * grid() + pixel];
    }
}

// The median of sorted[..n], n > 0; leaves them in order.
fn median(n: u32) -> f32 {
    for (var i = 1u; i < n; i++) {
        let value = sorted[i];
        var at = i;
        while at > 0u && sorted[max(at, 1u) - 1u] > value {
            sorted[at] = sorted[at - 1u];
            at--;
        }
        sorted[at] = value;
    }
    return middle_of(n);
}

// The median of sorted[..n], which are in order.
fn middle_of(n: u32) -> f32 {
    if (n & 1u) == 1u {
        return sorted[n / 2u];
    }
    return 0.5 * (sorted[n / 2u - 1u] + sorted[n / 2u]);
}
