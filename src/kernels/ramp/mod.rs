//! The ramp kernel: raw reads of some pixels to their rates, or through any part
//! of that way. `shaders/ramp.wgsl` is its twin.
//!
//! Buffers: 0 ramp (raw bytes in words, or f32), 1 flags in (a word a read and
//! pixel, `[read][pixel]`; one word when there are none), 2 calibration planes
//! `[plane][pixel]` (see [`Plane`]), 3 tables ([`Tables`], then reference-pixel
//! offsets `[read][column]`, then `[read][line]`), 4 list of pixels,
//! 5 out (rates: [`Out`] planes `[plane][item]`; ramps: `[read][item]` f32),
//! 6 flags out (`[read][item]`, when a ramp is stored).
//!
//! A chunk is a grid of `rows` × `nx` pixels whose first row is detector row
//! `row0`; items are all its pixels in order, or those in the list.

mod decode;
mod likelihood;
mod lines;
mod tables;

use bytemuck::Zeroable;
use rayon::prelude::*;

use super::layout::params;
use super::real::Real;
use super::{Access, Args, Bound, Kernel};
pub use decode::Encoding;
use likelihood::Block;
use lines::Line;
pub use tables::Tables;

/// The kernel.
pub static RAMP: Kernel = Kernel {
    stem: "ramp",
    wgsl: &[
        include_str!("../../../shaders/lib/decode.wgsl"),
        include_str!("../../../shaders/lib/likelihood.wgsl"),
        include_str!("../../../shaders/lib/lines.wgsl"),
        include_str!("../../../shaders/ramp.wgsl"),
    ],
    constants: &[("NREADS", 16)],
    params: Params::LAYOUT,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    cpu,
};

params! {
    /// The parameter block; the WGSL struct has the same fields in the same order.
    #[derive(Default)]
    pub struct Params {
        /// Items to do.
        pub items: u32,
        /// Columns of the chunk.
        pub nx: u32,
        /// Rows of the chunk.
        pub rows: u32,
        /// Detector row of the chunk's first row.
        pub row0: u32,
        /// Ramps.
        pub ramps: u32,
        /// Reads a ramp.
        pub reads: u32,
        /// Elements from ramp to ramp.
        pub stride_ramp: u32,
        /// Elements from read to read.
        pub stride_read: u32,
        /// Elements from row to row.
        pub stride_y: u32,
        /// Elements from column to column.
        pub stride_x: u32,
        /// [`Encoding`].
        pub encoding: u32,
        /// 1 where items are the list's pixels.
        pub listed: u32,
        /// Bits of [`stage`].
        pub stages: u32,
        /// Pixels around a saturated one that saturate with it.
        pub grow: u32,
        /// Coefficients of the linearity polynomial.
        pub ncoef: u32,
        /// [`zero`]: what the polynomial's argument is measured from.
        pub zero_point: u32,
        /// [`algorithm`].
        pub algorithm: u32,
        /// Reads averaged by MCDS.
        pub num_coadd: u32,
        /// Entries of a read in the first offset table.
        pub across: u32,
        /// 1 where that table runs along y (channels are blocks of rows).
        pub along_y: u32,
        /// Entries of a read in the second offset table.
        pub lines: u32,
        /// Most omissions a pixel.
        pub max_jumps: u32,
        /// Gain in χ² from which a single difference is dropped.
        pub threshold_one: f32,
        /// Gain in χ² from which two neighbours are dropped.
        pub threshold_two: f32,
        /// 1 for rates in DN/s.
        pub counts: u32,
    }
}

/// Bits of [`Params::stages`].
pub mod stage {
    /// Flag saturated reads.
    pub const SATURATION: u32 = 1;
    /// Subtract the bias plane.
    pub const BIAS: u32 = 2;
    /// Subtract the reference-pixel offsets.
    pub const REFPIX: u32 = 4;
    /// Apply the polynomial.
    pub const LINEARITY: u32 = 8;
    /// Look for jumps.
    pub const JUMP: u32 = 16;
    /// Fit, and write rates.
    pub const FIT: u32 = 32;
    /// Write the ramp and its flags.
    pub const STORE: u32 = 64;
    /// Buffer 1 holds flags.
    pub const FLAGS_IN: u32 = 128;
}

