//! One struct a step, with its parameters and their defaults. Parameters that
//! JWST's step of the same name has keep JWST's name and meaning.

use serde::{Deserialize, Serialize};

/// Declares the step structs (each with `skip`), their defaults, and [`Step`].
macro_rules! steps {
    ($(
        $(#[$doc:meta])*
        $name:ident $keyword:literal {
            $($(#[$pdoc:meta])* $par:ident : $ty:ty = $default:expr),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $name {
                /// Leave the step out (recorded as SKIPPED).
                pub skip: bool,
                $($(#[$pdoc])* pub $par: $ty,)*
            }
            impl Default for $name {
                fn default() -> Self {
                    $name { skip: false, $($par: $default),* }
                }
            }
        )*

        /// A step with its parameters; in YAML `- ramp_fit: {algorithm: ols}`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Step {
            $($(#[$doc])* $name($name),)*
        }

        impl Step {
            /// Every step's name, in canonical order.
            pub const NAMES: &[&str] = &[$(snake(stringify!($name), $keyword).0),*];

            /// The step's name as recipes write it.
            pub fn name(&self) -> &'static str {
                Self::NAMES[self.order()]
            }

            /// Place in the canonical order.
            pub fn order(&self) -> usize {
                let mut n = 0;
                $(if matches!(self, Step::$name(_)) { return n; } n += 1;)*
                n
            }

            /// The S_* keyword that records it.
            pub fn keyword(&self) -> &'static str {
                match self { $(Step::$name(_) => snake(stringify!($name), $keyword).1),* }
            }

            /// Whether it is to be left out.
            pub fn skip(&self) -> bool {
                match self { $(Step::$name(s) => s.skip),* }
            }

            /// The step called `name` with its defaults.
            pub fn with_defaults(name: &str) -> Option<Step> {
                $(if name == snake(stringify!($name), $keyword).0 { return Some(Step::$name($name::default())); })*
                None
            }
        }
    };
}

/// Splits `"dq_init S_DQINIT"` into the step's name and its keyword.
const fn snake(_type: &'static str, both: &'static str) -> (&'static str, &'static str) {
    let bytes = both.as_bytes();
    let mut i = 0;
    while bytes[i] != b' ' {
        i += 1;
    }
    let (name, rest) = both.split_at(i);
    (name, rest.split_at(1).1)
}

/// How a ramp becomes a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Generalised least squares with the full covariance (Brandt 2024).
    Likelihood,
    /// Ordinary least squares on equal weights (Fowler/up-the-ramp line fit).
    Ols,
    /// Mean of the last `num_coadd` reads minus mean of the first, over time.
    Mcds,
    /// Last read minus first, over time.
    Cds,
}

/// Unit of rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateUnits {
    /// Electrons a second.
    #[serde(rename = "e-/s")]
    Electrons,
    /// Counts a second.
    #[serde(rename = "DN/s")]
    Counts,
}

/// How frames are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Mean, after sigma clipping where `do_sigma_clip` says so.
    Mean,
    /// Median.
    Median,
}

/// How the sky's level is matched to the science frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkyScaling {
    /// Multiply by `scale`.
    Fixed,
    /// Multiply by the ratio of the sigma-clipped medians (times `scale`).
    Median,
}

/// Frames in which cosmic rays are looked for by their sharpness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CosmicFrames {
    /// Those of which no reads were seen that could have shown a jump.
    WithoutReads,
    /// All.
    All,
}

/// How a spectrum is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// Variance-weighted profile, neighbours ignored (quick look).
    Profile,
    /// Weighted least squares of all overlapping spectra in a detector column.
    Banded,
}

