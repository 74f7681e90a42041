//! Uncertainty: intervals and paired tests over plain arrays.

pub mod bootstrap;
pub mod holm;
pub mod jackknife;
pub mod mcnemar;
pub mod normal;
pub mod seeds;
pub mod signs;
pub mod uncertainty;
pub mod wilson;

/// A value with the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Point estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
