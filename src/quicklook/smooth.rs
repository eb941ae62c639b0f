//! A plane smoothed, and the values along a line of it.

use rayon::prelude::*;

use super::Plane;

/// FWHM of a Gaussian in units of its σ.
const FWHM: f64 = 2.354_820_045;

/// The plane convolved with a round Gaussian of `fwhm` pixels, out to 3 σ. Pixels without
/// a value have no weight, so that they do not spread; where nothing near has one, there
/// is none.
pub fn smoothed(plane: &Plane, fwhm: f64) -> Plane {
    let sigma = fwhm / FWHM;
    let reach = (3.0 * sigma).ceil() as usize;
    let taps: Vec<f64> = (0..=reach).map(|k| (-0.5 * (k as f64 / sigma).powi(2)).exp()).collect();
    let Plane { nx, ny, .. } = *plane;
    // Value times weight, and weight: along rows, then along columns.
    let of_row = |y: usize| -> Vec<[f64; 2]> {
        let row = &plane.values[y * nx..][..nx];
        let at = |x: usize| {
            let near = x.saturating_sub(reach)..(x + reach + 1).min(nx);
            near.filter(|i| row[*i].is_finite()).fold([0.0, 0.0], |[v, w], i| {
                let tap = taps[i.abs_diff(x)];
                [v + tap * f64::from(row[i]), w + tap]
            })
        };
        (0..nx).map(at).collect()
    };
    let rows: Vec<Vec<[f64; 2]>> = (0..ny).into_par_iter().map(of_row).collect();
    let value = |i: usize| {
        let (x, y) = (i % nx, i / nx);
        let near = y.saturating_sub(reach)..(y + reach + 1).min(ny);
        let [v, w] = near.fold([0.0, 0.0], |[v, w], j| {
            let tap = taps[j.abs_diff(y)];
            [v + tap * rows[j][x][0], w + tap * rows[j][x][1]]
        });
        if w > 0.0 { (v / w) as f32 } else { f32::NAN }
    };
    Plane { nx, ny, values: (0..nx * ny).into_par_iter().map(value).collect() }
}

/// Values along the line from (x, y) `from` to `to` (counted from 0): distances from its
/// beginning, pixels, a pixel apart, and the mean of the `width` pixels across it (the
/// nearest pixel of each; NaN where none of them has a value or lies in the plane).
pub fn along(plane: &Plane, from: [f64; 2], to: [f64; 2], width: usize) -> (Vec<f64>, Vec<f32>) {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy);
    let (ux, uy) = if length > 0.0 { (dx / length, dy / length) } else { (1.0, 0.0) };
    let distances: Vec<f64> = (0..=length.round() as usize).map(|k| k as f64).collect();
    let pixel = |x: f64, y: f64| {
        let inside =
            |v: f64, n: usize| (-0.5..n as f64 - 0.5).contains(&v).then(|| v.round().max(0.0) as usize);
        let at = inside(y, plane.ny)?.min(plane.ny - 1) * plane.nx + inside(x, plane.nx)?.min(plane.nx - 1);
        Some(plane.values[at]).filter(|v| v.is_finite())
    };
    let value = |d: &f64| {
        let across = (0..width).map(|k| k as f64 - (width as f64 - 1.0) / 2.0);
        let found: Vec<f64> = across
            .filter_map(|a| pixel(from[0] + d * ux - a * uy, from[1] + d * uy + a * ux))
            .map(f64::from)
            .collect();
        if found.is_empty() { f32::NAN } else { (found.iter().sum::<f64>() / found.len() as f64) as f32 }
    };
    let values = distances.iter().map(value).collect();
    (distances, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(nx: usize, ny: usize, value: impl Fn(usize, usize) -> f32) -> Plane {
        Plane { nx, ny, values: (0..nx * ny).map(|i| value(i % nx, i / nx)).collect() }
    }

    #[test]
    fn a_point_becomes_a_gaussian_and_holes_do_not_spread() {
        let point = plane(31, 31, |x, y| if (x, y) == (15, 15) { 100.0 } else { 0.0 });
        let smooth = smoothed(&point, 4.0);
        let at = |p: &Plane, x: usize, y: usize| f64::from(p.values[y * 31 + x]);
        assert!((smooth.values.iter().map(|v| f64::from(*v)).sum::<f64>() - 100.0).abs() < 1e-3);
        // Half its peak two pixels from the centre.
        assert!((at(&smooth, 17, 15) / at(&smooth, 15, 15) - 0.5).abs() < 1e-3);
        assert!((at(&smooth, 15, 13) / at(&smooth, 15, 15) - 0.5).abs() < 1e-3);
        let flat = plane(31, 31, |x, y| if x % 5 == 0 || y == 3 { f32::NAN } else { 7.0 });
        assert!(smoothed(&flat, 4.0).values.iter().all(|v| (v - 7.0).abs() < 1e-5));
        assert!(smoothed(&plane(9, 9, |_, _| f32::NAN), 2.0).values.iter().all(|v| v.is_nan()));
    }

    #[test]
    fn a_line_has_the_values_that_it_crosses() {
        let slope = plane(20, 10, |x, y| x as f32 + 100.0 * y as f32);
        let (d, v) = along(&slope, [2.0, 3.0], [6.0, 3.0], 1);
        assert_eq!((d, v), (vec![0.0, 1.0, 2.0, 3.0, 4.0], vec![302.0, 303.0, 304.0, 305.0, 306.0]));
        let (_, v) = along(&slope, [5.0, 1.0], [5.0, 3.0], 3);
        assert_eq!(v, [105.0, 205.0, 305.0]);
        // Beyond the edge there is nothing.
        let (_, v) = along(&slope, [18.0, 0.0], [21.0, 0.0], 1);
        assert!(v[1] == 19.0 && v[2].is_nan() && v[3].is_nan(), "{v:?}");
    }
}
