//! A detector's stage-1 references as the planes that the ramp kernel takes, read
//! row chunk by row chunk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::config::{Detector, Recipe};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::input::Ramp;
use crate::kernels::ramp::{Plane, zero};
use crate::profile::{self, Work};
use crate::refs::{self, DarkRampFile, Frame, IpcFile, MaskFile, NonlinFile, PlaneFile, Sampling, ZeroPoint};
use crate::words::counted;

/// Open references of one frame, (ny, nx).
#[derive(Debug)]
pub struct Calibration<'a> {
    ny: usize,
    nx: usize,
    mask: Option<MaskFile>,
    /// Whether the mask's flags count, beside what they say of reference pixels.
    masked: bool,
    /// The ramp's own PIXELDQ.
    own: Option<&'a [u32]>,
    saturation: Source,
    bias: Option<PlaneFile>,
    gain: Source,
    noise: Source,
    nonlin: Option<NonlinFile>,
    /// The inverse of `nonlin`, where reads are averages.
    inverse: Option<NonlinFile>,
    ipc: Option<IpcFile>,
    /// An earlier run undid the coupling.
    uncoupled: bool,
    /// What undoing the coupling does to the variance of a read counts.
    amplified: bool,
    /// What an earlier run's undoing did to it.
    amplified_before: f32,
    dark: Option<DarkRampFile>,
    /// (ny, nx): dark current that is in no read any more but for its noise, DN/s.
    average_dark: Option<Cow<'a, [f32]>>,
    /// Variance that a frame has beside its noise, DN²: see [`rounding`].
    rounding: f32,
    /// What [`Calibration::add_read_variance`] added to it, DN².
    added: f32,
    /// Whether the planes hold what is this exposure's own; else others add that
    /// ([`Calibration::hand_over`]).
    whole: bool,
    /// The references that planes are made of, by type.
    files: BTreeMap<String, PathBuf>,
    /// The region of the detector.
    frame: Frame,
    /// Reference pixels, ascending.
    reference: Vec<u32>,
    /// The kernels of reference pixels, where there are any.
    pub refpix: Option<PathBuf>,
    /// Further bits of single pixels, ascending by pixel.
    marked: Vec<(u32, u32)>,
    /// What was missing and what stands in for it, as sentences.
    pub warnings: Vec<String>,
    /// Defaults that stand in for references: name and value, for the header.
    pub defaults: Vec<(&'static str, f64)>,
}

/// Variance, DN², that rounding adds to a single frame: 1/12 by the converter and, where
/// reads are averages that were rounded again, what becomes 1/12 when it is divided by
/// the frames of a read, as a single frame's variance is (their mean, where they differ).
fn rounding(frames: &[u16]) -> f32 {
    let mean = mean_frames(frames);
    if mean > 1.0 { (1.0 + mean) / 12.0 } else { 1.0 / 12.0 }
}

fn mean_frames(frames: &[u16]) -> f32 {
    frames.iter().map(|n| f32::from(*n)).sum::<f32>() / frames.len().max(1) as f32
}

/// The keyword of what undoing the coupling makes of the variance of a read.
pub const IPC_NOISE: &str = "IPCNOISE";

