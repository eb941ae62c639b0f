//! Spectra out of a detector frame, with the traces and profiles of a LEN-SPX
//! calibration ([`crate::kernels::extract`] has the equations).

pub mod factored;
pub mod flexure;
pub mod solver;

use rayon::prelude::*;

use super::lenspx::noise::Noise;
use super::lenspx::{LensCal, Lenslet, gaussian};
use crate::config::{Extract, Extraction};
use crate::datamodel::{Rate, dq};
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::kernels::extract::{COLUMN, EXTRACT, MAX_BAND, MAX_ROWS, PIXEL, Params, SAMPLE, scratch_words};

/// A sample needs more than this fraction of its profile on good pixels.
const MIN_FRACTION: f32 = 0.5;
/// Columns beyond a spectrum's ends in which it is still fitted (and not reported),
/// so that light beyond the ends is not given to its neighbours.
const MARGIN: usize = 3;
/// Half of a profile's height in σ.
const REACH: f64 = 4.0;

/// Spectra of a frame: planes of (lenslets, detector columns), index
/// `lenslet * nx + x`, in the order of the calibration's lenslets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spectra {
    /// Detector columns.
    pub nx: usize,
    /// Flux, e-/s a detector column; NaN outside the spectrum and where unknown.
    pub flux: Vec<f32>,
    /// Its variance.
    pub variance: Vec<f32>,
    /// Covariance with the spectrum next above in the same column.
    pub covariance: Vec<f32>,
    /// The part of the variance that frames with the same references share.
    pub common: Vec<f32>,
    /// Profile-weighted mean of residual²/variance.
    pub chi2: Vec<f32>,
    /// Data quality.
    pub dq: Vec<u32>,
    /// Reduced χ² of the whole frame.
    pub reduced_chi2: f64,
    /// Pixels rejected as outliers.
    pub rejected: u64,
    /// Applications of the normal matrix; 0 where there was no iteration.
    pub iterations: usize,
    /// Correlations of a sample with others, a plane for each of [`LAGS`](crate::kernels::factored::LAGS).
    pub correlation: Vec<Vec<f32>>,
    /// Rate less the model, (rows, columns) of the detector; NaN for pixels that are not in
    /// the fit. Of `factored` alone.
    pub residual: Vec<f32>,
    /// How the frame differs from the calibration, where that was fitted.
    pub flexure: Option<flexure::Flexure>,
}

/// A column chunk's share of the profile table.
struct Table {
    starts: Vec<u32>,
    words: Vec<u32>,
    /// The lenslet of each entry.
    lens: Vec<u32>,
    nmax: usize,
    hb: usize,
}

/// Extracts every lenslet's spectrum. Variances of the fit come from VAR_RNOISE, the
/// references' part of ERR and the model (see [`Noise`]). Which method `best` is, the
/// calibration says ([`LensCal::method`]).
pub fn extract(engine: &mut dyn Engine, rate: &Rate, cal: &LensCal, params: &Extract) -> Result<Spectra> {
    if (rate.nx, rate.ny) != (cal.mode.nx, cal.mode.ny) {
        return Err(Error::reference(
            "lenspx",
            format!(
                "was made for frames of {} × {} pixels, not {} × {}",
                cal.mode.nx, cal.mode.ny, rate.nx, rate.ny
            ),
        ));
    }
    let params = &Extract { method: cal.method(params.method), ..params.clone() };
    if params.method == Extraction::Factored {
        let psf = cal.psf.as_ref().ok_or_else(|| {
            Error::reference(
                "lenspx",
                "has no two-dimensional point-spread function (PSFBASIS), which extract.method = factored needs: \
                 make it from scans and monochromatic frames, or take extract.method = banded",
            )
        })?;
        return factored::extract(engine, rate, cal, psf, params);
    }
    banded_of(engine, rate, cal, params, std::slice::from_ref(&(0..rate.nx)))
}

