//! What jumps take with them, through the public command line: neighbours that their
//! charge leaks into, reads after them, snowballs, and the list of them.
#![allow(clippy::expect_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use irisgpu::fits::{Fits, FitsWriter, Header, Pixels, read_column};

const NX: usize = 61;
const NY: usize = 53;
const READS: usize = 12;
const STEP: f64 = 2.0;
const GAIN: f64 = 2.0;
const NOISE: f64 = 8.0;
const RATE: f64 = 4.0;
const LEAK: f64 = 0.01;
const JUMP: u32 = 4;
const SATURATED: u32 = 2;

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// A hit: pixel, first read that holds it, charge, e-.
type Hit = (usize, usize, f64);

/// Hits of 8000 e- on a lattice, every one with four neighbours of its own.
fn lattice() -> Vec<Hit> {
    let places = (0..(NY / 4) * (NX / 4)).map(|i| (2 + 4 * (i % (NX / 4)), 2 + 4 * (i / (NX / 4))));
    places.enumerate().map(|(i, (x, y))| (y * NX + x, 1 + i % (READS - 1), 8000.0)).collect()
}

fn beside(p: usize) -> [usize; 4] {
    [p - 1, p + 1, p - NX, p + NX]
}

/// Reads of one or more ramps, DN: photons, the hits, their leak, read noise.
fn ramps(ramps: usize, hits: &[Hit], leak: f64, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let n = NX * NY;
    let mut out = vec![0f32; ramps * READS * n];
    for ramp in 0..ramps {
        let mut charge = vec![0.0; n];
        for read in 0..READS {
            for c in &mut charge {
                *c += RATE * STEP + (RATE * STEP).sqrt() * random.normal();
            }
            let now = hits.iter().filter(|h| h.1 == read && ramp == 0);
            now.for_each(|(p, _, e)| {
                charge[*p] += e * (1.0 - 4.0 * leak);
                beside(*p).into_iter().for_each(|q| charge[q] += e * leak);
            });
            for (p, c) in charge.iter().enumerate() {
                out[(ramp * READS + read) * n + p] = (1000.0 + (c + NOISE * random.normal()) / GAIN) as f32;
            }
        }
    }
    out
}

struct Case {
    dir: tempfile::TempDir,
    ramps: usize,
}

impl Case {
    fn new(ramps: usize, data: &[f32], flags: &[u8]) -> Case {
        let dir = tempfile::tempdir().expect("folder");
        let mut h = Header::new();
        h.set("INSTRUME", "IRIS", "");
        h.set("DETECTOR", "IMG1", "");
        h.set("GAIN", GAIN, "");
        h.set("READNOIS", NOISE, "");
        h.set("SATURATE", 60000.0, "");
        let mut w = FitsWriter::create(&dir.path().join("ramp.fits")).expect("create");
        w.empty("PRIMARY", &h).expect("primary");
        let times: Vec<f64> = (0..ramps * READS).map(|k| (k % READS + 1) as f64 * STEP).collect();
        let shape = [ramps, READS, NY, NX];
        w.image("TIMES", &Header::new(), &shape[..2], Pixels::F64(&times)).expect("TIMES");
        w.image("DATA", &Header::new(), &shape, Pixels::F32(data)).expect("DATA");
        if !flags.is_empty() {
            w.image("GROUPDQ", &Header::new(), &shape, Pixels::U8(flags)).expect("GROUPDQ");
        }
        w.finish().expect("finish");
        Case { dir, ramps }
    }

