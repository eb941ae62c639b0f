//! Spectra to a cube on one linear wavelength grid, and the subtraction of a sky
//! cube.
//!
//! Flux-conserving: a detector column holds the light between the wavelengths of its
//! edges, spread evenly; channel k takes from column x the share f_kx of the column's
//! wavelength interval that lies in it: C_k = Σ_x f_kx S_x, variance Σ_x f_kx² V_x.
//! The columns' errors are independent, so a voxel's ERR is exact; neighbouring
//! channels share columns and are correlated by [`channel_correlation`] (for sums over
//! channels the variances add up to too little by that). Then both are divided by the
//! lenslet flat, whose own error (FLATERR of the calibration) is not in ERR.

use rayon::prelude::*;

use super::extract::Spectra;
use super::lenspx::legendre::median;
use super::lenspx::{LensCal, Lenslet};
use super::sky_lines::{self, SkyLines};
use crate::config::{CubeBuild, SkySub};
use crate::datamodel::{Cube, dq};
use crate::error::{Error, Result};

/// A channel needs this fraction of its width covered by good samples; what is
/// missing is made up by scaling.
const MIN_COVERAGE: f64 = 0.9;
/// Flags of samples that hold this share of a channel are the channel's.
const TOUCHED: f64 = 0.1;
/// More channels than this are a mistake in `wavelength_step`.
const MAX_CHANNELS: usize = 100_000;

/// The wavelength grid: from the shortest to the longest wavelength of the usable
/// lenslets, in steps of their median dispersion unless `step` is given (µm).
pub fn grid(cal: &LensCal, step: f64) -> Result<(f64, f64, usize)> {
    let usable = || cal.lenslets.iter().filter(|l| l.dq & dq::DO_NOT_USE == 0);
    let width = |l: &Lenslet| (l.wavmax - l.wavmin) / (l.xmax + 1 - l.xmin) as f64;
    let step = if step > 0.0 { step } else { median(usable().map(width).collect()) };
    let low = usable().map(|l| l.wavmin).fold(f64::INFINITY, f64::min);
    let high = usable().map(|l| l.wavmax).fold(f64::NEG_INFINITY, f64::max);
    if !(step > 0.0 && high > low) {
        return Err(Error::reference("lenspx", "has no usable lenslet with wavelengths"));
    }
    let channels = ((high - low) / step).ceil();
    if channels > MAX_CHANNELS as f64 {
        return Err(Error::Config(format!(
            "cube_build.wavelength_step = {step} µm makes {channels} channels; {MAX_CHANNELS} are the most"
        )));
    }
    Ok((low + step / 2.0, step, channels as usize))
}

/// The cube of `spectra`: e-/s a channel, flat-fielded by the lenslets' throughput.
/// Spaxels without a usable lenslet are NaN with NON_SCIENCE and DO_NOT_USE.
pub fn build(spectra: &Spectra, cal: &LensCal, params: &CubeBuild) -> Result<Cube> {
    if spectra.nx != cal.mode.nx || spectra.flux.len() != cal.lenslets.len() * spectra.nx {
        return Err(Error::reference("lenspx", "is not the one that the spectra were extracted with"));
    }
    let (first, step, nw) = grid(cal, params.wavelength_step)?;
    let (nx, ny) = cal.grid();
    let n = nw * ny * nx;
    let mut cube = Cube {
        nx,
        ny,
        nw,
        data: vec![f32::NAN; n],
        err: vec![f32::NAN; n],
        dq: vec![dq::DO_NOT_USE | dq::NON_SCIENCE; n],
        wavelength: (0..nw).map(|k| first + k as f64 * step).collect(),
        var_common: vec![f32::NAN; n],
        sky_err: Vec::new(),
    };
    let columns: Vec<(usize, Vec<Voxel>)> = cal
        .lenslets
        .par_iter()
        .enumerate()
        .filter(|(_, l)| l.dq & dq::DO_NOT_USE == 0)
        .map(|(i, l)| (l.iy as usize * nx + l.ix as usize, rebin(spectra, cal, i, (first, step, nw))))
        .collect();
    for (spaxel, voxels) in columns {
        for (k, v) in voxels.into_iter().enumerate() {
            let at = k * nx * ny + spaxel;
            cube.data[at] = v.value as f32;
            cube.err[at] = v.variance.sqrt() as f32;
            cube.var_common[at] = v.common as f32;
            cube.dq[at] = v.dq;
        }
    }
    Ok(cube)
}

/// A channel of a spaxel on the way.
#[derive(Debug, Clone, Copy, Default)]
struct Voxel {
    value: f64,
    variance: f64,
    common: f64,
    coverage: f64,
    dq: u32,
}