/// [`extract`] column by column (any method but `factored`), in these ranges of columns
/// alone; elsewhere nothing is known. The frame is of the calibration's size.
pub fn banded_of(
    engine: &mut dyn Engine,
    rate: &Rate,
    cal: &LensCal,
    params: &Extract,
    ranges: &[std::ops::Range<usize>],
) -> Result<Spectra> {
    let noise = Noise::of(rate)?;
    let n = cal.lenslets.len() * rate.nx;
    let nan = || vec![f32::NAN; n];
    let mut out = Spectra {
        nx: rate.nx,
        flux: nan(),
        variance: nan(),
        covariance: vec![0.0; n],
        common: nan(),
        chi2: nan(),
        dq: vec![dq::DO_NOT_USE | dq::NON_SCIENCE; n],
        ..Spectra::default()
    };
    let ky = rows_of_profiles(cal);
    let step = chunk_columns(engine, rate, cal, ky);
    let mut sums = Sums::default();
    let parts = ranges.iter().flat_map(|r| r.clone().step_by(step).map(|x0| x0..(x0 + step).min(r.end)));
    for columns in parts {
        let x0 = columns.start;
        let table = table(cal, columns.clone(), ky)?;
        let (samples, summaries) = run(engine, rate, &noise, params, columns.clone(), &table, ky)?;
        scatter(&mut out, cal, &table, &samples, x0);
        sums.add(&summaries);
    }
    out.reduced_chi2 = sums.chi2 / (sums.used as f64 - sums.solved as f64).max(1.0);
    out.rejected = sums.rejected;
    Ok(out)
}

#[derive(Default)]
struct Sums {
    chi2: f64,
    used: u64,
    solved: u64,
    rejected: u64,
}

impl Sums {
    fn add(&mut self, columns: &[u32]) {
        for c in columns.chunks_exact(COLUMN) {
            self.chi2 += f64::from(f32::from_bits(c[0]));
            self.used += u64::from(c[1]);
            self.rejected += u64::from(c[2]);
            self.solved += u64::from(c[3]);
        }
    }
}

/// Height of the profile windows: ± 4 σ of the widest, 16 rows at most.
fn rows_of_profiles(cal: &LensCal) -> usize {
    let along = |l: &Lenslet, i: u32| l.xmin as f64 + (l.xmax - l.xmin) as f64 * f64::from(i) / 8.0;
    let widest =
        cal.lenslets.iter().flat_map(|l| (0..=8).map(move |i| l.sigma(along(l, i)))).fold(0.0, f64::max);
    ((2.0 * REACH * widest + 1.0).ceil() as usize).clamp(5, MAX_ROWS)
}

/// As many columns at a time as the device's memory allows.
fn chunk_columns(engine: &dyn Engine, rate: &Rate, cal: &LensCal, ky: usize) -> usize {
    let n = cal.lenslets.len();
    let largest = [n * (ky + 1), rate.ny * PIXEL, 3 * rate.ny + n * 12].into_iter().max().unwrap_or(1);
    let all = n * (ky + 1 + SAMPLE + 12) + rate.ny * (PIXEL + 3);
    let device = engine.device();
    let by_binding = device.max_binding / 4 / largest.max(1) as u64;
    let by_memory = device.memory / 2 / 4 / all.max(1) as u64;
    (by_binding.min(by_memory) as usize).clamp(1, rate.nx.max(1))
}

/// Profiles of the spectra that cross each of the columns, in ascending order.
fn table(cal: &LensCal, columns: std::ops::Range<usize>, ky: usize) -> Result<Table> {
    let parts: Vec<(Vec<u32>, Vec<u32>, usize)> = columns
        .into_par_iter()
        .map(|x| {
            let mut crossing: Vec<(f64, u32)> = cal
                .lenslets
                .iter()
                .zip(0u32..)
                .filter(|(l, _)| x + MARGIN >= l.xmin && x <= l.xmax + MARGIN)
                .map(|(l, i)| (l.y(x as f64), i))
                .filter(|(y, _)| *y > -(ky as f64) && *y < (cal.mode.ny + ky) as f64)
                .collect();
            crossing.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut words = Vec::with_capacity(crossing.len() * (ky + 1));
            let mut lens = Vec::with_capacity(crossing.len());
            let mut weights = [0.0; MAX_ROWS];
            let mut firsts = Vec::with_capacity(crossing.len());
            for (y, i) in crossing {
                let first = (y - (ky as f64 - 1.0) / 2.0).round() as i32;
                let sigma = cal.lenslets[i as usize].sigma(x as f64);
                gaussian::profile(y, sigma, i64::from(first), &mut weights[..ky]);
                words.push(first as u32);
                words.extend(weights[..ky].iter().map(|w| (*w as f32).to_bits()));
                lens.push(i);
                firsts.push(first);
            }
            // Two-pointer sweep: how many later profiles begin within each one.
            let (mut hb, mut end) = (0, 0);
            for (j, first) in firsts.iter().enumerate() {
                while end < firsts.len() && firsts[end] < first + ky as i32 {
                    end += 1;
                }
                hb = hb.max(end - 1 - j);
            }
            (words, lens, hb)
        })
        .collect();
    let hb = parts.iter().map(|p| p.2).max().unwrap_or(0);
    if hb > MAX_BAND {
        return Err(Error::reference(
            "lenspx",
            format!(
                "{} profiles overlap in one detector column, {MAX_BAND} can be told apart: \
                 its traces or widths are wrong",
                hb + 1
            ),
        ));
    }
    let mut t = Table { starts: vec![0], words: Vec::new(), lens: Vec::new(), nmax: 0, hb };
    for (words, lens, _) in parts {
        t.nmax = t.nmax.max(lens.len());
        t.words.extend(words);
        t.lens.extend(lens);
        t.starts.push(t.lens.len() as u32);
    }
    Ok(t)
}

