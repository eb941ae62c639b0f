//! Figures of merit of a product against its truth, each with the limits it must
//! keep. Pure functions on planes.
//!
//! Judged are the pixels that the *truth* calls good, whatever the product says of
//! them; at least 98 % of those must be usable in the product (no DO_NOT_USE, value
//! finite, error positive), else leaving pixels out would improve a score. With
//! d = value − truth, n used pixels and e = √mean(ERR²):
//!
//! | figure | is | must be |
//! |---|---|---|
//! | `used` | used over good pixels | ≥ 0.98 |
//! | `rms` | √mean(d²) / e | 0.97 to 1.03 |
//! | `mean` | mean(d) / e | within ± (0.01 + 3 s) |
//! | `beyond` | fraction with \|d\| > 6 ERR of the pixels that no cosmic ray hit | ≤ 1e-5, or one pixel where n < 1e5 |
//! | `hits` | fraction with \|d\| ≤ 6 ERR of those that one hit | ≥ 0.95 |
//! | `chi2` | mean of CHI2, weighted by the degrees of freedom | 0.98 to 1.02 |
//! | `blocks` | rms over 32 × 32-pixel blocks of (mean(d) − the frame's mean(d)) / (√ΣERR² / n) | 0.9 to 1.1 |
//! | `rows` | the same over rows | 0.9 to 1.1 |
//! | `voxels` | cubes: √mean((d / ERR)²) | 0.97 to 1.05 |
//!
//! s is what reference pixels leave of the common drift. A read's drift is the mean
//! of N reference pixels whose read noise is that of the others, so it is off by
//! σ_read/√N, independently at each read. A rate is the same linear combination of
//! the reads for the offset as for a pixel, so all rates of a frame are off together
//! by σ(rate from read noise)/√N: s = √(mean VAR_RNOISE / mean ERR² / N). Where a
//! product does not say how much of its variance is read noise, all of it counts;
//! sums and means of frames keep the ratio.
//!
//! A cosmic ray in the middle of a ramp that deposits 5.5 σ of what the ramp can tell of
//! a step, the threshold, and is not found moves the rate by 5.9 σ: a few hits in a
//! hundred do, and each is a track of up to a dozen pixels. They count in every figure,
//! but hold a limit of their own instead of that for normal noise.
//!
//! Blocks and rows are taken about the frame's mean, which has its own limit: an
//! offset that reference pixels allow (s = 0.011 for 8000 of them) is a third of a
//! block mean's own error (1/32), and one of 3 s would by itself bring `blocks` to 1.5.
//!
//! An rms over m blocks scatters by 1/√(2m) though all is well: by 0.044 for the 256
//! blocks of a frame of 512², by 0.03 for its rows, and a night has a hundred of these
//! figures. Where four times that is more than 0.1 it replaces the 0.1, or a good night
//! would be called bad more often than not; the [`Pulls`] of many frames together are
//! held to 0.1.

use std::fmt;

use crate::datamodel::dq;

/// Side of a block, pixels.
const BLOCK: usize = 32;
/// Of a block or row, this fraction must be used for its mean to be judged.
const FILLED: f64 = 0.5;

/// A figure and where it must lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// What was found.
    pub value: f64,
    /// Least that is good.
    pub low: f64,
    /// Most that is good.
    pub high: f64,
}

impl Figure {
    /// A figure that must lie in `low` … `high`.
    pub fn new(name: &'static str, value: f64, low: f64, high: f64) -> Figure {
        Figure { name, value, low, high }
    }

    /// Whether it does. NaN does not.
    pub fn is_good(&self) -> bool {
        (self.low..=self.high).contains(&self.value)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.name, digits(self.value))?;
        match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => write!(f, ", must be {} to {}", digits(self.low), digits(self.high)),
            (true, false) => write!(f, ", must be at least {}", digits(self.low)),
            (false, true) => write!(f, ", must be at most {}", digits(self.high)),
            (false, false) => Ok(()),
        }
    }
}

/// Four decimals, or the exponent form for the very small.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() < 1e-3 { format!("{value:.1e}") } else { format!("{value:.4}") }
}

/// All figures of a product.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// In the order in which they are printed.
    pub figures: Vec<Figure>,
    /// What blocks and rows gave, to be judged together with other frames'.
    pub pulls: Pulls,
}

