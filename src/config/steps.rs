//! One struct a step, with its parameters and their defaults. Parameters that
//! JWST's step of the same name has keep JWST's name and meaning.

use serde::{Deserialize, Serialize};

use super::range::Number;
use super::range::Range::{self, Above, AtLeast, Between};

/// A parameter in words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What a number may be; `None` where the type says it all.
    pub range: Option<Range>,
}

/// Declares the step structs (each with `skip`), their defaults with the ranges of
/// numbers, and [`Step`].
macro_rules! steps {
    ($(
        $(#[$doc:meta])*
        $name:ident $keyword:literal {
            $($(#[doc = $pdoc:literal])* $par:ident : $ty:ty = $default:expr $(; $range:expr)?),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $name {
                /// Leave the step out (recorded as SKIPPED).
                pub skip: bool,
                $($(#[doc = $pdoc])* pub $par: $ty,)*
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

            /// The first number that lies outside its range, as a sentence.
            pub fn check(&self) -> Result<(), String> {
                match self {
                    $(Step::$name(s) => {
                        let _ = s;
                        $($(if let Some(value) = s.$par.number() && !$range.holds(value) {
                            let (name, range) = (stringify!($par), $range);
                            return Err(format!("{name} = {value}: it must be {range}"));
                        })?)*
                    })*
                }
                Ok(())
            }

            /// The parameters beside `skip`, in order.
            pub fn parameters(&self) -> &'static [Parameter] {
                match self {
                    $(Step::$name(_) => &[$(Parameter {
                        name: stringify!($par),
                        about: concat!($($pdoc),*),
                        range: optional!($($range)?),
                    }),*],)*
                }
            }

            /// The step called `name` with its defaults.
            pub fn with_defaults(name: &str) -> Option<Step> {
                $(if name == snake(stringify!($name), $keyword).0 { return Some(Step::$name($name::default())); })*
                None
            }
        }
    };
}

/// `Some` of what there is.
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
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
    /// Weighted least squares on the segments between jumps, as stcal's OLS_C.
    OlsC,
    /// Likelihood with its own jump detection, ramp by ramp, as stcal's LIKELY.
    Likely,
}

/// How the drift that the reference pixels show is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefpixAlgorithm {
    /// Patterns over channels and lines, shrunk to what stands out of their noise.
    Optimal,
    /// Clipped means of the ends and running median of the sides, as JWST has it.
    Median,
    /// Side pixels convolved with the kernels of a reference, channel by channel.
    Sirs,
}

/// How jumps are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JumpMethod {
    /// Gain in χ² of the exact likelihood (Brandt 2024).
    Likelihood,
    /// Two-point differences about their median, as stcal does it.
    TwoPoint,
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
    /// Counts over the ramp: the rate times the seconds between the first read and the
    /// last (`mcds`: between the means of the first and the last), summed over ramps.
    #[serde(rename = "DN")]
    OverRamp,
}

/// The middle of values: of frames that are combined, of a flat.
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

/// The frame of a cube's wavelengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpectralFrame {
    /// As the telescope saw them (SPECSYS = TOPOCENT).
    Topocentric,
    /// About the solar system's barycentre (BARYCENT).
    Barycentric,
    /// About the Sun (HELIOCEN).
    Heliocentric,
}

/// How a spectrum is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// `factored` where the LEN-SPX calibration has a two-dimensional point-spread function
    /// that describes its frames better than `banded` does, else `banded`.
    Best,
    /// Variance-weighted profile, neighbours ignored (quick look).
    Profile,
    /// Weighted least squares of all overlapping spectra in a detector column.
    Banded,
    /// Weighted least squares of the whole detector on the two-dimensional point-spread
    /// function.
    Factored,
}

impl Extraction {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Extraction::Best => "best",
            Extraction::Profile => "profile",
            Extraction::Banded => "banded",
            Extraction::Factored => "factored",
        }
    }
}

