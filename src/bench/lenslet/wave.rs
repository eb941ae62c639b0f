//! Wavelengths and dispersion against their truth.

use super::scene::{Scene, lines};
use super::{FREE, most};
use crate::bench::figure::{Figure, Section};
use crate::config::{CubeBuild, Extract, Extraction, LensletFormat};
use crate::datamodel::lines::of_lamps;
use crate::engine::CpuEngine;
use crate::error::{Error, Result};
use crate::pipeline::cube;
use crate::pipeline::extract::extract;
use crate::pipeline::lenspx::LensCal;
use crate::pipeline::lenspx::legendre::{unit, value};
use crate::pipeline::wavelength::solve::{self, ArcSpectra};
use crate::pipeline::wavelength::{Dispersion, oh};
use crate::simulate::psf::{Change, Psf};
use crate::simulate::{LensletConfig, Light};

/// Measures the section `wavelength`.
pub(super) fn wavelength(format: &LensletFormat, size: [usize; 2]) -> Result<Section> {
    let mut rows = Vec::new();
    // An even line-spread function: what an uneven one shifts, it shifts alike in arcs of all
    // times and in the sky.
    let even = Psf { asymmetry: [0.0; 2], ..Psf::default() };
    let scene = Scene::new(format, size, even);
    let (cal, psf) = scene.exact()?;
    let cal = LensCal { psf: Some(psf), ..cal };
    for (name, flux, seed, method) in [
        ("arcs, 20 000 e- a line", 2e4, 41, Extraction::Factored),
        ("arcs, 2000 e- a line", 2e3, 42, Extraction::Factored),
        ("arcs, 20 000 e- a line, banded", 2e4, 41, Extraction::Banded),
    ] {
        let [rms, worst] = held_out(&scene, &cal, flux, seed, method)?;
        let target = if method == Extraction::Factored { most(0.02) } else { FREE };
        rows.push((vec![name.into()], vec![Figure::new(rms, 0.0, target), Figure::new(worst, 0.0, FREE)]));
    }
    for (name, columns, brightness, seed) in [
        ("sky, where it should be", 0.0, 1.0, 51),
        ("sky, 0.37 columns off", 0.37, 1.0, 52),
        ("sky, 5.2 columns off, a tenth as bright", 5.2, 0.1, 53),
    ] {
        let [off, error] = zero_point(&scene, &cal, columns, brightness, seed)?;
        rows.push((
            vec![name.into()],
            vec![Figure::new(off.abs(), error, most(0.02)), Figure::new(off.abs(), 0.0, FREE)],
        ));
    }
    let [rms, worst] = dispersion(format, size)?;
    rows.push((
        vec!["dispersion, spaxels".into()],
        vec![Figure::new(rms, 0.0, most(0.02)), Figure::new(worst, 0.0, FREE)],
    ));
    Ok(Section {
        name: "wavelength",
        title: "Wavelengths and dispersion",
        about: "Columns, channels and spaxels from the truth. Arcs of Ar, Kr and Xe of spectra that have moved by 0.43 \
                columns and stretched by 3e-4 since the LEN-SPX calibration; every third line is left out of the \
                solution and told where it is by that: rms over spaxels and lines, and the farthest; factored, as the \
                recipe does it where the PSF is known (column by column a tilted PSF moves lines). Sky, banded: the \
                zero point of OH lines on a continuum, with its error. Dispersion: a point source of 60 000 e- a channel \
                in one exposure that moves by 0.8 and 0.5 spaxels over the band."
            .into(),
        heads: vec!["what"],
        figures: vec!["rms", "farthest"],
        rows,
    })
}

/// The scene's spectra moved by columns and stretched about their middles.
fn moved(scene: &Scene, columns: f64, stretch: f64) -> Scene {
    let lenslets = scene.lenslets.iter().map(|l| {
        let mut l = l.moved([columns, 0.0]);
        l.x[1] *= 1.0 + stretch;
        l
    });
    Scene { config: scene.config.clone(), lenslets: lenslets.collect(), size: scene.size }
}

