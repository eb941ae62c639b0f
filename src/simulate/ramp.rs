//! A ramp forwards, read by read: photons, dark current, cosmic rays, reset
//! noise, non-linearity, saturation, bias, drifts, read noise, digitisation.
//!
//! The chain, per pixel and read k of a ramp (Q electrons since reset):
//! Q += Poisson(rate · Δt) + hits; capacitance shares Q with the neighbours;
//! y = kTC/g + Q/g; x from y = x + c₂x² + c₃x³,
//! stopped at 1.03 × saturation − bias; raw = round(bias + x + drift + noise),
//! kept in 0 … 65535. So linearity of (raw − bias − drift) gives back y exactly.
//! One read is in memory at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::cosmic::{Hit, hits, of_row};
use super::philox::{Purpose, Source};
use super::physics::{Maps, Physics, amplifier, plane};
use super::random::{normal, poisson, unit};
use crate::datamodel::dq;
use crate::error::Result;

/// What is read: timing, and the numbers that seed it.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Ramps (resets).
    pub ramps: usize,
    /// Reads a ramp.
    pub reads: usize,
    /// Seconds from read to read; the first is one such time after the reset.
    pub read_time: f64,
}

impl Timing {
    /// TIMES: (ramps, reads), seconds since the ramp's reset.
    pub fn times(&self) -> Vec<f64> {
        (0..self.ramps).flat_map(|_| (1..=self.reads).map(|k| k as f64 * self.read_time)).collect()
    }

    /// Seconds from reset to the last read of a ramp.
    pub fn exptime(&self) -> f64 {
        self.reads as f64 * self.read_time
    }
}

/// A detector that is being exposed and read.
#[derive(Debug)]
pub struct Readout<'a> {
    physics: &'a Physics,
    maps: &'a Maps,
    rate: &'a [f32],
    timing: &'a Timing,
    seed: u64,
    exposure: usize,
    charge: Vec<f32>,
    reset: Vec<f32>,
    /// Whether each telegraph pixel's offset is there; empty where there are none.
    state: Vec<bool>,
    /// Every hit so far.
    pub hits: Vec<Hit>,
    /// (ramps, ny, nx): reads below saturation from the first on.
    pub usable: Vec<u16>,
}

/// Offsets of one read, DN.
struct Drift {
    /// Of each column.
    columns: Vec<f64>,
    /// Of each row's even and odd columns.
    rows: Vec<[f64; 2]>,
}

