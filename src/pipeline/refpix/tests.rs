use super::*;
use samples::Sample;

/// A small deterministic generator (splitmix64) of normal numbers.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// A detector with a border of reference pixels of noise 1, and its drifts, rms DN.
#[derive(Debug, Clone, Copy)]
struct Scene {
    across: usize,
    lines: usize,
    width: usize,
    ramps: usize,
    reads: usize,
    /// Width of the border: left, right, lower, upper.
    border: [usize; 4],
    common: f64,
    channel: f64,
    parity: f64,
    /// Of lines, the same in all channels, as 1/f noise has it.
    line: f64,
    /// Of lines, of each channel its own.
    local: f64,
    /// Spread of the reference pixels' levels.
    reset: f64,
}

const SMALL: Scene = Scene {
    across: 512,
    lines: 512,
    width: 16,
    ramps: 1,
    reads: 8,
    border: [4; 4],
    common: 0.0,
    channel: 0.0,
    parity: 0.0,
    line: 0.0,
    local: 0.0,
    reset: 300.0,
};
const LARGE: Scene = Scene { across: 4096, lines: 4096, width: 128, reads: 5, ..SMALL };

/// Noise of power 1/f over `n` places, rms about `rms`: octaves of steps, each of the
/// same variance, at places of their own.
fn pink(random: &mut Normal, n: usize, rms: f64) -> Vec<f64> {
    let octaves = n.ilog2().max(1);
    let mut out = vec![0.0; n];
    for octave in 0..octaves {
        let step = n >> octave;
        let first = (random.uniform() * step as f64) as usize;
        let values: Vec<f64> = (0..n / step + 3).map(|_| random.next()).collect();
        for (i, o) in out.iter_mut().enumerate() {
            *o += rms / f64::from(octaves).sqrt() * values[(i + first) / step];
        }
    }
    out
}

/// What every pixel of a read drifts by.
struct Drift {
    columns: Vec<f64>,
    lines: Vec<f64>,
    local: Vec<Vec<f64>>,
}

impl Scene {
    fn channels(&self) -> usize {
        self.across.div_ceil(self.width)
    }

    fn drifts(&self, random: &mut Normal) -> Vec<Drift> {
        let one = |random: &mut Normal| {
            let common = self.common * random.next();
            let columns: Vec<f64> = (0..self.channels())
                .flat_map(|_| {
                    let (c, p) = (self.channel * random.next(), self.parity * random.next());
                    (0..self.width).map(move |_| (c, p))
                })
                .take(self.across)
                .enumerate()
                .map(|(i, (c, p))| common + c + if i % 2 == 0 { p } else { -p })
                .collect();
            let lines = pink(random, self.lines, self.line);
            let local = (0..self.channels()).map(|_| pink(random, self.lines, self.local)).collect();
            Drift { columns, lines, local }
        };
        (0..self.ramps * self.reads).map(|_| one(random)).collect()
    }

    /// The reference pixels, and what drifted.
    fn samples(&self, seed: u64) -> (Samples, Vec<Drift>) {
        let mut random = Normal(seed);
        let drifts = self.drifts(&mut random);
        let [left, right, lower, upper] = self.border;
        let mut list = Vec::new();
        for line in 0..self.lines {
            for across in 0..self.across {
                let end = line < lower || line >= self.lines - upper;
                let side = across < left || across >= self.across - right;
                if !end && !side {
                    continue;
                }
                let reset = self.reset * random.next();
                let of = |d: &Drift, noise: f64| {
                    reset + d.columns[across] + d.lines[line] + d.local[across / self.width][line] + noise
                };
                let values = drifts.iter().map(|d| of(d, random.next())).collect();
                list.push(Sample { across, line, end, side, values });
            }
        }
        let &Scene { across, lines, width, ramps, reads, .. } = self;
        (Samples { list, ramps, reads, across, lines, width }, drifts)
    }

