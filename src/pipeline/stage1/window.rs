//! What the kernel gave of a run of the frame's pixels, while it may still change.

use std::ops::Range;

use rayon::prelude::*;

use crate::datamodel::Rate;
use crate::kernels::ramp::{OUT_PLANES, Out};
use crate::profile::{self, Work};

/// A run of the frame's pixels from one on, plane by plane ([`Out`]'s, then each ramp's
/// pedestal, its variance and its covariance with the rate) in the kernel's words. It
/// grows at its end as chunks come, and shrinks at its start as rows are given away.
#[derive(Debug)]
pub(in crate::pipeline) struct Window {
    first: usize,
    planes: Vec<Vec<u32>>,
    /// Bits of pixels of the frame, ascending, that the kernel did not know of.
    told: Vec<(u32, u32)>,
}

impl Window {
    /// Of so many `planes`, with room for `pixels`.
    pub(in crate::pipeline) fn new(planes: usize, pixels: usize) -> Window {
        let planes = (0..planes).map(|_| Vec::with_capacity(pixels)).collect();
        Window { first: 0, planes, told: Vec::new() }
    }

    /// The same, with these `bits` of pixels of the frame (ascending) beside the kernel's.
    pub(in crate::pipeline) fn telling(self, bits: &[(u32, u32)]) -> Window {
        Window { told: bits.to_vec(), ..self }
    }

    fn plane(&self, plane: Out) -> &[u32] {
        &self.planes[plane as usize]
    }

    /// The rate of a pixel of the frame.
    pub(in crate::pipeline) fn rate(&self, pixel: usize) -> f32 {
        f32::from_bits(self.plane(Out::Rate)[pixel - self.first])
    }

    /// The flags of the run `pixels` of the frame.
    pub(in crate::pipeline) fn dq(&self, pixels: Range<usize>) -> &[u32] {
        &self.plane(Out::Dq)[pixels.start - self.first..pixels.end - self.first]
    }

    /// Copies a chunk's output planes to the run of `pixels` of the frame: behind what
    /// there is, or in its place.
    pub(in crate::pipeline) fn place(&mut self, words: &[u32], pixels: Range<usize>) {
        let _span = profile::span(Work::Compute, "place");
        let (n, at) = (pixels.len(), pixels.start - self.first);
        let parts = words.par_chunks_exact(n.max(1));
        self.planes.par_iter_mut().zip(parts).for_each(|(plane, from)| {
            if at == plane.len() {
                plane.extend_from_slice(from);
            } else {
                plane[at..at + n].copy_from_slice(from);
            }
        });
        self.tell(pixels);
    }

    /// Joins the bits that the kernel did not know of, for a run of the frame's pixels.
    fn tell(&mut self, pixels: Range<usize>) {
        let from = self.told.partition_point(|(p, _)| (*p as usize) < pixels.start);
        let dq = &mut self.planes[Out::Dq as usize];
        for (p, bits) in self.told[from..].iter().take_while(|(p, _)| (*p as usize) < pixels.end) {
            dq[*p as usize - self.first] |= bits;
        }
    }

    /// Copies the output planes of listed items to those `pixels` of the frame.
    pub(in crate::pipeline) fn scatter(&mut self, words: &[u32], pixels: &[usize]) {
        for (plane, from) in self.planes.iter_mut().zip(words.chunks_exact(pixels.len().max(1))) {
            pixels.iter().zip(from).for_each(|(p, w)| plane[p - self.first] = *w);
        }
        pixels.iter().for_each(|p| self.tell(*p..p + 1));
    }

    /// Rows `rows` of `nx` pixels.
    pub(in crate::pipeline) fn band(&self, rows: Range<usize>, nx: usize) -> Band<'_> {
        let run = rows.start * nx - self.first..rows.end * nx - self.first;
        Band { rows, planes: self.planes.iter().map(|plane| &plane[run.clone()]).collect() }
    }

    /// Lets go of the pixels of the frame before `first`.
    pub(in crate::pipeline) fn let_go(&mut self, first: usize) {
        for plane in &mut self.planes {
            plane.drain(..first - self.first);
        }
        self.first = first;
    }

    /// As the planes of the whole frame, (ny, nx).
    pub(in crate::pipeline) fn into_rate(self, ny: usize, nx: usize) -> Rate {
        let mut planes = self.planes.into_iter();
        let mut words = || planes.next().unwrap_or_default();
        let [data, err, var_poisson, var_rnoise, chi2] = [(); 5].map(|()| bytemuck::cast_vec(words()));
        let (dq, reads) = (words(), words());
        let mut rate = Rate { nx, ny, data, err, dq, var_poisson, var_rnoise, chi2, ..Rate::default() };
        rate.nreads = reads.par_iter().map(|n| *n as u16).collect();
        for (i, words) in planes.enumerate() {
            let to = match i % 3 {
                0 => &mut rate.pedestal,
                1 => &mut rate.var_pedestal,
                _ => &mut rate.cov_pedestal,
            };
            to.extend_from_slice(bytemuck::cast_slice(&words));
        }
        rate
    }
}

/// Rates of some rows of the frame that nothing will change any more.
#[derive(Debug, Clone)]
pub struct Band<'a> {
    /// The rows.
    pub rows: Range<usize>,
    planes: Vec<&'a [u32]>,
}

impl Band<'_> {
    /// The words of a plane, rows × columns.
    pub fn words(&self, plane: Out) -> &[u32] {
        self.planes[plane as usize]
    }

    /// The values of a plane before [`Out::Dq`], rows × columns.
    pub fn values(&self, plane: Out) -> &[f32] {
        bytemuck::cast_slice(self.words(plane))
    }
}

const _: () = assert!(Out::Dq as usize == 5 && Out::Reads as usize == 6 && OUT_PLANES == 7);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_at_the_end_and_go_at_the_start() {
        let nx = 3;
        let mut window = Window::new(10, 0);
        let words = |rows: Range<usize>| -> Vec<u32> {
            (0..10u32)
                .flat_map(|p| (rows.start * nx..rows.end * nx).map(move |i| 100 * p + i as u32))
                .collect()
        };
        window.place(&words(0..2), 0..6);
        window.place(&words(2..3), 6..9);
        window.let_go(3);
        assert_eq!(window.band(1..3, nx).words(Out::Reads), [603, 604, 605, 606, 607, 608]);
        assert_eq!(window.dq(4..6), [504, 505]);
        window.scatter(&(0..20).map(|i| i + 7000).collect::<Vec<_>>(), &[4, 8]);
        assert_eq!(window.band(1..3, nx).words(Out::Dq), [503, 7010, 505, 506, 507, 7011]);
        window.place(&words(1..2), 3..6);
        assert_eq!(window.dq(4..6), [504, 505]);
        // What the kernel did not know of is there, however pixels come.
        window.told = vec![(4, 1 << 20), (4, 1 << 21), (6, 1 << 20)];
        window.place(&words(1..2), 3..6);
        window.scatter(&[0; 10], &[6]);
        assert_eq!(window.dq(4..7), [504 | 3 << 20, 505, 1 << 20]);
        window.told.clear();
        window.place(&words(1..3), 3..9);
        let rate = window.into_rate(2, nx);
        assert_eq!((rate.data.len(), rate.nreads[0], rate.pedestal.len()), (6, 603, 6));
        assert_eq!(rate.var_pedestal[0].to_bits(), 803);
    }
}