/// Rms and farthest of held-out lines, columns.
fn held_out(scene: &Scene, cal: &LensCal, flux: f64, seed: u64, method: Extraction) -> Result<[f64; 2]> {
    let now = moved(scene, 0.43, 3e-4);
    let [low, high] = scene.config.wave;
    let inside = 0.02 * (high - low);
    let mut all = of_lamps("ArKrXe");
    all.retain(|l| (low + inside..high - inside).contains(&l.wavelength));
    let brightest = all.iter().map(|l| l.brightness).fold(0.0, f64::max);
    // No lamp's faint lines: what is measured is the solution.
    let lit: Vec<f64> =
        all.iter().filter(|l| l.brightness > 0.05 * brightest).map(|l| l.wavelength).collect();
    let rate = now.expose(&now.light(&lines(&now, &lit, flux, |_| true), &Change::default()), seed);
    let params = Extract { method, rejection_threshold: 0.0, flexure: false, ..Extract::default() };
    let spectra = extract(&mut CpuEngine::new(4 << 30), &rate, cal, &params)?;
    let held = |k: usize| k % 3 == 1;
    let own = lit.iter().enumerate().filter(|(k, _)| !held(*k)).map(|(_, w)| *w).collect();
    let (map, _) = solve::wavemap(cal, &[ArcSpectra { wavelengths: own, spectra }], 3)?;
    let (mut n, mut square, mut worst) = (0.0, 0.0, 0f64);
    for (s, l) in map.spaxels.iter().zip(&now.lenslets) {
        for (_, w) in lit.iter().enumerate().filter(|(k, _)| held(*k)) {
            let told = value(&s.wave, unit(l.column(*w), s.xmin as f64, s.xmax as f64));
            let off = (told - w) * l.slope(*w);
            n += 1.0;
            square += off * off;
            worst = worst.max(off.abs());
        }
    }
    Ok([(square / f64::max(n, 1.0)).sqrt(), worst])
}

/// The zero point less the truth, and its error, channels.
fn zero_point(scene: &Scene, cal: &LensCal, columns: f64, brightness: f64, seed: u64) -> Result<[f64; 2]> {
    let now = moved(scene, columns, 0.0);
    let c = &scene.config;
    let mut field = c.field.clone();
    field.oh *= 50.0;
    field.sky_continuum *= 20.0;
    let light = field.sky(brightness, c.wave);
    let lights: Vec<Light> = now.lenslets.iter().map(|_| light.clone()).collect();
    let rate = now.expose(&now.light(&lights, &Change::default()), seed);
    let spectra = extract(&mut CpuEngine::new(4 << 30), &rate, cal, &Extract::default())?;
    let cube = cube::build(&spectra, cal, &CubeBuild::default())?;
    let channel = cube.wavelength[1] - cube.wavelength[0];
    let zero =
        oh::measure(&cube).ok_or_else(|| Error::Unsolvable("the simulated sky shows no OH lines".into()))?;
    // Where the calibration puts the middle of the band, over all spaxels.
    let middle = f64::midpoint(c.wave[0], c.wave[1]);
    let off = cal
        .lenslets
        .iter()
        .zip(&now.lenslets)
        .map(|(l, n)| (l.wavelength(n.column(middle)) - middle) / channel);
    let truth = off.sum::<f64>() / cal.lenslets.len() as f64;
    Ok([zero.shift - truth, zero.error])
}

/// Rms and farthest of the offsets over the band, spaxels.
fn dispersion(format: &LensletFormat, size: [usize; 2]) -> Result<[f64; 2]> {
    let mut scene = Scene::new(format, size, Psf::default());
    scene.config = LensletConfig {
        dispersion_x: vec![0.4, 0.05, -0.02],
        dispersion_y: vec![-0.25, 0.03],
        ..scene.config
    };
    let c = &scene.config;
    let (cal, _) = scene.exact()?;
    let mut field = c.field.clone();
    field.seeing = 2.0 * c.scale;
    field.point = 6e4 * c.span / (c.wave[1] - c.wave[0]);
    let lights: Vec<Light> = scene.lenslets.iter().map(|l| field.point(c, [0.3, -0.2], l.ix, l.iy)).collect();
    let rate = scene.expose(&scene.light(&lights, &Change::default()), 61);
    let spectra = extract(&mut CpuEngine::new(4 << 30), &rate, &cal, &Extract::default())?;
    let cube = cube::build(&spectra, &cal, &CubeBuild::default())?;
    let (found, _) = Dispersion::fit(std::slice::from_ref(&cube), &cal.mode, 3)?;
    let middle = c.dispersion(f64::midpoint(found.range.0, found.range.1));
    let (mut n, mut square, mut worst) = (0.0, 0.0, 0f64);
    for w in &cube.wavelength {
        let (a, b) = (found.offset(*w), c.dispersion(*w));
        for k in [0, 1] {
            let off = a[k] - (b[k] - middle[k]);
            n += 1.0;
            square += off * off;
            worst = worst.max(off.abs());
        }
    }
    Ok([(square / f64::max(n, 1.0)).sqrt(), worst])
}
