//! What the formulas need of f32 and f64.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A floating-point number: f32 in engines, f64 in the tests' reference.
pub trait Real:
    Copy
    + PartialOrd
    + From<f32>
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Quiet NaN.
    const NAN: Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

impl Real for f32 {
    const NAN: Self = f32::NAN;
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    const NAN: Self = f64::NAN;
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}
