//! The truth beside each raw frame. See the module [`super`] for the format.

use std::path::Path;

use super::config::NightConfig;
use super::imager::Star;
use super::lenslet::Lenslet;
use super::physics::Maps;
use super::ramp::Readout;
use super::wcs::Wcs;
use crate::datamodel::dq;
use crate::error::Result;
use crate::fits::{Column, ColumnData, FitsWriter, Header, Pixels};

/// What an exposure's truth holds beyond what its readout knows.
pub(super) enum Extra {
    /// Nothing (darks).
    None,
    /// Imager: sources (ny, nx) and sky level (e-/s where the flat is 1), the stars.
    Imager { scene: Vec<f32>, sky: f32, stars: Vec<Star> },
    /// Lenslet: S_l(x) with throughput (lenslets, nx), and for sky and science the
    /// cubes (nw, ny, nx) of targets and sky, e-/s/µm.
    Lenslet { spectra: Vec<f32>, cubes: Option<[Vec<f32>; 2]> },
}

fn unit(unit: &str) -> Header {
    let mut h = Header::new();
    h.set("BUNIT", unit, "");
    h
}

fn column(name: &str, unit: &str, width: usize, data: ColumnData) -> Column {
    Column { name: name.into(), unit: unit.into(), width, data }
}

/// MASK: the detector's flags, JUMP_DET where a hit falls between two reads,
/// SATURATED where a ramp saturates, for one exposure.
fn mask(maps: &Maps, readout: &Readout<'_>, reads: usize) -> Vec<u32> {
    let n = maps.nx * maps.ny;
    let mut mask = maps.mask.clone();
    for hit in readout.hits.iter().filter(|h| h.read > 0) {
        mask[hit.y as usize * maps.nx + hit.x as usize] |= dq::JUMP_DET;
    }
    for (i, usable) in readout.usable.iter().enumerate() {
        if usize::from(*usable) < reads {
            mask[i % n] |= dq::SATURATED;
        }
    }
    mask
}

/// The finished exposure, as truth needs it.
pub(super) struct Finished<'a, 'b> {
    pub(super) night: &'a NightConfig,
    pub(super) header: &'a Header,
    pub(super) maps: &'a Maps,
    pub(super) rate: &'a [f32],
    pub(super) readout: &'a Readout<'b>,
    pub(super) ramps: usize,
    pub(super) reads: usize,
    pub(super) wcs: &'a Wcs,
}