/// Values of [`Params::zero_point`].
pub mod zero {
    /// From the bias (bias already subtracted).
    pub const BIAS: u32 = 0;
    /// From raw zero (the bias is added back).
    pub const RAW: u32 = 1;
    /// From the ramp's first read.
    pub const FIRST: u32 = 2;
}

/// Values of [`Params::algorithm`].
pub mod algorithm {
    /// Generalised least squares.
    pub const LIKELIHOOD: u32 = 0;
    /// Ordinary least squares.
    pub const OLS: u32 = 1;
    /// Correlated double sampling, `num_coadd` reads at each end.
    pub const MCDS: u32 = 2;
}

/// Flags of a read (JWST's group flags).
pub mod flag {
    /// Not usable.
    pub const DO_NOT_USE: u32 = 1;
    /// At or after saturation.
    pub const SATURATED: u32 = 2;
    /// A jump lies between the read before and this one.
    pub const JUMP_DET: u32 = 4;
}

/// Calibration planes, in order; polynomial coefficients follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Plane {
    /// Data-quality bits (u32).
    Dq = 0,
    /// Saturation, raw DN.
    Saturation = 1,
    /// Bias, DN.
    Bias = 2,
    /// Gain, e-/DN.
    Gain = 3,
    /// Variance of a single read, e-².
    ReadVariance = 4,
    /// First coefficient.
    Coefficients = 5,
}

/// Output planes, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Out {
    /// Rate.
    Rate = 0,
    /// 1 σ.
    Err = 1,
    /// Photon variance.
    VarPoisson = 2,
    /// Read variance.
    VarRnoise = 3,
    /// Reduced χ².
    Chi2 = 4,
    /// Data quality (u32).
    Dq = 5,
    /// Usable reads (u32).
    Reads = 6,
}

/// Number of [`Out`] planes.
pub const OUT_PLANES: usize = 7;
/// NaN as it is stored.
const NAN: u32 = 0x7fc0_0000;
/// Pixels that the CPU form treats together.
const LANES: usize = 16;

/// Arrays in [`Tables`] laid end to end.
pub const TABLE_ARRAYS: usize = tables::ARRAYS;

/// The kernel's inputs, seen as slices.
struct Source<'a, T> {
    p: Params,
    /// Pixels of the chunk.
    pixels: usize,
    ramp: &'a [u32],
    flags: &'a [u32],
    cal: &'a [u32],
    tables: Tables<T>,
    columns: &'a [f32],
    lines: &'a [f32],
    list: &'a [u32],
}

/// State of a block of `L` pixels.
struct Work<T, const L: usize> {
    pixel: [usize; L],
    /// The pixels lie side by side.
    contiguous: bool,
    coefficients: Vec<[T; L]>,
    y: Vec<[T; L]>,
    flags: Vec<[u32; L]>,
    block: Block<T, L>,
}

impl<T: Real, const L: usize> Work<T, L> {
    fn new(reads: usize, coefficients: usize) -> Self {
        Work {
            pixel: [0; L],
            contiguous: false,
            coefficients: vec![[T::ZERO; L]; coefficients],
            y: vec![[T::ZERO; L]; reads],
            flags: vec![[0; L]; reads],
            block: Block::new(reads.saturating_sub(1)),
        }
    }
}

impl<'a, T: Real> Source<'a, T> {
    fn new(p: Params, args: &'a Args<'_>) -> Self {
        let reads = (p.ramps * p.reads) as usize;
        let tables = args.buffers[3].floats();
        let (tables, rest) = tables.split_at(reads * TABLE_ARRAYS);
        let (columns, lines) = rest.split_at(reads * p.across as usize);
        Source {
            p,
            pixels: p.nx as usize * p.rows as usize,
            ramp: args.buffers[0].words(),
            flags: args.buffers[1].words(),
            cal: args.buffers[2].words(),
            tables: Tables::from_floats(tables, reads),
            columns,
            lines,
            list: args.buffers[4].words(),
        }
    }

    fn reads(&self) -> usize {
        (self.p.ramps * self.p.reads) as usize
    }

    fn on(&self, bit: u32) -> bool {
        self.p.stages & bit != 0
    }

