//! How much of a lit spectrum's light extraction gives to the dark ones beside it.
//!
//! A white-light scan lights one lenslet column; what the others get is what the model
//! (trace, width, PSF) has wrong, and scattered light. Measured in blocks of columns, as
//! the median over a block of flux in the dark spectrum ÷ flux in the lit one, so that
//! neither noise nor a hit counts for much; a pair's leak is the median of its blocks'
//! sizes, whatever their sign. A few scans, and of each a few blocks across the detector,
//! are enough: errors of the model change slowly.

use std::collections::BTreeMap;
use std::ops::Range;

use super::noise::Noise;
use super::{LensCal, Scan, legendre, system};
use crate::config::{Extract, Extraction};
use crate::datamodel::{Rate, dq};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kernels::factored::{Options, SEG, System};
use crate::pipeline::extract::{Spectra, banded_of, factored, flexure};

/// Scans that are looked at, column by column and on the two-dimensional model, which
/// takes ten times as long.
const SCANS: [usize; 2] = [4, 2];
/// The two-dimensional model is solved no better than this part of the noise: what counts
/// here is a part of the light.
const TOLERANCE: f64 = 0.02;
/// Least number of columns that tell in a block of [`SEG`].
const COLUMNS: usize = 16;
/// A lit spectrum stands out of its noise by so much in a column.
const BRIGHT: f32 = 10.0;
/// Dark spectra further away than this (rows) get no light of the lit one's core.
const REACH: f64 = 8.0;
/// A leak that is worth a warning.
pub const MUCH: f64 = 0.01;

/// Parts of a lit spectrum's light in the nearest dark spectrum above or below.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Leak {
    /// The largest of all pairs.
    pub largest: f64,
    /// The median.
    pub median: f64,
    /// What noise alone makes of one block, 1 σ (median). Values below it are noise.
    pub error: f64,
}

impl LensCal {
    /// A sentence on spectra extracted by `method`, where their leak is worth one.
    pub fn leak_warning(&self, method: Extraction) -> Option<String> {
        let leak = self.leak_of(method).filter(|l| l.largest > MUCH.max(3.0 * l.error))?;
        let word = self.method(method).word();
        let better = self.leak_factored.filter(|f| f.largest < 0.5 * leak.largest);
        let better = better.map_or(String::new(), |f| {
            format!("; with extract.method = factored {:.2} %", 100.0 * f.largest)
        });
        Some(format!(
            "the spectra's neighbours show up to {:.1} % of each other's light, {:.1} % typically (LEN-SPX scans, \
             extract.method = {word}){better}",
            100.0 * leak.largest,
            100.0 * leak.median,
        ))
    }
}

/// The leak of `method` with this calibration in some of `scans`; `None` where no pair of
/// a lit and a dark spectrum tells (all lenslets in one column), or where the calibration
/// has no PSF for `factored`.
pub fn measure(
    engine: &mut dyn Engine,
    cal: &LensCal,
    scans: &[&Scan],
    method: Extraction,
) -> Result<Option<Leak>> {
    let first = scans.iter().map(|s| s.lenscol).min().unwrap_or(0);
    let segments = flexure::chosen(cal.mode.nx.div_ceil(SEG));
    let blocks: Vec<_> = segments.iter().map(|s| s * SEG..((s + 1) * SEG).min(cal.mode.nx)).collect();
    // Nothing is rejected: what a wrong model leaves must not be taken for hits.
    let params = Extract { method, rejection_threshold: 0.0, flexure: false, ..Extract::default() };
    let model = match (method, &cal.psf) {
        (Extraction::Factored, None) => return Ok(None),
        (Extraction::Factored, Some(psf)) => Some(system::system(cal, psf, &|_, _| 0.0, &segments)?),
        _ => None,
    };
    let mut pairs: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
    for scan in some(scans, SCANS[usize::from(model.is_some())]) {
        if (scan.rate.nx, scan.rate.ny) != (cal.mode.nx, cal.mode.ny) {
            return Err(Error::Unsolvable("LEN-SPX: a scan of another size than its calibration".into()));
        }
        let spectra = match &model {
            Some(system) => by_psf(engine, cal, system, &scan.rate)?,
            None => banded_of(engine, &scan.rate, cal, &params, &blocks)?,
        };
        for block in &blocks {
            look(cal, &spectra, scan.lenscol - first, block, &mut pairs);
        }
    }
    let of = |pair: &[(f64, f64)]| legendre::median(pair.iter().map(|b| b.0.abs()).collect());
    let leaks: Vec<f64> = pairs.values().map(|p| of(p)).collect();
    let error = legendre::median(pairs.values().flatten().map(|b| b.1).collect());
    let largest = leaks.iter().copied().fold(0.0, f64::max);
    Ok((!leaks.is_empty()).then(|| Leak { largest, median: legendre::median(leaks), error }))
}

