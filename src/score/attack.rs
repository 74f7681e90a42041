//! Metrics of an attack: clean and attacked queries side by side.

use super::mean;
use crate::metric::kind::{Metric, Scope};
use crate::metric::robustness::{drop, hit, percentile_rank};
use crate::record::MetricEstimate;
use crate::stats::bootstrap::Resampling;
use crate::stats::uncertainty;

/// The same queries clean and attacked, answered by the same model. All lists are `[n]`.
#[derive(Debug, Clone, Copy)]
pub struct Attack<'a> {
    /// Class of each query.
    pub labels: &'a [u32],
    /// Rank of the first same-class item of the clean query, 0 if there is none.
    pub clean_first_hits: &'a [u32],
    /// The same of the attacked query.
    pub first_hits: &'a [u32],
    /// Rank of the nearest item with a target's identity, 0 if there is no target; or empty.
    pub target_ranks: &'a [u32],
    /// Gallery items that each query can find, itself not among them.
    pub candidates: &'a [usize],
}

/// The metrics of an attack among `metrics`; success and shift have columns of their own.
///
/// # Panics
/// If the lists differ in length.
pub fn of_attack(metrics: &[Metric], attack: &Attack<'_>, seed: u64) -> Vec<MetricEstimate> {
    let counted: Vec<usize> = (0..attack.labels.len()).filter(|&q| attack.first_hits[q] > 0).collect();
    let labels: Vec<u32> = counted.iter().map(|&q| attack.labels[q]).collect();
    let column = |value: &dyn Fn(usize) -> f64| counted.iter().map(|&q| value(q)).collect::<Vec<f64>>();
    let right = |first_hit: u32| f64::from(u8::from(hit(first_hit, 1)));
    let with = |metric: Metric, values: &[f64], labels: &[u32], why: &str| match mean(
        values,
        labels,
        metric.about().range,
        seed,
    ) {
        Some(estimate) => MetricEstimate { metric, estimate: Some(estimate), note: String::new() },
        None => MetricEstimate::undefined(metric, why),
    };
    let answer = |metric: Metric| match metric {
        Metric::RecallDrop => {
            let drops = column(&|q| drop(attack.clean_first_hits[q], attack.first_hits[q], 1));
            Some(with(metric, &drops, &labels, "no query has another image of its class in the gallery"))
        }
        Metric::RetainedShare => {
            let attacked = column(&|q| right(attack.first_hits[q]));
            let clean = column(&|q| right(attack.clean_first_hits[q]));
            Some(match uncertainty::of_queries(&attacked, &clean, &labels, false, Resampling::new(seed)) {
                Some((value, interval)) => MetricEstimate::new(metric, value, interval, counted.len()),
                None => MetricEstimate::undefined(metric, "no query is right on clean images"),
            })
        }
        Metric::TargetRank if attack.target_ranks.iter().any(|rank| *rank > 0) => {
            let ranks = attack.target_ranks.iter().zip(attack.candidates).zip(attack.labels);
            let shares = ranks.filter_map(|((rank, all), label)| Some((percentile_rank(*rank, *all)?, *label)));
            let (shares, labels): (Vec<f64>, Vec<u32>) = shares.unzip();
            Some(with(metric, &shares, &labels, "the target is the only image that can be found"))
        }
        _ => None,
    };
    metrics.iter().copied().filter(|metric| metric.scope() == Scope::Attack).filter_map(answer).collect()
}