    #[inline(always)]
    fn element(&self, pixel: usize, k: usize) -> usize {
        let (p, reads) = (&self.p, self.p.reads as usize);
        let (x, y) = (pixel % p.nx as usize, pixel / p.nx as usize);
        (k / reads) * p.stride_ramp as usize
            + (k % reads) * p.stride_read as usize
            + y * p.stride_y as usize
            + x * p.stride_x as usize
    }

    #[inline(always)]
    fn plane(&self, plane: usize, pixel: usize) -> u32 {
        self.cal[plane * self.pixels + pixel]
    }

    /// A plane's values at the block's pixels.
    #[inline(always)]
    fn lanes<const L: usize>(&self, plane: usize, w: &Work<T, L>) -> [T; L] {
        let plane = &self.cal[plane * self.pixels..][..self.pixels];
        let mut out = [T::ZERO; L];
        if w.contiguous {
            for (o, bits) in out.iter_mut().zip(&plane[w.pixel[0]..][..L]) {
                *o = T::of(f32::from_bits(*bits));
            }
        } else {
            for l in 0..L {
                out[l] = T::of(f32::from_bits(plane[w.pixel[l]]));
            }
        }
        out
    }

    /// Reads `L` pixels from `item` on; items past the end repeat the last one.
    #[inline(always)]
    fn load<const L: usize>(&self, item: usize, w: &mut Work<T, L>) {
        let last = self.p.items as usize - 1;
        for l in 0..L {
            let i = (item + l).min(last);
            w.pixel[l] = if self.p.listed != 0 { self.list[i] as usize } else { i };
        }
        let nx = self.p.nx as usize;
        w.contiguous = w.pixel[L - 1] == w.pixel[0] + L - 1 && w.pixel[0] / nx == w.pixel[L - 1] / nx;
        let contiguous = w.contiguous && self.p.stride_x == 1;
        let encoding = Encoding::of(self.p.encoding);
        let start: [usize; L] = std::array::from_fn(|l| self.element(w.pixel[l], 0));
        let (ramps, reads) = (self.p.ramps as usize, self.p.reads as usize);
        let steps = (0..ramps).flat_map(|r| {
            (0..reads).map(move |k| r * self.p.stride_ramp as usize + k * self.p.stride_read as usize)
        });
        for (k, step) in steps.enumerate() {
            let mut bad = [false; L];
            if contiguous {
                decode::run(encoding, self.ramp, start[0] + step, &mut w.y[k], &mut bad);
            } else {
                for l in 0..L {
                    let value = decode::one(encoding, self.ramp, start[l] + step);
                    bad[l] = value.is_none();
                    w.y[k][l] = value.unwrap_or(T::ZERO);
                }
            }
            for l in 0..L {
                w.flags[k][l] = if bad[l] { flag::DO_NOT_USE } else { 0 };
            }
            if self.on(stage::FLAGS_IN) {
                for l in 0..L {
                    w.flags[k][l] |= self.flags[k * self.pixels + w.pixel[l]];
                }
            }
        }
    }

    /// Flags reads from the first saturated one of each ramp on.
    #[inline(always)]
    fn saturation<const L: usize>(&self, w: &mut Work<T, L>) {
        let threshold = self.lanes(Plane::Saturation as usize, w);
        let reads = self.p.reads as usize;
        for ramp in 0..self.p.ramps as usize {
            let mut dead = [0u32; L];
            if self.p.grow > 0 {
                for l in 0..L {
                    let first = self.first_saturated(w.pixel[l], ramp);
                    for k in first..reads {
                        w.flags[ramp * reads + k][l] |= flag::SATURATED;
                    }
                }
            }
            for k in ramp * reads..(ramp + 1) * reads {
                let (y, mut flags) = (w.y[k], w.flags[k]);
                for l in 0..L {
                    dead[l] = if y[l] >= threshold[l] { flag::SATURATED } else { dead[l] };
                    flags[l] |= dead[l];
                }
                w.flags[k] = flags;
            }
        }
    }

