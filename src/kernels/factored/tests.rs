use super::local::HALF_SPECTRA;
use super::*;

/// A number in [0, 1) that looks random.
pub(crate) fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f64 / (1u64 << 24) as f64
}

/// `n` spectra at `pitch` rows whose traces climb, the last one over the detector's edge,
/// on `nx` columns: smooth profiles, taps near a peak.
pub(crate) fn system(nx: usize, n: usize, pitch: f64) -> System {
    let (ky, rank) = (11usize, 3usize);
    let ny = (n as f64 * pitch) as usize + 2;
    let segments = nx.div_ceil(SEG);
    let mut entries = Vec::new();
    let mut starts = vec![0u32];
    let mut coefs: Vec<f32> = Vec::new();
    // Profiles at three columns, parabolas between them.
    let nodes = [4.0, 32.0, 60.0];
    let weight = |k: usize, x: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(i, _)| *i != k);
        others.map(|(_, n)| (x - n) / (nodes[k] - n)).product()
    };
    let basis = (0..3).map(|k| std::array::from_fn(|x| weight(k, x as f64) as f32)).collect();
    for s in 0..segments {
        for l in 0..n {
            // Two spectra end inside.
            let last = if l % 5 == 3 { nx - nx / 3 } else { nx };
            if s * SEG >= last {
                continue;
            }
            let row = |x: f64| 3.3 + pitch * l as f64 + 0.01 * x;
            let anchor = row((s * SEG) as f64).floor() as i32 - 4;
            let live = [0, (last - s * SEG).min(SEG) as u16];
            entries.push(Entry {
                spectrum: l as u32,
                segment: s as u32,
                anchor,
                left: NONE,
                right: NONE,
                live,
                wanted: live.map(|x| x as i16),
            });
            for dy in 0..ky {
                for r in 0..rank {
                    for x in nodes {
                        let d = f64::from(anchor) + dy as f64 - row((s * SEG) as f64 + x);
                        let v = (-0.5 * d * d).exp() * [0.4, 0.1 * d, 0.05 * (d * d - 1.0)][r];
                        coefs.push(v as f32);
                    }
                }
            }
        }
        starts.push(entries.len() as u32);
    }
    for e in 0..entries.len() {
        let next = (0..entries.len()).find(|k| {
            entries[*k].spectrum == entries[e].spectrum && entries[*k].segment == entries[e].segment + 1
        });
        if let Some(k) = next {
            entries[e].right = k as u32;
            entries[k].left = e as u32;
        }
    }
    let tap = |centre: f64, width: f64, sign: f64| -> [f64; TAPS] {
        std::array::from_fn(|j| {
            let d = j as f64 - REACH as f64 - centre;
            sign * (-0.5 * (d / width).powi(2)).exp()
        })
    };
    let taps = vec![tap(0.1, 0.6, 1.0), tap(0.8, 0.8, 0.4), tap(-0.5, 1.5, -0.3)];
    let taps = taps.into_iter().map(|h| h.map(|v| (0.5 * v) as f32)).collect();
    let columns = (0..segments).map(|s| (s * SEG) as u32).collect();
    System { nx, ny, ky, taps, basis, columns, entries, starts, coefs }
}

/// B as a matrix (pixels, unknowns).
fn dense(s: &System) -> Vec<Vec<f64>> {
    let mut out = vec![vec![0.0; s.unknowns()]; s.pixels()];
    for (e, entry) in s.entries.iter().enumerate() {
        for dy in 0..s.ky {
            let y = i64::from(entry.anchor) + dy as i64;
            if !(0..s.ny as i64).contains(&y) {
                continue;
            }
            for x in 0..SEG {
                let pixel = (entry.segment as usize * s.ny + y as usize) * SEG + x;
                for j in 0..TAPS {
                    if let Some(u) = unknown(s, e, x + j) {
                        out[pixel][u] += s.value(e, x, dy, j);
                    }
                }
            }
        }
    }
    out
}

