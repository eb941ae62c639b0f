//! The readout's three functions for C: `libirisgpu.so` with `iris_readout.h`.
//!
//! They mean what iris_readout's `uptheramp`, `mcds` and `nonlin_corr` mean. Sizes are
//! explicit, memory is the caller's, and what is wrong comes back as a status; nothing
//! is kept between calls and no thread is started, so that any thread may call them.
//! The formulas are the ramp kernel's ([`Counts`], linearity), in double precision:
//! `docs/readout.md` has them, an example and what the original gets wrong.
//!
//! `cbindgen` makes the header of this file: `IRISGPU_WRITE_HEADER=1 cargo test --test capi`.

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use crate::kernels::linearity_reads::polynomial;
use crate::kernels::ramp::{Counts, Line};

/// What came of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrisStatus {
    /// Done.
    Ok = 0,
    /// A pointer is NULL or not aligned.
    NullPointer = 1,
    /// A size is 0 or the array of that many values would be larger than memory.
    BadSize = 2,
    /// The output has another number of values than the result.
    OutputSize = 3,
    /// Fewer than two reads.
    TooFewReads = 4,
    /// Times are not finite or do not increase from read to read.
    BadTimes = 5,
    /// num_coadd is 0 or more than half of the reads.
    BadCoadd = 6,
    /// The frame lies partly outside of the coefficient maps.
    OutsideMaps = 7,
    /// A fault of the library itself. The output is not to be used.
    Internal = 8,
}

/// Pixels that are summed at a time: their sums stay in the cache.
const BAND: usize = 4096;

/// A sentence for a status (a value of IrisStatus); never NULL, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn iris_status_message(status: i32) -> *const c_char {
    match status {
        0 => c"done",
        1 => c"a pointer is NULL or not aligned",
        2 => c"a size is 0, or larger than memory",
        3 => c"the output has another number of values than the result",
        4 => c"fewer than two reads",
        5 => c"times are not finite or do not increase from read to read",
        6 => c"num_coadd is 0 or more than half of the reads",
        7 => c"the frame lies partly outside of the coefficient maps",
        8 => c"a fault of the library itself",
        _ => c"no status of this library",
    }
    .as_ptr()
}

/// Up the ramp: the slope of the least-squares line through all reads of a pixel, times
/// the time from the first read to the last: counts over the ramp.
///
/// reads: nreads x ny x nx counts, x fastest. times: nreads, in any unit, increasing.
/// counts: ncounts = ny x nx results.
///
/// # Safety
/// The pointers must be valid for as many values, and counts must not overlap the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iris_uptheramp(
    reads: *const i32,
    times: *const f64,
    nreads: usize,
    ny: usize,
    nx: usize,
    counts: *mut f32,
    ncounts: usize,
) -> IrisStatus {
    // SAFETY: what the caller promises; `input` and `output` refuse NULL.
    guarded(|| unsafe {
        let pixels = frame(ny, nx)?;
        let out = output(counts, ncounts, pixels)?;
        let (reads, times) = (input(reads, product(nreads, pixels)?)?, input(times, nreads)?);
        if nreads < 2 {
            return Err(IrisStatus::TooFewReads);
        }
        let increasing = times.windows(2).all(|t| t[0] < t[1]);
        if !increasing || !times.iter().all(|t| t.is_finite()) || !(times[nreads - 1] - times[0]).is_finite()
        {
            return Err(IrisStatus::BadTimes);
        }
        sampled(reads, &Counts::new(Line::Ols, times).weights, out);
        Ok(())
    })
}

/// Multiple correlated double sampling: the mean of the last num_coadd reads of a pixel
/// less the mean of the first; with num_coadd = 1 correlated double sampling.
///
/// reads: nreads x ny x nx counts, x fastest. num_coadd: at most half of the reads.
/// counts: ncounts = ny x nx results.
///
/// # Safety
/// The pointers must be valid for as many values, and counts must not overlap reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iris_mcds(
    reads: *const i32,
    nreads: usize,
    ny: usize,
    nx: usize,
    num_coadd: usize,
    counts: *mut f32,
    ncounts: usize,
) -> IrisStatus {
    // SAFETY: what the caller promises; `input` and `output` refuse NULL.
    guarded(|| unsafe {
        let pixels = frame(ny, nx)?;
        let out = output(counts, ncounts, pixels)?;
        let reads = input(reads, product(nreads, pixels)?)?;
        if nreads < 2 {
            return Err(IrisStatus::TooFewReads);
        }
        if num_coadd == 0 || num_coadd > nreads / 2 {
            return Err(IrisStatus::BadCoadd);
        }
        // A difference of means does not ask when the reads were.
        let times: Vec<f64> = (0..nreads).map(|k| k as f64).collect();
        sampled(reads, &Counts::new(Line::Mcds { coadd: num_coadd }, &times).weights, out);
        Ok(())
    })
}

