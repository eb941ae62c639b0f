//! References of one value a pixel that stage 1 reads row by row, so that no whole
//! plane is ever held.

use std::ops::Range;
use std::path::Path;

use super::open::{Flags, Frame, Place, Reference};
use crate::datamodel::{Unit, dq};
use crate::error::Result;
use crate::fits::{Hdu, Header};

/// Which values can be used.
#[derive(Debug, Clone, Copy)]
enum Good {
    Finite,
    Positive,
    /// Positive and without NO_SAT_CHECK.
    Checked,
}

/// What becomes of a value that cannot be used.
#[derive(Debug)]
struct Repair {
    good: Good,
    value: f32,
    flags: u32,
}

fn positive(v: f32) -> bool {
    v > 0.0 && v.is_finite()
}

impl Repair {
    /// Replaces values that are not good; `own` are their own flags.
    fn apply(&self, data: &mut [f32], own: impl Iterator<Item = u32>, dq: &mut [u32]) {
        match self.good {
            Good::Finite => self.apply_where(data, own, dq, |v, _| v.is_finite()),
            Good::Positive => self.apply_where(data, own, dq, |v, _| positive(v)),
            Good::Checked => {
                self.apply_where(data, own, dq, |v, q| positive(v) & (q & dq::NO_SAT_CHECK == 0));
            }
        }
    }

    #[inline(always)]
    fn apply_where(
        &self,
        data: &mut [f32],
        own: impl Iterator<Item = u32>,
        dq: &mut [u32],
        good: impl Fn(f32, u32) -> bool,
    ) {
        for ((d, q), own) in data.iter_mut().zip(dq).zip(own) {
            let good = good(*d, own);
            *d = if good { *d } else { self.value };
            *q |= own | if good { 0 } else { self.flags };
        }
    }
}

/// A bias, saturation, gain or readnoise reference, open and matched to a frame.
#[derive(Debug)]
pub struct PlaneFile {
    reference: Reference,
    hdu: Hdu,
    place: Place,
    flags: Flags,
    repair: Repair,
    scale: f32,
    /// Whether the file's unit asks for the gain.
    in_dn: bool,
}

impl PlaneFile {
    fn new(reference: Reference, repair: Repair) -> Result<PlaneFile> {
        let hdu = reference.main(&["DATA", "SCI"])?.clone();
        let place = reference.place_of(&hdu)?;
        let flags = Flags::of(&reference, reference.image("DQ"))?;
        // Found out now rather than in the middle of an exposure.
        reference.fits.check(&hdu, 0, hdu.len())?;
        Ok(PlaneFile { reference, hdu, place, flags, repair, scale: 1.0, in_dn: false })
    }

    /// The bias, raw DN.
    pub fn bias(path: &Path, frame: &Frame) -> Result<PlaneFile> {
        let repair = Repair { good: Good::Finite, value: 0.0, flags: dq::UNRELIABLE_BIAS };
        PlaneFile::new(Reference::open(path, "bias", frame)?, repair)
    }

    /// Saturation levels, raw DN with the bias included.
    pub fn saturation(path: &Path, frame: &Frame) -> Result<PlaneFile> {
        let repair = Repair { good: Good::Checked, value: f32::MAX, flags: dq::NO_SAT_CHECK };
        PlaneFile::new(Reference::open(path, "saturation", frame)?, repair)
    }

    /// The gain, e-/DN.
    pub fn gain(path: &Path, frame: &Frame) -> Result<PlaneFile> {
        let repair = Repair { good: Good::Positive, value: 1.0, flags: dq::NO_GAIN_VALUE | dq::DO_NOT_USE };
        PlaneFile::new(Reference::open(path, "gain", frame)?, repair)
    }

    /// The noise of a single read, electrons. The file must say what it holds: RNFORM
    /// 'SINGLE' or 'CDS' (√2 × single) and BUNIT 'DN' (for which reading takes the
    /// gain) or 'electron'.
    pub fn readnoise(path: &Path, frame: &Frame) -> Result<PlaneFile> {
        let repair = Repair { good: Good::Positive, value: 0.0, flags: dq::UNRELIABLE_ERROR };
        let mut plane = PlaneFile::new(Reference::open(path, "readnoise", frame)?, repair)?;
        let r = &plane.reference;
        let form = r.text(&plane.hdu, "RNFORM").map(|t| t.to_ascii_uppercase());
        plane.scale = match form.as_deref() {
            Some("SINGLE") => 1.0,
            Some("CDS") => std::f32::consts::FRAC_1_SQRT_2,
            other => {
                let found =
                    other.map_or("RNFORM is missing".to_owned(), |t| format!("RNFORM = '{t}' is not known"));
                return Err(r.error(format!(
                    "{found}: write RNFORM = 'SINGLE' (noise of one read) or 'CDS' (of the difference of two)"
                )));
            }
        };
        let bunit = r.text(&plane.hdu, "BUNIT");
        let unit = bunit.as_deref().and_then(Unit::parse).filter(|u| !u.per_second).ok_or_else(|| {
            let found =
                bunit.map_or("BUNIT is missing".to_owned(), |t| format!("BUNIT = '{t}' is not known"));
            r.error(format!("{found}: write BUNIT = 'DN' or 'electron'"))
        })?;
        plane.in_dn = !unit.electrons;
        plane.repair.value = plane.typical()?;
        Ok(plane)
    }

