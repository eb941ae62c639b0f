//! [`Machine`] on an engine: a system and a frame in its buffers, the steps of the
//! conjugate gradients as dispatches. What comes back in a step is two numbers an entry.

use crate::engine::{Buffer, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::kernels::factored::{
    DIAGONAL, ENTRY, EntriesParams, FOLD, FoldParams, LIGHT, Left, LightMode, LightParams, Machine, PART,
    SEG, STEP, StepParams, System, TAKE, TILE, TURN, WIDE, gather,
};

/// Coefficients of a range of segments.
struct Part {
    segments: std::ops::Range<usize>,
    entries: std::ops::Range<usize>,
    coefs: Buffer,
}

/// A system on an engine.
pub struct OnEngine<'a> {
    engine: &'a mut dyn Engine,
    ny: u32,
    ky: u32,
    rank: u32,
    nodes: u32,
    entries: u32,
    all: Vec<Buffer>,
    parts: Vec<Part>,
    geometry: Buffer,
    starts: Buffer,
    /// Taps, then the nodes' weights.
    shapes: Buffer,
    /// The preconditioner's.
    filter: Buffer,
    /// Images.
    data: Buffer,
    weight: Buffer,
    image: Buffer,
    /// Unknowns.
    scale: Buffer,
    prior: Buffer,
    flux: Buffer,
    residual: Buffer,
    direction: Buffer,
    curved: Buffer,
    /// (entries, WIDE) and (entries, PART).
    wide: Buffer,
    sums: Buffer,
}

impl<'a> OnEngine<'a> {
    /// Takes a system to the engine.
    pub fn new(engine: &'a mut dyn Engine, s: &System) -> Result<OnEngine<'a>> {
        let mut all = Vec::new();
        let built = OnEngine::build(engine, s, &mut all);
        match built {
            Ok((parts, b)) => Ok(OnEngine {
                engine,
                ny: s.ny as u32,
                ky: s.ky as u32,
                rank: s.rank() as u32,
                nodes: s.basis.len() as u32,
                entries: s.entries.len() as u32,
                all,
                parts,
                geometry: b[0],
                starts: b[1],
                shapes: b[2],
                filter: b[3],
                data: b[4],
                weight: b[5],
                image: b[6],
                scale: b[7],
                prior: b[8],
                flux: b[9],
                residual: b[10],
                direction: b[11],
                curved: b[12],
                wide: b[13],
                sums: b[14],
            }),
            Err(e) => {
                all.into_iter().for_each(|b| engine.free(b));
                Err(e)
            }
        }
    }

    /// The coefficients, in as few buffers as the device binds, and the other buffers.
    fn build(
        engine: &mut dyn Engine,
        s: &System,
        all: &mut Vec<Buffer>,
    ) -> Result<(Vec<Part>, [Buffer; 15])> {
        let (n, segments) = (s.entries.len(), s.segments());
        let words = s.ky * s.terms();
        let most = (engine.device().max_binding / 4) as usize;
        let needed = s.pixels().max(n * WIDE);
        if needed > most {
            return Err(Error::Device {
                device: engine.device().name.clone(),
                message: format!(
                    "binds {} MB at once, extract.method = factored needs {} MB: take --device cpu, or \
                     extract.method = banded",
                    most >> 18,
                    needed >> 18
                ),
            });
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < segments {
            let start = s.starts[first] as usize;
            let fits = |last: usize| (s.starts[last] as usize - start) * words <= most;
            let last = (first + 1..=segments).take_while(|l| fits(*l)).last().unwrap_or(first + 1);
            let entries = start..s.starts[last] as usize;
            if !entries.is_empty() {
                let own = &s.coefs[entries.start * words..entries.end * words];
                let coefs = engine.buffer_of_f32(own)?;
                all.push(coefs);
                parts.push(Part { segments: first..last, entries, coefs });
            }
            first = last;
        }
        let mut keep = |b: Result<Buffer>| -> Result<Buffer> {
            let b = b?;
            all.push(b);
            Ok(b)
        };
        let mut buffers = [
            keep(engine.buffer_of(bytemuck::cast_slice(&s.entries)))?,
            keep(engine.buffer_of(&s.starts))?,
            keep(engine.buffer_of_f32(&[s.taps.as_flattened(), s.basis.as_flattened()].concat()))?,
            keep(engine.buffer_of_f32(&s.filter()))?,
        ]
        .to_vec();
        debug_assert_eq!(ENTRY * n, buffers[0].words());
        let (pixels, unknowns) = (s.pixels(), s.unknowns());
        let vectors = [[pixels; 3].as_slice(), &[unknowns; 6], &[n * WIDE, n * PART]].concat();
        for words in vectors {
            buffers.push(keep(engine.allocate(words.max(1)))?);
        }
        let buffers =
            buffers.try_into().map_err(|_| Error::Unsolvable("a system without its buffers".into()))?;
        Ok((parts, buffers))
    }

    /// B x in `image`, as `mode` has it.
    fn light(&self, x: Buffer, mode: LightMode) -> Vec<Dispatch> {
        let tiles = (self.ny as usize).div_ceil(TILE);
        let each = |p: &Part| {
            let params = LightParams {
                first_segment: p.segments.start as u32,
                segments: p.segments.len() as u32,
                first_entry: p.entries.start as u32,
                ny: self.ny,
                ky: self.ky,
                rank: self.rank,
                nodes: self.nodes,
                tiles: tiles as u32,
                mode: mode as u32,
            };
            let buffers =
                vec![self.geometry, self.starts, self.shapes, p.coefs, x, self.data, self.weight, self.image];
            dispatch(&LIGHT, buffers, p.segments.len() * tiles * SEG, &params)
        };
        self.parts.iter().map(each).collect()
    }

    /// Entries' shares by `kernel` of an image.
    fn shares(&self, kernel: &'static Kernel, image: Buffer) -> Vec<Dispatch> {
        let each = |p: &Part| {
            let params = EntriesParams {
                first_entry: p.entries.start as u32,
                entries: p.entries.len() as u32,
                ny: self.ny,
                ky: self.ky,
                rank: self.rank,
                nodes: self.nodes,
            };
            let buffers = vec![self.geometry, self.shapes, p.coefs, image, self.wide];
            dispatch(kernel, buffers, p.entries.len() * SEG, &params)
        };
        self.parts.iter().map(each).collect()
    }

    fn fold(&self, x: Buffer, sign: f32, out: Buffer) -> Dispatch {
        let params = FoldParams { entries: self.entries, sign };
        let buffers = vec![self.geometry, self.wide, self.scale, self.prior, x, out, self.sums];
        dispatch(&FOLD, buffers, self.entries as usize, &params)
    }

    fn step(&self, alpha: f64) -> Dispatch {
        let params = StepParams { entries: self.entries, factor: alpha as f32 };
        let known = [self.direction, self.curved, self.scale, self.prior, self.filter];
        let buffers = [known.as_slice(), &[self.flux, self.residual, self.sums]].concat();
        dispatch(&STEP, buffers, self.entries as usize, &params)
    }

    fn turned(&self, beta: f64) -> Dispatch {
        let params = StepParams { entries: self.entries, factor: beta as f32 };
        dispatch(
            &TURN,
            vec![self.residual, self.scale, self.filter, self.direction],
            self.entries as usize * SEG,
            &params,
        )
    }

    /// What the last dispatch left of its sums.
    fn left(&mut self) -> Result<Left> {
        let mut left = Left::default();
        self.engine.download_with(self.sums, &mut |words| {
            let parts: &[f32] = bytemuck::cast_slice(words);
            left = gather(parts.chunks_exact(PART).map(|p| (f64::from(p[0]), f64::from(p[1]))));
        })?;
        Ok(Left { worst: left.worst.sqrt(), ..left })
    }
}

fn dispatch<P: bytemuck::Pod>(
    kernel: &'static Kernel,
    buffers: Vec<Buffer>,
    items: usize,
    params: &P,
) -> Dispatch {
    let params = bytemuck::cast_slice(std::slice::from_ref(params)).to_vec();
    Dispatch { kernel, buffers, items, params, constants: Vec::new() }
}

impl Drop for OnEngine<'_> {
    fn drop(&mut self) {
        self.all.iter().for_each(|b| self.engine.free(*b));
    }
}

impl Machine<f32> for OnEngine<'_> {
    fn set_data(&mut self, data: &[f32]) -> Result<()> {
        self.engine.upload(self.data, bytemuck::cast_slice(data))
    }

