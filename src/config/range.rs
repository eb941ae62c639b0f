//! What the number of a parameter may be.

use std::fmt;

/// A range of finite numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// More than this.
    Above(f64),
    /// This or more.
    AtLeast(f64),
    /// From the first to the second, both included.
    Between(f64, f64),
}

impl Range {
    /// Whether `value` lies in it; what is not finite never does.
    pub fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Range::Above(low) => value > low,
                Range::AtLeast(low) => value >= low,
                Range::Between(low, high) => (low..=high).contains(&value),
            }
    }
}

/// A parameter that may hold a number.
pub(super) trait Number {
    /// It, where there is one.
    fn number(&self) -> Option<f64>;
}

impl Number for f64 {
    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl Number for u32 {
    fn number(&self) -> Option<f64> {
        Some(f64::from(*self))
    }
}

impl Number for Option<f64> {
    fn number(&self) -> Option<f64> {
        *self
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range::Above(low) => write!(f, "more than {low}"),
            Range::AtLeast(low) => write!(f, "{low} or more"),
            Range::Between(low, high) => write!(f, "{low} to {high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_what_is_no_number() {
        assert!(!Range::Above(0.0).holds(0.0) && Range::AtLeast(0.0).holds(0.0));
        assert!(Range::Between(1.0, 3.0).holds(3.0) && !Range::Between(1.0, 3.0).holds(3.1));
        for range in [Range::Above(0.0), Range::AtLeast(0.0), Range::Between(0.0, 1.0)] {
            assert!(!range.holds(f64::NAN) && !range.holds(f64::INFINITY));
        }
        assert_eq!(Range::AtLeast(1.0).to_string(), "1 or more");
    }
}
