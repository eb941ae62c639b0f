//! A recipe's stage-1 steps as what the kernels take.

use super::super::calibration::Calibration;
use super::chain::Chain;
use super::jumps::Spread;
use crate::config::{Algorithm, DarkDecay, Jump, JumpMethod, RampFit, RateUnits, Recipe, Refpix, Step};
use crate::kernels::ramp::{self, Params, stage};

/// What a recipe asks of stage 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(super) stages: u32,
    pub(super) grow: u32,
    pub(super) refpix: Option<Refpix>,
    pub(super) decay: Option<DarkDecay>,
    /// A method of another program decides, with that program's noise.
    pub(super) theirs: bool,
    pub(super) params: Params,
    pub(super) chain: Chain,
    pub(super) spread: Option<Spread>,
    /// Steps that were asked for but cannot run, with the reason.
    pub left_out: Vec<(&'static str, String)>,
    /// What was asked for in vain, as sentences.
    pub(super) warnings: Vec<String>,
}

/// χ² gain from which two neighbouring differences are dropped: as improbable as
/// `sigma` is for one (two degrees of freedom instead of one).
pub(super) fn threshold_two(sigma: f64) -> f64 {
    // erfc by its continued fraction's asymptotic form is exact enough from 2 σ on;
    // below that the two thresholds hardly matter.
    let x = sigma / std::f64::consts::SQRT_2;
    let mut fraction = 0.0;
    for k in (1..60).rev() {
        fraction = f64::from(k) / 2.0 / (x + fraction);
    }
    let ln_erfc = -x * x - (std::f64::consts::PI.sqrt() * (x + fraction)).ln();
    -2.0 * ln_erfc
}

/// Whether a step of `recipe` follows another program to the letter: then the noise of
/// a read is what its reference says and nothing more.
pub fn theirs(recipe: &Recipe) -> bool {
    recipe.steps.iter().any(|s| match s {
        Step::Jump(j) => !j.skip && j.method == JumpMethod::TwoPoint,
        Step::RampFit(f) => !f.skip && matches!(f.algorithm, Algorithm::OlsC | Algorithm::Likely),
        _ => false,
    })
}

/// Part of a jump's charge that shows in each neighbour along x and y.
fn leak(step: &Jump, recipe: &Recipe, cal: &Calibration<'_>) -> [f64; 2] {
    let corrected = recipe.steps.iter().any(|s| s.name() == "ipc" && !s.skip());
    match step.neighbor_leak {
        _ if !step.flag_4_neighbors => [0.0; 2],
        Some(leak) => [leak; 2],
        None if corrected => [0.0; 2],
        // What nobody measured is not made up.
        None => cal.coupling().unwrap_or_default(),
    }
}