/// Non-linearity: y = (1 + c0 + c1 x + c2 x^2 + c3 x^3 + c4 x^4) x of every read x.
///
/// reads: nreads x ny x nx counts, x fastest. c0 to c4: maps of map_ny x map_nx
/// coefficients, x fastest; (y0, x0), from 0, is where in the maps the reads' first pixel
/// is: (0, 0) for maps of the same frame, the subarray's corner for maps of the detector.
/// corrected: ncorrected = nreads x ny x nx results.
///
/// # Safety
/// The pointers must be valid for as many values, and corrected must not overlap the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iris_nonlin_corr(
    reads: *const i32,
    nreads: usize,
    ny: usize,
    nx: usize,
    c0: *const f32,
    c1: *const f32,
    c2: *const f32,
    c3: *const f32,
    c4: *const f32,
    map_ny: usize,
    map_nx: usize,
    y0: usize,
    x0: usize,
    corrected: *mut f32,
    ncorrected: usize,
) -> IrisStatus {
    // SAFETY: what the caller promises; `input` and `output` refuse NULL.
    guarded(|| unsafe {
        let (pixels, map) = (frame(ny, nx)?, frame(map_ny, map_nx)?);
        let all = product(nreads, pixels)?;
        let out = output(corrected, ncorrected, all)?;
        let reads = input(reads, all)?;
        let maps = [input(c0, map)?, input(c1, map)?, input(c2, map)?, input(c3, map)?, input(c4, map)?];
        let inside =
            |start: usize, n: usize, size: usize| start.checked_add(n).is_some_and(|end| end <= size);
        if !inside(y0, ny, map_ny) || !inside(x0, nx, map_nx) {
            return Err(IrisStatus::OutsideMaps);
        }
        // Ascending powers of x: (1 + c0) x + c1 x² + …
        let powers = |p: usize| {
            let at = (y0 + p / nx) * map_nx + x0 + p % nx;
            let [a, b, c, d, e] = maps.map(|m| f64::from(m[at]));
            [0.0, 1.0 + a, b, c, d, e]
        };
        let mut band = Vec::with_capacity(BAND / 8);
        for first in (0..pixels).step_by(BAND / 8) {
            band.clear();
            band.extend((first..pixels.min(first + BAND / 8)).map(powers));
            for read in 0..nreads {
                let at = read * pixels + first..read * pixels + first + band.len();
                for ((y, x), powers) in out[at.clone()].iter_mut().zip(&reads[at]).zip(&band) {
                    *y = polynomial(powers, f64::from(*x)) as f32;
                }
            }
        }
        Ok(())
    })
}

/// Σ w_i (y_{i+1} − y_i) of every pixel.
fn sampled(reads: &[i32], weights: &[f64], out: &mut [f32]) {
    let pixels = out.len();
    let mut sums = [0.0f64; BAND];
    for (band, out) in out.chunks_mut(BAND).enumerate() {
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        let read = |i: usize| &reads[i * pixels + band * BAND..][..out.len()];
        for (i, w) in weights.iter().enumerate() {
            for ((sum, before), after) in sums.iter_mut().zip(read(i)).zip(read(i + 1)) {
                *sum += w * (f64::from(*after) - f64::from(*before));
            }
        }
        out.iter_mut().zip(sums).for_each(|(o, s)| *o = *s as f32);
    }
}

/// The call, whose panics, should there be any, end here: C knows none.
fn guarded(call: impl FnOnce() -> Result<(), IrisStatus>) -> IrisStatus {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => IrisStatus::Ok,
        Ok(Err(status)) => status,
        Err(_) => IrisStatus::Internal,
    }
}

fn product(a: usize, b: usize) -> Result<usize, IrisStatus> {
    a.checked_mul(b).filter(|n| (1..=isize::MAX as usize / 8).contains(n)).ok_or(IrisStatus::BadSize)
}

/// Pixels of a frame.
fn frame(ny: usize, nx: usize) -> Result<usize, IrisStatus> {
    product(ny, nx)
}

/// # Safety
/// Where `values` is not NULL it must be valid for reads of `n` values.
unsafe fn input<'a, T>(values: *const T, n: usize) -> Result<&'a [T], IrisStatus> {
    if values.is_null() || !values.is_aligned() {
        return Err(IrisStatus::NullPointer);
    }
    // SAFETY: what the caller promises.
    Ok(unsafe { slice::from_raw_parts(values, n) })
}

/// # Safety
/// Where `values` is not NULL it must be valid for reads and writes of `n` values.
unsafe fn output<'a>(values: *mut f32, n: usize, wanted: usize) -> Result<&'a mut [f32], IrisStatus> {
    if values.is_null() || !values.is_aligned() {
        return Err(IrisStatus::NullPointer);
    }
    if n != wanted {
        return Err(IrisStatus::OutputSize);
    }
    // SAFETY: what the caller promises. Uninitialised floats of the caller's are written
    // before they are read.
    Ok(unsafe { slice::from_raw_parts_mut(values, n) })
}
