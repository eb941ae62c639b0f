//! The reads of a block of pixels: loaded, flagged where saturated, corrected.

use super::super::Args;
use super::super::real::Real;
use super::likelihood::Block;
use super::pedestal::Pedestal;
use super::{Encoding, Params, Plane, TABLE_ARRAYS, Tables, decode, flag, stage, zero};

/// The kernel's inputs, seen as slices.
pub(super) struct Source<'a, T> {
    pub(super) p: Params,
    /// Pixels of the chunk.
    pub(super) pixels: usize,
    pub(super) ramp: &'a [u32],
    pub(super) flags: &'a [u32],
    pub(super) cal: &'a [u32],
    pub(super) tables: Tables<T>,
    pub(super) columns: &'a [f32],
    pub(super) lines: &'a [f32],
    pub(super) list: &'a [u32],
    /// Some reads average several frames.
    averaged: bool,
}

/// State of a block of `L` pixels.
pub(super) struct Work<T, const L: usize> {
    pub(super) pixel: [usize; L],
    /// The pixels lie side by side in one row.
    pub(super) contiguous: bool,
    /// Column and row of the first.
    pub(super) first: (usize, usize),
    pub(super) coefficients: Vec<[T; L]>,
    pub(super) y: Vec<[T; L]>,
    pub(super) flags: Vec<[u32; L]>,
    pub(super) block: Block<T, L>,
    /// One a ramp, where they are asked for.
    pub(super) pedestals: Vec<Pedestal<T, L>>,
    /// Data that the fit had from pedestals known before.
    pub(super) known: [T; L],
}

impl<T: Real, const L: usize> Work<T, L> {
    pub(super) fn new(p: &Params) -> Self {
        let reads = (p.ramps * p.reads) as usize;
        let pedestals = if p.pedestal != 0 { p.ramps as usize } else { 0 };
        Work {
            pixel: [0; L],
            contiguous: false,
            first: (0, 0),
            coefficients: vec![[T::ZERO; L]; p.ncoef as usize],
            y: vec![[T::ZERO; L]; reads],
            flags: vec![[0; L]; reads],
            block: Block::new(reads.saturating_sub(1)),
            pedestals: vec![[[T::ZERO; L]; 3]; pedestals],
            known: [T::ZERO; L],
        }
    }
}

impl<'a, T: Real> Source<'a, T> {
    pub(super) fn new(p: Params, args: &'a Args<'_>) -> Self {
        let reads = (p.ramps * p.reads) as usize;
        let tables = args.buffers[3].floats();
        let (tables, rest) = tables.split_at(reads * TABLE_ARRAYS);
        let (columns, lines) = rest.split_at(reads * p.across as usize);
        let tables = Tables::from_floats(tables, reads);
        Source {
            p,
            averaged: tables.inv_n.iter().any(|v: &T| *v < T::ONE),
            pixels: p.nx as usize * p.rows as usize,
            ramp: args.buffers[0].words(),
            flags: args.buffers[1].words(),
            cal: args.buffers[2].words(),
            tables,
            columns,
            lines,
            list: args.buffers[4].words(),
        }
    }

    pub(super) fn reads(&self) -> usize {
        (self.p.ramps * self.p.reads) as usize
    }

    pub(super) fn on(&self, bit: u32) -> bool {
        self.p.stages & bit != 0
    }

    #[inline(always)]
    pub(super) fn element(&self, pixel: usize, k: usize) -> usize {
        let (p, reads) = (&self.p, self.p.reads as usize);
        let (x, y) = (pixel % p.nx as usize, pixel / p.nx as usize);
        (k / reads) * p.stride_ramp as usize
            + (k % reads) * p.stride_read as usize
            + y * p.stride_y as usize
            + x * p.stride_x as usize
    }

    #[inline(always)]
    pub(super) fn plane(&self, plane: usize, pixel: usize) -> u32 {
        self.cal[plane * self.pixels + pixel]
    }