/// One dispatch on a chunk of columns; samples and column summaries.
fn run(
    engine: &mut dyn Engine,
    rate: &Rate,
    noise: &Noise,
    params: &Extract,
    columns: std::ops::Range<usize>,
    table: &Table,
    ky: usize,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let ncols = columns.len();
    let alone = params.method == Extraction::Profile;
    let block = Params {
        ncols: ncols as u32,
        ny: rate.ny as u32,
        ky: ky as u32,
        hb: if alone { 0 } else { table.hb as u32 },
        nmax: table.nmax as u32,
        factor: noise.factor as f32,
        // A model without neighbours is far from pixels that they share.
        threshold: if alone { 0.0 } else { params.rejection_threshold as f32 },
        min_fraction: MIN_FRACTION,
    };
    let mut buffers: Vec<Buffer> = Vec::new();
    let result = (|| {
        let pixels = engine.allocate(ncols * rate.ny * PIXEL)?;
        buffers.push(pixels);
        engine.upload_with(pixels, ncols * rate.ny * PIXEL * 4, &mut |bytes| {
            bytes.par_chunks_exact_mut(ncols * PIXEL * 4).enumerate().for_each(|(y, row)| {
                for (x, to) in columns.clone().zip(row.chunks_exact_mut(PIXEL * 4)) {
                    let i = y * rate.nx + x;
                    let p = noise.pixel(rate, i);
                    let words = [p.rate.to_bits(), p.variance.to_bits(), p.common.to_bits(), rate.dq[i]];
                    to.copy_from_slice(bytemuck::cast_slice(&words));
                }
            });
            Ok(())
        })?;
        for words in [&table.starts, &table.words] {
            buffers.push(engine.buffer_of(words)?);
        }
        for words in [scratch_words(&block), table.lens.len() * SAMPLE, ncols * COLUMN] {
            buffers.push(engine.allocate(words.max(1))?);
        }
        let words: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&block));
        let dispatch = Dispatch {
            kernel: &EXTRACT,
            buffers: buffers.clone(),
            items: ncols,
            params: words.to_vec(),
            constants: Vec::new(),
        };
        engine.submit(&vec![dispatch])?;
        Ok((engine.download(buffers[4])?, engine.download(buffers[5])?))
    })();
    buffers.into_iter().for_each(|b| engine.free(b));
    result
}

