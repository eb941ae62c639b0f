//! Reference pixels to offset tables: what every read drifted by, by readout
//! channel, column parity and line, to be subtracted on the fly.
//!
//! Three methods: `optimal`, JWST's `median`, and `sirs`. Whatever is subtracted,
//! [`Report`] says what the reference pixels show of the noise.

mod median;
mod optimal;
mod patterns;
mod samples;
mod sirs;

use std::path::Path;

use super::calibration::Calibration;
use crate::config::{self, Refpix, RefpixAlgorithm};
use crate::datamodel::dq;
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::input::Ramp;
use crate::refs::SirsKernels;
use patterns::Patterns;
use samples::Samples;

/// Fewer pixels than this say too little of their own noise for `optimal`.
const LEAST: usize = 64;

/// Where the reference pixels are and how the channels lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The reference pixels, ascending.
    pub reference: Vec<u32>,
    /// Those of them that can be used, ascending.
    pub usable: Vec<u32>,
    /// Pixels across a channel.
    pub amp_width: usize,
    /// Channels are blocks of rows.
    pub along_y: bool,
    /// A part of a detector that one output reads.
    pub window: bool,
}

/// Offsets to subtract, DN, and what is known of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Offsets {
    /// The tables.
    pub tables: Tables,
    /// What the reference pixels show.
    pub report: Report,
}

/// Offsets to subtract, DN.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// `[read][column]` (row, where channels are blocks of rows).
    pub columns: Vec<f32>,
    /// `[read][block][line]`.
    pub lines: Vec<f32>,
    /// Columns that share a block.
    pub block_width: usize,
}

/// What the reference pixels show of the noise, DN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Usable reference pixels.
    pub pixels: usize,
    /// Noise of a reference pixel in a read.
    pub scatter: f64,
    /// Rms drift of all pixels together from read to read.
    pub common: f64,
    /// Rms drift of channels about that, as both ends see it.
    pub channels: f64,
    /// Rms drift of lines, as both sides see it.
    pub lines: f64,
    /// Variance that the offsets add to each pixel of a read, DN².
    pub added: f64,
}

/// Drift of reference pixels over their noise from which on they were lit.
const LIT: f64 = 30.0;

/// A sentence where `pixels` reference pixels with this `noise` of a read drift, DN, as
/// only lit ones do: electronics drift by a few times the noise, light goes on rising.
pub fn lit(drift: f64, noise: f64, pixels: i64) -> Option<String> {
    (drift > LIT * noise).then(|| {
        format!(
            "refpix took {pixels} pixels for reference pixels that drift by {drift:.5} DN with a noise of {noise:.5} \
             DN, as lit ones do, and took light away with their drift: give a mask that says which are reference \
             pixels (--override_mask=FILE), or --steps.refpix.skip=true"
        )
    })
}

impl Report {
    /// A sentence where its pixels are no reference pixels: see [`lit`].
    pub fn lit(&self) -> Option<String> {
        lit(self.common, self.scatter, self.pixels as i64)
    }

    /// Writes it into a product's header.
    pub fn describe(&self, header: &mut Header, ramp: &Ramp) {
        let rounded = |v: f64| format!("{v:.4e}").parse::<f64>().unwrap_or(v);
        header.set("NREFPIX", self.pixels, "usable reference pixels");
        for (key, value, comment) in [
            ("REFNOISE", self.scatter, "noise of a reference pixel in a read, DN"),
            ("REFCOMM", self.common, "rms drift of all pixels together, DN"),
            ("REFCHAN", self.channels, "rms drift of channels about that, DN"),
            ("REFLINE", self.lines, "rms drift of lines, alike in all channels, DN"),
            ("REFADDED", self.added, "variance that refpix adds to a read, DN**2"),
            ("REFVAR", self.added * rate_variance(ramp), "the same of a rate, (DN/s)**2"),
        ] {
            header.set(key, rounded(value), comment);
        }
    }
}

/// REFADDED of a ramp whose reference pixels an earlier run used.
pub fn added_before(ramp: &Ramp) -> Option<f64> {
    let done = ramp.header.text("S_REFPIX").as_deref() == Some("COMPLETE");
    ramp.header.number("REFADDED").filter(|v| done && *v > 0.0 && v.is_finite())
}

/// Variance of the least-squares rate of an exposure whose reads have variance 1 each,
/// s⁻²; 0 where no ramp has two reads.
fn rate_variance(ramp: &Ramp) -> f64 {
    let about = |times: &[f64]| {
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        times.iter().map(|t| (t - mean).powi(2)).sum::<f64>()
    };
    let lever: f64 = ramp.times.chunks(ramp.reads.max(1)).map(about).sum();
    if lever > 0.0 { 1.0 / lever } else { 0.0 }
}