    /// The folder that `irisgpu run` leaves.
    fn run(&self, what: &str, name: &str, device: &str, options: &[&str]) -> PathBuf {
        let out = self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_irisgpu"));
        command.stdin(Stdio::null()).args(["run", what]).arg(self.dir.path().join("ramp.fits"));
        command.arg("-o").arg(&out).args(["--device", device]).args(options);
        let done = command.output().expect("run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        out
    }

    fn rate(&self, name: &str, device: &str, options: &[&str]) -> (Product, List) {
        let out = self.run("stage1", name, device, options);
        (Product::of(&only(&out)), List::of(&only(&out.join("jumps"))))
    }

    /// Flags of reads that `jump` alone leaves.
    fn flags(&self, name: &str, device: &str, options: &[&str]) -> Vec<u32> {
        let fits = Fits::open(&only(&self.run("jump", name, device, options))).expect("ramp");
        let flags = fits.u32(fits.hdu("GROUPDQ").expect("GROUPDQ")).expect("flags");
        assert_eq!(flags.len(), self.ramps * READS * NX * NY);
        flags
    }
}

fn only(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("folder").map(|f| f.expect("file").path());
    let files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "fits")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

struct Product {
    rate: Vec<f32>,
    err: Vec<f32>,
    dq: Vec<u32>,
    jumps: i64,
    more: i64,
    hits: i64,
    hit_rate: f64,
}

/// Bit by bit: pixels without a rate (NaN) are equal, too.
impl PartialEq for Product {
    fn eq(&self, other: &Product) -> bool {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let numbers = |p: &Product| (p.jumps, p.more, p.hits, p.hit_rate.to_bits());
        bits(&self.rate) == bits(&other.rate)
            && bits(&self.err) == bits(&other.err)
            && self.dq == other.dq
            && numbers(self) == numbers(other)
    }
}

impl Product {
    fn of(path: &Path) -> Product {
        let fits = Fits::open(path).expect("product");
        let plane = |name: &str| fits.f32(fits.hdu(name).expect(name)).expect(name);
        let whole = |key: &str| fits.primary().integer(key).expect(key);
        Product {
            rate: plane("DATA"),
            err: plane("ERR"),
            dq: fits.u32(fits.hdu("DQ").expect("DQ")).expect("DQ"),
            jumps: whole("NJUMPS"),
            more: whole("NJUMPMOR"),
            hits: whole("NHITS"),
            hit_rate: fits.primary().number("HITRATE").expect("HITRATE"),
        }
    }
}

/// The list, as rows of pixel, ramp, read, kind and amplitude, sigma, time.
#[derive(Debug, PartialEq)]
struct List {
    what: Vec<[usize; 4]>,
    numbers: Vec<[f64; 3]>,
}

impl List {
    fn of(path: &Path) -> List {
        let fits = Fits::open(path).expect("list");
        let table = fits.hdu("JUMPS").expect("JUMPS");
        let column = |name: &str| read_column(&fits, table, name).expect(name).0;
        let [x, y, ramp, read, kind] = ["X", "Y", "RAMP", "READ", "KIND"].map(column);
        let [amplitude, sigma, time] = ["AMPLITUDE", "SIGMA", "TIME"].map(column);
        let whole = |v: f64| v as usize;
        let pixel = |i: usize| (whole(y[i]) - 1) * NX + whole(x[i]) - 1;
        let rows = 0..x.len();
        List {
            what: rows.clone().map(|i| [pixel(i), whole(ramp[i]), whole(read[i]), whole(kind[i])]).collect(),
            numbers: rows.map(|i| [amplitude[i], sigma[i], time[i]]).collect(),
        }
    }

