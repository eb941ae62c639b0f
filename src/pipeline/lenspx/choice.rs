//! Which method of extraction describes the calibration's own frames better.
//!
//! In frames of one wavelength neighbours' light is told apart by the two-dimensional PSF
//! or not at all (white light looks the same to both methods): where the PSF is known well
//! `factored` leaves less, where it was measured from too few spots `banded` does.

use super::leak::{by_psf, some};
use super::{Arc, LensCal, epsf, system};
use crate::config::{Extract, Extraction};
use crate::datamodel::dq;
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::factored::{REACH, SEG};
use crate::pipeline::extract::banded_of;

/// Frames that are looked at.
const FRAMES: usize = 3;

/// Reduced χ² of frames of one wavelength, where their light is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chi2 {
    /// By `banded`.
    pub banded: f64,
    /// By `factored`.
    pub factored: f64,
}

impl LensCal {
    /// The method that `asked` means with this calibration.
    pub fn method(&self, asked: Extraction) -> Extraction {
        let described = self.psf.is_some() && self.chi2.is_some_and(|c| c.factored <= c.banded);
        match asked {
            Extraction::Best if described => Extraction::Factored,
            Extraction::Best => Extraction::Banded,
            other => other,
        }
    }
}

/// Extracts some of the frames of one wavelength by both methods; `None` where the
/// calibration has no PSF, or there is no such frame.
pub fn measure(engine: &mut dyn Engine, cal: &LensCal, arcs: &[Arc]) -> Result<Option<Chi2>> {
    let Some(psf) = &cal.psf else { return Ok(None) };
    let mut singles: Vec<&Arc> = arcs.iter().filter(|a| a.wavelengths.len() == 1).collect();
    singles.sort_by(|a, b| a.wavelengths[0].total_cmp(&b.wavelengths[0]));
    // Nothing is rejected: what a wrong model leaves must not be taken for hits.
    let params = Extract { method: Extraction::Banded, rejection_threshold: 0.0, ..Extract::default() };
    let mut all = Vec::new();
    for arc in some(&singles, FRAMES) {
        let Some(segments) = lit(cal, arc.wavelengths[0]) else { continue };
        let [first, last] = [segments[0], segments[segments.len() - 1]];
        // Light comes from beyond the edges; `by_psf` leaves as much out.
        let from = if first == 0 { 0 } else { first * SEG + REACH };
        let end = (last + 1) * SEG;
        let columns = from..if end >= cal.mode.nx { cal.mode.nx } else { end - REACH };
        let banded = banded_of(engine, &arc.rate, cal, &params, std::slice::from_ref(&columns))?;
        let system = system::system(cal, psf, &|_, _| 0.0, &segments)?;
        let factored = by_psf(engine, cal, &system, &arc.rate)?;
        all.push((banded.reduced_chi2, factored.reduced_chi2));
    }
    let n = all.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| all.iter().map(pick).sum::<f64>() / n;
    Ok((!all.is_empty()).then(|| Chi2 { banded: mean(|c| c.0), factored: mean(|c| c.1) }))
}

/// The segment in which most lenslets show a wavelength, with those beside it.
fn lit(cal: &LensCal, wavelength: f64) -> Option<Vec<usize>> {
    let segments = cal.mode.nx.div_ceil(SEG);
    let mut spots = vec![0u32; segments];
    let usable = (0..cal.lenslets.len()).filter(|i| cal.lenslets[*i].dq & dq::DO_NOT_USE == 0);
    for x in usable.filter_map(|i| epsf::column(cal, i, wavelength)) {
        spots[(x.max(0.0) as usize / SEG).min(segments - 1)] += 1;
    }
    let most = (0..segments).max_by_key(|s| spots[*s]).filter(|s| spots[*s] > 0)?;
    Some((most.saturating_sub(1)..(most + 2).min(segments)).collect())
}
