//! The numbers that formulas are generic over: f32 for the engines, f64 for the
//! reference of both.

use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// f32 or f64. Plain operations only: no fused multiply-add, so that every
/// instruction set gives the same bits.
pub trait Real:
    Copy
    + PartialOrd
    + Send
    + Sync
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Quiet NaN.
    const NAN: Self;
    /// Larger than any value that occurs.
    const HUGE: Self;
    /// From a parameter.
    fn of(value: f32) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// To the power of `exponent`.
    fn powf(self, exponent: Self) -> Self;
    /// Without its sign.
    fn abs(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// To the engines' precision.
    fn to_f32(self) -> f32;
    /// To the reference's precision.
    fn to_f64(self) -> f64;
    /// The larger (neither is NaN).
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    /// The smaller (neither is NaN).
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NAN: Self = <$t>::NAN;
            const HUGE: Self = 1e30;
            #[inline(always)]
            fn of(value: f32) -> Self {
                value as $t
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                self.powf(exponent)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    };
}
real!(f32);
real!(f64);
