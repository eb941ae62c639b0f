//! Where the vectors of a solution live, and what is done with them.

use rayon::prelude::*;

use super::filter::{Filter, preconditioned};
use super::operators::{Lanes, View, damped, diagonal, fold, light, transpose};
use super::{SEG, System, WIDE};
use crate::error::Result;

/// What a step leaves of the residual r = BᵀW(d − Bf) − Λf.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Left {
    /// r·z.
    pub square: f64,
    /// The largest |r|/√N_ii of unknowns without a prior: a residual in their σ.
    pub worst: f64,
}

/// A device, or plain memory, that holds a system, a frame, and the vectors f (unknowns),
/// r (residual), p (direction) and q = N p of the conjugate gradients, which are
/// preconditioned: z = D h∗(D r), D = 1/√N_ii and h the system's filter along columns
/// ([`System::filter`]).
pub trait Machine<T> {
    /// Takes the pixels, an image.
    fn set_data(&mut self, data: &[T]) -> Result<()>;
    /// Takes their weights, none negative; the diagonal of BᵀWB.
    fn set_weight(&mut self, weight: &[T]) -> Result<Vec<T>>;
    /// Takes 1/√N_ii, 0 for what is not solved for, and Λ, what is added to the diagonal of
    /// BᵀWB: N = BᵀWB + Λ.
    fn set_scale(&mut self, scale: &[T], prior: &[T]) -> Result<()>;
    /// Takes f.
    fn set_flux(&mut self, flux: &[T]) -> Result<()>;
    /// r := BᵀW(d − Bf) − Λf, p := z.
    fn residual(&mut self) -> Result<Left>;
    /// q := N p; p·q.
    fn apply(&mut self) -> Result<f64>;
    /// f += αp, r −= αq.
    fn descend(&mut self, alpha: f64) -> Result<Left>;
    /// p := z + βp.
    fn turn(&mut self, beta: f64) -> Result<()>;
    /// f.
    fn flux(&mut self) -> Result<Vec<T>>;
    /// B f, an image.
    fn model(&mut self) -> Result<Vec<T>>;
}

/// Sums over entries in their order; the largest of the second values.
pub fn gather(parts: impl Iterator<Item = (f64, f64)>) -> Left {
    parts.fold(Left::default(), |all, (square, worst)| Left {
        square: all.square + square,
        worst: all.worst.max(worst),
    })
}

/// Plain memory and this process's threads: the reference, in f64.
pub struct Plain<'a, T> {
    s: &'a System,
    data: Vec<T>,
    weight: Vec<T>,
    filter: Filter<T>,
    scale: Vec<T>,
    prior: Vec<T>,
    flux: Vec<T>,
    pub(super) r: Vec<T>,
    pub(super) p: Vec<T>,
    q: Vec<T>,
    wide: Vec<T>,
}

impl<'a, T: Lanes> Plain<'a, T> {
    /// Of a system.
    pub fn new(s: &'a System) -> Plain<'a, T> {
        let zeros = |n: usize| vec![T::ZERO; n];
        let n = s.unknowns();
        Plain {
            s,
            data: zeros(s.pixels()),
            weight: zeros(s.pixels()),
            filter: s.filter().map(|h| T::of(h)),
            scale: zeros(n),
            prior: zeros(n),
            flux: zeros(n),
            r: zeros(n),
            p: zeros(n),
            q: zeros(n),
            wide: zeros(s.entries.len() * WIDE),
        }
    }

    /// N x, or BᵀW(d − B x) − Λx with `data`, where there is an inverse.
    fn normal(&mut self, x: &[T], data: bool) -> Vec<T> {
        let s = self.s;
        let mut z = vec![T::ZERO; s.pixels()];
        let v = View::of(s);
        let block = s.ny * SEG;
        z.par_chunks_exact_mut(block).enumerate().for_each(|(seg, z)| {
            light(&v, x, seg, z);
            let (d, w) = (&self.data[seg * block..], &self.weight[seg * block..]);
            for ((z, d), w) in z.iter_mut().zip(d).zip(w) {
                *z = *w * if data { *d - *z } else { *z };
            }
        });
        let shares = self.wide.as_chunks_mut().0;
        shares.par_iter_mut().enumerate().for_each(|(e, w)| transpose(&v, &z, e, w));
        let mut out = vec![T::ZERO; s.unknowns()];
        out.par_chunks_exact_mut(SEG).enumerate().for_each(|(e, out)| {
            fold(&s.entries, &self.wide, e, out);
            let own = e * SEG..(e + 1) * SEG;
            let sign = if data { -1.0 } else { 1.0 };
            damped(out, &x[own.clone()], &self.scale[own.clone()], &self.prior[own], sign);
        });
        out
    }

    pub(super) fn left(&self) -> Left {
        let parts: Vec<(f64, f64)> = self
            .r
            .as_chunks()
            .0
            .par_iter()
            .zip(self.scale.as_chunks().0.par_iter().zip(self.prior.par_chunks(SEG)))
            .map(|(r, (scale, prior))| {
                let mut z = [T::ZERO; SEG];
                preconditioned(r, scale, &self.filter, &mut z);
                let sum = r.iter().zip(z).map(|(r, z)| (*r * z).to_f64()).sum();
                let seen = r.iter().zip(scale).zip(prior).filter(|(_, prior)| **prior == T::ZERO);
                let most = seen.map(|((r, d), _)| (*r * *d).to_f64().powi(2)).fold(0.0, f64::max);
                (sum, most)
            })
            .collect();
        let all = gather(parts.into_iter());
        Left { worst: all.worst.sqrt(), ..all }
    }
}

impl<T: Lanes> Machine<T> for Plain<'_, T> {
    fn set_data(&mut self, data: &[T]) -> Result<()> {
        self.data.copy_from_slice(data);
        Ok(())
    }

