//! The statistics of stage 1 on simulated ramps of known truth.
//!
//! Everything is held to the Cramér–Rao bound of the true covariance (rounding to whole
//! DN included), and every figure has its Monte-Carlo error. The numbers are the same
//! bits at every run on one engine, whatever its threads.

use super::bound::bound;
use super::figure::{Figure, Section};
use super::ramps::{COLUMNS, FRAME, NOISE, Pattern, Ramps};
use super::report::Report;
use super::stage1::{Bench, Fitted};
use super::tally::{FREE, Tally};
use crate::engine::{DeviceKind, Engine};
use crate::error::{Error, Result};

/// What is to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Ramps a point.
    pub ramps: usize,
    /// Sections by (a part of) their names; all where empty.
    pub only: Vec<String>,
}

/// The names that `only` knows.
pub const SECTIONS: [&str; 7] =
    ["grid", "patterns", "precision", "false jumps", "completeness", "saturated", "pedestal"];

/// e-/s of the grid.
const RATES: [f64; 6] = [0.02, 0.2, 2.0, 20.0, 200.0, 1000.0];
/// Reads of the grid.
const READS: [usize; 5] = [5, 10, 20, 50, 100];
/// Rows of each point of the grid that are fitted in double precision, too.
const EXACT: usize = 10;
/// Times as many ramps for false jumps, which are rare.
const RARE: usize = 25;
/// σ of the jump step's default.
const SIGMA: f64 = 5.5;

const SCATTER: [f64; 2] = [f64::NEG_INFINITY, 1.01];
const BIAS: [f64; 2] = [-0.005, 0.005];
const QUOTED: [f64; 2] = [0.98, 1.03];
const CHI2: [f64; 2] = [0.99, 1.01];
const TAIL: [f64; 2] = [0.008, 0.012];

/// Measures. `progress` hears the point that is being done.
pub fn measure(engine: Box<dyn Engine>, options: &Options, progress: &dyn Fn(&str)) -> Result<Report> {
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|o| name.contains(o.as_str()));
    if let Some(unknown) = options.only.iter().find(|o| !SECTIONS.iter().any(|s| s.contains(o.as_str()))) {
        let message = format!("--only {unknown}: no section has that in its name ({})", SECTIONS.join(", "));
        return Err(Error::Usage(message));
    }
    let mut m = Measure { bench: Bench::new(engine)?, ramps: options.ramps, point: 0, progress };
    let mut sections = Vec::new();
    if wanted("grid") || wanted("precision") {
        let (grid, precision) = m.grid()?;
        sections.extend([grid, precision].into_iter().filter(|s| wanted(s.name)));
    }
    m.point = 100;
    if wanted("patterns") {
        sections.insert(sections.len().min(1), m.patterns()?);
    }
    m.point = 200;
    if wanted("false jumps") {
        sections.push(m.false_jumps()?);
    }
    m.point = 300;
    if wanted("completeness") {
        sections.push(m.completeness()?);
    }
    m.point = 400;
    if wanted("saturated") {
        sections.push(m.saturated()?);
    }
    m.point = 500;
    if wanted("pedestal") {
        sections.push(m.pedestal()?);
    }
    sections.sort_by_key(|s| SECTIONS.iter().position(|n| *n == s.name));
    let device = m.bench.device();
    // The number of threads changes nothing.
    let device = if device.kind == DeviceKind::Cpu { "CPU".to_owned() } else { device.name.clone() };
    let note = format!(
        "{} ramps a point. Each figure with its Monte-Carlo error (1 σ); of a target that is missed by less than \
         three of them it is said so.",
        options.ramps
    );
    Ok(Report { device, note, sections })
}

/// A measurement under way.
struct Measure<'a> {
    bench: Bench,
    ramps: usize,
    /// Number of the point, which seeds it.
    point: u64,
    progress: &'a dyn Fn(&str),
}