    /// First read of `ramp` at which any pixel within `grow` of `pixel` saturates.
    fn first_saturated(&self, pixel: usize, ramp: usize) -> usize {
        let (p, reads) = (&self.p, self.p.reads as usize);
        let (nx, rows, grow) = (p.nx as usize, p.rows as usize, p.grow as usize);
        let (x, y) = (pixel % nx, pixel / nx);
        let mut first = reads;
        for ny in y.saturating_sub(grow)..(y + grow + 1).min(rows) {
            for nx_ in x.saturating_sub(grow)..(x + grow + 1).min(nx) {
                let q = ny * nx + nx_;
                let threshold = T::of(f32::from_bits(self.plane(Plane::Saturation as usize, q)));
                for k in 0..first {
                    let at = self.element(q, ramp * reads + k);
                    let value: Option<T> = decode::one(Encoding::of(p.encoding), self.ramp, at);
                    if value.is_some_and(|v| v >= threshold) {
                        first = k;
                        break;
                    }
                }
            }
        }
        first
    }

    /// Bias and reference-pixel offsets.
    #[inline(always)]
    fn offsets<const L: usize>(&self, w: &mut Work<T, L>) {
        if self.on(stage::BIAS) {
            let bias = self.lanes(Plane::Bias as usize, w);
            for row in &mut w.y {
                let mut y = *row;
                for l in 0..L {
                    y[l] -= bias[l];
                }
                *row = y;
            }
        }
        if self.on(stage::REFPIX) {
            let (across_n, lines_n) = (self.p.across as usize, self.p.lines as usize);
            let mut across = [0usize; L];
            let mut line = [0usize; L];
            for l in 0..L {
                let (x, y) = (w.pixel[l] % self.p.nx as usize, w.pixel[l] / self.p.nx as usize);
                let y = y + self.p.row0 as usize;
                (across[l], line[l]) = if self.p.along_y != 0 { (y, x) } else { (x, y) };
            }
            let side_by_side = w.contiguous && self.p.along_y == 0;
            for (k, row) in w.y.iter_mut().enumerate() {
                let mut y = *row;
                let columns = &self.columns[k * across_n..][..across_n];
                let lines = &self.lines[k * lines_n..][..lines_n];
                if side_by_side {
                    let shared = T::of(lines[line[0]]);
                    for (y, c) in y.iter_mut().zip(&columns[across[0]..][..L]) {
                        *y -= T::of(*c) + shared;
                    }
                } else {
                    for l in 0..L {
                        y[l] -= T::of(columns[across[l]]) + T::of(lines[line[l]]);
                    }
                }
                *row = y;
            }
        }
    }

    /// The polynomial, Horner's way; saturated reads stay.
    #[inline(always)]
    fn linearity<const L: usize>(&self, w: &mut Work<T, L>) {
        let p = &self.p;
        let mut shift = [T::ZERO; L];
        if p.zero_point == zero::RAW && self.on(stage::BIAS) {
            shift = self.lanes(Plane::Bias as usize, w).map(|b| -b);
        }
        for c in 0..w.coefficients.len() {
            w.coefficients[c] = self.lanes(Plane::Coefficients as usize + c, w);
        }
        for k in 0..self.reads() {
            if p.zero_point == zero::FIRST && k % p.reads as usize == 0 {
                shift = w.y[k];
            }
            let (mut y, flags) = (w.y[k], w.flags[k]);
            let mut sum = [T::ZERO; L];
            for coefficient in w.coefficients.iter().rev() {
                let coefficient = *coefficient;
                for l in 0..L {
                    sum[l] = sum[l] * (y[l] - shift[l]) + coefficient[l];
                }
            }
            for l in 0..L {
                y[l] = if flags[l] & flag::SATURATED != 0 { y[l] } else { sum[l] };
            }
            w.y[k] = y;
        }
    }

    /// Differences in e-/s, and which are usable.
    #[inline(always)]
    fn differences<const L: usize>(&self, w: &mut Work<T, L>) {
        const LOST: u32 = flag::DO_NOT_USE | flag::SATURATED;
        let gain = self.lanes(Plane::Gain as usize, w);
        for i in 0..w.block.d.len() {
            let inv = self.tables.inv_dt[i];
            let gap = u32::from(inv == T::ZERO);
            let (y0, y1, f0, f1) = (w.y[i], w.y[i + 1], w.flags[i], w.flags[i + 1]);
            let (mut d, mut used) = ([T::ZERO; L], [T::ZERO; L]);
            for l in 0..L {
                let lost = (f0[l] | f1[l]) & LOST | f1[l] & flag::JUMP_DET | gap;
                let value = gain[l] * ((y1[l] - y0[l]) * inv);
                d[l] = if lost == 0 { value } else { T::ZERO };
                used[l] = if lost == 0 { T::ONE } else { T::ZERO };
            }
            w.block.d[i] = d;
            w.block.used[i] = used;
        }
    }