/// Wavelengths of column `x`'s edges, ascending.
fn edges(l: &Lenslet, x: usize) -> (f64, f64) {
    let (a, b) = (l.wavelength(x as f64 - 0.5), l.wavelength(x as f64 + 0.5));
    (a.min(b), a.max(b))
}

fn rebin(spectra: &Spectra, cal: &LensCal, lens: usize, (first, step, nw): (f64, f64, usize)) -> Vec<Voxel> {
    let l = &cal.lenslets[lens];
    let mut out = vec![Voxel::default(); nw];
    for x in l.xmin..=l.xmax {
        let i = lens * spectra.nx + x;
        let (low, high) = edges(l, x);
        let from = ((low - first) / step + 0.5).floor().max(0.0) as usize;
        let to = ((high - first) / step + 0.5).floor().max(0.0) as usize;
        for (k, v) in out.iter_mut().enumerate().take(to + 1).skip(from) {
            let left = first + (k as f64 - 0.5) * step;
            let overlap = high.min(left + step) - low.max(left);
            if overlap <= 0.0 {
                continue;
            }
            if spectra.dq[i] & dq::DO_NOT_USE != 0 || !spectra.flux[i].is_finite() {
                continue;
            }
            let share = overlap / (high - low);
            v.value += share * f64::from(spectra.flux[i]);
            v.variance += share * share * f64::from(spectra.variance[i]);
            // What references left is smooth in wavelength against the columns of a
            // channel only by chance: it adds like the rest.
            v.common += share * share * f64::from(spectra.common[i]);
            v.coverage += overlap / step;
            if overlap > TOUCHED * step {
                v.dq |= spectra.dq[i];
            }
        }
    }
    for (k, v) in out.iter_mut().enumerate() {
        let flat = cal.flat(l, first + k as f64 * step);
        if v.coverage < MIN_COVERAGE || flat <= 0.0 {
            // Beyond the lenslet's own band there is nothing to measure.
            let beyond = v.coverage == 0.0;
            let flags = dq::DO_NOT_USE | if beyond { dq::NON_SCIENCE } else { 0 };
            *v = Voxel { value: f64::NAN, variance: f64::NAN, common: f64::NAN, dq: v.dq | flags, ..*v };
            continue;
        }
        // Coverage beyond 1 is rounding.
        let scale = 1.0 / (flat * v.coverage.min(1.0));
        v.value *= scale;
        v.variance *= scale * scale;
        v.common *= scale * scale;
        v.dq |= l.dq;
    }
    out
}

/// Mean correlation of the errors of neighbouring channels, from the overlaps alone
/// (samples of equal variance).
pub fn channel_correlation(cal: &LensCal, params: &CubeBuild) -> Result<f64> {
    let (first, step, nw) = grid(cal, params.wavelength_step)?;
    let lenslets: Vec<&Lenslet> = cal.lenslets.iter().filter(|l| l.dq & dq::DO_NOT_USE == 0).collect();
    let sums = lenslets.iter().step_by(lenslets.len().div_ceil(64).max(1)).map(|l| {
        let (mut own, mut next) = (vec![0.0; nw], vec![0.0; nw]);
        for x in l.xmin..=l.xmax {
            let (low, high) = edges(l, x);
            let share = |k: usize| {
                let left = first + (k as f64 - 0.5) * step;
                ((high.min(left + step) - low.max(left)) / (high - low)).max(0.0)
            };
            let from = ((low - first) / step + 0.5).floor().max(0.0) as usize;
            let to = (((high - first) / step + 0.5).floor().max(0.0) as usize + 1).min(nw);
            for k in from..to {
                own[k] += share(k) * share(k);
                if k + 1 < nw {
                    next[k] += share(k) * share(k + 1);
                }
            }
        }
        let each = (0..nw.saturating_sub(1)).filter(|&k| own[k] > 0.0 && own[k + 1] > 0.0);
        each.map(|k| (next[k] / (own[k] * own[k + 1]).sqrt(), 1.0)).fold((0.0, 0.0), add)
    });
    let (sum, n) = sums.fold((0.0, 0.0), add);
    Ok(if n > 0.0 { sum / n } else { 0.0 })
}

fn add(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0 + b.0, a.1 + b.1)
}

