//! A detector's stage-1 references as the planes that the ramp kernel takes, read
//! row chunk by row chunk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::config::{Detector, Recipe};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::input::Ramp;
use crate::kernels::ramp::{Plane, zero};
use crate::refs::{Frame, MaskFile, NonlinFile, PlaneFile, ZeroPoint};

/// Open references of one frame, (ny, nx).
#[derive(Debug)]
pub struct Calibration<'a> {
    ny: usize,
    nx: usize,
    mask: Option<MaskFile>,
    /// The ramp's own PIXELDQ.
    own: Option<&'a [u32]>,
    saturation: Source,
    bias: Option<PlaneFile>,
    gain: Source,
    noise: Source,
    nonlin: Option<NonlinFile>,
    /// Variance that rounding to whole numbers adds to a read, DN².
    rounding: f32,
    /// Reference pixels, ascending.
    reference: Vec<u32>,
    /// Further bits of single pixels, ascending by pixel.
    marked: Vec<(u32, u32)>,
    /// What was missing and what stands in for it, as sentences.
    pub warnings: Vec<String>,
    /// Defaults that stand in for references: name and value, for the header.
    pub defaults: Vec<(&'static str, f64)>,
}

/// A plane, or the number that stands in for it.
#[derive(Debug)]
enum Source {
    File(Box<PlaneFile>),
    Value(f32),
}

impl Source {
    fn read(&self, rows: Range<usize>, gain: &[f32], into: &mut [f32], bits: &mut [u32]) -> Result<()> {
        match self {
            Source::File(file) => file.read(rows, gain, into, bits),
            Source::Value(value) => {
                into.fill(*value);
                Ok(())
            }
        }
    }
}

/// Rows that a thread reads at a time: few enough that they stay in its cache.
const BLOCK: usize = 8;

