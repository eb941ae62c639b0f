//! Whole frames through the pixelwise kernels, a chunk of pixels at a time.

use std::ops::Range;

use rayon::prelude::*;

use crate::config::{Combine, CombineFrames};
use crate::datamodel::{Image, Rate, dq};
use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::kernels::calibrate::{CALIBRATE, CalibrateParams, DARK, FLAT, SKY};
use crate::kernels::combine::{COMBINE, CombineParams, EFFICIENCY, MAX_FRAMES, capacity};

/// Bits of a reference's pixel that say something of every frame it is used on;
/// the others (saturation, jumps …) belong to the exposures it was made from.
const INHERITED: u32 = !(dq::SATURATED
    | dq::JUMP_DET
    | dq::DROPOUT
    | dq::OUTLIER
    | dq::PERSISTENCE
    | dq::AD_FLOOR
    | dq::CHARGELOSS);

/// A look at some pixels of a frame. The variance is err² less `common`, where
/// `common` is not empty.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Value.
    pub data: &'a [f32],
    /// 1 σ.
    pub err: &'a [f32],
    /// Data quality.
    pub dq: &'a [u32],
    /// Variance that is accounted for elsewhere; empty for none.
    pub common: &'a [f32],
}

impl<'a> From<&'a Rate> for Frame<'a> {
    fn from(r: &'a Rate) -> Self {
        Frame { data: &r.data, err: &r.err, dq: &r.dq, common: &[] }
    }
}

impl<'a> From<&'a Image> for Frame<'a> {
    /// With the whole variance.
    fn from(r: &'a Image) -> Self {
        Frame { data: &r.data, err: &r.err, dq: &r.dq, common: &[] }
    }
}

impl<'a> Frame<'a> {
    /// An image with its own variance only, without what it shares.
    pub fn own(image: &'a Image) -> Frame<'a> {
        Frame { common: &image.var_common, ..image.into() }
    }

    /// Number of pixels.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no pixels.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Some of the pixels.
    pub fn part(&self, r: Range<usize>) -> Frame<'a> {
        Frame {
            data: &self.data[r.clone()],
            err: &self.err[r.clone()],
            dq: &self.dq[r.clone()],
            common: if self.common.is_empty() { &[] } else { &self.common[r] },
        }
    }

    /// Variance of pixel `i`. Rounding may leave a little less than nothing; that
    /// is nothing.
    pub fn variance(&self, i: usize) -> f32 {
        let v = self.err[i] * self.err[i] - self.common.get(i).copied().unwrap_or(0.0);
        if v < 0.0 { 0.0 } else { v }
    }

    /// Whether pixel `i` may be used.
    pub fn usable(&self, i: usize) -> bool {
        self.dq[i] & dq::DO_NOT_USE == 0 && self.data[i].is_finite() && self.err[i].is_finite()
    }
}

/// What is to be done to a frame; see [`crate::kernels::calibrate`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Calibration<'a> {
    pub(super) dark: Option<Frame<'a>>,
    pub(super) sky: Option<Frame<'a>>,
    pub(super) flat: Option<Frame<'a>>,
    pub(super) sky_scale: f64,
    pub(super) dark_coefficient: f64,
    pub(super) factor: f64,
}

impl<'a> Calibration<'a> {
    /// Subtraction of `dark` and multiplication by `factor`, no more.
    pub(super) fn dark(dark: Option<Frame<'a>>, factor: f64) -> Calibration<'a> {
        Calibration { dark, sky: None, flat: None, sky_scale: 0.0, dark_coefficient: 1.0, factor }
    }

    fn part(&self, r: &Range<usize>) -> Calibration<'a> {
        let part = |f: Option<Frame<'a>>| f.map(|f| f.part(r.clone()));
        Calibration { dark: part(self.dark), sky: part(self.sky), flat: part(self.flat), ..*self }
    }
}

/// Planes of a result: value, own and common variance, dq.
#[derive(Debug, Default)]
pub(super) struct Planes {
    pub(super) value: Vec<f32>,
    pub(super) own: Vec<f32>,
    pub(super) common: Vec<f32>,
    pub(super) dq: Vec<u32>,
    /// Samples left, of combinations.
    pub(super) used: Vec<u32>,
}

impl Planes {
    fn with_capacity(n: usize) -> Planes {
        Planes {
            value: Vec::with_capacity(n),
            own: Vec::with_capacity(n),
            common: Vec::with_capacity(n),
            dq: Vec::with_capacity(n),
            used: Vec::new(),
        }
    }

    fn append(&mut self, words: &[u32], n: usize) {
        let plane = |k: usize| &words[k * n..(k + 1) * n];
        let floats = |k: usize| -> &[f32] { bytemuck::cast_slice(plane(k)) };
        self.value.extend_from_slice(floats(0));
        self.own.extend_from_slice(floats(1));
        self.common.extend_from_slice(floats(2));
        self.dq.extend_from_slice(plane(3));
        if words.len() >= 5 * n {
            self.used.extend_from_slice(plane(4));
        }
    }