    fn set_weight(&mut self, weight: &[T]) -> Result<Vec<T>> {
        self.weight.copy_from_slice(weight);
        let v = View::of(self.s);
        let shares = self.wide.as_chunks_mut().0;
        shares.par_iter_mut().enumerate().for_each(|(e, w)| diagonal(&v, weight, e, w));
        let mut out = vec![T::ZERO; self.s.unknowns()];
        out.par_chunks_exact_mut(SEG)
            .enumerate()
            .for_each(|(e, out)| fold(&self.s.entries, &self.wide, e, out));
        Ok(out)
    }

    fn set_scale(&mut self, scale: &[T], prior: &[T]) -> Result<()> {
        self.scale.copy_from_slice(scale);
        self.prior.copy_from_slice(prior);
        Ok(())
    }

    fn set_flux(&mut self, flux: &[T]) -> Result<()> {
        self.flux.copy_from_slice(flux);
        Ok(())
    }

    fn residual(&mut self) -> Result<Left> {
        let f = std::mem::take(&mut self.flux);
        self.r = self.normal(&f, true);
        self.flux = f;
        self.p.fill(T::ZERO);
        self.turn(0.0)?;
        Ok(self.left())
    }

    fn apply(&mut self) -> Result<f64> {
        let p = std::mem::take(&mut self.p);
        self.q = self.normal(&p, false);
        self.p = p;
        let parts: Vec<f64> = self
            .p
            .par_chunks(SEG)
            .zip(self.q.par_chunks(SEG))
            .map(|(p, q)| p.iter().zip(q).map(|(p, q)| (*p * *q).to_f64()).sum())
            .collect();
        Ok(parts.iter().sum())
    }

    fn descend(&mut self, alpha: f64) -> Result<Left> {
        let alpha = T::of(alpha as f32);
        self.flux.par_iter_mut().zip(&self.p).for_each(|(f, p)| *f += alpha * *p);
        self.r.par_iter_mut().zip(&self.q).for_each(|(r, q)| *r -= alpha * *q);
        Ok(self.left())
    }

    fn turn(&mut self, beta: f64) -> Result<()> {
        let beta = T::of(beta as f32);
        let own = self.r.as_chunks().0.par_iter().zip(self.scale.as_chunks().0);
        self.p.par_chunks_mut(SEG).zip(own).for_each(|(p, (r, scale))| {
            let mut z = [T::ZERO; SEG];
            preconditioned(r, scale, &self.filter, &mut z);
            p.iter_mut().zip(z).for_each(|(p, z)| *p = z + beta * *p);
        });
        Ok(())
    }

    fn flux(&mut self) -> Result<Vec<T>> {
        Ok(self.flux.clone())
    }

    fn model(&mut self) -> Result<Vec<T>> {
        let mut out = vec![T::ZERO; self.s.pixels()];
        super::image(self.s, &self.flux, &mut out);
        Ok(out)
    }
}
