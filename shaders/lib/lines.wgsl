// Straight-line estimates with fixed weights: see src/kernels/ramp/lines.rs.
// Works on the private arrays of likelihood.wgsl.

struct Estimate { rate: f32, photon: f32, read: f32, norm: f32 }

fn mean_time(first: u32, last: u32) -> f32 {
    var sum = 0.0;
    for (var k = first; k <= last; k++) {
        sum += t_time(k);
    }
    return sum / f32(last - first + 1u);
}

// Adds the segment of reads first..=last to the estimate.
fn add_segment(e: Estimate, ols: bool, coadd: u32, first: u32, last: u32) -> Estimate {
    var out = e;
    let centre = mean_time(first, last);
    var n = 1u;
    var each = 0.0;
    if ols {
        for (var k = first; k <= last; k++) {
            let x = t_time(k) - centre;
            out.norm += x * x;
        }
    } else {
        n = clamp(coadd, 1u, (last - first + 1u) / 2u);
        let span = mean_time(last + 1u - n, last) - mean_time(first, first + n - 1u);
        out.norm += span * span;
        each = span / f32(n);
    }
    var cumulative = 0.0;
    for (var j = last + 1u; j > first; j--) {
        let k = j - 1u;
        var c = 0.0;
        if ols {
            c = t_time(k) - centre;
        } else if k > last - n {
            c = each;
        } else if k < first + n {
            c = -each;
        }
        out.read += c * c * read_variance[k];
        out.photon += c * c * t_lag(k);
        cumulative += c;
        if k > first {
            let dt = t_time(k) - t_time(k - 1u);
            out.rate += cumulative * dt * d[k - 1u];
            out.photon += cumulative * cumulative * dt;
        }
    }
    return out;
}

fn line_estimate(differences: u32, ols: bool, coadd: u32) -> Estimate {
    var e = Estimate(0.0, 0.0, 0.0, 0.0);
    var k = 0u;
    while k < differences {
        if used[k] == 0.0 {
            k++;
            continue;
        }
        let first = k;
        while k < differences && used[min(k, NREADS - 1u)] > 0.0 {
            k++;
        }
        e = add_segment(e, ols, coadd, first, k);
    }
    if e.norm > 0.0 {
        let inv = 1.0 / e.norm;
        return Estimate(e.rate * inv, e.photon * inv * inv, e.read * inv * inv, e.norm);
    }
    return Estimate(0.0, 0.0, 0.0, 0.0);
}