    /// The median of the usable values: of 64 rows spread over the frame, of all rows
    /// where these hold none.
    fn typical(&self) -> Result<f32> {
        let (ny, nx) = (self.reference.frame.ny, self.reference.frame.nx);
        let mut row = vec![0.0; nx];
        for step in [ny.div_ceil(64).max(1), 1] {
            let mut usable = Vec::new();
            for y in (0..ny).step_by(step) {
                self.values(&(y..y + 1), &mut row)?;
                usable.extend(row.iter().copied().filter(|v| positive(*v)));
            }
            if !usable.is_empty() {
                let middle = usable.len() / 2;
                return Ok(*usable.select_nth_unstable_by(middle, f32::total_cmp).1);
            }
        }
        Err(self.reference.error(format!("{} holds no positive value", self.hdu.name)))
    }

    /// The file's primary header.
    pub fn header(&self) -> &Header {
        self.reference.fits.primary()
    }

    /// Whether [`PlaneFile::read`] needs the gain.
    pub fn needs_gain(&self) -> bool {
        self.in_dn
    }

    fn values(&self, rows: &Range<usize>, into: &mut [f32]) -> Result<()> {
        let fits = &self.reference.fits;
        self.place.read(0, rows, into, |first, to| fits.read_f32(&self.hdu, first, to))?;
        if self.scale != 1.0 {
            into.iter_mut().for_each(|v| *v *= self.scale);
        }
        Ok(())
    }

    /// Fills `into` with rows `rows` of the frame (rows × columns), mended, and adds
    /// their flags to `dq`. `gain` (e-/DN, of the same rows) is used where the file
    /// is in DN and must then be given.
    pub fn read(&self, rows: Range<usize>, gain: &[f32], into: &mut [f32], dq: &mut [u32]) -> Result<()> {
        self.values(&rows, into)?;
        if self.flags.is_empty() {
            self.repair.apply(into, std::iter::repeat(0), dq);
        } else {
            let mut own = vec![0; into.len()];
            self.flags.read(&self.reference, &rows, &mut own)?;
            self.repair.apply(into, own.into_iter(), dq);
        }
        if self.in_dn {
            into.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
        }
        Ok(())
    }

    /// The whole frame, (ny, nx), and its flags.
    pub fn load(&self, gain: &[f32]) -> Result<(Vec<f32>, Vec<u32>)> {
        let Frame { ny, nx, .. } = self.reference.frame;
        let (mut data, mut dq) = (vec![0.0; ny * nx], vec![0; ny * nx]);
        self.read(0..ny, gain, &mut data, &mut dq)?;
        Ok((data, dq))
    }
}

/// A mask, open and matched to a frame: flags of pixels.
#[derive(Debug)]
pub struct MaskFile {
    reference: Reference,
    flags: Flags,
}

impl MaskFile {
    /// Opens DQ, else MASK, DATA or SCI.
    pub fn open(path: &Path, frame: &Frame) -> Result<MaskFile> {
        let reference = Reference::open(path, "mask", frame)?;
        let hdu = match reference.image("DQ") {
            Some(hdu) => hdu,
            None => reference.main(&["MASK", "DATA", "SCI"])?,
        };
        reference.fits.check(hdu, 0, hdu.len())?;
        let flags = Flags::of(&reference, Some(hdu))?;
        Ok(MaskFile { reference, flags })
    }

    /// Adds the flags of rows `rows` to `into` (rows × columns).
    pub fn read(&self, rows: Range<usize>, into: &mut [u32]) -> Result<()> {
        self.flags.read(&self.reference, &rows, into)
    }

    /// The whole frame, (ny, nx).
    pub fn load(&self) -> Result<Vec<u32>> {
        let Frame { ny, nx, .. } = self.reference.frame;
        let mut out = vec![0; ny * nx];
        self.read(0..ny, &mut out)?;
        Ok(out)
    }
}
