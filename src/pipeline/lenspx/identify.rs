//! Which lenslet is which trace: IX from the scan, IY by the order of the traces
//! along the lattice.
//!
//! Within a scan the traces are ordered by detector row (by column where the lattice
//! runs along the dispersion), so IY grows with it. The step from lenslet to lenslet
//! is the median of consecutive differences; a gap of n steps means n − 1 lenslets
//! without a trace. A scan that shows fewer lenslets than the fullest one is placed
//! where it continues the lattice of the full ones (linear fit of the positions in
//! IX and IY; with fewer than two full scans, where it is nearest to the full one).

use super::legendre::{Normal, median};
use crate::error::{Error, Result};

/// Where a trace is: its middle column and the row there.
pub type Place = (f64, f64);
/// A scan's IX and the places of its traces.
pub type Seen = (i32, Vec<Place>);

/// IY of every trace of every scan, and how many there are in a scan.
pub fn rows(scans: &[Seen]) -> Result<(Vec<Vec<i32>>, i32)> {
    let spread = |pick: &dyn Fn(&Place) -> f64| {
        median(
            scans
                .iter()
                .map(|(_, places)| {
                    let v: Vec<f64> = places.iter().map(pick).collect();
                    let high = v.iter().copied().fold(f64::MIN, f64::max);
                    high - v.iter().copied().fold(f64::MAX, f64::min)
                })
                .collect(),
        )
    };
    let by_row = spread(&|p| p.1) >= 0.2 * spread(&|p| p.0);
    let key = |p: &Place| if by_row { p.1 } else { p.0 };
    let ordered: Vec<Vec<usize>> = scans
        .iter()
        .map(|(_, places)| {
            let mut order: Vec<usize> = (0..places.len()).collect();
            order.sort_by(|a, b| key(&places[*a]).total_cmp(&key(&places[*b])));
            order
        })
        .collect();
    let steps = || {
        scans.iter().zip(&ordered).flat_map(|((_, places), order)| {
            order.windows(2).map(|w| (places[w[1]].0 - places[w[0]].0, places[w[1]].1 - places[w[0]].1))
        })
    };
    let step = (median(steps().map(|s| s.0).collect()), median(steps().map(|s| s.1).collect()));
    let square = step.0 * step.0 + step.1 * step.1;
    // Counted along the lattice from the first trace seen.
    let mut counted: Vec<Vec<i32>> = Vec::new();
    for ((ix, places), order) in scans.iter().zip(&ordered) {
        let mut k = 0;
        let mut counts = vec![0; places.len()];
        for pair in order.windows(2) {
            let (a, b) = (places[pair[0]], places[pair[1]]);
            let along = ((b.0 - a.0) * step.0 + (b.1 - a.1) * step.1) / square;
            let by = along.round() as i32;
            if by < 1 {
                return Err(Error::Unsolvable(format!(
                    "lenslet column {ix}: two traces lie at columns {:.0} and {:.0}, rows {:.1} and {:.1}, \
                     closer than the lattice; is the scan of one lenslet column only?",
                    a.0, b.0, a.1, b.1
                )));
            }
            k += by;
            counts[pair[1]] = k;
        }
        counted.push(counts);
    }
    let span = |counts: &[i32]| counts.iter().max().map_or(0, |m| m + 1);
    let full = counted.iter().map(|c| span(c)).max().unwrap_or(0);
    let whole: Vec<usize> = (0..scans.len()).filter(|&s| span(&counted[s]) == full).collect();
    let lattice = Lattice::of(scans, &counted, &whole);
    for s in 0..scans.len() {
        let free = full - span(&counted[s]);
        let (ix, places) = &scans[s];
        let off = |shift: i32| -> f64 {
            let distance = |(p, k): (&Place, &i32)| {
                let q = lattice.place(*ix, k + shift);
                (p.0 - q.0).powi(2) + (p.1 - q.1).powi(2)
            };
            places.iter().zip(&counted[s]).map(distance).sum()
        };
        let best = (0..=free).min_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(0);
        counted[s].iter_mut().for_each(|k| *k += best);
    }
    Ok((counted, full))
}

/// Place = origin + ix · a + iy · b.
struct Lattice {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Lattice {
    fn of(scans: &[Seen], counted: &[Vec<i32>], whole: &[usize]) -> Lattice {
        let several = whole.len() > 1;
        let n = if several { 3 } else { 2 };
        let (mut x, mut y) = (Normal::new(n), Normal::new(n));
        for &s in whole {
            for (p, k) in scans[s].1.iter().zip(&counted[s]) {
                let row = [1.0, f64::from(*k), f64::from(scans[s].0)];
                x.add(&row[..n], p.0, 1.0);
                y.add(&row[..n], p.1, 1.0);
            }
        }
        let series = |normal: &Normal| normal.solve().map_or_else(|| vec![0.0; 3], |s| s.0);
        Lattice { x: series(&x), y: series(&y) }
    }

    fn place(&self, ix: i32, iy: i32) -> Place {
        let at =
            |c: &[f64]| c.iter().zip([1.0, f64::from(iy), f64::from(ix)]).map(|(c, v)| c * v).sum::<f64>();
        (at(&self.x), at(&self.y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rotated square lattice, one column a scan; `missing` (ix, iy) have no trace.
    fn scans(angle: f64, missing: &[(i32, i32)]) -> (Vec<Seen>, Vec<Vec<i32>>) {
        let (s, c) = angle.sin_cos();
        (0..5)
            .map(|ix| {
                let iys: Vec<i32> = (0..7).filter(|iy| !missing.contains(&(ix, *iy))).collect();
                let place = |iy: &i32| {
                    let (u, v) = (20.0 * f64::from(ix), 20.0 * f64::from(*iy));
                    (300.0 + u * c - v * s, 300.0 + u * s + v * c)
                };
                let mut iys_out = iys.clone();
                iys_out.reverse();
                ((ix, iys_out.iter().map(place).collect()), iys_out)
            })
            .unzip()
    }

    #[test]
    fn rows_are_told_even_where_lenslets_are_missing() {
        for angle in [0.0, 0.3, -0.4, 1.0] {
            for missing in [&[][..], &[(1, 0), (2, 6), (3, 3), (3, 0), (3, 1)]] {
                let (input, truth) = scans(angle, missing);
                let (found, n) = rows(&input).expect("rows");
                assert_eq!((found, n), (truth, 7), "{angle} {missing:?}");
            }
        }
    }
}