    /// Drops the differences that a hit spoils, best first, and flags the reads
    /// after them. Returns the rate of the last fit.
    #[inline(always)]
    fn jumps<const L: usize>(&self, w: &mut Work<T, L>, s2: &[T; L]) -> [T; L] {
        let (one_min, two_min) = (T::of(self.p.threshold_one), T::of(self.p.threshold_two));
        let mut active = [true; L];
        let mut rate = [T::ZERO; L];
        for round in 0..=self.p.max_jumps {
            let a0 = w.block.trimmed_mean();
            let g = a0.map(|a| a.larger(T::ZERO));
            let s = w.block.forward(&self.tables, &g, s2, &a0);
            for l in 0..L {
                rate[l] = a0[l] + s.s1[l] / s.s0[l].larger(T::ONE / T::HUGE);
            }
            if round == self.p.max_jumps {
                break;
            }
            let (one, two) = w.block.omissions(&self.tables, &s);
            let left = w.block.count();
            let mut any = false;
            for l in 0..L {
                let single = one.gain[l] > one_min && left[l] > T::of(2.5);
                let double = two.gain[l] > two_min && left[l] > T::of(3.5);
                let prefer_double = double && !(one.gain[l] - one_min > two.gain[l] - two_min);
                active[l] &= single || prefer_double;
                any |= active[l];
            }
            if !any {
                break;
            }
            for l in (0..L).filter(|&l| active[l]) {
                let prefer_two = two.gain[l] > two_min
                    && left[l] > T::of(3.5)
                    && !(one.gain[l] - one_min > two.gain[l] - two_min);
                let first = if prefer_two { two.at[l] } else { one.at[l] } as usize;
                for i in first..=first + usize::from(prefer_two) {
                    w.block.used[i][l] = T::ZERO;
                    w.block.d[i][l] = T::ZERO;
                    w.flags[i + 1][l] |= flag::JUMP_DET;
                }
            }
        }
        rate
    }

    /// The rate with its variances and χ²; `start` is a rate to begin from.
    #[inline(always)]
    fn fit<const L: usize>(&self, w: &mut Work<T, L>, s2: &[T; L], start: [T; L]) -> [[T; L]; 4] {
        let t = &self.tables;
        let tiny = T::ONE / T::HUGE;
        if self.p.algorithm != algorithm::LIKELIHOOD {
            return self.line(w, s2);
        }
        let mut a = start;
        let mut s = w.block.forward(t, &a.map(|a| a.larger(T::ZERO)), s2, &a);
        for l in 0..L {
            a[l] += s.s1[l] / s.s0[l].larger(tiny);
        }
        let g = a.map(|a| a.larger(T::ZERO));
        s = w.block.forward(t, &g, s2, &a);
        let (photon, read) = w.block.parts(t);
        let mut out = [[T::ZERO; L]; 4];
        for l in 0..L {
            let inv = T::ONE / s.s0[l].larger(tiny);
            out[0][l] = a[l] + s.s1[l] * inv;
            out[1][l] = g[l] * photon[l] * inv * inv;
            out[2][l] = s2[l] * read[l] * inv * inv;
            out[3][l] = s.s2[l] - s.s1[l] * s.s1[l] * inv;
        }
        out
    }

    /// Fixed-weight estimates, pixel by pixel.
    fn line<const L: usize>(&self, w: &mut Work<T, L>, s2: &[T; L]) -> [[T; L]; 4] {
        let line = match self.p.algorithm {
            algorithm::OLS => Line::Ols,
            _ => Line::Mcds { coadd: self.p.num_coadd as usize },
        };
        let mut out = [[T::ZERO; L]; 4];
        for l in 0..L {
            let used = |i: usize| i < w.block.used.len() && w.block.used[i][l] > T::ZERO;
            if let Some(e) = lines::estimate(line, &self.tables, |i| w.block.d[i][l], used) {
                out[0][l] = e.rate;
                out[1][l] = e.photon * e.rate.larger(T::ZERO);
                out[2][l] = e.read * s2[l];
            }
        }
        let g = out[0].map(|a| a.larger(T::ZERO));
        out[3] = w.block.forward(&self.tables, &g, s2, &out[0]).s2;
        out
    }