/// Writes the truth of one exposure.
pub(super) fn write(path: &Path, f: &Finished<'_, '_>, extra: &Extra) -> Result<()> {
    let (maps, readout) = (f.maps, f.readout);
    let shape = [maps.ny, maps.nx];
    let mut primary = f.header.clone();
    primary.set("DATAMODL", "TruthModel", "");
    let mut w = FitsWriter::create(path)?;
    w.empty("PRIMARY", &primary)?;
    w.image("RATE", &unit("electron s-1"), &shape, Pixels::F32(f.rate))?;
    let mut flags = Header::new();
    dq::describe(&mut flags);
    w.image("MASK", &flags, &shape, Pixels::U32(&mask(maps, readout, f.reads)))?;
    w.image("NUSABLE", &Header::new(), &[f.ramps, maps.ny, maps.nx], Pixels::U16(&readout.usable))?;
    match extra {
        Extra::None => {}
        Extra::Imager { scene, sky, stars } => {
            let mut h = unit("electron s-1");
            f.wcs.write(&mut h);
            h.set("SKYLEVEL", f64::from(*sky), "sky where the flat is 1, not in SCENE");
            w.image("SCENE", &h, &shape, Pixels::F32(scene))?;
            w.image("SKY", &unit("electron s-1"), &shape, Pixels::F32(&vec![*sky; scene.len()]))?;
            stars_table(&mut w, f.wcs, stars)?;
        }
        Extra::Lenslet { spectra, cubes } => {
            let lenslets = spectra.len() / maps.nx.max(1);
            w.image("SPECTRA", &unit("electron s-1"), &[lenslets, maps.nx], Pixels::F32(spectra))?;
            if let Some([cube, sky]) = cubes {
                let waves = waves(f.night);
                let [nx, ny] = f.night.lenslet.grid;
                let mut h = unit("electron s-1 um-1");
                f.wcs.write(&mut h);
                h.set("CTYPE3", "WAVE", "");
                h.set("CUNIT3", "um", "");
                h.set("CRPIX3", 1.0, "");
                h.set("CRVAL3", waves.first().copied().unwrap_or(0.0), "");
                h.set(
                    "CD3_3",
                    waves.get(1).copied().unwrap_or(0.0) - waves.first().copied().unwrap_or(0.0),
                    "",
                );
                let shape = [waves.len(), ny, nx];
                w.image("CUBE", &h, &shape, Pixels::F32(cube))?;
                w.image("SKYCUBE", &h, &shape, Pixels::F32(sky))?;
                w.image("WAVELENGTH", &unit("um"), &[waves.len()], Pixels::F64(&waves))?;
            }
        }
    }
    let hits = &readout.hits;
    let integers =
        |f: &dyn Fn(&super::Hit) -> u32| ColumnData::I32(hits.iter().map(|h| f(h) as i32).collect());
    let columns = [
        column("X", "pixel", 1, integers(&|h| h.x)),
        column("Y", "pixel", 1, integers(&|h| h.y)),
        column("RAMP", "", 1, integers(&|h| h.ramp)),
        column("READ", "", 1, integers(&|h| h.read)),
        column("CHARGE", "electron", 1, ColumnData::F32(hits.iter().map(|h| h.charge).collect())),
    ];
    w.table("HITS", &Header::new(), &columns)?;
    w.finish()?;
    Ok(())
}

fn stars_table(w: &mut FitsWriter, wcs: &Wcs, stars: &[Star]) -> Result<()> {
    let places: Vec<[f64; 2]> =
        stars.iter().map(|s| wcs.pixel(s.ra, s.dec).unwrap_or([f64::NAN; 2])).collect();
    let f64s = |v: Vec<f64>| ColumnData::F64(v);
    let columns = [
        column("RA", "deg", 1, f64s(stars.iter().map(|s| s.ra).collect())),
        column("DEC", "deg", 1, f64s(stars.iter().map(|s| s.dec).collect())),
        column("X", "pixel", 1, f64s(places.iter().map(|p| p[0]).collect())),
        column("Y", "pixel", 1, f64s(places.iter().map(|p| p[1]).collect())),
        column("FLUX", "electron s-1", 1, f64s(stars.iter().map(|s| s.flux).collect())),
    ];
    w.table("STARS", &Header::new(), &columns)
}

/// The truth cubes' wavelengths, µm: five a detector column, half a band edge and
/// ten columns beyond either end.
pub(super) fn waves(night: &NightConfig) -> Vec<f64> {
    let c = &night.lenslet;
    let step = (c.wave[1] - c.wave[0]) / c.span / 5.0;
    let margin = (10.0 * c.band_edge / step).ceil();
    let n = ((c.wave[1] - c.wave[0]) / step).round() + 2.0 * margin;
    (0..=n as usize).map(|k| c.wave[0] + (k as f64 - margin) * step).collect()
}

/// `dark_{DETECTOR}_truth.fits` and `flat_{DETECTOR}_truth.fits`: DATA and DQ.
pub(super) fn write_masters(dir: &Path, detector: &str, maps: &Maps) -> Result<()> {
    for (name, bunit, data) in [("dark", "electron s-1", &maps.dark), ("flat", "", &maps.flat)] {
        let mut h = Header::new();
        h.set("DETECTOR", detector, "");
        h.set("DATAMODL", "TruthModel", "");
        let mut w = FitsWriter::create(&dir.join(format!("{name}_{detector}_truth.fits")))?;
        w.empty("PRIMARY", &h)?;
        w.image("DATA", &unit(bunit), &[maps.ny, maps.nx], Pixels::F32(data))?;
        let mut flags = Header::new();
        dq::describe(&mut flags);
        w.image("DQ", &flags, &[maps.ny, maps.nx], Pixels::U32(&maps.mask))?;
        w.finish()?;
    }
    Ok(())
}

