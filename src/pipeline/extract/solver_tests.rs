use super::*;
use crate::engine::{CpuEngine, testing};
use crate::kernels::factored::tests::{noise, system};
use crate::kernels::factored::{Fit, Options, Plain, fit, image};

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// A system with a frame of it: pixels, their variances.
fn scene() -> (System, Vec<f64>, Vec<f64>) {
    let s = system(140, 9, 2.0);
    let mut seed = 5;
    let mut f: Vec<f64> = (0..s.unknowns()).map(|_| 50.0 + 40.0 * noise(&mut seed)).collect();
    // No light where nothing is solved for.
    for (own, entry) in f.chunks_exact_mut(SEG).zip(&s.entries) {
        own[usize::from(entry.live[1])..].fill(0.0);
    }
    let mut data = vec![0.0; s.pixels()];
    image(&s, &f, &mut data);
    data.iter_mut().for_each(|d| *d += 4.0 * (noise(&mut seed) - 0.5));
    let variance = vec![1.33; s.pixels()];
    (s, data, variance)
}

/// The same system with a node in every column.
fn every_column(s: &System) -> System {
    let basis = (0..SEG).map(|k| std::array::from_fn(|x| f32::from(u8::from(k == x)))).collect();
    let columns = |e: usize| -> Vec<Vec<f32>> { (0..SEG).map(|x| s.profiles(e, x).collect()).collect() };
    let of = |e: usize| -> Vec<f32> {
        let columns = columns(e);
        (0..s.ky * s.rank()).flat_map(|t| columns.iter().map(move |c| c[t]).collect::<Vec<_>>()).collect()
    };
    System { basis, coefs: (0..s.entries.len()).flat_map(of).collect(), ..s.clone() }
}

fn solved(
    engine: &mut dyn Engine,
    s: &System,
    data: &[f32],
    variance: &[f32],
    options: &Options,
) -> Fit<f32> {
    let mut solver = OnEngine::new(engine, s).expect("solver");
    fit(&mut solver, s, data, variance, options).expect("fit")
}

#[test]
fn threads_and_precision_make_little_difference() {
    let (s, data, variance) = scene();
    let options = Options { factor: 0.01, threshold: 0.0, ..Options::default() };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        let own = || solved(&mut CpuEngine::new(1 << 30), &s, &single(&data), &single(&variance), &options);
        pool.install(own)
    };
    let (one, three) = (run(1), run(3));
    assert_eq!((&one.flux, one.chi2), (&three.flux, three.chi2));
    let exact = Options { tolerance: 1e-9, iterations: 1000, ..options };
    let exact = fit(&mut Plain::new(&s), &s, &data, &variance, &exact).expect("fit");
    let mut worst = 0f64;
    for i in (0..one.flux.len()).filter(|i| exact.diagonal[*i] > 0.0) {
        worst = worst.max((f64::from(one.flux[i]) - exact.flux[i]).abs() * exact.diagonal[i].sqrt());
    }
    assert!(worst < 0.05, "{worst}");
}

#[test]
fn a_hit_is_rejected() {
    let s = system(140, 9, 2.0);
    let mut seed = 5;
    let mut data: Vec<f32> = (0..s.pixels()).map(|_| 4.0 * (noise(&mut seed) - 0.5) as f32).collect();
    let hit = (s.ny / 2) * SEG + 31;
    data[hit] += 400.0;
    let variance = vec![1.33; s.pixels()];
    let own = solved(&mut CpuEngine::new(1 << 30), &s, &data, &variance, &Options::default());
    assert!(own.weight[hit] < 0.0 && own.rejected < 4, "{} rejected", own.rejected);
}