    /// Everything that the stages ask for, for `L` pixels from `item` on; `None`
    /// where no rate is asked for.
    #[inline(always)]
    fn run<const L: usize>(&self, item: usize, w: &mut Work<T, L>) -> Option<Rates<T, L>> {
        self.load(item, w);
        if self.on(stage::SATURATION) {
            self.saturation(w);
        }
        self.offsets(w);
        if self.on(stage::LINEARITY) {
            self.linearity(w);
        }
        if !self.on(stage::JUMP | stage::FIT) {
            return None;
        }
        self.differences(w);
        let s2 = self.lanes(Plane::ReadVariance as usize, w);
        let start = if self.on(stage::JUMP) {
            self.jumps(w, &s2)
        } else {
            let a0 = w.block.trimmed_mean();
            let s = w.block.forward(&self.tables, &a0.map(|a| a.larger(T::ZERO)), &s2, &a0);
            std::array::from_fn(|l| a0[l] + s.s1[l] / s.s0[l].larger(T::ONE / T::HUGE))
        };
        if !self.on(stage::FIT) {
            return None;
        }
        let [rate, photon, read, chi2] = self.fit(w, &s2, start);
        let used = w.block.count();
        let gain = self.lanes(Plane::Gain as usize, w);
        let mut out = Rates { values: [[T::ZERO; L]; 5], dq: [0; L], reads: [0; L], nan: [0; L] };
        for f in &w.flags {
            let f = *f;
            for l in 0..L {
                out.dq[l] |= f[l] & (flag::SATURATED | flag::JUMP_DET);
                out.reads[l] += u32::from(f[l] & (flag::SATURATED | flag::DO_NOT_USE) == 0);
            }
        }
        for l in 0..L {
            out.dq[l] |= self.plane(Plane::Dq as usize, w.pixel[l]);
            out.dq[l] |= if used[l] == T::ZERO { flag::DO_NOT_USE } else { 0 };
            let unit = if self.p.counts != 0 { T::ONE / gain[l] } else { T::ONE };
            let dof = used[l] - T::ONE;
            out.values[0][l] = rate[l] * unit;
            out.values[1][l] = (photon[l] + read[l]).sqrt() * unit;
            out.values[2][l] = photon[l] * unit * unit;
            out.values[3][l] = read[l] * unit * unit;
            out.values[4][l] = chi2[l] / dof.larger(T::ONE);
            let no_chi2 = u32::from(dof < T::ONE) << Out::Chi2 as u32;
            out.nan[l] = if out.dq[l] & flag::DO_NOT_USE != 0 { 0b11111 } else { no_chi2 };
        }
        Some(out)
    }
}

/// The rates of `L` pixels.
#[derive(Debug, Clone, Copy)]
struct Rates<T, const L: usize> {
    /// The planes before [`Out::Dq`].
    values: [[T; L]; 5],
    dq: [u32; L],
    reads: [u32; L],
    /// Bit p: plane p has no value.
    nan: [u32; L],
}

impl<T: Real, const L: usize> Rates<T, L> {
    #[inline(always)]
    fn words(&self) -> [[u32; L]; OUT_PLANES] {
        let mut out = [[0; L]; OUT_PLANES];
        for plane in 0..5 {
            for l in 0..L {
                let nan = self.nan[l] >> plane & 1 != 0;
                out[plane][l] = if nan { NAN } else { self.values[plane][l].to_f32().to_bits() };
            }
        }
        out[Out::Dq as usize] = self.dq;
        out[Out::Reads as usize] = self.reads;
        out
    }
}

/// Items that a thread takes at a time.
const BAND: usize = 4096;

fn cpu(args: &mut Args<'_>) {
    let mut p = Params::zeroed();
    bytemuck::bytes_of_mut(&mut p).copy_from_slice(bytemuck::cast_slice(args.params));
    let [.., out, flags] = args.buffers.as_mut_slice() else { return };
    let (out, flags) = (detach(out), detach(flags));
    let source = Source::<f32>::new(p, args);
    if source.p.items == 0 {
        return;
    }
    if source.on(stage::STORE) {
        store(&source, out, flags);
    } else {
        rates(&source, out);
    }
}