    /// A plane's values at the block's pixels.
    #[inline(always)]
    pub(super) fn lanes<const L: usize>(&self, plane: usize, w: &Work<T, L>) -> [T; L] {
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

    /// A plane's bits at the block's pixels.
    #[inline(always)]
    pub(super) fn bits<const L: usize>(&self, plane: usize, w: &Work<T, L>) -> [u32; L] {
        let plane = &self.cal[plane * self.pixels..][..self.pixels];
        let mut out = [0; L];
        if w.contiguous {
            out.copy_from_slice(&plane[w.pixel[0]..][..L]);
        } else {
            for l in 0..L {
                out[l] = plane[w.pixel[l]];
            }
        }
        out
    }

    /// Finds the `L` pixels from `item` on; items past the end repeat the last one.
    #[inline(always)]
    fn find<const L: usize>(&self, item: usize, w: &mut Work<T, L>) {
        let last = self.p.items as usize - 1;
        for l in 0..L {
            let i = (item + l).min(last);
            w.pixel[l] = if self.p.listed != 0 { self.list[i] as usize } else { i };
        }
        // One division a block: they are slow, and no vector has them.
        let (pixel, nx) = (w.pixel[0] as u32, self.p.nx);
        let row = pixel / nx;
        w.first = ((pixel - row * nx) as usize, row as usize);
        // Of listed pixels the last, repeated, can lie just as far from the first.
        let whole = item + L - 1 <= last;
        w.contiguous = whole && w.pixel[L - 1] == w.pixel[0] + L - 1 && w.first.0 + L <= nx as usize;
    }

    /// Reads the `L` pixels from `item` on, flags their reads from the first saturated one
    /// of each ramp on, takes bias and offsets off and straightens them with the polynomial
    /// (saturated reads stay), all in one pass. Each read has the variance of a frame over
    /// its frames, stretched by the polynomial's slope there.
    #[inline(always)]
    pub(super) fn correct<const L: usize>(&self, item: usize, w: &mut Work<T, L>) {
        self.find(item, w);
        let p = &self.p;
        let (saturates, linear) = (self.on(stage::SATURATION), self.on(stage::LINEARITY));
        let (biased, offset) = (self.on(stage::BIAS), self.on(stage::REFPIX));
        let threshold = self.lanes(Plane::Saturation as usize, w);
        let bias = self.lanes(Plane::Bias as usize, w);
        let (gain, added) = (self.lanes(Plane::Gain as usize, w), T::of(p.added_variance));
        let mut s2 = self.lanes(Plane::ReadVariance as usize, w);
        for l in 0..L {
            s2[l] += gain[l] * gain[l] * added;
        }
        let mut shift = [T::ZERO; L];
        if linear {
            self.load_coefficients(w);
            if p.zero_point == zero::RAW && biased {
                shift = bias.map(|b| -b);
            }
        }
        let offsets = if offset { Some(Offsets::of(self, w)) } else { None };
        let contiguous = w.contiguous && p.stride_x == 1;
        let encoding = Encoding::of(p.encoding);
        let mut start = [w.first.1 * p.stride_y as usize + w.first.0 * p.stride_x as usize; L];
        if !contiguous {
            for l in 1..L {
                start[l] = self.element(w.pixel[l], 0);
            }
        }
        let (ramps, reads) = (p.ramps as usize, p.reads as usize);
        for ramp in 0..ramps {
            let mut dead = [0u32; L];
            let mut doomed = [u32::MAX; L];
            if saturates && p.grow > 0 {
                for l in 0..L {
                    doomed[l] = self.first_saturated(w.pixel[l], ramp) as u32;
                }
            }
            let of_ramp = ramp * reads..(ramp + 1) * reads;
            let rows = w.y[of_ramp.clone()].iter_mut().zip(&mut w.flags[of_ramp.clone()]);
            let rows = rows.zip(&mut w.block.r[of_ramp.clone()]).zip(&self.tables.inv_n[of_ramp]);
            for (k, (((row, flags), variance), inv_n)) in rows.enumerate() {
                let (mut y, mut f) = ([T::ZERO; L], [0; L]);
                let step = ramp * p.stride_ramp as usize + k * p.stride_read as usize;
                if contiguous {
                    decode::run(encoding, self.ramp, start[0] + step, &mut y, &mut f);
                } else {
                    for l in 0..L {
                        let value = decode::one(encoding, self.ramp, start[l] + step);
                        f[l] = if value.is_none() { flag::DO_NOT_USE } else { 0 };
                        y[l] = value.unwrap_or(T::ZERO);
                    }
                }
                if self.on(stage::FLAGS_IN) {
                    for l in 0..L {
                        f[l] |= self.flags[(ramp * reads + k) * self.pixels + w.pixel[l]];
                    }
                }
                if saturates {
                    for l in 0..L {
                        dead[l] = if y[l] >= threshold[l] { flag::SATURATED } else { dead[l] };
                        let near = if k as u32 >= doomed[l] { flag::SATURATED } else { 0 };
                        let floor = (y[l] <= T::ZERO) & (f[l] & flag::DO_NOT_USE == 0);
                        f[l] |= dead[l] | near | if floor { flag::AD_FLOOR | flag::DO_NOT_USE } else { 0 };
                    }
                }
                if biased {
                    for l in 0..L {
                        y[l] -= bias[l];
                    }
                }
                if let Some(offsets) = &offsets {
                    offsets.subtract(self, ramp * reads + k, &mut y);
                }
                let (mut r, inv_n) = ([T::ZERO; L], *inv_n);
                for l in 0..L {
                    r[l] = s2[l] * inv_n;
                }
                if linear {
                    if p.zero_point == zero::FIRST && k == 0 {
                        shift = y;
                    }
                    let mut x = y;
                    for l in 0..L {
                        x[l] -= shift[l];
                    }
                    let (value, slope) = horner(&w.coefficients, &x);
                    for l in 0..L {
                        r[l] = r[l] * slope[l] * slope[l];
                    }
                    for l in 0..L {
                        // Both loaded first: a choice between two addresses has no vector form.
                        let (before, after) = (y[l], value[l]);
                        y[l] = if f[l] & flag::SATURATED == 0 { after } else { before };
                    }
                }
                (*row, *flags, *variance) = (y, f, r);
            }
        }
        if saturates && self.averaged {
            self.partly_saturated(w, &threshold);
        }
    }

    /// Averaged reads whose last frames saturated, which the average hides (stcal
    /// 1.20.0, `saturation.py`): the read before the first saturated one, where it
    /// would have reached the threshold by its last frame, with its neighbours; and
    /// the second read, where the third is saturated, the first does not foretell
    /// it, and the second has risen by more than its share of what was left.
    fn partly_saturated<const L: usize>(&self, w: &mut Work<T, L>, threshold: &[T; L]) {
        let reads = self.p.reads as usize;
        let bias = self.lanes(Plane::Bias as usize, w);
        for l in 0..L {
            for start in (0..self.reads()).step_by(reads) {
                let saturated = |k: &usize| w.flags[start + k][l] & flag::SATURATED != 0;
                let own = (0..reads).find(saturated).unwrap_or(reads);
                if own == reads && self.p.grow == 0 {
                    continue;
                }
                for q in self.around(w.pixel[l]) {
                    let first = self.first_saturated(q, start / reads);
                    if first > 0 && first < reads && self.hides(q, start + first - 1) {
                        w.flags[start + first - 1][l] |= flag::DO_NOT_USE;
                    }
                }
                if own == 2 {
                    let (y, t) =
                        (|k: usize| self.raw(w.pixel[l], start + k).unwrap_or(T::ZERO), &self.tables);
                    let last = self.last_frame(start + 2);
                    let foretold = (y(0) - bias[l]) / t.time[start] * last + bias[l] >= threshold[l];
                    let share = (threshold[l] - y(0)) * t.inv_n[start + 1];
                    if !foretold && y(1) - y(0) > share {
                        w.flags[start + 1][l] |= flag::DO_NOT_USE;
                    }
                }
            }
        }
    }

    /// Time of the last frame of read `k` of the exposure, s.
    fn last_frame(&self, k: usize) -> T {
        let t = &self.tables;
        // Half the span of the frames, from the lag of their mean.
        t.time[k] - T::of(3.0) * t.lag[k] / (T::ONE + t.inv_n[k])
    }

    /// Whether read `k` of the exposure, not flagged itself, reaches the threshold by
    /// its last frame.
    fn hides(&self, pixel: usize, k: usize) -> bool {
        if self.tables.inv_n[k] >= T::ONE {
            return false;
        }
        let threshold = T::of(f32::from_bits(self.plane(Plane::Saturation as usize, pixel)));
        let value = self.raw(pixel, k);
        let came = if self.on(stage::FLAGS_IN) { self.flags[k * self.pixels + pixel] } else { 0 };
        value.is_some_and(|v| v > T::ZERO && v * self.last_frame(k) >= threshold * self.tables.time[k])
            && came & (flag::DO_NOT_USE | flag::SATURATED) == 0
    }

    /// What the file holds of read `k` of the exposure.
    fn raw(&self, pixel: usize, k: usize) -> Option<T> {
        decode::one(Encoding::of(self.p.encoding), self.ramp, self.element(pixel, k))
    }

    /// The pixels within `grow` of `pixel`.
    fn around(&self, pixel: usize) -> impl Iterator<Item = usize> + use<T> {
        let (nx, rows, grow) = (self.p.nx as usize, self.p.rows as usize, self.p.grow as usize);
        let (x, y) = (pixel % nx, pixel / nx);
        let columns = x.saturating_sub(grow)..(x + grow + 1).min(nx);
        (y.saturating_sub(grow)..(y + grow + 1).min(rows))
            .flat_map(move |row| columns.clone().map(move |column| row * nx + column))
    }

    /// First read of `ramp` at which any pixel within `grow` of `pixel` saturates.
    pub(super) fn first_saturated(&self, pixel: usize, ramp: usize) -> usize {
        let reads = self.p.reads as usize;
        let mut first = reads;
        for q in self.around(pixel) {
            let threshold = T::of(f32::from_bits(self.plane(Plane::Saturation as usize, q)));
            for k in 0..first {
                if self.raw(q, ramp * reads + k).is_some_and(|v| v >= threshold) {
                    first = k;
                    break;
                }
            }
        }
        first
    }

    #[inline(always)]
    fn load_coefficients<const L: usize>(&self, w: &mut Work<T, L>) {
        for c in 0..w.coefficients.len() {
            w.coefficients[c] = self.lanes(Plane::Coefficients as usize + c, w);
        }
    }

    /// The noise of reads that the polynomial has stretched before: its slope where
    /// its value is the read's, found by Newton's method.
    #[inline(always)]
    pub(super) fn stretch<const L: usize>(&self, w: &mut Work<T, L>) {
        /// From x = y: a polynomial that bends by a tenth is solved to f32 in three.
        const STEPS: usize = 4;
        self.load_coefficients(w);
        for (y, variance) in w.y.iter().zip(&mut w.block.r) {
            let (y, mut r, mut x) = (*y, *variance, *y);
            for _ in 0..STEPS {
                let (value, slope) = horner(&w.coefficients, &x);
                for l in 0..L {
                    x[l] -= (value[l] - y[l]) / slope[l];
                }
            }
            let (_, slope) = horner(&w.coefficients, &x);
            for l in 0..L {
                r[l] = r[l] * slope[l] * slope[l];
            }
            *variance = r;
        }
    }
}

/// Where the offsets of a block of pixels are in the tables.
struct Offsets<const L: usize> {
    /// Of the first table, in a read's entries.
    across: [usize; L],
    /// Of the second.
    at: [usize; L],
    /// Side by side in the first table, one entry of the second.
    shared: bool,
    /// Entries of a read in the second table.
    of_read: usize,
}

impl<const L: usize> Offsets<L> {
    #[inline(always)]
    fn of<T: Real>(s: &Source<'_, T>, w: &Work<T, L>) -> Self {
        let (across_n, lines_n) = (s.p.across as usize, s.p.lines as usize);
        let width = s.p.block_width.max(1) as usize;
        let place = |x: usize, y: usize| {
            let y = y + s.p.row0 as usize;
            if s.p.along_y != 0 { (y, x) } else { (x, y) }
        };
        let (first, line) = place(w.first.0, w.first.1);
        let shared = w.contiguous && s.p.along_y == 0 && first / width == (first + L - 1) / width;
        let (mut across, mut at) = ([first; L], [first / width * lines_n + line; L]);
        if !shared {
            let nx = s.p.nx as usize;
            for l in 0..L {
                let (a, line) = place(w.pixel[l] % nx, w.pixel[l] / nx);
                (across[l], at[l]) = (a, a / width * lines_n + line);
            }
        }
        Offsets { across, at, shared, of_read: across_n.div_ceil(width) * lines_n }
    }