steps! {
    /// Pixel mask into the data-quality plane.
    DqInit "dq_init S_DQINIT" {}
    /// Reads at and after saturation.
    Saturation "saturation S_SATUR" {
        /// Pixels around a saturated one that count as saturated from the same read on.
        n_pix_grow_sat: u32 = 1,
    }
    /// Subtraction of the bias image.
    Bias "bias S_BIAS" {}
    /// Reference-pixel correction.
    Refpix "refpix S_REFPIX" {
        /// Use the reference columns at the sides for row offsets.
        use_side_ref_pixels: bool = true,
        /// Separate offsets for odd and even columns.
        odd_even_columns: bool = true,
    }
    /// Non-linearity polynomial.
    Linearity "linearity S_NLCORR" {}
    /// Gain and read noise of the detector, from flat and dark ramps.
    PhotonTransfer "photon_transfer S_PHOTON" {
        /// Tiles across the readout channels; 0 for one a channel.
        tiles_across: u32 = 0,
        /// Tiles along the readout channels.
        tiles_along: u32 = 8,
        /// Correct the gain for inter-pixel capacitance, measured from the flats.
        ipc: bool = true,
        /// Pixels with a difference further than this (σ) from the others are left out.
        rejection_threshold: f64 = 6.0,
    }
    /// Bad pixels of the detector, from dark and flat ramps.
    BadPixels "bad_pixels S_BADPIX" {
        /// WARM above this many times the detector's typical dark rate.
        warm: f64 = 10.0,
        /// HOT above this many times.
        hot: f64 = 100.0,
        /// DO_NOT_USE above this many times.
        unusable: f64 = 1000.0,
        /// DEAD below this part of the response of the pixels around.
        dead: f64 = 0.05,
        /// LOW_QE below this part.
        low_qe: f64 = 0.5,
        /// Noisy (UNRELIABLE_SLOPE) above this many times a typical pixel's noise.
        noisy: f64 = 2.0,
        /// TELEGRAPH where differences beyond this (σ of a typical pixel) go up and down.
        telegraph: f64 = 5.0,
    }
    /// The non-linearity polynomial of the detector, from ramps of a steady lamp.
    NonlinFit "nonlin_fit S_NLFIT" {
        /// Highest power, 2 to 7.
        degree: u32 = 3,
        /// Pixels on a side of the tiles in which pixels share the polynomial's shape.
        tile: u32 = 64,
    }
    /// Jump detection.
    Jump "jump S_JUMP" {
        /// Significance (σ) at which a difference is dropped.
        rejection_threshold: f64 = 5.5,
        /// Most jumps looked for in one ramp.
        max_jumps: u32 = 10,
    }
    /// Ramp to rate.
    RampFit "ramp_fit S_RAMPFI" {
        /// The fit.
        algorithm: Algorithm = Algorithm::Likelihood,
        /// Reads averaged at each end by `mcds`.
        num_coadd: u32 = 3,
        /// Unit of the rate.
        units: RateUnits = RateUnits::Electrons,
    }
    /// Subtraction of the dark rate.
    DarkSub "dark_sub S_DARK" {}
    /// Division by the flat.
    FlatField "flat_field S_FLAT" {}
    /// Subtraction of a sky frame.
    Background "background S_BKGSUB" {
        /// How the level is matched.
        scaling: SkyScaling = SkyScaling::Median,
        /// Factor on the sky frame.
        scale: f64 = 1.0,
    }
    /// Cosmic rays in single frames, by their sharpness.
    CosmicRays "cosmic_rays S_COSMIC" {
        /// Which frames.
        frames: CosmicFrames = CosmicFrames::WithoutReads,
        /// Significance (σ) of a hit.
        rejection_threshold: f64 = 5.0,
        /// Part of that at which a pixel beside a hit goes with it.
        neighbour_fraction: f64 = 0.3,
        /// Least ratio of a hit's peak to the fine structure of what it stands on.
        contrast: f64 = 5.0,
        /// Rounds at most.
        maxiters: u32 = 4,
    }
    /// World coordinates.
    AssignWcs "assign_wcs S_WCS" {}
    /// Combination of a set of frames.
    CombineFrames "combine_frames S_COMBIN" {
        /// Mean or median.
        method: Combine = Combine::Mean,
        /// Reject outliers before averaging.
        do_sigma_clip: bool = true,
        /// Rejection below (σ).
        sigma_thresh_low: f64 = 4.0,
        /// Rejection above (σ).
        sigma_thresh_high: f64 = 4.0,
        /// Iterations at most.
        maxiters: u32 = 5,
    }
    /// Normalisation to median 1.
    Normalize "normalize S_NORMAL" {
        /// Below this fraction of the median a flat pixel is not usable.
        low: f64 = 0.2,
        /// Above this fraction of the median a flat pixel is not usable.
        high: f64 = 5.0,
    }
    /// Spectra out of detector frames.
    Extract "extract S_EXTRAC" {
        /// The method.
        method: Extraction = Extraction::Banded,
        /// Detector pixels further than this (σ) from the model are dropped once.
        rejection_threshold: f64 = 6.0,
    }
    /// Wavelengths of the spectra.
    Wavecal "wavecal S_WAVCAL" {
        /// Legendre degree of λ(x).
        degree: u32 = 3,
    }
    /// Spectra to a cube on a common linear wavelength grid.
    CubeBuild "cube_build S_CUBE" {
        /// Channel width, µm; 0 takes the spectra's own median sampling.
        wavelength_step: f64 = 0.0,
    }
    /// Subtraction of a sky cube.
    SkySub "sky_sub S_SKYSUB" {
        /// Factor on the sky cube.
        scale: f64 = 1.0,
    }
}