    fn set_weight(&mut self, weight: &[f32]) -> Result<Vec<f32>> {
        self.engine.upload(self.weight, bytemuck::cast_slice(weight))?;
        let mut steps = self.shares(&DIAGONAL, self.weight);
        steps.push(self.fold(self.direction, 0.0, self.curved));
        self.engine.submit(&steps)?;
        self.engine.download_f32(self.curved)
    }

    fn set_scale(&mut self, scale: &[f32], prior: &[f32]) -> Result<()> {
        self.engine.upload(self.scale, bytemuck::cast_slice(scale))?;
        self.engine.upload(self.prior, bytemuck::cast_slice(prior))
    }

    fn set_flux(&mut self, flux: &[f32]) -> Result<()> {
        self.engine.upload(self.flux, bytemuck::cast_slice(flux))
    }

    fn residual(&mut self) -> Result<Left> {
        let mut steps = self.light(self.flux, LightMode::Residual);
        steps.extend(self.shares(&TAKE, self.image));
        steps.push(self.fold(self.flux, -1.0, self.residual));
        // A step of no length adds up the residual.
        steps.extend([self.step(0.0), self.turned(0.0)]);
        self.engine.submit(&steps)?;
        self.left()
    }

    fn apply(&mut self) -> Result<f64> {
        let mut steps = self.light(self.direction, LightMode::Weighted);
        steps.extend(self.shares(&TAKE, self.image));
        steps.push(self.fold(self.direction, 1.0, self.curved));
        self.engine.submit(&steps)?;
        Ok(self.left()?.square)
    }

    fn descend(&mut self, alpha: f64) -> Result<Left> {
        let step = self.step(alpha);
        self.engine.submit(&vec![step])?;
        self.left()
    }

    fn turn(&mut self, beta: f64) -> Result<()> {
        let turned = self.turned(beta);
        self.engine.submit(&vec![turned])
    }

    fn flux(&mut self) -> Result<Vec<f32>> {
        self.engine.download_f32(self.flux)
    }

    fn model(&mut self) -> Result<Vec<f32>> {
        let steps = self.light(self.flux, LightMode::Model);
        self.engine.submit(&steps)?;
        self.engine.download_f32(self.image)
    }
}

#[cfg(test)]
#[path = "solver_tests.rs"]
mod tests;