    /// What is left of the drifts that channels and lines share after the tables,
    /// DN²: of each pixel, of the means of lines, of columns, and of channels' quarters;
    /// each about the ramp's mean, as a slope sees it.
    fn left(&self, drifts: &[Drift], tables: Option<&Tables>) -> [f64; 4] {
        let (n, m) = (self.across, self.lines);
        let mut out = [0.0; 4];
        let blocks = tables.map_or(1, |t| n.div_ceil(t.block_width));
        let error = |k: usize, x: usize, y: usize| {
            let d = &drifts[k];
            let offset = tables.map_or(0.0, |t| {
                let block = x / t.block_width;
                f64::from(t.columns[k * n + x]) + f64::from(t.lines[(k * blocks + block) * m + y])
            });
            d.columns[x] + d.lines[y] + d.local[x / self.width][y] - offset
        };
        let total = self.ramps * self.reads;
        // A grid of columns and lines is enough, and quick: each channel's are there.
        let xs: Vec<usize> =
            (0..n).step_by((self.width / 4).max(1)).flat_map(|x| [x, (x + 1).min(n - 1)]).collect();
        let ys: Vec<usize> = (0..m).step_by((m / 200).max(1)).collect();
        let cube: Vec<Vec<f64>> = (0..total)
            .map(|k| {
                ys.iter()
                    .flat_map(|y| xs.iter().map(move |x| (*x, *y)))
                    .map(|(x, y)| error(k, x, y))
                    .collect()
            })
            .collect();
        let freedom = (total - self.ramps) as f64;
        for ramp in cube.chunks(self.reads) {
            let mean: Vec<f64> = (0..xs.len() * ys.len())
                .map(|i| ramp.iter().map(|r| r[i]).sum::<f64>() / self.reads as f64)
                .collect();
            for read in ramp {
                let about: Vec<f64> = read.iter().zip(&mean).map(|(r, m)| r - m).collect();
                let square = |groups: Vec<f64>| {
                    groups.iter().map(|g| g * g).sum::<f64>() / groups.len() as f64 / freedom
                };
                let part = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>, nx: usize| {
                    let count = (xs.len() * ys.len()) as f64;
                    ys.map(|y| about[y * nx..][xs.clone()].iter().sum::<f64>()).sum::<f64>() / count
                };
                let (nx, ny) = (xs.len(), ys.len());
                out[0] += square(about.clone());
                out[1] += square((0..ny).map(|y| part(0..nx, y..y + 1, nx)).collect());
                out[2] += square((0..nx).map(|x| part(x..x + 1, 0..ny, nx)).collect());
                let quarters = (0..nx / 8).flat_map(|b| (0..4).map(move |q| (b, q)));
                out[3] += square(
                    quarters.map(|(b, q)| part(b * 8..b * 8 + 8, q * ny / 4..(q + 1) * ny / 4, nx)).collect(),
                );
            }
        }
        out
    }
}

/// Tables and added variance by a method.
fn corrected(scene: &Scene, samples: &Samples, algorithm: RefpixAlgorithm) -> Option<(Tables, f64)> {
    let step = Refpix { refpix_algorithm: algorithm, ..Refpix::default() };
    let shape = (scene.across, scene.lines, scene.width);
    match algorithm {
        RefpixAlgorithm::Optimal => {
            Patterns::of(samples.clone()).map(|p| optimal::offsets(&p, Zero::None, &step, shape))
        }
        _ => Some(median::offsets(samples, false, &step)),
    }
}

