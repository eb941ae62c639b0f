//! Noise of a frame that was made from a ramp elsewhere.
//!
//! A ramp of n reads, δ seconds apart, in electrons: y_i = y_0 + Σ_{j≤i} d_j, with
//! d_j Poisson of mean a·δ (a: the rate), and read noise s on every y_i. For a rate
//! Σ w_j d_j / T the photon variance is a·δ·Σ w_j² / T².
//!
//! * **UTR** (a line through all reads on equal weights): read noise
//!   12 s² / (δ² (n³ − n)); photons (6/5) (a/(n δ)) (n² + 1)/(n² − 1).
//!   Garnett & Forrest 1993 (SPIE 1946, 395); Vacca, Cushing & Rayner 2004
//!   (PASP 116, 352), whose equation for the general case this is.
//! * **MCDS** (mean of the last k less mean of the first k, over T = (n − k) δ):
//!   read noise 2 s²/(k T²). The weights climb as 1/k … (k−1)/k over the first
//!   k reads, are 1 over the n − 2k + 1 intervals between, and fall likewise, so
//!   Σ w² = n − 2k + 1 + 2 Σ_{j<k} (j/k)² = n − 4k/3 + 1/(3k), which is Vacca et
//!   al.'s T/δ · [1 − (k² − 1) δ/(3 k T)].
//! * **CDS**: MCDS with k = 1: 2 s²/T² and a/T.

use super::headers::{count, upper};
use crate::datamodel::registry::names;
use crate::fits::Header;
use crate::words::short;

/// How a ramp was made into one number a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Up the ramp: a line through all reads.
    Utr,
    /// Mean of the last `k` reads minus mean of the first `k` (1: CDS).
    Mcds {
        /// Reads averaged at each end.
        k: usize,
    },
}

/// Reference planes for [`super::RawImage::to_rate`], each (ny, nx); where absent,
/// the header's number or the instrument's serves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NoiseModel<'a> {
    /// e-/DN.
    pub gain: Option<&'a [f32]>,
    /// Noise of a single read, electrons.
    pub read_noise: Option<&'a [f32]>,
}

/// How many reads, how far apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timing {
    pub(super) sampling: Sampling,
    pub(super) reads: usize,
    /// Seconds between reads.
    pub(super) step: f64,
}

impl Timing {
    /// From READMODE/SAMPMODE, NREADS, the read time and EXPTIME (which, where
    /// nothing else is known, is taken as t_last − t_first). `None` where no time is
    /// known.
    pub(super) fn of(header: &Header, read_time: Option<f64>, warnings: &mut Vec<String>) -> Option<Timing> {
        // JWST's EFFINTTM is the time of a ramp, too.
        let seconds = ["EXPTIME", "EFFINTTM"].iter().find_map(|key| header.number(key));
        let exptime = seconds.filter(|t| *t > 0.0);
        let mode = upper(header, names("READMODE"));
        let said = count(header, names("NREADS")).filter(|&n| n >= 2);
        let guess = match (exptime, read_time) {
            (Some(t), Some(step)) if mode != "CDS" => {
                ((t / step).round() as usize).saturating_add(1).clamp(2, 65535)
            }
            _ => 2,
        };
        if said.is_none() && mode != "CDS" {
            warnings.push(format!("NREADS is missing: {guess} reads are assumed for the errors"));
        }
        let reads = said.unwrap_or(guess);
        let sampling = sampling(header, &mode, reads, warnings);
        let intervals = (reads - 1) as f64;
        let step = match (read_time, exptime) {
            (Some(step), Some(t)) => {
                // EXPTIME may count the time from the reset to the first read.
                let agrees = |n: f64| (n * step / t - 1.0).abs() < 0.02;
                if agrees(intervals) || agrees(intervals + 1.0) {
                    step
                } else {
                    warnings.push(format!(
                        "EXPTIME = {} s is not that of {reads} reads of {step} s: EXPTIME is used as t_last - t_first",
                        short(t)
                    ));
                    t / intervals
                }
            }
            (Some(step), None) => step,
            (None, Some(t)) => t / intervals,
            (None, None) => return None,
        };
        Some(Timing { sampling, reads, step })
    }

    /// Seconds between the effective ends: what counts over the ramp are divided by.
    pub(super) fn span(&self) -> f64 {
        let intervals = match self.sampling {
            Sampling::Utr => self.reads - 1,
            Sampling::Mcds { k } => self.reads - k,
        };
        intervals as f64 * self.step
    }

    /// Variances of the rate from photons and from read noise, (e-/s)², each per
    /// unit: multiply the first by the rate in e-/s, the second by the square of the
    /// single-read noise in e-.
    pub(super) fn variances(&self) -> (f64, f64) {
        let (n, step) = (self.reads as f64, self.step);
        match self.sampling {
            Sampling::Utr => {
                let photons = 1.2 * (n * n + 1.0) / (n * step * (n * n - 1.0));
                (photons, 12.0 / (step * step * (n * n * n - n)))
            }
            Sampling::Mcds { k } => {
                let (k, span) = (k as f64, self.span());
                let weights = n - 4.0 * k / 3.0 + 1.0 / (3.0 * k);
                (weights * step / (span * span), 2.0 / (k * span * span))
            }
        }
    }
}

fn sampling(header: &Header, mode: &str, reads: usize, warnings: &mut Vec<String>) -> Sampling {
    match mode {
        "CDS" => Sampling::Mcds { k: 1 },
        "MCDS" | "MDS" | "FOWLER" => {
            let frames = count(header, &["NCOADD", "NFRAMES"]).filter(|&k| k > 1);
            // The observer's NUMREADS says how many reads are averaged at each end.
            let settings = count(header, &["NUMREADS"]).filter(|&k| header.has("NREADS") && k < reads);
            let k = frames.or(settings).unwrap_or(1);
            if frames.or(settings).is_none() {
                warnings.push(format!("{mode} without NFRAMES: errors are those of one read at each end"));
            }
            Sampling::Mcds { k: k.clamp(1, (reads / 2).max(1)) }
        }
        "UTR" | "RAMP" | "SUTR" => Sampling::Utr,
        other => {
            warnings
                .push(format!("READMODE '{other}' is not UTR, CDS or MCDS: UTR is assumed for the errors"));
            Sampling::Utr
        }
    }
}
