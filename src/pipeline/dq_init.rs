//! What `dq_init` does beside the mask: reads are left out, guide windows masked.

use std::ops::Range;
use std::path::Path;

use crate::config::DqInit;
use crate::datamodel::{dq, guide_window_mode};
use crate::error::{Error, Result};
use crate::fits::{Fits, Header};
use crate::input::Ramp;

/// Leaves out the reads that the step names; `None` where it names none. `in_place`
/// is [`Ramp::select`]'s.
pub(super) fn select(ramp: &Ramp, step: &DqInit, in_place: bool) -> Result<Option<Ramp>> {
    let limits = step.limited().map_err(Error::Usage)?;
    if !limits && step.drop_reads.is_empty() && step.keep_reads.is_empty() {
        return Ok(None);
    }
    let n = ramp.reads;
    let mut kept = vec![step.keep_reads.is_empty(); n];
    for k in &step.keep_reads {
        kept[index(*k, n, "keep_reads", ramp)?] = true;
    }
    for k in &step.drop_reads {
        kept[index(*k, n, "drop_reads", ramp)?] = false;
    }
    let mut kept = kept.repeat(ramp.ramps);
    if limits {
        let (least, most) =
            (step.read_min.unwrap_or(f64::NEG_INFINITY), step.read_max.unwrap_or(f64::INFINITY));
        // A read of which nothing is known (NaN) does not keep a limit.
        let values = ramp.of_reads(&step.read_column)?;
        kept.iter_mut().zip(values).for_each(|(k, v)| *k &= (least..=most).contains(&v));
    }
    let mut out = ramp.select(&kept, in_place)?;
    let dropped: Vec<usize> = (0..kept.len()).filter(|i| !kept[*i]).collect();
    out.header.set("NDROPPED", dropped.len(), "reads left out by dq_init");
    for r in 0..ramp.ramps {
        let of_ramp = dropped.iter().filter(|i| **i / n == r).map(|i| (i % n).to_string());
        let list = of_ramp.collect::<Vec<_>>().join(", ");
        if !list.is_empty() {
            out.header.history(&format!("dq_init left out of ramp {r} (from 0) the reads {list}"));
        }
    }
    Ok(Some(out))
}

/// Read `k` of `n`, from the end where it is negative.
fn index(k: i64, n: usize, parameter: &str, ramp: &Ramp) -> Result<usize> {
    let at = if k < 0 { k + n as i64 } else { k };
    usize::try_from(at).ok().filter(|at| *at < n).ok_or_else(|| {
        Error::input(
            &ramp.path,
            format!(
                "dq_init.{parameter}: there is no read {k} (a ramp has {n}: 0 to {}, or -1 to -{n})",
                n - 1
            ),
        )
    })
}

/// The bits of the pixels of a guide window.
pub(super) const GUIDE_WINDOW: u32 = dq::NON_SCIENCE | dq::DO_NOT_USE;

/// The pixels (ascending) of on-detector guide windows, which were read and reset on
/// their own while the exposure went on; `None` where it has no windows. What cannot
/// be told is a warning.
///
/// Windows are known by SARRMODE = ODGW, with XSTART, YSTART, XSIZE and YSIZE (or
/// SUBSTRT1/2, SUBSIZE1/2) for the window, in detector pixels from 1; or, where
/// several were merged, by an image SUBARR_MAP (ny, nx), not 0 in windows.
pub(super) fn guide_windows(
    path: &Path,
    header: &Header,
    (ny, nx): (usize, usize),
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<u32>>> {
    if !guide_window_mode(header) {
        return Ok(None);
    }
    let mut pixels = mapped(path, (ny, nx))?;
    if pixels.is_empty() {
        match window(header, (ny, nx)) {
            Some((rows, columns)) if rows.len() < ny || columns.len() < nx => {
                pixels.extend(rows.flat_map(|y| columns.clone().map(move |x| (y * nx + x) as u32)));
            }
            Some(_) => warnings.push(
                "SARRMODE = ODGW, and the guide window is all of the frame: nothing of it is masked".into(),
            ),
            None => warnings.push(
                "SARRMODE = ODGW, but the guide window is nowhere described (XSTART, YSTART, XSIZE, YSIZE, or an \
                 image SUBARR_MAP): it is not masked"
                    .into(),
            ),
        }
    }
    Ok(Some(pixels))
}

/// Pixels that SUBARR_MAP says are in a window, ascending.
fn mapped(path: &Path, (ny, nx): (usize, usize)) -> Result<Vec<u32>> {
    let fits = Fits::open(path)?;
    let Some(hdu) = fits.hdu("SUBARR_MAP").filter(|h| h.shape == [ny, nx]) else {
        return Ok(Vec::new());
    };
    let map = fits.u32(hdu)?;
    Ok((0..).zip(map).filter(|(_, id)| *id != 0).map(|(p, _)| p).collect())
}

/// Rows and columns of the frame that are in the window.
fn window(header: &Header, (ny, nx): (usize, usize)) -> Option<(Range<usize>, Range<usize>)> {
    let number = |names: [&str; 2]| names.iter().find_map(|n| header.integer(n));
    let range = |start: [&str; 2], size: [&str; 2], most: usize| {
        let first = number(start)?.checked_sub(1)?;
        let last = first.checked_add(number(size)?.max(0))?;
        let inside = |at: i64| at.clamp(0, most as i64) as usize;
        Some(inside(first)..inside(last))
    };
    let rows = range(["YSTART", "SUBSTRT2"], ["YSIZE", "SUBSIZE2"], ny)?;
    let columns = range(["XSTART", "SUBSTRT1"], ["XSIZE", "SUBSIZE1"], nx)?;
    (!rows.is_empty() && !columns.is_empty()).then_some((rows, columns))
}
