//! Darks that are ramps: the dark signal of every read.
//!
//! A science read is the mean of its frames, so its dark is the mean of the dark
//! signal at the times of those frames, between the dark's own reads on a straight
//! line and beyond them on the line through the nearest two. Where every frame of the
//! science ramp is a read of the dark this is the mean of those reads.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::open::{Frame, Place, Reference};
use crate::datamodel::Meta;
use crate::error::Result;
use crate::fits::{Hdu, Header};

/// When the reads of a ramp were taken.
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// Ramps.
    pub ramps: usize,
    /// Mean time of each read of every ramp since its reset, s.
    pub times: &'a [f64],
    /// Frames averaged in each.
    pub frames: &'a [u16],
    /// Seconds between averaged frames.
    pub frame_time: f64,
    /// The header: NFRAMES and GROUPGAP, where it counts frames.
    pub header: &'a Header,
}

/// Part of a dark read in the dark of a science read.
type Weight = (usize, f64);

/// A dark ramp, open and matched to a science ramp.
#[derive(Debug)]
pub struct DarkRampFile {
    reference: Reference,
    hdu: Hdu,
    place: Place,
    /// Flags of its pixels: HDUs and how many planes.
    flags: Option<(Hdu, usize)>,
    /// The average dark current, DN/s, where the file has it.
    average: Option<Hdu>,
    /// For each read of the science ramps that differ: what its dark is made of.
    weights: Vec<Vec<Weight>>,
    /// Reads a ramp of the science.
    reads: usize,
    /// Seconds from the first science read to the last.
    span: f64,
    /// Reads of the science beyond the dark's last.
    pub extrapolated: usize,
}

/// Whether a reference's main image is a ramp of reads rather than one image.
pub fn is_ramp(path: &Path) -> Result<bool> {
    let frame = Frame::new(&Meta::default(), 0, 0);
    let r = Reference::open(path, "dark", &frame)?;
    let hdu = r.main(&["DATA", "SCI"])?;
    Ok(hdu.shape.len() > 2 && hdu.shape[..hdu.shape.len() - 2].iter().product::<usize>() > 1)
}

impl DarkRampFile {
    /// Opens DATA or SCI, (reads, ny, nx) or (ramps, reads, ny, nx), DN. Its reads were
    /// taken at TIMES (with NSAMPLE), else as NFRAMES and GROUPGAP say in frames of TFRAME
    /// (or of the science ramp's), else as the science ramp's were.
    pub fn open(path: &Path, frame: &Frame, science: &Sampling<'_>) -> Result<DarkRampFile> {
        let r = Reference::open(path, "dark", frame)?;
        let hdu = r.main(&["DATA", "SCI"])?.clone();
        let (ramps, reads, ny, nx) = match *hdu.shape.as_slice() {
            [reads, ny, nx] => (1, reads, ny, nx),
            [ramps, reads, ny, nx] => (ramps, reads, ny, nx),
            _ => {
                let n = hdu.shape.len();
                return Err(r.error(format!("{} has {n} axes: a dark ramp is (reads, ny, nx)", hdu.name)));
            }
        };
        if reads < 2 {
            return Err(r.error(format!("{} has one read: a dark ramp needs two", hdu.name)));
        }
        let place = r.place(&hdu.name, (ny, nx))?;
        r.fits.check(&hdu, 0, hdu.len())?;
        let flags = ["DQ", "PIXELDQ"].iter().find_map(|n| r.image(n)).cloned();
        let flags = flags.map(|h| planes(&r, h, (ny, nx))).transpose()?;
        let average = r.image("AVERAGE_DARK_CURRENT").filter(|h| h.shape == [ny, nx]).cloned();
        let per_ramp = science.times.len() / science.ramps.max(1);
        let own = own_times(&r, (ramps, reads), science)?;
        // One ramp's dark serves all where nothing tells them apart.
        let one = &science.times[..per_ramp];
        let alike = ramps == 1
            && science.times.chunks(per_ramp).all(|t| t == one)
            && science.frames.chunks(per_ramp).all(|n| n == &science.frames[..per_ramp]);
        let last = own.dark[reads - 1];
        let mut extrapolated = 0;
        let mut weights = Vec::new();
        for (k, frames) in
            own.science.iter().enumerate().take(if alike { per_ramp } else { own.science.len() })
        {
            // The last ramp of the dark stands for those that it does not have.
            let first = (k / per_ramp).min(ramps - 1) * reads;
            extrapolated += usize::from(frames.iter().any(|t| *t > last * (1.0 + 1e-9)));
            let mut of: Vec<Weight> = Vec::new();
            for t in frames {
                for (i, w) in between(&own.dark, *t) {
                    let w = w / frames.len() as f64;
                    match of.iter_mut().find(|(at, _)| *at == first + i) {
                        Some((_, sum)) => *sum += w,
                        None => of.push((first + i, w)),
                    }
                }
            }
            weights.push(of);
        }
        let span = if per_ramp > 1 { one[per_ramp - 1] - one[0] } else { one[0] };
        Ok(DarkRampFile {
            reference: r,
            hdu,
            place,
            flags,
            average,
            weights,
            reads: per_ramp,
            span,
            extrapolated,
        })
    }