/// What drifts before, and is left by both methods, with the added variances. The bias
/// is gone: JWST's medians would see its steps.
fn compare(scene: &Scene, seed: u64) -> ([f64; 4], [f64; 4], f64, [f64; 4], f64) {
    let scene = &Scene { reset: 0.0, ..*scene };
    let (samples, drifts) = scene.samples(seed);
    let before = scene.left(&drifts, None);
    let of = |algorithm| {
        let (tables, added) = corrected(scene, &samples, algorithm).expect("offsets");
        (scene.left(&drifts, Some(&tables)), added)
    };
    let (ours, theirs) = (of(RefpixAlgorithm::Optimal), of(RefpixAlgorithm::Median));
    (before, ours.0, ours.1, theirs.0, theirs.1)
}

#[test]
fn of_white_noise_nothing_is_subtracted() {
    for scene in [
        SMALL,
        LARGE,
        Scene { reads: 2, ..SMALL },
        Scene { ramps: 4, reads: 5, ..SMALL },
        Scene { across: 91, lines: 130, width: 7, ..SMALL },
        Scene { border: [4, 0, 0, 0], ..SMALL },
        Scene { border: [0, 0, 4, 0], ..SMALL },
        Scene { across: 40, lines: 24, width: 10, border: [1, 1, 1, 1], ..SMALL },
    ] {
        for seed in 0..if scene.across > 1000 { 1 } else { 8 } {
            let (samples, drifts) = scene.samples(seed);
            let made = corrected(&scene, &samples, RefpixAlgorithm::Optimal);
            let Some((tables, added)) = made else { panic!("{scene:?}: no offsets") };
            let left = scene.left(&drifts, Some(&tables));
            assert!(left == [0.0; 4] && added == 0.0, "{scene:?} {seed}: {left:?} {added}");
        }
    }
}

#[test]
fn the_side_median_adds_what_it_is_said_to_add() {
    let (_, _, _, left, added) = compare(&SMALL, 5);
    assert!((left[0] / added - 1.0).abs() < 0.15, "{} said {added}", left[0]);
    // The scatter of the means of lines of 512 pixels of noise 1 more than triples.
    let scatter = ((left[1] + 1.0 / 512.0) * 512.0).sqrt();
    assert!((3.0..3.6).contains(&scatter), "{scatter}");
}

/// Drifts of many kinds and strengths.
fn scenes() -> Vec<Scene> {
    let mut out = Vec::new();
    for size in [
        SMALL,
        Scene { across: 91, lines: 130, width: 7, ..SMALL },
        Scene { border: [4, 0, 4, 0], ..SMALL },
        Scene { ramps: 3, reads: 2, ..SMALL },
    ] {
        for strength in [0.01, 0.05, 0.1, 0.3, 1.0, 3.0, 20.0] {
            out.push(Scene { common: strength, ..size });
            out.push(Scene { channel: strength, ..size });
            out.push(Scene { parity: strength, ..size });
            out.push(Scene { line: strength, ..size });
            out.push(Scene { local: strength, ..size });
            out.push(Scene { common: strength, channel: strength, parity: strength, line: strength, ..size });
        }
    }
    out
}

#[test]
fn no_more_noise_is_added_than_taken_out() {
    for (i, scene) in scenes().iter().enumerate() {
        let (samples, drifts) = scene.samples(i as u64);
        let before = scene.left(&drifts, None);
        let (tables, _) = corrected(scene, &samples, RefpixAlgorithm::Optimal).expect("offsets");
        let after = scene.left(&drifts, Some(&tables));
        for (what, (b, a)) in ["pixels", "lines", "columns", "blocks"].iter().zip(before.iter().zip(after)) {
            // Where much is taken out of pixels, a little may come into means of many.
            let taken = if *what == "pixels" { 0.0 } else { 0.1 * (before[0] - after[0]) };
            assert!(a <= b * 1.02 + taken, "{i} {scene:?}: {what} {b} before, {a} after");
        }
    }
}

