// What a jump takes with it: the twin of src/kernels/jump_spread.rs.

struct Params {
    items: u32, nx: u32, rows: u32, ramps: u32,
    reads: u32, neighbours: u32, after_electrons_1: f32, after_reads_1: u32,
    after_electrons_2: f32, after_reads_2: u32,
}

@group(0) @binding(4) var<storage, read> medians: array<u32>;
@group(0) @binding(5) var<storage, read_write> flags_out: array<u32>;
@group(0) @binding(6) var<uniform> p: Params;

const MARK: u32 = 256u;

fn grid() -> u32 { return p.items; }
fn total_reads() -> u32 { return p.ramps * p.reads; }

var<private> out: array<u32, NREADS>;

fn marked(k: u32, pixel: u32) -> bool {
    let x = pixel % p.nx;
    let row = pixel / p.nx;
    var any = 0u;
    if x > 0u {
        any |= flags_in[k * p.items + pixel - 1u];
    }
    if x + 1u < p.nx {
        any |= flags_in[k * p.items + pixel + 1u];
    }
    if row > 0u {
        any |= flags_in[k * p.items + pixel - p.nx];
    }
    if row + 1u < p.rows {
        any |= flags_in[k * p.items + pixel + p.nx];
    }
    return (any & MARK) != 0u;
}

// Flags up to `after` reads more after jumps of `level` electrons.
fn follow(level: f32, after: u32, gain: f32, middle: f32) {
    let most = min(after, max(p.reads, 2u) - 2u);
    for (var k = 0u; k < total_reads(); k++) {
        let at = k % p.reads;
        if at == 0u || (flags[k] & FLAG_JUMP) == 0u || ((flags[k - 1u] | flags[k]) & LOST) != 0u {
            continue;
        }
        if gain * (y[k] - y[k - 1u]) - middle / table(0u, k - 1u) < level {
            continue;
        }
        let end = min(k + most, k - at + p.reads - 1u);
        for (var j = k; j <= end; j++) {
            out[j] |= FLAG_JUMP;
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pixel = item(id, groups);
    if pixel >= p.items {
        return;
    }
    load(pixel, 0u, total_reads());
    for (var k = 0u; k < total_reads(); k++) {
        if p.neighbours != 0u && (flags[k] & LOST) == 0u && marked(k, pixel) {
            flags[k] |= FLAG_JUMP;
        }
        out[k] = flags[k];
    }
    if medians[pixel] != NAN_BITS {
        let gain = cal_value(3u, pixel);
        let middle = bitcast<f32>(medians[pixel]);
        if p.after_reads_1 > 0u {
            follow(p.after_electrons_1, p.after_reads_1, gain, middle);
        }
        if p.after_reads_2 > 0u {
            follow(p.after_electrons_2, p.after_reads_2, gain, middle);
        }
    }
    for (var k = 0u; k < total_reads(); k++) {
        var f = out[k] & ~MARK;
        if (flags[k] & LOST) != 0u {
            f &= ~FLAG_JUMP;
        }
        flags_out[k * p.items + pixel] = f;
    }
}
