//! The blocks of a night unrolled to exposures, each with its place, time and light.

use super::config::{Block, NightConfig, Purpose, Spx};
use crate::datamodel::lines::of_lamps;
use crate::datamodel::{Meta, ObsName, product_name};

/// What lights an exposure.
#[derive(Debug, Clone, PartialEq)]
pub enum Lamp {
    /// Nothing.
    Dark,
    /// The imager's flat lamp.
    Flat,
    /// The sky.
    Sky,
    /// Sky and targets.
    Science,
    /// The white lamp through one column of lenslets (from 0).
    White(usize),
    /// Lines (µm, e-/s a lenslet) through all lenslets.
    Lines(Vec<[f64; 2]>, Spx),
    /// A white point source, spaxels along ix and iy from the field's centre.
    Point([f64; 2]),
}

/// One exposure to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// Number in the night, from 0; EXPNUM is one more.
    pub number: usize,
    /// Its block.
    pub block: Block,
    /// RA, DEC, PA, degrees.
    pub pointing: [f64; 3],
    /// Julian date of the start.
    pub jd: f64,
    /// What lights it.
    pub lamp: Lamp,
}

impl Exposure {
    /// Whether the lenslet spectrograph takes it.
    pub fn is_lenslet(&self) -> bool {
        self.block.detector == "IFU"
    }

    /// `IMG1-SCI`, `LEN-SPX` …
    pub fn obsname(&self) -> String {
        let channel = if self.is_lenslet() { "LEN".to_owned() } else { self.block.detector.clone() };
        ObsName { channel, kind: self.block.kind.kind() }.to_string()
    }

    /// IMTYPE.
    pub fn imtype(&self) -> &'static str {
        match self.block.kind {
            Purpose::Drk => "DARK",
            Purpose::Nff => "FLAT",
            Purpose::Sky => "SKY",
            Purpose::Sci => "SCI",
            Purpose::Spx => "SPX",
            Purpose::Arc => "ARC",
            Purpose::Idp => "IDP",
        }
    }

    /// Seconds from reset to the last read of a ramp.
    pub fn exptime(&self) -> f64 {
        self.block.reads as f64 * self.block.read_time
    }

    /// The raw file's name.
    pub fn file_name(&self, night: &NightConfig) -> String {
        let meta = Meta {
            semid: night.semid.clone(),
            prognum: night.prognum.clone(),
            obsnum: night.obsnum.clone(),
            expnum: self.number as i64 + 1,
            detector: self.block.detector.clone(),
            imtype: self.imtype().into(),
            ..Meta::default()
        };
        product_name(&meta, 0, "")
    }
}

/// Every exposure of the night, in order.
pub fn exposures(night: &NightConfig) -> Vec<Exposure> {
    /// Seconds from one exposure's end to the next's start.
    const OVERHEAD: f64 = 10.0;
    let mut out: Vec<Exposure> = Vec::new();
    let mut seconds = 0.0;
    for block in &night.exposures {
        seconds += block.wait;
        for (i, lamp) in lamps(night, block).into_iter().enumerate() {
            let exposure = Exposure {
                number: out.len(),
                block: block.clone(),
                pointing: dithered(night, block, i),
                jd: night.start_jd + seconds / 86_400.0,
                lamp,
            };
            seconds += block.ramps as f64 * exposure.exptime() + OVERHEAD;
            out.push(exposure);
        }
    }
    out
}

fn lamps(night: &NightConfig, block: &Block) -> Vec<Lamp> {
    let each = |lamps: Vec<Lamp>| -> Vec<Lamp> {
        lamps.into_iter().flat_map(|l| std::iter::repeat_n(l, block.count)).collect()
    };
    match (block.kind, block.spx) {
        (Purpose::Drk, _) => each(vec![Lamp::Dark]),
        (Purpose::Nff, _) => each(vec![Lamp::Flat]),
        (Purpose::Sky, _) => each(vec![Lamp::Sky]),
        (Purpose::Sci, _) => each(vec![Lamp::Science]),
        (Purpose::Spx, Spx::White) => each((0..night.lenslet.grid[0]).map(Lamp::White).collect()),
        (Purpose::Spx, Spx::Arc) => each(vec![Lamp::Lines(block.lines.clone(), Spx::Arc)]),
        (Purpose::Spx, Spx::Mono) => {
            each(block.lines.iter().map(|l| Lamp::Lines(vec![*l], Spx::Mono)).collect())
        }
        (Purpose::Arc, _) if block.lines.is_empty() => each(vec![Lamp::Lines(arc(night, block), Spx::Arc)]),
        (Purpose::Arc, _) => each(vec![Lamp::Lines(block.lines.clone(), Spx::Arc)]),
        (Purpose::Idp, _) => {
            let centre = [[0.0; 2]];
            let places = if block.dithers.is_empty() { centre.as_slice() } else { &block.dithers };
            (0..block.count).map(|i| Lamp::Point(places[i % places.len()])).collect()
        }
    }
}

/// The lines of a block's lamps in the band, the brightest of `field.arc` e-/s.
fn arc(night: &NightConfig, block: &Block) -> Vec<[f64; 2]> {
    let [low, high] = night.lenslet.wave;
    let mut lines = of_lamps(&block.lamps);
    lines.retain(|l| (low..=high).contains(&l.wavelength));
    let brightest = lines.iter().map(|l| l.brightness).fold(f64::MIN_POSITIVE, f64::max);
    let factor = night.lenslet.field.arc * block.lamp / brightest;
    lines.iter().map(|l| [l.wavelength, l.brightness * factor]).collect()
}

fn dithered(night: &NightConfig, block: &Block, i: usize) -> [f64; 3] {
    let [ra, dec, pa] = night.pointing;
    let [east, north] = match block.dithers.len() {
        _ if block.kind == Purpose::Idp => [0.0; 2],
        0 => [0.0; 2],
        n => block.dithers[i % n],
    };
    let cos = dec.to_radians().cos().max(1e-6);
    [
        (ra + east / 3600.0 / cos).rem_euclid(360.0),
        (dec + north / 3600.0).clamp(-90.0, 90.0),
        block.pa.unwrap_or(pa),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_unroll_in_order_with_times() {
        let mut night = NightConfig { exposures: vec![], ..NightConfig::default() };
        night.lenslet.grid = [3, 2];
        let spx = Block { detector: "IFU".into(), kind: Purpose::Spx, ..Block::default() };
        let mono = Block { spx: Spx::Mono, lines: vec![[2.11, 5.0], [2.12, 5.0]], ..spx.clone() };
        let sci = Block { count: 2, dithers: vec![[0.0, 0.0], [3.6, 0.0]], ..Block::default() };
        night.exposures = vec![spx, mono, sci];
        let all = exposures(&night);
        assert_eq!(all.len(), 7);
        assert_eq!(all[2].lamp, Lamp::White(2));
        assert_eq!(all[6].file_name(&night), "2026A-P001-001_IRIS_IMG1_SCI_LVL0_0007.fits");
        assert!(all.windows(2).all(|w| w[1].jd > w[0].jd));
        let moved = (all[6].pointing[0] - all[5].pointing[0]) * all[5].pointing[1].to_radians().cos();
        assert!((moved - 0.001).abs() < 1e-9);
    }
}
