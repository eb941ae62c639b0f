//! Output planes of a chunk, into those of the frame.

use std::ops::Range;

use crate::datamodel::Rate;
use crate::kernels::ramp::{OUT_PLANES, Out};
use crate::profile::{self, Work};

/// Copies a chunk's output planes into the frame's run of `pixels`.
pub(super) fn place(words: &[u32], rate: &mut Rate, pixels: Range<usize>) {
    let _span = profile::span(Work::Compute, "place");
    let n = pixels.len();
    let plane = |plane: Out| &words[plane as usize * n..][..n];
    let frame = rate.data.len();
    let Rate { data, err, var_poisson, var_rnoise, chi2, dq, nreads, .. } = rate;
    rayon::scope(|s| {
        for (which, to) in [
            (Out::Rate, data),
            (Out::Err, err),
            (Out::VarPoisson, var_poisson),
            (Out::VarRnoise, var_rnoise),
            (Out::Chi2, chi2),
        ] {
            let (to, from) = (&mut to[pixels.clone()], plane(which));
            s.spawn(move |_| to.copy_from_slice(bytemuck::cast_slice(from)));
        }
        let to = &mut dq[pixels.clone()];
        s.spawn(move |_| to.copy_from_slice(plane(Out::Dq)));
        let to = &mut nreads[pixels.clone()];
        s.spawn(move |_| to.iter_mut().zip(plane(Out::Reads)).for_each(|(t, w)| *t = *w as u16));
    });
    for (to, from) in pedestal_planes(rate, words, n, frame) {
        to[pixels.clone()].copy_from_slice(from);
    }
}

/// The frame's planes of pedestals, each with its chunk of `n` items among `words`.
fn pedestal_planes<'a>(
    rate: &'a mut Rate,
    words: &'a [u32],
    n: usize,
    frame: usize,
) -> impl Iterator<Item = (&'a mut [f32], &'a [f32])> {
    let planes = rate.pedestal.chunks_mut(frame).zip(rate.var_pedestal.chunks_mut(frame));
    let planes = planes.zip(rate.cov_pedestal.chunks_mut(frame)).flat_map(|((p, v), c)| [p, v, c]);
    planes.zip(bytemuck::cast_slice(&words[OUT_PLANES * n..]).chunks_exact(n.max(1)))
}

/// Copies the output planes of listed items into the frame at `pixels`.
pub(super) fn scatter(
    words: &[u32],
    items: usize,
    rate: &mut Rate,
    pixels: impl Iterator<Item = usize> + Clone,
) {
    let float = |plane: Out| &words[plane as usize * items..][..items];
    for (plane, to) in [
        (Out::Rate, &mut rate.data),
        (Out::Err, &mut rate.err),
        (Out::VarPoisson, &mut rate.var_poisson),
        (Out::VarRnoise, &mut rate.var_rnoise),
        (Out::Chi2, &mut rate.chi2),
    ] {
        for (p, w) in pixels.clone().zip(float(plane)) {
            to[p] = f32::from_bits(*w);
        }
    }
    let frame = rate.data.len();
    for (to, from) in pedestal_planes(rate, words, items, frame) {
        pixels.clone().zip(from).for_each(|(p, v)| to[p] = *v);
    }
    for (i, p) in pixels.enumerate() {
        rate.dq[p] = words[Out::Dq as usize * items + i];
        rate.nreads[p] = words[Out::Reads as usize * items + i] as u16;
    }
}