impl Measure<'_> {
    /// Simulates and fits `count` of `ramps`; `exact` rows in double precision, too.
    fn run(
        &mut self,
        (name, ramps): (&str, &Ramps),
        size: (usize, usize),
        look: &mut dyn FnMut(Fitted),
    ) -> Result<()> {
        (self.progress)(&format!("{name}: {} reads, {} e-/s", ramps.pattern.name, ramps.rate));
        self.point += 1;
        self.bench.run(ramps, size, self.point, look)
    }

    /// Unbroken ramps of a point.
    fn tally(&mut self, name: &str, ramps: &Ramps, count: usize) -> Result<Tally> {
        let (sigma, freedom) = (bound(ramps, usize::MAX), freedom(&ramps.pattern));
        let mut tally = Tally::default();
        self.run((name, ramps), (count, 0), &mut |f| tally.add(&f.rate, ramps.rate, sigma, freedom))?;
        Ok(tally)
    }

    fn grid(&mut self) -> Result<(Section, Section)> {
        let (mut rows, mut precise) = (Vec::new(), Vec::new());
        for reads in READS {
            for rate in RATES {
                let ramps = Ramps::new(Pattern::even(reads), rate);
                let (sigma, freedom) = (bound(&ramps, usize::MAX), freedom(&ramps.pattern));
                let mut tally = Tally::default();
                let mut worst = [0.0; 3];
                self.run(("grid", &ramps), (self.ramps, EXACT), &mut |f| {
                    tally.add(&f.rate, ramps.rate, sigma, freedom);
                    differences(&f, freedom, &mut worst);
                })?;
                let place = vec![reads.to_string(), rate.to_string()];
                rows.push((place.clone(), statistics(&tally)));
                let at_most = |v: f64, limit: f64| Figure::new(v, 0.0, [f64::NEG_INFINITY, limit]);
                let limits = worst.iter().zip([1e-4, 1e-4, 1e-3]);
                precise.push((place, limits.map(|(v, limit)| at_most(*v, limit)).collect()));
            }
        }
        let grid = Section {
            name: "grid",
            title: "Rates, errors and χ²",
            about: format!(
                "Reads every {FRAME} s, read noise {NOISE} e-, gain 2 e-/DN (3 at 1000 e-/s where the \
                 last read would not fit a u16), whole DN, pedestal 2000 DN. σ is the Cramér–Rao bound; scatter is \
                 rms(rate − truth)/σ, bias mean(rate − truth)/σ, quoted √mean(ERR²) over the rms."
            ),
            heads: vec!["reads", "e-/s"],
            figures: STATISTICS.to_vec(),
            rows,
        };
        let precision = Section {
            name: "precision",
            title: "Single against double precision",
            about: format!(
                "Largest difference between what the engine gives and the same kernel in double precision, over \
                 {} ramps a point: the rate in σ, the error relative, χ² (not reduced) absolute.",
                EXACT * COLUMNS
            ),
            heads: vec!["reads", "e-/s"],
            figures: vec!["rate, σ", "error", "χ²"],
            rows: precise,
        };
        Ok((grid, precision))
    }

    /// Reads that are not evenly spaced, averages, several ramps.
    fn patterns(&mut self) -> Result<Section> {
        let mut rows = Vec::new();
        for pattern in patterns() {
            for rate in [0.2, 20.0, 1000.0] {
                let ramps = Ramps::new(pattern.clone(), rate);
                let tally = self.tally("patterns", &ramps, self.ramps)?;
                rows.push((vec![pattern.name.clone(), rate.to_string()], statistics(&tally)));
            }
        }
        Ok(Section {
            name: "patterns",
            title: "Uneven and averaged reads, several ramps",
            about: "As above. Frames that are averaged are digitised first, and their mean is rounded to a whole \
                    DN again."
                .into(),
            heads: vec!["reads", "e-/s"],
            figures: STATISTICS.to_vec(),
            rows,
        })
    }

    fn false_jumps(&mut self) -> Result<Section> {
        let mut rows = Vec::new();
        for rate in [0.5, 5.0, 50.0, 500.0] {
            let ramps = Ramps::new(Pattern::even(20), rate);
            let tally = self.tally("false jumps", &ramps, RARE * self.ramps)?;
            let place = vec![rate.to_string(), tally.ramps().to_string(), tally.count().to_string()];
            rows.push((place, vec![tally.flagged([f64::NEG_INFINITY, 5e-6])]));
        }
        Ok(Section {
            name: "false jumps",
            title: "False jumps",
            about: format!("Ramps of 20 reads that nothing hit; rejection_threshold {SIGMA}."),
            heads: vec!["e-/s", "ramps", "with a jump"],
            figures: vec!["part with a jump"],
            rows,
        })
    }

    fn completeness(&mut self) -> Result<Section> {
        let mut rows = Vec::new();
        for (reads, rate) in
            [(10, 0.5), (20, 0.5), (50, 0.5), (20, 5.0), (20, 50.0), (20, 500.0), (50, 50.0), (100, 5.0)]
        {
            let single = (2.0 * NOISE * NOISE + rate * FRAME).sqrt();
            for times in [5.0, 8.0] {
                let ramps = Ramps { jump: times * single, ..Ramps::new(Pattern::even(reads), rate) };
                let tally = self.tally("completeness", &ramps, self.ramps.div_ceil(4))?;
                let least = match times {
                    t if t >= 8.0 => 0.99,
                    // Where the photons of the whole ramp are few beside the read noise.
                    _ if reads >= 20 && rate * FRAME * reads as f64 <= 0.5 * NOISE * NOISE => 0.95,
                    _ => f64::NEG_INFINITY,
                };
                let bias = if times >= 8.0 { [-0.02, 0.02] } else { FREE };
                let place = vec![reads.to_string(), rate.to_string(), times.to_string()];
                rows.push((place, vec![tally.flagged([least, 1.0]), tally.bias(bias), tally.scatter(FREE)]));
            }
        }
        Ok(Section {
            name: "completeness",
            title: "Jumps that are found",
            about: format!(
                "A hit between two reads, all places alike, of so many σ_diff = √(2 · {NOISE}² + rate · {FRAME} s); \
                 rejection_threshold {SIGMA}. Bias and scatter of the rates of all ramps, found or not, in the \
                 bound of a ramp without a hit."
            ),
            heads: vec!["reads", "e-/s", "σ_diff"],
            figures: vec!["found", "bias", "scatter"],
            rows,
        })
    }

    fn saturated(&mut self) -> Result<Section> {
        let mut rows = Vec::new();
        for good in [4usize, 6, 8] {
            let pattern = Pattern::even(20);
            let mut ramps = Ramps { saturation: 60_000.0, ..Ramps::new(pattern, 0.0) };
            // Half-way between two reads, hundreds of σ from both.
            ramps.rate = (ramps.saturation - ramps.pedestal) * ramps.gain / ((good as f64 + 0.5) * FRAME);
            let (sigma, freedom) = (bound(&ramps, good), good - 2);
            let mut tally = Tally::default();
            let count = self.ramps;
            self.run(("saturated", &ramps), (count, 0), &mut |f| {
                tally.add(&f.rate, ramps.rate, sigma, freedom);
            })?;
            let figures = vec![
                tally.flagged([f64::NEG_INFINITY, 1e-3]),
                tally.scatter([f64::NEG_INFINITY, 1.02]),
                tally.bias(BIAS),
                tally.quoted(QUOTED),
                tally.chi2(CHI2),
            ];
            rows.push((vec![good.to_string(), format!("{:.0}", ramps.rate)], figures));
        }
        Ok(Section {
            name: "saturated",
            title: "Ramps that saturate early",
            about: "20 reads, of which so many are below saturation. σ is the bound of those.".into(),
            heads: vec!["good reads", "e-/s"],
            figures: vec!["part with a jump", "scatter", "bias", "quoted", "χ²"],
            rows,
        })
    }

    fn pedestal(&mut self) -> Result<Section> {
        let mut rows = Vec::new();
        for (reads, rate) in [(20, 0.5), (20, 50.0), (100, 0.5), (100, 50.0)] {
            let low = Ramps { pedestal: 200.0, ..Ramps::new(Pattern::even(reads), rate) };
            let high = Ramps { pedestal: 40_200.0, ..low.clone() };
            let count = self.ramps.div_ceil(4);
            let (mut first, mut second) = (Vec::new(), Vec::new());
            self.run(("pedestal", &low), (count, 0), &mut |f| first.push(f.rate))?;
            // The same noise again.
            self.point -= 1;
            self.run(("pedestal", &high), (count, 0), &mut |f| second.push(f.rate))?;
            let mut worst = 0.0f64;
            for (a, b) in first.iter().zip(&second) {
                for i in 0..a.data.len() {
                    let moved = f64::from(b.data[i] - a.data[i]).abs() / f64::from(a.err[i]);
                    worst = if moved <= worst { worst } else { moved };
                }
            }
            let figure = Figure::new(worst, 0.0, [f64::NEG_INFINITY, 1e-4]);
            rows.push((vec![reads.to_string(), rate.to_string()], vec![figure]));
        }
        Ok(Section {
            name: "pedestal",
            title: "A pedestal moves nothing",
            about: "The same ramps on a pedestal of 200 DN and of 40 200 DN, linearity off: the largest change of \
                    a rate, in its error."
                .into(),
            heads: vec!["reads", "e-/s"],
            figures: vec!["moved, σ"],
            rows,
        })
    }
}