    fn join(&mut self, other: Planes) {
        self.value.extend(other.value);
        self.own.extend(other.own);
        self.common.extend(other.common);
        self.dq.extend(other.dq);
        self.used.extend(other.used);
    }

    /// As an image, `common` kept where there is any.
    pub(super) fn image(self, ny: usize, nx: usize) -> Image {
        let err = self.own.iter().zip(&self.common).map(|(o, c)| (o + c).sqrt()).collect();
        let var_common = if self.common.iter().any(|c| *c > 0.0) { self.common } else { Vec::new() };
        Image { nx, ny, data: self.value, err, dq: self.dq, var_common }
    }

    fn frame(&self) -> PlanesFrame<'_> {
        PlanesFrame { data: &self.value, own: &self.own, common: &self.common, dq: &self.dq }
    }
}

/// What the combination reads of a frame.
#[derive(Debug, Clone, Copy)]
struct PlanesFrame<'a> {
    data: &'a [f32],
    own: &'a [f32],
    common: &'a [f32],
    dq: &'a [u32],
}

/// Pixels at a time: what the device binds in one buffer of `plane_words` words a
/// pixel, and a quarter of its memory for `words` words a pixel in all.
fn chunk(engine: &dyn Engine, plane_words: usize, words: usize) -> usize {
    let device = engine.device();
    let binding = device.max_binding / (4 * plane_words as u64);
    let memory = device.memory / 4 / (4 * words as u64);
    usize::try_from(binding.min(memory)).unwrap_or(usize::MAX).clamp(1024, 1 << 24)
}

fn chunks(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size.max(1)).map(move |at| at..(at + size).min(n))
}

/// A new buffer of `planes` planes of `n` words, `value(plane, i)` each.
fn upload(
    engine: &mut dyn Engine,
    held: &mut Vec<Buffer>,
    planes: usize,
    n: usize,
    value: impl Fn(usize, usize) -> u32 + Sync,
) -> Result<Buffer> {
    const PIECE: usize = 1 << 16;
    let words = planes * n;
    let buffer = engine.allocate(words.max(1))?;
    held.push(buffer);
    engine.upload_with(buffer, words * 4, &mut |bytes| {
        bytes.par_chunks_mut(4 * PIECE).enumerate().for_each(|(piece, bytes)| {
            let (mut plane, mut i) = (piece * PIECE / n, piece * PIECE % n);
            for word in bytes.as_chunks_mut::<4>().0 {
                *word = value(plane, i).to_ne_bytes();
                i += 1;
                if i == n {
                    (plane, i) = (plane + 1, 0);
                }
            }
        });
        Ok(())
    })?;
    Ok(buffer)
}

/// Runs `work` and gives back the buffers that it notes, however it ends.
fn holding<T>(
    engine: &mut dyn Engine,
    work: impl FnOnce(&mut dyn Engine, &mut Vec<Buffer>) -> Result<T>,
) -> Result<T> {
    let mut held = Vec::new();
    let result = work(engine, &mut held);
    held.into_iter().for_each(|b| engine.free(b));
    result
}

/// Calibrates a frame.
pub(super) fn calibrate(engine: &mut dyn Engine, frame: Frame<'_>, how: &Calibration<'_>) -> Result<Planes> {
    let mut out = Planes::with_capacity(frame.len());
    for r in chunks(frame.len(), chunk(engine, 4, 16)) {
        calibrate_chunk(engine, frame.part(r.clone()), &how.part(&r), &mut out)?;
    }
    Ok(out)
}

fn calibrate_chunk(
    engine: &mut dyn Engine,
    frame: Frame<'_>,
    how: &Calibration<'_>,
    into: &mut Planes,
) -> Result<()> {
    let n = frame.len();
    let bit = |f: Option<Frame<'_>>, bit: u32| if f.is_some() { bit } else { 0 };
    let p = CalibrateParams {
        pixels: n as u32,
        steps: bit(how.dark, DARK) | bit(how.sky, SKY) | bit(how.flat, FLAT),
        sky_scale: how.sky_scale as f32,
        dark_coefficient: how.dark_coefficient as f32,
        factor: how.factor as f32,
        unusable: dq::DO_NOT_USE,
        inherit: INHERITED,
        dark_bad: dq::UNRELIABLE_DARK,
        sky_bad: 0,
        flat_bad: dq::NO_FLAT_FIELD,
    };
    holding(engine, |engine, held| {
        let mut buffers = Vec::new();
        for f in [Some(frame), how.dark, how.sky, how.flat] {
            buffers.push(match f {
                None => upload(engine, held, 1, 1, |_, _| 0)?,
                Some(f) => upload(engine, held, 3, n, |plane, i| match plane {
                    0 => f.data[i].to_bits(),
                    1 => f.variance(i).to_bits(),
                    _ => f.dq[i],
                })?,
            });
        }
        let out = engine.allocate(4 * n)?;
        held.push(out);
        buffers.push(out);
        let params = bytemuck::cast_slice(&[p]).to_vec();
        engine.submit(&vec![Dispatch {
            kernel: &CALIBRATE,
            buffers,
            items: n,
            params,
            constants: vec![],
        }])?;
        engine.download_with(out, &mut |words| into.append(words, n))
    })
}

