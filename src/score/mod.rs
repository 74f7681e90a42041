//! Metrics with their intervals, from what was embedded, found and attacked: arrays in, [`MetricEstimate`]s out.
//!
//! Every function takes the metrics that are wanted and answers those that are its own, in the order of asking. What is
//! undefined is answered too, with the reason.

mod attack;
mod embedded;
pub mod file;
mod queries;
mod set;
#[cfg(test)]
mod tests;
pub mod view;

pub use attack::{Attack, of_attack};
pub use embedded::{Embedded, Protocol, Scores};
pub use queries::{Lists, depths, map_at_r_of_each, of_lists, recall_at};
pub use set::{Clustering, Set, of_set};

use crate::metric::kind::Metric;
use crate::record::{Estimate, MetricEstimate};
use crate::stats::bootstrap::Resampling;
use crate::stats::uncertainty;

/// The mean of a value per query with its interval, or `None` for no query.
///
/// # Panics
/// If the lists differ in length.
pub fn mean(values: &[f64], labels: &[u32], range: (f64, f64), seed: u64) -> Option<Estimate> {
    let ones = vec![1.0; values.len()];
    let is_share = range == (0.0, 1.0);
    let (value, interval) = uncertainty::of_queries(values, &ones, labels, is_share, Resampling::new(seed))?;
    Some(Estimate::new(value, interval, values.len(), range))
}

/// Puts answers into the order in which their metrics were asked for.
pub fn in_order(metrics: &[Metric], mut answers: Vec<MetricEstimate>) -> Vec<MetricEstimate> {
    answers.sort_by_key(|answer| metrics.iter().position(|metric| *metric == answer.metric));
    answers
}
