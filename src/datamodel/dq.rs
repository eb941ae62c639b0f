//! Data-quality flags: JWST's 32 bits (jwst `dqflags`, as liger_iris_pipeline
//! copies them), with the IFS meanings of the IRIS documents for bits 26–29.

use crate::fits::Header;

macro_rules! flags {
    ($($(#[$doc:meta])* $bit:literal $name:ident),* $(,)?) => {
        $($(#[$doc])* pub const $name: u32 = 1 << $bit;)*
        /// Every flag with its name, in order of bits.
        pub const NAMES: &[(u32, &str)] = &[$(($bit, stringify!($name))),*];
    };
}

flags! {
    /// Not to be used for science.
    0 DO_NOT_USE,
    /// Saturated during the exposure.
    1 SATURATED,
    /// A jump (cosmic ray) was found.
    2 JUMP_DET,
    /// Data lost in transmission.
    3 DROPOUT,
    /// Flagged by outlier rejection.
    4 OUTLIER,
    /// High persistence.
    5 PERSISTENCE,
    /// Below the A/D floor.
    6 AD_FLOOR,
    /// Charge migration.
    7 CHARGELOSS,
    /// The error is not to be trusted.
    8 UNRELIABLE_ERROR,
    /// Not a science pixel.
    9 NON_SCIENCE,
    /// Dead pixel.
    10 DEAD,
    /// Hot pixel.
    11 HOT,
    /// Warm pixel.
    12 WARM,
    /// Low quantum efficiency.
    13 LOW_QE,
    /// RC pixel.
    14 RC,
    /// Telegraph (popcorn) pixel.
    15 TELEGRAPH,
    /// Strongly non-linear.
    16 NONLINEAR,
    /// A reference pixel that cannot be used.
    17 BAD_REF_PIXEL,
    /// The flat could not be measured.
    18 NO_FLAT_FIELD,
    /// The gain could not be measured.
    19 NO_GAIN_VALUE,
    /// No linearity correction is known.
    20 NO_LIN_CORR,
    /// No saturation check is known.
    21 NO_SAT_CHECK,
    /// The bias is uncertain.
    22 UNRELIABLE_BIAS,
    /// The dark is uncertain.
    23 UNRELIABLE_DARK,
    /// The slope is uncertain.
    24 UNRELIABLE_SLOPE,
    /// The flat is uncertain.
    25 UNRELIABLE_FLAT,
    /// The wavelength solution is uncertain.
    26 UNRELIABLE_WS,
    /// Low instrument transmission.
    27 LOW_INST_TRANS,
    /// Strong telluric absorption (never means DO_NOT_USE).
    28 TELLURIC,
    /// A bright OH line (never means DO_NOT_USE).
    29 OH_LINE,
    /// Bad for another reason.
    30 OTHER_BAD_PIXEL,
    /// A reference pixel.
    31 REFERENCE_PIXEL,
}

/// Writes the meaning of each bit into a DQ HDU's header (`DQB00` …).
pub fn describe(header: &mut Header) {
    for (bit, name) in NAMES {
        header.set(&format!("DQB{bit:02}"), *name, "");
    }
}