    fn kind(&self, kind: usize) -> Vec<[usize; 4]> {
        self.what.iter().copied().filter(|w| w[3] == kind).collect()
    }
}

/// Mean and scatter of (rate − truth) / error.
fn pulls(p: &Product, pixels: &[usize]) -> (f64, f64) {
    let all: Vec<f64> =
        pixels.iter().map(|i| (f64::from(p.rate[*i]) - RATE) / f64::from(p.err[*i])).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    (mean, (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt())
}

#[test]
fn neighbours_lose_the_leak_and_the_list_has_it_all() {
    // Whose leak of 15 e- is below the threshold, and above 1 σ of a step.
    let hits: Vec<Hit> = lattice().into_iter().map(|(p, k, _)| (p, k, 1500.0)).collect();
    let case = Case::new(1, &ramps(1, &hits, LEAK, 5), &[]);
    let (p, list) = case.rate("on", "cpu", &["--steps.jump.neighbor_leak=0.01"]);
    // Every hit is found, where and when it was, with its charge.
    let found = list.kind(1);
    assert!(found.len() >= hits.len() && found.len() <= hits.len() + 2, "{}", found.len());
    for (pixel, read, charge) in &hits {
        let at = list.what.iter().position(|w| *w == [*pixel, 1, read + 1, 1]).expect("a hit");
        let [amplitude, sigma, time] = list.numbers[at];
        assert!((amplitude - charge * (1.0 - 4.0 * LEAK)).abs() < 5.5 * sigma, "{amplitude} {sigma}");
        assert!((sigma - (2.0 * NOISE * NOISE + RATE * STEP).sqrt()).abs() < 1.0, "{sigma}");
        assert!((time - (*read + 1) as f64 * STEP).abs() < 1e-12);
    }
    assert!(list.numbers.iter().flatten().all(|v| v.is_finite()));
    // All four neighbours of each, and no one else's.
    let mut expected: Vec<[usize; 4]> =
        hits.iter().flat_map(|(p, k, _)| beside(*p).map(|q| [q, 1, k + 1, 2])).collect();
    let mut leaks = list.kind(2);
    expected.sort_unstable();
    leaks.sort_unstable();
    let missing = expected.iter().filter(|e| leaks.binary_search(e).is_err()).count();
    assert!(missing <= 2 && leaks.len() + missing <= expected.len() + 8, "{missing} {}", leaks.len());
    assert!(leaks.iter().all(|w| p.dq[w[0]] & JUMP != 0));
    assert_eq!((p.jumps as usize, p.more as usize), (found.len(), leaks.len()));
    assert_eq!(p.hits as usize, found.len());
    let per = found.len() as f64 / ((READS - 1) as f64 * STEP) / (NX * NY) as f64 * 1e6;
    assert!((p.hit_rate / per - 1.0).abs() < 1e-3, "{} {per}", p.hit_rate);
    // The rates of neighbours: biased without it, not with it.
    let neighbours: Vec<usize> = hits.iter().flat_map(|h| beside(h.0)).collect();
    // Where nobody measured a leak, there is none.
    let (off, none) = case.rate("off", "cpu", &[]);
    assert!(none.kind(2).is_empty());
    let ((with, spread), (without, wide)) = (pulls(&p, &neighbours), pulls(&off, &neighbours));
    println!("neighbours' pulls: {without:.3} ± {wide:.3} without, {with:.3} ± {spread:.3} with");
    let allowed = 4.0 / (neighbours.len() as f64).sqrt();
    assert!(with.abs() < allowed && (spread - 1.0).abs() < 0.12, "{with} {spread}");
    assert!(without > 1.0);
    // Untouched pixels keep their bits.
    let touched = |i: usize| p.dq[i] != off.dq[i];
    assert!((0..NX * NY).all(|i| touched(i) || p.rate[i].to_bits() == off.rate[i].to_bits()));
}

#[test]
fn faint_hits_leave_their_neighbours_alone() {
    let hits: Vec<Hit> = lattice().into_iter().map(|(p, k, _)| (p, k, 150.0)).collect();
    let case = Case::new(1, &ramps(1, &hits, LEAK, 6), &[]);
    let (_, list) = case.rate("faint", "cpu", &["--steps.jump.neighbor_leak=0.01"]);
    assert!(list.kind(1).len() > hits.len() / 2 && list.kind(2).is_empty());
}

#[test]
fn reads_after_a_large_hit_are_flagged_for_their_time() {
    let mut hits: Vec<Hit> = lattice();
    hits.iter_mut().step_by(2).for_each(|h| h.2 = 300.0);
    let case = Case::new(2, &ramps(2, &hits, 0.0, 7), &[]);
    let options = [
        "--steps.jump.neighbor_leak=0",
        "--steps.jump.after_jump_flag_dn1=1000",
        "--steps.jump.after_jump_flag_time1=4",
    ];
    let (_, list) = case.rate("after", "cpu", &options);
    let mut expected: Vec<[usize; 4]> = Vec::new();
    for (p, k, e) in &hits {
        if *e > 1000.0 {
            expected.extend((k + 1..(k + 3).min(READS)).map(|i| [*p, 1, i + 1, 3]));
        }
    }
    expected.sort_unstable();
    let mut got = list.kind(3);
    got.sort_unstable();
    assert_eq!(got, expected);
    // The step by itself flags the same reads.
    let flags = case.flags("after-flags", "cpu", &options);
    let n = NX * NY;
    let flagged = flags.iter().filter(|f| **f & JUMP != 0).count();
    assert_eq!(flagged, list.what.len());
    assert!(list.what.iter().all(|w| flags[((w[1] - 1) * READS + w[2] - 1) * n + w[0]] & JUMP != 0));
}

/// A ring of hits around a core that saturates, of a snowball of 9 pixels' radius.
fn snowball(data: &mut [f32], centre: (usize, usize), read: usize) {
    let n = NX * NY;
    for p in 0..n {
        let (dy, dx) = ((p / NX) as f64 - centre.1 as f64, (p % NX) as f64 - centre.0 as f64);
        let radius = dx.hypot(dy);
        let electrons = if radius <= 3.0 {
            200_000.0
        } else if radius <= 6.0 {
            3000.0
        } else {
            0.0
        };
        for k in read..READS {
            data[k * n + p] = (f64::from(data[k * n + p]) + electrons / GAIN).min(65535.0) as f32;
        }
    }
}

#[test]
fn a_snowball_takes_its_halo_and_its_core() {
    let mut data = ramps(2, &[], 0.0, 8);
    let (centre, read) = ((30usize, 26usize), 5);
    snowball(&mut data, centre, read);
    let case = Case::new(2, &data, &[]);
    let n = NX * NY;
    let area =
        |flags: &[u32], k: usize, bit: u32| flags[k * n..][..n].iter().filter(|f| **f & bit != 0).count();
    for method in ["likelihood", "two_point"] {
        let method = format!("--steps.jump.method={method}");
        let off = [method.as_str(), "--steps.jump.flag_4_neighbors=false"];
        let plain = case.flags(&format!("plain{}", method.len()), "cpu", &off);
        let on = [&off[..], &["--steps.jump.expand_large_events=true", "--steps.jump.edge_size=0"]].concat();
        let flags = case.flags(&format!("grown{}", method.len()), "cpu", &on);
        // `jump` alone has no saturation: the ring is a filled disc, without a core.
        assert_eq!(plain, flags, "{method}");
        let free = [&on[..], &["--steps.jump.sat_required_snowball=false"]].concat();
        let flags = case.flags(&format!("free{}", method.len()), "cpu", &free);
        let (before, after) = (area(&plain, read, JUMP), area(&flags, read, JUMP));
        assert!(before > 100 && after > 3 * before && after < 5 * before, "{method}: {before} {after}");
        // Stage 1: the core saturates, and is flagged in the next ramp, too.
        let (without, _) = case.rate(&format!("rate{}", method.len()), "cpu", &off);
        let (with, list) = case.rate(&format!("ball{}", method.len()), "cpu", &on);
        let halo = (centre.1 - 9) * NX + centre.0;
        assert!(without.dq[halo] & JUMP == 0 && with.dq[halo] & JUMP != 0, "{method}");
        assert!(with.err[halo] > without.err[halo]);
        let rim = centre.1 * NX + centre.0 + 4;
        assert!(with.dq[rim] & SATURATED != 0);
        let middle = centre.1 * NX + centre.0;
        let next = list.kind(4).iter().filter(|w| w[0] == middle && w[1] == 2).count();
        assert_eq!(next, READS - 1, "{method}");
        assert!(list.kind(4).iter().filter(|w| w[1] == 1).all(|w| w[2] == read + 1));
    }
}

/// What chunks, engines and threads must not change.
#[test]
fn the_answer_does_not_depend_on_threads_or_lowering() {
    let mut data = ramps(2, &lattice(), LEAK, 9);
    snowball(&mut data, (33, 27), 6);
    let case = Case::new(2, &data, &[]);
    let on = [
        "--steps.jump.neighbor_leak=0.01",
        "--steps.jump.expand_large_events=true",
        "--steps.jump.after_jump_flag_dn1=2000",
        "--steps.jump.after_jump_flag_time1=2",
    ];
    let (a, list) = case.rate("a", "cpu", &on);
    let (b, again) = case.rate("b", "cpu", &[&on[..], &["--threads", "1"]].concat());
    assert!(a == b && list == again);
    // A fit on stored ramps has the same flags.
    let (c, chained) = case.rate("c", "cpu", &[&on[..], &["--steps.ramp_fit.algorithm=ols_c"]].concat());
    let bits = |p: &Product| p.dq.iter().map(|d| d & (JUMP | SATURATED)).collect::<Vec<_>>();
    assert_eq!(bits(&a).iter().zip(bits(&c)).filter(|(a, c)| *a != c).count(), 0);
    assert_eq!(list.what, chained.what);
    // The flags of reads are those of the list.
    let Some(gpu) = irisgpu::engine::testing::gpu() else { return };
    let device = gpu.device().name.clone();
    drop(gpu);
    let (g, other) = case.rate("g", &device, &on);
    let differing = (0..NX * NY).filter(|&i| a.dq[i] != g.dq[i]).count();
    assert!(differing <= 2, "{differing}");
    assert!(other.what.len().abs_diff(list.what.len()) <= 4);
    let far = (0..NX * NY).filter(|&i| a.dq[i] == g.dq[i] && (a.rate[i] - g.rate[i]).abs() > 2e-3 * a.err[i]);
    assert!(far.count() <= 2);
}

/// Rows that are given away one after the other are those of a frame that is held whole,
/// whatever the chunks: saturation grows over their edges, and jumps leak over them.
#[test]
fn rows_given_away_are_those_of_the_whole_frame() {
    let mut data = ramps(2, &lattice(), LEAK, 10);
    for (i, y) in [3, 11, 24, 38, 49].into_iter().enumerate() {
        snowball(&mut data, (9 + 11 * i, y), 4 + i);
    }
    let case = Case::new(2, &data, &[]);
    let on = ["--steps.jump.neighbor_leak=0.01", "--steps.jump.after_jump_flag_dn1=2000"];
    let time = "--steps.jump.after_jump_flag_time1=2";
    // Snowballs want the whole frame; of such an area there are none.
    let whole = [
        "--steps.jump.expand_large_events=true",
        "--steps.jump.min_jump_area=1e9",
        "--steps.jump.min_sat_area=1e9",
    ];
    let (a, list) = case.rate("whole", "cpu", &[&on[..], &[time], &whole[..]].concat());
    assert!(a.dq.iter().filter(|d| **d & SATURATED != 0).count() > 100);
    assert!(list.kind(1).len() > 100 && list.kind(2).len() > 100 && !list.kind(3).is_empty());
    for memory in ["1GB", "500kB", "150kB", "60kB"] {
        let (b, again) = case.rate(memory, "cpu", &[&on[..], &[time, "--memory", memory]].concat());
        assert!(a == b && list == again, "{memory}");
    }
}