/// That of a ramp whose coupling an earlier run undid.
pub fn ipc_noise(header: &Header) -> Option<f64> {
    let done = header.text("S_IPC").as_deref() == Some("COMPLETE");
    header.number(IPC_NOISE).filter(|v| done && *v > 0.0 && v.is_finite())
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
        let _span = profile::span(Work::References, "open");
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
        if let Some(sentence) = nonlin.as_ref().and_then(|n| n.assumed.clone()) {
            warnings.push(sentence);
        }
        let averaged = ramp.nsample.iter().any(|n| *n > 1);
        let inverse = match path("nonlin").filter(|_| averaged) {
            Some(nonlin) => NonlinFile::inverse(nonlin, path("invlin"), &frame)?,
            None => None,
        };
        let ipc = path("ipc").map(|p| IpcFile::open(p, &frame)).transpose()?;
        let sampling = Sampling {
            ramps: ramp.ramps,
            times: &ramp.times,
            frames: &ramp.nsample,
            frame_time: ramp.frame_time,
            header: &ramp.header,
        };
        let uncoupled = ramp.header.text("S_IPC").as_deref() == Some("COMPLETE");
        let dark = match path("dark") {
            Some(p) if refs::is_ramp(p)? => Some(DarkRampFile::open(p, &frame, &sampling)?),
            _ => None,
        };
        if let Some(beyond) = dark.as_ref().map(|d| d.extrapolated).filter(|n| *n > 0) {
            let (reads, are) = (counted(beyond, "read"), if beyond == 1 { "is" } else { "are" });
            warnings.push(format!("the dark ramp is shorter than the exposure: {reads} {are} extrapolated"));
        }
        Ok(Calibration {
            ny: ramp.ny,
            nx: ramp.nx,
            mask,
            masked: true,
            own: ramp.pixeldq.as_deref(),
            saturation,
            bias,
            gain,
            noise,
            nonlin,
            inverse,
            ipc,
            uncoupled,
            amplified: false,
            amplified_before: ipc_noise(&ramp.header).map_or(1.0, |v| v as f32),
            dark,
            average_dark: ramp.average_dark.as_deref().map(Cow::Borrowed),
            rounding: if integer { rounding(&ramp.nsample) } else { 0.0 },
            added: 0.0,
            whole: true,
            files: references.clone(),
            frame,
            reference: Vec::new(),
            refpix: references.get("refpix").cloned(),
            marked: Vec::new(),
            warnings,
            defaults,
        })
    }

    /// Adds `variance`, DN², to that of every read; `frames` are averaged in each.
    pub fn add_read_variance(&mut self, variance: f64, frames: &[u16]) {
        self.added += variance as f32 * mean_frames(frames);
    }

    /// What is this exposure's own: the variance that was added, DN², and the bits of single
    /// pixels (ascending) that do not decide what the ramp kernel does. The planes are without
    /// them from here on, and so the same for every exposure.
    pub fn hand_over(&mut self) -> (f32, Vec<(u32, u32)>) {
        self.whole = false;
        let only_told = self.marked.iter().filter(|(_, bits)| bits & dq::DO_NOT_USE == 0);
        (self.added, only_told.copied().collect())
    }

    /// What the planes depend on, as a name: where two exposures have the same one, their
    /// planes are the same. None where an exposure has a part in them (its own flags, marks,
    /// noise, dark current).
    pub fn name(&self) -> Result<Option<String>> {
        let marked = self.marked.iter().any(|(_, bits)| self.whole || bits & dq::DO_NOT_USE != 0);
        if self.own.is_some() || marked || self.average_dark.is_some() || self.dark.is_some() {
            return Ok(None);
        }
        const TYPES: [&str; 8] =
            ["mask", "saturation", "bias", "gain", "readnoise", "nonlin", "invlin", "ipc"];
        let mut hasher = blake3::Hasher::new();
        for (reftype, path) in self.files.iter().filter(|(t, _)| TYPES.contains(&t.as_str())) {
            hasher.update(format!("{reftype} {}\n", refs::fingerprint(path)?).as_bytes());
        }
        let values = [&self.saturation, &self.gain, &self.noise].map(|source| match source {
            Source::File(_) => None,
            Source::Value(value) => Some(*value),
        });
        let variance = (self.amplified, self.amplified_before, self.rounding);
        let polynomials = (self.polynomial(), self.inverse());
        hasher.update(format!("{:?}", (self.frame, self.masked, values, variance, polynomials)).as_bytes());
        hasher.update(bytemuck::cast_slice(&self.reference));
        Ok(Some(hasher.finalize().to_hex().to_string()))
    }

    /// Multiplies the variance of reads by what undoing the coupling makes of it, Σ K²:
    /// the noise of the readout has not gone through the coupling that K undoes, the
    /// shot noise of the charge has.
    pub fn amplify(&mut self) {
        self.amplified = true;
    }

    /// The factor on the variance of reads, the median pixel's; `None` where there is no
    /// kernel now and was none before.
    pub fn amplification(&self) -> Option<f64> {
        match &self.ipc {
            Some(file) => Some(file.typical_noise()),
            None => self.uncoupled.then_some(f64::from(self.amplified_before)),
        }
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

    /// Coefficients of the inverse polynomial; 0 without it.
    pub fn inverse(&self) -> usize {
        self.inverse.as_ref().map_or(0, NonlinFile::ncoef)
    }

    /// The kernel that undoes inter-pixel capacitance.
    pub fn ipc(&self) -> Option<&IpcFile> {
        self.ipc.as_ref()
    }

    /// The dark of every read.
    pub fn dark_ramp(&self) -> Option<&DarkRampFile> {
        self.dark.as_ref()
    }

    /// The average dark current of which every read has its shot noise though its signal
    /// was subtracted, (ny, nx), DN/s.
    pub fn average_dark(&self) -> Option<&[f32]> {
        self.average_dark.as_deref()
    }

    /// Sets it.
    pub fn set_average_dark(&mut self, rate: Vec<f32>) {
        self.average_dark = Some(Cow::Owned(rate));
    }

    /// The plane of the inverse's first coefficient.
    pub fn inverse_plane(&self) -> usize {
        Plane::Coefficients as usize + self.polynomial().0 + usize::from(self.average_dark.is_some())
    }

    /// Number of planes that [`Calibration::read`] fills: [`Plane`]'s, then one a
    /// coefficient of the polynomial, the average dark current (e-/s) where there is one,
    /// one a coefficient of the inverse.
    pub fn planes(&self) -> usize {
        self.inverse_plane() + self.inverse()
    }

    /// Fills `to` with the planes of rows `rows`, `[plane][row][column]`. Memory of a device
    /// is slow to read: unless it is this process's `own`, planes are made beside it.
    pub fn read(&self, rows: Range<usize>, to: &mut [f32], own: bool) -> Result<()> {
        let _span = profile::span(Work::References, "planes").bytes(4 * to.len() as u64);
        let (nx, planes) = (self.nx, self.planes());
        let mut blocks: Vec<Vec<&mut [f32]>> = rows.clone().step_by(BLOCK).map(|_| Vec::new()).collect();
        for plane in to.chunks_mut(rows.len() * nx).take(planes) {
            blocks.iter_mut().zip(plane.chunks_mut(BLOCK * nx)).for_each(|(block, part)| block.push(part));
        }
        blocks.into_par_iter().enumerate().try_for_each_init(Vec::new, |scratch, (i, block)| {
            let first = rows.start + i * BLOCK;
            let part = first..(first + BLOCK).min(rows.end);
            if own {
                return self.block(part, block);
            }
            let n = part.len() * nx;
            scratch.resize(planes * n, 0.0);
            self.block(part, scratch.chunks_mut(n).collect())?;
            block.into_iter().zip(scratch.chunks(n)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })
    }

    /// The planes of a few rows.
    fn block(&self, rows: Range<usize>, planes: Vec<&mut [f32]>) -> Result<()> {
        let mut planes = planes.into_iter();
        let mut next = || planes.next().unwrap_or_default();
        let (bits, saturation, bias, gain, variance) = (next(), next(), next(), next(), next());
        let mut coefficients: Vec<&mut [f32]> = planes.collect();
        let bits: &mut [u32] = bytemuck::cast_slice_mut(bits);
        self.bits_of(rows.clone(), bits, self.masked, self.whole)?;
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
        self.to_variance(&rows, variance, gain, if self.whole { self.added } else { 0.0 });
        let (forward, rest) = coefficients.split_at_mut(self.polynomial().0);
        let (dark, inverse) = rest.split_at_mut(usize::from(self.average_dark.is_some()));
        if let (Some(to), Some(rate)) = (dark.first_mut(), &self.average_dark) {
            let rate = &rate[rows.start * self.nx..rows.end * self.nx];
            to.iter_mut().zip(rate).zip(&*gain).for_each(|((to, r), g)| *to = r.max(0.0) * g);
        }
        if let Some(file) = &self.nonlin {
            file.read(rows.clone(), forward, bits)?;
        }
        if let Some(file) = &self.inverse {
            file.read(rows.clone(), inverse, bits)?;
        }
        self.dark.as_ref().map_or(Ok(()), |dark| dark.flags(rows, bits))
    }

    /// The ramp's own bits of rows `rows`, with `masked` the mask's and with `told` those that
    /// only tell something, into `to` (rows × columns).
    fn bits_of(&self, rows: Range<usize>, to: &mut [u32], masked: bool, told: bool) -> Result<()> {
        match self.own {
            Some(own) => to.copy_from_slice(&own[rows.start * self.nx..rows.end * self.nx]),
            None => to.fill(0),
        }
        let pixels = (rows.start * self.nx) as u32..(rows.end * self.nx) as u32;
        let from = self.marked.partition_point(|(p, _)| *p < pixels.start);
        for (p, bits) in self.marked[from..].iter().take_while(|(p, _)| *p < pixels.end) {
            if told || bits & dq::DO_NOT_USE != 0 {
                to[(p - pixels.start) as usize] |= bits;
            }
        }
        self.mask.as_ref().filter(|_| masked).map_or(Ok(()), |mask| mask.read(rows, to))
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
            self.bits_of(rows.clone(), bits, true, true)?;
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

    /// Gain, e-/DN, and variance of a read, e-², of rows `rows` (rows × columns), with
    /// whatever was added to that.
    pub fn noise(&self, rows: Range<usize>) -> Result<(Vec<f32>, Vec<f32>)> {
        let n = rows.len() * self.nx;
        let (mut gain, mut variance, mut bits) = (vec![0.0; n], vec![0.0; n], vec![0; n]);
        self.gain.read(rows.clone(), &[], &mut gain, &mut bits)?;
        self.noise.read(rows.clone(), &gain, &mut variance, &mut bits)?;
        self.to_variance(&rows, &mut variance, &gain, self.added);
        Ok((gain, variance))
    }

    /// Noise of a read of rows `rows`, e-, to its variance, e-²: with that of rounding,
    /// both times what undoing the coupling makes of them, and with what was `added` later.
    fn to_variance(&self, rows: &Range<usize>, noise: &mut [f32], gain: &[f32], added: f32) {
        let one = [self.amplified_before];
        let factor = match &self.ipc {
            _ if !self.amplified => &[1.0],
            Some(file) => file.noise(rows),
            None => &one[..],
        };
        for ((v, g), factor) in noise.iter_mut().zip(gain).zip(factor.iter().cycle()) {
            *v = (*v * *v + *g * *g * self.rounding) * factor + *g * *g * added;
        }
    }

    /// The coupling to each neighbour along x and along y: none where an earlier run
    /// undid it, else as measured with the gain (IPCX, IPCY), where the reference says it.
    pub fn coupling(&self) -> Option<[f64; 2]> {
        if self.uncoupled {
            return Some([0.0; 2]);
        }
        let Source::File(gain) = &self.gain else { return None };
        let of = |key: &str| gain.header().number(key).filter(|v| (0.0..0.25).contains(v));
        Some([of("IPCX")?, of("IPCY")?])
    }

    /// Drops the warnings about references that no step of `recipe` would use, and the
    /// flags of the mask where dq_init does not run.
    pub fn without(&mut self, recipe: &Recipe) {
        let runs = |name: &str| recipe.steps.iter().any(|s| s.name() == name && !s.skip());
        let fits = runs("jump") || runs("ramp_fit");
        self.masked = runs("dq_init");
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
            self.block(first..first + to.len() / self.nx, scratch.chunks_mut(to.len()).collect())?;
            to.copy_from_slice(bytemuck::cast_slice(&scratch[..to.len()]));
            Ok(())
        })?;
        self.marked.iter().for_each(|(p, bits)| out[*p as usize] |= bits);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_rounded_twice() {
        assert_eq!(rounding(&[1; 5]), 1.0 / 12.0);
        // Of 8 frames: 1/12 each over 8, and 1/12.
        assert!((rounding(&[8; 5]) / 8.0 - (1.0 / 8.0 + 1.0) / 12.0).abs() < 1e-7);
    }
}