/// Patterns that are not even.
fn patterns() -> Vec<Pattern> {
    let of = |name: &str, ramps: usize, reads: Vec<Vec<usize>>| Pattern { name: name.into(), reads, ramps };
    let averages = |reads: usize, frames: usize, step: usize| -> Vec<Vec<usize>> {
        (0..reads).map(|k| (1..=frames).map(|j| k * step + j).collect()).collect()
    };
    let single = |frames: &[usize]| frames.iter().map(|f| vec![*f]).collect();
    let mixed = [1..2, 2..4, 5..9, 10..18, 20..36].map(Iterator::collect::<Vec<usize>>);
    vec![
        of("12, ever farther apart", 1, single(&[1, 2, 3, 4, 6, 8, 11, 14, 18, 23, 29, 36])),
        of("12, at both ends", 1, single(&[1, 2, 3, 4, 5, 6, 35, 36, 37, 38, 39, 40])),
        of("8 of 4 frames, all read", 1, averages(8, 4, 4)),
        of("10 of 8 frames in 10", 1, averages(10, 8, 10)),
        of("5 of 1, 2, 4, 8 and 16 frames", 1, mixed.to_vec()),
        of("2 ramps of 10", 2, single(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])),
    ]
}

/// Degrees of freedom of an unbroken ramp's χ².
fn freedom(pattern: &Pattern) -> usize {
    (pattern.ramps * (pattern.reads.len() - 1)).saturating_sub(1)
}