    /// Takes those of read `k` of the exposure off.
    #[inline(always)]
    fn subtract<T: Real>(&self, s: &Source<'_, T>, k: usize, y: &mut [T; L]) {
        let across_n = s.p.across as usize;
        let columns = &s.columns[k * across_n..][..across_n];
        let lines = &s.lines[k * self.of_read..][..self.of_read];
        // An array, not a slice: else its loop gets other vectors than those that wrote `y`,
        // and each load waits until two stores are through.
        if let (true, Some(columns)) = (self.shared, columns[self.across[0]..].first_chunk::<L>()) {
            let (shared, columns) = (T::of(lines[self.at[0]]), *columns);
            for l in 0..L {
                y[l] -= T::of(columns[l]) + shared;
            }
        } else {
            for l in 0..L {
                y[l] -= T::of(columns[self.across[l]]) + T::of(lines[self.at[l]]);
            }
        }
    }
}

/// Value and slope of the polynomial at `x`; a slope outside 0.1 to 10 is no
/// detector's, and stays there.
#[inline(always)]
fn horner<T: Real, const L: usize>(coefficients: &[[T; L]], x: &[T; L]) -> ([T; L], [T; L]) {
    let mut down = coefficients.iter().rev();
    let mut value = down.next().copied().unwrap_or([T::ZERO; L]);
    let mut slope = [T::ZERO; L];
    // The first step without its zeros.
    if let Some(c) = down.next() {
        let c = *c;
        slope = value;
        for l in 0..L {
            value[l] = value[l] * x[l] + c[l];
        }
    }
    for c in down {
        let c = *c;
        for l in 0..L {
            slope[l] = slope[l] * x[l] + value[l];
            value[l] = value[l] * x[l] + c[l];
        }
    }
    for l in 0..L {
        slope[l] = slope[l].larger(T::of(0.1)).smaller(T::of(10.0));
    }
    (value, slope)
}