/// Every step on both engines and in f64, coefficients in one buffer and in several.
#[test]
fn gpu_agrees_with_the_reference_at_every_step() {
    let (s, data, variance) = scene();
    let weight: Vec<f64> = variance.iter().map(|v| 1.0 / v).collect();
    let mut plain = Plain::new(&s);
    fn prior<T: crate::kernels::Real>(diagonal: &[T]) -> Vec<T> {
        diagonal.iter().enumerate().map(|(i, d)| T::of((i % 3) as f32 * 0.1) * *d).collect()
    }
    let steps = |m: &mut dyn Machine<f32>| -> (Vec<Vec<f32>>, Vec<f64>) {
        let diagonal = m.set_weight(&single(&weight)).expect("diagonal");
        let scale: Vec<f32> = diagonal.iter().map(|d| if *d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
        m.set_data(&single(&data)).expect("data");
        m.set_scale(&scale, &prior(&diagonal)).expect("scale");
        m.set_flux(&vec![3.0; s.unknowns()]).expect("flux");
        let first = m.residual().expect("residual");
        let curvature = m.apply().expect("apply");
        let second = m.descend(first.square / curvature).expect("descend");
        m.turn(second.square / first.square).expect("turn");
        let again = m.apply().expect("apply");
        m.descend(second.square / again).expect("descend");
        let (flux, model) = (m.flux().expect("flux"), m.model().expect("model"));
        (vec![diagonal, flux, model], vec![first.square, first.worst, curvature, second.square, again])
    };
    let diagonal = plain.set_weight(&weight).expect("diagonal");
    let scale: Vec<f64> = diagonal.iter().map(|d| if *d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
    plain.set_data(&data).expect("data");
    plain.set_scale(&scale, &prior(&diagonal)).expect("scale");
    plain.set_flux(&vec![3.0; s.unknowns()]).expect("flux");
    let first = plain.residual().expect("residual");
    let curvature = plain.apply().expect("apply");
    let second = plain.descend(first.square / curvature).expect("descend");
    plain.turn(second.square / first.square).expect("turn");
    let again = plain.apply().expect("apply");
    plain.descend(second.square / again).expect("descend");
    let vectors = [diagonal, plain.flux().expect("flux"), plain.model().expect("model")];
    let numbers = [first.square, first.worst, curvature, second.square, again];
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::new(1 << 30))];
    engines.extend(testing::gpu());
    for engine in &mut engines {
        let mut solver = OnEngine::new(engine.as_mut(), &s).expect("solver");
        let (own, sums) = steps(&mut solver);
        for (own, exact) in own.iter().zip(&vectors) {
            let top = exact.iter().fold(0f64, |m, v| m.max(v.abs())) as f32;
            testing::close(own, &single(exact), 3e-6 * top, 1e-5, 0).expect("the reference");
            let mut wrong = own.clone();
            let most = (0..wrong.len()).max_by(|a, b| own[*a].abs().total_cmp(&own[*b].abs())).expect("one");
            wrong[most] *= 1.0 + 1e-4;
            assert!(testing::close(&wrong, &single(exact), 3e-6 * top, 1e-5, 0).is_err(), "cannot fail");
        }
        for (own, exact) in sums.iter().zip(&numbers) {
            assert!((own / exact - 1.0).abs() < 1e-5, "{own} {exact}");
        }
    }
}

#[test]
fn gpu_agrees_on_a_whole_fit_and_the_parts_of_a_small_device_make_no_difference() {
    let (s, data, variance) = scene();
    let (mut data, variance) = (single(&data), single(&variance));
    data[(s.ny / 2) * SEG + 20] += 300.0;
    let options = Options { factor: 0.01, ..Options::default() };
    let own = solved(&mut CpuEngine::new(1 << 30), &s, &data, &variance, &options);
    assert!(own.rejected > 0);
    let s = every_column(&s);
    let dense = solved(&mut CpuEngine::new(1 << 30), &s, &data, &variance, &options);
    assert_eq!(
        own.weight.iter().map(|w| *w < 0.0).collect::<Vec<_>>(),
        dense.weight.iter().map(|w| *w < 0.0).collect::<Vec<_>>()
    );
    for (i, (a, b)) in dense.flux.iter().zip(&own.flux).enumerate() {
        assert!((a - b).abs() * own.diagonal[i].sqrt() < 0.01, "{i}: {a} {b}");
    }
    let own = dense;
    // A device that binds no more than a segment's coefficients.
    let segment = (0..s.segments()).map(|k| s.of_segment(k).len()).max().expect("segments");
    let largest = (segment * s.ky * s.terms()) as u64 * 4;
    assert!(s.pixels().max(s.entries.len() * WIDE) as u64 * 4 <= largest);
    assert!((s.coefs.len() as u64) * 4 > largest, "the coefficients fit one buffer");
    let mut small = Small { own: CpuEngine::new(1 << 30), info: CpuEngine::new(1 << 30).device().clone() };
    small.info.max_binding = largest;
    let parts = solved(&mut small, &s, &data, &variance, &options);
    assert_eq!((&own.flux, &own.weight), (&parts.flux, &parts.weight));
    let Some(mut gpu) = testing::gpu() else { return };
    let there = solved(gpu.as_mut(), &s, &data, &variance, &options);
    assert_eq!(there.rejected, own.rejected);
    for (i, (a, b)) in there.flux.iter().zip(&own.flux).enumerate() {
        assert!((a - b).abs() * own.diagonal[i].sqrt() < 0.01, "{i}: {a} {b}");
    }
}

/// An engine that binds less than it could.
struct Small {
    own: CpuEngine,
    info: crate::engine::DeviceInfo,
}

impl Engine for Small {
    fn device(&self) -> &crate::engine::DeviceInfo {
        &self.info
    }
    fn allocate(&mut self, words: usize) -> Result<Buffer> {
        assert!(words as u64 * 4 <= self.info.max_binding, "{words} words");
        self.own.allocate(words)
    }
    fn free(&mut self, buffer: Buffer) {
        self.own.free(buffer);
    }
    fn shelf(&mut self) -> &mut crate::engine::Shelf {
        self.own.shelf()
    }
    fn upload_with(
        &mut self,
        buffer: Buffer,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        self.own.upload_with(buffer, bytes, fill)
    }
    fn submit(&mut self, recording: &crate::engine::Recording) -> Result<()> {
        self.own.submit(recording)
    }
    fn download_with(&mut self, buffer: Buffer, look: &mut dyn FnMut(&[u32])) -> Result<()> {
        self.own.download_with(buffer, look)
    }
}