impl<'a> Readout<'a> {
    /// Begins exposure number `exposure` of a night with `seed`; `rate` (ny, nx) is
    /// e-/s a pixel, dark included.
    pub fn new(
        physics: &'a Physics,
        maps: &'a Maps,
        rate: &'a [f32],
        timing: &'a Timing,
        seed: u64,
        exposure: usize,
    ) -> Readout<'a> {
        let n = maps.nx * maps.ny;
        Readout {
            physics,
            maps,
            rate,
            timing,
            seed,
            exposure,
            charge: vec![0.0; n],
            reset: vec![0.0; n],
            state: vec![false; maps.telegraph.len()],
            hits: Vec::new(),
            usable: vec![0; n * timing.ramps],
        }
    }

    /// The next read, number `plane` of ramps × reads; must be called in order.
    pub fn read(&mut self, plane: usize, out: &mut [u16]) -> Result<()> {
        let (ramp, read) = (plane / self.timing.reads.max(1), plane % self.timing.reads.max(1));
        if read == 0 {
            self.reset(ramp);
        }
        let (nx, ny, dt) = (self.maps.nx, self.maps.ny, self.timing.read_time);
        let new = hits(&self.physics.cosmic, [nx, ny], self.seed, [self.exposure, ramp, read], dt);
        let drift = self.drift(ramp, read);
        let source = Source::new(self.seed, Purpose::Pixel, self.exposure);
        let draw = plane as u32;
        let (physics, maps, rate, reset) = (self.physics, self.maps, self.rate, &self.reset);
        let usable = &mut self.usable[ramp * nx * ny..(ramp + 1) * nx * ny];
        let words = |y: usize, x: Range<usize>| {
            let mut words = [[0; 4]; LANES];
            words.iter_mut().zip(x).for_each(|(w, x)| *w = source.block(x as u32, y as u32, draw));
            words
        };
        let lanes = || (0..nx).step_by(LANES).map(|from| from..(from + LANES).min(nx));
        // Charge of the hits and of the light, and the telegraph pixels' state.
        let strike = |y: usize, charge: &mut [f32]| {
            for hit in of_row(&new, y) {
                // Reference pixels collect no charge.
                if maps.mask[y * nx + hit.x as usize] & dq::REFERENCE_PIXEL == 0 {
                    charge[hit.x as usize] += hit.charge;
                }
            }
        };
        let collect = |y: usize, x: Range<usize>, words: &[[u32; 4]; LANES], charge: &mut [f32]| {
            for ((x, w), q) in x.clone().zip(words).zip(&mut charge[x]) {
                let mean = f64::from(rate[y * nx + x]) * dt;
                *q += poisson(mean, [w[1], w[2]], &source, x as u32, y as u32, draw) as f32;
            }
        };
        // What is read of the charge.
        let digitise = |y: usize,
                        x: Range<usize>,
                        words: &[[u32; 4]; LANES],
                        charge: &[f32],
                        state: &[bool],
                        out: &mut [u16],
                        usable: &mut [u16]| {
            let at = y * nx + x.start;
            let signal = signals(maps, &charge[x.clone()], reset, at);
            for (i, x) in x.enumerate() {
                let noise = f64::from(maps.noise[at + i]) * normal(words[i][0]);
                let mut offset = drift.columns[x] + drift.rows[y][x & 1];
                if state.get(x) == Some(&true) {
                    offset += f64::from(maps.telegraph[at + i]);
                }
                out[x] = (signal[i] + offset + noise + 0.5).clamp(0.0, 65_535.0) as u16;
                if usize::from(usable[x]) == read && f32::from(out[x]) < maps.saturation[at + i] {
                    usable[x] += 1;
                }
            }
        };
        self.state.par_chunks_mut(nx).enumerate().for_each(|(y, row)| {
            let flip = |x: usize| unit(source.block(x as u32, y as u32, draw)[3]) < physics.telegraph_flip;
            row.iter_mut().enumerate().for_each(|(x, s)| *s ^= flip(x));
        });
        let state = |y: usize| self.state.get(y * nx..(y + 1) * nx).unwrap_or_default();
        let rows = out.par_chunks_mut(nx).zip(usable.par_chunks_mut(nx)).enumerate();
        if physics.ipc == 0.0 {
            rows.zip(self.charge.par_chunks_mut(nx)).for_each(|((y, (out, usable)), charge)| {
                strike(y, charge);
                for x in lanes() {
                    let words = words(y, x.clone());
                    collect(y, x.clone(), &words, charge);
                    digitise(y, x, &words, charge, state(y), out, usable);
                }
            });
        } else {
            self.charge.par_chunks_mut(nx).enumerate().for_each(|(y, charge)| {
                strike(y, charge);
                lanes().for_each(|x| collect(y, x.clone(), &words(y, x), charge));
            });
            let coupled = coupled(maps, &self.charge, physics.ipc as f32);
            rows.for_each(|(y, (out, usable))| {
                let charge = &coupled[y * nx..(y + 1) * nx];
                lanes().for_each(|x| digitise(y, x.clone(), &words(y, x), charge, state(y), out, usable));
            });
        }
        self.hits.extend(
            new.into_iter()
                .filter(|h| maps.mask[h.y as usize * nx + h.x as usize] & dq::REFERENCE_PIXEL == 0),
        );
        Ok(())
    }

    fn reset(&mut self, ramp: usize) {
        let source = Source::new(self.seed, Purpose::Reset, self.exposure);
        let (nx, sigma, mask) = (self.maps.nx, self.physics.reset_noise, &self.maps.mask);
        self.charge.fill(0.0);
        self.reset.par_chunks_mut(nx).enumerate().for_each(|(y, row)| {
            for (x, v) in row.iter_mut().enumerate() {
                let live = mask[y * nx + x] & dq::REFERENCE_PIXEL == 0;
                let w = source.block(x as u32, y as u32, ramp as u32)[0];
                *v = if live { (sigma * normal(w)) as f32 } else { 0.0 };
            }
        });
        self.state.par_chunks_mut(nx).enumerate().for_each(|(y, row)| {
            row.iter_mut().enumerate().for_each(|(x, s)| {
                *s = source.block(x as u32, y as u32, ramp as u32)[1] & 1 == 1;
            });
        });
    }

    fn drift(&self, ramp: usize, read: usize) -> Drift {
        let p = self.physics;
        let source = Source::new(self.seed, Purpose::Drift, self.exposure);
        let pedestal = p.ramp_pedestal * source.stream(u32::MAX, ramp as u32).normal();
        let mut s = source.stream(read as u32, ramp as u32);
        let common = pedestal + p.common_drift * s.normal();
        let waves: Vec<[f64; 3]> = (0..3)
            .map(|_| [s.normal(), 1.0 + 3.0 * s.uniform(), s.uniform() * std::f64::consts::TAU])
            .collect();
        let stripes: Vec<[f64; 2]> = (0..self.maps.amplifiers.count.max(1))
            .map(|_| {
                let offset = p.amplifier_drift * s.normal();
                let half = 0.5 * p.odd_even_drift * s.normal();
                [offset - half, offset + half]
            })
            .collect();
        let Maps { nx, ny, amplifiers, .. } = *self.maps;
        let scale = p.row_drift * (2f64 / 3.0).sqrt();
        let mut rows: Vec<[f64; 2]> = (0..ny)
            .map(|y| {
                let t = std::f64::consts::TAU * y as f64 / ny as f64;
                [common + scale * waves.iter().map(|[a, f, phase]| a * (f * t + phase).sin()).sum::<f64>(); 2]
            })
            .collect();
        let mut columns = vec![0.0; nx];
        if amplifiers.along == 'y' {
            for (y, row) in rows.iter_mut().enumerate() {
                let stripe = stripes[amplifier(amplifiers, nx, ny, 0, y)];
                *row = [row[0] + stripe[0], row[1] + stripe[1]];
            }
        } else {
            for (x, column) in columns.iter_mut().enumerate() {
                *column = stripes[amplifier(amplifiers, nx, ny, x, 0)][x & 1];
            }
        }
        Drift { columns, rows }
    }
}