/// `cube` − scale · `sky`, in place. Errors add in quadrature; where both were
/// calibrated with the same references (`shared`), the references' part cancels as
/// it does in the data: (√c − scale √c_sky)². Flags are those of both; what the sky
/// does not know is NaN. What remains shared with other cubes less the same sky is
/// kept in `var_common`. With `oh_scaling` the sky's lines are first fitted to the
/// cube's ([`sky_lines`]): what was found is returned, `None` where nothing was.
pub fn sky_sub(cube: &mut Cube, sky: &Cube, params: &SkySub, shared: bool) -> Result<Option<SkyLines>> {
    let same_size = (cube.nx, cube.ny, cube.nw) == (sky.nx, sky.ny, sky.nw);
    if !same_size {
        return Err(Error::reference(
            "sky",
            format!(
                "has {} × {} spaxels and {} channels, the cube {} × {} and {}; \
                 build both with the same LEN-SPX calibration and cube_build parameters",
                sky.nx, sky.ny, sky.nw, cube.nx, cube.ny, cube.nw
            ),
        ));
    }
    let step = if cube.nw > 1 { (cube.wavelength[1] - cube.wavelength[0]).abs() } else { 1e-3 };
    let differ = |(a, b): (&f64, &f64)| (a - b).abs() > 0.01 * step;
    if cube.wavelength.iter().zip(&sky.wavelength).any(differ) {
        return Err(Error::reference(
            "sky",
            "has other wavelengths than the cube; build both with the same LEN-SPX calibration",
        ));
    }
    let lines = if params.oh_scaling { sky_lines::fit(cube, sky, params.scale) } else { None };
    let scaled = lines.as_ref().map(|l| scaled(sky, l, params.scale));
    let plane = (cube.nx * cube.ny).max(1);
    let part = |plane: &[f32], i: usize| plane.get(i).copied().filter(|v| *v > 0.0).unwrap_or(0.0);
    let mut common = vec![0.0; cube.data.len()];
    for (i, shared_part) in common.iter_mut().enumerate() {
        cube.dq[i] |= sky.dq[i];
        let on_line = lines.as_ref().filter(|l| l.line[i / plane]);
        let s = on_line.map_or(params.scale, |l| l.gain[i / plane]) as f32;
        let (ca, cb) = (part(&cube.var_common, i), part(&sky.var_common, i));
        let (va, vb) = (cube.err[i] * cube.err[i], s * s * sky.err[i] * sky.err[i]);
        let left = if shared { (ca.sqrt() - s * cb.sqrt()).powi(2) } else { ca + s * s * cb };
        let own_sky = (vb - s * s * cb).max(0.0);
        cube.data[i] -= scaled.as_ref().map_or(s * sky.data[i], |v| v[i]);
        cube.err[i] = ((va - ca).max(0.0) + own_sky + left).sqrt();
        *shared_part = own_sky + left;
        if !cube.data[i].is_finite() || !cube.err[i].is_finite() {
            (cube.data[i], cube.err[i], *shared_part) = (f32::NAN, f32::NAN, f32::NAN);
            cube.dq[i] |= dq::DO_NOT_USE;
        }
    }
    cube.var_common = common;
    if let Some(lines) = &lines {
        cube.sky_err = lines.error.iter().map(|e| *e as f32).collect();
    }
    Ok(lines)
}

/// `sky` with its lines as the cube has them, spaxel by spaxel.
fn scaled(sky: &Cube, lines: &SkyLines, scale: f64) -> Vec<f32> {
    let plane = sky.nx * sky.ny;
    let spectra: Vec<Vec<f64>> = (0..plane)
        .into_par_iter()
        .map(|s| {
            let mut spectrum: Vec<f64> = (0..sky.nw).map(|k| f64::from(sky.data[k * plane + s])).collect();
            lines.apply(&mut spectrum, scale);
            spectrum
        })
        .collect();
    (0..sky.data.len()).map(|i| spectra[i % plane][i / plane] as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(data: f32, err: f32, common: f32, dq: u32) -> Cube {
        Cube {
            nx: 1,
            ny: 1,
            nw: 1,
            data: vec![data],
            err: vec![err],
            dq: vec![dq],
            wavelength: vec![1.6],
            var_common: vec![common],
            sky_err: Vec::new(),
        }
    }

    #[test]
    fn what_is_shared_cancels() {
        let by = SkySub { scale: 2.0, ..SkySub::default() };
        for (shared, variance) in [(false, 9.0 + 4.0 * 5.0), (true, 8.0 + 4.0 * 4.0 + 1.0)] {
            let mut c = one(10.0, 3.0, 1.0, 4);
            sky_sub(&mut c, &one(3.0, 5f32.sqrt(), 1.0, 16), &by, shared).expect("sky_sub");
            assert_eq!((c.data[0], c.dq[0]), (4.0, 20));
            assert!((c.err[0].powi(2) - variance).abs() < 1e-4, "{shared}: {}", c.err[0].powi(2));
        }
        let mut c = one(10.0, 3.0, 1.0, 0);
        sky_sub(&mut c, &one(f32::NAN, f32::NAN, f32::NAN, 1), &by, true).expect("sky_sub");
        assert!(c.data[0].is_nan() && c.err[0].is_nan() && c.dq[0] == 1);
    }
}