/// Calibrates each frame its own way, then combines them, chunk by chunk: no more
/// than a chunk of each calibrated frame is ever held. `shared`: what is common to
/// a frame and its references is common to all the frames; otherwise it averages
/// down with the rest.
pub(super) fn calibrate_and_combine(
    engine: &mut dyn Engine,
    frames: &[(Frame<'_>, Calibration<'_>)],
    step: &CombineFrames,
    shared: bool,
) -> Result<Planes> {
    check_count(frames.len())?;
    let n = frames.first().map_or(0, |f| f.0.len());
    let size = chunk(engine, frames.len(), 4 * frames.len() + 16);
    let mut out = Planes::with_capacity(n);
    for r in chunks(n, size) {
        let parts: Vec<Planes> = frames
            .iter()
            .map(|(f, how)| calibrate(engine, f.part(r.clone()), &how.part(&r)))
            .collect::<Result<_>>()?;
        let parts: Vec<_> = parts.iter().map(Planes::frame).collect();
        out.join(combine_chunk(engine, &parts, step, shared)?);
    }
    Ok(out)
}

fn check_count(frames: usize) -> Result<()> {
    if frames == 0 {
        return Err(Error::Unsolvable("no frames to combine".into()));
    }
    if frames > MAX_FRAMES {
        return Err(Error::Usage(format!(
            "{frames} frames cannot be combined at once (at most {MAX_FRAMES}): combine groups of equal size \
             first"
        )));
    }
    Ok(())
}

fn combine_chunk(
    engine: &mut dyn Engine,
    frames: &[PlanesFrame<'_>],
    step: &CombineFrames,
    shared: bool,
) -> Result<Planes> {
    let count = frames.len();
    let n = frames[0].data.len();
    let median = step.method == Combine::Median;
    let p = CombineParams {
        pixels: n as u32,
        frames: count as u32,
        median: median.into(),
        maxiters: if step.do_sigma_clip && !median { step.maxiters } else { 0 },
        low: step.sigma_thresh_low as f32,
        high: step.sigma_thresh_high as f32,
        unusable: dq::DO_NOT_USE,
        has_common: shared.into(),
        efficiency: EFFICIENCY,
    };
    holding(engine, |engine, held| {
        let own = |f: &PlanesFrame<'_>, i: usize| if shared { f.own[i] } else { f.own[i] + f.common[i] };
        let values = upload(engine, held, count, n, |k, i| frames[k].data[i].to_bits())?;
        let variances = upload(engine, held, count, n, |k, i| own(&frames[k], i).to_bits())?;
        let commons = match shared {
            true => upload(engine, held, count, n, |k, i| frames[k].common[i].to_bits())?,
            false => upload(engine, held, 1, 1, |_, _| 0)?,
        };
        let dqs = upload(engine, held, count, n, |k, i| frames[k].dq[i])?;
        let out = engine.allocate(5 * n)?;
        held.push(out);
        engine.submit(&vec![Dispatch {
            kernel: &COMBINE,
            buffers: vec![values, variances, commons, dqs, out],
            items: n,
            params: bytemuck::cast_slice(&[p]).to_vec(),
            constants: vec![("CAPACITY", capacity(count))],
        }])?;
        let mut planes = Planes::default();
        engine.download_with(out, &mut |words| planes.append(words, n))?;
        Ok(planes)
    })
}

/// Combines images as they are; see [`calibrate_and_combine`] for `shared`.
pub(super) fn combine(
    engine: &mut dyn Engine,
    images: &[&Image],
    step: &CombineFrames,
    shared: bool,
) -> Result<Planes> {
    check_count(images.len())?;
    let n = images[0].data.len();
    let size = chunk(engine, images.len(), 4 * images.len() + 16);
    let mut out = Planes::with_capacity(n);
    for r in chunks(n, size) {
        let parts: Vec<Planes> = images.iter().map(|i| split(i, r.clone())).collect();
        let parts: Vec<_> = parts.iter().map(Planes::frame).collect();
        out.join(combine_chunk(engine, &parts, step, shared)?);
    }
    Ok(out)
}

/// Some pixels of an image, with its own and its common variance apart.
fn split(image: &Image, r: Range<usize>) -> Planes {
    let frame = Frame::own(image).part(r.clone());
    Planes {
        value: frame.data.to_vec(),
        own: (0..r.len()).map(|i| frame.variance(i)).collect(),
        common: if image.var_common.is_empty() { vec![0.0; r.len()] } else { frame.common.to_vec() },
        dq: frame.dq.to_vec(),
        used: Vec::new(),
    }
}

/// Refuses frames of different sizes.
pub(super) fn same_size(what: &str, a: (usize, usize), b: (usize, usize)) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::reference(
        what,
        format!("is {} x {} pixels, the frame {} x {} (columns x rows)", a.1, a.0, b.1, b.0),
    ))
}
