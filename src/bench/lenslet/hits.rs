//! Which of the pixels that something hit are rejected, and which others.

use super::scene::{NOISE, field};
use super::{Bench, FREE, Figure, Moments, Section, Solver, planes, spectra};
use crate::error::Result;
use crate::pipeline::lenspx::noise::Noise;
use crate::simulate::philox::{Purpose, Source};
use crate::simulate::psf::Change;

/// What hits add, σ of their pixel.
const STRONG: [f64; 4] = [8.0, 15.0, 50.0, 1000.0];
/// One pixel in so many is hit.
const RARE: u32 = 200;

impl Bench {
    /// Completeness of the rejection, and what it costs pixels that nothing hit.
    pub(super) fn rejection(&self) -> Result<Section> {
        let mut rows = Vec::new();
        for (name, level, line) in [("30 e- a pixel", 60.0, 100.0), ("1000 e-", 2000.0, 20_000.0)] {
            let lights = field(&self.scene, level, line);
            let light = self.scene.light(&lights, &Change::default());
            let truth = self.scene.truth(&self.cal, &self.psf, &lights, 0.0);
            let mut rate = self.scene.expose(&light, 21);
            let source = Source::new(21, Purpose::Pixel, 78);
            let hit = |i: usize| -> Option<usize> {
                let w = source.block((i % rate.nx) as u32, (i / rate.nx) as u32, 0);
                w[0].is_multiple_of(RARE).then_some(w[1] as usize % STRONG.len())
            };
            let hits: Vec<Option<usize>> = (0..light.len()).map(hit).collect();
            for (i, k) in hits.iter().enumerate() {
                if let Some(k) = k {
                    let sigma = (NOISE * NOISE + f64::from(light[i])).sqrt();
                    rate.data[i] += (STRONG[*k] * sigma) as f32;
                }
            }
            let noise = Noise::of(&rate)?;
            let images = planes(&self.system, &rate, &noise);
            let options = Solver { factor: noise.factor, ..Solver::default() };
            let own = self.fit(&images, &options)?;
            let weight = self.system.to_rows(&own.weight, 0.0);
            let (mut found, mut all) = ([0.0; STRONG.len()], [0.0; STRONG.len()]);
            let (mut innocent, mut others) = (0.0, 0.0);
            for (w, k) in weight.iter().zip(&hits).filter(|(w, _)| **w != 0.0) {
                let rejected = f64::from(u8::from(*w < 0.0));
                if let Some(k) = k {
                    all[*k] += 1.0;
                    found[*k] += rejected;
                } else {
                    others += 1.0;
                    innocent += rejected;
                }
            }
            let s = spectra(&self.system, &rate, &self.cal, &images, &own);
            let (mut pulls, mut far, mut kept, mut samples) = (Moments::default(), 0.0, 0.0, 0.0);
            self.inside(&s, &mut |i, _, _| {
                samples += 1.0;
                if s.flux[i].is_finite() {
                    let pull = f64::from(s.flux[i] - truth[i]) / f64::from(s.variance[i]).sqrt();
                    kept += 1.0;
                    far += f64::from(u8::from(pull.abs() > 6.0));
                    pulls.add(pull);
                }
            });
            let mut figures: Vec<Figure> =
                found.iter().zip(all).map(|(f, n)| Figure::new(f / n, 0.5 / n, FREE)).collect();
            figures.extend([
                Figure::new(innocent / others, 0.0, FREE),
                Figure::new(pulls.rms(), pulls.rms() / (2.0 * pulls.n).sqrt(), FREE),
                Figure::new(far / kept, 0.0, FREE),
                Figure::new(kept / samples, 0.0, FREE),
            ]);
            rows.push((vec![name.into()], figures));
        }
        Ok(Section {
            name: "rejection",
            title: "Rejected pixels",
            about: format!(
                "One pixel in {RARE} has 8, 15, 50 or 1000 σ added. The part of each that is rejected; of the pixels \
                 without a hit, the part that is rejected; the samples' pulls, the part beyond 6 σ, and the part that \
                 has a value."
            ),
            heads: vec!["frame"],
            figures: vec!["8 σ", "15 σ", "50 σ", "1000 σ", "false", "pulls", "beyond 6 σ", "used"],
            rows,
        })
    }
}