    /// Reads that [`DarkRampFile::read`] gives: those of one ramp, or of all.
    pub fn reads(&self) -> usize {
        self.weights.len()
    }

    /// The dark of rows `rows`, DN, (reads, rows, columns). A read that is no number
    /// counts as 0, and so does what is extrapolated from one.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let n = rows.len() * self.reference.frame.nx;
        let mut out = vec![0f32; self.reads() * n];
        out.par_chunks_mut(n.max(1)).zip(&self.weights).try_for_each(|(to, of)| {
            let dark = self.weighted(&rows, of)?;
            to.iter_mut().zip(dark).for_each(|(t, d)| *t = d as f32);
            Ok(())
        })?;
        Ok(out)
    }

    /// One science read's dark.
    fn weighted(&self, rows: &Range<usize>, of: &[Weight]) -> Result<Vec<f64>> {
        let (fits, n) = (&self.reference.fits, rows.len() * self.reference.frame.nx);
        let plane = *self.hdu.shape.iter().rev().nth(1).unwrap_or(&0) * self.place.nx;
        let beyond = of.iter().any(|(_, w)| *w < 0.0);
        let (mut sum, mut values) = (vec![0.0; n], vec![0f32; n]);
        for (read, w) in of {
            self.place
                .read(read * plane, rows, &mut values, |first, to| fits.read_f32(&self.hdu, first, to))?;
            for (s, v) in sum.iter_mut().zip(&values) {
                *s += match (v.is_finite(), beyond) {
                    (true, _) => w * f64::from(*v),
                    (false, true) => f64::NAN,
                    (false, false) => 0.0,
                };
            }
        }
        sum.iter_mut().filter(|s| s.is_nan()).for_each(|s| *s = 0.0);
        Ok(sum)
    }

    /// The average dark current of rows `rows`, DN/s, ≥ 0: the file's, else the rise of
    /// the dark over the science ramp.
    pub fn rate(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let n = rows.len() * self.reference.frame.nx;
        if let Some(hdu) = &self.average {
            let mut out = vec![0f32; n];
            let fits = &self.reference.fits;
            self.place.read(0, &rows, &mut out, |first, to| fits.read_f32(hdu, first, to))?;
            out.iter_mut().for_each(|v| *v = if *v > 0.0 && v.is_finite() { *v } else { 0.0 });
            return Ok(out);
        }
        let last = self.weighted(&rows, &self.weights[self.reads - 1])?;
        let first = match self.reads {
            1 => vec![0.0; n],
            _ => self.weighted(&rows, &self.weights[0])?,
        };
        Ok(last.iter().zip(first).map(|(b, a)| ((b - a) / self.span).max(0.0) as f32).collect())
    }

    /// Adds the flags of rows `rows` to `into` (rows × columns).
    pub fn flags(&self, rows: Range<usize>, into: &mut [u32]) -> Result<()> {
        let Some((hdu, count)) = &self.flags else { return Ok(()) };
        let (fits, plane) = (&self.reference.fits, hdu.len() / count);
        let mut flags = vec![0; into.len()];
        for i in 0..*count {
            self.place.read(i * plane, &rows, &mut flags, |first, to| fits.read_u32(hdu, first, to))?;
            into.iter_mut().zip(&flags).for_each(|(to, f)| *to |= f);
        }
        Ok(())
    }
}

/// Flags are of the frame's size, once or for each ramp.
fn planes(r: &Reference, hdu: Hdu, (ny, nx): (usize, usize)) -> Result<(Hdu, usize)> {
    match *hdu.shape.as_slice() {
        [ref lead @ .., y, x] if (y, x) == (ny, nx) => {
            let count = lead.iter().product();
            Ok((hdu, count))
        }
        _ => Err(r.error(format!("{} is not of the size of the dark, {ny} x {nx}", hdu.name))),
    }
}

/// Times of both ramps by one clock: of the dark's reads, and of the frames of each
/// science read.
struct Clock {
    dark: Vec<f64>,
    science: Vec<Vec<f64>>,
}

