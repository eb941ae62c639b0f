//! Exposing a night: light, readout, files, one exposure after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::config::{Block, Given, NightConfig};
use super::imager::ImagerScene;
use super::lenslet::Lenslet;
use super::physics::Maps;
use super::plan::{Exposure, Lamp, exposures};
use super::psf::Change;
use super::ramp::{Readout, Timing};
use super::spectra::{Light, density, frame};
use super::truth::{self, Extra, Finished};
use super::{header, references};
use crate::config::Instrument;
use crate::error::{Error, Result};
use crate::fits::{FitsWriter, Header, Pixels};

/// A night being exposed: what stays from one exposure to the next.
struct Observatory<'a> {
    night: &'a NightConfig,
    instrument: Instrument,
    raw: PathBuf,
    truth: Option<PathBuf>,
    lenslets: Vec<Lenslet>,
    /// The maps of the detector exposed last (they are big; nights go detector by detector).
    maps: Option<(String, Maps)>,
    /// Detectors whose references are written.
    referenced: Vec<String>,
}

/// Simulates `config` into `dir/night`, `dir/night/refs` and `dir/truth`; `progress`
/// is told a line an exposure.
pub fn night(config: &NightConfig, dir: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<()> {
    config.check()?;
    let mut o = Observatory::new(config, dir.join("night"), Some(dir.join("truth")))?;
    let all = exposures(config);
    for e in &all {
        progress(&format!("{:>3}/{} {:<8} {}", e.number + 1, all.len(), e.obsname(), e.file_name(config)));
        o.expose(e)?;
    }
    if let (Some(dir), true) = (&o.truth, all.iter().any(Exposure::is_lenslet)) {
        truth::write_lenslets(dir, config, &o.lenslets)?;
    }
    Ok(())
}

/// One IMG1 science ramp of `size` (columns, rows) with every reference, dark and
/// flat included, in `dir` and `dir/refs`; without truth. For benchmarks and large
/// tests. Returns the ramp's path.
pub fn ramp_file(dir: &Path, size: [usize; 2], ramps: usize, reads: usize, seed: u64) -> Result<PathBuf> {
    let megapixels = (size[0] * size[1]) as f64 / 1e6;
    let config = NightConfig {
        seed,
        frame: size,
        given: BTreeMap::from([("IMG1".into(), vec![Given::Dark, Given::Flat])]),
        imager: ImagerScene { stars: (200.0 * megapixels) as usize, ..ImagerScene::default() },
        exposures: vec![Block { ramps, reads, ..Block::default() }],
        ..NightConfig::default()
    };
    config.check()?;
    let mut o = Observatory::new(&config, dir.to_path_buf(), None)?;
    let mut path = dir.to_path_buf();
    for e in exposures(&config) {
        path = o.expose(&e)?;
    }
    Ok(path)
}

impl<'a> Observatory<'a> {
    fn new(night: &'a NightConfig, raw: PathBuf, truth: Option<PathBuf>) -> Result<Observatory<'a>> {
        let lenslets = night.lenslet.lenslets(night.frame, night.seed);
        let instrument = Instrument::iris()?;
        Ok(Observatory { night, instrument, raw, truth, lenslets, maps: None, referenced: Vec::new() })
    }

    /// The maps of `detector`, from the last exposure or new; references on first use.
    fn maps(&mut self, detector: &str) -> Result<Maps> {
        if let Some((name, maps)) = self.maps.take()
            && name == detector
        {
            return Ok(maps);
        }
        let unknown = || Error::Config(format!("exposures: {}", self.instrument.no_detector(detector)));
        let d = self.instrument.detector(detector).ok_or_else(unknown)?;
        let which = self.number(detector);
        let [nx, ny] = self.night.frame;
        let physics = self.night.physics_of(detector);
        let maps = Maps::new(physics, d.amplifiers, d.reference_border, [nx, ny], self.night.seed, which);
        if !self.referenced.iter().any(|n| n == detector) {
            let refs = self.raw.join("refs");
            references::write(self.night, &self.instrument, detector, which, &maps, &refs)?;
            if let Some(dir) = &self.truth {
                truth::write_masters(dir, detector, &maps)?;
            }
            self.referenced.push(detector.to_owned());
        }
        Ok(maps)
    }

    /// A detector's number, which seeds its maps.
    fn number(&self, detector: &str) -> usize {
        self.instrument.detectors.keys().position(|n| n == detector).unwrap_or(0)
    }

    /// Exposes, reads and writes; returns the raw file's path.
    fn expose(&mut self, e: &Exposure) -> Result<PathBuf> {
        let maps = self.maps(&e.block.detector)?;
        let path = self.raw.join(e.file_name(self.night));
        self.write(e, &maps, &path)?;
        self.maps = Some((e.block.detector.clone(), maps));
        Ok(path)
    }

    fn write(&self, e: &Exposure, maps: &Maps, path: &Path) -> Result<()> {
        let wcs = header::wcs(self.night, &self.instrument, e, e.pointing);
        let (light, extra) = if e.is_lenslet() { self.lenslet(e) } else { self.imager(e) };
        let mut rate = maps.dark.clone();
        if !light.is_empty() {
            rate.par_iter_mut().zip(&light).zip(&maps.flat).for_each(|((r, l), f)| *r += l * f);
        }
        drop(light);
        let b = &e.block;
        let timing = Timing { ramps: b.ramps, reads: b.reads, read_time: b.read_time };
        let physics = self.night.physics_of(&b.detector);
        let primary = header::raw(self.night, &self.instrument, e);
        let mut readout = Readout::new(physics, maps, &rate, &timing, self.night.seed, e.number);
        let mut w = FitsWriter::create(path)?;
        w.empty("PRIMARY", &primary)?;
        let mut h = Header::new();
        h.set("BUNIT", "DN", "");
        let shape = [b.ramps, b.reads, maps.ny, maps.nx];
        w.image_u16_by_plane("DATA", &h, &shape, |plane, out| readout.read(plane, out))?;
        let mut h = Header::new();
        h.set("BUNIT", "s", "since the ramp's reset");
        w.image("TIMES", &h, &[b.ramps, b.reads], Pixels::F64(&timing.times()))?;
        w.finish()?;
        let (Some(dir), Some(stem)) = (&self.truth, path.file_stem()) else { return Ok(()) };
        let finished = Finished {
            night: self.night,
            header: &primary,
            maps,
            rate: &rate,
            readout: &readout,
            ramps: b.ramps,
            reads: b.reads,
            wcs: &wcs,
        };
        truth::write(&dir.join(format!("{}_truth.fits", stem.to_string_lossy())), &finished, &extra)
    }

    /// The imager's light (ny, nx) where the flat is 1; empty for none.
    fn imager(&self, e: &Exposure) -> (Vec<f32>, Extra) {
        let (scene, size) = (&self.night.imager, self.night.frame);
        let even = |level: f64| (vec![level as f32; size[0] * size[1]], level as f32);
        match e.lamp {
            Lamp::Flat | Lamp::Sky => {
                let level =
                    if e.lamp == Lamp::Flat { scene.lamp * e.block.lamp } else { scene.sky * e.block.sky };
                let (light, sky) = even(level);
                let none = vec![0.0; light.len()];
                (light, Extra::Imager { scene: none, sky, stars: Vec::new() })
            }
            Lamp::Science => {
                let wcs = header::wcs(self.night, &self.instrument, e, e.pointing);
                let nominal = header::wcs(self.night, &self.instrument, e, self.night.pointing);
                let stars = scene.stars(&nominal, size, self.night.seed, self.number(&e.block.detector));
                let sources = scene.sources(&wcs, &nominal, &stars, size, e.block.detector == "IMG1");
                let sky = (scene.sky * e.block.sky) as f32;
                let light = sources.iter().map(|s| s + sky).collect();
                (light, Extra::Imager { scene: sources, sky, stars })
            }
            _ => (Vec::new(), Extra::None),
        }
    }

    /// The lenslet spectrograph's light (ny, nx); empty for none.
    fn lenslet(&self, e: &Exposure) -> (Vec<f32>, Extra) {
        let (c, size) = (&self.night.lenslet, self.night.frame);
        let wcs = header::wcs(self.night, &self.instrument, e, e.pointing);
        let nominal = header::wcs(self.night, &self.instrument, e, self.night.pointing);
        let on_sky = matches!(e.lamp, Lamp::Sky | Lamp::Science);
        let sky = if on_sky { c.field.sky(e.block.sky, c.wave) } else { Light::default() };
        let own = |l: &Lenslet| match &e.lamp {
            Lamp::Science => c.field.targets(c, &wcs, &nominal, l.ix, l.iy),
            Lamp::Point(place) => c.field.point(c, *place, l.ix, l.iy),
            Lamp::White(column) if *column == l.ix => Light { continuum: c.field.white, ..Light::default() },
            Lamp::Lines(lines, _) => Light { lines: lines.clone(), ..Light::default() },
            _ => Light::default(),
        };
        if e.lamp == Lamp::Dark {
            return (Vec::new(), Extra::None);
        }
        let hours = (e.jd - self.night.start_jd) * 24.0 + e.exptime() / 7200.0;
        let moved: Vec<Lenslet> = self.lenslets.iter().map(|l| l.moved(c.drift.map(|d| d * hours))).collect();
        let targets: Vec<Light> = moved.iter().map(own).collect();
        let lights: Vec<Light> = targets.iter().map(|t| t.plus(&sky)).collect();
        let change = if on_sky { c.science.clone() } else { Change::default() };
        let (image, spectra) = frame(c, &moved, &lights, size, &change);
        let cubes = (on_sky && self.truth.is_some()).then(|| {
            let same_sky = vec![sky; self.lenslets.len()];
            [self.cube(&targets), self.cube(&same_sky)]
        });
        (image, Extra::Lenslet { spectra, cubes })
    }

    /// (nw, iy, ix) density of a light on each lenslet.
    fn cube(&self, lights: &[Light]) -> Vec<f32> {
        let waves = truth::waves(self.night);
        let spectra: Vec<Vec<f32>> = self
            .lenslets
            .par_iter()
            .zip(lights)
            .map(|(l, light)| density(&self.night.lenslet, l, light, &waves))
            .collect();
        (0..waves.len()).flat_map(|w| spectra.iter().map(move |s| s[w])).collect()
    }
}