#[test]
fn a_strong_common_drift_is_always_taken_out() {
    let strong = Scene { common: 20.0, ..SMALL };
    for scene in [
        strong,
        Scene { border: [4, 0, 4, 0], ..strong },
        Scene { border: [4, 0, 0, 0], ..strong },
        Scene { border: [0, 0, 4, 0], ..strong },
        Scene { reads: 2, ..strong },
        Scene { reads: 2, channel: 1.0, parity: 0.5, line: 0.3, ..strong },
        Scene { reads: 2, local: 0.3, ..strong },
        Scene { reads: 2, ramps: 3, channel: 1.0, border: [4, 0, 4, 0], ..strong },
    ] {
        for seed in 0..5 {
            let (samples, drifts) = scene.samples(seed);
            let (tables, _) = corrected(&scene, &samples, RefpixAlgorithm::Optimal).expect("offsets");
            let (before, after) = (scene.left(&drifts, None), scene.left(&drifts, Some(&tables)));
            let (before, after) = (before[2], after[2]);
            assert!(after < 0.02 * before + 0.05, "{scene:?} {seed}: {before} before, {after} after");
        }
    }
}

#[test]
#[ignore = "prints the table of docs/steps/refpix.md"]
fn table() {
    for (name, size) in [("512", SMALL), ("4096", LARGE)] {
        for (what, scene) in [
            ("none", size),
            ("common 20", Scene { common: 20.0, ..size }),
            ("channels 0.05", Scene { channel: 0.05, ..size }),
            ("channels 0.3", Scene { channel: 0.3, ..size }),
            ("channels 3", Scene { channel: 3.0, ..size }),
            ("odd/even 1", Scene { parity: 1.0, ..size }),
            ("lines 0.1", Scene { line: 0.1, ..size }),
            ("lines 0.3", Scene { line: 0.3, ..size }),
            ("lines 1", Scene { line: 1.0, ..size }),
            ("local 0.3", Scene { local: 0.3, ..size }),
            ("local 1", Scene { local: 1.0, ..size }),
            ("all", Scene { common: 20.0, channel: 3.0, parity: 1.0, line: 0.5, ..size }),
        ] {
            let (before, ours, a, theirs, b) = compare(&scene, 77);
            let f = |v: [f64; 4]| v.map(|v| format!("{v:9.5}")).join(" ");
            println!("{name:5} {what:14} | {} | {} {a:8.5} | {} {b:8.5}", f(before), f(ours), f(theirs));
        }
    }
}

/// A ramp file of reads (`[read][y][x]`), measured with channels along an axis.
fn measured(
    (ny, nx): (usize, usize),
    reads: &[Vec<f32>],
    step: &Refpix,
    (count, along): (usize, char),
    cards: &[(&str, i64)],
) -> Option<(Offsets, Layout)> {
    use crate::fits::{FitsWriter, Pixels};
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("ramp.fits");
    let mut header = Header::new();
    header.set("DETECTOR", "IMG1", "");
    cards.iter().for_each(|(key, value)| header.set(key, *value, ""));
    let times: Vec<f64> = (1..=reads.len()).map(|k| k as f64).collect();
    let mut w = FitsWriter::create(&path).expect("create");
    w.empty("PRIMARY", &header).expect("primary");
    w.image("TIMES", &Header::new(), &[1, reads.len()], Pixels::F64(&times)).expect("times");
    let shape = [1, reads.len(), ny, nx];
    w.image("DATA", &Header::new(), &shape, Pixels::F32(&reads.concat())).expect("data");
    w.finish().expect("file");
    let mut instrument = config::Instrument::iris().expect("instrument");
    let detector = instrument.detectors.get_mut("IMG1").expect("IMG1");
    detector.amplifiers = config::Amplifiers { count, along };
    let options = crate::input::OpenOptions::default();
    let crate::input::Raw::Ramp(ramp) = crate::input::open(&path, &instrument, &options).expect("ramp")
    else {
        panic!("no ramp")
    };
    let detector = &instrument.detectors["IMG1"];
    let cal = Calibration::open(&std::collections::BTreeMap::new(), &ramp, detector, false).expect("planes");
    let layout = Layout::find(&ramp, &cal, detector).expect("layout")?;
    let offsets = measure(&ramp, &layout, Zero::None, step, None).expect("offsets")?;
    Some((offsets, layout))
}