/// A writable binding taken out of the arguments, so that the rest can be read.
fn detach<'a>(bound: &mut Bound<'a>) -> &'a mut [u32] {
    match std::mem::replace(bound, Bound::Read(&[])) {
        Bound::Write(words) => words,
        Bound::Read(_) => &mut [],
    }
}

/// Rate, error, photon and read variance and reduced χ² of every item in f64: the
/// reference of both engines. NaN where the kernel writes NaN.
pub fn reference(args: &Args<'_>) -> Vec<[f64; 5]> {
    let mut p = Params::zeroed();
    bytemuck::bytes_of_mut(&mut p).copy_from_slice(bytemuck::cast_slice(args.params));
    let source = Source::<f64>::new(p, args);
    let mut work = Work::<f64, 1>::new(source.reads(), p.ncoef as usize);
    let value = |r: &Rates<f64, 1>, plane: usize| {
        if r.nan[0] >> plane & 1 != 0 { f64::NAN } else { r.values[plane][0] }
    };
    (0..p.items as usize)
        .map(|item| match source.run(item, &mut work) {
            Some(r) => std::array::from_fn(|plane| value(&r, plane)),
            None => [f64::NAN; 5],
        })
        .collect()
}

fn rates(source: &Source<'_, f32>, out: &mut [u32]) {
    let items = source.p.items as usize;
    let mut planes = out.chunks_mut(items);
    let mut next = || planes.next().unwrap_or_default().par_chunks_mut(BAND);
    let bands = (next(), next(), next(), next(), next(), next(), next());
    let run = select();
    bands.into_par_iter().enumerate().for_each_init(
        || Work::new(source.reads(), source.p.ncoef as usize),
        |work, (band, (a, b, c, d, e, f, g))| {
            run(source, band * BAND, &mut [a, b, c, d, e, f, g], work);
        },
    );
}

type BandFn = fn(&Source<'_, f32>, usize, &mut [&mut [u32]; OUT_PLANES], &mut Work<f32, LANES>);

/// The band function for the instruction set of this machine. All give the same bits.
fn select() -> BandFn {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the features were detected.
            return |s, i, o, w| unsafe { band_avx512(s, i, o, w) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected.
            return |s, i, o, w| unsafe { band_avx2(s, i, o, w) };
        }
    }
    band
}

#[inline(always)]
fn band(s: &Source<'_, f32>, first: usize, out: &mut [&mut [u32]; OUT_PLANES], w: &mut Work<f32, LANES>) {
    let n = out[0].len();
    for start in (0..n).step_by(LANES) {
        let Some(rates) = s.run(first + start, w) else { return };
        let values = rates.words();
        let width = LANES.min(n - start);
        for (plane, value) in out.iter_mut().zip(&values) {
            plane[start..start + width].copy_from_slice(&value[..width]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
fn band_avx512(
    s: &Source<'_, f32>,
    first: usize,
    out: &mut [&mut [u32]; OUT_PLANES],
    w: &mut Work<f32, LANES>,
) {
    band(s, first, out, w);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn band_avx2(
    s: &Source<'_, f32>,
    first: usize,
    out: &mut [&mut [u32]; OUT_PLANES],
    w: &mut Work<f32, LANES>,
) {
    band(s, first, out, w);
}

/// Stores the ramps and flags after the stages, `[read][item]`.
fn store(source: &Source<'_, f32>, out: &mut [u32], flags: &mut [u32]) {
    let (items, reads) = (source.p.items as usize, source.reads());
    let bands: Vec<(usize, Vec<Work<f32, LANES>>)> = (0..items.div_ceil(BAND))
        .into_par_iter()
        .map(|band| {
            let first = band * BAND;
            let blocks = (first..(first + BAND).min(items)).step_by(LANES).map(|item| {
                let mut work = Work::new(reads, source.p.ncoef as usize);
                source.run(item, &mut work);
                work
            });
            (first, blocks.collect())
        })
        .collect();
    for (first, blocks) in bands {
        for (b, work) in blocks.iter().enumerate() {
            let item = first + b * LANES;
            for k in 0..reads {
                for l in 0..LANES.min(items - item) {
                    out[k * items + item + l] = work.y[k][l].to_bits();
                    flags[k * items + item + l] = work.flags[k][l];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