/// `lenslets_truth.fits`: the layout, as polynomials and sampled at every column.
pub(super) fn write_lenslets(dir: &Path, night: &NightConfig, lenslets: &[Lenslet]) -> Result<()> {
    let c = &night.lenslet;
    let nx = night.frame[0];
    let mut primary = Header::new();
    primary.set("DATAMODL", "TruthModel", "");
    primary.set("LENSNX", c.grid[0], "lenslets along ix");
    primary.set("LENSNY", c.grid[1], "lenslets along iy");
    primary.set("WAVEMIN", c.wave[0], "um");
    primary.set("WAVEMAX", c.wave[1], "um");
    primary.set("BANDEDGE", c.band_edge, "softness of the band's edges, um");
    primary.set("LSFFWHM", c.lsf, "Gaussian along x, px, before pixels");
    primary.set("WINGS", c.wings, "part of the profile 3 x as wide");
    let mut w = FitsWriter::create(&dir.join("lenslets_truth.fits"))?;
    w.empty("PRIMARY", &primary)?;
    let wide = |f: &dyn Fn(&Lenslet) -> Vec<f64>| ColumnData::F64(lenslets.iter().flat_map(f).collect());
    let whole =
        |f: &dyn Fn(&Lenslet) -> usize| ColumnData::I32(lenslets.iter().map(|l| f(l) as i32).collect());
    let edge = |x: f64| x.clamp(0.0, nx as f64 - 1.0) as usize;
    let columns = [
        column("IX", "", 1, whole(&|l| l.ix)),
        column("IY", "", 1, whole(&|l| l.iy)),
        column("XCOEF", "pixel", 3, wide(&|l| l.x.to_vec())),
        column("YCOEF", "pixel", 3, wide(&|l| l.y.to_vec())),
        column("XREF", "pixel", 1, wide(&|l| vec![l.x_ref])),
        column("FWHM", "pixel", 1, wide(&|l| vec![l.fwhm])),
        column("THRU", "", 1, wide(&|l| vec![l.throughput])),
        column("XMIN", "pixel", 1, whole(&|l| edge(l.column(l.wave[0]).ceil()))),
        column("XMAX", "pixel", 1, whole(&|l| edge(l.column(l.wave[1]).floor()))),
    ];
    w.table("LENSLETS", &Header::new(), &columns)?;
    let sampled = |f: &dyn Fn(&Lenslet, f64) -> f64| -> Vec<f64> {
        let margin = 10.0 * c.band_edge;
        let lit =
            |l: &Lenslet, x: f64| x >= l.column(l.wave[0] - margin) && x <= l.column(l.wave[1] + margin);
        let row = |l: &Lenslet| -> Vec<f64> {
            (0..nx).map(|x| if lit(l, x as f64) { f(l, x as f64) } else { f64::NAN }).collect()
        };
        lenslets.iter().flat_map(row).collect()
    };
    let shape = [lenslets.len(), nx];
    w.image("TRACE", &unit("pixel"), &shape, Pixels::F64(&sampled(&|l, x| l.row(x))))?;
    w.image("WAVE", &unit("um"), &shape, Pixels::F64(&sampled(&|l, x| l.wavelength(x))))?;
    let waves = waves(night);
    let off = |k: usize| ColumnData::F64(waves.iter().map(|w| c.dispersion(*w)[k]).collect());
    let columns = [
        column("WAVELENGTH", "um", 1, ColumnData::F64(waves.clone())),
        column("DX", "", 1, off(0)),
        column("DY", "", 1, off(1)),
    ];
    w.table("DISPERSION", &Header::new(), &columns)?;
    w.finish()?;
    Ok(())
}
