//! What extraction takes, of frames with bad pixels and without.

use std::time::Instant;

use super::scene::{Scene, field, small, spoilt};
use super::{FREE, Options, most};
use crate::bench::figure::{Figure, Section};
use crate::config::{Extract, Extraction, Instrument};
use crate::engine::{CpuEngine, Engine};
use crate::error::{Error, Result};
use crate::pipeline::extract::extract;
use crate::pipeline::extract::factored::extract_with;
use crate::pipeline::lenspx::{LensCal, system};
use crate::simulate::psf::{Change, Psf};

/// Seconds of both methods, of the small detector and, if asked for, of the IRIS format.
pub(super) fn time(options: &Options) -> Result<Section> {
    let iris = Instrument::iris()?;
    let mut cases = vec![("small", small(options.rows))];
    if options.full {
        let format = iris.lenslet.formats.get("narrow").cloned();
        let format = format.ok_or_else(|| Error::Config("instrument: no lenslet format 'narrow'".into()))?;
        cases.push(("IRIS, 16 × 128", (format, [4096, 4096])));
    }
    let mut rows = Vec::new();
    for (name, (format, size)) in cases {
        let scene = Scene::new(&format, size, Psf::default());
        let (cal, psf) = scene.exact()?;
        let lights = field(&scene, 200.0, 1000.0);
        let clock = Instant::now();
        let light = scene.light(&lights, &Change::default());
        let simulated = clock.elapsed().as_secs_f64();
        let clean = scene.expose(&light, 3);
        for (frame, every) in [("", 0), (", 1 % bad pixels", 100)] {
            let rate = spoilt(&clean, every);
            let clock = Instant::now();
            let banded = extract(
                &mut CpuEngine::new(4 << 30),
                &rate,
                &cal,
                &Extract { method: Extraction::Banded, ..Extract::default() },
            )?;
            let quick = clock.elapsed().as_secs_f64();
            drop(banded);
            let params = Extract { method: Extraction::Factored, ..Extract::default() };
            let (clock, before) = (Instant::now(), cpu_seconds());
            let with = LensCal { psf: Some(psf.clone()), ..cal.clone() };
            let s = extract(&mut CpuEngine::new(4 << 30), &rate, &with, &params)?;
            let (whole, busy) = (clock.elapsed().as_secs_f64(), cpu_seconds() - before);
            let clock = Instant::now();
            let system = system::system(&cal, &psf, &|_, _| 0.0, &system::all(&cal))?;
            let load = clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            drop(extract_with(&mut CpuEngine::new(4 << 30), &system, &rate, &cal, &params)?);
            let solved = clock.elapsed().as_secs_f64();
            let limit = |t: f64| if options.full && size[0] == 4096 { most(t) } else { FREE };
            let figures = vec![
                Figure::new(simulated, 0.0, FREE),
                Figure::new(quick, 0.0, limit(10.0)),
                Figure::new(whole, 0.0, limit(40.0)),
                Figure::new(busy, 0.0, FREE),
                Figure::new(load, 0.0, FREE),
                Figure::new(solved, 0.0, FREE),
                Figure::new(s.iterations as f64, 0.0, FREE),
                Figure::new(system.coefs.len() as f64 * 4e-9, 0.0, FREE),
            ];
            rows.push((vec![format!("{name}{frame}")], figures));
        }
    }
    let engine = CpuEngine::new(1 << 20);
    Ok(Section {
        name: "time",
        title: "Seconds",
        about: format!(
            "{}. Simulating a frame, extracting it from its rate image; `factored` with flexure, and what it takes of \
             processor time; of it: the kernels out of the calibration, and what remains without flexure.",
            engine.device().name
        ),
        heads: vec!["frame"],
        figures: vec![
            "simulated",
            "banded",
            "factored",
            "processor",
            "kernels",
            "the rest",
            "iterations",
            "kernels, GB",
        ],
        rows,
    })
}

/// This process's processor time, s; 0 where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted after the name's parenthesis: hundredths of a second.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}