impl Plan {
    /// Reads the recipe's stage-1 steps.
    pub fn new(recipe: &Recipe, cal: &Calibration<'_>) -> Plan {
        let mut plan = Plan {
            stages: 0,
            grow: 0,
            refpix: None,
            decay: None,
            theirs: theirs(recipe),
            params: Params { threshold_one: 1e30, threshold_two: 1e30, ..Params::default() },
            chain: Chain::default(),
            spread: None,
            left_out: Vec::new(),
            warnings: Vec::new(),
        };
        let (ncoef, zero_point) = cal.polynomial();
        for step in recipe.steps.iter().filter(|s| !s.skip()) {
            match step {
                Step::Saturation(s) => {
                    plan.stages |= stage::SATURATION;
                    plan.grow = s.n_pix_grow_sat;
                }
                Step::Bias(_) if cal.has_bias() => plan.stages |= stage::BIAS,
                Step::Bias(_) => plan.left_out.push(("bias", "no bias reference".into())),
                Step::Ipc(_) if cal.ipc().is_some() => plan.chain.corrections.ipc = true,
                Step::Ipc(_) => plan.left_out.push(("ipc", "no ipc reference".into())),
                Step::Refpix(s) => plan.refpix = Some(s.clone()),
                Step::DarkDecay(s) if s.amplitude != 0.0 => plan.decay = Some(s.clone()),
                Step::DarkDecay(_) => plan.left_out.push(("dark_decay", "its amplitude is 0".into())),
                Step::Linearity(s) if ncoef > 0 => {
                    if s.read_level && cal.inverse() > 0 {
                        plan.chain.corrections.inverse = cal.inverse() as u32;
                    } else {
                        plan.stages |= stage::LINEARITY;
                    }
                    plan.params.ncoef = ncoef as u32;
                    plan.params.zero_point = zero_point;
                }
                Step::Linearity(_) => plan.left_out.push(("linearity", "no nonlin reference".into())),
                Step::DarkRamp(_) if cal.dark_ramp().is_some() => plan.chain.corrections.dark = true,
                Step::DarkRamp(_) => {
                    plan.left_out.push(("dark_ramp", "no dark reference that is a ramp of reads".into()));
                }
                Step::ChargeMigration(s) => plan.chain.corrections.charge = Some(s.signal_threshold),
                Step::Jump(s) if s.method == JumpMethod::TwoPoint => {
                    plan.chain.find_jumps(s);
                    // Its neighbours and reads after jumps are the method's own.
                    plan.spread = Some(Spread { step: s.clone(), leak: [0.0; 2], after: false });
                }
                Step::Jump(s) => {
                    plan.spread = Some(Spread {
                        leak: leak(s, recipe, cal),
                        after: s.after_jump_flag_time1 > 0.0 || s.after_jump_flag_time2 > 0.0,
                        step: s.clone(),
                    });
                    let threshold = s.rejection_threshold.unwrap_or(5.5);
                    plan.stages |= stage::JUMP;
                    plan.params.max_jumps = s.max_jumps;
                    plan.params.threshold_one = (threshold * threshold) as f32;
                    plan.params.threshold_two = threshold_two(threshold) as f32;
                }
                Step::RampFit(s) => {
                    plan.stages |= stage::FIT;
                    if plan.chain.fit_with(s) {
                        plan.stages &= !stage::JUMP;
                        plan.spread = None;
                        plan.left_out.push(("jump", "ramp_fit.algorithm = likely finds its own".into()));
                    }
                    plan.params.algorithm = match s.algorithm {
                        Algorithm::Likelihood | Algorithm::OlsC | Algorithm::Likely => {
                            ramp::algorithm::LIKELIHOOD
                        }
                        Algorithm::Ols => ramp::algorithm::OLS,
                        Algorithm::Mcds | Algorithm::Cds => ramp::algorithm::MCDS,
                    };
                    plan.params.num_coadd = if s.algorithm == Algorithm::Cds { 1 } else { s.num_coadd };
                    plan.params.counts = u32::from(s.units != RateUnits::Electrons);
                    let fixed = matches!(s.algorithm, Algorithm::Ols | Algorithm::Mcds | Algorithm::Cds);
                    if s.weight_ramps_by_scatter && !fixed {
                        plan.warnings.push(
                            "ramp_fit.weight_ramps_by_scatter: only with algorithm = ols, mcds or cds".into(),
                        );
                    }
                    if s.pedestal || s.pedestal_prior_err.is_some() {
                        plan.ask_pedestal(s);
                    }
                }
                _ => {}
            }
        }
        plan
    }

    /// Has the fit find pedestals, or use what is known of them.
    fn ask_pedestal(&mut self, step: &RampFit) {
        if step.algorithm != Algorithm::Likelihood {
            self.warnings.push("ramp_fit.pedestal: only algorithm = likelihood finds pedestals".into());
            return;
        }
        self.params.pedestal = 1;
        self.params.prior = step.pedestal_prior as f32;
        self.params.prior_variance = step.pedestal_prior_err.map_or(0.0, |e| (e * e) as f32);
    }

    /// Whether the recipe ends in rates (else in a ramp).
    pub fn fits(&self) -> bool {
        self.stages & stage::FIT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_for_two_match_the_chi_square_tables() {
        // isf of χ² with 2 degrees of freedom at the two-sided tail of 4.5 and 3 σ.
        assert!((threshold_two(4.5) - 23.806).abs() < 0.01);
        assert!((threshold_two(3.0) - 11.829).abs() < 0.01);
    }
}