/// Samples of a chunk that begins at column `x0` to their places.
fn scatter(out: &mut Spectra, cal: &LensCal, table: &Table, samples: &[u32], x0: usize) {
    for (c, range) in table.starts.windows(2).enumerate() {
        for entry in range[0] as usize..range[1] as usize {
            let (lens, x) = (table.lens[entry] as usize, x0 + c);
            let l = &cal.lenslets[lens];
            if !(l.xmin..=l.xmax).contains(&x) {
                continue;
            }
            let s = &samples[entry * SAMPLE..][..SAMPLE];
            let i = lens * out.nx + x;
            out.flux[i] = f32::from_bits(s[0]);
            out.variance[i] = f32::from_bits(s[1]);
            out.covariance[i] = f32::from_bits(s[2]);
            out.common[i] = f32::from_bits(s[3]);
            out.chi2[i] = f32::from_bits(s[4]);
            out.dq[i] = s[5];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lenspx::{Mode, Scan, leak};
    use super::*;
    use crate::engine::{CpuEngine, testing};

    /// `n` straight traces at `pitch` rows over the whole width, with a Rate of their
    /// light (10 e-/s each).
    fn flat_scene(nx: usize, ny: usize, pitch: f64) -> (LensCal, Rate) {
        let lenslets: Vec<Lenslet> = (0..)
            .map(|i| (i, 3.0 + pitch * f64::from(i)))
            .take_while(|(_, y)| *y < ny as f64 - 4.0)
            .map(|(i, y)| Lenslet {
                id: i,
                ix: i % 16,
                iy: i / 16,
                xmin: 0,
                xmax: nx - 1,
                trace: vec![y, 0.5],
                fwhm: vec![2.0],
                wave: vec![1.65, 0.05],
                lflat: vec![1.0],
                throughput: 1.0,
                wavmin: 1.6,
                wavmax: 1.7,
                wave_rms: 0.0,
                lsf_sigma: 0.9,
                dq: 0,
            })
            .collect();
        let mode = Mode { nx, ny, ..Mode::default() };
        let cal = LensCal { mode, lenslets, flat_range: (1.6, 1.7), ..LensCal::default() };
        let mut rate = Rate::zeros(ny, nx);
        let mut p = [0.0; 12];
        for l in &cal.lenslets {
            for x in 0..nx {
                let y = l.y(x as f64);
                let first = y.round() as i64 - 6;
                gaussian::profile(y, l.sigma(x as f64), first, &mut p);
                for (row, share) in (first..).zip(p) {
                    if (0..ny as i64).contains(&row) {
                        rate.data[row as usize * nx + x] += 10.0 * share as f32;
                    }
                }
            }
        }
        for i in 0..nx * ny {
            // Not noise, but something that residuals see.
            rate.data[i] += 0.05 * ((i * 7919 % 101) as f32 / 50.0 - 1.0);
            rate.var_poisson[i] = 0.01 * rate.data[i].max(0.0);
            rate.var_rnoise[i] = 0.04;
            rate.err[i] = (rate.var_poisson[i] + 0.04).sqrt();
        }
        (cal, rate)
    }

    #[test]
    fn chunks_and_engines_make_no_difference() {
        let (cal, rate) = flat_scene(133, 60, 2.0);
        let whole = extract(&mut CpuEngine::new(1 << 30), &rate, &cal, &Extract::default()).expect("whole");
        // A device of next to no memory takes the columns in small chunks.
        let parts = extract(&mut CpuEngine::new(100_000), &rate, &cal, &Extract::default()).expect("parts");
        assert_eq!((&whole.flux, &whole.variance, &whole.dq), (&parts.flux, &parts.variance, &parts.dq));
        let off = whole.flux.iter().map(|f| (f - 10.0).abs()).fold(0.0, f32::max);
        assert!(off < 0.3, "{off}");
        let Some(mut gpu) = testing::gpu() else { return };
        let on_gpu = extract(gpu.as_mut(), &rate, &cal, &Extract::default()).expect("GPU");
        testing::close(&on_gpu.flux, &whole.flux, 1e-3, 0.0, 0).expect("flux");
        testing::close(&on_gpu.variance, &whole.variance, 0.0, 1e-4, 0).expect("variance");
        assert_eq!(on_gpu.dq, whole.dq);
    }

    #[test]
    fn too_many_overlaps_are_refused() {
        let (cal, rate) = flat_scene(20, 60, 0.3);
        let e = extract(&mut CpuEngine::new(1 << 30), &rate, &cal, &Extract::default()).expect_err("overlap");
        assert!(e.to_string().contains("overlap"), "{e}");
    }

    #[test]
    #[ignore = "timing at the IRIS format; cargo test --release --lib iris_size -- --ignored --nocapture"]
    fn iris_size() {
        let (cal, rate) = flat_scene(4096, 4096, 2.0);
        println!("{} lenslets", cal.lenslets.len());
        for method in [Extraction::Banded, Extraction::Profile] {
            let params = Extract { method, ..Extract::default() };
            let start = std::time::Instant::now();
            let s = extract(&mut CpuEngine::new(1 << 30), &rate, &cal, &params).expect("extract");
            println!("{method:?}: {:?}, χ² {:.3}", start.elapsed(), s.reduced_chi2);
            let start = std::time::Instant::now();
            let c =
                crate::pipeline::cube::build(&s, &cal, &crate::config::CubeBuild::default()).expect("cube");
            println!("cube {} × {} × {}: {:?}", c.nw, c.ny, c.nx, start.elapsed());
        }
        let scans: Vec<Scan> = (0..4).map(|lenscol| Scan { lenscol, rate: rate.clone() }).collect();
        let start = std::time::Instant::now();
        let scans: Vec<&Scan> = scans.iter().collect();
        leak::measure(&mut CpuEngine::new(1 << 30), &cal, &scans, Extraction::Banded).expect("leak");
        println!("leak: {:?}", start.elapsed());
    }
}
