// Generalised least squares of a ramp's differences with their tridiagonal
// covariance: see src/kernels/ramp/likelihood.rs for the formulas and their source.
// Works on the private arrays below; NREADS is their length.

const TINY: f32 = 1e-30;
const HUGE: f32 = 1e30;

// Differences (e-/s, 0 where unusable) and whether they are usable (1 or 0).
var<private> d: array<f32, NREADS>;
var<private> used: array<f32, NREADS>;
// Variance of each read, e-2.
var<private> read_variance: array<f32, NREADS>;
// What the last forward pass left.
var<private> fz: array<f32, NREADS>;
var<private> fw: array<f32, NREADS>;
var<private> finv: array<f32, NREADS>;
var<private> flink: array<f32, NREADS>;

struct Sums { s0: f32, s1: f32, s2: f32 }

// A best omission: gain in chi-squared of the better difference alone, what the
// other of two adds to it, first difference dropped.
struct Omission { gain: f32, extra: f32, at: u32 }
struct Omissions { one: Omission, two: Omission }

fn count_used(n: u32) -> f32 {
    var count = 0.0;
    for (var i = 0u; i < n; i++) {
        count += used[i];
    }
    return count;
}

fn trimmed_mean(n: u32) -> f32 {
    var sum = 0.0;
    var count = 0.0;
    var low = HUGE;
    var high = -HUGE;
    for (var i = 0u; i < n; i++) {
        sum += d[i] * used[i];
        count += used[i];
        if used[i] > 0.0 {
            low = min(low, d[i]);
            high = max(high, d[i]);
        }
    }
    if count > 2.5 {
        return (sum - low - high) / (count - 2.0);
    }
    return sum / max(count, 1.0);
}

// The largest of the differences in use.
fn largest(n: u32) -> u32 {
    var at = 0u;
    var most = -HUGE;
    for (var i = 0u; i < n; i++) {
        if used[i] > 0.0 && d[i] > most {
            at = i;
            most = d[i];
        }
    }
    return at;
}

fn forward(n: u32, g: f32, a0: f32) -> Sums {
    var s = Sums(0.0, 0.0, 0.0);
    var z = 0.0;
    var w = 0.0;
    var inv = 0.0;
    var before = 0.0;
    var r0 = read_variance[0];
    for (var i = 0u; i < n; i++) {
        let u = used[i];
        let r1 = read_variance[i + 1u];
        let be = (g * t_bp(i) + r0 * t_br(i)) * (u * before);
        let link = be * inv;
        inv = 1.0 / (g * t_ap(i) + (r0 + r1) * t_ar(i) - be * link);
        z = (d[i] - a0 - link * z) * u;
        w = (1.0 - link * w) * u;
        let wi = w * inv;
        s.s0 += wi * w;
        s.s1 += wi * z;
        s.s2 += z * inv * z;
        before = u;
        r0 = r1;
        fz[i] = z;
        fw[i] = w;
        finv[i] = inv;
        flink[i] = link;
    }
    return s;
}

fn exceeds(o: Omission, least: f32) -> bool { return o.gain + o.extra > least; }

// Whether a's gain exceeds b's by more than `margin`.
fn leads(a: Omission, b: Omission, margin: f32) -> bool {
    return (a.gain - b.gain) + (a.extra - b.extra) > margin;
}

fn omissions(n: u32, s: Sums) -> Omissions {
    var best = Omissions(Omission(0.0, 0.0, 0u), Omission(0.0, 0.0, 0u));
    let inv_s0 = 1.0 / max(s.s0, TINY);
    let da = s.s1 * inv_s0;
    var gg = 0.0;
    var h = 0.0;
    var q = 0.0;
    var link = 0.0;
    var v_next = 0.0;
    var p_next = 1.0;
    var used_next = 0.0;
    var gain_next = 0.0;
    for (var j = n; j > 0u; j--) {
        let i = j - 1u;
        let off = -(link * q);
        let h_next = h;
        gg = fz[i] * finv[i] - link * gg;
        h = fw[i] * finv[i] - link * h;
        q = finv[i] + link * link * q;
        let v = gg - da * h;
        let p = max(q - h * h * inv_s0, TINY);
        let gain = v * v / p * used[i];
        if gain > best.one.gain {
            best.one = Omission(gain, 0.0, i);
        }
        if t_pair(i) > 0.0 {
            let p12 = off - h * h_next * inv_s0;
            let first = gain > gain_next;
            let one = select(vec2<f32>(v_next, p_next), vec2<f32>(v, p), first);
            let two = select(vec2<f32>(v, p), vec2<f32>(v_next, p_next), first);
            let share = p12 / one.y;
            let rest = two.x - one.x * share;
            let both = used[i] * used_next;
            let extra = rest * rest / max(two.y - p12 * share, TINY) * both;
            let pair = Omission(max(gain, gain_next) * both, extra, i);
            if leads(pair, best.two, 0.0) {
                best.two = pair;
            }
        }
        v_next = v;
        p_next = p;
        used_next = used[i];
        gain_next = gain;
        link = flink[i];
    }
    return best;
}

// h'C_photon h for a photon rate of 1 and h'C_read h, from the last forward pass.
fn parts(n: u32) -> vec2<f32> {
    var out = vec2<f32>(0.0, 0.0);
    var h = 0.0;
    var link = 0.0;
    var bp = 0.0;
    var br = 0.0;
    for (var j = n; j > 0u; j--) {
        let i = j - 1u;
        let next = h;
        h = fw[i] * finv[i] - link * h;
        let cross = 2.0 * h * next;
        let r1 = read_variance[i + 1u];
        let read = (read_variance[i] + r1) * t_ar(i) * h * h + r1 * br * cross;
        out += vec2<f32>(t_ap(i) * h * h + bp * cross, read);
        link = flink[i];
        bp = t_bp(i);
        br = t_br(i);
    }
    return out;
}
