//! The planes of each product. All images are row-major (ny, nx): index
//! `y * nx + x`, y along the slow axis of the file.

/// A count-rate image (level 1): what ramp fitting leaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rate {
    /// Columns.
    pub nx: usize,
    /// Rows.
    pub ny: usize,
    /// Rate, e-/s (unless the step was asked for DN/s).
    pub data: Vec<f32>,
    /// 1 σ, same unit.
    pub err: Vec<f32>,
    /// Data quality.
    pub dq: Vec<u32>,
    /// Variance from photon noise.
    pub var_poisson: Vec<f32>,
    /// Variance from read noise.
    pub var_rnoise: Vec<f32>,
    /// Reduced χ² of the ramp fit.
    pub chi2: Vec<f32>,
    /// Usable reads.
    pub nreads: Vec<u16>,
    /// What each ramp's reset left, e- (or DN), (ramps, ny, nx); empty unless asked for.
    pub pedestal: Vec<f32>,
    /// Its variance.
    pub var_pedestal: Vec<f32>,
    /// Its covariance with the rate.
    pub cov_pedestal: Vec<f32>,
}

impl Rate {
    /// All planes at zero.
    pub fn zeros(ny: usize, nx: usize) -> Rate {
        let n = ny * nx;
        Rate {
            nx,
            ny,
            data: vec![0.0; n],
            err: vec![0.0; n],
            dq: vec![0; n],
            var_poisson: vec![0.0; n],
            var_rnoise: vec![0.0; n],
            chi2: vec![0.0; n],
            nreads: vec![0; n],
            ..Rate::default()
        }
    }
}

/// An image with errors (dark, flat, sky, level 2 and 3).
///
/// `err` is the whole 1 σ error. `var_common` is the part of its square that
/// frames calibrated with the same references share (the dark's, flat's and
/// sky's own noise): it does not average down when such frames are combined.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// Columns.
    pub nx: usize,
    /// Rows.
    pub ny: usize,
    /// Value.
    pub data: Vec<f32>,
    /// 1 σ.
    pub err: Vec<f32>,
    /// Data quality.
    pub dq: Vec<u32>,
    /// Variance shared with frames that used the same references; empty means none.
    pub var_common: Vec<f32>,
}

/// A spectral cube (level 2): (nw, ny, nx), index `(w * ny + y) * nx + x`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cube {
    /// Spaxels along x.
    pub nx: usize,
    /// Spaxels along y.
    pub ny: usize,
    /// Spectral channels.
    pub nw: usize,
    /// Value, e-/s a channel.
    pub data: Vec<f32>,
    /// 1 σ.
    pub err: Vec<f32>,
    /// Data quality.
    pub dq: Vec<u32>,
    /// Wavelength of each channel's centre, vacuum µm, linear.
    pub wavelength: Vec<f64>,
    /// Variance shared with cubes that used the same references; empty means none.
    pub var_common: Vec<f32>,
    /// Error of the scaled sky lines that all spaxels share and ERR does not hold, 1 σ
    /// a channel (nw); empty means none.
    pub sky_err: Vec<f32>,
}