impl Layout {
    /// The reference pixels of a frame: those that the mask names, else the border
    /// that the instrument file gives a full frame. `None` where there are none.
    pub fn find(ramp: &Ramp, cal: &Calibration<'_>, detector: &config::Detector) -> Result<Option<Layout>> {
        let (ny, nx) = (ramp.ny, ramp.nx);
        let along_y = detector.amplifiers.along == 'y';
        let (across, full) = if along_y { (ny, detector.size[1]) } else { (nx, detector.size[0]) };
        let subarray = crate::refs::Frame::new(&ramp.meta, ny, nx).subarray;
        let said = ramp.header.integer("NOUTPUTS").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let count = match said {
            Some(count) => count,
            // A window inside the detector is read by one output.
            None if subarray && across < full => 1,
            None => detector.amplifiers.count.max(1),
        };
        let mut pixels = cal.find(0..ny, |_, bits| bits & dq::REFERENCE_PIXEL != 0)?;
        if pixels.is_empty() {
            let b = detector.reference_border;
            if subarray || b == 0 || ny.min(nx) < 16 * b {
                return Ok(None);
            }
            let edge = |i: usize, n: usize| i < b || i >= n - b;
            pixels = cal.find(0..ny, |p, _| edge(p / nx, ny) || edge(p % nx, nx))?;
        }
        // A mask may call all reference pixels DO_NOT_USE: then it says nothing.
        let unused = pixels.iter().filter(|(_, bits)| bits & dq::DO_NOT_USE != 0).count();
        let told = if 2 * unused < pixels.len() { dq::DO_NOT_USE } else { 0 };
        let bad = dq::BAD_REF_PIXEL | dq::DEAD | dq::HOT | dq::TELEGRAPH | told;
        let usable = pixels.iter().filter(|(_, bits)| bits & bad == 0).map(|(p, _)| *p).collect();
        let reference = pixels.into_iter().map(|(p, _)| p).collect();
        let window = subarray && count == 1;
        Ok(Some(Layout { reference, usable, amp_width: (across / count).max(1), along_y, window }))
    }

    /// A sentence where kernels of `count` channels are not what is known of the readout.
    pub fn disagrees(&self, ramp: &Ramp, count: usize) -> Option<String> {
        let known = if self.along_y { ramp.ny } else { ramp.nx } / self.amp_width;
        (known != count).then(|| {
            format!(
                "refpix: kernels of {count} channels, where NOUTPUTS or the instrument file says {known}: the \
                 kernels are believed"
            )
        })
    }

    /// Whether pixel (x, y) of a frame of `nx` columns is a reference pixel.
    fn is_reference(&self, x: usize, y: usize, nx: usize) -> bool {
        self.reference.binary_search(&((y * nx + x) as u32)).is_ok()
    }
}

/// What is subtracted from a reference pixel before its level counts.
#[derive(Clone, Copy)]
pub enum Zero<'a> {
    /// Nothing: the level means nothing.
    None,
    /// The bias reference.
    Bias(&'a Calibration<'a>),
    /// An earlier run subtracted the bias.
    Subtracted,
}

/// The kernels that `sirs` takes from the reference at `path`; `None` for the others.
pub fn kernels(step: &Refpix, path: Option<&Path>) -> Result<Option<SirsKernels>> {
    match (step.refpix_algorithm, path) {
        (RefpixAlgorithm::Sirs, Some(path)) => SirsKernels::open(path).map(Some),
        (RefpixAlgorithm::Sirs, None) => Err(Error::reference(
            "refpix",
            "refpix_algorithm = sirs needs its kernels: give them (--override_refpix=FILE, images LEFT and \
             RIGHT), or take optimal or median",
        )),
        _ => Ok(None),
    }
}

/// Measures the offsets of every read; `None` where too few pixels can be used.
pub fn measure(
    ramp: &Ramp,
    layout: &Layout,
    zero: Zero<'_>,
    step: &Refpix,
    kernels: Option<&SirsKernels>,
) -> Result<Option<Offsets>> {
    let mut samples = Samples::collect(ramp, layout, zero)?;
    if let Some(kernels) = kernels {
        let channels = kernels.left.len();
        if !samples.across.is_multiple_of(channels) {
            let across = samples.across;
            let message = format!("kernels of {channels} channels do not divide {across} pixels equally");
            return Err(Error::reference("refpix", format!("{message}: give this detector's own")));
        }
        samples.width = samples.across / channels;
    }
    if samples.list.is_empty() {
        return Ok(None);
    }
    let shape = (samples.across, samples.lines, samples.width);
    let made = match (step.refpix_algorithm, kernels) {
        (RefpixAlgorithm::Optimal, _) => None,
        (RefpixAlgorithm::Sirs, Some(kernels)) => Some(sirs::offsets(&samples, kernels, step)),
        _ => Some(median::offsets(&samples, layout.window, step)),
    };
    let pixels = samples.list.len();
    let patterns = Patterns::of(samples);
    let (tables, added) = match (made, &patterns) {
        (Some((tables, of_a_pixel)), p) => (tables, of_a_pixel * p.as_ref().map_or(0.0, |p| p.white)),
        (None, Some(p)) if p.pixels >= LEAST => optimal::offsets(p, zero, step, shape),
        _ => return Ok(None),
    };
    let report = patterns.map_or_else(|| Report { pixels, ..Report::default() }, |p| p.report(added));
    Ok(Some(Offsets { tables, report }))
}

/// Mean of the values within `sigma` standard deviations of it, again and again until
/// all are; `None` of none.
fn clipped(mut values: Vec<f64>, sigma: f64) -> Option<f64> {
    loop {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        // A hair more: all of equal values are kept.
        let limit = sigma * deviation + f64::EPSILON * mean.abs() * 4.0;
        values.retain(|v| (v - mean).abs() <= limit);
        if values.len() == n {
            return Some(mean);
        }
    }
}

#[cfg(test)]
mod tests;