/// The charge as capacitance to the four neighbours shows it: each gets the part
/// `ipc` of a pixel's, which keeps the rest. Reference pixels take no part.
fn coupled(maps: &Maps, charge: &[f32], ipc: f32) -> Vec<f32> {
    let (nx, ny) = (maps.nx, maps.ny);
    let live = |x: usize, y: usize| x < nx && y < ny && maps.mask[y * nx + x] & dq::REFERENCE_PIXEL == 0;
    plane(nx, ny, |x, y| {
        let own = charge[y * nx + x];
        if !live(x, y) {
            return own;
        }
        // Before the first pixel is far beyond the last.
        [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)]
            .into_iter()
            .filter(|(x, y)| live(*x, *y))
            .fold(own, |sum, (x, y)| sum + ipc * (charge[y * nx + x] - own))
    })
}

/// Pixels treated together, so that each pass over them vectorises.
const LANES: usize = 64;

/// Bias and signal, DN, of up to [`LANES`] pixels from index `at` on, no drift and no noise.
fn signals(maps: &Maps, charge: &[f32], reset: &[f32], at: usize) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    let n = charge.len();
    let (gain, bias, top) = (&maps.gain[at..at + n], &maps.bias[at..at + n], &maps.saturation[at..at + n]);
    let (reset, c2, c3) =
        (&reset[at..at + n], &maps.nonlinearity[0][at..at + n], &maps.nonlinearity[1][at..at + n]);
    for i in 0..n {
        let linear = f64::from((reset[i] + charge[i]) / gain[i]);
        let bias = f64::from(bias[i]);
        let full = 1.03 * f64::from(top[i]) - bias;
        out[i] = bias + measured(linear.min(1.3 * full), [f64::from(c2[i]), f64::from(c3[i])]).min(full);
    }
    out
}

/// The x of y = x + c₂x² + c₃x³, by Newton's method (monotonic over a detector's range).
pub(super) fn measured(y: f64, c: [f64; 2]) -> f64 {
    let mut x = y / (1.0 + (c[0] + c[1] * y.max(0.0)) * y.max(0.0));
    for _ in 0..3 {
        let f = x * (1.0 + x * (c[0] + x * c[1])) - y;
        let slope = 1.0 + x * (2.0 * c[0] + 3.0 * c[1] * x);
        x -= f / slope;
    }
    x
}