/// Index of the unknown at place `at` of an entry's [`WIDE`] columns.
fn unknown(s: &System, e: usize, at: usize) -> Option<usize> {
    let entry = &s.entries[e];
    let (from, x) = if at < REACH {
        (entry.left, at + SEG - REACH)
    } else if at < REACH + SEG {
        (e as u32, at - REACH)
    } else {
        (entry.right, at - REACH - SEG)
    };
    (from != NONE).then(|| from as usize * SEG + x)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Bᵀ z.
fn adjoint(s: &System, z: &[f64]) -> Vec<f64> {
    let v = View::of(s);
    let mut wide = vec![0.0; s.entries.len() * WIDE];
    let shares = wide.as_chunks_mut().0;
    shares.iter_mut().enumerate().for_each(|(e, w)| operators::transpose(&v, z, e, w));
    let mut out = vec![0.0; s.unknowns()];
    out.chunks_exact_mut(SEG).enumerate().for_each(|(e, o)| operators::fold(&s.entries, &wide, e, o));
    out
}

#[test]
fn operators_are_the_matrix_its_transpose_and_the_diagonal() {
    for (nx, n, pitch) in [(64, 3, 2.0), (131, 7, 2.0), (70, 1, 5.0)] {
        let s = system(nx, n, pitch);
        let b = dense(&s);
        let mut seed = 7 + nx as u64;
        let f: Vec<f64> = (0..s.unknowns()).map(|_| noise(&mut seed)).collect();
        let z: Vec<f64> = (0..s.pixels()).map(|_| noise(&mut seed)).collect();
        let mut light = vec![0.0; s.pixels()];
        image(&s, &f, &mut light);
        for (row, v) in b.iter().zip(&light) {
            assert!((dot(row, &f) - v).abs() < 1e-12);
        }
        let diagonal = Plain::<f64>::new(&s).set_weight(&z).expect("diagonal");
        for (i, v) in adjoint(&s, &z).iter().enumerate() {
            let exact: f64 = b.iter().zip(&z).map(|(row, z)| row[i] * z).sum();
            assert!((exact - v).abs() < 1e-12);
            let exact: f64 = b.iter().zip(&z).map(|(row, z)| row[i] * row[i] * z).sum();
            assert!((exact - diagonal[i]).abs() < 1e-12);
        }
        let mut leverage = vec![0.0; s.pixels()];
        operators::leverages(&s, &f, &mut leverage);
        for (row, v) in b.iter().zip(&leverage) {
            let exact: f64 = row.iter().zip(&f).map(|(b, f)| b * b * f).sum();
            assert!((exact - v).abs() < 1e-12);
        }
    }
}

#[test]
fn a_fit_is_the_least_squares_solution_and_its_errors_those_of_the_inverse() {
    let s = system(100, 8, 2.0);
    let mut seed = 3;
    let data: Vec<f64> = (0..s.pixels()).map(|_| 10.0 * noise(&mut seed)).collect();
    // A hole, and pixels of different noise.
    let variance: Vec<f64> =
        (0..s.pixels()).map(|i| if i % 97 == 5 { 0.0 } else { 1.0 + noise(&mut seed) }).collect();
    let options = Options { threshold: 0.0, tolerance: 1e-10, iterations: 2000, ..Options::default() };
    let own = fit(&mut Plain::new(&s), &s, &data, &variance, &options).expect("fit");
    let b = dense(&s);
    let free: Vec<usize> = (0..s.unknowns()).filter(|i| own.diagonal[*i] > 0.0).collect();
    let residual: Vec<f64> =
        data.iter().zip(&own.model).zip(&own.weight).map(|((d, m), w)| (d - m) * w.max(0.0)).collect();
    for i in &free {
        let data: f64 = b.iter().zip(&residual).map(|(row, r)| row[*i] * r).sum();
        let gradient = data - own.prior[*i] * own.flux[*i];
        assert!(gradient.abs() < 1e-7 * own.diagonal[*i].sqrt(), "{gradient}");
        let exact: f64 = b.iter().zip(&own.weight).map(|(row, w)| row[*i] * row[*i] * w.max(0.0)).sum();
        assert!((exact / own.diagonal[*i] - 1.0).abs() < 1e-12);
    }
    // The local inverses against the whole one.
    let weight: Vec<f64> = own.weight.iter().map(|w| w.max(0.0)).collect();
    let single = |v: &[f64]| -> Vec<f32> { v.iter().map(|v| *v as f32).collect() };
    let (near_weight, near_diagonal) = (single(&own.weight), single(&own.diagonal));
    let near: Vec<Local> =
        (0..s.segments()).flat_map(|seg| local(&s, &near_weight, &near_diagonal, seg)).collect();
    let (mut worst, mut apart) = (0f64, [0f64; 2]);
    for i in free.iter().step_by(29) {
        let (e, x) = (i / SEG, i % SEG);
        let exact = column(&s, &weight, &own.diagonal, *i).expect("column");
        worst = worst.max((f64::from(near[e].variance[x]) / exact[*i] - 1.0).abs());
        for ((up, on), covariance) in LAGS.iter().zip(&near[e].covariance) {
            let (other, column) = (e + up, x as i32 + on);
            let whole = s.of_segment(s.entries[e].segment as usize).contains(&other);
            if whole && (0..SEG as i32).contains(&column) {
                let truth = exact[other * SEG + column as usize];
                let theirs = f64::from(near[other].variance[column as usize]);
                if theirs > 0.0 {
                    let off = (f64::from(covariance[x]) - truth).abs() / (exact[*i] * theirs).sqrt();
                    let at = usize::from(*up == HALF_SPECTRA);
                    apart[at] = apart[at].max(off);
                }
            }
        }
    }
    // With the last of the block's spectra the covariance is the least well known.
    assert!(worst < 0.02 && apart[0] < 0.05 && apart[1] < 0.1, "{worst} {apart:?}");
    // What is not solved for has no variance.
    let unknown = (0..s.unknowns()).filter(|i| own.diagonal[*i] <= 0.0);
    assert!(unknown.into_iter().all(|i| near[i / SEG].variance[i % SEG].is_nan()));
}
