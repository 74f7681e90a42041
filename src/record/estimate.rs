//! Numbers with their uncertainty.

use serde::{Deserialize, Serialize};

use crate::metric::kind::Metric;
use crate::stats::Interval;
use crate::stats::uncertainty::Basis;

/// A value with a confidence interval. `NaN` never occurs: what could not be computed is `None` in the row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Estimate {
    /// Point estimate, a share in `[0, 1]` for recall.
    pub value: f64,
    /// Lower end of the 95 % interval; the value itself if there is no interval.
    pub low: f64,
    /// Upper end of the 95 % interval; the value itself if there is no interval.
    pub high: f64,
    /// Queries or images that the value is of.
    pub n: u32,
    /// Where the interval comes from; `None`: there is none.
    pub basis: Option<Basis>,
}

impl Estimate {
    /// A value of `n` queries or images, with the ends of its interval moved into the metric's range.
    pub fn new(value: f64, interval: Option<(Interval, Basis)>, n: usize, range: (f64, f64)) -> Self {
        let (low, high) = interval.map_or((value, value), |(i, _)| (i.low.max(range.0), i.high.min(range.1)));
        Self { value, low, high, n: n as u32, basis: interval.map(|(_, basis)| basis) }
    }
}

/// One recall@k.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecallAt {
    /// Neighbours looked at.
    pub k: u32,
    /// Share of queries with a same-class image among them.
    pub estimate: Estimate,
}

/// One metric of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricEstimate {
    /// Which.
    pub metric: Metric,
    /// `None` if it is undefined here; then the note says why.
    pub estimate: Option<Estimate>,
    /// Why it is undefined, or what to know about it; empty if there is nothing to say.
    pub note: String,
}

impl MetricEstimate {
    /// A metric with a value. Not finite: undefined.
    pub fn new(metric: Metric, value: f64, interval: Option<(Interval, Basis)>, n: usize) -> Self {
        if !value.is_finite() {
            return Self::undefined(metric, "not a finite number");
        }
        let estimate = Some(Estimate::new(value, interval, n, metric.about().range));
        Self { metric, estimate, note: String::new() }
    }

    /// A metric that has no value here.
    pub fn undefined(metric: Metric, why: impl Into<String>) -> Self {
        Self { metric, estimate: None, note: why.into() }
    }
}
