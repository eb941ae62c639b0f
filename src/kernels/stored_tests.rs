//! Cases of other programs' results (`testdata/oracle`) as the kernels' buffers.

use serde_json::Value;

use super::{Access, Args, Bound, Kernel, ramp::Tables};
use crate::engine::{Dispatch, Engine};

/// One case.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) meta: Value,
    arrays: Value,
}

/// The cases of a kind.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let all: Vec<Value> = serde_json::from_str(text).expect("JSON");
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    all.into_iter()
        .map(|c| Case { id: text(&c["id"]), meta: c["meta"].clone(), arrays: c["arrays"].clone() })
        .collect()
}

impl Case {
    /// An array, NaN where it is null.
    pub(crate) fn array(&self, name: &str) -> Vec<f64> {
        let data = self.arrays[name]["data"].as_array().expect(name);
        data.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
    }

    /// Whether it has an array of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.get(name).is_some()
    }

    /// Its shape.
    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        let shape = self.arrays[name]["shape"].as_array().expect(name);
        shape.iter().map(|n| n.as_u64().expect("size") as usize).collect()
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.meta[name].as_f64().unwrap_or(f64::NAN)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.meta[name].as_bool().unwrap_or(false)
    }

    /// Ramps, reads, pixels.
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        let shape = self.shape("in_data");
        (shape[0], shape[1], shape[2] * shape[3])
    }

    /// Mean times and frames averaged of every read.
    pub(crate) fn times(&self) -> (Vec<f64>, Vec<u16>, f64) {
        let (ramps, reads, _) = self.size();
        let pattern: Vec<Vec<f64>> = match self.meta["read_pattern"].as_array() {
            Some(p) => p
                .iter()
                .map(|r| r.as_array().expect("reads").iter().map(|t| t.as_f64().expect("time")).collect())
                .collect(),
            None => {
                let or = |key: &str, default: f64| self.meta[key].as_f64().unwrap_or(default);
                let (frames, frame) = (or("nframes", 1.0), or("frame_time", 1.0));
                let group = or("group_time", 1.0);
                let times =
                    |g: usize| (0..frames as usize).map(move |j| (j + 1) as f64 * frame + g as f64 * group);
                (0..reads).map(|g| times(g).collect()).collect()
            }
        };
        let mean = |r: &Vec<f64>| r.iter().sum::<f64>() / r.len() as f64;
        let all = || (0..ramps).flat_map(|_| &pattern);
        let frame = pattern.iter().find(|r| r.len() > 1).map_or(0.0, |r| r[1] - r[0]);
        (all().map(mean).collect(), all().map(|r| r.len() as u16).collect(), frame)
    }

    /// The buffers that all kernels on stored ramps begin with.
    pub(crate) fn stored(&self) -> Vec<Vec<u32>> {
        let (_, reads, pixels) = self.size();
        let bits = |v: &[f64]| v.iter().map(|v| (*v as f32).to_bits()).collect::<Vec<u32>>();
        let whole = |name: &str| self.array(name).iter().map(|v| *v as u32).collect::<Vec<u32>>();
        let present = |name: &str| self.arrays.get(name).is_some();
        let gain = if present("in_gain") { self.array("in_gain") } else { vec![1.0; pixels] };
        let mut dq = if present("in_pixeldq") { whole("in_pixeldq") } else { vec![0; pixels] };
        for (q, g) in dq.iter_mut().zip(&gain) {
            *q |= if *g > 0.0 { 0 } else { crate::datamodel::dq::NO_GAIN_VALUE | 1 };
        }
        let gain: Vec<f64> = gain.into_iter().map(|g| if g > 0.0 { g } else { 1.0 }).collect();
        let noise = self.array("in_readnoise");
        // CDS noise in DN to the variance of one read in electrons.
        let variance: Vec<f64> =
            (0..pixels).map(|i| (noise[i % noise.len()] * gain[i]).powi(2) / 2.0).collect();
        let mut cal = dq;
        for plane in [vec![1e30; pixels], vec![0.0; pixels], gain, variance] {
            cal.extend(bits(&plane));
        }
        let (times, frames, frame) = self.times();
        let tables = Tables::new(&times, &frames, frame, reads).to_words();
        vec![bits(&self.array("in_data")), whole("in_groupdq"), cal, tables]
    }

    /// Whether there are first frames.
    pub(crate) fn has_zeroframe(&self) -> bool {
        self.arrays.get("in_zeroframe").is_some()
    }

    /// Those, the average dark current, first frames and room for rates.
    pub(crate) fn fit(&self) -> Vec<Vec<u32>> {
        let mut buffers = self.stored();
        let dark = self.array("in_average_dark_current");
        buffers.push(dark.iter().map(|v| (*v as f32).to_bits()).collect());
        let zero = if self.has_zeroframe() { self.array("in_zeroframe") } else { vec![0.0] };
        buffers.push(zero.iter().map(|v| (*v as f32).to_bits()).collect());
        buffers.push(vec![0; super::ramp::OUT_PLANES * self.size().2]);
        buffers
    }
}