impl Score {
    /// Whether every figure is good (and there are any).
    pub fn is_good(&self) -> bool {
        !self.figures.is_empty() && self.figures.iter().all(Figure::is_good)
    }

    /// The figures that are not, as sentences.
    pub fn faults(&self) -> Vec<String> {
        self.figures.iter().filter(|f| !f.is_good()).map(ToString::to_string).collect()
    }

    /// The figure called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|f| f.name == name).map(|f| f.value)
    }
}

/// Squares of pulls, to be pooled over frames.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pulls {
    /// Of block means: sum of squares, number.
    pub blocks: (f64, usize),
    /// Of row means.
    pub rows: (f64, usize),
}

impl Pulls {
    /// Adds another frame's.
    pub fn add(&mut self, other: &Pulls) {
        self.blocks = (self.blocks.0 + other.blocks.0, self.blocks.1 + other.blocks.1);
        self.rows = (self.rows.0 + other.rows.0, self.rows.1 + other.rows.1);
    }

    /// The figures `blocks` and `rows`.
    pub fn figures(&self) -> Vec<Figure> {
        let figure = |name, (sum, n): (f64, usize)| {
            let chance = 4.0 / (2.0 * n as f64).sqrt();
            let within = chance.max(0.1);
            Figure::new(name, (sum / n as f64).sqrt(), 1.0 - within, 1.0 + within)
        };
        let named = [("blocks", self.blocks), ("rows", self.rows)];
        named.into_iter().filter(|(_, p)| p.1 > 0).map(|(name, p)| figure(name, p)).collect()
    }
}

/// A product's planes beside the truth's.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Columns.
    pub nx: usize,
    /// Values.
    pub value: &'a [f32],
    /// 1 σ.
    pub err: &'a [f32],
    /// Data quality.
    pub dq: &'a [u32],
    /// What the values should be.
    pub truth: &'a [f32],
    /// Which pixels the truth calls good.
    pub good: &'a [bool],
    /// Which pixels a cosmic ray hit between two reads; empty for none.
    pub hit: &'a [bool],
}

impl Judged<'_> {
    /// Good pixels that the product can be used in.
    fn used(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.value.len()).filter(|&i| self.is_used(i))
    }

    fn is_used(&self, i: usize) -> bool {
        let finite = self.value[i].is_finite() && self.err[i].is_finite() && self.err[i] > 0.0;
        self.good[i] && finite && self.dq[i] & dq::DO_NOT_USE == 0
    }

    fn fraction_used(&self) -> Figure {
        let good = self.good.iter().filter(|g| **g).count();
        Figure::new("used", self.used().count() as f64 / good as f64, 0.98, f64::INFINITY)
    }

    fn difference(&self, i: usize) -> f64 {
        f64::from(self.value[i]) - f64::from(self.truth[i])
    }

    /// `beyond` and, where enough pixels were hit to tell, `hits`.
    fn outliers(&self) -> Vec<Figure> {
        let (mut n, mut out) = ([0.0; 2], [0.0; 2]);
        for i in self.used() {
            let hit = usize::from(self.hit.get(i).copied().unwrap_or(false));
            n[hit] += 1.0;
            out[hit] += f64::from(u8::from(self.difference(i).abs() > 6.0 * f64::from(self.err[i])));
        }
        let mut figures = vec![Figure::new("beyond", out[0] / n[0], 0.0, (1.0 / n[0]).max(1e-5))];
        if n[1] >= 50.0 {
            figures.push(Figure::new("hits", 1.0 - out[1] / n[1], 0.95, 1.0));
        }
        figures
    }
}

/// Scores an image. `reference_pixels` as [`crate::report::score`] says, with the
/// variance from read noise where it is known.
pub fn image(j: &Judged<'_>, reference_pixels: usize, var_rnoise: Option<&[f32]>) -> Score {
    let (mut n, mut sum, mut square, mut variance, mut read) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for i in j.used() {
        let (d, v) = (j.difference(i), f64::from(j.err[i]).powi(2));
        n += 1.0;
        sum += d;
        square += d * d;
        variance += v;
        read += var_rnoise.map_or(v, |r| f64::from(r[i]));
    }
    let e = (variance / n).sqrt();
    let offset = if reference_pixels > 0 { (read / variance / reference_pixels as f64).sqrt() } else { 0.0 };
    let within = 0.01 + 3.0 * offset;
    let mut figures = vec![
        j.fraction_used(),
        Figure::new("rms", (square / n).sqrt() / e, 0.97, 1.03),
        Figure::new("mean", sum / n / e, -within, within),
    ];
    figures.extend(j.outliers());
    let pulls = pulls(j, sum / n);
    figures.extend(pulls.figures());
    Score { figures, pulls }
}