/// A frame in the segments of `system`, but for the columns at their edges, without
/// rejection.
pub(super) fn by_psf(
    engine: &mut dyn Engine,
    cal: &LensCal,
    system: &System,
    rate: &Rate,
) -> Result<Spectra> {
    let noise = Noise::of(rate)?;
    let mut planes = factored::planes(system, rate, &noise);
    flexure::fence(system, &mut planes);
    let options =
        Options { factor: noise.factor, threshold: 0.0, tolerance: TOLERANCE, ..Options::default() };
    factored::extract_planes(engine, system, &planes, (rate, cal), &options)
}

/// A few of the frames, evenly.
pub(super) fn some<'a, T>(frames: &[&'a T], most: usize) -> Vec<&'a T> {
    let n = frames.len();
    let wanted = n.min(most);
    (0..wanted).map(|k| frames[(2 * k + 1) * n / (2 * wanted)]).collect()
}

/// Adds a block's pairs: flux ratio and its error, by lit and dark lenslet.
fn look(
    cal: &LensCal,
    spectra: &Spectra,
    lit: i32,
    block: &Range<usize>,
    pairs: &mut BTreeMap<(usize, usize), Vec<(f64, f64)>>,
) {
    let middle = f64::midpoint(block.start as f64, block.end as f64 - 1.0);
    let crosses = |i: &usize| {
        let l = &cal.lenslets[*i];
        l.dq & dq::DO_NOT_USE == 0 && (l.xmin as f64..=l.xmax as f64).contains(&middle)
    };
    let mut order: Vec<usize> = (0..cal.lenslets.len()).filter(crosses).collect();
    order.sort_by(|a, b| cal.lenslets[*a].y(middle).total_cmp(&cal.lenslets[*b].y(middle)));
    for pair in order.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let is_lit = |i: usize| cal.lenslets[i].ix == lit;
        let (bright, dark) = match (is_lit(a), is_lit(b)) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => continue,
        };
        if (cal.lenslets[a].y(middle) - cal.lenslets[b].y(middle)).abs() > REACH {
            continue;
        }
        let (mut ratios, mut errors) = (Vec::new(), Vec::new());
        for x in block.clone() {
            let [i, j] = [bright, dark].map(|l| l * spectra.nx + x);
            let known = [i, j].iter().all(|k| spectra.flux[*k].is_finite() && spectra.variance[*k] > 0.0);
            if known && spectra.flux[i] > BRIGHT * spectra.variance[i].sqrt() {
                ratios.push(f64::from(spectra.flux[j] / spectra.flux[i]));
                errors.push(f64::from(spectra.variance[j].sqrt() / spectra.flux[i]));
            }
        }
        let n = ratios.len();
        if n >= COLUMNS {
            // A median scatters √(π/2) times as much as a mean.
            let error = std::f64::consts::FRAC_PI_2.sqrt() * legendre::median(errors) / (n as f64).sqrt();
            pairs.entry((bright, dark)).or_default().push((legendre::median(ratios), error));
        }
    }
}