const STATISTICS: [&str; 5] = ["scatter", "bias", "quoted", "χ²", "P(χ² > 99 %)"];

fn statistics(t: &Tally) -> Vec<Figure> {
    vec![t.scatter(SCATTER), t.bias(BIAS), t.quoted(QUOTED), t.chi2(CHI2), t.tail(TAIL)]
}

/// Raises `worst` to the largest difference in the rate (σ), the error (relative) and
/// χ² of the ramps that were fitted twice.
fn differences(f: &Fitted, freedom: usize, worst: &mut [f64; 3]) {
    for (i, [value, err, _, _, chi2]) in f.exact.iter().enumerate() {
        let single = [f.rate.data[i], f.rate.err[i], f.rate.chi2[i]].map(f64::from);
        let found = [
            (single[0] - value).abs() / err,
            (single[1] / err - 1.0).abs(),
            (single[2] - chi2).abs() * freedom as f64,
        ];
        for (w, d) in worst.iter_mut().zip(found) {
            *w = if d <= *w { *w } else { d };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Verdict;
    use crate::engine::CpuEngine;

    fn report(ramps: usize, only: &str) -> Report {
        let options = Options { ramps, only: vec![only.to_owned()] };
        measure(Box::new(CpuEngine::new(1 << 30)), &options, &|_| {}).expect("report")
    }

    #[test]
    fn a_small_report_has_every_point_and_is_the_same_again() {
        let first = report(1000, "patterns");
        assert_eq!(first.sections[0].rows.len(), 18);
        assert_ne!(first.verdict(), Verdict::Missed, "{}", first.markdown());
        assert_eq!(first, report(1000, "patterns"));
        let text = first.markdown();
        assert!(text.contains("| patterns: scatter | ≤ 1.01 |") && text.contains("2 ramps of 10"), "{text}");
    }

    #[test]
    fn a_wrong_noise_is_seen() {
        // Ramps whose noise the headers understate would not pass: the same tally with
        // a bound of four fifths.
        let mut m = Measure {
            bench: Bench::new(Box::new(CpuEngine::new(1 << 30))).expect("bench"),
            ramps: 4000,
            point: 0,
            progress: &|_| {},
        };
        let ramps = Ramps::new(Pattern::even(10), 2.0);
        let (mut right, mut wrong) = (Tally::default(), Tally::default());
        let sigma = bound(&ramps, usize::MAX);
        m.run(("", &ramps), (4000, 0), &mut |f| {
            right.add(&f.rate, 2.0, sigma, 8);
            wrong.add(&f.rate, 2.0, 0.8 * sigma, 8);
        })
        .expect("run");
        assert_ne!(right.scatter(SCATTER).verdict(), Verdict::Missed);
        assert_eq!(wrong.scatter(SCATTER).verdict(), Verdict::Missed);
    }

    #[test]
    fn names_that_are_none_are_a_sentence() {
        let options = Options { ramps: 1, only: vec!["nonsense".into()] };
        let sentence = measure(Box::new(CpuEngine::new(1 << 30)), &options, &|_| {}).expect_err("none");
        assert!(sentence.to_string().contains("false jumps"), "{sentence}");
    }
}
