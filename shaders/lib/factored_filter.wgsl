// z = D h*(D r) of column x of entry e, h cut off at the entry's ends: the twin of
// `preconditioned` in src/kernels/factored. Buffers: `residual` r, `scale` D, `taps` h.

const HALF: u32 = 8u;

fn scaled(at: u32) -> f32 {
    return residual[at] * scale[at];
}

fn preconditioned(e: u32, x: u32) -> f32 {
    var sum = taps[0] * scaled(e * SEG + x);
    for (var m = 1u; m <= HALF; m++) {
        var pair = 0.0;
        if x >= m {
            pair = scaled(e * SEG + x - m);
        }
        if x + m < SEG {
            pair += scaled(e * SEG + x + m);
        }
        sum += taps[m] * pair;
    }
    return sum * scale[e * SEG + x];
}