/// `run` with the buffers as a kernel's arguments.
pub(crate) fn with_args<R>(params: &[u32], buffers: &[Vec<u32>], run: impl FnOnce(&Args<'_>) -> R) -> R {
    let buffers = buffers.iter().map(|w| Bound::Read(w)).collect();
    run(&Args { items: 0, params, buffers })
}

/// The buffers after a dispatch on an engine.
pub(crate) fn dispatch(
    kernel: &'static Kernel,
    params: &[u32],
    buffers: &[Vec<u32>],
    items: usize,
    constants: &[(&'static str, u32)],
    engine: &mut dyn Engine,
) -> Vec<Vec<u32>> {
    let handles: Vec<_> = buffers.iter().map(|w| engine.buffer_of(w).expect("buffer")).collect();
    let dispatch = Dispatch {
        kernel,
        buffers: handles.clone(),
        items,
        params: params.to_vec(),
        constants: constants.to_vec(),
    };
    engine.submit(&vec![dispatch]).expect("submit");
    let written = handles.iter().zip(kernel.access).filter(|(_, a)| **a == Access::Write);
    written.map(|(b, _)| engine.download(*b).expect("download")).collect()
}

/// A fit as the engines write it: rate, error, variances, χ² and DQ of each pixel.
pub(crate) fn rates(out: &[u32], pixels: usize) -> Vec<super::stored::Rate> {
    let at = |plane: usize, i: usize| f64::from(f32::from_bits(out[plane * pixels + i]));
    (0..pixels)
        .map(|i| super::stored::Rate {
            values: std::array::from_fn(|plane| at(plane, i)),
            dq: out[5 * pixels + i],
            reads: out[6 * pixels + i],
        })
        .collect()
}

/// Compares rates in DN/s with a case's: the slope to `slope` of its size or `sigma`
/// of its error, errors and variances to `other` of theirs, and says where it fails.
pub(crate) fn compare(
    case: &Case,
    rates: &[super::stored::Rate],
    slope: f64,
    sigma: f64,
    other: f64,
) -> Result<(), String> {
    let names = ["out_slope", "out_err", "out_var_poisson", "out_var_rnoise"];
    let expected: Vec<Vec<f64>> = names.iter().map(|n| case.array(n)).collect();
    let dq = case.array("out_dq");
    for (i, rate) in rates.iter().enumerate() {
        let fail = |what: &str, a: f64, b: f64| Err(format!("{} pixel {i}: {what} {a} against {b}", case.id));
        if rate.values[0].is_nan() != expected[0][i].is_nan() {
            return fail("slope", rate.values[0], expected[0][i]);
        }
        // A pixel without a rate is DO_NOT_USE here, which LIKELY does not say.
        let extra = u32::from(expected[0][i].is_nan());
        if rate.dq | extra != dq[i] as u32 | extra {
            return fail("dq", f64::from(rate.dq), dq[i]);
        }
        if expected[0][i].is_nan() {
            continue;
        }
        for (p, e) in expected.iter().enumerate() {
            let (a, b) = (rate.values[p], e[i]);
            // What rounding leaves of nothing is nothing.
            let dust = 1e-12;
            let allowed =
                if p == 0 { (slope * b.abs()).max(sigma * expected[1][i]) } else { other * b.abs() };
            if (a - b).abs() > allowed + dust {
                return fail(names[p], a, b);
            }
        }
    }
    Ok(())
}