impl<'a> Calibration<'a> {
    /// Opens what `references` names; what is missing gets the instrument's numbers
    /// and a warning. `integer` says that the ramp holds whole numbers, whose
    /// rounding adds 1/12 DN² to the variance of a read.
    pub fn open(
        references: &BTreeMap<String, PathBuf>,
        ramp: &'a Ramp,
        detector: &Detector,
        integer: bool,
    ) -> Result<Calibration<'a>> {
        let frame = Frame::new(&ramp.meta, ramp.ny, ramp.nx);
        let path = |reftype: &str| references.get(reftype).map(PathBuf::as_path);
        let mut warnings = Vec::new();
        let mut defaults = Vec::new();
        let mask = path("mask").map(|p| MaskFile::open(p, &frame)).transpose()?;
        if mask.is_none() {
            warnings.push("no mask reference: no pixel is known to be bad".to_owned());
        }
        let mut source = |file: Option<PlaneFile>, name, key, default, unit| match file {
            Some(file) => Source::File(Box::new(file)),
            None => {
                let (value, whence) = match ramp.header.number(key).filter(|v| *v > 0.0) {
                    Some(v) => (v, format!("the header's {key}")),
                    None => (default, "the instrument file".to_owned()),
                };
                warnings.push(format!("no {name} reference: {value} {unit} from {whence}"));
                defaults.push((name, value));
                Source::Value(value as f32)
            }
        };
        let open = |t, f: fn(&Path, &Frame) -> Result<PlaneFile>| path(t).map(|p| f(p, &frame)).transpose();
        let gain = source(open("gain", PlaneFile::gain)?, "gain", "GAIN", detector.gain, "e-/DN");
        let noise = open("readnoise", PlaneFile::readnoise)?;
        let noise = source(noise, "readnoise", "READNOIS", detector.read_noise, "e- a read");
        let level = open("saturation", PlaneFile::saturation)?;
        let saturation = source(level, "saturation", "SATURATE", detector.saturation, "DN");
        let bias = open("bias", PlaneFile::bias)?;
        let nonlin = path("nonlin").map(|p| NonlinFile::open(p, &frame)).transpose()?;
        if nonlin.is_none() {
            warnings.push("no nonlin reference: counts are taken to be linear".to_owned());
        }
        Ok(Calibration {
            ny: ramp.ny,
            nx: ramp.nx,
            mask,
            own: ramp.pixeldq.as_deref(),
            saturation,
            bias,
            gain,
            noise,
            nonlin,
            rounding: if integer { 1.0 / 12.0 } else { 0.0 },
            reference: Vec::new(),
            marked: Vec::new(),
            warnings,
            defaults,
        })
    }

    /// Whether there is a bias reference.
    pub fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Refuses a polynomial whose argument is counted from a bias that there is not.
    pub fn check_zero_point(&self, nonlin: &Path) -> Result<()> {
        if self.polynomial() == (0, zero::BIAS) || self.polynomial().1 != zero::BIAS || self.has_bias() {
            return Ok(());
        }
        Err(Error::input(
            nonlin,
            "COEFFZP = BIAS needs counts above the bias, which was not subtracted: run bias first (the recipe stage1 \
             does, with --override_bias=FILE), set COEFFZP to RAW or FIRST, or skip linearity",
        ))
    }

    /// Number of linearity coefficients (0 without a nonlin reference) and [`zero`].
    pub fn polynomial(&self) -> (usize, u32) {
        self.nonlin.as_ref().map_or((0, zero::BIAS), |n| {
            let zero = match n.zero_point {
                ZeroPoint::Bias => zero::BIAS,
                ZeroPoint::Raw => zero::RAW,
                ZeroPoint::First => zero::FIRST,
            };
            (n.ncoef(), zero)
        })
    }

    /// Number of planes that [`Calibration::read`] fills: [`Plane`]'s, then one a
    /// coefficient.
    pub fn planes(&self) -> usize {
        Plane::Coefficients as usize + self.polynomial().0
    }

    /// Fills `to` with the planes of rows `rows`, `[plane][row][column]`.
    pub fn read(&self, rows: Range<usize>, to: &mut [f32]) -> Result<()> {
        let (nx, planes) = (self.nx, self.planes());
        let mut blocks: Vec<Vec<&mut [f32]>> = rows.clone().step_by(BLOCK).map(|_| Vec::new()).collect();
        for plane in to.chunks_mut(rows.len() * nx).take(planes) {
            blocks.iter_mut().zip(plane.chunks_mut(BLOCK * nx)).for_each(|(block, part)| block.push(part));
        }
        // `to` may be memory of a device, slow to read: planes are made beside it.
        blocks.into_par_iter().enumerate().try_for_each_init(Vec::new, |scratch, (i, block)| {
            let first = rows.start + i * BLOCK;
            let part = first..(first + BLOCK).min(rows.end);
            let n = part.len() * nx;
            scratch.resize(planes * n, 0.0);
            self.block(part, scratch)?;
            block.into_iter().zip(scratch.chunks(n)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })
    }

    /// The planes of a few rows.
    fn block(&self, rows: Range<usize>, to: &mut [f32]) -> Result<()> {
        let n = rows.len() * self.nx;
        let mut planes = to.chunks_mut(n);
        let mut next = || planes.next().unwrap_or_default();
        let (bits, saturation, bias, gain, variance) = (next(), next(), next(), next(), next());
        let mut coefficients: Vec<&mut [f32]> = planes.collect();
        let bits: &mut [u32] = bytemuck::cast_slice_mut(bits);
        self.bits_of(rows.clone(), bits)?;
        let pixels = (rows.start * self.nx) as u32..(rows.end * self.nx) as u32;
        let from = self.reference.partition_point(|p| *p < pixels.start);
        for p in self.reference[from..].iter().take_while(|p| **p < pixels.end) {
            bits[(p - pixels.start) as usize] |= dq::REFERENCE_PIXEL | dq::DO_NOT_USE;
        }
        self.saturation.read(rows.clone(), &[], saturation, bits)?;
        match &self.bias {
            Some(file) => file.read(rows.clone(), &[], bias, bits)?,
            None => bias.fill(0.0),
        }
        self.gain.read(rows.clone(), &[], gain, bits)?;
        self.noise.read(rows.clone(), gain, variance, bits)?;
        let rounding = self.rounding;
        variance.iter_mut().zip(&*gain).for_each(|(v, g)| *v = *v * *v + *g * *g * rounding);
        match &self.nonlin {
            Some(file) => file.read(rows, &mut coefficients, bits),
            None => Ok(()),
        }
    }

    /// The mask's and the ramp's own bits of rows `rows`, into `to` (rows × columns).
    fn bits_of(&self, rows: Range<usize>, to: &mut [u32]) -> Result<()> {
        match self.own {
            Some(own) => to.copy_from_slice(&own[rows.start * self.nx..rows.end * self.nx]),
            None => to.fill(0),
        }
        let pixels = (rows.start * self.nx) as u32..(rows.end * self.nx) as u32;
        let from = self.marked.partition_point(|(p, _)| *p < pixels.start);
        for (p, bits) in self.marked[from..].iter().take_while(|(p, _)| *p < pixels.end) {
            to[(p - pixels.start) as usize] |= bits;
        }
        self.mask.as_ref().map_or(Ok(()), |mask| mask.read(rows, to))
    }

    /// The pixels of rows `rows`, ascending, that `wanted` picks by the mask's and the
    /// ramp's own bits, with their bits.
    pub fn find(
        &self,
        rows: Range<usize>,
        wanted: impl Fn(usize, u32) -> bool + Sync,
    ) -> Result<Vec<(u32, u32)>> {
        let nx = self.nx;
        let bands: Vec<Range<usize>> =
            rows.clone().step_by(BLOCK).map(|r| r..(r + BLOCK).min(rows.end)).collect();
        let parts = bands.into_par_iter().map_init(Vec::new, |bits, rows| {
            bits.resize(rows.len() * nx, 0);
            self.bits_of(rows.clone(), bits)?;
            let pixels = (rows.start * nx..).zip(bits.iter());
            Ok(pixels.filter(|(p, b)| wanted(*p, **b)).map(|(p, b)| (p as u32, *b)).collect())
        });
        let parts: Vec<Vec<(u32, u32)>> = parts.collect::<Result<_>>()?;
        Ok(parts.concat())
    }

    /// The bias of rows `rows`, DN; `None` without a reference.
    pub fn bias(&self, rows: Range<usize>) -> Result<Option<Vec<f32>>> {
        let Some(file) = &self.bias else { return Ok(None) };
        let n = rows.len() * self.nx;
        let (mut bias, mut bits) = (vec![0.0; n], vec![0; n]);
        file.read(rows, &[], &mut bias, &mut bits)?;
        Ok(Some(bias))
    }

    /// The gain of the frame, (ny, nx), e-/DN.
    pub fn gain(&self) -> Result<Vec<f32>> {
        let n = self.ny * self.nx;
        let (mut gain, mut bits) = (vec![0.0; n], vec![0; n]);
        self.gain.read(0..self.ny, &[], &mut gain, &mut bits)?;
        Ok(gain)
    }

    /// Drops the warnings about references that no step of `recipe` would use.
    pub fn without(&mut self, recipe: &Recipe) {
        let runs = |name: &str| recipe.steps.iter().any(|s| s.name() == name && !s.skip());
        let fits = runs("jump") || runs("ramp_fit");
        for (reftype, used) in [
            ("mask", runs("dq_init")),
            ("saturation", runs("saturation")),
            ("nonlin", runs("linearity")),
            ("gain", fits),
            ("readnoise", fits),
        ] {
            if !used {
                self.warnings.retain(|w| !w.starts_with(&format!("no {reftype} ")));
                self.defaults.retain(|(name, _)| *name != reftype);
            }
        }
    }

    /// Adds `bits` to what is known of `pixels`.
    pub fn mark(&mut self, pixels: impl IntoIterator<Item = u32>, bits: u32) {
        self.marked.extend(pixels.into_iter().map(|p| (p, bits)));
        self.marked.sort_unstable();
    }

    /// Marks the pixels that `other`, of the same frame, has marked.
    pub fn mark_as(&mut self, other: &Calibration<'_>) {
        self.marked.clone_from(&other.marked);
    }

    /// The saturation level of rows `rows`, raw DN; pixels never saturate above f32::MAX.
    pub fn saturation(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let n = rows.len() * self.nx;
        let (mut level, mut bits) = (vec![0.0; n], vec![0; n]);
        self.saturation.read(rows, &[], &mut level, &mut bits)?;
        Ok(level)
    }

    /// Names the reference pixels (ascending), to be flagged as such and as not
    /// usable.
    pub fn set_reference_pixels(&mut self, pixels: Vec<u32>) {
        self.reference = pixels;
    }

    /// All bits of the frame, (ny, nx).
    pub fn bits(&self) -> Result<Vec<u32>> {
        let mut out = vec![0; self.ny * self.nx];
        let bands = out.par_chunks_mut(BLOCK * self.nx).enumerate();
        bands.try_for_each_init(Vec::new, |scratch, (i, to)| {
            let first = i * BLOCK;
            scratch.resize(self.planes() * to.len(), 0.0);
            self.block(first..first + to.len() / self.nx, scratch)?;
            to.copy_from_slice(bytemuck::cast_slice(&scratch[..to.len()]));
            Ok(())
        })?;
        Ok(out)
    }
}
