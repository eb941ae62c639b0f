//! From values to shades and colours.
//!
//! The colours are cividis (Nuñez, Anderton & Renslow 2018, PLoS ONE 13, e0199239),
//! which those who see colours otherwise read alike; neither black nor white is in it,
//! so that a pixel without a value can be neither bright nor faint.

use crate::error::{Error, Result};

/// cividis at 0, 1/16 … 1.
const CIVIDIS: [[u8; 3]; 17] = [
    [0, 34, 78],
    [0, 45, 108],
    [25, 56, 111],
    [49, 68, 107],
    [66, 78, 108],
    [81, 90, 109],
    [95, 101, 113],
    [109, 113, 118],
    [124, 123, 120],
    [140, 135, 121],
    [155, 147, 119],
    [172, 160, 114],
    [189, 174, 107],
    [207, 188, 97],
    [224, 202, 84],
    [241, 217, 66],
    [254, 232, 56],
];

/// The colour of a shade, 0 (the low cut) to 1 (the high one).
pub fn colour(shade: f64) -> [u8; 3] {
    let at = shade.clamp(0.0, 1.0) * (CIVIDIS.len() - 1) as f64;
    let k = (at as usize).min(CIVIDIS.len() - 2);
    let between = |c: usize| {
        let (a, b) = (f64::from(CIVIDIS[k][c]), f64::from(CIVIDIS[k + 1][c]));
        (a + (b - a) * (at - k as f64)).round() as u8
    };
    [between(0), between(1), between(2)]
}

/// How values become shades between the cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Stretch {
    /// Inverse hyperbolic sine: linear in the noise, logarithmic above it.
    #[default]
    Asinh,
    /// In proportion.
    Linear,
    /// Logarithm of 1 + 1000 × the linear shade.
    Log,
}

impl Stretch {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Stretch::Asinh => "asinh",
            Stretch::Linear => "linear",
            Stretch::Log => "log",
        }
    }

    /// 0 at the low cut, 1 at the high one.
    pub fn shade(self, value: f64, cuts: &Cuts) -> f64 {
        let linear = ((value - cuts.low) / (cuts.high - cuts.low)).clamp(0.0, 1.0);
        match self {
            Stretch::Linear => linear,
            Stretch::Log => (1.0 + 1000.0 * linear).ln() / 1001f64.ln(),
            Stretch::Asinh => (linear / cuts.bend()).asinh() / (1.0 / cuts.bend()).asinh(),
        }
    }

    /// The value of a shade: the other way round.
    pub fn value(self, shade: f64, cuts: &Cuts) -> f64 {
        let linear = match self {
            Stretch::Linear => shade,
            Stretch::Log => ((shade * 1001f64.ln()).exp() - 1.0) / 1000.0,
            Stretch::Asinh => (shade * (1.0 / cuts.bend()).asinh()).sinh() * cuts.bend(),
        };
        cuts.low + linear * (cuts.high - cuts.low)
    }
}

/// Where colours begin and end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    /// Value of the first colour.
    pub low: f64,
    /// Value of the last.
    pub high: f64,
    /// Width of what asinh shows linearly.
    pub soft: f64,
}

/// More values than this are not sorted for cuts, but every so-manieth.
const ENOUGH: usize = 1 << 18;

impl Cuts {
    /// Cuts that noise and a few bright pixels do not move: from 2 σ below the median,
    /// σ from the lower half's 16th percentile, to the 99.8th percentile. Values that are
    /// not finite do not count; of nothing, 0 to 1.
    pub fn of(values: &[f32]) -> Cuts {
        let sorted = sample(values);
        let at = |q: f64| percentile(&sorted, q);
        let (median, sigma) = (at(0.5), (at(0.5) - at(0.16)).max(1e-12));
        let low = (median - 2.0 * sigma).max(at(0.0));
        Cuts { low, high: at(0.998).max(median + 3.0 * sigma).max(low + 1e-9), soft: 4.0 * sigma }
    }

    /// `LOW,HIGH`: values, or percentiles as `1%,99.5%`.
    pub fn parse(text: &str, values: &[f32]) -> Result<Cuts> {
        let wrong = || Error::Usage(format!("--cut {text}: give LOW,HIGH, as -5,200 or 1%,99.5%"));
        let (low, high) = text.split_once(',').ok_or_else(wrong)?;
        let own = Cuts::of(values);
        let sorted = if text.contains('%') { sample(values) } else { Vec::new() };
        let one = |part: &str| match part.trim().strip_suffix('%') {
            Some(q) => {
                let q: f64 = q.parse().ok()?;
                (0.0..=100.0).contains(&q).then(|| percentile(&sorted, q / 100.0))
            }
            None => part.trim().parse::<f64>().ok().filter(|v| v.is_finite()),
        };
        let (low, high) = (one(low).ok_or_else(wrong)?, one(high).ok_or_else(wrong)?);
        if low < high { Ok(Cuts { low, high, soft: own.soft.min(high - low) }) } else { Err(wrong()) }
    }

    /// The linear part as a fraction of the whole.
    fn bend(&self) -> f64 {
        (self.soft / (self.high - self.low)).clamp(1e-4, 10.0)
    }
}

fn sample(values: &[f32]) -> Vec<f32> {
    // An odd stride: columns are not met in step.
    let stride = (values.len() / ENOUGH) | 1;
    let mut sorted: Vec<f32> = values.iter().copied().step_by(stride).filter(|v| v.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    sorted
}

fn percentile(sorted: &[f32], q: f64) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => f64::from(sorted[((n - 1) as f64 * q) as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_rise_from_cut_to_cut_and_back() {
        let cuts = Cuts { low: -3.0, high: 500.0, soft: 10.0 };
        for stretch in [Stretch::Asinh, Stretch::Linear, Stretch::Log] {
            assert_eq!((stretch.shade(-9.0, &cuts), stretch.shade(900.0, &cuts)), (0.0, 1.0));
            let mut last = -1.0;
            for v in [-3.0, 0.0, 10.0, 100.0, 499.0] {
                let shade = stretch.shade(v, &cuts);
                assert!(shade > last);
                assert!((stretch.value(shade, &cuts) - v).abs() < 1e-9, "{stretch:?} {v}");
                last = shade;
            }
        }
        assert_eq!((colour(0.0), colour(1.0)), ([0, 34, 78], [254, 232, 56]));
    }

    #[test]
    fn cuts_are_typed_or_found() {
        let values: Vec<f32> = (0..=1000).map(|i| i as f32).chain([f32::NAN]).collect();
        let typed = Cuts::parse("1%, 99%", &values).expect("percentiles");
        assert_eq!((typed.low, typed.high), (10.0, 990.0));
        assert_eq!(Cuts::parse("-5,7.5", &values).expect("values").high, 7.5);
        for wrong in ["", "5", "7,5", "a,b", "1%,101%", "nan,5"] {
            assert!(Cuts::parse(wrong, &values).is_err(), "{wrong}");
        }
        let none = Cuts::of(&[f32::NAN]);
        assert!(none.high > none.low);
    }
}