/// The figure `chi2` of a rate: `chi2` reduced, `nreads` usable reads of `ramps`
/// ramps, each pixel as many degrees of freedom as reads less two a pixel less one
/// a further ramp.
pub fn chi2(j: &Judged<'_>, chi2: &[f32], nreads: &[u16], ramps: usize) -> Figure {
    let (mut sum, mut weights) = (0.0, 0.0);
    for i in j.used().filter(|&i| chi2[i].is_finite()) {
        let dof = f64::from(nreads[i]) - ramps as f64 - 1.0;
        if dof >= 1.0 {
            sum += dof * f64::from(chi2[i]);
            weights += dof;
        }
    }
    Figure::new("chi2", sum / weights, 0.98, 1.02)
}

/// Scores a cube's voxels. Neighbouring channels share light, so there are no
/// blocks and rows.
pub fn cube(j: &Judged<'_>) -> Score {
    let (mut n, mut square) = (0.0, 0.0);
    for i in j.used() {
        n += 1.0;
        square += (j.difference(i) / f64::from(j.err[i])).powi(2);
    }
    let voxels = Figure::new("voxels", (square / n).sqrt(), 0.97, 1.05);
    Score { figures: vec![j.fraction_used(), voxels], pulls: Pulls::default() }
}

/// Of the means of blocks and rows less `offset`.
fn pulls(j: &Judged<'_>, offset: f64) -> Pulls {
    let (nx, ny) = (j.nx, j.value.len() / j.nx.max(1));
    let of = |width: usize, height: usize| {
        let (columns, lines) = (nx.div_ceil(width), ny.div_ceil(height));
        let mut sums = vec![(0.0, 0.0, 0usize); columns * lines];
        for i in j.used() {
            let cell = &mut sums[i / nx / height * columns + i % nx / width];
            *cell = (cell.0 + j.difference(i) - offset, cell.1 + f64::from(j.err[i]).powi(2), cell.2 + 1);
        }
        let filled = FILLED * (width.min(nx) * height.min(ny)) as f64;
        let judged = sums.iter().filter(|c| c.2 as f64 >= filled);
        judged.fold((0.0, 0), |(sum, n), (d, v, _)| (sum + d * d / v, n + 1))
    };
    Pulls { blocks: of(BLOCK, BLOCK), rows: of(nx, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::philox;

    /// A frame of 256² whose errors are as stated: normal, σ growing to the right.
    struct Frame {
        value: Vec<f32>,
        err: Vec<f32>,
        dq: Vec<u32>,
        truth: Vec<f32>,
        good: Vec<bool>,
        hit: Vec<bool>,
    }

    const NX: usize = 512;

    fn frame() -> Frame {
        let n = NX * NX;
        let normal = |i: usize| {
            let w = philox([i as u32, 7, 0, 0], [1, 2]);
            let u = |k: usize| (f64::from(w[k]) + 0.5) / 4_294_967_296.0;
            (-2.0 * u(0).ln()).sqrt() * (std::f64::consts::TAU * u(1)).cos()
        };
        let err: Vec<f32> = (0..n).map(|i| 0.5 + (i % NX) as f32 / NX as f32).collect();
        let truth: Vec<f32> = (0..n).map(|i| (i / NX) as f32).collect();
        let value = (0..n).map(|i| (f64::from(truth[i]) + f64::from(err[i]) * normal(i)) as f32).collect();
        Frame { value, err, dq: vec![0; n], truth, good: vec![true; n], hit: vec![false; n] }
    }

    impl Frame {
        fn judged(&self) -> Judged<'_> {
            Judged {
                nx: NX,
                value: &self.value,
                err: &self.err,
                dq: &self.dq,
                truth: &self.truth,
                good: &self.good,
                hit: &self.hit,
            }
        }

        fn faults(&self) -> Vec<&'static str> {
            let score = image(&self.judged(), 8000, None);
            score.figures.iter().filter(|f| !f.is_good()).map(|f| f.name).collect()
        }
    }

    #[test]
    fn a_good_frame_is_good_and_each_fault_is_found() {
        assert_eq!(frame().faults(), Vec::<&str>::new());
        let mut f = frame();
        f.err.iter_mut().for_each(|e| *e *= 1.05);
        assert!(f.faults().contains(&"rms"), "errors 5 % too large");
        let mut f = frame();
        f.value.iter_mut().for_each(|v| *v += 0.06);
        assert!(f.faults().contains(&"mean"), "an offset");
        let mut f = frame();
        f.dq[..NX * NX / 40].fill(dq::DO_NOT_USE);
        assert_eq!(f.faults(), ["used"], "2.5 % of the pixels left out");
        let mut f = frame();
        f.value[..NX * NX / 40].fill(f32::NAN);
        assert_eq!(f.faults(), ["used"]);
        let mut f = frame();
        (0..4).for_each(|i| f.value[i * 7777] += 20.0);
        assert_eq!(f.faults(), ["beyond"], "four wild pixels");
        f.hit.iter_mut().step_by(7777).for_each(|h| *h = true);
        f.hit[1..97].fill(true);
        assert_eq!(f.faults(), Vec::<&str>::new(), "four of 100 cosmic rays unseen");
        (1..11).for_each(|i| f.value[9 * i] += 6.0);
        assert_eq!(f.faults(), ["hits"]);
        let mut f = frame();
        (0..NX * NX).for_each(|i| f.value[i] += 0.05 * ((i / NX % 2) as f32 * 2.0 - 1.0));
        assert_eq!(f.faults(), ["rows"], "rows offset by turns");
        let mut f = frame();
        let wave = |i: usize| (i % NX / 64 + i / NX / 64) % 2;
        (0..NX * NX).for_each(|i| f.value[i] += 0.04 * (wave(i) as f32 * 2.0 - 1.0));
        assert_eq!(f.faults(), ["blocks"], "a chequered offset");
        let mut f = frame();
        f.good.fill(false);
        assert!(f.faults().contains(&"used"), "nothing to judge");
    }

    #[test]
    fn what_the_truth_calls_bad_is_not_judged() {
        let mut f = frame();
        for i in (0..NX * NX).step_by(50) {
            f.good[i] = false;
            f.value[i] = 1e6;
        }
        assert_eq!(f.faults(), Vec::<&str>::new());
    }

    #[test]
    fn reference_pixels_allow_their_share_of_an_offset() {
        let f = frame();
        let j = f.judged();
        let limit = |n: usize, read: Option<&[f32]>| {
            let s = image(&j, n, read);
            s.figures.iter().find(|f| f.name == "mean").map(|f| f.high)
        };
        assert_eq!(limit(0, None), Some(0.01));
        assert!((limit(900, None).expect("limit") - 0.11).abs() < 1e-9);
        let quarter: Vec<f32> = f.err.iter().map(|e| e * e / 4.0).collect();
        assert!((limit(900, Some(&quarter)).expect("limit") - 0.06).abs() < 1e-6);
    }

    #[test]
    fn frames_together_are_held_to_the_strict_limits() {
        let mut all = Pulls { blocks: (256.0 * 1.15f64.powi(2), 256), rows: (512.0, 512) };
        assert!(all.figures().iter().all(Figure::is_good));
        let one = all;
        (0..4).for_each(|_| all.add(&one));
        let faults: Vec<_> = all.figures().into_iter().filter(|f| !f.is_good()).map(|f| f.name).collect();
        assert_eq!(faults, ["blocks"]);
    }

    #[test]
    fn chi2_and_cubes() {
        let f = frame();
        let n = NX * NX;
        let good = chi2(&f.judged(), &vec![1.01; n], &vec![10; n], 1);
        assert!(good.is_good() && !chi2(&f.judged(), &vec![1.03; n], &vec![10; n], 1).is_good());
        assert!(!chi2(&f.judged(), &vec![1.0; n], &vec![2; n], 1).is_good(), "no degrees of freedom");
        assert!(cube(&f.judged()).is_good());
        let mut wrong = frame();
        wrong.err.iter_mut().for_each(|e| *e *= 0.9);
        assert_eq!(cube(&wrong.judged()).faults().len(), 1);
        let sentence = cube(&wrong.judged()).faults().concat();
        assert!(sentence.starts_with("voxels is 1.1") && sentence.contains("0.9700 to 1.0500"), "{sentence}");
    }
}