/// Reads that drift by lines (0.9 waves) and by five channels of 20 pixels, with noise.
fn drifting(ny: usize, nx: usize) -> Vec<Vec<f32>> {
    let mut random = Normal(4);
    let mut read = |k: usize| {
        let channels: Vec<f64> = (0..5).map(|_| 4.0 * random.next()).collect();
        let drift =
            |x: usize, y: usize| channels[x / 20] + 5.0 * (k as f64 + y as f64 / ny as f64 * 5.7).sin();
        let value = |i: usize| drift(i % nx, i / nx) + 1000.0;
        (0..ny * nx).map(|i| (value(i) + random.next()) as f32).collect()
    };
    (0..6).map(&mut read).collect()
}

#[test]
fn channels_along_y_are_those_along_x_on_their_side() {
    let (ny, nx) = (80, 100);
    let reads = drifting(ny, nx);
    let turn = |read: &Vec<f32>| (0..ny * nx).map(|i| read[i % ny * nx + i / ny]).collect();
    let turned: Vec<Vec<f32>> = reads.iter().map(turn).collect();
    for refpix_algorithm in [RefpixAlgorithm::Optimal, RefpixAlgorithm::Median] {
        let step = Refpix { refpix_algorithm, ..Refpix::default() };
        let (upright, _) = measured((ny, nx), &reads, &step, (5, 'x'), &[]).expect("offsets");
        let (lying, layout) = measured((nx, ny), &turned, &step, (5, 'y'), &[]).expect("offsets");
        assert!(layout.along_y && layout.amp_width == 20);
        let (a, b) = (&upright.tables, &lying.tables);
        crate::engine::testing::close(&a.columns, &b.columns, 1e-3, 0.0, 0).expect("columns");
        crate::engine::testing::close(&a.lines, &b.lines, 1e-3, 0.0, 0).expect("lines");
        assert!(a.lines.iter().any(|v| *v > 1.0) && a.columns.iter().any(|v| v.abs() > 1.0));
        assert!((upright.report.scatter - 1.0).abs() < 0.1, "{:?}", upright.report);
    }
}

#[test]
fn a_window_is_one_channel_and_noutputs_says_otherwise() {
    let reads = drifting(80, 100);
    let step = Refpix { refpix_algorithm: RefpixAlgorithm::Median, ..Refpix::default() };
    let window = [("SUBSTRT1", 1), ("SUBSTRT2", 1)];
    // No mask names a window's reference pixels.
    let none = [("SUBSTRT1", 11), ("SUBSTRT2", 1)];
    assert!(measured((80, 100), &reads, &step, (5, 'x'), &none).is_none());
    let (_, layout) = measured((80, 100), &reads, &step, (5, 'x'), &window).expect("offsets");
    assert_eq!((layout.amp_width, layout.window), (20, false));
    let (_, layout) = measured((80, 100), &reads, &step, (5, 'x'), &[("NOUTPUTS", 2)]).expect("offsets");
    assert_eq!(layout.amp_width, 50);
}

#[test]
fn one_read_has_no_drift_but_a_level() {
    let reads = &drifting(80, 100)[..1];
    assert!(measured((80, 100), reads, &Refpix::default(), (5, 'x'), &[]).is_none());
    let step = Refpix { refpix_algorithm: RefpixAlgorithm::Median, ..Refpix::default() };
    let (offsets, layout) = measured((80, 100), reads, &step, (5, 'x'), &[]).expect("offsets");
    assert!(offsets.tables.columns.iter().all(|v| (v - 1000.0).abs() < 30.0));
    assert_eq!((offsets.report.pixels, offsets.report.added), (layout.usable.len(), 0.0));
}