fn own_times(r: &Reference, (ramps, reads): (usize, usize), science: &Sampling<'_>) -> Result<Clock> {
    let seconds = |k: usize| {
        let n = science.frames[k].max(1);
        let middle = f64::from(n - 1) / 2.0;
        (0..n).map(|j| science.times[k] + (f64::from(j) - middle) * science.frame_time).collect::<Vec<_>>()
    };
    let all = || (0..science.times.len()).map(seconds).collect();
    if let Some(hdu) = r.image("TIMES") {
        let times = r.fits.f64(hdu)?;
        let increasing = times.len() >= reads && times[..reads].windows(2).all(|t| t[0] < t[1]);
        if !(times.len() == reads || times.len() == ramps * reads) || !increasing {
            return Err(r.error(format!("TIMES does not give {reads} increasing times, one a read")));
        }
        return Ok(Clock { dark: times[..reads].to_vec(), science: all() });
    }
    let per_ramp = science.times.len() / science.ramps.max(1);
    let Some(dark) = Pattern::of(r.fits.primary()) else {
        // Nothing is said: reads of the same numbers are of the same times.
        let line = |k: usize| match k {
            k if k < per_ramp => science.times[k],
            k => {
                let step = if per_ramp > 1 {
                    science.times[per_ramp - 1] - science.times[per_ramp - 2]
                } else {
                    science.times[0]
                };
                science.times[per_ramp - 1] + step * (k + 1 - per_ramp) as f64
            }
        };
        let middle = science.times.iter().map(|t| vec![*t]).collect();
        return Ok(Clock { dark: (0..reads).map(line).collect(), science: middle });
    };
    // Frames are counted where both ramps do, unless theirs do not last alike.
    let alike = |a: Option<f64>| a.zip(dark.frame).is_none_or(|(a, b)| (a - b).abs() <= 1e-3 * b);
    let own = Pattern::of(science.header).filter(|p| alike(p.frame) && p.is_that_of(science));
    if let Some(own) = own {
        let frames = |k: usize| {
            let first = own.start(k % per_ramp);
            (first..first + own.frames).map(|j| j as f64).collect::<Vec<_>>()
        };
        let science = (0..science.times.len()).map(frames).collect();
        return Ok(Clock { dark: (0..reads).map(|g| dark.mean(g)).collect(), science });
    }
    // A first read that is one frame was taken a frame after the reset.
    let single = science.frames.iter().all(|n| *n <= 1).then_some(science.times[0]);
    let theirs = science.header.number("TFRAME").or(Some(science.frame_time)).filter(|t| *t > 0.0);
    let frame = dark.frame.or(theirs).or(single).ok_or_else(|| {
        r.error("says in NFRAMES how its reads were taken but not when: add TFRAME (s) or an HDU TIMES")
    })?;
    Ok(Clock { dark: (0..reads).map(|g| dark.mean(g) * frame).collect(), science: all() })
}

/// Reads of so many frames with so many between them.
struct Pattern {
    frames: usize,
    gap: usize,
    /// Seconds from frame to frame.
    frame: Option<f64>,
    /// Seconds from read to read.
    group: Option<f64>,
}

impl Pattern {
    fn of(h: &Header) -> Option<Pattern> {
        let whole = |key: &str| h.integer(key).and_then(|v| usize::try_from(v).ok());
        Some(Pattern {
            frames: whole("NFRAMES")?.max(1),
            gap: whole("GROUPGAP").unwrap_or(0),
            frame: h.number("TFRAME").filter(|t| *t > 0.0),
            group: h.number("TGROUP").filter(|t| *t > 0.0),
        })
    }

    /// Whether all reads of a ramp are still there, as the header counts them.
    fn is_that_of(&self, science: &Sampling<'_>) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * b;
        let reads = science.times.len() / science.ramps.max(1);
        science.frames.iter().all(|n| usize::from(*n) == self.frames)
            && science.times.chunks(reads).all(|t| {
                let step = t.get(1).map(|second| second - t[0]);
                let group = self.group.or(step);
                self.frame.is_none_or(|f| near(t[0], self.mean(0) * f))
                    && t.windows(2).all(|w| group.is_none_or(|g| near(w[1] - w[0], g)))
            })
    }

    /// The number, from 1, of the first frame of read `k`.
    fn start(&self, k: usize) -> usize {
        k * (self.frames + self.gap) + 1
    }

    /// The mean number of its frames.
    fn mean(&self, k: usize) -> f64 {
        self.start(k) as f64 + (self.frames - 1) as f64 / 2.0
    }
}

/// The reads, two at most, whose line gives the value at `t`, with their parts.
fn between(times: &[f64], t: f64) -> Vec<Weight> {
    let upper = times.partition_point(|own| *own < t).clamp(1, times.len() - 1);
    let (a, b) = (times[upper - 1], times[upper]);
    let part = (t - a) / (b - a);
    // At a read, that read alone.
    let near = |x: f64| part.abs() < 1e-6 * x || (part - 1.0).abs() < 1e-6 * x;
    match (near(1.0), part > 0.5) {
        (true, false) => vec![(upper - 1, 1.0)],
        (true, true) => vec![(upper, 1.0)],
        _ => vec![(upper - 1, 1.0 - part), (upper, part)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_and_beyond_the_reads_lie_on_lines() {
        let times = [1.0, 2.0, 4.0];
        assert_eq!(between(&times, 2.0), vec![(1, 1.0)]);
        assert_eq!(between(&times, 4.0), vec![(2, 1.0)]);
        assert_eq!(between(&times, 3.0), vec![(1, 0.5), (2, 0.5)]);
        assert_eq!(between(&times, 6.0), vec![(1, -1.0), (2, 2.0)]);
        assert_eq!(between(&times, 0.0), vec![(0, 2.0), (1, -1.0)]);
    }
}