steps! {
    /// Pixel mask into the data-quality plane; reads and guide windows left out.
    DqInit "dq_init S_DQINIT" {
        /// Reads of every ramp to leave out, from 0; −1 is the last: [0, -1].
        drop_reads: Vec<i64> = Vec::new(),
        /// Reads to keep, the others are left out; empty for all.
        keep_reads: Vec<i64> = Vec::new(),
        /// What of each read the limits are about: a column of a table with a row a
        /// read, as SEEING.
        read_column: String = String::new(),
        /// Reads with less of it are left out.
        read_min: Option<f64> = None,
        /// Reads with more of it are left out.
        read_max: Option<f64> = None,
        /// Pixels of on-detector guide windows (SARRMODE = ODGW) are DO_NOT_USE.
        mask_guide_windows: bool = true,
    }
    /// Flags the pixels of a full frame that were read as subarrays (SUBARR_MAP).
    ParseSubarrayMap "parse_subarray_map S_PARSSA" {}
    /// Reads at and after saturation.
    Saturation "saturation S_SATUR" {
        /// Pixels around a saturated one that count as saturated from the same read on.
        n_pix_grow_sat: u32 = 1; Between(0.0, 100.0),
    }
    /// Inter-pixel capacitance.
    Ipc "ipc S_IPC" {}
    /// Subtraction of the bias image.
    Bias "bias S_BIAS" {}
    /// Reference-pixel correction.
    Refpix "refpix S_REFPIX" {
        /// The method: optimal, median (JWST's) or sirs.
        refpix_algorithm: RefpixAlgorithm = RefpixAlgorithm::Optimal,
        /// Use the reference rows at the ends of the channels for their offsets.
        use_top_bottom_ref_pixels: bool = true,
        /// Use the reference columns at the sides for row offsets.
        use_side_ref_pixels: bool = true,
        /// Separate offsets for odd and even columns.
        odd_even_columns: bool = true,
        /// `median`: rows of the running median of the sides; an even number counts as
        /// one more.
        side_smoothing_length: u32 = 11; Between(1.0, 100_001.0),
        /// `median`: factor on the sides' offsets.
        side_gain: f64 = 1.0; Between(0.0, 10.0),
        /// `sirs`: side pixels further than this (σ) from the others are left out.
        sigreject: f64 = 4.0; Above(0.0),
    }
    /// The signal that a reset leaves and that dies away.
    DarkDecay "dark_decay S_DKDECA" {
        /// What it is at the reset, DN; 0: nothing is done.
        amplitude: f64 = 0.0; Between(-1e6, 1e6),
        /// Seconds in which it falls to 1/e.
        time_constant: f64 = 20.0; Above(0.0),
    }
    /// Non-linearity polynomial.
    Linearity "linearity S_NLCORR" {
        /// Correct averaged reads frame by frame, where the reference has the inverse
        /// polynomial.
        read_level: bool = true,
    }
    /// Subtraction of a dark ramp, read by read.
    DarkRamp "dark_ramp S_DARKRP" {}
    /// Reads in which charge has migrated to the neighbours.
    ChargeMigration "charge_migration S_CHGMIG" {
        /// Reads from the first above this level on are not used, DN.
        signal_threshold: f64 = 25000.0; Above(0.0),
    }
    /// Gain and read noise of the detector, from flat and dark ramps.
    PhotonTransfer "photon_transfer S_PHOTON" {
        /// Tiles across the readout channels; 0 for one a channel.
        tiles_across: u32 = 0; AtLeast(0.0),
        /// Tiles along the readout channels.
        tiles_along: u32 = 8; AtLeast(1.0),
        /// Correct the gain for inter-pixel capacitance, measured from the flats.
        ipc: bool = true,
        /// Pixels with a difference further than this (σ) from the others are left out.
        rejection_threshold: f64 = 5.0; Above(0.0),
    }
    /// Bad pixels of the detector, from dark and flat ramps.
    BadPixels "bad_pixels S_BADPIX" {
        /// WARM above this many times the detector's typical dark rate.
        warm: f64 = 10.0; Above(0.0),
        /// HOT above this many times.
        hot: f64 = 100.0; Above(0.0),
        /// DO_NOT_USE above this many times.
        unusable: f64 = 1000.0; Above(0.0),
        /// DEAD below this part of the response of the pixels around.
        dead: f64 = 0.05; AtLeast(0.0),
        /// LOW_QE below this part.
        low_qe: f64 = 0.5; AtLeast(0.0),
        /// Noisy (UNRELIABLE_SLOPE) above this many times a typical pixel's noise.
        noisy: f64 = 2.0; Above(0.0),
        /// TELEGRAPH where differences beyond this (σ of a typical pixel) go up and down.
        telegraph: f64 = 5.0; Above(0.0),
    }
    /// The non-linearity polynomial of the detector, from ramps of a steady lamp.
    NonlinFit "nonlin_fit S_NLFIT" {
        /// Highest power, 2 to 7.
        degree: u32 = 3; Between(2.0, 10.0),
        /// Pixels on a side of the tiles in which pixels share the polynomial's shape.
        tile: u32 = 64; AtLeast(1.0),
    }
    /// Pixels that may glow after saturation in earlier exposures.
    Persistence "persistence S_PERSIS" {
        /// Seconds from the end of an earlier exposure to the start of this one, at most.
        persistence_time: f64 = 1000.0; AtLeast(0.0),
        /// Make them DO_NOT_USE, too.
        persistence_dnu: bool = false,
    }
    /// Jump detection.
    Jump "jump S_JUMP" {
        /// The method: likelihood or two_point.
        method: JumpMethod = JumpMethod::Likelihood,
        /// Significance (σ) at which a difference is dropped; null: 5.5, or 4 with
        /// `two_point`.
        rejection_threshold: Option<f64> = None; Above(0.0),
        /// Most jumps looked for in one ramp (`likelihood`).
        max_jumps: u32 = 10; Between(0.0, 1000.0),
        /// `two_point`: threshold (σ) with three usable differences.
        four_group_rejection_threshold: f64 = 5.0; Above(0.0),
        /// `two_point`: threshold (σ) with two usable differences.
        three_group_rejection_threshold: f64 = 6.0; Above(0.0),
        /// Flag the four neighbours of a jump too: with `two_point` those of jumps between
        /// the two significances below, with `likelihood` where its leak matters.
        flag_4_neighbors: bool = true,
        /// `likelihood`: part of a jump's charge that shows in each neighbour; null: as the
        /// gain reference measured it (IPCX, IPCY), none where it says nothing or after `ipc`.
        neighbor_leak: Option<f64> = None; Between(0.0, 0.25),
        /// `two_point`: jumps of more σ than this leave their neighbours alone.
        max_jump_to_flag_neighbors: f64 = 1000.0; AtLeast(0.0),
        /// `two_point`: jumps of fewer σ than this leave their neighbours alone.
        min_jump_to_flag_neighbors: f64 = 10.0; AtLeast(0.0),
        /// Jumps from so many DN on flag the reads of the time after them.
        after_jump_flag_dn1: f64 = 0.0; AtLeast(0.0),
        /// That time, s.
        after_jump_flag_time1: f64 = 0.0; AtLeast(0.0),
        /// A second level, DN.
        after_jump_flag_dn2: f64 = 0.0; AtLeast(0.0),
        /// Its time, s.
        after_jump_flag_time2: f64 = 0.0; AtLeast(0.0),
        /// Flag the surroundings of snowballs and grow saturated cores.
        expand_large_events: bool = false,
        /// Snowballs: pixels of a jump, holes filled, from which on it is looked at.
        min_jump_area: f64 = 5.0; AtLeast(0.0),
        /// Snowballs: pixels that saturate at once, from which on they are a core.
        min_sat_area: f64 = 1.0; AtLeast(0.0),
        /// Snowballs: factor on the width of a jump.
        expand_factor: f64 = 2.0; AtLeast(1.0),
        /// Snowballs: only jumps around a core, unless near the edge.
        sat_required_snowball: bool = true,
        /// Snowballs: least width of a core that is grown, pixels.
        min_sat_radius_extend: f64 = 2.5; AtLeast(0.0),
        /// Snowballs: pixels that a core's width grows.
        sat_expand: u32 = 2; Between(0.0, 1000.0),
        /// Snowballs: within so many pixels of the edge no core is asked for.
        edge_size: u32 = 25; AtLeast(0.0),
        /// Snowballs: most pixels that a width grows to.
        max_extended_radius: u32 = 200; Between(1.0, 10000.0),
        /// Snowballs: flag cores in the next ramp, too.
        mask_snowball_core_next_int: bool = true,
        /// Snowballs: for so many seconds.
        snowball_time_masked_next_int: f64 = 4000.0; AtLeast(0.0),
        /// Write the list of jumps, jumps/..._jumps.fits beside the rate.
        save_jumps: bool = true,
        /// `two_point`: fewer usable reads than this are not searched.
        minimum_groups: u32 = 3; AtLeast(0.0),
        /// `two_point`: ramps (or differences) from which jumps are clipped about
        /// their median.
        minimum_sigclip_groups: u32 = 100; AtLeast(0.0),
        /// `two_point`: clip over ramps at each difference, not over all differences.
        only_use_ints: bool = true,
        /// `two_point`: differences from which one pass finds all jumps.
        min_diffs_single_pass: u32 = 10; AtLeast(0.0),
    }
    /// Ramp to rate.
    RampFit "ramp_fit S_RAMPFI" {
        /// The fit: likelihood, ols, mcds, cds, ols_c or likely.
        algorithm: Algorithm = Algorithm::Likelihood,
        /// Reads averaged at each end by `mcds`.
        num_coadd: u32 = 3; AtLeast(1.0),
        /// Unit of the rate: e-/s, DN/s, or DN (counts over the ramp, as iris_readout gives them).
        units: RateUnits = RateUnits::Electrons,
        /// `ols`, `mcds`, `cds`: weight several ramps by the scatter of their reads, as
        /// liger_iris_pipeline does: biased, for comparison.
        weight_ramps_by_scatter: bool = false,
        /// `ols_c`: give up ramps with one good read.
        suppress_one_group: bool = true,
        /// `ols_c` (without suppress_one_group), `likely`: take ZEROFRAME, where there is one.
        use_zeroframe: bool = true,
        /// `likelihood`: write each ramp's pedestal with its variance and its covariance
        /// with the rate.
        pedestal: bool = false,
        /// What the pedestals are known to be, DN, where `pedestal_prior_err` says how well.
        pedestal_prior: f64 = 0.0; Between(-1e9, 1e9),
        /// `likelihood`: 1 σ of that, DN: one more datum for the rate; null: nothing is known.
        pedestal_prior_err: Option<f64> = None; Above(0.0),
        /// `likely`: significance (σ) of its own jumps; null: 4.5 (gains in χ² of
        /// 20.25 for one difference, 23.8 for two).
        rejection_threshold: Option<f64> = None; Above(0.0),
    }
    /// Subtraction of the dark rate.
    DarkSub "dark_sub S_DARK" {}
    /// Division by the flat.
    FlatField "flat_field S_FLAT" {}
    /// Subtraction of a sky frame.
    Background "background S_BKGSUB" {
        /// How the level is matched: fixed or median.
        scaling: SkyScaling = SkyScaling::Median,
        /// Factor on the sky frame.
        scale: f64 = 1.0; AtLeast(0.0),
    }
    /// Cosmic rays in single frames, by their sharpness.
    CosmicRays "cosmic_rays S_COSMIC" {
        /// Which frames.
        frames: CosmicFrames = CosmicFrames::WithoutReads,
        /// Significance (σ) of a hit.
        rejection_threshold: f64 = 5.0; Above(0.0),
        /// Part of that at which a pixel beside a hit goes with it.
        neighbour_fraction: f64 = 0.3; Between(0.0, 1.0),
        /// Least ratio of a hit's peak to the fine structure of what it stands on.
        contrast: f64 = 5.0; AtLeast(0.0),
        /// Rounds at most.
        maxiters: u32 = 4; Between(1.0, 1000.0),
    }
    /// World coordinates.
    AssignWcs "assign_wcs S_WCS" {
        /// Of cubes: the frame of the wavelengths, topocentric, barycentric or heliocentric.
        spectral_frame: SpectralFrame = SpectralFrame::Topocentric,
    }
    /// Subarrays put back into the full frame that they were taken with.
    MergeSubarrays "merge_subarrays S_MERGSA" {}
    /// Combination of a set of frames.
    CombineFrames "combine_frames S_COMBIN" {
        /// How: mean or median.
        method: Combine = Combine::Mean,
        /// Reject outliers before averaging.
        do_sigma_clip: bool = true,
        /// Rejection below (σ).
        sigma_thresh_low: f64 = 4.0; Above(0.0),
        /// Rejection above (σ).
        sigma_thresh_high: f64 = 4.0; Above(0.0),
        /// Iterations at most.
        maxiters: u32 = 5; Between(1.0, 1000.0),
    }
    /// Normalisation to median (or mean) 1.
    Normalize "normalize S_NORMAL" {
        /// What becomes 1: median or mean.
        method: Combine = Combine::Median,
        /// Below this fraction of the median a flat pixel is not usable.
        low: f64 = 0.2; Between(0.0, 1.0),
        /// Above this fraction of the median a flat pixel is not usable.
        high: f64 = 5.0; AtLeast(1.0),
    }
    /// Spectra out of detector frames.
    Extract "extract S_EXTRAC" {
        /// The method: best (factored where LEN-SPX allows it), factored, banded or profile.
        method: Extraction = Extraction::Best,
        /// Detector pixels further than this (σ) from the model are dropped once.
        rejection_threshold: f64 = 6.0; Above(0.0),
        /// Of `factored`: the frame's own shift, width and skewness are fitted first.
        flexure: bool = true,
    }
    /// Wavelengths of the spectra.
    Wavecal "wavecal S_WAVCAL" {
        /// Legendre degree of λ(x); in the recipe `wavecal` of its change from the LEN-SPX
        /// calibration's.
        degree: u32 = 3; Between(1.0, 10.0),
    }
    /// Spectra to a cube on a common linear wavelength grid.
    CubeBuild "cube_build S_CUBE" {
        /// Channel width, µm; 0 takes the spectra's own median sampling.
        wavelength_step: f64 = 0.0; AtLeast(0.0),
        /// Measure the zero point of the wavelengths from the sky's OH lines.
        oh_check: bool = true,
        /// Shift the wavelengths by what the OH lines show.
        wavelength_shift: bool = false,
        /// Move the channels by the instrumental dispersion, where there is a reference.
        dispersion: bool = true,
    }
    /// Subtraction of a sky cube.
    SkySub "sky_sub S_SKYSUB" {
        /// Factor on the sky cube.
        scale: f64 = 1.0; AtLeast(0.0),
        /// OH lines by vibrational family, with a shift, to the cube's own empty spaxels.
        oh_scaling: bool = false,
    }
    /// Place of a white point source against wavelength.
    Dispersion "dispersion S_IDP" {
        /// Legendre degree of the offsets in wavelength.
        degree: u32 = 3; Between(1.0, 10.0),
    }
}

impl DqInit {
    /// Whether reads are kept by a column of theirs; a sentence where only half of that
    /// is said.
    pub fn limited(&self) -> Result<bool, String> {
        let limits = self.read_min.is_some() || self.read_max.is_some();
        if limits == self.read_column.is_empty() {
            return Err(
                "dq_init: read_column (what) and a limit on it (read_min, read_max) go together: give both \
                        or neither"
                    .into(),
            );
        }
        Ok(limits)
    }
}
